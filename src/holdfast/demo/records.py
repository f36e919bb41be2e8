"""The firm's own registers: catalogue, customers and last week's orders. They are systems of record.

A mail can name what stands here and can't change it: prices, addresses, accounts and bounds come from these
files and from nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TypeVar

import msgspec

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """One article. Quantities are counted in `unit`; money is in cents.

    `terms` are the words by which people ask for it: of each group at least one. `size` is the number
    (or letter) that tells it from its neighbours.
    """

    sku: str
    name: str
    unit: str
    per_carton: int
    length_m: int | None
    price_cents: int
    stock: int
    min_quantity: int
    max_quantity: int
    size: str | None
    terms: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    id: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Customer:
    id: str
    name: str
    emails: tuple[str, ...]
    credit_limit_cents: int
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PastLine:
    sku: str
    quantity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PastOrder:
    """An order of last week as it was confirmed."""

    id: str
    placed_on: str
    customer: str
    address: str
    lines: tuple[PastLine, ...]


def read_jsonl(name: str, kind: type[T]) -> list[T]:
    """The records of one file of the demo's package data."""
    text = resources.files("holdfast.demo").joinpath("data", name).read_text(encoding="utf-8")
    return [msgspec.json.decode(line, type=kind) for line in text.splitlines() if line]


@cache
def catalogue() -> dict[str, Product]:
    return {product.sku: product for product in read_jsonl("catalogue.jsonl", Product)}


@cache
def customers() -> dict[str, Customer]:
    return {customer.id: customer for customer in read_jsonl("customers.jsonl", Customer)}


@cache
def past_orders() -> dict[str, PastOrder]:
    return {order.id: order for order in read_jsonl("last_week.jsonl", PastOrder)}


def customer_of(sender: str) -> Customer | None:
    """The customer whose register entry holds exactly this e-mail address."""
    wanted = sender.strip().lower()
    return next((c for c in customers().values() if wanted in c.emails), None)


def last_week_of(customer: str) -> list[PastOrder]:
    return [order for order in past_orders().values() if order.customer == customer]


def search(query: str, *, limit: int = 8) -> list[Product]:
    """Articles that share words with the query, the best first; an SKU finds itself."""
    words = {word for word in query.lower().replace("-", " ").split() if len(word) > 1}

    def hits(product: Product) -> int:
        said = f"{product.sku} {product.name} {' '.join(t for group in product.terms for t in group)}"
        known = set(said.lower().replace("-", " ").replace(",", " ").split())
        return len(words & known)

    ranked = sorted(((hits(p), p.sku, p) for p in catalogue().values()), key=lambda r: (-r[0], r[1]))
    return [product for score, _, product in ranked[:limit] if score > 0]
