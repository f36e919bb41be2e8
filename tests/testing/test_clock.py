"""The virtual clock stands still until it is moved."""

from __future__ import annotations

import pytest

from holdfast.model import Clock
from holdfast.testing import VirtualClock
from holdfast.testing.clock import START_NS


def test_time_stands_still() -> None:
    clock: Clock = VirtualClock()
    assert clock.now_ns() == clock.now_ns() == START_NS
    assert clock.boot_ns() == 0


def test_passing_time_moves_both_clocks_and_a_jump_the_wall_clock_alone() -> None:
    clock = VirtualClock()
    clock.advance(1.5)
    assert (clock.now_ns() - START_NS, clock.boot_ns()) == (1_500_000_000, 1_500_000_000)
    clock.jump(-3600)
    assert (clock.now_ns() - START_NS, clock.boot_ns()) == (-3_598_500_000_000, 1_500_000_000)


def test_both_can_be_set() -> None:
    clock = VirtualClock(now_ns=1, boot_ns=2)
    clock.set_now(3)
    clock.set_boot(4)
    assert (clock.now_ns(), clock.boot_ns()) == (3, 4)


@pytest.mark.parametrize("seconds", [-1.0, float("nan")])
def test_time_does_not_pass_backwards(seconds: float) -> None:
    with pytest.raises(ValueError, match="forwards"):
        VirtualClock().advance(seconds)
