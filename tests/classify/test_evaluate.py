"""Evaluation: which rows count, and what is printed, drawn and written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from cache import Cache
from classify.evaluate import as_text, evaluate
from classify.run import Run, update
from configs.errors import UserError


def test_the_validation_rows_of_the_split_count(tiny_run: Run, tmp_path: Path) -> None:
    answer = evaluate(tiny_run, device="cpu", out=tmp_path)
    assert answer["n"] == 12
    assert answer["macro_f1"] == pytest.approx(tiny_run.info["result"]["macro_f1"])
    assert answer["ece"] == pytest.approx(tiny_run.info["result"]["ece"], abs=1e-6)
    assert json.loads((tmp_path / "evaluation.json").read_text()) == answer
    with Image.open(tmp_path / "confusion.png") as picture:
        assert picture.size[0] > 300


def test_another_cache_counts_whole(tiny_run: Run, make_cache: Callable[..., Cache], tmp_path: Path) -> None:
    other = make_cache(tmp_path / "other", persons=4, seed=9)
    answer = evaluate(tiny_run, other.path, device="cpu", out=tmp_path)
    assert (answer["rows"], answer["n"]) == ("all", 16)


def test_the_run_s_own_cache_elsewhere_is_still_its_own(
    tiny_run: Run, tiny_cache: Cache, tmp_path: Path
) -> None:
    shutil.copytree(tiny_cache.path, tmp_path / "moved")
    answer = evaluate(tiny_run, tmp_path / "moved", device="cpu", out=tmp_path)
    assert (answer["rows"], answer["n"]) == ("validation", 12)


def test_the_text_names_classes_and_counts(tiny_run: Run, tmp_path: Path) -> None:
    answer = evaluate(tiny_run, device="cpu", out=tmp_path)
    text = as_text(answer)
    assert "macro-F1" in text
    lines = text.splitlines()
    assert any(line.split()[0] == "a" and "8" in line.split() for line in lines if line)
    assert "true \\ predicted" in text


def test_mistakes_are_told(tiny_run: Run, make_cache: Callable[..., Cache], tmp_path: Path) -> None:
    strange = make_cache(tmp_path / "strange", labels=lambda i, _: {"kind": "abc"[i % 3]})
    with pytest.raises(UserError, match="classes that it doesn't list: c"):
        evaluate(tiny_run, strange.path, device="cpu", out=tmp_path)
    shutil.copytree(tiny_run.path, tmp_path / "run")
    lost = update(
        Run(tmp_path / "run", tiny_run.settings, tiny_run.recipe, tiny_run.info), cache=str(tmp_path / "x")
    )
    with pytest.raises(UserError, match=r"the run's cache is gone.*--cache"):
        evaluate(lost, device="cpu")
    with pytest.raises(UserError, match="not the data"):
        evaluate(update(lost, cache=str(strange.path)), device="cpu")
