"""Rules of the house: imports run one way, commands answer at once and are documented."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).parents[1]
ORDER = ("configs", "cache", "preprocess", "classify")


def imported_packages(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: relative import"
            yield str(node.module).split(".")[0]


@pytest.mark.parametrize("package", ORDER)
def test_imports_run_one_way(package: str) -> None:
    later = set(ORDER[ORDER.index(package) + 1 :]) | {"tests", "benchmarks"}
    files = list((ROOT / package).rglob("*.py"))
    assert files
    wrong = {str(file.relative_to(ROOT)): later & set(imported_packages(file)) for file in files}
    assert not {file: names for file, names in wrong.items() if names}


def commands(command: click.Command, way: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield way, command
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from commands(inner, (*way, name))


PROGRAMS = {name: importlib.import_module(f"{name}.cli").cli for name in ("preprocess", "classify", "cache")}
ALL = [pair for name, cli in PROGRAMS.items() for pair in commands(cli, (name,))]


@pytest.mark.parametrize(("way", "command"), ALL, ids=[" ".join(way) for way, _ in ALL])
def test_every_command_has_help_and_an_example(way: tuple[str, ...], command: click.Command) -> None:
    assert command.help, "a command says what it does"
    text = re.sub(r"\n +", "\n", f"{command.help}\n{command.epilog}\n")
    assert isinstance(command, click.Group) or re.search(rf"\n{' '.join(way)}[ \n]", text), "no example"
    undocumented = [
        p.name for p in command.params if isinstance(p, click.Option) and not p.help and not p.hidden
    ]
    assert not undocumented


@pytest.mark.parametrize(("way", "command"), ALL, ids=[" ".join(way) for way, _ in ALL])
def test_every_command_stands_in_the_readme(way: tuple[str, ...], command: click.Command) -> None:
    if not isinstance(command, click.Group):
        assert " ".join(way) in (ROOT / "README.md").read_text("utf-8")


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_loads_nothing_heavy(program: str) -> None:
    code = (
        f"import sys; sys.argv = ['{program}', '--help']\n"
        f"import {program}.cli as c\n"
        "try: c.main()\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        "heavy = {'torch', 'numpy', 'rembg', 'cv2', 'pyarrow', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout
