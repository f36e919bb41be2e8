"""One transaction: what is checked and gathered in memory, and written with a handful of statements.

A request is checked against the heads in memory and refused alone. What passes is gathered as flat lists of columns, the heads are
moved on in memory, and `flush` writes everything with one statement a table.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Final

from ..errors import NoteExists, RunExists, SequenceConflict, StaleEpoch, UnknownRun
from ._bulk import Bulk, Scalar
from ._packed import Packed
from ._types import FINISHED, Append, NewRun, RunState, Stream

_MOST_HEADS: Final = 20_000
_MOST_SHARED: Final = 4_096

_finished = ", ".join(f"'{status}'" for status in sorted(FINISHED))

_LOAD = Packed(
    "r.run, h.no, h.epoch, h.seq, =h.hash, h.notes_seq, =h.notes_hash, h.level, h.updated_ns",
    "{values} v CROSS JOIN runs r ON r.run = v.column1 CROSS JOIN heads h ON h.no = r.no",
    width=1,
)
_LOAD_KEYS = Packed(
    "k.no, k.key, k.seq",
    "{values} v CROSS JOIN note_keys k ON k.no = v.column1 AND k.key = v.column2",
    width=2,
)
_RUNS = Bulk("INSERT INTO runs SELECT * FROM {values} WHERE column1 IS NOT NULL", 14)
_EVENTS = Bulk("INSERT INTO events SELECT * FROM {values} WHERE column1 IS NOT NULL", 14)
_HEADS = Bulk("INSERT OR REPLACE INTO heads SELECT * FROM {values} WHERE column1 IS NOT NULL", 8)
_KEYS = Bulk("INSERT INTO note_keys SELECT * FROM {values} WHERE column1 IS NOT NULL", 3)
_BLOBS = Bulk("INSERT OR IGNORE INTO blobs SELECT * FROM {values} WHERE column1 IS NOT NULL", 3)
_SHARED = Bulk("INSERT OR IGNORE INTO shared SELECT * FROM {values} WHERE column1 IS NOT NULL", 2)
_STATES = Bulk(
    "UPDATE runs SET status = v.column2, outcome = v.column3, wake_ns = v.column4, "
    "notes_seen = max(notes_seen, v.column5), worker = CASE WHEN v.column6 THEN NULL ELSE worker END "
    "FROM {values} v WHERE runs.no = v.column1",
    6,
)
_UNWAIT = Bulk("DELETE FROM waits WHERE no IN {values}", 1)
_WAITS = Bulk("INSERT INTO waits SELECT * FROM {values} WHERE column1 IS NOT NULL", 6)
_WAKE = Bulk(
    f"UPDATE runs SET wake_ns = 0 WHERE no IN {{values}} AND worker IS NULL AND status NOT IN ({_finished})",  # constants
    1,
)


class Head:
    """Where the streams of a run end, as of the transaction under way."""

    __slots__ = ("epoch", "hash", "level", "no", "notes_hash", "notes_seq", "seq", "updated_ns")

    def __init__(
        self,
        no: int,
        epoch: int,
        seq: int,
        hash: bytes,
        notes_seq: int,
        notes_hash: bytes,
        level: int,
        updated_ns: int,
    ) -> None:
        self.no = no
        self.epoch = epoch
        self.seq = seq
        self.hash = hash
        self.notes_seq = notes_seq
        self.notes_hash = notes_hash
        self.level = level
        self.updated_ns = updated_ns


class Heads:
    """What the writer remembers between transactions, valid as long as nobody else has written."""

    def __init__(self) -> None:
        self.by_run: dict[str, Head] = {}
        self.shared: set[bytes] = set()
        self.next_no = 0
        self.changes = 0  #: how often another process was found to have written
        self._data_version = -1

    def forget(self) -> None:
        """After a transaction that did not take place."""
        self.by_run.clear()
        self.shared.clear()
        self.next_no = 0

    def refresh(self, connection: sqlite3.Connection) -> None:
        """Forget what another process may have changed. Inside a transaction: the answer holds until its end."""
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        if version != self._data_version:
            if self._data_version != -1:
                self.changes += 1
            self._data_version = version
            self.forget()
        if len(self.by_run) > _MOST_HEADS:
            self.by_run.clear()
        if len(self.shared) > _MOST_SHARED:
            self.shared.clear()

    def load(self, connection: sqlite3.Connection, runs: Iterable[str]) -> None:
        """Have the heads of `runs` in memory; one that is not afterwards does not exist."""
        missing: list[Scalar] = [run for run in dict.fromkeys(runs) if run not in self.by_run]
        if missing:
            for run, *head in _LOAD.fetch_for(connection, missing):
                self.by_run[run] = Head(*head)

    def set_epoch(self, run: str, epoch: int) -> None:
        if head := self.by_run.get(run):
            head.epoch = epoch

    def new_no(self, connection: sqlite3.Connection) -> int:
        if not self.next_no:
            (self.next_no,) = connection.execute("SELECT coalesce(max(no), 0) + 1 FROM runs").fetchone()
        self.next_no += 1
        return self.next_no - 1


class Batch:
    """Gathers the writes of one transaction. A refused request raises and leaves no trace."""

    def __init__(self, connection: sqlite3.Connection, heads: Heads, address: str) -> None:
        self.connection = connection
        self.heads = heads
        self._address = address
        self._keys: dict[tuple[int, str], int] = {}
        self._moved: dict[int, Head] = {}
        self._runs: list[Scalar] = []
        self._events: list[Scalar] = []
        self._new_keys: list[Scalar] = []
        self._blobs: list[Scalar] = []
        self._shared: list[Scalar] = []
        self._stated: set[int] = set()
        self._states: list[Scalar] = []
        self._waits: list[Scalar] = []
        self._noted: set[int] = set()

    def load(self, appends: Iterable[Append], new_runs: Iterable[str]) -> None:
        """Look up at once what the requests of the batch will need."""
        appends = list(appends)
        self.heads.load(self.connection, [*(append.run for append in appends), *new_runs])
        wanted: list[Scalar] = []
        for append in appends:
            if append.key is not None and (head := self.heads.by_run.get(append.run)):
                wanted += (head.no, append.key)
        if wanted:
            for no, key, seq in _LOAD_KEYS.fetch_for(self.connection, wanted):
                self._keys[no, key] = seq

    def create(self, new: NewRun, first: Append, worker: str | None) -> int:
        """Raises `RunExists`."""
        if new.run in self.heads.by_run:
            raise RunExists(new.run)
        if first.rows and first.rows[0].seq != 0:
            raise SequenceConflict(new.run, "run", first.rows[0].seq, 0)
        no = self.heads.new_no(self.connection)
        wake_ns = new.wake_ns if worker is None else None
        self._runs += (no, new.run, new.workflow, new.version, new.status, None, worker, None, wake_ns, -1)
        self._runs += (new.created_ns, new.parent, new.origin, new.secret)
        head = Head(no, first.epoch, -1, first.prev, -1, b"", 0, new.created_ns)
        self.heads.by_run[new.run] = head
        self._write(head, first)
        return first.epoch

    def append(self, request: Append) -> None:
        """Raises `UnknownRun`, `NoteExists`, `StaleEpoch`, `SequenceConflict`."""
        head = self.heads.by_run.get(request.run)
        if head is None:
            raise UnknownRun(request.run, self._address)
        if request.stream is Stream.RUN:
            if request.epoch != head.epoch:
                raise StaleEpoch(request.run, request.epoch, head.epoch)
            at, on = head.seq, head.hash
        else:
            if request.key is not None:
                self._take_key(head, request, request.key)
            at, on = head.notes_seq, head.notes_hash
        # An empty stream ends in a hash that only the journal knows: what is first there may be chained on anything.
        rows = request.rows
        if (rows and rows[0].seq != at + 1) or (request.prev != on and at >= 0):
            raise SequenceConflict(request.run, request.stream.name.lower(), rows[0].seq if rows else at + 1, at + 1)
        if request.key is not None:
            self._keys[head.no, request.key] = at + 1
            self._new_keys += (head.no, request.key, at + 1)
        self._write(head, request)

    def _take_key(self, head: Head, request: Append, key: str) -> None:
        taken = self._keys.get((head.no, key))
        if taken is not None:
            raise NoteExists(request.run, key, taken)

    def _write(self, head: Head, request: Append) -> None:
        if request.state is not None and (head.no in self._stated or head.no in self._noted):
            self.flush()  # what states and notes do to a run depends on their order
        no, stream, events = head.no, int(request.stream), self._events
        for row in request.rows:
            events.append(no)
            events.append(stream)
            events += row
            events[-4] = int(row.level)  # a subclass of int is bound by a slow path
        if request.rows:
            last = request.rows[-1]
            if stream == 0:
                head.seq, head.hash, head.level = last.seq, last.hash, int(last.level)
            else:
                head.notes_seq, head.notes_hash = last.seq, last.hash
                self._noted.add(no)
            head.updated_ns = last.at_ns
        self._moved[no] = head
        if request.blobs:
            for id, data in request.blobs:
                self._blobs += (no, id, data)
        if request.shared:
            self._share(request.shared)
        if request.state is not None:
            self._state(head, request.state)

    def _share(self, shared: Iterable[tuple[bytes, bytes]]) -> None:
        for digest, data in shared:
            if digest not in self.heads.shared:
                self.heads.shared.add(digest)
                self._shared += (digest, data)

    def _state(self, head: Head, state: RunState) -> None:
        no = head.no
        self._stated.add(no)
        missed = state.release and head.notes_seq > state.notes_seen and state.status not in FINISHED
        wake_ns = 0 if missed else state.wake_ns
        self._states += (no, state.status, state.outcome, wake_ns, state.notes_seen, int(state.release))
        for wait in state.waits:
            self._waits.append(no)
            self._waits += wait

    def flush(self) -> None:
        """Write what was gathered. Afterwards the connection sees it."""
        connection = self.connection
        if self._runs:
            _RUNS.run(connection, self._runs)
            self._runs = []
        if self._events:
            _EVENTS.run(connection, self._events)
            self._events = []
        if self._moved:
            self._write_heads()
        if self._new_keys:
            _KEYS.run(connection, self._new_keys)
            self._new_keys = []
        if self._blobs:
            _BLOBS.run(connection, self._blobs)
            self._blobs = []
        if self._shared:
            _SHARED.run(connection, self._shared)
            self._shared = []
        if self._stated:
            self._write_states()
        if self._noted:  # after the states: a release in the same batch must not hide the run from its note
            _WAKE.run(connection, list(self._noted))
            self._noted = set()

    def _write_heads(self) -> None:
        flat: list[Scalar] = []
        for h in self._moved.values():
            flat += (h.no, h.epoch, h.seq, h.hash, h.notes_seq, h.notes_hash, h.level, h.updated_ns)
        _HEADS.run(self.connection, flat)
        self._moved = {}

    def _write_states(self) -> None:
        _UNWAIT.run(self.connection, list(self._stated))
        _STATES.run(self.connection, self._states)
        if self._waits:
            _WAITS.run(self.connection, self._waits)
        self._stated, self._states, self._waits = set(), [], []
