"""Running the real command in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from holdfast.cli.program import program

HERE = Path(__file__).resolve().parent
SHOP = HERE / "shop.py"
COMMAND = (sys.executable, "-m", "holdfast.cli")


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = self.json["error"]
        return error


def environment(**more: str) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("HOLDFAST_STORE", "COLUMNS", "SHOP_LOSES_ANSWERS")
    }
    return kept | more


def look(*args: str | Path) -> Done:
    """Run a command in this process, which is much faster: for what does not depend on processes, loaded code or the environment."""
    result = CliRunner().invoke(program, [str(arg) for arg in args], catch_exceptions=False)
    return Done(code=result.exit_code, out=result.stdout, err=result.stderr)


def begin(*args: str | Path, cwd: Path | None = None, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *map(str, args)], cwd=cwd, env=environment(**env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def end(process: subprocess.Popen[str]) -> Done:
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in err, err
    return Done(code=process.returncode, out=out, err=err)


def holdfast(*args: str | Path, cwd: Path | None = None, **env: str) -> Done:
    """Run a command to its end; no terminal, nothing to read from."""
    return end(begin(*args, cwd=cwd, **env))
