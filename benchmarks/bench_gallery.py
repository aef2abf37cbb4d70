"""The gallery: photos a second to build, folder size, time to the first picture, frame times of scrolling.

python -m benchmarks.bench_gallery [--quick]

Photos are drawn (300 different ones, repeated under other names); caches of 224 px, `det` and `seg`.
The peer is what a notebook does: Pillow, one photo after the other, three thumbnails each.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from PIL import Image, ImageDraw

from cache import format
from cache.format import Recipe
from cache.pages import kit
from cache.records import Record
from cache.writer import Listed, Writer
from configs import terminal
from preprocess.gallery import THUMB_PX, gallery

SIZE = 224
DRAWN = 300
HEIGHT, WIDTH = 512, 384
CROP = (192.0, 200.0, 300.0, 300.0, 0.0)
SHARD = 500


def draw_photo(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A figure before a room, with the grain of a camera: u8[512 384 3], alpha u8[512 384]."""
    room = cv2.resize(
        rng.integers(0, 256, (6, 5, 3), np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC
    )
    alpha = np.zeros((HEIGHT, WIDTH), np.uint8)
    cx, cy = rng.integers(170, 212, 2).tolist()
    cv2.ellipse(alpha, (cx, cy), (70, 95), 0, 0, 360, 255, -1, cv2.LINE_AA)
    cv2.ellipse(alpha, (cx, cy + 270), (150, 180), 0, 0, 360, 255, -1, cv2.LINE_AA)
    skin = cv2.resize(
        rng.integers(60, 230, (9, 7, 3), np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC
    )
    share = alpha[..., None] / 255
    grain = rng.normal(0, 6, (HEIGHT, WIDTH, 1))
    return (room * (1 - share) + skin * share + grain).clip(0, 255).astype(np.uint8), alpha


def make(folder: Path, count: int) -> list[Path]:
    """A folder of photos, and the caches `det` and `seg` of it."""
    rng = np.random.default_rng(0)
    files, crops, alphas = [], [], []
    for _ in range(DRAWN):
        rgb, alpha = draw_photo(rng)
        files.append(cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes())
        x0, y0 = int(CROP[0] - 150), int(CROP[1] - 150)
        crops.append(
            cv2.resize(rgb[y0 : y0 + 300, x0 : x0 + 300], (SIZE, SIZE), interpolation=cv2.INTER_AREA)
        )
        alphas.append(cv2.resize(alpha[y0 : y0 + 300, x0 : x0 + 300], (SIZE, SIZE)))
    records = [_record(number, files, rng) for number in range(count)]
    for number, record in enumerate(records):
        path = folder / "photos" / record.key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(files[number % DRAWN])
    for method in ("det", "seg"):
        recipe = Recipe({"method": method, "size": SIZE}, {"source": str(folder / "photos")})
        with Writer(folder / method, recipe) as writer:
            for start in range(0, count, SHARD):
                rows = [number % DRAWN for number in range(start, min(start + SHARD, count))]
                rgb, alpha = (np.array([images[row] for row in rows]) for images in (crops, alphas))
                writer.commit(records[start : start + SHARD], rgb, alpha if method == "seg" else None)
            writer.finish([Listed(r.key, r.group, r.labels, r.bytes, r.mtime_ns) for r in records])
    return [folder / "det", folder / "seg"]


def _record(number: int, files: list[bytes], rng: np.random.Generator) -> Record:
    person = f"{number // 7:06d}"
    seen = rng.random() > 0.03
    return Record(
        key=f"{person}_female_Asian_{20 + number % 50}/mask{number % 7}.jpg",
        group=person,
        labels={"mask": ("mask", "normal", "incorrect")[number % 3], "age": 20 + number % 50},
        sha256=f"{number:064x}",
        bytes=len(files[number % DRAWN]),
        mtime_ns=0,
        width=WIDTH,
        height=HEIGHT,
        box=(122, 95, 262, 285) if seen else None,
        landmarks=(160, 170, 224, 170, 192, 200, 165, 240, 219, 240) if seen else None,
        crop=CROP,
        score=float(rng.random()) if seen else None,
        rung="plain" if seen else "centre",
        status="ok" if seen else "no_face",
        reason="" if seen else "no face found",
        coverage=float(rng.random()),
    )


def peer(caches: list[Path], out: Path, count: int) -> float:
    """Seconds of Pillow for the first `count` photos: original with its box, crop, cut figure."""
    det, seg = (format.open(path) for path in caches)
    source = Path(det.recipe.made_with["source"])
    out.mkdir()
    started = time.perf_counter()
    for row in range(count):
        record = det.records([row])[0]
        photo = Image.open(source / record.key).convert("RGB")
        if record.box:
            ImageDraw.Draw(photo).rectangle(record.box, outline="yellow", width=3)
        photo.thumbnail((THUMB_PX, THUMB_PX))
        photo.save(out / f"{row}-photo.jpg", quality=80)
        crop = Image.fromarray(det.rgb([row])[0])
        figure = Image.composite(
            crop, Image.new("RGB", crop.size, "grey"), Image.fromarray(seg.alpha([row])[0])
        )
        for name, image in (("crop", crop), ("figure", figure)):
            image.thumbnail((THUMB_PX, THUMB_PX))
            image.save(out / f"{row}-{name}.jpg", quality=80)
    return time.perf_counter() - started


def tiles_agree(pages: Path, theirs: Path, count: int) -> bool:
    """Whether our crops look like the peer's: mean difference below 4 of 255."""
    import json

    text = (pages / "data" / "detail-00000.js").read_text()
    details = json.loads(text[text.index("[") : text.rindex(")")])
    worst = 0.0
    for row in range(min(count, len(details))):
        strip = np.asarray(Image.open(pages / "pictures" / "00000" / f"{row:02d}.jpg"), int)
        x, y, width, height = details[row]["cuts"][0]["tile"]
        other = np.asarray(Image.open(theirs / f"{row}-crop.jpg"), int)
        worst = max(worst, float(np.abs(strip[y : y + height, x : x + width] - other).mean()))
    return worst < 4


FIRST = """
new MutationObserver((_, watcher) => {
    if (!document.querySelector(".row[data-drawn]")) return;
    requestAnimationFrame(() => { window.firstPicture = performance.now(); });
    watcher.disconnect();
}).observe(document, { subtree: true, childList: true, attributes: true, attributeFilter: ["data-drawn"] });
"""
SCROLL = """
([step, frames]) => new Promise((done) => {
    const times = [];
    let undrawn = 0;
    let last = performance.now();
    function frame(now) {
        times.push(now - last);
        last = now;
        for (const row of document.querySelectorAll(".row")) {
            const box = row.getBoundingClientRect();
            if (box.bottom > 120 && box.top < innerHeight && row.dataset.drawn !== row.dataset.row) undrawn++;
        }
        if (times.length === frames) done([times.slice(1), undrawn]);
        else { scrollBy(0, step); requestAnimationFrame(frame); }
    }
    requestAnimationFrame(frame);
})
"""


def look(index: Path) -> dict[str, Any]:
    """Open and scroll in Chromium: ms to the first picture, frame times in ms: slow, fast, reordered."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"),
            args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
        )
        firsts = []
        for _ in range(3):
            page = browser.new_page(viewport={"width": 1366, "height": 860})
            page.add_init_script(FIRST)
            page.goto(index.as_uri())
            while not page.evaluate("window.firstPicture"):
                page.wait_for_timeout(20)
            firsts.append(page.evaluate("window.firstPicture"))
        found: dict[str, Any] = {"first": float(np.median(firsts))}
        for name, sort, step in (("slow", "source", 30), ("fast", "source", 400), ("random", "score", 100)):
            page.select_option("[name=sort]", sort)
            page.evaluate("document.getElementById('bar').scrollIntoView()")
            page.wait_for_timeout(500)
            times, undrawn = page.evaluate(SCROLL, [step, 240])
            found[name] = {"times": np.array(times), "undrawn": undrawn / 240}
        page.fill("[name=search]", "000123")
        started = time.perf_counter()
        while " of " not in page.text_content("#found"):
            page.wait_for_timeout(5)
        found["search"] = 1000 * (time.perf_counter() - started)
        browser.close()
    return found


def run(quick: bool) -> list[dict[str, Any]]:
    """All measurements; quick: 2,000 photos in place of 20,000."""
    count = 2_000 if quick else 20_000
    folder = Path(tempfile.mkdtemp(prefix="bench-gallery-"))
    try:
        caches = make(folder, count)
        sample = 200
        seconds: list[float] = []
        theirs: list[float] = []
        for turn in range(3 if quick else 1):
            theirs.append(peer(caches, folder / f"peer{turn}", sample) / sample)
            started, used = time.perf_counter(), time.process_time()
            index = gallery(caches, folder / "pages")
            seconds.append((time.perf_counter() - started) / count)
            cpu_ms = 1000 * (time.process_time() - used) / count
        rate, peer_rate = 1 / float(np.median(seconds)), 1 / float(np.median(theirs))
        same = tiles_agree(folder / "pages", folder / "peer0", 100)
        size = kit.size_of(folder / "pages")
        return [
            _row(f"gallery of {count:,}: build", f"{peer_rate:.0f} photos/s", f"{rate:.0f} photos/s",
                 f"{rate / peer_rate:.1f}", ">= 300 photos/s", same,
                 f"peer: Pillow, one thread; ours takes {cpu_ms:.1f} ms of CPU a photo"),
            _row(f"gallery of {count:,}: folder", "", kit.size_text(size), "", "", "",
                 f"{size / count / 1000:.1f} kB a photo: original, crop, alpha"),
            *_looks(count, index),
        ]  # fmt: skip
    finally:
        shutil.rmtree(folder)


def _looks(count: int, index: Path) -> list[dict[str, Any]]:
    what = f"gallery of {count:,}"
    if not Path(os.environ.get("CHROMIUM", "/usr/bin/chromium")).exists():
        return [_row(f"{what}: open and scroll", "", "not measured", "", "", "", "no Chromium")]
    seen = look(index)
    rows = [
        _row(f"{what}: first picture", "", f"{seen['first']:.0f} ms", "", "< 2,000 ms", "", "median of 3")
    ]
    for name, how in (
        ("slow", "30 px a frame"),
        ("fast", "400 px a frame"),
        ("random", "100 px a frame, by score"),
    ):
        times = seen[name]["times"]
        rows.append(
            _row(
                f"{what}: scroll, {how}",
                "",
                f"{np.median(times):.1f} ms a frame",
                "",
                "no stutter",
                "",
                f"95 %: {np.quantile(times, 0.95):.0f} ms, longest {times.max():.0f} ms; "
                f"rows in sight without picture: {seen[name]['undrawn']:.2f}",
            )
        )
    return [*rows, _row(f"{what}: search", "", f"{seen['search']:.0f} ms", "", "", "", "from the last key")]


def _row(
    what: str, peer: str, ours: str, ratio: str, target: str, equal: object, note: str
) -> dict[str, Any]:
    names = ("what", "peer", "ours", "ratio", "target", "equal", "note")
    return dict(zip(names, (what, peer, ours, ratio, target, equal, note), strict=True))


@click.command(name="bench_gallery")
@click.option("--quick", is_flag=True, help="2,000 photos in place of 20,000.")
def cli(quick: bool) -> None:
    """Measure the gallery."""
    terminal.show(terminal.table(run(quick)))


if __name__ == "__main__":
    sys.exit(terminal.run(cli))
