"""Preloading and batches: equal for equal seeds, whatever the threads, the place and the start."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cache import gather, loader, memory, preload, views
from cache.format import Cache, CacheError, Recipe
from cache.format import open as open_cache
from cache.records import Record
from cache.writer import Listed, Writer
from configs.errors import UserError

SIZE = (24, 20)
ROWS = 37


def build(path: Path, *, seg: bool = True, size: tuple[int, int] = SIZE, rows: int = ROWS) -> Cache:
    """A cache of random crops in three shards, with one unreadable photo among them."""
    rng = np.random.default_rng(1)
    keys = [f"{i:05}.jpg" for i in range(rows)]
    labels = [{"mask": "ab"[i % 2], "age": i} for i in range(rows)]
    recipe = Recipe({"method": "seg" if seg else "det", "size": list(size)})
    with Writer(path, recipe) as writer:
        for rows_of_shard in np.array_split(np.arange(rows), 3):
            records = [
                Record(key=keys[i], labels=labels[i], sha256=f"{i:064}", bytes=1, mtime_ns=1,
                       status="unreadable" if i == 5 else "ok", rung="" if i == 5 else "plain")
                for i in rows_of_shard
            ]  # fmt: skip
            count = sum(record.status == "ok" for record in records)
            rgb = rng.integers(0, 256, (count, *size, 3), dtype=np.uint8)
            alpha = np.clip(rng.integers(-255, 511, (count, *size)), 0, 255).astype(np.uint8)
            writer.commit(records, rgb, alpha if seg else None)
        # The source's order is not the order of the shards.
        listing = [Listed(keys[i], None, labels[i], 1, 1) for i in rng.permutation(rows)]
        return writer.finish(listing)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return build(tmp_path_factory.mktemp("cache") / "seg")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return build(tmp_path_factory.mktemp("cache") / "det", seg=False)


@pytest.fixture(scope="module")
def pixels(cache: Cache) -> loader.Pixels:
    return loader.preload(cache)


def epoch(pixels: loader.Pixels, order: torch.Tensor | None = None, **settings: object) -> list[loader.Batch]:
    count = len(pixels)
    targets = torch.eye(count)
    chosen = torch.arange(count) if order is None else order
    given = {"batch_size": 8, "seed": 3, **settings}
    return list(loader.batches(pixels, targets, chosen, **given))  # type: ignore[arg-type]


def same(some: list[loader.Batch], others: list[loader.Batch]) -> bool:
    return len(some) == len(others) and all(
        getattr(a, name).equal(getattr(b, name))
        for a, b in zip(some, others, strict=True)
        for name in ("images", "alpha", "targets", "rows")
    )


# -- preload


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("threads", [1, 3])
def test_preloaded_pixels_are_the_caches(cache: Cache, shared: bool, threads: int) -> None:
    held = loader.preload(cache, shared=shared, threads=threads)
    assert held.rows.tolist() == cache.usable().tolist()
    assert len(held) == ROWS - 1
    assert (held.rgb[:].numpy() == cache.rgb(cache.usable())).all()
    assert held.alpha is not None
    assert (held.alpha[:].numpy() == cache.alpha(cache.usable())).all()


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_any_rows_in_any_order(cache: Cache, data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.sampled_from(cache.usable().tolist()), max_size=50))
    held = loader.preload(cache, rows)
    assert held.rows.tolist() == rows
    assert (held.rgb[:].numpy() == cache.rgb(rows)).all()


def test_small_chunks_make_no_difference(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = loader.preload(cache)
    monkeypatch.setattr(preload, "CHUNK_BYTES", 4000)
    cut = loader.preload(cache)
    assert cut.rgb[:].equal(whole.rgb[:])


def test_a_row_without_pixels_is_refused(cache: Cache) -> None:
    row = next(i for i in range(ROWS) if i not in cache.usable())
    with pytest.raises(UserError, match=r"00005\.jpg.*no pixels"):
        loader.preload(cache, [0, row])


def test_no_alpha_in_a_cache_without(bare: Cache) -> None:
    held = loader.preload(bare)
    assert held.alpha is None
    assert epoch(held, view="full")[0].alpha is None
    with pytest.raises(UserError, match="--method seg"):
        epoch(held, view="figure")
    with pytest.raises(UserError, match="--method seg"):
        loader.preload(bare, view="figure")


def test_it_says_how_much_and_where(cache: Cache, capsys: pytest.CaptureFixture[str]) -> None:
    loader.preload(cache)
    said = capsys.readouterr().err
    assert "36 crops" in said
    assert "GB/s" in said


@pytest.mark.parametrize("shared", [False, True])
def test_what_does_not_fit_stays_on_the_disk(
    cache: Cache,
    pixels: loader.Pixels,
    shared: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    size = 36 * 24 * 20 * 4
    monkeypatch.setattr(memory, "available", lambda: int(size / preload.SHARE_OF_MEMORY) - 1)
    on_disk = loader.preload(cache, shared=shared)
    said = capsys.readouterr().err
    assert "read from the disk" in said
    assert isinstance(on_disk.rgb, memory.Mapped)
    assert on_disk.rgb.shape == tuple(pixels.rgb.shape)
    index = torch.tensor([3, 0, 35])
    assert on_disk.rgb[index].equal(pixels.rgb[index])
    assert on_disk.rgb[2].equal(pixels.rgb[2])
    assert on_disk.rgb[-3:].equal(pixels.rgb[-3:])
    how = {"view": "figure", "fill": ["swap", "noise"], "shift_px": 3, "flip": True}
    assert same(epoch(on_disk, **how), epoch(pixels, **how))


def test_what_just_fits_is_loaded(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 36 * 24 * 20 * 4
    monkeypatch.setattr(memory, "available", lambda: int(size / preload.SHARE_OF_MEMORY) + 2)
    assert isinstance(loader.preload(cache).rgb, torch.Tensor)


def test_the_limit_of_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    free = memory.available()
    assert free > 0
    for name, text in {"max": "1000000", "current": "700000", "stat": "anon 1\ninactive_file 5000\n"}.items():
        (tmp_path / f"memory.{name}").write_text(text)
    assert memory.available() == 305000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available() > 1000000


def test_a_damaged_shard_is_told(tmp_path: Path) -> None:
    cache = build(tmp_path / "c")
    path = next((cache.path / "shards").glob("*/rgb.npy"))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CacheError, match="--repair"):
        loader.preload(open_cache(cache.path))


@pytest.mark.parametrize("fill", preload.LASTING)
@pytest.mark.parametrize("view", ["figure", "background"])
def test_a_view_taken_at_preload_is_that_of_batches(
    cache: Cache, pixels: loader.Pixels, view: str, fill: str
) -> None:
    once = loader.preload(cache, view=view, fill=fill)
    assert once.taken == (view, (fill,))
    for early, late in zip(
        epoch(once, view=view, fill=fill), epoch(pixels, view=view, fill=fill), strict=True
    ):
        # Half a step of 255 for each, in units of the normalised image.
        assert (early.images - late.images).abs().max() <= 0.51 / 255 / min(loader.STD)
    with pytest.raises(UserError, match="preloaded as"):
        epoch(once, view=view, fill="noise")


def test_a_drawn_fill_is_left_to_the_batches(cache: Cache, pixels: loader.Pixels) -> None:
    for fill in ("swap", "noise", ["black", "mean"]):
        held = loader.preload(cache, view="figure", fill=fill)
        assert held.taken is None
        assert held.rgb[:].equal(pixels.rgb[:])


# -- one block for several processes


def blocks() -> set[Path]:
    return set(memory._shared_folder().glob(f"{memory.SHARED_PREFIX}-{os.getuid()}-*"))


def content(*rows: int) -> np.ndarray:
    return np.array(rows, np.uint8)


def test_the_second_gets_the_firsts_block() -> None:
    def fill(array: np.ndarray) -> None:
        array[:] = content(1, 2, 3)

    def never(_: np.ndarray) -> None:
        raise AssertionError("filled twice")

    name = f"test-{os.getpid()}"
    first = memory.share(name, 3, fill)
    second = memory.share(name, 3, never)
    first[0] = 9
    assert second.tolist() == [9, 2, 3]
    mine = memory._shared_path(name)
    assert mine in blocks()
    del first
    assert mine in blocks(), "the second still holds it"
    del second
    assert mine not in blocks()
    assert memory.attach(name, 3) is None


def test_a_fill_that_fails_leaves_nothing() -> None:
    def fail(_: np.ndarray) -> None:
        raise ZeroDivisionError

    name = f"test-fail-{os.getpid()}"
    with pytest.raises(ZeroDivisionError):
        memory.share(name, 10, fail)
    assert memory._shared_path(name) not in blocks()


CHILD = """
import sys, os, time
import numpy as np
from pathlib import Path
from cache import format, loader, memory
cache = format.open(Path(sys.argv[1]))
pixels = loader.preload(cache, shared=True)
print(int(pixels.rgb.numpy().sum(dtype=np.int64)), flush=True)
sys.stdin.readline()
lines = Path("/proc/self/smaps").read_text().splitlines()
inside, pss = False, 0
for line in lines:
    if "-" in line.split(" ")[0]:
        inside = memory.SHARED_PREFIX in line or sys.argv[1] in line
    elif inside and line.startswith("Pss:"):
        pss += int(line.split()[1]) * 1024
print(pss, flush=True)
sys.stdin.readline()
"""


def test_four_processes_hold_one_copy(tmp_path: Path) -> None:
    """Four that were not forked from one another, as DDP ranks are; one is killed, and leaves nothing."""
    cache = build(tmp_path / "c", size=(128, 128), rows=64)
    size = 63 * 128 * 128 * 4
    before = blocks()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", textwrap.dedent(CHILD), str(cache.path)]
    ranks = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(4)
    ]
    try:
        expected = int(cache.rgb(cache.usable()).astype(np.int64).sum())
        assert [int(ask(rank)) for rank in ranks] == [expected] * 4
        shares = [int(ask(rank, "go")) for rank in ranks]
        assert 0.9 * size < sum(shares) <= 1.1 * size
        ranks[0].kill()
        ranks[0].wait()
        assert len(blocks() - before) == 1
    finally:
        for rank in ranks:
            rank.communicate("end\n" if rank.poll() is None else None)
    assert blocks() <= before


def ask(rank: subprocess.Popen[str], line: str | None = None) -> str:
    assert rank.stdin is not None
    assert rank.stdout is not None
    if line:
        rank.stdin.write(line + "\n")
        rank.stdin.flush()
    return rank.stdout.readline()


def test_what_killed_processes_left_is_removed(cache: Cache) -> None:
    left = memory._shared_path("left-by-a-killed-process")
    left.write_bytes(b"12345\1")
    held = loader.preload(cache, shared=True)
    assert not left.exists()
    assert len(held) == ROWS - 1


# -- batches


def test_every_row_once_in_the_orders_order(pixels: loader.Pixels) -> None:
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))
    made = epoch(pixels, order)
    assert torch.cat([batch.rows for batch in made]).equal(order)
    assert [len(batch.images) for batch in made] == [8, 8, 8, 8, 4]
    for batch in made:
        assert batch.targets.argmax(1).equal(batch.rows)
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert [len(batch.rows) for batch in epoch(pixels, order, drop_last=True)] == [8] * 4


def test_an_order_may_repeat_and_leave_out(pixels: loader.Pixels) -> None:
    made = epoch(pixels, torch.tensor([4, 4, 0]), view="full")
    assert made[0].rows.tolist() == [4, 4, 0]
    assert made[0].images[0].equal(made[0].images[1])


def test_an_empty_order_has_no_batches(pixels: loader.Pixels) -> None:
    assert epoch(pixels, torch.empty(0, dtype=torch.int64)) == []


def noisy(batch: loader.Batch, rng: torch.Generator) -> loader.Batch:
    noise = torch.rand(batch.images.shape, generator=rng)
    return replace(batch, images=(batch.images + 0.1 * noise).clamp(0, 1))


HOW = {"view": "figure", "fill": list(views.FILLS), "shift_px": 4, "flip": True, "augment": noisy}


@pytest.mark.parametrize("threads", [2, 3, 5])
@pytest.mark.parametrize("how", [HOW, {"view": "full", "shift_px": 2, "flip": True}], ids=["all", "plain"])
def test_batches_are_equal_whatever_the_threads(
    pixels: loader.Pixels, how: dict[str, object], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gather, "PART_BYTES", 3 * 4 * 24 * 20 * 3)  # parts of three photos
    assert same(epoch(pixels, threads=1, **how), epoch(pixels, threads=threads, **how))


def test_an_epoch_can_be_entered_in_the_middle(pixels: loader.Pixels) -> None:
    whole = epoch(pixels, epoch=2, **HOW)
    for start in range(len(whole) + 1):
        assert same(epoch(pixels, epoch=2, start=start, **HOW), whole[start:])


def test_seeds_and_epochs_differ(pixels: loader.Pixels) -> None:
    base = epoch(pixels, **HOW)
    assert same(base, epoch(pixels, **HOW))
    assert not same(base, epoch(pixels, epoch=1, **HOW))
    assert not same(base, epoch(pixels, **{**HOW, "seed": 4}))
    first, second = epoch(pixels, torch.zeros(16, dtype=torch.int64), view="full", shift_px=8)
    assert not first.images.equal(second.images), "batches of one epoch draw anew"


def test_batches_that_are_kept_stay_as_they_were(pixels: loader.Pixels) -> None:
    """Memory is used again, but never under a batch that somebody holds."""
    order = torch.arange(32).repeat(6)
    given = {"batch_size": 4, "view": "full", "shift_px": 3, "seed": 1}
    kept, copies, addresses = [], [], []
    for number, batch in enumerate(loader.batches(pixels, torch.eye(36), order, **given)):  # type: ignore[arg-type]
        addresses.append(batch.images.data_ptr())
        if number % 5 == 0:
            kept.append(batch.images[1:3])  # a view holds the memory too
            copies.append(batch.images[1:3].clone())
    assert all(a.equal(b) for a, b in zip(kept, copies, strict=True))
    assert len(set(addresses)) < len(addresses) / 2, "memory is used again"


def test_stopping_early_leaves_no_thread(pixels: loader.Pixels) -> None:
    import threading

    before = threading.active_count()
    made = loader.batches(pixels, torch.eye(36), torch.arange(36), batch_size=4)
    next(made)
    made.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
    assert torch.get_num_threads() >= 1


def test_torchs_threads_stay_as_set(pixels: loader.Pixels) -> None:
    usual = torch.get_num_threads()
    epoch(pixels, threads=2)
    assert torch.get_num_threads() == usual


def test_an_error_in_an_augmentation_comes_out(pixels: loader.Pixels) -> None:
    def fail(*_: object) -> loader.Batch:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        epoch(pixels, augment=fail)


def test_augmentations_see_0_to_1_with_alpha(pixels: loader.Pixels) -> None:
    seen = []

    def look(batch: loader.Batch, _: torch.Generator) -> loader.Batch:
        assert batch.alpha is not None
        seen.append((batch.images.clone(), batch.alpha.clone()))
        return batch

    made = epoch(pixels, view="full", augment=look)
    images, alpha = (torch.cat(parts) for parts in zip(*seen, strict=True))
    assert isinstance(pixels.rgb, torch.Tensor)
    assert isinstance(pixels.alpha, torch.Tensor)
    assert images.equal(views.to_float(pixels.rgb))
    assert alpha.equal(pixels.alpha[:, None].float() / 255)
    mean, std = (torch.tensor(values)[:, None, None] for values in (loader.MEAN, loader.STD))
    torch.testing.assert_close(torch.cat([b.images for b in made]), (images - mean) / std, atol=1e-6, rtol=0)


def test_an_augmentation_may_change_the_size(pixels: loader.Pixels) -> None:
    def halve(batch: loader.Batch, _: torch.Generator) -> loader.Batch:
        return replace(batch, images=batch.images[:, :, ::2, ::2])

    assert epoch(pixels, augment=halve)[0].images.shape == (8, 3, 12, 10)


def test_alpha_can_be_left_out(pixels: loader.Pixels) -> None:
    with_alpha = epoch(pixels, fill="mean")
    without = epoch(pixels, fill="mean", keep_alpha=False)
    for a, b in zip(with_alpha, without, strict=True):
        assert b.alpha is None
        assert a.images.equal(b.images)


@pytest.mark.parametrize("view", ["figure", "background"])
def test_views_are_those_of_views(pixels: loader.Pixels, view: str) -> None:
    assert isinstance(pixels.rgb, torch.Tensor)
    assert isinstance(pixels.alpha, torch.Tensor)
    made = epoch(pixels, view=view, fill="mean", mean=(0, 0, 0), std=(1, 1, 1))
    images, alpha = views.to_float(pixels.rgb), views.to_float(pixels.alpha[..., None])
    expected = views.take(images, alpha, views.draw(36, "mean", torch.Generator()), view=view)
    torch.testing.assert_close(torch.cat([batch.images for batch in made]), expected, atol=1e-6, rtol=0)


# -- windows


def window(photo: np.ndarray, dy: int, dx: int, flip: int) -> np.ndarray:
    """The reference: pad by mirroring, cut, turn round."""
    height, width = photo.shape[:2]
    pad = [(height - 1, height - 1), (width - 1, width - 1)] + [(0, 0)] * (photo.ndim - 2)
    padded = np.pad(photo, pad, mode="reflect")
    cut = padded[height - 1 + dy :, width - 1 + dx :][:height, :width]
    return cut[:, ::-1] if flip else cut


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 30), st.integers(2, 30), st.sampled_from([1, 3]), st.integers(0, 1), st.data())
def test_windows_are_numpys(height: int, width: int, colours: int, flip: int, data: st.DataObject) -> None:
    dy = data.draw(st.integers(-((height - 1) // 2), (height - 1) // 2))
    dx = data.draw(st.integers(-((width - 1) // 2), (width - 1) // 2))
    shape = (2, height, width, 3) if colours == 3 else (2, height, width)
    source = torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    rows, moves = torch.tensor([1, 0]), torch.tensor([[dy, dx, flip], [0, 0, flip]])
    out = torch.empty(2, colours, height, width)
    gather.load(source, rows, moves, out)
    expected = np.stack([window(source[r].numpy(), *m) for r, m in zip([1, 0], moves.tolist(), strict=True)])
    expected = np.moveaxis(expected, -1, 1) if colours == 3 else expected[:, None]
    assert (out.numpy() == expected.astype(np.float32) / 255).all()
    assert gather.load_on_device(source, rows, moves).equal(out)
    scale = gather.Scale((2.0, 3.0, 4.0)[:colours], (0.5, 0.25, 0.0)[:colours])
    last = torch.empty(2, height, width, colours).permute(0, 3, 1, 2)
    gather.load(source, rows, moves, last, scale)
    torch.testing.assert_close(last, gather.load_on_device(source, rows, moves, scale))


def test_windows_are_drawn_evenly() -> None:
    drawn = gather.windows(20000, 2, True, torch.Generator().manual_seed(0))
    for column, values in ((0, 5), (1, 5), (2, 2)):
        counts = np.bincount(drawn[:, column] - drawn[:, column].min(), minlength=values)
        share = 1 / values
        # Four standard deviations of a binomial.
        assert (np.abs(counts - 20000 * share) < 4 * np.sqrt(20000 * share * (1 - share))).all()
    still = gather.windows(100, 0, False, torch.Generator().manual_seed(0))
    assert (still == 0).all()


def test_batches_on_a_device_are_those_of_the_cpu(pixels: loader.Pixels) -> None:
    """The path of an accelerator, run where tensors can be had: torch's CPU."""
    how = loader._Job("figure", True, noisy, loader._normal(loader.MEAN, loader.STD))
    rows = torch.tensor([3, 9, 1, 30, 30])
    moves = gather.windows(5, 4, True, torch.Generator().manual_seed(1))
    draw = views.draw(5, list(views.FILLS), torch.Generator().manual_seed(2))

    def rng() -> torch.Generator:
        return torch.Generator().manual_seed(5)

    with gather.workers(2) as pool:
        here = loader._make(how, pixels, rows, moves, draw, torch.eye(5), rng(), pool, gather.Buffers())
    there = loader._make_on_device(how, pixels, rows, moves, draw, torch.eye(5), rng(), torch.device("cpu"))
    torch.testing.assert_close(there.images, here.images, atol=1e-5, rtol=0)
    assert here.alpha is not None
    assert there.alpha is not None
    assert there.alpha.equal(here.alpha)


def test_augmented_batches_are_torchvisions_pixel_for_pixel(pixels: loader.Pixels) -> None:
    """The peer's own operations, given our draws: pad, crop, flip, ToTensor, normalise."""
    from torchvision.transforms import functional as peer

    made = epoch(pixels, view="full", shift_px=4, flip=True, epoch=1)
    for number, batch in enumerate(made):
        moves = gather.windows(len(batch.rows), 4, True, loader._generator(3, 1, number))
        for image, row, (dy, dx, flip) in zip(batch.images, batch.rows, moves.tolist(), strict=True):
            photo = peer.to_pil_image(pixels.rgb[row].permute(2, 0, 1))
            padded = peer.pad(photo, [4], padding_mode="reflect")
            cut = peer.crop(padded, 4 + dy, 4 + dx, *SIZE)
            cut = peer.hflip(cut) if flip else cut
            expected = peer.normalize(peer.to_tensor(cut), loader.MEAN, loader.STD)
            torch.testing.assert_close(image, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("shift_px", [-1, 10, 24])
def test_a_shift_out_of_range_is_told(pixels: loader.Pixels, shift_px: int) -> None:
    with pytest.raises(UserError, match="less than half of 20 px"):
        epoch(pixels, shift_px=shift_px)


def test_opencv_mirrors_as_we_document() -> None:
    line = np.arange(5, dtype=np.uint8)[None]
    assert cv2.copyMakeBorder(line, 0, 0, 2, 0, cv2.BORDER_REFLECT_101).tolist() == [[2, 1, 0, 1, 2, 3, 4]]
