"""Intervals by bootstrap over persons: against a loop by hand, and against their promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from classify import bootstrap
from classify.metrics import scores


def test_it_is_the_loop_by_hand() -> None:
    hits = np.array([1, 1, 0, 1, 0, 0, 1], float)
    persons = np.array([4, 4, 4, 9, 9, 2, 7])
    found = bootstrap.bootstrap(bootstrap.of_hits(hits), persons, bootstrap.share, rounds=300, seed=5)
    weights = np.random.default_rng(5).multinomial(4, np.full(4, 0.25), size=300)
    by_hand = []
    for of_round in weights:
        drawn = [
            hits[persons == name]
            for name, times in zip((2, 4, 7, 9), of_round, strict=True)
            for _ in range(times)
        ]
        by_hand.append(np.concatenate(drawn).mean())
    assert found is not None
    assert found.value == pytest.approx(4 / 7)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(by_hand, [0.025, 0.975])))


def test_the_scores_are_those_of_the_metrics() -> None:
    rng = np.random.default_rng(0)
    labels, probabilities = rng.integers(0, 5, 200), rng.random((200, 7)).astype(np.float32)
    probabilities[:, 6] = 0  # a class that is neither true nor answered
    told = scores(torch.from_numpy(probabilities), torch.from_numpy(labels), [str(i) for i in range(7)])
    sums = bootstrap.of_answers(labels, probabilities.argmax(1), 7).sum(0, keepdims=True)
    assert bootstrap.accuracy(sums)[0] == pytest.approx(told["accuracy"])
    assert bootstrap.macro_f1(sums)[0] == pytest.approx(told["macro_f1"])


def test_answers_that_know_nothing_are_at_chance() -> None:
    labels = np.array([0] * 90 + [1] * 10)
    constant = bootstrap.of_answers(labels, np.zeros(100, int), 2).sum(0, keepdims=True)
    assert bootstrap.accuracy(constant)[0] == pytest.approx(0.9)
    assert bootstrap.beyond_chance(constant)[0] == pytest.approx(0)
    known = bootstrap.of_answers(labels, labels, 2).sum(0, keepdims=True)
    assert bootstrap.beyond_chance(known)[0] == pytest.approx(1 - 0.9**2 - 0.1**2)


def test_photos_of_one_person_count_as_one() -> None:
    rng = np.random.default_rng(1)
    right = rng.random(30) < 0.5
    widths = []
    for photos in (1, 20):
        persons = np.repeat(np.arange(30), photos)
        found = bootstrap.bootstrap(bootstrap.of_hits(right[persons]), persons, bootstrap.share)
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        widths.append(found.high - found.low)
    assert widths[0] == pytest.approx(widths[1])  # twenty times the photos tell no more


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(2)
    held, rounds = 0, 200
    for number in range(rounds):
        rate = np.repeat(rng.beta(3, 2, 40), 5)  # persons differ; the truth is 0.6
        found = bootstrap.bootstrap(
            bootstrap.of_hits(rng.random(200) < rate),
            np.repeat(np.arange(40), 5),
            bootstrap.share,
            rounds=400,
            seed=number,
        )
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0.6 <= found.high
    assert 0.89 <= held / rounds <= 0.985  # 0.95 but for the draw (4 deviations) and for 40 persons


def test_one_person_allows_for_no_interval_and_no_photo_for_no_score() -> None:
    one = bootstrap.bootstrap(bootstrap.of_hits(np.array([True, False])), np.array([3, 3]), bootstrap.share)
    assert one == bootstrap.Interval(0.5, None, None)
    assert not one.above_zero
    assert bootstrap.bootstrap(np.zeros((0, 2)), np.zeros(0, int), bootstrap.share) is None
