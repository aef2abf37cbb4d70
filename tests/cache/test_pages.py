"""The page kit: folders that replace each other whole, data that stay data, the scripts in a browser."""

from __future__ import annotations

import csv
import http.server
import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.pages import kit
from cache.pages.summary import (
    beyond_chance,
    classes_of,
    histogram,
    last_build,
    miss_test,
    misses_by_class,
)
from configs.errors import UserError
from tests.browser import chromium, opened

HOSTILE = [
    "<img src=x onerror=alert(1)>.jpg",
    "'\"&한글.jpg",
    "</script><script>alert(2)</script>",
    "line\u2028separator\u2029.jpg",
    "{{ 7 * 7 }}{% raw %}",
    '=1+1,"quoted"',
    " padded ",
    "two\r\nlines",
    "__proto__",
    "half a pair \udcff",
]


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_script_values_are_plain_ascii_without_markup_and_come_back(value: object) -> None:
    text = kit.script_value(value)
    assert text.isascii()
    assert not set("<>&") & set(text)
    assert json.loads(text) == value


def test_script_values_refuse_what_no_reader_knows() -> None:
    with pytest.raises(ValueError, match="JSON"):
        kit.script_value([float("nan")])


def test_a_fresh_folder_replaces_the_old_one_whole(tmp_path: Path) -> None:
    out = tmp_path / "pages"
    for text in ("old", "new"):
        with kit.fresh_folder(out, kind="gallery") as folder:
            (folder / text).write_text(text)
            assert out.exists() == (text == "new"), "until the end the old pages stay"
    assert sorted(path.name for path in out.iterdir()) == ["new", kit.MARK]
    assert list(tmp_path.iterdir()) == [out]


def test_an_error_leaves_the_old_pages(tmp_path: Path) -> None:
    out = tmp_path / "pages"
    with kit.fresh_folder(out, kind="gallery") as folder:
        (folder / "old").touch()

    def fail() -> None:
        with kit.fresh_folder(out, kind="gallery") as folder:
            (folder / "new").touch()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (out / "old").exists()
    assert list(tmp_path.iterdir()) == [out]


def test_what_a_killed_run_left_is_cleared(tmp_path: Path) -> None:
    left = tmp_path / ".pages.building"
    left.mkdir()
    (left / kit.MARK).write_text('{"page": "gallery"}')
    with kit.fresh_folder(tmp_path / "pages", kind="gallery"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["pages"]


@pytest.mark.parametrize("mark", [None, "{}", "[]", "no json", '{"page": "errors"}'])
def test_a_folder_of_others_is_refused_and_kept(tmp_path: Path, mark: str | None) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    if mark is not None:
        (tmp_path / kit.MARK).write_text(mark)
    with pytest.raises(UserError, match="name an"), kit.fresh_folder(tmp_path, kind="gallery"):
        pass
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_a_file_and_a_link_are_refused_and_an_empty_folder_taken(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    for name in ("file", "link"):
        with pytest.raises(UserError, match="not a folder"), kit.fresh_folder(tmp_path / name, kind="x"):
            pass
    with kit.fresh_folder(tmp_path / "empty", kind="x"):
        pass
    assert (tmp_path / "empty" / kit.MARK).exists()


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (9949, "9.9 kB"), (290e6, "290 MB"), (2.5e9, "2.5 GB")],
)
def test_sizes_for_people(count: float, text: str) -> None:
    assert kit.size_text(count) == text


def test_shares_never_round_to_all_or_nothing() -> None:
    assert kit.share_text(9999, 10000) == "99.9 %"
    assert kit.share_text(1, 100000) == "0.1 %"
    assert [kit.share_text(part, 3) for part in (0, 3)] == ["0 %", "100 %"]
    assert kit.share_text(0, 0) == "-"


def test_misses_are_flagged_when_planted_and_not_by_chance() -> None:
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 3, 3000)
    alone = np.arange(3000)
    by_chance = rng.random(3000) < 0.05
    planted = rng.random(3000) < np.array([0.03, 0.03, 0.09])[codes]
    assert not beyond_chance(miss_test(codes, by_chance, alone), 3)
    assert beyond_chance(miss_test(codes, planted, alone), 3)


def test_persons_missed_as_a_whole_are_not_taken_for_a_difference_of_classes() -> None:
    """Shuffled photo by photo, two missed persons of seven photos would look beyond chance every time."""
    persons = np.repeat(np.arange(60), 7)
    gender = np.repeat(np.arange(60) % 2, 7)
    missed = np.isin(persons, [2, 4])
    assert beyond_chance(miss_test(gender, missed, np.arange(420)), 1)
    assert not beyond_chance(miss_test(gender, missed, persons), 1)


def test_the_test_keeps_its_level() -> None:
    """Under chance alone, a probability below 0.1 comes in about one of ten cases."""
    rng = np.random.default_rng(2)
    low = 0
    for seed in range(200):
        codes, missed = rng.integers(0, 4, 400), rng.random(400) < 0.2
        low += (miss_test(codes, missed, np.arange(400), seed=seed) or 1) < 0.1
    assert 8 <= low <= 34  # 0.1 of 200, four standard deviations


def test_the_test_agrees_with_the_chi_square_distribution() -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy is not installed")
    rng = np.random.default_rng(3)
    for _ in range(5):
        codes, missed = rng.integers(0, 3, 5000), rng.random(5000) < 0.2
        table = [[np.sum(missed[codes == c]), np.sum(~missed[codes == c])] for c in range(3)]
        expected = stats.chi2_contingency(table, correction=False).pvalue
        assert miss_test(codes, missed, np.arange(5000)) == pytest.approx(expected, abs=0.03)


def test_nothing_to_compare_is_none() -> None:
    codes, nobody = np.array([0, 0, 1, 1]), np.zeros(4, bool)
    assert miss_test(codes, nobody, np.arange(4)) is None
    assert miss_test(codes, ~nobody, np.arange(4)) is None
    assert miss_test(codes * 0, np.array([True, False, False, False]), np.arange(4)) is None
    assert not beyond_chance(None, 1)


def test_classes_of_words_few_numbers_many_numbers_and_unknown() -> None:
    assert classes_of(["b", "a", None])[0] == ["a", "b", "unknown"]
    assert classes_of([10, 9, 10])[0] == ["9", "10"], "numbers in the order of numbers"
    names, codes = classes_of([*range(100), None])
    assert names == ["0 to 19", "20 to 39", "40 to 59", "60 to 79", "80 to 99", "unknown"]
    assert np.bincount(codes).tolist() == [20, 20, 20, 20, 20, 1]
    assert classes_of([None, None])[0] == ["unknown"]


def test_misses_are_counted_by_class() -> None:
    missed = np.array([True, False, True, True])
    found = misses_by_class("mask", ["a", "a", "b", "b"], missed, np.arange(4))
    assert [(c.name, c.photos, c.missed) for c in found.classes] == [("a", 2, 1), ("b", 2, 2)]


def test_histogram_counts_every_known_value_once() -> None:
    assert sum(histogram(np.array([0.0, 0.5, 1.0, np.nan]))) == 3


def test_the_last_build_that_did_something_counts(tmp_path: Path) -> None:
    assert last_build(tmp_path) is None
    lines = [
        {"new": 10, "seconds": {"total": 9.0}},
        {"new": 20, "seconds": {"decode": 1.0, "detect": 3.0, "total": 2.5}},
        {"new": 0, "seconds": {"total": 0.1}},
        {"else": 1},
    ]
    text = "\n".join(json.dumps(line) for line in lines) + '\n{"new": 5, "sec'
    (tmp_path / "builds.jsonl").write_text(text)
    assert last_build(tmp_path) == {"photos": 20, "seconds": 2.5, "stages": {"decode": 1.0, "detect": 3.0}}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def page(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("kit")
    kit.write_chunk(folder, "later", 3, HOSTILE)
    path = kit.write_page(folder, title=HOSTILE[0], template="base.html", data={"now": [HOSTILE, [1]]})
    with opened(browser, path) as page:
        yield page


@pytest.mark.browser
def test_data_arrive_as_they_were(page: Any) -> None:
    assert page.evaluate("Page.data.now") == [HOSTILE, [1]]
    assert page.evaluate("Page.chunk('later', 3)") == HOSTILE
    assert page.title() == HOSTILE[0]


@pytest.mark.browser
def test_a_chunk_that_is_not_there_is_an_error_to_catch(browser: Any, tmp_path: Path) -> None:
    path = kit.write_page(tmp_path, title="page", template="base.html")
    message = "Page.chunk('later', 4).catch((error) => error.message)"
    context = browser.new_context()
    page = context.new_page()  # the browser logs the missing file, as it should
    page.goto(path.as_uri())
    assert page.evaluate(message).endswith("later-00004.js can't be read")
    context.close()


@pytest.mark.browser
def test_elements_show_text_and_never_markup(page: Any) -> None:
    shown = page.evaluate(
        """(texts) => texts.map((text) => {
            const node = Page.el("p", { title: text }, text);
            document.body.append(node);
            return [node.textContent, node.title, node.childElementCount];
        })""",
        HOSTILE[:-1],
    )
    assert shown == [[text, text, 0] for text in HOSTILE[:-1]]


@pytest.mark.browser
def test_a_csv_is_read_back_unchanged(page: Any) -> None:
    rows = [["path", "reason"], *([text, ""] for text in HOSTILE[:-1])]
    text = page.evaluate("(rows) => Page.csv(rows)", rows)
    assert list(csv.reader(io.StringIO(text, newline=""))) == rows


@pytest.fixture
def listener() -> Iterator[tuple[str, list[str]]]:
    """A web server of our own: its address, and what it was asked for."""
    asked: list[str] = []

    class Note(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Note) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


@pytest.mark.browser
@pytest.mark.parametrize("unlocked", [False, True])
def test_what_slips_through_escaping_can_still_neither_run_nor_call(
    browser: Any, tmp_path: Path, listener: tuple[str, list[str]], unlocked: bool
) -> None:
    """The page's content security policy; without it (unlocked) the same markup does both."""
    path = kit.write_page(tmp_path, title="page", template="base.html")
    address, asked = listener
    context = browser.new_context(bypass_csp=unlocked)
    page = context.new_page()
    page.goto(path.as_uri())
    page.evaluate(
        """(address) => {
            document.body.innerHTML = '<img src="data:x" onerror="window.ran = true">'
                + `<img src="${address}/out">`;
        }""",
        address,
    )
    page.wait_for_timeout(300)
    assert (page.evaluate("window.ran"), asked) == ((True, ["/out"]) if unlocked else (None, []))
    context.close()
