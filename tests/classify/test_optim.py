from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from classify.optim import FREEZES, OPTIMIZERS, SCHEDULES, freeze, set_lr
from configs.settings import Chosen, schema_of

VIT = {"embed_dim": 24, "depth": 2, "num_heads": 2, "patch_size": 8, "img_size": 16}


def vit() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("vit_tiny_patch16_224", num_classes=3, **VIT)


def resnet() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("resnet10t", num_classes=3, zero_init_last=False)


def learn(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 3) -> list[float]:
    """Losses on one small batch."""
    rng = torch.Generator().manual_seed(0)
    size = 16 if hasattr(model, "blocks") else 32
    images, labels = torch.randn(6, 3, size, size, generator=rng), torch.arange(6) % 3
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_optimizer_learns_and_spares_biases_from_decay(name: str) -> None:
    model = vit()
    defaults = schema_of(OPTIMIZERS[name])().model_dump()
    optimizer = OPTIMIZERS[name](model, **{**defaults, "weight_decay": 0.1})
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for weight_name, weight in model.named_parameters():
        spared = weight.ndim < 2 or weight_name in ("pos_embed", "cls_token")
        assert decay[id(weight)] == (0 if spared else 0.1), weight_name
    losses = learn(model, optimizer, steps=8)
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_settings_reach_the_optimizer(name: str) -> None:
    optimizer = OPTIMIZERS[name](vit(), lr=0.123)
    assert {group["lr"] for group in optimizer.param_groups} == {0.123}
    kinds = {"adamw": "AdamW", "sgd": "SGD", "adam": "Adam", "madgrad": "MADGRAD"}
    assert type(optimizer).__name__ == kinds[name]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_layer_decay_slows_deep_layers_and_the_schedule_scales_all(name: str) -> None:
    model = vit()
    optimizer = OPTIMIZERS[name](model, lr=1e-2, layer_decay=0.5)

    def rates() -> dict[int, float]:
        return {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}

    # head 0, blocks 1 and 2 below it, patches and positions 3 below
    depth = {
        "head.weight": 0,
        "blocks.1.mlp.fc1.weight": 1,
        "blocks.0.mlp.fc1.weight": 2,
        "patch_embed.proj.weight": 3,
    }
    for factor in (1.0, 0.25):
        set_lr(optimizer, factor)
        for weight, layers in depth.items():
            assert rates()[id(model.get_parameter(weight))] == pytest.approx(factor * 1e-2 * 0.5**layers)


def moved(model: nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    """Names of what has changed, buffers too."""
    return {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


def copy(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("optimizer_name", OPTIMIZERS)
@pytest.mark.parametrize("make", [vit, resnet])
def test_a_frozen_weight_does_not_move_and_a_thawed_one_does(optimizer_name: str, make: Any) -> None:
    model = make()
    optimizer = OPTIMIZERS[optimizer_name](model, lr=1e-2, weight_decay=0.1)
    head = {"head.weight", "head.bias", "fc.weight", "fc.bias"}
    for epoch, name in enumerate(("none", "head_only", "none")):
        before = copy(model.train())
        assert freeze(model, epoch, Chosen(name=name)) == (name == "head_only")
        learn(model, optimizer, steps=2)
        changed = moved(model, before)
        if name == "head_only":
            assert changed == head & set(before), "not even momentum, decay or batch norm's means"
        else:
            assert changed >= {name for name, _ in model.named_parameters()}


def test_weights_frozen_from_the_start_can_be_thawed() -> None:
    model = vit()
    freeze(model, 0, Chosen(name="head_until", settings={"epochs": 1}))
    optimizer = OPTIMIZERS["adamw"](model, lr=1e-2)
    assert not model.get_parameter("patch_embed.proj.weight").requires_grad, "as it was before"
    before = copy(model)
    learn(model, optimizer)
    assert moved(model, before) == {"head.weight", "head.bias"}
    freeze(model, 1, Chosen(name="head_until", settings={"epochs": 1}))
    learn(model, optimizer)
    assert "patch_embed.proj.weight" in moved(model, before)


def test_both_heads_of_a_distilled_model_stay_free() -> None:
    model = timm.create_model("deit_tiny_distilled_patch16_224", num_classes=3, **VIT)
    freeze(model, 0, Chosen(name="head_only"))
    free = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert free == {"head.weight", "head.bias", "head_dist.weight", "head_dist.bias"}


@pytest.mark.parametrize(
    ("name", "given_settings", "frozen"),
    [
        ("none", {}, [False] * 4),
        ("head_only", {}, [True] * 4),
        ("head_until", {"epochs": 2}, [True, True, False, False]),
        ("head_after", {"epochs": 3}, [False, False, False, True]),
    ],
)
def test_which_epochs_are_frozen(name: str, given_settings: dict[str, int], frozen: list[bool]) -> None:
    assert [FREEZES[name](epoch, **given_settings) for epoch in range(4)] == frozen


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(SCHEDULES)), st.integers(1, 300), st.floats(0, 0.9) | st.integers(1, 50))
def test_schedules_warm_up_then_never_rise(name: str, total: int, warmup: float) -> None:
    factors = [SCHEDULES[name](step, total, warmup=warmup) for step in range(total)]
    assert all(0 < factor <= 1 for factor in factors)
    steps = min(round(warmup * total) if warmup < 1 else int(warmup), total)
    rising, falling = factors[: steps + 1], factors[steps:]
    assert all(a < b for a, b in pairwise(rising))
    assert all(a >= b for a, b in pairwise(falling))
    assert not falling or falling[0] == pytest.approx(1)


def test_schedules_by_hand() -> None:
    cosine, step, constant = (SCHEDULES[name] for name in ("cosine", "step", "constant"))
    assert cosine(50, 100, warmup=0) == pytest.approx(0.5)
    assert cosine(25, 100, warmup=0) == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert cosine(55, 100, warmup=10) == pytest.approx(0.5)
    assert cosine(100, 100, warmup=0, floor=0.1) == pytest.approx(0.1)
    assert [cosine(s, 100, warmup=0.03) for s in range(4)] == pytest.approx([0.25, 0.5, 0.75, 1])
    assert [step(s, 8, at=(0.5, 0.75), gamma=0.5) for s in range(8)] == [1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25]
    assert [step(s, 6, warmup=2, at=(0.5,)) for s in range(6)] == pytest.approx(
        [1 / 3, 2 / 3, 1, 1, 0.1, 0.1]
    )
    assert [constant(s, 4, warmup=1) for s in range(4)] == [0.5, 1, 1, 1]
