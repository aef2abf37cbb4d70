from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocess.crop import (
    Frame,
    around,
    corners_of,
    extract,
    half_px,
    inside,
    resize,
    scaled,
    to_crop,
    to_photo,
    whole,
)

px = st.floats(-200, 700, allow_nan=False)
side = st.floats(12, 300)
shape = st.tuples(st.integers(16, 96), st.integers(16, 96))
box = st.tuples(px, px, side, side).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))
frame = st.builds(Frame, px, px, side, side, st.floats(-60, 60))


def ramp(height: int = 240, width: int = 320) -> np.ndarray:
    """A photo whose red tells the column and green the row, 0..255 over its length."""
    rows, columns = np.mgrid[:height, :width]
    planes = [(columns + 0.5) * 255 / width, (rows + 0.5) * 255 / height, np.full((height, width), 9)]
    return np.rint(np.stack(planes, -1)).astype(np.uint8)


@given(box, shape)
def test_a_frame_has_the_crops_shape_holds_the_face_and_lies_on_whole_pixels(b: tuple, size: tuple) -> None:
    got = around(b, size=size, margin=0.5)
    x0, y0, x1, y1 = corners_of(got)
    assert x0 == round(x0)
    assert y0 == round(y0)
    shape_of = size[1] / size[0]
    assert abs(got.width - got.height * shape_of) <= 0.5 * (1 + shape_of) + 1e-9  # both sides are rounded
    face = max(b[2] - b[0], b[3] - b[1])
    assert min(got.width, got.height) >= 2 * face - 1
    assert min(b[0] - x0, b[1] - y0, x1 - b[2], y1 - b[3]) >= face / 2 - 1.5


def test_margins_by_side_move_the_frame() -> None:
    got = around((100, 100, 200, 200), size=(64, 64), margin=(0.0, 0.5, 1.0, 0.5))
    assert corners_of(got) == (100, 50, 300, 250)


@given(box, shape)
def test_aligned_eyes_are_level_in_the_crop(b: tuple, size: tuple) -> None:
    x0, y0, x1, y1 = b
    w, h = x1 - x0, y1 - y0
    eyes = (x0 + 0.3 * w, y0 + 0.5 * h, x0 + 0.7 * w, y0 + 0.3 * h)
    marks = (*eyes, *(0.0,) * 6)
    got = around(b, size=size, landmarks=marks)
    left_x, left_y, right_x, right_y = to_crop(eyes, got, size=size)
    assert abs(left_y - right_y) <= 0.01 * size[0] + 0.05
    assert left_x < right_x


@given(frame, shape, st.lists(st.tuples(px, px), min_size=1, max_size=4))
def test_points_go_to_the_crop_and_back(f: Frame, size: tuple, points: list) -> None:
    flat = [v for point in points for v in point]
    there = np.array(to_crop(flat, f, size=size))
    x, y = to_photo(there[::2], there[1::2], f, size=size)
    assert np.allclose(np.stack([x, y], 1).ravel(), flat, atol=1e-3)


@settings(max_examples=40)
@given(frame, shape)
def test_a_crop_shows_what_lies_at_its_place(f: Frame, size: tuple) -> None:
    """Each pixel of the crop of a ramp tells the photo's column and row that `to_photo` says it came from."""
    photo = ramp()
    got = extract(photo, f, size=size)
    on_photo = inside(f, 320, 240, size=size)
    rows, columns = np.mgrid[: size[0], : size[1]]
    x, y = to_photo(columns + 0.5, rows + 0.5, f, size=size)
    far = np.maximum(f.width / size[1], f.height / size[0]) + 2
    deep = (x > far) & (y > far) & (x < 320 - far) & (y < 240 - far)
    if on_photo is not None:
        assert on_photo[deep].all()
    off_px = 1.5 + 0.3 * far  # rounding to grey levels, and a third of a pixel of the crop
    assert np.abs(got[..., 0] * (320 / 255) - x)[deep].max(initial=0) <= off_px
    assert np.abs(got[..., 1] * (240 / 255) - y)[deep].max(initial=0) <= off_px


def test_beyond_the_photo_is_filled_never_squeezed() -> None:
    photo = np.full((40, 60, 3), 200, np.uint8)
    photo[:, :, 2] = 100
    frame = Frame(0, 20, 40, 40)
    for fill, colour in (("edge", [200, 200, 100]), ("black", [0, 0, 0]), ("mean", [200, 200, 100])):
        got = extract(photo, frame, size=(40, 40), fill=fill)
        assert (got[:, :20] == colour).all()
        assert (got[:, 20:] == [200, 200, 100]).all()
    on_photo = inside(frame, 60, 40, size=(40, 40))
    assert on_photo is not None
    assert not on_photo[:, :20].any()
    assert on_photo[:, 20:].all()


@pytest.mark.parametrize(
    "frame", [Frame(-500, -500, 30, 30), Frame(900, 20, 30, 50), Frame(20, 900, 7, 9, 30.0)]
)
def test_a_frame_beside_the_photo_is_all_fill(frame: Frame) -> None:
    got = extract(np.full((40, 60, 3), 7, np.uint8), frame, size=(16, 16), fill="edge")
    assert (got == 7).all()


@given(st.integers(1, 400), st.integers(1, 400), shape)
def test_the_whole_photo_fits(width: int, height: int, size: tuple) -> None:
    got = whole(width, height, size=size)
    assert got.width >= width - 1
    assert got.height >= height - 1
    assert min(got.width - width, got.height - height) <= max(
        2, 2 * max(size[0] / size[1], size[1] / size[0])
    )


def test_a_thin_strip_is_cut_within_little_memory() -> None:
    strip = np.full((50_000, 1, 3), 50, np.uint8)
    got = extract(strip, whole(1, 50_000, size=(64, 64)), size=(64, 64), fill="black")
    assert got.shape == (64, 64, 3)


def test_enlarged_and_shrunk_as_opencv_does() -> None:
    photo = ramp()
    assert (resize(photo, (60, 80)) == cv2.resize(photo, (80, 60), interpolation=cv2.INTER_AREA)).all()
    assert (resize(photo, (480, 640)) == cv2.resize(photo, (640, 480), interpolation=cv2.INTER_LINEAR)).all()
    assert (resize(photo, (240, 320)) == photo).all()


@given(frame)
def test_a_frame_scales_with_its_photo(f: Frame) -> None:
    half = scaled(f, 0.5, 0.5)
    assert np.allclose(corners_of(half), np.array(corners_of(f)) / 2)


def test_half_px_rounds_halves_up_and_forgets_noise() -> None:
    assert half_px([1.2, 1.24999, 1.26, -0.74, 2.75]) == (1.0, 1.0, 1.5, -0.5, 3.0)
