"""Pictures of crops for the pages: JPEG strips of tiles of one size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

JPEG_QUALITY = 82
MCU = 16
"""A tile's sides are multiples of this, px: JPEG's blocks then never smear one tile into the next."""
TALL_PX = 192


def strip(tiles: Sequence[np.ndarray], path: Path, *, tall_px: int = TALL_PX) -> None:
    """Write tiles u8 [h w 3] (of any size, the first one's shape for all) side by side as one JPEG."""
    height, width = tiles[0].shape[:2]
    tall = max(MCU, min(tall_px, height) // MCU * MCU)
    wide = max(MCU, round(tall * width / height / MCU) * MCU)
    sized = [resized(tile, (tall, wide)) for tile in tiles]
    ok, data = cv2.imencode(
        ".jpg", cv2.cvtColor(cv2.hconcat(sized), cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    )
    assert ok
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.tobytes())


def resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image at another height and width: areas averaged where it shrinks."""
    shrinks = image.shape[0] >= size[0] and image.shape[1] >= size[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size[::-1], interpolation=how))


def on_grey(rgb: np.ndarray, alpha: np.ndarray, grey: int = 128) -> np.ndarray:
    """The figure of a crop u8 [h w 3] with alpha u8 [h w] on a plain ground."""
    share = alpha[..., None].astype(np.float32) / 255
    return np.rint(rgb * share + grey * (1 - share)).astype(np.uint8)
