"""The `cache` command as people run it: what it prints, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from cache.cli import cli
from cache.format import open, shard_names
from cache.writer import Writer
from configs import terminal

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def built(tmp_path: Path, commits: ModuleType) -> Path:
    """A finished cache of four shards, with the log of a build."""
    path = tmp_path / "built"
    commits.build(path, done=str)
    with Writer(path, commits.RECIPE) as writer:
        writer.log(new=20, seconds={"total": 1.25})
    return path


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def run(capsys: Capture, *arguments: object) -> tuple[int, str, str]:
    code = terminal.run(cli, [str(argument) for argument in arguments])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_info_tells_what_is_there(built: Path, capsys: Capture) -> None:
    code, out, err = run(capsys, "info", built)
    assert (code, err) == (0, "")
    for text in (
        "20 records of 20 photos of 7 persons, 6x4 px with alpha",
        "in 4 shards",
        "ok 18  unreadable 2",
        "plain 18  (none) 2",
        "mask 10  normal 10",
        "crop.margin: 0.4",
        "source: photos",
        "new: 20  seconds.total: 1.25",
    ):
        assert text in out
    assert "of a build that was stopped" not in out
    assert "changed or removed" not in out


def test_info_as_json(built: Path, capsys: Capture, commits: ModuleType) -> None:
    with Writer(built, commits.RECIPE) as writer:
        writer.finish(commits.listed(open(built).records()[:12]))
        writer.commit([commits.record(91)], *commits.pixels([commits.record(91)]))
    found = json.loads(run(capsys, "info", built, "--json")[1])
    assert found["records"] == 13
    assert found["status"] == {"ok": 12, "unreadable": 1}
    assert found["labels"]["age"]["counts"]["111"] == 1
    assert found["bytes"] == sum(p.stat().st_size for p in built.rglob("*") if p.is_file())
    assert found["unfinished_shards"] == 1
    # Photos 8 to 19 stay: shard 0 goes, and of shard 1 photos 5 and 7 are dead (6 has no pixels).
    assert found["dead_share"] == pytest.approx(2 / 14)
    assert found["recipe"]["identity"] == commits.RECIPE.identity
    assert found["builds"][0]["new"] == 20
    text = run(capsys, "info", built)[1]
    assert "14.3% of the crops are of photos that were changed or removed since" in text
    assert "1 shards of a build that was stopped" in text


def test_info_of_many_values_stays_short(tmp_path: Path, capsys: Capture, commits: ModuleType) -> None:
    commits.many(tmp_path / "c", 1000, 500)
    code, out, _ = run(capsys, "info", tmp_path / "c")
    assert code == 0
    line = next(line for line in out.splitlines() if line.startswith("age:"))
    assert "least 18" in line
    assert "most 69" in line
    assert max(map(len, out.splitlines())) < 300


def test_verify_says_whole_or_names_the_damage(built: Path, capsys: Capture) -> None:
    code, out, _ = run(capsys, "verify", built)
    assert (code, out.split(": ")[1].split(" ")[0]) == (0, "whole")
    cache = open(built)
    row = int(cache.usable()[0])
    shard, slot = cache.table["shard"][row].as_py(), cache.table["slot"][row].as_py()
    flip(built / "shards" / shard / "rgb.npy", 128 + 72 * slot)
    code, out, _ = run(capsys, "verify", built)
    assert code == 1
    assert f"shards/{shard}: the pixels of 1 rows are damaged; photos hit: {cache.table['key'][row]}" in out
    assert f"to mend it: cache verify {built} --repair" in out
    found = json.loads(run(capsys, "verify", built, "--json")[1])
    assert found["ok"] is False
    assert found["keys"] == [cache.table["key"][row].as_py()]
    assert found["damages"][0]["shard"] == shard


def test_repair_without_the_photos_changes_nothing(built: Path, capsys: Capture, commits: ModuleType) -> None:
    flip(built / "shards" / shard_names(built)[0] / "rgb.npy", 200)
    before = commits.contents(built)
    code, _, err = run(capsys, "verify", built, "--repair")
    assert code == 2
    assert "the photos it was made of (photos) are not there" in err
    assert commits.contents(built) == before


def test_repair_makes_the_damaged_photos_again(tmp_path: Path, capsys: Capture) -> None:
    from preprocess.cli import cli as preprocess

    rng = np.random.default_rng(0)
    for number in range(6):
        folder = tmp_path / "photos" / f"class {number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 30, 3), np.uint8)).save(folder / f"{number}.png")
    path = tmp_path / "cache"
    arguments = ["build", tmp_path / "photos", "--method", "none", "--size", "16", "--out", path]
    assert terminal.run(preprocess, list(map(str, arguments))) == 0
    whole = open(path)
    rows, records, pixels = whole.usable(), whole.records(), whole.rgb(whole.usable())
    flip(path / "shards" / whole.shards[0] / "rgb.npy", 128 + 2 * 16 * 16 * 3 + 5)
    flip(path / "recipe.json", 40)
    capsys.readouterr()
    code, out, err = run(capsys, "verify", path, "--repair")
    assert code == 0, out + err
    assert "1 photos to be made again" in err
    assert "recipe.json: damaged" in out
    assert "whole" in out.splitlines()[-1]
    mended = open(path)
    assert mended.records() == records
    np.testing.assert_array_equal(mended.rgb(rows), pixels)
    assert mended.recipe == whole.recipe


def test_export_writes_and_prints_the_folder(built: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out"
    assert run(capsys, "export", built, out, "--by", "mask", "--fill", "white") == (
        0,
        f"{out}\n",
        "18 photos\n",
    )
    assert len(list(out.rglob("*.png"))) == 18
    assert run(capsys, "export", built, out, "--by", "mask")[0] == 2
    hub = ["--format", "huggingface", "--image", "jpeg", "--split", "test=0.3"]
    assert run(capsys, "export", built, tmp_path / "hub", *hub)[0] == 0
    assert (tmp_path / "hub" / "test" / "metadata.csv").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "PHOTOS"], "a folder of photos, not a cache: run preprocess build"),
        (["verify", "PHOTOS"], "a folder of photos, not a cache: run preprocess build"),
        (["export", "PHOTOS", "OUT"], "a folder of photos, not a cache: run preprocess build"),
        (["info", "NONE"], "no such folder"),
        (["verify", "NONE", "--repair"], "no such folder"),
        (["export", "NONE", "OUT"], "no such folder"),
        (["info", "PHOTO"], "a file, not a cache"),
        (["verify", "PHOTO"], "a file, not a cache"),
        (["export", "BUILT", "OUT"], "--by: which labels make the class folders? known: age, mask"),
        (["export", "BUILT", "OUT", "--by", "mask", "--split", "half"], "write it as NAME=SHARE"),
        (["export", "BUILT", "OUT", "--by", "mask", "--fill", "x"], "--fill x: no colour"),
    ],
)
def test_mistakes_end_in_one_line(
    built: Path, tmp_path: Path, capsys: Capture, arguments: list[str], message: str
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.jpg").write_bytes(b"a photo")
    places = {
        "BUILT": built,
        "PHOTOS": tmp_path / "photos",
        "PHOTO": tmp_path / "photos" / "1.jpg",
        "NONE": tmp_path / "none",
        "OUT": tmp_path / "out",
    }
    code, out, err = run(capsys, *[places.get(argument, argument) for argument in arguments])
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["built", "photos"]
    assert [p.name for p in (tmp_path / "photos").iterdir()] == ["1.jpg"]
