"""What every test may ask for. Real photos and networks are optional: tests that use them skip without."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the commands set it; see configs/terminal.py

SHARED = Path(os.environ.get("FIGUREGROUND_SHARED", Path(__file__).parents[2] / "shared"))


@pytest.fixture(scope="session")
def real_photos() -> Path:
    """Folder with `people/{images,alpha}` and `masks/{with_mask,without_mask}`: real photos."""
    if not (SHARED / "photos").is_dir():
        pytest.skip("no real photos beside the project (FIGUREGROUND_SHARED)")
    return SHARED / "photos"


@pytest.fixture(scope="session")
def portrait_network() -> Path:
    """A real segmentation network: f32 [n 3 256 256] RGB 0..1 -> f32 [n 1 256 256] probability of figure."""
    path = SHARED / "models" / "portrait_prisma.onnx"
    if not path.is_file():
        pytest.skip("no real network beside the project (FIGUREGROUND_SHARED)")
    return path


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn set of six persons, 42 photos: `photos` and `alpha` below it. Not to be changed."""
    from preprocess.sample import draw

    out = tmp_path_factory.mktemp("drawn") / "set"
    draw(out, people=6, shortcut=0.0, seed=3)
    return out
