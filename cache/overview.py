"""The overview page: what one looks at before training, as a page of figures and pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cache import format
from cache.format import Cache
from cache.likeness import alike, fingerprints
from cache.pages import charts, kit, pictures
from cache.pages.summary import classes_of
from cache.records import DETECTED, RUNGS, STATUSES, Record, label_names
from configs import terminal
from configs.errors import UserError

AT_ONCE = 256
"""Crops held in memory at a time."""
MANY_NUMBERS = 12
"""Numbers with more distinct values than this are drawn as a histogram."""
MOST_CLASSES = 40
"""A label with more values than this tells photos apart, not classes: it gets no mean crops."""
MOST_GROUPS = 40
"""Groups of near-identical photos that are shown; all are counted."""
MOST_OF_A_GROUP = 6


def write(path: Path, out: Path) -> Path:
    """Write the overview of a cache into a folder of its own.

    Returns:
        The page to open.

    Raises:
        CacheError: there is no cache, or it is damaged.
        UserError: `out` holds something else, or lies in the cache.
    """
    cache = format.open(path)
    if out.resolve().is_relative_to(cache.path.resolve()):
        raise UserError(f"{out} lies in {path}, a cache: name a folder outside of it")
    records = cache.records()
    names = label_names(cache.table)
    classes = {name: classes_of([record.labels.get(name) for record in records]) for name in names}
    few = {name: found for name, found in classes.items() if len(found[0]) <= MOST_CLASSES}
    rows = cache.usable()
    with kit.fresh_folder(out, kind="overview") as folder:
        brightness, sums = _look(cache, rows, few)
        groups = _near_identical(cache, rows)
        kit.write_page(
            folder,
            title=f"Overview: {cache.path.resolve().name}",
            template="overview.html",
            styles=("charts.css",),
            context={
                "labels": [_label(name, records) for name in names],
                "faces": list(_faces(folder, rows, few, sums, brightness)),
                "alike": _shown_groups(folder, cache, records, groups, len(rows)),
                "brightness": charts.histogram(
                    brightness, x="mean brightness of the crop", x_range=(0.0, 1.0)
                ),
                **_figures(cache, records),
                **_sizes(cache, records),
            },
        )
    return out / "index.html"


def _figures(cache: Cache, records: Sequence[Record]) -> dict[str, Any]:
    photos = Counter(record.group for record in records if record.group is not None and record.face == 0)
    status, rung = (Counter(getattr(record, name) for record in records) for name in ("status", "rung"))
    return {
        "records": len(records),
        "photos": len({record.key for record in records}),
        "persons": len(photos),
        "alone": sum(record.group is None for record in records),
        "size": f"{cache.size[1]} x {cache.size[0]} px",
        "method": str(cache.recipe.identity["method"]),
        "statuses": [(name, status[name]) for name in STATUSES if status[name]],
        "rungs": [(name, rung[name]) for name in RUNGS if rung[name]],
        "meanings": {**STATUSES, **RUNGS},
        "detected": sum(rung[name] for name in DETECTED),
        "looked": sum(rung.values()) - rung["whole"] - rung[""],
        "per_person": charts.histogram(
            np.array(list(photos.values())), x="photos of a person", y="persons", whole=True
        )
        if photos
        else None,
    }


def _label(name: str, records: Sequence[Record]) -> dict[str, Any]:
    """A label's distribution: counts of its values, or a histogram of numbers."""
    values = [record.labels.get(name) for record in records]
    known = [value for value in values if value is not None]
    numbers = bool(known) and all(isinstance(value, int | float) for value in known)
    shown: dict[str, Any] = {"name": name, "known": len(known), "unknown": len(values) - len(known)}
    if numbers and len(set(known)) > MANY_NUMBERS:
        whole = all(float(value).is_integer() for value in known)
        return {**shown, "chart": charts.histogram(np.array(known, float), x=name, whole=whole)}
    counts = Counter(known)
    order = sorted(counts.items()) if numbers else sorted(counts.items(), key=lambda p: (-p[1], str(p[0])))
    return {**shown, "chart": None, "counts": [(str(value), count) for value, count in order]}


def _sizes(cache: Cache, records: Sequence[Record]) -> dict[str, Any]:
    """How large the photos are, and how many of their px lie under one px of the crop."""
    sides = np.array([max(record.width, record.height) for record in records if record.width], float)
    scales = np.array([record.crop[3] / cache.size[0] for record in records if record.crop], float)
    common = Counter(f"{record.width} x {record.height}" for record in records if record.width)
    return {
        "sides": charts.histogram(sides, x="longer side of the photo, px", whole=True),
        "scales": _powers(charts.histogram(np.log2(scales), x="px of the photo for each px of the crop")),
        "common": common.most_common(8),
        "sized": len(sides),
        "enlarged": int((scales < 1).sum()),
        "much_enlarged": int((scales < 0.5).sum()),
        "cropped": len(scales),
    }


def _powers(chart: dict[str, Any]) -> dict[str, Any]:
    """A chart of base-2 logarithms, the axis named by what they are of: 1/2, 1, 2, 4."""
    whole = [(at, int(text)) for at, text in chart["x_ticks"] if "." not in text]
    return {**chart, "x_ticks": [(at, f"{2**n}" if n >= 0 else f"1/{2**-n}") for at, n in whole]}


def _look(
    cache: Cache, rows: np.ndarray, classes: dict[str, tuple[list[str], np.ndarray]]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """One pass over the crops: brightness 0..1 f64 [rows], and by label the sums of the crops' colours."""
    brightness = np.zeros(len(rows))
    sums = {name: np.zeros((len(texts), *cache.size, 3)) for name, (texts, _) in classes.items()}
    with terminal.bar(len(rows), label="look") as bar:
        for start in range(0, len(rows), AT_ONCE):
            part = rows[start : start + AT_ONCE]
            crops = cache.rgb(part)
            brightness[start : start + len(part)] = crops.mean((1, 2)) @ (0.299, 0.587, 0.114) / 255
            for name, (_, codes) in classes.items():
                for code in np.unique(codes[part]):
                    sums[name][code] += crops[codes[part] == code].sum(0, dtype=np.float32)
            bar.update(len(part))
    return brightness, sums


def _faces(
    folder: Path,
    rows: np.ndarray,
    classes: dict[str, tuple[list[str], np.ndarray]],
    sums: dict[str, np.ndarray],
    brightness: np.ndarray,
) -> Iterator[dict[str, Any]]:
    """By label: of each class its mean crop, how many photos that is of, and how bright they are."""
    for number, (name, (texts, codes)) in enumerate(classes.items()):
        shown = []
        for code, text in enumerate(texts):
            inside = codes[rows] == code
            if not inside.any():
                continue
            file = f"pictures/mean-{number}-{code}.jpg"
            mean = np.rint(sums[name][code] / inside.sum()).astype(np.uint8)
            pictures.strip([mean], folder / file)
            light = float(brightness[inside].mean())
            shown.append({"name": text, "file": file, "photos": int(inside.sum()), "brightness": light})
        yield {"label": name, "classes": shown}


def _near_identical(cache: Cache, rows: np.ndarray) -> list[list[int]]:
    """Groups of rows of the cache whose crops are all but the same."""

    def crops() -> Iterator[np.ndarray]:
        with terminal.bar(len(rows), label="compare") as bar:
            for start in range(0, len(rows), AT_ONCE):
                part = cache.rgb(rows[start : start + AT_ONCE])
                yield from part
                bar.update(len(part))

    return [[int(rows[place]) for place in group] for group in alike(fingerprints(crops()))]


def _shown_groups(
    folder: Path, cache: Cache, records: Sequence[Record], groups: Sequence[Sequence[int]], of: int
) -> dict[str, Any]:
    """What the page says of near-identical photos; those of several persons or labels come first."""
    told: list[dict[str, Any]] = []
    for group in groups:
        persons = {records[row].group for row in group}
        differing = [
            name
            for name in records[group[0]].labels
            if len({records[row].labels.get(name) for row in group}) > 1
        ]
        told.append({"rows": group, "persons": len(persons - {None}) > 1, "labels": differing})
    told.sort(key=lambda one: (not one["labels"], not one["persons"], -len(one["rows"])))
    for number, one in enumerate(told[:MOST_GROUPS]):
        first = one["rows"][:MOST_OF_A_GROUP]
        one["photos"] = []
        for place, crop in enumerate(cache.rgb(first)):
            file = f"pictures/alike-{number}-{place}.jpg"
            pictures.strip([crop], folder / file, tall_px=112)
            one["photos"].append({"file": file, "key": records[first[place]].key})
        one["more"] = len(one["rows"]) - len(first)
    return {
        "groups": told[:MOST_GROUPS],
        "count": len(told),
        "photos": sum(len(group) for group in groups),
        "of": of,
        "labels": sum(bool(one["labels"]) for one in told),
        "persons": sum(one["persons"] for one in told),
    }
