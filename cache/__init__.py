"""The cached data set: format, loader, pages.

`cache.open(path)` opens one. What it needs (pyarrow, numpy) is imported at first use, so
that `import cache` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cache.format import Cache, CacheError, Recipe, open
    from cache.records import Record
    from cache.writer import Listed, Writer

__all__ = ["Cache", "CacheError", "Listed", "Recipe", "Record", "Writer", "open"]

_HOMES = {
    "Cache": "cache.format",
    "CacheError": "cache.format",
    "Recipe": "cache.format",
    "open": "cache.format",
    "Record": "cache.records",
    "Listed": "cache.writer",
    "Writer": "cache.writer",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
