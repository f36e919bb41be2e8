"""Runs that wait for a person: what 10,000 of them cost, and how long it takes to bring them all back.

    python bench/parked.py park STORE [--runs 10000]     make runs of 10 steps that wait for an approval
    python bench/parked.py open STORE                    open the store in a new process until a run can be looked at
    python bench/parked.py resume STORE [--runs N]       open it, approve all, until every run has replayed and completed
    python bench/parked.py replay STORE                  the same with the approvals already given: the replay alone

Each is a process of its own. That nothing is done again is counted outside of the store: no body of a recorded step runs.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from checked import Unsound
from child import tell
from machine import memory_mb
from workload import STEPS, record

import holdfast as hf

AT_ONCE: Final = 256
"""Approvals under way at the same time."""

bodies: Counter[str] = Counter()
"""How often a step's body ran in this process: counted outside of the store."""


@hf.step
async def confirm(run: int, step: int) -> dict[str, Any]:
    bodies["confirm"] += 1
    return record(run, step)


@hf.workflow(version="1")
async def waits_for_approval(run: int) -> bool:
    for step in range(STEPS):
        await confirm(run, step)
    decision = await hf.approval("Ship this order?", {"order": run})
    return decision.approved


@dataclass(frozen=True, slots=True, kw_only=True)
class Parked:
    runs: int
    seconds: float
    rss_mb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """`open_s`: until the store is open and a run was looked at; `list_s`: until all approvals were listed as well."""

    open_s: float
    list_s: float
    approvals: int
    rss_mb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """`runs`: completed in all. `seconds`: of approving, if any, and replaying. `redone`: recorded steps whose body ran again."""

    runs: int
    seconds: float
    approving_s: float
    rss_mb: float
    main_s: float
    redone: int


async def park(store: Path, *, runs: int) -> Parked:
    bodies.clear()
    began = time.perf_counter()
    async with hf.open(store) as app:
        queue = iter(range(runs))

        async def start() -> None:
            for number in queue:
                await app.start(waits_for_approval, number, id=f"order-{number:06d}")

        await _side_by_side(start)
        await app.drain()
        parked = len(await app.approvals())
    if parked != runs or bodies.total() != runs * STEPS:
        raise Unsound(f"{parked} runs wait after {bodies.total()} steps, not {runs} after {runs * STEPS}")
    return Parked(runs=runs, seconds=time.perf_counter() - began, rss_mb=memory_mb())


async def open_it(store: Path) -> Opened:
    began = time.perf_counter()
    async with hf.open(store) as app:
        info = await app.info("order-000000")
        open_s = time.perf_counter() - began
        if info.status != "waiting":
            raise Unsound(f"run {info.run} is {info.status}")
        approvals = len(await app.approvals())
        list_s = time.perf_counter() - began
    return Opened(open_s=open_s, list_s=list_s, approvals=approvals, rss_mb=memory_mb())


async def approve(app: hf.App, waiting: Sequence[str]) -> None:
    queue = iter(waiting)

    async def decide() -> None:
        for id in queue:
            await app.approve(id, by="bench")

    await _side_by_side(decide)


async def give(store: Path, *, runs: int) -> float:
    """Approve the first `runs` from a client: no run goes on. Returns the seconds it took."""
    async with hf.open(store, worker=False) as app:
        began = time.perf_counter()
        await approve(app, [wait.id for _, wait in await app.approvals()][:runs])
        return time.perf_counter() - began


async def resume(store: Path, *, runs: int | None) -> Resumed:
    bodies.clear()
    began, main_s = time.perf_counter(), time.thread_time()
    approving_s = 0.0
    async with hf.open(store) as app:
        if runs is not None:
            await approve(app, [wait.id for _, wait in await app.approvals()][:runs])
            approving_s = time.perf_counter() - began
        await app.drain()
        seconds = time.perf_counter() - began
        main_s = time.thread_time() - main_s
        completed = len(await app.runs(status=("completed",)))
    if runs is not None and completed < runs:
        raise Unsound(f"{completed} runs are completed, not {runs}")
    return Resumed(
        runs=completed,
        seconds=seconds,
        approving_s=approving_s,
        rss_mb=memory_mb(),
        main_s=main_s,
        redone=bodies.total(),
    )


async def _side_by_side(work: Callable[[], Coroutine[None, None, None]]) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("what", choices=("park", "open", "resume", "give", "replay"))
    asked.add_argument("store", type=Path)
    asked.add_argument("--runs", type=int, default=10_000)
    given = asked.parse_args()
    if given.what == "park":
        tell(asyncio.run(park(given.store, runs=given.runs)))
    elif given.what == "open":
        tell(asyncio.run(open_it(given.store)))
    elif given.what == "give":
        tell(asyncio.run(give(given.store, runs=given.runs)))
    else:
        tell(asyncio.run(resume(given.store, runs=given.runs if given.what == "resume" else None)))


if __name__ == "__main__":
    main()
