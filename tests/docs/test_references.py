"""Whatever a page points at is there: pages, headings, files, functions, tests, tables that repeat the code."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from pathlib import Path
from typing import get_args

import pytest
import typer.main

import holdfast as hf
from holdfast import errors
from holdfast.cli.exits import MEANING
from holdfast.cli.program import program as holdfast
from holdfast.journal import Status, records
from holdfast.journal.problems import Damage
from holdfast.journal.state import TRANSITIONS
from holdfast.runtime.history import STEP_TYPES
from tests.docs.pages import PAGES, ROOT, name_of, prose, rows

REFERENCE = ROOT / "docs" / "reference.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
README = ROOT / "README.md"

BETWEEN_APP_AND_WORKER = {"start_child", "ended", "child_ended", "cancel_children", "notify", "notify_all"}

_LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
_TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
_PLACE = re.compile(r"`([a-z_]+(?:/\w+)*\.py):([\w.]+)`")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for link in _LINK.findall(prose(page)):
        if link.startswith(("https://", "http://")):
            continue
        target, _, anchor = link.partition("#")
        there = (page.parent / target).resolve() if target else page
        assert there.exists(), f"{name_of(page)}: {link}"
        if anchor:
            assert anchor in _anchors(there), f"{name_of(page)}: {link}"


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_tests_that_are_named_exist(page: Path) -> None:
    for file, test in _TEST.findall(page.read_text()):
        assert (ROOT / file).is_file(), f"{name_of(page)}: {file}"
        if test:
            assert test in _functions(ROOT / file), f"{name_of(page)}: {file}::{test}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_places_in_the_code_that_are_named_exist(page: Path) -> None:
    for file, name in _PLACE.findall(page.read_text()):
        source = ROOT / "src" / "holdfast" / file
        assert source.is_file(), f"{name_of(page)}: {file}"
        assert name in _functions(source), f"{name_of(page)}: {file}:{name}"


def _functions(source: Path) -> set[str]:
    """The functions, classes and methods of a file, a method as Class.method and alone."""
    found: set[str] = set()
    for node in ast.parse(source.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            methods = {n.name for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}
            found |= methods | {f"{node.name}.{name}" for name in methods}
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


@pytest.mark.parametrize("page", [README, ARCHITECTURE], ids=name_of)
def test_every_law_is_named_with_a_test_or_as_not_yet_there(page: Path) -> None:
    heading = "## What it promises" if page == README else "## The laws"
    laws = rows(page, heading)
    assert [law[0] for law in laws] == [str(number) for number in range(1, 12)]
    for law in laws:
        assert _TEST.search(law[-1]) or "not in this version" in law[-1], f"{name_of(page)}: law {law[0]}"


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, ahead = {README}, [README]
    while ahead:
        page = ahead.pop()
        for link in _LINK.findall(prose(page)):
            there = (page.parent / link.partition("#")[0]).resolve()
            if there in PAGES and there not in reached:
                reached.add(there)
                ahead.append(there)
    assert [name_of(page) for page in PAGES if page not in reached] == []


DECISIONS = sorted((ROOT / "docs" / "adr").glob("0*.md"))


@pytest.mark.parametrize("page", DECISIONS, ids=name_of)
def test_a_decision_has_a_number_a_date_and_its_parts(page: Path) -> None:
    text = page.read_text()
    assert text.startswith(f"# {page.name[:4]}: ")
    assert re.search(r"^20\d\d-\d\d-\d\d, (accepted|superseded by \[\d{4}\])", text, re.MULTILINE)
    for part in ("Context", "Options", "Consequences", "What would change our mind"):
        assert f"\n## {part}" in text, part
    assert re.search(r"^## (Options and d|D)ecision$", text, re.MULTILINE)


def test_decisions_are_numbered_without_gaps() -> None:
    assert [page.name[:4] for page in DECISIONS] == [f"{number:04}" for number in range(1, len(DECISIONS) + 1)]


# -- tables that repeat the code --------------------------------------------------------------------------------------


def test_the_state_table_is_the_one_of_the_code() -> None:
    statuses: list[Status] = [s for s in get_args(Status) if any(before == s for before, _ in TRANSITIONS)]
    kinds = dict.fromkeys(kind for _, kind in TRANSITIONS)
    expected = [[f"`{kind}`", *(TRANSITIONS.get((status, kind), "-") for status in statuses)] for kind in kinds]
    assert rows(ARCHITECTURE, "### The states of a run") == expected


def test_every_kind_of_event_is_described() -> None:
    text = ARCHITECTURE.read_text()
    for kind in {kind for _, kind in TRANSITIONS if kind.startswith("run.")} | {"run.started"}:
        assert f"`{kind}`" in text, kind
    described = {cell[0].strip("`") for cell in rows(ARCHITECTURE, "### Types of steps")}
    assert described == STEP_TYPES
    phases = re.findall(r"^    (\w+)  +\w", inspect.getdoc(records) or "", re.MULTILINE)
    assert [cell[0].strip("`") for cell in rows(ARCHITECTURE, "### Phases of a step")] == phases
    notes = re.findall(r"\.(\w+)(?=[,.])", (records.Note.__doc__ or "").partition("Kinds: note")[2].partition("\n")[0])
    described = {cell[0].strip("`") for cell in rows(ARCHITECTURE, "### Kinds of notes")}
    assert described == {f"note.{kind}" for kind in notes}


def test_every_damage_that_an_audit_tells_is_described() -> None:
    operating = ROOT / "docs" / "guide" / "operating.md"
    assert [cell[0].strip("`") for cell in rows(operating, "### What the audit says")] == list(get_args(Damage))


# -- the reference ----------------------------------------------------------------------------------------------------


def test_every_public_name_is_in_the_reference_once() -> None:
    described = [row[0].strip("`").removeprefix("hf.") for row in rows(REFERENCE, "## Public names")]
    assert sorted(described) == sorted(hf.__all__)


def test_every_error_is_in_the_reference() -> None:
    tree = (inspect.getdoc(errors) or "").partition("\n\n")[2].partition("\n\nErrors are")[0]
    assert tree in REFERENCE.read_text()
    described = {cell[0].strip("`") for cell in rows(REFERENCE, "## Errors")}
    kinds = {
        name
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, errors.HoldfastError) and not kind.__subclasses__()
    }
    assert kinds <= described, kinds - described


@pytest.mark.parametrize(
    ("heading", "function"),
    [
        ("### `hf.open`", hf.open), ("### `app.start`", hf.App.start), ("### `@hf.workflow`", hf.workflow), ("### `@hf.step`", hf.step),
        ("### `@hf.tool`", hf.tool), ("### `hf.Retry`", hf.Retry), ("### `hf.Budget`", hf.Budget), ("### `hf.Agent`", hf.Agent),
        ("### `@hf.validator`", hf.validator),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_every_setting_is_in_the_reference(heading: str, function: object) -> None:
    described = {cell[0].strip("`") for cell in rows(REFERENCE, heading)}
    names = set(inspect.signature(function).parameters) - {"self", "fn"}  # type: ignore[arg-type]  # all are callable
    assert described == names


def test_every_method_of_an_app_and_a_run_is_in_the_reference() -> None:
    for kind, heading in ((hf.App, "### Methods of an `hf.App`"), (hf.Run, "### Methods of an `hf.Run`")):
        methods = {n for n, value in vars(kind).items() if inspect.isfunction(value) and not n.startswith("_")}
        described = re.findall(r"`(\w+)\(", " ".join(row[0] for row in rows(REFERENCE, heading)))
        assert sorted(described) == sorted(methods - BETWEEN_APP_AND_WORKER)


def test_every_field_of_an_answer_is_in_the_reference() -> None:
    for row in rows(REFERENCE, "### The four answers"):
        kind = getattr(hf, row[0].strip("`").removeprefix("hf."))
        assert set(re.findall(r"`(\w+)`", row[1])) == {field.name for field in dataclasses.fields(kind)}, kind


def test_every_command_is_in_the_readme_and_in_the_reference() -> None:
    commands = set()
    for name, command in typer.main.get_command(holdfast).commands.items():  # type: ignore[attr-defined]  # a group
        commands |= {f"{name} {inner}" for inner in command.commands} if hasattr(command, "commands") else {name}
    for page, heading in ((README, "## Commands"), (REFERENCE, "## Commands")):
        described = re.findall(r"`holdfast ((?:audit )?\w+)", " ".join(row[0] for row in rows(page, heading)))
        assert sorted(described) == sorted(commands), name_of(page)


def test_every_exit_code_is_in_the_reference() -> None:
    described = {int(row[0]): row[1] for row in rows(REFERENCE, "### Exit codes")}
    assert described == {int(code): meaning for code, meaning in MEANING.items()}


def test_every_environment_variable_is_in_the_reference() -> None:
    described = {row[0].strip("`") for row in rows(REFERENCE, "## Environment variables")}
    assert _read_in_the_code() <= described, _read_in_the_code() - described


def _read_in_the_code() -> set[str]:
    """Names in capitals that stand as text in a module that reads the environment."""
    found: set[str] = set()
    for source in [*(ROOT / "src").rglob("*.py"), ROOT / "tests" / "conftest.py"]:
        text = source.read_text()
        if "environ" in text and source.name != "model.py":  # there the user's `Secret` gives the name
            found |= set(re.findall(r'"([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+|CI|COLUMNS)"', text))
    return found
