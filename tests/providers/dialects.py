"""Replies of each provider dialect, and where in a request it puts things (after their references)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from holdfast.model import Usage

Json = dict[str, Any]  # Any: JSON as the providers write it


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    route: str
    path: str
    served: str
    provider: str
    finish_reason: str
    key_header: str
    key_prefix: str
    key_variable: str
    max_tokens: str
    usage: Usage
    calls_stock: Json
    says_yes: Json

    @property
    def model(self) -> str:
        return self.route.partition(":")[2]

    def error(self, code: str, message: str) -> Json:
        if self.provider == "anthropic":
            return {"type": "error", "error": {"type": code, "message": message}}
        return {"error": {"code": code, "type": "an_error", "message": message, "param": None}}

    def calls(self, tool: str, arguments: str) -> Json:
        """`calls_stock` with these arguments, which may be no JSON; Anthropic's always are JSON."""
        document: Json = json.loads(json.dumps(self.calls_stock))
        if "choices" in document:
            (call,) = document["choices"][0]["message"]["tool_calls"]
            call["function"] = {"name": tool, "arguments": arguments}
        else:
            document["output"][-1].update(name=tool, arguments=arguments)
        return document

    def tool_schema(self, sent: Json) -> Json:
        schema: Json = (sent.get("function") or sent).get("parameters") or sent["input_schema"]
        return schema

    def sent_call(self, sent: Json) -> tuple[str, str, Json]:
        """Id, name and arguments of the one tool call in the history that was sent."""
        if "input" in sent:
            (call,) = [item for item in sent["input"] if item.get("type") == "function_call"]
            return call["call_id"], call["name"], json.loads(call["arguments"])
        (turn,) = [message for message in sent["messages"] if message["role"] == "assistant"]
        if "tool_calls" in turn:
            (call,) = turn["tool_calls"]
            return call["id"], call["function"]["name"], json.loads(call["function"]["arguments"])
        (call,) = [block for block in turn["content"] if block["type"] == "tool_use"]
        return call["id"], call["name"], call["input"]

    def sent_results(self, sent: Json) -> list[tuple[str, str]]:
        if "input" in sent:
            items = [item for item in sent["input"] if item.get("type") == "function_call_output"]
            return [(item["call_id"], item["output"]) for item in items]
        found = [(m["tool_call_id"], m["content"]) for m in sent["messages"] if m["role"] == "tool"]
        blocks = [b for m in sent["messages"] if isinstance(m["content"], list) for b in m["content"]]
        found += [(b["tool_use_id"], _text(b["content"])) for b in blocks if b.get("type") == "tool_result"]
        return found


def _text(content: str | list[Json]) -> str:
    return content if isinstance(content, str) else "".join(block["text"] for block in content)


def _chat(message: Json, finish_reason: str) -> Json:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "gpt-test-2026-01-01",
        "choices": [{"index": 0, "finish_reason": finish_reason, "message": {"role": "assistant", **message}}],
        "usage": {
            "prompt_tokens": 11,
            "completion_tokens": 5,
            "total_tokens": 16,
            "prompt_tokens_details": {"cached_tokens": 0},
        },
    }


CHAT = Dialect(
    route="openai-chat:gpt-test",
    path="",
    served="gpt-test-2026-01-01",
    provider="openai",
    finish_reason="tool_call",
    key_header="authorization",
    key_prefix="Bearer ",
    key_variable="OPENAI_API_KEY",
    max_tokens="max_completion_tokens",
    usage=Usage(input_tokens=11, output_tokens=5, cache_read_tokens=0),
    calls_stock=_chat(
        {
            "content": "One moment.",
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "stock", "arguments": '{"sku": "A1"}'},
                }
            ],
        },
        "tool_calls",
    ),
    says_yes=_chat({"content": "Yes, seven."}, "stop"),
)


def _responses(*output: Json) -> Json:
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_700_000_000,
        "model": "gpt-test-2026-01-01",
        "status": "completed",
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "output": list(output),
        "usage": {
            "input_tokens": 11,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 5,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 16,
        },
    }


def _output_text(text: str) -> Json:
    content = {"type": "output_text", "text": text, "annotations": []}
    return {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "content": [content],
    }


RESPONSES = Dialect(
    route="openai:gpt-test",
    path="",
    served="gpt-test-2026-01-01",
    provider="openai",
    finish_reason="stop",
    key_header="authorization",
    key_prefix="Bearer ",
    key_variable="OPENAI_API_KEY",
    max_tokens="max_output_tokens",
    usage=Usage(input_tokens=11, output_tokens=5, cache_read_tokens=0),
    calls_stock=_responses(
        _output_text("One moment."),
        {
            "type": "function_call",
            "id": "fc_1",
            "call_id": "call_1",
            "name": "stock",
            "arguments": '{"sku":"A1"}',
            "status": "completed",
        },
    ),
    says_yes=_responses(_output_text("Yes, seven.")),
)


def _anthropic(*content: Json, stop_reason: str) -> Json:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-test-20260101",
        "content": list(content),
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": {
            "input_tokens": 6,
            "output_tokens": 5,
            "cache_read_input_tokens": 0,
            "cache_creation_input_tokens": 5,
        },
    }


ANTHROPIC = Dialect(
    route="anthropic:claude-test",
    path="/..",
    served="claude-test-20260101",
    provider="anthropic",
    finish_reason="tool_call",
    key_header="x-api-key",
    key_prefix="",
    key_variable="ANTHROPIC_API_KEY",
    max_tokens="max_tokens",
    # 6 that were neither read from nor written to the cache, and 5 that were written.
    usage=Usage(input_tokens=11, output_tokens=5, cache_read_tokens=0, cache_write_tokens=5),
    calls_stock=_anthropic(
        {"type": "text", "text": "One moment."},
        {"type": "tool_use", "id": "call_1", "name": "stock", "input": {"sku": "A1"}},
        stop_reason="tool_use",
    ),
    says_yes=_anthropic({"type": "text", "text": "Yes, seven."}, stop_reason="end_turn"),
)

DIALECTS = (CHAT, RESPONSES, ANTHROPIC)
