"""Where a training stands, and how it gets to the disk and back: safetensors and JSON, nothing pickled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.optim import Optimizer

from classify.run import read_tensors, write_tensors

MODEL, EMA, OPTIMIZER = "model/", "ema/", "optimizer/"


@dataclass
class Progress:
    """Where a training stands.

    Attributes:
        epoch: the one under way, from 0.
        step: optimiser steps done in it.
        loss_sum, seen: over the photos shown in it.
        history: the rows of metrics.csv.
        best: the best value of the metric that `early_stop` names.
        best_epoch: its epoch, from 1.
        waited: epochs since then.
        done: no epoch follows.
    """

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    seen: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    best: float | None = None
    best_epoch: int | None = None
    waited: int = 0
    done: bool = False


def save(
    path: Path, progress: Progress, network: nn.Module, optimizer: Optimizer, ema: ModelEmaV3 | None
) -> None:
    """All that a training needs to go on, in one file, replaced at once."""
    tensors = {MODEL + name: value for name, value in network.state_dict().items()}
    if ema is not None:
        tensors |= {EMA + name: value for name, value in ema.module.state_dict().items()}
    packed = optimizer.state_dict()
    learnt, plain = flatten(packed["state"])
    tensors |= {OPTIMIZER + name: value for name, value in learnt.items()}
    groups = [{k: v for k, v in group.items() if k != "params"} for group in packed["param_groups"]]
    write_tensors(path, tensors, {"progress": asdict(progress), "optimizer": plain, "groups": groups})


def restore(path: Path, network: nn.Module, optimizer: Optimizer, ema: ModelEmaV3 | None) -> Progress:
    """Put a saved training back into objects that were built by the same settings."""
    tensors, state = read_tensors(path)
    network.load_state_dict(_under(MODEL, tensors))
    if ema is not None:
        ema.module.load_state_dict(_under(EMA, tensors))
    packed = optimizer.state_dict()
    groups = [{**new, **old} for new, old in zip(packed["param_groups"], state["groups"], strict=True)]
    learnt = unflatten({**_under(OPTIMIZER, tensors), **state["optimizer"]})
    optimizer.load_state_dict({"state": learnt, "param_groups": groups})
    return Progress(**state["progress"])


def flatten(nested: Mapping[Any, Any], prefix: str = "") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimiser's state as tensors and as JSON values, by paths such as "12/exp_avg"."""
    tensors: dict[str, Tensor] = {}
    plain: dict[str, Any] = {}
    for key, value in nested.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            inner_tensors, inner_plain = flatten(value, f"{name}/")
            tensors |= inner_tensors
            plain |= inner_plain
        elif isinstance(value, Tensor):
            tensors[name] = value
        else:
            plain[name] = value
    return tensors, plain


def unflatten(values: Mapping[str, Any]) -> dict[Any, Any]:
    """What `flatten` took apart; numbers among the keys are numbers again."""
    nested: dict[Any, Any] = {}
    for path, value in values.items():
        *way, last = (int(step) if step.isdigit() else step for step in path.split("/"))
        place = nested
        for step in way:
            place = place.setdefault(step, {})
        place[last] = value
    return nested


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
