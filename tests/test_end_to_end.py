"""The main road, by its commands: drawn photos -> caches -> gallery -> training -> scores -> predictions."""

from __future__ import annotations

import csv
import importlib
import json
from pathlib import Path

import numpy as np
import pytest

from cache.format import open as open_cache
from configs import terminal

TINY = (
    *("--set", "model.args={embed_dim: 16, depths: [1, 1], num_heads: [1, 2], window_size: 4}"),
    *("--set", "model.size=32", "--set", "targets.columns=[mask]", "--set", "split.folds=3"),
    *("--epochs", "2", "--seed", "1", "--device", "cpu"),
)


def run(program: str, *arguments: object) -> int:
    return terminal.run(importlib.import_module(f"{program}.cli").cli, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def road(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything but the predictions, made by the commands."""
    out = tmp_path_factory.mktemp("road")
    photos = drawn / "photos"
    assert run("preprocess", "build", photos, "--method", "none", "--size", 64, "--out", out / "none") == 0
    assert run("preprocess", "build", photos, "--method", "det", "--size", 64, "--out", out / "det") == 0
    grabcut = ("--segmenter", "grabcut", "--size", 64)
    assert run("preprocess", "build", photos, "--method", "seg", *grabcut, "--out", out / "seg") == 0
    assert run("preprocess", "gallery", out / "det", out / "seg", "--out", out / "gallery") == 0
    assert (
        run("classify", "train", out / "seg", "--config", "swin_small_cpu", *TINY, "--out", out / "run") == 0
    )
    assert run("classify", "evaluate", out / "run") == 0
    return out


def predictions(road: Path, source: Path, name: str) -> list[dict[str, str]]:
    assert run("classify", "predict", road / "run", source, "--out", road / name) == 0
    with (road / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_photo_has_a_record_in_every_cache(road: Path) -> None:
    keys = [[r.key for r in open_cache(road / name).records()] for name in ("none", "det", "seg")]
    assert keys[0] == keys[1] == keys[2]
    assert len(keys[0]) == 42


def test_the_run_says_how_it_was_made_and_how_it_scores(road: Path) -> None:
    recipe = json.loads((road / "run" / "cache_recipe.json").read_text())
    assert recipe["identity"] == open_cache(road / "seg").recipe.identity
    scores = json.loads((road / "run" / "evaluation.json").read_text())
    assert 0 <= scores["macro_f1"] <= 1
    assert (road / "run" / "confusion.png").stat().st_size > 1000
    with (road / "run" / "split.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    sides: dict[str, set[str]] = {}
    for row in rows:
        sides.setdefault(row["key"].split("/")[0], set()).add(row["set"])
    assert len(rows) == 42
    assert all(len(side) == 1 for side in sides.values()), "a person on both sides"


def test_raw_photos_are_predicted_as_the_cached_ones(road: Path, drawn: Path) -> None:
    raw = predictions(road, drawn / "photos", "raw.csv")
    cached = predictions(road, road / "seg", "cached.csv")
    assert [row["path"] for row in raw] == [row["path"] for row in cached]
    classes = [name for name in raw[0] if name not in ("path", "prediction")]
    assert set(classes) == {"mask", "incorrect", "normal"}
    for a, b in zip(raw, cached, strict=True):
        assert a["prediction"] == b["prediction"]
        assert np.allclose([float(a[c]) for c in classes], [float(b[c]) for c in classes], atol=1e-6)
        assert abs(sum(float(a[c]) for c in classes) - 1) < 1e-4


def test_the_gallery_lies_ready(road: Path) -> None:
    page = (road / "gallery" / "index.html").read_text("utf-8")
    assert "<html" in page
    assert "http" not in page.split("<body", 1)[1].replace("http://www.w3.org", "")


@pytest.mark.parametrize(
    ("program", "arguments", "words"),
    [
        ("classify", ["train", "{photos}", "--out", "{out}/r2"], "not a cache"),
        ("classify", ["train", "{out}/nothing", "--out", "{out}/r2"], "no such folder"),
        (
            "classify",
            ["train", "{out}/seg", "--out", "{out}/r2", "--set", "epoch=1"],
            'did you mean "epochs"?',
        ),
        ("classify", ["evaluate", "{photos}"], "run"),
        (
            "classify",
            ["predict", "{out}/run", "{out}/nothing", "--out", "{out}/p.csv"],
            "no such file or folder",
        ),
        ("preprocess", ["build", "{out}/det", "--method", "det", "--out", "{out}/r2"], "is a cache"),
        ("preprocess", ["gallery", "{photos}", "--out", "{out}/r2"], "not a cache"),
        ("cache", ["info", "{photos}"], "not a cache"),
        ("cache", ["verify", "{out}/nothing"], "no such folder"),
    ],
)
def test_the_wrong_thing_in_the_right_place_is_told(
    program: str,
    arguments: list[str],
    words: str,
    road: Path,
    drawn: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    filled = [a.format(out=road, photos=drawn / "photos") for a in arguments]
    capsys.readouterr()
    assert run(program, *filled) == 2
    error = capsys.readouterr().err.strip()
    assert words in error
    assert len(error.splitlines()) == 1
    assert not (road / "r2").exists()
    assert not (road / "p.csv").exists()
