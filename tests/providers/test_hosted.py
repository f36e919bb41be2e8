"""Hosted models over real HTTP on loopback, in each dialect: what is sent, what is kept, and that once."""

from __future__ import annotations

import asyncio
import json
import pickle
import socket
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import anyio
import httpx2
import pytest

from holdfast.errors import ModelError
from holdfast.model import (
    Message,
    ModelReply,
    ModelRequest,
    ModelSettings,
    Opaque,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    ToolSpec,
    Usage,
)
from holdfast.providers.hosted import HostedModel

from .dialects import ANTHROPIC, CHAT, DIALECTS, RESPONSES, Dialect
from .loopback import Answer, Loopback, answer, compressed, loopback

KEY = "sk-canary-1f2e3d"

STOCK = ToolSpec(
    "stock",
    "Look up what is in stock.",
    {
        "title": "Stock",
        "type": "object",
        "properties": {
            "sku": {"title": "Sku", "type": "string", "pattern": "^[A-Z]", "minLength": 2},
            "where": {"anyOf": [{"$ref": "#/$defs/Site"}, {"type": "null"}], "default": None},
        },
        "required": ["sku"],
        "additionalProperties": False,
        "$defs": {"Site": {"enum": ["north", "south"], "type": "string"}},
    },
)


def user(text: str) -> Message:
    return Message("user", (Text(text),))


def asked(*messages: Message, tools: tuple[ToolSpec, ...] = (STOCK,), **settings: Any) -> ModelRequest:
    return ModelRequest(
        instructions="Answer briefly.",
        messages=messages or (user("Is A1 in stock?"),),
        tools=tools,
        settings=ModelSettings(max_tokens=1000, **settings),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    server: Loopback
    model: HostedModel


@asynccontextmanager
async def desk(dialect: Dialect, *answers: Answer, **options: Any) -> AsyncIterator[Desk]:
    async with loopback(*answers) as server:
        options = {"api_key": KEY, "timeout_s": 5.0, **options}
        model = HostedModel(dialect.route, base_url=server.url + dialect.path, **options)
        try:
            yield Desk(server=server, model=model)
        finally:
            await model.aclose()


async def failed(dialect: Dialect, *answers: Answer, request: ModelRequest | None = None, **options: Any) -> ModelError:
    """The error of one call that sent exactly one request."""
    async with desk(dialect, *answers, **options) as d:
        with pytest.raises(ModelError) as caught:
            await d.model.complete(request or asked())
        assert len(d.server.seen) == 1
    return caught.value


each_dialect = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.route)


# -- what is sent and kept


@each_dialect
async def test_one_call_is_one_request_and_both_bodies_are_kept_byte_for_byte(dialect: Dialect) -> None:
    given = answer(dialect.calls_stock)
    async with desk(dialect, given) as d:
        reply = await d.model.complete(asked())
        (seen,) = d.server.seen
    assert reply.raw_request == seen.body
    assert reply.raw_response == given.body
    assert seen.json["model"] == dialect.model
    assert seen.headers[dialect.key_header] == dialect.key_prefix + KEY


@each_dialect
async def test_what_came_back_is_typed(dialect: Dialect) -> None:
    async with desk(dialect, answer(dialect.calls_stock)) as d:
        reply = await d.model.complete(asked())
    assert reply.message.tool_calls == (ToolCall("call_1", "stock", {"sku": "A1"}),)
    assert reply.message.text == "One moment."
    assert reply.usage == dialect.usage
    assert reply.served_model == dialect.served
    assert reply.provider == dialect.provider
    assert reply.response_id == dialect.calls_stock["id"]
    assert reply.finish_reason == dialect.finish_reason


@each_dialect
async def test_a_tool_schema_is_sent_unchanged(dialect: Dialect) -> None:
    async with desk(dialect, answer(dialect.says_yes)) as d:
        await d.model.complete(asked())
        (sent,) = d.server.seen[0].json["tools"]
    assert dialect.tool_schema(sent) == STOCK.parameters
    assert list(dialect.tool_schema(sent)["properties"]) == ["sku", "where"]
    assert '"strict": true' not in json.dumps(sent)


@each_dialect
async def test_calls_and_results_go_back_as_they_came(dialect: Dialect) -> None:
    async with desk(dialect, answer(dialect.calls_stock), answer(dialect.says_yes)) as d:
        first = await d.model.complete(asked())
        result = Message("tool", (ToolResult("call_1", "stock", '{"units":7}'),))
        second = await d.model.complete(asked(user("Is A1 in stock?"), first.message, result))
        sent = d.server.seen[1].json
    assert second.message.text == "Yes, seven."
    assert dialect.sent_call(sent) == ("call_1", "stock", {"sku": "A1"})
    assert dialect.sent_results(sent) == [("call_1", '{"units":7}')]
    assert "Answer briefly." in json.dumps(sent)


@each_dialect
@pytest.mark.parametrize("content", ["Error: no such article", "no such article"])
async def test_a_failed_result_never_reads_as_a_result(dialect: Dialect, content: str) -> None:
    async with desk(dialect, answer(dialect.says_yes)) as d:
        call = Message("assistant", (ToolCall("call_1", "stock", {"sku": "A1"}),))
        result = Message("tool", (ToolResult("call_1", "stock", content, ok=False),))
        await d.model.complete(asked(user("Is A1 in stock?"), call, result))
        sent = d.server.seen[0].json
    ((call_id, text),) = dialect.sent_results(sent)
    assert call_id == "call_1"
    if dialect is ANTHROPIC:
        assert text == content
        assert sent["messages"][-1]["content"][-1]["is_error"] is True
    else:
        assert text == "Error: no such article"


@each_dialect
async def test_arguments_that_are_no_object_stay_text_and_can_go_back(dialect: Dialect) -> None:
    written = '{"sku": "A1'
    if dialect is ANTHROPIC:  # its arguments are JSON already: such text comes from another provider
        async with desk(dialect, answer(dialect.says_yes)) as d:
            await d.model.complete(asked(*_after_call(ToolCall("call_1", "stock", written))))
            assert written in json.dumps(d.server.seen[0].json).replace('\\"', '"')
        return
    async with desk(dialect, answer(dialect.calls("stock", written)), answer(dialect.says_yes)) as d:
        reply = await d.model.complete(asked())
        (call,) = reply.message.tool_calls
        assert call.arguments == written
        await d.model.complete(asked(*_after_call(call)))


def _after_call(call: ToolCall) -> tuple[Message, ...]:
    result = Message("tool", (ToolResult(call.id, call.name, "Error: malformed", ok=False),))
    return user("Is A1 in stock?"), Message("assistant", (call,)), result


@each_dialect
async def test_settings_are_sent_and_extra_as_it_is(dialect: Dialect) -> None:
    async with desk(dialect, answer(dialect.says_yes)) as d:
        await d.model.complete(asked(temperature=0.25, extra={"made_up": {"x": [1, None]}}))
        sent = d.server.seen[0].json
    assert sent["temperature"] == 0.25
    assert sent["made_up"] == {"x": [1, None]}
    assert sent[dialect.max_tokens] == 1000


async def test_anthropic_thinking_goes_back_with_its_signatures() -> None:
    thinking = [
        {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "aGlkZGVu"},
    ]
    document = {**ANTHROPIC.calls_stock, "content": [*thinking, *ANTHROPIC.calls_stock["content"]]}
    async with desk(ANTHROPIC, answer(document), answer(ANTHROPIC.says_yes)) as d:
        reply = await d.model.complete(asked())
        assert Thinking("Hm.", "c2ln") in reply.parts
        result = Message("tool", (ToolResult("call_1", "stock", "7"),))
        await d.model.complete(asked(user("Is A1 in stock?"), reply.message, result))
        assert d.server.seen[1].json["messages"][1]["content"][:2] == thinking


async def test_openai_reasoning_goes_back_with_its_item_ids() -> None:
    reasoning = {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": "Hm."}],
        "encrypted_content": "ZW5j",
    }
    document = {**RESPONSES.calls_stock, "output": [reasoning, *RESPONSES.calls_stock["output"]]}
    reasoning_model = replace(RESPONSES, route="openai:gpt-5")
    async with desk(reasoning_model, answer(document), answer(RESPONSES.says_yes)) as d:
        reply = await d.model.complete(asked())
        assert Thinking("Hm.", "ZW5j") in reply.parts
        result = Message("tool", (ToolResult("call_1", "stock", "7"),))
        await d.model.complete(asked(user("Is A1 in stock?"), reply.message, result))
        sent = d.server.seen[1].json["input"]
    assert [item.get("id") for item in sent[1:4]] == ["rs_1", "msg_1", "fc_1"]
    assert sent[1]["encrypted_content"] == "ZW5j"


async def test_thinking_of_one_provider_is_no_reasoning_item_for_another() -> None:
    thinking = {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}
    document = {**ANTHROPIC.says_yes, "content": [thinking, *ANTHROPIC.says_yes["content"]]}
    async with desk(ANTHROPIC, answer(document)) as d:
        reply = await d.model.complete(asked())
    async with desk(RESPONSES, answer(RESPONSES.says_yes)) as d:
        await d.model.complete(asked(user("?"), reply.message, user("And B2?")))
        assert "c2ln" not in d.server.seen[0].body.decode()


async def test_parts_of_other_kinds_are_kept_as_they_came_and_go_back() -> None:
    search = [
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "A1"}},
        {
            "type": "web_search_tool_result",
            "tool_use_id": "srvtoolu_1",
            "content": [
                {
                    "type": "web_search_result",
                    "title": "A1",
                    "url": "https://example.com/a1",
                    "encrypted_content": "ZW5j",
                    "page_age": None,
                }
            ],
        },
    ]
    document = {**ANTHROPIC.says_yes, "content": [*search, *ANTHROPIC.says_yes["content"]]}
    async with desk(ANTHROPIC, answer(document), answer(ANTHROPIC.says_yes)) as d:
        reply = await d.model.complete(asked())
        assert sum(isinstance(part, Opaque) for part in reply.parts) >= 2
        assert json.loads(json.dumps([p.data for p in reply.parts if isinstance(p, Opaque)]))
        await d.model.complete(asked(user("?"), reply.message, user("And B2?")))
        back = d.server.seen[1].json["messages"][1]["content"]
    assert [block["type"] for block in back] == ["server_tool_use", "web_search_tool_result", "text"]
    assert back[1]["content"][0]["encrypted_content"] == "ZW5j"


@each_dialect
async def test_a_part_that_cannot_be_sent_is_an_error_before_anything_is_sent(dialect: Dialect) -> None:
    async with desk(dialect) as d:
        for odd in (
            Message("assistant", (Opaque("made-up", {}),)),
            Message("user", (ToolCall("1", "stock", {}),)),
            Message("assistant", (Opaque("pydantic-ai:never-seen", {"part_kind": "never-seen"}),)),
        ):
            with pytest.raises(ModelError) as caught:
                await d.model.complete(asked(odd))
            assert (caught.value.sent, caught.value.transient) == (False, False)
        assert d.server.seen == []


@each_dialect
async def test_usage_that_was_not_reported_is_none_and_a_reported_zero_is_a_zero(dialect: Dialect) -> None:
    silent = {name: value for name, value in dialect.says_yes.items() if name != "usage"}
    if dialect is ANTHROPIC:
        silent["usage"] = {}
    async with desk(dialect, answer(silent), answer(dialect.says_yes)) as d:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydantic-ai warns of a reply without usage, which this one is
            assert (await d.model.complete(asked())).usage is None
        reported = (await d.model.complete(asked())).usage
    assert reported is not None
    assert reported.cache_read_tokens == 0


async def test_a_refusal_is_text_with_its_reason_to_finish() -> None:
    message = {"role": "assistant", "content": None, "refusal": "I can't help with that."}
    document = {**CHAT.says_yes, "choices": [{"index": 0, "finish_reason": "stop", "message": message}]}
    async with desk(CHAT, answer(document)) as d:
        reply = await d.model.complete(asked())
    assert (reply.message.text, reply.finish_reason) == ("I can't help with that.", "content_filter")


@each_dialect
async def test_a_compressed_reply_is_kept_readable(dialect: Dialect) -> None:
    async with desk(dialect, compressed(dialect.says_yes)) as d:
        reply = await d.model.complete(asked())
    assert reply.raw_response is not None
    assert json.loads(reply.raw_response) == dialect.says_yes
    assert reply.message.text == "Yes, seven."


async def test_a_reply_that_the_sdk_insists_to_stream_is_one_request_and_kept_whole() -> None:
    given = Answer(body=ANTHROPIC_STREAM.encode(), content_type="text/event-stream")
    async with loopback(given) as server:
        model = HostedModel("anthropic:claude-opus-5", base_url=server.url[:-3], api_key=KEY)
        reply = await model.complete(ModelRequest(instructions="", messages=(user("Is A1 in stock?"),)))
        await model.aclose()
        assert len(server.seen) == 1
    assert reply.message.text == "Yes, seven."
    assert reply.raw_response == given.body
    assert reply.usage == Usage(input_tokens=11, output_tokens=5)


ANTHROPIC_STREAM = "".join(
    f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
    for event in (
        {
            "type": "message_start",
            "message": {
                **ANTHROPIC.says_yes,
                "content": [],
                "stop_reason": None,
                "usage": {"input_tokens": 11, "output_tokens": 1},
            },
        },
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "text_delta", "text": "Yes, seven."},
        },
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": 5},
        },
        {"type": "message_stop"},
    )
)


# -- errors: each is one request


@each_dialect
@pytest.mark.parametrize(
    ("status", "transient"),
    [
        *((status, False) for status in (400, 401, 403, 404, 422)),
        *((status, True) for status in (408, 409, 429, 500, 502, 503, 529)),
    ],
)
async def test_a_status_says_whether_asking_again_may_help(dialect: Dialect, status: int, transient: bool) -> None:
    error = await failed(dialect, answer(dialect.error("some_error", "what went wrong"), status))
    assert (error.status, error.transient, error.sent) == (status, transient, True)
    assert error.route == dialect.route
    assert "what went wrong" in str(error)


@each_dialect
async def test_a_429_says_how_long_to_wait(dialect: Dialect) -> None:
    busy = dialect.error("rate_limit_error", "too many requests")
    assert (await failed(dialect, answer(busy, 429, retry_after="7"))).retry_after_s == 7.0
    assert (await failed(dialect, answer(busy, 429, retry_after_ms="1500"))).retry_after_s == 1.5
    assert (await failed(dialect, answer(busy, 429))).retry_after_s is None


@pytest.mark.parametrize(
    ("dialect", "status", "code", "message"),
    [
        (CHAT, 429, "insufficient_quota", "You exceeded your current quota"),
        (RESPONSES, 429, "billing_hard_limit_reached", "Billing hard limit has been reached"),
        (ANTHROPIC, 400, "invalid_request_error", "Your credit balance is too low to access the API"),
        (ANTHROPIC, 402, "billing_error", "Payment required"),
    ],
    ids=lambda value: str(value)[:24],
)
async def test_an_account_that_is_used_up_is_not_transient(
    dialect: Dialect, status: int, code: str, message: str
) -> None:
    error = await failed(dialect, answer(dialect.error(code, message), status))
    assert error.transient is False
    assert message in error.message


@each_dialect
@pytest.mark.parametrize("cut_after", [0, 40], ids=["before the reply", "within the reply"])
async def test_a_cut_connection_is_transient_and_may_have_been_served(dialect: Dialect, cut_after: int) -> None:
    whole = answer(dialect.says_yes)
    error = await failed(dialect, Answer(body=whole.body, cut_after=cut_after))
    assert (error.transient, error.sent) == (True, True)
    assert "unknown" in error.message


@each_dialect
@pytest.mark.parametrize(
    "given",
    [
        Answer(body=b'{"id": "x", "choi'),
        Answer(body=b"<html>busy</html>", content_type="text/html"),
        Answer(body=b"\xff\xfe\x00", content_type="application/json"),
        Answer(body=b""),
        Answer(body=b"[]"),
        Answer(body=b"{}"),
    ],
    ids=["half", "html", "not utf-8", "empty", "list", "nothing in it"],
)
async def test_a_reply_that_cannot_be_read_is_a_typed_error(dialect: Dialect, given: Answer) -> None:
    error = await failed(dialect, given)
    assert (error.status, error.transient, error.sent) == (200, True, True)
    assert "could not be read" in error.message


async def test_an_error_object_under_status_200_is_an_error() -> None:
    def document(code: str) -> dict[str, object]:
        error = {"code": code, "message": "it went wrong"}
        return {**RESPONSES.says_yes, "status": "failed", "error": error, "output": []}

    assert (await failed(RESPONSES, answer(document("server_error")))).transient is True
    assert (await failed(RESPONSES, answer(document("invalid_prompt")))).transient is False


@each_dialect
async def test_a_refused_connection_was_certainly_not_sent(dialect: Dialect) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        model = HostedModel(dialect.route, base_url=url, api_key=KEY)
        with pytest.raises(ModelError) as caught:
            await model.complete(asked())
        await model.aclose()
    assert (caught.value.transient, caught.value.sent, caught.value.status) == (True, False, None)


@each_dialect
async def test_a_redirect_is_not_followed(dialect: Dialect) -> None:
    error = await failed(dialect, answer({}, 307, location="/elsewhere"), answer(dialect.says_yes))
    assert (error.status, error.transient) == (307, False)


@pytest.mark.slow
@each_dialect
async def test_time_that_runs_out_is_transient_and_may_have_been_served(dialect: Dialect) -> None:
    late = Answer(body=b"{}", wait_s=10)
    async with desk(dialect, answer(dialect.says_yes), late) as d:
        await d.model.complete(asked())  # so that what is timed below is the waiting, not imports
        with pytest.raises(ModelError) as caught:
            await d.model.complete(asked(timeout_s=0.25))
        assert len(d.server.seen) == 2
    assert (caught.value.transient, caught.value.sent, caught.value.status) == (True, True, None)


@each_dialect
async def test_a_cancellation_passes_through(dialect: Dialect) -> None:
    async with desk(dialect, Answer(body=b"{}", wait_s=5)) as d:
        task = asyncio.ensure_future(d.model.complete(asked()))
        await d.server.arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(d.server.seen) == 1


# -- keys


def kept(reply: ModelReply) -> str:
    return repr(reply) + repr(pickle.dumps(reply))


@each_dialect
async def test_a_key_is_in_nothing_that_is_kept_even_if_the_server_says_it(dialect: Dialect) -> None:
    echo = {**dialect.says_yes, "debug": {"authorization": f"Bearer {KEY}"}}
    async with desk(dialect, answer(echo)) as d:
        reply = await d.model.complete(asked())
        assert KEY in str(d.server.seen[0].headers)
    assert KEY not in kept(reply)
    assert KEY not in repr(d.model)
    error = await failed(dialect, answer(dialect.error("invalid_api_key", f"Incorrect key: {KEY}"), 401))
    assert KEY not in f"{error!r} {error} {error.__cause__!r} {pickle.dumps(error)!r}"


class Rotating:
    """A secret that is another one each time."""

    def __init__(self) -> None:
        self.revealed = 0

    def reveal(self) -> str:
        self.revealed += 1
        return f"{KEY}-{self.revealed}"


@each_dialect
async def test_a_secret_is_revealed_at_each_call(dialect: Dialect) -> None:
    both = (answer(dialect.says_yes), answer(dialect.says_yes))
    async with desk(dialect, *both, api_key=Rotating()) as d:
        await d.model.complete(asked())
        await d.model.complete(asked())
        keys = [seen.headers[dialect.key_header] for seen in d.server.seen]
    assert keys == [f"{dialect.key_prefix}{KEY}-1", f"{dialect.key_prefix}{KEY}-2"]


@each_dialect
async def test_without_a_key_only_another_address_is_asked(dialect: Dialect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(dialect.key_variable, raising=False)
    with pytest.raises(ModelError, match=dialect.key_variable) as caught:
        await HostedModel(dialect.route).complete(asked())
    assert caught.value.sent is False
    async with desk(dialect, answer(dialect.says_yes), api_key=None) as d:
        await d.model.complete(asked())
        assert dialect.key_header not in d.server.seen[0].headers
    monkeypatch.setenv(dialect.key_variable, KEY)
    async with desk(dialect, answer(dialect.says_yes), api_key=None) as d:
        await d.model.complete(asked())
        assert d.server.seen[0].headers[dialect.key_header].endswith(KEY)


# -- connections


@each_dialect
async def test_a_client_of_the_user_sends_and_stays_open(dialect: Dialect) -> None:
    async with httpx2.AsyncClient(headers={"x-own": "1"}) as client:
        sent: list[httpx2.Request] = []

        async def note(request: httpx2.Request) -> None:
            sent.append(request)

        client.event_hooks["request"].append(note)
        async with desk(dialect, answer(dialect.says_yes), http_client=client) as d:
            await d.model.complete(asked())
        assert len(sent) == 1
        assert not client.is_closed


async def test_calls_side_by_side_keep_their_own_bodies() -> None:
    async with desk(CHAT, *[answer({**CHAT.says_yes, "id": f"id-{n}"}) for n in range(8)]) as d:
        replies: dict[int, ModelReply] = {}

        async def ask(number: int) -> None:
            replies[number] = await d.model.complete(asked(user(f"question {number}")))

        async with anyio.create_task_group() as group:
            for number in range(8):
                group.start_soon(ask, number)
    for number, reply in replies.items():
        assert f"question {number}".encode() in (reply.raw_request or b"")
        assert f'"{reply.response_id}"'.encode() in (reply.raw_response or b"")


def test_a_model_serves_one_event_loop_after_another() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    model = HostedModel(CHAT.route, base_url=f"http://127.0.0.1:{port}/v1", api_key=KEY)

    async def ask() -> str:
        async with loopback(answer(CHAT.says_yes), port=port):
            reply = await model.complete(asked())
            # Each loop closes its own: what the last one had open is of no use in this one.
            await model.aclose()
            return reply.message.text

    assert [asyncio.run(ask()), asyncio.run(ask())] == ["Yes, seven.", "Yes, seven."]


async def test_a_closed_model_connects_again() -> None:
    async with desk(CHAT, answer(CHAT.says_yes), answer(CHAT.says_yes)) as d:
        await d.model.complete(asked())
        await d.model.aclose()
        assert (await d.model.complete(asked())).message.text == "Yes, seven."
