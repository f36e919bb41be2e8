"""Checkpoints: seals over the heads of all streams, chained, signed when there is a key.

    list       sorted (run, stream, seq, hash) of every stream that grew since the checkpoint before
    body       {"v", "number" from 1, "at_ns", "previous", "digest", "key_id", "streams"}, where "previous" is the
               hash of the checkpoint before, "streams" is the list and "digest" SHA-256 of the list as JSON
    hash       SHA-256(domain || body)
    signature  Ed25519 over body

A store can be rewritten to say anything, its checkpoints too, unless they are signed or a copy lies elsewhere. A copy
names, through "previous", every checkpoint before it and so every stream that was ever sealed: keep the last export
outside.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import anyio.to_thread
import msgspec

from ..errors import SequenceConflict, StoreUnavailable
from ..store import Checkpoint, RunRow, Store, Stream
from . import signing

VERSION: Final = 1
NOTHING_BEFORE: Final = bytes(32)
EVENTS_BETWEEN: Final = 10_000
SECONDS_BETWEEN: Final = 3600.0
_ATTEMPTS: Final = 5
_DOMAIN: Final = b"holdfast/1/checkpoint\x00"


class Entry(msgspec.Struct, frozen=True, array_like=True, order=True):
    """The head of a stream when it was sealed; `hash` in hex."""

    run: str
    stream: Stream
    seq: int
    hash: str


class Body(msgspec.Struct, frozen=True):
    """What is signed. Hashes in hex; `at_ns`: UTC."""

    v: int
    number: int
    at_ns: int
    previous: str
    digest: str
    key_id: str | None
    streams: tuple[Entry, ...]


class Exported(msgspec.Struct, frozen=True, tag_field="type", tag="checkpoint"):
    """A checkpoint outside the store, as one JSON object. `body`: the signed text, verbatim."""

    number: int
    hash: str
    body: str
    signature: str | None = None
    key_id: str | None = None


class BadCheckpoint(ValueError):
    """Not a checkpoint, or one that contradicts itself."""


_encode = msgspec.json.Encoder().encode
_decode_body = msgspec.json.Decoder(Body).decode
_decode_exported = msgspec.json.Decoder(Exported).decode


# -- pure: build, check, export -------------------------------------------------------------------------------------------


def build(
    entries: Sequence[Entry], *, at_ns: int, previous: Checkpoint | None = None, key: bytes | None = None
) -> Checkpoint:
    """Seal `entries`. `key`: an Ed25519 private key in PEM; needs the extra `sign`."""
    key_id = None if key is None else signing.key_id(key)
    streams = tuple(sorted(entries))
    number = 1 if previous is None else previous.number + 1
    before = (NOTHING_BEFORE if previous is None else previous.hash).hex()
    body = _encode(Body(VERSION, number, at_ns, before, _digest(streams), key_id, streams))
    signature = None if key is None else signing.sign(body, key)
    return Checkpoint(number, at_ns, body, _hash(body), signature, key_id)


def parse(checkpoint: Checkpoint) -> Body:
    """The body of a checkpoint that agrees with itself, whoever signed it. Raises `BadCheckpoint`."""
    try:
        body = _decode_body(checkpoint.body)
    except (msgspec.DecodeError, TypeError, ValueError) as error:
        raise BadCheckpoint(f"its body can't be read: {error}") from error
    if _hash(checkpoint.body) != checkpoint.hash:
        raise BadCheckpoint("its body is not what was hashed")
    if _digest(body.streams) != body.digest:
        raise BadCheckpoint("its list is not what was hashed")
    if list(body.streams) != sorted(set(body.streams)):
        raise BadCheckpoint("its list is not sorted")
    if (body.number, body.at_ns, body.key_id) != (checkpoint.number, checkpoint.at_ns, checkpoint.key_id):
        raise BadCheckpoint("its columns are not those of its body")
    if (checkpoint.signature is None) is not (body.key_id is None):
        raise BadCheckpoint(
            "its signature is gone" if checkpoint.signature is None else "it has a signature without a key"
        )
    return body


def export_checkpoint(checkpoint: Checkpoint) -> bytes:
    """A checkpoint as one line of JSON, to be kept where whoever can write the store can't write."""
    return _encode(exported(checkpoint))


def parse_exported(copy: bytes) -> Checkpoint:
    """The checkpoint in an export, checked against itself. Raises `BadCheckpoint`."""
    try:
        checkpoint = from_exported(_decode_exported(copy))
    except msgspec.DecodeError as error:
        raise BadCheckpoint(f"not an exported checkpoint: {error}") from error
    parse(checkpoint)
    return checkpoint


def exported(checkpoint: Checkpoint) -> Exported:
    """A checkpoint as it leaves the store. Raises `BadCheckpoint` when its body is not text."""
    signature = None if checkpoint.signature is None else checkpoint.signature.hex()
    try:
        body = checkpoint.body.decode()
    except UnicodeDecodeError as error:
        raise BadCheckpoint(f"its body can't be read: {error}") from error
    return Exported(checkpoint.number, checkpoint.hash.hex(), body, signature, checkpoint.key_id)


def from_exported(copy: Exported) -> Checkpoint:
    """The checkpoint as the store had it, not yet checked. Raises `BadCheckpoint`."""
    try:
        body = copy.body.encode()
        signature = None if copy.signature is None else bytes.fromhex(copy.signature)
        at_ns = _decode_body(body).at_ns
        return Checkpoint(copy.number, at_ns, body, bytes.fromhex(copy.hash), signature, copy.key_id)
    except (msgspec.DecodeError, ValueError) as error:
        raise BadCheckpoint(f"not an exported checkpoint: {error}") from error


def signed_by(checkpoint: Checkpoint, public_keys: Sequence[bytes]) -> bool:
    """Whether one of these keys (PEM) signed it. Needs the extra `sign`."""
    if checkpoint.signature is None:
        return False
    return signing.signed_by(checkpoint.body, checkpoint.signature, public_keys)


def _digest(streams: tuple[Entry, ...]) -> str:
    return hashlib.sha256(_encode(streams)).hexdigest()


def _hash(body: bytes) -> bytes:
    return hashlib.sha256(_DOMAIN + body).digest()


# -- over a store ---------------------------------------------------------------------------------------


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
