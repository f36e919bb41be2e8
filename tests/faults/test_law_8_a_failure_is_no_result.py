"""Law 8: a failed tool result never passes as a result. It is retried, falls back along the declared chain (labelled), or reaches
whoever called as a typed failure: code and models alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

import holdfast as hf
from holdfast.errors import ContractError, ToolFailed, ToolInputInvalid, ToolOutputInvalid
from holdfast.journal.records import Attempt, Outcome
from holdfast.model import ToolCall, ToolResult
from holdfast.testing import ScriptedModel, check_replay
from holdfast.trust import Trust
from tests.runtime.support import flow, kinds, opened, result, until_asked, until_status

AGAIN = hf.Retry(attempts=3, base_s=0.0)


async def times_out() -> Any:
    await anyio.sleep(10)


async def raises() -> Any:
    raise ConnectionError("refused")


async def gives_none() -> Any:
    return None


async def gives_nothing() -> Any:
    return []


async def gives_text() -> Any:
    return "no list"


async def gives_words() -> Any:
    return ["one", "two"]


async def gives_too_much() -> Any:
    return [10**6]


async def not_json() -> Any:
    return [object()]


FAULTS: dict[str, tuple[Callable[[], Any], str]] = {
    "timeout": (times_out, "timeout"),
    "error": (raises, "error"),
    "none": (gives_none, "empty"),
    "empty": (gives_nothing, "empty"),
    "wrong type": (gives_text, "malformed"),
    "wrong items": (gives_words, "malformed"),
    "implausible": (gives_too_much, "implausible"),
    "not json": (not_json, "malformed"),
}


class Sensor:
    """A tool that fails so many times, in a given way, before it answers [7]."""

    def __init__(self, fault: str, times: int, **contract: Any) -> None:
        self.calls = 0
        fail, _ = FAULTS[fault]
        effect = contract.pop("effect", "read")
        checks: dict[str, Any] = {
            "timeout_s": 0.02,
            "empty": "refuse",
            "plausible": lambda found: found[0] < 1000 or "more than there is room for",
        }

        async def numbers(n: int = 1) -> list[int]:
            self.calls += 1
            if self.calls <= times:
                bad: list[int] = await fail()
                return bad
            return [7]

        async def keyed_numbers(n: int = 1, *, key: hf.IdempotencyKey) -> list[int]:
            return await numbers(n)

        keyed = effect == "keyed"
        self.tool: Any = hf.tool(effect=effect, name="numbers", **checks, **contract)(
            keyed_numbers if keyed else numbers
        )

    async def work(self) -> str:
        try:
            return str(await self.tool())
        except ToolFailed as failed:
            return f"{type(failed).__name__} {failed.step} {failed.tool} {failed.definite} {failed.attempts}"


@pytest.mark.parametrize("fault", FAULTS)
async def test_law_8_a_fault_is_retried_as_the_contract_says_and_every_one_is_in_the_journal(fault: str) -> None:
    sensor = Sensor(fault, 2, retry=AGAIN)
    workflow = flow(sensor.work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        assert await result(app) == "[7]"
        faults = [e.payload(Attempt).fault for e in await app.events("r") if e.kind == "tool.attempt"]
        assert faults == [FAULTS[fault][1]] * 2
        assert await kinds(app) == [
            "run.started",
            "tool.attempt 0",
            "tool.attempt 0",
            "tool.completed 0",
            "run.finished",
        ]
    assert sensor.calls == 3


@pytest.mark.parametrize("fault", FAULTS)
async def test_law_8_a_fault_that_stays_is_a_typed_failure_in_code_live_and_replayed(fault: str) -> None:
    sensor = Sensor(fault, 99, retry=AGAIN)
    seen: list[str] = []

    async def work() -> int:
        seen.append(await sensor.work())
        await hf.signal("go")
        return 1

    workflow = flow(work)
    async with opened(workflow) as app:
        run = await app.start(workflow, id="r")
        await until_status(app, "r", "waiting")
        await run.signal("go")
        await result(app)
        await check_replay(app, "r")
    kind = "ToolFailed" if fault in ("timeout", "error") else "ToolOutputInvalid"
    assert set(seen) == {f"{kind} 0 numbers True 3"}
    assert sensor.calls == 3


@pytest.mark.parametrize("fault", FAULTS)
async def test_law_8_a_fault_that_stays_falls_back_along_the_chain_and_lowers_the_label(fault: str) -> None:
    @hf.tool(effect="read", yields=Trust.PRIMARY)
    async def also_broken(n: int = 1) -> list[int]:
        raise OSError("also down")

    @hf.tool(effect="read", yields=Trust.PRIMARY)
    async def cached(n: int = 1) -> list[int]:
        return [5]

    sensor = Sensor(fault, 99, fallback=[also_broken, cached], yields=Trust.PRIMARY)
    workflow = flow(sensor.work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r", label=Trust.PRIMARY)
        assert await result(app) == "[5]"
        (event,) = [e for e in await app.events("r") if e.kind == "tool.completed" and e.path == "0"]
        assert event.payload(Outcome).via == "cached"
        assert event.header.label.level is Trust.DEGRADED
        assert [c.kind for c in event.header.label.causes] == ["cached stands in for numbers"]
        await check_replay(app, "r")


async def test_law_8_a_stand_in_has_to_keep_the_contract_of_what_it_stands_in_for() -> None:
    @hf.tool(effect="read")
    async def nonsense(n: int = 1) -> list[int]:
        return [10**6]

    sensor = Sensor("error", 99, fallback=[nonsense])
    workflow = flow(sensor.work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        assert (await result(app)).startswith("ToolOutputInvalid 0 numbers")


async def test_law_8_a_domain_error_is_an_answer_that_is_neither_retried_nor_replaced() -> None:
    calls = []

    @hf.tool(effect="read")
    async def cached(sku: str) -> int:
        calls.append("cached")
        return 1

    @hf.tool(effect="read", retry=AGAIN, definite=(LookupError,), fallback=[cached])
    async def stock(sku: str) -> int:
        calls.append("stock")
        raise LookupError(f"no article {sku}")

    async def work() -> int:
        return await stock("X")

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        with pytest.raises(hf.HoldfastError, match="no article X"):
            await result(app)
    assert calls == ["stock"]


async def test_law_8_only_the_listed_errors_are_tried_again() -> None:
    calls = []

    @hf.tool(effect="read", retry=hf.Retry(attempts=3, on=(OSError,), base_s=0.0))
    async def stock(sku: str) -> int:
        calls.append(1)
        raise KeyError(sku)

    async def work() -> int:
        return await stock("X")

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        with pytest.raises(hf.HoldfastError, match="KeyError"):
            await result(app)
    assert calls == [1]


@pytest.mark.parametrize("fault", FAULTS)
async def test_law_8_an_effect_that_answered_badly_is_tried_again_under_its_key_or_is_in_doubt(fault: str) -> None:
    keyed = Sensor(fault, 2, retry=AGAIN, effect="keyed")
    once = Sensor(fault, 1, effect="irreversible", needs=Trust.EXTERNAL)
    one, other = flow(keyed.work, name="keyed"), flow(once.work, name="once")
    async with opened(one, other) as app:
        await app.start(one, id="keyed")
        assert await result(app, "keyed") == "[7]"
        await app.start(other, id="once")
        await until_status(app, "once", "in_doubt")
        (wait,) = await until_asked(app)
        _, event = await app.waiting_event(wait.id)
        assert event.kind == "tool.doubt"
    assert (keyed.calls, once.calls) == (3, 1)


async def test_law_8_a_check_that_breaks_on_a_strange_result_does_not_let_it_pass() -> None:
    @hf.tool(effect="read", plausible=lambda found: found["left"] >= 0)
    async def stock() -> dict[str, int]:
        return {"gone": 1}

    @hf.tool(effect="irreversible", needs=Trust.EXTERNAL, plausible=lambda found: found["left"] >= 0)
    async def send() -> dict[str, int]:
        return {"gone": 1}

    async def reads() -> dict[str, int]:
        return await stock()

    async def sends() -> dict[str, int]:
        return await send()

    one, other = flow(reads), flow(sends)
    async with opened(one, other) as app:
        await app.start(one, id="reads")
        with pytest.raises(hf.HoldfastError, match=r"run reads.*step 0.*stock"):
            await result(app, "reads")
        await app.start(other, id="sends")
        await until_status(app, "sends", "in_doubt")


# -- to a model -------------------------------------------------------------------------------------------------------


def agent_that_calls(tool: Any, arguments: dict[str, Any] | str) -> tuple[hf.Agent[str], list[ToolResult]]:
    """An agent that calls the tool once and ends with what it was told."""
    told: list[ToolResult] = []

    def script(request: Any) -> ToolCall:
        if len(request.messages) == 1:
            return ToolCall("call-1", tool.name, arguments)
        part = request.messages[-1].parts[0]
        assert isinstance(part, ToolResult)
        told.append(part)
        return ToolCall("call-2", "answer_completed", {"result": part.content, "confidence": 0.5})

    return hf.Agent("desk", model=ScriptedModel(script), instructions="", tools=[tool], output=str), told


@pytest.mark.parametrize("fault", FAULTS)
async def test_law_8_a_model_is_told_of_a_failure_as_a_failure(fault: str) -> None:
    sensor = Sensor(fault, 99, retry=AGAIN)
    agent, told = agent_that_calls(sensor.tool, {"n": 1})

    async def work() -> str:
        return str((await agent.run("look")).result)

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        assert (await result(app)).startswith("Error: ")
        await check_replay(app, "r")
    assert [t.ok for t in told] == [False, False, False][: len(told)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "sku: Field required"),
        ({"sku": 5}, "sku: Input should be a valid string (given 5)"),
        ({"sku": "A", "number": "3"}, "number: Input should be a valid integer (given '3')"),
        ({"sku": "A", "number": 2.5}, "number: "),
        ({"sku": "A", "colour": "red"}, "colour: Extra inputs are not permitted"),
        ({"sku": "A", "key": "mine"}, "key: Extra inputs are not permitted"),
        ({"sku": "\ud800"}, "sku"),
        ("{'sku': A}", "they are not valid JSON"),
        ({"sku": None}, "sku: "),
        ({"sku": ["A"]}, "sku: "),
    ],
)
async def test_malformed_arguments_are_refused_with_a_message_that_a_model_can_act_on(
    arguments: dict[str, Any] | str, said: str
) -> None:
    calls = []

    @hf.tool(effect="keyed")
    async def order(sku: str, number: int = 1, *, key: hf.IdempotencyKey) -> str:
        calls.append(sku)
        return "ordered"

    agent, told = agent_that_calls(order, arguments)

    async def work() -> str:
        return str((await agent.run("order it")).result)

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        text = await result(app)
        assert text.startswith("Error: ")
        assert said in text
        assert "sku, number (optional)" in text
        assert not told[0].ok
        assert "tool.intent" not in str(await kinds(app))
        await check_replay(app, "r")
    assert calls == []


async def test_malformed_arguments_in_code_are_a_recorded_failure_that_names_run_and_step() -> None:
    @hf.tool(effect="irreversible", needs=Trust.EXTERNAL)
    async def order(sku: str, number: int) -> str:
        raise AssertionError("it must not be called")

    async def work() -> list[str]:
        told = []
        for arguments in ({"sku": "A"}, {"sku": "A", "number": "many"}, {"sku": "A", "number": float("nan")}):
            try:
                await order(**arguments)
            except ToolInputInvalid as invalid:
                told.append(str(invalid))
        return told

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        told = await result(app)
        assert [f"run r, step {n}: tool order failed" in text for n, text in enumerate(told)] == [True] * 3
        assert await kinds(app) == ["run.started", *(f"tool.failed {n}" for n in range(3)), "run.finished"]
        await check_replay(app, "r")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
async def test_an_argument_that_json_can_not_hold_is_refused_before_the_intent(value: float) -> None:
    @hf.tool(effect="irreversible", needs=Trust.EXTERNAL)
    async def pay(amount: float) -> str:
        raise AssertionError("it must not be called")

    async def work() -> str:
        return await pay(value)

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        with pytest.raises(hf.HoldfastError, match=r"run r.*step 0.*pay"):
            await result(app)
        assert await kinds(app) == ["run.started", "tool.failed 0", "run.failed"]


async def test_a_tool_that_the_model_invents_is_a_failure_that_names_those_there_are() -> None:
    @hf.tool(effect="read")
    async def stock(sku: str) -> int:
        return 1

    agent, told = agent_that_calls(stock, {"sku": "A"})
    agent.tools = {"other": stock}

    async def work() -> str:
        return str((await agent.run("look")).result)

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        assert "there is no tool 'stock'; there are: other" in await result(app)
        assert not told[0].ok


async def test_a_result_that_can_not_be_rendered_is_a_failure_to_the_model_and_does_not_end_the_run() -> None:
    @hf.tool(effect="read", render=lambda found: str(found["name"]))
    async def stock(sku: str) -> dict[str, int]:
        return {"left": 1}

    agent, told = agent_that_calls(stock, {"sku": "A"})

    async def work() -> str:
        return str((await agent.run("look")).result)

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        assert isinstance(await result(app), str)
        assert len(told) >= 1


async def test_a_settlement_that_does_not_fit_the_tool_never_passes_as_its_result() -> None:
    @hf.tool(effect="irreversible", needs=Trust.EXTERNAL, timeout_s=0.01)
    async def send(text: str) -> int:
        await anyio.sleep(10)
        return 1

    async def work() -> str:
        try:
            return f"sent {await send('x')}"
        except ToolFailed as failed:
            return f"failed: {failed}"

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        (wait,) = await until_asked(app)
        try:
            await app.settle(wait.id, "happened", result="no number", by="the clerk")
        except (ValueError, hf.HoldfastError):
            return  # refused where it was said: as good
        await until_status(app, "r", "completed", "in_doubt")
        if (await app.info("r")).status == "completed":
            assert (await result(app)).startswith("failed: run r, step 0")


def test_a_contract_that_contradicts_itself_is_refused_where_it_is_declared() -> None:
    async def plain(x: int) -> int:
        return x

    @hf.tool(effect="keyed")
    async def effectful(x: int, *, key: hf.IdempotencyKey) -> int:
        return x

    contradictions: list[dict[str, Any]] = [
        {"effect": "keyed"},
        {"effect": "read", "escalate": lambda x: True},
        {"effect": "read", "fresh": [effectful]},
        {"effect": "irreversible", "fresh": [effectful]},
        {"effect": "irreversible", "retry": AGAIN},
        {"effect": "read", "fallback": [effectful]},
        {"effect": "read", "timeout_s": 0},
    ]
    for contract in contradictions:
        with pytest.raises(ContractError, match="tool plain"):
            hf.tool(**contract)(plain)
    with pytest.raises(ContractError):
        hf.Retry(attempts=0)
    assert issubclass(ToolOutputInvalid, ToolFailed)
