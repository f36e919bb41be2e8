"""The inbox: what people wrote to the desk. Nobody vouches for a word of it."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from functools import cache
from itertools import cycle, islice

from holdfast.demo.records import read_jsonl


@dataclass(frozen=True, slots=True, kw_only=True)
class Email:
    """A mail as it arrived. `received` is RFC 3339; `sender` is what the header claims."""

    id: str
    sender: str
    subject: str
    received: str
    body: str


@cache
def inbox() -> dict[str, Email]:
    return {mail.id: mail for mail in read_jsonl("inbox.jsonl", Email)}


def original(mail_id: str) -> str:
    """The id of the mail that a copy was made of (`mail-007.2` is the second copy of `mail-007`)."""
    return mail_id.partition(".")[0]


def take(count: int | None, *, seed: int) -> list[Email]:
    """`count` mails in an order that the seed decides; beyond the inbox's size they repeat as copies."""
    mails = list(inbox().values())
    random.Random(f"inbox:{seed}").shuffle(mails)
    wanted = len(mails) if count is None else count
    taken = list(islice(cycle(mails), wanted))
    return [
        mail if n < len(mails) else replace(mail, id=f"{mail.id}.{n // len(mails)}") for n, mail in enumerate(taken)
    ]
