"""Everything non-deterministic that a workflow may want is a step: time, randomness, identifiers, configuration."""

from __future__ import annotations

import random as _random
import uuid as _uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from ..errors import WorkflowDefect
from ..journal.records import Outcome
from ..tools import Typed
from ..trust import step_order
from .scope import enter
from .steps import perform

T = TypeVar("T")

_DATETIME: Typed[datetime] = Typed(datetime)
_FLOAT: Typed[float] = Typed(float)
_STRING: Typed[str] = Typed(str)


async def now() -> datetime:
    """The time, recorded: aware, UTC. Replays see the recorded time."""
    scope = enter("now")
    execution = scope.execution

    async def read() -> datetime:
        return datetime.fromtimestamp(execution.clock.now_ns() / 1e9, tz=UTC)

    return await perform(scope, "value", scope.next_path(), "now", b"{}", _DATETIME, read)


async def random() -> float:
    """A random number in [0, 1), recorded."""

    async def draw() -> float:
        return _random.SystemRandom().random()

    scope = enter("random")
    return await perform(scope, "value", scope.next_path(), "random", b"{}", _FLOAT, draw)


async def uuid() -> str:
    """A random UUID (version 4) as text, recorded."""

    async def draw() -> str:
        return str(_uuid.uuid4())

    scope = enter("uuid")
    return await perform(scope, "value", scope.next_path(), "uuid", b"{}", _STRING, draw)


async def recorded(name: str, read: Callable[[], T | Awaitable[T]], *, type: Any = Any) -> T:
    """A value from outside the journal (configuration, a flag, an environment variable), read once and recorded.

    Args:
        name: As recorded.
        read: Called at most once for the run, with no arguments; may be async.
        type: The type the value is read back as; plain JSON by default.
    """

    async def body() -> T:
        value = read()
        return await value if isinstance(value, Awaitable) else value

    scope = enter(name)
    return await perform(scope, "value", scope.next_path(), name, b"{}", Typed[T](type), body)


async def patched(id: str) -> bool:
    """Mark a small change of code under runs in flight: `True` where the new code applies.

    Runs that had already passed this place when the change was deployed go on with the old code; the answer for a run never changes.
    It takes no place in the order of steps, so old runs still match.
    """
    if "." in id or not id:
        raise WorkflowDefect(f"patched({id!r})", "the id must be a non-empty text without dots")
    scope = enter("patched")
    execution = scope.execution
    path = f"{scope.prefix}~{id}"
    if path in execution.patches:
        return execution.patches[path]
    past = execution.recall(path, "value", f"patched {id}")
    if past is not None and past.outcome is not None:
        verdict = True
    else:
        here = step_order(f"{scope.prefix}{scope.index}")
        verdict = not any(
            step_order(p) >= here for p in execution.history if p.startswith(scope.prefix) and "~" not in p
        )
        if verdict:
            outcome = Outcome(msgspec.Raw(b"{}"), msgspec.Raw(b"true"), execution.clock.now_ns())
            await execution.complete("value", path, f"patched {id}", outcome)
    execution.patches[path] = verdict
    return verdict
