"""`holdfast redact RUN`: delete content, keep the proof that it was there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import anyio
import anyio.to_thread
import typer

from ..journal import TERMINAL
from ..journal import redact as redaction
from ..runtime import App
from ..store import RunRow, Stream
from .exits import NotNow
from .load import load
from .locate import opened
from .options import ByOption, JsonOption, LoadOption, RunArgument, StoreOption, YesOption, who
from .screen import Screen, reporting
from .words import count, safe, shortened


def redact(
    run: RunArgument,
    why: Annotated[
        str, typer.Option("--why", metavar="TEXT", help="Why; recorded and kept: no content in it.", show_default=False)
    ],
    events: Annotated[
        list[int] | None,
        typer.Option("--event", metavar="SEQ", min=0, help="Only this event. Repeatable.", show_default=False),
    ] = None,
    notes: Annotated[
        list[int] | None,
        typer.Option("--note", metavar="SEQ", min=0, help="Only this note. Repeatable.", show_default=False),
    ] = None,
    by: ByOption = None,
    yes: YesOption = False,
    modules: LoadOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete the content of a run, or of some of its events, for good. Headers and hashes stay, so its chain still verifies.

    An unfinished run is cancelled first, which needs a worker: one that is running elsewhere, or the code given with --load.
    """
    with reporting(store, as_json) as screen:
        load(modules)
        chosen = [(Stream.RUN, seq) for seq in events or ()] + [(Stream.NOTES, seq) for seq in notes or ()]
        anyio.run(_redact, screen, run, tuple(chosen) or None, who(by), why, yes, bool(modules))


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """What a redaction would take away."""

    contents: int
    size_bytes: int
    blobs: int


async def _redact(
    screen: Screen,
    run: str,
    chosen: tuple[tuple[Stream, int], ...] | None,
    by: str,
    why: str,
    yes: bool,
    as_worker: bool,
) -> None:
    removed = 0
    async with opened(screen.location) as app:
        row = await app.journal.run(run)
        loss = await anyio.to_thread.run_sync(_loss, app, run, chosen)
        children = [child.run for child in await app.store.runs(parent=run)]
        if chosen is not None and row.status not in TERMINAL:
            why_not = "single events are redacted when it has ended (`holdfast cancel`). Nothing was changed"
            raise NotNow(f"run {run} is {row.status}: {why_not}")
        _warn(screen, row, loss, children, whole=chosen is None)
        screen.confirm("delete this for good?", yes=yes)
        if chosen is not None:
            removed = await redaction.redact(app.journal, run, by=by, why=why, events=chosen)
        elif not as_worker:
            removed = await app.redact(run, by=by, why=why)
    if chosen is None and as_worker:
        async with opened(screen.location, worker=True) as app:
            removed = await app.redact(run, by=by, why=why)
    screen.json({"run": run, "redacted": removed, "by": by, "why": why, "children": children})
    screen.text(
        ("redacted ", "bold"),
        f"{count(removed, 'event')} of run {safe(run)}; a note says that it was {safe(by)}, and why",
    )


def _loss(app: App, run: str, chosen: Sequence[tuple[Stream, int]] | None) -> Loss:
    contents = size_bytes = 0
    with app.store.snapshot() as snapshot:
        for stream in Stream:
            for row in snapshot.rows(run, stream):
                if row.payload is not None and (chosen is None or (stream, row.seq) in chosen):
                    contents += 1
                    size_bytes += len(row.payload)
        blobs = [len(data) for _, data in snapshot.blobs(run)] if chosen is None else []
    return Loss(contents=contents, size_bytes=size_bytes + sum(blobs), blobs=len(blobs))


def _warn(screen: Screen, row: RunRow, loss: Loss, children: Sequence[str], *, whole: bool) -> None:
    if screen.as_json:
        return
    what = "the whole run" if whole else "these events"
    screen.say((f"redact {what}: ", "bold"), safe(f"{row.run}, {row.workflow} version {row.version}, {row.status}"))
    blobs = f", {count(loss.blobs, 'stored message')}" if loss.blobs else ""
    screen.say(
        ("lost:   ", "dim"), f"the content of {count(loss.contents, 'event')} and notes{blobs}, {loss.size_bytes:,} bytes; "
        "the run can't be replayed or forked past there, and no copy is kept", indent=2, hang=8,
    )  # fmt: skip
    stays = "ids, names and paths of steps, times, trust, costs, hashes, and a note that says who and why"
    screen.say(("stays:  ", "dim"), stays, indent=2, hang=8)
    if row.status not in TERMINAL and whole:
        screen.say(
            ("first:  ", "dim"),
            (f"it is {row.status}, so it is cancelled (waits up to 30 s for a worker)", "yellow"),
            indent=2,
            hang=8,
        )
    if children:
        names = shortened(", ".join(children), 200)
        screen.say(("beside: ", "dim"), (f"sub-runs keep what they were given: {names}", "yellow"), indent=2, hang=8)
    screen.say(("beside: ", "dim"), "forks of this run, exports and backups keep what they hold", indent=2, hang=8)
