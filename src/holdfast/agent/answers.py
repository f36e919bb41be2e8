"""The four answers as tools of the model: one schema that is shown to it and validates what it says."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Annotated, Any, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from ..model import Answer, Clarify, Completed, Escalated, Refused, ToolCall, ToolSpec
from ..tools import encode_json

COMPLETED, CLARIFY, REFUSED, ESCALATED = "answer_completed", "answer_clarify", "answer_refused", "answer_escalated"

_STRICT = ConfigDict(extra="forbid")
Confidence = Annotated[
    float, Field(ge=0.0, le=1.0, description="Probability from 0 to 1 that the result is right as it stands.")
]


class _Clarify(BaseModel):
    """The request can be read in more than one way: ask."""

    model_config = _STRICT
    question: str = Field(min_length=1, description="One question.")
    framings: list[str] = Field(min_length=2, description="At least two different readings to choose from.")


class _Refused(BaseModel):
    """The task is outside what you can or may do."""

    model_config = _STRICT
    missing: str = Field(min_length=1, description="What is missing: a competence, a permission, an information.")
    ask: str = Field(min_length=1, description="Whom to ask instead.")


class _Escalated(BaseModel):
    """A person has to decide."""

    model_config = _STRICT
    reason: str = Field(min_length=1, description="Why, in one sentence.")


class InvalidAnswer(Exception):
    """The model's answer does not fit; the message is for the model."""


class AnswerTools:
    """The answer tools of an agent with a given output type."""

    def __init__(self, output: Any) -> None:
        self._output = output

    @functools.cached_property
    def _models(self) -> dict[str, type[BaseModel]]:
        completed = create_model(
            COMPLETED,
            __config__=_STRICT,
            __doc__="The task is done.",
            result=(self._output, Field(description="The result.")),
            confidence=(Confidence, ...),
            assumptions=(list[str], Field(default_factory=list, description="What you took for granted.")),
            uncertainty=(
                list[str],
                Field(default_factory=list, description="What stays unknown or could change the result."),
            ),
            sources=(list[str], Field(default_factory=list, description="Ids of the tool calls it rests on.")),
        )
        return {COMPLETED: completed, CLARIFY: _Clarify, REFUSED: _Refused, ESCALATED: _Escalated}

    @functools.cached_property
    def specs(self) -> tuple[ToolSpec, ...]:
        return tuple(ToolSpec(name, (m.__doc__ or "").strip(), _schema(m)) for name, m in self._models.items())

    def is_answer(self, call: ToolCall) -> bool:
        return call.name in self._models

    def read(self, call: ToolCall, *, reads: Sequence[str], alone: bool) -> Answer[Any]:
        """The answer in a call, or `InvalidAnswer` with the exact error.

        Args:
            reads: Ids of the tool calls that gave a result.
            alone: It is the only call in its message. Another answer beside it contradicts it, and of another tool it could not
                have known the result.
        """
        if not alone:
            raise InvalidAnswer(f"{call.name} must be the only call, made after you have read all results")
        if isinstance(call.arguments, str):
            raise InvalidAnswer(f"the arguments of {call.name} are not a JSON object")
        encoded = encode_json(call.arguments)
        if b'"$secret"' in encoded:
            raise InvalidAnswer("a reference to a secret can't come from a model")
        try:
            said = self._models[call.name].model_validate_json(encoded, strict=True)
        except ValidationError as error:
            raise InvalidAnswer(_said(error)) from error
        if isinstance(said, _Clarify):
            if len(set(said.framings)) < 2:
                raise InvalidAnswer("framings must hold at least two different readings")
            return Clarify(question=said.question, framings=tuple(said.framings))
        if isinstance(said, _Refused):
            return Refused(missing=said.missing, ask=said.ask)
        if isinstance(said, _Escalated):
            return Escalated(reason=said.reason)
        fields = cast("Any", said)  # Any: made at run time from the output type
        unknown = sorted(set(fields.sources) - set(reads))
        if unknown:
            known = ", ".join(reads) or "none"
            raise InvalidAnswer(
                f"sources: {', '.join(unknown)} is no tool call that gave you a result (there are: {known})"
            )
        return Completed(
            result=fields.result, confidence=fields.confidence, assumptions=tuple(fields.assumptions),
            uncertainty=tuple(fields.uncertainty), sources=tuple(dict.fromkeys(fields.sources)),
        )  # fmt: skip


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema()
    for word in ("title", "description"):
        schema.pop(word, None)
    return schema


def _said(error: ValidationError) -> str:
    said = error.errors(include_url=False, include_input=False)
    return "; ".join(f"{'.'.join(str(p) for p in one['loc']) or 'answer'}: {one['msg']}" for one in said)
