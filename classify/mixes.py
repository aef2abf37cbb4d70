"""Augmentations that mix a photo with another of its batch, and their targets with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from cache.loader import Batch
from classify.draws import beta, changed, drawn_pairs, drawn_rows, rectangles, uniform


def mixup(batch: Batch, rng: torch.Generator, *, p: float = 0.5, alpha: float = 0.2) -> Batch:
    """Photo and target blended with another's, in shares ~ Beta(alpha, alpha) (Zhang et al., 2018)."""
    rows, others = drawn_pairs(batch, rng, p)
    share = beta(rows, rng, alpha)

    def blend(whole: Tensor) -> Tensor:
        kept = share.view(-1, *[1] * (whole.dim() - 1))
        return changed(whole, rows, torch.lerp(whole[others], whole[rows], kept.to(whole)))

    return _blend(batch, blend, blend)


def cutmix(batch: Batch, rng: torch.Generator, *, p: float = 0.5, alpha: float = 1.0) -> Batch:
    """A rectangle of another photo pasted in, targets mixed by area (Yun et al., "CutMix", 2019)."""
    rows, others = drawn_pairs(batch, rng, p)
    pasted = 1 - beta(rows, rng, alpha)
    inside = rectangles(batch.images[rows], rng, pasted, torch.ones_like(pasted))
    share = inside.to(batch.targets.dtype).mean(dim=(1, 2, 3))[:, None]

    def paste(whole: Tensor) -> Tensor:
        return changed(whole, rows, torch.where(inside, whole[others], whole[rows]))

    def mix(whole: Tensor) -> Tensor:
        return changed(whole, rows, torch.lerp(whole[rows], whole[others], share))

    return _blend(batch, paste, mix)


def half_cutmix(batch: Batch, rng: torch.Generator, *, p: float = 0.5) -> Batch:
    """The left or the right half of another photo of the same class pasted in; targets stay.

    Meant for faces in the middle of the photo. A photo that is alone in its class in the batch stays.
    """
    rows = drawn_rows(batch, rng, p)
    count = len(batch.images)
    same = (batch.targets[rows, None] == batch.targets[None]).all(dim=2)
    same = same & (rows[:, None] != torch.arange(count, device=rows.device))
    drawn = torch.rand(len(rows), count, generator=rng).to(rows.device)
    others = torch.where(same, drawn, -1.0).argmax(dim=1)
    others = torch.where(same.any(dim=1), others, rows)
    width = batch.images.shape[3]
    left = torch.arange(width, device=rows.device) < width // 2
    swapped = (uniform(rows, rng, 0, 1) < 0.5)[:, None, None, None] ^ left

    def paste(whole: Tensor) -> Tensor:
        return changed(whole, rows, torch.where(swapped, whole[others], whole[rows]))

    return _blend(batch, paste, lambda targets: targets)


def _blend(batch: Batch, pixels: Callable[[Tensor], Tensor], targets: Callable[[Tensor], Tensor]) -> Batch:
    alpha = None if batch.alpha is None else pixels(batch.alpha)
    return replace(batch, images=pixels(batch.images), alpha=alpha, targets=targets(batch.targets))
