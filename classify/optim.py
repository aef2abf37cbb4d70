"""Optimisers, schedules and freezing.

The learning rate is a plain function of the step, so that a resumed run goes on exactly:

    optimizer = OPTIMIZERS["adamw"](model, lr=1e-3, layer_decay=0.8)
    set_lr(optimizer, SCHEDULES["cosine"](step, total, warmup=0.1))
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from timm.optim import create_optimizer_v2
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from configs.settings import Chosen


def adamw(
    model: nn.Module,
    *,
    lr: float = 1e-3,
    weight_decay: float = 0.05,
    betas: tuple[float, float] = (0.9, 0.999),
    layer_decay: float | None = None,
) -> Optimizer:
    """AdamW (Loshchilov and Hutter, 2019)."""
    return _create(model, "adamw", lr, weight_decay, layer_decay, betas=betas)


def adam(
    model: nn.Module,
    *,
    lr: float = 1e-3,
    weight_decay: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.999),
    layer_decay: float | None = None,
) -> Optimizer:
    """Adam (Kingma and Ba, 2015); its weight decay is part of the gradient."""
    return _create(model, "adam", lr, weight_decay, layer_decay, betas=betas)


def sgd(
    model: nn.Module,
    *,
    lr: float = 0.05,
    weight_decay: float = 1e-4,
    momentum: float = 0.9,
    layer_decay: float | None = None,
) -> Optimizer:
    """Stochastic gradient descent with Nesterov's momentum."""
    return _create(model, "sgd", lr, weight_decay, layer_decay, momentum=momentum)


def madgrad(
    model: nn.Module,
    *,
    lr: float = 1e-3,
    weight_decay: float = 0.0,
    momentum: float = 0.9,
    layer_decay: float | None = None,
) -> Optimizer:
    """MADGRAD (Defazio and Jelassi, 2021)."""
    return _create(model, "madgrad", lr, weight_decay, layer_decay, momentum=momentum)


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "adamw": adamw,
    "sgd": sgd,
    "adam": adam,
    "madgrad": madgrad,
}


def _create(
    model: nn.Module, name: str, lr: float, weight_decay: float, layer_decay: float | None, **own: Any
) -> Optimizer:
    """timm's optimiser; biases and norms without weight decay, frozen weights included.

    With `layer_decay` d, a weight k layers below the head learns at lr * d ** k. timm leaves frozen
    weights out, but they may be thawed later, so they count as trainable here.
    """
    frozen = [weight for weight in model.parameters() if not weight.requires_grad]
    _require_grad(frozen, True)
    optimizer = create_optimizer_v2(
        model, name, lr=lr, weight_decay=weight_decay, layer_decay=layer_decay, **own
    )
    _require_grad(frozen, False)
    for group in optimizer.param_groups:
        group["initial_lr"] = lr * group.get("lr_scale", 1.0)
    set_lr(optimizer, 1.0)
    return optimizer


def set_lr(optimizer: Optimizer, factor: float) -> None:
    """Set every group's learning rate to a share of its own initial one (see `SCHEDULES`)."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor


def cosine(step: int, total: int, *, warmup: float = 0.05, floor: float = 0.0) -> float:
    """Half a cosine from 1 after the warm-up down to `floor`, the share of the rate left at the end.

    Args:
        step: the step to take, 0..total-1.
        total: steps of the whole run.
        warmup: linear warm-up; below 1 a share of the total, from 1 on a number of steps.
        floor: the share that is left at the end, 0..1.

    Returns:
        The factor of the learning rate, 0..1.
    """
    steps = warmup_steps(warmup, total)
    if step < steps:
        return (step + 1) / (steps + 1)
    done = min((step - steps) / max(total - steps, 1), 1.0)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))


def step(
    step: int,
    total: int,
    *,
    warmup: float = 0.0,
    at: tuple[float, ...] = (0.5, 0.75),
    gamma: float = 0.1,
) -> float:
    """Times `gamma` at each of the shares `at` of what follows the warm-up; the rest as in `cosine`."""
    steps = warmup_steps(warmup, total)
    if step < steps:
        return (step + 1) / (steps + 1)
    return gamma ** sum(step - steps >= share * (total - steps) for share in at)


def constant(step: int, total: int, *, warmup: float = 0.0) -> float:
    """Always 1, but for the warm-up; arguments as in `cosine`."""
    steps = warmup_steps(warmup, total)
    return (step + 1) / (steps + 1) if step < steps else 1.0


SCHEDULES: dict[str, Callable[..., float]] = {"cosine": cosine, "step": step, "constant": constant}


def warmup_steps(warmup: float, total: int) -> int:
    """Steps of warm-up: `warmup` is a share of the total where it is below 1, else a number of steps."""
    return min(round(warmup * total if warmup < 1 else warmup), total)


def never(_epoch: int) -> bool:
    """All weights learn, always."""
    return False


def head_only(_epoch: int) -> bool:
    """The head alone learns."""
    return True


def head_after(epoch: int, *, epochs: int = 5) -> bool:
    """All weights learn for a number of epochs, from then on the head alone."""
    return epoch >= epochs


def head_until(epoch: int, *, epochs: int = 1) -> bool:
    """The head alone learns for a number of epochs, from then on all weights."""
    return epoch < epochs


FREEZES: dict[str, Callable[..., bool]] = {
    "none": never,
    "head_only": head_only,
    "head_after": head_after,
    "head_until": head_until,
}
"""`fn(epoch, *, settings)`: whether all but the head is frozen in an epoch (counted from 0)."""


def freeze(model: nn.Module, epoch: int, settings: Chosen) -> bool:
    """Freeze or thaw all but the head, as one of `FREEZES` says; call it after `model.train()`.

    A frozen weight keeps no gradient, so that neither momentum nor weight decay moves it; frozen
    batch norms are put into eval mode, so that their statistics stay too.

    Args:
        model: a timm model, unwrapped.
        epoch: counted from 0.
        settings: a name of `FREEZES` with its settings.

    Returns:
        Whether all but the head is frozen now.
    """
    frozen = FREEZES[settings.name](epoch, **settings.settings)
    head = {id(weight) for part in _heads(model) for weight in part.parameters()}
    backbone = [weight for weight in model.parameters() if id(weight) not in head]
    _require_grad(backbone, not frozen)
    if frozen:
        for weight in backbone:
            weight.grad = None
        for module in model.modules():
            if isinstance(module, _BatchNorm) and not any(id(w) in head for w in module.parameters()):
                module.eval()
    return frozen


def _heads(model: nn.Module) -> tuple[nn.Module, ...]:
    """timm gives several classifiers for distilled models."""
    head = model.get_classifier()  # type: ignore[operator]
    return tuple(head) if isinstance(head, tuple) else (head,)


def _require_grad(weights: Iterable[nn.Parameter], value: bool) -> None:
    for weight in weights:
        weight.requires_grad_(value)
