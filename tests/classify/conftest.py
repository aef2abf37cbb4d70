"""Made-up caches and the smallest networks, so that whole trainings take seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cache as caches
from cache import Cache, Listed, Recipe, Record, Writer
from classify.run import Run
from classify.settings import TrainSettings
from classify.train import train

TINY = {
    "model": {
        "name": "vit_tiny_patch16_224",
        "args": {"embed_dim": 24, "depth": 2, "num_heads": 2, "patch_size": 8},
        "pretrained": False,
    },
    "optimizer": {"name": "adamw", "lr": 3e-3},
    "epochs": 2,
    "batch_size": 8,
    "device": "cpu",
}
"""Settings of a training that takes about a second."""


def draw_cache(
    path: Path,
    *,
    persons: int = 12,
    photos: int = 4,
    size: int = 32,
    seed: int = 0,
    alpha: bool = True,
    labels: Callable[[int, int], dict[str, Any]] = lambda person, _: {"kind": "ab"[person % 2]},
    unreadable: int = 0,
) -> Cache:
    """A cache whose class shows: the first label's value sets the hue of a disc on a random ground.

    Args:
        labels: of photo j of person i.
        unreadable: how many rows without pixels stand at the end.
    """
    rng = np.random.default_rng(seed)
    recipe = Recipe({"method": "seg" if alpha else "det", "size": size}, {"source": "made up"})
    disc = np.hypot(*(np.indices((size, size)) - size / 2)) < size / 3
    records, rgb = [], []
    for person in range(persons):
        for photo in range(photos):
            values = labels(person, photo)
            ground = rng.integers(0, 256, (size, size, 3))
            shade = np.frombuffer(str(next(iter(values.values()))).encode().ljust(3, b"~")[:3], np.uint8)
            figure = (shade.astype(int) * 97 % 256) + rng.integers(-30, 31, 3)
            rgb.append(np.where(disc[..., None], figure, ground).clip(0, 255).astype(np.uint8))
            records.append(record(f"p{person:03}/{photo}.png", f"p{person:03}", values, "ok"))
    broken = [
        record(f"zz/{number}.png", None, dict.fromkeys(records[0].labels), "unreadable")
        for number in range(unreadable)
    ]
    pixels = np.stack(rgb)
    masks = np.repeat((disc * 255).astype(np.uint8)[None], len(rgb), 0) if alpha else None
    with Writer(path, recipe) as writer:
        writer.commit([*records, *broken], pixels, masks)
        writer.finish([Listed(r.key, r.group, r.labels, r.bytes, r.mtime_ns) for r in (*records, *broken)])
    return caches.open(path)


def record(key: str, group: str | None, labels: dict[str, Any], status: str) -> Record:
    """A record with what a training looks at."""
    whole = (
        {"width": 64, "height": 64, "rung": "centre"} if status != "unreadable" else {"reason": "cut short"}
    )
    return Record(
        key=key, group=group, labels=labels, sha256=key, bytes=1, mtime_ns=1, status=status, **whole
    )


@pytest.fixture(scope="session")
def tiny_settings() -> dict[str, Any]:
    """Settings of a training that takes about a second; a fresh copy is the caller's to make."""
    return TINY


@pytest.fixture(scope="session")
def make_cache() -> Callable[..., Cache]:
    """`draw_cache`."""
    return draw_cache


@pytest.fixture(scope="session")
def tiny_cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """12 persons, 48 photos of 32 px with alpha, two classes, and one unreadable row."""
    return draw_cache(tmp_path_factory.mktemp("caches") / "tiny", unreadable=1)


@pytest.fixture(scope="session")
def tiny_run(tiny_cache: Cache, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run on `tiny_cache`; to be read, not written to."""
    settings = TrainSettings.model_validate({**TINY, "epochs": 6})
    return train(tiny_cache, settings, tmp_path_factory.mktemp("runs") / "tiny")
