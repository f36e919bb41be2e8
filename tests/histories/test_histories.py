"""Files of every schema that was ever written are opened, verified, migrated, replayed and brought to their end by this version."""

from __future__ import annotations

import contextlib
import re
import shutil
import sqlite3
from pathlib import Path

import anyio
import pytest

import holdfast as hf
from holdfast.errors import CannotRedact, RedactedStep
from holdfast.journal import TERMINAL
from holdfast.journal.records import SCHEMA, Resumed
from holdfast.store import RunRow, Wait
from holdfast.store._schema import MIGRATIONS
from holdfast.testing import VirtualClock, check_replay
from tests.conftest import ROOT
from tests.histories import make, workflows

SOON_S = 10.0
FILES = sorted(make.HERE.glob("schema-*.db"))
EACH = pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)

LATER_S = 3 * 3600.0
"""Between the recording and now, on the clock of the histories: what was due then is due."""


@pytest.fixture
def copy(file: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(file, tmp_path / "copy.db"))


def later() -> VirtualClock:
    clock = VirtualClock()
    clock.advance(LATER_S)
    return clock


def asked_models() -> int:
    return sum(model.calls for model in workflows.MODELS.values())


def test_there_is_a_history_of_the_present_schema() -> None:
    assert make.file_of(SCHEMA) in FILES


# -- the files -------------------------------------------------------------------------------------------------------------


@EACH
def test_a_history_is_small_and_names_no_machine(file: Path) -> None:
    content = file.read_bytes()
    assert len(content) < 300_000
    for path in (ROOT, Path.home(), Path.cwd()):
        assert len(path.parts) < 2 or str(path).encode() not in content
    with make.reading(file) as connection:
        assert connection.execute("SELECT count(*) FROM workers").fetchone() == (0,)


@EACH
def test_a_history_has_every_kind_of_event_and_ended_and_unfinished_runs(file: Path) -> None:
    if file == make.file_of(SCHEMA):
        assert make.kinds_in(file) == make.KINDS
    with make.reading(file) as connection:
        status = {status for (status,) in connection.execute("SELECT status FROM runs")}
    assert status == {"completed", "failed", "cancelled", "waiting", "in_doubt", "attention", "pending"}


def test_the_kinds_are_all_there_are() -> None:
    """Every kind that the code spells out stands in a history; a new one needs a new recording."""
    source = "\n".join(p.read_text() for p in (ROOT / "src" / "holdfast").rglob("*.py") if "cli" not in p.parts)
    spelled = set(re.findall(r'"((?:run|note)\.[a-z_]+)"', source))
    assert spelled - make.KINDS == set()


# -- verify and migrate ----------------------------------------------------------------------------------------------------


@EACH
async def test_a_history_verifies_also_its_signatures_before_and_after_the_migration(copy: Path) -> None:
    for _ in range(2):
        async with hf.open(copy, worker=False, clock=later()) as client:
            report = await client.verify(public_keys=[make.keys()[1]])
            assert report.problems == ()
            assert (report.ok, {each.run for each in report.redacted}) == (True, {"redacted"})
            assert report.checkpoints > 3
    with contextlib.closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)


@EACH
async def test_a_flipped_bit_in_a_history_is_found(copy: Path) -> None:
    with contextlib.closing(sqlite3.connect(copy)) as connection:
        (header,) = connection.execute("SELECT header FROM events WHERE rowid = 3").fetchone()
        connection.execute("UPDATE events SET header = ? WHERE rowid = 3", (header.replace(b"steps", b"sleps"),))
        connection.commit()
    async with hf.open(copy, worker=False) as client:
        assert not (await client.verify()).ok


# -- replay ----------------------------------------------------------------------------------------------------------------


async def finished(client: hf.App) -> list[RunRow]:
    return [row for row in await client.runs() if row.status in ("completed", "failed")]


@EACH
async def test_every_finished_run_of_a_history_replays_as_it_ran(copy: Path) -> None:
    before = asked_models()
    async with hf.open(copy, worker=False, registry=workflows.REGISTRY, clock=later()) as client:
        rows = await finished(client)
        assert len(rows) > 15
        for row in rows:
            if row.run == "redacted":
                with pytest.raises(RedactedStep):
                    await check_replay(client, row.run)
            else:
                replay = await check_replay(client, row.run)
                assert replay.asked or row.run in ("refused", "parent/0", "parked-parent/0")
    assert asked_models() == before


@EACH
async def test_answers_of_a_history_read_as_they_were_given(copy: Path) -> None:
    async with hf.open(copy, worker=False, registry=workflows.REGISTRY) as client:
        drafted = await client.result("drafted", timeout_s=SOON_S)
        assert drafted == hf.Completed(
            result=workflows.Draft(sku="A1", pieces=2, unit="piece"), confidence=0.95, sources=("c1",),
            assumptions=("two",), uncertainty=("the price",),
        )  # fmt: skip
        assert await client.result("refused") == hf.Refused(missing="leave", ask="the front desk")
        assert isinstance(await client.result("escalated"), hf.Escalated)
        with pytest.raises(hf.errors.RunFailed, match="can't be done"):
            await client.result("failed")
        with pytest.raises(hf.errors.RunCancelled, match="takes too long"):
            await client.result("cancelled")
        asked = await client.result("parked-reply", timeout_s=SOON_S)
        assert asked == hf.Clarify(question="which unit?", framings=("piece", "box"))


@EACH
async def test_a_run_that_was_taken_over_says_from_whom(copy: Path) -> None:
    async with hf.open(copy, worker=False) as client:
        (resumed,) = [e.payload(Resumed) for e in await client.events("crashed") if e.kind == "run.resumed"]
    assert resumed.taken_from is not None
    assert {name.partition("-")[0] for name in (resumed.worker, resumed.taken_from)} == {make.WORKER}


# -- going on --------------------------------------------------------------------------------------------------------------


async def go_on(app: hf.App, clock: VirtualClock) -> None:
    """Give every unfinished run what it waits for, until none is left."""
    with anyio.fail_after(SOON_S):
        while unfinished := [row for row in await app.runs() if row.status not in TERMINAL]:
            await app.drain()
            for row in unfinished:
                if row.status == "attention":
                    await app.resume(row.run, by="a person")
                for wait in (await app.info(row.run)).waits:
                    await _give(app, row.run, wait)
            clock.advance(60.0)
            await app.drain()


async def _give(app: hf.App, run: str, wait: Wait) -> None:
    match wait.kind:
        case "approval":
            await app.approve(wait.id, by="a person")
        case "settlement":
            await app.settle(wait.id, "happened", result="posted, it seems", by="a person")
        case "reply":
            await app.run(run).reply("box", key=wait.id)
        case "signal" if wait.name != "never":
            await app.run(run).signal(wait.name, "go", key=wait.id)
        case _:  # timers and sub-runs come by themselves
            pass


@EACH
async def test_every_unfinished_run_of_a_history_is_brought_to_its_end(copy: Path) -> None:
    clock = later()
    async with hf.open(copy, registry=workflows.REGISTRY, clock=clock, poll_s=0.005, lease_s=make.LEASE_S) as app:
        waited = [row.run for row in await app.runs() if row.status not in TERMINAL]
        assert len(waited) > 8
        assert list(await app.stranded()) == []
        await go_on(app, clock)
        for run in waited:
            info = await app.info(run)
            assert (run, info.status, info.outcome) == (run, "completed", "completed")
            await check_replay(app, run)
        assert (await app.verify()).problems == ()


@EACH
async def test_an_effect_of_a_history_whose_fate_is_unknown_is_repeated_under_its_key_or_asked_about(
    copy: Path,
) -> None:
    clock = VirtualClock()
    clock.advance(LATER_S / 10)  # within the time for which the other end remembers the key
    async with hf.open(copy, registry=workflows.REGISTRY, clock=clock, poll_s=0.005, lease_s=make.LEASE_S) as app:
        answer = await app.result("open-intent", timeout_s=SOON_S)
        assert isinstance(answer, hf.Completed)
        kinds = [e.kind for e in await app.events("open-intent") if e.kind.startswith("tool")]
        assert kinds == ["tool.intent", "tool.completed"]
        with pytest.raises(hf.errors.RunNeedsAttention, match="in doubt"):
            await app.result("parked-doubt", timeout_s=SOON_S)


@EACH
async def test_a_history_can_be_redacted_and_forked(copy: Path) -> None:
    async with hf.open(copy, registry=workflows.REGISTRY, clock=later(), poll_s=0.005, lease_s=make.LEASE_S) as app:
        assert await app.redact("tools", by="a person", why="asked to") > 10
        with pytest.raises(CannotRedact):
            await app.redact("steps", by="", why="")
        forked = await app.fork("steps", at="3", id="again")
        assert isinstance(await forked.result(timeout_s=SOON_S), hf.Completed)
        assert (await app.verify()).problems == ()


# -- making ----------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_history_can_be_made_anew(tmp_path: Path) -> None:
    """Else nobody could, on the day when the schema changes."""
    path = tmp_path / "made.db"
    await make.make(path)
    assert make.kinds_in(path) == make.KINDS
    make.pack(path)
    async with hf.open(path, worker=False) as client:
        assert (await client.verify(public_keys=[make.keys()[1]])).problems == ()
