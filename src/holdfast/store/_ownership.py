"""Workers, leases and claims: what decides who may write to a run. Everything here runs inside the writer's transaction."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import StoreUnavailable
from ._batch import Batch
from ._bulk import Bulk, Scalar
from ._lease import WorkerLocks, boot_id, boot_ns
from ._packed import Packed

_NS = 1_000_000_000

_DUE = Packed(
    "no, taken_from, wake_ns",
    "(SELECT no, taken_from, wake_ns FROM runs WHERE worker IS NULL AND wake_ns IS NOT NULL AND workflow = ? AND version = ? "
    "AND wake_ns <= ? ORDER BY wake_ns LIMIT ?)",
)
_OWN = Bulk(
    "UPDATE runs SET worker = v.column2, status = 'running', taken_from = NULL, wake_ns = NULL FROM {values} v WHERE runs.no = v.column1",
    2,
)
_BUMP = Bulk("UPDATE heads SET epoch = epoch + 1 WHERE no IN {values}", 1)
_EPOCHS = Packed("h.no, h.epoch, r.run", "heads h JOIN runs r ON r.no = h.no WHERE h.no IN {values}", width=1)
_OWNED = Packed("no", "runs WHERE worker = ?")
_LET_GO = Bulk(
    "UPDATE runs SET worker = NULL, status = 'pending', wake_ns = 0, taken_from = v.column2 FROM {values} v WHERE runs.no = v.column1",
    2,
)

_GIVE_BACK = Bulk(
    "UPDATE runs SET worker = NULL, status = 'pending', wake_ns = v.column5, taken_from = v.column4 FROM {values} v, heads h "
    "WHERE runs.no = v.column1 AND h.no = v.column1 AND h.epoch = v.column2 AND runs.worker = v.column3",
    5,
)


@dataclass(frozen=True, slots=True)
class Taken:
    """A run that was just claimed: which, under which epoch, and from whom."""

    no: int
    run: str
    epoch: int
    taken_from: str | None


def register(batch: Batch, locks: WorkerLocks, worker: str, lease_s: float, address: str) -> None:
    try:
        locks.hold(worker)
    except OSError as error:
        raise StoreUnavailable(address, f"the lock of worker {worker} can't be taken: {error.strerror}") from error
    batch.connection.execute(
        "INSERT OR REPLACE INTO workers VALUES (?, ?, ?, ?)",
        (worker, boot_id(), _lease_end(lease_s), os.getpid()),
    )


def renew(batch: Batch, locks: WorkerLocks, worker: str, lease_s: float) -> bool:
    done = batch.connection.execute("UPDATE workers SET lease_ns = ? WHERE worker = ?", (_lease_end(lease_s), worker))
    if done.rowcount:
        return True
    locks.remove(worker)
    return False


def retire(batch: Batch, worker: str) -> None:
    batch.connection.execute("DELETE FROM workers WHERE worker = ?", (worker,))
    _release(batch, worker, None)


def reap(batch: Batch, locks: WorkerLocks) -> list[str]:
    """The dead: whose lease is over, whose lock is free, and owners of runs who are not registered at all."""
    boot, now = boot_id(), boot_ns()
    dead: list[str] = []
    for worker, its_boot, lease_ns in batch.connection.execute("SELECT worker, boot, lease_ns FROM workers").fetchall():
        if its_boot != boot or lease_ns <= now or locks.is_free(worker):
            dead.append(worker)
    for worker in dead:
        batch.connection.execute("DELETE FROM workers WHERE worker = ?", (worker,))
    unknown = "SELECT DISTINCT worker FROM runs WHERE worker IS NOT NULL AND worker NOT IN (SELECT worker FROM workers)"
    for (worker,) in batch.connection.execute(unknown).fetchall():
        _release(batch, worker, worker)
        if worker not in dead:
            dead.append(worker)
    return dead


def claim(batch: Batch, worker: str, versions: Sequence[tuple[str, str]], now_ns: int, limit: int) -> list[Taken]:
    """Runs that are due, the longest due first. An unregistered worker gets none: it would never be missed."""
    connection = batch.connection
    if connection.execute("SELECT 1 FROM workers WHERE worker = ?", (worker,)).fetchone() is None:
        return []
    due: list[tuple[int, int, str | None]] = []
    for workflow, version in dict.fromkeys(versions):
        for no, taken_from, wake_ns in _DUE.fetch(connection, (workflow, version, now_ns, limit)):
            due.append((wake_ns, no, taken_from))
    due.sort(key=lambda run: run[:2])
    due = due[:limit]
    if not due:
        return []
    owned: list[Scalar] = []
    for _, no, _ in due:
        owned += (no, worker)
    _OWN.run(connection, owned)
    new = _raise_epochs(batch, [no for _, no, _ in due])
    return [Taken(no, *new[no], taken_from) for _, no, taken_from in due if no in new]


def give_back(batch: Batch, taken: Sequence[Taken], worker: str, *, wake_ns: int | None = 0) -> None:
    """Undo a claim that its caller never saw, or the runs would stay with a worker that does not know of them."""
    flat: list[Scalar] = []
    for each in taken:
        flat += (each.no, each.epoch, worker, each.taken_from, wake_ns)
    _GIVE_BACK.run(batch.connection, flat)


def _release(batch: Batch, worker: str, taken_from: str | None) -> None:
    owned = _OWNED.fetch(batch.connection, (worker,))
    if owned:
        flat: list[Scalar] = []
        for (no,) in owned:
            flat += (no, taken_from)
        _LET_GO.run(batch.connection, flat)
        _raise_epochs(batch, [no for (no,) in owned])


def _raise_epochs(batch: Batch, numbers: Sequence[int]) -> dict[int, tuple[str, int]]:
    """From here on the former owners can't write. Returns the names and new epochs."""
    _BUMP.run(batch.connection, list(numbers))
    new: dict[int, tuple[str, int]] = {}
    for no, epoch, run in _EPOCHS.fetch_for(batch.connection, list(numbers)):
        new[no] = run, epoch
        batch.heads.set_epoch(run, epoch)
    return new


def _lease_end(lease_s: float) -> int:
    return boot_ns() + int(lease_s * _NS)
