"""The shop's tools as an agent gets them: contracts around calls of the database process.

Reads are `read`: they may be repeated at will. Writes are `keyed`: the database performs a key once, so an
attempt whose outcome is unknown is repeated with the same key. What the shop refuses is `definite`: no use to
try again, and the model reads why. Everything else that can go wrong on the way is not: a reply that does not
come, is empty, or is no record of the kind that was asked for says nothing about the effect.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, ParamSpec, TypeVar, cast

from pydantic import ConfigDict, RootModel

import holdfast as hf
from holdfast.tools import Tool
from retail_desk import client
from retail_desk.errors import ShopError
from retail_desk.records import JsonObject, JsonValue, Order, Product, User, Variant

P = ParamSpec("P")
T = TypeVar("T")

TIMEOUT_S: Final = 2.0
RETRY: Final = hf.Retry(attempts=8, base_s=0.01, max_s=0.2)


@dataclass(frozen=True, kw_only=True)
class Desk:
    """Which database process, and whose copy of the database."""

    socket: Path
    session: str


DESK: ContextVar[Desk] = ContextVar("retail_desk")
"""Set by the workflow: the tools of a run speak for its session."""


class Shown(RootModel[T], Generic[T]):
    """A record as the database sent it, its fields in their order, so that it reads the same after a replay.

    It is made unchecked (`model_construct`); the tool's contract checks it.
    """

    model_config = ConfigDict(revalidate_instances="always")


def _shown(result: Any) -> str:  # Any: a checked record, or text
    return result if isinstance(result, str) else json.dumps(result.root)


def _read(fn: Callable[P, Awaitable[T]]) -> Tool[P, T]:
    return hf.tool(
        effect="read",
        retry=RETRY,
        timeout_s=TIMEOUT_S,
        definite=(ShopError,),
        empty="refuse",
        yields=hf.Trust.PRIMARY,
        render=_shown,
    )(fn)


def _write(
    plausible: Callable[[Any], bool | str] | None = None,  # Any: of the tool's result
) -> Callable[[Callable[P, Awaitable[T]]], Tool[P, T]]:
    return hf.tool(
        effect="keyed",
        retry=RETRY,
        timeout_s=TIMEOUT_S,
        definite=(ShopError,),
        empty="refuse",
        plausible=plausible,
        yields=hf.Trust.PRIMARY,
        render=_shown,
    )


def _leaves(status: str) -> Callable[[Shown[Order]], bool | str]:
    def is_plausible(order: Shown[Order]) -> bool | str:
        found = order.root["status"]
        return found == status or f"the order should be {status!r} now; the database says {found!r}"

    return is_plausible


async def _text(tool: str, arguments: JsonObject) -> str:
    desk = DESK.get()
    # Whatever came, `None` too: the contract checks it.
    return cast(str, await client.call(desk.socket, desk.session, tool, arguments))


async def _record(tool: str, arguments: JsonObject, key: str | None = None) -> Shown[Any]:  # Any: not checked yet
    desk = DESK.get()
    record = await client.call(desk.socket, desk.session, tool, arguments, key=key)
    return cast("Shown[Any]", None) if record is None else Shown[Any].model_construct(record)


# -- reads ------------------------------------------------------------


@_read
async def calculate(expression: str) -> str:
    """Work out an arithmetic expression.

    Args:
        expression: Numbers, + - * /, parentheses and spaces, such as '2 + 2'.
    """
    return await _text("calculate", {"expression": expression})


@_read
async def find_user_id_by_email(email: str) -> str:
    """Find a customer's user id by e-mail address.

    Args:
        email: The customer's address, such as 'someone@example.com'.
    """
    return await _text("find_user_id_by_email", {"email": email})


@_read
async def find_user_id_by_name_zip(first_name: str, last_name: str, zip: str) -> str:
    """Find a customer's user id by name and zip code, for who can't be found by e-mail address.

    Args:
        first_name: First name of the customer.
        last_name: Last name of the customer.
        zip: Zip code of the customer, such as '92101'.
    """
    return await _text("find_user_id_by_name_zip", {"first_name": first_name, "last_name": last_name, "zip": zip})


@_read
async def get_item_details(item_id: str) -> Shown[Variant]:
    """Options, availability and price of one item.

    Args:
        item_id: Id of the item, such as '1234567890'. It is not the id of its product.
    """
    return await _record("get_item_details", {"item_id": item_id})


@_read
async def get_order_details(order_id: str) -> Shown[Order]:
    """Status and details of an order.

    Args:
        order_id: Id of the order, with its '#', such as '#W1234567'.
    """
    return await _record("get_order_details", {"order_id": order_id})


@_read
async def get_product_details(product_id: str) -> Shown[Product]:
    """All items of a product, with options, availability and price.

    Args:
        product_id: Id of the product, such as '1234567890'. It is not the id of an item.
    """
    return await _record("get_product_details", {"product_id": product_id})


@_read
async def get_user_details(user_id: str) -> Shown[User]:
    """Profile, payment methods and order ids of a customer.

    Args:
        user_id: Id of the customer, such as 'una_bay_1234'.
    """
    return await _record("get_user_details", {"user_id": user_id})


@_read
async def list_all_product_types() -> str:
    """Name and product id of every type of product."""
    return await _text("list_all_product_types", {})


@_read
async def transfer_to_human_agents(summary: str) -> str:
    """Hand the customer over to a person, when they ask for one or nothing else here can help.

    Args:
        summary: What the customer needs.
    """
    return await _text("transfer_to_human_agents", {"summary": summary})


# -- writes -----------------------------------------------------------


@_write(_leaves("cancelled"))
async def cancel_pending_order(order_id: str, reason: str, *, key: hf.IdempotencyKey) -> Shown[Order]:
    """Cancel a pending order and refund it. The customer must have confirmed.

    Args:
        order_id: Id of the order, with its '#', such as '#W1234567'.
        reason: 'no longer needed' or 'ordered by mistake'.
    """
    return await _record("cancel_pending_order", {"order_id": order_id, "reason": reason}, key)


@_write(_leaves("exchange requested"))
async def exchange_delivered_order_items(
    order_id: str,
    item_ids: list[str],
    new_item_ids: list[str],
    payment_method_id: str,
    *,
    key: hf.IdempotencyKey,
) -> Shown[Order]:
    """Exchange items of a delivered order, once for an order. The customer must have confirmed.

    Args:
        order_id: Id of the order, with its '#', such as '#W1234567'.
        item_ids: Items to give back; an id may be there more than once.
        new_item_ids: For each of them, at the same place, an item of the same product.
        payment_method_id: Pays the difference, or gets it back.
    """
    arguments: JsonObject = {
        "order_id": order_id,
        "item_ids": _json_list(item_ids),
        "new_item_ids": _json_list(new_item_ids),
        "payment_method_id": payment_method_id,
    }
    return await _record("exchange_delivered_order_items", arguments, key)


@_write()
async def modify_pending_order_address(
    order_id: str,
    address1: str,
    address2: str,
    city: str,
    state: str,
    country: str,
    zip: str,
    *,
    key: hf.IdempotencyKey,
) -> Shown[Order]:
    """Send a pending order to another address. The customer must have confirmed.

    Args:
        order_id: Id of the order, with its '#', such as '#W1234567'.
        address1: First line of the address, such as '12 High Street'.
        address2: Second line of the address, such as 'Flat 3', or ''.
        city: City, such as 'San Diego'.
        state: State, such as 'CA'.
        country: Country, such as 'USA'.
        zip: Zip code, such as '92101'.
    """
    arguments = _address(address1, address2, city, state, country, zip)
    return await _record("modify_pending_order_address", {"order_id": order_id, **arguments}, key)


@_write(_leaves("pending (item modified)"))
async def modify_pending_order_items(
    order_id: str,
    item_ids: list[str],
    new_item_ids: list[str],
    payment_method_id: str,
    *,
    key: hf.IdempotencyKey,
) -> Shown[Order]:
    """Change items of a pending order, once for an order. The customer must have confirmed.

    Args:
        order_id: Id of the order, with its '#', such as '#W1234567'.
        item_ids: Items to replace; an id may be there more than once.
        new_item_ids: For each of them, at the same place, another item of the same product.
        payment_method_id: Pays the difference, or gets it back.
    """
    arguments: JsonObject = {
        "order_id": order_id,
        "item_ids": _json_list(item_ids),
        "new_item_ids": _json_list(new_item_ids),
        "payment_method_id": payment_method_id,
    }
    return await _record("modify_pending_order_items", arguments, key)


@_write()
async def modify_pending_order_payment(
    order_id: str, payment_method_id: str, *, key: hf.IdempotencyKey
) -> Shown[Order]:
    """Pay a pending order with another payment method. The customer must have confirmed.

    Args:
        order_id: Id of the order, with its '#', such as '#W1234567'.
        payment_method_id: The new one, such as 'gift_card_1234567'.
    """
    arguments: JsonObject = {"order_id": order_id, "payment_method_id": payment_method_id}
    return await _record("modify_pending_order_payment", arguments, key)


@_write()
async def modify_user_address(
    user_id: str,
    address1: str,
    address2: str,
    city: str,
    state: str,
    country: str,
    zip: str,
    *,
    key: hf.IdempotencyKey,
) -> Shown[User]:
    """Change the default address of a customer, who must have confirmed.

    Args:
        user_id: Id of the customer, such as 'una_bay_1234'.
        address1: First line of the address, such as '12 High Street'.
        address2: Second line of the address, such as 'Flat 3', or ''.
        city: City, such as 'San Diego'.
        state: State, such as 'CA'.
        country: Country, such as 'USA'.
        zip: Zip code, such as '92101'.
    """
    arguments = _address(address1, address2, city, state, country, zip)
    return await _record("modify_user_address", {"user_id": user_id, **arguments}, key)


@_write(_leaves("return requested"))
async def return_delivered_order_items(
    order_id: str, item_ids: list[str], payment_method_id: str, *, key: hf.IdempotencyKey
) -> Shown[Order]:
    """Take back items of a delivered order. The customer must have confirmed, and gets an e-mail on how.

    Args:
        order_id: Id of the order, with its '#', such as '#W1234567'.
        item_ids: Items to take back; an id may be there more than once.
        payment_method_id: Gets the refund: the one that paid, or a gift card.
    """
    arguments: JsonObject = {
        "order_id": order_id,
        "item_ids": _json_list(item_ids),
        "payment_method_id": payment_method_id,
    }
    return await _record("return_delivered_order_items", arguments, key)


def _address(address1: str, address2: str, city: str, state: str, country: str, zip_code: str) -> JsonObject:
    return {
        "address1": address1,
        "address2": address2,
        "city": city,
        "state": state,
        "country": country,
        "zip": zip_code,
    }


def _json_list(texts: list[str]) -> JsonValue:
    return list(texts)


TOOLS: Final = (
    calculate,
    cancel_pending_order,
    exchange_delivered_order_items,
    find_user_id_by_email,
    find_user_id_by_name_zip,
    get_item_details,
    get_order_details,
    get_product_details,
    get_user_details,
    list_all_product_types,
    modify_pending_order_address,
    modify_pending_order_items,
    modify_pending_order_payment,
    modify_user_address,
    return_delivered_order_items,
    transfer_to_human_agents,
)
