"""A process to be killed: `python child.py DB`. It takes up the run `r` and says on standard output when its model is asked and how the
run stands, one JSON object a line.
"""

from __future__ import annotations

import json
import os
import sys

import anyio

import holdfast as hf
from holdfast.model import ModelRequest, Text, ToolCall
from holdfast.runtime import Registry
from holdfast.testing import ScriptedModel
from holdfast.trust import Trust
from tests.agent.support import Draft, agent_of, asking, clarify, completed, look

HUNG_S = 20.0


def say(**fields: object) -> None:
    """One line in one write: a SIGKILL loses none of it."""
    os.write(1, json.dumps(fields).encode() + b"\n")


def by_the_conversation(request: ModelRequest) -> ToolCall:
    """Looks, asks which quantity, and answers with what the user said: it depends on nothing but the conversation."""
    turn = sum(m.role == "assistant" for m in request.messages)
    say(asked=turn)
    if turn == 0:
        return look("c1")
    if turn == 1:
        return clarify("one", "two", question="how many?")
    words = [part.text for m in request.messages for part in m.parts if isinstance(part, Text)]
    assert words[:1] == ["some of A1, please"]
    told = str(request.messages[-1])
    return completed({"sku": "A1", "quantity": 2 if "two" in told else 1}, sources=["c1"])


async def main(db: str) -> None:
    agent: hf.Agent[Draft]
    agent, _ = agent_of(model=ScriptedModel(by_the_conversation))
    workflow = asking(agent)
    registry = Registry()
    registry.add(workflow)
    async with hf.open(db, registry=registry, poll_s=0.01) as app:
        run = await app.start(workflow, "some of A1, please", id="r", label=Trust.PRIMARY)
        answer = await run.result(timeout_s=HUNG_S)
        if isinstance(answer, hf.Clarify):
            say(clarify=answer.question, framings=answer.framings, status=(await run.status()).status)
            await anyio.sleep(HUNG_S)  # until it is killed
        assert isinstance(answer, hf.Completed)
        say(result=answer.result.model_dump())


if __name__ == "__main__":
    anyio.run(main, sys.argv[1])
