"""The format, for reading: recipes, tables, pixels, and what is said of folders that are no caches."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cache as package
from cache.format import (
    CacheError,
    Recipe,
    differences,
    npy_header,
    open,
    pixel_hashes,
    read_builds,
    seal,
    shard_names,
    unseal,
)
from cache.records import LABEL
from cache.tables import label_array, merge
from cache.writer import Writer

ROOT = Path(__file__).parents[2]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, commits: ModuleType) -> Path:
    """A finished cache, in no order that its shards have."""
    path = tmp_path_factory.mktemp("format") / "cache"
    everything = [commits.record(number) for number in range(23)]
    with Writer(path, commits.RECIPE) as writer:
        for start in range(0, 23, 5):
            records = everything[start : start + 5]
            writer.commit(records, *commits.pixels(records))
        order = np.random.default_rng(0).permutation(23)
        writer.finish(commits.listed([everything[number] for number in order]))
    return path


def test_the_package_opens_caches_and_loads_nothing_before(built: Path) -> None:
    assert package.open(built).records() == open(built).records()
    assert package.CacheError is CacheError
    with pytest.raises(AttributeError, match="nothing"):
        package.nothing  # noqa: B018
    code = "import cache, sys; assert not {'numpy', 'pyarrow', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@given(st.dictionaries(st.text(), JSON), st.sampled_from([None, 2]))
def test_sealed_values_come_back(values: dict[str, object], indent: int | None) -> None:
    values.pop("sha256", None)
    assert unseal(seal(values, indent=indent), indent=indent) == values


@given(st.data())
def test_a_sealed_text_is_broken_by_any_change(data: st.DataObject) -> None:
    text = seal({"method": "seg", "size": 224, "crop": {"margin": 0.4, "on": True}})
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters().filter(lambda c: c != text[at]) | st.just(""))
    with pytest.raises(ValueError):  # noqa: PT011  (JSON's own errors are ValueErrors of many kinds)
        unseal(text[:at] + other + text[at + 1 :])


@given(JSON, JSON)
def test_differences_are_none_just_between_equals(one: object, other: object) -> None:
    assert differences(one, one) == []
    assert (differences({"a": one}, {"a": other}) == []) == (json.dumps(one) == json.dumps(other)) or (
        isinstance(one, dict) and isinstance(other, dict)
    )


def test_differences_are_dotted() -> None:
    old = {"size": 224, "segment": {"name": "rembg", "sha256": "aa"}, "gone": 1}
    new = {"size": 256, "segment": {"name": "onnx", "sha256": "aa", "mean": [0.5]}}
    assert differences(old, new) == [
        "gone: 1 -> (absent)",
        "segment.mean: (absent) -> [0.5]",
        'segment.name: "rembg" -> "onnx"',
        "size: 224 -> 256",
    ]
    assert differences({"a": 1}, {"a": True}) == ["a: 1 -> true"]


def test_a_recipe_is_its_identity() -> None:
    one = Recipe({"method": "seg", "size": (8, 6)}, {"torch": "2.11"})
    assert one.identity["size"] == [8, 6]
    assert (one.size, one.has_alpha) == ((8, 6), True)
    assert Recipe({"size": 6, "method": "det"}).size == (6, 6)
    assert one.digest == Recipe({"size": [8, 6], "method": "seg"}, {"torch": "3"}).digest
    assert one.digest != Recipe({"size": [6, 8], "method": "seg"}).digest
    assert re.fullmatch("[0-9a-f]{16}", one.digest)
    with pytest.raises(CacheError, match="without method"):
        Recipe({"size": 8})


@given(st.integers(0, 10**9), st.integers(1, 9999), st.integers(1, 9999))
def test_our_header_is_one_that_numpy_reads(n: int, height: int, width: int) -> None:
    import io

    for shape in ((n, height, width, 3), (n, height, width)):
        header = npy_header(shape)
        assert len(header) == 128
        file = io.BytesIO(header)
        assert np.lib.format.read_magic(file) == (1, 0)
        assert np.lib.format.read_array_header_1_0(file) == (shape, False, np.dtype("uint8"))
        assert file.tell() == 128


def test_rows_come_in_any_order_and_more_than_once(built: Path, commits: ModuleType) -> None:
    cache = open(built)
    usable = cache.usable()
    rgb, alpha = commits.pixels(cache.records(usable))
    rng = np.random.default_rng(1)
    for wanted in (
        rng.permutation(len(usable)),
        rng.integers(0, len(usable), 50),
        np.arange(0),
        np.arange(7),
    ):
        np.testing.assert_array_equal(cache.rgb(usable[wanted]), rgb[wanted])
        np.testing.assert_array_equal(cache.alpha(usable[wanted].tolist()), alpha[wanted])
    has_pixels = cache.places[1] >= 0
    np.testing.assert_array_equal(cache.rgb(has_pixels), rgb)
    assert [cache.records([row])[0] for row in usable] == cache.records(usable)


def test_large_rows_come_in_any_order_too(tmp_path: Path, commits: ModuleType) -> None:
    recipe = Recipe({"method": "seg", "size": 40})
    records = [commits.record(7 * number) for number in range(9)]
    rgb, alpha = commits.pixels(records, recipe)
    with Writer(tmp_path / "c", recipe) as writer:
        for part in (slice(0, 4), slice(4, 9)):
            writer.commit(records[part], rgb[part], alpha[part])
        for wanted in ([8, 0, 3, 3, 5], range(9), range(2, 7), [4]):
            np.testing.assert_array_equal(writer.cache.rgb(wanted), rgb[wanted])
            np.testing.assert_array_equal(writer.cache.alpha(wanted), alpha[wanted])


def test_places_tell_where_a_row_is(built: Path) -> None:
    cache = open(built)
    numbers, slots = cache.places
    for row in cache.usable():
        rgb, alpha = cache.shard(int(numbers[row]))
        assert alpha is not None
        np.testing.assert_array_equal(rgb[slots[row]], cache.rgb([row])[0])
        hashes = pixel_hashes(rgb[slots[row]][None], alpha[slots[row]][None])
        assert hashes == [cache.table["pixels"][int(row)].as_py()]
    assert cache.shards == shard_names(built)
    assert not cache.shard(0)[0].flags.writeable


def test_a_row_without_pixels_is_named(built: Path) -> None:
    cache = open(built)
    row = int(np.flatnonzero(cache.places[1] < 0)[0])
    with pytest.raises(CacheError, match=f"row {row} .*has no pixels"):
        cache.rgb([row])


def test_no_alpha_in_a_cache_without(tmp_path: Path, commits: ModuleType) -> None:
    recipe = Recipe({"method": "det", "size": [4, 6]})
    with Writer(tmp_path / "c", recipe) as writer:
        writer.commit([commits.record(0)], commits.pixels([commits.record(0)])[0])
        assert not writer.cache.has_alpha
        with pytest.raises(CacheError, match="build one with --method seg"):
            writer.cache.alpha([0])
        with pytest.raises(AssertionError):
            writer.commit([commits.record(1)], *commits.pixels([commits.record(1)]))


def test_labels_by_name(built: Path) -> None:
    cache = open(built)
    assert cache.labels("age").dtype == np.int64
    assert cache.labels("mask").tolist() == [r.labels["mask"] for r in cache.records()]
    with pytest.raises(CacheError, match="no label 'mesk'; did you mean \"mask\""):
        cache.labels("mesk")


def test_another_process_opens_it_again(built: Path) -> None:
    cache = open(built)
    copy = pickle.loads(pickle.dumps(cache))
    assert copy.table == cache.table
    assert len(pickle.dumps(cache)) < 500


def test_what_is_no_cache_is_told(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="no such folder"):
        open(tmp_path / "none")
    with pytest.raises(CacheError, match=r"not a cache \(no recipe.json in it\)"):
        open(tmp_path)
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c.jpeg").write_bytes(b"a photo")
    with pytest.raises(CacheError, match="a folder of photos, not a cache: run preprocess build"):
        open(tmp_path)
    with pytest.raises(CacheError, match="a file, not a cache"):
        open(tmp_path / "a" / "b" / "c.jpeg")


def test_damage_is_told_with_the_way_out(tmp_path: Path, commits: ModuleType) -> None:
    path = tmp_path / "c"
    commits.build(path, done=str)
    whole = (path / "recipe.json").read_text()
    for text in (whole.replace("0.4", "0.5"), "[]", "", "\xff"):
        (path / "recipe.json").write_text(text, "latin-1")
        with pytest.raises(CacheError, match=r"recipe.json: damaged; run: cache verify .* --repair"):
            open(path)
    (path / "recipe.json").write_text(seal({"format": 2, "better": True}, indent=2))
    with pytest.raises(CacheError, match="a cache of format 2, this version reads 1"):
        open(path)
    (path / "recipe.json").unlink()
    with pytest.raises(CacheError, match=r"recipe.json is missing"):
        open(path)
    with pytest.raises(CacheError, match=r"recipe.json is missing"):
        Writer(path, commits.RECIPE)
    (path / "recipe.json").write_text(whole)
    cache = open(path)
    (path / "shards" / shard_names(path)[0] / "rgb.npy").write_bytes(b"")
    with pytest.raises(CacheError, match=r"rgb.npy: .*; run: cache verify"):
        cache.rgb(cache.usable())
    index = next(path.glob("index-*"))
    index.write_bytes(index.read_bytes()[:-100])
    with pytest.raises(CacheError, match=r"index-.*: damaged; run: cache verify"):
        open(path)


@pytest.mark.parametrize(
    ("values", "type", "back"),
    [
        ([1, 2, None], pa.int64(), [1, 2, None]),
        ([1, 2.5], pa.float64(), [1.0, 2.5]),
        ([1, "x"], pa.string(), ["1", "x"]),
        (["x", 1.5, float("nan"), None], pa.string(), ["x", "1.5", None, None]),
        ([float("nan"), 1.0], pa.float64(), [None, 1.0]),
        ([None, None], pa.string(), [None, None]),
        ([2**70, 1], pa.string(), [str(2**70), "1"]),
        ([np.int32(4), np.int32(5)], pa.int64(), [4, 5]),
        ([], pa.string(), []),
    ],
)
def test_label_columns(values: list[object], type: pa.DataType, back: list[object]) -> None:
    array = label_array(values)
    assert (array.type, array.to_pylist()) == (type, back)


def test_columns_of_several_tables_find_a_common_type(built: Path) -> None:
    table = open(built).table.drop_columns([LABEL + "age", LABEL + "mask"]).take(list(range(4)))
    parts = [table.slice(n, 1) for n in range(4)]
    values: list[tuple[list[object], pa.DataType]] = [
        ([1, 2.5, 3, None], pa.float64()),
        ([1, "x", 3, None], pa.string()),
        ([1, 2, 3, None], pa.int64()),
    ]
    for column, type in values:
        labelled = [
            part if value is None else part.append_column(LABEL + "x", label_array([value]))
            for part, value in zip(parts, column, strict=True)
        ]
        merged = merge(labelled)[LABEL + "x"]
        assert merged.type == type
        assert merged.to_pylist() == [None if v is None else type.to_pandas_dtype()(v) for v in column] or (
            type == pa.string() and merged.to_pylist() == ["1", "x", "3", None]
        )


def test_the_example_of_the_format_page_runs(built: Path) -> None:
    page = (ROOT / "cache" / "FORMAT.md").read_text("utf-8")
    example = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert example
    lines = [line for line in example[1].splitlines() if line]
    assert len(lines) <= 10
    code = f"CACHE = {str(built)!r}\n{example[1]}\nimport sys; assert 'cache' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=built.parent
    )
    first = open(built).records([int(open(built).usable()[0])])[0]
    assert done.stdout == f"{first.key} ok (4, 6, 3) 23\n"


def test_every_column_stands_on_the_format_page(built: Path) -> None:
    page = (ROOT / "cache" / "FORMAT.md").read_text("utf-8")
    for name in open(built).table.column_names:
        assert f"`{name}`" in page or name.startswith(LABEL), name


def test_nothing_here_is_pickled() -> None:
    for file in (ROOT / "cache").glob("*.py"):
        assert not re.search(r"import pickle|allow_pickle=True|pickle\.load", file.read_text("utf-8")), file


_opened: list[str] | None = None


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and _opened is not None:
        _opened.append(str(arguments[0]))


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """The files that this process opens from Python during the test."""
    global _opened
    if _watch not in _watching:
        sys.addaudithook(_watch)  # there is no way to take a hook out again
        _watching.append(_watch)
    _opened = []
    yield _opened
    _opened = None


_watching: list[object] = []


def _opens_without_reading_pixels(path: Path, rows: int, opened: list[str]) -> None:
    opened.clear()
    cache = open(path)
    assert len(cache) == rows
    assert not [file for file in opened if "/shards/" in file]
    for name in shard_names(path)[1:]:  # with all shards but one away it opens all the same
        (path / "shards" / name / "rgb.npy").unlink()
    cache = open(path)
    last_of_first_shard = rows // len(shard_names(path)) - 1
    assert cache.rgb([last_of_first_shard]).shape == (1, 2, 2, 3)
    assert {Path(file).name for file in opened if "/shards/" in file} == {"rgb.npy"}


def test_opening_reads_no_pixels(tmp_path: Path, commits: ModuleType, opened: list[str]) -> None:
    commits.many(tmp_path / "c", 20_000, 1000)
    _opens_without_reading_pixels(tmp_path / "c", 20_000, opened)


@pytest.mark.slow
def test_opening_a_million_rows_reads_no_pixels(
    tmp_path: Path, commits: ModuleType, opened: list[str]
) -> None:
    commits.many(tmp_path / "c", 1_000_000)
    _opens_without_reading_pixels(tmp_path / "c", 1_000_000, opened)


def test_builds_are_read_line_by_line(tmp_path: Path) -> None:
    assert read_builds(tmp_path) == []
    (tmp_path / "builds.jsonl").write_text(seal({"photos": 1}) + "half a li")
    assert read_builds(tmp_path) == [{"photos": 1}, {}]
