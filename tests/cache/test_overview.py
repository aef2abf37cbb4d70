"""The overview: planted distributions, twins and sizes, and the page in a real browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cache.cli import cli
from cache.format import Recipe
from cache.overview import write
from cache.records import Record
from cache.writer import Listed, Writer
from configs import terminal
from configs.errors import UserError
from tests.browser import axe, axe_violations, chromium, opened

BAD = "<img src=x onerror=alert(1)>"
KEYS = [f"{BAD}.jpg", "'\"&한글.jpg", "</script><b>.jpg", *(f"p/{number}.jpg" for number in range(29))]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 photos of 16 persons, one unreadable; red ones and green ones; two twins of other labels."""
    path = tmp_path_factory.mktemp("overview") / "seg"
    rng = np.random.default_rng(0)
    records, crops = [], []
    for number, key in enumerate(KEYS):
        readable = number < 31
        side = 32 if number < 8 else 128
        good = {"width": 100, "height": 80, "rung": "plain", "crop": (50, 40, side, side, 0)}
        shape: dict[str, Any] = good if readable else {"status": "unreadable", "reason": "cut short"}
        shape["labels"] = {BAD: BAD if number % 2 else "green", "age": 20 + number}
        person = f"{BAD}{number // 2}"
        records.append(Record(key=key, group=person, sha256=str(number), bytes=1, mtime_ns=1, **shape))
        if readable:
            blobs = cv2.resize(
                rng.integers(0, 120, (6, 6, 3), np.uint8), (64, 64), interpolation=cv2.INTER_CUBIC
            )
            blobs[..., 0 if number % 2 else 1] = 230
            crops.append(blobs)
    crops[1] = crops[0][:, ::-1]
    alpha = np.full((31, 64, 64), 255, np.uint8)
    with Writer(path, Recipe({"method": "seg", "size": 64})) as writer:
        writer.commit(records, np.stack(crops), alpha)
        writer.finish([Listed(r.key, r.group, r.labels, r.bytes, r.mtime_ns) for r in records])
    return path


@pytest.fixture(scope="module")
def page(planted: Path) -> Path:
    return write(planted, planted.parent / "page")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


def test_mean_crops_have_the_colour_of_their_class(page: Path) -> None:
    for code, brightest in enumerate((0, 1)):  # sorted: "<img" before "green"
        mean = cv2.imread(str(page.parent / f"pictures/mean-0-{code}.jpg"))[..., ::-1].mean((0, 1))
        assert mean.argmax() == brightest


def test_the_command_writes_it_beside_the_figures(
    planted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert terminal.run(cli, ["info", str(planted), "--page", str(tmp_path / "page"), "--json"]) == 0
    assert Path(json.loads(capsys.readouterr().out)["page"]).is_file()
    with pytest.raises(UserError, match="lies in"):
        write(planted, planted / "page")


@pytest.mark.browser
def test_planted_things_are_told_and_names_are_text(browser: Any, page: Path) -> None:
    with opened(browser, page) as shown:
        text = shown.text_content("main")
        assert "2 of 31 photos, in 1 groups; in 1 of them the labels differ" in text
        assert "25.8 %" in text, "8 of 31 crops are enlarged"
        assert f"{BAD} differs" in text
        assert shown.locator("figcaption", has_text=KEYS[0]).count() == 1
        assert shown.locator("img[onerror], main b").count() == 0
        assert shown.locator("img").evaluate_all("(all) => all.every((one) => one.src.startsWith('file:'))")
        assert shown.get_by_role("img", name="Histogram of age").count() == 1


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_is_whole_and_every_scheme_is_accessible(browser: Any, page: Path, scheme: str) -> None:
    axe()
    viewport = {"width": 360, "height": 700}
    with opened(browser, page, color_scheme=scheme, viewport=viewport, bypass_csp=True) as shown:
        assert shown.evaluate("document.documentElement.scrollWidth") <= 360
        assert axe_violations(shown) == []
