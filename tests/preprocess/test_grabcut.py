from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from preprocess.crop import around, extract
from preprocess.detect import Face, detect, load_networks
from preprocess.grabcut import Belief, believe, cut, follow_edges, head_of
from preprocess.mask import bust, settle
from preprocess.segment import grabcut, onnx


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


def planted(side: int = 224, *, figure: tuple[int, int, int] = (190, 120, 90), seed: int = 0) -> tuple:
    """A head and shoulders of one colour before blurred noise: crop, truth, face."""
    rng = np.random.default_rng(seed)
    ground = cv2.GaussianBlur(rng.normal(0, 1, (side, side, 3)), (0, 0), side / 20)
    ground = np.array([90, 120, 150]) + 12 * ground / ground.std()
    truth = np.zeros((side, side), np.uint8)
    middle, size = side // 2, side / 2.2
    head, body = (middle, round(middle - 0.05 * size)), (middle, round(middle + 1.35 * size))
    cv2.ellipse(truth, head, (round(0.5 * size), round(0.7 * size)), 0, 0, 360, 1, -1)
    cv2.ellipse(truth, body, (round(1.2 * size), round(0.8 * size)), 0, 0, 360, 1, -1)
    grain = rng.normal(0, 6, (side, side, 1))
    crop = np.where(truth[..., None] > 0, np.array(figure) + grain, ground)
    face = Face((middle - 0.38 * size, middle - size / 2, middle + 0.38 * size, middle + size / 2), 1.0, ())
    return crop.clip(0, 255).astype(np.uint8), truth.astype(bool), face


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("side", [96, 224, 400])
def test_a_planted_figure_is_cut_out(side: int, seed: int) -> None:
    crop, truth, face = planted(side, seed=seed)
    assert iou(cut(crop, face) >= 128, truth) > 0.95
    assert iou(cut(crop, None) >= 128, truth) > 0.93


def test_it_beats_the_shape_alone() -> None:
    """A figure leaning to one side, as no bust is."""
    crop, truth, face = planted()
    turn = cv2.getRotationMatrix2D((112, 112), 20, 1)
    crop = cv2.warpAffine(crop, turn, (224, 224), borderMode=cv2.BORDER_REFLECT)
    truth = cv2.warpAffine(truth.view(np.uint8), turn, (224, 224), borderMode=cv2.BORDER_REFLECT) > 0
    assert iou(cut(crop, face) >= 128, truth) > iou(bust((224, 224), face.box) > 0.5, truth) + 0.05


def test_the_same_crop_gives_the_same_bytes_in_any_thread() -> None:
    crops = [planted(seed=seed)[0] for seed in range(4)]
    alone = [cut(crop, None) for crop in crops]
    with ThreadPoolExecutor(4) as pool:
        again = list(pool.map(lambda i: cut(crops[i % 4], None), range(12)))
    for i, alpha in enumerate(again):
        np.testing.assert_array_equal(alpha, alone[i % 4])
    together = grabcut("cpu").cut(np.stack(crops), [None] * 4)
    np.testing.assert_array_equal(together, np.stack(alone))


def test_crops_are_not_changed() -> None:
    crop, _, face = planted()
    before = crop.copy()
    cut(crop, face)
    np.testing.assert_array_equal(crop, before)


@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_flat_crop_gives_the_bust(value: int) -> None:
    """Where looks say nothing, the place decides."""
    _, _, face = planted()
    alpha = cut(np.full((224, 224, 3), value, np.uint8), face)
    shape = bust((224, 224), face.box)
    assert (alpha[shape > 0.75] >= 128).all()
    assert iou(alpha >= 128, shape > 0.3) > 0.8
    assert settle(alpha, face).status == "ok"


@pytest.mark.parametrize(
    "box", [(-50, -60, -10, -10), (500, 500, 600, 640), (100, 100, 100, 100), (-200, -200, 500, 600)]
)
def test_a_face_anywhere_is_no_crash(box: tuple[float, float, float, float]) -> None:
    crop, _, _ = planted()
    alpha = cut(crop, Face(box, 0.5, ()))
    assert alpha.shape == (224, 224)


def test_the_head_lies_behind_a_turned_face() -> None:
    ahead = Face((40, 40, 80, 92), 1.0, (50, 60, 70, 60, 60, 70, 52, 80, 68, 80))
    assert head_of(ahead) == ahead.box
    to_the_left = Face((40, 40, 80, 92), 1.0, (44, 60, 60, 60, 44, 70, 46, 80, 56, 80))
    assert head_of(to_the_left)[0] > 45
    assert head_of(Face((40, 40, 80, 92), 1.0, ())) == (40, 40, 80, 92)


def test_edges_are_followed() -> None:
    """A mask of 16 cells, laid on an image with one sharp edge, gets that edge."""
    crop = np.full((160, 160, 3), 30, np.uint8)
    crop[:, 83:] = 220
    truth = np.arange(160) >= 83
    coarse = np.repeat(
        cv2.resize(truth[None].astype(np.float32), (16, 1), interpolation=cv2.INTER_AREA), 16, axis=0
    )
    alpha = follow_edges(crop, coarse, reach=0.06)
    assert ((alpha >= 128) == truth).mean() > 0.985


def test_more_weight_on_the_place_stays_nearer_to_the_bust() -> None:
    crop, _, face = planted(figure=(90, 120, 150))
    head = tuple(face.box)
    shape = bust((32, 32), tuple(v * 32 / 224 for v in head)) > 0.5
    far, near = (believe(crop, head, Belief(place=weight)) > 0.5 for weight in (0.3, 5.0))
    assert iou(near, shape) > iou(far, shape)


def mean_iou(
    photos: list[Path], truths: list[Path], way: Callable[[np.ndarray, Face], np.ndarray] = cut
) -> tuple[float, int]:
    """Of settled masks in crops of 2.2 faces, for photos with one face; and how many those are."""
    images = [np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB")) for path in photos]
    found = detect(images, load_networks("cpu"), min_face_px=20)
    scores = []
    for rgb, path, faces in zip(images, truths, found, strict=True):
        if len(faces) != 1:
            continue
        alpha = np.asarray(Image.open(path))
        alpha = alpha if alpha.ndim == 2 else alpha[..., -1]
        frame = around(faces[0].box, size=(224, 224))
        inside = (
            extract(np.full((*rgb.shape[:2], 3), 255, np.uint8), frame, size=(224, 224), fill="black")[..., 0]
            > 127
        )
        crop = extract(rgb, frame, size=(224, 224))
        truth = extract(np.dstack([alpha] * 3), frame, size=(224, 224))[..., 0] >= 128
        scale, (x, y) = 224 / frame.width, (frame.cx - frame.width / 2, frame.cy - frame.height / 2)
        box = tuple((v - o) * scale for v, o in zip(faces[0].box, (x, y) * 2, strict=True))
        points = tuple((v - o) * scale for v, o in zip(faces[0].landmarks, (x, y) * 5, strict=True))
        face = Face(box, faces[0].score, points)
        figure = settle(way(crop, face), face).alpha >= 128
        scores.append(iou(figure & inside, truth & inside))
    return float(np.mean(scores)), len(scores)


def test_drawn_portraits_are_cut_out(drawn: Path) -> None:
    photos = sorted((drawn / "photos").rglob("*.jpg"))[::2]
    truths = [drawn / "alpha" / p.relative_to(drawn / "photos").with_suffix(".png") for p in photos]
    score, count = mean_iou(photos, truths)
    assert count > len(photos) / 2
    assert score > 0.85


@pytest.mark.slow
def test_real_portraits_are_cut_out(real_photos: Path) -> None:
    photos = sorted((real_photos / "people" / "images").glob("*.jpg"))
    truths = [real_photos / "people" / "alpha" / f"{p.stem}.png" for p in photos]
    score, count = mean_iou(photos, truths)
    assert count > 60
    assert score >= 0.86


@pytest.mark.slow
def test_a_real_network_cuts_real_portraits(real_photos: Path, portrait_network: Path) -> None:
    photos = sorted((real_photos / "people" / "images").glob("*.jpg"))
    truths = [real_photos / "people" / "alpha" / f"{p.stem}.png" for p in photos]
    segmenter = onnx("cpu", path=str(portrait_network))
    score, count = mean_iou(photos, truths, lambda crop, face: segmenter.cut(crop[None], [face])[0])
    assert count > 60
    assert score >= 0.88
