"""Maps of where a prediction comes from: they point at the part of a photo that decides."""

from __future__ import annotations

import pytest
import timm
import torch

from classify.cam import cam

SMALL = {"embed_dim": 24, "img_size": 64}
VIT = {**SMALL, "depth": 2, "num_heads": 2, "patch_size": 8}
NETWORKS = {
    "resnet18": {},
    "swin_tiny_patch4_window7_224": {**SMALL, "depths": [1, 1, 1], "num_heads": [1, 2, 4], "window_size": 4},
    "vit_tiny_patch16_224": VIT,
    "vit_base_patch16_clip_224": {**VIT, "global_pool": "avg"},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_kind_of_feature_map_gives_a_map_of_the_images_size(name: str) -> None:
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=5, **NETWORKS[name]).eval()
    found = cam(network, torch.randn(3, 3, 64, 64), [2, 3])
    assert found.shape == (3, 64, 64)
    assert found.dtype == torch.float32
    assert (found >= 0).all()
    assert (found.amax((1, 2)) > 0).all()
    assert all(parameter.grad is None for parameter in network.parameters()), "nothing is left in the network"


class Bright(torch.nn.Module):
    """Knows bright from dark, and nothing else: class 1 where something is bright."""

    num_features = 1

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(images.mean(1, keepdim=True), 8).relu()

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:
        mean = features.mean((1, 2, 3))
        return torch.stack([0.01 - mean, mean], dim=1)


def test_the_map_points_at_what_decides() -> None:
    images = torch.full((2, 3, 64, 64), -1.0)
    images[0, :, 8:16, 40:48] = 1
    images[1, :, 48:56, 8:16] = 1
    found = cam(Bright(), images, [2])
    for one, (row, column) in zip(found, ((12, 44), (52, 12)), strict=True):
        peak = divmod(int(one.argmax()), 64)
        assert abs(peak[0] - row) < 5
        assert abs(peak[1] - column) < 5
