"""The HTTP transport under the provider SDKs: it keeps the bodies of one exchange and nothing else of it.

An SDK gets a client whose only transport is `KeepBodies`. What it wants to send goes out through a plain
client of ours or of the user's (proxies, certificates, limits: theirs), with the credential put in at the
last moment: the SDK never has it. Headers are not kept. A call that would send a second request is refused,
so that no retry is hidden in here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx2

CREDENTIAL_HEADERS = ("authorization", "x-api-key", "api-key", "cookie")
NOT_FORWARDED = (
    "content-encoding",
    "content-length",
    "transfer-encoding",
    "set-cookie",
)  # the body goes on decoded
NEVER_LEFT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.LocalProtocolError,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
)


@dataclass(slots=True)
class Exchange:
    """What one call put on the wire and got back, as far as it came."""

    credential: tuple[str, str] | None = field(default=None, repr=False)
    request: bytes | None = None
    status: int | None = None
    retry_after_s: float | None = None
    response: bytes | None = None
    error: Exception | None = None

    @property
    def may_have_left(self) -> bool:
        return self.request is not None and not isinstance(self.error, NEVER_LEFT)


current_exchange: ContextVar[Exchange] = ContextVar("holdfast_model_exchange")


class SecondRequest(httpx2.RequestError):
    """Something above the transport tried to send again within one call."""


class KeepBodies(httpx2.AsyncBaseTransport):
    """Sends through `client` and notes both bodies in the exchange of the running call.

    The response body is read to its end before it is handed on, content coding undone: what is kept is what
    was parsed.
    """

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        exchange = current_exchange.get()
        if exchange.request is not None:
            raise SecondRequest("a second request within one model call was refused", request=request)
        exchange.request = await request.aread()
        try:
            return await self._exchange(_with_credential(request, exchange), exchange)
        except httpx2.RequestError as error:
            exchange.error = error
            raise

    async def _exchange(self, request: httpx2.Request, exchange: Exchange) -> httpx2.Response:
        response = await self._client.send(request, stream=True, follow_redirects=False)
        try:
            exchange.status = response.status_code
            exchange.retry_after_s = retry_after_s(response.headers)
            exchange.response = await response.aread()
        finally:
            await response.aclose()
        headers = [(k, v) for k, v in response.headers.multi_items() if k.lower() not in NOT_FORWARDED]
        return httpx2.Response(response.status_code, headers=headers, content=exchange.response)


def _with_credential(request: httpx2.Request, exchange: Exchange) -> httpx2.Request:
    headers = [(k, v) for k, v in request.headers.multi_items() if k.lower() not in CREDENTIAL_HEADERS]
    if exchange.credential is not None:
        headers.append(exchange.credential)
    return httpx2.Request(
        request.method, request.url, headers=headers, content=exchange.request, extensions=request.extensions
    )


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """How long the provider asks to wait, in seconds; `None` when it does not say, or says nothing that can
    be read.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("retry-after")
    seconds = _number(text)
    if seconds is not None or text is None:
        return seconds
    until = _date(text)
    if until is None:
        return None
    # Against the server's own clock where it shows it: ours may be off by more than the wait.
    since = _date(headers.get("date", "")) or datetime.now(UTC)
    return max(0.0, (until - since).total_seconds())


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
