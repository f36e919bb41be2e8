"""A worker process of the demo: `python -m holdfast.demo.worker --store S --orders URL`.

It starts a run for every mail (starting twice is one run), goes on with those that another worker left
behind, and ends when none is running or due; what waits for a person stays parked. It writes one line of
progress whenever that changed.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import threading
from collections import Counter
from pathlib import Path

import anyio
import msgspec

import holdfast as hf
from holdfast.demo import desk, truth
from holdfast.demo.brain import brain
from holdfast.demo.inbox import Email
from holdfast.testing import ScriptedModel

CONCURRENT_RUNS = 100
TICK_S = 0.1
ENDED = ("completed", "failed", "cancelled")


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How many runs there are in which status."""

    pid: int
    started: int
    by_status: dict[str, int]

    @property
    def handled(self) -> int:
        """Runs that ended or wait for somebody."""
        return sum(n for status, n in self.by_status.items() if status not in ("pending", "running"))


async def work(store: Path, mails: list[Email]) -> None:
    """Handle the mails and everything in the store that can go on."""
    async with hf.open(str(store), max_concurrent=CONCURRENT_RUNS) as app, anyio.create_task_group() as tg:
        tg.start_soon(_tell, app, len(mails))
        async with anyio.create_task_group() as starting:
            for mail in mails:
                starting.start_soon(_start, app, mail)
        await app.drain()
        await _report(app, len(mails), None)
        tg.cancel_scope.cancel()


async def _start(app: hf.App, mail: Email) -> None:
    await app.start(desk.handle, mail, id=mail.id, label=hf.Trust.EXTERNAL)


async def _tell(app: hf.App, started: int) -> None:
    last: Progress | None = None
    while True:
        last = await _report(app, started, last)
        await anyio.sleep(TICK_S)


async def _report(app: hf.App, started: int, last: Progress | None) -> Progress:
    statuses = Counter(str(run.status) for run in await app.runs())
    now = Progress(pid=os.getpid(), started=started, by_status=dict(statuses))
    if now != last:
        sys.stdout.write(msgspec.json.encode(now).decode() + "\n")
        sys.stdout.flush()
    return now


def _end_with_parent() -> None:
    """A worker whose demo was interrupted has nobody to work for."""
    os.read(sys.stdin.fileno(), 1)  # not through the buffer, whose lock would hold up the interpreter's end
    os._exit(3)


def main() -> None:
    parser = argparse.ArgumentParser(description="A worker of the Holdfast demo.")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--orders", required=True, help="where the order system listens")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=int, default=None)
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)  # that a worker before this one died is told by the demo
    threading.Thread(target=_end_with_parent, daemon=True).start()
    desk.connect(options.orders)
    desk.employ(ScriptedModel(brain(seed=options.seed), name="scripted:order-desk"))
    anyio.run(work, options.store, truth.spread(options.runs, seed=options.seed))


if __name__ == "__main__":
    main()
