"""The training loop: what is learnt, and that resuming, splitting and sharing it changes nothing."""

from __future__ import annotations

import csv
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cache import Cache
from classify import run as runs
from classify import train as loop
from classify.data import prepare
from classify.job import Job, make_loss
from classify.losses import cross_entropy
from classify.run import Run
from classify.settings import TrainSettings
from classify.train import train
from configs.errors import UserError

NOISY: dict[str, Any] = {
    "augment": [{"name": "flip"}, {"name": "mixup"}],
    "fill": ["noise", "swap"],
    "model.drop": 0.2,
    "model.drop_path": 0.2,
    "ema": 0.9,
}
"""All that is random in a training, at once."""


def settings_of(tiny: dict[str, Any], **changes: Any) -> TrainSettings:
    """The tiny settings with changes by dotted names."""
    values = json.loads(json.dumps(tiny))
    for name, value in changes.items():
        *way, last = name.split(".")
        place = values
        for step in way:
            place = place.setdefault(step, {})
        place[last] = value
    return TrainSettings.model_validate(values)


def weights(path: Path, name: str = "last.safetensors") -> dict[str, Tensor]:
    """A checkpoint's tensors: of `last`, with the optimiser's and the moving average."""
    return runs.read_tensors(path / name)[0]


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    """Equal names and equal bits."""
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


def history(run: Run) -> list[dict[str, str]]:
    """metrics.csv without what the clock says."""
    with (run.path / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k not in ("seconds", "photos_per_s")} for row in rows]


def test_learns_what_the_figures_say(
    tiny_cache: Cache, tiny_settings: dict[str, Any], tmp_path: Path
) -> None:
    run = train(tiny_cache, settings_of(tiny_settings, epochs=8), tmp_path / "run")
    assert run.info["result"]["macro_f1"] == 1.0
    assert float(history(run)[-1]["train_loss"]) < 0.3


def test_the_background_view_hides_the_figure(
    tiny_cache: Cache, tiny_settings: dict[str, Any], tmp_path: Path
) -> None:
    changes = settings_of(tiny_settings, epochs=8, view="background")
    run = train(tiny_cache, changes, tmp_path / "run")
    # the grounds are noise: what can be learnt on them is chance
    assert run.info["result"]["macro_f1"] < 0.9


def test_the_same_seed_twice_is_the_same_and_another_is_not(
    tiny_cache: Cache, tiny_settings: dict[str, Any], tmp_path: Path
) -> None:
    first = train(tiny_cache, settings_of(tiny_settings, **NOISY), tmp_path / "first")
    torch.rand(7)  # the global generator's state is none of its business
    again = train(tiny_cache, settings_of(tiny_settings, **NOISY), tmp_path / "again")
    other = train(tiny_cache, settings_of(tiny_settings, **NOISY, seed=1), tmp_path / "other")
    assert_same(weights(first.path), weights(again.path))
    assert history(first) == history(again)
    assert history(first) != history(other)


def test_killed_at_a_random_step_and_resumed_gives_the_same_weights(
    tiny_cache: Cache, tiny_settings: dict[str, Any], tmp_path: Path
) -> None:
    changes = {**NOISY, "epochs": 3, "batch_size": 4, "effective_batch": 8, "checkpoint_steps": 3}
    settings = settings_of(tiny_settings, **changes)
    whole = train(tiny_cache, settings, tmp_path / "whole")
    step = random.randrange(1, 12)
    (tmp_path / "settings.json").write_text(settings.model_dump_json())
    code = f"""
import os, signal, sys
from pathlib import Path
import cache, classify.train as t
from classify.settings import TrainSettings
rate_of = t.rate_of
def killed(job, step):
    if step == {step}:
        os.kill(os.getpid(), signal.SIGKILL)
    return rate_of(job, step)
t.rate_of = killed
settings = TrainSettings.model_validate_json(Path(sys.argv[1]).read_text())
t.train(cache.open(sys.argv[2]), settings, Path(sys.argv[3]))
"""
    arguments = [str(tmp_path / "settings.json"), str(tiny_cache.path), str(tmp_path / "killed")]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=Path(__file__).parents[2], check=False
    )
    assert done.returncode == -9
    assert len(history_rows(tmp_path / "killed")) < 3
    resumed = train(tiny_cache, settings, tmp_path / "killed", resume=True)
    assert_same(weights(whole.path), weights(resumed.path))
    assert_same(weights(whole.path, "best.safetensors"), weights(resumed.path, "best.safetensors"))
    assert history(whole) == history(resumed), step


@pytest.mark.parametrize(
    ("name", "step"), [("adamw", 0), ("adamw", 7), ("sgd", 3), ("adam", 4), ("madgrad", 5)]
)
def test_interrupted_and_resumed_gives_the_same_weights(
    tiny_cache: Cache,
    tiny_settings: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    step: int,
) -> None:
    optimizer = {"name": name, "lr": 1e-3, "layer_decay": 0.8}
    settings = settings_of(tiny_settings, optimizer=optimizer, ema=0.9, checkpoint_steps=2)
    whole = train(tiny_cache, settings, tmp_path / "whole")
    factor = loop.rate_of

    def stopped(job: Job, at: int) -> float:
        if at == step:
            raise KeyboardInterrupt
        return factor(job, at)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "rate_of", stopped)
        with pytest.raises(KeyboardInterrupt):
            train(tiny_cache, settings, tmp_path / "run")
    resumed = train(tiny_cache, settings, tmp_path / "run", resume=True)
    assert_same(weights(whole.path), weights(resumed.path))
    assert history(whole) == history(resumed)


def history_rows(path: Path) -> list[str]:
    """The lines of metrics.csv, without its head; none where there is no such file yet."""
    return (path / "metrics.csv").read_text().splitlines()[1:] if (path / "metrics.csv").exists() else []


def test_resuming_a_finished_run_changes_nothing(
    tiny_cache: Cache, tiny_settings: dict[str, Any], tmp_path: Path
) -> None:
    run = train(tiny_cache, settings_of(tiny_settings), tmp_path / "run")
    before = weights(run.path)
    again = train(tiny_cache, settings_of(tiny_settings, checkpoint_steps=1), tmp_path / "run", resume=True)
    assert_same(before, weights(run.path))
    assert again.info["result"] == run.info["result"]


def test_resume_refuses_other_settings_and_other_data(
    tiny_cache: Cache, tiny_settings: dict[str, Any], tmp_path: Path, make_cache: Callable[..., Cache]
) -> None:
    train(tiny_cache, settings_of(tiny_settings), tmp_path / "run")
    with pytest.raises(UserError, match=r"other settings \(optimizer.lr: 0.003 -> 0.1\)"):
        train(tiny_cache, settings_of(tiny_settings, **{"optimizer.lr": 0.1}), tmp_path / "run", resume=True)
    other = make_cache(tmp_path / "other", seed=5)
    with pytest.raises(UserError, match="other data"):
        train(other, settings_of(tiny_settings), tmp_path / "run", resume=True)


def test_a_full_folder_is_left_alone(
    tiny_cache: Cache, tiny_settings: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        train(tiny_cache, settings_of(tiny_settings), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("name", ["adamw", "sgd", "adam", "madgrad"])
def test_many_small_passes_make_the_step_of_a_large_one(
    tiny_cache: Cache, tiny_settings: dict[str, Any], tmp_path: Path, name: str
) -> None:
    common: dict[str, Any] = {"optimizer": {"name": name, "lr": 1e-3}, "epochs": 1, "effective_batch": 16}
    large = train(tiny_cache, settings_of(tiny_settings, **common, batch_size=16), tmp_path / "large")
    small = train(tiny_cache, settings_of(tiny_settings, **common, batch_size=4), tmp_path / "small")
    a, b = weights(large.path), weights(small.path)
    for key in a:
        torch.testing.assert_close(a[key], b[key], rtol=1e-3, atol=2e-5)


def test_two_processes_compute_what_one_does(
    tiny_cache: Cache, tiny_settings: dict[str, Any], tmp_path: Path
) -> None:
    changes = {**NOISY, "batch_size": 4, "effective_batch": 16, "checkpoint_steps": 1}
    alone = train(tiny_cache, settings_of(tiny_settings, **changes), tmp_path / "alone")
    values = settings_of(tiny_settings, **changes).model_dump(mode="json")
    (tmp_path / "config.yaml").write_text(json.dumps(values))
    command = [
        sys.executable,
        "-m",
        "classify",
        "train",
        str(tiny_cache.path),
        "--out",
        str(tmp_path / "two"),
    ]
    command += ["--config", str(tmp_path / "config.yaml"), "--devices", "2"]
    done = subprocess.run(
        command,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    a, b = weights(alone.path), weights(tmp_path / "two")
    assert a.keys() == b.keys()
    for key in a:
        torch.testing.assert_close(a[key], b[key], rtol=1e-3, atol=2e-5)
    for one, two in zip(history(alone), history(runs.open(tmp_path / "two")), strict=True):
        assert float(one["train_loss"]) == pytest.approx(float(two["train_loss"]), rel=1e-4)
        assert one["macro_f1"] == two["macro_f1"]


def test_the_moving_average_is_what_is_validated_and_kept(
    tiny_cache: Cache, tiny_settings: dict[str, Any], tmp_path: Path
) -> None:
    run = train(tiny_cache, settings_of(tiny_settings, ema=0.9, epochs=1), tmp_path / "run")
    last, best = weights(run.path), weights(run.path, "best.safetensors")
    assert all(torch.equal(best[name], last["ema/" + name]) for name in best)
    assert any(not torch.equal(best[name], last["model/" + name]) for name in best)


def test_a_frozen_backbone_stands_still_and_is_thawed(
    tiny_cache: Cache, tiny_settings: dict[str, Any], tmp_path: Path
) -> None:
    freeze = {"name": "head_until", "epochs": 1}
    common: dict[str, Any] = {"freeze": freeze, "optimizer": {"name": "adamw", "lr": 1e-2}}
    one = train(tiny_cache, settings_of(tiny_settings, **common, epochs=1), tmp_path / "one")
    two = train(tiny_cache, settings_of(tiny_settings, **common, epochs=2), tmp_path / "two")
    untouched = train(
        tiny_cache, settings_of(tiny_settings, **common, epochs=1, batch_size=4), tmp_path / "b"
    )
    a, c = (weights(run.path, "best.safetensors") for run in (one, untouched))
    assert all(torch.equal(a[name], c[name]) for name in a if not name.startswith("head."))
    assert any(not torch.equal(a[name], c[name]) for name in a if name.startswith("head."))
    last = weights(two.path)
    moved = [name for name in a if not torch.equal(a[name], last["model/" + name])]
    assert any(name.startswith("blocks.0") for name in moved)


def test_a_loss_that_is_no_number_names_the_photos(
    tiny_cache: Cache, tiny_settings: dict[str, Any], tmp_path: Path
) -> None:
    changes = {"optimizer": {"name": "sgd", "lr": 1e30}, "clip": None, "epochs": 1, "schedule": "constant"}
    with pytest.raises(UserError, match=r"no longer a number, first in the batch of p\d+/\d\.png, ") as error:
        train(tiny_cache, settings_of(tiny_settings, **changes), tmp_path / "run")
    named = str(error.value).split("batch of ")[1].split(";")[0].split(", ")
    assert len(named) == 8
    assert set(named) <= set(tiny_cache.table["key"].to_pylist())


def test_stops_when_the_metric_gets_no_better(
    tiny_cache: Cache, tiny_settings: dict[str, Any], tmp_path: Path
) -> None:
    stop = {"metric": "val_loss", "patience": 2, "min_delta": 10.0}
    run = train(tiny_cache, settings_of(tiny_settings, early_stop=stop, epochs=9), tmp_path / "run")
    assert run.info["epochs"] == 3
    assert run.info["result"]["epoch"] == 1
    assert "stopped: val_loss" in (run.path / "log.txt").read_text()


def test_without_validation_the_last_epoch_is_kept(
    tiny_cache: Cache, tiny_settings: dict[str, Any], tmp_path: Path
) -> None:
    run = train(tiny_cache, settings_of(tiny_settings, split="all"), tmp_path / "run")
    assert run.info["result"]["epoch"] == 2
    assert run.info["photos"] == {"train": 48, "val": 0, "all": 49}
    last = weights(run.path)
    assert all(torch.equal(v, last["model/" + k]) for k, v in weights(run.path, "best.safetensors").items())


def test_heads_on_a_shared_backbone(
    make_cache: Callable[..., Cache], tiny_settings: dict[str, Any], tmp_path: Path
) -> None:
    def labels(person: int, photo: int) -> dict[str, Any]:
        return {"kind": "ab"[person % 2], "age": 20 + 10 * (photo % 4)}

    cache = make_cache(tmp_path / "cache", labels=labels)
    targets = {"columns": ["kind", "age"], "borders": {"age": [25, 45]}, "heads": "separate"}
    run = train(cache, settings_of(tiny_settings, targets=targets), tmp_path / "run")
    assert run.classes == ("a, <25", "a, 25-44", "a, >=45", "b, <25", "b, 25-44", "b, >=45")
    assert run.info["heads"] == [["a", "b"], ["<25", "25-44", ">=45"]]
    assert {"macro_f1.kind", "macro_f1.age", "macro_f1"} <= history(run)[0].keys()


def test_the_loss_of_heads_is_their_weighted_sum(
    make_cache: Callable[..., Cache], tiny_settings: dict[str, Any], tmp_path: Path
) -> None:
    cache = make_cache(tmp_path / "c", labels=lambda i, j: {"kind": "ab"[i % 2], "size": "sml"[j % 3]})
    targets = {"columns": ["kind", "size"], "heads": "separate"}
    settings = settings_of(tiny_settings, targets=targets, head_weights={"size": 0.5})
    loss = make_loss(prepare(cache, settings), torch.device("cpu"))
    logits, soft = torch.randn(6, 5), torch.zeros(6, 5)
    soft[:, 0] = soft[:, 4] = 1
    by_hand = cross_entropy(logits[:, :2], soft[:, :2]) + 0.5 * cross_entropy(logits[:, 2:], soft[:, 2:])
    torch.testing.assert_close(loss(logits, soft), by_hand)


def test_class_weights_balance_the_loss(
    make_cache: Callable[..., Cache], tiny_settings: dict[str, Any], tmp_path: Path
) -> None:
    cache = make_cache(tmp_path / "c", labels=lambda i, _: {"kind": "a" if i % 4 else "b"})
    plain, weighted = (
        make_loss(prepare(cache, settings_of(tiny_settings, class_weights=power)), torch.device("cpu"))
        for power in (0, 1)
    )
    targets = torch.tensor([[1.0, 0], [0, 1]])
    logits = torch.tensor([[0.0, 0], [3, 0]])  # right for neither class alone: the rare one is worse
    a, b = cross_entropy(logits[:1], targets[:1]), cross_entropy(logits[1:], targets[1:])
    data = prepare(cache, settings_of(tiny_settings))
    counts = np.bincount(data.targets.joint[data.train])
    shares = 1 / counts
    assert float(plain(logits, targets)) == pytest.approx(float((a + b) / 2))
    by_hand = (a * shares[0] + b * shares[1]) / shares.sum()
    assert float(weighted(logits, targets)) == pytest.approx(float(by_hand))


# --- which rows


def test_rows_of_a_training(
    make_cache: Callable[..., Cache], tiny_settings: dict[str, Any], tmp_path: Path
) -> None:
    def labels(person: int, photo: int) -> dict[str, Any]:
        return {"age": None if photo == 3 else 20 + person}

    cache = make_cache(tmp_path / "cache", labels=labels, unreadable=2)
    targets = {"columns": ["age"], "borders": {"age": [26]}, "leave_out": {"age": 1}}
    data = prepare(cache, settings_of(tiny_settings, targets=targets, fold=1))
    ages = np.array([np.nan if age is None else age for age in cache.labels("age")])
    groups = np.array(cache.table["group"].to_pylist())
    used = np.concatenate([data.train, data.val])
    assert not np.isnan(ages[used]).any()
    assert len(np.unique(used)) == len(used)
    assert not (np.abs(ages[data.train] - 26) <= 1).any()
    assert not set(groups[data.train]) & set(groups[data.val])
    everyone = {person for person in range(12) if abs(20 + person - 26) > 1}
    assert {int(group[1:]) for group in groups[used]} >= everyone


def test_persons_on_both_sides_stop_the_training(tiny_cache: Cache, tiny_settings: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="persons are in training and validation: p00"):
        prepare(tiny_cache, settings_of(tiny_settings, split="file"))
    data = prepare(tiny_cache, settings_of(tiny_settings, split="file", allow_shared_persons=True))
    assert "persons are in training and validation" in data.notes[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fold": 7}, r"fold=7: no photo validates in that fold; there are 0\.\.4"),
        ({"early_stop.metric": "macro_f2"}, 'no "macro_f2"; did you mean "macro_f1"'),
        ({"split": "all", "early_stop.metric": "val_loss"}, "without validation photos"),
        ({"targets.columns": ["kinds"]}, 'no label "kinds" in this cache; did you mean "kind"'),
        ({"effective_batch": 12}, "not a multiple of 8"),
        ({"device": "cuda:77"}, "--device cuda:77"),
    ],
)
def test_settings_that_do_not_fit_are_one_line(
    tiny_cache: Cache, tiny_settings: dict[str, Any], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as error:
        train(tiny_cache, settings_of(tiny_settings, **changes), tmp_path / "run")
    assert "\n" not in str(error.value)


def test_a_cache_without_alpha_has_no_figure(
    make_cache: Callable[..., Cache], tiny_settings: dict[str, Any], tmp_path: Path
) -> None:
    cache = make_cache(tmp_path / "cache", alpha=False)
    assert prepare(cache, settings_of(tiny_settings)).view == "full"
    with pytest.raises(UserError, match="--method seg"):
        prepare(cache, settings_of(tiny_settings, view="figure"))
