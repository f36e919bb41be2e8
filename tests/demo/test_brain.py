"""The scripted model errs in known ways, the same for one seed; the checks stop what it must not get."""

from __future__ import annotations

import pytest

import holdfast as hf
from holdfast.demo import brain, checks, inbox, records, truth
from holdfast.demo.orderbook import Claim, DraftLine, OrderDraft
from holdfast.model import Message, ModelRequest, Text, ToolCall, ToolResult

INJECTIONS = [t for t in truth.truths().values() if t.kind == "injection"]


def reading(true: truth.Truth, *, attempt: int = 1) -> brain.Reading:
    return brain.Reading(truth=true, mail_id=true.id, attempt=attempt, turn=0, sources=("call-0-0",), replied=False)


def drafts(true: truth.Truth, *, seed: int, attempt: int = 1) -> list[OrderDraft]:
    """Every well-formed draft that the script would answer with."""
    answers = [
        part.arguments["result"]
        for turn in brain.plan(reading(true, attempt=attempt), seed=seed)
        for part in turn
        if isinstance(part, ToolCall) and part.name == "answer_completed" and isinstance(part.arguments, dict)
    ]
    return [
        OrderDraft(**{**answer, "lines": [DraftLine(**line) for line in answer["lines"]]})
        for answer in answers
        if "address" in answer and all(isinstance(line["quantity"], int) for line in answer["lines"])
    ]


def test_the_same_seed_gives_the_same_conversation() -> None:
    for true in truth.truths().values():
        assert brain.plan(reading(true), seed=4) == brain.plan(reading(true), seed=4)


def test_another_seed_goes_wrong_elsewhere() -> None:
    plans = [[brain.plan(reading(t), seed=seed) for t in truth.truths().values()] for seed in (1, 2)]
    assert plans[0] != plans[1]


@pytest.mark.parametrize("true", INJECTIONS, ids=lambda t: t.id)
def test_what_an_obeyed_injection_asks_for_is_turned_down(true: truth.Truth) -> None:
    """Over many seeds and both attempts: what passes the checks is what the customer may have."""
    obeyed = 0
    wanted = {line.sku: line.quantity for line in true.lines}
    for seed in range(30):
        for attempt in (1, 2):
            for draft in drafts(true, seed=seed, attempt=attempt):
                try:
                    order = checks.order_from(Claim(mail=inbox.inbox()[true.id], draft=draft))
                except hf.Rejected:
                    obeyed += 1
                    continue
                assert {line.sku: line.quantity for line in order.lines} == wanted
                assert (order.customer, order.address) == (true.customer, true.address)
                assert order.total_cents == sum(records.catalogue()[sku].price_cents * n for sku, n in wanted.items())
    calls_a_tool = true.attack is not None and true.attack.call is not None
    assert obeyed or calls_a_tool, "the script obeys this injection now and then"


def test_most_orders_are_read_right() -> None:
    orders = [t for t in truth.truths().values() if t.kind == "order"]
    right = sum(
        any([(x.sku, x.quantity) for x in d.lines] == [(x.sku, x.quantity) for x in t.lines] for d in last)
        for t in orders
        if (last := drafts(t, seed=0)[-1:])
    )
    assert right >= 0.8 * len(orders)


async def test_a_reply_is_priced_and_its_sources_are_the_reads_it_got() -> None:
    true = next(t for t in truth.truths().values() if t.kind == "contradiction")
    mail = inbox.inbox()[true.id]
    asked = Message("user", (Text(f"Mail {true.id}, attempt 1\n\n{mail.body} Mail mail-999, attempt 9"),))
    respond = brain.brain(seed=0)
    first = await respond(ModelRequest(instructions="", messages=(asked,)))
    calls = [part for part in first.parts if isinstance(part, ToolCall)]
    assert first.served_model == brain.SERVED_MODEL
    assert first.usage is not None
    assert first.usage.input_tokens
    results = tuple(ToolResult(c.id, c.name, "[]", ok=n == 0) for n, c in enumerate(calls))
    again = ModelRequest(instructions="", messages=(asked, Message("assistant", first.parts), Message("tool", results)))
    read = brain.Reading.of(again)
    assert (read.truth.id, read.turn, read.sources) == (true.id, 1, (calls[0].id,))


def test_a_prompt_that_is_no_mail_is_an_error_and_not_a_guess() -> None:
    with pytest.raises(ValueError, match="mails only"):
        brain.Reading.of(ModelRequest(instructions="", messages=(Message("user", (Text("hello"),)),)))


@pytest.mark.parametrize("habit", ["wrong_quantity", "unknown_sku"])
def test_a_misread_line_is_turned_down_whatever_the_mail(habit: str) -> None:
    for true in truth.truths().values():
        if true.kind in ("order", "large"):
            answer = brain._order(reading(true), habit)[-1][0]
            assert isinstance(answer, ToolCall)
            assert isinstance(answer.arguments, dict)
            said = answer.arguments["result"]
            draft = OrderDraft(**{**said, "lines": [DraftLine(**line) for line in said["lines"]]})
            with pytest.raises(hf.Rejected):
                checks.order_from(Claim(mail=inbox.inbox()[true.id], draft=draft))
