"""A conversation in plain text: tools between the turns, one bound for all of it, and the record is what was sent."""

from __future__ import annotations

from typing import Any

import pytest

import holdfast as hf
from holdfast.errors import BudgetExceeded, ModelError, RunNeedsAttention, StepFailed
from holdfast.model import Message, Text
from holdfast.store.memory import MemoryStore
from holdfast.testing import ScriptedModel
from tests.agent.support import AT_ONCE, agent_of, look, outcomes, says, stock, stored_messages, told
from tests.runtime.support import SOON_S, flow, kinds, opened, result


def chatting(*replies: Any, **options: Any) -> tuple[hf.Agent[Any], ScriptedModel]:
    model = ScriptedModel(list(replies))
    settings = {"instructions": "Be kind.", "tools": [stock], "retry": AT_ONCE, **options}
    return hf.Agent("chat", model=model, **settings), model


def texts(messages: tuple[Message, ...]) -> list[str]:
    return [f"{m.role}: {m.text}" for m in messages if m.text]


async def test_a_chat_keeps_its_conversation_over_turns_and_tool_calls() -> None:
    agent, model = chatting("hello", look("c1"), "seven")

    async def handle() -> list[str]:
        chat = agent.chat()
        chat.heard("How can I help?", role="assistant")
        return [await chat.say("hi"), await chat.say("how many A1?")]

    workflow = flow(handle)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        assert await result(app) == ["hello", "seven"]
        assert await kinds(app) == [
            "run.started", "model.completed 0.0", "model.completed 0.1", "tool.completed 0.2", "model.completed 0.3",
            "run.finished",
        ]  # fmt: skip
        assert texts(await stored_messages(app)) == [
            "assistant: How can I help?", "user: hi", "assistant: hello", "user: how many A1?", "assistant: seven",
        ]  # fmt: skip
    assert told(model.requests[2])[0].content == "7"


async def test_a_chat_is_not_told_how_to_answer() -> None:
    agent, model = chatting("hello")

    async def handle() -> str:
        return await agent.chat().say("hi")

    workflow = flow(handle)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        await result(app)
    assert model.requests[0].instructions == "Be kind."
    assert [spec.name for spec in model.requests[0].tools] == ["stock"]


async def test_max_steps_bounds_the_model_turns_of_the_whole_chat_and_escalates_the_run() -> None:
    agent, model = chatting("one", look("c1"), "two", "three", max_steps=3)

    async def handle() -> str:
        chat = agent.chat()
        await chat.say("first")
        await chat.say("second")
        return await chat.say("third")

    workflow = flow(handle)
    async with opened(workflow) as app:
        run = await app.start(workflow, id="r")
        answer = await run.result(timeout_s=SOON_S)
        assert isinstance(answer, hf.Escalated)
        assert answer.reason == "budget of model turns"
    assert model.calls == 3


async def test_the_workflow_may_handle_the_bound_itself() -> None:
    agent, _ = chatting("one", max_steps=1)

    async def handle() -> str:
        chat = agent.chat()
        await chat.say("first")
        try:
            return await chat.say("second")
        except BudgetExceeded as exceeded:
            return f"{exceeded.what}: {exceeded.used:g} of {exceeded.limit:g}"

    workflow = flow(handle)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        assert await result(app) == "model turns: 1 of 1"


async def test_user_turns_are_notes_and_a_chat_goes_on_in_another_app() -> None:
    store = MemoryStore()

    def talking(*replies: str) -> tuple[Any, ScriptedModel]:
        agent, model = chatting(*replies)

        async def handle() -> list[str]:
            chat = agent.chat()
            said = []
            while (turn := await hf.reply()) != "bye":
                said.append(await chat.say(turn))
            return said

        return flow(handle), model

    workflow, _ = talking("hello")
    async with opened(workflow, store=store) as app:
        run = await app.start(workflow, id="r")
        await run.reply("hi")
        await app.drain()
    workflow, model = talking("fine")
    async with opened(workflow, store=store) as app:
        await app.run("r").reply("how are you?")
        await app.run("r").reply("bye")
        assert await result(app) == ["hello", "fine"]
        assert texts(await stored_messages(app)) == [
            "user: hi", "assistant: hello", "user: how are you?", "assistant: fine",
        ]  # fmt: skip
    assert texts(model.requests[0].messages) == ["user: hi", "assistant: hello", "user: how are you?"]
    assert model.calls == 1


async def test_after_a_turn_without_a_reply_the_record_is_still_what_was_sent() -> None:
    agent, model = chatting(ModelError("chat", "down"), "hello", "again")

    async def handle() -> list[str]:
        chat = agent.chat()
        said = []
        for turn in ("first", "second", "third"):
            try:
                said.append(await chat.say(turn))
            except StepFailed as failed:
                said.append(failed.error_type)
        return said

    workflow = flow(handle)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        assert await result(app) == ["holdfast.errors.ModelError", "hello", "again"]
        for outcome, request in zip(await outcomes(app), model.requests[1:], strict=True):
            assert await hf.journal.conversation.read(app.store, "r", outcome.conversation) == request.messages


async def test_a_tool_that_fails_in_a_chat_is_told_as_a_failure() -> None:
    agent, model = chatting(says("one moment", look("c1", "Z9")), "there is none")

    async def handle() -> str:
        return await agent.chat().say("how many Z9?")

    workflow = flow(handle)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        assert await result(app) == "there is none"
    assert [(r.ok, r.content) for r in told(model.requests[1])] == [(False, "Error: no article Z9")]


async def test_two_chats_of_one_agent_do_not_hear_each_other() -> None:
    agent, model = chatting("one", "two")

    async def handle() -> None:
        await agent.chat().say("first")
        await agent.chat().say("second")

    workflow = flow(handle)
    async with opened(workflow) as app:
        await (await app.start(workflow)).result(timeout_s=SOON_S)
    assert [r.messages for r in model.requests] == [(Message("user", (Text(t),)),) for t in ("first", "second")]


async def test_what_an_agent_is_for_is_said_when_it_is_used_otherwise() -> None:
    talker, _ = chatting()
    worker, _ = agent_of()

    async def run_it() -> None:
        await talker.run("?")

    async def chat_with_it() -> None:
        worker.chat()

    for wrong, advice in ((run_it, r"use \.chat\(\)"), (chat_with_it, r"use \.run\(")):
        workflow = flow(wrong)
        async with opened(workflow) as app:
            run = await app.start(workflow)
            with pytest.raises(hf.errors.RunNeedsAttention, match=advice):
                await run.result(timeout_s=SOON_S)


@pytest.mark.parametrize("how", ["parallel", "timeout"])
async def test_a_chat_belongs_to_the_branch_that_made_it(how: str) -> None:
    """What it has heard would depend on scheduling, and a replay would not hear what a branch that lost has said."""
    agent, model = chatting("one", "two")

    async def handle() -> object:
        chat = agent.chat()
        if how == "timeout":
            return await hf.timeout(chat.say("hi"), timeout_s=SOON_S)
        return await hf.parallel(chat.say("hi"), chat.say("ho"))

    workflow = flow(handle)
    async with opened(workflow) as app:
        run = await app.start(workflow, id="r")
        with pytest.raises(RunNeedsAttention, match="made in another branch"):
            await run.result(timeout_s=SOON_S)
    assert model.calls == 0


async def test_a_chat_made_in_a_branch_is_used_there() -> None:
    agent, _ = chatting("hello")

    async def branch() -> str:
        return await agent.chat().say("hi")

    async def handle() -> str:
        return await hf.timeout(branch(), timeout_s=SOON_S)

    workflow = flow(handle)
    async with opened(workflow) as app:
        await app.start(workflow, id="r")
        assert await result(app) == "hello"
