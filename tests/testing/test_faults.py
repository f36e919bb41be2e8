"""The store that fails where it is told to, and the system that counts effects: fakes that are relied on are tested."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import holdfast as hf
from holdfast.errors import StoreFull, StoreUnavailable
from holdfast.store import Store
from holdfast.store.memory import MemoryStore
from holdfast.testing import FaultyStore
from holdfast.testing.effects import EffectServer, Refused, find, perform
from tests.runtime.support import until


@hf.workflow(version="1", name="two steps of test_faults")
async def two_steps() -> int:
    return await _one() + await _one()


@hf.step(name="one of test_faults")
async def _one() -> int:
    return 1


async def run_on(store: Store) -> int:
    async with hf.open(store=store) as app:
        answer = await (await app.start(two_steps, id="r")).result(timeout_s=5)
        result: int = answer.result
        return result


async def test_without_a_fault_it_is_the_store_it_wraps_and_counts_the_writes() -> None:
    store = FaultyStore(MemoryStore())
    assert await run_on(store) == 2
    assert store.writes == 4
    assert not store.fired


@pytest.mark.parametrize(("when", "there"), [("before", False), ("after", True)])
async def test_a_write_fails_before_or_after_it_is_stored(when: str, there: bool) -> None:
    inner = MemoryStore()
    store = FaultyStore(inner, at=1, when=when, act="unavailable")  # type: ignore[arg-type]  # a literal
    async with hf.open(store=store) as app:
        with pytest.raises(StoreUnavailable):
            await app.start(two_steps, id="r")
    assert store.fired
    assert (await inner.run("r") is not None) == there


async def test_a_full_store_has_stored_nothing_whatever_the_moment() -> None:
    inner = MemoryStore()
    async with hf.open(store=FaultyStore(inner, at=1, when="after", act="full")) as app:
        with pytest.raises(StoreFull):
            await app.start(two_steps, id="r")
        assert await inner.run("r") is None
        answer = await (await app.start(two_steps, id="r")).result(timeout_s=5)
        assert answer.result == 2


async def test_after_a_crash_nothing_goes_until_it_is_revived() -> None:
    store = FaultyStore(MemoryStore(), at=2, act="crash")
    async with hf.open(store=store) as app:
        await app.start(two_steps, id="r")
        await until(lambda: store.dead)
        with pytest.raises(StoreUnavailable):
            await app.runs()
    await store.revive()
    assert await run_on(store) == 2


@pytest.fixture(scope="module")
def server() -> Iterator[EffectServer]:
    with EffectServer() as started:
        yield started


async def test_effects_are_counted_by_name_and_key(server: EffectServer) -> None:
    await perform(server.port, "plain", "a")
    await perform(server.port, "plain", "a")
    await perform(server.port, "deduped", "a", dedupe=True)
    await perform(server.port, "deduped", "a", dedupe=True)
    counts = server.counts()
    assert counts["plain"] == {"a": 2}
    assert counts["deduped"] == {"a": 1}
    assert await find(server.port, "deduped", "a") is not None
    assert await find(server.port, "deduped", "b") is None


async def test_requests_go_wrong_as_planned_and_then_right_again(server: EffectServer) -> None:
    server.plan("planned", ["refuse", "cut_before", "cut_after", "twice"])
    with pytest.raises(Refused):
        await perform(server.port, "planned", "refused")
    with pytest.raises(ConnectionError):
        await perform(server.port, "planned", "cut before")
    with pytest.raises(ConnectionError):
        await perform(server.port, "planned", "cut after")
    await perform(server.port, "planned", "twice")
    await perform(server.port, "planned", "well")
    counts = server.counts()
    assert counts["planned"] == {"cut after": 1, "twice": 2, "well": 1}
