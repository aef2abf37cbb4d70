"""From a cache to batches: preload the pixels once, then gather, view, augment and normalise.

pixels = preload(cache)
for batch in batches(pixels, targets, order, batch_size=32, seed=0, epoch=3):
    loss(model(batch.images), batch.targets)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch

from cache import gather, views
from cache.memory import Mapped
from cache.preload import Pixels, preload
from configs.errors import UserError

__all__ = ["Augment", "Batch", "Pixels", "batches", "preload"]

MEAN, STD = views.MEAN, views.STD


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
    keep_alpha: bool = True,
    threads: int | None = None,
) -> Iterator[Batch]:
    """The batches of one epoch, the next one made in the background while one is used.

    A batch is: gather, shift and flip, view and fill, augment, normalise, in that order. It depends
    on (seed, epoch, its number) and on nothing else, bit for bit on a CPU, so an epoch can be
    entered in the middle. A batch's memory is used again only once nobody holds it.

    Args:
        pixels: of `preload`.
        targets: f32 [n c], one row a crop of `pixels`.
        order: i64[m], positions in `pixels`; may leave out and repeat.
        batch_size: the last batch may be smaller, unless `drop_last`.
        view, fill: of `cache.views`; of several fills each photo draws one. What `preload` has
            taken already is not taken again.
        augment: changes the batch while images are in 0..1.
        mean, std: of each colour, in 0..1: images come as (image - mean) / std.
        seed, epoch: what random choices depend on.
        start: the first batch to make, counted from 0.
        device: where the batches are wanted.
        shift_px: each crop is moved by up to so many px in x and y, drawn uniformly; what comes in
            at the border is mirrored. Less than half the crop's side.
        flip: mirror half of the crops, drawn.
        keep_alpha: whether batches carry alpha, where there is one.
        threads: on a CPU; torch.get_num_threads() where not given.

    Raises:
        UserError: an unknown view or fill, one that needs an alpha which the cache lacks, or a
            shift that is too large.
    """
    fills = views.check(view, fill, has_alpha=pixels.alpha is not None)
    if not 0 <= 2 * shift_px < min(pixels.rgb.shape[1:3]):
        raise UserError(
            f"shift_px={shift_px}: give 0 or more, and less than half of {min(pixels.rgb.shape[1:3])} px"
        )
    view = _still_to_take(pixels, view, fills)
    order = torch.as_tensor(order, dtype=torch.int64)
    count = len(order) // batch_size if drop_last else -(-len(order) // batch_size)
    target = torch.device(device)
    job = _Job(view, pixels.alpha is not None and (keep_alpha or view != "full"), augment, _normal(mean, std))

    def make(number: int, pool: ThreadPoolExecutor, buffers: gather.Buffers) -> Batch:
        rng = _generator(seed, epoch, number)
        rows = order[number * batch_size : (number + 1) * batch_size]
        windows = gather.windows(len(rows), shift_px, flip, rng)
        draw = views.draw(len(rows), fills, rng)
        wanted = targets[rows.to(targets.device)].to(target)
        if target.type == "cpu" and pixels.rgb.device.type == "cpu":
            batch = _make(job, pixels, rows, windows, draw, wanted, rng, pool, buffers)
        else:
            batch = _make_on_device(job, pixels, rows, windows, draw, wanted, rng, target)
        return batch if keep_alpha else replace(batch, alpha=None)

    return _ahead(make, range(start, count), threads or torch.get_num_threads())


@dataclass(frozen=True)
class _Job:
    view: str
    alpha: bool
    augment: Augment | None
    normal: gather.Scale

    @property
    def plain(self) -> bool:
        """Whether pixels can be normalised as they are read: nothing wants them in 0..1."""
        return self.view == "full" and self.augment is None


def _make(
    job: _Job,
    pixels: Pixels,
    rows: torch.Tensor,
    windows: torch.Tensor,
    draw: views.Draw,
    targets: torch.Tensor,
    rng: torch.Generator,
    pool: ThreadPoolExecutor,
    buffers: gather.Buffers,
) -> Batch:
    """A batch on the CPU, part by part in the pool's threads."""
    count, (height, width) = len(rows), pixels.rgb.shape[1:3]
    small = gather.small_parts(count, (3, height, width))
    final = buffers.take(count, height, width, 3).permute(0, 3, 1, 2)
    # In between, colour after colour: sums and products with alpha then run over whole planes.
    images = final if job.plain else buffers.take(count, 3, height, width)
    alpha = buffers.take(count, 1, height, width) if job.alpha else None

    def load(part: slice) -> None:
        scale = _after_unit(job.normal) if job.plain else None
        gather.load(pixels.rgb, rows[part], windows[part], images[part], scale)
        if alpha is not None:
            assert pixels.alpha is not None
            gather.load(pixels.alpha, rows[part], windows[part], alpha[part])

    gather.each(pool, load, gather.parts(count))
    if job.plain:
        return Batch(final, alpha, targets, rows)
    shown = images
    if job.view != "full":
        shown = buffers.take(count, 3, height, width)
        gather.each(pool, lambda part: _take(images, alpha, draw, job.view, part, shown), small)
    batch = Batch(shown, alpha, targets, rows)
    batch = job.augment(batch, rng) if job.augment else batch
    if batch.images.shape != final.shape:
        final = torch.empty_like(batch.images, memory_format=torch.channels_last)
    gather.each(pool, lambda part: _normalise(batch.images, job.normal, part, final), small)
    return replace(batch, images=final)


def _take(
    images: torch.Tensor,
    alpha: torch.Tensor | None,
    draw: views.Draw,
    view: str,
    part: slice,
    out: torch.Tensor,
) -> None:
    out[part] = views.take(images, alpha, draw, view=view, part=part)


def _normalise(images: torch.Tensor, normal: gather.Scale, part: slice, out: torch.Tensor) -> None:
    gather.rescale_into(out[part], images[part], normal)


def _make_on_device(
    job: _Job,
    pixels: Pixels,
    rows: torch.Tensor,
    windows: torch.Tensor,
    draw: views.Draw,
    targets: torch.Tensor,
    rng: torch.Generator,
    device: torch.device,
) -> Batch:
    """A batch on an accelerator, whole; pixels that don't live there are sent as bytes."""

    def load(source: torch.Tensor | Mapped, scale: gather.Scale | None = None) -> torch.Tensor:
        if source.device.type == device.type and not isinstance(source, Mapped):
            return gather.load_on_device(source, rows, windows, scale)
        sent = source[rows].to(device)
        return gather.load_on_device(sent, torch.arange(len(rows)), windows, scale)

    images = load(pixels.rgb, _after_unit(job.normal) if job.plain else None)
    alpha = load(pixels.alpha) if job.alpha and pixels.alpha is not None else None
    if job.plain:
        return Batch(images, alpha, targets, rows)
    images = views.take(images, alpha, draw, view=job.view)
    batch = Batch(images, alpha, targets, rows)
    batch = job.augment(batch, rng) if job.augment else batch
    return replace(batch, images=gather.rescale(batch.images, job.normal))


def _ahead(
    make: Callable[[int, ThreadPoolExecutor, gather.Buffers], Batch], numbers: range, threads: int
) -> Iterator[Batch]:
    """`make(number)` for each, one ahead of what is being used."""
    buffers = gather.Buffers()
    with gather.workers(threads) as pool, gather.workers(1) as ahead:
        pending = [ahead.submit(make, number, pool, buffers) for number in numbers[:1]]
        for number in numbers:
            batch = pending.pop().result()
            if number + 1 in numbers:
                pending.append(ahead.submit(make, number + 1, pool, buffers))
            yield batch
            del batch  # or its memory could not be used for the next but one


def _still_to_take(pixels: Pixels, view: str, fills: tuple[str, ...]) -> str:
    """The view that batches have to take, given what `preload` did."""
    if pixels.taken is None:
        return view
    if pixels.taken != (view, fills):
        have, want = (f"{v} with fill {' / '.join(f)}" for v, f in (pixels.taken, (view, fills)))
        raise UserError(f"the pixels were preloaded as {have}, and are asked for as {want}: preload them so")
    return "full"


def _generator(seed: int, epoch: int, number: int) -> torch.Generator:
    state = np.random.SeedSequence([seed, epoch, number]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))


def _normal(mean: Sequence[float], std: Sequence[float]) -> gather.Scale:
    """(image - mean) / std, for images in 0..1."""
    return gather.Scale(tuple(1 / s for s in std), tuple(-m / s for m, s in zip(mean, std, strict=True)))


def _after_unit(scale: gather.Scale) -> gather.Scale:
    """The same for pixels in 0..255."""
    return gather.Scale(tuple(factor / 255 for factor in scale.factor), scale.offset)
