"""`RunLog`: the owner's pen on the run stream of one run.

Everything that costs nothing to know early is decided here, on the caller's side and without waiting: sequence number, label,
digest, hash. So any number of appends of one run may be on their way to the store at once, each chained on the one before.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ..errors import PayloadTooLarge
from ..store import Append, Row, RunState, Store, Stream
from ..trust import PRIMARY, Label, meet
from . import chain, codec


class RunLog:
    """Appends to the run stream under one epoch. Law 3 is enforced here: the label of the run is a running minimum.

    Args:
        seq, head: Of the last event that is stored (-1 and the genesis hash for an empty stream).
        label: Of the run after that event.
    """

    __slots__ = (
        "_head",
        "_now_ns",
        "_previous",
        "_salts",
        "_store",
        "_stream",
        "epoch",
        "label",
        "max_payload_bytes",
        "run",
        "seq",
    )

    def __init__(
        self,
        store: Store,
        run: str,
        *,
        epoch: int,
        seq: int,
        head: bytes,
        label: Label,
        now_ns: Callable[[], int],
        salts: chain.Salts,
        max_payload_bytes: int = codec.MAX_PAYLOAD_BYTES,
        stream: Stream = Stream.RUN,
    ) -> None:
        self._store = store
        self._head = self._previous = head
        self._now_ns = now_ns
        self._salts = salts
        self._stream = stream
        self.run = run
        self.epoch = epoch
        self.seq = seq
        self.label = label
        self.max_payload_bytes = max_payload_bytes

    @property
    def head(self) -> bytes:
        """The hash of the last sealed event; the next one is chained on it."""
        return self._head

    def append(
        self,
        kind: str,
        path: str,
        name: str,
        payload: bytes,
        *,
        adds: Label = PRIMARY,
        state: RunState | None = None,
        blobs: tuple[tuple[bytes, bytes], ...] = (),
        shared: tuple[tuple[bytes, bytes], ...] = (),
        measured: tuple[int | None, int | None, int | None] = (None, None, None),
    ) -> Awaitable[None]:
        """Append one event; durable once what is returned has been awaited. The number is given out at the call.

        Args:
            payload: The record as JSON bytes.
            adds: What the event adds to the trust of the run.
            measured: Cost in micro-dollars, input tokens, output tokens: as `codec.columns` derives them from the payload.

        Raises:
            PayloadTooLarge: Nothing was written; the log goes on.
            StaleEpoch: The run has another owner; abandon it.
            StoreUnavailable: Unknown whether it is stored. So too after a cancellation. Abandon the run and read it again.
        """
        row = self.seal(kind, path, name, payload, adds=adds, measured=measured)
        request = Append(self.run, self._stream, self.epoch, self._previous, (row,), blobs, shared, None, state)
        return self._store.append(request)

    def seal(
        self,
        kind: str,
        path: str,
        name: str,
        payload: bytes,
        *,
        adds: Label = PRIMARY,
        measured: tuple[int | None, int | None, int | None] = (None, None, None),
    ) -> Row:
        """The next row of the stream, chained; the caller must store it."""
        if len(payload) > self.max_payload_bytes:
            raise PayloadTooLarge(self.run, path, len(payload), self.max_payload_bytes)
        if adds is not PRIMARY:
            self.label = meet(self.label, adds)
        seq = self.seq + 1
        at_ns = self._now_ns()
        stored = codec.pack(payload)
        salt = self._salts.draw()
        digest = chain.commitment(salt, stored)
        header = codec.encode_header(
            self.run, self._stream, seq, self.epoch, kind, path, name, at_ns, self.label, digest, len(stored)
        )
        head = chain.link(self._head, header)
        self._previous, self._head, self.seq = self._head, head, seq
        return Row(seq, header, salt, stored, head, kind, name, at_ns, self.label.level, *measured)
