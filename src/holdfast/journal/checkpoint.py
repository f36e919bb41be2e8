"""Checkpoints: seals over the heads of all streams, chained, signed when there is a key. Pure.

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

import functools
import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from ..store import Checkpoint, Stream

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

VERSION: Final = 1
NOTHING_BEFORE: Final = bytes(32)
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
    private = None if key is None else _private(key)
    key_id = None if private is None else _key_id(private.public_key())
    streams = tuple(sorted(entries))
    number = 1 if previous is None else previous.number + 1
    before = (NOTHING_BEFORE if previous is None else previous.hash).hex()
    body = _encode(Body(VERSION, number, at_ns, before, _digest(streams), key_id, streams))
    signature = None if private is None else private.sign(body)
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
