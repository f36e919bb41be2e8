"""Every measurement is made by a process of its own: no memory, garbage or warm cache of another one counts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

T = TypeVar("T")

HERE: Final = Path(__file__).resolve().parent
TIMEOUT_S: Final = 600.0


class Failed(Exception):
    """A measurement ended without a figure."""


def measure(
    kind: type[T], script: str, *arguments: object, python: str = sys.executable, timeout_s: float = TIMEOUT_S
) -> T:
    """Run `bench/<script>` and read the object that it prints in its last line.

    Raises: `Failed`, with what the script wrote to stderr.
    """
    command = [python, str(HERE / script), *map(str, arguments)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as expired:
        raise Failed(f"{script}: nothing after {timeout_s:.0f} s") from expired
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        raise Failed(
            f"{' '.join([script, *map(str, arguments)])}: exit {done.returncode}\n{done.stderr.strip()[-3000:]}"
        )
    return msgspec.json.decode(lines[-1], type=kind)


def tell(measured: Any) -> None:  # Any: a dataclass
    """Print a measurement for whoever asked, as the last line."""
    print(msgspec.json.encode(measured).decode())
