"""The public face: which names there are, that each says what it does, and that types and all modules ship."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, assert_type

import pytest

import holdfast
import holdfast as hf
from tests.conftest import ROOT

PUBLIC = [
    "Agent",
    "Answer",
    "App",
    "Budget",
    "Clarify",
    "Completed",
    "Decision",
    "Done",
    "Escalated",
    "Fresh",
    "HoldfastError",
    "IdempotencyKey",
    "Label",
    "NoResult",
    "NotDone",
    "Refused",
    "Rejected",
    "Retry",
    "Run",
    "Secret",
    "StepFailed",
    "TimedOut",
    "ToolFailed",
    "Trust",
    "Unknown",
    "Value",
    "approval",
    "conclusions",
    "endorse",
    "first",
    "now",
    "open",
    "parallel",
    "patched",
    "random",
    "record",
    "recorded",
    "reply",
    "run_sync",
    "signal",
    "sleep",
    "sleep_until",
    "step",
    "subrun",
    "timeout",
    "tool",
    "uuid",
    "validator",
    "workflow",
]
"""A name that is added here is kept; one that is removed breaks somebody."""

FOR_USERS = ("holdfast", "holdfast.agent", "holdfast.providers", "holdfast.testing")
PACKAGE = ROOT / "src" / "holdfast"


def test_the_public_names_are_these() -> None:
    assert sorted(PUBLIC) == PUBLIC
    assert holdfast.__all__ == PUBLIC


def test_every_public_name_is_there() -> None:
    assert [name for name in PUBLIC if not hasattr(holdfast, name)] == []


def test_importing_all_names_shadows_nothing_but_what_is_known() -> None:
    """`open` is a builtin: `from holdfast import *` is not how Holdfast is used; `import holdfast as hf` is."""
    import builtins

    assert [name for name in PUBLIC if hasattr(builtins, name)] == ["open"]


def public_of(name: str) -> Iterator[tuple[str, object]]:
    """The classes and functions of a module that users see, by qualified name; of the top module with their public methods."""
    module = importlib.import_module(name)
    for value in (getattr(module, public) for public in module.__all__):
        if not (inspect.isclass(value) or inspect.isfunction(value)):
            continue
        yield f"{value.__module__}.{value.__qualname__}", value
        if inspect.isclass(value) and module is holdfast:
            for method, function in vars(value).items():
                if inspect.isfunction(function) and not method.startswith("_"):
                    yield f"{function.__module__}.{function.__qualname__}", function


def written_docstring(value: object) -> str:
    """The docstring in the source; what a dataclass makes up does not count."""
    source = inspect.getsource(value)  # type: ignore[arg-type]  # a class or a function
    (node,) = ast.parse(_dedented(source)).body
    assert isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    return ast.get_docstring(node) or ""


def _dedented(source: str) -> str:
    return inspect.cleandoc("x\n" + source).removeprefix("x\n")


@pytest.mark.parametrize("name", FOR_USERS)
def test_every_public_class_function_and_method_has_a_docstring(name: str) -> None:
    described = {where: written_docstring(value) for where, value in public_of(name)}
    assert described
    assert [where for where, docstring in described.items() if not docstring] == []


def test_every_module_says_what_it_is_for() -> None:
    modules = [path for path in PACKAGE.rglob("*.py") if path.name != "__main__.py"]
    assert [str(m.relative_to(PACKAGE)) for m in modules if not ast.get_docstring(ast.parse(m.read_text()))] == []


# -- what a type checker sees ----------------------------------------------------------------------------------------------

if TYPE_CHECKING:  # `make check` fails where one of these does not hold; nothing here is ever run

    @hf.step
    async def counted(word: str) -> int: ...

    @hf.tool(effect="read")
    async def looked_up(word: str) -> list[str]: ...

    @hf.validator(version="1")
    async def checked(value: str) -> bool: ...

    @hf.workflow(version="1")
    async def answering(word: str) -> hf.Answer[int]: ...

    @hf.workflow(version="1")
    async def plain(word: str) -> int: ...

    async def _seen(app: hf.App) -> None:
        assert_type(await (await app.start(answering, "word")).result(), hf.Answer[int])
        assert_type(await (await app.start(plain, "word")).result(), hf.Answer[int])
        assert_type(hf.run_sync(answering, "word"), hf.Answer[int])
        assert_type(await counted("word"), int)
        assert_type(await looked_up("word"), list[str])
        assert_type(await hf.endorse("word", checked), hf.Value[bool])
        assert_type(await hf.parallel(counted("one"), looked_up("two")), tuple[int, list[str]])
        assert_type(await hf.first(counted("one"), counted("two")), tuple[int, int])
        assert_type(await hf.timeout(counted("one"), timeout_s=1.0), int)


def test_the_types_ship() -> None:
    assert (PACKAGE / "py.typed").is_file()


# -- what ships ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    if find_spec("hatchling") is None:
        pytest.skip("hatchling, which builds the wheel, is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as opened:
        yield opened


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_package_with_its_types(wheel: zipfile.ZipFile) -> None:
    shipped = {name.removeprefix("holdfast/") for name in wheel.namelist() if name.startswith("holdfast/")}
    there = {str(p.relative_to(PACKAGE)) for p in PACKAGE.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    assert "py.typed" in shipped
    assert shipped == there


@pytest.mark.slow
def test_the_wheel_holds_nothing_else_and_says_which_version_it_is(wheel: zipfile.ZipFile) -> None:
    (info,) = {Path(name).parts[0] for name in wheel.namelist()} - {"holdfast"}
    assert info == f"holdfast-{holdfast.__version__}.dist-info"
    metadata = wheel.read(f"{info}/METADATA").decode()
    assert f"Version: {holdfast.__version__}\n" in metadata
    assert f"{info}/licenses/LICENSE" in wheel.namelist()
    assert b"holdfast = holdfast.cli:main" in wheel.read(f"{info}/entry_points.txt")


def test_the_version_is_said_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == holdfast.__version__
