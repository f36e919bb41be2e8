"""Raw model traffic, byte for byte, without quadratic growth.

Each request of a conversation repeats the ones before it. A request is therefore kept as what it does not
share with the request before it in the same conversation, at its beginning and at its end:

    blob  = magic || base id (32 bytes, zeros: none) || prefix length || suffix length || middle
    bytes = base[:prefix] + middle + base[len(base) - suffix:]

Lengths are 4 bytes, big-endian. Nothing is parsed or rendered again, so rebuilding is exact for any bytes.
Blobs as in `blobs`: of one run, keyed by its secret.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final, NamedTuple

from ..errors import StoreCorrupt
from ..store import Store
from . import blobs
from .conversation import fetch, secret_of

MAGIC: Final = b"\x00raw1"
_LAYOUT: Final = struct.Struct(f">{len(MAGIC)}s{blobs.ID_BYTES}sII")
_NO_BASE: Final = bytes(blobs.ID_BYTES)
_WORTH_SHARING: Final = 256  # below this many shared bytes the dependency costs more than it saves


class Kept(NamedTuple):
    """Bytes that are kept, and the hex id under which: the base for what comes next."""

    id: str
    data: bytes


class Delta(NamedTuple):
    """A parsed blob. `base`: hex id; `None`: `middle` is all."""

    base: str | None
    prefix: int
    suffix: int
    middle: bytes

    def apply(self, base: bytes) -> bytes:
        return base[: self.prefix] + self.middle + base[len(base) - self.suffix :]


def keep(secret: bytes, data: bytes, base: Kept | None = None) -> tuple[Kept, tuple[bytes, bytes]]:
    """`data` as a blob of the run that is stored next to `base` (the request before, of the same run). Pure.

    Returns: What to pass as `base` for the next request, and the blob as (address, stored bytes).
    """
    prefix = suffix = 0
    if base is not None:
        prefix = common_prefix(base.data, data)
        suffix = common_suffix(base.data, data, at_most=min(len(base.data), len(data)) - prefix)
    if base is None or prefix + suffix < _WORTH_SHARING:
        blob = blobs.make(secret, _LAYOUT.pack(MAGIC, _NO_BASE, 0, 0) + data)
    else:
        head = _LAYOUT.pack(MAGIC, bytes.fromhex(base.id), prefix, suffix)
        blob = blobs.make(secret, head + data[prefix : len(data) - suffix])
    return Kept(blob[0].hex(), data), blob


def parse(content: bytes) -> Delta:
    """The delta in the content of a blob. Raises `BadBlob`."""
    if len(content) < _LAYOUT.size or not content.startswith(MAGIC):
        raise blobs.BadBlob("not raw traffic")
    _, base, prefix, suffix = _LAYOUT.unpack_from(content)
    return Delta(None if base == _NO_BASE else base.hex(), prefix, suffix, content[_LAYOUT.size :])


def rebuild(deltas: Mapping[str, Delta], id: str) -> bytes:
    """The bytes kept under a hex id. Raises `KeyError` (the missing delta), or `BadBlob` for a circle."""
    chain = [deltas[id]]
    while chain[-1].base is not None:
        if len(chain) > len(deltas):
            raise blobs.BadBlob("the deltas form a circle")
        chain.append(deltas[chain[-1].base])
    data = b""
    for delta in reversed(chain):
        data = delta.apply(data)
    return data


async def read(store: Store, run: str, id: str) -> bytes:
    """The bytes as they were sent or received, kept under a hex id. Raises as `conversation.read`."""
    secret = await secret_of(store, run, id)
    deltas: dict[str, Delta] = {}
    at: str | None = id
    while at is not None:
        try:
            deltas[at] = parse(await fetch(store, run, secret, at))
        except blobs.BadBlob as error:
            raise StoreCorrupt(store.address, f"run {run}, raw traffic {at}: {error}") from error
        at = deltas[at].base
    return rebuild(deltas, id)


def common_prefix(a: bytes, b: bytes) -> int:
    """How many bytes two byte strings share at their beginning; each byte is compared about twice."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def common_suffix(a: bytes, b: bytes, *, at_most: int) -> int:
    """How many bytes two byte strings share at their end."""
    low, high = 0, at_most
    while low < high:
        middle = (low + high + 1) // 2
        if a[len(a) - middle : len(a) - low] == b[len(b) - middle : len(b) - low]:
            low = middle
        else:
            high = middle - 1
    return low
