"""A workflow that changed under a run in flight: versions, patches, mismatches. Nothing is lost, and the right code goes on."""

from __future__ import annotations

import contextlib
import logging
from typing import Any

import anyio
import pytest

import holdfast as hf
from holdfast.errors import HoldfastError, RunNeedsAttention, UnknownWorkflow, WorkflowDefect
from holdfast.runtime import Registry
from holdfast.store.memory import MemoryStore
from holdfast.testing import Diverged, check_replay
from tests.runtime.support import flow, kinds, loaded, opened, result, until_recorded, until_status


def a_step(name: str, returns: Any, kind: Any = int) -> Any:
    async def body(n: int) -> Any:
        return returns

    body.__annotations__["return"] = kind
    return hf.step(name=name)(body)


one, two = a_step("one", 1), a_step("two", 2)


async def until_parked(work: Any, *, version: str = "1", input: tuple[object, ...] = ()) -> MemoryStore:
    store = MemoryStore()
    workflow = flow(work, name="work", version=version)
    async with opened(workflow, store=store) as app:
        await app.start(workflow, *input, id="r")
        await until_status(app, "r", "waiting")
    return store


async def original() -> str:
    first = await one(1)
    go = await hf.signal("go")
    return f"{first} {go} {await two(2)}"


async def other_step() -> str:
    return f"{await two(1)} {await hf.signal('go')}"


async def other_input() -> str:
    return f"{await one(5)} {await hf.signal('go')}"


async def other_order() -> str:
    go = await hf.signal("go")
    return f"{await one(1)} {go}"


async def other_kind() -> str:
    @hf.tool(effect="read", name="one")
    async def as_tool(n: int) -> int:
        return 1

    return f"{await as_tool(1)} {await hf.signal('go')}"


async def other_type() -> str:
    return f"{await a_step('one', [], list[str])(1)} {await hf.signal('go')}"


async def in_a_branch() -> str:
    (first,) = await hf.parallel(one(1))
    return f"{first} {await hf.signal('go')}"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (other_step, r"the journal has step 'one', the code asks for step 'two'"),
        (other_input, r"step 'one' with input .*1.*, the code asks for .*5"),
        (other_order, r"the journal has step 'one', the code asks for signal 'go'"),
        (other_kind, r"the journal has step 'one', the code asks for tool 'one'"),
        (other_type, r"run r, step 0"),
        (in_a_branch, r"the journal has step 'one', the code asks for scope 'parallel'"),
    ],
)
async def test_a_changed_workflow_goes_to_a_person_and_goes_on_with_the_right_code(changed: Any, said: str) -> None:
    store = await until_parked(original)
    async with opened(flow(changed, name="work"), store=store) as app:
        before = await kinds(app)
        await app.run("r").signal("go", "went")
        with pytest.raises(RunNeedsAttention, match=said):
            await app.result("r", timeout_s=5)
        assert (await app.info("r")).status == "attention"
        assert await kinds(app) == [*before, "run.attention"]
        await app.resume("r", by="a person")  # with the same code: the same again
        with pytest.raises(RunNeedsAttention, match=said):
            await app.result("r", timeout_s=5)
    async with opened(flow(original, name="work"), store=store) as app:
        await app.resume("r", by="a person")
        assert await result(app) == "1 went 2"


async def test_a_mismatch_names_the_nearest_step_of_that_name() -> None:
    async def before() -> int:
        await one(1)
        await hf.now()
        await hf.signal("go")
        return 1

    async def after() -> int:
        await hf.now()
        return 1

    store = await until_parked(before)
    async with opened(flow(after, name="work"), store=store) as app:
        await app.run("r").signal("go")
        with pytest.raises(RunNeedsAttention, match=r"The nearest recorded step of that name is 1\."):
            await app.result("r", timeout_s=5)


async def test_a_mismatch_can_not_be_caught_by_the_workflow() -> None:
    async def after() -> str:
        with contextlib.suppress(HoldfastError):
            await two(1)
        return "as if nothing had happened"

    store = await until_parked(original)
    async with opened(flow(after, name="work"), store=store) as app:
        await app.run("r").signal("go")
        with pytest.raises(RunNeedsAttention):
            await app.result("r", timeout_s=5)


async def test_an_input_that_the_code_can_no_longer_read_goes_to_a_person() -> None:
    async def before(n: int) -> object:
        return await hf.signal("go")

    async def after(n: list[str]) -> object:
        return await hf.signal("go")

    store = await until_parked(before, input=(1,))
    async with opened(flow(after, name="work"), store=store) as app:
        await app.run("r").signal("go", 7)
        with pytest.raises(RunNeedsAttention, match="run r"):
            await app.result("r", timeout_s=5)
    async with opened(flow(before, name="work"), store=store) as app:
        await app.resume("r")
        assert await result(app) == 7


async def test_other_arguments_under_an_intent_in_flight_stop_the_run() -> None:
    from tests.runtime.support import appends, crashed

    number = [1]

    @hf.tool(effect="keyed")
    async def order(n: int, *, key: hf.IdempotencyKey) -> int:
        return n

    async def work() -> int:
        return await order(number[0])

    workflow = flow(work)
    store = await crashed(workflow, at=appends("tool.intent"), when="after")
    number[0] = 2
    async with opened(workflow, store=store) as app:
        with pytest.raises(RunNeedsAttention, match="other arguments under the same key"):
            await app.result("r", timeout_s=5)
    number[0] = 1
    async with opened(workflow, store=store) as app:
        await app.resume("r")
        assert await result(app) == 1


# -- versions ---------------------------------------------------------------------------------------------------------


async def test_a_run_goes_on_only_on_code_that_declares_its_version(caplog: pytest.LogCaptureFixture) -> None:
    store = await until_parked(original, version="1")
    newer = flow(original, name="work", version="2")
    with caplog.at_level(logging.INFO):
        async with opened(newer, store=store) as app:
            await app.run("r").signal("go", "went")
            await anyio.sleep(0.03)
            assert (await app.info("r")).status == "waiting"
            assert [row.run for row in await app.stranded()] == ["r"]
    assert any(
        "stranded" in record.getMessage() or "no loaded code" in record.getMessage() for record in caplog.records
    )
    async with opened(flow(original, name="work", version="2", accepts=["1"]), store=store) as app:
        assert list(await app.stranded()) == []
        assert await result(app) == "1 went 2"


async def test_two_versions_side_by_side_each_drive_their_own_runs() -> None:
    async def older() -> str:
        return f"old {await hf.signal('go')}"

    async def newer() -> str:
        return f"new {await hf.signal('go')}"

    old, new = flow(older, name="work", version="1"), flow(newer, name="work", version="2", accepts=["1"])
    async with opened(old, new) as app:
        for id, workflow in (("a", old), ("b", new)):
            run = await app.start(workflow, id=id)
            await run.signal("go", id)
        assert await result(app, "a") == "old a"
        assert await result(app, "b") == "new b"


async def test_a_run_of_an_older_version_is_known_by_it() -> None:
    store = await until_parked(original, version="1")
    async with opened(flow(original, name="work", version="2", accepts=["1"]), store=store) as app:
        assert (await app.info("r")).version == "1"
        await app.run("r").signal("go", "went")
        assert await result(app) == "1 went 2"


def test_a_registry_knows_what_it_loaded() -> None:
    registry = loaded(flow(original, name="work", version="2", accepts=["1"]))
    assert registry.accepting("work", "1") is registry.accepting("work", "2") is registry.named("work")
    assert registry.accepting("work", "3") is None
    assert registry.versions() == [("work", "1"), ("work", "2")]
    with pytest.raises(UnknownWorkflow, match=r"no workflow 'other' is loaded \(loaded: work\)"):
        registry.named("other")
    with pytest.raises(UnknownWorkflow, match="loaded: none"):
        Registry().named("other")


def test_one_name_and_version_can_not_be_declared_in_two_places() -> None:
    registry = loaded(flow(original, name="work"))
    registry.add(flow(original, name="work"))  # the same module, loaded again
    with pytest.raises(WorkflowDefect, match=r"declared in .* and again in"):
        registry.add(flow(other_step, name="work"))


# -- patches ----------------------------------------------------------------------------------------------------------


async def patched_before() -> list[Any]:
    return [await one(1), await hf.signal("go"), await two(2), await hf.signal("end")]


async def patched_after() -> list[Any]:
    found = [await one(1), await hf.signal("go")]
    if await hf.patched("twice"):
        found.append(await one(10))
    return [*found, await two(2), await hf.signal("end")]


async def test_a_run_that_has_not_passed_the_place_takes_the_new_code() -> None:
    store = await until_parked(patched_before)
    async with opened(flow(patched_after, name="work"), store=store) as app:
        await app.run("r").signal("go", "g")
        await app.run("r").signal("end", "e")
        assert await result(app) == [1, "g", 1, 2, "e"]
        await check_replay(app, "r")


async def test_a_run_that_has_passed_the_place_keeps_the_old_code_for_good() -> None:
    store = await until_parked(patched_before)
    async with opened(flow(patched_before, name="work"), store=store) as app:
        await app.run("r").signal("go", "g")
        await until_recorded(app, "signal.waiting 3")
    for _ in range(2):  # however often it is looked at
        async with opened(flow(patched_after, name="work"), store=store) as app:
            await app.drain()
    async with opened(flow(patched_after, name="work"), store=store) as app:
        await app.run("r").signal("end", "e")
        assert await result(app) == [1, "g", 2, "e"]
        await check_replay(app, "r")


async def test_a_new_run_takes_the_new_code_and_asks_once_a_place() -> None:
    async def work() -> list[bool]:
        return [await hf.patched("a"), await hf.patched("a"), await hf.patched("b")]

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        assert await result(app) == [True, True, True]
        await check_replay(app, "r")


async def test_branches_can_be_patched_each_for_itself() -> None:
    async def branch(n: int) -> list[Any]:
        return [await hf.patched("in a branch"), await a_step("step", n)(n), await hf.signal(f"go {n}")]

    async def work() -> list[Any]:
        return list(await hf.parallel(branch(1), branch(2)))

    workflow = flow(work)
    async with opened(workflow) as app:
        run = await app.start(workflow, id="r")
        await run.signal("go 1", 1)
        await until_status(app, "r", "waiting")
        await run.signal("go 2", 2)
        assert await result(app) == [[True, 1, 1], [True, 2, 2]]
        await check_replay(app, "r")


# -- the checker ------------------------------------------------------------------------------------------------------


async def test_the_checker_finds_a_workflow_that_is_not_deterministic() -> None:
    turn = [0]

    async def work() -> int:
        turn[0] += 1
        return int(await one(turn[0]))

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        await result(app)
        with pytest.raises(Diverged, match=r"run r.*step 0.*input"):
            await check_replay(app, "r")


async def test_the_checker_finds_a_step_that_is_asked_for_too_much_and_one_that_is_left_out() -> None:
    extra = [False]

    async def work() -> int:
        total = int(await one(1))
        if not extra[0]:
            total += int(await two(2))
        return total

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="long")
        await result(app, "long")
        extra[0] = True
        await app.start(workflow, id="short")
        await result(app, "short")
        with pytest.raises(
            Diverged, match=r"run long: the journal has step.completed 'two' at 1, the replay never asks for it"
        ):
            await check_replay(app, "long")
        extra[0] = False
        with pytest.raises(
            Diverged, match=r"run short: the replay asks for step 'two' at 1.*which the journal does not have"
        ):
            await check_replay(app, "short")


async def test_the_checker_finds_another_end() -> None:
    end = [1]

    async def work() -> int:
        await one(1)
        return end[0]

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        await result(app)
        replay = await check_replay(app, "r")
        assert [str(asked).split(" with")[0] for asked in replay.asked] == ["step 'one' at 0"]
        end[0] = 2
        with pytest.raises(Diverged, match="run r ended with"):
            await check_replay(app, "r")


async def test_the_checker_takes_a_store_and_runs_nothing() -> None:
    calls: list[int] = []

    @hf.step
    async def counted(n: int) -> int:
        calls.append(n)
        return n

    async def work() -> int:
        return sum(await hf.parallel(counted(1), counted(2)))

    workflow = flow(work)
    store = MemoryStore()
    async with opened(workflow, store=store) as app:
        await app.start(workflow, id="r")
        await result(app)
        count = (await app.info("r")).events
    await check_replay(store, "r", registry=loaded(workflow))
    assert len(calls) == 2
    async with opened(workflow, store=store, worker=False) as app:
        assert (await app.info("r")).events == count
        run = await app.start(flow(original), id="unfinished")
        with pytest.raises(ValueError, match="run unfinished is pending"):
            await check_replay(app, run.id)
