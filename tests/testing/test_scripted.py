"""A scripted model says what the script says, and fails clearly when it has nothing more to say."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.errors import ModelError
from holdfast.model import Message, ModelReply, ModelRequest, Text, ToolCall, ToolResult, Usage
from holdfast.providers import Model
from holdfast.testing import ScriptedModel

LOOK_UP = ToolCall("c1", "stock", {"sku": "A1"})


def asked(text: str = "?") -> ModelRequest:
    return ModelRequest(instructions="", messages=(Message("user", (Text(text),)),))


async def test_a_list_is_said_in_order_in_whatever_form_its_replies_have() -> None:
    whole = ModelReply(parts=(Text("whole"),), usage=Usage(input_tokens=1))
    model: Model = ScriptedModel(["text", LOOK_UP, [LOOK_UP, LOOK_UP], whole])
    assert (await model.complete(asked())).parts == (Text("text"),)
    assert (await model.complete(asked())).parts == (LOOK_UP,)
    assert (await model.complete(asked())).parts == (LOOK_UP, LOOK_UP)
    assert await model.complete(asked()) is whole


async def test_what_the_script_leaves_open_is_none_and_not_zero() -> None:
    reply = await ScriptedModel(["text"]).complete(asked())
    assert reply == ModelReply(parts=(Text("text"),))
    assert reply.usage is None


async def test_an_error_in_a_script_is_raised_and_counts_as_a_call() -> None:
    busy = ModelError("scripted:test", "busy", status=429, transient=True)
    model = ScriptedModel([busy, "text"])
    with pytest.raises(ModelError) as caught:
        await model.complete(asked())
    assert caught.value is busy
    assert (await model.complete(asked())).message.text == "text"
    assert model.calls == 2


async def test_a_function_is_asked_with_the_request_plain_or_async() -> None:
    def plain(request: ModelRequest) -> str:
        return request.messages[-1].text.upper()

    async def waited(request: ModelRequest) -> list[ToolCall]:
        return [ToolCall("c", request.messages[-1].text, {})]

    assert (await ScriptedModel(plain).complete(asked("abc"))).message.text == "ABC"
    assert (await ScriptedModel(waited).complete(asked("abc"))).message.tool_calls[0].name == "abc"


async def test_a_script_that_is_used_up_says_so_and_what_was_asked() -> None:
    model = ScriptedModel(["one"], name="scripted:desk")
    await model.complete(asked())
    with pytest.raises(ModelError, match=r"1 replies.*call 2.*'and now\?'") as caught:
        await model.complete(asked("and now?"))
    assert (caught.value.route, caught.value.sent, caught.value.transient) == ("scripted:desk", False, False)
    result = Message("tool", (ToolResult("c1", "stock", "seven"),))
    with pytest.raises(ModelError, match="seven"):
        await model.complete(ModelRequest(instructions="", messages=(result,)))
    with pytest.raises(ModelError, match="0 replies"):
        await ScriptedModel([]).complete(ModelRequest(instructions="", messages=()))


async def test_requests_are_kept_in_order() -> None:
    model = ScriptedModel(lambda request: "ok")
    first, second = asked("1"), asked("2")
    await model.complete(first)
    await model.complete(second)
    assert model.requests == (first, second)
    assert model.name == "scripted:test"


async def test_a_reply_of_another_kind_is_a_clear_error() -> None:
    odd: Any = [["text in a list"]]  # Any: what the types forbid
    with pytest.raises(TypeError, match="scripted reply"):
        await ScriptedModel(odd).complete(asked())
