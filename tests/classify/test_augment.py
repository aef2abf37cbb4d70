from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as reference

from cache.loader import Batch
from classify.augment import (
    AUGMENTATIONS,
    blur,
    chain,
    color_jitter,
    erase,
    flip,
    grey,
    noise,
    one_of,
    rotate,
    shift_crop,
)
from configs.errors import UserError
from configs.settings import Chosen, schema_of

FLIP = {"__class_fullname__": "HorizontalFlip", "p": 0.5}
NEEDED: dict[str, dict[str, Any]] = {
    "one_of": {"of": [{"name": "flip", "p": 1.0}, {"name": "noise", "p": 1.0}]},
    "albumentations": {"pipeline": FLIP, "threads": 2},
}
"""Settings without a default."""

BLENDS = ("mixup", "cutmix", "half_cutmix")
MOVES = [
    ("flip", {}),
    ("shift_crop", {}),
    ("rotate", {}),
    ("albumentations", {"pipeline": {**FLIP, "p": 1.0}}),
]
PADDINGS = ("reflect", "edge", "black")


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photos(count: int = 8, height: int = 20, width: int = 24, seed: int = 0) -> Batch:
    """Blurred noise, so that neighbours are alike; channels last; classes 0, 0, 1, 1, ..."""
    drawn = torch.rand(count, 4, height, width, generator=rng(seed))
    drawn = F.avg_pool2d(F.pad(drawn, (2, 2, 2, 2), mode="reflect"), 5, stride=1) * 2 - 0.5
    images = drawn[:, :3].clamp(0, 1).contiguous(memory_format=torch.channels_last)
    targets = F.one_hot(torch.arange(count) // 2).float()
    return Batch(images, drawn[:, 3:].clamp(0, 1), targets, torch.arange(count))


def settings_of(name: str, **settings: Any) -> dict[str, Any]:
    """As a preset's are: filled in and checked."""
    schema = schema_of(AUGMENTATIONS[name])
    return schema.model_validate({**NEEDED.get(name, {}), **settings}).model_dump()


def same(one: Batch, other: Batch) -> bool:
    pairs = [(getattr(one, field), getattr(other, field)) for field in ("images", "alpha", "targets", "rows")]
    return all(a is b or torch.equal(a, b) for a, b in pairs)


def changed_rows(one: Batch, other: Batch) -> Tensor:
    return (one.images != other.images).flatten(1).any(1)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_same_draw_same_batch_and_nothing_in_place(name: str) -> None:
    batch, kept = photos(), photos()
    settings = settings_of(name, p=1.0)
    first = AUGMENTATIONS[name](batch, rng(1), **settings)
    assert same(first, AUGMENTATIONS[name](batch, rng(1), **settings))
    assert not same(first, AUGMENTATIONS[name](batch, rng(2), **settings)) or name in ("flip", "grey")
    assert same(batch, kept)
    assert changed_rows(first, batch).any()


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_a_batch_stays_a_batch(name: str) -> None:
    batch = photos()
    changed = AUGMENTATIONS[name](batch, rng(), **settings_of(name, p=1.0))
    for field in ("images", "alpha", "targets"):
        before, after = getattr(batch, field), getattr(changed, field)
        assert (after.shape, after.dtype) == (before.shape, before.dtype)
        assert (after >= 0).all()
        assert (after <= 1 + 1e-6).all()
    assert changed.images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(changed.rows, batch.rows)
    if name not in ("mixup", "cutmix"):
        assert torch.equal(changed.targets, batch.targets)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_without_alpha_the_images_are_the_same(name: str) -> None:
    settings = settings_of(name, p=0.7)
    batch = photos()
    bare = AUGMENTATIONS[name](replace(batch, alpha=None), rng(), **settings)
    assert bare.alpha is None
    assert torch.equal(bare.images, AUGMENTATIONS[name](batch, rng(), **settings).images)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_each_photo_has_its_own_chance(name: str) -> None:
    batch = photos(count=400, height=8, width=8)
    assert same(batch, AUGMENTATIONS[name](batch, rng(), **settings_of(name, p=0.0)))
    settings = {"pipeline": {**FLIP, "p": 1.0}} if name == "albumentations" else {}
    share = changed_rows(batch, AUGMENTATIONS[name](batch, rng(), **settings_of(name, p=0.4, **settings)))
    # four standard deviations, and for mixtures the few photos that meet themselves
    assert abs(share.float().mean() - 0.4) < 4 * (0.4 * 0.6 / 400) ** 0.5 + 0.01


@pytest.mark.parametrize(("name", "settings"), MOVES)
def test_what_moves_pixels_moves_alpha(name: str, settings: dict[str, Any]) -> None:
    batch = photos()
    assert batch.alpha is not None
    # to whole levels of 8 bits, so that albumentations loses nothing
    alpha = (batch.alpha * 255).round() / 255
    batch = replace(batch, images=alpha.expand(-1, 3, -1, -1), alpha=alpha)
    moved = AUGMENTATIONS[name](batch, rng(), **settings_of(name, p=1.0, **settings))
    assert moved.alpha is not None
    assert changed_rows(moved, batch).any()
    torch.testing.assert_close(moved.images, moved.alpha.expand(-1, 3, -1, -1))


@pytest.mark.parametrize("name", ["color_jitter", "grey", "blur", "noise", "erase"])
def test_what_changes_colours_leaves_alpha(name: str) -> None:
    batch = photos()
    assert AUGMENTATIONS[name](batch, rng(), **settings_of(name, p=1.0)).alpha is batch.alpha


def test_flip_twice_is_nothing() -> None:
    batch = photos()
    once = flip(batch, rng(), p=1.0)
    assert torch.equal(once.images, batch.images.flip(3))
    assert same(flip(once, rng(), p=1.0), batch)


@pytest.mark.parametrize("padding", PADDINGS)
def test_shifted_photos_are_windows_of_the_padded_ones(padding: str) -> None:
    batch = photos(count=40)
    moved = shift_crop(batch, rng(), p=1.0, share=0.25, padding=padding)  # type: ignore[arg-type]
    mode = {"reflect": "reflect", "edge": "replicate", "black": "constant"}[padding]
    padded = F.pad(batch.images, (6, 6, 5, 5), mode=mode)
    places = []
    for photo, result in zip(padded, moved.images, strict=True):
        windows = photo.unfold(1, 20, 1).unfold(2, 24, 1).permute(1, 2, 0, 3, 4)
        hits = (windows == result).all(4).all(3).all(2).nonzero()
        assert len(hits) == 1
        places.append(hits[0])
    reached = torch.stack(places)
    assert reached.min(0).values.tolist() < [2, 2]
    assert reached.max(0).values.tolist() > [8, 10]


@pytest.mark.parametrize("padding", PADDINGS)
def test_no_turn_and_no_shift_leave_the_photo(padding: str) -> None:
    batch = photos()
    torch.testing.assert_close(rotate(batch, rng(), p=1.0, degrees=0.0, padding=padding).images, batch.images)  # type: ignore[arg-type]
    assert same(shift_crop(batch, rng(), p=1.0, share=0.0, padding=padding), batch)  # type: ignore[arg-type]


def test_a_turn_keeps_distances_and_its_limit() -> None:
    height, width, radius = 61, 101, 24.0
    y, x = torch.meshgrid(torch.arange(height) - 30.0, torch.arange(width) - 50.0, indexing="ij")
    spot = torch.exp(-((x - radius) ** 2 + y**2) / 8).expand(200, 3, -1, -1)
    batch = Batch(spot, None, torch.zeros(200, 1), torch.arange(200))
    turned = rotate(batch, rng(), p=1.0, degrees=40.0, padding="black").images[:, 0]
    mass = turned.sum((1, 2))
    at_x, at_y = (turned * x).sum((1, 2)) / mass, (turned * y).sum((1, 2)) / mass
    assert (torch.hypot(at_x, at_y) - radius).abs().max() < 0.1
    degrees = torch.rad2deg(torch.atan2(at_y, at_x))
    assert degrees.abs().max() <= 40.2
    assert degrees.min() < -35
    assert degrees.max() > 35


JITTERS = [
    ("brightness", reference.adjust_brightness),
    ("contrast", reference.adjust_contrast),
    ("saturation", reference.adjust_saturation),
]


@pytest.mark.parametrize(("which", "theirs"), JITTERS)
def test_color_jitter_agrees_with_torchvision(which: str, theirs: Any) -> None:
    batch = photos()
    # away from the ends, where both cut off; torchvision's grey has 0.2989 for red
    batch = replace(batch, images=0.4 + 0.2 * batch.images)
    off = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
    changed = color_jitter(batch, rng(), p=1.0, **{**off, which: 0.5}).images
    for before, after in zip(batch.images, changed, strict=True):
        none, whole = theirs(before, 0.0), theirs(before, 1.0)
        factor = ((after - none) * (whole - none)).sum() / (whole - none).square().sum()
        assert 0.5 <= factor <= 1.5
        torch.testing.assert_close(after, theirs(before, float(factor)), atol=1e-3, rtol=0)


def test_hue_keeps_brightness_and_grey_and_comes_full_circle() -> None:
    batch = photos()
    batch = replace(batch, images=0.4 + 0.2 * batch.images)
    off = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0}
    turned = color_jitter(batch, rng(), p=1.0, **off, hue=0.5)
    assert changed_rows(batch, turned).all()
    before, after = (grey(each, rng(), p=1.0).images for each in (batch, turned))
    torch.testing.assert_close(before, after, atol=1e-3, rtol=0)
    plain = grey(batch, rng(), p=1.0)
    same_grey = color_jitter(plain, rng(), p=1.0, **off, hue=0.5).images
    torch.testing.assert_close(same_grey, plain.images, atol=1e-3, rtol=0)
    from classify.augment import _hue_turn

    third = _hue_turn(torch.tensor([2 * torch.pi / 3]), batch.images)[0]
    torch.testing.assert_close(third @ third @ third, torch.eye(3), atol=1e-5, rtol=0)


def test_grey_agrees_with_torchvision() -> None:
    batch = photos()
    theirs = reference.rgb_to_grayscale(batch.images, num_output_channels=3)
    torch.testing.assert_close(grey(batch, rng(), p=1.0).images, theirs, atol=2e-4, rtol=0)


def test_blur_agrees_with_torchvision() -> None:
    batch = photos()
    ours = blur(batch, rng(), p=1.0, sigma_px=(1.2, 1.2)).images
    torch.testing.assert_close(ours, reference.gaussian_blur(batch.images, [9, 9], [1.2, 1.2]))


def test_each_photo_is_blurred_by_its_own_sigma() -> None:
    dot = torch.zeros(30, 3, 31, 31)
    dot[:, :, 15, 15] = 1
    batch = Batch(dot, None, torch.zeros(30, 1), torch.arange(30))
    image = blur(batch, rng(), p=1.0, sigma_px=(0.5, 2.5)).images[:, 1]
    torch.testing.assert_close(image.sum((1, 2)), torch.ones(30))
    place = torch.arange(31) - 15.0
    sigma = (image.sum(1) * place**2).sum(1).sqrt()
    assert sigma.min() < 0.8
    assert sigma.max() > 2.2
    assert len(sigma.unique()) == 30


def test_noise_has_the_strength_that_was_asked_for() -> None:
    batch = Batch(torch.full((50, 3, 40, 40), 0.5), None, torch.zeros(50, 1), torch.arange(50))
    added = noise(batch, rng(), p=1.0, sigma=(0.05, 0.05)).images - 0.5
    assert added.std().item() == pytest.approx(0.05, rel=0.01)
    strengths = (noise(batch, rng(), p=1.0, sigma=(0.0, 0.1)).images - 0.5).flatten(1).std(1)
    assert strengths.min() < 0.02
    assert strengths.max() > 0.08
    assert strengths.max() < 0.105


@pytest.mark.parametrize("fill", ["noise", "mean", "black"])
def test_erased_is_a_rectangle_of_the_area_that_was_asked_for(fill: Any) -> None:
    batch = photos(count=100, height=50, width=40)
    batch = replace(batch, images=0.2 + 0.6 * batch.images)
    erased = erase(batch, rng(), p=1.0, area=(0.1, 0.3), ratio=2.0, fill=fill).images
    gone = (erased != batch.images).any(1)
    rows, columns = gone.any(2), gone.any(1)
    assert torch.equal(gone, rows[:, :, None] & columns[:, None, :])
    for line in (rows, columns):
        ends = F.pad(line.int(), (1, 1)).diff().abs().sum(1)
        assert (ends == 2).all(), "one unbroken stretch"
    share = gone.float().mean((1, 2))
    assert 0.08 <= share.min() < 0.15
    assert 0.25 < share.max() <= 0.33
    tall = rows.sum(1) / columns.sum(1)
    assert 0.45 <= tall.min() < 0.6
    assert 1.7 < tall.max() <= 2.2
    inside = erased.movedim(1, -1)[gone]
    if fill == "black":
        assert (inside == 0).all()
    elif fill == "noise":
        assert inside.std().item() == pytest.approx(12**-0.5, rel=0.02)
    else:
        mean = batch.images.mean((2, 3))[:, None, None].expand(-1, 50, 40, -1)[gone]
        torch.testing.assert_close(inside, mean)


def test_one_of_draws_by_weight_and_only_one() -> None:
    batch = photos(count=2000, height=4, width=4)
    batch = replace(batch, images=0.3 + 0.4 * batch.images)
    of = [{"name": "flip", "p": 1.0}, {"name": "grey", "p": 1.0}]
    changed = one_of(batch, rng(), of=of, weights=[1.0, 3.0], p=0.8)  # type: ignore[arg-type]
    flipped = (changed.images == batch.images.flip(3)).flatten(1).all(1)
    plain = (changed.images == grey(batch, rng(), p=1.0).images).flatten(1).all(1)
    kept = ~changed_rows(batch, changed)
    assert (flipped.int() + plain.int() + kept.int() == 1).all()
    for share, expected in ((flipped, 0.2), (plain, 0.6), (kept, 0.2)):
        assert abs(share.float().mean() - expected) < 4 * (expected * (1 - expected) / 2000) ** 0.5
    with pytest.raises(UserError, match="2 augmentations, but 1 weights"):
        one_of(batch, rng(), of=of, weights=[1.0])  # type: ignore[arg-type]


def test_one_of_merges_mixed_targets() -> None:
    batch = photos(count=16)
    changed = one_of(batch, rng(), of=[{"name": "mixup", "p": 1.0, "alpha": 1.0}], p=1.0)  # type: ignore[list-item]
    assert not torch.equal(changed.targets, batch.targets)
    torch.testing.assert_close(changed.targets.sum(1), torch.ones(16))


def test_settings_of_one_of_can_be_written_and_read_again() -> None:
    given = {"of": ["grey", {"name": "blur", "sigma_px": [1, 2]}], "p": 1}
    schema = schema_of(one_of)
    once = schema.model_validate(given).model_dump()
    assert once["of"] == [{"name": "grey", "p": 0.1}, {"name": "blur", "p": 0.2, "sigma_px": (1.0, 2.0)}]
    assert schema.model_validate(once).model_dump() == once
    with pytest.raises(ValueError, match=r'did you mean "blur"'):
        schema.model_validate({"of": ["blurr"]})


def test_chain_goes_through_all_in_order_with_one_generator() -> None:
    batch = photos()
    augment = chain([Chosen(name="erase", settings={"p": 1.0}), Chosen(name="flip", settings={"p": 1.0})])
    shared = rng(3)
    by_hand = flip(erase(batch, shared, p=1.0), shared, p=1.0)
    assert same(augment(batch, rng(3)), by_hand)
    assert same(chain([])(batch, rng()), batch)
