"""Values that every room shares: identifiers, messages and their parts, usage, answers.

Messages and model traffic are records on disk, hence msgspec structs: fields are only ever added, with defaults.
Answers are values inside the program, hence dataclasses.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, NewType, Protocol, TypeAlias, TypeVar

import msgspec

from .errors import NoResult

T = TypeVar("T")

IdempotencyKey = NewType("IdempotencyKey", str)
"""The key of one decided effect: a tool parameter of this type is filled in by the runtime and is not part of the schema."""


class Text(msgspec.Struct, frozen=True, tag="text"):
    text: str


class ToolCall(msgspec.Struct, frozen=True, tag="tool_call"):
    """What the model asks for. `arguments` is what it wrote, not yet checked; text that is no JSON object stays a string."""

    id: str
    name: str
    arguments: dict[str, Any] | str  # Any: unchecked JSON from a model


class ToolResult(msgspec.Struct, frozen=True, tag="tool_result"):
    """What the model reads back. `ok=False`: the content is a typed failure, never a result (law 8)."""

    call_id: str
    name: str
    content: str
    ok: bool = True


class Thinking(msgspec.Struct, frozen=True, tag="thinking"):
    text: str
    signature: str | None = None


class Opaque(msgspec.Struct, frozen=True, tag="opaque"):
    """A part of a kind that this version does not know, kept as it came so that it can be sent back."""

    kind: str
    data: Any  # Any: the provider's JSON


Part: TypeAlias = Text | ToolCall | ToolResult | Thinking | Opaque
Role: TypeAlias = Literal["system", "user", "assistant", "tool"]


class Message(msgspec.Struct, frozen=True):
    role: Role
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        return "".join(p.text for p in self.parts if isinstance(p, Text))

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        return tuple(p for p in self.parts if isinstance(p, ToolCall))


class ToolSpec(msgspec.Struct, frozen=True):
    """A tool as a model sees it. `parameters` is the JSON schema object that also validates the call."""

    name: str
    description: str
    parameters: dict[str, Any]  # Any: a JSON schema


class ModelSettings(msgspec.Struct, frozen=True, omit_defaults=True):
    """Sampling settings; what is `None` is left to the provider."""

    temperature: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    timeout_s: float | None = None
    extra: dict[str, Any] = {}  # Any: provider-specific JSON, passed on as it is


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """One call of a model: the whole conversation so far."""

    instructions: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    settings: ModelSettings = field(default_factory=ModelSettings)


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tokens as the provider reported them. `None`: not reported, which is not 0 (law 10)."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReply:
    """What came back. The raw bytes are exactly those sent and received; `None` for models without a wire."""

    parts: tuple[Part, ...]
    usage: Usage | None = None
    served_model: str | None = None
    provider: str | None = None
    finish_reason: str | None = None
    response_id: str | None = None
    raw_request: bytes | None = None
    raw_response: bytes | None = None

    @property
    def message(self) -> Message:
        return Message("assistant", self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed(Generic[T]):
    """The task is done.

    Args:
        result: Of the declared output type; validated.
        confidence: Stated by whoever answered, in [0, 1], raw; `None` when none was stated.
        calibrated: The same after calibration; `None` unless a calibration with n and version exists.
        assumptions: What was taken for granted to get here.
        uncertainty: What stays unknown or could change the result.
        sources: Ids of the reads it rests on.
    """

    result: T
    confidence: float | None = None
    calibrated: float | None = None
    assumptions: tuple[str, ...] = ()
    uncertainty: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()


class _WithoutResult:
    __slots__ = ()

    @property
    def result(self) -> Any:  # Any: it never returns; typed so that `answer.result` reads the same on every answer
        """Raises `NoResult`; uncaught in a workflow, the run ends with this very answer."""
        raise NoResult(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clarify(_WithoutResult):
    """The request can be read in more than one way; the run waits for `reply`."""

    question: str
    framings: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(set(self.framings)) < 2:
            raise ValueError("Clarify needs at least two different framings; with one there is nothing to ask")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused(_WithoutResult):
    """The task is outside what the agent may or can do: what is missing, and whom to ask."""

    missing: str
    ask: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Escalated(_WithoutResult):
    """A person has to decide. `attached` holds what they need: the last invalid text, both sides of a conflict."""

    reason: str
    attached: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON


Answer: TypeAlias = Completed[T] | Clarify | Refused | Escalated


_SHORTEST_HIDDEN = 6
_MOST_REVEALED = 1_000
_revealed: dict[str, str] = {}  # what this process has revealed, by secret, so that errors can be kept clean of it


def without_secrets(text: str) -> str:
    """Text with every secret that this process has revealed replaced by its name."""
    for secret, name in _revealed.items():
        if secret in text:
            text = text.replace(secret, f"[secret {name}]")
    return text


class Secret:
    """A credential as a reference: recorded by its name, resolved at the call, shown by nothing.

    Args:
        name: What stands in the journal.
        resolve: Gives the secret when it is needed; by default the environment variable `name` is read at that moment.
    """

    __slots__ = ("_resolve", "name")

    def __init__(self, name: str, resolve: Callable[[], str] | None = None) -> None:
        self.name = name
        self._resolve = resolve

    def reveal(self) -> str:
        """The secret itself. Raises `KeyError` when the environment does not have it."""
        secret = self._resolve() if self._resolve is not None else os.environ[self.name]
        if len(secret) >= _SHORTEST_HIDDEN and len(_revealed) < _MOST_REVEALED:
            _revealed[secret] = self.name
        return secret

    def __repr__(self) -> str:
        return f"Secret({self.name!r})"

    def __holdfast_reference__(self) -> dict[str, str]:
        return {"$secret": self.name}

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        return Secret, (self.name,)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: object) -> Any:  # Any: a pydantic core schema
        from pydantic_core import core_schema

        reference = core_schema.typed_dict_schema({"$secret": core_schema.typed_dict_field(core_schema.str_schema())})
        read = core_schema.no_info_after_validator_function(lambda found: cls(found["$secret"]), reference)
        return core_schema.union_schema(
            [core_schema.is_instance_schema(cls), read],
            serialization=core_schema.plain_serializer_function_ser_schema(cls.__holdfast_reference__),
        )


class Clock(Protocol):
    """Where time comes from; tests own it.

    `now_ns` is UTC wall time (it may jump). `boot_ns` never jumps and goes on while the machine sleeps (CLOCK_BOOTTIME):
    deadlines and leases use it.
    """

    def now_ns(self) -> int: ...

    def boot_ns(self) -> int: ...
