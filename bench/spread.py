"""Several measurements of one figure: never one number without its count and its range."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Median, smallest, largest and number of the measurements."""

    median: float
    least: float
    most: float
    n: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Raises `ValueError` when there are none."""
        found = list(values)
        if not found:
            raise ValueError("no measurements: nothing to report")
        return cls(median=statistics.median(found), least=min(found), most=max(found), n=len(found))
