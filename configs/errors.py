"""Errors that a user can mend, told apart from our bugs."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake of the user's: one line that says what is wrong, where, and what to do next.

    Each command's `main` catches it once, prints the line to stderr and exits with code 2.
    """


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """For the end of an error: '; did you mean "x"?', or '; known: a, b' where no name is near."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f'; did you mean "{near[0]}"?'
    return f"; known: {', '.join(names)}" if names else ""
