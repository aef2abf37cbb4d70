from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classify.split import SPLITS, TRAIN, UNUSED, all_rows, column, file, parts, person
from configs.errors import UserError


def rows(groups: list[str | None], keys: list[str] | None = None, **labels: list[Any]) -> pa.Table:
    keys = keys or [f"{number}.jpg" for number in range(len(groups))]
    named = {f"label_{name}": values for name, values in labels.items()}
    return pa.table({"key": keys, "group": pa.array(groups, pa.string()), **named})


@st.composite
def photos(draw: st.DrawFn) -> tuple[pa.Table, np.ndarray, int]:
    """A table of persons with unequal numbers of photos, some without a person; classes; folds."""
    folds = draw(st.integers(2, 5))
    sizes = draw(st.lists(st.integers(1, 6), min_size=folds, max_size=25))
    groups: list[str | None] = [f"p{i}" for i, size in enumerate(sizes) for _ in range(size)]
    groups += [None] * draw(st.integers(0, 5))
    named = st.lists(st.integers(-1, 3), min_size=len(groups), max_size=len(groups))
    classes = np.array(draw(named), np.int64)
    # at least one known photo a person, so that there are as many persons as folds
    classes[np.cumsum([0, *sizes[:-1]])] = 0
    order = draw(st.permutations(range(len(groups))))
    return rows([groups[i] for i in order]), classes[list(order)], folds


@settings(max_examples=40, deadline=None)
@given(photos())
def test_a_fold_holds_each_person_whole_and_all_folds_all_photos_once(drawn: Any) -> None:
    table, classes, folds = drawn
    numbers = person(table, classes, folds=folds, seed=3)
    assert (numbers[classes < 0] == TRAIN).all()
    assert set(numbers[classes >= 0]) == set(range(folds)), "every fold validates something, every photo once"
    of_person = defaultdict(set)
    for group, number, name in zip(table["group"].to_pylist(), numbers, classes, strict=True):
        if group is not None and name >= 0:
            of_person[group].add(number)
    assert all(len(found) == 1 for found in of_person.values())
    assert (numbers == person(table, classes, folds=folds, seed=3)).all()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=10, max_size=80), st.integers(2, 5), st.integers(0, 9))
def test_by_file_each_class_is_shared_out_evenly(names: list[int], folds: int, seed: int) -> None:
    classes = np.array(names)
    numbers = file(rows([None] * len(names)), classes, folds=folds, seed=seed)
    counts = np.array([[((numbers == f) & (classes == c)).sum() for c in range(5)] for f in range(folds)])
    assert (np.ptp(counts, axis=0) <= 1).all()


def competition(seed: int, persons: int = 300) -> tuple[list[str], np.ndarray]:
    """7 photos a person, as in the 18-class set: 5 masks, 1 incorrect, 1 normal; ages and genders uneven."""
    rng = np.random.default_rng(seed)
    gender = rng.choice(2, persons, p=[0.4, 0.6])
    age = rng.choice(3, persons, p=[0.47, 0.45, 0.08])
    mask = np.array([0, 0, 0, 0, 0, 1, 2])
    classes = (mask[None] * 6 + gender[:, None] * 3 + age[:, None]).ravel()
    return [f"p{i}" for i in range(persons) for _ in mask], classes


def imbalance(numbers: np.ndarray, classes: np.ndarray, folds: int) -> float:
    """Mean over classes of the spread of a class's share over the folds; 0: even."""
    share = [
        np.std([((numbers == f) & (classes == c)).sum() for f in range(folds)]) / (classes == c).sum()
        for c in np.unique(classes)
    ]
    return float(np.mean(share))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["competition", "uneven"])
def test_balance_is_no_worse_than_scikit_learns(seed: int, kind: str) -> None:
    selection = pytest.importorskip("sklearn.model_selection")
    rng = np.random.default_rng(seed)
    if kind == "competition":
        groups, classes = competition(seed)
    else:
        sizes = rng.geometric(0.2, 200)
        groups = [f"p{i}" for i, size in enumerate(sizes) for _ in range(size)]
        classes = rng.choice(6, len(groups), p=[0.4, 0.3, 0.15, 0.1, 0.03, 0.02])
    ours = person(rows(list(groups)), classes, folds=5, seed=seed)
    theirs = np.zeros(len(classes), np.int64)
    splitter = selection.StratifiedGroupKFold(5, shuffle=True, random_state=seed)
    for fold, (_, held) in enumerate(splitter.split(np.zeros(len(classes)), classes, groups)):
        theirs[held] = fold
    assert imbalance(ours, classes, 5) <= imbalance(theirs, classes, 5)
    assert np.ptp(np.bincount(ours)) <= 0.05 * len(classes)


def test_seeds_give_other_folds() -> None:
    groups, classes = competition(0, persons=50)
    table = rows(list(groups))
    assert (person(table, classes, seed=0) != person(table, classes, seed=1)).any()
    assert (file(table, classes, seed=0) != file(table, classes, seed=1)).any()


def test_faces_of_one_photo_stay_together() -> None:
    keys = [f"{number // 3}.jpg" for number in range(60)]
    classes = np.random.default_rng(0).integers(0, 2, 60)
    for split in (person, file):
        numbers = split(rows([None] * 60, keys), classes, folds=4, seed=0)
        assert all(len(set(numbers[at : at + 3])) == 1 for at in range(0, 60, 3))


def test_a_group_named_as_a_key_is_another_person() -> None:
    table = rows(["1.jpg", None, None], ["0.jpg", "1.jpg", "2.jpg"])
    assert len(set(person(table, np.zeros(3, np.int64), folds=3))) == 3


@pytest.mark.parametrize("split", [person, file])
def test_too_few_persons_or_folds_are_told(split: Any) -> None:
    table = rows(["a", "b", "c"])
    with pytest.raises(UserError, match="5 folds of 3 persons or files"):
        split(table, np.zeros(3, np.int64), folds=5)
    with pytest.raises(UserError, match="at least 2"):
        split(table, np.zeros(3, np.int64), folds=1)
    with pytest.raises(UserError, match="2 folds of 0"):
        split(table, np.full(3, -1), folds=2)


def test_a_column_names_parts() -> None:
    table = rows([None] * 5, split=["train", "val", "test", "val", "training"])
    numbers = column(table, np.array([0, 1, 0, -1, 0]))
    assert numbers.tolist() == [TRAIN, 0, UNUSED, TRAIN, TRAIN]
    train, validation = parts(numbers, 0)
    assert (train.tolist(), validation.tolist()) == ([0, 3, 4], [1])


def test_a_column_of_numbers_holds_folds() -> None:
    table = rows([None] * 5, fold=[0, 1, 2, -7, None])
    assert column(table, np.zeros(5, np.int64), name="fold").tolist() == [0, 1, 2, TRAIN, TRAIN]


def test_a_column_or_value_that_says_nothing_is_told() -> None:
    table = rows([None] * 2, split=["train", "holdout"])
    with pytest.raises(UserError, match='value "holdout"'):
        column(table, np.zeros(2, np.int64))
    assert column(table, np.zeros(2, np.int64), validation=("holdout",)).tolist() == [TRAIN, 0]
    with pytest.raises(UserError, match=re.escape('no label "splt" in this cache; did you mean "split"?')):
        column(table, np.zeros(2, np.int64), name="splt")


def test_all_validates_nothing() -> None:
    numbers = all_rows(rows(["a", None]), np.array([0, -1]))
    train, validation = parts(numbers, 0)
    assert (train.tolist(), validation.tolist()) == ([0, 1], [])


@settings(max_examples=40, deadline=None)
@given(photos())
def test_parts_are_disjoint_and_complete(drawn: Any) -> None:
    table, classes, folds = drawn
    numbers = SPLITS["person"](table, classes, folds=folds)
    for fold in range(folds):
        train, validation = parts(numbers, fold)
        assert sorted([*train, *validation]) == list(range(len(classes)))
