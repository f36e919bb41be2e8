"""What the journal says about a run, by step path: the reading from which a run resumes. Pure.

Law 1: a step whose outcome stands here is never done again; whoever asks for it gets the record.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from ..errors import JournalMismatch
from ..journal import Event
from ..journal.records import NO_RAW, Attempt, Doubt, Failure, Intent, ModelOutcome, Outcome, Settled, Waiting
from ..store import Wait
from ..trust import step_order

NOT_ISSUED = "not issued"
"""`via` of the attempt that takes an intent back."""

STEP_TYPES = frozenset(
    {"step", "tool", "model", "endorse", "value", "timer", "signal", "reply", "approval", "subrun", "scope", "answer"}
)


class Past:
    """All recorded events of one step."""

    __slots__ = ("_completed", "attempts", "doubts", "intents", "outcome", "settled", "waiting")

    def __init__(self) -> None:
        self.outcome: Event | None = None
        self._completed: Outcome | None = None
        self.waiting: Event | None = None
        self.attempts: list[Event] = []
        self.intents: list[Event] = []
        self.doubts: list[Event] = []
        self.settled: list[Event] = []

    def __iter__(self) -> Iterator[Event]:
        if self.outcome is not None:
            yield self.outcome
        if self.waiting is not None:
            yield self.waiting
        yield from (*self.intents, *self.attempts, *self.doubts, *self.settled)

    def completed(self) -> Outcome:
        """The record of a `completed` outcome, decoded once."""
        if self._completed is None:
            assert self.outcome is not None
            self._completed = self.outcome.payload(Outcome)
        return self._completed

    @property
    def any(self) -> Event:
        return next(iter(self))


History = dict[str, Past]


def read_history(events: Iterable[Event]) -> History:
    """Sort the events of a run by step."""
    history: History = {}
    for event in events:
        kind, _, phase = event.kind.partition(".")
        if kind not in STEP_TYPES:
            continue
        past = history.get(event.path)
        if past is None:
            past = history[event.path] = Past()
        if phase in ("completed", "failed"):
            past.outcome = event
        elif phase == "waiting":
            past.waiting = event
        elif phase == "attempt":
            past.attempts.append(event)
        elif phase == "intent":
            past.intents.append(event)
        elif phase == "doubt":
            past.doubts.append(event)
        elif phase == "settled":
            past.settled.append(event)
    return history


def match(run: str, history: History, path: str, kind: str, name: str, asked_input: bytes | None) -> Past | None:
    """What is recorded for a step, if it is this step.

    Raises:
        JournalMismatch: The record has another step in this place, or this step with another input.
    """
    past = history.get(path)
    if past is None:
        return None
    event = past.any
    recorded_kind = event.kind.partition(".")[0]
    if (recorded_kind, event.name) != (kind, name):
        raise JournalMismatch(
            run, path, f"{recorded_kind} {event.name!r}", f"{kind} {name!r}", _nearest(history, path, kind, name)
        )
    if asked_input is not None and past.outcome is not None:
        recorded = recorded_input(past)
        if recorded is not None and recorded != asked_input:
            raise JournalMismatch(
                run, path, f"{kind} {name!r} with input {_short(recorded)}", f"input {_short(asked_input)}"
            )
    return past


def recorded_input(past: Past) -> bytes | None:
    """The input of a recorded outcome as JSON; `None` for steps that have none."""
    event = past.outcome
    if event is None or event.kind.startswith("model."):
        return None
    raw = bytes(past.completed().input if event.kind.endswith(".completed") else event.payload(Failure).input)
    return None if raw == bytes(NO_RAW) else raw


def received_notes(history: History) -> set[int]:
    """The notes that recorded waits have taken; none is taken twice."""
    taken: set[int] = set()
    for past in history.values():
        for event in (past.outcome, *past.settled):
            if (
                event is None
                or event.redacted
                or event.kind.partition(".")[0] not in ("signal", "reply", "approval", "tool")
            ):
                continue
            received = _received(event)
            if received is not None:
                taken.add(received)
    return taken


def _received(event: Event) -> int | None:
    if event.kind.endswith(".settled"):
        return event.payload(Settled).received
    return event.payload(Outcome).received if event.kind.endswith(".completed") else event.payload(Failure).received


class OpenIntent(NamedTuple):
    """An effect that was about to be issued and has no outcome."""

    tool: str
    effect: str
    args: msgspec.Raw
    key: str
    at_ns: int
    timeout_s: float
    key_ttl_s: float


def open_intents(history: History) -> dict[str, OpenIntent]:
    """Intents without an outcome, by path; one whose verdict was "retry" is not open any more."""
    found = {}
    for path, past in history.items():
        if past.outcome is None and past.intents and not _all_retried(past) and not never_issued(past):
            event = past.intents[-1]
            found[path] = opened(event.payload(Intent), event.header.at_ns)
    return found


def opened(intent: Intent, at_ns: int) -> OpenIntent:
    ttl_s = math.inf if intent.key_ttl_s is None else intent.key_ttl_s
    return OpenIntent(intent.tool, intent.effect, intent.args, intent.key, at_ns, intent.timeout_s, ttl_s)


def open_doubts(history: History) -> dict[str, Doubt]:
    """Effects in doubt that nobody has settled, by path."""
    return {
        path: past.doubts[-1].payload(Doubt)
        for path, past in history.items()
        if past.outcome is None and len(past.doubts) > len(past.settled)
    }


def never_issued(past: Past) -> bool:
    """Whether the last intent was taken back: a cancellation came between it and the issue."""
    last = past.intents[-1].seq if past.intents else -1
    return any(event.seq > last and event.payload(Attempt).via == NOT_ISSUED for event in past.attempts)


def _all_retried(past: Past) -> bool:
    verdicts = [event.payload(Settled).verdict for event in past.settled]
    return bool(verdicts) and verdicts[-1] == "retry" and past.intents[-1].seq < past.settled[-1].seq


def open_waits(history: History) -> dict[str, Wait]:
    """What the run waits for by the record, by step path: waits that began and have no outcome, doubts without a verdict."""
    found = {path: Wait(d.id, "settlement", d.tool, path) for path, d in open_doubts(history).items()}
    for path, past in history.items():
        if past.waiting is not None and past.outcome is None:
            said = past.waiting.payload(Waiting)
            found[path] = Wait(said.id, said.kind, said.name, path, said.due_ns)
    return found


def reply_nodes(events: Sequence[Event]) -> list[str]:
    """The conversation nodes that replaying these events needs."""
    return [e.payload(ModelOutcome).reply for e in events if e.kind == "model.completed" and not e.redacted]


def _nearest(history: History, path: str, kind: str, name: str) -> str | None:
    same = [p for p, past in history.items() if past.any.name == name and past.any.kind.startswith(kind)]
    here = step_order(path)
    after = sorted((p for p in same if step_order(p) > here), key=step_order)
    return after[0] if after else max(same, key=step_order, default=None)


def _short(data: bytes) -> str:
    text = data.decode(errors="replace")
    return text if len(text) <= 120 else f"{text[:100]}... ({len(text):,} characters)"
