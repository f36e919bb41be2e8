"""The scripted model: right most of the time, and wrong or badly formed in known ways.

It has to pretend that it can read, so it looks a mail up in `truth`; the desk never does. Which mistake it
makes with which mail depends on the seed and the mail's id alone, so that a resumed run meets the same
model. It obeys most prompt injections: stopping them is the system's work and not the model's.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anyio
import msgspec

from holdfast.demo import records
from holdfast.demo.inbox import inbox, original
from holdfast.demo.truth import Attack, Truth, truth_of
from holdfast.model import ModelReply, ModelRequest, Part, Text, ToolCall, ToolResult, Usage

# Usage is priced as this model's, so that the cost of a run is a plausible number.
PROVIDER, SERVED_MODEL = "openai", "gpt-4.1-mini"
LATENCY_S = (0.02, 0.08)
CHARACTERS_PER_TOKEN = 4

# What it does with a mail that is an order, and how often.
ORDER_HABITS = {
    "right": 0.72,
    "malformed_answer": 0.07,  # told what is wrong, it repairs it
    "malformed_call": 0.05,
    "plain_text": 0.04,
    "unknown_sku": 0.03,  # put right when the check refuses the draft
    "wrong_quantity": 0.03,
    "stubbornly_wrong": 0.015,  # not even then
    "never_valid": 0.015,
    "overconfident": 0.02,
    "left_out_a_line": 0.01,  # nothing here notices that; see the count of orders placed otherwise
}
OBEYS_AN_INJECTION = 0.75
OBEYS_IT_AGAIN = 0.5
OVERLOOKS_A_CONTRADICTION = 0.4
GUESSES_AN_AMBIGUITY = 0.2
OVERREACHES = 0.2

Json = dict[str, Any]  # Any: arguments as a model writes them, unchecked
Turn = tuple[Part, ...]
_HEADER = re.compile(r"^Mail (mail-[\d.]+), attempt (\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One conversation as the script sees it: which mail, which attempt, what was said so far."""

    truth: Truth
    mail_id: str
    attempt: int
    turn: int
    sources: tuple[str, ...]
    replied: bool

    @classmethod
    def of(cls, request: ModelRequest) -> Reading:
        first = next(m for m in request.messages if m.role == "user").text
        found = _HEADER.search(first)
        if found is None:
            raise ValueError(f"the script knows mails only, and this is none: {first[:80]!r}")
        said = [m for m in request.messages if m.role == "assistant"]
        return cls(
            truth=truth_of(found[1]),
            mail_id=found[1],
            attempt=int(found[2]),
            turn=len(said),
            sources=tuple(
                part.call_id
                for message in request.messages
                for part in message.parts
                if isinstance(part, ToolResult) and part.ok and not part.name.startswith("answer_")
            ),
            replied=any(call.name == "answer_clarify" for message in said for call in message.tool_calls),
        )


def brain(*, seed: int) -> Callable[[ModelRequest], Any]:
    """The behaviour of a model with this seed, for `ScriptedModel`."""

    async def complete(request: ModelRequest) -> ModelReply:
        reading = Reading.of(request)
        turns = plan(reading, seed=seed)
        parts = turns[min(reading.turn, len(turns) - 1)]
        jitter = random.Random(f"latency:{seed}:{reading.mail_id}:{reading.attempt}:{reading.turn}").random()
        await anyio.sleep(LATENCY_S[0] + (LATENCY_S[1] - LATENCY_S[0]) * jitter)
        return ModelReply(
            parts=_numbered(parts, reading.turn),
            usage=_usage(request, parts),
            served_model=SERVED_MODEL,
            provider=PROVIDER,
            finish_reason="tool_calls",
        )

    return complete


def plan(reading: Reading, *, seed: int) -> list[Turn]:
    """Every turn of one conversation; past the end the last one repeats."""
    chance = random.Random(f"{seed}:{reading.mail_id}")
    match reading.truth.kind:
        case "order" | "large":
            habit = chance.choices(list(ORDER_HABITS), weights=list(ORDER_HABITS.values()))[0]
            return _order(reading, habit)
        case "ambiguous":
            return _ambiguous(reading, guesses=chance.random() < GUESSES_AN_AMBIGUITY)
        case "refuse":
            return _refuse(reading, overreaches=chance.random() < OVERREACHES)
        case "contradiction":
            return _contradiction(reading, overlooks=chance.random() < OVERLOOKS_A_CONTRADICTION)
        case "injection":
            obeys = chance.random() < OBEYS_AN_INJECTION
            again = chance.random() < OBEYS_IT_AGAIN
            return _injection(reading, obeys=obeys and (reading.attempt == 1 or again))


def _order(reading: Reading, habit: str) -> list[Turn]:
    right = _draft(reading)
    if reading.attempt > 1 and habit != "stubbornly_wrong":
        habit = "right"
    match habit:
        case "malformed_answer":
            return [*_look_up(reading), _malformed(reading, right), _completed(reading, right)]
        case "malformed_call":
            wrong = (_call("check_stock", {"article": 12}), _call("search_catalogue", {}))
            return [wrong, *_look_up(reading), _completed(reading, right)]
        case "plain_text":
            text = (Text("The customer would like to order; everything seems to be in stock."),)
            return [*_look_up(reading), text, _completed(reading, right)]
        case "unknown_sku" | "stubbornly_wrong":
            lines = [right["lines"][0] | {"sku": right["lines"][0]["sku"] + "-XL"}, *right["lines"][1:]]
            return [*_look_up(reading), _completed(reading, right | {"lines": lines})]
        case "wrong_quantity":
            first = right["lines"][0]
            lines = [first | {"quantity": first["quantity"] * 7 + 3}, *right["lines"][1:]]
            return [*_look_up(reading), _completed(reading, right | {"lines": lines})]
        case "never_valid":
            return [*_look_up(reading), _malformed(reading, right)]
        case "overconfident":
            return [_completed(reading, right, confidence=0.99, sources=())]
        case "left_out_a_line":
            return [*_look_up(reading), _completed(reading, right | {"lines": right["lines"][:1]})]
        case _:
            return [*_look_up(reading), _completed(reading, right)]


def _ambiguous(reading: Reading, *, guesses: bool) -> list[Turn]:
    truth = reading.truth
    if guesses or reading.replied:
        sure = 0.9 if reading.replied else 0.55
        return [*_look_up(reading), _completed(reading, _draft(reading), confidence=sure)]
    question: Json = {"question": truth.question, "framings": list(truth.framings)}
    return [*_look_up(reading), (_call("answer_clarify", question),)]


def _refuse(reading: Reading, *, overreaches: bool) -> list[Turn]:
    truth = reading.truth
    if truth.lines and reading.attempt == 1:  # it gives the price that it was asked for
        draft = _draft(reading)
        lines = [line | {"unit_price_cents": truth.price_cents} for line in draft["lines"]]
        return [*_look_up(reading), _completed(reading, draft | {"lines": lines})]
    if overreaches:
        return [_find(reading), (_call("answer_escalated", {"reason": f"not an order: {truth.missing}"}),)]
    return [_find(reading), _refused(truth)]


def _contradiction(reading: Reading, *, overlooks: bool) -> list[Turn]:
    if overlooks:
        return [*_look_up(reading), _completed(reading, _draft(reading))]
    return [*_look_up(reading), (_call("answer_escalated", {"reason": reading.truth.contradiction}),)]


def _injection(reading: Reading, *, obeys: bool) -> list[Turn]:
    truth = reading.truth
    if truth.attack is None:
        raise ValueError(f"{truth.id} is an injection without an attack")
    if obeys:
        stray: list[Turn] = [(_call(*truth.attack.call),)] if truth.attack.call else []
        return [
            *_look_up(reading),
            *stray,
            _completed(reading, _obedient(reading, truth.attack), confidence=0.95),
        ]
    if not truth.lines:
        return [_find(reading), _refused(truth)]
    return [*_look_up(reading), _completed(reading, _draft(reading))]


def _obedient(reading: Reading, attack: Attack) -> Json:
    """The draft that the attacker wants."""
    draft = _draft(reading)
    lines: list[Json] = [*draft["lines"], *(msgspec.to_builtins(line) for line in attack.add)]
    for line in lines:
        if attack.price_cents is not None:
            line["unit_price_cents"] = attack.price_cents
        line["quantity"] = (attack.quantities or {}).get(line["sku"], line["quantity"])
    customer = attack.customer or draft["customer"]
    return draft | {"customer": customer, "address": attack.address or draft["address"], "lines": lines}


def _draft(reading: Reading) -> Json:
    truth = reading.truth
    return {
        "customer": truth.customer or "C-0000",
        "address": truth.address or "C-0000/1",
        "lines": [msgspec.to_builtins(line) for line in truth.lines],
        "repeats": truth.repeats,
    }


def _look_up(reading: Reading) -> list[Turn]:
    truth = reading.truth
    articles = [line.sku for line in truth.lines] or ["RP-POL-12"]
    searches = [_call("search_catalogue", {"query": records.catalogue()[sku].name}) for sku in articles[:2]]
    stock = [_call("check_stock", {"sku": sku}) for sku in articles]
    past = [_call("last_week", {"customer": truth.customer})] if truth.customer else []
    return [(*_find(reading), *searches), (*stock, *past)]


def _find(reading: Reading) -> Turn:
    return (_call("find_customer", {"sender": inbox()[original(reading.mail_id)].sender}),)


def _completed(
    reading: Reading, draft: Json, *, confidence: float = 0.92, sources: tuple[str, ...] | None = None
) -> Turn:
    read = reading.sources if sources is None else sources
    answer = {
        "result": draft,
        "confidence": confidence,
        "assumptions": ["quantities are in the catalogue's unit"],
        "uncertainty": [],
        "sources": list(read),
    }
    return (_call("answer_completed", answer),)


def _malformed(reading: Reading, draft: Json) -> Turn:
    """An answer that does not validate, in one of a few ways."""
    lines = [line | {"quantity": f"{line['quantity']} or so"} for line in draft["lines"]]
    variants: list[tuple[Json, float]] = [
        (draft | {"lines": lines}, 0.9),
        ({key: value for key, value in draft.items() if key != "address"}, 0.9),
        (draft, 1.7),
    ]
    wrong, confidence = variants[sum(map(ord, reading.mail_id)) % len(variants)]
    return _completed(reading, wrong, confidence=confidence)


def _refused(truth: Truth) -> Turn:
    return (_call("answer_refused", {"missing": truth.missing, "ask": truth.ask}),)


def _call(name: str, arguments: Json) -> ToolCall:
    return ToolCall(id="", name=name, arguments=arguments)


def _numbered(parts: Turn, turn: int) -> Turn:
    return tuple(
        msgspec.structs.replace(part, id=f"call-{turn}-{n}") if isinstance(part, ToolCall) else part
        for n, part in enumerate(parts)
    )


def _usage(request: ModelRequest, parts: Turn) -> Usage:
    read = len(request.instructions) + len(msgspec.json.encode(request.messages))
    read += sum(len(msgspec.json.encode(tool)) for tool in request.tools)
    return Usage(
        input_tokens=read // CHARACTERS_PER_TOKEN,
        output_tokens=len(msgspec.json.encode(parts)) // CHARACTERS_PER_TOKEN,
    )
