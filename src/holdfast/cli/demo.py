"""`holdfast demo`: a whole small application."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .exits import Exit
from .options import JsonOption
from .screen import reporting


def demo(
    runs: Annotated[
        int | None, typer.Option("--runs", metavar="N", min=1, help="Mails to handle; all by default.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="S", help="Decides which mails, and what goes wrong where.")] = 7,
    kill: Annotated[bool, typer.Option("--kill/--no-kill", help="Kill the worker with SIGKILL in the middle, and resume.")] = True,
    store: Annotated[
        str | None,
        typer.Option("--store", metavar="PATH", help="The store to make or to go on with; a new one in a temporary folder by default.",
                     show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Run the order desk: an agent that turns e-mails into orders, is killed in the middle, and does nothing twice."""
    with reporting(store, as_json):
        from ..demo import run_demo

        code = run_demo(runs=runs, seed=seed, kill=kill, store=None if store is None else Path(store), as_json=as_json)
    if code:
        raise typer.Exit(code if code in set(Exit) else Exit.FINDING)
