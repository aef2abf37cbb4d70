"""Planted truths: does the shortcut report name what was planted, and nothing else?

`python -m benchmarks.bench_shortcut_study [--quick] [--cell cue=room,shortcut=0.9,view=full,seed=0]...`:
each cell draws a set with a cue, builds its cache, trains, and reports, all by the commands. What a cell
made is kept in `--work` and not made again. Without cells: rooms at 0, 0.5, 0.9 and 0.98 on `full`, 0.98 on
`figure`, and the other cues at 0.98, three seeds each: hours on two cores.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click


@dataclass(frozen=True)
class Cell:
    """One drawn set and one training on it."""

    cue: str = "room"
    shortcut: float = 0.0
    view: str = "full"
    seed: int = 0

    @property
    def data(self) -> str:
        """The name of its set."""
        return f"{self.cue}-{self.shortcut:g}-{self.seed}"


CELLS = [
    *(Cell("room", shortcut, "full", seed) for shortcut in (0.0, 0.5, 0.9, 0.98) for seed in range(3)),
    *(Cell("room", 0.98, "figure", seed) for seed in range(3)),
    *(Cell(cue, 0.98, "full", seed) for cue in ("clothes", "size", "person") for seed in range(3)),
]
QUICK = [Cell("room", 0.0), Cell("room", 0.98)]


def run(quick: bool) -> list[dict[str, Any]]:
    """A row a cell; the quick set of two is small: 36 persons."""
    with tempfile.TemporaryDirectory() as work:
        if quick:
            return [study(cell, Path(work), people=36, epochs=8) for cell in QUICK]
        return [study(cell, Path(work), people=300, epochs=30) for cell in CELLS]


def study(cell: Cell, work: Path, *, people: int, epochs: int, segmenter: str = "grabcut") -> dict[str, Any]:
    """Draw, build, train, report; the report's figures as a row."""
    photos, cache = work / f"photos-{cell.data}-{people}", work / f"cache-{cell.data}-{people}"
    out, page = (work / f"{what}-{cell.data}-{people}-{cell.view}-{epochs}" for what in ("run", "page"))
    if not cache.exists():
        drawn = ["--people", str(people), "--shortcut", f"{cell.shortcut}", "--seed", str(cell.seed)]
        if not photos.exists():
            command("preprocess", "sample", photos, *drawn, "--cue", cell.cue)
        how = ["--method", "seg", "--segmenter", segmenter, "--size", "96"]
        command("preprocess", "build", photos / "photos", *how, "--out", cache)
    if not (out / "best.safetensors").exists():
        # gender and age group: what a person's room, clothes or size are planted on
        targets = ["--set", "targets.columns=[gender,age]", "--set", "targets.borders.age=[30,60]"]
        how = ["--set", f"view={cell.view}", "--set", "split.folds=2", "--epochs", str(epochs)]
        config = ["--config", "swin_small_cpu", "--seed", str(cell.seed)]
        command("classify", "train", cache, "--out", out, *config, *how, *targets)
    if not (page / "shortcut.json").exists():
        command("classify", "shortcut", out, "--out", page)
    told = json.loads((page / "shortcut.json").read_text("utf-8"))
    gap = told["bg_gap"] or {"value": None, "low": None, "high": None}
    named = sorted({f["region"] for f in told["findings"] if f["level"] in ("bad", "warn") and f["region"]})
    trained = next(entry for entry in told["views"] if entry["trained"])
    return {
        "what": f"{cell.cue} {cell.shortcut:g}, trained on {cell.view}, seed {cell.seed}",
        "peer": "",
        "ours": gap["value"],
        "ratio": "",
        "target": "",
        "equal": "",
        "note": f"BG-gap {gap['low']} to {gap['high']}; as trained {trained['accuracy']['value']}; named: "
        f"{', '.join(named) or 'nothing'}; {told['persons']} persons",
    }


def command(program: str, *arguments: object) -> None:
    """Run one of our commands; its words go to stderr."""
    subprocess.run([sys.executable, "-m", program, *map(str, arguments)], check=True, stdout=sys.stderr)


def parse(text: str) -> Cell:
    """`cue=room,shortcut=0.9,view=full,seed=1` as a cell."""
    given = dict(part.split("=", 1) for part in text.split(","))
    return Cell(
        given.get("cue", "room"),
        float(given.get("shortcut", 0)),
        given.get("view", "full"),
        int(given.get("seed", 0)),
    )


@click.command()
@click.option("--quick", is_flag=True, help="Two small cells: minutes.")
@click.option("--cell", "cells", multiple=True, help="cue=...,shortcut=...,view=...,seed=...; repeatable.")
@click.option("--work", type=click.Path(path_type=Path), help="Folder to keep what is made in.")
@click.option("--people", default=300, show_default=True, help="Persons of a set.")
@click.option("--epochs", default=30, show_default=True, help="Of each training.")
def main(quick: bool, cells: Sequence[str], work: Path | None, people: int, epochs: int) -> None:
    """Study, and print a row as each cell is done."""
    if quick:
        for row in run(True):
            click.echo(json.dumps(row))
        return
    with tempfile.TemporaryDirectory() as folder:
        for cell in [parse(text) for text in cells] or CELLS:
            click.echo(json.dumps(study(cell, work or Path(folder), people=people, epochs=epochs)))


if __name__ == "__main__":
    main()
