"""What a run says to each view of its photos, kept on the disk as it comes, so that a report can go on.

Kept files are npz without pickles, each with a digest of all that its answers depend on: weights,
photos, seed, views.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cache.loader import Pixels
from classify import gradients, mixtures
from classify import run as runs
from classify.mixtures import MIXED, SHOWN, WITHOUT_ALPHA
from classify.predict import Predictor, fit
from classify.subject import Subject
from configs.terminal import bar

if TYPE_CHECKING:
    from tqdm import tqdm

VERSION = 1
"""Of the views: answers kept by another version are not used."""

AT_ONCE = 256
"""Photos of which pictures are made ahead of the network."""

PART = 16
"""Photos that are mixed in one go."""

Answers = dict[str, np.ndarray]


def answer_all(subject: Subject, predictor: Predictor, folder: Path, *, seed: int) -> Answers:
    """Probabilities f32 [n c] by view, of the views that the cache allows; NaN where there is no partner."""
    views = [view for view in SHOWN if subject.cache.has_alpha or view in WITHOUT_ALPHA]
    digest = _digest(subject, seed)
    answers: Answers = {}
    with bar(len(views) * len(subject.rows), label="shortcut") as progress:
        for view in views:
            kept = _kept(folder / f"{view}.npz", digest)
            if kept is None:
                kept = {"probabilities": answer(subject, predictor, view, seed=seed, progress=progress)}
                _keep(folder / f"{view}.npz", digest, kept)
            else:
                progress.update(len(subject.rows))
            answers[view] = kept["probabilities"]
    return answers


def answer(
    subject: Subject, predictor: Predictor, view: str, *, seed: int = 0, progress: tqdm[Any] | None = None
) -> np.ndarray:
    """Probabilities f32 [n c] of the subject's photos, seen as one of `SHOWN`."""
    plain = replace(predictor, view="full")
    out = np.full((len(subject.rows), len(predictor.classes)), np.nan, np.float32)
    others = partners(subject, view, seed=seed)
    places = np.flatnonzero(others >= 0)
    for part, pictures in _ahead(subject, view, places, others):
        pixels = Pixels(torch.from_numpy(pictures), None, torch.arange(len(part)))
        out[part] = plain(fit(pixels, predictor.model.size))
        if progress is not None:
            progress.update(len(part))
    return out


def partners(subject: Subject, view: str, *, seed: int) -> np.ndarray:
    """Whose ground each photo gets, i64 [n]; its own place in a view that isn't mixed, -1 for nobody's."""
    if view not in MIXED:
        return np.arange(len(subject.rows))
    return mixtures.partners(view, subject.labels, subject.persons, seed=seed)


def pictures_of(subject: Subject, view: str, places: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Photos of the subject as one of `SHOWN`, u8 [m h w 3]."""
    made = []
    for at in range(0, len(places), PART):
        part = places[at : at + PART]
        grounds = subject.crops(others[part]) if view in MIXED else None
        made.append(mixtures.show(view, subject.crops(part), grounds, fill=subject.fill))
    return np.concatenate(made)


def _ahead(
    subject: Subject, view: str, places: np.ndarray, others: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Places and pictures, the next ones made while the network looks at these."""
    parts = [places[at : at + AT_ONCE] for at in range(0, len(places), AT_ONCE)]
    with ThreadPoolExecutor(1) as pool:
        made = [pool.submit(pictures_of, subject, view, part, others) for part in parts[:1]]
        for number, part in enumerate(parts):
            pictures = made.pop().result()
            if number + 1 < len(parts):
                made.append(pool.submit(pictures_of, subject, view, parts[number + 1], others))
            yield part, pictures


def energies_of(subject: Subject, predictor: Predictor, folder: Path, *, seed: int) -> dict[str, np.ndarray]:
    """Shares of the gradient's energy of some photos, with their places (`places`)."""
    digest = _digest(subject, seed)
    kept = _kept(folder / "gradients.npz", digest)
    if kept is not None:
        return kept
    rng = np.random.default_rng([seed, 7])
    places = np.sort(rng.permutation(len(subject.rows))[: gradients.PHOTOS])

    shown = pictures_of(subject, subject.view, places, places)
    with bar(len(places), label="gradients") as progress:
        measured = gradients.measure(predictor, subject.crops(places), shown, done=progress.update)
    measured["places"] = places
    _keep(folder / "gradients.npz", digest, measured)
    return measured


def _digest(subject: Subject, seed: int) -> str:
    weights = hashlib.sha256((subject.run.path / "best.safetensors").read_bytes()).hexdigest()
    data = runs.data_hash(subject.cache.table, subject.rows)
    parts = [
        VERSION,
        weights,
        data,
        subject.cache.recipe.digest,
        subject.view,
        subject.fill,
        seed,
        list(SHOWN),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _keep(path: Path, digest: str, values: Mapping[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with runs.replacing(path) as part, part.open("wb") as file:
        np.savez(file, **{**values, "digest": np.array(digest)})  # type: ignore[arg-type]


def _kept(path: Path, digest: str) -> dict[str, np.ndarray] | None:
    """What was kept for this digest, or None; a damaged file is as none."""
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            if str(file["digest"]) != digest:
                return None
            return {name: file[name] for name in file.files if name != "digest"}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
