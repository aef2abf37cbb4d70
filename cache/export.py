"""Out of a cache, for other people's training code: class folders, WebDataset tars, Hugging Face folders."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageColor

from cache.disk import REASONS
from cache.format import Cache
from cache.names import different, file_names, safe
from cache.records import Label, Record, label_names
from configs import terminal
from configs.errors import UserError, did_you_mean

VIEWS = ("figure", "full", "background")
TRANSPARENT = "transparent"
IMAGES = {"png": ".png", "webp": ".webp", "jpeg": ".jpg"}
CHUNK = 64
"""Photos that a thread encodes at a time."""
UNKNOWN = "unknown"
"""The class of a photo whose label is not known."""


@dataclass(frozen=True)
class Look:
    """How a crop becomes a file.

    Attributes:
        view: "figure" (what is behind the figure is blanked), "full" (the crop as it is) or
            "background" (the figure is blanked).
        fill: what stands for the blanked: a colour as `black`, `#ff8800`, or "transparent".
        image: "png" (lossless), "webp" or "jpeg".
        quality: 1..100, of webp and jpeg.
    """

    view: str = "full"
    fill: str = "black"
    image: str = "png"
    quality: int = 95

    def __post_init__(self) -> None:
        for name, value, known in (("view", self.view, VIEWS), ("image", self.image, IMAGES)):
            if value not in known:
                raise UserError(f"--{name} {value}: not known{did_you_mean(value, known)}")
        if self.fill == TRANSPARENT and self.image == "jpeg":
            raise UserError("--fill transparent: JPEG knows no transparency; choose --image png or webp")
        if self.fill != TRANSPARENT:
            try:
                ImageColor.getrgb(self.fill)
            except ValueError:
                raise UserError(
                    f'--fill {self.fill}: no colour; write "transparent", a name as white, or #rrggbb'
                ) from None


@dataclass(frozen=True)
class Export:
    """What the formats need to know.

    Attributes:
        cache: where the pixels come from.
        rows: i64[n], of the cache: all with pixels, of the statuses asked for.
        records: those of the rows.
        look: how a crop becomes a file.
        classes: n tuples of labels, or None where no label was chosen.
        split: for huggingface: names of splits with their share of the persons.
        per_tar: for webdataset: photos in a tar.
    """

    cache: Cache
    rows: np.ndarray
    records: Sequence[Record]
    look: Look
    classes: Sequence[tuple[str, ...]] | None
    split: Mapping[str, float]
    per_tar: int

    @property
    def ending(self) -> str:
        """Of the image files."""
        return IMAGES[self.look.image]

    def encoded(self, places: Sequence[int]) -> list[bytes]:
        """The image files of these of the rows."""
        rows = self.rows[list(places)]
        alpha = self.cache.alpha(rows) if self.look.view != "full" else [None] * len(rows)
        return [encode(*both, self.look) for both in zip(self.cache.rgb(rows), alpha, strict=True)]


def export(
    cache: Cache,
    out: Path,
    *,
    format: str,
    look: Look,
    by: Sequence[str] = (),
    statuses: Sequence[str] = (),
    split: Mapping[str, float] | None = None,
    per_tar: int = 1000,
    jobs: int | None = None,
) -> int:
    """Write the pictures of a cache to a new folder, whole or not at all; how many.

    Args:
        cache: its rows with pixels are written.
        out: an absent or empty folder.
        format: a name of `FORMATS`.
        look: view, fill and kind of the image files.
        by: the labels that make the class; where empty, the cache's only label.
        statuses: only records of these; empty: all that have pixels.
        split: for huggingface: names of splits with their share of the persons; the rest is "train".
        per_tar: for webdataset: photos in a tar.
        jobs: threads; None: one a core.

    Raises:
        UserError: a setting that this cache can't meet, or a folder that is not empty.
    """
    if look.view != "full" and not cache.has_alpha:
        raise UserError(
            f"{cache.path}: --view {look.view} needs alpha, which a cache of method "
            f"{cache.recipe.identity['method']!r} has not; take --view full, or build with --method seg"
        )
    if format not in FORMATS:
        raise UserError(f"--format {format}: not known{did_you_mean(format, FORMATS)}")
    if split and format != "huggingface":
        raise UserError(f"--split: only for --format huggingface, not for {format}")
    _check_target(cache, out)
    rows = cache.usable()
    if statuses:
        rows = rows[np.isin(np.array(cache.table["status"].to_pylist(), object)[rows], list(statuses))]
    if not len(rows):
        raise UserError(f"{cache.path}: no photo to export (see: cache info {cache.path})")
    records = cache.records(rows)
    classes = _classes(cache, records, by, needed=format == "folders")
    job = Export(cache, rows, records, look, classes, split or {}, per_tar)
    unfinished = out.with_name(f".{out.name}.unfinished")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        _run(FORMATS[format](job, unfinished), len(rows), jobs)
        unfinished.replace(out)
    except OSError as error:
        why = REASONS.get(error.errno or 0, error.strerror or str(error)).replace("--out", "folder")
        raise UserError(f"{out}: {why}; nothing was exported") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return len(rows)


Task = tuple[Callable[..., None], Sequence[int]]
"""A function that writes some of the rows, and which."""


def folders(job: Export, out: Path) -> list[Task]:
    """OUT/CLASS/NAME.png, as torchvision's ImageFolder reads them, and OUT/records.csv."""
    names = _class_names(job.classes or [()] * len(job.rows))
    keys, faces = [r.key for r in job.records], [r.face for r in job.records]
    stems = file_names(keys, faces, names)
    files = [f"{name}/{stem}{job.ending}" for name, stem in zip(names, stems, strict=True)]
    for name in set(names):
        (out / name).mkdir()
    _write_table(out / "records.csv", "file", files, job.records)
    return _image_tasks(job, [out / file for file in files])


def webdataset(job: Export, out: Path) -> list[Task]:
    """OUT/photos-000000.tar with NAME.png, NAME.json and NAME.cls (a number: the line of OUT/classes.txt)."""
    # WebDataset takes all after the first dot of a name for its ending.
    stems = different([name.replace(".", "_") for name in _stems(job)])
    numbers: list[int | None] = [None] * len(stems)
    if job.classes:
        names = _class_names(job.classes)
        order = sorted(set(names))
        numbers = [order.index(name) for name in names]
        (out / "classes.txt").write_text("".join(f"{name}\n" for name in order), "utf-8")

    def write(places: Sequence[int]) -> None:
        with tarfile.open(out / f"photos-{places[0] // job.per_tar:06d}.tar", "w") as tar:
            for start in range(0, len(places), CHUNK):
                some = places[start : start + CHUNK]
                for place, image in zip(some, job.encoded(some), strict=True):
                    about = json.dumps(_about(job.records[place]), ensure_ascii=False).encode()
                    _add(tar, stems[place] + job.ending, image)
                    _add(tar, stems[place] + ".json", about)
                    if numbers[place] is not None:
                        _add(tar, stems[place] + ".cls", str(numbers[place]).encode())

    every = range(len(stems))
    return [(write, every[start : start + job.per_tar]) for start in range(0, len(every), job.per_tar)]


def huggingface(job: Export, out: Path) -> list[Task]:
    """OUT[/SPLIT]/metadata.csv and images beside it: `load_dataset("imagefolder", data_dir=OUT)`."""
    parts = _split(job.records, job.split)
    files = [f"images/{stem}{job.ending}" for stem in _stems(job)]
    for part in sorted(set(parts)):
        (out / part / "images").mkdir(parents=True)
        inside = [place for place, name in enumerate(parts) if name == part]
        table = [job.records[place] for place in inside]
        _write_table(out / part / "metadata.csv", "file_name", [files[place] for place in inside], table)
    return _image_tasks(job, [out / part / file for part, file in zip(parts, files, strict=True)])


FORMATS = {"folders": folders, "webdataset": webdataset, "huggingface": huggingface}


def encode(rgb: np.ndarray, alpha: np.ndarray | None, look: Look) -> bytes:
    """An image file of one crop: rgb u8[h w 3], alpha u8[h w] (not needed for the view "full")."""
    if look.view != "full":
        assert alpha is not None
        alpha = 255 - alpha if look.view == "background" else alpha
        rgb = blank(rgb, alpha, look.fill)
    sink = io.BytesIO()
    lossy = {} if look.image == "png" else {"quality": look.quality}
    Image.fromarray(rgb).save(sink, look.image.upper(), **lossy)
    return sink.getvalue()


def blank(rgb: np.ndarray, alpha: np.ndarray, fill: str) -> np.ndarray:
    """The crop over a colour, u8[h w 3]; or u8[h w 4] where the fill is transparent.

    What is wholly transparent is black besides: a reader that drops the alpha channel would
    otherwise see the room again.
    """
    if fill == TRANSPARENT:
        return np.dstack([rgb * (alpha > 0)[..., None], alpha])
    colour = np.array(ImageColor.getrgb(fill)[:3], np.uint32)
    weight = alpha[..., None].astype(np.uint32)
    return ((rgb * weight + colour * (255 - weight) + 127) // 255).astype(np.uint8)


def _check_target(cache: Cache, out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: not an empty folder; choose another one to export to")
    if cache.path.resolve() in [out.resolve(), *out.resolve().parents]:
        raise UserError(f"{out}: inside the cache; choose another folder to export to")


def _classes(
    cache: Cache, records: Sequence[Record], by: Sequence[str], *, needed: bool
) -> list[tuple[str, ...]] | None:
    """The class of each record; None where there is no label to tell it, and it is not needed."""
    known = label_names(cache.table)
    for name in by:
        if name not in known:
            raise UserError(f"--by {name}: no label of {cache.path}{did_you_mean(name, known)}")
    if not by and len(known) != 1:
        if needed and known:
            raise UserError(f"--by: which labels make the class folders? known: {', '.join(known)}")
        return [("all",)] * len(records) if needed else None
    return [tuple(_text(record.labels.get(name)) for name in by or known) for record in records]


def _text(label: Label | None) -> str:
    return UNKNOWN if label is None else str(label)


def _class_names(classes: Sequence[tuple[str, ...]]) -> list[str]:
    """A folder's name for each class: its labels with `_` between."""
    distinct = sorted(set(classes))
    safe_names = [safe("_".join(labels)) for labels in distinct]
    _, *folders = different(["records.csv", *safe_names])  # which stands beside them
    names = dict(zip(distinct, folders, strict=True))
    return [names[labels] for labels in classes]


def _stems(job: Export) -> list[str]:
    return file_names([r.key for r in job.records], [r.face for r in job.records], [""] * len(job.rows))


def _split(records: Sequence[Record], shares: Mapping[str, float]) -> list[str]:
    """A split's name for each record, all of a person in the same; "" where no splits are wanted.

    The persons are dealt out in the order of a hash of their names: equal in every export.
    """
    if not shares:
        return [""] * len(records)
    if any(safe(name) != name for name in shares) or min(shares.values()) <= 0 or sum(shares.values()) >= 1:
        raise UserError(
            "--split: give each a plain name and a share, all together less than 1: validation=0.2"
        )
    persons = [record.key if record.group is None else f"\0{record.group}" for record in records]
    order = sorted(set(persons), key=lambda person: hashlib.sha256(person.encode()).digest())
    bounds = np.cumsum([share * len(order) for share in shares.values()]).round().astype(int)
    names = [*shares, "train"]
    where = {person: names[int(np.searchsorted(bounds, n, "right"))] for n, person in enumerate(order)}
    return [where[person] for person in persons]


def _about(record: Record) -> dict[str, Any]:
    """What a row of records.csv, metadata.csv or a .json says of a photo."""
    own = {"key": record.key, "face": record.face, "group": record.group, "status": record.status,
           "rung": record.rung, "coverage": record.coverage}  # fmt: skip
    taken = {*own, "file", "file_name"}
    return {**{f"label_{k}" if k in taken else k: v for k, v in record.labels.items()}, **own}


def _write_table(path: Path, first: str, files: Sequence[str], records: Sequence[Record]) -> None:
    rows = [{first: file, **_about(record)} for file, record in zip(files, records, strict=True)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)


def _image_tasks(job: Export, files: Sequence[Path]) -> list[Task]:
    def write(places: Sequence[int]) -> None:
        for place, image in zip(places, job.encoded(places), strict=True):
            files[place].write_bytes(image)

    every = range(len(files))
    return [(write, every[start : start + CHUNK]) for start in range(0, len(every), CHUNK)]


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)  # with no time and no owner: equal exports are equal bytes
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def _run(tasks: Iterable[Task], total: int, jobs: int | None) -> None:
    with ThreadPoolExecutor(jobs or os.cpu_count()) as pool, terminal.bar(total, label="export") as bar:

        def work(task: Task) -> int:
            write, places = task
            write(places)
            return len(places)

        for done in pool.map(work, tasks):
            bar.update(done)
