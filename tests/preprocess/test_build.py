"""The pipeline as a user meets it: through its command, on drawn photos and on broken ones."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cache.format import Cache
from cache.format import open as open_cache
from cache.records import Record
from configs import terminal
from preprocess import cut
from preprocess.build import crops
from preprocess.cli import cli
from preprocess.photos import list_sources

ROOT = Path(__file__).parents[2]


def run(*arguments: object) -> int:
    return terminal.run(cli, [str(a) for a in arguments])


def build(source: Path, out: Path, method: str = "det", *more: object) -> Cache:
    segmenter = ("--segmenter", "grabcut") if method == "seg" else ()
    assert run("build", source, "--out", out, "--method", method, *segmenter, *more) == 0
    return open_cache(out)


def same(a: Cache, b: Cache) -> bool:
    """Equal records and equal bytes of pixels, row by row."""
    if a.records() != b.records():
        return False
    rows = a.usable()
    alpha = not a.has_alpha or bool((a.alpha(rows) == b.alpha(rows)).all())
    return alpha and bool((a.rgb(rows) == b.rgb(rows)).all())


def by_key(cache: Cache) -> dict[str, Record]:
    return {record.key: record for record in cache.records()}


@pytest.fixture(scope="module")
def people(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two persons of the drawn set."""
    out = tmp_path_factory.mktemp("people") / "photos"
    for person in sorted((drawn / "photos").iterdir())[:2]:
        shutil.copytree(person, out / person.name)
    return out


@pytest.fixture
def photos(people: Path, tmp_path: Path) -> Path:
    """The same, to change."""
    return Path(shutil.copytree(people, tmp_path / "photos"))


@pytest.fixture(scope="module")
def det(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return build(people, tmp_path_factory.mktemp("cache") / "det")


@pytest.fixture(scope="module")
def seg(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return build(people, tmp_path_factory.mktemp("cache") / "seg", "seg")


def test_every_photo_is_a_record_with_its_labels(det: Cache) -> None:
    records = det.records()
    assert len(records) == 14
    assert {r.status for r in records} == {"ok"}
    assert {r.labels["mask"] for r in records} == {"mask", "incorrect", "normal"}
    assert all(r.group == r.key.split("/")[0] for r in records)
    assert all(r.box and r.landmarks and r.score and r.score > 0.5 for r in records)
    assert det.size == (224, 224)
    assert not det.has_alpha


def test_seg_is_the_crop_of_det_with_alpha_near_the_truth(det: Cache, seg: Cache, drawn: Path) -> None:
    rows = seg.usable()
    assert (seg.rgb(rows) == det.rgb(rows)).all()
    overlaps = []
    for row, record in zip(rows, seg.records(), strict=True):
        truth = cv2.imread(str((drawn / "alpha" / record.key).with_suffix(".png")), cv2.IMREAD_GRAYSCALE)
        cx, cy, width, height, _ = record.crop or (0, 0, 0, 0, 0)
        x0, y0 = round(cx - width / 2), round(cy - height / 2)
        padded = cv2.copyMakeBorder(truth, 999, 999, 999, 999, cv2.BORDER_CONSTANT)
        wanted = cv2.resize(
            padded[y0 + 999 : y0 + 999 + round(height), x0 + 999 : x0 + 999 + round(width)], (224, 224)
        )
        got, wanted = seg.alpha([row])[0] > 127, wanted > 127
        overlaps.append((got & wanted).sum() / (got | wanted).sum())
    assert np.mean(overlaps) > 0.85
    assert all(0 < (r.coverage or 0) < 1 for r in seg.records())


def test_none_is_the_whole_photo(people: Path, tmp_path: Path) -> None:
    cache = build(people, tmp_path / "none", "none", "--size", 64)
    record = cache.records()[0]
    assert (record.width, record.height) == (384, 512)
    assert (record.crop, record.rung, record.box) == ((192, 256, 512, 512, 0), "whole", None)


def test_a_second_build_looks_at_no_photo(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build(photos, tmp_path / "c")

    def fail(*_: Any) -> None:
        raise AssertionError("a photo was read again, or a network loaded")

    monkeypatch.setattr(cut, "load", fail)
    monkeypatch.setattr(cut, "load_tools", fail)
    os.utime(photos / first.records()[0].key)  # another time, the same bytes
    assert run("build", photos, "--out", tmp_path / "c", "--method", "det") == 0
    assert run("update", tmp_path / "c") == 0
    assert len(open_cache(tmp_path / "c")) == 14


def test_only_what_changed_is_made_again(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(photos, tmp_path / "c")
    keys = [s.key for s in list_sources(photos)]
    changed, removed, renamed = keys[1], keys[2], keys[-1]
    flipped = cv2.imread(str(photos / changed))[:, ::-1]
    cv2.imwrite(str(photos / changed), flipped)
    (photos / removed).unlink()
    (photos / renamed).rename(photos / "000009_male_Asian_20_new.jpg")
    shutil.rmtree(photos / "x", ignore_errors=True)
    (photos / "000003_male_Asian_20").mkdir()
    (photos / "000009_male_Asian_20_new.jpg").rename(photos / "000003_male_Asian_20" / "normal.jpg")
    seen: list[str] = []
    load = cut.load
    monkeypatch.setattr(cut, "load", lambda source: seen.append(source.key) or load(source))
    cache = build(photos, tmp_path / "c")
    assert set(seen) == {changed, "000003_male_Asian_20/normal.jpg"}
    monkeypatch.undo()
    assert [r.key for r in cache.records()] == [s.key for s in list_sources(photos)]
    assert same(cache, build(photos, tmp_path / "fresh"))


def test_a_changed_label_touches_no_pixels(people: Path, tmp_path: Path) -> None:
    keys = [s.key for s in list_sources(people)]
    rows = [f"{people / key},{i},p{i // 7}" for i, key in enumerate(keys)]
    table = tmp_path / "list.csv"
    table.write_text("\n".join(["path,label,group", *rows]))
    before = build(table, tmp_path / "c", "none", "--size", 32)
    shards = {p: p.stat().st_mtime_ns for p in (tmp_path / "c" / "shards").rglob("*.npy")}
    table.write_text(
        "\n".join(["path,label,group,more", *(f"{row},x" for row in rows[::-1])]).replace(",3,", ",33,")
    )
    after = build(table, tmp_path / "c", "none", "--size", 32)
    assert shards == {p: p.stat().st_mtime_ns for p in (tmp_path / "c" / "shards").rglob("*.npy")}
    assert sorted(r.labels["label"] for r in after.records()) == sorted({*range(14), 33} - {3})
    assert {r.labels["more"] for r in after.records()} == {"x"}
    assert (before.rgb(range(14)) == after.rgb(range(14))).all()


def test_another_recipe_is_refused_and_says_what_differs(
    det: Cache, people: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("build", people, "--out", det.path, "--method", "det", "--set", "crop.margin=0.3") == 2
    assert "crop.margin: 0.6 -> 0.3" in capsys.readouterr().err


def test_photos_cut_alone_have_the_bytes_of_the_cache(det: Cache, seg: Cache, people: Path) -> None:
    sources = list_sources(people)
    for cache in (det, seg):
        alone = {
            record.key: (record, rgb, alpha)
            for source in sources
            for record, rgb, alpha in crops([source], cache.recipe)
        }
        for row, record in enumerate(cache.records()):
            other, rgb, alpha = alone[record.key]
            assert other == record
            assert (rgb == cache.rgb([row])[0]).all()
            assert alpha is None or (alpha == cache.alpha([row])[0]).all()


def test_broken_photos_are_records_with_a_reason_and_stop_nothing(photos: Path, tmp_path: Path) -> None:
    person = photos / "000001_male_Asian_30"
    person.mkdir()
    whole = next(p for p in sorted(photos.rglob("*.jpg"))).read_bytes()
    for name, data in (
        ("mask1", b""),
        ("mask2", b"hello"),
        ("mask3", whole[: len(whole) // 2]),
        ("normal", whole),
    ):
        (person / f"{name}.jpg").write_bytes(data)
    (person / "mask4.jpg").symlink_to(tmp_path / "nowhere")
    records = by_key(build(photos, tmp_path / "c"))
    assert len(records) == 19
    reasons = {Path(k).stem: r.reason for k, r in records.items() if r.status == "unreadable"}
    assert set(reasons) == {"mask1", "mask2", "mask3", "mask4"}
    assert "empty" in reasons["mask1"]
    assert "not a picture" in reasons["mask2"]
    assert "can't be read" in reasons["mask4"]
    assert records[f"{person.name}/normal.jpg"].status == "ok"


def test_a_faceless_photo_takes_the_box_of_its_person_or_the_centre(photos: Path, tmp_path: Path) -> None:
    blank = np.full((512, 384, 3), 130, np.uint8)
    keys = [s.key for s in list_sources(photos)]
    cv2.imwrite(str(photos / keys[0]), blank)
    (photos / "000001_male_Asian_30").mkdir()
    cv2.imwrite(str(photos / "000001_male_Asian_30" / "normal.jpg"), blank)
    records = by_key(build(photos, tmp_path / "c"))
    leaning = records[keys[0]]
    others = [records[key].box for key in keys[1:7]]
    assert (leaning.rung, leaning.status, leaning.score, leaning.landmarks) == ("person", "ok", None, None)
    assert np.abs(np.median(np.array(others), axis=0) - np.array(leaning.box)).max() <= 0.5
    alone = records["000001_male_Asian_30/normal.jpg"]
    assert (alone.rung, alone.status) == ("centre", "no_face")
    assert alone.reason


def test_a_row_that_leans_on_others_follows_them(photos: Path, tmp_path: Path) -> None:
    keys = [s.key for s in list_sources(photos)]
    cv2.imwrite(str(photos / keys[0]), np.full((512, 384, 3), 130, np.uint8))
    build(photos, tmp_path / "c")
    for key in keys[1:6]:
        cv2.imwrite(str(photos / key), np.roll(cv2.imread(str(photos / key)), 40, axis=1))
    assert same(build(photos, tmp_path / "c"), build(photos, tmp_path / "fresh"))


def test_all_faces_are_kept_when_asked_for(people: Path, tmp_path: Path) -> None:
    shots = [cv2.imread(str(people / s.key)) for s in list_sources(people) if s.key.endswith("normal.jpg")]
    (tmp_path / "p" / "two").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "p" / "two" / "both.jpg"), np.hstack(shots))
    cache = build(tmp_path / "p", tmp_path / "c", "det", "--set", "detect.pick=all")
    assert [(r.key, r.face) for r in cache.records()] == [("two/both.jpg", 0), ("two/both.jpg", 1)]
    assert len(build(tmp_path / "p", tmp_path / "one")) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{tmp}/missing", "--method", "det"], "no such file or folder"),
        (["{tmp}/empty", "--method", "det"], "no photos in it"),
        (["{tmp}/texts", "--method", "det"], "no photos in it"),
        (["{photos}", "--method", "nonsense"], "'nonsense' is not one of"),
        (["{photos}"], "which --method?"),
        (["{photos}", "--method", "det", "--set", "crop.margn=1"], 'did you mean "crop.margin"?'),
        (["{photos}", "--method", "det", "--set", "detect.min_face=7"], "detect.min_face"),
        (["{photos}", "--method", "seg", "--segmenter", "onnx"], "segment.path"),
        (["{photos}", "--method", "det", "--size", "3"], "size"),
        (["{cache}", "--method", "det"], "is a cache, not a folder of photos"),
        (["{photos}", "--method", "det", "--config", "nonsense"], "no preset of that name"),
        (["{photos}", "--method", "det", "--device", "cuda"], "--device cuda"),
    ],
)
def test_a_mistake_is_one_clear_line_and_nothing_is_written(
    arguments: list[str],
    words: str,
    people: Path,
    det: Cache,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if "cuda" in arguments and __import__("torch").cuda.is_available():
        pytest.skip("there is a GPU here")
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("text")
    filled = [a.format(tmp=tmp_path, photos=people, cache=det.path) for a in arguments]
    assert run("build", *filled, "--out", tmp_path / "c") == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert len(captured.err.strip().splitlines()) == 1
    assert captured.out == ""
    assert not (tmp_path / "c").exists()


def test_photos_are_not_written_over_as_a_cache(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(photos.rglob("*"))
    assert run("build", photos, "--out", photos, "--method", "none") == 2
    assert sorted(photos.rglob("*")) == before
    assert str(photos) in capsys.readouterr().err


def many(folder: Path, count: int = 60) -> Path:
    """Small noisy photos of persons of four."""
    rng = np.random.default_rng(1)
    for i in range(count):
        person = folder / f"{i // 4:06d}_male_Asian_30"
        person.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(person / f"mask{i % 4 + 1}.jpg"), rng.integers(0, 255, (80, 60, 3), np.uint8))
    return folder


def small_chunks(*arguments: object) -> list[str]:
    code = "import preprocess.plan as p; p.CHUNK = 4; from preprocess.cli import main; main()"
    return [sys.executable, "-c", code, *map(str, arguments)]


def test_killed_at_any_moment_the_next_run_ends_in_the_same_cache(tmp_path: Path) -> None:
    photos = many(tmp_path / "photos")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    arguments = ("build", photos, "--method", "none", "--size", 32, "--out")
    subprocess.run(
        small_chunks(*arguments, tmp_path / "whole"), env=environment, check=True, capture_output=True
    )
    rng = random.Random(0)
    held = [0]
    for _ in range(30):
        running = subprocess.Popen(
            small_chunks(*arguments, tmp_path / "killed"),
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        shards = tmp_path / "killed" / "shards"
        # Killed a moment after its first new shard, or it would die before it began.
        while running.poll() is None and len(list(shards.glob("0*")) if shards.is_dir() else []) <= held[-1]:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.01))
        running.send_signal(signal.SIGKILL)
        running.communicate()
        if running.returncode == 0:
            break
        assert running.returncode == -signal.SIGKILL
        held.append(len(open_cache(tmp_path / "killed")) // 4)
        assert held[-1] >= held[-2], "a committed shard was lost"
    assert len(held) > 3
    final = build(photos, tmp_path / "killed", "none", "--size", 32)
    assert same(final, open_cache(tmp_path / "whole"))


def test_ctrl_c_ends_in_one_line_and_what_was_committed_stays(tmp_path: Path) -> None:
    photos = many(tmp_path / "photos", 200)
    running = subprocess.Popen(
        small_chunks("build", photos, "--method", "none", "--size", 32, "--out", tmp_path / "c"),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    while running.poll() is None and not list((tmp_path / "c" / "shards").glob("0*")):
        time.sleep(0.002)
    running.send_signal(signal.SIGINT)
    _, error = running.communicate()
    assert running.returncode in (130, 0)  # 0: it was done before the signal came
    if running.returncode:
        assert error.strip().splitlines()[-1].endswith("goes on where it stopped")
        assert "Traceback" not in error
    assert len(open_cache(tmp_path / "c")) >= 4
