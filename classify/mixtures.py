"""Pictures for the shortcut report: parts of a photo alone, and figures on other photos' grounds.

Composites are `alpha * F + (1 - alpha) * G` with F the figure's colours freed from the old ground
(`cache.views.decontaminate`) and G the other photo's ground, its own figure's place filled from around it
(`cache.views.ground`): where alpha is 1 stands the figure's very pixel, where it is 0 the ground's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from cache import views
from cache.records import Record
from preprocess.crop import Frame, to_crop

SHOWN = {
    "full": "the crop as it is",
    "figure": "the figure alone, the ground filled",
    "background": "the ground alone, the figure's place filled from around it",
    "face": "the face alone",
    "clothes": "what of the figure is below the chin",
    "silhouette": "the figure's outline, white on black",
    "box": "a white rectangle at the face's place and of its size",
    "mixed-same": "the figure on the ground of another person of its class",
    "mixed-rand": "the figure on the ground of another person of a random class",
    "mixed-next": "the figure on the ground of a person of the next class",
}
"""The views of the report, in its order."""

WITHOUT_ALPHA = ("full", "box")
"""The views that need no alpha."""

MIXED = ("mixed-same", "mixed-rand", "mixed-next")


@dataclass(frozen=True)
class Crops:
    """Some crops as they lie in a cache.

    Attributes:
        rgb: u8 [n h w 3], unblanked.
        alpha: u8 [n h w], or None.
        faces: f64 [n 4], the face xyxy, px of the crop; NaN where none is known.
    """

    rgb: np.ndarray
    alpha: np.ndarray | None
    faces: np.ndarray


def show(view: str, crops: Crops, others: Crops | None = None, *, fill: str = "black") -> np.ndarray:
    """Crops as one of `SHOWN`, u8 [n h w 3].

    Args:
        others: whose grounds the figures stand on, in `MIXED`: as many as crops.
        fill: what stands in the place of what is not shown, in figure, face and clothes; of `views.FILLS`.
    """
    if view == "full":
        return crops.rgb
    if view == "box":
        return _grey(boxes(crops))
    assert crops.alpha is not None, f"{view} needs alpha"
    if view == "silhouette":
        return _grey(crops.alpha)
    if view == "figure":
        return views.view_photos(crops.rgb, crops.alpha, view="figure", fill=fill)
    images, alpha = (
        views.to_float(torch.tensor(crops.rgb)),
        views.to_float(torch.tensor(crops.alpha)[..., None]),
    )
    if view == "background":
        return views.to_bytes(views.ground(images, alpha)).numpy()
    figure = views.decontaminate(images, alpha)
    if view in MIXED:
        assert others is not None
        assert others.alpha is not None
        grounds = views.ground(
            views.to_float(torch.tensor(others.rgb)), views.to_float(torch.tensor(others.alpha)[..., None])
        )
        return views.to_bytes(views.composite(figure, grounds, alpha)).numpy()
    part = torch.from_numpy(parts(crops)[view])[:, None]
    colour = (0.0, 0.0, 0.0) if fill == "black" else views.MEAN
    blank = figure.new_tensor(colour)[None, :, None, None].expand_as(figure)
    return views.to_bytes(views.composite(figure, blank, part)).numpy()


def parts(crops: Crops) -> dict[str, np.ndarray]:
    """How much of each pixel belongs to what: f32 [n h w] in 0..1 by name, adding up to 1.

    With alpha: `ground` (1 - alpha); `face`, the figure inside the face's box; `clothes`, the figure
    below it; `rest`, the figure beside and above it (hair, ears). Without: `face`, the box, and
    `beyond`, all else. Where no face is known, nothing is face or clothes.
    """
    height, width = crops.rgb.shape[1:3]
    y, x = np.arange(height)[None, :, None] + 0.5, np.arange(width)[None, None, :] + 0.5
    x0, y0, x1, y1 = (crops.faces[:, edge, None, None] for edge in range(4))
    inside = (x >= x0) & (x < x1) & (y >= y0) & (y < y1)  # NaN compares false
    if crops.alpha is None:
        face = inside.astype(np.float32)
        return {"face": face, "beyond": 1 - face}
    alpha = crops.alpha.astype(np.float32) / 255
    below = np.broadcast_to(y >= y1, inside.shape)
    return {
        "ground": 1 - alpha,
        "face": alpha * inside,
        "clothes": alpha * below,
        "rest": alpha * ~(inside | below),
    }


def boxes(crops: Crops) -> np.ndarray:
    """u8 [n h w]: 255 in the face's box, or the figure's where no face is known; else 0."""
    out = np.zeros(crops.rgb.shape[:3], np.uint8)
    height, width = crops.rgb.shape[1:3]
    for i, face in enumerate(crops.faces):
        if not np.isnan(face).any():
            x0, y0, x1, y1 = np.round(face).astype(int)
        elif crops.alpha is not None and (crops.alpha[i] >= 128).any():
            figure = crops.alpha[i] >= 128
            rows, columns = np.flatnonzero(figure.any(1)), np.flatnonzero(figure.any(0))
            x0, y0, x1, y1 = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        else:
            continue
        out[i, max(y0, 0) : min(max(y1, 0), height), max(x0, 0) : min(max(x1, 0), width)] = 255
    return out


def faces(records: Sequence[Record], size: tuple[int, int]) -> np.ndarray:
    """The faces' boxes in px of their crops of h, w `size`, f64 [n 4]; NaN where there is none."""
    out = np.full((len(records), 4), np.nan)
    for row, record in zip(out, records, strict=True):
        if record.box is None or record.crop is None:
            continue
        x0, y0, x1, y1 = record.box
        corners = to_crop((x0, y0, x1, y0, x1, y1, x0, y1), Frame(*record.crop), size=size)
        row[:] = min(corners[::2]), min(corners[1::2]), max(corners[::2]), max(corners[1::2])
    return out


# --- whose ground


def partners(kind: str, classes: np.ndarray, persons: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Whose ground each figure gets: i64 [n], places among the photos; -1 where there is nobody.

    A photo of another person always, since a person's own photos show the own room.

    Args:
        kind: `mixed-same`: of the same class; `mixed-rand`: of a class drawn with equal odds, its own
            among them (Xiao et al., "Noise or Signal", ICLR 2021); `mixed-next`: of the next class
            that has photos, the first after the last.
        classes: i64 [n].
        persons: i64 [n].
    """
    rng = np.random.default_rng([seed, MIXED.index(kind)])
    present = np.unique(classes)
    members = {int(c): np.flatnonzero(classes == c) for c in present}
    out = np.full(len(classes), -1, np.int64)
    for row, own in enumerate(classes):
        if kind == "mixed-same":
            order = np.array([own])
        elif kind == "mixed-rand":
            order = rng.permutation(present)
        else:
            place = int(np.searchsorted(present, own))
            order = np.roll(present, -place)[1:]
        for other in order:
            found = _another(members[int(other)], persons, row, rng)
            if found >= 0:
                out[row] = found
                break
    return out


def _another(rows: np.ndarray, persons: np.ndarray, row: int, rng: np.random.Generator) -> int:
    """One of `rows` of another person than `row`'s, or -1."""
    for found in rng.choice(rows, 8):  # nearly always enough, and no list of all the others is made
        if persons[found] != persons[row]:
            return int(found)
    others = rows[persons[rows] != persons[row]]
    return int(rng.choice(others)) if len(others) else -1


def _grey(mask: np.ndarray) -> np.ndarray:
    return np.repeat(mask[..., None], 3, axis=3)
