"""`check_replay`: is a workflow deterministic between its steps? Replays a finished run twice and compares what it asks for.

A workflow runs from its start again whenever it is resumed, with recorded outcomes. It must then ask for the same steps in the
same order with the same input. What breaks this (a clock read directly, a set that is iterated, a global) shows only after a crash;
this shows it in a test.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, NoReturn

import msgspec

from ..errors import BudgetExceeded, NoResult
from ..journal import Event, Journal
from ..journal.records import NO_RAW, Budget, Finished, Outcome, RunEnded, Started
from ..model import Escalated
from ..runtime import REGISTRY, App, Registry, Workflow
from ..runtime.clock import SystemClock
from ..runtime.execution import Execution, Pending
from ..runtime.failures import describe
from ..runtime.history import STEP_TYPES, Past
from ..runtime.ledger import RunCaller
from ..runtime.scope import Scope, entered
from ..store import Store
from ..tools import CALLER
from ..trust import step_order

_TIMES: Final = 2


class Diverged(AssertionError):
    """The replay of a run is not the run that was recorded. The message names the run and the first step that differs."""


class Asked(NamedTuple):
    """A step that the workflow asked for. `input`: the digest of what it was given, "" when it has none."""

    path: str
    kind: str
    name: str
    input: str

    def __str__(self) -> str:
        given = f" with input {self.input}" if self.input else ""
        return f"{self.kind} {self.name!r} at {self.path}{given}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What a replay of a run asked for, in the order of the calls, and how it ended (JSON of the answer or of the error)."""

    run: str
    asked: tuple[Asked, ...]
    ended: bytes


async def check_replay(where: App | Store, run: str, *, registry: Registry | None = None) -> Replay:
    """Run the workflow of a finished run twice from its journal alone; nothing is executed, nothing is written.

    Args:
        where: The open app or store that holds the run.
        registry: The loaded workflows; those of the app, or all that were imported.

    Returns: What both replays asked for.

    Raises:
        Diverged: A replay asked for a step that is not recorded, in another order, or with another input; left out a recorded one;
            or came to another end.
        UnknownRun, UnknownWorkflow: As they say. ValueError: The run has not finished.
    """
    journal = where.journal if isinstance(where, App) else Journal(where, SystemClock())
    loaded = registry or (where.registry if isinstance(where, App) else REGISTRY)
    row = await journal.run(run)
    if row.status not in ("completed", "failed"):
        raise ValueError(
            f"run {run} is {row.status}; only what has completed or failed can be compared with its replay"
        )
    events = await journal.events(run)
    notes = await journal.notes(run)
    workflow = loaded.accepting(row.workflow, row.version) or loaded.named(row.workflow)
    once, again = [await _replay(journal, run, workflow, events, notes, row.secret or b"") for _ in range(_TIMES)]
    _compare(once, again)
    _left_out(once, events)
    recorded = _recorded_end(events[-1])
    if once.ended != recorded:
        raise Diverged(f"run {run} ended with {_short(recorded)}, its replay with {_short(once.ended)}")
    return once


async def _replay(
    journal: Journal,
    run: str,
    workflow: Workflow[Any, Any],
    events: Sequence[Event],
    notes: Sequence[Event],
    secret: bytes,
) -> Replay:
    execution = _Replaying(journal, run, events, notes, secret)
    caller = CALLER.set(RunCaller())
    try:
        with entered(Scope(execution, "")):
            ended = await _end(execution, workflow)
    finally:
        CALLER.reset(caller)
    if execution.live_step is not None:
        raise Diverged(f"run {run}: the replay asks for {execution.live_step}, which the journal does not have")
    return Replay(run=run, asked=tuple(execution.asked), ended=ended)


async def _end(execution: _Replaying, workflow: Workflow[Any, Any]) -> bytes:
    """How the workflow ends, as the executor would record it."""
    try:
        try:
            result = await workflow.fn(**workflow.decode_input(bytes(execution.started.input)))
            answer = workflow.answer.check(result)
        except NoResult as without:
            answer = without.answer
        except BudgetExceeded as exceeded:
            answer = Escalated(reason=f"budget of {exceeded.what}", attached={"error": str(exceeded)})
        return workflow.answer.encode(answer)
    except Exception as error:  # noqa: BLE001  # an error of the workflow is how its run ends
        if isinstance(execution.halted, Exception):
            raise Diverged(f"run {execution.run}: {execution.halted}") from execution.halted
        return msgspec.json.encode(describe(error))
    except (_LiveStep, BaseExceptionGroup) as stopped:
        if execution.live_step is None:
            raise
        return str(stopped).encode()


def _recorded_end(last: Event) -> bytes:
    if last.kind == "run.finished":
        return bytes(last.payload(Finished).value)
    return msgspec.json.encode(last.payload(RunEnded).error)


def _compare(once: Replay, again: Replay) -> None:
    for number, (first, second) in enumerate(zip(once.asked, again.asked, strict=False)):
        if first != second:
            raise Diverged(f"run {once.run}: call {number} is {first} in one replay and {second} in the next")
    if len(once.asked) != len(again.asked) or once.ended != again.ended:
        raise Diverged(f"run {once.run}: two replays of it ask for {len(once.asked)} and {len(again.asked)} steps")


def _left_out(replay: Replay, events: Sequence[Event]) -> None:
    """Recorded steps that the replay did not ask for, though it had the occasion."""
    asked = {a.path for a in replay.asked}
    covered = {a.path for a in replay.asked if a.kind != "scope"}
    lost = _lost_branches(events)
    paths = {e.path for e in events if e.kind.partition(".")[0] in STEP_TYPES}
    for path in sorted(paths - asked, key=step_order):
        above = [path[:i] for i, c in enumerate(path) if c == "."]
        if not lost.intersection([path, *above]) and not covered.intersection(above):
            kind, name = next((e.kind, e.name) for e in events if e.path == path)
            raise Diverged(f"run {replay.run}: the journal has {kind} {name!r} at {path}, the replay never asks for it")


def _lost_branches(events: Sequence[Event]) -> set[str]:
    """Groups that ended in a failure, and the branches of races that did not win: a replay does not enter them."""
    lost = {e.path for e in events if e.kind == "scope.failed"}
    for event in events:
        if event.kind == "scope.completed" and event.name != "parallel":
            winner = bytes(event.payload(Outcome).output).decode()
            branches = {_branch(e.path, event.path) for e in events if e.path.startswith(f"{event.path}.")}
            lost |= branches - {f"{event.path}.{winner}"}
    return lost


def _branch(path: str, scope: str) -> str:
    return f"{scope}.{path.removeprefix(f'{scope}.').partition('.')[0]}"


def _short(data: bytes) -> str:
    text = data.decode(errors="replace")
    return text if len(text) <= 200 else f"{text[:200]}... ({len(text):,} characters)"


class _LiveStep(BaseException):
    """The replay came to a step that is not recorded. Not an `Exception`: the workflow must not catch it."""


class _Replaying(Execution):
    """An execution that notes what is asked for and stops where it would have to go live."""

    def __init__(
        self, journal: Journal, run: str, events: Sequence[Event], notes: Sequence[Event], secret: bytes
    ) -> None:
        super().__init__(
            journal,
            journal.pen(run),
            started=events[0].payload(Started),
            secret=secret,
            events=events,
            notes=notes,
            may_issue=lambda: False,
            app=None,
        )
        self.budget = Budget()  # so that every step asks `within_budget` before it goes live
        self.asked: list[Asked] = []
        self.live_step: Asked | None = None

    def recall(self, path: str, kind: str, name: str, asked_input: bytes | None = None) -> Past | None:
        digest = "" if asked_input is None else hashlib.sha256(asked_input).hexdigest()[:12]
        self.asked.append(Asked(path, kind, name, digest))
        return super().recall(path, kind, name, asked_input)

    async def within_budget(self, kind: str, path: str, name: str, asked: bytes) -> None:
        self._stop(kind, path, name, asked)

    async def record(self, kind: str, path: str, name: str, record: msgspec.Struct, **given: Any) -> None:
        self._stop(kind.partition(".")[0], path, name, b"null")

    async def wait(self, pending: Pending) -> Event | None:
        self._stop(pending.wait.kind, pending.wait.path, pending.wait.name, b"null")

    def _stop(self, kind: str, path: str, name: str, asked: bytes) -> NoReturn:
        digest = "" if asked == bytes(NO_RAW) else hashlib.sha256(asked).hexdigest()[:12]
        self.live_step = self.live_step or Asked(path, kind, name, digest)
        raise _LiveStep(str(self.live_step))
