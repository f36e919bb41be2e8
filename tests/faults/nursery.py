"""A process that forks children to be killed: `python nursery.py`, one JSON request a line, one JSON answer a line.

Importing takes longer than a run, so it is done once here; a fork costs milliseconds. No loop and no thread runs in this process
itself, so that forking is safe. What a child has to say (acknowledged writes, bodies that ran, its answer) goes through a pipe in
single writes: a SIGKILL loses none of it.

    {"do": "work", "db":, "workflow":, "id":, "input":, ...}   a worker on the store; see `Work`
    {"do": "continue", "pid":}                                 SIGCONT a child that was stopped, and wait for it
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any

import anyio
import msgspec

import holdfast as hf
from holdfast.errors import HoldfastError, RunNeedsAttention
from holdfast.journal.codec import decode_header
from holdfast.runtime.clock import SystemClock
from holdfast.store import Append, NewRun, open_store
from holdfast.testing.faults import Act, FaultyStore, When
from holdfast.trust import Trust

HUNG_S = 30.0
log = logging.getLogger("nursery")


class Work(msgspec.Struct, kw_only=True):
    """What a child does: start the runs (as a client would again after a crash), drive them, and say how each ended.

    `input`: of every run; "{id}" stands for its id.
    `at`, `when`, `act`: the write that the child does not survive. `kill_after_s`: when the nursery kills it from outside.
    `wait_s`: how long it waits for an answer. `later_s`: how far its wall clock is ahead.
    """

    do: str
    db: str
    workflow: str
    ids: list[str]
    input: list[Any] = []
    label: int = 0
    at: int | None = None
    when: When = "before"
    act: Act = "kill"
    lease_s: float = 10.0
    kill_after_s: float | None = None
    wait_s: float = 6.0
    later_s: float = 0.0


_PIPES: list[int] = []
"""In a child: where it says things. Empty elsewhere."""


def say(what: str, **fields: object) -> None:
    """One line to whoever counts, in one write. Nothing when the code runs elsewhere than in a child of the nursery."""
    for pipe in _PIPES:
        os.write(pipe, json.dumps({"what": what, **fields}).encode() + b"\n")


class AcknowledgingStore(FaultyStore):
    """Tells which writes were acknowledged to the runtime."""

    async def create(self, run: NewRun, first: Append, *, worker: str | None = None) -> int:
        epoch = await super().create(run, first, worker=worker)
        self._acknowledged(first)
        return epoch

    async def append(self, request: Append) -> None:
        await super().append(request)
        self._acknowledged(request)

    def _acknowledged(self, request: Append) -> None:
        for row in request.rows:
            path = decode_header(row.header).path
            place = {"run": request.run, "stream": int(request.stream), "seq": row.seq, "hash": row.hash.hex()}
            say("acknowledged", kind=row.kind, path=path, **place)


class LaterClock(SystemClock):
    def __init__(self, later_s: float) -> None:
        self._later_ns = round(later_s * 1e9)

    def now_ns(self) -> int:
        return super().now_ns() + self._later_ns


async def _work(work: Work) -> None:
    inner = await open_store(work.db)
    store = AcknowledgingStore(inner, at=work.at, when=work.when, act=work.act)
    workflow = hf.runtime.REGISTRY.named(work.workflow)
    async with (
        hf.open(store=store, clock=LaterClock(work.later_s), lease_s=work.lease_s, poll_s=0.02) as app,
        anyio.create_task_group() as group,
    ):

        async def one(id: str) -> None:
            given = [id if part == "{id}" else part for part in work.input]
            run = await app.start(workflow, *given, id=id, label=Trust(work.label))
            try:
                answer = await run.result(timeout_s=work.wait_s)
            except RunNeedsAttention as attention:
                waits = [wait.id for _, wait in await app.approvals()]
                say("waits", run=id, status=(await run.status()).status, why=str(attention), ids=waits)
            except HoldfastError as error:
                say("error", run=id, type=type(error).__name__, why=str(error))
            else:
                say("answer", run=id, answer=json.loads(workflow.answer.encode(answer)))

        for id in work.ids:
            group.start_soon(one, id)
    await inner.close()


def _child(work: Work) -> None:
    anyio.run(_work, work)


class Nursery:
    """Forks, listens, reports."""

    def __init__(self) -> None:
        self.pipes: dict[int, int] = {}

    def work(self, work: Work) -> dict[str, object]:
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            _PIPES.append(writing)
            try:
                _child(work)
            except BaseException as error:  # the report must leave the process, whatever it is
                log.exception("a child of the nursery failed")
                say("failed", why=repr(error))
                os._exit(1)
            os._exit(0)
        os.close(writing)
        self.pipes[pid] = reading
        return self.listen(pid, kill_after_s=work.kill_after_s)

    def go_on(self, pid: int) -> dict[str, object]:
        os.kill(pid, signal.SIGCONT)
        return self.listen(pid)

    def listen(self, pid: int, *, kill_after_s: float | None = None) -> dict[str, object]:
        """Read what a child says until it ends or is stopped."""
        began, data, end = time.monotonic(), b"", ""
        while not end:
            if select.select([self.pipes[pid]], [], [], 0.005)[0]:
                data += os.read(self.pipes[pid], 1 << 20)
            end = self._end_of(pid)
            elapsed_s = time.monotonic() - began
            if not end and (elapsed_s > HUNG_S or (kill_after_s is not None and elapsed_s >= kill_after_s)):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                end = "hung" if elapsed_s > HUNG_S else "killed"
        if end != "stopped":
            while chunk := os.read(self.pipes[pid], 1 << 20):
                data += chunk
            os.close(self.pipes.pop(pid))
        return {"pid": pid, "end": end, "said": [json.loads(line) for line in data.splitlines()]}

    def _end_of(self, pid: int) -> str:
        done, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
        if not done:
            return ""
        if os.WIFSTOPPED(status):
            return "stopped"
        if os.WIFSIGNALED(status):
            return "killed" if os.WTERMSIG(status) == signal.SIGKILL else f"signal {os.WTERMSIG(status)}"
        return "done" if os.WEXITSTATUS(status) == 0 else f"exit {os.WEXITSTATUS(status)}"


def main() -> None:
    for module in sys.argv[1:]:  # the files that declare the workflows
        spec = importlib.util.spec_from_file_location(Path(module).stem, module)
        assert spec is not None
        assert spec.loader is not None
        loaded = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = loaded
        spec.loader.exec_module(loaded)
        loaded.say = say  # type: ignore[attr-defined]  # this very module runs as __main__
    nursery = Nursery()
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "continue":
            report = nursery.go_on(request["pid"])
        else:
            report = nursery.work(msgspec.convert(request, Work))
        sys.stdout.write(json.dumps(report) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
