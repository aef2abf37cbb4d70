"""Scores against counts by hand and against scikit-learn's definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from classify.metrics import better, by_class, scores


def certain(predicted: list[int], classes: int) -> torch.Tensor:
    """Probabilities that leave no doubt."""
    return torch.nn.functional.one_hot(torch.tensor(predicted), classes).float()


def test_by_hand() -> None:
    told = scores(certain([0, 0, 1, 1, 1], 3), torch.tensor([0, 1, 1, 1, 0]), ["a", "b", "c"])
    assert told["confusion"] == [[1, 1, 0], [1, 2, 0], [0, 0, 0]]
    assert told["accuracy"] == pytest.approx(3 / 5)
    # a: precision 1/2, recall 1/2; b: precision 2/3, recall 2/3; c is in neither, and doesn't count
    assert told["macro_f1"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert [row["f1"] for row in told["classes"]] == pytest.approx([1 / 2, 2 / 3, 0])
    assert [row["support"] for row in told["classes"]] == [2, 3, 0]
    assert [row["predicted"] for row in told["classes"]] == [2, 3, 0]


def test_a_class_that_is_predicted_but_absent_counts() -> None:
    told = scores(certain([0, 2], 3), torch.tensor([0, 0]), ["a", "b", "c"])
    assert told["macro_f1"] == pytest.approx((2 / 3 + 0) / 2)


def test_calibration_error_by_hand() -> None:
    # ten predictions at 0.8, of which six are right: off by 0.2
    probabilities = torch.tensor([[0.8, 0.2]] * 10)
    labels = torch.tensor([0] * 6 + [1] * 4)
    assert scores(probabilities, labels, ["a", "b"])["ece"] == pytest.approx(0.2, abs=1e-6)


def test_nothing_and_a_single_class() -> None:
    none = scores(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64), ["a", "b"])
    assert (none["n"], none["accuracy"], none["macro_f1"]) == (0, 0.0, 0.0)
    assert len(none["classes"]) == 2
    one = scores(torch.ones(3, 1), torch.zeros(3, dtype=torch.int64), ["a"])
    assert (one["accuracy"], one["macro_f1"], one["confusion"]) == (1.0, 1.0, [[3]])


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
def test_the_table_and_the_macro_score_agree(pairs: list[tuple[int, int]]) -> None:
    truth, predicted = (list(column) for column in zip(*pairs, strict=True))
    told = scores(certain(predicted, 4), torch.tensor(truth), list("abcd"))
    counted = [row["f1"] for row in told["classes"] if row["support"] or row["predicted"]]
    assert told["macro_f1"] == pytest.approx(float(np.mean(counted)), abs=1e-6)
    assert told["accuracy"] == pytest.approx(np.mean([a == b for a, b in pairs]))
    assert np.array(told["confusion"]).sum() == len(pairs)
    assert by_class(torch.tensor(told["confusion"]), list("abcd")) == told["classes"]


def test_better() -> None:
    assert better("macro_f1", 0.5, None)
    assert better("macro_f1", 0.5, 0.4)
    assert not better("macro_f1", 0.5, 0.5)
    assert not better("macro_f1", 0.5, 0.45, by=0.1)
    assert better("val_loss", 0.4, 0.5)
    assert not better("val_loss", 0.5, 0.4)
    assert better("ece", 0.1, 0.2)
    assert not better("macro_f1", float("nan"), None)
    assert better("macro_f1.mask", 0.6, 0.5)
