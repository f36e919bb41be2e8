"""What a test runs in a process of its own: `python -m tests.store.child MODE PATH ...`. It tells by lines on its standard output."""

import asyncio
import itertools
import os
import resource
import signal
import sys
from pathlib import Path

from holdfast.errors import SequenceConflict, StoreError
from holdfast.store import Store, Stream, open_store
from holdfast.store._schema import prepare
from tests.contracts.streams import NOW_NS, VERSIONS, Pen, new_run

LEASE_S = 60.0


def tell(*words: object) -> None:
    """One line, in the pipe before this returns: it survives a SIGKILL that comes right after."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def append_for_ever(store: Store) -> None:
    """Twenty runs, each told of after it is acknowledged."""
    await store.register("child", lease_s=LEASE_S)

    async def one(run: str) -> None:
        pen = Pen(run)
        await store.create(new_run(run), pen.append(), worker="child")
        while True:
            tell(run, pen.seq)
            await store.append(pen.append(payload=os.urandom(500), rows=1 + pen.seq % 3))

    await asyncio.gather(*(one(f"r{n}") for n in range(20)))


async def own_and_wait(store: Store) -> None:
    await store.register("child", lease_s=LEASE_S)
    pen = Pen("r")
    await store.create(new_run("r"), pen.append(), worker="child")
    tell("owns")
    await asyncio.to_thread(sys.stdin.readline)  # whoever stopped us takes the run over, then lets us go on
    try:
        await store.append(pen.append())
    except StoreError as error:
        tell(type(error).__name__)
    tell(await store.renew("child", lease_s=LEASE_S))


async def append_to_one_run(store: Store, times: int) -> None:
    """Others append to it at the same time."""
    for _ in range(times):
        while True:
            run = await store.run("shared")
            assert run is not None
            try:
                await store.append(Pen("shared", Stream.NOTES).at(run.notes_seq, run.notes_hash).append())
                break
            except SequenceConflict:
                continue
    tell("done")


async def claim_all(store: Store, worker: str) -> None:
    await store.register(worker, lease_s=LEASE_S)
    while claimed := await store.claim(worker, VERSIONS, now_ns=NOW_NS, limit=3):
        for each in claimed:
            tell(each.row.run)
    tell("done")


async def fill(store: Store) -> None:
    """Files may not grow above a megabyte."""
    pen = Pen("r")
    await store.create(new_run("r"), pen.append())
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
    try:
        while True:
            await store.append(pen.append(payload=os.urandom(20_000)))
            tell(pen.seq)
    except StoreError as error:
        tell(type(error).__name__)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    row = await store.run("r")
    assert row is not None
    await store.append(Pen("r").at(row.seq, row.hash).append())
    tell("again", row.seq + 1)


def create_for_ever(folder: Path) -> None:
    for number in itertools.count():
        prepare(folder / f"{number}.db", str(number))
        tell(number)


async def main(mode: str, path: str, *more: str) -> None:
    if mode == "create":
        create_for_ever(Path(path))
    store = await open_store(Path(path))
    try:
        if mode == "append":
            await append_for_ever(store)
        elif mode == "own":
            await own_and_wait(store)
        elif mode == "contend":
            await append_to_one_run(store, int(more[0]))
        elif mode == "claim":
            await claim_all(store, more[0])
        else:
            await fill(store)
    finally:
        await store.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
