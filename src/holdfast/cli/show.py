"""`holdfast show RUN`: what somebody needs who is woken at night, then every event."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Annotated, Any

import anyio
import msgspec
import typer

from ..journal.records import Finished, RunEnded, Started, Waiting
from ..runtime import App
from ..store import Wait
from ..trust import Label
from .asked import label_json, label_text, read_asked
from .locate import opened
from .options import JsonOption, RunArgument, StoreOption
from .record import Recorded, RunRecord, read_record
from .screen import Screen, reporting
from .timeline import UNREADABLE, Entry, Line, describe, label_change, plain_answer, style_of
from .transcript import Turn, brief_reply, message_texts
from .words import brief, clock_time, count, duration, moment, money, offset, safe, safe_lines, shortened, to_json

INDENT = 22
MEANS = {
    "pending": "not begun", "running": "a worker has it", "waiting": "parked: nothing runs until what it waits for comes",
    "in_doubt": "parked: an effect was issued, nobody knows whether it took place, and a person must say",
    "attention": "parked: the code or the record needs a person",
}  # fmt: skip
_STYLES = {
    "completed": "green",
    "failed": "red",
    "in_doubt": "red",
    "attention": "red",
    "waiting": "cyan",
    "cancelled": "yellow",
}


def show(run: RunArgument, full: Annotated[bool, typer.Option("--full", help="Everything in full, with all messages.")] = False,
         store: StoreOption = None, as_json: JsonOption = False) -> None:  # fmt: skip
    """Show one run: where it stands, what to do, and every event with what it saw and did."""
    with reporting(store, as_json) as screen:
        anyio.run(_show, screen, run, full)


async def _show(screen: Screen, run: str, full: bool) -> None:
    async with opened(screen.location) as app:
        record = await read_record(app, run, messages=full or not screen.as_json, asked=full)
        children = [row.run for row in await app.store.runs(parent=run)]
        now_ns = app.journal.clock.now_ns()
        decisions = await _decisions(app, record)
    screen.json(_json(record, children, full=full))
    if screen.as_json:
        return
    _header(screen, record, children, now_ns)
    _to_do(screen, record, decisions, now_ns)
    _events(screen, record, full=full)


def _json(record: RunRecord, children: list[str], *, full: bool) -> dict[str, Any]:  # Any: JSON
    row = record.row
    return {
        "run": row.run, "workflow": row.workflow, "version": row.version, "status": row.status, "outcome": row.outcome,
        "label": label_json(record.label), "created": moment(row.created_ns), "updated": moment(row.updated_ns),
        "worker": row.worker, "epoch": row.epoch, "parent": row.parent, "children": children, "origin": row.origin,
        "redacted": row.secret is None, "waits": [wait_json(wait) for wait in record.waits],
        "spent": _spent_json(record), "events": [event.json(full=full) for event in record.events],
        "notes": [note.json(full=full) for note in record.notes],
    }  # fmt: skip


def wait_json(wait: Wait) -> dict[str, Any]:  # Any: JSON
    due = None if wait.due_ns is None else moment(wait.due_ns)
    return {"id": wait.id, "kind": wait.kind, "name": wait.name, "path": wait.path, "due": due}


def _spent_json(record: RunRecord) -> dict[str, Any]:  # Any: JSON
    spent = record.spent
    return {
        "model_calls": spent.calls, "cost_usd": spent.microusd / 1e6, "calls_of_unknown_cost": spent.unpriced,
        "input_tokens": spent.input_tokens, "output_tokens": spent.output_tokens, "calls_of_unknown_tokens": spent.uncounted,
    }  # fmt: skip


async def _decisions(app: App, record: RunRecord) -> dict[str, str]:
    """What was decided already about what the run waits for, by id: the run has only not taken it up yet."""
    from .asked import decided, decision_text

    notes = [note.event for note in record.notes if note.event is not None and note.damage is None]
    found = {}
    for wait in record.waits:
        note = decided(notes, wait.id, _asked_at(record, wait))
        if note is not None:
            found[wait.id] = decision_text(note)
    return found


def _asked_at(record: RunRecord, wait: Wait) -> int:
    asked = _question(record, wait)
    return 0 if asked is None else asked.row.at_ns


def _question(record: RunRecord, wait: Wait) -> Recorded | None:
    kinds = (f"{wait.kind}.waiting", "tool.doubt")
    found = (
        r for r in reversed(record.events) if r.event is not None and r.event.path == wait.path and r.row.kind in kinds
    )
    return next(found, None)


# -- where it stands --------------------------------------------------------------------------------------------------


def _header(screen: Screen, record: RunRecord, children: list[str], now_ns: int) -> None:
    row = record.row
    screen.text((safe(row.run), "bold"), ("  ", ""), safe(f"{row.workflow} version {row.version}"))
    for word, text, style in _facts(record, children, now_ns):
        screen.text((f"{word:<10}", "dim"), (text, style), indent=2, hang=10)
    screen.text()


def _facts(record: RunRecord, children: list[str], now_ns: int) -> Iterator[tuple[str, str, str]]:
    row = record.row
    outcome = f", {row.outcome}" if row.outcome and row.outcome != row.status else ""
    means = f" ({MEANS[row.status]})" if row.status in MEANS else ""
    yield "status", safe(f"{row.status}{outcome}{means}"), _STYLES.get(row.status, "bold")
    yield from _ending(record)
    took = f", {duration((row.updated_ns - row.created_ns) / 1e9)} before" if row.updated_ns > row.created_ns else ""
    ago = duration(max(0, now_ns - row.updated_ns) / 1e9)
    yield "last", f"{clock_time(row.updated_ns)}, {ago} ago; started {clock_time(row.created_ns)}{took}", ""
    yield "trust", label_text(record.label), ""
    spent = record.spent
    if spent.calls:
        unknown = f" and {count(spent.unpriced, 'call')} of unknown cost" if spent.unpriced else ""
        cost = money(spent.microusd) if spent.unpriced < spent.calls else "cost unknown"
        tokens = (
            f"{spent.input_tokens:,} tokens in, {spent.output_tokens:,} out"
            if spent.uncounted < spent.calls
            else "tokens unknown"
        )
        yield (
            "models",
            f"{count(spent.calls, 'call')}, {cost}{unknown if spent.unpriced < spent.calls else ''}, {tokens}",
            "",
        )
    if row.worker:
        yield "worker", safe(row.worker), ""
    if row.parent:
        yield "parent", safe(row.parent), ""
    if children:
        yield "sub-runs", shortened(", ".join(children), 300), ""
    started = record.last("run.started")
    if started is not None and started.payload(Started).fork is not None:
        fork = started.payload(Started).fork
        yield "fork of", safe(f"{fork.run}, up to event {fork.seq}") if fork is not None else "", ""
    if row.secret is None:
        yield "redacted", "the content of this run was deleted; headers, times, costs and hashes stay", "yellow"


def _ending(record: RunRecord) -> Iterator[tuple[str, str, str]]:
    status = record.row.status
    finished = record.last("run.finished") if status == "completed" else None
    if finished is not None:
        yield "answer", brief(plain_answer(msgspec.json.decode(finished.payload(Finished).value)), 400), ""
    if status in ("failed", "cancelled", "attention"):
        ended = record.last(f"run.{status}")
        if ended is not None:
            error = ended.payload(RunEnded).error
            name = error.type.removeprefix("builtins.").removeprefix("holdfast.errors.")
            yield "because", shortened(f"{name}: {error.message}", 800), "red"


# -- what to do -------------------------------------------------------------------------------------------------------


def _to_do(screen: Screen, record: RunRecord, decisions: dict[str, str], now_ns: int) -> None:
    run, option = shlex.quote(record.row.run), screen.location.option
    for wait in record.waits:
        _wait(screen, record, wait, decisions, now_ns)
    status = record.row.status
    if status == "attention":
        _commands(screen, [f"holdfast resume {run} --load MODULE{option}", f"holdfast fork {run} --at STEP{option}"])
    elif status == "pending" or decisions:
        screen.text(("it goes on as soon as a worker has it; if none is running:", "dim"))
        _commands(screen, [f"holdfast resume --load MODULE{option}"])
    elif status == "failed":
        _commands(screen, [f"holdfast fork {run} --at STEP{option}"])
    if record.waits or status in ("attention", "pending", "failed"):
        screen.text()


def _wait(screen: Screen, record: RunRecord, wait: Wait, decisions: dict[str, str], now_ns: int) -> None:
    due = "" if wait.due_ns is None else f", until {clock_time(wait.due_ns)}"
    if wait.due_ns is not None and wait.due_ns > now_ns:
        due += f" (in {duration((wait.due_ns - now_ns) / 1e9)})"
    words = {"settlement": "a verdict on an effect in doubt: ", "approval": "an approval: ", "subrun": "the sub-run "}
    what = words.get(wait.kind, f"a {wait.kind} ")
    name = wait.id if wait.kind == "subrun" else wait.name if wait.kind not in ("timer", "reply") else ""
    screen.text(
        ("waits for ", "bold"), (safe(what), "bold"), shortened(name, 200), safe(due).lstrip(", " if not name else "")
    )
    if wait.id in decisions:
        screen.text((f"decided already: {decisions[wait.id]}; the run has not taken it up yet", "yellow"), indent=2)
        return
    question = _question(record, wait)
    if question is not None:
        _ask(screen, question, wait)
    _commands(screen, _wait_commands(screen, record, wait, question))


def _ask(screen: Screen, question: Recorded, wait: Wait) -> None:
    event = question.event
    if event is None or event.redacted or question.damage is not None:
        return
    if wait.kind in ("approval", "settlement"):
        asked = read_asked(event.header.run, event)
        if asked.arguments is not None:
            screen.text(("with ", "dim"), brief(asked.arguments, 400), indent=2)
        for text in (*asked.reasons, asked.why, asked.how):
            if text:
                screen.text((shortened(text, 400), "yellow"), indent=2)
    elif wait.kind == "reply":
        request = msgspec.json.decode(event.payload(Waiting).request)
        if request is not None:
            screen.text(("asks ", "dim"), brief(request, 400), indent=2)


def _wait_commands(screen: Screen, record: RunRecord, wait: Wait, question: Recorded | None) -> list[str]:
    run, option = shlex.quote(record.row.run), screen.location.option
    match wait.kind:
        case "approval" | "settlement":
            if question is None or question.event is None or question.event.redacted:
                return []
            return read_asked(record.row.run, question.event).commands(option)
        case "reply":
            return [f"holdfast reply {run} TEXT{option}"]
        case "signal":
            return [f"holdfast signal {run} {shlex.quote(wait.name)} --value JSON{option}"]
        case "subrun":
            return [f"holdfast show {shlex.quote(wait.id)}{option}"]
        case _:
            return []


def _commands(screen: Screen, commands: list[str]) -> None:
    for command in commands:
        screen.text(("  $ ", "dim"), (safe(command), "green"))


# -- every event ------------------------------------------------------------------------------------------------------


def _events(screen: Screen, record: RunRecord, *, full: bool) -> None:
    """Events in the order of their stream, whatever the clock did; notes where their time puts them."""
    started_ns = record.row.created_ns
    notes = list(record.notes)
    screen.text((f"{'seq':>5}  {'time':>9}  {'step':<10}  event", "dim"))
    label: Label | None = None
    for recorded in record.events:
        while notes and notes[0].row.at_ns <= recorded.row.at_ns:
            _one(screen, notes.pop(0), "n", started_ns, None, full=full)
        change = label_change(label, recorded.event.header.label) if recorded.event is not None else None
        label = recorded.event.header.label if recorded.event is not None else label
        _one(screen, recorded, "", started_ns, change, full=full)
    for note in notes:
        _one(screen, note, "n", started_ns, None, full=full)


def _one(screen: Screen, recorded: Recorded, mark: str, started_ns: int, change: str | None, *, full: bool) -> None:
    row, event = recorded.row, recorded.event
    time = offset((row.at_ns - started_ns) / 1e9)
    path = safe(event.path) if event is not None else ""
    place = f"{mark + str(row.seq):>5}  {time:>9}  "
    entry = _entry(recorded)
    facts = "".join(f"  {fact}" for fact in entry.facts)
    name = [(safe(row.name), "bold")] if row.name else []
    screen.text(
        (place, "dim"),
        (f"{path:<10}  ", "dim"),
        (f"{safe(row.kind):<18} ", style_of(row.kind)),
        *name,
        (facts, "dim"),
        hang=INDENT + 8,
    )
    for line in entry.lines:
        _line(screen, line, full=full)
    if recorded.turn is not None:
        _turn(screen, recorded.turn, full=full)
    if change is not None:
        _line(screen, Line("trust", text=change, style="yellow" if row.seq else ""), full=True)


def _entry(recorded: Recorded) -> Entry:
    if recorded.event is None or recorded.damage is not None:
        return Entry(["DAMAGED"], [Line("damage", text=safe(recorded.damage or ""), style="bold red")])
    try:
        return describe(recorded.event)
    except UNREADABLE as error:
        return Entry(["DAMAGED"], [Line("damage", text=safe(str(error)), style="bold red")])


def _line(screen: Screen, line: Line, *, full: bool) -> None:
    limit = 2 * max(40, screen.width - INDENT - 8) - 10
    if line.text is not None:
        _detail(
            screen,
            line.word,
            line.text if full or len(line.text) <= 3 * limit else shortened(line.text, 3 * limit),
            line.style,
        )
        return
    if not full:
        _detail(screen, line.word, brief(line.value, line.room * limit), line.style)
        return
    compact = to_json(line.value)
    lines = [safe(compact)] if len(compact) <= limit else to_json(line.value, pretty=True).split("\n")
    for number, text in enumerate(lines):
        _detail(screen, line.word if number == 0 else "", text, line.style)


def _detail(screen: Screen, word: str, text: str, style: str = "") -> None:
    screen.text((f"{word:<7} ", "dim"), (text, style), indent=INDENT, hang=8)


def _turn(screen: Screen, turn: Turn, *, full: bool) -> None:
    if turn.unread is not None:
        _detail(screen, "says", safe(turn.unread), "yellow")
        return
    if not full:
        _detail(screen, "says", brief_reply(turn.reply, 3 * max(40, screen.width - INDENT - 8)))
        return
    for message, word in [*((m, m.role) for m in turn.asked), *((m, "says") for m in turn.reply)]:
        for text in message_texts(message):
            for number, line in enumerate(safe_lines(text)):
                _detail(screen, word[:7] if number == 0 else "", line)
