"""What an audit knows about a stream as it walks along it, and the checks of a run's row against it.

The row of a run (status, outcome, label, waits, heads) is what workers and screens go by; it says nothing
that its events do not.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..store import Row, RunRow, Stream, Wait
from ..trust import Label, meet
from . import blobs, chain, codec
from .problems import Damage, Findings, Redacted
from .records import Doubt, Finished, Header, Parked, Started, Waiting
from .redact import Redaction
from .state import PARKED, TERMINAL, IllegalTransition, Status, advance

_CLAIMED = frozenset({"pending", "running"})


class _References(msgspec.Struct):
    """The blobs that a `model.completed` refers to."""

    conversation: str
    instructions: str
    tools: str
    reply: str
    raw_request: str | None = None
    raw_response: str | None = None


_decode_references = msgspec.json.Decoder(_References).decode


class Progress:
    """Of one stream, up to the row that was read last."""

    __slots__ = (
        "asked", "epoch", "events", "first", "label", "last", "legal", "ranges", "redactions", "refers", "rest", "rested", "run",
        "status", "stream", "turned",
    )  # fmt: skip

    def __init__(self, run: str, stream: Stream) -> None:
        self.run = run
        self.stream = stream
        self.events = 0
        self.epoch = -1
        self.label: Label | None = None
        self.status: Status | None = None
        self.legal = True
        self.first: Row | None = None  # run.started
        self.turned: Row | None = None  # the last run.*
        self.rested: Row | None = None  # the last run.* that parked it
        self.rest: Status | None = None  # the status which that gave it
        self.asked: set[Wait] = set()  # what it began to wait for
        self.last: Row | None = None
        self.ranges: list[tuple[int, int]] = []  # redacted: first and last of each stretch
        self.redactions: list[tuple[int, Redaction | None]] = []  # note and what it says
        self.refers: dict[bytes, int] = {}  # blob and the first event that refers to it

    def add(self, found: Findings, damage: Damage, seq: int, detail: str) -> None:
        found.add(damage, detail, run=self.run, stream=self.stream, seq=seq)

    def change_epoch(self, header: Header, found: Findings) -> None:
        if header.epoch < self.epoch:
            self.add(
                found,
                "state",
                header.seq,
                f"written under epoch {header.epoch}, after one under {self.epoch} (law 6)",
            )
        self.epoch = header.epoch

    def change_label(self, header: Header, found: Findings) -> None:
        if self.label is not None and meet(self.label, header.label) != header.label:
            self.add(found, "label", header.seq, f"the label rises from {self.label} to {header.label} (law 3)")
        self.label = header.label

    def turn(self, row: Row, kind: str, found: Findings) -> None:
        """A `run.*` event: the run changes its state."""
        if row.seq == 0:
            self.first = row
        self.turned = row
        self.advance(kind, row.seq, found)
        if self.status in PARKED:
            self.rested, self.rest = row, self.status

    def advance(self, kind: str, seq: int, found: Findings) -> None:
        if not self.legal:
            return
        try:
            self.status = advance(self.status, kind)
        except IllegalTransition as error:
            self.legal = False
            self.add(found, "state", seq, str(error))

    def ask(self, row: Row, header: Header) -> None:
        """The run begins to wait: for a note or a time, or for a person's verdict on a doubt."""
        if row.payload is None:
            return
        try:
            if header.kind == "tool.doubt":
                doubt = codec.decode(row.payload, Doubt)
                self.asked.add(Wait(doubt.id, "settlement", doubt.tool, header.path))
            else:
                said = codec.decode(row.payload, Waiting)
                self.asked.add(Wait(said.id, said.kind, said.name, header.path, said.due_ns))
        except msgspec.DecodeError:  # damage that the walk along the chain reports
            return

    def redacted(self, seq: int) -> None:
        if self.ranges and self.ranges[-1][1] == seq - 1:
            self.ranges[-1] = (self.ranges[-1][0], seq)
        else:
            self.ranges.append((seq, seq))

    def is_redacted(self, seq: int) -> bool:
        return any(first <= seq <= last for first, last in self.ranges)

    def refer(self, outcome: bytes, seq: int, shared: dict[bytes, str]) -> None:
        """Note the blobs that a model call refers to."""
        names = _decode_references(outcome)
        for name in (names.conversation, names.reply, names.raw_request, names.raw_response):
            if id := read_id(name):
                self.refers.setdefault(id, seq)
        for name in (names.instructions, names.tools):
            if id := read_id(name):
                shared.setdefault(id, self.run)


def read_id(name: str | None) -> bytes | None:
    """The address of a blob from its hex id; `None` for what is no id and so refers to nothing."""
    try:
        id = bytes.fromhex(name or "")
    except ValueError:
        return None
    return id if len(id) == blobs.ID_BYTES else None


# -- redactions -------------------------------------------------------------------------------------------------------------


def check_redactions(row: RunRow, run: Progress, notes: Progress, found: Findings) -> None:
    """Content is gone where a note says so, and only there."""
    if not (run.ranges or notes.ranges or notes.redactions or row.secret is None):
        return
    whole = max((seq for seq, said in notes.redactions if said is not None and said.events is None), default=-1)
    single = {event for _, said in notes.redactions if said is not None for event in said.events or ()}
    for seq, said in notes.redactions:
        if said is None:
            notes.add(found, "state", seq, "the note of a redaction can't be read")
    for stream, up_to in ((run, run.events if whole >= 0 else 0), (notes, whole)):
        for first, last in stream.ranges:
            gone = [seq for seq in range(max(first, up_to), last + 1) if (stream.stream, seq) not in single]
            if gone:
                stream.add(
                    found,
                    "missing",
                    gone[0],
                    f"the content of {len(gone)} events is gone, and no note says why",
                )
            found.redacted.append(Redacted(run=row.run, stream=stream.stream, first=first, last=last))
        left = up_to - sum(min(last, up_to - 1) - first + 1 for first, last in stream.ranges if first < up_to)
        left -= sum(seq < up_to for seq, _ in stream.redactions)  # notes of earlier redactions stay
        if left > 0:
            stream.add(
                found,
                "state",
                0,
                f"a note says that all content was removed; {left} events still have theirs",
            )
    for of, seq in sorted(single):
        if not (run if of is Stream.RUN else notes).is_redacted(seq):
            found.add(
                "state",
                "a note says that the content was removed, and it is there",
                run=row.run,
                stream=of,
                seq=seq,
            )
    if (row.secret is None) is not (whole >= 0):
        what = (
            "the secret of the run is gone, and no note says why"
            if row.secret is None
            else "the secret of a redacted run is there"
        )
        found.add("missing" if row.secret is None else "state", what, run=row.run)


# -- the row of the run -------------------------------------------------------------------------------------------------------


def check_run_row(
    row: RunRow, run: Progress, notes: Progress, waits: Sequence[Wait] | None, found: Findings, *, sound: bool
) -> None:
    """The heads of both streams, and, where the events are `sound`, every column that they decide."""
    _check_head(row.run, run, row.seq, row.hash, found)
    _check_head(row.run, notes, row.notes_seq, row.notes_hash, found)
    if run.last is None:
        found.add("missing", "event 0 is gone", run=row.run, stream=Stream.RUN, seq=0)
    if not sound or run.last is None or run.status is None:
        return
    wrong = list(_start_columns(row, run, notes))
    if run.legal:
        wrong += _state_columns(row, run)
        wrong += [] if waits is None else _wait_columns(row, run, waits)
    for damage, detail in wrong:
        found.add(damage, detail, run=row.run)


def _check_head(run: str, progress: Progress, seq: int, head: bytes, found: Findings) -> None:
    last = progress.last
    at = -1 if last is None else last.seq
    if at < seq:
        progress.add(found, "truncated", at + 1, f"the last event is {at}, the run's head says {seq}")
    elif at > seq:
        progress.add(found, "column", seq, f"the run's head says {seq}, there are events up to {at}")
    elif last is not None and last.hash != head:
        progress.add(found, "column", seq, "the run's head has another hash than the last event")
    elif last is None and head not in (b"", chain.genesis(run, progress.stream)):
        progress.add(found, "column", -1, "the run's head has a hash, and the stream is empty")


def _start_columns(row: RunRow, run: Progress, notes: Progress) -> list[tuple[Damage, str]]:
    """What the first event decides once and for all, and the label, epoch and time of the last one."""
    assert run.last is not None
    wrong: list[tuple[Damage, str]] = []
    if run.first is None or run.first.kind != "run.started":
        return [("state", "its first event is not run.started")]
    pairs: list[tuple[str, object, object]] = [
        ("workflow", row.workflow, run.first.name),
        ("level", row.level, run.last.level),
    ]
    if run.first.payload is not None:
        try:
            started = codec.decode(run.first.payload, Started)
        except msgspec.DecodeError as error:
            return [("state", f"run.started can't be read: {error}")]
        pairs += [("version", row.version, started.version), ("parent", row.parent, started.parent)]
    wrong += [
        ("column", f"{name} is {there!r}, the events say {said!r}") for name, there, said in pairs if there != said
    ]
    if row.created_ns != run.first.at_ns:
        wrong.append(("column", f"created_ns is {row.created_ns}, run.started is at {run.first.at_ns}"))
    times = [last.at_ns for last in (run.last, notes.last) if last is not None]
    if row.updated_ns not in times:
        wrong.append(("column", f"updated_ns is {row.updated_ns}, the last events are of {times}"))
    if row.epoch < run.epoch:
        wrong.append(("column", f"epoch is {row.epoch}, the last event was written under {run.epoch}"))
    if not -1 <= row.notes_seen <= row.notes_seq:
        wrong.append(("column", f"notes_seen is {row.notes_seen}, the last note is {row.notes_seq}"))
    return wrong


def _state_columns(row: RunRow, run: Progress) -> list[tuple[Damage, str]]:
    """Status, outcome, owner. A run under way may still have the status of its start or of its last wait."""
    wrong: list[tuple[Damage, str]] = []
    status = run.status
    statuses: set[str | None] = {status}
    if status not in TERMINAL:
        statuses |= {*_CLAIMED, run.rest}
    if row.status not in statuses:
        wrong.append(("state", f"status is {row.status!r}, the events end in {status!r}"))
    outcomes = _outcomes(run)
    if row.outcome not in outcomes:
        wrong.append(("state", f"outcome is {row.outcome!r}, the events say {' or '.join(map(repr, outcomes))}"))
    if row.worker is not None and status in TERMINAL:
        wrong.append(("state", f"worker {row.worker} holds a run that is {row.status}"))
    if row.wake_ns is not None and status in TERMINAL:
        wrong.append(("state", f"wake_ns is {row.wake_ns}, the run is {status}"))
    return wrong


def _outcomes(run: Progress) -> tuple[str | None, ...]:
    if run.status != "completed":
        return (None, run.status) if run.status in TERMINAL else (None,)
    assert run.turned is not None
    if run.turned.payload is None:
        return ("completed", "refused", "escalated")
    try:
        return (codec.decode(run.turned.payload, Finished).answer,)
    except msgspec.DecodeError:
        return ()


def _wait_columns(row: RunRow, run: Progress, waits: Sequence[Wait]) -> list[tuple[Damage, str]]:
    """A run waits for what it was parked on last, a moving one for some of what it began to wait for, a finished one for nothing."""
    named: set[Wait] = set()
    if run.status not in TERMINAL and run.rested is not None and run.rested.payload is not None:
        try:
            named = {Wait(*msgspec.structs.astuple(wait)) for wait in codec.decode(run.rested.payload, Parked).waits}
        except msgspec.DecodeError:
            named = set()  # run.attention names none
    there = set(waits)
    moving = run.status not in TERMINAL and row.status != run.rest
    if len(there) == len(waits) and (there == named or (moving and there <= named | run.asked)):
        return []
    return [("state", f"it waits for {sorted(w.id for w in waits)}, its events say {sorted(w.id for w in named)}")]
