"""The workload on DBOS with SQLite as it comes. Runs in an environment of its own (see `peers`)."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from pathlib import Path
from typing import Any

from dbos import DBOS, DBOSConfig  # type: ignore[import-not-found]  # in its own environment
from workload import SLEEP_S, STEPS, record


@DBOS.step()  # type: ignore[untyped-decorator]  # same
async def confirm(run: int, step: int) -> dict[str, Any]:
    await asyncio.sleep(SLEEP_S)
    return record(run, step)


@DBOS.workflow()  # type: ignore[untyped-decorator]  # same
async def flow(run: int) -> int:
    for step in range(STEPS):
        await confirm(run, step)
    return run


async def measure(runs: int) -> float:
    """Steps a second. Raises `RuntimeError` when not all runs ended with the right answer."""

    async def drive(run: int) -> int:
        handle = await DBOS.start_workflow_async(flow, run)
        answer: int = await handle.get_result()
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
    config: DBOSConfig = {
        "name": "bench", "system_database_url": f"sqlite:///{given.file.resolve()}", "run_admin_server": False, "log_level": "ERROR"
    }  # fmt: skip
    DBOS(config=config)
    DBOS.launch()
    reached = asyncio.run(measure(given.runs))
    DBOS.destroy()
    print(json.dumps({"steps_per_s": reached}))
