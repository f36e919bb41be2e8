"""A disk that is full: the caller hears of it, what was acknowledged stays, and the store goes on once there is room."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.errors import StoreFull, StoreUnavailable
from holdfast.store import Stream, open_store
from tests.contracts.streams import Pen, new_run

pytestmark = pytest.mark.slow


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB. `test_processes` does the same with a limit of the file size, which needs no rights."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounting = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounting.returncode:
        pytest.skip(f"a small file system can't be mounted here: {mounting.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_a_full_disk_is_a_typed_error_and_the_store_survives_it(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 500_000)
    store = await open_store(small_disk / "holdfast.db")
    pen = Pen("r")
    await store.create(new_run("r"), pen.append())

    async def fill() -> None:
        while True:
            await store.append(pen.append(payload=os.urandom(10_000)))

    with pytest.raises(StoreFull) as caught:
        await fill()
    acknowledged = pen.seq - 1  # all but the last
    assert caught.value.store == str(small_disk / "holdfast.db")
    rows = await store.rows("r", Stream.RUN)
    assert rows == pen.rows[: acknowledged + 1]
    ballast.unlink()
    again = Pen("r").at(rows[-1].seq, rows[-1].hash)
    await store.append(again.append(payload=b"there is room again"))
    await store.close()
    store = await open_store(small_disk / "holdfast.db")
    assert await store.rows("r", Stream.RUN) == [*rows, *again.rows]
    await store.close()


async def test_a_store_that_can_not_be_made_for_lack_of_space_says_so(small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(b"x" * 2_080_000)
    with pytest.raises((StoreFull, StoreUnavailable)):
        await open_store(small_disk / "holdfast.db")
