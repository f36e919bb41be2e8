"""Statements over many rows at once.

Python's sqlite3 gives up the interpreter lock around every step of a statement, and takes it back from a busy event loop only
after up to a switch interval (5 ms). So `executemany` over 300 rows would wait 300 times. Here all rows of a batch are the
parameters of one statement; a few sizes are prepared once and the rest of the places is filled with NULL rows, which the
statement skips.
"""

from __future__ import annotations

import sqlite3
from typing import Any, Final, TypeAlias

Scalar: TypeAlias = int | str | bytes | None

MOST: Final = 512
_SIZES: Final = (1, 4, 16, 64, 128, 256, MOST)


class Bulk:
    """A statement with a table of values in it, written `{values}`; the first column of a row is never NULL.

    `{values}` is a table expression with columns column1, column2, ...
    """

    def __init__(self, statement: str, width: int) -> None:
        self._width = width
        self._padding: list[Scalar] = [None] * (width * MOST)
        row = f"({', '.join('?' * width)})"
        self._by_size = {size: statement.replace("{values}", f"(VALUES {', '.join([row] * size)})") for size in _SIZES}

    def run(self, connection: sqlite3.Connection, flat: list[Scalar]) -> None:
        """Execute over all rows of `flat`, which holds their columns one after another."""
        for parameters in self._chunks(flat):
            connection.execute(self._by_size[len(parameters) // self._width], parameters)

    def query(self, connection: sqlite3.Connection, flat: list[Scalar]) -> list[tuple[Any, ...]]:
        """As `run`, for a statement that gives rows. Any: the columns are STRICT."""
        found: list[tuple[Any, ...]] = []
        for parameters in self._chunks(flat):
            found += connection.execute(self._by_size[len(parameters) // self._width], parameters).fetchall()
        return found

    def _chunks(self, flat: list[Scalar]) -> list[list[Scalar]]:
        step = self._width * MOST
        chunks = [flat] if len(flat) <= step else [flat[at : at + step] for at in range(0, len(flat), step)]
        return [self._padded(chunk) for chunk in chunks if chunk]

    def _padded(self, chunk: list[Scalar]) -> list[Scalar]:
        rows = len(chunk) // self._width
        size = next(size for size in _SIZES if size >= rows)
        return chunk if size == rows else chunk + self._padding[: (size - rows) * self._width]
