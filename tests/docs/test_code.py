"""What the pages show is what happens: code runs, prints what stands there, and names commands and options that exist."""

from __future__ import annotations

import ast
import contextlib
import re
import shlex
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from holdfast.cli.program import program as holdfast
from tests.docs.pages import PAGES, ROOT, blocks, commands, name_of, program

WITH_CODE = [page for page in PAGES if any(block.runs for block in blocks(page))]


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_CODE, ids=name_of)
def test_the_code_of_a_page_runs_and_prints_what_the_page_says(page: Path, tmp_path: Path) -> None:
    left = printed = run(page, tmp_path)
    for block in blocks(page):
        if block.mark == "prints":
            assert block.text in left, f"{name_of(page)}, line {block.line}: the program printed\n{printed}"
            left = left.partition(block.text)[2]


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in WITH_CODE if "```sql" in page.read_text()], ids=name_of)
def test_the_sql_of_a_page_reads_the_store_that_its_code_has_written(page: Path, tmp_path: Path) -> None:
    run(page, tmp_path)
    [store] = tmp_path.glob("*.db")
    with contextlib.closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
        for block in blocks(page):
            if block.language == "sql":
                found = connection.execute(block.text).fetchall()
                assert found, f"{name_of(page)}, line {block.line}"


def run(page: Path, folder: Path) -> str:
    """Run the program of a page in a folder; what it printed."""
    (folder / "page.py").write_text(program(page))
    command = [sys.executable, "-W", "error", "page.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{name_of(page)}\n{done.stderr}"
    return done.stdout


def test_the_pages_that_should_have_code_have_it() -> None:
    names = {name_of(page) for page in WITH_CODE}
    assert "README.md" in names
    assert "docs/architecture.md" in names
    assert {f"docs/guide/{name}.md" for name in ("tools", "workflows", "agents", "trust", "testing")} <= names


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_block_that_is_not_run_is_python_and_says_why(page: Path) -> None:
    for block in blocks(page):
        assert block.language in ("python", "sh", "text", "sql", "json"), f"{name_of(page)}, line {block.line}"
        if block.mark.startswith("not run"):
            assert block.language == "python"
            compile(block.text, name_of(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_on_a_page_exist_with_their_options(page: Path) -> None:
    for line, command in commands(page, "holdfast"):
        _check(shlex.split(command)[1:], f"{name_of(page)}, line {line}: {command}")


def _check(words: list[str], where: str) -> None:
    found: Any = typer.main.get_command(holdfast)  # Any: click, which typer carries inside
    while words and hasattr(found, "commands") and not words[0].startswith("-"):
        assert words[0] in found.commands, where
        found = found.commands[words.pop(0)]
    known = {name for parameter in found.params for name in (*parameter.opts, *parameter.secondary_opts)}
    known |= {"--help", "-h"}
    for word in words:
        if re.match(r"--?[a-z]", word):
            assert word.partition("=")[0] in known, f"{where} ({word})"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_make_targets_and_scripts_on_a_page_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line, command in commands(page, "make"):
        assert command.split()[1] in targets, f"{name_of(page)}, line {line}"
    for line, command in commands(page, "python"):
        script = command.split()[1]
        if "/" in script:
            assert (ROOT / script).is_file(), f"{name_of(page)}, line {line}: {script}"
