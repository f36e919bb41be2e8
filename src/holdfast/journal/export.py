"""A store, or some of its runs, as JSON Lines: enough to verify every chain without the store.

One object a line, told apart by "type", in this order:

    export      "v": 1, "runs": the ids that were asked for, or null for all
    checkpoint  "number", "hash", "body" (the signed text, verbatim), "signature", "key_id"
    run         the row of the run: workflow, version, status, outcome, heads, waits; then what belongs to it:
    event       "stream" ("run" or "notes"), "seq", "header" (verbatim), "salt", "hash", "payload", "stored"
    blob        "id", "node" (messages) or "base64" (raw traffic)                        see `conversation`, `raw`
    shared      "digest", "text" or "base64"                                             instructions, tool schemas
    end         "runs", "events", "checkpoints": how many there are; an export without this line was cut off

Hashes, salts and ids are hex, bytes base64, times UTC nanoseconds. To check an event (see `chain`): its hash
is SHA-256 of the hash before it and the bytes of "header"; the digest in the header is SHA-256 of the salt
and the stored payload, which is "stored" where that is given (it is compressed) and else the bytes of
"payload" exactly as they stand on the line. So a tool that rewrites the lines (jq) breaks the proof of
uncompressed payloads. A redacted event has neither salt nor payload.

The secret of a run is exported with its blobs: it is what their ids are checked with.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal, TypeAlias

import msgspec

from ..errors import UnknownRun
from ..store import Checkpoint, Row, RunRow, Snapshot, Stream, Wait
from . import blobs, checkpoint, codec
from .checkpoint import Body, Entry, Exported
from .conversation import NODE_PREFIX
from .problems import Findings, VerifyReport
from .sealed import add_sealed, audit_chain
from .verify import audit_run, audit_shared

VERSION: Final = 1


class BadExport(ValueError):
    """A run that is too damaged to be exported; `holdfast audit verify` says what is damaged."""


class Export(msgspec.Struct, frozen=True, tag_field="type", tag="export"):
    v: int
    runs: tuple[str, ...] | None


class RunLine(msgspec.Struct, frozen=True, tag_field="type", tag="run"):
    run: str
    workflow: str
    version: str
    status: str
    outcome: str | None
    level: int
    worker: str | None
    epoch: int
    wake_ns: int | None
    notes_seen: int
    created_ns: int
    updated_ns: int
    parent: str | None
    origin: str
    secret: str | None
    seq: int
    hash: str
    notes_seq: int
    notes_hash: str
    waits: tuple[Wait, ...]


class EventLine(msgspec.Struct, frozen=True, tag_field="type", tag="event", omit_defaults=True):
    stream: Literal["run", "notes"]
    seq: int
    header: str
    hash: str
    salt: str | None = None
    payload: msgspec.Raw = msgspec.Raw()
    stored: bytes | None = None


class BlobLine(msgspec.Struct, frozen=True, tag_field="type", tag="blob", omit_defaults=True):
    id: str
    node: msgspec.Raw = msgspec.Raw()
    base64: bytes | None = None


class SharedLine(msgspec.Struct, frozen=True, tag_field="type", tag="shared", omit_defaults=True):
    digest: str
    text: str | None = None
    base64: bytes | None = None


class End(msgspec.Struct, frozen=True, tag_field="type", tag="end"):
    runs: int
    events: int
    checkpoints: int


Line: TypeAlias = Export | Exported | RunLine | EventLine | BlobLine | SharedLine | End

_encode = msgspec.json.Encoder().encode
_decode: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)


# -- writing ----------------------------------------------------------------------------------------------------------------


def export(snapshot: Snapshot, address: str, *, runs: Sequence[str] | None = None) -> Iterator[bytes]:
    """The lines of an export, each with its newline. Streams; blocking, so call it in a thread.

    Args:
        address: Of the store, for errors.
        runs: Which runs; `None`: all. For some runs only the checkpoints that name them and the shared blobs
            that they refer to are exported.

    Raises:
        UnknownRun: Before the first line.
        BadExport: A stored header or checkpoint is not even text.
    """
    chosen = None if runs is None else _choose(snapshot, address, runs)
    for line in _lines(snapshot, chosen):
        yield _encode(line) + b"\n"


def _choose(snapshot: Snapshot, address: str, runs: Sequence[str]) -> list[RunRow]:
    wanted = set(runs)
    chosen = [row for row in snapshot.runs() if row.run in wanted]
    for run in sorted(wanted - {row.run for row in chosen}):
        raise UnknownRun(run, address)
    return chosen


def _lines(snapshot: Snapshot, chosen: list[RunRow] | None) -> Iterator[Line]:
    names = None if chosen is None else {row.run for row in chosen}
    yield Export(VERSION, None if chosen is None else tuple(row.run for row in chosen))
    seals = 0
    for each in snapshot.checkpoints():
        if names is None or any(entry.run in names for entry in checkpoint.parse(each).streams):
            seals += 1
            yield checkpoint.exported(each)
    count_runs = count_events = 0
    shared: set[bytes] = set()
    for row in snapshot.runs() if chosen is None else chosen:
        count_runs += 1
        yield _run_line(row, snapshot.waits(row.run))
        for stream in Stream:
            for event in snapshot.rows(row.run, stream):
                count_events += 1
                yield _event_line(row.run, stream, event)
                if chosen is not None:
                    shared.update(_shared_by(event))
        for address, data in snapshot.blobs(row.run):
            yield _blob_line(address, data)
    for digest, data in snapshot.shared():
        if chosen is None or digest in shared:
            yield _shared_line(digest, data)
    yield End(count_runs, count_events, seals)


def _run_line(row: RunRow, waits: Sequence[Wait]) -> RunLine:
    return RunLine(
        row.run, row.workflow, row.version, row.status, row.outcome, row.level, row.worker, row.epoch, row.wake_ns,
        row.notes_seen, row.created_ns, row.updated_ns, row.parent, row.origin,
        None if row.secret is None else row.secret.hex(),
        row.seq, row.hash.hex(), row.notes_seq, row.notes_hash.hex(), tuple(waits),
    )  # fmt: skip


def _event_line(run: str, stream: Stream, row: Row) -> EventLine:
    try:
        header = row.header.decode()
        plain = None if row.payload is None else blobs.content_of(row.payload)
    except ValueError as error:
        raise BadExport(f"run {run}, {_NAMES[stream]} {row.seq}: {error}") from error
    line = EventLine(_NAMES[stream], row.seq, header, row.hash.hex(), None if row.salt is None else row.salt.hex())
    if plain is None:
        return line
    if not _is_line(plain):
        return msgspec.structs.replace(line, stored=row.payload)
    if plain is row.payload:
        return msgspec.structs.replace(line, payload=msgspec.Raw(plain))
    return msgspec.structs.replace(line, payload=msgspec.Raw(plain), stored=row.payload)


def _blob_line(address: bytes, data: bytes) -> BlobLine:
    content = blobs.content_of(data)
    if content.startswith(NODE_PREFIX) and _is_line(content):
        return BlobLine(address.hex(), node=msgspec.Raw(content))
    return BlobLine(address.hex(), base64=content)


def _shared_line(digest: bytes, data: bytes) -> SharedLine:
    content = blobs.content_of(data)
    try:
        return SharedLine(digest.hex(), text=content.decode())
    except UnicodeDecodeError:
        return SharedLine(digest.hex(), base64=content)


def _is_line(content: bytes) -> bool:
    """Whether it is JSON that stands on a line byte for byte."""
    if b"\n" in content or content != content.strip():
        return False
    try:
        msgspec.json.decode(content)
    except msgspec.DecodeError:
        return False
    return True


def _shared_by(row: Row) -> Iterator[bytes]:
    if row.kind == "model.completed" and row.payload is not None:
        outcome = codec.decode(row.payload, _Shares)
        yield from (bytes.fromhex(name) for name in (outcome.instructions, outcome.tools) if name)


class _Shares(msgspec.Struct):
    instructions: str
    tools: str


_NAMES: Final[dict[Stream, Literal["run", "notes"]]] = {Stream.RUN: "run", Stream.NOTES: "notes"}


# -- verifying ----------------------------------------------------------------------------------------------------------------


def verify_export(lines: Iterable[bytes], *, public_keys: Sequence[bytes] = ()) -> VerifyReport:
    """Audit an export as `verify.verify` audits a store, from its lines alone.

    Memory grows with the number of sealed streams in its checkpoints, not with the events.

    Args:
        lines: As a binary file gives them.
        public_keys: Ed25519 keys in PEM that checkpoints may be signed with. Needs the extra `sign`.
    """
    found = Findings()
    reader = _Reader(lines, found)
    reader.read_head(public_keys)
    shared: dict[bytes, str] = {}
    while isinstance(line := reader.peek(), RunLine):
        reader.take()
        found.runs += 1
        row = _run_row(line)
        audit_run(
            row,
            reader.rows(row.run, Stream.RUN),
            reader.rows(row.run, Stream.NOTES),
            line.waits,
            reader.blobs(row),
            found,
            shared,
        )
    audit_shared(reader.shared(), shared, found)
    reader.read_end()
    return found.report()


class _Reader:
    """Lines, one looked at ahead, with the sealed heads that the events must still meet."""

    def __init__(self, lines: Iterable[bytes], found: Findings) -> None:
        self._lines = enumerate(lines, 1)
        self._found = found
        self._ahead: Line | None = None
        self._sealed: dict[tuple[str, Stream, int], tuple[int, Entry]] = {}

    def peek(self) -> Line | None:
        while self._ahead is None:
            number, text = next(self._lines, (0, b""))
            if not number:
                return None
            try:
                self._ahead = _decode.decode(text)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                self._found.add("changed", f"line {number} can't be read: {error}")
        return self._ahead

    def take(self) -> None:
        self._ahead = None

    def read_head(self, public_keys: Sequence[bytes]) -> None:
        head = self.peek()
        if not isinstance(head, Export):
            self._found.add("missing", "it does not begin as an export")
        else:
            self.take()
        chosen = None if not isinstance(head, Export) or head.runs is None else frozenset(head.runs)

        def heads(body: Body) -> None:
            for entry in body.streams:
                if chosen is None or entry.run in chosen:
                    self._sealed[entry.run, entry.stream, entry.seq] = body.number, entry

        audit_chain(self._checkpoints(), self._found, heads, public_keys=public_keys, complete=chosen is None)

    def _checkpoints(self) -> Iterator[Checkpoint]:
        while isinstance(line := self.peek(), Exported):
            self.take()
            try:
                yield checkpoint.from_exported(line)
            except checkpoint.BadCheckpoint as error:
                self._found.add("changed", f"checkpoint {line.number}: {error}", seq=line.number)

    def rows(self, run: str, stream: Stream) -> Iterator[Row]:
        while isinstance(line := self.peek(), EventLine) and line.stream == _NAMES[stream]:
            self.take()
            try:
                row = _row(line)
            except (msgspec.MsgspecError, ValueError) as error:
                self._found.add("changed", f"it can't be read: {error}", run=run, stream=stream, seq=line.seq)
                continue
            number, entry = self._sealed.pop((run, stream, line.seq), (0, None))
            if entry is not None and entry.hash != line.hash:
                add_sealed(self._found, number, entry, gone=False)
            yield row

    def blobs(self, row: RunRow) -> Iterator[tuple[bytes, bytes]]:
        secret = row.secret or b""
        while isinstance(line := self.peek(), BlobLine):
            self.take()
            content = bytes(line.node) if line.base64 is None else line.base64
            yield _bytes(line.id), blobs.make(secret, content)[1]

    def shared(self) -> Iterator[tuple[bytes, bytes]]:
        while isinstance(line := self.peek(), SharedLine):
            self.take()
            content = (line.text or "").encode() if line.base64 is None else line.base64
            yield _bytes(line.digest), blobs.make_shared(content)[1]

    def read_end(self) -> None:
        found = self._found
        for number, entry in self._sealed.values():
            add_sealed(found, number, entry, gone=True)
        line = self.peek()
        self.take()
        if not isinstance(line, End):
            found.add("truncated" if line is None else "reordered", "it does not end as an export")
        elif (line.runs, line.events, line.checkpoints) != (found.runs, found.events, found.checkpoints):
            wrote = f"{line.runs} runs, {line.events} events and {line.checkpoints} checkpoints"
            found.add("missing", f"it had {wrote} when it was written")
        if self.peek() is not None:
            found.add("foreign", "there is more after the end of the export")


def _row(line: EventLine) -> Row:
    """The row as the store had it; the columns derive from header and payload."""
    stored = bytes(line.payload) if line.stored is None else line.stored
    salt = None if line.salt is None else bytes.fromhex(line.salt)
    payload = stored or None
    header = codec.decode_header(line.header.encode())
    if line.stored is not None and bytes(line.payload) not in (b"", blobs.content_of(line.stored)):
        raise ValueError("payload and stored bytes differ")
    measured = codec.columns(header.kind, payload)
    return Row(
        line.seq, line.header.encode(), salt, payload, bytes.fromhex(line.hash),
        header.kind, header.name, header.at_ns, header.label.level, *measured,
    )  # fmt: skip


def _run_row(line: RunLine) -> RunRow:
    return RunRow(
        line.run, line.workflow, line.version, line.status, line.outcome, line.level, line.worker, line.epoch, line.wake_ns,
        line.notes_seen, line.created_ns, line.updated_ns, line.parent, line.origin,
        None if line.secret is None else _bytes(line.secret),
        line.seq, _bytes(line.hash), line.notes_seq, _bytes(line.notes_hash),
    )  # fmt: skip


def _bytes(text: str) -> bytes:
    """Bytes from hex; none from anything else, which then meets no hash."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""
