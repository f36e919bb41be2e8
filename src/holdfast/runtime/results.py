"""Waiting for answers: from a run that ends in this process without a read, from any other by looking when something changed."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Any

import anyio
import anyio.to_thread
import msgspec

from ..errors import ResultTimeout, RunCancelled, RunFailed, RunNeedsAttention, StoreCorrupt, StrandedRun
from ..journal import TERMINAL, Journal
from ..journal.records import Finished, RunEnded, Waiting
from ..model import Answer, Clarify
from ..store import RunRow, Store, Wait
from .drive import Ended
from .executor import POLL_S, Executor
from .workflow import AnswerType, Registry


class Results:
    """Who waits for which run, and what they get."""

    def __init__(self, journal: Journal, registry: Registry, executor: Callable[[], Executor | None]) -> None:
        self._journal = journal
        self._registry = registry
        self._executor = executor
        self._watchers: dict[str, set[asyncio.Future[Ended | None]]] = {}

    async def of(self, run: str, *, timeout_s: float | None) -> Answer[Any]:
        """The answer of a run; see `Run.result`."""
        deadline = None if timeout_s is None else anyio.current_time() + timeout_s
        ended: Ended | None = None
        while True:
            changed = self._watch(run)
            try:
                executor = self._executor()
                if executor is not None and run in executor.damaged:
                    raise StoreCorrupt(self._journal.store.address, f"run {run}: {executor.damaged[run]}")
                here = executor is not None and run in executor.running
                answer = await self._answer_of(run, ended) if not here else None
                if answer is not None:
                    return answer
                if deadline is None and executor is not None:
                    ended = await changed
                    continue
                left_s = math.inf if deadline is None else deadline - anyio.current_time()
                if left_s <= 0:
                    raise ResultTimeout(run, timeout_s or 0.0, (await self._journal.run(run)).status)
                with anyio.move_on_after(left_s if executor is not None else min(left_s, POLL_S)):
                    ended = await changed
            finally:
                self._unwatch(run, changed)

    def notify(self, run: str, ended: Ended | None = None) -> None:
        """Something about a run may have changed; given `ended`, it has left the memory with this event."""
        for future in self._watchers.pop(run, ()):
            if not future.done():
                future.set_result(ended)

    def fail(self, run: str, error: Exception) -> None:
        """Whoever waits for the run is told that it can't go on for now."""
        for future in self._watchers.pop(run, ()):
            if not future.done():
                future.set_exception(error)

    def notify_all(self) -> None:
        """Anything may have changed."""
        for run in list(self._watchers):
            self.notify(run)

    def _watch(self, run: str) -> asyncio.Future[Ended | None]:
        changed: asyncio.Future[Ended | None] = asyncio.get_running_loop().create_future()
        self._watchers.setdefault(run, set()).add(changed)
        return changed

    def _unwatch(self, run: str, changed: asyncio.Future[Ended | None]) -> None:
        watchers = self._watchers.get(run)
        if watchers is not None:
            watchers.discard(changed)
            if not watchers:
                del self._watchers[run]

    async def _answer_of(self, run: str, ended: Ended | None) -> Answer[Any] | None:
        """The answer of a run, if it has one. `ended`: how it left the memory of this process, which saves reading it again."""
        if ended is None or ended.status not in TERMINAL:
            row = await self._journal.run(run)
            # Owned, due, or with a note it has not seen: it is about to move, and what stands there is old.
            due = row.wake_ns is not None and row.wake_ns <= self._journal.clock.now_ns()
            if due and row.worker is None and self._executor() is not None:
                self._refuse_stranded(row)
            if row.worker is not None or due or (row.notes_seq > row.notes_seen and row.status not in TERMINAL):
                return None
            if row.status not in TERMINAL and self._executor() is not None:
                self._refuse_stranded(row)
            if row.status == "waiting":
                return await self._clarify_of(row)
            if row.status == "in_doubt":
                raise RunNeedsAttention(run, "an effect is in doubt and waits for a settlement")
            if row.status not in TERMINAL and row.status != "attention":
                return None
            ended = await self._ended(row)
        if isinstance(ended.record, Finished):
            answers = ended.answers or AnswerType(Any)
            return answers.decode(bytes(ended.record.value))
        assert isinstance(ended.record, RunEnded)
        error = ended.record.error
        if ended.kind == "run.cancelled":
            raise RunCancelled(run, error.message)
        if ended.kind == "run.attention":
            raise RunNeedsAttention(run, error.message)
        raise RunFailed(run, ended.record.step, error.type, error.message)

    def _refuse_stranded(self, row: RunRow) -> None:
        """A run that this worker has no code for would be waited for without end."""
        if self._registry.accepting(row.workflow, row.version) is None:
            raise StrandedRun(row.run, row.workflow, row.version, self._registry.loaded(row.workflow))

    async def _ended(self, row: RunRow) -> Ended:
        last = (await self._journal.events(row.run, after=row.seq - 1))[-1]
        record = last.payload(Finished) if last.kind == "run.finished" else last.payload(RunEnded)
        workflow = self._registry.accepting(row.workflow, row.version)
        return Ended(last.kind, record, row.status, row.outcome, None if workflow is None else workflow.answer)

    async def _clarify_of(self, row: RunRow) -> Clarify | None:
        """The question of a run that waits for a reply to a `Clarify`."""
        waits = await anyio.to_thread.run_sync(read_waits, self._journal.store, row.run)
        asked_at = {wait.path for wait in waits if wait.kind == "reply"}
        if not asked_at:
            return None
        for event in reversed(await self._journal.events(row.run)):
            if event.kind == "reply.waiting" and event.path in asked_at:
                asked = msgspec.json.decode(event.payload(Waiting).request)
                if isinstance(asked, dict) and asked.get("answer") == "clarify":
                    return Clarify(question=asked["question"], framings=tuple(asked["framings"]))
        return None


def read_waits(store: Store, run: str) -> Sequence[Wait]:
    """What a run waits for. Blocking."""
    with store.snapshot() as snapshot:
        return tuple(snapshot.waits(run))
