"""Writing a cache: shards committed by rename, an index in the source's order, one build at a time."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cache.disk import LEFT, on_disk, put, release_lock, sync, take_lock, write
from cache.format import (
    FORMAT,
    META,
    Cache,
    CacheError,
    Recipe,
    canonical,
    differences,
    index_names,
    npy_header,
    open,
    pixel_hashes,
    read_arrow,
    read_builds,
    read_recipe,
    seal,
    shard_names,
    shard_number,
)
from cache.records import FIXED, LABEL, Label, Record, to_table
from cache.tables import PLACE, label_array


@dataclass(frozen=True)
class Listed:
    """What a source tells of a photo without reading it; the fields are those of a Record."""

    key: str
    group: str | None
    labels: dict[str, Label]
    bytes: int
    mtime_ns: int


class Writer:
    """The only one that writes to a cache, from its making to `close`.

    Whatever `commit` returned from is safe: the process may be killed, the machine may lose
    power. Equal commits leave equal bytes, whether in one run or in many.

    Raises:
        CacheError: the folder holds something else, a cache of another recipe (with what differs),
            or can't be written to; or another process is writing to it.
    """

    def __init__(self, path: str | os.PathLike[str], recipe: Recipe) -> None:
        self.path = Path(path)
        self.recipe = recipe
        self._cache: Cache | None = None
        _may_build_in(self.path)
        with on_disk(self.path):
            (self.path / "shards").mkdir(parents=True, exist_ok=True)
        self._lock = take_lock(self.path)
        try:
            _settle_recipe(self.path, recipe)
            clear_left_overs(self.path)
            self._next = next_number(self.path)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let others write."""
        release_lock(self._lock)

    @property
    def cache(self) -> Cache:
        """The cache as it is now."""
        if self._cache is None:
            self._cache = open(self.path)
        return self._cache

    def commit(self, records: Sequence[Record], rgb: np.ndarray, alpha: np.ndarray | None = None) -> str:
        """Make these records safe, as one shard.

        Args:
            records: of whole photos: all faces of a photo in one commit.
            rgb: u8[m h w 3], the crops of the m records that are not `unreadable`, in their order.
            alpha: u8[m h w], where the recipe's method is "seg".

        Returns:
            The shard's name.
        """
        return self.adopt(stage(self.path, self.recipe, records, rgb, alpha))

    def adopt(self, staged: Path) -> str:
        """Commit what `stage` wrote, in this process or in another one on the same folder."""
        name = adopt(self.path, staged, self._next)
        self._next += 1
        self._cache = None
        return name

    def finish(self, listing: Sequence[Listed]) -> Cache:
        """Bring the cache in line with the source, once the listing's photos are committed.

        The index takes the listing's order (a photo's faces by number), labels, groups, sizes and
        times; photos that are not listed leave it; shards without a row in it are deleted. Where
        nothing changed, nothing is written.
        """
        table = _in_line(self.cache.table, listing)
        with on_disk(self.path):
            live = pc.unique(table["shard"]).to_pylist()
            if not table.equals(self.cache.table) or set(live) != _indexed(self.path):
                write_index(self.path, self.recipe, table)
            clear_left_overs(self.path)
            drop_shards(self.path, set(shard_names(self.path)) - set(live))
        self._cache = None
        return self.cache

    def log(self, **entry: Any) -> None:
        """Add a line on this build (counts, seconds by stage, ...) to builds.jsonl."""
        line = {
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "index": max(index_names(self.path), default=None),
            "made_with": self.recipe.made_with,
            **entry,
        }
        with on_disk(self.path):
            whole = [seal(build) for build in read_builds(self.path) if build]
            put(self.path / "builds.jsonl", "".join([*whole, seal(line)]).encode())


def stage(
    folder: Path, recipe: Recipe, records: Sequence[Record], rgb: np.ndarray, alpha: np.ndarray | None = None
) -> Path:
    """Write a shard to the disk without committing it: see `Writer.commit`, `Writer.adopt`.

    Returns:
        Its folder, below CACHE/shards, under a name that no reader looks at.
    """
    usable = [record.status != "unreadable" for record in records]
    assert records, "a shard needs a record"
    assert len({(record.key, record.face) for record in records}) == len(records), "a face given twice"
    assert rgb.shape == (sum(usable), *recipe.size, 3), (rgb.shape, sum(usable), recipe.size)
    hashes = pixel_hashes(np.ascontiguousarray(rgb), None if alpha is None else np.ascontiguousarray(alpha))
    slots = np.where(usable, np.cumsum(usable) - 1, -1)
    table = to_table([replace(record, labels={}) for record in records])
    for name in sorted({name for record in records for name in record.labels}):
        values = [record.labels.get(name) for record in records]
        table = table.append_column(LABEL + name, label_array(values))
    table = table.append_column("slot", pa.array(slots, pa.int32()))
    pixels = [hashes[slot] if slot >= 0 else "" for slot in slots]
    return stage_table(
        folder, recipe, table.append_column("pixels", pa.array(pixels, pa.string())), rgb, alpha
    )


def stage_table(
    folder: Path, recipe: Recipe, table: pa.Table, rgb: np.ndarray, alpha: np.ndarray | None
) -> Path:
    """`stage`, for rows that are a table already: Record columns, `slot`, `pixels`."""
    arrays = {"rgb.npy": rgb} if alpha is None else {"rgb.npy": rgb, "alpha.npy": alpha}
    assert (alpha is not None) == recipe.has_alpha, "alpha goes with method seg, and with no other"
    assert alpha is None or alpha.shape == rgb.shape[:3], (alpha.shape, rgb.shape)
    assert all(array.dtype == np.uint8 for array in arrays.values()), "pixels are uint8"
    staged = folder / "shards" / f"{uuid4().hex}{LEFT}"
    with on_disk(folder):
        try:
            staged.mkdir()
            for name, array in arrays.items():
                write(staged / name, npy_header(array.shape), np.ascontiguousarray(array))
            write(
                staged / "records.arrow", arrow_bytes(table, {"format": FORMAT, "identity": recipe.identity})
            )
            sync(staged)
        except BaseException:
            shutil.rmtree(staged, ignore_errors=True)
            raise
    return staged


def adopt(folder: Path, staged: Path, number: int) -> str:
    """Commit a staged shard under this number; its name."""
    with on_disk(folder):
        name = f"{number:06d}-{content_hash((staged / 'records.arrow').read_bytes())}"
        staged.rename(folder / "shards" / name)
        sync(folder / "shards")
    return name


def next_number(folder: Path) -> int:
    """The number of the next shard: above all that are there, and all that the index knows."""
    known = {*shard_names(folder), *(_indexed(folder, "shards") or ()), *(_indexed(folder, "dead") or ())}
    return max(map(shard_number, known), default=-1) + 1


def write_index(folder: Path, recipe: Recipe, table: pa.Table) -> None:
    """Put a new index in the place of the last one."""
    live = sorted(pc.unique(table["shard"]).to_pylist(), key=shard_number)
    dead = [name for name in shard_names(folder) if name not in set(live)]
    # The dead are named too: killed before they are deleted, they must not come back as news.
    meta = {"format": FORMAT, "identity": recipe.identity, "shards": live, "dead": dead}
    data = arrow_bytes(table, meta)
    older = index_names(folder)
    generation = int(older[-1].split("-")[1]) + 1 if older else 1
    put(folder / f"index-{generation:06d}-{content_hash(data)}.arrow", data)
    for name in older:
        (folder / name).unlink()


def arrow_bytes(table: pa.Table, meta: dict[str, Any]) -> pa.Buffer:
    """An uncompressed Arrow IPC file of one batch, with our entry in its metadata; equal for equal tables."""
    sink = pa.BufferOutputStream()
    table = table.combine_chunks().replace_schema_metadata({META: canonical(meta)})
    with pa.ipc.new_file(sink, table.schema) as file:
        file.write_table(table)
    return sink.getvalue()


def drop_shards(folder: Path, names: Iterable[str]) -> None:
    """Delete shards, each at once for a reader."""
    for name in sorted(names):
        gone = folder / "shards" / f"{name}{LEFT}"
        (folder / "shards" / name).rename(gone)
        shutil.rmtree(gone)


def clear_left_overs(folder: Path) -> None:
    """Remove what stopped builds left: unfinished files and shards, all indexes but the newest."""
    for path in [*folder.glob(f"*{LEFT}"), *(folder / "shards").glob(f"*{LEFT}")]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    for name in index_names(folder)[:-1]:
        (folder / name).unlink()


def content_hash(data: Any) -> str:
    """The first 16 hex characters of a file's sha256, as in the names of shards and indexes."""
    return hashlib.sha256(data).hexdigest()[:16]


def _may_build_in(folder: Path) -> None:
    """Refuse a place that holds something other than a cache, before anything is written to it."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise CacheError(f"{folder}: a file; a cache is a folder: choose another --out")
    with on_disk(folder):
        names = {path.name for path in folder.iterdir() if path.suffix != LEFT} - {"lock", "shards"}
    if "recipe.json" not in names and (names or shard_names(folder)):
        if shard_names(folder):
            raise CacheError(f"{folder}: recipe.json is missing; run: cache verify {folder} --repair")
        raise CacheError(f"{folder}: not empty, and not a cache; choose another --out")


def _settle_recipe(folder: Path, recipe: Recipe) -> None:
    """Write the recipe of a new cache; hold that of an old one against ours."""
    if (folder / "recipe.json").exists():
        old = read_recipe(folder)
        changed = differences(old.identity, recipe.identity)
        if changed:
            raise CacheError(
                f"{folder}: made by another recipe ({'; '.join(changed)}); "
                "choose another --out, or the settings of this cache"
            )
        if old == recipe:
            return
    with on_disk(folder):
        put(folder / "recipe.json", recipe.to_text().encode())
        with suppress(PermissionError):  # a folder above that we may not list
            sync(folder.resolve().parent)


def _indexed(folder: Path, which: str = "shards") -> set[str] | None:
    """The shards that the index names."""
    names = index_names(folder)
    return set(read_arrow(folder / names[-1], mapped=True)[1][which]) if names else None


def _in_line(table: pa.Table, listing: Sequence[Listed]) -> pa.Table:
    """The rows of listed photos, in the listing's order, with what the listing tells of them."""
    keys = pa.array([photo.key for photo in listing], pa.string())
    assert len(pc.unique(keys)) == len(keys), "a key listed twice"
    places = pc.fill_null(pc.index_in(table["key"], value_set=keys), -1).to_numpy()
    order = np.lexsort((table["face"].to_numpy(), places))
    order = order[places[order] >= 0]
    table, photos = table.take(pa.array(order)), pa.array(places[order])
    told = {
        "group": pa.array([photo.group for photo in listing], pa.string()),
        "bytes": pa.array([photo.bytes for photo in listing], pa.int64()),
        "mtime_ns": pa.array([photo.mtime_ns for photo in listing], pa.int64()),
    }
    for name in sorted({name for photo in listing for name in photo.labels}):
        told[LABEL + name] = label_array([photo.labels.get(name) for photo in listing])
    names = [*FIXED, *(name for name in told if name.startswith(LABEL)), *PLACE]
    return pa.table({name: told[name].take(photos) if name in told else table[name] for name in names})
