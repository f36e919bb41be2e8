"""Law 5 on a full disk: runs pause, callers hear of it, and all goes on by itself once there is room."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

import holdfast as hf
from holdfast.errors import StoreFull
from tests.runtime.support import flow, loaded, result, until

pytestmark = pytest.mark.slow


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounting = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounting.returncode:
        pytest.skip(f"a small file system can't be mounted here: {mounting.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_law_5_runs_on_a_full_disk_wait_and_go_on_once_there_is_room(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    issued: list[str] = []
    filled = anyio.Event()

    @hf.step
    async def large(n: int) -> str:
        return os.urandom(30_000).hex()

    @hf.tool(effect="keyed")
    async def order(n: int, *, key: hf.IdempotencyKey) -> int:
        issued.append(key)
        return n

    async def work() -> int:
        await filled.wait()
        for n in range(3):
            await large(n)
        return await order(7)

    workflow = flow(work)
    ballast = small_disk / "ballast"
    async with hf.open(small_disk / "s.db", registry=loaded(workflow), lease_s=2.0) as app:
        await app.start(workflow, id="r")
        _fill(ballast)
        filled.set()

        async def start_until_full() -> None:
            for n in range(200):
                await app.start(workflow, id=f"later-{n}", tags={"much": str(n) * 5_000})

        with pytest.raises(StoreFull, match="Nothing of this write was stored"):
            await start_until_full()
        await until(lambda: "run r is abandoned here" in caplog.text)
        assert issued == []
        ballast.unlink()
        assert await result(app) == 7
        assert len(set(issued)) == 1
        report = await app.verify()
        assert report.ok, report.problems


def _fill(ballast: Path) -> None:
    """Write until the disk is full."""
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return
