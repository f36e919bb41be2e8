"""`holdfast reply | signal | cancel`: notes that a run takes up."""

from __future__ import annotations

from typing import Annotated, Any

import anyio
import typer

from ..journal import TERMINAL
from ..runtime import App
from ..store import RunRow
from ..trust import Trust
from .approvals import say_who_goes_on
from .exits import RunOver
from .locate import opened
from .options import (
    ByOption,
    JsonOption,
    KeyOption,
    RunArgument,
    StoreOption,
    TrustOption,
    WhyOption,
    json_value,
    trust_level,
    who,
)
from .screen import Screen, reporting
from .words import safe


def reply(
    run: RunArgument,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What the user says.", show_default=False)],
    trust: TrustOption = "external",
    key: KeyOption = None,
    by: ByOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Answer what a run asks, or give it the user's next turn."""
    with reporting(store, as_json) as screen:
        anyio.run(_send, screen, run, "reply", "", text, trust_level(trust), key, who(by), "")


def signal(
    run: RunArgument,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Of the signal, as the workflow waits for it.", show_default=False)
    ],
    value: Annotated[str, typer.Option("--value", metavar="JSON", help="What it carries.")] = "null",
    trust: TrustOption = "external",
    key: KeyOption = None,
    by: ByOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send a signal to a run; it is kept until the run asks for it."""
    with reporting(store, as_json) as screen:
        anyio.run(
            _send, screen, run, "signal", name, json_value(value, "--value"), trust_level(trust), key, who(by), ""
        )


def cancel(
    run: RunArgument, why: WhyOption = "", by: ByOption = None, store: StoreOption = None, as_json: JsonOption = False
) -> None:
    """Ask a run to end. An effect that is out gets a moment to answer; what stays unknown is said in the record."""
    with reporting(store, as_json) as screen:
        anyio.run(_send, screen, run, "cancel", "", None, Trust.EXTERNAL, "cancel", who(by), why)


async def _send(
    screen: Screen, run: str, kind: str, name: str, value: Any, trust: Trust, key: str | None, by: str, why: str
) -> None:  # Any: JSON
    async with opened(screen.location) as app:
        row = await _open_run(app, run)
        before = row.notes_seq
        number = await app.note(run, kind, name=name, value=value, by=by, why=why, key=key, label=trust)
    again = number <= before
    screen.json({"run": run, "note": number, "kind": f"note.{kind}", "name": name, "by": by, "already_there": again})
    what = f"signal {name}" if kind == "signal" else kind
    screen.text((f"{safe(what)} ", "bold"), f"is note {number} of run {safe(run)}", " already" if again else "")
    say_who_goes_on(screen, run)


async def _open_run(app: App, run: str) -> RunRow:
    row = await app.journal.run(run)
    if row.status in TERMINAL:
        raise RunOver(
            f"run {run} is {row.status}; nothing reaches it any more and nothing was recorded (`holdfast fork` makes a new one)"
        )
    return row
