"""Where pixels lie: how much room there is, a block that several processes share, rows read from the disk."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import tempfile
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

SHARED_PREFIX = "figureground"
CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, eq=False)
class Mapped:
    """Rows of a cache that stay on the disk (and in the page cache, which all processes share).

    Stands for a tensor u8 [n h w 3] or [n h w]: `shape`, `len`, and indexing by a row, a slice
    or a tensor of rows, which reads those rows into a new tensor.
    """

    shape: tuple[int, ...]
    read: Callable[[int], np.ndarray]
    """`read(i)`: row i as a view of the map, u8 [h w 3] or [h w]."""

    dtype = torch.uint8
    device = torch.device("cpu")
    is_cuda = False

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int | slice | torch.Tensor) -> torch.Tensor:
        if isinstance(index, int):
            return torch.tensor(self.read(index))
        rows = torch.arange(len(self))[index].tolist()
        out = np.empty((len(rows), *self.shape[1:]), np.uint8)
        for place, row in enumerate(rows):
            out[place] = self.read(row)
        return torch.from_numpy(out)


def available() -> int:
    """Bytes that this process may take without swapping or being killed; the least that any limit says."""
    rooms = [_machine(), *_cgroup()]
    return max(0, min(rooms))


def available_shared() -> int:
    """Bytes that a shared block may take: memory, and the room of the file system it lies in."""
    room = os.statvfs(_shared_folder())
    return min(available(), room.f_bavail * room.f_frsize)


def block(shape: tuple[int, ...]) -> np.ndarray:
    """A u8 array of this process; NumPy asks for huge pages, which fill several times faster."""
    return np.empty(shape, np.uint8)


def attach(name: str, size: int) -> np.ndarray | None:
    """A shared block u8 [size] that another process has filled, or None."""
    path = _shared_path(name)
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        fcntl.flock(descriptor, fcntl.LOCK_SH)  # waits for one who is filling it
        if os.fstat(descriptor).st_nlink == 0:  # its last holder removed it in the meantime
            os.close(descriptor)
            continue
        if os.fstat(descriptor).st_size == size + 1 and os.pread(descriptor, 1, size) == b"\1":
            return _hold(descriptor, path, size)
        os.close(descriptor)
        return None


def share(name: str, size: int, fill: Callable[[np.ndarray], None]) -> np.ndarray:
    """A block u8 [size] under a name that all processes of this user share; the first one fills it.

    A file in memory (/dev/shm). Each holder keeps a lock on it, and the last to leave removes it;
    what processes that were killed left behind is removed by the next call. A byte behind the data
    says that it is whole.

    Args:
        name: stands for the content: equal names, equal bytes.
        size: bytes.
        fill: writes the content into the array that it is given.
    """
    _sweep()
    path = _shared_path(name)
    while True:
        block = attach(name, size)
        if block is not None:
            return block
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        state = os.fstat(descriptor)
        if state.st_nlink == 0 or state.st_size == size + 1:  # removed, or filled by another: look again
            os.close(descriptor)
            continue
        try:
            os.posix_fallocate(descriptor, 0, size)  # an error now, and no SIGBUS in mid-fill
            fill(np.frombuffer(mmap.mmap(descriptor, size), np.uint8))
            os.pwrite(descriptor, b"\1", size)
        except BaseException:
            path.unlink(missing_ok=True)
            os.close(descriptor)
            raise
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if os.fstat(descriptor).st_nlink:
            return _hold(descriptor, path, size)
        os.close(descriptor)  # taken for a left-over between the two locks


def _hold(descriptor: int, path: Path, size: int) -> np.ndarray:
    pages = mmap.mmap(descriptor, size, mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0))
    weakref.finalize(pages, _leave, descriptor, path, os.getpid())
    return np.frombuffer(pages, np.uint8)


def _leave(descriptor: int, path: Path, process: int) -> None:
    """Remove a shared block when nobody else holds it."""
    if os.getpid() != process:  # a forked child has the parent's lock, and must not act on it
        return
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    os.close(descriptor)


def _sweep() -> None:
    """Remove the shared blocks that nobody holds."""
    for path in _shared_folder().glob(f"{SHARED_PREFIX}-{os.getuid()}-*"):
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            _leave(descriptor, path, os.getpid())


def _shared_folder() -> Path:
    folder = Path("/dev/shm")
    return folder if folder.is_dir() else Path(tempfile.gettempdir())


def _shared_path(name: str) -> Path:
    return _shared_folder() / f"{SHARED_PREFIX}-{os.getuid()}-{name}"


def _machine() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in lines)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _cgroup() -> list[int]:
    """What a container's limit leaves: [bytes], or [] without one. Page cache does not count as taken."""
    names = {"memory.max": "memory.current", "memory/memory.limit_in_bytes": "memory/memory.usage_in_bytes"}
    for limit, usage in names.items():
        try:
            most, taken = (CGROUP / limit).read_text().strip(), int((CGROUP / usage).read_text())
            stat = dict(
                line.split() for line in (CGROUP / limit).with_name("memory.stat").read_text().splitlines()
            )
        except (OSError, ValueError):
            continue
        if most != "max":
            cached = int(stat.get("inactive_file", 0)) + int(stat.get("active_file", 0))
            return [int(most) - taken + cached]
    return []


def cpus() -> int:
    """CPUs that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1
