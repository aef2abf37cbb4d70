"""Crop -> raw alpha: a segmenter is a function of `SEGMENTERS`, its keyword-only parameters its settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np

from configs.errors import UserError, did_you_mean
from preprocess import grabcut as cuts
from preprocess.forms import REMBG, Form, Rule, finish, prepare
from preprocess.networks import Network, cores, open_network, session_options, sha256, side_by_side, start

if TYPE_CHECKING:
    from preprocess.detect import Face


@dataclass(frozen=True)
class Segmenter:
    """A way to tell figure from ground.

    Attributes:
        cut: crops u8 [n h w 3] and each one's face in crop px, or None -> raw alpha u8 [n h w].
            A crop's alpha depends on nothing but the crop, its face, and `identity`.
        identity: all that determines the alpha: name, settings, the network's sha256.
        made_with: what it ran on: providers, versions.
    """

    cut: Callable[[np.ndarray, Sequence[Face | None]], np.ndarray]
    identity: dict[str, Any]
    made_with: dict[str, Any]


NO_FIGURE = {
    "sam": "it needs points or boxes to say what to cut",
    "u2net_cloth_seg": "it cuts clothes, not figures",
}
"""Models of rembg's that can't serve, and why."""


def rembg(device: str, *, model: str = "u2net_human_seg", path: str = "") -> Segmenter:
    """One of rembg's models; rembg names and downloads it, here it is run in batches.

    Args:
        device: "cpu", "cuda" or "auto".
        model: a name of rembg's.
        path: the network's file, for u2net_custom, dis_custom and ben_custom.
    """
    if model.endswith("_custom") and model in REMBG:
        if not path:
            raise UserError(
                f"segmenter rembg: {model} runs a file of yours; give it with --set segment.path=FILE"
            )
        file = Path(path).expanduser()
    else:
        if path:
            raise UserError(
                f"segmenter rembg: {model} comes from rembg; a file of yours (segment.path) goes with "
                "model u2net_custom, dis_custom or ben_custom, or with --segmenter onnx"
            )
        file = _fetch(model)
    if model not in REMBG:
        return _as_rembg_runs_it(device, model, file)
    form, side = REMBG[model]
    network = open_network(file, device, size=(side, side))
    return Segmenter(
        cut=lambda crops, _faces: _cut(network, form, crops),
        identity={"name": "rembg", "model": model, "sha256": network.sha256},
        made_with=_made_with(network) | {"rembg": version("rembg")},
    )


def onnx(
    device: str,
    *,
    path: str = "",
    size: int | tuple[int, int] | None = None,
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0),
    std: tuple[float, float, float] = (1.0, 1.0, 1.0),
    scale: float = 255.0,
    output: int | str = 0,
    rule: Rule = "probability",
    channel: int = 0,
    order: Literal["rgb", "bgr"] = "rgb",
) -> Segmenter:
    """Any segmentation network in an ONNX file.

    Args:
        device: "cpu", "cuda" or "auto".
        path: the file.
        size: the input's side, or (height, width), px; by default the graph's own.
        mean, std: a channel each, of value / scale, in the channels' order.
        scale: what the values 0..255 are divided by first.
        output: the output to read, by name or by place.
        rule: how its numbers become the figure's probability: `probability` (they are), `logits`
            (sigmoid), `softmax` (over the channels), `minmax` (stretched, as rembg reads u2net),
            `logits_minmax` (sigmoid, then stretched).
        channel: the output's channel that is the figure; for `softmax` its class.
        order: of the input's channels.
    """
    if not path:
        raise UserError("segmenter onnx: no network given; name its file with --set segment.path=FILE")
    if scale <= 0 or min(std) <= 0:
        raise UserError(f"segmenter onnx: scale {scale} and std {list(std)} must be above 0")
    sides = (size, size) if isinstance(size, int) else size
    form = Form(mean=mean, std=std, scale=scale, rule=rule, channel=channel, bgr=order == "bgr")
    network = open_network(Path(path).expanduser(), device, size=sides, output=output)
    _check_channels(network, form, path)
    return Segmenter(
        cut=lambda crops, _faces: _cut(network, form, crops),
        identity={
            "name": "onnx",
            "sha256": network.sha256,
            "size": list(network.size),
            "mean": list(mean),
            "std": list(std),
            "scale": scale,
            "output": network.output,
            "rule": rule,
            "channel": channel,
            "order": order,
        },
        made_with=_made_with(network),
    )


def grabcut(device: str, *, grid: int = 96) -> Segmenter:  # noqa: ARG001 - one signature for all
    """GrabCut seeded by the face: needs no download and no GPU.

    Args:
        device: of no effect; it runs on the CPU.
        grid: longer side, px, of the copy that GrabCut runs on.
    """

    def cut(crops: np.ndarray, faces: Sequence[Face | None]) -> np.ndarray:
        alphas = side_by_side(
            lambda i: cuts.cut(crops[i], faces[i], grid=grid), range(len(crops)), lanes=cores()
        )
        return np.stack(alphas) if alphas else np.empty(crops.shape[:3], np.uint8)

    return Segmenter(
        cut=cut,
        identity={"name": "grabcut", "grid": grid, "version": cuts.VERSION},
        made_with={"device": "cpu", "opencv": cv2.__version__},
    )


SEGMENTERS: dict[str, Callable[..., Segmenter]] = {"rembg": rembg, "onnx": onnx, "grabcut": grabcut}


def _cut(network: Network, form: Form, crops: np.ndarray) -> np.ndarray:
    """Raw alpha u8 [n h w] of crops u8 [n h w 3]."""
    starts = range(0, len(crops), network.batch)

    def some(start: int) -> np.ndarray:
        batch = crops[start : start + network.batch]
        numbers = network(np.stack([prepare(crop, form, network.size) for crop in batch]))
        return np.stack([finish(each, form, batch.shape[1:3]) for each in numbers])

    alphas = side_by_side(some, starts, network.lanes)
    return np.concatenate(alphas) if alphas else np.empty(crops.shape[:3], np.uint8)


def _check_channels(network: Network, form: Form, path: str) -> None:
    """Run once, so that a wrong channel or a broken graph shows before the first photo."""
    try:
        channels = network(np.zeros((1, *network.size, 3), np.float32)).shape[1]
    except Exception as error:
        # onnxruntime's errors have no base of their own.
        raise UserError(f"{path}: it can't run: {' '.join(str(error).split())[:300]}") from None
    if not 0 <= form.channel < channels:
        raise UserError(
            f"{path}: output {network.output} has {channels} channels, no segment.channel={form.channel}"
        )


def _made_with(network: Network) -> dict[str, Any]:
    import onnxruntime

    providers = network.providers
    return {
        "device": "cuda" if providers[0] == "CUDAExecutionProvider" else "cpu",
        "providers": providers,
        "onnxruntime": onnxruntime.__version__,
        "batch": network.batch,
    }


def _fetch(model: str) -> Path:
    """The file of one of rembg's models, downloaded by rembg where it isn't there yet."""
    from rembg.sessions import sessions

    if model not in sessions:
        raise UserError(f"segmenter rembg: no model {model!r}{did_you_mean(model, sessions)}")
    kind = sessions[model]
    local = getattr(kind, "is_local", lambda: True)()
    why = NO_FIGURE.get(model) or (None if local else "it sends the photos to a service")
    if why:
        raise UserError(
            f"segmenter rembg: {model} can't serve here: {why}; u2net_human_seg is made for people"
        )
    try:
        return Path(kind.download_models())
    except (OSError, ValueError, ImportError) as error:
        place = Path(kind.model_dir()) / f"{model}.onnx"
        raise UserError(
            f"segmenter rembg: {model} is not here and could not be downloaded "
            f"({' '.join(str(error).split())[:200]}). Either run `rembg d {model}` where there is a network "
            f"and put the file at {place}; or cut without it: --segmenter onnx --set segment.path=FILE, "
            "or --segmenter grabcut"
        ) from None


def _as_rembg_runs_it(device: str, model: str, file: Path) -> Segmenter:
    """A model that this version has no form for: rembg's own `predict`, crop by crop."""
    from PIL import Image
    from rembg.session_factory import new_session

    providers = start(file, device).get_providers()
    session = new_session(model, sess_opts=session_options(cores()), providers=providers)

    def cut(crops: np.ndarray, _faces: Sequence[Face | None]) -> np.ndarray:
        masks = [session.predict(Image.fromarray(crop))[0] for crop in crops]
        return np.stack([np.asarray(mask.convert("L")) for mask in masks]) if masks else crops[..., 0]

    return Segmenter(
        cut=cut,
        identity={"name": "rembg", "model": model, "sha256": sha256(file), "rembg": version("rembg")},
        made_with={"providers": providers, "rembg": version("rembg")},
    )
