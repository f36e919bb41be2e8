"""Strict answers: what the model is shown is what validates it, an error is told exactly, and half an answer never leaves."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import holdfast as hf
from holdfast.agent.answers import AnswerTools, InvalidAnswer
from holdfast.agent.instructions import REPAIR, TEXT_ONLY
from holdfast.model import ToolCall
from tests.agent.support import Draft, agent_of, answer_of, clarify, completed, last_text, look, refused, says, told

ANSWERS = ["answer_completed", "answer_clarify", "answer_refused", "answer_escalated"]


class Colour(Enum):
    RED = "red"


@dataclass
class Point:
    x: int


def read(call: ToolCall, *, output: Any = Draft, reads: tuple[str, ...] = ()) -> hf.Answer[Any]:
    return AnswerTools(output).read(call, reads=reads, alone=True)


# -- the schema ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", [Draft, int, str, list[Draft], Point, Colour, Annotated[int, Ge(3)], Literal["a"]])
def test_the_schema_shown_is_that_of_the_object_that_validates(output: Any) -> None:
    tools = AnswerTools(output)
    assert [spec.name for spec in tools.specs] == ANSWERS
    for spec in tools.specs:
        validating = tools._models[spec.name].model_json_schema()
        shown = {word: value for word, value in validating.items() if word not in ("title", "description")}
        assert spec.parameters == shown
        assert spec.parameters["additionalProperties"] is False
        assert spec.description


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "result": st.none() | st.integers(-2, 4) | st.text(max_size=2) | st.booleans(),
            "confidence": st.none() | st.floats(-1, 2) | st.text(max_size=1),
            "assumptions": st.lists(st.text(max_size=2), max_size=2) | st.none(),
            "more": st.just(1),
        },
    )
)
def test_whatever_is_read_fits_the_shown_schema_and_whatever_does_not_is_refused(said: dict[str, Any]) -> None:
    shown = AnswerTools(Annotated[int, Ge(0)]).specs[0].parameters
    fits = (
        set(shown["required"]) <= set(said) <= set(shown["properties"])
        and type(said["result"]) is int
        and said["result"] >= 0
        and isinstance(said["confidence"], float)
        and 0 <= said["confidence"] <= 1
        and isinstance(said.get("assumptions", []), list)
    )
    try:
        answer = read(ToolCall("c", "answer_completed", said), output=Annotated[int, Ge(0)])
    except InvalidAnswer:
        assert not fits
    else:
        assert fits
        assert isinstance(answer, hf.Completed)
        assert (answer.result, answer.confidence) == (said["result"], said["confidence"])


async def test_the_model_is_shown_the_schemas_with_every_call() -> None:
    agent, model = agent_of(look(), completed())
    await answer_of(agent)
    for request in model.requests:
        assert [spec.name for spec in request.tools] == ["stock", *ANSWERS]
        assert request.tools[1:] == AnswerTools(Draft).specs


# -- each kind -------------------------------------------------------------------------------------------------------------


async def test_a_completed_answer_has_the_type_that_was_declared_and_all_that_was_said() -> None:
    said = completed(confidence=0.7, sources=["c1"], assumptions=["pieces"], uncertainty=["the price"])
    agent, _ = agent_of(look(), said)
    assert await answer_of(agent) == hf.Completed(
        result=Draft(sku="A1", quantity=2), confidence=0.7, assumptions=("pieces",), uncertainty=("the price",), sources=("c1",)
    )  # fmt: skip


async def test_a_refusal_says_what_is_missing_and_whom_to_ask() -> None:
    agent, _ = agent_of(refused())
    assert await answer_of(agent) == hf.Refused(missing="leave to pay", ask="accounting")


async def test_an_escalation_gives_its_reason() -> None:
    agent, _ = agent_of(ToolCall("e", "answer_escalated", {"reason": "the texts contradict each other"}))
    assert await answer_of(agent) == hf.Escalated(reason="the texts contradict each other")


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (completed({"sku": "A1", "quantity": 11}), r"result\.quantity: .*less than or equal to 10"),
        (completed({"sku": "A1", "quantity": "2"}), r"result\.quantity: .*valid integer"),
        (completed({"sku": "A1"}), r"result\.quantity: Field required"),
        (completed(confidence=1.5), r"confidence: .*less than or equal to 1"),
        (completed(confidence=float("nan")), r"confidence: "),
        (completed(mood="good"), r"mood: Extra inputs"),
        (ToolCall("c", "answer_completed", {"result": {"sku": "A1", "quantity": 2}}), r"confidence: Field required"),
        (ToolCall("c", "answer_completed", '{"result": '), r"not a JSON object"),
        (clarify("only one"), r"framings: .*at least 2"),
        (clarify("the same", "the same"), r"framings .*two different"),
        (ToolCall("c", "answer_refused", {"missing": "", "ask": "x"}), r"missing: .*at least 1"),
        (ToolCall("c", "answer_escalated", {}), r"reason: Field required"),
    ],
)
def test_the_error_names_the_field_and_what_is_wrong_with_it(call: ToolCall, told: str) -> None:
    with pytest.raises(InvalidAnswer, match=told):
        read(call)


# -- repair ----------------------------------------------------------------------------------------------------------------


async def test_an_invalid_answer_is_told_with_the_exact_error_and_may_be_repaired() -> None:
    wrong = completed({"sku": "A1", "quantity": 11}, id="first")
    agent, model = agent_of(wrong, completed())
    assert await answer_of(agent) == hf.Completed(result=Draft(sku="A1", quantity=2), confidence=0.8)
    (result,) = told(model.requests[1])
    with pytest.raises(InvalidAnswer) as error:
        read(wrong)
    assert result.content == REPAIR.format(error=error.value)
    assert (result.call_id, result.ok) == ("first", False)


async def test_repairs_count_as_model_turns_and_after_the_last_the_run_escalates_with_the_last_text() -> None:
    wrong = {"sku": "A1", "quantity": 11}
    agent, model = agent_of(*[completed(wrong, id=f"c{n}") for n in range(5)], completed(), max_steps=3)
    answer = await answer_of(agent)
    assert isinstance(answer, hf.Escalated)
    assert answer.reason == "invalid answer within 3 model turns"
    assert json.loads(answer.attached["last_text"]) == {"result": wrong, "confidence": 0.8, "sources": []}
    assert model.calls == 3


async def test_a_text_is_no_answer_and_the_model_is_told_so() -> None:
    agent, model = agent_of("two of A1, surely", completed())
    assert isinstance(await answer_of(agent), hf.Completed)
    assert last_text(model.requests[1]) == TEXT_ONLY


async def test_an_agent_that_only_talks_escalates_with_what_it_said_last() -> None:
    agent, _ = agent_of("hello", "two of A1", max_steps=2)
    assert await answer_of(agent) == hf.Escalated(
        reason="invalid answer within 2 model turns", attached={"last_text": "two of A1"}
    )


async def test_an_agent_that_never_answers_escalates_without_being_called_invalid() -> None:
    agent, _ = agent_of(says("let me look", look()), look("c2"), max_steps=2)
    assert await answer_of(agent) == hf.Escalated(
        reason="no answer within 2 model turns", attached={"last_text": "let me look"}
    )


async def test_what_is_attached_is_the_last_invalid_answer_and_not_a_later_remark() -> None:
    agent, _ = agent_of(completed({"sku": "A1", "quantity": 0}), says("let me look", look()), max_steps=2)
    answer = await answer_of(agent)
    assert isinstance(answer, hf.Escalated)
    assert json.loads(answer.attached["last_text"])["result"] == {"sku": "A1", "quantity": 0}


async def test_an_empty_message_is_repaired_like_a_text() -> None:
    agent, model = agent_of(says(), completed())
    assert isinstance(await answer_of(agent), hf.Completed)
    assert last_text(model.requests[1]) == TEXT_ONLY


# -- answers beside other calls --------------------------------------------------------------------------------------------


async def test_two_answers_at_once_are_none() -> None:
    agent, model = agent_of([completed(id="yes"), refused()], completed())
    assert isinstance(await answer_of(agent), hf.Completed)
    results = told(model.requests[1])
    assert [(r.call_id, r.ok) for r in results] == [("yes", False), ("end", False)]
    assert all("must be the only call" in r.content for r in results)


@pytest.mark.parametrize("order", ["answer first", "answer last"])
async def test_an_answer_beside_a_tool_call_is_refused_and_the_tool_is_called(order: str) -> None:
    calls = [completed(sources=["c1"]), look("c1")]
    agent, model = agent_of(calls if order == "answer first" else calls[::-1], completed(sources=["c1"]))
    assert isinstance(await answer_of(agent), hf.Completed)
    results = {result.call_id: result for result in told(model.requests[1])}
    assert (results["c1"].ok, results["c1"].content) == (True, "7")
    assert not results["end"].ok
    assert model.calls == 2


# -- sources ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("invented", [["c9"], ["c1", "c9"]])
async def test_a_source_that_is_no_call_with_a_result_is_told_and_never_leaves(invented: list[str]) -> None:
    agent, model = agent_of(look("c1"), completed(sources=invented), completed(sources=["c1"]))
    answer = await answer_of(agent)
    assert isinstance(answer, hf.Completed)
    assert answer.sources == ("c1",)
    (result,) = told(model.requests[2])
    assert "sources: c9 is no tool call that gave you a result (there are: c1)" in result.content


async def test_a_call_that_failed_is_no_source() -> None:
    agent, model = agent_of(look("c1", sku="Z9"), completed(sources=["c1"]), completed())
    assert isinstance(await answer_of(agent), hf.Completed)
    assert "there are: none" in told(model.requests[2])[0].content


async def test_high_confidence_without_a_source_escalates_with_the_answer_attached() -> None:
    agent, _ = agent_of(completed(confidence=0.95))
    answer = await answer_of(agent)
    assert answer == hf.Escalated(
        reason="confidence 0.95 rests on 0 sources, 1 are needed", attached={"answer": {"sku": "A1", "quantity": 2}}
    )


async def test_high_confidence_with_enough_sources_is_an_answer_and_at_the_bound_none_is_needed() -> None:
    agent, _ = agent_of(
        [look("c1"), look("c2", "B2")], completed(confidence=0.95, sources=["c1", "c2"]), sources_needed=2
    )
    assert isinstance(await answer_of(agent), hf.Completed)
    agent, _ = agent_of(completed(confidence=0.9))
    assert isinstance(await answer_of(agent), hf.Completed)


@pytest.mark.parametrize("again", [look("c2"), look("c2", unit="piece")])
async def test_the_same_read_made_twice_is_one_source(again: ToolCall) -> None:
    agent, _ = agent_of([look("c1"), again], completed(confidence=0.95, sources=["c1", "c2"]), sources_needed=2)
    answer = await answer_of(agent)
    assert isinstance(answer, hf.Escalated)
    assert "rests on 1 sources" in answer.reason


async def test_what_an_effect_returned_is_no_source_for_confidence() -> None:
    @hf.tool(effect="idempotent")
    async def reserve(sku: str) -> str:
        return "reserved"

    call = ToolCall("c1", "reserve", {"sku": "A1"})
    agent, _ = agent_of(call, completed(confidence=0.95, sources=["c1"]), tools=[reserve])
    assert isinstance(await answer_of(agent), hf.Escalated)
    agent, _ = agent_of(call, completed(confidence=0.8, sources=["c1"]), tools=[reserve])
    assert isinstance(await answer_of(agent), hf.Completed)


def test_a_validation_error_of_the_users_model_is_an_invalid_answer_and_nothing_else() -> None:
    with pytest.raises(InvalidAnswer) as caught:
        read(completed({"sku": 1, "quantity": 2}))
    assert isinstance(caught.value.__cause__, ValidationError)
