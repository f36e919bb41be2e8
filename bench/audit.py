"""How fast a store is verified, and whether memory stays flat while it is.

python bench/audit.py STORE
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import anyio
from checked import Unsound
from child import tell
from machine import forget_peak, memory_mb

from holdfast.journal.verify import verify
from holdfast.store import open_store


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """`rss_before_mb`: with the store open; `rss_peak_mb`: the most during the audit."""

    events: int
    runs: int
    seconds: float
    rss_before_mb: float
    rss_peak_mb: float


async def measure(path: Path) -> Measured:
    """Raises `Unsound`."""
    store = await open_store(path)
    try:
        forget_peak()
        before_mb = memory_mb("VmRSS")
        began = time.perf_counter()
        with store.snapshot() as snapshot:
            report = verify(snapshot)
        seconds = time.perf_counter() - began
    finally:
        await store.close()
    if not report.ok:
        raise Unsound(f"{path}: {[str(problem) for problem in report.problems[:3]]}")
    return Measured(
        events=report.events, runs=report.runs, seconds=seconds, rss_before_mb=before_mb, rss_peak_mb=memory_mb()
    )


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("store", type=Path)
    tell(anyio.run(measure, asked.parse_args().store))


if __name__ == "__main__":
    main()
