"""Journals for the tests: small runs with everything in them, and a copy of a store whose rows can be
damaged.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from holdfast.journal import Budget, Journal, Note, RunLog, Started, codec
from holdfast.journal.blobs import make_shared
from holdfast.journal.checkpoint import seal
from holdfast.journal.conversation import Conversation
from holdfast.journal.problems import VerifyReport
from holdfast.journal.raw import Kept, keep
from holdfast.journal.records import Finished, ModelOutcome, Outcome, Parked, WaitRecord
from holdfast.journal.verify import verify
from holdfast.model import Message, Text, Usage
from holdfast.store import Checkpoint, Claimed, Row, RunRow, RunState, Snapshot, Store, Stream, Wait, open_store
from holdfast.trust import PRIMARY, Label, Trust, lowered

START_NS = 1_700_000_000_000_000_000
INPUT = lowered(Trust.EXTERNAL, "external input", "")


class Ticks:
    """A clock that moves on by a microsecond whenever it is read."""

    def __init__(self) -> None:
        self._ticks = itertools.count(START_NS, 1_000)

    def now_ns(self) -> int:
        return next(self._ticks)

    def boot_ns(self) -> int:
        return next(self._ticks)


def started(workflow: str = "handle", *, label: Label = INPUT, text: str = "one crate of kelp") -> Started:
    return Started(workflow, "4", msgspec.Raw(codec.encode({"mail": text})), label, budget=Budget(steps=10))


async def complete(
    journal: Journal,
    run: str,
    *,
    turns: int = 2,
    text: str = "one crate of kelp",
    notes: int = 2,
    park: bool = False,
) -> None:
    """Store a run: a tool step, `turns` model calls with raw traffic, notes, and an answer (`park`: a wait)."""
    await journal.start(run, started(text=text))
    log, secret = await open_pen(journal, run)
    outcome = Outcome(msgspec.Raw(codec.encode([text])), msgspec.Raw(b'{"left":7}'), started_ns=START_NS)
    await log.append("tool.completed", "1", "stock", codec.encode(outcome), adds=lowered(Trust.UNVERIFIED, "tool", "1"))
    conversation = Conversation(secret)
    base: Kept | None = None
    node: str | None = None
    talk = b""
    for turn in range(turns):
        asked, made = conversation.extend(node, (Message("user", (Text(f"{text}, turn {turn}: " + "why? " * 40),)),))
        reply, more = conversation.extend(asked, (Message("assistant", (Text(f"because of {turn}"),)),))
        talk += codec.encode({"turn": turn, "text": text * 20})
        base, request = keep(secret, b'{"messages":[' + talk + b'],"tools":["stock"]}', base)
        instructions, tools = make_shared(b"Answer in one word."), make_shared(b'[{"name":"stock"}]' * 400)
        record = ModelOutcome(
            asked, instructions[0].hex(), tools[0].hex(), reply, "scripted:desk",
            usage=Usage(input_tokens=100 + turn, output_tokens=7), cost_microusd=42, raw_request=request[0].hex(),
        )  # fmt: skip
        blobs = (*made, *more, request)
        measured = (42, 100 + turn, 7)
        payload = codec.encode(record)
        await log.append(
            "model.completed",
            f"2.{turn}",
            "desk",
            payload,
            blobs=blobs,
            shared=(instructions, tools),
            measured=measured,
        )
        conversation.stored(blobs)
        node = reply
    for number in range(notes):
        await journal.note(
            run, "note.score", Note("helpful", msgspec.Raw(b"0.5"), by="ana", label=PRIMARY), key=f"s{number}"
        )
    if park:
        wait = WaitRecord("approve-1", "approval", "big order", "3", START_NS * 2)
        state = RunState(
            "waiting",
            wake_ns=START_NS * 2,
            waits=(Wait(*msgspec.structs.astuple(wait)),),
            notes_seen=notes - 1,
            release=True,
        )
        await log.append("run.parked", "", "", codec.encode(Parked((wait,))), state=state)
    else:
        answer = Finished("completed", msgspec.Raw(codec.encode({"result": text})))
        await log.append(
            "run.finished",
            "",
            "",
            codec.encode(answer),
            state=RunState("completed", "completed", release=True),
        )


async def open_pen(journal: Journal, run: str) -> tuple[RunLog, bytes]:
    row = await journal.run(run)
    assert row.secret is not None
    return journal.log(Claimed(row, await journal.store.rows(run, Stream.RUN), ())), row.secret


@asynccontextmanager
async def opened(address: str | Path) -> AsyncIterator[Store]:
    store = await open_store(address)
    try:
        yield store
    finally:
        await store.close()


async def seal_all(store: Store, *, key: bytes | None = None) -> Checkpoint:
    checkpoint = await seal(store, now_ns=Ticks().now_ns, key=key)
    assert checkpoint is not None
    return checkpoint


def audit(store: Store, *, public_keys: Sequence[bytes] = (), exported: bytes | None = None) -> VerifyReport:
    with store.snapshot() as snapshot:
        return verify(snapshot, public_keys=public_keys, exported=exported)


@dataclass
class Tables:
    """A snapshot in memory, with rows that a test may damage."""

    runs_: dict[str, RunRow] = field(default_factory=dict)
    rows_: dict[tuple[str, Stream], list[Row]] = field(default_factory=dict)
    waits_: dict[str, list[Wait]] = field(default_factory=dict)
    blobs_: dict[str, dict[bytes, bytes]] = field(default_factory=dict)
    shared_: dict[bytes, bytes] = field(default_factory=dict)
    checkpoints_: list[Checkpoint] = field(default_factory=list)

    @classmethod
    def of(cls, snapshot: Snapshot) -> Tables:
        copy = cls()
        for row in list(snapshot.runs()):
            copy.runs_[row.run] = row
            for stream in Stream:
                copy.rows_[row.run, stream] = list(snapshot.rows(row.run, stream))
            copy.waits_[row.run] = list(snapshot.waits(row.run))
            copy.blobs_[row.run] = dict(snapshot.blobs(row.run))
        copy.shared_ = dict(snapshot.shared())
        copy.checkpoints_ = list(snapshot.checkpoints())
        return copy

    def copy(self) -> Tables:
        return Tables(
            dict(self.runs_),
            {place: list(rows) for place, rows in self.rows_.items()},
            {run: list(waits) for run, waits in self.waits_.items()},
            {run: dict(blobs) for run, blobs in self.blobs_.items()},
            dict(self.shared_),
            list(self.checkpoints_),
        )

    def remove(self, run: str) -> None:
        """Take out a whole run with everything that names it."""
        del self.runs_[run], self.waits_[run], self.blobs_[run]
        for stream in Stream:
            del self.rows_[run, stream]

    def runs(self) -> Iterator[RunRow]:
        yield from self.runs_.values()

    def rows(self, run: str, stream: Stream, *, after: int = -1) -> Iterator[Row]:
        yield from sorted(row for row in self.rows_.get((run, stream), ()) if row.seq > after)

    def waits(self, run: str) -> Sequence[Wait]:
        return self.waits_[run]

    def blobs(self, run: str) -> Iterator[tuple[bytes, bytes]]:
        yield from self.blobs_[run].items()

    def shared(self) -> Iterator[tuple[bytes, bytes]]:
        yield from self.shared_.items()

    def damage(self) -> Iterator[str]:
        return iter(())

    def orphans(self) -> Iterator[tuple[str, str]]:
        for run, stream in self.rows_:
            if run not in self.runs_:
                yield "events", f"run {run}, stream {stream}"

    def checkpoints(self) -> Iterator[Checkpoint]:
        yield from self.checkpoints_
