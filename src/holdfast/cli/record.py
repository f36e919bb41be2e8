"""Everything the store has about one run, read so that damage is shown and not thrown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import anyio.to_thread

from ..journal import Event, read_event
from ..journal.records import ModelOutcome
from ..runtime import App
from ..store import Row, RunRow, Stream, Wait
from ..trust import PRIMARY, Label
from .asked import label_json
from .timeline import UNREADABLE
from .transcript import Transcript, Turn
from .words import moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One event or note. `event` is `None` when its header can't be read; `damage` says what can't."""

    row: Row
    event: Event | None
    damage: str | None
    payload: Any  # Any: JSON; `None` when redacted or damaged
    turn: Turn | None = None

    def json(self, *, full: bool) -> dict[str, Any]:  # Any: JSON
        row = self.row
        header = self.event.header if self.event is not None else None
        described = {
            "seq": row.seq, "kind": row.kind, "path": header.path if header else None, "name": row.name, "at": moment(row.at_ns),
            "at_ns": row.at_ns, "epoch": header.epoch if header else None,
            "label": label_json(header.label) if header else None, "hash": row.hash.hex(),
            "redacted": row.payload is None, "payload": self.payload,
        }  # fmt: skip
        if self.damage is not None:
            described["damage"] = self.damage
        if full and self.turn is not None:
            described["messages"] = self.turn.json()
        return described


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What the model calls of a run cost. `unpriced`: calls without a known cost, which are not in `microusd` (law 10)."""

    calls: int
    microusd: int
    unpriced: int
    input_tokens: int
    output_tokens: int
    uncounted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    row: RunRow
    events: Sequence[Recorded]
    notes: Sequence[Recorded]
    waits: Sequence[Wait]

    @property
    def label(self) -> Label:
        """The trust of the run now: that of its last event."""
        return next((r.event.header.label for r in reversed(self.events) if r.event is not None), PRIMARY)

    def last(self, kind: str) -> Event | None:
        """The last readable event of a kind."""
        found = (
            r.event for r in reversed(self.events) if r.event is not None and r.event.kind == kind and r.damage is None
        )
        return next((event for event in found if not event.redacted), None)

    @property
    def spent(self) -> Spent:
        calls = [r.row for r in self.events if r.row.kind == "model.completed"]
        return Spent(
            calls=len(calls),
            microusd=sum(row.cost_microusd or 0 for row in calls),
            unpriced=sum(row.cost_microusd is None for row in calls),
            input_tokens=sum(row.input_tokens or 0 for row in calls),
            output_tokens=sum(row.output_tokens or 0 for row in calls),
            uncounted=sum(row.input_tokens is None or row.output_tokens is None for row in calls),
        )


async def read_record(app: App, run: str, *, messages: bool, asked: bool) -> RunRecord:
    """Read a run.

    Args:
        messages: With what the models said. asked: And with what they were asked.

    Raises: `UnknownRun`.
    """
    row = await app.journal.run(run)
    events = [_recorded(each) for each in await app.store.rows(run, Stream.RUN)]
    notes = [_recorded(each) for each in await app.store.rows(run, Stream.NOTES)]

    def waits_now() -> tuple[Wait, ...]:
        with app.store.snapshot() as snapshot:
            return tuple(snapshot.waits(run))

    waits = await anyio.to_thread.run_sync(waits_now)
    if messages:
        transcript = Transcript(app, run, row.secret)
        events = [await _with_turn(each, transcript, asked=asked) for each in events]
    return RunRecord(row=row, events=events, notes=notes, waits=waits)


def _recorded(row: Row) -> Recorded:
    try:
        event = read_event(row)
    except UNREADABLE as error:
        return Recorded(row=row, event=None, damage=f"its header can't be read: {error}", payload=None)
    try:
        return Recorded(row=row, event=event, damage=None, payload=cast("Any", event.json()))
    except UNREADABLE as error:
        return Recorded(row=row, event=event, damage=f"its content can't be read: {error}", payload=None)


async def _with_turn(recorded: Recorded, transcript: Transcript, *, asked: bool) -> Recorded:
    event = recorded.event
    if event is None or event.kind != "model.completed" or event.redacted or recorded.damage is not None:
        return recorded
    try:
        turn = await transcript.turn(event.payload(ModelOutcome), asked=asked)
    except UNREADABLE as error:
        return Recorded(row=recorded.row, event=event, damage=str(error), payload=recorded.payload)
    return Recorded(row=recorded.row, event=event, damage=None, payload=recorded.payload, turn=turn)
