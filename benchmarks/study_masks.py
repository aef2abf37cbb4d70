"""Which method serves the real masks best: macro-F1 of none, det and seg with the small Swin, by folds.

    python -m benchmarks.study_masks --out study [--folds 5] [--epochs 60]

Needs the real photos and the portrait network (FIGUREGROUND_SHARED, or ../shared). Goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import numpy as np

from configs import terminal

SHARED = Path(os.environ.get("FIGUREGROUND_SHARED", Path(__file__).parents[2] / "shared"))
METHODS = ("none", "det", "seg")


def build(method: str, out: Path) -> Path:
    """A cache of the mask photos."""
    from preprocess.cli import cli

    network = SHARED / "models" / "portrait_prisma.onnx"
    more = ["--segmenter", "onnx", "--set", f"segment.path={network}"] if method == "seg" else []
    arguments = [
        "build",
        str(SHARED / "photos" / "masks"),
        "--method",
        method,
        "--out",
        str(out / method),
        *more,
    ]
    if terminal.run(cli, arguments):
        raise SystemExit(1)
    return out / method


def score(cache: Path, run: Path, *, fold: int, folds: int, epochs: int) -> dict[str, float]:
    """Train on all folds but one, and score that one."""
    from classify.cli import cli

    if not (run / "evaluation.json").is_file():
        settings = ["--set", f"fold={fold}", "--set", f"split.folds={folds}"]
        train = [
            "train",
            str(cache),
            "--config",
            "swin_small_cpu",
            "--epochs",
            str(epochs),
            "--out",
            str(run),
        ]
        going_on = ["--resume"] if run.is_dir() else []
        for arguments in ([*train, *settings, *going_on], ["evaluate", str(run)]):
            if terminal.run(cli, arguments):
                raise SystemExit(1)
    answer = json.loads((run / "evaluation.json").read_text("utf-8"))
    return {name: float(answer[name]) for name in ("macro_f1", "accuracy")}


def main() -> None:
    """Build, train, evaluate; print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--only", type=int, help="the first so many folds alone")
    parser.add_argument("--epochs", type=int, default=60)
    given = parser.parse_args()
    rows = []
    for method in METHODS:
        cache = build(method, given.out)
        scores = [
            score(
                cache, given.out / f"run_{method}_{fold}", fold=fold, folds=given.folds, epochs=given.epochs
            )
            for fold in range(given.only or given.folds)
        ]
        row: dict[str, object] = {"method": method, "folds": len(scores)}
        for name in ("macro_f1", "accuracy"):
            values = np.array([s[name] for s in scores])
            row[name] = float(values.mean())
            # Student's t for the mean of the folds: they share training photos, so it is somewhat narrow.
            t = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 10: 2.26}.get(len(values), 2.0)
            row[f"{name} +-"] = (
                float(t * values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else None
            )
        rows.append(row)
    terminal.show(terminal.table(rows))


if __name__ == "__main__":
    main()
