"""Where predictions differ: photos, classes, who agrees with whom, and who is right where that is known."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cache.pages import kit, pictures
from cache.records import label_names
from classify.metrics import scores
from classify.targets import labels_of
from configs import terminal
from configs.errors import UserError

if TYPE_CHECKING:
    from cache.format import Cache

PHOTOS = 1000
"""Photos in a page, at most, the strongest differences first."""
TILES = ("crop", "figure")
"""The pictures of a photo; the second one only where the cache has alpha."""


@dataclass(frozen=True)
class Predictions:
    """One CSV of predictions.

    Attributes:
        name: the file's, as short as tells it from the others.
        rows: by (path, how manieth row of that path): the class, and how probable it is (None: not told).
        probabilities: of the same rows: by class; {} where the file has no such columns.
        classes: the columns of probabilities.
    """

    name: str
    rows: Mapping[tuple[str, int], tuple[str, float | None]]
    probabilities: Mapping[tuple[str, int], np.ndarray]
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Compared:
    """Predictions of the photos that all files predict.

    Attributes:
        files: two or more.
        keys: the photos, in the first file's order.
        classes: every class that was predicted or is true, in the order of the files' columns.
        predicted: i64 [files photos], places in `classes`.
        sure: f64 [files photos], NaN where a file doesn't tell.
        truth: i64 [photos], -1 where it isn't known; None without labels.
        left_out: photos that not all files predict.
    """

    files: tuple[Predictions, ...]
    keys: tuple[tuple[str, int], ...]
    classes: tuple[str, ...]
    predicted: np.ndarray
    sure: np.ndarray
    truth: np.ndarray | None
    left_out: int

    @property
    def differs(self) -> np.ndarray:
        """bool [photos]: not all files say the same."""
        return np.asarray((self.predicted != self.predicted[0]).any(0))


def read(path: Path, name: str) -> Predictions:
    """Read a CSV with the columns `path` and `prediction`; the others are classes' probabilities.

    Rows without a prediction are left out.

    Raises:
        UserError: no such file, another kind of file, no row.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = {"path", "prediction"} - set(reader.fieldnames or ())
            if missing:
                raise UserError(
                    f"{path}: no column {' and '.join(sorted(missing))}; as `classify predict` writes"
                )
            classes = tuple(n for n in reader.fieldnames or () if n not in ("path", "prediction"))
            rows, given = {}, {}
            seen: dict[str, int] = {}
            for row in reader:
                key = (row["path"], seen.get(row["path"], 0))
                seen[row["path"]] = key[1] + 1
                if row["prediction"]:
                    p = _numbers(row, classes)
                    rows[key] = (row["prediction"], float(p.max()) if p is not None else None)
                    if p is not None:
                        given[key] = p
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: can't be read: {error}") from None
    if not rows:
        raise UserError(f"{path}: no prediction in it")
    return Predictions(name, rows, given, classes)


def _numbers(row: Mapping[str, str], classes: Sequence[str]) -> np.ndarray | None:
    try:
        values = np.array([float(row[name]) for name in classes], np.float64)
    except (TypeError, ValueError):
        return None
    return values if len(values) and np.isfinite(values).all() else None


def compare(paths: Sequence[Path], cache: Cache | None = None) -> Compared:
    """Bring the predictions of several files together.

    Raises:
        UserError: fewer than two files, or no photo that all of them predict.
    """
    if len(paths) < 2:
        raise UserError("name two or more CSVs of predictions, to see where they differ")
    files = tuple(read(path, name) for path, name in zip(paths, names_of(paths), strict=True))
    shared = [key for key in files[0].rows if all(key in file.rows for file in files[1:])]
    if not shared:
        raise UserError(
            f"{paths[0]} and {paths[1]}: no photo that all files predict; are the paths of one set?"
        )
    told = [name for file in files for name in file.classes]
    used = {file.rows[key][0] for file in files for key in shared}
    classes = tuple(dict.fromkeys([*told, *sorted(used)]))
    place = {name: number for number, name in enumerate(classes)}
    rows = [[file.rows[key] for key in shared] for file in files]
    return Compared(
        files=files,
        keys=tuple(shared),
        classes=classes,
        predicted=np.array([[place[name] for name, _ in of_file] for of_file in rows]),
        sure=np.array([[np.nan if p is None else p for _, p in of_file] for of_file in rows]),
        truth=None if cache is None else truth_of(cache, shared, classes),
        left_out=len(set().union(*(file.rows for file in files))) - len(shared),
    )


def names_of(paths: Sequence[Path]) -> list[str]:
    """The files' names, with as many of their folders as tell them apart."""
    full = [Path(os.path.abspath(path)) for path in paths]  # noqa: PTH100  (a link keeps its name)
    depth = 1
    while len({path.parts[-depth:] for path in full}) < len(set(full)):
        depth += 1
    names = ["/".join((*path.parts[-depth:-1], path.stem)) for path in full]
    return [f"{name} ({number + 1})" if name in names[:number] else name for number, name in enumerate(names)]


def truth_of(cache: Cache, keys: Sequence[tuple[str, int]], classes: Sequence[str]) -> np.ndarray | None:
    """The true class of each photo, i64, -1: unknown; None where no label of the cache tells any."""
    labels = labels_of(cache.table, classes)
    if labels is None:
        return None
    by_key = dict(zip(_cache_keys(cache), labels, strict=True))
    truth = np.array([by_key.get(key, -1) for key in keys], np.int64)
    return truth if (truth >= 0).any() else None


def _cache_keys(cache: Cache) -> Iterator[tuple[str, int]]:
    seen: dict[str, int] = {}
    for key in cache.table["key"].to_pylist():
        yield key, seen.get(key, 0)
        seen[key] = seen.get(key, 0) + 1


# --- figures


def figures(found: Compared) -> dict[str, Any]:
    """What a comparison comes to: plain JSON values.

    Returns:
        `photos`, `left_out`, `agree` (share on which all do), `pairs` (two files, agreement, and which
        of them alone is right, in photos), `files` (name, and where truth is known accuracy,
        macro_f1, alone_right), `average` (scores of the mean probability), `any_right`, and `classes`.
    """
    truth, predicted = found.truth, found.predicted
    known = np.ones(len(found.keys), bool) if truth is None else truth >= 0
    right = None if truth is None else predicted[:, known] == truth[known]
    files = [_of_file(found, number, known, right) for number in range(len(found.files))]
    pairs = []
    for a, b in combinations(range(len(found.files)), 2):
        pair: dict[str, Any] = {"a": found.files[a].name, "b": found.files[b].name}
        pair["agree"] = float((predicted[a] == predicted[b]).mean())
        if right is not None:
            pair["only_a_right"], pair["only_b_right"] = (
                int((right[x] & ~right[y]).sum()) for x, y in ((a, b), (b, a))
            )
        pairs.append(pair)
    answer = {
        "photos": len(found.keys),
        "left_out": found.left_out,
        "agree": float((~found.differs).mean()),
        "files": files,
        "pairs": pairs,
        "classes": by_class(found),
    }
    if right is not None:
        answer |= {"labelled": int(known.sum()), "any_right": float(right.any(0).mean())}
        average = _average(found, known)
        answer |= {"average": average} if average else {}
    return answer


def _of_file(found: Compared, number: int, known: np.ndarray, right: np.ndarray | None) -> dict[str, Any]:
    name = found.files[number].name
    if right is None or found.truth is None:
        return {"name": name}
    chosen = torch.from_numpy(found.predicted[number][known])
    votes = torch.nn.functional.one_hot(chosen, len(found.classes)).float()
    told = scores(votes, torch.from_numpy(found.truth[known]), found.classes)
    others = np.delete(right, number, axis=0).any(0)
    return {
        "name": name,
        "accuracy": told["accuracy"],
        "macro_f1": told["macro_f1"],
        "alone_right": int((right[number] & ~others).sum()),
    }


def _average(found: Compared, known: np.ndarray) -> dict[str, float] | None:
    """Scores of the files' mean probability; None where not all tell those of one set of classes."""
    first = found.files[0].classes
    if any(file.classes != first or len(file.probabilities) < len(file.rows) for file in found.files):
        return None
    assert found.truth is not None
    keys = [key for key, its in zip(found.keys, known, strict=True) if its]
    mean = np.mean([[file.probabilities[key] for key in keys] for file in found.files], axis=0)
    padded = np.pad(mean, ((0, 0), (0, len(found.classes) - len(first))))
    told = scores(torch.from_numpy(padded), torch.from_numpy(found.truth[known]), found.classes)
    return {"accuracy": told["accuracy"], "macro_f1": told["macro_f1"]}


def by_class(found: Compared) -> list[dict[str, Any]]:
    """Of each class: its photos, on how many the files differ, and each file's recall where truth is known.

    Without truth a photo counts for the class that most files say, the first of equals.
    """
    classes = classes_of(found)
    rows = []
    for code in np.unique(classes[classes >= 0]):
        inside = classes == code
        row: dict[str, Any] = {
            "class": found.classes[code],
            "code": int(code),
            "photos": int(inside.sum()),
            "differ": int(found.differs[inside].sum()),
        }
        if found.truth is not None:
            row["recall"] = [
                float((found.predicted[n][inside] == code).mean()) for n in range(len(found.files))
            ]
        rows.append(row)
    return rows


def classes_of(found: Compared) -> np.ndarray:
    """The class that a photo counts for, i64: the true one; without truth what most files say."""
    if found.truth is not None:
        return found.truth
    votes = (found.predicted[:, None] == np.arange(len(found.classes))[:, None]).sum(0)
    return np.asarray(votes.argmax(0))


def as_text(answer: dict[str, Any]) -> str:
    """The figures, to read."""
    lines = [f"{answer['photos']:,} photos; all agree on {answer['agree']:.1%}"]
    if answer["left_out"]:
        lines.append(f"{answer['left_out']:,} photos that not all files predict are left out")
    files = [*answer["files"]]
    if "average" in answer:
        files.append({"name": "(their mean)", **answer["average"], "alone_right": None})
    if "labelled" in answer:
        lines += ["", terminal.table(files), f"at least one is right on {answer['any_right']:.1%}"]
    lines += ["", terminal.table(answer["pairs"])]
    names = [one["name"] for one in answer["files"]]
    classes = [
        {
            **{name: value for name, value in row.items() if name not in ("recall", "code")},
            **{f"recall {name}": value for name, value in zip(names, row.get("recall", ()), strict=False)},
        }
        for row in answer["classes"]
        if row["differ"]
    ]
    return "\n".join([*lines, "", terminal.table(classes)] if classes else lines)


# --- the page


def write(found: Compared, answer: dict[str, Any], out: Path, cache: Cache | None = None) -> Path:
    """Write the page; the path to open."""
    labelled = cache is not None and bool(label_names(cache.table))
    with kit.fresh_folder(out, kind="differences") as folder:
        items = list(_photos(folder, found, cache))
        names = [file.name for file in found.files]
        kit.write_page(
            folder,
            title="Differences: " + (", ".join(names) if len(names) < 4 else f"{len(names)} files"),
            template="differences.html",
            styles=("charts.css", "photos.css"),
            scripts=("photos.js", "differences.js"),
            context={
                "answer": answer, "names": names, "differ": int(found.differs.sum()), "shown": len(items),
                "unmatched": labelled and found.truth is None, "pictures": cache is not None,
            },
            data={
                "meta": [{"classes": found.classes, "names": names, "tiles": TILES}],
                "photos": [items],
            },
        )  # fmt: skip
    return out / "index.html"


def _photos(folder: Path, found: Compared, cache: Cache | None) -> Iterator[dict[str, Any]]:
    classes = classes_of(found)
    strength = np.nan_to_num(found.sure, nan=0.5).min(0)  # where even the least sure file is sure
    order = np.flatnonzero(found.differs)
    order = order[np.argsort(-strength[order], kind="stable")][:PHOTOS]
    places = {} if cache is None else {key: row for row, key in enumerate(_cache_keys(cache))}
    has_pixels = set() if cache is None else set(cache.usable().tolist())
    with terminal.bar(len(order), label="page") as bar:
        for number, at in enumerate(order):
            key, nth = found.keys[at]
            row = places.get((key, nth))
            item: dict[str, Any] = {
                "key": key if not nth else f"{key} ({nth + 1})",
                "class": int(classes[at]),
                "truth": -1 if found.truth is None else int(found.truth[at]),
                "says": found.predicted[:, at].tolist(),
                "sure": [None if np.isnan(p) else round(float(p), 4) for p in found.sure[:, at]],
            }
            if cache is not None and row is not None and row in has_pixels:
                item |= _picture(folder, cache, row, f"pictures/{number:04d}.jpg")
            yield item
            bar.update()


def _picture(folder: Path, cache: Cache, row: int, file: str) -> dict[str, Any]:
    crop = cache.rgb([row])[0]
    tiles = [crop]
    if cache.has_alpha:
        tiles.append(pictures.on_grey(crop, cache.alpha([row])[0]))
    pictures.strip(tiles, folder / file)
    return {"picture": file, "tiles": len(tiles), "ratio": round(crop.shape[1] / crop.shape[0], 3)}
