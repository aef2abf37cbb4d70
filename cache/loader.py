"""From a cache to batches: preload the pixels once, then gather, view, augment and normalise.

pixels = preload(cache)
for batch in batches(pixels, targets, order, batch_size=32, seed=0, epoch=3):
    loss(model(batch.images), batch.targets)
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import torch

from cache import memory, views
from cache.format import Cache
from cache.memory import Mapped
from configs import terminal
from configs.errors import UserError

MEAN, STD = views.MEAN, views.STD

SHARE_OF_MEMORY = 0.8
"""The part of the free memory that pixels may take; the rest is for the model and its batches."""

SHARE_OF_DEVICE = 0.5
"""The same on an accelerator, where activations need more."""

CHUNK_BYTES = 16 << 20
"""What one thread reads at a time while preloading."""

PART = 8
"""Photos that one thread makes at a time: fixed, so that a batch is the same whatever the threads."""


@dataclass(frozen=True, eq=False)
class Pixels:
    """The unblanked crops of some rows of a cache.

    Attributes:
        rgb: u8 [n h w 3], a tensor, or `Mapped` where the pixels stay on the disk.
        alpha: u8 [n h w], how much of a pixel is figure, or None in a cache without.
        rows: i64[n], their rows in the cache.
    """

    rgb: torch.Tensor | Mapped
    alpha: torch.Tensor | Mapped | None
    rows: torch.Tensor

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, eq=False)
class Batch:
    """What a model is trained on.

    Attributes:
        images: f32 [b 3 h w], channels last in memory.
        alpha: f32 [b 1 h w] in 0..1, cropped and flipped as the images are, or None.
        targets: f32 [b c].
        rows: i64[b], positions in the `Pixels`.
    """

    images: torch.Tensor
    alpha: torch.Tensor | None
    targets: torch.Tensor
    rows: torch.Tensor


Augment = Callable[[Batch, torch.Generator], Batch]
"""Changes a batch of images in 0..1, before they are normalised. The generator lives on the CPU: draw
there and move what was drawn to `batch.images.device`, so that every device gets the same numbers."""


def preload(
    cache: Cache,
    rows: Sequence[int] | np.ndarray | None = None,
    *,
    device: str | torch.device = "cpu",
    threads: int | None = None,
    shared: bool = False,
) -> Pixels:
    """Read pixels into memory, once, several threads at a time; stderr says how much and how fast.

    Args:
        cache: an open cache.
        rows: which of its rows, in which order; all that have pixels where not given.
        device: where to keep them. What does not fit on an accelerator stays in main memory, what
            does not fit there stays on the disk; a line on stderr says so.
        threads: that read; as many as the process has CPUs where not given.
        shared: keep them in a block that all processes of this user share which ask for the same
            rows (DDP ranks), and which forked workers share anyway.

    Raises:
        CacheError: a row has no pixels, or a shard is damaged.
    """
    chosen = cache.usable() if rows is None else np.asarray(rows, np.int64)
    _need_pixels(cache, chosen)
    shapes = [(len(chosen), *cache.size, 3)] + [(len(chosen), *cache.size)] * cache.has_alpha
    size = sum(int(np.prod(shape)) for shape in shapes)
    device = torch.device(device)
    kept = torch.from_numpy(chosen.copy())
    place = _place(size, device, shared)
    if place == "disk":
        maps = [_mapped(cache, chosen, which) for which in range(len(shapes))]
        return Pixels(maps[0], maps[1] if cache.has_alpha else None, kept)
    started = time.perf_counter()
    fill = partial(_fill, cache, chosen, shapes, threads)
    if place == "shared":
        flat = memory.share(_content(cache, chosen), size, fill)
    else:
        flat = memory.block((size,))
        fill(flat)
    arrays = [torch.from_numpy(part) for part in _split(flat, shapes)]
    if place == "device":
        arrays = [array.to(device) for array in arrays]
    seconds = max(time.perf_counter() - started, 1e-9)
    terminal.note(
        f"{len(chosen):,} crops, {size / 1e9:.2f} GB, in {seconds:.1f} s ({size / seconds / 1e9:.1f} GB/s), "
        f"{'in memory shared by processes' if place == 'shared' else f'on {device}'}"
    )
    return Pixels(arrays[0], arrays[1] if cache.has_alpha else None, kept)


def batches(
    pixels: Pixels,
    targets: torch.Tensor,
    order: torch.Tensor | np.ndarray | Sequence[int],
    *,
    batch_size: int,
    view: str = "figure",
    fill: str | Sequence[str] = "black",
    augment: Augment | None = None,
    mean: Sequence[float] = MEAN,
    std: Sequence[float] = STD,
    seed: int = 0,
    epoch: int = 0,
    start: int = 0,
    device: str | torch.device = "cpu",
    drop_last: bool = False,
    shift_px: int = 0,
    flip: bool = False,
) -> Iterator[Batch]:
    """The batches of one epoch, the next one made in the background while one is used.

    A batch is: gather, shift and flip, view and fill, augment, normalise, in that order. It depends
    on (seed, epoch, its number) and on nothing else, so an epoch can be entered in the middle.

    Args:
        pixels: of `preload`.
        targets: f32 [n c], one row a crop of `pixels`.
        order: i64[m], positions in `pixels`; may leave out and repeat.
        batch_size: the last batch may be smaller, unless `drop_last`.
        view, fill: of `cache.views`; of several fills each photo draws one.
        augment: changes the batch while images are in 0..1.
        mean, std: of each colour, in 0..1: images come as (image - mean) / std.
        seed, epoch: what random choices depend on.
        start: the first batch to make, counted from 0.
        device: where the batches are wanted.
        shift_px: each crop is moved by up to so many px in x and y, drawn uniformly; what comes in
            at the border is mirrored.
        flip: mirror half of the crops, drawn.

    Raises:
        UserError: an unknown view or fill, or one that needs an alpha which the cache lacks.
    """
    fills = views.check(view, fill, has_alpha=pixels.alpha is not None)
    order = torch.as_tensor(order, dtype=torch.int64)
    count = len(order) // batch_size if drop_last else -(-len(order) // batch_size)
    device = torch.device(device)

    def make(number: int) -> Batch:
        rng = _generator(seed, epoch, number)
        rows = order[number * batch_size : (number + 1) * batch_size]
        windows = _windows(len(rows), shift_px, flip, rng)
        images = views.to_float(_gather(pixels.rgb, rows, windows).to(device))
        alpha = None
        if pixels.alpha is not None:
            alpha = views.to_float(_gather(pixels.alpha, rows, windows)[..., None].to(device))
        images = views.take(images, alpha, views.draw(len(rows), fills, rng), view=view)
        batch = Batch(images, alpha, targets[rows.to(targets.device)].to(device), rows)
        batch = augment(batch, rng) if augment else batch
        return replace(batch, images=_normalise(batch.images, mean, std))

    return _ahead(make, range(start, count))


def _ahead(make: Callable[[int], Batch], numbers: range) -> Iterator[Batch]:
    """`make(number)` for each, one ahead of what is being used."""
    with ThreadPoolExecutor(1) as worker:
        pending = [worker.submit(make, number) for number in numbers[:1]]
        for number in numbers:
            batch = pending.pop().result()
            if number + 1 in numbers:
                pending.append(worker.submit(make, number + 1))
            yield batch


def _generator(seed: int, epoch: int, number: int) -> torch.Generator:
    state = np.random.SeedSequence([seed, epoch, number]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))


def _windows(count: int, shift_px: int, flip: bool, rng: torch.Generator) -> np.ndarray:
    """i64 [count 3]: dy, dx in px, and whether to flip."""
    shifts = torch.randint(-shift_px, shift_px + 1, (count, 2), generator=rng)
    flips = torch.randint(2, (count, 1), generator=rng) * int(flip)
    return torch.cat([shifts, flips], 1).numpy()


def _gather(source: torch.Tensor | Mapped, rows: torch.Tensor, windows: np.ndarray) -> torch.Tensor:
    """u8 [b h w (3)]: rows of the source, each shifted and flipped."""
    read = source.read if isinstance(source, Mapped) else source.numpy().__getitem__
    out = np.empty((len(rows), *source.shape[1:]), np.uint8)
    for place, (row, window) in enumerate(zip(rows.tolist(), windows.tolist(), strict=True)):
        dy, dx, mirror = window
        _cut(read(row), dy, dx, mirror, out[place])
    return torch.from_numpy(out)


def _cut(crop: np.ndarray, dy: int, dx: int, flip: int, out: np.ndarray) -> None:
    """Write the window of `crop` that begins at (dy, dx) to `out`, mirrored at the borders, then flipped."""
    height, width = crop.shape[:2]
    seen = crop[max(dy, 0) : height + min(dy, 0), max(dx, 0) : width + min(dx, 0)]
    sides = (max(-dy, 0), max(dy, 0), max(-dx, 0), max(dx, 0))
    moved = cv2.copyMakeBorder(seen, *sides, cv2.BORDER_REFLECT_101)
    out[...] = cv2.flip(moved, 1) if flip else moved


def _normalise(images: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    centre, width = (images.new_tensor(values)[:, None, None] for values in (mean, std))
    return (images - centre) / width


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


def _mapped(cache: Cache, rows: np.ndarray, which: int) -> Mapped:
    shards, slots = (column[rows] for column in cache.places)
    shape = (len(rows), *cache.size, 3) if which == 0 else (len(rows), *cache.size)
    return Mapped(shape, partial(_read, cache, shards, slots, which))


def _read(cache: Cache, shards: np.ndarray, slots: np.ndarray, which: int, row: int) -> np.ndarray:
    array = cache.shard(int(shards[row]))[which]
    assert array is not None
    return array[slots[row]]


def _split(flat: np.ndarray, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    """One block as the arrays that lie in it one behind the other."""
    ends = np.cumsum([np.prod(shape) for shape in shapes])
    return [part.reshape(shape) for part, shape in zip(np.split(flat, ends[:-1]), shapes, strict=True)]


def _fill(
    cache: Cache, rows: np.ndarray, shapes: Sequence[tuple[int, ...]], threads: int | None, flat: np.ndarray
) -> None:
    """Copy the pixels of `rows` into one block, in chunks, several threads at a time."""
    arrays = _split(flat, shapes)
    shards, slots = (column[rows] for column in cache.places)
    step = max(1, CHUNK_BYTES // max(1, int(np.prod(shapes[0][1:]))))
    runs = [run for first in range(0, len(rows), step) for run in _runs(shards, slots, first, first + step)]

    def copy(run: tuple[int, int, int, int]) -> int:
        first, last, shard, slot = run
        for array, source in zip(arrays, cache.shard(shard), strict=False):
            assert source is not None
            np.copyto(array[first:last], source[slot : slot + last - first])
        return last - first

    with (
        ThreadPoolExecutor(threads or memory.cpus()) as pool,
        terminal.bar(len(rows), label="preload", unit="crop") as shown,
    ):
        for count in pool.map(copy, runs):
            shown.update(count)


def _runs(
    shards: np.ndarray, slots: np.ndarray, first: int, last: int
) -> Iterator[tuple[int, int, int, int]]:
    """(first, last, shard, slot) of stretches that lie in one piece in a shard."""
    last = min(last, len(slots))
    joined = (np.diff(shards[first:last]) == 0) & (np.diff(slots[first:last]) == 1)
    starts = [first, *(first + 1 + np.flatnonzero(~joined)).tolist(), last]
    for begin, end in pairwise(starts):
        yield begin, end, int(shards[begin]), int(slots[begin])


def _content(cache: Cache, rows: np.ndarray) -> str:
    """A name for the pixels of these rows: equal names, equal bytes."""
    hashes: Any = cache.table["pixels"].take(rows).to_pylist()
    text = "\n".join([str(cache.size), str(cache.has_alpha), *hashes])
    return hashlib.sha256(text.encode()).hexdigest()[:32]
