"""The audit of a store. Law 9: the chain tells.

One pass over a snapshot, with memory that does not grow with the store. Found without anything from outside:
every changed bit of an event (header, payload, salt, hash, columns); events that were removed, moved, cut off
or brought in from elsewhere; a run whose row says something else than its events; blobs that were changed or
are gone; content that is gone without a redaction; checkpoints that do not fit each other or the events.

**Not** found from the inside: a whole run taken out together with everything that names it, and a store
rewritten consistently (events, heads, checkpoints). Both are found against a checkpoint: one in the store
that whoever did it left as it was or could not sign (`public_keys`), or a copy kept outside (`exported`), for
all that was sealed up to it. What came after the last checkpoint, and columns that nothing can be derived
from (`wake_ns` and `notes_seen` of a run under way, its epoch above that of its last event, `origin`, the
secret of a run without messages, keys of notes), have no such witness.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence

import msgspec
import zstandard

from ..errors import StoreCorrupt
from ..store import Row, RunRow, Snapshot, Stream, Wait
from . import blobs, chain, checkpoint, codec, raw, redact
from .conversation import NODE_PREFIX
from .problems import MAX_PROBLEMS, Damage, Findings, VerifyReport
from .progress import Progress, check_redactions, check_run_row
from .records import Header
from .sealed import audit_checkpoints

_UNREADABLE = (msgspec.MsgspecError, zstandard.ZstdError, TypeError, ValueError)
"""What a damaged header or payload raises when it is read."""

_decode_header = msgspec.json.Decoder(Header).decode  # once an event: without a call in between


def verify(
    snapshot: Snapshot,
    *,
    public_keys: Sequence[bytes] = (),
    exported: bytes | None = None,
    max_problems: int = MAX_PROBLEMS,
) -> VerifyReport:
    """Audit a whole store; blocking, so call it in a thread.

    Args:
        public_keys: Ed25519 keys in PEM that checkpoints may be signed with. Given one, the last checkpoint
            must be there and signed. Needs the extra `sign`.
        exported: A copy of a checkpoint that was kept outside (`checkpoint.export_checkpoint`): the store
            must still hold it and everything that was sealed up to it.
        max_problems: How many problems are listed; all are counted.

    Raises:
        BadCheckpoint: `exported` is not a checkpoint.
        StoreUnavailable: The store can't be read. A damaged file is no error but a problem in the report.
    """
    found = Findings(max_problems)
    copy = None if exported is None else checkpoint.parse_exported(exported)
    shared: dict[bytes, str] = {}
    try:
        for row in snapshot.runs():
            run = row.run
            found.runs += 1
            events, notes = snapshot.rows(run, Stream.RUN), snapshot.rows(run, Stream.NOTES)
            audit_run(row, events, notes, snapshot.waits(run), snapshot.blobs(run), found, shared)
        audit_shared(snapshot.shared(), shared, found)
        for said in snapshot.damage():
            found.add("changed", f"the file: {said}")
        for table, what in snapshot.orphans():
            found.add("foreign", f"{table}: {what} belongs to no run")
        audit_checkpoints(snapshot, found, public_keys=public_keys, copy=copy)
    except StoreCorrupt as error:
        found.add("changed", f"the store can't be read on from here: {error.why}")
    return found.report()


def audit_run(
    row: RunRow,
    events: Iterable[Row],
    notes: Iterable[Row],
    waits: Sequence[Wait] | None,
    stored: Iterable[tuple[bytes, bytes]],
    found: Findings,
    shared: dict[bytes, str],
) -> None:
    """Audit one run. Takes from `events`, then `notes`, then `stored` (blobs), each to its end.

    Args:
        waits: What the run waits for; `None`: not known.
        shared: Gets the digest of every shared blob that the run refers to, with the run.
    """
    count = found.count
    run = _run_stream(row.run, events, found, shared)
    sound = found.count == count
    noted = _notes_stream(row.run, notes, found)
    found.events += run.events + noted.events
    check_redactions(row, run, noted, found)
    check_run_row(row, run, noted, waits, found, sound=sound)
    _blobs(row, stored, run.refers, found)


def audit_shared(stored: Iterable[tuple[bytes, bytes]], wanted: dict[bytes, str], found: Findings) -> None:
    """Audit the shared blobs, and that each in `wanted` (with a run that refers to it) is there; empties it."""
    for digest, data in stored:
        wanted.pop(digest, None)
        try:
            blobs.check_shared(digest, data)
        except (blobs.BadBlob, TypeError) as error:
            found.add("changed", f"shared blob {digest.hex()}: {error}")
    for digest, run in wanted.items():
        found.add("missing", f"shared blob {digest.hex()} is gone", run=run)
    wanted.clear()


# -- events -----------------------------------------------------------------------------------------------------------------


def _run_stream(run: str, rows: Iterable[Row], found: Findings, shared: dict[bytes, str]) -> Progress:
    progress = Progress(run, Stream.RUN)
    for row, header in _walk(progress, rows, found):
        kind = header.kind
        if header.epoch != progress.epoch:
            progress.change_epoch(header, found)
        if header.label != progress.label:
            progress.change_label(header, found)
        if kind.startswith("run."):
            progress.turn(row, kind, found)
        elif progress.status != "running":
            progress.advance(kind, row.seq, found)
        if kind == "model.completed" and row.payload is not None:
            progress.refer(codec.unpack(row.payload), row.seq, shared)
        elif kind.endswith(".waiting") or kind == "tool.doubt":
            progress.ask(row, header)
    return progress


def _notes_stream(run: str, rows: Iterable[Row], found: Findings) -> Progress:
    progress = Progress(run, Stream.NOTES)
    for row, header in _walk(progress, rows, found):
        if header.kind == redact.KIND and row.payload is not None:
            progress.redactions.append((row.seq, redact.parse(row.payload)))
    return progress


def _walk(progress: Progress, rows: Iterable[Row], found: Findings) -> Iterator[tuple[Row, Header]]:
    """Follow the chain, check each row against it and against itself, and yield those whose header can be
    read: with their payload only where it is what was committed to.

    The straight path is one decoding, two hashes and a row of comparisons; whatever is not straight is looked
    at again by `_explain`.
    """
    run, stream = progress.run, progress.stream
    decode, sha256 = _decode_header, hashlib.sha256
    previous: bytes = chain.genesis(run, stream)
    known = True  # whether `previous` is what the next row was chained on, or the row before was damaged
    expected = 0
    try:
        for row in rows:
            seq, stored, salt, payload, hash_, kind, name, at_ns, level, cost, tokens_in, tokens_out = row
            header: Header | None = None
            try:
                header = decode(stored)
                straight = (
                    sha256(previous + stored).digest() == hash_
                    and header.seq == seq == expected
                    and header.run == run
                    and header.stream == stream
                    and header.kind == kind
                    and header.name == name
                    and header.at_ns == at_ns
                    and header.label.level == level
                    and payload is not None
                    and salt is not None
                    and header.size == len(payload)
                    and sha256(salt + payload).hexdigest() == header.digest
                    and (
                        (cost is None and tokens_in is None and tokens_out is None and kind != "model.completed")
                        or codec.columns(kind, payload) == (cost, tokens_in, tokens_out)
                    )
                )
            except _UNREADABLE:
                straight = False
            sound = True
            if straight:
                known = True
            else:
                header, sound, known = _explain(progress, row, expected, previous if known else None, found)
            previous = hash_
            expected = seq + 1
            progress.events += 1
            progress.last = row
            if header is not None:
                yield (row if sound else row._replace(payload=None)), header
    except StoreCorrupt as error:
        found.add("changed", f"it can't be read: {error.why}", run=run, stream=stream, seq=expected)


def _explain(
    progress: Progress, row: Row, expected: int, previous: bytes | None, found: Findings
) -> tuple[Header | None, bool, bool]:
    """Say what is wrong with a row, if anything is.

    Returns: Its header; whether its payload can be relied on; whether the next row can be checked against its
        hash.
    """
    where = _Where(found, progress, row.seq)
    if row.seq > expected:
        gone = f"event {expected} is" if row.seq == expected + 1 else f"events {expected} to {row.seq - 1} are"
        found.add("missing", f"{gone} gone", run=progress.run, stream=progress.stream, seq=expected)
        previous = None
    try:
        header = codec.decode_header(row.header)
    except _UNREADABLE as error:
        where.add("changed", f"its header can't be read: {error}")
        return None, False, False
    chained = _explain_place(where, progress, row, header, previous)
    sound = _explain_content(where, progress, row, header)
    for column, there, said in (
        ("kind", row.kind, header.kind),
        ("name", row.name, header.name),
        ("at_ns", row.at_ns, header.at_ns),
        ("level", row.level, header.label.level),
    ):
        if there != said:
            where.add("column", f"{column} is {there!r}, the header says {said!r}")
    return header, sound, chained


def _explain_place(where: _Where, progress: Progress, row: Row, header: Header, previous: bytes | None) -> bool:
    if header.run != progress.run or header.stream != progress.stream:
        of = "notes" if header.stream else "events"
        where.add("foreign", f"it is {header.seq} of the {of} of run {header.run}")
    elif header.seq != row.seq:
        where.add("reordered", f"it was written as event {header.seq}")
    elif previous is not None and chain.link(previous, row.header) != row.hash:
        where.add("changed", "header, hash or the event before it is not what was chained")
    else:
        return True
    return False


def _explain_content(where: _Where, progress: Progress, row: Row, header: Header) -> bool:
    salt, payload = row.salt, row.payload
    if payload is None and salt is None:
        progress.redacted(row.seq)
        return True
    if payload is None or salt is None:
        where.add("missing", f"its {'payload' if payload is None else 'salt'} is gone")
        return False
    try:
        same = chain.commitment(salt, payload) == header.digest and len(payload) == header.size
    except TypeError:
        same = False
    if not same:
        where.add("changed", "payload or salt is not what was committed to")
        return False
    try:
        measured = codec.columns(header.kind, payload)
    except _UNREADABLE as error:
        where.add("state", f"the payload can't be read as {header.kind}: {error}")
        return False
    if measured != row[9:]:
        where.add("column", f"cost and tokens are {row[9:]}, the payload says {measured}")
    return True


class _Where:
    """Where a problem is."""

    def __init__(self, found: Findings, progress: Progress, seq: int) -> None:
        self._found = found
        self._progress = progress
        self._seq = seq

    def add(self, damage: Damage, detail: str) -> None:
        self._found.add(damage, detail, run=self._progress.run, stream=self._progress.stream, seq=self._seq)


# -- blobs ------------------------------------------------------------------------------------------------------------------


class _Node(msgspec.Struct, tag_field="type", tag="node"):
    """As much of a node of a conversation as leads on."""

    previous: str | None


_decode_node = msgspec.json.Decoder(_Node).decode


def _blobs(row: RunRow, stored: Iterable[tuple[bytes, bytes]], wanted: dict[bytes, int], found: Findings) -> None:
    there: set[bytes] = set()
    leads: set[bytes] = set()
    try:
        for address, data in stored:
            if row.secret is None:
                found.add("foreign", f"blob {address.hex()} in a run that was redacted", run=row.run)
                continue
            try:
                before = _leads_to(blobs.check(row.secret, address, data))
            except _UNREADABLE as error:
                found.add("changed", f"blob {address.hex()}: {error}", run=row.run)
            else:
                there.add(address)
                if before is not None:
                    leads.add(bytes.fromhex(before))
    except StoreCorrupt as error:
        found.add("changed", f"its blobs can't be read: {error.why}", run=row.run)
    if row.secret is None:
        return
    for address, seq in wanted.items():
        if address not in there:
            found.add("missing", f"blob {address.hex()} is gone", run=row.run, stream=Stream.RUN, seq=seq)
    for address in leads - there - wanted.keys():
        found.add("missing", f"blob {address.hex()} is gone, another one builds on it", run=row.run)


def _leads_to(content: bytes) -> str | None:
    """The hex id of the blob that this one builds on."""
    if content.startswith(NODE_PREFIX):
        return _decode_node(content).previous
    if content.startswith(raw.MAGIC):
        return raw.parse(content).base
    return None
