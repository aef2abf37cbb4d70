from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classify.sample import SAMPLERS, oversample, shuffle, weighted

some_classes = st.lists(st.integers(-1, 4), min_size=1, max_size=60).map(np.array)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 50), st.integers(0, 9))
def test_shuffle_shows_each_photo_once(count: int, seed: int) -> None:
    order = shuffle(np.zeros(count, np.int64), np.random.default_rng(seed))
    assert sorted(order) == list(range(count))


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_weighted_draws_match_their_weights(power: float) -> None:
    classes = np.repeat([0, 1, 2, -1], [700, 200, 90, 10])
    draws = weighted(classes, np.random.default_rng(5), power=power, length=60)
    assert len(draws) == 60_000
    sizes = np.array([700, 200, 90, 10])
    expected = sizes * sizes**-power / (sizes * sizes**-power).sum()
    shares = np.array([(classes[draws] == name).mean() for name in (0, 1, 2, -1)])
    # four standard deviations of a binomial share: one run in 4,000 would leave it, and the seed is fixed
    assert (np.abs(shares - expected) <= 4 * np.sqrt(expected * (1 - expected) / len(draws))).all()
    within = np.bincount(draws, minlength=1000)[:700] / len(draws)
    each = expected[0] / 700
    assert (np.abs(within - each) <= 5 * np.sqrt(each / len(draws))).all()


@settings(max_examples=40, deadline=None)
@given(some_classes, st.floats(0, 1.5), st.integers(0, 9))
def test_oversampling_shows_every_photo_and_repeats_rare_classes_evenly(
    classes: np.ndarray, share: float, seed: int
) -> None:
    order = oversample(classes, np.random.default_rng(seed), share=share)
    shown = np.bincount(order, minlength=len(classes))
    wanted = np.ceil(np.unique(classes, return_counts=True)[1].max() * share)
    for name in np.unique(classes):
        of_class = shown[classes == name]
        assert of_class.min() >= 1
        assert np.ptp(of_class) <= 1
        assert of_class.sum() == max(wanted, (classes == name).sum())


@settings(max_examples=40, deadline=None)
@given(some_classes, st.sampled_from(sorted(SAMPLERS)), st.integers(0, 9))
def test_same_seed_same_order(classes: np.ndarray, name: str, seed: int) -> None:
    first, again = (SAMPLERS[name](classes, np.random.default_rng(seed)) for _ in range(2))
    assert np.array_equal(first, again)
    assert first.dtype == np.int64
    assert ((first >= 0) & (first < len(classes))).all()


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_another_seed_gives_another_order_and_none_gives_none(name: str) -> None:
    classes = np.arange(40) % 3
    orders = [SAMPLERS[name](classes, np.random.default_rng(seed)).tolist() for seed in (0, 1)]
    assert orders[0] != orders[1]
    assert SAMPLERS[name](np.zeros(0, np.int64), np.random.default_rng(0)).tolist() == []
