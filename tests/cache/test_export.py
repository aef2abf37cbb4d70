"""Exports: the right pixels under the right, safe and different names, whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import os
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cache.export import FORMATS, Look, blank, encode, export
from cache.format import Cache, Recipe, open
from cache.names import different, file_names, safe
from cache.records import Record
from cache.writer import Writer
from configs.errors import UserError

HOSTILE = [
    "../../etc/passwd.jpg",
    "/etc/passwd.jpg",
    "a\0b.jpg",
    "con.jpg",
    "..",
    ".hidden.jpg",
    "a:b|c?.png",
    "x" * 300 + ".jpg",
    "x" * 301 + ".jpg",
    "same/a.jpg",
    "same/a.png",
    "same/A.jpg",
    "other/a.jpg",
    "é😷.jpg",
    "e\u0301😷.jpg",
    " spaces . .jpg",
    "back\\slash.jpg",
    "no ending",
    "dots.in.name.jpg",
]


@pytest.fixture(scope="module")
def seg(tmp_path_factory: pytest.TempPathFactory, commits: ModuleType) -> Cache:
    """A cache with alpha, of three persons with photos of equal names, and an unreadable photo."""
    records = [
        commits.record(
            number,
            key=f"person {number // 7}/mask{number % 7}.jpg",
            group=f"person {number // 7}",
            labels={"mask": ("mask", "normal")[number % 2], "age": 20 + number},
        )
        for number in range(21)
    ]
    with Writer(tmp_path_factory.mktemp("seg") / "c", commits.RECIPE) as writer:
        writer.commit(records, *commits.pixels(records))
        return writer.finish(commits.listed(records))


def cache_of(path: Path, commits: ModuleType, records: list[Record], method: str = "seg") -> Cache:
    recipe = Recipe({"method": method, "size": [4, 6]})
    with Writer(path, recipe) as writer:
        writer.commit(records, *commits.pixels(records, recipe))
        return writer.finish(commits.listed(records))


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def expected(cache: Cache, view: str = "figure", fill: int = 0) -> dict[tuple[str, int], np.ndarray]:
    """By key and face the picture as it should be, worked out in floating point."""
    rows = cache.usable()
    rgb, alpha = cache.rgb(rows).astype(float), cache.alpha(rows)[..., None] / 255
    alpha = {"figure": alpha, "background": 1 - alpha, "full": np.ones_like(alpha)}[view]
    pictures = np.floor(rgb * alpha + fill * (1 - alpha) + 0.5)
    return {(r.key, r.face): p for r, p in zip(cache.records(rows), pictures, strict=True)}


def test_class_folders(seg: Cache, tmp_path: Path) -> None:
    assert export(seg, tmp_path / "out", format="folders", look=Look("figure"), by=["mask"]) == 18
    rows = table(tmp_path / "out" / "records.csv")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["mask", "normal", "records.csv"]
    assert (
        len(rows) == sum(len(list((tmp_path / "out" / name).iterdir())) for name in ("mask", "normal")) == 18
    )
    pictures, records = expected(seg), {r.key: r for r in seg.records()}
    for row in rows:
        folder, name = row["file"].split("/")
        assert folder == row["mask"] == records[row["key"]].labels["mask"]
        assert name == row["key"].replace("/", "__").replace(".jpg", ".png")
        assert int(row["age"]) == records[row["key"]].labels["age"]
        assert row["group"] == records[row["key"]].group
        picture = np.array(Image.open(tmp_path / "out" / row["file"]))
        np.testing.assert_array_equal(picture, pictures[row["key"], 0])


def test_class_folders_as_torchvision_reads_them(seg: Cache, tmp_path: Path) -> None:
    from torchvision.datasets import ImageFolder

    export(seg, tmp_path / "out", format="folders", look=Look("full"), by=["mask"])
    read = ImageFolder(str(tmp_path / "out"))
    assert read.classes == ["mask", "normal"]
    assert len(read) == 18


def test_classes_of_several_labels(seg: Cache, tmp_path: Path) -> None:
    export(seg, tmp_path / "out", format="folders", look=Look("full"), by=["mask", "age"])
    names = {p.name for p in (tmp_path / "out").iterdir()} - {"records.csv"}
    assert names == {f"{r.labels['mask']}_{r.labels['age']}" for r in seg.records() if r.status == "ok"}


def test_names_stay_where_they_tell_the_photos_apart(tmp_path: Path, commits: ModuleType) -> None:
    records = [
        commits.record(n, key=f"p{n}/photo {n}.jpg", labels={"x": n % 2} if n else {}) for n in range(4)
    ]
    cache = cache_of(tmp_path / "c", commits, [*records, replace(records[0], face=1)])
    export(cache, tmp_path / "out", format="folders", look=Look("full"))
    files = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.png"))
    assert files == [
        "0/photo 2.png", "1/photo 1.png", "1/photo 3.png", "unknown/photo 0.png", "unknown/photo 0_face1.png"
    ]  # fmt: skip


@pytest.mark.parametrize("image", ["png", "webp", "jpeg"])
@pytest.mark.parametrize("view", ["figure", "background", "full"])
def test_pictures_of_every_kind(seg: Cache, tmp_path: Path, image: str, view: str) -> None:
    export(seg, tmp_path / "out", format="huggingface", look=Look(view, "white", image, 100))
    pictures = expected(seg, view, 255)
    for row in table(tmp_path / "out" / "metadata.csv"):
        picture = Image.open(tmp_path / "out" / row["file_name"])
        assert picture.format == image.upper()
        difference = np.abs(np.array(picture) - pictures[row["key"], 0])
        assert (
            difference.max() == 0 if image == "png" else difference.mean() < 60
        )  # noise, the worst for both


@pytest.mark.parametrize("image", ["png", "webp"])
def test_transparent_pictures_keep_alpha_and_hide_the_room(seg: Cache, image: str) -> None:
    rows = seg.usable()[:4]
    alpha = seg.alpha(rows) // 128 * 255
    for rgb, mask in zip(seg.rgb(rows), alpha, strict=True):
        picture = np.array(Image.open(io.BytesIO(encode(rgb, mask, Look("figure", "transparent", image)))))
        np.testing.assert_array_equal(picture[..., 3], mask)
        if image == "png":
            np.testing.assert_array_equal(picture[..., :3], rgb * (mask > 0)[..., None])


@given(st.integers(0, 2**32), st.sampled_from(["black", "white", "#ff8800"]))
def test_blanking_is_exact_to_half_a_step(seed: int, fill: str) -> None:
    rng = np.random.default_rng(seed)
    rgb, alpha = (
        rng.integers(0, 256, (5, 4, 3), np.uint8),
        rng.choice([0, 1, 127, 254, 255], (5, 4)).astype("u1"),
    )
    colour = np.array({"black": (0, 0, 0), "white": (255, 255, 255), "#ff8800": (255, 136, 0)}[fill])
    weight = alpha[..., None] / 255
    assert np.abs(blank(rgb, alpha, fill) - (rgb * weight + colour * (1 - weight))).max() <= 0.5
    np.testing.assert_array_equal(blank(rgb, np.full_like(alpha, 255), fill), rgb)
    np.testing.assert_array_equal(blank(rgb, alpha * 0, fill), np.broadcast_to(colour, rgb.shape))


def samples(folder: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Samples of tars as WebDataset takes them: files in a row of equal name up to the first dot."""
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            current: dict[str, bytes] = {}
            last = None
            for member in tar:
                name, _, ending = member.name.partition(".")
                if name != last and last is not None:
                    yield last, current
                    current = {}
                last = name
                file = tar.extractfile(member)
                assert file
                current[ending] = file.read()
            if last is not None:
                yield last, current


def test_webdataset(seg: Cache, tmp_path: Path) -> None:
    look = Look("figure", "white")
    export(seg, tmp_path / "out", format="webdataset", look=look, by=["mask"], per_tar=5)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "classes.txt", *(f"photos-{n:06d}.tar" for n in range(4))
    ]  # fmt: skip
    classes = (tmp_path / "out" / "classes.txt").read_text().split()
    found, pictures = dict(samples(tmp_path / "out")), expected(seg, "figure", 255)
    assert len(found) == 18
    for files in found.values():
        about: dict[str, Any] = json.loads(files["json"])
        assert set(files) == {"png", "json", "cls"}
        assert classes[int(files["cls"])] == about["mask"]
        picture = np.array(Image.open(io.BytesIO(files["png"])))
        np.testing.assert_array_equal(picture, pictures[about["key"], about["face"]])
    export(seg, tmp_path / "again", format="webdataset", look=look, by=["mask"], per_tar=5, jobs=1)
    for path in (tmp_path / "out").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_huggingface_splits_keep_persons_apart(tmp_path: Path, commits: ModuleType) -> None:
    records = [
        commits.record(7 * n, key=f"{n}.jpg", group=f"p{n // 4}" if n < 36 else None) for n in range(40)
    ]
    cache = cache_of(tmp_path / "c", commits, records)
    shares = {"validation": 0.2, "test": 0.3}
    export(cache, tmp_path / "out", format="huggingface", look=Look("full"), split=shares)
    persons = {}
    for split in ("train", "validation", "test"):
        rows = table(tmp_path / "out" / split / "metadata.csv")
        assert all((tmp_path / "out" / split / row["file_name"]).is_file() for row in rows)
        persons[split] = {row["group"] or row["key"] for row in rows}
    assert not persons["train"] & persons["validation"] | persons["train"] & persons["test"]
    assert {split: len(names) for split, names in persons.items()} == {"train": 7, "validation": 3, "test": 3}
    assert sum(len(list((tmp_path / "out" / s / "images").iterdir())) for s in persons) == 40


@pytest.mark.parametrize("format", FORMATS)
def test_hostile_names_lead_nowhere_and_stay_apart(tmp_path: Path, commits: ModuleType, format: str) -> None:
    labels = ["../up", "..", "", "a/b", "A_B", "a\0b", "nul", "records.csv", "unknown", "x" * 400]
    records = [
        commits.record(7 * n, key=key, labels={"x": labels[n % len(labels)]}) for n, key in enumerate(HOSTILE)
    ]
    cache = cache_of(tmp_path / "c", commits, records)
    export(cache, tmp_path / "deep" / "out", format=format, look=Look("figure"), by=["x"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c", "deep"]
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["out"]
    if format == "webdataset":
        found = dict(samples(tmp_path / "deep" / "out"))
        assert len({name.casefold() for name in found}) == len(found) == len(HOSTILE)
        assert not [name for name in found if "/" in name or "\\" in name or name.startswith(".")]
        assert {json.loads(files["json"])["key"] for files in found.values()} == set(HOSTILE)
    else:
        files = [str(p.relative_to(tmp_path / "deep" / "out")) for p in (tmp_path / "deep").rglob("*.png")]
        assert len({file.casefold() for file in files}) == len(files) == len(HOSTILE)
    pictures = expected(cache)
    for path in (tmp_path / "deep" / "out").glob("*.csv"):
        for row in table(path):
            file = tmp_path / "deep" / "out" / (row.get("file") or row["file_name"])
            np.testing.assert_array_equal(np.array(Image.open(file)), pictures[row["key"], 0])


@given(st.text())
def test_a_safe_name_is_one_plain_part(text: str) -> None:
    name = safe(text)
    assert name
    assert not set(name) & set('/\\:*?"<>|\0\n')
    assert name not in (".", "..")
    assert len(name.encode(errors="replace")) <= 180
    assert safe(name) == name


@given(st.lists(st.text("aAbB~2/.", max_size=4)))
def test_names_differ_on_every_system(names: list[str]) -> None:
    out = different(names)
    assert len({name.casefold() for name in out}) == len(out) == len(names)
    assert all(new.startswith(old) for new, old in zip(out, names, strict=True))
    keys = file_names(names, [0] * len(names), [""] * len(names))
    assert len({name.casefold() for name in keys}) == len(names)


def test_some_statuses_alone(tmp_path: Path, commits: ModuleType) -> None:
    records = [commits.record(n, status=s, rung="centre") for n, s in enumerate(["ok", "no_face", "ok"])]
    cache = cache_of(tmp_path / "c", commits, records)
    assert export(cache, tmp_path / "o", format="huggingface", look=Look("full"), statuses=["no_face"]) == 1
    with pytest.raises(UserError, match="no photo to export"):
        export(cache, tmp_path / "p", format="huggingface", look=Look("full"), statuses=["no_figure"])
    assert not (tmp_path / "p").exists()


def test_mistakes_are_told_and_nothing_is_written(seg: Cache, tmp_path: Path, commits: ModuleType) -> None:
    plain = cache_of(tmp_path / "det", commits, [commits.record(0)], "det")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    out, folders, full = tmp_path / "out", {"format": "folders", "by": ["mask"]}, Look("full")
    mistakes: list[tuple[str, Cache, Path, dict[str, Any]]] = [
        ("needs alpha", plain, out, {**folders, "look": Look("figure")}),
        ("not an empty folder", seg, tmp_path / "full", {**folders, "look": full}),
        ("not an empty folder", seg, tmp_path / "full" / "mine.txt", {**folders, "look": full}),
        ("inside the cache", seg, seg.path / "out", {**folders, "look": full}),
        ('--by mesk: .*did you mean "mask"', seg, out, {**folders, "by": ["mesk"], "look": full}),
        ("which labels make the class folders", seg, out, {"format": "folders", "look": full}),
        ("--format zip: not known", seg, out, {"format": "zip", "look": full}),
        ("--split: only for", seg, out, {**folders, "look": full, "split": {"test": 0.5}}),
        ("--split: give each", seg, out, {"format": "huggingface", "look": full, "split": {"../t": 0.5}}),
        ("--split: give each", seg, out, {"format": "huggingface", "look": full, "split": {"t": 1.5}}),
    ]
    for message, cache, where, settings in mistakes:
        with pytest.raises(UserError, match=message):
            export(cache, where, **settings)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["det", "full"]
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["mine.txt"]


def test_looks_that_can_not_be() -> None:
    for message, given_ in (
        ("JPEG knows no transparency", {"fill": "transparent", "image": "jpeg"}),
        ("--fill puce-ish: no colour", {"fill": "puce-ish"}),
        ('--view figures: .*did you mean "figure"', {"view": "figures"}),
        ("--image gif: not known", {"image": "gif"}),
    ):
        with pytest.raises(UserError, match=message):
            Look(**given_)


def test_an_export_that_fails_leaves_nothing(seg: Cache, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        target = Path("/proc/self/out")  # where even root can't make a folder
    else:
        target = tmp_path / "closed" / "out"
        target.parent.mkdir()
        target.parent.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(UserError, match="nothing was exported"):
        export(seg, target, format="huggingface", look=Look("full"))
    assert not target.exists()


def test_an_empty_folder_will_do_and_left_overs_go(seg: Cache, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / ".out.unfinished").mkdir()
    (tmp_path / ".out.unfinished" / "half.png").write_bytes(b"")
    export(seg, tmp_path / "out", format="huggingface", look=Look("full"))
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert open(seg.path).records() == seg.records()
