"""Mask sense: what of a raw alpha is the figure, and what stands in where there is none."""

from __future__ import annotations

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
"""How far from the figure soft alpha is kept, in parts of the crop's shorter side: hair, and not haze."""


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

    Settling what is settled changes nothing.

    Args:
        alpha: u8 [h w]; the figure is where it is 128 or more.
        face: in the alpha's px; None: the largest component is the figure.
    """
    parts, labels, stats, _ = cv2.connectedComponentsWithStats((alpha >= 128).view(np.uint8), connectivity=4)
    if parts == 1:
        return _stand_in(alpha, face, "the mask is empty")
    if face is None:
        chosen = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    else:
        within = _oval(alpha.shape, face.box)
        held = np.bincount(labels[within], minlength=parts)
        chosen = 1 + int(held[1:].argmax())
        if held[chosen] < FACE_HELD * max(1, held.sum()):
            return _stand_in(alpha, face, "the mask leaves the face out")
    figure = (labels == chosen).view(np.uint8)
    holes = _holes(figure)
    figure |= holes
    share = float(figure.mean())
    if share < EMPTY:
        return _stand_in(alpha, face, "the mask is empty")
    if share > FULL:
        return _stand_in(alpha, face, "the mask covers the whole crop")
    kept = cv2.bitwise_and(alpha, alpha, mask=_grown(figure, max(1, round(RIM * min(alpha.shape)))))
    # Other components may reach into the rim.
    kept[(labels != chosen) & (labels != 0)] = 0
    kept[holes.view(bool)] = 255
    return Settled(kept, "ok", "")


def bust(shape: tuple[int, int], box: Box) -> np.ndarray:
    """How likely each pixel belongs to the person with this face, f32 [h w] 0..1, by its place alone.

    A head with hair, a neck and shoulders around the box of the face, in proportions of the
    grown human body; soft, since people differ.
    """
    x0, y0, x1, y1 = box
    wide, high = max(x1 - x0, 1.0), max(y1 - y0, 1.0)
    y, x = np.ogrid[: shape[0], : shape[1]]
    across = ((x + 0.5) - (x0 + x1) / 2).astype(np.float32) / wide
    down = ((y + 0.5) - y0).astype(np.float32) / high
    # The head's oval ends at the chin and stands a third of the face above the hairline.
    head = (1 - np.hypot(across / 0.68, (down - 0.36) / 0.66)) * 0.6
    below = np.clip(down - 1, -0.1, 1.2)
    half = np.where(down > 0.8, np.minimum(0.56 + 1.5 * np.maximum(below, 0), 1.9), -1)
    body = half - np.abs(across)
    return (1 / (1 + np.exp(-np.maximum(head, body) / 0.11))).astype(np.float32)


def head_box(alpha: np.ndarray) -> Box | None:
    """The box of the face of a segmented figure, xyxy px, guessed from its outline; None without a figure.

    The head is the part below the figure's top that is as high as 1.3 of its own width.
    """
    figure = settle(alpha, None)
    if figure.status != "ok":
        return None
    solid = figure.alpha >= 128
    widths = solid.sum(axis=1)
    top = int((widths > 0).argmax())
    heights = np.arange(1, len(widths) - top + 1)
    mean = np.cumsum(widths[top:]) / heights
    tall = heights >= 1.5 * mean
    high = int(heights[tall][0]) if tall.any() else int(heights[-1])
    columns = np.flatnonzero(solid[top : top + high].any(axis=0))
    weights = solid[top : top + high].sum(axis=0)[columns]
    centre = float((columns * weights).sum() / weights.sum()) + 0.5
    wide = float(mean[high - 1])
    return centre - wide * 0.4, top + high * 0.25, centre + wide * 0.4, top + high * 0.95


def centred(shape: tuple[int, int]) -> Box:
    """The box of a face supposed in the middle of a crop."""
    height, width = shape
    side = min(height, width) / FACE_SHARE
    return (width - 0.8 * side) / 2, (height - side) / 2, (width + 0.8 * side) / 2, (height + side) / 2


def _stand_in(alpha: np.ndarray, face: Face | None, reason: str) -> Settled:
    shape = alpha.shape[:2]
    probable = bust(shape, face.box if face else centred(shape))
    if not (probable >= 0.5).any():
        probable = bust(shape, centred(shape))
    if not (probable >= 0.5).any():
        probable = np.ones(shape, np.float32)
    return Settled(np.rint(probable * 255).astype(np.uint8), "no_figure", reason)


def _oval(shape: tuple[int, ...], box: Box) -> np.ndarray:
    """The face within its box, bool [h w]: the corners of a box are hair and background."""
    x0, y0, x1, y1 = box
    y, x = np.ogrid[: shape[0], : shape[1]]
    across = (x + 0.5 - (x0 + x1) / 2) / max(x1 - x0, 1.0)
    down = (y + 0.5 - (y0 + y1) / 2) / max(y1 - y0, 1.0)
    return across**2 + down**2 <= 0.45**2


def _holes(figure: np.ndarray) -> np.ndarray:
    """What the figure encloses, u8 [h w] 0 or 1."""
    outside = cv2.copyMakeBorder(figure, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    cv2.floodFill(outside, None, (0, 0), 2, flags=8)
    return (outside[1:-1, 1:-1] == 0).view(np.uint8)


def _grown(figure: np.ndarray, by: int) -> np.ndarray:
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * by + 1, 2 * by + 1))
    return cv2.dilate(figure, disc)
