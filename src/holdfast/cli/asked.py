"""A question that waits for a person: an approval, or an effect in doubt."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from ..errors import NotWaiting
from ..journal import Event
from ..journal.records import Doubt, Note, Waiting
from ..runtime import App
from ..trust import Label, read_label
from .screen import Screen
from .words import brief, clock_time, duration, moment, safe, shortened, to_json

BRIEF = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a person needs to decide. `arguments`: JSON, exactly those that will be sent (or were)."""

    id: str
    kind: str  # approval | settlement
    run: str
    step: str
    tool: str | None
    question: str | None
    effect: str | None
    arguments: Any
    reasons: tuple[str, ...]
    run_label: Label | None
    argument_labels: Mapping[str, Label]
    since_ns: int
    due_ns: int | None = None
    key: str | None = None
    why: str | None = None
    how: str | None = None
    may_retry_from_ns: int | None = None

    def json(self) -> dict[str, Any]:  # Any: JSON
        return {
            "id": self.id, "kind": self.kind, "run": self.run, "step": self.step, "tool": self.tool, "question": self.question,
            "effect": self.effect, "arguments": self.arguments, "reasons": list(self.reasons),
            "run_label": None if self.run_label is None else label_json(self.run_label),
            "argument_labels": {name: label_json(label) for name, label in self.argument_labels.items()},
            "since": moment(self.since_ns), "due": None if self.due_ns is None else moment(self.due_ns),
            "key": self.key, "why": self.why, "how": self.how,
            "may_retry_from": None if self.may_retry_from_ns is None else moment(self.may_retry_from_ns),
        }  # fmt: skip

    def commands(self, option: str) -> list[str]:
        """What decides it, to be copied into a shell."""
        id = shlex.quote(self.id)
        if self.kind == "approval":
            return [f"holdfast approve {id}{option}", f"holdfast deny {id}{option}"]
        return [
            f"holdfast settle {id} happened --result JSON{option}",
            f"holdfast settle {id} retry{option}",
            f"holdfast settle {id} give-up{option}",
        ]


def label_json(label: Label) -> dict[str, Any]:  # Any: JSON
    causes = [{"kind": cause.kind, "step": cause.step} for cause in label.causes]
    return {"level": label.level.name, "causes": causes, "confidence": label.confidence}


def label_text(label: Label) -> str:
    """ "EXTERNAL: input; search yields EXTERNAL (step 2)"; `PRIMARY` alone when nothing lowered it."""
    causes = "; ".join(f"{c.kind} (step {c.step})" if c.step else c.kind for c in label.causes)
    confidence = "" if label.confidence is None else f", confidence {label.confidence:g}"
    return safe(f"{label.level.name}{': ' if causes else ''}{causes}{confidence}")


def read_asked(run: str, event: Event) -> Asked:
    """The question in an `approval.waiting` or `tool.doubt` event. Raises `RedactedStep`, or `NotWaiting` for another event."""
    if event.kind == "tool.doubt":
        return _doubt(run, event)
    if event.kind != "approval.waiting":
        what = event.kind.partition(".")[0]
        raise NotWaiting(event.name, f"run {run} waits here for a {what}; `holdfast show` says what ends it")
    waiting = event.payload(Waiting)
    request = msgspec.json.decode(waiting.request)
    asked = request if isinstance(request, dict) else {}
    labels = asked.get("argument_labels")
    tool = asked.get("tool")
    return Asked(
        id=waiting.id, kind="approval", run=run, step=event.path.removesuffix(".a") if tool else event.path, tool=tool,
        question=asked.get("question"), effect=asked.get("effect"),
        arguments=asked.get("arguments") if tool else asked.get("data"), reasons=tuple(map(str, asked.get("reasons") or ())),
        run_label=read_label(asked["run_label"]) if "run_label" in asked else event.header.label,
        argument_labels={str(k): read_label(v) for k, v in labels.items()} if isinstance(labels, dict) else {},
        since_ns=event.header.at_ns, due_ns=waiting.due_ns,
    )  # fmt: skip


def _doubt(run: str, event: Event) -> Asked:
    doubt = event.payload(Doubt)
    return Asked(
        id=doubt.id, kind="settlement", run=run, step=event.path, tool=doubt.tool, question=None, effect=doubt.effect,
        arguments=msgspec.json.decode(doubt.args), reasons=(), run_label=event.header.label, argument_labels={},
        since_ns=doubt.intent_ns or event.header.at_ns, key=doubt.key, why=doubt.why, how=doubt.how,
        may_retry_from_ns=doubt.may_retry_from_ns,
    )  # fmt: skip


async def waiting(app: App, id: str) -> Asked:
    """The question under an id. Raises `NotWaiting`."""
    run, event = await app.waiting_event(id)
    try:
        return read_asked(run, event)
    except NotWaiting as not_asked:
        raise NotWaiting(id, not_asked.why) from None


def decided(notes: Sequence[Event], id: str, since_ns: int) -> Event | None:
    """The note that has decided a question already, when the run has not taken it up yet."""
    kinds = ("note.approve", "note.deny", "note.settle")
    return next((n for n in notes if n.kind in kinds and n.name == id and n.header.at_ns >= since_ns), None)


def decision_text(note: Event) -> str:
    """ "approve by mira"."""
    by = "" if note.redacted else note.payload(Note).by
    return safe(f"{note.kind.removeprefix('note.')} by {by or 'somebody'}")


def show_asked(screen: Screen, asked: Asked, now_ns: int, *, full: bool, out: bool = True) -> None:
    """The question as text: on standard output, or beside the result on standard error."""
    write = screen.text if out else screen.say
    what = (
        "approval of "
        if asked.kind == "approval" and asked.tool
        else "in doubt: "
        if asked.kind == "settlement"
        else "approval: "
    )
    since = f"since {clock_time(asked.since_ns)}, {duration((now_ns - asked.since_ns) / 1e9)} ago"
    write(
        (what, "bold"), (shortened(asked.tool or asked.question or "", 300), "bold"), ("   " + safe(asked.id), "cyan")
    )
    write(
        ("run        ", "dim"), safe(asked.run), ("  step ", "dim"), safe(asked.step), f"  {since}", indent=2, hang=11
    )
    if asked.arguments is not None:
        _arguments(screen, asked, full=full, out=out)
    if asked.effect:
        write(
            ("effect     ", "dim"),
            safe(str(asked.effect)),
            (f"  key {safe(asked.key)}" if asked.key else ""),
            indent=2,
            hang=11,
        )
    if asked.run_label is not None:
        write(("run trust  ", "dim"), label_text(asked.run_label), indent=2, hang=11)
    for name, label in asked.argument_labels.items():
        write(("arg trust  ", "dim"), f"{safe(name)}: {label_text(label)}", indent=2, hang=11)
    for reason in asked.reasons:
        write(("asks since ", "dim"), (shortened(reason, 400), "yellow"), indent=2, hang=11)
    for word, text in (("why        ", asked.why), ("find out   ", asked.how)):
        if text:
            write((word, "dim"), shortened(text, 600), indent=2, hang=11)
    if asked.due_ns is not None:
        write(("until      ", "dim"), clock_time(asked.due_ns), ", then it counts as not approved", indent=2, hang=11)
    if asked.may_retry_from_ns is not None and asked.may_retry_from_ns > now_ns:
        wait_s = (asked.may_retry_from_ns - now_ns) / 1e9
        write(
            ("retry      ", "dim"),
            f"not before {duration(wait_s)} have passed: the lost request may still arrive",
            indent=2,
            hang=11,
        )


def _arguments(screen: Screen, asked: Asked, *, full: bool, out: bool) -> None:
    write = screen.text if out else screen.say
    word = "arguments  " if asked.tool else "data       "
    if not full:
        write((word, "dim"), brief(asked.arguments, BRIEF), indent=2, hang=11)
        return
    first, *rest = to_json(asked.arguments, pretty=True).split("\n")
    write((word, "dim"), first, indent=2, hang=11)
    for line in rest:
        write(line, indent=13)
