"""Law 4: an irreversible action checks before it acts, on the arguments really sent, at the tool object itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import pytest
from annotated_types import Interval

import holdfast as hf
from holdfast.errors import (
    AlreadyDecided,
    ApprovalDenied,
    ApprovalVoid,
    NotWaiting,
    StaleRead,
    ToolFailed,
)
from holdfast.journal.records import Intent, Waiting
from holdfast.model import ToolCall
from holdfast.runtime import validator
from holdfast.testing import FaultyStore, ScriptedModel, VirtualClock
from holdfast.trust import PRIMARY, Label, Trust
from tests.runtime.support import appends, flow, kinds, opened, result, until, until_asked, until_status


class Desk:
    """A tool that ships, and what it shipped."""

    def __init__(self, **contract: Any) -> None:
        self.shipped: list[tuple[int, str]] = []

        @hf.tool(effect="irreversible", **contract)
        async def ship(number: int, to: str = "home") -> str:
            self.shipped.append((number, to))
            return f"shipped {number} {to}"

        self.ship: Any = ship


@validator(version="1")
async def in_range(number: int) -> Annotated[int, Interval(ge=1, le=1000)]:
    return number


@validator(version="1")
async def known_place(place: str) -> Annotated[str, hf.record("places")]:
    if place not in ("home", "work"):
        raise hf.Rejected("no such place")
    return place


async def gate_of(app: hf.App, run: str = "r") -> Any:
    (intent,) = [e.payload(Intent) for e in await app.events(run) if e.kind == "tool.intent"]
    return intent.gate


@pytest.mark.parametrize("level", [Trust.EXTERNAL, Trust.UNVERIFIED, Trust.DEGRADED])
async def test_law_4_a_run_that_is_not_trusted_enough_acts_only_after_a_person_said_yes(level: Trust) -> None:
    desk = Desk()

    async def work() -> str:
        return str(await desk.ship(1))

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r", label=level)
        (wait,) = await until_asked(app)
        assert desk.shipped == []
        assert "tool.intent 0" not in await kinds(app)
        await app.approve(wait.id, by="the boss", why="fine")
        assert await result(app) == "shipped 1 home"
        gate = await gate_of(app)
        assert (gate.verdict, gate.approved_by, gate.run_label.level) == ("approve", "the boss", level)
        assert gate.reasons[0].startswith(f"the run is {level.name}, PRIMARY is needed")
    assert desk.shipped == [(1, "home")]


async def test_law_4_a_trusted_run_acts_without_a_person_and_the_decision_is_recorded() -> None:
    desk = Desk()

    async def work() -> str:
        return str(await desk.ship(1))

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r", label=Trust.PRIMARY)
        assert await result(app) == "shipped 1 home"
        gate = await gate_of(app)
        assert (gate.verdict, gate.policy, gate.needs, gate.reasons) == ("allow", "trajectory", "PRIMARY", ())


async def test_law_4_under_trajectory_the_labels_of_the_arguments_do_not_help() -> None:
    desk = Desk(policy="trajectory")

    async def work() -> str:
        return str(await desk.ship(await hf.endorse(5, in_range)))

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r", label=Trust.EXTERNAL)
        await until_asked(app)
    assert desk.shipped == []


async def test_law_4_under_values_endorsed_arguments_are_enough() -> None:
    desk = Desk(policy="values")

    async def work() -> str:
        number, place = await hf.endorse(5, in_range), await hf.endorse("work", known_place)
        return str(await desk.ship(number, to=place))

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r", label=Trust.EXTERNAL)
        assert await result(app) == "shipped 5 work"
        gate = await gate_of(app)
        assert gate.argument_labels == {"number": PRIMARY, "to": PRIMARY}
        assert gate.run_label.level is Trust.EXTERNAL


def forged() -> Any:
    return hf.Value(5, PRIMARY)


def forged_with_a_step_that_endorsed_something_else() -> Any:
    return hf.Value(6, PRIMARY, origin="0")


def forged_with_a_step_that_is_none() -> Any:
    return hf.Value(5, PRIMARY, origin="99")


def plain() -> Any:
    return 5


@pytest.mark.parametrize(
    "argument",
    [forged, forged_with_a_step_that_endorsed_something_else, forged_with_a_step_that_is_none, plain],
)
async def test_law_4_under_values_one_argument_that_nobody_endorsed_needs_a_person(argument: Callable[[], Any]) -> None:
    desk = Desk(policy="values")

    async def work() -> str:
        place = await hf.endorse("work", known_place)
        await hf.endorse(5, in_range)
        return str(await desk.ship(argument(), to=place))

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r", label=Trust.EXTERNAL)
        (wait,) = await until_asked(app)
        assert desk.shipped == []
        _, event = await app.waiting_event(wait.id)
        asked: Any = event.json()
        assert any("argument number is EXTERNAL" in reason for reason in asked["request"]["reasons"])
        assert not any("argument to" in reason for reason in asked["request"]["reasons"])


async def test_law_4_an_endorsed_value_that_was_altered_is_believed_no_more() -> None:
    desk = Desk(policy="values")

    async def work() -> str:
        place = await hf.endorse("work", known_place)
        number = await hf.endorse(5, in_range)
        number._value = 6
        return str(await desk.ship(number, to=place))

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r", label=Trust.EXTERNAL)
        await until_asked(app)
    assert desk.shipped == []


async def test_law_4_an_endorsement_of_another_run_is_believed_nowhere_else() -> None:
    desk = Desk(policy="values")
    leaked: list[Any] = []

    async def first() -> int:
        leaked.append(await hf.endorse(5, in_range))
        return 1

    async def second() -> str:
        return str(await desk.ship(leaked[0], to=await hf.endorse("work", known_place)))

    one, other = flow(first), flow(second)
    async with opened(one, other) as app:
        await (await app.start(one, id="one")).result()
        await app.start(other, id="other", label=Trust.EXTERNAL)
        await until_asked(app)
    assert desk.shipped == []


async def test_law_4_a_default_that_nobody_endorsed_has_the_label_of_the_run() -> None:
    desk = Desk(policy="values")

    async def work() -> str:
        return str(await desk.ship(await hf.endorse(5, in_range)))

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r", label=Trust.EXTERNAL)
        (wait,) = await until_asked(app)
        _, event = await app.waiting_event(wait.id)
        assert "argument to is EXTERNAL" in str(event.json())
    assert desk.shipped == []


async def test_law_4_the_contract_can_ask_for_a_person_for_certain_arguments() -> None:
    desk = Desk(escalate=lambda number, to: number > 100)

    async def work(number: int) -> str:
        return str(await desk.ship(number))

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, 100, id="small", label=Trust.PRIMARY)
        assert await result(app, "small") == "shipped 100 home"
        await app.start(workflow, 101, id="large", label=Trust.PRIMARY)
        (wait,) = await until_asked(app)
        await app.deny(wait.id, by="the boss", why="too many")
        with pytest.raises(hf.HoldfastError, match="the boss did not approve it: too many"):
            await result(app, "large")
    assert desk.shipped == [(100, "home")]


async def test_law_4_a_condition_that_can_not_be_evaluated_does_not_let_the_effect_through() -> None:
    desk = Desk(escalate=lambda number, to: 1 // 0 > 0)
    seen: list[str] = []

    async def work() -> str:
        try:
            return str(await desk.ship(1))
        except ToolFailed as failed:
            seen.append(failed.error_type)
            return "failed"

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r", label=Trust.PRIMARY)
        await until_status(app, "r", "completed", "failed", "waiting")
        assert desk.shipped == []
        assert (await app.info("r")).status in ("completed", "waiting"), "a typed failure, or a person is asked"


async def test_law_4_a_denial_is_a_typed_failure_live_and_replayed() -> None:
    desk = Desk()
    seen: list[str] = []

    async def work() -> str:
        try:
            await desk.ship(1)
        except ApprovalDenied as denied:
            seen.append(str(denied))
        await hf.signal("go")
        return "ended"

    workflow = flow(work)
    async with opened(workflow) as app:
        run = await app.start(workflow, id="r")
        (wait,) = await until_asked(app)
        await app.deny(wait.id, by="the boss")
        await app.drain()
        await run.signal("go")
        assert await result(app) == "ended"
    assert len(set(seen)) == 1
    assert "run r, step 0: tool ship failed" in seen[0]
    assert desk.shipped == []


# -- approvals --------------------------------------------------------------------------------------------------------


async def test_law_4_an_approval_shows_tool_arguments_and_reasons_and_permits_that_one_call() -> None:
    desk = Desk()

    async def work() -> list[str]:
        return [await desk.ship(1), await desk.ship(1)]

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        (first,) = await until_asked(app)
        _, event = await app.waiting_event(first.id)
        waiting = event.payload(Waiting)
        asked: Any = event.json()
        assert (asked["request"]["tool"], asked["request"]["arguments"]) == ("ship", {"number": 1, "to": "home"})
        assert waiting.args_hash
        await app.approve(first.id, by="the boss")
        await until(lambda: len(desk.shipped) == 1)
        (second,) = await until_asked(app)  # the very same arguments: another decision, another yes
        assert second.id != first.id
        with pytest.raises(NotWaiting):
            await app.approve(first.id, by="the boss")
        await app.approve(second.id, by="the boss")
        assert len(await result(app)) == 2
    assert desk.shipped == [(1, "home")] * 2


async def test_law_4_an_approval_is_bound_to_the_exact_arguments() -> None:
    desk = Desk()
    number = [1]

    async def work() -> str:
        return str(await desk.ship(number[0]))

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        (wait,) = await until_asked(app)
    number[0] = 2  # other code, or an edit by a person
    async with opened(workflow, store=app.store) as again:
        await again.approve(wait.id, by="the boss")
        await again.drain()
        assert desk.shipped == []
        assert (await again.info("r")).status in ("waiting", "attention")


async def test_law_4_an_approval_decides_once() -> None:
    desk = Desk()

    async def work() -> str:
        return str(await desk.ship(1))

    workflow = flow(work)
    async with opened(workflow) as owner:
        await owner.start(workflow, id="r")
        (wait,) = await until_asked(owner)
    async with opened(workflow, store=owner.store, worker=False) as app:
        await app.approve(wait.id, by="the boss")
        await app.approve(wait.id, by="the boss")
        with pytest.raises(AlreadyDecided, match="approve by the boss"):
            await app.deny(wait.id, by="another")
        assert len([n for n in await app.notes("r") if n.kind in ("note.approve", "note.deny")]) == 1
        with pytest.raises(NotWaiting):
            await app.approve("ap-unknown", by="the boss")


async def test_law_4_a_person_is_seen_to_be_asked_while_another_branch_of_the_run_works() -> None:
    desk = Desk()

    async def work() -> str:
        async def long() -> None:
            while not desk.shipped:
                await hf.now()

        shipped, _ = await hf.parallel(desk.ship(1), long())
        return str(shipped)

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        (wait,) = await until_asked(app)
        await app.approve(wait.id, by="the boss")
        assert await result(app) == "shipped 1 home"


async def test_law_4_an_approval_with_a_time_limit_that_nobody_used_is_a_no() -> None:
    async def work() -> str:
        decision = await hf.approval("may I?", timeout_s=60)
        return f"{decision.approved} {decision.by!r} {decision.why}"

    clock = VirtualClock()
    workflow = flow(work)
    async with opened(workflow, clock=clock) as app:
        await app.start(workflow, id="r")
        (wait,) = await until_asked(app)
        clock.jump(61)
        assert await result(app) == "False '' nobody decided in time"
        with pytest.raises(NotWaiting):
            await app.approve(wait.id, by="the boss")


# -- freshness --------------------------------------------------------------------------------------------------------


class Shelf:
    """A stock that changes, an effect that depends on it, a clock."""

    def __init__(self, *, needs: Trust = Trust.EXTERNAL, within_s: float = 60) -> None:
        self.left = 5
        self.reads = 0
        self.ordered: list[int] = []
        self.clock = VirtualClock()

        @hf.tool(effect="read", yields=Trust.PRIMARY)
        async def stock(sku: str) -> int:
            self.reads += 1
            return self.left

        @hf.tool(effect="irreversible", needs=needs, fresh=[hf.Fresh(stock, within_s=within_s)])
        async def order(number: int) -> int:
            self.ordered.append(number)
            return number

        self.stock: Any = stock
        self.order: Any = order

    async def work(self) -> int:
        left: int = await self.stock("A")
        await hf.signal("go")
        ordered: int = await self.order(left)
        return ordered


async def test_law_4_an_effect_without_the_read_that_it_depends_on_is_refused() -> None:
    shelf = Shelf()

    async def work() -> int:
        ordered: int = await shelf.order(1)
        return ordered

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        with pytest.raises(hf.HoldfastError, match="this run has none"):
            await result(app)
    assert shelf.ordered == []


async def test_law_4_a_fresh_read_is_not_repeated() -> None:
    shelf = Shelf()
    workflow = flow(shelf.work)
    async with opened(workflow, clock=shelf.clock) as app:
        run = await app.start(workflow, id="r")
        await run.signal("go")
        assert await result(app) == 5
        (ref,) = (await gate_of(app)).reads
        assert (ref.source, ref.step) == ("stock", "0")
    assert shelf.reads == 1


async def test_law_4_a_stale_read_is_repeated_as_a_new_step_and_goes_on_when_nothing_changed() -> None:
    shelf = Shelf()
    workflow = flow(shelf.work)
    async with opened(workflow, clock=shelf.clock) as app:
        run = await app.start(workflow, id="r")
        await until_status(app, "r", "waiting")
        shelf.clock.jump(61)
        await run.signal("go")
        assert await result(app) == 5
        (ref,) = (await gate_of(app)).reads
        assert ref.step.startswith("2.")
        assert ref.at_ns == shelf.clock.now_ns()
    assert (shelf.reads, shelf.ordered) == (2, [5])


async def test_law_4_a_stale_read_that_changed_stops_the_effect() -> None:
    shelf = Shelf()
    seen: list[str] = []

    async def work() -> str:
        try:
            await shelf.work()
        except StaleRead as stale:
            seen.append(str(stale))
            return "stale"
        return "ordered"

    workflow = flow(work)
    async with opened(workflow, clock=shelf.clock) as app:
        run = await app.start(workflow, id="r")
        await until_status(app, "r", "waiting")
        shelf.clock.jump(61)
        shelf.left = 4
        await run.signal("go")
        assert await result(app) == "stale"
    assert shelf.ordered == []
    assert "stock" in seen[0]


async def test_law_4_a_later_read_of_the_same_thing_supersedes_an_earlier_one() -> None:
    shelf = Shelf()

    async def work() -> int:
        await shelf.stock("A")
        await hf.signal("go")
        left: int = await shelf.stock("A")
        ordered: int = await shelf.order(left)
        return ordered

    workflow = flow(work)
    async with opened(workflow, clock=shelf.clock) as app:
        run = await app.start(workflow, id="r")
        await until_status(app, "r", "waiting")
        shelf.clock.jump(61)
        shelf.left = 4
        await run.signal("go")
        assert await result(app) == 4
    assert shelf.ordered == [4]


@pytest.mark.parametrize("wait_s", [1, 3600])
async def test_law_4_after_an_approval_the_reads_are_made_again_and_the_effect_goes_on(wait_s: float) -> None:
    shelf = Shelf(needs=Trust.PRIMARY)
    workflow = flow(shelf.work)
    async with opened(workflow, clock=shelf.clock) as app:
        run = await app.start(workflow, id="r")
        await run.signal("go")
        (wait,) = await until_asked(app)
        shelf.clock.jump(wait_s)
        await app.approve(wait.id, by="the boss")
        assert await result(app) == 5
        (ref,) = (await gate_of(app)).reads
        assert ref.at_ns == shelf.clock.now_ns()
    assert shelf.ordered == [5]


@pytest.mark.parametrize("wait_s", [1, 3600])
async def test_law_4_an_approval_is_void_when_what_it_rested_on_changed_meanwhile(wait_s: float) -> None:
    shelf = Shelf(needs=Trust.PRIMARY)
    seen: list[str] = []

    async def work() -> str:
        try:
            await shelf.work()
        except (ApprovalVoid, StaleRead) as void:
            seen.append(type(void).__name__)
        return "ended"

    workflow = flow(work)
    async with opened(workflow, clock=shelf.clock) as app:
        run = await app.start(workflow, id="r")
        await run.signal("go")
        (wait,) = await until_asked(app)
        shelf.clock.jump(wait_s)
        shelf.left = 4
        await app.approve(wait.id, by="the boss")
        assert await result(app) == "ended"
    assert shelf.ordered == []
    assert seen == ["ApprovalVoid"]


@pytest.mark.parametrize("at", ["tool.intent", "tool.completed 2.v0"])
async def test_law_4_reads_that_grew_old_between_a_crash_and_the_resume_are_made_again(at: str) -> None:
    shelf = Shelf(needs=Trust.PRIMARY)
    workflow = flow(shelf.work)
    kind, _, path = at.partition(" ")
    from holdfast.store.memory import MemoryStore

    faulty = FaultyStore(MemoryStore(), at=appends(kind, path or None), when="after" if path else "before")
    async with opened(workflow, store=faulty, clock=shelf.clock) as app:
        run = await app.start(workflow, id="r")
        await run.signal("go")
        (wait,) = await until_asked(app)
        shelf.clock.jump(30)
        await app.approve(wait.id, by="the boss", valid_s=86_400)
        await until(lambda: faulty.fired)
    await faulty.revive()
    for _ in range(2):
        shelf.clock.jump(3600)
        faulty.fired, faulty.at, faulty.when = False, appends("tool.intent"), "before"
        async with opened(workflow, store=faulty, clock=shelf.clock) as app:
            await until(lambda: faulty.fired)
        await faulty.revive()
    shelf.clock.jump(3600)
    async with opened(workflow, store=faulty, clock=shelf.clock) as app:
        assert await result(app) == 5
        (ref,) = (await gate_of(app)).reads
        age_s = (shelf.clock.now_ns() - ref.at_ns) / 1e9
        assert age_s <= 60, f"it acted on a read that is {age_s:g} s old"


# -- the gate stands at the tool --------------------------------------------------------------------------------------


async def test_law_4_an_agent_does_not_get_round_the_gate() -> None:
    desk = Desk()

    def script(request: Any) -> ToolCall:
        if len(request.messages) == 1:
            return ToolCall("1", "ship", {"number": 1, "to": "work"})
        return ToolCall("2", "answer_completed", {"result": request.messages[-1].parts[0].content, "confidence": 0.5})

    agent: hf.Agent[str] = hf.Agent("desk", model=ScriptedModel(script), instructions="", tools=[desk.ship], output=str)

    async def work() -> str:
        return str((await agent.run("ship it")).result)

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        (wait,) = await until_asked(app)
        assert desk.shipped == []
        await app.deny(wait.id, by="the boss", why="no")
        told = await result(app)
        assert told.startswith("Error: ")
        assert "did not approve it: no" in told
    assert desk.shipped == []


async def test_law_4_an_agent_can_not_endorse_its_own_arguments() -> None:
    desk = Desk(policy="values")

    def script(request: Any) -> ToolCall:
        return ToolCall("1", "ship", {"number": 5, "to": "work"})

    agent: hf.Agent[str] = hf.Agent("desk", model=ScriptedModel(script), instructions="", tools=[desk.ship], output=str)

    async def work() -> str:
        await hf.endorse(5, in_range)
        await hf.endorse("work", known_place)
        return str((await agent.run("ship it")).result)

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r", label=Trust.EXTERNAL)
        await until_asked(app)
    assert desk.shipped == []


async def test_law_4_an_effect_of_a_fallback_passes_the_gate_of_the_fallback() -> None:
    careful = Desk()

    @hf.tool(effect="irreversible", needs=Trust.EXTERNAL, definite=(LookupError,), fallback=[careful.ship])
    async def ship_elsewhere(number: int, to: str = "home") -> str:
        raise LookupError("closed")

    async def work() -> str:
        return await ship_elsewhere(1)

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        (wait,) = await until_asked(app)
        assert careful.shipped == []
        await app.approve(wait.id, by="the boss")
        assert await result(app) == "shipped 1 home"


async def test_law_4_effects_of_a_fork_are_refused_unless_it_says_live() -> None:
    desk = Desk(needs=Trust.EXTERNAL)

    @hf.step
    async def first() -> int:
        return 1

    async def work() -> str:
        number = await first()
        return str(await desk.ship(number))

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        assert await result(app) == "shipped 1 home"
        await app.fork("r", at="1", id="what-if")
        with pytest.raises(hf.HoldfastError, match="fork whose effects are refused"):
            await result(app, "what-if")
        assert len(desk.shipped) == 1
        await app.fork("r", at="1", id="for-real", effects="live")
        assert await result(app, "for-real") == "shipped 1 home"
    assert len(desk.shipped) == 2


async def test_law_4_a_labelled_value_with_a_low_label_under_a_trusted_run_needs_a_person() -> None:
    desk = Desk(policy="values")

    async def work() -> str:
        return str(await desk.ship(hf.Value(5, Label(Trust.EXTERNAL)), to="home"))

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r", label=Trust.PRIMARY)
        await until_asked(app)
    assert desk.shipped == []
