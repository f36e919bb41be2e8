"""The report as people read it."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from holdfast.demo.report import Report

WORDS = {
    "completed": "placed",
    "waiting_approval": "wait for a person's approval",
    "clarify": "asked the customer back",
    "refused": "refused: not an order",
    "escalated": "handed to a person",
    "failed": "failed",
    "in_doubt": "in doubt",
    "attention": "need attention",
}


def program_name() -> str:
    """How to call the command again from this shell: its name if the shell finds it, else the path it was called by."""
    started = Path(sys.argv[0])
    found = shutil.which("holdfast")
    if started.name != "holdfast" or (found is not None and Path(found).resolve() == started.resolve()):
        return "holdfast"
    return shlex.quote(sys.argv[0])


def tell(report: Report, console: Console) -> None:
    """Print the report as a table, then how to look further."""
    console.print(_table(report))
    for line in _remarks(report):
        console.print(line)
    console.print(_further(report), soft_wrap=True, highlight=False, markup=False)


def _table(report: Report) -> Table:
    table = Table(title=f"The order desk: {report.runs} mails", show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    outcomes = sorted(report.outcomes.items(), key=lambda item: -item[1])
    table.add_row("outcomes", "\n".join(f"{n:>4}  {WORDS.get(what, what)}" for what, n in outcomes))
    effects, requests = report.effects, report.requests
    table.add_row(
        "effects",
        f"{effects.intended} intended, {effects.performed} performed, {effects.refused} refused, "
        f"{_must_be_none(effects.duplicated)} duplicated, {_must_be_none(effects.lost)} lost, "
        f"{effects.in_doubt} in doubt\n"
        f"(counted by the order system, which got {requests.received} requests and answered "
        f"{requests.answered_as_duplicates} as duplicates)",
    )
    faults = ", ".join(f"{n} {kind.replace('_', ' ')}" for kind, n in sorted(requests.faults.items()))
    table.add_row("faults delivered", faults or "none")
    table.add_row(
        "worker",
        f"killed {report.killed} time(s) with SIGKILL; {report.resumed_runs} runs in the middle were resumed",
    )
    people = report.needed_a_person
    table.add_row(
        "needed a person",
        f"{people.values} runs under [bold]values[/bold] (this desk), "
        f"{people.trajectory} under [bold]trajectory[/bold]",
    )
    table.add_row(
        "injections",
        f"{_must_be_none(report.injections_through)} of {report.injections} got through; "
        f"{report.rejected_drafts} drafts of the model were turned down by the checks",
    )
    table.add_row("orders placed", f"{report.orders.as_written} as written, {report.orders.otherwise} otherwise")
    unpriced = f", {report.calls_without_price} calls without a price" if report.calls_without_price else ""
    cost = "unknown" if report.cost_usd is None else f"{report.cost_usd:.2f} USD"
    table.add_row("model cost", f"{cost}, as its usage would be priced{unpriced}")
    table.add_row(
        "speed",
        f"{report.steps} steps in {report.seconds:.1f} s: {report.steps_per_s:,.0f} steps/s, start-up included",
    )
    verdict = "[green]verified[/green]" if report.chain_verified else "[red]DOES NOT VERIFY[/red]"
    table.add_row("chain", f"{report.events} events, {verdict}")
    table.add_row("store", escape(report.store))
    return table


def _must_be_none(number: int) -> str:
    return f"[{'green' if number == 0 else 'red bold'}]{number}[/]"


def _remarks(report: Report) -> list[str]:
    remarks = [f"[red]{escape(problem)}[/red]" for problem in report.problems[:10]]
    if report.orders.otherwise:
        mails = ", ".join(report.orders.otherwise_mails[:5])
        remarks.append(
            f"Placed otherwise than written: {mails}. The model left a line out; what it drafted was sound. "
            "Labels and checks stop what must not happen, not every misreading."
        )
    return remarks


def _further(report: Report) -> str:
    store, program = report.store, program_name()
    lines = [
        "",
        "Look further:",
        f"  {program} runs --store {store}",
        f"  {program} audit verify --store {store}",
    ]
    if report.example:
        lines += ["A run whose model obeyed an injection:", f"  {program} show {report.example} --store {store}"]
    if report.approvals_pending:  # nobody decided these: that is for whoever reads on
        lines += [
            f"{report.approvals_pending} large orders wait for you; the last command goes on with what you decide:",
            f"  {program} approvals --store {store}",
            f"  {program} approve ID --store {store}",
            f"  {report.again}",
        ]
    return "\n".join(lines)
