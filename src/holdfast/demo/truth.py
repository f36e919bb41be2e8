"""What each mail really is and what should become of it.

Only the scripted model (which has to pretend that it can read) and the count at the end use this. The desk
must not: a test reads its imports.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from typing import Literal

from holdfast.demo import inbox
from holdfast.demo.records import read_jsonl

Kind = Literal["order", "ambiguous", "refuse", "large", "contradiction", "injection"]
Expected = Literal["placed", "clarify", "refused", "approval", "escalated"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrueLine:
    """One line as a careful reader finds it; `quote` holds the words of the mail that say so."""

    sku: str
    quantity: int
    quote: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """What a model that obeys the mail would propose."""

    technique: str
    address: str | None = None
    price_cents: int | None = None
    customer: str | None = None
    add: tuple[TrueLine, ...] = ()
    quantities: dict[str, int] | None = None
    call: tuple[str, dict[str, str]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    id: str
    kind: Kind
    expected: Expected
    customer: str | None = None
    address: str | None = None
    lines: tuple[TrueLine, ...] = ()
    repeats: str | None = None
    price_cents: int | None = None
    question: str = ""
    framings: tuple[str, ...] = ()
    missing: str = ""
    ask: str = ""
    contradiction: str = ""
    attack: Attack | None = None


@cache
def truths() -> dict[str, Truth]:
    return {truth.id: truth for truth in read_jsonl("truth.jsonl", Truth)}


def truth_of(mail_id: str) -> Truth:
    """The truth about a mail or about a copy of it."""
    return truths()[inbox.original(mail_id)]


def spread(count: int | None, *, seed: int) -> list[inbox.Email]:
    """Mails for a demo of `count` runs: however few, each kind in its proportion."""
    if count is None or count >= len(inbox.inbox()):
        return inbox.take(count, seed=seed)
    shuffled = list(truths().values())
    random.Random(f"spread:{seed}").shuffle(shuffled)
    place: dict[str, float] = {}
    for kind in {truth.kind for truth in shuffled}:
        members = [truth.id for truth in shuffled if truth.kind == kind]
        place |= {mail: (n + 0.5) / len(members) for n, mail in enumerate(members)}
    first = sorted(place, key=lambda mail: (place[mail], mail))[:count]
    return [inbox.inbox()[mail] for mail in first]
