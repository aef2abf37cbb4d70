"""Differences of predictions: planted agreements, truth from a cache's labels, and the page."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cache import Cache
from classify.cli import cli
from classify.differences import as_text, compare, figures, names_of, write
from classify.targets import TargetSettings, labels_of, make_targets
from configs import terminal
from configs.errors import UserError
from tests.browser import axe, axe_violations, chromium, opened

BAD = "<img src=x onerror=alert(1)>"


def predictions(path: Path, rows: dict[str, str], classes: tuple[str, ...] = (), sure: float = 0.8) -> Path:
    rest = (1 - sure) / max(1, len(classes) - 1)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "prediction", *classes])
        for key, name in rows.items():
            writer.writerow(
                [key, name, *(("" if not name else sure if c == name else rest) for c in classes)]
            )
    return path


@pytest.fixture
def three(tiny_cache: Cache, tmp_path: Path) -> list[Path]:
    """Of 48 photos: one file is always right, one never, one on the first half; each lacks another row."""
    keys = tiny_cache.table["key"].to_pylist()[:48]
    truth = tiny_cache.labels("kind")
    right = dict(zip(keys, truth, strict=False))
    wrong = {key: "ab"[name == "a"] for key, name in right.items()}
    half = {key: (right if number < 24 else wrong)[key] for number, key in enumerate(keys)}
    half[keys[0]] = ""
    named = {"right": right, "wrong": wrong, "half": half}
    return [predictions(tmp_path / f"{name}.csv", rows, ("a", "b")) for name, rows in named.items()]


def test_planted_agreement_and_truth(three: list[Path], tiny_cache: Cache) -> None:
    told = figures(compare(three, tiny_cache))
    assert (told["photos"], told["left_out"], told["agree"]) == (47, 1, 0.0)
    agree = {(pair["a"], pair["b"]): pair["agree"] for pair in told["pairs"]}
    assert agree == {("right", "wrong"): 0, ("right", "half"): 23 / 47, ("wrong", "half"): 24 / 47}
    assert [round(file["accuracy"] * 47) for file in told["files"]] == [47, 0, 23]
    assert [file["alone_right"] for file in told["files"]] == [24, 0, 0]
    assert told["any_right"] == 1
    assert round(told["average"]["accuracy"] * 47) == 23, "two of three decide the mean"
    assert [row["differ"] for row in told["classes"]] == [row["photos"] for row in told["classes"]]
    assert json.loads(json.dumps(told)) == told
    assert "(their mean)" in as_text(told)


def test_without_a_cache_only_agreement_is_told(three: list[Path]) -> None:
    told = figures(compare(three[:2]))
    assert "labelled" not in told
    assert "accuracy" not in told["files"][0]
    assert "47" not in as_text(told)


def test_files_of_which_one_tells_no_probabilities_have_no_mean(
    three: list[Path], tiny_cache: Cache, tmp_path: Path
) -> None:
    rows = dict.fromkeys(tiny_cache.table["key"].to_pylist()[:48], "a")
    plain = predictions(tmp_path / "plain.csv", rows)
    found = compare([three[0], plain], tiny_cache)
    told = figures(found)
    assert "average" not in told
    assert told["files"][0]["accuracy"] == 1
    assert "of 2 files" not in write(found, told, tmp_path / "page", tiny_cache).read_text()


def test_other_programs_files_will_do(tmp_path: Path) -> None:
    one = predictions(tmp_path / "one.csv", {"x": "a", "y": "b"})
    other = predictions(tmp_path / "other.csv", {"y": "b", "x": "c"})
    found = compare([one, other])
    assert found.differs.tolist() == [True, False]
    assert figures(found)["agree"] == 0.5


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["path,prediction\nx,a\n"], "two or more"),
        (["path,prediction\nx,a\n", "path,label\nx,a\n"], "no column prediction"),
        (["path,prediction\nx,a\n", "path,prediction\ny,a\n"], "one set"),
        (["path,prediction\nx,a\n", "path,prediction\nx,\n"], "no prediction"),
        (["path,prediction\nx,a\n", "\x00\ufffe"], "no column|can't be read"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, texts: list[str], message: str) -> None:
    paths = [tmp_path / f"{number}.csv" for number in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    with pytest.raises(UserError, match=message):
        compare(paths)
    with pytest.raises(UserError, match="can't be read"):
        compare([tmp_path / "none.csv", tmp_path / "none2.csv"])


def test_names_tell_files_apart() -> None:
    assert names_of([Path("a/p.csv"), Path("b/p.csv")]) == ["a/p", "b/p"]
    assert names_of([Path("a/p.csv"), Path("b/q.csv")]) == ["p", "q"]
    assert names_of([Path("p.csv"), Path("p.csv")]) == ["p", "p (2)"]


def test_classes_are_found_again_from_their_names() -> None:
    rng = np.random.default_rng(0)
    table = pa.table(
        {
            "key": [str(number) for number in range(200)],
            "label_mask": pa.array([["on", "off", None][code] for code in rng.integers(0, 3, 200)]),
            "label_age": pa.array(rng.integers(18, 90, 200)),
            "label_shift": pa.array(["day"] * 200),
        }
    )
    settings = TargetSettings(columns=["mask", "age"], borders={"age": [30, 58, 59]})
    targets = make_targets(table, settings)
    found = labels_of(table, targets.classes)
    assert found is not None
    assert (found == targets.joint).all()
    assert labels_of(table, ["cat", "dog"]) is None
    twice = table.append_column("label_also", table["label_mask"])
    assert labels_of(twice, targets.classes) is None, "two labels would do: nobody can tell which was meant"


# --- the page


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.mark.browser
def test_the_page_filters_enlarges_and_walks(
    browser: Any, three: list[Path], tiny_cache: Cache, tmp_path: Path
) -> None:
    found = compare(three, tiny_cache)
    page = write(found, figures(found), tmp_path / "page", tiny_cache)
    with opened(browser, page) as shown:
        assert shown.text_content("#found") == "47 photos"
        assert "2 of" not in shown.text_content("#photos-more")
        shown.select_option("[name=right]", "0")
        assert shown.text_content("#found") == "24 photos", "only the first file is right"
        shown.select_option("[name=pair]", "1,2")
        assert shown.text_content("#found") == "0 photos"
        assert shown.is_visible("#photos-none")
        shown.click("[data-class] >> nth=0")
        first = shown.locator(".photo .name").first.text_content()
        shown.keyboard.press("j")
        shown.keyboard.press("Enter")
        assert shown.text_content("#photo-name") == first
        assert shown.locator("#photo .tile").count() == 2
        shown.keyboard.press("ArrowRight")
        assert shown.text_content("#photo-name") != first
        shown.keyboard.press("Escape")
        assert shown.evaluate("document.activeElement.className") == "open"
        shown.keyboard.press("/")
        shown.keyboard.type("P000/3")
        assert shown.text_content("#found") == "1 photos"


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_hostile_names_narrow_and_accessible(browser: Any, tmp_path: Path, scheme: str) -> None:
    axe()
    rows = {f"{BAD}.jpg": BAD, "'\"&한글.jpg": "b", "</script><b>": "b"}
    other = {key: "'\"&" if name == BAD else name for key, name in rows.items()}
    names = (f"1{BAD}.csv", f"2{BAD}.csv")
    paths = [predictions(tmp_path / name, each) for name, each in zip(names, (rows, other), strict=True)]
    found = compare(paths)
    page = write(found, figures(found), tmp_path / "page")
    viewport = {"width": 360, "height": 700}
    with opened(browser, page, color_scheme=scheme, viewport=viewport, bypass_csp=True) as shown:
        assert shown.locator(".photo .name").all_text_contents() == [f"{BAD}.jpg"]
        assert shown.locator(".photo .badge").all_text_contents() == [BAD, "'\"&"]
        assert shown.locator("img").count() == 0
        assert shown.evaluate("document.documentElement.scrollWidth") <= 360
        assert axe_violations(shown) == []
        shown.click(".open")
        assert axe_violations(shown) == []


def test_the_command(
    three: list[Path], tiny_cache: Cache, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    make_cache: Callable[..., Cache],
) -> None:  # fmt: skip
    files = list(map(str, three))
    out = str(tmp_path / "page")
    assert terminal.run(cli, ["diff", *files, "--cache", str(tiny_cache.path), "--out", out]) == 0
    assert "at least one is right on 100.0%" in capsys.readouterr().out
    other = make_cache(tmp_path / "other", persons=2, labels=lambda *_: {"kind": "zebra"})
    assert terminal.run(cli, ["diff", *files, "--cache", str(other.path), "--json"]) == 0
    assert "labelled" not in json.loads(capsys.readouterr().out)
    assert terminal.run(cli, ["diff", files[0]]) == 2
