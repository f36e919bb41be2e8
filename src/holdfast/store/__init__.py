"""The only room that knows SQLite or memory: rows, group commit, migrations, worker leases."""

from ._open import open_store
from ._types import (
    FINISHED,
    Append,
    Checkpoint,
    Claimed,
    NewRun,
    Row,
    RunRow,
    RunState,
    Snapshot,
    Store,
    Stream,
    Wait,
)

__all__ = [
    "FINISHED",
    "Append",
    "Checkpoint",
    "Claimed",
    "NewRun",
    "Row",
    "RunRow",
    "RunState",
    "Snapshot",
    "Store",
    "Stream",
    "Wait",
    "open_store",
]
