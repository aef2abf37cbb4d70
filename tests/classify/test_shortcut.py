"""The shortcut report: definitions by hand, planted truths, resuming, what can't be told, the page."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from classify import answers as answering
from classify import gradients, shortcut_measures
from classify.cli import cli
from classify.mixtures import SHOWN, WITHOUT_ALPHA, Crops
from classify.run import Run
from classify.settings import TrainSettings
from classify.shortcut import as_text, report
from classify.subject import choose
from classify.train import train
from configs.errors import UserError
from tests.browser import axe_violations, chromium, opened
from tests.classify.planted import planted

HOW = {"rounds": 300, "seed": 0}
HOSTILE = '<img src=x onerror="alert(1)">'


@pytest.fixture(scope="module")
def fit_on(tmp_path_factory: pytest.TempPathFactory, tiny_settings: dict[str, Any]) -> Callable[..., Run]:
    """A run of a second or two on a planted cache, half of the persons held out."""

    def fit(cue: str, view: str, *, epochs: int = 8, **how: Any) -> Run:
        folder = tmp_path_factory.mktemp("planted")
        made = planted(folder / "cache", cue, **how)
        settings = {**tiny_settings, "epochs": epochs, "view": view, "split": {"name": "person", "folds": 2}}
        return train(made, TrainSettings.model_validate(settings), folder / "run")

    return fit


@pytest.fixture(scope="module")
def of_ground(fit_on: Callable[..., Run]) -> Run:
    """A run that can know the class from the ground alone."""
    return fit_on("ground", "full")


@pytest.fixture(scope="module")
def told(of_ground: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Its report."""
    out = tmp_path_factory.mktemp("pages") / "report"
    return out, report(of_ground, None, out)


def test_bg_gap_is_the_difference_by_hand() -> None:
    labels, persons = np.array([0, 0, 1, 1, 1]), np.array([0, 0, 1, 2, 2])
    subject: Any = SimpleNamespace(labels=labels, persons=persons)
    same = np.eye(2, dtype=np.float32)[[0, 0, 1, 1, 0]]  # right: 1 1 1 1 -
    rand = np.eye(2, dtype=np.float32)[[0, 1, 1, 0, 0]]  # right: 1 0 1 0 -
    same[4] = np.nan  # has no partner of its class: in neither
    found = shortcut_measures.bg_gap(subject, {"mixed-same": same, "mixed-rand": rand}, HOW)
    assert found is not None
    assert found["value"] == pytest.approx(1 - 2 / 4)
    assert found["photos"] == 4
    weights = np.random.default_rng(0).multinomial(3, np.full(3, 1 / 3), size=300)
    lost, count = weights @ np.array([1, 0, 1]), weights @ np.array([2, 1, 1])
    assert (found["low"], found["high"]) == pytest.approx(tuple(np.quantile(lost / count, [0.025, 0.975])))
    assert shortcut_measures.bg_gap(subject, {"full": same}, HOW) is None


def test_the_worst_group_is_the_one_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    # class 0: 12 photos on ground A all right, 10 on B, 2 right; class 1: 15 on A all right, 3 on B all wrong
    labels = np.repeat([0, 0, 1, 1], [12, 10, 15, 3])
    ground = np.repeat([0, 1, 0, 1], [12, 10, 15, 3])
    hits = np.concatenate([np.ones(12), np.ones(2), np.zeros(8), np.ones(15), np.zeros(3)]).astype(bool)
    rng = np.random.default_rng(0)
    monkeypatch.setattr(
        shortcut_measures, "ground_features", lambda _: ground[:, None] + rng.normal(0, 0.01, (40, 2))
    )
    subject: Any = SimpleNamespace(
        labels=labels, persons=np.arange(40), view="full",
        cache=SimpleNamespace(has_alpha=True), run=SimpleNamespace(classes=("old", "young")),
    )  # fmt: skip
    answers = {"full": np.eye(2, dtype=np.float32)[np.where(hits, labels, 1 - labels)]}
    found = shortcut_measures.groups(subject, answers, HOW)
    assert found is not None
    assert found["clusters"] == 2
    assert found["sizes"] == [27, 13]
    worst = found["worst"]  # the three photos of class 1 on B are too few to be called the worst
    assert (worst["class"], worst["cluster"], worst["photos"]) == ("old", 2, 10)
    assert worst["accuracy"]["value"] == pytest.approx(0.2)
    assert worst["below_rest"] == pytest.approx(0.8)
    assert worst["flagged"]
    assert [row["flagged"] for row in found["groups"]].count(True) == 1


def test_gradients_name_the_part_that_tells() -> None:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (6, 16, 16, 3), np.uint8)
    alpha = np.zeros((6, 16, 16), np.uint8)
    alpha[:, 4:16, 4:12] = 255
    crops = Crops(rgb, alpha, np.tile([4.0, 4.0, 12.0, 9.0], (6, 1)))
    images = torch.from_numpy(rgb).permute(0, 3, 1, 2).float() / 255
    region = {"ground": np.s_[:, :, :3], "face": np.s_[:, :, 5:9, 5:11], "clothes": np.s_[:, :, 10:, 5:11]}
    for name, place in region.items():
        found = gradients.energy(
            lambda x, place=place: torch.stack([x[place].sum((1, 2, 3)), x.sum((1, 2, 3)) * 0], 1),  # type: ignore[misc]
            [2],
            images,
            images.mean(0),
        )
        shares = gradients.shares(found, crops)
        assert shares[name] == pytest.approx(np.ones(6)), name
        assert sum(shares.values()) == pytest.approx(np.ones(6))


def test_a_class_told_by_the_ground_is_found(told: tuple[Path, dict[str, Any]]) -> None:
    _, result = told
    scores = {entry["view"]: entry for entry in result["views"]}
    assert list(scores) == list(SHOWN)
    assert result["photos"] == 48
    assert result["persons"] == 24
    assert result["bg_gap"]["flagged"]
    assert result["bg_gap"]["low"] > 0.3
    assert scores["background"]["accuracy"]["value"] > 0.9
    assert {name for name, entry in scores.items() if entry["flagged"]} <= {
        "full", "background", "mixed-same", "mixed-rand",
    }  # fmt: skip
    assert [f["region"] for f in result["findings"] if f["level"] in ("bad", "warn")] == ["ground"]
    assert "learnt the room" in result["findings"][0]["text"]
    assert result["groups"]["clusters"] == 3


def test_a_class_told_by_the_figure_owes_nothing_to_the_ground(
    fit_on: Callable[..., Run], tmp_path: Path
) -> None:
    run = fit_on("figure", "figure", epochs=12)
    result = report(run, None, tmp_path / "report")
    scores = {entry["view"]: entry for entry in result["views"]}
    assert scores["figure"]["accuracy"]["value"] > 0.9, "it did learn"
    assert result["bg_gap"]["low"] <= 0 <= result["bg_gap"]["high"]
    assert not scores["background"]["flagged"]
    assert not [f for f in result["findings"] if f["region"] == "ground" and f["level"] != "good"]


def test_without_alpha_it_says_what_is_missing(fit_on: Callable[..., Run], tmp_path: Path) -> None:
    result = report(fit_on("ground", "full", alpha=False, epochs=2), None, tmp_path / "report")
    assert [entry["view"] for entry in result["views"]] == list(WITHOUT_ALPHA)
    missing = {entry["what"] for entry in result["not_computed"]}
    assert missing >= {*set(SHOWN) - set(WITHOUT_ALPHA), "BG-gap", "worst group over backgrounds"}
    assert all("no alpha" in entry["why"] for entry in result["not_computed"])
    assert "--method seg" in as_text(result)
    page = (tmp_path / "report/index.html").read_text("utf-8")
    assert "Not computed" in page
    assert "BG-gap" in page


def test_with_one_person_a_class_there_is_no_gap(fit_on: Callable[..., Run], tmp_path: Path) -> None:
    result = report(fit_on("ground", "full", persons=6, epochs=2), None, tmp_path / "report")
    assert result["bg_gap"] is None
    assert "mixed-same" not in [entry["view"] for entry in result["views"]]
    assert any(entry["what"].startswith("mixed-same") for entry in result["not_computed"])
    assert any("BG-gap can't be told" in finding["text"] for finding in result["findings"])
    assert "NaN" not in (tmp_path / "report/shortcut.json").read_text("utf-8")


def test_rows_are_those_that_were_not_trained_on(of_ground: Run, tmp_path: Path) -> None:
    own = choose(of_ground, None)
    assert own.held_out
    assert len(own.rows) == 48
    cut_otherwise = planted(tmp_path / "again", "ground", seed=9)  # the same files, other pixels
    again = choose(of_ground, cut_otherwise.path)
    assert again.held_out
    assert again.rows.tolist() == own.rows.tolist()
    others = planted(tmp_path / "others", "ground", key="q{person:03}/{photo}.png", seed=4)
    assert len(choose(of_ground, others.path).rows) == 96


def test_it_goes_on_where_it_stopped(
    of_ground: Run, told: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "report"
    asked: list[str] = []
    stopped: list[str] = []
    answer = answering.answer

    def stops(subject: Any, predictor: Any, view: str, **how: Any) -> np.ndarray:
        asked.append(view)
        if view == "clothes" and not stopped:
            stopped.append(view)
            raise KeyboardInterrupt
        return answer(subject, predictor, view, **how)

    monkeypatch.setattr(answering, "answer", stops)
    with pytest.raises(KeyboardInterrupt):
        report(of_ground, None, out)
    assert not (out / "index.html").exists()
    (out / "predictions/figure.npz").write_bytes(b"PK\x03\x04 cut short")
    result = report(of_ground, None, out)
    order = list(SHOWN)
    cut = order.index("clothes") + 1
    assert asked[:cut] == order[:cut]
    assert asked[cut:] == ["figure", *order[cut - 1 :]]
    whole = told[1]
    assert {**result, "seconds": 0} == {**whole, "seconds": 0}
    asked.clear()
    report(of_ground, None, out)
    assert not asked
    report(of_ground, None, out, seed=1)
    assert asked == order, "another seed mixes otherwise"


def test_it_refuses_what_is_not_its_own(of_ground: Run, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("dear")
    with pytest.raises(UserError, match="holds other files"):
        report(of_ground, None, tmp_path / "mine")
    with pytest.raises(UserError, match="lies in the cache"):
        report(of_ground, None, Path(of_ground.info["cache"]) / "report")
    assert (tmp_path / "mine/letter.txt").read_text() == "dear"


def test_the_command(of_ground: Run, told: tuple[Path, dict[str, Any]]) -> None:
    out, result = told
    done = CliRunner().invoke(cli, ["shortcut", str(of_ground.path), "--out", str(out), "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert "learnt the room" in done.output
    assert "mixed-rand" in done.output
    kept = json.loads((out / "shortcut.json").read_text("utf-8"))
    assert kept["bg_gap"] == result["bg_gap"]


# --- the page


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.mark.browser
def test_the_page_opens_and_its_pictures_enlarge(browser: Any, told: tuple[Path, dict[str, Any]]) -> None:
    with opened(browser, told[0] / "index.html") as page:
        assert "learnt the room" in page.inner_text("#verdict + ul")
        assert page.locator(".views").first.locator("tbody tr").count() == len(SHOWN)
        assert page.locator(".example").count() == 6
        assert page.locator(".case").count() > 0
        page.evaluate("document.querySelectorAll('img[src]').forEach((i) => { i.loading = 'eager'; })")
        page.wait_for_function("[...document.querySelectorAll('img[src]')].every((i) => i.complete)")
        assert page.evaluate("[...document.querySelectorAll('img[src]')].every((i) => i.naturalWidth > 0)")
        first = page.locator(".example .picture").first
        first.focus()
        page.keyboard.press("Enter")
        shown = page.get_attribute("#large-picture", "src")
        page.keyboard.press("ArrowRight")
        assert page.get_attribute("#large-picture", "src") != shown
        page.keyboard.press("Escape")
        assert not page.evaluate("document.getElementById('large').open")


@pytest.mark.browser
def test_the_page_fits_a_phone(browser: Any, told: tuple[Path, dict[str, Any]]) -> None:
    for scheme in ("light", "dark"):
        how = {"viewport": {"width": 360, "height": 800}, "color_scheme": scheme}
        with opened(browser, told[0] / "index.html", **how) as page:
            assert page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_accessible(browser: Any, told: tuple[Path, dict[str, Any]], scheme: str) -> None:
    with opened(browser, told[0] / "index.html", bypass_csp=True, color_scheme=scheme) as page:
        assert not axe_violations(page)


@pytest.mark.browser
def test_hostile_names_stay_text(browser: Any, fit_on: Callable[..., Run], tmp_path: Path) -> None:
    names = (HOSTILE, "</script><script>alert(2)</script>", "{{ 7 * 7 }} & 'x'")
    key = 'p{person:03}/"><svg onload=alert(3)> {photo}.png'
    run = fit_on("ground", "full", names=names, key=key, epochs=2)
    report(run, None, tmp_path / "report")
    with opened(browser, tmp_path / "report/index.html") as page:
        assert HOSTILE in page.inner_text("main")
        assert "<svg onload" in page.inner_text("main")
        page.locator(".example .picture").first.click()
        assert page.locator("main script, main img[onerror]").count() == 0
