"""The retail desk: the shop reproduces what was recorded, and its database process performs each key once."""

from __future__ import annotations

import contextlib
import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from retail_desk import audit
from retail_desk.arithmetic import calculate
from retail_desk.audit import Counted
from retail_desk.client import (
    DatabaseUnavailable,
    MalformedReply,
    ask,
    ask_now,
    call,
    running_database,
)
from retail_desk.errors import ShopError
from retail_desk.faults import DEFAULT_FAULTS, FaultPlan
from retail_desk.ledger import Effect, Mark
from retail_desk.recordings import DATABASE_FILE, RECORDINGS, Call, Message, Recording, check, load
from retail_desk.records import Database, JsonObject, Order, User
from retail_desk.shop import READS, WRITES, RetailTools, load_database, render
from retail_desk.tools import TOOLS, Shown, cancel_pending_order, get_order_details

# -- the shop ---------------------------------------------------------


def user(user_id: str = "una_bay_1", *, balance: float = 50.0) -> User:
    return {
        "user_id": user_id,
        "name": {"first_name": "Una", "last_name": "Bay"},
        "address": {
            "address1": "1 Quay",
            "address2": "",
            "city": "Oban",
            "country": "UK",
            "state": "AB",
            "zip": "00001",
        },
        "email": "Una.Bay@example.com",
        "payment_methods": {
            "gift_card_1": {"source": "gift_card", "id": "gift_card_1", "balance": balance},
            "paypal_1": {"source": "paypal", "id": "paypal_1"},
            "credit_card_1": {
                "source": "credit_card",
                "id": "credit_card_1",
                "brand": "visa",
                "last_four": "0000",
            },
        },
        "orders": ["#W1"],
    }


def order(order_id: str, status: str, item_ids: list[str], paid_with: str = "paypal_1") -> Order:
    prices = {"mug-s": 10.0, "mug-l": 12.35, "pen-b": 3.1}
    names = {"mug": "Mug", "pen": "Pen"}
    return {
        "order_id": order_id,
        "user_id": "una_bay_1",
        "address": user()["address"],
        "items": [
            {
                "name": names[item[:3]],
                "product_id": item[:3],
                "item_id": item,
                "price": prices[item],
                "options": {"kind": item},
            }
            for item in item_ids
        ],
        "status": status,
        "fulfillments": [],
        "payment_history": [
            {
                "transaction_type": "payment",
                "amount": sum(prices[item] for item in item_ids),
                "payment_method_id": paid_with,
            }
        ],
        "cancel_reason": None,
        "exchange_items": None,
        "exchange_new_items": None,
        "exchange_payment_method_id": None,
        "exchange_price_difference": None,
        "return_items": None,
        "return_payment_method_id": None,
    }


def database(*orders: Order, balance: float = 50.0) -> Database:
    variants = {"mug-s": (10.0, True), "mug-l": (12.35, True), "mug-x": (99.0, False)}
    return {
        "products": {
            "mug": {
                "name": "Mug",
                "product_id": "mug",
                "variants": {
                    item: {"item_id": item, "options": {"kind": item}, "available": available, "price": price}
                    for item, (price, available) in variants.items()
                },
            },
            "pen": {
                "name": "Pen",
                "product_id": "pen",
                "variants": {
                    item: {"item_id": item, "options": {"kind": item}, "available": True, "price": price}
                    for item, price in {"pen-b": 3.1, "pen-g": 4.2}.items()
                },
            },
        },
        "users": {"una_bay_1": user(balance=balance)},
        "orders": {o["order_id"]: o for o in orders},
    }


def balance_of(tools: RetailTools) -> float:
    return tools.get_user_details("una_bay_1")["payment_methods"]["gift_card_1"]["balance"]


def refusal(tools: RetailTools, tool: str, **arguments: object) -> str:
    before = tools.digest()
    with pytest.raises(ShopError) as refused:
        tools.call(tool, arguments)  # type: ignore[arg-type]  # also arguments that no schema allows
    assert tools.digest() == before, "a refused call changed the database"
    return str(refused.value)


def test_a_session_does_not_see_what_another_changed() -> None:
    base = database(order("#W1", "pending", ["mug-s"]))
    one, other = RetailTools(base), RetailTools(base)
    one.cancel_pending_order("#W1", "no longer needed")
    assert other.get_order_details("#W1")["status"] == "pending"
    assert one.digest() != other.digest()


def test_cancelling_refunds_a_gift_card_at_once_and_others_only_on_paper() -> None:
    base = database(order("#W1", "pending", ["mug-l"], "gift_card_1"), order("#W2", "pending", ["mug-s"]))
    tools = RetailTools(base)
    cancelled = tools.cancel_pending_order("#W1", "ordered by mistake")
    assert cancelled["payment_history"][1] == {
        "transaction_type": "refund",
        "amount": 12.35,
        "payment_method_id": "gift_card_1",
    }
    tools.cancel_pending_order("#W2", "no longer needed")
    assert balance_of(tools) == 62.35


def test_what_is_wrong_first_is_what_is_said() -> None:
    tools = RetailTools(
        database(
            order("#W1", "pending", ["mug-s"]),
            order("#W2", "delivered", ["mug-s", "pen-b"]),
            order("#W3", "processed", ["mug-s"]),
            balance=1.0,
        )
    )
    assert refusal(tools, "cancel_pending_order", order_id="W1", reason="x") == "Order not found"
    assert refusal(tools, "cancel_pending_order", order_id="#W3", reason="x") == "Non-pending order cannot be cancelled"
    assert refusal(tools, "cancel_pending_order", order_id="#W1", reason="x") == "Invalid reason"

    def modify(items: list[str], new: list[str], payment: str = "paypal_1", order_id: str = "#W1") -> str:
        return refusal(
            tools,
            "modify_pending_order_items",
            order_id=order_id,
            item_ids=items,
            new_item_ids=new,
            payment_method_id=payment,
        )

    assert modify(["mug-s"], ["mug-l"], order_id="#W2") == "Non-pending order cannot be modified"
    assert modify(["mug-s", "mug-s"], ["mug-l"]) == "mug-s not found"
    assert modify(["mug-s"], []) == "The number of items to be exchanged should match"
    assert modify(["mug-s"], ["mug-s"]) == "The new item id should be different from the old item id"
    assert modify(["mug-s"], ["pen-b"]) == "Variant not found"
    assert modify(["mug-s"], ["mug-x"]) == "New item mug-x not found or available"
    assert modify(["mug-s"], ["mug-l"], "nothing") == "Payment method not found"
    assert modify(["mug-s"], ["mug-l"], "gift_card_1") == "Insufficient gift card balance to pay for the new item"

    def exchange(items: list[str], new: list[str], payment: str = "paypal_1", order_id: str = "#W2") -> str:
        return refusal(
            tools,
            "exchange_delivered_order_items",
            order_id=order_id,
            item_ids=items,
            new_item_ids=new,
            payment_method_id=payment,
        )

    assert exchange(["mug-s"], ["mug-l"], order_id="#W1") == "Non-delivered order cannot be exchanged"
    assert exchange(["mug-l"], ["mug-l"]) == "Number of mug-l not found."
    assert exchange(["mug-s"], ["mug-l", "mug-l"]) == "The number of items to be exchanged should match."
    assert (
        exchange(["mug-s"], ["mug-l"], "gift_card_1")
        == "Insufficient gift card balance to pay for the price difference"
    )

    def give_back(items: list[str], payment: str) -> str:
        return refusal(tools, "return_delivered_order_items", order_id="#W2", item_ids=items, payment_method_id=payment)

    assert give_back(["pen-g"], "credit_card_1") == "Payment method should be the original payment method"
    assert give_back(["pen-g"], "nothing") == "Payment method not found"
    assert give_back(["pen-b", "pen-b"], "gift_card_1") == "Some item not found"


def test_an_order_whose_payment_changed_stays_pending_and_is_refunded_entry_by_entry() -> None:
    tools = RetailTools(database(order("#W1", "pending", ["mug-s"]), balance=12.0))

    def pay(method: str) -> str:
        return refusal(tools, "modify_pending_order_payment", order_id="#W1", payment_method_id=method)

    assert pay("paypal_1") == "The new payment method should be different from the current one"
    changed = tools.modify_pending_order_payment("#W1", "gift_card_1")
    assert (changed["status"], balance_of(tools)) == ("pending", 2.0)
    assert pay("paypal_1") == "There should be exactly one payment for a pending order"
    tools.cancel_pending_order("#W1", "no longer needed")
    assert balance_of(tools) == 12.0


def test_modified_items_all_take_the_price_and_options_of_the_last_one() -> None:
    tools = RetailTools(database(order("#W1", "pending", ["mug-s", "pen-b"]), balance=5.0))
    changed = tools.modify_pending_order_items("#W1", ["mug-s", "pen-b"], ["mug-l", "pen-g"], "gift_card_1")
    assert [(item["item_id"], item["price"]) for item in changed["items"]] == [("mug-l", 4.2), ("pen-g", 4.2)]
    assert changed["payment_history"][1]["amount"] == (12.35 - 10.0) + (4.2 - 3.1)
    assert balance_of(tools) == 1.55
    assert changed["status"] == "pending (item modified)"


def test_a_modified_order_takes_a_new_address_and_nothing_else() -> None:
    tools = RetailTools(database(order("#W1", "pending", ["mug-s"])))
    tools.modify_pending_order_items("#W1", ["mug-s"], ["mug-l"], "paypal_1")
    moved = tools.modify_pending_order_address("#W1", "2 Pier", "", "Oban", "AB", "UK", "00002")
    assert list(moved["address"]) == ["address1", "address2", "city", "country", "state", "zip"]
    assert (
        refusal(tools, "cancel_pending_order", order_id="#W1", reason="no longer needed")
        == "Non-pending order cannot be cancelled"
    )


def test_exchanging_nothing_costs_the_integer_zero() -> None:
    tools = RetailTools(database(order("#W2", "delivered", ["mug-s"])))
    exchanged = tools.exchange_delivered_order_items("#W2", [], [], "paypal_1")
    assert '"exchange_price_difference": 0,' in render(exchanged)


def test_a_user_is_found_whatever_the_case_and_by_the_address_of_now() -> None:
    tools = RetailTools(database())
    assert tools.find_user_id_by_email("una.bay@EXAMPLE.com") == "una_bay_1"
    tools.modify_user_address("una_bay_1", "2 Pier", "", "Oban", "AB", "UK", "00002")
    assert tools.find_user_id_by_name_zip("UNA", "bay", "00002") == "una_bay_1"
    assert (
        refusal(tools, "find_user_id_by_name_zip", first_name="Una", last_name="Bay", zip="00001") == "User not found"
    )


def test_calls_that_fit_no_tool_are_refused_in_words() -> None:
    tools = RetailTools(database())
    assert refusal(tools, "digest") == "Tool 'digest' not found."
    assert "missing 1 required positional argument: 'email'" in refusal(tools, "find_user_id_by_email")
    assert "unexpected keyword argument 'x'" in refusal(tools, "get_user_details", user_id="a", x=1)
    assert "unhashable" in refusal(tools, "get_user_details", user_id=["a"])


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("2 + 2", "4.0"),
        ("466.75+285.66", "752.41"),
        ("-(1 - 4) * 2 / 3", "2.0"),
        ("1.005 * 100", "100.5"),
        ("7 // 2 ** 2", "1.0"),
        (" 10**400 // 10**399", "10.0"),
    ],
)
def test_calculate_gives_two_decimals(expression: str, text: str) -> None:
    assert calculate(expression) == text


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("2 + x", "Invalid characters in expression"),
        ("1 / 0", "division by zero"),
        ("2 +", "invalid syntax (<string>, line 1)"),
        ("2(3)", "'int' object is not callable"),
        ("9 ** 9 ** 9", "int too large to convert to float"),
        ("()", "float() argument must be a string or a real number, not 'tuple'"),
    ],
)
def test_calculate_says_what_is_wrong(expression: str, message: str) -> None:
    with pytest.raises(ShopError) as refused:
        calculate(expression)
    assert str(refused.value) == message


# -- against the recordings -------------------------------------------


@pytest.fixture(scope="module")
def base(data_dir: Path) -> Database:
    return load_database(data_dir / DATABASE_FILE)


def schemas(data_dir: Path) -> list[dict[str, Any]]:
    tools: list[dict[str, Any]] = json.loads((data_dir / "tau/env/retail_tools.json").read_bytes())
    return tools


@pytest.mark.parametrize(("model", "calls"), [("gpt-4.1", 299), ("ft-gpt-4.1", 292)])
def test_every_recorded_result_and_verdict_comes_out_again(
    data_dir: Path, base: Database, model: str, calls: int
) -> None:
    found = check(base, load(data_dir / RECORDINGS.format(model=model)))
    assert found.differences == ()
    assert (found.tool_calls, found.identical_results) == (calls, calls)
    assert (found.runs, found.verdicts, found.identical_verdicts) == (40, 40, 40)


def test_the_tools_are_those_of_the_recorded_schemas(data_dir: Path) -> None:
    assert {tool["function"]["name"] for tool in schemas(data_dir)} == READS | WRITES


# -- the tools as the agent gets them ----------------------------------


def test_the_agent_gets_the_recorded_parameters(data_dir: Path) -> None:
    def essentials(schema: dict[str, Any]) -> tuple[list[tuple[str, object, object]], list[str]]:
        fields = [(name, field["type"], field.get("items")) for name, field in schema["properties"].items()]
        return fields, schema.get("required", [])

    recorded = {tool["function"]["name"]: tool["function"]["parameters"] for tool in schemas(data_dir)}
    assert {tool.name: essentials(tool.spec.parameters) for tool in TOOLS} == {
        name: essentials(parameters) for name, parameters in recorded.items()
    }


def test_writes_are_keyed_and_everything_else_is_a_read() -> None:
    assert {tool.name for tool in TOOLS if tool.effect == "keyed"} == WRITES
    assert {tool.name for tool in TOOLS if tool.effect == "read"} == READS


def test_a_record_reads_the_same_after_it_was_recorded(base: Database) -> None:
    outputs = get_order_details.output
    for record in list(base["orders"].values())[:50]:
        checked = outputs.check(Shown[Any].model_construct(record))
        assert get_order_details.rendered(outputs.decode(outputs.encode(checked))) == json.dumps(record)


@pytest.mark.parametrize("reply", [[[None]], {"order_id": 17}, 3, {}])
def test_what_is_no_order_is_refused_by_the_contract(reply: object) -> None:
    with pytest.raises(ValueError, match="validation error"):
        get_order_details.output.check(Shown[Any].model_construct(reply))


def test_an_order_that_was_not_cancelled_is_no_plausible_cancellation() -> None:
    left_pending = Shown[Order](order("#W1", "pending", ["mug-s"]))
    assert cancel_pending_order.fault_of(left_pending) == (
        "implausible",
        "the order should be 'cancelled' now; the database says 'pending'",
    )


# -- the audit --------------------------------------------------------


def recorded_session() -> Recording:
    """Two turns with calls (a read; two writes, the second refused) and one of text."""
    write = {"order_id": "#W1", "reason": "no longer needed"}
    return Recording(
        session="s",
        messages=(
            Message(role="assistant", content="Hello"),
            Message(role="user", content="Cancel #W1"),
            Message(role="assistant", tool_calls=[Call(name="get_order_details", arguments={"order_id": "#W1"})]),
            Message(role="tool", content="{}"),
            Message(
                role="assistant",
                tool_calls=[Call(name="cancel_pending_order", arguments=write) for _ in range(2)],
            ),
            Message(role="tool", content='{"status": "cancelled"}'),
            Message(role="tool", content="Error: Non-pending order cannot be cancelled", error=True),
            Message(role="assistant", content="Done"),
            Message(role="user", content="###STOP###"),
        ),
        ideal=None,
        verdict=None,
    )


READ = Mark(kind="attempt", what='get_order_details {"order_id": "#W1"}')
WRITE_ARGUMENTS = '{"order_id": "#W1", "reason": "no longer needed"}'
WRITE = Mark(kind="attempt", what=f"cancel_pending_order {WRITE_ARGUMENTS}")


def turn(number: int) -> Mark:
    return Mark(kind="model", what=str(number))


def read(at: int, number: int, text: str) -> Mark:
    return Mark(kind="read", what=json.dumps([at, number, text]))


def counted(trail: list[Mark], effects: int = 1) -> Counted:
    made = [
        Effect(session="s", tool="cancel_pending_order", arguments=WRITE_ARGUMENTS, key=f"k{n}") for n in range(effects)
    ]
    return Counted(decisions={}, effects=made, trails={"s": trail}, faults=[], turns={})


def test_effects_beyond_and_short_of_the_recorded_ones_are_counted() -> None:
    recording = recorded_session()
    figures = [
        (audit.duplicated_effects(seen, [recording]), audit.lost_effects(seen, [recording]))
        for seen in (counted([], effects=0), counted([], effects=1), counted([], effects=3))
    ]
    assert figures == [(0, 1), (0, 0), (2, 0)]


def test_a_result_counts_as_identical_only_if_it_always_read_so() -> None:
    recording = recorded_session()
    assert recording.results[1, 2] == "Error: Non-pending order cannot be cancelled"
    once = [read(0, 1, "{}"), read(1, 1, '{"status": "cancelled"}')]
    assert audit.compare_results(counted(once), recording).identical == 2
    assert audit.compare_results(counted([*once, read(0, 1, "{ }")]), recording).identical == 1
    refused = read(1, 2, "Error: invalid arguments")
    assert audit.compare_results(counted([*once, refused]), recording).errors_in_other_words == 1


@pytest.mark.parametrize(
    ("after_the_kill", "durable", "redone"),
    [
        ([WRITE], 3, 0),  # the write was out when the kill came: it is repeated
        ([turn(1), WRITE], 2, 0),
        ([turn(1), WRITE], 3, 1),  # turn 1 had its outcome
        ([WRITE], 5, 1),  # both writes had theirs
        ([WRITE], 4, 0),  # the second of two that look alike had none
        ([READ, WRITE], 3, 1),  # a read of turn 0, in turn 1
    ],
)
def test_a_step_with_a_durable_outcome_that_begins_again_is_redone(
    after_the_kill: list[Mark], durable: int, redone: int
) -> None:
    recording = recorded_session()
    before = [turn(0), READ, turn(1), WRITE]
    kill = audit.Kill(trail_lengths={"s": len(before)}, durable={"s": audit.first_steps(durable, recording)})
    assert audit.redone_steps(counted(before + after_the_kill), [recording], [kill]) == redone


# -- the database process ---------------------------------------------

CANCEL: JsonObject = {"order_id": "#W1", "reason": "no longer needed"}


@pytest.fixture(scope="module")
def socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("desk")
    file = folder / "db.json.gz"
    file.write_bytes(gzip.compress(json.dumps(database(order("#W1", "pending", ["mug-s"]))).encode()))
    with running_database(folder / "db.sock", file):
        yield folder / "db.sock"


def report_of(socket: Path, session: str) -> tuple[int, list[str]]:
    """How many effects the session saw, and how many requests and effects each of its keys."""
    report = json.loads(json.dumps(ask_now(socket, {"op": "report"})))
    effects = [effect for effect in report["effects"] if effect["session"] == session]
    decisions = [d for d in report["decisions"].values() if d["session"] == session]
    return len(effects), [f"{d['requests']} requests, {d['performed']} performed" for d in decisions]


async def test_a_key_is_performed_once_and_answered_alike(socket: Path) -> None:
    first = await call(socket, "once", "cancel_pending_order", CANCEL, key="k1")
    again = await call(socket, "once", "cancel_pending_order", CANCEL, key="k1")
    assert first == again
    assert report_of(socket, "once") == (1, ["2 requests, 1 performed"])


async def test_a_key_with_other_arguments_is_a_conflict(socket: Path) -> None:
    await call(socket, "conflict", "cancel_pending_order", CANCEL, key="k2")
    with pytest.raises(DatabaseUnavailable, match="k2 already stands for"):
        await call(socket, "conflict", "cancel_pending_order", {**CANCEL, "reason": "other"}, key="k2")
    with pytest.raises(DatabaseUnavailable, match="k2 already stands for"):
        await call(socket, "another session", "cancel_pending_order", CANCEL, key="k2")


async def test_a_refused_write_is_refused_again_and_took_no_effect(socket: Path) -> None:
    for _ in range(2):
        with pytest.raises(ShopError, match="Invalid reason"):
            await call(socket, "refused", "cancel_pending_order", {**CANCEL, "reason": "x"}, key="k3")
    assert report_of(socket, "refused") == (0, ["2 requests, 0 performed"])


async def test_the_same_effect_under_two_keys_is_seen(socket: Path) -> None:
    address: JsonObject = {
        "user_id": "una_bay_1",
        "address1": "2 Pier",
        "address2": "",
        "city": "Oban",
        "state": "AB",
        "country": "UK",
        "zip": "00002",
    }
    await call(socket, "twice", "modify_user_address", address, key="k4")
    await call(socket, "twice", "modify_user_address", address, key="k5")
    assert report_of(socket, "twice") == (2, ["1 requests, 1 performed", "1 requests, 1 performed"])


@pytest.mark.parametrize("kind", ["error", "empty", "malformed", "cut"])
@pytest.mark.parametrize(("when", "effects"), [("before", 0), ("after", 1)])
async def test_a_fault_comes_before_or_after_the_effect_and_the_key_heals_it(
    socket: Path, kind: str, when: str, effects: int
) -> None:
    session = f"{kind} {when}"
    request: JsonObject = {
        "op": "call",
        "session": session,
        "tool": "cancel_pending_order",
        "arguments": CANCEL,
        "key": session,
    }
    faulty: JsonObject = {**request, "fault": {"kind": kind, "when": when}}
    if kind in ("malformed", "cut"):
        with contextlib.suppress(MalformedReply, DatabaseUnavailable):
            await ask(socket, faulty)
    else:
        reply = await ask(socket, faulty)
        assert reply.get("result") is None
    assert report_of(socket, session)[0] == effects
    assert (await ask(socket, request))["ok"] is True
    assert report_of(socket, session) == (1, ["2 requests, 1 performed"])


async def test_a_time_out_is_counted_when_the_client_has_given_up(socket: Path) -> None:
    def delivered() -> int:
        report = json.loads(json.dumps(ask_now(socket, {"op": "report"})))
        return sum(fault["kind"] == "timeout" for fault in report["faults"])

    before = delivered()
    request: JsonObject = {
        "op": "call",
        "session": "slow",
        "tool": "calculate",
        "arguments": {"expression": "1 + 1"},
        "fault": {"kind": "timeout"},
    }
    with anyio.move_on_after(0.05) as scope:
        await ask(socket, request)
    assert scope.cancelled_caught
    with anyio.fail_after(5):
        while delivered() == before:  # noqa: ASYNC110  # the other process has no event to wait for
            await anyio.sleep(0.005)


async def test_what_is_no_request_is_answered_as_such(socket: Path) -> None:
    reply = await ask(socket, {"op": "dance"})
    assert (reply["ok"], reply["kind"]) == (False, "protocol")


def test_each_attempt_fails_with_the_same_probability() -> None:
    plan = FaultPlan(probability=0.2)
    drawn = [plan.draw() for _ in range(4000)]
    faults = [fault for fault in drawn if fault is not None]
    assert 700 < len(faults) < 900
    assert {fault.kind for fault in faults} == set(DEFAULT_FAULTS)
    assert 0.4 < sum(fault.when == "after" for fault in faults) / len(faults) < 0.6


# -- the whole of it --------------------------------------------------


def rerun(data_dir: Path, *options: str) -> dict[str, Any]:
    script = Path(__file__).parents[2] / "examples" / "retail_desk" / "rerun.py"
    command = [sys.executable, str(script), "--data", str(data_dir), "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def of(figures: dict[str, Any], *names: str) -> tuple[Any, ...]:
    return tuple(figures[name] for name in names)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "calls"), [("gpt-4.1", 299), ("ft-gpt-4.1", 292)])
def test_recorded_conversations_run_again_with_the_same_results_and_verdicts(
    data_dir: Path, model: str, calls: int
) -> None:
    figures = rerun(data_dir, "--model", model)
    assert of(figures, "runs", "tool_calls", "identical_results", "identical_verdicts") == (40, calls, calls, 40)
    assert of(figures, "duplicated_effects", "lost_effects", "in_doubt", "chain_verified") == (0, 0, 0, True)


@pytest.mark.slow
def test_kills_change_nothing_and_nothing_is_done_twice(data_dir: Path) -> None:
    figures = rerun(data_dir, "--kills", "8", "--first", "12")
    assert figures["kills"] == 8
    assert figures["resumed"] > 0
    assert of(figures, "duplicated_effects", "lost_effects", "redone_steps", "in_doubt") == (0, 0, 0, 0)
    assert figures["identical_results"] == figures["tool_calls"]
    assert figures["identical_verdicts"] == figures["verdicts"] == 12


@pytest.mark.slow
def test_failing_attempts_change_nothing_and_stand_in_the_journal(data_dir: Path) -> None:
    figures = rerun(data_dir, "--faults", "0.2", "--first", "16")
    assert sum(figures["delivered_faults"].values()) > 0
    assert of(figures, "unjournaled_faults", "duplicated_effects", "lost_effects", "in_doubt") == (0, 0, 0, 0)
    assert figures["identical_verdicts"] == figures["verdicts"] == 16


@pytest.mark.slow
def test_a_write_whose_outcome_stays_unknown_leaves_its_run_in_doubt(data_dir: Path) -> None:
    figures = rerun(data_dir, "--faults", "0.8", "--kinds", "error", "--first", "8")
    assert figures["in_doubt"] == figures["statuses"]["in_doubt"] > 0
    assert figures["duplicated_effects"] == 0
    assert figures["unchanged_or_in_doubt"] == figures["verdicts"]
