"""All figures of a run of the benchmark, with their targets, as an object and as a table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from machine import Machine
from spread import Spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A figure is met by being at least or at most so much."""

    bound: Literal["at least", "at most"]
    value: float

    def is_met(self, measured: float) -> bool:
        return measured >= self.value if self.bound == "at least" else measured <= self.value


TARGETS = {
    "steps_per_s": Target(bound="at least", value=15_000),
    "steps_per_s_with_intent": Target(bound="at least", value=10_000),
    "ratio_to_floor": Target(bound="at least", value=0.5),
    "lone_step_ms": Target(bound="at most", value=2.0),
    "rss_mb": Target(bound="at most", value=120),
    "open_10000_s": Target(bound="at most", value=0.2),
    "resume_10000_s": Target(bound="at most", value=8.0),
    "resume_rss_mb": Target(bound="at most", value=200),
    "growth_40_to_10": Target(bound="at most", value=4.5),
    "verify_events_per_s": Target(bound="at least", value=80_000),
    "import_s": Target(bound="at most", value=0.3),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the table. `value` is the figure; `spread` what it is the median of, when there is more than one."""

    name: str
    value: float
    unit: str
    what: str
    spread: Spread | None = None

    @property
    def target(self) -> Target | None:
        return TARGETS.get(self.name)

    @property
    def is_met(self) -> bool | None:
        return None if self.target is None else self.target.is_met(self.value)


def of(name: str, measured: Spread | float, unit: str, what: str) -> Figure:
    """A figure from one measurement or the median of several."""
    if isinstance(measured, Spread):
        return Figure(name=name, value=measured.median, unit=unit, what=what, spread=measured)
    return Figure(name=name, value=measured, unit=unit, what=what)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """`notes`: what must be known to read the figures. `failed`: parts without a figure, `skipped`: peers, and why."""

    machine: Machine
    flush_ms: float
    figures: tuple[Figure, ...]
    peers: dict[str, float]
    notes: tuple[str, ...]
    failed: dict[str, str]
    skipped: dict[str, str]

    def value(self, name: str) -> float | None:
        return next((figure.value for figure in self.figures if figure.name == name), None)

    def as_json(self) -> dict[str, Any]:  # Any: JSON
        """Figures by name, then spreads, targets, machine and notes."""
        return {
            **{figure.name: _rounded(figure.value) for figure in self.figures},
            "flush_ms": _rounded(self.flush_ms),
            "peers": {name: _rounded(value) for name, value in self.peers.items()},
            "spreads": {f.name: f.spread for f in self.figures if f.spread is not None},
            "targets": {f.name: {"target": f.target, "met": f.is_met} for f in self.figures if f.target is not None},
            "machine": self.machine,
            "notes": self.notes,
            "failed": self.failed,
            "skipped": self.skipped,
        }

    def as_text(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        m = self.machine
        yield f"{m.processor}, {m.cores} cores, {m.memory_gb:g} GB; load {m.load:g} at the beginning"
        yield (
            f"Python {m.python}, SQLite {m.sqlite} (WAL, synchronous={m.synchronous}) on {m.filesystem}: "
            f"a write and flush of 4 KiB takes {self.flush_ms:.2f} ms"
        )
        yield ", ".join(f"{name} {version}" for name, version in m.versions.items())
        yield ""
        yield f"{'figure':<26}{'median':>10}  {'unit':<9}{'range':<22}{'n':>4}  target"
        for figure in self.figures:
            yield _line(figure)
            yield f"    {figure.what}"
        for name, value in self.peers.items():
            yield f"{name:<26}{_short(value):>10}  {'steps/s':<9}{'':<22}{1:>4}"
        for name, why in (*self.failed.items(), *self.skipped.items()):
            yield f"{name:<26}{'-':>10}  no figure: {why}"
        yield ""
        yield from self.notes


def _line(figure: Figure) -> str:
    spread, target = figure.spread, figure.target
    between = f"{_short(spread.least)} to {_short(spread.most)}" if spread is not None else ""
    count = spread.n if spread is not None else 1
    asked = "" if target is None else f"{target.bound} {_short(target.value)}: {'met' if figure.is_met else 'NOT MET'}"
    return f"{figure.name:<26}{_short(figure.value):>10}  {figure.unit:<9}{between:<22}{count:>4}  {asked}".rstrip()


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _rounded(value: float) -> float:
    return round(value) if abs(value) >= 1000 else round(value, 4)
