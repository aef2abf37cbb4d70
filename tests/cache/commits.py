"""Made-up commits, equal for equal numbers: for tests, and as a program that they kill.

python tests/cache/commits.py build|change|hold CACHE
python tests/cache/commits.py serve
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from cache.format import Recipe, pixel_hashes
from cache.records import Record, to_table
from cache.writer import Listed, Writer, stage_table, write_index

RECIPE = Recipe({"method": "seg", "size": [4, 6], "crop": {"margin": 0.4}}, {"source": "photos"})
PER_SHARD = 5


def record(number: int, **changes: Any) -> Record:
    """A record with something in every field; every seventh is unreadable."""
    unreadable = number % 7 == 6
    values: dict[str, Any] = {
        "key": f"person {number // 3}/{number:04d} é😷.jpg",
        "group": f"person {number // 3}" if number % 4 else None,
        "labels": {"mask": ("mask", "normal")[number % 2], "age": 20 + number},
        "sha256": f"{number:064x}",
        "bytes": 1000 + number,
        "mtime_ns": 10**18 + number,
        "width": 512,
        "height": 384,
        "box": None if unreadable else (1.5, 2.0, 30.0, 40.0 + number),
        "landmarks": None if unreadable else tuple(float(x + number) for x in range(10)),
        "crop": None if unreadable else (16.0, 20.0, 64.0, 64.0, 0.0),
        "score": None if number % 3 else 0.5,
        "rung": "" if unreadable else "plain",
        "status": "unreadable" if unreadable else "ok",
        "reason": "cut short" if unreadable else "",
        "coverage": None if unreadable else number % 5 / 4,
    }
    return Record(**{**values, **changes})


def pixels(records: list[Record], recipe: Recipe = RECIPE) -> tuple[np.ndarray, np.ndarray | None]:
    """Noise that depends on each record's key, face and file hash."""
    rows = [
        np.random.default_rng([*r.key.encode(), r.face, int(r.sha256, 16) % 2**32]).integers(
            0, 256, (*recipe.size, 4), np.uint8
        )
        for r in records
        if r.status != "unreadable"
    ]
    both = np.array(rows, np.uint8).reshape(-1, *recipe.size, 4)
    return both[..., :3], both[..., 3] if recipe.has_alpha else None


def listed(records: list[Record]) -> list[Listed]:
    """What a source would list of these records."""
    first = {r.key: r for r in records}.values()
    return [Listed(r.key, r.group, r.labels, r.bytes, r.mtime_ns) for r in first]


def build(path: Path, shards: int = 4, done: Callable[[str], object] = print) -> None:
    """Make a cache of so many shards, or go on where another build of the same stopped."""
    everything = [record(number) for number in range(shards * PER_SHARD)]
    with Writer(path, RECIPE) as writer:
        known = set(writer.cache.table["key"].to_pylist())
        for start in range(0, len(everything), PER_SHARD):
            records = everything[start : start + PER_SHARD]
            if records[0].key not in known:
                done(writer.commit(records, *pixels(records)))
        writer.finish(listed(everything[::-1]))


def change(path: Path, shards: int = 4, done: Callable[[str], object] = print) -> None:
    """Bring a built cache in line with a source that lost, changed and renamed photos of it."""
    everything = [record(number) for number in range(PER_SHARD, shards * PER_SHARD)]
    everything = [replace(r, labels={"mask": "mask", "age": r.bytes}) for r in everything]
    for number in (0, 2):
        everything[number] = replace(everything[number], sha256=f"{number + 1000:064x}")
    with Writer(path, RECIPE) as writer:
        known = set(zip(*(writer.cache.table[n].to_pylist() for n in ("key", "sha256")), strict=True))
        for changed in (everything[0], everything[2]):
            if (changed.key, changed.sha256) not in known:
                done(writer.commit([changed], *pixels([changed])))
        writer.finish(listed(everything))


def many(path: Path, rows: int, per_shard: int = 10_000) -> None:
    """Make a cache of very many rows of 2x2 px, with each column full, and quickly."""
    recipe = Recipe({"method": "none", "size": 2}, {})
    rng = np.random.default_rng(0)
    parts = []
    with Writer(path, recipe) as writer:
        for first in range(0, rows, per_shard):
            rgb = rng.integers(0, 256, (per_shard, 2, 2, 3), np.uint8)
            table = to_table([record(0, labels={}, coverage=None, group="p")]).take([0] * per_shard)
            numbers = range(first, first + per_shard)
            new: dict[str, Any] = {
                "key": [f"person {number // 7:07d}/photo {number}.jpg" for number in numbers],
                "sha256": [f"{number:064x}" for number in numbers],
                "mtime_ns": pa.array(numbers, pa.int64()),
                "label_mask": np.array(["mask", "incorrect", "normal"])[rng.integers(0, 3, per_shard)],
                "label_age": rng.integers(18, 70, per_shard),
                "slot": pa.array(range(per_shard), pa.int32()),
                "pixels": pixel_hashes(rgb, None),
            }
            for name in new:
                if name in table.column_names:
                    table = table.set_column(table.column_names.index(name), name, pa.array(new[name]))
                else:
                    table = table.append_column(name, pa.array(new[name]))
            name = writer.adopt(stage_table(path, recipe, table, rgb, None))
            place = table.column_names.index("slot")
            parts.append(table.add_column(place, "shard", pa.array([name] * per_shard)))
        write_index(path, recipe, pa.concat_tables(parts))


def contents(path: Path) -> dict[str, bytes]:
    """All bytes of a cache that do not tell of the way it was made."""
    files = (p for p in path.rglob("*") if p.is_file() and p.name not in ("lock", "builds.jsonl"))
    return {str(p.relative_to(path)): p.read_bytes() for p in files}


def die_at(step: int) -> None:
    """Kill this process before its step-th change to the disk."""
    left = [step]

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        return call

    for name in ("mkdir", "rename", "replace", "unlink", "rmdir", "fsync", "ftruncate"):
        setattr(os, name, counted(getattr(os, name)))


def serve() -> None:
    """Fork a process for each line of stdin (so that imports are paid once), and kill it.

    A line is `WORK CACHE STEP SECONDS`: build or change, where, and when to kill it: before that
    step on the disk, or after that time; -1: never. Prints what the process committed, and its
    exit code.
    """
    pa.array([0])  # imports what it needs at first use: not in every child
    os.fsync = bool  # type: ignore[assignment]  # it guards against power cuts: a killed process loses nothing by its lack
    for line in sys.stdin:
        work, path, step, seconds = line.rstrip("\n").split("\t")
        child = os.fork()
        if child == 0:
            if int(step) >= 0:
                die_at(int(step))
            {"build": build, "change": change}[work](Path(path), done=say)
            os._exit(0)
        if float(seconds) >= 0:
            until = time.monotonic() + float(seconds)
            while time.monotonic() < until and not ended(child):
                time.sleep(0.0005)
            os.kill(child, signal.SIGKILL)
        say(f"end {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}")


def ended(child: int) -> bool:
    """Whether a child has ended; it stays to be waited for."""
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def say(line: str) -> None:
    """Print a line in one step: `print` may be killed before the line's end."""
    os.write(1, f"{line}\n".encode())


def hold(path: Path) -> None:
    """Build, and hold the lock until stdin ends."""
    with Writer(path, RECIPE):
        say("holding")
        sys.stdin.read()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        {"build": build, "change": change, "hold": hold}[sys.argv[1]](Path(sys.argv[2]))
