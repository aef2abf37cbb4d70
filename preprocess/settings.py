"""The settings of `preprocess build`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from configs.settings import Chosen, Settings, choice
from preprocess.crop import CropSettings
from preprocess.segment import SEGMENTERS

Method = Literal["det", "seg", "none"]
Side = Annotated[int, Field(ge=16, le=2048)]


Rung = Literal["fine", "padded", "enlarged", "rotated", "lower"]
Share = Annotated[float, Field(gt=0, le=1)]


class DetectSettings(Settings):
    """What counts as a face, and which of several is kept.

    Attributes:
        min_face: the smallest face looked for, as a share of the photo's shorter side.
        fine: the same for the pass over photos without such a face.
        thresholds: the least score at the three networks.
        lower: the same for the last rung.
        factor: from one level of the image pyramid to the next.
        rungs: which steps may be tried after the plain one, in this order.
        pick: which face: the "prominent" one (size weighted by closeness to the centre), the "largest",
            the most "central", the most "confident", or "all", the prominent one first.
    """

    min_face: Share = 0.26
    fine: Share = 0.05
    thresholds: tuple[Share, Share, Share] = (0.6, 0.7, 0.7)
    lower: tuple[Share, Share, Share] = (0.5, 0.5, 0.4)
    factor: Annotated[float, Field(gt=0.1, lt=0.95)] = 0.709
    rungs: tuple[Rung, ...] = ("fine", "padded", "enlarged", "rotated", "lower")
    pick: Literal["prominent", "largest", "central", "confident", "all"] = "prominent"


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
