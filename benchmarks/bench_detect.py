"""Face detection against facenet-pytorch, on 512x384 photos, boxes compared.

python -m benchmarks.bench_detect [--quick]
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
import torch
from PIL import Image

from configs import terminal
from preprocess.detect import Face, Networks, detect, load_networks
from preprocess.ladder import find_faces
from preprocess.sample import draw
from tests.conftest import SHARED

MIN_FACE_PX = 20
PEER_BATCH = 32


def run(quick: bool) -> list[dict[str, Any]]:
    """All rows: real photos where they are, and a drawn set; on the CPU, and on a GPU where there is one."""
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    return [
        row
        for device in devices
        for name, photos in _sets(32 if quick else 128).items()
        for row in _rows(name, photos, device, repeats=3 if quick else 5)
    ]


def _sets(count: int) -> dict[str, list[np.ndarray]]:
    """Photos of one size, as the peer needs them in a batch: portrait 512x384 or landscape 384x512."""
    sets = {}
    real = sorted((SHARED / "photos" / "people" / "images").glob("*.jpg"))
    if real:
        sets["real"] = [np.array(Image.open(p).convert("RGB").resize((512, 384))) for p in real[:count]]
    with tempfile.TemporaryDirectory() as folder:
        draw(Path(folder) / "set", people=-(-count // 7), seed=0)
        paths = sorted((Path(folder) / "set" / "photos").glob("*/*.jpg"))[:count]
        sets["drawn"] = [np.array(Image.open(path).convert("RGB")) for path in paths]
    return sets


def _rows(name: str, photos: list[np.ndarray], device: str, repeats: int) -> list[dict[str, Any]]:
    from facenet_pytorch import MTCNN

    networks = load_networks(device)
    peer = MTCNN(keep_all=True, min_face_size=MIN_FACE_PX, select_largest=False, device=networks.device)

    def one_by_one() -> list[Any]:
        return [peer.detect(photo) for photo in photos]

    def batched() -> None:
        for start in range(0, len(photos), PEER_BATCH):
            peer.detect(photos[start : start + PEER_BATCH])

    def equal_settings() -> list[list[Face]]:
        return _in_batches(photos, networks)

    works = (one_by_one, batched, equal_settings, lambda: find_faces(photos, networks))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the peer's NumPy calls
        single, batch, ours, ladder = (1e3 * s / len(photos) for s in _in_turns(repeats, *works))
        share = agreement(one_by_one(), equal_settings())
    found = sum(each is not None for each in find_faces(photos, networks))
    where, best = f"{device}, {name}", min(single, batch)
    target = "3x" if device == "cpu" else "25x"
    peers = f"peer {single:.1f} one by one, {batch:.1f} in batches of {PEER_BATCH}"
    return [
        {
            "what": f"detection, min face {MIN_FACE_PX} px ({where}), ms a 512x384 photo",
            "peer": best,
            "ours": ours,
            "ratio": best / ours,
            "target": target,
            "equal": share >= 0.99,
            "note": f"{peers}; best boxes agree (IoU >= 0.95) on {share:.1%} of {len(photos)}",
        },
        {
            "what": f"detection, default settings with the ladder ({where}), ms a 512x384 photo",
            "peer": best,
            "ours": ladder,
            "ratio": best / ladder,
            "target": "-",
            "equal": None,
            "note": f"peer at min face {MIN_FACE_PX}; a face found on {found} of {len(photos)}",
        },
    ]


def _in_batches(photos: list[np.ndarray], networks: Networks, size: int = 64) -> list[list[Face]]:
    parts = [photos[start : start + size] for start in range(0, len(photos), size)]
    return [faces for part in parts for faces in detect(part, networks, min_face_px=MIN_FACE_PX)]


def agreement(peer: Sequence[Any], ours: Sequence[Sequence[Face]]) -> float:
    """The share of photos with equal best boxes (IoU >= 0.95), or with none on both sides."""
    same = 0
    for (boxes, scores), faces in zip(peer, ours, strict=True):
        if boxes is None or not faces:
            same += boxes is None and not faces
        else:
            best = [box for box, score in zip(boxes, scores, strict=True) if score == max(scores)]
            same += max(_overlap(faces[0].box, box) for box in best) >= 0.95
    return same / len(ours)


def _overlap(a: Sequence[float], b: Sequence[float]) -> float:
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(w, 0.0) * max(h, 0.0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def _in_turns(repeats: int, *works: Callable[[], Any]) -> list[float]:
    """Median seconds of each work, after one turn to warm up."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(repeats + 1):
        for work, own in zip(works, times, strict=True):
            begin = time.perf_counter()
            work()
            own.append(time.perf_counter() - begin)
    return [median(own[1:]) for own in times]


@click.command(name="bench_detect")
@click.option("--quick", is_flag=True, help="A quarter of the photos, fewer turns.")
def main(quick: bool) -> None:
    """Print the table."""
    terminal.show(terminal.table(run(quick)))


if __name__ == "__main__":
    main()
