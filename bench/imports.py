"""How long `import holdfast` takes in a new process, what it brings along, and the memory of a process that did nothing else.

    python bench/imports.py [TIMES]

The first process, which may have to compile, does not count.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import msgspec
from child import tell
from spread import Spread

UNWANTED = (
    "aiohttp", "anthropic", "cryptography", "fastapi", "httpx", "langgraph", "numpy", "openai", "pandas", "pydantic_ai", "requests",
    "rich", "sqlalchemy", "starlette", "typer", "uvicorn",
)  # fmt: skip
"""Numbers, SDKs, servers, and what only the command line needs."""

_PROBE = """
import sys, time
before = set(sys.modules)
began = time.perf_counter()
import holdfast
took = time.perf_counter() - began
packages = sorted({m.partition('.')[0] for m in set(sys.modules) - before} - set(sys.stdlib_module_names))
rss = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))
import json
print(json.dumps({'took': took, 'packages': packages, 'modules': len(set(sys.modules) - before), 'rss': int(rss.split()[1]) / 1024}))
"""


class _Probe(msgspec.Struct, frozen=True):
    took: float
    packages: list[str]
    modules: int
    rss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """`packages`: the top-level ones outside of the standard library. `unwanted`: those of them that no import should bring."""

    seconds: Spread
    modules: int
    packages: tuple[str, ...]
    unwanted: tuple[str, ...]
    rss_mb: float


def measure(times: int) -> Measured:
    probes = [_probe() for _ in range(times + 1)][1:]
    packages = tuple(name for name in probes[-1].packages if not name.startswith("_sysconfigdata"))
    return Measured(
        seconds=Spread.of(probe.took for probe in probes), modules=probes[-1].modules, packages=packages,
        unwanted=tuple(name for name in packages if name in UNWANTED), rss_mb=max(probe.rss for probe in probes),
    )  # fmt: skip


def _probe() -> _Probe:
    done = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, text=True, check=True)
    return msgspec.json.decode(done.stdout, type=_Probe)


if __name__ == "__main__":
    tell(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 7))
