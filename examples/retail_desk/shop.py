"""The shop itself: sixteen tools over one database, as a customer-service agent gets them.

Pure: no I/O, clock or randomness. Rules that the recorded results show and that are easy to get wrong:

1. A call is checked in a fixed order (order, status, items, new items, payment; a return: payment before
   items), and the first thing wrong is the message.
2. A write validates everything before it changes anything: a refused call leaves the database as it was.
3. Balances are rounded to cents after each change, an exchange's price difference once; the amount of an
   item modification is not rounded (`74.11999999999995`), and is a refund when it is not positive.
4. Modifying several items gives *each* of them the price and options of the *last* new item. That is what
   the recorded shop does, so it is what agents were told and what the recorded verdicts rest on.
5. After a payment change the order stays `pending`: cancelling it then refunds every entry of its history.
6. `pending (item modified)` still takes a new address. It takes no cancellation, no other items and, having
   more than one payment entry, no other payment method.
"""

from __future__ import annotations

import copy
import gzip
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias, TypeVar, cast

from retail_desk import arithmetic
from retail_desk.errors import ShopError
from retail_desk.records import (
    Address,
    Changes,
    Database,
    Item,
    JsonObject,
    JsonValue,
    Order,
    Payment,
    PaymentMethod,
    Product,
    User,
    Variant,
)

Result: TypeAlias = Order | User | Product | Variant | str

READS: Final = frozenset(
    {
        "calculate",
        "find_user_id_by_email",
        "find_user_id_by_name_zip",
        "get_item_details",
        "get_order_details",
        "get_product_details",
        "get_user_details",
        "list_all_product_types",
        "transfer_to_human_agents",  # changes no record: whoever reads the conversation passes it on
    }
)
WRITES: Final = frozenset(
    {
        "cancel_pending_order",
        "exchange_delivered_order_items",
        "modify_pending_order_address",
        "modify_pending_order_items",
        "modify_pending_order_payment",
        "modify_user_address",
        "return_delivered_order_items",
    }
)

_CANCEL_REASONS: Final = ("no longer needed", "ordered by mistake")
_FIELDS_OF_LATER_ACTIONS: Final = (
    "cancel_reason",
    "exchange_items",
    "exchange_new_items",
    "exchange_payment_method_id",
    "exchange_price_difference",
    "return_items",
    "return_payment_method_id",
)

_Record = TypeVar("_Record")


def load_database(path: Path) -> Database:
    """The database of a gzipped JSON file, each order with every field it can have (`None`: not yet)."""
    database = cast(Database, json.loads(gzip.decompress(path.read_bytes())))
    for order in database["orders"].values():
        for field in _FIELDS_OF_LATER_ACTIONS:
            cast(JsonObject, order).setdefault(field, None)
    return database


def render(result: JsonValue | Result) -> str:
    """A result as the model reads it: text as it is, a record as JSON with spaces after its separators."""
    return result if isinstance(result, str) else json.dumps(result)


class RetailTools:
    """One session's shop. It shares `base` with all other sessions; it copies a record to change it.

    What a tool returns is a live record: serialise it, do not change it.
    """

    def __init__(self, base: Database) -> None:
        self._base = base
        self._orders: dict[str, Order] = {}
        self._users: dict[str, User] = {}

    # -- calling ----------------------------------------

    def call(self, tool: str, arguments: Mapping[str, JsonValue]) -> Result:
        """Do what an agent asks.

        Raises:
            ShopError: Unknown tool, wrong arguments, or the shop's rules say no. Nothing has changed.
        """
        if tool not in READS | WRITES:
            raise ShopError(f"Tool '{tool}' not found.")
        method = cast(Callable[..., Result], getattr(self, tool))
        try:
            return method(**arguments)
        except (
            TypeError,
            AttributeError,
        ) as error:  # arguments missing, unknown, or of a type that has no such use
            raise ShopError(str(error)) from error

    def changes(self) -> Changes:
        """The records that differ from the original database."""
        return Changes(
            users=_differing(self._users, self._base["users"]),
            orders=_differing(self._orders, self._base["orders"]),
        )

    def digest(self) -> str:
        """Equal for two sessions over one base if and only if their databases are equal."""
        return hashlib.sha256(json.dumps(self.changes(), sort_keys=True).encode()).hexdigest()

    # -- reads ----------------------------------------

    def calculate(self, expression: str) -> str:
        return arithmetic.calculate(expression)

    def find_user_id_by_email(self, email: str) -> str:
        wanted = email.lower()
        return self._find_user(lambda user: user["email"].lower() == wanted)

    def find_user_id_by_name_zip(self, first_name: str, last_name: str, zip: str) -> str:
        first, last = first_name.lower(), last_name.lower()

        def is_wanted(user: User) -> bool:
            name = user["name"]
            names_match = name["first_name"].lower() == first and name["last_name"].lower() == last
            return names_match and user["address"]["zip"] == zip

        return self._find_user(is_wanted)

    def get_item_details(self, item_id: str) -> Variant:
        for product in self._base["products"].values():
            if item_id in product["variants"]:
                return product["variants"][item_id]
        raise ShopError("Item not found")

    def get_order_details(self, order_id: str) -> Order:
        return self._order(order_id)

    def get_product_details(self, product_id: str) -> Product:
        return self._product(product_id)

    def get_user_details(self, user_id: str) -> User:
        return self._user(user_id)

    def list_all_product_types(self) -> str:
        ids = {product["name"]: product["product_id"] for product in self._base["products"].values()}
        return json.dumps(ids, sort_keys=True)

    def transfer_to_human_agents(self, summary: str) -> str:
        return "Transfer successful"

    # -- writes ----------------------------------------

    def cancel_pending_order(self, order_id: str, reason: str) -> Order:
        order = self._order(order_id)
        if order["status"] != "pending":
            raise ShopError("Non-pending order cannot be cancelled")
        if reason not in _CANCEL_REASONS:
            raise ShopError("Invalid reason")
        for payment in order["payment_history"]:
            self._payment_method(order["user_id"], payment["payment_method_id"])

        order = self._own_order(order_id)
        refunds = [
            _payment("refund", entry["amount"], entry["payment_method_id"]) for entry in order["payment_history"]
        ]
        for refund in refunds:
            self._move_balance(order["user_id"], refund["payment_method_id"], refund["amount"])
        order["status"] = "cancelled"
        order["cancel_reason"] = reason
        order["payment_history"].extend(refunds)
        return order

    def exchange_delivered_order_items(
        self, order_id: str, item_ids: list[str], new_item_ids: list[str], payment_method_id: str
    ) -> Order:
        order = self._order(order_id)
        if order["status"] != "delivered":
            raise ShopError("Non-delivered order cannot be exchanged")
        if (missing := _first_missing(item_ids, order)) is not None:
            raise ShopError(f"Number of {missing} not found.")
        if len(item_ids) != len(new_item_ids):
            raise ShopError("The number of items to be exchanged should match.")
        swaps = [self._swap(order, old, new) for old, new in zip(item_ids, new_item_ids, strict=True)]
        difference = round(_price_difference(swaps), 2)
        method = self._payment_method(order["user_id"], payment_method_id)
        if not _covers(method, difference):
            raise ShopError("Insufficient gift card balance to pay for the price difference")

        order = self._own_order(order_id)
        order["status"] = "exchange requested"
        order["exchange_items"] = sorted(item_ids)
        order["exchange_new_items"] = sorted(new_item_ids)
        order["exchange_payment_method_id"] = payment_method_id
        order["exchange_price_difference"] = difference
        return order

    def modify_pending_order_address(
        self, order_id: str, address1: str, address2: str, city: str, state: str, country: str, zip: str
    ) -> Order:
        if "pending" not in self._order(order_id)["status"]:
            raise ShopError("Non-pending order cannot be modified")
        address = _address(address1, address2, city, state, country, zip)
        order = self._own_order(order_id)
        order["address"] = address
        return order

    def modify_pending_order_items(
        self, order_id: str, item_ids: list[str], new_item_ids: list[str], payment_method_id: str
    ) -> Order:
        order = self._order(order_id)
        if order["status"] != "pending":
            raise ShopError("Non-pending order cannot be modified")
        if (missing := _first_missing(item_ids, order)) is not None:
            raise ShopError(f"{missing} not found")
        if len(item_ids) != len(new_item_ids):
            raise ShopError("The number of items to be exchanged should match")
        swaps: list[tuple[Item, Variant]] = []
        for old, new in zip(item_ids, new_item_ids, strict=True):
            if old == new:
                raise ShopError("The new item id should be different from the old item id")
            swaps.append(self._swap(order, old, new))
        difference = _price_difference(swaps)
        method = self._payment_method(order["user_id"], payment_method_id)
        if not _covers(method, difference):
            raise ShopError("Insufficient gift card balance to pay for the new item")

        order = self._own_order(order_id)
        kind = "payment" if difference > 0 else "refund"
        order["payment_history"].append(_payment(kind, abs(difference), payment_method_id))
        self._move_balance(order["user_id"], payment_method_id, -difference)
        for old, new in zip(item_ids, new_item_ids, strict=True):
            item = _item(order, old)
            item["item_id"] = new
            _, last = swaps[-1]  # rule 4
            item["price"] = last["price"]
            item["options"] = dict(last["options"])
        order["status"] = "pending (item modified)"
        return order

    def modify_pending_order_payment(self, order_id: str, payment_method_id: str) -> Order:
        order = self._order(order_id)
        if "pending" not in order["status"]:
            raise ShopError("Non-pending order cannot be modified")
        method = self._payment_method(order["user_id"], payment_method_id)
        match order["payment_history"]:
            case [{"transaction_type": "payment", "amount": amount, "payment_method_id": current}]:
                pass
            case _:
                raise ShopError("There should be exactly one payment for a pending order")
        if current == payment_method_id:
            raise ShopError("The new payment method should be different from the current one")
        if not _covers(method, amount):
            raise ShopError("Insufficient gift card balance to pay for the order")
        self._payment_method(order["user_id"], current)

        order = self._own_order(order_id)
        order["payment_history"] += [
            _payment("payment", amount, payment_method_id),
            _payment("refund", amount, current),
        ]
        self._move_balance(order["user_id"], payment_method_id, -amount)
        self._move_balance(order["user_id"], current, amount)
        return order

    def modify_user_address(
        self, user_id: str, address1: str, address2: str, city: str, state: str, country: str, zip: str
    ) -> User:
        self._user(user_id)
        address = _address(address1, address2, city, state, country, zip)
        user = self._own_user(user_id)
        user["address"] = address
        return user

    def return_delivered_order_items(self, order_id: str, item_ids: list[str], payment_method_id: str) -> Order:
        order = self._order(order_id)
        if order["status"] != "delivered":
            raise ShopError("Non-delivered order cannot be returned")
        method = self._payment_method(order["user_id"], payment_method_id)
        is_original = payment_method_id == order["payment_history"][0]["payment_method_id"]
        if method["source"] != "gift_card" and not is_original:
            raise ShopError("Payment method should be the original payment method")
        if _first_missing(item_ids, order) is not None:
            raise ShopError("Some item not found")

        order = self._own_order(order_id)
        order["status"] = "return requested"
        order["return_items"] = sorted(item_ids)
        order["return_payment_method_id"] = payment_method_id
        return order

    # -- records ----------------------------------------

    def _order(self, order_id: str) -> Order:
        return _found(self._orders, self._base["orders"], order_id, "Order not found")

    def _user(self, user_id: str) -> User:
        return _found(self._users, self._base["users"], user_id, "User not found")

    def _product(self, product_id: str) -> Product:
        return _found({}, self._base["products"], product_id, "Product not found")

    def _payment_method(self, user_id: str, payment_method_id: str) -> PaymentMethod:
        return _found({}, self._user(user_id)["payment_methods"], payment_method_id, "Payment method not found")

    def _find_user(self, is_wanted: Callable[[User], bool]) -> str:
        for user_id in self._base["users"]:
            if is_wanted(self._user(user_id)):
                return user_id
        raise ShopError("User not found")

    def _swap(self, order: Order, old_item_id: str, new_item_id: str) -> tuple[Item, Variant]:
        """An item of the order and the available variant of the same product that shall replace it."""
        item = _item(order, old_item_id)
        variants = self._product(item["product_id"])["variants"]
        variant = _found({}, variants, new_item_id, "Variant not found")
        if not variant["available"]:
            raise ShopError(f"New item {new_item_id} not found or available")
        return item, variant

    def _own_order(self, order_id: str) -> Order:
        if order_id not in self._orders:
            self._orders[order_id] = copy.deepcopy(self._base["orders"][order_id])
        return self._orders[order_id]

    def _own_user(self, user_id: str) -> User:
        if user_id not in self._users:
            self._users[user_id] = copy.deepcopy(self._base["users"][user_id])
        return self._users[user_id]

    def _move_balance(self, user_id: str, payment_method_id: str, amount: float) -> None:
        """Put an amount on a gift card (or take it off, if negative); other methods are settled elsewhere."""
        if self._payment_method(user_id, payment_method_id)["source"] == "gift_card":
            card = self._own_user(user_id)["payment_methods"][payment_method_id]
            card["balance"] = round(card["balance"] + amount, 2)


def _found(own: Mapping[str, _Record], shared: Mapping[str, _Record], key: str, otherwise: str) -> _Record:
    if key in own:
        return own[key]
    if key in shared:
        return shared[key]
    raise ShopError(otherwise)


def _differing(own: Mapping[str, _Record], shared: Mapping[str, _Record]) -> dict[str, _Record]:
    return {
        key: record
        for key, record in own.items()
        if json.dumps(record, sort_keys=True) != json.dumps(shared[key], sort_keys=True)
    }


def _item(order: Order, item_id: str) -> Item:
    for item in order["items"]:
        if item["item_id"] == item_id:
            return item
    raise ShopError(f"Item {item_id} not found")


def _first_missing(item_ids: Sequence[str], order: Order) -> str | None:
    """The first id that is asked for more often than the order holds it."""
    held = [item["item_id"] for item in order["items"]]
    return next((item_id for item_id in item_ids if item_ids.count(item_id) > held.count(item_id)), None)


def _price_difference(swaps: Sequence[tuple[Item, Variant]]) -> int | float:
    difference: int | float = 0  # of no items it is the integer, and reads as "0"
    for item, variant in swaps:
        difference += variant["price"] - item["price"]
    return difference


def _covers(method: PaymentMethod, amount: float) -> bool:
    return method["source"] != "gift_card" or method["balance"] >= amount


def _payment(transaction_type: str, amount: float, payment_method_id: str) -> Payment:
    return Payment(transaction_type=transaction_type, amount=float(amount), payment_method_id=payment_method_id)


def _address(address1: str, address2: str, city: str, state: str, country: str, zip_code: str) -> Address:
    address = Address(address1=address1, address2=address2, city=city, country=country, state=state, zip=zip_code)
    for field, value in address.items():
        if not isinstance(value, str):  # arguments come from a model
            raise ShopError(f"{field} should be a valid string")
    return address
