"""The errors page: what is chosen and counted, and how it works in a real browser."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cache import Cache, Listed, Recipe, Writer
from classify.cli import cli
from classify.errors_page import by_column, calibration, choose, curves, heated
from classify.evaluate import answers, evaluate
from classify.run import Run
from classify.settings import TrainSettings
from classify.train import train
from configs import terminal
from tests.browser import axe, axe_violations, chromium, opened
from tests.classify.conftest import record

A, B = "<b onclick=alert(1)>a", "'\"&é"
KEYS = [
    "<img src=x onerror=alert(1)>.jpg",
    "'\"&한글.jpg",
    "</script><script>alert(2)</script>",
    *(f"{n}.jpg" for n in range(57)),
]


def test_some_of_each_cell_then_the_worst() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], 100)
    probabilities = rng.dirichlet([1, 1, 1], 300)
    kept = choose(probabilities, truth, most=80)
    assert len(set(kept.tolist())) == 80
    cells = list(zip(truth[kept], probabilities[kept].argmax(1), strict=True))
    assert all(cells.count((a, b)) >= 6 for a in range(3) for b in range(3))
    wrong = np.flatnonzero(probabilities.argmax(1) != truth)
    gap = probabilities.max(1) - probabilities[np.arange(300), truth]
    worst = wrong[np.argsort(-gap[wrong])][:20]
    assert set(worst) <= set(kept), "the worst mistakes are there"
    assert kept[0] == worst[0]
    assert len(choose(probabilities, truth)) == 300


def test_a_calibrated_model_lies_on_the_diagonal() -> None:
    rng = np.random.default_rng(1)
    sure = rng.uniform(0.5, 1, 60_000)
    truth = (rng.random(60_000) > sure).astype(int)
    chart = calibration(np.stack([sure, 1 - sure], 1), truth)["calibration"]
    for point in chart["lines"][0]["points"]:
        x, y = map(float, point["title"].split(": ")[1].split(", "))
        assert abs(x - y) < 0.03


def test_heat_is_bright_where_the_map_is_high() -> None:
    image = np.full((64, 64, 3), 100, np.uint8)
    amount = np.zeros((64, 64), np.float32)
    amount[40:50, 10:20] = 1
    drawn = heated(image, amount)
    assert (drawn[:20, 40:] == 100).all(), "elsewhere it is the photo in grey"
    assert drawn[45, 15].sum() > 400
    assert (heated(image, amount * 0) == 100).all()


def test_columns_alone_are_sums_over_the_others(
    make_cache: Callable[..., Cache], tiny_settings: dict[str, Any], tmp_path: Path
) -> None:
    cache = make_cache(tmp_path / "two", labels=lambda i, _: {"kind": "ab"[i % 2], "age": 20 + 5 * i})
    targets = {"columns": ["kind", "age"], "borders": {"age": [50]}}
    settings = TrainSettings.model_validate({**tiny_settings, "targets": targets, "epochs": 1})
    run = train(cache, settings, tmp_path / "run")
    done = answers(run, device="cpu")
    kind, age = by_column(run, done)
    assert [row["class"] for row in age["classes"]] == ["<50", ">=50"]
    p = done.probabilities
    said = (p[:, 2] + p[:, 3] > p[:, 0] + p[:, 1]).astype(int)
    truth = (cache.labels("kind")[done.rows] == "b").astype(int)
    assert kind["accuracy"] == pytest.approx((said == truth).mean())


def test_curves_leave_out_what_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    assert curves(path) == []
    path.write_text("epoch,train_loss,val_loss,macro_f1.mask\n1,2.5,,0.1\n2,nan,1.5,0.2\n")
    found = {one["title"]: [line["name"] for line in one["chart"]["lines"]] for one in curves(path)}
    assert found == {"Loss": ["train_loss", "val_loss"], "Score": ["macro_f1.mask"]}


# --- the page


@pytest.fixture(scope="module")
def page(
    make_cache: Callable[..., Cache], tiny_settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Of 60 photos with hostile names, evaluated by a run whose classes have hostile names."""
    root = tmp_path_factory.mktemp("errors")
    taught = make_cache(root / "taught", labels=lambda i, _: {"kind": (A, B)[i % 2]})
    run = train(taught, TrainSettings.model_validate(tiny_settings), root / "run")
    rgb = np.random.default_rng(2).integers(0, 256, (60, 32, 32, 3), dtype=np.uint8)
    records = [record(key, None, {"kind": (A, B)[n % 2]}, "ok") for n, key in enumerate(KEYS)]
    with Writer(root / "hostile", Recipe({"method": "seg", "size": 32})) as writer:
        writer.commit(records, rgb, np.full((60, 32, 32), 200, np.uint8))
        writer.finish([Listed(r.key, r.group, r.labels, r.bytes, r.mtime_ns) for r in records])
    answer = evaluate(run, root / "hostile", device="cpu", out=root / "out", page=root / "page")
    return Path(answer["files"]["page"])


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


def found(shown: Any) -> int:
    return int(shown.text_content("#found").split()[0])


@pytest.mark.browser
def test_a_cell_shows_its_photos(browser: Any, page: Path) -> None:
    scores = json.loads((page.parents[1] / "out" / "evaluation.json").read_text())
    confusion = np.array(scores["confusion"])
    with opened(browser, page) as shown:
        assert found(shown) == confusion.sum() - confusion.trace(), "at first all mistakes"
        for truth, predicted in np.argwhere(confusion):
            cell = shown.locator(f"#matrix [data-truth='{truth}'][data-predicted='{predicted}']")
            cell.click()
            assert found(shown) == confusion[truth, predicted]
            assert cell.get_attribute("aria-pressed") == "true"
        cell.click()
        assert found(shown) == confusion.sum() - confusion.trace()
        shown.select_option("[name=kind]", "")
        assert found(shown) == 60
        shown.click("#photos-more")
        assert shown.locator(".photo").count() == 60


@pytest.mark.browser
def test_names_and_classes_are_text_and_photos_enlarge(browser: Any, page: Path) -> None:
    with opened(browser, page) as shown:
        shown.select_option("[name=kind]", "")
        for key in KEYS[:3]:
            shown.fill("[type=search]", key)
            assert shown.locator(".photo .name").all_text_contents() == [key]
        shown.click(".open")
        assert shown.text_content("#photo-name") == KEYS[2]
        assert shown.locator("#photo figcaption").count() == 3
        told = shown.locator("#photo .guesses th").all_text_contents()
        assert {name.replace(" (true)", "") for name in told} == {A, B}
        shares = [float(text.rstrip(" %")) for text in shown.locator("#photo td.number").all_text_contents()]
        assert sum(shares) == pytest.approx(100, abs=0.2)
        loaded = """(one) => new Promise((yes) => {
            const image = new Image();
            image.onload = () => yes([image.naturalWidth, image.naturalHeight]);
            image.src = getComputedStyle(one).backgroundImage.slice(5, -2);
        })"""
        assert shown.locator("#photo .tile").first.evaluate(loaded) == [96, 32]


@pytest.mark.browser
def test_keyboard_alone(browser: Any, page: Path) -> None:
    with opened(browser, page) as shown:
        shown.locator("#matrix button").first.focus()
        shown.keyboard.press("ArrowRight")
        shown.keyboard.press("ArrowDown")
        shown.keyboard.press("Enter")
        pressed = shown.locator("#matrix [aria-pressed=true]")
        assert pressed.count() == 1
        shown.keyboard.press("j")
        shown.keyboard.press("Enter")
        name = shown.text_content("#photo-name")
        shown.keyboard.press("ArrowRight")
        assert shown.text_content("#photo-name") != name
        shown.keyboard.press("Escape")
        assert not shown.is_visible("#photo")
        assert shown.evaluate("document.activeElement.ariaLabel").startswith("Enlarge ")


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_is_whole_and_every_scheme_is_accessible(browser: Any, page: Path, scheme: str) -> None:
    axe()
    viewport = {"width": 360, "height": 700}
    with opened(browser, page, color_scheme=scheme, viewport=viewport, bypass_csp=True) as shown:
        assert shown.evaluate("document.documentElement.scrollWidth") <= 360
        assert axe_violations(shown) == []
        shown.click(".open")
        assert axe_violations(shown) == []
        inside = "(all) => all.every((one) => one.getBoundingClientRect().right <= innerWidth)"
        assert shown.locator("#photo button, #photo figure").evaluate_all(inside)


def test_the_command_names_the_page(
    tiny_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "out"), "--page", str(tmp_path / "page"), "--device", "cpu"]
    assert terminal.run(cli, ["evaluate", str(tiny_run.path), *out]) == 0
    assert str(tmp_path / "page" / "index.html") in capsys.readouterr().out
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    again = ["evaluate", str(tiny_run.path), *out[:3], str(tmp_path / "mine"), "--device", "cpu"]
    assert terminal.run(cli, again) == 2
    assert (tmp_path / "mine" / "file").exists()
