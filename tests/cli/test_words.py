"""Recorded text loses what a terminal obeys, and nothing else."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.cli import words

texts = st.text(st.characters(codec=None), max_size=40)  # with lone surrogates


def obeyed(text: str) -> list[str]:
    return [
        c
        for c in text
        if unicodedata.category(c) in ("Cc", "Cs")
        or c in "\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    ]


@given(texts)
def test_safe_text_holds_nothing_that_a_terminal_obeys_and_keeps_the_rest(text: str) -> None:
    shown = words.safe(text)
    assert obeyed(shown) == []
    assert [c for c in text if c.isalnum()] == [c for c in shown if c.isalnum()] or words.safe(text) != text


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=6,
    )
)
def test_json_stays_the_same_value_and_is_safe(value: object) -> None:
    for pretty in (False, True):
        text = words.to_json(value, pretty=pretty)
        assert json.loads(text) == value
        assert obeyed(text.replace("\n", "")) == []


def test_long_text_is_cut_and_says_how_long_it_is() -> None:
    assert words.shortened("short", 20) == "short"
    cut = words.shortened("x" * 5000, 100)
    assert len(cut) <= 100
    assert cut.endswith("... (5,000 characters)")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0.0 ms"), (0.0004, "0.4 ms"), (0.0432, "43 ms"), (0.9996, "1.0 s"), (59.2, "59.2 s"), (60, "1 min"), (7200, "2 h"), (3e5, "3 d")],
)  # fmt: skip
def test_durations_have_the_unit_that_fits(seconds: float, shown: str) -> None:
    assert words.duration(seconds) == shown


def test_times_are_iso_and_a_number_that_is_no_time_stays_a_number() -> None:
    assert words.moment(1_700_000_000_123_456_789) == "2023-11-14T22:13:20.123456Z"
    assert words.moment(1 << 80) == f"{1 << 80} ns"
    assert [words.offset(s) for s in (0, 59.9996, 245, 97_445, -1.5)] == [
        "+0.000",
        "+60.000",
        "+4:05.0",
        "+27:04:05",
        "-1.500",
    ]


def test_money_shows_the_digits_that_matter() -> None:
    assert [words.money(n) for n in (0, 726, 3_000, 12_345_678)] == ["$0", "$0.000726", "$0.003", "$12.35"]
