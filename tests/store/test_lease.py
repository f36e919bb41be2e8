"""OS locks of workers."""

from pathlib import Path

import pytest

from holdfast.errors import StoreUnavailable
from holdfast.store import open_store
from holdfast.store._lease import WorkerLocks, boot_id, boot_ns


def test_a_lock_is_held_until_it_is_let_go(tmp_path: Path) -> None:
    ours, theirs = WorkerLocks(tmp_path / "w"), WorkerLocks(tmp_path / "w")
    ours.hold("a/b")
    ours.hold("a/b")
    assert not theirs.is_free("a/b")
    with pytest.raises(OSError, match="unavailable"):
        theirs.hold("a/b")
    ours.drop()
    assert theirs.is_free("a/b")
    theirs.hold("a/b")
    theirs.remove("a/b")
    assert list((tmp_path / "w").iterdir()) == []


def test_a_lock_file_that_is_missing_tells_nothing(tmp_path: Path) -> None:
    assert not WorkerLocks(tmp_path / "w").is_free("nobody")
    WorkerLocks(tmp_path / "w").remove("nobody")


def test_time_since_the_start_of_the_machine_goes_on() -> None:
    assert 0 < boot_ns() <= boot_ns()
    assert boot_id() == boot_id()


async def test_a_worker_is_registered_by_one_process(tmp_path: Path) -> None:
    one, two = await open_store(tmp_path / "x.db"), await open_store(tmp_path / "x.db")
    await one.register("w", lease_s=60.0)
    with pytest.raises(StoreUnavailable, match="lock of worker w"):
        await two.register("w", lease_s=60.0)
    await two.close()
    await one.close()


async def test_closing_without_retiring_is_like_dying(tmp_path: Path) -> None:
    one, two = await open_store(tmp_path / "x.db"), await open_store(tmp_path / "x.db")
    await one.register("w", lease_s=60.0)
    await one.close()
    assert await two.reap() == ["w"]
    await two.close()
    assert list((tmp_path / "x.db.workers").iterdir()) == []
