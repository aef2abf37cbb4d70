"""`preprocess build --method det`, photos in and cache out, against facenet-pytorch as a user would write it.

    python -m benchmarks.bench_build [--quick]

The peer decodes with Pillow, detects with `MTCNN(min_face_size=20)` one by one or 32 at a time (the better
counts), crops with the same margin, and saves a JPEG. On drawn photos of 384x512 px, in turns, medians; the
detector's weights are loaded before the clock starts on both sides.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image

from benchmarks.__main__ import COLUMNS
from configs import terminal

Box = tuple[float, float, float, float]


def run(quick: bool) -> list[dict[str, Any]]:
    """The rows of this benchmark."""
    from preprocess.sample import draw

    with tempfile.TemporaryDirectory() as folder:
        draw(Path(folder) / "set", people=12 if quick else 60, seed=5)
        photos = sorted((Path(folder) / "set" / "photos").rglob("*.jpg"))
        return [measure(photos, Path(folder), rounds=3 if quick else 5)]


def measure(photos: Sequence[Path], work: Path, *, rounds: int) -> dict[str, Any]:
    """Both sides in turns, and whether their boxes agree."""
    times: dict[str, list[float]] = {"one": [], "batch": [], "ours": []}
    boxes: dict[str, dict[str, Box | None]] = {}
    peer, build = make_peer(), make_ours(photos)
    for _ in range(rounds):
        for name, act in (
            ("one", lambda out: peer(photos, out, 1)),
            ("batch", lambda out: peer(photos, out, 32)),
            ("ours", build),
        ):
            out = work / name
            begin = time.perf_counter()
            boxes[name] = act(out)
            times[name].append(time.perf_counter() - begin)
            shutil.rmtree(out)
    ms = {name: 1000 * statistics.median(t) / len(photos) for name, t in times.items()}
    theirs = min(ms["one"], ms["batch"])
    both = [(a, b) for key, a in boxes["one"].items() if a and (b := boxes["ours"].get(key))]
    agree = float(np.mean([iou(a, b) >= 0.5 for a, b in both]))
    return {
        "what": f"build --method det, default settings, {len(photos)} drawn photos",
        "peer": f"facenet-pytorch, {theirs:.1f} ms a photo",
        "ours": f"{ms['ours']:.1f} ms",
        "ratio": f"{theirs / ms['ours']:.1f}x",
        "target": "8x",
        "equal": f"{agree:.1%} of {len(both)} best boxes overlap by half (IoU)",
        "note": f"peer one by one {ms['one']:.1f} ms, 32 at a time {ms['batch']:.1f} ms",
    }


def make_peer() -> Callable[[Sequence[Path], Path, int], dict[str, Box | None]]:
    """Decode, detect, crop, save: facenet-pytorch's `MTCNN` in a loop."""
    from facenet_pytorch import MTCNN

    detector = MTCNN(min_face_size=20)

    def peer(photos: Sequence[Path], out: Path, batch: int) -> dict[str, Box | None]:
        out.mkdir()
        found: dict[str, Box | None] = {}
        for start in range(0, len(photos), batch):
            part = photos[start : start + batch]
            images = [Image.open(path).convert("RGB") for path in part]
            answers = detector.detect(images)[0] if batch > 1 else [detector.detect(images[0])[0]]
            for path, image, answer in zip(part, images, answers, strict=True):
                box = (
                    None if answer is None else tuple(float(v) for v in np.asarray(answer).reshape(-1, 4)[0])
                )
                found[f"{path.parent.name}/{path.name}"] = box
                save(
                    image, box or (0.0, 0.0, *map(float, image.size)), out / f"{path.parent.name}_{path.name}"
                )
        return found

    return peer


def save(image: Image.Image, box: Sequence[float], path: Path) -> None:
    """A square of 2.2 faces around the box, 224 px, as JPEG."""
    x, y, side = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, 1.1 * max(box[2] - box[0], box[3] - box[1])
    crop = image.crop((round(x - side), round(y - side), round(x + side), round(y + side)))
    crop.resize((224, 224), Image.Resampling.BILINEAR).save(path, quality=92)


def make_ours(photos: Sequence[Path]) -> Callable[[Path], dict[str, Box | None]]:
    """`preprocess build`, the function behind the command."""
    from preprocess.build import build
    from preprocess.cut import load_tools
    from preprocess.photos import list_sources
    from preprocess.settings import BuildSettings

    source = photos[0].parents[1]
    settings = BuildSettings(method="det")
    load_tools(settings, "cpu")

    def ours(out: Path) -> dict[str, Box | None]:
        from cache.format import open as open_cache

        build(list_sources(source), settings, out, source=source, device="cpu")
        return {record.key: record.box for record in open_cache(out).records()}

    return ours


def iou(a: Box, b: Box) -> float:
    """Of two boxes xyxy."""
    across = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    down = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return across * down / (areas - across * down)


@click.command()
@click.option("--quick", is_flag=True)
def main(quick: bool) -> None:
    """Print the rows."""
    terminal.show(terminal.table(run(quick), COLUMNS))


if __name__ == "__main__":
    sys.exit(main())
