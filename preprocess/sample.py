"""`preprocess sample`: a labelled data set drawn offline, with the exact alpha of every photo.

Six groups are constant over a person's photos: gender * 3 + age group. The joint class of a photo is
mask * 6 + group; a room, an outfit or a size belongs to the person, so that what is planted there gives the
group away, never the state of the mask.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from configs.errors import UserError, did_you_mean
from configs.terminal import progress
from preprocess.drawing.portrait import HEIGHT, MARKS, WIDTH, Figure, compose, paint_figure
from preprocess.drawing.rooms import ROOMS, view
from preprocess.drawing.sitters import (
    GENDERS,
    SHOTS,
    Clothes,
    Person,
    Shot,
    dressed,
    make_person,
    make_shot,
)

Cue = Literal["room", "clothes", "size", "person"]
GROUPS = 6
# Half face widths in px at a photo width of 384: faces of about a third to a half of the width.
UNITS = (60.0, 90.0)
SIZES = tuple(np.linspace(*UNITS, GROUPS))
OUTFITS = (
    Clothes((188, 40, 44), (236, 200, 60), "bands", "round"),
    Clothes((36, 70, 150), (220, 226, 236), "stripes", "round"),
    Clothes((40, 120, 70), (200, 226, 190), "checks", "round"),
    Clothes((226, 178, 60), (120, 66, 20), "dots", "round"),
    Clothes((52, 48, 56), (206, 206, 210), "checks", "round"),
    Clothes((214, 150, 190), (120, 40, 110), "stripes", "round"),
)


# Colour is kept at full resolution: halved, it would bleed the room 8 px into the figure.
JPEG = [
    cv2.IMWRITE_JPEG_QUALITY,
    93,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
]


@dataclass(frozen=True)
class Planned:
    """One person of the set, before anything is drawn.

    Attributes:
        number: 1-based, the first part of the folder's name.
        person: who is drawn.
        label: (gender, age) in the folder's name; the person's own unless labels are shuffled.
        names: file name of each shot of `SHOTS`; its own unless labels are shuffled.
        room: number of the room, 0..5.
        unit: half face width, px; the photos keep it exactly where the size is the cue.
        marks: the scarf's colours for each shot; empty where nobody wears one.
        seed: of the photos' randomness.
        steady: the size doesn't vary from photo to photo.
    """

    number: int
    person: Person
    label: tuple[str, int]
    names: tuple[str, ...]
    room: int
    unit: float
    marks: tuple[tuple[int, ...], ...]
    seed: int
    steady: bool

    @property
    def folder(self) -> str:
        """As the mask18 layout names it: number, gender, race, age."""
        gender, age = self.label
        return f"{self.number:06d}_{gender}_Asian_{age}"


def plan(
    people: int, *, shortcut: float = 0.0, seed: int = 0, cue: Cue = "room", shuffle_labels: bool = False
) -> list[Planned]:
    """Who is in the set and what gives them away; see `draw` for the arguments.

    Returns:
        `people` persons; gender and age group go round, so that any six in a row hold each group once.
    """
    _check(people, shortcut, seed, cue)
    planned = [_planned(number, shortcut=shortcut, seed=seed, cue=cue) for number in range(1, people + 1)]
    return _shuffled(planned, seed) if shuffle_labels else planned


def draw(
    out: Path,
    *,
    people: int,
    shortcut: float = 0.0,
    seed: int = 0,
    cue: Cue = "room",
    shuffle_labels: bool = False,
    jobs: int | None = None,
) -> None:
    """Draw a data set: `out`/photos/000001_female_Asian_45/{normal,incorrect_mask,mask1..mask5}.jpg, 512x384,
    and the exact alpha in `out`/alpha/<the same>.png. The same arguments give the same bytes.

    Args:
        out: a folder that is empty or doesn't exist.
        people: how many persons, 7 photos each.
        shortcut: R, 0..1. With probability R a person gets the cue of the own group, else one of the six at
            random: 0 is independence, 1 gives the group away, and a share of R + (1 - R) / 6 agrees.
        seed: of everything but the six rooms, which are the same in every set: a model can be trained on a
            set with a shortcut and tested on one without.
        cue: where the group shows besides the figure. "room", "clothes" (one of six outfits), "size" (of the
            face in the photo); "person": nothing by group, but with probability R a person wears a scarf of
            their own in all photos, else another in each. Only "room" ties rooms to the group.
        shuffle_labels: deal gender and age out at random among the persons, and the file names (the state of
            the mask) among each person's photos: a set in which nothing can be learnt.
        jobs: processes; as many as there are cores by default.

    Raises:
        UserError: an argument out of its range, or `out` isn't an empty folder.
    """
    from joblib import Parallel, cpu_count, delayed

    planned = plan(people, shortcut=shortcut, seed=seed, cue=cue, shuffle_labels=shuffle_labels)
    if jobs is not None and jobs < 1:
        raise UserError(f"jobs: {jobs}; it takes at least 1 process")
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise UserError(f"{out}: not an empty folder; name a new one, nothing is overwritten")
    place = out.absolute()
    place.parent.mkdir(parents=True, exist_ok=True)
    # Drawn beside its place and moved there when whole: a set that was stopped half-way would pass for one.
    unfinished = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    for kind in ("photos", "alpha"):
        (unfinished / kind).mkdir()
    try:
        pool = Parallel(n_jobs=min(people, jobs or cpu_count()), return_as="generator_unordered")
        # Closed at once on Ctrl-C: joblib then stops its workers, which else would draw on.
        with closing(pool(delayed(_write)(unfinished, one) for one in planned)) as work:
            for _ in progress(work, label="draw", unit="person", total=people):
                pass
        unfinished.chmod(0o755)
        unfinished.replace(place)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def photo(planned: Planned, name: str, *, room: int | None = None) -> tuple[NDArray[np.uint8], Figure]:
    """One photo before it is compressed, u8 [512 384 3] RGB, and its figure with the exact alpha.

    Args:
        planned: the person.
        name: one of `SHOTS`: which photo.
        room: another room than the planned one, 0..5. Where the alpha is 255 the photo stays the same.
    """
    index = SHOTS.index(name)
    shot = shot_of(planned, index)
    figure = paint_figure(planned.person, shot)
    number = planned.room if room is None else room
    ground = view(number, HEIGHT, WIDTH, pan=shot.pan, zoom=shot.zoom)
    return compose(figure, ground, shot), figure


def shot_of(planned: Planned, index: int) -> Shot:
    """Pose, light and mask of the person's photo `SHOTS[index]`."""
    rng = np.random.default_rng([planned.seed, planned.number, 1 + index])
    unit = planned.unit * (1.0 if planned.steady else rng.uniform(0.94, 1.06))
    shot = make_shot(rng, SHOTS[index], unit)
    return replace(shot, mark=planned.marks[index])


def _check(people: int, shortcut: float, seed: int, cue: str) -> None:
    if people < 1:
        raise UserError(f"people: {people}; a set needs at least 1")
    if not 0 <= shortcut <= 1:
        raise UserError(f"shortcut: {shortcut}; it is a probability, 0 to 1")
    if seed < 0:
        raise UserError(f"seed: {seed}; it starts at 0")
    if cue not in get_args(Cue):
        raise UserError(f'cue: "{cue}" is unknown{did_you_mean(cue, get_args(Cue))}')


def _planned(number: int, *, shortcut: float, seed: int, cue: Cue) -> Planned:
    group = (number - 1) % GROUPS
    # A stream for the person and one for what is planted: the same persons whatever the cue and its strength.
    person = make_person(np.random.default_rng([seed, number, 0]), GENDERS[group // 3], group % 3)
    rng = np.random.default_rng([seed, number, 100])
    own, other = bool(rng.random() < shortcut), int(rng.integers(GROUPS))
    planted = group if own else other
    room, unit = int(rng.integers(GROUPS)), float(rng.uniform(*UNITS))
    scarves = rng.integers(len(MARKS), size=(len(SHOTS), 6)).tolist()
    marks: Sequence[Sequence[int]] = [()] * len(SHOTS)
    if cue == "room":
        room = planted
    elif cue == "clothes":
        person = dressed(person, OUTFITS[planted])
    elif cue == "size":
        unit = float(SIZES[planted])
    else:
        marks = scarves[:1] * len(SHOTS) if own else scarves
    return Planned(
        number=number,
        person=person,
        label=(person.gender, person.age),
        names=SHOTS,
        room=room,
        unit=unit,
        marks=tuple(tuple(mark) for mark in marks),
        seed=seed,
        steady=cue == "size",
    )


def _shuffled(planned: list[Planned], seed: int) -> list[Planned]:
    rng = np.random.default_rng([seed, 200])
    labels = [planned[i].label for i in rng.permutation(len(planned))]
    return [
        replace(one, label=label, names=tuple(SHOTS[i] for i in rng.permutation(len(SHOTS))))
        for one, label in zip(planned, labels, strict=True)
    ]


def _write(out: Path, planned: Planned) -> None:
    threads = cv2.getNumThreads()
    # One process a core already: threads inside would only fight over them.
    cv2.setNumThreads(1)
    photos, alphas = out / "photos" / planned.folder, out / "alpha" / planned.folder
    for folder in (photos, alphas):
        folder.mkdir()
    for shot, name in zip(SHOTS, planned.names, strict=True):
        rgb, figure = photo(planned, shot)
        _save(photos / f"{name}.jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), JPEG)
        _save(alphas / f"{name}.png", figure.alpha, [])
    cv2.setNumThreads(threads)


def _save(path: Path, picture: object, how: list[int]) -> None:
    encoded, data = cv2.imencode(path.suffix, picture, how)  # type: ignore[call-overload]
    assert encoded, path
    path.write_bytes(data.tobytes())


assert len(ROOMS) == len(OUTFITS) == GROUPS
