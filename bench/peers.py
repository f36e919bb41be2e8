"""Other durable engines on the same workload, each in an environment of its own under `bench/.venvs` with pinned versions.

    python bench/peers.py [--runs 1000]

A peer that pip can't install here is skipped, and the reason is said.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import child
from child import HERE, Failed, tell

_ENVIRONMENTS: Final = HERE / ".venvs"
_INSTALL_S: Final = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """`requirements`: what is installed, pinned. `note`: how it is set up."""

    name: str
    script: str
    requirements: tuple[str, ...]
    note: str


PEERS: Final = (
    Peer(
        name="langgraph",
        script="peer_langgraph.py",
        requirements=("langgraph==1.2.22", "langgraph-checkpoint-sqlite==3.1.2"),
        note='functional API, SQLite saver, durability="sync"',
    ),
    Peer(name="dbos", script="peer_dbos.py", requirements=("dbos==3.4.0",), note="SQLite as shipped"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    steps_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Steps a second by peer, and why the others have no figure."""

    steps_per_s: dict[str, float] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


def measure(folder: Path, *, runs: int, peers: Sequence[Peer] = PEERS) -> Measured:
    """Each peer once; a figure of theirs is an order of magnitude here, not a verdict."""
    found = Measured()
    for peer in peers:
        try:
            python = _python_of(peer)
            reached = child.measure(Reached, peer.script, folder / f"{peer.name}.db", "--runs", runs, python=python)
        except Failed as failed:
            found.skipped[peer.name] = str(failed).strip().splitlines()[-1]
        else:
            found.steps_per_s[peer.name] = reached.steps_per_s
    return found


def _python_of(peer: Peer) -> str:
    """The interpreter of the peer's environment, made if it is not there. Raises `Failed`."""
    environment = _ENVIRONMENTS / peer.name
    python, made = environment / "bin" / "python", environment / "made-of"
    wanted = "\n".join(peer.requirements)
    if not (made.exists() and made.read_text() == wanted):
        _run([sys.executable, "-m", "venv", "--clear", str(environment)])
        _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *peer.requirements])
        made.write_text(wanted)
    return str(python)


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_S, check=False)
    except subprocess.TimeoutExpired as expired:
        raise Failed(f"{' '.join(command[:5])}: nothing after {_INSTALL_S:.0f} s") from expired
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "ERROR" in line]
        raise Failed(f"pip: {(errors or ['failed'])[-1]}")


if __name__ == "__main__":
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--runs", type=int, default=1000)
    with tempfile.TemporaryDirectory(dir=HERE) as temporary:
        tell(measure(Path(temporary), runs=asked.parse_args().runs))
