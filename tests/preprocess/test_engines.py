"""Builds on a real Ray cluster of two worker processes, some of them killed: equal to the local engine's."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest

from cache.format import open as open_cache
from configs import terminal
from preprocess import plan
from preprocess.cli import cli

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
ROOT = Path(__file__).parents[2]

# Ray leaves sockets and files open
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of this machine's processes with two cores; this process is connected to it."""
    ray = pytest.importorskip("ray", reason="Ray is not installed (figureground[ray])")
    ray.init(
        "local",
        num_cpus=2,
        num_gpus=0,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
        object_store_memory=100 * 2**20,
    )
    yield ray
    ray.shutdown()


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """120 small noisy photos of persons of four, one of them broken; to be cut in chunks of four."""
    monkeypatch.setattr(plan, "CHUNK", 4)
    folder = tmp_path / "photos"
    rng = np.random.default_rng(1)
    for i in range(120):
        person = folder / f"{i // 4:06d}_male_Asian_30"
        person.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(person / f"mask{i % 4 + 1}.jpg"), rng.integers(0, 255, (80, 60, 3), np.uint8))
    (folder / "000003_male_Asian_30" / "mask2.jpg").write_bytes(b"no picture")
    return folder


def build(source: Path, out: Path, *more: object, method: str = "none") -> int:
    return terminal.run(cli, ["build", str(source), "--out", str(out), "--method", method, *map(str, more)])


RAY = ("--engine", "ray", "--jobs", 1)
SMALL = ("--size", 32)


def contents(path: Path) -> dict[str, bytes]:
    """All bytes of a cache that do not tell of the way it was made."""
    told = ("lock", "builds.jsonl", "recipe.json")
    files = (p for p in path.rglob("*") if p.is_file() and p.name not in told)
    return {str(p.relative_to(path)): p.read_bytes() for p in files}


def workers(at: str = "ray::Worker") -> list[psutil.Process]:
    """The cluster's workers of ours; `at`: the method they are at."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.cmdline() and process.cmdline()[0].startswith(at):
                found.append(process)
        except psutil.Error:
            continue
    return found


def shards(out: Path) -> int:
    return len(list((out / "shards").glob("0*-*[0-9a-f]"))) if (out / "shards").is_dir() else 0


def wait_for(what: Any, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.005)


@pytest.mark.usefixtures("cluster")
def test_two_workers_make_the_very_cache_that_one_process_makes(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pids: set[int] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            pids.update(process.pid for process in workers("ray::Worker.cut"))

    watching = threading.Thread(target=watch)
    watching.start()
    assert build(photos, tmp_path / "ray", *SMALL, *RAY) == 0
    over.set()
    watching.join()
    assert len(pids) == 2
    assert capsys.readouterr().out == f"{tmp_path / 'ray'}\n"
    assert build(photos, tmp_path / "local", *SMALL) == 0
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")
    ray, local = open_cache(tmp_path / "ray"), open_cache(tmp_path / "local")
    assert ray.recipe == local.recipe
    assert ray.records() == local.records()
    assert len(ray.shards) == 30
    wait_for(lambda: not workers())  # they give their room back


@pytest.mark.usefixtures("cluster")
def test_faces_are_found_alike(drawn: Path, tmp_path: Path) -> None:
    people = tmp_path / "people"
    for person in sorted((drawn / "photos").iterdir())[:2]:
        shutil.copytree(person, people / person.name)
    assert build(people, tmp_path / "ray", "--engine", "ray", "--jobs", 2, method="det") == 0
    assert build(people, tmp_path / "local", method="det") == 0
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")
    assert {record.status for record in open_cache(tmp_path / "ray").records()} == {"ok"}


@pytest.mark.usefixtures("cluster")
def test_a_killed_worker_is_replaced_and_nothing_is_lost_or_doubled(
    photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out, killed = tmp_path / "ray", list[int]()

    def kill() -> None:
        wait_for(lambda: shards(out))
        for process in workers():
            process.kill()
            killed.append(shards(out))

    killing = threading.Thread(target=kill)
    killing.start()
    assert build(photos, out, *SMALL, *RAY) == 0
    killing.join()
    assert killed
    assert max(killed) < 30, "killed when all was done"
    assert "died; its photos go to another" in capfd.readouterr().err
    assert build(photos, tmp_path / "local", *SMALL) == 0
    assert contents(out) == contents(tmp_path / "local")


@pytest.mark.parametrize(
    "how", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)], ids=["kill", "ctrl-c"]
)
def test_the_driver_stopped_the_next_run_goes_on(
    cluster: Any, photos: Path, tmp_path: Path, how: signal.Signals
) -> None:
    out = tmp_path / "ray"
    code = "import preprocess.plan as p; p.CHUNK = 4; from preprocess.cli import main; main()"
    arguments = ["build", photos, "--out", out, "--method", "none", *SMALL, *RAY]
    driver = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "RAY_ADDRESS": cluster.get_runtime_context().gcs_address,
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(lambda: shards(out) or driver.poll() is not None)
        driver.send_signal(how)
        _, error = driver.communicate(timeout=60)
    finally:
        driver.kill()
    held = shards(out)
    assert 0 < held < 30, error
    if how == signal.SIGINT:
        assert driver.returncode == 130
        assert error.strip().splitlines()[-1].endswith("goes on where it stopped")
        assert "Traceback" not in error
    assert len(open_cache(out)) == 4 * held
    wait_for(lambda: not workers())  # nothing is left running on the cluster
    before = {path: path.stat().st_mtime_ns for path in (out / "shards").glob("0*/rgb.npy")}
    assert build(photos, out, *SMALL, *RAY) == 0
    assert before.items() <= {p: p.stat().st_mtime_ns for p in (out / "shards").glob("0*/rgb.npy")}.items()
    assert build(photos, tmp_path / "local", *SMALL) == 0
    assert contents(out) == contents(tmp_path / "local")


@pytest.mark.usefixtures("cluster")
def test_a_mistake_is_one_clear_line(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, words in (
        (("--jobs", 3), "no node of the Ray cluster has so many cores (the largest has 2)"),
        (("--device", "cuda"), "no node of the Ray cluster has a GPU"),
    ):
        assert build(photos, tmp_path / "c", "--engine", "ray", *arguments) == 2
        error = capsys.readouterr().err.strip()
        assert words in error
        assert len(error.splitlines()) == 1
    network = tmp_path / "photos" / "000003_male_Asian_30" / "mask2.jpg"
    chosen = ("--segmenter", "onnx", "--set", f"segment.path={network}")
    assert build(photos, tmp_path / "c", *RAY, *chosen, method="seg") == 2
    assert f"{network}: onnxruntime can't open it" in capsys.readouterr().err, "a worker's mistake is told"
    assert not (tmp_path / "c").exists()


def test_without_ray_the_error_names_what_to_install(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert build(photos, tmp_path / "c", "--engine", "ray") == 2
    assert "pip install 'figureground[ray]'" in capsys.readouterr().err
