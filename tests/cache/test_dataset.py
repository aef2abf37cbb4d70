"""A cache in anyone's DataLoader: any number of workers, forked or spawned."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, RandomSampler

from cache import views
from cache.dataset import Crops
from cache.format import Cache, CacheError, Recipe
from cache.records import Record
from cache.writer import Listed, Writer
from configs.errors import UserError

SIZE = 20


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """21 rows in three shards, the eighth without pixels; a text label with a gap, and a number."""
    path = tmp_path_factory.mktemp("cache") / "c"
    rng = np.random.default_rng(2)
    labels: list[dict[str, Any]] = [{"mask": ["worn", "absent"][i % 2], "age": i} for i in range(21)]
    labels[4] = {"age": 4}
    with Writer(path, Recipe({"method": "seg", "size": SIZE})) as writer:
        for shard in np.array_split(np.arange(21), 3):
            records = [
                Record(key=f"{i:03}.jpg", labels=labels[i], sha256=f"{i:064}", bytes=1, mtime_ns=1,
                       status="unreadable" if i == 7 else "ok", rung="" if i == 7 else "plain")
                for i in shard
            ]  # fmt: skip
            count = sum(record.status == "ok" for record in records)
            rgb = rng.integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)
            alpha = np.clip(rng.integers(-255, 511, (count, SIZE, SIZE)), 0, 255).astype(np.uint8)
            writer.commit(records, rgb, alpha)
        return writer.finish([Listed(f"{i:03}.jpg", None, labels[i], 1, 1) for i in range(21)])


def invert(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(255 - image)


def test_items_are_the_caches_rows(cache: Cache) -> None:
    crops = cache.dataset()
    assert len(crops) == 20
    for index, row in enumerate(cache.usable()):
        image, labels = crops[index]
        assert image.dtype == np.uint8
        assert (image == cache.rgb([row])[0]).all()
        assert labels == {"mask": cache.labels("mask")[row], "age": row}
    assert (crops[-1][0] == crops[19][0]).all()
    with pytest.raises(IndexError):
        crops[20]


def test_an_item_owns_its_memory(cache: Cache) -> None:
    image, _ = cache.dataset().__getitems__([0, 1, 2])[1]
    assert image.base is None
    assert image.flags.writeable


def test_many_at_once_are_as_one_by_one(cache: Cache) -> None:
    crops = cache.dataset(view="figure", fill="blur", target="age")
    asked = [3, 3, 0, 17]
    for (image, target), index in zip(crops.__getitems__(asked), asked, strict=True):
        alone, number = crops[index]
        assert (image == alone).all()
        assert target == number
    assert crops.__getitems__([]) == []


def test_a_view_is_that_of_views(cache: Cache) -> None:
    rows = cache.usable()
    shown = views.view_photos(cache.rgb(rows), cache.alpha(rows), view="background", fill="mean")
    items = cache.dataset(view="background", fill="mean").__getitems__(range(len(rows)))
    assert (np.stack([image for image, _ in items]) == shown).all()


def test_a_swapped_ground_is_another_rows_and_the_figure_stays(cache: Cache) -> None:
    crops = cache.dataset(view="figure", fill="swap")
    rows = crops.rows
    rgb, alpha = cache.rgb(rows), cache.alpha(rows)
    torch.manual_seed(0)
    image, _ = crops[3]
    assert (image[alpha[3] == 255] == rgb[3][alpha[3] == 255]).all()
    bare = [(alpha[3] == 0) & (alpha[other] == 0) for other in range(len(rows))]
    same = [other for other in range(len(rows)) if (image[bare[other]] == rgb[other][bare[other]]).all()]
    assert len(same) == 1
    assert same != [3]
    assert not (crops[3][0] == image).all(), "drawn anew"
    torch.manual_seed(0)
    assert (crops[3][0] == image).all(), "by torch's generator"


def test_texts_become_classes_and_numbers_stay(cache: Cache) -> None:
    crops = cache.dataset(target="mask")
    assert crops.classes == ("absent", "worn")
    expected = [-1 if row == 4 else 1 - row % 2 for row in cache.usable()]
    assert [target for _, target in crops] == expected
    ages = cache.dataset(target="age")
    assert ages.classes == ()
    assert [target for _, target in ages] == cache.usable().tolist()


def test_rows_can_be_chosen(cache: Cache) -> None:
    crops = cache.dataset(rows=[9, 2], target="age")
    assert [target for _, target in crops] == [9, 2]
    with pytest.raises(UserError, match="no pixels"):
        cache.dataset(rows=[2, 7])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"view": "figures"}, 'did you mean "figure"'),
        ({"view": "figure", "fill": "swop"}, 'did you mean "swap"'),
        ({"target": "musk"}, "mask"),
    ],
)
def test_mistakes_are_told_at_once(cache: Cache, settings: dict[str, str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        cache.dataset(**settings)


def test_albumentations_and_torchvision_go_as_they_are(cache: Cache) -> None:
    import albumentations
    from torchvision.transforms import v2

    plain = cache.dataset()[2][0]
    flipped = cache.dataset(transform=albumentations.Compose([albumentations.HorizontalFlip(p=1)]))[2][0]
    assert (flipped == plain[:, ::-1]).all()
    alone = cache.dataset(transform=albumentations.VerticalFlip(p=1))[2][0]
    assert (alone == plain[::-1]).all()
    chain = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    image = cache.dataset(transform=chain)[2][0]
    expected = torch.from_numpy(plain).permute(2, 0, 1) / 255
    torch.testing.assert_close(image.as_subclass(torch.Tensor), expected)


@pytest.mark.parametrize(
    ("workers", "context"), [(0, None), (2, "fork"), (2, "spawn")], ids=["none", "fork", "spawn"]
)
def test_a_dataloader_gets_every_row_once(cache: Cache, workers: int, context: str | None) -> None:
    crops = cache.dataset(target="age", transform=invert)
    order = RandomSampler(crops, generator=torch.Generator().manual_seed(1))
    made = DataLoader(crops, 6, sampler=order, num_workers=workers, multiprocessing_context=context)
    batches = list(made)
    ages = torch.cat([ages for _, ages in batches])
    images = torch.cat([images for images, _ in batches])
    assert sorted(ages.tolist()) == cache.usable().tolist()
    assert (255 - images.numpy() == cache.rgb(ages.numpy())).all()


def test_what_a_worker_is_sent_holds_no_pixels(tmp_path: Path) -> None:
    rows = 400
    with Writer(tmp_path / "c", Recipe({"method": "det", "size": 32})) as writer:
        records = [
            Record(key=f"{i}", labels={"mask": "worn"}, sha256=f"{i:064}", bytes=1, mtime_ns=1, rung="plain")
            for i in range(rows)
        ]
        writer.commit(records, np.zeros((rows, 32, 32, 3), np.uint8))
        cache = writer.finish([Listed(f"{i}", None, {"mask": "worn"}, 1, 1) for i in range(rows)])
    crops = cache.dataset(target="mask")
    crops[0]
    sent = pickle.dumps(crops)
    assert len(sent) < 16 * rows + 4096, "two numbers a row"
    again = pickle.loads(sent)
    assert isinstance(again, Crops)
    assert (again[399][0] == crops[399][0]).all()


def test_a_lost_shard_is_told(cache: Cache, tmp_path: Path) -> None:
    import shutil

    from cache.format import open as open_cache

    shutil.copytree(cache.path, tmp_path / "c")
    crops = open_cache(tmp_path / "c").dataset()
    next((tmp_path / "c" / "shards").glob("*/rgb.npy")).unlink()
    with pytest.raises(CacheError, match="--repair"):
        crops.__getitems__(range(20))
