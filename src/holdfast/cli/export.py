"""`holdfast export`: runs as JSON lines that prove themselves without the store."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, BinaryIO

import anyio
import anyio.to_thread
import msgspec
import typer

from ..journal.export import export as export_lines
from ..runtime import App
from .exits import BadFile, reading_records
from .locate import opened
from .options import JsonOption, StoreOption
from .screen import Screen, reporting
from .words import count, safe


def export(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN]...", help="Which runs; all by default.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Write here instead of standard output.", show_default=False),
    ] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write runs with their events, messages and checkpoints as JSON Lines; `audit verify --export FILE` checks such a file."""
    with reporting(store, as_json) as screen:
        anyio.run(_export, screen, tuple(names) if names else None, out)


async def _export(screen: Screen, names: tuple[str, ...] | None, out: Path | None) -> None:
    async with opened(screen.location) as app:
        if out is None:
            await anyio.to_thread.run_sync(_to_output, app, names)
            return
        end = await anyio.to_thread.run_sync(_to_file, app, names, out)
    screen.json({"out": str(out), "runs": end["runs"], "events": end["events"]})
    screen.text(
        ("exported ", "bold"), f"{count(end['runs'], 'run')}, {count(end['events'], 'event')} to {safe(str(out))}"
    )


def _to_output(app: App, names: tuple[str, ...] | None) -> None:
    try:
        _copy(app, names, sys.stdout.buffer)
    except _NotWritten as failed:
        raise failed.error from None
    sys.stdout.buffer.flush()


def _to_file(app: App, names: tuple[str, ...] | None, out: Path) -> dict[str, int]:
    """All of it or nothing: what is at `out` is replaced once the export is complete."""
    part = out.with_name(f"{out.name}.part-{os.getpid()}")
    try:
        with part.open("xb") as file:
            last = _copy(app, names, file)
        part.replace(out)
    except (OSError, _NotWritten) as failed:
        error = failed.error if isinstance(failed, _NotWritten) else failed
        raise BadFile(f"{out} can't be written: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    end = msgspec.json.decode(last)
    return {"runs": end["runs"], "events": end["events"]}


def _copy(app: App, names: tuple[str, ...] | None, file: BinaryIO) -> bytes:
    last = b""
    with app.store.snapshot() as snapshot, reading_records():
        lines: Iterable[bytes] = export_lines(snapshot, app.store.address, runs=names)
        for last in lines:
            try:
                file.write(last)
            except OSError as error:
                raise _NotWritten(error) from error
    return last


class _NotWritten(Exception):
    """The output failed, not the store: inside a snapshot an `OSError` would be taken for one of the store."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error
