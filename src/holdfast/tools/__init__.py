"""Tool contracts: schema, validation, effect class, retry and fallback rules. Pure; `holdfast.runtime` acts on them."""

from .contract import CALLER, Caller, Done, Effect, Fresh, NotDone, Policy, Reconciled, Retry, Tool, Unknown, tool
from .schema import Arguments
from .typed import Typed, encode_json, hints, return_type

__all__ = [
    "CALLER",
    "Arguments",
    "Caller",
    "Done",
    "Effect",
    "Fresh",
    "NotDone",
    "Policy",
    "Reconciled",
    "Retry",
    "Tool",
    "Typed",
    "Unknown",
    "encode_json",
    "hints",
    "return_type",
    "tool",
]
