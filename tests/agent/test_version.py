"""The agent version: whatever could change what an agent says starts a new one."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

import holdfast as hf
from holdfast.agent import agent as agent_module
from holdfast.agent import instructions
from holdfast.model import ModelSettings
from holdfast.testing import ScriptedModel
from tests.agent.support import Draft, agent_of, answer_of, completed, stock
from tests.conftest import ROOT


@hf.tool(effect="read", name="stock")
async def stock_by_name(name: str) -> int:
    """How much of an article is in stock."""
    return 1


def version(**options: Any) -> str:
    return agent_of(**options)[0].version


def test_the_same_declaration_is_the_same_version() -> None:
    assert version() == version()
    assert len(version()) == 16


@pytest.mark.parametrize(
    "other",
    [
        {"instructions": "Draft it."},
        {"tools": []},
        {"tools": [stock_by_name]},
        {"model": ScriptedModel([], name="another:model")},
        {"model": [ScriptedModel([]), ScriptedModel([], name="a fallback")]},
        {"output": int},
        {"settings": ModelSettings(temperature=0.0)},
    ],
    ids=["instructions", "fewer tools", "tool schema", "model", "fallback", "output", "settings"],
)
def test_whatever_could_change_what_it_says_is_another_version(other: dict[str, Any]) -> None:
    assert version(**other) != version()


@pytest.mark.parametrize("other", [{"max_steps": 3}, {"sources_needed": 2}, {"contradicts": lambda a, b: None}])
def test_bounds_around_it_are_no_other_version(other: dict[str, Any]) -> None:
    assert version(**other) == version()


@pytest.mark.parametrize("words", ["ANSWERING", "REPAIR", "TEXT_ONLY"])
def test_the_default_instructions_are_part_of_it(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = version()
    monkeypatch.setattr(agent_module, words, "other words {error}")  # a later release of the package
    assert version() != before


async def test_the_default_instructions_follow_the_agents_own_and_stand_in_one_place() -> None:
    agent, model = agent_of(completed())
    await answer_of(agent)
    assert model.requests[0].instructions == f"Draft the order.\n\n{instructions.ANSWERING}"
    folder = ROOT / "src" / "holdfast"
    sentence = "Confidence is the probability, from 0 to 1"
    assert [f.name for f in folder.rglob("*.py") if sentence in f.read_text()] == ["instructions.py"]


@pytest.mark.parametrize("name", ["answer_completed", "answer_clarify", "answer_refused", "answer_escalated"])
def test_the_default_instructions_name_every_answer(name: str) -> None:
    assert name in instructions.ANSWERING
    assert name in instructions.TEXT_ONLY


def test_the_version_is_the_same_in_every_process() -> None:
    code = "from tests.agent.support import agent_of; print(agent_of()[0].version)"
    for seed in ("1", "2"):
        environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert said.stdout.strip() == version()


def test_an_agent_with_a_named_route_has_a_version_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pydantic_ai")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    agent: hf.Agent[Draft] = hf.Agent("desk", model="openai:gpt-test", instructions="", tools=[stock], output=Draft)
    assert agent.version
