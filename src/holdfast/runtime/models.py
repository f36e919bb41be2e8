"""A model call as a step: the chain of routes in its declared order, each try recorded, the traffic kept raw.

The conversation is a chain of blobs: what was asked is named by its last node, so the record of a call does not grow with the
conversation. A fallback's reply lowers the trust of the run (`DEGRADED`), and the event says which route served it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.lowlevel
import msgspec

from ..errors import JournalMismatch, ModelError, PayloadTooLarge
from ..journal import Event, codec
from ..journal.blobs import MOST_BYTES, BadBlob, content_of, make_shared
from ..journal.conversation import parse
from ..journal.raw import Kept, keep
from ..journal.records import NO_RAW, Attempt, ErrorInfo, Failure, ModelOutcome
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
    ToolSpec,
)
from ..providers import Model, cost_microusd
from ..tools import Retry
from ..trust import PRIMARY, Trust, lowered
from .execution import Execution
from .failures import describe, step_failed
from .scope import Scope

MODEL_RETRY = Retry(attempts=3, on=(ModelError,), base_s=0.5, max_s=20.0)
"""Tries on one route before the next one in the chain; only transient errors are tried again."""

DEFAULT_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Who asks, and over which routes: what does not change between the calls of one agent."""

    agent: str
    agent_version: str
    routes: tuple[Model, ...]
    instructions: str
    tools: tuple[ToolSpec, ...]
    settings: ModelSettings = field(default_factory=ModelSettings)
    retry: Retry = MODEL_RETRY


class Talk:
    """One conversation of a run with a model: the messages so far, and the node of the journal that names them."""

    def __init__(self, scope: Scope, asker: Asker) -> None:
        self.scope = scope
        self.asker = asker
        self.messages: list[Message] = []
        self.unsent: list[Message] = []
        self.node: str | None = None
        self.calls = 0
        self._last_request: Kept | None = None

    def say(self, message: Message) -> None:
        """Add a message that the next call will send."""
        self.unsent.append(message)

    async def ask(self) -> Message:
        """Send what is unsent and return the model's message. One step.

        Raises:
            StepFailed: No route gave a reply. BudgetExceeded: nothing was sent.
        """
        scope, asker = self.scope, self.asker
        execution = scope.execution
        if scope.doomed:
            await anyio.lowlevel.checkpoint()
        path = scope.next_path()
        sent = tuple(self.unsent)
        try:
            node, blobs = execution.conversation.extend(self.node, sent)
        except BadBlob as error:
            size = sum(len(codec.encode(message)) for message in sent)
            raise PayloadTooLarge(execution.run, path, size, MOST_BYTES) from error
        self.calls += 1
        past = execution.recall(path, "model", asker.agent)
        if past is not None and past.outcome is not None:
            reply, self.node = await _recorded(execution, past.outcome, node)
        else:
            if execution.budget is not None:
                await execution.within_budget("model", path, asker.agent, b"null")
            tried = [event.payload(Attempt) for event in past.attempts] if past is not None else []
            reply, self.node = await self._live(path, node, blobs, (*self.messages, *sent), tried)
        # Only now: what a failed call did not get across is sent, and recorded, with the next one.
        self.messages += (*sent, reply)
        self.unsent = []
        return reply

    async def _live(
        self,
        path: str,
        node: str,
        blobs: tuple[tuple[bytes, bytes], ...],
        messages: tuple[Message, ...],
        tried: Sequence[Attempt],
    ) -> tuple[Message, str]:
        execution, asker = self.scope.execution, self.asker
        started_ns = execution.clock.now_ns()
        reply, route, tries, error = await self._over_routes(path, messages, tried)
        if reply is None:
            await execution.fail("model", path, asker.agent, b"null", error, attempts=tries, started_ns=started_ns)
            raise step_failed(execution.run, path, asker.agent, error, tries)
        message = _storable(reply.message)
        reply_node, reply_blobs = execution.conversation.extend(node, (message,))
        raw_blobs, raw_request, raw_response = self._raw(reply)
        instructions, tools = make_shared(asker.instructions.encode()), make_shared(codec.encode(asker.tools))
        outcome = ModelOutcome(
            conversation=node, instructions=instructions[0].hex(), tools=tools[0].hex(), reply=reply_node,
            route=asker.routes[route].name, agent=asker.agent, agent_version=asker.agent_version,
            settings=NO_RAW if asker.settings == ModelSettings() else msgspec.Raw(codec.encode(asker.settings)),
            served_model=reply.served_model, provider=reply.provider, finish_reason=reply.finish_reason,
            response_id=reply.response_id, usage=reply.usage,
            cost_microusd=cost_microusd(reply.provider, reply.served_model, reply.usage),
            raw_request=raw_request, raw_response=raw_response, started_ns=started_ns, attempts=tries, fallback=route > 0,
        )  # fmt: skip
        made = (*blobs, *reply_blobs, *raw_blobs)
        usage = reply.usage
        measured = (
            outcome.cost_microusd,
            usage.input_tokens if usage else None,
            usage.output_tokens if usage else None,
        )
        adds = lowered(Trust.DEGRADED, f"fallback model {outcome.route}", path) if route > 0 else PRIMARY
        shared = () if instructions[0] in execution.conversation.known else (instructions, tools)
        await execution.record(
            "model.completed", path, asker.agent, outcome, adds=adds, blobs=made, shared=shared, measured=measured
        )
        execution.conversation.stored((*made, instructions))
        execution.spent.steps += 1
        execution.charge(outcome)
        return message, reply_node

    async def _over_routes(
        self, path: str, messages: tuple[Message, ...], tried: Sequence[Attempt]
    ) -> tuple[ModelReply | None, int, int, ErrorInfo]:
        """Try the routes in order; tries made before a crash count. Returns reply, index of the route, tries, the last error."""
        asker, execution = self.asker, self.scope.execution
        request = ModelRequest(
            instructions=asker.instructions, messages=messages, tools=asker.tools, settings=asker.settings
        )
        info = tried[-1].error if tried else ErrorInfo("holdfast.errors.ModelError", "there is no route")
        tries = len(tried)
        index = sum(attempt.last for attempt in tried)
        here = next((n for n, attempt in enumerate(reversed(tried)) if attempt.last), tries)
        while index < len(asker.routes):
            tries, here = tries + 1, here + 1
            try:
                return await self._once(asker.routes[index], request, path), index, tries, info
            except ModelError as error:
                info, transient, at_least_s = describe(error), error.transient, error.retry_after_s or 0.0
            except Exception as error:
                if error is execution.halted:
                    raise
                # A route that breaks in a way of its own has failed like one that says so.
                info, transient, at_least_s = describe(error), False, 0.0
            last = here >= asker.retry.attempts or not transient
            delay_s = 0.0 if last else max(asker.retry.delay_s(execution.run, path, tries), at_least_s)
            attempt = Attempt(tries, "error", info, asker.routes[index].name, delay_s, execution.clock.now_ns(), last)
            await execution.record("model.attempt", path, asker.agent, attempt)
            if last:
                index, here = index + 1, 0
            else:
                await execution.nap(delay_s, path, asker.agent)
        return None, index, tries, info

    async def _once(self, route: Model, request: ModelRequest, path: str) -> ModelReply:
        scope = self.scope
        timeout_s = self.asker.settings.timeout_s or DEFAULT_TIMEOUT_S
        scope.busy = f"model {route.name}"
        try:
            with anyio.fail_after(timeout_s):
                reply = await route.complete(request)
            self._refuse_too_large(route, reply)
            return reply
        except TimeoutError as error:
            raise ModelError(route.name, f"no reply within {timeout_s:g} s", None, True) from error
        except anyio.get_cancelled_exc_class():
            defect = scope.execution.cut(scope, self.asker.agent, path)
            if defect is not None:
                raise defect from None
            raise
        finally:
            scope.busy = None

    def _refuse_too_large(self, route: Model, reply: ModelReply) -> None:
        """A reply that could not be read again is a failed try, before anything of it is stored."""
        limit = self.scope.execution.log.max_payload_bytes
        bodies = (codec.encode(_storable(reply.message)), reply.raw_request or b"", reply.raw_response or b"")
        size = max(map(len, bodies))
        if size > limit:
            raise ModelError(route.name, f"a reply of {size:,} bytes can't be recorded, the limit is {limit:,}")

    def _raw(self, reply: ModelReply) -> tuple[tuple[tuple[bytes, bytes], ...], str | None, str | None]:
        """The bytes as sent and received, as blobs; a request as what it does not share with the one before."""
        secret = self.scope.execution.secret
        blobs: list[tuple[bytes, bytes]] = []
        request = response = None
        if reply.raw_request is not None:
            self._last_request, blob = keep(secret, reply.raw_request, self._last_request)
            request = self._last_request.id
            blobs.append(blob)
        if reply.raw_response is not None:
            kept, blob = keep(secret, reply.raw_response)
            response = kept.id
            blobs.append(blob)
        return tuple(blobs), request, response


def _storable(message: Message) -> Message:
    """The message as UTF-8 can hold it: JSON text may name lone surrogates. The raw bytes keep them.

    In text they become "?"; arguments that hold one are kept as their JSON text, which is then refused like any other that is not valid.
    """
    try:
        codec.encode(message)
    except UnicodeEncodeError:
        return Message(message.role, tuple(_storable_part(part) for part in message.parts))
    return message


def _storable_part(part: Part) -> Part:
    if isinstance(part, ToolCall):
        return ToolCall(_utf8(part.id), _utf8(part.name), json.dumps(part.arguments))
    if isinstance(part, Text):
        return Text(_utf8(part.text))
    if isinstance(part, Thinking):
        return Thinking(_utf8(part.text), part.signature)
    if isinstance(part, Opaque):
        return Opaque(part.kind, json.dumps(part.data))
    return part


def _utf8(text: str) -> str:
    return text.encode(errors="replace").decode()


async def _recorded(execution: Execution, event: Event, node: str) -> tuple[Message, str]:
    """The recorded reply, if the recorded question is the one that is asked now."""
    if event.kind == "model.failed":
        failure = event.payload(Failure)
        raise step_failed(execution.run, event.path, event.name, failure.error, failure.attempts)
    outcome = event.payload(ModelOutcome)
    if outcome.conversation != node:
        raise execution.defective(
            JournalMismatch(
                execution.run,
                event.path,
                f"a call of {event.name} with another conversation",
                f"{event.name} with these messages",
            )
        )
    stored = await execution.blob(outcome.reply)
    _, messages = parse(content_of(stored))
    return messages[0], outcome.reply


def version_of(parts: Sequence[Any]) -> str:
    """The agent version: a hash over instructions, tool schemas, model chain and output schema."""
    return hashlib.sha256(codec.encode(parts)).hexdigest()[:16]
