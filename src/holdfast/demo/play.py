"""The demo itself: start the order system and a worker, kill the worker, let another resume, count, tell.

Nothing is decided for anybody: what needs a person is still waiting at the end, and the last lines say how
to go on.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.abc
import msgspec
from anyio.streams.text import TextReceiveStream
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

import holdfast as hf
from holdfast.demo import report, tell, truth, worker
from holdfast.demo.inbox import Email
from holdfast.demo.orders import OrderSystem, OrderSystemUnavailable
from holdfast.demo.tell import program_name

FAULTS = 0.2  # of the requests to the order system
KILL_AT = 0.4  # of the effects that the inbox asks for
POLL_S = 0.03
PATIENCE_S = 300.0


class DemoFailed(RuntimeError):
    """A process of the demo ended in a way that was not planned."""


@dataclass(kw_only=True)
class Stage:
    """What the demo has on its stage, and what it saw."""

    store: Path
    seed: int
    runs: int | None
    mails: list[Email]
    began_ns: int = field(default_factory=time.time_ns)
    seen: worker.Progress | None = None
    working_s: float = 0.0
    killed: int = 0

    @property
    def log(self) -> Path:
        return self.store.with_name(self.store.name + ".orders.jsonl")

    @property
    def again(self) -> str:
        """The command that goes on with this store."""
        runs = "" if self.runs is None else f" --runs {self.runs}"
        return f"{program_name()} demo --store {self.store}{runs}" + (f" --seed {self.seed}" if self.seed else "")

    @property
    def said(self) -> Path:
        """What the processes say on standard error: read when something went wrong."""
        return self.store.with_name(self.store.name + ".stderr.log")


def play(*, runs: int | None, seed: int, kill: bool, store: Path | None, as_json: bool) -> int:
    """See `holdfast.demo.run_demo`."""
    console = Console(stderr=as_json)
    if runs is not None and runs < 1:
        console.print(f"[red]--runs {runs}: at least one mail is needed")
        return 2
    path = Path(tempfile.mkdtemp(prefix="holdfast-demo-")) / "demo.db" if store is None else store
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        anyio.run(_refuse_what_is_no_store, path)
    stage = Stage(store=path, seed=seed, runs=runs, mails=truth.spread(runs, seed=seed))
    found: report.Report | None = None
    try:
        found = anyio.run(_act, stage, kill, console, as_json)
    except* DemoFailed as failed:
        console.print(f"[red]{failed.exceptions[0]}[/red]\n`{stage.again}` resumes it.")
    if found is None:
        return 1
    if as_json:
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    else:
        tell.tell(found, console)
    return 0 if found.kept_its_promises else 1


async def _refuse_what_is_no_store(path: Path) -> None:
    """Before a worker is started: raises `StoreCorrupt` and the like."""
    async with hf.open(path, worker=False):
        pass


async def _act(stage: Stage, kill: bool, console: Console, quiet: bool) -> report.Report:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", justify="left"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    async with _order_system(stage) as system:
        with Progress(*columns, console=console, disable=quiet, transient=True) as progress:
            display = _Display(progress=progress, bar=progress.add_task("opening the mail", total=len(stage.mails)))
            if not kill or await _first_worker(stage, system, display):
                await _last_worker(stage, system, display)
            display.say("reading the journal and the order system's records")
            return await report.examine(
                store=stage.store,
                system=system,
                killed=stage.killed,
                began_ns=stage.began_ns,
                again=stage.again,
                seconds=stage.working_s,
            )


@dataclass(frozen=True, kw_only=True)
class _Display:
    progress: Progress
    bar: TaskID

    def say(self, what: str) -> None:
        self.progress.update(self.bar, description=what)

    def note(self, what: str) -> None:
        """Say something that stays on the screen."""
        if not self.progress.disable:
            self.progress.console.print(what)

    def show(self, seen: worker.Progress, effects: int, pid: int) -> None:
        text = f"worker {pid}  {effects} orders placed"
        self.progress.update(self.bar, description=text, completed=min(seen.handled, seen.started))


@asynccontextmanager
async def _order_system(stage: Stage) -> AsyncIterator[OrderSystem]:
    """The order system, for as long as the block lasts."""
    command = [sys.executable, "-m", "holdfast.demo.order_system", "--log", str(stage.log)]
    command += ["--seed", str(stage.seed), "--faults", str(FAULTS)]
    async with _process(command, stage.said) as process:
        assert process.stdout is not None
        first = await anext(aiter(TextReceiveStream(process.stdout)), "")
        try:
            url = msgspec.json.decode(first, type=dict[str, str])["url"]
        except (msgspec.DecodeError, KeyError) as error:
            raise DemoFailed(f"the order system did not start; it said {first!r}") from error
        yield OrderSystem(url=url)


async def _first_worker(stage: Stage, system: OrderSystem, display: _Display) -> bool:
    """Work until a good part of the orders is placed, then die by SIGKILL without a chance to tidy up.

    Returns: Whether it died so; it has not when everything was done before.
    """
    asked = sum(truth.truth_of(mail.id).expected == "placed" for mail in stage.mails)
    before = await _effects(system)
    enough = before + max(1, round(asked * KILL_AT))
    async with _worker(stage, system) as process:
        while process.returncode is None:
            effects = await _effects(system)
            if stage.seen is not None:
                display.show(stage.seen, effects, process.pid)
            if effects >= enough:
                process.kill()
                stage.killed += 1
                display.note(
                    f"worker {process.pid} was killed with SIGKILL after {effects} orders; the next one resumes"
                )
                break
            await anyio.sleep(POLL_S)
        code = await process.wait()
    if code not in (0, -signal.SIGKILL):
        raise DemoFailed(f"the first worker ended with code {code}; {stage.said} tells more")
    return stage.killed > 0


async def _last_worker(stage: Stage, system: OrderSystem, display: _Display) -> None:
    """Work until nothing is left that can go on."""
    async with _worker(stage, system) as process:
        while process.returncode is None:
            if stage.seen is not None:
                display.show(stage.seen, await _effects(system), process.pid)
            await anyio.sleep(POLL_S)
        if process.returncode != 0:
            raise DemoFailed(f"the worker ended with code {process.returncode}; {stage.said} tells more")


@asynccontextmanager
async def _worker(stage: Stage, system: OrderSystem) -> AsyncIterator[anyio.abc.Process]:
    command = [
        sys.executable,
        "-m",
        "holdfast.demo.worker",
        "--store",
        str(stage.store),
        "--orders",
        system.url,
    ]
    command += ["--seed", str(stage.seed)]
    if stage.runs is not None:
        command += ["--runs", str(stage.runs)]
    began = time.monotonic()
    with anyio.fail_after(PATIENCE_S):
        async with _process(command, stage.said) as process, anyio.create_task_group() as tg:
            tg.start_soon(_listen, stage, process)
            yield process
            await process.wait()
            tg.cancel_scope.cancel()
    stage.working_s += time.monotonic() - began


async def _listen(stage: Stage, process: anyio.abc.Process) -> None:
    assert process.stdout is not None
    kept = ""
    async for chunk in TextReceiveStream(process.stdout):
        *lines, kept = (kept + chunk).split("\n")
        for line in lines:
            stage.seen = msgspec.json.decode(line, type=worker.Progress)


@asynccontextmanager
async def _process(command: list[str], said: Path) -> AsyncIterator[anyio.abc.Process]:
    """A child that ends when its standard input closes, and at the latest when the block does."""
    with said.open("ab") as stderr:
        process = await anyio.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr)
    try:
        yield process
    finally:
        with anyio.CancelScope(shield=True):
            if process.stdin is not None:
                with suppress(OSError, anyio.BrokenResourceError):
                    await process.stdin.aclose()
            with anyio.move_on_after(5):
                await process.wait()
            if process.returncode is None:
                process.kill()
                await process.wait()
            if process.stdout is not None:
                await process.stdout.aclose()


async def _effects(system: OrderSystem) -> int:
    with suppress(OrderSystemUnavailable):
        return (await system.counts()).effects
    return 0
