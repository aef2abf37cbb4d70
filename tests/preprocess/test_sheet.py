from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from cache.format import Recipe
from cache.records import Record
from cache.writer import Listed, Writer
from configs.errors import UserError
from preprocess.sheet import GAP_PX, TILE_PX, sheet


def make_cache(folder: Path, method: str, photos: Path) -> Path:
    """Two photos: the crop is red; where there is an alpha, its right half is figure."""
    recipe = Recipe({"method": method, "size": 32}, {"source": str(photos), "layout": "flat"})
    records = [
        Record(key=f"{n}.png", labels={}, sha256=n, bytes=1, mtime_ns=1, width=64, height=64, rung="plain",
               box=(16, 16, 48, 48), crop=(32, 32, 64, 64, 0))
        for n in "ab"
    ]  # fmt: skip
    rgb = np.full((2, 32, 32, 3), (250, 0, 0), np.uint8)
    alpha = np.zeros((2, 32, 32), np.uint8)
    alpha[:, :, 16:] = 255
    with Writer(folder, recipe) as writer:
        writer.commit(records, rgb, alpha if method == "seg" else None)
        writer.finish([Listed(r.key, None, {}, 1, 1) for r in records])
    return folder


@pytest.fixture
def caches(tmp_path: Path) -> list[Path]:
    (tmp_path / "photos").mkdir()
    for name in "ab":
        cv2.imwrite(str(tmp_path / "photos" / f"{name}.png"), np.full((64, 64, 3), (0, 200, 0), np.uint8))
    return [make_cache(tmp_path / method, method, tmp_path / "photos") for method in ("det", "seg")]


def test_a_row_a_photo_original_first_then_each_cache(caches: list[Path], tmp_path: Path) -> None:
    picture = cv2.imread(str(sheet(caches, tmp_path / "out" / "s.png", keys=["b.png"])))[..., ::-1]
    assert picture.shape[1] == 3 * TILE_PX + 2 * GAP_PX
    row = picture[-GAP_PX - TILE_PX // 2]
    step = TILE_PX + GAP_PX
    assert (row[TILE_PX // 2] == (0, 200, 0)).all()
    assert abs(int(row[TILE_PX // 4][0]) - 255) < 40, "the face's box is drawn on the original"
    assert (row[step + 20] == (250, 0, 0)).all()
    assert len(set(row[2 * step + 20].tolist())) == 1, "ground is chequered in grey"
    assert (row[2 * step + TILE_PX - 20] == (250, 0, 0)).all()


def test_the_photos_are_spread_over_all_and_a_wrong_name_is_told(caches: list[Path], tmp_path: Path) -> None:
    picture = cv2.imread(str(sheet(caches, tmp_path / "s.png", count=2)))
    assert picture.shape[0] == 30 + 2 * (TILE_PX + GAP_PX)
    with pytest.raises(UserError, match=r"c\.png: no photo of that name"):
        sheet(caches, tmp_path / "t.png", keys=["c.png"])
    assert not (tmp_path / "t.png").exists()
