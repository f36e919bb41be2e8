"""Keeps a busy event loop from starving the store's threads.

A loop that always has something ready gives up the interpreter lock only for the microsecond in which it asks for new events, and
takes it back before a waiting thread has woken up; as it did give it up, that thread's wait starts anew. Seen: a commit that waited
for fourteen seconds, longer than a lease. So while the threads have work and none of it gets done, the loop pauses now and then.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

_LOOK_EVERY_S: Final = 0.02
_PAUSE_S: Final = 0.001


class Courtesy:
    """One a loop. `begin` when work is handed to a thread, `end` when some of it came back; both in the loop's thread."""

    __slots__ = ("_done", "_done_before", "_loop", "_outstanding", "_watching")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._outstanding = 0
        self._done = self._done_before = 0
        self._watching = False

    def begin(self) -> None:
        self._outstanding += 1
        if not self._watching:
            self._watching = True
            self._done_before = self._done
            self._loop.call_later(_LOOK_EVERY_S, self._look)

    def end(self, pieces: int = 1) -> None:
        self._outstanding -= pieces
        self._done += 1

    def _look(self) -> None:
        self._watching = self._outstanding > 0
        if self._watching:
            if self._done == self._done_before:
                time.sleep(_PAUSE_S)
            self._done_before = self._done
            self._loop.call_later(_LOOK_EVERY_S, self._look)
