"""The pages of the documentation, and what stands in them: code, tables, links.

A page is one program: its Python blocks, one after the other. A comment in the line above a block says what else it is:

    <!-- not run: why -->     it can't run here (it needs a key, a network, a second machine)
    <!-- prints -->           not code: what the program prints, in this place of its output
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MARK = re.compile(r"<!-- (not run: .+|prints) -->$")


@dataclass(frozen=True, kw_only=True)
class Block:
    """One fenced block. `mark`: "prints", "not run: why", or nothing."""

    page: Path
    line: int
    language: str
    text: str
    mark: str

    @property
    def runs(self) -> bool:
        return self.language == "python" and not self.mark


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in their order."""
    text = page.read_text()
    found = []
    for fence in _FENCE.finditer(text):
        above = text[: fence.start()].rstrip("\n").rpartition("\n")[2]
        mark = _MARK.match(above)
        found.append(
            Block(
                page=page, line=text.count("\n", 0, fence.start()) + 1, language=fence[1], text=fence[2], mark=mark[1] if mark else "",
            )
        )  # fmt: skip
    return found


def program(page: Path) -> str:
    """The Python of a page as one file; lines keep their numbers, so that a traceback leads into the page."""
    lines = [""] * page.read_text().count("\n")
    for block in blocks(page):
        if block.runs:
            code = block.text.splitlines()
            lines[block.line : block.line + len(code)] = code
    return "\n".join(lines) + "\n"


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", page.read_text())


def rows(page: Path, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its head."""
    _, found, below = page.read_text().partition(f"\n{heading}\n")
    assert found, f"{name_of(page)} has no heading {heading!r}"
    lines = [line for line in below.partition("\n#")[0].splitlines() if line.startswith("|")]
    assert len(lines) > 2, f"{name_of(page)} has no table below {heading!r}"
    return [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def commands(page: Path, tool: str) -> Iterator[tuple[int, str]]:
    """The commands of a tool in the shell blocks of a page, as (line, command)."""
    for block in blocks(page):
        if block.language == "sh":
            for number, line in enumerate(block.text.splitlines()):
                if line.startswith(f"{tool} "):
                    yield block.line + 1 + number, line.partition("  #")[0].strip()
