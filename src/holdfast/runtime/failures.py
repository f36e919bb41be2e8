"""Errors on their way into the journal and back. What is raised live is made from the record, as on replay, so both are the same."""

from __future__ import annotations

import dataclasses
from typing import Any

from .. import errors
from ..errors import EndorsementRejected, HoldfastError, StepFailed, TimedOut, ToolFailed
from ..journal.records import ErrorInfo
from ..model import without_secrets

_MESSAGE_CHARS = 4000
_JSON = (str, int, float, bool, type(None))


def describe(error: BaseException) -> ErrorInfo:
    """An error as recorded."""
    names = tuple(_name(k) for k in type(error).__mro__[1:] if issubclass(k, Exception) and k is not Exception)
    values: dict[str, Any] = {}
    if isinstance(error, HoldfastError):
        for field in dataclasses.fields(error):
            value = _clean(getattr(error, field.name))
            if isinstance(value, _JSON) or (isinstance(value, tuple) and all(isinstance(v, _JSON) for v in value)):
                values[field.name] = value
    try:
        message = str(error)
    except Exception as worse:  # noqa: BLE001  # an error that can't say what it is must not hide that it happened
        message = f"(its text could not be made: {type(worse).__name__})"
    if len(message) > _MESSAGE_CHARS:
        message = f"{message[:_MESSAGE_CHARS]}... ({len(message):,} characters)"
    return ErrorInfo(_name(type(error)), _clean(message), names, values)


def step_failed(run: str, path: str, name: str, info: ErrorInfo, attempts: int) -> HoldfastError:
    """The error that a step raises for a recorded failure."""
    if info.type in _OWN:
        known = _OWN[info.type]
        names = {f.name for f in dataclasses.fields(known)}
        if set(info.fields) <= names:
            values = {k: tuple(v) if isinstance(v, list) else v for k, v in info.fields.items()}
            try:
                return known(**values)
            except TypeError:  # a field that an older record does not have
                pass
    timed_out = "TimeoutError" in (info.type.rpartition(".")[2], *(t.rpartition(".")[2] for t in info.types))
    kind = TimedOut if timed_out else StepFailed
    return kind(run, path, name, info.type, info.message, attempts, info.types)


def _clean(value: Any) -> Any:
    """Text without what UTF-8 can't hold and without secrets; anything else as it is."""
    return without_secrets(value.encode(errors="replace").decode()) if isinstance(value, str) else value


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


_OWN: dict[str, type[HoldfastError]] = {
    _name(kind): kind
    for kind in vars(errors).values()
    if isinstance(kind, type)
    and (
        issubclass(kind, ToolFailed | EndorsementRejected | StepFailed)
        or kind
        in (errors.BudgetExceeded, errors.PayloadTooLarge, errors.NotJson, errors.RunFailed, errors.RunCancelled)
    )
}
"""Errors of ours that a step may raise and that are rebuilt as they were."""
