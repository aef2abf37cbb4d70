"""The pictures of the gallery: one file a photo, its tiles side by side."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cache.records import Record
from preprocess.compare import Cut
from preprocess.crop import resize
from preprocess.photos import UnreadablePhoto, decode

JPEG_QUALITY = 80
MCU = 16
"""A tile starts at a multiple of this, px: JPEG's blocks then never smear one tile into the next."""

OUTLINE_PX = 96
"""Longest side of the grid on which outlines are traced."""


def original(source: Path | None, record: Record, thumb_px: int) -> tuple[np.ndarray | None, str]:
    """The photo of a record, its longest side at most `thumb_px`.

    Returns:
        u8[h w 3] or None, and its state: "" as it was built, "missing", "changed" or "unreadable".
    """
    data = _read(source, record.key) if source else None
    if data is None:
        return None, "missing"
    longest, shortest = max(record.width, record.height), min(record.width, record.height)
    try:
        photo = decode(data, min_side_px=max(1, thumb_px * shortest // longest) if longest else thumb_px)
    except UnreadablePhoto:
        return None, "unreadable"
    same = len(data) == record.bytes and record.width in (0, photo.width)
    return _shrunk(photo.rgb, thumb_px), "" if same else "changed"


def _read(source: Path, key: str) -> bytes | None:
    """The photo's bytes, or None.

    A key may stand for bytes that are not UTF-8, and end in ~2 where two would be equal.
    """
    escaped = re.sub(rb"\\x([0-9a-f]{2})", lambda m: bytes([int(m[1], 16)]), os.fsencode(key))
    for name in dict.fromkeys((key, os.fsdecode(escaped), re.sub(r"~\d+$", "", key))):
        try:
            return (source / name).read_bytes()
        except (OSError, ValueError):
            continue
    return None


def draw(
    photo: np.ndarray | None, cuts: Sequence[Cut | None], thumb_px: int
) -> tuple[bytes | None, dict[str, Any]]:
    """All tiles of one photo as one JPEG, side by side, and where each is.

    A crop that two caches share is stored once.

    Returns:
        The JPEG, or None where there is nothing to see; and {"photo": [width, height] px of the
        photo, "original": tile, "cuts": per cache None or {"tile", "alpha", "box", "marks", "crop",
        "outline", "reason"}}; a tile is [x, y, width, height] in the JPEG.
    """
    images: list[np.ndarray] = []
    tiles: list[np.ndarray] = []
    places: list[list[int]] = []

    def place(image: np.ndarray) -> list[int]:
        for other, its in zip(images, places, strict=True):
            if np.array_equal(other, image):
                return its
        x = sum(-(-tile.shape[1] // MCU) * MCU for tile in tiles)
        images.append(image)
        tiles.append(_shrunk(image, thumb_px))
        places.append([x, 0, tiles[-1].shape[1], tiles[-1].shape[0]])
        return places[-1]

    first = next(cut.record for cut in cuts if cut)
    detail: dict[str, Any] = {
        "photo": [first.width, first.height],
        "original": place(photo) if photo is not None else None,
        "cuts": [],
    }
    for cut in cuts:
        detail["cuts"].append(cut and _cut_detail(cut, place))
    return (_jpeg(tiles) if tiles else None), detail


def _cut_detail(cut: Cut, place: Any) -> dict[str, Any]:
    record = cut.record
    found: dict[str, Any] = {
        "box": _rounded(record.box),
        "marks": _rounded(record.landmarks),
        "crop": _rounded(record.crop),
        "reason": record.reason,
    }
    if cut.rgb is not None:
        found["tile"] = place(cut.rgb)
    if cut.alpha is not None:
        found["alpha"] = place(cut.alpha)
        found["outline"] = outline(cut.alpha)
    return found


def outline(alpha: np.ndarray) -> list[list[int]]:
    """The figure's outlines as polygons x y x y ..., in thousandths of the crop's width and height."""
    height, width = (min(OUTLINE_PX, side) for side in alpha.shape)
    inside = (resize(alpha, (height, width)) > 127).astype(np.uint8)
    found, _ = cv2.findContours(inside, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    polygons = []
    for contour in sorted(found, key=len, reverse=True)[:8]:
        points = cv2.approxPolyDP(contour, 0.6, closed=True).reshape(-1, 2)
        if len(points) > 2:
            scaled = (points + 0.5) / (width, height) * 1000
            polygons.append(scaled.round().astype(int).ravel().tolist())
    return polygons


def _jpeg(tiles: Sequence[np.ndarray]) -> bytes:
    """Tiles side by side, each drawn out to whole JPEG blocks."""
    tall = -(-max(tile.shape[0] for tile in tiles) // MCU) * MCU
    parts = []
    for tile in tiles:
        colour = cv2.cvtColor(tile, cv2.COLOR_GRAY2BGR if tile.ndim == 2 else cv2.COLOR_RGB2BGR)
        down, across = tall - tile.shape[0], -tile.shape[1] % MCU
        parts.append(cv2.copyMakeBorder(colour, 0, down, 0, across, cv2.BORDER_REPLICATE))
    ok, data = cv2.imencode(".jpg", cv2.hconcat(parts), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert ok
    return bytes(data)


def _shrunk(image: np.ndarray, longest_px: int) -> np.ndarray:
    height, width = image.shape[:2]
    scale = longest_px / max(height, width)
    return (
        image if scale >= 1 else resize(image, (max(1, round(height * scale)), max(1, round(width * scale))))
    )


def _rounded(values: Sequence[float] | None) -> list[float] | None:
    return [round(value, 1) for value in values] if values else None
