"""The states of a run, as data: the only place where a status may change.

    pending ──► running ──► completed | failed | cancelled
                 ▲   │
                 │   ├─► waiting    parked: a timer, a signal, a reply, an approval, a sub-run
                 │   ├─► in_doubt   parked: an effect that a person must settle
                 └───┴─► attention  the code or the record needs a person; `resume` tries again

The run's loop, the store's columns, the audit and the screens read this one table.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

Status: TypeAlias = Literal[
    "pending", "running", "waiting", "in_doubt", "attention", "completed", "failed", "cancelled"
]

TERMINAL: Final[frozenset[str]] = frozenset({"completed", "failed", "cancelled"})
PARKED: Final[frozenset[str]] = frozenset({"waiting", "in_doubt", "attention"})

TRANSITIONS: Final[dict[tuple[Status, str], Status]] = {
    ("pending", "step"): "running",
    ("pending", "run.resumed"): "running",
    ("pending", "run.parked"): "waiting",
    ("pending", "run.in_doubt"): "in_doubt",
    ("pending", "run.attention"): "attention",
    ("pending", "run.finished"): "completed",
    ("pending", "run.failed"): "failed",
    ("pending", "run.cancelled"): "cancelled",
    ("running", "step"): "running",
    ("running", "run.resumed"): "running",
    ("running", "run.parked"): "waiting",
    ("running", "run.in_doubt"): "in_doubt",
    ("running", "run.attention"): "attention",
    ("running", "run.finished"): "completed",
    ("running", "run.failed"): "failed",
    ("running", "run.cancelled"): "cancelled",
    ("waiting", "step"): "running",
    ("waiting", "run.resumed"): "running",
    ("waiting", "run.parked"): "waiting",
    ("waiting", "run.in_doubt"): "in_doubt",
    ("waiting", "run.attention"): "attention",
    ("waiting", "run.finished"): "completed",
    ("waiting", "run.failed"): "failed",
    ("waiting", "run.cancelled"): "cancelled",
    ("in_doubt", "step"): "running",
    ("in_doubt", "run.resumed"): "running",
    ("in_doubt", "run.parked"): "waiting",
    ("in_doubt", "run.in_doubt"): "in_doubt",
    ("in_doubt", "run.attention"): "attention",
    ("in_doubt", "run.failed"): "failed",
    ("in_doubt", "run.cancelled"): "cancelled",
    ("attention", "step"): "running",
    ("attention", "run.resumed"): "running",
    ("attention", "run.parked"): "waiting",
    ("attention", "run.in_doubt"): "in_doubt",
    ("attention", "run.attention"): "attention",
    ("attention", "run.finished"): "completed",
    ("attention", "run.failed"): "failed",
    ("attention", "run.cancelled"): "cancelled",
}


class IllegalTransition(AssertionError):
    """An event that can't follow: a defect of Holdfast or a forged record, never of the user's code."""


def advance(status: Status | None, kind: str) -> Status:
    """The status after an event of this kind. Raises `IllegalTransition`."""
    if status is None:
        if kind == "run.started":
            return "pending"
    else:
        after = TRANSITIONS.get((status, kind if kind.startswith("run.") else "step"))
        if after is not None:
            return after
    raise IllegalTransition(f"{kind} can't follow {status or 'nothing'}")
