"""Photo -> faces: facenet-pytorch's cascade (MTCNN) on photos of any sizes at once, no loops over boxes.

At equal settings the faces are those of facenet-pytorch's `MTCNN`, conventions and all: boxes follow its
pixel counting, may reach beyond the photo, and are not rounded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from preprocess.area import Sums, area_means, integral, spans, sum_rows
from preprocess.cascade import Networks, judge, load_networks, propose
from preprocess.suppress import grid_suppress, places, ranked, suppress

__all__ = ["Face", "Networks", "detect", "load_networks"]

CELL = 12
"""Side of the window that P-Net judges, px."""

CAP = 2000
"""The most boxes of one photo that pass on to the next network, the best; it bounds the memory in a crowd."""


KEPT_PX = 48
"""The side that the smallest face keeps when a photo is reduced before anything else: O-Net's input."""


@dataclass(frozen=True)
class Budget:
    """How much runs at once: a CPU is fastest while it fits its caches, a GPU while it fills the device.

    Attributes:
        photo_px, canvas_px: of a chunk's photos, and of their largest pyramid levels.
        level_px: in one run of P-Net.
        crops: in one run of R-Net (24 px) and of O-Net (48 px).
    """

    photo_px: int
    canvas_px: int
    level_px: int
    crops: dict[int, int]


BUDGETS = {
    "cpu": Budget(photo_px=1_000_000, canvas_px=300_000, level_px=75_000, crops={24: 64, 48: 16}),
    "cuda": Budget(photo_px=64_000_000, canvas_px=8_000_000, level_px=8_000_000, crops={24: 8192, 48: 1024}),
}


@dataclass(frozen=True)
class Face:
    """A face in a photo.

    Attributes:
        box: xyxy, px of the photo; may reach beyond it.
        score: the detector's confidence, 0..1.
        landmarks: left eye, right eye, nose, left and right mouth corner as seen in the photo, x y ..., px.
    """

    box: tuple[float, float, float, float]
    score: float
    landmarks: tuple[float, ...]


@dataclass(frozen=True)
class Plan:
    """How one photo is looked at: reduced by a whole number, then at these scales, sizes h, w in px."""

    index: int
    reduce: int
    height: int
    width: int
    scales: tuple[float, ...]
    sizes: tuple[tuple[int, int], ...]


@torch.inference_mode()
def detect(
    images: Sequence[np.ndarray],
    networks: Networks,
    *,
    min_face_px: float | Sequence[float],
    factor: float = 0.709,
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7),
) -> list[list[Face]]:
    """The faces of photos, the best score first.

    Args:
        images: u8 [h w 3] RGB each, of any sizes.
        networks: from `load_networks`.
        min_face_px: the smallest face looked for, px; one number, or one for each photo. From 96 px on,
            photos are first reduced by a whole number that leaves such a face O-Net's 48 px.
        factor: from one level of the pyramid to the next.
        thresholds: the least score at P-, R- and O-Net.

    Returns:
        A list for each photo, empty where no face was found. A photo's faces do not depend on the others
        that are looked at with it, but for the noise of float32.
    """
    sizes = [min_face_px] * len(images) if isinstance(min_face_px, int | float) else list(min_face_px)
    plans = [
        _plan(i, image.shape[0], image.shape[1], size, factor)
        for i, (image, size) in enumerate(zip(images, sizes, strict=True))
    ]
    faces: list[list[Face]] = [[] for _ in images]
    for chunk in _chunks([plan for plan in plans if plan.scales], networks.device):
        for plan, found in zip(chunk, _cascade(images, chunk, networks, factor, thresholds), strict=True):
            faces[plan.index] = found
    return faces


def _plan(index: int, height: int, width: int, min_face_px: float, factor: float) -> Plan:
    reduce = min(max(1, int(min_face_px // KEPT_PX)), 128)
    height, width, min_face_px = height // reduce, width // reduce, min_face_px / reduce
    scale = CELL / min_face_px
    shortest, scales = min(height, width) * scale, []
    while shortest >= CELL:
        scales.append(scale)
        scale, shortest = scale * factor, shortest * factor
    sizes = tuple((int(height * s + 1), int(width * s + 1)) for s in scales)
    return Plan(index, reduce, height, width, tuple(scales), sizes)


def _chunks(plans: list[Plan], device: torch.device) -> Iterator[list[Plan]]:
    """Photos that run together: near in size, so that a common canvas wastes little, and not too many."""
    budget = BUDGETS[device.type]
    plans = sorted(plans, key=lambda p: (p.sizes[0], p.height, p.width, p.reduce))
    chunk: list[Plan] = []
    for plan in plans:
        grown = [*chunk, plan]
        canvas = max(p.sizes[0][0] for p in grown) * max(p.sizes[0][1] for p in grown) * len(grown)
        filled = sum(p.sizes[0][0] * p.sizes[0][1] for p in grown)
        too_much = canvas > budget.canvas_px or sum(p.height * p.width for p in grown) > budget.photo_px
        if chunk and (too_much or canvas > 1.25 * filled):
            yield chunk
            grown = [plan]
        chunk = grown
    if chunk:
        yield chunk


def _cascade(
    images: Sequence[np.ndarray],
    plans: list[Plan],
    networks: Networks,
    factor: float,
    thresholds: tuple[float, float, float],
) -> list[list[Face]]:
    least = [math.log(t / (1 - t)) for t in (min(max(t, 1e-6), 1 - 1e-6) for t in thresholds)]
    sums = _sums(images, plans, networks.device)
    boxes, photo = _proposals(sums, plans, networks, least[0], factor)

    judged = _crops_judged(sums, boxes, photo, networks, 24)
    which = (judged[:, 0] > least[1]).nonzero()[:, 0]
    boxes, photo, judged = _ordered(boxes[which], photo[which], judged[which])
    keep = suppress(boxes, photo, threshold=0.7, cap=CAP)
    boxes, photo = _squared(_corrected(boxes[keep], judged[keep, 1:5])), photo[keep]

    judged = _crops_judged(sums, boxes, photo, networks, 48)
    # Of equal scores the reference takes the last: squares beyond the photo's edge can be one crop for O-Net.
    which = (judged[:, 0] > least[2]).nonzero()[:, 0].flip(0)
    boxes, photo, judged = _ordered(boxes[which], photo[which], judged[which])
    landmarks = _landmarks(boxes, judged[:, 5:])
    boxes = _corrected(boxes, judged[:, 1:5])
    keep = suppress(boxes, photo, threshold=0.7, cap=CAP, smaller=True)
    rows = torch.cat([judged[:, :1].sigmoid(), boxes, landmarks], 1)[keep]
    return _faces(rows.cpu().numpy(), photo[keep].cpu().numpy(), plans)


def _ordered(boxes: Tensor, photo: Tensor, judged: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """All three by photo, then by falling score."""
    order = ranked(photo, judged[:, 0].sigmoid())
    return boxes[order], photo[order], judged[order]


def _sums(images: Sequence[np.ndarray], plans: list[Plan], device: torch.device) -> Sums:
    """The integral images of a chunk; photos of one size are summed together."""
    parts, run = [], [0]
    for i in range(1, len(plans) + 1):
        ended = i == len(plans) or images[plans[i].index].shape != images[plans[i - 1].index].shape
        if ended or plans[i].reduce != plans[i - 1].reduce:
            stack = np.stack([images[plan.index] for plan in plans[run[-1] : i]])
            parts.append(integral(torch.from_numpy(stack).to(device), plans[i - 1].reduce).view(-1, 3))
            run.append(i)
    starts = [start for start, _ in spans([sum_rows(p.height) * (p.width + 1) for p in plans])]
    table = torch.tensor(
        [(start, p.height, p.width, p.reduce**2) for start, p in zip(starts, plans, strict=True)],
        device=device,
    )
    cells = parts[0] if len(parts) == 1 else torch.cat(parts)
    return Sums(cells, table[:, 0], table[:, 1], table[:, 2], table[:, 3].float())


def _proposals(
    sums: Sums, plans: list[Plan], networks: Networks, least: float, factor: float
) -> tuple[Tensor, Tensor]:
    """P-Net's boxes on all levels of all photos, suppressed, corrected and squared; and the photo of each."""
    device, maps, blocks = networks.device, [], []
    for level in range(max(len(plan.scales) for plan in plans)):
        members = [i for i, plan in enumerate(plans) if level < len(plan.scales)]
        most = max(plans[i].sizes[level][0] * plans[i].sizes[level][1] for i in members)
        step = max(1, BUDGETS[device.type].level_px // most)
        for start in range(0, len(members), step):
            part = members[start : start + step]
            output = _level(sums, plans, part, level, networks)
            rows, columns = output.shape[1:3]
            maps.append(output.reshape(-1, 5))
            blocks += [(rows * columns, columns, i, plans[i].scales[level]) for i in part]
    values = torch.cat(maps)
    which = (values[:, 0] >= least).nonzero()[:, 0]
    starts = torch.tensor([start for start, _ in spans([b[0] for b in blocks])], device=device)
    columns, owner = torch.tensor([b[1:3] for b in blocks], device=device).T
    scale = torch.tensor([b[3] for b in blocks], dtype=torch.float32, device=device)

    block = torch.searchsorted(starts, which, right=True) - 1
    row, inside = columns[block], which - starts[block]
    corner = torch.stack([inside % row, inside // row], 1).float() * 2
    scales = scale[block][:, None]
    boxes = torch.cat([((corner + 1) / scales).floor(), ((corner + CELL) / scales).floor()], 1)
    values = values[which]
    keep = grid_suppress(boxes, values[:, 0], which, row, block, int(sum(b[0] for b in blocks)))
    boxes, photo, values = _ordered(boxes[keep], owner[block[keep]], values[keep])
    if factor > 0.75:  # below that, boxes of different levels differ too much in area to overlap by 0.7
        keep = suppress(boxes, photo, threshold=0.7, cap=CAP)
    else:
        keep = places(photo)[1] < CAP
    boxes, photo, values = boxes[keep], photo[keep], values[keep]
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    return _squared(boxes + values[:, 1:5] * sides), photo


def _level(sums: Sums, plans: list[Plan], members: list[int], level: int, networks: Networks) -> Tensor:
    """P-Net on one level of some photos: f32 [n rows columns 5]; no cell beyond a photo holds a face."""
    sizes = [plans[i].sizes[level] for i in members]
    mixed = len(set(sizes)) > 1
    photo = torch.tensor(members, device=networks.device)
    size = torch.tensor(sizes, device=networks.device)
    window = torch.stack(
        [torch.zeros_like(photo), torch.zeros_like(photo), sums.width[photo], sums.height[photo]], 1
    )
    largest = max(h for h, _ in sizes), max(w for _, w in sizes)
    images = area_means(sums, photo, window, largest, size if mixed else None)
    output = propose(networks.proposal, images, size if mixed else None)
    if mixed:
        cells = (size - 1) // 2 - 4
        beyond_y = torch.arange(output.shape[1], device=output.device) >= cells[:, :1]
        beyond_x = torch.arange(output.shape[2], device=output.device) >= cells[:, 1:]
        output[..., 0].masked_fill_(beyond_y[:, :, None] | beyond_x[:, None, :], -torch.inf)
    return output


def _crops_judged(sums: Sums, boxes: Tensor, photo: Tensor, networks: Networks, side: int) -> Tensor:
    """R-Net's or O-Net's verdict on boxes; a box outside its photo gets no chance (a logit of -inf)."""
    net, outputs = (networks.refine, 5) if side == 24 else (networks.output, 15)
    if not len(boxes):
        return boxes.new_zeros(0, outputs)
    whole = boxes.trunc().long()
    width, height = sums.width[photo], sums.height[photo]
    x0, y0 = whole[:, 0].clamp(min=1) - 1, whole[:, 1].clamp(min=1) - 1
    x1, y1 = whole[:, 2].minimum(width), whole[:, 3].minimum(height)
    outside = (x1 <= x0) | (y1 <= y0)
    window = torch.stack([x0.minimum(width - 1), y0.minimum(height - 1), x1, y1], 1)
    window[:, 2:] = window[:, 2:].maximum(window[:, :2] + 1)
    first, last = ((window[:, i + 1] * (width + 1) + window[:, i] + sums.start[photo]) for i in (0, 2))
    _, crop = (first * len(sums.cells) + last).unique(return_inverse=True)
    # Squares that are one crop are judged once: the noise of float32 must not choose between them.
    one = torch.zeros(int(crop.max()) + 1, dtype=torch.long, device=crop.device)
    one[crop] = torch.arange(len(crop), device=crop.device)
    crops = area_means(sums, photo[one], window[one], (side, side))
    judged = judge(net, crops, at_once=BUDGETS[networks.device.type].crops[side])[crop]
    judged[:, 0].masked_fill_(outside, -torch.inf)
    return judged


def _corrected(boxes: Tensor, correction: Tensor) -> Tensor:
    sides = (boxes[:, 2:] - boxes[:, :2] + 1).repeat(1, 2)
    return boxes + correction * sides


def _squared(boxes: Tensor) -> Tensor:
    """The square around the same centre, on the longer side."""
    sides = boxes[:, 2:] - boxes[:, :2]
    side = sides.amax(1, keepdim=True)
    start = boxes[:, :2] + sides * 0.5 - side * 0.5
    return torch.cat([start, start + side], 1)


def _landmarks(boxes: Tensor, relative: Tensor) -> Tensor:
    """O-Net's five x and five y, shares of the box -> x y x y ..., px."""
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    x = relative[:, :5] * sides[:, :1] + boxes[:, :1] - 1
    y = relative[:, 5:] * sides[:, 1:] + boxes[:, 1:2] - 1
    return torch.stack([x, y], 2).flatten(1)


def _faces(rows: np.ndarray, photo: np.ndarray, plans: list[Plan]) -> list[list[Face]]:
    """Rows of score, box and landmarks, ordered by photo and score, as faces in px of the photo as given."""
    ends = np.searchsorted(photo, np.arange(len(plans) + 1))
    found = []
    for i, plan in enumerate(plans):
        mine = rows[ends[i] : ends[i + 1]].astype(np.float64)
        mine[:, 1:] *= plan.reduce
        found.append([Face(tuple(r[1:5]), r[0], tuple(r[5:])) for r in mine.tolist()])
    return found
