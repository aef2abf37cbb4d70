"""What the pages count: misses by class with a test against chance, histograms, time per photo."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROUNDS = 4999
BEYOND_CHANCE = 0.01
"""A difference is flagged below this probability, shared out over all tests of a page (Bonferroni)."""

MOST_CLASSES = 12
"""Numbers with more distinct values than this are looked at in fifths."""


@dataclass(frozen=True)
class ClassCount:
    """Of one class: its name, how many photos, how many of them missed."""

    name: str
    photos: int
    missed: int


@dataclass(frozen=True)
class Misses:
    """Misses of one label by class; p: probability that chance alone differs so much, or None."""

    label: str
    classes: tuple[ClassCount, ...]
    p: float | None


def misses_by_class(
    label: str, values: Sequence[Any], missed: np.ndarray, groups: np.ndarray, *, seed: int = 0
) -> Misses:
    """Count what was missed in each class of a label, and test whether the classes differ.

    Args:
        label: its name.
        values: one a photo; numbers with many values are put into fifths; None is a class.
        missed: bool[n].
        groups: i64[n], the photo's person.
        seed: of the test's shuffles.
    """
    names, codes = classes_of(values)
    photos = np.bincount(codes, minlength=len(names))
    misses = np.bincount(codes, weights=missed, minlength=len(names)).astype(int)
    counts = [ClassCount(*row) for row in zip(names, photos.tolist(), misses.tolist(), strict=True)]
    return Misses(label, tuple(counts), miss_test(codes, missed, groups, seed=seed))


def classes_of(values: Sequence[Any]) -> tuple[list[str], np.ndarray]:
    """Names of the classes in order, and each value's class, i64[n]."""
    known = [value for value in values if value is not None]
    if not known:
        return ["unknown"], np.zeros(len(values), np.int64)
    numeric = all(isinstance(value, int | float) for value in known)
    if numeric and len(set(known)) > MOST_CLASSES:
        return _fifths(values)
    order = sorted(set(known)) if numeric else sorted({str(value) for value in known})
    names = [str(value) for value in order] + (["unknown"] if len(known) < len(values) else [])
    place = {value: code for code, value in enumerate(order)}
    codes = [len(order) if v is None else place[v if numeric else str(v)] for v in values]
    return names, np.array(codes, np.int64)


def miss_test(codes: np.ndarray, missed: np.ndarray, groups: np.ndarray, *, seed: int = 0) -> float | None:
    """Probability that misses differ so much between classes by chance: a permutation test.

    The statistic is Pearson's chi-square of misses by class. Photos of one person are missed or
    found together, so a label that is the person's own (gender, age) is shuffled between persons;
    one that varies within a person is shuffled between photos, which errs on the side of chance.

    Args:
        codes: i64[n], the class.
        missed: bool[n].
        groups: i64[n], the person.

    Returns:
        In (0, 1], or None where there is nothing to compare: one class, none or all missed.
    """
    codes = np.unique(codes, return_inverse=True)[1]
    classes, total = codes.max(initial=0) + 1, int(missed.sum())
    if classes < 2 or total in (0, len(codes)):
        return None
    rng = np.random.default_rng(seed)
    persons = np.unique(groups, return_inverse=True)[1]
    photos, misses = (np.bincount(persons, weights=w).astype(int) for w in (np.ones(len(codes)), missed))
    own = np.zeros(len(photos), np.int64)
    own[persons] = codes
    sizes = np.bincount(codes, minlength=classes)
    actual = np.bincount(codes, weights=missed, minlength=classes)
    if len(photos) < len(codes) and (own[persons] == codes).all():
        shuffled = [rng.permutation(own) for _ in range(ROUNDS)]
        n, m = (np.array([np.bincount(s, w, classes) for s in shuffled]) for w in (photos, misses))
    else:
        # Shuffling photos gives each class a hypergeometric number of misses: drawn at once.
        n, m = sizes[None], rng.multivariate_hypergeometric(sizes, total, size=ROUNDS)
    rate = total / len(codes)
    as_extreme = _chi_square(n, m, rate) >= _chi_square(sizes[None], actual[None], rate) - 1e-9
    return float((1 + as_extreme.sum()) / (1 + ROUNDS))


def beyond_chance(p: float | None, tests: int) -> bool:
    """Whether a page that makes so many tests should point at this one."""
    return p is not None and p < BEYOND_CHANCE / max(1, tests)


def histogram(shares: np.ndarray, bins: int = 20) -> list[int]:
    """Counts of values in 0..1, in equal bins; NaN is left out."""
    known = shares[~np.isnan(shares)]
    return np.histogram(known, bins=bins, range=(0.0, 1.0))[0].tolist()


def last_build(cache: Path) -> dict[str, Any] | None:
    """The newest line of builds.jsonl that tells of new photos and how long they took, or None.

    Returns:
        {"photos": int, "seconds": float by the clock, "stages": {name: seconds, of all threads}}
    """
    try:
        lines = (cache / "builds.jsonl").read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        try:
            entry = json.loads(line)
            photos, stages = int(entry["new"]), {str(k): float(v) for k, v in entry["seconds"].items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # a build that was killed may leave half a line
        seconds = stages.pop("total", sum(stages.values()))
        if photos and seconds:
            return {"photos": photos, "seconds": seconds, "stages": stages}
    return None


def _chi_square(photos: np.ndarray, misses: np.ndarray, rate: float) -> np.ndarray:
    """f64[rounds] of misses [rounds classes] among photos [rounds classes], given the rate in all."""
    expected = np.maximum(photos * rate, 1e-12)
    return ((misses - expected) ** 2 / (expected * (1 - rate))).sum(axis=1)


def _fifths(values: Sequence[Any]) -> tuple[list[str], np.ndarray]:
    numbers = np.array([np.nan if value is None else value for value in values], float)
    known = numbers[~np.isnan(numbers)]
    borders = np.unique(np.sort(known)[[len(known) * fifth // 5 for fifth in (1, 2, 3, 4)]])
    codes = np.searchsorted(borders, numbers, side="right")
    names = []
    for code in range(len(borders) + 1):
        inside = known[np.searchsorted(borders, known, side="right") == code]
        names.append(f"{inside.min():g} to {inside.max():g}" if len(inside) else "none")
    if len(known) < len(numbers):
        names.append("unknown")
        codes[np.isnan(numbers)] = len(names) - 1
    return names, codes
