"""Where a step stands: its path, given out in program order.

A path names a step by the order of *calls*, not of execution: the parent's path plus an index that the scope hands out. Only the
task that owns a scope may call steps in it, so the order does not depend on scheduling; `parallel`, `first` and `timeout` give every
branch a scope of its own, created in order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import anyio

from ..errors import UnscopedStep

if TYPE_CHECKING:
    from .execution import Execution


class Suspend(BaseException):
    """Everything in the run waits: the run parks. Not an `Exception`: user code must not catch it."""


class Abandon(BaseException):
    """The run is not ours any more, or the store is gone: stop without writing. Not an `Exception` for the same reason."""


class Scope:
    """A sequence of steps under one path, owned by one task.

    `busy` names the step whose body is running in this scope. `deadline` is the deadline in force when the scope was made: an earlier
    one seen by a step means that a bare cancel scope stands in between. `cancelled`: this branch lost; its cancellation is ours.
    `doomed`: that cancellation is due at the next `await`; no body may begin before it.
    """

    __slots__ = (
        "busy",
        "cancelled",
        "deadline",
        "doomed",
        "execution",
        "index",
        "innermost",
        "owner",
        "parent",
        "prefix",
    )

    def __init__(self, execution: Execution, path: str, *, parent: Scope | None = None) -> None:
        self.execution = execution
        self.prefix = f"{path}." if path else ""
        self.parent = parent
        self.index = 0
        # The loop is passed: finding it costs a system call on Python 3.11, and this is asked at every step.
        self.owner = asyncio.current_task(execution.loop)
        self.innermost = _innermost_scope(self.owner)
        self.busy: str | None = None
        self.cancelled = False
        self.doomed = False
        self.deadline = anyio.current_effective_deadline()

    def next_path(self) -> str:
        path = f"{self.prefix}{self.index}"
        self.index += 1
        return path

    @property
    def closing(self) -> bool:
        """Whether a cancellation that arrives here is one of ours: the run ends, or a branch around this scope lost."""
        scope: Scope | None = self
        while scope is not None:
            if scope.cancelled:
                return True
            scope = scope.parent
        return self.execution.closing


_current: ContextVar[Scope | None] = ContextVar("holdfast_scope", default=None)


def enter(step: str) -> Scope:
    """The scope that a step is called in, if it may be called there.

    Raises:
        UnscopedStep: No run, another task's scope, inside a step's body, or under a bare cancel scope.
    """
    scope = _current.get()
    if scope is None:
        raise UnscopedStep(step, "it was called outside a run")
    execution = scope.execution
    if execution.halted is not None:
        raise execution.halted
    if scope.busy is not None:
        raise execution.defective(UnscopedStep(step, f"it was called inside the body of {scope.busy}"))
    task = asyncio.current_task(execution.loop)
    if scope.owner is not task:
        raise execution.defective(UnscopedStep(step, "it was called from a task that does not own the scope"))
    innermost = _innermost_scope(task)
    if (innermost is None or innermost is not scope.innermost) and anyio.current_effective_deadline() < scope.deadline:
        if not scope.closing:
            why = "a bare cancel scope with a deadline stands around it, whose outcome no journal has"
            raise execution.defective(UnscopedStep(step, why))
        scope.doomed = True  # its group was decided in this very turn of the loop
    return scope


try:  # private to anyio, and only a short cut: without it the deadline is asked for at every step
    from anyio._backends._asyncio import _task_states
except ImportError:
    _task_states = WeakKeyDictionary()


def _innermost_scope(task: asyncio.Task[Any] | None) -> object:
    """The innermost cancel scope around a task; `None`: unknown."""
    state = None if task is None else _task_states.get(task)
    return None if state is None else state.cancel_scope


def current_scope() -> Scope | None:
    """The scope of the caller; `None` outside a run."""
    return _current.get()


def current_execution(what: str) -> Execution:
    """The run that the caller is in. Raises `UnscopedStep` outside of one."""
    scope = _current.get()
    if scope is None:
        raise UnscopedStep(what, "it was called outside a run")
    return scope.execution


@contextmanager
def entered(scope: Scope) -> Iterator[Scope]:
    """Steps called in here stand in `scope`."""
    token = _current.set(scope)
    try:
        yield scope
    finally:
        _current.reset(token)


@contextmanager
def nested(scope: Scope, path: str) -> Iterator[Scope]:
    """A scope below `scope` in the same task: the steps of an agent have its path in front."""
    with entered(Scope(scope.execution, path, parent=scope)) as inner:
        yield inner
