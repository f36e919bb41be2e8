"""How attempts fail on purpose, and where calls wait for a kill: decided outside every worker."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, get_args

FaultKind: TypeAlias = Literal["timeout", "error", "empty", "malformed", "cut"]
When: TypeAlias = Literal["before", "after"]
Moment: TypeAlias = Literal["before", "after", "any"]
"""Where calls are held until a kill: before their effect, after it, or nowhere."""

FAULT_KINDS: Final[tuple[FaultKind, ...]] = get_args(FaultKind)
DEFAULT_FAULTS: Final[tuple[FaultKind, ...]] = ("timeout", "error", "empty", "malformed")
MALFORMED: Final = (
    '{"ok": true, "result": {"order_id": 17',
    '{"ok": true, "result": [[null]]}',
    "<html>502 Bad Gateway</html>",
)


@dataclass(frozen=True, kw_only=True)
class Fault:
    kind: FaultKind
    when: When = "before"


@dataclass(kw_only=True)
class FaultPlan:
    """Which attempts fail: each with the same probability, whatever failed before it."""

    probability: float = 0.0
    kinds: Sequence[FaultKind] = DEFAULT_FAULTS
    dice: random.Random = field(default_factory=lambda: random.Random(0))

    def draw(self) -> Fault | None:
        if self.dice.random() >= self.probability:
            return None
        moments: tuple[When, ...] = ("before", "after")
        return Fault(kind=self.dice.choice(self.kinds), when=self.dice.choice(moments))


@dataclass(kw_only=True)
class Trap:
    """Springs when a number of model turns have begun, and then holds calls until it is released.

    With `write_within` it prefers to catch a write: it waits for one, for that many turns more.
    """

    turns_left: int
    moment: Moment
    write_within: int = 0
    sprung: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    def count(self) -> None:
        self.turns_left -= 1
        if self.turns_left <= -self.write_within:
            self.sprung.set()

    def meet_write(self, moment: Moment) -> None:
        if self.turns_left <= 0 and moment == self.moment:
            self.sprung.set()

    @property
    def is_killing(self) -> bool:
        return self.sprung.is_set() and not self.released.is_set()

    def holds(self, moment: Moment) -> bool:
        return self.is_killing and self.moment == moment
