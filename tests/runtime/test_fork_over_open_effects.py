"""A fork does not take over what is not decided: an effect that is out belongs to its source."""

from __future__ import annotations

import anyio

import holdfast as hf
from tests.runtime.support import flow, opened


async def test_a_fork_never_issues_an_effect_that_is_out_in_its_source() -> None:
    issued: list[str] = []
    out, go_on = anyio.Event(), anyio.Event()

    @hf.tool(effect="keyed")
    async def order(what: str, *, key: hf.IdempotencyKey) -> str:
        issued.append(key)
        out.set()
        await go_on.wait()
        return what

    @hf.step
    async def look() -> int:
        return 1

    async def ordered() -> str:
        try:
            return await order("rope")
        except hf.ToolFailed as failed:
            return type(failed).__name__

    async def work() -> list[object]:
        return list(await hf.parallel(ordered(), look()))

    workflow = flow(work)
    async with opened(workflow) as app:
        source = await app.start(workflow, id="source")
        await out.wait()
        fork = await app.fork("source", at="0.1.0", id="fork")
        answer = await fork.result(timeout_s=5)
        assert isinstance(answer, hf.Completed)
        assert answer.result == ["EffectRefused", 1]
        go_on.set()
        assert (await source.result(timeout_s=5)).result == ["rope", 1]
    assert len(issued) == 1
