"""One picture of some photos side by side, original and what each cache made of it, for a README."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from configs.errors import UserError
from preprocess.crop import resize
from preprocess.gallery import Column, Row, join, open_columns
from preprocess.tiles import original

TILE_PX = 224
GAP_PX = 8
INK = (40, 40, 44)
PAPER = (255, 255, 255)
BOX = (255, 190, 40)


def sheet(
    caches: Sequence[Path], out: Path, *, keys: Sequence[str] = (), count: int = 4, source: Path | None = None
) -> Path:
    """Draw a PNG: a row a photo, its original with the face's box first, then a column each cache.

    Args:
        caches: one or more; figures with alpha stand on a chequered ground.
        out: the PNG.
        keys: which photos; by default `count` of them, spread evenly over all that every cache has.
        source: the folder of the photos; by default each cache's own.

    Raises:
        UserError: a key that no cache has, or no photo that all have.
    """
    columns = open_columns(caches, source)
    rows = [
        row
        for row in join(columns)
        if all(c.has_pixels[r] for c, r in zip(columns, row, strict=True) if r >= 0)
    ]
    by_key = {columns[0].records[row[0]].key: row for row in rows if min(row) >= 0}
    missing = [key for key in keys if key not in by_key]
    if missing or not by_key:
        raise UserError(f"{missing[0] if missing else caches[0]}: no photo of that name in all of the caches")
    chosen = list(keys) or [list(by_key)[round(i)] for i in np.linspace(0, len(by_key) - 1, count)]
    names = ["original", *(c.name for c in columns)]
    lines = [_heading(names), *(_line(columns, by_key[key]) for key in chosen)]
    out.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(out), cv2.cvtColor(np.vstack(lines), cv2.COLOR_RGB2BGR))
    return out


def _line(columns: Sequence[Column], row: Row) -> np.ndarray:
    tiles = [_original(columns[0], row[0])]
    for column, number in zip(columns, row, strict=True):
        rgb = column.cache.rgb([number])[0]
        if column.cache.has_alpha:
            alpha = column.cache.alpha([number])[0, ..., None] / 255
            rgb = (rgb * alpha + _chequers(rgb.shape[:2]) * (1 - alpha)).round().astype(np.uint8)
        tiles.append(_tile(rgb))
    return np.vstack([_beside(tiles), np.full((GAP_PX, _width(len(tiles)), 3), PAPER, np.uint8)])


def _original(column: Column, number: int) -> np.ndarray:
    record = column.records[number]
    photo, _ = original(column.source, record, 4 * TILE_PX)
    if photo is None:
        return np.full((TILE_PX, TILE_PX, 3), 230, np.uint8)
    if record.box:
        scale = photo.shape[1] / record.width
        x0, y0, x1, y1 = (round(v * scale) for v in record.box)
        cv2.rectangle(photo, (x0, y0), (x1, y1), BOX, max(2, photo.shape[1] // 110), cv2.LINE_AA)
    return _tile(photo)


def _tile(image: np.ndarray) -> np.ndarray:
    """The image, as large as fits, in the middle of a square tile."""
    scale = TILE_PX / max(image.shape[:2])
    small = resize(image, (round(image.shape[0] * scale), round(image.shape[1] * scale)))
    tile = np.full((TILE_PX, TILE_PX, 3), PAPER, np.uint8)
    y, x = ((TILE_PX - side) // 2 for side in small.shape[:2])
    tile[y : y + small.shape[0], x : x + small.shape[1]] = small
    return tile


def _chequers(size: tuple[int, int]) -> np.ndarray:
    rows, columns = np.indices(size) // 12
    return np.where((rows + columns) % 2, 204, 238)[..., None]


def _heading(names: Sequence[str]) -> np.ndarray:
    band = np.full((30, _width(len(names)), 3), PAPER, np.uint8)
    for i, name in enumerate(names):
        at = (i * (TILE_PX + GAP_PX) + 2, 20)
        cv2.putText(band, name, at, cv2.FONT_HERSHEY_SIMPLEX, 0.55, INK, 1, cv2.LINE_AA)
    return band


def _beside(tiles: Sequence[np.ndarray]) -> np.ndarray:
    gap = np.full((TILE_PX, GAP_PX, 3), PAPER, np.uint8)
    return np.hstack([part for tile in tiles for part in (tile, gap)][:-1])


def _width(tiles: int) -> int:
    return tiles * TILE_PX + (tiles - 1) * GAP_PX
