"""Pipelines of albumentations over a batch of photos, in threads (OpenCV lets go of the interpreter)."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from queue import SimpleQueue
from typing import Any

import numpy as np

from configs.errors import UserError, did_you_mean

WHERE = "augment: albumentations"


def through(
    pipeline: dict[str, Any],
    images: np.ndarray,
    alpha: np.ndarray | None,
    seeds: Sequence[int],
    threads: int | None = None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Photos sent through a pipeline, each with a seed of its own.

    Args:
        pipeline: what `albumentations.to_dict` gives, or its "transform" part alone.
        images: u8 [n h w 3].
        alpha: u8 [n h w], sent along as the mask, or None.
        seeds: n; what a photo becomes depends on its own alone.
        threads: how many, or one a core.

    Returns:
        Images and alpha, of the same shapes and types.

    Raises:
        UserError: albumentations can't make the pipeline, or it changes the photos' size or type.
    """
    pool, idle = _workers(json.dumps(pipeline, sort_keys=True), threads or os.cpu_count() or 1)

    def one(place: int) -> tuple[np.ndarray, np.ndarray | None]:
        compose = idle.get()
        try:
            compose.set_random_seed(seeds[place])
            masks = {} if alpha is None else {"mask": alpha[place]}
            result = compose(image=images[place], **masks)
        finally:
            idle.put(compose)
        return _checked(result["image"], images[place]), result.get("mask")

    if not len(images):
        return images, alpha
    photos, masks = zip(*pool.map(one, range(len(images))), strict=True)
    return np.stack(photos), None if alpha is None else np.stack(masks)


@lru_cache(maxsize=8)
def _workers(pipeline: str, threads: int) -> tuple[ThreadPoolExecutor, SimpleQueue[Any]]:
    """A pool, and as many pipelines as it has threads: a pipeline keeps what it draws from in itself."""
    idle: SimpleQueue[Any] = SimpleQueue()
    for _ in range(threads):
        idle.put(_compose(json.loads(pipeline)))
    return ThreadPoolExecutor(threads, "albumentations"), idle


def _compose(pipeline: dict[str, Any]) -> Any:
    # without this albumentations asks the network for newer versions of itself when imported
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations as A
    from albumentations.core.serialization import SERIALIZABLE_REGISTRY

    whole = pipeline if "transform" in pipeline else {"transform": pipeline}
    for name in _names(whole["transform"]):
        if name.rpartition(".")[2] not in {known.rpartition(".")[2] for known in SERIALIZABLE_REGISTRY}:
            raise UserError(f'{WHERE}: no transform "{name}"{did_you_mean(name, SERIALIZABLE_REGISTRY)}')
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            made = A.from_dict(whole)
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{WHERE} can't make this pipeline: {' '.join(str(error).split())}") from None
    wrong = [str(each.message) for each in said if "not valid" in str(each.message)]
    if wrong:
        raise UserError(f"{WHERE}: {wrong[0]}")
    return made if isinstance(made, A.Compose) else A.Compose([made])


def _names(transform: Any) -> list[str]:
    """The names of a serialised transform and of those within it."""
    if not isinstance(transform, dict) or "__class_fullname__" not in transform:
        raise UserError(
            f'{WHERE}: a transform is a mapping with "__class_fullname__" (its name) and its settings, '
            f"as albumentations.to_dict writes it, not {transform!r}"
        )
    inner = [name for each in transform.get("transforms", []) for name in _names(each)]
    return [transform["__class_fullname__"], *inner]


def _checked(image: np.ndarray, before: np.ndarray) -> np.ndarray:
    if image.shape != before.shape or image.dtype != before.dtype:
        raise UserError(
            f"{WHERE}: the pipeline makes {image.dtype} {list(image.shape)} of {before.dtype} "
            f"{list(before.shape)}; leave out what normalises or makes tensors, and resize to this size last"
        )
    return image
