"""What the tests of agents share: one tool, one output type, and short words for what a model says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, Field

import holdfast as hf
from holdfast.errors import ModelError
from holdfast.journal import conversation
from holdfast.journal.records import Budget, ModelOutcome
from holdfast.model import Message, ModelReply, ModelRequest, Part, Text, ToolCall, ToolResult
from holdfast.runtime import Workflow
from holdfast.testing import ScriptedModel
from holdfast.trust import Trust
from tests.runtime.support import SOON_S, flow, opened

AT_ONCE = hf.Retry(attempts=3, on=(ModelError,), base_s=0.0)
"""As the default retry of model calls, without the pauses."""

IN_STOCK = {"A1": 7, "B2": 0}


class Draft(BaseModel):
    sku: str
    quantity: Annotated[int, Field(ge=1, le=10)]


@hf.tool(effect="read", yields=Trust.PRIMARY, definite=(LookupError,))
async def stock(sku: str, unit: str = "piece") -> int:
    """How much of an article is in stock.

    Args:
        sku: Number of the article.
        unit: What is counted.
    """
    if sku not in IN_STOCK:
        raise LookupError(f"no article {sku}")
    return IN_STOCK[sku]


def look(id: str = "c1", sku: str = "A1", **others: Any) -> ToolCall:
    return ToolCall(id, "stock", {"sku": sku, **others})


def completed(
    result: Any = None, *, confidence: float = 0.8, sources: Sequence[str] = (), id: str = "end", **others: Any
) -> ToolCall:
    given = {"sku": "A1", "quantity": 2} if result is None else result
    said = {"result": given, "confidence": confidence, "sources": list(sources), **others}
    return ToolCall(id, "answer_completed", said)


def clarify(*framings: str, question: str = "which one?", id: str = "ask") -> ToolCall:
    return ToolCall(id, "answer_clarify", {"question": question, "framings": list(framings or ("one", "two"))})


def refused() -> ToolCall:
    return ToolCall("end", "answer_refused", {"missing": "leave to pay", "ask": "accounting"})


def says(*parts: Part | str) -> ModelReply:
    """One message with text and calls."""
    return ModelReply(parts=tuple(Text(p) if isinstance(p, str) else p for p in parts))


def agent_of(*replies: Any, **options: Any) -> tuple[hf.Agent[Draft], ScriptedModel]:
    """An agent that drafts orders, and the model that follows the script."""
    model = ScriptedModel(list(replies))
    settings = {"instructions": "Draft the order.", "tools": [stock], "output": Draft, "retry": AT_ONCE, **options}
    return hf.Agent("desk", model=settings.pop("model", model), **settings), model


def asking(agent: hf.Agent[Draft], *, subject: str | None = None, budget: Budget | None = None) -> Workflow[..., Any]:
    """A workflow that is one run of the agent."""

    async def handle(mail: str) -> hf.Answer[Draft]:
        return await agent.run(mail, subject=subject)

    return flow(handle, budget=budget)


async def answer_of(agent: hf.Agent[Draft], *, budget: Budget | None = None) -> hf.Answer[Draft]:
    """What the agent answers to a mail, in a run of its own."""
    workflow = asking(agent, budget=budget)
    async with opened(workflow) as app:
        run = await app.start(workflow, "two of A1, please", label=Trust.PRIMARY)
        return await run.result(timeout_s=SOON_S)


def told(request: ModelRequest) -> list[ToolResult]:
    """The tool results that a request ends with."""
    found: list[ToolResult] = []
    for message in reversed(request.messages):
        results = [part for part in message.parts if isinstance(part, ToolResult)]
        if not results:
            break
        found[:0] = results
    return found


def last_text(request: ModelRequest) -> str:
    return request.messages[-1].text


async def outcomes(app: hf.App, run: str = "r") -> list[ModelOutcome]:
    return [e.payload(ModelOutcome) for e in await app.events(run) if e.kind == "model.completed"]


async def stored_messages(app: hf.App, run: str = "r") -> tuple[Message, ...]:
    """The whole conversation of a run as the store has it."""
    return await conversation.read(app.store, run, (await outcomes(app, run))[-1].reply)
