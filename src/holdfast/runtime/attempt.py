"""One attempt of a tool: call the function under its time-out, and check what it gives against its contract (law 8)."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import anyio
from anyio import to_thread

from ..journal.records import ErrorInfo
from ..model import Secret
from ..tools import Tool
from ..tools.typed import HAS_NO_JSON
from .failures import describe
from .scope import Scope

T = TypeVar("T")

OUTPUT_FAULTS: Final = ("empty", "malformed", "implausible")
_ROOM_FOR_THE_REST: Final = 4096  # of an outcome's record, beside arguments and result


@dataclass(frozen=True, slots=True)
class Fault:
    """Why one attempt gave no result. `kind`: error, timeout, cancelled, or one of `OUTPUT_FAULTS`. `definite`: no effect took place."""

    kind: str
    info: ErrorInfo
    error: BaseException | None = None
    definite: bool = False


async def issue(
    scope: Scope,
    tool: Tool[..., Any],
    path: str,
    args: bytes,
    key: str | None,
    record: Callable[[bytes], Awaitable[T]],
    secrets: Mapping[str, Secret],
) -> tuple[T] | Fault:
    """Call the function once. Returns what `record` makes of the result as JSON, or what was wrong.

    No cancellation gets in while an effect is out; its time-out, and `Execution.hurry`, bound it.

    Raises:
        Abandon: The lease ended; nothing was issued (law 6).
    """
    execution = scope.execution
    arguments = tool.arguments.decode(args, secrets)
    arguments.update(dict.fromkeys(tool.arguments.injected, key))
    if tool.has_effect and not execution.may_issue():
        why = f"run {execution.run}, step {path}: the lease ended before {tool.name} was issued"
        execution.abandon(RuntimeError(why))
    limit_bytes = execution.log.max_payload_bytes - len(args) - _ROOM_FOR_THE_REST
    guard = anyio.CancelScope(deadline=anyio.current_time() + tool.timeout_s, shield=tool.has_effect)
    execution.guards[guard] = scope
    scope.busy = tool.name
    got: bytes | Fault | None = None
    try:
        with guard:
            got = await _outcome(tool, arguments, limit_bytes)
    except anyio.get_cancelled_exc_class() as error:
        task = asyncio.current_task()
        if task is not None and not task.cancelling() and not scope.closing:
            return Fault(
                "error", describe(error), error
            )  # nobody cancelled anything: the tool's library raised it by itself
        defect = execution.cut(scope, tool.name, path)
        if defect is not None:
            raise defect from None
        raise
    finally:
        scope.busy = None
        execution.guards.pop(guard, None)
    if got is None:
        return _timed_out(tool, "cancelled" if scope.closing else "timeout")
    if isinstance(got, Fault):
        return got
    # Outside the guard: a result that came late is a result. The record is on its way at the call, before any cancellation gets in.
    return (await record(got),)


async def _outcome(tool: Tool[..., Any], arguments: dict[str, Any], limit_bytes: int) -> bytes | Fault:
    try:
        if tool.asynchronous:
            value = await tool.fn(**arguments)
        else:
            value = await to_thread.run_sync(functools.partial(tool.fn, **arguments), abandon_on_cancel=True)
    except tool.definite as error:
        return Fault("error", describe(error), error, definite=True)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # whatever a tool raises is a fault of this attempt
        return Fault("timeout" if isinstance(error, TimeoutError) else "error", describe(error), error)
    return checked(tool, value, limit_bytes=limit_bytes)


def checked(tool: Tool[..., Any], value: Any, *, limit_bytes: int) -> bytes | Fault:
    """A result as JSON, if it is what the contract promises."""
    if tool.is_nothing(value):
        return _broken("empty", f"{tool.name} returned nothing where its contract promises something")
    try:
        encoded = tool.output.encode_checked(value)
    except HAS_NO_JSON as error:
        return _broken("malformed", f"{tool.name} returned something else than promised: {error}")
    if len(encoded) > limit_bytes:
        return _broken("malformed", f"{tool.name} returned {len(encoded):,} bytes, more than can be recorded")
    broken = tool.fault_of(tool.output.decode(encoded)) if tool.states_more else None
    return encoded if broken is None else _broken(*broken)


def _broken(kind: str, why: str) -> Fault:
    return Fault(kind, ErrorInfo("builtins.ValueError", why))


def _timed_out(tool: Tool[..., Any], kind: str) -> Fault:
    why = f"{tool.name} did not answer within {tool.timeout_s:g} s" if kind == "timeout" else f"{tool.name} was cut off"
    return Fault(kind, ErrorInfo("builtins.TimeoutError", why), TimeoutError(why))
