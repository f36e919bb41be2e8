"""All commands together."""

from __future__ import annotations

from typing import Annotated

import typer

from . import approvals, audit, demo, export, fork, redact, resume, runs, send, settle, show
from .exits import MEANING

_CODES = "\n".join(["Exit codes:", *(f"{int(code):>5}  {meaning}" for code, meaning in MEANING.items())])
_STORE = (
    "The store is --store, else the environment variable HOLDFAST_STORE, else ./holdfast.db. With --json the result, or "
    'an {"error": ...} object, is on standard output.'
)

program = typer.Typer(
    name="holdfast",
    help="Look at runs, decide what waits for a person, resume, audit.",
    epilog=f"{_CODES}\n\n{_STORE}",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _version(asked: bool) -> None:
    if asked:
        from .. import __version__

        typer.echo(f"holdfast {__version__}")
        raise typer.Exit


@program.callback()
def holdfast(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Look at runs, decide what waits for a person, resume, audit."""


for command, panel in (
    (demo.demo, "Begin"),
    (runs.runs, "Look"),
    (show.show, "Look"),
    (approvals.approvals, "Decide"),
    (approvals.approve, "Decide"),
    (approvals.deny, "Decide"),
    (settle.settle, "Decide"),
    (send.reply, "Act on a run"),
    (send.signal, "Act on a run"),
    (send.cancel, "Act on a run"),
    (resume.resume, "Act on a run"),
    (fork.fork, "Act on a run"),
    (redact.redact, "Act on a run"),
    (export.export, "Keep and prove"),
):
    program.command(rich_help_panel=panel)(command)
program.add_typer(audit.app, name="audit", rich_help_panel="Keep and prove")
