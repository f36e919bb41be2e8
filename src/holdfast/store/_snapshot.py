"""One consistent view of the whole store, row by row: for verification and export."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Final

from ._types import Checkpoint, Row, RunRow, Stream, Wait

# What is selected, in the order of the fields. "=" marks a BLOB (see `_packed`).
RUN_COLUMNS: Final = (
    "r.run, r.workflow, r.version, r.status, r.outcome, h.level, r.worker, h.epoch, r.wake_ns, r.notes_seen, r.created_ns, "
    "h.updated_ns, r.parent, r.origin, =r.secret, h.seq, =h.hash, h.notes_seq, =h.notes_hash"
)
RUN_SOURCE: Final = "runs r JOIN heads h ON h.no = r.no"
ROW_COLUMNS: Final = (
    "seq, =header, =salt, =payload, =hash, kind, name, at_ns, level, cost_microusd, input_tokens, output_tokens"
)
WAIT_COLUMNS: Final = "w.id, w.kind, w.name, w.path, w.due_ns"
NUMBER: Final = "(SELECT no FROM runs WHERE run = ?)"
EVENTS_AFTER: Final = f"events WHERE no = {NUMBER} AND stream = ? AND seq > ? ORDER BY seq"

_RUNS = f"SELECT {RUN_COLUMNS} FROM {RUN_SOURCE} ORDER BY r.no".replace("=r", "r").replace("=h", "h")
_PLAIN_ROW_COLUMNS = ROW_COLUMNS.replace("=", "")
_ROWS = f"SELECT {_PLAIN_ROW_COLUMNS} FROM {EVENTS_AFTER}"
ROWS_OF_NUMBER: Final = f"SELECT stream, {_PLAIN_ROW_COLUMNS} FROM events WHERE no = ?"
_WAITS = f"SELECT {WAIT_COLUMNS} FROM waits w WHERE w.no = {NUMBER} ORDER BY w.rowid"
_BLOBS = f"SELECT id, data FROM blobs WHERE no = {NUMBER} ORDER BY id"
_SHARED = "SELECT digest, data FROM shared ORDER BY digest"
_CHECKPOINTS = "SELECT number, at_ns, body, hash, signature, key_id FROM checkpoints ORDER BY number"

_BELONGS_TO_A_RUN: Final = {
    "heads": "'run number ' || no",
    "events": "'run number ' || no || ', stream ' || stream || ', event ' || seq",
    "note_keys": "'run number ' || no || ', note ' || seq",
    "blobs": "'run number ' || no || ', blob ' || hex(id)",
    "waits": "'run number ' || no || ', ' || id",
}


class SqliteSnapshot:
    """One read transaction over the whole store."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        # Text that is none must reach whoever verifies, with its run and number, instead of ending the reading.
        connection.text_factory = _readable

    def runs(self) -> Iterator[RunRow]:
        for found in self._connection.execute(_RUNS):
            yield RunRow(*found)

    def rows(self, run: str, stream: Stream, *, after: int = -1) -> Iterator[Row]:
        for found in self._connection.execute(_ROWS, (run, int(stream), after)):
            yield Row(*found)

    def waits(self, run: str) -> Sequence[Wait]:
        return [Wait(*found) for found in self._connection.execute(_WAITS, (run,))]

    def blobs(self, run: str) -> Iterator[tuple[bytes, bytes]]:
        yield from self._connection.execute(_BLOBS, (run,))

    def shared(self) -> Iterator[tuple[bytes, bytes]]:
        yield from self._connection.execute(_SHARED)

    def damage(self) -> Iterator[str]:
        # Reads go through the indexes: a row whose place was changed in the table alone is found only by comparing the two.
        for (said,) in self._connection.execute("PRAGMA integrity_check"):
            if said != "ok":
                yield said

    def orphans(self) -> Iterator[tuple[str, str]]:
        for table, what in _BELONGS_TO_A_RUN.items():
            statement = f"SELECT {what} FROM {table} WHERE no NOT IN (SELECT no FROM runs)"
            for (found,) in self._connection.execute(statement):
                yield table, found
        for (run,) in self._connection.execute("SELECT run FROM runs WHERE no NOT IN (SELECT no FROM heads)"):
            yield "runs", run

    def checkpoints(self) -> Iterator[Checkpoint]:
        for found in self._connection.execute(_CHECKPOINTS):
            yield Checkpoint(*found)


def _readable(text: bytes) -> str:
    return text.decode("utf-8", "backslashreplace")
