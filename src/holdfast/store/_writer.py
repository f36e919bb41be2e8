"""The one writer of a store: a thread with its own connection that commits in groups.

Any number of tasks put requests; the thread takes what is waiting, writes it in one transaction, and after the commit acknowledges
all of it with one call into each event loop. No timer: a lone request is committed at once, a thousand waiting ones together.

    request refused (conflict, old epoch, key taken)   fails alone, known not to be stored
    transaction failed                                 all of its requests fail with StoreUnavailable or StoreFull
    more pending than the bound                        callers wait, in order: back-pressure
    close                                              what was accepted is written first
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Final, Literal, TypeAlias

from ..errors import HoldfastError, StoreClosed, StoreError
from ._batch import Batch, Heads
from ._courtesy import Courtesy
from ._faults import translate
from ._types import Append, NewRun

MAX_PENDING: Final = 8_192
_MAX_BATCH: Final = 1_024
_BYTES_PER_UNIT: Final = 64 * 1024
_LINGER_S: Final = 0.01  # between looks for callers that are still held back, while closing


@dataclass(frozen=True, slots=True)
class Create:
    new: NewRun
    first: Append
    worker: str | None


@dataclass(frozen=True, slots=True)
class Job:
    """Anything else that writes. `work` runs inside the transaction, `then` after its commit."""

    work: Callable[[Batch], Any]  # Any: whatever the caller of `submit` expects
    then: Callable[[sqlite3.Connection], None] | None = None
    loads: tuple[Append, ...] = ()
    abandoned: Callable[[Any], None] | None = (
        None  #: called in the loop when the caller was cancelled and the work is done
    )


Request: TypeAlias = Append | Create | Job


class _Pending:
    """A request on its way. Resolved in its own loop, once."""

    __slots__ = ("error", "future", "port", "request", "units", "value")

    def __init__(self, request: Request, future: asyncio.Future[Any], port: _Port, units: int) -> None:
        self.request = request
        self.future = future
        self.port = port
        self.units = units
        self.value: Any = None
        self.error: Exception | None = None


class _Port:
    """One event loop's side: counts what is pending, holds back what is above the bound, resolves futures."""

    def __init__(self, loop: asyncio.AbstractEventLoop, put: Callable[[_Pending], None], bound: int) -> None:
        self.loop = loop
        self.thread = threading.get_ident()
        self.bound = bound
        self.courtesy = Courtesy(loop)
        self.held_back: deque[_Pending] = deque()
        self._put = put
        self._units = 0

    def send(self, pending: _Pending) -> None:
        # Whoever comes while others wait goes behind them: requests of one run are stored in the order of the calls.
        if self.held_back or self._units >= self.bound:
            self.held_back.append(pending)
        else:
            self._send(pending)

    def _send(self, pending: _Pending) -> None:
        self._units += pending.units
        self.courtesy.begin()
        self._put(pending)

    def settle(self, done: list[_Pending]) -> None:
        """In the loop's thread: acknowledge, then let in who waits."""
        self.courtesy.end(len(done))
        for pending in done:
            self._units -= pending.units
            future = pending.future
            if future.done():  # cancelled while it was written
                if type(pending.request) is Job and pending.request.abandoned and pending.error is None:
                    pending.request.abandoned(pending.value)
            elif pending.error is None:
                future.set_result(pending.value)
            else:
                future.set_exception(pending.error)
        self.let_in()

    def let_in(self) -> None:
        # One whose caller was cancelled goes too: others of its run may be chained on it.
        while self.held_back and self._units < self.bound:
            self._send(self.held_back[0])
            self.held_back.popleft()  # after it was sent: a writer that is about to end finds it in one place or the other

    def let_all_in(self) -> None:
        self.bound = sys.maxsize
        self.let_in()


class Writer:
    """See the module. From here on the connection belongs to the thread, which closes it.

    Args:
        still_there: Raises when the file behind the connection is gone; asked before each batch.
        max_pending: How many requests may be on their way; large ones count for several.
    """

    def __init__(
        self,
        address: str,
        connection: sqlite3.Connection,
        *,
        still_there: Callable[[], None],
        max_pending: int = MAX_PENDING,
    ) -> None:
        self._address = address
        self._connection = connection
        self._still_there = still_there
        self._bound = max_pending
        self._heads = Heads()
        self._queue: SimpleQueue[_Pending | Literal["look", "stop"]] = SimpleQueue()
        self._ports: dict[asyncio.AbstractEventLoop, _Port] = {}
        self._port: _Port | None = None
        self._closing = False
        self._stopped = False
        self._thread = threading.Thread(target=self._serve, name=f"holdfast-writer {address}", daemon=True)
        self._thread.start()

    @property
    def foreign_changes(self) -> int:
        """How often another process was found to have written."""
        return self._heads.changes

    def port(self) -> _Port:
        """The side of the running loop."""
        # A running loop that was used from this thread before is the running loop: asking asyncio for it costs a system call.
        port = self._port
        if port is not None and port.thread == threading.get_ident() and port.loop.is_running():
            return port
        return self._port_of(asyncio.get_running_loop())

    def post(self, job: Job) -> None:
        """Write without anybody waiting for it; when it fails, nobody hears of it."""
        if not self._closing:
            port = self.port()
            future = port.loop.create_future()
            future.add_done_callback(_ignore)
            port.send(_Pending(job, future, port, 1))

    async def submit(self, request: Request) -> Any:  # Any: the epoch for a new run, the value of a job
        """Write, durably. Cancelling leaves it unknown whether it is written."""
        return await self.put(request)

    def put(self, request: Request) -> asyncio.Future[Any]:
        """Put a request; the future is resolved once it is written. The order is that of the calls."""
        if self._closing:
            raise StoreClosed(self._address)
        port = self.port()
        future = port.loop.create_future()
        port.send(_Pending(request, future, port, _units(request)))
        return future

    def look(self) -> None:
        """Have the thread look whether another process has written; `foreign_changes` tells later."""
        if not self._closing and self._queue.empty():
            self._queue.put("look")

    def _port_of(self, loop: asyncio.AbstractEventLoop) -> _Port:
        port = self._ports.get(loop)
        if port is None:
            for other in [other for other in self._ports if other.is_closed()]:
                del self._ports[other]
            port = self._ports[loop] = _Port(loop, self._queue.put, self._bound)
        self._port = port
        return port

    def stop(self) -> None:
        """Take no more requests; what was accepted is written, then the thread ends. Idempotent; does not wait."""
        if not self._closing:
            self._closing = True
            for port in list(self._ports.values()):
                with contextlib.suppress(RuntimeError):  # a closed loop has nobody who waits
                    port.loop.call_soon_threadsafe(port.let_all_in)
            self._queue.put("stop")

    def join(self) -> None:
        """Wait until all is written and the thread has ended."""
        self._thread.join()

    # -- in the thread ------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        try:
            while not (self._stopped and self._drained()):
                batch = self._take()
                if batch:
                    self._write(batch)
                    self._acknowledge(batch)
                batch = []  # do not hold on to the last requests while waiting for the next
        finally:
            self._connection.close()

    def _drained(self) -> bool:
        ports = list(self._ports.values())
        return not any(port.held_back and port.loop.is_running() for port in ports) and self._queue.empty()

    def _take(self) -> list[_Pending]:
        """What is waiting, once something is."""
        batch: list[_Pending] = []
        units = 0
        try:
            item = self._queue.get(timeout=_LINGER_S if self._stopped else None)
            while True:
                if item == "look":
                    self._look()
                elif item == "stop":
                    self._stopped = True
                else:
                    batch.append(item)
                    units += item.units
                    if units >= _MAX_BATCH:
                        return batch
                item = self._queue.get_nowait()
        except Empty:
            return batch

    def _look(self) -> None:
        with contextlib.suppress(sqlite3.Error):  # the next write says what is wrong
            self._heads.refresh(self._connection)

    def _write(self, batch: list[_Pending]) -> None:
        """Commit a batch; whatever happens, each of its requests has a value or an error afterwards."""
        try:
            self._transaction(batch)
        except (sqlite3.DatabaseError, OSError, StoreError) as error:
            self._undo()
            if isinstance(error, sqlite3.DataError | sqlite3.IntegrityError | sqlite3.ProgrammingError):
                self._one_by_one(batch, error)
            else:
                self._fail(batch, error if isinstance(error, StoreError) else translate(error, self._address))
        except Exception as error:  # noqa: BLE001  # the thread must go on, and every caller must hear of it
            self._undo()
            self._one_by_one(batch, error)

    def _one_by_one(self, batch: list[_Pending], error: Exception) -> None:
        """A value that SQLite can't take was in the batch: it fails alone, the others are written."""
        if len(batch) == 1:
            batch[0].error = translate(error, self._address) if isinstance(error, sqlite3.Error) else error
            return
        for pending in batch:
            pending.error = None
            self._write([pending])

    def _fail(self, batch: list[_Pending], error: StoreError) -> None:
        # Those that were refused too: what they were refused for may just have been rolled back.
        for pending in batch:
            pending.error = type(error)(*error.args)
            pending.error.__cause__ = error.__cause__

    def _undo(self) -> None:
        self._heads.forget()
        if self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except sqlite3.Error:  # the next BEGIN fails then, and says why
                return

    def _transaction(self, batch: list[_Pending]) -> None:
        connection, heads = self._connection, self._heads
        self._still_there()
        connection.execute("BEGIN IMMEDIATE")
        heads.refresh(connection)
        transaction = Batch(connection, heads, self._address)
        self._load(transaction, batch)
        for pending in batch:
            request = pending.request
            try:
                if type(request) is Append:
                    transaction.append(request)
                elif type(request) is Create:
                    pending.value = transaction.create(request.new, request.first, request.worker)
                else:
                    transaction.flush()
                    pending.value = request.work(transaction)  # type: ignore[union-attr]  # the third of three
            except HoldfastError as error:
                pending.error = error
        transaction.flush()
        connection.execute("COMMIT")
        for pending in batch:
            if type(pending.request) is Job and pending.request.then and pending.error is None:
                self._afterwards(pending, pending.request.then)

    def _load(self, transaction: Batch, batch: list[_Pending]) -> None:
        appends: list[Append] = []
        new_runs: list[str] = []
        for pending in batch:
            request = pending.request
            if type(request) is Append:
                appends.append(request)
            elif type(request) is Create:
                new_runs.append(request.new.run)
            else:
                appends += request.loads  # type: ignore[union-attr]  # the third of three
        transaction.load(appends, new_runs)

    def _afterwards(self, pending: _Pending, then: Callable[[sqlite3.Connection], None]) -> None:
        try:
            then(self._connection)
        except StoreError as error:
            pending.error = error
        except (sqlite3.Error, OSError) as error:
            pending.error = translate(error, self._address)

    def _acknowledge(self, batch: list[_Pending]) -> None:
        by_port: dict[_Port, list[_Pending]] = {}
        for pending in batch:
            by_port.setdefault(pending.port, []).append(pending)
        for port, done in by_port.items():
            try:
                port.loop.call_soon_threadsafe(port.settle, done)
            except RuntimeError:  # the loop was closed: nobody waits there any more
                continue


def _units(request: Request) -> int:
    """What a request counts against the bounds: one, and one more for every 64 KiB."""
    if type(request) is Job:
        return 1
    append = request.first if type(request) is Create else request
    size = 0
    for row in append.rows:  # type: ignore[union-attr]  # an Append
        size += len(row.payload or b"")
    for _, data in append.blobs:  # type: ignore[union-attr]
        size += len(data)
    return min(1 + size // _BYTES_PER_UNIT, _MAX_BATCH)


def _ignore(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()
