"""What a call cost: whole micro-dollars, or `None` where anything needed is unknown (law 10)."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from holdfast.model import Usage
from holdfast.providers import cost_microusd

AT = datetime(2026, 1, 1, tzinfo=UTC)


def test_cost_is_in_whole_micro_dollars() -> None:
    # gpt-4.1: 2 dollars for a million tokens of input, 8 of output, 0.5 of input from the cache.
    usage = Usage(input_tokens=1000, output_tokens=100)
    assert cost_microusd("openai", "gpt-4.1", usage, at=AT) == 2000 + 800
    cached = Usage(input_tokens=1000, output_tokens=100, cache_read_tokens=400)
    assert cost_microusd("openai", "gpt-4.1", cached, at=AT) == 1200 + 200 + 800
    assert cost_microusd("openai", "gpt-4.1-2025-04-14", usage, at=AT) == 2800


def test_law_10_what_is_unknown_costs_none_and_not_zero() -> None:
    usage = Usage(input_tokens=1000, output_tokens=100)
    assert cost_microusd("openai", "gpt-made-up", usage) is None
    assert cost_microusd("nobody", "gpt-4.1", usage) is None
    assert cost_microusd(None, "gpt-4.1", usage) is None
    assert cost_microusd("openai", None, usage) is None
    assert cost_microusd("openai", "gpt-4.1", None) is None
    assert cost_microusd("openai", "gpt-4.1", Usage(input_tokens=1000)) is None
    assert cost_microusd("openai", "gpt-4.1", Usage(output_tokens=100)) is None


def test_counts_that_contradict_each_other_cost_none() -> None:
    more_cached_than_read = Usage(input_tokens=10, output_tokens=1, cache_read_tokens=50)
    assert cost_microusd("openai", "gpt-4.1", more_cached_than_read) is None


def test_a_measured_zero_costs_zero() -> None:
    assert cost_microusd("openai", "gpt-4.1", Usage(input_tokens=0, output_tokens=0)) == 0


@pytest.mark.slow
def test_pricing_opens_no_connection(tmp_path: Path) -> None:
    script = """
import sys
seen = []
NETWORK = ("socket.connect", "socket.getaddrinfo")
sys.addaudithook(lambda event, args: seen.append(event) if event in NETWORK else None)
from holdfast.model import Usage
from holdfast.providers import cost_microusd
assert cost_microusd("openai", "gpt-4.1", Usage(input_tokens=1000, output_tokens=100)) > 0
assert seen == [], seen
"""
    command = [sys.executable, "-I", "-B", "-W", "error", "-c", script]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
