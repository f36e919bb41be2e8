"""Branches: `parallel`, `first`, `timeout`. Each branch has a scope of its own, made in order, so paths do not depend on scheduling.

What scheduling did decide is recorded: who won a race, and that a failure ended a group. A replay takes the decision from the record
and does not run the race again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast, overload

import anyio
import msgspec

from ..errors import NoResult, TimedOut, WorkflowDefect
from ..journal.records import ErrorInfo, Failure, Outcome
from .execution import Execution
from .failures import describe, step_failed
from .scope import Abandon, Scope, Suspend, current_execution, enter, entered

T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")


class _Branches:
    """Some coroutines of one run as branches. Keeps the count of live branches right, so that the run parks exactly when all wait."""

    def __init__(self, parent: Scope, path: str, coroutines: Sequence[Awaitable[Any]]) -> None:
        self.execution: Execution = parent.execution
        self.parent = parent
        self.path = path
        self.coroutines = coroutines
        self.scopes: dict[int, Scope] = {}
        self.results: dict[int, Any] = {}
        self.error: Exception | None = None

    async def run(self, indexes: Sequence[int], *, workers: int, stop_at_first: bool) -> None:
        """Run the branches; the parent's place among the live ones passes to the first worker and comes back from the last."""
        queue: Iterator[int] = iter(indexes)
        running = min(workers, len(indexes))
        self.execution.live += running - 1
        left = running
        keepers: list[object] = []  # whoever ended the group, if anybody did

        async def work(group: anyio.abc.TaskGroup) -> None:
            nonlocal left
            me = object()
            try:
                for index in queue:
                    if keepers:  # decided before this one began
                        return
                    await self._branch(index)
                    if not keepers and (self.error is not None or (stop_at_first and self.results)):
                        keepers.append(me)
                        self._close_others(index)
                        group.cancel_scope.cancel()
                        return
            finally:
                # Whoever ends the group hands its place back to the parent, else the last one does: until then nothing parks.
                left -= 1
                gives_up = me not in keepers and (bool(keepers) or left > 0)
                self.execution.live -= gives_up
            if gives_up:
                self.execution.park_if_idle()

        try:
            async with anyio.create_task_group() as group:
                for _ in range(running):
                    group.start_soon(work, group)
        except BaseExceptionGroup as raised:
            raise _signal(raised) from None

    async def _branch(self, index: int) -> None:
        with entered(Scope(self.execution, f"{self.path}.{index}", parent=self.parent)) as scope:
            self.scopes[index] = scope
            try:
                self.results[index] = await self.coroutines[index]
            except Exception as error:  # noqa: BLE001  # it is raised again by whoever started the branches
                if self.error is None:
                    self.error = error

    def _close_others(self, winner: int) -> None:
        for index, scope in self.scopes.items():
            if index != winner and index not in self.results:
                scope.cancelled = True
        self.execution.hurry()


def _signal(raised: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one exception that matters of those that ended a group: losing the run, then parking, then the first error."""
    for kind in (Abandon, Suspend, BaseException):
        found = raised.subgroup(kind)
        while isinstance(found, BaseExceptionGroup):
            inner = found.exceptions[0]
            if not isinstance(inner, BaseExceptionGroup):
                return inner
            found = inner
    return raised


@contextmanager
def _closing(branches: Sequence[Awaitable[Any]]) -> Iterator[None]:
    """Whatever way the group ends, coroutines that were never begun are closed; closing a finished one does nothing."""
    try:
        yield
    finally:
        for branch in branches:
            if isinstance(branch, Coroutine):
                branch.close()


@overload
async def parallel(a: Awaitable[A], b: Awaitable[B], /, *, limit: int | None = ...) -> tuple[A, B]: ...
@overload
async def parallel(
    a: Awaitable[A], b: Awaitable[B], c: Awaitable[C], /, *, limit: int | None = ...
) -> tuple[A, B, C]: ...
@overload
async def parallel(*branches: Awaitable[T], limit: int | None = ...) -> tuple[T, ...]: ...
async def parallel(*branches: Awaitable[Any], limit: int | None = None) -> tuple[Any, ...]:
    """Run branches at the same time; their results in the order of the arguments.

    The first error cancels the others and is raised; that is recorded, so a replay does not start the others again.

    Args:
        branches: Coroutines of steps, tools, agents, or async functions that call them.
        limit: How many run at once; all by default.
    """
    with _closing(branches):
        if limit is not None and limit < 1:
            raise WorkflowDefect("hf.parallel", f"limit is how many branches run at once, at least 1, not {limit}")
        return await _parallel(branches, limit)


async def _parallel(branches: Sequence[Awaitable[Any]], limit: int | None) -> tuple[Any, ...]:
    scope = enter("parallel")
    path = scope.next_path()
    execution = scope.execution
    past = execution.recall(path, "scope", "parallel")
    if past is not None and past.outcome is not None:
        failure = past.outcome.payload(Failure)
        raise step_failed(execution.run, path, "parallel", failure.error, 1)
    if not branches:
        return ()
    group = _Branches(scope, path, branches)
    await group.run(range(len(branches)), workers=limit or len(branches), stop_at_first=False)
    if group.error is not None:
        raise await _recorded_failure(execution, path, "parallel", b"null", group.error)
    return tuple(group.results[i] for i in range(len(branches)))


async def _recorded_failure(execution: Execution, path: str, name: str, asked: bytes, error: Exception) -> Exception:
    """Record that a failure ended the group, and give the error that a replay will raise too."""
    if error is execution.halted or isinstance(error, NoResult):
        return error  # a defect goes to a person; an answer ends the run: both end it without a decision of this group
    info = describe(error)
    await execution.record("scope.failed", path, name, Failure(msgspec.Raw(asked), info))
    return step_failed(execution.run, path, name, info, 1)


async def first(*branches: Awaitable[T]) -> tuple[int, T]:
    """Race branches: the index and result of the first that returns; the others are cancelled.

    The winner is recorded; a replay runs that branch alone. A branch that fails ends the race with its error. An effect that is out in
    a losing branch is given a grace time to answer; what stays unknown is in doubt and goes to a person before the run ends.
    """
    with _closing(branches):
        if len(branches) < 2:
            raise WorkflowDefect("hf.first", "a race needs at least two branches")
        _, winner, result = await _race("first", branches)
    return winner, result


async def timeout(branch: Awaitable[T], *, timeout_s: float) -> T:
    """Bound a branch by a durable timer that counts on through crashes and waits.

    Raises:
        TimedOut: `timeout_s` seconds passed first; the branch was cancelled.
    """
    from .waits import sleep

    path, winner, result = await _race("timeout", (branch, sleep(timeout_s)), bound_s=timeout_s)
    if winner == 1:
        run = current_execution("timeout").run
        raise TimedOut(run, path, "timeout", "builtins.TimeoutError", f"not done within {timeout_s:g} s")
    return cast(T, result)


async def _race(name: str, branches: Sequence[Awaitable[Any]], *, bound_s: float | None = None) -> tuple[str, int, Any]:
    with _closing(branches):
        return await _raced(name, branches, bound_s)


async def _raced(name: str, branches: Sequence[Awaitable[Any]], bound_s: float | None) -> tuple[str, int, Any]:
    scope = enter(name)
    path = scope.next_path()
    execution = scope.execution
    asked = str(len(branches) if bound_s is None else bound_s).encode()
    past = execution.recall(path, "scope", name, asked)
    group = _Branches(scope, path, branches)
    if past is not None and past.outcome is not None:
        winner = _recorded_winner(execution, path, name, past.outcome, group)
        await group.run((winner,), workers=1, stop_at_first=True)
    else:
        await group.run(range(len(branches)), workers=len(branches), stop_at_first=True)
        winner = min(group.results, default=-1)
        if winner >= 0:
            await execution.record(
                "scope.completed", path, name, Outcome(msgspec.Raw(asked), msgspec.Raw(str(winner).encode()))
            )
    if winner in group.results:
        return path, winner, group.results[winner]
    assert group.error is not None
    raise await _recorded_failure(execution, path, name, asked, group.error)


def _recorded_winner(execution: Execution, path: str, name: str, outcome: Any, group: _Branches) -> int:
    if outcome.kind == "scope.failed":
        error: ErrorInfo = outcome.payload(Failure).error
        raise step_failed(execution.run, path, name, error, 1)
    return int(bytes(outcome.payload(Outcome).output))
