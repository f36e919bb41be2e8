"""A replay of an agent run asks no model, calls no tool and gives the same answer."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

import pytest

import holdfast as hf
from holdfast.errors import HoldfastError, RunNeedsAttention
from holdfast.model import ModelReply, ModelRequest, ToolCall
from holdfast.runtime import Workflow
from holdfast.store.memory import MemoryStore
from holdfast.testing import FaultyStore, ScriptedModel, check_replay
from holdfast.testing.faults import WHEN, When
from holdfast.trust import Trust
from tests.agent.support import Draft, agent_of, completed, look, says
from tests.runtime.support import SOON_S, flow, kinds, loaded, opened, result, until_status

ANSWER = hf.Completed(result=Draft(sku="A1", quantity=2), confidence=0.95, sources=("c1",))


class Counted:
    """An agent whose model and tool count how often they are asked; what the model says depends on the conversation alone."""

    def __init__(self) -> None:
        self.model = ScriptedModel(self._reply)
        self.reads = 0

        @hf.tool(effect="read", yields=Trust.PRIMARY)
        async def stock(sku: str) -> int:
            self.reads += 1
            return 7

        agent, _ = agent_of(model=self.model, tools=[stock])

        async def handle() -> hf.Answer[Draft]:
            answer = await agent.run("two of A1", subject="customer 7")
            await hf.signal("go")
            return answer

        self.workflow = flow(handle)

    def _reply(self, request: ModelRequest) -> ModelReply | ToolCall | str:
        turn = sum(m.role == "assistant" for m in request.messages)
        said: list[ModelReply | ToolCall | str] = [
            says("let me look", look("c1"), look("c2", "B2")),
            completed({"sku": "A1", "quantity": 99}),
            "hm",
            completed(confidence=0.95, sources=["c1"]),
        ]
        return said[turn]


async def test_a_replay_asks_no_model_and_calls_no_tool_and_gives_the_same_answer() -> None:
    store = MemoryStore()
    first = Counted()
    async with opened(first.workflow, store=store) as app:
        run = await app.start(first.workflow, id="r", label=Trust.PRIMARY)
        await until_status(app, run.id, "waiting")
    assert (first.model.calls, first.reads) == (4, 2)
    again = Counted()
    async with opened(again.workflow, store=store) as app:
        await app.run("r").signal("go")
        assert await app.result("r", timeout_s=SOON_S) == ANSWER
        assert (await app.info("r")).label.confidence == 0.95
    assert (again.model.calls, again.reads) == (0, 0)
    third = Counted()
    replay = await check_replay(store, "r", registry=loaded(third.workflow))
    assert (third.model.calls, third.reads) == (0, 0)
    assert [a.path for a in replay.asked if a.kind == "model"] == ["0.0", "0.3", "0.4", "0.5"]


@pytest.mark.parametrize("when", WHEN)
async def test_law_1_a_crash_at_any_write_loses_no_turn_and_redoes_at_most_the_one_that_was_under_way(
    when: When,
) -> None:
    for at in itertools.count(1):
        counted = Counted()
        store = FaultyStore(MemoryStore(), at=at, when=when)
        async with opened(counted.workflow, store=store) as app:
            with contextlib.suppress(HoldfastError):
                await app.start(counted.workflow, id="r", label=Trust.PRIMARY)
                await app.run("r").signal("go")
                await app.result("r", timeout_s=SOON_S)
        await store.revive()
        async with opened(counted.workflow, store=store) as app:
            run = await app.start(counted.workflow, id="r", label=Trust.PRIMARY)
            await run.signal("go", key="go again")
            assert await run.result(timeout_s=SOON_S) == ANSWER
            assert [e for e in await kinds(app) if e.startswith("model")] == [
                f"model.completed {path}" for path in ("0.0", "0.3", "0.4", "0.5")
            ]
            assert (await app.verify()).ok
        assert counted.model.calls <= 5
        assert counted.reads <= 3
        if not store.fired:
            break
    assert at > 10


async def test_a_conversation_that_the_code_would_begin_differently_is_a_mismatch_and_not_asked_again() -> None:
    store = MemoryStore()

    def greeting(words: str) -> tuple[Workflow[..., Any], ScriptedModel]:
        agent, model = agent_of(completed())

        async def handle() -> hf.Answer[Draft]:
            answer = await agent.run(words)
            await hf.signal("go")
            return answer

        return flow(handle), model

    workflow, _ = greeting("hello")
    async with opened(workflow, store=store) as app:
        run = await app.start(workflow, id="r")
        await until_status(app, run.id, "waiting")
    workflow, model = greeting("good morning")
    async with opened(workflow, store=store) as app:
        await app.run("r").signal("go")
        with pytest.raises(RunNeedsAttention, match="another conversation"):
            await app.result("r", timeout_s=SOON_S)
    assert model.calls == 0
    workflow, model = greeting("hello")
    async with opened(workflow, store=store) as app:
        await app.resume("r")
        await result(app)
    assert model.calls == 0


async def test_a_fork_of_an_agent_run_asks_the_model_from_the_step_that_is_named() -> None:
    store = MemoryStore()
    first = Counted()
    async with opened(first.workflow, store=store) as app:
        run = await app.start(first.workflow, id="r", label=Trust.PRIMARY)
        await run.signal("go")
        await result(app)
    again = Counted()
    async with opened(again.workflow, store=store) as app:
        fork = await app.fork("r", at="0.3")
        await fork.signal("go")
        assert await fork.result(timeout_s=SOON_S) == ANSWER
    assert [m.role for m in again.model.requests[0].messages] == ["user", "assistant", "tool", "tool"]
    assert (again.model.calls, again.reads) == (3, 0)


async def test_a_tool_call_of_an_agent_is_made_once_though_the_run_is_replayed() -> None:
    store = MemoryStore()
    made: list[str] = []

    @hf.tool(effect="idempotent")
    async def reserve(sku: str) -> str:
        made.append(sku)
        return "reserved"

    call = ToolCall("c1", "reserve", {"sku": "A1"})

    def waiting() -> Workflow[..., Any]:
        agent, _ = agent_of(call, completed(), tools=[reserve])

        async def handle() -> hf.Answer[Draft]:
            answer = await agent.run("?")
            await hf.signal("go")
            return answer

        return flow(handle)

    workflow = waiting()
    for _ in range(3):
        workflow = waiting()
        async with opened(workflow, store=store) as app:
            run = await app.start(workflow, id="r")
            await until_status(app, run.id, "waiting")
    async with opened(workflow, store=store) as app:
        await app.run("r").signal("go")
        await result(app)
    assert made == ["A1"]


async def test_a_tool_that_gained_an_optional_argument_still_replays() -> None:
    store = MemoryStore()

    @hf.tool(effect="read", name="stock")
    async def before(sku: str) -> int:
        return 7

    @hf.tool(effect="read", name="stock")
    async def after(sku: str, unit: str = "piece") -> int:
        raise AssertionError("it is recorded")

    def waiting(tool: hf.tools.Tool[..., int]) -> Workflow[..., Any]:
        agent, _ = agent_of(look("c1"), completed(), tools=[tool])

        async def handle() -> hf.Answer[Draft]:
            answer = await agent.run("?")
            await hf.signal("go")
            return answer

        return flow(handle)

    workflow = waiting(before)
    async with opened(workflow, store=store) as app:
        run = await app.start(workflow, id="r")
        await until_status(app, run.id, "waiting")
    workflow = waiting(after)
    async with opened(workflow, store=store) as app:
        await app.run("r").signal("go")
        await result(app)
