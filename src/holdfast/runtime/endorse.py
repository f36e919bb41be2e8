"""`endorse`: the one operation that yields a value above what it was made from, and it is an event.

A validator is registered under a name and a version, checks a value against a system of record, and returns a value of a *closed* type:
booleans, enums, literals, bounded numbers, ids that it has found in a system of record. Never free text, since text can carry anything.
The label of the run stays as it is (law 3).
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import types
import typing
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import anyio
import anyio.lowlevel
import msgspec

from ..errors import EndorsementRejected, OpenType, Rejected, WorkflowDefect
from ..journal.records import Failure, Outcome
from ..tools import Typed, hints, return_type
from ..trust import Label, Trust, Value
from .execution import Execution
from .failures import describe, step_failed
from .scope import enter

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Record:
    """Marks text as the id of something that exists in a system of record: `Annotated[str, hf.record("catalogue")]`."""

    system: str


def record(system: str) -> Record:
    """Mark an annotated `str` as an id that the validator looks up in `system`. See `Record`."""
    return Record(system)


class Validator(Generic[T]):
    """A registered check; see `validator`."""

    def __init__(self, fn: Callable[[Any], Awaitable[T]], *, name: str, version: str, yields: Trust) -> None:
        self.fn = fn
        self.name = name
        self.version = version
        self.yields = yields
        annotation = return_type(fn)
        where = _open_part(annotation, "the return type")
        if where is not None:
            raise OpenType(name, where)
        self.output: Typed[T] = Typed(annotation)


def validator(
    *, version: str, name: str | None = None, yields: Trust = Trust.PRIMARY
) -> Callable[[Callable[[Any], Awaitable[T]]], Validator[T]]:
    """Register a validator: an async function of one value that returns the checked value, or raises `Rejected("why")`.

    It must take what it returns from the system of record, not from its input, wherever it can (a price from the catalogue, an address
    by its id). It may read; it must have no effect.

    Args:
        version: Bumped when the same input could be judged differently.
        yields: Trust of what it returns.

    Raises:
        OpenType: The annotated return type could carry free text or unbounded numbers.
    """

    def declare(fn: Callable[[Any], Awaitable[T]]) -> Validator[T]:
        if not inspect.iscoroutinefunction(fn):
            raise WorkflowDefect(getattr(fn, "__name__", str(fn)), "a validator is an async function")
        return Validator(fn, name=name or fn.__name__, version=version, yields=yields)

    return declare


async def endorse(value: Any, by: Validator[T]) -> Value[T]:
    """A new, labelled value, made from an untrusted one by a registered validator. Recorded; the run's label stays.

    Raises:
        EndorsementRejected: The validator said no, live and replayed alike.
    """
    if not isinstance(by, Validator):
        raise WorkflowDefect("hf.endorse", "takes a function declared with @hf.validator(version=...)")
    scope = enter(by.name)
    if scope.doomed:
        await anyio.lowlevel.checkpoint()
    execution = scope.execution
    path = scope.next_path()
    given = value.value if isinstance(value, Value) else value
    asked = execution.encoded(given, path)
    past = execution.recall(path, "endorse", by.name, asked)
    if past is not None and past.outcome is not None:
        return _recorded(execution, past.outcome, by)
    await execution.within_budget("endorse", path, by.name, asked)
    scope.busy = by.name
    try:
        checked = by.output.check(await by.fn(given))
    except Rejected as no:
        error = EndorsementRejected(execution.run, path, f"{by.name} version {by.version}", no.why)
        await execution.fail("endorse", path, by.name, asked, describe(error))
        raise error from no
    except Exception as error:
        if error is execution.halted:
            raise
        info = describe(error)
        await execution.fail("endorse", path, by.name, asked, info)
        raise step_failed(execution.run, path, by.name, info, 1) from error
    except anyio.get_cancelled_exc_class():
        defect = execution.cut(scope, by.name, path)
        if defect is not None:
            raise defect from None
        raise
    finally:
        scope.busy = None
    encoded = by.output.encode(checked)
    label = Label(by.yields)
    outcome = Outcome(
        msgspec.Raw(asked), msgspec.Raw(encoded), value_label=label, validator=by.name, validator_version=by.version
    )
    await execution.complete("endorse", path, by.name, outcome)
    return _minted(execution, path, encoded, label, by)


def _recorded(execution: Execution, event: Any, by: Validator[T]) -> Value[T]:
    if event.kind == "endorse.failed":
        failure = event.payload(Failure)
        raise step_failed(execution.run, event.path, by.name, failure.error, 1)
    outcome = event.payload(Outcome)
    return _minted(execution, event.path, bytes(outcome.output), outcome.value_label, by)


def _minted(execution: Execution, path: str, encoded: bytes, label: Label, by: Validator[T]) -> Value[T]:
    value = execution.read_back(by.output, encoded, path, by.name)
    execution.endorsed[path] = encoded, label
    return Value(value, label, origin=path)


_BOUNDS = ("ge", "gt"), ("le", "lt")


def _open_part(annotation: Any, where: str) -> str | None:
    """The first part of a type that could carry free content; `None`: the type is closed."""
    if annotation in (bool, None, type(None)) or typing.get_origin(annotation) is typing.Literal:
        return None
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return None
    if typing.get_origin(annotation) is typing.Annotated:
        base, *marks = typing.get_args(annotation)
        if base is str:
            return None if any(isinstance(m, Record) for m in marks) else f"{where} (text)"
        if base in (int, float):
            return None if _bounded(marks) else f"{where} (a number without both bounds)"
        return _open_part(base, where)
    if typing.get_origin(annotation) in (list, tuple, typing.Union, types.UnionType):
        parts = (a for a in typing.get_args(annotation) if a is not Ellipsis)
        return next((found for part in parts if (found := _open_part(part, where))), None)
    fields = _fields(annotation)
    if fields is None:
        return f"{where} ({getattr(annotation, '__name__', annotation)})"
    inner = (_open_part(kind, f"{annotation.__name__}.{name}") for name, kind in fields.items())
    return next((found for found in inner if found), None)


def _bounded(marks: list[Any]) -> bool:
    flat = [part for mark in marks for part in (mark, *getattr(mark, "metadata", ()))]
    return all(any(getattr(mark, side, None) is not None for mark in flat for side in sides) for sides in _BOUNDS)


def _fields(annotation: Any) -> dict[str, Any] | None:
    if not isinstance(annotation, type):
        return None
    if (
        dataclasses.is_dataclass(annotation)
        or hasattr(annotation, "model_fields")
        or issubclass(annotation, msgspec.Struct)
    ):
        extra = getattr(annotation, "model_config", {}).get("extra")
        declared = hints(annotation)
        names = getattr(annotation, "model_fields", None) or declared
        found = {name: _with_constraints(annotation, name, declared.get(name, Any)) for name in names}
        return {**found, "(extra fields)": Any} if extra == "allow" else found
    return None


def _with_constraints(annotation: Any, name: str, kind: Any) -> Any:
    """Constraints given as `Field(ge=..., le=...)` count like annotated ones."""
    info = getattr(annotation, "model_fields", {}).get(name)
    metadata = tuple(getattr(info, "metadata", ()))
    if metadata and typing.get_origin(kind) is not typing.Annotated:
        return typing.Annotated[(kind, *metadata)]
    return kind
