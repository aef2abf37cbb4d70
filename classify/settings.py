"""Every setting of a training, typed: what a preset may hold and `--set` may change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PlainSerializer, PositiveFloat, PositiveInt

from classify.augment import AUGMENTATIONS
from classify.losses import LOSSES
from classify.model import ModelSettings
from classify.optim import FREEZES, OPTIMIZERS, SCHEDULES
from classify.sample import SAMPLERS
from classify.split import SPLITS
from classify.targets import TargetSettings
from configs.settings import Chosen, Settings, choice


def _pick(functions: Mapping[str, Callable[..., Any]], default: str | None = None) -> Any:
    """`choice`, written to JSON as it is written in YAML: the name beside its settings."""
    return Annotated[choice(functions, default), PlainSerializer(_flat)]


def _flat(value: Any) -> Any:
    if isinstance(value, Chosen):
        return {"name": value.name, **_flat(value.settings)}
    if isinstance(value, dict) and value.keys() == {"name", "settings"}:
        return {"name": value["name"], **_flat(value["settings"])}
    if isinstance(value, dict):
        return {name: _flat(inner) for name, inner in value.items()}
    return [_flat(inner) for inner in value] if isinstance(value, list | tuple) else value


if TYPE_CHECKING:
    from typing import TypeAlias

    Split: TypeAlias = Chosen
    Sampler: TypeAlias = Chosen
    Loss: TypeAlias = Chosen
    Augmentation: TypeAlias = Chosen
    Optimizer: TypeAlias = Chosen
    Schedule: TypeAlias = Chosen
    Freeze: TypeAlias = Chosen
else:
    Split = _pick(SPLITS, "person")
    Sampler = _pick(SAMPLERS, "shuffle")
    Loss = _pick(LOSSES, "cross_entropy")
    Augmentation = _pick(AUGMENTATIONS)
    Optimizer = _pick(OPTIMIZERS, "adamw")
    Schedule = _pick(SCHEDULES, "cosine")
    Freeze = _pick(FREEZES, "none")


Fill = Literal["black", "mean", "blur", "noise", "swap"]


def _default(name: str) -> Any:
    return Field(default=name, validate_default=True)


class EarlyStop(Settings):
    """When to stop before the last epoch, and what the best epoch is.

    Attributes:
        metric: of a row of metrics.csv: macro_f1, accuracy, ece, val_loss, train_loss, or one
            head's (`macro_f1.mask`). Of losses and ece less is better. It chooses the best
            checkpoint too. Without validation photos: train_loss where it is named, else the last
            epoch is the best.
        patience: stop after this many epochs without a better value; None: never.
        min_delta: how much better counts as better.
    """

    metric: str = "macro_f1"
    patience: PositiveInt | None = None
    min_delta: NonNegativeFloat = 0.0


class TrainSettings(Settings):
    """A training.

    Attributes:
        targets: which labels make the classes.
        split: which photos validate: person, file, column or all (none).
        fold: the fold that validates, 0..folds-1.
        allow_shared_persons: train although persons are on both sides of the split.
        view: figure, full or background; None: figure where the cache has alpha, else full.
        fill: what stands where the view blanks: black, mean, blur, noise, swap (another photo's
            background); of a list each photo gets one, drawn anew each time.
        augment: augmentations, in their order.
        sampler: the order of an epoch: shuffle, weighted, oversample.
        loss: cross_entropy, focal, asymmetric, soft_f1, mixed.
        class_weights: power of the classes' weights in the loss; 0: all the same, 1: each class
            weighs as much as any other.
        head_weights: weight of a head's loss by its column's name; 1 where none is given.
        model: the network and its weights.
        freeze: which weights stand still when: none, head_only, head_after, head_until.
        optimizer: adamw, sgd, adam, madgrad.
        schedule: of the learning rate: cosine, step, constant.
        epochs: how often the training photos are shown.
        batch_size: photos a forward pass and process.
        effective_batch: photos a step of the optimiser, over all processes and passes; None: one pass.
        clip: the gradient's norm is kept below this; None: it is left alone.
        ema: decay of a moving average of the weights, which is then evaluated and kept; None: none.
        precision: auto is bfloat16 where a GPU has it, else float32.
        compile: compile the network (torch.compile).
        seed: of weights, order, augmentation and dropout. (The split has its own: split.seed.)
        early_stop: when to stop early, and what "best" means.
        checkpoint_steps: write `last.safetensors` each so many steps too, not only after each epoch.
        device: auto, cpu, cuda, cuda:1, mps.
        devices: processes, one a device.
    """

    targets: TargetSettings = TargetSettings()
    split: Split = _default("person")
    fold: NonNegativeInt = 0
    allow_shared_persons: bool = False
    view: Literal["figure", "full", "background"] | None = None
    fill: Fill | list[Fill] = "black"
    augment: list[Augmentation] = Field(default_factory=list)
    sampler: Sampler = _default("shuffle")
    loss: Loss = _default("cross_entropy")
    class_weights: NonNegativeFloat = 0.0
    head_weights: dict[str, NonNegativeFloat] = Field(default_factory=dict)
    model: ModelSettings = ModelSettings()
    freeze: Freeze = _default("none")
    optimizer: Optimizer = _default("adamw")
    schedule: Schedule = _default("cosine")
    epochs: PositiveInt = 20
    batch_size: PositiveInt = 32
    effective_batch: PositiveInt | None = None
    clip: PositiveFloat | None = 1.0
    ema: Annotated[float, Field(ge=0, lt=1)] | None = None
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: bool = False
    seed: NonNegativeInt = 0
    early_stop: EarlyStop = EarlyStop()
    checkpoint_steps: PositiveInt | None = None
    device: str = "auto"
    devices: PositiveInt = 1


WHERE_IT_RUNS = frozenset({"device", "devices", "checkpoint_steps"})
"""Settings that say how a training is carried out and not what it computes: a resumed run may change them."""
