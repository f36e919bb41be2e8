"""Redaction: content goes, the proof that something was there stays.

Payload, salt and blobs are deleted; headers stay, so the chain still verifies, and a `note.redaction` says
what, who and why. The digest in a header is over salt and payload, so without the salt nobody can test a
guess against it.

What stays readable: ids of runs, names and versions of workflows, names and paths of steps, keys of notes,
times, costs and token counts, labels (with the names of steps in their causes), and shared blobs
(instructions and tool schemas, which belong to no run).

What it does not reach: **forks** of the run hold copies of its events and messages under the same secret,
sub-runs (`parent`) hold what they were given, and exports and backups hold everything. Redact forks and
sub-runs one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from ..errors import CannotRedact, SequenceConflict
from ..store import Row, Stream
from ..trust import PRIMARY
from . import codec
from .journal import Journal
from .records import Note
from .state import TERMINAL

KIND: Final = "note.redaction"
_ATTEMPTS: Final = 20


class Redaction(msgspec.Struct, frozen=True):
    """Value of a `note.redaction`. `events`: what lost its content; `None`: all that came before the note."""

    events: tuple[tuple[Stream, int], ...] | None


_decode = msgspec.json.Decoder(Redaction).decode


def parse(payload: bytes) -> Redaction | None:
    """What a stored `note.redaction` redacted; `None` when it can't be read."""
    try:
        return _decode(codec.decode(payload, Note).value)
    except msgspec.DecodeError:
        return None


async def redact(
    journal: Journal, run: str, *, by: str, why: str, events: Sequence[tuple[Stream, int]] | None = None
) -> int:
    """Delete the content of a finished run, or of some of its events, and say so in a note.

    Afterwards neither the text nor a hash of it is in any file of the store. Not so for forks and sub-runs:
    see the module.

    Args:
        by, why: Go into the note, which stays; no content in them.
        events: (stream, seq) of each event; `None`: the whole run with its messages, raw model traffic and
            secret.

    Returns: How many events lost their content.
    Raises: UnknownRun: No such run. CannotRedact: The run is not finished (cancel it first), an event does
        not exist, or its content can't be taken out alone: messages are shared by all model calls of a
        conversation. Nothing was changed. StoreUnavailable: Unknown whether it is redacted; ask again, a
        second redaction does no harm.
    """
    if not by.strip() or not why.strip():
        raise CannotRedact(run, "a redaction says who did it and why")
    rows = None if events is None else tuple(sorted(set(events)))
    if rows is not None:
        await _may_go_alone(journal, run, rows)
    note = Note(value=msgspec.Raw(codec.encode(Redaction(rows))), by=by, why=why, label=PRIMARY)
    for attempt in range(_ATTEMPTS):
        await _finished(journal, run)
        try:
            return await journal.store.redact(run, rows, await journal.seal_note(run, KIND, note))
        except SequenceConflict:  # a score or a review came between
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


async def _finished(journal: Journal, run: str) -> None:
    row = await journal.run(run)
    if row.status not in TERMINAL:
        raise CannotRedact(
            run,
            f"it is {row.status} and would need what is taken away; cancel it first, and wait until it is finished",
        )
    if row.worker is not None:
        raise CannotRedact(run, f"worker {row.worker} still holds it; try again in a moment")


async def _may_go_alone(journal: Journal, run: str, events: Sequence[tuple[Stream, int]]) -> None:
    if not events:
        raise CannotRedact(run, "no event was named")
    await journal.run(run)
    for stream in {stream for stream, _ in events}:
        rows = {row.seq: row for row in await journal.store.rows(run, stream)}
        for seq in (seq for of, seq in events if of is stream):
            _check_alone(run, stream, seq, rows.get(seq))


def _check_alone(run: str, stream: Stream, seq: int, row: Row | None) -> None:
    where = f"{'note' if stream is Stream.NOTES else 'event'} {seq}"
    if row is None:
        raise CannotRedact(run, f"there is no {where}")
    if row.kind == KIND:
        raise CannotRedact(run, f"{where} is the note of a redaction")
    if row.kind.startswith("model."):
        raise CannotRedact(
            run,
            f"{where} is a model call, whose messages are shared with the calls before and after it; redact the whole run",
        )
