"""The training loop against the bare forward, backward and step on one resident batch.

`python -m benchmarks.bench_train [--quick] [--device cuda]`: ours is `classify.train.train_epoch` with
everything that a training does (gather, view, normalise, seeds, clipping, schedule, checks); the peer
is the same network, loss, clipping and optimiser on one batch that never changes. In turns, medians.
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

TARGET = 0.97
STEPS = 12


def run(quick: bool, device: str = "cpu") -> list[dict[str, Any]]:
    """One row a preset: photos a second of the bare step (peer) and of the loop (ours)."""
    cases = [("swin_small_cpu, 64 px, batch 16, figure", {"config": "swin_small_cpu"})]
    if not quick:
        big = {
            "overrides": ("model.pretrained=false", "batch_size=16" if device == "cpu" else "batch_size=128")
        }
        cases.append(("Swin-T, 224 px, figure", big))
    return [measure(what, quick, device, **given) for what, given in cases]


def measure(what: str, quick: bool, device: str, **given: Any) -> dict[str, Any]:
    """The row of one case."""
    from classify import processes
    from classify.data import prepare
    from classify.job import set_up
    from classify.run import Run
    from classify.settings import TrainSettings
    from classify.state import Progress
    from classify.train import train_epoch
    from configs.settings import load

    flags = {"device": device, "split": "all", "epochs": 100}
    settings = load(TrainSettings, command="classify train", flags=flags, **given)
    with tempfile.TemporaryDirectory() as folder:
        made_up = cache_of(Path(folder) / "cache", settings.batch_size * STEPS)
        fabric = processes.make(settings)
        data = prepare(made_up, settings)
        job = set_up(fabric, made_up, data)
        folder_of_run = Run(Path(folder), settings, made_up.recipe, {})
        progress = Progress()
        bare, loop = [], []
        batch = resident(job)
        for turn in range(6 if quick else 10):
            bare.append(timed(lambda: step_on(job, batch), device))
            progress.epoch, progress.step = turn, 0
            loop.append(timed(lambda: train_epoch(job, folder_of_run, progress), device))
        equal = same_step(job, batch)
    photos = settings.batch_size * STEPS
    peer, ours = (photos / statistics.median(times[1:]) for times in (bare, loop))
    # of neighbours in time: what else the machine does falls on both
    ratio = statistics.median(a / b for a, b in zip(bare[1:], loop[1:], strict=True))
    return {
        "what": f"training loop over bare steps: {what}",
        "peer": round(peer, 1),
        "ours": round(ours, 1),
        "ratio": round(ratio, 3),
        "target": TARGET,
        "equal": equal,
        "note": f"photos/s, {device}, {torch.get_num_threads()} threads",
    }


def cache_of(path: Path, photos: int) -> Any:
    """A cache of noise, 224 px, with alpha and 18 classes."""
    import cache as caches
    from cache import Listed, Recipe, Record, Writer

    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (photos, 224, 224, 3), np.uint8)
    disc = (np.hypot(*(np.indices((224, 224)) - 112)) < 80).astype(np.uint8) * 255
    records = [
        Record(
            key=f"{n}.png",
            group=str(n),
            labels={"kind": n % 18},
            sha256=str(n),
            bytes=1,
            mtime_ns=1,
            rung="whole",
        )
        for n in range(photos)
    ]
    with Writer(path, Recipe({"method": "seg", "size": 224})) as writer:
        writer.commit(records, rgb, np.repeat(disc[None], photos, 0))
        writer.finish([Listed(r.key, r.group, r.labels, r.bytes, r.mtime_ns) for r in records])
    return caches.open(path)


def resident(job: Any) -> Any:
    """One ready batch on the device."""
    from classify.job import epoch_order, feed

    return next(feed(job, epoch_order(job, 0), 0, 0))


def step_on(job: Any, batch: Any) -> None:
    """As many bare steps as an epoch has."""
    network = job.model.network.train()
    for _ in range(job.steps):
        with job.fabric.autocast():
            logits = job.forward(batch.images)
        job.loss(logits.float(), batch.targets).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), job.settings.clip)
        job.optimizer.step()
        job.optimizer.zero_grad()


def same_step(job: Any, batch: Any) -> bool:
    """Whether the loop's batch gives the bare step's loss: it is the same computation."""
    from classify.job import epoch_order, feed

    again = next(feed(job, epoch_order(job, 0), 0, 0))
    network = job.model.network.eval()
    with torch.no_grad():
        pair = [job.loss(network(each.images).float(), each.targets) for each in (batch, again)]
    return bool(torch.equal(*pair))


def timed(work: Any, device: str) -> float:
    """Seconds."""
    started = time.perf_counter()
    work()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - started


@click.command()
@click.option("--quick", is_flag=True, help="The small preset alone.")
@click.option("--device", default="cpu", show_default=True)
def main(quick: bool, device: str) -> None:
    """Compare and print."""
    from configs import terminal

    terminal.show(terminal.table(run(quick, device)))


if __name__ == "__main__":
    main()
