"""The head of the drawn portraits: skull, skin, eyes, brows, nose, mouth, what age does to them, and the mask."""

from __future__ import annotations

import numpy as np

from preprocess.brush import (
    F32,
    Frame,
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
    mirrored,
    noise,
    paint,
    points,
    smooth,
    tint,
)
from preprocess.sitters import MaskWorn, Person, Shot

EYE_V, NOSE_V, MOUTH_V = -0.04, 0.5, 0.86


def outline(person: Person) -> Points:
    """The right half of the face's outline, top to chin."""
    sag = 0.05 * person.sag
    jaw, chin = person.jaw, person.chin
    return points(
        (0, -1.4),
        (0.42, -1.34),
        (0.78, -1.08),
        (0.97, -0.6),
        (1.0, -0.1),
        (0.965, 0.3),
        (jaw + 0.08 + sag / 2, 0.72),
        (jaw - 0.06 + sag, 0.98),
        (jaw * 0.52 + sag / 2, chin - 0.08),
        (jaw * 0.24, chin),
    )


def paint_face(layer: Layer, person: Person, shot: Shot) -> None:
    """Everything of the head but the hair."""
    rng = np.random.default_rng([person.grain, 3])
    frame = layer.frame
    skin = linear(*person.skin)
    _ears(layer, person, skin)
    face = fill(frame, smooth(mirrored(outline(person))))
    paint(layer, face, skin)
    cover(layer, face)
    layer.gloss[face.where] += face.weight * np.float32(0.07)
    head = np.zeros(layer.alpha.shape, np.float32)
    head[face.where] = face.weight
    _relief(layer, person, head)
    _complexion(layer, person, rng, skin, head)
    _age(layer, person, rng, head)
    for side in (-1, 1):
        _eye(layer, person, shot, side)
        _brow(layer, person, side, np.random.default_rng([person.grain, 5 + side]))
    _nose(layer, person)
    _mouth(layer, person, shot)
    _hair_on_face(layer, person, rng, head)
    if shot.mask is not None:
        paint_mask(layer, person, shot.mask, np.random.default_rng([shot.grain, 7]))
    if person.glasses is not None:
        _glasses(layer, person)


def _ears(layer: Layer, person: Person, skin: F32) -> None:
    long = 0.3 + 0.05 * person.sag
    for side in (-1, 1):
        ear = ellipse(side * 1.03, 0.08, 0.14, long, turn=side * 0.12)
        patch = fill(layer.frame, ear)
        paint(layer, patch, skin * (1.0, 0.9, 0.87))
        cover(layer, patch)
        lift(layer, fill(layer.frame, ear, soft=0.04), 0.12)
        inner = fill(layer.frame, ellipse(side * 1.05, 0.07, 0.06, long * 0.62, turn=side * 0.12), soft=0.03)
        tint(layer, inner, (0.72, 0.58, 0.55))
        lift(layer, inner, -0.06)


def _relief(layer: Layer, person: Person, head: F32) -> None:
    """The face's surface: a flattened ellipsoid with sockets, cheeks, brow, nose, lips and chin on it."""
    u, v = layer.frame.grid()
    curve = smooth(outline(person), closed=False)
    width = np.interp(v[:, 0], curve[:, 1], curve[:, 0], left=0.3, right=0.25).astype(np.float32)[:, None]
    width = np.maximum(width, 0.3) * np.float32(1.03)
    across = np.clip(1 - np.abs(u / width) ** 2.5, 0, 1)
    down = np.clip(1 - np.abs((v + 0.02) / 1.46) ** 3, 0, 1)
    layer.height[:] += 0.85 * np.sqrt(across * down)
    frame = layer.frame
    young = 1 - person.sag
    for side in (-1, 1):
        lift(layer, fill(frame, ellipse(side * 0.43, EYE_V - 0.02, 0.24, 0.13), soft=0.1), -0.13)
        lift(layer, fill(frame, ellipse(side * 0.56, 0.34, 0.2, 0.16), soft=0.13), 0.07 + 0.05 * young)
        ridge = 0.05 + 0.07 * (person.gender == "male")
        lift(layer, fill(frame, ellipse(side * 0.42, -0.31, 0.3, 0.06), soft=0.08), ridge)
        lift(layer, fill(frame, ellipse(side * 0.86, -0.5, 0.08, 0.2), soft=0.1), -0.05)
    lift(layer, fill(frame, ellipse(0, person.chin - 0.16, 0.2, 0.1), soft=0.08), 0.09)
    layer.height[:] *= np.where(head > 0, 1, np.float32(0.98))


def _complexion(layer: Layer, person: Person, rng: np.random.Generator, skin: F32, head: F32) -> None:
    frame = layer.frame
    rows, columns = head.shape
    mottle = 0.022 * noise(rng, rows, columns, frame.unit / 6) + 0.02 * noise(rng, rows, columns, 2.5)
    layer.albedo[:] *= (1 + mottle * head)[..., None]
    flush = (1.06, 1 - 0.24 * person.blush, 1 - 0.22 * person.blush)
    for side in (-1, 1):
        tint(
            layer, inside(fill(frame, ellipse(side * 0.58, 0.38, 0.22, 0.15), soft=0.13), layer, head), flush
        )
        socket = fill(frame, ellipse(side * 0.42, EYE_V, 0.27, 0.13), soft=0.07)
        tint(layer, socket, (0.86, 0.78, 0.77))
    tint(layer, fill(frame, ellipse(0, NOSE_V, 0.16, 0.12), soft=0.08), (1.0, 0.9, 0.89))
    tint(layer, fill(frame, ellipse(0, 1.07, 0.2, 0.05), soft=0.05), (0.84, 0.8, 0.8))
    gloss = fill(frame, ellipse(0, -0.62, 0.4, 0.2), soft=0.15)
    layer.gloss[gloss.where] += gloss.weight * np.float32(0.05)


def _groove(layer: Layer, path: Points, depth: float, *, width: float = 0.022) -> None:
    """A fold in the skin: a dent, darker and redder at its ground."""
    soft = fill_line(layer.frame, path, width)
    lift(layer, soft, -0.09 * depth)
    tint(layer, soft, (1 - 0.34 * depth, 1 - 0.43 * depth, 1 - 0.45 * depth))


def fill_line(frame: Frame, path: Points, width: float) -> Patch:
    """A soft stroke that thins out at both ends, as a wrinkle does."""
    middle = smooth(path, closed=False, steps=8)
    direction = np.gradient(middle, axis=0)
    normal = np.stack([-direction[:, 1], direction[:, 0]], axis=1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
    taper = np.sin(np.linspace(0.12, np.pi - 0.12, len(middle)))[:, None] * width / 2
    return fill(
        frame, np.concatenate([middle + normal * taper, (middle - normal * taper)[::-1]]), soft=width * 0.4
    )


def _age(layer: Layer, person: Person, rng: np.random.Generator, head: F32) -> None:
    """Wrinkles on brow, eyes and mouth, bags, spots."""
    w, sag = person.wrinkles, person.sag
    if w > 0:
        for k in range(2 + round(2 * w)):
            v = -0.5 - 0.135 * k + rng.uniform(-0.015, 0.015)
            half = rng.uniform(0.46, 0.58)
            path = points(
                (-half, v + 0.03),
                (-half / 2, v - 0.015),
                (0, v + 0.02),
                (half / 2, v - 0.015),
                (half, v + 0.03),
            )
            _groove(layer, path, 0.8 * w, width=0.03)
        for side in (-1, 1):
            s = np.array([side, 1.0])
            for k in range(2 + round(2 * w)):
                rise = -0.1 + 0.085 * k
                _groove(
                    layer,
                    points((0.69, -0.04 + 0.3 * rise), (0.78, -0.04 + rise * 0.7), (0.88, -0.03 + rise * 1.3))
                    * s,
                    0.8 * w,
                )
            fold = points((0.2, 0.42), (0.33, 0.56), (0.44, 0.74), (0.47, 0.9 + 0.1 * w))
            _groove(layer, fold * s, w, width=0.045)
            if w > 0.6:
                _groove(layer, points((0.37, 0.98), (0.42, 1.1), (0.4, 1.2)) * s, 0.7 * w, width=0.035)
                _groove(layer, points((0.07, -0.36), (0.055, -0.28), (0.06, -0.2)) * s, 0.8 * w)
    if sag > 0:
        for side in (-1, 1):
            s = np.array([side, 1.0])
            bag = fill(layer.frame, ellipse(side * 0.42, 0.13, 0.19, 0.06), soft=0.035)
            lift(layer, bag, 0.07 * sag)
            tint(layer, bag, (1 - 0.16 * sag, 1 - 0.22 * sag, 1 - 0.17 * sag))
            _groove(
                layer,
                points((0.24, 0.12), (0.38, 0.21), (0.54, 0.19), (0.63, 0.12)) * s,
                0.75 * sag,
                width=0.03,
            )
    for _ in range(person.spots):
        at, size = rng.uniform((-0.8, -0.9), (0.8, 0.5)), rng.uniform(0.015, 0.045)
        spot = inside(fill(layer.frame, ellipse(at[0], at[1], size * 1.2, size), soft=0.012), layer, head)
        tint(layer, spot, (0.74, 0.62, 0.55))


def _eye(layer: Layer, person: Person, shot: Shot, side: int) -> None:
    frame = layer.frame
    a, b = person.eye[0], person.eye[1] * shot.open_eyes
    s, at = np.array([side, 1.0]), np.array([person.eye_gap, EYE_V])
    droop = 0.03 * person.sag
    upper = points(
        (-a, 0.03), (-a * 0.55, -b * 0.75), (0, -b * 1.08), (a * 0.55, -b * 0.8 + droop), (a, -0.015 + droop)
    )
    lower = points(
        (a, -0.015 + droop), (a * 0.45, b * 0.62), (-a * 0.1, b * 0.8), (-a * 0.6, b * 0.55), (-a, 0.03)
    )
    upper, lower = (smooth((half + at) * s, closed=False) for half in (upper, lower))
    eye = fill(frame, np.concatenate([upper, lower]))
    opening = np.zeros(layer.alpha.shape, np.float32)
    opening[eye.where] = eye.weight
    paint(layer, eye, linear(232, 226, 222))
    iris_at = at * s + (shot.gaze[0] * a * 0.35, shot.gaze[1] * b - 0.1 * b)
    r = 0.098
    paint(layer, inside(fill(frame, ellipse(*iris_at, r, r)), layer, opening), linear(*person.iris) * 0.4)
    paint(
        layer,
        inside(fill(frame, ellipse(*iris_at, r * 0.86, r * 0.86), soft=0.012), layer, opening),
        linear(*person.iris),
    )
    paint(
        layer,
        inside(
            fill(frame, ellipse(iris_at[0], iris_at[1] + 0.03, r * 0.55, r * 0.4), soft=0.02), layer, opening
        ),
        linear(*person.iris) * 1.9,
        0.6,
    )
    paint(
        layer, inside(fill(frame, ellipse(*iris_at, r * 0.45, r * 0.45)), layer, opening), linear(12, 10, 10)
    )
    # The lid's shadow on the eyeball.
    tint(layer, inside(line(frame, upper + (0, 0.02), 0.07, soft=0.02), layer, opening), (0.45, 0.42, 0.42))
    lamp = shot.light.direction
    paint(
        layer,
        fill(frame, ellipse(iris_at[0] + 0.05 * lamp[0], iris_at[1] - 0.03, 0.022, 0.022), soft=0.004),
        linear(255, 255, 255),
        0.95,
    )
    lift(layer, fill(frame, np.concatenate([upper, lower]), soft=0.05), 0.08)
    dark = linear(38, 26, 24)
    paint(
        layer, line(frame, upper, 0.026 + 0.022 * person.liner, soft=0.004), dark, 0.55 + 0.45 * person.liner
    )
    if person.liner > 0.5:
        wing = points((a - 0.03, -0.02), (a + 0.03, -0.04), (a + 0.07, -0.07)) + at
        paint(layer, line(frame, smooth(wing * s, closed=False), 0.025, soft=0.006), dark, 0.9)
        paint(layer, line(frame, lower, 0.02, soft=0.004), dark, 0.5)
        shadow = fill(frame, smooth(np.concatenate([upper, (upper - (0, 0.1))[::-1]])), soft=0.025)
        tint(layer, shadow, (0.82, 0.62, 0.68))
    else:
        tint(layer, line(frame, lower, 0.02, soft=0.008), (0.75, 0.6, 0.58))
    crease = upper * (1.0, 1.0) - (0, 0.05 + 0.02 * (1 - person.sag))
    tint(layer, line(frame, crease[3:-3], 0.022, soft=0.01), (0.66, 0.55, 0.53))


def _brow(layer: Layer, person: Person, side: int, rng: np.random.Generator) -> None:
    frame = layer.frame
    thick, arch = person.brow
    spine = smooth(
        points((0.19, -0.29), (0.37, -0.32 - arch * 0.5), (0.55, -0.32 - arch * 0.7), (0.72, -0.24)),
        closed=False,
        steps=10,
    )
    share = np.linspace(0, 1, len(spine))[:, None]
    body = np.concatenate([spine - (0, thick / 2), (spine + (0, thick / 2) * (1 - 0.8 * share))[::-1]])
    hair, grey = linear(*person.hair), linear(186, 184, 182)
    colour = hair + (grey - hair) * max(0.0, person.grey * 0.85 - 0.1)
    s = np.array([side, 1.0])
    paint(layer, fill(frame, body * s, soft=0.016), colour, 0.5)
    for _ in range(70):
        t = rng.uniform(0, 0.97)
        at = spine[int(t * (len(spine) - 1))] + (0, rng.uniform(-0.5, 0.5) * thick * (1 - 0.7 * t))
        to = at + np.array([0.06 + 0.03 * t, -0.05 + 0.075 * t]) * rng.uniform(0.7, 1.2)
        paint(
            layer,
            line(frame, np.stack([at, to]) * s, 0.012),
            colour * np.float32(rng.uniform(0.5, 1.3)),
            0.75,
        )
    lift(layer, fill(frame, body * s, soft=0.03), 0.03)


def _nose(layer: Layer, person: Person) -> None:
    frame = layer.frame
    w, low = person.nose
    bridge = smooth(points((0, -0.3), (0.06, -0.1), (0.075, 0.15), (0.11, low - 0.06)), closed=False)
    lift(layer, fill(frame, mirrored(bridge), soft=0.085), 0.15)
    lift(layer, fill(frame, ellipse(0, low, 0.1, 0.09), soft=0.06), 0.16)
    for side in (-1, 1):
        wing = ellipse(side * w * 0.8, low + 0.07, 0.075, 0.075)
        lift(layer, fill(frame, wing, soft=0.04), 0.09)
        tint(
            layer,
            line(
                frame,
                smooth(
                    points((w * 0.95, low - 0.02), (w * 1.18, low + 0.07), (w, low + 0.15)) * (side, 1),
                    closed=False,
                ),
                0.025,
                soft=0.02,
            ),
            (0.8, 0.7, 0.68),
        )
        hole = fill(frame, ellipse(side * w * 0.42, low + 0.125, 0.055, 0.026, turn=-side * 0.3), soft=0.01)
        paint(layer, hole, linear(64, 34, 30), 0.8)
    tint(layer, fill(frame, ellipse(0, low + 0.17, 0.2, 0.035), soft=0.035), (0.72, 0.65, 0.64))
    layer.gloss[fill(frame, ellipse(0, low - 0.02, 0.05, 0.05)).where] += np.float32(0.06)


def _mouth(layer: Layer, person: Person, shot: Shot) -> None:
    frame = layer.frame
    w, full = person.lips
    v, smile = MOUTH_V, 0.045 * shot.smile
    w = w * (1 + 0.12 * max(0.0, shot.smile))
    seam_half = smooth(
        points((0, v + 0.01), (w * 0.5, v + 0.012 - smile * 0.2), (w, v - smile)), closed=False
    )
    upper_half = smooth(
        points(
            (0, v - 0.055 * full),
            (w * 0.28, v - 0.08 * full),
            (w * 0.62, v - 0.045 * full - smile * 0.4),
            (w, v - smile),
        ),
        closed=False,
    )
    lower_half = smooth(
        points(
            (0, v + 0.12 * full),
            (w * 0.4, v + 0.1 * full),
            (w * 0.75, v + 0.045 * full - smile * 0.5),
            (w, v - smile),
        ),
        closed=False,
    )

    def both(half: Points) -> Points:
        return np.concatenate([(half * (-1, 1))[::-1], half[1:]])

    colour = linear(*person.lip_colour)
    seam = both(seam_half)
    upper, lower = (
        np.concatenate([both(upper_half), seam[::-1]]),
        np.concatenate([both(lower_half), seam[::-1]]),
    )
    strength = 0.9 if person.gender == "female" else 0.6
    paint(layer, fill(frame, upper, soft=0.012), colour * 0.78, strength)
    paint(layer, fill(frame, lower, soft=0.012), colour, strength)
    lift(layer, fill(frame, upper, soft=0.02), 0.035)
    lift(layer, fill(frame, lower, soft=0.03), 0.07)
    shine = fill(frame, ellipse(0, v + 0.06 * full, w * 0.4, 0.02), soft=0.02)
    layer.gloss[shine.where] += shine.weight * np.float32(0.12)
    paint(layer, line(frame, seam, 0.026, soft=0.007), linear(70, 30, 30), 0.85)
    if shot.smile > 0.55:
        reach = seam * (0.8, 1)
        teeth = reach + np.stack([0 * reach[:, 0], 0.07 * (1 - (reach[:, 0] / (0.8 * w)) ** 2)], axis=1)
        gap = fill(frame, np.concatenate([reach, teeth[::-1]]), soft=0.008)
        paint(layer, gap, linear(216, 208, 198), 0.85)
        tint(layer, line(frame, teeth, 0.02, soft=0.008), (0.6, 0.5, 0.5))
    for side in (-1, 1):
        tint(
            layer,
            fill(frame, ellipse(side * (w + 0.02), v - smile, 0.035, 0.04), soft=0.025),
            (0.75, 0.64, 0.62),
        )
    tint(
        layer, fill(frame, ellipse(0, v + 0.15 * full + 0.02, w * 0.55, 0.025), soft=0.03), (0.74, 0.66, 0.65)
    )


def _hair_on_face(layer: Layer, person: Person, rng: np.random.Generator, head: F32) -> None:
    """Stubble, beard and moustache."""
    if not person.stubble:
        return
    frame, c, j = layer.frame, person.chin, person.jaw
    outer = points((1.05, -0.05), (1.05, 0.5), (1.0, 1.0), (0.5, c + 0.1), (0, c + 0.12))
    inner = points((0, 0.7), (0.3, 0.68), (0.5, 0.8), (j * 0.82, 0.62), (0.9, -0.05))
    ring = [outer, (outer * (-1, 1))[::-1], (inner * (-1, 1))[::-1], inner]
    area = fill(frame, np.concatenate(ring), soft=0.06)
    mouth = fill(frame, ellipse(0, MOUTH_V + 0.02, person.lips[0] * 1.02, 0.09), soft=0.02)
    keep = head.copy()
    keep[mouth.where] *= 1 - mouth.weight
    rows, columns = head.shape
    speckle = np.clip(0.85 + 0.22 * noise(rng, rows, columns, 1.8), 0, 1.3)
    hair, grey = linear(*person.hair), linear(196, 194, 190)
    colour = hair + (grey - hair) * person.grey
    patch = inside(area, layer, keep * speckle)
    paint(layer, Patch(patch.where, np.clip(patch.weight, 0, 1)), colour, 0.42 * person.stubble)
    if person.beard:
        paint(layer, Patch(patch.where, np.clip(patch.weight, 0, 1)), colour, 0.65 * person.beard)


def _glasses(layer: Layer, person: Person) -> None:
    assert person.glasses is not None
    colour, frame = linear(*person.glasses), layer.frame
    for side in (-1, 1):
        square = ellipse(0, 0, 1, 1)
        square = np.sign(square) * np.abs(square) ** 0.62
        rim = square * (0.34, 0.25) + (side * 0.44, 0.02)
        rim = np.concatenate([rim, rim[:2]])
        tint(layer, line(frame, rim + (0, 0.035), 0.04, soft=0.02), (0.8, 0.78, 0.78))
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
    shape = mirrored(half[1:-1])
    shape = smooth(np.concatenate([half[:1], half[1:-1], half[-1:], (half[1:-1] * (-1, 1))[::-1]])) + (
        mask.shift,
        0,
    )
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
            tint(layer, line(frame, strap + (0, 0.03), 0.05, soft=0.02), (0.75, 0.72, 0.72))
            paint(layer, line(frame, strap, 0.035), linear(232, 232, 232) if mask.kind != "cloth" else colour)
    tint(layer, fill(frame, shape + (0, 0.03), soft=0.05), (0.55, 0.5, 0.5))
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
    edge = np.concatenate([(edge * (-1, 1))[::-1], edge[1:]]) + (mask.shift, 0.035)
    tint(layer, inside(line(frame, edge, 0.018, soft=0.006), layer, whole), (0.8, 0.8, 0.82))
    wire = line(
        frame,
        smooth(points((-0.26, t + 0.03), (0, t - peak + 0.07), (0.26, t + 0.03)), closed=False),
        0.05,
        soft=0.015,
    )
    lift(layer, inside(wire, layer, whole), 0.03)


def _smooth_under(layer: Layer, patch: Patch) -> None:
    """Cloth spans the lips and nostrils: blur the relief below it, but keep the nose's bulge."""
    height = layer.height[patch.where]
    flat = blur(height.copy(), 0.1 * layer.frame.unit)
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
        lift(layer, inside(line(frame, path, 0.05, soft=0.02), layer, whole), 0.04)
        tint(layer, inside(line(frame, path + (0, 0.03), 0.03, soft=0.012), layer, whole), (0.72, 0.73, 0.75))
    for s in (-1, 1):
        pull = points((reach, high + 0.02), (reach - 0.25, high + 0.12), (reach - 0.4, high + 0.14))
        lift(
            layer,
            inside(line(frame, smooth(pull * (s, 1), closed=False), 0.03, soft=0.02), layer, whole),
            0.03,
        )
