"""Pure geometry: from a face's box to the frame that is cut, and from the frame to pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from configs.settings import Settings

Box = tuple[float, float, float, float]
Fill = Literal["edge", "black", "mean"]

MAX_CUT_PX = 2**25
"""Larger cuts (a strip of 1 x 50,000 px fitted to a square) are made on a shrunken copy."""


class CropSettings(Settings):
    """How a crop is laid around a face.

    Attributes:
        margin: added on each side, in face sizes (a face's size is the longer side of its box):
            one number, or left, top, right, bottom.
        align: turn the crop so that the eyes are level.
        fill: what stands where the crop reaches beyond the photo: its edge drawn out, black,
            or its mean colour.
    """

    margin: float | tuple[float, float, float, float] = 0.6
    align: bool = False
    fill: Fill = "edge"


@dataclass(frozen=True)
class Frame:
    """A rectangle to cut, perhaps turned: centre, size (px of the photo), angle (degrees, clockwise)."""

    cx: float
    cy: float
    width: float
    height: float
    angle: float = 0.0

    def as_tuple(self) -> tuple[float, float, float, float, float]:
        """In the order of `Record.crop`."""
        return self.cx, self.cy, self.width, self.height, self.angle


def half_px(values: Sequence[float]) -> tuple[float, ...]:
    """Coordinates to the nearest half pixel.

    Networks differ in their last bits from batch to batch; a crop must not, or the same photo
    would get other bytes when it is cut alone.
    """
    return tuple(math.floor(2 * value + 0.5) / 2 for value in values)


def around(
    box: Box,
    *,
    size: tuple[int, int],
    margin: float | tuple[float, float, float, float] = 0.6,
    landmarks: Sequence[float] | None = None,
) -> Frame:
    """The frame around a face, of the shape of `size`, in whole pixels.

    Args:
        box: the face, xyxy, px.
        size: height and width of the crop to come; only their ratio matters here. The frame is as
            large as the margins ask, and grows on its shorter side to this shape.
        margin: per side, in face sizes (see `CropSettings`).
        landmarks: x y x y ... of five points, the eyes first, to turn the frame level with the eyes.
    """
    x0, y0, x1, y1 = box
    face = max(x1 - x0, y1 - y0, 1.0)
    left, top, right, bottom = margin if isinstance(margin, tuple) else (margin,) * 4
    width, height = face * (1 + left + right), face * (1 + top + bottom)
    cx = (x0 + x1) / 2 + face * (right - left) / 2
    cy = (y0 + y1) / 2 + face * (bottom - top) / 2
    angle = 0.0
    if landmarks is not None:
        tilt = math.degrees(math.atan2(landmarks[3] - landmarks[1], landmarks[2] - landmarks[0]))
        angle = round(tilt * 8) / 8
        # Margins are meant upright: they turn with the frame, about the face's own centre.
        cx, cy = _turn(cx, cy, about=((x0 + x1) / 2, (y0 + y1) / 2), degrees=angle)
    return _whole_px(cx, cy, width, height, size, angle)


def whole(width: int, height: int, *, size: tuple[int, int]) -> Frame:
    """The smallest frame of the shape of `size` that holds the whole photo: nothing is squeezed or lost."""
    return _whole_px(width / 2, height / 2, width, height, size, 0.0)


def extract(rgb: np.ndarray, frame: Frame, *, size: tuple[int, int], fill: Fill = "edge") -> np.ndarray:
    """Cut a frame out of a photo.

    Args:
        rgb: u8[h w 3].
        frame: in px of `rgb`; may reach beyond it.
        size: height and width of the crop, px.
        fill: for what lies beyond the photo.

    Returns:
        u8[size 3], shrunk by area averaging or enlarged bilinearly.
    """
    shrink = math.sqrt(frame.width * frame.height / MAX_CUT_PX)
    if shrink > 1:
        rows, columns = (max(1, round(side / shrink)) for side in rgb.shape[:2])
        frame = scaled(frame, columns / rgb.shape[1], rows / rgb.shape[0])
        rgb = cv2.resize(rgb, (columns, rows), interpolation=cv2.INTER_AREA)
    width, height = max(1, round(frame.width)), max(1, round(frame.height))
    if frame.angle:
        cut = _cut_turned(rgb, frame, width, height, fill)
    else:
        cut = _cut_level(rgb, round(frame.cx - width / 2), round(frame.cy - height / 2), width, height, fill)
    return resize(cut, size)


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """u8[h w (c)] at another size: area averaging to shrink, bilinear to enlarge."""
    if image.shape[:2] == size:
        return np.ascontiguousarray(image)
    shrinks = size[0] * size[1] < image.shape[0] * image.shape[1]
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def inside(frame: Frame, width: int, height: int, *, size: tuple[int, int]) -> np.ndarray | None:
    """Which pixels of a crop lie on the photo, not beyond its edge: bool[size], or None for all."""
    x0, y0, x1, y1 = corners_of(frame)
    if x0 >= 0 and y0 >= 0 and x1 <= width and y1 <= height:
        return None
    rows, columns = np.mgrid[: size[0], : size[1]].astype(np.float32)
    x, y = to_photo(columns + 0.5, rows + 0.5, frame, size=size)
    return (x >= 0) & (y >= 0) & (x <= width) & (y <= height)


def corners_of(frame: Frame) -> Box:
    """The upright box around a frame, xyxy."""
    turn = math.radians(frame.angle)
    across = abs(frame.width * math.cos(turn)) + abs(frame.height * math.sin(turn))
    down = abs(frame.width * math.sin(turn)) + abs(frame.height * math.cos(turn))
    return frame.cx - across / 2, frame.cy - down / 2, frame.cx + across / 2, frame.cy + down / 2


def to_crop(points: Sequence[float], frame: Frame, *, size: tuple[int, int]) -> tuple[float, ...]:
    """Points x y x y ... of the photo (px) as points of its crop (px)."""
    flat: list[float] = []
    for x, y in zip(points[::2], points[1::2], strict=True):
        x, y = _turn(x, y, about=(frame.cx, frame.cy), degrees=-frame.angle)
        flat += [
            (x - frame.cx + frame.width / 2) * size[1] / frame.width,
            (y - frame.cy + frame.height / 2) * size[0] / frame.height,
        ]
    return tuple(flat)


def to_photo(
    x: np.ndarray, y: np.ndarray, frame: Frame, *, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Points of a crop (px) as points of the photo (px); the inverse of `to_crop`."""
    x = x * (frame.width / size[1]) + frame.cx - frame.width / 2
    y = y * (frame.height / size[0]) + frame.cy - frame.height / 2
    return _turn(x, y, about=(frame.cx, frame.cy), degrees=frame.angle)


def scaled(frame: Frame, across: float, down: float) -> Frame:
    """A frame in the pixels of a photo decoded at another scale (`across` and `down`: new px per old px)."""
    return Frame(frame.cx * across, frame.cy * down, frame.width * across, frame.height * down, frame.angle)


def _turn(x, y, *, about: tuple[float, float], degrees: float):  # type: ignore[no-untyped-def]
    """Points (numbers or arrays) turned clockwise, as seen, about a centre."""
    if not degrees:
        return x, y
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    dx, dy = x - about[0], y - about[1]
    return about[0] + cos * dx - sin * dy, about[1] + sin * dx + cos * dy


def _whole_px(
    cx: float, cy: float, width: float, height: float, size: tuple[int, int], angle: float
) -> Frame:
    """A frame of the shape of `size` that holds width x height, its size and corner in whole pixels."""
    unit = max(width / size[1], height / size[0])
    across, down = max(1, round(unit * size[1])), max(1, round(unit * size[0]))
    x0, y0 = math.floor(cx - across / 2 + 0.5), math.floor(cy - down / 2 + 0.5)
    return Frame(x0 + across / 2, y0 + down / 2, across, down, angle)


def _cut_level(rgb: np.ndarray, x0: int, y0: int, width: int, height: int, fill: Fill) -> np.ndarray:
    rows, columns = rgb.shape[:2]
    top, bottom = max(0, -y0), max(0, y0 + height - rows)
    left, right = max(0, -x0), max(0, x0 + width - columns)
    # A frame wholly beside the photo still gets its nearest row and column.
    part = rgb[
        min(max(0, y0), rows - 1) : max(1, min(rows, y0 + height)),
        min(max(0, x0), columns - 1) : max(1, min(columns, x0 + width)),
    ]
    if not (top or bottom or left or right):
        return part
    top, left = min(top, height - part.shape[0]), min(left, width - part.shape[1])
    bottom, right = height - part.shape[0] - top, width - part.shape[1] - left
    border, colour = _border(rgb, fill)
    return cv2.copyMakeBorder(part, top, bottom, left, right, border, value=colour)


def _cut_turned(rgb: np.ndarray, frame: Frame, width: int, height: int, fill: Fill) -> np.ndarray:
    cos, sin = math.cos(math.radians(frame.angle)), math.sin(math.radians(frame.angle))
    # Crop px -> photo px, as cv2 wants it with WARP_INVERSE_MAP; pixel centres lie at half pixels.
    u, v = 0.5 - width / 2, 0.5 - height / 2
    matrix = np.array(
        [
            [cos, -sin, frame.cx + cos * u - sin * v - 0.5],
            [sin, cos, frame.cy + sin * u + cos * v - 0.5],
        ]
    )
    border, colour = _border(rgb, fill)
    return cv2.warpAffine(
        rgb,
        matrix,
        (width, height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=border,
        borderValue=colour,
    )


def _border(rgb: np.ndarray, fill: Fill) -> tuple[int, list[float]]:
    """OpenCV's border mode and colour for a fill."""
    if fill == "edge":
        return cv2.BORDER_REPLICATE, [0.0, 0.0, 0.0]
    return cv2.BORDER_CONSTANT, list(map(float, cv2.mean(rgb)[:3])) if fill == "mean" else [0.0, 0.0, 0.0]
