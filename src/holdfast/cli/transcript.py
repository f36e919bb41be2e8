"""What a model was asked and said, from the stored conversation of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from ..errors import HoldfastError
from ..journal.blobs import BadBlob
from ..journal.conversation import fetch, parse
from ..journal.records import ModelOutcome
from ..model import Message, Opaque, Text, Thinking, ToolCall, ToolResult
from ..runtime import App
from .words import safe, shortened, to_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One model call: the messages that were new to the model, and its reply. `unread`: why they can't be shown."""

    asked: tuple[Message, ...] = ()
    reply: tuple[Message, ...] = ()
    unread: str | None = None

    def json(self) -> dict[str, Any]:  # Any: JSON
        if self.unread is not None:
            return {"unread": self.unread}
        return {"asked": msgspec.to_builtins(self.asked), "reply": msgspec.to_builtins(self.reply)}


class Transcript:
    """Reads the model calls of one run in order; every stored node is read once."""

    def __init__(self, app: App, run: str, secret: bytes | None) -> None:
        self._app = app
        self._run = run
        self._secret = secret
        self._shown: set[str] = set()

    async def turn(self, outcome: ModelOutcome, *, asked: bool) -> Turn:
        """The turn of a model call; without what was asked unless `asked`."""
        if self._secret is None:
            return Turn(unread="the messages were redacted")
        try:
            news: list[tuple[Message, ...]] = []
            at: str | None = outcome.conversation if asked else None
            while at is not None and at not in self._shown:
                self._shown.add(at)
                at, messages = await self._node(at)
                news.append(messages)
            self._shown.add(outcome.reply)
            _, reply = await self._node(outcome.reply)
        except (BadBlob, HoldfastError, ValueError) as error:
            return Turn(unread=f"the messages can't be read: {error}")
        return Turn(asked=tuple(message for turn in reversed(news) for message in turn), reply=reply)

    async def _node(self, id: str) -> tuple[str | None, tuple[Message, ...]]:
        assert self._secret is not None
        return parse(await fetch(self._app.store, self._run, self._secret, id))


def message_texts(message: Message) -> list[str]:
    """The parts of a message as text, not yet safe: what was said, called, answered."""
    return [_part_text(part) for part in message.parts]


def brief_reply(reply: tuple[Message, ...], limit: int) -> str:
    """A reply on one safe line."""
    return shortened(" | ".join(text for message in reply for text in message_texts(message)), limit)


def _part_text(part: Text | ToolCall | ToolResult | Thinking | Opaque) -> str:
    match part:
        case Text():
            return part.text
        case ToolCall():
            arguments = part.arguments if isinstance(part.arguments, str) else to_json(part.arguments)
            return f"calls {part.name}({arguments})"
        case ToolResult():
            return f"{part.name} {'gave' if part.ok else 'FAILED'}: {part.content}"
        case Thinking():
            return f"(thinking) {part.text}"
        case Opaque():
            return f"({safe(part.kind)}) {to_json(part.data)}"
