"""`holdfast runs`: the runs of a store, newest first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, get_args

import anyio
import anyio.to_thread
import typer
from rich.table import Table
from rich.text import Text

from ..journal import PARKED, Status
from ..runtime import App
from ..store import RunRow, Wait
from ..trust import Trust
from .load import load
from .locate import opened
from .options import JsonOption, LimitOption, LoadOption, StoreOption
from .screen import Screen, reporting
from .show import wait_json
from .words import count, duration, moment, safe

STATUSES = get_args(Status)
_STYLES = {
    "completed": "green", "failed": "bold red", "in_doubt": "bold red", "attention": "bold red", "cancelled": "yellow",
    "waiting": "cyan", "running": "bold",
}  # fmt: skip


def runs(
    status: Annotated[
        list[str] | None,
        typer.Option(
            "--status",
            metavar="STATUS",
            help=f"Only runs that are {', '.join(STATUSES)}. Repeatable.",
            show_default=False,
        ),
    ] = None,
    workflow: Annotated[
        str | None, typer.Option("--workflow", metavar="NAME", help="Only runs of this workflow.", show_default=False)
    ] = None,
    limit: LimitOption = 50,
    stranded: Annotated[
        bool, typer.Option("--stranded", help="Only unfinished runs whose version no module given with --load accepts.")
    ] = False,
    modules: LoadOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """List runs, newest first."""
    with reporting(store, as_json) as screen:
        wrong = next((s for s in status or () if s not in STATUSES), None)
        if wrong is not None:
            raise typer.BadParameter(f"--status is one of {', '.join(STATUSES)}, not {wrong!r}")
        load(modules)
        anyio.run(_runs, screen, tuple(status or ()), workflow, limit, stranded)


async def _runs(screen: Screen, status: tuple[str, ...], workflow: str | None, limit: int, stranded: bool) -> None:
    async with opened(screen.location) as app:
        if stranded:
            found = [r for r in await app.stranded() if _is(r, status, workflow)]
        else:
            found = list(await app.runs(status=status, workflow=workflow, limit=limit + 1 if limit else None))
        shown = found[:limit] if limit else found
        waits = await anyio.to_thread.run_sync(read_waits, app, shown)
        now_ns = app.journal.clock.now_ns()
        counts = await app.store.count()
    screen.json([run_json(row, waits.get(row.run, ())) for row in shown])
    _tell(screen, shown, waits, now_ns)
    if not shown:
        screen.text(
            f"no {'stranded ' if stranded else ''}run{' is like this' if status or workflow else ''} in this store"
        )
    if len(found) > len(shown):
        total = f" of {sum(counts.values()):,}" if not (status or workflow or stranded) else ""
        screen.say((f"the newest {limit}{total}, there are more: --limit N shows more, --limit 0 all of them", "dim"))
    if stranded and found and not app.registry.versions():
        screen.say(
            (
                "no workflow is loaded, so every unfinished run counts as stranded; load your code with --load MODULE",
                "yellow",
            )
        )


def _is(row: RunRow, status: tuple[str, ...], workflow: str | None) -> bool:
    return (not status or row.status in status) and (workflow is None or row.workflow == workflow)


def read_waits(app: App, rows: Sequence[RunRow]) -> dict[str, Sequence[Wait]]:
    parked = [row.run for row in rows if row.status in PARKED]
    if not parked:
        return {}
    with app.store.snapshot() as snapshot:
        return {run: snapshot.waits(run) for run in parked}


def run_json(row: RunRow, waits: Sequence[Wait]) -> dict[str, Any]:  # Any: JSON
    return {
        "run": row.run, "workflow": row.workflow, "version": row.version, "status": row.status, "outcome": row.outcome,
        "trust": trust_name(row.level), "waits": [wait_json(wait) for wait in waits], "worker": row.worker,
        "parent": row.parent, "created": moment(row.created_ns), "updated": moment(row.updated_ns),
        "events": row.seq + 1, "notes": row.notes_seq + 1,
    }  # fmt: skip


def trust_name(level: int) -> str:
    """The name of a stored trust level; whatever is none reads as the lowest."""
    return Trust(level).name if level in set(Trust) else Trust.EXTERNAL.name


def _tell(screen: Screen, rows: Sequence[RunRow], waits: dict[str, Sequence[Wait]], now_ns: int) -> None:
    if rows:
        screen.table(runs_table(rows, waits, now_ns))


def runs_table(rows: Sequence[RunRow], waits: dict[str, Sequence[Wait]], now_ns: int) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", expand=False)
    table.add_column("run", overflow="fold", min_width=8)
    table.add_column("workflow", overflow="fold")
    table.add_column("status", no_wrap=True)
    table.add_column("trust", no_wrap=True)
    table.add_column("waits for", overflow="fold")
    for name in ("age", "updated"):
        table.add_column(name, no_wrap=True, justify="right")
    for row in rows:
        age, updated = (duration(max(0, now_ns - ns) / 1e9) for ns in (row.created_ns, row.updated_ns))
        outcome = row.outcome if row.status == "completed" and row.outcome else row.status
        table.add_row(
            Text(safe(row.run), style="bold"), Text(safe(f"{row.workflow} {row.version}")),
            Text(safe(outcome), style=_STYLES.get(row.status, "")), Text(trust_name(row.level)),
            Text(_waits_text(waits.get(row.run, ()))), Text(age), Text(updated),
        )  # fmt: skip
    return table


def _waits_text(waits: Sequence[Wait]) -> str:
    names = [f"{w.kind} {w.name}" if w.kind in ("signal", "approval", "settlement") else w.kind for w in waits[:2]]
    more = [f"{len(waits) - 2} more"] if len(waits) > 2 else []
    return safe(", ".join(name if len(name) <= 48 else f"{name[:45]}..." for name in [*names, *more]))


def statuses_text(rows: Sequence[RunRow]) -> str:
    """ "3 completed, 1 waiting"."""
    by_status: dict[str, int] = {}
    for row in rows:
        by_status[row.status] = by_status.get(row.status, 0) + 1
    return ", ".join(f"{n:,} {status}" for status, n in sorted(by_status.items())) or count(0, "run")
