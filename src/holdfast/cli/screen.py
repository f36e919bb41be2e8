"""What a command shows: text on the terminal, or JSON; and what becomes of its errors."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from typing import Any, NoReturn, TextIO

import msgspec
import typer
import zstandard
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..errors import HoldfastError
from ..journal.checkpoint import BadCheckpoint
from ..journal.export import BadExport
from .exits import CommandError, Exit, NotConfirmed, Unreadable, exit_of
from .locate import Location, locate
from .words import safe, to_json

PIPED_WIDTH = 120
_UNREADABLE = (msgspec.MsgspecError, zstandard.ZstdError, UnicodeDecodeError, BadExport, BadCheckpoint)
"""What damage looks like where a command did not expect it."""


class Screen:
    """Where a command writes. Recorded text goes through `words` before it comes here."""

    def __init__(self, location: Location, *, as_json: bool) -> None:
        self.location = location
        self.as_json = as_json
        self.out = _console(sys.stdout)
        self.err = _console(sys.stderr)

    @property
    def width(self) -> int:
        return self.out.width

    def text(self, *parts: str | tuple[str, str], indent: int = 0, hang: int = 0) -> None:
        """One paragraph on standard output, of parts as (text, style); nothing with --json.

        On a terminal long ones break, and go on `hang` columns behind the indent; in a file each stays one line.
        """
        if not self.as_json:
            _write(self.out, Text.assemble(*parts), indent, hang)

    def say(self, *parts: str | tuple[str, str], indent: int = 0, hang: int = 0) -> None:
        """The same on standard error, with --json too: what a person should know beside the result."""
        _write(self.err, Text.assemble(*parts), indent, hang)

    def table(self, table: Table) -> None:
        if not self.as_json:
            self.out.print(table)

    def json(self, value: Any) -> None:  # Any: JSON
        """The result of the command as JSON; nothing without --json."""
        if self.as_json:
            self.out.file.write(to_json(value, pretty=self.out.is_terminal) + "\n")

    def confirm(self, question: str, *, yes: bool) -> None:
        """Go on only when a person says so. Raises `NotConfirmed`."""
        if yes:
            return
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise NotConfirmed(
                "this asks to be confirmed and there is no terminal to ask on; nothing was done. Look first, then add --yes"
            )
        said = _answer(self.err, Text(f"{question} [y/N] ", style="bold"))
        if said.strip().lower() not in ("y", "yes"):
            raise NotConfirmed("not confirmed; nothing was done")


@contextlib.contextmanager
def reporting(store: str | None, as_json: bool) -> Iterator[Screen]:
    """Around the body of every command: its errors become a sentence, or an object with --json, and an exit code."""
    screen = Screen(locate(store), as_json=as_json)
    try:
        yield screen
        sys.stdout.flush()
    except KeyboardInterrupt:
        raise typer.Exit(Exit.INTERRUPTED) from None
    except BrokenPipeError:
        _forget_output()
        raise typer.Exit(Exit.BROKEN_PIPE) from None
    except Exception as raised:
        error = _single(raised)
        if isinstance(error, HoldfastError | CommandError):
            _fail(screen, error, exit_of(error))
        if isinstance(error, _UNREADABLE):
            _fail(screen, Unreadable(error), Exit.STORE)
        if error is raised:
            raise
        raise error from raised


def _fail(screen: Screen, error: Exception, code: Exit) -> NoReturn:
    location = screen.location
    message = str(error)
    if screen.as_json:
        described: dict[str, Any] = {"type": type(error).__name__, "message": message, "exit": int(code)}
        screen.json({"error": described | {"store": location.shown} | _data(error)})
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.flush()
    else:
        screen.say(("holdfast: ", "bold red"), safe(message))
        if location.shown not in message:
            screen.say(("store ", "dim"), safe(location.described), indent=10)
    raise typer.Exit(code)


def _answer(console: Console, prompt: Text) -> str:
    """A line from the keyboard. An event loop would hold Ctrl-C back until the line has come, so it is not asked."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        console.print(prompt, end="")
        return sys.stdin.readline()
    except UnicodeDecodeError:
        return ""
    finally:
        signal.signal(signal.SIGINT, before)


def _data(error: Exception) -> dict[str, Any]:  # Any: JSON
    if not isinstance(error, HoldfastError):
        return {}
    fields = {f.name: getattr(error, f.name) for f in dataclasses.fields(error)}
    return {"data": {name: value for name, value in fields.items() if isinstance(value, str | int | float | None)}}


def _single(error: BaseException) -> Exception:
    """What is behind the groups that a task group wraps around the one error that ended it."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, KeyboardInterrupt):
        raise typer.Exit(Exit.INTERRUPTED)
    assert isinstance(error, Exception)
    return error


class _Output(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def _console(stream: TextIO) -> Console:
    console = _Output(file=stream, highlight=False, markup=False, emoji=False, soft_wrap=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPED_WIDTH  # 80 columns are for terminals that do not say how wide they are
    elif console.is_terminal:
        console.width = max(40, shutil.get_terminal_size().columns)
    return console


def _write(console: Console, text: Text, indent: int, hang: int) -> None:
    pad, further = Text(" " * indent), Text(" " * (indent + hang))
    if not console.is_terminal or indent + text.cell_len <= console.width:
        console.print(pad + text, soft_wrap=True)
        return
    first, rest = text[:hang], text[hang:]
    for number, line in enumerate(rest.wrap(console, max(20, console.width - indent - hang))):
        line.rstrip()
        console.print((further if number else pad + first) + line, soft_wrap=True)


def _forget_output() -> None:
    """Nobody reads any more: the interpreter must not complain when it flushes at its end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
