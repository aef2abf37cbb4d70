"""Disk each time against memory, a linear preload against a parallel one, and who holds how many copies.

    python -m benchmarks.bench_preload [--quick]

Photos and augmentation as in bench_loader. Cold runs ask the system to forget the files first
(posix_fadvise DONTNEED, which needs no rights).
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.bench_loader import (
    BATCH,
    BYTES_IN,
    Row,
    build_cache,
    draw_photos,
    image_folder,
    our_rate,
    ours,
    peer_rate,
    quietly,
)
from cache import loader, memory
from cache.format import Cache
from cache.format import open as open_cache
from configs import terminal


def run(quick: bool) -> list[Row]:
    """All comparisons; one row each."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        draw_photos(place / "photos", 512 if quick else 2048)
        cache = build_cache(place / "photos", place / "cache")
        return disk_or_memory(place, cache) + processes(cache)


def disk_or_memory(place: Path, cache: Cache) -> list[Row]:
    """Disk each time against memory: epoch 1 from a cold disk, epoch 2 from what the system kept."""
    made = image_folder(place / "photos")
    forget(place)
    jpeg = [peer_rate(made), peer_rate(made)]
    forget(place)
    mapped = on_disk(open_cache(cache.path))
    disk = [our_rate(mapped, 0), our_rate(mapped, 1)]
    del mapped
    filled: dict[str, list[float]] = {"1 thread": [], f"{memory.cpus()} threads": []}
    for _ in range(3):
        for name in filled:
            forget(place)
            filled[name].append(fill_seconds(cache, int(name.split()[0])))
    warm = {name: min(fill_seconds(cache, int(name.split()[0])) for _ in range(3)) for name in filled}
    forget(place)
    started = time.perf_counter()
    pixels = quietly(open_cache(cache.path))
    count = sum(len(batch.images) for batch in ours(pixels, 0))
    first = count / (time.perf_counter() - started)
    held = [first, our_rate(pixels, 1)]
    size = len(pixels) * BYTES_IN / 1e9
    linear, parallel = (median(times) for times in filled.values())
    rows = [
        single(f"epoch {n + 1}: JPEG files, {name}", a, b, "img/s", note)
        for n in (0, 1)
        for name, a, b, note in (
            ("against decoded crops read through the map", jpeg[n], disk[n], ("cold", "warm")[n]),
            ("against memory", jpeg[n], held[n], ("cold, preload counted in", "warm")[n]),
        )
    ]
    what = "preload from a cold disk: linear against parallel"
    note = f"{size:.2f} GB; the disk's own rate bounds both"
    rows.append(single(what, size / linear, size / parallel, "GB/s", note))
    slow, fast = (size / seconds for seconds in warm.values())
    rows.append(single("preload from the page cache: linear against parallel", slow, fast, "GB/s", ""))
    return rows


def fill_seconds(cache: Cache, threads: int) -> float:
    again = open_cache(cache.path)
    started = time.perf_counter()
    quietly(again, threads=threads)
    return time.perf_counter() - started


def on_disk(cache: Cache) -> loader.Pixels:
    """Pixels that stay in the files, as where they would not fit."""
    usual, memory.available = memory.available, lambda: 0
    try:
        return quietly(cache)
    finally:
        memory.available = usual


def forget(place: Path) -> None:
    """Have the system drop these files from memory; those that are mapped are let go of first."""
    gc.collect()
    os.sync()
    for path in place.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def processes(cache: Cache, count: int = 4) -> list[Row]:
    """What four processes that were not forked from one another hold together, in copies of the data."""
    size = len(cache.usable()) * BYTES_IN
    context = multiprocessing.get_context("spawn")
    rows = []
    for shared in (False, True):
        barrier, answers = context.Barrier(count), context.Queue()
        ranks = [
            context.Process(target=rank, args=(cache.path, shared, barrier, answers)) for _ in range(count)
        ]
        for process in ranks:
            process.start()
        grown = sum(answers.get() for _ in ranks)
        for process in ranks:
            process.join()
        rows.append(grown / size)
    return [
        {
            "what": f"memory of {count} processes over one cache (growth of PSS), in copies of its pixels",
            "peer": rows[0], "ours": rows[1], "ratio": rows[0] / rows[1], "target": "<= 1.1 copies",
            "equal": "-", "note": f"peer: shared=False; {size / 1e9:.2f} GB; an epoch read by each",
        }
    ]  # fmt: skip


def rank(path: Path, shared: bool, barrier: Any, answers: Any) -> None:
    """One of the processes: how many bytes it grew by, pages that several have counted in parts."""
    torch.set_num_threads(1)
    cache = open_cache(path)
    # A first small run, so that libraries and threads are there before we count.
    for batch in ours(quietly(cache, rows=cache.usable()[:BATCH]), 0, threads=1):
        batch.images.sum()
    del batch
    barrier.wait()
    before = pss()
    barrier.wait()
    pixels = quietly(cache, shared=shared)
    int(pixels.rgb[:].sum(dtype=torch.int64))
    barrier.wait()
    after = pss()
    barrier.wait()
    answers.put(after - before)


def pss() -> int:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def single(what: str, peer: float, mine: float, unit: str, note: str) -> Row:
    return {
        "what": f"{what}, {unit}", "peer": peer, "ours": mine, "ratio": mine / peer, "target": None,
        "equal": "-", "note": note,
    }  # fmt: skip


def main() -> None:
    """Print the comparisons as a table, or as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="512 photos")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    rows = run(chosen.quick)
    print(json.dumps(rows, indent=2) if chosen.json else terminal.table(rows))


if __name__ == "__main__":
    main()
