"""Durable waits: timers, signals, replies, approvals, sub-runs. A run in which everything waits is parked: no task, no memory but its row.

A wait is recorded when it begins (so that its deadline and its id survive) and completed with the number of the note that ended it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import msgspec

from ..errors import WorkflowDefect
from ..journal import Event
from ..journal.records import NO_RAW, ErrorInfo, Note, Outcome, Waiting
from ..store import Wait
from ..tools import Typed
from ..trust import LOWEST, PRIMARY, Label
from .execution import Execution, Pending
from .failures import step_failed
from .history import Past
from .scope import enter
from .steps import recorded_result

if TYPE_CHECKING:
    from .workflow import Workflow

T = TypeVar("T")

_NOTHING: Typed[None] = Typed(type(None))
_TEXT: Typed[str] = Typed(str)
SUBRUN_POLL_S = 30.0
LONGEST_SLEEP_S = 3.2e9  # a hundred years; UTC nanoseconds end in 2262


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What a person decided: `approved`, by whom, why; `note` is its number. What nobody decided in time is not approved, by ""."""

    approved: bool
    by: str
    why: str
    note: int | None = None
    expires_ns: int | None = None


_DECISION: Typed[Decision] = Typed(Decision)


def wait_id(prefix: str, *parts: str) -> str:
    """A short id for something that waits, the same whenever it is made from the same parts."""
    digest = hashlib.sha256("\x00".join(parts).encode()).digest()
    return f"{prefix}-{base64.b32encode(digest)[:12].decode().lower()}"


async def sleep(seconds: float) -> None:
    """A durable timer: due `seconds` (at least 0) after it was first reached, by the wall clock, however often the process dies."""
    if isinstance(seconds, bool) or not 0 <= seconds <= LONGEST_SLEEP_S:
        raise WorkflowDefect("hf.sleep", f"needs seconds from 0 to {LONGEST_SLEEP_S:g}, not {seconds}")
    await _timer(lambda now_ns: now_ns + round(seconds * 1e9), str(seconds))


async def sleep_until(when: datetime) -> None:
    """A durable timer that is due at an aware moment."""
    if when.tzinfo is None:
        raise WorkflowDefect(
            "hf.sleep_until", "needs an aware datetime; a naive one means another moment on another machine"
        )
    await _timer(lambda _: round(when.timestamp() * 1e9), f'"{when.isoformat()}"')


async def _timer(due: Callable[[int], int], asked: str) -> None:
    scope = enter("sleep")
    await _wait_for(
        scope.execution, scope.next_path(), "timer", "sleep", asked.encode(), _NOTHING,
        matches=lambda _: False, due=due, read=lambda _note, _seq: None,
    )  # fmt: skip


async def signal(name: str, *, type: Any = Any, timeout_s: float | None = None) -> Any:
    """Wait for the next signal of this name that this run has not received yet; its value, read as `type`.

    Signals keep: one that was sent before the run waits, or before it started to run, is there.

    Raises:
        TimedOut: None came within `timeout_s` seconds.
    """
    scope = enter(f"signal {name}")
    typed: Typed[Any] = Typed(type)
    return await _wait_for(
        scope.execution, scope.next_path(), "signal", name, b"{}", typed,
        matches=lambda e: e.kind == "note.signal" and e.name == name,
        due=_after(timeout_s), read=lambda note, _seq: typed.decode(bytes(note.value)),
    )  # fmt: skip


async def reply(question: object = None, *, timeout_s: float | None = None) -> str:
    """Wait for the next turn of the user (`run.reply`). `question` is what they are asked, for whoever looks at the run."""
    scope = enter("reply")
    path = scope.next_path()
    asked = scope.execution.encoded(question, path)
    return await _wait_for(
        scope.execution, path, "reply", "reply", asked, _TEXT, request=asked,
        matches=lambda e: e.kind == "note.reply", due=_after(timeout_s), read=lambda note, _seq: _TEXT.decode(bytes(note.value)),
    )  # fmt: skip


async def approval(question: str, data: object = None, *, timeout_s: float | None = None) -> Decision:
    """Ask a person; the run waits for `app.approve(id)` or `app.deny(id)`. Past `timeout_s` it counts as not approved."""
    scope = enter("approval")
    path = scope.next_path()
    request = scope.execution.encoded({"question": question, "data": data}, path)
    return await ask_person(scope.execution, path, question, request, timeout_s=timeout_s)


async def ask_person(
    execution: Execution,
    path: str,
    name: str,
    request: bytes,
    *,
    asked: bytes | None = None,
    hash_of_args: str = "",
    timeout_s: float | None = None,
) -> Decision:
    """An approval wait at `path`. Its id is made from run, path and arguments: if those change, the old id approves nothing."""
    id = wait_id("ap", execution.run, path, hash_of_args or hashlib.sha256(request).hexdigest())

    def read(note: Note, seq: int) -> Decision:
        if note.expires_ns is not None and execution.clock.now_ns() > note.expires_ns:
            return Decision(approved=False, by=note.by, why="the approval expired before it was used", note=seq)
        approved = bytes(note.value) == b"true"
        return Decision(approved=approved, by=note.by, why=note.why, note=seq, expires_ns=note.expires_ns)

    return await _wait_for(
        execution, path, "approval", name[:120], request if asked is None else asked, _DECISION,
        request=request, id=id, args_hash=hash_of_args,
        matches=lambda e: e.kind in ("note.approve", "note.deny") and e.name == id,
        due=_after(timeout_s), read=read, otherwise=Decision(approved=False, by="", why="nobody decided in time"), trusts=True,
    )  # fmt: skip


async def subrun(workflow: Workflow[Any, Any], *args: Any, id: str | None = None, label: Label | None = None) -> Any:
    """Run another workflow as a run of its own, and wait for its answer.

    It has its own journal, budget and status; its label joins this run's. The input carries this run's label unless `label` is lower.
    Cancelling this run, or ending the branch that waits (a lost race, a time-out), cancels it.

    Returns: One of the four answers. Raises `StepFailed` when the sub-run failed or was cancelled.
    """
    scope = enter(workflow.name)
    execution = scope.execution
    path = scope.next_path()
    child = id or f"{execution.run}/{path}"
    asked = workflow.encode_input(args, execution.run, path)
    past = execution.recall(path, "subrun", workflow.name, asked)
    if past is not None and past.outcome is not None:
        return recorded_result(execution, past, workflow.answer)
    await execution.within_budget("subrun", path, workflow.name, asked)
    given = await _child_label(execution, past, path, workflow.name, child, label)
    with execution.store_or_abandon():
        await execution.app.start_child(workflow, asked, child, given, parent=execution, path=path)
    while True:
        with execution.store_or_abandon():
            ended = await execution.app.ended(child)
        if ended is not None:
            break
        due_ns = execution.clock.now_ns() + round(SUBRUN_POLL_S * 1e9)
        wait = Wait(child, "subrun", workflow.name, path, due_ns)
        try:
            await execution.wait(Pending(wait, lambda e: e.kind == "note.child" and e.name == child))
        except anyio.get_cancelled_exc_class():
            if scope.closing and not execution.closing:  # only this branch ends: nobody will want the answer
                with anyio.CancelScope(shield=True), execution.store_or_abandon():
                    await execution.app.run(child).cancel(f"the branch of {execution.run} that waited for it has ended")
            raise
    answer, error, child_label = ended
    if error is not None:
        await execution.fail("subrun", path, workflow.name, asked, error)
        raise step_failed(execution.run, path, workflow.name, error, 1)
    await execution.complete(
        "subrun", path, workflow.name, Outcome(msgspec.Raw(asked), msgspec.Raw(answer)), adds=child_label
    )
    return workflow.answer.decode(answer)


async def _child_label(
    execution: Execution, past: Past | None, path: str, name: str, child: str, label: Label | None
) -> Label:
    """The label that a sub-run starts with: decided once, before it starts."""
    if past is not None and past.waiting is not None:
        return msgspec.json.decode(past.waiting.payload(Waiting).request, type=Label)
    given = execution.log.label if label is None else execution.log.label & label
    record = Waiting(child, "subrun", name, msgspec.Raw(msgspec.json.encode(given)))
    await execution.record("subrun.waiting", path, name, record)
    return given


async def _wait_for(
    execution: Execution,
    path: str,
    kind: str,
    name: str,
    asked: bytes,
    output: Typed[T],
    *,
    matches: Callable[[Event], bool],
    due: Callable[[int], int | None],
    read: Callable[[Note, int], T],
    otherwise: T | None = None,
    request: bytes | None = None,
    id: str | None = None,
    args_hash: str = "",
    trusts: bool = False,
) -> T:
    past = execution.recall(path, kind, name, asked)
    if past is not None and past.outcome is not None:
        return recorded_result(execution, past, output)
    await execution.within_budget(kind, path, name, asked)
    id = id or wait_id(kind[:2], execution.run, path)
    due_ns = await _begun(execution, past, path, kind, name, id, request, due, args_hash)
    note = await execution.wait(Pending(Wait(id, kind, name, path, due_ns), matches))
    received = None if note is None else note.seq
    if note is None and kind not in ("timer", "approval"):
        info = ErrorInfo("builtins.TimeoutError", f"no {kind} came in time")
        await execution.fail(kind, path, name, asked, info)
        raise step_failed(execution.run, path, name, info, 1)
    try:
        value = otherwise if note is None else read(note.payload(Note), note.seq)
    except ValueError as error:
        info = ErrorInfo("builtins.ValueError", f"{kind} {name!r} (note {received}) does not fit its type: {error}")
        await execution.fail(kind, path, name, asked, info, received=received)
        raise step_failed(execution.run, path, name, info, 1) from error
    outcome = Outcome(msgspec.Raw(asked), msgspec.Raw(output.encode(value)), received=received)  # type: ignore[arg-type]  # None is T's own
    # A decision permits; it brings no content, so it adds nothing to the label (law 3). What a note carries, it vouches for itself.
    adds = PRIMARY if note is None or trusts else (note.payload(Note).label or LOWEST)
    await execution.complete(kind, path, name, outcome, adds=adds, state=execution.withdraw(path))
    return value  # type: ignore[return-value]  # as above


async def _begun(
    execution: Execution, past: Past | None, path: str, kind: str, name: str, id: str, request: bytes | None,
    due: Callable[[int], int | None], args_hash: str,
) -> int | None:  # fmt: skip
    """Record that the wait began, once; its deadline is the one recorded then."""
    if past is not None and past.waiting is not None:
        return past.waiting.payload(Waiting).due_ns
    due_ns = due(execution.clock.now_ns())
    record = Waiting(id, kind, name, NO_RAW if request is None else msgspec.Raw(request), due_ns, args_hash or None)
    state = execution.announce(Wait(id, kind, name, path, due_ns))
    await execution.record(f"{kind}.waiting", path, name, record, state=state)
    return due_ns


def _after(timeout_s: float | None) -> Callable[[int], int | None]:
    return lambda now_ns: None if timeout_s is None else now_ns + round(timeout_s * 1e9)
