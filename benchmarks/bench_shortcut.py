"""The shortcut report against the bare network on the same pictures: what part of its time is model time.

`python -m benchmarks.bench_shortcut [--quick]`: ours is `classify.shortcut.report` from the cache to the
page; the peer is the report's own number of forward passes and gradients by the same network, on one
resident batch. In turns, medians of neighbouring pairs.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

TARGET = 0.8
SMALL = {"embed_dim": 48, "depths": [2, 2, 4], "num_heads": [2, 4, 8], "window_size": 6}


def run(quick: bool) -> list[dict[str, Any]]:
    """One row: seconds of the bare network (peer) and of the report (ours)."""
    from classify.shortcut import report

    photos = 200 if quick else 2000
    side = 96 if quick else 224
    with tempfile.TemporaryDirectory() as folder:
        made = run_of_noise(Path(folder), photos, side)
        bare, ours, same = [], [], []
        for turn in range(3 if quick else 1):
            bare.append(timed(lambda: bare_passes(made, photos)))
            out = Path(folder) / f"page{turn}"
            told: list[Any] = []
            ours.append(timed(lambda out=out, told=told: told.append(report(made, None, out))))  # type: ignore[misc]
            same.append(told[0]["photos"] == photos and agrees(made, out))
    share = statistics.median(b / o for b, o in zip(bare, ours, strict=True))
    name = "a small Swin, 96 px" if quick else "Swin-T, 224 px"
    return [
        {
            "what": f"shortcut report of {photos:,} photos, {name}",
            "peer": round(statistics.median(bare), 1),
            "ours": round(statistics.median(ours), 1),
            "ratio": round(share, 3),
            "target": TARGET,
            "equal": all(same),
            "note": f"seconds; ratio: the part that is bare model time; {torch.get_num_threads()} threads",
        }
    ]


def run_of_noise(folder: Path, photos: int, side: int) -> Any:
    """A run with weights as drawn, all photos of its cache held out."""
    import cache as caches
    from cache import Listed, Recipe, Record, Writer
    from classify import run as runs
    from classify.data import describe, prepare, split_rows
    from classify.model import create
    from classify.settings import TrainSettings

    rng = np.random.default_rng(0)
    recipe = Recipe({"method": "seg", "size": side}, {"source": "noise"})
    with Writer(folder / "cache", recipe) as writer:
        records = [
            Record(
                key=f"{i:06}",
                group=f"p{i // 7}",
                labels={"kind": str(i // 7 % 6), "split": "val" if i else "train"},
                sha256=f"{i}",
                bytes=1,
                mtime_ns=1,
                width=side,
                height=side,
                rung="plain",
                box=(side / 3, side / 4, side / 1.5, side / 1.7),
                crop=(side / 2, side / 2, side, side, 0.0),
            )
            for i in range(photos + 1)
        ]
        for start in range(0, len(records), 200):
            part = records[start : start + 200]
            rgb = rng.integers(0, 256, (len(part), side, side, 3), np.uint8)
            disc = np.hypot(*(np.indices((side, side)) - side / 2)) < side / 3
            alpha = np.repeat((disc * 255).astype(np.uint8)[None], len(part), 0)
            writer.commit(part, rgb, alpha)
        writer.finish([Listed(r.key, r.group, r.labels, r.bytes, r.mtime_ns) for r in records])
    opened = caches.open(folder / "cache")
    settings = TrainSettings.model_validate(
        {
            "model": {"pretrained": False, **({"args": SMALL, "size": side} if side == 96 else {})},
            "targets": {"columns": ["kind"], "classes": {"kind": list("012345")}},
            "split": {"name": "column"},
            "view": "full",
            "allow_shared_persons": True,
        }
    )
    data = prepare(opened, settings)
    made = runs.create(runs.Run(folder / "run", data.settings, recipe, describe(opened, data)))
    runs.write_rows(made.path / "split.csv", split_rows(opened.table, data))
    model = create(settings.model, outputs=data.outputs, crop=opened.size)
    runs.write_tensors(made.path / "best.safetensors", model.network.state_dict(), {})
    return made


def bare_passes(made: Any, photos: int) -> None:
    """As many forward passes and gradients as the report takes, in its batches."""
    from classify import gradients
    from classify.mixtures import SHOWN
    from classify.predict import load

    predictor = load(made)
    network = predictor.model.network
    images = torch.rand(predictor.batch_size, 3, *predictor.model.size).contiguous(
        memory_format=torch.channels_last
    )
    with torch.inference_mode():
        for _ in SHOWN:
            for start in range(0, photos, predictor.batch_size):
                network(images[: min(predictor.batch_size, photos - start)]).softmax(1)
    few = torch.rand(predictor.batch_size // 4, 3, *predictor.model.size)
    for _ in range(-(-min(photos, gradients.PHOTOS) // len(few))):
        asked = few.clone().requires_grad_(True)
        torch.autograd.grad(network(asked).max(1).values.sum(), asked)


def agrees(made: Any, out: Path) -> bool:
    """Whether the report's answers on whole crops are those of `classify predict`."""
    from cache import open as open_cache
    from classify.evaluate import validation_rows
    from classify.predict import load, show

    opened = open_cache(Path(made.info["cache"]))
    rows = validation_rows(made, opened)[:40]
    expected = load(made)(show(opened.rgb(rows), opened.alpha(rows), "full", "black"))
    with np.load(out / "predictions/full.npz", allow_pickle=False) as kept:
        return bool(np.abs(kept["probabilities"][:40] - expected).max() < 1e-5)


def timed(work: Any) -> float:
    """Seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@click.command()
@click.option("--quick", is_flag=True, help="200 photos and a small network: a minute.")
def main(quick: bool) -> None:
    """Measure, and print."""
    for row in run(quick):
        click.echo(row)


if __name__ == "__main__":
    main()
