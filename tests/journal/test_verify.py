"""Law 9: the chain tells. Any changed, removed, reordered or truncated event is found."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from holdfast.errors import StoreCorrupt
from holdfast.journal import Journal, Note, chain, codec
from holdfast.journal.problems import VerifyReport
from holdfast.journal.redact import redact
from holdfast.journal.verify import verify
from holdfast.store import RunState, Stream
from holdfast.trust import PRIMARY, Trust, lowered
from tests.journal.support import Tables, Ticks, audit, complete, open_pen, opened, seal_all

RUNS = ("a", "b", "parked")
FLIP = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tables]:
    """A store file and its rows: finished runs, a parked one, one without notes, and two checkpoints."""
    path = tmp_path_factory.mktemp("written") / "holdfast.db"

    async def write() -> Tables:
        async with opened(path) as store:
            journal = Journal(store, Ticks())
            await complete(journal, "a", text="a crate of sea lettuce " * 300)
            await seal_all(store)
            await complete(journal, "b")
            await complete(journal, "parked", park=True)
            await complete(journal, "quiet", notes=0, turns=0)
            await seal_all(store)
            with store.snapshot() as snapshot:
                return Tables.of(snapshot)

    return path, asyncio.run(write())


@pytest.fixture
def tables(written: tuple[Path, Tables]) -> Tables:
    return written[1].copy()


def damages(report: VerifyReport) -> set[tuple[str, Stream | None, int | None, str]]:
    return {(p.run, p.stream, p.seq, p.damage) for p in report.problems}


def test_a_store_as_it_was_written_has_no_problems(tables: Tables) -> None:
    report = verify(tables)
    assert report.problems == ()
    assert report.ok
    assert (report.runs, report.checkpoints, report.redacted) == (4, 2, ())
    assert report.events == sum(len(rows) for rows in tables.rows_.values())


async def test_a_store_in_memory_has_no_problems_before_and_after_a_redaction() -> None:
    async with opened(":memory:") as store:
        journal = Journal(store, Ticks())
        await complete(journal, "a")
        await complete(journal, "parked", park=True)
        await seal_all(store)
        assert audit(store).problems == ()
        await redact(journal, "a", by="ana", why="asked to")
        report = audit(store)
        assert report.problems == ()
        assert {redacted.run for redacted in report.redacted} == {"a"}


# -- any bit ----------------------------------------------------------------------------------------------------------------


@FLIP
@given(st.data())
def test_law_9_the_chain_tells_of_any_flipped_bit_of_any_column_of_an_event(
    written: tuple[Path, Tables], data: st.DataObject
) -> None:
    tables = written[1].copy()
    place = data.draw(st.sampled_from(sorted(tables.rows_)).filter(lambda at: bool(tables.rows_[at])))
    rows = tables.rows_[place]
    number = data.draw(st.integers(0, len(rows) - 1))
    row = rows[number]
    column = data.draw(st.sampled_from([i for i, value in enumerate(row) if value not in (None, "", b"")]))
    rows[number] = row._replace(**{row._fields[column]: flip(row[column], data)})  # type: ignore[arg-type]  # by name
    assume(len({row.seq for row in rows}) == len(rows))  # the store has one row a number
    report = verify(tables)
    assert not report.ok
    assert place[0] in {problem.run for problem in report.problems}


COLUMNS = {
    "events": (
        "no",
        "stream",
        "seq",
        "header",
        "salt",
        "payload",
        "hash",
        "kind",
        "name",
        "at_ns",
        "level",
        "cost_microusd",
        "input_tokens",
        "output_tokens",
    ),
    "heads": ("no", "seq", "hash", "notes_seq", "notes_hash", "level", "updated_ns"),
    "runs": ("no", "run", "workflow", "version", "status", "outcome", "secret"),
    "blobs": ("no", "id", "data"),
    "shared": ("digest", "data"),
    "waits": ("no", "id", "kind", "name", "path", "due_ns"),
    "checkpoints": ("number", "at_ns", "body", "hash"),
}


@pytest.mark.slow
@settings(FLIP, max_examples=150)
@given(st.data())
def test_law_9_the_chain_tells_of_any_flipped_bit_in_the_file(
    written: tuple[Path, Tables], tmp_path: Path, data: st.DataObject
) -> None:
    table = data.draw(st.sampled_from(sorted(COLUMNS)))
    column = data.draw(st.sampled_from(COLUMNS[table]))
    path = copy_of(written[0], tmp_path)
    with sqlite3.connect(path) as file:
        file.text_factory = bytes
        keyed = "run <> 'quiet'" if column == "secret" else "true"  # without messages nothing is keyed by it
        # `runs` and `heads` number their rows by `no`: the row must be found again by what is not changed.
        found = file.execute(
            f"SELECT rowid, {column} FROM {table} WHERE {column} NOT IN ('', x'') AND {keyed}"
        ).fetchall()
        rowid, value = data.draw(st.sampled_from(found))
        kind = type(value)
        (storage,) = file.execute(f"SELECT typeof({column}) FROM {table} WHERE rowid = ?", (rowid,)).fetchone()
        flipped = flip(value, data)
        place = "CAST(? AS TEXT)" if storage == b"text" else "?"
        assert isinstance(flipped, kind)
        try:
            file.execute(f"UPDATE {table} SET {column} = {place} WHERE rowid = ?", (flipped, rowid))
        except sqlite3.IntegrityError:
            assume(False)  # the row would take the place of another one
    file.close()
    assert tells(path)


def flip(value: object, data: st.DataObject) -> int | str | bytes:
    if isinstance(value, int):
        return value ^ (1 << data.draw(st.integers(0, 62)))
    raw = bytearray(value.encode() if isinstance(value, str) else value)  # type: ignore[call-overload]  # bytes
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8
    return raw.decode(errors="surrogateescape") if isinstance(value, str) else bytes(raw)


def copy_of(path: Path, folder: Path) -> Path:
    return Path(shutil.copy(path, folder / "copy.db"))


def tells(path: Path) -> bool:
    """Whether the audit of a file says that something is wrong, be it that it can't be read to its end."""

    async def look() -> VerifyReport:
        async with opened(path) as store:
            return audit(store)

    try:
        return not asyncio.run(look()).ok
    except StoreCorrupt:
        return True


# -- removed, moved, cut off, brought in ------------------------------------------------------------------------------------


def test_law_9_the_chain_tells_where_an_event_was_deleted(tables: Tables) -> None:
    del tables.rows_["a", Stream.RUN][2]
    assert ("a", Stream.RUN, 2, "missing") in damages(verify(tables))


def test_law_9_the_chain_tells_where_events_were_deleted_and_the_rest_renumbered(tables: Tables) -> None:
    rows = tables.rows_["a", Stream.RUN]
    rows[2:] = [row._replace(seq=row.seq - 1) for row in rows[3:]]
    assert ("a", Stream.RUN, 2, "reordered") in damages(verify(tables))


def test_law_9_the_chain_tells_where_two_events_were_swapped(tables: Tables) -> None:
    rows = tables.rows_["a", Stream.RUN]
    rows[1], rows[2] = rows[2]._replace(seq=1), rows[1]._replace(seq=2)
    found = {damage for damage in damages(verify(tables)) if damage[0] == "a"}
    assert found >= {("a", Stream.RUN, 1, "reordered"), ("a", Stream.RUN, 2, "reordered")}


@pytest.mark.parametrize("stream", list(Stream))
@pytest.mark.parametrize("left", [0, 1])
def test_law_9_the_chain_tells_where_a_stream_was_truncated(tables: Tables, stream: Stream, left: int) -> None:
    del tables.rows_["b", stream][left:]
    assert ("b", stream, left, "truncated") in damages(verify(tables))


def test_law_9_the_chain_tells_of_an_event_spliced_in_from_another_run(tables: Tables) -> None:
    tables.rows_["a", Stream.RUN][1] = tables.rows_["b", Stream.RUN][1]
    assert ("a", Stream.RUN, 1, "foreign") in damages(verify(tables))


def test_law_9_the_chain_tells_of_a_note_spliced_in_as_an_event(tables: Tables) -> None:
    tables.rows_["a", Stream.RUN][1] = tables.rows_["a", Stream.NOTES][1]
    assert ("a", Stream.RUN, 1, "foreign") in damages(verify(tables))


def test_law_9_the_chain_tells_of_all_rows_of_a_run_copied_under_another(tables: Tables) -> None:
    for stream in Stream:
        tables.rows_["b", stream] = tables.rows_["a", stream]
    heads = {"seq", "hash", "notes_seq", "notes_hash", "secret", "created_ns", "updated_ns"}
    tables.runs_["b"] = replace(tables.runs_["b"], **{name: getattr(tables.runs_["a"], name) for name in heads})
    tables.blobs_["b"] = tables.blobs_["a"]
    assert ("b", Stream.RUN, 0, "foreign") in damages(verify(tables))


def test_law_9_the_chain_tells_of_a_new_event_with_its_own_head(tables: Tables) -> None:
    """What was signed into a checkpoint can't be written anew, even by someone who makes every hash fit."""
    rows, last = tables.rows_["b", Stream.RUN], tables.runs_["b"]
    header = rows[-1].header.replace(b'"run.finished"', b'"run.finished" ')
    forged = rows[-1]._replace(header=header, hash=chain.link(rows[-2].hash, header))
    rows[-1] = forged
    tables.runs_["b"] = replace(last, hash=forged.hash)
    assert damages(verify(tables)) == {("b", Stream.RUN, forged.seq, "changed")}  # by the checkpoint


def test_law_9_a_whole_run_that_was_removed_is_found_by_the_checkpoint_that_sealed_it(tables: Tables) -> None:
    tables.remove("a")
    assert ("a", Stream.RUN, 5 - 1, "missing") in damages(verify(tables))


def test_rows_that_belong_to_no_run_are_foreign(tables: Tables) -> None:
    del tables.runs_["a"]
    assert "foreign" in {problem.damage for problem in verify(tables).problems}


def test_a_damage_is_told_once_and_where_it_is(tables: Tables) -> None:
    rows = tables.rows_["a", Stream.RUN]
    rows[2] = rows[2]._replace(header=rows[2].header.replace(b'"epoch":0', b'"epoch":1'))
    assert damages(verify(tables)) >= {("a", Stream.RUN, 2, "changed")}
    assert {seq for run, _, seq, damage in damages(verify(tables)) if damage == "changed"} == {2}


def test_problems_are_bounded_and_all_are_counted(tables: Tables) -> None:
    for (run, stream), rows in tables.rows_.items():
        tables.rows_[run, stream] = [row._replace(kind="x") for row in rows]
    report = verify(tables, max_problems=3)
    assert len(report.problems) == 3
    assert report.omitted == report.events - 3


# -- what the row of a run says ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("run", "changes", "damage"),
    [
        ("a", {"status": "running"}, "state"),
        ("a", {"status": "failed"}, "state"),
        ("a", {"outcome": "refused"}, "state"),
        ("a", {"outcome": None}, "state"),
        ("a", {"worker": "w1"}, "state"),
        ("a", {"wake_ns": 0}, "state"),
        ("a", {"level": 3}, "column"),
        ("a", {"workflow": "other"}, "column"),
        ("a", {"version": "5"}, "column"),
        ("a", {"parent": "b"}, "column"),
        ("a", {"epoch": -1}, "column"),
        ("a", {"notes_seen": 7}, "column"),
        ("a", {"updated_ns": 7}, "column"),
        ("parked", {"status": "attention"}, "state"),
        ("parked", {"status": "completed"}, "state"),
    ],
)
def test_a_row_of_a_run_that_says_something_else_than_its_events_is_found(
    tables: Tables, run: str, changes: dict[str, object], damage: str
) -> None:
    tables.runs_[run] = replace(tables.runs_[run], **changes)  # type: ignore[arg-type]  # by name
    report = verify(tables)
    assert [(problem.run, problem.damage) for problem in report.problems] == [(run, damage)]


def test_a_parked_run_may_be_claimed_and_woken(tables: Tables) -> None:
    row = tables.runs_["parked"]
    for status, wake_ns, worker in (("waiting", 0, None), ("waiting", None, "w1"), ("running", None, "w1")):
        tables.runs_["parked"] = replace(row, status=status, wake_ns=wake_ns, worker=worker, epoch=row.epoch + 1)
        assert verify(tables).problems == ()


async def test_a_parked_run_that_was_taken_up_again_keeps_status_and_waits_until_it_ends_or_parks(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path / "holdfast.db") as store:
        journal = Journal(store, Ticks())
        await complete(journal, "a", park=True)
        pen, _ = await open_pen(journal, "a")
        await pen.append("run.resumed", "", "", b'{"worker":"w2","taken_from":"w1"}')
        assert audit(store).problems == ()
        await pen.append("step.completed", "9", "work", b"{}")
        assert (await journal.run("a")).status == "waiting"
        assert audit(store).problems == ()


def test_waits_that_the_events_do_not_name_are_found(tables: Tables) -> None:
    (wait,) = tables.waits_["parked"]
    for waits in ([], [wait, wait], [wait._replace(id="approve-2")], [wait._replace(due_ns=None)]):
        tables.waits_["parked"] = waits
        assert {problem.damage for problem in verify(tables).problems} == {"state"}


def test_blobs_that_are_gone_are_found_also_when_only_another_blob_refers_to_them(tables: Tables) -> None:
    for address in list(tables.blobs_["a"]):
        rest = tables.copy()
        del rest.blobs_["a"][address]
        assert {(p.run, p.damage) for p in verify(rest).problems} == {("a", "missing")}
    for digest in list(tables.shared_):
        rest = tables.copy()
        del rest.shared_[digest]
        assert {problem.damage for problem in verify(rest).problems} == {"missing"}


def test_content_that_is_gone_without_a_redaction_is_missing(tables: Tables) -> None:
    rows = tables.rows_["a", Stream.RUN]
    rows[1] = rows[1]._replace(salt=None, payload=None)
    report = verify(tables)
    assert damages(report) == {("a", Stream.RUN, 1, "missing")}
    assert [(r.run, r.first, r.last) for r in report.redacted] == [("a", 1, 1)]


# -- events that can't have been written -----------------------------------------------------------------------------------------


async def test_law_3_a_label_that_rises_is_found_though_every_hash_fits(tmp_path: Path) -> None:
    async with opened(tmp_path / "holdfast.db") as store:
        journal = Journal(store, Ticks())
        await complete(journal, "a", park=True)
        pen, _ = await open_pen(journal, "a")
        pen.label = PRIMARY
        await pen.append("step.completed", "9", "work", b"{}")
        (problem,) = audit(store).problems
        assert (problem.seq, problem.damage) == (5, "label")
        pen.label = lowered(Trust.EXTERNAL, "another input", "9")
        await pen.append("step.completed", "10", "work", b"{}")
        assert audit(store).problems == (problem,)


async def test_law_6_an_event_of_an_older_epoch_is_found_though_every_hash_fits(tmp_path: Path) -> None:
    async with opened(tmp_path / "holdfast.db") as store:
        journal = Journal(store, Ticks())
        await complete(journal, "a", park=True)
        with store.snapshot() as snapshot:
            tables = Tables.of(snapshot)
        pen, _ = await open_pen(journal, "a")
        for epoch in (2, 1):
            pen.epoch = epoch
            tables.rows_["a", Stream.RUN].append(pen.seal("step.completed", "9", "work", b"{}"))
        last = tables.rows_["a", Stream.RUN][-1]
        tables.runs_["a"] = replace(
            tables.runs_["a"], seq=last.seq, hash=last.hash, epoch=2, status="running", updated_ns=last.at_ns
        )
        tables.waits_["a"] = []
        assert damages(verify(tables)) == {("a", Stream.RUN, 6, "state")}


async def test_an_event_after_the_end_of_a_run_is_found(tmp_path: Path) -> None:
    async with opened(tmp_path / "holdfast.db") as store:
        journal = Journal(store, Ticks())
        await complete(journal, "a")
        pen, _ = await open_pen(journal, "a")
        await pen.append("step.completed", "9", "work", b"{}")
        assert [(p.seq, p.damage) for p in audit(store).problems] == [(5, "state")]


async def test_a_failed_run_and_notes_on_a_finished_one_have_no_problems(tmp_path: Path) -> None:
    async with opened(tmp_path / "holdfast.db") as store:
        journal = Journal(store, Ticks())
        await complete(journal, "a")
        await journal.note(
            "a", "note.review", Note("late", msgspec.Raw(b"1"), label=lowered(Trust.EXTERNAL, "who", ""))
        )
        await complete(journal, "b", park=True)
        pen, _ = await open_pen(journal, "b")
        error = {"error": {"type": "builtins.ValueError", "message": "no"}}
        await pen.append("run.failed", "", "", codec.encode(error), state=RunState("failed", release=True))
        assert audit(store).problems == ()


def test_law_9_an_event_that_was_moved_behind_the_back_of_the_index_is_found(
    written: tuple[Path, Tables], tmp_path: Path
) -> None:
    """A place that was changed in the table alone is invisible to every read that goes through the index."""
    path = tmp_path / "holdfast.db"
    shutil.copy(written[0], path)
    index = _edited(path, "SELECT * FROM sqlite_master WHERE name = 'events_place'")
    _edited(path, "DELETE FROM sqlite_master WHERE name = 'events_place'")
    _edited(path, "UPDATE events SET no = no + 1 WHERE rowid = 2")
    _edited(path, "INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", *index)
    report = _audited(path)
    assert not report.ok
    assert any("the file:" in problem.detail for problem in report.problems)


def _edited(path: Path, statement: str, *values: object) -> tuple[object, ...]:
    """Run one statement on a connection of its own, which reads the schema anew."""
    connection = sqlite3.connect(path)
    try:
        connection.execute("PRAGMA writable_schema = ON")
        row = connection.execute(statement, values).fetchone()
        connection.commit()
        return tuple(row) if row else ()
    finally:
        connection.close()


def _audited(path: Path) -> VerifyReport:
    async def audited() -> VerifyReport:
        async with opened(path) as store:
            return audit(store)

    return asyncio.run(audited())
