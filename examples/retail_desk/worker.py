"""A worker process: opens the store, runs the desk, plays the customers; may be killed at any moment.

Started by `rerun.py`, again after each kill, always with the same arguments. The customers are no part of
the run: their turns enter as notes with a key each, so that a turn said twice (before a kill and after it)
is one.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import anyio

import holdfast as hf
from holdfast.errors import ToolInputInvalid
from holdfast.journal.records import Attempt, Failure, RunEnded
from holdfast.journal.verify import verify
from holdfast.runtime import Workflow
from retail_desk import client
from retail_desk.desk import GOODBYES, HANG_UP, Visit, make_desk
from retail_desk.errors import ShopError
from retail_desk.recordings import POLICY_FILE, RECORDINGS, Recording, load
from retail_desk.records import JsonObject

POLL_S: Final = 0.005
ENDED: Final = frozenset({"completed", "failed", "cancelled", "in_doubt", "attention"})


@dataclass(kw_only=True)
class Report:
    """What the worker that reached the end found in the store."""

    statuses: dict[str, str] = field(default_factory=dict)
    outcomes: dict[str, str] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    failed_attempts: dict[str, dict[str, int]] = field(default_factory=dict)
    """Of tool calls, as the journal has them: by run, by the kind of failure."""
    events: int = 0
    chain_verified: bool = False


async def work(options: argparse.Namespace) -> Report:
    """Serve every recorded customer to the end, whatever a worker before has already done."""
    recordings = load(options.data / RECORDINGS.format(model=options.model))[: options.first]
    recorded = {recording.session: recording for recording in recordings}
    policy = (options.data / POLICY_FILE).read_text()
    desk = make_desk(options.model, policy, recorded)
    async with hf.open(options.store) as app:
        await _say_who_is_resumed(app, options.socket)
        at_once = anyio.CapacityLimiter(options.at_once)
        async with anyio.create_task_group() as customers:
            for recording in recorded.values():
                customers.start_soon(_visit, app, desk, recording, str(options.socket), at_once)
        return await _report(app, list(recorded))


async def _visit(
    app: hf.App,
    desk: Workflow[[Visit], int],
    recording: Recording,
    socket: str,
    at_once: anyio.CapacityLimiter,
) -> None:
    """Say the recorded turns, each when the desk has answered the one before."""
    async with at_once:
        visit = Visit(session=recording.session, socket=socket, greeting=recording.greeting)
        run = await app.start(desk, visit, id=recording.session, label=hf.Trust.EXTERNAL)
        turns = _turns(recording)
        answered = ""
        for number in range(len(await app.notes(run.id)), len(turns)):  # what a killed worker said is said
            answered = await _next_wait(run, answered)
            if not answered:
                return
            await run.reply(turns[number], key=f"turn-{number}")
        while (await run.status()).status not in ENDED:  # noqa: ASYNC110  # in doubt is no end that could be awaited
            await anyio.sleep(POLL_S)


def _turns(recording: Recording) -> tuple[str, ...]:
    """The customer's turns; who was cut off in the recording hangs up at its end."""
    turns = recording.user_turns
    said_goodbye = bool(turns) and any(goodbye in turns[-1] for goodbye in GOODBYES)
    return turns if said_goodbye else (*turns, HANG_UP)


async def _next_wait(run: hf.Run[int], answered: str) -> str:
    """Until the desk waits for the customer anew: that wait's id. Empty: the run has ended."""
    while True:
        info = await run.status()
        if info.status in ENDED:
            return ""
        for wait in info.waits:
            if info.status == "waiting" and wait.kind == "reply" and wait.id != answered:
                return wait.id
        await anyio.sleep(POLL_S)


async def _say_who_is_resumed(app: hf.App, socket: Path) -> None:
    for info in await app.runs():
        if info.status not in ENDED:
            mark: JsonObject = {"op": "mark", "session": info.run, "kind": "resumed", "what": ""}
            await client.ask(socket, mark)


async def _report(app: hf.App, sessions: list[str]) -> Report:
    report = Report()
    for session in sessions:
        info = await app.run(session).status()
        report.statuses[session] = info.status
        report.outcomes[session] = str(info.outcome)
        failed: Counter[str] = Counter()
        for event in await app.events(session):
            report.events += 1
            if event.kind == "tool.attempt":
                failed[event.payload(Attempt).fault] += 1
            elif event.kind == "tool.failed" and not _is_refusal(event.payload(Failure)):
                failed["last of its call"] += 1
            elif event.kind in ("run.failed", "run.attention"):
                report.errors[session] = event.payload(RunEnded).error.message
        report.failed_attempts[session] = dict(failed)
    report.chain_verified = await anyio.to_thread.run_sync(_verify, app)
    return report


def _is_refusal(failure: Failure) -> bool:
    """The shop or the contract said no: an answer, no breakdown."""
    is_invalid_input = failure.error.type == f"{ToolInputInvalid.__module__}.{ToolInputInvalid.__qualname__}"
    return (
        is_invalid_input or failure.error.fields.get("error_type") == f"{ShopError.__module__}.{ShopError.__qualname__}"
    )


def _verify(app: hf.App) -> bool:
    with app.store.snapshot() as snapshot:
        return verify(snapshot).ok


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve the recorded customers.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--store", required=True)
    parser.add_argument("--first", type=int, required=True, help="how many of the recordings")
    parser.add_argument("--at-once", type=int, required=True, help="customers in conversation at a time")
    parser.add_argument("--report", type=Path, required=True, help="where to write what was found at the end")
    options = parser.parse_args()
    logging.getLogger("holdfast").setLevel(logging.ERROR)  # that its predecessors died is no news here
    report = anyio.run(work, options)
    options.report.write_text(json.dumps(asdict(report)))


if __name__ == "__main__":
    main()
