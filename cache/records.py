"""What is known of one cached crop: a `Record`, and the Arrow table that holds many."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import pyarrow as pa

STATUSES = {
    "ok": "a crop to train on",
    "no_face": "no face found; the crop is a guess",
    "no_figure": "the mask was empty, full or without the face; a head-and-shoulders shape stands in",
    "unreadable": "the photo could not be decoded; no pixels",
}
"""A record's status. All but `unreadable` have pixels."""

RUNGS = {
    "plain": "the detector at its default settings",
    "fine": "the detector, looking for smaller faces",
    "padded": "the detector on an edge-padded copy",
    "enlarged": "the detector on an enlarged copy",
    "rotated": "the detector on a rotated copy",
    "lower": "the detector with lower thresholds",
    "person": "the median box of the same person's other photos",
    "head": "the head of the segmented figure",
    "centre": "the centre of the photo",
    "whole": "the whole photo, no face looked for (method none)",
}
"""The step of the ladder that gave the face's box, from the surest to the last resort."""

DETECTED = ("plain", "fine", "padded", "enlarged", "rotated", "lower")
"""The rungs at which a detector saw a face."""

Label = str | int | float


@dataclass(frozen=True, kw_only=True)
class Record:
    """One row of a cache: a face of a photo, or the photo itself where no face was looked for.

    Attributes:
        key: the photo's path below the source, `/` between parts, unique in the cache together
            with `face`; bytes that are not UTF-8 stand as `\\xNN`.
        face: 0 for the photo's chosen face; 1, 2, ... for more where all faces are kept.
        group: the person; photos without one are a group of their own.
        labels: named values, the same names in every record of a cache.
        sha256: of the source file, hex.
        bytes: the source file's size.
        mtime_ns: the source file's time of last change.
        width, height: of the upright photo, px; 0 where it is unreadable.
        box: the face, xyxy, float px of the upright photo, or None.
        landmarks: left eye, right eye, nose, left and right mouth corner as seen in the photo,
            x y x y ..., px, or None.
        crop: what was cut: centre x, centre y, width, height (px of the upright photo), angle
            (degrees by which the crop's frame is turned clockwise).
        score: the detector's confidence, 0..1, or None where no detector saw the face.
        rung: a name of `RUNGS`, or "" where the photo is unreadable.
        status: a name of `STATUSES`.
        reason: why the status is not `ok`, for people; "" where it is.
        coverage: the share of the crop that is figure, 0..1, or None without alpha.
    """

    key: str
    face: int = 0
    group: str | None = None
    labels: dict[str, Label]
    sha256: str
    bytes: int
    mtime_ns: int
    width: int = 0
    height: int = 0
    box: tuple[float, float, float, float] | None = None
    landmarks: tuple[float, ...] | None = None
    crop: tuple[float, float, float, float, float] | None = None
    score: float | None = None
    rung: str = ""
    status: str = "ok"
    reason: str = ""
    coverage: float | None = None

    def __post_init__(self) -> None:
        assert self.status in STATUSES, self.status
        assert self.rung in RUNGS or (self.rung == "" and self.status == "unreadable"), self.rung
        assert self.landmarks is None or len(self.landmarks) == 10


FIXED = {
    "key": pa.string(),
    "face": pa.int16(),
    "group": pa.string(),
    "sha256": pa.string(),
    "bytes": pa.int64(),
    "mtime_ns": pa.int64(),
    "width": pa.int32(),
    "height": pa.int32(),
    "box": pa.list_(pa.float32(), 4),
    "landmarks": pa.list_(pa.float32(), 10),
    "crop": pa.list_(pa.float32(), 5),
    "score": pa.float32(),
    "rung": pa.string(),
    "status": pa.string(),
    "reason": pa.string(),
    "coverage": pa.float32(),
}
"""The columns of every cache, but for the labels, which stand as `label_NAME`."""

LABEL = "label_"
assert set(FIXED) == {f.name for f in fields(Record)} - {"labels"}


def to_table(records: Sequence[Record], label_types: dict[str, pa.DataType] | None = None) -> pa.Table:
    """Records as a table, one row each, in their order; label types are inferred where not given."""
    rows = [asdict(record) for record in records]
    columns = {name: pa.array([row[name] for row in rows], type) for name, type in FIXED.items()}
    names = sorted({name for record in records for name in record.labels} | set(label_types or {}))
    for name in names:
        values = [record.labels.get(name) for record in records]
        columns[LABEL + name] = pa.array(values, (label_types or {}).get(name))
    return pa.table(columns)


def from_table(table: pa.Table, rows: Iterable[int] | None = None) -> list[Record]:
    """The records of a table, or of some of its rows."""
    if rows is not None:
        table = table.take(pa.array(list(rows), pa.int64()))
    return [_record(row) for row in table.select([n for n in table.column_names if _known(n)]).to_pylist()]


def label_names(table: pa.Table) -> list[str]:
    """The names of the labels, without their prefix."""
    return [name.removeprefix(LABEL) for name in table.column_names if name.startswith(LABEL)]


def _known(column: str) -> bool:
    return column in FIXED or column.startswith(LABEL)


def _record(row: dict[str, Any]) -> Record:
    labels = {k.removeprefix(LABEL): v for k, v in row.items() if k.startswith(LABEL)}
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in row.items() if k in FIXED}
    return Record(labels=labels, **values)
