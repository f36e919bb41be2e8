"""`Journal`: starting runs, adding notes and reading events, over any store.

The run stream is written by its owner through a `RunLog`; everything here may be called by anyone who has opened the store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from ..errors import NoteExists, RedactedStep, RunExists, RunIdConflict, SequenceConflict, UnknownRun
from ..model import Clock
from ..store import Append, Claimed, NewRun, Row, RunRow, RunState, Store, Stream
from ..trust import LOWEST, PRIMARY, Label
from . import chain, codec
from .log import RunLog
from .records import Header, Note, Started

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Event:
    """One event or note, as read: its decoded header and its stored payload."""

    header: Header
    stored: bytes | None
    hash: bytes

    @property
    def seq(self) -> int:
        return self.header.seq

    @property
    def kind(self) -> str:
        return self.header.kind

    @property
    def path(self) -> str:
        return self.header.path

    @property
    def name(self) -> str:
        return self.header.name

    @property
    def redacted(self) -> bool:
        return self.stored is None

    def payload(self, kind: type[T]) -> T:
        """The payload as a record. Raises `RedactedStep` when its content was redacted."""
        if self.stored is None:
            raise RedactedStep(self.header.run, self.header.path or self.header.kind)
        return codec.decode(self.stored, kind)

    def json(self) -> object:
        """The payload as plain JSON; `None` when redacted."""
        return None if self.stored is None else msgspec.json.decode(codec.unpack(self.stored))


def read_event(row: Row) -> Event:
    return Event(codec.decode_header(row.header), row.payload, row.hash)


class Journal:
    """The record of a store. Knows nothing of workflows.

    Args:
        max_payload_bytes: The largest payload accepted, before compression.
    """

    def __init__(self, store: Store, clock: Clock, *, max_payload_bytes: int = codec.MAX_PAYLOAD_BYTES) -> None:
        self.store = store
        self.clock = clock
        self.max_payload_bytes = max_payload_bytes
        self._salts = chain.Salts()

    def random(self, size: int) -> bytes:
        """Random bytes from the system."""
        return self._salts.draw(size)

    # -- starting -----------------------------------------------------------------------------------------------------

    async def start(
        self, run: str, started: Started, *, worker: str | None = None, secret: bytes | None = None
    ) -> Claimed | None:
        """Store a new run, durably. Given `worker`, the run is born claimed by it and the claim is returned.

        Starting twice with one id is one run (law 1): then nothing is written and `None` is returned.

        Raises:
            RunIdConflict: The id belongs to a run with another workflow, input or label.
        """
        key = secret or self.random(32)
        log = self.pen(run, epoch=1 if worker else 0)
        genesis = log.head
        row = log.seal("run.started", "", started.workflow, codec.encode(started), adds=started.label)
        new = NewRun(
            run, started.workflow, started.version, row.at_ns, key, started.parent,
            status="running" if worker else "pending", wake_ns=None if worker else 0,
        )  # fmt: skip
        first = Append(run, Stream.RUN, log.epoch, genesis, (row,))
        try:
            epoch = await self.store.create(new, first, worker=worker)
        except RunExists:
            await self._refuse_other_start(run, started)
            return None
        if worker is None:
            return None
        born = RunRow(
            run, started.workflow, started.version, "running", None, log.label.level, worker, epoch, None, -1, row.at_ns, row.at_ns,
            started.parent, "holdfast", key, 0, row.hash, -1, chain.genesis(run, Stream.NOTES),
        )  # fmt: skip
        return Claimed(born, (row,), ())

    async def _refuse_other_start(self, run: str, asked: Started) -> None:
        first = (await self.events(run))[0].payload(Started)
        for what, there, now in (
            ("another workflow", first.workflow, asked.workflow),
            ("another input", bytes(first.input), bytes(asked.input)),
            ("another label", first.label, asked.label),
        ):
            if there != now:
                raise RunIdConflict(run, what)

    def pen(
        self,
        run: str,
        stream: Stream = Stream.RUN,
        *,
        epoch: int = 0,
        seq: int = -1,
        head: bytes | None = None,
        label: Label = PRIMARY,
    ) -> RunLog:
        """A pen on a stream that ends at `seq` with hash `head`; by default on an empty one."""
        return RunLog(
            self.store, run, epoch=epoch, seq=seq, head=chain.genesis(run, stream) if head is None else head, label=label,
            now_ns=self.clock.now_ns, salts=self._salts, max_payload_bytes=self.max_payload_bytes, stream=stream,
        )  # fmt: skip

    def log(self, claimed: Claimed) -> RunLog:
        """The owner's pen on a claimed run."""
        row = claimed.row
        label = read_event(claimed.events[-1]).header.label if claimed.events else PRIMARY
        return self.pen(row.run, epoch=row.epoch, seq=row.seq, head=row.hash, label=label)

    # -- notes --------------------------------------------------------------------------------------------------------

    async def note(
        self, run: str, kind: str, note: Note, *, key: str | None = None, state: RunState | None = None
    ) -> int:
        """Append a note, durably; idempotent by `key`. Returns its number, or that of the note which has the key already."""
        return (await self.note_once(run, kind, note, key=key, state=state))[0]

    async def note_once(
        self, run: str, kind: str, note: Note, *, key: str | None = None, state: RunState | None = None
    ) -> tuple[int, bool]:
        """As `note`; also whether it was written now.

        Anyone may write notes, so another writer can be first: the note is then chained anew on the head that is there.
        """
        while True:
            request = await self.seal_note(run, kind, note, key=key, state=state)
            try:
                await self.store.append(request)
            except SequenceConflict:
                continue
            except NoteExists as exists:
                return exists.seq, False
            return request.rows[0].seq, True

    async def seal_note(
        self, run: str, kind: str, note: Note, *, key: str | None = None, state: RunState | None = None
    ) -> Append:
        """A note chained on the present head of the notes stream, not yet stored."""
        row = await self.run(run)
        payload = codec.encode(note if key is None else msgspec.structs.replace(note, key=key))
        head = row.notes_hash if row.notes_seq >= 0 else chain.genesis(run, Stream.NOTES)
        pen = self.pen(run, Stream.NOTES, seq=row.notes_seq, head=head, label=note.label or LOWEST)
        sealed = pen.seal(kind, "", note.name, payload)
        return Append(run, Stream.NOTES, 0, head, (sealed,), key=key, state=state)

    # -- reading ------------------------------------------------------------------------------------------------------

    async def run(self, run: str) -> RunRow:
        row = await self.store.run(run)
        if row is None:
            raise UnknownRun(run, self.store.address)
        return row

    async def events(self, run: str, *, after: int = -1) -> Sequence[Event]:
        """The run stream. Raises `UnknownRun`."""
        return await self._read(run, Stream.RUN, after)

    async def notes(self, run: str, *, after: int = -1) -> Sequence[Event]:
        """The notes stream. Raises `UnknownRun`."""
        return await self._read(run, Stream.NOTES, after)

    async def find(self, kind: str, name: str, *, limit: int) -> Sequence[tuple[str, Event]]:
        """Events of an indexed kind by name over all runs, newest first, with their runs."""
        return [(run, read_event(row)) for run, row in await self.store.find(kind, name, limit=limit)]

    async def _read(self, run: str, stream: Stream, after: int) -> Sequence[Event]:
        rows = await self.store.rows(run, stream, after=after)
        if not rows:
            await self.run(run)
        return [read_event(row) for row in rows]
