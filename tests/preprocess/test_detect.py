"""The cascade finds what facenet-pytorch finds; its parts compute what the reference functions compute."""

from __future__ import annotations

import warnings
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.ops import batched_nms

from configs.errors import UserError
from preprocess import cascade
from preprocess.area import Sums, area_means, integral, sum_rows
from preprocess.cascade import Networks, judge, load_networks, propose
from preprocess.detect import Face, detect
from preprocess.sample import draw
from preprocess.suppress import grid_suppress, ranked, suppress


@pytest.fixture(scope="module")
def networks() -> Networks:
    return load_networks()


@pytest.fixture(scope="module")
def reference() -> Any:
    from facenet_pytorch import MTCNN

    return MTCNN(keep_all=True, min_face_size=20, select_largest=False)


@pytest.fixture(scope="module")
def portraits(tmp_path_factory: pytest.TempPathFactory) -> list[np.ndarray]:
    """Two drawn persons, seven photos each, 512x384."""
    folder = tmp_path_factory.mktemp("drawn") / "set"
    draw(folder, people=2, seed=3, jobs=1)
    return [np.array(Image.open(path)) for path in sorted((folder / "photos").glob("*/*.jpg"))]


def overlap(a: Any, b: Any) -> float:
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(w, 0.0) * max(h, 0.0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def agree(images: list[np.ndarray], networks: Networks, reference: Any) -> float:
    """The share of photos whose best box is (one of) the reference's best, IoU >= 0.95."""
    same = 0
    for image, faces in zip(images, detect(images, networks, min_face_px=20), strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            boxes, scores = reference.detect(image)
        if boxes is None:
            same += not faces
        elif faces:
            best = [box for box, score in zip(boxes, scores, strict=True) if score == max(scores)]
            same += max(overlap(faces[0].box, box) for box in best) >= 0.95
    return same / len(images)


def test_drawn_portraits_give_the_references_boxes(
    portraits: list[np.ndarray], networks: Networks, reference: Any
) -> None:
    assert agree(portraits, networks, reference) == 1


def test_small_and_odd_sizes_give_the_references_boxes(
    portraits: list[np.ndarray], networks: Networks, reference: Any
) -> None:
    sizes = [(137, 145), (79, 51), (231, 203), (300, 97), (112, 78), (64, 64)]
    small = [
        np.array(Image.fromarray(photo).resize(size)) for photo, size in zip(portraits, sizes, strict=False)
    ]
    assert agree(small, networks, reference) == 1


def paths(real_photos: Path) -> list[Path]:
    return sorted([*real_photos.glob("people/images/*.jpg"), *real_photos.glob("masks/*/*.jpg")])


@pytest.mark.slow
def test_real_photos_give_the_references_boxes(real_photos: Path, networks: Networks, reference: Any) -> None:
    images = [np.array(Image.open(path).convert("RGB")) for path in paths(real_photos)]
    assert agree(images, networks, reference) >= 0.99


def test_some_real_photos_give_the_references_boxes(
    real_photos: Path, networks: Networks, reference: Any
) -> None:
    images = [np.array(Image.open(path).convert("RGB")) for path in paths(real_photos)[4::9]]
    images = [image for image in images if image.size < 2_000_000]
    assert len(images) > 50
    assert agree(images, networks, reference) >= 0.99


def test_boxes_do_not_depend_on_the_other_photos(portraits: list[np.ndarray], networks: Networks) -> None:
    mixed = [
        *portraits[:4],
        portraits[5][:400, :301],
        np.ascontiguousarray(portraits[6].transpose(1, 0, 2)),
        np.array(Image.fromarray(portraits[7]).resize((300, 410))),
        np.zeros((200, 300, 3), np.uint8),
        np.array(Image.fromarray(portraits[8]).resize((1200, 1600))),
    ]
    least = [0.25 * min(image.shape[:2]) for image in mixed]
    together = detect(mixed, networks, min_face_px=least)
    alone = [detect([image], networks, min_face_px=px)[0] for image, px in zip(mixed, least, strict=True)]
    backwards = detect(mixed[::-1], networks, min_face_px=least[::-1])[::-1]
    assert sum(map(len, together)) >= 6
    for other in (alone, backwards):
        assert [len(faces) for faces in other] == [len(faces) for faces in together]
        for ours, theirs in zip(chain(*together), chain(*other), strict=True):
            assert np.allclose(ours.box, theirs.box, atol=1e-2)
            assert np.allclose(ours.landmarks, theirs.landmarks, atol=1e-2)
            assert ours.score == pytest.approx(theirs.score, abs=1e-4)


def test_every_face_of_a_crowd_is_found(portraits: list[np.ndarray], networks: Networks) -> None:
    faces = detect(portraits[:7], networks, min_face_px=60)
    assert all(len(each) == 1 for each in faces)
    crowd = np.vstack([np.hstack([portraits[(3 * y + x) % 7] for x in range(5)]) for y in range(3)])
    found = detect([crowd], networks, min_face_px=60)[0]
    assert len(found) == 15
    assert [face.score for face in found] == sorted((face.score for face in found), reverse=True)
    h, w = portraits[0].shape[:2]
    truth = [
        np.add(faces[(3 * y + x) % 7][0].box, (x * w, y * h, x * w, y * h))
        for y in range(3)
        for x in range(5)
    ]
    assert all(max(overlap(box, face.box) for face in found) > 0.7 for box in truth)


def test_landmarks_stand_in_the_order_that_they_are_named_in(
    portraits: list[np.ndarray], networks: Networks
) -> None:
    for face, *_ in detect(portraits[:7], networks, min_face_px=60):
        left_eye, right_eye, nose, left_mouth, right_mouth = np.array(face.landmarks).reshape(5, 2)
        assert left_eye[0] < nose[0] < right_eye[0]
        assert left_mouth[0] < right_mouth[0]
        assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])


def test_a_reduced_photo_gives_the_face_of_the_whole_one(
    portraits: list[np.ndarray], networks: Networks, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = [np.array(Image.fromarray(photo).resize((1153, 1537))) for photo in portraits[:4]]
    reduced = detect(large, networks, min_face_px=250)
    monkeypatch.setattr("preprocess.detect.KEPT_PX", 1e9)
    whole = detect(large, networks, min_face_px=250)
    for ours, theirs in zip(reduced, whole, strict=True):
        assert len(ours) == len(theirs) == 1
        side = theirs[0].box[2] - theirs[0].box[0]
        assert np.allclose(ours[0].landmarks, theirs[0].landmarks, atol=0.2 * side)
        assert (
            overlap(ours[0].box, theirs[0].box) > 0.6
        )  # other pixels, and so another guess at the same face


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (11, 300), (12, 12), (20, 20), (21, 333)])
def test_photos_too_small_for_a_face_have_none(size: tuple[int, int], networks: Networks) -> None:
    assert detect([np.full((*size, 3), 90, np.uint8)], networks, min_face_px=20) == [[]]


def test_no_photos_no_faces(networks: Networks) -> None:
    assert detect([], networks, min_face_px=20) == []


def test_views_and_read_only_photos_are_taken_as_they_are(
    portraits: list[np.ndarray], networks: Networks
) -> None:
    photo = portraits[0].copy()
    photo.flags.writeable = False
    doubled = np.repeat(photo, 2, axis=1)[:, ::2]
    assert detect([photo], networks, min_face_px=60) == detect([doubled], networks, min_face_px=60)


def test_half_precision_stays_near(portraits: list[np.ndarray], networks: Networks) -> None:
    half = detect(portraits[:2], load_networks(half=True), min_face_px=80)
    full = detect(portraits[:2], networks, min_face_px=80)
    for ours, theirs in zip(half, full, strict=True):
        assert overlap(ours[0].box, theirs[0].box) > 0.9


def test_a_missing_device_is_the_users_mistake() -> None:
    assert load_networks("auto").device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(UserError, match="no such device"):
        load_networks("gpu")
    with pytest.raises(UserError, match="runs on cpu and cuda"):
        load_networks("meta")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="torch"):
            load_networks("cuda")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cascade.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match="pip install facenet-pytorch"):
        load_networks()


def test_networks_compute_what_the_reference_computes(networks: Networks, reference: Any) -> None:
    rng = torch.Generator().manual_seed(0)
    images = torch.rand(3, 3, 61, 48, generator=rng) * 2 - 1
    with torch.inference_mode():
        boxes, scores = reference.pnet(images)
        ours = propose(networks.proposal, images)
        assert torch.allclose(ours[..., 0].sigmoid(), scores[:, 1], atol=1e-5)
        assert torch.allclose(ours[..., 1:], boxes.permute(0, 2, 3, 1), atol=1e-4)

        crops = torch.rand(5, 3, 24, 24, generator=rng) * 2 - 1
        boxes, scores = reference.rnet(crops)
        ours = judge(networks.refine, crops, at_once=2)
        assert torch.allclose(ours, torch.cat([ours[:, :1], boxes], 1), atol=1e-4)
        assert torch.allclose(ours[:, 0].sigmoid(), scores[:, 1], atol=1e-5)

        crops = torch.rand(5, 3, 48, 48, generator=rng) * 2 - 1
        boxes, points, scores = reference.onet(crops)
        ours = judge(networks.output, crops, at_once=3)
        assert torch.allclose(ours[:, 1:], torch.cat([boxes, points], 1), atol=1e-4)
        assert torch.allclose(ours[:, 0].sigmoid(), scores[:, 1], atol=1e-5)


@pytest.mark.parametrize("sizes", [[(40, 33), (61, 48)], [(25, 30), (24, 30), (25, 31)]])
def test_what_lies_beyond_a_smaller_image_changes_nothing(
    sizes: list[tuple[int, int]], networks: Networks
) -> None:
    height, width = max(h for h, _ in sizes), max(w for _, w in sizes)
    canvas = torch.rand(len(sizes), 3, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1
    together = propose(networks.proposal, canvas, torch.tensor(sizes))
    for image, (h, w), ours in zip(canvas, sizes, together, strict=True):
        alone = propose(networks.proposal, image[None, :, :h, :w])[0]
        assert torch.allclose(ours[: alone.shape[0], : alone.shape[1]], alone, atol=1e-4)


def sums_of(images: torch.Tensor, reduce: int = 1) -> Sums:
    n, h, w = images.shape[0], images.shape[1] // reduce, images.shape[2] // reduce
    start = torch.arange(n) * sum_rows(h) * (w + 1)
    full = torch.full((n,), 1)
    return Sums(integral(images, reduce).view(-1, 3), start, full * h, full * w, full.float() * reduce**2)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_area_means_are_those_of_interpolate(data: st.DataObject) -> None:
    h, w = data.draw(st.integers(1, 70)), data.draw(st.integers(1, 70))
    x0, y0 = data.draw(st.integers(0, w - 1)), data.draw(st.integers(0, h - 1))
    x1, y1 = data.draw(st.integers(x0 + 1, w)), data.draw(st.integers(y0 + 1, h))
    size = data.draw(st.integers(1, 50)), data.draw(st.integers(1, 50))
    images = torch.randint(0, 256, (2, h, w, 3), dtype=torch.uint8)
    ours = area_means(sums_of(images), torch.tensor([1]), torch.tensor([[x0, y0, x1, y1]]), size)
    crop = images[1:, y0:y1, x0:x1].permute(0, 3, 1, 2).float()
    theirs = (F.interpolate(crop, size, mode="area") - 127.5) / 128
    assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("reduce", [2, 3, 5])
def test_reduced_sums_are_means_of_blocks(reduce: int) -> None:
    images = torch.randint(0, 256, (2, 47, 64, 3), dtype=torch.uint8)
    h, w = 47 // reduce, 64 // reduce
    ours = area_means(sums_of(images, reduce), torch.tensor([0, 1]), torch.tensor([[0, 0, w, h]] * 2), (h, w))
    theirs = (F.avg_pool2d(images.permute(0, 3, 1, 2).float(), reduce) - 127.5) / 128
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_sums_that_wrap_round_still_give_the_mean() -> None:
    images = torch.full((1, 3000, 4000, 3), 255, dtype=torch.uint8)  # sums to 3.06e9, beyond an int32
    sums = sums_of(images)
    assert int(sums.cells.min()) < 0
    mean = area_means(sums, torch.tensor([0]), torch.tensor([[3000, 2000, 4000, 3000]]), (3, 3))
    assert torch.allclose(mean, torch.tensor(127.5 / 128))


def random_boxes(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    corner = torch.rand(n, 2, generator=rng) * 60
    boxes = torch.cat([corner, corner + 10 + torch.rand(n, 2, generator=rng) * 40], 1)
    scores, groups = torch.rand(n, generator=rng), torch.randint(0, 5, (n,), generator=rng) * 3
    order = ranked(groups, scores)
    return boxes[order], scores[order], groups[order]


@pytest.mark.parametrize("seed", range(8))
def test_suppression_keeps_what_torchvision_keeps(seed: int) -> None:
    boxes, scores, groups = random_boxes(200, seed)
    keep = suppress(boxes, groups, threshold=0.4, cap=1000)
    assert sorted(batched_nms(boxes, scores, groups, 0.4).tolist()) == keep.nonzero()[:, 0].tolist()
    assert 0 < int(keep.sum()) < 200


@pytest.mark.parametrize("seed", range(4))
def test_suppression_by_the_smaller_box_is_the_references(seed: int) -> None:
    from facenet_pytorch.models.utils.detect_face import batched_nms_numpy

    boxes, scores, groups = random_boxes(80, seed)
    keep = suppress(boxes, groups, threshold=0.7, cap=1000, smaller=True)
    theirs = batched_nms_numpy(boxes, scores, groups, 0.7, "Min")
    assert sorted(theirs.tolist()) == keep.nonzero()[:, 0].tolist()


def test_suppression_looks_at_no_more_than_its_cap() -> None:
    boxes, _, groups = random_boxes(200, 0)
    far = boxes + torch.arange(200)[:, None] * 1000
    keep = suppress(far, groups, threshold=0.5, cap=3)
    assert groups[keep].bincount()[::3].tolist() == [3] * 5


@pytest.mark.parametrize("scale", [0.6, 0.4254, 0.1075, 1.0])
def test_grid_suppression_keeps_what_torchvision_keeps(scale: float) -> None:
    rng = torch.Generator().manual_seed(2)
    rows, columns = 23, 31
    cells = (torch.rand(2 * rows * columns, generator=rng) > 0.5).nonzero()[:, 0]
    scores = torch.rand(len(cells), generator=rng)
    block, inside = cells // (rows * columns), cells % (rows * columns)
    corner = torch.stack([inside % columns, inside // columns], 1).float() * 2
    boxes = torch.cat([((corner + 1) / scale).floor(), ((corner + 12) / scale).floor()], 1)
    row = torch.full_like(cells, columns)
    keep = grid_suppress(boxes, scores, cells, row, block, 2 * rows * columns)
    assert sorted(batched_nms(boxes, scores, block, 0.5).tolist()) == keep.nonzero()[:, 0].tolist()


def test_a_dense_pyramid_still_gives_each_face_once(portraits: list[np.ndarray], networks: Networks) -> None:
    found = detect(portraits[:3], networks, min_face_px=60, factor=0.85)
    assert all(len(faces) == 1 and isinstance(faces[0], Face) for faces in found)
