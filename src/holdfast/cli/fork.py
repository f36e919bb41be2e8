"""`holdfast fork RUN`: a new run with the past of another one."""

from __future__ import annotations

from typing import Annotated, Literal

import anyio
import typer

from .approvals import say_who_goes_on
from .locate import opened
from .options import JsonOption, RunArgument, StoreOption
from .screen import Screen, reporting
from .words import safe


def fork(
    run: RunArgument,
    at: Annotated[
        str,
        typer.Option(
            "--at",
            metavar="PATH",
            help="The first step that is done anew (`holdfast show` has the paths).",
            show_default=False,
        ),
    ],
    id: Annotated[
        str | None,
        typer.Option("--id", metavar="NEW", help="Of the new run. (default: made from RUN)", show_default=False),
    ] = None,
    effects: Annotated[
        str,
        typer.Option("--effects", metavar="refuse|live", help="Whether tools with an effect may act in the new run."),
    ] = "refuse",
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a new run that has the recorded past of RUN up to a step and is live from there. Effects are refused by default."""
    with reporting(store, as_json) as screen:
        chosen: Literal["refuse", "live"]
        if effects == "live":
            chosen = "live"
        elif effects == "refuse":
            chosen = "refuse"
        else:
            raise typer.BadParameter(f"--effects is refuse or live, not {effects!r}")
        anyio.run(_fork, screen, run, at, id, chosen)


async def _fork(screen: Screen, run: str, at: str, id: str | None, effects: Literal["refuse", "live"]) -> None:
    async with opened(screen.location) as app:
        forked = await app.fork(run, at=at, id=id, effects=effects)
    screen.json({"run": forked.id, "fork_of": run, "at": at, "effects": effects})
    refused = "effects act for real" if effects == "live" else "effects are refused"
    screen.text(("forked ", "bold"), safe(f"{run} before step {at}: run {forked.id}; {refused}"))
    say_who_goes_on(screen, forked.id)
