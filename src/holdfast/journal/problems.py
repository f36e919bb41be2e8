"""What an audit finds: problems, redactions, and the report that holds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from ..store import Stream

Damage: TypeAlias = Literal[
    "changed",  # bytes are not those that were hashed
    "missing",  # an event, a blob or its content is gone
    "reordered",  # an event stands at a place that is not its own
    "truncated",  # the end of a stream is gone
    "foreign",  # it belongs to another run, stream or store
    "label",  # a label rises (law 3)
    "column",  # a queried column says something else than the record
    "state",  # the events, or the row of the run, can't be the outcome of what was recorded
]

MAX_PROBLEMS: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One damage.

    `run` is empty for what belongs to none: checkpoints (`seq` is then their number) and shared blobs.
    """

    run: str
    stream: Stream | None
    seq: int | None
    damage: Damage
    detail: str

    def __str__(self) -> str:
        where = f"run {self.run}" if self.run else "store"
        if self.stream is not None:
            where += ", notes" if self.stream is Stream.NOTES else ", events"
        if self.seq is not None:
            where += f", {self.seq}"
        return f"{where}: {self.damage}: {self.detail}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Redacted:
    """Events `first` to `last` of a stream have no content any more, and a note says who removed it and why."""

    run: str
    stream: Stream
    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """The result of an audit.

    Args:
        ok: No problem was found. Redactions are none.
        runs, events, checkpoints: How many were read; events of both streams.
        redacted: What was redacted, as ranges.
        problems: At most `max_problems`, in the order of the store.
        omitted: How many problems more were found.
    """

    ok: bool
    runs: int
    events: int
    checkpoints: int
    redacted: tuple[Redacted, ...]
    problems: tuple[Problem, ...]
    omitted: int = 0


class Findings:
    """Collects what an audit finds, with bounded memory."""

    __slots__ = ("checkpoints", "count", "events", "limit", "problems", "redacted", "runs")

    def __init__(self, limit: int = MAX_PROBLEMS) -> None:
        self.limit = limit
        self.count = 0
        self.runs = 0
        self.events = 0
        self.checkpoints = 0
        self.problems: list[Problem] = []
        self.redacted: list[Redacted] = []

    def add(
        self,
        damage: Damage,
        detail: str,
        *,
        run: str = "",
        stream: Stream | None = None,
        seq: int | None = None,
    ) -> None:
        self.count += 1
        if self.count <= self.limit:
            self.problems.append(Problem(run=run, stream=stream, seq=seq, damage=damage, detail=detail))

    def report(self) -> VerifyReport:
        return VerifyReport(
            ok=not self.count,
            runs=self.runs,
            events=self.events,
            checkpoints=self.checkpoints,
            redacted=tuple(self.redacted),
            problems=tuple(self.problems),
            omitted=self.count - len(self.problems),
        )
