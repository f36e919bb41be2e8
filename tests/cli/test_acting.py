"""`holdfast reply | signal | cancel | resume | fork | redact | export | demo`: what reaches a run, and what comes of it."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.support import COMMAND, SHOP, begin, end, environment, holdfast, look

pytestmark = pytest.mark.slow


def status(store: Path, run: str) -> str:
    found: str = look("show", run, "--store", store, "--json").json["status"]
    return found


def test_reply_signal_and_cancel_reach_parked_runs(store: Path) -> None:
    sent = [
        look("reply", "w-reply", "blue", "--by", "otto", "--store", store, "--json"),
        look(
            "signal",
            "w-signal",
            "go",
            "--value",
            "42",
            "--key",
            "once",
            "--trust",
            "primary",
            "--store",
            store,
            "--json",
        ),
        look("cancel", "w-approval", "--why", "not needed", "--by", "otto", "--store", store, "--json"),
    ]
    assert [done.code for done in sent] == [0, 0, 0]
    again = look("signal", "w-signal", "go", "--value", "43", "--key", "once", "--store", store, "--json")
    assert again.json["already_there"] is True
    done = holdfast("resume", "--load", SHOP, "--store", store)
    assert done.code == 0
    assert "3 runs moved" in done.out
    assert "blue" in look("show", "w-reply", "--store", store).out
    shown = look("show", "w-signal", "--store", store, "--json").json
    assert shown["events"][-1]["payload"]["value"]["result"] == 42
    cancelled = look("show", "w-approval", "--store", store).out
    assert "because   RunCancelled: not needed" in cancelled
    late = look("reply", "w-reply", "red", "--store", store, "--json")
    assert (late.code, late.error["type"]) == (4, "RunOver")


def test_resume_needs_code_and_says_what_is_wrong_with_it(store: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("print('hello')\nimport nowhere_to_be_found\n")
    none, missing, wrong = (
        begin("resume", "--store", store),
        begin("resume", "--store", store, "--load", "no.such.module"),
        begin("resume", "--store", store, "--load", broken, "--json"),
    )
    assert end(none).code == 2
    assert "ModuleNotFoundError" in (done := end(missing)).err
    assert done.code == 2
    failed = end(wrong)
    assert (failed.code, failed.error["type"]) == (2, "NotLoaded")
    assert f"{broken}, line 2" in failed.error["message"]


def test_resume_of_a_run_that_is_over_or_unknown_is_refused(store: Path) -> None:
    over, unknown = (begin("resume", run, "--load", SHOP, "--store", store, "--json") for run in ("q-1", "nobody"))
    assert (end(over).code, end(unknown).code) == (4, 4)


def test_ctrl_c_is_quiet_and_leaves_a_run_that_goes_on(tmp_path: Path) -> None:
    store, code = tmp_path / "slow.db", tmp_path / "slow.py"
    code.write_text(
        "import sys, anyio, holdfast as hf\n"
        "@hf.step\nasync def nap() -> int:\n    sys.stdout.write('napping\\n'); sys.stdout.flush(); await anyio.sleep(60); return 1\n"
        "@hf.workflow(version='1')\nasync def slow(x: int) -> int:\n    return await nap()\n"
        "async def begin():\n    async with hf.open(sys.argv[1], worker=False) as app:\n        await app.start(slow, 1, id='slow')\n"
        "if __name__ == '__main__':\n    anyio.run(begin)\n"
    )
    subprocess.run([COMMAND[0], str(code), str(store)], env=environment(), check=True)
    process = begin("resume", "--load", code, "--store", store)
    assert process.stderr is not None
    assert process.stderr.readline() == "napping\n", "what the user's code prints goes to standard error"
    process.send_signal(signal.SIGINT)
    done = end(process)
    assert (done.code, done.out, done.err) == (130, "", "")
    assert status(store, "slow") in ("pending", "running")


def test_a_run_that_needs_attention_is_tried_again_with_the_right_code(tmp_path: Path) -> None:
    store, code = tmp_path / "shop.db", tmp_path / "two.py"
    text = (
        "import sys, anyio, holdfast as hf\n"
        "@hf.workflow(version='1')\nasync def two(x: int) -> object:\n    await hf.{}()\n    return await hf.signal('go')\n"
        "async def begin() -> None:\n    async with hf.open(sys.argv[1]) as app:\n"
        "        await app.start(two, 1, id='r')\n        await app.drain()\n"
        "if __name__ == '__main__':\n    anyio.run(begin)\n"
    )
    code.write_text(text.format("now"))
    subprocess.run([COMMAND[0], str(code), str(store)], env=environment(), check=True)
    code.write_text(text.format("uuid"))
    assert holdfast("signal", "r", "go", "--store", store).code == 0
    changed = holdfast("resume", "--load", code, "--store", store, "--json")
    assert (changed.code, changed.json["by_status"]) == (5, {"attention": 1})
    shown = look("show", "r", "--store", store).out
    assert "JournalMismatch" in shown
    assert "$ holdfast resume r --load MODULE" in shown
    code.write_text(text.format("now"))
    right = holdfast("resume", "r", "--load", code, "--store", store, "--json")
    assert (right.code, right.json["by_status"]) == (0, {"completed": 1})


def test_a_fork_refuses_effects_unless_told_otherwise(store: Path) -> None:
    done = look("fork", "letter-1", "--at", "0", "--id", "letter-2", "--store", store, "--json")
    assert (done.code, done.json) == (0, {"run": "letter-2", "fork_of": "letter-1", "at": "0", "effects": "refuse"})
    live = look("fork", "letter-1", "--at", "0", "--id", "letter-3", "--effects", "live", "--store", store)
    assert live.code == 0
    taken, nowhere = (
        look("fork", "letter-1", "--at", at, "--id", id, "--store", store, "--json")
        for at, id in (("0", "letter-2"), ("7.7", "x"))
    )
    assert (taken.error["type"], nowhere.error["type"]) == ("RunIdConflict", "JournalMismatch")
    holdfast("resume", "--load", SHOP, "--store", store)
    assert "EffectRefused" in look("show", "letter-2", "--store", store).out
    assert "letter to Tarrow & Quill" in look("show", "letter-3", "--store", store).out


def test_redaction_asks_says_what_is_lost_and_takes_it_away(store: Path) -> None:
    asked = look("redact", "chat-1", "--why", "privacy", "--by", "mira", "--store", store)
    assert asked.code == 6
    assert "the content of 3 events" in asked.err
    assert "owned" in look("show", "chat-1", "--store", store).out
    one = look("redact", "q-1", "--event", "1", "--why", "privacy", "--yes", "--store", store, "--json")
    assert (one.code, one.json["redacted"]) == (0, 1)
    done = look("redact", "chat-1", "--why", "privacy", "--by", "mira", "--yes", "--store", store, "--json")
    assert (done.code, done.json["redacted"], done.json["by"]) == (0, 3, "mira")
    shown, verified, partly = look("show", "chat-1", "--store", store), look("audit", "verify", "--store", store, "--json"), look(
        "redact", "w-reply", "--event", "0", "--why", "privacy", "--yes", "--store", store, "--json"
    )  # fmt: skip
    assert "owned" not in shown.out
    assert "content redacted" in shown.out
    assert "note.redaction" in shown.out
    assert (verified.code, verified.json["ok"]) == (0, True)
    assert {r["run"] for r in verified.json["redacted"]} == {"chat-1", "q-1"}
    assert partly.code == 6


def test_an_unfinished_run_is_cancelled_and_redacted_with_its_code(store: Path) -> None:
    done = holdfast("redact", "w-reply", "--why", "privacy", "--yes", "--load", SHOP, "--store", store, "--json")
    assert (done.code, status(store, "w-reply")) == (0, "cancelled"), done


def test_an_export_is_whole_or_not_there_and_proves_itself(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs.jsonl"
    to_file, to_output, unknown = (
        look("export", "--out", out, "--store", made, "--json"),
        begin("export", "chat-1", "--store", made),
        look("export", "nobody", "--out", tmp_path / "none.jsonl", "--store", made),
    )
    rows = look("runs", "--store", made, "--json").json
    assert to_file.json == {
        "out": str(out),
        "runs": 10,
        "events": sum(row["events"] + row["notes"] for row in rows),
    }
    lines = [json.loads(line) for line in end(to_output).out.splitlines()]
    assert (lines[0]["type"], lines[-1]["type"], lines[-1]["runs"]) == ("export", "end", 1)
    assert unknown.code == 4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["runs.jsonl"]
    good = look("audit", "verify", "--export", out, "--json")
    data = out.read_bytes()
    bad_file = tmp_path / "bad.jsonl"
    bad_file.write_bytes(data.replace(b"rope", b"rape", 1))
    bad = look("audit", "verify", "--export", bad_file, "--json")
    assert (good.code, bad.code) == (0, 1)


def test_the_demo_is_run_with_its_options(tmp_path: Path) -> None:
    done = holdfast("demo", "--runs", "3", "--seed", "1", "--no-kill", "--store", tmp_path / "demo.db", "--json")
    assert done.code == 0
    assert (done.json["runs"], done.json["killed"], done.json["chain_verified"]) == (3, 0, True)
