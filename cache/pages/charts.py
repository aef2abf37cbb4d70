"""Charts of the pages as plain numbers, which `charts.html` draws as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

WIDTH, HEIGHT = 380, 220
LEFT, RIGHT, TOP, BOTTOM = 56, 10, 10, 46
"""The margins of the plotting area, px of the view box: room for the numbers at the axes."""

DASHES = ("", "7 4", "2 3")
"""More lines than colours are told apart by these."""
COLOURS = 6

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Frame:
    """The ranges of both axes; the place of a value in the view box."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def x(self, value: float) -> float:
        """Px from the left."""
        return _place(value, self.x_low, self.x_high, LEFT, WIDTH - RIGHT)

    def y(self, value: float) -> float:
        """Px from the top."""
        return _place(value, self.y_low, self.y_high, HEIGHT - BOTTOM, TOP)


def lines(
    series: Mapping[str, Points],
    *,
    x: str,
    y: str,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    diagonal: bool = False,
) -> dict[str, Any]:
    """A chart of lines by name.

    Args:
        series: points that are finite; names may be any text.
        x, y: what the axes show.
        x_range, y_range: of the axes; by default what the points need.
        diagonal: draw y = x too.
    """
    xs, ys = ([point[axis] for points in series.values() for point in points] for axis in (0, 1))
    frame = Frame(*(x_range or _wide(xs)), *(y_range or _wide(ys)))
    drawn = [
        {
            "name": name,
            "colour": number % COLOURS,
            "dash": DASHES[number // COLOURS % len(DASHES)],
            "path": " ".join(f"{frame.x(a):.1f},{frame.y(b):.1f}" for a, b in points),
            "points": [
                {"x": round(frame.x(a), 1), "y": round(frame.y(b), 1), "title": f"{name}: {a:g}, {b:.4g}"}
                for a, b in points
            ],
        }
        for number, (name, points) in enumerate(series.items())
    ]
    chart = _axes(frame, x, y)
    ends = (max(frame.x_low, frame.y_low), min(frame.x_high, frame.y_high))
    chart["diagonal"] = [round(place, 1) for end in ends for place in (frame.x(end), frame.y(end))]
    return {**chart, "lines": drawn, "bars": [], **({} if diagonal else {"diagonal": None})}


def histogram(
    values: np.ndarray,
    *,
    x: str,
    y: str = "photos",
    bins: int = 24,
    x_range: tuple[float, float] | None = None,
    whole: bool = False,
) -> dict[str, Any]:
    """A chart of how many values lie in each of some equal bins; NaN is left out.

    Args:
        whole: the values are whole numbers, and so are the bins' borders.
    """
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    low, high = x_range or ((values.min(), values.max()) if len(values) else (0.0, 1.0))
    if whole:
        spare = max(0, math.ceil((6 - (high - low)) / 2))  # one value alone would fill the chart
        low, high = low - spare, high + spare
        step = max(1, math.ceil((high - low + 1) / bins))
        edges = np.arange(low, high + step + 1, step) - 0.5
    else:
        edges = np.linspace(low, high if high > low else low + 1, bins + 1)
    counts = np.histogram(values.clip(edges[0], edges[-1]), edges)[0].tolist()
    frame = Frame(float(edges[0]), float(edges[-1]), 0, max([*counts, 1]))
    bars = [
        _bar(frame, a, b, count, _span(a, b, whole))
        for a, b, count in zip(edges[:-1], edges[1:], counts, strict=True)
    ]
    chart = _axes(frame, x, y)
    if whole:
        chart["x_ticks"] = [(at, text) for at, text in chart["x_ticks"] if "." not in text]
    return {**chart, "lines": [], "bars": bars, "diagonal": None}


def _bar(frame: Frame, start: float, end: float, count: int, name: str) -> dict[str, Any]:
    left, right, top = frame.x(start), frame.x(end), frame.y(count)
    bottom = HEIGHT - BOTTOM
    tall = max(1.5, bottom - top) if count else 0  # a single photo among thousands is still to be seen
    return {
        "x": round(left + 0.5, 1),
        "y": round(bottom - tall, 1),
        "width": round(max(0.5, right - left - 1), 1),
        "height": round(tall, 1),
        "title": f"{name}: {count:,}",
    }


def _span(start: float, end: float, whole: bool) -> str:
    if not whole:
        return f"{start:.3g} to {end:.3g}"
    first, last = math.ceil(start), math.floor(end)
    return f"{first}" if first == last else f"{first} to {last}"


def _axes(frame: Frame, x: str, y: str) -> dict[str, Any]:
    bottom = HEIGHT - BOTTOM
    return {
        "width": WIDTH, "height": HEIGHT, "left": LEFT, "right": WIDTH - RIGHT, "top": TOP, "bottom": bottom,
        "x": x, "y": y,
        "x_ticks": [(round(frame.x(at), 1), _text(at)) for at in ticks(frame.x_low, frame.x_high, 6)],
        "y_ticks": [(round(frame.y(at), 1), _text(at)) for at in ticks(frame.y_low, frame.y_high, 5)],
    }  # fmt: skip


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers from low to high, about so many: steps of 1, 2, 2.5 or 5 times a power of ten."""
    rough = (high - low) / most
    if not rough > 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _text(number: float) -> str:
    """A number at an axis, short: 0.25, 2000, 5e-4."""
    if number == 0 or abs(number) >= 0.001:
        return f"{number:g}"
    digits, power = f"{number:.2e}".split("e")
    return f"{float(digits):g}e{int(power)}"


def _wide(values: Sequence[float]) -> tuple[float, float]:
    """A range around values; never of no width."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _place(value: float, low: float, high: float, start: float, end: float) -> float:
    return start + (value - low) / (high - low) * (end - start)
