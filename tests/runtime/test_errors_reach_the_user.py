"""What goes wrong reaches whoever waits, as the typed error that it is, and never as a hang."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytest

import holdfast as hf
from holdfast.errors import RunFailed, StrandedRun, WorkflowDefect
from holdfast.runtime import Registry
from holdfast.store.memory import MemoryStore
from tests.runtime.support import flow, opened


async def test_an_error_in_the_body_of_an_open_app_arrives_as_itself() -> None:
    @hf.step
    async def breaks() -> int:
        raise ValueError("no")

    async def work() -> int:
        return await breaks()

    with pytest.raises(RunFailed, match="run r failed at step 0"):
        async with hf.open(store=MemoryStore(), registry=_registry(workflow := flow(work))) as app:
            await (await app.start(workflow, id="r")).result(timeout_s=5)


async def test_a_run_that_no_loaded_code_accepts_is_not_waited_for() -> None:
    async def work() -> int:
        return int(await hf.signal("go"))

    old, store = flow(work), MemoryStore()
    async with opened(old, store=store) as app:
        await app.start(old, id="r")
    async with hf.open(store=store, registry=Registry()) as app:
        with pytest.raises(StrandedRun, match="run r was begun by"):
            await app.run("r").result(timeout_s=5)


@pytest.mark.parametrize("where", ["step", "tool", "workflow"])
async def test_an_exit_deep_in_a_library_ends_the_run_and_not_the_worker(where: str) -> None:
    @hf.step
    async def step() -> int:
        sys.exit(3)

    @hf.tool(effect="read")
    async def tool() -> int:
        sys.exit(3)

    async def work() -> int:
        if where == "workflow":
            sys.exit(3)
        return await (step() if where == "step" else tool())

    workflow = flow(work)
    async with opened(workflow) as app:
        with pytest.raises(RunFailed, match="SystemExit"):
            await (await app.start(workflow, id="r")).result(timeout_s=5)


async def test_a_plain_function_that_hangs_does_not_hold_its_run() -> None:
    @hf.tool(effect="read", timeout_s=0.05)  # type: ignore[arg-type]  # a plain function runs in a thread
    def slow() -> int:
        time.sleep(0.5)
        return 1

    async def work() -> Any:
        return await slow()

    workflow = flow(work)
    async with opened(workflow) as app:
        began = time.monotonic()
        with pytest.raises(RunFailed, match="did not answer within"):
            await (await app.start(workflow, id="r")).result(timeout_s=5)
        assert time.monotonic() - began < 0.4


async def test_what_is_no_workflow_is_refused() -> None:
    async with hf.open(store=MemoryStore()) as app:
        with pytest.raises(WorkflowDefect, match="takes a function declared with"):
            await app.start("nope")  # type: ignore[arg-type]  # the case


def _registry(workflow: Any) -> Registry:
    registry = Registry()
    registry.add(workflow)
    return registry
