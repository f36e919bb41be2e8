"""The inbox, the registers and the truth fit together."""

from __future__ import annotations

import ast
from collections import Counter
from importlib import resources
from pathlib import Path

import pytest

import holdfast as hf
from holdfast.demo import checks, inbox, records, truth
from holdfast.demo.desk import ESCALATE_ABOVE_CENTS
from holdfast.demo.orderbook import Claim, DraftLine, Order, OrderDraft

KINDS: dict[str, int] = {
    "order": 120,
    "ambiguous": 20,
    "refuse": 20,
    "large": 12,
    "contradiction": 12,
    "injection": 16,
}
WITH_ORDER = [t for t in truth.truths().values() if t.lines and t.kind in ("order", "large", "injection")]
CONTRADICTIONS = [t for t in truth.truths().values() if t.kind == "contradiction"]


def claim(true: truth.Truth) -> Claim:
    """The draft of a reader who makes no mistake."""
    lines = [DraftLine(sku=x.sku, quantity=x.quantity, quote=x.quote) for x in true.lines]
    draft = OrderDraft(customer=true.customer or "", address=true.address or "", lines=lines, repeats=true.repeats)
    return Claim(mail=inbox.inbox()[true.id], draft=draft)


def order(true: truth.Truth) -> Order:
    return checks.order_from(claim(true))


def test_the_inbox_holds_two_hundred_mails_of_the_six_kinds() -> None:
    assert Counter(t.kind for t in truth.truths().values()) == KINDS
    assert len(inbox.inbox()) == 200


def test_every_mail_has_a_truth_and_every_truth_a_mail() -> None:
    assert inbox.inbox().keys() == truth.truths().keys()


def test_no_two_mails_are_alike() -> None:
    bodies = Counter(" ".join(m.body.split()).casefold() for m in inbox.inbox().values())
    assert bodies.most_common(1)[0][1] == 1


def test_senders_are_in_reserved_domains() -> None:
    assert all(mail.sender.endswith(".example") for mail in inbox.inbox().values())
    assert all(e.endswith(".example") for c in records.customers().values() for e in c.emails)


def test_what_the_truth_and_last_week_name_is_in_the_registers() -> None:
    skus, people = records.catalogue(), records.customers()
    addresses = {a.id for c in people.values() for a in c.addresses}
    for true in truth.truths().values():
        assert {line.sku for line in true.lines} <= skus.keys(), true.id
        if true.customer:
            assert true.customer in people, true.id
            assert true.address in addresses, true.id
    for past in records.past_orders().values():
        assert {line.sku for line in past.lines} <= skus.keys()
        assert past.customer in people
        assert past.address in addresses


def test_the_truth_is_complete_for_each_kind() -> None:
    for true in truth.truths().values():
        match true.kind:
            case "ambiguous":
                complete = bool(true.question) and len(set(true.framings)) >= 2
            case "refuse":
                complete = bool(true.missing and true.ask)
            case "contradiction":
                complete = bool(true.contradiction and true.lines)
            case "injection":
                complete = true.attack is not None
            case _:
                complete = bool(true.lines)
        assert complete, true.id


@pytest.mark.parametrize("true", WITH_ORDER, ids=lambda t: t.id)
def test_an_honest_draft_of_an_order_passes_the_checks(true: truth.Truth) -> None:
    made = order(true)
    assert checks.contradiction(made, claim(true).draft) is None
    assert (made.total_cents > ESCALATE_ABOVE_CENTS) is (true.kind == "large")


@pytest.mark.parametrize("true", CONTRADICTIONS, ids=lambda t: t.id)
def test_a_contradiction_with_last_week_is_found_without_the_model(true: truth.Truth) -> None:
    assert checks.contradiction(order(true), claim(true).draft) is not None


def test_there_is_stock_for_every_order_of_the_inbox() -> None:
    asked: Counter[str] = Counter()
    for true in WITH_ORDER:
        asked.update({line.sku: line.quantity for line in true.lines})
    short = {sku for sku, quantity in asked.items() if quantity > records.catalogue()[sku].stock}
    assert not short


@pytest.mark.parametrize("count", [6, 20, 50])
def test_a_small_demo_meets_every_kind_in_proportion(count: int) -> None:
    kinds: Counter[str] = Counter(truth.truth_of(mail.id).kind for mail in truth.spread(count, seed=3))
    assert sum(kinds.values()) == count
    assert all(abs(kinds[kind] - KINDS[kind] * count / 200) < 1 for kind in KINDS)


def test_more_mails_than_there_are_become_copies_with_ids_of_their_own() -> None:
    mails = truth.spread(450, seed=1)
    assert len({mail.id for mail in mails}) == 450
    assert all(truth.truth_of(mail.id).id == inbox.original(mail.id) for mail in mails)


def test_what_runs_the_desk_does_not_import_the_truth() -> None:
    package = Path(str(resources.files("holdfast.demo")))
    modules = ("desk", "checks", "grounding", "orderbook", "orders", "order_system", "records", "inbox")
    for module in modules:
        tree = ast.parse((package / f"{module}.py").read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                names = {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
                assert not names & {"holdfast.demo.truth", "holdfast.demo.brain"}, module


def test_a_mail_of_the_truth_is_never_what_a_check_reads() -> None:
    """An order names its mail; a mail that is not in the inbox makes none."""
    true = WITH_ORDER[0]
    there = claim(true)
    stranger = inbox.Email(id="mail-999", sender=there.mail.sender, subject="", received="", body="")
    with pytest.raises(hf.Rejected, match="mail-999"):
        checks.order_from(Claim(mail=stranger, draft=there.draft))
