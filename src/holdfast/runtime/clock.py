"""The machine's clocks."""

from __future__ import annotations

import time

_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # macOS has no BOOTTIME; its MONOTONIC stops in sleep


class SystemClock:
    """Wall time for what people read and for durable timers; boot time, which never jumps, for deadlines and leases."""

    def now_ns(self) -> int:
        return time.time_ns()

    def boot_ns(self) -> int:
        return time.clock_gettime_ns(_BOOT)
