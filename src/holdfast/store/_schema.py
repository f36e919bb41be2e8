"""The tables, as a numbered list of migrations, and how a file is opened.

`application_id` tells a Holdfast store from any other SQLite file, `user_version` is the number of the last migration.

What is where, and why:

    runs      one row a run; changes only with the status. `no` is the key that all other tables use
    heads     narrow, changes on every append: sequence number and hash of both streams, epoch, label
    events    both streams of all runs in the order they came: an append-ordered rowid table takes 1,000 interleaved runs five
              times as fast as one that is clustered by run (whose every insert dirties another page)
    blobs     what belongs to one run and goes with its redaction;  shared: what belongs to none
"""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

from ..errors import SchemaTooNew, StoreCorrupt, StoreError, StoreUnavailable
from ._faults import translate, typed

APPLICATION_ID: Final = 0x48464A31  # "HFJ1"
_MAGIC: Final = b"SQLite format 3\x00"
BUSY_S: Final = 10.0
_CACHED_STATEMENTS: Final = 128
_PAGE_BYTES: Final = 8_192  # of 1 KB payloads 4,096 holds two and wastes the rest; above this, lone writes get slower

_FIRST = """
CREATE TABLE runs (
    no INTEGER PRIMARY KEY, run TEXT NOT NULL UNIQUE, workflow TEXT NOT NULL, version TEXT NOT NULL, status TEXT NOT NULL,
    outcome TEXT, worker TEXT, taken_from TEXT, wake_ns INTEGER, notes_seen INTEGER NOT NULL, created_ns INTEGER NOT NULL,
    parent TEXT, origin TEXT NOT NULL, secret BLOB
) STRICT;
CREATE INDEX runs_due ON runs (workflow, version, wake_ns) WHERE worker IS NULL AND wake_ns IS NOT NULL;
CREATE INDEX runs_owner ON runs (worker) WHERE worker IS NOT NULL;
CREATE INDEX runs_status ON runs (status);
CREATE INDEX runs_parent ON runs (parent) WHERE parent IS NOT NULL;
CREATE TABLE heads (
    no INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, seq INTEGER NOT NULL, hash BLOB NOT NULL, notes_seq INTEGER NOT NULL,
    notes_hash BLOB NOT NULL, level INTEGER NOT NULL, updated_ns INTEGER NOT NULL
) STRICT;
CREATE TABLE events (
    no INTEGER NOT NULL, stream INTEGER NOT NULL, seq INTEGER NOT NULL, header BLOB NOT NULL, salt BLOB, payload BLOB,
    hash BLOB NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, at_ns INTEGER NOT NULL, level INTEGER NOT NULL,
    cost_microusd INTEGER, input_tokens INTEGER, output_tokens INTEGER
) STRICT;
CREATE UNIQUE INDEX events_place ON events (no, stream, seq);
CREATE INDEX events_found ON events (kind, name) WHERE kind = 'answer.completed';
CREATE TABLE note_keys (no INTEGER NOT NULL, key TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (no, key)) STRICT, WITHOUT ROWID;
CREATE TABLE blobs (no INTEGER NOT NULL, id BLOB NOT NULL, data BLOB NOT NULL, PRIMARY KEY (no, id)) STRICT;
CREATE TABLE shared (digest BLOB NOT NULL PRIMARY KEY, data BLOB NOT NULL) STRICT;
CREATE TABLE waits (
    no INTEGER NOT NULL, id TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, path TEXT NOT NULL, due_ns INTEGER
) STRICT;
CREATE INDEX waits_run ON waits (no);
CREATE INDEX waits_id ON waits (id);
CREATE INDEX waits_kind ON waits (kind);
CREATE TABLE workers (
    worker TEXT PRIMARY KEY, boot TEXT NOT NULL, lease_ns INTEGER NOT NULL, pid INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE checkpoints (
    number INTEGER PRIMARY KEY, at_ns INTEGER NOT NULL, body BLOB NOT NULL, hash BLOB NOT NULL, signature BLOB, key_id TEXT
) STRICT;
"""

MIGRATIONS: Final[tuple[str, ...]] = (_FIRST,)
"""Each brings a file from schema i to i + 1. One that was released never changes."""


def prepare(path: Path, address: str, migrations: Sequence[str] = MIGRATIONS) -> None:
    """Make `path` a store of the newest schema: create it, upgrade it, or leave it as it is.

    Raises:
        StoreCorrupt: It is something else. Nothing was changed.
        SchemaTooNew: Nothing was changed.
        StoreUnavailable: It can't be read or written.
    """
    _inspect(path, address, len(migrations))
    with typed(address), contextlib.closing(connect(path, address)) as connection:
        connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")  # of a file that is yet to be made
        _use_wal(connection)
        _migrate(connection, address, migrations)


def connect(path: Path, address: str, mode: str = "mode=rwc") -> sqlite3.Connection:
    """A connection with the settings that the promises depend on. It may be used by one thread at a time."""
    uri = f"file:{quote(str(path))}?{mode}"
    try:
        connection = sqlite3.connect(
            uri,
            uri=True,
            timeout=BUSY_S,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=_CACHED_STATEMENTS,
        )
    except sqlite3.Error as error:
        raise _cannot_open(error, path, address) from error
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA temp_store = MEMORY")  # no content in temporary files
    except BaseException:
        connection.close()
        raise
    return connection


def _cannot_open(error: sqlite3.Error, path: Path, address: str) -> StoreError:
    if path.is_dir():
        return StoreCorrupt(address, "it is a directory")
    if not path.parent.is_dir():
        return StoreUnavailable(address, f"there is no directory {path.parent}")
    return translate(error, address)


def _inspect(path: Path, address: str, newest: int) -> None:
    """Refuse what is not ours before anything is written: a connection that may write would already change a foreign file."""
    with typed(address):
        if path.is_dir():
            raise StoreCorrupt(address, "it is a directory")
        if not path.exists() or path.stat().st_size == 0:
            return
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise StoreCorrupt(address, "it is no SQLite file")
        # Without a log all there is to know is in the file, and "immutable" leaves no log behind.
        mode = "mode=ro" if path.with_name(path.name + "-wal").exists() else "immutable=1"
        with contextlib.closing(connect(path, address, mode)) as connection:
            _check(connection, address, newest)


def _check(connection: sqlite3.Connection, address: str, newest: int) -> None:
    application, version = _pragma(connection, "application_id"), _pragma(connection, "user_version")
    if application != APPLICATION_ID:
        (objects,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if application or version or objects:
            raise StoreCorrupt(address, "it is an SQLite file of another application")
    elif version > newest:
        raise SchemaTooNew(address, version, newest)


def _use_wal(connection: sqlite3.Connection) -> None:
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            # The change of mode does not wait for locks by itself: two processes may open a new file at the same time.
            busy = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(0.005)


def _migrate(connection: sqlite3.Connection, address: str, migrations: Sequence[str]) -> None:
    newest = len(migrations)
    if _pragma(connection, "user_version") == newest and _pragma(connection, "application_id") == APPLICATION_ID:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        _check(connection, address, newest)  # again: another process may have been faster
        for number in range(_pragma(connection, "user_version"), newest):
            for statement in migrations[number].split(";\n"):
                connection.execute(statement)
        connection.execute("INSERT OR IGNORE INTO meta VALUES ('secret', ?)", (secrets.token_bytes(32),))
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {newest}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    assert isinstance(value, int)
    return value
