"""`import holdfast` is light, silent and without effect, and its public names are in order."""

import __future__

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import holdfast

# Each is heavy, or belongs to an extra, or is for the command line only.
NOT_PULLED = (
    "anthropic",
    "cryptography",
    "numpy",
    "openai",
    "pydantic_ai",
    "rich",
    "starlette",
    "typer",
)

RECORD_ENVIRONMENT_READS = """
import os, sys

def reader():
    # Who asked: the first frame outside the standard library. A module of the library that reads while it is
    # imported itself asks for nobody.
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name.startswith(("importlib", "_frozen_importlib")):
            return ""
        if name.partition(".")[0] not in sys.stdlib_module_names:
            return name
        frame = frame.f_back
    return ""

class Recorder(os._Environ):
    def __getitem__(self, key):
        if reader().partition(".")[0] == "holdfast":
            reads.append(f"{reader()} read {key}")
        return super().__getitem__(key)

    def __iter__(self):
        if reader().partition(".")[0] == "holdfast":
            reads.append(f"{reader()} listed the environment")
        return super().__iter__()

reads = []
real = os.environ
os.environ = Recorder(real._data, real.encodekey, real.decodekey, real.encodevalue, real.decodevalue)
"""

IMPORT_EVERY_MODULE = """
import importlib, pkgutil
import holdfast

def failed(name):
    raise SystemExit(f"{name} can't be imported")

for module in pkgutil.walk_packages(holdfast.__path__, "holdfast.", onerror=failed):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""


def python(script: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run `script` in a fresh interpreter that sees installed packages only; warnings are errors."""
    return subprocess.run(
        [sys.executable, "-I", "-B", "-W", "error", "-c", script],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_importing_pulls_no_sdk_no_server_and_no_command_line(tmp_path: Path) -> None:
    done = python("import holdfast, sys; sys.stdout.write(' '.join(sys.modules))", tmp_path)
    assert done.returncode == 0, done.stderr
    pulled = {name.partition(".")[0] for name in done.stdout.split()}
    assert "holdfast" in pulled
    assert pulled.isdisjoint(NOT_PULLED), sorted(pulled.intersection(NOT_PULLED))


def test_importing_prints_nothing_and_makes_no_file(tmp_path: Path) -> None:
    done = python("import holdfast", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


def test_the_recorder_sees_what_a_module_reads_itself_or_through_the_standard_library(tmp_path: Path) -> None:
    reads = """
import pathlib
code = "import os, pathlib; os.getenv('A'); 'B' in os.environ; os.environ.get('C'); pathlib.Path.home()"
exec(code, {"__name__": "holdfast.x"})
exec(code, {"__name__": "another"})
print(*reads, sep=chr(10))
"""
    done = python(RECORD_ENVIRONMENT_READS + reads, tmp_path)
    assert done.returncode == 0, done.stderr
    seen = [line.removeprefix("holdfast.x read ") for line in done.stdout.splitlines()]
    assert [*dict.fromkeys(seen)] == ["A", "B", "C", "HOME"]


@pytest.mark.slow
def test_no_module_reads_the_environment_or_prints_while_it_is_imported(tmp_path: Path) -> None:
    done = python(RECORD_ENVIRONMENT_READS + IMPORT_EVERY_MODULE + "sys.exit(chr(10).join(reads) or 0)", tmp_path)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (0, "", "")


def test_public_names_are_sorted_and_exist() -> None:
    names = holdfast.__all__
    assert list(names) == sorted(set(names))
    assert [name for name in names if not hasattr(holdfast, name)] == []


def test_what_the_package_shows_is_declared_public() -> None:
    shown = {
        name
        for name, value in vars(holdfast).items()
        if not name.startswith("_") and not isinstance(value, ModuleType | __future__._Feature)
    }
    assert shown <= set(holdfast.__all__), sorted(shown.difference(holdfast.__all__))
