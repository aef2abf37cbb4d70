"""Rows of u8 pixels as f32 images: shifted, flipped and scaled, on CPU threads or on a device."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import lru_cache

import cv2
import numpy as np
import torch

from cache.memory import Mapped

PART = 8
"""Photos that a thread loads at a time."""

PART_BYTES = 1 << 20
"""The same for a view, in bytes of f32 image: what stays in a core's cache between two operations.

Both depend on the size of a photo alone, and torch runs in one thread inside a part: so a batch has
the same bits whatever the number of threads.
"""


@dataclass(frozen=True)
class Scale:
    """Per colour c: out = factor[c] * pixel + offset[c]."""

    factor: tuple[float, ...]
    offset: tuple[float, ...]


def windows(count: int, shift_px: int, flip: bool, rng: torch.Generator) -> torch.Tensor:
    """i64 [count 3]: dy and dx, uniform in -shift_px..shift_px, and 1 to flip, else 0."""
    shifts = torch.randint(-shift_px, shift_px + 1, (count, 2), generator=rng)
    flips = torch.randint(2, (count, 1), generator=rng) * int(flip)
    return torch.cat([shifts, flips], 1)


def small_parts(count: int, shape: tuple[int, ...]) -> list[slice]:
    """A batch of `count` f32 images of this shape, cut into parts of about PART_BYTES."""
    return parts(count, max(1, PART_BYTES // (4 * int(np.prod(shape)))))


def parts(count: int, step: int = PART) -> list[slice]:
    """A batch of `count` images, cut into parts of `step`."""
    return [slice(first, min(first + step, count)) for first in range(0, count, step)]


def load(
    source: torch.Tensor | Mapped,
    rows: torch.Tensor,
    windows: torch.Tensor,
    out: torch.Tensor,
    scale: Scale | None = None,
) -> None:
    """Write rows of a source on the CPU to `out`, each through its window and scaled.

    A window begins at (dy, dx) of the photo and is as large; what lies outside is mirrored at the
    border (the border itself not doubled). Then it is flipped, if so drawn.

    Args:
        source: u8 [n h w 3] or [n h w].
        rows: i64 [b].
        windows: i64 [b 3], of `windows`.
        out: f32 [b 3 h w] or [b 1 h w]; with a scale, channels last in memory.
        scale: what becomes of 0..255; where not given, 0..1.
    """
    read = source.read if isinstance(source, Mapped) else source.numpy().__getitem__
    height, width = source.shape[1:3]
    colours = source.shape[3] if len(source.shape) == 4 else 1
    scratch = _scratch(height, width, colours)
    lines = out.permute(0, 2, 3, 1)
    patterns = _patterns(scale, width) if scale else None
    for place, (row, (dy, dx, flip)) in enumerate(zip(rows.tolist(), windows.tolist(), strict=True)):
        image = lines[place]
        image.copy_(_tensor(_cut(read(row), dy, dx, flip, scratch)).view(image.shape))
        if patterns:
            _scale_lines(image, *patterns)
        else:
            image.div_(255)


def load_on_device(
    source: torch.Tensor, rows: torch.Tensor, windows: torch.Tensor, scale: Scale | None = None
) -> torch.Tensor:
    """The same for a source on any device, as one gather: f32 [b 3 h w] or [b 1 h w], channels last."""
    device = source.device
    (height, width), moves = source.shape[1:3], windows.to(device)
    y = _mirror(torch.arange(height, device=device) + moves[:, :1], height)
    x = _mirror(torch.arange(width, device=device) + moves[:, 1:2], width)
    x = torch.where(moves[:, 2:] > 0, x.flip(1), x)
    pixels = source[rows.to(device)[:, None, None], y[:, :, None], x[:, None, :]]
    pixels = pixels if pixels.dim() == 4 else pixels[..., None]
    images = pixels.permute(0, 3, 1, 2).float()
    return rescale(images, scale) if scale else images.div_(255)


def rescale(images: torch.Tensor, scale: Scale) -> torch.Tensor:
    """`factor * image + offset` of f32 [b c h w], a new tensor."""
    factor, offset = (images.new_tensor(values)[:, None, None] for values in (scale.factor, scale.offset))
    return torch.addcmul(offset, images, factor)


def rescale_into(out: torch.Tensor, images: torch.Tensor, scale: Scale) -> None:
    """The same on the CPU into f32 [b c h w] that is channels last in memory."""
    patterns = _patterns(scale, out.shape[3])
    for image, line in zip(images, out.permute(0, 2, 3, 1), strict=True):
        line.copy_(image.permute(1, 2, 0))
        _scale_lines(line, *patterns)


@dataclass(frozen=True)
class Buffers:
    """Memory for batches, used again once nobody holds the batch that was in it.

    New memory for each batch would cost more than filling it: the system hands it out in pages
    of 4 KB, each cleared first. A batch that someone keeps keeps its memory, and is never written to.
    """

    arrays: list[np.ndarray] = field(default_factory=list)

    def take(self, *shape: int) -> torch.Tensor:
        """f32 of this shape, of any content."""
        for array in self.arrays:
            # The list, the loop and the call itself refer to the array; a living tensor would be a fourth.
            if array.shape == shape and sys.getrefcount(array) == 3:
                break
        else:
            array = np.empty(shape, np.float32)
            self.arrays.append(array)
        return torch.from_numpy(array)


def workers(threads: int) -> ThreadPoolExecutor:
    """Threads in each of which torch itself works with one thread."""
    usual = torch.get_num_threads()
    together = threading.Barrier(threads)

    def settle() -> None:
        torch.set_num_threads(1)
        together.wait()

    pool = ThreadPoolExecutor(threads)
    wait([pool.submit(settle) for _ in range(threads)])
    torch.set_num_threads(usual)  # for threads to come: the call above was also about those
    return pool


def each(pool: ThreadPoolExecutor, work: Callable[[slice], None], some: list[slice]) -> None:
    """`work` on each part, and wait."""
    for _ in pool.map(work, some):
        pass


def _cut(crop: np.ndarray, dy: int, dx: int, flip: int, scratch: np.ndarray) -> np.ndarray:
    """The window of a photo, u8 [h w] or [h w 3]: `crop` itself where nothing is to be done."""
    if dy or dx:
        height, width = crop.shape[:2]
        seen = crop[max(dy, 0) : height + min(dy, 0), max(dx, 0) : width + min(dx, 0)]
        sides = (max(-dy, 0), max(dy, 0), max(-dx, 0), max(dx, 0))
        crop = cv2.copyMakeBorder(seen, *sides, cv2.BORDER_REFLECT_101, dst=scratch[0])
    return cv2.flip(crop, 1, dst=scratch[1]) if flip else crop


def _tensor(array: np.ndarray) -> torch.Tensor:
    # What is mapped from a file can't be written to, of which torch would warn; nothing here writes.
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def _mirror(place: torch.Tensor, size: int) -> torch.Tensor:
    place = place.abs()
    return torch.where(place >= size, 2 * (size - 1) - place, place)


def _scale_lines(image: torch.Tensor, factor: torch.Tensor, offset: torch.Tensor) -> None:
    """Scale a photo [h w c] in place."""
    # Whole lines against a repeated pattern: an inner loop over 3 colours takes 6 times as long.
    lines = image.view(image.shape[0], -1)
    torch.addcmul(offset, lines, factor, out=lines)


_own = threading.local()


def _scratch(*shape: int) -> np.ndarray:
    """Two photos' room, u8 [2 ...], this thread's own and used again: new memory takes longer than a flip."""
    if getattr(_own, "shape", None) != shape:
        _own.shape, _own.array = shape, np.empty((2, *shape), np.uint8)
    array: np.ndarray = _own.array
    return array


@lru_cache
def _patterns(scale: Scale, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Factor and offset for a whole line of pixels: f32 [w * colours] each."""
    return torch.tensor(scale.factor).repeat(width), torch.tensor(scale.offset).repeat(width)
