"""Events and notes, their codec and hash chain, checkpoints, blobs, redaction: the one record, over any store."""

from .journal import Event, Journal, read_event
from .log import RunLog
from .records import Budget, ErrorInfo, Header, Note, Started
from .state import PARKED, TERMINAL, Status, advance

__all__ = [
    "PARKED",
    "TERMINAL",
    "Budget",
    "ErrorInfo",
    "Event",
    "Header",
    "Journal",
    "Note",
    "RunLog",
    "Started",
    "Status",
    "advance",
    "read_event",
]
