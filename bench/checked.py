"""No figure without a sound record: after every measurement its store is verified, and the events are counted."""

from __future__ import annotations

import asyncio
from pathlib import Path

from holdfast.journal.problems import VerifyReport
from holdfast.journal.verify import verify
from holdfast.store import open_store


class Unsound(Exception):
    """The store does not hold what was done: there is no figure."""


async def checked(path: Path, *, runs: int, events: int | None = None) -> VerifyReport:
    """Verify the store at `path`. Raises `Unsound`: damaged, or not exactly so many runs and events (notes included)."""
    report = await audited(path)
    if not report.ok:
        raise Unsound(f"{path}: {[str(problem) for problem in report.problems[:3]]}")
    if report.runs != runs or (events is not None and report.events != events):
        raise Unsound(f"{path}: {report.runs} runs with {report.events} events, not {runs} with {events}")
    return report


async def audited(path: Path) -> VerifyReport:
    """What `holdfast audit verify` finds."""
    store = await open_store(path)
    try:

        def read() -> VerifyReport:
            with store.snapshot() as snapshot:
                return verify(snapshot)

        return await asyncio.to_thread(read)
    finally:
        await store.close()
