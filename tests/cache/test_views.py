"""Views and fills, against NumPy and against planted truths."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cache import views
from configs.errors import UserError

RED, GREEN, BLUE = (torch.eye(3)[:, :, None, None][i][None] for i in range(3))


def disc(size: int = 96, radius: float = 26.0, soft_px: float = 10.0) -> torch.Tensor:
    """f32 [1 1 size size]: a disc whose edge falls from 1 to 0 over `soft_px`."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    away = ((y - size / 2) ** 2 + (x - size / 2) ** 2).sqrt()
    return ((radius + soft_px / 2 - away) / soft_px).clamp(0, 1)[None, None]


def photos(count: int, size: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Random images and alphas with sure figure, sure ground and soft pixels, all multiples of 1/255."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 3, size, size)).astype(np.float32) / 255
    alpha = np.clip(rng.integers(-255, 511, (count, 1, size, size)), 0, 255).astype(np.float32) / 255
    return torch.from_numpy(images), torch.from_numpy(alpha)


def draw(count: int, fill: str | list[str], seed: int = 0) -> views.Draw:
    return views.draw(count, fill, torch.Generator().manual_seed(seed))


def test_full_is_the_photo_itself() -> None:
    images, _ = photos(3, 16)
    assert views.take(images, None, draw(3, "black"), view="full").equal(images)


@pytest.mark.parametrize(("fill", "colour"), [("black", (0.0, 0.0, 0.0)), ("mean", views.MEAN)])
def test_a_fixed_fill_is_the_formula(fill: str, colour: tuple[float, ...]) -> None:
    images, alpha = photos(4, 24)
    a, fixed = alpha.numpy(), np.float32(colour)[None, :, None, None]
    figure = views.decontaminate(images, alpha).numpy()
    ground = views.ground(images, alpha).numpy()
    np.testing.assert_allclose(
        views.take(images, alpha, draw(4, fill), view="figure"), a * figure + (1 - a) * fixed, atol=1e-6
    )
    np.testing.assert_allclose(
        views.take(images, alpha, draw(4, fill), view="background"), (1 - a) * ground + a * fixed, atol=1e-6
    )


def test_decontaminated_is_the_formula_of_its_source() -> None:
    images, alpha = photos(2, 32)
    inner = views.spread(images, views._surely(alpha)).numpy()
    outer = views.spread(images, views._surely(1 - alpha)).numpy()
    a, photo = alpha.numpy(), images.numpy()
    expected = np.clip(inner + a * (photo - a * inner - (1 - a) * outer), 0, 1)
    np.testing.assert_allclose(views.decontaminate(images, alpha), expected, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(("figure", "background")),
    st.sampled_from((*views.FILLS, "all")),
    st.integers(1, 5),
    st.integers(3, 70),
    st.integers(0, 1000),
)
def test_what_is_kept_is_exact(view: str, fill: str, count: int, size: int, seed: int) -> None:
    images, alpha = photos(count, size, seed)
    chosen = list(views.FILLS) if fill == "all" else fill
    shown = views.take(images, alpha, draw(count, chosen, seed), view=view)
    kept = (alpha == (1 if view == "figure" else 0)).expand_as(images)
    assert shown[kept].equal(images[kept])
    assert shown.isfinite().all()
    assert shown.min() >= 0
    assert shown.max() <= 1 + 1e-5


def test_swap_keeps_the_figure_and_shows_the_partners_ground() -> None:
    images, alpha = photos(6, 40)
    choices = draw(6, "swap")
    shown = views.take(images, alpha, choices, view="figure")
    assert shown.equal(views.swap(images, alpha, choices.partners))
    both_away = (alpha == 0) & (alpha[choices.partners] == 0)
    seen = both_away.expand_as(images)
    assert seen.any()
    assert shown[seen].equal(images[choices.partners][seen])


@pytest.mark.parametrize("count", [2, 3, 7, 64])
def test_no_photo_is_its_own_partner(count: int) -> None:
    for seed in range(20):
        partners = draw(count, "swap", seed).partners
        assert sorted(partners.tolist()) == list(range(count))
        assert (partners != torch.arange(count)).all()


def test_a_batch_of_one_does_not_get_its_own_room_back() -> None:
    images, alpha = photos(1, 32)
    swapped = views.take(images, alpha, draw(1, "swap"))
    assert swapped.equal(views.take(images, alpha, draw(1, "mean")))


@pytest.mark.parametrize("size", [64, 97, 224])
@pytest.mark.parametrize("soft_px", [2.0, 10.0, 24.0])
def test_no_ring_of_the_old_background(size: int, soft_px: float) -> None:
    """A green figure with a soft edge, taken before red: nothing red is left before blue."""
    alpha = disc(size, size * 0.28, soft_px)
    photo = alpha * GREEN + (1 - alpha) * RED
    clean = views.composite(views.decontaminate(photo, alpha), BLUE.expand_as(photo), alpha)
    truth = alpha * GREEN + (1 - alpha) * BLUE
    assert (clean - truth).abs().max() < 2 / 255
    naive = alpha * photo + (1 - alpha) * BLUE
    assert naive[:, 0].max() > 0.2, "the planted ring must be there without the treatment"


def test_no_ring_when_the_figure_has_texture() -> None:
    rng = np.random.default_rng(0)
    alpha = disc(112, 30, 8)
    texture = torch.from_numpy(rng.uniform(0.2, 0.8, (1, 1, 112, 112)).astype(np.float32))
    figure = torch.cat([torch.zeros_like(texture), texture, texture], 1)
    photo = alpha * figure + (1 - alpha) * RED
    black = views.take(photo, alpha, draw(1, "black"))
    assert black[:, 0].max() < 0.02
    assert (alpha * photo)[:, 0].max() > 0.2


def test_no_ring_of_the_figure_in_its_background() -> None:
    alpha = disc()
    photo = alpha * GREEN + (1 - alpha) * RED
    hole_filled = views.ground(photo, alpha)
    assert (hole_filled - RED).abs().max() < 2 / 255
    shown = views.take(photo, alpha, draw(1, "blur"), view="background")
    assert (shown - RED).abs().max() < 2 / 255


def test_a_figure_without_one_sure_pixel_keeps_its_colour() -> None:
    alpha = 0.5 * disc()
    photo = alpha * GREEN + (1 - alpha) * RED
    black = views.take(photo, alpha, draw(1, "black"))[0]
    naive = (alpha * photo)[0]
    assert black[1].max() > naive[1].max()
    assert black[0].max() < naive[0].max()


def test_spread_takes_near_colours_first() -> None:
    """Left half red, right half blue, a gap in the middle: each side of the gap takes its neighbour's."""
    images = torch.cat([RED.expand(1, 3, 32, 16), BLUE.expand(1, 3, 32, 16)], 3)
    known = torch.ones(1, 1, 32, 32)
    known[..., 12:20] = 0
    filled = views.spread(images, known)
    assert filled[0, 0, 16, 12] > 0.7
    assert filled[0, 2, 16, 19] > 0.7
    torch.testing.assert_close(filled[:, 0] + filled[:, 2], torch.ones(1, 32, 32))


def test_spread_of_nothing_is_black() -> None:
    images, _ = photos(1, 40)
    assert views.spread(images, torch.zeros(1, 1, 40, 40)).abs().max() == 0


def test_enlarge_is_torchs_bilinear() -> None:
    small = torch.rand(2, 3, 14, 9, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.interpolate(small, size=(56, 45), mode="bilinear", align_corners=False)
    torch.testing.assert_close(views._enlarge(small, (56, 45)), expected, atol=1e-6, rtol=0)


def test_parts_are_the_whole() -> None:
    images, alpha = photos(9, 32)
    choices = draw(9, list(views.FILLS))
    for view in views.VIEWS:
        whole = views.take(images, alpha, choices, view=view)
        cut = [slice(0, 4), slice(4, 5), slice(5, 9)]
        parts = torch.cat([views.take(images, alpha, choices, view=view, part=part) for part in cut])
        torch.testing.assert_close(parts, whole, atol=1e-6, rtol=0)


def test_fills_are_drawn_per_photo_and_evenly() -> None:
    kinds = draw(4000, ["black", "mean", "noise", "swap"]).kinds
    counts = torch.bincount(kinds, minlength=4)
    # Four standard deviations of a binomial of 4,000 at 1/4.
    assert ((counts - 1000).abs() < 4 * np.sqrt(4000 * 0.25 * 0.75)).all(), counts
    images, alpha = photos(12, 20)
    choices = draw(12, ["black", "mean"])
    shown = views.take(images, alpha, choices)
    for fill, kind in (("black", 0), ("mean", 1)):
        rows = choices.kinds == kind
        assert rows.any()
        assert shown[rows].equal(views.take(images, alpha, draw(12, fill))[rows])


def test_noise_is_of_every_photo_its_own_and_tells_nothing() -> None:
    images, alpha = photos(2, 64)
    alpha = torch.zeros_like(alpha)
    shown = views.take(images, alpha, draw(2, "noise"))
    assert not shown[0].equal(shown[1])
    again = views.take(1 - images, alpha, draw(2, "noise"))
    torch.testing.assert_close(shown, again, atol=1e-6, rtol=0)
    assert abs(float(shown.mean()) - 0.5) < 0.02


def test_blur_keeps_the_rooms_colour_and_not_the_figures() -> None:
    alpha = disc()
    photo = alpha * GREEN + (1 - alpha) * RED
    shown = views.take(photo, alpha, draw(1, "blur"))
    outside = (alpha == 0).expand_as(photo)
    assert (shown - RED.expand_as(photo))[outside].abs().max() < 2 / 255


def test_bytes_go_there_and_back() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).repeat(3)[: 16 * 16 * 3].reshape(1, 16, 16, 3)
    assert views.to_bytes(views.to_float(pixels)).equal(pixels)
    assert views.to_float(torch.full((1, 2, 2, 1), 255, dtype=torch.uint8)).equal(torch.ones(1, 1, 2, 2))


def test_photos_of_a_cache_are_taken_as_batches_are() -> None:
    images, alpha = photos(10, 24)
    rgb, mask = views.to_bytes(images).numpy(), views.to_bytes(alpha).numpy()[..., 0]
    shown = views.view_photos(rgb, mask, view="figure", fill="mean")
    expected = views.to_bytes(views.take(images, alpha, draw(10, "mean"))).numpy()
    assert (np.abs(shown.astype(int) - expected) <= 1).all()
    assert (shown[mask == 255] == rgb[mask == 255]).all()
    assert (views.view_photos(rgb, None, view="full") == rgb).all()
    assert views.view_photos(rgb[:0], mask[:0], view="figure").shape == (0, 24, 24, 3)


@pytest.mark.parametrize(
    ("view", "fill", "said"),
    [
        ("figur", "black", 'did you mean "figure"'),
        ("figure", "blak", 'did you mean "black"'),
        ("figure", [], "no fill named"),
    ],
)
def test_unknown_names_are_told(view: str, fill: str | list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        views.check(view, fill, has_alpha=True)


def test_a_view_that_needs_alpha_says_so() -> None:
    assert views.check("full", "black", has_alpha=False) == ("black",)
    with pytest.raises(UserError, match="--method seg"):
        views.check("figure", "black", has_alpha=False)
