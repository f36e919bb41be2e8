"""A model that says what a test tells it to."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from ..errors import ModelError
from ..model import ModelReply, ModelRequest, Part, Text, ToolCall

Scripted: TypeAlias = ModelReply | str | ToolCall | Sequence[ToolCall] | Exception
"""One reply of a script: a whole reply, a text, tool calls, or an error to raise."""

Script: TypeAlias = Sequence[Scripted] | Callable[[ModelRequest], Scripted | Awaitable[Scripted]]


class ScriptedModel:
    """Follows a script, with no wire and no cost.

    Args:
        script: Replies in the order of the calls, or a function of the request, plain or async. A list is
            used up call by call, whoever calls: for runs that go on after a crash, or side by side, take a
            function.
        name: The route that is recorded.

    What the script leaves open stays `None`: usage, served model, raw bytes.
    """

    def __init__(self, script: Script, name: str = "scripted:test") -> None:
        self._script = script
        self._name = name
        self._requests: list[ModelRequest] = []

    @property
    def name(self) -> str:
        return self._name

    @property
    def calls(self) -> int:
        """How often it was asked, errors included."""
        return len(self._requests)

    @property
    def requests(self) -> tuple[ModelRequest, ...]:
        """What it was asked, oldest first."""
        return tuple(self._requests)

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Return the next reply, or raise the error that stands in its place.

        Raises:
            ModelError: The list is used up.
            TypeError: The script gave something that is no reply.
        """
        self._requests.append(request)
        given = await self._next(request)
        if isinstance(given, Exception):
            raise given
        return given if isinstance(given, ModelReply) else ModelReply(parts=_parts(given))

    async def _next(self, request: ModelRequest) -> Scripted:
        if callable(self._script):
            given = self._script(request)
            return await given if inspect.isawaitable(given) else given
        if self.calls > len(self._script):
            raise ModelError(
                self._name,
                f"the script has {len(self._script)} replies and this is call {self.calls}; the last "
                f"message was {_last_text(request)!r}. Add a reply, or look why the model is asked again",
                sent=False,
            )
        return self._script[self.calls - 1]

    def __repr__(self) -> str:
        return f"<model {self._name}: {self.calls} calls>"


def _parts(given: str | ToolCall | Sequence[ToolCall]) -> tuple[Part, ...]:
    if isinstance(given, str):
        return (Text(given),)
    calls = (given,) if isinstance(given, ToolCall) else tuple(given)
    if not all(isinstance(call, ToolCall) for call in calls):
        raise TypeError(
            f"a scripted reply is a ModelReply, str, ToolCall, list of ToolCalls or an error to raise, not {given!r}"
        )
    return calls


def _last_text(request: ModelRequest) -> str:
    if not request.messages:
        return ""
    last = request.messages[-1]
    return last.text or "".join(getattr(part, "content", "") for part in last.parts)
