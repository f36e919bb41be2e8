"""Bounds: budgets, concurrency, retries and time-outs of steps, clocks that jump."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Any

import anyio
import pytest

import holdfast as hf
from holdfast.errors import HoldfastError, RunFailed, RunNeedsAttention, StepFailed, TimedOut, WorkflowDefect
from holdfast.journal.records import Attempt
from holdfast.model import ModelReply, ToolCall, Usage
from holdfast.store.memory import MemoryStore
from holdfast.testing import FaultyStore, ScriptedModel, VirtualClock, check_replay
from holdfast.testing.faults import WHEN
from tests.runtime.support import flow, kinds, opened, result, until, until_over, until_recorded, until_status


@hf.step
async def quick(n: int) -> int:
    return n


# -- budgets ----------------------------------------------------------------------------------------------------------


async def three_steps() -> list[int]:
    return [await quick(n) for n in range(3)]


@pytest.mark.parametrize(("steps", "ends"), [(1, "escalated"), (2, "escalated"), (3, "completed"), (4, "completed")])
async def test_a_budget_of_steps_ends_the_run_with_a_person(steps: int, ends: str) -> None:
    workflow = flow(three_steps, budget=hf.Budget(steps=steps))
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        answer = await app.result("r")
        assert (await app.info("r")).outcome == ends
        if isinstance(answer, hf.Escalated):
            assert answer.reason == "budget of steps"
            assert "run r" in answer.attached["error"]
        assert len([k for k in await kinds(app) if k.startswith("step.completed")]) == min(steps, 3)
        await check_replay(app, "r")


async def test_a_budget_is_the_same_however_often_the_run_is_resumed() -> None:
    async def work() -> list[int]:
        await hf.patched("a change")
        await hf.parallel(quick(1), quick(2))
        await hf.first(quick(3), hf.sleep(1000))
        with contextlib.suppress(StepFailed):
            await fails(1)
        await hf.now()
        return [await quick(n) for n in range(5)]

    @hf.step
    async def fails(n: int) -> int:
        raise ValueError

    workflow = flow(work, budget=hf.Budget(steps=9))
    straight = MemoryStore()
    async with opened(workflow, store=straight) as app:
        await app.start(workflow, id="r")
        answer = await app.result("r")
        assert isinstance(answer, hf.Escalated)
        done = {k for k in await kinds(app) if ".completed" in k or ".failed" in k}
    for when in WHEN:
        for at in range(2, 14):
            store = FaultyStore(MemoryStore(), at=at, when=when)
            async with opened(workflow, store=store) as app:
                with contextlib.suppress(HoldfastError):
                    await app.start(workflow, id="r")
                await until_over(app, store)
            await store.revive()
            async with opened(workflow, store=store) as app:
                again = await app.result("r", timeout_s=5)
                assert isinstance(again, hf.Escalated)
                resumed = {k for k in await kinds(app) if ".completed" in k or ".failed" in k}
                assert resumed == done, f"crash {when} write {at}"


def talker(replies: list[ModelReply]) -> Any:
    agent: hf.Agent[int] = hf.Agent("desk", model=ScriptedModel(replies), instructions="", output=int)

    async def work() -> hf.Answer[int]:
        return await agent.run("go")

    return work


LOOK = ToolCall("1", "nothing", {})
ANSWER = ToolCall("2", "answer_completed", {"result": 1, "confidence": 0.5})


@pytest.mark.parametrize(("tokens", "ends"), [(100, "escalated"), (101, "completed")])
async def test_a_budget_of_tokens_stops_before_the_next_call(tokens: int, ends: str) -> None:
    usage = Usage(input_tokens=60, output_tokens=40)
    work = talker([ModelReply(parts=(LOOK,), usage=usage), ModelReply(parts=(ANSWER,), usage=usage)])
    workflow = flow(work, budget=hf.Budget(tokens=tokens))
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        answer = await app.result("r")
        assert (await app.info("r")).outcome == ends
        if isinstance(answer, hf.Escalated):
            assert answer.reason == "budget of tokens"
        await check_replay(app, "r")


async def test_a_budget_of_money_counts_micro_dollars_and_says_dollars() -> None:
    usage = Usage(input_tokens=1_000_000, output_tokens=0)
    reply = ModelReply(parts=(LOOK,), usage=usage, provider="openai", served_model="gpt-4.1")
    workflow = flow(talker([reply, reply]), budget=hf.Budget(cost_microusd=1_000_000))
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        answer = await app.result("r")
        assert isinstance(answer, hf.Escalated)
        assert answer.reason == "budget of money in USD"
        assert "of 1)" in answer.attached["error"]


async def test_a_budget_of_time_counts_waits_too() -> None:
    clock = VirtualClock()

    async def work() -> int:
        await hf.signal("go")
        return await quick(1)

    workflow = flow(work, budget=hf.Budget(time_s=60))
    async with opened(workflow, clock=clock) as app:
        run = await app.start(workflow, id="r")
        await until_status(app, "r", "waiting")
        clock.jump(61)
        await run.signal("go")
        answer = await app.result("r")
        assert isinstance(answer, hf.Escalated)
        assert answer.reason == "budget of time in s"


async def test_a_budget_of_the_start_comes_before_that_of_the_declaration() -> None:
    workflow = flow(three_steps, budget=hf.Budget(steps=100))
    async with opened(workflow) as app:
        await app.start(workflow, id="r", budget=hf.Budget(steps=1))
        assert isinstance(await app.result("r"), hf.Escalated)


async def test_a_budget_that_is_used_up_in_a_branch_ends_the_run_the_same_way() -> None:
    async def work() -> list[int]:
        return list(await hf.parallel(*(quick(n) for n in range(5)), limit=1))

    workflow = flow(work, budget=hf.Budget(steps=2))
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        answer = await app.result("r")
        assert isinstance(answer, hf.Escalated)
        assert answer.reason == "budget of steps"
        await check_replay(app, "r")


async def test_a_workflow_may_see_that_its_budget_is_used_up_and_answer_itself() -> None:
    from holdfast.errors import BudgetExceeded

    async def work() -> hf.Answer[list[int]]:
        try:
            return hf.Completed(result=await three_steps())
        except BudgetExceeded as exceeded:
            return hf.Refused(missing=exceeded.what, ask="the boss")

    workflow = flow(work, budget=hf.Budget(steps=1))
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        answer = await app.result("r")
        assert answer == hf.Refused(missing="steps", ask="the boss")
        await check_replay(app, "r")


# -- concurrency ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 3])
async def test_no_more_runs_are_in_memory_than_the_app_may_hold(limit: int) -> None:
    running, most = 0, 0

    @hf.step
    async def counted(n: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await anyio.sleep(0.002)
        running -= 1
        return n

    async def work(n: int) -> int:
        return await counted(n)

    workflow = flow(work)
    async with opened(workflow, max_concurrent=limit) as app:
        async with anyio.create_task_group() as group:
            for n in range(12):
                group.start_soon(partial(app.start, workflow, n, id=f"r{n}"))
        for n in range(12):
            assert await result(app, f"r{n}") == n
    assert most == limit


async def test_runs_that_wait_take_nobodys_place() -> None:
    async def work(n: int) -> object:
        return await hf.signal("go")

    workflow = flow(work)
    async with opened(workflow, max_concurrent=1) as app:
        runs = [await app.start(workflow, n, id=f"r{n}") for n in range(5)]
        for run in runs:
            await until_status(app, run.id, "waiting")
        for run in reversed(runs):
            await run.signal("go", run.id)
        for run in runs:
            assert await result(app, run.id) == run.id


async def test_a_parent_and_its_child_do_not_starve_each_other() -> None:
    async def child() -> int:
        return await quick(1)

    child_flow = flow(child)

    async def parent() -> int:
        return int((await hf.subrun(child_flow)).result)

    workflow = flow(parent)
    async with opened(workflow, child_flow, max_concurrent=1) as app:
        for n in range(3):
            await app.start(workflow, id=f"r{n}")
        for n in range(3):
            assert await result(app, f"r{n}") == 1


# -- steps ------------------------------------------------------------------------------------------------------------


async def test_a_step_is_tried_again_as_declared_and_each_failure_is_recorded() -> None:
    tries: list[int] = []

    @hf.step(retry=hf.Retry(attempts=3, on=(OSError,), base_s=0.001))
    async def fragile() -> int:
        tries.append(1)
        if len(tries) < 3:
            raise OSError("down")
        return len(tries)

    async def work() -> int:
        return await fragile()

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        assert await result(app) == 3
        attempts = [e.payload(Attempt) for e in await app.events("r") if e.kind == "step.attempt"]
        assert [(a.n, a.fault) for a in attempts] == [(1, "error"), (2, "error")]
        assert all(0 <= a.delay_s <= 0.002 for a in attempts)
        await check_replay(app, "r")


async def test_a_step_that_is_not_to_be_tried_again_fails_at_once() -> None:
    tries: list[int] = []

    @hf.step(retry=hf.Retry(attempts=3, on=(OSError,), base_s=0.0))
    async def fragile() -> int:
        tries.append(1)
        raise KeyError("no")

    async def work() -> int:
        return await fragile()

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        with pytest.raises(RunFailed, match="KeyError"):
            await result(app)
    assert tries == [1]


async def test_a_step_that_takes_too_long_is_timed_out_and_may_be_tried_again() -> None:
    tries: list[int] = []

    @hf.step(retry=hf.Retry(attempts=2, base_s=0.0), timeout_s=0.01)
    async def slow() -> int:
        tries.append(1)
        await anyio.sleep(10 if len(tries) == 1 else 0)
        return len(tries)

    @hf.step(timeout_s=0.01)
    async def always_slow() -> int:
        await anyio.sleep(10)
        return 1

    async def work() -> str:
        found = await slow()
        try:
            await always_slow()
        except TimedOut as timed_out:
            return f"{found} {timed_out.step} {timed_out.name}"
        return "in time"

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        assert await result(app) == "2 1 always_slow"
        attempts = [e.payload(Attempt).fault for e in await app.events("r") if e.kind == "step.attempt"]
        assert attempts == ["timeout"]
        await check_replay(app, "r")


async def test_a_step_may_be_a_plain_function_and_runs_beside_the_loop() -> None:
    import threading

    @hf.step  # type: ignore[arg-type]  # sync functions work, though the types ask for async
    def blocking(n: int) -> str:
        return f"{n} {threading.current_thread() is threading.main_thread()}"

    async def work() -> str:
        return str(await blocking(1))

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        assert await result(app) == "1 False"


async def test_a_step_that_returns_something_else_than_it_says_is_a_typed_failure() -> None:
    @hf.step
    async def wrong() -> int:
        return "text"  # type: ignore[return-value]  # the case

    @hf.step
    async def no_json() -> object:
        return object()

    async def work(which: str) -> object:
        return await (wrong() if which == "wrong" else no_json())

    workflow = flow(work)
    async with opened(workflow) as app:
        for which in ("wrong", "no json"):
            id = which.replace(" ", "-")
            await app.start(workflow, which, id=id)
            with pytest.raises(RunFailed, match=rf"run {id}.*step 0"):
                await result(app, id)


async def test_an_error_that_can_not_be_shown_is_recorded_all_the_same() -> None:
    class Unshowable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("not even this")

    @hf.step
    async def fails() -> int:
        raise Unshowable

    async def work() -> int:
        return await fails()

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        with pytest.raises(RunFailed, match=r"run r failed at step 0.*Unshowable"):
            await result(app)
        assert await kinds(app) == ["run.started", "step.failed 0", "run.failed"]


async def test_wrong_calls_of_a_step_fail_like_calls_of_a_function() -> None:
    async def work() -> str:
        try:
            await quick("x", "y")  # type: ignore[call-arg,arg-type]  # the case
        except StepFailed as failed:
            return failed.error_type
        return "called"

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        assert await result(app) == "builtins.TypeError"


# -- clocks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump_s", [-3600.0, 3600.0, 1e6])
async def test_a_wall_clock_that_jumps_loses_no_run_and_hangs_none(jump_s: float) -> None:
    clock = VirtualClock()

    async def work() -> str:
        before = await hf.now()
        await quick(1)
        await hf.signal("jumped")
        await hf.sleep(10)
        after = await hf.now()
        return f"{(after - before).total_seconds():.0f}"

    workflow = flow(work)
    async with opened(workflow, clock=clock) as app:
        run = await app.start(workflow, id="r")
        await until_status(app, "r", "waiting")
        clock.jump(jump_s)
        await run.signal("jumped")
        await until_recorded(app, "timer.waiting 3")
        await until_status(app, "r", "waiting")
        clock.jump(10)
        assert await result(app) == f"{jump_s + 10:.0f}"
        report = await app.verify()
        assert report.ok, report.problems


async def test_a_timer_that_a_jump_back_made_far_is_due_when_its_moment_comes() -> None:
    clock = VirtualClock()

    async def work() -> int:
        await hf.sleep(10)
        return 1

    workflow = flow(work)
    async with opened(workflow, clock=clock) as app:
        await app.start(workflow, id="r")
        await until_status(app, "r", "waiting")
        clock.jump(-3600)
        await anyio.sleep(0.03)
        assert (await app.info("r")).status == "waiting"
        clock.jump(3611)
        assert await result(app) == 1


async def test_a_time_without_a_zone_is_refused() -> None:
    from datetime import UTC, datetime

    async def naive() -> int:
        await hf.sleep_until(datetime(2030, 1, 1))  # noqa: DTZ001  # the case
        return 1

    async def aware() -> int:
        await hf.sleep_until(datetime(2020, 1, 1, tzinfo=UTC))
        return 1

    one, other = flow(naive), flow(aware)
    async with opened(one, other) as app:
        await app.start(one, id="naive")
        with pytest.raises(RunNeedsAttention, match="aware datetime"):
            await app.result("naive", timeout_s=5)
        await app.start(other, id="aware")
        assert await result(app, "aware") == 1


# -- ids and inputs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", ["", "a b", "a\nb", "x" * 201, "\ud800", "tab\t"])
async def test_an_id_that_would_make_trouble_is_refused(id: str) -> None:
    workflow = flow(three_steps)
    async with opened(workflow) as app:
        with pytest.raises(WorkflowDefect, match="nothing was started"):
            await app.start(workflow, id=id)
        assert list(await app.runs()) == []


async def test_an_input_that_does_not_fit_is_refused_before_anything_is_stored() -> None:
    async def work(n: int, name: str = "x") -> int:
        return n

    workflow = flow(work)
    async with opened(workflow) as app:
        for wrong in ((), ("text",), (1, 2), (1, "a", "b"), (object(),)):
            with pytest.raises(HoldfastError, match=r"run r, step start.*work"):
                await app.start(workflow, *wrong, id="r")
        assert list(await app.runs()) == []
        await app.start(workflow, 1, id="r")
        assert await result(app) == 1


async def test_many_runs_of_many_steps_all_come_to_their_answers() -> None:
    async def work(n: int) -> int:
        return sum(await hf.parallel(*(quick(n) for _ in range(3)))) + await quick(1)

    workflow = flow(work)
    async with opened(workflow) as app:
        for n in range(100):
            await app.start(workflow, n, id=f"r{n}")
        await app.drain()
        await until(lambda: True)
        for n in range(100):
            assert await result(app, f"r{n}") == 3 * n + 1
        report = await app.verify()
        assert report.ok
        assert report.runs == 100
