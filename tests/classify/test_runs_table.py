"""All runs beside each other: order, differing settings, unfinished and damaged ones, and the page."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from classify.cli import cli
from classify.run import Run
from classify.runs_table import as_text, differing, find, flat, short_names, write
from configs import terminal
from configs.errors import UserError
from tests.browser import axe, axe_violations, chromium, opened

BAD = "<img src=x onerror=alert(1)>'\"&"


def change(path: Path, name: str, how: Callable[[dict[str, Any]], None]) -> None:
    values = json.loads((path / name).read_text())
    how(values)
    (path / name).write_text(json.dumps(values))


@pytest.fixture(scope="module")
def folder(tiny_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs: a middling one, a better one with another rate, one that was stopped, one that is damaged."""
    root = tmp_path_factory.mktemp("all") / "runs"
    for name in ("middling", f"deep/{BAD}", "stopped", "damaged"):
        shutil.copytree(tiny_run.path, root / name)
    change(root / "middling", "run.json", lambda run: run["result"].update(macro_f1=0.5))
    change(root / f"deep/{BAD}", "run.json", lambda run: run["result"].update(macro_f1=0.75))
    change(root / f"deep/{BAD}", "settings.json", lambda values: values["optimizer"].update(lr=0.5))
    change(root / "stopped", "run.json", lambda run: run.pop("result"))
    (root / "damaged" / "settings.json").write_text("{")
    (root / "middling" / "inner").mkdir()
    shutil.copy(tiny_run.path / "run.json", root / "middling" / "inner")
    return root


def test_the_best_is_first_and_no_run_is_lost(folder: Path) -> None:
    lines = find(folder)
    assert [line.path for line in lines] == [f"deep/{BAD}", "middling", "stopped", "damaged"]
    assert [bool(line.state) for line in lines] == [False, False, True, True]
    assert lines[2].state == "stopped after epoch 6"
    assert lines[2].scores["macro_f1"] == max(row["macro_f1"] for row in lines[2].history)
    assert differing(lines) == ["optimizer.lr"]
    text = as_text(lines).splitlines()
    assert text[0].split() == ["run", "macro_f1", "accuracy", "ece", "val_loss", "train_loss", "epoch", "lr"]
    assert "damaged: can't be read" in text[-1]


def test_a_run_itself_and_none(folder: Path, tmp_path: Path) -> None:
    assert [line.path for line in find(folder / "middling")] == ["middling"]
    with pytest.raises(UserError, match="no run in it"):
        find(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        find(tmp_path / "none")


def test_names_are_short_where_that_is_enough() -> None:
    assert flat({"a": {"b": {"c": 1}, "d": {}}, "e": [2]}) == {"a.b.c": 1, "e": [2]}
    names = [
        "optimizer.lr",
        "optimizer.name",
        "model.name",
        "loss.name",
        "split.gamma",
        "loss.gamma",
        "epoch",
    ]
    assert short_names(names) == {
        "optimizer.lr": "lr", "optimizer.name": "optimizer", "model.name": "model", "loss.name": "loss",
        "split.gamma": "split.gamma", "loss.gamma": "loss.gamma", "epoch": "epoch",
    }  # fmt: skip


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = ["--page", str(tmp_path / "page")]
    assert terminal.run(cli, ["runs", str(folder), *page]) == 0
    assert str(tmp_path / "page" / "index.html") in capsys.readouterr().out
    assert terminal.run(cli, ["runs", str(folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["differing"] == ["optimizer.lr"]
    assert [run["settings"].get("optimizer.lr") for run in told["runs"]] == [0.5, 0.003, 0.003, None]


@pytest.fixture(scope="module")
def page(folder: Path) -> Path:
    return write(find(folder), folder, folder.parent / "page")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.mark.browser
def test_columns_sort_and_a_run_stands_out(browser: Any, page: Path) -> None:
    with opened(browser, page) as shown:
        names = "(rows) => rows.map((row) => row.dataset.run)"
        rows = shown.locator("#runs tbody tr")
        assert rows.evaluate_all(names) == [f"deep/{BAD}", "middling", "stopped", "damaged"]
        shown.get_by_role("button", name="macro_f1").focus()
        shown.keyboard.press("Enter")
        first = rows.evaluate_all(names)
        shown.keyboard.press("Enter")
        assert rows.evaluate_all(names)[:3] == first[:3][::-1]
        assert rows.evaluate_all(names)[3] == first[3] == "damaged", "what is not known stays last"
        shown.hover("[data-run=middling]")
        bright = shown.locator("#curves .series:not(.faint)")
        assert set(bright.evaluate_all("(all) => all.map((one) => one.dataset.name)")) == {"middling"}
        assert shown.locator("img").count() == 0


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_is_whole_and_every_scheme_is_accessible(browser: Any, page: Path, scheme: str) -> None:
    axe()
    viewport = {"width": 360, "height": 700}
    with opened(browser, page, color_scheme=scheme, viewport=viewport, bypass_csp=True) as shown:
        shown.click("summary")
        assert shown.evaluate("document.documentElement.scrollWidth") <= 360
        assert axe_violations(shown) == []
