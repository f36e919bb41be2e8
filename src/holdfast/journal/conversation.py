"""Conversations: a chain of nodes, each with the messages that came since the one before.

    node = {"type": "node", "previous": id of the node before | null, "messages": [...]}

A node is a blob of the run (see `blobs`), so a conversation of n turns is stored in O(n), whatever the number
of model calls that were made with it. The id of a node names the whole conversation up to it: the id of the
node before is part of what is hashed. Where the messages are cut into nodes is part of the id too, so a
replay must cut where the first execution cut: at each model call, before the call (what it was asked) and
after it (its reply).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from ..errors import RedactedStep, StoreCorrupt, UnknownRun
from ..model import Message
from ..store import Store
from . import blobs

NODE_PREFIX: Final = b'{"type":"node"'


class Node(msgspec.Struct, frozen=True, tag_field="type", tag="node"):
    """`previous`: hex id of the node before; `None`: the conversation begins here."""

    previous: str | None
    messages: tuple[Message, ...]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Node).decode


class Conversation:
    """Makes the nodes of one run.

    Args:
        secret: Of the run; it keys the ids.
        known: Ids that the run's blobs have already; `extend` does not make them again. Add to it with
            `stored` once the append that carried the blobs is acknowledged, not before: it may fail.
    """

    __slots__ = ("_secret", "known")

    def __init__(self, secret: bytes, known: set[bytes] | None = None) -> None:
        self._secret = secret
        self.known = set() if known is None else known

    def extend(
        self, previous: str | None, messages: tuple[Message, ...]
    ) -> tuple[str, tuple[tuple[bytes, bytes], ...]]:
        """The id of the conversation `previous` with `messages` after it, and the blobs to store with the
        event that names it.

        Pure: the same arguments give the same id in every process. No messages: the id of `previous`, if
            there is one.
        """
        if previous is not None and not messages:
            return previous, ()
        blob = blobs.make(self._secret, _encode(Node(previous, messages)))
        return blob[0].hex(), () if blob[0] in self.known else (blob,)

    def stored(self, made: tuple[tuple[bytes, bytes], ...]) -> None:
        """These blobs are durable: they are not made again."""
        self.known.update(id for id, _ in made)


def assemble(nodes: Mapping[str, bytes], node: str) -> tuple[Message, ...]:
    """The messages of a conversation from stored nodes by hex id. Raises `KeyError` (the missing node), `BadBlob`."""
    turns: list[tuple[Message, ...]] = []
    at: str | None = node
    while at is not None:
        if len(turns) == len(nodes):
            raise blobs.BadBlob("the nodes form a circle")
        at, messages = parse(blobs.content_of(nodes[at]))
        turns.append(messages)
    return tuple(message for turn in reversed(turns) for message in turn)


async def read(store: Store, run: str, node: str) -> tuple[Message, ...]:
    """The messages of the conversation that ends at `node` (a hex id), oldest first. Every node is checked
    against its id.

    Raises:
        UnknownRun: No such run.
        RedactedStep: The content of the run was redacted.
        StoreCorrupt: A node is missing or damaged; `holdfast audit verify` lists all.
    """
    secret = await secret_of(store, run, node)
    turns: list[tuple[Message, ...]] = []
    at: str | None = node
    while at is not None:
        try:
            previous, messages = parse(await fetch(store, run, secret, at))
        except blobs.BadBlob as error:
            raise StoreCorrupt(store.address, f"run {run}, conversation node {at}: {error}") from error
        turns.append(messages)
        at = previous
    return tuple(message for turn in reversed(turns) for message in turn)


async def secret_of(store: Store, run: str, blob: str) -> bytes:
    """What keys the blobs of a run. Raises `UnknownRun`, or `RedactedStep` that names `blob`."""
    row = await store.run(run)
    if row is None:
        raise UnknownRun(run, store.address)
    if row.secret is None:
        raise RedactedStep(run, f"with blob {blob}")
    return row.secret


async def fetch(store: Store, run: str, secret: bytes, id: str) -> bytes:
    """The content of one blob of a run. Raises `StoreCorrupt` (it is missing) or `BadBlob` (it is damaged)."""
    address = bytes.fromhex(id)
    found = await store.blobs(run, (address,))
    if address not in found:
        raise StoreCorrupt(store.address, f"run {run}: blob {id} is missing")
    return blobs.check(secret, address, found[address])


def parse(content: bytes) -> tuple[str | None, tuple[Message, ...]]:
    """The id of the node before, and the messages of a node. Raises `BadBlob`."""
    try:
        node = _decode(content)
    except msgspec.DecodeError as error:
        raise blobs.BadBlob(f"not a node of a conversation: {error}") from error
    return node.previous, node.messages
