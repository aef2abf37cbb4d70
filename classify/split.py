"""Which photos are trained on, and which validated: fold numbers for a table's rows.

Every split is `fn(table, classes i64 [n], *, settings) -> fold numbers i64 [n]`. The validation
photos of fold f are the rows with number f. `TRAIN` (-1) is in the training part of every fold,
`UNUSED` (-2) in neither part of any; `parts` gives the rows of one fold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from cache.records import LABEL, label_names
from configs.errors import UserError, did_you_mean

TRAIN = -1
UNUSED = -2


def person(table: pa.Table, classes: np.ndarray, *, folds: int = 5, seed: int = 0) -> np.ndarray:
    """No person in two folds, and every class in equal shares; photos without a person go by themselves."""
    return stratified_groups(_people(table), classes, folds=folds, seed=seed)


def file(table: pa.Table, classes: np.ndarray, *, folds: int = 5, seed: int = 0) -> np.ndarray:
    """Every class in equal shares, each file by itself; photos of a person may be on both sides."""
    return stratified_groups(table["key"].to_pylist(), classes, folds=folds, seed=seed)


def column(
    table: pa.Table,
    classes: np.ndarray,
    *,
    name: str = "split",
    train: tuple[str, ...] = ("train", "training"),
    validation: tuple[str, ...] = ("val", "valid", "validation", "dev"),
    unused: tuple[str, ...] = ("test",),
) -> np.ndarray:
    """As a label says: whole numbers are folds (negative: always train), names are parts.

    Args:
        table: a cache's table.
        classes: i64 [n], -1 unknown.
        name: the label that names the split.
        train: its values for photos to train on.
        validation: its values for photos to validate on, as fold 0.
        unused: its values for photos of neither part.

    Raises:
        UserError: no such label, or a value that says nothing.
    """
    known = label_names(table)
    if name not in known:
        raise UserError(f'split.name: no label "{name}" in this cache{did_you_mean(name, known)}')
    values = table[LABEL + name]
    if pa.types.is_integer(values.type):
        numbers = np.array([TRAIN if v is None else max(v, TRAIN) for v in values.to_pylist()], np.int64)
    else:
        meaning = dict.fromkeys(unused, UNUSED) | dict.fromkeys(validation, 0) | dict.fromkeys(train, TRAIN)
        texts = ["" if v is None else str(v) for v in values.to_pylist()]
        strange = sorted(set(texts) - set(meaning))
        if strange:
            raise UserError(
                f'split: label "{name}" has the value "{strange[0]}"; say what it means with '
                "split.train, split.validation or split.unused"
            )
        numbers = np.array([meaning[text] for text in texts], np.int64)
    return np.where((classes < 0) & (numbers >= 0), TRAIN, numbers)


def all_rows(table: pa.Table, classes: np.ndarray) -> np.ndarray:
    """Everything is trained on, nothing validated."""
    assert len(table) == len(classes)
    return np.full(len(classes), TRAIN, np.int64)


SPLITS: dict[str, Callable[..., np.ndarray]] = {
    "person": person,
    "file": file,
    "column": column,
    "all": all_rows,
}


def parts(numbers: np.ndarray, fold: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows to train on and those to validate on, i64 each, of one fold."""
    return np.flatnonzero((numbers != fold) & (numbers != UNUSED)), np.flatnonzero(numbers == fold)


def stratified_groups(groups: Sequence[object], classes: np.ndarray, *, folds: int, seed: int) -> np.ndarray:
    """Fold numbers that keep a group whole and share each class out evenly.

    Greedy, largest groups first, equal ones in drawn order: a group goes where its classes are
    scarcest (least increase of the folds' squared class shares), and among equals to the fold with
    the fewest rows.

    Args:
        groups: n hashable names.
        classes: i64 [n]; rows of class -1 get number -1 and count for nothing.
        folds: how many, >= 2.
        seed: of the order of equally large groups.

    Raises:
        UserError: fewer groups than folds.
    """
    if folds < 2:
        raise UserError(f"split.folds: at least 2 are needed, not {folds} (to train on all: split=all)")
    known = np.flatnonzero(classes >= 0)
    _, members = np.unique([_place(groups)[i] for i in known], return_inverse=True)
    count = int(members.max()) + 1 if len(known) else 0
    if count < folds:
        raise UserError(f"split.folds: {folds} folds of {count} persons or files; ask for fewer folds")
    table = np.zeros((count, int(classes.max()) + 1), np.int64)
    np.add.at(table, (members, classes[known]), 1)
    numbers = np.full(len(classes), TRAIN, np.int64)
    numbers[known] = _share_out(table, folds, np.random.default_rng(seed))[members]
    return numbers


def _share_out(table: np.ndarray, folds: int, rng: np.random.Generator) -> np.ndarray:
    """Counts of groups, i64 [groups classes] -> a fold for each, i64 [groups]."""
    # a class's counts in shares of the class, so that a rare one weighs as much as a common one
    shares = table / np.maximum(table.sum(axis=0), 1)
    order = rng.permutation(len(table))
    order = order[np.argsort(-table[order].sum(axis=1), kind="stable")]
    held = np.zeros((folds, table.shape[1]))
    rows = np.zeros(folds, np.int64)
    fold_of = np.zeros(len(table), np.int64)
    for group in order:
        cost = held @ shares[group]
        fold = min(range(folds), key=lambda f: (round(float(cost[f]), 12), rows[f]))
        held[fold] += shares[group]
        rows[fold] += table[group].sum()
        fold_of[group] = fold
    return fold_of


def _people(table: pa.Table) -> list[tuple[str, str]]:
    """Each row's person, or its file where it has none (the faces of one photo stay together)."""
    pairs = zip(table["group"].to_pylist(), table["key"].to_pylist(), strict=True)
    return [("group", group) if group is not None else ("key", key) for group, key in pairs]


def _place(groups: Sequence[object]) -> np.ndarray:
    """Names -> numbers, in the order of first appearance, i64 [n]."""
    seen: dict[object, int] = {}
    return np.array([seen.setdefault(group, len(seen)) for group in groups], np.int64)
