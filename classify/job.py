"""What a training builds before its loop: pixels on the device, network, loss, optimiser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning_fabric import Fabric
from timm.utils import ModelEmaV3
from torch import Tensor
from torch.optim import Optimizer

from cache.loader import Batch, Pixels, batches, preload
from classify.augment import chain
from classify.data import Data
from classify.losses import LOSSES, class_weights
from classify.model import Model, create
from classify.optim import OPTIMIZERS
from classify.predict import Predictor, fit
from classify.sample import SAMPLERS
from classify.settings import TrainSettings
from classify.targets import soft
from configs.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

    from cache.format import Cache


@dataclass(frozen=True)
class Job:
    """What stays the same through a training.

    Attributes:
        settings: the classes written out.
        data: the rows of the cache.
        keys: of the photos of `pixels`.
        pixels: of the training and validation rows, at the model's input size.
        targets: f32 [n sum(classes of the heads)], of the same rows.
        train, val: i64, positions in `pixels`.
        model: the network, on the device, in timm's own form.
        forward: the same network as it is called (compiled, where that was asked for).
        loss: (logits f32 [b c], targets f32 [b c]) -> scalar.
        ema: the moving average of its weights.
        group: photos a step of the optimiser, over all processes.
        steps: steps of the optimiser an epoch.
    """

    fabric: Fabric
    settings: TrainSettings
    data: Data
    keys: pa.ChunkedArray
    pixels: Pixels
    targets: Tensor
    train: np.ndarray
    val: np.ndarray
    model: Model
    forward: Callable[[Tensor], Tensor]
    loss: Callable[[Tensor, Tensor], Tensor]
    optimizer: Optimizer
    ema: ModelEmaV3 | None
    group: int
    steps: int


def set_up(fabric: Fabric, cache: Cache, data: Data) -> Job:
    """Read the pixels, build the network, the loss and the optimiser.

    Raises:
        UserError: a model that can't be built or got; an effective batch that the processes can't share.
    """
    settings = data.settings
    group = group_of(settings, fabric.world_size)
    build: Any = OPTIMIZERS[settings.optimizer.name]
    model = create(settings.model, outputs=data.outputs, crop=cache.size, seed=settings.seed)
    network = model.network.to(fabric.device)
    rows = np.union1d(data.train, data.val)
    shared = fabric.world_size > 1
    crops = preload(cache, rows, device=fabric.device, shared=shared, view=data.view, fill=settings.fill)
    return Job(
        fabric=fabric,
        settings=settings,
        data=data,
        keys=cache.table["key"].take(rows),
        pixels=fit(crops, model.size),
        targets=torch.from_numpy(soft(data.targets)[rows]),
        train=np.searchsorted(rows, data.train),
        val=np.searchsorted(rows, data.val),
        model=model,
        forward=torch.compile(network) if settings.compile else network,
        loss=make_loss(data, fabric.device),
        optimizer=build(network, **settings.optimizer.settings),
        ema=None if settings.ema is None else ModelEmaV3(network, settings.ema, use_warmup=True),
        group=group,
        steps=max(1, len(_sampled(data, settings, 0)) // group),
    )


def group_of(settings: TrainSettings, processes: int) -> int:
    """Photos a step of the optimiser; UserError where the processes can't share them evenly."""
    one_pass = settings.batch_size * processes
    group = settings.effective_batch or one_pass
    if group % one_pass:
        raise UserError(
            f"effective_batch={group}: not a multiple of {one_pass} "
            f"(batch_size {settings.batch_size} x {processes} processes)"
        )
    return group


def make_loss(data: Data, device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
    """The weighted sum of the heads' losses, each on its own part of logits and targets."""
    settings, targets = data.settings, data.targets
    one: Any = LOSSES[settings.loss.name]
    sizes = [len(names) for names in targets.heads]
    shares = [settings.head_weights.get(name, 1.0) for name in targets.head_names]
    weights: list[Tensor | None] = [None] * len(sizes)
    if settings.class_weights:
        known = [column[column >= 0] for column in targets.labels[data.train].T]
        counts = [np.bincount(each, minlength=size) for each, size in zip(known, sizes, strict=True)]
        power = settings.class_weights
        weights = [class_weights(torch.from_numpy(each), power=power).to(device) for each in counts]

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        heads = zip(logits.split(sizes, 1), targets.split(sizes, 1), weights, shares, strict=True)
        return torch.stack([share * one(a, b, w, **settings.loss.settings) for a, b, w, share in heads]).sum()

    return loss


def epoch_order(job: Job, epoch: int) -> np.ndarray:
    """Positions to show in an epoch, i64 [m]. What doesn't fill a last group waits for another epoch."""
    return job.train[_sampled(job.data, job.settings, epoch)][: job.steps * job.group]


def feed(job: Job, order: np.ndarray, epoch: int, start: int) -> Iterator[Batch]:
    """This process's batches of an epoch, from batch `start` on: every so many-th of one sequence."""
    settings, fabric = job.settings, job.fabric
    made = batches(
        job.pixels,
        job.targets,
        torch.from_numpy(order),
        batch_size=settings.batch_size,
        view=job.data.view,
        fill=settings.fill,
        augment=chain(settings.augment) if settings.augment else None,
        mean=job.model.mean,
        std=job.model.std,
        seed=settings.seed,
        epoch=epoch,
        start=start,
        device=fabric.device,
        keep_alpha=bool(settings.augment),
    )
    return islice(made, fabric.global_rank, None, fabric.world_size)


def predictor_of(job: Job) -> Predictor:
    """What validates: the moving average of the weights where there is one, else the network."""
    shown = job.model if job.ema is None else replace(job.model, network=job.ema.module)
    return Predictor(
        model=shown,
        heads=job.data.targets.heads,
        classes=job.data.targets.classes,
        view=job.data.view,
        fill=job.settings.fill,
        device=job.fabric.device,
        batch_size=job.settings.batch_size * 2,
        precision=job.fabric.autocast,
    )


def _sampled(data: Data, settings: TrainSettings, epoch: int) -> np.ndarray:
    rng = np.random.default_rng([settings.seed, epoch])
    chosen = settings.sampler
    sampler: Any = SAMPLERS[chosen.name]
    return sampler(data.targets.joint[data.train], rng, **chosen.settings)
