"""The recipe of a cache: all that determines its pixels, and what they were made with."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from cache.format import Recipe
from preprocess.settings import BuildSettings

if TYPE_CHECKING:  # torch takes seconds to load
    from preprocess.cut import Tools

VERSION = 1
"""Of the pipeline; raised when the same photo and settings give other pixels."""

WEIGHTS = "MTCNN of facenet-pytorch 2.5.3"
"""The detector's weights; the package is pinned to this version."""


def recipe_of(tools: Tools) -> Recipe:
    """What determines the pixels (`identity`), and what they were made with."""
    settings = tools.settings
    identity: dict[str, object] = {
        "version": VERSION,
        "method": settings.method,
        "size": list(settings.shape),
        "crop": settings.crop.model_dump(mode="json"),
    }
    if tools.networks:
        identity["detect"] = {**settings.detect.model_dump(mode="json"), "weights": WEIGHTS}
    if tools.segmenter:
        identity["segment"] = tools.segmenter.identity
    made_with: dict[str, object] = {
        "settings": settings.model_dump(mode="json"),
        "device": tools.device,
        "versions": {
            name: version(name) for name in ("figureground", "torch", "opencv-python-headless", "numpy")
        },
    }
    if tools.segmenter:
        made_with["segmenter"] = tools.segmenter.made_with
    return Recipe(identity, made_with)


def settings_of(recipe: Recipe) -> BuildSettings:
    """The settings that a recipe was made from."""
    return BuildSettings.model_validate(recipe.made_with["settings"])
