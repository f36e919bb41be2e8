"""What a store holds after a crash, read from outside while no worker runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import anyio

import holdfast as hf
from holdfast.errors import UnknownRun
from holdfast.journal import Event
from holdfast.journal.problems import VerifyReport
from holdfast.store import Wait


@dataclass(frozen=True, slots=True)
class Stored:
    """One run as stored; no events when it never was."""

    status: str
    events: tuple[Event, ...]
    notes: tuple[Event, ...]
    waits: tuple[Wait, ...]

    @property
    def kinds(self) -> list[tuple[str, str]]:
        return [(e.kind, e.path) for e in self.events]

    def paths(self, kind: str) -> set[str]:
        return {e.path for e in self.events if e.kind == kind}

    @property
    def completed_steps(self) -> set[str]:
        """Names of plain steps whose outcome is decided."""
        return {e.name for e in self.events if e.kind == "step.completed"}

    @property
    def open_intents(self) -> set[str]:
        """Steps with an intent that has no outcome: the effect may have taken place."""
        return self.paths("tool.intent") - self.paths("tool.completed") - self.paths("tool.failed")


async def _read(db: Path, run: str) -> Stored:
    async with hf.open(db, worker=False) as app:
        try:
            row = await app.journal.run(run)
        except UnknownRun:
            return Stored("", (), (), ())
        info = await app.info(run)
        return Stored(row.status, tuple(await app.events(run)), tuple(await app.notes(run)), info.waits)


def stored(db: Path, run: str) -> Stored:
    return anyio.run(_read, db, run)


async def _verify(db: Path) -> VerifyReport:
    async with hf.open(db, worker=False) as app:
        return await app.verify()


def verified(db: Path) -> VerifyReport:
    return anyio.run(_verify, db)


async def _settle(db: Path, id: str, verdict: str, result: object) -> None:
    async with hf.open(db, worker=False) as app:
        await app.settle(id, verdict, result=result, by="the clerk")


def settle(db: Path, id: str, verdict: str, result: object = None) -> None:
    anyio.run(_settle, db, id, verdict, result)


async def _cancel(db: Path, run: str) -> None:
    async with hf.open(db, worker=False) as app:
        await app.run(run).cancel("no longer wanted")


def cancel(db: Path, run: str) -> None:
    anyio.run(_cancel, db, run)
