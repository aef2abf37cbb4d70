from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from classify.pipeline import through
from configs.errors import UserError


def transform(name: str, **settings: Any) -> dict[str, Any]:
    return {"__class_fullname__": name, **settings}


def compose(*transforms: dict[str, Any]) -> dict[str, Any]:
    return transform("Compose", transforms=list(transforms), p=1.0)


PHOTOS = np.random.default_rng(0).integers(0, 256, (12, 24, 20, 3), dtype=np.uint8)
ALPHA = PHOTOS[..., 0]
SEEDS = list(range(12))
RANDOM = compose(
    transform("HorizontalFlip", p=0.5),
    transform("Rotate", limit=[-20, 20], p=0.8),
    transform("GaussNoise", p=0.5),
)


def test_what_to_dict_writes_is_read() -> None:
    import albumentations as A

    written = A.to_dict(A.Compose([A.HorizontalFlip(p=1.0), A.InvertImg(p=1.0)]))
    for pipeline in (written, written["transform"]):
        images, alpha = through(pipeline, PHOTOS, ALPHA, SEEDS)
        assert np.array_equal(images, 255 - PHOTOS[:, :, ::-1])
        assert alpha is not None
        assert np.array_equal(alpha, ALPHA[:, :, ::-1])


def test_a_single_transform_needs_no_compose() -> None:
    images, alpha = through(transform("VerticalFlip", p=1.0), PHOTOS, None, SEEDS)
    assert np.array_equal(images, PHOTOS[:, ::-1])
    assert alpha is None


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_photo_depends_on_its_seed_alone(threads: int) -> None:
    images, alpha = through(RANDOM, PHOTOS, ALPHA, SEEDS, threads)
    assert alpha is not None
    backwards, alpha_backwards = through(RANDOM, PHOTOS[::-1], ALPHA[::-1], SEEDS[::-1], 3)
    assert alpha_backwards is not None
    assert np.array_equal(images, backwards[::-1])
    assert np.array_equal(alpha, alpha_backwards[::-1])
    others, _ = through(RANDOM, PHOTOS, ALPHA, [seed + 100 for seed in SEEDS], threads)
    assert not np.array_equal(images, others)
    twins, _ = through(RANDOM, np.repeat(PHOTOS[:1], 12, 0), None, SEEDS, threads)
    assert len(np.unique(twins, axis=0)) > 6, "each photo draws its own"


def test_no_photos_are_fine() -> None:
    images, alpha = through(RANDOM, PHOTOS[:0], ALPHA[:0], [])
    assert images.shape == (0, 24, 20, 3)
    assert alpha is not None
    assert alpha.shape == (0, 24, 20)


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        (compose(transform("HorizontlFlip", p=1.0)), '"HorizontlFlip"; did you mean "HorizontalFlip"'),
        (compose(transform("Rotate", limt=10, p=1.0)), "limt"),
        (compose(transform("HorizontalFlip", p=7)), "can't make this pipeline"),
        (compose({"HorizontalFlip": {"p": 1.0}}), "__class_fullname__"),
        (compose(transform("Resize", height=5, width=5, p=1.0)), r"\[5, 5, 3\] of uint8 \[24, 20, 3\]"),
        (compose(transform("Normalize", p=1.0)), "float32"),
    ],
)  # fmt: skip
def test_mistakes_are_told(pipeline: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        through(pipeline, PHOTOS, None, SEEDS)
