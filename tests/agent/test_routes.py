"""The chain of models: what is tried again, what goes to the next route, what that costs in trust, and what is recorded of it."""

from __future__ import annotations

import contextlib

import anyio
import pytest

import holdfast as hf
from holdfast.errors import HoldfastError, ModelError
from holdfast.journal.records import Attempt
from holdfast.model import ModelRequest, ModelSettings, ToolCall
from holdfast.store.memory import MemoryStore
from holdfast.testing import FaultyStore, ScriptedModel
from holdfast.trust import Trust
from tests.agent.support import AT_ONCE, Draft, agent_of, asking, completed, look, outcomes
from tests.runtime.support import SOON_S, kinds, opened, result, until

BUSY = ModelError("first", "busy", status=429, transient=True)
WRONG_KEY = ModelError("first", "wrong key", status=401, transient=False)


def chain(*scripts: list[object]) -> list[ScriptedModel]:
    names = ("first", "second", "third")
    return [ScriptedModel(script, name=name) for script, name in zip(scripts, names, strict=False)]  # type: ignore[arg-type]  # replies of any form


async def attempts(app: hf.App) -> list[Attempt]:
    return [e.payload(Attempt) for e in await app.events("r") if e.kind == "model.attempt"]


async def test_a_transient_error_is_tried_again_on_the_same_route_and_every_try_is_recorded() -> None:
    models = chain([BUSY, BUSY, completed()], [])
    agent, _ = agent_of(model=models)
    workflow = asking(agent)
    async with opened(workflow) as app:
        await app.start(workflow, "?", id="r", label=Trust.PRIMARY)
        await result(app)
        assert [(a.n, a.fault, a.via, a.error.type) for a in await attempts(app)] == [
            (1, "error", "first", "holdfast.errors.ModelError"), (2, "error", "first", "holdfast.errors.ModelError"),
        ]  # fmt: skip
        (outcome,) = await outcomes(app)
        assert (outcome.route, outcome.attempts, outcome.fallback) == ("first", 3, False)
        assert (await app.info("r")).label.level is Trust.PRIMARY
    assert [m.calls for m in models] == [3, 0]


async def test_a_permanent_error_goes_to_the_next_route_at_once_whose_answers_are_degraded() -> None:
    models = chain([WRONG_KEY], [completed()])
    agent, _ = agent_of(model=models)
    workflow = asking(agent)
    async with opened(workflow) as app:
        await app.start(workflow, "?", id="r", label=Trust.PRIMARY)
        await result(app)
        (outcome,) = await outcomes(app)
        assert (outcome.route, outcome.fallback) == ("second", True)
        label = (await app.info("r")).label
        assert label.level is Trust.DEGRADED
        assert [(c.kind, c.step) for c in label.causes] == [("fallback model second", "0.0")]
    assert [m.calls for m in models] == [1, 1]


async def test_the_record_counts_the_tries_that_were_made() -> None:
    models = chain([WRONG_KEY], [completed()])
    agent, _ = agent_of(model=models)
    workflow = asking(agent)
    async with opened(workflow) as app:
        await app.start(workflow, "?", id="r")
        await result(app)
        assert [(a.n, a.via) for a in await attempts(app)] == [(1, "first")]
        (outcome,) = await outcomes(app)
        assert outcome.attempts == 2


async def test_a_route_that_stays_busy_is_given_up_after_its_attempts() -> None:
    models = chain([BUSY] * 9, [completed()])
    agent, _ = agent_of(model=models)
    workflow = asking(agent)
    async with opened(workflow) as app:
        await app.start(workflow, "?", id="r")
        await result(app)
    assert [m.calls for m in models] == [3, 1]


async def test_each_call_begins_with_the_first_route_and_trust_stays_down() -> None:
    models = chain([WRONG_KEY, completed()], [look()])
    agent, _ = agent_of(model=models)
    workflow = asking(agent)
    async with opened(workflow) as app:
        await app.start(workflow, "?", id="r", label=Trust.PRIMARY)
        await result(app)
        assert [(o.route, o.fallback) for o in await outcomes(app)] == [("second", True), ("first", False)]
        assert (await app.info("r")).label.level is Trust.DEGRADED


async def test_every_route_gets_the_same_request() -> None:
    models = chain([WRONG_KEY], [WRONG_KEY], [completed()])
    agent, _ = agent_of(model=models)
    workflow = asking(agent)
    async with opened(workflow) as app:
        await app.start(workflow, "?", id="r")
        await result(app)
    assert models[0].requests == models[1].requests == models[2].requests


async def test_all_routes_down_escalates_with_the_last_error_and_the_failure_is_recorded() -> None:
    models = chain([BUSY] * 3, [ModelError("second", "closed for the day", status=403)])
    agent, _ = agent_of(model=models)
    workflow = asking(agent)
    async with opened(workflow) as app:
        run = await app.start(workflow, "?", id="r")
        answer = await run.result(timeout_s=SOON_S)
        assert isinstance(answer, hf.Escalated)
        assert answer.reason == "no model could be reached"
        assert "closed for the day" in answer.attached["error"]
        assert "model.failed 0.0" in await kinds(app)


async def test_a_model_that_does_not_answer_in_time_is_tried_again_and_then_replaced() -> None:
    async def never(request: ModelRequest) -> ToolCall:
        await anyio.sleep_forever()
        raise AssertionError

    slow = ScriptedModel(never, name="first")
    quick = ScriptedModel([completed()], name="second")
    retry = hf.Retry(attempts=2, on=(ModelError,), base_s=0.0)
    agent, _ = agent_of(model=[slow, quick], settings=ModelSettings(timeout_s=0.02), retry=retry)
    workflow = asking(agent)
    async with opened(workflow) as app:
        await app.start(workflow, "?", id="r")
        await result(app)
        assert ["no reply within 0.02 s" in a.error.message for a in await attempts(app)] == [True, True]
    assert (slow.calls, quick.calls) == (2, 1)


async def test_the_provider_is_waited_for_as_long_as_it_asks() -> None:
    busy = ModelError("first", "busy", status=429, transient=True, retry_after_s=0.03)
    (model,) = chain([busy, completed()])
    agent, _ = agent_of(model=model)
    workflow = asking(agent)
    async with opened(workflow) as app:
        await app.start(workflow, "?", id="r")
        await result(app)
        (tried,) = await attempts(app)
        assert tried.delay_s == 0.03


# -- crashes ---------------------------------------------------------------------------------------------------------------


async def crashed_while_asked(failing: list[object]) -> tuple[FaultyStore, hf.runtime.Workflow[..., object]]:
    """A store whose process died while the second route was asked; and the workflow."""
    hangs = anyio.Event()

    async def hang(request: ModelRequest) -> ToolCall:
        hangs.set()
        await anyio.sleep_forever()
        raise AssertionError

    (first,) = chain(failing)
    agent, _ = agent_of(model=[first, ScriptedModel(hang, name="second")])
    workflow = asking(agent)
    store = FaultyStore(MemoryStore())
    async with opened(workflow, store=store) as app:
        await app.start(workflow, "?", id="r", label=Trust.PRIMARY)
        with anyio.fail_after(SOON_S):
            await hangs.wait()
        store.dead = True
    await store.revive()
    return store, workflow


@pytest.mark.parametrize("failing", [[WRONG_KEY], [BUSY, BUSY, BUSY]], ids=["permanent", "busy"])
async def test_after_a_crash_a_route_that_was_given_up_is_not_asked_again(failing: list[object]) -> None:
    store, _ = await crashed_while_asked(failing)
    models = chain([completed()], [completed()])
    agent, _ = agent_of(model=models)
    workflow = asking(agent)
    async with opened(workflow, store=store) as app:
        await result(app)
        (outcome,) = await outcomes(app)
        assert (outcome.route, outcome.fallback) == ("second", True)
    assert [m.calls for m in models] == [0, 1]


async def test_after_a_crash_tries_that_were_made_count() -> None:
    (model,) = chain([BUSY] * 9)
    agent: hf.Agent[Draft]
    agent, _ = agent_of(model=model)
    workflow = asking(agent)
    store = FaultyStore(MemoryStore(), at=4, when="before")  # start, two attempts, then it dies
    async with opened(workflow, store=store) as app:
        with contextlib.suppress(HoldfastError):
            await app.start(workflow, "?", id="r")
        await until(lambda: store.fired)
    await store.revive()
    (again,) = chain([BUSY, completed()])
    agent, _ = agent_of(model=again)
    workflow = asking(agent)
    async with opened(workflow, store=store) as app:
        answer = await app.result("r", timeout_s=SOON_S)
        assert isinstance(answer, hf.Escalated)
    assert again.calls == 1
    assert AT_ONCE.attempts == 3
