from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocess.detect import Face
from preprocess.mask import Settled, bust, centred, head_box, settle

SIDE = 96


def face(x0: float, y0: float, x1: float, y1: float) -> Face:
    wide, high = x1 - x0, y1 - y0
    points = [(0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8)]
    return Face((x0, y0, x1, y1), 0.99, tuple(v for x, y in points for v in (x0 + x * wide, y0 + y * high)))


FACE = face(34, 24, 62, 60)


def person(head: tuple[int, int] = (48, 42), size: int = 20) -> np.ndarray:
    """A drawn head and shoulders, u8 [96 96], 0 or 255."""
    alpha = np.zeros((SIDE, SIDE), np.uint8)
    cv2.ellipse(alpha, head, (size, round(1.3 * size)), 0, 0, 360, 255, -1)
    cv2.ellipse(alpha, (head[0], head[1] + 4 * size), (2 * size, 3 * size), 0, 0, 360, 255, -1)
    return alpha


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_a_clean_mask_stays_as_it_is() -> None:
    np.testing.assert_array_equal(settle(person(), FACE).alpha, person())


def test_holes_are_filled_and_crumbs_dropped() -> None:
    raw = person()
    cv2.circle(raw, (48, 50), 4, 0, -1)
    cv2.circle(raw, (8, 8), 5, 255, -1)
    settled = settle(raw, FACE)
    np.testing.assert_array_equal(settled.alpha, person())
    assert (settled.status, settled.reason) == ("ok", "")


def test_the_figure_is_the_one_with_the_face_not_the_largest() -> None:
    raw = np.zeros((SIDE, SIDE), np.uint8)
    raw[:, :50] = 255
    raw[10:50, 60:90] = 255
    settled = settle(raw, face(64, 15, 86, 45))
    assert (settled.alpha[:, :50] == 0).all()
    assert (settled.alpha[10:50, 60:90] == 255).all()
    assert (settle(raw, None).alpha[:, :50] == 255).all()


def test_a_face_left_out_of_its_head_is_a_hole() -> None:
    """A network that takes a worn mask for background cuts the face out of the hair."""
    raw = person()
    cv2.ellipse(raw, (48, 42), (15, 19), 0, 0, 360, 0, -1)
    settled = settle(raw, FACE)
    assert settled.status == "ok"
    np.testing.assert_array_equal(settled.alpha, person())


def test_soft_edges_stay_and_haze_goes() -> None:
    raw = cv2.GaussianBlur(person(), (0, 0), 1.0)
    raw[5, 5] = 90
    alpha = settle(raw, FACE).alpha
    assert alpha[5, 5] == 0
    rim = (raw > 20) & (raw < 128)
    rim[5, 5] = False
    np.testing.assert_array_equal(alpha[rim], raw[rim])


def test_a_doubt_deep_inside_is_figure_and_at_the_rim_stays() -> None:
    raw = person()
    raw[45:55, 42:54] = 150
    edge = (40, int(np.flatnonzero(raw[40])[0]))
    raw[edge] = 140
    alpha = settle(raw, FACE).alpha
    assert (alpha[45:55, 42:54] == 255).all()
    assert alpha[edge] == 140


@pytest.mark.parametrize(
    ("raw", "at", "reason"),
    [
        (np.zeros((SIDE, SIDE), np.uint8), FACE, "empty"),
        (np.zeros((SIDE, SIDE), np.uint8), None, "empty"),
        (np.full((SIDE, SIDE), 255, np.uint8), FACE, "whole crop"),
        (np.full((SIDE, SIDE), 100, np.uint8), None, "empty"),
        (person(head=(20, 70), size=8), FACE, "face out"),
        (person(), face(300, 300, 340, 350), "face out"),
    ],
)
def test_no_figure_has_a_reason_and_a_shape(raw: np.ndarray, at: Face | None, reason: str) -> None:
    settled = settle(raw, at)
    assert settled.status == "no_figure"
    assert reason in settled.reason
    share = (settled.alpha >= 128).mean()
    assert 0.15 < share < 0.85
    assert len(np.unique(settled.alpha)) > 50, "soft"
    if at is FACE:
        assert settled.alpha[42, 48] > 240
        assert settled.alpha[5, 5] < 20


def test_a_bust_moves_and_grows_with_its_face() -> None:
    small = bust((200, 200), (40, 40, 60, 66))
    large = bust((400, 400), (80, 80, 120, 132))
    np.testing.assert_allclose(cv2.resize(large, (200, 200), interpolation=cv2.INTER_AREA), small, atol=0.03)
    moved = bust((200, 200), (70, 50, 90, 76))
    np.testing.assert_allclose(moved[10:, 30:], small[:-10, :-30], atol=1e-5)


@pytest.mark.parametrize("tilt", [0, 3])
@pytest.mark.parametrize("size", [12, 16, 20])
def test_the_head_of_a_figure_is_where_it_was_drawn(size: int, tilt: int) -> None:
    raw = person(head=(48 + tilt, 44), size=size)
    box = head_box(raw)
    assert box
    x0, y0, x1, y1 = box
    assert abs((x0 + x1) / 2 - 48 - tilt) < 0.25 * size
    assert abs((y0 + y1) / 2 - 44) < 0.5 * size
    assert 0.7 * 2 * size < y1 - y0 < 1.4 * 2 * size


def test_without_a_figure_there_is_no_head() -> None:
    assert head_box(np.zeros((50, 50), np.uint8)) is None
    assert head_box(np.full((50, 50), 255, np.uint8)) is None


# Properties -----------------------------------------------------------------------------------------------

coordinate = st.integers(-20, 110)


@st.composite
def alphas(draw: st.DrawFn) -> np.ndarray:
    """Blobs of any softness, with holes and crumbs, in any small shape."""
    height, width = draw(st.integers(1, 60)), draw(st.integers(1, 60))
    seed, blur, cut = (
        draw(st.integers(0, 10_000)),
        draw(st.sampled_from([0, 1, 4])),
        draw(st.integers(60, 200)),
    )
    noise = np.random.default_rng(seed).integers(0, 256, (height, width)).astype(np.uint8)
    if blur:
        noise = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), blur), None, 0, 255, cv2.NORM_MINMAX)
    if draw(st.booleans()):
        return np.where(noise >= cut, 255, 0).astype(np.uint8)
    return noise


@st.composite
def faces(draw: st.DrawFn) -> Face | None:
    if draw(st.booleans()):
        return None
    x, y = draw(st.integers(-20, 50)), draw(st.integers(-20, 50))
    return face(x, y, x + draw(st.integers(1, 40)), y + draw(st.integers(1, 40)))


def check(raw: np.ndarray, settled: Settled) -> None:
    figure = settled.alpha >= 128
    assert settled.alpha.shape == raw.shape
    assert settled.alpha.dtype == np.uint8
    assert figure.any(), "never black"
    assert (settled.status == "ok") == (settled.reason == "")
    if settled.status != "ok":
        return
    parts, _ = cv2.connectedComponents(figure.view(np.uint8), connectivity=4)
    assert parts == 2, "one piece"
    padded = np.pad(figure, 1)
    around, _ = cv2.connectedComponents((~padded).astype(np.uint8), connectivity=8)
    assert around == 2, "no holes"
    changed = settled.alpha != raw
    filled = changed & figure
    assert (settled.alpha[filled] == 255).all()
    assert (settled.alpha[changed & ~figure] == 0).all()


@given(alphas(), faces())
def test_settling_keeps_one_piece_without_holes(raw: np.ndarray, at: Face | None) -> None:
    check(raw, settle(raw, at))


@given(alphas(), faces())
def test_settling_what_is_settled_changes_nothing(raw: np.ndarray, at: Face | None) -> None:
    settled = settle(raw, at)
    if settled.status == "ok":
        again = settle(settled.alpha, at)
        np.testing.assert_array_equal(again.alpha, settled.alpha)
        assert again.status == "ok"


@given(alphas(), faces())
def test_the_figure_is_a_component_and_its_holes(raw: np.ndarray, at: Face | None) -> None:
    settled = settle(raw, at)
    if settled.status != "ok":
        return
    _, labels = cv2.connectedComponents((raw >= 128).astype(np.uint8), connectivity=4)
    figure = settled.alpha >= 128
    rim = figure & ~cv2.erode(np.pad(figure.view(np.uint8), 1), np.ones((3, 3)))[1:-1, 1:-1].astype(bool)
    outer = set(labels[rim & (raw >= 128)])
    assert len(outer) == 1
    component = labels == outer.pop()
    assert (figure[component]).all()
    assert (settled.alpha[component] >= raw[component]).all()


@given(alphas())
def test_a_head_lies_in_its_photo(raw: np.ndarray) -> None:
    box = head_box(raw)
    if box:
        assert box[0] < box[2]
        assert box[1] < box[3]
        assert 0 <= (box[0] + box[2]) / 2 <= raw.shape[1]
        assert 0 <= (box[1] + box[3]) / 2 <= raw.shape[0]


def test_a_supposed_face_is_in_the_middle() -> None:
    x0, y0, x1, y1 = centred((100, 160))
    assert ((x0 + x1) / 2, (y0 + y1) / 2) == (80, 50)
    assert iou(bust((100, 100), centred((100, 100))) > 0.5, np.ones((100, 100), bool)) > 0.3
