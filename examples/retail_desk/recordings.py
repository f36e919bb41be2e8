"""Recorded conversations of real models with the shop's customers, and what the final database should be.

A results file holds tasks (with the actions an ideal agent takes) and simulations (what a model really
did). Its verdict on a simulation is whether the final database equals the one that the ideal actions lead
to. Both are recomputed here from nothing but the original database and the shop's tools.

    python examples/retail_desk/recordings.py --data DIR

replays each recorded call on the shop, without any runtime in between.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from retail_desk.errors import ShopError
from retail_desk.records import Database
from retail_desk.shop import RetailTools, load_database, render

DATABASE_FILE = Path("tau/env/retail_db.json.gz")
POLICY_FILE = Path("tau/env/retail_policy.md")
RECORDINGS = "tau/tau2_retail__{model}.json.gz"


Step: TypeAlias = tuple[int, int]
"""A turn of the model and the number of a call in it: (3, 0) is turn 3 itself, (3, 1) its first call."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A tool call, as a model asked for it or as an ideal agent makes it."""

    name: str
    arguments: dict[str, Any]  # whatever JSON the model wrote
    id: str = ""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a conversation. A tool's message has the id of the call it answers."""

    role: str
    content: str | None = None
    tool_calls: list[Call] | None = None
    id: str | None = None
    error: bool = False


class _Criteria(msgspec.Struct, frozen=True):
    actions: list[Call] | None = None


class _Task(msgspec.Struct, frozen=True):
    id: str
    evaluation_criteria: _Criteria | None = None


class _DbCheck(msgspec.Struct, frozen=True):
    db_match: bool


class _Reward(msgspec.Struct, frozen=True):
    db_check: _DbCheck | None = None


class _Simulation(msgspec.Struct, frozen=True):
    id: str
    task_id: str
    messages: list[Message]
    trial: int | None = None
    reward_info: _Reward | None = None


class _Results(msgspec.Struct, frozen=True):
    tasks: list[_Task]
    simulations: list[_Simulation]


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One recorded conversation."""

    session: str
    """Names it among the recordings of its file."""
    messages: tuple[Message, ...]
    ideal: tuple[Call, ...] | None
    """What an ideal agent does; `None` when the task says nothing about it."""
    verdict: bool | None
    """As recorded: did the final database equal the ideal one? `None`: the recording was not judged."""

    @cached_property
    def greeting(self) -> str:
        """What the desk said first: it is fixed, no model wrote it. Empty: nothing."""
        greeted = bool(self.messages) and self.messages[0].role == "assistant"
        return self.messages[0].content or "" if greeted else ""

    @cached_property
    def conversation(self) -> tuple[Message, ...]:
        """What was said after the greeting."""
        return self.messages[1:] if self.greeting else self.messages

    @cached_property
    def replies(self) -> tuple[Message, ...]:
        """What the model wrote, turn by turn: text to the customer, or tool calls."""
        return tuple(message for message in self.conversation if message.role == "assistant")

    @cached_property
    def user_turns(self) -> tuple[str, ...]:
        return tuple(message.content or "" for message in self.conversation if message.role == "user")

    @cached_property
    def calls(self) -> dict[Step, Call]:
        return {
            (turn, number): call
            for turn, reply in enumerate(self.replies)
            for number, call in enumerate(reply.tool_calls or (), start=1)
        }

    @cached_property
    def results(self) -> dict[Step, str]:
        """What the model read after each call, as far as the recording goes; in the order of the calls."""
        results: dict[Step, str] = {}
        turn, number = -1, 0
        for message in self.conversation:
            if message.role == "assistant":
                turn, number = turn + 1, 0
            elif message.role == "tool":
                number += 1
                results[turn, number] = message.content or ""
        return results


def load(path: Path) -> list[Recording]:
    """The recordings of a results file, in its order.

    Raises:
        OSError: The file can't be read.
        msgspec.ValidationError: It is no results file.
    """
    results = msgspec.json.decode(gzip.decompress(path.read_bytes()), type=_Results)
    ideal = {task.id: task.evaluation_criteria.actions for task in results.tasks if task.evaluation_criteria}
    recordings: dict[str, Recording] = {}
    for simulation in results.simulations:
        session = f"task-{simulation.task_id}-trial-{simulation.trial or 0}"
        if session in recordings:
            session = f"{session}-{simulation.id}"
        actions = ideal.get(simulation.task_id)
        check = simulation.reward_info.db_check if simulation.reward_info else None
        recordings[session] = Recording(
            session=session,
            messages=tuple(simulation.messages),
            ideal=None if actions is None else tuple(actions),
            verdict=check.db_match if check else None,
        )
    return list(recordings.values())


def judge(base: Database, recording: Recording, final_digest: str) -> bool:
    """Whether a database with this `RetailTools.digest` is the one that the ideal actions lead to."""
    if recording.ideal is None:
        return True
    ideal = RetailTools(base)
    for action in recording.ideal:
        answer(ideal, action)
    return ideal.digest() == final_digest


def answer(tools: RetailTools, call: Call) -> tuple[str, bool]:
    """What the model reads after a call, and whether it took effect (a refused call did not)."""
    try:
        return render(tools.call(call.name, call.arguments)), True
    except ShopError as error:
        return f"Error: {error}", False


@dataclass(frozen=True, kw_only=True)
class Check:
    """How far the shop reproduces a file, without any runtime in between."""

    runs: int
    tool_calls: int
    """Calls that have a recorded result."""
    identical_results: int
    verdicts: int
    """Runs that have a recorded verdict."""
    identical_verdicts: int
    differences: tuple[str, ...]


def check(base: Database, recordings: Sequence[Recording]) -> Check:
    """Replay every recorded call on the shop and compare results and verdicts."""
    results, verdicts, differences = [], [], []
    for recording in recordings:
        tools = RetailTools(base)
        for step, call in recording.calls.items():
            text, _ = answer(tools, call)
            recorded = recording.results.get(step)
            if recorded is None:
                continue
            results.append(text == recorded)
            if text != recorded:
                differences.append(f"{recording.session} {call.name}: recorded {recorded!r}, got {text!r}")
        if recording.verdict is not None:
            verdicts.append(judge(base, recording, tools.digest()) is recording.verdict)
            if not verdicts[-1]:
                differences.append(f"{recording.session}: recorded verdict {recording.verdict}")
    return Check(
        runs=len(recordings),
        tool_calls=len(results),
        identical_results=sum(results),
        verdicts=len(verdicts),
        identical_verdicts=sum(verdicts),
        differences=tuple(differences),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Replay recorded tool calls on the shop.")
    parser.add_argument("--data", type=Path, required=True, help="folder of the recorded data")
    parser.add_argument("--model", default="gpt-4.1", help="whose recordings")
    options = parser.parse_args()
    base = load_database(options.data / DATABASE_FILE)
    recordings = load(options.data / RECORDINGS.format(model=options.model))
    print(json.dumps(asdict(check(base, recordings)), indent=2))


if __name__ == "__main__":
    main()
