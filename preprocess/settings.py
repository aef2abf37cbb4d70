"""The settings of `preprocess build`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from configs.settings import Chosen, Settings, choice
from preprocess.crop import CropSettings
from preprocess.ladder import DetectSettings
from preprocess.segment import SEGMENTERS

Method = Literal["det", "seg", "none"]
Side = Annotated[int, Field(ge=16, le=2048)]


class BuildSettings(Settings):
    """All that determines the pixels of a cache.

    Attributes:
        method: `det` crops around the face, `seg` adds the figure's alpha to that crop, `none`
            fits the whole photo to the crop's shape.
        size: of the crops, px: one side of a square, or height and width.
        detect: how faces are looked for (`det`, `seg`).
        crop: how the crop is laid around the face.
        segment: how the figure is cut (`seg`).
    """

    method: Method
    size: Side | tuple[Side, Side] = 224
    detect: DetectSettings = DetectSettings()
    crop: CropSettings = CropSettings()
    segment: choice(SEGMENTERS, default="rembg") = Field("rembg", validate_default=True)  # type: ignore[valid-type]

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the crops, px."""
        return self.size if isinstance(self.size, tuple) else (self.size, self.size)

    @property
    def segmenter(self) -> Chosen:
        """The chosen segmenter, typed."""
        chosen: Any = self.segment
        assert isinstance(chosen, Chosen)
        return chosen
