"""The processes that tests of crashes share: one that forks children, one that counts effects."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from holdfast.testing.effects import EffectServer

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a child: `end` is done, killed, stopped or hung; and what it said."""

    pid: int
    end: str
    said: list[dict[str, Any]]  # Any: JSON

    def of(self, what: str) -> list[dict[str, Any]]:
        return [line for line in self.said if line["what"] == what]

    @property
    def bodies(self) -> list[tuple[str, str]]:
        """Bodies that ran, by run and step."""
        return [(line["run"], line["step"]) for line in self.of("body")]

    @property
    def answers(self) -> dict[str, Any]:
        return {line["run"]: line["answer"] for line in self.of("answer")}


@dataclass(slots=True)
class Nursery:
    """The forking process, from the test's side."""

    process: subprocess.Popen[str]
    defaults: dict[str, object] = field(default_factory=dict)

    def work(self, db: Path, workflow: str, ids: list[str] | str, *input: object, **options: object) -> Report:
        """Fork a worker that starts these runs and waits for their answers; returns when it ended or was stopped."""
        named = [ids] if isinstance(ids, str) else ids
        request = {"do": "work", "db": str(db), "workflow": workflow, "ids": named, "input": input, **options}
        return self._ask(request)

    def go_on(self, pid: int) -> Report:
        """Continue a child that was stopped."""
        return self._ask({"do": "continue", "pid": pid})

    def _ask(self, request: dict[str, object]) -> Report:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "the nursery died"
        return Report(**json.loads(line))


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    process = subprocess.Popen(
        [sys.executable, str(HERE / "nursery.py"), str(HERE / "programs.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield Nursery(process)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    process.wait(10)
    process.stdout.close()


@pytest.fixture(scope="session")
def effects() -> Iterator[EffectServer]:
    with EffectServer() as server:
        yield server
