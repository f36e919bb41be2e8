"""Driving one run from where its journal stands to where it ends or parks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import anyio
import msgspec

from ..errors import BudgetExceeded, HoldfastError, JournalMismatch, NoResult, NotJson, WorkflowDefect
from ..journal import Event
from ..journal.records import ErrorInfo, Finished, Note, Parked, RunEnded, WaitRecord
from ..model import Escalated
from ..store import RunState, Wait
from ..tools import CALLER
from ..tools.typed import HAS_NO_JSON
from . import doubts
from .execution import Execution
from .failures import describe
from .ledger import RunCaller
from .scope import Abandon, Scope, Suspend, entered
from .workflow import AnswerType, Workflow


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run left the memory: its last event, and the status and outcome it gives the run."""

    kind: str
    record: Finished | RunEnded | Parked
    status: str
    outcome: str | None = None
    answers: AnswerType | None = None  # how to read a finished one


STATUS: Final = {
    "run.finished": "completed",
    "run.failed": "failed",
    "run.cancelled": "cancelled",
    "run.parked": "waiting",
    "run.in_doubt": "in_doubt",
    "run.attention": "attention",
}


async def drive(execution: Execution, workflow: Workflow[Any, Any]) -> Ended:
    """Call the workflow function; recorded steps return at once. Says how the run ends or parks; nothing of that is recorded yet.

    Raises:
        Abandon: The run is not ours any more.
        CancelledError: The worker leaves, or a task around it was cancelled.
    """
    if any(is_cancel(note) for note in execution.notes):
        return await cancelled(execution)
    if max(execution.consumed, default=-1) > execution.notes_seen:
        mismatch = JournalMismatch(
            execution.run, "notes", "notes that it has received and does not have", "a fork whose notes were copied"
        )
        return failed(execution, execution.defective(mismatch))
    CALLER.set(RunCaller())
    try:
        with entered(Scope(execution, "")):
            ended = await _called(execution, workflow)
            if ended.status != "attention":
                await doubts.settle_all(execution)
            return ended
    except Suspend:
        return parked(execution)
    except BaseExceptionGroup as group:
        if group.subgroup(Suspend) is None or not execution.parked_on:
            raise
        return parked(execution)
    except anyio.get_cancelled_exc_class():
        if execution.cancel_why is None:
            raise
        return await cancelled(execution)


async def _called(execution: Execution, workflow: Workflow[Any, Any]) -> Ended:
    try:
        given = workflow.decode_input(bytes(execution.started.input))
    except (ValueError, TypeError) as error:
        asked = f"version {workflow.version}, which does not take it ({str(error)[:200]})"
        mismatch = JournalMismatch(
            execution.run, "start", f"an input of {workflow.name} {execution.started.version}", asked
        )
        return failed(execution, execution.defective(mismatch))
    try:
        result = await workflow.fn(**given)
    except NoResult as without:
        result = without.answer
    except BudgetExceeded as exceeded:
        result = Escalated(reason=f"budget of {exceeded.what}", attached={"error": str(exceeded)})
    except (Exception, SystemExit) as error:  # noqa: BLE001  # an error of the workflow is how its run ends
        _raise_what_is_no_end(execution)
        return failed(execution, error)
    _raise_what_is_no_end(execution)
    if execution.halted is not None:  # a defect that the workflow's code has swallowed
        return failed(execution, execution.halted)
    return finished(execution, workflow, result)


def _raise_what_is_no_end(execution: Execution) -> None:
    """Parking, losing the run and a cancellation around the whole app are no end of the run, whatever user code made of them."""
    halted = execution.halted
    if isinstance(halted, Suspend | Abandon):
        raise halted
    if halted is not None and anyio.current_effective_deadline() == -math.inf:
        raise Abandon("the app was cancelled around it") from halted


def finished(execution: Execution, workflow: Workflow[Any, Any], result: object) -> Ended:
    """The answer, or the failure that it can't be recorded."""
    try:
        answer = workflow.answer.check(result)
        encoded = workflow.answer.encode(answer)
    except HAS_NO_JSON as error:
        return failed(
            execution, NotJson(execution.run, "answer", f"{workflow.name} returned {type(result).__name__}: {error}")
        )
    if len(encoded) > execution.log.max_payload_bytes - 4096:
        why = f"{workflow.name} returned {len(encoded):,} bytes, more than can be recorded"
        return failed(execution, NotJson(execution.run, "answer", why))
    name = type(answer).__name__.lower()
    return Ended("run.finished", Finished(name, msgspec.Raw(encoded)), "completed", name, workflow.answer)


def failed(execution: Execution, error: BaseException) -> Ended:
    """The workflow's own error ends the run; a defect of the code or the record goes to a person."""
    halted = execution.halted
    cause = halted if isinstance(halted, HoldfastError) else error
    kind = "run.attention" if cause is halted or isinstance(cause, WorkflowDefect) else "run.failed"
    return Ended(kind, RunEnded(describe(cause), str(getattr(cause, "step", ""))), STATUS[kind])


def parked(execution: Execution) -> Ended:
    """Everything in the run waits."""
    waits = tuple(WaitRecord(*wait) for wait in execution.parked_on)
    kind = "run.in_doubt" if any(w.kind == "settlement" for w in waits) else "run.parked"
    return Ended(kind, Parked(waits), STATUS[kind])


async def cancelled(execution: Execution) -> Ended:
    """Somebody cancelled the run. What is in doubt then is declared, and said."""
    with anyio.CancelScope(shield=True):
        await doubts.declare_all(execution)
    said = [note.payload(Note) for note in execution.notes if is_cancel(note)]
    why = (said[0].why if said else execution.cancel_why) or "asked to"
    if said and said[0].by:
        why += f" (by {said[0].by})"
    if execution.open_doubts:
        names = ", ".join(f"{d.tool} at step {path}" for path, d in execution.open_doubts.items())
        why += f"; IN DOUBT, nobody knows whether it took place: {names}"
    return Ended("run.cancelled", RunEnded(ErrorInfo("holdfast.errors.RunCancelled", why)), "cancelled")


def is_cancel(note: Event) -> bool:
    return note.kind == "note.cancel"


def state_of(ended: Ended, *, notes_seen: int) -> RunState:
    """The columns of the run after its last event; they let go of the run in the same transaction."""
    waits: tuple[Wait, ...] = ()
    if isinstance(ended.record, Parked):
        waits = tuple(Wait(w.id, w.kind, w.name, w.path, w.due_ns) for w in ended.record.waits)
    wake_ns = min((w.due_ns for w in waits if w.due_ns is not None), default=None)
    return RunState(ended.status, ended.outcome, wake_ns, waits, notes_seen, release=True)
