"""Where a prediction comes from: a map of each photo, from the network's last feature map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def cam(network: Any, images: Tensor, sizes: Sequence[int]) -> Tensor:
    """Grad-CAM of the predicted classes (Selvaraju et al., "Grad-CAM", 2017, equations 1 and 2).

    Each feature is weighted by the mean of its gradient over the map; what is left above 0 speaks for
    the prediction. A network that pools by a class token alone sends no gradient to the last map; its
    photos get the size of the input's gradient in place of it.

    Args:
        network: a model of timm, in eval mode.
        images: f32 [b 3 h w], normalised, on the network's device.
        sizes: the number of classes of each head; the predicted one of each counts.

    Returns:
        f32 [b h w] on the CPU, 0 or more, of no particular scale.
    """
    images = images.detach().requires_grad_(True)
    with torch.enable_grad():
        features = network.forward_features(images)
        logits = network.forward_head(features)
        score = sum(part.max(1).values.sum() for part in logits.split(list(sizes), dim=1))
        to_features, to_images = torch.autograd.grad(score, (features, images))
    maps, weights = (_as_map(network, each.detach().float()) for each in (features, to_features))
    found = (maps * weights.mean((2, 3), keepdim=True)).sum(1, keepdim=True).relu()
    found = functional.interpolate(found, size=images.shape[2:], mode="bilinear")[:, 0]
    empty = found.amax((1, 2), keepdim=True) == 0
    return torch.where(empty, to_images.float().norm(dim=1), found).cpu()


def _as_map(network: Any, features: Tensor) -> Tensor:
    """Features of timm (maps, maps with channels last, tokens) as [b c h w]."""
    if features.ndim == 4:
        last = features.shape[1] != network.num_features
        return features.permute(0, 3, 1, 2) if last else features
    height, width = network.patch_embed.grid_size
    tokens = features[:, features.shape[1] - height * width :]
    return tokens.transpose(1, 2).reshape(len(features), -1, height, width)
