"""What the drawn set promises: names, exact alphas, planted cues, faces that a detector finds."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from configs.errors import UserError
from preprocess.drawing.portrait import HEIGHT, WIDTH, Figure, compose
from preprocess.drawing.rooms import ROOMS, room, view
from preprocess.drawing.sitters import SHOTS
from preprocess.photos import list_sources
from preprocess.sample import GROUPS, OUTFITS, SIZES, Planned, draw, photo, plan, shot_of


def group_of(label: tuple[str, int]) -> int:
    """gender * 3 + age group, as a label says it."""
    gender, age = label
    return (gender == "female") * 3 + (age >= 30) + (age >= 60)


def digests(folder: Path) -> dict[str, str]:
    """The hash of every file below a folder."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def agreement(pairs: list[tuple[int, int]]) -> float:
    """Share of pairs that are equal."""
    return float(np.mean([a == b for a, b in pairs]))


# Layout


def test_layout_is_mask18(drawn: Path) -> None:
    sources = list_sources(drawn / "photos")
    assert len(sources) == 42
    assert Counter(str(s.labels["mask"]) for s in sources) == {"mask": 30, "incorrect": 6, "normal": 6}
    assert len({s.group for s in sources}) == 6
    labelled = {(str(s.labels["gender"]), int(s.labels["age"])) for s in sources}  # type: ignore[arg-type]
    assert {group_of(label) for label in labelled} == set(range(GROUPS))


def test_every_photo_has_an_alpha_of_its_size(drawn: Path) -> None:
    photos = sorted(path.relative_to(drawn / "photos") for path in (drawn / "photos").rglob("*.jpg"))
    alphas = sorted(path.relative_to(drawn / "alpha") for path in (drawn / "alpha").rglob("*.png"))
    assert [path.with_suffix("") for path in photos] == [path.with_suffix("") for path in alphas]
    assert {path.stem for path in photos} == set(SHOTS)
    for path in photos:
        rgb = cv2.imread(str(drawn / "photos" / path))
        alpha = cv2.imread(str(drawn / "alpha" / path.with_suffix(".png")), cv2.IMREAD_UNCHANGED)
        assert rgb.shape == (HEIGHT, WIDTH, 3) == (512, 384, 3)
        assert alpha.shape == (HEIGHT, WIDTH)
        assert alpha.dtype == np.uint8
        # A figure, a room, and between them a soft edge that is a line and no area.
        assert 0.15 < np.mean(alpha == 255) < 0.75
        assert np.mean(alpha == 0) > 0.2
        assert 0.001 < np.mean((alpha > 0) & (alpha < 255)) < 0.06


def test_groups_go_round_and_ages_vary() -> None:
    planned = plan(60)
    assert Counter(one.person.group for one in planned) == dict.fromkeys(range(GROUPS), 10)
    assert len({one.person.age for one in planned}) > 20
    assert all(group_of(one.label) == one.person.group for one in planned)


# The same again


def test_same_bytes_again_and_in_any_number_of_processes(tmp_path: Path) -> None:
    for name, jobs in (("one", 1), ("two", 2)):
        draw(tmp_path / name, people=2, seed=5, jobs=jobs)
    first = digests(tmp_path / "one")
    assert len(first) == 28
    assert first == digests(tmp_path / "two")
    assert not np.array_equal(photo(plan(1, seed=5)[0], "normal")[0], photo(plan(1, seed=6)[0], "normal")[0])


def test_persons_do_not_depend_on_what_is_planted() -> None:
    plain = [one.person for one in plan(12, seed=2)]
    assert plain == [one.person for one in plan(12, shortcut=1, seed=2)]
    assert plain == [one.person for one in plan(12, shortcut=1, seed=2, cue="person")]
    assert plain == [one.person for one in plan(18, seed=2)][:12]


# The alpha


def test_rooms_show_only_where_the_alpha_lets_them() -> None:
    one = plan(4, seed=1)[3]
    for name in ("normal", "mask2"):
        first, figure = photo(one, name, room=0)
        second, _ = photo(one, name, room=4)
        differs = (first != second).any(axis=2)
        assert not differs[figure.alpha == 255].any()
        assert differs[figure.alpha == 0].mean() > 0.97


def test_alpha_is_the_share_of_the_figure() -> None:
    one = replace(plan(1, seed=1)[0])
    shot = replace(shot_of(one, 0), noise=0.0)
    _, figure = photo(one, "normal")
    nobody = Figure(np.zeros_like(figure.rgb), np.zeros_like(figure.alpha), figure.face)
    grounds = [view(k, HEIGHT, WIDTH, pan=shot.pan, zoom=shot.zoom) for k in (0, 2)]
    with_figure = [compose(figure, ground, shot).astype(int) for ground in grounds]
    without = [compose(nobody, ground, shot).astype(int) for ground in grounds]
    share = 1 - figure.alpha[..., None] / 255
    error = (with_figure[0] - with_figure[1]) - share * (without[0] - without[1])
    clipped = np.max(with_figure + without, axis=0) == 255
    assert np.abs(error[~clipped]).max() <= 2


def test_file_holds_the_drawn_photo_and_its_alpha(drawn: Path) -> None:
    one = plan(6, seed=3)[4]
    rgb, figure = photo(one, "mask3")
    stored = cv2.imread(str(drawn / "alpha" / one.folder / "mask3.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(stored, figure.alpha)
    jpeg = cv2.cvtColor(cv2.imread(str(drawn / "photos" / one.folder / "mask3.jpg")), cv2.COLOR_BGR2RGB)
    assert np.abs(jpeg.astype(int) - rgb).mean() < 4


def test_face_box_lies_on_the_figure() -> None:
    for one in plan(6, seed=8):
        _, figure = photo(one, "normal")
        x0, y0, x1, y1 = (round(a) for a in figure.face)
        assert figure.alpha[max(0, y0) : y1, max(0, x0) : x1].mean() > 0.85 * 255


# What is planted


def test_full_shortcut_gives_each_group_its_room() -> None:
    rooms = {(one.person.group, one.room) for one in plan(60, shortcut=1)}
    assert len(rooms) == GROUPS
    assert len({number for _, number in rooms}) == GROUPS


@pytest.mark.parametrize("strength", [0.0, 0.5, 0.9])
def test_shortcut_is_the_share_that_it_says(strength: float) -> None:
    count = 1800
    share = agreement([(one.person.group, one.room) for one in plan(count, shortcut=strength, seed=4)])
    expected = strength + (1 - strength) / GROUPS
    assert abs(share - expected) < 3.5 * np.sqrt(expected * (1 - expected) / count)


@pytest.mark.parametrize("cue", ["room", "clothes", "size", "person"])
def test_rooms_are_independent_of_groups_unless_planted(cue: str) -> None:
    strength = 0.0 if cue == "room" else 1.0
    table = np.zeros((GROUPS, GROUPS))
    planned = plan(1800, shortcut=strength, seed=9, cue=cue)  # type: ignore[arg-type]
    for one in planned:
        table[one.person.group, one.room] += 1
    expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
    # The 0.999 quantile of chi squared with 25 degrees of freedom.
    assert ((table - expected) ** 2 / expected).sum() < 52.6


def test_outfit_and_size_follow_the_group_only_when_planted() -> None:
    clothed = plan(36, shortcut=1, cue="clothes")
    assert all(one.person.clothes == OUTFITS[one.person.group] for one in clothed)
    sized = plan(36, shortcut=1, cue="size")
    assert all(one.unit == SIZES[one.person.group] for one in sized)
    assert {shot_of(sized[2], k).unit for k in range(len(SHOTS))} == {SIZES[2]}
    plain = plan(600, shortcut=1)
    assert not any(one.person.clothes in OUTFITS for one in plain)
    means = [np.mean([one.unit for one in plain if one.person.group == k]) for k in range(GROUPS)]
    assert np.ptp(means) < 4


def test_scarf_tells_the_person_and_not_the_group() -> None:
    own = plan(60, shortcut=1, cue="person")
    assert all(len(set(one.marks)) == 1 and one.marks[0] for one in own)
    assert len({one.marks[0] for one in own}) == 60
    other = plan(60, shortcut=0, cue="person")
    assert all(len(set(one.marks)) == len(SHOTS) for one in other)
    assert not any(any(one.marks) for one in plan(6, shortcut=1))


def test_planted_cue_shows_where_it_is_said_to_be() -> None:
    def changed(left: Planned, right: Planned) -> tuple[np.ndarray, Figure]:
        (a, figure), (b, _) = photo(left, "mask1"), photo(right, "mask1")
        return (np.abs(a.astype(int) - b) > 24).any(axis=2), figure

    plain = plan(6, seed=2)[5]
    chin = round(plain.unit * 1.3 + shot_of(plain, SHOTS.index("mask1")).middle[1])
    for cue in ("clothes", "person"):
        planted = plan(6, shortcut=1, seed=2, cue=cue)[5]  # type: ignore[arg-type]
        where, figure = changed(plain, replace(planted, room=plain.room, unit=plain.unit))
        assert where.sum() > 500
        assert where[figure.alpha == 0].mean() < 0.01
        assert where[: chin - 10].mean() < 0.01


def test_rooms_can_be_told_apart_in_any_photo() -> None:
    """Nearest neighbour by the colours at the photo's rims, where the figure hardly reaches."""
    rng = np.random.default_rng(0)

    def features(number: int) -> np.ndarray:
        part = view(number, HEIGHT, WIDTH, pan=tuple(rng.random(2)), zoom=rng.uniform(0.95, 1.2))  # type: ignore[arg-type]
        rim = np.concatenate([part[:, :60].reshape(-1, 3), part[:, -60:].reshape(-1, 3)])
        colours = np.histogramdd(rim // 64, bins=(4, 4, 4), range=[(0, 4)] * 3)[0]
        return np.sqrt(colours.ravel() / len(rim))

    seen = np.array([[features(k) for _ in range(20)] for k in range(len(ROOMS))])
    known, asked = seen[:, :12].reshape(-1, 64), seen[:, 12:]
    nearest = np.linalg.norm(asked[:, :, None] - known, axis=-1).argmin(-1) // 12
    assert (nearest == np.arange(len(ROOMS))[:, None]).mean() > 0.95
    assert room(0).flags.writeable is False


def test_shuffled_labels_say_nothing() -> None:
    plain, shuffled = plan(600, shortcut=1, seed=3), plan(600, shortcut=1, seed=3, shuffle_labels=True)
    assert Counter(one.label for one in plain) == Counter(one.label for one in shuffled)
    assert [one.person for one in plain] == [one.person for one in shuffled]
    assert all(sorted(one.names) == sorted(SHOTS) for one in shuffled)
    share = agreement([(group_of(one.label), one.room) for one in shuffled])
    assert abs(share - 1 / GROUPS) < 3.5 * np.sqrt(5 / 36 / 600)
    bare = agreement([(one.names.index("normal"), 0) for one in shuffled])
    assert abs(bare - 1 / 7) < 3.5 * np.sqrt(6 / 49 / 600)


# Faces


def found(rgb: np.ndarray, face: tuple[float, float, float, float], detector: object) -> bool:
    """Whether a box of the detector overlaps the drawn face by an IoU of at least 0.4."""
    boxes, _ = detector.detect(rgb)  # type: ignore[attr-defined]
    x0, y0, x1, y1 = face
    for a0, b0, a1, b1 in boxes if boxes is not None else ():
        shared = max(0.0, min(x1, a1) - max(x0, a0)) * max(0.0, min(y1, b1) - max(y0, b0))
        if shared / ((x1 - x0) * (y1 - y0) + (a1 - a0) * (b1 - b0) - shared) >= 0.4:
            return True
    return False


def rates(people: int, names: tuple[str, ...]) -> dict[str, float]:
    """Share of photos in which plain MTCNN finds the face, by name."""
    from facenet_pytorch import MTCNN

    detector = MTCNN(keep_all=True, min_face_size=20)
    hits: dict[str, list[bool]] = {name: [] for name in names}
    for one in plan(people):
        for name in names:
            rgb, figure = photo(one, name)
            hits[name].append(found(rgb, figure.face, detector))
    return {name: float(np.mean(hit)) for name, hit in hits.items()}


def test_plain_mtcnn_finds_the_faces() -> None:
    seen = rates(6, ("normal", "mask1", "mask4"))
    assert seen["normal"] == 1
    assert (seen["mask1"] + seen["mask4"]) / 2 >= 0.85


@pytest.mark.slow
def test_plain_mtcnn_finds_the_faces_of_sixty_persons() -> None:
    seen = rates(60, SHOTS)
    assert seen["normal"] >= 0.98
    assert np.mean([seen[f"mask{k}"] for k in range(1, 6)]) >= 0.85


# Mistakes


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"people": 0}, "people: 0"),
        ({"people": 1, "shortcut": 1.5}, "shortcut: 1.5"),
        ({"people": 1, "shortcut": -0.1}, "shortcut: -0.1"),
        ({"people": 1, "shortcut": float("nan")}, "shortcut: nan"),
        ({"people": 1, "seed": -1}, "seed: -1"),
        ({"people": 1, "cue": "rooms"}, 'did you mean "room"'),
        ({"people": 1, "jobs": 0}, "jobs: 0"),
    ],
)
def test_wrong_arguments_are_told(tmp_path: Path, settings: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says):
        draw(tmp_path / "set", **settings)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(UserError, match="not an empty folder"):
        draw(tmp_path, people=1)
    with pytest.raises(UserError, match="not an empty folder"):
        draw(tmp_path / "holiday.jpg", people=1)
    assert digests(tmp_path) == {"holiday.jpg": hashlib.sha256(b"mine").hexdigest()}


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    draw(tmp_path / "set", people=1, jobs=1)
    assert len(digests(tmp_path / "set")) == 14
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_stopped_half_way_it_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from preprocess.sample import draw; "
        "draw(pathlib.Path(sys.argv[1]), people=500, jobs=2)"
    )
    root = Path(__file__).parents[2]
    place = tmp_path / "place"
    place.mkdir()
    with (tmp_path / "errors").open("wb") as errors:  # a file: workers that outlive it would hold a pipe open
        running = subprocess.Popen(
            [sys.executable, "-c", code, str(place / "set")],
            cwd=root,
            stderr=errors,
            env={**os.environ, "PYTHONPATH": str(root)},
        )
    try:
        deadline = time.monotonic() + 120
        while not list(place.rglob("*.jpg")) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert list(place.rglob("*.jpg"))
        running.send_signal(signal.SIGINT)
        running.wait(timeout=120)
    finally:
        running.kill()
    assert b"KeyboardInterrupt" in (tmp_path / "errors").read_bytes()
    assert not list(place.iterdir())
