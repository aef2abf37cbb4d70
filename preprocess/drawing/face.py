"""The head of the drawn portraits: skull, skin, beard, and what age does to them."""

from __future__ import annotations

import numpy as np

from preprocess.drawing.brush import (
    F32,
    Frame,
    Layer,
    Patch,
    Points,
    cover,
    ellipse,
    fill,
    inside,
    lift,
    linear,
    mirrored,
    noise,
    paint,
    points,
    smooth,
    tint,
)
from preprocess.drawing.features import EYE_V, MOUTH_V, NOSE_V, paint_brow, paint_eye, paint_mouth, paint_nose
from preprocess.drawing.sitters import Person, Shot
from preprocess.drawing.worn import paint_glasses, paint_mask


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
    _complexion(layer, person, rng, head)
    _age(layer, person, rng, head)
    for side in (-1, 1):
        paint_eye(layer, person, shot, side)
        paint_brow(layer, person, side, np.random.default_rng([person.grain, 5 + side]))
    paint_nose(layer, person)
    paint_mouth(layer, person, shot)
    _hair_on_face(layer, person, rng, head)
    if shot.mask is not None:
        paint_mask(layer, person, shot.mask, np.random.default_rng([shot.grain, 7]))
    if person.glasses is not None:
        paint_glasses(layer, person)


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


def _complexion(layer: Layer, person: Person, rng: np.random.Generator, head: F32) -> None:
    frame = layer.frame
    rows, columns = head.shape
    mottle = 0.022 * noise(rng, rows, columns, frame.unit / 6) + 0.02 * noise(rng, rows, columns, 2.5)
    layer.albedo[:] *= (1 + mottle * head)[..., None]
    flush = (1.06, 1 - 0.24 * person.blush, 1 - 0.22 * person.blush)
    for side in (-1, 1):
        tint(layer, inside(fill(frame, ellipse(side * 0.58, 0.38, 0.22, 0.15), soft=0.13), head), flush)
        socket = fill(frame, ellipse(side * 0.42, EYE_V, 0.27, 0.13), soft=0.07)
        tint(layer, socket, (0.74, 0.64, 0.63))
    tint(layer, fill(frame, ellipse(0, NOSE_V, 0.16, 0.12), soft=0.08), (1.0, 0.9, 0.89))
    tint(layer, fill(frame, ellipse(0, 1.07, 0.2, 0.05), soft=0.05), (0.84, 0.8, 0.8))
    gloss = fill(frame, ellipse(0, -0.62, 0.4, 0.2), soft=0.15)
    layer.gloss[gloss.where] += gloss.weight * np.float32(0.05)


def _groove(layer: Layer, path: Points, depth: float, *, width: float = 0.022) -> None:
    """A fold in the skin: a dent, darker and redder at its ground."""
    soft = fill_line(layer.frame, path, width)
    # At twice this depth MTCNN overlooks many of the oldest behind a mask.
    lift(layer, soft, -0.05 * depth)
    tint(layer, soft, (1 - 0.19 * depth, 1 - 0.24 * depth, 1 - 0.25 * depth))


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
            tint(layer, bag, (1 - 0.1 * sag, 1 - 0.14 * sag, 1 - 0.11 * sag))
            _groove(
                layer,
                points((0.24, 0.12), (0.38, 0.21), (0.54, 0.19), (0.63, 0.12)) * s,
                0.75 * sag,
                width=0.03,
            )
    for _ in range(person.spots):
        at, size = rng.uniform((-0.8, -0.9), (0.8, 0.5)), rng.uniform(0.015, 0.045)
        spot = inside(fill(layer.frame, ellipse(at[0], at[1], size * 1.2, size), soft=0.012), head)
        tint(layer, spot, (0.74, 0.62, 0.55))


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
    patch = inside(area, keep * speckle)
    paint(layer, Patch(patch.where, np.clip(patch.weight, 0, 1)), colour, 0.42 * person.stubble)
    if person.beard:
        paint(layer, Patch(patch.where, np.clip(patch.weight, 0, 1)), colour, 0.65 * person.beard)
