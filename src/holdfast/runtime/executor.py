"""The local executor: claims runs, drives them, parks them, and lets go of them.

What it must promise is little: at least once, somewhere. The journal makes of that resumable and exactly recorded. The deciding is
elsewhere; this shell loads, calls the workflow, and appends how it ended.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
import anyio.abc
import anyio.lowlevel
import msgspec

from ..errors import BudgetExceeded, HoldfastError, NoResult, StoreError, StrandedRun
from ..journal import Event, Journal, read_event
from ..journal.checkpoint import BadCheckpoint, due
from ..journal.records import (
    ErrorInfo,
    Finished,
    Note,
    Outcome,
    Parked,
    Resumed,
    RunEnded,
    Settled,
    Started,
    WaitRecord,
)
from ..model import Escalated
from ..store import Claimed, RunState, Store, Wait
from ..tools import CALLER
from .execution import GRACE_S, Execution, Pending
from .failures import describe
from .ledger import RunCaller
from .scope import Abandon, Scope, Suspend, entered
from .workflow import AnswerType, Registry, Workflow

if TYPE_CHECKING:
    from .app import App

log = logging.getLogger("holdfast")

CLAIM_AT_ONCE = 256
LEASE_S = 10.0
POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run left the memory: its last event."""

    kind: str
    record: msgspec.Struct
    workflow: str
    version: str


class Executor:
    """One worker: a process that opens the store and claims runs."""

    def __init__(
        self,
        app: App,
        journal: Journal,
        registry: Registry,
        *,
        worker: str,
        max_concurrent: int,
        lease_s: float,
        poll_s: float,
    ) -> None:
        self.app = app
        self.journal = journal
        self.store: Store = journal.store
        self.registry = registry
        self.worker = worker
        self.max_concurrent = max_concurrent
        self.lease_s = lease_s
        self.poll_s = poll_s
        self.running: dict[str, Execution] = {}
        self.reserved = 0  # slots for runs that are being started here
        self.stopping = False
        self.ended_events = 0  # events of runs that left the memory since the last checkpoint
        self._sealed_ns = journal.clock.boot_ns()
        self._poked = asyncio.Event()
        self._lease_until_ns = 0
        self._next_wake_ns: int | None = None
        self._versions = registry.versions()
        self._group: anyio.abc.TaskGroup | None = None
        self._scopes: dict[str, anyio.CancelScope] = {}

    # -- life of the worker -------------------------------------------------------------------------------------------

    async def start(self, group: anyio.abc.TaskGroup) -> None:
        self._group = group
        self._extend_lease()
        await self.store.register(self.worker, lease_s=self.lease_s)
        await self._reap()
        group.start_soon(self._heartbeat)
        group.start_soon(self._claim_loop)
        group.start_soon(self._warn_of_stranded)

    async def _warn_of_stranded(self) -> None:
        stranded = await self.app.stranded()
        if stranded:
            log.warning(
                "%d runs are stranded: no loaded code accepts their version; `holdfast runs --stranded` lists them",
                len(stranded),
            )

    async def stop(self) -> None:
        """Let go of every run: nothing new is begun, effects that are out get a grace time, then the runs are anyone's."""
        self.stopping = True
        self._poked.set()
        for execution in list(self.running.values()):
            execution.close(leaving=True)
        for scope in list(self._scopes.values()):
            scope.cancel()
        with anyio.move_on_after(GRACE_S + 1.0, shield=True):
            while self.running:  # noqa: ASYNC110  # each run reports its end to many; a poll of 5 ms at shutdown is simplest
                await anyio.sleep(0.005)
        await self.store.retire(self.worker)
        await self._seal_if_due(closing=True)

    def lease_holds(self) -> bool:
        """Law 6 for effects: a worker that can't renew stops issuing *before* its lease ends."""
        return self.journal.clock.boot_ns() < self._lease_until_ns

    def _extend_lease(self) -> None:
        # The margin is a tenth: nothing is issued in the last moments, whatever the clocks' resolution.
        self._lease_until_ns = self.journal.clock.boot_ns() + round(self.lease_s * 0.9e9)

    async def _heartbeat(self) -> None:
        while not self.stopping:
            await anyio.sleep(self.lease_s / 3)
            asked_ns = self.journal.clock.boot_ns()
            try:
                if not await self.store.renew(self.worker, lease_s=self.lease_s) and not self.stopping:
                    await self._replaced()
                    continue
                self._lease_until_ns = asked_ns + round(self.lease_s * 0.9e9)
                await self._reap()
                await self._seal_if_due()
            except StoreError as error:
                log.warning("worker %s can't renew its lease: %s", self.worker, error)

    async def _replaced(self) -> None:
        """Another worker declared this one dead: abandon its runs without writing, then begin anew."""
        log.error(
            "worker %s was replaced after its lease ended; it abandons %d runs without writing, others own them now",
            self.worker, len(self.running),
        )  # fmt: skip
        for run, execution in list(self.running.items()):
            execution.halted = Abandon(f"worker {self.worker} was replaced")
            execution.close(leaving=True)
            self._scopes[run].cancel()
        await self.store.register(self.worker, lease_s=self.lease_s)
        self._extend_lease()

    async def _reap(self) -> None:
        for dead in await self.store.reap():
            log.warning("worker %s is dead; its runs are taken over", dead)
            self.poke()

    async def _seal_if_due(self, *, closing: bool = False) -> None:
        elapsed_s = (self.journal.clock.boot_ns() - self._sealed_ns) / 1e9
        if not due(events=self.ended_events, elapsed_s=elapsed_s, closing=closing):
            return
        self.ended_events, self._sealed_ns = 0, self.journal.clock.boot_ns()
        try:
            await self.app.seal()
        except (StoreError, BadCheckpoint) as error:
            log.error("no checkpoint could be written: %s; `holdfast audit verify` says more", error)

    # -- claiming -----------------------------------------------------------------------------------------------------

    def poke(self) -> None:
        """There may be something to claim."""
        self._poked.set()

    def free(self) -> int:
        return max(0, self.max_concurrent - len(self.running) - self.reserved) if not self.stopping else 0

    async def _claim_loop(self) -> None:
        while not self.stopping:
            try:
                await self._claim_all()
            except StoreError as error:
                log.error("worker %s can't claim runs: %s", self.worker, error)
                await anyio.sleep(1.0)
            await self._until_due()

    async def _claim_all(self) -> None:
        self._poked.clear()
        while (free := self.free()) > 0:
            versions = self._known_versions()
            limit = min(free, CLAIM_AT_ONCE)
            claimed = await self.store.claim(self.worker, versions, now_ns=self.journal.clock.now_ns(), limit=limit)
            for one in claimed:
                self.begin(one)
            if len(claimed) < limit:
                self._next_wake_ns = await self.store.next_wake_ns(versions)
                return
            await anyio.lowlevel.checkpoint()

    def _known_versions(self) -> Sequence[tuple[str, str]]:
        self._versions = self.registry.versions()
        return self._versions

    async def _until_due(self) -> None:
        """Wait until a run may be due: poked, changed by another process, or a timer. It polls, so a jump of the wall clock is noticed."""
        while not self.stopping:
            with anyio.move_on_after(self.poll_s):
                await self._poked.wait()
                return
            if self.store.changed():
                await self._look_at_notes()
                return
            if self._next_wake_ns is not None and self.journal.clock.now_ns() >= self._next_wake_ns and self.free():
                return

    async def _look_at_notes(self) -> None:
        """Another process wrote: bring new notes to the runs in memory."""
        self.app.notify_all()
        if not self.running:
            return
        for row in await self.store.runs(status=("running",)):
            execution = self.running.get(row.run)
            if execution is not None and row.notes_seq > execution.notes_seen:
                await self.deliver(row.run)

    async def deliver(self, run: str) -> None:
        """Bring new notes to a run that is in memory here."""
        execution = self.running.get(run)
        if execution is None:
            return
        notes = (
            await self.journal.notes(run, after=execution.notes_seen)
            if execution.notes_seen >= 0
            else await self.journal.notes(run)
        )
        fresh = [n for n in notes if n.seq > execution.notes_seen]
        execution.deliver(fresh)
        for note in fresh:
            if note.kind == "note.cancel":
                self._cancel(run, execution, note)

    def _cancel(self, run: str, execution: Execution, note: Event) -> None:
        execution.cancel_why = note.payload(Note).why or "asked to"
        execution.close(leaving=False)
        scope = self._scopes.get(run)
        if scope is not None:
            scope.cancel()

    # -- driving one run ----------------------------------------------------------------------------------------------

    def begin(self, claimed: Claimed) -> None:
        """Drive a claimed run in a task of its own."""
        assert self._group is not None
        row = claimed.row
        events = [read_event(r) for r in claimed.events]
        execution = Execution(
            self.journal, self.journal.log(claimed), started=events[0].payload(Started), secret=row.secret or b"",
            events=events, notes=[read_event(r) for r in claimed.notes], may_issue=self.lease_holds, app=self.app,
        )  # fmt: skip
        self.running[row.run] = execution
        self._group.start_soon(self._drive, execution, claimed)

    async def _drive(self, execution: Execution, claimed: Claimed) -> None:
        run = execution.run
        scope = self._scopes[run] = anyio.CancelScope()
        try:
            with scope:
                if claimed.taken_from is not None:
                    await execution.record(
                        "run.resumed", "", execution.started.workflow, Resumed(self.worker, claimed.taken_from)
                    )
                await self._run_to_its_end(execution)
        except Abandon as lost:
            log.warning("run %s is abandoned here without writing: %s", run, lost)
        except Exception:
            log.exception("run %s: Holdfast itself failed; the run keeps what is recorded and can be resumed", run)
        finally:
            self.running.pop(run, None)
            self._scopes.pop(run, None)
            self.ended_events += execution.log.seq + 1
            self.app.notify(run, execution.ended)
            if self.free() == 1:  # there may have been more to claim than there were slots
                self.poke()

    async def _run_to_its_end(self, execution: Execution) -> None:
        for note in execution.notes:
            if note.kind == "note.cancel" and note.seq not in execution.consumed:
                execution.cancel_why = note.payload(Note).why or "asked to"
                await self._end(execution, *_cancelled(execution))
                return
        workflow = self.registry.accepting(execution.started.workflow, execution.started.version)
        if workflow is None:
            raise StrandedRun(
                execution.run,
                execution.started.workflow,
                execution.started.version,
                self.registry.loaded(execution.started.workflow),
            )
        kind, record, outcome = await self._outcome(execution, workflow)
        if kind is not None:
            with anyio.CancelScope(shield=True):
                await self._end(execution, kind, record, outcome)

    async def _outcome(
        self, execution: Execution, workflow: Workflow[Any, Any]
    ) -> tuple[str | None, msgspec.Struct, str | None]:
        """Call the workflow function and say how the run ends: the final event, or `None` when the worker leaves."""
        CALLER.set(RunCaller())
        try:
            with entered(Scope(execution, "")):
                try:
                    answer = await self._answer(execution, workflow)
                except Exception as error:  # noqa: BLE001  # an error of the workflow is how its run ends
                    if execution.halted is not None and _is_outer_cancellation(execution.halted):
                        raise execution.halted from None
                    return _failed(execution, error)
                await self._settle_doubts(execution)
                encoded = workflow.answer.encode(answer)
                name = type(answer).__name__.lower()
                return "run.finished", Finished(name, msgspec.Raw(encoded)), name
        except Suspend:
            return _parked(execution)
        except BaseExceptionGroup as group:
            if group.subgroup(Suspend) is not None and execution.parked_on:
                return _parked(execution)
            raise
        except anyio.get_cancelled_exc_class():
            if execution.cancel_why is None:
                raise
            return _cancelled(execution)

    async def _answer(self, execution: Execution, workflow: Workflow[Any, Any]) -> Any:
        answers: AnswerType = workflow.answer
        try:
            result = await workflow.fn(**workflow.decode_input(bytes(execution.started.input)))
            if execution.halted is not None:
                raise execution.halted
            return answers.check(result)
        except NoResult as without:
            if execution.halted is not None:
                raise execution.halted from None
            return without.answer
        except BudgetExceeded as exceeded:
            return Escalated(reason=f"budget of {exceeded.what}", attached={"error": str(exceeded)})

    async def _settle_doubts(self, execution: Execution) -> None:
        """A run does not end while an effect of a branch that is gone is in doubt: a person says what became of it."""
        for path, wait in list(execution.open_doubts.items()):
            note = await execution.wait(Pending(wait, lambda e, id=wait.id: e.kind == "note.settle" and e.name == id))  # type: ignore[misc]
            assert note is not None
            record = note.payload(Note)
            said = msgspec.json.decode(record.value, type=Settled)
            settled = Settled(said.verdict, note.seq, record.by, record.why, said.result)
            await execution.record("tool.settled", path, wait.name, settled)
            if said.verdict == "happened":
                outcome = Outcome(msgspec.Raw(b"null"), said.result, settled_by=record.by or "a person")
                await execution.complete("tool", path, wait.name, outcome)
            del execution.open_doubts[path]

    async def _end(self, execution: Execution, kind: str, record: msgspec.Struct, outcome: str | None) -> None:
        """Append the final or parking event; it releases the run in the same transaction."""
        state = _state(kind, record, outcome, execution.notes_seen)
        await execution.record(kind, "", execution.started.workflow, record, state=state)
        execution.ended = Ended(kind, record, execution.started.workflow, execution.started.version)
        if state.wake_ns is not None and (self._next_wake_ns is None or state.wake_ns < self._next_wake_ns):
            self._next_wake_ns = state.wake_ns
        parent = execution.started.parent
        if parent is not None and state.status in ("completed", "failed", "cancelled"):
            await self.app.child_ended(parent, execution.run)
        if state.status == "cancelled":
            await self.app.cancel_children(execution.run)


def _parked(execution: Execution) -> tuple[str, Parked, None]:
    waits = tuple(WaitRecord(*w) for w in execution.parked_on)
    in_doubt = any(w.kind == "settlement" for w in waits)
    return ("run.in_doubt" if in_doubt else "run.parked"), Parked(waits), None


def _cancelled(execution: Execution) -> tuple[str, RunEnded, None]:
    why = execution.cancel_why or "asked to"
    if execution.open_doubts:
        names = ", ".join(f"{w.name} at step {w.path}" for w in execution.open_doubts.values())
        why += f"; IN DOUBT, nobody knows whether it took place: {names}"
    return "run.cancelled", RunEnded(ErrorInfo("holdfast.errors.RunCancelled", why)), None


def _failed(execution: Execution, error: Exception) -> tuple[str, RunEnded, None]:
    """An error of the record or the code's place in it goes to a person; the workflow's own error ends the run."""
    cause = execution.halted if isinstance(execution.halted, HoldfastError) else error
    info = describe(cause)
    step = getattr(cause, "step", "")
    return ("run.attention" if execution.halted is cause else "run.failed"), RunEnded(info, str(step)), None


def _is_outer_cancellation(halted: BaseException) -> bool:
    """Whether a cancellation that looked like a bare cancel scope came from around the whole app: then the run just stops here."""
    return anyio.current_effective_deadline() == -math.inf or isinstance(halted, Abandon)


_STATUS = {
    "run.finished": "completed", "run.failed": "failed", "run.cancelled": "cancelled",
    "run.parked": "waiting", "run.in_doubt": "in_doubt", "run.attention": "attention",
}  # fmt: skip


def _state(kind: str, record: msgspec.Struct, outcome: str | None, notes_seen: int) -> RunState:
    waits = (
        tuple(Wait(w.id, w.kind, w.name, w.path, w.due_ns) for w in record.waits) if isinstance(record, Parked) else ()
    )
    due = [w.due_ns for w in waits if w.due_ns is not None]
    return RunState(_STATUS[kind], outcome, min(due, default=None), waits, notes_seen, release=True)
