"""Models of hosted providers, over pydantic-ai's `direct`. The only module that imports pydantic_ai; it
needs the extra `models`.

Our part: the SDK clients (no retries of their own, no credential, our transport), the bodies kept as sent
and received, one kind of error, and the mapping between our messages and pydantic-ai's. Its part: the
dialects of the providers.

Two things of a reply have no place in our parts: the ids and details by which a provider knows a part again
(whose thinking a signature vouches for, which reasoning item a call belongs to), and parts of kinds that are
not ours. Both travel as `Opaque`: a part of another kind as a whole, the details of our own kinds in one
last part of the kind `DETAILS`. The provider they came from gets them back; another one leaves them out.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from importlib import import_module
from itertools import count, groupby
from typing import Any, Final

import anyio
import httpx2
import msgspec
from anyio.lowlevel import RunVar
from pydantic_ai import messages as pai
from pydantic_ai.direct import model_request
from pydantic_ai.models import Model as PydanticModel
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.profiles import ModelProfile
from pydantic_ai.settings import ModelSettings as PydanticSettings
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.usage import RequestUsage

from ..errors import ModelError
from ..model import (
    Message,
    ModelReply,
    ModelRequest,
    ModelSettings,
    Opaque,
    Part,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    ToolSpec,
    Usage,
)
from ._failures import failure
from ._protocol import Secret
from ._resolve import SDK_OF_PREFIX, check_route
from ._wire import Exchange, KeepBodies, current_exchange

CONNECT_TIMEOUT_S: Final = 10.0
KIND: Final = "pydantic-ai:"
DETAILS: Final = KIND + "details"
KEY_VARIABLE: Final = {"anthropic": "ANTHROPIC_API_KEY"}  # all others: OPENAI_API_KEY
# The schema a model is shown is the one that validates its call: never rewritten for a provider.
PROFILE: Final = ModelProfile(json_schema_transformer=None)

# Where a reply came from decides what of it is sent back. Not every version of pydantic-ai says all of it.
ORIGIN: Final = {f.name for f in fields(pai.ModelResponse)}.intersection(
    ("canonical_system", "provider_name", "provider_response_id", "provider_url")
)

_numbers = count()


def import_sdk(route: str) -> None:
    """Import what the first call of a route would; it takes about a second, so not on an event loop."""
    import_module(f"pydantic_ai.models.{SDK_OF_PREFIX[check_route(route)[0]]}")


class HostedModel:
    """A model behind an API.

    Args:
        name: The route: `"openai:<model>"` (Responses), `"openai-chat:<model>"` (Chat Completions) or
            `"anthropic:<model>"`.
        base_url: Another address that speaks this dialect; the default is the provider's.
        api_key: The key, or a `Secret` that is revealed at each call. Without one it is read at each call
            from `OPENAI_API_KEY` or `ANTHROPIC_API_KEY`; where `base_url` is given it may be missing
            altogether.
        timeout_s: The longest a call may take, from connecting to the last byte of the reply, in seconds;
            `ModelSettings.timeout_s` of a request goes before it.
        http_client: Sends the requests (own proxies, certificates, limits). It stays the caller's: it is not
            closed here.
    Raises:
        ModelError: The name is no route that is known, or the SDK for it is not installed.

    Connections belong to the event loop of the call; `aclose()` closes those of the running one.
    """

    def __init__(
        self,
        name: str,
        *,
        base_url: str | None = None,
        api_key: Secret | str | None = None,
        timeout_s: float = 300.0,
        http_client: httpx2.AsyncClient | None = None,
    ) -> None:
        self._name = name
        self._dialect, self._model = check_route(name)
        self._base_url, self._basic = _without_userinfo(base_url)
        self._api_key = api_key
        self._timeout_s = timeout_s
        self._http_client = http_client
        self._connected: RunVar[_Connected] = RunVar(f"holdfast.hosted.{next(_numbers)}")

    @property
    def name(self) -> str:
        return self._name

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Ask once, with exactly one HTTP request. See `Model.complete`."""
        key = self._reveal()
        exchange = Exchange(credential=self._credential(key))
        kept = current_exchange.set(exchange)
        timeout_s = self._timeout_s if request.settings.timeout_s is None else request.settings.timeout_s
        try:
            with anyio.move_on_after(timeout_s):
                response = await self._ask(request, timeout_s)
                return _reply(response, exchange, key)
        except ModelError:
            raise
        except Exception as error:  # noqa: BLE001 - an SDK that reads a malformed reply may raise anything
            failed = failure(self._name, exchange, error, secret=key)
            # A server may have echoed the key into the text that a traceback would show.
            raise failed from (None if key and key in f"{error}{error.__cause__}" else error)
        finally:
            current_exchange.reset(kept)
        raise failure(self._name, exchange, None, secret=key)

    async def _ask(self, request: ModelRequest, timeout_s: float) -> pai.ModelResponse:
        native_errors = self._dialect == "anthropic"
        return await model_request(
            self._connection().model,
            list(_to_pydantic(request.messages, self._name, native_errors=native_errors)),
            model_settings=_settings(request.settings, timeout_s),
            model_request_parameters=ModelRequestParameters(
                function_tools=[_tool(spec) for spec in request.tools],
                instruction_parts=[pai.InstructionPart(content=request.instructions)] if request.instructions else [],
            ),
            instrument=False,
        )

    async def aclose(self) -> None:
        """Close the connections of the running event loop. The model may be used again afterwards."""
        connected = self._connected.get(None)
        if connected is not None:
            for client in connected.own_clients:
                await client.aclose()

    def _reveal(self) -> str:
        if isinstance(self._api_key, str):
            return self._api_key.strip()
        if self._api_key is not None:
            return self._api_key.reveal().strip()
        variable = KEY_VARIABLE.get(self._dialect, "OPENAI_API_KEY")
        key = os.environ.get(variable, "").strip()
        if not key and self._base_url is None:
            raise ModelError(self._name, f"no key: set {variable} or pass api_key. Nothing was sent", sent=False)
        return key

    def _credential(self, key: str) -> tuple[str, str] | None:
        if not key:
            return None if self._basic is None else ("authorization", self._basic)
        return ("x-api-key", key) if self._dialect == "anthropic" else ("authorization", f"Bearer {key}")

    def _connection(self) -> _Connected:
        connected = self._connected.get(None)
        if connected is None or any(client.is_closed for client in connected.own_clients):
            connected = self._connect()
            self._connected.set(connected)
        return connected

    def _connect(self) -> _Connected:
        timeout = httpx2.Timeout(self._timeout_s, connect=min(CONNECT_TIMEOUT_S, self._timeout_s))
        outer = self._http_client or httpx2.AsyncClient(timeout=timeout)
        inner = httpx2.AsyncClient(transport=KeepBodies(outer), timeout=timeout, follow_redirects=False)
        own = (inner,) if outer is self._http_client else (inner, outer)
        return _Connected(model=self._pydantic_model(inner, timeout), own_clients=own)

    def _pydantic_model(self, http_client: httpx2.AsyncClient, timeout: httpx2.Timeout) -> PydanticModel:
        # The transport puts in the credential; the SDKs only insist that there be one.
        if self._dialect == "anthropic":
            from anthropic import AsyncAnthropic
            from pydantic_ai.models.anthropic import AnthropicModel
            from pydantic_ai.providers.anthropic import AnthropicProvider

            anthropic = AsyncAnthropic(
                api_key="unused",
                base_url=self._base_url,
                max_retries=0,
                timeout=timeout,
                http_client=http_client,
            )
            return AnthropicModel(self._model, provider=AnthropicProvider(anthropic_client=anthropic), profile=PROFILE)
        from openai import AsyncOpenAI
        from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
        from pydantic_ai.providers.openai import OpenAIProvider

        openai = AsyncOpenAI(
            api_key="unused", base_url=self._base_url, max_retries=0, timeout=timeout, http_client=http_client
        )
        kind = OpenAIChatModel if self._dialect == "openai-chat" else OpenAIResponsesModel
        return kind(self._model, provider=OpenAIProvider(openai_client=openai), profile=PROFILE)

    def __repr__(self) -> str:
        return f"<model {self._name}>"


def _without_userinfo(base_url: str | None) -> tuple[str | None, str | None]:
    """The address without user and password, which HTTP clients would log, and the header that says them instead."""
    url = None if base_url is None else httpx2.URL(base_url)
    if url is None or not url.userinfo:
        return base_url, None
    said = base64.b64encode(f"{url.username}:{url.password}".encode()).decode()
    return str(url.copy_with(username=None, password=None)), f"Basic {said}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Connected:
    model: PydanticModel
    own_clients: tuple[httpx2.AsyncClient, ...]


# -- what is asked -------------------------------------------------------------------------------------------


def _settings(settings: ModelSettings, timeout_s: float) -> PydanticSettings:
    asked = PydanticSettings(timeout=httpx2.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s)))
    if settings.temperature is not None:
        asked["temperature"] = settings.temperature
    if settings.max_tokens is not None:
        asked["max_tokens"] = settings.max_tokens
    if settings.seed is not None:
        asked["seed"] = settings.seed
    if settings.stop:
        asked["stop_sequences"] = list(settings.stop)
    if settings.extra:
        asked["extra_body"] = settings.extra
    return asked


def _tool(spec: ToolSpec) -> ToolDefinition:
    return ToolDefinition(
        name=spec.name, description=spec.description, parameters_json_schema=spec.parameters, strict=False
    )


def _to_pydantic(messages: Iterable[Message], route: str, *, native_errors: bool) -> Iterator[pai.ModelMessage]:
    for assistant, group in groupby(messages, key=lambda message: message.role == "assistant"):
        if assistant:
            yield from (_to_response(message, route) for message in group)
        else:
            # One request for all that stands between two replies: Anthropic wants the results of one turn
            # together.
            yield pai.ModelRequest([_to_request_part(m, p, route, native_errors) for m in group for p in m.parts])


def _to_request_part(message: Message, part: Part, route: str, native_errors: bool) -> pai.ModelRequestPart:
    match part:
        case Text(text) if message.role == "system":
            return pai.SystemPromptPart(text)
        case Text(text):
            return pai.UserPromptPart(text)
        case ToolResult(call_id, name, content, ok):
            if ok:
                return pai.ToolReturnPart(name, content, tool_call_id=call_id)
            if native_errors:
                return pai.ToolReturnPart(name, content, tool_call_id=call_id, outcome="failed")
            # The OpenAI dialects know no failed result: the text itself has to say so (law 8).
            said = content if content.startswith("Error") else f"Error: {content}"
            return pai.ToolReturnPart(name, said, tool_call_id=call_id)
        case _:
            raise _cannot_send(route, message, part)


def _to_response(message: Message, route: str) -> pai.ModelResponse:
    kept = (part.data for part in message.parts if isinstance(part, Opaque) and part.kind == DETAILS)
    details: Mapping[str, Any] = next(kept, {})  # Any: as the provider gave it
    of_part: Mapping[str, Any] = details.get("parts", {})
    parts = [
        _to_response_part(message, part, of_part.get(str(place), {}), route)
        for place, part in enumerate(message.parts)
        if not (isinstance(part, Opaque) and part.kind == DETAILS)
    ]
    origin = {name: value for name, value in details.get("response", {}).items() if name in ORIGIN}
    return pai.ModelResponse(parts, **origin)


def _to_response_part(message: Message, part: Part, details: Mapping[str, Any], route: str) -> pai.ModelResponsePart:
    known = {name: details[name] for name in ("id", "provider_name", "provider_details") if name in details}
    match part:
        case Text(text):
            return pai.TextPart(text, **known)
        case ToolCall(id_, name, arguments):
            return pai.ToolCallPart(name, arguments, tool_call_id=id_, **known)
        case Thinking(text, signature):
            return pai.ThinkingPart(text, signature=signature, **known)
        case Opaque(kind, data) if kind.startswith(KIND):
            return _revived(data, route)
        case _:
            raise _cannot_send(route, message, part)


def _revived(data: Any, route: str) -> pai.ModelResponsePart:
    document = msgspec.json.encode([{"kind": "response", "parts": [data]}])
    try:
        (response,) = pai.ModelMessagesTypeAdapter.validate_json(document)
    except ValueError as error:
        why = f"a recorded part can't be sent back, this version of pydantic-ai does not know it ({error})"
        raise ModelError(route, why, sent=False) from error
    assert isinstance(response, pai.ModelResponse)
    return response.parts[0]


def _cannot_send(route: str, message: Message, part: Part) -> ModelError:
    kind = part.kind if isinstance(part, Opaque) else type(part).__name__
    return ModelError(
        route,
        f"a part of the kind {kind!r} can't be sent in a message of the role {message.role!r}",
        sent=False,
    )


# -- what came back ------------------------------------------------------------------------------------------


def _reply(response: pai.ModelResponse, exchange: Exchange, key: str) -> ModelReply:
    details = response.provider_details or {}
    parts = [_from_response_part(part) for part in response.parts]
    refusal = details.get("refusal")
    if isinstance(refusal, str):
        parts.append(Text(refusal))  # beside the parts there, and yet what the model said
    opaque = _details(response)
    if opaque is not None:
        parts.append(opaque)
    return ModelReply(
        parts=tuple(parts),
        usage=_usage(response.usage, exchange.response or b""),
        served_model=response.model_name,
        provider=response.provider_name,
        finish_reason=response.finish_reason or details.get("finish_reason"),
        response_id=response.provider_response_id,
        raw_request=_without(exchange.request, key),
        raw_response=_without(exchange.response, key),
    )


def _from_response_part(part: pai.ModelResponsePart) -> Part:
    match part:
        case pai.TextPart():
            return Text(part.content)
        case pai.ThinkingPart():
            return Thinking(part.content, part.signature)
        case pai.ToolCallPart():
            return ToolCall(part.tool_call_id, part.tool_name, _arguments(part.args))
        case _:
            return Opaque(KIND + part.part_kind, _as_json(part))


def _arguments(written: str | Mapping[str, Any] | None) -> dict[str, Any] | str:
    if isinstance(written, Mapping):
        return dict(written)
    if not written:
        return {}
    try:
        decoded = msgspec.json.decode(written)
    except msgspec.DecodeError:
        return written
    return decoded if isinstance(decoded, dict) else written


def _details(response: pai.ModelResponse) -> Opaque | None:
    """What our parts can't hold, by place; `None` when there is nothing."""
    of_part: dict[str, Any] = {}
    for place, part in enumerate(response.parts):
        if isinstance(part, pai.TextPart | pai.ThinkingPart | pai.ToolCallPart):
            known = _as_json(part)
            kept = {n: known[n] for n in ("id", "provider_name", "provider_details") if known.get(n) is not None}
            if kept:
                of_part[str(place)] = kept
    if not of_part:
        return None
    origin = {name: value for name in ORIGIN if (value := getattr(response, name)) is not None}
    if "@" in origin.get("provider_url", ""):
        del origin["provider_url"]  # an address may carry a password
    return Opaque(DETAILS, {"response": origin, "parts": of_part})


def _as_json(part: pai.ModelResponsePart) -> dict[str, Any]:
    (dumped,) = pai.ModelMessagesTypeAdapter.dump_python([pai.ModelResponse([part])], mode="json")
    (only,) = dumped["parts"]
    assert isinstance(only, dict)
    return only


def _usage(usage: RequestUsage, raw: bytes) -> Usage | None:
    """Counts as reported. pydantic-ai says 0 for what was not reported: a 0 counts if the reply has the
    field (law 10).
    """

    def reported(value: int, *fields: str) -> int | None:
        # Inside a JSON string the quotes would be escaped, so what matches is a field and not a text.
        return value if value or re.search(rb'"(%s)"\s*:\s*\d' % "|".join(fields).encode(), raw) else None

    counts = Usage(
        input_tokens=reported(usage.input_tokens, "input_tokens", "prompt_tokens"),
        output_tokens=reported(usage.output_tokens, "output_tokens", "completion_tokens"),
        cache_read_tokens=reported(usage.cache_read_tokens, "cached_tokens", "cache_read_input_tokens"),
        cache_write_tokens=reported(usage.cache_write_tokens, "cache_write_tokens", "cache_creation_input_tokens"),
    )
    return None if counts == Usage() else counts


def _without(body: bytes | None, key: str) -> bytes | None:
    return body.replace(key.encode(), b"[secret]") if body is not None and key else body
