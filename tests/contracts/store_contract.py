"""What every store does. `tests/store/` runs it on each of them."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

import pytest

from holdfast.errors import (
    CannotRedact,
    NoteExists,
    RunExists,
    SequenceConflict,
    StaleEpoch,
    StoreClosed,
    UnknownRun,
)
from holdfast.store import Append, Checkpoint, Claimed, Row, RunState, Store, Stream, Wait
from tests.contracts.streams import NOW_NS, VERSIONS, Pen, approval, finished, new_run, parked

LONG_S = 60.0


class StoreContract:
    """Subclasses say how a store is opened: a fixture `store`."""

    # -- streams ------------------------------------------------------------------------------------------------------

    async def test_what_was_appended_is_read_in_order(self, store: Store) -> None:
        pen = await begin(store, "r")
        for _ in range(5):
            await store.append(pen.append())
        await store.append(pen.append(rows=3))
        assert await store.rows("r", Stream.RUN) == pen.rows
        assert await store.rows("r", Stream.RUN, after=4) == pen.rows[5:]
        row = await store.run("r")
        assert row is not None
        assert (row.seq, row.hash, row.notes_seq, row.level, row.updated_ns) == (8, pen.hash, -1, 3, pen.rows[-1].at_ns)

    async def test_all_columns_come_back_as_they_were(self, store: Store) -> None:
        row = Row(0, b"\x00\xff\x00", None, b"", b"\xfe" * 32, "k\x00é\u2028", "", 2**62, 0, 0, None, 7)
        await store.create(
            new_run("r", parent="p", origin="otlp", wake_ns=77), Append("r", Stream.RUN, 0, b"genesis", (row,))
        )
        assert await store.rows("r", Stream.RUN) == [row]
        run = await store.run("r")
        assert run is not None
        assert (run.parent, run.origin, run.wake_ns, run.secret, run.status) == ("p", "otlp", 77, b"k" * 32, "pending")
        assert (run.workflow, run.version, run.created_ns, run.worker, run.outcome) == ("handle", "1", 5, None, None)

    async def test_an_unknown_run_is_empty_and_takes_nothing(self, store: Store) -> None:
        assert await store.run("nobody") is None
        assert await store.rows("nobody", Stream.RUN) == []
        assert await store.blobs("nobody", [b"x"]) == {}
        with pytest.raises(UnknownRun, match="nobody") as caught:
            await store.append(Pen("nobody").append())
        assert caught.value.store == store.address

    async def test_a_run_is_created_once(self, store: Store) -> None:
        await begin(store, "r")
        with pytest.raises(RunExists):
            await store.create(new_run("r"), Pen("r").append())
        assert len(await store.rows("r", Stream.RUN)) == 1

    async def test_of_many_who_create_one_run_one_succeeds(self, store: Store) -> None:
        outcomes = await all_of(store.create(new_run("r"), Pen("r").append()) for _ in range(20))
        assert sorted(map(kind_of, outcomes)) == ["RunExists"] * 19 + ["int"]
        assert len(await store.rows("r", Stream.RUN)) == 1

    async def test_a_row_goes_only_to_the_head_of_its_stream(self, store: Store) -> None:
        pen = await begin(store, "r")
        await store.append(pen.append())
        for seq, hash in ((0, pen.hash), (2, pen.hash), (1, b"another" * 4)):
            with pytest.raises(SequenceConflict) as caught:
                await store.append(Pen("r").at(seq, hash).append())
            assert (caught.value.expected_seq, caught.value.actual_seq) == (seq + 1, 2)
        assert await store.rows("r", Stream.RUN) == pen.rows

    async def test_requests_of_one_run_that_are_pending_together_are_stored_in_the_order_of_the_calls(
        self, store: Store
    ) -> None:
        pen = await begin(store, "r")
        outcomes = await all_of(store.append(pen.append()) for _ in range(300))
        assert outcomes == [None] * 300
        assert await store.rows("r", Stream.RUN) == pen.rows

    async def test_what_is_chained_on_a_refused_request_is_refused(self, store: Store) -> None:
        pen = await begin(store, "r")
        wrong = Pen("r").at(0, b"nowhere")
        first, second, third = wrong.append(), wrong.append(), wrong.append()
        outcomes = await all_of(map(store.append, (first, second, pen.append(), third)))
        assert list(map(kind_of, outcomes)) == ["SequenceConflict", "SequenceConflict", "NoneType", "SequenceConflict"]
        assert await store.rows("r", Stream.RUN) == pen.rows

    async def test_of_concurrent_appenders_of_one_run_one_wins_each_place(self, store: Store) -> None:
        await begin(store, "r")
        written = 0

        async def writer() -> None:
            nonlocal written
            for _ in range(10):
                while True:
                    run = await store.run("r")
                    assert run is not None
                    try:
                        await store.append(Pen("r").at(run.seq, run.hash).append())
                    except SequenceConflict:
                        continue
                    written += 1
                    break

        await asyncio.gather(*(writer() for _ in range(8)))
        rows = await store.rows("r", Stream.RUN)
        assert written == 80
        assert [row.seq for row in rows] == list(range(81))

    async def test_a_thousand_runs_do_not_mix(self, store: Store) -> None:
        pens = [Pen(f"r{n}") for n in range(1_000)]
        await asyncio.gather(*(store.create(new_run(pen.run), pen.append()) for pen in pens))
        await asyncio.gather(*(store.append(pen.append(payload=pen.run.encode())) for pen in pens))
        for pen in pens[::97]:
            assert await store.rows(pen.run, Stream.RUN) == pen.rows

    async def test_a_large_payload_is_stored(self, store: Store) -> None:
        pen = await begin(store, "r")
        await store.append(pen.append(payload=bytes(range(256)) * 40_000))
        assert await store.rows("r", Stream.RUN) == pen.rows

    async def test_the_level_is_that_of_the_last_event_of_the_run_stream(self, store: Store) -> None:
        pen = await begin(store, "r")
        await store.append(pen.append(level=1))
        await store.append(Pen("r", Stream.NOTES).append(level=0))
        row = await store.run("r")
        assert row is not None
        assert row.level == 1

    # -- notes --------------------------------------------------------------------------------------------------------

    async def test_a_note_key_is_taken_once(self, store: Store) -> None:
        await begin(store, "r")
        await begin(store, "other")
        notes = Pen("r", Stream.NOTES)
        await store.append(notes.append())
        await store.append(notes.append(key="k"))
        head = (notes.seq, notes.hash)
        # Also for whoever tries again from an old head: it must learn that the note is there, not that another was first.
        for pen in (Pen("r", Stream.NOTES).at(*head), Pen("r", Stream.NOTES)):
            with pytest.raises(NoteExists) as caught:
                await store.append(pen.append(key="k"))
            assert (caught.value.run, caught.value.key, caught.value.seq) == ("r", "k", 1)
        await store.append(Pen("r", Stream.NOTES).at(*head).append(key="l"))
        await store.append(Pen("other", Stream.NOTES).append(key="k"))
        assert [row.seq for row in await store.rows("r", Stream.NOTES)] == [0, 1, 2]

    async def test_of_two_notes_with_one_key_sent_together_one_is_stored(self, store: Store) -> None:
        await begin(store, "r")
        notes = Pen("r", Stream.NOTES)
        outcomes = await all_of(store.append(notes.append(key="k")) for _ in range(2))
        assert list(map(kind_of, outcomes)) == ["NoneType", "NoteExists"]

    async def test_a_note_needs_no_epoch_and_no_unfinished_run(self, store: Store) -> None:
        pen = await begin(store, "r", worker="w")
        await store.append(pen.append(state=finished()))
        await store.append(Pen("r", Stream.NOTES, epoch=99).append())
        row = await store.run("r")
        assert row is not None
        assert (row.notes_seq, row.status, row.outcome, row.worker, row.wake_ns) == (
            0,
            "completed",
            "completed",
            None,
            None,
        )

    # -- parking and waking -------------------------------------------------------------------------------------------

    async def test_a_note_wakes_a_parked_run(self, store: Store) -> None:
        await park(store, "r", parked(approval("a")))
        assert await claim(store) == []
        await store.append(Pen("r", Stream.NOTES).append())
        (claimed,) = await claim(store)
        assert [row.seq for row in claimed.notes] == [0]

    async def test_a_note_does_not_wake_a_run_that_ended(self, store: Store) -> None:
        for status in ("completed", "failed", "cancelled"):
            await park(store, status, RunState(status, release=True))
            await store.append(Pen(status, Stream.NOTES).append())
        assert await claim(store) == []
        assert await store.next_wake_ns(VERSIONS) is None

    async def test_a_note_that_came_before_the_release_is_not_missed(self, store: Store) -> None:
        pen = await begin(store, "r", worker="w")
        await store.append(Pen("r", Stream.NOTES).append())
        await store.append(pen.append(state=parked(approval("a"))))
        assert [claimed.row.run for claimed in await claim(store)] == ["r"]

    async def test_a_note_that_was_seen_does_not_wake(self, store: Store) -> None:
        pen = await begin(store, "r", worker="w")
        await store.append(Pen("r", Stream.NOTES).append())
        await store.append(pen.append(state=parked(approval("a"), notes_seen=0)))
        assert await claim(store) == []
        row = await store.run("r")
        assert row is not None
        assert row.notes_seen == 0

    @pytest.mark.parametrize("note_first", [False, True])
    async def test_a_note_sent_together_with_the_release_wakes(self, store: Store, note_first: bool) -> None:
        pen = await begin(store, "r", worker="w")
        requests = [pen.append(state=parked(approval("a"))), Pen("r", Stream.NOTES).append()]
        await asyncio.gather(*map(store.append, reversed(requests) if note_first else requests))
        assert [claimed.row.run for claimed in await claim(store)] == ["r"]

    async def test_a_note_with_a_state_wakes_whatever_the_state_says(self, store: Store) -> None:
        pen = await begin(store, "r")
        state = RunState("waiting")
        await asyncio.gather(
            store.append(pen.append(state=state)), store.append(Pen("r", Stream.NOTES).append(state=state))
        )
        assert [claimed.row.run for claimed in await claim(store)] == ["r"]

    async def test_a_note_on_a_run_that_somebody_owns_leaves_it_to_the_owner(self, store: Store) -> None:
        await store.register("w", lease_s=LONG_S)
        await begin(store, "r", worker="w")
        await store.append(Pen("r", Stream.NOTES).append())
        assert await claim(store) == []

    # -- claims -------------------------------------------------------------------------------------------------------

    async def test_a_claim_takes_what_is_due_the_longest_due_first(self, store: Store) -> None:
        for run, wake_ns in (("late", NOW_NS + 1), ("third", 30), ("first", 0), ("second", 20), ("never", None)):
            await store.create(new_run(run, wake_ns=wake_ns), Pen(run, epoch=0).append())
        assert await store.next_wake_ns(VERSIONS) == 0
        assert [claimed.row.run for claimed in await claim(store, limit=2)] == ["first", "second"]
        assert [claimed.row.run for claimed in await claim(store)] == ["third"]
        assert await claim(store) == []
        assert await store.next_wake_ns(VERSIONS) == NOW_NS + 1
        assert [claimed.row.run for claimed in await claim(store, now_ns=NOW_NS + 1)] == ["late"]
        assert await store.next_wake_ns(VERSIONS) is None

    async def test_a_claim_takes_only_versions_that_were_asked_for(self, store: Store) -> None:
        for run, workflow, version in (("a", "handle", "1"), ("b", "handle", "2"), ("c", "other", "1")):
            await store.create(new_run(run, workflow=workflow, version=version), Pen(run, epoch=0).append())
        assert await store.next_wake_ns([("other", "2")]) is None
        await store.register("w", lease_s=LONG_S)
        claimed = await store.claim("w", [("handle", "2"), ("other", "1")], now_ns=NOW_NS, limit=10)
        assert sorted(each.row.run for each in claimed) == ["b", "c"]
        assert await store.claim("w", [], now_ns=NOW_NS, limit=10) == []

    async def test_a_claimed_run_comes_with_both_streams_under_a_new_epoch(self, store: Store) -> None:
        pens = [Pen(f"r{n}", epoch=0) for n in range(5)]
        for pen in pens:
            await store.create(new_run(pen.run), pen.append(rows=3))
            notes = Pen(pen.run, Stream.NOTES)
            await store.append(notes.append(payload=pen.run.encode()))
            pen.rows += notes.rows
        claimed = await claim(store)
        assert [each.row.run for each in claimed] == [pen.run for pen in pens]
        for each, pen in zip(claimed, pens, strict=True):
            assert [*each.events, *each.notes] == pen.rows
            assert (each.row.worker, each.row.epoch, each.row.wake_ns, each.taken_from) == ("w", 1, None, None)
            assert each.row.status == "running"
            assert each.row == await store.run(pen.run)
            await store.append(Pen(pen.run, epoch=1).at(2, each.row.hash).append())

    async def test_a_run_is_claimed_by_one(self, store: Store) -> None:
        for n in range(40):
            await store.create(new_run(f"r{n}"), Pen(f"r{n}", epoch=0).append())
        for worker in ("a", "b", "c"):
            await store.register(worker, lease_s=LONG_S)
        claims = (store.claim(worker, VERSIONS, now_ns=NOW_NS, limit=7) for worker in "abcabcabc")
        taken = [each.row.run for claimed in await asyncio.gather(*claims) for each in claimed]
        assert sorted(taken) == sorted(f"r{n}" for n in range(40))

    async def test_a_worker_that_is_not_registered_gets_nothing(self, store: Store) -> None:
        await store.create(new_run("r"), Pen("r", epoch=0).append())
        assert await store.claim("stranger", VERSIONS, now_ns=NOW_NS, limit=1) == []
        assert len(await claim(store)) == 1

    async def test_a_run_can_be_born_claimed(self, store: Store) -> None:
        await store.register("w", lease_s=LONG_S)
        pen = Pen("r", epoch=1)
        assert await store.create(new_run("r"), pen.append(), worker="w") == 1
        assert await claim(store) == []
        await store.append(pen.append())
        row = await store.run("r")
        assert row is not None
        assert (row.worker, row.epoch) == ("w", 1)

    # -- ownership (law 6) --------------------------------------------------------------------------------------------

    async def test_an_old_epoch_is_refused_after_a_claim(self, store: Store) -> None:
        pen = Pen("r", epoch=0)
        await store.create(new_run("r"), pen.append())
        await claim(store)
        with pytest.raises(StaleEpoch) as caught:
            await store.append(pen.append())
        assert (caught.value.run, caught.value.epoch, caught.value.current) == ("r", 0, 1)

    async def test_a_worker_whose_lease_ran_out_is_replaced_and_can_not_write(self, store: Store) -> None:
        await store.register("zombie", lease_s=0.0)
        pen = await begin(store, "r", worker="zombie")
        await store.register("w", lease_s=LONG_S)
        assert await store.reap() == ["zombie"]
        row = await store.run("r")
        assert row is not None
        assert (row.status, row.worker, row.wake_ns) == ("pending", None, 0)
        with pytest.raises(StaleEpoch):
            await store.append(pen.append())
        assert not await store.renew("zombie", lease_s=LONG_S)
        (claimed,) = await store.claim("w", VERSIONS, now_ns=NOW_NS, limit=10)
        assert (claimed.row.run, claimed.taken_from, claimed.row.epoch) == ("r", "zombie", 3)
        assert list(claimed.events) == pen.rows[:1]
        assert await store.reap() == []

    async def test_a_renewed_worker_keeps_its_runs(self, store: Store) -> None:
        await store.register("w", lease_s=0.0)
        pen = await begin(store, "r", worker="w")
        assert await store.renew("w", lease_s=LONG_S)
        assert await store.reap() == []
        await store.append(pen.append())

    async def test_a_worker_that_nobody_replaced_may_renew_late(self, store: Store) -> None:
        await store.register("w", lease_s=0.0)
        assert await store.renew("w", lease_s=0.0)

    async def test_a_retired_worker_leaves_its_runs_to_be_claimed(self, store: Store) -> None:
        await store.register("old", lease_s=LONG_S)
        pen = await begin(store, "r", worker="old")
        await store.retire("old")
        assert not await store.renew("old", lease_s=LONG_S)
        with pytest.raises(StaleEpoch):
            await store.append(pen.append())
        (claimed,) = await claim(store)
        assert (claimed.row.run, claimed.taken_from) == ("r", None)
        await store.retire("old")

    async def test_the_owner_who_never_registered_counts_as_dead(self, store: Store) -> None:
        pen = await begin(store, "r", worker="stranger")
        assert await store.reap() == ["stranger"]
        with pytest.raises(StaleEpoch):
            await store.append(pen.append())
        (claimed,) = await claim(store)
        assert claimed.taken_from == "stranger"

    async def test_the_dead_worker_is_named_once(self, store: Store) -> None:
        await store.register("dead", lease_s=0.0)
        await begin(store, "r", worker="dead")
        await store.reap()
        (claimed,) = await claim(store)
        assert claimed.taken_from == "dead"
        await store.append(Pen("r", epoch=claimed.row.epoch).at(0, claimed.row.hash).append(state=parked(wake_ns=0)))
        (again,) = await claim(store)
        assert again.taken_from is None

    # -- waits --------------------------------------------------------------------------------------------------------

    async def test_waits_are_found_by_id_and_kind_oldest_first(self, store: Store) -> None:
        timer = Wait("t", "timer", "sleep", "2", 500)
        await park(store, "r1", parked(approval("a"), timer))
        await park(store, "r2", parked(approval("b")))
        assert await store.waits() == [("r1", approval("a")), ("r1", timer), ("r2", approval("b"))]
        assert await store.waits(id="b") == [("r2", approval("b"))]
        assert await store.waits(kinds=["timer", "signal"]) == [("r1", timer)]
        assert await store.waits(id="a", kinds=["timer"]) == []

    async def test_the_next_state_replaces_the_waits(self, store: Store) -> None:
        pen = await park(store, "r", parked(approval("a"), approval("b"), wake_ns=0))
        (claimed,) = await claim(store)
        pen.epoch = claimed.row.epoch
        await store.append(pen.append(state=RunState("running", waits=(approval("b"),))))
        assert await store.waits() == [("r", approval("b"))]
        await store.append(pen.append(state=finished("refused")))
        assert await store.waits() == []
        row = await store.run("r")
        assert row is not None
        assert (row.status, row.outcome) == ("completed", "refused")

    async def test_of_several_states_sent_together_the_last_one_stays(self, store: Store) -> None:
        pen = await begin(store, "r", worker="w")
        states = [
            RunState("running", waits=(approval("a"),)),
            RunState("attention", "x", 7),
            parked(approval("b"), wake_ns=9),
        ]
        await asyncio.gather(*(store.append(pen.append(state=state)) for state in states))
        row = await store.run("r")
        assert row is not None
        assert (row.status, row.outcome, row.wake_ns, row.worker) == ("waiting", None, 9, None)
        assert await store.waits() == [("r", approval("b"))]

    # -- listing ------------------------------------------------------------------------------------------------------

    async def test_runs_are_listed_newest_first_and_in_pages(self, store: Store) -> None:
        for n in range(7):
            await store.create(
                new_run(f"r{n}", workflow=f"w{n % 2}", parent="p" if n > 3 else None), Pen(f"r{n}", epoch=0).append()
            )
        await store.append(
            Pen("r6", epoch=0).at(0, (await store.rows("r6", Stream.RUN))[0].hash).append(state=finished())
        )

        async def names(**filters: object) -> list[str]:
            return [row.run for row in await store.runs(**filters)]  # type: ignore[arg-type]  # passed on as they are

        assert await names() == ["r6", "r5", "r4", "r3", "r2", "r1", "r0"]
        assert await names(limit=2) == ["r6", "r5"]
        assert await names(limit=2, after="r5") == ["r4", "r3"]
        assert await names(after="r0") == []
        assert await names(after="unknown") == []
        assert await names(status=["completed"]) == ["r6"]
        assert await names(status=["pending", "completed"], workflow="w0") == ["r6", "r4", "r2", "r0"]
        assert await names(parent="p", limit=2, after="r6") == ["r5", "r4"]
        assert await store.count() == {"pending": 6, "completed": 1}

    async def test_an_empty_store_has_nothing(self, store: Store) -> None:
        assert await store.runs() == []
        assert await store.count() == {}
        assert await store.waits() == []
        assert await store.next_wake_ns(VERSIONS) is None
        assert await store.reap() == []

    async def test_events_are_found_by_kind_and_name(self, store: Store) -> None:
        for run, name in (("a", "x"), ("b", "y"), ("c", "x")):
            pen = await begin(store, run)
            await store.append(pen.append(kind="answer.completed", name=name))
            await store.append(pen.append(kind="step.completed", name=name))
            await store.append(Pen(run, Stream.NOTES).append(kind="answer.completed", name=name))
        for kind, seq in (("answer.completed", 1), ("step.completed", 2)):
            found = await store.find(kind, "x", limit=9)
            assert [(run, row.seq, row.kind) for run, row in found] == [("c", seq, kind), ("a", seq, kind)]
        assert [run for run, _ in await store.find("answer.completed", "x", limit=1)] == ["c"]
        assert await store.find("answer.completed", "z", limit=9) == []

    async def test_a_store_has_a_secret_of_its_own(self, store: Store) -> None:
        secret = await store.secret()
        assert len(secret) == 32
        assert await store.secret() == secret

    # -- blobs --------------------------------------------------------------------------------------------------------

    async def test_blobs_belong_to_a_run_and_shared_ones_to_none(self, store: Store) -> None:
        pen, other = await begin(store, "r"), await begin(store, "other")
        await store.append(pen.append(blobs=((b"1", b"one"), (b"2", b"\x00\xff")), shared=((b"s", b"shared"),)))
        await store.append(pen.append(blobs=((b"1", b"one"),), shared=((b"s", b"shared"), (b"t", b""))))
        await store.append(other.append(blobs=((b"1", b"another"),)))
        assert await store.blobs("r", [b"1", b"2", b"3"]) == {b"1": b"one", b"2": b"\x00\xff"}
        assert await store.blobs("other", [b"1"]) == {b"1": b"another"}
        assert await store.blobs("r", []) == {}
        assert await store.shared([b"s", b"t", b"u"]) == {b"s": b"shared", b"t": b""}

    async def test_blobs_of_a_refused_request_are_not_stored(self, store: Store) -> None:
        await begin(store, "r")
        with pytest.raises(SequenceConflict):
            await store.append(Pen("r").at(7, b"").append(blobs=((b"1", b"one"),), shared=((b"s", b"shared"),)))
        assert await store.blobs("r", [b"1"]) == {}
        assert await store.shared([b"s"]) == {}

    # -- redaction ----------------------------------------------------------------------------------------------------

    async def test_redacting_rows_takes_their_content_and_leaves_the_rest(self, store: Store) -> None:
        pen = await park(store, "r", finished(), blobs=((b"1", b"one"),))
        notes = Pen("r", Stream.NOTES)
        await store.append(notes.append(payload=b"a note"))
        asked = [(Stream.RUN, 1), (Stream.NOTES, 0), (Stream.RUN, 99)]
        assert await store.redact("r", asked, notes.append(kind="note.redaction", payload=b"why")) == 2
        events, read = await store.rows("r", Stream.RUN), await store.rows("r", Stream.NOTES)
        assert events == [pen.rows[0], pen.rows[1]._replace(payload=None, salt=None)]
        assert read == [notes.rows[0]._replace(payload=None, salt=None), notes.rows[1]]
        assert await store.blobs("r", [b"1"]) == {b"1": b"one"}
        assert await store.redact("r", asked, notes.append(kind="note.redaction")) == 0

    async def test_redacting_a_run_takes_all_content_but_the_redaction_notes(self, store: Store) -> None:
        await park(store, "r", finished(), blobs=((b"1", b"one"),))
        other = await park(store, "other", finished(), blobs=((b"1", b"one"),))
        notes = Pen("r", Stream.NOTES)
        await store.append(notes.append())
        await store.redact("r", [(Stream.RUN, 0)], notes.append(kind="note.redaction", payload=b"first"))
        assert await store.redact("r", None, notes.append(kind="note.redaction", payload=b"second")) == 2
        assert [row.payload for row in await store.rows("r", Stream.RUN)] == [None, None]
        assert [row.payload for row in await store.rows("r", Stream.NOTES)] == [None, b"first", b"second"]
        assert await store.blobs("r", [b"1"]) == {}
        row, untouched = await store.run("r"), await store.run("other")
        assert row is not None
        assert untouched is not None
        assert (row.secret, row.notes_seq, untouched.secret) == (None, 2, b"k" * 32)
        assert await store.rows("other", Stream.RUN) == other.rows
        assert await store.blobs("other", [b"1"]) == {b"1": b"one"}

    async def test_a_run_that_somebody_owns_is_not_redacted(self, store: Store) -> None:
        pen = await begin(store, "r", worker="w")
        with pytest.raises(CannotRedact, match="w"):
            await store.redact("r", None, Pen("r", Stream.NOTES).append())
        with pytest.raises(UnknownRun):
            await store.redact("nobody", None, Pen("nobody", Stream.NOTES).append())
        assert await store.rows("r", Stream.RUN) == pen.rows
        assert await store.rows("r", Stream.NOTES) == []

    async def test_a_redaction_whose_note_is_refused_takes_nothing(self, store: Store) -> None:
        pen = await park(store, "r", finished())
        await store.append(Pen("r", Stream.NOTES).append())
        with pytest.raises(SequenceConflict):
            await store.redact("r", None, Pen("r", Stream.NOTES).append())
        assert await store.rows("r", Stream.RUN) == pen.rows

    # -- the whole store ----------------------------------------------------------------------------------------------

    async def test_a_snapshot_shows_one_moment(self, store: Store) -> None:
        pen = await park(store, "r", parked(approval("a")), blobs=((b"2", b"two"), (b"1", b"one")))
        await store.append(Pen("r", Stream.NOTES).append(shared=((b"s", b"shared"),)))
        checkpoint = Checkpoint(1, 5, b"body", b"hash", None, None)
        await store.add_checkpoint(checkpoint)
        row = await store.run("r")
        with store.snapshot() as snapshot:
            await begin(store, "later")
            await store.append(Pen("r", Stream.NOTES).at(0, row.notes_hash if row else b"").append())
            await store.add_checkpoint(Checkpoint(2, 6, b"", b"", b"signature", "key"))
            assert list(snapshot.runs()) == [row]
            assert list(snapshot.rows("r", Stream.RUN)) == pen.rows
            assert list(snapshot.rows("r", Stream.RUN, after=0)) == pen.rows[1:]
            assert [each.seq for each in snapshot.rows("r", Stream.NOTES)] == [0]
            assert list(snapshot.waits("r")) == [approval("a")]
            assert list(snapshot.blobs("r")) == [(b"1", b"one"), (b"2", b"two")]
            assert list(snapshot.shared()) == [(b"s", b"shared")]
            assert list(snapshot.orphans()) == []
            assert list(snapshot.checkpoints()) == [checkpoint]
        with store.snapshot() as snapshot:
            assert [each.run for each in snapshot.runs()] == ["r", "later"]
            assert [each.key_id for each in snapshot.checkpoints()] == [None, "key"]

    async def test_checkpoints_follow_one_another(self, store: Store) -> None:
        await store.add_checkpoint(Checkpoint(1, 5, b"", b"", None, None))
        for number in (1, 3):
            with pytest.raises(SequenceConflict) as caught:
                await store.add_checkpoint(Checkpoint(number, 6, b"", b"", None, None))
            assert (caught.value.stream, caught.value.expected_seq, caught.value.actual_seq) == (
                "checkpoints",
                number,
                2,
            )
        await store.add_checkpoint(Checkpoint(2, 6, b"", b"", None, None))

    async def test_a_snapshot_can_be_read_in_a_thread_while_others_write(self, store: Store) -> None:
        pen = await begin(store, "r")

        def read() -> int:
            with store.snapshot() as snapshot:
                (row,) = snapshot.runs()
                rows = list(snapshot.rows("r", Stream.RUN))
                assert rows[-1].seq == row.seq
                assert rows[-1].hash == row.hash
                return len(rows)

        async def write() -> None:
            for _ in range(100):
                await store.append(pen.append())

        writing = asyncio.create_task(write())
        counts = [await asyncio.to_thread(read) for _ in range(10)]
        await writing
        assert counts == sorted(counts)

    # -- cancellation and the end -------------------------------------------------------------------------------------

    async def test_a_cancelled_append_is_stored_whole_or_not_at_all(self, store: Store) -> None:
        pens = [await begin(store, f"r{n}") for n in range(20)]
        tasks = [asyncio.ensure_future(store.append(pen.append(rows=3))) for pen in pens]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        for pen, outcome in zip(pens, outcomes, strict=True):
            rows = await store.rows(pen.run, Stream.RUN)
            assert rows == pen.rows or (isinstance(outcome, asyncio.CancelledError) and rows == pen.rows[:1])
            await store.append(Pen(pen.run).at(rows[-1].seq, rows[-1].hash).append())

    async def test_closing_writes_what_was_accepted(self, store: Store) -> None:
        pen = await begin(store, "r")
        sent = [asyncio.ensure_future(store.append(pen.append())) for _ in range(500)]
        await asyncio.sleep(0)
        await store.close()
        assert await asyncio.gather(*sent) == [None] * 500

    async def test_a_closed_store_says_so(self, store: Store) -> None:
        pen = await begin(store, "r")
        await store.close()
        await store.close()
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: store.append(pen.append()),
            lambda: store.create(new_run("s"), Pen("s").append()),
            lambda: store.run("r"),
            lambda: store.rows("r", Stream.RUN),
            lambda: store.claim("w", VERSIONS, now_ns=0, limit=1),
            store.reap,
        ]
        for call in calls:
            with pytest.raises(StoreClosed) as caught:
                await call()
            assert caught.value.store == store.address
        with pytest.raises(StoreClosed), store.snapshot():
            pass


async def begin(store: Store, run: str, *, worker: str | None = None) -> Pen:
    """A run with one event, and the pen of its owner."""
    pen = Pen(run)
    await store.create(new_run(run), pen.append(), worker=worker)
    return pen


async def park(store: Store, run: str, state: RunState, *, blobs: tuple[tuple[bytes, bytes], ...] = ()) -> Pen:
    """A run with two events that its owner let go of."""
    pen = await begin(store, run, worker="somebody")
    await store.append(pen.append(state=state, blobs=blobs))
    return pen


async def claim(store: Store, *, now_ns: int = NOW_NS, limit: int = 100) -> Sequence[Claimed]:
    await store.register("w", lease_s=LONG_S)
    return await store.claim("w", VERSIONS, now_ns=now_ns, limit=limit)


async def all_of(calls: Iterable[Awaitable[object]]) -> list[object]:
    """Started in this order; what each gave or raised."""
    return await asyncio.gather(*calls, return_exceptions=True)


def kind_of(outcome: object) -> str:
    return type(outcome).__name__
