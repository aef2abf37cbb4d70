"""Hair of the drawn portraits: styles as outlines, strands, shading."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from preprocess.drawing.brush import (
    F32,
    Layer,
    Patch,
    Points,
    blur,
    cover,
    fill,
    lift,
    linear,
    mirrored,
    moved,
    noise,
    points,
    smooth,
)
from preprocess.drawing.sitters import RGB, Person


@dataclass(frozen=True)
class Style:
    """Right halves, top to bottom, in units: hair lies between `outer` and `opening`, where the face shows.

    Attributes:
        along: strands fall along the outlines (long hair), else they run from the hairline to the outline.
        back: how far hair hangs behind the neck, v; 0: not at all.
        curl: 0 straight .. 1 permed.
        jagged: how uneven the hairline is, units.
    """

    outer: Points
    opening: Points
    along: bool = False
    back: float = 0.0
    curl: float = 0.0
    jagged: float = 0.0


def style_of(person: Person) -> Style:
    """The outlines of the person's `style`, in the person's `volume`."""
    h = person.volume
    top = -1.40 - h
    short = points(
        (0, top),
        (0.5, top + 0.06),
        (0.88, top + 0.34),
        (1.04 + h / 3, -0.75),
        (1.05 + h / 5, -0.35),
        (0.985, 0.06),
    )
    if person.style == "fringe":
        return Style(short, _short_opening(-0.56, -0.52), jagged=0.09)
    if person.style == "crop":
        return Style(short * (1, 1) + (0, h * 0.35), _short_opening(-0.88, -0.9), jagged=0.04)
    if person.style == "side":
        return Style(short, _short_opening(-0.86, -0.98), jagged=0.03)
    if person.style == "receding":
        opening = points(
            (0, -0.98),
            (0.2, -1.02),
            (0.48, -1.24),
            (0.72, -1.1),
            (0.87, -0.5),
            (0.93, 0.0),
            (1.5, 0.7),
            (1.5, 1.6),
        )
        return Style(moved(short, 0, h * 0.5), opening, jagged=0.03)
    if person.style == "bald":
        sides = points((0, -0.95), (0.6, -0.98), (0.93, -0.88), (1.1, -0.55), (1.11, -0.2), (0.99, 0.12))
        opening = points(
            (0, -2.1),
            (0.5, -1.9),
            (0.76, -1.25),
            (0.86, -0.75),
            (0.89, -0.4),
            (0.93, 0.0),
            (1.5, 0.7),
            (1.5, 1.6),
        )
        return Style(sides, opening, jagged=0.02)
    if person.style == "bun":
        return Style(short - (0.02, -h * 0.5), _short_opening(-0.94, -0.92), along=False, jagged=0.015)
    if person.style == "perm":
        puff = points(
            (0, top - 0.12),
            (0.6, top),
            (1.05, top + 0.38),
            (1.3, -0.6),
            (1.36, -0.1),
            (1.28, 0.38),
            (1.05, 0.62),
        )
        opening = points(
            (0, -0.86), (0.4, -0.86), (0.74, -0.66), (0.88, -0.3), (0.93, 0.2), (0.98, 0.6), (1.1, 1.2)
        )
        return Style(puff, opening, curl=1.0, back=0.7, jagged=0.05)
    return _hanging(person, top)


def _hanging(person: Person, top: float) -> Style:
    end = {"bob": 1.12, "wavy": 1.75}.get(person.style, 2.6)
    wide = 1.14 + person.volume / 2
    if person.style == "bob":
        tail = [(wide + 0.1, 0.5), (wide + 0.08, 0.95), (1.02, end)]
        inner = [(0.9, 0.55), (0.88, 0.9), (0.9, 1.3)]
    else:
        tail = [(wide + 0.06, 0.6), (wide + 0.1, 1.3), (wide - 0.04, end - 0.35), (wide - 0.25, end)]
        inner = [(0.9, 0.5), (0.82, 1.0), (0.78, 1.4), (0.84, end + 0.2)]
    outer = points((0, top), (0.55, top + 0.07), (0.95, top + 0.42), (wide, -0.5), *tail)
    if person.style == "long_fringe":
        hairline = [(0, -0.46), (0.4, -0.46), (0.74, -0.4), (0.86, -0.05)]
    else:
        hairline = [(0, -1.12), (0.22, -1.0), (0.58, -0.72), (0.84, -0.2)]
    return Style(
        outer,
        points(*hairline, *inner),
        along=True,
        back=end - 0.05,
        curl=0.35 if person.style == "wavy" else 0.05,
        jagged=0.05 if person.style == "long_fringe" else 0.015,
    )


def _short_opening(middle: float, side: float) -> Points:
    return points(
        (0, middle),
        (0.4, side),
        (0.72, side + 0.16),
        (0.86, -0.35),
        (0.9, -0.02),
        (0.97, 0.2),
        (1.5, 0.7),
        (1.5, 1.6),
    )


def paint_hair(layer: Layer, person: Person) -> None:
    """The hair in front of and around the face, onto a head layer."""
    style = style_of(person)
    rng = np.random.default_rng([person.grain, 1])
    if person.style == "bun":
        _bun(layer, person, rng)
    mask = _region(layer, style, person, rng)
    whole = Patch((slice(None), slice(None)), mask)
    shadow = blur(mask, 0.09 * layer.frame.unit) * (1 - mask)
    layer.albedo[:] *= 1 - 0.45 * shadow[..., None]
    layer.height[:] += (blur(layer.height.copy(), 0.12 * layer.frame.unit) - layer.height) * mask
    _colour(layer, whole, _tone(layer, style, mask, person, rng), person, rng)
    cover(layer, whole)


def back_hair(layer: Layer, person: Person) -> None:
    """The hair that hangs behind the neck, onto a body layer."""
    style = style_of(person)
    if not style.back:
        return
    rng = np.random.default_rng([person.grain, 2])
    wide = 1.08 + person.volume / 2
    half = points(
        (0, -0.4), (wide * 0.8, -0.3), (wide, 0.3), (wide + 0.02, style.back - 0.3), (wide - 0.3, style.back)
    )
    patch = fill(layer.frame, smooth(mirrored(half)), soft=0.015)
    rows, columns = patch.weight.shape
    tone = 0.5 + 0.1 * noise(rng, 1, columns, 3)[:1] + np.zeros((rows, 1), np.float32)
    _colour(layer, patch, tone, person, rng)
    lift(layer, fill(layer.frame, smooth(mirrored(half)), soft=0.2), 0.3)
    cover(layer, patch)


def _bun(layer: Layer, person: Person, rng: np.random.Generator) -> None:
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    at = (person.part * 0.5, -1.62 - person.volume / 2)
    knot = np.stack([at[0] + 0.42 * np.cos(angle), at[1] + 0.32 * np.sin(angle)], axis=1)
    patch = fill(layer.frame, knot)
    rows, columns = patch.weight.shape
    tone = 0.8 + 0.12 * noise(rng, rows, columns, 5)
    _colour(layer, patch, tone, person, rng)
    lift(layer, fill(layer.frame, knot, soft=0.12), 0.5)
    cover(layer, patch)


def _region(layer: Layer, style: Style, person: Person, rng: np.random.Generator) -> F32:
    """Where hair is, f32 [h w]: inside the outer outline and outside the opening."""
    lean = np.array([person.part * 0.22, 0.0])
    outer = smooth(mirrored(style.outer))
    opening = smooth(mirrored(style.opening), steps=10)
    near_top = np.clip((-0.3 - opening[:, 1:]) / 0.5, 0, 1)
    opening = opening + lean * near_top
    opening[:, 1] += style.jagged * rng.standard_normal(len(opening)) * near_top[:, 0]
    if style.curl:
        wave = np.arange(len(outer))[:, None]
        phase = rng.uniform(0, 6.28)
        outer = outer * (
            1
            + style.curl * 0.045 * np.sin(wave * 1.7 + phase)
            + style.curl * 0.02 * rng.standard_normal((len(outer), 1))
        )
    shape = fill(layer.frame, outer, soft=0.012)
    mask = np.zeros(layer.alpha.shape, np.float32)
    mask[shape.where] = shape.weight
    hole = fill(layer.frame, opening, soft=0.02)
    mask[hole.where] *= 1 - hole.weight
    return mask


def _tone(layer: Layer, style: Style, mask: F32, person: Person, rng: np.random.Generator) -> F32:
    """Brightness of the hair, about 0.4..1.4, f32 [h w]: strands light and dark."""
    canvas = np.full(mask.shape, 128, np.uint8)
    frame = layer.frame
    curly = style.curl > 0.9
    paths = _curls(style, rng) if curly else _strands(style, person, rng)
    dots = np.round((paths - (frame.left, frame.top)) * (frame.unit * 16)).astype(np.int32)
    shades = np.clip(128 + rng.normal(0, 24 if curly else 36, len(paths)), 40, 250).astype(int).tolist()
    widths = rng.integers(2 if curly else 1, 4, len(paths)).tolist()
    for path, shade, width in zip(dots, shades, widths, strict=True):
        cv2.polylines(canvas, [path], False, shade, width, cv2.LINE_AA, shift=4)
    tone = blur(canvas.astype(np.float32) / np.float32(128), 0.8)
    # A darker rim gives the hair its body.
    return tone * (0.66 + 0.4 * blur(mask, 0.1 * frame.unit))


def _strands(style: Style, person: Person, rng: np.random.Generator, count: int = 420) -> Points:
    """Paths [count n 2]: along the outlines, or across from the hairline to the outline."""
    outer, inner = (_resample(smooth(half, closed=False), 24) for half in (style.outer, style.opening))
    if style.along:
        t = rng.uniform(-0.05, 1.05, (count, 1, 1))
        paths = inner + (outer - inner) * t
    else:
        start = rng.integers(24, size=count)
        end = np.clip(start + rng.integers(-1, 3, count), 0, 23)
        mix = np.linspace(0, 1, 8)[:, None]
        paths = inner[start][:, None] + (outer[end] - inner[start])[:, None] * mix
    phase = rng.uniform(-0.6, 0.6, (count, 1))
    paths[..., 0] += style.curl * 0.16 * np.sin(np.linspace(0, 9, paths.shape[1]) + phase)
    paths[..., 0] *= rng.choice([-1, 1], (count, 1))
    paths += rng.normal(0, 0.02, (count, 1, 2))
    paths[..., 0] += person.part * 0.22 * np.clip((-0.3 - paths[..., 1]) / 0.5, 0, 1)
    return paths


def _curls(style: Style, rng: np.random.Generator, count: int = 900) -> Points:
    """Small open rings [count n 2] all over the head."""
    reach, low = style.outer[:, 0].max(), style.outer[:, 1].min()
    at = rng.uniform((-reach, low), (reach, style.outer[:, 1].max()), (count, 2))
    angle = rng.uniform(0, 2 * np.pi, (count, 1)) + np.linspace(0, 4.2, 9)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=2)
    return at[:, None] + ring * rng.uniform(0.05, 0.1, (count, 1, 2))


def _colour(layer: Layer, patch: Patch, tone: F32, person: Person, rng: np.random.Generator) -> None:
    base, white = linear(*person.hair), linear(*_grey(person))
    rows, columns = patch.weight.shape
    # Grey comes strand by strand, denser at the temples than on the crown.
    streaks = 1.3 * (tone - tone.mean()) + 0.3 * noise(rng, rows, columns, 14)
    share = np.clip(person.grey * (1 + streaks), 0, 1)[..., None]
    colour = (base + (white - base) * share) * (tone * tone)[..., None]
    under = layer.albedo[patch.where]
    under += (colour - under) * patch.weight[..., None]
    layer.height[patch.where] += patch.weight * (np.float32(0.1) + np.float32(0.012) * (tone - 1))
    gloss = layer.gloss[patch.where]
    gloss += (np.float32(0.1 * (1 - 0.6 * person.grey)) * tone - gloss) * patch.weight


def _grey(person: Person) -> RGB:
    light = 178 + 44 * person.grey
    return light, light, light - 4


def _resample(path: Points, count: int) -> Points:
    steps = np.r_[0, np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))]
    at = np.linspace(0, steps[-1], count)
    return np.stack([np.interp(at, steps, path[:, 0]), np.interp(at, steps, path[:, 1])], axis=1)
