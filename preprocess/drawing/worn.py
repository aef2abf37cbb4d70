"""What the drawn portraits wear on the face: a mask, glasses."""

from __future__ import annotations

import numpy as np

from preprocess.drawing.brush import (
    F32,
    Layer,
    Patch,
    Points,
    blur,
    cover,
    ellipse,
    fill,
    inside,
    lift,
    line,
    linear,
    moved,
    noise,
    paint,
    points,
    smooth,
    tint,
)
from preprocess.drawing.sitters import MaskWorn, Person


def paint_glasses(layer: Layer, person: Person) -> None:
    assert person.glasses is not None
    colour, frame = linear(*person.glasses), layer.frame
    for side in (-1, 1):
        square = ellipse(0, 0, 1, 1)
        square = np.sign(square) * np.abs(square) ** 0.62
        rim = square * (0.34, 0.25) + (side * 0.44, 0.02)
        rim = np.concatenate([rim, rim[:2]])
        tint(layer, line(frame, moved(rim, 0, 0.035), 0.04, soft=0.02), (0.8, 0.78, 0.78))
        paint(layer, line(frame, rim, 0.035), colour)
        glass = fill(frame, rim, soft=0.01)
        tint(layer, glass, (0.95, 0.96, 0.97))
        paint(layer, line(frame, points((side * 0.78, -0.05), (side * 1.0, -0.06)), 0.035), colour)
    paint(
        layer, line(frame, smooth(points((-0.11, 0.0), (0, -0.04), (0.11, 0.0)), closed=False), 0.035), colour
    )


def paint_mask(layer: Layer, person: Person, mask: MaskWorn, rng: np.random.Generator) -> None:
    """A mask with its straps, nose wire, folds and the shadow it throws."""
    frame, t, b = layer.frame, mask.top, mask.bottom
    side = min(0.95, 0.9 + 0.05 * (t < 0.5))
    high = t + 0.16
    low = max(high + 0.25, b - 0.42)
    reach = side if t < 0.5 else person.jaw + 0.06
    peak = 0.1 if t < 0.5 else 0.03
    half = points(
        (0, t - peak),
        (0.2, t - peak * 0.6),
        (0.55, t + 0.06),
        (reach, high),
        (reach - 0.03, (high + low) / 2),
        (reach * 0.84, low),
        (0.4, b - 0.05),
        (0, b),
    )
    ring = np.concatenate([half, (half[1:-1] * (-1, 1))[::-1]])
    shape = moved(smooth(ring), mask.shift, 0)
    colour = linear(*mask.colour)
    for s in (-1, 1):
        for start, end in (
            ((reach - 0.02, high + 0.02), (1.04, -0.12)),
            ((reach - 0.08, low - 0.02), (1.05, 0.34)),
        ):
            strap = smooth(
                points(start, ((start[0] + end[0]) / 2 + 0.03, (start[1] + end[1]) / 2), end) * (s, 1),
                closed=False,
            )
            tint(layer, line(frame, moved(strap, 0, 0.03), 0.05, soft=0.02), (0.75, 0.72, 0.72))
            paint(layer, line(frame, strap, 0.035), linear(232, 232, 232) if mask.kind != "cloth" else colour)
    tint(layer, fill(frame, moved(shape, 0, 0.03), soft=0.05), (0.55, 0.5, 0.5))
    patch = fill(frame, shape)
    _smooth_under(layer, patch)
    paint(layer, patch, colour)
    cover(layer, patch)
    layer.gloss[patch.where] *= 1 - patch.weight
    lift(layer, fill(frame, shape, soft=0.03), 0.05)
    rows, columns = patch.weight.shape
    weave = 0.02 * noise(rng, rows, columns, 1.5) + 0.02 * noise(rng, rows, columns, 20)
    layer.albedo[patch.where] *= 1 + (weave * patch.weight)[..., None]
    layer.height[patch.where] += patch.weight * 0.012 * noise(rng, rows, columns, frame.unit / 5)
    whole = np.zeros(layer.alpha.shape, np.float32)
    whole[patch.where] = patch.weight
    _folds(layer, mask, whole, reach, high, low)
    edge = smooth(half[:4], closed=False)
    edge = moved(np.concatenate([(edge * (-1, 1))[::-1], edge[1:]]), mask.shift, 0.035)
    tint(layer, inside(line(frame, edge, 0.018, soft=0.006), whole), (0.8, 0.8, 0.82))
    wire = line(
        frame,
        smooth(points((-0.26, t + 0.03), (0, t - peak + 0.07), (0.26, t + 0.03)), closed=False),
        0.05,
        soft=0.015,
    )
    lift(layer, inside(wire, whole), 0.03)


def _smooth_under(layer: Layer, patch: Patch) -> None:
    """Cloth spans the lips and nostrils: blur the relief below it, but keep the nose's bulge."""
    height = layer.height[patch.where]
    flat = blur(height.copy(), 0.06 * layer.frame.unit)
    height += (flat - height) * patch.weight


def _folds(layer: Layer, mask: MaskWorn, whole: F32, reach: float, high: float, low: float) -> None:
    frame, t, b = layer.frame, mask.top, mask.bottom
    paths: list[Points] = []
    if mask.kind == "pleats":
        for k in range(3):
            v = t + (b - t) * (0.3 + 0.2 * k)
            paths.append(
                points(
                    (-reach, v - 0.05), (-0.4, v + 0.02), (0, v + 0.035), (0.4, v + 0.02), (reach, v - 0.05)
                )
            )
    elif mask.kind == "fold":
        paths += [
            points(
                (-reach, high + 0.06),
                (-0.5, t + (b - t) * 0.33),
                (0, t + (b - t) * 0.3),
                (0.5, t + (b - t) * 0.33),
                (reach, high + 0.06),
            )
        ]
        paths += [
            points(
                (-reach * 0.85, low),
                (-0.4, t + (b - t) * 0.72),
                (0, t + (b - t) * 0.74),
                (0.4, t + (b - t) * 0.72),
                (reach * 0.85, low),
            )
        ]
    else:
        paths += [points((0, t - 0.06), (0.01, (t + b) / 2), (0, b))]
    for path in paths:
        path = smooth(path, closed=False)
        lift(layer, inside(line(frame, path, 0.05, soft=0.02), whole), 0.04)
        tint(layer, inside(line(frame, moved(path, 0, 0.03), 0.03, soft=0.012), whole), (0.72, 0.73, 0.75))
    for s in (-1, 1):
        pull = points((reach, high + 0.02), (reach - 0.25, high + 0.12), (reach - 0.4, high + 0.14))
        lift(
            layer,
            inside(line(frame, smooth(pull * (s, 1), closed=False), 0.03, soft=0.02), whole),
            0.03,
        )
