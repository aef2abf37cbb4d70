"""Photos of every kind, as a user's folder holds them."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from cache.records import Label
from configs.errors import UserError
from preprocess.photos import MAX_PIXELS, UnreadablePhoto, decode, list_sources

RED, GREEN, BLUE, WHITE = (200, 30, 30), (30, 160, 30), (30, 30, 200), (240, 240, 240)


def corners(width: int = 96, height: int = 64) -> Image.Image:
    """A picture that shows how it lies: red, green, blue, white corners clockwise from the top left."""
    image = Image.new("RGB", (width, height))
    for box, colour in (
        ((0, 0, width // 2, height // 2), RED),
        ((width // 2, 0, width, height // 2), GREEN),
        ((width // 2, height // 2, width, height), BLUE),
        ((0, height // 2, width // 2, height), WHITE),
    ):
        image.paste(colour, box)
    return image


def encoded(image: Image.Image, kind: str = "JPEG", **how: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **({"quality": 95, "subsampling": 0} if kind == "JPEG" else {}) | how)
    return out.getvalue()


def close(rgb: np.ndarray, image: Image.Image, tolerance: int = 12) -> bool:
    """Whether each quarter's middle has the colour of the picture's."""
    other = np.asarray(image.convert("RGB"))
    h, w = other.shape[:2]
    spots = [(h // 4, w // 4), (h // 4, 3 * w // 4), (3 * h // 4, w // 4), (3 * h // 4, 3 * w // 4)]
    return rgb.shape == other.shape and all(
        np.abs(rgb[spot].astype(int) - other[spot].astype(int)).max() <= tolerance for spot in spots
    )


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_obeyed(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = corners()
    data = encoded(image, kind, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    photo = decode(data)
    assert close(photo.rgb, upright)
    assert (photo.width, photo.height) == upright.size


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_jpeg_is_decoded_small_where_that_is_enough(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(corners(1600, 1000), exif=exif)
    photo = decode(data, min_side_px=250)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert (photo.width, photo.height) == upright.size
    assert min(photo.rgb.shape[:2]) == 250
    assert photo.scale == (4.0, 4.0)
    assert close(photo.rgb, upright.resize((photo.rgb.shape[1], photo.rgb.shape[0])))
    assert decode(data, min_side_px=501).scale == (1.0, 1.0)


def sixteen_bit() -> bytes:
    grey = np.asarray(corners().convert("L")).astype(np.uint16) * 257
    return encoded(Image.fromarray(grey), "PNG")


KINDS = {
    "grey jpeg": (encoded(corners().convert("L")), corners().convert("L")),
    "cmyk jpeg": (encoded(corners().convert("CMYK")), corners()),
    "progressive jpeg": (encoded(corners(), progressive=True), corners()),
    "palette png": (encoded(corners().convert("P", palette=Image.Palette.ADAPTIVE), "PNG"), corners()),
    "bilevel png": (encoded(Image.new("1", (9, 7), 1), "PNG"), Image.new("L", (9, 7), 255)),
    "16-bit png": (sixteen_bit(), corners().convert("L")),
    "alpha png": (
        encoded(Image.new("RGBA", (9, 7), (200, 0, 0, 0)), "PNG"),
        Image.new("RGB", (9, 7), "white"),
    ),
    "grey alpha png": (encoded(Image.new("LA", (9, 7), (10, 255)), "PNG"), Image.new("L", (9, 7), 10)),
    "animated gif": (
        encoded(corners(), "GIF", save_all=True, append_images=[Image.new("RGB", (96, 64))]),
        corners(),
    ),
    "animated webp": (
        encoded(corners(), "WEBP", save_all=True, append_images=[Image.new("RGB", (96, 64))]),
        corners(),
    ),
    "bmp": (encoded(corners(), "BMP"), corners()),
    "1x1": (encoded(Image.new("RGB", (1, 1), RED)), Image.new("RGB", (1, 1), RED)),
    "1x5000": (encoded(Image.new("RGB", (1, 5000), RED)), Image.new("RGB", (1, 5000), RED)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_picture_becomes_rgb(kind: str) -> None:
    data, truth = KINDS[kind]
    photo = decode(data, min_side_px=640)
    assert photo.rgb.dtype == np.uint8
    assert close(photo.rgb, truth, tolerance=24)


def bomb() -> bytes:
    """A few bytes of PNG that claim 60,000 x 60,000 px."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"0"))
        + chunk(b"IEND", b"")
    )


def jpeg_bomb() -> bytes:
    data = bytearray(encoded(corners()))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", 60_000, 60_000)
    return bytes(data)


WHOLE = encoded(corners(400, 300))
BAD = {
    "empty": (b"", "empty"),
    "text": (b"Dear all, please find attached", "not a picture"),
    "truncated jpeg": (WHOLE[: len(WHOLE) // 2], "damaged"),
    "jpeg of two bytes": (b"\xff\xd8", "not a picture"),
    "truncated png": (encoded(corners(400, 300), "PNG")[:300], "damaged"),
    "truncated webp": (encoded(corners(400, 300), "WEBP")[:60], "damaged"),
    "png bomb": (bomb(), "megapixels"),
    "jpeg bomb": (jpeg_bomb(), "megapixels"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_can_not_be_read_says_why(kind: str) -> None:
    data, reason = BAD[kind]
    with pytest.raises(UnreadablePhoto, match=reason):
        decode(data)


@pytest.mark.filterwarnings("ignore")
def test_flipped_bytes_never_crash() -> None:
    rng = np.random.default_rng(0)
    for data in (WHOLE, encoded(corners(), "PNG"), encoded(corners(), "WEBP"), encoded(corners(), "GIF")):
        for _ in range(60):
            broken = bytearray(data)
            for at in rng.integers(0, len(data), 4):
                broken[at] ^= int(rng.integers(1, 256))
            with contextlib.suppress(UnreadablePhoto):  # any other error fails the test
                assert decode(bytes(broken)).rgb.ndim == 3


@pytest.mark.slow
def test_a_hundred_megapixels() -> None:
    data = encoded(Image.new("RGB", (10_000, 10_000), RED), quality=50)
    assert MAX_PIXELS > 10_000 * 10_000
    photo = decode(data, min_side_px=640)
    assert (photo.width, photo.height) == (10_000, 10_000)
    assert photo.rgb.shape == (1250, 1250, 3)


def write(path: Path, data: bytes | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(Image.new("RGB", (8, 8), RED)) if data is None else data)
    return path


def listed(source: Path, layout: str = "auto") -> dict[str, tuple[dict[str, Label], str | None]]:
    return {item.key: (item.labels, item.group) for item in list_sources(source, layout)}


def test_class_folders(tmp_path: Path) -> None:
    write(tmp_path / "cat" / "1.jpg")
    write(tmp_path / "dog" / "deep" / "1.PNG")
    write(tmp_path / "dog" / "notes.txt")
    write(tmp_path / ".thumbs" / "1.jpg")
    assert listed(tmp_path) == {
        "cat/1.jpg": ({"class": "cat"}, None),
        "dog/deep/1.PNG": ({"class": "dog"}, None),
    }


def test_persons_folders(tmp_path: Path) -> None:
    for name in ("normal.jpg", "incorrect_mask.jpg", "mask1.jpg", "mask5.png"):
        write(tmp_path / "000001_female_Asian_45" / name)
    group = "000001_female_Asian_45"
    assert listed(tmp_path) == {
        f"{group}/{name}": ({"mask": mask, "gender": "female", "age": 45}, group)
        for name, mask in (
            ("incorrect_mask.jpg", "incorrect"),
            ("mask1.jpg", "mask"),
            ("mask5.png", "mask"),
            ("normal.jpg", "normal"),
        )
    }
    write(tmp_path / "000001_female_Asian_45" / "holiday.jpg")
    with pytest.raises(UserError, match=r"holiday\.jpg is not of that form"):
        list_sources(tmp_path)


def test_csv(tmp_path: Path) -> None:
    write(tmp_path / "a" / "1.jpg")
    (tmp_path / "list.csv").write_text("path,age,kind,weight,group\na/1.jpg,3,x,1.5,p1\na/gone.jpg,4,y,2,\n")
    sources = list_sources(tmp_path / "list.csv")
    assert [(s.key, s.labels, s.group) for s in sources] == [
        ("a/1.jpg", {"age": 3, "kind": "x", "weight": 1.5}, "p1"),
        ("a/gone.jpg", {"age": 4, "kind": "y", "weight": 2.0}, None),
    ]
    assert [s.bytes > 0 for s in sources] == [True, False]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file,label\na.jpg,1\n", "needs a column `path`"),
        ("path,label\n", "no rows"),
        ("path,label\na.jpg,1\na.jpg,2\n", "listed twice"),
        ("path,label\na.jpg\n", "row 2 has more or fewer"),
        ("", "needs a column `path`"),
    ],
)
def test_a_malformed_csv_is_told(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(UserError, match=words):
        list_sources(tmp_path / "list.csv")


def test_flat_folder_and_one_photo(tmp_path: Path) -> None:
    photo = write(tmp_path / "1.jpg")
    write(tmp_path / "more" / "2.jpg")
    assert listed(tmp_path) == {"1.jpg": ({}, None), "more/2.jpg": ({}, None)}
    assert listed(photo) == {"1.jpg": ({}, None)}
    with pytest.raises(UserError, match=r"1\.jpg is in none"):
        list_sources(tmp_path, "folders")


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file or folder"):
        list_sources(tmp_path / "missing")
    with pytest.raises(UserError, match="no photos in it"):
        list_sources(tmp_path)
    write(tmp_path / "readme.txt", b"text")
    with pytest.raises(UserError, match="no photos in it"):
        list_sources(tmp_path)
    with pytest.raises(UserError, match="neither a photo"):
        list_sources(tmp_path / "readme.txt")
    with pytest.raises(UserError, match='did you mean "folders"'):
        list_sources(tmp_path, "folder")


def test_names_of_all_kinds_and_equal_names_in_different_folders(tmp_path: Path) -> None:
    names = ["한글 사진.jpg", "🙂.jpg", "a'\"&<b>.jpg", "x\\xff.jpg", "new\nline.jpg", "same.jpg"]
    for name in names:
        write(tmp_path / "one" / name)
    write(tmp_path / "two" / "same.jpg")
    raw = os.fsencode(tmp_path) + b"/one/x\xff.jpg"
    Path(os.fsdecode(raw)).write_bytes(b"")
    sources = list_sources(tmp_path)
    keys = [s.key for s in sources]
    assert len(set(keys)) == len(keys) == len(names) + 2
    assert all(key.encode("utf-8") for key in keys)
    assert all(s.path.is_file() for s in sources)
    assert {"one/한글 사진.jpg", "one/🙂.jpg", "one/same.jpg", "two/same.jpg"} <= set(keys)


def test_links_in_a_loop_end(tmp_path: Path) -> None:
    write(tmp_path / "a" / "1.jpg")
    (tmp_path / "a" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "a" / "dead.jpg").symlink_to(tmp_path / "nowhere.jpg")
    sources = list_sources(tmp_path)
    assert [s.key for s in sources] == ["a/1.jpg", "a/dead.jpg"]
    assert sources[1].bytes == -1


@pytest.mark.skipif(
    os.geteuid() == 0 and not Path("/usr/bin/setpriv").exists(), reason="root may read everything"
)
def test_a_folder_that_may_not_be_entered_hides_its_photos_alone(tmp_path: Path) -> None:
    write(tmp_path / "open" / "1.jpg")
    shut = write(tmp_path / "shut" / "1.jpg").parent
    code = (
        "from pathlib import Path; from preprocess.photos import list_sources; "
        f"print([s.key for s in list_sources(Path({str(tmp_path)!r}))])"
    )
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    for folder in (tmp_path, *tmp_path.parents):
        if Path(tempfile.gettempdir()) in folder.parents:
            folder.chmod(0o755)
    shut.chmod(0o000)
    try:
        done = subprocess.run(
            [*as_nobody, sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=False,
            cwd=Path(__file__).parents[2],
        )
    finally:
        shut.chmod(0o755)
    assert done.stdout.strip() == "['open/1.jpg']", done.stderr
    assert "shut" in done.stderr
