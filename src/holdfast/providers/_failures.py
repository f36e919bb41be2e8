"""From what happened on the wire to a `ModelError`: pure, and the same for every dialect."""

from __future__ import annotations

import json
from typing import Any, Final

from ..errors import ModelError
from ._wire import Exchange

SHOWN_CHARS: Final = 500

TRANSIENT_STATUS: Final = frozenset({408, 409, 425, 429})  # 409: both SDKs count a lock time-out among those to repeat

# An account that is used up is reported with a 400, 402, 403 or 429: to wait does not help.
USED_UP: Final = (
    "billing_error",
    "billing_hard_limit_reached",
    "billing_not_active",
    "credit_balance_exhausted",
    "credit balance is too low",
    "exceeded_current_quota_error",
    "insufficient_quota",
    "organization_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
    "project_spend_limit_exceeded",
)
TRANSIENT_CODES: Final = frozenset(  # of an error that comes with status 200
    {
        "api_error",
        "overloaded_error",
        "rate_limit_error",
        "rate_limit_exceeded",
        "server_error",
        "server_is_overloaded",
        "timeout_error",
    }
)


def failure(route: str, exchange: Exchange, error: BaseException | None, *, secret: str = "") -> ModelError:
    """Say what went wrong.

    Args:
        exchange: As far as it came.
        error: What the SDK raised; `None` when the time ran out.
        secret: Taken out of every text, should a server have echoed it.
    """
    said = _provider_says(exchange.response)
    status = exchange.status
    if status is not None and status >= 300:
        message, transient = said or _plain(exchange.response), _is_transient(status, exchange.response)
    elif exchange.error is not None:
        message, transient = _connection(exchange), True
    elif exchange.request is None and error is None:
        message, transient = "the time ran out before anything was sent", True
    elif exchange.request is None:
        message, transient = f"the request could not be made: {_text(error)}. Nothing was sent", False
    elif error is None:
        message, transient = "no reply in time; whether it was served is unknown", True
    elif said:  # an error object under status 200
        message, transient = said, _error_code(exchange.response) in TRANSIENT_CODES
    else:
        message, transient = f"the reply could not be read: {_text(error)}", True
    return ModelError(
        route,
        shortened(without(message, secret)),
        status=status,
        transient=transient,
        retry_after_s=exchange.retry_after_s,
        sent=exchange.may_have_left,
    )


def without(text: str, secret: str) -> str:
    return text.replace(secret, "[secret]") if secret else text


def shortened(text: str) -> str:
    return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}..."


def _is_transient(status: int, body: bytes | None) -> bool:
    text = _plain(body).lower()
    if any(sign in text for sign in USED_UP):
        return False
    return status in TRANSIENT_STATUS or status >= 500


def _connection(exchange: Exchange) -> str:
    what = f"{type(exchange.error).__name__}: {_text(exchange.error)}"
    if exchange.may_have_left:
        return f"the connection broke ({what}); whether the request was served is unknown"
    return f"no connection ({what}); nothing was sent"


def _provider_says(body: bytes | None) -> str:
    error = _error_object(body)
    if isinstance(error, str):
        return error
    if isinstance(error, dict):
        kind = next((error[k] for k in ("code", "type") if isinstance(error.get(k), str)), "")
        text = error.get("message")
        return ": ".join(part for part in (kind, text) if isinstance(part, str) and part)
    return ""


def _error_code(body: bytes | None) -> str | None:
    error = _error_object(body)
    code = error.get("code") or error.get("type") if isinstance(error, dict) else None
    return code if isinstance(code, str) else None


def _error_object(body: bytes | None) -> Any:  # Any: JSON of an unknown server
    try:
        document = json.loads(body or b"")
    except ValueError:
        return None
    return document.get("error") if isinstance(document, dict) else None


def _plain(body: bytes | None) -> str:
    return (body or b"").decode(errors="replace") or "no text"


def _text(error: BaseException | None) -> str:
    return str(error).strip().rstrip(".") or type(error).__name__
