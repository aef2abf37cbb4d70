"""One drawn photo: a person in a pose and a light, before a room, with the exact alpha."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocess.drawing.brush import (
    F32,
    Frame,
    Layer,
    Light,
    Patch,
    blank,
    blur,
    cover,
    ellipse,
    fill,
    inside,
    lift,
    line,
    linear,
    lit,
    moved,
    noise,
    paint,
    points,
    smooth,
    tint,
)
from preprocess.drawing.face import paint_face
from preprocess.drawing.hair import back_hair, paint_hair, style_of
from preprocess.drawing.sitters import Clothes, Person, Shot

HEIGHT, WIDTH = 512, 384
FINE = 2  # painted at twice the photo's size, then averaged
U8 = NDArray[np.uint8]
MARKS = (
    (214, 40, 40),
    (244, 190, 30),
    (40, 150, 70),
    (30, 90, 200),
    (130, 50, 160),
    (245, 245, 240),
    (25, 25, 28),
    (240, 120, 170),
)
SKIN_WRAP = (0.42, 0.3, 0.26)


@dataclass(frozen=True)
class Figure:
    """A figure cut out.

    Attributes:
        rgb: f32 [512 384 3], sRGB 0..1, multiplied by the alpha.
        alpha: u8 [512 384]; `rgb` is multiplied by exactly this, so that 255 hides the room wholly.
        face: the face's box, xyxy px: ear to ear, hairline to chin.
    """

    rgb: F32
    alpha: U8
    face: tuple[float, float, float, float]


def paint_figure(person: Person, shot: Shot) -> Figure:
    """The person of a shot without a room."""
    body = _body(person, shot)
    head = _head(person, shot)
    full = np.zeros((HEIGHT * FINE, WIDTH * FINE, 4), np.float32)
    full[HEIGHT * FINE - body.shape[0] :] = body
    _lay_head(full, head, person, shot)
    small = cv2.resize(full, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    alpha = np.round(small[..., 3] * 255)
    rgb = (
        small[..., :3]
        * np.where(small[..., 3] > 0, alpha / 255 / np.maximum(small[..., 3], 1e-6), 0)[..., None]
    )
    x, y = shot.middle
    unit = shot.unit
    face = (x - unit, y - 0.95 * unit, x + unit, y + person.chin * unit)
    return Figure(rgb.astype(np.float32), alpha.astype(np.uint8), face)


def compose(figure: Figure, ground: U8, shot: Shot) -> U8:
    """The finished photo u8 [512 384 3]: the figure before `ground` u8 [512 384 3], seen by a camera.

    Where the alpha is 255 the result doesn't depend on `ground`: the lens's blur is the room's alone.
    """
    light = np.sqrt(np.array(shot.light.colour) * 0.85 + np.array(shot.light.ambient) * 0.9).astype(
        np.float32
    )
    room = blur((ground / np.float32(255) * light).astype(np.float32), 0.7 + shot.soft)
    rest = 1 - figure.alpha[..., None].astype(np.float32) / 255
    rgb = (figure.rgb + room * rest) * np.float32(shot.exposure * 255)
    rng = np.random.default_rng([shot.grain, 11])
    grain = rng.standard_normal((HEIGHT, WIDTH, 3), dtype=np.float32)
    grain = cv2.GaussianBlur(grain, (0, 0), 0.6) * np.float32(1.8 * shot.noise)
    return np.clip(rgb + grain + 0.5, 0, 255).astype(np.uint8)


def _head_frame(person: Person, shot: Shot) -> Frame:
    unit = FINE * shot.unit
    bottom = max(1.95, style_of(person).back + 0.15)
    return Frame(-1.58, -2.2, round(3.16 * unit), round((bottom + 2.2) * unit), unit)


def _head(person: Person, shot: Shot) -> F32:
    layer = blank(_head_frame(person, shot))
    paint_face(layer, person, shot)
    paint_hair(layer, person)
    return _premultiplied(layer, shot.light)


def _premultiplied(layer: Layer, light: Light) -> F32:
    rgba = np.empty((*layer.alpha.shape, 4), np.float32)
    np.multiply(lit(layer, light, wrap=SKIN_WRAP), layer.alpha[..., None], out=rgba[..., :3])
    rgba[..., 3] = layer.alpha
    return rgba


def _lay_head(full: F32, head: F32, person: Person, shot: Shot) -> None:
    """Turn the head and lay it over the body: roll about the chin, yaw and pitch by parallax."""
    frame = _head_frame(person, shot)
    rows, columns = full.shape[:2]
    u = (np.arange(columns, dtype=np.float32) + 0.5) / FINE - shot.middle[0]
    v = (np.arange(rows, dtype=np.float32) + 0.5) / FINE - shot.middle[1]
    u, v = u / np.float32(shot.unit), v / np.float32(shot.unit)
    left, right = np.searchsorted(u, [-2.1, 2.1])
    top, bottom = np.searchsorted(v, [-2.5, frame.top + frame.height / frame.unit + 0.3])
    x, y = u[None, left:right], v[top:bottom, None] - np.float32(1.3)
    cos, sin = np.float32(np.cos(shot.roll)), np.float32(np.sin(shot.roll))
    x, y = x * cos + y * sin, y * cos - x * sin + np.float32(1.3)
    depth = np.float32(0.8) * np.maximum(1 - (x / 1.15) ** 2 - ((y + 0.1) / 1.55) ** 2, 0)
    across = x * np.float32(np.cos(shot.yaw)) + depth * np.float32(np.sin(shot.yaw))
    down = y + depth * np.float32(np.sin(shot.pitch))
    map_x = (across - np.float32(frame.left)) * np.float32(frame.unit) - np.float32(0.5)
    map_y = (down - np.float32(frame.top)) * np.float32(frame.unit) - np.float32(0.5)
    turned = cv2.remap(head, map_x.astype(np.float32), map_y.astype(np.float32), cv2.INTER_LINEAR)
    under = full[top:bottom, left:right]
    under *= 1 - turned[..., 3:]
    under += turned


def _body(person: Person, shot: Shot) -> F32:
    """Back hair, neck, shoulders and clothes, in the photo's own measure, from the eyes down."""
    unit = FINE * shot.unit
    top = max(0, round(FINE * shot.middle[1]))
    frame = Frame(-shot.middle[0] / shot.unit, 0.0, WIDTH * FINE, HEIGHT * FINE - top, unit)
    frame = Frame(frame.left, (top - FINE * shot.middle[1]) / unit, frame.width, frame.height, unit)
    layer = blank(frame)
    back_hair(layer, person)
    n, s = person.neck, person.shoulders
    skin = linear(*person.skin)
    neck = points(
        (n * 0.96, 0.6), (n * 0.94, 1.3), (n, 1.6), (n * 1.3, 1.88), (s * 0.7, 2.35), (s * 0.5, 3.2)
    )
    outline = np.concatenate([neck, (neck * (-1, 1))[::-1]])
    patch = fill(frame, smooth(outline), soft=0.01)
    paint(layer, patch, skin * 0.93)
    cover(layer, patch)
    lift(layer, fill(frame, outline, soft=0.14), 0.55)
    for side in (-1, 1):
        cord = points((0.42 * n / 0.6, 1.1), (0.26, 1.6), (0.07, 2.02)) * (side, 1)
        lift(layer, line(frame, smooth(cord, closed=False), 0.1, soft=0.05), 0.05)
        bone = points((0.12, 2.04), (0.6, 1.98), (1.1, 1.9)) * (side, 1)
        lift(layer, line(frame, smooth(bone, closed=False), 0.09, soft=0.05), 0.06)
    if person.sag > 0.5:
        for k in range(3):
            fold = points((-0.4, 1.5 + 0.12 * k), (0, 1.56 + 0.12 * k), (0.4, 1.5 + 0.12 * k))
            tint(layer, line(frame, smooth(fold, closed=False), 0.03, soft=0.012), (0.72, 0.66, 0.64))
    _clothes(layer, person)
    shade = fill(frame, ellipse(-0.12 * shot.light.direction[0], 1.28, 0.8, 0.34), soft=0.16)
    tint(layer, shade, (0.42, 0.36, 0.36))
    if shot.mark:
        _scarf(layer, person, shot.mark)
    return _premultiplied(layer, shot.light)


def _clothes(layer: Layer, person: Person) -> None:
    frame, kind = layer.frame, person.clothes.neckline
    n, s = person.neck, person.shoulders
    rise = {"high": 1.42, "hood": 1.62, "collar": 1.62}.get(kind, 1.78)
    dip = {"vee": 2.75, "round": 2.12, "collar": 2.3, "high": 1.52, "hood": 2.1}[kind]
    shoulder = [
        (n * 1.08, rise),
        (n * 1.5, max(1.8, rise + 0.12)),
        (s * 0.78, 2.08),
        (s * 0.97, 2.4),
        (s * 1.1, 3.2),
        (s * 1.16, 4.6),
        (s * 1.2, 6.5),
    ]
    inner = [
        (0, dip),
        (n * 0.6, dip - (dip - rise) * (0.5 if kind in ("vee", "collar") else 0.22)),
        (n * 1.0, rise + 0.04),
    ]
    outer_half = smooth(points(*shoulder), closed=False)
    inner_half = points(*inner) if kind == "vee" else smooth(points(*inner), closed=False)
    half = np.concatenate([inner_half, outer_half, [[0, 6.5]]])
    outline = np.concatenate([half, (half * (-1, 1))[::-1]])
    patch = fill(frame, outline)
    rng = np.random.default_rng([person.grain, 4])
    rows, columns = patch.weight.shape
    _neck_shadow(layer, outline)
    under = layer.albedo[patch.where]
    cloth = _cloth(layer, patch, person.clothes) * (1 + 0.05 * noise(rng, rows, columns, 2))[..., None]
    under += (cloth - under) * patch.weight[..., None]
    cover(layer, patch)
    layer.gloss[patch.where] *= 1 - patch.weight
    layer.height[patch.where] *= 1 - patch.weight
    lift(layer, fill(frame, outline, soft=0.3), 0.9)
    lift(layer, fill(frame, outline, soft=0.03), 0.08)
    whole = np.zeros(layer.alpha.shape, np.float32)
    whole[patch.where] = patch.weight
    _creases(layer, rng, s, whole)
    edge = smooth(points(*inner), closed=False) if kind != "vee" else points(*inner)
    rim = np.concatenate([(edge * (-1, 1))[::-1], edge[1:]])
    if kind in ("round", "vee", "high"):
        band = inside(line(frame, moved(rim, 0, 0.05), 0.09, soft=0.005), whole)
        paint(layer, band, linear(*person.clothes.second), 0.55)
        lift(layer, band, 0.03)
    if kind == "collar":
        _collar(layer, person, n, rise, dip)
    if kind == "hood":
        _hood(layer, person.clothes, n)


def _hood(layer: Layer, clothes: Clothes, n: float) -> None:
    frame = layer.frame
    for side in (-1, 1):
        fold = smooth(
            points(
                (n * 1.05, 1.5),
                (n * 1.9, 1.75),
                (n * 1.5, 2.2),
                (0.1, 2.5),
                (0.05, 2.25),
                (n * 0.8, 1.95),
            )
            * (side, 1)
        )
        tint(layer, fill(frame, moved(fold, 0, 0.07), soft=0.06), (0.6, 0.6, 0.6))
        paint(layer, fill(frame, fold), linear(*clothes.colour) * 0.9)
        cover(layer, fill(frame, fold))
        lift(layer, fill(frame, fold, soft=0.09), 0.35)
        cord = smooth(points((0.14, 2.42), (0.17, 2.9), (0.15, 3.3)) * (side, 1), closed=False)
        paint(layer, line(frame, cord, 0.05), linear(*clothes.second))


def _neck_shadow(layer: Layer, outline: np.ndarray) -> None:
    tint(layer, fill(layer.frame, moved(outline, 0, -0.04), soft=0.05), (0.6, 0.55, 0.55))


def _cloth(layer: Layer, patch: Patch, clothes: Clothes) -> F32:
    """The pattern, linear RGB f32 [h w 3] over the patch."""
    rows, columns = patch.where
    u, v = layer.frame.grid()
    u, v = u[:, columns], v[rows]
    one, two = linear(*clothes.colour), linear(*clothes.second)
    if clothes.pattern == "stripes":
        share = (np.sin((u + 0.06 * v) * 16) > 0.3) + 0 * v
    elif clothes.pattern == "bands":
        share = (np.sin((v + 0.1 * u * u) * 11) > 0.1) + 0 * u
    elif clothes.pattern == "checks":
        share = 0.5 * (np.sin(u * 11) > 0.2) + 0.5 * (np.sin(v * 11) > 0.2)
    elif clothes.pattern == "dots":
        share = np.sin(u * 15) * np.sin(v * 15) > 0.55
    else:
        share = 0 * u + 0 * v
    weight = blur(np.ascontiguousarray(share, dtype=np.float32), 1.0)[..., None]
    return (one + (two - one) * weight).astype(np.float32)


def _creases(layer: Layer, rng: np.random.Generator, s: float, whole: F32) -> None:
    for _ in range(7):
        side = rng.choice([-1, 1])
        start = np.array([rng.uniform(0.2, s), rng.uniform(2.2, 3.6)])
        bend = rng.uniform((-0.4, 0.5), (0.4, 1.3))
        path = smooth(
            np.stack([start, start + bend * 0.5 + rng.uniform(-0.1, 0.1, 2), start + bend]) * (side, 1),
            closed=False,
        )
        crease = inside(line(layer.frame, path, rng.uniform(0.1, 0.2), soft=0.12), whole)
        lift(layer, crease, float(rng.choice([-1, 1])) * rng.uniform(0.08, 0.16))


def _collar(layer: Layer, person: Person, n: float, rise: float, dip: float) -> None:
    frame = layer.frame
    colour = linear(*person.clothes.second)
    for side in (-1, 1):
        wing = points(
            (n * 0.98, rise - 0.14),
            (n * 1.14, rise + 0.02),
            (n * 1.0, dip + 0.12),
            (n * 0.42, dip + 0.2),
            (0.02, dip + 0.02),
            (n * 0.66, rise + 0.24),
        ) * (side, 1)
        tint(layer, fill(frame, moved(wing, 0, 0.05), soft=0.04), (0.6, 0.6, 0.6))
        patch = fill(frame, wing)
        paint(layer, patch, colour)
        cover(layer, patch)
        lift(layer, fill(frame, wing, soft=0.025), 0.08)
    for k in range(5):
        at = dip + 0.4 + 0.5 * k
        tint(layer, fill(frame, ellipse(0.02, at + 0.02, 0.06, 0.06), soft=0.02), (0.6, 0.6, 0.6))
        paint(layer, fill(frame, ellipse(0, at, 0.045, 0.045)), linear(230, 226, 214))
    tint(layer, line(frame, points((0.13, dip + 0.1), (0.13, 6.0)), 0.025, soft=0.01), (0.7, 0.7, 0.7))


def _scarf(layer: Layer, person: Person, mark: tuple[int, ...]) -> None:
    """A scarf of coloured stripes: it tells the person, and nothing else."""
    frame, n = layer.frame, person.neck
    half = points((0, 1.62), (n * 0.7, 1.56), (n * 1.12, 1.44), (n * 1.34, 1.72), (n * 0.9, 1.98), (0, 2.1))
    outline = np.concatenate([smooth(half, closed=False), (smooth(half, closed=False) * (-1, 1))[::-1]])
    patch = fill(frame, outline)
    tint(layer, fill(frame, moved(outline, 0, 0.06), soft=0.05), (0.55, 0.55, 0.55))
    u, _ = frame.grid()
    cell = np.clip(((u[0] / (n * 1.34) + 1) / 2 * len(mark)).astype(int), 0, len(mark) - 1)
    colours = np.stack([linear(*MARKS[m]) for m in mark])[cell][None]
    under = layer.albedo[patch.where]
    under += (colours[:, patch.where[1]] - under) * patch.weight[..., None]
    cover(layer, patch)
    lift(layer, fill(frame, outline, soft=0.06), 0.25)
