"""One attempt of a tool: call the function under its time-out, and check what it gives against its contract (law 8)."""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass
from typing import Any, Final

import anyio
from anyio import to_thread

from ..journal.records import ErrorInfo
from ..tools import Tool
from .failures import describe
from .scope import Scope

OUTPUT_FAULTS: Final = ("empty", "malformed", "implausible")
_ROOM_FOR_THE_REST: Final = 4096  # of an outcome's record, beside arguments and result


@dataclass(frozen=True, slots=True)
class Fault:
    """Why one attempt gave no result. `kind`: error, timeout, cancelled, or one of `OUTPUT_FAULTS`. `definite`: no effect took place."""

    kind: str
    info: ErrorInfo
    error: BaseException | None = None
    definite: bool = False


async def issue(scope: Scope, tool: Tool[..., Any], path: str, args: bytes, key: str | None) -> bytes | Fault:
    """Call the function once. Returns the result as JSON, or what was wrong.

    Raises:
        Abandon: The lease ended; nothing was issued (law 6).
    """
    execution = scope.execution
    arguments = tool.arguments.decode(args)
    arguments.update(dict.fromkeys(tool.arguments.injected, key))
    if tool.has_effect and not execution.may_issue():
        why = f"run {execution.run}, step {path}: the lease ended before {tool.name} was issued"
        execution.abandon(RuntimeError(why))
    guard = anyio.CancelScope(deadline=anyio.current_time() + tool.timeout_s)
    execution.guards[guard] = scope
    scope.busy = tool.name
    value: Any = None
    try:
        with guard:
            value = await _called(tool, arguments)
        if guard.cancelled_caught:
            return _timed_out(tool, "cancelled" if scope.closing else "timeout")
    except tool.definite as error:
        return Fault("error", describe(error), error, definite=True)
    except Exception as error:  # noqa: BLE001  # whatever a tool raises is a fault of this attempt
        return Fault("timeout" if isinstance(error, TimeoutError) else "error", describe(error), error)
    except anyio.get_cancelled_exc_class():
        defect = execution.cut(scope, tool.name, path)
        if defect is not None:
            raise defect from None
        raise
    finally:
        scope.busy = None
        execution.guards.pop(guard, None)
    return checked(tool, value, limit_bytes=execution.log.max_payload_bytes - len(args) - _ROOM_FOR_THE_REST)


def checked(tool: Tool[..., Any], value: Any, *, limit_bytes: int) -> bytes | Fault:
    """A result as JSON, if it is what the contract promises."""
    try:
        encoded = tool.output.encode(tool.output.check(value))
    except (TypeError, ValueError, RecursionError, NotImplementedError) as error:
        return _broken("malformed", f"{tool.name} returned something else than promised: {error}")
    if len(encoded) > limit_bytes:
        return _broken("malformed", f"{tool.name} returned {len(encoded):,} bytes, more than can be recorded")
    broken = tool.fault_of(tool.output.decode(encoded))
    return encoded if broken is None else _broken(*broken)


def _broken(kind: str, why: str) -> Fault:
    return Fault(kind, ErrorInfo("builtins.ValueError", why))


def _timed_out(tool: Tool[..., Any], kind: str) -> Fault:
    why = f"{tool.name} did not answer within {tool.timeout_s:g} s" if kind == "timeout" else f"{tool.name} was cut off"
    return Fault(kind, ErrorInfo("builtins.TimeoutError", why), TimeoutError(why))


async def _called(tool: Tool[..., Any], arguments: dict[str, Any]) -> Any:
    if inspect.iscoroutinefunction(tool.fn):
        return await tool.fn(**arguments)
    return await to_thread.run_sync(functools.partial(tool.fn, **arguments))
