"""How good probabilities are: accuracy, macro-F1, scores by class, confusion, calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_confusion_matrix,
    multiclass_f1_score,
)

LOWER_IS_BETTER = ("train_loss", "val_loss", "ece")
"""Metrics of which less is better; of every other one, more is."""


def scores(probabilities: Tensor, labels: Tensor, classes: Sequence[str]) -> dict[str, Any]:
    """All scores of a set of predictions.

    Args:
        probabilities: f32 [n c], rows sum to 1.
        labels: i64 [n], 0..c-1.
        classes: the names of the c classes.

    Returns:
        `n`, `accuracy`, `macro_f1`, `ece` (expected calibration error over 15 equal bins of
        confidence, Guo et al. 2017), `classes` (by class: name, precision, recall, f1, support,
        predicted), `confusion` (rows: truth, columns: prediction; counts). The macro-F1 is the mean over
        the classes that occur in the truth or in the predictions: a class that neither has
        counts neither for nor against. All are 0 where n is 0.
    """
    c = len(classes)
    assert probabilities.shape == (len(labels), c), (probabilities.shape, len(labels), c)
    if len(labels) == 0:
        confusion = torch.zeros(c, c, dtype=torch.int64)
        return {"n": 0, **_zero(), "classes": by_class(confusion, classes), "confusion": confusion.tolist()}
    if c == 1:  # torchmetrics wants two classes at least
        probabilities, width = torch.nn.functional.pad(probabilities, (0, 1)), 2
    else:
        width = c
    predicted = probabilities.argmax(1)
    confusion = multiclass_confusion_matrix(predicted, labels, width)[:c, :c]
    return {
        "n": len(labels),
        "accuracy": float(multiclass_accuracy(predicted, labels, width, average="micro")),
        "macro_f1": float(multiclass_f1_score(predicted, labels, width, average="macro")),
        "ece": float(multiclass_calibration_error(probabilities.float(), labels, width, n_bins=15)),
        "classes": by_class(confusion, classes),
        "confusion": confusion.tolist(),
    }


def by_class(confusion: Tensor, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Precision, recall, F1, support (rows of that class), and how often it was predicted; one row a class.

    A ratio of nothing (no such row, never predicted) is 0, as torchmetrics has it.
    """
    hit = confusion.diagonal().double()
    support, predicted = confusion.sum(1).double(), confusion.sum(0).double()
    precision, recall = hit / predicted.clamp(min=1), hit / support.clamp(min=1)
    f1 = 2 * hit / (support + predicted).clamp(min=1)
    return [
        {
            "class": name,
            "precision": float(precision[i]),
            "recall": float(recall[i]),
            "f1": float(f1[i]),
            "support": int(support[i]),
            "predicted": int(predicted[i]),
        }
        for i, name in enumerate(classes)
    ]


def better(metric: str, new: float, old: float | None, *, by: float = 0.0) -> bool:
    """Whether `new` beats `old` in this metric by more than `by`; anything beats None, NaN beats nothing."""
    if new != new:
        return False
    if old is None:
        return True
    return new < old - by if metric in LOWER_IS_BETTER else new > old + by


def _zero() -> dict[str, float]:
    return {"accuracy": 0.0, "macro_f1": 0.0, "ece": 0.0}
