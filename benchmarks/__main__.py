"""`make bench`: run every benchmark, and write benchmarks/RESULTS.md."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "RESULTS.md"
COLUMNS = ("what", "peer", "ours", "ratio", "target", "equal", "note")
MARK = "<!-- {name} -->"


def names() -> list[str]:
    """The benchmarks, by the names of their files without `bench_`."""
    return sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))


def section(name: str, rows: Sequence[dict[str, Any]], *, quick: bool) -> str:
    """One benchmark's rows as a table in Markdown, with the command that makes them."""
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{' --- |' * len(COLUMNS)}"]
    for row in rows:
        cells = [str(row.get(column, "")).replace("|", "\\|").replace("\n", " ") for column in COLUMNS]
        lines.append(f"| {' | '.join(cells)} |")
    command = f"python -m benchmarks.bench_{name}{' --quick' if quick else ''}"
    where = f"{date.today().isoformat()}, {machine()}"
    return "\n".join([MARK.format(name=name), f"## {name}", "", f"`{command}`, {where}", "", *lines, ""])


def machine() -> str:
    """The machine that was measured, in words."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        found = [
            line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line
        ]
        model = found[0] if found else model
    text = f"{os.cpu_count()} cores of {model}"
    try:
        gpu = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return text
    return f"{text}, {gpu.stdout.strip()}"


def put(text: str, name: str, new: str) -> str:
    """RESULTS.md with one section replaced, or added in order of name."""
    head, *parts = text.split("<!-- ")
    sections = {part.split(" -->", 1)[0]: "<!-- " + part for part in parts}
    sections[name] = new
    return head.rstrip() + "\n\n" + "\n".join(sections[key].rstrip() + "\n" for key in sorted(sections))


def main() -> int:
    """Run the benchmarks named, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"which: {', '.join(names())}; none: all")
    parser.add_argument("--full", action="store_true", help="on all photos, with more rounds")
    given = parser.parse_args()
    unknown = set(given.names) - set(names())
    if unknown:
        parser.error(f"not known: {', '.join(sorted(unknown))}")
    for name in given.names or names():
        print(f"== {name}", file=sys.stderr, flush=True)
        rows = importlib.import_module(f"benchmarks.bench_{name}").run(not given.full)
        text = RESULTS.read_text("utf-8") if RESULTS.is_file() else "# Measured\n"
        RESULTS.write_text(put(text, name, section(name, rows, quick=not given.full)), "utf-8")
    print(RESULTS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
