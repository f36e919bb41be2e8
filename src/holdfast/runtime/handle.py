"""`Run`: a handle on one run, and `RunInfo`: how it stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from ..model import Answer
from ..store import Wait
from ..trust import Label, Trust

if TYPE_CHECKING:
    from .app import App

R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """A run as it stands. `label` with its causes, `waits` when it is parked."""

    run: str
    workflow: str
    version: str
    status: str
    outcome: str | None
    label: Label
    waits: tuple[Wait, ...]
    worker: str | None
    created_ns: int
    updated_ns: int
    events: int
    notes: int


class Run(Generic[R]):
    """A handle on one run. Cheap; holds no state of its own."""

    def __init__(self, app: App, id: str) -> None:
        self._app = app
        self.id = id

    def __repr__(self) -> str:
        return f"<run {self.id}>"

    async def status(self) -> RunInfo:
        """Raises `UnknownRun`."""
        return await self._app.info(self.id)

    async def result(self, *, timeout_s: float | None = None) -> Answer[R]:
        """Wait for the answer, one of four. A run that waits for a reply gives its `Clarify`.

        Raises:
            RunFailed, RunCancelled, RunNeedsAttention: How it ended otherwise.
            ResultTimeout: No answer in `timeout_s` seconds; the run goes on.
        """
        return await self._app.result(self.id, timeout_s=timeout_s)

    async def reply(self, text: str, *, key: str | None = None, label: Trust = Trust.EXTERNAL) -> int:
        """Answer a `Clarify`, or take the user's next turn; the same run goes on. `key` makes it idempotent."""
        return await self._app.note(self.id, "reply", value=text, key=key, label=label)

    async def signal(
        self, name: str, value: object = None, *, key: str | None = None, label: Trust = Trust.EXTERNAL
    ) -> int:
        """Send a signal; kept until the run asks for it. Returns the number of the note."""
        return await self._app.note(self.id, "signal", name=name, value=value, key=key, label=label)

    async def cancel(self, why: str = "", *, by: str = "") -> None:
        """Cancel the run. An effect that is out gets a grace time to answer; what stays unknown is said in the record."""
        await self._app.note(self.id, "cancel", why=why, by=by, key="cancel")
