"""The parts of the face cascade (MTCNN): its three networks, area averaging, suppression of overlaps.

The networks are those of Zhang et al., "Joint Face Detection and Alignment using Multi-task Cascaded
Convolutional Networks" (2016), with the weights that facenet-pytorch ships; here they are plain functions of
a few weight tensors. Images lie in memory as [n h w c], which the convolutions of CPU and GPU like best.
Every function is one code path for both.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from itertools import pairwise
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


def integral(images: Tensor, reduce: int = 1) -> Tensor:
    """Sums of all pixels above and left of each pixel corner: any area's mean is four look-ups away.

    Args:
        images: u8 [n h w 3].
        reduce: sum blocks of this many px a side first; rows and columns that fill no block are left out.

    Returns:
        i32 [n w/reduce+1 h/reduce+1 3], columns first. The sums of a large photo wrap round, and their
        differences are right all the same as long as the area itself has less than 2**31 / 255 pixels.
    """
    if reduce > 1:
        n, h, w = (images.shape[0], images.shape[1] // reduce, images.shape[2] // reduce)
        blocks = images[:, : h * reduce, : w * reduce].reshape(n, h, reduce, w, reduce, 3)
        images = blocks.sum((2, 4), dtype=torch.int32)
    n, h, w, _ = images.shape
    across = images.cumsum(2, dtype=torch.int32).transpose(1, 2).contiguous()
    sums = torch.zeros((n, w + 1, h + 1, 3), dtype=torch.int32, device=images.device)
    torch.cumsum(across, 2, dtype=torch.int32, out=sums[:, 1:, 1:])
    return sums


@dataclass(frozen=True)
class Sums:
    """Integral images of photos of any sizes, one behind the other.

    Attributes:
        cells: i32 [cells 3].
        start: i64 [photos], where each photo's cells begin.
        height, width: i64 [photos], px.
        block: f32 [photos], true pixels in each pixel summed (the reduction squared).
    """

    cells: Tensor
    start: Tensor
    height: Tensor
    width: Tensor
    block: Tensor


def area_means(sums: Sums, photo: Tensor, window: Tensor, height: Tensor, width: Tensor) -> Tensor:
    """Windows of photos, resized by area averaging: what torch's `interpolate(mode="area")` computes.

    Args:
        sums: the photos.
        photo: i64 [n], which photo each window is of.
        window: i64 [n 4], x0 y0 x1 y1 in px, inside the photo, not empty.
        height, width: i64 [n], each result's size; the largest gives the tensor's size, and what lies
            beyond a smaller one is without meaning.

    Returns:
        f32 [n 3 h w], channels last, scaled to -1..1 as the networks expect it.
    """
    rows, columns = int(height.max()), int(width.max())
    y0, y1 = _edges(window[:, 1], window[:, 3], height, rows)
    x0, x1 = _edges(window[:, 0], window[:, 2], width, columns)
    pixels = ((y1 - y0)[:, :, None] * (x1 - x0)[:, None, :]) * sums.block[photo][:, None, None]
    step, start = sums.height[photo][:, None] + 1, sums.start[photo][:, None]
    x0, x1 = x0 * step + start, x1 * step + start

    def corner(y: Tensor, x: Tensor) -> Tensor:
        return sums.cells.index_select(0, (y[:, :, None] + x[:, None, :]).flatten())

    total = corner(y1, x1).sub_(corner(y0, x1)).sub_(corner(y1, x0)).add_(corner(y0, x0))
    mean = total.view(len(photo), rows, columns, 3) / pixels[..., None]
    return mean.sub_(127.5).mul_(1 / 128).permute(0, 3, 1, 2)


def _edges(low: Tensor, high: Tensor, out: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """First and last+1 source px of each output px: floor(i * in / out), ceil((i + 1) * in / out)."""
    i = torch.arange(most, device=low.device).minimum(out[:, None] - 1)
    span, out, low = (high - low)[:, None], out[:, None], low[:, None]
    return low + i * span // out, low + ((i + 1) * span + out - 1) // out


def ranked(groups: Tensor, scores: Tensor) -> Tensor:
    """The order by group, within a group by falling score; equals keep their order."""
    order = scores.argsort(descending=True, stable=True)
    return order[groups[order].argsort(stable=True)]


def survivors(overlap: Tensor, valid: Tensor) -> Tensor:
    """Greedy suppression, for all groups at once.

    Args:
        overlap: bool [... k k], [..., i, j]: i, if it is kept, suppresses j. True only where i ranks above j.
        valid: bool [... k], which places hold a box.

    Returns:
        bool [... k], the boxes kept: exactly those that the usual loop from best to worst keeps.
    """
    keep = valid
    while True:
        # Each round settles all boxes whose rivals are settled, so it ends at the loop's one fixed point.
        kept = valid & ~(overlap & keep[..., None]).any(-2)
        if torch.equal(kept, keep):
            return keep
        keep = kept


def suppress(boxes: Tensor, groups: Tensor, *, threshold: float, cap: int, smaller: bool = False) -> Tensor:
    """Which boxes stay when those that overlap a better one of their group too much go.

    Args:
        boxes: f32 [n 4], in the order of `ranked`.
        groups: i64 [n], ascending.
        threshold: the largest overlap that may stay.
        cap: at most this many boxes of a group are looked at, the best; the others go.
        smaller: overlap is the share of the smaller box (pixel counts, as O-Net's suppression has it),
            not of the union.

    Returns:
        bool [n].
    """
    if not len(boxes):
        return torch.zeros(0, dtype=torch.bool, device=boxes.device)
    _, place, count = groups.unique_consecutive(return_inverse=True, return_counts=True)
    rank = torch.arange(len(groups), device=boxes.device) - (count.cumsum(0) - count)[place]
    most = min(int(count.max()), cap)
    inside = rank < most
    table = boxes.new_zeros(len(count), most, 4)
    valid = torch.zeros(len(count), most, dtype=torch.bool, device=boxes.device)
    table[place[inside], rank[inside]] = boxes[inside]
    valid[place[inside], rank[inside]] = True
    better = torch.ones(most, most, dtype=torch.bool, device=boxes.device).triu(1)
    overlap = overlaps(table[:, :, None], table[:, None, :], smaller=smaller) > threshold
    kept = survivors(overlap & better, valid)
    keep = torch.zeros_like(inside)
    keep[inside] = kept[place[inside], rank[inside]]
    return keep


def overlaps(a: Tensor, b: Tensor, *, smaller: bool = False) -> Tensor:
    """Overlap of boxes xyxy, broadcast: intersection over union, or over the smaller box in counted px."""
    one = 1.0 if smaller else 0.0
    w = (torch.minimum(a[..., 2], b[..., 2]) - torch.maximum(a[..., 0], b[..., 0]) + one).clamp_(min=0)
    h = (torch.minimum(a[..., 3], b[..., 3]) - torch.maximum(a[..., 1], b[..., 1]) + one).clamp_(min=0)
    both = w.mul_(h)
    area_a, area_b = ((box[..., 2] - box[..., 0] + one) * (box[..., 3] - box[..., 1] + one) for box in (a, b))
    return both / (torch.minimum(area_a, area_b) if smaller else area_a + area_b - both)


def grid_suppress(
    boxes: Tensor, scores: Tensor, cells: Tensor, row: Tensor, block: Tensor, size: int
) -> Tensor:
    """Suppression at 0.5 among P-Net's boxes of one level: only near cells can overlap that much.

    Args:
        boxes: f32 [n 4].
        scores: f32 [n].
        cells: i64 [n], each box's place in the level maps, laid one behind the other; ascending.
        row: i64 [n], cells in a row of its map.
        block: i64 [n], which map it is of.
        size: cells in all maps.

    Returns:
        bool [n], the boxes kept.
    """
    n, reach = len(boxes), 2  # 12 px cells every 2 px: three cells apart, two boxes share less than 1/3
    steps = [
        (dy, dx) for dy in range(-reach, reach + 1) for dx in range(-reach, reach + 1) if (dy, dx) != (0, 0)
    ]
    dy, dx = torch.tensor(steps, device=boxes.device).T
    holder = torch.full((size,), n, device=boxes.device).index_copy_(
        0, cells, torch.arange(n, device=boxes.device)
    )
    near = holder[(cells[:, None] + dy * row[:, None] + dx).clamp_(0, size - 1)]
    boxes, scores, block = (
        F.pad(boxes, (0, 0, 0, 1)),
        F.pad(scores, (0, 1), value=-torch.inf),
        F.pad(block, (0, 1), value=-1),
    )
    order = torch.arange(n, device=boxes.device)[:, None]
    above = (scores[near] > scores[:n, None]) | ((scores[near] == scores[:n, None]) & (near < order))
    rival = above & (block[near] == block[:n, None]) & (overlaps(boxes[near], boxes[:n, None]) > 0.5)
    keep = torch.ones(n + 1, dtype=torch.bool, device=boxes.device)
    while True:
        kept = ~(rival & keep[near]).any(1)
        if torch.equal(kept, keep[:n]):
            return kept
        keep = F.pad(kept, (0, 1))


def spans(lengths: list[int]) -> list[tuple[int, int]]:
    """Start and end of parts of these lengths, one behind the other."""
    ends = [0]
    for length in lengths:
        ends.append(ends[-1] + length)
    return list(pairwise(ends))
