"""What people decide, as notes: approvals and settlements, each by its id, each once.

An id names one question: it is made from the run, the step and the exact arguments. If those change, the old id decides nothing.
"""

from __future__ import annotations

import msgspec

from ..errors import AlreadyDecided, NotJson, NotWaiting, TooEarly, WorkflowDefect
from ..journal import Event, Journal, codec
from ..journal.records import Doubt, Note, Settled, Waiting
from ..tools import encode_json
from ..tools.typed import HAS_NO_JSON
from ..trust import PRIMARY

VERDICTS = ("happened", "retry", "give-up")
VALID_S = 3600.0
"""For how long a yes holds until the run uses it: a worker that was down for a day must ask again."""


async def waiting_event(journal: Journal, id: str) -> tuple[str, Event]:
    """The run and the event that says what is asked under an id. Raises `NotWaiting`."""
    found = await journal.store.waits(id=id)
    if not found:
        raise NotWaiting(id, "nothing waits under this id (it was decided, voided by a change, or never asked)")
    run, wait = found[0]
    for event in reversed(await journal.events(run)):
        if event.path == wait.path and event.kind in (f"{wait.kind}.waiting", "tool.doubt"):
            return run, event
    raise NotWaiting(id, f"run {run} does not hold what it waits for")


async def decide(journal: Journal, id: str, *, approved: bool, by: str, why: str, valid_s: float = VALID_S) -> str:
    """Record a yes or a no, and return the run. A decision permits one call; it lifts no label (law 3)."""
    run, event = await waiting_event(journal, id)
    if event.kind != "approval.waiting":
        what = event.kind.partition(".")[0]
        raise NotWaiting(id, f"run {run} waits here for a {what}, not for an approval; settle, signal or reply instead")
    kind = "note.approve" if approved else "note.deny"
    asked = event.payload(Waiting)
    expires_ns = journal.clock.now_ns() + round(valid_s * 1e9) if approved else None
    verdict = msgspec.Raw(b"true" if approved else b"false")
    note = Note(id, verdict, by, why, label=PRIMARY, args_hash=asked.args_hash, expires_ns=expires_ns)
    await _once(journal, run, id, kind, note, key=f"decision:{id}")
    return run


async def settle(journal: Journal, id: str, verdict: str, *, result: object, by: str, why: str) -> str:
    """Record what became of an effect in doubt, and return the run."""
    if verdict not in VERDICTS:
        raise WorkflowDefect(f"verdict {verdict!r}", f"it is one of {', '.join(VERDICTS)}; nothing was recorded")
    run, event = await waiting_event(journal, id)
    if event.kind != "tool.doubt":
        raise NotWaiting(id, f"run {run} has no effect in doubt under this id")
    early_s = (event.payload(Doubt).may_retry_from_ns - journal.clock.now_ns()) / 1e9
    if verdict == "retry" and early_s > 0:
        raise TooEarly(id, early_s)
    said = Settled(verdict, None, by, why, json_of(result, run, "settlement"))
    note = Note(id, msgspec.Raw(codec.encode(said)), by, why, label=PRIMARY)
    await _once(journal, run, id, "note.settle", note, key=f"settle:{id}:{event.seq}")
    return run


def json_of(value: object, run: str, what: str) -> msgspec.Raw:
    """What somebody says to a run, as JSON. Raises `NotJson`."""
    try:
        return msgspec.Raw(encode_json(value))
    except HAS_NO_JSON as error:
        raise NotJson(run, what, str(error)) from error


async def _once(journal: Journal, run: str, id: str, kind: str, note: Note, *, key: str) -> None:
    """Append the note; the same decision again is the same note, another one comes too late."""
    seq, written = await journal.note_once(run, kind, note, key=key)
    if written:
        return
    there = (await journal.notes(run, after=seq - 1))[0]
    record = there.payload(Note)
    if (there.kind, bytes(record.value)) != (kind, bytes(note.value)):
        raise AlreadyDecided(id, f"{there.kind.removeprefix('note.')} by {record.by or 'somebody'}")
