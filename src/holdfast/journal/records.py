"""The records of the journal: one header for every event, one payload struct for every phase of a step.

A stored record is a promise: fields are only ever added, with defaults; `tests/histories/` keeps old files that must replay.
JSON, so that an auditor can read a store in twenty years with nothing but SQLite and zstd.

An event's kind is "what.phase". The what: `run`, or the type of a step (`step`, `tool`, `model`, `endorse`, `value`, `timer`, `signal`,
`reply`, `approval`, `subrun`, `scope`). The phases of a step:

    waiting    it waits, durably, for a note or a time
    intent     an effect is about to be issued (law 2)
    attempt    one try failed; another one follows
    doubt      an effect was issued and nobody knows whether it took place; a person is asked
    settled    the person's verdict, as the run received it
    completed  the outcome: once it is here it is returned on every later execution (law 1)
    failed     the outcome was an error
"""

from __future__ import annotations

from typing import Any

import msgspec

from ..model import Usage
from ..trust import Label

SCHEMA = 1
"""Version of the event schema, in every header."""

NO_RAW = msgspec.Raw(b"null")


class Header(msgspec.Struct, frozen=True, gc=False):
    """What the chain hashes. Stored verbatim as encoded; never re-encoded.

    `digest` is the hex SHA-256 of salt and stored payload; `size` the length of the stored payload in bytes.
    """

    v: int
    run: str
    stream: int
    seq: int
    epoch: int
    kind: str
    path: str
    name: str
    at_ns: int
    label: Label
    digest: str
    size: int


class ErrorInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error as recorded: qualified type name, those of its bases, message, and the fields of a Holdfast error."""

    type: str
    message: str
    types: tuple[str, ...] = ()
    fields: dict[str, Any] = {}  # Any: JSON


class Budget(msgspec.Struct, frozen=True, omit_defaults=True):
    """Bounds of a run; `None`: no bound. Money in integer micro-dollars, time in seconds since the start."""

    steps: int | None = None
    tokens: int | None = None
    cost_microusd: int | None = None
    time_s: float | None = None


class ForkOf(msgspec.Struct, frozen=True):
    run: str
    seq: int  # the last event taken over


class Started(msgspec.Struct, frozen=True, omit_defaults=True):
    workflow: str
    version: str
    input: msgspec.Raw
    label: Label
    success: str = ""
    budget: Budget = Budget()
    parent: str | None = None
    parent_path: str | None = None
    root: str | None = None
    key_prefix: str = ""  # of the idempotency keys: the path from the root run to this one
    fork: ForkOf | None = None
    effects: str = "live"
    tags: dict[str, str] = {}


class Resumed(msgspec.Struct, frozen=True, omit_defaults=True):
    worker: str
    taken_from: str | None = None


class WaitRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    id: str
    kind: str
    name: str
    path: str
    due_ns: int | None = None


class Parked(msgspec.Struct, frozen=True):
    waits: tuple[WaitRecord, ...]


class Finished(msgspec.Struct, frozen=True):
    answer: str  # completed | clarify | refused | escalated
    value: msgspec.Raw


class RunEnded(msgspec.Struct, frozen=True, omit_defaults=True):
    """Of `run.failed`, `run.cancelled` and `run.attention`."""

    error: ErrorInfo
    step: str = ""


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """`completed` of every type of step. `received`: the note that decided it. The optional fields belong to tools and endorsements."""

    input: msgspec.Raw
    output: msgspec.Raw
    started_ns: int = 0
    attempts: int = 1
    received: int | None = None
    via: str | None = None
    read_key: str | None = None
    key: str | None = None
    settled_by: str | None = None
    value_label: Label | None = None
    validator: str | None = None
    validator_version: str | None = None


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """`failed` of every type of step."""

    input: msgspec.Raw
    error: ErrorInfo
    started_ns: int = 0
    attempts: int = 1
    received: int | None = None


class Attempt(msgspec.Struct, frozen=True, omit_defaults=True):
    """One failed try. `fault`: error | timeout | empty | malformed | implausible; `delay_s`: the pause before the next.

    `via`: the route of a model, or what was tried instead; `last`: no further try on that route.
    """

    n: int
    fault: str
    error: ErrorInfo
    via: str = ""
    delay_s: float = 0.0
    started_ns: int = 0
    last: bool = False


class ReadRef(msgspec.Struct, frozen=True, omit_defaults=True):
    """A read that an effect depends on: which source and key, at which step, when, and the hash of what it gave."""

    source: str
    key: str
    step: str
    at_ns: int
    digest: str


class Gate(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The decision in front of an effect, with everything it looked at (law 4). `verdict`: allow | approve | deny."""

    verdict: str
    policy: str
    needs: str
    run_label: Label
    argument_labels: dict[str, Label] = {}
    reasons: tuple[str, ...] = ()
    reads: tuple[ReadRef, ...] = ()
    approved_by: str | None = None
    approval_note: int | None = None


class Intent(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Durable before the effect is issued. `args_hash` is here and in no header or column: it must vanish with a redaction."""

    tool: str
    effect: str
    args: msgspec.Raw
    args_hash: str
    key: str
    gate: Gate
    settlement: int = 0
    key_ttl_s: float | None = None
    timeout_s: float = 30.0


class Waiting(msgspec.Struct, frozen=True, omit_defaults=True):
    """`waiting` of every type: what for, until when, and what a person should see."""

    id: str
    kind: str
    name: str
    request: msgspec.Raw = NO_RAW
    due_ns: int | None = None
    args_hash: str | None = None


class Doubt(msgspec.Struct, frozen=True, omit_defaults=True):
    """An effect that nobody knows about. A person reads this: what, since when, with which arguments, how to find out."""

    id: str
    tool: str
    effect: str
    args: msgspec.Raw
    key: str
    why: str
    how: str
    intent_ns: int
    may_retry_from_ns: int = 0


class Settled(msgspec.Struct, frozen=True, omit_defaults=True):
    """A verdict on a doubt as the run received it. `verdict`: happened | retry | give-up."""

    verdict: str
    received: int | None = None
    by: str = ""
    why: str = ""
    result: msgspec.Raw = NO_RAW


class ModelOutcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """One model call. Messages are nodes of the conversation (blobs, by hex id); instructions and tool schemas are shared blobs.

    `raw_request`/`raw_response`: blob ids of the bytes as sent and received. Cost in micro-dollars; `None`: unknown (law 10).
    """

    conversation: str
    instructions: str
    tools: str
    reply: str
    route: str
    agent: str = ""
    agent_version: str = ""
    settings: msgspec.Raw = NO_RAW
    served_model: str | None = None
    provider: str | None = None
    finish_reason: str | None = None
    response_id: str | None = None
    usage: Usage | None = None
    cost_microusd: int | None = None
    raw_request: str | None = None
    raw_response: str | None = None
    started_ns: int = 0
    attempts: int = 1
    fallback: bool = False


class Note(msgspec.Struct, frozen=True, omit_defaults=True):
    """Payload of every note. Kinds: note.signal, .reply, .approve, .deny, .settle, .cancel, .resume, .child, .redaction, .score, .review.

    `name`: of the signal, or the id of what is decided. `label`: trust of the content; missing reads as the lowest.
    """

    name: str = ""
    value: msgspec.Raw = NO_RAW
    by: str = ""
    why: str = ""
    key: str = ""
    label: Label | None = None
    args_hash: str | None = None
    expires_ns: int | None = None
