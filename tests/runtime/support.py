"""What the tests of the runtime share: workflows that no global registry knows, and ways to look at a run."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio

import holdfast as hf
from holdfast.errors import HoldfastError
from holdfast.journal.records import Budget
from holdfast.model import Clock
from holdfast.runtime import Registry, Workflow
from holdfast.store import Store, Wait
from holdfast.store.memory import MemoryStore
from holdfast.testing import FaultyStore
from holdfast.testing.faults import Act, When, Where
from holdfast.trust import Trust

SOON_S = 5.0
"""How long a test waits for what must happen at once: reached only when it fails."""


def flow(
    fn: Callable[..., Awaitable[Any]],
    *,
    name: str | None = None,
    version: str = "1",
    accepts: Sequence[str] = (),
    budget: Budget | None = None,
) -> Workflow[..., Any]:
    """A workflow that is declared for one test only."""
    return Workflow(
        fn,
        name=name or fn.__name__,
        version=version,
        accepts=tuple(accepts),
        success="",
        budget=budget or Budget(),
    )


def loaded(*workflows: Workflow[..., Any]) -> Registry:
    registry = Registry()
    for workflow in workflows:
        registry.add(workflow)
    return registry


@asynccontextmanager
async def opened(
    *workflows: Workflow[..., Any],
    store: Store | None = None,
    clock: Clock | None = None,
    worker: bool = True,
    **options: Any,  # Any: the rest of `hf.open`
) -> AsyncIterator[hf.App]:
    """An app on a store in memory (or on `store`) that knows these workflows."""
    async with hf.open(
        store=store or MemoryStore(), registry=loaded(*workflows), clock=clock, worker=worker, poll_s=0.01, **options
    ) as app:
        yield app


async def crashed(
    *workflows: Workflow[..., Any],
    at: Where,
    when: When = "before",
    act: Act = "crash",
    store: Store | None = None,
    input: Sequence[object] = (),
    label: Trust = Trust.EXTERNAL,
    clock: Clock | None = None,
    id: str = "r",
) -> FaultyStore:
    """Start the first workflow and let the store die at a write; returns the store as the next process finds it."""
    faulty = FaultyStore(store or MemoryStore(), at=at, when=when, act=act)
    async with opened(*workflows, store=faulty, clock=clock) as app:
        with contextlib.suppress(HoldfastError):
            await app.start(workflows[0], *input, id=id, label=label)
        await until(lambda: faulty.fired)
    await faulty.revive()
    return faulty


async def until_so(true: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something that has to be asked for, and happens at once."""
    with anyio.fail_after(SOON_S):
        while not await true():  # noqa: ASYNC110  # what is waited for has no event
            await anyio.sleep(0.001)


async def until(true: Callable[[], bool]) -> None:
    """Wait for something in this process."""

    async def ask() -> bool:
        return true()

    await until_so(ask)


async def until_status(app: hf.App, run: str, *status: str) -> None:
    """Wait until a run is stored, with one of these statuses."""
    row = None

    async def there() -> bool:
        nonlocal row
        row = await app.store.run(run)
        return row is not None and row.status in status

    try:
        await until_so(there)
    except TimeoutError:
        events = await kinds(app, run) if row is not None else []
        raise AssertionError(f"run {run} is not {status}: {', '.join(events)}") from None


async def until_recorded(app: hf.App, event: str, run: str = "r") -> None:
    """Wait until a run holds an event of this kind and path."""

    async def there() -> bool:
        return event in await kinds(app, run)

    await until_so(there)


async def until_asked(app: hf.App, *, other_than: str = "") -> list[Wait]:
    """Wait until a person is asked something: approvals and doubts, other than the one of that id."""
    found: list[Wait] = []

    async def asked() -> bool:
        found[:] = [wait for _, wait in await app.approvals() if wait.id != other_than]
        return bool(found)

    await until_so(asked)
    return found


async def until_over(app: hf.App, store: FaultyStore, run: str = "r") -> None:
    """Wait until the run completed or the store fails, whichever comes first."""
    fired_before = store.fired  # a store that was revived has failed once

    async def over() -> bool:
        return (store.fired and not fired_before) or (await app.journal.run(run)).status == "completed"

    with contextlib.suppress(HoldfastError):
        await until_so(over)


async def result(app: hf.App, run: str = "r") -> Any:  # Any: of the workflow
    """The result of a completed run."""
    return (await app.result(run, timeout_s=SOON_S)).result


async def kinds(app: hf.App, run: str = "r") -> list[str]:
    """Kind and path of every event."""
    return [f"{e.kind} {e.path}".strip() for e in await app.events(run)]


def appends(kind: str, path: str | None = None) -> Callable[[Any], bool]:
    """Finds the write of an event of this kind, for `FaultyStore(at=...)`."""
    from holdfast.journal.codec import decode_header

    def found(request: Any) -> bool:
        return any(
            row.kind == kind and (path is None or decode_header(row.header).path == path) for row in request.rows
        )

    return found
