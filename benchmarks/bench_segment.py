"""Segmentation: GrabCut against the naive one, the crop against the whole photo, our run against rembg's.

python -m benchmarks.bench_segment [--quick]

The first two need the real photos (FIGUREGROUND_SHARED, or ../shared); the third draws its own without them.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from PIL import Image

from benchmarks import u2net_form
from configs import terminal
from preprocess.crop import Frame, around, extract, inside, whole
from preprocess.detect import Face, detect, load_networks
from preprocess.grabcut import cut
from preprocess.mask import settle
from preprocess.photos import decode
from preprocess.segment import Segmenter, onnx, rembg

SHARED = Path(os.environ.get("FIGUREGROUND_SHARED", Path(__file__).parents[2] / "shared"))
SIZE = (224, 224)
Row = dict[str, Any]


@dataclass(frozen=True)
class Portrait:
    """A crop of 2.2 faces, the truth in it, where it is photo and not its drawn-out edge, and the photo."""

    rgb: np.ndarray
    truth: np.ndarray
    on_photo: np.ndarray
    face: Face
    photo: np.ndarray
    frame: Frame

    def iou(self, alpha: np.ndarray) -> float:
        """Of an alpha u8 [h w] with the truth, on the photo."""
        figure, truth = (alpha >= 128) & self.on_photo, self.truth & self.on_photo
        return float((figure & truth).sum() / max(1, (figure | truth).sum()))


def run(quick: bool) -> list[Row]:
    """The rows of this benchmark."""
    rows: list[Row] = []
    if (SHARED / "photos" / "people").is_dir():
        portraits = people()
        rows.append(against_naive(portraits))
        rows.append(against_whole(portraits, SHARED / "models" / "portrait_prisma.onnx"))
    return rows + [row for width in (1.0, 0.625) for row in against_rembg(quick, width)]


def people() -> list[Portrait]:
    """The real photos with one face."""
    paths = sorted((SHARED / "photos" / "people" / "images").glob("*.jpg"))
    photos = [decode(path.read_bytes()).rgb for path in paths]
    portraits = []
    for path, photo, faces in zip(
        paths, photos, detect(photos, load_networks("cpu"), min_face_px=20), strict=True
    ):
        if len(faces) != 1:
            continue
        frame = around(faces[0].box, size=SIZE)
        alpha = np.asarray(Image.open(path.parents[1] / "alpha" / f"{path.stem}.png").convert("L"))
        truth = extract(np.dstack([alpha] * 3), frame, size=SIZE)[..., 0] >= 128
        on_photo = inside(frame, photo.shape[1], photo.shape[0], size=SIZE)
        portraits.append(
            Portrait(
                rgb=extract(photo, frame, size=SIZE),
                truth=truth,
                on_photo=np.ones(SIZE, bool) if on_photo is None else on_photo,
                face=in_crop(faces[0], frame),
                photo=photo,
                frame=frame,
            )
        )
    return portraits


def in_crop(face: Face, frame: Frame) -> Face:
    """A face of the photo in px of the crop."""
    scale = SIZE[1] / frame.width
    start = (frame.cx - frame.width / 2, frame.cy - frame.height / 2)
    x0, y0, x1, y1 = ((v - start[i % 2]) * scale for i, v in enumerate(face.box))
    return Face(
        (x0, y0, x1, y1), face.score, tuple((v - start[i % 2]) * scale for i, v in enumerate(face.landmarks))
    )


def naive(rgb: np.ndarray, face: Face) -> np.ndarray:
    """GrabCut as one writes it down: at full size, seeded with an oval of the head and a torso; u8 [h w]."""
    seeds = np.full(rgb.shape[:2], cv2.GC_PR_BGD, np.uint8)
    x0, y0, x1, y1 = face.box
    wide, high, middle = x1 - x0, y1 - y0, (int((x0 + x1) / 2), int((y0 + y1) / 2))
    corner, end = (int(middle[0] - high), int(y1 + 0.1 * high)), (int(middle[0] + high), rgb.shape[0])
    cv2.rectangle(seeds, corner, end, cv2.GC_PR_FGD, -1)
    cv2.ellipse(seeds, middle, (int(0.8 * wide), int(0.8 * high)), 0, 0, 360, cv2.GC_PR_FGD, -1)
    cv2.ellipse(seeds, middle, (int(0.5 * wide), int(0.6 * high)), 0, 0, 360, cv2.GC_FGD, -1)
    cv2.setRNGSeed(0)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(rgb, seeds, (0, 0, 0, 0), models[0], models[1], 5, cv2.GC_INIT_WITH_MASK)
    return (seeds & 1) * np.uint8(255)


def against_naive(portraits: list[Portrait]) -> Row:
    """IoU and milliseconds a crop on one core, the two in turns."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    scores: dict[str, list[float]] = {"peer": [], "ours": []}
    times: dict[str, list[float]] = {"peer": [], "ours": []}
    ways: dict[str, Callable[[Portrait], np.ndarray]] = {
        "peer": lambda p: naive(p.rgb, p.face),
        "ours": lambda p: settle(cut(p.rgb, p.face), p.face).alpha,
    }
    for portrait in portraits:
        for name, way in ways.items():
            start = time.perf_counter()
            alpha = way(portrait)
            times[name].append((time.perf_counter() - start) * 1e3)
            scores[name].append(portrait.iou(alpha))
    cv2.setNumThreads(threads)
    halves = [statistics.mean(scores["ours"][i::2]) for i in (0, 1)]
    ms = {name: statistics.median(values) for name, values in times.items()}
    iou = {name: statistics.mean(values) for name, values in scores.items()}
    return {
        "what": "grabcut on crops of 224 px, one core, no download",
        "peer": f"naive GrabCut: IoU {iou['peer']:.3f}, {ms['peer']:.0f} ms",
        "ours": f"IoU {iou['ours']:.3f}, {ms['ours']:.0f} ms",
        "ratio": f"{ms['peer'] / ms['ours']:.1f}x",
        "target": "IoU >= 0.86 at <= 60 ms",
        "equal": "-",
        "note": f"{len(portraits)} photos with one face; halves {halves[0]:.3f}, {halves[1]:.3f}",
    }


def against_whole(portraits: list[Portrait], network: Path) -> Row:
    """One network's IoU in the crop: run on the crop, and run on the whole photo."""
    segmenter = onnx("cpu", path=str(network))
    crops = segmenter.cut(np.stack([p.rgb for p in portraits]), [p.face for p in portraits])
    ours = [p.iou(settle(alpha, p.face).alpha) for p, alpha in zip(portraits, crops, strict=True)]
    peer = []
    for portrait in portraits:
        alpha = segmenter.cut(portrait.photo[None], [None])[0]
        peer.append(portrait.iou(extract(np.dstack([alpha] * 3), portrait.frame, size=SIZE)[..., 0]))
    return {
        "what": "portrait network, the same file",
        "peer": f"on the whole photo: IoU {statistics.mean(peer):.3f}",
        "ours": f"on the crop, settled: IoU {statistics.mean(ours):.3f}",
        "ratio": f"{statistics.mean(ours) - statistics.mean(peer):+.3f}",
        "target": "IoU >= 0.88",
        "equal": "-",
        "note": f"{len(portraits)} photos with one face",
    }


# rembg --------------------------------------------------------------------------------------------------


def against_rembg(quick: bool, width: float) -> list[Row]:
    """A network as heavy as u2net, or narrower: photos in, masks out; rembg, we, and the bare session."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["U2NET_HOME"] = folder
        file = Path(folder) / "u2net_form.onnx"
        gmac = u2net_form.save(file, width=width)
        paths = photos(Path(folder), 4 if quick else 8)
        segmenter = rembg("cpu", model="u2net_custom", path=str(file))
        from rembg import new_session

        session = new_session("u2net_custom", model_path=str(file))
        agreement = agree(segmenter, session, paths[:3])
        bare = bare_runs(file)
        ways: dict[str, Callable[[], object]] = {
            "peer": lambda: as_rembg_p(session, paths, Path(folder)),
            "ours": lambda: as_we_do(segmenter, paths, Path(folder)),
            **{name: lambda run=run: run(len(paths)) for name, run in bare.items()},  # type: ignore[misc]
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(4):
            for name, way in ways.items():
                start = time.perf_counter()
                way()
                if turn:
                    times[name].append(time.perf_counter() - start)
    rate = {name: len(paths) / statistics.median(values) for name, values in times.items()}
    best = max(bare, key=lambda name: rate[name])
    common = {"equal": agreement, "note": f"320x320, {len(paths)} photos, start-up aside"}
    return [
        {
            "what": f"network in u2net's form, {gmac:.0f} GMAC: photos in, masks out",
            "peer": f"`rembg p`: {rate['peer']:.2f} photos/s",
            "ours": f"{rate['ours']:.2f} photos/s",
            "ratio": f"{rate['ours'] / rate['peer']:.2f}x",
            "target": "1.3x",
            **common,
        },
        {
            "what": f"the same {gmac:.0f} GMAC against onnxruntime alone, tensors in memory",
            "peer": f"{best}: {rate[best]:.2f} runs/s",
            "ours": f"{rate['ours']:.2f} photos/s",
            "ratio": f"{rate['ours'] / rate[best]:.2f}",
            "target": ">= 0.92",
            **common,
        },
    ]


def photos(folder: Path, count: int) -> list[Path]:
    """Real photos where there are some, drawn ones elsewhere."""
    real = sorted((SHARED / "photos" / "people" / "images").glob("*.jpg"))
    if not real:
        from preprocess.sample import draw

        draw(folder / "drawn", people=2)
        real = sorted((folder / "drawn" / "photos").rglob("*.jpg"))
    return real[:: max(1, len(real) // count)][:count]


def as_rembg_p(session: Any, paths: list[Path], out: Path) -> None:
    """What `rembg p` does with each file, once its session is open."""
    from rembg import remove

    for path in paths:
        (out / f"{path.stem}.png").write_bytes(remove(path.read_bytes(), session=session))


def as_we_do(segmenter: Segmenter, paths: list[Path], out: Path) -> None:
    """Decode, fit to the crop, segment, settle, and save crops and alphas."""
    crops = []
    for path in paths:
        rgb = decode(path.read_bytes()).rgb
        crops.append(extract(rgb, whole(rgb.shape[1], rgb.shape[0], size=SIZE), size=SIZE))
    raw = segmenter.cut(np.stack(crops), [None] * len(crops))
    np.save(out / "alpha.npy", np.stack([settle(alpha, None).alpha for alpha in raw]))
    np.save(out / "rgb.npy", np.stack(crops))


def agree(segmenter: Segmenter, session: Any, paths: list[Path]) -> str:
    """Our masks beside rembg's on the same crops."""
    from rembg import remove

    rgb = [decode(path.read_bytes()).rgb for path in paths]
    crops = np.stack([extract(each, whole(*each.shape[1::-1], size=SIZE), size=SIZE) for each in rgb])
    ours = segmenter.cut(crops, [None] * len(crops))
    theirs = np.stack(
        [np.asarray(remove(Image.fromarray(crop), only_mask=True, session=session)) for crop in crops]
    )
    apart = float(np.abs(ours.astype(float) - theirs).mean() / 255)
    a, b = ours >= 128, theirs >= 128
    return f"mean difference {apart:.4f}, IoU {(a & b).sum() / max(1, (a | b).sum()):.4f}"


def bare_runs(file: Path) -> dict[str, Callable[[int], object]]:
    """Ways to run the bare session n times on a tensor in memory; the fastest of them is the limit."""
    from concurrent.futures import ThreadPoolExecutor

    import onnxruntime

    feed = {"input": np.random.default_rng(0).random((1, 3, 320, 320), np.float32)}
    default = onnxruntime.InferenceSession(file)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    single = onnxruntime.InferenceSession(file, options)
    lanes = os.cpu_count() or 1

    def one_by_one(count: int) -> None:
        for _ in range(count):
            default.run(["d0"], feed)

    def side_by_side(count: int) -> None:
        with ThreadPoolExecutor(lanes) as pool:
            list(pool.map(lambda _: single.run(["d0"], feed), range(count)))

    return {"one by one, default threads": one_by_one, f"{lanes} side by side, a thread each": side_by_side}


@click.command()
@click.option("--quick", is_flag=True, help="Fewer photos and rounds.")
def main(quick: bool) -> None:
    """Print the table."""
    for row in run(quick):
        terminal.show("\n".join(f"{key:7} {value}" for key, value in row.items()) + "\n")


if __name__ == "__main__":
    sys.exit(terminal.run(main))
