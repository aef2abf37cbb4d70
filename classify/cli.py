"""`classify`: train, evaluate, predict."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from configs import terminal

PATH = click.Path(path_type=Path)
DEVICE = click.option("--device", help="auto, cpu, cuda, cuda:N. [default: auto]")


@click.group("classify", context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="figureground")
def cli() -> None:
    """Train on the crops of a cache, measure, predict."""


@cli.command()
@click.argument("cache", type=PATH)
@click.option("--out", type=PATH, required=True, help="The run folder, new or empty.")
@click.option("--config", help="A preset's name (classify presets), or a YAML file of your own.")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change one setting; repeatable."
)
@click.option("--resume", is_flag=True, help="Go on where the run in --out stopped.")
@DEVICE
@click.option("--devices", type=click.IntRange(1), help="Processes, one a device. [default: 1]")
@click.option("--epochs", type=click.IntRange(1), help="How often all photos are shown.")
@click.option("--seed", type=click.IntRange(0), help="Of weights, order, augmentation. [default: 0]")
def train(
    cache: Path,
    out: Path,
    config: str | None,
    overrides: tuple[str, ...],
    resume: bool,
    device: str | None,
    devices: int | None,
    epochs: int | None,
    seed: int | None,
) -> None:
    """Train a timm model on CACHE and leave all of it in a run folder.

    \b
    classify train CACHE --out runs/first --config swin_small_cpu
    classify train CACHE --out runs/age --set targets.columns=[age] --set targets.borders.age=[30,60]
    classify train CACHE --out runs/f2 --set fold=2 --set loss=focal --set ema=0.999
    classify train CACHE --out runs/first --resume

    Settings come from the defaults, the preset, the options, then --set. `classify settings` lists them.
    """
    import cache as caches
    from classify import run as runs
    from classify.settings import TrainSettings
    from classify.train import train as train_run
    from configs.settings import load

    flags = {"device": device, "devices": devices, "epochs": epochs, "seed": seed}
    same = {key: value for key, value in flags.items() if key in ("device", "devices") and value is not None}
    nothing_given = not (config or overrides or epochs is not None or seed is not None)
    if resume and nothing_given and (out / runs.INFO).is_file():
        settings = runs.open(out).settings.model_copy(update=same)
    else:
        settings = load(
            TrainSettings, command="classify train", config=config, flags=flags, overrides=overrides
        )
    try:
        run = train_run(caches.open(cache), settings, out, resume=resume)
    except KeyboardInterrupt:
        terminal.note(f"to go on from the last checkpoint: classify train {cache} --out {out} --resume")
        raise
    if "result" not in run.info:  # another process than the first
        return
    result = run.info["result"]
    told = [name for name in ("macro_f1", "accuracy") if name in result] or ["train_loss"]
    scores = ", ".join(f"{name} {result[name]:.4f}" for name in told)
    terminal.show(f"best epoch {result['epoch']} of {run.info['epochs']}: {scores}")
    for what, name in (("weights", "best.safetensors"), ("scores", "metrics.csv"), ("curves", "curves.png")):
        terminal.show(f"{what:8} {out / name}")
    terminal.show(f"next     classify evaluate {out}")


@cli.command()
@click.argument("run", type=PATH)
@click.option("--cache", type=PATH, help="Another cache: all its labelled photos count.")
@click.option("--out", type=PATH, help="Folder for evaluation.json and confusion.png. [default: in RUN]")
@click.option("--page", type=PATH, help="Folder for a page: matrix to click, worst mistakes, curves.")
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON on stdout.")
@DEVICE
def evaluate(
    run: Path, cache: Path | None, out: Path | None, page: Path | None, as_json: bool, device: str | None
) -> None:
    """Score RUN on the validation photos of its split, or on another cache.

    \b
    classify evaluate runs/first
    classify evaluate runs/first --cache other_clinic
    classify evaluate runs/first --json > scores.json
    classify evaluate runs/first --page errors

    Prints precision, recall and F1 by class and the confusion matrix; draws the matrix.
    """
    from classify import run as runs
    from classify.evaluate import as_text
    from classify.evaluate import evaluate as score

    answer = score(runs.open(run), cache, device=device or "auto", out=out, page=page)
    if as_json:
        terminal.show_json(answer)
        return
    terminal.show(as_text(answer))
    terminal.show(f"\nscores  {answer['files']['json']}\npicture {answer['files']['picture']}")
    if page:
        terminal.show(f"page    {answer['files']['page']}")


@cli.command()
@click.argument("run", type=PATH)
@click.argument("source", type=PATH)
@click.option("--out", type=PATH, required=True, help="The CSV to write.")
@click.option(
    "--layout", default="auto", show_default=True, help="Of a folder of photos: folders, csv, mask18."
)
@DEVICE
def predict(run: Path, source: Path, out: Path, layout: str, device: str | None) -> None:
    """Predict the photos of SOURCE, a cache or raw photos, with RUN's best epoch.

    \b
    classify predict runs/first photos/ --out predictions.csv
    classify predict runs/first CACHE --out predictions.csv

    Raw photos go through the very recipe of the cache that RUN was trained on. The CSV has a row a
    photo, in order: path, prediction, and the probability of each class; a photo that can't be
    used has an empty prediction.
    """
    from classify import run as runs
    from classify.predict import write

    done = write(runs.open(run), source, out, device=device or "auto", layout=layout)
    terminal.show(f"{done.predicted:,} photos predicted: {out}")
    for reason, count in done.unusable.items():
        terminal.show(f"{count:,} without a prediction: {reason}")


@cli.command()
def presets() -> None:
    """List the presets of `classify train`, each with what it says of itself.

    \b
    classify presets
    """
    from configs.settings import PRESETS, preset_names

    rows = []
    for name in preset_names("classify train"):
        first = (PRESETS / f"{name}.yaml").read_text("utf-8").splitlines()[0]
        rows.append({"preset": name, "what": first.lstrip("# ")})
    terminal.show(terminal.table(rows))


@cli.command()
@click.option("--config", help="A preset's name or a YAML file.")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change one setting; repeatable."
)
def settings(config: str | None, overrides: tuple[str, ...]) -> None:
    """Show every setting of `classify train` with its value, as YAML to copy.

    \b
    classify settings --config swin_small_cpu --set loss=focal
    """
    import yaml

    from classify.settings import TrainSettings
    from configs.settings import load

    values = load(TrainSettings, command="classify train", config=config, overrides=overrides)
    terminal.show(
        yaml.safe_dump(values.model_dump(mode="json"), sort_keys=False, allow_unicode=True).rstrip()
    )


@cli.command()
@click.argument("run", type=PATH)
@click.option("--cache", type=PATH, help="A cache with alpha to report on. [default: the run's own]")
@click.option(
    "--out", type=PATH, required=True, help="The folder of the page, new, empty, or of an older report."
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of whose ground goes where."
)
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON on stdout.")
@DEVICE
def shortcut(run: Path, cache: Path | None, out: Path, seed: int, as_json: bool, device: str | None) -> None:
    """Report what RUN's model owes to the background, the clothes, the outline.

    \b
    classify shortcut runs/first --out pages/shortcut
    classify shortcut runs/first --cache CACHE --out pages/shortcut --json

    Scores the photos that the run's split holds out: whole, in parts, and with figures on other
    photos' grounds; with 95 % intervals by bootstrap over persons. Stopped, the same command goes on.
    """
    from classify import run as runs
    from classify.shortcut import as_text, report

    result = report(runs.open(run), cache, out, device=device or "auto", seed=seed)
    if as_json:
        terminal.show_json(result)
        return
    terminal.show(as_text(result))
    terminal.show(f"\npage   {out / 'index.html'}\nscores {out / 'shortcut.json'}")


@cli.command()
@click.argument("predictions", type=PATH, nargs=-1, required=True)
@click.option("--cache", type=PATH, help="The cache of these photos: for their pictures, and who is right.")
@click.option("--out", type=PATH, help="Folder for a page with the photos.")
@click.option("--json", "as_json", is_flag=True, help="The figures as JSON on stdout.")
def diff(predictions: tuple[Path, ...], cache: Path | None, out: Path | None, as_json: bool) -> None:
    """Show where two or more files of PREDICTIONS differ, and who is right.

    \b
    classify diff first.csv second.csv
    classify diff first.csv second.csv third.csv --cache CACHE --out pages/differences

    Reads what `classify predict` writes; a file with the columns path and prediction will do. Photos that
    not all files predict are left out.
    """
    import cache as caches
    from classify import differences

    opened = caches.open(cache) if cache else None
    found = differences.compare(predictions, opened)
    answer = differences.figures(found)
    if out:
        answer["page"] = str(differences.write(found, answer, out, opened))
    if as_json:
        terminal.show_json(answer)
        return
    terminal.show(differences.as_text(answer))
    if out:
        terminal.show(f"\npage {answer['page']}")


@cli.command()
@click.argument("folder", type=PATH)
@click.option("--page", type=PATH, help="Folder for a page with the curves of all runs.")
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON on stdout.")
def runs(folder: Path, page: Path | None, as_json: bool) -> None:
    """List the runs below FOLDER, the best first: their scores, and the settings in which they differ.

    \b
    classify runs runs
    classify runs runs --page pages/runs
    classify runs runs --json | jq '.runs[0].path'
    """
    from classify import runs_table

    found = runs_table.find(folder)
    answer = runs_table.as_values(found)
    if page:
        answer["page"] = str(runs_table.write(found, folder, page))
    if as_json:
        terminal.show_json(answer)
        return
    terminal.show(runs_table.as_text(found))
    if page:
        terminal.show(f"\npage {answer['page']}")


def main() -> None:
    """The `classify` program."""
    sys.exit(terminal.run(cli))
