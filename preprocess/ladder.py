"""The ladder: what to try, step by step, where the plain detector sees no face; and which face to keep.

Each rung looks at other copies of a photo (with a border, larger, turned) or with lower thresholds, and only
at the photos on which all rungs before it found nothing. What a rung finds must look like a face.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from preprocess.detect import Face, Networks, detect
from preprocess.settings import DetectSettings

Box = tuple[float, float, float, float]


AT_ONCE = 8
"""Photos whose copies are held at once: bounds the memory of a rung."""

COPY_PX = 480
"""The shorter side of what copies are made from; a face that the plain rungs missed needs no finer pixels."""

WASTE = 12
"""A copy may have so many times the photo's pixels: a strip of 1x5000 px is not turned on a square canvas."""


@dataclass(frozen=True)
class Found:
    """The faces kept of one photo, the chosen one first, and the rung that saw them."""

    faces: tuple[Face, ...]
    rung: str


@dataclass(frozen=True)
class View:
    """How a copy is made from a photo: p -> `matrix` @ (x, y, 1), onto a canvas of this size."""

    matrix: np.ndarray
    width: int
    height: int

    @property
    def scale(self) -> float:
        """Px of the copy for a px of the photo."""
        return math.hypot(*self.matrix[:, 0])

    def waste(self, image: np.ndarray) -> float:
        """The copy's pixels for each of the photo's, at equal scale."""
        return self.width * self.height / (self.scale**2 * image.shape[0] * image.shape[1])

    def copy(self, image: np.ndarray) -> np.ndarray:
        """The copy, u8 [h w 3]; beyond the photo its edge is repeated."""
        if np.array_equal(self.matrix, np.eye(2, 3)):
            return image
        size = (self.width, self.height)
        return cv2.warpAffine(
            image, self.matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )

    def back(self, face: Face) -> Face:
        """A face of the copy, where it is in the photo; a turned box stays upright around its centre."""
        inverse = cv2.invertAffineTransform(self.matrix)
        points = np.array(face.landmarks).reshape(5, 2) @ inverse[:, :2].T + inverse[:, 2]
        x0, y0, x1, y1 = face.box
        x, y = inverse[:, :2] @ ((x0 + x1) / 2, (y0 + y1) / 2) + inverse[:, 2]
        w, h = (x1 - x0) / self.scale, (y1 - y0) / self.scale
        box = (float(x - w / 2), float(y - h / 2), float(x + w / 2), float(y + h / 2))
        return Face(box, face.score, tuple(points.flatten().tolist()))


def padded(width: int, height: int) -> list[View]:
    """Copies with 30 % and 60 % more on each side, the edge repeated: for faces cut by the photo's edge."""
    return [_view(width, height, border=0.3), _view(width, height, border=0.6)]


def enlarged(width: int, height: int) -> list[View]:
    """A copy of at least 320 px on the longer side, at least 1.5 times as large: for small files."""
    scale = max(320 / max(width, height), 1.5)
    return [View(scale * np.eye(2, 3), round(width * scale), round(height * scale))]


def rotated(width: int, height: int) -> list[View]:
    """Copies turned by 20 and 40 degrees either way."""
    return [
        _view(width, height, degrees=degrees, border=border)
        for degrees, border in ((-20, 0.0), (20, 0.0), (-40, 0.2), (40, 0.2))
    ]


def _view(width: int, height: int, *, degrees: float = 0, border: float = 0) -> View:
    """Turned on a canvas that holds all of the photo, and on each side a border, a share of that canvas."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turn, grow = np.array([[cos, sin], [-sin, cos]]), 1 + 2 * border
    w, h = np.abs(turn) @ (width, height) * grow
    shift = np.array([w / 2, h / 2]) - turn @ (width / 2, height / 2)
    return View(np.column_stack([turn, shift]), round(w), round(h))


def plain(width: int, height: int) -> list[View]:
    """The photo itself."""
    return [View(np.eye(2, 3), width, height)]


def everything(width: int, height: int) -> list[View]:
    """All copies of all rungs."""
    return [v for views in (plain, padded, enlarged, rotated) for v in views(width, height)]


VIEWS: dict[str, Callable[[int, int], list[View]]] = {
    "plain": plain,
    "fine": plain,
    "padded": padded,
    "enlarged": enlarged,
    "rotated": rotated,
    "lower": everything,
}
"""The copies that a rung looks at, from a photo's width and height."""


def find_faces(
    images: Sequence[np.ndarray], networks: Networks, settings: DetectSettings | None = None
) -> list[Found | None]:
    """The faces of photos, by the first rung that sees any.

    Args:
        images: u8 [h w 3] RGB each, of any sizes.
        networks: from `load_networks`.
        settings: what to look for; the defaults suit portraits.

    Returns:
        For each photo its faces and their rung; None where no rung saw one.
    """
    settings = settings or DetectSettings()
    found: list[Found | None] = [None] * len(images)
    for rung in ("plain", *settings.rungs):
        missing = [i for i, each in enumerate(found) if each is None]
        at_once = max(len(images), 1) if VIEWS[rung] is plain else AT_ONCE
        for start in range(0, len(missing), at_once):
            part = missing[start : start + at_once]
            seen = _look([images[i] for i in part], networks, settings, rung)
            for i, faces in zip(part, seen, strict=True):
                if faces:
                    height, width = images[i].shape[:2]
                    found[i] = Found(choose(faces, width, height, settings.pick), rung)
    return found


def _look(
    images: Sequence[np.ndarray], networks: Networks, settings: DetectSettings, rung: str
) -> list[list[Face]]:
    """The faces that one rung sees in each photo; below the plain rung only those that look like one."""
    photos = images if VIEWS[rung] is plain else [_shrunk(image) for image in images]
    copies, sizes, views = [], [], []
    for photo in photos:
        own = [view for view in VIEWS[rung](photo.shape[1], photo.shape[0]) if view.waste(photo) <= WASTE]
        least = least_px(settings.fine if rung == "fine" else settings.min_face, photo, settings.factor)
        copies += [view.copy(photo) for view in own]
        sizes += [least * view.scale for view in own]
        views.append(own)
    thresholds = settings.lower if rung == "lower" else settings.thresholds
    factor = settings.factor if rung == "plain" else settings.factor**0.5
    seen = iter(detect(copies, networks, min_face_px=sizes, factor=factor, thresholds=thresholds))
    result = []
    for image, photo, own in zip(images, photos, views, strict=True):
        height, width = photo.shape[:2]
        faces = [view.back(face) for view in own for face in next(seen) if rung == "plain" or in_order(face)]
        if rung != "plain":
            faces = [face for face in faces if well_placed(face, width, height, settings.min_face, rung)]
        result.append([_scaled(face, image.shape[1] / width) for face in distinct(faces)])
    return result


def _shrunk(image: np.ndarray) -> np.ndarray:
    """A photo with no more than `COPY_PX` on its shorter side."""
    scale = COPY_PX / min(image.shape[:2])
    if scale >= 1:
        return image
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _scaled(face: Face, scale: float) -> Face:
    x0, y0, x1, y1 = (v * scale for v in face.box)
    return Face((x0, y0, x1, y1), face.score, tuple(v * scale for v in face.landmarks))


def least_px(share: float, image: np.ndarray, factor: float) -> float:
    """The smallest face to look for, px: at most `share` of the shorter side, and at least P-Net's 12 px.

    It is a share at which the pyramid's last level makes the shorter side just those 12 px, since a face
    that fills the photo is seen on that level only: of 200 tight photos of masked faces, the plain detector
    sees 150, against 130 with a pyramid that ends earlier.
    """
    levels = math.ceil(math.log(share) / math.log(factor))
    return max(0.994 * factor**levels * min(image.shape[:2]), 12.0)


def in_order(face: Face) -> bool:
    """Whether the landmarks lie as in a face: eyes side by side, above nose, above mouth, within the box."""
    x0, y0, x1, y1 = face.box
    points = (np.array(face.landmarks).reshape(5, 2) - (x0, y0)) / (x1 - x0, y1 - y0)
    left, right, nose, mouth = points[0], points[1], points[2], (points[3] + points[4]) / 2
    return bool(
        right[0] - left[0] > 0.1
        and points[4][0] > points[3][0]
        and max(left[1], right[1]) < mouth[1]
        and (left[1] + right[1]) / 2 < nose[1] < mouth[1]
        and points.min() > -0.1
        and points.max() < 1.1
    )


def well_placed(face: Face, width: int, height: int, min_face: float, rung: str) -> bool:
    """Whether a face is as large as it is sure, and lies where a face of this photo can.

    What these rules reject was looked at: eyes taken for small faces at the edge of tight photos, and walls,
    trees and shop windows behind people who turn their backs.
    """
    x0, y0, x1, y1 = face.box
    side = min(x1 - x0, y1 - y0) / min(width, height)
    inside = max(min(x1, width) - max(x0, 0), 0) * max(min(y1, height) - max(y0, 0), 0)
    slack = 0.02 * min(width, height)
    cut = x0 < -slack or y0 < -slack or x1 > width + slack or y1 > height + slack
    small = side < (min_face if rung in ("fine", "padded") else 0.6)
    return (
        0 < (x0 + x1) / 2 < width
        and 0 < (y0 + y1) / 2 < height
        and inside >= 0.5 * (x1 - x0) * (y1 - y0)
        and 0.5 < (x1 - x0) / (y1 - y0) < 2
        and (not small or face.score >= 0.9)
        and (not cut or side >= (0.6 if face.score >= 0.9 else 0.75))
    )


def distinct(faces: Sequence[Face]) -> list[Face]:
    """Faces of several copies without those that are one face seen twice; the best score first."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda f: -f.score):
        if all(_overlap(face.box, other.box) < 0.4 for other in kept):
            kept.append(face)
    return kept


def _overlap(a: Box, b: Box) -> float:
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(w, 0.0) * max(h, 0.0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def choose(faces: Sequence[Face], width: int, height: int, pick: str) -> tuple[Face, ...]:
    """The face to keep, or all of them with it first."""

    def size(face: Face) -> float:
        x0, y0, x1, y1 = face.box
        return (x1 - x0) * (y1 - y0)

    def away(face: Face) -> float:
        """Distance from the photo's centre; 1 at the corners."""
        x0, y0, x1, y1 = face.box
        return math.hypot((x0 + x1) / width - 1, (y0 + y1) / height - 1) / math.sqrt(2)

    worth: dict[str, Callable[[Face], float]] = {
        "prominent": lambda face: size(face) * math.exp(-2 * away(face) ** 2),
        "largest": size,
        "central": lambda face: -away(face),
        "confident": lambda face: face.score,
    }
    if pick == "all":
        return tuple(sorted(faces, key=worth["prominent"], reverse=True))
    return (max(faces, key=worth[pick]),)


def person_box(others: Sequence[Box], width: int, height: int) -> Box:
    """The rung `person`: the median box of a person's other photos.

    Args:
        others: xyxy as shares of each photo's width and height, at least one.
        width, height: of the photo without a face, px.
    """
    x0, y0, x1, y1 = np.median(np.array(others), axis=0).tolist()
    return x0 * width, y0 * height, x1 * width, y1 * height


def centre_box(width: int, height: int) -> Box:
    """The rung `centre`: where a portrait's face is likely to be, for want of anything better."""
    side = 0.45 * min(width, height)
    x, y = width / 2, 0.42 * height
    return x - side / 2, y - side / 2, x + side / 2, y + side / 2
