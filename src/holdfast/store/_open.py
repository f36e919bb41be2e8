"""From an address to a store."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from ..errors import StoreUnavailable
from ._types import Store

MEMORY = ":memory:"


async def open_store(address: str | Path) -> Store:
    """Open the store at `address`; a file that is not there is created.

    Args:
        address: A path, `sqlite:///relative/path`, `sqlite:////absolute/path`, or `:memory:` for a store that ends with the process.

    Raises:
        StoreCorrupt: There is something else. Nothing was changed.
        SchemaTooNew: A newer Holdfast wrote it. Nothing was changed.
        StoreUnavailable: It can't be opened, or this version has no store for such an address.
    """
    if address == MEMORY:
        from .memory import MemoryStore

        return MemoryStore()
    from .sqlite import SqliteStore

    return await SqliteStore.open(sqlite_path(address), address=str(address))


def sqlite_path(address: str | Path) -> Path:
    """The file behind an address. Raises `StoreUnavailable` for a URL of something else."""
    if isinstance(address, Path) or "://" not in address:
        return Path(address)
    url = urlsplit(address)
    if url.scheme == "sqlite" and not url.netloc and len(url.path) > 1:
        return Path(unquote(url.path[1:]))
    shown = f"{url.scheme}://{url.hostname or ''}{url.path}"  # without user and password
    raise StoreUnavailable(
        shown,
        f"this version has stores in SQLite files and in memory, none for {url.scheme}://; give a path or sqlite:///path",
    )
