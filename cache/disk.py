"""Files that last: written through, replaced in one step, locked by one process at a time."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cache.format import CacheError

LEFT = ".tmp"
"""The ending of whatever was not finished: the next Writer removes it."""
REASONS = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "the disk quota is used up; free some space",
    errno.EFBIG: "a file would grow past the limit of this system; raise the limit, or use smaller shards",
    errno.EROFS: "the file system is read-only; choose another --out",
    errno.EACCES: "writing is not permitted; change the permissions, or choose another --out",
    errno.EPERM: "writing is not permitted; change the permissions, or choose another --out",
    errno.ENOLCK: "this file system can't lock files; choose another --out",
}


def put(path: Path, data: Any) -> None:
    """Write a file, or replace it, in one step that lasts."""
    unfinished = path.with_name(path.name + LEFT)
    write(unfinished, data)
    unfinished.replace(path)
    sync(path.parent)


def write(path: Path, *parts: Any) -> None:
    """Write a new file through to the disk."""
    with path.open("wb") as file:
        for part in parts:
            file.write(part)
        file.flush()
        os.fsync(file.fileno())


def sync(folder: Path) -> None:
    """Write a folder's names through to the disk."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


@contextmanager
def on_disk(folder: Path) -> Iterator[None]:
    """Turn a refusal of the file system into a CacheError with what to do about it."""
    try:
        yield
    except OSError as error:
        why = REASONS.get(error.errno or 0, f"{error.strerror or error}")
        raise CacheError(
            f"{folder}: {why}; then run the same command again: what was committed stays"
        ) from error


_held: set[int] = set()


def _let_go() -> None:
    # A forked worker shares the lock; were it to outlive a killed build, the lock would hold on.
    for number in _held:
        os.close(number)
    _held.clear()


os.register_at_fork(after_in_child=_let_go)


def take_lock(folder: Path) -> int:
    """Become the only writer, until `release_lock` or the end of this process; a handle.

    Raises:
        CacheError: another process is writing, with its number.
    """
    with on_disk(folder):
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(lock, 200, 0).decode(errors="replace").strip() or "unknown"
            os.close(lock)
            raise CacheError(
                f"{folder}: another build (process {holder}) is writing to this cache; "
                "wait for its end, or stop it, and run this again"
            ) from None
        except OSError:
            os.close(lock)
            raise
    with suppress(OSError):  # the number is a courtesy; on a full disk the lock alone must do
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()} on {os.uname().nodename}".encode(), 0)
    _held.add(lock)
    return lock


def release_lock(lock: int) -> None:
    """Let others write; a second time, or in a forked child, nothing."""
    if lock in _held:
        _held.remove(lock)
        with suppress(OSError):
            os.ftruncate(lock, 0)
        os.close(lock)
