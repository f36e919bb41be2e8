"""Branches: `parallel`, `first`, `timeout`, and steps called where they have no place."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import Any

import anyio
import pytest

import holdfast as hf
from holdfast.errors import (
    HoldfastError,
    RunNeedsAttention,
    StepFailed,
    TimedOut,
    ToolFailed,
    UnscopedStep,
    WorkflowDefect,
)
from holdfast.runtime import execution
from holdfast.store.memory import MemoryStore
from holdfast.testing import FaultyStore, ScriptedModel, VirtualClock, check_replay
from holdfast.testing.faults import WHEN, When
from holdfast.trust import Trust
from tests.runtime.support import (
    appends,
    crashed,
    flow,
    kinds,
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


@hf.step
async def slow(n: int) -> int:
    await anyio.sleep(30)
    return n


@hf.step
async def breaks(n: int) -> int:
    raise ValueError(f"no {n}")


# -- parallel ---------------------------------------------------------------------------------------------------------


async def test_results_come_in_the_order_of_the_arguments_whatever_the_order_in_which_they_are_done() -> None:
    @hf.step
    async def delayed(n: int) -> int:
        await anyio.sleep(0.005 * (3 - n))
        return n

    async def work() -> list[int]:
        return list(await hf.parallel(delayed(0), delayed(1), delayed(2)))

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        assert await result(app) == [0, 1, 2]
        done = [e.path for e in await app.events("r") if e.kind == "step.completed"]
        assert done == ["0.2.0", "0.1.0", "0.0.0"]
        await check_replay(app, "r")


@pytest.mark.parametrize("limit", [1, 2, 3, 10, None])
async def test_no_more_branches_run_at_once_than_the_limit(limit: int | None) -> None:
    running, most = 0, 0

    @hf.step
    async def counted(n: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await anyio.sleep(0.002)
        running -= 1
        return n

    async def work() -> list[int]:
        return list(await hf.parallel(*(counted(n) for n in range(6)), limit=limit))

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        assert await result(app) == list(range(6))
    assert most == min(limit or 6, 6)


async def test_a_limit_below_1_is_refused() -> None:
    async def work() -> int:
        await hf.parallel(quick(1), quick(2), limit=0)
        return 1

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        with pytest.raises(HoldfastError, match="limit"):
            await result(app)


async def test_nothing_in_parallel_is_nothing() -> None:
    async def work() -> int:
        nothing: tuple[int, ...] = await hf.parallel()
        return len(nothing)

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        assert await result(app) == 0


async def test_the_first_error_cancels_the_others_is_recorded_and_is_not_run_into_again() -> None:
    started: list[str] = []

    @hf.step
    async def waits() -> int:
        started.append("waits")
        await anyio.sleep(30)
        return 1

    async def work() -> str:
        try:
            await hf.parallel(waits(), breaks(2))
        except StepFailed as failed:
            await hf.signal("go")
            return f"{failed.step} {failed.caused_by(ValueError)} {failed.message}"
        return "no error"

    workflow = flow(work)
    async with opened(workflow) as app:
        run = await app.start(workflow, id="r")
        await until_status(app, "r", "waiting")
        await run.signal("go")
        live = await result(app)
        assert "no 2" in live
        await check_replay(app, "r")
    assert started == ["waits"]


async def test_a_branch_that_breaks_while_another_has_more_steps_to_do_ends_the_group_cleanly() -> None:
    async def two_steps() -> int:
        return await quick(1) + await quick(2)

    async def work() -> str:
        try:
            await hf.parallel(two_steps(), breaks(3))
        except StepFailed as failed:
            return f"failed: {failed.message}"
        return "no error"

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        assert (await result(app)).startswith("failed: ")


async def test_an_error_caught_inside_a_branch_does_not_end_the_group() -> None:
    async def careful() -> int:
        try:
            return await breaks(1)
        except StepFailed:
            return -1

    async def work() -> list[int]:
        return list(await hf.parallel(careful(), quick(2)))

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        assert await result(app) == [-1, 2]


async def test_groups_nest_and_each_step_has_the_place_that_the_program_gives_it() -> None:
    async def inner(n: int) -> list[int]:
        return list(await hf.parallel(quick(n), quick(n + 1)))

    async def work() -> list[list[int]]:
        await quick(0)
        both = await hf.parallel(inner(10), inner(20))
        await quick(1)
        return list(both)

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        assert await result(app) == [[10, 11], [20, 21]]
        paths = {e.path for e in await app.events("r") if e.kind == "step.completed"}
        assert paths == {"0", "1.0.0.0.0", "1.0.0.1.0", "1.1.0.0.0", "1.1.0.1.0", "2"}
        await check_replay(app, "r")


async def test_a_branch_goes_on_while_another_one_waits() -> None:
    async def works() -> int:
        index, _ = await hf.first(quick(1), hf.signal("never"))
        return index + await quick(5)

    async def waits() -> int:
        return int(await hf.signal("go", type=int))

    async def work() -> list[int]:
        return list(await hf.parallel(works(), waits()))

    workflow = flow(work)
    async with opened(workflow) as app:
        runs = [await app.start(workflow, id=f"run-{n}") for n in range(30)]
        for run in runs:
            await until_status(app, run.id, "waiting")
            assert "step.completed 0.0.1" in await kinds(app, run.id), "parked with work to do"
            await run.signal("go", 7)
        for run in runs:
            assert await result(app, run.id) == [5, 7]


async def test_branches_that_are_refused_leave_no_coroutine_behind(recwarn: pytest.WarningsRecorder) -> None:
    import gc

    @hf.step
    async def outer() -> int:
        calls: tuple[Any, ...] = (hf.parallel, hf.first)
        for call in calls:
            with contextlib.suppress(UnscopedStep):
                await call(quick(1), quick(2))
        with contextlib.suppress(UnscopedStep):
            await hf.timeout(quick(1), timeout_s=1)
        return 1

    async def work() -> int:
        return await outer()

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        with pytest.raises(RunNeedsAttention):
            await result(app)
    gc.collect()
    assert [w for w in recwarn if "never awaited" in str(w.message)] == []


# -- first and timeout ------------------------------------------------------------------------------------------------


async def test_the_winner_of_a_race_is_recorded_and_a_replay_runs_it_alone() -> None:
    bodies: list[str] = []

    @hf.step
    async def named(name: str, seconds: float) -> str:
        bodies.append(name)
        await anyio.sleep(seconds)
        return name

    async def work() -> str:
        index, value = await hf.first(named("slow", 30), named("fast", 0.001))
        await hf.signal("go")
        return f"{index} {value}"

    workflow = flow(work)
    async with opened(workflow) as app:
        run = await app.start(workflow, id="r")
        await until_status(app, "r", "waiting")
        await run.signal("go")
        assert await result(app) == "1 fast"
        await check_replay(app, "r")
    assert bodies == ["slow", "fast"]


async def test_a_branch_that_fails_ends_the_race_with_its_error() -> None:
    async def work() -> str:
        try:
            await hf.first(slow(1), breaks(2))
        except StepFailed as failed:
            return failed.message
        return "no error"

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        assert "no 2" in await result(app)
        await check_replay(app, "r")


async def test_a_race_needs_two() -> None:
    async def work() -> int:
        return (await hf.first(quick(1)))[1]

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        with pytest.raises(HoldfastError, match="at least two branches"):
            await result(app)


async def test_a_race_that_was_decided_before_a_crash_stays_decided() -> None:
    async def work() -> int:
        index, _ = await hf.first(quick(1), hf.sleep(3600))
        return index

    workflow = flow(work)
    for kind, path in (("step.completed", "0.0.0"), ("scope.completed", "0")):
        store = await crashed(workflow, at=appends(kind, path), when="after")
        async with opened(workflow, store=store) as app:
            assert await result(app) == 0
            await check_replay(app, "r")


async def test_a_time_out_is_raised_live_and_replayed_alike() -> None:
    seen: list[str] = []

    async def work() -> int:
        try:
            await hf.timeout(slow(1), timeout_s=0.005)
        except TimedOut as timed_out:
            seen.append(str(timed_out))
        await hf.signal("go")
        return 1

    workflow = flow(work)
    async with opened(workflow) as app:
        run = await app.start(workflow, id="r")
        await until_status(app, "r", "waiting")
        await run.signal("go")
        await result(app)
        await check_replay(app, "r")
    assert len(set(seen)) == 1
    assert "run r, step 0" in seen[0]


async def test_a_time_out_counts_on_while_no_process_runs() -> None:
    clock = VirtualClock()

    async def work() -> str:
        try:
            return str(await hf.timeout(hf.signal("go"), timeout_s=60))
        except TimedOut:
            return "too late"

    workflow = flow(work)
    store = MemoryStore()
    async with opened(workflow, store=store, clock=clock) as app:
        await app.start(workflow, id="r")
        await until_status(app, "r", "waiting")
    clock.jump(61)
    async with opened(workflow, store=store, clock=clock) as app:
        assert await result(app) == "too late"


async def test_what_is_done_in_time_is_not_timed_out_by_a_restart_after_the_time() -> None:
    clock = VirtualClock()

    async def work() -> str:
        done = await hf.timeout(quick(1), timeout_s=60)
        return f"{done} {await hf.signal('go')}"

    workflow = flow(work)
    store = MemoryStore()
    async with opened(workflow, store=store, clock=clock) as app:
        await app.start(workflow, id="r")
        await until_status(app, "r", "waiting")
    clock.jump(3600)
    async with opened(workflow, store=store, clock=clock) as app:
        await app.run("r").signal("go", "on")
        assert await result(app) == "1 on"


async def test_a_workflow_can_wait_longer_than_any_machine_stays_up() -> None:
    clock = VirtualClock()

    async def work() -> float:
        before = await hf.now()
        await hf.sleep(400 * 24 * 3600)
        return ((await hf.now()) - before).total_seconds()

    workflow = flow(work)
    store = MemoryStore()
    async with opened(workflow, store=store, clock=clock) as app:
        await app.start(workflow, id="r")
        await until_status(app, "r", "waiting")
    clock.jump(401 * 24 * 3600)
    async with opened(workflow, store=store, clock=clock) as app:
        assert await result(app) == 401 * 24 * 3600


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), 1e300])
async def test_a_sleep_that_makes_no_sense_is_refused(seconds: float) -> None:
    async def work() -> int:
        await hf.sleep(seconds)
        return 1

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        with pytest.raises(HoldfastError, match=r"needs a person: hf\.sleep"):
            await result(app)


# -- effects in branches that end -------------------------------------------------------------------------------------


@hf.tool(effect="irreversible", needs=Trust.EXTERNAL, timeout_s=20)
async def hangs(n: int) -> int:
    await anyio.sleep(20)
    return n


@pytest.fixture
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patched because nobody should wait five seconds for what is a number in one place."""
    monkeypatch.setattr(execution, "GRACE_S", 0.02)


@hf.step
async def after_a_moment(n: int) -> int:
    await anyio.sleep(0.01)
    return n


@hf.step
async def breaks_after_a_moment(n: int) -> int:
    await anyio.sleep(0.01)
    raise ValueError("no")


@pytest.mark.usefixtures("short_grace")
async def test_an_effect_that_is_out_when_its_branch_loses_is_in_doubt_and_a_person_is_asked_before_the_run_ends() -> (
    None
):
    async def work() -> int:
        return (await hf.first(hangs(1), after_a_moment(2)))[0]

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        (wait,) = await until_asked(app)
        await until_status(app, "r", "in_doubt")
        await app.settle(wait.id, "happened", result=1, by="the clerk")
        assert await result(app) == 1
        report = await app.verify()
        assert report.ok, report.problems


@pytest.mark.usefixtures("short_grace")
async def test_an_effect_that_is_out_when_another_branch_fails_is_said_to_be_in_doubt() -> None:
    async def work() -> int:
        await hf.parallel(hangs(1), breaks_after_a_moment(2))
        return 1

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        await until_status(app, "r", "failed", "in_doubt")
        assert "tool.doubt 0.0.0" in await kinds(app)
        if (await app.info("r")).status == "failed":
            with pytest.raises(HoldfastError, match="IN DOUBT"):
                await result(app)
        else:
            assert await app.approvals()


@pytest.mark.usefixtures("short_grace")
async def test_an_effect_that_is_out_when_the_run_is_cancelled_is_said_to_be_in_doubt() -> None:
    async def work() -> int:
        return await hangs(1)

    workflow = flow(work)
    async with opened(workflow) as app:
        run = await app.start(workflow, id="r")
        await until_recorded(app, "tool.intent 0")
        await anyio.sleep(0.01)
        await run.cancel("not wanted")
        with pytest.raises(HoldfastError, match=r"not wanted.*IN DOUBT.*hangs at step 0"):
            await result(app)


async def test_an_effect_that_answers_within_the_grace_time_is_recorded_though_its_branch_lost() -> None:
    answered = anyio.Event()

    @hf.tool(effect="irreversible", needs=Trust.EXTERNAL)
    async def takes_a_little(n: int) -> int:
        await answered.wait()
        return n

    @hf.step
    async def lets_it_answer(n: int) -> int:
        await anyio.sleep(0.005)
        asyncio.get_running_loop().call_later(0.02, answered.set)
        return n

    async def work() -> str:
        return str(await hf.first(takes_a_little(1), lets_it_answer(2)))

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        assert await result(app) in ("(1, 2)", "(0, 1)")
        events = await kinds(app)
        assert "tool.completed 0.0.0" in events
        assert "tool.doubt 0.0.0" not in events
        await check_replay(app, "r")


async def test_a_worker_that_leaves_lets_an_effect_that_is_out_answer_first() -> None:
    answered = anyio.Event()
    calls: list[int] = []

    @hf.tool(effect="irreversible", needs=Trust.EXTERNAL)
    async def takes_a_little(n: int) -> int:
        calls.append(n)
        await answered.wait()
        return n

    async def work() -> int:
        return await takes_a_little(1)

    workflow = flow(work)
    store = MemoryStore()
    async with opened(workflow, store=store) as app:
        await app.start(workflow, id="r")
        await until(lambda: calls == [1])
        asyncio.get_running_loop().call_later(0.02, answered.set)
    async with opened(workflow, store=store) as app:
        assert await result(app) == 1
    assert calls == [1]


@pytest.mark.usefixtures("short_grace")
async def test_an_effect_that_does_not_answer_a_leaving_worker_is_decided_by_the_next_one() -> None:
    calls: list[str] = []

    @hf.tool(effect="keyed")
    async def hangs_once(n: int, *, key: hf.IdempotencyKey) -> int:
        calls.append(key)
        if len(calls) == 1:
            await anyio.sleep(20)
        return n

    async def work() -> int:
        return await hangs_once(1)

    workflow = flow(work)
    store = MemoryStore()
    async with opened(workflow, store=store) as app:
        await app.start(workflow, id="r")
        await until(lambda: len(calls) == 1)
    async with opened(workflow, store=store) as app:
        assert await result(app) == 1
        assert "tool.doubt 0" not in await kinds(app)
    assert len(set(calls)) == 1
    assert len(calls) == 2


# -- steps where they have no place -----------------------------------------------------------------------------------


async def attention(work: Any, match: str, *, fixed: Any = None) -> None:
    """The run goes to a person, and goes on once the code is right."""
    workflow = flow(work, name="work")
    store = MemoryStore()
    async with opened(workflow, store=store) as app:
        await app.start(workflow, id="r")
        with pytest.raises(RunNeedsAttention, match=match):
            await app.result("r", timeout_s=5)
        assert (await app.info("r")).status == "attention"
    if fixed is None:
        return
    async with opened(flow(fixed, name="work"), store=store) as app:
        await app.resume("r")
        assert await result(app) == 1


async def fixed_two_steps() -> int:
    await quick(1)
    return 1


@pytest.mark.parametrize("how", ["gather", "create_task", "task group", "wait_for"])
async def test_a_step_from_a_task_that_does_not_own_the_scope_stops_the_run_and_names_parallel(how: str) -> None:
    async def work() -> int:
        match how:
            case "gather":
                await asyncio.gather(quick(1), return_exceptions=True)
            case "create_task":
                task = asyncio.create_task(quick(1))
                await asyncio.wait([task])
                assert task.exception() is not None
            case "task group":
                async with anyio.create_task_group() as group:
                    group.start_soon(quick, 1)
            case _:
                await asyncio.wait_for(quick(1), 5)
        return 1

    await attention(work, "does not own the scope.*hf.parallel", fixed=fixed_two_steps)


async def test_a_step_inside_the_body_of_another_stops_the_run_and_is_not_decided_by_it() -> None:
    @hf.step(name="quick")
    async def outer(n: int) -> int:
        return await quick(n)

    async def work() -> int:
        return await outer(1)

    await attention(work, "inside the body of quick", fixed=fixed_two_steps)


async def test_a_step_inside_the_body_of_a_tool_stops_the_run() -> None:
    @hf.tool(effect="read")
    async def outer(n: int) -> int:
        return await quick(n)

    async def work() -> int:
        return await outer(1)

    await attention(work, "inside the body of outer")


async def test_a_step_under_a_bare_cancel_scope_with_a_deadline_stops_the_run() -> None:
    async def work() -> int:
        with anyio.move_on_after(30):
            await quick(1)
        return 1

    await attention(work, "bare cancel scope", fixed=fixed_two_steps)


@pytest.mark.parametrize(
    "what", ["step", "tool", "sleep", "signal", "approval", "reply", "retry pause", "endorse", "subrun", "model"]
)
@pytest.mark.parametrize("how", ["anyio", "asyncio"])
async def test_a_cancel_scope_of_the_users_own_that_fires_around_a_step_stops_the_run(what: str, how: str) -> None:
    @hf.tool(effect="read")
    async def hanging_read(n: int) -> int:
        await anyio.sleep(30)
        return n

    @hf.step(retry=hf.Retry(attempts=2, base_s=60, max_s=60))
    async def breaks_and_pauses(n: int) -> int:
        raise ValueError

    @hf.runtime.validator(version="1")
    async def validates(n: int) -> bool:
        await anyio.sleep(30)
        return True

    async def child() -> object:
        return await hf.signal("never")

    child_flow = flow(child)

    async def never(request: object) -> str:
        await anyio.sleep(30)
        return ""

    agent: hf.Agent[int] = hf.Agent("desk", model=ScriptedModel(never), instructions="", output=int)
    calls: dict[str, Any] = {
        "step": lambda: slow(1),
        "tool": lambda: hanging_read(1),
        "sleep": lambda: hf.sleep(30),
        "signal": lambda: hf.signal("never"),
        "approval": lambda: hf.approval("may I?"),
        "reply": hf.reply,
        "retry pause": lambda: breaks_and_pauses(1),
        "endorse": lambda: hf.endorse(1, validates),
        "subrun": lambda: hf.subrun(child_flow),
        "model": lambda: agent.run("go"),
    }

    async def cut_short() -> None:
        if how == "asyncio":
            try:
                async with asyncio.timeout(0.01):
                    await calls[what]()
            except TimeoutError:
                pass
            return
        with anyio.CancelScope() as scope:
            asyncio.get_running_loop().call_later(0.01, scope.cancel)
            await calls[what]()

    async def work() -> int:
        await hf.parallel(cut_short(), slow_enough())  # the other branch keeps the run from being parked
        await quick(3)
        return 1

    workflow = flow(work)
    async with opened(workflow, child_flow) as app:
        await app.start(workflow, id="r")
        with pytest.raises(RunNeedsAttention, match="cancelled from outside the journal"):
            await app.result("r", timeout_s=5)


@hf.step
async def slow_enough() -> int:
    await anyio.sleep(0.05)
    return 1


async def test_a_scope_of_the_users_own_that_does_not_fire_is_nobodys_business() -> None:
    async def work() -> int:
        found = []
        with anyio.CancelScope():
            found.append(await quick(1))
        return found[0]

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        assert await result(app) == 1


async def test_a_step_or_tool_outside_a_run_says_so() -> None:
    @hf.tool(effect="read")
    async def read(n: int) -> int:
        return n

    calls: tuple[Any, ...] = (quick(1), read(1), hf.now(), hf.sleep(1), hf.signal("s"), hf.parallel(), hf.patched("x"))
    for call in calls:
        with pytest.raises(UnscopedStep, match="outside a run"):
            await call
    assert await quick.fn(1) == await read.fn(1) == 1


async def test_a_defect_can_not_be_talked_away_by_the_workflow() -> None:
    async def work() -> int:
        with contextlib.suppress(UnscopedStep):
            await asyncio.gather(quick(1))
        with contextlib.suppress(HoldfastError):
            await quick(2)
        return 1

    await attention(work, "does not own the scope")


@pytest.mark.parametrize("how", ["parks", "is cancelled", "is left"])
async def test_a_step_in_a_finally_block_does_not_run_when_the_run_parks_or_ends_from_outside(how: str) -> None:
    bodies: list[int] = []

    @hf.step
    async def cleans_up(n: int) -> int:
        bodies.append(n)
        return n

    async def work() -> int:
        try:
            return int(await hf.signal("go", type=int))
        finally:
            await cleans_up(1)

    workflow = flow(work)
    store = MemoryStore()
    async with opened(workflow, store=store) as app:
        run = await app.start(workflow, id="r")
        await until_status(app, "r", "waiting")
        if how == "is cancelled":
            await run.cancel("enough")
            await until_status(app, "r", "cancelled")
    assert bodies == []
    if how == "is cancelled":
        return
    async with opened(workflow, store=store) as app:
        await app.run("r").signal("go", 7)
        assert await result(app) == 7
        await check_replay(app, "r")
    assert bodies == [1]


async def test_the_bounds_of_a_declaration_are_checked() -> None:
    with pytest.raises(WorkflowDefect):
        hf.workflow(version="1", name="not async")(lambda: None)  # type: ignore[arg-type,return-value]  # the case

    async def work() -> int:
        await hf.patched("with.a.dot")
        return 1

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        with pytest.raises(HoldfastError, match="without dots"):
            await result(app)


async def test_a_tool_that_fails_in_a_group_keeps_its_type() -> None:
    @hf.tool(effect="read")
    async def fails(n: int) -> int:
        raise LookupError("gone")

    seen: list[str] = []

    async def work() -> int:
        try:
            await hf.parallel(fails(1), quick(2))
        except ToolFailed as failed:
            seen.append(f"{failed.tool} {failed.step} {failed.message}")
        await hf.signal("go")
        return 1

    workflow = flow(work)
    async with opened(workflow) as app:
        run = await app.start(workflow, id="r")
        await until_status(app, "r", "waiting")
        await run.signal("go")
        await result(app)
    assert set(seen) == {"fails 0.0.0 gone"}


@pytest.mark.parametrize("when", WHEN)
async def test_a_crash_at_every_write_of_a_race_over_an_effect_gives_one_effect(when: When) -> None:
    done: list[str] = []

    @hf.tool(effect="keyed")
    async def order(n: int, *, key: hf.IdempotencyKey) -> int:
        done.append(key)
        return n

    async def work() -> int:
        index, value = await hf.first(order(1), never())
        return index + value + await quick(1)

    async def never() -> int:
        await hf.sleep(3600)
        return 0

    workflow = flow(work)
    for at in itertools.count(1):
        done.clear()
        store = FaultyStore(MemoryStore(), at=at, when=when)
        async with opened(workflow, store=store) as app:
            with contextlib.suppress(HoldfastError):
                await app.start(workflow, id="r")
            await until_over(app, store)
        if not store.fired:
            break
        await store.revive()
        async with opened(workflow, store=store) as app:
            await app.start(workflow, id="r")
            assert await result(app) == 2
        assert len(set(done)) == 1
    assert at > 5
