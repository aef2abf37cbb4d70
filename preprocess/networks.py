"""A segmentation network in an ONNX file: opened on the device asked for, images in, its numbers out."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from configs.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from onnxruntime import InferenceSession as Session
    from onnxruntime import SessionOptions

T = TypeVar("T")
R = TypeVar("R")

LANES_PX = 1024 * 1024
"""Pixels of input under way at once on a CPU: ten inputs of 320x320, one of 1024x1024. A network's inner
maps take some hundred times its input, so this bounds the memory."""

BATCH_PX = 4 * 1024 * 1024
"""Pixels of input in one batch on a GPU, at most."""


@dataclass(frozen=True)
class Network:
    """An open network.

    Attributes:
        session: the live onnxruntime session.
        input, output: the names fed and fetched.
        size: the input's (height, width), px.
        channels_last: it takes and gives n h w c, and not n c h w.
        dtype: of the input, float32 or float16.
        batch: images in a run: 1 on a CPU, where runs go side by side instead (see `lanes`).
        lanes: runs side by side.
        sha256: of the file, hex.
    """

    session: Session
    input: str
    output: str
    size: tuple[int, int]
    channels_last: bool
    dtype: type[np.floating[Any]]
    batch: int
    lanes: int
    sha256: str

    @property
    def providers(self) -> list[str]:
        """What onnxruntime really runs on, the preferred first."""
        return list(self.session.get_providers())

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Images f32 [n h w 3] as the network wants them (n <= batch), its numbers f32 [n c h w] out."""
        import onnxruntime

        given = images if self.channels_last else images.transpose(0, 3, 1, 2)
        # Always the same shape: a GPU picks its kernels by it, and a mask must not depend on its company.
        fill = [(0, self.batch - len(images)), *[(0, 0)] * 3]
        feed = np.ascontiguousarray(np.pad(given, fill), dtype=self.dtype)
        options = onnxruntime.RunOptions()
        options.only_execute_path_to_fetches = True
        raw = self.session.run([self.output], {self.input: feed}, options)[0][: len(images)]
        if raw.ndim == 3:
            return raw[:, None].astype(np.float32, copy=False)
        return (raw.transpose(0, 3, 1, 2) if self.channels_last else raw).astype(np.float32, copy=False)


def open_network(
    path: Path, device: str, *, size: tuple[int, int] | None = None, output: str | int = 0
) -> Network:
    """Open a network file.

    On a CPU every run has one image, and the runs go side by side with a thread each while their
    memory allows: no thread waits for another at the end of each layer, and a crop's mask can't
    depend on its company.

    Args:
        path: an ONNX file with one image input of 3 channels, n c h w or n h w c.
        device: "cpu", "cuda", "cuda:1", or "auto" (CUDA where onnxruntime has it).
        size: (height, width) of the input, px; None: the graph's own.
        output: the output's name, or its place in the graph's list.

    Raises:
        UserError: the file is absent or no network, its input is no image or of another size, the
            output is unknown, or the device is not to be had.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; give a network's .onnx file with --set segment.path=FILE")
    lanes, threads = _shared_out(size)
    session = start(path, device, threads=threads)
    given = session.get_inputs()[0]
    size, channels_last = _image_input(path, session, size)
    on_cpu = session.get_providers()[0] == "CPUExecutionProvider"
    if on_cpu and _shared_out(size) != (lanes, threads):
        lanes, threads = _shared_out(size)
        session = start(path, device, threads=threads)
    network = Network(
        session=session,
        input=given.name,
        output=_output_name(path, session, output),
        size=size,
        channels_last=channels_last,
        dtype=np.float16 if given.type == "tensor(float16)" else np.float32,
        batch=1,
        lanes=lanes if on_cpu else 1,
        sha256=sha256(path),
    )
    if on_cpu:
        return network
    return batched(network, path, device, most=max(1, BATCH_PX // (size[0] * size[1])))


def start(model: Path | bytes, device: str, *, threads: int = 1) -> Session:
    """An onnxruntime session on the device, or a UserError that says which package is missing."""
    import onnxruntime

    options = session_options(threads)
    name, _, number = device.partition(":")
    built_for_cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    wanted: list[Any] = ["CPUExecutionProvider"]
    if name in ("cuda", "auto") and built_for_cuda:
        if hasattr(onnxruntime, "preload_dlls"):  # from 1.21 on
            onnxruntime.preload_dlls()
        wanted.insert(0, ("CUDAExecutionProvider", {"device_id": int(number or 0)}))
    try:
        session = onnxruntime.InferenceSession(
            model if isinstance(model, bytes) else str(model), options, wanted
        )
    except Exception as error:
        # onnxruntime's errors have no base of their own; all that is asked of it here is to open this file.
        where = "the network" if isinstance(model, bytes) else model
        why = " ".join(str(error).split())
        raise UserError(f"{where}: onnxruntime can't open it as a network ({why[:300]})") from None
    if name == "cuda" and session.get_providers()[0] != "CUDAExecutionProvider":
        why = (
            "onnxruntime-gpu is installed but found no CUDA: its CUDA and cuDNN libraries come with "
            "pip install 'onnxruntime-gpu[cuda,cudnn]'"
            if built_for_cuda
            else "this onnxruntime is the one for CPUs: put onnxruntime-gpu in its place with pip"
        )
        raise UserError(f"--device {device}: {why}; or choose --device cpu")
    return session


def session_options(threads: int) -> SessionOptions:
    """Idle threads sleep: onnxruntime's default keeps them spinning, which starves decoders and torch."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def batched(network: Network, path: Path, device: str, *, most: int) -> Network:
    """The network taking up to `most` images a run, where its graph allows; otherwise as it is, one a run.

    Many files fix the batch dimension at 1 though nothing in them needs it. It is freed in memory
    and kept only if two images together give what each gives alone.
    """
    if most == 1:
        return network
    try:
        trial = replace(network, session=start(_free_batch(path), device), batch=2)
        images = np.random.default_rng(0).standard_normal((2, *network.size, 3), dtype=np.float32)
        alone = np.concatenate([network(images[:1]), network(images[1:])])
        together = trial(images)
    except Exception:
        # A graph with the 1 baked into a reshape fails in onnxruntime's own ways: it runs one by one.
        return network
    tolerance = 1e-3 * float(np.abs(alone).max()) + 1e-6
    if together.shape != alone.shape or not np.allclose(alone, together, rtol=0, atol=tolerance):
        return network
    return replace(trial, batch=most)


def side_by_side(work: Callable[[T], R], items: Sequence[T], lanes: int) -> list[R]:
    """`work` of every item, in their order, on so many threads."""
    if lanes == 1 or len(items) < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(lanes) as pool:
        return list(pool.map(work, items))


def cores() -> int:
    """CPU cores that this process may use; OMP_NUM_THREADS lowers it."""
    have = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(have, int(limit))) if limit.isdigit() else have


def sha256(path: Path) -> str:
    """Of a network's file, and of the files beside it that hold its weights, where it has such."""
    parts = [path, *sorted(path.parent.glob(f"{path.name}[._]data*"))]
    digests = []
    for part in parts:
        with part.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _shared_out(size: tuple[int, int] | None) -> tuple[int, int]:
    """Runs side by side on the CPU, and threads of each, for an input of this size."""
    lanes = max(1, min(cores(), LANES_PX // (size[0] * size[1]))) if size else cores()
    return lanes, max(1, cores() // lanes)


def _free_batch(path: Path) -> bytes:
    import onnx

    model = onnx.load(str(path))
    for value in (*model.graph.input, *model.graph.output):
        shape = value.type.tensor_type.shape
        if shape.dim:
            shape.dim[0].Clear()
            shape.dim[0].dim_param = "batch"
    # The shapes noted for inner maps still say 1.
    del model.graph.value_info[:]
    return bytes(model.SerializeToString())


def _image_input(path: Path, session: Session, size: tuple[int, int] | None) -> tuple[tuple[int, int], bool]:
    """The input's (height, width) and whether its channels come last."""
    inputs = session.get_inputs()
    shape = inputs[0].shape
    if len(inputs) != 1 or len(shape) != 4:
        shapes = ", ".join(f"{i.name} {i.shape}" for i in inputs)
        raise UserError(f"{path}: an image input of four dimensions, n c h w, is needed; it has {shapes}")
    if inputs[0].type not in ("tensor(float)", "tensor(float16)"):
        raise UserError(f"{path}: its input is {inputs[0].type}; float32 or float16 is needed")
    channels_last = shape[1] != 3 and shape[3] == 3
    own = shape[1:3] if channels_last else shape[2:4]
    channels = shape[3] if channels_last else shape[1]
    if isinstance(channels, int) and channels != 3:
        raise UserError(f"{path}: its input {shape} has {channels} channels; 3 are needed")
    if size is None:
        if not all(isinstance(side, int) for side in own):
            raise UserError(
                f"{path}: its input size is free ({shape}); say which it was trained at, "
                "as --set segment.size=320 or --set 'segment.size=[320, 256]' (height, width)"
            )
        size = (int(own[0]), int(own[1]))
    if any(isinstance(side, int) and side != given for side, given in zip(own, size, strict=True)):
        raise UserError(f"{path}: its input is fixed at {own[0]}x{own[1]}; leave segment.size={size} out")
    return size, channels_last


def _output_name(path: Path, session: Session, output: str | int) -> str:
    outputs = session.get_outputs()
    names = [o.name for o in outputs]
    if isinstance(output, int):
        if not -len(names) <= output < len(names):
            raise UserError(f"{path}: no output {output}; it has {len(names)}: {', '.join(names)}")
        chosen = outputs[output]
    elif output in names:
        chosen = outputs[names.index(output)]
    else:
        raise UserError(f"{path}: no output {output!r}{did_you_mean(output, names)}")
    if len(chosen.shape) not in (0, 3, 4):
        raise UserError(
            f"{path}: output {chosen.name} has shape {chosen.shape}, not n c h w or n h w; "
            f"choose another with --set segment.output=NAME ({', '.join(names)})"
        )
    return str(chosen.name)
