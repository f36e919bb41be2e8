"""The decisions around an effect, which are pure: the table of the effect ledger, the keys, the gate."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.tools import Effect
from holdfast.tools.decide import after_unknown, args_hash, effect_key, gate_reasons
from holdfast.trust import Label, Trust

runs = st.text("abcdefgh-/", min_size=1, max_size=6)
paths = st.lists(st.integers(0, 20), min_size=1, max_size=3).map(lambda p: ".".join(map(str, p)))


@pytest.mark.parametrize("can_reconcile", [False, True])
@pytest.mark.parametrize("age_s", [0.0, 59.0, 60.0, 1e9])
def test_the_table_of_unknown_outcomes(can_reconcile: bool, age_s: float) -> None:
    def decide(effect: Effect) -> str:
        return after_unknown(effect, key_age_s=age_s, key_ttl_s=60.0, can_reconcile=can_reconcile)

    otherwise = "ask" if can_reconcile else "doubt"
    assert decide(Effect.READ) == "repeat"
    assert decide(Effect.IDEMPOTENT) == "repeat"
    assert decide(Effect.KEYED) == ("repeat" if age_s < 60 else otherwise)
    assert decide(Effect.IRREVERSIBLE) == otherwise


@given(runs, paths, st.integers(0, 3))
def test_a_key_is_the_same_for_every_attempt_of_one_decision(run: str, path: str, settlement: int) -> None:
    assert effect_key(run, path, settlement) == effect_key(run, path, settlement)


@given(st.lists(st.tuples(runs, paths, st.integers(0, 3)), unique=True, max_size=20))
def test_every_decision_has_a_key_of_its_own(decisions: list[tuple[str, str, int]]) -> None:
    assert len({effect_key(*decision) for decision in decisions}) == len(decisions)


def test_a_key_is_text_that_any_system_takes() -> None:
    key = effect_key("run", "0", 0)
    assert key.isalnum()
    assert key == key.lower()
    assert len(key) == 52


def test_arguments_that_differ_have_hashes_that_differ() -> None:
    assert args_hash(b'{"a":1}') != args_hash(b'{"a":2}')


@given(st.sampled_from(Trust), st.sampled_from(Trust))
def test_under_trajectory_only_the_label_of_the_run_counts(needs: Trust, level: Trust) -> None:
    reasons = gate_reasons(
        needs=needs,
        policy="trajectory",
        run_label=Label(level),
        argument_labels={"a": Label(Trust.EXTERNAL)},
    )
    assert len(reasons) == (level < needs)


@given(st.sampled_from(Trust), st.dictionaries(st.sampled_from("abc"), st.sampled_from(Trust)), st.sampled_from(Trust))
def test_under_values_every_argument_counts_and_the_run_does_not(
    needs: Trust, arguments: dict[str, Trust], run: Trust
) -> None:
    reasons = gate_reasons(
        needs=needs,
        policy="values",
        run_label=Label(run),
        argument_labels={name: Label(level) for name, level in arguments.items()},
    )
    assert len(reasons) == sum(level < needs for level in arguments.values())


def test_a_broken_activity_schema_is_a_reason_whatever_the_labels() -> None:
    reasons = gate_reasons(
        needs=Trust.EXTERNAL,
        policy="values",
        run_label=Label(Trust.PRIMARY),
        argument_labels={},
        schema_violations=["a refund before an order"],
    )
    assert reasons == ("the run broke its activity schema: a refund before an order",)
