"""Random histories against plain lists: whatever is sent together, refused, claimed, lost and reopened, a store does what the lists say."""

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from holdfast.errors import RunExists
from holdfast.store import FINISHED, Append, Claimed, RunState, Store, Stream, Wait, open_store
from tests.contracts.streams import NOW_NS, VERSIONS, Pen, new_run

pytestmark = pytest.mark.slow

T = TypeVar("T")

RUNS = st.sampled_from(["a", "b", "c"])
WORKERS = st.sampled_from(["v", "w"])
STATES = st.builds(
    RunState,
    status=st.sampled_from(["running", "waiting", "in_doubt", "completed", "failed"]),
    outcome=st.sampled_from([None, "refused"]),
    wake_ns=st.sampled_from([None, 0, 7, NOW_NS + 1]),
    waits=st.lists(st.sampled_from([Wait("x", "timer", "t", "1", 9), Wait("y", "approval", "a", "2")]), max_size=2).map(
        tuple
    ),
    notes_seen=st.integers(-1, 2),
    release=st.booleans(),
)


@dataclass(frozen=True)
class Call:
    """One request of several that are sent together. `wrong`: in what it differs from what the store expects."""

    run: str
    stream: Stream
    rows: int
    wrong: str | None
    key: str | None
    state: RunState | None


CALLS = st.builds(
    Call,
    run=RUNS,
    stream=st.sampled_from(Stream),
    rows=st.integers(1, 3),
    wrong=st.sampled_from([None, None, None, "seq", "hash", "epoch"]),
    key=st.sampled_from([None, "k", "l"]),
    state=st.none() | STATES,
)


@dataclass
class Expected:
    """A run as the lists have it."""

    run: Pen
    notes: Pen
    worker: str | None
    wake_ns: int | None
    epoch: int
    status: str = "pending"
    outcome: str | None = None
    notes_seen: int = -1
    taken_from: str | None = None
    keys: dict[str, int] = field(default_factory=dict)
    waits: tuple[Wait, ...] = ()

    def let_go(self, taken_from: str | None) -> None:
        self.worker, self.status, self.wake_ns, self.taken_from = None, "pending", 0, taken_from
        self.epoch += 1


class StoreMachine(RuleBasedStateMachine):
    address = ":memory:"

    @initialize()
    def start(self) -> None:
        self.loop = asyncio.Runner()
        self.store: Store = self.wait(open_store(self.address))
        self.expected: dict[str, Expected] = {}  # in the order of creation
        self.workers: set[str] = set()

    def wait(self, call: Coroutine[object, object, T]) -> T:
        return self.loop.run(call)

    # -- what may happen ----------------------------------------------------------------------------------------------

    @rule(run=RUNS, worker=st.none() | WORKERS)
    def create(self, run: str, worker: str | None) -> None:
        pen = Pen(run, epoch=3)
        create = self.store.create(new_run(run), pen.append(), worker=worker)
        if run in self.expected:
            with pytest.raises(RunExists):
                self.wait(create)
        else:
            assert self.wait(create) == 3
            notes = Pen(run, Stream.NOTES)
            self.expected[run] = Expected(pen, notes, worker, None if worker else 0, 3)

    @rule(calls=st.lists(CALLS, min_size=1, max_size=8))
    def append(self, calls: list[Call]) -> None:
        prepared = [self.prepare(call) for call in calls]

        async def send() -> list[object]:
            return await asyncio.gather(
                *(self.store.append(request) for request, _ in prepared), return_exceptions=True
            )

        assert [type(outcome).__name__ for outcome in self.wait(send())] == [said for _, said in prepared]

    @rule(worker=WORKERS, lease_s=st.sampled_from([0.0, 60.0]))
    def register(self, worker: str, lease_s: float) -> None:
        self.wait(self.store.register(worker, lease_s=lease_s))
        self.workers.add(worker)
        self.leases = getattr(self, "leases", {}) | {worker: lease_s}

    @rule(worker=WORKERS, limit=st.integers(1, 3))
    def claim(self, worker: str, limit: int) -> None:
        claimed = self.wait(self.store.claim(worker, VERSIONS, now_ns=NOW_NS, limit=limit))
        due = [(each.wake_ns, at, run) for at, (run, each) in enumerate(self.expected.items()) if self.is_due(each)]
        taken = [run for _, _, run in sorted(due)][:limit] if worker in self.workers else []
        assert [each.row.run for each in claimed] == taken
        for each in claimed:
            self.check_claimed(each, worker)

    @rule(worker=WORKERS)
    def retire(self, worker: str) -> None:
        self.wait(self.store.retire(worker))
        self.workers.discard(worker)
        for each in self.expected.values():
            if each.worker == worker:
                each.let_go(None)

    @rule()
    def reap(self) -> None:
        dead = {worker for worker in self.workers if self.leases[worker] == 0.0}
        owners = {each.worker for each in self.expected.values() if each.worker is not None}
        unknown = owners - (self.workers - dead)
        assert set(self.wait(self.store.reap())) == dead | unknown
        self.workers -= dead
        for each in self.expected.values():
            if each.worker in unknown:
                each.let_go(each.worker)

    # -- what must hold -----------------------------------------------------------------------------------------------

    @invariant()
    def everything_is_as_in_the_lists(self) -> None:
        self.wait(self.check_all())

    async def check_all(self) -> None:
        counts: dict[str, int] = {}
        for run, each in self.expected.items():
            row = await self.store.run(run)
            assert row is not None
            assert (row.seq, row.hash, row.epoch) == (each.run.seq, each.run.hash, each.epoch)
            assert (row.notes_seq, row.notes_hash) == (each.notes.seq, each.notes.hash if each.notes.rows else b"")
            assert (row.status, row.outcome, row.wake_ns) == (each.status, each.outcome, each.wake_ns)
            assert (row.worker, row.notes_seen) == (each.worker, each.notes_seen)
            assert await self.store.rows(run, Stream.RUN) == each.run.rows
            assert await self.store.rows(run, Stream.NOTES) == each.notes.rows
            counts[each.status] = counts.get(each.status, 0) + 1
        assert await self.store.count() == counts
        waits = [(run, wait) for run, each in self.expected.items() for wait in each.waits]
        assert sorted(await self.store.waits()) == sorted(waits)
        assert [row.run for row in await self.store.runs()] == list(reversed(self.expected))

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.wait(self.store.close())
            self.loop.close()

    # -- the lists ----------------------------------------------------------------------------------------------------

    def prepare(self, call: Call) -> tuple[Append, str]:
        """The request, and what the store must say to it; if it takes it, the lists change."""
        each = self.expected.get(call.run)
        if each is None:
            return Pen(call.run, call.stream).append(), "UnknownRun"
        pen = each.run if call.stream is Stream.RUN else each.notes
        key = call.key if call.stream is Stream.NOTES else None
        epoch = each.epoch - 1 if call.wrong == "epoch" else each.epoch
        writer = Pen(call.run, call.stream, epoch=epoch).at(pen.seq, pen.hash)
        if call.wrong == "seq":
            writer.seq += 1
        elif call.wrong == "hash":
            writer.hash = b"another"
        request = writer.append(rows=call.rows, key=key, state=call.state)
        if call.stream is Stream.RUN and call.wrong == "epoch":
            return request, "StaleEpoch"
        if key in each.keys:
            return request, "NoteExists"
        if call.wrong == "seq" or (call.wrong == "hash" and pen.rows):
            return request, "SequenceConflict"
        if key is not None:
            each.keys[key] = pen.seq + 1
        pen.at(writer.seq, writer.hash).rows += writer.rows
        self.apply(each, call)
        return request, "NoneType"

    def apply(self, each: Expected, call: Call) -> None:
        state = call.state
        if state is not None:
            each.status, each.outcome, each.wake_ns, each.waits = (
                state.status,
                state.outcome,
                state.wake_ns,
                state.waits,
            )
            each.notes_seen = max(each.notes_seen, state.notes_seen)
            if state.release:
                each.worker = None
                if each.notes.seq > state.notes_seen and state.status not in FINISHED:
                    each.wake_ns = 0
        if call.stream is Stream.NOTES and each.worker is None and each.status not in FINISHED:
            each.wake_ns = 0

    def is_due(self, each: Expected) -> bool:
        return each.worker is None and each.wake_ns is not None and each.wake_ns <= NOW_NS

    def check_claimed(self, claimed: Claimed, worker: str) -> None:
        each = self.expected[claimed.row.run]
        each.epoch += 1
        assert (claimed.row.epoch, claimed.row.worker, claimed.taken_from) == (each.epoch, worker, each.taken_from)
        assert [*claimed.events, *claimed.notes] == each.run.rows + each.notes.rows
        each.worker, each.status, each.wake_ns, each.taken_from = worker, "running", None, None


class SqliteMachine(StoreMachine):
    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.address = str(self.folder / "holdfast.db")
        super().start()

    @rule()
    def reopen(self) -> None:
        """A worker whose process let go of its lock is dead, whatever its lease."""
        self.wait(self.store.close())
        self.store = self.wait(open_store(self.address))
        self.leases = dict.fromkeys(self.workers, 0.0)

    @rule(run=RUNS)
    def another_process_appends(self, run: str) -> None:
        """What the writer remembers of the heads is out of date then."""
        other = self.wait(open_store(self.address))
        each = self.expected.get(run)
        if each is not None:
            pen = Pen(run, Stream.NOTES).at(each.notes.seq, each.notes.hash)
            self.wait(_append(other, pen.append()))
            each.notes.at(pen.seq, pen.hash).rows += pen.rows
            if each.worker is None and each.status not in FINISHED:
                each.wake_ns = 0
        self.wait(other.close())

    def teardown(self) -> None:
        super().teardown()
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)


async def _append(store: Store, request: Append) -> None:
    await store.append(request)


StoreMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=25)
SqliteMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=25)
TestMemoryModel = StoreMachine.TestCase
TestSqliteModel = SqliteMachine.TestCase
