"""The shop's records, as they stand in its database and on the wire: plain JSON objects with known fields."""

from __future__ import annotations

import sys
from typing import NotRequired, TypeAlias

if sys.version_info >= (3, 12):
    from typing import TypedDict
else:
    from typing_extensions import (
        TypedDict,
    )  # pydantic, which checks what a tool returns, needs this one before 3.12

JsonValue: TypeAlias = "dict[str, JsonValue] | list[JsonValue] | str | int | float | bool | None"
JsonObject: TypeAlias = "dict[str, JsonValue]"


class Address(TypedDict):
    address1: str
    address2: str
    city: str
    country: str
    state: str
    zip: str


class Name(TypedDict):
    first_name: str
    last_name: str


class PaymentMethod(TypedDict):
    source: str
    """`gift_card`, `credit_card` or `paypal`."""
    id: str
    brand: NotRequired[str]
    last_four: NotRequired[str]
    balance: NotRequired[float]
    """Of a gift card, in dollars."""


class User(TypedDict):
    user_id: str
    name: Name
    address: Address
    email: str
    payment_methods: dict[str, PaymentMethod]
    orders: list[str]


class Item(TypedDict):
    name: str
    product_id: str
    item_id: str
    price: float
    options: dict[str, str]


class Fulfillment(TypedDict):
    tracking_id: list[str]
    item_ids: list[str]


class Payment(TypedDict):
    transaction_type: str
    """`payment` or `refund`."""
    amount: float
    payment_method_id: str


class Order(TypedDict):
    order_id: str
    user_id: str
    address: Address
    items: list[Item]
    status: str
    fulfillments: list[Fulfillment]
    payment_history: list[Payment]
    cancel_reason: str | None
    exchange_items: list[str] | None
    exchange_new_items: list[str] | None
    exchange_payment_method_id: str | None
    exchange_price_difference: int | float | None
    return_items: list[str] | None
    return_payment_method_id: str | None


class Variant(TypedDict):
    item_id: str
    options: dict[str, str]
    available: bool
    price: float


class Product(TypedDict):
    name: str
    product_id: str
    variants: dict[str, Variant]


class Database(TypedDict):
    products: dict[str, Product]
    users: dict[str, User]
    orders: dict[str, Order]


class Changes(TypedDict):
    """What a session's database has that the original has not: whole records, by id."""

    users: dict[str, User]
    orders: dict[str, Order]
