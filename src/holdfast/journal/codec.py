"""From records to stored bytes and back. Pure but for the salts.

Payloads above `COMPRESS_FROM` bytes are stored as one zstd frame; the frame's magic number tells them from JSON.
"""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec
import zstandard

from ..trust import Label
from .records import SCHEMA, Header, ModelOutcome

T = TypeVar("T")

COMPRESS_FROM: Final = 4096
MAX_PAYLOAD_BYTES: Final = 16 * 1024 * 1024
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"

_encode = msgspec.json.Encoder().encode
_header_decoder = msgspec.json.Decoder(Header)
_decoders: dict[type, msgspec.json.Decoder[object]] = {}


def encode(record: object) -> bytes:
    """A record as JSON bytes."""
    return _encode(record)


def pack(data: bytes) -> bytes:
    """The stored form of payload or blob bytes."""
    # A compressor is not safe to share between threads and costs microseconds to make: made only for what is large.
    return data if len(data) < COMPRESS_FROM else zstandard.ZstdCompressor(level=3).compress(data)


def unpack(stored: bytes) -> bytes:
    """The bytes behind a stored form."""
    if stored[:4] != _ZSTD_MAGIC:
        return stored
    if zstandard.frame_content_size(stored) > 4 * MAX_PAYLOAD_BYTES:  # the size is only claimed
        raise msgspec.DecodeError("a stored payload claims to unpack to more than any payload holds")
    return zstandard.ZstdDecompressor().decompress(stored, max_output_size=4 * MAX_PAYLOAD_BYTES)


def decode(stored: bytes, kind: type[T]) -> T:
    """A stored payload as a record. Raises `msgspec.DecodeError` when it is none."""
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    return decoder.decode(unpack(stored))  # type: ignore[return-value]  # the cache is keyed by the very type


def decode_header(stored: bytes) -> Header:
    return _header_decoder.decode(stored)


def encode_header(
    run: str,
    stream: int,
    seq: int,
    epoch: int,
    kind: str,
    path: str,
    name: str,
    at_ns: int,
    label: Label,
    digest: str,
    size: int,
) -> bytes:
    return _encode(Header(SCHEMA, run, stream, seq, epoch, kind, path, name, at_ns, label, digest, size))


def columns(kind: str, payload: bytes | None) -> tuple[int | None, int | None, int | None]:
    """The queried columns that come from the payload: cost in micro-dollars, input tokens, output tokens."""
    if kind != "model.completed" or payload is None:
        return None, None, None
    outcome = decode(payload, ModelOutcome)
    if outcome.usage is None:
        return outcome.cost_microusd, None, None
    return outcome.cost_microusd, outcome.usage.input_tokens, outcome.usage.output_tokens
