"""What of a photo is shown: the figure, the background or all of it, and what stands in the rest's place.

Pure functions on batches: images f32 [b 3 h w] in 0..1, alpha f32 [b 1 h w] in 0..1 (1: figure), on
any device; fastest where each colour lies in one piece (contiguous). A random choice is made by
`draw`, apart from the pixels, so that a batch comes out the same in one piece or in parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch.nn import functional

from configs.errors import UserError, did_you_mean

VIEWS = ("figure", "full", "background")
"""figure: the ground is filled. background: the figure's hole is filled. full: the photo as it is."""

FILLS = {
    "black": "black",
    "mean": "ImageNet's mean colour, which is 0 once images are normalised",
    "blur": "the photo's own background, blurred, its colours spread into the figure's hole",
    "noise": "uniform noise, every pixel of its own",
    "swap": "the background of another photo of the batch",
}
"""What stands where something was taken out.

`black`, `mean` and `noise` are the same for every photo and so tell nothing about the room. `mean`
is no mean of the photo itself for that reason: its light and colour would come through. `blur` keeps
the room's colours (a milder cut); `swap` shows true rooms, but of other photos.
"""

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""Of ImageNet's training photos, RGB in 0..1; what timm's models expect unless they say otherwise."""

SURE = 0.95
"""From this alpha on a pixel's colour counts as the figure's alone, and below 1 - SURE as the ground's."""

GRID = 56
"""Colours are spread over a grid of about so many cells a side: 4 px of 224, finer than rooms need."""

BLUR_PARTS = 14
"""The blur of a background averages over 1/14 of the side: 16 px of 224."""


@dataclass(frozen=True)
class Draw:
    """The random choices of one batch.

    Attributes:
        fills: the fills to choose from.
        kinds: i64[b], which of `fills` each photo gets.
        partners: i64[b], whose background each photo would get by `swap`; never its own, but in
            a batch of one.
        seeds: i64[b], of each photo's noise.
    """

    fills: tuple[str, ...]
    kinds: torch.Tensor
    partners: torch.Tensor
    seeds: torch.Tensor


def check(view: str, fill: str | Sequence[str], *, has_alpha: bool) -> tuple[str, ...]:
    """The fills as a tuple; UserError for an unknown view or fill, or where alpha is needed and absent."""
    fills = (fill,) if isinstance(fill, str) else tuple(fill)
    if view not in VIEWS:
        raise UserError(f'no view "{view}"{did_you_mean(view, VIEWS)}')
    for name in fills:
        if name not in FILLS:
            raise UserError(f'no fill "{name}"{did_you_mean(name, FILLS)}')
    if not fills:
        raise UserError(f"no fill named; known: {', '.join(FILLS)}")
    if view != "full" and not has_alpha:
        raise UserError(
            f'the view "{view}" needs alpha, and this cache has none: '
            'use the view "full", or build a cache with --method seg'
        )
    return fills


def draw(count: int, fill: str | Sequence[str], rng: torch.Generator) -> Draw:
    """For `count` photos: a fill each (equally likely), a partner, a seed. `rng` is a CPU generator."""
    fills = (fill,) if isinstance(fill, str) else tuple(fill)
    kinds = torch.randint(len(fills), (count,), generator=rng)
    circle = torch.randperm(count, generator=rng)
    partners = torch.empty_like(circle)
    partners[circle] = circle.roll(-1)
    seeds = torch.randint(1 << 62, (count,), generator=rng)
    return Draw(fills, kinds, partners, seeds)


def take(
    images: torch.Tensor,
    alpha: torch.Tensor | None,
    draw: Draw,
    *,
    view: str = "figure",
    part: slice = slice(None),
) -> torch.Tensor:
    """The view of a batch, or of a part of it (whose swapped backgrounds may come from all of it).

    figure: `a F + (1 - a) fill`, with F = `decontaminate(images, alpha)`.
    background: `(1 - a) G + a fill`, with G = `ground(images, alpha)`.
    In both, what is kept stays exactly as it is where alpha is 1 (figure) or 0 (background).

    Args:
        images: f32 [b 3 h w] in 0..1, unblanked.
        alpha: f32 [b 1 h w] in 0..1; may be None for the view `full`.
        draw: the random choices, for all b photos.
        view: a name of `VIEWS`.
        part: which photos of the batch are asked for.

    Returns:
        f32 [part 3 h w] in 0..1; `images` itself, not a copy, for `full`.
    """
    own = images[part]
    if view == "full":
        return own
    assert alpha is not None, f"{view} needs alpha: see check()"
    mask = alpha[part]
    filling = _fillings(images, alpha, draw, range(len(images))[part])
    if view == "figure":
        return composite(decontaminate(own, mask), filling, mask)
    return composite(filling, ground(own, mask), mask)


def composite(figure: torch.Tensor, ground: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """`alpha * figure + (1 - alpha) * ground`, all [b c h w] in 0..1; alpha [b 1 h w]."""
    return torch.lerp(ground, figure, alpha)


def swap(images: torch.Tensor, alpha: torch.Tensor, partners: torch.Tensor) -> torch.Tensor:
    """Each figure on the ground of `partners[i]`, an i64[b] of places in the batch; [b 3 h w]."""
    return composite(decontaminate(images, alpha), ground(images, alpha)[partners], alpha)


def decontaminate(images: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """The figure's colours alone: at a soft edge, without the old background that shines through.

    F' and G' are the colours of the sure figure and the sure ground, spread outwards; what they
    leave unexplained of a pixel is the figure's texture, as far as alpha says so:
    F = F' + a (I - a F' - (1 - a) G'), clipped to 0..1 (Forte, "Approximate fast foreground colour
    estimation", ICIP 2021, eq. 4; there F' and G' are blurs, here `spread`, which takes no colour
    over from soft pixels). Where alpha is 1, F is the pixel itself, exactly.

    Returns:
        f32 [b 3 h w]; beyond the edge (alpha 0) the colour of the figure nearby.
    """
    known = torch.cat([_cells(images, _surely(alpha)), _cells(images, _surely(1 - alpha))])
    inner, outer = (_enlarge(cells, images.shape[2:]) for cells in _fill_cells(known).chunk(2))
    # The same formula in another order, a I + (1 - a) ((1 + a) F' - a G'), which is exact where alpha is 1.
    rest = (inner * (1 + alpha)).addcmul_(outer, alpha, value=-1)
    return torch.lerp(rest, images, alpha).clamp_(0, 1)


def ground(images: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """The background with the figure's hole filled from around it: [b 3 h w], the pixel itself at alpha 0."""
    return torch.lerp(images, spread(images, _surely(1 - alpha)), (alpha > 0).to(images.dtype))


def spread(images: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The colours where `weight` is above 0, smoothly over the whole photo, near ones before far ones.

    Pull-push (Gortler et al., "The Lumigraph", SIGGRAPH 1996) on cells of 1/56 of the side: weighted
    means over ever larger squares, then back, each level filling what is missing from the coarser
    one. Black where no pixel of a photo has weight.

    Args:
        images: f32 [b c h w].
        weight: f32 [b 1 h w] in 0..1.

    Returns:
        f32 [b c h w].
    """
    return _enlarge(_fill_cells(_cells(images, weight)), images.shape[2:])


def _cells(images: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Means over cells: the weighted colours, and the weight itself, f32 [b c+1 rows columns]."""
    cell = max(1, min(images.shape[2:]) // GRID)
    parts = (images * weight, weight)
    return torch.cat([functional.avg_pool2d(part, cell, ceil_mode=True) for part in parts], 1)


def _fill_cells(known: torch.Tensor) -> torch.Tensor:
    """Every cell's colour, from itself as far as it has weight, and for the rest from around it."""
    levels = [known]
    while max(levels[-1].shape[2:]) > 1:
        levels.append(functional.avg_pool2d(levels[-1], 2, ceil_mode=True))
    filled = levels[-1][:, :-1] / levels[-1][:, -1:].clamp_min(1e-12)
    for level in reversed(levels[:-1]):
        filled = torch.addcmul(level[:, :-1], _enlarge(filled, level.shape[2:]), 1 - level[:, -1:])
    return filled


def soften(images: torch.Tensor) -> torch.Tensor:
    """A strong blur: means over 1/14 of the side, and smoothly up again; [b c h w]."""
    height, width = images.shape[2:]
    small = functional.adaptive_avg_pool2d(images, (min(height, BLUR_PARTS), min(width, BLUR_PARTS)))
    return _enlarge(small, (height, width))


def view_photos(
    rgb: np.ndarray,
    alpha: np.ndarray | None,
    *,
    view: str,
    fill: str | Sequence[str] = "black",
    seed: int = 0,
) -> np.ndarray:
    """The same for photos as they lie in a cache, for pages and exports: u8 [n h w 3] in and out.

    Args:
        rgb: u8 [n h w 3].
        alpha: u8 [n h w], or None for the view `full`.
        view, fill: names of `VIEWS` and `FILLS`; of several fills each photo gets one.
        seed: of the choice of fills, the noise, and whose background goes where.
    """
    fills = check(view, fill, has_alpha=alpha is not None)
    choices = draw(len(rgb), fills, torch.Generator().manual_seed(seed))
    masks = None if alpha is None else to_float(torch.tensor(alpha)[..., None])
    images = to_float(torch.tensor(rgb))
    parts = [take(images, masks, choices, view=view, part=slice(i, i + 8)) for i in range(0, len(rgb), 8)]
    return to_bytes(torch.cat(parts)).numpy() if parts else rgb.copy()


def to_float(pixels: torch.Tensor) -> torch.Tensor:
    """u8 [b h w c] to f32 [b c h w] in 0..1."""
    return pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format).div_(255)


def to_bytes(images: torch.Tensor) -> torch.Tensor:
    """f32 [b c h w] in 0..1 to u8 [b h w c], rounded."""
    return (images.permute(0, 2, 3, 1) * 255).round().clamp(0, 255).to(torch.uint8).contiguous()


def _surely(share: torch.Tensor) -> torch.Tensor:
    """How far a pixel is wholly of one kind: 0 at SURE, 1 at 1, and steep, against mixed colours."""
    # The small second term counts only in a photo without one sure pixel: better mixed colours than none.
    sure = share.sub(SURE).mul_(1 / (1 - SURE)).clamp_(0, 1).square_().square_()
    return sure.addcmul_(share, share, value=1e-5).clamp_max_(1)


def _enlarge(small: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Bilinear, as two products of matrices: twice as fast as interpolate() on a CPU."""
    height, width = size
    if tuple(small.shape[2:]) == (height, width):
        return small
    down = _between(small.shape[2], height).to(small)
    across = _between(small.shape[3], width).to(small)
    return down @ (small @ across.T)


@lru_cache
def _between(few: int, many: int) -> torch.Tensor:
    """f32 [many few]: the weights of linear interpolation between the middles of `few` cells."""
    place = ((torch.arange(many) + 0.5) * few / many - 0.5).clamp(0, few - 1)
    return (1 - (place[:, None] - torch.arange(few)).abs()).clamp_min(0)


def _fillings(images: torch.Tensor, alpha: torch.Tensor, draw: Draw, part: Sequence[int]) -> torch.Tensor:
    """What fills each photo's gap: f32 [part 3 h w]."""
    rows = torch.tensor(list(part), dtype=torch.int64)
    out = torch.zeros((len(rows), *images.shape[1:]), dtype=images.dtype, device=images.device)
    for kind, fill in enumerate(draw.fills):
        places = torch.nonzero(draw.kinds[rows] == kind)[:, 0]
        if len(places) and fill != "black":
            # In a batch of one there is no other photo, and its own room must not come back as one.
            fill = "mean" if fill == "swap" and len(images) == 1 else fill
            out[places.to(out.device)] = _filling(images, alpha, draw, rows[places], fill)
    return out


def _filling(
    images: torch.Tensor, alpha: torch.Tensor, draw: Draw, rows: torch.Tensor, fill: str
) -> torch.Tensor:
    device = images.device
    if fill == "mean":
        return images.new_tensor(MEAN)[:, None, None].expand(len(rows), *images.shape[1:])
    if fill == "noise":
        return torch.stack([_noise(int(seed), images) for seed in draw.seeds[rows]])
    if fill == "blur":
        own = rows.to(device)
        return soften(ground(images[own], alpha[own]))
    others = draw.partners[rows].to(device)
    return ground(images[others], alpha[others])


def _noise(seed: int, like: torch.Tensor) -> torch.Tensor:
    rng = torch.Generator(like.device).manual_seed(seed)
    return torch.rand(like.shape[1:], generator=rng, dtype=like.dtype, device=like.device)
