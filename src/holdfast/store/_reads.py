"""What is read, and how rows of tables become values. Blocking: runs in the reader's thread or in the caller's."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

from ._bulk import Scalar
from ._faults import is_damage
from ._ownership import Taken
from ._packed import Packed, pages
from ._snapshot import (
    EVENTS_AFTER,
    NUMBER,
    ROW_COLUMNS,
    ROWS_OF_NUMBER,
    RUN_COLUMNS,
    RUN_SOURCE,
    WAIT_COLUMNS,
    SqliteSnapshot,
)
from ._types import INDEXED, Claimed, Row, RunRow, Stream, Wait

_PAGE: Final = 512  # rows of one run in a step
_RUNS_A_STEP: Final = 64  # runs with all their events in a step

_RUN = Packed(RUN_COLUMNS, f"{RUN_SOURCE} WHERE r.run = ?")
_ROWS = Packed(ROW_COLUMNS, f"(SELECT * FROM {EVENTS_AFTER} LIMIT {_PAGE})")
_CLAIMED = Packed(f"r.no, {RUN_COLUMNS}", f"{RUN_SOURCE} WHERE r.no IN {{values}}", width=1)
_CLAIMED_ROWS = Packed(f"e.no, e.stream, {ROW_COLUMNS}", "{values} v CROSS JOIN events e ON e.no = v.column1", width=1)
_BLOBS = Packed("=b.id, =b.data", "{values} v CROSS JOIN blobs b ON b.no = v.column1 AND b.id = v.column2", width=2)
_SHARED = Packed("=s.digest, =s.data", "{values} v CROSS JOIN shared s ON s.digest = v.column1", width=1)


def run(connection: sqlite3.Connection, run: str) -> RunRow | None:
    found = _RUN.fetch(connection, (run,))
    return RunRow(*found[0]) if found else None


def runs(
    connection: sqlite3.Connection,
    status: Sequence[str],
    workflow: str | None,
    parent: str | None,
    after: str | None,
    limit: int | None,
) -> list[RunRow]:
    wheres, parameters = ["true"], list[Scalar]()
    if status:
        wheres.append(f"r.status IN ({', '.join('?' * len(status))})")
        parameters += status
    for column, value in (("workflow", workflow), ("parent", parent)):
        if value is not None:
            wheres.append(f"r.{column} = ?")
            parameters.append(value)
    if after is not None:
        wheres.append(f"r.no < {NUMBER}")
        parameters.append(after)
    parameters.append(-1 if limit is None else limit)
    chosen = f"(SELECT * FROM runs r WHERE {' AND '.join(wheres)} ORDER BY r.no DESC LIMIT ?) r"
    query = Packed(f"r.no, {RUN_COLUMNS}", f"{chosen} CROSS JOIN heads h ON h.no = r.no")
    found = sorted(query.fetch(connection, parameters), key=_first, reverse=True)
    return [RunRow(*row) for _, *row in found]


def count(connection: sqlite3.Connection) -> dict[str, int]:
    return dict(connection.execute("SELECT status, count(*) FROM runs GROUP BY status").fetchall())


def rows(connection: sqlite3.Connection, run: str, stream: Stream, after: int) -> list[Row]:
    found: list[Row] = []
    while True:
        try:
            page = [Row(*row) for row in _ROWS.fetch(connection, (run, int(stream), after))]
        except sqlite3.DataError:  # a page above SQLite's limit of a value: row by row
            return [*found, *SqliteSnapshot(connection).rows(run, stream, after=after)]
        page.sort(key=_seq)
        found += page
        if len(page) < _PAGE:
            return found
        after = page[-1].seq


def waits(connection: sqlite3.Connection, id: str | None, kinds: Sequence[str]) -> list[tuple[str, Wait]]:
    wheres, parameters = ["true"], list[Scalar]()
    if id is not None:
        wheres.append("w.id = ?")
        parameters.append(id)
    if kinds:
        wheres.append(f"w.kind IN ({', '.join('?' * len(kinds))})")
        parameters += kinds
    query = Packed(
        f"w.rowid, r.run, {WAIT_COLUMNS}",
        f"waits w CROSS JOIN runs r ON r.no = w.no WHERE {' AND '.join(wheres)}",
    )
    return [(run, Wait(*wait)) for _, run, *wait in sorted(query.fetch(connection, parameters), key=_first)]


def find(connection: sqlite3.Connection, kind: str, name: str, limit: int) -> list[tuple[str, Row]]:
    # The index is partial: it is used only for a kind that the statement spells out.
    spelled = f"'{kind}'" if kind in INDEXED else "?"
    parameters = (name, limit) if kind in INDEXED else (kind, name, limit)
    chosen = f"(SELECT rowid AS id, * FROM events WHERE kind = {spelled} AND name = ? AND stream = 0 ORDER BY rowid DESC LIMIT ?)"
    query = Packed(f"e.id, r.run, {ROW_COLUMNS}", f"{chosen} e CROSS JOIN runs r ON r.no = e.no")
    return [(run, Row(*row)) for _, run, *row in sorted(query.fetch(connection, parameters), key=_first, reverse=True)]


def secret(connection: sqlite3.Connection) -> bytes:
    (value,) = connection.execute("SELECT value FROM meta WHERE name = 'secret'").fetchone()
    assert isinstance(value, bytes)
    return value


def blobs(connection: sqlite3.Connection, run: str, ids: Sequence[bytes]) -> dict[bytes, bytes]:
    found = connection.execute("SELECT no FROM runs WHERE run = ?", (run,)).fetchone()
    if found is None:
        return {}
    flat: list[Scalar] = []
    for id in ids:
        flat += (found[0], id)
    return dict(_BLOBS.fetch_for(connection, flat))


def shared(connection: sqlite3.Connection, digests: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(_SHARED.fetch_for(connection, list(digests)))


def next_wake_ns(connection: sqlite3.Connection, versions: Sequence[tuple[str, str]]) -> int | None:
    statement = (
        "SELECT min(wake_ns) FROM runs WHERE worker IS NULL AND wake_ns IS NOT NULL AND workflow = ? AND version = ?"
    )
    found = [connection.execute(statement, pair).fetchone()[0] for pair in dict.fromkeys(versions)]
    return min((wake_ns for wake_ns in found if wake_ns is not None), default=None)


def claimed(connection: sqlite3.Connection, taken: Sequence[Taken]) -> tuple[list[Claimed], list[Taken]]:
    """The claimed runs with both streams, in the order of `taken`, and those that can't be read. Without those that were lost again
    meanwhile."""
    try:
        return _claimed(connection, taken), []
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        if len(taken) == 1:
            return [], list(taken)
    whole, damaged = list[Claimed](), list[Taken]()
    for each in taken:
        one, none = claimed(connection, [each])
        whole += one
        damaged += none
    return whole, damaged


def _claimed(connection: sqlite3.Connection, taken: Sequence[Taken]) -> list[Claimed]:
    numbers: list[Scalar] = [each.no for each in taken]
    heads: dict[int, RunRow] = {}
    streams: dict[tuple[int, int], list[Row]] = {}
    connection.execute("BEGIN")
    try:
        for no, *row in _CLAIMED.fetch_for(connection, numbers):
            heads[no] = RunRow(*row)
        for page in pages(numbers, _RUNS_A_STEP):
            for no, stream, *row in _claimed_rows(connection, page):
                streams.setdefault((no, stream), []).append(Row(*row))
    finally:
        connection.execute("COMMIT")
    for stream_rows in streams.values():
        stream_rows.sort(key=_seq)
    return [
        Claimed(heads[each.no], streams.get((each.no, 0), ()), streams.get((each.no, 1), ()), each.taken_from)
        for each in taken
        if each.no in heads and heads[each.no].epoch == each.epoch
    ]


def _claimed_rows(connection: sqlite3.Connection, page: list[Scalar]) -> list[list[Any]]:
    try:
        return _CLAIMED_ROWS.fetch_for(connection, page)
    except sqlite3.DataError:  # above SQLite's limit of a value: row by row
        found: list[list[Any]] = []
        for no in page:
            found += ([no, *row] for row in connection.execute(ROWS_OF_NUMBER, (no,)))
        return found


def _seq(row: Row) -> int:
    return row.seq


def _first(row: list[Any]) -> int:
    number: int = row[0]
    return number
