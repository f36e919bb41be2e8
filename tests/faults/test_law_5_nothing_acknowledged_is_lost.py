"""Law 5: what was acknowledged survives `kill -9`; a store that fails is an error to the caller or a pause, never a silent drop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

import holdfast as hf
from holdfast.errors import HoldfastError, NotJson, PayloadTooLarge, StoreFull, StoreUnavailable
from holdfast.store.memory import MemoryStore
from holdfast.testing import FaultyStore
from holdfast.testing.faults import Act
from tests.faults import after, programs
from tests.faults.conftest import Nursery
from tests.runtime.support import appends, flow, kinds, loaded, opened, result, until, until_status


@pytest.mark.slow
def test_law_5_every_acknowledged_event_is_there_after_a_kill_at_any_moment(nursery: Nursery, tmp_path: Path) -> None:
    db = tmp_path / "s.db"
    ids = [f"run-{n}" for n in range(60)]
    acknowledged: list[dict[str, object]] = []
    for kill_after_s in (0.06, 0.07, 0.09, 0.12):
        report = nursery.work(db, "many_steps", ids, "x", kill_after_s=kill_after_s)
        acknowledged += report.of("acknowledged")
    assert len(acknowledged) > 50
    runs = {run: after.stored(db, run) for run in {str(place["run"]) for place in acknowledged}}
    for place in acknowledged:
        events = runs[str(place["run"])].events
        assert events[int(str(place["seq"]))].hash.hex() == place["hash"]
    assert after.verified(db).ok


@pytest.mark.slow
async def test_law_5_a_run_whose_start_was_acknowledged_is_finished_by_the_next_worker(
    nursery: Nursery, tmp_path: Path
) -> None:
    db = tmp_path / "s.db"
    killed = nursery.work(db, "many_steps", "r", "x", at=1, when="after")
    assert killed.end == "killed"
    async with hf.open(db, registry=loaded(programs.many_steps)) as app:  # nobody asks for it again
        assert await result(app, "r") == 45


@pytest.mark.parametrize("act", ["unavailable", "full"])
@pytest.mark.parametrize(
    "kind", ["step.completed", "tool.intent", "tool.completed", "signal.waiting", "run.parked", "run.finished"]
)
async def test_law_5_a_run_goes_on_by_itself_after_the_store_failed_for_a_moment(kind: str, act: Act) -> None:
    done: list[str] = []

    @hf.step
    async def count(n: int) -> int:
        return n

    @hf.tool(effect="keyed")
    async def act_once(n: int, *, key: hf.IdempotencyKey) -> int:
        done.append(key)
        return n

    async def work() -> int:
        total = await count(1) + await act_once(2)
        return total + int(await hf.signal("go", type=int))

    workflow = flow(work)
    store = FaultyStore(MemoryStore(), at=appends(kind), act=act)
    async with opened(workflow, store=store, lease_s=1.0) as app:
        run = await app.start(workflow, id="r")
        await anyio.sleep(0.01)
        await run.signal("go", 4)
        await until(lambda: store.fired or len(done) > 5)
        assert await result(app) == 7
    assert len(set(done)) == 1


@pytest.mark.parametrize("kind", ["run.started", "note.signal"])
async def test_law_5_a_start_or_a_note_that_could_not_be_stored_is_an_error_to_the_caller(kind: str) -> None:
    async def work() -> object:
        return await hf.signal("go")

    workflow = flow(work)
    store = FaultyStore(MemoryStore(), at=appends(kind), act="full")
    async with opened(workflow, store=store) as app:

        async def start_and_signal() -> None:
            await (await app.start(workflow, id="r")).signal("go", 4)

        with pytest.raises(StoreFull, match="Nothing of this write was stored"):
            await start_and_signal()
        run = await app.start(workflow, id="r")
        await run.signal("go", 4, key="k")
        assert await result(app) == 4


async def test_law_5_a_start_whose_fate_is_unknown_can_be_asked_for_again() -> None:
    async def work() -> int:
        return 1

    workflow = flow(work)
    store = FaultyStore(MemoryStore(), at=1, when="after", act="unavailable")
    async with opened(workflow, store=store) as app:
        with pytest.raises(StoreUnavailable):
            await app.start(workflow, id="r")
        await app.start(workflow, id="r")
        assert await result(app) == 1


async def test_law_5_a_signal_whose_fate_is_unknown_is_received_once_when_it_is_sent_again_with_its_key() -> None:
    async def work() -> list[object]:
        return [await hf.signal("go"), await hf.signal("go")]

    workflow = flow(work)
    store = FaultyStore(MemoryStore(), at=appends("note.signal"), when="after", act="unavailable")
    async with opened(workflow, store=store) as app:
        run = await app.start(workflow, id="r")
        with pytest.raises(StoreUnavailable):
            await run.signal("go", 1, key="first")
        await run.signal("go", 1, key="first")
        await run.signal("go", 2, key="second")
        assert await result(app) == [1, 2]


async def test_law_5_a_run_that_the_store_lost_sight_of_is_told_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    @hf.step
    async def count(n: int) -> int:
        return n

    async def work() -> int:
        return await count(1)

    workflow = flow(work)
    store = FaultyStore(MemoryStore(), at=appends("step.completed"), act="full")
    async with opened(workflow, store=store, lease_s=1.0) as app:
        await app.start(workflow, id="lost-sight")
        with pytest.raises(StoreFull, match="run lost-sight can't go on"):
            await result(app, "lost-sight")
        assert await result(app, "lost-sight") == 1  # there is room again: it has gone on by itself
    assert any("lost-sight" in record.getMessage() for record in caplog.records)


# -- what is too large, or no text ------------------------------------------------------------------------------------

LARGE = "x" * 50_000_000


async def test_a_50_mb_result_of_a_step_is_a_typed_failure_that_names_run_and_step() -> None:
    @hf.step
    async def huge() -> str:
        return LARGE

    async def work() -> str:
        try:
            return await huge()
        except PayloadTooLarge as error:
            return f"{error.run} {error.step} {error.size_bytes > 50_000_000}"

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        assert await result(app) == "r 0 True"
        assert await kinds(app) == ["run.started", "step.failed 0", "run.finished"]


async def test_a_50_mb_result_of_a_tool_is_a_typed_failure() -> None:
    @hf.tool(effect="read")
    async def huge() -> str:
        return LARGE

    async def work() -> str:
        return await huge()

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        with pytest.raises(hf.HoldfastError, match=r"run r .*tool huge.*50,000,002 bytes"):
            await result(app)


async def test_50_mb_of_arguments_are_refused_before_anything_is_issued() -> None:
    calls = []

    @hf.tool(effect="irreversible", needs=hf.Trust.EXTERNAL)
    async def send(text: str) -> int:
        calls.append(1)
        return 1

    @hf.step
    async def take(text: str) -> int:
        return len(text)

    async def work(which: str) -> int:
        return await (send(LARGE) if which == "tool" else take(LARGE))

    workflow = flow(work)
    async with opened(workflow) as app:
        for which in ("tool", "step"):
            await app.start(workflow, which, id=which)
            with pytest.raises(HoldfastError, match=f"run {which}.*step 0.*limit is"):
                await result(app, which)
    assert calls == []


async def test_a_50_mb_answer_fails_the_run_with_a_typed_error() -> None:
    async def work() -> str:
        return LARGE

    workflow = flow(work)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        with pytest.raises(HoldfastError, match=r"run r .*50,000"):
            await result(app)


async def test_a_50_mb_input_signal_or_reply_is_refused_and_nothing_is_written() -> None:
    async def work(text: str) -> object:
        return await hf.signal("go")

    workflow = flow(work)
    async with opened(workflow) as app:
        with pytest.raises(PayloadTooLarge, match="run r,"):
            await app.start(workflow, LARGE, id="r")
        assert list(await app.runs()) == []
        run = await app.start(workflow, "small", id="r")
        with pytest.raises(PayloadTooLarge, match="run r,"):
            await run.signal("go", LARGE)
        await run.signal("go", "small")
        assert await result(app) == "small"


async def test_the_limit_is_the_one_that_the_app_was_opened_with() -> None:
    @hf.step
    async def some(size: int) -> str:
        return "x" * size

    async def work(size: int) -> int:
        return len(await some(size))

    workflow = flow(work)
    async with opened(workflow, max_payload_bytes=10_000) as app:
        await app.start(workflow, 9_000, id="fits")
        assert await result(app, "fits") == 9_000
        await app.start(workflow, 11_000, id="does-not")
        with pytest.raises(HoldfastError, match="limit is 10,000"):
            await result(app, "does-not")


SURROGATE = "half a pair: \ud800"


async def test_text_that_is_no_unicode_is_a_typed_failure_of_the_step_that_made_it() -> None:
    @hf.step
    async def bad() -> str:
        return SURROGATE

    @hf.step
    async def raises() -> str:
        raise ValueError(SURROGATE)

    @hf.step
    async def takes(text: str) -> int:
        return 1

    @hf.tool(effect="read")
    async def reads() -> str:
        return SURROGATE

    @hf.tool(effect="keyed")
    async def acts(text: str, *, key: hf.IdempotencyKey) -> int:
        return 1

    async def work(which: str) -> object:
        calls: dict[str, Any] = {"bad": bad, "raises": raises, "reads": reads}
        if which in calls:
            return await calls[which]()
        return await (takes(SURROGATE) if which == "takes" else acts(SURROGATE))

    workflow = flow(work)
    async with opened(workflow) as app:
        for which in ("bad", "raises", "takes", "reads", "acts"):
            await app.start(workflow, which, id=which)
            with pytest.raises(HoldfastError, match=rf"run {which}\b.*step 0\b"):
                await result(app, which)


async def test_text_that_is_no_unicode_is_refused_where_it_would_enter() -> None:
    async def work(text: str) -> object:
        return await hf.signal("go")

    workflow = flow(work)
    async with opened(workflow) as app:
        with pytest.raises(NotJson, match="run r,"):
            await app.start(workflow, SURROGATE, id="r")
        run = await app.start(workflow, "x", id="r")
        for bad in (run.signal("go", SURROGATE), run.signal(SURROGATE), run.reply(SURROGATE), run.cancel(SURROGATE)):
            with pytest.raises(NotJson, match="run r,"):
                await bad
        with pytest.raises(NotJson, match="run r,"):
            await run.signal("go", object())
        assert list(await app.notes("r")) == []
        await run.signal("go", "fine")
        assert await result(app) == "fine"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
async def test_a_number_that_json_can_not_hold_is_never_recorded_as_something_else(value: float) -> None:
    @hf.step
    async def gives() -> float:
        return value

    @hf.tool(effect="read")
    async def reads() -> float:
        return value

    async def work(which: str) -> float:
        return await (gives() if which == "step" else reads())

    workflow = flow(work)
    async with opened(workflow) as app:
        for which in ("step", "tool"):
            await app.start(workflow, which, id=which)
            with pytest.raises(HoldfastError, match=f"run {which}"):
                await result(app, which)
            assert await kinds(app, which) == ["run.started", f"{which}.failed 0", "run.failed"]


async def test_an_answer_that_can_not_be_recorded_fails_the_run() -> None:
    async def attached() -> hf.Answer[int]:
        return hf.Escalated(reason="see there", attached={"it": object()})

    async def wrong_type() -> int:
        return "text"  # type: ignore[return-value]  # the case

    async def no_unicode() -> str:
        return SURROGATE

    workflows = [flow(attached), flow(wrong_type), flow(no_unicode)]
    async with opened(*workflows) as app:
        for workflow in workflows:
            await app.start(workflow, id=workflow.name)
            with pytest.raises(HoldfastError, match=f"run {workflow.name} failed"):
                await app.result(workflow.name, timeout_s=3)


async def test_a_closed_app_says_so() -> None:
    async def work() -> int:
        return 1

    workflow = flow(work)
    async with hf.open(":memory:", registry=loaded(workflow)) as app:
        pass
    with pytest.raises(HoldfastError, match="is closed"):
        await app.start(workflow, id="r")


async def test_a_damaged_run_does_not_take_the_others_with_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import sqlite3

    async def work(n: int) -> object:
        return await hf.signal("go")

    workflow = flow(work)
    db = tmp_path / "s.db"
    async with hf.open(db, registry=loaded(workflow)) as app:
        for id in ("damaged", "whole"):
            await app.start(workflow, 1, id=id)
            await until_status(app, id, "waiting")
    connection = sqlite3.connect(db)
    connection.execute(
        "UPDATE events SET payload = x'00ff' WHERE seq = 0 AND stream = 0 AND no = (SELECT no FROM runs WHERE run = 'damaged')"
    )
    connection.commit()
    connection.close()
    async with hf.open(db, registry=loaded(workflow)) as app:
        await app.run("damaged").signal("go", 1)
        await app.run("whole").signal("go", 2)
        assert await result(app, "whole") == 2
        with pytest.raises(HoldfastError, match="damaged"):
            await app.result("damaged", timeout_s=0.1)
    assert any("damaged" in record.getMessage() for record in caplog.records)
