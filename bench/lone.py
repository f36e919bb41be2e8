"""What a step adds to its own duration when one run is alone and nothing can be committed together.

    python bench/lone.py STORE [--steps 200]

Added latency = time of the awaited call minus time of its body (a sleep), so that neither the sleep nor its inaccuracy counts.
A keyed tool commits twice, its intent and its outcome; a plain step once. The flush time of the disk stands beside them: no durable
step can be faster than one flush, none with an intent faster than two.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from checked import checked
from child import tell
from machine import flush_ms
from workload import SLEEP_S, record

import holdfast as hf

_WARM_UP = 5

bodies_s: list[float] = []
"""How long the body of each step took."""


async def _work(run: int, step: int) -> dict[str, Any]:
    began = time.perf_counter()
    await asyncio.sleep(SLEEP_S)
    made = record(run, step)
    bodies_s.append(time.perf_counter() - began)
    return made


@hf.step
async def confirm(run: int, step: int) -> dict[str, Any]:
    return await _work(run, step)


@hf.tool(effect="keyed", yields=hf.Trust.PRIMARY)
async def place(run: int, step: int, *, key: hf.IdempotencyKey) -> dict[str, Any]:
    """Place an order at a remote end that remembers keys."""
    return await _work(run, step)


added_ms: list[float] = []


@hf.workflow(version="1")
async def alone(steps: int, intent: bool) -> int:
    for number in range(steps + _WARM_UP):
        # A clock in a workflow is no step and must not decide anything; here it only measures.
        began = time.perf_counter()
        if intent:
            await place(0, number)
        else:
            await confirm(0, number)
        if number >= _WARM_UP:
            added_ms.append((time.perf_counter() - began - bodies_s[-1]) * 1e3)
    return steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Every step's added latency in ms, and the median time of a 4 KiB write and flush before and after."""

    plain_ms: tuple[float, ...]
    intent_ms: tuple[float, ...]
    flush_ms: tuple[float, float]


async def measure(store: Path, *, steps: int) -> Measured:
    """Raises `Unsound`."""
    before_ms = flush_ms(store.parent)
    found: dict[bool, tuple[float, ...]] = {}
    async with hf.open(store) as app:
        for intent in (False, True):
            run = await app.start(alone, steps, intent)
            await run.result()
            found[intent] = tuple(added_ms)
            added_ms.clear()
    after_ms = flush_ms(store.parent)
    await checked(store, runs=2, events=4 + 3 * (steps + _WARM_UP))
    return Measured(plain_ms=found[False], intent_ms=found[True], flush_ms=(before_ms, after_ms))


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("store", type=Path)
    asked.add_argument("--steps", type=int, default=200)
    given = asked.parse_args()
    tell(asyncio.run(measure(given.store, steps=given.steps)))


if __name__ == "__main__":
    main()
