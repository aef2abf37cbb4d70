"""The run folder says how it was made, and its files are whole or absent."""

from __future__ import annotations

import csv
import json
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from cache import Cache
from classify import run as runs
from classify import state
from classify.run import Run
from classify.settings import TrainSettings
from configs.errors import UserError


def test_a_run_says_how_it_was_made(tiny_run: Run, tiny_cache: Cache) -> None:
    told = runs.open(tiny_run.path)
    assert told == tiny_run
    assert told.settings.targets.columns == ["kind"]
    assert told.settings.targets.classes == {"kind": ["a", "b"]}
    assert told.recipe == tiny_cache.recipe
    assert told.info["versions"]["torch"] == torch.__version__.split("+")[0]
    assert told.info["data"] == runs.data_hash(tiny_cache.table)
    assert told.info["photos"] == {"train": 36, "val": 12, "all": 49}
    assert {"command", "started", "finished", "python", "system", "result"} <= told.info.keys()
    with Image.open(tiny_run.path / "curves.png") as picture:
        assert picture.size[0] > 500


def test_settings_come_back_from_the_folder(tmp_path: Path, tiny_run: Run) -> None:
    nested = {"name": "one_of", "of": [{"name": "grey", "p": 1.0}, {"name": "blur", "sigma_px": [0.5, 1.0]}]}
    values = {"augment": [nested, "flip"], "loss": {"name": "focal", "gamma": 3}, "fill": ["mean", "swap"]}
    settings = TrainSettings.model_validate(values)
    runs.create(Run(tmp_path / "run", settings, tiny_run.recipe, {}))
    again = runs.open(tmp_path / "run").settings
    assert again == settings
    assert "0.5" in str(again.augment[0].settings["of"][1])


def test_the_split_is_a_file(tiny_run: Run, tiny_cache: Cache) -> None:
    with (tiny_run.path / "split.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["key"] for row in rows] == tiny_cache.table["key"].to_pylist()
    assert [row["set"] for row in rows].count("train") == 36
    assert [row["set"] for row in rows].count("val") == 12
    assert rows[-1]["set"] == "unused"
    assert all((row["fold"] == "0") == (row["set"] == "val") for row in rows[:-1])
    assert {row["class"] for row in rows[:4]} == {"a"}


def test_checkpoints_are_safetensors_with_json(tiny_run: Run) -> None:
    for name in ("best", "last"):
        raw = (tiny_run.path / f"{name}.safetensors").read_bytes()
        header = json.loads(raw[8 : 8 + struct.unpack("<Q", raw[:8])[0]])
        json.loads(header["__metadata__"]["state"])
    weights, row = runs.read_tensors(tiny_run.path / "best.safetensors")
    assert row == tiny_run.info["result"]
    assert weights["blocks.0.attn.qkv.weight"].shape == (72, 24)


@pytest.mark.parametrize("damage", ["cut", "empty", "text"])
def test_a_damaged_checkpoint_is_told(tiny_run: Run, tmp_path: Path, damage: str) -> None:
    raw = (tiny_run.path / "best.safetensors").read_bytes()
    path = tmp_path / "best.safetensors"
    path.write_bytes({"cut": raw[:-100], "empty": b"", "text": b"hello, this is text"}[damage])
    with pytest.raises(UserError, match=r"best\.safetensors: damaged"):
        runs.read_tensors(path)


def test_what_is_no_run_is_told(tmp_path: Path, tiny_run: Run) -> None:
    with pytest.raises(UserError, match="no such folder"):
        runs.open(tmp_path / "none")
    with pytest.raises(UserError, match=r"not a run \(no run.json"):
        runs.open(tmp_path)
    runs.write_json(tmp_path / "run.json", {**tiny_run.info, "format": 99})
    with pytest.raises(UserError, match="format 99"):
        runs.open(tmp_path)
    runs.write_json(tmp_path / "run.json", tiny_run.info)
    with pytest.raises(UserError, match=r"settings\.json: missing"):
        runs.open(tmp_path)
    (tmp_path / "settings.json").write_text('{"epochs": "many"}')
    runs.write_json(tmp_path / "cache_recipe.json", {"identity": tiny_run.recipe.identity, "made_with": {}})
    with pytest.raises(UserError, match="can't be read by this version"):
        runs.open(tmp_path)


def test_the_data_hash_follows_what_a_training_sees(
    tiny_cache: Cache, make_cache: Callable[..., Cache], tmp_path: Path
) -> None:
    table = tiny_cache.table
    again = make_cache(tmp_path / "again", unreadable=1)
    assert runs.data_hash(table) == runs.data_hash(again.table)
    for name, value in (("label_kind", "c"), ("group", "other"), ("pixels", "00"), ("key", "x.png")):
        place = table.column_names.index(name)
        changed = [*table[name].to_pylist()[:-1], value]
        other = table.set_column(place, name, pa.array(changed, table[name].type))
        assert runs.data_hash(other) != runs.data_hash(table), name
    box = table.column_names.index("score")
    told = table.set_column(box, "score", pa.array([0.5] * len(table), pa.float32()))
    assert runs.data_hash(told) == runs.data_hash(table)


def test_a_kill_while_writing_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    runs.write_tensors(path, {"a": torch.ones(3)}, {"epoch": 1})
    before = path.read_bytes()
    code = """
import os, signal, sys
from pathlib import Path
import torch
from classify import run as runs
write_bytes = Path.write_bytes
def half(self, data):
    write_bytes(self, data[: len(data) // 2])
    os.kill(os.getpid(), signal.SIGKILL)
Path.write_bytes = half
runs.write_tensors(Path(sys.argv[1]), {"a": torch.zeros(3)}, {"epoch": 2})
"""
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == before
    assert runs.read_tensors(path)[1] == {"epoch": 1}


def test_a_file_is_as_readable_as_any_other(tmp_path: Path) -> None:
    runs.write_tensors(tmp_path / "a.safetensors", {"a": torch.ones(1)}, {})
    (tmp_path / "b").write_text("")
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "b").stat().st_mode
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "b"]


def test_an_optimizer_s_state_survives_flattening() -> None:
    nested = {0: {"step": torch.tensor(3.0), "buffer": torch.arange(4)}, 12: {"count": 5}, "k": torch.ones(1)}
    tensors, plain = state.flatten(nested)
    assert sorted(tensors) == ["0/buffer", "0/step", "k"]
    assert plain == {"12/count": 5}
    back = state.unflatten({**tensors, **plain})
    assert back.keys() == nested.keys()
    assert torch.equal(back[0]["buffer"], torch.arange(4))
    assert back[12] == {"count": 5}


def test_rows_with_other_names_share_one_table(tmp_path: Path) -> None:
    runs.write_rows(tmp_path / "m.csv", [{"epoch": 1}, {"epoch": 2, "f1": np.float64(0.5)}])
    assert (tmp_path / "m.csv").read_text().splitlines() == ["epoch,f1", "1,", "2,0.5"]
