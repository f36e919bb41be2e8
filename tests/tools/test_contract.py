"""Declaring tools: careful defaults, retries that are the same whenever they are looked at."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import holdfast as hf
from holdfast.errors import ContractError
from holdfast.tools import Effect
from holdfast.trust import Trust

runs = st.text("abc", min_size=1, max_size=3)


def test_the_defaults_are_the_careful_ones() -> None:
    @hf.tool
    async def send(text: str) -> None:
        """Send a text."""

    assert send.effect is Effect.IRREVERSIBLE
    assert send.needs is Trust.PRIMARY
    assert send.yields is Trust.UNVERIFIED
    assert send.policy == "trajectory"
    assert send.retry.attempts == 1
    assert (send.spec.name, send.spec.description) == ("send", "Send a text.")


def test_only_an_irreversible_tool_needs_trust_by_itself() -> None:
    @hf.tool(effect="keyed")
    async def order(text: str, *, key: hf.IdempotencyKey) -> None: ...

    @hf.tool(effect="read")
    async def look(text: str) -> None: ...

    assert order.needs is look.needs is Trust.EXTERNAL


@given(st.floats(0, 10), st.floats(0, 100), runs, runs, st.integers(1, 20))
def test_a_pause_is_within_its_bounds_and_always_the_same(
    base_s: float, max_s: float, run: str, path: str, attempt: int
) -> None:
    retry = hf.Retry(attempts=5, base_s=base_s, max_s=max_s)
    delay_s = retry.delay_s(run, path, attempt)
    assert 0 <= delay_s <= min(max_s, base_s * 2.0 ** (attempt - 1))
    assert delay_s == retry.delay_s(run, path, attempt)


def test_pauses_differ_between_runs_steps_and_attempts() -> None:
    retry = hf.Retry(attempts=5, base_s=1.0)
    first = {retry.delay_s(f"run-{n}", "0", 1) for n in range(50)}
    assert len(first) == 50
    assert 0.3 < sum(first) / 50 < 0.7


def test_the_pause_of_a_retry_never_overflows() -> None:
    assert hf.Retry(attempts=10_000, base_s=1.0, max_s=5.0).delay_s("r", "0", 5_000) <= 5.0


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"base_s": -1.0}, {"max_s": -1.0}])
def test_a_retry_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ContractError):
        hf.Retry(**wrong)  # type: ignore[arg-type]  # the case


def test_what_a_result_has_to_be_is_judged_in_one_sentence() -> None:
    @hf.tool(effect="read", empty="refuse", plausible=lambda found: len(found) < 3 or f"{len(found)} are too many")
    async def look() -> list[int]:
        return []

    assert look.fault_of([1]) is None
    assert look.fault_of([]) == ("empty", "look returned nothing where its contract promises something")
    assert look.fault_of([1, 2, 3]) == ("implausible", "3 are too many")


def test_how_a_result_reads_to_a_model_is_json_or_what_the_contract_says() -> None:
    @hf.tool(effect="read")
    async def plain() -> dict[str, int]:
        return {}

    @hf.tool(effect="read", render=lambda found: f"{found['left']} left")
    async def rendered() -> dict[str, int]:
        return {}

    assert plain.rendered({"left": 5}) == '{"left":5}'
    assert rendered.rendered({"left": 5}) == "5 left"
