"""Importing the user's code, so that its workflows are known."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from ..errors import HoldfastError
from .exits import NotLoaded


def load(modules: Sequence[str] | None) -> None:
    """Import each module: a dotted name, found from the working directory too, or a path to a .py file.

    What the modules print goes to standard error. Raises `NotLoaded`, or the `HoldfastError` of a declaration.
    """
    for module in modules or ():
        with contextlib.redirect_stdout(sys.stderr):
            try:
                _load(module)
            except HoldfastError:
                raise
            except (Exception, SystemExit) as error:
                raise NotLoaded(f"--load {module}: {_told(error)}. Nothing was done") from error


def _load(module: str) -> None:
    path = Path(module)
    if path.suffix != ".py" and "/" not in module:
        _search(Path.cwd())
        importlib.import_module(module)
        return
    path = path.resolve()
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    _search(path.parent)
    name = path.stem
    there = sys.modules.get(name)
    if there is not None and getattr(there, "__file__", None) == str(path):
        return
    spec = importlib.util.spec_from_file_location(name if there is None else f"holdfast_loaded_{name}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python module")
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded
    try:
        spec.loader.exec_module(loaded)
    except BaseException:
        del sys.modules[spec.name]
        raise


def _search(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _told(error: BaseException) -> str:
    """The error with the user's line it came from."""
    frames = [
        f for f in traceback.extract_tb(error.__traceback__) if "importlib" not in f.filename and f.filename != __file__
    ]
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"
