"""Law 1: once decided, never re-decided. A recorded outcome is returned as it is; starting twice with one id is one run."""

from __future__ import annotations

import itertools
from pathlib import Path

import anyio
import pytest

import holdfast as hf
from holdfast.errors import RunIdConflict, StepFailed
from holdfast.store.memory import MemoryStore
from holdfast.testing import FaultyStore, check_replay
from holdfast.testing.faults import WHEN
from tests.faults import after
from tests.faults.conftest import Nursery
from tests.runtime.support import appends, crashed, flow, kinds, opened, result, until, until_status


@pytest.mark.slow
def test_law_1_a_step_that_is_decided_is_not_run_again_wherever_the_worker_is_killed(
    nursery: Nursery, tmp_path: Path
) -> None:
    for when in WHEN:
        for at in itertools.count(1):
            id, db = f"{when}-{at}", tmp_path / f"{when}-{at}.db"
            killed = nursery.work(db, "many_steps", id, id, at=at, when=when)
            if killed.end == "done":
                break
            found = after.stored(db, id)
            resumed = nursery.work(db, "many_steps", id, id)
            assert resumed.answers == {id: {"answer": "completed", "result": 45}}
            decided = len(found.paths("step.completed"))
            assert resumed.bodies == [(id, f"looked_up {n}") for n in range(decided, 10)]


@pytest.mark.slow
def test_law_1_of_many_runs_none_redoes_a_decided_step_when_the_worker_is_killed_at_any_moment(
    nursery: Nursery, tmp_path: Path
) -> None:
    db = tmp_path / "many.db"
    ids = [f"run-{n}" for n in range(40)]
    decided: set[tuple[str, str]] = set()
    for kill_after_s in (0.05, 0.06, 0.07, 0.08):
        report = nursery.work(db, "many_steps", ids, "{id}", kill_after_s=kill_after_s)
        assert not decided & set(report.bodies), "a decided step ran again"
        said = [line for line in report.of("acknowledged") if line["kind"] == "step.completed"]
        decided |= {(line["run"], f"looked_up {line['path']}") for line in said}
    report = nursery.work(db, "many_steps", ids, "{id}")
    assert report.end == "done"
    assert not decided & set(report.bodies)
    assert {id: report.answers[id]["result"] for id in ids} == dict.fromkeys(ids, 45)
    assert after.verified(db).ok


async def test_law_1_starting_twice_with_one_id_is_one_run() -> None:
    bodies = []

    @hf.step
    async def count(n: int) -> int:
        bodies.append(n)
        return n

    async def work(n: int) -> int:
        return await count(n)

    workflow = flow(work)
    async with opened(workflow) as app:
        first = await app.start(workflow, 7, id="r")
        second = await app.start(workflow, 7, id="r")
        assert (await first.result()).result == (await second.result()).result == 7
        third = await app.start(workflow, 7, id="r")
        assert (await third.result()).result == 7
    assert bodies == [7]


async def test_law_1_a_hundred_starts_at_once_with_one_id_are_one_run(tmp_path: Path) -> None:
    bodies = []

    @hf.step
    async def count(n: int) -> int:
        bodies.append(n)
        return n

    async def work(n: int) -> int:
        return await count(n)

    workflow = flow(work)
    from holdfast.store import open_store

    store = await open_store(tmp_path / "s.db")
    async with opened(workflow, store=store) as app:
        async with anyio.create_task_group() as group:
            for _ in range(100):
                group.start_soon(lambda: app.start(workflow, 7, id="r"))
        assert await result(app) == 7
        assert len(await app.runs()) == 1
    await store.close()
    assert bodies == [7]


async def test_law_1_an_id_with_another_input_label_or_workflow_is_a_conflict_and_starts_nothing() -> None:
    async def work(n: int) -> int:
        return n

    async def other(n: int) -> int:
        return -n

    workflow, another = flow(work), flow(other)
    async with opened(workflow, another) as app:
        await app.start(workflow, 1, id="r")
        with pytest.raises(RunIdConflict, match=r"run r .*another input"):
            await app.start(workflow, 2, id="r")
        with pytest.raises(RunIdConflict, match="another label"):
            await app.start(workflow, 1, id="r", label=hf.Trust.PRIMARY)
        with pytest.raises(RunIdConflict, match="another workflow"):
            await app.start(another, 1, id="r")
        assert await result(app) == 1
        assert len(await app.runs()) == 1


async def test_law_1_recorded_outcomes_are_returned_as_they_were_after_the_world_has_changed() -> None:
    world = {"stock": 5, "fails": True}

    @hf.step
    async def stock() -> int:
        return world["stock"]

    @hf.step
    async def fragile() -> int:
        if world["fails"]:
            raise LookupError("not there")
        return 1

    @hf.tool(effect="read")
    async def price(sku: str) -> int:
        return world["stock"] * 100

    async def work() -> list[object]:
        try:
            failed = str(await fragile())
        except StepFailed as error:
            failed = f"{error.error_type} {error.caused_by(LookupError)} {error}"
        seen = [await stock(), await price("A"), failed, str(await hf.now()), await hf.random(), await hf.uuid()]
        seen.append(await hf.recorded("limit", lambda: world["stock"]))
        return [*seen, await hf.signal("go"), await stock()]

    workflow = flow(work)
    store = MemoryStore()
    async with opened(workflow, store=store) as app:
        run = await app.start(workflow, id="r")
        await until_status(app, "r", "waiting")
        before = [e.hash for e in await app.events("r")]
    world.update(stock=9, fails=False)
    async with opened(workflow, store=store) as app:
        await app.run("r").signal("go", "yes")
        seen = await result(app)
        assert [e.hash for e in await app.events("r")][: len(before)] == before
        await check_replay(app, run.id)
    assert seen[:3] == [
        5,
        500,
        "builtins.LookupError True run r, step 0 (fragile) failed: builtins.LookupError: not there",
    ]
    assert seen[6:] == [5, "yes", 9]


async def test_law_1_live_and_replayed_values_have_the_same_types() -> None:
    from dataclasses import dataclass
    from datetime import UTC, date, datetime
    from decimal import Decimal
    from enum import Enum

    class Colour(Enum):
        RED = "red"

    @dataclass(frozen=True)
    class Thing:
        day: date
        price: Decimal
        colour: Colour
        sizes: tuple[int, ...]
        at: datetime

    made = Thing(date(2024, 2, 29), Decimal("1.10"), Colour.RED, (1, 2), datetime(2024, 1, 1, tzinfo=UTC))
    seen: list[object] = []

    @hf.step
    async def make() -> Thing:
        return made

    @hf.step
    async def untyped():  # type: ignore[no-untyped-def]  # users leave annotations out
        return {"pair": (1, 2)}

    async def work() -> int:
        seen.append(await make())
        seen.append(await untyped())
        await hf.signal("go")
        return 1

    workflow = flow(work)
    async with opened(workflow) as app:
        run = await app.start(workflow, id="r")
        await until_status(app, "r", "waiting")
        await run.signal("go")
        assert await result(app) == 1
    assert seen[:2] == seen[2:] == [made, {"pair": [1, 2]}]


async def test_law_1_attempts_made_before_a_crash_count() -> None:
    tries = []

    @hf.step(retry=hf.Retry(attempts=3, base_s=0.0))
    async def fragile() -> int:
        tries.append(1)
        raise OSError("down")

    async def work() -> int:
        return await fragile()

    workflow = flow(work)
    store = await crashed(workflow, at=appends("step.attempt"), when="after")
    async with opened(workflow, store=store) as app:
        with pytest.raises(hf.HoldfastError, match="failed after 3 attempts"):
            await result(app)
        assert await kinds(app) == ["run.started", "step.attempt 0", "step.attempt 0", "step.failed 0", "run.failed"]
    assert len(tries) == 3


async def test_law_1_an_acknowledged_outcome_is_never_asked_for_again_when_the_store_fails_for_a_moment() -> None:
    bodies: list[int] = []

    @hf.step
    async def count(n: int) -> int:
        bodies.append(n)
        return n

    async def work() -> int:
        return sum([await count(n) for n in range(5)])

    workflow = flow(work)
    store = FaultyStore(MemoryStore(), at=3, when="after", act="unavailable")
    async with opened(workflow, store=store) as app:
        await app.start(workflow, id="r")
        await until(lambda: store.fired)
        assert await result(app) == 10
    assert bodies == [0, 1, 2, 3, 4]
