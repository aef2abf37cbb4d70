from __future__ import annotations

import click
import pytest

from configs import terminal
from configs.errors import UserError


@click.command(name="tool")
@click.argument("what")
def tool(what: str) -> None:
    """A command to run."""
    if what == "mistake":
        raise UserError("x.jpg: no such\nfile")
    if what == "stop":
        raise KeyboardInterrupt
    if what == "bug":
        raise ZeroDivisionError
    terminal.show(what)


@pytest.mark.parametrize(
    ("arguments", "code", "out", "err"),
    [
        (["fine"], 0, "fine\n", ""),
        (["mistake"], 2, "", "error: x.jpg: no such file\n"),
        ([], 2, "", "error: Missing argument 'WHAT'.\n"),
        (["fine", "--nonsense"], 2, "", "error: No such option '--nonsense'.\n"),
        (["stop"], 130, "", "tool: stopped; the same command goes on where it stopped\n"),
    ],
)
def test_exit_codes_and_one_line_a_mistake(
    arguments: list[str], code: int, out: str, err: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert terminal.run(tool, arguments) == code
    captured = capsys.readouterr()
    assert captured.out == out
    assert captured.err.strip() == err.strip()


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        terminal.run(tool, ["bug"])


def test_table_aligns_numbers_right_and_text_left() -> None:
    rows = [{"class": "mask", "f1": 0.5, "n": 3}, {"class": "none at all", "f1": None, "n": 120}]
    assert terminal.table(rows).splitlines() == [
        "class           f1    n",
        "-----------  -----  ---",
        "mask         0.500    3",
        "none at all      -  120",
    ]
    assert terminal.table([]) == ""


def test_no_colour_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.show(terminal.style("red", fg="red"))
    assert capsys.readouterr().out == "red\n"
