"""All runs of a folder beside each other: scores, and the settings in which they differ."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache.pages import charts, kit
from classify import run as runs
from classify.errors_page import read_metrics
from classify.metrics import LOWER_IS_BETTER
from classify.run import INFO
from configs import terminal
from configs.errors import UserError

SCORES = ("macro_f1", "accuracy", "ece", "val_loss", "train_loss")
"""By the first that a run has, runs are put in order."""
NOT_TOLD = ("device", "devices", "targets.classes", "cache.segment", "cache.version", "cache.detect.version")
"""Settings that change only how long a training takes, or that follow from others."""
MOST_CURVES = 24
"""Runs whose curves are drawn: of more, nobody tells the lines apart."""


@dataclass(frozen=True)
class Line:
    """One run.

    Attributes:
        path: its folder, below the one that was asked for.
        state: "" where it is finished; else what it is.
        scores: of its best epoch, by name.
        epoch: the best one; None where no epoch is done.
        settings: flat, names with dots, plain JSON values.
        history: rows of metrics.csv.
    """

    path: str
    state: str
    scores: Mapping[str, float]
    epoch: int | None
    settings: Mapping[str, Any]
    history: Sequence[Mapping[str, float]]


def find(folder: Path) -> list[Line]:
    """All runs below a folder, the best first; the finished before those that are not.

    Raises:
        UserError: no such folder, or no run in it.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    lines = []
    for where, inner, files in os.walk(folder):
        if INFO in files:
            lines.append(_line(Path(where), folder))
            inner.clear()  # what a run holds is no run
    if not lines:
        raise UserError(f"{folder}: no run in it or below (a run is the --out folder of `classify train`)")
    return sorted(lines, key=_place)


def _line(path: Path, folder: Path) -> Line:
    name = path.relative_to(folder).as_posix() if path != folder else path.resolve().name
    history = read_metrics(path / "metrics.csv")
    try:
        run = runs.open(path)
    except UserError as error:
        return Line(name, f"can't be read: {error}", {}, None, {}, history)
    result = run.info.get("result")
    state = (
        "" if result else f"stopped after epoch {int(history[-1]['epoch'])}" if history else "no epoch done"
    )
    told = result or _best(history) or {}
    scores = {key: float(told[key]) for key in SCORES if told.get(key) is not None}
    settings = flat(run.settings.model_dump(mode="json"))
    # What the photos were made of counts as much as what was done with them.
    identity = dict(run.recipe.identity)
    segment = identity.get("segment")
    settings |= {"cache": Path(str(run.info.get("cache", ""))).name, **flat(identity, "cache.")}
    settings["segmenter"] = segment.get("name") if isinstance(segment, dict) else segment
    return Line(name, state, scores, int(told["epoch"]) if "epoch" in told else None, settings, history)


def _best(history: Sequence[Mapping[str, float]]) -> Mapping[str, float] | None:
    """The best epoch of a run that did not end, by the first score that its epochs have."""
    for name in SCORES:
        known = [row for row in history if name in row]
        if known:
            sign = 1 if name in LOWER_IS_BETTER else -1
            return min(known, key=lambda row: sign * row[name])
    return None


def _place(line: Line) -> tuple[Any, ...]:
    for rank, name in enumerate(SCORES):
        if name in line.scores:
            sign = 1 if name in LOWER_IS_BETTER else -1
            return bool(line.state), rank, sign * line.scores[name], line.path
    return True, len(SCORES), 0.0, line.path


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, names joined by dots."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def differing(lines: Sequence[Line]) -> list[str]:
    """The names of the settings that are not the same in all runs that can be read."""
    known = [line.settings for line in lines if line.settings]
    names = dict.fromkeys(name for settings in known for name in settings)
    return [
        name
        for name in names
        if not f"{name}.".startswith(tuple(f"{other}." for other in NOT_TOLD))
        and len({repr(settings.get(name)) for settings in known}) > 1
    ]


def as_values(lines: Sequence[Line]) -> dict[str, Any]:
    """All of it as plain JSON values."""
    return {
        "differing": differing(lines),
        "runs": [
            {
                "path": line.path,
                "state": line.state or "finished",
                "epoch": line.epoch,
                "scores": dict(line.scores),
                "settings": dict(line.settings),
            }
            for line in lines
        ],
    }


def as_text(lines: Sequence[Line]) -> str:
    """An aligned table, and what is wrong with runs."""
    names, told = differing(lines), scores_of(lines)
    rows = [
        {
            "run": line.path,
            **{name: line.scores.get(name) for name in told},
            "epoch": line.epoch,
            **{short: text_of(line, name) for name, short in short_names(names).items()},
        }
        for line in lines
    ]
    notes = [f"{line.path}: {line.state}" for line in lines if line.state]
    return "\n".join([terminal.table(rows), *([""] if notes else []), *notes])


def scores_of(lines: Sequence[Line]) -> list[str]:
    """The scores that any run has, in order."""
    return [name for name in SCORES if any(name in line.scores for line in lines)]


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Settings' names by their last part, where that is enough to tell them apart."""
    plain = [name.removesuffix(".name") for name in names]
    last = [".".join(name.split(".")[1:][-2:]) or name for name in plain]
    taken = {"run", "epoch", *SCORES}
    return {
        name: end if last.count(end) == 1 and end not in taken else name
        for name, end in zip(names, last, strict=True)
    }


def text_of(line: Line, name: str) -> str:
    """A setting's value, short."""
    value = line.settings.get(name)
    if value is None:
        return "-"
    if isinstance(value, list):
        return ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in value) or "-"
    return f"{value:g}" if isinstance(value, float) else str(value)


def write(lines: Sequence[Line], folder: Path, out: Path) -> Path:
    """Write the page; the path to open."""
    names, told = differing(lines), scores_of(lines)
    drawn = [line for line in lines if line.history][:MOST_CURVES]
    curves = [(name, _curves(drawn, name)) for name in (*told, "lr")]
    shown = [(name, chart) for name, chart in curves if chart]
    with kit.fresh_folder(out, kind="runs") as building:
        kit.write_page(
            building,
            title=f"Runs in {folder.resolve().name}",
            template="runs.html",
            styles=("charts.css", "runs.css"),
            scripts=("runs.js",),
            context={
                "lines": lines,
                "scores": told,
                "settings": short_names(names),
                "same": _same(lines, names),
                "cells": [[text_of(line, name) for name in names] for line in lines],
                "best": {name: _best_of(lines, name) for name in told},
                "drawn": [line.path for line in drawn],
                "curves": shown,
            },
        )
    return out / "index.html"


def _best_of(lines: Sequence[Line], name: str) -> float | None:
    values = [line.scores[name] for line in lines if name in line.scores]
    pick = min if name in LOWER_IS_BETTER else max
    return pick(values) if len(values) > 1 else None


def _same(lines: Sequence[Line], names: Sequence[str]) -> list[tuple[str, str]]:
    """The settings that all runs share."""
    first = next((line for line in lines if line.settings), None)
    return [] if first is None else [(n, text_of(first, n)) for n in first.settings if n not in names]


def _curves(lines: Sequence[Line], name: str) -> dict[str, Any] | None:
    series = {line.path: [(row["epoch"], row[name]) for row in line.history if name in row] for line in lines}
    return charts.lines(series, x="epoch", y=name) if any(series.values()) else None
