"""Photos at an address (`s3://bucket/photos`): what `photos` asks of a Path, asked of fsspec."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from cache.remote import asked, connect
from configs.errors import UserError

TIMES = ("LastModified", "last_modified", "mtime", "updated", "created")
"""What file systems call the time of the last change."""


class State(NamedTuple):
    """Size, bytes, and time of the last change, as of `Path.stat`."""

    st_size: int
    st_mtime_ns: int


@dataclass(frozen=True)
class RemotePath:
    """A file or folder at an address.

    Attributes:
        address: of it.
        known: its state, where it was listed.
    """

    address: str
    known: State | None = field(default=None, compare=False)

    @property
    def name(self) -> str:
        """The last part."""
        return PurePosixPath(self.address).name

    @property
    def stem(self) -> str:
        """The last part without its ending."""
        return PurePosixPath(self.address).stem

    @property
    def suffix(self) -> str:
        """The ending of the last part."""
        return PurePosixPath(self.address).suffix

    @property
    def parent(self) -> RemotePath:
        """The folder it is in."""
        return RemotePath(self.address.rpartition("/")[0])

    def __truediv__(self, key: str) -> RemotePath:
        return RemotePath(f"{self.address}/{key}")

    def __str__(self) -> str:
        return self.address

    def stat(self) -> State:
        """Its state; OSError where it can't be had."""
        if self.known:
            return self.known
        fs, path = _connected(self.address)
        return _state(_tried(fs.info, path))

    def exists(self) -> bool:
        """Whether it can be reached now."""
        fs, path = _connected(self.address)
        try:
            _tried(fs.info, path)
        except OSError:
            return False
        return True

    def read_bytes(self) -> bytes:
        """All of it; OSError where it can't be had."""
        fs, path = _connected(self.address)
        data: bytes = _tried(fs.cat_file, path)
        return data

    def open(self, mode: str = "r", *, encoding: str = "utf-8", newline: str | None = None) -> Any:
        """Its content as a file, held in memory."""
        data = io.BytesIO(self.read_bytes())
        return data if "b" in mode else io.TextIOWrapper(data, encoding=encoding, newline=newline)


def files(address: str) -> list[tuple[str, RemotePath]]:
    """Key (relative to the address) and path of each file below it, or of itself.

    Raises:
        UserError: it can't be reached, there is nothing, or no credentials.
    """
    fs, root = connect(address)
    with asked(address):
        found: Mapping[str, Any] = fs.find(root, detail=True)
        if not found and not fs.exists(root):
            raise UserError(f"{address}: no such bucket or folder")
    return [
        (
            (key := name[len(root) :].lstrip("/")),
            RemotePath(f"{address}/{key}" if key else address, _state(info)),
        )
        for name, info in found.items()
    ]


@lru_cache(1)
def _root(protocol: str) -> Any:
    return connect(f"{protocol}://")[0]


def _connected(address: str) -> tuple[Any, str]:
    fs = _root(address.partition(":")[0])
    return fs, fs._strip_protocol(address)


def _tried(call: Any, path: str) -> Any:
    try:
        return call(path)
    except OSError:
        raise
    except Exception as error:
        # Each storage library has errors of its own; to a reader of photos they are all failures to read.
        raise OSError(f"{type(error).__name__}: {error}") from error


def _state(info: Mapping[str, Any]) -> State:
    """Seconds from the time of change, the rest from the entity tag: it tells what one second holds apart."""
    time = next((info[name] for name in TIMES if info.get(name) is not None), 0)
    if isinstance(time, str):
        time = datetime.fromisoformat(time)
    seconds = time.timestamp() if isinstance(time, datetime) else float(time)
    tag = str(info.get("ETag") or info.get("etag") or "")
    if not tag:
        return State(int(info["size"]), int(seconds * 1e9))
    return State(
        int(info["size"]), int(seconds) * 10**9 + int(hashlib.sha256(tag.encode()).hexdigest(), 16) % 10**9
    )
