"""How far two caches differ about one photo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import cv2
import numpy as np

from cache.records import DETECTED, Record
from preprocess.crop import Box, Frame, corners_of, resize

COMMON_PX = 96
"""Side of the grid on which two caches are compared."""


@dataclass(frozen=True)
class Cut:
    """What one cache made of one photo: record, crop u8[h w 3] and alpha u8[h w], or None."""

    record: Record
    rgb: np.ndarray | None
    alpha: np.ndarray | None

    @property
    def frame(self) -> Frame | None:
        return Frame(*self.record.crop) if self.record.crop else None


def disagreement(cuts: Sequence[Cut]) -> tuple[float | None, str]:
    """How far the caches differ about one photo: the largest of what can be compared in any two.

    0: they agree; 1: nothing in common. Compared are two face boxes (1 - IoU), two figures
    (1 - IoU of their alphas), and a face box with the other cache's figure (the share of the
    face that is not figure: a segmenter that took the wrong person, or none).

    Args:
        cuts: of the caches that have the photo.

    Returns:
        0..1 and what it is, or None and "" where nothing can be compared.
    """
    found: list[tuple[float, str]] = []
    for a, b in combinations(cuts, 2):
        if a.record.box and b.record.box and a.record.box != b.record.box:
            found.append((1 - _box_iou(a.record.box, b.record.box), "the face boxes differ"))
        elif a.record.box and b.record.box:
            found.append((0.0, "the face boxes differ"))
        view = _view(a, b)
        if view is None:
            continue
        of_a, of_b = _upright(a, view), _upright(b, view)
        if of_a is not None and of_b is not None:
            union = float(np.maximum(of_a, of_b).sum(dtype=np.int64))
            shared = float(np.minimum(of_a, of_b).sum(dtype=np.int64))
            found.append((1 - shared / union if union else 0.0, "the figures differ"))
        for cut, alpha in ((a, of_b), (b, of_a)):
            if cut.record.box and cut.record.rung in DETECTED and alpha is not None:
                found.append((1 - _covered(alpha, cut.record.box, view), "the figure misses the face"))
    worst = max(found, default=None)
    return (round(worst[0], 3), worst[1] if worst[0] > 0 else "") if worst else (None, "")


def _view(a: Cut, b: Cut) -> Box | None:
    """The upright box, px of the photo, that holds both crops and face boxes."""
    boxes = [corners_of(cut.frame) for cut in (a, b) if cut.frame and cut.rgb is not None]
    boxes += [cut.record.box for cut in (a, b) if cut.record.box]
    if not boxes:
        return None
    x0, y0, x1, y1 = np.array(boxes, float).T
    return x0.min(), y0.min(), max(x1.max(), x0.min() + 1), max(y1.max(), y0.min() + 1)


def _upright(cut: Cut, view: Box) -> np.ndarray | None:
    """A cut's alpha as it lies in a view of the photo: u8[96 96], 0 outside of its crop."""
    if cut.alpha is None or cut.frame is None:
        return None
    frame, (rows, columns) = cut.frame, cut.alpha.shape
    small = resize(cut.alpha, (min(COMMON_PX, rows), min(COMMON_PX, columns)))
    cos, sin = np.cos(np.radians(frame.angle)), np.sin(np.radians(frame.angle))
    # Pixel centres of the view -> photo -> crop, as cv2 wants it with WARP_INVERSE_MAP.
    step = np.array([(view[2] - view[0]) / COMMON_PX, (view[3] - view[1]) / COMMON_PX])
    start = np.array(view[:2]) + step / 2 - (frame.cx, frame.cy)
    turn = np.array([[cos, sin], [-sin, cos]])
    scale = np.array([[small.shape[1] / frame.width], [small.shape[0] / frame.height]])
    shift = scale[:, 0] * (turn @ start) + np.array(small.shape[::-1]) / 2 - 0.5
    matrix = np.column_stack([scale * turn * step, shift])
    return cv2.warpAffine(
        small, matrix, (COMMON_PX, COMMON_PX), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )


def _covered(alpha: np.ndarray, box: Sequence[float], view: Box) -> float:
    """Mean alpha, 0..1, within a face box."""
    across, down = COMMON_PX / (view[2] - view[0]), COMMON_PX / (view[3] - view[1])
    x0, x1 = (int(np.clip(round((x - view[0]) * across), 0, COMMON_PX)) for x in box[::2])
    y0, y1 = (int(np.clip(round((y - view[1]) * down), 0, COMMON_PX)) for y in box[1::2])
    inside = alpha[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]
    return float(inside.mean()) / 255 if inside.size else 0.0


def _box_iou(a: Sequence[float], b: Sequence[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return shared / (areas - shared) if areas > shared else 0.0
