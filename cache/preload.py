"""Read the pixels of a cache into memory, once: of this process, of several, or of an accelerator."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from io import FileIO
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from cache import gather, memory, views
from cache.format import Cache, CacheError
from cache.memory import Mapped
from configs import terminal
from configs.errors import UserError

SHARE_OF_MEMORY = 0.8
"""The part of the free memory that pixels may take; the rest is for the model and its batches."""

SHARE_OF_DEVICE = 0.5
"""The same on an accelerator, where activations need more."""

CHUNK_BYTES = 16 << 20
"""What one thread reads at a time."""

LASTING = ("black", "mean", "blur")
"""Fills that are the same in every epoch."""


@dataclass(frozen=True, eq=False)
class Pixels:
    """The crops of some rows of a cache.

    Attributes:
        rgb: u8 [n h w 3], a tensor, or `Mapped` where the pixels stay on the disk.
        alpha: u8 [n h w], how much of a pixel is figure, or None in a cache without.
        rows: i64[n], their rows in the cache.
        taken: the view and fills that `rgb` shows already, or None: unblanked.
    """

    rgb: torch.Tensor | Mapped
    alpha: torch.Tensor | Mapped | None
    rows: torch.Tensor
    taken: tuple[str, tuple[str, ...]] | None = None

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class _Plan:
    """What to read, and how it lies in one block: all rgb, then all alpha."""

    cache: Cache
    rows: np.ndarray
    view: str
    fill: str

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        rgb = (len(self.rows), *self.cache.size, 3)
        return [rgb, rgb[:3]] if self.cache.has_alpha else [rgb]

    @property
    def size(self) -> int:
        return sum(int(np.prod(shape)) for shape in self.shapes)

    @property
    def places(self) -> tuple[np.ndarray, np.ndarray]:
        shards, slots = self.cache.places
        return shards[self.rows], slots[self.rows]

    @property
    def name(self) -> str:
        """For a shared block: equal names, equal bytes."""
        hashes: Any = self.cache.table["pixels"].take(self.rows).to_pylist()
        text = "\n".join([*map(str, self.shapes), self.view, self.fill, *hashes])
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def split(self, block: np.ndarray) -> list[np.ndarray]:
        ends = np.cumsum([np.prod(shape) for shape in self.shapes])
        pieces = np.split(block, ends[:-1])
        return [piece.reshape(shape) for piece, shape in zip(pieces, self.shapes, strict=True)]


def preload(
    cache: Cache,
    rows: Sequence[int] | np.ndarray | None = None,
    *,
    device: str | torch.device = "cpu",
    threads: int | None = None,
    shared: bool = False,
    view: str = "full",
    fill: str | Sequence[str] = "black",
) -> Pixels:
    """Read pixels into memory, several threads at a time; stderr says how much and how fast.

    A view with a fill that is always the same (black, mean, blur) can be taken here, once for all
    epochs, rather than in each batch; ask `batches` for the same view and fill.

    Args:
        cache: an open cache.
        rows: which of its rows, in which order; all that have pixels where not given.
        device: where to keep them. What does not fit on an accelerator stays in main memory, what
            does not fit there stays on the disk; a line on stderr says so.
        threads: that read; as many as the process has CPUs where not given.
        shared: keep them in a block that all processes of this user share which ask for the same
            rows (DDP ranks), and which forked workers share anyway. The last one to end frees it.
        view, fill: of `cache.views`. Fills that are drawn (noise, swap, or one of several) are left
            to `batches`, and so is the view of pixels that stay on the disk.

    Raises:
        UserError: a row without pixels, or a view that needs alpha where there is none.
    """
    fills = views.check(view, fill, has_alpha=cache.has_alpha)
    now = view != "full" and len(fills) == 1 and fills[0] in LASTING
    chosen = cache.usable() if rows is None else np.asarray(rows, np.int64)
    _need_pixels(cache, chosen)
    plan = _Plan(cache, chosen, view if now else "full", fills[0] if now else "")
    device = torch.device(device)
    kept = torch.from_numpy(chosen.copy())
    started = time.perf_counter()
    block = memory.attach(plan.name, plan.size) if shared else None
    place = "shared" if block is not None else _place(plan.size, device, shared)
    if place == "disk":
        maps = [_mapped(plan, which) for which in range(len(plan.shapes))]
        return Pixels(maps[0], maps[1] if cache.has_alpha else None, kept)
    if block is None and place == "shared":
        block = memory.share(plan.name, plan.size, partial(_fill, plan, threads))
    elif block is None:
        block = memory.block((plan.size,))
        _fill(plan, threads, block)
    tensors = [torch.from_numpy(part) for part in plan.split(block)]
    if place == "device":
        tensors = [tensor.to(device) for tensor in tensors]
    _tell(plan, time.perf_counter() - started, "shared memory" if place == "shared" else tensors[0].device)
    return Pixels(tensors[0], tensors[1] if cache.has_alpha else None, kept, (view, fills) if now else None)


def _tell(plan: _Plan, seconds: float, where: object) -> None:
    rate = plan.size / max(seconds, 1e-9) / 1e9
    terminal.note(
        f"{len(plan.rows):,} crops, {plan.size / 1e9:.2f} GB, in {seconds:.1f} s ({rate:.1f} GB/s): {where}"
    )


def _place(size: int, device: torch.device, shared: bool) -> str:
    """Where `size` bytes go: "device", "memory", "shared" or "disk"; stderr says where it isn't as asked."""
    if device.type == "cuda":
        room = int(torch.cuda.mem_get_info(device)[0] * SHARE_OF_DEVICE)
        if size <= room:
            return "device"
        terminal.note(_too_big(size, room, str(device)) + ": they stay in main memory")
    room = int((memory.available_shared() if shared else memory.available()) * SHARE_OF_MEMORY)
    if size <= room:
        return "shared" if shared else "memory"
    terminal.note(
        _too_big(size, room, "memory") + ": they are read from the disk as they are needed (slower)"
    )
    return "disk"


def _too_big(size: int, room: int, where: str) -> str:
    return f"the pixels take {size / 1e9:.2f} GB, more than the {room / 1e9:.2f} GB they may have of {where}"


def _need_pixels(cache: Cache, rows: np.ndarray) -> None:
    without = rows[cache.places[1][rows] < 0]
    if len(without):
        key = cache.table["key"][int(without[0])]
        raise UserError(f"{cache.path}: row {without[0]} ({key}) has no pixels; choose among cache.usable()")


def _mapped(plan: _Plan, which: int) -> Mapped:
    shards, slots = plan.places
    return Mapped(plan.shapes[which], partial(_read, plan.cache, shards, slots, which))


def _read(cache: Cache, shards: np.ndarray, slots: np.ndarray, which: int, row: int) -> np.ndarray:
    array = cache.shard(int(shards[row]))[which]
    assert array is not None
    return array[slots[row]]


def _fill(plan: _Plan, threads: int | None, block: np.ndarray) -> None:
    """Copy the pixels into one block, in chunks, several threads at a time."""
    arrays = plan.split(block)
    shards, slots = plan.places
    step = max(1, CHUNK_BYTES // max(1, int(np.prod(plan.shapes[0][1:]))))

    def copy(first: int) -> int:
        last = min(first + step, len(slots))
        for begin, end, shard, slot in _runs(shards, slots, first, last):
            for array, mapped in zip(arrays, plan.cache.shard(shard), strict=False):
                assert mapped is not None
                _read_into(array[begin:end], mapped, slot)
        if plan.view != "full":
            _blank(plan, arrays[0][first:last], arrays[1][first:last])
        return last - first

    with (
        gather.workers(threads or memory.cpus()) as pool,
        terminal.bar(len(slots), label="preload", unit="crop") as shown,
    ):
        for count in pool.map(copy, range(0, len(slots), step)):
            shown.update(count)


def _read_into(out: np.ndarray, mapped: np.ndarray, slot: int) -> None:
    """Copy rows of a mapped file, from `slot` on.

    By read() and not out of the map: the same page cache, but no fault for every few pages, and
    none of the file's pages are then counted as this process's.
    """
    source = mapped.base
    assert isinstance(source, np.memmap)
    assert source.filename
    room = memoryview(out.reshape(-1))  # type: ignore[arg-type]
    with FileIO(source.filename) as file:
        file.seek(source.offset + slot * out[0].nbytes)
        while room:
            count = file.readinto(room)
            if not count:
                raise CacheError(f"{source.filename}: cut short while it was read; see: cache verify")
            room = room[count:]


def _blank(plan: _Plan, rgb: np.ndarray, alpha: np.ndarray) -> None:
    for part in gather.small_parts(len(rgb), (3, *plan.cache.size)):
        rgb[part] = views.view_photos(rgb[part], alpha[part], view=plan.view, fill=plan.fill)


def _runs(
    shards: np.ndarray, slots: np.ndarray, first: int, last: int
) -> Iterator[tuple[int, int, int, int]]:
    """(first, last, shard, slot) of stretches that lie in one piece in a shard."""
    joined = (np.diff(shards[first:last]) == 0) & (np.diff(slots[first:last]) == 1)
    starts = [first, *(first + 1 + np.flatnonzero(~joined)).tolist(), last]
    for begin, end in pairwise(starts):
        yield begin, end, int(shards[begin]), int(slots[begin])
