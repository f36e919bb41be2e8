"""Durable waits: signals, replies, approvals, timers, sub-runs; parking and waking."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest
from pydantic import BaseModel

import holdfast as hf
from holdfast.errors import (
    HoldfastError,
    NotWaiting,
    ResultTimeout,
    RunCancelled,
    RunFailed,
    RunNeedsAttention,
    StepFailed,
    TimedOut,
    UnknownRun,
)
from holdfast.store import Append, open_store
from holdfast.store.memory import MemoryStore
from holdfast.testing import VirtualClock, check_replay
from holdfast.testing.faults import WHEN
from tests.runtime.support import (
    SOON_S,
    appends,
    crashed,
    flow,
    kinds,
    loaded,
    opened,
    result,
    until,
    until_asked,
    until_over,
    until_recorded,
    until_status,
)


@hf.step
async def quick(n: int) -> int:
    return n


async def waits_for_go() -> object:
    return await hf.signal("go")


GO = flow(waits_for_go)


# -- signals ----------------------------------------------------------------------------------------------------------


async def test_a_signal_is_kept_until_the_run_asks_for_it() -> None:
    async def work() -> list[object]:
        await hf.signal("start")
        return [await hf.signal("go"), await hf.signal("go")]

    workflow = flow(work)
    async with opened(workflow) as app:
        run = await app.start(workflow, id="r")
        await run.signal("go", 1)
        await until_status(app, "r", "waiting")
        await run.signal("go", 2)
        await run.signal("start")
        assert await result(app) == [1, 2]
        await run.signal("go", 3)  # after the end: kept as a note, nothing else
        assert len(await app.notes("r")) == 4
        await check_replay(app, "r")


async def test_a_signal_that_comes_while_the_run_works_is_received_when_it_asks() -> None:
    started, signalled = anyio.Event(), anyio.Event()

    @hf.step
    async def holds() -> int:
        started.set()
        await signalled.wait()
        return 1

    async def work() -> object:
        await holds()
        return await hf.signal("go")

    workflow = flow(work)
    async with opened(workflow) as app:
        run = await app.start(workflow, id="r")
        await started.wait()
        await run.signal("go", "while")
        signalled.set()
        assert await result(app) == "while"


async def test_signals_before_during_and_after_the_wait_are_each_received_once() -> None:
    async with opened(GO) as app:
        for n in range(40):
            run = await app.start(GO, id=f"r{n}")
            if n % 4 == 1:
                await anyio.lowlevel.checkpoint()
            if n % 4 == 2:
                await anyio.sleep(0.001)
            if n % 4 == 3:
                await until_status(app, run.id, "waiting")
            await run.signal("go", n)
        for n in range(40):
            assert await result(app, f"r{n}") == n


@pytest.mark.slow
async def test_no_wakeup_is_lost_between_two_processes_worth_of_apps(tmp_path: Path) -> None:
    stores = [await open_store(tmp_path / "s.db") for _ in range(2)]
    async with opened(GO, store=stores[0]) as app, opened(GO, store=stores[1], worker=False) as client:
        for n in range(30):
            run = await client.start(GO, id=f"r{n}")
            if n % 3:
                await anyio.sleep(0.002 * (n % 7))
            await run.signal("go", n)
        for n in range(30):
            assert (await client.result(f"r{n}", timeout_s=SOON_S)).result == n
        assert app.executor is not None
    for store in stores:
        await store.close()


@pytest.mark.parametrize("note", ["signal", "cancel"])
async def test_a_note_that_comes_while_the_run_is_being_parked_wakes_it(note: str) -> None:
    """The decision to park unwinds through the workflow's own `finally`, which takes time."""
    parking = anyio.Event()

    async def work() -> object:
        try:
            return await hf.signal("go")
        finally:
            parking.set()
            await anyio.sleep(0.02)

    workflow = flow(work)
    async with opened(workflow) as app:
        run = await app.start(workflow, id="r")
        await parking.wait()
        if note == "signal":
            await run.signal("go", 7)
            assert await result(app) == 7
        else:
            await run.cancel("enough")
            with pytest.raises(RunCancelled, match="enough"):
                await result(app)


class SlowToPark(MemoryStore):
    """Holds back the write that parks a run, as a busy disk does; and one's own writes are no news, as in a file."""

    def __init__(self) -> None:
        super().__init__()
        self.parking, self.go_on = anyio.Event(), anyio.Event()

    async def append(self, request: Append) -> None:
        if any(row.kind == "run.parked" for row in request.rows):
            self.parking.set()
            with anyio.CancelScope(shield=True):  # what was given to the disk is written
                await self.go_on.wait()
        await super().append(request)

    def changed(self) -> bool:
        return False


@pytest.mark.parametrize("note", ["signal", "cancel"])
async def test_a_note_that_is_stored_while_the_parking_is_being_stored_wakes_the_run(note: str) -> None:
    store = SlowToPark()
    async with opened(GO, store=store) as app:
        run = await app.start(GO, id="r")
        await store.parking.wait()
        if note == "signal":
            await run.signal("go", 7)
        else:
            await run.cancel("enough")
        await anyio.sleep(0.03)  # the worker looks for something to do, and finds nothing yet
        store.go_on.set()
        if note == "signal":
            assert await result(app) == 7
        else:
            with pytest.raises(RunCancelled, match="enough"):
                await result(app)


class SlowToAcknowledge(MemoryStore):
    """The parking is stored, and found by others, before whoever stored it hears of it."""

    async def append(self, request: Append) -> None:
        await super().append(request)
        if any(row.kind == "run.parked" for row in request.rows):
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.03)


async def test_a_run_that_is_woken_while_it_parks_is_known_to_its_worker() -> None:
    working = anyio.Event()

    @hf.step
    async def long() -> int:
        working.set()
        await anyio.sleep(30)
        return 1

    async def work() -> int:
        await hf.signal("go")
        return await long()

    workflow = flow(work)
    async with opened(workflow, store=SlowToAcknowledge()) as app:
        run = await app.start(workflow, id="r")
        await until_recorded(app, "run.parked")
        await run.signal("go")
        await working.wait()
        await anyio.sleep(0.05)  # the first life of the run has heard by now that it is over
        assert app.executor is not None
        assert list(app.executor.running) == ["r"]
        await run.cancel("enough")
        with pytest.raises(RunCancelled, match="enough"):
            await result(app)


async def test_a_branch_that_ends_as_another_is_answered_does_not_park_the_run() -> None:
    """Both come in one turn of the loop: the answer is there, though the branch that waits for it has not moved yet."""
    ending = anyio.Event()

    @hf.step
    async def ends(n: int) -> int:
        await ending.wait()
        return n

    async def work() -> list[object]:
        return list(await hf.parallel(hf.signal("go"), ends(1)))

    workflow = flow(work)
    async with opened(workflow) as app:
        for turns in range(12):
            ending = anyio.Event()
            run = await app.start(workflow, id=f"r{turns}")
            await until_recorded(app, "signal.waiting 0.0.0", run.id)
            ending.set()
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            await run.signal("go", turns)
            assert await result(app, run.id) == [turns, 1]


async def test_the_key_of_a_signal_makes_it_one() -> None:
    async def work() -> list[object]:
        return [await hf.signal("go"), await hf.signal("go")]

    workflow = flow(work)
    async with opened(workflow) as app:
        run = await app.start(workflow, id="r")
        first = await run.signal("go", 1, key="a")
        again = await run.signal("go", 1, key="a")
        await run.signal("go", 2, key="b")
        assert first == again
        assert await result(app) == [1, 2]


class Payload(BaseModel):
    number: int
    name: str = "x"


@dataclass(frozen=True)
class Plain:
    number: int


async def test_a_signal_is_read_as_its_type_live_and_replayed() -> None:
    seen: list[object] = []

    async def work() -> int:
        seen.append(await hf.signal("model", type=Payload))
        seen.append(await hf.signal("dataclass", type=Plain))
        await hf.signal("go")
        return 1

    workflow = flow(work)
    async with opened(workflow) as app:
        run = await app.start(workflow, id="r")
        await run.signal("model", Payload(number=7))
        await run.signal("dataclass", Plain(8))
        await until_status(app, "r", "waiting")
        await run.signal("go")
        await result(app)
    assert seen == [Payload(number=7), Plain(8)] * (len(seen) // 2)


async def test_a_signal_that_does_not_fit_its_type_is_a_typed_failure_and_the_next_one_can_be_waited_for() -> None:
    async def work() -> str:
        try:
            await hf.signal("go", type=Payload)
        except StepFailed as failed:
            second = await hf.signal("go", type=Payload)
            return f"{failed.step} {failed.name} then {second.number}"
        return "fits"

    workflow = flow(work)
    async with opened(workflow) as app:
        run = await app.start(workflow, id="r")
        await run.signal("go", {"number": "seven"})
        await run.signal("go", {"number": 8})
        assert await result(app) == "0 go then 8"
        await check_replay(app, "r")


async def test_a_signal_that_does_not_come_in_time_is_a_time_out() -> None:
    clock = VirtualClock()

    async def work() -> str:
        try:
            await hf.signal("go", timeout_s=60)
        except TimedOut as timed_out:
            return timed_out.message
        return "came"

    workflow = flow(work)
    async with opened(workflow, clock=clock) as app:
        await app.start(workflow, id="r")
        await until_status(app, "r", "waiting")
        clock.jump(59)
        await anyio.sleep(0.03)
        assert (await app.info("r")).status == "waiting"
        clock.jump(2)
        assert "in time" in await result(app)


async def test_two_branches_that_wait_for_the_same_name_get_one_signal_each() -> None:
    async def work() -> list[object]:
        return list(await hf.parallel(hf.signal("go"), hf.signal("go")))

    workflow = flow(work)
    async with opened(workflow) as app:
        run = await app.start(workflow, id="r")
        await until_status(app, "r", "waiting")
        await run.signal("go", 1)
        await run.signal("go", 2)
        assert sorted(await result(app)) == [1, 2]
        await check_replay(app, "r")


async def test_a_signal_to_nobody_is_an_error() -> None:
    async with opened(GO) as app:
        with pytest.raises(UnknownRun, match="no run 'nobody'"):
            await app.run("nobody").signal("go")
        with pytest.raises(UnknownRun):
            await app.run("nobody").result()


async def test_a_client_reaches_a_run_that_was_resumed_and_works(tmp_path: Path) -> None:
    working = anyio.Event()

    @hf.step
    async def long() -> int:
        working.set()
        await anyio.sleep(30)
        return 1

    async def work() -> int:
        await hf.signal("go")
        return await long()

    workflow = flow(work)
    stores = [await open_store(tmp_path / "s.db") for _ in range(2)]
    async with opened(workflow, store=stores[0]) as app, opened(workflow, store=stores[1], worker=False) as client:
        run = await app.start(workflow, id="r")
        await until_status(app, "r", "waiting")
        await run.signal("go")
        await working.wait()
        await client.run("r").cancel("from elsewhere")
        with pytest.raises(RunCancelled, match="from elsewhere"):
            await client.result("r", timeout_s=SOON_S)
    for store in stores:
        await store.close()


# -- replies ----------------------------------------------------------------------------------------------------------


async def test_a_question_is_the_result_until_it_is_answered_and_then_never_again() -> None:
    async def work() -> str:
        first = await hf.reply({"answer": "clarify", "question": "which?", "framings": ["one", "two"]})
        second = await hf.reply({"answer": "clarify", "question": "sure?", "framings": ["yes", "no"]})
        return f"{first} {second}"

    workflow = flow(work)
    async with opened(workflow) as app:
        for n in range(10):
            run = await app.start(workflow, id=f"r{n}")
            asked = await run.result(timeout_s=SOON_S)
            assert isinstance(asked, hf.Clarify)
            assert asked.question == "which?"
            await run.reply("one")
            asked = await run.result(timeout_s=SOON_S)
            assert isinstance(asked, hf.Clarify)
            assert asked.question == "sure?", "the old question came again"
            await run.reply("yes")
            answer = await run.result(timeout_s=SOON_S)
            assert isinstance(answer, hf.Completed)
            assert answer.result == "one yes"


async def test_a_reply_before_the_question_is_its_answer() -> None:
    async def work() -> str:
        return await hf.reply("what?")

    workflow = flow(work)
    async with opened(workflow) as app:
        run = await app.start(workflow, id="r")
        await run.reply("early")
        assert await result(app) == "early"


# -- approvals --------------------------------------------------------------------------------------------------------


async def test_an_approval_is_a_decision_with_a_name_and_a_reason() -> None:
    async def work() -> list[str]:
        decisions = [await hf.approval(f"may I do {n}?", {"n": n}) for n in range(2)]
        return [f"{d.approved} {d.by} {d.why}" for d in decisions]

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        (first,) = await until_asked(app)
        assert await app.approve(first.id, by="the boss", why="fine") == "r"
        (second,) = await until_asked(app, other_than=first.id)
        await app.deny(second.id, by="the boss", why="enough")
        assert await result(app) == ["True the boss fine", "False the boss enough"]
        assert await app.approvals() == []
        await check_replay(app, "r")


async def test_what_waits_for_something_else_can_not_be_approved() -> None:
    async with opened(GO) as app:
        await app.start(GO, id="r")
        await until_status(app, "r", "waiting")
        (wait,) = (await app.info("r")).waits
        with pytest.raises(NotWaiting, match="run r waits"):
            await app.approve(wait.id, by="x")
        with pytest.raises(NotWaiting):
            await app.settle(wait.id, "happened", by="x")
        with pytest.raises(HoldfastError, match="one of happened, retry, give-up"):
            await app.settle(wait.id, "maybe", by="x")


# -- settlements ------------------------------------------------------------------------------------------------------


async def doubtful(calls: list[str]) -> hf.runtime.Workflow[..., object]:
    @hf.tool(effect="irreversible", needs=hf.Trust.EXTERNAL, timeout_s=0.01)
    async def send(text: str) -> str:
        calls.append(text)
        await anyio.sleep(10 if len(calls) == 1 else 0)
        return "sent"

    async def work() -> str:
        try:
            return await send("x")
        except hf.ToolFailed as failed:
            return f"{type(failed).__name__}: {failed.message}"

    return flow(work)


@pytest.mark.parametrize(
    ("verdict", "expected", "count"),
    [("happened", "told so", 1), ("give-up", "GivenUp: given up by the clerk: no luck", 1), ("retry", "sent", 2)],
)
@pytest.mark.parametrize(
    "crash", [None, "before tool.settled", "after tool.settled", "before tool.completed", "before tool.failed"]
)
async def test_a_person_settles_a_doubt_and_the_run_goes_on_as_they_said_through_any_crash(
    verdict: str, expected: str, count: int, crash: str | None
) -> None:
    from holdfast.testing import FaultyStore

    calls: list[str] = []
    workflow = await doubtful(calls)
    when, _, kind = (crash or "before nothing").partition(" ")
    store = FaultyStore(MemoryStore())
    async with opened(workflow, store=store) as app:
        await app.start(workflow, id="r")
        (wait,) = await until_asked(app)
    store = FaultyStore(store.store, at=appends(kind), when=when)  # type: ignore[arg-type]  # a literal
    async with opened(workflow, store=store) as app:
        await anyio.sleep(0.015)  # the time-out, after which the lost request can't arrive any more
        await app.settle(wait.id, verdict, result="told so", by="the clerk", why="no luck")
        await until_over(app, store)
    await store.revive()
    async with opened(workflow, store=store) as app:
        if (verdict, crash) == ("retry", "before tool.completed"):  # it was sent again, and nobody knows how that ended
            (wait,) = await until_asked(app)
            await app.settle(wait.id, "happened", result="sent", by="the clerk")
        assert await result(app) == expected
        assert await app.approvals() == []
        await check_replay(app, "r")
    assert len(calls) == count


async def test_result_after_a_settlement_or_a_resume_waits_for_the_new_state() -> None:
    calls: list[str] = []
    workflow = await doubtful(calls)
    async with opened(workflow) as app:
        run = await app.start(workflow, id="r")
        (wait,) = await until_asked(app)
        with pytest.raises(RunNeedsAttention, match="in doubt"):
            await run.result(timeout_s=SOON_S)
        await app.settle(wait.id, "happened", result="told so", by="the clerk")
        assert (await run.result(timeout_s=SOON_S)).result == "told so"


async def test_try_again_is_offered_only_once_the_lost_request_can_not_arrive_any_more() -> None:
    clock = VirtualClock()

    @hf.tool(effect="irreversible", needs=hf.Trust.EXTERNAL, timeout_s=100)
    async def send(text: str) -> str:
        raise ConnectionError("cut")

    async def work() -> str:
        return await send("x")

    workflow = flow(work)
    async with opened(workflow, clock=clock) as app:
        await app.start(workflow, id="r")
        (wait,) = await until_asked(app)
        with pytest.raises(HoldfastError, match="may still arrive"):
            await app.settle(wait.id, "retry", by="the clerk")
        clock.jump(101)
        await app.settle(wait.id, "retry", by="the clerk")
        await until_asked(app, other_than=wait.id)


# -- sub-runs ---------------------------------------------------------------------------------------------------------


async def child(n: int) -> int:
    if n < 0:
        raise ValueError("negative")
    if n > 100:
        await hf.signal("go")
    return await quick(n)


CHILD = flow(child)


async def parent(n: int) -> str:
    try:
        answer: hf.Answer[int] = await hf.subrun(CHILD, n)
    except StepFailed as failed:
        return f"{failed.step}: {failed.message}"
    return f"got {answer.result}"


PARENT = flow(parent)


async def test_a_sub_run_has_a_journal_of_its_own_and_its_answer_is_the_result_of_a_step() -> None:
    async with opened(PARENT, CHILD) as app:
        await app.start(PARENT, 5, id="r")
        assert await result(app) == "got 5"
        (row,) = [row for row in await app.runs() if row.parent == "r"]
        assert (row.run, row.status) == ("r/0", "completed")
        assert "step.completed 0" in await kinds(app, "r/0")
        await check_replay(app, "r")


async def test_a_sub_run_that_fails_is_a_failed_step_of_its_parent() -> None:
    async with opened(PARENT, CHILD) as app:
        await app.start(PARENT, -1, id="r")
        assert "negative" in await result(app)
        await check_replay(app, "r")


async def test_effects_of_different_sub_runs_have_keys_of_their_own() -> None:
    keys: list[str] = []

    @hf.tool(effect="keyed")
    async def order(n: int, *, key: hf.IdempotencyKey) -> int:
        keys.append(key)
        return n

    async def orders(n: int, depth: int) -> int:
        ordered = await order(n)
        if depth > 0:
            await hf.subrun(nested, n, depth - 1)
        return ordered

    async def work() -> int:
        await order(0)
        await hf.parallel(hf.subrun(nested, 1, 2), hf.subrun(nested, 1, 2))
        await hf.subrun(nested, 1, 0)
        return 1

    workflow, nested = flow(work), flow(orders)
    async with opened(workflow, nested) as app:
        await app.start(workflow, id="r")
        assert await result(app) == 1
    assert len(keys) == len(set(keys)) == 8


async def test_a_parent_is_parked_while_its_child_waits() -> None:
    async with opened(PARENT, CHILD) as app:
        await app.start(PARENT, 101, id="r")
        await until_status(app, "r", "waiting")
        await until_status(app, "r/0", "waiting")
        assert app.executor is not None
        await until(lambda: not app.executor.running)  # type: ignore[union-attr]  # asserted
        await app.run("r/0").signal("go")
        assert await result(app) == "got 101"


async def test_a_parent_whose_child_ended_unheard_finds_out_by_itself() -> None:
    clock = VirtualClock()
    store = await crashed(PARENT, CHILD, at=appends("note.child"), input=(5,), clock=clock)
    async with opened(PARENT, CHILD, store=store, clock=clock) as app:
        await anyio.sleep(0.01)
        clock.jump(31)
        assert await result(app) == "got 5"


async def test_cancelling_a_parent_cancels_its_children() -> None:
    async with opened(PARENT, CHILD) as app:
        run = await app.start(PARENT, 101, id="r")
        await until_status(app, "r/0", "waiting")
        await until_status(app, "r", "waiting")
        await run.cancel("enough")
        with pytest.raises(RunCancelled, match="enough"):
            await result(app)
        with pytest.raises(RunCancelled):
            await result(app, "r/0")


async def test_a_cancelled_child_is_a_failed_step_of_its_parent() -> None:
    async with opened(PARENT, CHILD) as app:
        await app.start(PARENT, 101, id="r")
        await until_status(app, "r/0", "waiting")
        await app.run("r/0").cancel("not this one")
        assert "not this one" in await result(app)


async def test_a_sub_run_keeps_its_label_however_often_its_start_is_interrupted() -> None:
    @hf.step(yields=hf.Trust.EXTERNAL)
    async def brings_mail() -> int:
        return 1

    async def both() -> str:
        answer, _ = await hf.parallel(hf.subrun(CHILD, 5), brings_mail())
        return str(answer.result)

    workflow = flow(both)
    for at in ("subrun.waiting", "subrun.completed", "run.started"):
        for when in WHEN:
            store = await crashed(workflow, CHILD, at=appends(at), when=when, label=hf.Trust.PRIMARY)
            async with opened(workflow, CHILD, store=store) as app:
                await app.start(workflow, id="r", label=hf.Trust.PRIMARY)
                assert await result(app) == "5"


# -- cancelling -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "state", ["pending", "running", "waiting", "in_doubt", "attention", "completed", "failed", "cancelled"]
)
async def test_a_run_can_be_cancelled_in_every_state_and_an_ended_one_stays_as_it_ended(  # noqa: C901  # one case a state
    state: str,
) -> None:
    running = anyio.Event()

    @hf.step
    async def holds() -> int:
        running.set()
        await anyio.sleep(30)
        return 1

    @hf.tool(effect="irreversible", needs=hf.Trust.EXTERNAL)
    async def cut() -> int:
        raise ConnectionError("cut")

    async def work() -> int:
        match state:
            case "running" | "pending":
                return await holds()
            case "waiting" | "cancelled":
                await hf.signal("never")
            case "in_doubt":
                return await cut()
            case "attention":
                with anyio.move_on_after(10):
                    return await quick(1)
            case "failed":
                raise ValueError("no")
            case _:
                pass
        return 1

    workflow = flow(work)
    store = MemoryStore()
    if state == "pending":
        async with opened(workflow, store=store, worker=False) as client:
            run = await client.start(workflow, id="r")
            await run.cancel("enough", by="the boss")
    async with opened(workflow, store=store) as app:
        run = await app.start(workflow, id="r")
        if state == "running":
            await running.wait()
        elif state != "pending":
            if state == "cancelled":
                await run.cancel("at first")
            await until_status(app, "r", state)
        before = await app.info("r")
        await run.cancel("enough", by="the boss")
        if state in ("completed", "failed", "cancelled"):
            await app.drain()
            assert (await app.info("r")).status == state
            assert (await app.info("r")).events == before.events
            return
        with pytest.raises(RunCancelled, match=r"enough.*IN DOUBT.*cut" if state == "in_doubt" else "enough"):
            await result(app)
        assert await app.approvals() == []
        report = await app.verify()
        assert report.ok, report.problems


async def test_a_cancelled_run_runs_no_further_step() -> None:
    bodies: list[int] = []
    first = anyio.Event()

    @hf.step
    async def counted(n: int) -> int:
        bodies.append(n)
        first.set()
        await anyio.sleep(0.005)
        return n

    async def work() -> int:
        for n in range(100):
            await counted(n)
        return 1

    workflow = flow(work)
    async with opened(workflow) as app:
        run = await app.start(workflow, id="r")
        await first.wait()
        await run.cancel("enough")
        with pytest.raises(RunCancelled):
            await result(app)
        count = len(bodies)
        await anyio.sleep(0.02)
        assert len(bodies) == count < 10


async def test_an_effect_that_is_out_when_the_run_is_cancelled_may_still_answer() -> None:
    out, answer = anyio.Event(), anyio.Event()

    @hf.tool(effect="irreversible", needs=hf.Trust.EXTERNAL)
    async def send() -> int:
        out.set()
        await answer.wait()
        return 1

    async def work() -> int:
        return await send() + await quick(1)

    workflow = flow(work)
    async with opened(workflow) as app:
        run = await app.start(workflow, id="r")
        await out.wait()
        await run.cancel("enough")
        answer.set()
        with pytest.raises(RunCancelled) as raised:
            await result(app)
        assert "IN DOUBT" not in str(raised.value)
        assert "tool.completed 0" in await kinds(app)


# -- asking for the result --------------------------------------------------------------------------------------------


async def test_a_result_that_does_not_come_in_time_says_how_the_run_stands_and_the_run_goes_on() -> None:
    async with opened(GO) as app:
        run = await app.start(GO, id="r")
        await until_status(app, "r", "waiting")
        with pytest.raises(ResultTimeout, match=r"run r has no answer after 0\.01 s \(it is waiting\)"):
            await run.result(timeout_s=0.01)
        await run.signal("go", 1)
        assert await result(app) == 1


async def test_a_run_that_raised_says_what_and_where() -> None:
    async def work() -> int:
        await quick(1)
        raise KeyError("lost")

    async def step_fails() -> int:
        @hf.step
        async def breaks() -> int:
            raise OSError("down")

        return await breaks()

    one, other = flow(work), flow(step_fails)
    async with opened(one, other) as app:
        await app.start(one, id="r")
        with pytest.raises(RunFailed, match=r"run r failed.*KeyError.*lost"):
            await result(app)
        await app.start(other, id="s")
        with pytest.raises(RunFailed, match=r"run s failed at step 0.*OSError: down"):
            await result(app, "s")


async def test_many_wait_for_one_result() -> None:
    got: list[object] = []
    async with opened(GO) as app:
        run = await app.start(GO, id="r")

        async def wait() -> None:
            got.append((await run.result(timeout_s=SOON_S)).result)

        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(wait)
            await anyio.sleep(0.005)
            await run.signal("go", 7)
    assert got == [7] * 10


def test_a_script_runs_a_workflow_to_its_answer_and_finds_it_again(tmp_path: Path) -> None:
    answer = hf.run_sync(_DOUBLED, 21, store=tmp_path / "s.db", id="r")
    assert isinstance(answer, hf.Completed)
    assert answer.result == 42
    assert hf.run_sync(_DOUBLED, 21, store=tmp_path / "s.db", id="r") == answer


@hf.workflow(version="1", name="doubled in test_waits")
async def _DOUBLED(n: int) -> int:  # noqa: N802  # a workflow object
    return 2 * await quick(n)


async def test_a_parked_run_tells_everything_it_waits_for() -> None:
    """Also in groups within groups, which come apart one after the other when the run parks."""

    async def group(name: str, depth: int) -> list[object]:
        if depth == 0:
            return [await hf.signal(name)]
        found = await hf.parallel(
            hf.signal(f"{name}s"), hf.approval(f"{name}a"), hf.timeout(group(f"{name}t", depth - 1), timeout_s=3600),
            group(f"{name}g", depth - 1),
        )  # fmt: skip
        return list(found)

    async def work() -> int:
        await group("", 3)
        return 1

    def expected(name: str, depth: int) -> set[str]:
        if depth == 0:
            return {name}
        return {f"{name}s", f"{name}a"} | expected(f"{name}t", depth - 1) | expected(f"{name}g", depth - 1)

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        await until_status(app, "r", "waiting")
        waits = (await app.info("r")).waits
        assert {w.name for w in waits if w.kind in ("signal", "approval")} == expected("", 3)
        assert sum(w.kind == "timer" for w in waits) == 7


async def test_a_note_that_comes_while_deep_groups_come_apart_hides_no_other_wait() -> None:
    async def deep(depth: int) -> list[object]:
        if depth == 0:
            return [await hf.signal("deep")]
        return list(await hf.parallel(deep(depth - 1), hf.approval(f"may I do {depth}?")))

    async def work() -> list[object]:
        return list(await hf.parallel(hf.signal("go"), deep(4)))

    workflow = flow(work)
    async with opened(workflow) as app:
        for turns in range(60):
            run = await app.start(workflow, id=f"r{turns}")
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            await run.signal("go", turns)
            await until_recorded(app, "signal.completed 0.0.0", run.id)
            await app.drain()
            asked = [wait for _, wait in await app.approvals()]
            assert len(asked) == 4, f"after {turns} turns of the loop only {[w.name for w in asked]} are asked for"
            for wait in asked:
                await app.approve(wait.id, by="the boss")
            await run.signal("deep")
            assert (await result(app, run.id))[0] == turns


async def test_a_parked_run_leaves_memory() -> None:
    async with opened(GO) as app:
        await app.start(GO, id="r")
        assert app.executor is not None
        await until_status(app, "r", "waiting")
        await until(lambda: "r" not in app.executor.running)  # type: ignore[union-attr]  # asserted
        info = await app.info("r")
        assert [w.kind for w in info.waits] == ["signal"]
        assert info.worker is None


async def test_loading_needs_no_workflow_to_look_at_runs(tmp_path: Path) -> None:
    async with hf.open(tmp_path / "s.db", registry=loaded(GO)) as app:
        run = await app.start(GO, id="r")
        await run.signal("go", {"any": "thing"})
        await result(app)
    async with hf.open(tmp_path / "s.db", registry=loaded(), worker=False) as client:
        assert await result(client) == {"any": "thing"}
