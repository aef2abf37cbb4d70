"""Mask sense: what of a raw alpha is the figure, and what stands in where there is none."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np

if TYPE_CHECKING:
    from preprocess.detect import Face

Box = tuple[float, float, float, float]

FACE_SHARE = 2.2
"""Side of a usual crop over the face's: where no face is known, one of that share is supposed."""

EMPTY, FULL = 0.01, 0.995
"""A figure that covers less, or more, of the crop is none."""

FACE_HELD = 0.5
"""The least share of the face that the figure must cover."""

RIM = 0.04
"""How far from the figure's edge alpha may be soft, in parts of the crop's shorter side: outwards it is hair
and further out haze, inwards it is hair and further in a network's doubt about what is worn."""


@dataclass(frozen=True)
class Settled:
    """An alpha that can be trained on.

    Attributes:
        alpha: u8 [h w], never without a figure.
        status: "no_figure" where a head-and-shoulders shape stands in.
        reason: why it does; "" otherwise.
    """

    alpha: np.ndarray
    status: Literal["ok", "no_figure"]
    reason: str


def settle(alpha: np.ndarray, face: Face | None) -> Settled:
    """The figure of a raw alpha: the component that holds the face, holes filled, crumbs and haze dropped.

    What lies deep inside becomes wholly figure: networks see through a worn mask.

    Settling what is settled changes nothing.

    Args:
        alpha: u8 [h w]; the figure is where it is 128 or more.
        face: in the alpha's px; None: the largest component is the figure.
    """
    solid = cv2.threshold(alpha, 127, 1, cv2.THRESH_BINARY)[1]
    parts, labels = cv2.connectedComponents(solid, connectivity=4)
    if parts == 1:
        return _stand_in(alpha.shape, face, "the mask is empty")
    within = _in_face(labels, face.box) if face else labels[:0].ravel()
    areas = np.bincount(within, minlength=parts)[1:]
    if not areas.any():
        # No face is known, or the mask has a hole in its place: the largest component is the one around it.
        areas = np.bincount(labels.ravel())[1:]
    chosen = 1 + int(areas.argmax())
    figure = cv2.inRange(labels, chosen, chosen)
    holes = _holes(figure)
    figure = cv2.bitwise_or(figure, holes)
    share = cv2.countNonZero(figure) / figure.size
    if share < EMPTY:
        return _stand_in(alpha.shape, face, "the mask is empty")
    if share > FULL:
        return _stand_in(alpha.shape, face, "the mask covers the whole crop")
    if face and not np.count_nonzero(_in_face(figure, face.box)) >= FACE_HELD * max(1, within.size):
        return _stand_in(alpha.shape, face, "the mask leaves the face out")
    reach = 2 * max(1, round(RIM * min(alpha.shape))) + 1
    rim = np.ones((reach, reach), np.uint8)
    crumbs = cv2.bitwise_and(solid, cv2.bitwise_not(figure))
    near = cv2.subtract(cv2.dilate(figure, rim), crumbs * 255)
    kept = cv2.bitwise_and(alpha, alpha, mask=near)
    inner = cv2.bitwise_or(holes, cv2.erode(figure, rim))
    return Settled(cv2.bitwise_or(kept, inner), "ok", "")


def bust(shape: tuple[int, int], box: Box) -> np.ndarray:
    """How likely each pixel belongs to the person with this face, f32 [h w] 0..1, by its place alone.

    A head with hair, a neck and shoulders around the box of the face, in proportions of the
    grown human body; soft, since people differ.
    """
    x0, y0, x1, y1 = box
    high = max(y1 - y0, 1.0)
    # A turned head is as wide as another, though its face's box is narrow.
    wide = (max(x1 - x0, 1.0) + 0.76 * high) / 2
    y, x = np.ogrid[: shape[0], : shape[1]]
    across = np.abs((x + 0.5) - (x0 + x1) / 2).astype(np.float32) / wide
    down = ((y + 0.5) - y0).astype(np.float32) / high
    head = (1 - np.hypot(across / 0.78, (down - 0.4) / 0.85)) / 0.2
    shoulders = np.where(down > 0.8, (0.68 + 1.9 * (down - 1).clip(0, 0.8) - across) / 0.35, -9)
    return 0.5 + 0.5 * np.tanh(np.maximum(head, shoulders) / 2)


def head_box(alpha: np.ndarray) -> Box | None:
    """The box of the face of a segmented figure, xyxy px, guessed from its outline; None without a figure.

    The head is what is about as high as it is wide, counted from the figure's top; the face takes
    its middle, from the hairline to a little below.
    """
    settled = settle(alpha, None)
    if settled.status != "ok":
        return None
    solid = settled.alpha >= 128
    widths = solid.sum(axis=1)
    top = int((widths > 0).argmax())
    heights = np.arange(1, len(widths) - top + 1)
    # Averaged from the top an oval is 0.85 of its full width.
    complete = heights * 0.85 >= 1.05 * np.cumsum(widths[top:]) / heights
    high = int(heights[complete][0] if complete.any() else heights[-1])
    head = solid[top : top + high]
    centre = float(np.average(np.arange(head.shape[1]) + 0.5, weights=head.sum(axis=0)))
    half = 0.38 * float(np.quantile(widths[top : top + high], 0.8))
    return centre - half, top + 0.3 * high, centre + half, top + 1.05 * high


def centred(shape: tuple[int, int]) -> Box:
    """The box of a face supposed in the middle of a crop."""
    height, width = shape
    side = min(height, width) / FACE_SHARE
    return (width - 0.8 * side) / 2, (height - side) / 2, (width + 0.8 * side) / 2, (height + side) / 2


def _stand_in(shape: tuple[int, ...], face: Face | None, reason: str) -> Settled:
    height, width = shape[:2]
    boxes = [face.box] if face else []
    for box in (*boxes, centred((height, width))):
        probable = bust((height, width), box)
        if (probable >= 0.5).any():
            return Settled(np.rint(probable * 255).astype(np.uint8), "no_figure", reason)
    return Settled(np.full((height, width), 255, np.uint8), "no_figure", reason)


def _in_face(values: np.ndarray, box: Box) -> np.ndarray:
    """The values within the face: an oval, since the corners of its box are hair and background."""
    x0, y0, x1, y1 = box
    top, left = max(0, math.floor(y0)), max(0, math.floor(x0))
    part = values[top : max(top, math.ceil(y1)), left : max(left, math.ceil(x1))]
    y, x = np.ogrid[: part.shape[0], : part.shape[1]]
    across = (x + left + 0.5 - (x0 + x1) / 2) / max(x1 - x0, 1.0)
    down = (y + top + 0.5 - (y0 + y1) / 2) / max(y1 - y0, 1.0)
    return part[across**2 + down**2 <= 0.45**2]


def _holes(figure: np.ndarray) -> np.ndarray:
    """What a figure of 255 encloses, 255 there and 0 elsewhere, u8 [h w]."""
    outside = cv2.copyMakeBorder(figure, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    cv2.floodFill(outside, None, (0, 0), 255, flags=8)
    return cv2.bitwise_not(outside[1:-1, 1:-1])
