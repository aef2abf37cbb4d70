"""The writer: what is committed is safe, what is unfinished goes, one build at a time."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from cache.disk import take_lock
from cache.format import CacheError, Recipe, index_names, open, read_builds, shard_names
from cache.records import from_table
from cache.writer import Listed, Writer, stage

PROGRAM = [sys.executable, str(Path(__file__).with_name("commits.py"))]


@pytest.fixture
def built(tmp_path: Path, commits: ModuleType) -> Path:
    """A finished cache of four shards."""
    commits.build(tmp_path / "built", done=str)
    return tmp_path / "built"


Killed = Callable[..., tuple[list[str], int]]


@pytest.fixture(scope="module")
def killed() -> Iterator[Killed]:
    """Run a build in another process and kill it; what it said it had committed, and its exit code."""
    with subprocess.Popen(
        [*PROGRAM, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin
        assert server.stdout
        ask, answers = server.stdin, server.stdout

        def run(work: str, path: Path, *, step: int = -1, seconds: float = -1) -> tuple[list[str], int]:
            ask.write(f"{work}\t{path}\t{step}\t{seconds}\n")
            ask.flush()
            names = []
            for line in answers:
                if line.startswith("end"):
                    return names, int(line.split()[1])
                names.append(line.strip())
            raise AssertionError("the server died")

        yield run


def test_what_was_committed_comes_back(tmp_path: Path, commits: ModuleType) -> None:
    records = [commits.record(number) for number in range(12)]
    rgb, alpha = commits.pixels(records)
    with Writer(tmp_path / "c", commits.RECIPE) as writer:
        writer.commit(records[:7], rgb[:6], alpha[:6])
        writer.commit(records[7:], rgb[6:], alpha[6:])
        unfinished = writer.cache
        finished = writer.finish(commits.listed(records))
    for cache in (unfinished, finished, open(tmp_path / "c")):
        assert cache.records() == records
        assert cache.usable().tolist() == [row for row in range(12) if row != 6]
        np.testing.assert_array_equal(cache.rgb(cache.usable()), rgb)
        np.testing.assert_array_equal(cache.alpha(cache.usable()), alpha)


def test_a_shard_of_unreadable_photos_alone(tmp_path: Path, commits: ModuleType) -> None:
    records = [commits.record(6), commits.record(13)]
    with Writer(tmp_path / "c", commits.RECIPE) as writer:
        writer.commit(records, *commits.pixels(records))
        cache = writer.finish(commits.listed(records))
    assert cache.records() == records
    assert cache.usable().tolist() == []
    assert cache.rgb([]).shape == (0, 4, 6, 3)
    assert cache.shard(0)[0].shape == (0, 4, 6, 3)


def test_the_index_takes_the_listings_order_and_what_it_tells(built: Path, commits: ModuleType) -> None:
    old = open(built)
    listing = [
        Listed(r.key, "other", {"uniform": "red", "age": float(r.bytes)}, r.bytes + 1, r.mtime_ns + 1)
        for r in sorted(old.records(), key=lambda r: r.sha256)
    ]
    pixels = {r.key: bytes(old.rgb([row])) for row, r in enumerate(old.records()) if r.status == "ok"}
    before = {name: (built / "shards" / name / "rgb.npy").stat().st_mtime_ns for name in shard_names(built)}
    with Writer(built, commits.RECIPE) as writer:
        cache = writer.finish(listing)
    assert [r.key for r in cache.records()] == [photo.key for photo in listing]
    assert {r.group for r in cache.records()} == {"other"}
    assert [r.labels for r in cache.records()] == [photo.labels for photo in listing]
    assert [(r.bytes, r.mtime_ns) for r in cache.records()] == [(p.bytes, p.mtime_ns) for p in listing]
    assert {r.key: bytes(cache.rgb([i])) for i, r in enumerate(cache.records()) if r.status == "ok"} == pixels
    assert before == {
        name: (built / "shards" / name / "rgb.npy").stat().st_mtime_ns for name in shard_names(built)
    }


def test_several_faces_of_a_photo_stay_together_by_number(tmp_path: Path, commits: ModuleType) -> None:
    faces = [commits.record(0, face=face, sha256="ab") for face in (2, 0, 1)]
    other = commits.record(1)
    with Writer(tmp_path / "c", commits.RECIPE) as writer:
        writer.commit([*faces, other], *commits.pixels([*faces, other]))
        cache = writer.finish(commits.listed([other, faces[0]]))
        assert [(r.key, r.face) for r in cache.records()] == [
            (other.key, 0),
            *((faces[0].key, n) for n in (0, 1, 2)),
        ]
        fewer = [replace(face, sha256="cd") for face in faces[1:]]
        writer.commit(fewer, *commits.pixels(fewer))
        assert [(r.sha256, r.face) for r in writer.cache.records()][1:] == [("cd", 0), ("cd", 1)]
        cache = writer.finish(commits.listed([faces[0], other]))
    assert [(r.sha256, r.face) for r in cache.records()] == [("cd", 0), ("cd", 1), (other.sha256, 0)]
    np.testing.assert_array_equal(cache.rgb([0, 1]), commits.pixels(fewer)[0])


def test_nothing_is_written_where_nothing_changed(built: Path, commits: ModuleType) -> None:
    def times() -> dict[Path, int]:
        return {p: p.stat().st_mtime_ns for p in built.rglob("*") if p.name != "lock"}

    listing, before = commits.listed(open(built).records()), times()
    with Writer(built, commits.RECIPE) as writer:
        writer.finish(listing)
    assert times() == before


def test_removed_photos_leave_the_index_and_empty_shards_the_disk(built: Path, commits: ModuleType) -> None:
    records = sorted(open(built).records(), key=lambda r: r.sha256)
    names = shard_names(built)
    with Writer(built, commits.RECIPE) as writer:
        cache = writer.finish(commits.listed(records[7:]))
        assert cache.records() == records[7:]
        assert shard_names(built) == names[1:]
        returned = writer.commit(records[:2], *commits.pixels(records[:2]))
        assert returned.startswith("000004-")
        assert len(writer.finish([])) == 0
    assert shard_names(built) == []
    assert len(open(built)) == 0


def test_label_types_are_those_of_the_whole_listing(tmp_path: Path, commits: ModuleType) -> None:
    values: list[object] = [1, 2, "three", 4.5, None, float("nan"), "😷" * 5000]
    records = [
        commits.record(number, labels={} if value is None else {"x": value, "n": number})
        for number, value in enumerate(values)
    ]
    with Writer(tmp_path / "c", commits.RECIPE) as writer:
        for r in records:
            writer.commit([r], *commits.pixels([r]))
        expected = ["1", "2", "three", "4.5", None, None, "😷" * 5000]
        assert writer.cache.labels("x").tolist() == expected
        assert writer.finish(commits.listed(records)).labels("x").tolist() == expected
        numbers = writer.finish(commits.listed(records[:2]))
        assert numbers.labels("x").dtype == np.int64
        mixed = writer.finish(
            [Listed(records[0].key, None, {"x": 1}, 1, 1), Listed(records[1].key, None, {"x": 2.5}, 1, 1)]
        )
        assert mixed.labels("x").tolist() == [1.0, 2.5]


def test_another_recipe_is_refused_with_what_differs(built: Path, commits: ModuleType) -> None:
    before = commits.contents(built)
    other = Recipe({**commits.RECIPE.identity, "crop": {"margin": 0.5, "square": True}}, {})
    with pytest.raises(CacheError, match=r"crop.margin: 0.4 -> 0.5; crop.square: \(absent\) -> true"):
        Writer(built, other)
    assert commits.contents(built) == before
    with Writer(built, Recipe(commits.RECIPE.identity, {"torch": "9"})):
        assert open(built).recipe.made_with == {"torch": "9"}


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, commits: ModuleType) -> None:
    (tmp_path / "cat.jpg").write_bytes(b"a cat")
    with pytest.raises(CacheError, match="not empty, and not a cache"):
        Writer(tmp_path, commits.RECIPE)
    with pytest.raises(CacheError, match="a file"):
        Writer(tmp_path / "cat.jpg", commits.RECIPE)
    assert [p.name for p in tmp_path.iterdir()] == ["cat.jpg"]


def test_a_second_build_is_refused_until_the_first_is_dead(tmp_path: Path, commits: ModuleType) -> None:
    with subprocess.Popen(
        [*PROGRAM, "hold", str(tmp_path / "c")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as first:
        assert first.stdout
        assert first.stdout.readline() == b"holding\n"
        with pytest.raises(CacheError, match=f"process {first.pid} on"):
            Writer(tmp_path / "c", commits.RECIPE)
        first.kill()
        first.wait()
        Writer(tmp_path / "c", commits.RECIPE).close()


def test_a_forked_worker_does_not_keep_the_lock_of_a_dead_build(tmp_path: Path) -> None:
    code = """
import os, sys
from pathlib import Path
from cache.disk import take_lock
take_lock(Path(sys.argv[1]))
if os.fork() == 0:
    print("forked", flush=True)
    sys.stdin.read()
else:
    os.wait()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout
        assert parent.stdout.readline() == b"forked\n"
        with pytest.raises(CacheError, match="another build"):
            take_lock(tmp_path)
        parent.kill()
        parent.wait()
        os.close(take_lock(tmp_path))  # the worker lives on: it waits for stdin


def test_a_staged_shard_is_seen_when_it_is_adopted(tmp_path: Path, commits: ModuleType) -> None:
    records = [commits.record(number) for number in range(3)]
    with Writer(tmp_path / "c", commits.RECIPE) as writer:
        staged = stage(writer.path, commits.RECIPE, records, *commits.pixels(records))
        assert len(writer.cache) == 0
        name = writer.adopt(staged)
        assert writer.cache.records() == records
    with Writer(tmp_path / "d", commits.RECIPE) as writer:
        assert writer.commit(records, *commits.pixels(records)) == name


def test_each_build_leaves_a_line(built: Path, commits: ModuleType) -> None:
    with Writer(built, commits.RECIPE) as writer:
        writer.log(photos=7, seconds={"decode": 1.5})
        writer.log(photos=0)
    builds = read_builds(built)
    assert [build["photos"] for build in builds] == [7, 0]
    assert builds[0]["seconds"] == {"decode": 1.5}
    assert builds[0]["made_with"] == commits.RECIPE.made_with
    assert builds[0]["index"] == index_names(built)[0]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, commits: ModuleType) -> dict[str, dict[str, bytes]]:
    """The bytes of never interrupted caches: after `build`, and after `change`."""
    path = tmp_path_factory.mktemp("whole") / "cache"
    commits.build(path, done=str)
    built = commits.contents(path)
    commits.change(path, done=str)
    return {"build": built, "change": commits.contents(path)}


def _check_after_kill(work: str, path: Path, committed: list[str]) -> None:
    if (path / "recipe.json").exists():
        cache = open(path)
        assert set(committed) <= set(shard_names(path))
        assert len(cache) == (len(cache.usable()) + cache.table["status"].to_pylist().count("unreadable"))
        assert len(cache.rgb(cache.usable())) == len(cache.usable())
        if work == "build":
            assert len(cache) == 5 * len(shard_names(path))


@pytest.mark.parametrize("work", ["build", "change"])
def test_killed_before_any_step_the_next_build_ends_in_the_same_bytes(
    work: str, tmp_path: Path, commits: ModuleType, killed: Killed, whole: dict[str, dict[str, bytes]]
) -> None:
    start = tmp_path / "start"
    if work == "change":
        commits.build(start, done=str)
    step, code = 0, -9
    while code == -9:
        path = tmp_path / f"{step}"
        if start.exists():
            shutil.copytree(start, path)
        committed, code = killed(work, path, step=step)
        assert code in (-9, 0)
        _check_after_kill(work, path, committed)
        if code == -9:
            assert killed(work, path)[1] == 0
        assert commits.contents(path) == whole[work]
        assert not list(path.rglob("*.tmp"))
        step += 1
    assert step > 20  # there were as many moments to die at


def test_killed_at_random_moments_the_next_build_ends_in_the_same_bytes(
    tmp_path: Path, commits: ModuleType, killed: Killed, whole: dict[str, dict[str, bytes]]
) -> None:
    begin = time.perf_counter()
    killed("build", tmp_path / "timed")
    takes = min(time.perf_counter() - begin, 0.5)  # a stall here would make forty long waits
    rng, path, kills = random.Random(7), tmp_path / "cache", 0
    while kills < 40:
        committed, code = killed("build", path, seconds=rng.uniform(0, takes))
        _check_after_kill("build", path, committed)
        kills += code == -9
        if code == 0 or not rng.randrange(4):
            assert killed("build", path)[1] == 0
            assert commits.contents(path) == whole["build"]
            shutil.rmtree(path)


SHORT_OF_SPACE = """
import errno, subprocess, sys
from pathlib import Path
import numpy as np
from cache.format import CacheError, Recipe, open
from cache.records import Record
from cache.writer import Writer

path, recipe = Path(sys.argv[1]), Recipe({"method": "none", "size": 64}, {})
subprocess.run(sys.argv[2], shell=True, check=True)
pixels, count = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), np.uint8), 0
try:
    with Writer(path, recipe) as writer:
        while count < 100:
            key = [f"{count}/{n}" for n in range(8)]
            records = [Record(key=k, labels={}, sha256=k, bytes=1, mtime_ns=1, rung="whole") for k in key]
            writer.commit(records, pixels)
            count += 1
except CacheError as error:
    print(error)
cache = open(path)
assert len(cache) == 8 * count > 0, (len(cache), count)
assert (cache.rgb(cache.usable())[-8:] == pixels).all()
assert not list(path.rglob("*.tmp"))
"""


def _in_own_mounts(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command where it may mount what it likes, unseen by others; skip where that is not allowed."""
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    try:
        subprocess.run([*unshare, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this system gives no user namespace to mount a small disk in")
    return subprocess.run([*unshare, *command], capture_output=True, text=True, check=False)


def test_a_full_disk_is_told_and_what_was_committed_stays(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    mount = f"mount -t tmpfs -o size=1m none {tmp_path / 'disk'}"
    done = _in_own_mounts(sys.executable, "-c", SHORT_OF_SPACE, str(tmp_path / "disk" / "c"), mount)
    assert done.returncode == 0, done.stderr
    assert "the disk is full; free some space" in done.stdout
    assert "what was committed stays" in done.stdout


def test_a_read_only_file_system_is_told(built: Path, commits: ModuleType) -> None:
    code = f"""
import subprocess, runpy
subprocess.run("mount --bind {built} {built} && mount -o remount,bind,ro {built}", shell=True, check=True)
runpy.run_path({PROGRAM[1]!r})["build"]({built.parent.__class__.__name__}({str(built)!r}))
""".replace("import subprocess", "from pathlib import *\nimport subprocess")
    before = commits.contents(built)
    done = _in_own_mounts(sys.executable, "-c", code)
    assert "CacheError" in done.stderr
    assert "the file system is read-only; choose another --out" in done.stderr
    assert commits.contents(built) == before


def test_a_limit_on_file_sizes_is_told(tmp_path: Path, commits: ModuleType) -> None:
    code = f"""
import resource, runpy, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
runpy.run_path({PROGRAM[1]!r})["build"](Path({str(tmp_path / "c")!r}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "a file would grow past the limit" in done.stderr
    assert len(open(tmp_path / "c")) == 0
    commits.build(tmp_path / "c", done=str)
    assert len(open(tmp_path / "c")) == 20


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_told(built: Path, commits: ModuleType) -> None:
    (built / "shards").chmod(0o555)
    try:
        with Writer(built, commits.RECIPE) as writer, pytest.raises(CacheError, match="not permitted"):
            writer.commit([commits.record(99)], *commits.pixels([commits.record(99)]))
    finally:
        (built / "shards").chmod(0o755)


def test_the_table_reads_back_as_records(built: Path, commits: ModuleType) -> None:
    expected = [commits.record(number) for number in range(19, -1, -1)]
    assert from_table(open(built).table) == expected
