"""A store that fails where a test tells it to. What Holdfast promises for crashes is proved with it, and so can your workflows be.

for at in itertools.count(1):
    store = FaultyStore(await open_store(path), at=at, act="crash")
    ...                                    # run the workflow; open the store again and let it finish
    if not store.fired:
        break                              # every write has had its crash
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Final, Literal, TypeAlias, assert_never

from ..errors import StoreFull, StoreUnavailable
from ..store import Append, Checkpoint, Claimed, NewRun, Row, RunRow, Snapshot, Store, Stream, Wait

Act: TypeAlias = Literal["kill", "stop", "crash", "unavailable", "full"]
When: TypeAlias = Literal["before", "after"]
Where: TypeAlias = int | Callable[[Append], bool] | None

WHEN: Final[tuple[When, ...]] = ("before", "after")


class FaultyStore:
    """A `Store` that fails once at a chosen write, and otherwise is the store it wraps.

    Writes are counted from 1: every new run and every append to a run or its notes. `writes` is how many there were.

    Args:
        store: The store that is wrapped. Closing is left to whoever opened it.
        at: Which write: its number, or what to look for in the request. `None`: none.
        when: Whether the write is durable when it fails: "before" it is stored, or "after", unacknowledged.
        act: What happens then.
            kill: SIGKILL of this process; for a child process.
            stop: SIGSTOP of this process; it goes on behind the write when it is continued.
            crash: The write and everything after it raises `StoreUnavailable`, as if the machine were gone. `revive` follows.
            unavailable: This write raises `StoreUnavailable`; the next ones succeed.
            full: This write raises `StoreFull`; the next ones succeed. Never stored.
    """

    def __init__(self, store: Store, *, at: Where = None, when: When = "before", act: Act = "crash") -> None:
        self.store = store
        self.at = at
        self.when = when
        self.act = act
        self.writes = 0
        self.fired = False
        self.dead = False
        self.workers: list[str] = []

    async def revive(self) -> None:
        """After a crash: the next process finds the workers of the dead one gone, and what was stored."""
        self.dead = False
        self.at = None
        for worker in self.workers:
            await self.store.retire(worker)
        self.workers = []

    # -- the writes that are counted ----------------------------------------------------------------------------------

    async def create(self, run: NewRun, first: Append, *, worker: str | None = None) -> int:
        fails = self._count(first)
        if fails and (self.when == "before" or self.act == "full"):
            self._fail()
        epoch = await self.store.create(run, first, worker=worker)
        if fails and self.when == "after":
            self._fail()
        return epoch

    async def append(self, request: Append) -> None:
        fails = self._count(request)
        if fails and (self.when == "before" or self.act == "full"):
            self._fail()
        await self.store.append(request)
        if fails and self.when == "after":
            self._fail()

    def _count(self, request: Append) -> bool:
        self._refuse_dead()
        self.writes += 1
        if self.fired or self.at is None:
            return False
        return self.writes == self.at if isinstance(self.at, int) else self.at(request)

    def _fail(self) -> None:
        self.fired = True
        match self.act:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "crash":
                self.dead = True
                self._refuse_dead()
            case "unavailable":
                raise StoreUnavailable(self.address, "an injected fault")
            case "full":
                raise StoreFull(self.address, "an injected fault")
            case _:
                assert_never(self.act)

    def _refuse_dead(self) -> None:
        if self.dead:
            raise StoreUnavailable(self.address, "an injected crash")

    # -- everything else, as the wrapped store does it ----------------------------------------------------------------

    @property
    def address(self) -> str:
        return self.store.address

    async def close(self) -> None:
        await self.store.close()

    async def redact(self, run: str, rows: Sequence[tuple[Stream, int]] | None, note: Append) -> int:
        return await self._alive().redact(run, rows, note)

    async def add_checkpoint(self, checkpoint: Checkpoint) -> None:
        await self._alive().add_checkpoint(checkpoint)

    async def register(self, worker: str, *, lease_s: float) -> None:
        await self._alive().register(worker, lease_s=lease_s)
        self.workers.append(worker)

    async def renew(self, worker: str, *, lease_s: float) -> bool:
        return await self._alive().renew(worker, lease_s=lease_s)

    async def retire(self, worker: str) -> None:
        if not self.dead:  # a dead process does not say goodbye; the one that simulates it has to leave in peace
            await self.store.retire(worker)

    async def reap(self) -> Sequence[str]:
        return await self._alive().reap()

    async def claim(
        self, worker: str, versions: Sequence[tuple[str, str]], *, now_ns: int, limit: int
    ) -> Sequence[Claimed]:
        return await self._alive().claim(worker, versions, now_ns=now_ns, limit=limit)

    async def next_wake_ns(self, versions: Sequence[tuple[str, str]]) -> int | None:
        return await self._alive().next_wake_ns(versions)

    def changed(self) -> bool:
        return self.store.changed()

    async def run(self, run: str) -> RunRow | None:
        return await self._alive().run(run)

    async def runs(
        self,
        *,
        status: Sequence[str] = (),
        workflow: str | None = None,
        parent: str | None = None,
        after: str | None = None,
        limit: int | None = None,
    ) -> Sequence[RunRow]:
        return await self._alive().runs(status=status, workflow=workflow, parent=parent, after=after, limit=limit)

    async def count(self) -> dict[str, int]:
        return await self._alive().count()

    async def rows(self, run: str, stream: Stream, *, after: int = -1) -> Sequence[Row]:
        return await self._alive().rows(run, stream, after=after)

    async def waits(self, *, id: str | None = None, kinds: Sequence[str] = ()) -> Sequence[tuple[str, Wait]]:
        return await self._alive().waits(id=id, kinds=kinds)

    async def find(self, kind: str, name: str, *, limit: int) -> Sequence[tuple[str, Row]]:
        return await self._alive().find(kind, name, limit=limit)

    async def secret(self) -> bytes:
        return await self._alive().secret()

    async def blobs(self, run: str, ids: Sequence[bytes]) -> dict[bytes, bytes]:
        return await self._alive().blobs(run, ids)

    async def shared(self, digests: Sequence[bytes]) -> dict[bytes, bytes]:
        return await self._alive().shared(digests)

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        return self.store.snapshot()

    def _alive(self) -> Store:
        self._refuse_dead()
        return self.store
