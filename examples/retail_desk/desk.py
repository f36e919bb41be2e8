"""The desk: an agent in conversation, with a recorded model that answers as it really did."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import holdfast as hf
from holdfast.errors import RecordingMismatch
from holdfast.model import Message, ModelReply, ModelRequest, Part, Text, ToolCall, ToolResult
from holdfast.providers import RecordedModel
from holdfast.runtime import Workflow
from retail_desk import client, recordings
from retail_desk.recordings import Recording
from retail_desk.tools import DESK, TOOLS, Desk

MAX_STEPS: Final = 40
GOODBYES: Final = ("###STOP###", "###TRANSFER###", "###OUT-OF-SCOPE###")
"""How a recorded customer ends the conversation. No model answers that message."""
HANG_UP: Final = GOODBYES[0]


@dataclass(frozen=True, kw_only=True)
class Visit:
    """One customer's conversation: who they are among the recordings, and where their database answers."""

    session: str
    socket: str
    greeting: str
    """What the desk says first."""


def make_desk(model_name: str, policy: str, recorded: Mapping[str, Recording]) -> Workflow[[Visit], int]:
    """The workflow that serves one visit, with the recorded model behind it."""
    agent: hf.Agent[None] = hf.Agent(
        "retail-desk",
        model=[WatchedModel(model_name, recorded)],
        instructions=policy,
        tools=TOOLS,
        max_steps=MAX_STEPS,
    )

    @hf.workflow(version="1", success="the database is as an ideal agent would have left it")
    async def retail_desk(visit: Visit) -> int:
        """Serve one customer until they say goodbye. Returns the number of their turns."""
        DESK.set(Desk(socket=Path(visit.socket), session=visit.session))
        chat = agent.chat()
        if visit.greeting:
            chat.heard(visit.greeting, role="assistant")
        turns = 0
        while True:
            said = await hf.reply()
            if any(goodbye in said for goodbye in GOODBYES):
                return turns
            turns += 1
            await chat.say(said)

    return retail_desk


class WatchedModel:
    """The recorded model of each session. It reports to the database when a turn begins and what it reads.

    Where a request continues the recording exactly, the answer is the recorded one. Where it does not (a tool
    result reads otherwise), that is reported, and the answer is the recorded one of the same turn.
    """

    def __init__(self, name: str, recorded: Mapping[str, Recording]) -> None:
        self._recorded = recorded
        self._strict = RecordedModel(
            f"recorded:{name}", {session: _messages(recording) for session, recording in recorded.items()}
        )

    @property
    def name(self) -> str:
        return self._strict.name

    async def complete(self, request: ModelRequest) -> ModelReply:
        desk = DESK.get()
        recording = self._recorded[desk.session]
        said = sum(message.role == "assistant" for message in request.messages)
        turn = said - bool(recording.greeting)
        await self._report(desk, "model", str(turn))
        for number, text in enumerate(_unanswered(request.messages), start=1):
            await self._report(desk, "read", json.dumps([turn - 1, number, text]))
        try:
            return await self._strict.for_conversation(desk.session).complete(request)
        except RecordingMismatch as mismatch:
            await self._report(desk, "mismatch", str(mismatch))
        if turn < len(recording.replies):
            return ModelReply(parts=_parts(recording.replies[turn]))
        return ModelReply(parts=(Text("(The recording ends here.)"),))

    async def _report(self, desk: Desk, kind: str, what: str) -> None:
        await client.ask(desk.socket, {"op": "mark", "session": desk.session, "kind": kind, "what": what})


def _messages(recording: Recording) -> list[Message]:
    names = {call.id: call.name for call in recording.calls.values()}
    return [_message(message, names) for message in recording.messages]


def _message(recorded: recordings.Message, names: Mapping[str, str]) -> Message:
    match recorded.role:
        case "tool":
            call_id, content = recorded.id or "", recorded.content or ""
            ok = not recorded.error
            return Message("tool", (ToolResult(call_id, names.get(call_id, ""), content, ok=ok),))
        case "assistant":
            return Message("assistant", _parts(recorded))
        case _:
            return Message("user", (Text(recorded.content or ""),))


def _parts(recorded: recordings.Message) -> tuple[Part, ...]:
    text = (Text(recorded.content),) if recorded.content else ()
    return (*text, *(ToolCall(call.id, call.name, call.arguments) for call in recorded.tool_calls or ()))


def _unanswered(messages: tuple[Message, ...]) -> list[str]:
    """The tool results since the model spoke last."""
    texts: list[str] = []
    for message in messages:
        if message.role == "assistant":
            texts.clear()
        texts.extend(part.content for part in message.parts if isinstance(part, ToolResult))
    return texts
