"""Model calls as steps: decided once, tried over their routes, the same conversation after any crash."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

import pytest

import holdfast as hf
from holdfast.errors import HoldfastError, ModelError, RunNeedsAttention, StepFailed
from holdfast.journal.records import Attempt, ModelOutcome
from holdfast.model import ModelReply, ModelRequest, Text, ToolCall, ToolResult, Usage
from holdfast.store.memory import MemoryStore
from holdfast.testing import FaultyStore, ScriptedModel, check_replay
from holdfast.testing.faults import WHEN, When
from holdfast.trust import Trust
from tests.runtime.support import SOON_S, flow, kinds, opened, result, until_over, until_status

NO_PAUSE = hf.Retry(attempts=2, on=(ModelError,), base_s=0.0)


def turns(request: ModelRequest) -> int:
    """How many turns the model has had."""
    return sum(message.role == "assistant" for message in request.messages)


def completed(result: object) -> ToolCall:
    return ToolCall("answer", "answer_completed", {"result": result, "confidence": 0.5})


class Shop:
    """An agent with a read and an effect, whose script depends on the conversation alone."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.ordered: dict[str, int] = {}
        self.reads = 0

        @hf.tool(effect="read", yields=Trust.PRIMARY)
        async def stock(sku: str) -> int:
            self.reads += 1
            return 5

        @hf.tool(effect="keyed")
        async def order(sku: str, number: int, *, key: hf.IdempotencyKey) -> str:
            self.ordered[key] = self.ordered.get(key, 0) + 1
            return f"ordered {number}"

        self.model = ScriptedModel(self.script)
        self.agent: hf.Agent[str] = hf.Agent(
            "shop", model=self.model, instructions="Sell.", tools=[stock, order], output=str
        )

    def script(self, request: ModelRequest) -> Any:
        turn = turns(request)
        self.asked.append(str(turn))
        match turn:
            case 0:
                return ToolCall("1", "stock", {"sku": "A"})
            case 1:
                return ModelReply(parts=(Text("so many"), ToolCall("2", "order", {"sku": "A", "number": "two"})))
            case 2:
                return [ToolCall("3", "order", {"sku": "A", "number": 2}), ToolCall("4", "stock", {"sku": "B"})]
            case 3:
                return "I think we are done."
            case 4:
                return ToolCall("5", "answer_clarify", {"question": "wrapped?", "framings": ["yes", "no"]})
            case _:
                said = request.messages[-1].parts[0]
                assert isinstance(said, ToolResult)
                return completed(said.content)

    async def work(self) -> str:
        answer = await self.agent.run("two of A, please")
        return str(answer.result)


async def drive(shop: Shop, store: FaultyStore) -> None:
    """Start, answer the question, and go on until the answer or the crash."""
    workflow = flow(shop.work)
    async with opened(workflow, store=store) as app:
        with contextlib.suppress(HoldfastError):
            run = await app.start(workflow, id="r")
            await run.reply("yes, please", key="reply")
        await until_over(app, store)


@pytest.mark.parametrize("when", WHEN)
async def test_an_agent_comes_to_the_same_answer_whatever_write_it_crashes_at(when: When) -> None:
    straight = Shop()
    await drive(straight, FaultyStore(MemoryStore()))
    assert list(straight.ordered.values()) == [1]
    for at in itertools.count(1):
        shop = Shop()
        store = FaultyStore(MemoryStore(), at=at, when=when)
        await drive(shop, store)
        if not store.fired:
            break
        await store.revive()
        decided = [e for e in await store.rows("r", hf_run_stream()) if e.kind == "model.completed"]
        asked = len(shop.asked)
        await drive(shop, store)
        async with opened(flow(shop.work), store=store) as app:
            assert await result(app) == "The user answers: yes, please"
            await check_replay(app, "r")
            report = await app.verify()
            assert report.ok, report.problems
        assert shop.asked[asked:] == [str(n) for n in range(len(decided), 6)], "a decided call was made again"
        assert len(shop.ordered) == 1
    assert at > 12


def hf_run_stream() -> Any:
    from holdfast.store import Stream

    return Stream.RUN


async def test_the_model_is_shown_the_same_messages_live_and_resumed() -> None:
    live = Shop()
    await drive(live, FaultyStore(MemoryStore()))
    resumed = Shop()
    store = FaultyStore(MemoryStore(), at=9)
    await drive(resumed, store)
    await store.revive()
    await drive(resumed, store)
    assert resumed.model.requests[-1].messages == live.model.requests[-1].messages
    assert [m.role for m in live.model.requests[-1].messages][:3] == ["user", "assistant", "tool"]


async def test_another_conversation_under_a_run_in_flight_goes_to_a_person() -> None:
    said = ["hello"]
    agent: hf.Agent[str] = hf.Agent("shop", model=ScriptedModel(lambda _: completed("x")), instructions="", output=str)

    async def work() -> str:
        answer = await agent.run(said[0])
        await hf.signal("go")
        return str(answer.result)

    workflow = flow(work)
    store = MemoryStore()
    async with opened(workflow, store=store) as app:
        await app.start(workflow, id="r")
        await until_status(app, "r", "waiting")
    said[0] = "something else"
    async with opened(workflow, store=store) as app:
        await app.run("r").signal("go")
        with pytest.raises(RunNeedsAttention, match=r"run r, step 0\.0.*another conversation"):
            await app.result("r", timeout_s=SOON_S)
    said[0] = "hello"
    async with opened(workflow, store=store) as app:
        await app.resume("r")
        assert await result(app) == "x"


class Route:
    """A model that fails so often, then answers."""

    def __init__(self, name: str, failures: int, *, transient: bool = True) -> None:
        self.calls = 0

        def script(request: ModelRequest) -> Any:
            self.calls += 1
            if self.calls <= failures:
                return ModelError(name, f"failure {self.calls}", transient=transient)
            return completed(name)

        self.model = ScriptedModel(script, name)


def over(*routes: Route) -> Any:
    agent: hf.Agent[str] = hf.Agent(
        "desk", model=[r.model for r in routes], instructions="", output=str, retry=NO_PAUSE
    )

    async def work() -> hf.Answer[str]:
        return await agent.run("hello")

    return flow(work)


async def test_a_passing_failure_is_tried_again_on_the_same_route_and_lowers_nothing() -> None:
    route = Route("a", 1)
    workflow = over(route, Route("b", 0))
    async with opened(workflow) as app:
        await app.start(workflow, id="r", label=Trust.PRIMARY)
        assert await result(app) == "a"
        (attempt,) = [e.payload(Attempt) for e in await app.events("r") if e.kind == "model.attempt"]
        assert (attempt.via, attempt.error.message) == ("a", "route a: failure 1")
        assert (await app.info("r")).label.level is Trust.PRIMARY
        await check_replay(app, "r")


@pytest.mark.parametrize("transient", [True, False])
async def test_a_failure_that_stays_goes_to_the_next_route_which_is_degraded(transient: bool) -> None:
    first, second = Route("a", 99, transient=transient), Route("b", 0)
    workflow = over(first, second)
    async with opened(workflow) as app:
        await app.start(workflow, id="r", label=Trust.PRIMARY)
        assert await result(app) == "b"
        (outcome,) = [e.payload(ModelOutcome) for e in await app.events("r") if e.kind == "model.completed"]
        assert (outcome.route, outcome.fallback) == ("b", True)
        assert (await app.info("r")).label.level is Trust.DEGRADED
    assert first.calls == (2 if transient else 1)
    assert second.calls == 1


async def test_no_route_at_all_is_an_escalation_to_a_person_live_and_replayed() -> None:
    workflow = over(Route("a", 99), Route("b", 99))
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        answer = await app.result("r", timeout_s=SOON_S)
        assert isinstance(answer, hf.Escalated)
        assert answer.reason == "no model could be reached"
        await check_replay(app, "r")


@pytest.mark.parametrize("when", WHEN)
async def test_tries_made_before_a_crash_count(when: When) -> None:
    for at in itertools.count(2):
        first, second = Route("a", 99), Route("b", 99)
        workflow = over(first, second)
        store = FaultyStore(MemoryStore(), at=at, when=when)
        async with opened(workflow, store=store) as app:
            with contextlib.suppress(HoldfastError):
                await app.start(workflow, id="r")
            await until_over(app, store)
        if not store.fired:
            break
        await store.revive()
        async with opened(workflow, store=store) as app:
            answer = await app.result("r", timeout_s=SOON_S)
            assert isinstance(answer, hf.Escalated)
            recorded = (await kinds(app)).count("model.attempt 0.0")
        assert recorded == 4
        assert first.calls + second.calls <= 5  # the one whose record was lost is made again
    assert at > 4


async def test_what_a_call_used_is_counted_with_its_run() -> None:
    usage = Usage(input_tokens=10, output_tokens=5)
    model = ScriptedModel(lambda _: ModelReply(parts=(completed("x"),), usage=usage, served_model="m-1"))
    agent: hf.Agent[str] = hf.Agent("desk", model=model, instructions="Be kind.", output=str)

    async def work() -> str:
        return str((await agent.run("hello")).result)

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        await result(app)
        (outcome,) = [e.payload(ModelOutcome) for e in await app.events("r") if e.kind == "model.completed"]
        assert (outcome.usage, outcome.served_model, outcome.agent) == (usage, "m-1", "desk")
        assert outcome.agent_version == agent.version


def test_the_version_of_an_agent_changes_with_all_that_makes_it_up() -> None:
    @hf.tool(effect="read")
    async def stock(sku: str) -> int:
        return 1

    def agent(**changed: Any) -> str:
        settings: dict[str, Any] = {"model": ScriptedModel([], "a"), "instructions": "x", "output": str, **changed}
        return hf.Agent("desk", **settings).version

    versions = {
        agent(),
        agent(instructions="y"),
        agent(tools=[stock]),
        agent(model=ScriptedModel([], "b")),
        agent(model=[ScriptedModel([], "a"), ScriptedModel([], "b")]),
        agent(output=int),
    }
    assert len(versions) == 6
    assert agent() == agent()


async def test_a_reply_that_never_validates_escalates_within_its_turns_with_the_last_text() -> None:
    model = ScriptedModel(lambda request: completed({"not": f"a text {turns(request)}"}))
    agent: hf.Agent[str] = hf.Agent("desk", model=model, instructions="", output=str, max_steps=3)

    async def work() -> hf.Answer[str]:
        return await agent.run("hello")

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        answer = await app.result("r", timeout_s=SOON_S)
        assert isinstance(answer, hf.Escalated)
        assert answer.reason.startswith("invalid answer")
        assert "a text 2" in answer.attached["last_text"]
        assert model.calls == 3
        assert (await app.info("r")).outcome == "escalated"
        await check_replay(app, "r")


async def test_a_model_that_raises_something_else_fails_the_run_with_its_place() -> None:
    def script(request: ModelRequest) -> Any:
        raise RuntimeError("a defect of the model")

    agent: hf.Agent[str] = hf.Agent("desk", model=ScriptedModel(script), instructions="", output=str)

    async def work() -> hf.Answer[str]:
        return await agent.run("hello")

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        with pytest.raises(HoldfastError, match=r"run r.*a defect of the model"):
            await result(app)


async def test_many_agents_of_one_run_talk_each_for_itself() -> None:
    def script(request: ModelRequest) -> Any:
        part = request.messages[0].parts[0]
        assert isinstance(part, Text)
        return completed(f"{part.text} after {turns(request)}") if turns(request) else "hm"

    agent: hf.Agent[str] = hf.Agent("desk", model=ScriptedModel(script), instructions="", output=str)

    async def one(text: str) -> str:
        return str((await agent.run(text)).result)

    async def work() -> list[str]:
        return [*await hf.parallel(*(one(f"text {n}") for n in range(4))), await one("last")]

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        assert await result(app) == [*(f"text {n} after 1" for n in range(4)), "last after 1"]
        await check_replay(app, "r")


async def test_a_conversation_goes_on_over_the_turns_of_a_user() -> None:
    def script(request: ModelRequest) -> str:
        part = request.messages[-1].parts[0]
        assert isinstance(part, Text)
        return f"you said {part.text}"

    agent: hf.Agent[None] = hf.Agent("desk", model=ScriptedModel(script), instructions="", max_steps=2)

    async def work() -> list[str]:
        chat = agent.chat()
        told = [await chat.say("hello")]
        told.append(await chat.say(await hf.reply()))
        try:
            await chat.say("once more")
        except (HoldfastError, StepFailed) as over:
            told.append(type(over).__name__)
        return told

    workflow = flow(work)
    async with opened(workflow) as app:
        run = await app.start(workflow, id="r")
        await until_status(app, "r", "waiting")
        await run.reply("and goodbye")
        assert await result(app) == ["you said hello", "you said and goodbye", "BudgetExceeded"]
        await check_replay(app, "r")
