"""A question to the user parks the run; the reply continues the same run, also in another process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import holdfast as hf
from holdfast.model import Message, Text, ToolResult
from holdfast.store import open_store
from holdfast.store.memory import MemoryStore
from holdfast.trust import Trust
from tests.agent.support import Draft, agent_of, answer_of, asking, clarify, completed, look, told
from tests.conftest import ROOT
from tests.runtime.support import SOON_S, kinds, opened, result

CHILD = Path(__file__).parent / "child.py"


async def test_a_clarify_is_the_result_until_there_is_a_reply_and_then_the_same_run_goes_on() -> None:
    agent, model = agent_of(clarify("pieces", "boxes", question="of what?"), completed())
    workflow = asking(agent)
    async with opened(workflow) as app:
        run = await app.start(workflow, "two, please", id="r", label=Trust.PRIMARY)
        asked = await run.result(timeout_s=SOON_S)
        assert asked == hf.Clarify(question="of what?", framings=("pieces", "boxes"))
        assert await run.result(timeout_s=SOON_S) == asked
        status = await run.status()
        assert (status.status, [wait.kind for wait in status.waits]) == ("waiting", ["reply"])
        await run.reply("pieces")
        assert await run.result(timeout_s=SOON_S) == hf.Completed(result=Draft(sku="A1", quantity=2), confidence=0.8)
        assert await kinds(app) == [
            "run.started", "model.completed 0.0", "reply.waiting 0.1", "run.parked", "reply.completed 0.1",
            "model.completed 0.2", "answer.completed 0.3", "run.finished",
        ]  # fmt: skip
    assert told(model.requests[1]) == [ToolResult("ask", "answer_clarify", "The user answers: pieces")]


async def test_the_reply_lowers_the_trust_of_the_run_to_what_it_vouches_for() -> None:
    for vouched in (Trust.EXTERNAL, Trust.PRIMARY):
        agent, _ = agent_of(clarify(), completed())
        workflow = asking(agent)
        async with opened(workflow) as app:
            run = await app.start(workflow, "?", label=Trust.PRIMARY)
            await run.result(timeout_s=SOON_S)
            await run.reply("one", label=vouched)
            await run.result(timeout_s=SOON_S)
            assert (await run.status()).label.level is vouched


async def test_several_questions_in_one_run_are_each_answered_by_a_reply_of_their_own() -> None:
    agent, model = agent_of(clarify(question="first?"), clarify(question="second?"), completed())
    workflow = asking(agent)
    async with opened(workflow) as app:
        run = await app.start(workflow, "?", id="r")
        assert (await run.result(timeout_s=SOON_S)) == hf.Clarify(question="first?", framings=("one", "two"))
        await run.reply("one")
        assert (await run.result(timeout_s=SOON_S)) == hf.Clarify(question="second?", framings=("one", "two"))
        await run.reply("two")
        assert isinstance(await run.result(timeout_s=SOON_S), hf.Completed)
    assert [told(r)[0].content for r in model.requests[1:]] == ["The user answers: one", "The user answers: two"]


async def test_a_reply_that_comes_before_the_question_answers_it() -> None:
    agent, _ = agent_of(clarify(), completed())
    workflow = asking(agent)
    async with opened(workflow, worker=False) as client:
        await client.start(workflow, "?", id="r")
        await client.run("r").reply("one")
        async with opened(workflow, store=client.store) as app:
            await result(app)


async def test_a_question_on_the_last_turn_goes_to_a_person_instead_of_a_user_whom_nobody_would_hear() -> None:
    agent, model = agent_of(look(), clarify("pieces", "boxes", question="of what?"), completed(), max_steps=2)
    assert await answer_of(agent) == hf.Escalated(
        reason="a question is open after 2 model turns",
        attached={"question": "of what?", "framings": ["pieces", "boxes"]},
    )
    assert model.calls == 2


async def test_the_run_goes_on_in_another_app_without_asking_the_model_again() -> None:
    store = MemoryStore()
    agent, asked = agent_of(look(), clarify())
    workflow = asking(agent)
    async with opened(workflow, store=store) as app:
        run = await app.start(workflow, "two, please", id="r")
        assert isinstance(await run.result(timeout_s=SOON_S), hf.Clarify)
    assert asked.calls == 2
    agent, model = agent_of(completed(sources=["c1"]))
    workflow = asking(agent)
    async with opened(workflow, store=store) as app:
        assert await app.result("r", timeout_s=SOON_S) == hf.Clarify(question="which one?", framings=("one", "two"))
        assert model.calls == 0
        await app.run("r").reply("one")
        answer = await app.result("r", timeout_s=SOON_S)
        assert answer == hf.Completed(result=Draft(sku="A1", quantity=2), confidence=0.8, sources=("c1",))
        assert (await app.verify()).ok
    (request,) = model.requests
    assert request.messages[0] == Message("user", (Text("two, please"),))
    assert [m.role for m in request.messages] == ["user", "assistant", "tool", "assistant", "tool"]


# -- a real crash ----------------------------------------------------------------------------------------------------------


class Child:
    """The process to be killed, and what it said."""

    def __init__(self, db: Path) -> None:
        command = [sys.executable, str(CHILD), str(db)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}
        )
        self.said: list[dict[str, Any]] = []  # Any: JSON

    def until(self, word: str) -> dict[str, Any]:
        """Listen until it says `word`."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(json.loads(line))
            if word in self.said[-1]:
                return self.said[-1]
        raise AssertionError(f"the child ended without saying {word!r}; it said {self.said}")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)
        assert self.process.stdout is not None
        self.said += [json.loads(line) for line in self.process.stdout]
        self.process.stdout.close()

    def asked(self) -> list[int]:
        return [line["asked"] for line in self.said if "asked" in line]


@pytest.mark.slow
async def test_law_1_a_question_survives_a_sigkill_and_its_reply_continues_the_run_elsewhere(tmp_path: Path) -> None:
    db = tmp_path / "holdfast.db"
    first = Child(db)
    asked = first.until("clarify")
    assert (asked["clarify"], asked["framings"], asked["status"]) == ("how many?", ["one", "two"], "waiting")
    first.kill()
    assert first.asked() == [0, 1]

    store = await open_store(db)
    async with hf.open(store=store, worker=False) as client:
        await client.run("r").reply("two", key="turn-1")
        await client.run("r").reply("two", key="turn-1")
        assert len(await client.notes("r")) == 1

    second = Child(db)
    assert second.until("result")["result"] == {"sku": "A1", "quantity": 2}
    second.process.wait(10)
    second.kill()
    assert second.asked() == [2]
    async with hf.open(store=store, worker=False) as client:
        assert (await client.verify()).ok
        assert sum(e.kind == "model.completed" for e in await client.events("r")) == 3
    await store.close()


@pytest.mark.slow
async def test_law_1_a_sigkill_while_the_model_thinks_asks_it_that_one_question_again(tmp_path: Path) -> None:
    db = tmp_path / "holdfast.db"
    first = Child(db)
    while first.until("asked")["asked"] < 1:
        pass
    first.kill()
    second = Child(db)
    assert second.until("clarify")["clarify"] == "how many?"
    second.kill()
    assert first.asked() == [0, 1]
    assert second.asked() in ([], [1])  # nothing if the reply was stored before the kill
