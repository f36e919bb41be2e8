"""Options and arguments that several commands have."""

from __future__ import annotations

import getpass
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ..trust import Trust

StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="PATH|URL",
        help="The store: a file or sqlite:///path. Else what HOLDFAST_STORE names, else ./holdfast.db.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text.")]
LoadOption = Annotated[
    list[str] | None,
    typer.Option(
        "--load",
        metavar="MODULE",
        help="Import this module (a.b, or a path to a .py file), so that its workflows are known. Repeatable.",
        show_default=False,
    ),
]
ByOption = Annotated[
    str | None,
    typer.Option(
        "--by", metavar="WHO", help="Who decides; recorded. (default: the user of the system)", show_default=False
    ),
]
WhyOption = Annotated[str, typer.Option("--why", metavar="TEXT", help="Why; recorded.", show_default=False)]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
KeyOption = Annotated[
    str | None,
    typer.Option(
        "--key", metavar="KEY", help="Makes it idempotent: a second one with this key is the first.", show_default=False
    ),
]
LimitOption = Annotated[int, typer.Option("--limit", "-n", min=0, help="At most this many; 0: all.")]
TrustOption = Annotated[
    str,
    typer.Option("--trust", metavar="LEVEL", help=f"What you vouch for: {', '.join(t.name.lower() for t in Trust)}."),
]
RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="The id of a run (`holdfast runs`).", show_default=False)
]


def who(by: str | None) -> str:
    """Who decides: as given, else the user that the system names."""
    if by is not None and by.strip():
        return by
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise typer.BadParameter("the system names no user; say who with --by") from None


def trust_level(name: str) -> Trust:
    try:
        return Trust[name.upper()]
    except KeyError:
        levels = ", ".join(t.name.lower() for t in Trust)
        raise typer.BadParameter(f"--trust is one of {levels}, not {name!r}") from None


def json_value(text: str, option: str) -> Any:  # Any: JSON
    """The value of an option that takes JSON."""
    try:
        return json.loads(text, parse_constant=_no_number)
    except ValueError as error:
        quoted = json.dumps(text)
        raise typer.BadParameter(f"{option} takes JSON ({error}); a text is written {option} '{quoted}'") from None


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def read_file(path: Path, what: str) -> bytes:
    """The content of a file that an option names. Raises `BadFile`."""
    from .exits import BadFile

    try:
        return path.read_bytes()
    except OSError as error:
        raise BadFile(f"{what} {path} can't be read: {error.strerror}") from error
