"""Law 6: one owner a run. A worker that was stopped past its lease and continued writes nothing and does nothing twice."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import anyio
import pytest

import holdfast as hf
from holdfast.store import open_store
from holdfast.store.memory import MemoryStore
from holdfast.testing import VirtualClock
from holdfast.testing.effects import EffectServer
from tests.faults import after
from tests.faults.conftest import Nursery
from tests.runtime.support import flow, kinds, opened, result, until, until_status

LEASE_S = 0.3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("effect", "at", "when"),
    [
        ("order", 2, "after"),  # stopped behind the first step
        ("order", 3, "before"),  # behind the gate, before the intent
        ("order", 3, "after"),  # between intent and effect
        ("order", 4, "before"),  # between effect and outcome
        ("order", 4, "after"),  # behind the outcome
        ("send", 2, "after"),
        ("send", 3, "before"),
        ("send", 3, "after"),
        ("send", 4, "before"),
        ("send", 4, "after"),
    ],
)
def test_law_6_a_worker_stopped_past_its_lease_does_no_second_effect_and_writes_no_foreign_event(
    nursery: Nursery, effects: EffectServer, tmp_path: Path, effect: str, at: int, when: str
) -> None:
    id = f"stopped-{effect}-{at}-{when}"
    db, workflow = tmp_path / "s.db", f"one_{effect}"
    stopped = nursery.work(db, workflow, id, effects.port, id, at=at, when=when, act="stop", lease_s=LEASE_S)
    assert stopped.end == "stopped"
    before = effects.total(effect)
    time.sleep(LEASE_S * 1.1)
    taken = nursery.work(db, workflow, id, effects.port, id, lease_s=LEASE_S)
    between = after.stored(db, id)
    continued = nursery.go_on(stopped.pid)
    assert continued.end == "done", continued.said
    final = after.stored(db, id)

    in_doubt = bool(taken.of("waits"))
    assert in_doubt == (effect == "send" and (at, when) in ((3, "after"), (4, "before")))
    assert [e.hash for e in final.events] == [e.hash for e in between.events], "the zombie wrote"
    epochs = [e.header.epoch for e in final.events]
    assert epochs == sorted(epochs)
    assert epochs[0] == 1 < epochs[-1]
    expected = {("send", 3, "after"): 0}.get((effect, at, when), 1)
    done_before = 1 if (at, when) in ((4, "before"), (4, "after")) else 0
    assert before + expected - done_before == effects.total(effect), "an effect was lost or doubled"
    assert after.verified(db).ok


async def test_law_6_a_worker_that_was_replaced_abandons_its_runs_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    going = anyio.Event()
    bodies: list[str] = []

    @hf.step
    async def slow(n: int) -> int:
        bodies.append("slow")
        await going.wait()
        return n

    async def work() -> int:
        return await slow(1)

    workflow = flow(work)
    store = MemoryStore()
    async with opened(workflow, store=store, lease_s=0.15) as app:
        await app.start(workflow, id="r")
        await until(lambda: bodies == ["slow"])
        assert app.executor is not None
        store._workers.clear()  # somebody found its lease over, as after a long pause of this process
        await store.reap()
        await until(lambda: "abandon" in caplog.text or len(bodies) > 1)
        going.set()
        assert await result(app) == 1
        epochs = [e.header.epoch for e in await app.events("r")]
        assert epochs == sorted(epochs)
        assert epochs[-1] > 1
    assert any(r.levelno >= logging.WARNING and app.executor.worker in r.getMessage() for r in caplog.records)


async def test_law_6_a_worker_whose_lease_ended_unnoticed_issues_nothing_and_goes_on_once_it_is_renewed() -> None:
    """The machine slept, nobody else was there: no effect in the gap, and no run left behind."""
    issued: list[str] = []
    clock = VirtualClock()

    @hf.step
    async def sleeps(n: int) -> int:
        clock.advance(60)
        return n

    @hf.tool(effect="keyed")
    async def act(n: int, *, key: hf.IdempotencyKey) -> int:
        assert app.executor is not None
        assert app.executor.lease_holds()
        issued.append(key)
        return n

    @hf.tool(effect="irreversible", needs=hf.Trust.EXTERNAL)
    async def act_for_good(n: int) -> int:
        assert app.executor is not None
        assert app.executor.lease_holds()
        issued.append("for good")
        return n

    async def keyed() -> int:
        return await act(await sleeps(1))

    async def irreversible() -> int:
        return await act_for_good(await sleeps(1))

    workflows = flow(keyed), flow(irreversible)
    async with opened(*workflows, clock=clock, lease_s=0.3) as app:
        await app.start(workflows[0], id="keyed")
        assert await result(app, "keyed") == 1
        assert len(issued) == 1
        await app.start(workflows[1], id="irreversible")
        await until_status(app, "irreversible", "completed", "in_doubt")
        status = (await app.info("irreversible")).status
        assert issued.count("for good") == (status == "completed")


async def test_law_6_two_workers_on_one_store_share_the_runs_and_do_each_step_once(tmp_path: Path) -> None:
    ran: list[tuple[str, int, int]] = []
    second_at_work = anyio.Event()

    def worker(number: int) -> hf.runtime.Workflow[..., int]:
        @hf.step(name="count")
        async def count(run: str, n: int) -> int:
            ran.append((run, n, number))
            if number == 2:
                second_at_work.set()
            await second_at_work.wait()  # the first one is held up: there is work left for the second
            return n

        async def work(run: str) -> int:
            return sum([await count(run, n) for n in range(3)])

        return flow(work)

    one, two = worker(1), worker(2)
    stores = [await open_store(tmp_path / "s.db") for _ in range(2)]
    ids = [f"run-{n}" for n in range(60)]
    async with (
        opened(one, store=stores[0], max_concurrent=4) as first,
        opened(two, store=stores[1], max_concurrent=4) as second,
    ):
        for id in ids:
            await first.start(one, id, id=id)
        for id in ids:
            assert await result(second, id) == 3
    assert sorted((run, n) for run, n, _ in ran) == sorted((id, n) for id in ids for n in range(3))
    assert {number for _, _, number in ran} == {1, 2}
    for store in stores:
        await store.close()


async def test_law_6_a_second_app_continues_what_the_first_let_go_of() -> None:
    started = anyio.Event()
    bodies: list[int] = []

    @hf.step
    async def quick(n: int) -> int:
        bodies.append(n)
        return n

    @hf.step
    async def blocks() -> int:
        bodies.append(-1)
        if not started.is_set():
            started.set()
            await anyio.sleep(60)
        return 2

    async def work() -> int:
        return await quick(1) + await blocks()

    workflow = flow(work)
    store = MemoryStore()
    async with opened(workflow, store=store) as app:
        await app.start(workflow, id="r")
        await started.wait()
    row = await store.run("r")
    assert row is not None
    assert row.worker is None
    async with opened(workflow, store=store) as app:
        assert await result(app) == 3
        assert "step.failed 1" not in await kinds(app)
    assert bodies == [1, -1, -1]


async def test_law_6_a_parked_run_has_no_task_and_no_owner() -> None:
    async def work() -> object:
        return await hf.signal("go")

    workflow = flow(work)
    async with opened(workflow) as app:
        for n in range(20):
            await app.start(workflow, id=f"run-{n}")
            await until_status(app, f"run-{n}", "waiting")
        assert app.executor is not None
        await until(lambda: not app.executor.running)  # type: ignore[union-attr]  # asserted
        assert {row.worker for row in await app.runs()} == {None}
