"""Augmentation of a whole batch at once, on its device.

Every augmentation is `fn(batch, rng, *, p, settings) -> Batch`: `p` is each photo's own chance to be
changed, and everything is drawn per photo. Images are f32 [b 3 h w], 0..1, before normalisation; what
moves pixels moves alpha, and what mixes photos mixes targets. Nothing is changed in place.

The generator is of the CPU, wherever the batch is: what it draws decides rows and shapes, which must
not wait for a GPU, and every device gets the same numbers (but for noise, which is drawn on the device).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import torch
from pydantic import PlainSerializer
from torch import Tensor
from torch.nn import functional as F

from cache.loader import Augment, Batch
from classify.draws import beside, drawn_rows, merge, put, rectangles, take, uniform
from classify.mixes import cutmix, half_cutmix, mixup
from classify.pipeline import through
from configs.errors import UserError
from configs.settings import Chosen, choice

if TYPE_CHECKING:
    Nested = Chosen

Padding = Literal["reflect", "edge", "black"]
"""What shows where a moved photo ends."""

LUMA = (0.299, 0.587, 0.114)
"""Brightness of red, green and blue, ITU-R BT.601."""

TO_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))
"""RGB -> the NTSC colour space, where hue is an angle in the plane of I and Q."""


def flip(batch: Batch, rng: torch.Generator, *, p: float = 0.5) -> Batch:
    """Left and right exchanged."""
    mirrored = _column(torch.rand(len(batch.images), generator=rng) < p, batch.images)
    alpha = batch.alpha
    return replace(
        batch,
        images=torch.where(mirrored, batch.images.flip(3), batch.images),
        alpha=None if alpha is None else torch.where(mirrored, alpha.flip(3), alpha),
    )


def shift_crop(
    batch: Batch, rng: torch.Generator, *, p: float = 0.5, share: float = 0.1, padding: Padding = "reflect"
) -> Batch:
    """Moved by whole pixels, up to a share of the height and width each way."""
    rows = drawn_rows(batch, rng, p)
    (ys, ys_in), (xs, xs_in) = (
        _places(length, round(share * length), rows, rng, padding) for length in batch.images.shape[2:]
    )
    inside = (ys_in[:, None, :, None] & xs_in[:, None, None, :]) if padding == "black" else None

    def move(photos: Tensor) -> Tensor:
        m, c, h, w = photos.shape
        place = torch.arange(m, device=photos.device)[:, None, None] * h + ys[:, :, None]
        pixels = photos.permute(0, 2, 3, 1).reshape(-1, c)
        moved = pixels.index_select(0, (place * w + xs[:, None, :]).flatten())
        moved = moved.view(m, h, w, c).permute(0, 3, 1, 2)
        return moved if inside is None else moved * inside

    return _move(batch, rows, move)


def _places(
    length: int, most_px: int, rows: Tensor, rng: torch.Generator, padding: Padding
) -> tuple[Tensor, Tensor]:
    """For each row a shift: where each of its places is taken from, i64 [m length], and if that is inside."""
    shift = torch.randint(-most_px, most_px + 1, (len(rows), 1), generator=rng)
    place = (torch.arange(length) + shift).to(rows.device, non_blocking=True)
    inside = (place >= 0) & (place < length)
    if padding == "reflect":
        place = (length - 1) - ((length - 1) - place.abs()).abs()
    return place.clamp(0, length - 1), inside


def rotate(
    batch: Batch, rng: torch.Generator, *, p: float = 0.5, degrees: float = 15.0, padding: Padding = "reflect"
) -> Batch:
    """Turned about the centre by up to `degrees` either way."""
    rows = drawn_rows(batch, rng, p)
    if not len(rows):
        return batch
    h, w = batch.images.shape[2:]
    angle = uniform(rows, rng, -degrees, degrees) * math.pi / 180
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    # affine_grid counts in half widths and half heights, so that an oblong photo needs its aspect
    turn = torch.stack([cos, -sin * (h / w), zero, sin * (w / h), cos, zero], dim=1).reshape(-1, 2, 3)
    grid = F.affine_grid(turn, [len(rows), 1, h, w], align_corners=False)
    mode = {"reflect": "reflection", "edge": "border", "black": "zeros"}[padding]

    def move(photos: Tensor) -> Tensor:
        return F.grid_sample(photos, grid, padding_mode=mode, align_corners=False)

    return _move(batch, rows, move)


def color_jitter(
    batch: Batch,
    rng: torch.Generator,
    *,
    p: float = 0.8,
    brightness: float = 0.3,
    contrast: float = 0.3,
    saturation: float = 0.3,
    hue: float = 0.02,
) -> Batch:
    """Brightness, contrast, saturation and hue changed, as one matrix a photo.

    Args:
        batch: images 0..1.
        rng: the draw's source.
        p: a photo's chance.
        brightness: the factor is drawn from 1 - brightness .. 1 + brightness.
        contrast: so too, about the photo's mean brightness.
        saturation: so too, about grey.
        hue: turned by up to this share of the colour circle either way, 0..0.5.
    """
    rows = drawn_rows(batch, rng, p)
    light, spread, color = (
        uniform(rows, rng, max(0.0, 1 - x), 1 + x)[:, None, None] for x in (brightness, contrast, saturation)
    )
    angle = uniform(rows, rng, -hue, hue) * 2 * math.pi
    images = batch.images[rows]
    to_grey = images.new_tensor(LUMA).expand(3, 3)
    matrix = _hue_turn(angle, images) @ (to_grey + color * (torch.eye(3).to(images) - to_grey))
    # grey stays grey under hue and saturation, so that the mean may be added last
    mean = (images.mean(dim=(2, 3)) @ images.new_tensor(LUMA))[:, None, None]
    changed = torch.baddbmm(light * (1 - spread) * mean, light * spread * matrix, images.flatten(2))
    return put(batch, rows, changed.clamp_(0, 1).view_as(images))


def _hue_turn(angle: Tensor, like: Tensor) -> Tensor:
    """f32 [m 3 3], RGB -> RGB: the colour turned by an angle (radians, [m]), the brightness kept."""
    to_yiq = torch.tensor(TO_YIQ, dtype=torch.float64)
    cos, sin, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    turn = torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], dim=1).reshape(-1, 3, 3)
    return to_yiq.inverse().to(like) @ turn @ to_yiq.to(like)


def grey(batch: Batch, rng: torch.Generator, *, p: float = 0.1) -> Batch:
    """Without colour."""
    rows = drawn_rows(batch, rng, p)
    images = batch.images[rows]
    luma = torch.einsum("bchw,c->bhw", images, images.new_tensor(LUMA))
    return put(batch, rows, luma[:, None].expand_as(images))


def blur(
    batch: Batch, rng: torch.Generator, *, p: float = 0.2, sigma_px: tuple[float, float] = (0.2, 1.5)
) -> Batch:
    """Blurred by a Gaussian whose standard deviation is drawn from `sigma_px`."""
    rows = drawn_rows(batch, rng, p)
    if not len(rows):
        return batch
    images = batch.images[rows]
    b, c, h, w = images.shape
    radius = min(math.ceil(3 * sigma_px[1]), h - 1, w - 1)
    place = torch.arange(-radius, radius + 1, device=images.device)
    kernel = torch.exp(-0.5 * (place / uniform(rows, rng, *sigma_px)[:, None]) ** 2)
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(c, dim=0)[:, None]
    # photos and colours side by side as channels: one convolution with a kernel a photo
    flat = F.pad(images.reshape(1, b * c, h, w), (radius,) * 4, mode="reflect")
    flat = F.conv2d(flat, kernel[:, :, None, :], groups=b * c)
    flat = F.conv2d(flat, kernel[:, :, :, None], groups=b * c)
    return put(batch, rows, flat.view(b, c, h, w))


def noise(
    batch: Batch, rng: torch.Generator, *, p: float = 0.2, sigma: tuple[float, float] = (0.0, 0.1)
) -> Batch:
    """Gaussian noise, its standard deviation drawn from `sigma` (images are 0..1)."""
    rows = drawn_rows(batch, rng, p)
    images = batch.images[rows]
    strength = uniform(rows, rng, *sigma)[:, None, None, None]
    drawn = torch.randn(images.shape, generator=beside(images, rng), device=images.device)
    return put(batch, rows, drawn.mul_(strength).add_(images).clamp_(0, 1))


def erase(
    batch: Batch,
    rng: torch.Generator,
    *,
    p: float = 0.25,
    area: tuple[float, float] = (0.02, 0.2),
    ratio: float = 3.0,
    fill: Literal["noise", "mean", "black"] = "noise",
) -> Batch:
    """A rectangle filled in (Zhong et al., "Random Erasing Data Augmentation", 2020).

    Args:
        batch: images 0..1; alpha stays as it is.
        rng: the draw's source.
        p: a photo's chance.
        area: the rectangle's share of the photo, lowest and highest.
        ratio: its height over its width is drawn from 1/ratio .. ratio.
        fill: with noise, with the photo's mean colour, or black.
    """
    rows = drawn_rows(batch, rng, p)
    images = batch.images[rows]
    h, w = images.shape[2:]
    tall = (uniform(rows, rng, -1, 1) * math.log(ratio)).exp() * w / h
    inside = rectangles(images, rng, uniform(rows, rng, *area), tall)
    if fill == "noise":
        filling = torch.rand(images.shape, generator=beside(images, rng), device=images.device)
    else:
        filling = images.mean(dim=(2, 3), keepdim=True) * (fill == "mean")
    return put(batch, rows, torch.where(inside, filling, images))


def one_of(
    batch: Batch,
    rng: torch.Generator,
    *,
    of: list[Nested],
    weights: list[float] | None = None,
    p: float = 0.5,
) -> Batch:
    """Each photo changed by one of several augmentations, drawn per photo.

    Args:
        batch: images 0..1.
        rng: the draw's source.
        of: the augmentations; the drawn one still has its own `p`, so set that to 1 to have it always.
        weights: their chances, in any scale; equal where not given.
        p: a photo's chance that one is drawn at all.
    """
    if weights is not None and len(weights) != len(of):
        raise UserError(f"one_of: {len(of)} augmentations, but {len(weights)} weights")
    chances = torch.ones(len(of)) if weights is None else torch.tensor(weights)
    edges = (chances / chances.sum()).cumsum(0)[:-1] * p
    drawn = torch.rand(len(batch.images), generator=rng)
    which = torch.where(drawn < p, torch.bucketize(drawn, edges, right=True), -1)
    for number, chosen in enumerate(of):
        rows = torch.nonzero(which == number).squeeze(1).to(batch.images.device)
        if len(rows):
            batch = merge(batch, rows, chain([chosen])(take(batch, rows), rng))
    return batch


def albumentations(
    batch: Batch,
    rng: torch.Generator,
    *,
    pipeline: dict[str, Any],
    p: float = 1.0,
    threads: int | None = None,
) -> Batch:
    """Any pipeline of albumentations, photo by photo in threads; alpha goes through as its mask.

    Args:
        batch: images 0..1; they pass through uint8.
        rng: the draw's source; a photo's seed doesn't depend on the threads.
        pipeline: what `albumentations.to_dict` gives, or its "transform" part alone.
        p: a photo's chance to be sent through.
        threads: how many, or one a core.

    Raises:
        UserError: albumentations can't make the pipeline, or it changes the photos' size.
    """
    rows = drawn_rows(batch, rng, p)
    seeds = torch.randint(2**31, (len(rows),), generator=rng).tolist()
    alpha = None if batch.alpha is None else _to_uint8(batch.alpha[rows])[..., 0]
    images, masks = through(pipeline, _to_uint8(batch.images[rows]), alpha, seeds, threads)
    moved = None if masks is None else torch.from_numpy(masks)[:, None].to(batch.images) / 255
    return put(batch, rows, torch.from_numpy(images).permute(0, 3, 1, 2).to(batch.images) / 255, moved)


AUGMENTATIONS: dict[str, Callable[..., Batch]] = {
    "flip": flip,
    "shift_crop": shift_crop,
    "rotate": rotate,
    "color_jitter": color_jitter,
    "grey": grey,
    "blur": blur,
    "noise": noise,
    "erase": erase,
    "mixup": mixup,
    "cutmix": cutmix,
    "half_cutmix": half_cutmix,
    "one_of": one_of,
    "albumentations": albumentations,
}

if not TYPE_CHECKING:
    # written out as it is read, the name beside its settings, so that a run's settings can be read again
    _flat = PlainSerializer(lambda chosen: {"name": chosen.name, **chosen.settings})
    Nested = Annotated[choice(AUGMENTATIONS), _flat]


def chain(chosen: Sequence[Chosen | dict[str, Any]]) -> Augment:
    """Augmentations one after the other, as a single one; a mapping is a name beside its settings."""
    flat = [{"name": each.name, **each.settings} if isinstance(each, Chosen) else each for each in chosen]

    def augment(batch: Batch, rng: torch.Generator) -> Batch:
        for each in flat:
            settings = {key: value for key, value in each.items() if key != "name"}
            batch = AUGMENTATIONS[each["name"]](batch, rng, **settings)
        return batch

    return augment


def _move(batch: Batch, rows: Tensor, move: Callable[[Tensor], Tensor]) -> Batch:
    """Photos moved, and alpha with them."""
    if not len(rows):
        return batch
    alpha = None if batch.alpha is None else move(batch.alpha[rows])
    return put(batch, rows, move(batch.images[rows]), alpha)


def _to_uint8(photos: Tensor) -> np.ndarray:
    """f32 [n c h w], 0..1 -> u8 [n h w c]."""
    return (photos * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().contiguous().numpy()


def _column(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like.device, non_blocking=True)[:, None, None, None]
