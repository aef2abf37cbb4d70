"""Composites pixel by pixel, parts that add up, and whose ground a figure gets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache.records import Record
from classify import mixtures
from classify.mixtures import MIXED, Crops, faces, partners, parts, show

SIZE = 96
NOWHERE = np.full((1, 4), np.nan)


def soft_disc(radius: float = 26.0, soft_px: float = 6.0) -> np.ndarray:
    """f64 [SIZE SIZE]: a disc whose edge falls from 1 to 0 over `soft_px`."""
    away = np.hypot(*(np.indices((SIZE, SIZE)) + 0.5 - SIZE / 2))
    return np.clip((radius + soft_px / 2 - away) / soft_px, 0, 1)


def photo(figure: tuple[int, ...], ground: tuple[int, ...], alpha: np.ndarray) -> Crops:
    """A photo as a camera sees it: at the soft edge figure and ground are mixed."""
    rgb = alpha[..., None] * np.array(figure) + (1 - alpha[..., None]) * np.array(ground)
    return Crops(np.round(rgb).astype(np.uint8)[None], np.round(alpha * 255).astype(np.uint8)[None], NOWHERE)


RED, GREEN, BLUE, GREY = (220, 40, 40), (30, 220, 30), (40, 40, 220), (128, 128, 128)


@pytest.mark.parametrize("view", MIXED)
def test_a_mixture_is_the_formula_and_has_no_ring_of_the_old_ground(view: str) -> None:
    alpha = soft_disc()
    mine, other = photo(RED, GREEN, alpha), photo(GREY, BLUE, soft_disc(18.0))
    made = show(view, mine, other)[0].astype(int)
    a = mine.alpha[0].astype(float) / 255  # type: ignore[index]
    truth = a[..., None] * np.array(RED) + (1 - a[..., None]) * np.array(BLUE)
    assert np.abs(made - truth).max() <= 3
    # the ring is measured as the old ground's green, above what red and blue bring: none is left
    assert (made[..., 1] - 40).max() <= 3
    naive = a[..., None] * mine.rgb[0] + (1 - a[..., None]) * other.rgb[0]
    assert (naive[..., 1] - 40).max() > 30, "the measure sees the ring of plain pasting"


@pytest.mark.parametrize("view", MIXED)
def test_where_alpha_is_sure_pixels_are_exact(view: str) -> None:
    rng = np.random.default_rng(0)
    alpha, smaller = np.round(soft_disc() * 255), np.round(soft_disc(14.0) * 255)
    mine = Crops(rng.integers(0, 256, (1, SIZE, SIZE, 3), np.uint8), alpha.astype(np.uint8)[None], NOWHERE)
    other = Crops(rng.integers(0, 256, (1, SIZE, SIZE, 3), np.uint8), smaller.astype(np.uint8)[None], NOWHERE)
    made = show(view, mine, other)
    assert (made[0][alpha == 255] == mine.rgb[0][alpha == 255]).all()
    assert (made[0][alpha == 0] == other.rgb[0][alpha == 0]).all()


def test_the_background_holds_nothing_of_the_person() -> None:
    crops = photo(RED, GREEN, soft_disc())
    made = show("background", crops)[0]
    assert np.abs(made.astype(int) - np.array(GREEN)).max() <= 2
    outside = crops.alpha[0] == 0  # type: ignore[index]
    assert (made[outside] == crops.rgb[0][outside]).all()


def test_outline_and_box_show_nothing_else() -> None:
    crops = photo(RED, GREEN, soft_disc())
    assert (show("silhouette", crops)[0] == crops.alpha[0][..., None]).all()  # type: ignore[index]
    framed = Crops(crops.rgb, crops.alpha, np.array([[10.0, 20.0, 30.0, 44.0]]))
    box = show("box", framed)[0]
    assert (box[20:44, 10:30] == 255).all()
    assert box.astype(int).sum() == 24 * 20 * 3 * 255
    unknown = show("box", crops)[0, ..., 0]  # no face: the figure's own box
    rows, columns = np.nonzero(crops.alpha[0] >= 128)  # type: ignore[index]
    assert (unknown[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] == 255).all()
    assert not show("box", Crops(crops.rgb, None, NOWHERE)).any()


def test_face_and_clothes_show_their_part_alone() -> None:
    crops = photo(RED, GREEN, soft_disc())
    framed = Crops(crops.rgb, crops.alpha, np.array([[40.0, 30.0, 56.0, 50.0]]))
    face, clothes = (show(view, framed)[0].astype(int) for view in ("face", "clothes"))
    assert (face[30:50, 40:56] == RED).all()
    assert not face[50:].any()
    assert not clothes[:50].any()
    assert (clothes[52:60, 44:52] == RED).all()
    assert clothes[..., 1].max() <= 43, "none of the green ground"


def test_parts_add_up() -> None:
    crops = photo(RED, GREEN, soft_disc())
    framed = Crops(crops.rgb, crops.alpha, np.array([[40.0, 30.0, 56.0, 50.0]]))
    for given_crops in (framed, crops, Crops(crops.rgb, None, framed.faces)):
        np.testing.assert_allclose(sum(parts(given_crops).values()), 1, atol=1e-6)
    assert not parts(crops)["face"].any()
    assert not parts(crops)["clothes"].any()


def test_the_face_is_found_in_its_crop() -> None:
    record = Record(
        key="a", labels={}, sha256="", bytes=1, mtime_ns=1, width=400, height=300, rung="plain",
        box=(150, 100, 200, 160), crop=(180, 130, 160, 160, 0.0),
    )  # fmt: skip
    bare = Record(key="b", labels={}, sha256="", bytes=1, mtime_ns=1, rung="whole")
    found = faces([record, bare], (80, 80))
    np.testing.assert_allclose(found[0], [25, 25, 50, 55])
    assert np.isnan(found[1]).all()


@settings(max_examples=40, deadline=None)
@given(
    pairs=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), min_size=1, max_size=30),
    kind=st.sampled_from(MIXED),
)
def test_partners_are_of_the_class_asked_for_and_never_the_same_person(
    pairs: list[tuple[int, int]], kind: str
) -> None:
    classes, persons = (np.array(each) for each in zip(*pairs, strict=True))
    found = partners(kind, classes, persons, seed=3)
    assert (found == partners(kind, classes, persons, seed=3)).all()
    for row, other in enumerate(found):
        candidates = persons != persons[row]
        if kind == "mixed-same":
            candidates &= classes == classes[row]
        if kind == "mixed-next":
            candidates &= classes != classes[row]
        assert (other >= 0) == candidates.any()
        assert other < 0 or candidates[other]


def test_the_next_class_is_the_next_and_a_random_one_is_any() -> None:
    classes, persons = np.arange(3000) % 5 * 2, np.arange(3000)
    follows = classes[partners("mixed-next", classes, persons)]
    assert (follows == (classes + 2) % 10).all()
    lent = classes[partners("mixed-rand", classes, persons)]
    own = (lent == classes).mean()
    assert abs(own - 0.2) < 0.03, "its own class is one of the five"
    assert mixtures.SHOWN.keys() >= set(MIXED)
