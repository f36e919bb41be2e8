"""Makes requests that are chained as a store demands, over contents that mean nothing."""

import hashlib
from dataclasses import replace

from holdfast.store import Append, NewRun, Row, RunState, Stream, Wait

VERSIONS = [("handle", "1")]
NOW_NS = 1_000


class Pen:
    """The end of one stream, as somebody who writes to it believes it to be."""

    def __init__(self, run: str, stream: Stream = Stream.RUN, *, epoch: int = 1) -> None:
        self.run = run
        self.stream = stream
        self.epoch = epoch
        self.seq = -1
        self.hash = hashlib.sha256(f"{run} {stream}".encode()).digest()
        self.rows: list[Row] = []

    def append(
        self,
        *,
        payload: bytes = b"{}",
        rows: int = 1,
        kind: str = "step.completed",
        name: str = "fetch",
        level: int = 3,
        key: str | None = None,
        state: RunState | None = None,
        blobs: tuple[tuple[bytes, bytes], ...] = (),
        shared: tuple[tuple[bytes, bytes], ...] = (),
    ) -> Append:
        """The next request; the pen moves on as if it were stored."""
        before, made = self.hash, []
        for _ in range(rows):
            self.seq += 1
            header = f"{self.run} {self.stream} {self.seq} {self.epoch}".encode()
            self.hash = hashlib.sha256(self.hash + header).digest()
            made.append(
                Row(self.seq, header, b"salt of 16 bytes", payload, self.hash, kind, name, 10 + self.seq, level)
            )
        self.rows += made
        return Append(self.run, self.stream, self.epoch, before, tuple(made), blobs, shared, key, state)

    def at(self, seq: int, hash: bytes) -> "Pen":
        """Go on from there."""
        self.seq, self.hash = seq, hash
        return self


def new_run(run: str, **changes: object) -> NewRun:
    return replace(NewRun(run, "handle", "1", 5, b"k" * 32), **changes)  # type: ignore[arg-type]  # fields of a NewRun


def parked(*waits: Wait, wake_ns: int | None = None, notes_seen: int = -1, status: str = "waiting") -> RunState:
    """Of a run whose owner lets go of it."""
    return RunState(status, None, wake_ns, waits, notes_seen, release=True)


def finished(outcome: str = "completed") -> RunState:
    return RunState("completed", outcome, release=True)


def approval(id: str) -> Wait:
    return Wait(id, "approval", "ship it?", "1")
