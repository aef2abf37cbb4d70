"""The ladder finds what the plain detector misses, and believes only what can be a face."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from cache.records import DETECTED
from preprocess import ladder
from preprocess.cascade import Networks, load_networks
from preprocess.detect import Face, detect
from preprocess.ladder import (
    VIEWS,
    Found,
    centre_box,
    choose,
    distinct,
    find_faces,
    in_order,
    least_px,
    person_box,
    well_placed,
)
from preprocess.sample import draw
from preprocess.settings import DetectSettings

LANDMARKS = (30.0, 40.0, 70.0, 40.0, 50.0, 60.0, 35.0, 80.0, 65.0, 80.0)
FACE = Face((0.0, 0.0, 100.0, 110.0), 0.99, LANDMARKS)


@pytest.fixture(scope="module")
def networks() -> Networks:
    return load_networks()


@pytest.fixture(scope="module")
def portraits(tmp_path_factory: pytest.TempPathFactory) -> list[np.ndarray]:
    """One drawn person, seven photos, 512x384."""
    folder = tmp_path_factory.mktemp("drawn") / "set"
    draw(folder, people=1, seed=5, jobs=1)
    return [np.array(Image.open(path)) for path in sorted((folder / "photos").glob("*/*.jpg"))]


def moved(face: Face, x: float, y: float, scale: float = 1.0) -> Face:
    def move(values: Sequence[float]) -> tuple[float, ...]:
        return tuple(v * scale + (x, y)[i % 2] for i, v in enumerate(values))

    return Face(move(face.box), face.score, move(face.landmarks))  # type: ignore[arg-type]


def test_portraits_are_found_at_once(portraits: list[np.ndarray], networks: Networks) -> None:
    found = find_faces(portraits, networks)
    assert [each and each.rung for each in found] == ["plain"] * 7
    assert all(len(each.faces) == 1 for each in found if each)


def test_a_small_face_is_found_by_the_fine_rung_alone(
    portraits: list[np.ndarray], networks: Networks
) -> None:
    photo = np.full((900, 1000, 3), 120, np.uint8)
    photo[400:656, 500:692] = portraits[3][::2, ::2]
    assert find_faces([photo], networks, DetectSettings(rungs=())) == [None]
    (found,) = find_faces([photo, portraits[0]], networks)[:1]
    assert found
    assert found.rung == "fine"
    x0, y0, x1, y1 = found.faces[0].box
    assert 500 < x0 < x1 < 692
    assert 400 < y0 < y1 < 656


def test_only_what_is_missing_is_looked_at_again(
    portraits: list[np.ndarray], networks: Networks, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []

    def counting(images: Sequence[np.ndarray], *rest: object, **settings: object) -> list[list[Face]]:
        looked.append(len(images))
        return detect(images, *rest, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(ladder, "detect", counting)
    empty = np.full((200, 300, 3), 90, np.uint8)
    found = find_faces([*portraits[:3], empty], networks)
    assert [each is None for each in found] == [False, False, False, True]
    assert looked == [4, 1, 2, 1, 4, 8]


def test_photos_one_by_one_give_what_they_give_together(
    portraits: list[np.ndarray], networks: Networks
) -> None:
    together = find_faces(portraits, networks)
    parts = [each for photo in portraits for each in find_faces([photo], networks)]
    for ours, theirs in zip(together, parts, strict=True):
        assert ours
        assert theirs
        assert ours.rung == theirs.rung
        assert np.allclose(ours.faces[0].box, theirs.faces[0].box, atol=1e-2)


def test_no_photo_and_hopeless_photos_end_without_a_face(networks: Networks) -> None:
    sizes = [(1, 1), (1, 5000), (5000, 1), (12, 12), (30, 900)]
    assert find_faces([], networks) == []
    assert find_faces([np.full((*s, 3), 128, np.uint8) for s in sizes], networks) == [None] * 5
    noise = np.random.default_rng(0).integers(0, 255, (4, 150, 200, 3), dtype=np.uint8)
    assert find_faces(list(noise), networks) == [None] * 4


@given(
    st.sampled_from(sorted(VIEWS)),
    st.integers(20, 900),
    st.integers(20, 900),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_what_a_copy_shows_is_taken_back_to_its_place(
    rung: str, width: int, height: int, x: float, y: float
) -> None:
    """A point goes to the copy by the view's matrix, and `back` undoes it; the copy holds the whole photo."""
    for view in VIEWS[rung](width, height):
        face = moved(FACE, x * width, y * height, 0.3)
        points = np.array(face.landmarks).reshape(5, 2) @ view.matrix[:, :2].T + view.matrix[:, 2]
        corners = np.array([[0, 0], [width, 0], [0, height], [width, height]])
        corners = corners @ view.matrix[:, :2].T + view.matrix[:, 2]
        assert corners.min() >= -2
        assert (corners.max(0) <= np.array([view.width, view.height]) + 2).all()
        centre = view.matrix[:, :2] @ np.mean(np.reshape(face.box, (2, 2)), 0) + view.matrix[:, 2]
        half = np.array([face.box[2] - face.box[0], face.box[3] - face.box[1]]) / 2 * view.scale
        box = (*(centre - half).tolist(), *(centre + half).tolist())
        back = view.back(Face(box, 0.9, tuple(points.flatten().tolist())))
        assert np.allclose(back.box, face.box, atol=1e-3)
        assert np.allclose(back.landmarks, face.landmarks, atol=1e-3)


@pytest.mark.parametrize("rung", [name for name in VIEWS if name != "lower"])
def test_faces_on_copies_are_where_they_are_in_the_photo(
    rung: str, portraits: list[np.ndarray], networks: Networks
) -> None:
    photo = portraits[3]
    plain = detect([photo], networks, min_face_px=80)[0][0]
    for view in VIEWS[rung](photo.shape[1], photo.shape[0])[:2]:
        copy = view.copy(photo)
        assert copy.shape == (view.height, view.width, 3)
        back = view.back(detect([copy], networks, min_face_px=80 * view.scale)[0][0])
        assert len(distinct([back, plain])) == 1
        side = plain.box[2] - plain.box[0]
        assert np.allclose(
            np.add(back.box[:2], back.box[2:]), np.add(plain.box[:2], plain.box[2:]), atol=side / 3
        )


@given(st.floats(0.02, 0.9), st.integers(1, 4000), st.integers(1, 4000))
def test_the_pyramid_ends_where_a_face_fills_the_photo(share: float, height: int, width: int) -> None:
    image = np.broadcast_to(np.uint8(0), (height, width, 3))
    px, shortest = least_px(share, image, 0.709), min(height, width)
    assert px <= max(share * shortest, 12)
    assert px >= 12
    if px > 12:
        levels = math.log(px / shortest) / math.log(0.709)
        assert 0 < levels % 1 < 0.03  # a bit more than a whole number of levels


def test_landmarks_out_of_order_are_no_face() -> None:
    assert in_order(FACE)
    points = np.array(LANDMARKS).reshape(5, 2)

    def changed(points: np.ndarray) -> Face:
        return replace(FACE, landmarks=tuple(points.flatten().tolist()))

    assert not in_order(changed(points[[1, 0, 2, 3, 4]]))
    assert not in_order(changed(points[[0, 1, 2, 4, 3]]))
    assert not in_order(changed(points * (1, -1) + (0, 110)))
    assert not in_order(changed(np.add(points, (60, 0))))
    assert not in_order(changed(points * (0.1, 1) + (45, 0)))


def test_a_face_must_be_where_a_face_can_be() -> None:
    def well(face: Face, rung: str = "padded") -> bool:
        return well_placed(face, 384, 512, 0.26, rung)

    whole = moved(FACE, 140, 150)
    assert well(whole)
    assert not well(moved(FACE, -70, 150)), "its centre is outside"
    assert not well(moved(FACE, -20, 150)), "small, and cut by the edge"
    assert well(moved(FACE, -20, 100, 3.5)), "large, and cut by the edge"
    small = moved(FACE, 140, 150, 0.4)
    assert well(small), "small, but sure"
    assert not well(replace(small, score=0.8))
    assert well(replace(whole, score=0.75))
    assert not well(replace(whole, score=0.75), "lower"), "the last rungs believe large faces only"
    assert not well(replace(whole, box=(140, 150, 240, 400))), "too long"


def test_a_large_photo_is_climbed_small_and_told_in_its_own_pixels(
    portraits: list[np.ndarray], networks: Networks, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = np.array(Image.fromarray(portraits[3]).resize((1536, 2048)))
    seen: list[tuple[int, ...]] = []

    def watching(images: Sequence[np.ndarray], *rest: object, **settings: object) -> list[list[Face]]:
        seen.extend(image.shape[:2] for image in images)
        if len(seen) <= 2:  # as if the plain and the fine rung had missed it
            return [[] for _ in images]
        return detect(images, *rest, **settings)  # type: ignore[arg-type]

    plain = detect([large], networks, min_face_px=400)[0][0]
    monkeypatch.setattr(ladder, "detect", watching)
    (found,) = find_faces([large], networks)
    assert found
    assert found.rung == "padded"
    assert seen == [(2048, 1536)] * 2 + [(1024, 768), (1408, 1056)]
    assert len(distinct([found.faces[0], plain])) == 1


def test_a_face_seen_on_two_copies_is_one() -> None:
    again = replace(moved(FACE, 3, -4), score=0.7)
    other = replace(moved(FACE, 200, 0), score=0.8)
    assert distinct([again, other, FACE]) == [FACE, other]


def test_each_way_to_pick_has_its_own_face() -> None:
    large = replace(moved(FACE, 0, 0, 2.2), score=0.8)
    central = replace(moved(FACE, 460, 440, 0.8), score=0.85)
    sure = replace(moved(FACE, 850, 20, 0.5), score=1.0)
    prominent = replace(moved(FACE, 380, 380, 2), score=0.9)
    faces = [large, sure, central, prominent]

    def first(pick: str) -> Face:
        return choose(faces, 1000, 1000, pick)[0]

    assert first("largest") == large
    assert first("central") == central
    assert first("confident") == sure
    assert first("prominent") == prominent
    assert all(len(choose(faces, 1000, 1000, pick)) == 1 for pick in ("largest", "prominent"))
    everyone = choose(faces, 1000, 1000, "all")
    assert everyone[0] == prominent
    assert sorted(everyone, key=id) == sorted(faces, key=id)


def test_all_faces_are_kept_when_asked_for(portraits: list[np.ndarray], networks: Networks) -> None:
    pair = np.hstack([portraits[3], portraits[5]])
    (one,) = find_faces([pair], networks)
    (both,) = find_faces([pair], networks, DetectSettings(pick="all"))
    assert one
    assert both
    assert len(one.faces) == 1
    assert len(both.faces) == 2
    assert both.faces[0] == one.faces[0]


def test_a_person_without_a_face_gets_the_median_of_the_others() -> None:
    others = [(0.2, 0.1, 0.6, 0.5), (0.3, 0.2, 0.7, 0.6), (0.9, 0.9, 1.0, 1.0)]
    assert person_box(others, 200, 100) == pytest.approx((60, 20, 140, 60))
    assert person_box(others[:1], 10, 10) == pytest.approx((2, 1, 6, 5))


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_the_last_resort_is_inside_the_photo(width: int, height: int) -> None:
    x0, y0, x1, y1 = centre_box(width, height)
    assert 0 <= x0 < x1 <= width
    assert 0 <= y0 < y1 <= height
    assert x1 - x0 == pytest.approx(y1 - y0)
    assert (x0 + x1) / 2 == pytest.approx(width / 2)


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValidationError):
        DetectSettings(min_face=0)
    with pytest.raises(ValidationError):
        DetectSettings(rungs=("sideways",))  # type: ignore[arg-type]
    with pytest.raises(ValidationError):
        DetectSettings(factor=1)
    assert {"plain", *DetectSettings().rungs} == set(VIEWS) == set(DETECTED)


def rate(folder: Path, networks: Networks) -> tuple[float, list[Found | None]]:
    images = [np.array(Image.open(path).convert("RGB")) for path in sorted(folder.glob("*.jpg"))]
    found = find_faces(images, networks)
    return sum(each is not None for each in found) / len(found), found


@pytest.mark.slow
def test_masked_and_bare_faces_are_found(real_photos: Path, networks: Networks) -> None:
    masked, found = rate(real_photos / "masks" / "with_mask", networks)
    bare, _ = rate(real_photos / "masks" / "without_mask", networks)
    assert masked >= 0.92
    assert bare >= 0.99
    assert {each.rung for each in found if each} <= set(DETECTED)
