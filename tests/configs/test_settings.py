from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from configs.errors import UserError, did_you_mean
from configs.settings import Chosen, Settings, choice, load, preset_names, read_preset


def plain() -> None: ...


def focal(*, gamma: float = 2.0, alpha: float | None = None) -> None: ...


LOSSES = {"plain": plain, "focal": focal}


class Optim(Settings):
    lr: float = 1e-3
    weight_decay: float = 0.05


class Train(Settings):
    epochs: int = 10
    optim: Optim = Optim()
    loss: choice(LOSSES, default="focal") = Field("plain", validate_default=True)  # type: ignore[valid-type]


def load_train(*overrides: str, **more: Any) -> Train:
    return load(Train, command="classify train", overrides=overrides, **more)


def test_defaults_preset_flags_and_overrides_beat_each_other_in_this_order(tmp_path: Path) -> None:
    preset = tmp_path / "p.yaml"
    preset.write_text("command: classify train\nepochs: 20\noptim: {lr: 0.1, weight_decay: 0.2}\n")
    got = load_train("optim.lr=0.4", config=str(preset), flags={"optim.weight_decay": 0.3, "epochs": None})
    assert (got.epochs, got.optim.lr, got.optim.weight_decay) == (20, 0.4, 0.3)


@pytest.mark.parametrize(
    ("overrides", "name", "settings"),
    [
        ((), "plain", {}),
        (("loss=focal",), "focal", {"gamma": 2.0, "alpha": None}),
        (("loss=focal", "loss.gamma=3"), "focal", {"gamma": 3.0, "alpha": None}),
        (("loss.gamma=3",), "focal", {"gamma": 3.0, "alpha": None}),
        (("loss={name: focal, alpha: 0.5}",), "focal", {"gamma": 2.0, "alpha": 0.5}),
    ],
)
def test_a_function_is_chosen_with_its_settings(
    overrides: tuple[str, ...], name: str, settings: dict
) -> None:
    assert load_train(*overrides).loss == Chosen(name=name, settings=settings)


def test_dumped_settings_load_again() -> None:
    first = load_train("loss=focal", "loss.gamma=1.5")
    assert Train.model_validate(first.model_dump()) == first
    assert Train.model_validate_json(first.model_dump_json()) == first


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("epoch=3", ['"epoch" is not a setting', 'did you mean "epochs"?']),
        ("optim.weight_decy=0", ['did you mean "optim.weight_decay"?']),
        ("loss=focl", ["loss: 'focl' is not known", 'did you mean "focal"?']),
        ("loss={name: focal, gama: 1}", ["gama"]),
        ("epochs=many", ["epochs:", "many"]),
        ("epochs", ["--set epochs", "key=value"]),
        ("epochs=[1", ["not valid YAML"]),
    ],
)
def test_a_wrong_setting_is_named_with_the_near_one(override: str, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        load_train(override)
    assert all(word in str(caught.value) for word in words), caught.value


def test_all_errors_are_told_at_once() -> None:
    with pytest.raises(UserError) as caught:
        load_train("epoch=3", "optim.lr=fast", "loss=focl")
    assert all(word in str(caught.value) for word in ("epochs", "optim.lr", "focal"))


def test_a_preset_is_found_by_name_and_told_apart_by_command(tmp_path: Path) -> None:
    assert preset_names()
    with pytest.raises(UserError, match="no preset of that name"):
        read_preset("no_such_preset", "classify train")
    with pytest.raises(UserError, match="no such file"):
        read_preset(str(tmp_path / "none.yaml"), "classify train")
    (tmp_path / "b.yaml").write_text("command: preprocess build\nsize: 3\n")
    with pytest.raises(UserError, match="is for `preprocess build`"):
        read_preset(str(tmp_path / "b.yaml"), "classify train")


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_says_how_it_is_run(name: str) -> None:
    import configs.settings

    head = (configs.settings.PRESETS / f"{name}.yaml").read_text("utf-8").split("\ncommand:")[0]
    assert f"--config {name}" in head, "the header shows the command"


def test_did_you_mean() -> None:
    assert did_you_mean("sgment", ["segment", "crop"]) == '; did you mean "segment"?'
    assert did_you_mean("zzz", ["b", "a"]) == "; known: a, b"
    assert did_you_mean("zzz", []) == ""
