"""`holdfast audit verify | seal`: whether the record is what was written, and the seals that prove it outside."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import anyio
import anyio.to_thread
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..errors import StoreCorrupt, StoreUnavailable
from ..journal.checkpoint import BadCheckpoint, export_checkpoint, parse, seal
from ..journal.export import verify_export
from ..journal.problems import Problem, VerifyReport
from ..journal.signing import key_id, signed_by
from ..journal.verify import verify
from ..store import Checkpoint, RunRow, Snapshot, Store
from .exits import BadFile, Exit, reading_records
from .locate import opened
from .options import JsonOption, StoreOption, read_file
from .screen import Screen, reporting
from .words import count, moment, safe

SHOWN: Final = 100
_NOT_DAMAGE: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_AUTH,
    }
)  # fmt: skip
"""Why a sound file may not be readable."""

app = typer.Typer(help="Prove that the record is what was written.", no_args_is_help=True, add_completion=False)


@app.command("verify")
def verify_command(
    against: Annotated[
        Path | None,
        typer.Option("--against", metavar="FILE", help="A checkpoint that `audit seal --out` exported: the store must still hold it.",
                     show_default=False),
    ] = None,
    public_key: Annotated[
        list[Path] | None,
        typer.Option("--public-key", metavar="FILE", help="Ed25519 key (PEM) that must have signed the checkpoints. Repeatable.",
                     show_default=False),
    ] = None,
    exported: Annotated[
        Path | None,
        typer.Option("--export", metavar="FILE", help="Check this file, made by `holdfast export`, instead of a store.",
                     show_default=False),
    ] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Check every stored event, head, column, message and checkpoint. Exit code 1 when anything is not as it was written."""
    with reporting(store, as_json) as screen:
        keys = [_public(path) for path in public_key or ()]
        copy = None if against is None else read_file(against, "the checkpoint").strip()
        try:
            report = _export_report(exported, keys) if exported is not None else anyio.run(_verify, screen, keys, copy)
        except BadCheckpoint as error:
            raise BadFile(f"{against} is no exported checkpoint: {error}") from error
        screen.json(_json(report))
        _tell(screen, report, screen.location.shown if exported is None else str(exported))
    if not report.ok:
        raise typer.Exit(Exit.FINDING)


async def _verify(screen: Screen, keys: list[bytes], copy: bytes | None) -> VerifyReport:
    try:
        async with opened(screen.location) as client:
            total = 0
            with contextlib.suppress(StoreCorrupt, StoreUnavailable):
                total = sum((await client.store.count()).values())
            return await anyio.to_thread.run_sync(_audit, screen, client.store, total, keys, copy)
    except (StoreCorrupt, StoreUnavailable) as error:
        # Whatever makes a store unreadable is what an audit is there to find; a locked file is not.
        if not _is_damage(error):
            raise
        return _unreadable(error.why)
    except UnicodeDecodeError as error:  # SQLite's own message about a damaged schema quotes the damage
        return _unreadable(str(error))


def _audit(screen: Screen, store: Store, total: int, keys: list[bytes], copy: bytes | None) -> VerifyReport:
    watching = screen.err.is_terminal and not screen.as_json
    columns = (
        TextColumn("verifying"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("runs"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    display = Progress(*columns, console=screen.err, disable=not watching, transient=True)
    with display as progress, store.snapshot() as snapshot:
        watched = _Watched(snapshot, progress, total) if watching else snapshot
        try:
            return verify(watched, public_keys=keys, exported=copy)
        except (BadCheckpoint, StoreCorrupt, StoreUnavailable, ImportError, sqlite3.Error):
            raise
        except Exception as error:  # noqa: BLE001  # whatever damage made of the bytes, an audit that breaks off is not ok
            return _unreadable(f"the audit broke off: {type(error).__name__}: {error}")


class _Watched:
    """A snapshot that tells a progress bar how many runs were read."""

    def __init__(self, snapshot: Snapshot, progress: Progress, total: int) -> None:
        self._snapshot = snapshot
        self._progress = progress
        self._task = progress.add_task("", total=total)
        self.rows = snapshot.rows
        self.waits = snapshot.waits
        self.blobs = snapshot.blobs
        self.shared = snapshot.shared
        self.damage = snapshot.damage
        self.orphans = snapshot.orphans
        self.checkpoints = snapshot.checkpoints

    def runs(self) -> Iterator[RunRow]:
        for row in self._snapshot.runs():
            yield row
            self._progress.advance(self._task)


def _is_damage(error: StoreCorrupt | StoreUnavailable) -> bool:
    cause = error.__cause__
    if isinstance(error, StoreCorrupt):
        return True
    code = getattr(cause, "sqlite_errorcode", None)
    return isinstance(cause, sqlite3.Error) and code is not None and code & 0xFF not in _NOT_DAMAGE


def _unreadable(why: str) -> VerifyReport:
    problem = Problem(run="", stream=None, seq=None, damage="changed", detail=f"the store can't be read: {why}")
    return VerifyReport(ok=False, runs=0, events=0, checkpoints=0, redacted=(), problems=(problem,))


def _export_report(path: Path, keys: list[bytes]) -> VerifyReport:
    try:
        with path.open("rb") as lines:
            return verify_export(lines, public_keys=keys)
    except OSError as error:
        raise BadFile(f"{path} can't be read: {error.strerror}") from error


def _public(path: Path) -> bytes:
    pem = read_file(path, "the public key")
    try:
        signed_by(b"", bytes(64), [pem])  # reads the key
    except ImportError as error:
        raise BadFile(str(error)) from error
    except ValueError as error:
        raise BadFile(f"{path} is not an Ed25519 public key in PEM: {error}") from error
    return pem


def _json(report: VerifyReport) -> dict[str, Any]:  # Any: JSON
    return {
        "ok": report.ok, "runs": report.runs, "events": report.events, "checkpoints": report.checkpoints,
        "problems": [
            {"run": p.run or None, "stream": None if p.stream is None else p.stream.name.lower(), "seq": p.seq,
             "damage": p.damage, "detail": p.detail}
            for p in report.problems
        ],
        "omitted": report.omitted,
        "redacted": [
            {"run": r.run, "stream": r.stream.name.lower(), "first": r.first, "last": r.last} for r in report.redacted
        ],
    }  # fmt: skip


def _tell(screen: Screen, report: VerifyReport, address: str) -> None:
    read = f"{count(report.runs, 'run')}, {count(report.events, 'event')}, {count(report.checkpoints, 'checkpoint')}"
    if report.ok:
        screen.text(
            ("ok ", "bold green"), f" {read} in {safe(address)}: nothing was changed, removed, moved or cut off"
        )
    else:
        found = len(report.problems) + report.omitted
        screen.text(("NOT OK ", "bold red"), f" {count(found, 'problem')} in {safe(address)} ({read} read)")
    for problem in report.problems[:SHOWN]:
        screen.text((f"{problem.damage}  ", "red"), safe(_where(problem)), indent=2)
        screen.text(safe(problem.detail), indent=6)
    hidden = len(report.problems) - SHOWN + report.omitted
    if hidden > 0 and len(report.problems) > SHOWN:
        screen.text((f"and {hidden:,} more; --json lists the first {len(report.problems):,}", "dim"), indent=2)
    _tell_redacted(screen, report)


def _tell_redacted(screen: Screen, report: VerifyReport) -> None:
    for r in report.redacted[:SHOWN]:
        what = f"{'notes' if r.stream else 'events'} {r.first} to {r.last}" if r.last > r.first else f"event {r.first}"
        screen.text(("redacted ", "dim"), safe(f"run {r.run}, {what}: by a note, which is no damage"), indent=2)


def _where(problem: Problem) -> str:
    return str(problem).split(f": {problem.damage}: ", 1)[0]


@app.command("seal")
def seal_command(
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="FILE", help="Ed25519 private key (PEM) to sign with (`openssl genpkey -algorithm ed25519`).",
                     show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write the checkpoint here, to be kept where the store can't be written.",
                     show_default=False),
    ] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Seal all that was written since the last checkpoint. When nothing was, the last one is exported again."""
    with reporting(store, as_json) as screen:
        pem = None if key is None else read_file(key, "the key")
        try:
            if pem is not None:
                key_id(pem)  # a wrong key is said also when there is nothing to sign
        except (ValueError, TypeError, ImportError) as error:
            raise BadFile(f"can't sign with {key}: {error}. Nothing was sealed") from error
        with reading_records():
            checkpoint, fresh = anyio.run(_seal, screen, pem)
        if checkpoint is not None and out is not None:
            _write(out, export_checkpoint(checkpoint) + b"\n")
        _tell_seal(screen, checkpoint, fresh, out)


async def _seal(screen: Screen, key: bytes | None) -> tuple[Checkpoint | None, bool]:
    async with opened(screen.location) as client:
        made = await seal(client.store, now_ns=client.journal.clock.now_ns, key=key)
        if made is not None:
            return made, True

        def last() -> Checkpoint | None:
            with client.store.snapshot() as snapshot:
                return max(snapshot.checkpoints(), key=lambda checkpoint: checkpoint.number, default=None)

        return await anyio.to_thread.run_sync(last), False


def _tell_seal(screen: Screen, checkpoint: Checkpoint | None, fresh: bool, out: Path | None) -> None:
    if checkpoint is None:
        screen.json(
            {"sealed": False, "number": None, "hash": None, "at": None, "streams": 0, "key_id": None, "out": None}
        )
        screen.text("there is nothing to seal: the store is empty")
        return
    streams = len(parse(checkpoint).streams)
    written = None if out is None else str(out)
    screen.json({
        "sealed": fresh, "number": checkpoint.number, "hash": checkpoint.hash.hex(), "at": moment(checkpoint.at_ns), "streams": streams,
        "key_id": checkpoint.key_id, "out": written,
    })  # fmt: skip
    signed = f"signed by key {checkpoint.key_id}" if checkpoint.key_id else "not signed"
    if fresh:
        screen.text(("sealed ", "bold"), f"{count(streams, 'stream')} in checkpoint {checkpoint.number}, {signed}")
    else:
        screen.text(f"nothing was written since checkpoint {checkpoint.number}, {signed}")
    screen.text(("hash ", "dim"), checkpoint.hash.hex(), indent=2)
    if out is not None:
        screen.text(safe(f"written to {out}: keep it where whoever can write the store can't write"), indent=2)
    elif fresh:
        hint = "--out FILE writes a copy to be kept elsewhere; only that convicts whoever rewrites the whole store"
        screen.text((hint, "dim"), indent=2)


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise BadFile(
            f"the checkpoint is sealed, but {path} can't be written: {error.strerror}; try another --out"
        ) from error
