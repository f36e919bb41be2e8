"""Who is alive. Two witnesses: an OS lock that the kernel frees with the process, and a lease for a process that hangs.

A worker holds a lock on `<store>.workers/<worker id>` as long as it lives. The file is removed by whoever declares it dead, while
holding its lock. Leases are in CLOCK_BOOTTIME of this machine (all processes that share an SQLite file share the machine): it
neither jumps nor stops while the machine sleeps. A lease of another boot is over.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path
from typing import Final
from urllib.parse import quote

_CLOCK: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_ns() -> int:
    """Nanoseconds since the machine started."""
    return time.clock_gettime_ns(_CLOCK)


def boot_id() -> str:
    """Which start of the machine; empty where the system does not say."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


class WorkerLocks:
    """The locks that this process holds, and a look at those of others."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, int] = {}

    def hold(self, worker: str) -> None:
        """Take the lock of `worker`. Raises `OSError` when another process holds it or the folder can't be written."""
        if worker in self._held:
            return
        self._folder.mkdir(exist_ok=True)
        path = self._path(worker)
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _same_file(descriptor, path):
                    self._held[worker] = descriptor
                    return
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)  # it was removed between opening and locking: once more, on the new file

    def is_free(self, worker: str) -> bool:
        """Whether the process that held the lock is gone. Unknown (the file is missing) counts as held: the lease decides."""
        with contextlib.suppress(OSError):
            descriptor = os.open(self._path(worker), os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            finally:
                os.close(descriptor)
        return False

    def remove(self, worker: str) -> None:
        """Give back or clear away the lock of a worker that is no more."""
        with contextlib.suppress(OSError):
            self._path(worker).unlink()
        descriptor = self._held.pop(worker, None)
        if descriptor is not None:
            os.close(descriptor)

    def drop(self) -> None:
        """Let go of all locks, as a killed process would: the files stay for whoever reaps the workers."""
        while self._held:
            _, descriptor = self._held.popitem()
            os.close(descriptor)

    def _path(self, worker: str) -> Path:
        return self._folder / quote(worker, safe="")


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
