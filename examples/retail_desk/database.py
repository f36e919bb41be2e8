"""The shop's database as a process of its own: kills of a worker do not reach it, and it counts what it did.

    python examples/retail_desk/database.py --socket PATH --db retail_db.json.gz

One JSON object a line, each answered by one line, over a Unix socket. Standard library only.

| `op` | fields | answer |
|---|---|---|
| `call` | `session, tool, arguments, key?, fault?` | `{ok: true, result}`, or `{ok: false, kind, message}` |
| `mark` | `session, kind, what` | `{ok: true}`: something began in that session, for the report |
| `faults` | `probability, seed?, kinds?` | from now on each call fails with that probability |
| `arm` | `after, moment, write_within?` | answered when that many new model turns have begun; calls are then held |
| `release` | | the calls held are dropped, later ones are served again |
| `state` | `session` | `{digest, changes}` of that session's database |
| `report` | | all that was counted |
| `stop` | | the process ends |

Every session has its own copy of the database, made of what it changed. A write is performed once for a
key: the same key with the same arguments gets the recorded reply again, with others it is a `conflict`. A
fault is delivered `before` the effect (nothing happened) or `after` it (it did, and the client can't know).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Final, NoReturn, cast

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from retail_desk.faults import DEFAULT_FAULTS, MALFORMED, Fault, FaultKind, FaultPlan, Moment, Trap, When
from retail_desk.ledger import Delivered, Ledger, canonical
from retail_desk.records import Database, JsonObject
from retail_desk.shop import WRITES, RetailTools, load_database

LINE_LIMIT_BYTES: Final = 4 * 1024 * 1024
HANG_LIMIT_S: Final = 600.0


class _Dropped(Exception):
    """No error: the connection ends without a reply, as it was meant to."""


class DatabaseServer:
    """All sessions, what was counted about them, and the faults to deliver."""

    def __init__(self, base: Database) -> None:
        self._base = base
        self._sessions: dict[str, RetailTools] = {}
        self._turns: dict[str, int] = {}
        self._plan = FaultPlan()
        self._trap: Trap | None = None
        self.ledger = Ledger()
        self.stopped = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection's requests until it ends."""
        try:
            while line := await reader.readline():
                await self._answer(line, reader, writer)
        except (_Dropped, ConnectionError):
            pass
        except asyncio.CancelledError:
            if not self.stopped.is_set():  # else the process ends, and nobody waits for this task any more
                raise
        finally:
            writer.close()

    async def _answer(self, line: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = cast(JsonObject, json.loads(line))
            match request["op"]:
                case "call":
                    await self._call(request, reader, writer)
                case "mark":
                    await self._mark(request)
                    await _send(writer, {"ok": True})
                case "arm":
                    await self._arm(request)
                    await _send(writer, {"ok": True})
                case _:
                    await _send(writer, self._manage(request))
        except (ValueError, KeyError) as error:
            await _send(writer, {"ok": False, "kind": "protocol", "message": f"{type(error).__name__}: {error}"})

    def _manage(self, request: JsonObject) -> JsonObject:
        match request["op"]:
            case "faults":
                self._plan = FaultPlan(
                    probability=cast(float, request["probability"]),
                    kinds=cast("list[FaultKind]", request.get("kinds")) or DEFAULT_FAULTS,
                    dice=random.Random(cast(int, request.get("seed", 0))),
                )
            case "release":
                if self._trap is not None:
                    self._trap.released.set()
            case "state":
                shop = self._session(_text(request, "session"))
                return cast(JsonObject, {"ok": True, "digest": shop.digest(), "changes": shop.changes()})
            case "report":
                return {"ok": True, **asdict(self.ledger), "turns": dict(self._turns)}
            case "stop":
                self.stopped.set()
            case other:
                raise ValueError(f"unknown op {other!r}")
        return {"ok": True}

    def _session(self, session: str) -> RetailTools:
        return self._sessions.setdefault(session, RetailTools(self._base))

    async def _mark(self, request: JsonObject) -> None:
        session, kind, what = _text(request, "session"), _text(request, "kind"), _text(request, "what")
        await self._hold_any()
        self.ledger.mark(session, kind, what)
        if kind == "model" and int(what) >= self._turns.get(session, 0):  # a turn that is redone does not count
            self._turns[session] = int(what) + 1
            if self._trap is not None:
                self._trap.count()

    # -- calls, and how they fail ------------------------------------

    async def _call(self, request: JsonObject, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session, tool = _text(request, "session"), _text(request, "tool")
        arguments = canonical(cast(JsonObject, request["arguments"]))
        key = cast("str | None", request.get("key"))
        fault = self._fault(request)
        await self._hold("before", tool)
        reply = self.ledger.receive(session, tool, arguments, key)
        if reply is None and (fault is None or fault.when == "after"):
            reply = self.ledger.perform(self._session(session), session, tool, arguments, key)
        await self._hold("after", tool)
        if fault is not None:
            await self._deliver(fault, reader, writer)
            self.ledger.faults.append(Delivered(session=session, tool=tool, kind=fault.kind, when=fault.when))
            if fault.kind in ("timeout", "cut"):
                raise _Dropped
        elif reply is not None:
            await _send(writer, reply)

    def _fault(self, request: JsonObject) -> Fault | None:
        asked = cast("JsonObject | None", request.get("fault"))
        if asked is None:
            return self._plan.draw()
        return Fault(kind=cast(FaultKind, asked["kind"]), when=cast(When, asked.get("when", "before")))

    async def _deliver(self, fault: Fault, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer wrongly. Returns when that is done: after a time-out, when the client has given up."""
        match fault.kind:
            case "timeout":
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(), HANG_LIMIT_S)
                if self._trap is not None and self._trap.is_killing:
                    raise _Dropped  # the client was killed; it has met nothing
            case "error":
                await _send(writer, {"ok": False, "kind": "unavailable", "message": "overloaded, try later"})
            case "empty":
                await _send(writer, {"ok": True, "result": None})
            case "malformed":
                await _send_text(writer, self._plan.dice.choice(MALFORMED))
            case "cut":
                writer.transport.abort()

    # -- kills -------------------------------------------------------

    async def _arm(self, request: JsonObject) -> None:
        moment = cast(Moment, request.get("moment", "any"))
        after, write_within = cast(int, request["after"]), cast(int, request.get("write_within", 0))
        self._trap = Trap(turns_left=after, moment=moment, write_within=write_within)
        await self._trap.sprung.wait()

    async def _hold(self, moment: Moment, tool: str) -> None:
        """Once the trap has sprung, calls wait here: the kill finds them before or after their effect."""
        if self._trap is not None and tool in WRITES:
            self._trap.meet_write(moment)
        if self._trap is not None and self._trap.holds(moment):
            await self._wait_for_the_kill(self._trap)

    async def _hold_any(self) -> None:
        """Nothing new begins either."""
        if self._trap is not None and (self._trap.holds("before") or self._trap.holds("after")):
            await self._wait_for_the_kill(self._trap)

    async def _wait_for_the_kill(self, trap: Trap) -> NoReturn:
        await trap.released.wait()
        raise _Dropped


async def _send(writer: asyncio.StreamWriter, reply: JsonObject) -> None:
    await _send_text(writer, json.dumps(reply))


async def _send_text(writer: asyncio.StreamWriter, text: str) -> None:
    writer.write(text.encode() + b"\n")
    await writer.drain()


def _text(request: JsonObject, field_name: str) -> str:
    return cast(str, request[field_name])


async def serve(socket: Path, base: Database) -> None:
    """Serve until asked to stop. Once the socket exists, requests are answered."""
    database = DatabaseServer(base)
    server = await asyncio.start_unix_server(database.serve, path=socket, limit=LINE_LIMIT_BYTES)
    try:
        await database.stopped.wait()
    finally:
        server.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="The shop's database, one copy for each session.")
    parser.add_argument("--socket", type=Path, required=True, help="Unix socket to serve")
    parser.add_argument("--db", type=Path, required=True, help="gzipped JSON database")
    options = parser.parse_args()
    try:
        asyncio.run(serve(options.socket, load_database(options.db)))
    finally:
        options.socket.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
