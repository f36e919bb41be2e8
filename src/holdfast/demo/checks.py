"""From a draft to an order: what a claim has to pass before it may become an effect.

`order_from` and `contradiction` are pure; `in_catalogue` registers the first as the validator which
endorses.
"""

from __future__ import annotations

import holdfast as hf
from holdfast.demo import inbox, records
from holdfast.demo.grounding import unfounded
from holdfast.demo.orderbook import Claim, DraftLine, Order, OrderDraft, OrderLine

MAX_LINES = 40
# A week's quantity ten times off is more often a slip of a zero than a new habit.
SLIP_OF_A_ZERO = 10


def order_from(claim: Claim) -> Order:
    """The order that a draft stands for, made of the firm's own records only.

    Raises: Rejected, with a reason that names the line, when anything is unknown, out of bounds, priced by
        somebody else, somebody else's, or not in the sender's own words.
    """
    mail, draft = claim.mail, claim.draft
    customer = records.customer_of(mail.sender)
    if inbox.original(mail.id) not in inbox.inbox():
        raise hf.Rejected(f"no mail {mail.id!r} in the inbox")
    if customer is None:
        raise hf.Rejected(f"the sender {mail.sender!r} is nobody's registered address")
    if draft.customer != customer.id:
        raise hf.Rejected(f"the sender may order for {customer.id} and not for {draft.customer!r}")
    if draft.address not in {address.id for address in customer.addresses}:
        raise hf.Rejected(f"{draft.address[:60]!r} is not the id of an address on file for {customer.id}")
    if not 1 <= len(draft.lines) <= MAX_LINES or len({line.sku for line in draft.lines}) < len(draft.lines):
        raise hf.Rejected(f"an order has 1 to {MAX_LINES} lines, and an article stands in one of them")
    total = sum(_checked(mail.body, line) for line in draft.lines)
    if total > customer.credit_limit_cents:
        raise hf.Rejected(f"{total} cents are over the credit limit of {customer.id}")
    return Order(
        mail=mail.id,
        customer=customer.id,
        address=draft.address,
        lines=[OrderLine(sku=line.sku, quantity=line.quantity) for line in draft.lines],
        total_cents=total,
    )


def _checked(body: str, line: DraftLine) -> int:
    """The price of a line, in cents, from the catalogue."""
    product = records.catalogue().get(line.sku)
    if product is None:
        raise hf.Rejected(f"no article {line.sku[:40]!r} in the catalogue")
    if not product.min_quantity <= line.quantity <= product.max_quantity:
        raise hf.Rejected(
            f"{line.sku}: {line.quantity} {product.unit} is outside {product.min_quantity} to {product.max_quantity}"
        )
    if line.unit_price_cents not in (None, product.price_cents):
        raise hf.Rejected(f"{line.sku}: costs {product.price_cents} cents, not {line.unit_price_cents}")
    if why := unfounded(body, product, line.quantity, line.quote):
        raise hf.Rejected(why)
    return product.price_cents * line.quantity


@hf.validator(version="1")
async def in_catalogue(claim: Claim) -> Order:
    """Checked against catalogue, customer register, inbox and the sender's own words."""
    return order_from(claim)


def contradiction(order: Order, draft: OrderDraft) -> str | None:
    """What in an order does not go together with the same customer's order of last week, or None."""
    now = {line.sku: line.quantity for line in order.lines}
    if draft.repeats is not None:
        return _unlike(order, now, draft.repeats)
    for past in records.last_week_of(order.customer):
        then = {line.sku: line.quantity for line in past.lines}
        if then == now:
            return f"{past.id} of {past.placed_on} has exactly these lines: it may have been sent twice"
        for sku in now.keys() & then.keys():
            less, more = sorted((now[sku], then[sku]))
            if more >= less * SLIP_OF_A_ZERO:
                return f"{sku}: {now[sku]} now, {then[sku]} in {past.id} of {past.placed_on}"
    return None


def _unlike(order: Order, now: dict[str, int], repeats: str) -> str | None:
    past = records.past_orders().get(repeats)
    if past is None or past.customer != order.customer:
        return f"the mail repeats {repeats[:20]!r}, which is no order of {order.customer}"
    then = {line.sku: line.quantity for line in past.lines}
    if then != now:
        return f"the mail repeats {past.id}, which had {then}, with {now}"
    if past.address != order.address:
        return f"the mail repeats {past.id}, which went to {past.address}, to {order.address}"
    return None
