"""What is kept of a model call: the conversation once, the bytes as they were, tokens and money or `None`, and which agent it was."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

import holdfast as hf
from holdfast.cli.record import read_record
from holdfast.errors import RunFailed
from holdfast.journal import conversation, raw
from holdfast.model import Message, ModelReply, ModelRequest, Text, ToolCall, Usage
from holdfast.store import open_store
from holdfast.store.memory import MemoryStore
from holdfast.testing import ScriptedModel
from tests.agent.support import agent_of, asking, completed, look, outcomes, says, stored_messages
from tests.providers.dialects import CHAT, RESPONSES, Dialect
from tests.providers.loopback import answer, loopback
from tests.runtime.support import SOON_S, flow, opened, result

PRICED = Usage(input_tokens=1000, output_tokens=100)


def reply(
    *calls: ToolCall, usage: Usage | None = None, served: str | None = None, sent: bytes | None = None, came: bytes | None = None
) -> ModelReply:  # fmt: skip
    provider = None if served is None else "openai"
    return ModelReply(
        parts=calls, usage=usage, provider=provider, served_model=served, raw_request=sent, raw_response=came
    )


# -- conversations ---------------------------------------------------------------------------------------------------------


async def test_the_stored_conversation_is_what_the_model_was_sent_and_what_it_said() -> None:
    agent, model = agent_of(look("c1"), "hm", completed(sources=["c1"]))
    workflow = asking(agent)
    async with opened(workflow) as app:
        await app.start(workflow, "two, please", id="r")
        await result(app)
        for outcome, request in zip(await outcomes(app), model.requests, strict=True):
            assert await conversation.read(app.store, "r", outcome.conversation) == request.messages
        last = Message("assistant", (completed(sources=["c1"]),))
        assert await stored_messages(app) == (*model.requests[-1].messages, last)


async def test_instructions_and_tool_schemas_are_stored_once_for_all_runs() -> None:
    store = MemoryStore()
    found = set()
    for run in ("a", "b"):
        agent, _ = agent_of(look("c1"), completed())
        workflow = asking(agent)
        async with opened(workflow, store=store) as app:
            await app.start(workflow, "?", id=run)
            await result(app, run)
            for outcome in await outcomes(app, run):
                found.add((outcome.instructions, outcome.tools))
    assert len(found) == 1
    ((instructions, tools),) = found
    there = await store.shared([bytes.fromhex(instructions), bytes.fromhex(tools)])
    assert len(there) == 2


async def stored_bytes(path: Path, turns: int, *, with_raw: bool) -> int:
    """The size of the store after one agent run of that many model turns, each reading and hearing about half a kilobyte."""
    filler = "the quick brown fox " * 20

    @hf.tool(effect="read")
    async def page(number: int) -> str:
        return f"page {number}: {filler[number:]}{number * 7919}"

    def answer(request: ModelRequest) -> ModelReply:
        turn = sum(m.role == "assistant" for m in request.messages)
        call = ToolCall(f"c{turn}", "page", {"number": turn}) if turn < turns - 1 else completed()
        if not with_raw:
            return reply(call, usage=PRICED)
        body = json.dumps({"model": "m", "messages": [str(m) for m in request.messages], "tools": filler})
        return reply(call, usage=PRICED, sent=body.encode(), came=f"{turn} {filler}".encode())

    agent, _ = agent_of(model=ScriptedModel(answer), tools=[page], max_steps=turns)
    workflow = asking(agent)
    store = await open_store(path)
    async with opened(workflow, store=store) as app:
        await app.start(workflow, "?", id="r")
        await result(app)
        assert len(await outcomes(app)) == turns
    with store.snapshot() as snapshot:
        rows = [row for stream in (0, 1) for row in snapshot.rows("r", hf.store.Stream(stream))]
        kept = sum(len(row.header) + len(row.payload or b"") for row in rows)
        kept += sum(len(data) for _, data in snapshot.blobs("r"))
    await store.close()
    return kept


@pytest.mark.parametrize("with_raw", [False, True], ids=["without raw bytes", "with raw bytes"])
async def test_forty_turns_take_at_most_4_5_times_the_bytes_of_ten(tmp_path: Path, with_raw: bool) -> None:
    ten = await stored_bytes(tmp_path / "ten.db", 10, with_raw=with_raw)
    forty = await stored_bytes(tmp_path / "forty.db", 40, with_raw=with_raw)
    assert forty / ten < 4.5


# -- bytes -----------------------------------------------------------------------------------------------------------------


async def test_request_and_response_are_read_back_byte_for_byte() -> None:
    requests = [b'{"messages": ["%s"] , "n":%d}' % (b"x" * 400 * n, n) for n in (1, 2)]
    responses = [b'{"id":"1","logprobs":[-0.1]}\r\n', bytes(range(256))]
    replies = [
        reply(call, sent=sent, came=came)
        for call, sent, came in zip([look(), completed()], requests, responses, strict=True)
    ]
    agent, _ = agent_of(*replies)
    workflow = asking(agent)
    async with opened(workflow) as app:
        await app.start(workflow, "?", id="r")
        await result(app)
        for outcome, sent, came in zip(await outcomes(app), requests, responses, strict=True):
            assert outcome.raw_request is not None
            assert outcome.raw_response is not None
            assert await raw.read(app.store, "r", outcome.raw_request) == sent
            assert await raw.read(app.store, "r", outcome.raw_response) == came
        assert (await app.verify()).ok


@pytest.mark.parametrize("dialect", [CHAT, RESPONSES], ids=lambda d: d.route)
async def test_the_bytes_of_a_hosted_model_are_those_on_the_wire(dialect: Dialect) -> None:
    hosted = pytest.importorskip("holdfast.providers.hosted")
    said = json.dumps(completed(sources=["call_1"]).arguments)
    replies = [answer(dialect.calls("stock", '{"sku": "A1"}')), answer(dialect.calls("answer_completed", said))]
    async with loopback(*replies) as server:
        model = hosted.HostedModel(dialect.route, base_url=server.url, api_key="key", timeout_s=SOON_S)
        agent, _ = agent_of(model=model)
        workflow = asking(agent)
        async with opened(workflow) as app:
            await app.start(workflow, "two, please", id="r")
            assert (await result(app)).sku == "A1"
            there = await outcomes(app)
            assert [await raw.read(app.store, "r", o.raw_request or "") for o in there] == [s.body for s in server.seen]
            assert [await raw.read(app.store, "r", o.raw_response or "") for o in there] == [r.body for r in replies]
            assert [o.usage for o in there] == [dialect.usage, dialect.usage]
            assert (there[0].served_model, there[0].provider) == (dialect.served, dialect.provider)
        await model.aclose()


async def test_a_model_without_a_wire_has_no_bytes() -> None:
    agent, _ = agent_of(completed())
    workflow = asking(agent)
    async with opened(workflow) as app:
        await app.start(workflow, "?", id="r")
        await result(app)
        (outcome,) = await outcomes(app)
        assert (outcome.raw_request, outcome.raw_response) == (None, None)


async def test_what_the_provider_said_of_itself_is_kept() -> None:
    said = ModelReply(
        parts=(completed(),), served_model="gpt-4.1-2025-04-14", provider="openai", finish_reason="tool_call", response_id="resp-1"
    )  # fmt: skip
    agent, _ = agent_of(said)
    workflow = asking(agent)
    async with opened(workflow) as app:
        await app.start(workflow, "?", id="r")
        await result(app)
        (outcome,) = await outcomes(app)
        assert (outcome.served_model, outcome.provider) == ("gpt-4.1-2025-04-14", "openai")
        assert (outcome.finish_reason, outcome.response_id) == ("tool_call", "resp-1")
        assert (outcome.agent, outcome.agent_version, outcome.route) == ("desk", agent.version, "scripted:test")


# -- tokens and money ------------------------------------------------------------------------------------------------------


async def test_law_10_what_a_run_cost_is_the_sum_of_what_is_known_and_a_count_of_what_is_not() -> None:
    agent, _ = agent_of(
        reply(look("c1"), usage=PRICED, served="gpt-4.1"),
        reply(look("c2"), usage=PRICED, served="a model without a price"),
        reply(look("c3")),
        reply(completed(), usage=PRICED, served="gpt-4.1"),
    )
    workflow = asking(agent)
    async with opened(workflow) as app:
        await app.start(workflow, "?", id="r")
        await result(app)
        costs = [o.cost_microusd for o in await outcomes(app)]
        known = [cost for cost in costs if cost is not None]
        assert [cost is None for cost in costs] == [False, True, True, False]
        assert known[0] == known[1] > 0
        assert [o.usage for o in await outcomes(app)] == [PRICED, PRICED, None, PRICED]
        spent = (await read_record(app, "r", messages=False, asked=False)).spent
        assert (spent.microusd, spent.calls, spent.unpriced) == (sum(known), 4, 2)


# -- versions --------------------------------------------------------------------------------------------------------------


async def test_two_agents_in_one_run_are_told_apart_by_name_and_version() -> None:
    one, _ = agent_of(completed())
    other, _ = agent_of(completed(), instructions="Draft it twice.")

    async def handle() -> None:
        await one.run("?")
        await other.run("?")

    workflow = flow(handle)
    async with opened(workflow) as app:
        run = await app.start(workflow, id="r")
        await run.result(timeout_s=SOON_S)
        assert [o.agent_version for o in await outcomes(app)] == [one.version, other.version]
        assert one.version != other.version


async def test_messages_are_blobs_and_stand_in_no_event_of_a_model_call() -> None:
    agent, _ = agent_of("a sentence that is said once", completed())
    workflow = asking(agent)
    async with opened(workflow) as app:
        await app.start(workflow, "?", id="r")
        await result(app)
        for event in await app.events("r"):
            if event.kind.startswith("model."):
                assert "said once" not in json.dumps(event.json())
        assert Message("assistant", (Text("a sentence that is said once"),)) in await stored_messages(app)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["text", "arguments", "raw bytes"])
async def test_a_reply_too_large_to_be_read_again_is_a_typed_failure_and_not_stored(where: str) -> None:
    huge = f"{random.getrandbits(8 * 35_000_000):x}"  # nothing to compress
    replies = {
        "text": says(huge, completed()), "arguments": look(sku=huge),
        "raw bytes": reply(completed(), sent=b"{}", came=huge.encode()),
    }  # fmt: skip
    agent, _ = agent_of(replies[where], completed(), retry=hf.Retry(attempts=1))
    workflow = asking(agent)
    async with opened(workflow) as app:
        run = await app.start(workflow, "?", id="r")
        ended: object
        try:
            ended = await run.result(timeout_s=SOON_S)
        except RunFailed as failed:
            ended = failed.error_type
        assert isinstance(ended, hf.Escalated) or str(ended).startswith("holdfast.errors.")
        assert (await app.verify()).ok
        assert len(str([event.json() for event in await app.events("r")])) < 20_000_000
