"""`@workflow`: a plain async function, registered by name and version."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, cast, get_args, get_origin, overload

import msgspec

from ..errors import NotJson, UnknownWorkflow, WorkflowDefect
from ..journal.records import Budget
from ..model import Answer, Clarify, Completed, Escalated, Refused
from ..tools import Typed, encode_json, hints
from ..tools.typed import HAS_NO_JSON

P = ParamSpec("P")
R = TypeVar("R")


class Workflow(Generic[P, R]):
    """A registered workflow; see `workflow`. Start it with `app.start`."""

    def __init__(
        self,
        fn: Callable[P, Awaitable[R]],
        *,
        name: str,
        version: str,
        accepts: tuple[str, ...],
        success: str,
        budget: Budget,
    ) -> None:
        self.__doc__, self.__module__ = fn.__doc__, fn.__module__
        self.fn = fn
        self.name = name
        self.version = version
        self.accepts = (version, *accepts)
        self.success = success
        self.budget = budget
        self._signature = inspect.signature(fn)
        self._names = tuple(self._signature.parameters)
        self._annotations = hints(fn)

    @functools.cached_property
    def _inputs(self) -> dict[str, Typed[Any]]:
        return {name: Typed(self._annotations.get(name, Any)) for name in self._names}

    @functools.cached_property
    def answer(self) -> AnswerType:
        return AnswerType(self._annotations.get("return", Any))

    def encode_input(self, args: tuple[Any, ...], run: str, path: str) -> bytes:
        """The input as recorded: one JSON object by parameter name. Raises `NotJson` or `WorkflowDefect`."""
        try:
            exact = len(args) == len(self._names)
            bound = dict(zip(self._names, args, strict=True)) if exact else self._signature.bind(*args).arguments
            parts = {name: msgspec.Raw(self._inputs[name].encode_checked(value)) for name, value in bound.items()}
            return encode_json(parts)
        except HAS_NO_JSON as error:
            raise NotJson(run, path or "start", f"input of {self.name}: {error}") from error

    def decode_input(self, data: bytes) -> dict[str, Any]:
        parts = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        return {name: self._inputs[name].decode(bytes(raw)) for name, raw in parts.items() if name in self._inputs}

    def __repr__(self) -> str:
        return f"<workflow {self.name} version {self.version}>"


class AnswerType(Typed[Any]):
    """The four answers as JSON, told apart by "answer"; the result has the type the workflow declares."""

    def __init__(self, annotation: Any) -> None:
        self.annotation = annotation
        self.result: Typed[Any] = Typed(_result_type(annotation))

    def check(self, value: object) -> Answer[Any]:
        """An answer; a plain value becomes `Completed`. Raises `ValueError` when the result is not of the declared type."""
        if isinstance(value, Clarify | Refused | Escalated):
            return value
        if not isinstance(value, Completed):
            value = Completed(result=value)
        return Completed(
            result=self.result.check(value.result), confidence=value.confidence, calibrated=value.calibrated,
            assumptions=value.assumptions, uncertainty=value.uncertainty, sources=value.sources,
        )  # fmt: skip

    def encode(self, value: Any) -> bytes:
        if isinstance(value, Completed):
            fields: dict[str, Any] = {"answer": "completed", "result": msgspec.Raw(self.result.encode(value.result))}
            for name in ("confidence", "calibrated", "assumptions", "uncertainty", "sources"):
                if getattr(value, name) not in (None, ()):
                    fields[name] = getattr(value, name)
            return msgspec.json.encode(fields)
        return encode_json(
            {"answer": type(value).__name__.lower(), **{n: getattr(value, n) for n in value.__dataclass_fields__}}
        )

    def decode(self, data: bytes) -> Answer[Any]:
        fields = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        kind = msgspec.json.decode(fields.pop("answer"))
        if kind == "completed":
            result = self.result.decode(bytes(fields.pop("result")))
            return Completed(result=result, **_tupled(fields))
        made: Answer[Any] = {"clarify": Clarify, "refused": Refused, "escalated": Escalated}[kind](**_tupled(fields))
        return made


def _tupled(fields: dict[str, msgspec.Raw]) -> dict[str, Any]:
    values = {name: msgspec.json.decode(raw) for name, raw in fields.items()}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def _result_type(annotation: Any) -> Any:
    """The T of `Answer[T]`, or the plain type."""
    for part in get_args(annotation) if get_origin(annotation) is not Completed else (annotation,):
        if get_origin(part) is Completed:
            return get_args(part)[0]
    return Any if annotation in (Clarify, Refused, Escalated, Completed, inspect.Parameter.empty) else annotation


class Registry:
    """The loaded workflows, by name; the newest declaration of a name and version wins only if it is the same function."""

    def __init__(self) -> None:
        self._by_name: dict[str, list[Workflow[Any, Any]]] = {}

    def add(self, made: Workflow[Any, Any]) -> None:
        there = self._by_name.setdefault(made.name, [])
        for other in there:
            if other.version == made.version:
                if (other.fn.__module__, other.fn.__qualname__) != (made.fn.__module__, made.fn.__qualname__):
                    raise WorkflowDefect(
                        f"workflow {made.name} version {made.version}",
                        f"declared in {other.fn.__module__} and again in {made.fn.__module__}; give one of them another name or version",
                    )
                there.remove(other)  # a module that was loaded again
                break
        there.append(made)

    def accepting(self, name: str, version: str) -> Workflow[Any, Any] | None:
        """The loaded code that may continue a run: of this very version, else the last declared that accepts it."""
        loaded = self._by_name.get(name, [])
        exact = [w for w in loaded if w.version == version]
        accepting = exact or [w for w in loaded if version in w.accepts]
        return accepting[-1] if accepting else None

    def named(self, name: str) -> Workflow[Any, Any]:
        """The last declared version. Raises `UnknownWorkflow`."""
        if name not in self._by_name:
            raise UnknownWorkflow(name, tuple(sorted(self._by_name)))
        return self._by_name[name][-1]

    def versions(self) -> Sequence[tuple[str, str]]:
        return sorted({(w.name, v) for w in self._all() for v in w.accepts})

    def loaded(self, name: str) -> tuple[str, ...]:
        return tuple(v for w in self._by_name.get(name, []) for v in w.accepts)

    def _all(self) -> Iterable[Workflow[Any, Any]]:
        return (w for ws in self._by_name.values() for w in ws)


REGISTRY = Registry()
"""Workflows declared by `@workflow` in the modules that were imported. Declaring is all that importing does."""


class Declare(Protocol):
    """What `workflow(...)` gives: a decorator that knows an answer from a plain result."""

    @overload
    def __call__(
        self, fn: Callable[P, Awaitable[Completed[R] | Clarify | Refused | Escalated]], /
    ) -> Workflow[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, Awaitable[R]], /) -> Workflow[P, R]: ...


def workflow(
    *,
    version: str,
    accepts: Sequence[str] = (),
    success: str = "",
    name: str | None = None,
    budget: Budget | None = None,
) -> Declare:
    """Declare a workflow: an async function whose steps are journalled.

    Between steps it must be deterministic: it runs from its start again whenever the run is resumed, with recorded outcomes.

    Args:
        version: Of the code. A run continues only on code that declares its version.
        accepts: Older versions whose runs this code may continue.
        success: In writing, what counts as success; kept with every run and shown with every rate.
        name: As registered; the function's name by default.
        budget: Bounds of every run, `hf.Budget(steps=, tokens=, cost_microusd=, time_s=)`; `start` may give a tighter one.

    The function returns one of the four answers or a plain value, which becomes `Completed`.
    """

    def declare(fn: Callable[..., Awaitable[Any]], /) -> Workflow[..., Any]:
        if not inspect.iscoroutinefunction(fn):
            raise WorkflowDefect(getattr(fn, "__name__", str(fn)), "a workflow is an async function")
        made = Workflow(
            fn, name=name or fn.__name__, version=version, accepts=tuple(accepts), success=success,
            budget=budget or Budget(),
        )  # fmt: skip
        REGISTRY.add(made)
        return made

    return cast("Declare", declare)
