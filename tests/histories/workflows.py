"""The workflows of the recorded histories. They are a promise too: what they ask for must not change while a file holds runs of them.

They have no effect in the world and need no network: whatever differs between a recording and a replay would be Holdfast itself.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

import anyio
import anyio.lowlevel
from pydantic import BaseModel, Field

import holdfast as hf
from holdfast.errors import ModelError
from holdfast.journal.records import Budget
from holdfast.model import ModelReply, ModelRequest, ModelSettings, Text, Thinking, ToolCall, Usage
from holdfast.runtime import Registry, Workflow
from holdfast.testing import ScriptedModel
from holdfast.trust import Trust

REGISTRY = Registry()
AT_ONCE = hf.Retry(attempts=3, base_s=0.0)
NO_KEY = hf.IdempotencyKey("")
broken = {"pump"}
"""What does not work while a history is made; a replay never gets so far as to look."""


def workflow(fn: Any) -> Any:
    """Declare a workflow of the histories, and of nothing else."""
    made: Workflow[..., Any] = Workflow(
        fn, name=fn.__name__, version="1", accepts=(), success="it replays as it ran", budget=Budget(steps=1000)
    )
    REGISTRY.add(made)
    return made


# -- steps and values ------------------------------------------------------------------------------------------------------


class Part(BaseModel):
    sku: Annotated[str, hf.record("catalogue")]
    pieces: Annotated[int, Field(ge=1, le=10)]


@hf.step(retry=AT_ONCE)
async def unsteady(tries: list[int]) -> str:
    tries.append(1)
    if len(tries) < 3:
        raise ConnectionError(f"not yet: try {len(tries)}")
    return "steady"


@hf.step
async def hopeless(what: str) -> str:
    raise ValueError(f"{what} can't be done")


@hf.step(yields=Trust.EXTERNAL)
async def page(lines: int) -> list[str]:
    return [f"line {number} of a page that is long enough to be compressed" for number in range(lines)]


@workflow
async def steps(what: str) -> dict[str, Any]:
    first, second = await unsteady([]), ""
    try:
        await hopeless(what)
    except hf.StepFailed as failed:
        second = failed.error_type
    lines = await page(120)
    started = await hf.now()
    number = await hf.random()
    name = await hf.uuid()
    flag = await hf.recorded("flag", lambda: True, type=bool)
    new = await hf.patched("count-differently")
    later = started + timedelta(seconds=1)
    return {
        "first": first, "second": second, "lines": len(lines), "later": later.isoformat(), "fair": 0 <= number < 1,
        "name": len(name), "flag": flag, "new": new,
    }  # fmt: skip


# -- tools -----------------------------------------------------------------------------------------------------------------


@hf.tool(effect="read", yields=Trust.PRIMARY)
async def old_catalogue(sku: str) -> int:
    return 3


@hf.tool(effect="read", yields=Trust.PRIMARY, retry=AT_ONCE, fallback=[old_catalogue])
async def catalogue(sku: str) -> int:
    """Pieces in stock.

    Args:
        sku: Number of the article.
    """
    if sku in broken:
        raise ConnectionError("the catalogue does not answer")
    return 7


@hf.tool(effect="idempotent", retry=AT_ONCE, empty="refuse")
async def label_shelf(sku: str) -> str:
    if sku in broken and len(broken) < 2:
        broken.add("once")
        return ""
    return "labelled"


@hf.tool(effect="keyed", key_ttl_s=3600.0, definite=(LookupError,))
async def order(sku: str, pieces: int, *, key: hf.IdempotencyKey = NO_KEY) -> str:
    if sku == "none":
        raise LookupError("no such article")
    return f"{pieces} of {sku} under a key of {len(key)} characters"


@hf.tool(effect="irreversible", timeout_s=5.0)
async def post(letter: str) -> str:
    if letter in broken:
        raise ConnectionResetError("the line was cut")
    return f"posted {letter}"


@hf.tool(
    effect="irreversible",
    policy="values",
    needs=Trust.PRIMARY,
    fresh=[hf.Fresh(catalogue, within_s=3600.0)],
    escalate=lambda part: part["pieces"] > 5 if isinstance(part, dict) else part.pieces > 5,
)
async def ship(part: Part) -> str:
    return f"shipped {part.pieces} of {part.sku}"


@hf.validator(version="2")
async def in_catalogue(given: dict[str, Any]) -> Part:
    if given["sku"] == "none":
        raise hf.Rejected("no such article")
    return Part(sku=given["sku"], pieces=given["pieces"])


@workflow
async def tools(sku: str) -> list[str]:
    stock = await catalogue(sku)
    said = [f"{stock} in stock", await label_shelf(sku), await order(sku, 2)]
    try:
        await order("none", 1)
    except hf.ToolFailed as failed:
        said.append(failed.message)
    try:
        await catalogue(5)
    except hf.ToolFailed as failed:
        said.append(failed.error_type)
    try:
        await hf.endorse({"sku": "none", "pieces": 1}, in_catalogue)
    except hf.errors.EndorsementRejected as rejected:
        said.append(rejected.why)
    part = await hf.endorse({"sku": sku, "pieces": 6}, in_catalogue)
    said.append(await ship(part))
    try:
        said.append(await post("a letter nobody wants"))
    except hf.ToolFailed as failed:
        said.append(failed.message)
    return said


@workflow
async def doubtful(letter: str) -> str:
    try:
        return await post(letter)
    except hf.ToolFailed as failed:
        return f"{failed.error_type}: {failed.message}"


@workflow
async def keyed(sku: str) -> str:
    return await order(sku, 1)


# -- branches and waits ----------------------------------------------------------------------------------------------------


@hf.step
async def count(number: int) -> int:
    await anyio.lowlevel.checkpoint()
    return number


@hf.step
async def endless() -> int:
    await anyio.sleep_forever()
    return 0


@workflow
async def branches() -> list[Any]:
    async def twice(number: int) -> int:
        return await count(number) + await count(number)

    both = await hf.parallel(twice(1), twice(2))
    winner, value = await hf.first(count(3), endless())
    try:
        await hf.timeout(endless(), timeout_s=0.01)
        late = False
    except hf.TimedOut:
        late = True
    try:
        await hf.parallel(hopeless("one branch"), endless())
        failed = ""
    except hf.StepFailed as error:
        failed = error.message
    return [both, winner, value, late, failed]


@workflow
async def waits() -> list[Any]:
    await hf.sleep(60.0)
    go = await hf.signal("go", type=str)
    try:
        await hf.signal("never", timeout_s=30.0)
        late = False
    except hf.TimedOut:
        late = True
    said = await hf.reply({"question": "and now?"})
    decision = await hf.approval("go on?", {"said": said})
    return [go, late, said, decision.approved, decision.by]


# -- agents ----------------------------------------------------------------------------------------------------------------


class Draft(BaseModel):
    sku: str
    pieces: int
    unit: Literal["piece", "box"]


def _reply(*parts: Any, turn: int, priced: bool) -> ModelReply:
    """A reply with all that a provider can say of itself."""
    body = f'{{"turn": {turn}, "conversation": "{"so far and so on, " * 20 * (turn + 1)}"}}'.encode()
    return ModelReply(
        parts=parts,
        usage=Usage(input_tokens=100 * (turn + 1), output_tokens=10, cache_read_tokens=0) if priced else None,
        served_model="gpt-4.1-2025-04-14" if priced else None,
        provider="openai" if priced else None,
        finish_reason="tool_call",
        response_id=f"resp-{turn}",
        raw_request=body,
        raw_response=b'{"logprobs": [-0.1]}',
    )


def _drafting(request: ModelRequest) -> ModelReply:
    """What it says depends on the conversation alone, so that a run can go on whoever began it."""
    turn = sum(m.role == "assistant" for m in request.messages)
    answers: list[list[Any]] = [
        [Thinking("what is there?"), Text("Let me look."), ToolCall("c1", "catalogue", {"sku": "A1"}), ToolCall("c2", "nonsense", "{")],
        [ToolCall("c3", "answer_clarify", {"question": "which unit?", "framings": ["piece", "box"]})],
        [Text("As you wish.")],
        [ToolCall("c4", "answer_completed", {"result": {"sku": "A1"}, "confidence": 0.95})],
        [
            ToolCall(
                "c5",
                "answer_completed",
                {
                    "result": {"sku": "A1", "pieces": 2, "unit": "piece"}, "confidence": 0.95, "sources": ["c1"],
                    "assumptions": ["two"], "uncertainty": ["the price"],
                },
            )
        ],
    ]  # fmt: skip
    return _reply(*answers[turn], turn=turn, priced=turn != 2)


def _busy(request: ModelRequest) -> ModelReply:
    if sum(m.role == "assistant" for m in request.messages) == 1:
        raise ModelError("primary", "overloaded", status=529, transient=True)
    return _drafting(request)


def _down(request: ModelRequest) -> ModelReply:
    raise ModelError("down", "no such account", status=401)


MODELS = {
    "primary": ScriptedModel(_busy, name="primary"),
    "secondary": ScriptedModel(_drafting, name="secondary"),
    "down": ScriptedModel(_down, name="down"),
}
_RETRY = hf.Retry(attempts=2, on=(ModelError,), base_s=0.0)
desk: hf.Agent[Draft] = hf.Agent(
    "desk", model=[MODELS["primary"], MODELS["secondary"]], instructions="Draft the order.", tools=[catalogue],
    output=Draft, settings=ModelSettings(temperature=0.0, max_tokens=500), retry=_RETRY,
)  # fmt: skip
lost: hf.Agent[Draft] = hf.Agent("lost", model=MODELS["down"], instructions="", output=Draft, retry=_RETRY)


@workflow
async def drafting(mail: str) -> hf.Answer[Draft]:
    before = await hf.conclusions("customer 7")
    answer = await desk.run({"mail": mail, "before": len(before)}, subject="customer 7")
    if isinstance(await lost.run("anybody there?"), hf.Escalated):
        return answer
    return hf.Refused(missing="an escalation", ask="whoever changed it")


@workflow
async def refusing() -> hf.Answer[str]:
    return hf.Refused(missing="leave", ask="the front desk")


@workflow
async def escalating() -> hf.Answer[Draft]:
    answer = await lost.run("anybody there?")
    return hf.Completed(result=answer.result)  # it has none, so the run ends with the escalation


# -- runs of runs, and ends ------------------------------------------------------------------------------------------------


@workflow
async def child(go_on: bool) -> str:
    if not go_on:
        raise ValueError("it should not")
    return str(await hf.signal("go", type=str))


@workflow
async def parent() -> list[str]:
    said = []
    try:
        await hf.subrun(child, False)
    except hf.StepFailed as failed:
        said.append(failed.error_type)
    answer = await hf.subrun(child, True)
    said.append(answer.result)
    return said


@workflow
async def failing(what: str) -> str:
    return await hopeless(what)


@workflow
async def changing(number: int) -> int:
    first = await count(number)
    await hf.signal("go")
    return first + await count(number)
