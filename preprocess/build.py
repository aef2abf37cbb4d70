"""The pipeline: photos -> faces -> crops -> figures -> shards of a cache. Read it from `build` downwards."""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cache.format import Cache, Recipe
from cache.format import open as open_cache
from cache.records import Record
from cache.remote import address_of, fetch
from cache.writer import Listed, Writer
from configs.errors import UserError
from preprocess.photos import Source
from preprocess.plan import chunked, make_plan
from preprocess.recipe import VERSION, recipe_of, settings_of
from preprocess.settings import BuildSettings

if TYPE_CHECKING:  # torch takes seconds to load: only when there is a photo to cut
    from preprocess.cut import Block, Seconds


@dataclass(frozen=True)
class Summary:
    """What a build did.

    Attributes:
        records: in the cache now.
        new: records made by this build.
        statuses, rungs: how many records of the cache by each.
        seconds: of this build by stage; "total" is by the clock.
    """

    records: int
    new: int
    statuses: dict[str, int]
    rungs: dict[str, int]
    seconds: dict[str, float]


def build(
    sources: Sequence[Source],
    settings: BuildSettings,
    out: Path,
    *,
    source: Path,
    layout: str = "auto",
    device: str = "auto",
    jobs: int | None = None,
    engine: str = "local",
) -> Summary:
    """Make a cache of photos, or bring it up to date: only what is new or changed is looked at.

    Args:
        sources: the photos, all of them: what is missing here leaves the cache.
        settings: all that determines the pixels.
        out: the cache's folder, or an fsspec address of it; made where it is missing.
        source, layout: where the photos were listed, for `preprocess update` and the gallery.
        device: "cpu", "cuda", or "auto".
        jobs: threads for decoding and cutting (of each worker of the engine `ray`); None: one a core.
        engine: where photos are cut, one of `preprocess.engines.ENGINES`.

    Raises:
        UserError: another recipe in `out`, another build at work there, no such device or network,
            a full disk.
    """
    begin = time.perf_counter()
    seconds: defaultdict[str, float] = defaultdict(float)
    address = address_of(out)
    mirror = fetch(address) if address else None
    out = mirror.folder if mirror else out
    with ExitStack() as stack:
        recipe = _recipe_with_nothing_to_cut(sources, settings, out)
        started = None
        if recipe is None:
            from preprocess.engines import ENGINES, run

            started = stack.enter_context(ENGINES[engine](settings, device=device, jobs=jobs))
            recipe = started.recipe
            seconds["load"] = time.perf_counter() - begin
        place = {"source": address_of(source) or str(source.resolve()), "layout": layout}
        recipe = replace(recipe, made_with={**recipe.made_with, **place})
        writer = stack.enter_context(Writer(out, recipe))
        new = 0
        if started:
            plan = make_plan(sources, writer.cache)
            push = mirror.push if mirror else None
            new = run(started, plan, writer, label=settings.method, seconds=seconds, push=push)
        indexing = time.perf_counter()
        cache = writer.finish([Listed(s.key, s.group, s.labels, s.bytes, s.mtime_ns) for s in sources])
        seconds["index"] = time.perf_counter() - indexing
        seconds["total"] = time.perf_counter() - begin
        summary = summarise(cache, new, seconds)
        if new:
            writer.log(new=new, records=summary.records, seconds=summary.seconds)
        if mirror:
            mirror.finish()
    return summary


def _recipe_with_nothing_to_cut(
    sources: Sequence[Source], settings: BuildSettings, out: Path
) -> Recipe | None:
    """The recipe of a cache that holds all these photos by these settings; then no network need be loaded."""
    if not (out / "recipe.json").is_file():
        return None
    cache = open_cache(out)
    made = cache.recipe
    asked = settings.model_dump(mode="json")
    if made.identity.get("version") != VERSION or made.made_with.get("settings") != asked:
        return None
    return None if make_plan(sources, cache).chunks else made


def crops(
    sources: Sequence[Source], recipe: Recipe, *, device: str = "auto", jobs: int | None = None
) -> Iterator[tuple[Record, np.ndarray | None, np.ndarray | None]]:
    """Cut photos by a cache's very recipe, without a cache.

    The same photo gives the same bytes as in the cache, but where it needed its person's other photos
    (rung `person`) and they are not among `sources`.

    Yields:
        A record with its crop u8[h w 3] and its alpha u8[h w], each or None; person by person, so not
        in the order of `sources`.

    Raises:
        UserError: the recipe's network is not the one on this machine.
    """
    from preprocess import cut

    tools = cut.load_tools(settings_of(recipe), device)
    here = recipe_of(tools)
    differing = [key for key, value in recipe.identity.items() if here.identity.get(key) != value]
    if differing:
        raise UserError(
            f"photos would be cut otherwise here than the run's cache was ({', '.join(differing)} differ): "
            "use the same network file and version of figureground, or predict from a cache"
        )
    chunks = chunked(sources, {s.key for s in sources})
    for block in cut.cut_chunks(chunks, tools, {}, jobs=jobs or os.cpu_count() or 1):
        yield from unpack(block)


def unpack(block: Block) -> Iterator[tuple[Record, np.ndarray | None, np.ndarray | None]]:
    """The records of a block, each with its pixels, if it has any."""
    at = 0
    for record in block.records:
        if record.status == "unreadable":
            yield record, None, None
            continue
        yield record, block.rgb[at], None if block.alpha is None else block.alpha[at]
        at += 1


def summarise(cache: Cache, new: int, seconds: Seconds) -> Summary:
    """Counts of a cache after a build."""
    count = {name: Counter(cache.table.column(name).to_pylist()) for name in ("status", "rung")}
    return Summary(len(cache), new, dict(count["status"]), dict(count["rung"]), dict(seconds))


def update_arguments(path: Path) -> tuple[Path, str, BuildSettings]:
    """Source, layout and settings by which a cache was built, to build it again."""
    recipe = open_cache(path).recipe
    source = recipe.made_with.get("source")
    if not source:
        raise UserError(
            f"{path}: its recipe does not say where its photos were; run preprocess build with SOURCE"
        )
    return Path(source), recipe.made_with["layout"], settings_of(recipe)
