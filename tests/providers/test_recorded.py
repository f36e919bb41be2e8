"""A recorded model continues what was recorded, and says what differs otherwise."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import ModelError, RecordingMismatch
from holdfast.model import (
    Message,
    ModelReply,
    ModelRequest,
    Opaque,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    ToolSpec,
    Usage,
)
from holdfast.providers import RecordedModel
from holdfast.providers.recorded import Turn


def user(text: str) -> Message:
    return Message("user", (Text(text),))


def says(text: str) -> Message:
    return Message("assistant", (Text(text),))


def calls(*calls: ToolCall) -> Message:
    return Message("assistant", calls)


def result(call_id: str, content: str, *, ok: bool = True) -> Message:
    return Message("tool", (ToolResult(call_id, "stock", content, ok),))


def asked(*messages: Message) -> ModelRequest:
    return ModelRequest(instructions="", messages=messages)


LOOK_UP = ToolCall("c1", "stock", {"sku": "A1", "where": "north"})
CONVERSATION: tuple[Turn, ...] = (
    user("Is A1 in stock?"),
    ModelReply(parts=(LOOK_UP,), usage=Usage(input_tokens=9, output_tokens=2), served_model="gpt-test-1"),
    result("c1", "7"),
    says("Yes, seven."),
    user("Thanks."),
)


async def mismatch(model: RecordedModel, *messages: Message) -> str:
    with pytest.raises(RecordingMismatch) as caught:
        await model.complete(asked(*messages))
    assert isinstance(caught.value, ModelError)
    assert (caught.value.sent, caught.value.transient, caught.value.route) == (False, False, model.name)
    return caught.value.message


@pytest.fixture
def model() -> RecordedModel:
    return RecordedModel("recorded:desk", {"mail-1": CONVERSATION})


async def test_each_recorded_prefix_gets_the_reply_that_was_recorded(model: RecordedModel) -> None:
    first = await model.complete(asked(user("Is A1 in stock?")))
    assert first == CONVERSATION[1]
    second = await model.complete(asked(user("Is A1 in stock?"), first.message, result("c1", "7")))
    assert second == ModelReply(parts=(Text("Yes, seven."),))
    assert second.usage is None  # nothing is known of it, which is not zero (law 10)


async def test_the_same_question_gets_the_same_reply_however_often(model: RecordedModel) -> None:
    once = await model.complete(asked(user("Is A1 in stock?")))
    assert await model.complete(asked(user("Is A1 in stock?"))) is once


@pytest.mark.parametrize(
    ("turn", "difference"),
    [
        (user("Is A2 in stock?"), "A2"),
        (Message("system", (Text("Is A1 in stock?"),)), "system"),
        (Message("user", ()), "user message without text"),
        (Message("user", (Text("Is A1 in stock?"), Opaque("image", "x"))), "user"),
    ],
    ids=["text", "role", "nothing", "another part"],
)
async def test_another_message_is_a_mismatch_that_names_both(
    model: RecordedModel, turn: Message, difference: str
) -> None:
    message = await mismatch(model, turn)
    assert "'mail-1'" in message
    assert "message 1" in message
    assert "Is A1 in stock?" in message
    assert difference in message


@pytest.mark.parametrize(
    "call",
    [
        ToolCall("c2", "stock", {"sku": "A1", "where": "north"}),
        ToolCall("c1", "price", {"sku": "A1", "where": "north"}),
        ToolCall("c1", "stock", {"sku": "A1", "where": "south"}),
        ToolCall("c1", "stock", '{"sku":"A1","where":"north"}'),
    ],
    ids=["id", "name", "arguments", "arguments as text"],
)
async def test_another_tool_call_is_a_mismatch(model: RecordedModel, call: ToolCall) -> None:
    message = await mismatch(model, user("Is A1 in stock?"), calls(call), result("c1", "7"))
    assert "message 2" in message


async def test_the_order_of_argument_names_is_no_difference(model: RecordedModel) -> None:
    same = ToolCall("c1", "stock", {"where": "north", "sku": "A1"})
    reply = await model.complete(asked(user("Is A1 in stock?"), calls(same), result("c1", "7")))
    assert reply.message.text == "Yes, seven."


@pytest.mark.parametrize(
    "other",
    [result("c1", "8"), result("c1", "7", ok=False), result("c9", "7")],
    ids=["content", "ok", "id"],
)
async def test_another_tool_result_is_a_mismatch(model: RecordedModel, other: Message) -> None:
    message = await mismatch(model, user("Is A1 in stock?"), calls(LOOK_UP), other)
    assert "message 3" in message


async def test_what_is_not_part_of_the_conversation_is_not_compared(model: RecordedModel) -> None:
    thought = Message("assistant", (Thinking("Hm.", "sig"), LOOK_UP))
    request = ModelRequest(
        instructions="Another version.",
        messages=(user("Is A1 in stock?"), thought, result("c1", "7")),
        tools=(ToolSpec("stock", "", {"type": "object"}),),
    )
    assert (await model.complete(request)).message.text == "Yes, seven."


async def test_results_match_in_one_message_or_in_several() -> None:
    two = (ToolCall("c1", "stock", {}), ToolCall("c2", "stock", {}))
    turns = [user("?"), calls(*two), result("c1", "7"), result("c2", "0"), says("Seven and none.")]
    model = RecordedModel("recorded:x", {"one": turns})
    together = Message("tool", (ToolResult("c1", "stock", "7"), ToolResult("c2", "stock", "0")))
    assert (await model.complete(asked(user("?"), calls(*two), together))).message.text == "Seven and none."
    swapped = Message("tool", tuple(reversed(together.parts)))
    assert "message 3" in await mismatch(model, user("?"), calls(*two), swapped)


async def test_after_the_end_of_a_recording_there_is_no_reply(model: RecordedModel) -> None:
    whole = [turn.message if isinstance(turn, ModelReply) else turn for turn in CONVERSATION]
    assert "the end of the conversation" in await mismatch(model, *whole)
    assert "the model's reply" in await mismatch(model, *whole[:4])  # the user spoke next, not the model
    assert "no recording" in await mismatch(RecordedModel("recorded:x", {}), user("?"))


async def test_the_nearest_recording_is_the_one_that_goes_along_furthest() -> None:
    model = RecordedModel(
        "recorded:x",
        {
            "a": [user("1"), says("2"), user("3"), says("4")],
            "b": [user("1"), says("2"), user("three"), says("4"), user("5"), says("6")],
            "c": [user("one"), says("2")],
        },
    )
    message = await mismatch(model, user("1"), says("2"), user("three"), says("four"))
    assert "'b'" in message
    assert "message 4" in message


async def test_long_texts_are_shown_where_they_differ() -> None:
    same = "x" * 5000
    model = RecordedModel("recorded:x", {"a": [user(f"{same} seven {same}"), says("ok")]})
    message = await mismatch(model, user(f"{same} eight {same}"))
    assert "seven" in message
    assert "eight" in message
    assert len(message) < 700


async def test_one_of_several_replies_is_never_guessed() -> None:
    model = RecordedModel(
        "recorded:x",
        {
            "a": [user("hello"), says("hi"), user("1"), says("one")],
            "b": [user("hello"), says("hi"), user("2"), says("two")],
            "c": [user("hello"), says("good day"), user("1"), says("uno")],
        },
    )
    message = await mismatch(model, user("hello"))
    assert "3 recordings" in message
    assert "for_conversation" in message
    # Where those that go along agree there is nothing to choose.
    assert (await model.complete(asked(user("hello"), says("hi"), user("2")))).message.text == "two"
    assert (await model.for_conversation("c").complete(asked(user("hello")))).message.text == "good day"
    one = RecordedModel("recorded:x", {"a": [user("hello"), says("hi")], "b": [user("hello"), says("hi")]})
    assert (await one.complete(asked(user("hello")))).message.text == "hi"


async def test_replies_that_differ_in_usage_alone_are_not_one() -> None:
    def turns(tokens: int) -> list[Turn]:
        return [user("hello"), ModelReply(parts=(Text("hi"),), usage=Usage(input_tokens=tokens))]

    model = RecordedModel("recorded:x", {"a": turns(1), "b": turns(2)})
    assert "2 recordings" in await mismatch(model, user("hello"))


async def test_a_conversation_answers_only_for_itself(model: RecordedModel) -> None:
    both = RecordedModel("recorded:x", {"a": [user("1"), says("one")], "b": [user("2"), says("two")]})
    only_a = both.for_conversation("a")
    assert only_a.name == both.name
    assert "'a'" in await mismatch(only_a, user("2"))
    assert "'b'" in await mismatch(RecordedModel("recorded:x", {"a": [user("1")], "b": []}, key="b"), user("1"))
    with pytest.raises(KeyError, match="made-up"):
        both.for_conversation("made-up")


texts = st.text(max_size=3)
turns_of_a_conversation = st.lists(
    st.one_of(
        texts.map(user),
        texts.map(says),
        st.builds(lambda i, a: calls(ToolCall(i, "t", a)), texts, st.dictionaries(texts, st.integers(), max_size=2)),
        st.builds(lambda i, c, ok: result(i, c, ok=ok), texts, texts, st.booleans()),
    ),
    max_size=8,
)


@given(st.lists(turns_of_a_conversation, max_size=4), turns_of_a_conversation)
async def test_a_reply_is_given_exactly_where_some_recording_has_one(
    conversations: Sequence[Sequence[Message]], messages: Sequence[Message]
) -> None:
    model = RecordedModel("recorded:x", {str(n): turns for n, turns in enumerate(conversations)})
    follow = [
        turns[len(messages)].parts
        for turns in conversations
        if list(turns[: len(messages)]) == list(messages)
        and len(turns) > len(messages)
        and turns[len(messages)].role == "assistant"
    ]
    if follow and all(parts == follow[0] for parts in follow):
        assert (await model.complete(asked(*messages))).parts == follow[0]
    else:
        await mismatch(model, *messages)


# -- the recorded runs of a customer-service agent


def message_of(recorded: dict[str, Any]) -> Turn:
    text = (Text(recorded["content"]),) if recorded.get("content") else ()
    if recorded["role"] == "tool":
        ok = not recorded["error"]
        return Message("tool", (ToolResult(recorded["id"], "", recorded["content"], ok),))
    if recorded["role"] == "user":
        return Message("user", text)
    made = tuple(ToolCall(c["id"], c["name"], c["arguments"]) for c in recorded["tool_calls"] or ())
    counts = recorded["usage"]
    usage = counts and Usage(input_tokens=counts["prompt_tokens"], output_tokens=counts["completion_tokens"])
    return ModelReply(parts=(*text, *made), usage=usage, served_model="gpt-4.1")


@pytest.mark.slow
@pytest.mark.parametrize("agent", ["gpt-4.1", "ft-gpt-4.1"])
async def test_recorded_retail_runs_are_answered_turn_by_turn(data_dir: Path, agent: str) -> None:
    document = json.loads(gzip.decompress((data_dir / "tau" / f"tau2_retail__{agent}.json.gz").read_bytes()))
    runs = {run["id"]: [message_of(m) for m in run["messages"]] for run in document["simulations"]}
    model = RecordedModel(f"recorded:{agent}", runs)
    served = 0
    for key, turns in runs.items():
        only = model.for_conversation(key)
        said = [turn.message if isinstance(turn, ModelReply) else turn for turn in turns]
        for place, turn in enumerate(turns):
            if isinstance(turn, ModelReply):
                assert await only.complete(asked(*said[:place])) is turn
                served += 1
    assert served > 400
