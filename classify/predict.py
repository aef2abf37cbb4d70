"""From pixels to probabilities, and from photos or a cache to a CSV of predictions."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cache import views
from cache.loader import Pixels, batches
from cache.preload import LASTING
from classify.model import Model, create
from classify.run import INFO, Run, read_tensors, replacing
from classify.targets import join
from configs.errors import UserError
from configs.terminal import bar, note

if TYPE_CHECKING:
    from cache.format import Cache
    from cache.memory import Mapped
    from cache.records import Record

AT_ONCE = 512
"""Photos that `predict` holds in memory at a time."""


@dataclass(frozen=True)
class Predictor:
    """A trained model and all that its input needs.

    Attributes:
        model: the network with the run's best weights, in eval mode, on `device`.
        heads: class names of each head.
        classes: the joint classes' names, in the order of the probabilities.
        view, fill: what the network is shown.
        precision: a context in which to run it.
    """

    model: Model
    heads: tuple[tuple[str, ...], ...]
    classes: tuple[str, ...]
    view: str
    fill: str | Sequence[str]
    device: torch.device
    batch_size: int = 64
    precision: Callable[[], AbstractContextManager[Any]] = nullcontext

    def __call__(self, pixels: Pixels) -> np.ndarray:
        """Probabilities of the joint classes, f32 [n c], of pixels that were fitted to the model."""
        return join(of_heads(self, pixels, np.arange(len(pixels.rows))).numpy(), self.heads)


def load(run: Run, *, device: str = "auto") -> Predictor:
    """The predictor of a run: its best epoch.

    Raises:
        UserError: no epoch was finished, a checkpoint is damaged, no such device.
    """
    settings, info = run.settings, run.info
    weights, _ = read_tensors(run.path / "best.safetensors")
    outputs = sum(len(names) for names in info["heads"])
    model = create(settings.model, outputs=outputs, crop=run.crop, weights=False)
    model.network.load_state_dict(weights)
    place = pick_device(device)
    model.network.to(place).eval()
    return Predictor(
        model=model,
        heads=tuple(tuple(names) for names in info["heads"]),
        classes=run.classes,
        view=info["view"],
        fill=settings.fill,
        device=place,
        batch_size=settings.batch_size * 2,
        precision=autocast(settings.precision, place),
    )


def of_heads(
    predictor: Predictor, pixels: Pixels, positions: np.ndarray, *, share: tuple[int, int] = (0, 1)
) -> Tensor:
    """Probabilities of each head, side by side: f32 [len(positions) sum(c)] on the CPU.

    Args:
        predictor: its network is put into eval mode.
        pixels: fitted to the model.
        positions: i64 [m], which of the pixels.
        share: (rank, processes): do only every so many-th batch; the rows of the others are 0.
    """
    sizes = [len(names) for names in predictor.heads]
    out = torch.zeros(len(positions), sum(sizes))
    done = predictor.batch_size
    feed = batches(
        pixels,
        torch.zeros(len(pixels.rows), 1),
        torch.as_tensor(positions),
        batch_size=done,
        view=predictor.view,
        fill=predictor.fill,
        mean=predictor.model.mean,
        std=predictor.model.std,
        seed=0,
        epoch=0,
        device=predictor.device,
        keep_alpha=False,
    )
    rank, processes = share
    predictor.model.network.eval()
    with torch.inference_mode():
        for number, batch in islice(enumerate(feed), rank, None, processes):
            with predictor.precision():
                logits = predictor.model.network(batch.images)
            parts = [part.softmax(1) for part in logits.float().split(sizes, dim=1)]
            out[number * done : number * done + len(logits)] = torch.cat(parts, 1).cpu()
    return out


def fit(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Pixels brought to the model's input size, once, before training: still uint8.

    Smaller by averaging areas, larger bilinearly. A view that stays was taken before: averaging
    it lets nothing of the old background into the figure's edge.
    """
    if tuple(pixels.rgb.shape[1:3]) == size:
        return pixels
    alpha = None if pixels.alpha is None else _resize(pixels.alpha, size)
    return replace(pixels, rgb=_resize(pixels.rgb, size), alpha=alpha)


def _resize(images: Tensor | Mapped, size: tuple[int, int]) -> Tensor:
    """u8 [n h w (c)] -> u8 [n *size (c)], rounded."""
    n, h, w, *colours = images.shape
    out = torch.empty((n, *size, *colours), dtype=torch.uint8, device=images.device)
    shrinks = size[0] <= h and size[1] <= w
    how: dict[str, Any] = {"mode": "area"} if shrinks else {"mode": "bilinear", "antialias": True}
    for start in range(0, n, 64):
        part = images[start : start + 64].reshape(-1, h, w, *(colours or [1])).permute(0, 3, 1, 2).float()
        resized = functional.interpolate(part, size=size, **how).round_().clamp_(0, 255)
        out[start : start + 64] = resized.permute(0, 2, 3, 1).to(torch.uint8).view(-1, *out.shape[1:])
    return out


def pick_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one, else the CPU; UserError for one that isn't there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise UserError(
            f"--device {name}: not usable here ({first}); known: auto, cpu, cuda, cuda:N"
        ) from None
    return device


def autocast(precision: str, device: torch.device) -> Callable[[], AbstractContextManager[Any]]:
    """The context that a forward pass runs in."""
    if use_bfloat16(precision, device):
        return lambda: torch.autocast(device.type, torch.bfloat16)
    return nullcontext


def use_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether to compute in bfloat16: where it is asked for, and by itself on GPUs that have it."""
    if precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported()
    return precision == "bfloat16"


# --- to a CSV


@dataclass(frozen=True)
class Predicted:
    """What became of a prediction run: photos predicted, and those that couldn't be, by reason."""

    predicted: int
    unusable: dict[str, int]


def write(run: Run, source: Path, out: Path, *, device: str = "auto", layout: str = "auto") -> Predicted:
    """Predict a cache or a source of raw photos and write `path,prediction,<a column a class>`.

    Rows stand in the order of the cache or the source's listing. Raw photos go through the recipe
    of the run's cache. A photo that has no pixels has an empty prediction and no probabilities.

    Raises:
        UserError: no such run or source, `out` is a folder or its folder doesn't exist.
    """
    if out.is_dir() or not out.parent.is_dir():
        raise UserError(f"--out {out}: a file in a folder that exists is needed")
    if (source / INFO).is_file():
        raise UserError(f"{source}: a run, where photos or a cache are expected")
    if (source / "recipe.json").is_file() or (source / "shards").is_dir():
        rows = _from_cache(run, source, device)
    else:
        rows = _from_photos(run, source, device, layout)
    predicted, unusable = 0, dict[str, int]()
    with replacing(out) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "prediction", *run.classes])
        for record, p in rows:
            if p is None:
                unusable[record.reason] = unusable.get(record.reason, 0) + 1
                writer.writerow([record.key, "", *[""] * len(run.classes)])
            else:
                predicted += 1
                writer.writerow([record.key, run.classes[int(p.argmax())], *(f"{x:.6g}" for x in p)])
    return Predicted(predicted, unusable)


Answer = tuple["Record", np.ndarray | None]


def _from_cache(run: Run, source: Path, device: str) -> Iterator[Answer]:
    import cache as caches

    opened: Cache = caches.open(source)
    for difference in check_recipe(run, opened):
        note(f"this cache's recipe is not that of the run's: {difference}")
    predictor = load(run, device=device)
    usable = np.zeros(len(opened), bool)
    usable[opened.usable()] = True
    with bar(len(opened), label="predict") as progress:
        for start in range(0, len(opened), AT_ONCE):
            rows = np.arange(start, min(start + AT_ONCE, len(opened)))
            shown = rows[usable[rows]]
            alpha = opened.alpha(shown) if opened.has_alpha else None
            given = _predict(predictor, opened.rgb(shown), alpha)
            for record, has_pixels in zip(opened.records(rows), usable[rows], strict=True):
                yield record, next(given) if has_pixels else None
            progress.update(len(rows))


def _from_photos(run: Run, source: Path, device: str, layout: str) -> Iterator[Answer]:
    from preprocess.build import crops
    from preprocess.photos import list_sources

    sources = list_sources(source, layout=layout)
    predictor = load(run, device=device)
    made = crops(sources, run.recipe, device=device)
    found: dict[str, list[Answer]] = {}
    with bar(len(sources), label="predict") as progress:
        while part := list(islice(made, AT_ONCE)):
            for answer in _answers(predictor, part):
                found.setdefault(answer[0].key, []).append(answer)
            progress.update(len(part))
    for each in sources:  # the crops come person by person
        yield from found[each.key]


def _answers(
    predictor: Predictor, part: Sequence[tuple[Record, np.ndarray | None, np.ndarray | None]]
) -> Iterator[Answer]:
    shown = [(rgb, alpha) for _, rgb, alpha in part if rgb is not None]
    masks = [alpha for _, alpha in shown if alpha is not None]
    rgb = np.stack([rgb for rgb, _ in shown]) if shown else np.zeros((0, 1, 1, 3), np.uint8)
    given = _predict(predictor, rgb, np.stack(masks) if masks else None)
    for record, pixels, _ in part:
        yield record, None if pixels is None else next(given)


def _predict(predictor: Predictor, rgb: np.ndarray, alpha: np.ndarray | None) -> Iterator[np.ndarray]:
    if not len(rgb):
        return iter(())
    return iter(predictor(fit(show(rgb, alpha, predictor.view, predictor.fill), predictor.model.size)))


def show(rgb: np.ndarray, alpha: np.ndarray | None, view: str, fill: str | Sequence[str]) -> Pixels:
    """Crops u8 [n h w 3] with alpha u8 [n h w] as `preload` would have them: seen in a view that stays."""
    fills = views.check(view, fill, has_alpha=alpha is not None)
    now = view != "full" and len(fills) == 1 and fills[0] in LASTING
    if now:
        parts = [slice(at, at + 32) for at in range(0, len(rgb), 32)]
        assert alpha is not None
        rgb = np.concatenate([views.view_photos(rgb[p], alpha[p], view=view, fill=fills) for p in parts])
    masks = None if alpha is None else torch.from_numpy(alpha)
    taken = (view, fills) if now else None
    return Pixels(rgb=torch.from_numpy(rgb), alpha=masks, rows=torch.arange(len(rgb)), taken=taken)


def check_recipe(run: Run, cache: Cache) -> list[str]:
    """What differs between a cache's recipe and the run's; UserError where alpha is needed and absent."""
    from cache.format import differences

    if run.info["view"] != "full" and not cache.has_alpha:
        raise UserError(
            f"{cache.path}: the run shows its network the {run.info['view']}, which needs alpha, and this "
            "cache has none; build one with --method seg"
        )
    return differences(run.recipe.identity, cache.recipe.identity)
