"""The `cache` command: what a cache holds, whether it is whole, and out of it for other code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from configs import terminal

if TYPE_CHECKING:
    from cache.verify import Report

FOLDER = click.Path(path_type=Path)
SHOWN = 20
"""Damages listed in a terminal; --json has them all."""


@click.group(
    name="cache",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Begin with:
  cache info demo/seg
  cache export demo/seg figures --by mask
""",
)
def cli() -> None:
    """Look into a cached data set, check it, and export it for other training code."""


@cli.command(
    epilog="""\b
Examples:
  cache info cache/seg
  cache info cache/seg --json | jq .status
  cache info cache/seg --page overview
"""
)
@click.argument("cache", type=FOLDER)
@click.option(
    "--page",
    type=FOLDER,
    metavar="OUT",
    help="Write a page too: distributions, mean faces, brightness, sizes, near-identical photos.",
)
@click.option("--json", "as_json", is_flag=True, help="All of it as JSON on stdout.")
def info(cache: Path, page: Path | None, as_json: bool) -> None:
    """Show what CACHE holds: records by status and rung, labels, size on the disk, recipe, builds."""
    from cache.info import info as read_info

    found = read_info(cache)
    if page:
        from cache.overview import write

        found["page"] = str(write(cache, page))
    if as_json:
        terminal.show_json(found)
    else:
        terminal.show(_as_text(found))
        if page:
            terminal.show(f"\npage {found['page']}")


@cli.command(
    epilog="""\b
Examples:
  cache verify cache/seg
  cache verify cache/seg --repair
Exit code 0: every byte is as it was written. 1: something is damaged.
"""
)
@click.argument("cache", type=FOLDER)
@click.option("--repair", is_flag=True, help="Cut out what is damaged, and make just that again.")
@click.option("--jobs", type=click.IntRange(1), help="Threads that read.  [default: one a core]")
@click.option("--json", "as_json", is_flag=True, help="All findings as JSON on stdout.")
def verify(cache: Path, repair: bool, jobs: int | None, as_json: bool) -> int:
    """Read every byte of CACHE and name the shards and photos that are damaged."""
    from cache.verify import verify as check

    report = check(cache, jobs=jobs)
    mended = repair and not report.ok
    if mended:
        if not as_json:
            _show_report(cache, report)
        _repair(cache, report)
        report = check(cache, jobs=jobs)
    if as_json:
        terminal.show_json({**_as_values(cache, report), "repaired": mended})
    else:
        _show_report(cache, report)
    return 0 if report.ok else 1


@cli.command(
    epilog="""\b
Examples:
  cache export cache/seg figures --by mask
  cache export cache/seg figures --by mask --by gender --image webp --fill transparent
  cache export cache/det tars --format webdataset --image jpeg --by mask
  cache export cache/seg hub --format huggingface --fill white --split validation=0.2
"""
)
@click.argument("cache", type=FOLDER)
@click.argument("out", type=FOLDER)
@click.option(
    "--format",
    "kind",
    type=click.Choice(("folders", "webdataset", "huggingface")),
    default="folders",
    show_default=True,
    help="Class folders; tars of photo, .json and .cls; or images with a metadata.csv.",
)
@click.option(
    "--image",
    type=click.Choice(("png", "webp", "jpeg")),
    default="png",
    show_default=True,
    help="Kind of the image files; PNG loses nothing.",
)
@click.option(
    "--quality", type=click.IntRange(1, 100), default=95, show_default=True, help="Of WebP and JPEG."
)
@click.option(
    "--view",
    type=click.Choice(("figure", "full", "background")),
    help="What is kept of the crop.  [default: figure, or full in a cache without alpha]",
)
@click.option(
    "--fill",
    metavar="COLOUR",
    default="black",
    show_default=True,
    help="What stands for the rest: a colour (white, #808080) or transparent.",
)
@click.option("--by", multiple=True, metavar="LABEL", help="Label that makes the class; may be given again.")
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice(("ok", "no_face", "no_figure")),
    help="Only records of this status; may be given again.",
)
@click.option(
    "--split",
    "splits",
    multiple=True,
    metavar="NAME=SHARE",
    help="Hugging Face: deal this share of the persons to a split; the rest is train.",
)
@click.option(
    "--per-tar",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    help="WebDataset: photos in a tar.",
)
@click.option("--jobs", type=click.IntRange(1), help="Threads that encode.  [default: one a core]")
def export(
    cache: Path,
    out: Path,
    kind: str,
    image: str,
    quality: int,
    view: str | None,
    fill: str,
    by: tuple[str, ...],
    statuses: tuple[str, ...],
    splits: tuple[str, ...],
    per_tar: int,
    jobs: int | None,
) -> None:
    """Write the pictures of CACHE, blanked, to the new folder OUT.

    OUT is written whole or not at all. Every file name stays that of its photo, with its folders
    where two photos have the same; a table beside the images tells key, person and labels of each.
    """
    from cache.export import Look
    from cache.export import export as write
    from cache.format import open as open_cache

    opened = open_cache(cache)
    count = write(
        opened,
        out,
        format=kind,
        look=Look(view or ("figure" if opened.has_alpha else "full"), fill, image, quality),
        by=by,
        statuses=statuses,
        split=dict(map(_share, splits)),
        per_tar=per_tar,
        jobs=jobs,
    )
    terminal.note(f"{count:,} photos")
    terminal.show(str(out))


def main() -> None:
    """The program `cache`."""
    sys.exit(terminal.run(cli))


def _share(text: str) -> tuple[str, float]:
    from configs.errors import UserError

    name, _, share = text.partition("=")
    try:
        return name, float(share)
    except ValueError:
        raise UserError(f"--split {text}: write it as NAME=SHARE, as in validation=0.2") from None


def _repair(cache: Path, report: Report) -> None:
    """Cut the damage out and have it made again from the photos, in a process of its own."""
    from cache.verify import forget, made_with
    from configs.errors import UserError

    source = made_with(cache).get("source")
    if source is None or ("://" not in str(source) and not Path(source).exists()):
        raise UserError(
            f"{cache}: damaged, and the photos it was made of ({source or 'unknown'}) are not there to make "
            "it again; put them back, and run this again (nothing was changed)"
        )
    lost = forget(cache, report)
    terminal.note(f"{len(lost)} photos to be made again")
    # The cache may not import preprocess, so that is asked as a program; stdout is for our own result.
    command = [sys.executable, "-m", "preprocess", "update", str(cache)]
    if subprocess.run(command, stdout=2, check=False).returncode:
        raise UserError(
            f"{cache}: the damage is cut out, but what is missing could not be made again; "
            f"run: preprocess update {cache}"
        )


def _show_report(cache: Path, report: Report) -> None:
    for note in report.notes:
        terminal.note(f"{cache}: {note}")
    messages = report.messages()
    for message in messages[:SHOWN]:
        terminal.show(message)
    if len(messages) > SHOWN:
        terminal.show(f"... and {len(messages) - SHOWN} more: see --json")
    looked_at = f"{report.rows:,} rows in {report.shards:,} shards, {_size(report.bytes)}"
    if report.ok:
        terminal.show(f"{cache}: {terminal.style('whole', fg='green')} ({looked_at})")
    else:
        hit = f"{len(report.keys):,} photos hit" if report.keys else "no photo hit"
        terminal.show(
            f"{cache}: {terminal.style('damaged', fg='red')}, {hit} ({looked_at}); "
            f"to mend it: cache verify {cache} --repair"
        )


def _as_values(cache: Path, report: Report) -> dict[str, Any]:
    from dataclasses import asdict

    return {"cache": str(cache), "ok": report.ok, **asdict(report), "keys": report.keys}


def _as_text(found: dict[str, Any]) -> str:
    """The lines of `cache info`."""
    height, width = found["size"]
    alpha = " with alpha" if found["alpha"] else ""
    lines = [
        f"{found['records']:,} records of {found['photos']:,} photos of {found['persons']:,} persons, "
        f"{width}x{height} px{alpha}",
        f"{_size(found['bytes'])} in {found['shards']:,} shards",
    ]
    if found["dead_share"]:
        lines.append(
            f"{found['dead_share']:.1%} of the crops are of photos that were changed or removed since"
        )
    if found["unfinished_shards"]:
        lines.append(
            f"{found['unfinished_shards']} shards of a build that was stopped: the same command goes on"
        )
    labels = {name: {**shown.pop("counts", {}), **shown} for name, shown in found["labels"].items()}
    counts = {"status": found["status"], "rung": found["rung"], **labels}
    lines += ["", *(_counts_line(name, row) for name, row in counts.items())]
    recipe = found["recipe"]
    made_with = {name: value for name, value in recipe["made_with"].items() if name != "settings"}
    lines += ["", f"recipe {recipe['digest']}", *_indented(recipe["identity"])]
    lines += ["", "made with", *_indented(made_with)]
    if found["builds"]:
        lines += ["", "builds"]
    for build in found["builds"][-SHOWN:]:
        told = {name: value for name, value in build.items() if name not in ("when", "made_with", "index")}
        lines.append(f"  {build['when']}  " + "  ".join(line.strip() for line in _indented(told)))
    return "\n".join(lines)


def _counts_line(name: str, row: dict[str, Any]) -> str:
    return f"{name + ':':<12} " + "  ".join(f"{key or '(none)'} {value:,}" for key, value in row.items())


def _indented(values: dict[str, Any], prefix: str = "  ") -> list[str]:
    """A line for each value, the names of mappings with dots."""
    lines = []
    for name, value in values.items():
        if isinstance(value, dict):
            lines += _indented(value, f"{prefix}{name}.")
        else:
            lines.append(f"{prefix}{name}: {f'{value:.4g}' if isinstance(value, float) else value}")
    return lines


def _size(count: int) -> str:
    """Bytes for people, decimal units."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
