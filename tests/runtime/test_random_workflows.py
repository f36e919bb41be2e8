"""Random workflows, run straight and run with crashes: same answer, no decided body again, every effect once, and they replay.

A program is plain JSON, the input of one workflow that interprets it. What it does to the world is counted in `World`, which
outlives the crashes; the store is what fails.
"""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Annotated, Any, Literal

import anyio
import msgspec
import pytest
from annotated_types import Interval
from hypothesis import given, settings
from hypothesis import strategies as st

import holdfast as hf
from holdfast.errors import HoldfastError, RunCancelled, StepFailed, StoreUnavailable, TimedOut, ToolFailed
from holdfast.journal import TERMINAL, Event
from holdfast.journal.records import Attempt, Outcome
from holdfast.runtime.clock import SystemClock
from holdfast.runtime.history import NOT_ISSUED
from holdfast.store import RunRow, Store, Stream, open_store
from holdfast.store.memory import MemoryStore
from holdfast.testing import FaultyStore, check_replay
from holdfast.testing.faults import WHEN
from holdfast.trust import Trust
from tests.runtime.support import SOON_S, flow, opened, until_so

Program = list[Any]  # Any: nested JSON
Interruption = tuple[Literal["before", "after", "leave"], int]
AGAIN = hf.Retry(attempts=3, base_s=0.0)


class LaterClock(SystemClock):
    """Real time, set forward between one process and the next: a parent whose child ended unheard looks again after half a minute."""

    def __init__(self) -> None:
        self.later_s = 0

    def now_ns(self) -> int:
        return super().now_ns() + self.later_s * 1_000_000_000


@dataclass
class World:
    """What really took place, by node of the program."""

    bodies: Counter[int] = field(default_factory=Counter)
    effects: Counter[int] = field(default_factory=Counter)
    keys: set[str] = field(default_factory=set)
    failures: Counter[int] = field(default_factory=Counter)

    def body(self, node: int) -> None:
        self.bodies[node] += 1

    def effect(self, node: int, key: str) -> None:
        """The effect of a node, which the other end does once a key."""
        self.effects[node] += key not in self.keys
        self.keys.add(key)

    def fault(self, node: int, times: int) -> bool:
        """Whether this call of the node is one of its first `times`, which fail."""
        self.failures[node] += 1
        return self.failures[node] <= times


WORLD = World()
"""Of the example that is running."""


@hf.step(retry=AGAIN)
async def plain(node: int, fails: int) -> int:
    WORLD.body(node)
    if WORLD.fault(node, fails):
        raise OSError(f"node {node}")
    await anyio.lowlevel.checkpoint()
    return node


@hf.step
async def broken(node: int) -> int:
    WORLD.body(node)
    raise ValueError(f"node {node}")


@hf.tool(effect="read", retry=AGAIN, yields=Trust.PRIMARY)
async def read(node: int, fails: int) -> int:
    WORLD.body(node)
    if WORLD.fault(node, fails):
        raise OSError(f"node {node}")
    return node


@hf.tool(effect="idempotent", retry=AGAIN)
async def set_to(node: int, fails: int) -> int:
    WORLD.effects[node] = 1
    if WORLD.fault(node, fails):
        raise OSError("cut after the effect")
    return node


@hf.tool(effect="keyed", retry=AGAIN)
async def order(node: int, fails: int, *, key: hf.IdempotencyKey) -> int:
    WORLD.effect(node, key)
    if WORLD.fault(node, fails):
        raise OSError("cut after the effect")
    return node


async def was_transferred(key: str, arguments: dict[str, Any]) -> hf.Done | hf.NotDone:
    return hf.Done(arguments["node"]) if WORLD.effects[arguments["node"]] else hf.NotDone()


@hf.tool(effect="irreversible", needs=Trust.EXTERNAL, retry=AGAIN, reconcile=was_transferred)
async def transfer(node: int, fails: int) -> int:
    if WORLD.fault(node, fails):
        raise OSError("cut before the effect")
    WORLD.effects[node] += 1
    return node


@hf.tool(effect="irreversible", needs=Trust.EXTERNAL, timeout_s=0.02)
async def send(node: int, fails: int) -> int:
    WORLD.effects[node] += 1
    return node


@hf.tool(effect="irreversible", timeout_s=0.02)
async def needs_a_person(node: int, fails: int) -> int:
    WORLD.effects[node] += 1
    return node


@hf.tool(effect="keyed", definite=(LookupError,), fallback=[order])
async def refused(node: int, fails: int, *, key: hf.IdempotencyKey) -> int:
    if WORLD.fault(node, 1):
        raise LookupError("closed for now")
    WORLD.effect(node, key)
    return node


@hf.tool(effect="irreversible", needs=Trust.EXTERNAL, definite=(LookupError,))
async def declined(node: int, fails: int) -> int:
    raise LookupError(f"node {node} is not wanted")


@hf.runtime.validator(version="1")
async def small(number: int) -> Annotated[int, Interval(ge=0, le=10_000)]:
    WORLD.body(number)
    return number


TOOLS: dict[str, Any] = {t.name: t for t in (read, set_to, order, transfer, send, needs_a_person, refused, declined)}


async def interpret(program: Program) -> Any:
    return [await node_result(node) for node in program]


async def node_result(node: list[Any]) -> Any:  # noqa: C901  # one case a kind of node
    match node:
        case ["plain", int(n), int(fails)]:
            try:
                return await plain(n, fails)
            except StepFailed as failed:
                return failed.message
        case ["broken", int(n)]:
            try:
                return await broken(n)
            except StepFailed as failed:
                return failed.message
        case ["tool", str(name), int(n), int(fails)]:
            try:
                return await TOOLS[name](n, fails)
            except ToolFailed as failed:
                return failed.message
        case ["parallel", list(branches), limit]:
            return list(await hf.parallel(*(interpret(b) for b in branches), limit=limit))
        case ["parallel that breaks", int(n), list(program)]:
            try:
                await hf.parallel(interpret(program), broken(n))
            except StepFailed as failed:
                return failed.message
        case ["first", list(program)]:
            return list(await hf.first(interpret(program), hf.sleep(10_000), hf.signal("never")))
        case ["timeout", list(program)]:
            return await hf.timeout(interpret(program), timeout_s=10_000)
        case ["too slow", wait]:
            try:
                await hf.timeout(hf.signal("never") if wait == "signal" else hf.sleep(10_000), timeout_s=0.001)
            except TimedOut:
                return "too slow"
        case ["sleep", seconds]:
            return await hf.sleep(seconds)
        case ["signal", int(n)]:
            return await hf.signal(f"signal {n}")
        case ["approval", int(n)]:
            return (await hf.approval(f"may I do {n}?")).approved
        case ["endorse", int(n)]:
            return (await hf.endorse(n, small)).value
        case ["child", list(program)]:
            return (await hf.subrun(CHILD, program)).result
        case ["values"]:
            now, number, id = await hf.now(), await hf.random(), await hf.uuid()
            return bool(now) and 0 <= number < 1 and len(id)
        case ["patched", int(n)]:
            return await hf.patched(f"change-{n}")
        case _:
            raise AssertionError(f"unknown node {node}")


INTERPRET = flow(interpret)
CHILD = flow(interpret, name="child")


# -- programs ---------------------------------------------------------------------------------------------------------


def numbered(shapes: list[Any], numbers: Iterator[int]) -> Program:
    """Give every place that asks for one a number of its own, so that each body and each effect can be told apart."""

    def fill(shape: Any) -> Any:
        if shape == "#":
            return next(numbers)
        return [fill(part) for part in shape] if isinstance(shape, list | tuple) else shape

    return [fill(shape) for shape in shapes]


LEAVES = st.one_of(
    st.tuples(st.just("plain"), st.just("#"), st.integers(0, 2)),
    st.tuples(st.just("plain"), st.just("#"), st.just(0)),
    st.tuples(st.just("broken"), st.just("#")),
    st.tuples(st.just("tool"), st.sampled_from(sorted(TOOLS)), st.just("#"), st.integers(0, 2)),
    st.tuples(st.just("sleep"), st.sampled_from([0, 0.001])),
    st.tuples(st.just("signal"), st.just("#")),
    st.tuples(st.just("approval"), st.just("#")),
    st.tuples(st.just("endorse"), st.just("#")),
    st.tuples(st.just("values")),
    st.tuples(st.just("patched"), st.just("#")),
    st.tuples(st.just("too slow"), st.sampled_from(["signal", "sleep"])),
)
QUIET = st.tuples(st.just("plain"), st.just("#"), st.integers(0, 2))
"""What a branch that loses may hold: nothing that a person is asked about."""


def _deeper(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    block = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        st.tuples(st.just("parallel"), st.lists(block, min_size=1, max_size=3), st.sampled_from([None, 1, 2])),
        st.tuples(st.just("first"), block),
        st.tuples(st.just("timeout"), block),
        st.tuples(
            st.just("child"),
            st.lists(QUIET | st.tuples(st.just("tool"), st.just("order"), st.just("#"), st.just(0)), max_size=2),
        ),
        st.tuples(st.just("parallel that breaks"), st.just("#"), st.lists(QUIET, max_size=2)),
    )


def _programs() -> st.SearchStrategy[Program]:
    shapes = st.lists(st.recursive(LEAVES, _deeper, max_leaves=5), min_size=1, max_size=4)
    return shapes.map(lambda shape: numbered(shape, itertools.count()))


PROGRAMS = _programs()
INTERRUPTIONS: st.SearchStrategy[list[Interruption]] = st.lists(
    st.tuples(st.sampled_from(["before", "after", "leave"]), st.integers(1, 14)), min_size=1, max_size=3
)


def signals_of(program: Any) -> list[int]:
    if isinstance(program, list):
        if program[:1] == ["signal"]:
            return [program[1]]
        return [n for part in program for n in signals_of(part)]
    return []


# -- driving ----------------------------------------------------------------------------------------------------------


async def people(app: hf.App) -> None:
    """Approve everything, and settle every doubt by looking at the world."""
    while True:
        with contextlib.suppress(
            HoldfastError, ValueError
        ):  # decided meanwhile; too early to try again; the store crashed
            for _, wait in await app.approvals():
                if wait.kind == "approval":
                    await app.approve(wait.id, by="a person")
                    continue
                _, event = await app.waiting_event(wait.id)
                asked: Any = event.json()
                node = asked["args"]["node"]
                happened = WORLD.effects[node] > 0
                await app.settle(
                    wait.id, "happened" if happened else "retry", result=node if happened else None, by="a person"
                )
        await anyio.sleep(0.002)


async def drive(
    store: FaultyStore, program: Program, leave_at: int | None = None, clock: SystemClock | None = None
) -> bytes | None:
    """Work on the run until it has an answer (its JSON), the store crashed, or it is time to leave."""
    async with opened(INTERPRET, CHILD, store=store, clock=clock) as app, anyio.create_task_group() as group:
        group.start_soon(people, app)
        answer = None
        try:
            with anyio.move_on_after(SOON_S):
                answer = await _answer(app, store, program, leave_at)
        except StoreUnavailable:
            if not store.dead:
                raise
        group.cancel_scope.cancel()
    return answer


async def _answer(app: hf.App, store: FaultyStore, program: Program, leave_at: int | None) -> bytes | None:
    run = await app.start(INTERPRET, program, id="r")
    for number in signals_of(program):
        await run.signal(f"signal {number}", number, key=f"signal {number}")
    while not store.dead and (leave_at is None or store.writes < leave_at):
        if (await app.journal.run("r")).status in TERMINAL:
            try:
                return INTERPRET.answer.encode(await app.result("r"))
            except RunCancelled as cancelled:
                return str(cancelled).encode()
        await anyio.sleep(0.001)
    return None


async def completed_bodies(store: Store) -> set[int]:
    """Nodes of plain steps and reads whose outcome is stored."""
    from holdfast.journal import read_event

    done: set[int] = set()
    for run in await store.runs():
        for row in await store.rows(run.run, Stream.RUN):
            event = read_event(row)
            if event.kind in ("step.completed", "tool.completed") and event.name in ("plain", "read"):
                done.add(msgspec.json.decode(event.payload(Outcome).input)["node"])
    return done


async def check(program: Program, interruptions: list[Interruption], straight_on: Store, inner: Store) -> None:
    WORLD.__init__()  # type: ignore[misc]  # a new world in the place where the tools look
    straight = await drive(FaultyStore(straight_on), program)
    if straight is None:
        raise AssertionError(f"the straight run does not end: {await _told(straight_on)}")
    once = dict(WORLD.effects)
    assert set(once.values()) <= {1}, "an effect was asked for and did not take place"

    WORLD.__init__()  # type: ignore[misc]
    clock = LaterClock()
    for how, at in interruptions:
        before = await completed_bodies(inner)
        counted = Counter(WORLD.bodies)
        store = FaultyStore(inner, at=at if how != "leave" else None, when="after" if how == "after" else "before")
        await drive(store, program, at if how == "leave" else None, clock)
        await store.revive()
        clock.later_s += 31
        assert all(WORLD.bodies[node] == counted[node] for node in before), "a decided body ran again"
    store = FaultyStore(inner)
    before, counted = await completed_bodies(inner), Counter(WORLD.bodies)
    answer = await drive(store, program, clock=clock)
    if answer is None:
        raise AssertionError(f"the resumed run does not end: {await _told(inner)}")
    assert answer == straight
    assert all(WORLD.bodies[node] == counted[node] for node in before), "a decided body ran again"
    assert {k: n for k, n in WORLD.effects.items() if n} == {k: n for k, n in once.items() if n}
    async with opened(INTERPRET, CHILD, store=inner, worker=False) as app:
        for run in await app.runs():
            await check_replay(app, run.run)
            check_outcomes(await app.events(run.run))
        report = await app.verify()
        assert report.ok, report.problems


def check_outcomes(events: Sequence[Event]) -> None:
    """A step has one outcome, and nothing happens to it afterwards."""
    decided: set[str] = set()
    for event in events:
        if event.kind.startswith("run.") or not event.path:
            continue
        assert event.path not in decided, f"{event.kind} {event.path} after its outcome"
        if event.kind.endswith((".completed", ".failed")):
            decided.add(event.path)


async def _told(store: Store) -> str:
    from holdfast.journal import read_event

    row = await store.run("r")
    events = [read_event(row) for row in await store.rows("r", Stream.RUN)]
    return f"{row and row.status}: " + ", ".join(f"{e.kind} {e.path}" for e in events)


@pytest.mark.slow
@settings(max_examples=60)
@given(PROGRAMS, INTERRUPTIONS)
async def test_a_random_workflow_gives_the_same_answer_however_often_it_is_interrupted(
    program: Program, interruptions: list[Interruption]
) -> None:
    await check(program, interruptions, MemoryStore(), MemoryStore())


@pytest.mark.slow
@settings(max_examples=25)
@given(PROGRAMS, INTERRUPTIONS)
async def test_a_random_workflow_gives_the_same_answer_on_a_real_file(
    program: Program, interruptions: list[Interruption]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        stores = [await open_store(Path(folder, name)) for name in ("straight.db", "interrupted.db")]
        try:
            await check(program, interruptions, *stores)
        finally:
            for store in stores:
                await store.close()


@pytest.mark.slow
@settings(max_examples=40)
@given(PROGRAMS, st.integers(1, 14), st.one_of(st.none(), st.integers(1, 6)))
async def test_a_random_workflow_that_is_cancelled_at_any_moment_ends_and_leaves_nothing_unsaid(
    program: Program, cancel_at: int, crash_after: int | None
) -> None:
    WORLD.__init__()  # type: ignore[misc]
    inner, clock = MemoryStore(), LaterClock()
    store = FaultyStore(inner)
    await drive(store, program, cancel_at, clock)
    async with opened(INTERPRET, CHILD, store=inner, worker=False) as client:
        await client.run("r").cancel("not wanted any more")
    clock.later_s += 31
    if crash_after is not None:
        store = FaultyStore(inner, at=crash_after)
        await drive(store, program, clock=clock)
        await store.revive()
        clock.later_s += 31
    async with opened(INTERPRET, CHILD, store=inner, clock=clock) as app:
        await until_so(partial(_all_over, app))
        for row in await app.runs():
            await _check_said(app, row)
            check_outcomes(await app.events(row.run))
        report = await app.verify()
        assert report.ok, report.problems


async def _all_over(app: hf.App) -> bool:
    return all(row.status in TERMINAL for row in await app.runs())


async def _check_said(app: hf.App, row: RunRow) -> None:
    """Every intent has an outcome, or was taken back before it was issued, or the end of the run says that it is in doubt."""
    assert row.status in ("completed", "cancelled")
    events = await app.events(row.run)
    open_intents: set[str] = set()
    for event in events:
        if event.kind == "tool.intent":
            open_intents.add(event.path)
        elif event.kind in ("tool.completed", "tool.failed") or (
            event.kind == "tool.attempt" and event.payload(Attempt).via == NOT_ISSUED
        ):
            open_intents.discard(event.path)
    for path in open_intents:
        assert row.status == "cancelled"
        last: Any = events[-1].json()
        assert f"step {path}" in last["error"]["message"], (
            f"{row.run}: nobody says that the effect at {path} is in doubt"
        )


# -- deep programs of waits that are answered at random moments -------------------------------------------------------


def deep_program(random: Random) -> Program:
    """Groups within groups, mostly of waits: what parks, comes apart and is woken in every order."""
    numbers = itertools.count()

    def leaf() -> list[Any]:
        number = next(numbers)
        leaves: list[list[Any]] = [
            *[["signal", number]] * 3,
            *[["plain", number, 0]] * 2,
            ["plain", number, 1],
            ["sleep", random.choice([0, 0.001, 0.003])],
            ["approval", number],
            ["too slow", random.choice(["signal", "sleep"])],
            ["child", [["plain", number, 0]]],
            ["broken", number],
            ["tool", "order", number, 0],
        ]
        return random.choice(leaves)

    def node(depth: int) -> list[Any]:
        if depth == 0 or random.random() < 0.35:
            return leaf()
        match random.choice(["parallel", "parallel", "first", "timeout"]):
            case "parallel":
                branches = [block(depth) for _ in range(random.randint(2, 4))]
                return ["parallel", branches, random.choice([None, None, 2])]
            case kind:
                return [kind, block(depth)]

    def block(depth: int) -> Program:
        return [node(depth - 1) for _ in range(random.randint(1, 2))]

    return block(4)


async def signal_at_any_moment(client: hf.App, program: Program, random: Random) -> None:
    async def send(number: int) -> None:
        await anyio.sleep(random.random() * 0.03)
        for _ in range(random.randint(0, 6)):
            await anyio.lowlevel.checkpoint()
        await client.run("r").signal(f"signal {number}", number, key=f"signal {number}")

    async with anyio.create_task_group() as group:
        for number in signals_of(program):
            group.start_soon(send, number)


async def live_for_a_while(store: FaultyStore, clock: SystemClock, seconds: float) -> None:
    """One life of a worker: until its store crashes or its time is over."""
    async with opened(INTERPRET, CHILD, store=store, clock=clock) as app, anyio.create_task_group() as group:
        group.start_soon(people, app)
        with anyio.move_on_after(seconds):
            await until_so(partial(_crashed_or_over, app, store))
        group.cancel_scope.cancel()


async def _crashed_or_over(app: hf.App, store: FaultyStore) -> bool:
    try:
        return (await app.journal.run("r")).status in TERMINAL
    except StoreUnavailable:
        assert store.dead
        return True


@pytest.mark.slow
@settings(max_examples=40)
@given(st.integers(0, 2**32))
async def test_no_wait_of_a_deep_workflow_is_lost_whatever_the_moment_of_answers_and_crashes(seed: int) -> None:
    WORLD.__init__()  # type: ignore[misc]
    random = Random(seed)
    program, inner, clock = deep_program(random), MemoryStore(), LaterClock()
    async with opened(INTERPRET, CHILD, store=inner, clock=clock, worker=False) as client:
        await client.start(INTERPRET, program, id="r")
        async with anyio.create_task_group() as group:
            group.start_soon(signal_at_any_moment, client, program, random)
            for _ in range(random.randint(0, 2)):
                before, counted = await completed_bodies(inner), Counter(WORLD.bodies)
                store = FaultyStore(inner, at=random.randint(1, 12), when=random.choice(WHEN))
                await live_for_a_while(store, clock, random.random() * 0.05)
                await store.revive()
                clock.later_s += 31
                assert all(WORLD.bodies[node] == counted[node] for node in before), "a decided body ran again"
        await live_for_a_while(FaultyStore(inner), clock, SOON_S)
        assert (await client.info("r")).status == "completed", await _told(inner)
        assert set(WORLD.effects.values()) <= {1}
        for run in await client.runs():
            await check_replay(client, run.run)
            check_outcomes(await client.events(run.run))
        report = await client.verify()
        assert report.ok, report.problems
