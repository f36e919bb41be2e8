"""The store that ends with the process: plain Python, for tests and trials. One contract suite runs on it and on SQLite."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
import threading
from collections.abc import Awaitable, Iterator, Sequence
from dataclasses import dataclass, field

from ..errors import (
    CannotRedact,
    HoldfastError,
    NoteExists,
    RunExists,
    SequenceConflict,
    StaleEpoch,
    StoreClosed,
    UnknownRun,
)
from ._lease import boot_ns
from ._types import (
    FINISHED,
    Append,
    Checkpoint,
    Claimed,
    NewRun,
    Row,
    RunRow,
    RunState,
    Snapshot,
    Stream,
    Wait,
)

_NS = 1_000_000_000


@dataclass(slots=True)
class _Run:
    new: NewRun
    status: str
    worker: str | None
    epoch: int
    wake_ns: int | None
    head: bytes
    updated_ns: int
    secret: bytes | None
    outcome: str | None = None
    level: int = 0
    notes_seen: int = -1
    notes_head: bytes = b""
    taken_from: str | None = None
    streams: tuple[list[Row], list[Row]] = field(default_factory=lambda: ([], []))
    keys: dict[str, int] = field(default_factory=dict)
    blobs: dict[bytes, bytes] = field(default_factory=dict)

    def row(self) -> RunRow:
        new, (events, notes) = self.new, self.streams
        return RunRow(
            new.run, new.workflow, new.version, self.status, self.outcome, self.level, self.worker, self.epoch, self.wake_ns,
            self.notes_seen, new.created_ns, self.updated_ns, new.parent, new.origin, self.secret, len(events) - 1, self.head,
            len(notes) - 1, self.notes_head,
        )  # fmt: skip


class MemoryStore:
    """`Store` in memory. Nothing outlives it; a worker is dead when its lease is over."""

    def __init__(self, address: str = ":memory:") -> None:
        self._address = address
        self._closed = False
        self._lock = (
            threading.Lock()
        )  # invariant: whoever holds it sees no half-made write (snapshots are taken in threads)
        self._runs: dict[str, _Run] = {}
        self._waits: list[tuple[str, Wait]] = []
        self._order: list[tuple[str, int]] = []  # events of all run streams
        self._secret = secrets.token_bytes(32)
        self._shared: dict[bytes, bytes] = {}
        self._workers: dict[str, int] = {}
        self._checkpoints: list[Checkpoint] = []

    @property
    def address(self) -> str:
        return self._address

    async def close(self) -> None:
        self._closed = True

    # -- writes -------------------------------------------------------------------------------------------------------

    async def create(self, run: NewRun, first: Append, *, worker: str | None = None) -> int:
        with self._open():
            if run.run in self._runs:
                raise RunExists(run.run)
            if first.rows and first.rows[0].seq != 0:
                raise SequenceConflict(run.run, "run", first.rows[0].seq, 0)
            wake_ns = run.wake_ns if worker is None else None
            made = _Run(run, run.status, worker, first.epoch, wake_ns, first.prev, run.created_ns, run.secret)
            self._runs[run.run] = made
            self._write(made, first)
        await asyncio.sleep(0)
        return first.epoch

    def append(self, request: Append) -> Awaitable[None]:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        with self._open():
            try:
                self._append(request)
            except HoldfastError as refused:
                loop.call_soon(_refuse, future, refused)
            else:
                loop.call_soon(_acknowledge, future)
        return future

    def _append(self, request: Append) -> None:
        run = self._known(request.run)
        if request.stream is Stream.RUN:
            if request.epoch != run.epoch:
                raise StaleEpoch(request.run, request.epoch, run.epoch)
        elif request.key is not None and request.key in run.keys:
            raise NoteExists(request.run, request.key, run.keys[request.key])
        rows, next_seq = request.rows, len(run.streams[request.stream])
        head = run.head if request.stream is Stream.RUN else run.notes_head
        if (rows and rows[0].seq != next_seq) or (next_seq and request.prev != head):
            asked = rows[0].seq if rows else next_seq
            raise SequenceConflict(request.run, request.stream.name.lower(), asked, next_seq)
        if request.key is not None:
            run.keys[request.key] = next_seq
        self._write(run, request)

    def _write(self, run: _Run, request: Append) -> None:
        for row in request.rows:
            run.streams[request.stream].append(row._replace(level=int(row.level)))
            run.updated_ns = row.at_ns
            if request.stream is Stream.RUN:
                run.head, run.level = row.hash, int(row.level)
                self._order.append((request.run, row.seq))
            else:
                run.notes_head = row.hash
        for id, data in request.blobs:
            run.blobs.setdefault(id, data)
        for digest, data in request.shared:
            self._shared.setdefault(digest, data)
        if request.state is not None:
            self._state(run, request.state)
        if request.rows and request.stream is Stream.NOTES and run.worker is None and run.status not in FINISHED:
            run.wake_ns = 0

    def _state(self, run: _Run, state: RunState) -> None:
        missed = (
            state.release and len(run.streams[Stream.NOTES]) - 1 > state.notes_seen and state.status not in FINISHED
        )
        run.status, run.outcome, run.wake_ns = state.status, state.outcome, 0 if missed else state.wake_ns
        run.notes_seen = max(run.notes_seen, state.notes_seen)
        self._waits = [wait for wait in self._waits if wait[0] != run.new.run]
        self._waits += [(run.new.run, wait) for wait in state.waits]
        if state.release:
            run.worker = None

    async def redact(self, run: str, rows: Sequence[tuple[Stream, int]] | None, note: Append) -> int:
        with self._open():
            there = self._known(run)
            if there.worker is not None:
                raise CannotRedact(run, f"worker {there.worker} owns it")
            kinds = {row.kind for row in note.rows}
            had = [
                (stream, row.seq)
                for stream in Stream
                for row in there.streams[stream]
                if row.payload is not None and (row.kind not in kinds if rows is None else (stream, row.seq) in rows)
            ]
            self._append(note)
            for stream, seq in had:
                events = there.streams[stream]
                events[seq] = events[seq]._replace(payload=None, salt=None)
            if rows is None:
                there.blobs.clear()
                there.secret = None
        await asyncio.sleep(0)
        return len(had)

    async def add_checkpoint(self, checkpoint: Checkpoint) -> None:
        with self._open():
            last = self._checkpoints[-1].number if self._checkpoints else None
            if last is not None and checkpoint.number != last + 1:
                raise SequenceConflict("", "checkpoints", checkpoint.number, last + 1)
            self._checkpoints.append(checkpoint)
        await asyncio.sleep(0)

    # -- ownership ----------------------------------------------------------------------------------------------------

    async def register(self, worker: str, *, lease_s: float) -> None:
        with self._open():
            self._workers[worker] = boot_ns() + int(lease_s * _NS)

    async def renew(self, worker: str, *, lease_s: float) -> bool:
        with self._open():
            if worker not in self._workers:
                return False
            self._workers[worker] = boot_ns() + int(lease_s * _NS)
            return True

    async def retire(self, worker: str) -> None:
        with self._open():
            self._workers.pop(worker, None)
            self._release(worker, None)

    async def reap(self) -> Sequence[str]:
        with self._open():
            now = boot_ns()
            dead = [worker for worker, lease_ns in self._workers.items() if lease_ns <= now]
            for worker in dead:
                del self._workers[worker]
            owners = {run.worker for run in self._runs.values() if run.worker is not None}
            unknown = sorted(owners - self._workers.keys())
            for worker in unknown:
                self._release(worker, worker)
            return list(dict.fromkeys([*dead, *unknown]))

    def _release(self, worker: str, taken_from: str | None) -> None:
        for run in self._runs.values():
            if run.worker == worker:
                run.worker, run.status, run.wake_ns, run.taken_from = None, "pending", 0, taken_from
                run.epoch += 1

    async def claim(
        self, worker: str, versions: Sequence[tuple[str, str]], *, now_ns: int, limit: int
    ) -> Sequence[Claimed]:
        with self._open():
            if worker not in self._workers:
                return []
            due = sorted((run for run in self._due(versions) if _wake_ns(run) <= now_ns), key=_wake_ns)
            claimed = []
            for run in due[:limit]:
                taken_from, run.taken_from = run.taken_from, None
                run.worker, run.status, run.wake_ns = worker, "running", None
                run.epoch += 1
                events, notes = run.streams
                claimed.append(Claimed(run.row(), list(events), list(notes), taken_from))
        await asyncio.sleep(0)
        return claimed

    async def next_wake_ns(self, versions: Sequence[tuple[str, str]]) -> int | None:
        with self._open():
            return min(map(_wake_ns, self._due(versions)), default=None)

    def _due(self, versions: Sequence[tuple[str, str]]) -> Iterator[_Run]:
        for run in self._runs.values():
            if run.worker is None and run.wake_ns is not None and (run.new.workflow, run.new.version) in versions:
                yield run

    def changed(self) -> bool:
        return True  # two apps may share it; looking costs nothing

    # -- reads --------------------------------------------------------------------------------------------------------

    async def run(self, run: str) -> RunRow | None:
        with self._open():
            found = self._runs.get(run)
            return None if found is None else found.row()

    async def runs(
        self,
        *,
        status: Sequence[str] = (),
        workflow: str | None = None,
        parent: str | None = None,
        after: str | None = None,
        limit: int | None = None,
    ) -> Sequence[RunRow]:
        with self._open():
            names = list(reversed(self._runs))
            if after is not None:
                names = names[names.index(after) + 1 :] if after in self._runs else []
            found = [
                run.row()
                for run in (self._runs[name] for name in names)
                if (not status or run.status in status)
                and (workflow is None or run.new.workflow == workflow)
                and (parent is None or run.new.parent == parent)
            ]
            return found[:limit]

    async def count(self) -> dict[str, int]:
        with self._open():
            found: dict[str, int] = {}
            for run in self._runs.values():
                found[run.status] = found.get(run.status, 0) + 1
            return found

    async def rows(self, run: str, stream: Stream, *, after: int = -1) -> Sequence[Row]:
        with self._open():
            found = self._runs.get(run)
            return [] if found is None else found.streams[stream][after + 1 :]

    async def waits(self, *, id: str | None = None, kinds: Sequence[str] = ()) -> Sequence[tuple[str, Wait]]:
        with self._open():
            return [
                (run, wait)
                for run, wait in self._waits
                if (id is None or wait.id == id) and (not kinds or wait.kind in kinds)
            ]

    async def find(self, kind: str, name: str, *, limit: int) -> Sequence[tuple[str, Row]]:
        with self._open():
            newest_first = ((run, self._runs[run].streams[Stream.RUN][seq]) for run, seq in reversed(self._order))
            found = ((run, row) for run, row in newest_first if row.kind == kind and row.name == name)
            return list(itertools.islice(found, limit))

    async def secret(self) -> bytes:
        with self._open():
            return self._secret

    async def blobs(self, run: str, ids: Sequence[bytes]) -> dict[bytes, bytes]:
        with self._open():
            there = self._runs[run].blobs if run in self._runs else {}
            return {id: there[id] for id in ids if id in there}

    async def shared(self, digests: Sequence[bytes]) -> dict[bytes, bytes]:
        with self._open():
            return {digest: self._shared[digest] for digest in digests if digest in self._shared}

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        with self._open():
            taken = MemorySnapshot(self)
        yield taken

    # -- inside -------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _open(self) -> Iterator[None]:
        if self._closed:
            raise StoreClosed(self._address)
        with self._lock:
            yield

    def _known(self, run: str) -> _Run:
        found = self._runs.get(run)
        if found is None:
            raise UnknownRun(run, self._address)
        return found


class MemorySnapshot:
    """A copy of everything but the rows and blobs themselves, which never change."""

    def __init__(self, store: MemoryStore) -> None:
        self._runs = [run.row() for run in store._runs.values()]
        self._rows = {name: (list(run.streams[0]), list(run.streams[1])) for name, run in store._runs.items()}
        self._waits = list(store._waits)
        self._blobs = {name: sorted(run.blobs.items()) for name, run in store._runs.items()}
        self._shared = sorted(store._shared.items())
        self._checkpoints = list(store._checkpoints)

    def runs(self) -> Iterator[RunRow]:
        return iter(self._runs)

    def rows(self, run: str, stream: Stream, *, after: int = -1) -> Iterator[Row]:
        return iter(self._rows.get(run, ([], []))[stream][after + 1 :])

    def waits(self, run: str) -> Sequence[Wait]:
        return [wait for name, wait in self._waits if name == run]

    def blobs(self, run: str) -> Iterator[tuple[bytes, bytes]]:
        return iter(self._blobs.get(run, ()))

    def shared(self) -> Iterator[tuple[bytes, bytes]]:
        return iter(self._shared)

    def damage(self) -> Iterator[str]:
        return iter(())

    def orphans(self) -> Iterator[tuple[str, str]]:
        return iter(())

    def checkpoints(self) -> Iterator[Checkpoint]:
        return iter(self._checkpoints)


def _wake_ns(run: _Run) -> int:
    assert run.wake_ns is not None
    return run.wake_ns


def _acknowledge(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _refuse(future: asyncio.Future[None], error: HoldfastError) -> None:
    if not future.done():
        future.set_exception(error)
