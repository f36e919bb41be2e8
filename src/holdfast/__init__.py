"""Holdfast runs LLM agents in production and proves that they work: every step of a run is an event of one journal.

    import holdfast as hf

Importing does nothing else: nothing is printed, opened, read from the environment or sent anywhere.
"""

from .agent import Agent, conclusions
from .errors import HoldfastError, NoResult, Rejected, StepFailed, TimedOut, ToolFailed
from .journal.records import Budget
from .model import Answer, Clarify, Completed, Escalated, IdempotencyKey, Refused, Secret
from .runtime import (
    App,
    Decision,
    Run,
    approval,
    endorse,
    first,
    now,
    open,
    parallel,
    patched,
    random,
    record,
    recorded,
    reply,
    run_sync,
    signal,
    sleep,
    sleep_until,
    step,
    subrun,
    timeout,
    uuid,
    validator,
    workflow,
)
from .tools import Done, Fresh, NotDone, Retry, Unknown, tool
from .trust import Label, Trust, Value

__version__ = "0.1.0"

__all__ = [
    "Agent",
    "Answer",
    "App",
    "Budget",
    "Clarify",
    "Completed",
    "Decision",
    "Done",
    "Escalated",
    "Fresh",
    "HoldfastError",
    "IdempotencyKey",
    "Label",
    "NoResult",
    "NotDone",
    "Refused",
    "Rejected",
    "Retry",
    "Run",
    "Secret",
    "StepFailed",
    "TimedOut",
    "ToolFailed",
    "Trust",
    "Unknown",
    "Value",
    "approval",
    "conclusions",
    "endorse",
    "first",
    "now",
    "open",
    "parallel",
    "patched",
    "random",
    "record",
    "recorded",
    "reply",
    "run_sync",
    "signal",
    "sleep",
    "sleep_until",
    "step",
    "subrun",
    "timeout",
    "tool",
    "uuid",
    "validator",
    "workflow",
]
