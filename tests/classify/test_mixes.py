from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cache.loader import Batch
from classify.draws import rectangles
from classify.mixes import cutmix, half_cutmix, mixup


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def plain(count: int = 64, classes: int | None = None, size: tuple[int, int] = (16, 20)) -> Batch:
    """Photo i is of the one level i / count everywhere, alpha too; its class is i, or i modulo `classes`."""
    level = torch.arange(count) / count
    images = level[:, None, None, None].expand(count, 3, *size)
    targets = F.one_hot(torch.arange(count) % (classes or count)).float()
    return Batch(images, images[:, :1], targets, torch.arange(count))


def means(batch: Batch) -> tuple[Tensor, Tensor]:
    assert batch.alpha is not None
    return batch.images.mean((1, 2, 3)), batch.alpha.mean((1, 2, 3))


@pytest.mark.parametrize("mix", [mixup, cutmix])
@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_targets_are_mixed_as_the_pixels_are(mix: object, alpha: float) -> None:
    batch = plain()
    mixed = mix(batch, rng(), p=0.7, alpha=alpha)  # type: ignore[operator]
    torch.testing.assert_close(mixed.targets.sum(1), torch.ones(64))
    levels = mixed.targets @ batch.images[:, 0, 0, 0]
    for mean in means(mixed):
        torch.testing.assert_close(mean, levels)
    assert (mixed.targets > 0).sum(1).max() == 2
    own = mixed.targets.diagonal() == 1
    assert 10 < own.sum() < 50, "about 0.3 of 64, and a few that met themselves or a share near 0"
    assert (mixed.images[own] == batch.images[own]).all()


def test_mixup_shares_follow_the_beta_distribution() -> None:
    batch = plain(3000, size=(1, 1))
    for alpha in (0.3, 1.0, 4.0):
        kept = mixup(batch, rng(), p=1.0, alpha=alpha).targets.diagonal()
        # of Beta(a, a) the mean is 1/2 and the variance 1 / (4 (2 a + 1)); a row meets itself once in 3,000
        assert kept.mean().item() == pytest.approx(0.5, abs=0.03)
        assert kept.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.08)


def test_cutmix_pastes_one_rectangle() -> None:
    batch = plain()
    mixed = cutmix(batch, rng(), p=1.0)
    pasted = (mixed.images != batch.images).any(1)
    rows, columns = pasted.any(2), pasted.any(1)
    assert torch.equal(pasted, rows[:, :, None] & columns[:, None, :])
    assert 0.3 < pasted.float().mean() < 0.7


@pytest.mark.parametrize("size", [(16, 20), (15, 21)])
def test_a_half_comes_from_another_of_the_class(size: tuple[int, int]) -> None:
    batch = plain(64, classes=5, size=size)
    mixed = half_cutmix(batch, rng(), p=0.8)
    assert torch.equal(mixed.targets, batch.targets)
    middle = size[1] // 2
    own = batch.images[:, 0, 0, 0]
    left, right = mixed.images[..., :middle], mixed.images[..., middle:]
    for half in (left, right):
        assert (half == half[:, :1, :1, :1]).all(), "each half is of one photo"
    left, right = left[:, 0, 0, 0], right[:, 0, 0, 0]
    assert ((left == own) | (right == own)).all()
    other = torch.where(left == own, right, left)
    assert ((other * 64).round() % 5 == torch.arange(64) % 5).all()
    changed = (left != own) | (right != own)
    assert 0.6 < changed.float().mean() < 0.95
    assert (left != own).any()
    assert (right != own).any()
    assert mixed.alpha is not None
    torch.testing.assert_close(mixed.alpha, mixed.images[:, :1])


def test_a_photo_alone_in_its_class_keeps_both_halves() -> None:
    batch = plain(6)
    assert torch.equal(half_cutmix(batch, rng(), p=1.0).images, batch.images)


def test_classes_of_several_heads_must_all_agree() -> None:
    batch = plain(4)
    heads = torch.tensor([[1, 0, 1, 0], [1, 0, 0, 1], [1, 0, 1, 0], [0, 1, 1, 0]]).float()
    mixed = half_cutmix(replace(batch, targets=heads), rng(), p=1.0)
    changed = (mixed.images != batch.images).flatten(1).any(1)
    assert changed.tolist() == [True, False, True, False]


def test_a_batch_of_one_is_left_alone() -> None:
    batch = plain(1)
    for mix in (mixup, cutmix, half_cutmix):
        mixed = mix(batch, rng(), p=1.0)
        torch.testing.assert_close(mixed.images, batch.images)
        torch.testing.assert_close(mixed.targets, batch.targets)


def test_rectangles_reach_every_pixel_and_lie_inside() -> None:
    area = torch.full((4000,), 0.25)
    inside = rectangles(torch.zeros(4000, 3, 10, 10), rng(), area, torch.ones(4000))
    assert (inside.sum((1, 2, 3)) == 25).all()
    often = inside.float().mean((0, 1))
    assert often.min() > 0.01
    torch.testing.assert_close(often, often.flip(0), atol=0.05, rtol=0)
    torch.testing.assert_close(often, often.flip(1), atol=0.05, rtol=0)
    none, whole = (
        rectangles(torch.zeros(5, 3, 9, 7), rng(), torch.full((5,), x), torch.ones(5)) for x in (0.0, 1.0)
    )
    assert not none.any()
    assert whole.all()
