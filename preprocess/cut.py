"""Chunks of photos -> blocks of records with their crops and alphas. No cache, no files but the photos."""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TypeVar

import numpy as np

from cache.records import DETECTED, Record
from preprocess import crop
from preprocess.cascade import Networks, load_networks
from preprocess.crop import Box, Frame, half_px
from preprocess.detect import Face
from preprocess.ladder import centre_box, find_faces, person_box
from preprocess.mask import head_box, settle
from preprocess.photos import Photo, Source, UnreadablePhoto, decode
from preprocess.segment import SEGMENTERS, Segmenter
from preprocess.settings import BuildSettings

T = TypeVar("T")
R = TypeVar("R")

Seconds = defaultdict[str, float]
"""Time spent, by stage."""

BATCH = 32
"""Photos decoded and looked at together."""

LOOK_PX = 640
"""JPEGs are decoded at 1/2, 1/4, 1/8 while their shorter side keeps this: no face worth a crop needs more."""


@dataclass(frozen=True)
class Tools:
    """What cutting needs, loaded once: settings, the detector (not for `none`), the segmenter (for `seg`)."""

    settings: BuildSettings
    networks: Networks | None
    segmenter: Segmenter | None
    device: str


@dataclass(frozen=True)
class Block:
    """Records in the order of their chunk, and the pixels of those that have any.

    Attributes:
        rgb: u8[m h w 3], m = records that are not `unreadable`.
        alpha: u8[m h w], or None where the method makes none.
        seconds: by stage.
    """

    records: list[Record]
    rgb: np.ndarray
    alpha: np.ndarray | None
    seconds: Seconds


@dataclass(frozen=True)
class Loaded:
    """A photo read and decoded, or the reason why not."""

    source: Source
    sha256: str
    photo: Photo | None
    data: bytes
    reason: str = ""


@dataclass(frozen=True)
class Spot:
    """Where to cut a photo: a face in its full px (None: nowhere in particular), and how it was found."""

    loaded: Loaded
    face: Face | None
    rung: str
    detected: bool
    number: int = 0


@dataclass(frozen=True)
class Cutout:
    """A finished crop."""

    record: Record
    rgb: np.ndarray | None
    alpha: np.ndarray | None


def load_tools(settings: BuildSettings, device: str = "auto") -> Tools:
    """Load the networks that the settings ask for.

    Raises:
        UserError: no such device, or a network that can't be had.
    """
    networks = load_networks(device) if settings.method != "none" else None
    segmenter = None
    if settings.method == "seg":
        chosen = settings.segmenter
        segmenter = SEGMENTERS[chosen.name](device, **chosen.settings)
    return Tools(settings, networks, segmenter, networks.device.type if networks else "cpu")


def cut_chunks(
    chunks: Sequence[Sequence[Source]], tools: Tools, known: Mapping[str, Sequence[Box]], *, jobs: int
) -> Iterator[Block]:
    """Cut each chunk into a block, decoding ahead in `jobs` threads while the networks work.

    Args:
        chunks: photos; a person's photos must stand in one chunk.
        tools: what to cut with.
        known: boxes of each group's photos that are not among these, relative to photo size.
    """
    numbered = [(n, batch) for n, chunk in enumerate(chunks) for batch in _batches(chunk)]
    with ThreadPoolExecutor(jobs) as pool:
        loads = _ahead(pool, load, [batch for _, batch in numbered])
        for number, batches in groupby(zip(numbered, loads, strict=True), key=lambda item: item[0][0]):
            yield _cut_chunk(chunks[number], (loaded for _, loaded in batches), tools, known, pool)


def _cut_chunk(
    chunk: Sequence[Source],
    batches: Iterator[list[Loaded]],
    tools: Tools,
    known: Mapping[str, Sequence[Box]],
    pool: Executor,
) -> Block:
    seconds: Seconds = defaultdict(float)
    cutouts: dict[str, list[Cutout]] = {}
    missed: list[Source] = []
    while True:
        with _timed(seconds, "read"):
            loaded = next(batches, None)
        if loaded is None:
            break
        cutouts |= {item.source.key: [_unreadable(item)] for item in loaded if item.photo is None}
        with _timed(seconds, "detect"):
            spots, faceless = look([item for item in loaded if item.photo], tools)
        missed += faceless
        _add(cutouts, cut(spots, tools, pool, seconds))
    boxes = _boxes_by_group(cutouts, known)
    for batch in _batches(missed):
        loaded = list(pool.map(load, batch))
        cutouts |= {item.source.key: [_unreadable(item)] for item in loaded if item.photo is None}
        spots = guess([item for item in loaded if item.photo], boxes, tools, seconds)
        _add(cutouts, cut(spots, tools, pool, seconds))
    return _assemble([c for source in chunk for c in cutouts[source.key]], tools.settings, seconds)


def load(source: Source) -> Loaded:
    """Read and decode one photo; whatever is wrong with it becomes its reason."""
    try:
        data = source.path.read_bytes()
    except OSError as error:
        return Loaded(source, "", None, b"", f"can't be read: {error.strerror or error}")
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        photo = decode(data, min_side_px=LOOK_PX)
    except UnreadablePhoto as error:
        return Loaded(source, sha256, None, b"", str(error))
    return Loaded(source, sha256, photo, data if photo.scale[0] > 1 else b"")


def look(loaded: Sequence[Loaded], tools: Tools) -> tuple[list[Spot], list[Source]]:
    """Where a detector sees a face; and the photos where it sees none."""
    if tools.networks is None:
        return [Spot(item, None, "whole", False) for item in loaded], []
    photos = [item.photo for item in loaded if item.photo]
    found = find_faces([photo.rgb for photo in photos], tools.networks, tools.settings.detect)
    spots, missed = [], []
    for item, photo, hit in zip(loaded, photos, found, strict=True):
        if hit is None:
            missed.append(item.source)
            continue
        spots += [
            Spot(item, _in_full_px(face, photo), hit.rung, True, number)
            for number, face in enumerate(hit.faces)
        ]
    return spots, missed


def guess(
    loaded: Sequence[Loaded], boxes: Mapping[str, Sequence[Box]], tools: Tools, seconds: Seconds
) -> list[Spot]:
    """A box where no detector saw a face: of the person's other photos, the figure's head, or the centre."""
    spots = []
    heads = _heads([item for item in loaded if not boxes.get(item.source.group or "")], tools, seconds)
    for item in loaded:
        assert item.photo
        size = (item.photo.width, item.photo.height)
        others = boxes.get(item.source.group or "")
        head = heads.get(item.source.key)
        if others:
            box, rung = person_box(others, *size), "person"
        elif head:
            box, rung = head, "head"
        else:
            box, rung = centre_box(*size), "centre"
        spots.append(Spot(item, face_of(half_px(box)), rung, False))
    return spots


def cut(spots: Sequence[Spot], tools: Tools, pool: Executor, seconds: Seconds) -> list[Cutout]:
    """Cut the crops, and the figures where there is a segmenter."""
    if not spots:
        return []
    settings = tools.settings
    with _timed(seconds, "crop"):
        frames = [frame_of(spot, settings) for spot in spots]
        rgb = list(pool.map(lambda spot, frame: pixels(spot, frame, settings), spots, frames))
    records = [_record(spot, frame) for spot, frame in zip(spots, frames, strict=True)]
    if tools.segmenter is None:
        return [Cutout(record, image, None) for record, image in zip(records, rgb, strict=True)]
    with _timed(seconds, "segment"):
        faces = [
            None
            if spot.face is None or spot.rung == "centre"
            else _in_crop_px(spot.face, frame, settings.shape)
            for spot, frame in zip(spots, frames, strict=True)
        ]
        alphas = tools.segmenter.cut(np.stack(rgb), faces)
        return list(pool.map(_settled, records, rgb, alphas, faces, frames))


def frame_of(spot: Spot, settings: BuildSettings) -> Frame:
    """The frame to cut for a spot, in full px."""
    photo = spot.loaded.photo
    assert photo
    if spot.face is None:
        return crop.whole(photo.width, photo.height, size=settings.shape)
    level = spot.face.landmarks if settings.crop.align and spot.detected else None
    return crop.around(spot.face.box, size=settings.shape, margin=settings.crop.margin, landmarks=level)


def pixels(spot: Spot, frame: Frame, settings: BuildSettings) -> np.ndarray:
    """The crop, u8[h w 3]; from a finer decoding where the one at hand has fewer px than the crop."""
    photo = spot.loaded.photo
    assert photo
    if photo.scale[0] > 1 and frame.width < settings.shape[1] * photo.scale[0]:
        finer = min(photo.width, photo.height) * settings.shape[1] / frame.width
        photo = decode(spot.loaded.data, min_side_px=max(1, round(finer)))
    across, down = photo.scale
    return crop.extract(
        photo.rgb, crop.scaled(frame, 1 / across, 1 / down), size=settings.shape, fill=settings.crop.fill
    )


def face_of(box: Sequence[float]) -> Face:
    """A face known by its box alone; its landmarks stand where MTCNN's stand on average."""
    x0, y0, x1, y1 = box
    places = (0.31, 0.39, 0.69, 0.39, 0.50, 0.58, 0.34, 0.76, 0.66, 0.76)
    marks = [
        start + share * side
        for share, start, side in zip(places, (x0, y0) * 5, (x1 - x0, y1 - y0) * 5, strict=True)
    ]
    return Face((x0, y0, x1, y1), 0.0, tuple(marks))


def _settled(record: Record, rgb: np.ndarray, alpha: np.ndarray, face: Face | None, frame: Frame) -> Cutout:
    settled = settle(alpha, face)
    alpha = settled.alpha
    on_photo = crop.inside(frame, record.width, record.height, size=alpha.shape)
    if on_photo is not None:
        alpha = np.where(on_photo, alpha, np.uint8(0))
    if settled.status != "ok" and record.status == "ok":
        record = replace(record, status=settled.status, reason=settled.reason)
    return Cutout(replace(record, coverage=_stored(alpha.mean() / 255)), rgb, alpha)


def _heads(loaded: Sequence[Loaded], tools: Tools, seconds: Seconds) -> dict[str, Box]:
    """The head of the figure that the segmenter sees in each whole photo, by key, full px."""
    if tools.segmenter is None or not loaded:
        return {}
    settings = tools.settings
    with _timed(seconds, "segment"):
        spots = [Spot(item, None, "whole", False) for item in loaded]
        frames = [frame_of(spot, settings) for spot in spots]
        rgb = np.stack([pixels(s, f, settings) for s, f in zip(spots, frames, strict=True)])
        alphas = tools.segmenter.cut(rgb, [None] * len(spots))
    heads = {}
    for item, frame, alpha in zip(loaded, frames, alphas, strict=True):
        box = head_box(alpha)
        if box is not None:
            x, y = crop.to_photo(np.array(box[::2]), np.array(box[1::2]), frame, size=settings.shape)
            heads[item.source.key] = (float(x[0]), float(y[0]), float(x[1]), float(y[1]))
    return heads


def _record(spot: Spot, frame: Frame) -> Record:
    item, face = spot.loaded, spot.face
    assert item.photo
    guessed = spot.rung == "centre"
    return Record(
        key=item.source.key,
        face=spot.number,
        group=item.source.group,
        labels=item.source.labels,
        sha256=item.sha256,
        bytes=item.source.bytes,
        mtime_ns=item.source.mtime_ns,
        width=item.photo.width,
        height=item.photo.height,
        box=face.box if face else None,
        landmarks=face.landmarks if face and spot.detected else None,
        crop=frame.as_tuple(),
        score=_stored(face.score) if face and spot.detected else None,
        rung=spot.rung,
        status="no_face" if guessed else "ok",
        reason="no face found by any rung; the centre was cut" if guessed else "",
    )


def _stored(share: float) -> float:
    """A share to four digits, as the float32 that the table keeps: a record read back is the one written."""
    return float(np.float32(round(float(share), 4)))


def _unreadable(item: Loaded) -> Cutout:
    source = item.source
    record = Record(
        key=source.key,
        group=source.group,
        labels=source.labels,
        sha256=item.sha256,
        bytes=source.bytes,
        mtime_ns=source.mtime_ns,
        status="unreadable",
        reason=item.reason,
    )
    return Cutout(record, None, None)


def _assemble(cutouts: Sequence[Cutout], settings: BuildSettings, seconds: Seconds) -> Block:
    rgb = [c.rgb for c in cutouts if c.rgb is not None]
    alpha = [c.alpha for c in cutouts if c.alpha is not None]
    height, width = settings.shape
    return Block(
        [c.record for c in cutouts],
        np.stack(rgb) if rgb else np.empty((0, height, width, 3), np.uint8),
        None
        if settings.method != "seg"
        else np.stack(alpha)
        if alpha
        else np.empty((0, height, width), np.uint8),
        seconds,
    )


def _boxes_by_group(
    cutouts: Mapping[str, Sequence[Cutout]], known: Mapping[str, Sequence[Box]]
) -> dict[str, list[Box]]:
    """Detected boxes by group, relative to photo size, the chosen face of each photo."""
    boxes: dict[str, list[Box]] = defaultdict(list)
    for group, others in known.items():
        boxes[group] += others
    for parts in cutouts.values():
        record = parts[0].record
        if record.group and record.box and record.rung in DETECTED:
            x0, y0, x1, y1 = record.box
            w, h = record.width, record.height
            boxes[record.group].append((x0 / w, y0 / h, x1 / w, y1 / h))
    return boxes


def _in_full_px(face: Face, photo: Photo) -> Face:
    across, down = photo.scale
    x0, y0, x1, y1 = half_px([v * s for v, s in zip(face.box, (across, down) * 2, strict=True)])
    marks = half_px([v * s for v, s in zip(face.landmarks, (across, down) * 5, strict=True)])
    return Face((x0, y0, x1, y1), face.score, marks)


def _in_crop_px(face: Face, frame: Frame, size: tuple[int, int]) -> Face:
    x0, y0, x1, y1 = face.box
    corners = crop.to_crop((x0, y0, x1, y0, x1, y1, x0, y1), frame, size=size)
    xs, ys = corners[::2], corners[1::2]
    return Face(
        (min(xs), min(ys), max(xs), max(ys)), face.score, crop.to_crop(face.landmarks, frame, size=size)
    )


def _add(cutouts: dict[str, list[Cutout]], more: Iterable[Cutout]) -> None:
    for cutout in more:
        cutouts.setdefault(cutout.record.key, []).append(cutout)


def _batches(items: Sequence[T]) -> list[Sequence[T]]:
    return [items[at : at + BATCH] for at in range(0, len(items), BATCH)]


def _ahead(pool: Executor, function: Callable[[T], R], batches: Iterable[Sequence[T]]) -> Iterator[list[R]]:
    """Map each batch in the pool, the next one already under way while this one is used."""
    under_way: list[list[Future[R]]] = []
    for batch in batches:
        under_way.append([pool.submit(function, item) for item in batch])
        if len(under_way) > 1:
            yield [future.result() for future in under_way.pop(0)]
    for futures in under_way:
        yield [future.result() for future in futures]


@contextmanager
def _timed(seconds: Seconds, stage: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[stage] += time.perf_counter() - started
