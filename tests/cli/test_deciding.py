"""`holdfast approve | deny | settle`: decisions by id, shown before they are made, taken up by a worker elsewhere."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.cli import shop
from tests.cli.support import COMMAND, SHOP, environment, holdfast, look

pytestmark = pytest.mark.slow


def waiting(store: Path, run: str) -> dict[str, Any]:
    """What a run asks; polled, because a worker elsewhere has to get there first."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        for asked in look("approvals", "--store", store, "--json").json:
            if asked["run"] == run:
                found: dict[str, Any] = asked
                return found
        time.sleep(0.02)
    raise AssertionError(f"{run} asks nothing")


def test_an_approval_decides_a_run_that_a_worker_in_another_process_drives(tmp_path: Path) -> None:
    store = tmp_path / "shop.db"
    anyio.run(shop.start, store, "close_account", "close-1", "c-1")
    worker = subprocess.Popen(
        [sys.executable, str(SHOP), str(store), "close-1"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        asked = waiting(store, "close-1")
        refused = holdfast("approve", asked["id"], "--store", store)
        assert (refused.code, refused.out) == (6, "")
        assert '"customer": "c-1"' in refused.err, "it is shown before it is asked"
        assert "no terminal" in refused.err
        done = holdfast(
            "approve", asked["id"], "--store", store, "--yes", "--by", "mira", "--why", "she asked us to", "--json"
        )
        assert (done.code, done.json["decision"], done.json["by"], done.json["run"]) == (
            0,
            "approve",
            "mira",
            "close-1",
        )
        out, err = worker.communicate(timeout=30)
        assert "deleted c-1" in out, err
    finally:
        worker.kill()
        worker.wait()
    again = holdfast("deny", asked["id"], "--store", store, "--yes", "--by", "somebody")
    assert again.code == 4
    shown = look("show", "close-1", "--store", store)
    assert "note.approve" in shown.out
    assert "approved by mira" in shown.out


def test_a_second_decision_comes_too_late_and_says_who_was_first(store: Path) -> None:
    id = waiting(store, "close-7")["id"]
    assert look("deny", id, "--store", store, "--yes", "--by", "mira").code == 0
    late = look("approve", id, "--store", store, "--yes", "--by", "otto", "--json")
    assert (late.code, late.error["type"]) == (4, "AlreadyDecided")
    assert "deny by mira" in late.error["message"]
    assert id not in look("approvals", "--store", store).out, "what was decided does not wait for a person any more"
    assert "decided already: deny by mira" in look("show", "close-7", "--store", store).out
    done = holdfast("resume", "--load", SHOP, "--store", store, "--json")
    assert (done.code, done.json["by_status"]) == (5, {"failed": 1})
    assert "ApprovalDenied" in look("show", "close-7", "--store", store).out


@pytest.mark.parametrize(("said", "code"), [("n\n", 6), ("y\n", 0), (None, 130)])
def test_on_a_terminal_the_arguments_are_shown_and_it_is_asked(store: Path, said: str | None, code: int) -> None:
    id = waiting(store, "close-7")["id"]
    keyboard, terminal = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "approve", id, "--store", str(store), "--by", "mira"], env=environment(COLUMNS="100", TERM="dumb"), stdin=terminal,
        stdout=terminal, stderr=terminal,
    )  # fmt: skip
    os.close(terminal)
    shown = ""
    while "[y/N]" not in shown:
        shown += os.read(keyboard, 4096).decode()
    if said is None:
        process.send_signal(signal.SIGINT)
    else:
        os.write(keyboard, said.encode())
    assert process.wait(timeout=30) == code
    os.close(keyboard)
    assert '"customer": "c-42"' in shown
    assert "EXTERNAL" in shown
    listed = {asked["id"] for asked in look("approvals", "--store", store, "--json").json}
    assert (id in listed) is (code != 0)


def test_an_effect_in_doubt_is_shown_and_settled_by_its_id(store: Path) -> None:
    id = waiting(store, "letter-1")["id"]
    lacking = look("settle", id, "happened", "--store", store, "--json")
    assert lacking.code == 6
    assert "--result" in lacking.error["message"]
    assert "post_letter was issued and no outcome is known" in lacking.err, "the doubt is shown first"
    assert look("settle", id, "perhaps", "--store", store).code == 2
    assert look("approve", id, "--yes", "--store", store).code == 4
    done = look(
        "settle",
        id,
        "happened",
        "--result",
        '"letter to them"',
        "--by",
        "mira",
        "--why",
        "saw it",
        "--store",
        store,
        "--json",
    )
    assert (done.code, done.json["settled"], done.json["result"]) == (0, "happened", "letter to them")
    late = look("settle", id, "give-up", "--by", "otto", "--store", store, "--json")
    assert (late.code, late.error["type"]) == (4, "AlreadyDecided")
    resumed = holdfast("resume", "--load", SHOP, "--store", store, "--json")
    assert (resumed.code, resumed.json["by_status"]) == (0, {"completed": 1})
    shown = look("show", "letter-1", "--store", store)
    assert "happened by mira" in shown.out
    assert "letter to them" in shown.out


def test_a_verdict_needs_a_doubt_and_an_approval_an_approval(made: Path) -> None:
    id = waiting(made, "w-approval")["id"]
    done = look("settle", id, "retry", "--store", made)
    assert done.code == 4
    assert "approve or deny" in done.err
