"""The `preprocess` command: photos in, cache and gallery out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from configs import terminal

if TYPE_CHECKING:
    from preprocess.sample import Cue

FOLDER = click.Path(path_type=Path)
METHODS = ("det", "seg", "none")
SEGMENTERS = ("rembg", "onnx", "grabcut")
ENGINES = ("local", "ray")
CUES = ("room", "clothes", "size", "person")
DEVICE = "Where the networks run; auto takes CUDA where there is one."


@click.group(
    name="preprocess",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Begin with:
  preprocess sample demo
  preprocess build demo/photos --method det --out demo/det
""",
)
def cli() -> None:
    """Find the face, cut the figure, crop, and write a cached data set."""


@cli.command(
    epilog="""\b
Examples:
  preprocess build photos --method det --out cache/det
  preprocess build photos --method seg --segmenter grabcut --out cache/seg
  preprocess build photos --method seg --segmenter onnx --set segment.path=net.onnx --out cache/seg
  preprocess build photos --method seg --engine ray --out cache/seg
  preprocess build s3://bucket/photos --method det --out s3://bucket/cache
  preprocess build labels.csv --method none --size 256 --out cache/none
Run it again to go on after an interruption, or after photos were added or changed.
"""
)
@click.argument("source", type=FOLDER)
@click.option(
    "--method", type=click.Choice(METHODS), help="Crop the face; cut the figure too; or fit the whole photo."
)
@click.option("--out", type=FOLDER, required=True, help="Folder of the cache.")
@click.option(
    "--layout",
    type=click.Choice(("auto", "folders", "csv", "mask18", "flat")),
    default="auto",
    show_default=True,
    help="How SOURCE tells labels: class folders, a CSV, persons' folders, or not at all.",
)
@click.option("--segmenter", type=click.Choice(SEGMENTERS), help="What cuts the figure.  [default: rembg]")
@click.option("--size", type=int, help="Side of the crops in px.  [default: 224]")
@click.option(
    "--device", type=click.Choice(("auto", "cpu", "cuda")), default="auto", show_default=True, help=DEVICE
)
@click.option("--jobs", type=click.IntRange(1), help="Threads that decode and cut.  [default: one a core]")
@click.option(
    "--engine",
    type=click.Choice(ENGINES),
    default="local",
    show_default=True,
    help="Cut in this process, or on the Ray cluster at RAY_ADDRESS.",
)
@click.option("--config", metavar="NAME|X.yaml", help="Settings from a preset or a YAML file.")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="One setting; may be given again."
)
@click.option("--json", "as_json", is_flag=True, help="The summary as JSON on stdout.")
def build(
    source: Path,
    method: str | None,
    out: Path,
    layout: str,
    segmenter: str | None,
    size: int | None,
    device: str,
    jobs: int | None,
    engine: str,
    config: str | None,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Cut every photo of SOURCE and write them to a cache.

    SOURCE is a folder of class folders, a CSV with a `path` column, persons' folders
    (000001_female_Asian_45/mask1.jpg), or a folder of photos without labels. SOURCE and the cache may
    be addresses (s3://bucket/photos, gs://...).
    """
    from preprocess.photos import list_sources

    sources = list_sources(source, layout)

    from configs import settings
    from configs.errors import UserError
    from preprocess.settings import BuildSettings

    if method is None and config is None and not any(text.startswith("method=") for text in overrides):
        raise UserError(
            "which --method? det (crop the face), seg (cut the figure too) or none (the whole photo)"
        )
    flags = {"method": method, "segment": segmenter, "size": size}
    chosen = settings.load(
        BuildSettings, command="preprocess build", config=config, flags=flags, overrides=overrides
    )
    _run_build(sources, chosen, out, source, layout, device, jobs, engine, as_json)


@cli.command(
    epilog="""\b
Example:
  preprocess update cache/det
"""
)
@click.argument("cache", type=FOLDER)
@click.option(
    "--device", type=click.Choice(("auto", "cpu", "cuda")), default="auto", show_default=True, help=DEVICE
)
@click.option("--jobs", type=click.IntRange(1), help="Threads that decode and cut.  [default: one a core]")
@click.option(
    "--engine",
    type=click.Choice(ENGINES),
    default="local",
    show_default=True,
    help="Cut in this process, or on the Ray cluster at RAY_ADDRESS.",
)
@click.option("--json", "as_json", is_flag=True, help="The summary as JSON on stdout.")
def update(cache: Path, device: str, jobs: int | None, engine: str, as_json: bool) -> None:
    """Bring CACHE up to date with the photos it was built from, by its own recipe."""
    from preprocess.build import update_arguments
    from preprocess.photos import list_sources

    source, layout, settings = update_arguments(cache)
    _run_build(list_sources(source, layout), settings, cache, source, layout, device, jobs, engine, as_json)


@cli.command(
    epilog="""\b
Examples:
  preprocess sample demo
  preprocess sample demo --people 60 --shortcut 0.98
"""
)
@click.argument("out", type=FOLDER)
@click.option("--people", type=int, default=24, show_default=True, help="Persons, 7 photos each.")
@click.option(
    "--shortcut",
    type=float,
    default=0.0,
    show_default=True,
    help="How far the room gives the class away: 0..1.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of all that is drawn.")
@click.option(
    "--cue", type=click.Choice(CUES), default="room", show_default=True, help="Where --shortcut is planted."
)
@click.option("--shuffle-labels", is_flag=True, help="Draw labels that say nothing about the picture.")
def sample(out: Path, people: int, shortcut: float, seed: int, cue: Cue, shuffle_labels: bool) -> None:
    """Draw a labelled data set to OUT/photos, with each photo's exact alpha in OUT/alpha."""
    from preprocess.sample import draw

    draw(out, people=people, shortcut=shortcut, seed=seed, cue=cue, shuffle_labels=shuffle_labels)
    terminal.show(f"{people * 7} photos of {people} persons: {out / 'photos'} (alpha: {out / 'alpha'})")


@cli.command(
    epilog="""\b
Examples:
  preprocess gallery cache/det cache/seg --out gallery
  preprocess gallery cache/rembg cache/grabcut --out gallery --source moved/photos
  preprocess gallery cache/det cache/seg --out gallery --sheet side-by-side.png
"""
)
@click.argument("caches", nargs=-1, type=FOLDER, required=True)
@click.option("--out", type=FOLDER, required=True, help="Folder of the pages.")
@click.option("--source", type=FOLDER, help="Where the photos are, if they were moved since the build.")
@click.option("--sheet", type=FOLDER, help="Draw a few of the photos into one PNG, too.")
@click.option(
    "--photo", "keys", multiple=True, metavar="KEY", help="A photo of the sheet; may be given again."
)
@click.option("--jobs", type=click.IntRange(1), help="Threads that draw.  [default: one a core]")
def gallery(
    caches: tuple[Path, ...],
    out: Path,
    source: Path | None,
    sheet: Path | None,
    keys: tuple[str, ...],
    jobs: int | None,
) -> None:
    """Show original and crops of CACHES side by side, on a page to open from the disk."""
    from preprocess.gallery import gallery as write

    terminal.show(str(write(caches, out, source=source, jobs=jobs)))
    if sheet:
        from preprocess.sheet import sheet as draw_sheet

        terminal.show(str(draw_sheet(caches, sheet, keys=keys, source=source)))


def _run_build(sources, settings, out, source, layout, device, jobs, engine, as_json) -> None:  # type: ignore[no-untyped-def]
    from dataclasses import asdict

    from cache.remote import address_of
    from preprocess.build import build as run

    shown = address_of(out) or str(out)
    summary = run(
        sources, settings, out, source=source, layout=layout, device=device, jobs=jobs, engine=engine
    )
    if as_json:
        terminal.show_json({"cache": shown, **asdict(summary)})
        return
    terminal.note(describe(summary))
    terminal.show(shown)


def describe(summary) -> str:  # type: ignore[no-untyped-def]
    """A build's summary for people: records by status and rung, the rate, and where the time went."""
    counts = [
        {"what": kind, "which": name or "-", "records": count}
        for kind, group in (("status", summary.statuses), ("rung", summary.rungs))
        for name, count in sorted(group.items(), key=lambda pair: -pair[1])
    ]
    total = summary.seconds["total"]
    rate = f", {summary.new / total:.1f} a second" if summary.new else ""
    stages = ", ".join(
        f"{name} {seconds:.1f}"
        for name, seconds in summary.seconds.items()
        if name != "total" and seconds >= 0.05
    )
    return "\n".join(
        [
            f"{summary.records} records, {summary.new} of them new, in {total:.1f} s{rate}",
            terminal.table(counts),
            f"seconds: {stages or 'none to speak of'}",
        ]
    )


def main() -> None:
    """Entry point of `preprocess`."""
    sys.exit(terminal.run(cli))
