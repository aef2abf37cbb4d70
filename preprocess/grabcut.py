"""Figure from ground without a network: GrabCut on a small grid, seeded by the face, edges from the image."""

from __future__ import annotations

import cv2
import numpy as np

from preprocess.mask import Box, bust, centred

VERSION = 1
"""Counts changes that change the alpha."""


def cut(crop: np.ndarray, box: Box | None, *, grid: int = 96, rounds: int = 3) -> np.ndarray:
    """Raw alpha u8 [h w] of a crop u8 [h w 3] with its face's box, xyxy px, or None for one in the middle."""
    height, width = crop.shape[:2]
    scale = min(1.0, grid / max(height, width))
    small_size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(crop, small_size, interpolation=cv2.INTER_AREA)
    x0, y0, x1, y1 = box or centred((height, width))
    prior = bust(small.shape[:2], (x0 * scale, y0 * scale, x1 * scale, y1 * scale))
    seeds = np.where(prior > 0.5, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    seeds[prior > 0.985] = cv2.GC_FGD
    seeds[prior < 0.03] = cv2.GC_BGD
    if (seeds == cv2.GC_BGD).any() and (seeds == cv2.GC_FGD).any():
        # OpenCV starts its colour models from a generator of the thread's own.
        cv2.setRNGSeed(0)
        back, front = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.grabCut(small, seeds, (0, 0, 0, 0), back, front, rounds, cv2.GC_INIT_WITH_MASK)
    figure = ((seeds == cv2.GC_FGD) | (seeds == cv2.GC_PR_FGD)).astype(np.float32)
    return sharpen(crop, figure)


def sharpen(crop: np.ndarray, coarse: np.ndarray, *, radius: float = 0.02, eps: float = 1e-3) -> np.ndarray:
    """A coarse mask f32 [a b] laid along the edges of the crop u8 [h w 3]: alpha u8 [h w].

    The fast guided filter (He and Sun, arXiv 1505.00996): within a window the alpha is a linear
    function of the grey value; `radius` in parts of the crop's longer side.
    """
    height, width = crop.shape[:2]
    small = coarse.shape[1], coarse.shape[0]
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    guide = cv2.resize(grey, small, interpolation=cv2.INTER_AREA)
    side = 2 * max(1, round(radius * max(small))) + 1

    def mean(values: np.ndarray) -> np.ndarray:
        return cv2.blur(values, (side, side), borderType=cv2.BORDER_REFLECT)

    of_guide, of_mask = mean(guide), mean(coarse)
    slope = (mean(guide * coarse) - of_guide * of_mask) / (mean(guide * guide) - of_guide**2 + eps)
    offset = of_mask - slope * of_guide
    slope, offset = (cv2.resize(mean(each), (width, height)) for each in (slope, offset))
    return np.rint((slope * grey + offset).clip(0, 1) * 255).astype(np.uint8)
