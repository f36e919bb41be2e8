"""One tree of errors, drawn in the docstring; every one crosses processes and says where it happened."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from typing import Any

import pytest

from holdfast import errors
from holdfast.errors import HoldfastError, ResultTimeout, StepFailed

CLASSES = [c for c in vars(errors).values() if inspect.isclass(c) and issubclass(c, HoldfastError)]

MADE: dict[str, Any] = {
    "str": "some text",
    "int": 7,
    "float": 2.5,
    "bool": True,
    "str | None": "some text",
    "int | None": 7,
    "float | None": 2.5,
    "tuple[str, ...]": ("a", "b"),
    "Any": {"an": "answer"},
}
NAMED = {"run": "run-4711", "step": "3.0.1", "id": "ap-abcdef"}


def example(kind: type[HoldfastError]) -> HoldfastError:
    """One with every field filled in."""
    values = {f.name: NAMED.get(f.name, MADE[str(f.type)]) for f in dataclasses.fields(kind)}
    return kind(**values)


def drawn() -> dict[str, str]:
    """Name and parent of every class in the drawing."""
    assert errors.__doc__ is not None
    found: dict[str, str] = {}
    above: list[str] = []
    for line in errors.__doc__.splitlines():
        name = line.lstrip("│├└─ \u00a0").split(" ")[0]
        if not name.isidentifier() or (line == line.lstrip("│├└") and line != "HoldfastError"):
            continue
        depth = (len(line) - len(line.lstrip("│├└─ "))) // 4
        above = [*above[:depth], name]
        found[name] = above[depth - 1] if depth else "Exception"
    return found


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    real = {c.__name__: next(b.__name__ for b in c.__bases__ if issubclass(b, Exception)) for c in CLASSES}
    assert drawn() == real


def test_the_drawing_is_read_in_full() -> None:
    assert len(drawn()) == len(CLASSES) > 40


@pytest.mark.parametrize("kind", CLASSES, ids=lambda c: c.__name__)
def test_every_error_survives_pickling_and_copying(kind: type[HoldfastError]) -> None:
    error = example(kind)
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):  # noqa: S301  # our own bytes
        assert type(again) is kind
        assert str(again) == str(error)
        assert [getattr(again, f.name) for f in dataclasses.fields(kind)] == list(error.args)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda c: c.__name__)
def test_every_message_names_the_run_and_the_step_where_there_are_any(kind: type[HoldfastError]) -> None:
    names = {f.name for f in dataclasses.fields(kind)}
    message = str(example(kind))
    for name in names & set(NAMED):
        assert NAMED[name] in message, f"{name} is missing in: {message}"


@pytest.mark.parametrize("kind", [c for c in CLASSES if dataclasses.fields(c)], ids=lambda c: c.__name__)
def test_every_message_is_a_sentence_without_leftovers(kind: type[HoldfastError]) -> None:
    message = str(example(kind))
    assert len(message) > 5 or kind.__name__ == "Rejected"
    assert "None" not in message
    assert message == message.strip()


@pytest.mark.parametrize("kind", CLASSES, ids=lambda c: c.__name__)
def test_every_error_has_a_docstring_or_speaks_for_itself(kind: type[HoldfastError]) -> None:
    assert isinstance(kind.retryable, bool)
    assert kind.__str__ is not HoldfastError.__str__ or not dataclasses.fields(kind)


def test_only_what_may_succeed_the_next_time_says_that_it_can_be_retried() -> None:
    assert {c.__name__ for c in CLASSES if c.retryable} == {"StoreUnavailable", "SequenceConflict"}


def test_a_result_that_did_not_come_in_time_is_a_timeout_for_python_too() -> None:
    assert isinstance(ResultTimeout("r", 1.0, "running"), TimeoutError)


def test_a_failure_knows_what_it_was_caused_by_also_when_it_was_read_from_a_journal() -> None:
    failed = StepFailed("r", "0", "s", "builtins.FileNotFoundError", "gone", 1, ("builtins.OSError",))
    assert failed.caused_by(FileNotFoundError)
    assert failed.caused_by(ValueError, OSError)
    assert not failed.caused_by(ValueError)


def test_an_error_is_equal_to_itself_only_and_can_stand_in_a_set() -> None:
    one, other = StepFailed("r", "0", "s", "E", "m"), StepFailed("r", "0", "s", "E", "m")
    assert one != other
    assert len({one, other}) == 2
