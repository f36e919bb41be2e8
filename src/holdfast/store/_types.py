"""What a store keeps and the one protocol that every store implements.

A store knows rows and bytes, never what they mean: hashes, labels and payloads are made and read by `holdfast.journal`. What it
does know is order and ownership: a row is appended only at the head of its stream, on the hash it was chained on, and, for
the run stream, under the current epoch of the run (law 6).
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import msgspec

INDEXED = ("answer.completed",)
"""Kinds of events that are found by name over all runs."""


class Stream(enum.IntEnum):
    RUN = 0  #: only the owner of the run appends
    NOTES = 1  #: anyone appends, also to a finished run


FINISHED: Final = frozenset({"completed", "failed", "cancelled"})
"""The statuses in which a run has ended: no note wakes it."""


class Row(NamedTuple):
    """One stored event. `salt` and `payload` are `None` once redacted. The columns after `hash` derive from header and payload."""

    seq: int
    header: bytes
    salt: bytes | None
    payload: bytes | None
    hash: bytes
    kind: str
    name: str
    at_ns: int
    level: int
    cost_microusd: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


class Wait(NamedTuple):
    """Something a run waits for, parked or live. `due_ns`: UTC time at which the wait ends by itself; `None`: only a note ends it."""

    id: str
    kind: str  # timer | signal | reply | approval | settlement | subrun
    name: str
    path: str
    due_ns: int | None = None


@dataclass(frozen=True, slots=True)
class RunState:
    """The columns of a run that an append changes with it, in the same transaction.

    `wake_ns`: when a worker should claim the run by itself (0: at once; `None`: never). `release`: the owner lets go of the run.
    A release with `notes_seen` below the head of the notes stream sets `wake_ns` to 0: a note that came meanwhile is not missed.
    """

    status: str
    outcome: str | None = None
    wake_ns: int | None = None
    waits: tuple[Wait, ...] = ()
    notes_seen: int = -1
    release: bool = False


class Append(msgspec.Struct, frozen=True, gc=False):
    """Rows for the head of one stream, chained on `prev`. `blobs` and `shared` are stored in the same transaction.

    `epoch` fences the run stream and is ignored for notes. `key` makes a note idempotent.
    """

    run: str
    stream: Stream
    epoch: int
    prev: bytes
    rows: tuple[Row, ...]
    blobs: tuple[tuple[bytes, bytes], ...] = ()
    shared: tuple[tuple[bytes, bytes], ...] = ()
    key: str | None = None
    state: RunState | None = None


@dataclass(frozen=True, slots=True)
class NewRun:
    """The row of a run that is about to start. `secret` keys the addresses of its blobs; a fork shares it with its source."""

    run: str
    workflow: str
    version: str
    created_ns: int
    secret: bytes
    parent: str | None = None
    origin: str = "holdfast"
    status: str = "pending"
    wake_ns: int | None = 0


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run as the store knows it. `seq`/`hash` and `notes_seq`/`notes_hash` are the heads of its streams (-1: empty)."""

    run: str
    workflow: str
    version: str
    status: str
    outcome: str | None
    level: int
    worker: str | None
    epoch: int
    wake_ns: int | None
    notes_seen: int
    created_ns: int
    updated_ns: int
    parent: str | None
    origin: str
    secret: bytes | None
    seq: int
    hash: bytes
    notes_seq: int
    notes_hash: bytes


@dataclass(frozen=True, slots=True)
class Claimed:
    """A run that a worker owns now, under a new epoch, with both its streams. `taken_from`: the worker that died over it."""

    row: RunRow
    events: Sequence[Row]
    notes: Sequence[Row]
    taken_from: str | None = None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A seal over all streams that grew since the last one. `body` is the signed text; see `holdfast.journal`."""

    number: int
    at_ns: int
    body: bytes
    hash: bytes
    signature: bytes | None
    key_id: str | None


class Snapshot(Protocol):
    """One consistent view of the whole store, read with flat memory. Blocking: use it in a thread."""

    def runs(self) -> Iterator[RunRow]: ...

    def rows(self, run: str, stream: Stream, *, after: int = -1) -> Iterator[Row]: ...

    def waits(self, run: str) -> Sequence[Wait]: ...

    def blobs(self, run: str) -> Iterator[tuple[bytes, bytes]]: ...

    def shared(self) -> Iterator[tuple[bytes, bytes]]: ...

    def damage(self) -> Iterator[str]:
        """What the store itself finds wrong with its file: a row that its index places elsewhere, a page that can't be."""
        ...

    def orphans(self) -> Iterator[tuple[str, str]]:
        """Rows that belong to no run, as (table, what): a foreign or half-deleted file has them."""
        ...

    def checkpoints(self) -> Iterator[Checkpoint]: ...


class Store(Protocol):
    """The one thing that outlives a process.

    Every write is acknowledged after it is durable (law 5). A write that fails for its own reason (conflict, old epoch, too large)
    fails alone and is known not to be stored; a failed commit fails all writes of its batch with `StoreUnavailable`: unknown.
    Cancelling a waiting write leaves it unknown too.
    """

    @property
    def address(self) -> str:
        """How the user names it: a path or a URL without secrets. It stands in every error."""
        ...

    async def close(self) -> None:
        """Drain what was accepted, then close. Idempotent."""
        ...

    # -- writes -------------------------------------------------------------------------------------------------------

    async def create(self, run: NewRun, first: Append, *, worker: str | None = None) -> int:
        """Store a run and its first rows. Given `worker`, the run is born claimed by it. Returns its epoch. Raises `RunExists`."""
        ...

    def append(self, request: Append) -> Awaitable[None]:
        """Append to one stream; stored once what is returned has been awaited. The order is that of the calls.

        Requests of one run may be pending at the same time, each chained on the one before.

        Raises:
            UnknownRun: No such run.
            SequenceConflict: The head is not where the request was chained on.
            StaleEpoch: Run stream only: the run has another owner now.
            NoteExists: The key is taken; `seq` says by which note.
        """
        ...

    async def redact(self, run: str, rows: Sequence[tuple[Stream, int]] | None, note: Append) -> int:
        """Delete payload and salt of `rows` (`None`: of all rows, with the blobs and the secret), append `note`, and leave no trace
        of the bytes in any file. Only for runs without an owner. Returns how many rows lost their content."""
        ...

    async def add_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Raises `SequenceConflict` (stream "checkpoints") unless its number follows that of the last one."""
        ...

    # -- ownership ----------------------------------------------------------------------------------------------------

    async def register(self, worker: str, *, lease_s: float) -> None: ...

    async def renew(self, worker: str, *, lease_s: float) -> bool:
        """Extend the lease. `False`: the worker was replaced; it must abandon its runs without writing."""
        ...

    async def retire(self, worker: str) -> None:
        """The worker leaves: its runs become claimable at once."""
        ...

    async def reap(self) -> Sequence[str]:
        """Declare dead every worker whose lease ran out or whose OS lock is free; bump the epochs of its runs (a zombie can't
        write from then on) and make them claimable. Returns who died."""
        ...

    async def claim(
        self, worker: str, versions: Sequence[tuple[str, str]], *, now_ns: int, limit: int
    ) -> Sequence[Claimed]:
        """Take up to `limit` runs that nobody owns, whose `wake_ns` has passed and whose (workflow, version) is in `versions`."""
        ...

    async def next_wake_ns(self, versions: Sequence[tuple[str, str]]) -> int | None:
        """When the next unowned run is due; `None`: nothing is."""
        ...

    def changed(self) -> bool:
        """Whether another process may have written since the last call. Cheap; for polling."""
        ...

    # -- reads --------------------------------------------------------------------------------------------------------

    async def run(self, run: str) -> RunRow | None: ...

    async def runs(
        self,
        *,
        status: Sequence[str] = (),
        workflow: str | None = None,
        parent: str | None = None,
        after: str | None = None,
        limit: int | None = None,
    ) -> Sequence[RunRow]:
        """Runs, newest first. `after`: go on behind that run id."""
        ...

    async def count(self) -> dict[str, int]:
        """Number of runs by status."""
        ...

    async def rows(self, run: str, stream: Stream, *, after: int = -1) -> Sequence[Row]: ...

    async def waits(self, *, id: str | None = None, kinds: Sequence[str] = ()) -> Sequence[tuple[str, Wait]]:
        """What runs wait for, with the run id, oldest first."""
        ...

    async def find(self, kind: str, name: str, *, limit: int) -> Sequence[tuple[str, Row]]:
        """Rows of the run streams by kind and name, newest first, with their runs. Indexed for the kinds in `INDEXED`."""
        ...

    async def secret(self) -> bytes:
        """32 random bytes, made with the store: the key for index names that must not tell what they name."""
        ...

    async def blobs(self, run: str, ids: Sequence[bytes]) -> dict[bytes, bytes]: ...

    async def shared(self, digests: Sequence[bytes]) -> dict[bytes, bytes]: ...

    def snapshot(self) -> AbstractContextManager[Snapshot]: ...
