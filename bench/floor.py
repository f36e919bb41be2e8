"""The floor: what the same tasks reach when a step is one INSERT and nothing else.

    python bench/floor.py FILE [--runs 1000]

Sleeping tasks as in `steps`, the same records, the same SQLite settings (WAL, synchronous=FULL), one writer thread with group
commit. No input, label, hash, status, ownership or resume: a table of (run, seq, payload) and the key to find a step again, which
makes no measurable difference.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final, TypeAlias

import msgspec
from child import tell
from machine import memory_mb
from workload import SLEEP_S, STEPS, record

_MOST: Final = 1024

Waiting: TypeAlias = tuple[tuple[int, int, bytes], "asyncio.Future[None]"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    steps_per_s: float
    seconds: float
    cpu_us: float
    rss_mb: float
    commits: int


class Recorder:
    """One writer thread that commits what is waiting."""

    def __init__(self, path: Path) -> None:
        self.commits = 0
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute(
            "CREATE TABLE steps (run INTEGER NOT NULL, seq INTEGER NOT NULL, payload BLOB NOT NULL, PRIMARY KEY (run, seq)) STRICT"
        )
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[Waiting | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def put(self, run: int, seq: int, payload: bytes) -> asyncio.Future[None]:
        stored = self._loop.create_future()
        self._queue.put(((run, seq, payload), stored))
        return stored

    def close(self) -> int:
        """How many rows the file holds."""
        self._queue.put(None)
        self._thread.join()
        (rows,) = self._connection.execute("SELECT count(*) FROM steps").fetchone()
        self._connection.close()
        return int(rows)

    def _serve(self) -> None:
        while (item := self._queue.get()) is not None:
            batch = [item]
            while len(batch) < _MOST:
                try:
                    more = self._queue.get_nowait()
                except Empty:
                    break
                if more is None:
                    self._queue.put(None)
                    break
                batch.append(more)
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany("INSERT INTO steps VALUES (?, ?, ?)", [row for row, _ in batch])
            self._connection.execute("COMMIT")
            self.commits += 1
            self._loop.call_soon_threadsafe(_acknowledge, batch)


def _acknowledge(batch: list[Waiting]) -> None:
    for _, stored in batch:
        stored.set_result(None)


async def measure(path: Path, *, runs: int) -> Measured:
    """Raises `RuntimeError` when the file does not hold all steps."""
    recorder = Recorder(path)

    async def drive(number: int) -> None:
        for step in range(STEPS):
            await asyncio.sleep(SLEEP_S)
            await recorder.put(number, step, msgspec.json.encode(record(number, step)))

    began, cpu_s = time.perf_counter(), time.process_time()
    async with asyncio.TaskGroup() as group:
        for number in range(runs):
            group.create_task(drive(number))
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu_s
    rows, steps = recorder.close(), runs * STEPS
    if rows != steps:
        raise RuntimeError(f"{path} holds {rows} rows, not {steps}")
    return Measured(
        steps_per_s=steps / seconds,
        seconds=seconds,
        cpu_us=cpu_s / steps * 1e6,
        rss_mb=memory_mb(),
        commits=recorder.commits,
    )


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("file", type=Path)
    asked.add_argument("--runs", type=int, default=1000)
    given = asked.parse_args()
    tell(asyncio.run(measure(given.file, runs=given.runs)))


if __name__ == "__main__":
    main()
