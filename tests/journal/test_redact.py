"""Redaction: content goes without a trace, the proof that something was there stays."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from holdfast.errors import CannotRedact, RedactedStep, UnknownRun
from holdfast.journal import Journal, Note, blobs, codec
from holdfast.journal.records import Outcome
from holdfast.journal.redact import redact
from holdfast.journal.verify import verify
from holdfast.store import Stream
from tests.journal.support import Tables, Ticks, audit, complete, opened

TEXT = "the widow at the old pier wants it by Thursday"


async def test_law_9_after_a_redaction_no_file_holds_the_text_or_a_hash_of_it_and_the_chain_verifies(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path / "holdfast.db") as store:
        journal = Journal(store, Ticks())
        await complete(journal, "other", text="two crates of dulse", notes=0)
        await complete(journal, "a", text=TEXT)
        await journal.note("a", "note.review", Note("late", msgspec.Raw(codec.encode(TEXT)), by="ana"))
        contents = {TEXT.encode(), codec.encode(TEXT)}
        with store.snapshot() as snapshot:
            before = Tables.of(snapshot)
        for stream in Stream:
            contents |= {codec.unpack(row.payload or b"") for row in before.rows_["a", stream]}
            contents |= {row.payload or b"" for row in before.rows_["a", stream]}
        contents |= {blobs.content_of(data) for data in before.blobs_["a"].values()} | set(before.blobs_["a"].values())
        assert any(TEXT.encode() in held for held in files(tmp_path))

        lost = await redact(journal, "a", by="ana", why="asked to")

        assert lost == len(before.rows_["a", Stream.RUN]) + len(before.rows_["a", Stream.NOTES])
        assert traces(tmp_path, contents, before) == []
        report = audit(store)
        assert report.problems == ()
        assert [(r.run, r.stream, r.first, r.last) for r in report.redacted] == [
            ("a", Stream.RUN, 0, 4),
            ("a", Stream.NOTES, 0, 2),
        ]
        with pytest.raises(RedactedStep):
            (await journal.events("a"))[1].payload(Outcome)
    assert traces(tmp_path, contents, before) == []


def files(folder: Path) -> Iterator[bytes]:
    return (path.read_bytes() for path in folder.rglob("*") if path.is_file())


def traces(folder: Path, contents: set[bytes], before: Tables) -> list[bytes]:
    """What a search of all files finds of the contents, their hashes, their salts and what keys them."""
    needles = contents | {row.salt or b"" for stream in Stream for row in before.rows_["a", stream]}
    needles |= set(before.blobs_["a"]) | {before.runs_["a"].secret or b""}
    for content in contents:
        needles |= {hashlib.sha256(content).digest(), hashlib.sha256(content).hexdigest().encode()}
    held = list(files(folder))
    return [needle for needle in needles if len(needle) >= 16 and any(needle in each for each in held)]


async def test_some_events_can_be_redacted_and_the_rest_stays(tmp_path: Path) -> None:
    async with opened(tmp_path / "holdfast.db") as store:
        journal = Journal(store, Ticks())
        await complete(journal, "a", text=TEXT)
        assert await redact(journal, "a", by="ana", why="asked to", events=[(Stream.RUN, 1), (Stream.NOTES, 0)]) == 2
        report = audit(store)
        assert report.problems == ()
        assert [(r.stream, r.first, r.last) for r in report.redacted] == [
            (Stream.RUN, 1, 1),
            (Stream.NOTES, 0, 0),
        ]
        assert await redact(journal, "a", by="ana", why="all of it") == 4 + 1
        assert audit(store).problems == ()


async def test_a_second_redaction_does_no_harm(tmp_path: Path) -> None:
    async with opened(tmp_path / "holdfast.db") as store:
        journal = Journal(store, Ticks())
        await complete(journal, "a")
        await redact(journal, "a", by="ana", why="asked to")
        assert await redact(journal, "a", by="ana", why="asked to") == 0
        await journal.note("a", "note.score", Note("helpful", msgspec.Raw(b"1")))
        assert audit(store).problems == ()


@pytest.mark.parametrize(
    ("events", "why"),
    [
        ([(Stream.RUN, 2)], "shared with the calls before and after"),
        ([(Stream.RUN, 99)], "there is no event 99"),
        ([(Stream.NOTES, 7)], "there is no note 7"),
        ([], "no event was named"),
    ],
)
async def test_what_can_not_be_taken_out_alone_is_refused(
    tmp_path: Path, events: list[tuple[Stream, int]], why: str
) -> None:
    async with opened(tmp_path / "holdfast.db") as store:
        journal = Journal(store, Ticks())
        await complete(journal, "a")
        with pytest.raises(CannotRedact, match=why):
            await redact(journal, "a", by="ana", why="asked to", events=events)
        assert audit(store).redacted == ()


async def test_an_unfinished_run_an_unknown_one_and_a_redaction_without_a_reason_are_refused(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path / "holdfast.db") as store:
        journal = Journal(store, Ticks())
        await complete(journal, "parked", park=True)
        with pytest.raises(CannotRedact, match="waiting"):
            await redact(journal, "parked", by="ana", why="asked to")
        with pytest.raises(UnknownRun):
            await redact(journal, "nobody", by="ana", why="asked to")
        with pytest.raises(CannotRedact, match="who did it"):
            await redact(journal, "parked", by=" ", why="asked to")
        assert (await journal.notes("parked"))[-1].kind == "note.score"


async def test_a_redaction_that_was_not_carried_out_is_found(tmp_path: Path) -> None:
    async with opened(tmp_path / "holdfast.db") as store:
        journal = Journal(store, Ticks())
        await complete(journal, "a")
        with store.snapshot() as snapshot:
            before = Tables.of(snapshot)
        await redact(journal, "a", by="ana", why="asked to")
        with store.snapshot() as snapshot:
            after = Tables.of(snapshot)
    back = after.copy()
    back.rows_["a", Stream.RUN][3] = before.rows_["a", Stream.RUN][3]
    assert [(p.stream, p.damage) for p in verify(back).problems] == [(Stream.RUN, "state")]
    back = after.copy()
    back.runs_["a"] = replace(back.runs_["a"], secret=before.runs_["a"].secret)
    assert [p.damage for p in verify(back).problems] == ["state"]
    back = after.copy()
    back.blobs_["a"] = before.blobs_["a"]
    assert {p.damage for p in verify(back).problems} == {"foreign"}


async def test_content_that_is_gone_from_a_note_written_after_the_redaction_is_missing(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path / "holdfast.db") as store:
        journal = Journal(store, Ticks())
        await complete(journal, "a")
        await redact(journal, "a", by="ana", why="asked to")
        await journal.note("a", "note.score", Note("helpful", msgspec.Raw(b"1")))
        with store.snapshot() as snapshot:
            tables = Tables.of(snapshot)
    notes = tables.rows_["a", Stream.NOTES]
    notes[3] = notes[3]._replace(salt=None, payload=None)
    assert [(p.seq, p.damage) for p in verify(tables).problems] == [(3, "missing")]
