"""The run folder: a model, and all that made it: settings, recipe, classes, split, scores.

    RUN/
      settings.json      every setting of the training, defaults too
      cache_recipe.json  how the crops were made, so that raw photos can be treated alike
      run.json           command, versions, data hash, git commit, classes, sizes; at the end the result
      split.csv          key, face, fold and set (train, val, left_out, unused) of every row of the cache
      leaks.csv          photos on both sides that are all but the same, where there are any
      metrics.csv        one row an epoch;  curves.png  the same, drawn
      best.safetensors   the best epoch's weights (of the moving average where one is kept), timm's names
      last.safetensors   all that `--resume` needs: weights, moving average, optimizer, progress
      log.txt            what was said while it trained
      evaluation.json, confusion.png   written by `classify evaluate`

Nothing is pickled. The JSON that belongs to a checkpoint stands in its safetensors header, so that one
rename replaces both.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor

    from cache.format import Recipe
    from classify.settings import TrainSettings

FORMAT = 1
INFO = "run.json"
"""The file whose presence makes a folder a run."""
LIBRARIES = ("torch", "timm", "torchvision", "numpy", "lightning-fabric", "torchmetrics", "safetensors")


@dataclass(frozen=True)
class Run:
    """A run folder.

    Attributes:
        path: the folder.
        settings: of its training, the classes of every column spelt out.
        recipe: of the cache that it was trained on.
        info: the contents of `run.json`.
    """

    path: Path
    settings: TrainSettings
    recipe: Recipe
    info: Mapping[str, Any]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the (joint) classes, in the order of the probabilities."""
        return tuple(self.info["classes"])

    @property
    def crop(self) -> tuple[int, int]:
        """h, w of the cache's crops, px."""
        height, width = self.info["crop"]
        return height, width


def create(run: Run) -> Run:
    """Make the folder, with its settings, its recipe and its `run.json`, to which surroundings are added.

    Raises:
        UserError: there is a file or a non-empty folder.
    """
    path, recipe = run.path, run.recipe
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise UserError(
            f"--out {path}: exists and is not empty; choose another folder, "
            "or go on with that run by --resume"
        )
    path.mkdir(parents=True, exist_ok=True)
    write_json(path / "settings.json", run.settings.model_dump(mode="json"))
    write_json(path / "cache_recipe.json", {"identity": recipe.identity, "made_with": recipe.made_with})
    made_by = {"format": FORMAT, "started": now(), "command": shlex.join(sys.argv), **surroundings()}
    # last: a folder with it is a run
    return update(Run(path, run.settings, recipe, {**made_by, "recipe": recipe.digest}), **run.info)


def open(path: Path) -> Run:
    """Read a run folder.

    Raises:
        UserError: it is none, or another version's.
    """
    from cache.format import Recipe
    from classify.settings import TrainSettings

    path = Path(path)
    if not (path / INFO).is_file():
        what = "no such folder" if not path.exists() else "not a run (no run.json in it)"
        raise UserError(f"{path}: {what}; a run is the --out folder of `classify train`")
    info = read_json(path / INFO)
    if info.get("format") != FORMAT:
        raise UserError(
            f"{path}: a run of format {info.get('format')}, this version reads {FORMAT}; train again"
        )
    try:
        settings = TrainSettings.model_validate(read_json(path / "settings.json"))
        recipe = Recipe(**read_json(path / "cache_recipe.json"))
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: its settings can't be read by this version: {error}") from None
    return Run(path, settings, recipe, info)


def update(run: Run, **more: object) -> Run:
    """The run with more in its `run.json`."""
    info = {**run.info, **more}
    write_json(run.path / INFO, info)
    return Run(run.path, run.settings, run.recipe, info)


def log(run: Run, text: str) -> None:
    """A line on the screen and in the run's log."""
    from configs.terminal import note

    note(text)
    with (run.path / "log.txt").open("a", encoding="utf-8") as file:
        file.write(f"{now()}  {text}\n")


# --- what made it


def surroundings() -> dict[str, Any]:
    """Versions of Python and the libraries, and the git commit of the folder one works in, if it has one."""
    versions = {name: _version(name) for name in ("figureground", *LIBRARIES)}
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        **_git(),
        "versions": versions,
    }


def data_hash(table: pa.Table, rows: Iterable[int] | None = None) -> str:
    """16 hex characters of what a training depends on: keys, persons, labels, status and pixels, in order."""
    import pyarrow as pa

    from cache.records import LABEL

    labels = sorted(name for name in table.column_names if name.startswith(LABEL))
    columns = ["key", "face", "group", "status", "pixels", *labels]
    part = table.select([name for name in columns if name in table.column_names])
    part = part if rows is None else part.take(pa.array(list(rows), pa.int64()))
    digest = hashlib.sha256(repr(part.column_names).encode())
    for batch in part.to_batches(max_chunksize=4096):
        digest.update(repr([column.to_pylist() for column in batch.columns]).encode())
    return digest.hexdigest()[:16]


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git() -> dict[str, Any]:
    def ask(*command: str) -> str | None:
        try:
            done = subprocess.run(["git", *command], capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = ask("rev-parse", "HEAD")
    return {"git": {"commit": commit, "changed": bool(ask("status", "--porcelain"))}} if commit else {}


# --- files


def write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """A CSV of mappings, columns in the order in which they first appear; replaced at once."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with replacing(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


def write_json(path: Path, value: object) -> None:
    """JSON, replaced at once."""
    with replacing(path) as part:
        part.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """A JSON file of a run; UserError where it is absent or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: missing, the run is not whole") from None
    except ValueError as error:
        raise UserError(f"{path}: damaged: {error}") from None


def write_tensors(path: Path, tensors: Mapping[str, Tensor], state: object) -> None:
    """Tensors and their JSON as one safetensors file, replaced at once: a kill leaves the old or the new."""
    from safetensors.torch import save

    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    with replacing(path) as part:
        # save_file would make a file that only its owner may read
        part.write_bytes(save(plain, {"state": json.dumps(state)}))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], Any]:
    """What `write_tensors` wrote; UserError where the file is absent or damaged."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise UserError(f"{path}: missing, no epoch of this run was finished; train it again")
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["state"])  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: damaged: {error}") from None


class replacing:  # noqa: N801
    """`with replacing(path) as part:` write to `part`; it becomes `path` where no error came."""

    def __init__(self, path: Path) -> None:
        self.path, self.part = path, path.with_name(f".{path.name}.part-{os.getpid()}")

    def __enter__(self) -> Path:
        return self.part

    def __exit__(self, error: object, *_: object) -> None:
        if error is None:
            self.part.replace(self.path)
        else:
            self.part.unlink(missing_ok=True)


def now() -> str:
    """The time, UTC, to the second, ISO 8601."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
