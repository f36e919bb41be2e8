"""The local executor: claims runs, drives them, parks them, and lets go of them.

What it must promise is little: at least once, somewhere. The journal makes of that resumable and exactly recorded. The deciding is
elsewhere; this shell loads, calls the workflow, and appends how it ended.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio
import anyio.abc
import anyio.lowlevel
import msgspec

from ..errors import JournalError, StoreError, StoreFull, StrandedRun
from ..journal import TERMINAL, Event, Journal, read_event
from ..journal.checkpoint import BadCheckpoint, due
from ..journal.records import Note, Resumed, RunEnded, Started
from ..store import Claimed, Store, Stream
from .drive import Ended, drive, is_cancel, state_of
from .execution import GRACE_S, Execution
from .failures import describe
from .scope import Abandon
from .workflow import Registry

if TYPE_CHECKING:
    from .app import App

log = logging.getLogger("holdfast")
log.addHandler(logging.NullHandler())  # a library prints nothing: who wants the log sets logging up

CLAIM_AT_ONCE = 256
LEASE_S = 10.0
POLL_S = 0.1
TAKE_UP_S = 0.2
LOOK_FOR_S = 10.0


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
        self.damaged: dict[str, str] = {}  # runs that can't be read, and why
        self.reserved = 0  # slots for runs that are being started here
        self._claim_unknown = False
        self._taking_up: set[str] = set()
        self.claiming = 0  # claims and take-ups under way: runs that may be about to be in memory
        self.stopping = False
        self.ended_events = 0  # events of runs that left the memory since the last checkpoint
        self._sealed_ns = journal.clock.boot_ns()
        self._poked = asyncio.Event()
        self._lease_until_ns = 0
        self._next_wake_ns: int | None = None
        self._versions = registry.versions()
        self._group: anyio.abc.TaskGroup | None = None

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
        try:
            stranded = await self.app.stranded()
        except StoreError as error:
            log.warning("worker %s can't tell whether runs are stranded: %s", self.worker, error)
            return
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
            execution.scope.cancel()
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
        for execution in list(self.running.values()):
            execution.halted = Abandon(f"worker {self.worker} was replaced")
            execution.close(leaving=True)
            execution.scope.cancel()
        await self.store.register(self.worker, lease_s=self.lease_s)
        self._extend_lease()
        self.poke()

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
                await self._until_due()
            except (StoreError, JournalError, msgspec.DecodeError) as error:
                log.error("worker %s can't claim runs or read notes: %s", self.worker, error)
                self._claim_unknown = True
                await anyio.sleep(1.0)

    async def _claim_all(self) -> None:
        self._poked.clear()
        if self._claim_unknown:
            await self._find_what_is_ours()
        while (free := self.free()) > 0:
            versions = self._known_versions()
            limit = min(free, CLAIM_AT_ONCE)
            with self._under_way():
                now_ns = self.journal.clock.now_ns()
                claimed = await self.store.claim(self.worker, versions, now_ns=now_ns, limit=limit)
                for one in claimed:
                    self.begin(one)
            if len(claimed) < limit:
                self._next_wake_ns = None  # runs that park while this is read say when they are due themselves
                read_ns = await self.store.next_wake_ns(versions)
                self._wake_at(read_ns)
                return
            await anyio.lowlevel.checkpoint()

    async def _find_what_is_ours(self) -> None:
        """After a claim that may have been stored without an answer: runs that name this worker, and that it does not know of."""
        for row in await self.store.runs(status=("running",)):
            if row.worker == self.worker:
                self.look_after(row.run)
        self._claim_unknown = False

    def _wake_at(self, due_ns: int | None) -> None:
        if due_ns is not None and (self._next_wake_ns is None or due_ns < self._next_wake_ns):
            self._next_wake_ns = due_ns

    @contextmanager
    def _under_way(self) -> Iterator[None]:
        self.claiming += 1
        try:
            yield
        finally:
            self.claiming -= 1

    def is_busy(self) -> bool:
        """Whether a run is in memory or on its way there."""
        return bool(self.running) or self.reserved > 0 or self.claiming > 0

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
        notes = await self.journal.notes(run, after=execution.notes_seen)
        fresh = [n for n in notes if n.seq > execution.notes_seen]
        execution.deliver(fresh)
        for note in fresh:
            if is_cancel(note):
                self._cancel(execution, note)

    def _cancel(self, execution: Execution, note: Event) -> None:
        execution.cancel_why = note.payload(Note).why or "asked to"
        execution.close(leaving=False)
        execution.scope.cancel()

    # -- driving one run ----------------------------------------------------------------------------------------------

    def begin(self, claimed: Claimed) -> None:
        """Drive a claimed run in a task of its own."""
        assert self._group is not None
        run = claimed.row.run
        try:
            events = [read_event(row) for row in claimed.events]
            execution = Execution(
                self.journal, self.journal.log(claimed), started=events[0].payload(Started),
                secret=claimed.row.secret or b"", events=events, notes=[read_event(row) for row in claimed.notes],
                may_issue=self.lease_holds, app=self.app,
            )  # fmt: skip
        except (msgspec.DecodeError, JournalError, IndexError) as damage:
            # It stays with this worker, which leaves it alone: nobody else would fare better.
            log.error("run %s can't be read: %s; it is left alone, `holdfast audit verify` says more", run, damage)
            self.damaged[run] = str(damage)
            self.app.notify(run)
            return
        self.running[run] = execution
        self._group.start_soon(self._drive, execution, claimed)

    async def _drive(self, execution: Execution, claimed: Claimed) -> None:
        run = execution.run
        abandoned = False
        try:
            with execution.scope:
                await self._to_its_end(execution, claimed)
        except Abandon as lost:
            abandoned = True
            log.warning("run %s is abandoned here without writing: %s", run, lost)
            if isinstance(lost.__cause__, StoreFull):
                why = f"run {run} can't go on behind event {execution.log.seq}: {lost.__cause__.why}"
                self.app.results.fail(run, StoreFull(lost.__cause__.store, why))
        except Exception:
            abandoned = True
            log.exception("run %s: Holdfast itself failed; what is recorded stays, and the run is taken up again", run)
        finally:
            if self.running.get(run) is execution:  # a run that parked may have been claimed again already
                del self.running[run]
            self.ended_events += execution.log.seq + 1
            self.app.notify(run, execution.ended)
            if self.free() == 1:  # there may have been more to claim than there were slots
                self.poke()
        if abandoned and not self.stopping and self._group is not None:
            self._group.start_soon(self._take_up_again, run, execution.log.epoch)

    async def _to_its_end(self, execution: Execution, claimed: Claimed) -> None:
        started = execution.started
        if claimed.taken_from is not None:
            await execution.record("run.resumed", "", started.workflow, Resumed(self.worker, claimed.taken_from))
        try:
            workflow = self.registry.accepting(started.workflow, started.version)
            if workflow is None:
                loaded = self.registry.loaded(started.workflow)
                raise StrandedRun(execution.run, started.workflow, started.version, loaded)
            ended = await drive(execution, workflow)
        except Exception as error:
            log.exception("run %s: Holdfast itself failed", execution.run)
            execution.halted = error
            ended = Ended("run.attention", RunEnded(describe(error)), "attention")
        with anyio.CancelScope(
            shield=True
        ):  # a cancellation that comes now comes too late, or wakes the parked run again
            await self._end(execution, ended)

    async def _end(self, execution: Execution, ended: Ended) -> None:
        """Append the final or parking event; it releases the run in the same transaction."""
        seen = execution.notes_seen if execution.parked_notes_seen is None else execution.parked_notes_seen
        state = state_of(ended, notes_seen=seen)
        if (
            ended.status == "cancelled"
        ):  # before it is final, so that a crash in between is made good by the next worker
            with execution.store_or_abandon():
                await self.app.cancel_children(execution.run)
        await execution.record(ended.kind, "", execution.started.workflow, ended.record, state=state)
        execution.ended = ended
        if ended.status not in TERMINAL and execution.notes_seen > seen:
            self.poke()  # a note came while the run was being parked: the store has it due at once
        self._wake_at(state.wake_ns)
        try:
            parent = execution.started.parent
            if parent is not None and ended.status in TERMINAL:
                await self.app.child_ended(parent, execution.run)
        except (StoreError, JournalError) as error:  # the run has ended; a parent that waits looks again by itself
            log.warning("run %s ended, but its family could not be told: %s", execution.run, error)

    def look_after(self, run: str) -> None:
        """The run may be ours without being driven: its start or claim was stored, but not acknowledged."""
        if run not in self.running and run not in self._taking_up and self._group is not None:
            self._group.start_soon(self._take_up_again, run, None)

    async def _take_up_again(self, run: str, epoch: int | None) -> None:
        """A run that was abandoned because the store or the lease failed may still be ours: read it again and go on.

        `epoch`: the one it was abandoned under; `None`: a write that may yet be stored, so it is looked for several times.
        """
        self._taking_up.add(run)
        try:
            with self._under_way():
                for delay_s in (TAKE_UP_S * 2.0**n for n in itertools.count()):
                    await anyio.sleep(min(delay_s, 5.0))
                    if await self._taken_up(run, epoch) or (epoch is None and delay_s > LOOK_FOR_S):
                        return
        finally:
            self._taking_up.discard(run)

    async def _taken_up(self, run: str, epoch: int | None) -> bool:
        """One look: whether there is nothing more to do."""
        try:
            row = await self.store.run(run)
            if row is None:
                return epoch is not None
            if row.worker != self.worker or (epoch is not None and row.epoch != epoch):
                return True
            events = await self.store.rows(run, Stream.RUN)
            notes = await self.store.rows(run, Stream.NOTES)
        except StoreError as error:
            log.warning("run %s can't be taken up again yet: %s", run, error)
            return False
        if run in self.running or self.stopping:  # asked after the last wait: nobody begins it twice
            return True
        if not self.lease_holds():
            return False
        self.begin(Claimed(row, events, notes))
        return True
