"""`holdfast resume`: a worker with your code that drives what can be driven, then ends."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import anyio
import anyio.to_thread
import typer

from ..journal import PARKED, TERMINAL
from ..runtime import App
from ..store import RunRow
from .exits import Exit, NotLoaded
from .load import load
from .locate import opened
from .options import JsonOption, LoadOption, StoreOption
from .runs import read_waits, run_json, runs_table, statuses_text
from .screen import Screen, reporting
from .words import count, duration, safe

UNFINISHED = ("pending", "running", "waiting", "in_doubt", "attention")
NEEDS_A_PERSON = frozenset({"failed", "in_doubt", "attention"})
SHOWN = 50


def resume(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN]...", help="Runs that need attention and are to be tried again.", show_default=False
        ),
    ] = None,
    modules: LoadOption = None,
    at_once: Annotated[int, typer.Option("--app-max", metavar="N", min=1, help="Runs in memory at once.")] = 1000,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Work on the store: take over what nobody works on, and drive it until nothing runs or is due.

    With RUN, those that need attention are tried again first. It is a worker like any other: it takes every run that
    the loaded code accepts.
    """
    with reporting(store, as_json) as screen:
        load(modules)
        code = anyio.run(_resume, screen, tuple(names or ()), at_once)
    if code:
        raise typer.Exit(code)


async def _resume(screen: Screen, names: tuple[str, ...], at_once: int) -> Exit:
    async with opened(screen.location) as client:
        if not client.registry.versions():
            raise NotLoaded(
                "no workflow is loaded, so there is nothing to drive; name your code with --load MODULE. Nothing was done"
            )
        since_ns = client.journal.clock.now_ns()
        before = {row.run: row for row in await client.runs(status=UNFINISHED)}
        for name in names:
            await _try_again(client, name)
    started = anyio.current_time()
    # What the user's code prints must not end up in the result.
    with contextlib.redirect_stdout(sys.stderr):
        async with opened(screen.location, worker=True, max_concurrent=at_once) as app:
            with (
                contextlib.nullcontext()
                if screen.as_json or not screen.err.is_terminal
                else screen.err.status("working")
            ):
                await app.drain()
    elapsed_s = anyio.current_time() - started
    async with opened(screen.location) as client:
        touched = await _touched(client, before, since_ns, names)
        stranded = [row.run for row in await client.stranded()]
        waits = await anyio.to_thread.run_sync(read_waits, client, touched)
        now_ns = client.journal.clock.now_ns()
    asked = [row for row in touched if row.run in names] if names else touched
    bad = [row for row in asked if row.status in NEEDS_A_PERSON]
    screen.json(_result(touched, waits, stranded))
    _tell(screen, touched, waits, stranded, elapsed_s, now_ns)
    return Exit.PERSON if bad else Exit.OK


async def _try_again(app: App, name: str) -> None:
    """Raises `UnknownRun`, and for a run that is over, `NotWaiting`."""
    row = await app.journal.run(name)
    if row.status == "attention" or row.status in TERMINAL:
        await app.resume(name)


async def _touched(app: App, before: dict[str, RunRow], since_ns: int, names: Sequence[str]) -> list[RunRow]:
    """The runs that moved, those that were begun meanwhile (sub-runs), and those that were named; newest first."""
    return [row for row in await app.runs() if row.run in names or _moved(before.get(row.run), row, since_ns)]


def _moved(before: RunRow | None, now: RunRow, since_ns: int) -> bool:
    return now.created_ns >= since_ns if before is None else before.seq != now.seq


def _result(touched: list[RunRow], waits: Any, stranded: list[str]) -> dict[str, Any]:  # Any: JSON
    by_status: dict[str, int] = {}
    for row in touched:
        by_status[row.status] = by_status.get(row.status, 0) + 1
    return {
        "driven": len(touched), "by_status": by_status, "runs": [run_json(row, waits.get(row.run, ())) for row in touched],
        "stranded": stranded,
    }  # fmt: skip


def _tell(
    screen: Screen, touched: list[RunRow], waits: Any, stranded: list[str], elapsed_s: float, now_ns: int
) -> None:
    if not touched:
        screen.text("nothing was due: no run moved")
    else:
        screen.text(
            (f"{count(len(touched), 'run')} moved ", "bold"), f"in {duration(elapsed_s)}: {statuses_text(touched)}"
        )
        screen.table(runs_table(touched[:SHOWN], waits, now_ns))
        if len(touched) > SHOWN:
            screen.text((f"and {len(touched) - SHOWN:,} more: holdfast runs{safe(screen.location.option)}", "dim"))
    if any(row.status in PARKED for row in touched):
        option = safe(screen.location.option)
        screen.text(
            (f"what waits for a person: holdfast approvals{option}; why a run waits: holdfast show RUN{option}", "dim")
        )
    if stranded:
        which = "it" if len(stranded) == 1 else "them"
        text = f"{count(len(stranded), 'run')} stranded: no loaded code accepts {which} (holdfast runs --stranded --load MODULE)"
        screen.say((text, "yellow"))
