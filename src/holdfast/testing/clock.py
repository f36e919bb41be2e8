"""A clock that a test owns: time stands still until it is moved."""

from __future__ import annotations

from typing import Final

START_NS: Final = 1_700_000_000_000_000_000
"""2023-11-14, 22:13:20 UTC: where a virtual clock starts unless told otherwise."""

_NS: Final = 1_000_000_000


class VirtualClock:
    """Satisfies `holdfast.model.Clock`; give it to `hf.open(clock=...)`.

    Durable timers, freshness, budgets and the lease of the worker follow it. What it does not move is the event
    loop: a time-out of a step body, and a wait in a run that does not park, last as long as they say.

    Args:
        now_ns: UTC wall time.
        boot_ns: Time since the machine started.
    """

    def __init__(self, *, now_ns: int = START_NS, boot_ns: int = 0) -> None:
        self._now_ns = now_ns
        self._boot_ns = boot_ns

    def now_ns(self) -> int:
        return self._now_ns

    def boot_ns(self) -> int:
        return self._boot_ns

    def advance(self, seconds: float) -> None:
        """Let time pass on both clocks; `seconds` of at least 0."""
        if not seconds >= 0:
            raise ValueError(f"time passes forwards, not by {seconds} s; `jump` moves the wall clock alone")
        self._now_ns += round(seconds * _NS)
        self._boot_ns += round(seconds * _NS)

    def jump(self, seconds: float) -> None:
        """Set the wall clock forwards or back, as an administrator or a time server does; boot time does not notice."""
        self._now_ns += round(seconds * _NS)

    def set_now(self, now_ns: int) -> None:
        self._now_ns = now_ns

    def set_boot(self, boot_ns: int) -> None:
        self._boot_ns = boot_ns
