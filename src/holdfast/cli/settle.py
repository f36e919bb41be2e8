"""`holdfast settle ID happened|retry|give-up`: what became of an effect that nobody knows about."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import anyio
import typer

from ..errors import NotWaiting, RedactedStep
from ..journal.records import Outcome
from ..runtime import App
from .approvals import IdArgument, say_who_goes_on
from .asked import Asked, show_asked, waiting
from .exits import NotNow
from .locate import opened
from .options import ByOption, JsonOption, StoreOption, WhyOption, YesOption, json_value, who
from .screen import Screen, reporting
from .words import brief, safe

VERDICTS = ("happened", "retry", "give-up")


def settle(
    id: IdArgument,
    verdict: Annotated[
        str,
        typer.Argument(
            metavar="happened|retry|give-up",
            help="happened: it took place (--result says what it gave); retry: it did not, try again; give-up: leave it.",
            show_default=False,
        ),
    ],
    result: Annotated[
        str | None,
        typer.Option(
            "--result",
            metavar="JSON",
            help="What the tool gave back, when it happened; null: nothing.",
            show_default=False,
        ),
    ] = None,
    by: ByOption = None,
    why: WhyOption = "",
    yes: YesOption = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what became of an effect in doubt. Shows it first; asks when there is a terminal."""
    with reporting(store, as_json) as screen:
        if verdict not in VERDICTS:
            raise typer.BadParameter(f"a verdict is one of {', '.join(VERDICTS)}, not {verdict!r}")
        if result is not None and verdict != "happened":
            raise typer.BadParameter(f"--result belongs to happened; {verdict} has none")
        value = None if result is None else json_value(result, "--result")
        anyio.run(_settle, screen, id, verdict, result is not None, value, who(by), why, yes)


async def _settle(
    screen: Screen, id: str, verdict: str, has_result: bool, result: Any, by: str, why: str, yes: bool
) -> None:
    async with opened(screen.location) as app:
        asked = await waiting(app, id)
        if asked.kind != "settlement":
            raise NotWaiting(id, f"run {asked.run} waits here for an approval, not for a verdict; approve or deny it")
        show_asked(screen, asked, app.journal.clock.now_ns(), full=True, out=False)
        if verdict == "happened" and not has_result:
            raise NotNow(await _what_result(app, asked))
        # The verdict is spelled out and the id names one effect, so a script needs no --yes; a person at a terminal is asked.
        screen.confirm(f"record that it {_said(verdict)}, as {safe(by)}?", yes=yes or not sys.stdin.isatty())
        await app.settle(id, verdict, result=result, by=by, why=why)
    screen.json({"settled": verdict, "by": by, "why": why, "result": result} | asked.json())
    screen.text(("settled ", "bold"), safe(f"{id}: {verdict}, by {by}"))
    say_who_goes_on(screen, asked.run)


def _said(verdict: str) -> str:
    return {"happened": "happened", "retry": "did not happen and is to be tried again", "give-up": "is given up"}[
        verdict
    ]


async def _what_result(app: App, asked: Asked) -> str:
    """What `--result` must hold, with what the same tool gave before in this run, if it did."""
    example = ""
    for event in reversed(await app.events(asked.run)):
        if event.kind == "tool.completed" and event.name == asked.tool:
            try:
                example = f"; earlier in this run it gave {brief(_output(event.payload(Outcome)), 200)}"
            except RedactedStep:
                continue
            break
    return (
        f"{asked.id}: the run goes on with what {asked.tool} gave back, so say it: --result JSON, as the system behind {asked.tool} "
        f"has it for the key {asked.key} (--result null when the tool returns nothing){example}. Nothing was recorded"
    )


def _output(outcome: Outcome) -> Any:  # Any: JSON
    import msgspec

    return msgspec.json.decode(outcome.output)
