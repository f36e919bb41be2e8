"""What really happened, from what the database counted: pure functions of its ledger and the recordings.

The store under test is not asked, with one exception: which steps had a durable outcome at a kill. Whether
one of those ran again afterwards is then seen from outside.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from retail_desk.ledger import Delivered, Effect, Mark, canonical
from retail_desk.recordings import Recording, Step
from retail_desk.shop import WRITES

OUTCOMES: Final = frozenset({"model.completed", "tool.completed", "tool.failed"})
"""Kinds of the events behind which a step of the desk is never taken again."""


class Decided(msgspec.Struct, frozen=True, kw_only=True):
    """What arrived under one key; see `ledger.Decision`."""

    session: str
    tool: str
    arguments: str
    requests: int
    performed: int


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """The database's report."""

    decisions: dict[str, Decided]
    effects: list[Effect]
    trails: dict[str, list[Mark]]
    faults: list[Delivered]
    turns: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Kill:
    """A kill: how long each session's trail was, and which of its steps had an outcome in the store."""

    trail_lengths: Mapping[str, int]
    durable: Mapping[str, frozenset[Step]]


@dataclass(frozen=True, kw_only=True)
class Results:
    """Recorded tool results, against what the model read in their place."""

    identical: int
    """Read exactly so, every time they were read."""
    errors_in_other_words: int
    """An error there and here: a contract refuses malformed arguments before the shop sees them."""


def compare_results(counted: Counted, recording: Recording) -> Results:
    """How one conversation's tool results came out."""
    read: dict[Step, set[str]] = {}
    for mark in counted.trails.get(recording.session, []):
        if mark.kind == "read":
            turn, number, text = json.loads(mark.what)
            read.setdefault((turn, number), set()).add(text)
    identical = {step for step, text in recording.results.items() if read.get(step) == {text}}
    errors = {step for step, text in recording.results.items() if _all_errors({text} | read.get(step, {""}))}
    return Results(identical=len(identical), errors_in_other_words=len(errors - identical))


def _all_errors(texts: set[str]) -> bool:
    return all(text.startswith("Error: ") for text in texts)


def duplicated_effects(counted: Counted, recordings: Iterable[Recording]) -> int:
    """Effects beyond those that the recorded agents had, whatever key they came under."""
    surplus = _performed(counted) - _recorded(recordings)
    by_key = sum(max(0, decision.performed - 1) for decision in counted.decisions.values())
    return surplus.total() + by_key


def lost_effects(counted: Counted, recordings: Iterable[Recording]) -> int:
    """Effects that the recorded agents had and this database never saw."""
    return (_recorded(recordings) - _performed(counted)).total()


def unjournaled_faults(counted: Counted, journaled: Mapping[str, int]) -> int:
    """Delivered faults of sessions whose journal shows fewer failed attempts than that."""
    delivered = Counter(fault.session for fault in counted.faults)
    return (delivered - Counter(journaled)).total()


def redone_steps(counted: Counted, recordings: Iterable[Recording], kills: Sequence[Kill]) -> int:
    """Steps that had a durable outcome when a worker was killed, and began again after it."""
    redone = 0
    for recording in recordings:
        begun = _begun(counted.trails.get(recording.session, []), recording)
        for kill in kills:
            durable = kill.durable.get(recording.session, frozenset())
            later = begun[kill.trail_lengths.get(recording.session, 0) :]
            redone += len({step for step in later if step and step <= durable})
    return redone


def first_steps(number: int, recording: Recording) -> frozenset[Step]:
    """The first steps of a run, in the order of a desk that calls one tool after the other."""
    turns = {(turn, 0) for turn in range(len(recording.replies))}
    return frozenset(sorted(turns | recording.calls.keys())[:number])


def _begun(trail: Sequence[Mark], recording: Recording) -> list[frozenset[Step]]:
    """Which step each mark began: none, one, or one of several that look alike from outside."""
    begun: list[frozenset[Step]] = []
    turn = -1
    for mark in trail:
        match mark.kind:
            case "model":
                turn = int(mark.what)
                begun.append(frozenset({(turn, 0)}))
            case "attempt":
                begun.append(_calls_like(mark.what, turn, recording))
            case _:
                begun.append(frozenset())
    return begun


def _calls_like(attempt: str, turn: int, recording: Recording) -> frozenset[Step]:
    """The calls an attempt may belong to: of this turn, or else of an earlier one, which is then redone."""
    like = {step for step, call in recording.calls.items() if f"{call.name} {canonical(call.arguments)}" == attempt}
    nearest = max((at for at, _ in like if at <= turn), default=-1)
    return frozenset(step for step in like if step[0] == nearest)


def _performed(counted: Counted) -> Counter[tuple[str, str, str]]:
    return Counter((effect.session, effect.tool, effect.arguments) for effect in counted.effects)


def _recorded(recordings: Iterable[Recording]) -> Counter[tuple[str, str, str]]:
    return Counter(
        (recording.session, call.name, canonical(call.arguments))
        for recording in recordings
        for step, call in recording.calls.items()
        if call.name in WRITES and not recording.results.get(step, "Error: ").startswith("Error: ")
    )
