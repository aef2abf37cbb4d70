"""What every command shows in a terminal: results to stdout, the rest to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from configs.errors import UserError

if TYPE_CHECKING:
    from tqdm import tqdm

T = TypeVar("T")


def run(command: click.Command, arguments: Sequence[str] | None = None) -> int:
    """Run a click command as a program; the exit code.

    0: done. 2: the user's mistake, told in one line. 130: stopped by Ctrl-C.
    Anything else is our bug and keeps its traceback.
    """
    program = command.name or "figureground"
    # OpenMP's threads spin while they wait. Where cores are shared (our decoders, another job), a network
    # then takes several times as long; asleep they cost microseconds a layer. Read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        result = command.main(args=arguments, prog_name=program, standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 2
    except (UserError, click.ClickException) as error:
        message = error.format_message() if isinstance(error, click.ClickException) else str(error)
        note(f"{style('error', fg='red', bold=True)}: {' '.join(message.split())}")
        return 2
    except (KeyboardInterrupt, click.Abort):
        note(f"{program}: stopped; the same command goes on where it stopped")
        return 130
    except BrokenPipeError:
        # The reader of stdout (head, less) has gone. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def note(text: str) -> None:
    """A line to stderr: progress, warnings, where things went."""
    click.echo(text, err=True, color=_colours(sys.stderr))


def show(text: str) -> None:
    """A result, to stdout."""
    click.echo(text, color=_colours(sys.stdout))


def show_json(value: object) -> None:
    """A result for a program, to stdout."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def style(text: str, **how: Any) -> str:
    """`text` in colour; `note` and `show` take it out where there is no terminal or NO_COLOR is set."""
    return click.style(text, **how)


def table(rows: Sequence[Mapping[str, object]], columns: Sequence[str] | None = None) -> str:
    """Rows of equal keys as aligned columns, numbers to the right; floats with three decimals."""
    if not rows:
        return ""
    names = list(columns or rows[0])
    cells = [[_cell(row.get(name)) for name in names] for row in rows]
    widths = [max(len(name), *(len(line[i]) for line in cells)) for i, name in enumerate(names)]
    right = [all(isinstance(row.get(name), int | float | None) for row in rows) for name in names]
    lines = [names, ["-" * width for width in widths], *cells]
    return "\n".join(
        "  ".join(
            text.rjust(w) if r else text.ljust(w) for text, w, r in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def progress(items: Iterable[T], *, label: str, unit: str = "photo", total: int | None = None) -> Iterator[T]:
    """Iterate with a bar on stderr: rate and time left; silent where stderr is no terminal."""
    from tqdm import tqdm

    yield from tqdm(
        items, desc=label, unit=f" {unit}", total=total, disable=not sys.stderr.isatty(), leave=False
    )


@contextmanager
def bar(total: int, *, label: str, unit: str = "photo") -> Iterator[tqdm[Any]]:
    """A bar to `update(n)` by hand, for work that does not come as one iteration."""
    from tqdm import tqdm

    with tqdm(
        total=total, desc=label, unit=f" {unit}", disable=not sys.stderr.isatty(), leave=False
    ) as shown:
        yield shown


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _colours(stream: Any) -> bool:
    return bool(stream.isatty()) and not os.environ.get("NO_COLOR")
