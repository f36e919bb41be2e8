"""Redacted content is in no file any more: not in the database, not in its log, not in freed pages."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from holdfast.errors import StoreUnavailable
from holdfast.store import Store, Stream, open_store
from tests.contracts.streams import Pen, finished, new_run

CANARY = b"canary: the account number is 4711"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = await open_store(tmp_path / "holdfast.db")
    yield store
    await store.close()


async def a_run_with_canaries(store: Store, run: str) -> Pen:
    """In the payload of an event (large and small) and of a note, and in a blob."""
    pen, notes = Pen(run), Pen(run, Stream.NOTES)
    await store.create(new_run(run), pen.append(payload=CANARY), worker="w")
    await store.append(pen.append(payload=CANARY * 1_000, blobs=((b"id", CANARY * 300), (b"small", CANARY))))
    await store.append(notes.append(payload=CANARY))
    await store.append(pen.append(state=finished()))
    return notes


def files_with_canaries(folder: Path) -> list[str]:
    return [file.name for file in folder.rglob("*") if file.is_file() and CANARY in file.read_bytes()]


async def test_no_file_holds_redacted_bytes(store: Store, tmp_path: Path) -> None:
    for n in range(5):  # so that pages are shared with other runs, before and after
        await store.create(new_run(f"before{n}"), Pen(f"before{n}").append(payload=b"x" * 700))
    notes = await a_run_with_canaries(store, "r")
    for n in range(5):
        await store.create(new_run(f"after{n}"), Pen(f"after{n}").append(payload=b"x" * 700))
    assert files_with_canaries(tmp_path)
    assert await store.redact("r", None, notes.append(kind="note.redaction", payload=b"asked by the customer")) == 4
    assert files_with_canaries(tmp_path) == []
    await store.close()
    assert files_with_canaries(tmp_path) == []


async def test_single_events_leave_no_trace_either(store: Store, tmp_path: Path) -> None:
    notes = await a_run_with_canaries(store, "r")
    await store.redact("r", [(Stream.RUN, 0), (Stream.RUN, 1), (Stream.NOTES, 0)], notes.append(kind="note.redaction"))
    rows = await store.rows("r", Stream.RUN)
    assert [row.payload is None for row in rows] == [True, True, False]
    assert await store.blobs("r", [b"small"]) == {b"small": CANARY}
    assert await store.redact("r", None, notes.append(kind="note.redaction")) == 1
    assert files_with_canaries(tmp_path) == []


@pytest.mark.slow
async def test_a_reader_that_keeps_the_log_alive_is_reported(store: Store, tmp_path: Path) -> None:
    notes = await a_run_with_canaries(store, "r")
    with store.snapshot() as snapshot:
        assert len(list(snapshot.runs())) == 1
        with pytest.raises(StoreUnavailable, match="a reader holds the write-ahead log"):
            await store.redact("r", None, notes.append(kind="note.redaction"))
        assert next(iter(snapshot.rows("r", Stream.RUN))).payload == CANARY
    assert await store.redact("r", None, notes.append(kind="note.redaction")) == 0
    assert files_with_canaries(tmp_path) == []
