"""`open` and `App`: everything a user does with a store, from one object."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar

import anyio
import anyio.to_thread
import msgspec

from ..errors import (
    CannotRedact,
    NotWaiting,
    RedactedStep,
    ResultTimeout,
    RunCancelled,
    RunFailed,
    RunNeedsAttention,
    StoreError,
    WorkflowDefect,
)
from ..journal import TERMINAL, Event, Journal, codec
from ..journal import redact as redaction
from ..journal.checkpoint import Sealer
from ..journal.problems import VerifyReport
from ..journal.records import Budget, ErrorInfo, Finished, Note, RunEnded, Started
from ..journal.verify import verify
from ..model import Answer, Clock
from ..store import Checkpoint, RunRow, Store, Stream, Wait, open_store
from ..trust import PRIMARY, Label, Trust, lowered
from . import decisions
from .clock import SystemClock
from .drive import Ended
from .execution import Execution
from .executor import LEASE_S, POLL_S, Executor, log
from .failures import describe
from .fork import fork_run
from .handle import Run, RunInfo
from .results import Results, read_waits
from .workflow import REGISTRY, Registry, Workflow

P = ParamSpec("P")
R = TypeVar("R")


_OPEN_KINDS = ("signal", "reply", "cancel", "score", "review")


class App:
    """An open store, and, unless it was opened with `worker=False`, a worker on it. Made by `open`."""

    def __init__(self, journal: Journal, registry: Registry, *, signing_key: bytes | None = None) -> None:
        self.journal = journal
        self.store: Store = journal.store
        self.registry = registry
        self.executor: Executor | None = None
        self.sealer = Sealer(self.store, now_ns=journal.clock.now_ns, key=signing_key)
        self.results = Results(journal, registry, lambda: self.executor)

    # -- starting and looking -----------------------------------------------------------------------------------------

    async def start(
        self,
        workflow: Workflow[P, R],
        *args: Any,
        id: str | None = None,
        label: Trust | Label = Trust.EXTERNAL,
        budget: Budget | None = None,
        tags: dict[str, str] | None = None,
    ) -> Run[R]:
        """Start a run; durable once this returns.

        Args:
            args: The workflow's input.
            id: Names the decision to run: the same id and input give the same run; another input is an error. Random by default.
            label: What you vouch for in the input. `EXTERNAL`, nothing, by default.
            budget: Bounds for this run instead of the workflow's.

        Raises:
            RunIdConflict: The id belongs to a run with another workflow, input or label.
            NotJson: The input can't be recorded.
        """
        if not isinstance(workflow, Workflow):
            raise WorkflowDefect(f"app.start({workflow!r})", "takes a function declared with @hf.workflow(version=...)")
        run = id if id is not None else self.journal.random(8).hex()
        _refuse_bad_id(run)
        asked = workflow.encode_input(args, run, "")
        given = label if isinstance(label, Label) else lowered(label, "input", "")
        started = Started(
            workflow.name,
            workflow.version,
            msgspec.Raw(asked),
            given,
            workflow.success,
            budget or workflow.budget,
            tags=tags or {},
        )
        await self._start(run, started)
        return Run(self, run)

    async def _start(self, run: str, started: Started) -> None:
        executor = self.executor
        known = self.registry.accepting(started.workflow, started.version) is not None
        if executor is None or not known or executor.free() == 0:
            await self.journal.start(run, started)
        else:
            executor.reserved += 1  # the slot is taken before the wait, or many starts at once would all find it free
            try:
                claimed = await self.journal.start(run, started, worker=executor.worker)
            except BaseException:  # it may be stored all the same, and then it is ours
                executor.look_after(run)
                raise
            finally:
                executor.reserved -= 1
            if claimed is None:
                executor.look_after(run)
            elif not executor.stopping:
                executor.begin(claimed)
        if executor is not None:
            executor.poke()

    async def start_child(
        self, workflow: Workflow[Any, Any], asked: bytes, child: str, label: Label, *, parent: Execution, path: str
    ) -> None:
        """Start a sub-run of a run; the same again after a crash."""
        _refuse_bad_id(child)
        started = Started(
            workflow.name, workflow.version, msgspec.Raw(asked), label, workflow.success, workflow.budget,
            parent.run, path, parent.root, f"{parent.key_prefix}{path}/", effects=parent.started.effects,
        )  # fmt: skip
        await self._start(child, started)

    async def ended(self, run: str) -> tuple[bytes, ErrorInfo | None, Label] | None:
        """How a sub-run ended: its answer or its error, and its label; `None`: it has not."""
        row = await self.journal.run(run)
        if row.status not in TERMINAL:
            return None
        last = (await self.journal.events(run, after=row.seq - 1))[-1]
        try:
            if last.kind == "run.finished":
                return bytes(last.payload(Finished).value), None, last.header.label
            return b"", last.payload(RunEnded).error, last.header.label
        except RedactedStep as redacted:
            return b"", describe(redacted), last.header.label

    async def child_ended(self, parent: str, child: str) -> None:
        """Tell a run that its sub-run has ended; twice is once."""
        await self.journal.note(parent, "note.child", Note(child), key=f"child:{child}")
        await self._noted(parent)

    async def cancel_children(self, parent: str) -> None:
        """A cancelled run takes its sub-runs with it."""
        for row in await self.store.runs(parent=parent):
            if row.status not in TERMINAL:
                await self.run(row.run).cancel(f"its parent {parent} was cancelled")

    def run(self, id: str) -> Run[Any]:
        """A handle on a run that exists or may come to exist."""
        return Run(self, id)

    async def info(self, id: str) -> RunInfo:
        """Raises `UnknownRun`."""
        return await self._info(await self.journal.run(id))

    async def runs(
        self,
        *,
        status: Sequence[str] = (),
        workflow: str | None = None,
        after: str | None = None,
        limit: int | None = None,
    ) -> Sequence[RunRow]:
        """Runs, newest first."""
        return await self.store.runs(status=status, workflow=workflow, after=after, limit=limit)

    async def stranded(self) -> Sequence[RunRow]:
        """Unfinished runs that no loaded code accepts."""
        rows = await self.store.runs(status=("pending", "running", "waiting", "in_doubt", "attention"))
        return [row for row in rows if self.registry.accepting(row.workflow, row.version) is None]

    async def events(self, id: str) -> Sequence[Event]:
        """The run stream. Raises `UnknownRun`."""
        return await self.journal.events(id)

    async def notes(self, id: str) -> Sequence[Event]:
        """The notes stream: signals, replies, decisions, redactions. Raises `UnknownRun`."""
        return await self.journal.notes(id)

    async def result(self, id: str, *, timeout_s: float | None = None) -> Answer[Any]:
        """See `Run.result`."""
        return await self.results.of(id, timeout_s=timeout_s)

    async def _info(self, row: RunRow) -> RunInfo:
        last = (await self.journal.events(row.run, after=row.seq - 1))[-1]
        waits = await anyio.to_thread.run_sync(read_waits, self.store, row.run)
        return RunInfo(
            run=row.run, workflow=row.workflow, version=row.version, status=row.status, outcome=row.outcome, label=last.header.label,
            waits=tuple(waits), worker=row.worker, created_ns=row.created_ns, updated_ns=row.updated_ns,
            events=row.seq + 1, notes=row.notes_seq + 1,
        )  # fmt: skip

    # -- notes and decisions ------------------------------------------------------------------------------------------

    async def note(
        self, run: str, kind: str, *, name: str = "", value: object = None, by: str = "", why: str = "", key: str | None = None,
        label: Trust = Trust.EXTERNAL,
    ) -> int:  # fmt: skip
        """Append a signal, reply, cancel, score or review to a run, durably; idempotent by `key`. Returns its number.

        Decisions have methods of their own, which look at what is decided.
        """
        if kind not in _OPEN_KINDS:
            raise WorkflowDefect(f"a note of kind {kind!r}", f"only {', '.join(_OPEN_KINDS)} are written freely")
        record = Note(name, decisions.json_of(value, run, kind), by, why, label=lowered(label, kind, ""))
        decisions.json_of(
            [name, by, why, key], run, kind
        )  # text that is no UTF-8 is refused before anything is written
        seq = await self.journal.note(run, f"note.{kind}", record, key=key)
        await self._noted(run)
        return seq

    async def _noted(self, run: str) -> None:
        if self.executor is not None:
            try:
                await self.executor.deliver(run)
            except (
                StoreError,
                msgspec.DecodeError,
            ) as error:  # the note itself is stored; the run sees it at its next turn
                log.warning("run %s: its new notes could not be read yet: %s", run, error)
            self.executor.poke()
        self.notify(run)

    async def approvals(self, *, kinds: Sequence[str] = ("approval", "settlement")) -> Sequence[tuple[str, Wait]]:
        """What waits for a person, with the run, oldest first: approvals, and effects in doubt."""
        return await self.store.waits(kinds=kinds)

    async def waiting_event(self, id: str) -> tuple[str, Event]:
        """The run and the event that says what is asked under an id. Raises `NotWaiting`."""
        return await decisions.waiting_event(self.journal, id)

    async def approve(self, id: str, *, by: str, why: str = "", valid_s: float = decisions.VALID_S) -> str:
        """Permit the one call that waits under `id`, with exactly the arguments that were shown. Returns the run.

        `valid_s`: a worker that gets to it later than that takes it for a no.

        Raises:
            NotWaiting: Nothing waits under this id any more. AlreadyDecided: Somebody else was first.
        """
        return await self._told(
            await decisions.decide(self.journal, id, approved=True, by=by, why=why, valid_s=valid_s)
        )

    async def deny(self, id: str, *, by: str, why: str = "") -> str:
        """Refuse it: the call becomes a typed failure. Raises as `approve`."""
        return await self._told(await decisions.decide(self.journal, id, approved=False, by=by, why=why))

    async def settle(self, id: str, verdict: str, *, result: object = None, by: str, why: str = "") -> str:
        """Say what became of an effect in doubt: "happened" (with its `result`), "retry" (it did not), or "give-up". Returns the run.

        Raises:
            NotWaiting, AlreadyDecided: As `approve`. TooEarly: To try again. WorkflowDefect: No such verdict.
        """
        return await self._told(await decisions.settle(self.journal, id, verdict, result=result, by=by, why=why))

    async def _told(self, run: str) -> str:
        await self._noted(run)
        return run

    async def resume(self, id: str, *, by: str = "") -> None:
        """Try a run again that needs attention (after the right code was loaded). Raises `UnknownRun`, `NotWaiting`."""
        row = await self.journal.run(id)
        if row.status in TERMINAL:
            raise NotWaiting(id, f"the run is {row.status}; it can be forked, not resumed")
        await self.journal.note(id, "note.resume", Note(by=by, label=PRIMARY))
        await self._noted(id)

    # -- audit --------------------------------------------------------------------------------------------------------

    async def redact(self, id: str, *, by: str, why: str, events: Sequence[int] | None = None) -> int:
        """Delete the content of a run (or of some of its events), keep its chain. An unfinished run is cancelled first.

        Forks and sub-runs keep what they hold: redact them too.

        Returns how many events and notes lost their content. Raises `UnknownRun`, `CannotRedact`.
        """
        row = await self.journal.run(id)
        if row.status not in TERMINAL:
            await self.run(id).cancel("redaction", by=by)
            try:
                await self.result(id, timeout_s=30.0 if self.executor is not None else 5.0)
            except (RunCancelled, RunFailed):
                pass
            except (ResultTimeout, RunNeedsAttention) as error:
                why = "its cancellation is recorded and stands, but no worker has carried it out yet"
                raise CannotRedact(id, f"it is not finished; {why} ({error})") from error
        chosen = None if events is None else tuple((Stream.RUN, seq) for seq in events)
        return await redaction.redact(self.journal, id, by=by, why=why, events=chosen)

    async def verify(self, *, public_keys: Sequence[bytes] = ()) -> VerifyReport:
        """Check every stored event, head, column and checkpoint (law 9). Reads all of the store."""

        def read() -> VerifyReport:
            with self.store.snapshot() as snapshot:
                return verify(snapshot, public_keys=public_keys)

        return await anyio.to_thread.run_sync(read)

    async def seal(self) -> Checkpoint | None:
        """Write a checkpoint over all streams that grew; `None`: nothing grew."""
        return await self.sealer.seal()

    async def fork(
        self,
        run: str,
        *,
        at: str,
        id: str | None = None,
        effects: Literal["refuse", "live"] = "refuse",
        go: bool = True,
    ) -> Run[Any]:
        """A new run with the recorded past of `run` up to step `at`, live from there.

        Args:
            at: Path of the first step that is done anew.
            effects: "refuse" (a tool with an effect is a typed failure) or "live".
            go: Start it; `False` leaves it for `resume`.

        Raises: `UnknownRun`, `RunIdConflict`, `JournalMismatch` (no such step), `RedactedStep`.
        """
        forked = await fork_run(self.journal, run, at=at, id=id, effects=effects)
        if go:
            await self.resume(forked)
        return Run(self, forked)

    async def drain(self) -> None:
        """Wait until no run of this app is running or due."""
        executor = self.executor
        if executor is None:
            raise WorkflowDefect("app.drain", "this app was opened with worker=False: nothing runs here")
        while True:
            if not executor.is_busy():
                due_ns = await self.store.next_wake_ns(self.registry.versions())
                if not executor.is_busy() and (due_ns is None or due_ns > self.journal.clock.now_ns()):
                    return
            await anyio.sleep(0.005)

    def notify(self, run: str, ended: Ended | None = None) -> None:
        """Something about a run may have changed; given `ended`, it has left the memory with this event."""
        self.results.notify(run, ended)

    def notify_all(self) -> None:
        """Anything may have changed: another process wrote."""
        self.results.notify_all()


@asynccontextmanager
async def open(
    address: str | Path = "holdfast.db",
    *,
    worker: bool = True,
    max_concurrent: int = 1000,
    clock: Clock | None = None,
    registry: Registry | None = None,
    store: Store | None = None,
    lease_s: float = LEASE_S,
    poll_s: float = POLL_S,
    max_payload_bytes: int = codec.MAX_PAYLOAD_BYTES,
    signing_key: bytes | None = None,
) -> AsyncIterator[App]:
    """Open a store and, unless `worker=False`, work on its runs until the block ends.

    On leaving, runs that are not done are let go of: another worker, or the next `open`, continues them.

    Args:
        address: A path, `sqlite:///path` or ":memory:".
        worker: Whether to claim runs; a client (a command, a web page) only starts, looks and decides.
        max_concurrent: Runs in memory at once; more wait in the store.
        store: An open store instead of `address`; it is not closed here.
        lease_s: How long a hung worker keeps its runs.
        signing_key: An Ed25519 private key in PEM that signs the checkpoints (extra `sign`).

    Raises: `StoreCorrupt`, `SchemaTooNew`, `StoreUnavailable`.
    """
    opened = store if store is not None else await open_store(address)
    app = App(
        Journal(opened, clock or SystemClock(), max_payload_bytes=max_payload_bytes),
        registry or REGISTRY,
        signing_key=signing_key,
    )
    try:
        if not worker:
            yield app
            return
        name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        app.executor = Executor(
            app, app.journal, app.registry, worker=name, max_concurrent=max_concurrent, lease_s=lease_s, poll_s=poll_s
        )
        raised: Exception | None = None
        async with anyio.create_task_group() as group:
            await app.executor.start(group)
            try:
                yield app
            except Exception as error:  # noqa: BLE001  # raised again below as it is, not inside the group's own
                raised = error
            finally:
                with anyio.CancelScope(shield=True):
                    await app.executor.stop()
                group.cancel_scope.cancel()
        if raised is not None:
            raise raised
    finally:
        with anyio.CancelScope(shield=True):
            if store is None:
                await opened.close()


def run_sync(
    workflow: Workflow[P, R], *args: Any, store: str | Path = "holdfast.db", id: str | None = None, **options: Any
) -> Answer[R]:
    """Start a run (or find the one of this id), drive it to its answer, and return it: for scripts. `options` go to `App.start`."""

    async def main() -> Answer[R]:
        async with open(store) as app:
            run = await app.start(workflow, *args, id=id, **options)
            return await run.result()

    return anyio.run(main)


def _refuse_bad_id(run: str) -> None:
    if not run or len(run) > 200 or " " in run or not run.isprintable():
        raise WorkflowDefect(
            f"run id {run[:40]!r}", "an id is 1 to 200 printable characters without blanks; nothing was started"
        )
