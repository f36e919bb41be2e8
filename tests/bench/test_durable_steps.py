"""The benchmark measures what it says, on sizes at which no figure means anything: its shape and its refusals, no timing."""

from pathlib import Path

import audit
import checked
import durable_steps
import figures
import floor
import growth
import lone
import machine
import msgspec
import parked
import peers
import pytest
import steps
from spread import Spread
from workload import STEPS, record

from holdfast.store._schema import connect

PROMISED = {
    "steps_per_s", "steps_per_s_with_intent", "floor_steps_per_s", "ratio_to_floor", "lone_step_ms", "rss_mb", "resume_10000_s",
    "growth_40_to_10", "verify_events_per_s", "peers",
}  # fmt: skip


@pytest.mark.slow
def test_a_run_of_all_parts_gives_every_promised_figure(tmp_path: Path) -> None:
    plan = durable_steps.Plan(
        runs=3, pairs=1, lone_steps=2, parked=4, turns=(1, 2), imports=1, with_peers=False, with_split=True
    )
    report = durable_steps.Bench(plan=plan, folder=tmp_path, say=lambda _: None).run()
    assert report.failed == {}
    sized = {"resume_10000_s": "resume_4_s", "growth_40_to_10": "growth_2_to_1"}
    shown = msgspec.json.decode(msgspec.json.encode(report.as_json()))
    assert {sized.get(name, name) for name in PROMISED} <= shown.keys()
    assert shown["targets"]["ratio_to_floor"]["target"] == {"bound": "at least", "value": 0.5}
    assert "steps_per_s_with_intent" in report.as_text()
    assert list(tmp_path.iterdir()) == []


def test_the_sizes_are_those_of_the_names() -> None:
    for plan in (durable_steps.Plan(), durable_steps.QUICK):
        assert (plan.runs, plan.parked, plan.turns) == (1000, 10_000, (10, 40))
        assert plan.pairs >= 3
        assert plan.lone_steps >= 200


def test_records_are_about_a_kilobyte_and_all_different() -> None:
    made = [msgspec.json.encode(record(run, step)) for run in range(100) for step in range(STEPS)]
    assert len(set(made)) == len(made)
    assert all(900 <= len(one) <= 1100 for one in made)


@pytest.mark.parametrize(("kind", "events"), [("plain", 12), ("intent", 22)])
async def test_steps_are_counted_in_the_record_and_outside_of_it(tmp_path: Path, kind: str, events: int) -> None:
    measured = await steps.measure(tmp_path / "s.db", runs=3, kind=kind)
    assert measured.events == 3 * events
    assert steps.bodies == {kind: 3 * STEPS}


async def test_the_floor_stores_every_step(tmp_path: Path) -> None:
    measured = await floor.measure(tmp_path / "f.db", runs=3)
    assert measured.steps_per_s > 0


async def test_a_damaged_or_short_store_gives_no_figure(tmp_path: Path) -> None:
    store = tmp_path / "s.db"
    await steps.measure(store, runs=2, kind="plain")
    with pytest.raises(checked.Unsound):
        await checked.checked(store, runs=3, events=24)
    connection = connect(store, str(store))
    connection.execute("UPDATE events SET payload = CAST(payload || ' ' AS BLOB) WHERE seq = 4")
    connection.close()
    with pytest.raises(checked.Unsound, match="changed"):
        await checked.checked(store, runs=2, events=24)
    with pytest.raises(checked.Unsound, match="changed"):
        await audit.measure(store)


async def test_every_step_alone_is_measured(tmp_path: Path) -> None:
    measured = await lone.measure(tmp_path / "l.db", steps=3)
    assert len(measured.plain_ms) == len(measured.intent_ms) == 3
    assert min(measured.flush_ms) > 0


async def test_parked_runs_are_resumed_without_doing_anything_again(tmp_path: Path) -> None:
    store = tmp_path / "p.db"
    assert (await parked.park(store, runs=4)).runs == 4
    opened = await parked.open_it(store)
    assert opened.approvals == 4
    await parked.give(store, runs=1)
    replayed = await parked.resume(store, runs=None)
    assert (replayed.runs, replayed.redone) == (1, 0)
    resumed = await parked.resume(store, runs=3)
    assert (resumed.runs, resumed.redone) == (4, 0)
    assert (await audit.measure(store)).events > 4 * STEPS


@pytest.mark.parametrize("hosted", [False, True])
async def test_more_turns_need_more_bytes(tmp_path: Path, *, hosted: bool) -> None:
    few = await growth.measure(tmp_path / "1.db", turns=1, runs=2, hosted=hosted)
    many = await growth.measure(tmp_path / "2.db", turns=3, runs=2, hosted=hosted)
    assert many.bytes_a_run > few.bytes_a_run
    assert many.events_a_run > few.events_a_run


@pytest.mark.slow
def test_a_peer_that_cannot_be_installed_is_skipped_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "_ENVIRONMENTS", tmp_path / "environments")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    absent = peers.Peer(name="absent", script="peer_absent.py", requirements=("no-such-engine==1",), note="")
    measured = peers.measure(tmp_path, runs=1, peers=(absent,))
    assert measured.steps_per_s == {}
    assert "no-such-engine" in measured.skipped["absent"]


def test_a_folder_in_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "filesystem_of", lambda _: "tmpfs")  # a real one would need a mount
    with pytest.raises(machine.NoDisk, match="tmpfs"):
        machine.describe(tmp_path)


def test_a_spread_says_how_many_measurements_it_has() -> None:
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(median=2.0, least=1.0, most=3.0, n=3)
    with pytest.raises(ValueError, match="no measurements"):
        Spread.of([])


def test_a_target_is_met_on_its_side() -> None:
    met = figures.of("ratio_to_floor", 0.5, "", "")
    missed = figures.of("lone_step_ms", 2.1, "ms", "")
    without = figures.of("cpu_us_per_step", 1.0, "us", "")
    assert (met.is_met, missed.is_met, without.is_met) == (True, False, None)
