"""`Execution`: one run while it is in memory, the hub that every step goes through.

It holds what the run's tasks share: the pen on the journal, the recorded past, the notes that came, the budget, how many branches
are live. It decides little; steps, tools, waits decide in their own modules.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import anyio
import anyio.lowlevel
import msgspec

from ..errors import (
    BudgetExceeded,
    HoldfastError,
    JournalMismatch,
    NotJson,
    PayloadTooLarge,
    RedactedStep,
    StoreError,
    UnscopedStep,
)
from ..journal import Event, Journal, RunLog, codec
from ..journal.conversation import Conversation
from ..journal.records import Budget, ErrorInfo, Failure, ModelOutcome, Outcome, Started
from ..model import Clock, Secret
from ..store import RunState, Wait
from ..tools import Tool, Typed, encode_json
from ..tools.typed import HAS_NO_JSON
from ..trust import PRIMARY, Label
from .history import (
    History,
    Past,
    match,
    open_doubts,
    open_intents,
    open_waits,
    read_history,
    received_notes,
    reply_nodes,
)
from .scope import Abandon, Scope, Suspend, current_scope

if TYPE_CHECKING:
    from .drive import Ended

T = TypeVar("T")

LOOK_AT_CLOCK_S = 1.0
NO_INPUT = b"null"
GRACE_S = 5.0
"""How long an effect that is out may still answer when its branch or run is cancelled, or the worker stops."""


@dataclass(frozen=True, slots=True)
class Read:
    """A read as the freshness check needs it: what was read, when, with which arguments, and a digest of what it gave."""

    tool: Tool[..., Any]
    key: str
    path: str
    at_ns: int
    args: bytes
    digest: str
    secrets: Mapping[str, Secret]


@dataclass(slots=True)
class Spent:
    """What the run has used of its budget."""

    steps: int = 0
    tokens: int = 0
    cost_microusd: int = 0
    unpriced: str | None = None  # a route whose price is unknown, and one that did not report its tokens
    uncounted: str | None = None


@dataclass(slots=True, eq=False)
class Pending:
    """A wait of a live branch. `matches` takes a note it is waiting for; the first that fits, in the order of the notes, is its own."""

    wait: Wait
    matches: Callable[[Event], bool]
    received: asyncio.Future[Event | None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Execution:
    """See the module. `may_issue` is the worker's word that its lease still holds (law 6)."""

    def __init__(
        self,
        journal: Journal,
        log: RunLog,
        *,
        started: Started,
        secret: bytes,
        events: Sequence[Event],
        notes: Sequence[Event],
        may_issue: Callable[[], bool],
        app: Any,  # Any: the App, for sub-runs; typed it would import in a circle
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.journal = journal
        self.clock: Clock = journal.clock
        self.log = log
        self.run = log.run
        self.app = app
        self.started = started
        self.started_ns = events[0].header.at_ns
        self.root = started.root or log.run
        self.key_prefix = started.key_prefix
        self.budget = started.budget if started.budget != Budget() else None
        self.spent = Spent()
        self.history: History = read_history(events)
        if self.budget is not None:
            self._charge_for_the_past()
        self.notes: list[Event] = list(notes)
        self.consumed = received_notes(self.history)
        self.secret = secret
        self.conversation = Conversation(secret)
        self._blobs: dict[str, bytes] | None = None
        self.reads: dict[tuple[str, str], Read] = {}
        self.endorsed: dict[str, tuple[bytes, Label]] = {}
        self.open_intents = open_intents(self.history)
        self.open_doubts = open_doubts(self.history)
        self.announced = open_waits(self.history)
        self.doubts_declared = {path: len(past.doubts) for path, past in self.history.items() if past.doubts}
        self.patches: dict[str, bool] = {}
        self.may_issue = may_issue
        self.scope = anyio.CancelScope()  # around all of the run while it is in memory
        self.guards: dict[anyio.CancelScope, Scope] = {}
        self.pending: list[Pending] = []
        self.parked_on: tuple[Wait, ...] = ()
        self.parked_notes_seen: int | None = None
        self.live = 1
        self.closing = False
        self.leaving = False
        self.halted: BaseException | None = None
        self.cancel_why: str | None = None
        self.replayed_steps = 0
        self.ended: Ended | None = None

    # -- reading the past ---------------------------------------------------------------------------------------------

    def recall(self, path: str, kind: str, name: str, asked_input: bytes | None = None) -> Past | None:
        """What the journal has for this step; `None`: it is new. A mismatch stops the run where it is."""
        if path not in self.history:
            return None
        try:
            past = match(self.run, self.history, path, kind, name, asked_input)
        except JournalMismatch as mismatch:
            raise self.defective(mismatch) from None
        self.replayed_steps += 1
        return past

    def read_back(self, output: Typed[T], data: bytes, path: str, name: str) -> T:
        """A recorded value as the type the code has now. One that does not fit any more is a changed workflow, not a failure."""
        try:
            return output.decode(data)
        except ValueError as error:
            recorded = f"{name} with a value that does not fit ({str(error)[:200]})"
            raise self.defective(
                JournalMismatch(self.run, path, recorded, f"{name} of type {output.annotation}")
            ) from error

    def _charge_for_the_past(self) -> None:
        """What was spent is spent, whether this execution comes by the step again or not."""
        for past in self.history.values():
            event = past.outcome
            if event is None or event.kind.startswith("scope."):
                continue
            self.spent.steps += 1
            if event.kind == "model.completed" and not event.redacted:
                self.charge(event.payload(ModelOutcome))

    async def blob(self, id: str) -> bytes:
        """A stored blob that a recorded model call names. All replies of the recorded past are fetched at once."""
        if self._blobs is None:
            events = [p.outcome for p in self.history.values() if p.outcome is not None]
            ids = [bytes.fromhex(n) for n in reply_nodes(events)]
            with self.store_or_abandon():
                found = await self.journal.store.blobs(self.run, ids)
            self._blobs = {key.hex(): data for key, data in found.items()}
        if id not in self._blobs:
            raise RedactedStep(self.run, f"with reply {id[:12]}")
        return self._blobs[id]

    # -- writing ------------------------------------------------------------------------------------------------------

    async def record(
        self,
        kind: str,
        path: str,
        name: str,
        record: msgspec.Struct,
        *,
        adds: Label = PRIMARY,
        state: RunState | None = None,
        blobs: tuple[tuple[bytes, bytes], ...] = (),
        shared: tuple[tuple[bytes, bytes], ...] = (),
        measured: tuple[int | None, int | None, int | None] = (None, None, None),
        steps: int = 0,
    ) -> None:
        """Append one event. Once it returns, the event is durable, and `steps` count against the budget.

        Raises:
            PayloadTooLarge: Nothing was written.
            Abandon: The run was lost to another worker, or the store can't say; nothing more may be done for it here.
        """
        if isinstance(self.halted, Abandon):
            raise self.halted
        try:
            await self.log.append(
                kind,
                path,
                name,
                codec.encode(record),
                adds=adds,
                state=state,
                blobs=blobs,
                shared=shared,
                measured=measured,
            )
        except StoreError as error:
            self.abandon(error)
        self.spent.steps += steps

    @contextmanager
    def store_or_abandon(self) -> Iterator[None]:
        """Around what a step reads or writes beside its own stream: a store that fails is no failure of the step."""
        try:
            yield
        except StoreError as error:
            self.abandon(error)

    def abandon(self, why: BaseException) -> NoReturn:
        """Stop without writing."""
        lost = Abandon(str(why))
        lost.__cause__ = why
        self.halted = lost
        raise lost from why

    def defective(self, error: HoldfastError) -> HoldfastError:
        """Note an error that no user code may talk away: every later step raises it again, and the run goes to a person."""
        if self.halted is None:
            self.halted = error
        return error

    def cut(self, scope: Scope, step: str, path: str) -> HoldfastError | None:
        """What a cancellation that arrived in a step means: `None` when it is ours, else the defect that it is."""
        if scope.closing:
            return None
        return self.defective(UnscopedStep(f"{path} ({step})", "it was cancelled from outside the journal"))

    # -- outcomes -----------------------------------------------------------------------------------------------------

    def complete(
        self,
        kind: str,
        path: str,
        name: str,
        outcome: Outcome,
        *,
        adds: Label = PRIMARY,
        state: RunState | None = None,
    ) -> Awaitable[None]:
        """Record the outcome of a step; durable once it was awaited. When it can't be recorded the run is abandoned."""
        self.open_intents.pop(path, None)
        return self.record(f"{kind}.completed", path, name, outcome, adds=adds, state=state, steps=1)

    async def fail(
        self,
        kind: str,
        path: str,
        name: str,
        asked: bytes,
        info: ErrorInfo,
        *,
        attempts: int = 1,
        started_ns: int = 0,
        received: int | None = None,
    ) -> None:
        failure = Failure(msgspec.Raw(asked), info, started_ns, attempts, received)
        try:
            await self.record(f"{kind}.failed", path, name, failure)
        except PayloadTooLarge:  # the arguments themselves are too large to keep
            await self.record(
                f"{kind}.failed", path, name, Failure(msgspec.Raw(NO_INPUT), info, started_ns, attempts, received)
            )
        self.open_intents.pop(path, None)
        self.spent.steps += 1

    def encoded(self, value: object, path: str) -> bytes:
        """JSON of what a step is given. Raises `NotJson`."""
        try:
            return encode_json(value)
        except HAS_NO_JSON as error:
            raise NotJson(self.run, path, str(error)) from error

    # -- budget -------------------------------------------------------------------------------------------------------

    def charge(self, outcome: ModelOutcome) -> None:
        usage = outcome.usage
        if usage is None or usage.input_tokens is None or usage.output_tokens is None:
            self.spent.uncounted = outcome.route
        else:
            self.spent.tokens += usage.input_tokens + usage.output_tokens
        if outcome.cost_microusd is None:
            self.spent.unpriced = outcome.route
        else:
            self.spent.cost_microusd += outcome.cost_microusd

    def over_budget(self, path: str) -> BudgetExceeded | None:
        """The bound that the run has reached, if any. A wait counts as time: a run that waited too long goes to a person too."""
        budget, spent = self.budget, self.spent
        if budget is None:
            return None
        if budget.steps is not None and spent.steps >= budget.steps:
            return BudgetExceeded(self.run, path, "steps", budget.steps, spent.steps)
        if budget.tokens is not None and spent.tokens >= budget.tokens:
            return BudgetExceeded(self.run, path, "tokens", budget.tokens, spent.tokens)
        if budget.cost_microusd is not None and spent.cost_microusd >= budget.cost_microusd:
            return BudgetExceeded(self.run, path, "money in USD", budget.cost_microusd / 1e6, spent.cost_microusd / 1e6)
        # Missing is not zero (law 10): what can't be measured is over the bound.
        if budget.tokens is not None and spent.uncounted is not None:
            return BudgetExceeded(
                self.run, path, f"tokens (unknown: {spent.uncounted} reported none)", budget.tokens, spent.tokens
            )
        if budget.cost_microusd is not None and spent.unpriced is not None:
            what = f"money in USD (unknown: {spent.unpriced} has no known price)"
            return BudgetExceeded(self.run, path, what, budget.cost_microusd / 1e6, spent.cost_microusd / 1e6)
        elapsed_s = (self.clock.now_ns() - self.started_ns) / 1e9
        if budget.time_s is not None and elapsed_s >= budget.time_s:
            return BudgetExceeded(self.run, path, "time in s", budget.time_s, elapsed_s)
        return None

    async def within_budget(self, kind: str, path: str, name: str, asked: bytes) -> None:
        """Refuse a new step that the budget does not allow; the refusal is the step's recorded outcome."""
        if self.budget is None:
            return
        exceeded = self.over_budget(path)
        if exceeded is not None:
            from .failures import describe

            await self.fail(kind, path, name, asked, describe(exceeded))
            raise exceeded

    # -- waiting ------------------------------------------------------------------------------------------------------

    async def wait(self, pending: Pending) -> Event | None:
        """Wait for a note, or until `due_ns` (then `None`). When nothing in the run is live any more, the run parks."""
        scope = current_scope()
        if scope is not None and scope.closing:  # a branch that lost begins no wait: it is about to be cancelled
            await anyio.lowlevel.checkpoint()
        for there in self.notes:
            if there.seq not in self.consumed and pending.matches(there):
                self.consumed.add(there.seq)
                return there
        due_ns = pending.wait.due_ns
        if due_ns is not None and self.clock.now_ns() >= due_ns:
            return None
        self.pending.append(pending)
        self.live -= 1
        self.park_if_idle()
        try:
            note = await self._received(pending)
            if scope is not None and scope.closing:
                await anyio.lowlevel.checkpoint()
            return note
        except anyio.get_cancelled_exc_class():
            self._give_back(pending)
            defect = self.cut(scope, pending.wait.name, pending.wait.path) if scope is not None else None
            if defect is not None:
                raise defect from None
            raise
        finally:
            self.pending.remove(pending)
            self.live += 1

    async def _received(self, pending: Pending) -> Event | None:
        """The note, or `None` at the due time: when the wall clock has passed it, which may jump, or as long after as it was away."""
        due_ns = pending.wait.due_ns
        if due_ns is None:
            return await pending.received
        end = anyio.current_time() + (due_ns - self.clock.now_ns()) / 1e9
        while not pending.received.done():
            left_s = min(end - anyio.current_time(), (due_ns - self.clock.now_ns()) / 1e9)
            if left_s <= 0:
                return None
            with anyio.move_on_after(min(left_s, LOOK_AT_CLOCK_S)):
                return await asyncio.shield(pending.received)
        return await pending.received

    def _give_back(self, pending: Pending) -> None:
        """A branch that lost takes no note with it: the next wait that it fits has it."""
        if not pending.received.done() or pending.received.cancelled():
            return
        note = pending.received.result()
        if note is not None:
            self.consumed.discard(note.seq)
            self._offer(note, without=pending)

    async def nap(self, delay_s: float, path: str, name: str) -> None:
        """The pause before a retry: not durable; after a crash the next attempt is made at once."""
        try:
            await anyio.sleep(delay_s)
        except anyio.get_cancelled_exc_class():
            scope = current_scope()
            defect = self.cut(scope, name, path) if scope is not None else None
            if defect is not None:
                raise defect from None
            raise

    def announce(self, wait: Wait) -> RunState | None:
        """The columns that let others see a wait that begins while other branches go on; a run that parks tells all at once."""
        self.announced[wait.path] = wait
        return self._telling() if self.live > 1 else None

    def withdraw(self, path: str) -> RunState | None:
        """The columns once a wait is over, so that nobody is asked for what is decided."""
        return self._telling() if self.announced.pop(path, None) is not None else None

    def _telling(self) -> RunState:
        return RunState("running", waits=tuple(self.announced.values()), notes_seen=self.notes_seen)

    def park_if_idle(self) -> None:
        """Raise `Suspend` when every live branch waits, and none has been answered meanwhile."""
        if self.closing:  # it parks already: what is left while the run comes apart is not all that it waits for
            return
        if self.live == 0 and self.pending and not any(pending.received.done() for pending in self.pending):
            self.parked_on = tuple(p.wait for p in self.pending)
            self.parked_notes_seen = self.notes_seen  # a note that comes while the run unwinds must wake it again
            self.closing = True
            self.halted = Suspend()
            raise self.halted

    def deliver(self, notes: Sequence[Event]) -> None:
        """New notes arrived while the run is in memory."""
        for note in notes:
            self.notes.append(note)
            self._offer(note)

    def _offer(self, note: Event, *, without: Pending | None = None) -> None:
        for pending in self.pending:
            if pending is not without and not pending.received.done() and pending.matches(note):
                self.consumed.add(note.seq)
                pending.received.set_result(note)
                return

    @property
    def notes_seen(self) -> int:
        return self.notes[-1].seq if self.notes else -1

    # -- ending -------------------------------------------------------------------------------------------------------

    def close(self, *, leaving: bool) -> None:
        """Cancellations from now on are ours. `leaving`: the worker stops and somebody else goes on with the run."""
        self.closing = True
        self.leaving = leaving
        self.hurry()

    def hurry(self) -> None:
        """Effects that are out in a scope that is closing get `GRACE_S` to answer."""
        latest = anyio.current_time() + GRACE_S
        for guard, scope in self.guards.items():
            if scope.closing:
                guard.deadline = min(guard.deadline, latest)
