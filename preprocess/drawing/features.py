"""Eyes, brows, nose and mouth of the drawn portraits."""

from __future__ import annotations

import numpy as np

from preprocess.drawing.brush import (
    Layer,
    Points,
    ellipse,
    fill,
    inside,
    lift,
    line,
    linear,
    mirrored,
    moved,
    paint,
    points,
    smooth,
    tint,
)
from preprocess.drawing.sitters import Person, Shot

EYE_V, NOSE_V, MOUTH_V = -0.04, 0.5, 0.86


def paint_eye(layer: Layer, person: Person, shot: Shot, side: int) -> None:
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
    iris_u, iris_v = at * s + (shot.gaze[0] * a * 0.35, shot.gaze[1] * b - 0.1 * b)
    r = 0.098
    paint(layer, inside(fill(frame, ellipse(iris_u, iris_v, r, r)), opening), linear(*person.iris) * 0.4)
    paint(
        layer,
        inside(fill(frame, ellipse(iris_u, iris_v, r * 0.86, r * 0.86), soft=0.012), opening),
        linear(*person.iris),
    )
    paint(
        layer,
        inside(fill(frame, ellipse(iris_u, iris_v + 0.03, r * 0.55, r * 0.4), soft=0.02), opening),
        linear(*person.iris) * 1.9,
        0.6,
    )
    paint(
        layer, inside(fill(frame, ellipse(iris_u, iris_v, r * 0.45, r * 0.45)), opening), linear(12, 10, 10)
    )
    # The lid's shadow on the eyeball.
    tint(layer, inside(line(frame, moved(upper, 0, 0.02), 0.07, soft=0.02), opening), (0.45, 0.42, 0.42))
    lamp = shot.light.direction
    paint(
        layer,
        fill(frame, ellipse(iris_u + 0.05 * lamp[0], iris_v - 0.03, 0.022, 0.022), soft=0.004),
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


def paint_brow(layer: Layer, person: Person, side: int, rng: np.random.Generator) -> None:
    frame = layer.frame
    thick, arch = person.brow
    spine = smooth(
        points((0.19, -0.29), (0.37, -0.32 - arch * 0.5), (0.55, -0.32 - arch * 0.7), (0.72, -0.24)),
        closed=False,
        steps=10,
    )
    share = np.linspace(0, 1, len(spine))[:, None]
    body = np.concatenate([spine - (0, thick / 2), (spine + (0, thick / 2) * (1 - 0.8 * share))[::-1]])
    hair, grey = linear(*person.hair), linear(132, 130, 128)
    colour = hair + (grey - hair) * max(0.0, person.grey * 0.8 - 0.1)
    s = np.array([side, 1.0])
    paint(layer, fill(frame, body * s, soft=0.016), colour, 0.5)
    for _ in range(40):
        t = rng.uniform(0, 0.97)
        at = spine[int(t * (len(spine) - 1))] + (0, rng.uniform(-0.5, 0.5) * thick * (1 - 0.7 * t))
        to = at + np.array([0.06 + 0.03 * t, -0.05 + 0.075 * t]) * rng.uniform(0.7, 1.2)
        paint(
            layer,
            line(frame, np.stack([at, to]) * s, 0.016),
            colour * np.float32(rng.uniform(0.5, 1.3)),
            0.75,
        )
    lift(layer, fill(frame, body * s, soft=0.03), 0.03)


def paint_nose(layer: Layer, person: Person) -> None:
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


def paint_mouth(layer: Layer, person: Person, shot: Shot) -> None:
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
