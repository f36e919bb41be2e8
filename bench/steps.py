"""Durable steps a second through the public API, nothing switched off.

    python bench/steps.py STORE [--runs 1000] [--kind plain|intent] [--profile]

`plain`: each step is a `@step`, recorded once with its input and output. `intent`: each step is a keyed tool, whose intent is
committed before it is called. The clock runs from before the first `app.start` until the last `run.result()` is there.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from checked import Unsound, checked
from child import tell
from machine import memory_mb
from workload import SLEEP_S, STEPS, record

import holdfast as hf

EVENTS_A_RUN: Final = {"plain": 1 + STEPS + 1, "intent": 1 + 2 * STEPS + 1}

bodies: Counter[str] = Counter()
"""How often a step's body ran, by its kind: counted outside of the store."""


@hf.step
async def confirm(run: int, step: int) -> dict[str, Any]:
    await asyncio.sleep(SLEEP_S)
    bodies["plain"] += 1
    return record(run, step)


@hf.tool(effect="keyed", yields=hf.Trust.PRIMARY)
async def place(run: int, step: int, *, key: hf.IdempotencyKey) -> dict[str, Any]:
    """Place an order at a remote end that remembers keys."""
    await asyncio.sleep(SLEEP_S)
    bodies["intent"] += 1
    return record(run, step)


@hf.workflow(version="1")
async def plain(run: int) -> int:
    for step in range(STEPS):
        await confirm(run, step)
    return run


@hf.workflow(version="1")
async def intent(run: int) -> int:
    for step in range(STEPS):
        await place(run, step)
    return run


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """`cpu_us` and `main_us`: CPU time a step, of the process and of its event loop. `events`: as verified."""

    steps_per_s: float
    seconds: float
    cpu_us: float
    main_us: float
    rss_mb: float
    events: int


async def measure(store: Path, *, runs: int, kind: str) -> Measured:
    """Drive `runs` concurrent runs, then verify the store. Raises `Unsound`."""
    workflow = {"plain": plain, "intent": intent}[kind]
    bodies.clear()

    async def drive(app: hf.App, number: int) -> None:
        run = await app.start(workflow, number)
        answer = await run.result()
        if answer != hf.Completed(result=number):
            raise Unsound(f"run {run.id} answers {answer}")

    async with hf.open(store) as app:
        began, cpu_s, main_s = time.perf_counter(), time.process_time(), time.thread_time()
        async with asyncio.TaskGroup() as group:
            for number in range(runs):
                group.create_task(drive(app, number))
        seconds = time.perf_counter() - began
        cpu_s, main_s = time.process_time() - cpu_s, time.thread_time() - main_s
    rss_mb = memory_mb()
    steps = runs * STEPS
    if bodies != {kind: steps}:
        raise Unsound(f"{bodies.total()} step bodies ran, not {steps}")
    report = await checked(store, runs=runs, events=runs * EVENTS_A_RUN[kind])
    return Measured(
        steps_per_s=steps / seconds, seconds=seconds, cpu_us=cpu_s / steps * 1e6, main_us=main_s / steps * 1e6,
        rss_mb=rss_mb, events=report.events,
    )  # fmt: skip


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("store", type=Path)
    asked.add_argument("--runs", type=int, default=1000)
    asked.add_argument("--kind", choices=EVENTS_A_RUN, default="plain")
    asked.add_argument("--profile", action="store_true", help="print where the main thread's time goes, to stderr")
    given = asked.parse_args()
    profile = cProfile.Profile()
    if given.profile:
        profile.enable()
    measured = asyncio.run(measure(given.store, runs=given.runs, kind=given.kind))
    if given.profile:
        profile.disable()
        pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(40)
    tell(measured)


if __name__ == "__main__":
    main()
