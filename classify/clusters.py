"""Backgrounds in clusters: colour and texture of the ground, k-means, and how many clusters there are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SUBSTANTIAL = 0.25
"""Silhouettes below this mean "no substantial structure" (Kaufman and Rousseeuw, "Finding Groups in Data",
1990, table 4)."""

MOST = 8
"""Clusters that are tried: 2 to so many."""

LOOKED_AT = 600
"""Photos of which the silhouette is computed: it takes all pairs."""

RESTARTS = 8
ITERATIONS = 100


@dataclass(frozen=True)
class Clusters:
    """Clusters of photos by their grounds.

    Attributes:
        of: i64 [n], each photo's cluster, by falling size; all 0 where there are none.
        count: how many, 1 where the grounds fall into none.
        silhouette: of the best division that was tried, -1..1.
    """

    of: np.ndarray
    count: int
    silhouette: float


def features(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Colour and texture of the ground of each crop, f64 [n 11].

    Means and deviations of brightness and of two opponent colours (red - green, yellow - blue), edges
    across and down, mean brightness of the upper, the left and the right third. All are in 0..1, and
    are compared as they are: scaled to one spread, what is but noise would count as much as colour.

    Args:
        rgb: u8 [n h w 3].
        alpha: u8 [n h w].
    """
    r, g, b = np.moveaxis(rgb.astype(np.float32) / 255, 3, 0)
    planes = {"light": (r + g + b) / 3, "red": r - g, "yellow": (r + g) / 2 - b}
    weight = ((255 - alpha) / 255.0).astype(np.float32) ** 4  # soft pixels bear the figure's colours
    out = []
    for plane in planes.values():
        mean = _mean(plane, weight)
        spread = _mean((plane - mean[:, None, None]) ** 2, weight)
        out += [mean, np.sqrt(spread)]
    for axis in (1, 2):
        steps = np.abs(np.diff(planes["light"], axis=axis))
        both = np.minimum(*(np.take(weight, range(s, weight.shape[axis] - 1 + s), axis) for s in (0, 1)))
        out.append(np.sqrt(_mean(steps, both)))
    height, width = weight.shape[1:]
    for place in (np.s_[:, : height // 3], np.s_[:, :, : width // 3], np.s_[:, :, -(width // 3) :]):
        out.append(_mean(planes["light"][place], weight[place]))
    return np.stack(out, axis=1).astype(float)


def cluster(values: np.ndarray, *, seed: int = 0) -> Clusters:
    """Divide photos by features f64 [n k] into as many clusters as fit best, or none.

    The number is the one of the largest mean silhouette (Rousseeuw, 1987); below `SUBSTANTIAL`
    the photos are one cluster.
    """
    n = len(values)
    best = Clusters(np.zeros(n, np.int64), 1, -1.0)
    sample = np.random.default_rng(seed).permutation(n)[:LOOKED_AT]
    for count in range(2, min(MOST, n - 1) + 1):
        of = kmeans(values, count, seed=seed)
        found = silhouette(values[sample], of[sample])
        if found > best.silhouette:
            best = Clusters(of, count, found)
    if best.silhouette < SUBSTANTIAL:
        return Clusters(np.zeros(n, np.int64), 1, best.silhouette)
    return best


def kmeans(points: np.ndarray, count: int, *, seed: int = 0) -> np.ndarray:
    """The cluster of each point, i64 [n], by falling size: Lloyd's iterations, the best of some starts.

    Starts are drawn far apart (k-means++; Arthur and Vassilvitskii, 2007).
    """
    rng = np.random.default_rng([seed, count])
    best, least = np.zeros(len(points), np.int64), np.inf
    for _ in range(RESTARTS):
        centres = _starts(points, count, rng)
        of = np.full(len(points), -1)
        for _ in range(ITERATIONS):
            away = _distances(points, centres)
            new = away.argmin(1)
            if (new == of).all():
                break
            of = new
            for i in range(count):
                # an emptied cluster begins again at the point that fits worst
                centres[i] = points[of == i].mean(0) if (of == i).any() else points[away.min(1).argmax()]
        cost = _distances(points, centres).min(1).sum()
        if cost < least:
            best, least = of, cost
    order = np.argsort(-np.bincount(best, minlength=count), kind="stable")
    return np.argsort(order)[best]


def silhouette(points: np.ndarray, of: np.ndarray) -> float:
    """The mean of (b - a) / max(a, b), a: mean distance within the own cluster, b: to the nearest other.

    A point alone in its cluster counts 0; -1 where there is but one cluster.
    """
    names, codes, sizes = np.unique(of, return_inverse=True, return_counts=True)
    if len(names) < 2:
        return -1.0
    away = np.sqrt(_distances(points, points))
    sums = away @ np.eye(len(names))[codes]
    rows = np.arange(len(points))
    own = sums[rows, codes] / np.maximum(sizes[codes] - 1, 1)
    means = sums / sizes
    means[rows, codes] = np.inf
    other = means.min(1)
    widths = np.where(sizes[codes] > 1, (other - own) / np.maximum(np.maximum(own, other), 1e-12), 0.0)
    return float(widths.mean())


def _starts(points: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    centres = [points[rng.integers(len(points))]]
    for _ in range(count - 1):
        away = _distances(points, np.array(centres)).min(1)
        total = away.sum()
        odds = away / total if total > 0 else None
        centres.append(points[rng.choice(len(points), p=odds)])
    return np.array(centres)


def _distances(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Squared, f64 [n m]."""
    away = (points**2).sum(1)[:, None] - 2 * points @ centres.T + (centres**2).sum(1)
    return np.maximum(away, 0)


def _mean(plane: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return (plane * weight).sum((1, 2)) / np.maximum(weight.sum((1, 2)), 1e-6)
