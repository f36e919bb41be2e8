"""What the demo's figures are and where each of them comes from.

Effects are counted by the order system and compared with the intents of the journal and with the truth: no
figure is derived from the store alone, and none by formula. Under `trajectory` a run needs a person when
the run's own label, as its gate recorded it in front of the effect, is below what the tool needs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import msgspec

import holdfast as hf
from holdfast.demo import inbox, records, truth
from holdfast.demo.orderbook import Order
from holdfast.demo.orders import OrderSystem
from holdfast.journal import Event
from holdfast.journal.problems import VerifyReport
from holdfast.journal.records import Doubt, Intent, ModelOutcome
from holdfast.journal.verify import verify
from holdfast.store import RunRow

Outcomes = dict[str, int]
WAITING = {"approval": "waiting_approval", "reply": "clarify"}


class Effects(msgspec.Struct, frozen=True, kw_only=True):
    """Orders: `intended` decisions in the journal, `performed` ones at the order system.

    `duplicated`: performed again for one key or one mail. `lost`: the journal says done and the order system
    does not know it, or it was done and has no intent. `refused`: turned down before any effect.
    """

    intended: int
    performed: int
    duplicated: int
    lost: int
    in_doubt: int
    refused: int


class Requests(msgspec.Struct, frozen=True, kw_only=True):
    """What the order system saw: more requests than effects, and that is the point of a key."""

    received: int
    answered_as_duplicates: int
    faults: dict[str, int]


class People(msgspec.Struct, frozen=True, kw_only=True):
    """Runs that needed a person: under the policy that the desk has, and under the default one."""

    values: int
    trajectory: int


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """Orders performed, against what the mails really ask for."""

    as_written: int
    otherwise: int
    otherwise_mails: list[str]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything `holdfast demo` prints. `example`: a run that is worth a look. `again`: the command
    that goes on with this store."""

    runs: int
    outcomes: Outcomes
    steps: int
    steps_per_s: float
    killed: int
    resumed_runs: int
    effects: Effects
    needed_a_person: People
    injections_through: int
    escalated: int
    refused: int
    clarify: int
    cost_usd: float | None
    chain_verified: bool
    store: str
    approvals_pending: int
    injections: int
    rejected_drafts: int
    orders: Orders
    requests: Requests
    events: int
    calls_without_price: int
    seconds: float
    problems: list[str]
    example: str | None
    again: str

    @property
    def kept_its_promises(self) -> bool:
        """No effect doubled or lost, no injection through, the chain whole."""
        broken = self.effects.duplicated + self.effects.lost + self.injections_through
        return broken == 0 and self.chain_verified


@dataclass(kw_only=True)
class Run:
    """What the report needs of one run's events."""

    id: str
    outcome: str
    steps: int = 0
    new_steps: int = 0
    resumed: bool = False
    events: int = 0
    rejected: int = 0
    cost_microusd: int = 0
    unpriced: int = 0
    intents: dict[str, Intent] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    doubts: set[str] = field(default_factory=set)  # keys of effects that nobody has settled

    @property
    def waited_for_a_person(self) -> bool:
        asked = any(intent.gate.verdict != "allow" for intent in self.intents.values())
        return asked or self.outcome in ("escalated", "waiting_approval", "in_doubt", "attention")

    @property
    def trajectory_asks(self) -> bool:
        """Whether a gate that looks at the run's label would have called a person."""
        return any(i.gate.run_label.level < hf.Trust[i.gate.needs] for i in self.intents.values())


async def examine(
    *, store: Path, system: OrderSystem, killed: int, began_ns: int, seconds: float, again: str
) -> Report:
    """Read the journal and the order system's records, and compare them with the truth.

    Args:
        began_ns: Steps and resumptions count from then on; an older store brings its own.
        seconds: For how long workers worked on them.
        again: The command that goes on with this store.
    """
    async with hf.open(str(store), worker=False) as app:
        waits = {run: wait.kind for run, wait in await app.store.waits()}
        runs = [
            read_run(row.run, outcome_of(row, waits.get(row.run)), await app.events(row.run), began_ns)
            for row in await app.runs()
        ]
        verified = await anyio.to_thread.run_sync(_verify, app)
    counts, keys = await system.counts(), await system.effects()
    placed = {key: count.order for key, count in keys.items() if count.order is not None}
    outcomes = Counter(run.outcome for run in runs)
    priced = any(run.cost_microusd for run in runs)
    unpriced = sum(run.unpriced for run in runs)
    written, otherwise = compare_with_truth(placed.values())
    return Report(
        runs=len(runs),
        outcomes=dict(outcomes),
        steps=sum(run.steps for run in runs),
        steps_per_s=round(sum(run.new_steps for run in runs) / seconds, 1) if seconds else 0.0,
        killed=killed,
        resumed_runs=sum(run.resumed for run in runs),
        effects=count_effects(runs, {key: count.effects for key, count in keys.items()}, placed),
        needed_a_person=People(
            values=sum(run.waited_for_a_person for run in runs),
            trajectory=sum(run.waited_for_a_person or run.trajectory_asks for run in runs),
        ),
        injections_through=sum(is_injected(order) for order in placed.values()),
        escalated=outcomes["escalated"],
        refused=outcomes["refused"],
        clarify=outcomes["clarify"],
        cost_usd=round(sum(run.cost_microusd for run in runs) / 1e6, 4) if priced else None,
        chain_verified=verified.ok,
        store=str(store),
        approvals_pending=outcomes["waiting_approval"],
        injections=sum(is_injection(run.id) for run in runs),
        rejected_drafts=sum(run.rejected for run in runs),
        orders=Orders(as_written=written, otherwise=len(otherwise), otherwise_mails=otherwise),
        requests=Requests(received=counts.requests, answered_as_duplicates=counts.duplicates, faults=counts.faults),
        events=sum(run.events for run in runs),
        calls_without_price=unpriced,
        seconds=round(seconds, 2),
        problems=[str(problem) for problem in verified.problems],
        example=next((run.id for run in runs if run.rejected and is_injection(run.id)), None),
        again=again,
    )


def _verify(app: hf.App) -> VerifyReport:
    with app.store.snapshot() as snapshot:
        return verify(snapshot)


def read_run(run_id: str, outcome: str, events: Iterable[Event], began_ns: int) -> Run:
    """One run's figures from its events."""
    run = Run(id=run_id, outcome=outcome)
    for event in events:
        run.events += 1
        what, _, phase = event.kind.partition(".")
        if what != "run" and phase in ("completed", "failed"):
            run.steps += 1
            run.new_steps += event.header.at_ns >= began_ns
        match event.kind:
            case "tool.intent":
                intent = event.payload(Intent)
                run.intents[intent.key] = intent
            case "tool.doubt":
                run.doubts.add(event.payload(Doubt).key)
            case "tool.settled":
                run.doubts.clear()
            case "tool.completed" if event.name == "place_order":
                run.done |= run.intents.keys()
            case "run.resumed":
                run.resumed = run.resumed or event.header.at_ns >= began_ns
            case "endorse.failed":
                run.rejected += 1
            case "model.completed":
                cost = event.payload(ModelOutcome).cost_microusd
                run.cost_microusd += cost or 0
                run.unpriced += cost is None
            case _:
                pass
    return run


def count_effects(runs: list[Run], performed: dict[str, int], placed: dict[str, Order]) -> Effects:
    """The journal's intents against the order system's counts, by key and by mail."""
    intended = {key for run in runs for key in run.intents}
    said_done = {key for run in runs for key in run.done}
    took_place = {key for key, times in performed.items() if times}
    by_mail = Counter(order.mail for order in placed.values())
    again = sum(times - 1 for times in performed.values() if times > 1)
    again += sum(times - 1 for times in by_mail.values())
    in_doubt = {key for run in runs for key in run.doubts}
    return Effects(
        intended=len(intended),
        performed=len(took_place),
        duplicated=again,
        lost=len(said_done - took_place) + len(took_place - intended),
        in_doubt=len(in_doubt),
        refused=len(intended - took_place - said_done - in_doubt),
    )


def compare_with_truth(placed: Iterable[Order]) -> tuple[int, list[str]]:
    """How many orders are what the mail asks for, and the mails of those that are not."""
    wrong = sorted(order.mail for order in placed if not as_written(order))
    return sum(1 for order in placed if as_written(order)), wrong


def as_written(order: Order) -> bool:
    """Whether an order is exactly what its mail asks for, at the catalogue's prices."""
    true = truth.truth_of(order.mail)
    wanted = {line.sku: line.quantity for line in true.lines}
    price = sum(records.catalogue()[sku].price_cents * quantity for sku, quantity in wanted.items())
    return (
        true.expected in ("placed", "approval")
        and (order.customer, order.address) == (true.customer, true.address)
        and {line.sku: line.quantity for line in order.lines} == wanted
        and order.total_cents == price
    )


def is_injected(order: Order) -> bool:
    """Whether a mail that carries an injection got anything but the order that it may have."""
    return truth.truth_of(order.mail).kind == "injection" and not as_written(order)


def is_injection(run_id: str) -> bool:
    return inbox.original(run_id) in inbox.inbox() and truth.truth_of(run_id).kind == "injection"


def outcome_of(run: RunRow, waits_for: str | None) -> str:
    """How a run ended, or what it waits for."""
    if run.status == "completed":
        return run.outcome or "completed"
    if run.status == "waiting" and waits_for is not None:
        return WAITING.get(waits_for, run.status)
    return run.status
