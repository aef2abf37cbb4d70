"""The figures of a shortcut report: scores by view, BG-gap, groups by background, gradient shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from classify import bootstrap, clusters, verdict
from classify.answers import AT_ONCE, Answers
from classify.mixtures import MIXED, SHOWN, WITHOUT_ALPHA
from classify.subject import Subject

FLAGS = ("bg_gap", "background", "clothes", "silhouette", "box")
"""What is tested. Each is flagged at 95 % for all together (Bonferroni): by an interval of 99 %."""

LEVEL = 1 - 0.05 / len(FLAGS)

SMALLEST_GROUP = 10
"""Photos that a group of label and background must have to be called the worst."""


def measure(
    subject: Subject, answers: Answers, energies: Mapping[str, np.ndarray], *, seed: int, rounds: int
) -> dict[str, Any]:
    """All that the report says, as plain JSON values."""
    how = {"rounds": rounds, "seed": seed}
    classes = subject.run.classes
    # a mixed view of which no photo has a partner has no score: see not_computed
    scored = [score(subject, view, of, how) for view, of in answers.items() if not np.isnan(of).all()]
    result: dict[str, Any] = {
        "run": str(subject.run.path),
        "cache": str(subject.cache.path),
        "photos": len(subject.rows),
        "persons": int(subject.persons.max()) + 1,
        "rows": subject.told,
        "held_out": subject.held_out,
        "classes": list(classes),
        "most_frequent": float(np.bincount(subject.labels).max() / len(subject.labels)),
        "trained_view": subject.view,
        "fill": subject.fill,
        "alpha": subject.cache.has_alpha,
        "seed": seed,
        "resamples": rounds,
        "views": scored,
        "bg_gap": bg_gap(subject, answers, how),
        "groups": groups(subject, answers, how),
        "gradient": gradient_shares(subject, energies, how),
        "not_computed": not_computed(subject, answers),
    }
    result["findings"] = [asdict(finding) for finding in verdict.findings(result)]
    return result


def score(subject: Subject, view: str, probabilities: np.ndarray, how: Mapping[str, int]) -> dict[str, Any]:
    """One view's scores, with intervals; `flagged`: the view tells the class, beyond chance."""
    given = ~np.isnan(probabilities[:, 0])
    columns = bootstrap.of_answers(
        subject.labels[given], probabilities[given].argmax(1), len(subject.run.classes)
    )
    persons = subject.persons[given]

    def interval(statistic: bootstrap.Statistic, level: float = 0.95) -> bootstrap.Interval | None:
        return bootstrap.bootstrap(columns, persons, statistic, level=level, **how)

    flag = interval(bootstrap.beyond_chance, LEVEL)
    return {
        "view": view,
        "what": SHOWN[view],
        "trained": view == subject.view,
        "photos": int(given.sum()),
        "accuracy": _plain(interval(bootstrap.accuracy)),
        "macro_f1": _plain(interval(bootstrap.macro_f1)),
        "chance": _number(bootstrap.chance(columns.sum(0, keepdims=True))[0]),
        "beyond_chance": _plain(interval(bootstrap.beyond_chance)),
        "flagged": bool(flag and flag.above_zero),
    }


def bg_gap(subject: Subject, answers: Answers, how: Mapping[str, int]) -> dict[str, Any] | None:
    """accuracy(mixed-same) - accuracy(mixed-rand), of the photos that have both (Xiao et al., 2021)."""
    if "mixed-same" not in answers:
        return None
    both = ~np.isnan(answers["mixed-same"][:, 0]) & ~np.isnan(answers["mixed-rand"][:, 0])
    same, rand = (
        answers[view][both].argmax(1) == subject.labels[both] for view in ("mixed-same", "mixed-rand")
    )
    columns, persons = bootstrap.of_difference(same, rand), subject.persons[both]
    shown = bootstrap.bootstrap(columns, persons, bootstrap.difference, **how)
    flag = bootstrap.bootstrap(columns, persons, bootstrap.difference, level=LEVEL, **how)
    if shown is None:
        return None
    return {**asdict(shown), "photos": int(both.sum()), "flagged": bool(flag and flag.above_zero)}


def groups(subject: Subject, answers: Answers, how: Mapping[str, int]) -> dict[str, Any] | None:
    """Accuracy by label and background cluster, worst first, on what the run is trained to see."""
    if not subject.cache.has_alpha:
        return None
    found = clusters.cluster(ground_features(subject), seed=how["seed"])
    hits = answers[subject.view].argmax(1) == subject.labels
    cells = [
        (label, number)
        for label in range(len(subject.run.classes))
        for number in range(found.count)
        if ((subject.labels == label) & (found.of == number)).any()
    ]
    rows = [_group(subject, found, hits, cell, len(cells), how) for cell in cells]
    rows.sort(key=lambda row: (row["photos"] < SMALLEST_GROUP, row["accuracy"]["value"], row["class"]))
    large = [row for row in rows if row["photos"] >= SMALLEST_GROUP]
    return {
        "clusters": found.count if found.count > 1 else 0,
        "silhouette": round(found.silhouette, 4),
        "sizes": np.bincount(found.of, minlength=found.count).tolist(),
        "smallest": SMALLEST_GROUP,
        "worst": large[0] if large and found.count > 1 else None,
        "groups": rows,
        "of": found.of.tolist(),
    }


def _group(
    subject: Subject,
    found: clusters.Clusters,
    hits: np.ndarray,
    cell: tuple[int, int],
    tests: int,
    how: Mapping[str, int],
) -> dict[str, Any]:
    """One group's accuracy, and how much it lies below that of the rest of its class."""
    label, number = cell
    own = subject.labels == label
    here, rest = own & (found.of == number), own & (found.of != number)
    inside = bootstrap.bootstrap(bootstrap.of_hits(hits[here]), subject.persons[here], bootstrap.share, **how)
    columns = np.stack([hits & rest, rest, hits & here, here], axis=1)[own].astype(float)
    level = 1 - 0.05 / tests
    below = bootstrap.bootstrap(columns, subject.persons[own], bootstrap.gap, level=level, **how)
    return {
        "class": subject.run.classes[label],
        "cluster": number + 1,
        "photos": int(here.sum()),
        "persons": len(np.unique(subject.persons[here])),
        "accuracy": _plain(inside),
        "below_rest": None if below is None else round(below.value, 6),
        "flagged": bool(below and below.above_zero and here.sum() >= SMALLEST_GROUP),
    }


def ground_features(subject: Subject) -> np.ndarray:
    """`clusters.features` of all photos."""
    made = []
    for at in range(0, len(subject.rows), AT_ONCE):
        crops = subject.crops(slice(at, at + AT_ONCE))
        assert crops.alpha is not None
        made.append(clusters.features(crops.rgb, crops.alpha))
    return np.concatenate(made)


def gradient_shares(
    subject: Subject, energies: Mapping[str, np.ndarray], how: Mapping[str, int]
) -> dict[str, Any]:
    """Each part's mean share of the gradient's energy, and of the area."""
    persons = subject.persons[energies["places"]]
    parts = []
    for name in (name for name in energies if name != "places" and not name.startswith("area.")):
        given = ~np.isnan(energies[name])
        share = bootstrap.bootstrap(
            bootstrap.of_hits(energies[name][given]), persons[given], bootstrap.share, **how
        )
        if share is not None:
            area = _number(energies[f"area.{name}"].mean())
            parts.append({"part": name, "share": _plain(share), "area": area})
    return {"photos": len(persons), "view": subject.view, "parts": parts}


def not_computed(subject: Subject, answers: Answers) -> list[dict[str, str]]:
    """What is missing from the report, and why."""
    if not subject.cache.has_alpha:
        missing = [view for view in SHOWN if view not in WITHOUT_ALPHA]
        why = (
            f"this cache (method {subject.cache.recipe.identity['method']}) has no alpha, so figure and "
            "ground can't be told apart; build one of the same photos with --method seg and name it "
            "with --cache"
        )
        whats = [*missing, "BG-gap", "worst group over backgrounds", "gradient on ground and clothes"]
        return [{"what": what, "why": why} for what in whats]
    out = []
    for view in MIXED:
        lacking = int(np.isnan(answers[view][:, 0]).sum())
        if lacking:
            of = "its class" if view == "mixed-same" else "the class asked for"
            why = f"no photo of another person of {of} to take a ground from"
            out.append({"what": f"{view} of {lacking} photos", "why": why})
    return out


def _plain(interval: bootstrap.Interval | None) -> dict[str, float | None] | None:
    if interval is None:
        return None
    return {name: None if value is None else _number(value) for name, value in asdict(interval).items()}


def _number(value: float) -> float:
    return round(float(value), 6)
