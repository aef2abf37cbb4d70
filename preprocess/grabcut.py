"""Figure from ground without a network: the place, colour and sharpness of a person, then one GrabCut.

1. Where: a head and shoulders are expected around the face (`mask.bust`).
2. What: every cell of a coarse grid is compared with every other by colour and sharpness (a
   background is often out of focus). Cells like those of the figure become figure, their
   neighbours draw them along, and the figure so found describes itself better the next time.
3. Exactly where: one GrabCut on a finer grid, and the edges of the image through a guided filter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from preprocess.mask import Box, bust, centred

if TYPE_CHECKING:
    from preprocess.detect import Face

VERSION = 2
"""Counts changes that change the alpha."""

WORK_PX = 224
"""Longer side, px, of the copy that is looked at: the lengths below are in its px."""

CELLS = 32
"""Cells along the longer side of the coarse grid: 1024 of them can all be compared with each other."""

LIGHT, COLOUR, SHARP = 0.6 / 7, 1.6 / 7, 2.0
"""What a step of lightness and of colour (Lab, 0..255) and of the log of sharpness weighs between cells."""

NEAR = 0.08
"""How far a cell draws along its neighbours, in parts of the longer side."""

TURN = 1.1
"""How far the head's middle lies behind the face's when the head is turned, over the nose's way from the
middle of the eyes."""


@dataclass(frozen=True)
class Belief:
    """How evidence is weighed, in log odds.

    Attributes:
        place: of the bust.
        likeness: of colour and sharpness.
        neighbours: of what the cells around believe.
        lean: towards the figure: hair and clothes are unlike the face that stands for them at first.
        rounds: of believing and describing anew.
    """

    place: float = 0.5
    likeness: float = 1.1
    neighbours: float = 2.5
    lean: float = 0.45
    rounds: int = 3


def cut(crop: np.ndarray, face: Face | None, *, grid: int = 96, belief: Belief | None = None) -> np.ndarray:
    """Raw alpha u8 [h w] of a crop u8 [h w 3]; the same bytes each time.

    Args:
        crop: with the face about in the middle.
        face: in px of the crop; None: one is supposed in the middle.
        grid: longer side, px, on which GrabCut runs.
        belief: how evidence is weighed.
    """
    height, width = crop.shape[:2]
    scale = WORK_PX / max(height, width)
    work = _resize(crop, (height, width), scale)
    x0, y0, x1, y1 = head_of(face) if face else centred((height, width))
    figure = believe(work, (x0 * scale, y0 * scale, x1 * scale, y1 * scale), belief or Belief())
    figure = _grab(_resize(crop, (height, width), grid / max(height, width)), figure)
    return follow_edges(crop, figure)


def head_of(face: Face) -> Box:
    """The face's box, moved to the middle of its head: a turned face lies before it."""
    x0, y0, x1, y1 = face.box
    if len(face.landmarks) != 10:
        return face.box
    left_eye, _, right_eye, _, nose = face.landmarks[:5]
    way = float(np.clip(TURN * (nose - (left_eye + right_eye) / 2), x0 - x1, x1 - x0))
    return x0 - way, y0, x1 - way, y1


def believe(work: np.ndarray, head: Box, belief: Belief) -> np.ndarray:
    """How likely each cell of the coarse grid is figure, f32 [rows columns] 0..1.

    A naive Bayes of place and looks, where the looks of figure and ground are the kernel
    densities of the cells that are believed to be theirs, and a mean field that smooths it
    (as in a dense random field, Kraehenbuehl and Koltun, arXiv 1210.5644).
    """
    height, width = work.shape[:2]
    scale = CELLS / max(height, width)
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    looks = _looks(work, (rows, columns))
    y, x = np.mgrid[:rows, :columns]
    places = (np.stack([x, y], axis=-1).reshape(-1, 2) / CELLS).astype(np.float32)
    alike = _kernel(np.hstack([looks, places / 2]))
    near = _kernel(np.hstack([looks * 7 / 6, places / NEAR]))
    np.fill_diagonal(near, 0)
    near /= near.sum(axis=1, keepdims=True) + 1e-3

    place = bust((rows, columns), tuple(side * scale for side in head)).ravel().clip(0.01, 0.99)
    prior = belief.place * np.log(place / (1 - place)) + belief.lean
    figure = place
    for _ in range(belief.rounds):
        of_figure = alike @ (figure / figure.sum())
        of_ground = alike @ ((1 - figure) / (1 - figure).sum())
        alone = prior + belief.likeness * np.log((of_figure + 1e-6) / (of_ground + 1e-6))
        figure = _share(alone)
        for _ in range(3):
            figure = _share(alone + belief.neighbours * (near @ (2 * figure - 1)))
    return figure.reshape(rows, columns)


def follow_edges(crop: np.ndarray, mask: np.ndarray, *, reach: float = 0.02, eps: float = 1e-3) -> np.ndarray:
    """A coarse mask f32 [a b] 0..1 laid along the edges of the crop u8 [h w 3]: alpha u8 [h w].

    The fast guided filter (He and Sun, arXiv 1505.00996): within a window, `reach` times the longer
    side to each side, alpha is a linear function of the grey value; `eps` is the variance of grey
    (0..1) that passes for an edge.
    """
    height, width = crop.shape[:2]
    small = mask.shape[1], mask.shape[0]
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    guide = cv2.resize(grey, small, interpolation=cv2.INTER_AREA)
    side = 2 * max(1, round(reach * max(small))) + 1

    def mean(values: np.ndarray) -> np.ndarray:
        return cv2.blur(values, (side, side), borderType=cv2.BORDER_REPLICATE)

    of_guide, of_mask = mean(guide), mean(mask)
    slope = (mean(guide * mask) - of_guide * of_mask) / (mean(guide * guide) - of_guide**2 + eps)
    offset = of_mask - slope * of_guide
    slope, offset = (cv2.resize(mean(each), (width, height)) for each in (slope, offset))
    return np.rint((slope * grey + offset).clip(0, 1) * 255).astype(np.uint8)


def _grab(small: np.ndarray, figure: np.ndarray) -> np.ndarray:
    """One GrabCut on `small` u8 [a b 3], seeded by what is believed: f32 [a b], 0 or 1."""
    believed = cv2.resize(figure, (small.shape[1], small.shape[0]), interpolation=cv2.INTER_LINEAR)
    seeds = np.where(believed > 0.5, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    seeds[believed > 0.9] = cv2.GC_FGD
    seeds[believed < 0.1] = cv2.GC_BGD
    is_figure = (seeds & 1).astype(bool)
    if not is_figure.any() or is_figure.all():
        return believed
    # OpenCV starts its colour models from a random generator of each thread's own.
    cv2.setRNGSeed(0)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(small, seeds, (0, 0, 0, 0), models[0], models[1], 1, cv2.GC_INIT_WITH_MASK)
    return (seeds & 1).astype(np.float32)


def _looks(work: np.ndarray, cells: tuple[int, int]) -> np.ndarray:
    """Lightness, two colours and sharpness of each cell, weighed, f32 [cells 4]."""
    size = cells[1], cells[0]
    lab = cv2.cvtColor(cv2.resize(work, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2LAB)
    grey = cv2.cvtColor(work, cv2.COLOR_RGB2GRAY).astype(np.float32)
    detail = cv2.GaussianBlur(np.abs(grey - cv2.GaussianBlur(grey, (0, 0), 1.5)), (0, 0), 5)
    sharp = np.log1p(cv2.resize(detail, size, interpolation=cv2.INTER_AREA))
    weights = np.array([LIGHT, COLOUR, COLOUR, SHARP], np.float32)
    return np.dstack([lab, sharp]).reshape(-1, 4) * weights


def _kernel(features: np.ndarray) -> np.ndarray:
    """exp(-half the squared distance) of every two rows of f32 [n d]: f32 [n n]."""
    half = (features**2).sum(axis=1, keepdims=True) / 2
    return np.exp(np.minimum(features @ features.T - half - half.T, 0))


def _share(log_odds: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * np.tanh(log_odds / 2)


def _resize(crop: np.ndarray, shape: tuple[int, int], scale: float) -> np.ndarray:
    size = max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))
    return cv2.resize(crop, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
