"""Losses on soft targets, so that mixup, CutMix and smoothing need no second version of any.

Every loss is `fn(logits [b c], targets [b c], class_weights [c] | None, *, settings) -> scalar`. A row of
targets sums to 1, or is all 0 where the photo's class isn't known: such a row counts for nothing.
Means are taken over the targets' weight, as torch's own cross-entropy does: for plain labels the sum
of the rows' losses, each times its class's weight, over the sum of those weights.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

NOTHING = 1e-6
"""A sum of weights below this is of a batch without known classes; dividing by less would overflow."""


def cross_entropy(
    logits: Tensor, targets: Tensor, class_weights: Tensor | None = None, *, smoothing: float = 0.0
) -> Tensor:
    """Cross-entropy with label smoothing: `smoothing` is the share spread over all classes, 0..1."""
    each = -_smooth(targets, smoothing) * logits.log_softmax(dim=1)
    return _mean(each, targets, class_weights)


def focal(
    logits: Tensor,
    targets: Tensor,
    class_weights: Tensor | None = None,
    *,
    gamma: float = 2.0,
    smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy, each class's term times (1 - p) ** gamma, so that what is surely right weighs little.

    Lin et al., "Focal Loss for Dense Object Detection", 2017; gamma 0 is cross-entropy.
    """
    log_p = logits.log_softmax(dim=1)
    each = -_smooth(targets, smoothing) * _complement(log_p) ** gamma * log_p
    return _mean(each, targets, class_weights)


def asymmetric(
    logits: Tensor,
    targets: Tensor,
    class_weights: Tensor | None = None,
    *,
    gamma_positive: float = 1.0,
    gamma_negative: float = 4.0,
    smoothing: float = 0.1,
) -> Tensor:
    """Focal, with an exponent of its own for the classes that a photo isn't of.

    Ridnik et al., "Asymmetric Loss For Multi-Label Classification", 2021, in its form for one class a
    photo: the wrong classes have a term by the smoothing alone.
    """
    log_p = logits.log_softmax(dim=1)
    missed = targets * _complement(log_p) + (1 - targets) * log_p.exp()
    gamma = gamma_positive * targets + gamma_negative * (1 - targets)
    each = -_smooth(targets, smoothing) * missed**gamma * log_p
    return _mean(each, targets, class_weights)


def soft_f1(logits: Tensor, targets: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """1 - macro-F1 of the batch, counted in probabilities; the mean is over the classes in the batch.

    F1 of a class is 2 * hits / (predicted + true). A class without a photo in the batch has no hits
    and no gradient, so leaving it out of the mean changes the scale alone.
    """
    known = targets.sum(dim=1, keepdim=True)
    p = logits.softmax(dim=1) * known
    true = targets.sum(dim=0)
    present = (true > 0).to(p.dtype)
    f1 = 2 * (p * targets).sum(dim=0) / (p.sum(dim=0) + true).clamp_min(NOTHING)
    weights = present if class_weights is None else present * class_weights
    return (weights * (1 - f1)).sum() / weights.sum().clamp_min(NOTHING)


def mixed(
    logits: Tensor,
    targets: Tensor,
    class_weights: Tensor | None = None,
    *,
    f1_share: float = 0.85,
    smoothing: float = 0.0,
) -> Tensor:
    """(1 - f1_share) * cross-entropy + f1_share * soft macro-F1."""
    entropy = cross_entropy(logits, targets, class_weights, smoothing=smoothing)
    return (1 - f1_share) * entropy + f1_share * soft_f1(logits, targets, class_weights)


LOSSES: dict[str, Callable[..., Tensor]] = {
    "cross_entropy": cross_entropy,
    "focal": focal,
    "asymmetric": asymmetric,
    "soft_f1": soft_f1,
    "mixed": mixed,
}


def class_weights(counts: Tensor, *, power: float = 1.0) -> Tensor:
    """Weights that make up for rare classes: count ** -power, with mean 1 over the photos.

    Args:
        counts: [c], photos of each class; a class without any gets weight 0.
        power: 1 gives every class the same weight in the sum, 0 every photo.

    Returns:
        f32 [c].
    """
    counts = torch.as_tensor(counts, dtype=torch.float32)
    weights = torch.where(counts > 0, counts.clamp_min(1) ** -power, 0.0)
    return weights * counts.sum() / (weights * counts).sum().clamp_min(NOTHING)


def _smooth(targets: Tensor, smoothing: float) -> Tensor:
    known = targets.sum(dim=1, keepdim=True)
    return (1 - smoothing) * targets + smoothing * known / targets.shape[1]


def _mean(each: Tensor, targets: Tensor, class_weights: Tensor | None) -> Tensor:
    if class_weights is None:
        return each.sum() / targets.sum().clamp_min(NOTHING)
    return (each * class_weights).sum() / (targets * class_weights).sum().clamp_min(NOTHING)


def _complement(log_p: Tensor) -> Tensor:
    """1 - p, without the loss of digits near p = 1, and kept off 0, where a power has no gradient."""
    return (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).tiny)
