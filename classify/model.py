"""A timm model for these heads and this input size, its weights from timm, from a file, or drawn."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import timm
import torch
from pydantic import Field
from torch import Tensor, nn

from configs.errors import UserError, did_you_mean
from configs.settings import Settings

Weights = dict[str, Tensor]


class ModelSettings(Settings):
    """Which network, and where its weights come from.

    Attributes:
        name: any model of timm (`classify models` or https://huggingface.co/timm lists them).
        args: timm's own arguments for it, such as `embed_dim` and `depths` of a smaller Swin.
        pretrained: start from timm's weights, fetched once by timm.
        checkpoint: start from this file (safetensors, or a torch file of plain weights) instead.
        size: the side of the input, px; None: that of the cache's crops. Smaller than the crops:
            they are averaged down once, when they are loaded.
        drop: dropout before the head, 0..1.
        drop_path: the rate of skipped residual branches, 0..1; None: the model's own.
        fused_attention: PyTorch's fused attention where the model has attention.
    """

    name: str = "swin_tiny_patch4_window7_224"
    args: dict[str, Any] = Field(default_factory=dict)
    pretrained: bool = True
    checkpoint: Path | None = None
    size: int | None = None
    drop: float = 0.0
    drop_path: float | None = None
    fused_attention: bool = True


@dataclass(frozen=True)
class Model:
    """A network and what its input has to look like.

    Attributes:
        network: images f32 [b 3 h w], normalised -> logits f32 [b outputs].
        size: h, w of the input, px.
        mean, std: of the RGB channels, 0..1, that the input is normalised with.
        head: name of the classifier's module ("head.fc").
        notes: what a user should hear about the weights.
    """

    network: nn.Module
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    head: str
    notes: tuple[str, ...] = ()


def create(
    settings: ModelSettings, *, outputs: int, crop: tuple[int, int], seed: int = 0, weights: bool = True
) -> Model:
    """Build the network; what is drawn at random depends on `seed` alone.

    Args:
        outputs: number of logits (the classes of all heads together).
        crop: h, w of the cache's crops, px: the input size where the settings give none.
        weights: load what `settings.pretrained` or `settings.checkpoint` name; False where the
            caller puts a run's own weights in afterwards.

    Raises:
        UserError: an unknown model or argument, no network to fetch weights with, a file that
            is no checkpoint or is for another model.
    """
    if settings.name not in timm.list_models() and settings.name not in timm.list_pretrained():
        near = did_you_mean(settings.name, timm.list_models())
        raise UserError(f"model.name: timm has no model {settings.name!r}{near}")
    timm.layers.set_fused_attn(settings.fused_attention)
    size = (settings.size, settings.size) if settings.size else crop
    fetch = weights and settings.pretrained and settings.checkpoint is None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _build(settings, outputs, size, fetch)
    config: dict[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
    head = config.get("classifier") or "head"
    model = Model(network, size, tuple(config["mean"]), tuple(config["std"]), _first(head))
    if weights and settings.checkpoint:
        return replace(model, notes=tuple(load_checkpoint(model, settings.checkpoint)))
    return model


def load_checkpoint(model: Model, path: Path) -> list[str]:
    """Put a file's weights into the network, but for a head of another class count, which stays as drawn.

    Returns:
        What to tell the user.

    Raises:
        UserError: no such file, no checkpoint, or weights of another model.
    """
    given = read_weights(path)
    network = model.network
    own = network.state_dict()
    # timm's own translation of older names and other input sizes. It looks at the head: not without it.
    adapt = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    given = adapt(given, network) if adapt else given
    head = {name for name in own if name.startswith(f"{model.head}.")}
    other = {name for name in head & set(given) if given[name].shape != own[name].shape}
    counts = sorted({len(given[name]) for name in other})
    given = {name: value for name, value in given.items() if name not in other}
    unfit = [name for name in own if name in given and given[name].shape != own[name].shape]
    # What timm computes at construction (masks, position indices) is in newer files, not in older ones.
    learnt = {name for name, _ in network.named_parameters()}
    missing = [name for name in learnt - head if name not in given]
    if unfit or missing:
        first = sorted(unfit or missing)[0]
        what = f"{len(unfit)} of another shape" if unfit else f"{len(missing)} missing"
        raise UserError(
            f"{path}: not weights of this model ({what}, the first is {first!r}); "
            "check model.name, model.args and model.size"
        )
    network.load_state_dict(given, strict=False)
    notes = [f"weights from {path}"]
    if not (head & set(given)) and head:
        had = f"for {counts[0]} classes" if counts else "absent"
        notes.append(f"its head is {had}: a new one is drawn for {_outputs(own, head)}")
    return notes


def read_weights(path: Path) -> Weights:
    """The tensors of a safetensors file, or of a torch file that needs no pickled code."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(path)
    if not path.is_file():
        raise UserError(f"model.checkpoint: {path}: no such file")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise UserError(f"{path}: not a safetensors file, or damaged: {error}") from None
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its zip and pickle readers meet
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: not a file of plain torch weights: {reason}") from None
    for key in ("state_dict_ema", "state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not any(isinstance(v, Tensor) for v in loaded.values()):
        raise UserError(f"{path}: no weights in it (a mapping of names to tensors is needed)")
    named = {k: v for k, v in loaded.items() if isinstance(v, Tensor)}
    return {k.removeprefix("_orig_mod.").removeprefix("module."): v for k, v in named.items()}


def _build(settings: ModelSettings, outputs: int, size: tuple[int, int], fetch: bool) -> nn.Module:
    given = dict(settings.args)
    config = timm.get_pretrained_cfg(settings.name)
    if config and config.fixed_input_size:
        given.setdefault("img_size", size)
    if settings.drop_path is not None:
        given.setdefault("drop_path_rate", settings.drop_path)
    if settings.drop:
        given.setdefault("drop_rate", settings.drop)
    try:
        return timm.create_model(settings.name, pretrained=fetch, num_classes=outputs, **given)
    except OSError as error:
        raise UserError(
            f"the pretrained weights of {settings.name} could not be fetched ({_line(error)}); connect "
            "once so that timm keeps them, or name a file with model.checkpoint=FILE, or start from "
            "drawn weights with model.pretrained=false"
        ) from None
    except (TypeError, AssertionError, RuntimeError, ValueError) as error:
        raise UserError(
            f"timm could not build {settings.name} for {size[0]}x{size[1]} px with "
            f"{given or 'no arguments'}: {_line(error)}"
        ) from None


def _outputs(own: Mapping[str, Tensor], head: set[str]) -> int:
    return min(len(own[name]) for name in head)


def _first(names: str | Sequence[str]) -> str:
    return names if isinstance(names, str) else names[0]


def _line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:200] + "..."
