"""A cache as a plain map-style torch Dataset, for people with a training loop of their own.

crops = cache.open("demo").dataset(view="figure", fill="mean", target="mask", transform=transform)
loader = DataLoader(crops, batch_size=64, shuffle=True, num_workers=4)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from cache import views
from cache.format import Cache
from cache.records import LABEL, label_names
from configs.errors import UserError


@dataclass(frozen=True, eq=False)
class Crops(Dataset[tuple[Any, Any]]):
    """Rows of a cache as (image, target) pairs; made by `dataset`, which says what they are.

    Pixels stay in the mapped files, which all workers share; a worker that was not forked maps
    them again. There is no Python object per row, so no copy-on-write growth of forked workers.

    Attributes:
        cache: the cache.
        rows: i64[n], which of its rows.
        view, fills: of `cache.views`.
        transform: what an image goes through, or None.
        targets: i64[n] or f64[n], or None where the target is the dict of labels.
        classes: the names of the class numbers; () where targets are no classes.
    """

    cache: Cache
    rows: np.ndarray
    view: str
    fills: tuple[str, ...]
    transform: Callable[..., Any] | None
    targets: np.ndarray | None
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self.__getitems__([range(len(self))[index]])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Any, Any]]:
        """A batch at once, as DataLoader asks for it; equal to one by one, but for random fills."""
        places = np.asarray(indices, np.int64)
        return [
            (_transformed(image, self.transform), self._target(int(place)))
            for image, place in zip(self._images(places), places, strict=True)
        ]

    def _images(self, places: np.ndarray) -> np.ndarray:
        """u8 [n h w 3], with the view taken."""
        rows = self.rows[places]
        if self.view == "full" or not len(rows):
            return self.cache.rgb(rows)
        count = len(rows)
        rng = torch.Generator().manual_seed(int(torch.randint(1 << 62, ())))
        draw = views.draw(count, self.fills, rng)
        partners = draw.partners
        if "swap" in self.fills and len(self) > 1:
            others = (places + torch.randint(1, len(self), (count,), generator=rng).numpy()) % len(self)
            rows = np.concatenate([rows, self.rows[others]])
            partners = torch.arange(count, 2 * count)
        images = views.to_float(torch.from_numpy(self.cache.rgb(rows)))
        alpha = views.to_float(torch.from_numpy(self.cache.alpha(rows))[..., None])
        draw = views.Draw(self.fills, draw.kinds, partners, draw.seeds)
        return views.to_bytes(views.take(images, alpha, draw, view=self.view, part=slice(count))).numpy()

    def _target(self, place: int) -> Any:
        if self.targets is not None:
            return self.targets[place].item()
        row = int(self.rows[place])
        table = self.cache.table
        return {name: table[LABEL + name][row].as_py() for name in label_names(table)}


def dataset(
    cache: Cache,
    *,
    view: str = "full",
    fill: str | Sequence[str] = "black",
    transform: Callable[..., Any] | None = None,
    target: str | None = None,
    rows: Sequence[int] | np.ndarray | None = None,
) -> Crops:
    """A map-style Dataset over a cache.

    An item is `(image, target)`. The image is u8 [h w 3] RGB (a NumPy array of its own), or what
    `transform` makes of it: an albumentations pipeline is called as `transform(image=image)` and
    gives its "image"; anything else (torchvision) as `transform(image)`. For torchvision's v2 begin
    with `ToImage()`, which takes such an array.

    Args:
        view, fill: of `cache.views`. With several fills each item draws one; random choices come
            from torch's own generator, which DataLoader seeds in each worker.
        transform: see above. For workers that are not forked it must be picklable.
        target: the label to learn. Texts become class numbers, in sorted order (`.classes` has
            the names; -1: unknown); numbers stay numbers. Not given: a dict of all labels.
        rows: which rows of the cache; all with pixels where not given.

    Raises:
        UserError: an unknown view, fill or label, or a view that needs an alpha the cache lacks.
    """
    fills = views.check(view, fill, has_alpha=cache.has_alpha)
    chosen = cache.usable() if rows is None else np.asarray(rows, np.int64)
    if len(chosen) and (cache.places[1][chosen] < 0).any():
        raise UserError(f"{cache.path}: some of the rows have no pixels; choose among cache.usable()")
    targets, classes = (None, ()) if target is None else _targets(cache.labels(target)[chosen])
    if transform is not None and _is_albumentations(transform):
        transform = partial(_by_name, transform)
    return Crops(cache, chosen, view, fills, transform, targets, classes)


def _targets(values: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    if values.dtype != object:
        return values, ()
    classes = tuple(sorted({value for value in values if value is not None}))
    numbers = {name: number for number, name in enumerate(classes)}
    return np.array([numbers.get(value, -1) for value in values], np.int64), classes


def _is_albumentations(transform: object) -> bool:
    return any(kind.__module__.split(".")[0] == "albumentations" for kind in type(transform).__mro__)


def _by_name(transform: Callable[..., Any], image: np.ndarray) -> Any:
    return transform(image=image)["image"]


def _transformed(image: np.ndarray, transform: Callable[..., Any] | None) -> Any:
    # Its own memory: an item that someone keeps must not keep the whole batch.
    return image.copy() if transform is None else transform(image)
