"""Law 2: intent before effect. Workers are killed with SIGKILL at every write and around the effect itself; a process of its own
counts what took place. Each decision takes effect exactly once, or is in doubt and says so.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from holdfast.errors import TooEarly
from holdfast.testing.effects import EffectServer, Plan
from holdfast.testing.faults import WHEN
from tests.faults import after, programs
from tests.faults.conftest import Nursery, Report

pytestmark = pytest.mark.slow

SAFE = ("set", "order", "transfer")
"""Effects that are never in doubt: they can be repeated, or there is somebody who knows."""
DOUBTFUL = ("send", "post", "forgetful")
"""Effects that only a person can find out about: irreversible without a `reconcile`, or with one that can't say; a key too old."""


@dataclass(slots=True)
class Trial:
    """One run whose worker is killed once, and what follows."""

    nursery: Nursery
    effects: EffectServer
    folder: Path
    effect: str

    def killed(self, id: str, *, plan: Plan = "ok", **options: object) -> Report:
        self.effects.plan(self.effect, [plan] if plan != "ok" else [])
        return self.work(id, **options)

    def work(self, id: str, **options: object) -> Report:
        return self.nursery.work(self.db(id), f"one_{self.effect}", id, self.effects.port, id, **options)

    def db(self, id: str) -> Path:
        return self.folder / f"{id}.db"

    def answer(self, id: str) -> object:
        return {"answer": "completed", "result": f"prepared {id}, done, written down {id}"}


def every_write(trial: Trial) -> Iterator[tuple[str, Report]]:
    """Kill before and after each write is durable, until a run has no such write any more."""
    for when in WHEN:
        for at in itertools.count(1):
            id = f"{trial.effect}-{when}-{at}"
            report = trial.killed(id, at=at, when=when)
            if report.end == "done":
                assert at > 4, f"{at - 1} writes are too few for this workflow"
                break
            yield id, report


def around_the_effect(trial: Trial) -> Iterator[tuple[str, Report]]:
    plans: tuple[Plan, ...] = ("kill_before", "kill_after")
    for plan in plans:
        id = f"{trial.effect}-{plan}"
        yield id, trial.killed(id, plan=plan)


def check_resumed(trial: Trial, id: str, killed: Report, found: after.Stored, resumed: Report) -> None:
    """The resumed run gave the same answer, and no body ran again whose outcome was stored."""
    assert resumed.answers == {id: trial.answer(id)}
    assert not {step for _, step in resumed.bodies} & found.completed_steps
    done = [*killed.bodies, *resumed.bodies]
    assert all(done.count(body) <= 2 for body in done)
    final = after.stored(trial.db(id), id)
    assert final.status == "completed"
    for place in killed.of("acknowledged"):
        stream = final.notes if place["stream"] else final.events
        assert stream[place["seq"]].hash.hex() == place["hash"]
    report = after.verified(trial.db(id))
    assert report.ok, report.problems


@pytest.mark.parametrize("effect", SAFE)
def test_law_2_an_effect_that_can_be_repeated_or_asked_about_takes_place_exactly_once_wherever_the_worker_is_killed(
    nursery: Nursery, effects: EffectServer, tmp_path: Path, effect: str
) -> None:
    trial = Trial(nursery, effects, tmp_path, effect)
    for id, killed in itertools.chain(every_write(trial), around_the_effect(trial)):
        assert killed.end == "killed"
        found = after.stored(trial.db(id), id)
        resumed = trial.work(id)
        check_resumed(trial, id, killed, found, resumed)
    per_key = effects.counts()[effect]
    assert set(per_key.values()) == {1}
    assert len(per_key) >= 14


@pytest.mark.parametrize("effect", DOUBTFUL)
def test_law_2_an_effect_that_nobody_can_find_out_about_is_in_doubt_and_is_never_blindly_repeated(
    nursery: Nursery, effects: EffectServer, tmp_path: Path, effect: str
) -> None:
    trial = Trial(nursery, effects, tmp_path, effect)
    in_doubt = 0
    for id, killed in itertools.chain(every_write(trial), around_the_effect(trial)):
        assert killed.end == "killed"
        found = after.stored(trial.db(id), id)
        happened = effects.counts().get(effect, {}).get(id, 0)
        resumed = trial.work(id)
        if found.open_intents:
            in_doubt += 1
            (said,) = resumed.of("waits")
            assert said["status"] == "in_doubt"
            assert effects.counts().get(effect, {}).get(id, 0) == happened, "repeated while in doubt"
            _settle(trial.db(id), said["ids"][0], happened=bool(happened))
            resumed = trial.work(id)
        check_resumed(trial, id, killed, found, resumed)
        assert effects.counts()[effect][id] == 1
    assert in_doubt == 4  # killed after the intent, before or after the effect, before the outcome


def _settle(db: Path, wait: str, *, happened: bool) -> None:
    if happened:
        after.settle(db, wait, "happened", "done")
        return
    for _ in range(200):  # "try again" is offered once the lost request can't arrive any more
        try:
            after.settle(db, wait, "retry")
        except TooEarly:
            time.sleep(0.01)
        else:
            return
    raise AssertionError("the doubt can't be settled with `retry`")


def test_law_2_a_definite_refusal_falls_back_once_wherever_the_worker_is_killed(
    nursery: Nursery, effects: EffectServer, tmp_path: Path
) -> None:
    trial = Trial(nursery, effects, tmp_path, "here")
    for when in WHEN:
        for at in itertools.count(1):
            id = f"here-{when}-{at}"
            before = effects.total("here") + effects.total("elsewhere")
            killed = trial.killed(id, plan="refuse", at=at, when=when)
            if killed.end == "done":
                break
            found = after.stored(trial.db(id), id)
            resumed = trial.work(id)
            check_resumed(trial, id, killed, found, resumed)
            assert effects.total("here") + effects.total("elsewhere") == before + 1, found.kinds
            effects.forget_plans()


def test_law_2_a_run_that_is_cancelled_over_an_open_intent_says_that_the_effect_is_in_doubt(
    nursery: Nursery, effects: EffectServer, tmp_path: Path
) -> None:
    trial = Trial(nursery, effects, tmp_path, "send")
    killed = trial.killed("cancelled", plan="kill_after")
    assert killed.end == "killed"
    after.cancel(trial.db("cancelled"), "cancelled")
    (error,) = trial.work("cancelled").of("error")
    assert error["type"] == "RunCancelled"
    assert "IN DOUBT" in error["why"]
    assert "send_it" in error["why"]
    assert "cancelled" in effects.counts()["send"]


def test_law_2_branches_and_children_take_effect_exactly_once_wherever_the_worker_is_killed(
    nursery: Nursery, effects: EffectServer, tmp_path: Path
) -> None:
    for workflow in ("two_at_once", "with_a_child"):
        straight = nursery.work(tmp_path / f"{workflow}.db", workflow, f"{workflow}-straight", effects.port, "straight")
        (expected,) = straight.answers.values()
        for when in WHEN:
            for at in itertools.count(1):
                id = f"{workflow}-{when}-{at}"
                db = tmp_path / f"{id}.db"
                killed = nursery.work(db, workflow, id, effects.port, id, at=at, when=when)
                if killed.end == "done":
                    break
                found = after.stored(db, id)
                # Later, because a parent whose child ended unheard looks again after half a minute.
                resumed = nursery.work(db, workflow, id, effects.port, id, later_s=31)
                answer = {**expected, "result": expected["result"].replace("straight", id)}
                assert resumed.answers == {id: answer}, (resumed.said, found.kinds)
                report = after.verified(db)
                assert report.ok, report.problems
    counts = effects.counts()
    assert set(counts["order"].values()) == {1}
    assert set(counts["set"].values()) == {1}


def test_every_program_of_this_file_exists() -> None:
    assert {*SAFE, *DOUBTFUL, "here"} == set(programs.EFFECTS)
