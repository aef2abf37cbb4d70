"""What goes into a network, and what its numbers mean: plain resampling and arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import cv2
import numpy as np

Rule = Literal["probability", "logits", "softmax", "minmax", "logits_minmax"]


@dataclass(frozen=True)
class Form:
    """What goes into a network and what its numbers mean.

    Attributes:
        mean, std: of (value / scale), a channel each.
        scale: what a pixel's value 0..255 is divided by; None: by the brightest in the image, as rembg does.
        rule: how numbers become a probability: as they are (`probability`), through a sigmoid (`logits`),
            one class of a softmax over the channels (`softmax`), stretched from the least to the most
            (`minmax`), or a sigmoid and then stretched (`logits_minmax`).
        channel: the output's channel that is the figure.
        bgr: blue comes first.
        lanczos: resample as rembg does; otherwise by area (shrinking) or linearly.
    """

    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    scale: float | None = 255.0
    rule: Rule = "probability"
    channel: int = 0
    bgr: bool = False
    lanczos: bool = False


_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_U2NET = (Form(_MEAN, _STD, scale=None, rule="minmax", lanczos=True), 320)
_BIREFNET = (Form(_MEAN, _STD, scale=None, rule="logits_minmax", lanczos=True), 1024)
_DIS = (Form((0.5, 0.5, 0.5), scale=None, rule="minmax", lanczos=True), 1024)

REMBG: dict[str, tuple[Form, int]] = {
    "u2net": _U2NET,
    "u2netp": _U2NET,
    "u2net_human_seg": _U2NET,
    "u2net_custom": _U2NET,
    "silueta": _U2NET,
    "isnet-general-use": _DIS,
    "isnet-anime": (Form(_MEAN, scale=None, rule="minmax", lanczos=True), 1024),
    "dis_custom": _DIS,
    "ben_custom": _DIS,
    "bria-rmbg": (_U2NET[0], 1024),
    "birefnet-general": _BIREFNET,
    "birefnet-general-lite": _BIREFNET,
    "birefnet-general-fp16": _BIREFNET,
    "birefnet-portrait": _BIREFNET,
    "birefnet-dis": _BIREFNET,
    "birefnet-hrsod": _BIREFNET,
    "birefnet-cod": _BIREFNET,
    "birefnet-massive": _BIREFNET,
}
"""rembg's models: what each one's `predict` feeds and how it reads the answer, and the input's side in px."""


def prepare(crop: np.ndarray, form: Form, size: tuple[int, int]) -> np.ndarray:
    """A crop u8 [h w 3] as a network's input f32 [size 3]."""
    small = _resize(crop, size, form.lanczos)
    peak = int(small.max()) if form.scale is None else -1
    if form.bgr:
        small = small[..., ::-1]
    # Each of the 256 values is worked out once and in double precision, as rembg does for every pixel.
    return cv2.LUT(np.ascontiguousarray(small), _values(form, peak))


def finish(numbers: np.ndarray, form: Form, size: tuple[int, int]) -> np.ndarray:
    """A network's numbers f32 [c h w] as alpha u8 [size]."""
    raw = numbers[form.channel]
    if form.rule == "softmax":
        raised = np.exp(numbers - numbers.max(axis=0))
        raw = raised[form.channel] / raised.sum(axis=0)
    if form.rule.startswith("logits"):
        raw = 1 / (1 + np.exp(-np.clip(raw, -80, 80)))
    if form.rule.endswith("minmax"):
        least, most = float(raw.min()), float(raw.max())
        raw = (raw - least) / (most - least) if most > least else np.zeros_like(raw)
    share = np.nan_to_num(raw).clip(0, 1)
    if form.lanczos:
        return _resize((share * 255).astype(np.uint8), size, lanczos=True)
    return np.rint(_resize(share, size, lanczos=False) * 255).astype(np.uint8)


@lru_cache(maxsize=512)
def _values(form: Form, peak: int) -> np.ndarray:
    """What the network is given for each pixel value and channel, f32 [256 1 3]."""
    scale = max(peak, 1e-6) if form.scale is None else form.scale
    values = np.arange(256)[:, None] / scale
    return ((values - np.array(form.mean)) / np.array(form.std)).astype(np.float32)[:, None]


def _resize(image: np.ndarray, size: tuple[int, int], lanczos: bool) -> np.ndarray:
    height, width = size
    if image.shape[:2] == (height, width):
        return image
    if lanczos:
        from PIL import Image

        # Pillow's own, and not OpenCV's: rembg's masks follow from how the image was shrunk.
        return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))
    shrinks = height < image.shape[0] and width < image.shape[1]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
