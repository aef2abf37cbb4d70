from __future__ import annotations

import cv2
import numpy as np

from cache.likeness import alike, fingerprints


def scenes(count: int) -> list[np.ndarray]:
    """Photos of blurred blobs, u8 [96 96 3], each its own."""
    coarse = np.random.default_rng(4).integers(0, 256, (count, 7, 7, 3), dtype=np.uint8)
    return [cv2.resize(one, (96, 96), interpolation=cv2.INTER_CUBIC) for one in coarse]


def test_planted_copies_are_grouped_the_largest_group_first() -> None:
    """More photos than are compared at a time, so that copies lie in other parts than their originals."""
    photos = scenes(600)
    photos[590] = np.ascontiguousarray(photos[3][:, ::-1])
    photos[300] = cv2.resize(photos[3], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    photos[599] = photos[598].copy()
    assert alike(fingerprints(photos)) == [[3, 300, 590], [598, 599]]


def test_no_photos_no_groups() -> None:
    assert alike(fingerprints([])) == []
    assert alike(fingerprints(scenes(1))) == []
