"""Blobs: content that many events share, stored once.

    per run   address = HMAC-SHA256(secret of the run, content)   messages and raw traffic
    shared    address = SHA-256(content)                          instructions and tool schemas

Without the secret of a run nobody can test a guess against an address; shared blobs belong to no run and hold
nothing of one.

The address is over the content and not over the stored form, so that the same content has the same address
whatever version of zstd packed it: a run that is replayed finds its own nodes. A compressed blob is a zstd
frame followed by a skippable frame with a tag over the first, because some bits of a frame can change without
changing what it unpacks to, and because a frame must not be unpacked before it is known to be ours (it could
claim any size). Any zstd tool reads it.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

import zstandard

from . import codec

ID_BYTES: Final = 32
SECRET_BYTES: Final = 32
MOST_BYTES: Final = 4 * codec.MAX_PAYLOAD_BYTES
"""No blob holds more: what would unpack to more is refused on both ways."""
_TAG_BYTES: Final = 16
_TRAILER: Final = b"\x50\x2a\x4d\x18" + _TAG_BYTES.to_bytes(4, "little")  # a skippable frame of 16 bytes
_TRAILER_BYTES: Final = len(_TRAILER) + _TAG_BYTES
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"


class BadBlob(ValueError):
    """The stored bytes are not what was stored under this address."""


def make(secret: bytes, content: bytes) -> tuple[bytes, bytes]:
    """A blob of a run, as (address, stored bytes)."""
    return hmac.digest(secret, content, "sha256"), _stored(content, secret)


def make_shared(content: bytes) -> tuple[bytes, bytes]:
    """A blob that is shared over the store, as (address, stored bytes)."""
    return hashlib.sha256(content).digest(), _stored(content, b"")


def content_of(stored: bytes) -> bytes:
    """The content of a blob as the store gave it back, unchecked. Raises `BadBlob` when it does not unpack."""
    return _unpack(stored) if stored[:4] == _ZSTD_MAGIC else stored


def check(secret: bytes, address: bytes, stored: bytes) -> bytes:
    """The content of a blob of a run, when address and stored bytes are unchanged. Raises `BadBlob`."""
    plain = _checked(stored, secret)
    if hmac.digest(secret, plain, "sha256") != address:
        raise BadBlob("the content does not belong to this address")
    return plain


def check_shared(address: bytes, stored: bytes) -> bytes:
    """The content of a shared blob, when address and stored bytes are unchanged. Raises `BadBlob`."""
    plain = _checked(stored, b"")
    if hashlib.sha256(plain).digest() != address:
        raise BadBlob("the content does not belong to this address")
    return plain


def _stored(content: bytes, secret: bytes) -> bytes:
    if len(content) > MOST_BYTES:
        raise BadBlob(f"{len(content):,} bytes are more than a blob holds")
    packed = codec.pack(content)
    if packed is content and content[:4] != _ZSTD_MAGIC:
        return content
    if packed is content:  # short content that looks like a frame would be taken for one
        packed = zstandard.ZstdCompressor().compress(content)
    return packed + _TRAILER + _tag(packed, secret)


def _tag(packed: bytes, secret: bytes) -> bytes:
    return hmac.digest(secret, b"stored\x00" + packed, "sha256")[:_TAG_BYTES]


def _checked(stored: bytes, secret: bytes) -> bytes:
    if stored[:4] != _ZSTD_MAGIC:
        return stored
    packed = stored[:-_TRAILER_BYTES]
    if stored[len(packed) :] != _TRAILER + _tag(packed, secret):
        raise BadBlob("the compressed bytes were changed")
    return _unpack(packed)


def _unpack(packed: bytes) -> bytes:
    try:
        if zstandard.frame_content_size(packed) > MOST_BYTES:  # the size is only claimed
            raise BadBlob("it would unpack to more than any blob holds")
        return zstandard.ZstdDecompressor().decompress(packed, max_output_size=MOST_BYTES)
    except zstandard.ZstdError as error:
        raise BadBlob(f"it does not unpack: {error}") from error
