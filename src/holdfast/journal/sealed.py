"""The audit of checkpoints: against each other, and each sealed head against the events.

The events themselves are for `verify`: a head is right only if the chain that leads to it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from ..store import Checkpoint, Snapshot
from .checkpoint import NOTHING_BEFORE, BadCheckpoint, Body, Entry, parse, signed_by
from .problems import Damage, Findings


def audit_checkpoints(
    snapshot: Snapshot, found: Findings, *, public_keys: Sequence[bytes] = (), copy: Checkpoint | None = None
) -> None:
    """Check the checkpoints of a store, each sealed head against the stored events, and a copy against both."""
    same: list[Checkpoint] = []

    def stored() -> Iterator[Checkpoint]:
        for checkpoint in snapshot.checkpoints():
            if copy is not None and checkpoint.number == copy.number:
                same.append(checkpoint)
            yield checkpoint

    def heads(body: Body) -> None:
        _audit_heads(snapshot, found, body)

    last = audit_chain(stored(), found, heads, public_keys=public_keys)
    if public_keys and last is None and found.events:
        found.add("missing", "there is no checkpoint, so nothing is signed")
    if copy is None:
        return
    _audit_signature(found, copy, public_keys, signing=bool(public_keys))
    if not same:
        found.add("truncated", f"the exported checkpoint {copy.number} is not in the store", seq=copy.number)
        heads(parse(copy))
    elif same[0].hash != copy.hash:
        found.add("changed", f"checkpoint {copy.number} is not the one that was exported", seq=copy.number)
        heads(parse(copy))


def audit_chain(
    checkpoints: Iterable[Checkpoint],
    found: Findings,
    heads: Callable[[Body], None],
    *,
    public_keys: Sequence[bytes] = (),
    complete: bool = True,
) -> Checkpoint | None:
    """Check checkpoints against each other, and give the body of each sound one to `heads`. Returns the last.

    Args:
        complete: All of them are there; else only some are, in order, and gaps are none.
    """
    last: Checkpoint | None = None
    signing = False
    for checkpoint in checkpoints:
        found.checkpoints += 1
        number = checkpoint.number
        expected = 1 if last is None else last.number + 1
        if complete and number != expected:
            found.add("missing", f"checkpoint {expected} is gone, the next one is {number}", seq=expected)
        try:
            body = parse(checkpoint)
        except BadCheckpoint as error:
            found.add("changed", f"checkpoint {number}: {error}", seq=number)
        else:
            before = NOTHING_BEFORE if last is None else last.hash
            if number == expected and body.previous != before.hex():
                found.add(
                    "changed",
                    f"checkpoint {number} was made after another one than stands before it",
                    seq=number,
                )
            heads(body)
        signing = _audit_signature(found, checkpoint, public_keys, signing=signing)
        last = checkpoint
    if public_keys and last is not None and last.signature is None:
        found.add("missing", f"checkpoint {last.number}, the last one, is not signed", seq=last.number)
    return last


def _audit_signature(found: Findings, checkpoint: Checkpoint, public_keys: Sequence[bytes], *, signing: bool) -> bool:
    """Once signed, always signed: the first signature covers what came before, what comes after needs its own."""
    if checkpoint.signature is None:
        if public_keys and signing:
            found.add(
                "missing",
                f"checkpoint {checkpoint.number} is not signed, one before it is",
                seq=checkpoint.number,
            )
        return signing
    if public_keys and not signed_by(checkpoint, public_keys):
        found.add(
            "changed",
            f"checkpoint {checkpoint.number}: the signature is not by a given key",
            seq=checkpoint.number,
        )
    return True


def _audit_heads(snapshot: Snapshot, found: Findings, body: Body) -> None:
    for entry in body.streams:
        row = next(iter(snapshot.rows(entry.run, entry.stream, after=entry.seq - 1)), None)
        if row is None or row.seq != entry.seq:
            add_sealed(found, body.number, entry, gone=True)
        elif row.hash.hex() != entry.hash:
            add_sealed(found, body.number, entry, gone=False)


def add_sealed(found: Findings, number: int, entry: Entry, *, gone: bool) -> None:
    """The problem that checkpoint `number` convicts the event of."""
    damage: Damage = "missing" if gone else "changed"
    detail = f"checkpoint {number} sealed {'this event, it is gone' if gone else 'another event'}"
    found.add(damage, detail, run=entry.run, stream=entry.stream, seq=entry.seq)
