"""The cache on the disk: opening, a rebuild with nothing to do, committing, verifying, gathering.

python -m benchmarks.bench_cache [--quick]
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
import pyarrow.parquet as pq

from cache.format import Recipe, open
from cache.records import Record
from cache.verify import verify
from cache.writer import Listed, Writer
from configs import terminal
from tests.cache.commits import many

SIZE = 224
PER_SHARD = 256


def run(quick: bool) -> list[dict[str, Any]]:
    """All rows; a temporary folder is filled and removed."""
    with tempfile.TemporaryDirectory() as folder:
        return [
            opening(Path(folder), 100_000 if quick else 1_000_000),
            nothing_to_do(Path(folder), 20_000),
            *pixels(Path(folder), 4 if quick else 16),
        ]


def in_turns(repeats: int, *works: Callable[[], Any]) -> list[float]:
    """Median seconds of each work, after one turn to warm up."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(repeats + 1):
        for work, own in zip(works, times, strict=True):
            begin = time.perf_counter()
            work()
            own.append(time.perf_counter() - begin)
    return [median(own[1:]) for own in times]


def row(what: str, peer: float, ours: float, target: str, equal: bool, note: str) -> dict[str, Any]:
    return {
        "what": what,
        "peer": peer,
        "ours": ours,
        "ratio": peer / ours,
        "target": target,
        "equal": equal,
        "note": note,
    }


def opening(folder: Path, rows: int) -> dict[str, Any]:
    """Open a cache, against reading the same table from Parquet."""
    path = folder / "many"
    many(path, rows)
    pq.write_table(open(path).table, folder / "many.parquet")
    seconds = in_turns(5, lambda: pq.read_table(folder / "many.parquet"), lambda: open(path))
    equal = pq.read_table(folder / "many.parquet").equals(open(path).table)
    note = f"seconds; {rows:,} rows; peer: the same table read from Parquet"
    return row("open a cache", *seconds, target="<= 0.3 s at 1,000,000 rows", equal=equal, note=note)


def nothing_to_do(folder: Path, photos: int) -> dict[str, Any]:
    """Writer, plan by table, finish, of an unchanged source; against a stat of each file."""
    recipe, path, source = Recipe({"method": "none", "size": 2}), folder / "same", folder / "photos"
    source.mkdir()
    names = [f"{number:06d}.jpg" for number in range(photos)]
    for name in names:
        (source / name).write_bytes(b"")
    labels = [{"mask": ("mask", "normal")[number % 2], "age": number % 60} for number in range(photos)]
    listing = [Listed(name, name[:4], own, 0, 7) for name, own in zip(names, labels, strict=True)]
    with Writer(path, recipe) as writer:
        for first in range(0, photos, 1000):
            records = [
                Record(
                    key=p.key, group=p.group, labels=p.labels, sha256=p.key, bytes=0, mtime_ns=7, rung="whole"
                )
                for p in listing[first : first + 1000]
            ]
            writer.commit(records, np.zeros((len(records), 2, 2, 3), np.uint8))
        writer.finish(listing)
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*") if file.name != "lock"}

    def again() -> None:
        with Writer(path, recipe) as writer:
            writer.finish(listing)

    seconds = in_turns(5, lambda: [os.stat(source / name) for name in names], again)  # noqa: PTH116
    equal = before == {file: file.stat().st_mtime_ns for file in path.rglob("*") if file.name != "lock"}
    note = f"seconds; {photos:,} photos, opened, compared, nothing written; peer: a stat of each file"
    return row(
        "finish with nothing to do", *seconds, target="little more than the stats", equal=equal, note=note
    )


def pixels(folder: Path, shards: int) -> list[dict[str, Any]]:
    """Commit, verify and gather crops of 224 px with alpha."""
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (PER_SHARD, SIZE, SIZE, 3), np.uint8)
    alpha = rng.integers(0, 256, (PER_SHARD, SIZE, SIZE), np.uint8)
    recipe, total = Recipe({"method": "seg", "size": SIZE}), shards * (rgb.nbytes + alpha.nbytes)
    path = folder / "cache"

    def raw() -> None:
        for shard in range(shards):
            with (folder / f"raw {shard}").open("wb") as file:
                file.write(rgb)
                file.write(alpha)
                os.fsync(file.fileno())

    def commit() -> None:
        shutil.rmtree(path, ignore_errors=True)
        with Writer(path, recipe) as writer:
            for shard in range(shards):
                keys = [f"{shard}/{number}" for number in range(PER_SHARD)]
                records = [
                    Record(key=key, labels={}, sha256=key, bytes=0, mtime_ns=0, rung="plain") for key in keys
                ]
                writer.commit(records, rgb, alpha)

    written = [total / s / 1e9 for s in in_turns(3, raw, commit)]
    cache = open(path)
    files = [file for file in path.rglob("*") if file.is_file()]

    def sums() -> list[str]:
        return [hashlib.blake2b(file.read_bytes()).hexdigest() for file in files]

    checked = [total / s / 1e9 for s in in_turns(3, sums, lambda: verify(path))]
    order = rng.permutation(len(cache))[:512]
    arrays = [cache.shard(n)[0] for n in range(len(cache.shards))]

    def naive() -> np.ndarray:
        return np.stack([arrays[n][slot] for n, slot in zip(*(p[order] for p in cache.places), strict=True)])

    gathered = [len(order) * rgb[0].nbytes / s / 1e9 for s in in_turns(5, naive, lambda: cache.rgb(order))]
    equal = bool((cache.rgb(order) == naive()).all())
    whole = verify(path).ok and bool((cache.rgb(range(PER_SHARD)) == rgb).all())
    return [
        turned("commit", written, "GB/s; peer: write + fsync of the same bytes, no hashes", whole),
        turned("verify", checked, "GB/s, page cache warm; peer: BLAKE2b of each file in one thread", whole),
        turned("gather 512 random rows", gathered, "GB/s, page cache warm; peer: a row at a time", equal),
    ]


def turned(what: str, rates: list[float], note: str, equal: bool) -> dict[str, Any]:
    """A row of rates: more is better, so the ratio is ours by the peer's."""
    return {**row(what, rates[0], rates[1], "", equal, note), "ratio": rates[1] / rates[0]}


@click.command()
@click.option("--quick", is_flag=True, help="Fewer rows.")
def main(quick: bool) -> None:
    """Measure the cache on the disk."""
    rows = run(quick)
    terminal.show(terminal.table(rows))


if __name__ == "__main__":
    main()
