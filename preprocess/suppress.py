"""Suppression of boxes that overlap a better one, for many photos at once, without a loop over boxes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


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


def places(groups: Tensor) -> tuple[Tensor, Tensor]:
    """For ascending groups: each element's group, counted from 0, and its place in that group."""
    _, group, count = groups.unique_consecutive(return_inverse=True, return_counts=True)
    return group, torch.arange(len(groups), device=groups.device) - (count.cumsum(0) - count)[group]


def suppress(boxes: Tensor, groups: Tensor, *, threshold: float, cap: int, smaller: bool = False) -> Tensor:
    """Which boxes stay when those that overlap a better one of their group too much go.

    Args:
        boxes: f32 [n 4], in the order of `ranked`.
        groups: i64 [n], ascending.
        threshold: the largest overlap that may stay.
        cap: only this many boxes of a group, the best, are looked at; the others go.
        smaller: overlap is the share of the smaller box (pixel counts, as O-Net's suppression has it),
            not of the union.

    Returns:
        bool [n].
    """
    if not len(boxes):
        return torch.zeros(0, dtype=torch.bool, device=boxes.device)
    group, place = places(groups)
    keep = place < cap
    at = group[keep], place[keep]
    shape = int(group[-1]) + 1, int(at[1].max()) + 1
    table = boxes.new_zeros(*shape, 4).index_put_(at, boxes[keep])
    valid = torch.zeros(shape, dtype=torch.bool, device=boxes.device)
    valid = valid.index_put_(at, torch.ones_like(at[0], dtype=torch.bool))
    better = torch.ones(shape[1], shape[1], dtype=torch.bool, device=boxes.device).triu(1)
    overlap = overlaps(table[:, :, None], table[:, None, :], smaller=smaller) > threshold
    keep[keep.clone()] = survivors(overlap & better, valid)[at]
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
