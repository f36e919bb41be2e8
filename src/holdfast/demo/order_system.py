"""The order system: a process of its own that holds stock and orders and counts every effect by key.

`python -m holdfast.demo.order_system --log FILE` serves HTTP on loopback, prints one line `{"url": ...}`
and ends when its standard input closes. It outlives workers; its log outlives it, so that a second demo on
the same store meets the orders of the first.

    POST /orders            header Idempotency-Key; the first request acts, the same again is answered alike
    GET  /stock/SKU         what is left
    GET  /counts            totals
    GET  /effects           every key: requests, effects, duplicates, the order

Told so (`--faults`), it answers late, refuses for a while, or does its work and cuts the line before it
answers: by the seed, the key and the number of the request, so that a run of the demo can be repeated.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import sys
from collections import Counter
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Literal

import msgspec

from holdfast.demo import records
from holdfast.demo.orderbook import Confirmation, Order

Fault = Literal["none", "slow", "unavailable", "cut_before", "cut_after"]
# Of the share of requests that fail at all: how they fail.
POST_FAULTS: tuple[Fault, ...] = (
    "slow",
    "unavailable",
    "unavailable",
    "cut_before",
    "cut_after",
    "cut_after",
)
GET_FAULTS: tuple[Fault, ...] = ("unavailable", "cut_before")
SLOW_S = 0.4
LATENCY_S = (0.002, 0.012)
MAX_BODY_BYTES = 1 << 20


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One effect as the log keeps it."""

    key: str
    body_sha256: str
    order: Order
    confirmation: Confirmation


class KeyCount(msgspec.Struct, kw_only=True):
    """What happened under one idempotency key."""

    requests: int = 0
    effects: int = 0
    duplicates: int = 0
    conflicts: int = 0
    refused: int = 0
    order: Order | None = None


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Totals over all keys, and the faults that were delivered."""

    requests: int
    effects: int
    keys: int
    duplicates: int
    conflicts: int
    refused: int
    faults: dict[str, int]


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    error: str


@dataclass(kw_only=True)
class OrderBook:
    """Stock, orders and counts. No method pauses, so no request sees half of another."""

    log: Path | None = None
    entries: dict[str, Entry] = field(default_factory=dict)
    counts: dict[str, KeyCount] = field(default_factory=dict)
    stock: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.stock = {p.sku: p.stock for p in records.catalogue().values()}
        if self.log is not None and self.log.exists():
            for line in self.log.read_bytes().splitlines():
                self._take(msgspec.json.decode(line, type=Entry))

    def place(self, key: str, body: bytes) -> tuple[HTTPStatus, Confirmation | Problem]:
        """Perform the order under `key` once; the same request again gets the same confirmation."""
        count = self.counts.setdefault(key, KeyCount())
        digest = hashlib.sha256(body).hexdigest()
        if (known := self.entries.get(key)) is not None:
            if known.body_sha256 != digest:
                count.conflicts += 1
                return HTTPStatus.CONFLICT, Problem(error=f"key {key} was used for another order")
            count.duplicates += 1
            return HTTPStatus.OK, known.confirmation
        try:
            order = msgspec.json.decode(body, type=Order)
        except msgspec.DecodeError as error:
            count.refused += 1
            return HTTPStatus.UNPROCESSABLE_ENTITY, Problem(error=f"not an order: {error}")
        if why := self._refusal(order):
            count.refused += 1
            return HTTPStatus.UNPROCESSABLE_ENTITY, Problem(error=why)
        number = f"TQ-{10_001 + len(self.entries)}"
        confirmation = Confirmation(number=number, mail=order.mail, total_cents=order.total_cents)
        entry = Entry(key=key, body_sha256=digest, order=order, confirmation=confirmation)
        if self.log is not None:
            with self.log.open("ab") as file:  # first the log: what was confirmed stays so when this process dies
                file.write(msgspec.json.encode(entry) + b"\n")
        self._take(entry)
        return HTTPStatus.CREATED, confirmation

    def _refusal(self, order: Order) -> str | None:
        catalogue = records.catalogue()
        for line in order.lines:
            if line.sku not in catalogue:
                return f"no article {line.sku}"
            if self.stock[line.sku] < line.quantity:
                return f"{line.sku}: {self.stock[line.sku]} left, {line.quantity} asked"
        if order.total_cents != sum(catalogue[line.sku].price_cents * line.quantity for line in order.lines):
            return "the total is not that of the catalogue"
        return None

    def _take(self, entry: Entry) -> None:
        self.entries[entry.key] = entry
        count = self.counts.setdefault(entry.key, KeyCount())
        count.effects += 1
        count.order = entry.order
        for line in entry.order.lines:
            self.stock[line.sku] -= line.quantity

    def totals(self, faults: Counter[str]) -> Counts:
        every = self.counts.values()
        return Counts(
            requests=sum(c.requests for c in every),
            effects=sum(c.effects for c in every),
            keys=sum(c.effects > 0 for c in every),
            duplicates=sum(c.duplicates for c in every),
            conflicts=sum(c.conflicts for c in every),
            refused=sum(c.refused for c in every),
            faults=dict(faults),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    method: str
    path: str
    key: str
    body: bytes


@dataclass(kw_only=True)
class Server:
    """HTTP around an order book, with faults that the seed decides."""

    book: OrderBook
    seed: int
    faults: float
    delivered: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, which carries one request."""
        try:
            request = await _read_request(reader)
            if request is not None and (answer := await self._answer(request)) is not None:
                writer.write(answer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the client went away: its next request tells what became of this one
        finally:
            writer.close()

    async def _answer(self, request: Request) -> bytes | None:
        """The response, or None to cut the line."""
        about = request.key or request.path
        self.seen[about] += 1
        share = _share(f"{self.seed}:{request.method}:{about}:{self.seen[about]}")
        await asyncio.sleep(LATENCY_S[0] + (LATENCY_S[1] - LATENCY_S[0]) * (share * 97 % 1))
        if request.method == "POST":
            self.book.counts.setdefault(request.key, KeyCount()).requests += 1
        fault = self._fault(request, share)
        if fault != "none":
            self.delivered[fault] += 1
        if fault == "unavailable":
            return _response(HTTPStatus.SERVICE_UNAVAILABLE, Problem(error="try again"))
        if fault == "cut_before":
            return None
        response = self._route(request)
        if fault == "slow":
            await asyncio.sleep(SLOW_S)
        return None if fault == "cut_after" else response

    def _fault(self, request: Request, share: float) -> Fault:
        if request.path in ("/counts", "/effects") or share >= self.faults:
            return "none"
        kinds = POST_FAULTS if request.method == "POST" else GET_FAULTS
        return kinds[int(share / self.faults * len(kinds))]

    def _route(self, request: Request) -> bytes:
        match request.method, request.path.strip("/").split("/"):
            case "POST", ["orders"] if request.key:
                return _response(*self.book.place(request.key, request.body))
            case "GET", ["stock", sku] if sku in self.book.stock:
                return _response(HTTPStatus.OK, {"sku": sku, "left": self.book.stock[sku]})
            case "GET", ["counts"]:
                return _response(HTTPStatus.OK, self.book.totals(self.delivered))
            case "GET", ["effects"]:
                return _response(HTTPStatus.OK, self.book.counts)
            case _:
                return _response(HTTPStatus.NOT_FOUND, Problem(error=f"{request.method} {request.path}"))


def _share(name: str) -> float:
    """A number in [0, 1) that depends on nothing but the name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6]) / 2**48


def _response(status: HTTPStatus, body: object) -> bytes:
    payload = msgspec.json.encode(body)
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(payload)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + payload


async def _read_request(reader: asyncio.StreamReader) -> Request | None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *rest = head.split("\r\n")
    method, _, target = first.partition(" ")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
    length = int(headers.get("content-length") or 0)
    if length > MAX_BODY_BYTES:
        return None
    body = await reader.readexactly(length)
    return Request(method=method, path=target.split(" ")[0], key=headers.get("idempotency-key", ""), body=body)


async def _serve(server: Server) -> None:
    listener = await asyncio.start_server(server.handle, "127.0.0.1", 0, backlog=1024)
    port = listener.sockets[0].getsockname()[1]
    sys.stdout.write(msgspec.json.encode({"url": f"http://127.0.0.1:{port}"}).decode() + "\n")
    sys.stdout.flush()
    async with listener:
        await asyncio.to_thread(sys.stdin.buffer.read)  # whoever started it holds the other end


def main() -> None:
    parser = argparse.ArgumentParser(description="The order system of the Holdfast demo.")
    parser.add_argument("--log", type=Path, default=None, help="file that keeps the orders")
    parser.add_argument("--seed", type=int, default=0, help="decides which requests fail")
    parser.add_argument("--faults", type=float, default=0.0, help="share of requests that fail, 0 to 1")
    options = parser.parse_args()
    book = OrderBook(log=options.log)
    asyncio.run(_serve(Server(book=book, seed=options.seed, faults=options.faults)))


if __name__ == "__main__":
    main()
