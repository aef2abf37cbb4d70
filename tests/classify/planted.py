"""A made-up cache whose class stands in the ground or in the figure, and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import cache as caches
from cache import Cache, Listed, Recipe, Record, Writer

SIZE = 32
COLOURS = np.array([(200, 60, 60), (60, 180, 80), (70, 90, 210)])
"""What a class is told by: red, green, blue."""

GREYS = np.array([(90, 90, 90), (150, 150, 150), (120, 120, 120)])


def planted(
    path: Path,
    cue: str,
    *,
    persons: int = 48,
    photos: int = 2,
    alpha: bool = True,
    seed: int = 0,
    names: tuple[str, ...] = ("one", "three", "two"),
    key: str = "p{person:03}/{photo}.png",
) -> Cache:
    """A head on a ground, 32 px, three classes, the class a person's own.

    Args:
        cue: where the class's colour stands: "ground", "figure" or "nowhere" (at random, in the ground).
        names: of the classes.
        key: of a photo.
    """
    rng = np.random.default_rng(seed)
    method = {"method": "seg" if alpha else "det", "size": SIZE}
    away = np.hypot(*(np.indices((SIZE, SIZE)) + 0.5 - SIZE / 2))
    soft = np.clip((10 + 1 - away) / 2, 0, 1)  # a disc of radius 10 with an edge of 2 px
    records, rgb, masks = [], [], []
    for person in range(persons):
        label, dealt = person % 3, int(rng.integers(3))
        for photo in range(photos):
            figure = COLOURS[label] if cue == "figure" else GREYS[rng.integers(3)]
            ground = COLOURS[label if cue == "ground" else dealt]
            colour = soft[..., None] * figure + (1 - soft[..., None]) * ground
            rgb.append((colour + rng.integers(-25, 26, colour.shape)).clip(0, 255).astype(np.uint8))
            masks.append(np.round(soft * 255).astype(np.uint8))
            name = key.format(person=person, photo=photo)
            records.append(_record(name, f"p{person:03}", {"kind": names[label]}))
    with Writer(path, Recipe(method, {"source": "made up"})) as writer:
        writer.commit(records, np.stack(rgb), np.stack(masks) if alpha else None)
        writer.finish([Listed(r.key, r.group, r.labels, r.bytes, r.mtime_ns) for r in records])
    return caches.open(path)


def _record(key: str, group: str, labels: dict[str, Any]) -> Record:
    middle = SIZE / 2
    return Record(
        key=key,
        group=group,
        labels=labels,
        sha256=key,
        bytes=1,
        mtime_ns=1,
        width=SIZE,
        height=SIZE,
        box=(middle - 6, middle - 8, middle + 6, middle + 4),
        crop=(middle, middle, SIZE, SIZE, 0.0),
        rung="plain",
        score=1.0,
    )
