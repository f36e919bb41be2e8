"""The loop: tool calls of a model as steps, failures told as failures, and bounds that end in a person's hands."""

from __future__ import annotations

from decimal import Decimal
from ipaddress import IPv4Address
from typing import Any

import anyio
import pytest

import holdfast as hf
from holdfast.errors import ModelError, RunCancelled, RunFailed, StepFailed, WorkflowDefect
from holdfast.journal.records import Budget
from holdfast.model import Message, ModelReply, ModelRequest, Text, ToolCall, ToolResult, Usage
from holdfast.testing import ScriptedModel
from holdfast.trust import Trust
from tests.agent.support import (
    AT_ONCE,
    Draft,
    agent_of,
    answer_of,
    asking,
    completed,
    look,
    outcomes,
    refused,
    says,
    stock,
    stored_messages,
    told,
)  # fmt: skip
from tests.runtime.support import SOON_S, flow, kinds, opened, result, until, until_asked


async def test_each_call_is_a_step_in_the_scope_of_the_agent() -> None:
    agent, _ = agent_of(look(), completed(sources=["c1"]))

    @hf.step
    async def before() -> None: ...

    async def handle() -> hf.Answer[Draft]:
        await before()
        return await agent.run("one")

    workflow = flow(handle)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        await result(app)
        assert await kinds(app) == [
            "run.started", "step.completed 0", "model.completed 1.0", "tool.completed 1.1", "model.completed 1.2",
            "answer.completed 1.3", "run.finished",
        ]  # fmt: skip


async def test_the_input_is_the_first_message_as_text_or_as_json() -> None:
    for given, sent in (("two, please", "two, please"), (Draft(sku="A1", quantity=2), '{"quantity":2,"sku":"A1"}')):
        agent, model = agent_of(completed())

        async def handle(agent: hf.Agent[Draft] = agent, given: object = given) -> hf.Answer[Draft]:
            return await agent.run(given)

        workflow = flow(handle)
        async with opened(workflow) as app:
            await (await app.start(workflow)).result(timeout_s=SOON_S)
        assert model.requests[0].messages == (Message("user", (Text(sent),)),)


async def until_not_asked(app: hf.App, id: str) -> None:
    with anyio.fail_after(SOON_S):
        while id in [wait.id for _, wait in await app.approvals()]:  # noqa: ASYNC110  # the store has no event to wait for
            await anyio.sleep(0.001)


# -- tool calls ------------------------------------------------------------------------------------------------------------


async def test_several_calls_in_one_message_are_made_in_order_and_all_are_told() -> None:
    calls = [look("c1"), look("c2", "Z9"), look("c3", "B2")]
    agent, model = agent_of(calls, completed())
    workflow = asking(agent)
    async with opened(workflow) as app:
        await app.start(workflow, "?", id="r")
        await result(app)
        paths = [e for e in await kinds(app) if e.startswith("tool")]
        assert paths == ["tool.completed 0.1", "tool.failed 0.2", "tool.completed 0.3"]
    assert [(r.call_id, r.name, r.ok) for r in told(model.requests[1])] == [
        ("c1", "stock", True), ("c2", "stock", False), ("c3", "stock", True),
    ]  # fmt: skip


async def test_law_8_a_failure_is_told_as_a_failure_and_the_model_goes_on() -> None:
    agent, model = agent_of(look("c1", "Z9"), refused())
    assert isinstance(await answer_of(agent), hf.Refused)
    assert told(model.requests[1]) == [ToolResult("c1", "stock", "Error: no article Z9", ok=False)]


async def test_an_unknown_tool_is_told_with_those_there_are_and_is_no_step() -> None:
    agent, model = agent_of(ToolCall("c1", "delete_all", {}), completed())
    workflow = asking(agent)
    async with opened(workflow) as app:
        await app.start(workflow, "?", id="r")
        await result(app)
        assert not [e for e in await kinds(app) if e.startswith("tool")]
        assert "delete_all" in str(await stored_messages(app))
    (failure,) = told(model.requests[1])
    assert not failure.ok
    assert failure.content == "Error: there is no tool 'delete_all'; there are: stock"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"sku": 5}, "sku: Input should be a valid string (given 5)"),
        ({}, "sku: Field required"),
        ({"sku": "A1", "colour": "red"}, "colour: Extra inputs are not permitted (given 'red')"),
        ('{"sku": ', "must be one JSON object with sku, unit (optional); they are not valid JSON"),
    ],
)
async def test_malformed_arguments_are_told_field_by_field_and_the_tool_is_not_called(
    arguments: dict[str, Any] | str, said: str
) -> None:
    called = []

    @hf.tool(effect="read", name="stock")
    async def counted(sku: str, unit: str = "piece") -> int:
        called.append(sku)
        return 1

    agent, model = agent_of(ToolCall("c1", "stock", arguments), completed(), tools=[counted])
    assert isinstance(await answer_of(agent), hf.Completed)
    (failure,) = told(model.requests[1])
    assert not failure.ok
    assert failure.content.startswith("Error: ")
    assert said in failure.content
    assert not called


async def test_calls_with_one_id_are_each_answered() -> None:
    agent, model = agent_of([look("c1"), look("c1", "B2")], completed(sources=["c1"]))
    assert isinstance(await answer_of(agent), hf.Completed)
    assert [r.content for r in told(model.requests[1])] == ["7", "0"]


@pytest.mark.parametrize(
    ("value", "kind", "read"),
    [
        (IPv4Address("10.0.0.1"), IPv4Address, '"10.0.0.1"'),
        (Decimal("1.20"), Decimal, '"1.20"'),
        ("", str, '""'),
        (None, type(None), "null"),
    ],
)
async def test_a_result_of_any_type_reaches_the_model_as_json(value: Any, kind: Any, read: str) -> None:
    async def fetch() -> Any:
        return value

    fetch.__annotations__["return"] = kind
    agent, model = agent_of(ToolCall("c1", "fetch", {}), completed(), tools=[hf.tool(effect="read")(fetch)])
    assert isinstance(await answer_of(agent), hf.Completed)
    assert told(model.requests[1]) == [ToolResult("c1", "fetch", read)]


@pytest.mark.parametrize("broken", [lambda _: None, lambda _: 1 / 0, lambda _: "\ud800"])
async def test_a_render_that_breaks_does_not_lose_the_result(broken: Any) -> None:
    @hf.tool(effect="read", render=broken)
    async def count() -> dict[str, int]:
        return {"pieces": 7}

    agent, _ = agent_of(ToolCall("c1", "count", {}), completed(), tools=[count])
    workflow = asking(agent)
    async with opened(workflow) as app:
        await app.start(workflow, "?", id="r")
        await result(app)
        assert ToolResult("c1", "count", '{"pieces":7}') in [m.parts[0] for m in await stored_messages(app)]


async def test_an_effect_that_an_agent_asks_for_waits_for_a_person_and_the_loop_goes_on() -> None:
    bought = []

    @hf.tool(effect="irreversible")
    async def buy(sku: str) -> str:
        bought.append(sku)
        return "bought"

    call = ToolCall("c1", "buy", {"sku": "A1"})
    agent, model = agent_of(call, call, completed(), tools=[buy])
    workflow = asking(agent)
    async with opened(workflow) as app:
        await app.start(workflow, "buy it", id="r", label=Trust.EXTERNAL)
        (first,) = await until_asked(app)
        await app.deny(first.id, by="a person", why="too dear")
        await until_not_asked(app, first.id)
        (second,) = await until_asked(app)
        await app.approve(second.id, by="a person")
        await result(app)
    denied = told(model.requests[1])[0]
    assert not denied.ok
    assert denied.content == "Error: a person did not approve it: too dear"
    assert told(model.requests[2]) == [ToolResult("c1", "buy", '"bought"')]
    assert bought == ["A1"]


# -- bounds ----------------------------------------------------------------------------------------------------------------


async def test_max_steps_is_ten_model_turns_unless_said_otherwise() -> None:
    agent, model = agent_of(*[look(f"c{n}") for n in range(20)])
    answer = await answer_of(agent)
    assert isinstance(answer, hf.Escalated)
    assert answer.reason == "no answer within 10 model turns"
    assert model.calls == 10


@pytest.mark.parametrize(
    ("budget", "what", "calls"),
    [
        (Budget(steps=2), "steps", 1),
        (Budget(tokens=100), "tokens", 2),
        (Budget(cost_microusd=1), "money in USD", 1),
        (Budget(time_s=0.0), "time in s", 0),
    ],
)
async def test_a_used_up_budget_escalates_and_nothing_more_is_asked(budget: Budget, what: str, calls: int) -> None:
    costly = ModelReply(
        parts=(look(),), usage=Usage(input_tokens=50, output_tokens=10), provider="openai", served_model="gpt-4.1"
    )
    agent, model = agent_of(costly, costly, costly)
    answer = await answer_of(agent, budget=budget)
    assert isinstance(answer, hf.Escalated)
    assert answer.reason == f"budget of {what}"
    assert "nothing more was issued" in answer.attached["error"]
    assert model.calls == calls


async def test_a_budget_that_ends_inside_a_tool_call_escalates_too() -> None:
    agent, model = agent_of([look("c1"), look("c2")])
    answer = await answer_of(agent, budget=Budget(steps=2))
    assert isinstance(answer, hf.Escalated)
    assert answer.reason == "budget of steps"
    assert model.calls == 1


# -- branches --------------------------------------------------------------------------------------------------------------


async def never(request: ModelRequest) -> ToolCall:
    await anyio.sleep_forever()
    raise AssertionError


async def test_an_agent_that_loses_a_race_leaves_nothing_behind() -> None:
    slow, _ = agent_of(model=ScriptedModel(never))
    quick, _ = agent_of(completed())

    async def handle() -> int:
        winner, _ = await hf.first(slow.run("?"), quick.run("?"))
        return winner

    workflow = flow(handle)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        assert await result(app) == 1
        assert [e for e in await kinds(app) if " 0.0." in e] == []


async def test_an_agent_may_be_bounded_in_time() -> None:
    agent, _ = agent_of(model=ScriptedModel(never))

    async def handle() -> str:
        try:
            return str(await hf.timeout(agent.run("?"), timeout_s=0.02))
        except hf.TimedOut:
            return "too late"

    workflow = flow(handle)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        assert await result(app) == "too late"


async def test_a_run_is_cancelled_while_its_model_thinks() -> None:
    model = ScriptedModel(never)
    agent, _ = agent_of(model=model)
    workflow = asking(agent)
    async with opened(workflow) as app:
        run = await app.start(workflow, "?", id="r")
        await until(lambda: model.calls == 1)
        await run.cancel("no longer needed")
        with pytest.raises(RunCancelled, match="no longer needed"):
            await run.result(timeout_s=SOON_S)
        assert await kinds(app) == ["run.started", "run.cancelled"]


# -- declarations ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_steps": 0},
        {"tools": [stock, stock]},
        {"model": []},
    ],
)
def test_a_declaration_that_can_not_work_is_refused_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(WorkflowDefect, match="agent desk"):
        agent_of(**wrong)


def test_an_output_that_has_no_schema_is_refused_at_once() -> None:
    class Odd:
        pass

    with pytest.raises(WorkflowDefect, match="agent desk: its output"):
        agent_of(output=Odd)


def test_a_tool_can_not_take_the_place_of_an_answer() -> None:
    @hf.tool(effect="read")
    async def answer_completed() -> int:
        return 1

    with pytest.raises(WorkflowDefect, match="answer_"):
        agent_of(tools=[answer_completed])


async def test_an_agent_runs_only_inside_a_run() -> None:
    agent, _ = agent_of(completed())
    with pytest.raises(hf.errors.UnscopedStep):
        await agent.run("?")


async def test_agents_side_by_side_keep_their_own_conversations() -> None:
    def reply(request: Any) -> ToolCall:
        return completed({"sku": request.messages[0].text, "quantity": 1})

    agent: hf.Agent[Draft] = hf.Agent("desk", model=ScriptedModel(reply), instructions="", output=Draft, retry=AT_ONCE)

    async def handle() -> list[str]:
        return [a.result.sku for a in await hf.parallel(*[agent.run(f"S{n}") for n in range(5)])]

    workflow = flow(handle)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        assert await result(app) == ["S0", "S1", "S2", "S3", "S4"]
        assert len({o.conversation for o in await outcomes(app)}) == 5


async def test_text_that_json_can_not_hold_in_a_reply_does_not_end_the_run() -> None:
    agent, _ = agent_of(says("half a \ud83d smile", look(sku="\ud800")), completed())
    workflow = asking(agent)
    async with opened(workflow) as app:
        await app.start(workflow, "?", id="r")
        await result(app)
        assert "half a ? smile" in str(await stored_messages(app))


async def test_a_model_that_breaks_its_word_leaves_a_recorded_failure() -> None:
    """Whatever a `Model` raises is the outcome of the step: a replay must not ask again and hear something else."""
    agent, model = agent_of(ConnectionError("reset"), completed(), retry=hf.Retry(attempts=1))

    async def handle() -> str:
        try:
            answer = await agent.run("?")
        except StepFailed as failed:
            return f"failed: {failed.error_type}"
        return type(answer).__name__

    workflow = flow(handle)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        assert await result(app) in ("failed: builtins.ConnectionError", "Escalated")
        assert "model.failed 0.0" in await kinds(app)
    assert model.calls == 1


async def test_a_workflow_error_beside_an_agent_stays_what_it_is() -> None:
    agent, _ = agent_of(completed())

    async def handle() -> None:
        await agent.run("?")
        raise ValueError("mine")

    workflow = flow(handle)
    async with opened(workflow) as app:
        run = await app.start(workflow)
        with pytest.raises(RunFailed, match="ValueError: mine"):
            await run.result(timeout_s=SOON_S)


async def test_a_model_error_of_the_users_own_kind_escalates_like_any_other() -> None:
    class Mine(ModelError):
        pass

    agent, _ = agent_of(Mine("here", "down"))
    answer = await answer_of(agent)
    assert isinstance(answer, hf.Escalated)
    assert answer.reason == "no model could be reached"
