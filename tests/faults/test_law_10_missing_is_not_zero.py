"""Law 10: missing is not zero. What was not reported is `None`, never 0, and nothing is computed from it as if it were 0."""

from __future__ import annotations

from typing import Any

import pytest

import holdfast as hf
from holdfast.journal.records import ModelOutcome
from holdfast.model import ModelReply, ToolCall, Usage
from holdfast.store import Stream
from holdfast.testing import ScriptedModel
from tests.runtime.support import flow, opened, result

ANSWER = ToolCall("1", "answer_completed", {"result": 1, "confidence": 0.5})


def workflow_of(replies: list[ModelReply], **budget: Any) -> Any:
    agent: hf.Agent[int] = hf.Agent("desk", model=ScriptedModel(replies), instructions="", output=int)

    async def work() -> hf.Answer[int]:
        return await agent.run("go")

    return flow(work, budget=hf.Budget(**budget))


async def outcomes(app: hf.App) -> list[ModelOutcome]:
    return [e.payload(ModelOutcome) for e in await app.events("r") if e.kind == "model.completed"]


@pytest.mark.parametrize(
    "reply",
    [
        ModelReply(parts=(ANSWER,)),
        ModelReply(parts=(ANSWER,), usage=Usage(input_tokens=10, output_tokens=5)),
        ModelReply(parts=(ANSWER,), usage=Usage(10, 5), provider="nobody", served_model="unheard-of"),
        ModelReply(parts=(ANSWER,), usage=Usage(10, None), provider="openai", served_model="gpt-4.1"),
    ],
)
async def test_law_10_a_cost_that_can_not_be_known_is_none(reply: ModelReply) -> None:
    workflow = workflow_of([reply])
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        await result(app)
        (outcome,) = await outcomes(app)
        assert outcome.cost_microusd is None
        rows = await app.store.rows("r", Stream.RUN)
        (row,) = [row for row in rows if row.kind == "model.completed"]
        assert row.cost_microusd is None


async def test_law_10_tokens_that_were_not_reported_are_none_and_a_reported_0_is_a_0() -> None:
    workflow = workflow_of([ModelReply(parts=(ANSWER,), usage=Usage(input_tokens=0, output_tokens=None))])
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        await result(app)
        (outcome,) = await outcomes(app)
        assert outcome.usage is not None
        assert (outcome.usage.input_tokens, outcome.usage.output_tokens) == (0, None)


async def test_law_10_a_confidence_that_nobody_stated_is_none() -> None:
    async def work() -> int:
        return 1

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        answer = await app.result("r")
        assert isinstance(answer, hf.Completed)
        assert answer.confidence is None
        assert answer.calibrated is None
        assert (await app.info("r")).label.confidence is None


async def test_law_10_a_confidence_of_0_is_a_0() -> None:
    async def work() -> hf.Answer[int]:
        return hf.Completed(result=1, confidence=0.0)

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        answer = await app.result("r")
        assert isinstance(answer, hf.Completed)
        assert answer.confidence == 0.0


async def test_law_10_a_budget_that_can_not_be_measured_is_not_taken_for_unspent() -> None:
    """An unknown price is no price of 0: after the first call nobody can say what is left, so a person takes over."""
    ask = ToolCall("1", "nothing", {})
    workflow = workflow_of([ModelReply(parts=(ask,)), ModelReply(parts=(ANSWER,))], cost_microusd=1)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        answer = await app.result("r", timeout_s=5)
        assert isinstance(answer, hf.Escalated)
        assert "unknown" in answer.reason
        assert [o.cost_microusd for o in await outcomes(app)] == [None]
