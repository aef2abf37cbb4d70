"""What a model owes to the background: a run scored on parts of its photos and on figures with other grounds.

    subject = choose(run, other)               which photos
    answers = answer_all(subject, ...)         probabilities on each view; kept on the disk as they come
    result  = measure(subject, answers, ...)   scores with intervals, BG-gap, worst group, gradient shares
    write   (classify.shortcut_page)           the page

The network is shown each view as it is, unblanked by the run's own view: a run that is trained on the
figure alone never sees a ground in use, and the mixed views tell what it would do with one.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache.pages import kit
from classify import bootstrap
from classify import run as runs
from classify.answers import answer_all, energies_of
from classify.predict import load
from classify.run import Run
from classify.shortcut_measures import measure
from classify.subject import choose
from classify.verdict import percent
from configs.errors import UserError
from configs.terminal import table

if TYPE_CHECKING:
    from cache.format import Cache

KIND = "shortcut report"


def report(
    run: Run,
    other: Path | None,
    out: Path,
    *,
    device: str = "auto",
    seed: int = 0,
    rounds: int = bootstrap.ROUNDS,
) -> dict[str, Any]:
    """Write the report of a run: `out`/index.html and `out`/shortcut.json.

    Stopped, it goes on with the views that were not done; answers of the same weights, photos and seed
    are used again.

    Args:
        other: a cache; None: the run's own.
        out: the folder; an older report there is replaced, anything else refused.
        seed: of whose ground goes where, and of the resamples.
        rounds: resamples.

    Returns:
        What shortcut.json holds.

    Raises:
        UserError: no such run or cache, no photo to score, `out` holds something else.
    """
    from classify.shortcut_page import write

    started = time.perf_counter()
    subject = choose(run, other)
    _begin(out, subject.cache)
    predictor = load(run, device=device)
    answers = answer_all(subject, predictor, out / "predictions", seed=seed)
    energies = energies_of(subject, predictor, out / "predictions", seed=seed)
    result = measure(subject, answers, energies, seed=seed, rounds=rounds)
    result["seconds"] = round(time.perf_counter() - started, 2)
    with kit.fresh_folder(out, kind=KIND) as folder:
        shutil.copytree(out / "predictions", folder / "predictions")
        runs.write_json(folder / "shortcut.json", result)
        write(folder, subject, answers, result, seed=seed)
    return result


def _begin(out: Path, opened: Cache) -> None:
    """Make sure that `out` is ours to write into, before hours of work."""
    if out.resolve().is_relative_to(opened.path.resolve()):
        raise UserError(f"--out {out}: lies in the cache; name a folder outside of it")
    try:
        if json.loads((out / kit.MARK).read_text("utf-8"))["page"] == KIND:
            return
    except (OSError, ValueError, KeyError, TypeError):
        pass
    with kit.fresh_folder(out, kind=KIND):  # refuses what is not ours
        pass


def as_text(result: Mapping[str, Any]) -> str:
    """The scores and the verdict, to read in a terminal."""
    rows = [
        {
            "view": entry["view"] + (" *" if entry["trained"] else ""),
            "accuracy": percent(entry["accuracy"]),
            "macro-F1": percent(entry["macro_f1"]),
            "chance": f"{100 * entry['chance']:.1f} %",
        }
        for entry in result["views"]
    ]
    lines = [
        f"{result['photos']:,} photos of {result['persons']:,} persons ({result['rows']})",
        "",
        table(rows),
        "* what the run was trained to see; in brackets: 95 % intervals, by bootstrap over persons",
        "",
    ]
    return "\n".join(
        [*lines, *(f"{f['level']:5} {f['text']} {f['advice']}".rstrip() for f in result["findings"])]
    )
