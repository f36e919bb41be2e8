"""Deleting content without a trace in any file, while headers, hashes and heads stay."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from typing import Final

from ..errors import CannotRedact, StoreUnavailable, UnknownRun
from ._batch import Batch
from ._schema import BUSY_S
from ._types import Append, Stream

_PATIENCE_S: Final = 2.0  # all other writes wait meanwhile


def redact(batch: Batch, *, run: str, rows: Sequence[tuple[Stream, int]] | None, note: Append, address: str) -> int:
    """Inside the writer's transaction. Raises `UnknownRun`, `CannotRedact`, and what an append raises."""
    connection = batch.connection
    found = connection.execute("SELECT no, worker FROM runs WHERE run = ?", (run,)).fetchone()
    if found is None:
        raise UnknownRun(run, address)
    no, worker = found
    if worker is not None:
        raise CannotRedact(run, f"worker {worker} owns it")
    batch.append(note)
    batch.flush()
    new = {(int(note.stream), row.seq) for row in note.rows}
    kinds = {row.kind for row in note.rows}
    asked = None if rows is None else set(rows)
    removed = 0
    for stream, seq, kind in connection.execute(
        "SELECT stream, seq, kind FROM events WHERE no = ? AND payload IS NOT NULL", (no,)
    ).fetchall():
        wanted = kind not in kinds if asked is None else (stream, seq) in asked
        if wanted and (stream, seq) not in new:
            connection.execute(
                "UPDATE events SET payload = NULL, salt = NULL WHERE no = ? AND stream = ? AND seq = ?",
                (no, stream, seq),
            )
            removed += 1
    if asked is None:
        connection.execute("DELETE FROM blobs WHERE no = ?", (no,))
        connection.execute("UPDATE runs SET secret = NULL WHERE no = ?", (no,))
    return removed


def truncate_log(connection: sqlite3.Connection, address: str) -> None:
    """Move the log into the database file and cut it to nothing: it holds the pages as they were.

    Raises:
        StoreUnavailable: A reader held it all the time.
    """
    deadline = time.monotonic() + _PATIENCE_S
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        while True:
            (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if not busy:
                return
            if time.monotonic() > deadline:
                raise StoreUnavailable(
                    address,
                    "the content is deleted, but a reader holds the write-ahead log, which may still have the bytes; "
                    "end long reads and redact again",
                )
            time.sleep(0.01)
    finally:
        connection.execute(f"PRAGMA busy_timeout = {int(BUSY_S * 1000)}")
