"""What a build has to do: which photos are new or changed, and in which chunks they are cut."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from cache.format import Cache
from cache.records import DETECTED
from preprocess.crop import Box
from preprocess.photos import Source

CHUNK = 256
"""Photos a shard: what a kill costs at most, and what memory holds."""

ROW = ("key", "group", "sha256", "bytes", "mtime_ns", "rung")


@dataclass(frozen=True)
class Plan:
    """The work of one build.

    Attributes:
        chunks: photos to cut, a list a shard; a person's photos stand in one chunk.
        known: boxes already in the cache by group, relative to photo size (0..1), of photos not cut again.
    """

    chunks: list[list[Source]]
    known: dict[str, list[Box]]


def make_plan(sources: Sequence[Source], cache: Cache | None) -> Plan:
    """Compare a listing with a cache.

    A photo is done when its bytes are those of its record: size and time of change decide, and where
    they differ, the sha256. Photos that could not be reached are tried again. A row that leans on its
    person's other photos is made anew when any of these comes, goes or changes.
    """
    rows = _rows(cache) if cache else {}
    todo = {source.key for source in sources if not _unchanged(source, rows.get(source.key))}
    todo |= _leaning(sources, rows, todo)
    known = (
        _known_boxes(cache, todo, {s.group for s in sources if s.key in todo and s.group}) if cache else {}
    )
    return Plan(chunked(sources, todo), known)


def chunked(sources: Iterable[Source], todo: Collection[str]) -> list[list[Source]]:
    """Cut the photos `todo` into chunks that never part a person.

    Chunks are laid over all sources, so that an interrupted build goes on with the very chunks of one
    that was not; only what is left of chunks done in part is put together.
    """
    chunks: list[list[Source]] = []
    partial: list[Source] = []
    for whole in _lay_chunks(sources):
        wanted = [source for source in whole if source.key in todo]
        if len(wanted) == len(whole):
            chunks.append(wanted)
            continue
        if partial and len(partial) + len(wanted) > CHUNK:
            chunks.append(partial)
            partial = []
        partial += wanted
    return [*chunks, partial] if partial else chunks


def _lay_chunks(sources: Iterable[Source]) -> list[list[Source]]:
    people: dict[str, list[Source]] = defaultdict(list)
    for source in sorted(sources, key=lambda s: (s.group or s.key, s.key)):
        people[source.group or f"\0{source.key}"].append(source)
    chunks: list[list[Source]] = [[]]
    for person in people.values():
        if chunks[-1] and len(chunks[-1]) + len(person) > CHUNK:
            chunks.append([])
        chunks[-1] += person
    return [chunk for chunk in chunks if chunk]


def _rows(cache: Cache) -> dict[str, dict[str, Any]]:
    return {row["key"]: row for row in cache.table.select(list(ROW)).to_pylist()}


def _unchanged(source: Source, row: dict[str, Any] | None) -> bool:
    if row is None or not row["sha256"]:
        return False
    if (source.bytes, source.mtime_ns) == (row["bytes"], row["mtime_ns"]):
        return True
    try:
        with source.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == row["sha256"]
    except OSError:
        return False


def _leaning(sources: Sequence[Source], rows: dict[str, dict[str, Any]], todo: Collection[str]) -> set[str]:
    """Keys of rows whose crop leans on their person's other photos, where one of those changed."""
    before = {key: row["group"] for key, row in rows.items()}
    now = {source.key: source.group for source in sources}
    moved = {
        key for key in before.keys() | now.keys() if before.get(key, "") != now.get(key, "") or key in todo
    }
    touched = {group for key in moved for group in (before.get(key), now.get(key)) if group}
    return {
        key
        for key, group in now.items()
        if key in rows
        and rows[key]["rung"] in ("person", "head", "centre")
        and (group in touched or key in moved)
    }


def _known_boxes(cache: Cache, todo: Collection[str], groups: Collection[str]) -> dict[str, list[Box]]:
    known: dict[str, list[Box]] = defaultdict(list)
    if not groups:
        return known
    columns = ["key", "face", "group", "box", "width", "height", "rung"]
    for row in cache.table.select(columns).to_pylist():
        if row["group"] in groups and row["key"] not in todo and row["face"] == 0 and row["rung"] in DETECTED:
            x0, y0, x1, y1 = row["box"]
            w, h = row["width"], row["height"]
            known[row["group"]].append((x0 / w, y0 / h, x1 / w, y1 / h))
    return known
