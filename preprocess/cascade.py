"""The three networks of the face cascade (MTCNN).

The networks are those of Zhang et al., "Joint Face Detection and Alignment using Multi-task Cascaded
Convolutional Networks" (2016), with the weights that facenet-pytorch ships; here they are plain functions of
a few weight tensors. Images lie in memory as [n h w c], which the convolutions of CPU and GPU like best.
Every function is one code path for both.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from configs.errors import UserError

LANES = 16
"""Channels are filled up with zeros to a multiple of this: on a CPU, pooling and PReLU take up to ten times
as long on 10 or 28 channels as on 16 or 32."""

FAR = -1e4
"""What stands in feature maps where a photo of the batch has ended: less than anything a network computes."""


@dataclass(frozen=True)
class Layer:
    """A convolution or a dense layer, and the slope of the PReLU after it (None: no PReLU)."""

    weight: Tensor
    bias: Tensor
    slope: Tensor | None


Net = tuple[Layer, ...]
"""Layers in order. The last holds all heads: face (1, a logit), box correction (4), landmarks (10, O-Net)."""


@dataclass(frozen=True)
class Networks:
    """The three networks, on one device, in one dtype."""

    proposal: Net
    refine: Net
    output: Net
    device: torch.device
    dtype: torch.dtype


def load_networks(device: str = "cpu", *, half: bool = False) -> Networks:
    """The networks with facenet-pytorch's weights, read without importing that package.

    Args:
        device: "cpu", "cuda", "cuda:1", ..., or "auto": CUDA where torch has it.
        half: let the networks compute in float16; boxes stay float32.

    Raises:
        UserError: facenet-pytorch is missing, or the device is not there.
    """
    where, dtype = resolve_device(device), torch.float16 if half else torch.float32
    package = importlib.util.find_spec("facenet_pytorch")
    if package is None or package.origin is None:
        raise UserError(
            "face detection needs the package facenet-pytorch: pip install facenet-pytorch==2.5.3"
        )
    folder = Path(package.origin).parent / "data"
    states = [torch.load(folder / f"{name}.pt", weights_only=True) for name in ("pnet", "rnet", "onet")]
    proposal, refine, output = (_net(state, where, dtype) for state in states)
    return Networks(proposal, refine, output, where, dtype)


def resolve_device(device: str) -> torch.device:
    """The torch device of a `--device` value.

    Raises:
        UserError: there is no such device; it says whether torch or the driver is the cause.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        where = torch.device(device)
    except RuntimeError:
        raise UserError(f"--device {device}: no such device; known: auto, cpu, cuda") from None
    if where.type not in ("cpu", "cuda"):
        raise UserError(f"--device {device}: face detection runs on cpu and cuda; known: auto, cpu, cuda")
    if where.type == "cuda" and not torch.backends.cuda.is_built():
        raise UserError(
            f"--device {device}: the installed package torch {torch.__version__} is built without CUDA; "
            "install torch and torchvision built for CUDA, or say --device cpu"
        )
    if where.type == "cuda" and (where.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"--device {device}: torch sees {torch.cuda.device_count()} CUDA devices here; "
            "look at the NVIDIA driver (nvidia-smi), or say --device cpu"
        )
    return where


def _net(state: dict[str, Tensor], device: torch.device, dtype: torch.dtype) -> Net:
    """The layers of a state dict, in its order, filled up to `LANES`, the heads joined into one layer."""
    names = list(dict.fromkeys(key.split(".")[0] for key in state if not key.startswith("prelu")))
    heads = [name for name in names if "_" in name]
    layers: list[tuple[Tensor, Tensor, Tensor | None]] = []
    inputs = 3
    for name in names:
        if name in heads:
            continue
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        slope = state[f"prelu{name[-1]}.weight"]
        fill = -len(bias) % LANES
        if weight.ndim == 4:
            weight = F.pad(weight, (0, 0, 0, 0, 0, inputs - weight.shape[1], 0, fill))
        elif weight.shape[1] != inputs:
            side = round((weight.shape[1] / inputs) ** 0.5)  # flattened there as [w h c], here as [h w c]
            weight = weight.view(-1, side, side, inputs).transpose(1, 2).flatten(1)
        layers.append((weight, F.pad(bias, (0, fill)), F.pad(slope, (0, fill))))
        inputs = len(bias) + fill
    weights, biases = ([state[f"{head}.{part}"] for head in heads] for part in ("weight", "bias"))
    # The softmax of two scores is the sigmoid of their difference.
    weights[0], biases[0] = weights[0].diff(dim=0), biases[0].diff(dim=0)
    layers.append((torch.cat(weights), torch.cat(biases), None))
    return tuple(
        Layer(
            _placed(w, device, dtype),
            _placed(b, device, dtype),
            None if s is None else _placed(s, device, dtype),
        )
        for w, b, s in layers
    )


def _placed(tensor: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    tensor = tensor.detach().to(device, dtype)
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor.contiguous()


def _convolve(layer: Layer, x: Tensor) -> Tensor:
    x = F.conv2d(x, layer.weight, layer.bias)
    return x if layer.slope is None else F.prelu(x, layer.slope)


def propose(net: Net, images: Tensor, sizes: Tensor | None = None) -> Tensor:
    """P-Net on whole images.

    Args:
        net: `Networks.proposal`.
        images: f32 [n 3 h w], -1..1.
        sizes: i64 [n 2], each image's true height and width where they differ; what lies beyond is ignored.

    Returns:
        f32 [n rows columns 5]: a face's logit and the box correction, for each cell of 12 px, every 2 px;
        rows = ceil((h - 2) / 2) - 4, and so the columns.
    """
    x = _convolve(net[0], images.to(net[0].weight.dtype))
    if sizes is not None:
        beyond_y = torch.arange(x.shape[2], device=x.device) >= sizes[:, :1] - 2
        beyond_x = torch.arange(x.shape[3], device=x.device) >= sizes[:, 1:] - 2
        x = x.masked_fill_((beyond_y[:, :, None] | beyond_x[:, None, :])[:, None], FAR)
    x = F.max_pool2d(x, 2, 2, ceil_mode=True)
    for layer in net[1:]:
        x = _convolve(layer, x)
    return x.permute(0, 2, 3, 1).float()


def judge(net: Net, crops: Tensor, *, at_once: int) -> Tensor:
    """R-Net (24 px) or O-Net (48 px) on crops.

    Args:
        net: `Networks.refine` or `Networks.output`.
        crops: f32 [n 3 s s], -1..1.
        at_once: crops in one run, so that a batch's crops never outgrow the memory or a CPU's cache.

    Returns:
        f32 [n 5] or [n 15]: a face's logit, the box correction, and for O-Net x and y of the landmarks.
    """
    parts = [_judge(net, part.to(net[0].weight.dtype)) for part in crops.split(at_once)]
    return torch.cat(parts).float()


def _judge(net: Net, x: Tensor) -> Tensor:
    convolutions = [layer for layer in net if layer.weight.ndim == 4]
    pools = (3, 3, 2)
    for i, layer in enumerate(convolutions):
        x = _convolve(layer, x)
        if i < len(convolutions) - 1:
            x = F.max_pool2d(x, pools[i], 2, ceil_mode=True)
    x = x.permute(0, 2, 3, 1).flatten(1)
    *dense, heads = net[len(convolutions) :]
    for layer in dense:
        x = F.prelu(F.linear(x, layer.weight, layer.bias), layer.slope)  # type: ignore[arg-type]
    return F.linear(x, heads.weight, heads.bias)
