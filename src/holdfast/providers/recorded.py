"""A model that answers from recorded conversations, and only where a request continues one of them exactly.

A request is looked up by a hash chain over its messages, so that each costs one pass over the request
whatever the number of recordings. What is compared, message by message: role, text, tool calls (id, name,
arguments), tool results (call id, content, ok) and parts of unknown kind. Not compared: thinking, how tool
results are grouped into messages, instructions, tools and settings (another version of an agent may be run
against the recording of an older one).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TypeAlias

import msgspec

from ..errors import RecordingMismatch
from ..model import Message, ModelReply, ModelRequest, Opaque, Text, ToolResult

Turn: TypeAlias = Message | ModelReply
"""One entry of a recorded conversation. A `ModelReply` is an assistant message with what else is known of
it: usage, served model, raw bytes. An assistant `Message` is a reply of which nothing more is known."""

SHOWN_CHARS = 120
_START = b""


class RecordedModel:
    """Answers from recorded runs; never guesses.

    Args:
        name: The route, such as `"recorded:gpt-4.1"`.
        conversations: Recorded conversations by key. Every assistant turn in one is the reply to all that
            precedes it.
        key: Answer from this conversation alone.
    Raises:
        KeyError: There is no conversation of that key.
    """

    def __init__(self, name: str, conversations: Mapping[str, Sequence[Turn]], *, key: str | None = None) -> None:
        self._name = name
        self._index = _Index(conversations)
        self._key = self._index.known_key(key)

    @property
    def name(self) -> str:
        return self._name

    def for_conversation(self, key: str) -> RecordedModel:
        """The same recordings, answering from the conversation `key` alone. The index is shared, not built
        again.

        Raises:
            KeyError: There is no conversation of that key.
        """
        other = object.__new__(RecordedModel)
        other._name, other._index, other._key = self._name, self._index, self._index.known_key(key)
        return other

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Return the recorded reply to exactly these messages.

        Raises:
            RecordingMismatch: No recording continues here, or several do and differ. The message names the
                nearest recording and the first difference. Nothing was sent.
        """
        asked = _entries(request.messages)
        replies = self._index.replies(asked, self._key)
        if not replies:
            raise self._mismatch(self._index.explain(asked, self._key))
        first, *others = replies.values()
        if any(other != first for other in others):
            keys = ", ".join(sorted(replies)[:5])
            raise self._mismatch(
                f"{len(replies)} recordings begin with these {len(asked)} messages and differ in the reply "
                f"({keys}). None was chosen; name the one with for_conversation(key)"
            )
        return first

    def _mismatch(self, message: str) -> RecordingMismatch:
        return RecordingMismatch(self._name, message, sent=False)

    def __repr__(self) -> str:
        return f"<model {self._name}: {len(self._index.conversations)} recordings, key {self._key!r}>"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """A message, or one tool result of a message, and the bytes of it that are compared."""

    source: Message | ToolResult
    compared: bytes

    def __str__(self) -> str:
        if isinstance(self.source, ToolResult):
            kind = "tool result" if self.source.ok else "tool failure"
            return f"{kind} {self.source.call_id}: {self.source.content}"
        said = [f": {self.source.text}"] if self.source.text else []
        said += [f" calls {c.id} {c.name}{_canonical(c.arguments).decode()}" for c in self.source.tool_calls]
        return self.source.role + ("".join(said) or " message without text")


class _Index:
    def __init__(self, conversations: Mapping[str, Sequence[Turn]]) -> None:
        self.conversations: dict[str, tuple[_Entry, ...]] = {}
        self._replies: dict[bytes, dict[str, ModelReply]] = {}
        self._reached: dict[bytes, list[str]] = {}
        for key, turns in conversations.items():
            self._add(key, turns)

    def _add(self, key: str, turns: Sequence[Turn]) -> None:
        entries: list[_Entry] = []
        digest = _START
        self._reached.setdefault(digest, []).append(key)
        for turn in turns:
            reply = _as_reply(turn)
            if reply is not None:
                self._replies.setdefault(digest, {})[key] = reply
            for entry in _entries([_as_message(turn)]):
                entries.append(entry)
                digest = _chained(digest, entry)
                self._reached.setdefault(digest, []).append(key)
        self.conversations[key] = tuple(entries)

    def known_key(self, key: str | None) -> str | None:
        if key is not None and key not in self.conversations:
            raise KeyError(f"no recorded conversation {key!r}; there are {len(self.conversations)}")
        return key

    def replies(self, asked: Sequence[_Entry], key: str | None) -> Mapping[str, ModelReply]:
        """The replies that were recorded after exactly `asked`, by conversation."""
        found = self._replies.get(_digests(asked)[-1], {})
        if key is None:
            return found
        return {key: found[key]} if key in found else {}

    def explain(self, asked: Sequence[_Entry], key: str | None) -> str:
        """Where the nearest recording and the request part."""
        for same, digest in reversed([*enumerate(_digests(asked))]):
            keys = [k for k in self._reached.get(digest, ()) if key in (None, k)]
            if keys:
                return self._difference(asked, min(keys), same)
        return "there is no recording"

    def _difference(self, asked: Sequence[_Entry], nearest: str, same: int) -> str:
        recorded = self.conversations[nearest]
        has = str(recorded[same]) if same < len(recorded) else "the end of the conversation"
        asks = str(asked[same]) if same < len(asked) else "the model's reply"
        has, asks = _around_difference(has, asks)
        return (
            f"no recording continues this conversation. The nearest is {nearest!r}: the same up to message "
            f"{same}; as message {same + 1} it has {has!r}, asked was {asks!r}. Look at what changed before "
            "that message, or record it anew"
        )


def _as_message(turn: Turn) -> Message:
    return turn.message if isinstance(turn, ModelReply) else turn


def _as_reply(turn: Turn) -> ModelReply | None:
    if isinstance(turn, ModelReply):
        return turn
    return ModelReply(parts=turn.parts) if turn.role == "assistant" else None


def _entries(messages: Iterable[Message]) -> list[_Entry]:
    entries: list[_Entry] = []
    for message in messages:
        results = [part for part in message.parts if isinstance(part, ToolResult)]
        entries.extend(_result_entry(result) for result in results)
        # Some record a message for each tool result, some one for all: results are compared one by one.
        if not results or any(isinstance(part, Text | Opaque) for part in message.parts):
            entries.append(_message_entry(message))
    return entries


def _result_entry(result: ToolResult) -> _Entry:
    return _Entry(source=result, compared=_canonical(["tool", result.call_id, result.content, result.ok]))


def _message_entry(message: Message) -> _Entry:
    calls = [(call.id, call.name, call.arguments) for call in message.tool_calls]
    unknown = [(part.kind, part.data) for part in message.parts if isinstance(part, Opaque)]
    return _Entry(source=message, compared=_canonical([message.role, message.text, calls, unknown]))


def _canonical(value: object) -> bytes:
    return msgspec.json.encode(value, order="deterministic")


def _chained(digest: bytes, entry: _Entry) -> bytes:
    return blake2b(digest + blake2b(entry.compared, digest_size=16).digest(), digest_size=16).digest()


def _digests(entries: Iterable[_Entry]) -> list[bytes]:
    """The digest of every prefix, the empty one first."""
    digests = [_START]
    for entry in entries:
        digests.append(_chained(digests[-1], entry))
    return digests


def _around_difference(one: str, other: str) -> tuple[str, str]:
    """Both texts shortened to what surrounds the first character in which they differ."""
    start = max(0, _common_length(one, other) - SHOWN_CHARS // 4)
    return _window(one, start), _window(other, start)


def _common_length(one: str, other: str) -> int:
    differ = (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(differ, min(len(one), len(other)))


def _window(text: str, start: int) -> str:
    before = "..." if start else ""
    after = "..." if len(text) > start + SHOWN_CHARS else ""
    return f"{before}{text[start : start + SHOWN_CHARS]}{after}"
