"""How the stored bytes of an agent run grow with its turns: linear, or with the square as where each turn stores the conversation again.

    python bench/growth.py STORE --turns 40 [--runs 25] [--hosted]

Measured is what the file needs: pages in use (`page_count - freelist_count`) after everything was moved from the log into the
database, less those of an empty store, divided by the runs. 25 runs, so that a page more or less does not matter.
`--hosted`: the model returns the bytes as sent and received, as one behind HTTP does; each request repeats the conversation so far.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from checked import checked
from child import tell
from workload import record

import holdfast as hf
from holdfast.model import Message, ModelReply, ModelRequest, Text, ToolCall, ToolResult, Usage
from holdfast.testing import ScriptedModel


def reply_to(request: ModelRequest, turns: int) -> ModelReply:
    """About 1 KB: what a model thinks aloud, then a tool call; after so many `turns`, the answer."""
    done = sum(message.role == "assistant" for message in request.messages)
    if done == turns:
        return ModelReply(parts=(ToolCall(f"call-{done}", "answer_completed", {"result": done, "confidence": 0.5}),))
    thought = json.dumps(record(_order_of(request), done + 5_000))
    call = ToolCall(f"call-{done}", "look_up", {"order": _order_of(request), "position": done})
    return ModelReply(parts=(Text(thought), call), usage=Usage(input_tokens=400 * (done + 1), output_tokens=300))


def _order_of(request: ModelRequest) -> int:
    return int(request.messages[0].text)


class Hosted:
    """The scripted model behind a wire: with the bytes that would have been sent and received."""

    name = "hosted:test"

    def __init__(self, inner: ScriptedModel) -> None:
        self._inner = inner

    async def complete(self, request: ModelRequest) -> ModelReply:
        reply = await self._inner.complete(request)
        body = {
            "model": "test-1",
            "messages": [{"role": "system", "content": request.instructions}, *map(_on_the_wire, request.messages)],
            "tools": [
                {"type": "function", "function": {"name": t.name, "parameters": t.parameters}} for t in request.tools
            ],
            "temperature": 0,
        }
        answer = {
            "id": f"resp-{len(request.messages):04d}",
            "model": "test-1-2026-01-01",
            "choices": [{"index": 0, "message": _on_the_wire(reply.message), "finish_reason": "tool_calls"}],
            "usage": {"prompt_tokens": 400 * len(request.messages), "completion_tokens": 300},
        }
        return replace(reply, raw_request=json.dumps(body).encode(), raw_response=json.dumps(answer).encode())


def _on_the_wire(message: Message) -> dict[str, Any]:
    for part in message.parts:
        if isinstance(part, ToolResult):
            return {"role": "tool", "tool_call_id": part.call_id, "content": part.content}
    calls = [
        {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": json.dumps(c.arguments)}}
        for c in message.tool_calls
    ]
    return {"role": message.role, "content": message.text, **({"tool_calls": calls} if calls else {})}


@hf.tool(effect="read")
async def look_up(order: int, position: int) -> dict[str, Any]:
    """Look up one position of an order."""
    return record(order, position)


def agent_of(turns: int, *, hosted: bool) -> hf.Agent[int]:
    scripted = ScriptedModel(lambda request: reply_to(request, turns))
    return hf.Agent(
        "clerk",
        model=Hosted(scripted) if hosted else scripted,
        instructions="You check orders, position by position, and say how many positions there are. Look everything up.",
        tools=[look_up],
        output=int,
        max_steps=turns + 1,
    )


@hf.workflow(version="1")
async def clerk(order: int, turns: int, hosted: bool) -> int:
    answer = await agent_of(turns, hosted=hosted).run(str(order))
    return answer.result


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """`bytes_a_run`: of the file. `events_a_run` as verified."""

    turns: int
    runs: int
    bytes_a_run: float
    events_a_run: float


async def measure(store: Path, *, turns: int, runs: int, hosted: bool) -> Measured:
    """Raises `Unsound`."""
    async with hf.open(store):
        pass
    empty = used_bytes(store)
    async with hf.open(store) as app:
        for number in range(runs):
            run = await app.start(clerk, 1_000 + number, turns, hosted)
            answer = await run.result()
            if answer != hf.Completed(result=turns):
                raise RuntimeError(f"run {run.id} ended with {answer}")
    # A turn: the model's outcome and the tool's. Around them: start, the last reply, the end, and what concludes.
    report = await checked(store, runs=runs)
    if report.events < runs * (2 * turns + 3):
        raise RuntimeError(f"{report.events} events are fewer than {turns} turns have")
    used = used_bytes(store) - empty
    return Measured(turns=turns, runs=runs, bytes_a_run=used / runs, events_a_run=report.events / runs)


def used_bytes(store: Path) -> int:
    """What the content of a closed store needs: pages in use, with nothing left in the log."""
    with contextlib.closing(sqlite3.connect(store)) as connection:
        blocked, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if blocked:
            raise RuntimeError(f"{store} is in use: its log can't be moved into it")
        pages, free, size = (_pragma(connection, name) for name in ("page_count", "freelist_count", "page_size"))
    return (pages - free) * size


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    found: Sequence[int] = connection.execute(f"PRAGMA {name}").fetchone()
    return found[0]


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("store", type=Path)
    asked.add_argument("--turns", type=int, required=True)
    asked.add_argument("--runs", type=int, default=25)
    asked.add_argument("--hosted", action="store_true")
    given = asked.parse_args()
    tell(asyncio.run(measure(given.store, turns=given.turns, runs=given.runs, hosted=given.hosted)))


if __name__ == "__main__":
    main()
