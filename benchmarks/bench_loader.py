"""The loader against torchvision's ImageFolder and TensorDataset, and against copying memory.

    python -m benchmarks.bench_loader [--quick]

All see the same photos (drawn, saved as JPEG, decoded once for the cache), 224 px, with the same
augmentation: a random shift of up to 16 px with mirrored borders, a random flip, normalised to f32.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from cache import gather, loader, memory, preload
from cache.format import Cache, Recipe
from cache.records import Record
from cache.writer import Listed, Writer
from configs import terminal

SIZE = 224
SHIFT_PX = 16
BATCH = 64
CLASSES = 18
SHARD = 256
BYTES_IN, BYTES_OUT = SIZE * SIZE * 3, SIZE * SIZE * 3 * 4
"""What a crop is read as and what it is written as."""

Row = dict[str, Any]


def run(quick: bool) -> list[Row]:
    """All comparisons; one row each."""
    count, rounds = (512, 3) if quick else (2048, 5)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        draw_photos(place / "photos", count)
        cache = build_cache(place / "photos", place / "cache")
        rows = against_image_folder(place / "photos", cache, rounds)
        rows += against_tensor_dataset(cache, rounds)
        rows += against_memory(cache, rounds)
    return rows


# -- the photos


def draw_photos(folder: Path, count: int) -> None:
    """JPEGs of coloured clouds with some grain, about as large as photos of their size (30 KB)."""
    rng = np.random.default_rng(0)
    for number in range(count):
        clouds = rng.integers(0, 256, (14, 14, 3), dtype=np.uint8)
        image = cv2.resize(clouds, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC).astype(np.int16)
        image += rng.normal(0, 6, image.shape).astype(np.int16)
        path = folder / f"class{number % CLASSES:02}" / f"{number:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image.clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 92])


def build_cache(photos: Path, folder: Path) -> Cache:
    """The same photos, decoded as ImageFolder decodes them, in ImageFolder's order."""
    from PIL import Image

    files = sorted(photos.glob("*/*.jpg"))
    keys = [str(path.relative_to(photos)) for path in files]
    labels = [{"class": path.parent.name} for path in files]
    with Writer(folder, Recipe({"method": "none", "size": SIZE})) as writer:
        for first in range(0, len(files), SHARD):
            part = range(first, min(first + SHARD, len(files)))
            records = [
                Record(key=keys[i], labels=labels[i], sha256=f"{i:064}", bytes=1, mtime_ns=1, rung="whole")
                for i in part
            ]
            writer.commit(records, np.stack([np.asarray(Image.open(files[i])) for i in part]))
        return writer.finish(
            [Listed(key, None, label, 1, 1) for key, label in zip(keys, labels, strict=True)]
        )


# -- peers


def image_folder(photos: Path, workers: int = 2) -> DataLoader[Any]:
    """torchvision's usual way."""
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    steps = transforms.Compose(
        [
            transforms.RandomCrop(SIZE, padding=SHIFT_PX, padding_mode="reflect"),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(loader.MEAN, loader.STD),
        ]
    )
    return DataLoader(
        ImageFolder(photos, steps), BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )


class Augmented(Dataset[Any]):
    """A TensorDataset of bytes, each sample through torchvision's v2."""

    def __init__(self, data: TensorDataset) -> None:
        from torchvision.transforms import v2

        self.data = data
        self.steps = v2.Compose(
            [
                v2.RandomCrop(SIZE, padding=SHIFT_PX, padding_mode="reflect"),
                v2.RandomHorizontalFlip(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(loader.MEAN, loader.STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Any:
        image, target = self.data[index]
        return self.steps(image), target


def ours(
    pixels: loader.Pixels, epoch: int, *, threads: int | None = None, times: int = 1
) -> Iterator[loader.Batch]:
    """Our batches; every photo `times` times, for an epoch that lasts long enough to be timed."""
    targets = torch.zeros(len(pixels), CLASSES)
    rng = torch.Generator().manual_seed(epoch)
    order = torch.cat([torch.randperm(len(pixels), generator=rng) for _ in range(times)])
    return loader.batches(
        pixels, targets, order, batch_size=BATCH, view="full", shift_px=SHIFT_PX, flip=True, seed=1,
        epoch=epoch, threads=threads,
    )  # fmt: skip


def equal_to_peer(cache: Cache, pixels: loader.Pixels) -> str:
    """The greatest difference to torchvision's own operations, given our draws."""
    from torchvision.transforms import functional as peer

    worst = 0.0
    for number, batch in enumerate(loader.batches(
        pixels, torch.zeros(len(pixels), 1), torch.arange(2 * BATCH), batch_size=BATCH, view="full",
        shift_px=SHIFT_PX, flip=True, seed=1,
    )):  # fmt: skip
        moves = gather.windows(len(batch.rows), SHIFT_PX, True, loader._generator(1, 0, number))
        for image, row, (dy, dx, flip) in zip(batch.images, batch.rows, moves.tolist(), strict=True):
            photo = peer.to_pil_image(cache.rgb([int(pixels.rows[row])])[0])
            padded = peer.pad(photo, [SHIFT_PX], padding_mode="reflect")
            cut = peer.crop(padded, SHIFT_PX + dy, SHIFT_PX + dx, SIZE, SIZE)
            expected = peer.normalize(
                peer.to_tensor(peer.hflip(cut) if flip else cut), loader.MEAN, loader.STD
            )
            worst = max(worst, float((image - expected).abs().max()))
    return f"{'yes' if worst < 1e-5 else 'NO'}, pixel for pixel to {worst:.0e}"


# -- measurements


def rate(batches: Iterable[Any], first: Callable[[Any], torch.Tensor]) -> float:
    """Photos a second of one epoch."""
    count, started = 0, time.perf_counter()
    for batch in batches:
        count += len(first(batch))
    return count / (time.perf_counter() - started)


def peer_rate(made: DataLoader[Any]) -> float:
    return rate(made, lambda batch: batch[0])


def our_rate(pixels: loader.Pixels, epoch: int, times: int = 1) -> float:
    return rate(ours(pixels, epoch, times=times), lambda batch: batch.images)


def against_image_folder(photos: Path, cache: Cache, rounds: int) -> list[Row]:
    pixels = quietly(cache)
    made = image_folder(photos)
    peer_rate(made)
    pairs = [(peer_rate(made), our_rate(pixels, epoch, 4)) for epoch in range(rounds)]
    return [
        row("224 px, shift + flip + normalise, against ImageFolder (JPEG) + DataLoader(num_workers=2)", pairs,
            8.0, equal_to_peer(cache, pixels), "img/s")
    ]  # fmt: skip


def against_tensor_dataset(cache: Cache, rounds: int) -> list[Row]:
    pixels = quietly(cache)
    planes = pixels.rgb[:].permute(0, 3, 1, 2).contiguous()
    data = Augmented(TensorDataset(planes, torch.zeros(len(pixels), dtype=torch.int64)))
    choices = {
        f"num_workers={n}": DataLoader(data, BATCH, shuffle=True, num_workers=n, persistent_workers=n > 0)
        for n in (0, 2)
    }
    for made in choices.values():
        peer_rate(made)
    turns = [({k: peer_rate(v) for k, v in choices.items()}, our_rate(pixels, e, 4)) for e in range(rounds)]
    best = max(choices, key=lambda name: median(rates[name] for rates, _ in turns))
    pairs = [(rates[best], mine) for rates, mine in turns]
    return [
        row(f"the same against TensorDataset (u8) + DataLoader({best}, the faster of 0 and 2)", pairs, 2.0,
            "as above: the same operations", "img/s")
    ]  # fmt: skip


def against_memory(cache: Cache, rounds: int) -> list[Row]:
    """The share of the rate at which this machine copies memory, both counted as bytes read and written."""
    pixels = quietly(cache)
    our_rate(pixels, 0)
    pairs = [(copy_rate(), our_rate(pixels, epoch, 4)) for epoch in range(rounds)]
    share = [(fast, mine * (BYTES_IN + BYTES_OUT)) for fast, mine in pairs]
    result = row("bytes read and written, of what copying memory reaches", share, 0.5, "-", "GB/s", 1e-9)
    spent = cost_of_parts(pixels)
    result["note"] = "one thread, us a photo: " + ", ".join(f"{k} {v:.0f}" for k, v in spent.items())
    return [result]


def copy_rate() -> float:
    """Bytes a second, read plus written, of NumPy's copy in as many threads as we have; median of 7."""
    source, target = (np.ones(256 << 20, np.uint8) for _ in range(2))
    threads = memory.cpus()
    step = len(source) // threads

    def copy(part: int) -> None:
        np.copyto(target[part * step : (part + 1) * step], source[part * step : (part + 1) * step])

    times = []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(7):
            started = time.perf_counter()
            list(pool.map(copy, range(threads)))
            times.append(time.perf_counter() - started)
    return 2 * len(source) / median(times)


def cost_of_parts(pixels: loader.Pixels) -> dict[str, float]:
    """Microseconds a photo of each step, in one thread: what holds the rest."""
    assert isinstance(pixels.rgb, torch.Tensor)
    photos, count = pixels.rgb.numpy(), min(256, len(pixels))
    scratch = np.empty((2, SIZE, SIZE, 3), np.uint8)
    image = torch.empty(SIZE, SIZE * 3)
    line = torch.ones(SIZE * 3)
    steps: dict[str, Callable[[int], object]] = {
        "shift": lambda i: gather._cut(photos[i], 5, -7, 0, scratch),
        "flip (half of them)": lambda i: gather._cut(photos[i], 0, 0, i % 2, scratch),
        "u8 to f32": lambda i: image.copy_(torch.from_numpy(photos[i]).view(SIZE, SIZE * 3)),
        "normalise": lambda _: torch.addcmul(line, image, line, out=image),
    }
    usual = torch.get_num_threads()
    torch.set_num_threads(1)
    spent = {}
    for name, step in steps.items():
        times = []
        for _ in range(5):
            started = time.perf_counter()
            for i in range(count):
                step(i)
            times.append((time.perf_counter() - started) / count * 1e6)
        spent[name] = median(times)
    torch.set_num_threads(usual)
    return spent


def quietly(cache: Cache, **settings: Any) -> loader.Pixels:
    with redirect_stderr(io.StringIO()):
        return preload.preload(cache, **settings)


def row(
    what: str, pairs: list[tuple[float, float]], target: float, equal: str, unit: str, scale: float = 1
) -> Row:
    peer, mine = (median(side) * scale for side in zip(*pairs, strict=True))
    ratio = median(b / a for a, b in pairs)
    return {
        "what": f"{what}, {unit}",
        "peer": peer, "ours": mine, "ratio": ratio, "target": target, "equal": equal,
        "note": f"median of {len(pairs)} rounds in turns",
    }  # fmt: skip


def main() -> None:
    """Print the comparisons as a table, or as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="512 photos, 3 rounds")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    rows = run(chosen.quick)
    print(json.dumps(rows, indent=2) if chosen.json else terminal.table(rows))


if __name__ == "__main__":
    main()
