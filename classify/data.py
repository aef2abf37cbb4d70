"""What a training trains on: the rows of a cache, their classes, and on which side of the split they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from classify.run import data_hash
from classify.settings import TrainSettings
from classify.split import SPLITS, UNUSED, parts
from classify.targets import Targets, make_targets, settle
from configs.errors import UserError, did_you_mean

if TYPE_CHECKING:
    import pyarrow as pa

    from cache.format import Cache

METRICS = ("macro_f1", "accuracy", "ece", "val_loss")
"""What is measured on the validation photos after each epoch."""


@dataclass(frozen=True)
class Data:
    """The rows of a training.

    Attributes:
        settings: with the classes written out.
        targets: of all rows of the cache.
        folds: i64 [n], the fold number of every row (see `classify.split`).
        train, val: i64, rows of the cache; all have pixels.
        view: what of the photos is shown.
        notes: what a user should hear.
    """

    settings: TrainSettings
    targets: Targets
    folds: np.ndarray
    train: np.ndarray
    val: np.ndarray
    view: str
    notes: tuple[str, ...]

    @property
    def outputs(self) -> int:
        """Number of logits: the classes of all heads."""
        return sum(len(names) for names in self.targets.heads)


def prepare(cache: Cache, settings: TrainSettings) -> Data:
    """Choose the rows of a training, and check that they can be trained on.

    Raises:
        UserError: labels, split or view that don't fit the cache; a side of the split without
            photos; persons on both sides.
    """
    settings = settings.model_copy(update={"targets": settle(cache.table, settings.targets)})
    targets = make_targets(cache.table, settings.targets)
    chosen = settings.split
    split: Any = SPLITS[chosen.name]
    folds = split(cache.table, targets.joint, **chosen.settings)
    train, val = parts(folds, settings.fold)
    usable = np.zeros(len(cache), bool)
    usable[cache.usable()] = True
    # A photo with one label of two can train the head of the one; it can't be scored.
    train = train[usable[train] & (targets.labels[train] >= 0).any(1) & ~targets.left_out[train]]
    val = val[usable[val] & (targets.joint[val] >= 0)]
    _check_sides(cache, settings, folds, train, val)
    _check_metric(settings, targets, len(val) > 0)
    view = settings.view or ("figure" if cache.has_alpha else "full")
    if view != "full" and not cache.has_alpha:
        raise UserError(
            f"view={view}: {cache.path} has no alpha; build it with --method seg, or set view=full"
        )
    notes = [*_check_persons(cache.table, train, val, settings), *_absent(targets, train)]
    return Data(settings, targets, folds, train, val, view, tuple(notes))


def describe(cache: Cache, data: Data) -> dict[str, Any]:
    """What `run.json` says of the data."""
    targets = data.targets
    return {
        "cache": str(cache.path.resolve()),
        "data": data_hash(cache.table),
        "crop": list(cache.size),
        "view": data.view,
        "columns": list(targets.columns),
        "head_names": list(targets.head_names),
        "heads": [list(names) for names in targets.heads],
        "classes": list(targets.classes),
        "photos": {"train": len(data.train), "val": len(data.val), "all": len(cache)},
    }


def split_rows(table: pa.Table, data: Data) -> list[dict[str, Any]]:
    """The rows of split.csv: every row of the cache, its fold, and what the training does with it."""
    part = np.full(len(table), "unused", object)
    part[data.targets.left_out & (data.folds != UNUSED)] = "left_out"
    part[data.train], part[data.val] = "train", "val"
    names = [None if joint < 0 else data.targets.classes[joint] for joint in data.targets.joint]
    columns = zip(table["key"].to_pylist(), table["face"].to_pylist(), names, data.folds, part, strict=True)
    return [
        {"key": key, "face": face, "class": name, "fold": int(fold), "set": side}
        for key, face, name, fold, side in columns
    ]


def _check_sides(
    cache: Cache, settings: TrainSettings, folds: np.ndarray, train: np.ndarray, val: np.ndarray
) -> None:
    if not len(train):
        raise UserError(f"{cache.path}: no photo to train on (of {len(cache)}, none has pixels and a class)")
    highest = int(folds.max(initial=-1))
    if not len(val) and highest >= 0:
        raise UserError(f"fold={settings.fold}: no photo validates in that fold; there are 0..{highest}")


def _check_metric(settings: TrainSettings, targets: Targets, validates: bool) -> None:
    metric, default = settings.early_stop.metric, type(settings.early_stop)().metric
    heads = [f"macro_f1.{name}" for name in targets.head_names] if len(targets.heads) > 1 else []
    known = ["train_loss", *((*METRICS, *heads) if validates else ())]
    waits = settings.early_stop.patience is not None
    if metric not in known and (validates or waits or metric != default):
        without = "" if validates else " without validation photos"
        raise UserError(f'early_stop.metric: no "{metric}"{without}{did_you_mean(metric, known)}')


def _check_persons(table: pa.Table, train: np.ndarray, val: np.ndarray, settings: TrainSettings) -> list[str]:
    groups = np.array(table["group"].to_pylist(), object)
    both = sorted({g for g in groups[train] if g is not None} & {g for g in groups[val] if g is not None})
    if not both:
        return []
    text = f"{len(both)} persons are in training and validation: {', '.join(both[:5])}"
    text += " ..." if len(both) > 5 else ""
    if not settings.allow_shared_persons:
        raise UserError(
            f"{text}; the scores would be those of known faces: split by person, "
            "or set allow_shared_persons=true"
        )
    return [text]


def _absent(targets: Targets, train: np.ndarray) -> list[str]:
    counts = np.bincount(targets.joint[train][targets.joint[train] >= 0], minlength=len(targets.classes))
    absent = [name for name, count in zip(targets.classes, counts, strict=True) if not count]
    if not absent:
        return []
    shown = "; ".join(absent[:5]) + (" ..." if len(absent) > 5 else "")
    return [f"{len(absent)} of {len(counts)} classes have no photo to train on: {shown}"]
