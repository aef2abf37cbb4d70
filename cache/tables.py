"""Tables put together: rows of many shards in one, label columns of mixed values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from cache.records import FIXED, LABEL, label_names

PLACE = {"shard": pa.string(), "slot": pa.int32(), "pixels": pa.string()}
"""Where a row's pixels are, and their hash: the columns of the table beside those of a Record."""


def merge(parts: Sequence[pa.Table]) -> pa.Table:
    """Tables in one; a later row stands for an earlier one of the same photo.

    A key's rows are those with the file hash of its last row (a changed photo may have fewer
    faces than before), and of equal (key, face) the last. Order: as the keys first came, then by
    face.
    """
    if not parts:
        return empty_table()
    names = sorted({name for part in parts for name in label_names(part)})
    types = {name: _common_type([p[LABEL + name].type for p in parts if LABEL + name in p.column_names])
             for name in names}  # fmt: skip
    table = pa.concat_tables([_with_labels(part, types) for part in parts]).combine_chunks()
    if not len(table):
        return table
    keys, files = _codes(table["key"]), _codes(table["sha256"])
    last = np.zeros(keys.max() + 1, np.int64)
    np.maximum.at(last, keys, np.arange(len(keys)))
    rows = np.flatnonzero(files == files[last[keys]])
    faces = table["face"].to_numpy().astype(np.int64)
    _, back = np.unique((keys * (1 << 16) + faces)[rows][::-1], return_index=True)
    return table.take(pa.array(rows[len(rows) - 1 - back]))


def _codes(column: pa.ChunkedArray) -> np.ndarray:
    """A number for each distinct text, in the order of their first coming."""
    indices = column.combine_chunks().dictionary_encode().indices
    return indices.to_numpy(zero_copy_only=False).astype(np.int64)


def empty_table() -> pa.Table:
    """A table without rows and labels."""
    return pa.schema({**FIXED, **PLACE}).empty_table()


def label_array(values: Sequence[Any]) -> pa.Array:
    """Label values as one column: int64, float64 or string; mixed ones as string; NaN is unknown."""
    # Not `from_pandas=True`, which does this too: pyarrow then imports pandas, for seconds.
    known = [None if value is None or value != value else value for value in values]
    try:
        array = pa.array(known)
        return array.cast(_common_type([array.type]))
    except (pa.ArrowException, OverflowError):
        return pa.array([None if value is None else str(value) for value in known], pa.string())


def _common_type(types: Iterable[pa.DataType]) -> pa.DataType:
    kinds = {kind for kind in types if not pa.types.is_null(kind)}
    if not kinds or not all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in kinds):
        return pa.string()
    return pa.int64() if all(pa.types.is_integer(kind) for kind in kinds) else pa.float64()


def _with_labels(table: pa.Table, types: dict[str, pa.DataType]) -> pa.Table:
    """The table with exactly these label columns, in the order of every table of a cache."""
    columns = {name: table[name] for name in FIXED}
    for name, kind in types.items():
        given = table[LABEL + name] if LABEL + name in table.column_names else pa.nulls(len(table), kind)
        columns[LABEL + name] = given.cast(kind, safe=False)
    return pa.table({**columns, **{name: table[name] for name in PLACE}})
