"""What is predicted: classes made of a cache's labels, chosen when training starts and not when caching."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, NonNegativeFloat, PositiveFloat

from cache.records import LABEL, label_names
from configs.errors import UserError, did_you_mean
from configs.settings import Settings

MOST_CLASSES = 20
"""A column of numbers with more distinct values than this is taken for a measure, which needs borders."""

NAME_GLUE = ", "
"""Between the parts of a joint class's name: "mask, female, 30-59"."""


class TargetSettings(Settings):
    """Which labels make the classes.

    Attributes:
        columns: the labels to predict, in the order of the joint class; none given: the only one there is.
        classes: a column's classes in their order; sorted where not given.
        borders: numbers -> groups; [30, 60] gives "<30", "30-59" and ">=60".
        heads: one output for the joint class, or one a column on a shared backbone.
        leave_out: half-width of the band around a column's borders that isn't trained on: a value v
            is left out where |v - border| <= half-width (borders [28, 58] and 1: 27-29 and 57-59).
        ordinal: standard deviation, in classes, of the Gaussian that spreads an ordered column's
            targets over its neighbouring classes.
    """

    columns: list[str] = Field(default=[])
    classes: dict[str, list[str]] = Field(default={})
    borders: dict[str, list[float]] = Field(default={})
    heads: Literal["joint", "separate"] = "joint"
    leave_out: dict[str, NonNegativeFloat] = Field(default={})
    ordinal: dict[str, PositiveFloat] = Field(default={})


@dataclass(frozen=True)
class Targets:
    """The classes of a table's rows.

    Attributes:
        head_names: one a head; the columns' names, joined by ", " where the head is the joint one.
        heads: the class names of each head.
        classes: the joint classes' names; the last column runs fastest, so that
            mask x gender x age group is mask*6 + gender*3 + age group.
        labels: i64 [n heads], the class of each head, -1 where it isn't known.
        joint: i64 [n], the joint class, -1 where one of its columns isn't known.
        left_out: bool [n], inside a band around a border: not to be trained on.
        columns: the columns' names.
        sizes: the number of classes of each column.
        spread: the ordinal smoothing of each column, in classes; 0 is none.
    """

    head_names: tuple[str, ...]
    heads: tuple[tuple[str, ...], ...]
    classes: tuple[str, ...]
    labels: np.ndarray
    joint: np.ndarray
    left_out: np.ndarray
    columns: tuple[str, ...]
    sizes: tuple[int, ...]
    spread: tuple[float, ...]


def make_targets(table: pa.Table, settings: TargetSettings) -> Targets:
    """The targets of a cache's table.

    Every class that the table has must be listed in `settings.classes`, where its column is there; a
    listed class may be without photos, as when a model is tested on a set that lacks one (but not when
    the classes are settled, see `settle`).

    Raises:
        UserError: a column or class that isn't there, numbers without borders, borders on text.
    """
    columns = _columns(table, settings)
    names = [_classes(table, column, settings) for column in columns]
    labels = np.stack([_labels(table, *pair, settings) for pair in zip(columns, names, strict=True)], axis=1)
    sizes = tuple(len(each) for each in names)
    joint, classes = combine(labels, sizes), joint_names(names)
    separate = settings.heads == "separate"
    return Targets(
        head_names=tuple(columns) if separate else (NAME_GLUE.join(columns),),
        heads=tuple(names) if separate else (classes,),
        classes=classes,
        labels=labels if separate else joint[:, None],
        joint=joint,
        left_out=_left_out(table, settings),
        columns=tuple(columns),
        sizes=sizes,
        spread=tuple(settings.ordinal.get(column, 0.0) for column in columns),
    )


def settle(table: pa.Table, settings: TargetSettings) -> TargetSettings:
    """The settings with their columns and classes written out, so that other tables give the same classes.

    Raises:
        UserError: as `make_targets`, and for a listed class without a photo.
    """
    columns = _columns(table, settings)
    classes = {c: list(_classes(table, c, settings)) for c in columns if c not in settings.borders}
    for column, listed in settings.classes.items():
        found = [_text(value) for value in table[LABEL + column].drop_null().unique().to_pylist()]
        for name in listed:
            if name not in found:
                raise UserError(f'targets.classes.{column}: no photo has "{name}"{did_you_mean(name, found)}')
    return settings.model_copy(update={"columns": columns, "classes": classes})


def soft(targets: Targets) -> np.ndarray:
    """Targets for the losses: f32 [n sum(classes of the heads)], the heads side by side.

    A head's part sums to 1, or is 0 where its class isn't known.
    """
    one_hot = [
        (labels[:, None] == np.arange(len(names))).astype(np.float32)
        for labels, names in zip(targets.labels.T, targets.heads, strict=True)
    ]
    separate = len(targets.heads) > 1
    for axis, sigma in enumerate(targets.spread):
        if sigma and separate:
            one_hot[axis] = ordinal(one_hot[axis], sigma=sigma)
        elif sigma:
            one_hot[0] = ordinal(one_hot[0], sigma=sigma, sizes=targets.sizes, axis=axis)
    return np.concatenate(one_hot, axis=1)


def ordinal(
    targets: np.ndarray, *, sigma: float, sizes: Sequence[int] | None = None, axis: int = 0
) -> np.ndarray:
    """Targets spread by a Gaussian over the neighbouring classes of an ordered column.

    Args:
        targets: f32 [n c].
        sigma: the Gaussian's standard deviation, in classes.
        sizes: where c is a joint class, the number of classes of each of its columns.
        axis: the ordered one among the `sizes`.

    Returns:
        f32 [n c]; each row's sum is as before.
    """
    shape = [targets.shape[1]] if sizes is None else list(sizes)
    place = np.arange(shape[axis])
    kernel = np.exp(-0.5 * ((place[:, None] - place) / sigma) ** 2)
    kernel /= kernel.sum(axis=1, keepdims=True)
    grid = np.moveaxis(targets.reshape(len(targets), *shape), axis + 1, -1) @ kernel.astype(targets.dtype)
    return np.moveaxis(grid, -1, axis + 1).reshape(targets.shape)


def join(probabilities: np.ndarray, heads: Sequence[Sequence[str]]) -> np.ndarray:
    """Probabilities of the heads, f32 [n sum(c)] -> of the joint classes, f32 [n product(c)].

    The heads are taken as independent given the photo: a joint class has the product of its parts.
    """
    parts = np.split(probabilities, np.cumsum([len(names) for names in heads])[:-1], axis=1)
    joined = parts[0]
    for part in parts[1:]:
        joined = (joined[:, :, None] * part[:, None, :]).reshape(len(joined), -1)
    return joined


def combine(labels: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """Classes of the columns, i64 [n k] -> the joint class, i64 [n], the last column running fastest."""
    joint = np.zeros(len(labels), np.int64)
    for column, size in zip(labels.T, sizes, strict=True):
        joint = joint * size + column
    return np.where((labels < 0).any(axis=1), -1, joint)


def joint_names(names: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """The joint classes' names, in the order of `combine`."""
    joined = [""]
    for column in names:
        joined = [f"{left}{NAME_GLUE}{right}" if left else right for left in joined for right in column]
    return tuple(joined)


def group_names(borders: Sequence[float]) -> tuple[str, ...]:
    """Names of the groups between borders: [30, 60] -> "<30", "30-59", ">=60".

    A border belongs to the group above it. Borders that aren't whole give "0.5-<1.5".
    """
    whole = all(float(border).is_integer() for border in borders)
    texts = [f"{border:g}" if not whole else str(int(border)) for border in borders]
    between = []
    for low, high in pairwise(borders):
        if not whole:
            between.append(f"{low:g}-<{high:g}")
        else:
            between.append(f"{int(low)}" if high - low == 1 else f"{int(low)}-{int(high) - 1}")
    return (f"<{texts[0]}", *between, f">={texts[-1]}")


def labels_of(table: pa.Table, classes: Sequence[str]) -> np.ndarray | None:
    """The joint class of every row, i64 [n], -1: unknown, where all one has is the joint classes' names.

    Each part of the names must be made of one label: of its values, or of its numbers between borders.
    None where no label does, or several would.
    """
    for parts in ([(name,) for name in classes], [tuple(name.split(NAME_GLUE)) for name in classes]):
        if len({len(part) for part in parts}) != 1:
            continue
        fitting = [
            [t for name in label_names(table) if (t := _named(table[LABEL + name], set(position)))]
            for position in zip(*parts, strict=True)
        ]
        if all(len(texts) == 1 for texts in fitting):
            place = {part: number for number, part in enumerate(parts)}
            rows = zip(*(texts[0] for texts in fitting), strict=True)
            return np.array([place.get(row, -1) for row in rows], np.int64)
    return None


def _named(values: pa.ChunkedArray, names: set[str]) -> list[str] | None:
    """Each row's class among these, "" without a value; None where the values make no such classes."""
    texts = ["" if value is None else _text(value) for value in values.to_pylist()]
    if not set(texts) - {""} <= names and _numeric(values.type):
        starts = {re.sub(r"^(<|>=)|(?<=\d)-.*", "", name) for name in names}
        try:
            borders = sorted(float(start) for start in starts)
        except ValueError:
            return None
        groups = group_names(borders)
        if not names <= set(groups):
            return None
        numbers = _numbers(values)
        places = np.searchsorted(borders, numbers, side="right")
        texts = ["" if np.isnan(n) else groups[p] for n, p in zip(numbers, places, strict=True)]
    known = set(texts) - {""}
    return texts if known and known <= names else None


def _columns(table: pa.Table, settings: TargetSettings) -> list[str]:
    known = label_names(table)
    if not known:
        raise UserError("targets: this cache has no labels; give its photos some and build it again")
    if not settings.columns and len(known) > 1:
        raise UserError(
            f"targets: the cache has several labels ({', '.join(known)}); "
            f"say which to predict, as in --set targets.columns=[{known[0]}]"
        )
    columns = settings.columns or known
    for column in columns:
        if column not in known:
            raise UserError(
                f'targets.columns: no label "{column}" in this cache{did_you_mean(column, known)}'
            )
        if columns.count(column) > 1:
            raise UserError(f'targets.columns: "{column}" is there twice')
    for field in ("classes", "borders", "ordinal"):
        for column in getattr(settings, field):
            if column not in columns:
                raise UserError(
                    f'targets.{field}: "{column}" is not among the columns to predict'
                    f"{did_you_mean(column, columns)}"
                )
    return columns


def _classes(table: pa.Table, column: str, settings: TargetSettings) -> tuple[str, ...]:
    """The names of a column's classes, in their order."""
    values = table[LABEL + column]
    borders = settings.borders.get(column)
    listed = settings.classes.get(column)
    if borders is not None:
        if listed:
            raise UserError(f'targets.classes: "{column}" has borders, from which its classes follow')
        return group_names(_checked_borders(values, column, borders))
    found = values.drop_null().unique().sort().to_pylist()
    if listed:
        return _checked_listed(column, listed, [_text(value) for value in found])
    if not found:
        raise UserError(f'targets: no photo has a value for "{column}"')
    if _numeric(values.type) and len(found) > MOST_CLASSES:
        raise UserError(
            f'targets: "{column}" is a number with {len(found)} values ({_text(found[0])} to '
            f"{_text(found[-1])}); group them, as in --set targets.borders.{column}=[30,60]"
        )
    return tuple(_text(value) for value in found)


def _checked_listed(column: str, listed: list[str], found: list[str]) -> tuple[str, ...]:
    where = f"targets.classes.{column}"
    if len(set(listed)) < len(listed):
        twice = next(name for name in listed if listed.count(name) > 1)
        raise UserError(f'{where}: "{twice}" is there twice')
    missing = [name for name in found if name not in listed]
    if missing:
        unknown = [name for name in listed if name not in found]
        if unknown:
            raise UserError(f'{where}: no photo has "{unknown[0]}"{did_you_mean(unknown[0], missing)}')
        raise UserError(f"{where}: photos have classes that it doesn't list: {', '.join(missing)}")
    return tuple(listed)


def _checked_borders(values: pa.ChunkedArray, column: str, borders: list[float]) -> list[float]:
    where = f"targets.borders.{column}"
    if not borders or any(a >= b for a, b in pairwise(borders)):
        raise UserError(f"{where}: one or more numbers are needed, in rising order, not {borders}")
    if not all(math.isfinite(border) for border in borders):
        raise UserError(f"{where}: borders must be finite, not {borders}")
    if not _numeric(values.type) and values.null_count < len(values):
        example = values.drop_null()[0].as_py()
        raise UserError(f'{where}: borders need numbers, but "{column}" holds text, such as "{example}"')
    return borders


def _labels(table: pa.Table, column: str, names: tuple[str, ...], settings: TargetSettings) -> np.ndarray:
    """The class of each row, i64 [n], -1 where there is no value."""
    values = table[LABEL + column]
    if column in settings.borders:
        numbers = _numbers(values)
        groups = np.searchsorted(settings.borders[column], numbers, side="right")
        return np.where(np.isnan(numbers), -1, groups).astype(np.int64)
    place = {name: number for number, name in enumerate(names)}
    return np.array([-1 if v is None else place[_text(v)] for v in values.to_pylist()], np.int64)


def _left_out(table: pa.Table, settings: TargetSettings) -> np.ndarray:
    out = np.zeros(len(table), bool)
    for column, half_width in settings.leave_out.items():
        if column not in settings.borders:
            raise UserError(
                f'targets.leave_out: "{column}" has no borders{did_you_mean(column, settings.borders)}'
            )
        numbers = _numbers(table[LABEL + column])
        distance = np.abs(numbers[:, None] - np.asarray(settings.borders[column]))
        out |= (distance <= half_width).any(axis=1)
    return out


def _numeric(type: pa.DataType) -> bool:
    return pa.types.is_integer(type) or pa.types.is_floating(type)


def _numbers(values: pa.ChunkedArray) -> np.ndarray:
    """f64 [n], NaN where there is no value."""
    return np.array([math.nan if v is None else float(v) for v in values.to_pylist()], np.float64)


def _text(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
