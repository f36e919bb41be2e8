"""Which store a command means, and that there is one: a command that reads must not make a store that is not there."""

from __future__ import annotations

import os
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from ..runtime import App
from ..runtime import open as open_app
from ..runtime.executor import LEASE_S
from .exits import NoStore

VARIABLE: Final = "HOLDFAST_STORE"
DEFAULT: Final = "./holdfast.db"


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """Where the store is, and who said so."""

    address: str
    said_by: str

    @property
    def shown(self) -> str:
        """The address without user and password."""
        if "://" not in self.address:
            return self.address
        url = urlsplit(self.address)
        return f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path}"

    @property
    def option(self) -> str:
        """What a command needs after it to mean this store from the same shell."""
        return f" --store {shlex.quote(self.address)}" if self.said_by == "--store" else ""

    @property
    def described(self) -> str:
        return f"{self.shown} ({self.said_by})"


def locate(store: str | None) -> Location:
    """The store of a command: the option, else the variable as it is now, else the default."""
    if store is not None:
        return Location(address=store, said_by="--store")
    named = os.environ.get(VARIABLE)
    if named:
        return Location(address=named, said_by=f"from {VARIABLE}")
    return Location(address=DEFAULT, said_by=f"the default: neither --store nor {VARIABLE} is given")


@asynccontextmanager
async def opened(location: Location, *, worker: bool = False, max_concurrent: int = 1000) -> AsyncIterator[App]:
    """The store of a command, open. Raises `NoStore` and whatever `holdfast.open` raises."""
    refuse_missing(location)
    async with open_app(location.address, worker=worker, max_concurrent=max_concurrent, lease_s=LEASE_S) as app:
        yield app


def refuse_missing(location: Location) -> None:
    """Raises `NoStore` when nothing is at the address of a store in a file."""
    from ..store._open import MEMORY, sqlite_path

    if location.address == MEMORY:
        raise NoStore("a store in memory ends with its process, so no command can look into it; name a file")
    if not location.address:
        raise NoStore(f"an empty address names no store ({location.said_by})")
    path: Path = sqlite_path(location.address)
    how = f"--store or {VARIABLE} names another one; a run makes it (`holdfast demo --store PATH` is one way)"
    try:
        size_bytes = path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        raise NoStore(f"there is no store {location.described}. Nothing was created; {how}") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise NoStore(f"store {location.described} can't be looked at: {why}. Nothing was changed; {how}") from error
    if size_bytes == 0 and path.is_file():
        raise NoStore(f"{location.described} is an empty file, not a store yet. Nothing was changed; {how}")
