"""What augmentations share: chances, drawn numbers, and batches of which some rows are changed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from cache.loader import Batch


def drawn_rows(batch: Batch, rng: torch.Generator, p: float) -> Tensor:
    """The rows to change, i64 [m], each with chance p."""
    drawn = torch.rand(len(batch.images), generator=rng) < p
    return torch.nonzero(drawn).squeeze(1).to(batch.images.device, non_blocking=True)


def drawn_pairs(batch: Batch, rng: torch.Generator, p: float) -> tuple[Tensor, Tensor]:
    """The rows to change and, for each, the other one, i64 [m] each; a row may meet itself."""
    rows = drawn_rows(batch, rng, p)
    others = torch.randperm(len(batch.images), generator=rng)
    return rows, others.to(rows.device, non_blocking=True)[rows]


def uniform(rows: Tensor, rng: torch.Generator, low: float, high: float) -> Tensor:
    """f32 [m], a number for each row."""
    drawn = torch.rand(len(rows), generator=rng)
    return (low + (high - low) * drawn).to(rows.device, non_blocking=True)


def beta(rows: Tensor, rng: torch.Generator, alpha: float) -> Tensor:
    """f32 [m] ~ Beta(alpha, alpha); torch's own takes no generator."""
    seed = int(torch.randint(2**62, (), generator=rng))
    drawn = np.random.default_rng(seed).beta(alpha, alpha, len(rows))
    return torch.from_numpy(drawn.astype(np.float32)).to(rows.device, non_blocking=True)


def beside(images: Tensor, rng: torch.Generator) -> torch.Generator:
    """The generator itself, or one on the images' device that is seeded from it."""
    if images.device.type == "cpu":
        return rng
    return torch.Generator(images.device).manual_seed(int(torch.randint(2**62, (), generator=rng)))


def rectangles(images: Tensor, rng: torch.Generator, area: Tensor, tall: Tensor) -> Tensor:
    """bool [m 1 h w]: inside a rectangle of about that share of the area.

    `tall` is its height over its width, each as a share of the photo's: at 1 it has the photo's shape.
    Its place is drawn so that all of it lies inside; one too long for the photo is cut to it.
    """
    (m, _, h, w), device = images.shape, images.device
    inside = torch.ones(m, 1, h, w, dtype=torch.bool, device=device)
    for axis, length, stretch in ((2, h, tall), (3, w, 1 / tall)):
        size = (length * (area * stretch).sqrt()).round().clamp_max(length)
        start = (uniform(area, rng, 0, 1) * (length - size + 1)).floor()
        place = torch.arange(length, device=device)
        shape = [m, 1, 1, 1]
        shape[axis] = length
        inside = inside & ((place >= start[:, None]) & (place < (start + size)[:, None])).view(shape)
    return inside


def changed(whole: Tensor, rows: Tensor, part: Tensor) -> Tensor:
    """A copy in which some rows are others; it lies in memory as it did (channels last stay so)."""
    copy = whole.clone()
    copy[rows] = part
    return copy


def put(batch: Batch, rows: Tensor, images: Tensor, alpha: Tensor | None = None) -> Batch:
    """The batch with other images, and other alpha where given, in some of its rows."""
    whole = batch.alpha
    return replace(
        batch,
        images=changed(batch.images, rows, images),
        alpha=whole if whole is None or alpha is None else changed(whole, rows, alpha),
    )


def take(batch: Batch, rows: Tensor) -> Batch:
    """Some rows of a batch, as a batch."""
    return Batch(
        images=batch.images[rows],
        alpha=None if batch.alpha is None else batch.alpha[rows],
        targets=batch.targets[rows],
        rows=batch.rows[rows],
    )


def merge(batch: Batch, rows: Tensor, part: Batch) -> Batch:
    """A batch of some rows, put back to them."""
    merged = put(batch, rows, part.images, part.alpha)
    return replace(merged, targets=changed(batch.targets, rows, part.targets))
