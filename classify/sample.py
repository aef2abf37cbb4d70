"""In what order, and how often, an epoch shows the training photos.

Every sampler is `fn(classes i64 [n], rng, *, settings) -> i64 [m]`, positions in `classes`. Photos of
unknown class (-1) count as one class more.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def shuffle(classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each photo once."""
    return rng.permutation(len(classes))


def weighted(
    classes: np.ndarray, rng: np.random.Generator, *, power: float = 1.0, length: float = 1.0
) -> np.ndarray:
    """Photos drawn with replacement, each with probability in proportion to its class's count ** -power.

    Args:
        classes: i64 [n].
        rng: the draw's source.
        power: 1 shows every class equally often, 0.5 lies half-way, 0 draws without regard to class.
        length: draws an epoch, as a share of the photos.
    """
    if not len(classes):
        return np.zeros(0, np.int64)
    weights = class_counts(classes).astype(np.float64) ** -power
    return rng.choice(len(classes), size=round(len(classes) * length), p=weights / weights.sum())


def oversample(classes: np.ndarray, rng: np.random.Generator, *, share: float = 1.0) -> np.ndarray:
    """Each photo at least once, those of rare classes again, up to a share of the largest class.

    Args:
        classes: i64 [n].
        rng: the draw's source.
        share: a class with fewer photos than this share of the largest class's is repeated up to it;
            its photos are shown equally often, but for one showing.
    """
    wanted = int(np.ceil(np.unique(classes, return_counts=True)[1].max(initial=0) * share))
    shown = []
    for name in np.unique(classes):
        photos = np.flatnonzero(classes == name)
        whole, rest = divmod(max(wanted, len(photos)), len(photos))
        shown += [np.tile(photos, whole), rng.permutation(photos)[:rest]]
    return rng.permutation(np.concatenate(shown)) if shown else np.zeros(0, np.int64)


SAMPLERS: dict[str, Callable[..., np.ndarray]] = {
    "shuffle": shuffle,
    "weighted": weighted,
    "oversample": oversample,
}


def class_counts(classes: np.ndarray) -> np.ndarray:
    """For each photo, how many share its class, i64 [n]."""
    _, place, counts = np.unique(classes, return_inverse=True, return_counts=True)
    return counts[place]
