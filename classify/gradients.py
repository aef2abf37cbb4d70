"""Where a network looks: the share of its gradient's energy on ground, face, clothes and the rest.

For each photo the score of the predicted class (its logit less the mean of the others', summed over
the heads) is derived by the input; a pixel's energy is the gradient's square, summed over
the colours (Simonyan et al., "Deep inside convolutional networks", 2014). It needs no attention and no last
feature map, so any network of timm will do. Read it beside a part's share of the area: a network that looks
nowhere in particular spreads its energy as the area is spread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.nn import functional

from classify.mixtures import Crops, parts
from classify.predict import Predictor

PHOTOS = 256
"""Of which the energy is taken at most: a gradient costs three forward passes."""


def energy(
    forward: Callable[[torch.Tensor], torch.Tensor], heads: Sequence[int], images: torch.Tensor
) -> np.ndarray:
    """The gradient's energy of each pixel, f64 [b h w].

    Args:
        forward: images -> logits f32 [b sum(heads)], each photo by itself.
        heads: the number of classes of each head.
        images: f32 [b 3 h w].
    """
    images = images.detach().requires_grad_(True)
    with torch.enable_grad():
        score = torch.stack([_margin(part) for part in forward(images).float().split(list(heads), 1)]).sum()
        (gradient,) = torch.autograd.grad(score, images)
    return gradient.double().square().sum(1).cpu().numpy()


def shares(energies: np.ndarray, crops: Crops) -> dict[str, np.ndarray]:
    """Each part's share of each photo's energy, f64 [n] by name: NaN where a photo has no gradient.

    Args:
        energies: f64 [n h w], of the size of the crops.
    """
    total = energies.sum((1, 2))
    return {
        name: np.divide(
            (energies * part).sum((1, 2)), total, out=np.full(len(total), np.nan), where=total > 0
        )
        for name, part in parts(crops).items()
    }


def measure(
    predictor: Predictor,
    count: int,
    read: Callable[[int, int], tuple[Crops, np.ndarray]],
    *,
    done: Callable[[int], object] = lambda _: None,
) -> dict[str, np.ndarray]:
    """Shares of the energy, and of the area (`area.NAME`), of `count` photos: f64 [count] by name.

    Args:
        read: (start, stop) -> the crops, and what the network is shown of them, u8 [n h w 3].
        done: told how many photos were done.
    """
    heads = [len(names) for names in predictor.heads]
    forward = _front(predictor)
    out: dict[str, list[np.ndarray]] = {}
    step = max(1, predictor.batch_size // 4)
    for start in range(0, count, step):
        crops, shown = read(start, min(start + step, count))
        images = torch.from_numpy(shown).to(predictor.device).permute(0, 3, 1, 2).float() / 255
        measured = shares(energy(forward, heads, images), crops)
        areas = {f"area.{name}": part.mean((1, 2)) for name, part in parts(crops).items()}
        for name, values in {**measured, **areas}.items():
            out.setdefault(name, []).append(values)
        done(len(shown))
    return {name: np.concatenate(values) for name, values in out.items()}


def _front(predictor: Predictor) -> Callable[[torch.Tensor], torch.Tensor]:
    """From images in 0..1 of the crops' size to logits: what is derived is all that the network does."""
    model = predictor.model
    network = model.network.eval()
    mean, std = (torch.tensor(v, device=predictor.device)[:, None, None] for v in (model.mean, model.std))

    def forward(images: torch.Tensor) -> torch.Tensor:
        if tuple(images.shape[2:]) != model.size:
            images = functional.interpolate(images, size=model.size, mode="area")
        return network((images - mean) / std)

    return forward


def _margin(logits: torch.Tensor) -> torch.Tensor:
    """The largest logit less the mean of the others, summed over photos (they don't influence each other)."""
    if logits.shape[1] == 1:
        return logits.sum()
    top = logits.max(1).values
    return (top - (logits.sum(1) - top) / (logits.shape[1] - 1)).sum()
