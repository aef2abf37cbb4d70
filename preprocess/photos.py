"""Find the photos of a source with their labels, and decode one, whatever it is."""

from __future__ import annotations

import csv
import io
import os
import re
import struct
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np
from PIL import Image, ImageOps

from cache.records import Label
from cache.remote import address_of
from configs import terminal
from configs.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from preprocess.remote import RemotePath

Place: TypeAlias = "Path | RemotePath"

SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
LAYOUTS = ("folders", "csv", "mask18", "flat")

MAX_PIXELS = 2**28
"""Photos beyond 268 megapixels are refused: their size in a header costs nothing, their pixels a GB."""

PERSON_FOLDER = re.compile(r"(?P<id>[^_]+)_(?P<gender>male|female)_(?P<race>[^_]*)_(?P<age>\d{1,3})")
MASK_FILE = re.compile(r"(?P<state>normal|incorrect_mask|mask\d*)")


class UnreadablePhoto(Exception):
    """A photo that can't be decoded; the text is the reason, for its record."""


@dataclass(frozen=True)
class Source:
    """A photo that was listed, not yet read.

    Attributes:
        key: path below the source folder, `/` between parts; bytes that are not UTF-8 as `\\xNN`.
        path: where to read it.
        labels: named values; the same names for all photos of a source.
        group: the person, or None.
        bytes, mtime_ns: from the file system; -1 where the file can't be reached.
    """

    key: str
    path: Place
    labels: dict[str, Label]
    group: str | None
    bytes: int
    mtime_ns: int


def list_sources(source: Path, layout: str = "auto") -> list[Source]:
    """All photos of a source, sorted by key.

    Args:
        source: a folder (class folders, persons' folders, or just photos), one photo, or a CSV file;
            or an fsspec address of one (`s3://bucket/photos`).
        layout: one of `LAYOUTS`, or "auto" to recognise it.

    Raises:
        UserError: nothing there, no photos in it, a cache instead of photos, or a malformed CSV.
    """
    if layout not in ("auto", *LAYOUTS):
        raise UserError(f"--layout {layout}: not known{did_you_mean(layout, LAYOUTS)}")
    address = address_of(source)
    if address:
        return _from_address(address, layout)
    if not source.exists():
        raise UserError(f"{source}: no such file or folder")
    if (source / "recipe.json").is_file() and (source / "shards").is_dir():
        raise UserError(
            f"{source} is a cache, not a folder of photos: give the folder that it was built from"
        )
    if layout == "csv" or (layout == "auto" and source.suffix.lower() == ".csv"):
        return _from_csv(source)
    if source.is_file():
        if source.suffix.lower() not in SUFFIXES:
            raise UserError(f"{source}: neither a photo, nor a CSV, nor a folder of photos")
        return [_listed(source.name, source, {}, None)]
    found = sorted(_walk(source), key=lambda pair: pair[0])
    if not found:
        raise UserError(f"{source}: no photos in it (looked for {' '.join(SUFFIXES)})")
    return _read(source, found, layout)


def _from_address(address: str, layout: str) -> list[Source]:
    """`list_sources` of an fsspec address."""
    from preprocess.remote import RemotePath, files

    if layout == "csv" or (layout == "auto" and address.lower().endswith(".csv")):
        return _from_csv(RemotePath(address))
    found = [(key or path.name, path) for key, path in files(address)]
    if any(key == "recipe.json" for key, _ in found):
        raise UserError(
            f"{address} is a cache, not a folder of photos: give the folder that it was built from"
        )
    photos = sorted(
        (pair for pair in found if pair[0].lower().endswith(SUFFIXES) and not _hidden(pair[0])),
        key=lambda pair: pair[0],
    )
    if not photos:
        raise UserError(f"{address}: no photos in it (looked for {' '.join(SUFFIXES)})")
    return _read(RemotePath(address), photos, layout)


def _hidden(key: str) -> bool:
    return any(part.startswith(".") for part in key.split("/"))


def _read(source: Place, found: Sequence[tuple[str, Place]], layout: str) -> list[Source]:
    layout = recognise([key for key, _ in found]) if layout == "auto" else layout
    read = {"folders": _from_folders, "mask18": _from_mask18, "flat": _from_flat}[layout]
    return _unique(read(source, found))


def recognise(keys: list[str]) -> str:
    """The layout of a folder by the keys of its photos: `mask18`, `folders` or `flat`."""
    if any(_person_of(key) for key in keys):
        return "mask18"
    return "folders" if all("/" in key for key in keys) else "flat"


def _walk(folder: Path) -> Iterator[tuple[str, Path]]:
    """Key and path of each photo below a folder; links are followed, each folder entered once."""

    def closed(error: OSError) -> None:
        terminal.note(f"left out: {error.filename}: {error.strerror}")

    entered = set()
    for root, folders, files in os.walk(folder, followlinks=True, onerror=closed):
        state = Path(root).stat()
        if (state.st_dev, state.st_ino) in entered:
            folders.clear()
            continue
        entered.add((state.st_dev, state.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                path = Path(root, name)
                yield key_of(path.relative_to(folder)), path


def key_of(path: Path) -> str:
    """A relative path as text: `/` between parts, bytes that are not UTF-8 as `\\xNN`."""
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")


def _from_flat(_: Place, found: Sequence[tuple[str, Place]]) -> list[Source]:
    return [_listed(key, path, {}, None) for key, path in found]


def _from_folders(source: Place, found: Sequence[tuple[str, Place]]) -> list[Source]:
    loose = [key for key, _ in found if "/" not in key]
    if loose:
        raise UserError(
            f"{source}: layout `folders` wants each photo in the folder of its class, "
            f"but {loose[0]} is in none ({len(loose)} such photos)"
        )
    return [_listed(key, path, {"class": key.split("/", 1)[0]}, None) for key, path in found]


def _from_mask18(source: Place, found: Sequence[tuple[str, Place]]) -> list[Source]:
    sources, odd = [], []
    for key, path in found:
        person = _person_of(key)
        state = MASK_FILE.fullmatch(path.stem.lower())
        if not person or not state:
            odd.append(key)
            continue
        labels: dict[str, Label] = {
            "mask": {"normal": "normal", "incorrect_mask": "incorrect"}.get(state["state"], "mask"),
            "gender": person["gender"],
            "age": int(person["age"]),
        }
        sources.append(_listed(key, path, labels, key.rsplit("/", 1)[0]))
    if odd:
        raise UserError(
            f"{source}: layout `mask18` wants 000001_female_Asian_45/mask1.jpg (or normal, incorrect_mask); "
            f"{odd[0]} is not of that form ({len(odd)} such photos): move them away, or name another --layout"
        )
    return sources


def _person_of(key: str) -> re.Match[str] | None:
    parts = key.split("/")
    return PERSON_FOLDER.fullmatch(parts[-2]) if len(parts) > 1 else None


def _from_csv(source: Place) -> list[Source]:
    """A CSV with a `path` column (relative to the CSV), label columns, and an optional `group` column."""
    try:
        with source.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            names = reader.fieldnames or []
            rows = list(reader)
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise UserError(f"{source}: not a readable CSV ({error})") from None
    if "path" not in names:
        raise UserError(f"{source}: a CSV needs a column `path`; it has {', '.join(names) or 'none'}")
    if not rows:
        raise UserError(f"{source}: no rows in it")
    short = next((i for i, row in enumerate(rows) if None in row or None in row.values()), None)
    if short is not None:
        raise UserError(f"{source}: row {short + 2} has more or fewer fields than the header")
    keys = [Path(row["path"]).as_posix() for row in rows]
    twice = next((key for key, count in Counter(keys).items() if count > 1), None)
    if twice is not None:
        raise UserError(f"{source}: {twice} is listed twice; each photo takes one row")
    columns = {name: _typed([row[name] for row in rows]) for name in names if name not in ("path", "group")}
    return sorted(
        (
            _listed(
                key, source.parent / key, {n: v[i] for n, v in columns.items()}, rows[i].get("group") or None
            )
            for i, key in enumerate(keys)
        ),
        key=lambda item: item.key,
    )


def _typed(values: list[str]) -> list[Label]:
    """A CSV column as integers, else as numbers, else as it is."""
    for kind in (int, float):
        try:
            return [kind(value) for value in values]
        except ValueError:
            continue
    return list(values)


def _listed(key: str, path: Place, labels: dict[str, Label], group: str | None) -> Source:
    try:
        state = path.stat()
        return Source(key, path, labels, group, state.st_size, state.st_mtime_ns)
    except OSError:
        return Source(key, path, labels, group, -1, -1)


def _unique(sources: list[Source]) -> list[Source]:
    """Keys made unique: a byte `\\xff` and the four letters of its escape would else be one key."""
    seen: dict[str, int] = {}
    unique = []
    for source in sources:
        count = seen[source.key] = seen.get(source.key, 0) + 1
        unique.append(source if count == 1 else replace(source, key=f"{source.key}~{count}"))
    return unique


@dataclass(frozen=True)
class Photo:
    """A decoded photo, upright.

    Attributes:
        rgb: u8[h w 3], perhaps smaller than the photo itself.
        width, height: of the photo at its full size, upright, px; `rgb` is a 1/1, 1/2, 1/4 or 1/8 of it.
    """

    rgb: np.ndarray
    width: int
    height: int

    @property
    def scale(self) -> tuple[float, float]:
        """Full px per px of `rgb`, across and down."""
        return self.width / self.rgb.shape[1], self.height / self.rgb.shape[0]


def decode(data: bytes, *, min_side_px: int | None = None) -> Photo:
    """Decode a file of any picture format, upright, in RGB.

    EXIF orientation is obeyed; greyscale, palette, CMYK and 16-bit become 8-bit RGB; transparent parts
    stand on white; of an animation the first frame is taken.

    Args:
        data: the file's bytes.
        min_side_px: a JPEG may be decoded at 1/2, 1/4 or 1/8 while its shorter side stays at least
            this long (the decoder then skips most of the work); None: at full size.

    Raises:
        UnreadablePhoto: empty, not a picture, damaged, or more than `MAX_PIXELS`.
    """
    if not data:
        raise UnreadablePhoto("the file is empty")
    header = _jpeg_header(data)
    if header is None:
        return _decode_any(data)
    width, height, channels = header
    if width * height > MAX_PIXELS:
        raise UnreadablePhoto(f"{width}x{height} px are more than {MAX_PIXELS // 10**6} megapixels")
    # libjpeg pads a truncated file with grey; Pillow says so, and knows CMYK. They cost more time.
    if channels == 4 or b"\xff\xd9" not in data[-64:]:
        return _decode_any(data)
    reduce = 1
    while min_side_px and reduce < 8 and min(width, height) / (2 * reduce) >= min_side_px:
        reduce *= 2
    flag = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}
    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), flag.get(reduce, cv2.IMREAD_REDUCED_COLOR_8))
    except cv2.error:
        bgr = None
    if bgr is None:
        return _decode_any(data)
    turned = (width > height) != (bgr.shape[1] > bgr.shape[0]) and width != height
    if turned:
        width, height = height, width
    return Photo(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=bgr), width, height)


def _decode_any(data: bytes) -> Photo:
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UnreadablePhoto(
                    f"{image.width}x{image.height} px are more than {MAX_PIXELS // 10**6} megapixels"
                )
            upright = ImageOps.exif_transpose(image)
            rgb = np.ascontiguousarray(_to_rgb(upright))
    except UnreadablePhoto:
        raise
    except Image.UnidentifiedImageError:
        raise UnreadablePhoto("not a picture of a known format") from None
    except Image.DecompressionBombError:
        raise UnreadablePhoto(f"more than {MAX_PIXELS // 10**6} megapixels") from None
    except Exception as error:
        # Pillow's decoders raise nearly anything on damaged data; the photo is bad, not the program.
        raise UnreadablePhoto(f"damaged: {error or type(error).__name__}") from None
    return Photo(rgb, rgb.shape[1], rgb.shape[0])


def _to_rgb(image: Image.Image) -> np.ndarray:
    """u8[h w 3] of a Pillow image of any mode."""
    if image.mode.startswith("I") or image.mode == "F":
        # 16 bit: Pillow's own conversion clips at 255 instead of scaling.
        grey = np.asarray(image).astype(np.float32)
        grey *= 255 / max(65535.0 if image.mode.startswith("I") else 1.0, float(grey.max(initial=0)))
        return np.repeat(grey.round().astype(np.uint8)[..., None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return np.array(image.convert("RGB"))


def _jpeg_header(data: bytes) -> tuple[int, int, int] | None:
    """Width, height and channels of a JPEG by its frame header (ITU-T T.81, B.2.2), or None."""
    if data[:3] != b"\xff\xd8\xff":
        return None
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width, channels = struct.unpack(">HHB", data[at + 5 : at + 10])
            return (width, height, channels) if width and height else None
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None
