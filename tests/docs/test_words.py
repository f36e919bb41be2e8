"""Text that must not be in the repository: traces of where it was written, addresses of registries, advertising."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, name_of

FOLDERS = ("src", "tests", "docs", "bench", "examples", "requirements", ".ci")
SKIPPED = {"__pycache__", ".venvs", ".work", "node_modules"}

# In two halves, so that this file does not hold what it looks for.
TRACES = [
    "/" + r"work/(?:main|shared)",
    r"\bshared" + r"/(?:architecture|protocols|style|data|papers|peers|bench|hooks|otel)",
    r"/tmp/" + r"hf\b",
    r"\bissues? " + r"(?:#?\d+|show)\b",
    r"(?:pypi|test\.pypi)" + r"\.org",
    r"python" + r"hosted\.org",
    r"registry\." + r"npmjs\.org",
    r"proxy\." + r"golang\.org",
    r"co-authored" + r"-by",
    r"generated " + r"(?:with|by) (?:an? )?(?:ai|llm|claude|gpt|copilot)",
    r"\b(?:ai|coding) " + r"assistant",
    r"claude" + r" code",
    r"\bbrief" + r"\.md",
]
ADVERTISING = [
    "blazing", "seamless", "effortless", "powerful", "cutting-edge", "world-class", "revolution", "game-chang", "state-of-the-art",
    "best-in-class", "enterprise-grade", "battle-tested", "simply put", "robust", "supercharge",
]  # fmt: skip
EMOJI = re.compile("[\U0001f000-\U0001faff\u2600-\u27bf\u2b50\ufe0f]")


def texts() -> Iterator[Path]:
    yield from (file for file in ROOT.iterdir() if file.is_file() and file.suffix not in (".db", ".lock"))
    for folder in FOLDERS:
        for file in (ROOT / folder).rglob("*"):
            if file.is_file() and not SKIPPED.intersection(file.parts):
                yield file


@pytest.mark.slow
def test_no_file_tells_where_it_was_written_or_names_a_registry() -> None:
    wrong = re.compile("|".join(TRACES), re.IGNORECASE)
    found = []
    for file in texts():
        try:
            text = file.read_text()
        except UnicodeDecodeError:
            continue
        found += [f"{name_of(file)}: {hit.group()!r}" for hit in wrong.finditer(text)]
    assert found == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_states_facts_and_does_not_advertise(page: Path) -> None:
    text = page.read_text()
    assert [word for word in ADVERTISING if word in text.lower()] == []
    assert EMOJI.findall(text) == []
