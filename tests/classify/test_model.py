"""Models by name, and weights from files of many kinds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from classify.model import Model, ModelSettings, create, read_weights
from configs.errors import UserError

SMALL_VIT: dict[str, Any] = {
    "name": "vit_tiny_patch16_224",
    "args": {"embed_dim": 24, "depth": 2, "num_heads": 2, "patch_size": 8},
}
SMALL_SWIN: dict[str, Any] = {
    "name": "swin_tiny_patch4_window7_224",
    "args": {"embed_dim": 12, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4},
}


def build(
    base: dict[str, Any] = SMALL_VIT, *, outputs: int = 3, crop: int = 32, seed: int = 0, **more: Any
) -> Model:
    """A small network with drawn weights, or those of `checkpoint`."""
    settings = ModelSettings(**{"pretrained": False, **base, **more})
    return create(settings, outputs=outputs, crop=(crop, crop), seed=seed)


def same(a: Model, b: Model, without: str = "") -> bool:
    """Whether two networks have equal weights, but for a module's."""
    x, y = a.network.state_dict(), b.network.state_dict()
    return all(torch.equal(x[name], y[name]) for name in x if not without or not name.startswith(without))


@pytest.mark.parametrize(
    ("base", "head"), [(SMALL_VIT, "head"), (SMALL_SWIN, "head.fc"), ({"name": "resnet10t"}, "fc")]
)
def test_any_timm_model_at_any_input_size(base: dict[str, Any], head: str) -> None:
    model = build(base, crop=48)
    model.network.eval()
    assert model.head == head
    assert model.size == (48, 48)
    assert len(model.mean) == len(model.std) == 3
    assert model.network(torch.zeros(2, 3, 48, 48)).shape == (2, 3)


def test_the_input_size_is_a_setting() -> None:
    assert build(crop=64, size=32).size == (32, 32)


def test_the_seed_decides_the_weights_and_leaves_the_rest_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert same(build(seed=1), build(seed=1))
    assert not same(build(seed=1), build(seed=2))
    assert torch.equal(before, torch.get_rng_state())


def test_dropout_reaches_the_network() -> None:
    network = build(drop=0.3, drop_path=0.2).network
    assert any(m.p == 0.3 for m in network.modules() if isinstance(m, torch.nn.Dropout))
    assert max(getattr(m, "drop_prob", 0.0) for m in network.modules()) == pytest.approx(0.2)


@pytest.mark.parametrize("base", [SMALL_VIT, SMALL_SWIN])
@pytest.mark.parametrize("kind", ["safetensors", "plain", "wrapped", "parallel"])
def test_weights_from_a_file(base: dict[str, Any], kind: str, tmp_path: Path) -> None:
    source = build(base, seed=1)
    state = source.network.state_dict()
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pt")
    if kind == "safetensors":
        save_file(state, path)
    elif kind == "plain":
        torch.save(state, path)
    elif kind == "wrapped":
        torch.save({"state_dict": state, "epoch": 7}, path)
    else:
        torch.save({"model": {f"module.{name}": value for name, value in state.items()}}, path)
    loaded = build(base, seed=2, checkpoint=path)
    assert same(source, loaded)
    assert loaded.notes == (f"weights from {path}",)


@pytest.mark.parametrize("base", [SMALL_VIT, SMALL_SWIN])
def test_a_file_for_another_class_count_gets_a_new_head(base: dict[str, Any], tmp_path: Path) -> None:
    source = build(base, seed=1, outputs=7)
    path = tmp_path / "w.safetensors"
    save_file(source.network.state_dict(), path)
    loaded, drawn = build(base, seed=2, outputs=3, checkpoint=path), build(base, seed=2, outputs=3)
    assert same(source, loaded, without=loaded.head)
    head = [name for name in drawn.network.state_dict() if name.startswith(loaded.head)]
    states = (loaded.network.state_dict(), drawn.network.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in head)
    assert loaded.notes[1] == "its head is for 7 classes: a new one is drawn for 3"


def test_weights_of_another_input_size_are_resampled(tmp_path: Path) -> None:
    source = build(SMALL_VIT, seed=1, crop=64)
    path = tmp_path / "w.safetensors"
    save_file(source.network.state_dict(), path)
    loaded = build(SMALL_VIT, seed=2, crop=32, checkpoint=path)
    assert same(source, loaded, without="pos_embed")


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(build(SMALL_SWIN).network.state_dict(), path)
    with pytest.raises(UserError, match="not weights of this model"):
        build(SMALL_VIT, checkpoint=path)
    wider = {**SMALL_VIT, "args": {**SMALL_VIT["args"], "embed_dim": 32}}
    save_file(build(SMALL_VIT).network.state_dict(), path)
    with pytest.raises(UserError, match="another shape"):
        build(wider, checkpoint=path)


def test_files_that_are_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_weights(tmp_path / "none.pt")
    for name in ("text.pt", "text.safetensors"):
        (tmp_path / name).write_text("hello, I am no checkpoint")
        with pytest.raises(UserError, match=f"{name}: not a"):
            read_weights(tmp_path / name)
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(UserError, match="no weights in it"):
        read_weights(tmp_path / "list.pt")


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"model": Path("/")}, tmp_path / "code.pt")
    with pytest.raises(UserError, match="not a file of plain torch weights"):
        read_weights(tmp_path / "code.pt")


def test_an_unknown_model_or_argument_is_named() -> None:
    with pytest.raises(UserError, match="no model 'swin_tiny_patch4_window7_22'; did you mean \"swin_"):
        build({"name": "swin_tiny_patch4_window7_22"})
    with pytest.raises(UserError, match=r"could not build vit_tiny_patch16_224.*embed_dims"):
        build({"name": "vit_tiny_patch16_224", "args": {"embed_dims": 3}})


def test_without_a_network_the_ways_out_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"could not be fetched.*model\.checkpoint=FILE.*pretrained=false"):
        build({"name": "vit_tiny_patch16_224", "pretrained": True}, crop=224)
