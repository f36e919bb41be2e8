"""Sealing a store: which streams grew since the last checkpoint, and a new one over their heads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import anyio.to_thread

from ..errors import SequenceConflict, StoreUnavailable
from ..store import Checkpoint, RunRow, Store, Stream
from .checkpoint import Entry, build, parse

EVENTS_BETWEEN: Final = 10_000
SECONDS_BETWEEN: Final = 3600.0
_ATTEMPTS: Final = 5


def due(*, events: int, elapsed_s: float, closing: bool = False) -> bool:
    """Whether to seal now. `events`: appended since the last checkpoint; `elapsed_s`: time since it."""
    return events > 0 and (closing or events >= EVENTS_BETWEEN or elapsed_s >= SECONDS_BETWEEN)


class Sealer:
    """Writes the checkpoints of a store.

    It remembers what they cover, some hundred bytes a stream, and reads the head of every run when it seals.

    Args:
        now_ns: UTC time.
        key: An Ed25519 private key in PEM; without one checkpoints are not signed.
    """

    def __init__(self, store: Store, *, now_ns: Callable[[], int], key: bytes | None = None) -> None:
        self._store = store
        self._now_ns = now_ns
        self._key = key
        self._last: Checkpoint | None = None
        self._sealed: dict[tuple[str, int], int] = {}

    async def seal(self) -> Checkpoint | None:
        """Seal what grew since the last checkpoint, whoever wrote it. `None`: nothing did, nothing was written.

        Raises:
            BadCheckpoint: A stored checkpoint is damaged; nothing is sealed on top of it.
            SequenceConflict: Other processes seal all the time; nothing was written.
            StoreUnavailable: It could not be written.
        """
        for attempt in range(_ATTEMPTS):
            checkpoint = await anyio.to_thread.run_sync(self._next)
            if checkpoint is None:
                return None
            try:
                await self._store.add_checkpoint(checkpoint)
            except (SequenceConflict, StoreUnavailable):
                # Another process has sealed, or nobody knows: what is in the store decides.
                there = await anyio.to_thread.run_sync(self._stored, checkpoint.number)
                if there is None or (there.hash != checkpoint.hash and attempt == _ATTEMPTS - 1):
                    raise
                if there.hash != checkpoint.hash:
                    continue
            self._cover(checkpoint)
            return checkpoint
        raise AssertionError("unreachable")

    def _stored(self, number: int) -> Checkpoint | None:
        with self._store.snapshot() as snapshot:
            return next((checkpoint for checkpoint in snapshot.checkpoints() if checkpoint.number == number), None)

    def _next(self) -> Checkpoint | None:
        with self._store.snapshot() as snapshot:
            for checkpoint in snapshot.checkpoints():
                if self._last is None or checkpoint.number > self._last.number:
                    self._cover(checkpoint)
            grown = [entry for row in snapshot.runs() for entry in _heads(row) if self._grew(entry)]
        return build(grown, at_ns=self._now_ns(), previous=self._last, key=self._key) if grown else None

    def _grew(self, entry: Entry) -> bool:
        return entry.seq > self._sealed.get((entry.run, entry.stream), -1)

    def _cover(self, checkpoint: Checkpoint) -> None:
        for entry in parse(checkpoint).streams:
            self._sealed[entry.run, entry.stream] = entry.seq
        self._last = checkpoint


async def seal(store: Store, *, now_ns: Callable[[], int], key: bytes | None = None) -> Checkpoint | None:
    """Seal a store once; see `Sealer`."""
    return await Sealer(store, now_ns=now_ns, key=key).seal()


def _heads(row: RunRow) -> Iterator[Entry]:
    if row.seq >= 0:
        yield Entry(row.run, Stream.RUN, row.seq, row.hash.hex())
    if row.notes_seq >= 0:
        yield Entry(row.run, Stream.NOTES, row.notes_seq, row.notes_hash.hex())
