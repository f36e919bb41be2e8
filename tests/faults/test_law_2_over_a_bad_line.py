"""Law 2 without crashes: the line to the system with the effects is cut, slow, late or delivers twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

import holdfast as hf
from holdfast.journal.records import Attempt
from holdfast.testing import check_replay
from holdfast.testing.effects import LATE_S, EffectServer, Plan, Refused, find, perform
from holdfast.trust import Trust
from tests.runtime.support import flow, kinds, opened, result, until_asked

AGAIN = hf.Retry(attempts=3, base_s=0.0)
SHORT_S = LATE_S / 10


async def was_it_done(key: str, arguments: dict[str, Any]) -> hf.Done | hf.NotDone:
    number = await find(arguments["port"], "reconciled", arguments["what"])
    return hf.NotDone() if number is None else hf.Done("done")


@hf.tool(effect="idempotent", retry=AGAIN, timeout_s=SHORT_S)
async def idempotent(port: int, what: str) -> str:
    await perform(port, "idempotent", what, dedupe=True)
    return "done"


@hf.tool(effect="keyed", retry=AGAIN, timeout_s=SHORT_S, definite=(Refused,))
async def keyed(port: int, what: str, *, key: hf.IdempotencyKey) -> str:
    await perform(port, "keyed", key, dedupe=True)
    return "done"


@hf.tool(effect="irreversible", needs=Trust.EXTERNAL, retry=AGAIN, timeout_s=SHORT_S, reconcile=was_it_done)
async def reconciled(port: int, what: str) -> str:
    await perform(port, "reconciled", what)
    return "done"


@hf.tool(effect="irreversible", needs=Trust.EXTERNAL, timeout_s=SHORT_S, definite=(Refused,))
async def blind(port: int, what: str) -> str:
    await perform(port, "blind", what)
    return "done"


TOOLS: dict[str, Any] = {"idempotent": idempotent, "keyed": keyed, "reconciled": reconciled, "blind": blind}


def workflow_of(name: str) -> hf.runtime.Workflow[..., str]:
    async def work(port: int, what: str) -> str:
        done: str = await TOOLS[name](port, what)
        return done

    return flow(work, name=name)


def took_place(effects: EffectServer, name: str) -> int:
    return effects.total(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["idempotent", "keyed", "reconciled"])
@pytest.mark.parametrize(
    "plans",
    [
        ["cut_before"],
        ["cut_after"],
        ["cut_before", "cut_after"],
        ["cut_after", "cut_after"],
        ["slow"],
        ["slow", "cut_before"],
    ],
    ids="+".join,
)
async def test_law_2_an_effect_over_a_bad_line_takes_place_once_and_every_fault_is_in_the_journal(
    effects: EffectServer, name: str, plans: Sequence[Plan]
) -> None:
    workflow = workflow_of(name)
    before = effects.total(name)
    effects.plan(name, plans)
    id = f"{name}-{'-'.join(plans)}"
    async with opened(workflow) as app:
        await app.start(workflow, effects.port, id, id=id)
        assert await result(app, id) == "done"
        faults = [e.payload(Attempt).fault for e in await app.events(id) if e.kind == "tool.attempt"]
        await check_replay(app, id)
    effects.forget_plans()
    assert effects.total(name) == before + 1
    expected = ["timeout" if plan == "slow" else "error" for plan in plans]
    if name == "reconciled":  # it is asked after the first unknown outcome, and knows
        assert faults == expected[: len(faults)]
        assert faults
    else:
        assert faults == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", ["idempotent", "keyed"])
@pytest.mark.parametrize("plan", ["late", "twice"])
async def test_law_2_a_request_that_arrives_late_or_twice_takes_effect_once(
    effects: EffectServer, name: str, plan: Plan
) -> None:
    workflow = workflow_of(name)
    before = effects.total(name)
    effects.plan(name, [plan])
    id = f"{name}-{plan}"
    async with opened(workflow) as app:
        await app.start(workflow, effects.port, id, id=id)
        assert await result(app, id) == "done"
    assert effects.total(name) == before + 1


@pytest.mark.slow
@pytest.mark.parametrize("plan", ["cut_before", "cut_after", "slow", "late"])
async def test_law_2_a_blind_effect_over_a_bad_line_is_in_doubt_and_is_issued_once(
    effects: EffectServer, plan: Plan
) -> None:
    workflow = workflow_of("blind")
    before = effects.total("blind")
    effects.plan("blind", [plan])
    id = f"blind-{plan}"
    async with opened(workflow) as app:
        await app.start(workflow, effects.port, id, id=id)
        (wait,) = await until_asked(app)
        _, event = await app.waiting_event(wait.id)
        doubt: Any = event.json()
        assert doubt["tool"] == "blind"
        assert doubt["args"] == {"port": effects.port, "what": id}
        assert doubt["key"] in doubt["how"]
        await app.settle(wait.id, "happened", result="done", by="the clerk")
        assert await result(app, id) == "done"
        assert (await kinds(app, id)).count("tool.intent 0") == 1
    assert effects.total("blind") - before <= 1


async def test_law_2_a_definite_refusal_is_a_failure_and_no_doubt(effects: EffectServer) -> None:
    for name in ("keyed", "blind"):
        workflow = workflow_of(name)
        before = effects.total(name)
        effects.plan(name, ["refuse"])
        async with opened(workflow) as app:
            await app.start(workflow, effects.port, name, id=f"refused-{name}")
            with pytest.raises(hf.HoldfastError, match=r"was refused.*no effect took place"):
                await result(app, f"refused-{name}")
            assert "tool.doubt 0" not in await kinds(app, f"refused-{name}")
        assert effects.total(name) == before


async def test_law_2_every_attempt_of_a_decision_has_its_key_and_every_decision_another() -> None:
    keys: list[str] = []

    @hf.tool(effect="keyed", retry=AGAIN)
    async def order(n: int, *, key: hf.IdempotencyKey) -> int:
        keys.append(key)
        if len(keys) % 3:
            raise ConnectionError("cut")
        return n

    async def work() -> list[int]:
        return [await order(1), await order(1)]

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        await result(app, "r")
        await app.start(workflow, id="s")
        await result(app, "s")
    groups = [keys[i : i + 3] for i in range(0, 12, 3)]
    assert [len(set(group)) for group in groups] == [1] * 4
    assert len({group[0] for group in groups}) == 4


async def test_law_2_the_intent_is_durable_before_the_effect_is_issued() -> None:
    seen: list[list[str]] = []

    @hf.tool(effect="irreversible", needs=Trust.EXTERNAL)
    async def send(n: int) -> int:
        seen.append(await kinds(app))
        return n

    async def work() -> int:
        return await send(1)

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        await result(app)
    assert seen == [["run.started", "tool.intent 0"]]


async def test_law_2_no_fallback_after_an_unknown_outcome() -> None:
    calls: list[str] = []

    @hf.tool(effect="keyed")
    async def elsewhere(n: int, *, key: hf.IdempotencyKey) -> int:
        calls.append("elsewhere")
        return n

    @hf.tool(effect="keyed", fallback=[elsewhere])
    async def here(n: int, *, key: hf.IdempotencyKey) -> int:
        calls.append("here")
        raise ConnectionError("cut")

    async def work() -> int:
        return await here(1)

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        await until_asked(app)
    assert calls == ["here"]
