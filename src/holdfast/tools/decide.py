"""The decisions around an effect, as pure functions: what to do after an unknown outcome (law 2), whether to act at all (law 4).

| intent without outcome    | read   | idempotent | keyed, within key_ttl_s | irreversible, or key too old          |
|---------------------------|--------|------------|-------------------------|---------------------------------------|
| has `reconcile`           | repeat | repeat     | repeat, same key        | ask it                                |
| has none, or it can't say | repeat | repeat     | repeat, same key        | in doubt: a person                    |
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Literal

from ..trust import Label, Trust
from .contract import Effect, Policy

_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_PAIRS = tuple(first + second for first in _ALPHABET for second in _ALPHABET)
_KEY_DOMAIN = b"holdfast/1/key\x00"


def effect_key(root_run: str, path: str, settlement: int) -> str:
    """The idempotency key of one decision: the same for every attempt of it, another for every other decision. No argument is in it."""
    text = f"{root_run}\x00{path}\x00{settlement}".encode()
    return base32(hashlib.sha256(_KEY_DOMAIN + text).digest())


def base32(digest: bytes) -> str:
    """RFC 4648 base32 of 32 bytes, lower case and without padding, ten bits at a time: a third of the time of the library's."""
    number = int.from_bytes(digest, "big") << 4
    return "".join([_PAIRS[(number >> shift) & 1023] for shift in range(250, -1, -10)])


def args_hash(canonical: bytes) -> str:
    """Hash of the exact arguments, for intents and approvals; lives in payloads only."""
    return hashlib.sha256(canonical).hexdigest()


_STRICTNESS = (Effect.READ, Effect.IDEMPOTENT, Effect.KEYED, Effect.IRREVERSIBLE)


def stricter(a: Effect, b: Effect) -> Effect:
    """The class that allows less."""
    return max(a, b, key=_STRICTNESS.index)


def after_unknown(
    effect: Effect, *, key_age_s: float, key_ttl_s: float, can_reconcile: bool
) -> Literal["repeat", "ask", "doubt"]:
    """What to do when an effect was issued and its outcome is not known."""
    if effect in (Effect.READ, Effect.IDEMPOTENT):
        return "repeat"
    if effect is Effect.KEYED and key_age_s < key_ttl_s:
        return "repeat"
    return "ask" if can_reconcile else "doubt"


def gate_reasons(
    *,
    needs: Trust,
    policy: Policy,
    run_label: Label,
    argument_labels: Mapping[str, Label],
    schema_violations: Sequence[str] = (),
) -> tuple[str, ...]:
    """Why a person must be asked before the effect; empty: it may go ahead.

    `argument_labels`: under "values", the believed label of every argument. Under "trajectory" they are not read.
    """
    reasons = [f"the run broke its activity schema: {violation}" for violation in schema_violations]
    if policy == "trajectory":
        if run_label.level < needs:
            reasons.append(f"the run is {run_label.level.name}, {needs.name} is needed{_because(run_label)}")
    else:
        for name, label in argument_labels.items():
            if label.level < needs:
                reasons.append(f"argument {name} is {label.level.name}, {needs.name} is needed{_because(label)}")
    return tuple(reasons)


def _because(label: Label) -> str:
    if not label.causes:
        return ""
    return " (" + ", ".join(f"{c.kind} at {c.step}" if c.step else c.kind for c in label.causes) + ")"
