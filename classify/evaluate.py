"""How good a run is: on the validation photos of its split, or on another cache."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import cache as caches
from cache.loader import preload
from classify import run as runs
from classify.metrics import scores
from classify.plots import confusion
from classify.predict import Predictor, check_recipe, fit, load
from classify.run import Run
from classify.targets import Targets, make_targets
from configs.errors import UserError
from configs.terminal import note, table

if TYPE_CHECKING:
    from cache.format import Cache

NAME_WIDTH = 14
"""Columns of the printed confusion matrix are cut to so many letters."""


@dataclass(frozen=True)
class Evaluated:
    """A run's answers about photos whose classes are known.

    Attributes:
        cache: where the photos are.
        own: whether they are the validation photos of the run.
        rows: i64 [n], their rows in the cache.
        targets: of all rows of the cache.
        probabilities: f32 [n c], of the joint classes.
        predictor: what gave them.
    """

    cache: Cache
    own: bool
    rows: np.ndarray
    targets: Targets
    probabilities: np.ndarray
    predictor: Predictor

    @property
    def truth(self) -> np.ndarray:
        """i64 [n], the joint classes."""
        return np.asarray(self.targets.joint[self.rows])


def evaluate(
    run: Run,
    other: Path | None = None,
    *,
    device: str = "auto",
    out: Path | None = None,
    page: Path | None = None,
) -> dict[str, Any]:
    """Score a run, and write `evaluation.json` and `confusion.png`.

    Args:
        run: a run.
        other: another cache, of which all rows with pixels and known labels count; None: the
            validation rows of the run's own. The run's own data found elsewhere count as its own.
        device: to compute on.
        out: folder for the files; None: the run's, or for another cache a folder of its name in it.
        page: folder for a page of the errors.

    Returns:
        `scores` of the joint class, with `cache`, `rows` (what they are) and `files`.

    Raises:
        UserError: no such cache, or labels that the run doesn't know.
    """
    done = answers(run, other, device=device)
    told = scores(torch.from_numpy(done.probabilities), torch.from_numpy(done.truth), run.classes)
    opened, own = done.cache, done.own
    folder = out or (run.path if own else run.path / f"evaluation-{opened.path.resolve().name}")
    folder.mkdir(parents=True, exist_ok=True)
    files = {"json": str(folder / "evaluation.json"), "picture": str(folder / "confusion.png")}
    answer = {"cache": str(opened.path), "rows": "validation" if own else "all", **told, "files": files}
    if page:
        from classify.errors_page import write

        files["page"] = str(write(run, done, answer, page))
    runs.write_json(folder / "evaluation.json", answer)
    confusion(
        told["confusion"], run.classes, folder / "confusion.png", title=f"macro-F1 {told['macro_f1']:.3f}"
    )
    return answer


def answers(run: Run, other: Path | None = None, *, device: str = "auto") -> Evaluated:
    """What a run says of the photos to evaluate it on: see `evaluate`."""
    opened = open_for(run, other)
    own = runs.data_hash(opened.table) == run.info["data"]
    targets = make_targets(opened.table, run.settings.targets)
    rows = (
        validation_rows(run, opened)
        if own
        else np.intersect1d(opened.usable(), np.flatnonzero(targets.joint >= 0))
    )
    if not len(rows):
        why = (
            "the run has no validation photos; name a cache with --cache"
            if own
            else "no labelled photo in it"
        )
        raise UserError(f"{opened.path}: nothing to evaluate: {why}")
    predictor = load(run, device=device)
    crops = preload(opened, rows, device=predictor.device, view=predictor.view, fill=predictor.fill)
    return Evaluated(opened, own, rows, targets, predictor(fit(crops, predictor.model.size)), predictor)


def open_for(run: Run, other: Path | None) -> Cache:
    """The cache to evaluate on; a line for each difference between its recipe and the run's."""
    try:
        opened = caches.open(other or Path(run.info["cache"]))
    except UserError as error:
        if other is None:
            raise UserError(f"the run's cache is gone ({error}); name one with --cache") from None
        raise
    if other is None and runs.data_hash(opened.table) != run.info["data"]:
        raise UserError(
            f"{opened.path}: not the data that {run.path} was trained on any more, so its split doesn't "
            f"hold; to evaluate on all rows: --cache {opened.path}"
        )
    for difference in check_recipe(run, opened):
        note(f"this cache's recipe is not that of the run's: {difference}")
    return opened


def validation_rows(run: Run, cache: Cache) -> np.ndarray:
    """The rows of a cache that the run's split.csv calls "val", i64."""
    path = run.path / "split.csv"
    if not path.is_file():
        raise UserError(f"{path}: missing, the run is not whole; train it again")
    with path.open(newline="", encoding="utf-8") as file:
        chosen = {(row["key"], int(row["face"])) for row in csv.DictReader(file) if row["set"] == "val"}
    pairs = zip(cache.table["key"].to_pylist(), cache.table["face"].to_pylist(), strict=True)
    return np.array([row for row, pair in enumerate(pairs) if pair in chosen], np.int64)


def as_text(answer: dict[str, Any]) -> str:
    """Scores, a table by class and the confusion matrix, to read."""
    head = f"{answer['n']:,} photos ({answer['rows']} of {answer['cache']})"
    line = ", ".join(f"{name} {answer[key]:.4f}" for name, key in TOLD.items())
    return "\n".join([head, line, "", table(answer["classes"]), "", confusion_table(answer)])


TOLD = {"macro-F1": "macro_f1", "accuracy": "accuracy", "calibration error": "ece"}


def confusion_table(answer: dict[str, Any]) -> str:
    """Truth down, prediction across; columns bear the numbers of the rows where names are too long."""
    names = [row["class"] for row in answer["classes"]]
    short = all(len(name) <= NAME_WIDTH for name in names) and len(names) <= 8
    heads = names if short else [str(number) for number in range(len(names))]
    rows = [
        {"true \\ predicted": name if short else f"{number} {name}", **dict(zip(heads, counts, strict=True))}
        for number, (name, counts) in enumerate(zip(names, answer["confusion"], strict=True))
    ]
    return table(rows)
