"""The values that travel through the desk: a draft (claims), an order (checked), a confirmation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Le

import holdfast as hf
from holdfast.demo.inbox import Email


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftLine:
    """One article as the model reads the mail.

    `quote` holds the sender's own words for article, size and quantity, verbatim (parts joined by " ... ").
    `unit_price_cents` is set only when the mail names a price.
    """

    sku: str
    quantity: Annotated[int, Ge(1)]
    quote: str
    unit_price_cents: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderDraft:
    """What the model proposes. Nothing in it is trusted: every field is a claim about the mail.

    `address` is the id of an address in the customer register; `repeats` the order of last week that the
    mail says it repeats.
    """

    customer: str
    address: str
    lines: list[DraftLine]
    repeats: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A draft together with the mail it was made of: what the check looks at."""

    mail: Email
    draft: OrderDraft


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderLine:
    sku: Annotated[str, hf.record("catalogue")]
    quantity: Annotated[int, Ge(1), Le(5_000)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An order that names only what the firm's own registers hold. No free text: nothing of the mail's
    wording can travel in it. The total is in cents, at catalogue prices."""

    mail: Annotated[str, hf.record("inbox")]
    customer: Annotated[str, hf.record("customers")]
    address: Annotated[str, hf.record("addresses")]
    lines: list[OrderLine]
    total_cents: Annotated[int, Ge(1), Le(1_000_000_000)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """The order system's word that an order stands."""

    number: str
    mail: str
    total_cents: int
