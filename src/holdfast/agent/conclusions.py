"""Conclusions: answers on a subject, found again by later runs. A conflict with an earlier one goes to a person (with both)."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from ..errors import RedactedStep
from ..journal import Event
from ..journal.records import Outcome
from ..model import Completed
from ..runtime.execution import Execution
from ..runtime.scope import Scope, current_execution
from ..runtime.values import recorded
from ..runtime.workflow import AnswerType
from ..tools import Typed
from ..trust import PRIMARY, Label, Trust, lowered

T = TypeVar("T")

LOW_CONFIDENCE = 0.5
"""Below it a stated confidence makes the run `UNVERIFIED`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion(Generic[T]):
    """An earlier answer on a subject: its result, and the run, step and time it came from."""

    run: str
    path: str
    at_ns: int
    result: T
    confidence: float | None
    trust: str


async def conclusions(subject: str, *, type: Any = Any, limit: int = 20) -> list[Conclusion[Any]]:
    """Earlier conclusions on a subject by other runs of this store, newest first; results read as `type`. A recorded step.

    Redacted ones and those whose result no longer fits `type` are left out.
    """
    execution = current_execution("conclusions")
    name = await _indexed(execution, subject)

    async def look_up() -> list[dict[str, Any]]:
        asked = limit + 1
        while True:  # redacted ones and this run's own take places; ask for more until there are enough
            with execution.store_or_abandon():
                rows = await execution.journal.find("answer.completed", name, limit=asked)
            found = [_plain(run, e) for run, e in rows if run != execution.run and not e.redacted]
            if len(found) >= limit or len(rows) < asked:
                return found[:limit]
            asked *= 4

    rows: list[dict[str, Any]] = await recorded("conclusions", look_up)
    read = []
    for row in rows:
        try:
            read.append(Conclusion(**{**row, "result": Typed[Any](type).decode(msgspec.json.encode(row["result"]))}))
        except ValueError:
            continue
    return read


async def record(scope: Scope, agent: str, output: Any, answer: Completed[Any], subject: str | None) -> Completed[Any]:
    """Record an agent's completed answer as a step; its confidence joins the label of the run."""
    execution = scope.execution
    path = scope.next_path()
    name = agent if subject is None else await _indexed(execution, subject)
    answers = AnswerType(output)
    encoded = answers.encode(answer)
    past = execution.recall(path, "answer", name)
    if past is None or past.outcome is None:
        outcome = Outcome(msgspec.Raw(b"null"), msgspec.Raw(encoded), execution.clock.now_ns())
        await execution.complete("answer", path, name, outcome, adds=_adds(answer.confidence, path))
    return answers.decode(encoded)  # type: ignore[return-value]  # a completed answer reads back as one


def _adds(confidence: float | None, path: str) -> Label:
    if confidence is None:
        return PRIMARY
    if confidence >= LOW_CONFIDENCE:
        return Label(Trust.PRIMARY, (), confidence)
    return Label(Trust.UNVERIFIED, lowered(Trust.UNVERIFIED, "low confidence", path).causes, confidence)


async def _indexed(execution: Execution, subject: str) -> str:
    """The name that answers on a subject are found by: keyed by the store, so that a header does not tell the subject."""
    with execution.store_or_abandon():
        key = await execution.journal.store.secret()
    return "subject:" + hmac.digest(key, subject.encode(), "sha256")[:12].hex()


def _plain(run: str, event: Event) -> dict[str, Any]:
    try:
        said = msgspec.json.decode(event.payload(Outcome).output)
    except RedactedStep:  # redacted between the look-up and now
        said = {}
    return {
        "run": run, "path": event.path, "at_ns": event.header.at_ns, "result": said.get("result"),
        "confidence": said.get("confidence"), "trust": event.header.label.level.name,
    }  # fmt: skip
