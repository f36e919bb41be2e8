"""Law 3 in runs: the label of a run is a running minimum, and nothing but an endorsement makes a value above it.

The algebra of labels is in `tests/test_trust.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import pytest
from annotated_types import Ge, Interval
from hypothesis import given, settings
from hypothesis import strategies as st

import holdfast as hf
from holdfast.errors import EndorsementRejected, OpenType
from holdfast.journal import Event
from holdfast.journal.records import Intent, Outcome
from holdfast.runtime import validator
from holdfast.store.memory import MemoryStore
from holdfast.testing import ScriptedModel, check_replay
from holdfast.trust import PRIMARY, Label, Trust
from tests.runtime.support import flow, opened, result, until_asked, until_status

LEVELS = st.sampled_from(Trust)


def levels(events: Sequence[Event]) -> list[Trust]:
    return [e.header.label.level for e in events]


def make_step(level: Trust) -> Any:
    @hf.step(name=f"step {level.name}", yields=level)
    async def brings() -> int:
        return 1

    return brings


def make_read(level: Trust) -> Any:
    @hf.tool(effect="read", name=f"read_{level.name}", yields=level)
    async def brings() -> int:
        return 1

    return brings


STEPS = {level: make_step(level) for level in Trust}
READS = {level: make_read(level) for level in Trust}


@validator(version="1")
async def is_positive(number: int) -> Annotated[int, Interval(ge=1, le=1000)]:
    if number < 1:
        raise hf.Rejected("not positive")
    return number


OPERATIONS = st.one_of(
    st.tuples(st.just("step"), LEVELS),
    st.tuples(st.just("read"), LEVELS),
    st.tuples(st.just("signal"), LEVELS),
    st.tuples(st.just("reply"), LEVELS),
    st.tuples(st.just("approval"), LEVELS),
    st.tuples(st.just("endorse"), LEVELS),
    st.tuples(st.just("parallel"), LEVELS),
    st.tuples(st.just("child"), LEVELS),
    st.tuples(st.just("now"), LEVELS),
)


async def child(level: int) -> int:
    number: int = await STEPS[Trust(level)]()
    return number


CHILD = flow(child)


async def perform(program: list[tuple[str, int]]) -> int:
    for what, number in program:
        level = Trust(number)
        match what:
            case "step":
                await STEPS[level]()
            case "read":
                await READS[level]()
            case "signal":
                await hf.signal("s")
            case "reply":
                await hf.reply()
            case "approval":
                await hf.approval("may I?")
            case "endorse":
                await hf.endorse(number + 1, is_positive)
            case "parallel":
                await hf.parallel(STEPS[level](), READS[Trust.PRIMARY]())
            case "child":
                await hf.subrun(CHILD, number)
            case _:
                await hf.now()
    return len(program)


PERFORM = flow(perform)


@pytest.mark.slow
@settings(max_examples=40)
@given(st.lists(OPERATIONS, max_size=8), LEVELS)
async def test_law_3_the_label_of_a_run_is_a_running_minimum_over_all_it_has_seen(
    program: list[tuple[str, Trust]], start: Trust
) -> None:
    brought = [level for what, level in program if what in ("step", "read", "signal", "reply", "parallel", "child")]
    async with opened(PERFORM, CHILD) as app:
        run = await app.start(PERFORM, program, id="r", label=start)
        for what, level in program:
            if what == "signal":
                await run.signal("s", label=level)
            if what == "reply":
                await run.reply("yes", label=level)
            if what == "approval":
                (wait,) = await until_asked(app)
                await app.approve(wait.id, by="the boss")
                await app.drain()
        assert await result(app) == len(program)
        events = await app.events("r")
        seen = levels(events)
        assert seen == sorted(seen, reverse=True)
        assert seen[0] == start
        assert seen[-1] == min([start, *brought])
        assert (await run.status()).label == events[-1].header.label
        await check_replay(app, "r")


@settings(max_examples=15)
@given(st.lists(st.sampled_from([Trust.PRIMARY, Trust.DEGRADED, Trust.UNVERIFIED]), min_size=1, max_size=3), LEVELS)
async def test_law_3_stopping_and_resuming_lifts_nothing(brought: list[Trust], start: Trust) -> None:
    async def work() -> int:
        for level in brought:
            await STEPS[level]()
            await hf.signal("go")
        return 1

    workflow = flow(work)
    store = MemoryStore()
    async with opened(workflow, store=store) as app:
        await app.start(workflow, id="r", label=start)
    for _ in brought:
        async with opened(workflow, store=store) as app:
            await app.drain()
            await app.run("r").signal("go", label=Trust.PRIMARY)
    async with opened(workflow, store=store) as app:
        assert await result(app) == 1
        seen = levels(await app.events("r"))
        assert seen == sorted(seen, reverse=True)
        assert seen[-1] == min([start, *brought])


async def test_law_3_a_note_without_a_label_brings_the_lowest() -> None:
    from holdfast.journal.records import Note

    async def work() -> int:
        await hf.signal("s")
        return 1

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r", label=Trust.PRIMARY)
        await until_status(app, "r", "waiting")
        await app.journal.note("r", "note.signal", Note("s"))
        assert app.executor is not None
        app.executor.poke()
        assert await result(app) == 1
        assert (await app.info("r")).label.level is Trust.EXTERNAL


async def test_law_3_an_approval_lifts_no_label() -> None:
    async def work() -> bool:
        decision = await hf.approval("may I?")
        return decision.approved

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r", label=Trust.UNVERIFIED)
        (wait,) = await until_asked(app)
        await app.approve(wait.id, by="the boss")
        assert await result(app) is True
        assert (await app.info("r")).label.level is Trust.UNVERIFIED


async def test_law_3_an_endorsement_is_an_event_that_leaves_the_label_of_the_run() -> None:
    async def work() -> str:
        value = await hf.endorse(5, is_positive)
        return f"{value.value} {value.label.level.name} {value.origin}"

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r", label=Trust.EXTERNAL)
        assert await result(app) == "5 PRIMARY 0"
        event = (await app.events("r"))[1]
        outcome = event.payload(Outcome)
        assert (event.kind, outcome.validator, outcome.validator_version) == ("endorse.completed", "is_positive", "1")
        assert outcome.value_label == PRIMARY
        assert event.header.label.level is Trust.EXTERNAL


async def test_law_3_a_validator_that_says_no_says_it_live_and_replayed_alike() -> None:
    seen: list[str] = []

    async def work() -> int:
        try:
            await hf.endorse(-5, is_positive)
        except EndorsementRejected as no:
            seen.append(str(no))
        await hf.signal("go")
        return 1

    workflow = flow(work)
    async with opened(workflow) as app:
        run = await app.start(workflow, id="r")
        await until_status(app, "r", "waiting")
        await run.signal("go")
        await result(app)
    assert len(seen) == 2
    assert seen[0] == seen[1] == "run r, step 0: is_positive version 1 did not endorse the value: not positive"


async def _text(value: str) -> str:
    return value


async def _number(value: str) -> int:
    return 1


async def _mapping(value: str) -> dict[str, bool]:
    return {}


async def _any(value: str):  # type: ignore[no-untyped-def]  # the case
    return value


async def _half_bounded(value: str) -> Annotated[int, Ge(0)]:
    return 1


async def _nested(value: str) -> list[tuple[bool, str]]:
    return []


@pytest.mark.parametrize("open_type", [_text, _number, _mapping, _any, _half_bounded, _nested])
def test_law_3_an_endorsed_value_can_carry_nothing_but_closed_types(open_type: Any) -> None:
    with pytest.raises(OpenType, match=open_type.__name__):
        validator(version="1")(open_type)


async def test_law_3_the_answer_of_a_fallback_model_lowers_the_run() -> None:
    from holdfast.errors import ModelError
    from holdfast.model import ToolCall

    def broken(request: object) -> Exception:
        return ModelError("scripted:first", "down", transient=False)

    def answers(request: object) -> ToolCall:
        return ToolCall("1", "answer_completed", {"result": 7, "confidence": 0.5})

    agent: hf.Agent[int] = hf.Agent(
        "desk",
        model=[ScriptedModel(broken, "scripted:first"), ScriptedModel(answers, "scripted:second")],
        instructions="",
        output=int,
    )

    async def work() -> int:
        return int((await agent.run("hello")).result)

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r", label=Trust.PRIMARY)
        assert await result(app) == 7
        label = (await app.info("r")).label
        assert label.level is Trust.DEGRADED
        assert [cause.kind for cause in label.causes] == ["fallback model scripted:second"]


async def test_law_3_what_a_child_has_seen_its_parent_has_seen() -> None:
    async def parent() -> int:
        return int((await hf.subrun(CHILD, int(Trust.EXTERNAL))).result)

    workflow = flow(parent)
    async with opened(workflow, CHILD) as app:
        await app.start(workflow, id="r", label=Trust.PRIMARY)
        await result(app)
        assert (await app.info("r")).label.level is Trust.EXTERNAL


async def test_law_3_a_child_starts_at_the_label_of_its_parent_at_most() -> None:
    async def parent() -> int:
        await hf.subrun(CHILD, int(Trust.PRIMARY), id="child", label=PRIMARY)
        return 1

    workflow = flow(parent)
    async with opened(workflow, CHILD) as app:
        await app.start(workflow, id="r", label=Trust.UNVERIFIED)
        await result(app)
        assert (await app.events("child"))[0].header.label.level is Trust.UNVERIFIED


@given(LEVELS, LEVELS, st.booleans())
@settings(max_examples=20)
async def test_law_3_the_gate_believes_no_value_above_its_run_but_an_endorsed_one(
    run_level: Trust, claimed: Trust, endorsed: bool
) -> None:
    @hf.tool(effect="keyed", policy="values", needs=Trust.EXTERNAL)
    async def act(number: int, *, key: hf.IdempotencyKey) -> int:
        return number

    async def work() -> int:
        checked = await hf.endorse(5, is_positive)
        return await act(checked if endorsed else hf.Value(5, Label(claimed)))

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r", label=run_level)
        assert await result(app) == 5
        (intent,) = [e.payload(Intent) for e in await app.events("r") if e.kind == "tool.intent"]
        believed = intent.gate.argument_labels["number"].level
        if endorsed:
            assert believed is Trust.PRIMARY
        else:
            assert believed == (claimed if claimed <= run_level else Trust.EXTERNAL)
