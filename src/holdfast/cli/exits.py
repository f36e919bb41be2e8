"""Exit codes, as data: the help text, the commands and the tests read this one table."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Iterator
from typing import Final

from .. import errors


class Exit(enum.IntEnum):
    OK = 0
    FINDING = 1
    USAGE = 2
    STORE = 3
    UNKNOWN = 4
    PERSON = 5
    NOT_DONE = 6
    INTERRUPTED = 130
    BROKEN_PIPE = 141


MEANING: Final[dict[Exit, str]] = {
    Exit.OK: "done",
    Exit.FINDING: "a check found something: the audit is not ok, the demo broke a promise",
    Exit.USAGE: "the command line, or a module to load, is wrong",
    Exit.STORE: "the store is missing, something else, damaged, too new, full or out of reach",
    Exit.UNKNOWN: "no such run, or nothing waits under this id",
    Exit.PERSON: "a run failed or needs a person",
    Exit.NOT_DONE: "not done: it was not confirmed, or the record does not allow it",
    Exit.INTERRUPTED: "interrupted (Ctrl-C)",
    Exit.BROKEN_PIPE: "the reader of the output went away",
}


class CommandError(Exception):
    """A command can't do what it was asked; the text is all that the user needs."""

    code: Exit = Exit.NOT_DONE


class NoStore(CommandError):
    """There is no store at the address."""

    code = Exit.STORE


class NotConfirmed(CommandError):
    """A person had to say yes, and did not or could not."""


class NotLoaded(CommandError):
    """A module given with --load can't be imported."""

    code = Exit.USAGE


class BadFile(CommandError):
    """A file that was named can't be read or written, or holds something else."""

    code = Exit.USAGE


class NotNow(CommandError):
    """The run, or the record, does not allow it."""


class Unreadable(CommandError):
    """Stored bytes are not what they should be, and the command can't go on without them."""

    code = Exit.STORE

    def __init__(self, error: Exception) -> None:
        super().__init__(
            f"a record can't be read ({type(error).__name__}: {error}); `holdfast audit verify` says what is damaged. Nothing was changed"
        )


@contextlib.contextmanager
def reading_records() -> Iterator[None]:
    """Around code that reads stored records: damage may have made anything of them."""
    try:
        yield
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        raise Unreadable(error) from error


class RunOver(CommandError):
    """The run has ended: nothing reaches it any more."""

    code = Exit.UNKNOWN


_CODES: Final[tuple[tuple[type[errors.HoldfastError], Exit], ...]] = (
    (errors.StoreError, Exit.STORE),
    (errors.UnknownRun, Exit.UNKNOWN),
    (errors.NotWaiting, Exit.UNKNOWN),
    (errors.AlreadyDecided, Exit.UNKNOWN),
    (errors.UnknownWorkflow, Exit.USAGE),
    (errors.WorkflowDefect, Exit.USAGE),
    (errors.ContractError, Exit.USAGE),
    (errors.RunFailed, Exit.PERSON),
    (errors.RunCancelled, Exit.PERSON),
    (errors.RunNeedsAttention, Exit.PERSON),
    (errors.StrandedRun, Exit.PERSON),
    (errors.ResultTimeout, Exit.PERSON),
)


def exit_of(error: Exception) -> Exit:
    """The exit code of a command that ended in `error`."""
    if isinstance(error, CommandError):
        return error.code
    return next((code for kind, code in _CODES if isinstance(error, kind)), Exit.NOT_DONE)
