"""Makes the history of the present schema: `python -m tests.histories.make` in the root of the repository.

A history is a store with runs of every kind, as this version writes it. Later versions must open it, verify it, migrate it, replay what
has ended and continue what has not (`test_histories.py`). When the schema changes, its file stays as it is and a new one is made beside
it; the workflows that it needs stay too.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio

import holdfast as hf
from holdfast.errors import HoldfastError
from holdfast.journal.codec import decode_header
from holdfast.journal.records import SCHEMA, Budget
from holdfast.runtime import Registry, Workflow
from holdfast.store import Append, open_store
from holdfast.testing import FaultyStore, VirtualClock
from holdfast.trust import Trust
from tests.histories import workflows as w

HERE: Final = Path(__file__).parent
WORKER: Final = "recorder"
SOON_S: Final = 10.0
LEASE_S: Final = 1e6  # the clock jumps, and no worker shall lose its runs over it

PHASES: Final = {
    "run": ("started", "resumed", "parked", "in_doubt", "finished", "failed", "cancelled", "attention"),
    "step": ("completed", "failed", "attempt"),
    "value": ("completed",),
    "tool": ("completed", "failed", "attempt", "intent", "doubt", "settled"),
    "endorse": ("completed", "failed"),
    "timer": ("waiting", "completed"),
    "signal": ("waiting", "completed", "failed"),
    "reply": ("waiting", "completed"),
    "approval": ("waiting", "completed"),
    "subrun": ("waiting", "completed", "failed"),
    "scope": ("completed", "failed"),
    "model": ("completed", "failed", "attempt"),
    "answer": ("completed",),
    "note": (
        "signal", "reply", "approve", "deny", "settle", "cancel", "resume", "child", "redaction", "score", "review",
    ),
}  # fmt: skip
KINDS: Final = frozenset(f"{what}.{phase}" for what, phases in PHASES.items() for phase in phases)
"""Every kind of event and note there is."""


def file_of(schema: int) -> Path:
    return HERE / f"schema-{schema}.db"


def keys() -> tuple[bytes, bytes]:
    """The pair that signs the checkpoints of histories, in PEM: known to everybody, so worth nothing elsewhere."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.from_private_bytes(b"the key of the histories: no one")
    return (
        private.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()),
        private.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo),
    )


class Recorder:
    """Makes runs in one store, on a clock of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = VirtualClock()

    @asynccontextmanager
    async def app(self, registry: Registry = w.REGISTRY, *, worker: bool = True) -> AsyncIterator[hf.App]:
        """An open app. Time passes between two of them."""
        self.clock.advance(1.0)
        options: Any = {
            "registry": registry,
            "clock": self.clock,
            "worker": worker,
            "poll_s": 0.005,
            "lease_s": LEASE_S,
        }
        async with hf.open(self.path, signing_key=keys()[0], **options) as app:
            yield app

    async def start(self, app: hf.App, workflow: Any, id: str, *given: object, label: Trust = Trust.PRIMARY) -> None:
        """Start a run and wait until it ended or waits."""
        await app.start(workflow, *given, id=id, label=label, tags={"history": str(SCHEMA)})
        await app.drain()

    async def crash(self, workflow: Any, id: str, *given: object, before: Callable[[Append], bool]) -> None:
        """Start a run and let the process end before a write."""
        self.clock.advance(1.0)
        inner = await open_store(self.path)
        store = FaultyStore(inner, at=before, act="crash")
        async with hf.open(store=store, registry=w.REGISTRY, clock=self.clock, poll_s=0.005) as app:
            with contextlib.suppress(HoldfastError):
                await app.start(workflow, *given, id=id, label=Trust.PRIMARY)
            with anyio.fail_after(SOON_S):
                while not store.fired:  # noqa: ASYNC110  # a store has no event to wait for
                    await anyio.sleep(0.001)
        await inner.close()


async def make(path: Path) -> None:
    """Record every kind of event in a new store at `path`."""
    recorder = Recorder(path)
    await _ended(recorder)
    await _asked(recorder)
    await _doubted(recorder)
    await _changed(recorder)
    await _noted(recorder)
    await recorder.crash(
        w.steps, "crashed", "nothing", before=lambda a: any(r.kind == "value.completed" for r in a.rows)
    )
    async with recorder.app() as app:
        await app.drain()
    await _left_open(recorder)


async def _ended(recorder: Recorder) -> None:
    """Runs that need nobody."""
    async with recorder.app() as app:
        await recorder.start(app, w.steps, "steps", "that")
        await recorder.start(app, w.branches, "branches")
        await recorder.start(app, w.refusing, "refused")
        await recorder.start(app, w.escalating, "escalated")
        await recorder.start(app, w.failing, "failed", "this", label=Trust.EXTERNAL)
        await app.start(w.steps, "too much", id="over-budget", budget=Budget(steps=2))
        await app.drain()
        await app.fork("steps", at="2", id="fork")
        await app.drain()


async def _asked(recorder: Recorder) -> None:
    """Runs that wait: for a time, for other runs, for people."""
    async with recorder.app() as app:
        await recorder.start(app, w.waits, "waits")
        recorder.clock.advance(61.0)
        await app.drain()
        await app.run("waits").signal("go", "on your marks", key="first")
        await app.drain()
        recorder.clock.advance(31.0)
        await app.drain()
        await app.run("waits").reply("on we go")
        await app.drain()
        await _decide(app, approve=True)
        await recorder.start(app, w.tools, "tools", "pump", label=Trust.EXTERNAL)
        await _decide(app, approve=True)
        await _decide(app, approve=False)
        await recorder.start(app, w.drafting, "drafted", "two of A1, please", label=Trust.EXTERNAL)
        await app.run("drafted").reply("piece", label=Trust.UNVERIFIED)
        await app.drain()
        await recorder.start(app, w.parent, "parent")
        await app.run("parent/1").signal("go", "said the parent")
        await app.drain()
        await recorder.start(app, w.waits, "cancelled")
        await app.run("cancelled").cancel("it takes too long", by="a person")
        await app.drain()


async def _decide(app: hf.App, *, approve: bool) -> None:
    """Decide what waits first."""
    (_, wait), *_ = await app.approvals(kinds=("approval",))
    await (app.approve if approve else app.deny)(wait.id, by="a person", why="so that both are here")
    await app.drain()


async def _doubted(recorder: Recorder) -> None:
    """Effects that nobody knows about, and what a person said of them."""
    async with recorder.app() as app:
        for verdict in ("happened", "retry", "give-up"):
            letter = f"letter {verdict}"
            w.broken.add(letter)
            await recorder.start(app, w.doubtful, f"doubt-{verdict}", letter)
            w.broken.discard(letter)
            recorder.clock.advance(6.0)
            ((_, wait),) = await app.approvals(kinds=("settlement",))
            result = "posted it seems" if verdict == "happened" else None
            await app.settle(wait.id, verdict, result=result, by="a person", why="I looked")
            await app.drain()


async def _changed(recorder: Recorder) -> None:
    """A run under which the code changed, and changed back."""

    async def changing(number: int) -> str:
        return await w.unsteady([number])

    other = Registry()
    other.add(
        Workflow(
            changing, name="changing", version="1", accepts=(), success="", budget=Budget()
        )  # the name is the same
    )
    for id in ("changed", "parked-attention"):
        async with recorder.app() as app:
            await recorder.start(app, w.changing, id, 4)
        async with recorder.app(other) as app:
            await app.run(id).signal("go")
            await app.drain()
    async with recorder.app() as app:
        await app.resume("changed", by="a person")
        await app.drain()


async def _noted(recorder: Recorder) -> None:
    """Runs that were looked at afterwards, and one that was redacted."""
    async with recorder.app() as app:
        await app.note(
            "steps", "score", name="kindness", value=0.0, by="a judge, version 3", why="it said nothing kind"
        )
        await app.note("steps", "review", name="kindness", value="agreed", by="a person")
        await recorder.start(app, w.failing, "redacted", "what must not be known", label=Trust.EXTERNAL)
        await app.redact("redacted", by="a person", why="asked to")
        await app.seal()


async def _left_open(recorder: Recorder) -> None:
    """Runs that a later version has to bring to their end."""
    w.broken.add("letter of doubt")
    async with recorder.app() as app:
        await recorder.start(app, w.waits, "parked-timer")
        await recorder.start(app, w.changing, "parked-signal", 5)
        await recorder.start(app, w.drafting, "parked-reply", "two of A1, please", label=Trust.EXTERNAL)
        await recorder.start(app, w.doubtful, "parked-approval", "a letter", label=Trust.EXTERNAL)
        await recorder.start(app, w.doubtful, "parked-doubt", "letter of doubt")
        await recorder.start(app, w.parent, "parked-parent")
    w.broken.discard("letter of doubt")
    # The intent is durable, and whether the effect was issued nobody knows.
    await recorder.crash(w.keyed, "open-intent", "A1", before=lambda a: any(r.kind == "tool.completed" for r in a.rows))
    store = await open_store(recorder.path)
    await store.reap()
    await store.close()
    async with recorder.app(worker=False) as client:
        await client.start(w.steps, "later", id="pending", label=Trust.PRIMARY)


def pack(path: Path) -> None:
    """The same content in smaller pages: most tables are nearly empty."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in ("journal_mode = DELETE", "page_size = 1024", "secure_delete = ON"):
            connection.execute(f"PRAGMA {statement}")
        connection.execute("VACUUM")
        connection.execute("PRAGMA journal_mode = WAL")


def kinds_in(path: Path) -> set[str]:
    with reading(path) as connection:
        return {decode_header(header).kind for (header,) in connection.execute("SELECT header FROM events")}


@contextlib.contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Look into a history without leaving a file beside it."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as connection:
        yield connection


def main() -> None:
    socket.gethostname = lambda: WORKER  # a worker is named after its host, and the name is recorded
    logging.disable(logging.CRITICAL)  # it says that stores crash and runs fail, as they shall
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made.db"
        anyio.run(make, made)
        missing = KINDS - kinds_in(made)
        if missing:
            raise SystemExit(f"no run has {', '.join(sorted(missing))}; nothing was written")
        pack(made)
        file_of(SCHEMA).write_bytes(made.read_bytes())


if __name__ == "__main__":
    main()
