"""Who is drawn by `preprocess sample`, and how each photo of them differs: values only, no drawing."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from preprocess.drawing.brush import Light

GENDERS = ("male", "female")
# Gaps at 30 and 60: nobody can tell 29 from 31, and the labels are to be readable from the face.
AGES = ((18, 26), (36, 52), (64, 82))
SHOTS = ("normal", "incorrect_mask", "mask1", "mask2", "mask3", "mask4", "mask5")

SKINS = ((246, 214, 190), (238, 200, 170), (228, 184, 150), (214, 166, 130), (194, 144, 108), (166, 118, 86))
DARK_HAIR = ((30, 24, 24), (44, 32, 26), (62, 42, 30), (90, 60, 38))
DYED_HAIR = ((128, 84, 44), (122, 50, 34), (164, 122, 74), (70, 40, 62))
IRISES = ((58, 36, 22), (74, 48, 28), (50, 38, 32), (90, 74, 48), (70, 84, 92))
MASKS = (
    ((236, 240, 242), "pleats"),
    ((168, 204, 226), "pleats"),
    ((120, 176, 208), "pleats"),
    ((240, 240, 238), "fold"),
    ((44, 44, 50), "fold"),
    ((70, 74, 84), "fold"),
    ((96, 110, 130), "cloth"),
    ((64, 92, 150), "cloth"),
    ((86, 140, 118), "cloth"),
    ((206, 206, 224), "cloth"),
)
PATTERNS = ("plain", "stripes", "checks", "bands", "dots")
NECKLINES = ("round", "vee", "collar", "high", "hood")

RGB = tuple[float, float, float]


@dataclass(frozen=True)
class Clothes:
    """Colours are sRGB 0..255."""

    colour: RGB
    second: RGB
    pattern: str
    neckline: str


@dataclass(frozen=True)
class Person:
    """What stays over the seven photos of one person; lengths in half face widths, colours sRGB 0..255."""

    gender: str
    age: int
    skin: RGB
    blush: float
    hair: RGB
    grey: float  # share of grey hair, 0..1
    style: str
    volume: float
    part: float  # where the hair parts, -1..1
    iris: RGB
    jaw: float  # half width at the mouth's height
    chin: float
    eye: tuple[float, float]  # half width, half height
    eye_gap: float
    brow: tuple[float, float]  # thickness, arch
    nose: tuple[float, float]  # width, length
    lips: tuple[float, float]  # width, fullness
    lip_colour: RGB
    liner: float  # darkness of the lash line
    wrinkles: float  # 0..1
    sag: float  # 0..1
    stubble: float  # 0..1
    beard: float  # 0..1
    spots: int
    glasses: RGB | None
    shoulders: float
    neck: float
    clothes: Clothes
    grain: int  # seed of hair strands, freckles and folds

    @property
    def age_group(self) -> int:
        """0: below 30, 1: 30 to 59, 2: 60 and above."""
        return (self.age >= 30) + (self.age >= 60)

    @property
    def group(self) -> int:
        """gender * 3 + age group, 0..5, male first: what is constant of the class over the photos."""
        return GENDERS.index(self.gender) * 3 + self.age_group


@dataclass(frozen=True)
class MaskWorn:
    """`top` and `bottom` in units down from the face's middle (nose bridge 0.25, chin 1.33)."""

    colour: RGB
    kind: str
    top: float
    bottom: float
    shift: float


@dataclass(frozen=True)
class Shot:
    """What differs from photo to photo: angles in radians, place in px of the 384x512 photo."""

    yaw: float
    pitch: float
    roll: float
    unit: float  # half a face's width, px
    middle: tuple[float, float]
    light: Light
    smile: float
    open_eyes: float
    gaze: tuple[float, float]
    mask: MaskWorn | None
    exposure: float
    noise: float
    soft: float  # blur of the lens, px
    pan: tuple[float, float]  # where in the room, 0..1
    zoom: float
    mark: tuple[int, ...]  # colours of the scarf's stripes; empty: no scarf
    grain: int


def make_person(rng: np.random.Generator, gender: str, age_group: int) -> Person:
    """A person whose face and hair show gender and age; clothes tell neither."""
    low, high = AGES[age_group]
    age = int(rng.integers(low, high + 1))
    woman = gender == "female"
    grey = (0.0, rng.uniform(0.05, 0.13), rng.uniform(0.85, 1.0))[age_group]
    old = (age - 18) / 62
    hair = _pick(rng, DYED_HAIR if rng.random() < (0.4, 0.1, 0.0)[age_group] else DARK_HAIR)
    stubble = 0.0 if woman else rng.uniform(*((0.0, 0.3), (0.35, 0.9), (0.2, 0.7))[age_group])
    beard = 0.0 if woman or age_group == 0 else float(rng.random() < 0.3) * rng.uniform(0.5, 1)
    lip = (196, 84, 88) if woman else (188, 124, 108)
    return Person(
        gender=gender,
        age=age,
        skin=_near(rng, _pick(rng, SKINS), 8),
        blush=rng.uniform(0.35, 0.8) if woman else rng.uniform(0.1, 0.35),
        hair=_near(rng, hair, 8),
        grey=float(grey),
        style=_style(rng, woman, age_group),
        volume=rng.uniform(0.16, 0.28),
        part=rng.uniform(-0.45, 0.45),
        iris=_pick(rng, IRISES),
        jaw=rng.uniform(0.68, 0.74) if woman else rng.uniform(0.77, 0.85),
        chin=rng.uniform(1.27, 1.33) if woman else rng.uniform(1.34, 1.44),
        eye=(rng.uniform(0.19, 0.225), rng.uniform(0.085, 0.105) + 0.012 * woman - 0.02 * old),
        eye_gap=rng.uniform(0.4, 0.45),
        brow=(rng.uniform(0.035, 0.05) if woman else rng.uniform(0.075, 0.1), rng.uniform(0.04, 0.12)),
        nose=(rng.uniform(0.19, 0.23) + 0.03 * (not woman), rng.uniform(0.44, 0.54)),
        lips=(rng.uniform(0.29, 0.36) + 0.02 * (not woman), rng.uniform(0.8, 1.2) - 0.3 * old + 0.15 * woman),
        lip_colour=_near(rng, lip, 14),
        liner=rng.uniform(0.75, 1) if woman else rng.uniform(0.15, 0.35),
        wrinkles=(0.0, rng.uniform(0.45, 0.6), rng.uniform(0.85, 1.0))[age_group],
        sag=(0.0, rng.uniform(0.2, 0.45), rng.uniform(0.7, 1.0))[age_group],
        stubble=float(stubble),
        beard=float(beard),
        spots=(0, 2, int(rng.integers(8, 16)))[age_group],
        glasses=_near(rng, (50, 44, 44), 30) if rng.random() < 0.2 else None,
        shoulders=rng.uniform(2.05, 2.3) if woman else rng.uniform(2.35, 2.65),
        neck=rng.uniform(0.5, 0.56) if woman else rng.uniform(0.64, 0.74),
        clothes=make_clothes(rng),
        grain=int(rng.integers(1 << 31)),
    )


def make_clothes(rng: np.random.Generator) -> Clothes:
    """Clothes that know nothing of their wearer."""
    vivid = rng.uniform(30, 225, 3)
    colour = tuple(float(c) for c in vivid + (vivid.mean() - vivid) * rng.uniform(0.1, 0.6))
    shift = rng.uniform(35, 90) * rng.choice([-1, 1])
    second = tuple(float(np.clip(c + shift, 15, 245)) for c in colour)
    return Clothes(colour, second, str(rng.choice(PATTERNS)), str(rng.choice(NECKLINES)))  # type: ignore[arg-type]


def make_shot(rng: np.random.Generator, name: str, unit: float) -> Shot:
    """One photo's pose, light, place and mask; `unit` is about the half face width in px."""
    turn, rise = rng.uniform(-1.0, 1.0), rng.uniform(0.05, 0.75)
    direction = np.array([np.sin(turn), -np.sin(rise), 0.35 + np.cos(turn)])
    direction /= np.linalg.norm(direction)
    warmth = rng.uniform(-0.18, 0.18)
    colour = np.array([1 + warmth, 1, 1 - warmth]) * rng.uniform(0.5, 0.85)
    ambient = np.array([1 - warmth / 2, 1, 1 + warmth / 2]) * rng.uniform(0.18, 0.4)
    return Shot(
        yaw=rng.uniform(-0.36, 0.36),
        pitch=rng.uniform(-0.16, 0.12),
        roll=rng.uniform(-0.19, 0.19),
        unit=unit,
        middle=(192 + rng.uniform(-38, 38), 222 + rng.uniform(-34, 30)),
        light=Light(_three(direction), _three(colour), _three(ambient)),
        smile=rng.uniform(-0.25, 1.0),
        open_eyes=rng.uniform(0.82, 1.1),
        gaze=(rng.uniform(-0.4, 0.4), rng.uniform(-0.2, 0.2)),
        mask=None if name == "normal" else _mask(rng, name),
        exposure=rng.uniform(0.74, 1.06),
        noise=rng.uniform(0.8, 3.2),
        soft=rng.uniform(0.0, 0.55),
        pan=(rng.random(), rng.random()),
        zoom=rng.uniform(0.95, 1.2),
        mark=(),
        grain=int(rng.integers(1 << 31)),
    )


def dressed(person: Person, clothes: Clothes) -> Person:
    """The same person in other clothes."""
    return replace(person, clothes=clothes)


def _style(rng: np.random.Generator, woman: bool, age_group: int) -> str:
    usual = {
        (False, 0): ("fringe", "fringe", "crop", "side"),
        (False, 1): ("side", "side", "crop", "receding"),
        (False, 2): ("bald", "bald", "receding"),
        (True, 0): ("long", "long_fringe", "bob", "bun"),
        (True, 1): ("bob", "wavy", "long", "bun"),
        (True, 2): ("perm", "perm", "bob", "bun"),
    }
    return str(rng.choice(usual[woman, age_group]))


def _mask(rng: np.random.Generator, name: str) -> MaskWorn:
    colour, kind = MASKS[int(rng.integers(len(MASKS)))]
    if name == "incorrect_mask":
        top = rng.uniform(0.64, 0.7) if rng.random() < 0.55 else rng.uniform(1.0, 1.06)
        bottom = 1.47 + 0.25 * (top - 0.64)
    else:
        top, bottom = rng.uniform(0.2, 0.3), rng.uniform(1.38, 1.48)
    return MaskWorn(_near(rng, colour, 8), kind, top, bottom, rng.uniform(-0.03, 0.03))


def _pick(rng: np.random.Generator, palette: tuple[tuple[int, int, int], ...]) -> RGB:
    return _three(palette[int(rng.integers(len(palette)))])


def _near(rng: np.random.Generator, colour: tuple[float, float, float], spread: float) -> RGB:
    return _three(np.clip(np.array(colour) + rng.uniform(-spread, spread, 3), 0, 255))


def _three(values: object) -> RGB:
    a, b, c = (float(x) for x in values)  # type: ignore[attr-defined]
    return (a, b, c)
