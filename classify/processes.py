"""Devices and processes, by lightning-fabric: one process a device, all of them running the same code."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from classify.predict import pick_device, use_bfloat16
from classify.settings import TrainSettings
from configs.errors import UserError


def first() -> bool:
    """Whether this is the process that talks and writes; known before the others are started."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0


def by_torchrun() -> bool:
    """Whether torchrun started this process, and others beside it."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def make(settings: TrainSettings) -> Fabric:
    """Devices, processes and precision; `launch()` starts the other processes.

    Raises:
        UserError: a device that isn't there.
    """
    device = pick_device(settings.device)
    count = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if by_torchrun() else settings.devices
    if device.type == "cuda" and count > torch.cuda.device_count():
        raise UserError(f"devices={count}: this machine has {torch.cuda.device_count()} GPUs")
    chosen: Any = [device.index] if device.index is not None and count == 1 else count
    return Fabric(
        accelerator=device.type,
        devices=chosen,
        num_nodes=int(os.environ.get("WORLD_SIZE", "1")) // count if by_torchrun() else 1,
        strategy="ddp" if count > 1 else "auto",
        precision="bf16-mixed" if use_bfloat16(settings.precision, device) else "32-true",
    )


def add_up(values: Tensor, fabric: Fabric) -> Tensor:
    """The processes' sum of a tensor, in each of them."""
    if fabric.world_size == 1:
        return values
    moved = values.to(fabric.device)
    torch.distributed.all_reduce(moved)
    return moved.to(values.device)


def add_up_gradients(weights: Sequence[nn.Parameter], fabric: Fabric) -> None:
    """Sum the processes' gradients; a process that had no batch counts as zeros.

    One reduction a step, after all its backward passes: whichever weights are frozen, and
    however many batches each process had, there is nothing to prepare for.
    """
    if fabric.world_size == 1:
        return
    grads = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]
    flat = torch.cat([grad.flatten() for grad in grads])
    torch.distributed.all_reduce(flat)
    for weight, part in zip(weights, flat.split([grad.numel() for grad in grads]), strict=True):
        weight.grad = part.view_as(weight)


def share_statistics(network: nn.Module, fabric: Fabric) -> None:
    """Give all processes the mean of their batch norms' running statistics."""
    for buffer in network.buffers():
        if fabric.world_size > 1 and buffer.is_floating_point():
            buffer.copy_(add_up(buffer, fabric) / fabric.world_size)


def first_of(found: list[str], fabric: Fabric) -> list[str]:
    """The first process's list that isn't empty, in each of them."""
    if fabric.world_size == 1:
        return found
    lists: list[list[str]] = [[] for _ in range(fabric.world_size)]
    torch.distributed.all_gather_object(lists, found)
    return next((each for each in lists if each), [])
