"""Area averaging by integral images: any window of any photo, at any size, for four look-ups a pixel."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

BLOCK = 16
"""Rows that are summed one by one before the blocks are; about the square root of a photo's height."""


def integral(images: Tensor, reduce: int = 1) -> Tensor:
    """Sums of all pixels above and left of each pixel corner: any area's mean is four look-ups away.

    Args:
        images: u8 [n h w 3].
        reduce: sum blocks of this many px a side first (at most 128); what fills no block is left out.

    Returns:
        i32 [n rows w/reduce+1 3], with `sum_rows(h/reduce)` rows of which the last are without meaning. The
        sums of a large photo wrap round; their differences are right all the same, as long as the area
        itself has less than 2**31 / 255 pixels.
    """
    n, h, w = images.shape[0], images.shape[1] // reduce, images.shape[2] // reduce
    if reduce > 1:
        images = _blocks(images[:, : h * reduce, : w * reduce], reduce)
    # Down the columns in blocks of rows: adding whole rows is several times as fast as walking each column.
    blocks = sum_rows(h) // BLOCK
    sums = torch.empty((n, blocks, BLOCK, (w + 1) * 3), dtype=torch.int32, device=images.device)
    pixels = sums.view(n, blocks * BLOCK, w + 1, 3)
    pixels[:, 0], pixels[:, :, 0], pixels[:, h + 1 :] = 0, 0, 0
    torch.cumsum(images, 2, dtype=torch.int32, out=pixels[:, 1 : h + 1, 1:])
    for row in range(1, BLOCK):
        sums[:, :, row] += sums[:, :, row - 1]
    sums[:, 1:] += sums[:, :-1, -1:].cumsum(1, dtype=torch.int32)
    return pixels


def _blocks(images: Tensor, side: int) -> Tensor:
    """Sums of blocks of pixels: i32 [n h/side w/side 3]. Plain additions, as `sum` crawls over bytes."""
    rows = images[:, ::side].to(torch.int16)
    for i in range(1, side):
        rows += images[:, i::side]
    sums = rows[:, :, ::side].to(torch.int32)
    for i in range(1, side):
        sums += rows[:, :, i::side]
    return sums


def sum_rows(height: int) -> int:
    """Rows in the integral image of a photo of this height: one more, filled up to whole blocks."""
    return -(-(height + 1) // BLOCK) * BLOCK


@dataclass(frozen=True)
class Sums:
    """Integral images of photos of any sizes, one behind the other.

    Attributes:
        cells: i32 [cells 3].
        start: i64 [photos], where each photo's cells begin.
        height, width: i64 [photos], px.
        block: f32 [photos], true pixels in each pixel summed (the reduction squared).
    """

    cells: Tensor
    start: Tensor
    height: Tensor
    width: Tensor
    block: Tensor


def area_means(
    sums: Sums, photo: Tensor, window: Tensor, size: tuple[int, int], own: Tensor | None = None
) -> Tensor:
    """Windows of photos, resized by area averaging: what torch's `interpolate(mode="area")` computes.

    Args:
        sums: the photos.
        photo: i64 [n], which photo each window is of.
        window: i64 [n 4], x0 y0 x1 y1 in px, inside the photo, not empty.
        size: height and width of the results.
        own: i64 [n 2], each result's own, smaller size; what lies beyond it is without meaning.

    Returns:
        f32 [n 3 h w], channels last, scaled to -1..1 as the networks expect it.
    """
    rows, columns = size
    own = torch.tensor([size], device=window.device) if own is None else own
    y0, y1 = _edges(window[:, 1], window[:, 3], own[:, 0], rows)
    x0, x1 = _edges(window[:, 0], window[:, 2], own[:, 1], columns)
    scale = 1 / (128 * sums.block[photo])[:, None] / (y1 - y0)
    scale = scale[:, :, None] / (x1 - x0)[:, None, :]
    step, start = sums.width[photo][:, None] + 1, sums.start[photo][:, None]
    y0, y1 = ((y * step + start).int()[:, :, None] for y in (y0, y1))
    x0, x1 = (x.int()[:, None, :] for x in (x0, x1))

    def corner(y: Tensor, x: Tensor) -> Tensor:
        return sums.cells.index_select(0, (y + x).flatten())

    total = corner(y1, x1).sub_(corner(y0, x1)).sub_(corner(y1, x0)).add_(corner(y0, x0))
    means = total.view(len(photo), rows, columns, 3) * scale[..., None]
    return means.sub_(127.5 / 128).permute(0, 3, 1, 2)


def _edges(low: Tensor, high: Tensor, out: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """First and last+1 source px of each output px: floor(i * in / out), ceil((i + 1) * in / out)."""
    i = torch.arange(most, device=low.device).minimum(out[:, None] - 1)
    span, out, low = (high - low)[:, None], out[:, None], low[:, None]
    return low + i * span // out, low + ((i + 1) * span + out - 1) // out


def spans(lengths: list[int]) -> list[tuple[int, int]]:
    """Start and end of parts of these lengths, one behind the other."""
    ends = [0]
    for length in lengths:
        ends.append(ends[-1] + length)
    return list(pairwise(ends))
