"""The gallery: every photo beside what each cache made of it, as static pages."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cache import format
from cache.format import Cache
from cache.pages import kit
from cache.pages.summary import Misses, beyond_chance, histogram, last_build, misses_by_class
from cache.records import DETECTED, LABEL, RUNGS, STATUSES, Record, from_table, label_names
from configs import terminal
from configs.errors import UserError
from preprocess.compare import Cut, disagreement
from preprocess.tiles import draw, original

THUMB_PX = 192
CHUNK = 100
"""Photos whose drawing data the page loads together, and that one thread makes in one go."""

ROWS_A_SCRIPT = 10_000


@dataclass(frozen=True)
class Column:
    """A cache as the gallery shows it: its name there, its rows as records, the photos' folder."""

    name: str
    cache: Cache
    records: list[Record]
    has_pixels: np.ndarray
    source: Path | None


Row = tuple[int, ...]
"""Of one photo: its row number in each cache, -1 where the cache has none."""


def gallery(
    caches: Sequence[Path],
    out: Path,
    *,
    source: Path | None = None,
    thumb_px: int = THUMB_PX,
    jobs: int | None = None,
) -> Path:
    """Write a folder of static pages that shows the photos of caches side by side.

    Args:
        caches: one or more; photos are matched by key and face.
        out: the folder; an older gallery there is replaced, anything else is refused.
        source: the folder of the photos; by default each cache's own.
        thumb_px: longest side of a tile, px. 192 takes some 15 kB a photo.
        jobs: threads; by default one a core.

    Returns:
        The page to open.

    Raises:
        UserError: no cache given, a path that is no cache, `out` holds something else.
    """
    if not caches:
        raise UserError("gallery: name at least one cache")
    if not 32 <= thumb_px <= 1024:
        raise UserError(f"thumb_px {thumb_px}: from 32 to 1024")
    if source is not None and not source.exists():
        raise UserError(f"{source}: no such folder of photos")
    columns = open_columns(caches, source)
    _refuse_inside(out, columns)
    rows = join(columns)
    with kit.fresh_folder(out, kind="gallery") as folder:
        made = list(_tiles(folder, columns, rows, thumb_px, jobs or os.cpu_count() or 1))
        _write_index(folder, columns, rows, made)
    return out / "index.html"


def open_columns(caches: Sequence[Path], source: Path | None) -> list[Column]:
    """Open the caches; each is called by as much of its path's end as tells it from the others."""
    opened = [format.open(path) for path in caches]
    paths = [Path(path).absolute() for path in caches]
    depth = 1
    while len({p.parts[-depth:] for p in paths}) < len(set(paths)):
        depth += 1
    columns = []
    for number, (cache, path) in enumerate(zip(opened, paths, strict=True)):
        name = "/".join(path.parts[-depth:])
        name += f" ({number + 1})" if path in paths[:number] else ""
        pixels = cache.table["slot"].to_numpy() >= 0
        columns.append(Column(name, cache, from_table(cache.table), pixels, source or _source_of(cache)))
    return columns


def join(columns: Sequence[Column]) -> list[Row]:
    """Rows matched by key and face, in the order of the first cache, then of the next ones."""
    places: dict[tuple[str, int], list[int]] = {}
    for number, column in enumerate(columns):
        for row, record in enumerate(column.records):
            places.setdefault((record.key, record.face), [-1] * len(columns))[number] = row
    return [tuple(row) for row in places.values()]


def _tiles(
    folder: Path, columns: Sequence[Column], rows: Sequence[Row], thumb_px: int, jobs: int
) -> Iterator[dict[str, Any]]:
    """Write the pictures and drawing data of all rows; yields what the index must know of each row."""
    starts = range(0, len(rows), CHUNK)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # the pool below keeps all cores busy already
    with (
        terminal.bar(len(rows), label="gallery") as bar,
        ThreadPoolExecutor(jobs) as pool,
    ):
        try:
            waiting: list[Future[list[dict[str, Any]]]] = []
            for start in starts:
                part = rows[start : start + CHUNK]
                waiting.append(pool.submit(_chunk, folder, columns, part, start, thumb_px))
                if len(waiting) > 2 * jobs:
                    yield from _finished(waiting.pop(0), bar)
            while waiting:
                yield from _finished(waiting.pop(0), bar)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            cv2.setNumThreads(threads)


def _finished(future: Future[list[dict[str, Any]]], bar: Any) -> list[dict[str, Any]]:
    made = future.result()
    bar.update(len(made))
    return made


def _chunk(
    folder: Path, columns: Sequence[Column], rows: Sequence[Row], start: int, thumb_px: int
) -> list[dict[str, Any]]:
    """Pictures and drawing data of some rows, and what the index must know of each."""
    pictures = folder / "pictures" / f"{start // CHUNK:05d}"
    pictures.mkdir(parents=True)
    cuts = [_cuts(column, [row[i] for row in rows]) for i, column in enumerate(columns)]
    details, made = [], []
    for number, row in enumerate(rows):
        of_row = [of_cache[number] for of_cache in cuts]
        source, record = _first(columns, row)
        photo, state = original(source, record, thumb_px)
        strip, detail = draw(photo, of_row, thumb_px)
        if strip is not None:
            (pictures / f"{number:02d}.jpg").write_bytes(strip)
        value, why = disagreement([cut for cut in of_row if cut])
        details.append({**detail, "state": state, "why": why})
        made.append({"disagreement": value, "state": state, "original": photo is not None})
    kit.write_chunk(folder, "detail", start // CHUNK, details)
    return made


def _first(columns: Sequence[Column], row: Row) -> tuple[Path | None, Record]:
    """The source and record of a row, from the first cache that has it."""
    column, place = next((c, r) for c, r in zip(columns, row, strict=True) if r >= 0)
    return column.source, column.records[place]


def _cuts(column: Column, rows: Sequence[int]) -> list[Cut | None]:
    """Records and pixels of some rows of one cache."""
    drawn = [row for row in rows if row >= 0 and column.has_pixels[row]]
    rgb = dict(zip(drawn, column.cache.rgb(drawn), strict=True)) if drawn else {}
    alpha = (
        dict(zip(drawn, column.cache.alpha(drawn), strict=True)) if drawn and column.cache.has_alpha else {}
    )
    return [Cut(column.records[row], rgb.get(row), alpha.get(row)) if row >= 0 else None for row in rows]


def _source_of(cache: Cache) -> Path | None:
    """The folder that a cache's keys are below; a CSV's keys are below the CSV's folder."""
    source = cache.recipe.made_with.get("source")
    if not source:
        return None
    return Path(source).parent if Path(source).is_file() else Path(source)


def _refuse_inside(out: Path, columns: Sequence[Column]) -> None:
    """The next build would take the gallery's pictures for photos, and a cache holds nothing foreign."""
    for column in columns:
        photos = Path(column.cache.recipe.made_with.get("source") or column.cache.path)
        for folder, what in ((column.cache.path, "a cache"), (photos, "the photos' folder")):
            if out.resolve().is_relative_to(folder.resolve()):
                raise UserError(f"{out} lies in {folder}, {what}: name a folder outside of it")


def _write_index(
    folder: Path, columns: Sequence[Column], rows: Sequence[Row], made: Sequence[dict[str, Any]]
) -> None:
    """The page itself, with all that it filters, sorts and searches by."""
    records = [_first(columns, row)[1] for row in rows]
    groups, group_codes = _codes([record.group for record in records])
    names = sorted({name for column in columns for name in label_names(column.cache.table)})
    labels = [_label(name, [record.labels.get(name) for record in records]) for name in names]
    index = {
        "key": [record.key for record in records],
        "face": [record.face for record in records],
        "group": group_codes,
        "labels": [label.pop("of_row") for label in labels],
        "caches": [_of_cache(column, [row[i] for row in rows]) for i, column in enumerate(columns)],
        "disagreement": [row["disagreement"] for row in made],
    }
    missing, changed = (sum(row["state"] == state for row in made) for state in ("missing", "changed"))
    meta = {
        "id": _page_id(columns),
        "count": len(rows),
        "chunk": CHUNK,
        "originals": any(row["original"] for row in made),
        "caches": [_shown(column) for column in columns],
        "labels": labels,
        "groups": groups,
        "statuses": list(STATUSES),
        "rungs": list(RUNGS),
    }
    kit.write_page(
        folder,
        title="Gallery: " + ", ".join(column.name for column in columns),
        template="gallery.html",
        styles=("gallery.css",),
        scripts=("gallery_model.js", "gallery_rows.js", "gallery_zoom.js", "gallery.js"),
        context={
            "meta": meta,
            "statuses": STATUSES,
            "rungs": RUNGS,
            "missing": missing,
            "changed": changed,
            "sources": sorted({str(c.source) for c in columns if c.source}),
            "bytes": kit.size_of(folder),
            **_summary(columns, rows),
        },
        data={"meta": [meta], "rows": list(_scripts(index, len(rows)))},
    )


def _page_id(columns: Sequence[Column]) -> str:
    """What marks are kept under in the browser: the same for every gallery of the same caches."""
    caches = [(column.cache.recipe.digest, str(column.cache.path.absolute())) for column in columns]
    return hashlib.sha256(repr(caches).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _scripts(index: dict[str, Any], count: int) -> Iterator[dict[str, Any]]:
    """The index cut into scripts: a browser parses several small ones sooner than one of many MB."""

    def part(value: Any, start: int) -> Any:
        if isinstance(value, dict):
            return {name: part(inner, start) for name, inner in value.items()}
        nested = value and isinstance(value[0], list | dict)
        return [part(inner, start) for inner in value] if nested else value[start : start + ROWS_A_SCRIPT]

    for start in range(0, count, ROWS_A_SCRIPT):
        yield part(index, start)


def _of_cache(column: Column, rows: Sequence[int]) -> dict[str, list[Any]]:
    """What the page filters by; -1 for the status of a photo that is not in this cache."""
    statuses, rungs = list(STATUSES), list(RUNGS)
    records = [column.records[row] if row >= 0 else None for row in rows]
    return {
        "status": [statuses.index(r.status) if r else -1 for r in records],
        "rung": [rungs.index(r.rung) if r and r.rung else -1 for r in records],
        "score": [_share(r.score) if r else None for r in records],
        "coverage": [_share(r.coverage) if r else None for r in records],
    }


def _share(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else round(value, 4)


def _label(name: str, values: Sequence[Any]) -> dict[str, Any]:
    """A label as the page filters by it: a few values to choose from, or a range of numbers."""
    known = [value for value in values if value is not None]
    if known and all(isinstance(value, int | float) for value in known) and len(set(known)) > 20:
        return {"name": name, "range": [min(known), max(known)], "values": None, "of_row": list(values)}
    texts, codes = _codes([None if value is None else str(value) for value in values])
    return {"name": name, "range": None, "values": texts, "of_row": codes}


def _codes(values: Sequence[str | None]) -> tuple[list[str], list[int]]:
    """Distinct texts, sorted, and each value's place among them; -1 for None."""
    texts = sorted({value for value in values if value is not None})
    place = {text: code for code, text in enumerate(texts)}
    return texts, [-1 if value is None else place[value] for value in values]


def _shown(column: Column) -> dict[str, Any]:
    identity = column.cache.recipe.identity
    segment = identity.get("segment")
    segmenter = segment.get("name", "") if isinstance(segment, dict) else segment or ""
    height, width = column.cache.size
    coverages = [r.coverage for r in column.records if r.coverage is not None]
    return {
        "name": column.name,
        "method": str(identity["method"]),
        "segmenter": str(segmenter) if identity["method"] == "seg" else "",
        "size": f"{width} x {height}",
        "alpha": column.cache.has_alpha,
        "usualCoverage": _share(float(np.median(coverages))) if coverages else None,
    }


def _summary(columns: Sequence[Column], rows: Sequence[Row]) -> dict[str, Any]:
    """The figures at the head of the page."""
    names = sorted({name for column in columns for name in label_names(column.cache.table)})
    found = [[_misses(column, name) for column in columns] for name in names]
    tests = sum(miss is not None and miss.p is not None for of_label in found for miss in of_label)
    return {
        "photos": len({columns[i].records[r].key for row in rows for i, r in enumerate(row) if r >= 0}),
        "caches": [_figures(column) for column in columns],
        "by_class": [_by_class(name, of_label, tests) for name, of_label in zip(names, found, strict=True)],
    }


def _figures(column: Column) -> dict[str, Any]:
    records = column.records
    coverage = np.array([np.nan if r.coverage is None else r.coverage for r in records], float)
    looked = [record for record in records if record.rung != "whole"]
    return {
        "statuses": {name: sum(r.status == name for r in records) for name in STATUSES},
        "rungs": {name: sum(r.rung == name for r in records) for name in RUNGS},
        "rows": len(records),
        "looked": len(looked),
        "found": sum(record.rung in DETECTED for record in looked),
        "coverage": histogram(coverage) if column.cache.has_alpha else None,
        "build": last_build(column.cache.path),
    }


def _misses(column: Column, label: str) -> Misses | None:
    """Rows that are not `ok` by class of a label, or None where the cache does not have the label."""
    if LABEL + label not in column.cache.table.column_names or not column.records:
        return None
    records = column.records
    _, persons = np.unique([r.key if r.group is None else r.group for r in records], return_inverse=True)
    missed = np.array([record.status != "ok" for record in records])
    return misses_by_class(label, [record.labels.get(label) for record in records], missed, persons)


def _by_class(label: str, found: Sequence[Misses | None], tests: int) -> dict[str, Any]:
    """One label's misses, a row each class, a pair of numbers each cache."""
    order = list(dict.fromkeys(c.name for miss in found if miss for c in miss.classes))
    counts = [{c.name: c for c in miss.classes} if miss else {} for miss in found]
    return {
        "label": label,
        "p": [miss.p if miss else None for miss in found],
        "flagged": [bool(miss and beyond_chance(miss.p, tests)) for miss in found],
        "classes": [(name, [of_cache.get(name) for of_cache in counts]) for name in order],
    }
