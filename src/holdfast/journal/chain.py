"""The hash chain of a stream. Law 9: the chain tells.

digest  = SHA-256(salt || stored payload)      a commitment: a redacted payload can't be guessed from it
hash[n] = SHA-256(hash[n-1] || stored header)  the header holds the digest, so the hash covers both
hash[-1] = SHA-256(domain || run || stream)    a stream can't pass for another one
"""

from __future__ import annotations

import hashlib
from os import urandom

_DOMAIN = b"holdfast/1/stream\x00"
SALT_BYTES = 16


def genesis(run: str, stream: int) -> bytes:
    """The hash that the first event of a stream is chained on."""
    return hashlib.sha256(_DOMAIN + run.encode() + b"\x00" + bytes((stream,))).digest()


def link(previous: bytes, header: bytes) -> bytes:
    """The hash of an event."""
    return hashlib.sha256(previous + header).digest()


def commitment(salt: bytes, payload: bytes) -> str:
    """The digest of a stored payload, in hex."""
    return hashlib.sha256(salt + payload).hexdigest()


class Salts:
    """Random bytes, drawn from the system in blocks: one system call for 256 events instead of one each."""

    def __init__(self) -> None:
        self._block = b""
        self._used = 0

    def draw(self, size: int = SALT_BYTES) -> bytes:
        """`size` bytes (at most a block) that nobody else gets."""
        if self._used + size > len(self._block):
            self._block, self._used = urandom(SALT_BYTES * 256), 0
        self._used += size
        return self._block[self._used - size : self._used]
