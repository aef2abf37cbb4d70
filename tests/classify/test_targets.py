from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classify.targets import (
    TargetSettings,
    combine,
    group_names,
    join,
    joint_names,
    make_targets,
    ordinal,
    settle,
    soft,
)
from configs.errors import UserError

MASKS, GENDERS = ["mask", "incorrect", "normal"], ["male", "female"]
COLUMNS = ["mask", "gender", "age"]
ORDER = {"mask": MASKS, "gender": GENDERS}
MASK18: dict[str, Any] = {"columns": COLUMNS, "classes": ORDER, "borders": {"age": [30, 60]}}


def labels(**columns: list[Any]) -> pa.Table:
    return pa.table({f"label_{name}": values for name, values in columns.items()})


@st.composite
def people(draw: st.DrawFn) -> list[tuple[str | None, str | None, int | None]]:
    one = st.tuples(
        st.none() | st.sampled_from(MASKS),
        st.none() | st.sampled_from(GENDERS),
        st.none() | st.integers(0, 99),
    )
    known = [("mask", "male", 1), ("incorrect", "female", 2), ("normal", "male", 3)]
    return known + draw(st.lists(one, max_size=20))


def mask18_table(rows: list[tuple[Any, ...]]) -> pa.Table:
    mask, gender, age = (list(values) for values in zip(*rows, strict=True))
    return labels(mask=mask, gender=gender, age=age)


@settings(max_examples=40, deadline=None)
@given(people())
def test_joint_class_is_the_mixed_radix_number_of_its_columns(rows: list[tuple[Any, ...]]) -> None:
    made = make_targets(mask18_table(rows), TargetSettings(**MASK18))
    for row, joint in zip(rows, made.joint, strict=True):
        mask, gender, age = row
        if None in row:
            assert joint == -1
        else:
            group = 0 if age < 30 else 1 if age < 60 else 2
            assert joint == MASKS.index(mask) * 6 + GENDERS.index(gender) * 3 + group
            assert made.classes[joint] == f"{mask}, {gender}, {['<30', '30-59', '>=60'][group]}"
    assert len(made.classes) == len(set(made.classes)) == 18
    assert made.heads == (made.classes,)
    assert made.head_names == ("mask, gender, age",)
    assert (made.labels == made.joint[:, None]).all()


@settings(max_examples=40, deadline=None)
@given(people())
def test_heads_joined_give_the_joint_class_back(rows: list[tuple[Any, ...]]) -> None:
    table = mask18_table(rows)
    made = make_targets(table, TargetSettings(**MASK18, heads="separate"))
    assert made.head_names == ("mask", "gender", "age")
    assert [len(names) for names in made.heads] == [3, 2, 3]
    assert (made.joint == make_targets(table, TargetSettings(**MASK18)).joint).all()
    known = made.joint >= 0
    joined = join(soft(made), made.heads)
    assert (joined.argmax(1)[known] == made.joint[known]).all()
    assert (joined[~known] == 0).all()
    assert joint_names(made.heads) == made.classes


def test_a_head_of_an_unknown_label_has_no_target_and_the_others_have() -> None:
    table = labels(mask=["mask", None, "normal"], gender=["male", "female", None])
    made = make_targets(table, TargetSettings(columns=["mask", "gender"], heads="separate"))
    assert made.heads == (("mask", "normal"), ("female", "male"))
    expected = [[1, 0, 0, 1], [0, 0, 1, 0], [0, 1, 0, 0]]
    assert soft(made).tolist() == expected
    assert soft(made).dtype == np.float32


def test_joined_probabilities_are_products() -> None:
    probabilities = np.array([[0.75, 0.25, 0.1, 0.2, 0.7]], np.float32)
    expected = [[0.075, 0.15, 0.525, 0.025, 0.05, 0.175]]
    np.testing.assert_allclose(join(probabilities, [["a", "b"], ["x", "y", "z"]]), expected, rtol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.data())
def test_combine_counts_through_all_classes_once(sizes: list[int], data: st.DataObject) -> None:
    every = np.stack([axis.ravel() for axis in np.indices(sizes)], axis=1)
    assert combine(every, sizes).tolist() == list(range(int(np.prod(sizes))))
    row = data.draw(st.integers(0, len(every) - 1))
    every[row, data.draw(st.integers(0, len(sizes) - 1))] = -1
    assert combine(every, sizes)[row] == -1


@pytest.mark.parametrize(
    ("borders", "names"),
    [
        ([30.0, 60.0], ("<30", "30-59", ">=60")),
        ([58.0], ("<58", ">=58")),
        ([1.0, 2.0, 4.0], ("<1", "1", "2-3", ">=4")),
        ([-5.0, 0.0], ("<-5", "-5--1", ">=0")),
        ([0.5, 2.0], ("<0.5", "0.5-<2", ">=2")),
    ],
)
def test_names_of_groups(borders: list[float], names: tuple[str, ...]) -> None:
    assert group_names(borders) == names


def test_a_border_belongs_to_the_group_above() -> None:
    table = labels(age=[29, 29.5, 30, 59.9, 60, None])
    made = make_targets(table, TargetSettings(borders={"age": [30, 60]}))
    assert made.joint.tolist() == [0, 0, 1, 1, 2, -1]


def test_the_band_around_borders_is_left_out() -> None:
    table = labels(age=[26, 27, 28, 29, 30, 56, 57, 58, 59, 60, None])
    settings = TargetSettings(borders={"age": [28, 58]}, leave_out={"age": 1})
    out = make_targets(table, settings).left_out
    assert [age for age, band in zip(table[0].to_pylist(), out, strict=True) if band] == [
        27,
        28,
        29,
        57,
        58,
        59,
    ]
    assert not make_targets(table, TargetSettings(borders={"age": [28, 58]})).left_out.any()


def test_classes_are_sorted_unless_ordered_and_numbers_sort_as_numbers() -> None:
    assert make_targets(labels(kind=["b", "a", "c"]), TargetSettings()).classes == ("a", "b", "c")
    assert make_targets(labels(stars=[10, 9, None, 2]), TargetSettings()).classes == ("2", "9", "10")
    assert make_targets(labels(stars=[1.0, 0.5]), TargetSettings()).classes == ("0.5", "1")
    ordered = TargetSettings(classes={"kind": ["c", "a", "b"]})
    made = make_targets(labels(kind=["b", "a", "c", None]), ordered)
    assert made.classes == ("c", "a", "b")
    assert made.joint.tolist() == [2, 1, 0, -1]


def test_settled_classes_hold_for_another_table() -> None:
    settled = settle(
        mask18_table([("mask", "male", 20), ("normal", "female", 70)]),
        TargetSettings(columns=COLUMNS, borders={"age": [30]}),
    )
    other = mask18_table([("normal", "male", 30), (None, "female", 2)])
    made = make_targets(other, settled)
    assert made.classes[made.joint[0]] == "normal, male, >=30"
    assert len(made.classes) == 8
    assert made.joint[1] == -1
    assert settle(
        other.slice(0, 0), settled.model_copy(update={"classes": {}, "columns": ["age"]})
    ).columns == ["age"]


@pytest.mark.parametrize(
    ("given_settings", "message"),
    [
        ({}, r"several labels \(mask, gender, age\)"),
        ({"columns": ["mask", "gendre"]}, 'no label "gendre".*did you mean "gender"'),
        ({"columns": ["mask", "mask"]}, "twice"),
        ({"columns": ["age"]}, r'"age" is a number with 40 values \(10 to 49\).*borders.age=\[30,60\]'),
        ({"columns": ["mask"], "borders": {"mask": [1]}}, 'borders need numbers, but "mask" holds text'),
        ({"columns": ["age"], "borders": {"age": [60, 30]}}, "rising order"),
        ({"columns": ["age"], "borders": {"age": []}}, "one or more numbers"),
        ({"columns": ["age"], "borders": {"age": [float("inf")]}}, "finite"),
        ({"columns": ["mask"], "borders": {"age": [30]}}, '"age" is not among the columns'),
        ({"columns": ["mask"], "leave_out": {"mask": 1}}, 'leave_out: "mask" has no borders'),
        ({"columns": ["mask"], "classes": {"mask": ["mask", "normla"]}}, '"normla".*did you mean "normal"'),
        ({"columns": ["mask"], "classes": {"mask": ["mask"]}}, "doesn't list: normal"),
        ({"columns": ["mask"], "classes": {"mask": ["mask", "normal", "mask"]}}, '"mask" is there twice'),
        ({"columns": ["age"], "borders": {"age": [30]}, "classes": {"age": ["a", "b"]}}, "has borders"),
    ],
)  # fmt: skip
def test_mistakes_are_told(given_settings: dict[str, Any], message: str) -> None:
    table = labels(mask=["mask", "normal"] * 20, gender=["male", "female"] * 20, age=list(range(10, 50)))
    with pytest.raises(UserError, match=message):
        make_targets(table, TargetSettings(**given_settings))


def test_a_listed_class_without_photos_is_told_when_classes_are_settled() -> None:
    table, settings = labels(kind=["cat", "dog"]), TargetSettings(classes={"kind": ["cat", "dog", "cats"]})
    assert make_targets(table, settings).classes == ("cat", "dog", "cats")
    with pytest.raises(UserError, match=r'no photo has "cats".*did you mean "cat"'):
        settle(table, settings)


def test_no_labels_or_no_values_are_told() -> None:
    with pytest.raises(UserError, match="no labels"):
        make_targets(pa.table({"key": ["a"]}), TargetSettings())
    with pytest.raises(UserError, match='no photo has a value for "kind"'):
        make_targets(labels(kind=pa.array([None, None], pa.string())), TargetSettings())


def test_ordinal_smoothing_by_hand() -> None:
    # weights exp(-d^2 / 2) of the distances 0, 1, 2: 1, 0.606531, 0.135335
    spread = ordinal(np.eye(3, dtype=np.float32), sigma=1.0)
    end, middle = 1 + 0.606531 + 0.135335, 1 + 2 * 0.606531
    np.testing.assert_allclose(spread[0], np.array([1, 0.606531, 0.135335]) / end, rtol=1e-5)
    np.testing.assert_allclose(spread[1], np.array([0.606531, 1, 0.606531]) / middle, rtol=1e-5)
    np.testing.assert_allclose(spread[2], spread[0][::-1], rtol=1e-6)


@settings(max_examples=40, deadline=None)
@given(people(), st.floats(0.2, 3))
def test_ordinal_smoothing_spreads_its_own_column_alone(rows: list[tuple[Any, ...]], sigma: float) -> None:
    table, settings = mask18_table(rows), {**MASK18, "ordinal": {"age": sigma}}
    together = make_targets(table, TargetSettings(**settings))
    apart = make_targets(table, TargetSettings(**settings, heads="separate"))
    known = together.joint >= 0
    np.testing.assert_allclose(soft(together).sum(1), known, atol=1e-6)
    np.testing.assert_allclose(join(soft(apart), apart.heads)[known], soft(together)[known], atol=1e-6)
    by_column = soft(together)[known].reshape(-1, 3, 2, 3)
    mask, gender = together.joint[known] // 6, together.joint[known] // 3 % 2
    np.testing.assert_allclose(by_column.sum(3)[np.arange(len(mask)), mask, gender], 1, atol=1e-6)
