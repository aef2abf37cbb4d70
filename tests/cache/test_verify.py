"""Verify finds every flipped and missing byte; forget cuts out just the damage."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from cache.format import Cache, CacheError, Recipe, index_names, open, shard_names
from cache.verify import forget, verify
from cache.writer import Writer


@pytest.fixture
def built(tmp_path: Path, commits: ModuleType) -> Path:
    """A finished cache of four shards, with the log of a build."""
    path = tmp_path / "built"
    commits.build(path, done=str)
    with Writer(path, commits.RECIPE) as writer:
        writer.log(photos=20)
    return path


def flip(path: Path, at: int, bits: int = 0xFF) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= bits
    path.unlink()  # a new file: whoever has the old one mapped keeps it
    path.write_bytes(data)


def content(cache: Cache) -> dict[str, tuple[object, ...]]:
    """Records and pixels by key."""
    rows = {}
    for row, record in enumerate(cache.records()):
        usable = record.status != "unreadable"
        pixels = (bytes(cache.rgb([row])), bytes(cache.alpha([row]))) if usable else ()
        rows[record.key] = (record, *pixels)
    return rows


def rebuild(path: Path, commits: ModuleType) -> list[str]:
    """What a build does: make what is missing; its keys."""
    everything = [commits.record(number) for number in range(20)]
    with Writer(path, commits.RECIPE) as writer:
        known = set(writer.cache.table["key"].to_pylist())
        missing = [r for r in everything if r.key not in known]
        if missing:
            writer.commit(missing, *commits.pixels(missing))
        writer.finish(commits.listed(everything[::-1]))
    return [r.key for r in missing]


def test_a_whole_cache_is_found_whole(built: Path) -> None:
    report = verify(built)
    assert report.ok
    assert report.notes == ()
    assert (report.shards, report.rows) == (4, 20)
    assert report.bytes == sum(p.stat().st_size for p in built.rglob("*") if p.is_file())


def test_every_one_of_200_flipped_bytes_is_found(built: Path) -> None:
    files = sorted(p for p in built.rglob("*") if p.is_file() and p.stat().st_size)
    assert {p.name.split("-")[0] for p in files} == {
        "recipe.json", "builds.jsonl", "index", "rgb.npy", "alpha.npy", "records.arrow"
    }  # fmt: skip
    rng, found = random.Random(3), 0
    for number in range(200):
        file = files[number % len(files)]
        data, at = file.read_bytes(), rng.randrange(file.stat().st_size)
        flip(file, at, rng.randrange(1, 256))
        report = verify(built, jobs=1)
        shard = file.parent.name if file.parent.parent.name == "shards" else None
        found += not report.ok and report.damaged_shards == ([shard] if shard else [])
        assert not shard or report.keys
        file.write_bytes(data)
    assert found == 200
    assert verify(built).ok


def test_every_byte_of_recipe_and_log_counts(tmp_path: Path, commits: ModuleType) -> None:
    built = tmp_path / "c"
    with Writer(built, commits.RECIPE) as writer:
        writer.finish([])
        writer.log(photos=0)
    for name in ("recipe.json", "builds.jsonl"):
        data = (built / name).read_bytes()
        for at in range(len(data)):
            flipped = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
            cut = data[:at] + data[at + 1 :]
            (built / name).write_bytes(cut if at % 5 == 0 else flipped)
            assert [d.file for d in verify(built, jobs=1).damages] == [name], (name, at)
        (built / name).write_bytes(data)


def test_a_flipped_pixel_names_the_photo(built: Path) -> None:
    cache = open(built)
    row = cache.usable()[3]
    shard, slot = (int(column[row]) for column in cache.places)
    for file, size in (("rgb.npy", 72), ("alpha.npy", 24)):
        path = built / "shards" / cache.shards[shard] / file
        flip(path, 128 + slot * size + 5)
        report = verify(built)
        assert report.keys == [cache.records([row])[0].key]
        assert report.damaged_shards == [cache.shards[shard]]
        assert cache.records([row])[0].key in report.messages()[0]
        flip(path, 128 + slot * size + 5)


@pytest.mark.parametrize("file", ["recipe.json", "index", "rgb.npy", "alpha.npy", "records.arrow", "."])
def test_missing_files_are_found(built: Path, file: str) -> None:
    folder = built / "shards" / shard_names(built)[1]
    if file == "index":
        (built / index_names(built)[0]).unlink()
    elif file == ".":
        shutil.rmtree(folder)
    else:
        (built if file == "recipe.json" else folder).joinpath(file).unlink()
    report = verify(built)
    assert len(report.damages) in (1, 2)
    assert "missing" in str(report.damages[0])
    if file not in ("recipe.json", "index"):
        assert len(report.keys) == 5 or file == "rgb.npy" or file == "alpha.npy"
        assert report.damaged_shards == [folder.name]


def test_what_does_not_belong_is_told_and_is_no_damage(built: Path) -> None:
    (built / "notes.txt").write_text("mine")
    (built / "shards" / shard_names(built)[0] / "more.npy").write_bytes(b"")
    (built / "shards" / "1234.tmp").mkdir()
    (built / "shards" / "1234.tmp" / "rgb.npy").write_bytes(b"half")
    report = verify(built)
    assert report.ok
    assert sorted(note.split(": ")[1] for note in report.notes) == [
        "left by a stopped build; the next build removes it", "not part of the cache", "not part of the cache"
    ]  # fmt: skip


def test_a_shard_of_another_recipe_is_found(built: Path, tmp_path: Path, commits: ModuleType) -> None:
    other = Recipe({**commits.RECIPE.identity, "crop": {"margin": 0.9}}, {})
    records = [commits.record(number) for number in range(30, 33)]
    with Writer(tmp_path / "other", other) as writer:
        for _ in range(6):
            name = writer.commit(records, *commits.pixels(records))
    shutil.copytree(tmp_path / "other" / "shards" / name, built / "shards" / name)
    report = verify(built)
    assert [d.what for d in report.damages] == ["of another recipe"]
    assert forget(built, report) == sorted(r.key for r in records)
    assert verify(built).ok
    assert len(open(built)) == 20


def _shard_file(name: str) -> Callable[[Path], Path]:
    return lambda built: built / "shards" / shard_names(built)[1] / name


def _index(built: Path) -> Path:
    return built / index_names(built)[0]


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _flip_table_and_index(built: Path) -> None:
    flip(_index(built), 3000)
    flip(_shard_file("records.arrow")(built), 999)


DAMAGES: dict[str, tuple[Callable[[Path], object], int, int]] = {
    "a pixel": (lambda built: flip(_shard_file("rgb.npy")(built), 128 + 72 * 3), 1, 1),
    "cut short": (lambda built: _cut(_shard_file("rgb.npy")(built)), 1, 1),
    "a header": (lambda built: flip(_shard_file("alpha.npy")(built), 60), 0, 0),
    "a shard's table": (lambda built: flip(_shard_file("records.arrow")(built), 999), 0, 0),
    "a shard": (lambda built: shutil.rmtree(_shard_file("")(built)), 4, 4),
    "all alpha of a shard": (lambda built: _shard_file("alpha.npy")(built).unlink(), 4, 4),
    "the index": (lambda built: flip(_index(built), 3000), 0, 0),
    "the index is gone": (lambda built: _index(built).unlink(), 0, 0),
    "the recipe": (lambda built: flip(built / "recipe.json", 50), 0, 0),
    "the recipe is gone": (lambda built: (built / "recipe.json").unlink(), 0, 0),
    "the log": (lambda built: flip(built / "builds.jsonl", 50), 0, 0),
    "the index and a shard's table": (_flip_table_and_index, 5, 0),
}
"""How to damage a cache, how many of its rows that costs, how many of those forget can name.

The second of five rows of shard 1 is unreadable: it has no pixels to lose.
"""


@pytest.mark.parametrize("what", DAMAGES)
def test_forget_loses_the_damaged_rows_alone(built: Path, commits: ModuleType, what: str) -> None:
    cache = open(built)
    before = content(cache)
    damage, hit, named = DAMAGES[what]
    damage(built)
    report = verify(built)
    assert not report.ok
    lost = forget(built, report)
    assert verify(built).ok
    assert len(lost) == named
    assert set(lost) <= before.keys() - content(open(built)).keys()
    after = content(open(built))
    assert after == {key: value for key, value in before.items() if key in after}
    assert open(built).recipe == cache.recipe
    made = rebuild(built, commits)
    assert len(made) == len(before) - len(after) == hit
    assert content(open(built)) == before
    assert open(built).table["key"] == cache.table["key"]
    assert verify(built).ok


def test_without_recipe_and_shards_the_cache_is_to_be_made_again(tmp_path: Path, commits: ModuleType) -> None:
    Writer(tmp_path / "c", commits.RECIPE).close()
    flip(tmp_path / "c" / "recipe.json", 30)
    report = verify(tmp_path / "c")
    assert [d.file for d in report.damages] == ["recipe.json"]
    with pytest.raises(CacheError, match="must be made again"):
        forget(tmp_path / "c", report)


def test_what_is_no_cache_is_told(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="no such folder"):
        verify(tmp_path / "none")
    (tmp_path / "a.JPG").write_bytes(b"")
    with pytest.raises(CacheError, match="a folder of photos, not a cache"):
        verify(tmp_path)


def test_no_verifying_while_a_build_writes(built: Path, commits: ModuleType) -> None:
    with Writer(built, commits.RECIPE), pytest.raises(CacheError, match="another build"):
        verify(built)
