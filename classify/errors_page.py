"""The errors page of a run: who is taken for whom, with the photos, and how far it can be believed."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch

from cache.loader import batches
from cache.pages import charts, kit, pictures
from classify.cam import cam
from classify.metrics import scores
from classify.predict import fit, show
from classify.run import Run
from classify.targets import group_names
from configs import terminal

if TYPE_CHECKING:
    from classify.evaluate import Evaluated

PHOTOS = 1000
"""Photos in a page, at most: some 20 kB each."""
OF_A_CELL = 6
"""Photos of each cell of the matrix that are there before the worst mistakes of all fill the rest."""
HEATS = 240
"""Of so many photos the heat is computed: a gradient takes as long as three predictions."""
AT_ONCE = 24
GUESSES = 5
BINS = 15
MOST_TO_NAME = 8
"""With more classes than this, or with longer names, the matrix' columns bear numbers."""
NAME_LETTERS = 14

TILES = ("crop", "what the model saw", "what speaks for its answer")


def write(run: Run, done: Evaluated, answer: dict[str, Any], out: Path) -> Path:
    """Write the page into a folder of its own.

    Args:
        answer: the scores as `evaluate` has them.

    Returns:
        The page to open.

    Raises:
        UserError: `out` holds something else.
    """
    chosen = choose(done.probabilities, done.truth)
    predicted = done.probabilities.argmax(1)
    names = run.classes
    with kit.fresh_folder(out, kind="errors") as folder:
        items = list(_photos(folder, done, chosen))
        kit.write_page(
            folder,
            title=f"Errors of {run.path.resolve().name}",
            template="errors.html",
            styles=("charts.css", "photos.css", "errors.css"),
            scripts=("photos.js", "errors.js"),
            context={
                **{name: answer[name] for name in ("cache", "rows", "n", "accuracy", "macro_f1", "ece")},
                "wrong": int((predicted != done.truth).sum()),
                "classes": names,
                "confusion": answer["confusion"],
                "by_class": answer["classes"],
                "numbered": len(names) > MOST_TO_NAME or max(map(len, names)) > NAME_LETTERS,
                "columns": by_column(run, done),
                "curves": curves(run.path / "metrics.csv"),
                **calibration(done.probabilities, done.truth),
            },
            data={"meta": [{"classes": names, "tiles": TILES}], "photos": [items]},
        )
    return out / "index.html"


def choose(probabilities: np.ndarray, truth: np.ndarray, *, most: int = PHOTOS) -> np.ndarray:
    """Which photos to show: some of each cell of the matrix, then the worst mistakes; i64, worst first.

    A mistake is the worse, the more probable the prediction was, and the less the truth.
    """
    predicted, badness = probabilities.argmax(1), _badness(probabilities, truth)
    order = np.argsort(-badness, kind="stable")
    seen: dict[tuple[int, int], int] = {}
    early: list[int] = []
    late: list[int] = []
    for row in order:
        cell = (int(truth[row]), int(predicted[row]))
        seen[cell] = seen.get(cell, 0) + 1
        (early if seen[cell] <= OF_A_CELL else late).append(int(row))
    kept = np.array([*early, *late][:most], np.int64)
    return kept[np.argsort(-badness[kept], kind="stable")]


def _badness(probabilities: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Of each photo how much more probable the best wrong class is than the true one, -1..1."""
    rows = np.arange(len(truth))
    wrong = probabilities.copy()
    wrong[rows, truth] = -1
    return wrong.max(1).clip(0) - probabilities[rows, truth]


def _photos(folder: Path, done: Evaluated, chosen: np.ndarray) -> Iterator[dict[str, Any]]:
    """Write the pictures of the chosen photos; yields what the page knows of each."""
    badness = _badness(done.probabilities, done.truth)
    records = done.cache.records(done.rows[chosen])
    with terminal.bar(len(chosen), label="page") as bar:
        for start in range(0, len(chosen), AT_ONCE):
            part = chosen[start : start + AT_ONCE]
            strips = _tiles(done, done.rows[part], heat=start < HEATS)
            for number, (row, tiles) in enumerate(zip(part, strips, strict=True), start):
                picture = f"pictures/{number:04d}.jpg"
                pictures.strip(tiles, folder / picture)
                p, record = done.probabilities[row], records[number]
                height, width = tiles[0].shape[:2]
                yield {
                    "key": record.key,
                    "picture": picture,
                    "tiles": len(tiles),
                    "ratio": round(width / height, 3),
                    "truth": int(done.truth[row]),
                    "predicted": int(p.argmax()),
                    "sure": _share(p.max()),
                    "true_p": _share(p[done.truth[row]]),
                    "worse": _share(badness[row]),
                    "top": [[int(code), _share(p[code])] for code in np.argsort(-p)[:GUESSES]],
                    "told": _told(record),
                }
            bar.update(len(part))


def _told(record: Any) -> str:
    parts = [f"{name} {value}" for name, value in record.labels.items() if value is not None]
    parts += [f"person {record.group}"] if record.group is not None else []
    parts += [f"{record.width} x {record.height} px", record.status]
    parts += [record.reason] if record.reason else []
    return " · ".join(parts)


def _share(value: float) -> float:
    return round(float(value), 4)


def _tiles(done: Evaluated, rows: np.ndarray, *, heat: bool) -> Iterator[list[np.ndarray]]:
    """Of each row its crop, what the model is shown of it, and where its answer comes from."""
    predictor = done.predictor
    rgb = done.cache.rgb(rows)
    alpha = done.cache.alpha(rows) if done.cache.has_alpha else None
    pixels = fit(show(rgb, alpha, predictor.view, predictor.fill), predictor.model.size)
    feed = batches(
        pixels, torch.zeros(len(rows), 1), torch.arange(len(rows)), batch_size=len(rows), view=predictor.view,
        fill=predictor.fill, mean=(0, 0, 0), std=(1, 1, 1), seed=0, epoch=0, device=predictor.device,
        keep_alpha=False,
    )  # fmt: skip
    images = next(iter(feed)).images
    seen = (images.permute(0, 2, 3, 1).cpu().numpy() * 255).round().clip(0, 255).astype(np.uint8)
    if not heat:
        for crop, shown in zip(rgb, seen, strict=True):
            yield [crop, shown]
        return
    mean, std = (
        torch.tensor(each, device=images.device).view(3, 1, 1)
        for each in (predictor.model.mean, predictor.model.std)
    )
    maps = cam(
        predictor.model.network, (images - mean) / std, [len(names) for names in predictor.heads]
    ).numpy()
    for crop, shown, found in zip(rgb, seen, maps, strict=True):
        yield [crop, shown, heated(shown, found)]


def heated(image: np.ndarray, amount: np.ndarray) -> np.ndarray:
    """An image u8 [h w 3] in grey, under a map f32 [h w] of 0 or more, smoothed and in colours."""
    amount = cv2.GaussianBlur(amount.astype(np.float32), (0, 0), max(1.0, image.shape[0] / 40))
    amount -= amount.min()
    amount = (amount / max(float(np.quantile(amount, 0.995)), 1e-12)).clip(0, 1)
    grey = np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    colours = cv2.applyColorMap((amount * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    share = 0.75 * amount[..., None]
    return np.asarray(np.rint(grey * (1 - share) + colours * share).astype(np.uint8))


def by_column(run: Run, done: Evaluated) -> list[dict[str, Any]]:
    """The scores of each column by itself, where several make the classes: of the others' sum."""
    settings, targets = run.settings.targets, done.targets
    if len(targets.columns) < 2:
        return []
    grid = torch.from_numpy(done.probabilities).reshape(-1, *targets.sizes)
    codes = np.unravel_index(done.truth, targets.sizes)
    found = []
    for axis, name in enumerate(targets.columns):
        others = [other + 1 for other in range(len(targets.columns)) if other != axis]
        classes = group_names(settings.borders[name]) if name in settings.borders else settings.classes[name]
        truth = torch.from_numpy(np.asarray(codes[axis], np.int64))
        found.append({"name": name, **scores(grid.sum(others), truth, classes)})
    return found


def calibration(probabilities: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """The curve of how often a prediction is right, by its probability, and how many there are of each."""
    sure, right = probabilities.max(1), probabilities.argmax(1) == truth
    bins = np.minimum((sure * BINS).astype(int), BINS - 1)
    points = [
        (float(sure[bins == number].mean()), float(right[bins == number].mean()))
        for number in np.unique(bins)
    ]
    whole = (0.0, 1.0)
    return {
        "calibration": charts.lines(
            {"right": points}, x="probability of the prediction", y="share that is right", x_range=whole,
            y_range=whole, diagonal=True,
        ),
        "sureness": charts.histogram(
            sure, x="probability of the prediction", bins=BINS, x_range=whole
        ),
    }  # fmt: skip


CURVES = {
    "Loss": ("train_loss", "val_loss"),
    "Score": ("macro_f1", "accuracy"),
    "Learning rate": ("lr",),
}


def curves(path: Path) -> list[dict[str, Any]]:
    """Charts of a run's metrics by epoch; the scores of its heads too."""
    history = read_metrics(path)
    names = list(dict.fromkeys(name for row in history for name in row))
    found = []
    for title, wanted in CURVES.items():
        shown = [n for n in names if n in wanted or (title == "Score" and n.startswith("macro_f1."))]
        series = {n: [(row["epoch"], row[n]) for row in history if n in row] for n in shown}
        if series:
            found.append({"title": title, "chart": charts.lines(series, x="epoch", y=title.lower())})
    return found


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The rows of a metrics.csv, without what is empty or not finite; none where there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = [{name: _number(text) for name, text in row.items()} for row in csv.DictReader(file)]
    known = [{name: value for name, value in row.items() if value is not None} for row in rows]
    return [row for row in known if "epoch" in row]


def _number(text: str | Sequence[str] | None) -> float | None:
    try:
        value = float(text)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None
