"""Where chunks are cut: in this process, or by the workers of a Ray cluster. Equal bytes from either."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cache.format import Recipe, differences
from cache.writer import Writer, stage
from configs import terminal
from configs.errors import UserError
from preprocess.crop import Box
from preprocess.photos import Source
from preprocess.plan import Plan
from preprocess.recipe import recipe_of
from preprocess.settings import BuildSettings

TRIES = 4
"""Workers that may die over one chunk, or one after the other while they load, before the build gives up."""

AHEAD = 4
"""Chunks a worker that may be under way or wait for an earlier one to be committed."""

THREADS = 4
"""Of a worker without a GPU; a node with fewer cores gives what it has."""

LOADING = -1
"""Stands for a chunk's number while a worker has none yet."""

PATIENCE_S = 60
"""Seconds without a worker before the wait is told of."""

STORE_BYTES = 100 * 2**20
"""Of a local cluster's object store: pixels never pass through it."""


@dataclass(frozen=True)
class Done:
    """A chunk that was cut, and is committed before the next one comes.

    Attributes:
        seconds: by stage; of workers side by side they add up to more than the clock's.
    """

    photos: int
    records: int
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class Engine:
    """Networks loaded, ready to cut.

    Attributes:
        recipe: of what it cuts.
        cut: cuts and commits the chunks of a plan, in their order.
    """

    recipe: Recipe
    cut: Callable[[Plan, Writer], Iterator[Done]]


@contextmanager
def local(settings: BuildSettings, *, device: str, jobs: int | None) -> Iterator[Engine]:
    """Cut in this process, decoding in `jobs` threads; None: one a core."""
    from preprocess import cut

    tools = cut.load_tools(settings, device)
    yield Engine(recipe_of(tools), partial(_cut_here, tools, jobs or os.cpu_count() or 1))


def _cut_here(tools: Any, jobs: int, plan: Plan, writer: Writer) -> Iterator[Done]:
    """Commit each chunk while the next is being cut."""
    from preprocess import cut

    blocks = cut.cut_chunks(plan.chunks, tools, plan.known, jobs=jobs)
    with ThreadPoolExecutor(1) as committer:
        waiting: Future[str] | None = None
        for chunk, block in zip(plan.chunks, blocks, strict=True):
            started = time.perf_counter()
            if waiting:
                waiting.result()
            block.seconds["write"] += time.perf_counter() - started
            waiting = committer.submit(writer.commit, block.records, block.rgb, block.alpha)
            yield Done(len(chunk), len(block.records), block.seconds)
        if waiting:
            waiting.result()


@contextmanager
def on_ray(settings: BuildSettings, *, device: str, jobs: int | None) -> Iterator[Engine]:
    """Cut by the workers of the Ray cluster at RAY_ADDRESS, or of one started here.

    A worker is a process with a GPU of its own, or without one `jobs` threads (None: up to
    `THREADS`). It must see the photos and the cache's folder under the paths that we have for them.

    Raises:
        UserError: no Ray, no cluster there, no such device in it, or too few cores.
    """
    ray = _import_ray()
    # Ray prints its news to stdout, which is for results.
    with redirect_stdout(sys.stderr), _cluster(ray):
        places, needs = _places(ray, settings, device, jobs)
        crew: list[Any] = []

        def hire() -> tuple[Any, Any]:
            worker = ray.remote(Worker).options(**needs).remote()
            crew.append(worker)
            on = "cuda" if needs["num_gpus"] else "cpu"
            return worker.load.remote(settings, on, needs["num_cpus"], str(Path.cwd())), worker

        try:
            loading = dict(hire() for _ in range(places))
            recipe = _first_recipe(ray, loading)
            yield Engine(recipe, partial(_cut_there, ray, hire, loading, recipe))
        finally:
            for worker in crew:
                with suppress(Exception):  # a cluster that is gone has no workers to stop
                    ray.kill(worker)


class Worker:
    """A process of a Ray cluster that loads the networks once and stages the shards it cuts."""

    def load(self, settings: BuildSettings, device: str, jobs: int, folder: str) -> Recipe:
        """Load the networks; the recipe of what is cut here."""
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in configs.terminal.run
        with suppress(OSError):  # relative paths mean the driver's, where there is such a folder here
            os.chdir(folder)
        from preprocess import cut

        started = time.perf_counter()
        self.tools = cut.load_tools(settings, device)
        self.loading: float = time.perf_counter() - started
        self.jobs = jobs
        return recipe_of(self.tools)

    def cut(
        self, out: Path, recipe: Recipe, chunk: list[Source], known: dict[str, list[Box]]
    ) -> tuple[str, Done]:
        """Cut a chunk and write its shard, for the driver to adopt; its name, and what was done."""
        from preprocess import cut

        _see(out, chunk)
        block = next(cut.cut_chunks([chunk], self.tools, known, jobs=self.jobs))
        started = time.perf_counter()
        staged = stage(out, recipe, block.records, block.rgb, block.alpha)
        block.seconds["write"] += time.perf_counter() - started
        block.seconds["load"] += self.loading
        self.loading = 0.0
        return staged.name, Done(len(chunk), len(block.records), dict(block.seconds))


def _see(out: Path, chunk: Sequence[Source]) -> None:
    """A worker blind to the photos would report all of them as unreadable: better none at all."""
    where = f"the Ray worker on {os.uname().nodename} does not see"
    if not (out / "shards").is_dir():
        raise UserError(f"{out}: {where} this cache; put it on a file system that all nodes share")
    there = [source for source in chunk if source.bytes >= 0]
    if there and not any(source.path.exists() for source in there):
        raise UserError(
            f"{there[0].path}: {where} the photos; put them on a file system that all nodes share"
        )


def _cut_there(
    ray: Any,
    hire: Callable[[], tuple[Any, Any]],
    loading: dict[Any, Any],
    recipe: Recipe,
    plan: Plan,
    writer: Writer,
) -> Iterator[Done]:
    """Hand chunks to workers as they come free; commit in the plan's order, whoever is done first."""
    out = writer.path.absolute()
    todo, staged, deaths = deque(range(len(plan.chunks))), dict[int, tuple[str, Done]](), Counter[int]()
    idle, under_way = list[Any](), {ref: (worker, LOADING) for ref, worker in loading.items()}
    committed = 0
    while committed < len(plan.chunks):
        while idle and todo and todo[0] < committed + AHEAD * len(loading):
            worker, number = idle.pop(), todo.popleft()
            chunk = plan.chunks[number]
            known = {source.group: plan.known[source.group] for source in chunk if source.group in plan.known}
            under_way[worker.cut.remote(out, recipe, chunk, known)] = (worker, number)
        for ref in ray.wait(list(under_way))[0]:
            worker, number = under_way.pop(ref)
            answer = _answer(ray, ref)
            if answer is None:  # the worker is dead; its chunk goes to another
                deaths[number] += 1
                if deaths[number] == TRIES:
                    first = "" if number == LOADING else plan.chunks[number][0].key
                    raise _gave_up(TRIES, f"cutting {first} and the like" if first else "loading")
                with suppress(Exception):  # it may but be out of reach
                    ray.kill(worker)
                terminal.note("a Ray worker died; its photos go to another one")
                todo.extendleft([] if number == LOADING else [number])
                ref, worker = hire()
                under_way[ref] = (worker, LOADING)
                continue
            if number == LOADING:
                _agree(recipe, answer)
                deaths[LOADING] = 0
            else:
                staged[number] = answer
            idle.append(worker)
        while committed in staged:
            name, done = staged.pop(committed)
            _adopt(writer, name)
            committed += 1
            yield done


def _adopt(writer: Writer, name: str) -> None:
    path = writer.path / "shards" / name
    if not path.is_dir():
        raise UserError(
            f"{path}: written by a Ray worker, but not here; put the cache where all nodes see it"
        )
    writer.adopt(path)


def _first_recipe(ray: Any, loading: dict[Any, Any]) -> Recipe:
    """The recipe of the first worker that has loaded."""
    left, told = list(loading), False
    while left:
        ready, left = ray.wait(left, timeout=None if told else PATIENCE_S)
        if not ready:
            terminal.note("waiting for a Ray worker to load; the cluster may be busy with other work")
            told = True
        for ref in ready:
            recipe = _answer(ray, ref)
            if recipe is not None:
                return recipe
    raise _gave_up(len(loading), "loading the networks")


def _answer(ray: Any, ref: Any) -> Any:
    """What a worker returned; None where it died before it could."""
    try:
        return ray.get(ref)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError:
        return None


def _gave_up(deaths: int, work: str) -> UserError:
    return UserError(
        f"--engine ray: {deaths} workers died one after the other while {work} (too little memory?); "
        "what was committed stays: give each worker more of a node with --jobs, "
        "or look into Ray's logs (/tmp/ray/session_latest)"
    )


def _agree(recipe: Recipe, theirs: Recipe) -> None:
    """All nodes must cut alike, or the cache would hold two recipes."""
    changed = differences(recipe.identity, theirs.identity)
    if changed:
        raise UserError(
            f"--engine ray: the cluster's nodes would cut differently ({'; '.join(changed)}); "
            "install the same version of figureground and the same network on all of them"
        )


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray would else warn that it hides GPUs from workers that ask for none; ours are told their device.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
        import ray.exceptions
    except ImportError:
        raise UserError("--engine ray: Ray is not installed; run: pip install 'figureground[ray]'") from None
    return ray


@contextmanager
def _cluster(ray: Any) -> Iterator[None]:
    """Be connected: as this process is already, to RAY_ADDRESS, or to a cluster started for the while."""
    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS", "local")
    new = {"include_dashboard": False, "object_store_memory": STORE_BYTES} if address == "local" else {}
    try:
        ray.init(address, logging_level="error", log_to_driver=False, **new)
    except (ConnectionError, ValueError, RuntimeError) as error:
        why = " ".join(str(error).split())[:300]
        raise UserError(f"--engine ray: no Ray cluster at RAY_ADDRESS={address} ({why})") from None
    try:
        yield
    finally:
        ray.shutdown()


def _places(ray: Any, settings: BuildSettings, device: str, jobs: int | None) -> tuple[int, dict[str, int]]:
    """How many workers the cluster has room for, and what each takes of it."""
    room: list[Mapping[str, float]] = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    with_gpu = [node for node in room if node.get("GPU", 0) >= 1]
    if device == "cuda" and not with_gpu:
        raise UserError("--device cuda: no node of the Ray cluster has a GPU; choose --device cpu")
    if with_gpu and device != "cpu" and settings.method != "none":
        threads = jobs or max(1, int(min(node.get("CPU", 0) // node["GPU"] for node in with_gpu)))
        places = sum(int(min(node["GPU"], node.get("CPU", 0) // threads)) for node in with_gpu)
        needs = {"num_cpus": threads, "num_gpus": 1}
    else:
        threads = jobs or max(1, int(min(THREADS, *(node.get("CPU", 0) for node in room))))
        places = sum(int(node.get("CPU", 0) // threads) for node in room)
        needs = {"num_cpus": threads, "num_gpus": 0}
    if not places:
        most = int(max(node.get("CPU", 0) for node in room))
        raise UserError(
            f"--jobs {threads}: no node of the Ray cluster has so many cores (the largest has {most})"
        )
    return places, needs


ENGINES: dict[str, Callable[..., AbstractContextManager[Engine]]] = {"local": local, "ray": on_ray}
"""Each with the keyword-only parameters of `local`."""


def run(
    engine: Engine,
    plan: Plan,
    writer: Writer,
    *,
    label: str,
    seconds: defaultdict[str, float],
    push: Callable[[], None] | None = None,
) -> int:
    """Cut and commit a plan with a bar; adds to `seconds` by stage. The number of records.

    Args:
        push: sends what was committed elsewhere; called beside the cutting, once at a time.
    """
    new = 0
    with (
        terminal.bar(sum(map(len, plan.chunks)), label=label) as bar,
        ThreadPoolExecutor(1) as sender,
    ):
        sending: Future[None] | None = None
        for done in engine.cut(plan, writer):
            for stage_name, spent in done.seconds.items():
                seconds[stage_name] += spent
            new += done.records
            bar.update(done.photos)
            if push and (sending is None or sending.done()):
                if sending:
                    sending.result()
                sending = sender.submit(push)
        if sending:
            sending.result()
    return new
