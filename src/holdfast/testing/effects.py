"""A system with effects, in a process of its own, that counts what really took place: the witness outside the store.

It serves lines of JSON on loopback, prints `{"port": N}` and ends when its standard input closes. `EffectServer` starts one and
talks to it; `perform` is what a tool calls.

    do       the effect `name` under `key` takes place, and is counted; with `dedupe` the same key is answered alike and not again
    find     what took place under a key, for a `reconcile`
    plan     what shall go wrong with the next requests for an effect
    counts   how often each effect took place, by name and key
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections import defaultdict, deque
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

Plan: TypeAlias = Literal[
    "ok", "refuse", "cut_before", "cut_after", "slow", "late", "twice", "kill_before", "kill_after"
]
"""What becomes of one request.

    refuse                    answered with an error; nothing takes place
    cut_before, cut_after     the line is cut before or after the effect, without an answer
    slow                      the effect takes place at once, the answer comes late
    late                      the effect itself takes place late
    twice                     the network delivers the request two times
    kill_before, kill_after   the process that asked is killed before or after the effect
"""

LATE_S = 0.3


class Refused(Exception):
    """The system said no: certainly nothing took place."""


class EffectServer:
    """Use as a context manager. Blocking calls, for the test that owns it."""

    def __enter__(self) -> Self:
        command = [sys.executable, "-c", f"from {__name__} import main; main()"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self.port: int = json.loads(self._process.stdout.readline())["port"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    def plan(self, name: str, plans: Iterable[Plan]) -> None:
        """The next requests for the effect `name` go like this, one after the other; then all is well again."""
        self._ask({"op": "plan", "name": name, "plans": list(plans)})

    def forget_plans(self) -> None:
        """All is well again at once."""
        self._ask({"op": "forget"})

    def counts(self) -> dict[str, dict[str, int]]:
        """How often each effect took place: by name, then by key."""
        counts: dict[str, dict[str, int]] = self._ask({"op": "counts"})
        return counts

    def total(self, name: str) -> int:
        """How often the effect `name` took place."""
        return sum(self.counts().get(name, {}).values())

    def _ask(self, request: dict[str, Any]) -> Any:  # Any: JSON
        with socket.create_connection(("127.0.0.1", self.port)) as line, line.makefile("rwb") as stream:
            stream.write(json.dumps(request).encode() + b"\n")
            stream.flush()
            return json.loads(stream.readline())["value"]


async def perform(port: int, name: str, key: str, *, dedupe: bool = False) -> int:
    """Have the effect `name` take place under `key`. Returns its number. Raises `Refused`, or `ConnectionError` (who knows)."""
    request = {"op": "do", "name": name, "key": key, "dedupe": dedupe, "pid": os.getpid()}
    number: int = await ask(port, request)
    return number


async def find(port: int, name: str, key: str) -> int | None:
    """The number of the effect that took place under `key`, if one did."""
    number: int | None = await ask(port, {"op": "find", "name": name, "key": key})
    return number


async def ask(port: int, request: dict[str, Any]) -> Any:  # Any: JSON
    """One request on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(json.dumps(request).encode() + b"\n")
        line = await reader.readline()
    finally:
        writer.close()
    if not line:
        raise ConnectionResetError(f"port {port}: the line was cut before the answer")
    answer = json.loads(line)
    if "refused" in answer:
        raise Refused(answer["refused"])
    return answer["value"]


class _System:
    def __init__(self) -> None:
        self.counts: dict[str, dict[str, int]] = defaultdict(dict)
        self.numbers: dict[tuple[str, str], int] = {}
        self.plans: dict[str, deque[Plan]] = defaultdict(deque)

    def do(self, name: str, key: str, *, dedupe: bool) -> int:
        if not (dedupe and (name, key) in self.numbers):
            self.counts[name][key] = self.counts[name].get(key, 0) + 1
            self.numbers[name, key] = sum(sum(keys.values()) for keys in self.counts.values())
        return self.numbers[name, key]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = json.loads(await reader.readline())
            answer = await self._answer(request)
            if answer is not None:
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            pass  # whoever asked is gone; its next request tells what it wants
        finally:
            writer.close()

    async def _answer(self, request: dict[str, Any]) -> dict[str, object] | None:
        match request["op"]:
            case "do":
                return await self._do(request)
            case "find":
                return {"value": self.numbers.get((request["name"], request["key"]))}
            case "plan":
                self.plans[request["name"]].extend(request["plans"])
                return {"value": None}
            case "forget":
                self.plans.clear()
                return {"value": None}
            case _:
                return {"value": self.counts}

    async def _do(self, request: dict[str, Any]) -> dict[str, object] | None:
        name, key, dedupe = request["name"], request["key"], request["dedupe"]
        planned = self.plans[name]
        plan: Plan = planned.popleft() if planned else "ok"
        match plan:
            case "refuse":
                return {"refused": f"{name} was refused"}
            case "cut_before":
                return None
            case "kill_before":
                os.kill(request["pid"], signal.SIGKILL)
                return None
            case "late":
                await asyncio.sleep(LATE_S)
            case "twice":
                self.do(name, key, dedupe=dedupe)
            case "ok" | "slow" | "cut_after" | "kill_after":
                pass
        number = self.do(name, key, dedupe=dedupe)
        if plan == "slow":
            await asyncio.sleep(LATE_S)
        if plan == "kill_after":
            os.kill(request["pid"], signal.SIGKILL)
        return None if plan in ("cut_after", "kill_after") else {"value": number}


async def _serve() -> None:
    system = _System()
    listener = await asyncio.start_server(system.serve, "127.0.0.1", 0, backlog=256)
    sys.stdout.write(json.dumps({"port": listener.sockets[0].getsockname()[1]}) + "\n")
    sys.stdout.flush()
    async with listener:
        await asyncio.to_thread(sys.stdin.buffer.read)  # whoever started it holds the other end


def main() -> None:
    asyncio.run(_serve())
