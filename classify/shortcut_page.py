"""The page of a shortcut report: its figures as pictures, examples of each view, the worst cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cache.pages import kit
from classify.answers import Answers, partners, pictures_of
from classify.mixtures import MIXED, SHOWN
from classify.subject import Subject
from classify.verdict import percent, points, share

EXAMPLES = 6
"""Photos that are shown in every view."""

WORST = 12
"""Cases that are shown at most."""

OF_CLUSTER = 5
"""Grounds that stand for a cluster."""

GROUPS = 12
"""Groups that are listed, the worst."""

LONGEST_PX = 256
"""Pictures are shrunk to this longer side."""

PARTS = {
    "ground": "ground",
    "face": "face",
    "clothes": "clothes",
    "rest": "hair, ears and what else is beside or above the face",
    "beyond": "all beyond the face",
}

LEVELS = {"bad": "shortcut", "warn": "look at this", "good": "good", "note": "note"}


def write(folder: Path, subject: Subject, answers: Answers, result: Mapping[str, Any], *, seed: int) -> Path:
    """Write index.html with its pictures into a folder; its path."""
    pictures = _Pictures(folder, subject, seed)
    views = [entry["view"] for entry in result["views"]]
    answers = {view: answers[view] for view in views}
    examples = [_example(pictures, answers, place, views) for place in _spread(subject, answers)]
    return kit.write_page(
        folder,
        title=f"Shortcut report: {subject.run.path.resolve().name}",
        template="shortcut.html",
        styles=("shortcut.css",),
        scripts=("shortcut.js",),
        context={
            "result": result,
            "levels": LEVELS,
            "views": [_bar(entry) for entry in result["views"]],
            "gap": _gap(result["bg_gap"]),
            "parts": [_part(entry) for entry in result["gradient"]["parts"]],
            "groups": _groups(pictures, result["groups"]),
            "examples": examples,
            "shown": views,
            "meanings": SHOWN,
            "cases": _cases(pictures, answers),
            "percent": percent,
            "points": points,
            "percentage": share,
        },
    )


class _Pictures:
    """Pictures of the subject's photos, written once each."""

    def __init__(self, folder: Path, subject: Subject, seed: int) -> None:
        self.folder, self.subject, self.seed = folder, subject, seed
        self.others: dict[str, np.ndarray] = {}
        (folder / "pictures").mkdir()

    def of(self, view: str, place: int) -> str:
        """The picture of one photo in one view, as the page names it."""
        name = f"pictures/{view}-{place:06d}.jpg"
        if not (self.folder / name).exists():
            if view not in self.others:
                self.others[view] = partners(self.subject, view, seed=self.seed)
            made = pictures_of(self.subject, view, np.array([place]), self.others[view])[0]
            _save(self.folder / name, made)
        return name

    def key(self, place: int) -> str:
        """The photo's key."""
        return str(self.subject.cache.table["key"][int(self.subject.rows[place])])


def _save(path: Path, rgb: np.ndarray) -> None:
    scale = min(1.0, LONGEST_PX / max(rgb.shape[:2]))
    if scale < 1:
        size = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])
    assert done
    path.write_bytes(data.tobytes())


# --- figures


def _bar(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A view's line: its accuracy as a bar of 100, the interval as a whisker, chance as a tick."""
    accuracy = entry["accuracy"]
    return {
        **entry,
        **_span(accuracy, 0.0, 1.0),
        "tick": round(100 * entry["chance"], 2),
        "text": percent(accuracy),
        "f1": percent(entry["macro_f1"]),
    }


def _gap(gap: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The BG-gap on an axis that holds its interval and 0."""
    if gap is None:
        return None
    ends = [abs(v) for v in (gap["value"], gap["low"], gap["high"]) if v is not None]
    reach = min(1.0, np.ceil(10 * max(0.1, *ends) * 1.05) / 10)
    return {**gap, **_span(gap, -reach, reach), "reach": round(100 * reach), "text": points(gap)}


def _part(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": PARTS[entry["part"]],
        **_span(entry["share"], 0.0, 1.0),
        "tick": round(100 * entry["area"], 2),
        "text": percent(entry["share"]),
        "times": entry["share"]["value"] / entry["area"] if entry["area"] > 1e-4 else None,
        "area": share(entry["area"]),
    }


def _span(interval: Mapping[str, float | None], start: float, end: float) -> dict[str, float | None]:
    """Value and ends of an interval on a scale of 0 to 100 from `start` to `end`."""

    def place(value: float | None) -> float | None:
        return None if value is None else round(100 * min(max((value - start) / (end - start), 0), 1), 2)

    return {name: place(interval[name]) for name in ("value", "low", "high")} | {
        "at": place(interval["value"])
    }


def _groups(pictures: _Pictures, groups: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if groups is None:
        return None
    of = np.array(groups["of"])
    rng = np.random.default_rng(0)
    clusters = []
    for number in range(groups["clusters"]):
        members = np.flatnonzero(of == number)
        chosen = np.sort(rng.permutation(members)[:OF_CLUSTER])
        shown = [{"src": pictures.of("background", int(p)), "key": pictures.key(int(p))} for p in chosen]
        clusters.append({"number": number + 1, "photos": len(members), "pictures": shown})
    rows = [
        {**row, **_span(row["accuracy"], 0.0, 1.0), "text": percent(row["accuracy"])}
        for row in groups["groups"]
    ]
    large = [row for row in rows if row["photos"] >= groups["smallest"]]
    return {
        **groups,
        "clusters": clusters,
        "rows": large[:GROUPS],
        "more": max(0, len(large) - GROUPS),
        "small": len(rows) - len(large),
    }


# --- examples


def _spread(subject: Subject, answers: Answers) -> list[int]:
    """Places of a few photos, of as many classes and persons as there are, all of them in every view."""
    whole = np.all([~np.isnan(each[:, 0]) for each in answers.values()], axis=0)
    order = np.random.default_rng(1).permutation(np.flatnonzero(whole))
    chosen: list[int] = []
    for fresh in (True, False):
        for place in order:
            known = {int(subject.labels[p]) for p in chosen}, {int(subject.persons[p]) for p in chosen}
            new = int(subject.labels[place]) not in known[0] and int(subject.persons[place]) not in known[1]
            if len(chosen) < EXAMPLES and place not in chosen and (new or not fresh):
                chosen.append(int(place))
    return chosen


def _example(pictures: _Pictures, answers: Answers, place: int, views: Sequence[str]) -> dict[str, Any]:
    """One photo in every view, with what the network said."""
    return {
        "key": pictures.key(place),
        "class": pictures.subject.run.classes[pictures.subject.labels[place]],
        "views": [_said(pictures, answers, view, place) for view in views],
    }


def _said(pictures: _Pictures, answers: Answers, view: str, place: int) -> dict[str, Any]:
    probabilities = answers[view][place]
    best = int(probabilities.argmax())
    return {
        "view": view,
        "src": pictures.of(view, place),
        "said": pictures.subject.run.classes[best],
        "sure": share(float(probabilities[best])),
        "right": best == int(pictures.subject.labels[place]),
        "true": share(float(probabilities[pictures.subject.labels[place]])),
    }


def _cases(pictures: _Pictures, answers: Answers) -> list[dict[str, Any]]:
    """Photos that are told rightly as the run is trained, and lose most on another ground.

    Without alpha: photos told wrongly with the greatest confidence.
    """
    subject = pictures.subject
    rows = np.arange(len(subject.rows))
    trained = answers.get(subject.view, answers["full"])
    before = trained[rows, subject.labels]
    right = trained.argmax(1) == subject.labels
    if "mixed-rand" not in answers:
        order = [int(p) for p in np.argsort(before) if not right[p]][:WORST]
        return [_case(pictures, answers, place, "") for place in order]
    found: list[tuple[float, int, str]] = []
    for view in ("mixed-rand", "mixed-next"):
        if view not in answers:
            continue
        after = answers[view][rows, subject.labels]
        wrong = right & ~np.isnan(after) & (answers[view].argmax(1) != subject.labels)
        found += [(float(before[p] - after[p]), int(p), view) for p in np.flatnonzero(wrong)]
    found.sort(reverse=True)
    # one case a person: photos of one person look alike, and so do their losses
    of_person = {int(subject.persons[place]): (place, view) for _, place, view in reversed(found)}
    best = [
        (place, view) for _, place, view in found if of_person[int(subject.persons[place])] == (place, view)
    ]
    return [_case(pictures, answers, place, view) for place, view in best[:WORST]]


def _case(pictures: _Pictures, answers: Answers, place: int, view: str) -> dict[str, Any]:
    subject = pictures.subject
    case = {
        "key": pictures.key(place),
        "class": subject.run.classes[subject.labels[place]],
        "crop": pictures.of("full", place),
        "before": _said(pictures, answers, subject.view if subject.view in answers else "full", place),
        "after": None,
    }
    if view in MIXED:
        other = int(partners(subject, view, seed=pictures.seed)[place])
        lent = subject.run.classes[subject.labels[other]]
        case["after"] = {**_said(pictures, answers, view, place), "lent": lent, "from": pictures.key(other)}
    return case
