from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from classify.losses import LOSSES, class_weights, cross_entropy, focal, mixed, soft_f1

Loss = Callable[..., Tensor]

PROBABILITIES = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.6, 0.3]], dtype=torch.float64)
LOGITS = PROBABILITIES.log() + torch.tensor([[3.0], [-2.0]])
TARGETS = torch.tensor([[1.0, 0, 0], [0, 0, 1]], dtype=torch.float64)
WEIGHTS = torch.tensor([1.0, 2, 3], dtype=torch.float64)

# -ln of the true class's probability: 0.693147 (0.5) and 1.203973 (0.3)
BY_HAND: list[tuple[str, dict[str, Any], Tensor | None, float]] = [
    ("cross_entropy", {}, None, (0.693147 + 1.203973) / 2),
    ("cross_entropy", {}, WEIGHTS, (1 * 0.693147 + 3 * 1.203973) / 4),
    # sums of all -ln p: 3.465736 and 4.017384; a third of the smoothing goes to each class
    ("cross_entropy", {"smoothing": 0.1}, None, 0.9 * 0.948560 + 0.1 / 3 * (3.465736 + 4.017384) / 2),
    ("focal", {"gamma": 2.0}, None, (0.5**2 * 0.693147 + 0.7**2 * 1.203973) / 2),
    ("focal", {"gamma": 0.5}, WEIGHTS, (0.5**0.5 * 0.693147 + 3 * 0.7**0.5 * 1.203973) / 4),
    ("asymmetric", {"smoothing": 0.0}, None, (0.5 * 0.693147 + 0.7 * 1.203973) / 2),
    ("asymmetric", {"gamma_positive": 2.0, "smoothing": 0.0}, None, (0.25 * 0.693147 + 0.49 * 1.203973) / 2),
    # class 0: 2 * 0.5 / (0.6 + 1); class 2: 2 * 0.3 / (0.55 + 1); class 1 isn't in the batch
    ("soft_f1", {}, None, 1 - (1 / 1.6 + 0.6 / 1.55) / 2),
    ("soft_f1", {}, WEIGHTS, 1 - (1 / 1.6 + 3 * 0.6 / 1.55) / 4),
    ("mixed", {}, None, 0.15 * 0.948560 + 0.85 * 0.4939516),
    ("mixed", {"f1_share": 0.25}, None, 0.75 * 0.948560 + 0.25 * 0.4939516),
]  # fmt: skip


@pytest.mark.parametrize(("name", "settings", "weights", "value"), BY_HAND)
def test_value_by_hand(name: str, settings: dict[str, Any], weights: Tensor | None, value: float) -> None:
    assert LOSSES[name](LOGITS, TARGETS, weights, **settings).item() == pytest.approx(value, abs=2e-6)


def test_every_loss_has_a_value_by_hand() -> None:
    assert {name for name, *_ in BY_HAND} == set(LOSSES)


def drawn(rows: int = 5, classes: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits and soft targets, the last row's class unknown."""
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, classes, generator=rng, dtype=torch.float64) * 2
    targets = torch.rand(rows, classes, generator=rng, dtype=torch.float64)
    targets = targets / targets.sum(1, keepdim=True)
    targets[-1] = 0
    return logits, targets


SMOOTHED = [(n, s) for n in LOSSES for s in (0.0, 0.2) if s == 0 or n != "soft_f1"]


@pytest.mark.parametrize(("name", "smoothing"), SMOOTHED)
@pytest.mark.parametrize("weighted", [False, True])
def test_gradients(name: str, smoothing: float, weighted: bool) -> None:
    logits, targets = drawn()
    weights = torch.tensor([0.5, 1, 2, 0], dtype=torch.float64) if weighted else None
    settings = {} if name == "soft_f1" else {"smoothing": smoothing}
    loss = partial(LOSSES[name], targets=targets, class_weights=weights, **settings)
    assert torch.autograd.gradcheck(loss, logits.requires_grad_())


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("weights", [None, torch.tensor([0.2, 1, 3, 0.7], dtype=torch.float64)])
def test_cross_entropy_agrees_with_torch_on_plain_labels(smoothing: float, weights: Tensor | None) -> None:
    logits, _ = drawn(rows=8)
    labels = torch.tensor([0, 1, 2, 3, 3, 0, -1, -1])
    targets = F.one_hot(labels.clamp_min(0), 4).double() * (labels >= 0)[:, None]
    theirs = F.cross_entropy(logits, labels, weights, ignore_index=-1, label_smoothing=smoothing)
    torch.testing.assert_close(cross_entropy(logits, targets, weights, smoothing=smoothing), theirs)


def test_cross_entropy_agrees_with_torch_on_soft_targets() -> None:
    logits, targets = drawn()
    theirs = F.cross_entropy(logits[:-1], targets[:-1], label_smoothing=0.1)
    torch.testing.assert_close(cross_entropy(logits, targets, smoothing=0.1), theirs)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_asymmetric_agrees_with_timm(smoothing: float) -> None:
    from timm.loss import AsymmetricLossSingleLabel

    logits, _ = drawn(rows=6)
    labels = torch.tensor([0, 1, 2, 3, 3, 0])
    theirs = AsymmetricLossSingleLabel(gamma_pos=2, gamma_neg=3, eps=smoothing)(logits, labels)
    settings = {"gamma_positive": 2.0, "gamma_negative": 3.0, "smoothing": smoothing}
    ours = LOSSES["asymmetric"](logits, F.one_hot(labels, 4).double(), **settings)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("name", LOSSES)
def test_a_row_of_unknown_class_counts_for_nothing(name: str) -> None:
    logits, targets = drawn()
    torch.testing.assert_close(LOSSES[name](logits, targets), LOSSES[name](logits[:-1], targets[:-1]))
    nothing = LOSSES[name](logits.requires_grad_(), torch.zeros_like(targets))
    assert nothing.item() == 0
    (gradient,) = torch.autograd.grad(nothing, logits)
    assert (gradient == 0).all()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sure_logits_stay_finite(name: str, dtype: torch.dtype) -> None:
    logits = torch.tensor([[300.0, -300, 0], [-300, 300, 0]], dtype=dtype, requires_grad=True)
    targets = torch.tensor([[1.0, 0, 0], [1, 0, 0]], dtype=dtype)
    loss = LOSSES[name](logits, targets)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_the_right_answer_costs_least(name: str) -> None:
    targets = torch.eye(3)
    right, unsure, wrong = (
        LOSSES[name](logits, targets) for logits in (4 * targets, 0 * targets, -4 * targets)
    )
    assert right < unsure < wrong


@pytest.mark.parametrize("name", LOSSES)
def test_descent_learns_from_each(name: str) -> None:
    labels = torch.arange(3).repeat(4)
    logits = torch.randn(12, 3, generator=torch.Generator().manual_seed(1)).requires_grad_()
    optimizer = torch.optim.SGD([logits], lr=5.0)
    for _ in range(300):
        optimizer.zero_grad()
        LOSSES[name](logits, F.one_hot(labels, 3).float()).backward()
        optimizer.step()
    assert (logits.argmax(1) == labels).all()


def test_focal_without_gamma_is_cross_entropy() -> None:
    logits, targets = drawn()
    plain = cross_entropy(logits, targets, smoothing=0.1)
    torch.testing.assert_close(focal(logits, targets, gamma=0.0, smoothing=0.1), plain)


def test_cross_entropy_of_a_blend_is_the_blend_of_cross_entropies() -> None:
    logits, _ = drawn(rows=4)
    one, other = torch.eye(4, dtype=torch.float64), torch.eye(4, dtype=torch.float64).roll(1, 0)
    blend = 0.3 * cross_entropy(logits, one) + 0.7 * cross_entropy(logits, other)
    torch.testing.assert_close(cross_entropy(logits, 0.3 * one + 0.7 * other), blend)


def test_soft_f1_of_sure_answers_is_the_macro_f1() -> None:
    from torchmetrics.functional.classification import multiclass_f1_score

    rng = torch.Generator().manual_seed(2)
    labels, answers = torch.randint(4, (2, 60), generator=rng)
    theirs = multiclass_f1_score(answers, labels, 4, average="macro")
    loss = soft_f1(100.0 * F.one_hot(answers, 4), F.one_hot(labels, 4).float())
    assert 1 - loss.item() == pytest.approx(theirs.item(), abs=1e-5)


def test_mixed_ends_are_its_parts() -> None:
    logits, targets = drawn()
    torch.testing.assert_close(mixed(logits, targets, f1_share=0.0), cross_entropy(logits, targets))
    torch.testing.assert_close(mixed(logits, targets, f1_share=1.0), soft_f1(logits, targets))


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_class_weights(power: float) -> None:
    counts = torch.tensor([100, 20, 0, 5])
    weights = class_weights(counts, power=power)
    assert weights[2] == 0
    assert (weights * counts).sum().item() == pytest.approx(counts.sum().item())
    assert (weights[0] / weights[3]).item() == pytest.approx((5 / 100) ** power)
