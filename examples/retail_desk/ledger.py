"""What the database did, counted where no kill of a worker reaches: by key, by session, by fault.

Pure: the server tells it what arrives and asks it what to answer; nothing is stored anywhere else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from retail_desk.errors import ShopError
from retail_desk.records import JsonObject, JsonValue
from retail_desk.shop import WRITES, RetailTools


@dataclass(frozen=True, kw_only=True)
class Effect:
    """One change of a session's database; the ledger holds them in the order in which they took place."""

    session: str
    tool: str
    arguments: str
    key: str | None


@dataclass(frozen=True, kw_only=True)
class Mark:
    """Something that began in a session: a model turn (`what` is its number) or an attempt of a tool call."""

    kind: str
    what: str


@dataclass(frozen=True, kw_only=True)
class Delivered:
    """A fault that a client met, before or after the effect of its call."""

    session: str
    tool: str
    kind: str
    when: str


@dataclass(kw_only=True)
class Decision:
    """Everything that arrived under one key."""

    session: str
    tool: str
    arguments: str
    requests: int = 0
    performed: int = 0
    """How often it took effect. A refused decision took none."""
    reply: JsonObject | None = None
    """The first outcome, given again for every later request; `None` while no request got that far."""


@dataclass(kw_only=True)
class Ledger:
    decisions: dict[str, Decision] = field(default_factory=dict)
    effects: list[Effect] = field(default_factory=list)
    trails: dict[str, list[Mark]] = field(default_factory=dict)
    """What began in each session, in the order of its arrival."""
    faults: list[Delivered] = field(default_factory=list)

    def mark(self, session: str, kind: str, what: str) -> None:
        self.trails.setdefault(session, []).append(Mark(kind=kind, what=what))

    def receive(self, session: str, tool: str, arguments: str, key: str | None) -> JsonObject | None:
        """Note that a request has arrived. A reply means: this is the answer, there is nothing to do."""
        self.mark(session, "attempt", f"{tool} {arguments}")
        if key is None or tool not in WRITES:
            return None
        decision = self.decisions.setdefault(key, Decision(session=session, tool=tool, arguments=arguments))
        decision.requests += 1
        if (decision.session, decision.tool, decision.arguments) != (session, tool, arguments):
            stands_for = f"{decision.tool} {decision.arguments} of {decision.session}"
            return {"ok": False, "kind": "conflict", "message": f"key {key} already stands for {stands_for}"}
        return decision.reply

    def perform(self, shop: RetailTools, session: str, tool: str, arguments: str, key: str | None) -> JsonObject:
        """Do it, and remember that it was done and how it was answered."""
        parsed: Mapping[str, JsonValue] = json.loads(arguments)
        reply: JsonObject
        try:
            # A copy: the shop's records go on changing.
            reply = {"ok": True, "result": json.loads(json.dumps(shop.call(tool, parsed)))}
        except ShopError as error:
            reply = {"ok": False, "kind": "refused", "message": str(error)}
        if tool in WRITES:
            self._remember(Effect(session=session, tool=tool, arguments=arguments, key=key), reply)
        return reply

    def _remember(self, effect: Effect, reply: JsonObject) -> None:
        took_effect = bool(reply["ok"])
        if took_effect:
            self.effects.append(effect)
        if effect.key is not None:
            decision = self.decisions[effect.key]
            decision.performed += took_effect
            decision.reply = reply


def canonical(arguments: Mapping[str, JsonValue]) -> str:
    """Arguments as one text: equal if and only if the arguments are."""
    return json.dumps(arguments, sort_keys=True)
