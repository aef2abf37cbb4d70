"""The painter's tools of `preprocess sample`: curves, soft fills, a height field and the light on it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
Points = NDArray[np.float64]


@dataclass(frozen=True)
class Frame:
    """A canvas measured in faces: 1 unit is half a face's width, (0, 0) the middle of the face, v goes down.

    Attributes:
        left, top: the unit coordinates of the canvas's corner.
        width, height: px.
        unit: px of one unit.
    """

    left: float
    top: float
    width: int
    height: int
    unit: float

    def px(self, points: Points) -> Points:
        """Unit coordinates [n 2] as px [n 2]."""
        return (points - (self.left, self.top)) * self.unit

    def grid(self) -> tuple[F32, F32]:
        """The unit coordinates of every pixel's middle: u [1 w] and v [h 1]."""
        u = self.left + (np.arange(self.width, dtype=np.float32) + 0.5) / self.unit
        v = self.top + (np.arange(self.height, dtype=np.float32) + 0.5) / self.unit
        return u[None, :].astype(np.float32), v[:, None].astype(np.float32)


@dataclass(frozen=True)
class Patch:
    """A soft shape on a canvas: `weight` f32 0..1 over the rows and columns of `where`."""

    where: tuple[slice, slice]
    weight: F32


@dataclass(frozen=True)
class Layer:
    """What is painted: all arrays are changed in place.

    Attributes:
        frame: the measure of the canvas.
        albedo: f32 [h w 3], linear light.
        height: f32 [h w], units towards the viewer.
        alpha: f32 [h w], 0..1.
        gloss: f32 [h w], strength of the highlight.
    """

    frame: Frame
    albedo: F32
    height: F32
    alpha: F32
    gloss: F32


@dataclass(frozen=True)
class Light:
    """One lamp and the room's own light.

    Attributes:
        direction: unit vector from the face to the lamp; x right, y down, z to the viewer.
        colour: linear RGB of the lamp.
        ambient: linear RGB of the light from everywhere.
    """

    direction: tuple[float, float, float]
    colour: tuple[float, float, float]
    ambient: tuple[float, float, float]


def blank(frame: Frame) -> Layer:
    """An empty layer."""
    size = (frame.height, frame.width)
    flat = [np.zeros(size, np.float32) for _ in range(3)]
    return Layer(frame, np.zeros((*size, 3), np.float32), *flat)


def linear(*rgb: float) -> F32:
    """sRGB 0..255 as linear light, by gamma 2: near enough for painting, and a root goes back."""
    light: F32 = np.square(np.array(rgb, np.float32) / np.float32(255))
    return light


def points(*pairs: tuple[float, float]) -> Points:
    """Pairs as an array [n 2]."""
    return np.array(pairs, np.float64)


def moved(path: Points, right: float, down: float) -> Points:
    """The path shifted, units."""
    return path + np.array([right, down])


def mirrored(half: Points) -> Points:
    """A right half from top to bottom as the whole outline."""
    return np.concatenate([half, (half * (-1, 1))[::-1]])


def smooth(knots: Points, *, closed: bool = True, steps: int = 6) -> Points:
    """A Catmull-Rom curve through `knots` [n 2]."""
    if closed:
        p0, p1, p2, p3 = (np.roll(knots, k, axis=0) for k in (1, 0, -1, -2))
    else:
        padded = np.concatenate([2 * knots[:1] - knots[1:2], knots, 2 * knots[-1:] - knots[-2:-1]])
        p0, p1, p2, p3 = padded[:-3], padded[1:-2], padded[2:-1], padded[3:]
    t = (np.arange(steps) / steps)[None, :, None]
    a, b, c, d = (p[:, None] for p in (p0, p1, p2, p3))
    curve = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    curve = curve.reshape(-1, 2)
    return curve if closed else np.concatenate([curve, knots[-1:]])


def ellipse(u: float, v: float, wide: float, high: float, *, turn: float = 0.0) -> Points:
    """An ellipse of half axes `wide` and `high`, turned by `turn` radians."""
    angle = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    x, y = wide * np.cos(angle), high * np.sin(angle)
    return np.stack(
        [u + x * np.cos(turn) - y * np.sin(turn), v + x * np.sin(turn) + y * np.cos(turn)], axis=1
    )


def fill(frame: Frame, outline: Points, *, soft: float = 0.0) -> Patch:
    """A filled outline, its rim blurred by a Gaussian of `soft` units."""
    return _patch(frame, outline, soft, pad=2.0, thickness=0)


def line(frame: Frame, path: Points, width: float, *, soft: float = 0.0) -> Patch:
    """A stroke of `width` units along an open path; thinner than a pixel it pales instead."""
    px = width * frame.unit
    patch = _patch(frame, path, soft, pad=px + 2, thickness=max(1, round(px)))
    return patch if px >= 1 else Patch(patch.where, patch.weight * np.float32(px))


def _patch(frame: Frame, path: Points, soft: float, *, pad: float, thickness: int) -> Patch:
    px = frame.px(path)
    sigma = soft * frame.unit
    pad += 3 * sigma
    x0, y0 = np.floor(px.min(axis=0) - pad).astype(int)
    x1, y1 = np.ceil(px.max(axis=0) + pad).astype(int)
    left, top = max(0, x0), max(0, y0)
    right, bottom = min(frame.width, x1), min(frame.height, y1)
    if left >= right or top >= bottom:
        return Patch((slice(0, 0), slice(0, 0)), np.zeros((0, 0), np.float32))
    # A wide blur leaves nothing that a coarse canvas would lose, and costs a fraction there.
    coarse = max(1, int(sigma / 2.5)) if thickness < sigma else 1
    # Drawn on the unclipped box, so that the blur knows what lies beyond the canvas's edge.
    canvas = np.zeros((-(-(y1 - y0) // coarse), -(-(x1 - x0) // coarse)), np.uint8)
    fixed = np.round((px - (x0, y0)) / coarse * 16).astype(np.int32)
    if thickness:
        cv2.polylines(canvas, [fixed], False, 255, max(1, round(thickness / coarse)), cv2.LINE_AA, shift=4)
    else:
        cv2.fillPoly(canvas, [fixed], 255, cv2.LINE_AA, shift=4)
    weight = blur(canvas.astype(np.float32) / np.float32(255), sigma / coarse)
    if coarse > 1:
        weight = cv2.resize(weight, None, fx=coarse, fy=coarse, interpolation=cv2.INTER_LINEAR)  # type: ignore
    weight = weight[top - y0 : bottom - y0, left - x0 : right - x0]
    return Patch((slice(top, bottom), slice(left, right)), weight)


def blur(field: F32, sigma_px: float) -> F32:
    """A Gaussian blur; wide ones by three box filters, whose cost does not grow with the width."""
    if sigma_px < 0.3:
        return field
    if sigma_px < 4:
        return cv2.GaussianBlur(field, (0, 0), sigma_px)  # type: ignore[return-value]
    side = 2 * round(sigma_px * 0.97) + 1
    for _ in range(3):
        field = cv2.blur(field, (side, side))  # type: ignore[assignment]
    return field


def noise(rng: np.random.Generator, height: int, width: int, cell: float) -> F32:
    """Smooth noise f32 [h w] of standard deviation near 1; one lump is about `cell` px wide."""
    rows, columns = int(height / cell) + 3, int(width / cell) + 3
    coarse = rng.standard_normal((rows, columns)).astype(np.float32)
    field = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return field.astype(np.float32)


def paint(layer: Layer, patch: Patch, colour: F32, strength: float = 1.0) -> None:
    """Lay a colour over what is there."""
    weight = (patch.weight * np.float32(strength))[..., None]
    under = layer.albedo[patch.where]
    under += (colour.astype(np.float32) - under) * weight


def tint(layer: Layer, patch: Patch, factor: tuple[float, float, float]) -> None:
    """Multiply the colour; below 1 darkens as a shadow does."""
    layer.albedo[patch.where] *= 1 + patch.weight[..., None] * (np.array(factor, np.float32) - 1)


def lift(layer: Layer, patch: Patch, amount: float) -> None:
    """Raise (or dent) the surface by `amount` units."""
    layer.height[patch.where] += patch.weight * np.float32(amount)


def cover(layer: Layer, patch: Patch) -> None:
    """Add a shape to what is figure."""
    alpha = layer.alpha[patch.where]
    np.maximum(alpha, patch.weight, out=alpha)


def inside(patch: Patch, mask: F32) -> Patch:
    """A patch limited to `mask` f32 [h w] over the whole canvas."""
    return Patch(patch.where, patch.weight * mask[patch.where])


def lit(layer: Layer, light: Light, *, wrap: tuple[float, float, float] = (0.3, 0.3, 0.3)) -> F32:
    """The layer as it looks: sRGB f32 [h w 3], 0..1, not yet multiplied by alpha.

    Diffuse light with `wrap` a channel (Green, "Real-Time Approximations to Subsurface Scattering",
    GPU Gems 2004: skin lets red through, so that its shadows begin later and warmer), and a Blinn
    highlight where the layer is glossy.
    """
    slope = np.float32(layer.frame.unit / 8)
    gx = cv2.Sobel(layer.height, cv2.CV_32F, 1, 0) * slope
    gy = cv2.Sobel(layer.height, cv2.CV_32F, 0, 1) * slope
    inverse = 1 / np.sqrt(1 + gx * gx + gy * gy)
    lx, ly, lz = (np.float32(a) for a in light.direction)
    facing = (lz - lx * gx - ly * gy) * inverse
    half = np.array([lx, ly, lz + 1], np.float32)
    half /= np.linalg.norm(half)
    shine = np.clip((half[2] - half[0] * gx - half[1] * gy) * inverse, 0, 1)
    for _ in range(4):
        shine *= shine
    shine *= layer.gloss
    out = np.empty_like(layer.albedo)
    for c in range(3):
        diffuse = np.maximum((facing + np.float32(wrap[c])) / np.float32(1 + wrap[c]), 0)
        out[..., c] = layer.albedo[..., c] * (light.ambient[c] + light.colour[c] * diffuse)
        out[..., c] += shine * np.float32(light.colour[c])
    return np.sqrt(np.clip(out, 0, 1, out=out), out=out)
