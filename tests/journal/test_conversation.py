"""Conversations as chains of nodes."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import RedactedStep, StoreCorrupt, UnknownRun
from holdfast.journal import Journal, Note, blobs
from holdfast.journal.conversation import Conversation, assemble, read
from holdfast.journal.records import ModelOutcome
from holdfast.journal.redact import redact
from holdfast.model import Message, Opaque, Text, Thinking, ToolCall, ToolResult
from tests.journal.support import Ticks, complete, opened

SECRET = bytes(range(32))
json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
parts = (
    st.builds(Text, st.text())
    | st.builds(ToolCall, st.text(), st.text(), st.dictionaries(st.text(), json, max_size=3) | st.text())
    | st.builds(ToolResult, st.text(), st.text(), st.text(), st.booleans())
    | st.builds(Thinking, st.text(), st.none() | st.text())
    | st.builds(Opaque, st.text(), json)
)
messages = st.builds(
    Message, st.sampled_from(("system", "user", "assistant", "tool")), st.lists(parts, max_size=3).map(tuple)
)
turns = st.lists(st.lists(messages, max_size=3).map(tuple), min_size=1, max_size=6)


@given(turns)
def test_a_conversation_reads_back_as_it_was_extended(turns: list[tuple[Message, ...]]) -> None:
    conversation, node, nodes = Conversation(SECRET), None, dict[str, bytes]()
    for turn in turns:
        node, made = conversation.extend(node, turn)
        nodes |= {id.hex(): data for id, data in made}
    assert node is not None
    assert assemble(nodes, node) == tuple(message for turn in turns for message in turn)


@given(turns)
def test_the_same_turns_have_the_same_ids_and_are_not_made_again(turns: list[tuple[Message, ...]]) -> None:
    first = Conversation(SECRET)
    again = Conversation(SECRET, first.known)
    node = None
    for turn in turns:
        asked = node
        node, made = first.extend(asked, turn)
        assert first.extend(asked, turn) == (node, made)
        first.stored(made)
        assert again.extend(asked, turn) == (node, ())


def test_a_conversation_is_stored_in_linear_space() -> None:
    def stored(turns: int) -> int:
        conversation, node, size = Conversation(SECRET), None, 0
        for number in range(turns):
            node, made = conversation.extend(node, (Message("user", (Text(f"turn {number} " * 50),)),))
            size += sum(len(data) for _, data in made)
        return size

    assert stored(40) / stored(10) < 4.5


def test_the_id_of_a_node_names_the_whole_conversation() -> None:
    conversation = Conversation(SECRET)
    last = (Message("user", (Text("and then?"),)),)
    ids = {conversation.extend(before, last)[0] for before in (None, "00" * 32, "11" * 32)}
    assert len(ids) == 3


async def test_a_stored_conversation_is_read_and_checked(tmp_path: Path) -> None:
    async with opened(tmp_path / "holdfast.db") as store:
        journal = Journal(store, Ticks())
        await complete(journal, "a", turns=3)
        node = (await journal.events("a"))[4].payload(ModelOutcome).reply
        read_back = await read(store, "a", node)
        assert [message.role for message in read_back] == ["user", "assistant"] * 3
        assert read_back[-1].text == "because of 2"
        with pytest.raises(UnknownRun):
            await read(store, "nobody", node)
        with pytest.raises(StoreCorrupt, match="missing"):
            await read(store, "a", "00" * 32)
        await redact(journal, "a", by="ana", why="asked to")
        with pytest.raises(RedactedStep):
            await read(store, "a", node)


async def test_a_damaged_node_is_not_read(tmp_path: Path) -> None:
    async with opened(tmp_path / "holdfast.db") as store:
        journal = Journal(store, Ticks())
        await complete(journal, "a", turns=1)
        row = await journal.run("a")
        assert row.secret is not None
        node = (await journal.events("a"))[2].payload(ModelOutcome).reply
        address, stored = blobs.make(row.secret, b'{"type":"node","previous":"' + node.encode() + b'","messages":[]}')
        note = await journal.seal_note("a", "note.score", Note("helpful", by="ana"))
        forged = (bytes(32), stored)
        await store.append(msgspec.structs.replace(note, blobs=((address, stored), forged)))
        assert len(await read(store, "a", address.hex())) == 2
        with pytest.raises(StoreCorrupt, match="does not belong to this address"):
            await read(store, "a", bytes(32).hex())
