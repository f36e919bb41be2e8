"""What the figures were measured on. Timings without their machine, versions and load say nothing."""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

_FLUSHES: Final = 200
_MEMORY_FILESYSTEMS: Final = frozenset({"tmpfs", "ramfs"})


class NoDisk(Exception):
    """The folder is in memory: an fsync costs nothing there, so that no figure would mean anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where, on what, under which load (over the last minute, at the beginning)."""

    cores: int
    processor: str
    memory_gb: float
    python: str
    sqlite: str
    filesystem: str
    synchronous: str
    load: float
    versions: dict[str, str]


def describe(folder: Path) -> Machine:
    """The machine, seen from `folder`. Raises `NoDisk`."""
    filesystem = filesystem_of(folder)
    if filesystem in _MEMORY_FILESYSTEMS:
        raise NoDisk(f"{folder} is on {filesystem}: choose a folder on a disk with --dir")
    return Machine(
        cores=os.cpu_count() or 1,
        processor=_processor(),
        memory_gb=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        python=sys.version.split()[0],
        sqlite=sqlite3.sqlite_version,
        filesystem=filesystem,
        synchronous=_synchronous(folder),
        load=round(os.getloadavg()[0], 2),
        versions={name: version(name) for name in ("holdfast", "anyio", "msgspec", "pydantic", "zstandard")},
    )


def flush_ms(folder: Path) -> float:
    """The physical limit of whatever is durable: median time in ms to write 4 KiB to a file there and `fdatasync` it."""
    path = folder / "flush"
    took: list[float] = []
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        for _ in range(_FLUSHES):
            block = os.urandom(4096)
            began = time.perf_counter()
            os.write(descriptor, block)
            os.fdatasync(descriptor)
            took.append(time.perf_counter() - began)
    finally:
        os.close(descriptor)
        path.unlink()
    return statistics.median(took) * 1e3


def memory_mb(field: str = "VmHWM") -> float:
    """Memory of this process in MB: `VmHWM` is the most it ever had resident, `VmRSS` what it has now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name == field:
            return int(rest.split()[0]) / 1024
    raise LookupError(f"/proc/self/status has no {field}")


class Others:
    """How much of the machine other processes use, from now on."""

    def __init__(self) -> None:
        self._total, self._idle = _ticks()
        self._own = _own_ticks()

    def share(self) -> float:
        """In [0, 1] of all cores; this process and its ended children do not count."""
        total, idle = _ticks()
        passed = total - self._total
        used = passed - (idle - self._idle) - (_own_ticks() - self._own)
        return max(0.0, used / passed) if passed else 0.0


def _ticks() -> tuple[int, int]:
    """All CPU time of the machine so far, and the idle part of it."""
    user, nice, system, idle, io, *rest = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9])
    return user + nice + system + idle + io + sum(rest), idle + io


def _own_ticks() -> float:
    times = os.times()
    return (times.user + times.system + times.children_user + times.children_system) * os.sysconf("SC_CLK_TCK")


def forget_peak() -> None:
    """Start `VmHWM` anew from what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")


def filesystem_of(folder: Path) -> str:
    """The type of the file system that holds `folder`."""
    found, longest = "unknown", -1
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mounted, kind, *_ = line.split()
        if folder.resolve().is_relative_to(mounted) and len(mounted) >= longest:
            found, longest = kind, len(mounted)
    return found


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _synchronous(folder: Path) -> str:
    """How the store syncs, as its own connections have it: asked, not assumed."""
    from holdfast.store._schema import connect  # here, so that the floor's process does not hold the package

    path = folder / "settings.db"
    connection = connect(path, str(path))
    try:
        (level,) = connection.execute("PRAGMA synchronous").fetchone()
    finally:
        connection.close()
        path.unlink(missing_ok=True)
    return ("OFF", "NORMAL", "FULL", "EXTRA")[level]
