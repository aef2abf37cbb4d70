"""Charts: ticks at round numbers, places in the frame, counts that add up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.pages import charts


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(2, 8))
def test_ticks_are_evenly_spaced_and_inside(low: float, width: float, most: int) -> None:
    found = charts.ticks(low, low + width, most)
    assert len(found) <= most + 1
    assert all(low - 1e-6 * width <= at <= low + width * (1 + 1e-6) for at in found)
    steps = np.diff(found)
    assert np.allclose(steps, steps[:1].repeat(len(steps)), rtol=1e-4, atol=1e-9)


def test_ticks_of_a_point_and_of_common_ranges() -> None:
    assert charts.ticks(3, 3, 5) == [3]
    assert charts.ticks(0, 1, 5) == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert charts.ticks(0, 10, 4) == [0, 2.5, 5, 7.5, 10]


def test_lines_stand_where_their_values_are() -> None:
    chart = charts.lines({"a": [(0, 0), (1, 1)]}, x="x", y="y", x_range=(0, 1), y_range=(0, 1), diagonal=True)
    first, last = chart["lines"][0]["points"]
    assert (first["x"], first["y"]) == (chart["left"], chart["bottom"])
    assert (last["x"], last["y"]) == (chart["right"], chart["top"])
    assert chart["diagonal"] == [chart["left"], chart["bottom"], chart["right"], chart["top"]]


@pytest.mark.parametrize("values", [[], [5.0], [1.0, 1.0, np.nan], list(range(100)), [1, 3, np.inf]])
@pytest.mark.parametrize("whole", [False, True])
def test_a_histogram_counts_every_finite_value_once(values: list[float], whole: bool) -> None:
    chart = charts.histogram(np.array(values, float), x="x", whole=whole)
    counts = [int(bar["title"].split(": ")[1]) for bar in chart["bars"]]
    assert sum(counts) == np.isfinite(values).sum()
    assert len(counts) <= 26
    inside = [
        chart["left"] <= bar["x"] and bar["x"] + bar["width"] <= chart["right"] for bar in chart["bars"]
    ]
    assert all(inside)


def test_whole_numbers_get_bins_of_their_own() -> None:
    chart = charts.histogram(np.array([7, 7, 8]), x="photos", whole=True)
    told = [bar["title"] for bar in chart["bars"] if not bar["title"].endswith(": 0")]
    assert told == ["7: 2", "8: 1"]
