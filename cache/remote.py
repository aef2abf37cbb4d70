"""Addresses of other machines (`s3://bucket/cache`, `gs://`, all that fsspec knows), and caches there.

Such a cache is read and written in its mirror here; `fetch` brings what is up there, `Mirror.push`
sends what is new. A shard up there counts once its records.arrow is there, which is sent last. One
build at a time: the lock holds on this machine only.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from configs.errors import UserError

ADDRESS = re.compile(r"(?P<protocol>[a-z][a-z0-9+.-]+):/+(?P<rest>.*)", re.DOTALL)
EXTRAS = {"s3": "figureground[s3]", "s3a": "figureground[s3]", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs"}
"""What to install for a protocol, where it isn't named like its fsspec package."""

INDEX = re.compile(r"index-\d{6,}-[0-9a-f]{16}\.arrow")
PARTS = ("rgb.npy", "alpha.npy", "records.arrow")
"""The files of a shard in the order in which they are sent: with the last one it counts."""


def address_of(path: str | os.PathLike[str]) -> str | None:
    """The address that a path stands for, or None for a path of this machine.

    `Path("s3://bucket/key")` keeps one slash of two, so one is taken for two.
    """
    match = ADDRESS.fullmatch(os.fspath(path))
    if match is None:
        return None
    slashes = ":///" if match["protocol"] in ("file", "local") else "://"
    return f"{match['protocol']}{slashes}{match['rest'].rstrip('/')}"


def connect(address: str) -> tuple[Any, str]:
    """The fsspec file system of an address, and the path in it.

    Raises:
        UserError: nothing is installed for its protocol, or it isn't known.
    """
    protocol = address.partition(":")[0]
    try:
        import fsspec  # type: ignore[import-untyped]

        with asked(address):
            # A listing of a moment ago would hide what another machine has written since.
            fs, path = fsspec.core.url_to_fs(address, use_listings_cache=False)
    except ImportError:
        package = EXTRAS.get(protocol, "fsspec")
        raise UserError(f"{address}: to read {protocol}:// run: pip install '{package}'") from None
    except ValueError as error:
        raise UserError(f"{address}: {error}") from None
    return fs, path


@contextmanager
def asked(address: str) -> Iterator[None]:
    """Turn a storage's refusal into a UserError with what to do about it."""
    try:
        yield
    except (UserError, ImportError):
        raise
    except Exception as error:
        # Each storage library has errors of its own, with no base in common.
        kind, text = type(error).__name__, " ".join(str(error).split())[:300]
        if "Credential" in kind or "credential" in text.lower():
            why = "no credentials for it; set them as its own tools want them (AWS_ACCESS_KEY_ID, ...)"
        elif isinstance(error, FileNotFoundError):
            why = "no such bucket or folder"
        elif isinstance(error, PermissionError):
            why = "access is not permitted to these credentials"
        elif isinstance(error, ValueError):
            raise
        else:
            why = f"{kind}: {text}"
        raise UserError(f"{address}: {why}; then run the same command again") from error


@dataclass
class Mirror:
    """A cache at an address, and its copy on this machine.

    Attributes:
        folder: of the copy, below FIGUREGROUND_CACHE or ~/.cache/figureground.
        sent: shards known to be up there.
    """

    address: str
    folder: Path
    fs: Any
    root: str
    sent: set[str] = field(default_factory=set)

    def push(self) -> None:
        """Send the recipe and the shards that are not up there yet."""
        from cache.format import shard_names

        if not (self.folder / "recipe.json").is_file():
            return
        here = shard_names(self.folder)
        with asked(self.address):
            self._send("recipe.json")
            for name in here:
                if name in self.sent:
                    continue
                for part in PARTS:
                    if (self.folder / "shards" / name / part).is_file():
                        self._send(f"shards/{name}/{part}")
                self.sent.add(name)

    def finish(self) -> None:
        """`push`, then the index and the log of builds; then take away what no index names any more."""
        from cache.format import index_names, shard_names

        self.push()
        indexes = index_names(self.folder)[-1:]
        with asked(self.address):
            up = _listed(self.fs, self.root)
            for name in indexes:
                if name not in up:
                    self._send(name)
            if (self.folder / "builds.jsonl").is_file():
                self._send("builds.jsonl")
            live = {f"shards/{name}" for name in shard_names(self.folder)}
            stale = [
                name
                for name in up
                if (INDEX.fullmatch(name) and name not in indexes)
                or (name.startswith("shards/") and name.rpartition("/")[0] not in live)
            ]
            for name in sorted(stale, key=lambda name: not name.endswith("records.arrow")):
                self.fs.rm_file(f"{self.root}/{name}")

    def _send(self, name: str) -> None:
        if self.address.partition(":")[0] not in EXTRAS:  # those have no folders; a bucket would be made
            self.fs.makedirs(f"{self.root}/{name}".rpartition("/")[0], exist_ok=True)
        self.fs.put_file(str(self.folder / name), f"{self.root}/{name}")


def fetch(address: str) -> Mirror:
    """Make the mirror equal to what is up there, loading only what is missing.

    Raises:
        UserError: the address can't be reached or read.
    """
    from cache.format import shard_names

    fs, root = connect(address)
    home = Path(os.environ.get("FIGUREGROUND_CACHE") or Path.home() / ".cache" / "figureground")
    folder = home / hashlib.sha256(address.encode()).hexdigest()[:16]
    with asked(address):
        up = _listed(fs, root)
    shards = {
        name.split("/")[1] for name in up if name.startswith("shards/") and name.endswith("/records.arrow")
    }
    mirror = Mirror(address, folder, fs, root, shards)
    if "recipe.json" not in up:
        shutil.rmtree(folder, ignore_errors=True)
        return mirror
    (folder / "shards").mkdir(parents=True, exist_ok=True)
    # What was not sent before a kill never counted: it is made again.
    for name in set(shard_names(folder)) - shards:
        shutil.rmtree(folder / "shards" / name)
    for name in shards - set(shard_names(folder)):
        _load_shard(mirror, name, [part for part in PARTS if f"shards/{name}/{part}" in up])
    indexes = {name for name in up if INDEX.fullmatch(name)}
    for path in folder.glob("index-*.arrow"):
        if path.name not in indexes:
            path.unlink()
    for name in ("recipe.json", "builds.jsonl", *sorted(indexes)):
        if name in up and not (name in indexes and (folder / name).exists()):
            _load(mirror, name, folder / name)
    return mirror


def _listed(fs: Any, root: str) -> set[str]:
    """Names of all files below, relative; none where there is nothing yet."""
    try:
        return {name[len(root) :].lstrip("/") for name in fs.find(root)}
    except FileNotFoundError:
        return set()


def _load_shard(mirror: Mirror, name: str, parts: list[str]) -> None:
    unfinished = mirror.folder / "shards" / f"{name}.tmp"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    for part in parts:
        _load(mirror, f"shards/{name}/{part}", unfinished / part)
    unfinished.rename(mirror.folder / "shards" / name)


def _load(mirror: Mirror, name: str, path: Path) -> None:
    unfinished = path.with_name(path.name + ".tmp")
    with asked(f"{mirror.address}/{name}"):
        mirror.fs.get_file(f"{mirror.root}/{name}", str(unfinished))
    unfinished.replace(path)
