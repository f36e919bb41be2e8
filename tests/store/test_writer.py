"""Group commit: many wait for one commit, who is wrong fails alone, the queue is bounded, nobody waits for ever."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NoReturn

import pytest

from holdfast.errors import StoreClosed, StoreUnavailable
from holdfast.store import Append, Stream
from holdfast.store._batch import Batch
from holdfast.store._writer import Job
from holdfast.store.sqlite import SqliteStore
from tests.contracts.streams import Pen, new_run


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(tmp_path / "holdfast.db", max_pending=4)
    yield store
    await store.close()


async def begin(store: SqliteStore, *runs: str) -> list[Pen]:
    pens = [Pen(run) for run in runs]
    await asyncio.gather(*(store.create(new_run(pen.run), pen.append()) for pen in pens))
    return pens


async def test_a_full_queue_makes_callers_wait_and_keeps_their_order(store: SqliteStore) -> None:
    (pen,) = await begin(store, "r")
    calls = [asyncio.ensure_future(store.append(pen.append())) for _ in range(200)]
    await asyncio.sleep(0)
    port = store._writer.port()
    assert len(port.held_back) == 196
    assert await asyncio.gather(*calls) == [None] * 200
    assert await store.rows("r", Stream.RUN) == pen.rows
    assert not port.held_back


async def test_large_requests_count_for_several(store: SqliteStore) -> None:
    (pen,) = await begin(store, "r")
    calls = [asyncio.ensure_future(store.append(pen.append(payload=b"x" * 400_000))) for _ in range(3)]
    await asyncio.sleep(0)
    assert len(store._writer.port().held_back) == 2
    await asyncio.gather(*calls)


async def test_a_cancelled_caller_that_was_held_back_does_not_break_the_chain(store: SqliteStore) -> None:
    (pen,) = await begin(store, "r")
    calls = [asyncio.ensure_future(store.append(pen.append())) for _ in range(20)]
    await asyncio.sleep(0)
    calls[10].cancel()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(outcome).__name__ for outcome in outcomes].count("NoneType") == 19
    assert await store.rows("r", Stream.RUN) == pen.rows


async def test_closing_lets_in_who_was_held_back(store: SqliteStore) -> None:
    (pen,) = await begin(store, "r")
    calls = [asyncio.ensure_future(store.append(pen.append())) for _ in range(50)]
    await asyncio.sleep(0)
    await store.close()
    assert await asyncio.gather(*calls) == [None] * 50


async def test_no_thread_outlives_close(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    store = await SqliteStore.open(tmp_path / "threads.db")
    await store.run("r")
    ours = {thread.name for thread in set(threading.enumerate()) - before if thread.name.startswith("holdfast")}
    assert len(ours) == 2
    await store.close()
    assert not ours & {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("name", ["\ud800", 2**70, object()])
async def test_a_value_that_can_not_be_stored_fails_alone(store: SqliteStore, name: object) -> None:
    good, bad, late = await begin(store, "good", "bad", "late")
    rows = tuple(row._replace(name=name) for row in bad.append().rows)  # type: ignore[arg-type]
    wrong = Append("bad", Stream.RUN, 1, bad.rows[0].hash, rows)
    outcomes = await asyncio.gather(
        *map(store.append, (good.append(), wrong, late.append(), good.append())), return_exceptions=True
    )
    assert [outcome is None for outcome in outcomes] == [True, False, True, True]
    assert await store.rows("good", Stream.RUN) == good.rows
    assert await store.rows("late", Stream.RUN) == late.rows
    assert await store.rows("bad", Stream.RUN) == bad.rows[:1]


async def test_a_defect_in_one_job_leaves_the_others_and_the_thread_alone(store: SqliteStore) -> None:
    (pen,) = await begin(store, "r")

    def defect(batch: Batch) -> NoReturn:
        batch.connection.execute("DELETE FROM events")
        raise ZeroDivisionError

    outcomes = await asyncio.gather(
        store.append(pen.append()), store._write(defect), store.append(pen.append()), return_exceptions=True
    )
    assert [type(outcome).__name__ for outcome in outcomes] == ["NoneType", "ZeroDivisionError", "NoneType"]
    assert await store.rows("r", Stream.RUN) == pen.rows


async def test_a_failed_commit_fails_everyone_in_it_and_the_store_goes_on(store: SqliteStore) -> None:
    one, two = await begin(store, "one", "two")

    def broken(batch: Batch) -> NoReturn:
        raise sqlite3.OperationalError("disk I/O error")

    async def append(request: Append) -> None:
        await store.append(request)

    # All four are put in one turn of the loop, so that they are one batch.
    wrong = Pen("one").at(7, b"").append()
    outcomes = await asyncio.gather(
        *(append(one.append()), store._write(broken), append(two.append()), append(wrong)),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 4
    assert len({id(outcome) for outcome in outcomes}) == 4
    # Nothing of it is stored, and the heads in memory were forgotten with it.
    await store.append(Pen("one").at(0, one.rows[0].hash).append())
    assert len(await store.rows("two", Stream.RUN)) == 1


async def test_a_lock_held_by_another_program_is_waited_for(store: SqliteStore, tmp_path: Path) -> None:
    (pen,) = await begin(store, "r")
    other = sqlite3.connect(tmp_path / "holdfast.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    call = asyncio.ensure_future(store.append(pen.append()))
    await asyncio.sleep(0.02)
    assert not call.done()
    other.execute("COMMIT")
    await call
    other.close()


async def test_a_claim_that_nobody_waits_for_any_more_is_given_back(store: SqliteStore) -> None:
    await store.create(new_run("r"), Pen("r", epoch=0).append())
    await store.register("w", lease_s=60.0)
    call = asyncio.create_task(store.claim("w", [("handle", "1")], now_ns=9, limit=1))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await store.renew("w", lease_s=60.0)  # behind the claim
    await store.renew("w", lease_s=60.0)  # behind what gives it back
    (claimed,) = await store.claim("w", [("handle", "1")], now_ns=9, limit=1)
    assert claimed.row.epoch == 2


def test_a_store_serves_more_than_one_event_loop(tmp_path: Path) -> None:
    pens = [Pen("a"), Pen("b")]

    async def use(store: SqliteStore, pen: Pen) -> None:
        await store.create(new_run(pen.run), pen.append())
        await asyncio.gather(*(store.append(pen.append()) for _ in range(50)))
        assert await store.rows(pen.run, Stream.RUN) == pen.rows

    store = asyncio.run(SqliteStore.open(tmp_path / "holdfast.db"))
    threads = [threading.Thread(target=lambda pen=pen: asyncio.run(use(store, pen))) for pen in pens]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asyncio.run(store.close())
    with pytest.raises(StoreClosed):
        asyncio.run(store.run("a"))


async def test_a_job_may_ask_for_something_after_the_commit(store: SqliteStore) -> None:
    def fails(connection: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("no")

    with pytest.raises(StoreUnavailable):
        await store._writer.submit(Job(lambda batch: None, fails))
