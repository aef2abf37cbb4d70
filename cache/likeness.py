"""Which photos are all but the same.

A photo's fingerprint is 64 bits of its low frequencies (a DCT hash: Zauner, "Implementation and
Benchmarking of Perceptual Image Hash Functions", 2010, section 3.2.1), which stay when it is saved
again, resized, or made a little brighter. Its mirrored self has the same numbers, every other column
of them negated, and is looked for too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import cv2
import numpy as np

SIDE_PX = 32
"""Photos are shrunk to this before their DCT."""

LOW = 8
"""The frequencies kept, each way."""

NEAR_BITS = 10
"""Of 64: photos whose fingerprints differ in no more bits may be the same."""

LIKE = 0.95
"""The least correlation of two photos that are the same, shrunk to `SIDE_PX`.

Of 540 real photos (portraits, and faces with and without masks; 145,000 pairs) the pairs of one photo
saved twice lie at <= 4 bits and >= 0.98, all others at 8 bits and more, none above 0.90. A photo's copies
saved as JPEG of quality 30, at half the size, with noise, or mirrored lie at <= 4 bits and >= 0.998.
"""

MOST = 64
"""Photos compared with one: of photos that all look the same the first few tell it."""


@dataclass(frozen=True)
class Fingerprints:
    """Of n photos.

    Attributes:
        bits: u64 [n].
        mirrored: u64 [n], of the photos with left and right exchanged.
        small: f32 [n 1024], the photos in grey, shrunk, of mean 0 and length 1 (a plain one: 0).
    """

    bits: np.ndarray
    mirrored: np.ndarray
    small: np.ndarray


def fingerprints(photos: Iterable[np.ndarray]) -> Fingerprints:
    """The fingerprints of photos, u8 [h w 3] each."""
    with ThreadPoolExecutor() as pool:
        shrunk = [each for chunk in _chunks(photos, 512) for each in pool.map(_shrink, chunk)]
    small = np.stack(shrunk) if shrunk else np.zeros((0, SIDE_PX, SIDE_PX), np.float32)
    basis = _dct_basis()
    low = basis @ small @ basis.T
    flat = (small - small.mean(axis=(1, 2), keepdims=True)).reshape(len(small), SIDE_PX**2)
    # below this a photo is one plain colour, and what is left of it rounding
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    flat = np.where(length > SIDE_PX, flat / np.maximum(length, 1e-6), 0).astype(np.float32)
    return Fingerprints(_bits(low), _bits(low * (-1.0) ** np.arange(LOW)), flat)


def nearest(
    prints: Fingerprints, train: np.ndarray, validation: np.ndarray, *, near_bits: int, like: float
) -> Iterator[tuple[int, int, int]]:
    """For each validation row the training row that it all but equals, if any: (training, validation, bits).

    Of its training rows within `near_bits` the `MOST` nearest are compared.
    """
    if not len(train):
        return
    for rows in np.array_split(validation, max(1, len(validation) // 256)):
        bits = _differing(prints, rows, train)
        for place in np.flatnonzero((bits <= near_bits).any(axis=1)):
            near = np.argsort(bits[place], kind="stable")[:MOST]
            near = near[bits[place, near] <= near_bits]
            row, others = rows[place], train[near]
            alike = _correlation(prints.small[row], prints.small[others])
            if alike.max() >= like:
                best = alike.argmax()
                yield int(others[best]), int(row), int(bits[place, near[best]])


def alike(prints: Fingerprints, *, near_bits: int = NEAR_BITS, like: float = LIKE) -> list[list[int]]:
    """Groups of photos that are all but the same as another one of their group, the largest first.

    Returns:
        Lists of two or more row numbers, rising.
    """
    parent = list(range(len(prints.bits)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for start in range(0, len(parent), 256):
        rows = np.arange(start, min(start + 256, len(parent)))
        bits = _differing(prints, rows, np.arange(rows[-1] + 1))
        near = (bits <= near_bits) & (np.arange(bits.shape[1]) < rows[:, None])
        for place in np.flatnonzero(near.any(axis=1)):
            others = np.flatnonzero(near[place])
            others = others[np.argsort(bits[place, others], kind="stable")[:MOST]]
            same = _correlation(prints.small[rows[place]], prints.small[others]) >= like
            for other in others[same]:
                parent[root(int(rows[place]))] = root(int(other))
    found: dict[int, list[int]] = {}
    for row in range(len(parent)):
        found.setdefault(root(row), []).append(row)
    return sorted((group for group in found.values() if len(group) > 1), key=len, reverse=True)


def _differing(prints: Fingerprints, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Bits that differ between photos, or one and the other's mirrored self; u8 [rows others]."""
    return np.minimum(
        np.bitwise_count(prints.bits[rows, None] ^ prints.bits[others]),
        np.bitwise_count(prints.mirrored[rows, None] ^ prints.bits[others]),
    )


def _correlation(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Of a photo, f32 [1024], with others, f32 [m 1024], or with their mirrored selves; f32 [m]."""
    mirrored = one.reshape(SIDE_PX, SIDE_PX)[:, ::-1].ravel()
    return np.maximum(others @ one, others @ mirrored)


def _shrink(photo: np.ndarray) -> np.ndarray:
    """U8 [h w 3] -> f32 [32 32], grey."""
    small = cv2.resize(photo, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)


def _dct_basis() -> np.ndarray:
    """f32 [8 32]: the lowest frequencies of the DCT-II, unscaled: bits are set by comparison alone."""
    frequency, place = np.arange(LOW)[:, None], np.arange(SIDE_PX)
    return np.cos(np.pi / SIDE_PX * frequency * (place + 0.5)).astype(np.float32)


def _bits(low: np.ndarray) -> np.ndarray:
    """f32 [n 8 8] -> u64 [n]: which coefficients are above their median (of all but the mean brightness)."""
    flat = low.reshape(len(low), LOW**2)
    above = flat > np.median(flat[:, 1:], axis=1, keepdims=True)
    above[:, 0] = False
    return np.packbits(above, axis=1).view(np.uint64).ravel()


def _chunks(photos: Iterable[np.ndarray], size: int) -> Iterator[list[np.ndarray]]:
    """Lists of so many: a pool would otherwise read all of an iterator before it starts."""
    each = iter(photos)
    while chunk := list(islice(each, size)):
        yield chunk
