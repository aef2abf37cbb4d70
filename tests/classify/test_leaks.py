from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest

from cache.likeness import fingerprints, nearest
from classify.leaks import leaks, summary


def scenes(count: int, seed: int = 0, size: int = 96) -> np.ndarray:
    """Photos of blurred blobs, u8 [n h w 3], each its own."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 7, 7, 3), dtype=np.uint8)
    return np.stack([cv2.resize(one, (size, size), interpolation=cv2.INTER_CUBIC) for one in coarse])


def table(count: int, groups: list[str | None] | None = None) -> pa.Table:
    keys = [f"{number}.jpg" for number in range(count)]
    return pa.table({"key": keys, "group": pa.array(groups or [None] * count, pa.string())})


def saved_again(photo: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.imdecode(cv2.imencode(".jpg", photo, [1, 40])[1], cv2.IMREAD_COLOR))


def smaller(photo: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.resize(photo, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))


def noisy(photo: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(1).normal(0, 6, photo.shape)
    return (photo + noise).clip(0, 255).astype(np.uint8)


def lighter(photo: np.ndarray) -> np.ndarray:
    return (photo * 0.9 + 20).astype(np.uint8)


def mirrored(photo: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(photo[:, ::-1])


@pytest.mark.parametrize("change", [np.copy, saved_again, smaller, noisy, lighter, mirrored])
def test_planted_copies_are_found_and_nothing_else(change: object) -> None:
    photos = list(scenes(60))
    copies = {40: 3, 45: 17, 59: 39}
    for copy, original in copies.items():
        photos[copy] = change(photos[original])  # type: ignore[operator]
    found = leaks(table(60), photos, np.arange(40), np.arange(40, 60))
    assert {(a, b) for a, b, _ in found.pairs} == {(a, b) for b, a in copies.items()}
    assert [bits for *_, bits in found.pairs] == sorted(bits for *_, bits in found.pairs)
    if change is np.copy:
        assert [bits for *_, bits in found.pairs] == [0, 0, 0]


def test_copies_on_one_side_are_no_leak() -> None:
    photos = scenes(20)
    photos[1], photos[19] = photos[0], photos[18]
    assert leaks(table(20), photos, np.arange(10), np.arange(10, 20)).pairs == ()


def test_rows_of_neither_side_are_no_leak() -> None:
    photos = scenes(20)
    photos[19] = photos[0]
    assert leaks(table(20), photos, np.arange(10), np.arange(10, 19)).pairs == ()
    assert leaks(table(20), photos, np.arange(1, 10), np.arange(10, 20)).pairs == ()


def test_plain_photos_are_not_taken_for_copies() -> None:
    photos = np.full((6, 64, 64, 3), 128, np.uint8)
    photos[:, 0, 0] += np.arange(6, dtype=np.uint8)[:, None]
    assert leaks(table(6), photos, np.arange(3), np.arange(3, 6)).pairs == ()


def test_persons_on_both_sides_are_named() -> None:
    groups = ["b", "a", "c", None, "a", "b", "d", None]
    found = leaks(table(8, groups), scenes(8), np.arange(4), np.arange(4, 8))
    assert found.people == ("a", "b")


@pytest.mark.parametrize(("train", "validation"), [(0, 8), (8, 0), (0, 0)])
def test_an_empty_side_has_no_leaks(train: int, validation: int) -> None:
    found = leaks(table(8, ["p"] * 8), scenes(8), np.arange(train), np.arange(8)[:validation])
    assert (found.people, found.pairs) == ((), ())


def test_photos_may_come_one_by_one() -> None:
    photos = scenes(1200, size=32)
    photos[1100] = photos[7]
    sides = np.arange(1000), np.arange(1000, 1200)
    one_by_one = leaks(table(1200), (photo for photo in photos), *sides)
    assert one_by_one == leaks(table(1200), photos, *sides)
    assert one_by_one.pairs == ((7, 1100, 0),)


def test_search_agrees_with_comparing_all_with_all() -> None:
    photos = list(scenes(30))
    photos += [noisy(photo) for photo in photos[::3]] + [mirrored(photo) for photo in photos[1::3]]
    prints = fingerprints(photos)
    bits = np.array([[f"{int(a) ^ int(b):b}".count("1") for b in prints.bits] for a in prints.bits])
    flipped = np.array([[f"{int(a) ^ int(b):b}".count("1") for b in prints.bits] for a in prints.mirrored])
    train, validation = np.arange(30), np.arange(30, 50)
    expected = {
        (int(a), int(b), int(min(bits[b, a], flipped[b, a])))
        for b in validation
        for a in train
        if min(bits[b, a], flipped[b, a]) <= 10
    }
    found = set(nearest(prints, train, validation, near_bits=10, like=0.0))
    assert found <= expected
    assert {b for _, b, _ in found} == {b for _, b, _ in expected}
    assert len(found) == 20


def test_summary_tells_counts_and_examples() -> None:
    photos = scenes(40)
    photos[20:27] = photos[:7]
    groups: list[str | None] = [None] * 40
    groups[2] = groups[30] = "ann"
    rows = table(40, groups)
    text = summary(leaks(rows, photos, np.arange(20), np.arange(20, 40)), rows, most=3)
    assert text.splitlines() == [
        "1 person on both sides of the split:",
        "  ann",
        "7 validation photos (35.0%) all but the same as one trained on (bits of 64 that differ):",
        "  20.jpg = 0.jpg (0)",
        "  21.jpg = 1.jpg (0)",
        "  22.jpg = 2.jpg (0)",
        "  ... and 4 more",
    ]
    assert summary(leaks(rows, photos, np.arange(2), np.arange(30, 40)), rows).startswith("no leak")


def test_real_portraits_are_told_apart_and_their_copies_found(real_photos: Path) -> None:
    files = sorted((real_photos / "people" / "images").iterdir())[:80]
    photos = [cv2.imread(str(file))[..., ::-1] for file in files]
    crops = [cv2.resize(photo, (224, 224), interpolation=cv2.INTER_AREA) for photo in photos]
    assert leaks(table(80), crops, np.arange(40), np.arange(40, 80)).pairs == ()
    again = leaks(
        table(160), crops + [saved_again(crop) for crop in crops], np.arange(80), np.arange(80, 160)
    )
    assert {(a, b) for a, b, _ in again.pairs} == {(a, a + 80) for a in range(80)}
