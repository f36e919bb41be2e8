"""Several processes on one file, killed and stopped at will. Law 5 and law 6 as far as the store keeps them."""

# ruff: noqa: ASYNC240  # the files are small and nothing else runs in the loop
import asyncio
import signal
from pathlib import Path

import pytest

from holdfast.errors import SequenceConflict
from holdfast.store import Store, Stream, open_store
from tests.contracts.streams import NOW_NS, VERSIONS, Pen, new_run
from tests.store.processes import child, line, rest

pytestmark = pytest.mark.slow


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "holdfast.db"


@pytest.mark.parametrize("lines", [3, 40, 400, 2_000])
async def test_what_was_acknowledged_is_there_after_a_kill(path: Path, lines: int) -> None:
    with child("append", path) as process:
        told = [line(process) for _ in range(lines)]
        process.kill()
        told += rest(process)
    assert process.returncode == -signal.SIGKILL
    store = await open_store(path)
    acknowledged: dict[str, int] = {}
    for run, number in map(str.split, told):
        acknowledged[run] = max(int(number), acknowledged.get(run, -1))
    for run, seq in acknowledged.items():
        rows = await store.rows(run, Stream.RUN)
        row = await store.run(run)
        assert row is not None
        assert [each.seq for each in rows] == list(range(row.seq + 1))  # whole requests, up to the head
        assert row.seq >= seq
        assert row.hash == rows[-1].hash
    assert await store.reap() == ["child"]
    await store.close()


@pytest.mark.parametrize("after_s", [0.0, 0.003, 0.006, 0.009, 0.012, 0.015])
async def test_a_store_whose_creation_was_killed_can_be_opened(tmp_path: Path, after_s: float) -> None:
    with child("create", tmp_path) as process:
        line(process)
        await asyncio.sleep(after_s)
        process.kill()
        made = rest(process)
    for path in sorted(tmp_path.glob("*.db")):
        store = await open_store(path)
        assert await store.count() == {}
        await store.close()
    assert len(list(tmp_path.glob("*.db"))) >= len(made)


async def test_the_runs_of_a_killed_worker_can_be_claimed_at_once(path: Path) -> None:
    with child("own", path) as process:
        assert line(process) == "owns"
        store = await open_store(path)
        await store.register("w", lease_s=60.0)
        assert await store.reap() == []  # it lives, and so does its lease
        process.kill()
        process.wait()
        assert await store.reap() == ["child"]
        (claimed,) = await store.claim("w", VERSIONS, now_ns=NOW_NS, limit=1)
        assert (claimed.row.run, claimed.taken_from) == ("r", "child")
        assert [file.name for file in path.with_name("holdfast.db.workers").iterdir()] == ["w"]
        await store.close()


async def test_a_stopped_worker_that_was_replaced_can_not_write(path: Path) -> None:
    with child("own", path) as process:
        assert line(process) == "owns"
        process.send_signal(signal.SIGSTOP)
        store = await open_store(path)
        await store.register("w", lease_s=60.0)
        await _end_lease(store, "child")
        assert await store.reap() == ["child"]
        (claimed,) = await store.claim("w", VERSIONS, now_ns=NOW_NS, limit=1)
        process.send_signal(signal.SIGCONT)
        out, _ = process.communicate("\n")
        assert out.split() == ["StaleEpoch", "False"]
        await store.append(Pen("r", epoch=claimed.row.epoch).at(0, claimed.row.hash).append())
        assert [row.seq for row in await store.rows("r", Stream.RUN)] == [0, 1]
        await store.close()


async def _end_lease(store: Store, worker: str) -> None:
    """What a minute of waiting would do: the lease of the stopped process, as its row has it, is over."""
    from holdfast.store.sqlite import SqliteStore

    assert isinstance(store, SqliteStore)
    await store._write(
        lambda batch: batch.connection.execute("UPDATE workers SET lease_ns = 0 WHERE worker = ?", (worker,))
    )


async def test_two_processes_append_to_one_stream_without_a_gap(path: Path) -> None:
    store = await open_store(path)
    await store.create(new_run("shared"), Pen("shared").append())
    with child("contend", path, "60") as one, child("contend", path, "60") as two:
        for _ in range(60):
            while True:
                run = await store.run("shared")
                assert run is not None
                try:
                    await store.append(Pen("shared", Stream.NOTES).at(run.notes_seq, run.notes_hash).append())
                    break
                except SequenceConflict:
                    continue
        assert rest(one) == rest(two) == ["done"]
    assert [row.seq for row in await store.rows("shared", Stream.NOTES)] == list(range(180))
    assert store.changed() or await _changed_soon(store)
    await store.close()


async def test_two_processes_never_claim_one_run(path: Path) -> None:
    store = await open_store(path)
    for n in range(100):
        await store.create(new_run(f"r{n}"), Pen(f"r{n}", epoch=0).append())
    with child("claim", path, "a") as one, child("claim", path, "b") as two:
        taken = rest(one) + rest(two)
    assert sorted(taken) == sorted([*(f"r{n}" for n in range(100)), "done", "done"])
    await store.close()


async def test_a_store_notices_that_another_process_has_written(path: Path) -> None:
    store = await open_store(path)
    await store.create(new_run("shared"), Pen("shared").append())
    assert not await _changed_soon(store)
    with child("contend", path, "1") as process:
        assert rest(process) == ["done"]
    assert await _changed_soon(store)
    assert not await _changed_soon(store)
    await store.close()


async def test_two_processes_may_create_a_store_together(path: Path) -> None:
    with child("own", path) as one, child("claim", path, "b") as two:
        assert line(one) == "owns"
        assert rest(two) == ["done"]


async def test_files_that_may_not_grow_give_a_typed_error_and_lose_nothing(path: Path) -> None:
    with child("fill", path) as process:
        *told, error, again = rest(process)
    assert process.returncode == 0
    assert error in ("StoreFull", "StoreUnavailable")
    store = await open_store(path)
    rows = await store.rows("r", Stream.RUN)
    assert rows[-1].seq >= int(told[-1])
    assert again == f"again {rows[-1].seq}"
    await store.close()


async def _changed_soon(store: Store) -> bool:
    """`changed` tells with the next call after it could look."""
    store.changed()
    await store.renew("nobody", lease_s=1.0)  # goes the same way, so the look was taken once this returns
    return store.changed()
