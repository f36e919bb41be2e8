"""One event of a run as facts and lines of text. Pure: what is shown where, and how wide, is `show`'s."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import zstandard

from ..journal import Event
from ..journal.records import (
    NO_RAW,
    Attempt,
    Doubt,
    ErrorInfo,
    Failure,
    Finished,
    Gate,
    Intent,
    ModelOutcome,
    Note,
    Outcome,
    Parked,
    Resumed,
    RunEnded,
    Settled,
    Started,
    Waiting,
)
from ..trust import Label
from .asked import label_text
from .words import clock_time, count, duration, money, safe

UNREADABLE: Final = (msgspec.MsgspecError, zstandard.ZstdError, ValueError, TypeError, KeyError)
"""What a damaged header or payload raises when it is read."""


@dataclass(frozen=True, slots=True)
class Line:
    """A detail: a word for the margin, and a JSON value or a safe text."""

    word: str
    value: Any = None  # Any: JSON
    text: str | None = None
    style: str = ""
    room: int = 1  # how much of a long value is shown, in times of the usual


@dataclass(frozen=True, slots=True)
class Entry:
    """What is worth saying about an event: safe facts beside its name, and lines under it."""

    facts: list[str] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)


def describe(event: Event) -> Entry:
    """Read an event. Content that was redacted, or can't be read, is said instead."""
    if event.redacted:
        return Entry(["content redacted"])
    phase = event.kind.partition(".")[2]
    reader = _RUN.get(event.kind) or (_note if event.kind.startswith("note.") else _PHASE.get(phase))
    try:
        return Entry(lines=[_value("payload", event)]) if reader is None else reader(event)
    except UNREADABLE as error:
        return Entry(["DAMAGED"], [Line("damage", text=safe(f"its content can't be read: {error}"), style="bold red")])


def style_of(kind: str) -> str:
    """How much an event asks for attention."""
    what, _, phase = kind.partition(".")
    if phase in ("failed", "attention", "doubt", "in_doubt"):
        return "bold red"
    if phase in ("attempt", "cancelled", "deny", "cancel", "redaction"):
        return "yellow"
    if phase in ("waiting", "parked"):
        return "cyan"
    return "bold" if what == "run" else "magenta" if phase == "intent" else "green" if what == "note" else ""


# -- the run ----------------------------------------------------------------------------------------------------------


def _started(event: Event) -> Entry:
    started = event.payload(Started)
    entry = Entry([f"version {safe(started.version)}"], [Line("input", _raw(started.input), room=4)])
    if started.tags:
        entry.lines.append(Line("tags", started.tags))
    if started.parent is not None:
        entry.lines.append(Line("parent", text=safe(f"{started.parent}, step {started.parent_path}")))
    if started.fork is not None:
        effects = "effects live" if started.effects == "live" else "effects refused"
        entry.lines.append(Line("fork of", text=safe(f"{started.fork.run}, up to event {started.fork.seq}; {effects}")))
    bounds = {name: value for name, value in msgspec.to_builtins(started.budget).items() if value is not None}
    if bounds:
        entry.lines.append(Line("budget", bounds))
    return entry


def _resumed(event: Event) -> Entry:
    resumed = event.payload(Resumed)
    taken = f", taken over from {resumed.taken_from}, which died" if resumed.taken_from else ""
    return Entry([safe(f"by {resumed.worker}{taken}")])


def _parked(event: Event) -> Entry:
    waits = event.payload(Parked).waits
    return Entry(lines=[Line("for", text=safe(f"{w.kind} {w.name} ({w.id}){_until(w.due_ns)}")) for w in waits])


def _finished(event: Event) -> Entry:
    finished = event.payload(Finished)
    return Entry([safe(finished.answer)], [Line("answer", plain_answer(_raw(finished.value)), style="bold")])


def plain_answer(answer: Any) -> Any:  # Any: JSON
    """The result alone, of a completed answer that says nothing beside it."""
    return answer["result"] if isinstance(answer, dict) and set(answer) == {"answer", "result"} else answer


def _ended(event: Event) -> Entry:
    ended = event.payload(RunEnded)
    at = [f"at step {safe(ended.step)}"] if ended.step else []
    return Entry(at, [_error(ended.error)])


# -- steps ------------------------------------------------------------------------------------------------------------


def _completed(event: Event) -> Entry:
    if event.kind == "model.completed":
        return _model(event)
    outcome = event.payload(Outcome)
    entry = Entry(_effort(event, outcome.started_ns, outcome.attempts))
    if outcome.received is not None:
        entry.facts.append(f"by note {outcome.received}")
    for word, name in (("via ", outcome.via), ("settled by ", outcome.settled_by)):
        if name:
            entry.facts.append(safe(word + name))
    if outcome.validator:
        entry.facts.append(safe(f"version {outcome.validator_version}"))
    asked = _raw(outcome.input)
    if asked not in (None, {}) and outcome.key is None:  # an effect's arguments stand at its intent
        entry.lines.append(Line("in", asked))
    entry.lines.append(Line("out", _raw(outcome.output)))
    if outcome.value_label is not None:
        entry.lines.append(Line("value", text=label_text(outcome.value_label)))
    return entry


def _model(event: Event) -> Entry:
    outcome = event.payload(ModelOutcome)
    entry = Entry(_effort(event, outcome.started_ns, outcome.attempts))
    served = f" ({outcome.served_model})" if outcome.served_model and outcome.served_model not in outcome.route else ""
    entry.facts.append(safe(f"{outcome.route}{served}"))
    if outcome.fallback:
        entry.facts.append("FALLBACK")
    if outcome.usage is not None:
        entry.facts.append(f"{_tokens(outcome.usage.input_tokens)} -> {_tokens(outcome.usage.output_tokens)} tokens")
    entry.facts.append("cost unknown" if outcome.cost_microusd is None else money(outcome.cost_microusd))
    if outcome.finish_reason:
        entry.facts.append(safe(outcome.finish_reason))
    return entry


def _failed(event: Event) -> Entry:
    failure = event.payload(Failure)
    entry = Entry(_effort(event, failure.started_ns, failure.attempts))
    asked = _raw(failure.input)
    if asked not in (None, {}):
        entry.lines.append(Line("in", asked))
    entry.lines.append(_error(failure.error))
    return entry


def _attempt(event: Event) -> Entry:
    attempt = event.payload(Attempt)
    again = [f"again after {duration(attempt.delay_s)}"] if attempt.delay_s else []
    via = [safe(attempt.via)] if attempt.via else []
    return Entry([f"try {attempt.n}: {safe(attempt.fault)}", *via, *again], [_error(attempt.error, style="yellow")])


def _waiting(event: Event) -> Entry:
    waiting = event.payload(Waiting)
    entry = Entry([safe(waiting.id) + _until(waiting.due_ns)])
    request = _raw(waiting.request)
    if isinstance(request, dict) and "arguments" in request and "reasons" in request:
        entry.lines.append(Line("args", request["arguments"]))
        entry.lines.extend(Line("asks", text=safe(str(reason)), style="yellow") for reason in request["reasons"] or ())
    elif request is not None:
        entry.lines.append(Line("asks", request))
    return entry


def _intent(event: Event) -> Entry:
    intent = event.payload(Intent)
    facts = [safe(intent.effect), f"gate: {safe(intent.gate.verdict)}"]
    if intent.settlement:
        facts.append(f"after {count(intent.settlement, 'settlement')}")
    key = f"{intent.key} (kept for {duration(intent.key_ttl_s)})" if intent.key_ttl_s else intent.key
    return Entry(facts, [Line("args", _raw(intent.args)), Line("key", text=safe(key)), *_gate(intent.gate)])


def _gate(gate: Gate) -> list[Line]:
    lines = [
        Line("gate", text=safe(f"needs {gate.needs}, looked at the {gate.policy}, run is {gate.run_label.level.name}"))
    ]
    for name, label in gate.argument_labels.items():
        lines.append(Line("", text=f"argument {safe(name)}: {label_text(label)}"))
    lines += [Line("", text=safe(f"asked because {reason}")) for reason in gate.reasons]
    lines += [
        Line("", text=safe(f"relies on {read.source}({read.key}), read at step {read.step}")) for read in gate.reads
    ]
    if gate.approved_by:
        lines.append(Line("", text=safe(f"approved by {gate.approved_by}")))
    return lines


def _doubt(event: Event) -> Entry:
    doubt = event.payload(Doubt)
    lines = [Line("doubt", text=safe(doubt.why), style="bold red"), Line("find", text=safe(doubt.how), style="yellow")]
    return Entry([safe(doubt.id), safe(doubt.effect)], lines)


def _settled(event: Event) -> Entry:
    settled = event.payload(Settled)
    facts = [safe(f"{settled.verdict} by {settled.by or 'a person'}")]
    if settled.received is not None:
        facts.append(f"note {settled.received}")
    lines = [Line("why", text=safe(settled.why))] if settled.why else []
    if settled.verdict == "happened":
        lines.append(Line("result", _raw(settled.result)))
    return Entry(facts, lines)


# -- notes ------------------------------------------------------------------------------------------------------------


def _note(event: Event) -> Entry:
    note = event.payload(Note)
    entry = Entry([safe(f"by {note.by}")] if note.by else [])
    if note.why:
        entry.lines.append(Line("why", text=safe(note.why)))
    value = _raw(note.value)
    if (
        event.kind not in ("note.approve", "note.deny", "note.cancel", "note.resume", "note.child")
        and value is not None
    ):
        entry.lines.append(Line("value", value))
    if note.label is not None and event.kind in ("note.signal", "note.reply"):
        entry.facts.append(safe(note.label.level.name))
    if note.key and not note.key.startswith(("decision:", "settle:", "child:", "cancel")):
        entry.facts.append(safe(f"key {note.key}"))
    return entry


# -- parts ------------------------------------------------------------------------------------------------------------


def _effort(event: Event, started_ns: int, attempts: int) -> list[str]:
    facts = []
    if started_ns:
        facts.append(duration(max(0, event.header.at_ns - started_ns) / 1e9))
    if attempts > 1:
        facts.append(f"{attempts} tries")
    return facts


def _error(error: ErrorInfo, style: str = "red") -> Line:
    name = error.type.removeprefix("builtins.").removeprefix("holdfast.errors.")
    return Line("error", text=safe(f"{name}: {error.message}"), style=style)


def _value(word: str, event: Event) -> Line:
    return Line(word, event.json())


def _raw(raw: msgspec.Raw) -> Any:  # Any: JSON
    return None if bytes(raw) == bytes(NO_RAW) else msgspec.json.decode(raw)


def _until(due_ns: int | None) -> str:
    return "" if due_ns is None else f", until {clock_time(due_ns)}"


def _tokens(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"


def label_change(before: Label | None, now: Label) -> str | None:
    """What an event did to the trust of the run; `None`: nothing."""
    if before == now:
        return None
    if before is None:
        return label_text(now)
    fresh = Label(now.level, tuple(c for c in now.causes if c not in before.causes), now.confidence)
    return f"{before.level.name} -> {label_text(fresh)}" if before.level != now.level else label_text(fresh)


_RUN: Final[Mapping[str, Callable[[Event], Entry]]] = {
    "run.started": _started, "run.resumed": _resumed, "run.parked": _parked, "run.in_doubt": _parked, "run.finished": _finished,
    "run.failed": _ended, "run.cancelled": _ended, "run.attention": _ended,
}  # fmt: skip
_PHASE: Final[Mapping[str, Callable[[Event], Entry]]] = {
    "completed": _completed, "failed": _failed, "attempt": _attempt, "waiting": _waiting, "intent": _intent,
    "doubt": _doubt, "settled": _settled,
}  # fmt: skip
