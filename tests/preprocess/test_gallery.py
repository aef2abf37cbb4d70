"""The gallery: what it writes for drawn photos with known truth, and how it works in a real browser."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from cache.format import CacheError, Recipe
from cache.pages import kit
from cache.records import Record
from cache.writer import Listed, Writer
from configs.errors import UserError
from preprocess import gallery as gallery_module
from preprocess.compare import Cut, disagreement
from preprocess.gallery import gallery, join, open_columns
from preprocess.tiles import outline
from tests.browser import axe, axe_violations, chromium, opened

WIDTH, HEIGHT, SIZE = 120, 90, 64
CROP = (60.0, 45.0, 60.0, 60.0, 0.0)
GROUND, FIGURE = (200, 60, 40), (40, 60, 200)
HOSTILE = ["<img src=x onerror=alert(1)>.jpg", "'\"&한글.jpg", "</script><b>x.jpg", "=1+1,\u2028.jpg"]
PLAIN = [f"c/{number:02d}.jpg" for number in range(40)]


def disc(radius: float, cx: float = 32, cy: float = 32) -> np.ndarray:
    """u8[64 64]: 255 inside of a circle."""
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    return np.where((x - cx) ** 2 + (y - cy) ** 2 < radius**2, 255, 0).astype(np.uint8)


def photo() -> np.ndarray:
    """u8[90 120 3]: a round figure before a plain ground."""
    image = np.full((HEIGHT, WIDTH, 3), GROUND, np.uint8)
    image[15:75, 30:90][cv2.resize(disc(20), (60, 60)) > 127] = FIGURE
    return image


def record(key: str, **changes: Any) -> Record:
    given: dict[str, Any] = {
        "labels": {
            "mask": "yes" if "a/" in key else "no",
            "age": 30 + PLAIN.index(key) if key in PLAIN else len(key),
        },
        "group": key.split("/")[0] if "/" in key else None,
        "sha256": hashlib.sha256(key.encode()).hexdigest(),
        "bytes": 0,
        "mtime_ns": 0,
        "width": WIDTH,
        "height": HEIGHT,
        "box": (50, 35, 70, 55),
        "landmarks": (55, 42, 65, 42, 60, 46, 56, 50, 64, 50),
        "crop": CROP,
        "score": 0.995,
        "rung": "plain",
    }
    return Record(key=key, **{**given, **changes})


UNREADABLE = {
    "status": "unreadable", "reason": "damaged", "rung": "", "score": None, "box": None, "landmarks": None,
    "crop": None, "width": 0, "height": 0,
}  # fmt: skip
NO_FACE = {
    "status": "no_face",
    "reason": "none found",
    "rung": "centre",
    "score": None,
    "box": None,
    "landmarks": None,
}
Rows = list[tuple[Record, np.ndarray | None]]


def rows_of(
    *,
    seg: bool,
    keys: tuple[str, ...] = ("a/one.jpg", "a/two.jpg", "b/three.jpg", "b/four.jpg", "b/broken.jpg"),
) -> Rows:
    """The planted rows: one of each trouble, hostile names, and forty without trouble."""
    alpha = disc(20) if seg else None
    coverage = {"coverage": float(disc(20).mean() / 255)} if seg else {}
    one, two, three, four, broken = keys
    shifted = disc(20, cx=50) if seg else None
    full = {"status": "no_figure", "reason": "full", "coverage": 1.0} if seg else {}
    return [
        (record(one, **coverage), alpha),
        (record(two, rung="fine", score=0.9, **coverage), shifted),
        (record(three, **NO_FACE, **coverage), alpha),
        (record(four, score=0.8, **full), disc(99) if seg else None),
        (record(broken, **UNREADABLE), None),
        *((record(key, **coverage), alpha) for key in (*HOSTILE, *PLAIN)),
    ]


def write_cache(path: Path, source: Path, rows: Rows, method: str) -> Path:
    crops = np.ascontiguousarray(
        np.broadcast_to(cv2.resize(photo()[15:75, 30:90], (SIZE, SIZE)), (len(rows), SIZE, SIZE, 3))
    )
    crops = crops[[r.status != "unreadable" for r, _ in rows]]
    alphas = np.array([a for _, a in rows if a is not None]) if method == "seg" else None
    records = [r for r, _ in rows]
    with Writer(path, Recipe({"method": method, "size": SIZE}, {"source": str(source)})) as writer:
        writer.commit(records, crops, alphas)
        first = {r.key: r for r in reversed(records)}
        writer.finish(
            [Listed(r.key, r.group, r.labels, r.bytes, r.mtime_ns) for r in reversed(first.values())]
        )
        writer.log(new=len(rows), seconds={"decode": 0.1, "total": 0.5})
    return path


def write_photos(source: Path, rows: Rows) -> Rows:
    """Write each row's photo; the rows with their true sizes of file."""
    done = []
    data = cv2.imencode(".png", photo()[..., ::-1])[1].tobytes()
    for row, alpha in rows:
        path = source / row.key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        done.append((Record(**{**vars(row), "bytes": len(data)}), alpha))
    return done


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with `photos`, the caches `det` and `seg`, and the gallery of both, `pages`."""
    root = tmp_path_factory.mktemp("made")
    det, seg = (write_photos(root / "photos", rows_of(seg=seg)) for seg in (False, True))
    write_cache(root / "det", root / "photos", det, "det")
    write_cache(root / "seg", root / "photos", seg, "seg")
    assert gallery([root / "det", root / "seg"], root / "pages") == root / "pages" / "index.html"
    return root


def data_of(pages: Path, name: str, number: int = 0) -> Any:
    """A data script's value."""
    text = (pages / "data" / f"{name}-{number:05d}.js").read_text()
    return json.loads(text.removeprefix(f'Page.put("{name}",{number},').removesuffix(");\n"))


def tile_of(pages: Path, row: int, place: list[int]) -> np.ndarray:
    strip = np.asarray(Image.open(pages / "pictures" / f"{row // 100:05d}" / f"{row % 100:02d}.jpg"))
    x, y, width, height = place
    return strip[y : y + height, x : x + width]


def test_tiles_are_the_photo_the_crop_and_the_alpha(made: Path) -> None:
    detail = data_of(made / "pages", "detail")[0]
    det, seg = detail["cuts"]
    original = tile_of(made / "pages", 0, detail["original"])
    assert original.shape == (HEIGHT, WIDTH, 3), "small photos are not enlarged"
    assert np.abs(original.astype(int) - photo()).mean() < 4
    assert det["tile"] == seg["tile"], "the crop that both caches share is stored once"
    assert np.abs(tile_of(made / "pages", 0, seg["alpha"])[..., 0].astype(int) - disc(20)).mean() < 4


def test_tiles_shrink_to_the_size_asked_for(made: Path, tmp_path: Path) -> None:
    gallery([made / "seg"], tmp_path / "small", thumb_px=32)
    detail = data_of(tmp_path / "small", "detail")[0]
    assert detail["original"][2:] == [32, 24]
    assert detail["cuts"][0]["tile"][2:] == [32, 32]
    assert kit.size_of(tmp_path / "small" / "pictures") < kit.size_of(made / "pages" / "pictures")


def test_an_outline_runs_along_the_figure() -> None:
    (points,) = outline(disc(20))
    x, y = np.array(points).reshape(-1, 2).T / 1000 * SIZE
    assert np.abs(np.hypot(x - 32, y - 32) - 20).max() < 1.5
    (frame,) = outline(disc(99))
    assert {min(frame), max(frame)} <= {8, 992}, "a full mask is outlined along the crop's border pixels"
    assert outline(disc(0)) == []


def test_the_index_holds_what_the_records_say(made: Path) -> None:
    index, meta = data_of(made / "pages", "rows"), data_of(made / "pages", "meta")
    assert index["key"] == [r.key for r, _ in rows_of(seg=True)] == [r.key for r, _ in rows_of(seg=False)]
    det, seg = index["caches"]
    assert [meta["statuses"][code] for code in seg["status"][:5]] == [
        "ok",
        "ok",
        "no_face",
        "no_figure",
        "unreadable",
    ]
    assert [meta["statuses"][code] for code in det["status"][:5]] == [
        "ok",
        "ok",
        "no_face",
        "ok",
        "unreadable",
    ]
    assert seg["score"][:5] == [pytest.approx(0.995), pytest.approx(0.9), None, pytest.approx(0.8), None]
    assert seg["coverage"][3:5] == [1.0, None]
    assert set(det["coverage"]) == {None}
    labels = {label["name"]: of_row for label, of_row in zip(meta["labels"], index["labels"], strict=True)}
    assert set(labels) == {"mask", "age"}
    assert [meta["groups"][code] if code >= 0 else None for code in index["group"][:6]] == [
        "a",
        "a",
        "b",
        "b",
        "b",
        None,
    ]


def cut(
    *, box: Any = (50, 35, 70, 55), alpha: np.ndarray | None = None, crop: Any = CROP, rung: str = "plain"
) -> Cut:
    return Cut(record("k.jpg", box=box, crop=crop, rung=rung), np.zeros((SIZE, SIZE, 3), np.uint8), alpha)


def test_disagreement_of_equal_caches_is_none_and_of_nothing_to_compare_none() -> None:
    assert disagreement([cut(alpha=disc(30)), cut(alpha=disc(30))]) == (0.0, "")
    assert disagreement([cut()]) == (None, "")
    assert disagreement([cut(box=None), cut(box=None)]) == (None, "")


def test_disagreement_of_boxes_figures_and_a_missed_face() -> None:
    value, why = disagreement([cut(), cut(box=(60, 35, 80, 55))])
    assert (value, why) == (pytest.approx(2 / 3, abs=1e-3), "the face boxes differ")
    value, why = disagreement([cut(alpha=disc(30)), cut(alpha=disc(15))])
    assert (value, why) == (pytest.approx(1 - 15**2 / 30**2, abs=0.02), "the figures differ")
    value, why = disagreement([cut(), cut(alpha=disc(12, cx=52))])
    assert value is not None
    assert value > 0.9
    assert why == "the figure misses the face"
    guessed = [cut(rung="centre"), cut(alpha=disc(12, cx=52), rung="centre")]
    assert disagreement(guessed) == (0.0, ""), "a guessed box is no face to miss"


@pytest.mark.parametrize("angle", [0.0, 30.0, -90.0])
def test_figures_are_compared_in_the_photo_wherever_their_crops_lie(angle: float) -> None:
    """One figure in two frames, the second larger, moved and turned: drawn anew there, it agrees."""
    frame = (64.0, 42.0, 90.0, 80.0, angle)
    y, x = (np.mgrid[:SIZE, :SIZE] + 0.5) / SIZE - 0.5
    turn = np.radians(angle)
    px = frame[0] + np.cos(turn) * x * frame[2] - np.sin(turn) * y * frame[3]
    py = frame[1] + np.sin(turn) * x * frame[2] + np.cos(turn) * y * frame[3]
    radius = 20 * 60 / SIZE
    ellipse = ((px - 66) ** 2 + ((py - 45) * 1.5) ** 2 < radius**2) * np.uint8(255)
    y, x = (np.mgrid[:SIZE, :SIZE] + 0.5) * 60 / SIZE
    first = ((x + 30 - 66) ** 2 + ((y + 15 - 45) * 1.5) ** 2 < radius**2) * np.uint8(255)
    value, _ = disagreement([cut(alpha=first, box=None), cut(alpha=ellipse, crop=frame, box=None)])
    assert value is not None
    assert value < 0.1


def test_caches_are_joined_by_key_and_face_and_named_apart(tmp_path: Path) -> None:
    first = [(record("x.jpg"), None), (record("x.jpg", face=1), None), (record("y.jpg"), None)]
    second = [(record("y.jpg"), None), (record("z.jpg"), None)]
    for name, rows in (("one/det", first), ("two/det", second)):
        write_cache(tmp_path / name, tmp_path, rows, "det")
    columns = open_columns([tmp_path / "one/det", tmp_path / "two/det"], None)
    assert [column.name for column in columns] == ["one/det", "two/det"]
    assert join(columns) == [(0, -1), (1, -1), (2, 0), (-1, 1)]


def test_originals_that_are_missing_or_changed_are_told(made: Path, tmp_path: Path) -> None:
    page = gallery([made / "seg"], tmp_path / "pages", source=tmp_path)
    assert "only the crops are shown" in page.read_text()
    assert {one["state"] for one in data_of(tmp_path / "pages", "detail")} == {"missing"}
    (tmp_path / "photos/a").mkdir(parents=True)
    Image.fromarray(photo()[::2, ::2]).save(tmp_path / "photos/a/one.jpg")
    (tmp_path / "photos/a/two.jpg").write_bytes(b"no picture")
    gallery([made / "seg"], tmp_path / "pages", source=tmp_path / "photos")
    states = [one["state"] for one in data_of(tmp_path / "pages", "detail")]
    assert states[:3] == ["changed", "unreadable", "missing"]


def test_a_name_that_is_not_utf8_and_a_doubled_key_find_their_photos(tmp_path: Path) -> None:
    rows = [(record("odd\\xff.jpg"), None), (record("same.jpg~2"), None)]
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in (b"odd\xff.jpg", b"same.jpg"):
        Image.fromarray(photo()).save(tmp_path / "p.png")
        (photos / os.fsdecode(name)).write_bytes((tmp_path / "p.png").read_bytes())
    write_cache(tmp_path / "det", photos, rows, "det")
    gallery([tmp_path / "det"], tmp_path / "pages")
    assert all(one["original"] for one in data_of(tmp_path / "pages", "detail"))


def test_the_same_pages_whatever_the_threads(made: Path, tmp_path: Path) -> None:
    for jobs in (1, 4):
        gallery([made / "det", made / "seg"], tmp_path / str(jobs), jobs=jobs)
    files = [
        sorted(p.relative_to(tmp_path / j) for p in (tmp_path / j).rglob("*") if p.is_file()) for j in "14"
    ]
    assert files[0] == files[1]
    assert all((tmp_path / "1" / f).read_bytes() == (tmp_path / "4" / f).read_bytes() for f in files[0])


def test_users_mistakes_are_one_line_and_write_nothing(made: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least one cache"):
        gallery([], tmp_path / "pages")
    with pytest.raises(CacheError, match="photos"):
        gallery([made / "photos"], tmp_path / "pages")
    with pytest.raises(UserError, match="32 to 1024"):
        gallery([made / "det"], tmp_path / "pages", thumb_px=8)
    with pytest.raises(UserError, match="no such folder"):
        gallery([made / "det"], tmp_path / "pages", source=tmp_path / "nowhere")
    for inside in ("det/pages", "photos/pages"):
        with pytest.raises(UserError, match="outside of it"):
            gallery([made / "det"], made / inside)
    (tmp_path / "mine").touch()
    with pytest.raises(UserError, match="name an"):
        gallery([made / "det"], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_an_error_on_the_way_leaves_the_old_gallery(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "pages"
    before = gallery([made / "det"], out).read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gallery_module, "draw", full)
    with pytest.raises(OSError, match="No space"):
        gallery([made / "seg"], out)
    assert (out / "index.html").read_bytes() == before
    assert list(tmp_path.iterdir()) == [out]


def test_an_empty_cache_is_a_page_too(tmp_path: Path) -> None:
    with Writer(tmp_path / "det", Recipe({"method": "det", "size": SIZE})) as writer:
        writer.finish([])
    assert "0 photos" in gallery([tmp_path / "det"], tmp_path / "pages").read_text()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture
def page(browser: Any, made: Path) -> Iterator[Any]:
    with opened(browser, made / "pages" / "index.html", accept_downloads=True) as page:
        page.wait_for_selector(".row[data-drawn]")
        yield page


def names(page: Any) -> list[str]:
    """The names of the rows that exist, from the top."""
    return page.locator(".row .name").evaluate_all("(all) => all.map((one) => one.textContent)")


def settled(page: Any, ready: Callable[[], bool]) -> None:
    """Wait for what the page does a moment later."""
    for _ in range(100):
        if ready():
            return
        page.wait_for_timeout(20)
    assert ready()


def found(page: Any, text: str) -> None:
    settled(page, lambda: page.text_content("#found") == text)


def colour(page: Any, selector: str, x: float, y: float) -> tuple[int, ...]:
    """RGB of one point of an element as it is on the screen; x and y are shares of its size."""
    image = Image.open(io.BytesIO(page.locator(selector).first.screenshot())).convert("RGB")
    return image.getpixel((int(x * (image.width - 1)), int(y * (image.height - 1))))


def near(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return max(abs(a - b) for a, b in zip(one, other, strict=True)) < 30


@pytest.mark.browser
def test_it_opens_with_the_worst_first_and_only_what_is_in_sight(page: Any) -> None:
    assert names(page)[:3] == ["b/broken.jpg", "b/three.jpg", "b/four.jpg"]
    assert page.text_content("#found") == "49 photos"
    assert page.locator(".row").count() < 20
    page.keyboard.press("End")
    settled(page, lambda: names(page)[-1] == PLAIN[-1])
    assert page.locator(".row").count() < 20


@pytest.mark.browser
def test_hostile_names_are_text(page: Any) -> None:
    for name in HOSTILE:
        page.fill("[name=search]", name)
        settled(page, lambda name=name: names(page) == [name])
        page.click(".open")
        assert page.text_content("#zoom-name") == name
        page.keyboard.press("Escape")


FILTERS: list[tuple[dict[str, str], list[str]]] = [
    ({"label-1": "1"}, ["a/two.jpg", "a/one.jpg"]),
    ({"label-0-from": "64.5", "label-0-to": "66"}, ["c/35.jpg", "c/36.jpg"]),
    ({"person": "B"}, ["b/broken.jpg", "b/three.jpg", "b/four.jpg"]),
    ({"status": "no_figure"}, ["b/four.jpg"]),
    ({"status": "ok", "person": "b"}, ["b/four.jpg"]),
    ({"status": "ok", "person": "b", "cache": "1"}, []),
    ({"rung": "fine"}, ["a/two.jpg"]),
    ({"score-from": "0.7", "score-to": "0.92"}, ["b/four.jpg", "a/two.jpg"]),
    ({"coverage-from": "0.9"}, ["b/four.jpg"]),
    ({"disagreement": "0.3"}, ["a/two.jpg"]),
]


@pytest.mark.browser
def test_filters_and_search(page: Any) -> None:
    page.click("#filters-button")
    for fields, expected in FILTERS:
        for name, value in fields.items():
            field = page.locator(f"[name='{name}']")
            if field.evaluate("(one) => one.tagName") == "SELECT":
                field.select_option(value)
            else:
                field.fill(value)
        settled(page, lambda expected=expected: names(page) == expected)
        assert page.text_content("#found") == f"{len(expected)} of 49 photos"
        assert page.is_visible("#empty") == (not expected)
        page.click("#clear")
        found(page, "49 photos")
    page.fill("[name=search]", "B  fOUr")
    settled(page, lambda: names(page) == ["b/four.jpg"])


@pytest.mark.browser
def test_sorts(page: Any) -> None:
    first = {
        "score": ["b/three.jpg", "b/four.jpg", "a/two.jpg"],
        "coverage": ["b/four.jpg"],
        "disagreement": ["a/two.jpg"],
        "name": sorted(HOSTILE, key=lambda name: "'</=".index(name[0]) if name[0] in "'</=" else 9)[:1],
        "source": ["a/one.jpg", "a/two.jpg", "b/three.jpg", "b/four.jpg", "b/broken.jpg"],
    }
    for sort, expected in first.items():
        page.select_option("[name=sort]", sort)
        settled(page, lambda expected=expected: names(page)[: len(expected)] == expected)


@pytest.mark.browser
def test_a_figure_stands_on_the_ground_that_is_chosen(page: Any) -> None:
    page.fill("[name=search]", "c/00")
    found(page, "1 of 49 photos")
    for ground, rgb in (("green", (0, 177, 64)), ("white", (255, 255, 255)), ("black", (0, 0, 0))):
        page.select_option("[name=ground]", ground)
        page.wait_for_selector(".row[data-drawn]")
        page.wait_for_timeout(60)
        # Three tiles side by side; the last one is the figure: a disc in its middle.
        assert near(colour(page, ".open canvas", 0.70, 0.1), rgb)
        assert near(colour(page, ".open canvas", 0.835, 0.5), FIGURE)
        assert near(colour(page, ".open canvas", 0.37, 0.1), GROUND), "a crop without alpha stays as it is"


@pytest.mark.browser
def test_enlarge_and_wipe(page: Any) -> None:
    page.fill("[name=search]", "c/00")
    found(page, "1 of 49 photos")
    page.select_option("[name=ground]", "green")
    page.click(".open")
    page.wait_for_selector("#zoom[data-drawn]")
    page.uncheck("#lines")
    for wipe, rgb in (("0", (0, 177, 64)), ("100", GROUND)):
        page.locator("#wipe").fill(wipe)
        page.wait_for_timeout(60)
        assert near(colour(page, "#stage", 0.5, 0.08), rgb), (
            "left of the edge the original, right of it the cut"
        )
        assert near(colour(page, "#stage", 0.52, 0.5), FIGURE)
    box = page.locator("#stage").bounding_box()
    page.mouse.move(box["x"] + 10, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 20)
    page.mouse.up()
    assert page.input_value("#wipe") == "25"
    page.check("#whole")
    page.wait_for_timeout(60)
    page.select_option("#right", "original")
    page.wait_for_timeout(60)
    assert near(colour(page, "#stage", 0.18, 0.5), GROUND), "all of the photo, from edge to edge"
    assert "120 x 90 px" in page.text_content("#facts")
    page.click("#zoom-close")
    assert not page.is_visible("#zoom")


@pytest.mark.browser
def test_lines_lie_where_the_face_and_the_figure_are(page: Any) -> None:
    page.fill("[name=search]", "c/00")
    found(page, "1 of 49 photos")
    image = Image.open(io.BytesIO(page.locator(".open canvas").screenshot())).convert("RGB")
    pixels = np.asarray(image)[:, : image.width // 3].astype(int)
    scale = (image.width / 3 - 6) / WIDTH
    yellow = np.argwhere(np.abs(pixels - (255, 225, 77)).max(axis=2) < 40) / scale - [15, 0]
    top, left = yellow.min(axis=0)
    bottom, right = yellow.max(axis=0)
    assert np.abs(np.array([left, top, right, bottom]) - [50, 35, 70, 55]).max() < 3
    cyan = np.argwhere(np.abs(pixels - (34, 199, 242)).max(axis=2) < 50) / scale - [15, 0]
    radius = np.hypot(*(cyan - [45, 60]).T)
    assert len(cyan) > 20
    assert np.abs(radius - 20 * 60 / SIZE).max() < 3


@pytest.mark.browser
def test_keyboard_alone(page: Any) -> None:
    """Search, walk, enlarge, wipe, mark, close: with keys only, and the focus comes back."""
    page.keyboard.press("/")
    page.keyboard.type("b/")
    found(page, "3 of 49 photos")
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.ariaLabel") == "Enlarge b/three.jpg"
    page.keyboard.press("Enter")
    page.wait_for_selector("#zoom[data-drawn]")
    page.keyboard.press("ArrowRight")
    assert page.input_value("#wipe") == "51"
    page.keyboard.press("ArrowDown")
    settled(page, lambda: page.text_content("#zoom-name") == "b/four.jpg")
    page.keyboard.press("x")
    assert page.is_checked("#zoom-mark")
    page.keyboard.press("k")
    settled(page, lambda: page.text_content("#zoom-name") == "b/three.jpg")
    assert not page.is_checked("#zoom-mark")
    page.keyboard.press("Escape")
    assert not page.is_visible("#zoom")
    assert page.evaluate("document.activeElement.ariaLabel") == "Enlarge b/three.jpg"
    page.keyboard.press("g")
    assert page.input_value("[name=ground]") == "black"
    assert page.text_content("#marked-count") == "1 marked as bad"


@pytest.mark.browser
def test_keys_go_on_from_what_is_in_sight_and_mark_nothing_unseen(page: Any) -> None:
    page.select_option("[name=sort]", "source")
    page.locator("body").click(position={"x": 2, "y": 2})
    page.evaluate("scrollTo(0, 4000)")
    settled(page, lambda: names(page)[0].startswith("c/"))
    before = page.evaluate("scrollY")
    page.keyboard.press("x")
    assert not page.is_visible("#marked")
    assert page.evaluate("scrollY") == before
    page.keyboard.press("x")
    assert page.text_content("#marked-count") == "1 marked as bad"
    assert page.evaluate("document.activeElement.ariaLabel").startswith("Enlarge c/")


@pytest.mark.browser
def test_marks_outlive_a_reload_and_are_saved_as_a_list_to_exclude(page: Any, tmp_path: Path) -> None:
    for name in HOSTILE:
        page.fill("[name=search]", name)
        settled(page, lambda name=name: names(page) == [name])
        page.check(".row input[type=checkbox]")
    page.click(".open")
    page.fill("#reason", 'half a "face", blurred')
    page.keyboard.press("Escape")
    page.reload()
    page.wait_for_selector(".row[data-drawn]")
    assert page.text_content("#marked-count") == "4 marked as bad"
    page.click("#filters-button")
    page.check("[name=marked]")
    found(page, "4 of 49 photos")
    with page.expect_download() as download:
        page.click("#download")
    download.value.save_as(tmp_path / "exclude.csv")
    with open(tmp_path / "exclude.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["path"] for row in rows} == set(HOSTILE)
    assert {row["path"]: row["reason"] for row in rows}[HOSTILE[-1]] == 'half a "face", blurred'
    page.click("#unmark")
    assert not page.is_visible("#marked")


@pytest.mark.browser
def test_the_summary_counts_and_leads_to_the_photos(page: Any) -> None:
    assert page.text_content(".caches tbody tr:nth-child(2) td:nth-child(2)").split() == [
        "93.9",
        "%",
        "46",
        "of",
        "49",
    ]
    assert "10.2 ms" in page.text_content(".caches")
    page.click(".summary summary")
    page.click("[data-value=no_figure]")
    found(page, "1 of 49 photos")
    assert names(page) == ["b/four.jpg"]
    page.click(".person")
    settled(page, lambda: page.input_value("[name=person]") == "b")


@pytest.mark.browser
@pytest.mark.parametrize("width", [360, 600, 820, 1920])
def test_any_width_shows_all_without_scrolling_sideways(browser: Any, made: Path, width: int) -> None:
    viewport = {"width": width, "height": 700}
    with opened(browser, made / "pages" / "index.html", viewport=viewport, device_scale_factor=2) as page:
        page.wait_for_selector(".row[data-drawn]")
        page.click("#filters-button")
        page.click(".summary summary")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        inside = "(all) => all.every((one) => one.getBoundingClientRect().right <= innerWidth)"
        assert page.locator(".row .open, .row .tick, .row .name").evaluate_all(inside)
        page.click("#filters-button")
        page.locator(".row .tick input").first.check()
        assert page.locator("#marked, #marked *:not(.hint)").evaluate_all(inside)
        assert page.locator("#marked-count").bounding_box()["x"] >= 12
        page.locator(".open").first.click()
        page.wait_for_selector("#zoom[data-drawn]")
        assert page.locator("#zoom button, #zoom select, #zoom input").evaluate_all(inside)
        assert page.locator("#stage").bounding_box()["height"] > 120


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_are_legible_and_accessible(browser: Any, made: Path, scheme: str) -> None:
    axe()
    path = made / "pages" / "index.html"
    with opened(browser, path, color_scheme=scheme, bypass_csp=True) as page:
        page.wait_for_selector(".row[data-drawn]")
        red, green, blue = colour(page, "body", 0.001, 0.001)
        assert (red + green + blue > 600) == (scheme == "light")
        page.click("#filters-button")
        page.click(".summary summary")
        page.check(".row input[type=checkbox] >> nth=0")
        assert axe_violations(page) == []
        page.evaluate("document.querySelector('.open').click()")
        page.wait_for_selector("#zoom[data-drawn]")
        assert axe_violations(page) == []


@pytest.mark.browser
def test_without_originals_the_crops_alone_are_shown(browser: Any, made: Path, tmp_path: Path) -> None:
    index = gallery([made / "seg"], tmp_path / "pages", source=tmp_path)
    with opened(browser, index) as page:
        page.wait_for_selector(".row[data-drawn]")
        page.fill("[name=search]", "c/00")
        found(page, "1 of 49 photos")
        assert near(colour(page, ".open canvas", 0.5, 0.5), FIGURE), "the first column is the figure"
        page.click(".open")
        page.wait_for_selector("#zoom[data-drawn]")
        page.locator("#wipe").fill("100")
        assert near(colour(page, "#stage", 0.5, 0.08), GROUND), "uncut, it is the crop"
        assert "only the crop is shown" in page.text_content("#facts")


@pytest.mark.browser
def test_hostile_labels_persons_and_cache_names_are_text(browser: Any, tmp_path: Path) -> None:
    bad = "<img src=x onerror=alert(1)>"
    rows = [
        (
            record(
                f"{i}.jpg", labels={bad: bad, "__proto__": str(i)}, group=bad, reason=bad, status="no_face"
            ),
            None,
        )
        for i in range(3)
    ]
    write_cache(tmp_path / bad, tmp_path / "none", rows, "det")
    with opened(browser, gallery([tmp_path / bad], tmp_path / "pages")) as page:
        page.wait_for_selector(".row[data-drawn]")
        assert page.title() == f"Gallery: {bad}"
        assert page.text_content(".labels").startswith(bad)
        page.click("#filters-button")
        page.click(".person")
        found(page, "3 photos")
        page.click(".open")
        page.wait_for_selector("#zoom[data-drawn]")
        assert bad in page.text_content("#facts")
        assert page.locator("img").count() == 0
