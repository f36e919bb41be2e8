"""`fork`: a new run that takes over the recorded past of another one up to a step, and is live from there.

The past is copied: same outcomes, same notes, chained anew under the new run's id. Effects are refused by default, so that a what-if
branch can't act; with live effects it acts under keys of its own. A fork shares the secret of its source, which keys the addresses of
the conversation's blobs: redacting the source does not redact its forks.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from typing import Literal

import anyio.to_thread

from ..errors import JournalMismatch, RedactedStep, RunExists, RunIdConflict
from ..journal import Event, Journal, RunLog, codec, read_event
from ..journal.records import ForkOf, Started
from ..store import Append, NewRun, Row, Stream
from ..trust import PRIMARY, step_order
from .history import STEP_TYPES, read_history, received_notes


async def fork_run(
    journal: Journal, source: str, *, at: str, id: str | None, effects: Literal["refuse", "live"]
) -> str:
    """Create the fork, durably and unclaimed, and return its id.

    Raises: `UnknownRun`, `RunIdConflict` (the id is taken), `JournalMismatch` (no such step), `RedactedStep`.
    """
    row = await journal.run(source)
    events = await journal.events(source)
    kept = before(source, events, at)
    last = max((e.seq for e in kept), default=0)
    started = events[0].payload(Started)
    run = id or f"{source}-fork-{secrets.token_hex(3)}"
    new = Started(
        started.workflow, started.version, started.input, started.label, started.success, started.budget,
        fork=ForkOf(source, last), effects="refused" if effects == "refuse" else "live", tags=started.tags,
    )  # fmt: skip
    log = journal.pen(run)
    genesis = log.head
    rows = [log.seal("run.started", "", new.workflow, codec.encode(new), adds=new.label)]
    rows += [_again(log, event) for event in kept]
    blobs = await anyio.to_thread.run_sync(_blobs_of, journal, source)
    secret = row.secret or secrets.token_bytes(32)
    try:
        await journal.store.create(
            NewRun(run, new.workflow, new.version, rows[0].at_ns, secret, wake_ns=None),
            Append(run, Stream.RUN, 0, genesis, tuple(rows), tuple(blobs)),
        )
    except RunExists as exists:
        raise RunIdConflict(run, "a fork needs an id of its own") from exists
    await _copy_notes(journal, source, run, kept)
    return run


def before(run: str, events: Sequence[Event], at: str) -> list[Event]:
    """The step events that stand before step `at` in program order. Raises `JournalMismatch` when there is no such step."""
    here = step_order(at)
    steps = [e for e in events if e.kind.partition(".")[0] in STEP_TYPES]
    if not any(e.path == at or e.path.startswith(f"{at}.") for e in steps):
        near = min((e.path for e in steps if step_order(e.path) >= here), key=step_order, default=None)
        raise JournalMismatch(run, at, "no such step", f"a fork at {at}", near)
    kept = [e for e in steps if step_order(e.path) < here and not at.startswith(f"{e.path}.")]
    numbered = {e.seq for e in kept if "~" not in e.path}
    first_left_out = min((e.seq for e in steps if "~" not in e.path and e.seq not in numbered), default=len(events))
    # The mark of a patch has no number: it stands before the step if it was recorded before anything that is left out.
    kept = [e for e in steps if (e.seq < first_left_out if "~" in e.path else e.seq in numbered)]
    kept = _without_open_effects(kept)
    for event in kept:
        if event.redacted:
            raise RedactedStep(run, event.path)
    return kept


def _without_open_effects(kept: Sequence[Event]) -> list[Event]:
    """What is not decided is not taken over: an effect that was out when the fork was made belongs to the source alone.

    The fork asks anew, with its own gate, key and approvals.
    """
    decided = {e.path for e in kept if e.kind in ("tool.completed", "tool.failed")}
    undecided = {e.path for e in kept if e.kind.startswith("tool.") and e.path not in decided}
    return [e for e in kept if not any(e.path == path or e.path.startswith(f"{path}.") for path in undecided)]


def _again(log: RunLog, event: Event) -> Row:
    assert event.stored is not None
    payload = codec.unpack(event.stored)
    measured = codec.columns(event.kind, event.stored)
    adds = PRIMARY if event.header.label == log.label else event.header.label
    return log.seal(event.kind, event.path, event.name, payload, adds=adds, measured=measured)


def _blobs_of(journal: Journal, run: str) -> Iterable[tuple[bytes, bytes]]:
    with journal.store.snapshot() as snapshot:
        return tuple(snapshot.blobs(run))


async def _copy_notes(journal: Journal, source: str, run: str, kept: Sequence[Event]) -> None:
    """The notes that the past has received keep their numbers; the copy also wakes the fork. Later notes are not its own."""
    last = max(received_notes(read_history(kept)), default=-1)
    pen = journal.pen(run, Stream.NOTES)
    rows = [r for r in await journal.store.rows(source, Stream.NOTES) if r.seq <= last]
    for row in rows:
        event = read_event(row)
        if event.stored is None:
            raise RedactedStep(source, f"with note {event.seq}")
    head = pen.head
    copies = tuple(
        pen.seal(e.kind, "", e.name, codec.unpack(e.stored or b""), adds=e.header.label) for e in map(read_event, rows)
    )
    if copies:
        await journal.store.append(Append(run, Stream.NOTES, 0, head, copies))
