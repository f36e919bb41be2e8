"""The workload on LangGraph's functional API with its SQLite saver, durability="sync". Runs in an environment of its own (see `peers`)."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from pathlib import Path
from typing import Any

from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver  # type: ignore[import-not-found]  # in its own environment
from langgraph.func import entrypoint, task  # type: ignore[import-not-found]  # same
from workload import SLEEP_S, STEPS, record


@task  # type: ignore[untyped-decorator]  # same
async def confirm(run: int, step: int) -> dict[str, Any]:
    await asyncio.sleep(SLEEP_S)
    return record(run, step)


async def measure(path: Path, runs: int) -> float:
    """Steps a second. Raises `RuntimeError` when not all runs ended with the right answer."""
    async with AsyncSqliteSaver.from_conn_string(str(path)) as saver:

        @entrypoint(checkpointer=saver)  # type: ignore[untyped-decorator]  # same
        async def flow(run: int) -> int:
            for step in range(STEPS):
                await confirm(run, step)
            return run

        async def drive(run: int) -> int:
            answer: int = await flow.ainvoke(run, {"configurable": {"thread_id": str(run)}}, durability="sync")
            return answer

        began = time.perf_counter()
        answers = await asyncio.gather(*(drive(run) for run in range(runs)))
        seconds = time.perf_counter() - began
    if answers != list(range(runs)):
        raise RuntimeError("not all runs ended with their answer")
    return runs * STEPS / seconds


if __name__ == "__main__":
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("file", type=Path)
    asked.add_argument("--runs", type=int, default=1000)
    given = asked.parse_args()
    print(json.dumps({"steps_per_s": asyncio.run(measure(given.file, given.runs))}))
