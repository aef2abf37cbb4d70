"""The commands, as a user meets them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from cache import Cache
from classify.cli import cli
from classify.run import Run
from configs import terminal


@pytest.fixture
def config(tmp_path: Path, tiny_settings: dict[str, Any]) -> str:
    """A YAML file of the tiny settings."""
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({"command": "classify train", **tiny_settings}))
    return str(path)


def test_train_evaluate_predict(
    tiny_cache: Cache, config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, cache = str(tmp_path / "run"), str(tiny_cache.path)
    assert terminal.run(cli, ["train", cache, "--out", out, "--config", config, "--set", "epochs=3"]) == 0
    shown = capsys.readouterr()
    assert f"classify evaluate {out}" in shown.out
    assert "epoch 3/3" in shown.err
    assert terminal.run(cli, ["evaluate", out, "--json", "--device", "cpu"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["n"] == 12
    assert Path(answer["files"]["picture"]).is_file()
    assert (
        terminal.run(cli, ["predict", out, cache, "--out", str(tmp_path / "p.csv"), "--device", "cpu"]) == 0
    )
    shown = capsys.readouterr()
    assert "48 photos predicted" in shown.out
    assert "1 without a prediction: cut short" in shown.out
    assert terminal.run(cli, ["train", cache, "--out", out, "--resume"]) == 0
    assert terminal.run(cli, ["train", cache, "--out", out, "--config", config]) == 2
    assert "not empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "{photos}", "--out", "{new}", "--config", "{config}"], "a folder of photos, not a cache"),
        (["train", "{none}", "--out", "{new}", "--config", "{config}"], "no such folder"),
        (["train", "{cache}", "--out", "{new}", "--set", "epoch=3"], 'did you mean "epochs"'),
        (["train", "{cache}", "--out", "{new}", "--set", "loss=focl"], 'did you mean "focal"'),
        (["train", "{cache}", "--out", "{new}", "--set", "loss.gama=2"], "gama"),
        (["train", "{cache}", "--out", "{new}", "--set", "optimizer.lr=fast"], "optimizer"),
        (
            ["train", "{cache}", "--out", "{new}", "--config", "swin_smal_cpu"],
            'did you mean "swin_small_cpu"',
        ),
        (["train", "{cache}", "--out", "{new}", "--config", "{config}", "--device", "gpu"], "--device gpu"),
        (["evaluate", "{photos}"], "not a run"),
        (["evaluate", "{run}", "--cache", "{photos}"], "a folder of photos, not a cache"),
        (["predict", "{run}", "{none}", "--out", "{new}"], "no such file or folder"),
        (["predict", "{run}", "{run}", "--out", "{new}"], "a run, where photos or a cache"),
        (["predict", "{none}", "{cache}", "--out", "{new}"], "no such folder"),
    ],
)
def test_a_mistake_ends_in_one_line_and_writes_nothing(
    tiny_cache: Cache,
    tiny_run: Run,
    config: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"\xff\xd8")
    places = {name: str(tmp_path / name) for name in ("photos", "none", "new")}
    places |= {"cache": str(tiny_cache.path), "run": str(tiny_run.path), "config": config}
    assert terminal.run(cli, [argument.format(**places) for argument in arguments]) == 2
    shown = capsys.readouterr()
    error = [line for line in shown.err.splitlines() if line.startswith("error:")]
    assert len(error) == 1
    assert message in error[0]
    assert shown.out == ""
    assert not (tmp_path / "new").exists()


def test_help_loads_no_torch() -> None:
    heavy = ("torch", "pyarrow", "numpy", "timm")
    code = f"import sys, classify.cli; sys.exit(any(name in sys.modules for name in {heavy}))"
    assert (
        subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode
        == 0
    )


@pytest.mark.parametrize("command", sorted(cli.commands))
def test_every_command_shows_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert terminal.run(cli, [command, "--help"]) == 0
    assert f"classify {command}" in capsys.readouterr().out.split("Usage:")[1].split("\n", 1)[1]


def test_settings_can_be_copied_into_a_preset(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert terminal.run(cli, ["settings", "--config", "swin_small_cpu", "--set", "loss=focal"]) == 0
    text = capsys.readouterr().out
    (tmp_path / "mine.yaml").write_text(text)
    assert terminal.run(cli, ["settings", "--config", str(tmp_path / "mine.yaml")]) == 0
    assert capsys.readouterr().out == text


def test_presets_are_listed_and_load(capsys: pytest.CaptureFixture[str]) -> None:
    assert terminal.run(cli, ["presets"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()[2:]]
    assert "swin_small_cpu" in names
    for name in names:
        assert terminal.run(cli, ["settings", "--config", name]) == 0
        assert "targets:" in capsys.readouterr().out
