"""`@tool`: what a tool promises, stated once beside its code, and enforced on every path by the runtime.

A tool is the only thing in Holdfast that may have an effect. Its contract says what kind of effect, how its arguments and
results are checked, how often it is tried and what stands in for it, whose trust it needs and how fresh its reads must be.
This module only describes; `holdfast.runtime` acts. Calling a tool inside a workflow is a step of the run; elsewhere it raises
`UnscopedStep` (use `tool.fn` to test the function itself).
"""

from __future__ import annotations

import enum
import functools
import hashlib
import inspect
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, ParamSpec, Protocol, TypeAlias, TypeVar, cast, overload

from ..errors import ContractError, UnscopedStep
from ..model import IdempotencyKey, ToolSpec
from ..trust import Trust
from .schema import Arguments
from .typed import Typed, encode_json, return_type

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

DEFAULT_TIMEOUT_S: Final = 30.0
DEFAULT_KEY_TTL_S: Final = 24 * 3600.0


class Effect(enum.StrEnum):
    """What a call does to the world, which decides what may be done after an unknown outcome."""

    READ = "read"  #: nothing; may be repeated and replaced at will
    IDEMPOTENT = "idempotent"  #: the second time changes nothing
    KEYED = "keyed"  #: the remote end dedupes by the key, for `key_ttl_s`
    IRREVERSIBLE = "irreversible"  #: each call counts; never blindly repeated


Policy: TypeAlias = Literal["trajectory", "values"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """When to try again: which errors, how often, how long between.

    The pause has full jitter (uniform in [0, min(max_s, base_s x 2^n)]), drawn from run, step and attempt, so that it is the same
    whenever the run is looked at and different between runs. Attempts made before a crash count.
    """

    attempts: int = 3
    on: tuple[type[BaseException], ...] = (Exception,)
    base_s: float = 0.2
    max_s: float = 30.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.base_s < 0 or self.max_s < 0:
            raise ContractError("Retry", "needs attempts of at least 1 and pauses of at least 0 s")

    def delay_s(self, run: str, path: str, attempt: int) -> float:
        """The pause after failed attempt `attempt` (from 1). Source: AWS, "Exponential backoff and jitter" (full jitter)."""
        seed = hashlib.sha256(f"{run}\x00{path}\x00{attempt}".encode()).digest()
        fraction = int.from_bytes(seed[:7], "big") / (1 << 56)
        return fraction * min(self.max_s, self.base_s * 2.0 ** min(attempt - 1, 60))


ONCE: Final = Retry(attempts=1)


@dataclass(frozen=True, slots=True)
class Done:
    """`reconcile` found the effect: it took place, with this result."""

    result: Any  # Any: the tool's result type


@dataclass(frozen=True, slots=True)
class NotDone:
    """`reconcile` is certain: the effect did not take place, and the lost request can't arrive any more."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """`reconcile` could not find out: a person is asked."""


Reconciled: TypeAlias = Done | NotDone | Unknown


@dataclass(frozen=True, slots=True)
class Fresh:
    """An effect depends on reads of `tool` that are at most `within_s` seconds old."""

    tool: Tool[..., Any]
    within_s: float = 300.0


class Caller(Protocol):
    """What stands behind a tool call inside a run."""

    async def call_tool(self, tool: Tool[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any: ...


CALLER: ContextVar[Caller | None] = ContextVar("holdfast_tool_caller", default=None)
"""Set by the runtime in the task of a run; how a tool object finds the run it is called in."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Tool(Generic[P, R_co]):
    """A function with a contract. See `tool` for the meaning of the fields."""

    fn: Callable[..., Any]
    name: str
    description: str
    effect: Effect
    retry: Retry
    timeout_s: float
    fallback: tuple[Tool[..., Any], ...]
    definite: tuple[type[BaseException], ...]
    empty: Literal["allow", "refuse"]
    plausible: Callable[[Any], bool | str] | None
    yields: Trust
    needs: Trust
    policy: Policy
    fresh: tuple[Fresh, ...]
    escalate: Callable[..., bool] | None
    key_ttl_s: float
    reconcile: Callable[..., Awaitable[Reconciled]] | None
    read_key: Callable[..., str] | None
    render: Callable[[Any], str] | None

    async def __call__(self, *args: Any, **kwargs: Any) -> R_co:
        """Call it as a step of the run. Any: arguments may be `Value`s, and the key is filled in; the schema checks them."""
        caller = CALLER.get()
        if caller is None:
            raise UnscopedStep(self.name, "a tool was called outside a run; use .fn to call the function itself")
        return cast(R_co, await caller.call_tool(self, args, kwargs))

    @functools.cached_property
    def arguments(self) -> Arguments:
        """The input schema, from the signature."""
        return Arguments(self.name, self.fn, injected=IdempotencyKey)

    @functools.cached_property
    def output(self) -> Typed[Any]:
        return Typed(return_type(self.fn))

    @functools.cached_property
    def spec(self) -> ToolSpec:
        """The tool as a model sees it."""
        return ToolSpec(self.name, self.description, self.arguments.schema)

    @functools.cached_property
    def has_effect(self) -> bool:
        return self.effect is not Effect.READ

    @functools.cached_property
    def asynchronous(self) -> bool:
        """Whether the function is async; a plain one runs in a thread."""
        return inspect.iscoroutinefunction(self.fn)

    @functools.cached_property
    def states_more(self) -> bool:
        """Whether the contract says more about results than their type."""
        return self.empty == "refuse" or self.plausible is not None

    def rendered(self, result: Any) -> str:
        """How a result reads to the model: compact JSON, or what `render` makes of it."""
        return self.render(result) if self.render is not None else encode_json(result).decode()

    def is_nothing(self, result: Any) -> bool:
        """Whether the result is empty where the contract refuses that."""
        return self.empty == "refuse" and (result is None or (hasattr(result, "__len__") and len(result) == 0))

    def fault_of(self, result: Any) -> tuple[str, str] | None:
        """Why a result of the right type breaks the contract, as (fault, sentence); `None`: it is good."""
        if self.is_nothing(result):
            return "empty", f"{self.name} returned nothing where its contract promises something"
        try:
            verdict = self.plausible(result) if self.plausible is not None else True
        except Exception as error:  # noqa: BLE001  # a check that can't be made is not passed
            verdict = (
                f"{self.name}: whether the result is plausible could not be checked: {type(error).__name__}: {error}"
            )
        if verdict is True:
            return None
        return "implausible", verdict if isinstance(verdict, str) else f"{self.name} returned an implausible value"


@overload
def tool(fn: Callable[P, Awaitable[R]], /) -> Tool[P, R]: ...
@overload
def tool(
    *,
    effect: Literal["read", "idempotent", "keyed", "irreversible"] | Effect = ...,
    name: str | None = ...,
    retry: Retry = ...,
    timeout_s: float = ...,
    fallback: Sequence[Tool[..., Any]] = ...,
    definite: tuple[type[BaseException], ...] = ...,
    empty: Literal["allow", "refuse"] = ...,
    plausible: Callable[[Any], bool | str] | None = ...,
    yields: Trust = ...,
    needs: Trust | None = ...,
    policy: Policy = ...,
    fresh: Sequence[Fresh | Tool[..., Any]] = ...,
    escalate: Callable[..., bool] | None = ...,
    key_ttl_s: float = ...,
    reconcile: Callable[..., Awaitable[Reconciled]] | None = ...,
    read_key: Callable[..., str] | None = ...,
    render: Callable[[Any], str] | None = ...,
) -> Callable[[Callable[P, Awaitable[R]]], Tool[P, R]]: ...
def tool(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    effect: Literal["read", "idempotent", "keyed", "irreversible"] | Effect = Effect.IRREVERSIBLE,
    name: str | None = None,
    retry: Retry = ONCE,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    fallback: Sequence[Tool[..., Any]] = (),
    definite: tuple[type[BaseException], ...] = (),
    empty: Literal["allow", "refuse"] = "allow",
    plausible: Callable[[Any], bool | str] | None = None,
    yields: Trust = Trust.UNVERIFIED,
    needs: Trust | None = None,
    policy: Policy = "trajectory",
    fresh: Sequence[Fresh | Tool[..., Any]] = (),
    escalate: Callable[..., bool] | None = None,
    key_ttl_s: float = DEFAULT_KEY_TTL_S,
    reconcile: Callable[..., Awaitable[Reconciled]] | None = None,
    read_key: Callable[..., str] | None = None,
    render: Callable[[Any], str] | None = None,
) -> Any:
    """Declare a tool. The defaults are the careful ones: an undeclared effect is irreversible, an undeclared source unverified.

    Args:
        effect: What a call does to the world; see `Effect`.
        name: As models see it; the function's name by default.
        retry: Which errors are tried again. After an unknown outcome of an effect only `idempotent` and `keyed` ones are.
        timeout_s: Of one attempt. A time-out of an effect is an unknown outcome.
        fallback: Tools that stand in, in this order, with the same arguments; the result is `DEGRADED`. For an effect only
            after a definite failure.
        definite: Exceptions that mean "refused, no effect took place, no use to retry": a domain error.
        empty: Whether `None`, "" and empty collections are a result ("allow") or a failure ("refuse").
        plausible: Of a result of the right type: `True`, or the reason why it can't be true. Runs again on replay: keep it pure.
        yields: What a result adds to the trust of the run: `PRIMARY` for a system of record, `EXTERNAL` for content nobody vouches for.
        needs: The trust an effect needs without a person; `PRIMARY` for irreversible ones, none for others.
        policy: Whose trust counts: the whole run's ("trajectory") or that of the arguments, as endorsed ("values").
        fresh: Reads that the effect depends on, with their greatest age.
        escalate: Of the arguments (by name): `True` asks a person first.
        key_ttl_s: For how long the remote end remembers a key.
        reconcile: `async (key, arguments) -> Done(result) | NotDone() | Unknown()`: asked after an unknown outcome.
        read_key: Of a read's arguments: which thing was read. All arguments by default.
        render: How a result reads to the model; compact JSON by default.

    The parameter annotated `IdempotencyKey`, if any, is filled in by the runtime.

    Raises:
        ContractError: The contract contradicts itself.
    """

    def declare(fn: Callable[..., Any]) -> Tool[..., Any]:
        kind = Effect(effect)
        bounds = tuple(f if isinstance(f, Fresh) else Fresh(f) for f in fresh)
        floor = needs if needs is not None else (Trust.PRIMARY if kind is Effect.IRREVERSIBLE else Trust.EXTERNAL)
        made: Tool[..., Any] = Tool(
            fn=fn, name=name or fn.__name__, description=inspect.cleandoc(fn.__doc__ or ""), effect=kind, retry=retry,
            timeout_s=timeout_s, fallback=tuple(fallback), definite=definite, empty=empty, plausible=plausible, yields=yields,
            needs=floor, policy=policy, fresh=bounds, escalate=escalate, key_ttl_s=key_ttl_s, reconcile=reconcile,
            read_key=read_key, render=render,
        )  # fmt: skip
        _refuse_contradictions(made)
        return made

    return declare if fn is None else declare(fn)


def _refuse_contradictions(made: Tool[..., Any]) -> None:
    def wrong(why: str) -> ContractError:
        return ContractError(made.name, why)

    _ = (
        made.arguments,
        made.output,
    )  # annotations are resolved here, where names local to the declaring function are known
    if made.timeout_s <= 0:
        raise wrong("timeout_s must be above 0")
    if made.effect is Effect.KEYED and not made.arguments.injected:
        raise wrong("a keyed tool needs a parameter annotated hf.IdempotencyKey, which it hands to the remote end")
    if made.effect is Effect.READ and (made.reconcile or made.fresh or made.escalate):
        raise wrong("reconcile, fresh and escalate are for effects; a read has none")
    if made.effect is Effect.READ and made.arguments.injected:
        raise wrong("a read has no idempotency key")
    if made.effect is Effect.IRREVERSIBLE and made.retry.attempts > 1 and not made.definite and made.reconcile is None:
        raise wrong("an irreversible tool is never blindly repeated: its retry needs `reconcile`, or `definite` errors")
    for other in made.fallback:
        if made.effect is Effect.READ and other.effect is not Effect.READ:
            raise wrong(f"a read can't fall back on {other.name}, which has an effect")
    for bound in made.fresh:
        if bound.tool.effect is not Effect.READ:
            raise wrong(f"fresh={bound.tool.name}: only reads can be repeated to be fresh")
