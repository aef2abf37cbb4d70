"""Where a network looks: how much of what it makes of a photo comes from ground, face, clothes and the rest.

For each photo the score of the predicted class (its logit less the mean of the others', summed over
the heads) is derived by the input. A pixel's share in the score is the gradient times what sets the pixel
apart from the mean picture of these photos (gradient times input, here with the mean as the baseline; Ancona
et al., "Towards better understanding of gradient-based attribution methods", ICLR 2018); its energy is the
square. A ground that is the same in all photos, such as black, has no energy. It needs no attention and
no last feature map, so any network of timm will do. It is a hint and no proof: read it beside a part's share
of the area, and trust the mixed views first.
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
    forward: Callable[[torch.Tensor], torch.Tensor],
    heads: Sequence[int],
    images: torch.Tensor,
    baseline: torch.Tensor,
) -> np.ndarray:
    """The energy of each pixel, f64 [b h w].

    Args:
        forward: images -> logits f32 [b sum(heads)], each photo by itself.
        heads: the number of classes of each head.
        images: f32 [b 3 h w].
        baseline: f32 [3 h w], the picture that tells nothing.
    """
    images = images.detach().requires_grad_(True)
    with torch.enable_grad():
        score = torch.stack([_margin(part) for part in forward(images).float().split(list(heads), 1)]).sum()
        (gradient,) = torch.autograd.grad(score, images)
    return (gradient * (images.detach() - baseline)).double().sum(1).square().cpu().numpy()


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
    crops: Crops,
    shown: np.ndarray,
    *,
    done: Callable[[int], object] = lambda _: None,
) -> dict[str, np.ndarray]:
    """Shares of the energy, and of the area (`area.NAME`), of each photo: f64 [n] by name.

    Args:
        crops: n crops; with alpha: their parts are told apart by it.
        shown: u8 [n h w 3], what the network is shown of them.
        done: told how many photos were done.
    """
    heads = [len(names) for names in predictor.heads]
    forward = _front(predictor)
    baseline = torch.from_numpy(shown.mean(0, dtype=np.float64).astype(np.float32) / 255)
    baseline = baseline.to(predictor.device).permute(2, 0, 1)
    energies = np.zeros(shown.shape[:3])
    step = max(1, predictor.batch_size // 4)
    for start in range(0, len(shown), step):
        part = torch.from_numpy(shown[start : start + step]).to(predictor.device)
        images = part.permute(0, 3, 1, 2).float() / 255
        energies[start : start + step] = energy(forward, heads, images, baseline)
        done(len(part))
    areas = {f"area.{name}": part.mean((1, 2)) for name, part in parts(crops).items()}
    return {**shares(energies, crops), **areas}


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
