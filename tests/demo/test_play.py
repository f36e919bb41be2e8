"""The demo as a user runs it: processes of its own, one of them killed, counted outside the store."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROMISED = {
    "runs", "outcomes", "steps", "steps_per_s", "killed", "resumed_runs", "effects", "needed_a_person",
    "injections_through", "escalated", "refused", "clarify", "cost_usd", "chain_verified", "store",
}  # fmt: skip
SCRIPT = """
import sys
from pathlib import Path
from holdfast.demo import run_demo
runs, seed, kill, store, as_json = sys.argv[1:]
kill, as_json = kill == "kill", as_json == "json"
sys.exit(run_demo(runs=int(runs), seed=int(seed), kill=kill, store=Path(store), as_json=as_json))
"""
Json = dict[str, Any]  # Any: JSON as decoded


def demo(store: Path, *, runs: int, seed: int = 0, kill: bool = True, as_json: bool = True) -> str:
    arguments = [str(runs), str(seed), "kill" if kill else "spare", str(store), "json" if as_json else "text"]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Json]:
    """One demo of 60 mails whose worker was killed, shared by the tests that look at it."""
    store = tmp_path_factory.mktemp("demo") / "demo.db"
    return store, json.loads(demo(store, runs=60, seed=1))


@pytest.mark.slow
def test_a_killed_worker_doubles_and_loses_nothing(killed: tuple[Path, Json]) -> None:
    _, report = killed
    effects = report["effects"]
    assert report["killed"] == 1
    assert report["resumed_runs"] > 0
    assert report["chain_verified"] is True
    assert (effects["duplicated"], effects["lost"], effects["in_doubt"]) == (0, 0, 0)
    assert effects["intended"] == effects["performed"] + effects["refused"] > 0


@pytest.mark.slow
def test_the_report_has_what_it_promises(killed: tuple[Path, Json]) -> None:
    store, report = killed
    assert report.keys() >= PROMISED
    assert report["store"] == str(store)
    assert report["runs"] == sum(report["outcomes"].values()) == 60
    assert "failed" not in report["outcomes"]
    assert report["cost_usd"] > 0


@pytest.mark.slow
def test_no_injection_gets_through_and_values_spare_people(killed: tuple[Path, Json]) -> None:
    _, report = killed
    people = report["needed_a_person"]
    assert report["injections"] > 0
    assert report["injections_through"] == 0
    assert people["values"] < people["trajectory"] <= 60
    assert people["trajectory"] >= report["effects"]["performed"], "each order would have needed a person"


@pytest.mark.slow
def test_running_it_again_on_the_same_store_does_nothing_twice(killed: tuple[Path, Json]) -> None:
    store, before = killed
    after = json.loads(demo(store, runs=60, seed=1))
    assert after["effects"]["performed"] == before["effects"]["performed"]
    assert after["outcomes"] == before["outcomes"]
    assert after["requests"]["received"] == 0


@pytest.mark.slow
def test_the_text_says_where_to_look_further(tmp_path: Path) -> None:
    text = demo(tmp_path / "demo.db", runs=8, kill=False, as_json=False)
    for said in ("needed a person", "duplicated", "got through", "holdfast runs --store", "audit verify"):
        assert said in text
