"""Which photos a shortcut report is about: held out from the training, with pixels and a known class."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import cache as caches
from classify import mixtures
from classify import run as runs
from classify.evaluate import open_for, validation_rows
from classify.mixtures import Crops
from classify.run import Run
from classify.targets import make_targets
from configs.errors import UserError

if TYPE_CHECKING:
    from cache.format import Cache


@dataclass(frozen=True)
class Subject:
    """What is reported on.

    Attributes:
        run, cache: as opened.
        rows: i64 [n], of the cache.
        labels: i64 [n], the joint class.
        persons: i64 [n], numbers; a photo without a person is one of its own.
        told: which rows these are, for people.
        held_out: whether none of them was trained on, as far as can be told.
        view: what the run shows its network.
        fill: in the place of what is blanked.
    """

    run: Run
    cache: Cache
    rows: np.ndarray
    labels: np.ndarray
    persons: np.ndarray
    told: str
    held_out: bool
    view: str
    fill: str

    def crops(self, places: np.ndarray | slice) -> Crops:
        """The crops at places among the rows."""
        rows = self.rows[places]
        alpha = self.cache.alpha(rows) if self.cache.has_alpha else None
        faces = mixtures.faces(self.cache.records(rows), self.cache.size)
        return Crops(self.cache.rgb(rows), alpha, faces)


def choose(run: Run, other: Path | None) -> Subject:
    """The photos to report on: held out from the training, with pixels and a known class."""
    opened = open_for(run, other)
    targets = make_targets(opened.table, run.settings.targets)
    known = np.intersect1d(opened.usable(), np.flatnonzero(targets.joint >= 0))
    if runs.data_hash(opened.table) == run.info["data"]:
        rows, told, held_out = validation_rows(run, opened), "held out by the run's split", True
    else:
        rows, told, held_out = _not_trained_on(run, opened, known)
    if not len(rows):
        raise UserError(
            f"{opened.path}: no photo to report on ({told}); name another cache with --cache, "
            "or train with a split that holds photos out"
        )
    names = [
        ("person", group) if group is not None else ("photo", key)
        for group, key in (
            (row["group"], row["key"]) for row in opened.table.select(["group", "key"]).take(rows).to_pylist()
        )
    ]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    persons = np.array([numbers[name] for name in names], np.int64)
    given = run.settings.fill
    fill = given if isinstance(given, str) else given[0]
    return Subject(run, opened, rows, targets.joint[rows], persons, told, held_out, run.info["view"], fill)


def _not_trained_on(run: Run, opened: Cache, known: np.ndarray) -> tuple[np.ndarray, str, bool]:
    """The rows of another cache whose source file the run was not trained on, by its sha256."""
    try:
        own = caches.open(Path(run.info["cache"]))
    except UserError:
        return known, "all of this cache; the run's own is gone, so they may have been trained on", False
    if runs.data_hash(own.table) != run.info["data"]:
        return known, "all of this cache; the run's own has changed, so they may have been trained on", False
    with (run.path / "split.csv").open(newline="", encoding="utf-8") as file:
        trained = {(row["key"], int(row["face"])) for row in csv.DictReader(file) if row["set"] == "train"}
    of_own = zip(*(own.table[name].to_pylist() for name in ("key", "face", "sha256")), strict=True)
    seen = {sha256 for key, face, sha256 in of_own if (key, face) in trained}
    files = opened.table["sha256"].to_pylist()
    rows = known[np.array([files[row] not in seen for row in known], bool)]
    if len(rows) == len(known):
        return rows, "all of this cache, none of which the run was trained on", True
    return rows, "of this cache, without those that the run was trained on", True
