"""The order system's client: what the desk's tools call. One request a connection, over loopback."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar
from urllib.parse import urlsplit

import anyio
import msgspec

from holdfast.demo.order_system import Counts, KeyCount, Problem
from holdfast.demo.orderbook import Confirmation, Order

T = TypeVar("T")


class OrderRefused(ValueError):
    """The order system looked at the request and did nothing: asking again changes nothing."""


class OrderSystemUnavailable(ConnectionError):
    """The order system did not answer: it may or may not have acted; the same key is safe to send again."""


class StockLevel(msgspec.Struct, frozen=True, kw_only=True):
    """Pieces of an article (in its catalogue unit) that are left to sell."""

    sku: str
    left: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderSystem:
    """A connection-less client of the order system at `url` (`http://127.0.0.1:PORT`)."""

    url: str

    async def place(self, order: Order, key: str) -> Confirmation:
        """Place an order under an idempotency key.

        Raises:
            OrderRefused: It was turned down before any effect.
            OrderSystemUnavailable: Unknown whether it took effect.
        """
        return await self._call("POST", "/orders", Confirmation, body=msgspec.json.encode(order), key=key)

    async def stock(self, sku: str) -> StockLevel:
        return await self._call("GET", f"/stock/{sku}", StockLevel)

    async def counts(self) -> Counts:
        return await self._call("GET", "/counts", Counts)

    async def effects(self) -> dict[str, KeyCount]:
        return await self._call("GET", "/effects", dict[str, KeyCount])

    async def _call(self, method: str, path: str, kind: type[T], *, body: bytes = b"", key: str | None = None) -> T:
        status, payload = await self._exchange(method, path, body, key)
        match status:
            case HTTPStatus.OK | HTTPStatus.CREATED:
                return msgspec.json.decode(payload, type=kind)
            case HTTPStatus.CONFLICT | HTTPStatus.UNPROCESSABLE_ENTITY | HTTPStatus.NOT_FOUND:
                raise OrderRefused(msgspec.json.decode(payload, type=Problem).error)
            case _:
                raise OrderSystemUnavailable(f"{method} {path}: status {status}")

    async def _exchange(self, method: str, path: str, body: bytes, key: str | None) -> tuple[int, bytes]:
        where = urlsplit(self.url)
        lines = [f"{method} {path} HTTP/1.1", f"Host: {where.netloc}", f"Content-Length: {len(body)}"]
        if key is not None:
            lines.append(f"Idempotency-Key: {key}")
        received = bytearray()
        try:
            async with await anyio.connect_tcp(where.hostname or "127.0.0.1", where.port or 80) as stream:
                await stream.send("\r\n".join([*lines, "", ""]).encode() + body)
                async for chunk in stream:
                    received += chunk
        except (OSError, anyio.BrokenResourceError) as error:
            raise OrderSystemUnavailable(f"{method} {path}: {error}") from error
        head, separator, payload = bytes(received).partition(b"\r\n\r\n")
        if not separator:
            raise OrderSystemUnavailable(f"{method} {path}: the connection ended before the answer")
        return int(head.split(b" ", 2)[1]), payload
