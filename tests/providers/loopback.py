"""A real HTTP server on loopback that keeps what it saw and answers what it is told, byte for byte."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One HTTP response.

    `cut_after`: the connection is closed after that many bytes of the body; 0: before any header.
    """

    body: bytes
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = "application/json"
    cut_after: int | None = None
    wait_s: float = 0.0


def answer(document: object, status: int = 200, **headers: str) -> Answer:
    """A JSON document, indented so that bytes that were parsed and written anew would differ."""
    named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Answer(body=json.dumps(document, indent=1).encode(), status=status, headers=named)


def compressed(document: object) -> Answer:
    body = gzip.compress(json.dumps(document).encode())
    return Answer(body=body, headers=(("content-encoding", "gzip"),))


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # Any: whatever an SDK sent
        return json.loads(self.body)


@dataclass(slots=True)
class Loopback:
    url: str = ""
    port: int = 0
    answers: list[Answer] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (seen := await _read(reader)) is not None:
                self.seen.append(seen)
                self.arrived.set()
                # Without an answer left a request too many is seen by its count and by this status.
                given = self.answers.pop(0) if self.answers else answer({"error": "unexpected"}, 418)
                await asyncio.sleep(given.wait_s)
                writer.write(_written(given))
                await writer.drain()
                if given.cut_after is not None:
                    return
        except ConnectionError:
            return
        finally:
            writer.close()


async def _read(reader: asyncio.StreamReader) -> Seen | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Seen(path=first.split()[1], headers=headers, body=body)


def _written(given: Answer) -> bytes:
    if given.cut_after == 0:
        return b""
    headers = [
        ("content-type", given.content_type),
        ("content-length", str(len(given.body))),
        *given.headers,
    ]
    head = f"HTTP/1.1 {given.status} Answer\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers) + "\r\n"
    return head.encode() + given.body[: given.cut_after]


@asynccontextmanager
async def loopback(*answers: Answer, port: int = 0) -> AsyncIterator[Loopback]:
    """Serve `answers` one after the other, over however many connections."""
    served = Loopback(answers=list(answers))
    server = await asyncio.start_server(served.serve, "127.0.0.1", port)
    served.port = server.sockets[0].getsockname()[1]
    served.url = f"http://127.0.0.1:{served.port}/v1"
    try:
        yield served
    finally:
        server.close()
        await server.wait_closed()
