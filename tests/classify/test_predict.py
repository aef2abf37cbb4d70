"""Predictions: the same from the cache, from raw photos, in any batch."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import cache as caches
from cache import Cache
from cache.loader import Pixels, preload
from classify.predict import fit, load, show, write
from classify.run import Run
from classify.settings import TrainSettings
from classify.train import train
from configs.errors import UserError


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_cache_becomes_a_csv_in_its_order(tiny_run: Run, tiny_cache: Cache, tmp_path: Path) -> None:
    done = write(tiny_run, tiny_cache.path, tmp_path / "p.csv", device="cpu")
    rows = read(tmp_path / "p.csv")
    assert list(rows[0]) == ["path", "prediction", "a", "b"]
    assert [row["path"] for row in rows] == tiny_cache.table["key"].to_pylist()
    assert done.predicted == 48
    assert done.unusable == {"cut short": 1}
    assert rows[-1] == {"path": "zz/0.png", "prediction": "", "a": "", "b": ""}
    for row in rows[:-1]:
        p = {name: float(row[name]) for name in ("a", "b")}
        assert sum(p.values()) == pytest.approx(1, abs=1e-5)
        assert row["prediction"] == max(p, key=p.__getitem__)
    truth = tiny_cache.labels("kind").tolist()[:-1]
    assert np.mean([row["prediction"] == label for row, label in zip(rows, truth, strict=False)]) > 0.9


def test_a_photo_s_probabilities_do_not_depend_on_its_batch(tiny_run: Run, tiny_cache: Cache) -> None:
    predictor = load(tiny_run, device="cpu")
    pixels = preload(tiny_cache)
    together = predictor(pixels)
    for size in (1, 7):
        apart = replace(predictor, batch_size=size)(pixels)
        np.testing.assert_allclose(apart, together, atol=1e-6)


def test_raw_photos_are_predicted_as_their_cached_crops(
    tiny_settings: dict[str, Any], tmp_path: Path
) -> None:
    from preprocess.build import build
    from preprocess.photos import list_sources
    from preprocess.settings import BuildSettings

    rng = np.random.default_rng(0)
    for number in range(20):
        name = "day" if number % 2 else "night"
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True, exist_ok=True)
        light = rng.integers(0, 100, (50, 40, 3)) + (150 if number % 2 else 0)
        Image.fromarray(light.astype(np.uint8)).save(folder / f"{number:02}.png")
    sources = list_sources(tmp_path / "photos")
    settings = BuildSettings(method="none", size=32)
    build(sources, settings, tmp_path / "cache", source=tmp_path / "photos", device="cpu")
    run = train(
        caches.open(tmp_path / "cache"), TrainSettings.model_validate(tiny_settings), tmp_path / "run"
    )
    write(run, tmp_path / "cache", tmp_path / "cached.csv", device="cpu")
    (tmp_path / "photos" / "night" / "broken.png").write_bytes(b"no photo at all")
    done = write(run, tmp_path / "photos", tmp_path / "raw.csv", device="cpu")
    raw, cached = read(tmp_path / "raw.csv"), read(tmp_path / "cached.csv")
    assert done.predicted == 20
    assert sum(done.unusable.values()) == 1
    assert [row["path"] for row in raw] == sorted([*(row["path"] for row in cached), "night/broken.png"])
    by_path = {row["path"]: row for row in raw}
    for row in cached:
        assert by_path[row["path"]]["prediction"] == row["prediction"]
        assert float(by_path[row["path"]]["day"]) == pytest.approx(float(row["day"]), abs=1e-5)
    assert by_path["night/broken.png"]["prediction"] == ""


def test_separate_heads_are_predicted_as_joint_classes(
    make_cache: Any, tiny_settings: dict[str, Any], tmp_path: Path
) -> None:
    cache = make_cache(tmp_path / "c", labels=lambda i, j: {"kind": "ab"[i % 2], "size": "sml"[j % 3]})
    targets = {"columns": ["kind", "size"], "heads": "separate"}
    settings = TrainSettings.model_validate({**tiny_settings, "targets": targets, "epochs": 1})
    run = train(cache, settings, tmp_path / "run")
    write(run, cache.path, tmp_path / "p.csv", device="cpu")
    rows = read(tmp_path / "p.csv")
    assert list(rows[0])[2:] == ["a, l", "a, m", "a, s", "b, l", "b, m", "b, s"]
    p = np.array([[float(row[name]) for name in run.classes] for row in rows]).reshape(-1, 2, 3)
    np.testing.assert_allclose(p.sum((1, 2)), 1, atol=1e-4)
    product = p.sum(2)[:, :, None] * p.sum(1)[:, None, :]
    np.testing.assert_allclose(p, product, atol=1e-4)


def test_an_interrupted_prediction_leaves_no_half_a_file(
    tiny_run: Run, tiny_cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "p.csv"
    out.write_text("older")
    monkeypatch.setattr("classify.predict.AT_ONCE", 16)
    given = Cache.alpha

    def stopped(self: Cache, rows: np.ndarray) -> np.ndarray:
        if rows[0] > 16:
            raise KeyboardInterrupt
        return given(self, rows)

    monkeypatch.setattr(Cache, "alpha", stopped)
    with pytest.raises(KeyboardInterrupt):
        write(tiny_run, tiny_cache.path, out, device="cpu")
    assert out.read_text() == "older"
    assert [path.name for path in tmp_path.iterdir()] == ["p.csv"]


def test_mistakes_are_told(tiny_run: Run, tiny_cache: Cache, make_cache: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a file in a folder that exists"):
        write(tiny_run, tiny_cache.path, tmp_path, device="cpu")
    with pytest.raises(UserError, match="a file in a folder that exists"):
        write(tiny_run, tiny_cache.path, tmp_path / "none" / "p.csv", device="cpu")
    with pytest.raises(UserError, match="no such file or folder"):
        write(tiny_run, tmp_path / "none", tmp_path / "p.csv", device="cpu")
    plain = make_cache(tmp_path / "plain", alpha=False)
    with pytest.raises(UserError, match="--method seg"):
        write(tiny_run, plain.path, tmp_path / "p.csv", device="cpu")
    assert not (tmp_path / "p.csv").exists()


def test_fitting_averages_areas_and_keeps_what_fits() -> None:
    rgb = torch.randint(0, 256, (3, 8, 8, 3), dtype=torch.uint8)
    alpha = torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8)
    pixels = Pixels(rgb=rgb, alpha=alpha, rows=torch.arange(3))
    assert fit(pixels, (8, 8)) is pixels
    half = fit(pixels, (4, 4))
    assert isinstance(half.rgb, torch.Tensor)
    assert isinstance(half.alpha, torch.Tensor)
    by_hand = rgb.reshape(3, 4, 2, 4, 2, 3).float().mean((2, 4)).round()
    torch.testing.assert_close(half.rgb.float(), by_hand)
    torch.testing.assert_close(half.alpha.float(), alpha.reshape(3, 4, 2, 4, 2).float().mean((2, 4)).round())
    large = fit(
        Pixels(rgb=torch.full((2, 4, 4, 3), 77, dtype=torch.uint8), alpha=None, rows=rgb[:2, 0, 0, 0]), (9, 9)
    )
    assert isinstance(large.rgb, torch.Tensor)
    assert large.rgb.shape == (2, 9, 9, 3)
    assert bool((large.rgb == 77).all())


@pytest.mark.parametrize("fill", ["black", "mean", "blur", "swap"])
def test_crops_in_memory_are_shown_as_preloaded_ones(tiny_cache: Cache, fill: str) -> None:
    rows = tiny_cache.usable()
    shown = show(tiny_cache.rgb(rows), tiny_cache.alpha(rows), "figure", fill)
    preloaded = preload(tiny_cache, view="figure", fill=fill)
    assert shown.taken == preloaded.taken
    assert isinstance(shown.rgb, torch.Tensor)
    assert isinstance(preloaded.rgb, torch.Tensor)
    assert (shown.rgb.int() - preloaded.rgb.int()).abs().max() <= 1
