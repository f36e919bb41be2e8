"""The way to the database: a connection for each request, so that a fault is that request's alone."""

from __future__ import annotations

import contextlib
import json
import socket as sockets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, cast

import anyio
from anyio.streams.buffered import BufferedByteReceiveStream

from retail_desk.database import LINE_LIMIT_BYTES
from retail_desk.errors import ShopError
from retail_desk.records import JsonObject, JsonValue

STARTUP_LIMIT_S: Final = 30.0


class DatabaseUnavailable(ConnectionError):
    """The call did not get through, or its answer did not come back: whether it took effect is unknown."""


class MalformedReply(ValueError):
    """Something came back that is no reply. Whether the call took effect is unknown."""


async def call(socket: Path, session: str, tool: str, arguments: JsonObject, *, key: str | None = None) -> JsonValue:
    """The result of one tool call.

    Raises:
        ShopError: The shop refused it; it took no effect.
        DatabaseUnavailable, MalformedReply: Unknown outcome.
    """
    request: JsonObject = {"op": "call", "session": session, "tool": tool, "arguments": arguments, "key": key}
    reply = await ask(socket, request)
    if reply.get("ok") is True:
        return reply.get("result")
    message = str(reply.get("message"))
    if reply.get("kind") == "refused":
        raise ShopError(message)
    raise DatabaseUnavailable(message)


async def ask(socket: Path, request: JsonObject) -> JsonObject:
    """Send one request and read its reply."""
    try:
        async with await anyio.connect_unix(socket) as stream:
            await stream.send(json.dumps(request).encode() + b"\n")
            line = await BufferedByteReceiveStream(stream).receive_until(b"\n", LINE_LIMIT_BYTES)
    except (OSError, anyio.IncompleteRead, anyio.EndOfStream, anyio.BrokenResourceError) as error:
        raise DatabaseUnavailable(f"the database did not answer: {error!r}") from error
    return _reply(line)


def ask_now(socket: Path, request: JsonObject, *, timeout_s: float | None = STARTUP_LIMIT_S) -> JsonObject:
    """`ask` for whoever has no event loop.

    Raises:
        TimeoutError: No answer within `timeout_s`.
    """
    with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        connection.connect(str(socket))
        connection.sendall(json.dumps(request).encode() + b"\n")
        line = connection.makefile("rb").readline()
    return _reply(line)


def _reply(line: bytes) -> JsonObject:
    try:
        reply = json.loads(line)
    except ValueError as error:
        raise MalformedReply(f"no JSON: {line[:80]!r}") from error
    if not isinstance(reply, dict):
        raise MalformedReply(f"no reply: {line[:80]!r}")
    return cast(JsonObject, reply)


@contextmanager
def running_database(socket: Path, database: Path) -> Iterator[None]:
    """A database process that answers at `socket`, ended on leaving."""
    script = Path(__file__).with_name("database.py")
    process = subprocess.Popen([sys.executable, str(script), "--socket", str(socket), "--db", str(database)])
    try:
        _wait_for(process, socket)
        yield
        with contextlib.suppress(OSError):
            ask_now(socket, {"op": "stop"})
        process.wait(STARTUP_LIMIT_S)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _wait_for(process: subprocess.Popen[bytes], socket: Path) -> None:
    deadline = time.monotonic() + STARTUP_LIMIT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise DatabaseUnavailable(f"the database process ended at once (exit status {process.returncode})")
        with contextlib.suppress(OSError):
            ask_now(socket, {"op": "report"}, timeout_s=1.0)
            return
        time.sleep(0.01)
    raise DatabaseUnavailable(f"no answer at {socket} within {STARTUP_LIMIT_S} s")
