"""Law 3: trust never rises by itself."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.trust import (
    LOWEST,
    PRIMARY,
    Cause,
    Label,
    Trust,
    Value,
    lowered,
    meet,
    meet_all,
    read_label,
    step_order,
)

steps = st.lists(st.integers(0, 30), min_size=1, max_size=3).map(lambda path: ".".join(map(str, path)))
causes = st.builds(
    Cause, st.sampled_from(["mail", "fallback", "stale", "missing label", "web"]), st.one_of(st.just(""), steps)
)
confidences = st.one_of(st.none(), st.floats(0.0, 1.0))


@st.composite
def labels(draw: st.DrawFn) -> Label:
    """Labels as operations make them: meets of single causes."""
    parts = draw(st.lists(st.tuples(st.sampled_from(Trust), causes, confidences), max_size=4))
    made = [Label(level, () if level is Trust.PRIMARY else (cause,), confidence) for level, cause, confidence in parts]
    return meet_all(made)


@given(labels(), labels())
def test_law_3_meet_is_commutative_and_never_above_either(a: Label, b: Label) -> None:
    both = meet(a, b)
    assert both == meet(b, a) == a & b
    assert both.level == min(a.level, b.level)
    stated = [c for c in (a.confidence, b.confidence) if c is not None]
    assert both.confidence == min(stated, default=None)


@given(labels(), labels(), labels())
def test_law_3_meet_is_associative(a: Label, b: Label, c: Label) -> None:
    assert meet(meet(a, b), c) == meet(a, meet(b, c))


@given(labels())
def test_law_3_meet_is_idempotent_and_primary_is_its_unit(a: Label) -> None:
    assert meet(a, a) == a
    assert meet(a, Label(*msgspec.structs.astuple(a))) == a
    assert meet(a, PRIMARY) == meet(PRIMARY, a) == a


@given(labels(), labels(), labels())
def test_law_3_meet_is_monotone(a: Label, b: Label, c: Label) -> None:
    lower = meet(a, b)
    assert meet(lower, c).level <= meet(a, c).level
    assert {cause.kind for cause in meet(a, c).causes} <= {cause.kind for cause in meet(lower, c).causes}


@given(st.lists(labels(), max_size=6), st.randoms())
def test_law_3_the_order_in_which_things_were_seen_does_not_matter(seen: list[Label], random: Any) -> None:
    shuffled = list(seen)
    random.shuffle(shuffled)
    assert meet_all(seen) == meet_all(shuffled)


@given(labels())
def test_the_causes_of_a_label_are_bounded_by_the_kinds_of_cause(a: Label) -> None:
    kinds = [cause.kind for cause in a.causes]
    assert kinds == sorted(set(kinds))


def test_the_first_step_that_brought_a_cause_is_kept_in_program_order() -> None:
    for order in itertools.permutations(["10", "2", "2.1"]):
        met = meet_all([lowered(Trust.EXTERNAL, "mail", step) for step in order])
        assert met.causes == (Cause("mail", "2"),)


@given(st.lists(steps, unique=True))
def test_steps_sort_in_program_order(paths: list[str]) -> None:
    by_number = sorted(paths, key=lambda path: [int(part) for part in path.split(".")])
    assert sorted(paths, key=step_order) == by_number


@given(labels())
def test_a_label_reads_back_as_it_was_written(a: Label) -> None:
    assert read_label(msgspec.json.decode(msgspec.json.encode(a))) == a


@pytest.mark.parametrize(
    "forged",
    [
        None,
        {},
        "PRIMARY",
        3,
        {"level": 4},
        {"level": -1},
        {"level": "PRIMARY"},
        {"level": 3.0},
        {"level": True},
        {"level": 3, "causes": "none"},
        {"level": 3, "causes": [["mail"]]},
        {"level": 3, "confidence": 1.5},
        {"level": 3, "confidence": -0.1},
        {"level": 3, "confidence": "1"},
        {"level": 3, "confidence": float("nan")},
        {"level": None},
        [3, [], None],
    ],
)
def test_law_3_a_missing_or_forged_label_reads_as_the_lowest(forged: object) -> None:
    assert read_label(forged) == LOWEST
    assert LOWEST.level is min(Trust)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(), x, max_size=3),
        max_leaves=6,
    )
)
def test_law_3_whatever_is_read_as_a_label_is_a_label(raw: object) -> None:
    read = read_label(raw)
    assert read.level in Trust
    assert read.confidence is None or 0.0 <= read.confidence <= 1.0


def test_a_labelled_value_can_be_looked_at_and_is_shown_with_its_level() -> None:
    value = Value([1, 2], lowered(Trust.DEGRADED, "stale", "3"), origin="4")
    assert (value.value, value.label.level, value.origin) == ([1, 2], Trust.DEGRADED, "4")
    assert repr(value) == "Value([1, 2], DEGRADED)"


def test_a_labelled_value_has_no_public_way_to_another_label() -> None:
    value = Value(1, LOWEST)
    for name, changed in (("label", PRIMARY), ("value", 2), ("origin", "0"), ("other", 1)):
        with pytest.raises(AttributeError):
            setattr(value, name, changed)
    with pytest.raises(AttributeError):
        LOWEST.level = Trust.PRIMARY  # type: ignore[misc]
