"""What is on both sides of a split: persons, and photos that are all but the same."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from cache.likeness import LIKE, NEAR_BITS, fingerprints, nearest


@dataclass(frozen=True)
class Leaks:
    """What is on both sides.

    Attributes:
        people: the groups with photos on both sides, sorted.
        pairs: for each validation photo that is all but in the training part too, the nearest one
            there: (training row, validation row, bits that differ), the nearest first.
        training: how many rows are trained on.
        validation: how many rows validate.
    """

    people: tuple[str, ...]
    pairs: tuple[tuple[int, int, int], ...]
    training: int
    validation: int


def leaks(
    table: pa.Table,
    photos: Iterable[np.ndarray],
    train: np.ndarray,
    validation: np.ndarray,
    *,
    near_bits: int = NEAR_BITS,
    like: float = LIKE,
) -> Leaks:
    """Persons and near-identical photos on both sides of a split.

    Two photos are near-identical where their fingerprints, or that of one and the other's mirrored
    self, differ in at most `near_bits` bits, and their shrunk grey selves correlate by `like`: the
    fingerprints alone would take two portraits of the same pose for the same photo.

    Args:
        table: the rows' table; its column `group` is read.
        photos: the table's pixels, u8 [h w 3] each, one a row, in its order: an array, or anything
            that gives one after the other.
        train: i64 [a], rows of the table.
        validation: i64 [b], rows of the table.
        near_bits: 0..64.
        like: the least correlation, 0..1.
    """
    groups = np.array(table["group"].to_pylist(), dtype=object)
    shared = (set(groups[train]) & set(groups[validation])) - {None}
    pairs = nearest(fingerprints(photos), train, validation, near_bits=near_bits, like=like)
    return Leaks(
        people=tuple(sorted(shared)),
        pairs=tuple(sorted(pairs, key=lambda pair: (pair[2], pair[1]))),
        training=len(train),
        validation=len(validation),
    )


def summary(found: Leaks, table: pa.Table, *, most: int = 5) -> str:
    """What was found, for people: a line for each kind of leak, and a few examples of it."""
    if not (found.people or found.pairs):
        return "no leak: no person and no near-identical photo on both sides of the split"
    lines = []
    if found.people:
        lines.append(f"{_count(len(found.people), 'person')} on both sides of the split:")
        lines += [f"  {name}" for name in found.people[:most]] + _more(len(found.people) - most)
    if found.pairs:
        share = len(found.pairs) / found.validation
        photos = _count(len(found.pairs), "validation photo")
        lines.append(f"{photos} ({share:.1%}) all but the same as one trained on (bits of 64 that differ):")
        keys = table["key"]
        lines += [f"  {keys[b]} = {keys[a]} ({bits})" for a, b, bits in found.pairs[:most]]
        lines += _more(len(found.pairs) - most)
    return "\n".join(lines)


def _count(number: int, noun: str) -> str:
    plural = {"person": "persons"}.get(noun, f"{noun}s")
    return f"{number} {noun if number == 1 else plural}"


def _more(rest: int) -> list[str]:
    return [f"  ... and {rest} more"] if rest > 0 else []
