"""How sure a score is: 95 % intervals by bootstrap over persons.

Photos of one person are right or wrong together, so persons are drawn, with replacement, and not
photos (the cluster bootstrap; Davison and Hinkley, "Bootstrap Methods", 1997, 3.8). Every score here is a
function of sums over photos: a person's photos are summed once, and a resample is a weighted sum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

ROUNDS = 2000
"""Resamples: the ends of a 95 % interval then lie on 50 of them each."""

AT_ONCE = 1 << 22
"""Numbers of one block of resamples."""

Statistic = Callable[[np.ndarray], np.ndarray]
"""Sums f64 [b k] -> values f64 [b]; NaN where a resample says nothing."""


@dataclass(frozen=True)
class Interval:
    """A score with the ends of its interval; None where fewer than two persons allow for none."""

    value: float
    low: float | None
    high: float | None

    @property
    def above_zero(self) -> bool:
        """Whether the whole interval lies above 0."""
        return self.low is not None and self.low > 0


def bootstrap(
    columns: np.ndarray,
    persons: np.ndarray,
    statistic: Statistic,
    *,
    rounds: int = ROUNDS,
    seed: int = 0,
    level: float = 0.95,
) -> Interval | None:
    """A statistic of all photos, and its percentile interval over resampled persons.

    The same persons, seed and rounds give the same resamples, whatever the columns.

    Args:
        columns: f64 [n k], what is summed over photos.
        persons: i64 [n], numbers of the persons.
        statistic: of the k sums.
        level: of the interval, 0..1.

    Returns:
        None where the statistic has no value (no photo).
    """
    if not len(columns):
        return None
    codes = np.unique(persons, return_inverse=True)[1]
    sums = np.zeros((int(codes.max()) + 1, columns.shape[1]))
    np.add.at(sums, codes, columns)
    value = float(statistic(sums.sum(0, keepdims=True))[0])
    if np.isnan(value):
        return None
    if len(sums) < 2:
        return Interval(value, None, None)
    weights = _weights(len(sums), rounds, seed)
    step = max(1, AT_ONCE // len(sums))
    blocks = [weights[at : at + step].astype(float) @ sums for at in range(0, rounds, step)]
    values = np.concatenate([statistic(block) for block in blocks])
    values = values[~np.isnan(values)]
    if not len(values):
        return Interval(value, None, None)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))


@lru_cache(maxsize=2)
def _weights(persons: int, rounds: int, seed: int) -> np.ndarray:
    """How often each person is in each resample: u8 [rounds persons]; the scores of a report share them."""
    rng = np.random.default_rng(seed)
    out = np.empty((rounds, persons), np.uint8)
    step = max(1, AT_ONCE // persons)
    even = np.full(persons, 1 / persons)
    for at in range(0, rounds, step):  # nobody is drawn 256 times: that has odds below 1e-500
        out[at : at + step] = rng.multinomial(persons, even, size=min(step, rounds - at))
    return out


# --- the scores as sums


def of_hits(hits: np.ndarray) -> np.ndarray:
    """Columns for `share`: hits bool or f64 [n] -> f64 [n 2]."""
    return np.stack([hits.astype(float), np.ones(len(hits))], axis=1)


def share(sums: np.ndarray) -> np.ndarray:
    """Hits of photos: accuracy."""
    return _ratio(sums[:, 0], sums[:, 1])


def of_difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Columns for `difference`, of two values of the same photos: f64 [n 3]."""
    return np.stack([first.astype(float), second.astype(float), np.ones(len(first))], axis=1)


def difference(sums: np.ndarray) -> np.ndarray:
    """How much larger the first mean is than the second."""
    return _ratio(sums[:, 0] - sums[:, 1], sums[:, 2])


def of_answers(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Columns for the four scores below, hit, truth, answer: labels, answers i64 [n] -> f64 [n 3c]."""
    eye = np.eye(classes)
    truth, answer = eye[labels], eye[predicted]
    return np.concatenate([truth * answer, truth, answer], axis=1)


def macro_f1(sums: np.ndarray) -> np.ndarray:
    """Mean F1 of the classes that occur in the truth or in the answers, as `metrics.scores` has it."""
    hit, truth, answer = np.split(sums, 3, axis=1)
    f1 = 2 * hit / np.maximum(truth + answer, 1e-12)
    return _ratio(f1.sum(1), (truth + answer > 0).sum(1))


def accuracy(sums: np.ndarray) -> np.ndarray:
    """Hits of photos."""
    hit, truth, _ = np.split(sums, 3, axis=1)
    return _ratio(hit.sum(1), truth.sum(1))


def chance(sums: np.ndarray) -> np.ndarray:
    """The accuracy of the same answers, dealt out to the photos at random."""
    _, truth, answer = np.split(sums, 3, axis=1)
    return _ratio((truth * answer).sum(1), truth.sum(1) ** 2)


def beyond_chance(sums: np.ndarray) -> np.ndarray:
    """Accuracy less `chance`: 0 for answers that know nothing, however unequal the classes are."""
    return accuracy(sums) - chance(sums)


def gap(sums: np.ndarray) -> np.ndarray:
    """Accuracy of some photos less that of others; columns: hits, photos of the ones, of the others."""
    return _ratio(sums[:, 0], sums[:, 1]) - _ratio(sums[:, 2], sums[:, 3])


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
