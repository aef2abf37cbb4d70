"""The cache on disk, for reading: the recipe, the table, the pixels. FORMAT.md describes it on one page."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cache.records import LABEL, Record, from_table, label_names
from cache.remote import address_of, fetch
from cache.tables import merge
from configs.errors import UserError, did_you_mean

FORMAT = 1
SHARD = re.compile(r"(\d{6,})-([0-9a-f]{16})")
INDEX = re.compile(r"index-(\d{6,})-([0-9a-f]{16})\.arrow")
META = b"figureground"
"""The key of our entry in the schema metadata of every Arrow file."""
NPY_HEADER = 128
"""Length of the header of every .npy file of a cache, bytes."""
OPEN_SHARDS = 128
"""Shards held open at a time: each takes two file descriptors, of which a process has 1,024 by default."""
LARGE_ROW = 4096
"""Bytes from which copying a row takes longer than the Python that asks for it."""
PHOTO_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")


class CacheError(UserError):
    """A cache that is absent, damaged, of another format or recipe, or can't be written to."""


def canonical(value: object, *, indent: int | None = None) -> str:
    """The one JSON text of a value: sorted names, ASCII, no NaN."""
    separators = (",", ":") if indent is None else (",", ": ")
    return json.dumps(value, sort_keys=True, indent=indent, separators=separators, allow_nan=False)


def seal(values: dict[str, Any], *, indent: int | None = None) -> str:
    """Canonical JSON of `values` with their sha256 beside them, so that any changed byte shows."""
    digest = hashlib.sha256(canonical(values).encode()).hexdigest()
    return canonical({**values, "sha256": digest}, indent=indent) + "\n"


def unseal(text: str, *, indent: int | None = None) -> dict[str, Any]:
    """The values of a sealed text; ValueError where a byte of it is not as it was written."""
    values = json.loads(text)
    if not isinstance(values, dict) or "sha256" not in values:
        raise ValueError("not a sealed text")
    values.pop("sha256")
    if seal(values, indent=indent) != text:
        raise ValueError("the text does not match its sha256")
    return values


@dataclass(frozen=True)
class Recipe:
    """What a cache was made by.

    Attributes:
        identity: all that determines the pixels, plain JSON values; at least `method` ("det",
            "seg", "none": only "seg" has alpha) and `size` (px of a square, or [height, width]).
        made_with: what may differ from build to build: library versions, providers, device, the
            folder of the photos (`source`), their layout. The newest build's stand.
    """

    identity: dict[str, Any]
    made_with: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("identity", "made_with"):  # as they come back from the disk: lists, not tuples
            object.__setattr__(self, name, json.loads(canonical(getattr(self, name))))
        missing = {"method", "size"} - set(self.identity)
        if missing:
            raise CacheError(f"recipe without {', '.join(sorted(missing))}")

    @property
    def digest(self) -> str:
        """16 hex characters that stand for the identity."""
        return hashlib.sha256(canonical(self.identity).encode()).hexdigest()[:16]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a crop, px."""
        size = self.identity["size"]
        height, width = (size, size) if isinstance(size, int) else size
        return int(height), int(width)

    @property
    def has_alpha(self) -> bool:
        """Whether every crop has an alpha beside it."""
        return self.identity["method"] == "seg"

    def to_text(self) -> str:
        """The content of recipe.json."""
        values = {"format": FORMAT, "identity": self.identity, "made_with": self.made_with}
        return seal(values, indent=2)


def differences(old: object, new: object, name: str = "") -> list[str]:
    """What differs between two JSON values, one text each: `crop.margin: 0.4 -> 0.5`."""
    if isinstance(old, dict) and isinstance(new, dict):
        absent = object()
        return [
            text
            for key in sorted(old.keys() | new.keys())
            for text in differences(old.get(key, absent), new.get(key, absent), f"{name}.{key}".lstrip("."))
        ]
    if type(old) is type(new) and old == new:
        return []
    shown = ["(absent)" if type(v) is object else json.dumps(v, ensure_ascii=False) for v in (old, new)]
    return [f"{name}: {shown[0]} -> {shown[1]}"]


def read_recipe(folder: Path) -> Recipe:
    """The recipe of a cache; CacheError where there is none, or it is damaged, or of another format."""
    path = folder / "recipe.json"
    try:
        values = unseal(path.read_bytes().decode(), indent=2)
        if values["format"] != FORMAT:
            raise CacheError(
                f"{folder}: a cache of format {values['format']}, this version reads {FORMAT}; "
                "update figureground, or run preprocess build again into another folder"
            )
        return Recipe(values["identity"], values["made_with"])
    except FileNotFoundError:
        raise CacheError(_no_cache(folder)) from None
    except NotADirectoryError:
        raise CacheError(f"{folder}: a file, not a cache (a cache is a folder)") from None
    except OSError as error:
        raise CacheError(f"{path}: can't be read: {error.strerror}") from None
    except (ValueError, KeyError):
        raise CacheError(f"{path}: damaged; run: cache verify {folder} --repair") from None


def _no_cache(folder: Path) -> str:
    if not folder.exists():
        return f"{folder}: no such folder (a cache is made by: preprocess build PHOTOS --out {folder})"
    if (folder / "shards").is_dir():
        return f"{folder}: recipe.json is missing; run: cache verify {folder} --repair"
    if _holds_photos(folder):
        return f"{folder}: a folder of photos, not a cache: run preprocess build {folder} --out CACHE first"
    return f"{folder}: not a cache (no recipe.json in it)"


def _holds_photos(folder: Path, look_at: int = 1000) -> bool:
    """Whether a photo is among the first files below a folder."""
    for _, _, names in os.walk(folder):
        if any(name.lower().endswith(PHOTO_ENDINGS) for name in names):
            return True
        look_at -= len(names) + 1
        if look_at < 0:
            break
    return False


def shard_names(folder: Path) -> list[str]:
    """The committed shards, oldest first."""
    try:
        names = os.listdir(folder / "shards")  # noqa: PTH208  (names are all that is asked)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted((name for name in names if SHARD.fullmatch(name)), key=shard_number)


def shard_number(name: str) -> int:
    """The number at the head of a shard's name."""
    return int(name.split("-")[0])


def index_names(folder: Path) -> list[str]:
    """The files of the index, oldest first; the last one counts."""
    names = (name for name in os.listdir(folder) if INDEX.fullmatch(name))  # noqa: PTH208
    return sorted(names, key=lambda name: int(name.split("-")[1]))


def read_arrow(path: Path, *, mapped: bool = False) -> tuple[pa.Table, dict[str, Any]]:
    """A table, and our entry in its metadata; a mapped one takes no time to open, but a file descriptor.

    Raises:
        CacheError: the file is absent, cut short or not ours.
    """
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path)) if mapped else path.read_bytes()).read_all()
        meta = json.loads((table.schema.metadata or {})[META])
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        cache = next((p.parent for p in path.parents if p.name == "shards"), path.parent)
        why = "missing" if isinstance(error, FileNotFoundError) else "damaged"
        raise CacheError(f"{path}: {why}; run: cache verify {cache} --repair") from None
    return table.replace_schema_metadata(None), meta


def read_shard_table(folder: Path, name: str) -> pa.Table:
    """The rows of one shard, as the index has them."""
    table, _ = read_arrow(folder / "shards" / name / "records.arrow")
    place = table.column_names.index("slot")
    return table.add_column(place, "shard", pa.array([name] * len(table), pa.string()))


def read_table(folder: Path) -> pa.Table:
    """The table of a cache: its newest index, and the rows of the shards committed since."""
    names = shard_names(folder)
    indexes = index_names(folder)
    if not indexes:
        return merge([read_shard_table(folder, name) for name in names])
    table, meta = read_arrow(folder / indexes[-1], mapped=True)
    known = {*meta["shards"], *meta["dead"]}
    later = [name for name in names if name not in known]
    return merge([table, *(read_shard_table(folder, name) for name in later)]) if later else table


def read_builds(folder: Path) -> list[dict[str, Any]]:
    """The lines of builds.jsonl, oldest first; a damaged line is {}."""
    try:
        *lines, rest = (folder / "builds.jsonl").read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    builds = []
    for line in [*lines, rest] if rest else lines:
        try:
            builds.append(unseal(line.decode() + "\n" * (line is not rest)))
        except ValueError:
            builds.append({})
    return builds


def npy_header(shape: tuple[int, ...]) -> bytes:
    """The header of a .npy file (format 1.0) of uint8 in C order: the same 128 bytes by any NumPy."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape!r}, }}"
    body = text.ljust(NPY_HEADER - 11) + "\n"
    return b"\x93NUMPY\x01\x00" + len(body).to_bytes(2, "little") + body.encode("ascii")


def pixel_hashes(rgb: np.ndarray, alpha: np.ndarray | None) -> list[str]:
    """BLAKE2b-64, hex, of each row's bytes: rgb u8[n h w 3], then alpha u8[n h w] where there is one."""
    hashes = []
    for row in range(len(rgb)):
        state = hashlib.blake2b(rgb[row], digest_size=8)
        if alpha is not None:
            state.update(alpha[row])
        hashes.append(state.hexdigest())
    return hashes


def open(path: str | os.PathLike[str]) -> Cache:
    """Open a cache for reading; the time does not grow with its rows.

    One at an address (`s3://bucket/cache`) is loaded first, as far as it isn't here yet.

    Raises:
        CacheError: there is no cache, it is damaged, or it has another format.
    """
    address = address_of(path)
    folder = fetch(address).folder if address else Path(path)
    if address and not folder.exists():
        raise CacheError(f"{address}: no cache there (preprocess build PHOTOS --out {address} makes one)")
    return Cache(folder, read_recipe(folder), read_table(folder))


@dataclass(frozen=True, eq=False)
class Cache:
    """A cache as it was when it was opened.

    Attributes:
        path: its folder.
        recipe: what it was made by.
        table: a row for each record, in the source's order: the columns of `cache.records` with
            `shard` (a shard's name), `slot` (the row's place in the shard's arrays, -1: no
            pixels) and `pixels` (hash of the row's bytes, "" without pixels).
    """

    path: Path
    recipe: Recipe
    table: pa.Table

    def __len__(self) -> int:
        return len(self.table)

    def __reduce__(self) -> tuple[Callable[[Path], Cache], tuple[Path]]:
        return open, (self.path,)  # a worker process maps the files again: nothing is copied

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a crop, px."""
        return self.recipe.size

    @property
    def has_alpha(self) -> bool:
        """Whether there is an alpha beside every crop."""
        return self.recipe.has_alpha

    def records(self, rows: Iterable[int] | None = None) -> list[Record]:
        """The records of these rows, or of all."""
        return from_table(self.table, rows)

    def usable(self) -> np.ndarray:
        """i64[m]: the rows that have pixels."""
        return np.flatnonzero(self.places[1] >= 0)

    def labels(self, name: str) -> np.ndarray:
        """A label of every row: int64 or float64, or object (str; None where a value is unknown)."""
        if LABEL + name not in self.table.column_names:
            known = label_names(self.table)
            raise CacheError(f"{self.path}: no label {name!r}{did_you_mean(name, known)}")
        column = self.table[LABEL + name]
        if column.null_count:
            return np.array([*column.to_pylist(), None], object)[:-1]
        return column.to_numpy()

    def rgb(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """u8[n h w 3]: the unblanked crops of these rows, which must have pixels."""
        return self._gather(rows, 0, (*self.size, 3))

    def alpha(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """u8[n h w]: how much of each pixel is figure, 0..255; CacheError in a cache without alpha."""
        if not self.has_alpha:
            method = self.recipe.identity["method"]
            raise CacheError(
                f"{self.path}: no alpha in a cache of method {method!r}; build one with --method seg"
            )
        return self._gather(rows, 1, self.size)

    def dataset(self, **settings: Any) -> Any:
        """A plain map-style torch Dataset over the rows with pixels: see `cache.dataset`."""
        from cache.dataset import dataset

        return dataset(self, **settings)

    @cached_property
    def shards(self) -> list[str]:
        """The names of the shards that the table's rows are in, oldest first."""
        return sorted(pc.unique(self.table["shard"]).to_pylist(), key=shard_number)

    @cached_property
    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """For each row: i32[n] number of its shard in `shards`, i32[n] slot there (-1: no pixels)."""
        numbers = pc.index_in(self.table["shard"], value_set=pa.array(self.shards, pa.string()))
        return numbers.to_numpy().astype(np.int32, copy=False), self.table["slot"].to_numpy()

    @cached_property
    def shard(self) -> Callable[[int], tuple[np.ndarray, np.ndarray | None]]:
        """`shard(i)`: the arrays of the i-th of `shards`, mapped from the disk, not read.

        rgb u8[n h w 3], alpha u8[n h w] or None; row r of the table is at
        `[places[1][r]]` of shard `places[0][r]`. The last 128 asked for are kept open.
        """
        return lru_cache(OPEN_SHARDS)(self._map)

    def _map(self, number: int) -> tuple[np.ndarray, np.ndarray | None]:
        folder = self.path / "shards" / self.shards[number]
        rgb = self._array(folder / "rgb.npy", (*self.size, 3))
        alpha = self._array(folder / "alpha.npy", self.size) if self.has_alpha else None
        return rgb, alpha

    def _array(self, path: Path, shape: tuple[int, ...]) -> np.ndarray:
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise CacheError(f"{path}: {error}; run: cache verify {self.path} --repair") from None
        if array.shape[1:] != shape or array.dtype != np.uint8:
            raise CacheError(f"{path}: damaged; run: cache verify {self.path} --repair")
        return array.view(np.ndarray)

    def _gather(self, rows: Sequence[int] | np.ndarray, which: int, shape: tuple[int, ...]) -> np.ndarray:
        rows = np.asarray(rows)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.int64)
        shards, slots = (column[rows] for column in self.places)
        if (slots < 0).any():
            row = int(rows[slots < 0][0])
            raise CacheError(f"{self.path}: row {row} ({self.table['key'][row]}) has no pixels: see usable()")
        out = np.empty((len(rows), *shape), np.uint8)
        order = np.lexsort((slots, shards))
        for part in np.split(order, np.flatnonzero(np.diff(shards[order])) + 1) if len(rows) else ():
            array = self.shard(int(shards[part[0]]))[which]
            assert array is not None
            wanted = slots[part]
            if (np.diff(wanted) == 1).all() and (np.diff(part) == 1).all():
                out[part[0] : part[-1] + 1] = array[wanted[0] : wanted[-1] + 1]
            elif array[0].nbytes < LARGE_ROW:
                out[part] = array[wanted]
            else:  # a fancy index on both sides would copy each row twice
                for place, slot in zip(part, wanted, strict=True):
                    out[place] = array[slot]
        return out
