"""SQLite's errors as ours: no raw `sqlite3.Error` leaves the room."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator

from ..errors import StoreCorrupt, StoreError, StoreFull, StoreUnavailable

_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
# Raised by Python's module and by SQLite's JSON functions, with no code that tells: a column is not what the schema says.
_NOT_AS_DECLARED = ("Could not decode to UTF-8", "JSON cannot hold BLOB", "no such table", "no such column")


class Damaged(sqlite3.DatabaseError):
    """An answer that no undamaged store gives."""


def translate(error: sqlite3.Error | OSError, address: str) -> StoreError:
    """The typed error for a failed statement. A full disk is known to have stored nothing; the rest is unknown."""
    if isinstance(error, OSError):
        return StoreUnavailable(address, error.strerror or str(error))
    if is_damage(error):
        return StoreCorrupt(address, str(error))
    if _primary_code(error) == sqlite3.SQLITE_FULL:
        return StoreFull(address, str(error))
    return StoreUnavailable(address, str(error))


def is_damage(error: sqlite3.Error) -> bool:
    """Whether it tells of a file that is not what it should be."""
    return _primary_code(error) in _DAMAGED or isinstance(error, Damaged) or str(error).startswith(_NOT_AS_DECLARED)


def _primary_code(error: sqlite3.Error) -> int | None:
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


@contextlib.contextmanager
def typed(address: str) -> Iterator[None]:
    """Whatever SQLite or the operating system raises inside leaves as a typed error."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise translate(error, address) from error
