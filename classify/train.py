"""Training: one linear loop over the pixels of a cache, the same on one device or on many.

Everything random is a function of (seed, epoch, batch): the order, the augmentation, the dropout. So a
resumed run goes on exactly, and several processes, each doing every so many-th batch of the same
sequence and adding up their gradients, compute what one process would.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from classify import processes, state
from classify import run as runs
from classify.data import Data, describe, prepare, split_rows
from classify.job import Job, epoch_order, feed, predictor_of, set_up
from classify.metrics import better, scores
from classify.optim import SCHEDULES, freeze, set_lr
from classify.predict import of_heads
from classify.run import Run
from classify.settings import WHERE_IT_RUNS, TrainSettings
from classify.state import Progress
from classify.targets import join
from configs.errors import UserError
from configs.terminal import bar

if TYPE_CHECKING:
    from cache.format import Cache

LOOK_EVERY = 16
"""Steps between two looks at the losses: each look waits for the device."""


def train(cache: Cache, settings: TrainSettings, out: Path, *, resume: bool = False) -> Run:
    """Train on a cache, into a run folder.

    Args:
        cache: an open cache.
        settings: of the training.
        out: the run folder: new or empty, unless resumed.
        resume: go on where the run in `out` stopped; its weights end up as if it had not. Where
            there is none yet, one is begun.

    Returns:
        The finished run.

    Raises:
        UserError: settings that don't fit the cache, persons on both sides of the split, a folder
            in use, a run of other settings or data to resume, a loss that is no number.
    """
    fabric = processes.make(settings)
    data = prepare(cache, settings)
    run = begin(cache, data, out, resume)
    fabric.launch()
    job = set_up(fabric, cache, data)
    progress = go_on(job, run)
    while not progress.done:
        clock, before = time.perf_counter(), progress.step
        train_epoch(job, run, progress)
        row = {"epoch": progress.epoch + 1, **training_row(job, progress)}
        rate = (job.steps - before) * job.group / (time.perf_counter() - clock)
        row |= validate(job)
        row |= {"photos_per_s": round(rate, 1), "seconds": round(time.perf_counter() - clock, 2)}
        end_epoch(job, run, progress, row)
    return finish(job, run, progress)


def begin(cache: Cache, data: Data, out: Path, resume: bool) -> Run:
    """The run folder: made, or, where one is resumed, opened and compared."""
    info = describe(cache, data)
    if resume and (out / runs.INFO).is_file():
        run = runs.open(out)
        check_same(run, data.settings, info)
        return run
    run = Run(out, data.settings, cache.recipe, info)
    if processes.first():
        run = runs.create(run)
        runs.write_rows(out / "split.csv", split_rows(cache.table, data))
        for text in (*data.notes, *([look_for_leaks(cache, data, run)] if len(data.val) else [])):
            runs.log(run, text)
    return run


def check_same(run: Run, settings: TrainSettings, info: Mapping[str, Any]) -> None:
    """UserError where a run can't be resumed with these settings or this cache."""
    from cache.format import differences

    old, new = (each.model_dump(mode="json", exclude=set(WHERE_IT_RUNS)) for each in (run.settings, settings))
    changed = differences(old, new)
    if changed:
        raise UserError(f"--resume: {run.path} was begun with other settings ({'; '.join(changed)})")
    if run.info["data"] != info["data"]:
        raise UserError(
            f"--resume: {run.path} was begun on other data, that of {run.info['cache']} at that time"
        )


def go_on(job: Job, run: Run) -> Progress:
    """The progress that the run folder holds, put into the job; where it holds none, the beginning."""
    path = run.path / "last.safetensors"
    began = not path.is_file()
    if job.fabric.is_global_zero:
        where = f"{len(job.train):,} photos to train on, {len(job.val):,} to validate"
        told = (*job.model.notes, where) if began else (f"resumed from {path}",)
        for text in told:
            runs.log(run, text)
    return Progress() if began else state.restore(path, job.model.network, job.optimizer, job.ema)


def look_for_leaks(cache: Cache, data: Data, run: Run) -> str:
    """Persons and near-identical photos on both sides of the split: told, and listed in leaks.csv."""
    from classify.leaks import leaks, summary

    rows = np.union1d(data.train, data.val)
    table = cache.table.take(rows)
    photos = (photo for at in range(0, len(rows), 256) for photo in cache.rgb(rows[at : at + 256]))
    found = leaks(table, photos, np.searchsorted(rows, data.train), np.searchsorted(rows, data.val))
    keys = table["key"].to_pylist()
    pairs = [{"train": keys[a], "val": keys[b], "bits": bits} for a, b, bits in found.pairs]
    if pairs:
        runs.write_rows(run.path / "leaks.csv", pairs)
    return summary(found, table) + (f"\nall of them: {run.path / 'leaks.csv'}" if pairs else "")


def train_epoch(job: Job, run: Run, progress: Progress) -> None:
    """The optimiser steps of one epoch, from `progress.step` on."""
    settings, fabric, network = job.settings, job.fabric, job.model.network
    epoch, per_step = progress.epoch, job.group // settings.batch_size
    order = epoch_order(job, epoch)
    given = feed(job, order, epoch, progress.step * per_step)
    network.train()
    freeze(network, epoch, settings.freeze)
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    pending: list[tuple[Tensor, Tensor]] = []
    with shown(job, f"epoch {epoch + 1}/{settings.epochs}") as update:
        for step in range(progress.step, job.steps):
            size = min(job.group, len(order) - step * job.group)
            set_lr(job.optimizer, rate_of(job, epoch * job.steps + step))
            passes = -(-size // settings.batch_size)
            for number in range(
                step * per_step + fabric.global_rank, step * per_step + passes, fabric.world_size
            ):
                batch = next(given)
                torch.manual_seed(seed_of(settings.seed, epoch, number))  # of dropout and drop-path
                with fabric.autocast():
                    logits = job.forward(batch.images)
                # a photo weighs the same in whichever batch of the step it is
                loss = job.loss(logits.float(), batch.targets) * (len(batch.rows) / size)
                loss.backward()
                pending.append((loss.detach() * size, batch.rows))
            processes.add_up_gradients(weights, fabric)
            if settings.clip is not None:
                clip_grad_norm_(weights, settings.clip)
            job.optimizer.step()
            job.optimizer.zero_grad()
            if job.ema is not None:
                job.ema.update(network, step=epoch * job.steps + step + 1)
            progress.step = step + 1
            update(size)
            saves = settings.checkpoint_steps and progress.step % settings.checkpoint_steps == 0
            if saves or progress.step % LOOK_EVERY == 0 or progress.step == job.steps:
                look_at_losses(job, run, progress, pending)
            if saves and progress.step < job.steps:
                save(job, run, progress)


def look_at_losses(job: Job, run: Run, progress: Progress, pending: list[tuple[Tensor, Tensor]]) -> None:
    """Add up the losses; UserError, with its photos, at the first that is no number."""
    bad: list[str] = []
    values = torch.stack([loss for loss, _ in pending]).tolist() if pending else []
    for value, (_, rows) in zip(values, pending, strict=True):
        progress.loss_sum += value
        progress.seen += len(rows)
        if not math.isfinite(value) and not bad:
            bad = job.keys.take(rows.numpy()).to_pylist()
    pending.clear()
    bad = processes.first_of(bad, job.fabric)
    if bad:
        raise UserError(
            f"epoch {progress.epoch + 1}: the loss is no longer a number, first in the batch of "
            f"{', '.join(bad)}; look at those photos, or try a lower optimizer.lr, a longer "
            f"schedule.warmup, or precision=float32 (what was saved before is in {run.path})"
        )


def validate(job: Job) -> dict[str, float]:
    """Scores of the validation photos; {} where there are none."""
    processes.share_statistics(job.model.network, job.fabric)
    if not len(job.val):
        return {}
    targets, fabric = job.data.targets, job.fabric
    share = (fabric.global_rank, fabric.world_size)
    each = processes.add_up(of_heads(predictor_of(job), job.pixels, job.val, share=share), fabric)
    joint = torch.from_numpy(join(each.numpy(), targets.heads))
    truth = torch.from_numpy(targets.joint[job.data.val])
    told = scores(joint, truth, targets.classes)
    row = {name: told[name] for name in ("macro_f1", "accuracy", "ece")}
    row["val_loss"] = float(nn.functional.nll_loss(joint.clamp_min(1e-12).log(), truth))
    if len(targets.heads) > 1:
        parts = each.split([len(names) for names in targets.heads], 1)
        for head, (name, part) in enumerate(zip(targets.head_names, parts, strict=True)):
            labels = torch.from_numpy(targets.labels[job.data.val, head])
            row[f"macro_f1.{name}"] = scores(part, labels, targets.heads[head])["macro_f1"]
    return row


def training_row(job: Job, progress: Progress) -> dict[str, float]:
    """The highest learning rate at the epoch's end, and its mean loss."""
    sums = torch.tensor([progress.loss_sum, progress.seen], dtype=torch.float64)
    total, seen = processes.add_up(sums, job.fabric).tolist()
    return {"lr": max(group["lr"] for group in job.optimizer.param_groups), "train_loss": total / seen}


def end_epoch(job: Job, run: Run, progress: Progress, row: dict[str, Any]) -> None:
    """Note the epoch, keep its weights where it is the best, and decide whether another follows."""
    stop = job.settings.early_stop
    value = row.get(stop.metric)
    progress.history.append(row)
    if value is None or better(stop.metric, value, progress.best, by=stop.min_delta):
        progress.best, progress.best_epoch, progress.waited = value, row["epoch"], 0
    else:
        progress.waited += 1
    progress.epoch, progress.step, progress.loss_sum, progress.seen = progress.epoch + 1, 0, 0.0, 0
    waited_out = stop.patience is not None and progress.waited >= stop.patience
    progress.done = waited_out or progress.epoch == job.settings.epochs
    if job.fabric.is_global_zero:
        if progress.best_epoch == row["epoch"]:
            network = predictor_of(job).model.network
            runs.write_tensors(run.path / "best.safetensors", network.state_dict(), row)
        runs.write_rows(run.path / "metrics.csv", progress.history)
        runs.log(run, in_a_line(row, progress, job.settings.epochs))
        if waited_out:
            runs.log(run, f"stopped: {stop.metric} got no better for {stop.patience} epochs")
    save(job, run, progress)


def save(job: Job, run: Run, progress: Progress) -> None:
    """Write `last.safetensors`; no process goes on before it is there."""
    if job.fabric.world_size > 1:
        sums = torch.tensor([progress.loss_sum, progress.seen], dtype=torch.float64)
        total, seen = processes.add_up(sums, job.fabric).tolist()
        first = job.fabric.is_global_zero
        progress.loss_sum, progress.seen = (total, int(seen)) if first else (0.0, 0)
    if job.fabric.is_global_zero:
        state.save(run.path / "last.safetensors", progress, job.model.network, job.optimizer, job.ema)
    job.fabric.barrier()


def finish(job: Job, run: Run, progress: Progress) -> Run:
    """Draw the curves and write the result into `run.json`."""
    if not job.fabric.is_global_zero:
        return run
    from classify.plots import curves

    curves(progress.history, run.path / "curves.png")
    best = progress.history[(progress.best_epoch or len(progress.history)) - 1]
    return runs.update(run, finished=runs.now(), epochs=progress.epoch, result=best)


def in_a_line(row: Mapping[str, Any], progress: Progress, epochs: int) -> str:
    """What the screen and the log say of an epoch."""
    told = [f"loss {row['train_loss']:.4f}"]
    told += [f"{name} {row[name]:.4f}" for name in ("val_loss", "accuracy") if name in row]
    told += [f"{name} {value:.4f}" for name, value in row.items() if name.startswith("macro_f1")]
    best = "  best" if progress.best_epoch == row["epoch"] and "macro_f1" in row else ""
    return f"epoch {row['epoch']}/{epochs}: {', '.join(told)}, {row['photos_per_s']:.0f} photos/s{best}"


def rate_of(job: Job, step: int) -> float:
    """The factor of the learning rate at a step of the whole run."""
    chosen = job.settings.schedule
    schedule: Any = SCHEDULES[chosen.name]
    return schedule(step, job.steps * job.settings.epochs, **chosen.settings)


def seed_of(*numbers: int) -> int:
    """One seed from several numbers, all bits mixed."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


@contextmanager
def shown(job: Job, label: str) -> Iterator[Callable[[int], object]]:
    """A bar to update, in the first process alone."""
    if not job.fabric.is_global_zero:
        yield lambda _: None
        return
    with bar(job.steps * job.group, label=label) as drawn:
        yield drawn.update
