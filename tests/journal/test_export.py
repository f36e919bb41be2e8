"""Exports: enough to verify every chain without the store."""

from __future__ import annotations

import asyncio
import base64
import itertools

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast.errors import UnknownRun
from holdfast.journal import Journal, codec
from holdfast.journal.export import export, verify_export
from holdfast.journal.redact import redact
from holdfast.journal.signing import new_key
from holdfast.journal.verify import verify
from tests.journal.support import Tables, Ticks, complete, open_pen, opened, seal_all

PRIVATE, PUBLIC = new_key()


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    async def write() -> Tables:
        async with opened(tmp_path_factory.mktemp("export") / "holdfast.db") as store:
            journal = Journal(store, Ticks())
            await complete(journal, "a", text="a crate of sea lettuce, weiß & „frisch“ " * 200)
            await complete(journal, "parked", park=True)
            await seal_all(store, key=PRIVATE)
            await complete(journal, "b")
            pen, _ = await open_pen(journal, "parked")
            await pen.append("step.completed", "9", "work", b'{"spaced": [1,\n 2]}')
            await pen.append("step.completed", "10", "work", b"\x00 no JSON \xff")
            await complete(journal, "gone")
            await redact(journal, "gone", by="ana", why="asked to")
            await seal_all(store, key=PRIVATE)
            with store.snapshot() as snapshot:
                return Tables.of(snapshot)

    return asyncio.run(write())


def test_an_export_verifies_without_the_store(tables: Tables) -> None:
    lines = list(export(tables, "holdfast.db"))
    report, of_store = verify_export(lines, public_keys=[PUBLIC]), verify(tables, public_keys=[PUBLIC])
    assert report == of_store
    assert (report.ok, report.runs, report.checkpoints) == (True, 4, 2)
    assert report.redacted


def test_an_export_reads_as_json(tables: Tables) -> None:
    lines = [msgspec.json.decode(line) for line in export(tables, "holdfast.db")]
    assert [line["type"] for line in (lines[0], lines[-1])] == ["export", "end"]
    events = [line for line in lines if line["type"] == "event"]
    first = next(line for line in events if "a crate of sea" in str(line["payload"]))
    assert msgspec.json.decode(first["header"])["kind"] == "run.started"
    assert codec.unpack(base64.b64decode(first["stored"])) == codec.encode(first["payload"])
    assert any(line["type"] == "blob" and "because of 0" in str(line.get("node")) for line in lines)
    assert "Answer in one word." in {line["text"] for line in lines if line["type"] == "shared"}
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in export(tables, "holdfast.db"))


def test_one_run_is_exported_with_the_checkpoints_and_shared_blobs_that_name_it(tables: Tables) -> None:
    lines = list(export(tables, "holdfast.db", runs=["b"]))
    assert sum(b'"type":"checkpoint"' in line for line in lines) == 1
    assert sum(b'"type":"shared"' in line for line in lines) == 2
    report = verify_export(lines, public_keys=[PUBLIC])
    assert (report.ok, report.runs, report.events) == (True, 1, 7)
    with pytest.raises(UnknownRun):
        next(export(tables, "holdfast.db", runs=["b", "nobody"]))


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_law_9_any_flipped_bit_of_an_exported_event_or_blob_is_found(tables: Tables, data: st.DataObject) -> None:
    lines = list(export(tables, "holdfast.db"))
    kinds = (b'{"type":"event"', b'{"type":"blob"', b'{"type":"shared"', b'{"type":"checkpoint"')
    number = data.draw(st.sampled_from([n for n, line in enumerate(lines) if line.startswith(kinds)]))
    line = bytearray(lines[number])
    bit = data.draw(st.integers(0, 2**20)) % (
        (len(line) - 1) * 8
    )  # drawn alike for every store: lengths differ by their salts
    line[bit // 8] ^= 1 << bit % 8
    before, after = read(lines[number]), read(bytes(line))
    lines[number] = bytes(line)
    # Hex in capitals and spaces between tokens say the same; so does base64 whose unused last bits differ.
    assert not verify_export(lines, public_keys=[PUBLIC]).ok or same(before, after)


def read(line: bytes) -> object:
    try:
        return msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def same(before: object, after: object) -> bool:
    assert isinstance(before, dict)
    assert isinstance(after, dict)
    return all(
        str(after.get(name)).lower() == str(value).lower()
        or (name in ("stored", "base64") and base64.b64decode(after[name]) == base64.b64decode(value))
        for name, value in before.items()
    )


def test_law_9_a_line_that_is_gone_moved_or_cut_off_is_found(tables: Tables) -> None:
    lines = list(export(tables, "holdfast.db"))
    for number in range(len(lines)):
        assert not verify_export(lines[:number] + lines[number + 1 :], public_keys=[PUBLIC]).ok, lines[number][:80]
        assert not verify_export(lines[:number], public_keys=[PUBLIC]).ok
    events = [number for number, line in enumerate(lines) if line.startswith(b'{"type":"event"')]
    for one, other in itertools.pairwise(events):
        swapped = list(lines)
        swapped[one], swapped[other] = lines[other], lines[one]
        assert not verify_export(swapped).ok
    assert not verify_export([*lines, lines[1]]).ok
    assert not verify_export([]).ok
    assert not verify_export([b"\xff\n", b"{}\n"]).ok


async def test_a_run_taken_out_of_an_export_is_found_by_the_checkpoint_that_sealed_it(tables: Tables) -> None:
    rest = Tables.copy(tables)
    rest.remove("a")
    found = verify_export(export(rest, "holdfast.db")).problems
    assert {(p.run, p.damage) for p in found} == {("a", "missing")}
