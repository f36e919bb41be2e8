"""Many rows of an answer in one step.

For the same reason as in `_bulk`: each row that SQLite gives is a step, after which the interpreter lock is taken back, and from a
busy event loop that takes milliseconds. So an answer is packed into one row: the scalars as JSON, and of each BLOB column its length
in the JSON and its bytes concatenated. As fast as row by row when nothing else runs, a thousand times faster beside a busy loop.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from ._bulk import Bulk, Scalar
from ._faults import Damaged

_decode = msgspec.json.Decoder(list[list[Any]]).decode  # Any: the columns are STRICT


class Packed:
    """A query whose whole answer comes in one step (a step for each chunk of values).

    Args:
        columns: What to select; a column that starts with "=" is a BLOB.
        source: What follows FROM. With `{values}` in it, the rows of `_bulk`, `width` columns each.
    """

    def __init__(self, columns: str, source: str, *, width: int = 0) -> None:
        names = [name.strip() for name in columns.split(",")]
        self._blobs: Final = [at for at, name in enumerate(names) if name.startswith("=")]
        scalars = ", ".join(f"length({name[1:]})" if name.startswith("=") else name for name in names)
        # A BLOB as TEXT is the same bytes, whatever they are, and so is the way back.
        bytes_of = [f"CAST(group_concat(CAST({names[at][1:]} AS TEXT), '') AS BLOB)" for at in self._blobs]
        what = ", ".join([f"json_group_array(json_array({scalars}))", *bytes_of])
        self._statement = f"SELECT {what} FROM {source}"
        self._bulk = Bulk(self._statement, width) if width else None

    def fetch(self, connection: sqlite3.Connection, parameters: Sequence[Scalar] = ()) -> list[list[Any]]:
        """The rows, each a list of its columns. Rows come in the order of the source, which SQL does not promise."""
        (answer,) = connection.execute(self._statement, parameters).fetchall()
        return self._unpack(answer)

    def fetch_for(self, connection: sqlite3.Connection, flat: list[Scalar]) -> list[list[Any]]:
        """As `fetch`, for a table of values."""
        assert self._bulk is not None
        return [row for answer in self._bulk.query(connection, flat) for row in self._unpack(answer)]

    def _unpack(self, answer: Sequence[Any]) -> list[list[Any]]:
        try:
            rows = _decode(answer[0])
        except msgspec.DecodeError as error:
            raise Damaged(str(error)) from error
        for at, data in zip(self._blobs, answer[1:], strict=True):
            start = 0
            for row in rows:
                size = row[at]
                if size is not None:
                    row[at] = data[start : start + size] if size else b""
                    start += size
            if start != len(data or b""):
                raise Damaged("a BLOB column holds something else")
        return rows


def pages(numbers: list[Scalar], size: int) -> Iterator[list[Scalar]]:
    """`numbers` in pieces, so that one step does not hold too much memory."""
    for at in range(0, len(numbers), size):
        yield numbers[at : at + size]
