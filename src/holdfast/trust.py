"""Trust labels: pure functions, no I/O. Law 3: trust never rises by itself.

A `Label` says how far a value or a run may be relied on, and why. There is one operation on labels, `meet`, and it can
only lower: the lower level, the union of the causes, the lower confidence. A run's label is the running minimum over all
that it has seen. `endorse` (in `holdfast.runtime`) makes a *new value* with a provenance of its own; an approval permits one
call. Neither touches the label of the run.

Covered: what reached a run through its input, steps, tools, models, notes. Not covered: what user code reads behind the
back of the journal (a global, a file opened in the workflow function), and text-to-text lies inside a level.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from functools import reduce
from typing import Any, Final, Generic, TypeVar

import msgspec

T = TypeVar("T")


class Trust(enum.IntEnum):
    """How far something may be relied on; a total order, higher is better."""

    EXTERNAL = 0  #: content that nobody vouches for: mail, web pages, files of others
    UNVERIFIED = 1  #: unvalidated, of low confidence, or made from something that failed its validation
    DEGRADED = 2  #: a fallback model, a stale read within its bound, a lower resolution
    PRIMARY = 3  #: fresh, from the declared first route or from a system of record


class Cause(msgspec.Struct, frozen=True, array_like=True, order=True, gc=False):
    """Why a label is below `PRIMARY`: what kind of thing happened, and the first step that brought it."""

    kind: str
    step: str


class Label(msgspec.Struct, frozen=True, gc=False):
    """Trust of a value or of a run.

    Args:
        level: The trust level.
        causes: At most one `Cause` a kind, sorted; which sources they came from is read from the journal, not stored here
            (or events would grow with the square of the run's length).
        confidence: The lowest confidence stated on the way, in [0, 1]; `None` when none was stated.
    """

    level: Trust
    causes: tuple[Cause, ...] = ()
    confidence: float | None = None

    def __and__(self, other: Label) -> Label:
        return meet(self, other)


PRIMARY: Final = Label(Trust.PRIMARY)
LOWEST: Final = Label(Trust.EXTERNAL, (Cause("missing label", ""),), 0.0)


def meet(a: Label, b: Label) -> Label:
    """The label of something made from both: associative, commutative, idempotent, never above either."""
    if a is b or b == PRIMARY:
        return a
    if a == PRIMARY:
        return b
    return Label(min(a.level, b.level), _union(a.causes, b.causes), _lower(a.confidence, b.confidence))


def meet_all(labels: Iterable[Label]) -> Label:
    """The meet of any number of labels; of none, `PRIMARY`."""
    return reduce(meet, labels, PRIMARY)


def lowered(level: Trust, kind: str, step: str) -> Label:
    """A label at `level` that says why; `PRIMARY` needs no cause."""
    return PRIMARY if level is Trust.PRIMARY else Label(level, (Cause(kind, step),))


def read_label(raw: object) -> Label:
    """Decode a label as it came from outside. Whatever is missing or forged reads as the lowest."""
    try:
        label = msgspec.convert(raw, Label)
    except (msgspec.ValidationError, ValueError, TypeError):
        return LOWEST
    if label.confidence is not None and not 0.0 <= label.confidence <= 1.0:
        return LOWEST
    return label


def _union(a: tuple[Cause, ...], b: tuple[Cause, ...]) -> tuple[Cause, ...]:
    if a == b:
        return a
    first: dict[str, Cause] = {}
    for cause in sorted((*a, *b), key=_order):
        first.setdefault(cause.kind, cause)
    return tuple(first.values())


def _order(cause: Cause) -> tuple[str, tuple[int | str, ...]]:
    """Causes sort by kind, then by step in program order ("2" before "10")."""
    return cause.kind, step_order(cause.step)


def step_order(path: str) -> tuple[Any, ...]:
    """A sort key that puts step paths in program order: "2" before "10", a parent before its children."""
    return tuple((0, int(p), "") if p.isdecimal() else (1, 0, p) for p in path.split("."))


def _lower(a: float | None, b: float | None) -> float | None:
    if a is None or b is None:
        return b if a is None else a
    return min(a, b)


class Value(Generic[T]):
    """A value that carries its label through a structured workflow.

    Tools unwrap it. Only a tool with `policy="values"` reads the label; an argument that is no `Value` has the label of the run.
    A label above the run's is believed only when the journal holds the endorsement it names (`origin`, a step path) with exactly
    this value; a forged or altered one reads as the lowest.
    """

    __slots__ = ("_label", "_origin", "_value")

    def __init__(self, value: T, label: Label, *, origin: str | None = None) -> None:
        self._value = value
        self._label = label
        self._origin = origin

    @property
    def value(self) -> T:
        return self._value

    @property
    def label(self) -> Label:
        return self._label

    @property
    def origin(self) -> str | None:
        return self._origin

    def __repr__(self) -> str:
        return f"Value({self._value!r}, {self._label.level.name})"
