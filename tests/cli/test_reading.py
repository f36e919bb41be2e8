"""`holdfast runs | show | approvals`: what is shown, in text and as JSON, whatever was recorded."""

from __future__ import annotations

import re
import subprocess
from datetime import datetime
from pathlib import Path

import anyio
import pytest

from holdfast.cli.exits import MEANING
from tests.cli import shop
from tests.cli.support import COMMAND, SHOP, begin, end, environment, holdfast, look

pytestmark = pytest.mark.slow

OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def test_runs_are_listed_newest_first_with_filters_and_a_limit(made: Path) -> None:
    done = holdfast("runs", "--store", made, "--json")
    assert (done.code, done.err) == (0, "")
    rows = {row["run"]: row for row in done.json}
    assert [row["run"] for row in done.json][:2] == ["p-1/0", "chat-1"]
    assert set(rows["close-7"]) == {
        "run", "workflow", "version", "status", "outcome", "trust", "waits", "worker", "parent", "created", "updated", "events", "notes",
    }  # fmt: skip
    assert rows["close-7"]["status"] == "waiting"
    assert rows["close-7"]["trust"] == "EXTERNAL"
    assert [wait["kind"] for wait in rows["close-7"]["waits"]] == ["approval"]
    assert rows["p-1/0"]["parent"] == "p-1"
    assert datetime.fromisoformat(rows["q-1"]["created"]).tzinfo is not None
    filtered = look("runs", "--store", made, "--json", "--status", "waiting", "--workflow", "waits", "--limit", "2")
    assert [row["run"] for row in filtered.json] == ["w-approval", "w-reply"]
    assert "there are more" in filtered.err


def test_the_table_holds_every_run_on_a_line_of_its_own(made: Path) -> None:
    done = holdfast("runs", HOLDFAST_STORE=str(made))
    lines = done.out.splitlines()
    assert done.code == 0
    assert lines[0].split() == ["run", "workflow", "status", "trust", "waits", "for", "age", "updated"]
    assert len(lines) == 11
    assert any(
        line.startswith("letter-1") and "in_doubt" in line and "settlement post_letter" in line for line in lines
    )


def test_stranded_runs_are_those_that_no_loaded_code_accepts(made: Path) -> None:
    none, loaded = (
        begin("runs", "--stranded", "--json", "--store", made),
        begin("runs", "--stranded", "--json", "--store", made, "--load", SHOP),
    )
    without = end(none)
    assert len(without.json) == 5
    assert "no workflow is loaded" in without.err
    assert end(loaded).json == []


def test_a_run_is_shown_as_json_with_every_event(made: Path) -> None:
    done = holdfast("show", "close-7", "--store", made, "--json")
    shown = done.json
    assert done.code == 0
    assert (shown["run"], shown["status"], shown["notes"]) == ("close-7", "waiting", [])
    assert shown["label"] == {"level": "EXTERNAL", "causes": [{"kind": "input", "step": ""}], "confidence": None}
    assert [event["kind"] for event in shown["events"]] == ["run.started", "approval.waiting", "run.parked"]
    first = shown["events"][0]
    assert {"seq", "kind", "path", "name", "at", "label", "hash", "payload"} <= set(first)
    assert first["payload"]["input"] == {"customer": "c-42"}
    assert len(bytes.fromhex(first["hash"])) == 32
    assert datetime.fromisoformat(first["at"]).tzinfo is not None


def test_a_run_is_shown_with_what_to_do_about_it(made: Path) -> None:
    doubt, approval, failed, family = (
        look("show", run, "--store", made).out for run in ("letter-1", "close-7", "f-1", "p-1")
    )
    assert "waits for a verdict on an effect in doubt: post_letter" in doubt
    assert re.search(rf"\$ holdfast settle do-\w+ happened --result JSON --store {re.escape(str(made))}\n", doubt)
    assert "ConnectionError: the line went dead" in doubt
    assert "gate: allow" in doubt
    assert re.search(r"\$ holdfast approve ap-\w+ --store", approval)
    assert "the run is EXTERNAL, PRIMARY is needed" in approval
    assert "RuntimeError: it broke" in failed
    assert "sub-runs  p-1/0" in family
    assert "n0" in family, "notes stand between the events"


@pytest.mark.parametrize("options", [(), ("--full",), ("--json",), ("--json", "--full")])
def test_recorded_text_can_not_reach_the_terminal_as_commands_or_markup(made: Path, options: tuple[str, ...]) -> None:
    for run in ("chat-1", "f-1"):
        out = look("show", run, "--store", made, *options).out
        assert OBEYED.findall(out) == []
        assert "[bold red]not markup[/bold red]" in out
        assert "owned" in out


def test_full_shows_what_the_model_was_asked_and_said(made: Path) -> None:
    event = next(
        e
        for e in holdfast("show", "chat-1", "--store", made, "--json", "--full").json["events"]
        if e["kind"] == "model.completed"
    )
    assert [m["role"] for m in event["messages"]["asked"]] == ["user"]
    assert event["messages"]["reply"][0]["parts"][0]["text"].startswith("Hello ")
    assert event["payload"].get("cost_microusd") is None


def test_what_waits_for_a_person_is_listed_with_arguments_and_reasons(made: Path) -> None:
    done = holdfast("approvals", "--store", made, "--json")
    by_run = {asked["run"]: asked for asked in done.json}
    assert set(by_run) == {"close-7", "letter-1", "w-approval"}
    close = by_run["close-7"]
    assert (close["kind"], close["tool"], close["arguments"]) == ("approval", "delete_account", {"customer": "c-42"})
    assert close["reasons"] == ["the run is EXTERNAL, PRIMARY is needed (input)"]
    assert by_run["letter-1"]["kind"] == "settlement"
    assert by_run["letter-1"]["key"]
    assert by_run["w-approval"]["question"] == "Really?"
    text = look("approvals", "--store", made, "--limit", "1")
    assert f"$ holdfast approve {close['id']} --store {made}" in text.out
    assert "there are more than 1" in text.err


def test_a_damaged_event_is_shown_as_damaged_and_the_rest_is_shown(store: Path) -> None:
    import sqlite3

    with sqlite3.connect(store) as db:
        db.execute("UPDATE events SET header = x'00' WHERE kind = 'approval.waiting'")
        db.execute("UPDATE events SET payload = x'7b' WHERE kind = 'step.completed'")
    db.close()
    waiting, completed = look("show", "close-7", "--store", store), look("show", "q-1", "--store", store)
    assert (waiting.code, completed.code) == (0, 0)
    assert "its header can't be read" in waiting.out
    assert "run.parked" in waiting.out
    assert "its content can't be read" in completed.out
    assert "damage" in look("show", "q-1", "--store", store, "--json").json["events"][1]


def test_help_names_every_exit_code_and_the_store_variable() -> None:
    done = holdfast("--help", COLUMNS="200")
    assert done.code == 0
    for code, meaning in MEANING.items():
        assert re.search(rf"^ *{int(code)}  {re.escape(meaning)}", done.out, re.MULTILINE), meaning
    assert "HOLDFAST_STORE" in done.out
    assert re.fullmatch(r"holdfast \d+\.\d+\.\d+\n", holdfast("--version").out)


def test_importing_the_command_line_loads_neither_typer_nor_rich() -> None:
    script = "import sys, holdfast.cli; sys.exit(' '.join({'typer', 'rich', 'click'} & set(sys.modules)) or 0)"
    done = subprocess.run([COMMAND[0], "-c", script], env=environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    store = tmp_path / "long.db"
    anyio.run(shop.start, store, "quote", "long", "x" * 3_000_000)
    for command in (("show", "long", "--full"), ("export",)):
        process = subprocess.Popen(
            [*COMMAND, *command, "--store", str(store)],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(10)
        process.stdout.close()
        assert (process.wait(timeout=60), process.stderr.read()) == (141, "")
        process.stderr.close()
