"""The embedded store: one SQLite file, any number of processes of one machine."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from ..errors import SequenceConflict, StoreClosed, StoreUnavailable
from . import _ownership, _reads
from ._batch import Batch
from ._faults import typed
from ._lease import WorkerLocks
from ._redaction import redact, truncate_log
from ._schema import connect, prepare
from ._snapshot import SqliteSnapshot
from ._types import Append, Checkpoint, Claimed, NewRun, Row, RunRow, Snapshot, Stream, Wait
from ._writer import MAX_PENDING, Create, Job, Writer

_log = logging.getLogger(__name__)

T = TypeVar("T")

_LOOK_EVERY_S: Final = 0.25
_WAL_PAGES: Final = 500  # 4 MB: a longer log gains nothing, and its checkpoint holds up writers longer
_WAL_KEPT_BYTES: Final = 64 * 1024 * 1024


class SqliteStore:
    """`Store` on an SQLite file in WAL mode with synchronous=FULL.

    One thread writes (see `_writer`), one reads; the event loop never touches the file. Make it with `SqliteStore.open`.
    """

    def __init__(self, path: Path, address: str, *, max_pending: int = MAX_PENDING) -> None:
        self._path = path
        self._address = address
        self._locks = WorkerLocks(path.with_name(path.name + ".workers"))
        self._looked_at = 0.0
        self._seen_changes = 0
        self._closed = False
        self._ending = threading.Lock()
        with typed(address):
            self._identity = _identity(path)
            writing = connect(path, address)
            writing.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
            writing.execute(f"PRAGMA journal_size_limit = {_WAL_KEPT_BYTES}")
            self._reading = connect(path, address)
            self._reading.execute("PRAGMA query_only = ON")
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"holdfast-reader {address}")
        self._writer = Writer(address, writing, still_there=self._still_there, max_pending=max_pending)

    @classmethod
    async def open(cls, path: Path, *, address: str | None = None, max_pending: int = MAX_PENDING) -> SqliteStore:
        """Open the store at `path`; create or upgrade it as needed.

        Raises:
            StoreCorrupt: There is something else. Nothing was changed.
            SchemaTooNew: A newer Holdfast wrote it. Nothing was changed.
            StoreUnavailable: It can't be read or written.
        """
        name = address or str(path)
        await asyncio.to_thread(prepare, path, name)
        return await asyncio.to_thread(partial(cls, path, name, max_pending=max_pending))

    @property
    def address(self) -> str:
        return self._address

    async def close(self) -> None:
        self._closed = True
        self._writer.stop()
        await asyncio.to_thread(self._end)

    def _end(self) -> None:
        self._writer.join()
        with self._ending:  # invariant: the connection is closed once and by nobody who is still reading
            self._reader.shutdown()
            self._reading.close()
            self._locks.drop()

    # -- writes -------------------------------------------------------------------------------------------------------

    async def create(self, run: NewRun, first: Append, *, worker: str | None = None) -> int:
        epoch: int = await self._writer.submit(Create(run, first, worker))
        return epoch

    def append(self, request: Append) -> Awaitable[None]:
        return self._writer.put(request)

    async def redact(self, run: str, rows: Sequence[tuple[Stream, int]] | None, note: Append) -> int:
        job = Job(partial(redact, run=run, rows=rows, note=note, address=self._address), self._truncate, (note,))
        removed: int = await self._writer.submit(job)
        return removed

    def _truncate(self, connection: sqlite3.Connection) -> None:
        truncate_log(connection, self._address)

    async def add_checkpoint(self, checkpoint: Checkpoint) -> None:
        await self._write(partial(add_checkpoint, checkpoint=checkpoint))

    # -- ownership ----------------------------------------------------------------------------------------------------

    async def register(self, worker: str, *, lease_s: float) -> None:
        await self._write(
            partial(_ownership.register, locks=self._locks, worker=worker, lease_s=lease_s, address=self._address)
        )

    async def renew(self, worker: str, *, lease_s: float) -> bool:
        return await self._write(partial(_ownership.renew, locks=self._locks, worker=worker, lease_s=lease_s))

    async def retire(self, worker: str) -> None:
        job = Job(partial(_ownership.retire, worker=worker), lambda _: self._locks.remove(worker))
        await self._writer.submit(job)

    async def reap(self) -> Sequence[str]:
        dead: list[str] = []

        def work(batch: Batch) -> list[str]:
            dead[:] = _ownership.reap(batch, self._locks)
            return dead

        def clear(_: sqlite3.Connection) -> None:
            for worker in dead:
                self._locks.remove(worker)

        await self._writer.submit(Job(work, clear))
        return dead

    async def claim(
        self, worker: str, versions: Sequence[tuple[str, str]], *, now_ns: int, limit: int
    ) -> Sequence[Claimed]:
        work = partial(_ownership.claim, worker=worker, versions=versions, now_ns=now_ns, limit=limit)
        give_back = partial(self._give_back, worker=worker)
        taken: list[_ownership.Taken] = await self._writer.submit(Job(work, abandoned=give_back))
        if not taken:
            return []
        try:
            claimed, damaged = await self._read(partial(_reads.claimed, taken=taken))
        except BaseException:
            give_back(taken)
            raise
        if damaged:
            for run in damaged:
                _log.error("store %s: run %s can't be read and is set aside; verify the store", self._address, run.run)
            await self._write(partial(_ownership.give_back, taken=damaged, worker=worker, wake_ns=None))
        return claimed

    def _give_back(self, taken: Sequence[_ownership.Taken], worker: str) -> None:
        if taken:
            self._writer.post(Job(partial(_ownership.give_back, taken=taken, worker=worker)))

    async def next_wake_ns(self, versions: Sequence[tuple[str, str]]) -> int | None:
        return await self._read(partial(_reads.next_wake_ns, versions=versions))

    def changed(self) -> bool:
        self._writer.look()
        seen, self._seen_changes = self._seen_changes, self._writer.foreign_changes
        return seen != self._seen_changes

    # -- reads --------------------------------------------------------------------------------------------------------

    async def run(self, run: str) -> RunRow | None:
        return await self._read(partial(_reads.run, run=run))

    async def runs(
        self,
        *,
        status: Sequence[str] = (),
        workflow: str | None = None,
        parent: str | None = None,
        after: str | None = None,
        limit: int | None = None,
    ) -> Sequence[RunRow]:
        return await self._read(
            partial(_reads.runs, status=status, workflow=workflow, parent=parent, after=after, limit=limit)
        )

    async def count(self) -> dict[str, int]:
        return await self._read(_reads.count)

    async def rows(self, run: str, stream: Stream, *, after: int = -1) -> Sequence[Row]:
        return await self._read(partial(_reads.rows, run=run, stream=stream, after=after))

    async def waits(self, *, id: str | None = None, kinds: Sequence[str] = ()) -> Sequence[tuple[str, Wait]]:
        return await self._read(partial(_reads.waits, id=id, kinds=kinds))

    async def find(self, kind: str, name: str, *, limit: int) -> Sequence[tuple[str, Row]]:
        return await self._read(partial(_reads.find, kind=kind, name=name, limit=limit))

    async def secret(self) -> bytes:
        return await self._read(_reads.secret)

    async def blobs(self, run: str, ids: Sequence[bytes]) -> dict[bytes, bytes]:
        return await self._read(partial(_reads.blobs, run=run, ids=ids))

    async def shared(self, digests: Sequence[bytes]) -> dict[bytes, bytes]:
        return await self._read(partial(_reads.shared, digests=digests))

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        self._refuse_closed()
        with typed(self._address), contextlib.closing(connect(self._path, self._address)) as connection:
            connection.execute("PRAGMA query_only = ON")
            connection.execute("BEGIN")
            connection.execute("SELECT name FROM meta").fetchone()  # only the first read fixes the moment
            yield SqliteSnapshot(connection)

    # -- inside -------------------------------------------------------------------------------------------------------

    async def _write(self, work: Callable[[Batch], T]) -> T:
        value: T = await self._writer.submit(Job(work))
        return value

    async def _read(self, read: Callable[[sqlite3.Connection], T]) -> T:
        self._refuse_closed()
        port = self._writer.port()
        port.courtesy.begin()
        try:
            return await port.loop.run_in_executor(self._reader, self._typed_read, read)
        finally:
            port.courtesy.end()

    def _typed_read(self, read: Callable[[sqlite3.Connection], T]) -> T:
        with typed(self._address):
            return read(self._reading)

    def _refuse_closed(self) -> None:
        if self._closed:
            raise StoreClosed(self._address)

    def _still_there(self) -> None:
        """A deleted file can still be written to, and is gone when it is closed: nothing may be acknowledged then."""
        now = time.monotonic()
        if now - self._looked_at < _LOOK_EVERY_S:
            return
        if _identity(self._path) != self._identity:
            raise StoreUnavailable(self._address, "the file was deleted or replaced while it was open")
        self._looked_at = now


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def add_checkpoint(batch: Batch, *, checkpoint: Checkpoint) -> None:
    """Inside the writer's transaction. Raises `SequenceConflict` when another one was sealed meanwhile."""
    c = checkpoint
    (last,) = batch.connection.execute("SELECT max(number) FROM checkpoints").fetchone()
    if last is not None and c.number != last + 1:
        raise SequenceConflict("", "checkpoints", c.number, last + 1)
    batch.connection.execute(
        "INSERT INTO checkpoints VALUES (?, ?, ?, ?, ?, ?)", (c.number, c.at_ns, c.body, c.hash, c.signature, c.key_id)
    )
