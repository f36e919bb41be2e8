"""Checkpoints: what was sealed and exported can't be rewritten."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import SequenceConflict
from holdfast.journal import Journal
from holdfast.journal import checkpoint as cp
from holdfast.journal.signing import new_key
from holdfast.journal.verify import verify
from holdfast.store import Checkpoint, Store, Stream
from tests.journal.support import Tables, Ticks, audit, complete, opened, seal_all

hashes = st.binary(min_size=32, max_size=32).map(bytes.hex)
entries = st.lists(
    st.builds(cp.Entry, st.text(max_size=5), st.sampled_from(Stream), st.integers(0, 99), hashes),
    max_size=5,
    unique_by=lambda entry: (entry.run, entry.stream),
)
PRIVATE, PUBLIC = new_key()
_, OTHER = new_key()


@given(st.lists(entries, min_size=1, max_size=3), st.booleans())
def test_a_checkpoint_agrees_with_itself_and_survives_its_export(heads: list[list[cp.Entry]], signed: bool) -> None:
    last: Checkpoint | None = None
    for number, grown in enumerate(heads, 1):
        before, last = last, cp.build(grown, at_ns=number, previous=last, key=PRIVATE if signed else None)
        body = cp.parse(last)
        assert (body.number, body.streams) == (number, tuple(sorted(grown)))
        assert body.previous == (cp.NOTHING_BEFORE if before is None else before.hash).hex()
        assert cp.parse_exported(cp.export_checkpoint(last)) == last
        assert cp.signed_by(last, [OTHER, PUBLIC]) is signed
        assert not cp.signed_by(last, [OTHER])


@given(entries, st.data())
def test_any_flipped_bit_of_a_signed_checkpoint_is_found(heads: list[cp.Entry], data: st.DataObject) -> None:
    made = cp.build(heads, at_ns=7, key=PRIVATE)
    name = data.draw(st.sampled_from(("body", "hash", "signature")))
    flipped = bytearray(getattr(made, name))
    bit = data.draw(st.integers(0, len(flipped) * 8 - 1))
    flipped[bit // 8] ^= 1 << bit % 8
    changed: Checkpoint = replace(made, **{name: bytes(flipped)})  # type: ignore[arg-type]  # by name
    if name == "signature":
        assert not cp.signed_by(changed, [PUBLIC])
    else:
        with pytest.raises(cp.BadCheckpoint):
            cp.parse(changed)


@pytest.mark.parametrize(
    ("events", "elapsed_s", "closing", "due"),
    [
        (9_999, 3_599.0, False, False),
        (10_000, 0.0, False, True),
        (1, 3_600.0, False, True),
        (1, 0.0, True, True),
        (0, 7_200.0, True, False),
    ],
)
def test_a_checkpoint_is_due_every_ten_thousand_events_hourly_and_at_close(
    events: int, elapsed_s: float, closing: bool, due: bool
) -> None:
    assert cp.due(events=events, elapsed_s=elapsed_s, closing=closing) is due


async def test_a_seal_covers_what_grew_and_nothing_else(tmp_path: Path) -> None:
    async with opened(tmp_path / "holdfast.db") as store:
        journal = Journal(store, Ticks())
        sealer = cp.Sealer(store, now_ns=Ticks().now_ns)
        assert await sealer.seal() is None
        await complete(journal, "a", notes=0)
        first = await sealer.seal()
        await complete(journal, "b")
        second = await seal_all(store)  # another process
        await complete(journal, "c")
        third = await sealer.seal()
        assert first is not None
        assert third is not None
        sealed = [[(e.run, e.stream) for e in cp.parse(c).streams] for c in (first, second, third)]
        assert sealed == [[("a", 0)], [("b", 0), ("b", 1)], [("c", 0), ("c", 1)]]
        assert [c.number for c in (first, second, third)] == [1, 2, 3]
        assert await sealer.seal() is None
        report = audit(store)
        assert (report.ok, report.checkpoints) == (True, 3)


async def test_a_process_that_seals_at_the_same_time_is_not_an_error(tmp_path: Path) -> None:
    async with opened(tmp_path / "holdfast.db") as store:
        journal = Journal(store, Ticks())
        await complete(journal, "a")

        class Overtaken:
            """The store as seen by a process that another one overtakes between its look and its write."""

            overtaken = False

            def __getattr__(self, name: str) -> object:
                return getattr(store, name)

            async def add_checkpoint(self, checkpoint: Checkpoint) -> None:
                if not self.overtaken:
                    self.overtaken = True
                    await complete(journal, "b", notes=0)
                    await seal_all(store)
                    await complete(journal, "c", notes=0)
                    raise SequenceConflict("", "checkpoints", checkpoint.number, checkpoint.number + 1)
                await store.add_checkpoint(checkpoint)

        late = await cp.Sealer(cast("Store", Overtaken()), now_ns=Ticks().now_ns).seal()
        assert late is not None
        assert (late.number, [entry.run for entry in cp.parse(late).streams]) == (2, ["c"])
        assert audit(store).ok


async def rewritten(path: Path, *, key: bytes | None = None) -> tuple[Tables, Tables, bytes]:
    """A store with two checkpoints, the same rewritten consistently, and the last checkpoint of the first."""
    stores = []
    exported = b""
    for number in range(2):
        async with opened(path / f"{number}.db") as store:
            journal = Journal(store, Ticks())
            await complete(journal, "a", text="ten crates" if number else "one crate")
            await seal_all(store, key=None if number else key)
            await complete(journal, "b")
            last = await seal_all(store, key=None if number else key)
            with store.snapshot() as snapshot:
                stores.append(Tables.of(snapshot))
            exported = exported or cp.export_checkpoint(last)
    return stores[0], stores[1], exported


async def test_law_9_an_exported_checkpoint_convicts_a_store_that_was_rewritten(tmp_path: Path) -> None:
    honest, forged, exported = await rewritten(tmp_path)
    assert verify(honest, exported=exported).ok
    assert verify(forged).ok  # nothing inside says so
    assert not verify(forged, exported=exported).ok
    no_seals = forged.copy()
    no_seals.checkpoints_ = []
    assert "truncated" in {problem.damage for problem in verify(no_seals, exported=exported).problems}


async def test_law_9_an_exported_checkpoint_convicts_a_store_without_a_run_that_an_earlier_one_sealed(
    tmp_path: Path,
) -> None:
    honest, _, exported = await rewritten(tmp_path)
    honest.remove("a")
    honest.checkpoints_ = honest.checkpoints_[1:]
    found = verify(honest, exported=exported).problems
    assert ("missing", 1) in {(problem.damage, problem.seq) for problem in found}


async def test_law_9_a_signature_convicts_a_store_that_was_rewritten(tmp_path: Path) -> None:
    honest, forged, _ = await rewritten(tmp_path, key=PRIVATE)
    assert verify(honest, public_keys=[PUBLIC]).ok
    assert not verify(honest, public_keys=[OTHER]).ok
    assert not verify(forged, public_keys=[PUBLIC]).ok
    bare = forged.copy()
    bare.checkpoints_ = []
    assert [problem.damage for problem in verify(bare, public_keys=[PUBLIC]).problems] == ["missing"]
    stripped = honest.copy()
    stripped.checkpoints_[1] = cp.build(
        cp.parse(honest.checkpoints_[1]).streams, at_ns=7, previous=honest.checkpoints_[0]
    )
    assert verify(stripped).ok
    assert [problem.damage for problem in verify(stripped, public_keys=[PUBLIC]).problems] == [
        "missing",
        "missing",
    ]


async def test_checkpoints_that_do_not_follow_each_other_are_found(tmp_path: Path) -> None:
    honest, forged, _ = await rewritten(tmp_path)
    gap = honest.copy()
    del gap.checkpoints_[0]
    assert [(p.damage, p.seq) for p in verify(gap).problems] == [("missing", 1)]
    mixed = honest.copy()
    mixed.checkpoints_[0] = forged.checkpoints_[0]
    assert {(p.damage, p.run, p.seq) for p in verify(mixed).problems} >= {
        ("changed", "", 2),
        ("changed", "a", 4),
    }


def test_an_export_that_is_none_is_refused() -> None:
    for text in (b"", b"{}", b'{"type":"checkpoint","number":1,"hash":"zz","body":"{}"}', b"\xff"):
        with pytest.raises(cp.BadCheckpoint):
            cp.parse_exported(text)


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(ImportError, match=r"holdfast\[sign\]"):
        cp.build((), at_ns=1, key=PRIVATE)
