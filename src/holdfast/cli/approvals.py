"""`holdfast approvals | approve | deny`: what waits for a person, and the decision, by its id and by nothing else."""

from __future__ import annotations

from typing import Annotated, Any

import anyio
import typer

from ..errors import RedactedStep
from ..journal import Event
from ..runtime import App
from ..store import Wait
from .asked import Asked, decided, read_asked, show_asked, waiting
from .locate import opened
from .options import ByOption, JsonOption, LimitOption, StoreOption, WhyOption, YesOption, who
from .screen import Screen, reporting
from .words import safe

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="As `holdfast approvals` shows it.", show_default=False)]


def approvals(limit: LimitOption = 50, full: Annotated[bool, typer.Option("--full", help="Arguments in full.")] = False,
              store: StoreOption = None, as_json: JsonOption = False) -> None:  # fmt: skip
    """List what waits for a person: approvals, and effects in doubt."""
    with reporting(store, as_json) as screen:
        anyio.run(_list, screen, limit, full)


async def _list(screen: Screen, limit: int, full: bool) -> None:
    async with opened(screen.location) as app:
        waits = await app.approvals()
        found: list[Asked] = []
        more = False
        for run, wait in waits:
            asked = await _open_question(app, run, wait)
            if asked is None:
                continue
            if limit and len(found) == limit:
                more = True
                break
            found.append(asked)
        now_ns = app.journal.clock.now_ns()
    screen.json([asked.json() for asked in found])
    for asked in found:
        show_asked(screen, asked, now_ns, full=full)
        for command in asked.commands(screen.location.option):
            screen.text(("  $ ", "dim"), (safe(command), "green"))
        screen.text()
    if not found:
        screen.text("nothing waits for a person")
    if more:
        screen.say((f"there are more than {limit}: --limit N shows more, --limit 0 all of them", "dim"))


async def _open_question(app: App, run: str, wait: Wait) -> Asked | None:
    """The question of a wait; `None` when it was answered and the run has only not taken it up yet."""
    event = await _event_of(app, run, wait)
    if event is None:
        return None
    if decided(await app.notes(run), wait.id, event.header.at_ns) is not None:
        return None
    try:
        return read_asked(run, event)
    except RedactedStep:
        return None


async def _event_of(app: App, run: str, wait: Wait) -> Event | None:
    kinds = ("approval.waiting", "tool.doubt")
    return next((e for e in reversed(await app.events(run)) if e.path == wait.path and e.kind in kinds), None)


def approve(id: IdArgument, by: ByOption = None, why: WhyOption = "", yes: YesOption = False,
            store: StoreOption = None, as_json: JsonOption = False) -> None:  # fmt: skip
    """Permit the one call that waits under ID, with exactly the arguments that are shown. Asks first."""
    with reporting(store, as_json) as screen:
        anyio.run(_decide, screen, id, True, who(by), why, yes)


def deny(id: IdArgument, by: ByOption = None, why: WhyOption = "", yes: YesOption = False,
         store: StoreOption = None, as_json: JsonOption = False) -> None:  # fmt: skip
    """Refuse what waits under ID: the call becomes a failure that the run sees. Asks first."""
    with reporting(store, as_json) as screen:
        anyio.run(_decide, screen, id, False, who(by), why, yes)


async def _decide(screen: Screen, id: str, approved: bool, by: str, why: str, yes: bool) -> None:
    word = "approve" if approved else "deny"
    async with opened(screen.location) as app:
        asked = await waiting(app, id)
        if not yes or not screen.as_json:
            show_asked(screen, asked, app.journal.clock.now_ns(), full=True, out=False)
        screen.confirm(f"{word} this, as {safe(by)}?", yes=yes)
        # The id is made of the run, the step and these arguments: if they changed while they were read, nothing waits under it.
        await (app.approve if approved else app.deny)(id, by=by, why=why)
    done: dict[str, Any] = {"decision": word, "by": by, "why": why}  # Any: JSON
    screen.json(done | asked.json())
    screen.text((f"{'approved' if approved else 'denied'} ", "bold"), safe(id), f" by {safe(by)}")
    say_who_goes_on(screen, asked.run)


def say_who_goes_on(screen: Screen, run: str) -> None:
    """A decision is a note; a worker has to take it up."""
    screen.text(
        (f"run {safe(run)} goes on as soon as a worker has it; if none is running: ", "dim"),
        (f"holdfast resume --load MODULE{safe(screen.location.option)}", "green"),
    )
