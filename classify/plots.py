"""Pictures of a run: its curves, and who was taken for whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from classify.run import replacing

SHOWN = 30
"""Above so many classes a confusion matrix carries no numbers in its cells."""


def curves(history: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Losses on the left, scores on the right, learning rate below; one point an epoch."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    left, middle, right = figure.subplots(1, 3)
    names = list(dict.fromkeys(name for row in history for name in row))
    _lines(left, history, ["train_loss", *(n for n in names if n == "val_loss")], "loss")
    _lines(middle, history, [n for n in names if n == "accuracy" or n.startswith("macro_f1")], "score")
    _lines(right, history, ["lr"], "learning rate")
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=110)


def confusion(counts: Sequence[Sequence[int]], classes: Sequence[str], path: Path, title: str = "") -> None:
    """Rows: truth, columns: prediction; shade: share of the row, number: photos."""
    matrix = np.asarray(counts)
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    side = max(4.5, 0.42 * len(classes) + 2.5)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    picture = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(picture, ax=axes, shrink=0.8, label="share of the class")
    places = range(len(classes))
    axes.set(
        xticks=places, yticks=places, yticklabels=classes, xlabel="predicted", ylabel="true", title=title
    )
    axes.set_xticklabels(classes, rotation=45, ha="right", rotation_mode="anchor")
    if len(classes) <= SHOWN:
        for row, column in np.argwhere(matrix):
            colour = "white" if share[row, column] > 0.55 else "black"
            text = str(matrix[row, column])
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=110)


def _lines(axes: Any, history: Sequence[Mapping[str, Any]], names: Sequence[str], title: str) -> None:
    for name in names:
        rows = [row for row in history if row.get(name) is not None]
        axes.plot([r["epoch"] for r in rows], [r[name] for r in rows], marker="o", markersize=3, label=name)
    axes.set(title=title, xlabel="epoch")
    axes.grid(alpha=0.3)
    if names:
        axes.legend(frameon=False, fontsize=8)
