"""Conclusions: answers on a subject are found by later runs; a contradiction goes to a person with both sides."""

from __future__ import annotations

from typing import Any

import pytest

import holdfast as hf
from holdfast.agent import Conclusion
from holdfast.store import Stream
from holdfast.store.memory import MemoryStore
from holdfast.trust import Trust
from tests.agent.support import Draft, agent_of, asking, completed, refused
from tests.runtime.support import SOON_S, flow, opened, until_status


def fewer(now: Draft, earlier: Draft) -> str | None:
    return f"{now.quantity} is less than {earlier.quantity}" if now.quantity < earlier.quantity else None


def drafting(quantity: int, *, subject: str | None = "customer 7", **options: Any) -> Any:
    agent, _ = agent_of(completed({"sku": "A1", "quantity": quantity}), contradicts=fewer, **options)
    return asking(agent, subject=subject)


async def answered(store: MemoryStore, id: str, quantity: int, **options: Any) -> hf.Answer[Draft]:
    workflow = drafting(quantity, **options)
    async with opened(workflow, store=store) as app:
        run = await app.start(workflow, "?", id=id, label=Trust.PRIMARY)
        return await run.result(timeout_s=SOON_S)


async def found(store: MemoryStore, subject: str = "customer 7", **options: Any) -> list[Conclusion[Any]]:
    """What another run finds on a subject."""
    collected: list[Conclusion[Any]] = []

    async def look() -> int:
        collected.extend(await hf.conclusions(subject, **options))
        return len(collected)

    workflow = flow(look)
    async with opened(workflow, store=store) as app:
        await (await app.start(workflow)).result(timeout_s=SOON_S)
    return collected


async def test_an_answer_on_a_subject_is_found_by_later_runs_newest_first_with_where_it_came_from() -> None:
    store = MemoryStore()
    for number, run in enumerate(("a", "b", "c")):
        assert isinstance(await answered(store, run, 2 + number), hf.Completed)
    there = await found(store, type=Draft)
    assert [(c.run, c.result.quantity) for c in there] == [("c", 4), ("b", 3), ("a", 2)]
    assert there[0].path == "0.2"
    assert (there[0].confidence, there[0].trust) == (0.8, "PRIMARY")
    assert there[0].at_ns > there[1].at_ns > there[2].at_ns


async def test_another_subject_and_answers_without_one_are_not_found() -> None:
    store = MemoryStore()
    await answered(store, "a", 2, subject="customer 8")
    await answered(store, "b", 3, subject=None)
    assert await found(store) == []
    assert await found(store, "desk") == []


async def test_only_completed_answers_are_conclusions() -> None:
    store = MemoryStore()
    agent, _ = agent_of(refused())
    workflow = asking(agent, subject="customer 7")
    async with opened(workflow, store=store) as app:
        await (await app.start(workflow, "?")).result(timeout_s=SOON_S)
    assert await found(store) == []


async def test_a_contradiction_escalates_with_both_sides_and_is_no_conclusion_itself() -> None:
    store = MemoryStore()
    await answered(store, "last-week", 5)
    assert await answered(store, "today", 2) == hf.Escalated(
        reason="conflict with an earlier conclusion: 2 is less than 5",
        attached={
            "now": {"sku": "A1", "quantity": 2}, "earlier": {"sku": "A1", "quantity": 5}, "earlier_run": "last-week",
        },
    )  # fmt: skip
    assert [c.run for c in await found(store)] == ["last-week"]


async def test_any_of_the_earlier_ones_may_contradict() -> None:
    store = MemoryStore()
    await answered(store, "a", 3)
    await answered(store, "b", 5)
    answer = await answered(store, "c", 4)
    assert isinstance(answer, hf.Escalated)
    assert answer.attached["earlier_run"] == "b"


async def test_without_a_subject_nothing_is_compared() -> None:
    store = MemoryStore()
    await answered(store, "a", 5, subject=None)
    assert isinstance(await answered(store, "b", 2, subject=None), hf.Completed)


async def test_a_redacted_conclusion_is_left_out_and_contradicts_nobody() -> None:
    store = MemoryStore()
    await answered(store, "a", 5)
    await answered(store, "b", 6)
    async with opened(store=store, worker=False) as client:
        await client.redact("b", by="a person", why="asked to")
    assert [c.run for c in await found(store)] == ["a"]
    assert isinstance(await answered(store, "c", 5), hf.Completed)


async def test_redacted_ones_do_not_crowd_out_older_ones() -> None:
    store = MemoryStore()
    await answered(store, "old", 1)
    for number in range(4):
        await answered(store, f"gone{number}", 1)
    async with opened(store=store, worker=False) as client:
        for number in range(4):
            await client.redact(f"gone{number}", by="a person", why="asked to")
    assert [c.run for c in await found(store, limit=2)] == ["old"]


async def test_a_result_that_is_not_of_the_asked_type_is_left_out() -> None:
    store = MemoryStore()
    await answered(store, "a", 5)
    assert await found(store, type=int) == []
    assert [c.result for c in await found(store)] == [{"sku": "A1", "quantity": 5}]


async def test_what_was_found_is_recorded_and_stays_on_replay() -> None:
    store = MemoryStore()
    await answered(store, "a", 2)

    async def look() -> int:
        there = await hf.conclusions("customer 7")
        await hf.signal("go")
        return len(there)

    workflow = flow(look)
    async with opened(workflow, store=store) as app:
        run = await app.start(workflow, id="looking")
        await until_status(app, run.id, "waiting")
    await answered(store, "b", 3)
    async with opened(workflow, store=store) as app:
        await app.run("looking").signal("go")
        assert (await app.result("looking", timeout_s=SOON_S)).result == 1


async def test_a_run_does_not_contradict_itself() -> None:
    store = MemoryStore()
    more, _ = agent_of(completed({"sku": "A1", "quantity": 5}), contradicts=fewer)
    less, _ = agent_of(completed({"sku": "A1", "quantity": 2}), contradicts=fewer)

    async def handle() -> hf.Answer[Draft]:
        await more.run("?", subject="customer 7")
        return await less.run("?", subject="customer 7")

    workflow = flow(handle)
    async with opened(workflow, store=store) as app:
        run = await app.start(workflow)
        assert isinstance(await run.result(timeout_s=SOON_S), hf.Completed)


async def test_the_subject_stands_nowhere_in_a_header() -> None:
    store = MemoryStore()
    await answered(store, "a", 2, subject="Mallow and Sons")
    async with opened(store=store, worker=False) as client:
        events = await client.events("a")
        assert not any("Mallow" in event.name + event.path for event in events)
        with store.snapshot() as snapshot:
            assert not [row for row in snapshot.rows("a", Stream.RUN) if b"Mallow" in row.header]


# -- confidence and trust --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("confidence", "level", "causes"),
    [
        (0.0, Trust.UNVERIFIED, ["low confidence"]),
        (0.49, Trust.UNVERIFIED, ["low confidence"]),
        (0.5, Trust.PRIMARY, []),
        (0.9, Trust.PRIMARY, []),
    ],
)
async def test_a_low_confidence_lowers_the_trust_of_the_run_and_every_one_is_kept(
    confidence: float, level: Trust, causes: list[str]
) -> None:
    agent, _ = agent_of(completed(confidence=confidence))
    workflow = asking(agent)
    async with opened(workflow) as app:
        run = await app.start(workflow, "?", label=Trust.PRIMARY)
        answer = await run.result(timeout_s=SOON_S)
        assert isinstance(answer, hf.Completed)
        assert (answer.confidence, answer.calibrated) == (confidence, None)
        label = (await run.status()).label
        assert (label.level, label.confidence) == (level, confidence)
        assert [(cause.kind, cause.step) for cause in label.causes] == [(kind, "0.1") for kind in causes]


async def test_the_lowest_confidence_on_the_way_is_the_runs() -> None:
    sure, _ = agent_of(completed(confidence=0.9), completed(confidence=0.9))
    unsure, _ = agent_of(completed(confidence=0.6))

    async def handle() -> None:
        for agent in (sure, unsure, sure):
            await agent.run("?")

    workflow = flow(handle)
    async with opened(workflow) as app:
        run = await app.start(workflow, label=Trust.PRIMARY)
        await run.result(timeout_s=SOON_S)
        assert (await run.status()).label.confidence == 0.6
