"""`@step`: a plain unit of work. May run again after a crash, so it must have no effect; effects are tools.

The one function here that matters is `perform`: recall, or run the body with its retries, record the outcome, return what was recorded.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Generic, ParamSpec, TypeVar, overload

import anyio
import anyio.lowlevel
import msgspec
from anyio import to_thread

from ..errors import HoldfastError, NotJson
from ..journal.records import Attempt, ErrorInfo, Failure, Outcome
from ..tools import Retry, Typed, return_type
from ..tools.contract import ONCE
from ..tools.typed import HAS_NO_JSON
from ..trust import PRIMARY, Label, Trust, lowered
from .execution import Execution
from .failures import describe, step_failed
from .history import Past
from .scope import Scope, enter

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_NO_KWARGS: dict[str, Any] = {}


class Step(Generic[P, R]):
    """A journalled function; see `step`. Inside a run a call is recorded; `fn` is the function itself."""

    def __init__(
        self, fn: Callable[..., Any], *, name: str | None, retry: Retry, timeout_s: float | None, yields: Trust
    ) -> None:
        self.__doc__, self.__module__ = fn.__doc__, fn.__module__
        self.fn = fn
        self.name = name or fn.__name__
        self.retry = retry
        self.timeout_s = timeout_s
        self.yields = yields
        self.output: Typed[R] = Typed(return_type(fn))
        self._names = tuple(inspect.signature(fn).parameters)
        self._body: Callable[..., Awaitable[R]] = fn if inspect.iscoroutinefunction(fn) else self._in_thread

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        scope = enter(self.name)
        path = scope.next_path()
        execution = scope.execution
        given = dict(zip(self._names, args, strict=False)) | kwargs
        asked = execution.encoded(given, path) if given else b"{}"
        return await perform(
            scope,
            "step",
            path,
            self.name,
            asked,
            self.output,
            self._body,
            args,
            kwargs,
            retry=self.retry,
            timeout_s=self.timeout_s,
            yields=self.yields,
        )

    async def _in_thread(self, *args: Any, **kwargs: Any) -> R:
        return await to_thread.run_sync(functools.partial(self.fn, *args, **kwargs), abandon_on_cancel=True)


@overload
def step(fn: Callable[P, Awaitable[R]], /) -> Step[P, R]: ...
@overload
def step(
    *, name: str | None = ..., retry: Retry = ..., timeout_s: float | None = ..., yields: Trust = ...
) -> Callable[[Callable[P, Awaitable[R]]], Step[P, R]]: ...
def step(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    retry: Retry = ONCE,
    timeout_s: float | None = None,
    yields: Trust = Trust.PRIMARY,
) -> Any:
    """Declare a step. It may run again after a crash that came before its outcome was recorded: effects are tools.

    Args:
        name: As recorded; renaming a step strands the runs that hold it. The function's name by default.
        retry: Which errors are tried again; one attempt by default.
        timeout_s: Of one attempt.
        yields: What the result adds to the trust of the run. Code of your own is `PRIMARY`; a step that brings in content nobody
            vouches for must say `EXTERNAL`.

    The result is recorded as JSON and read back as the annotated return type, live and replayed alike.

    Raises (when called): `StepFailed` or `TimedOut`, live and replayed alike; `UnscopedStep` outside a run.
    """

    def declare(fn: Callable[..., Any]) -> Step[..., Any]:
        return Step(fn, name=name, retry=retry, timeout_s=timeout_s, yields=yields)

    return declare if fn is None else declare(fn)


async def perform(
    scope: Scope,
    kind: str,
    path: str,
    name: str,
    asked: bytes,
    output: Typed[T],
    body: Callable[..., Awaitable[T]],
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] = _NO_KWARGS,
    *,
    retry: Retry = ONCE,
    timeout_s: float | None = None,
    yields: Trust = Trust.PRIMARY,
) -> T:
    """Law 1 for every step without an effect: return the recorded outcome, or make one and record it.

    Raises:
        StepFailed: The recorded failure, or the one recorded now.
        BudgetExceeded: Recorded as the outcome; the body did not run.
    """
    execution = scope.execution
    if scope.doomed:
        await anyio.lowlevel.checkpoint()
    past = execution.recall(path, kind, name, asked)
    if past is not None and past.outcome is not None:
        return recorded_result(execution, past, output)
    if execution.budget is not None:
        await execution.within_budget(kind, path, name, asked)
    attempt = 1 + (len(past.attempts) if past is not None else 0)
    while True:
        started_ns = execution.clock.now_ns()
        scope.busy = name
        try:
            if timeout_s is None:
                result = await body(*args, **kwargs)
            else:
                with anyio.fail_after(timeout_s):
                    result = await body(*args, **kwargs)
            scope.busy = None
            encoded = _encoded(execution, path, output, result)
            del result  # it would be alive, with all it holds, in every step that waits for the store
            outcome = Outcome(msgspec.Raw(asked), msgspec.Raw(encoded), started_ns, attempt)
            await execution.complete(kind, path, name, outcome, adds=_adds(yields, kind, path))
            return output.decode(encoded)
        except (Exception, SystemExit) as error:  # `sys.exit()` deep in a library ends the step, not the worker
            if error is execution.halted:  # a defect is no outcome: once the code is right, the step is done
                raise
            info = describe(error)
            if attempt >= retry.attempts or not isinstance(error, retry.on) or isinstance(error, HoldfastError):
                await execution.fail(kind, path, name, asked, info, attempts=attempt, started_ns=started_ns)
                raise step_failed(execution.run, path, name, info, attempt) from error
            await pause_before_retry(execution, kind, path, name, info, retry, attempt, started_ns)
            attempt += 1
        except anyio.get_cancelled_exc_class():
            defect = execution.cut(scope, name, path)
            if defect is not None:
                raise defect from None
            raise
        finally:
            scope.busy = None


async def pause_before_retry(
    execution: Execution, kind: str, path: str, name: str, info: ErrorInfo, retry: Retry, attempt: int, started_ns: int,
    *, fault: str = "", via: str = "",
) -> None:  # fmt: skip
    """Record a failed attempt, then wait as the contract says."""
    delay_s = retry.delay_s(execution.run, path, attempt)
    fault = fault or ("timeout" if "TimeoutError" in info.type else "error")
    await execution.record(f"{kind}.attempt", path, name, Attempt(attempt, fault, info, via, delay_s, started_ns))
    await execution.nap(delay_s, path, name)


def recorded_result(execution: Execution, past: Past, output: Typed[T]) -> T:
    """What a recorded outcome returns or raises."""
    event = past.outcome
    assert event is not None
    if event.kind.endswith(".failed"):
        failure = event.payload(Failure)
        raise step_failed(execution.run, event.path, event.name, failure.error, failure.attempts)
    return execution.read_back(output, bytes(past.completed().output), event.path, event.name)


def _encoded(execution: Execution, path: str, output: Typed[T], result: T) -> bytes:
    try:
        return output.encode_checked(result)
    except HAS_NO_JSON as error:
        raise NotJson(execution.run, path, str(error)) from error


def _adds(yields: Trust, kind: str, path: str) -> Label:
    return PRIMARY if yields is Trust.PRIMARY else lowered(yields, f"{kind} yields {yields.name}", path)
