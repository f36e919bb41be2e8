"""Checkpoints: seals over the heads of all streams, chained, signed when there is a key.

    list  = sorted (run, stream, seq, hash) of every stream that grew since the checkpoint before
    body  = {"v", "number" (from 1), "at_ns", "previous" (hash of the one before), "digest" = SHA-256(list as JSON), "key_id", "streams": list}
    hash  = SHA-256(domain || body)          signature = Ed25519 over body

A checkpoint says nothing that the store could not be rewritten to say too, unless it is signed or a copy lies elsewhere: the copy
names, through `previous`, every checkpoint before it and so every stream that was ever sealed. Keep the last export outside.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

import anyio.to_thread
import msgspec

from ..errors import SequenceConflict, StoreUnavailable
from ..store import Checkpoint, Snapshot, Store, Stream
from .problems import Damage, Findings

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

VERSION: Final = 1
EVENTS_BETWEEN: Final = 10_000
SECONDS_BETWEEN: Final = 3600.0
NOTHING_BEFORE: Final = bytes(32)
_DOMAIN: Final = b"holdfast/1/checkpoint\x00"
_ATTEMPTS: Final = 5


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


def due(*, events: int, elapsed_s: float, closing: bool = False) -> bool:
    """Whether to seal now. `events`: appended since the last checkpoint; `elapsed_s`: time since it."""
    return events > 0 and (closing or events >= EVENTS_BETWEEN or elapsed_s >= SECONDS_BETWEEN)


# -- pure: build, check, export -------------------------------------------------------------------------------------------


def build(
    entries: Sequence[Entry], *, at_ns: int, previous: Checkpoint | None = None, key: bytes | None = None
) -> Checkpoint:
    """Seal `entries`. `key`: an Ed25519 private key in PEM; needs the extra `sign`."""
    private = None if key is None else _private(key)
    key_id = None if private is None else _key_id(private.public_key())
    streams = tuple(sorted(entries))
    number = 1 if previous is None else previous.number + 1
    before = (NOTHING_BEFORE if previous is None else previous.hash).hex()
    body = _encode(Body(VERSION, number, at_ns, before, _digest(streams), key_id, streams))
    signature = None if private is None else private.sign(body)
    return Checkpoint(number, at_ns, body, _hash(body), signature, key_id)


def parse(checkpoint: Checkpoint) -> Body:
    """The body of a checkpoint that agrees with itself. Raises `BadCheckpoint`; says nothing about its signature."""
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
    """A checkpoint in the form in which it leaves the store. Raises `BadCheckpoint` when its body is not text."""
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


# -- keys -----------------------------------------------------------------------------------------------------------------


def new_key() -> tuple[bytes, bytes]:
    """A fresh Ed25519 key pair as (private, public), in PEM. Needs the extra `sign`."""
    _need_cryptography()
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.generate()
    return (
        private.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()),
        private.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo),
    )


def signed_by(checkpoint: Checkpoint, public_keys: Sequence[bytes]) -> bool:
    """Whether one of these keys (PEM) signed it. Needs the extra `sign`."""
    if checkpoint.signature is None:
        return False
    return any(_verifies(_public(key), checkpoint.signature, checkpoint.body) for key in public_keys)


def _verifies(key: Ed25519PublicKey, signature: bytes, body: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(signature, body)
    except InvalidSignature:
        return False
    return True


def _private(pem: bytes) -> Ed25519PrivateKey:
    _need_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key(pem, password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"checkpoints are signed with an Ed25519 key; this is {type(key).__name__}")
    return key


@functools.lru_cache(maxsize=8)
def _public(pem: bytes) -> Ed25519PublicKey:
    _need_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    key = load_pem_public_key(pem)
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError(f"checkpoints are signed with an Ed25519 key; this is {type(key).__name__}")
    return key


def _key_id(key: Ed25519PublicKey) -> str:
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def _need_cryptography() -> None:
    try:
        import cryptography  # noqa: F401  # only whether it is there
    except ImportError as error:
        raise ImportError(
            "signing checkpoints, and checking signatures, needs the package cryptography: pip install 'holdfast[sign]'"
        ) from error


def _digest(streams: tuple[Entry, ...]) -> str:
    return hashlib.sha256(_encode(streams)).hexdigest()


def _hash(body: bytes) -> bytes:
    return hashlib.sha256(_DOMAIN + body).digest()


# -- over a store -----------------------------------------------------------------------------------------------------------


class Sealer:
    """Writes the checkpoints of a store, and remembers what they cover: one entry of some hundred bytes for each stream.

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
        """Seal what grew since the last checkpoint, whoever wrote it. `None`: nothing grew, and nothing was written.

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
            return next(
                (checkpoint for checkpoint in snapshot.checkpoints() if checkpoint.number == number), None
            )

    def _next(self) -> Checkpoint | None:
        with self._store.snapshot() as snapshot:
            for checkpoint in snapshot.checkpoints():
                if self._last is None or checkpoint.number > self._last.number:
                    self._cover(checkpoint)
            grown = [
                entry
                for row in snapshot.runs()
                for entry in _heads(row.run, row.seq, row.hash, row.notes_seq, row.notes_hash)
            ]
        grown = [entry for entry in grown if entry.seq > self._sealed.get((entry.run, entry.stream), -1)]
        return build(grown, at_ns=self._now_ns(), previous=self._last, key=self._key) if grown else None

    def _cover(self, checkpoint: Checkpoint) -> None:
        for entry in parse(checkpoint).streams:
            self._sealed[entry.run, entry.stream] = entry.seq
        self._last = checkpoint


async def seal(store: Store, *, now_ns: Callable[[], int], key: bytes | None = None) -> Checkpoint | None:
    """Seal a store once; see `Sealer`."""
    return await Sealer(store, now_ns=now_ns, key=key).seal()


def audit(
    snapshot: Snapshot, found: Findings, *, public_keys: Sequence[bytes] = (), copy: Checkpoint | None = None
) -> None:
    """Check all checkpoints of a store: the chain, signatures, and each sealed head against the stored events.

    The events themselves are for `verify.verify`: a head is right only if the chain that leads to it is.
    """

    same: list[Checkpoint] = []

    def stored() -> Iterator[Checkpoint]:
        for checkpoint in snapshot.checkpoints():
            if copy is not None and checkpoint.number == copy.number:
                same.append(checkpoint)
            yield checkpoint

    def heads(body: Body) -> None:
        _audit_heads(snapshot, found, body)

    audit_chain(stored(), found, heads, public_keys=public_keys)
    if copy is None:
        return
    _audit_signature(found, copy, public_keys, signing=bool(public_keys))
    if not same:
        found.add("truncated", f"the exported checkpoint {copy.number} is not in the store", seq=copy.number)
        heads(parse(copy))
    elif same[0].hash != copy.hash:
        found.add("changed", f"checkpoint {copy.number} is not the one that was exported", seq=copy.number)
        heads(parse(copy))


def audit_chain(
    checkpoints: Iterable[Checkpoint],
    found: Findings,
    heads: Callable[[Body], None],
    *,
    public_keys: Sequence[bytes] = (),
    complete: bool = True,
) -> Checkpoint | None:
    """Check checkpoints against each other, and give the body of each sound one to `heads`. Returns the last.

    Args:
        complete: All of them are there; else only some are, in order, and gaps are none.
    """
    last: Checkpoint | None = None
    signing = False
    for checkpoint in checkpoints:
        found.checkpoints += 1
        number = checkpoint.number
        expected = 1 if last is None else last.number + 1
        if complete and number != expected:
            found.add("missing", f"checkpoint {expected} is gone, the next one is {number}", seq=expected)
        try:
            body = parse(checkpoint)
        except BadCheckpoint as error:
            found.add("changed", f"checkpoint {number}: {error}", seq=number)
        else:
            before = NOTHING_BEFORE if last is None else last.hash
            if number == expected and body.previous != before.hex():
                found.add(
                    "changed",
                    f"checkpoint {number} was made after another one than stands before it",
                    seq=number,
                )
            heads(body)
        signing = _audit_signature(found, checkpoint, public_keys, signing=signing)
        last = checkpoint
    if public_keys and last is not None and last.signature is None:
        found.add("missing", f"checkpoint {last.number}, the last one, is not signed", seq=last.number)
    return last


def _audit_signature(
    found: Findings, checkpoint: Checkpoint, public_keys: Sequence[bytes], *, signing: bool
) -> bool:
    """Once signed, always signed: what came before the first signature is covered by it, what comes after needs its own."""
    if checkpoint.signature is None:
        if public_keys and signing:
            found.add(
                "missing",
                f"checkpoint {checkpoint.number} is not signed, one before it is",
                seq=checkpoint.number,
            )
        return signing
    if public_keys and not signed_by(checkpoint, public_keys):
        found.add(
            "changed",
            f"checkpoint {checkpoint.number}: the signature is not by a given key",
            seq=checkpoint.number,
        )
    return True


def _audit_heads(snapshot: Snapshot, found: Findings, body: Body) -> None:
    for entry in body.streams:
        row = next(iter(snapshot.rows(entry.run, entry.stream, after=entry.seq - 1)), None)
        if row is None or row.seq != entry.seq:
            add_sealed(found, body.number, entry, gone=True)
        elif row.hash.hex() != entry.hash:
            add_sealed(found, body.number, entry, gone=False)


def add_sealed(found: Findings, number: int, entry: Entry, *, gone: bool) -> None:
    """The problem that checkpoint `number` convicts the event of."""
    damage: Damage = "missing" if gone else "changed"
    detail = f"checkpoint {number} sealed {'this event, it is gone' if gone else 'another event'}"
    found.add(damage, detail, run=entry.run, stream=entry.stream, seq=entry.seq)


def _heads(run: str, seq: int, head: bytes, notes_seq: int, notes_head: bytes) -> list[Entry]:
    heads = [Entry(run, Stream.RUN, seq, head.hex()), Entry(run, Stream.NOTES, notes_seq, notes_head.hex())]
    return [entry for entry in heads if entry.seq >= 0]
