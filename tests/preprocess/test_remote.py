"""Photos and caches on a real S3 server on this machine: the same caches as on its disk."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cache.format import Cache
from cache.format import open as open_cache
from cache.remote import address_of
from configs import terminal
from preprocess import cut
from preprocess.cli import cli
from preprocess.photos import list_sources

ROOT = Path(__file__).parents[2]

# aiobotocore leaves connections to the collector
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of an S3 server of this machine."""
    pytest.importorskip("s3fs", reason="s3fs is not installed (figureground[s3])")
    pytest.importorskip("moto", reason="moto is not installed (moto[server])")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{address}/moto-api/", timeout=5).close()
                break
            except OSError:
                assert running.poll() is None, "the server stopped"
                time.sleep(0.1)
        yield address
    finally:
        running.kill()
        running.wait()


@pytest.fixture
def s3(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The server's file system, with an empty bucket; addresses lead to it, mirrors are the test's own."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": server,
        "FIGUREGROUND_CACHE": str(tmp_path / "mirrors"),
    }.items():
        monkeypatch.setenv(name, value)
    import s3fs

    urllib.request.urlopen(urllib.request.Request(f"{server}/moto-api/reset", method="POST")).close()
    fs = s3fs.S3FileSystem(use_listings_cache=False, skip_instance_cache=True)
    fs.mkdir("bucket")
    return fs


@pytest.fixture
def photos(s3: Any, tmp_path: Path) -> Path:
    """24 small noisy photos of persons of four, here and at s3://bucket/photos."""
    folder = tmp_path / "photos"
    rng = np.random.default_rng(1)
    for i in range(24):
        person = folder / f"{i // 4:06d}_male_Asian_30"
        person.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(person / f"mask{i % 4 + 1}.jpg"), rng.integers(0, 255, (80, 60, 3), np.uint8))
    s3.put(str(folder), "bucket/photos", recursive=True)
    return folder


def build(source: object, out: object, *more: object) -> int:
    settings = ("--method", "none", "--size", "32", *more)
    return terminal.run(cli, ["build", str(source), "--out", str(out), *map(str, settings)])


def pixels_and_records(cache: Cache) -> tuple[bytes, list[tuple[Any, ...]]]:
    told = [(r.key, r.group, r.labels, r.sha256, r.bytes, r.crop, r.status) for r in cache.records()]
    return cache.rgb(cache.usable()).tobytes(), told


def test_an_address_is_known_though_a_path_lost_a_slash() -> None:
    assert address_of("s3://bucket/k") == address_of(Path("s3://bucket/k/")) == "s3://bucket/k"
    assert address_of(Path("file:///tmp/x")) == "file:///tmp/x"
    assert address_of("gs://b/k") == "gs://b/k"
    assert address_of("photos/s3") is None
    assert address_of("/tmp/a:b") is None


@pytest.mark.usefixtures("s3")
def test_from_bucket_to_bucket_is_as_from_disk_to_disk(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build("s3://bucket/photos", "s3://bucket/cache") == 0
    assert capsys.readouterr().out == "s3://bucket/cache\n"
    assert build(photos, tmp_path / "local") == 0
    local = open_cache(tmp_path / "local")
    assert pixels_and_records(open_cache("s3://bucket/cache")) == pixels_and_records(local)
    monkeypatch.setenv("FIGUREGROUND_CACHE", str(tmp_path / "another machine"))
    assert pixels_and_records(open_cache("s3://bucket/cache")) == pixels_and_records(local)

    def fail(*_: Any) -> None:
        raise AssertionError("a photo was cut again")

    monkeypatch.setattr(cut, "load", fail)
    monkeypatch.setattr(cut, "load_tools", fail)
    assert build("s3://bucket/photos", "s3://bucket/cache") == 0
    assert terminal.run(cli, ["update", "s3://bucket/cache"]) == 0


def test_what_changed_in_the_bucket_is_made_again_and_the_old_is_taken_away(s3: Any, photos: Path) -> None:
    assert build("s3://bucket/photos", "s3://bucket/cache") == 0
    before = {source.key: source.mtime_ns for source in list_sources(Path("s3://bucket/photos"))}
    first, second = sorted(photos.rglob("*.jpg"))[:2]
    key = first.relative_to(photos).as_posix()
    data = second.read_bytes()
    s3.pipe_file(f"bucket/photos/{key}", data)
    after = {source.key: source.mtime_ns for source in list_sources(Path("s3://bucket/photos"))}
    assert {k for k in after if after[k] != before[k]} == {key}
    s3.rm("bucket/photos/000005_male_Asian_30", recursive=True)
    assert build("s3://bucket/photos", "s3://bucket/cache") == 0
    cache = open_cache("s3://bucket/cache")
    assert len(cache) == 20
    assert (cache.rgb([0]) == cache.rgb([1])).all()
    assert len([name for name in s3.find("bucket/cache") if "/index-" in name]) == 1


def test_a_list_of_photos_in_a_bucket(s3: Any, photos: Path) -> None:
    keys = [path.relative_to(photos).as_posix() for path in sorted(photos.rglob("*.jpg"))]
    text = "\n".join(["path,label", *(f"{key},{i}" for i, key in enumerate(keys)), "absent.jpg,9"])
    s3.pipe_file("bucket/photos/list.csv", text.encode())
    assert build("s3://bucket/photos/list.csv", "s3://bucket/cache") == 0
    records = {record.key: record for record in open_cache("s3://bucket/cache").records()}
    assert len(records) == 25
    assert records[keys[7]].labels == {"label": 7}
    assert records["absent.jpg"].status == "unreadable"


def test_killed_the_next_run_goes_on_from_what_was_sent(
    s3: Any, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("preprocess.plan.CHUNK", 4)
    code = (
        "import os, signal, cache.remote as r, preprocess.plan as p\n"
        "p.CHUNK, send, sent = 4, r.Mirror._send, []\n"
        "def dying(mirror, name):\n"
        "    sent.append(name)\n"
        "    if len(sent) == 7: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    send(mirror, name)\n"
        "r.Mirror._send = dying\n"
        "from preprocess.cli import main; main()"
    )
    arguments = [
        "build",
        "s3://bucket/photos",
        "--out",
        "s3://bucket/cache",
        "--method",
        "none",
        "--size",
        "32",
    ]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    held = open_cache("s3://bucket/cache")
    assert 0 < len(held) < 24
    before = {name: s3.info(name)["LastModified"] for name in s3.find("bucket/cache/shards")}
    assert build("s3://bucket/photos", "s3://bucket/cache") == 0
    assert build(photos, tmp_path / "local") == 0
    final, local = open_cache("s3://bucket/cache"), open_cache(tmp_path / "local")
    assert pixels_and_records(final) == pixels_and_records(local)
    kept = [f"bucket/cache/shards/{name}/records.arrow" for name in held.shards]
    assert {name: before[name] for name in kept} == {name: s3.info(name)["LastModified"] for name in kept}


@pytest.mark.usefixtures("s3")
def test_a_cache_at_a_file_address(photos: Path, tmp_path: Path) -> None:
    assert build(f"file://{photos}", f"file://{tmp_path}/cache") == 0
    assert build(photos, tmp_path / "local") == 0
    there, local = open_cache(f"file://{tmp_path}/cache"), open_cache(tmp_path / "local")
    assert pixels_and_records(there) == pixels_and_records(local)
    assert pixels_and_records(open_cache(tmp_path / "cache")) == pixels_and_records(local)


def test_a_mistake_is_one_clear_line(
    s3: Any, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(source: object, out: object) -> str:
        assert build(source, out) == 2
        error = capsys.readouterr().err.strip()
        assert len(error.splitlines()) == 1
        return error

    assert "s3://nowhere/photos: no such bucket or folder" in told("s3://nowhere/photos", "s3://bucket/cache")
    assert "s3://nowhere/cache" in told(photos, "s3://nowhere/cache")
    assert "Protocol not known: nonsense" in told("nonsense://b/photos", "s3://bucket/cache")
    s3.pipe_file("bucket/texts/a.txt", b"text")
    assert "no photos in it" in told("s3://bucket/texts", "s3://bucket/cache")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    type(s3).clear_instance_cache()
    from preprocess.remote import _root

    _root.cache_clear()
    assert "no credentials" in told("s3://bucket/photos", "s3://bucket/cache")


def test_without_s3fs_the_error_names_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import fsspec.registry

    assert fsspec.registry
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    assert build("s3://bucket/photos", "/nonexistent/c") == 2
    assert "pip install 'figureground[s3]'" in capsys.readouterr().err
