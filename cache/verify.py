"""Find any byte of a cache that is not as it was written, and cut the damage out."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from cache.disk import LEFT, on_disk, put, release_lock, take_lock
from cache.format import (
    INDEX,
    NPY_HEADER,
    SHARD,
    CacheError,
    Recipe,
    index_names,
    npy_header,
    pixel_hashes,
    read_arrow,
    read_builds,
    read_recipe,
    read_shard_table,
    seal,
    shard_names,
    unseal,
)
from cache.tables import merge
from cache.writer import (
    adopt,
    clear_left_overs,
    content_hash,
    drop_shards,
    next_number,
    stage_table,
    write_index,
)
from configs import terminal

PARTS = ("rgb.npy", "alpha.npy", "records.arrow")
HEADER_DAMAGED = "its header is damaged"
PER_LINE = 3
"""Keys named in a message; the report has them all."""


@dataclass(frozen=True)
class Damage:
    """One thing that is wrong.

    Attributes:
        file: below the cache.
        what: is wrong with it.
        shard: that it belongs to, or None.
        keys: the photos hit, where any are.
    """

    file: str
    what: str
    shard: str | None = None
    keys: tuple[str, ...] = ()

    def __str__(self) -> str:
        named = ", ".join(self.keys[:PER_LINE])
        more = f" and {len(self.keys) - PER_LINE} more" if len(self.keys) > PER_LINE else ""
        return f"{self.file}: {self.what}" + (f"; photos hit: {named}{more}" if named else "")


@dataclass(frozen=True)
class Report:
    """What `verify` found.

    Attributes:
        damages: all that is wrong.
        notes: what is odd, and harmless: files of no use to the cache.
        shards, rows, bytes: how much was looked at.
    """

    damages: tuple[Damage, ...]
    notes: tuple[str, ...]
    shards: int
    rows: int
    bytes: int

    @property
    def ok(self) -> bool:
        """Whether every byte is as it was written."""
        return not self.damages

    @property
    def damaged_shards(self) -> list[str]:
        """The shards hit."""
        return sorted({damage.shard for damage in self.damages if damage.shard})

    @property
    def keys(self) -> list[str]:
        """The photos hit."""
        return sorted({key for damage in self.damages for key in damage.keys})

    def messages(self) -> list[str]:
        """A line for each damage."""
        return [str(damage) for damage in self.damages]


def verify(path: str | os.PathLike[str], *, jobs: int | None = None) -> Report:
    """Read every byte of a cache and hold it against its hashes; shows a bar in a terminal.

    Raises:
        CacheError: the path is no cache at all, or a build is writing to it.
    """
    folder = Path(path)
    if not (folder / "recipe.json").is_file() and not shard_names(folder):
        read_recipe(folder)
    lock = take_lock(folder) if os.access(folder, os.W_OK) else None
    try:
        return _verify(folder, jobs)
    finally:
        if lock is not None:
            release_lock(lock)


def _verify(folder: Path, jobs: int | None) -> Report:
    recipe, damages = _check_recipe(folder)
    index, found = _check_index(folder)
    damages += found + _check_builds(folder)
    names = shard_names(folder)
    indexed = {} if index is None else {name: index.take(rows) for name, rows in _by_shard(index).items()}

    def check(name: str) -> tuple[int, list[Damage]]:
        return _check_shard(folder, name, recipe, indexed.get(name))

    looked_at = 0
    with ThreadPoolExecutor(jobs or os.cpu_count()) as pool:
        checks = pool.map(check, names)
        for count, found in terminal.progress(checks, label="verify", unit="shard", total=len(names)):
            looked_at += count
            damages += found
    for name in sorted(indexed.keys() - set(names)):
        damages.append(Damage(f"shards/{name}", "missing", name, _keys(indexed[name])))
    return Report(
        damages=tuple(damages),
        notes=tuple(_notes(folder, index)),
        shards=len(names),
        rows=looked_at,
        bytes=sum(
            file.stat().st_size for file in folder.rglob("*") if file.is_file() and file.name != "lock"
        ),
    )


def _check_recipe(folder: Path) -> tuple[Recipe | None, list[Damage]]:
    try:
        unseal((folder / "recipe.json").read_bytes().decode(), indent=2)
    except FileNotFoundError:
        return None, [Damage("recipe.json", "missing")]
    except (OSError, ValueError):
        return None, [Damage("recipe.json", "damaged")]
    return read_recipe(folder), []


def _check_index(folder: Path) -> tuple[pa.Table | None, list[Damage]]:
    """The table of the newest index, where it is whole."""
    names = index_names(folder)
    if not names:
        lost = [Damage("index-*.arrow", "missing")] if any(read_builds(folder)) else []
        return None, lost
    if not _is_whole(folder / names[-1], names[-1].split("-")[2].removesuffix(".arrow")):
        return None, [Damage(names[-1], "damaged: the order and the labels of the rows")]
    return read_arrow(folder / names[-1], mapped=True)[0], []


def _check_builds(folder: Path) -> list[Damage]:
    builds = enumerate(read_builds(folder), 1)
    return [Damage("builds.jsonl", f"line {number} damaged") for number, build in builds if not build]


def _check_shard(
    folder: Path, name: str, recipe: Recipe | None, indexed: pa.Table | None
) -> tuple[int, list[Damage]]:
    """How many rows were looked at, and what is wrong in a shard; `indexed`: its rows by the index."""
    where = f"shards/{name}"
    table, own = _own_table(folder, name)
    rows = indexed if table is None else table
    damages = []
    if table is None:
        there = (folder / where / "records.arrow").is_file()
        what = "damaged" if there else "missing"
        damages.append(Damage(f"{where}/records.arrow", what, name, _keys(indexed)))
    elif recipe and own and own.identity != recipe.identity:
        damages.append(Damage(where, "of another recipe", name, _keys(table)))
    shape = own or recipe
    if shape is None or rows is None:
        return 0, damages
    count = None if table is None else int((table["slot"].to_numpy() >= 0).sum())
    for file, row in _files(shape).items():
        what = _check_array(folder / where / file, row, count)
        if what:
            keys = _keys(rows) if what == HEADER_DAMAGED else ()
            damages.append(Damage(f"{where}/{file}", what, name, keys))
    whole = _whole(rows, *_pixels(folder / where, shape))
    if not whole.all():
        hit = rows.filter(pa.array(~whole))
        damages.append(Damage(where, f"the pixels of {len(hit)} rows are damaged", name, _keys(hit)))
    return len(rows), damages


def _own_table(folder: Path, name: str) -> tuple[pa.Table | None, Recipe | None]:
    """The rows of a shard by its own table, and the recipe written in it, where that table is whole."""
    path = folder / "shards" / name / "records.arrow"
    if not _is_whole(path, name.split("-")[1]):
        return None, None
    return read_shard_table(folder, name), Recipe(read_arrow(path)[1]["identity"])


def _is_whole(path: Path, hash: str) -> bool:
    try:
        return content_hash(path.read_bytes()) == hash
    except OSError:
        return False


def _files(recipe: Recipe) -> dict[str, tuple[int, ...]]:
    """The files of pixels in a shard, and the shape of a row in each."""
    files: dict[str, tuple[int, ...]] = {"rgb.npy": (*recipe.size, 3)}
    return {**files, "alpha.npy": recipe.size} if recipe.has_alpha else files


def _check_array(path: Path, row: tuple[int, ...], count: int | None) -> str:
    """What is wrong with a .npy file apart from its pixels; count: its rows, None: as many as fit in it."""
    try:
        with path.open("rb") as file:
            header = file.read(NPY_HEADER)
            size = file.seek(0, os.SEEK_END) - NPY_HEADER
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return f"can't be read: {error.strerror}"
    if count is None:
        count = max(size, 0) // math.prod(row)
    excess = size - count * math.prod(row)
    if excess:
        return f"{excess} bytes too many" if excess > 0 else f"{-excess} bytes missing"
    return "" if header == npy_header((count, *row)) else HEADER_DAMAGED


def _pixels(shard: Path, recipe: Recipe) -> list[np.ndarray]:
    """The rows that are in the files of a shard, whatever their headers say; an absent file has none."""
    arrays = []
    for name, row in _files(recipe).items():
        try:
            data = np.fromfile(shard / name, np.uint8, offset=NPY_HEADER)
        except OSError:
            data = np.empty(0, np.uint8)
        count = len(data) // math.prod(row)
        arrays.append(data[: count * math.prod(row)].reshape(count, *row))
    return arrays


def _whole(rows: pa.Table, rgb: np.ndarray, alpha: np.ndarray | None = None) -> np.ndarray:
    """bool[n]: which rows have the very pixels that their hash tells of, or need none."""
    there = len(rgb) if alpha is None else min(len(rgb), len(alpha))
    found = pixel_hashes(rgb[:there], None if alpha is None else alpha[:there])
    told = zip(rows["slot"].to_pylist(), rows["pixels"].to_pylist(), strict=True)
    return np.array([slot < 0 or (slot < there and found[slot] == hash) for slot, hash in told], bool)


def _by_shard(table: pa.Table) -> dict[str, np.ndarray]:
    """The row numbers of each shard, in order."""
    codes = table["shard"].combine_chunks().dictionary_encode()
    numbers = codes.indices.to_numpy()
    order = np.argsort(numbers, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1) if len(order) else []
    return dict(zip(codes.dictionary.to_pylist(), parts, strict=True))


def _keys(rows: pa.Table | None) -> tuple[str, ...]:
    return () if rows is None else tuple(sorted(set(rows["key"].to_pylist())))


def _notes(folder: Path, index: pa.Table | None) -> Iterator[str]:
    """What is odd and does no harm."""
    newest = index_names(folder)[-1:]
    known = {"recipe.json", "builds.jsonl", "lock", "shards", *newest}
    for path in sorted([*folder.iterdir(), *folder.glob("shards/*"), *folder.glob("shards/*/*")]):
        name = path.relative_to(folder).as_posix()
        if name.endswith(LEFT) or (INDEX.fullmatch(name) and name not in newest):
            yield f"{name}: left by a stopped build; the next build removes it"
        elif name not in known and not _of_a_shard(name) and f"{LEFT}/" not in name:
            yield f"{name}: not part of the cache"
    later = set(shard_names(folder)) - set(() if index is None else _by_shard(index))
    if later:
        yield f"{len(later)} shards are not in the index: the build was stopped; preprocess update goes on"


def _of_a_shard(name: str) -> bool:
    top, _, rest = name.partition("/")
    shard, _, file = rest.partition("/")
    return bool(top == "shards" and SHARD.fullmatch(shard)) and file in ("", *PARTS)


def forget(path: str | os.PathLike[str], report: Report) -> list[str]:
    """Cut the damage out: afterwards the cache is whole, and a build makes again just what it lost.

    Rows whose pixels are whole are kept, also of a damaged shard. A damaged recipe comes back
    from the shards, a damaged index too (with the labels as they were when the rows were made: a
    build brings them up to date).

    Returns:
        The keys of the photos that were lost, where index or shard still told them.

    Raises:
        CacheError: no shard tells the recipe, so that the cache can't be mended.
    """
    folder = Path(path)
    lock = take_lock(folder)
    try:
        with on_disk(folder):
            recipe = _restored_recipe(folder)
            clear_left_overs(folder)
            lost = _cut_out(folder, recipe, report.damaged_shards)
            if any(damage.file == "builds.jsonl" for damage in report.damages):
                whole = [seal(build) for build in read_builds(folder) if build]
                put(folder / "builds.jsonl", "".join(whole).encode())
        return lost
    finally:
        release_lock(lock)


def made_with(folder: Path) -> dict[str, Any]:
    """What a cache was made with (its `source`, versions, ...), by the recipe or else the log of builds."""
    recipe, _ = _check_recipe(folder)
    if recipe:
        return recipe.made_with
    builds = [build for build in read_builds(folder) if build]
    return dict(builds[-1]["made_with"]) if builds else {}


def _restored_recipe(folder: Path) -> Recipe:
    """The recipe; where its file is damaged, as the shards and the log of builds tell it."""
    recipe, damages = _check_recipe(folder)
    if recipe:
        return recipe
    own = (_own_table(folder, name)[1] for name in reversed(shard_names(folder)))
    shard = next((recipe for recipe in own if recipe), None)
    if shard is None:
        raise CacheError(
            f"{folder}: recipe.json is {damages[0].what} and no shard tells it; "
            "the cache must be made again: delete it and run preprocess build"
        )
    recipe = Recipe(shard.identity, made_with(folder))
    put(folder / "recipe.json", recipe.to_text().encode())
    return recipe


def _cut_out(folder: Path, recipe: Recipe, damaged: Sequence[str]) -> list[str]:
    """Move the whole rows of damaged shards to new ones, drop the others; the keys that are gone."""
    index, index_damages = _check_index(folder)
    if not damaged and not index_damages:
        return []
    if index is None:
        for name in index_names(folder):
            (folder / name).unlink()
    table = _known_rows(folder, index)
    shards, slots = np.array(table["shard"].to_pylist(), object), table["slot"].to_numpy().copy()
    kept = np.ones(len(table), bool)
    for name, rows in _by_shard(table).items():
        if name not in damaged:
            continue
        own = _own_table(folder, name)[1]
        arrays = _pixels(folder / "shards" / name, recipe)
        same = own is None or own.identity == recipe.identity
        kept[rows] = _whole(table.take(rows), *arrays) if same else False
        rows = rows[kept[rows]]
        if not len(rows):
            continue
        old = slots[rows]
        slots[rows] = np.where(old >= 0, np.cumsum(old >= 0) - 1, -1)
        moved = table.take(rows).drop_columns("shard")
        moved = moved.set_column(moved.column_names.index("slot"), "slot", pa.array(slots[rows], pa.int32()))
        pixels = [array[old[old >= 0]] for array in arrays]
        staged = stage_table(folder, recipe, moved, pixels[0], pixels[1] if recipe.has_alpha else None)
        shards[rows] = adopt(folder, staged, next_number(folder))
    lost = _keys(table.filter(pa.array(~kept)))
    for name, column in (("shard", pa.array(shards, pa.string())), ("slot", pa.array(slots, pa.int32()))):
        table = table.set_column(table.column_names.index(name), name, column)
    write_index(folder, recipe, table.filter(pa.array(kept)))
    drop_shards(folder, set(damaged) & set(shard_names(folder)))
    return list(lost)


def _known_rows(folder: Path, index: pa.Table | None) -> pa.Table:
    """The rows of a cache by its index, or by its shards where that is damaged; and of shards since."""
    names = shard_names(folder)
    if index is not None:
        known = read_arrow(folder / index_names(folder)[-1], mapped=True)[1]
        names = [name for name in names if name not in {*known["shards"], *known["dead"]}]
    later = [table for table, _ in (_own_table(folder, name) for name in names) if table is not None]
    return merge([*([] if index is None else [index]), *later])
