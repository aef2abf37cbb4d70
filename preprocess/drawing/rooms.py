"""The rooms behind the drawn portraits: one for each of the six groups, always the same whatever the seed."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocess.drawing.brush import noise

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
# The room is larger than a photo, so that each photo shows another part of it.
ROOM_HEIGHT, ROOM_WIDTH = 720, 900
Colour = tuple[float, float, float]


@cache
def room(number: int) -> U8:
    """The wall of room `number` (0..5), u8 [720 900 3]."""
    name, draw = list(ROOMS.items())[number]
    rng = np.random.default_rng([7, number])
    wall = draw(rng)
    assert wall.shape == (ROOM_HEIGHT, ROOM_WIDTH, 3), name
    light = 1 + 0.12 * noise(rng, ROOM_HEIGHT, ROOM_WIDTH, 420)
    grain = 2.5 * noise(rng, ROOM_HEIGHT, ROOM_WIDTH, 1.2)
    out = np.clip(wall * np.clip(light, 0.7, 1.3)[..., None] + grain[..., None], 0, 255).astype(np.uint8)
    out.flags.writeable = False
    return out


def view(number: int, height: int, width: int, *, pan: tuple[float, float], zoom: float) -> U8:
    """A part of a room u8 [h w 3]; `pan` 0..1 says where, `zoom` >= 0.95 how near."""
    wall = room(number)
    rows, columns = round(height / zoom), round(width / zoom)
    top, left = round(pan[1] * (ROOM_HEIGHT - rows)), round(pan[0] * (ROOM_WIDTH - columns))
    part = np.ascontiguousarray(wall[top : top + rows, left : left + columns])
    return cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.uint8)


def _flat(colour: Colour) -> F32:
    return np.full((ROOM_HEIGHT, ROOM_WIDTH, 3), colour, np.float32)


def _box(wall: F32, left: float, top: float, width: float, height: float, colour: Colour) -> None:
    """A rectangle with a soft shadow below and to its right, and a light upper edge."""
    x, y, w, h = (round(a) for a in (left, top, width, height))
    shade = np.zeros((h + 40, w + 40), np.float32)
    shade[16 : 16 + h, 14 : 14 + w] = 0.45
    shade = np.asarray(cv2.GaussianBlur(shade, (0, 0), 6), np.float32)
    y0, x0 = max(0, y - 6), max(0, x - 6)
    under = wall[y0 : y + h + 34, x0 : x + w + 34]
    cut = shade[y0 - y + 6 :, x0 - x + 6 :][: under.shape[0], : under.shape[1]]
    under *= 1 - cut[..., None]
    cv2.rectangle(wall, (x, y), (x + w - 1, y + h - 1), colour, -1, cv2.LINE_AA)
    cv2.line(wall, (x, y), (x + w - 1, y), tuple(min(255.0, c * 1.2 + 12) for c in colour), 2, cv2.LINE_AA)
    cv2.line(wall, (x, y + h - 1), (x + w - 1, y + h - 1), tuple(c * 0.7 for c in colour), 2, cv2.LINE_AA)


def _shade_columns(wall: F32, factor: F32) -> None:
    wall *= factor[None, :, None]


def _jitter(rng: np.random.Generator, colour: Colour, spread: float) -> Colour:
    a, b, c = (float(x) for x in np.clip(np.array(colour) + rng.uniform(-spread, spread, 3), 0, 255))
    return a, b, c


def _study(rng: np.random.Generator) -> F32:
    """Green striped wallpaper behind shelves of books."""
    wall = _flat((104, 128, 100))
    x = np.arange(ROOM_WIDTH)
    _shade_columns(wall, np.where((x // 22) % 2, 1.0, 0.88).astype(np.float32))
    for top in range(40, ROOM_HEIGHT, 170):
        for left in (30, 340, 650):
            _box(wall, left, top + 118, 220, 16, (104, 72, 46))
            at = left + 6.0
            while at < left + 190:
                w, h = rng.uniform(11, 26), rng.uniform(66, 108)
                book = _jitter(
                    rng,
                    [(142, 52, 44), (44, 74, 112), (186, 150, 80), (60, 96, 74), (214, 204, 180)][
                        int(rng.integers(5))
                    ],
                    16,
                )
                _box(wall, at, top + 118 - h, w, h, book)
                _box(wall, at + 2, top + 118 - h * 0.8, w - 4, 7, tuple(0.6 * c + 90 for c in book))  # type: ignore[arg-type]
                at += w + rng.uniform(0, 5)
    return wall


def _loft(rng: np.random.Generator) -> F32:
    """Red brick and tall windows."""
    wall = _flat((196, 184, 172))
    for row, top in enumerate(range(0, ROOM_HEIGHT, 24)):
        for left in range(-60 + 30 * (row % 2), ROOM_WIDTH, 60):
            brick = _jitter(rng, (158, 82, 62), 20)
            cv2.rectangle(wall, (left + 2, top + 2), (left + 57, top + 21), brick, -1, cv2.LINE_AA)
            cv2.line(wall, (left + 2, top + 21), (left + 57, top + 21), tuple(0.72 * c for c in brick), 2)
    for left in (70, 390, 710):
        _box(wall, left, 50, 130, 400, (52, 52, 56))
        for i in range(2):
            for j in range(5):
                x, y = left + 8 + 60 * i, 58 + 78 * j
                pane = np.linspace(236, 190, 70)[:, None, None] * np.array([0.92, 0.98, 1.04])
                wall[y : y + 70, x : x + 54] = np.clip(pane, 0, 255)
    return wall


def _kitchen(rng: np.random.Generator) -> F32:
    """White and blue tiles, jars on a shelf."""
    wall = _flat((170, 176, 180))
    for top in range(0, ROOM_HEIGHT, 48):
        for left in range(0, ROOM_WIDTH, 48):
            blue = (top // 48 + left // 48) % 3 == 0
            tile = _jitter(rng, (96, 146, 186) if blue else (226, 232, 234), 7)
            cv2.rectangle(wall, (left + 2, top + 2), (left + 45, top + 45), tile, -1, cv2.LINE_AA)
            cv2.line(
                wall, (left + 4, top + 5), (left + 42, top + 5), tuple(min(255.0, c + 22) for c in tile), 2
            )
    for top in (200, 520):
        _box(wall, 0, top, ROOM_WIDTH, 14, (206, 190, 164))
        for left in range(24, ROOM_WIDTH - 40, 88):
            h = rng.uniform(46, 82)
            _box(wall, left, top - h, 44, h, _jitter(rng, (212, 196, 150), 36))
            _box(wall, left + 4, top - h - 12, 36, 12, (128, 88, 60))
    return wall


def _parlour(rng: np.random.Generator) -> F32:
    """Warm damask wallpaper with framed pictures."""
    wall = _flat((190, 138, 78))
    for row, cy in enumerate(range(0, ROOM_HEIGHT + 40, 58)):
        for cx in range(29 * (row % 2), ROOM_WIDTH + 40, 58):
            for turn in range(0, 180, 45):
                cv2.ellipse(wall, (cx, cy), (22, 7), turn, 0, 360, (214, 168, 108), -1, cv2.LINE_AA)
            cv2.circle(wall, (cx, cy), 6, (162, 106, 56), -1, cv2.LINE_AA)
    for left, top in ((60, 70), (330, 130), (610, 60), (180, 420), (500, 400), (750, 400)):
        w, h = int(rng.integers(110, 150)), int(rng.integers(120, 170))
        _box(wall, left, top, w, h, (92, 60, 34))
        _box(wall, left + 9, top + 9, w - 18, h - 18, (236, 228, 208))
        inner = wall[top + 24 : top + h - 24, left + 24 : left + w - 24]
        sky = np.linspace(0, 1, inner.shape[0])[:, None, None]
        inner[:] = (
            np.array(_jitter(rng, (130, 160, 180), 30)) * (1 - sky)
            + np.array(_jitter(rng, (110, 116, 70), 30)) * sky
        )
        cv2.circle(wall, (left + w // 2, top + h // 2), 14, _jitter(rng, (200, 120, 80), 40), -1, cv2.LINE_AA)
    return wall


def _curtains(rng: np.random.Generator) -> F32:
    """Teal curtains in folds, and pot plants before them."""
    wall = _flat((44, 122, 128))
    x = np.arange(ROOM_WIDTH, dtype=np.float32)
    wave = np.sin(x / 13 + 2.2 * np.sin(x / 61)) + 0.4 * np.sin(x / 5.3)
    _shade_columns(wall, (1 + 0.26 * wave).astype(np.float32))
    for left in (110, 410, 720):
        for _ in range(26):
            angle, reach = rng.uniform(-2.9, -0.25), rng.uniform(110, 300)
            stem = np.array([left, 560.0])
            tip = stem + reach * np.array([np.cos(angle) * 0.6, np.sin(angle)])
            across = np.array([-(tip - stem)[1], (tip - stem)[0]]) / reach * rng.uniform(10, 18)
            leaf = np.stack([stem, (stem + tip) / 2 + across, tip, (stem + tip) / 2 - across])
            green = _jitter(rng, (70, 132, 62), 26)
            cv2.fillPoly(wall, [np.round(leaf * 16).astype(np.int32)], green, cv2.LINE_AA, shift=4)
            rib = np.round(np.stack([stem, tip]) * 16).astype(np.int32)
            cv2.polylines(wall, [rib], False, tuple(c * 0.7 for c in green), 2, cv2.LINE_AA, shift=4)
        _box(wall, left - 46, 556, 92, 110, (172, 94, 62))
        _box(wall, left - 54, 548, 108, 22, (186, 106, 72))
    return wall


def _hall(rng: np.random.Generator) -> F32:
    """Lilac plaster above a panelled dado, doors and a clock."""
    wall = _flat((164, 148, 186))
    plaster = noise(rng, ROOM_HEIGHT, ROOM_WIDTH, 9) + noise(rng, ROOM_HEIGHT, ROOM_WIDTH, 3)
    wall *= (1 + 0.03 * plaster)[..., None]
    _box(wall, 0, 470, ROOM_WIDTH, ROOM_HEIGHT - 470, (232, 226, 222))
    for left in range(12, ROOM_WIDTH, 112):
        _box(wall, left, 496, 88, 180, (222, 214, 212))
    for left in (50, 560):
        _box(wall, left, 30, 230, ROOM_HEIGHT - 30, (240, 236, 230))
        _box(wall, left + 16, 46, 198, ROOM_HEIGHT - 46, (118, 78, 96))
        for top in (70, 300, 530):
            for dx in (34, 124):
                _box(wall, left + dx, top, 72, 190, (136, 92, 112))
        cv2.circle(wall, (left + 200, 370), 9, (222, 190, 110), -1, cv2.LINE_AA)
    for cx in (420, 855):
        cv2.circle(wall, (cx, 180), 62, (70, 56, 70), -1, cv2.LINE_AA)
        cv2.circle(wall, (cx, 180), 54, (242, 240, 232), -1, cv2.LINE_AA)
        for hour in range(12):
            a = hour * np.pi / 6
            at = (round(cx + 46 * np.sin(a)), round(180 - 46 * np.cos(a)))
            cv2.circle(wall, at, 3, (60, 50, 60), -1, cv2.LINE_AA)
        cv2.line(wall, (cx, 180), (cx + 24, 160), (40, 34, 40), 5, cv2.LINE_AA)
        cv2.line(wall, (cx, 180), (cx - 8, 140), (40, 34, 40), 3, cv2.LINE_AA)
    return wall


ROOMS: dict[str, Callable[[np.random.Generator], F32]] = {
    "study": _study,
    "loft": _loft,
    "kitchen": _kitchen,
    "parlour": _parlour,
    "curtains": _curtains,
    "hall": _hall,
}
