"""What a cache holds, in numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from cache.format import NPY_HEADER, Cache, index_names, open, read_arrow, read_builds, shard_names
from cache.records import LABEL, label_names

MANY = 20
"""A label of more numbers than this is shown by its range, of more texts by its commonest."""


def info(path: Path) -> dict[str, Any]:
    """Counts of a cache, its recipe and its builds; plain JSON values.

    Raises:
        CacheError: there is no cache, or it is damaged.
    """
    cache = open(path)
    builds = [build for build in read_builds(path) if build]
    files = [file for file in path.rglob("*") if file.is_file()]
    return {
        "cache": str(path),
        "records": len(cache),
        "photos": pc.count_distinct(cache.table["key"]).as_py(),
        "persons": pc.count_distinct(cache.table["group"]).as_py(),
        "size": list(cache.size),
        "alpha": cache.has_alpha,
        "status": _counts(cache, "status"),
        "rung": _counts(cache, "rung"),
        "labels": {name: _distribution(cache, name) for name in label_names(cache.table)},
        "bytes": sum(file.stat().st_size for file in files),
        "shards": len(shard_names(path)),
        "dead_share": _dead_share(cache),
        "unfinished_shards": _unfinished(path),
        "recipe": {
            "digest": cache.recipe.digest,
            "identity": cache.recipe.identity,
            "made_with": cache.recipe.made_with,
        },
        "builds": builds,
    }


def _counts(cache: Cache, column: str) -> dict[str, int]:
    pairs = pc.value_counts(cache.table[column]).to_pylist()
    ordered = sorted(pairs, key=lambda pair: (-pair["counts"], str(pair["values"])))
    return {"(unknown)" if p["values"] is None else str(p["values"]): p["counts"] for p in ordered}


def _distribution(cache: Cache, name: str) -> dict[str, Any]:
    """A label's values with their counts; of many numbers the range, of many texts the commonest."""
    counts = _counts(cache, LABEL + name)
    column = cache.table[LABEL + name]
    if len(counts) <= MANY:
        return {"counts": counts}
    if column.type == "string":
        return {"values": len(counts), "counts": dict(list(counts.items())[:MANY])}
    known = column.drop_null().to_numpy()
    return {
        "values": len(counts),
        "unknown": column.null_count,
        "least": known.min().item(),
        "median": float(np.median(known)),
        "most": known.max().item(),
    }


def _dead_share(cache: Cache) -> float:
    """The share of the stored crops that no row refers to any more: of changed or removed photos."""
    row = 3 * cache.size[0] * cache.size[1]
    stored = 0
    for name in shard_names(cache.path):
        file = cache.path / "shards" / name / "rgb.npy"
        stored += (file.stat().st_size - NPY_HEADER) // row if file.exists() else 0
    return max(0.0, 1 - len(cache.usable()) / stored) if stored else 0.0


def _unfinished(path: Path) -> int:
    """Shards that a stopped build left without an index."""
    names = index_names(path)
    if not names:
        return len(shard_names(path))
    known = read_arrow(path / names[-1], mapped=True)[1]
    return len(set(shard_names(path)) - {*known["shards"], *known["dead"]})
