"""Stores with runs in every state."""

from __future__ import annotations

import shutil
from pathlib import Path

import anyio
import pytest

from tests.cli import shop
from tests.cli.support import SHOP, holdfast

RUNS = (
    ("quote", "q-1", "rope"), ("close_account", "close-7", "c-42"), ("letters", "letter-1", "Tarrow & Quill"),
    ("waits", "w-signal", "signal"), ("waits", "w-reply", "reply"), ("waits", "w-approval", "approval"),
    ("fails", "f-1", shop.EVIL), ("parent", "p-1", "cord"), ("chat", "chat-1", shop.EVIL),
)  # fmt: skip


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose runs went as far as they go; not to be written to."""
    store = tmp_path_factory.mktemp("made") / "shop.db"

    async def begin() -> None:
        for workflow, run, argument in RUNS:
            await shop.start(store, workflow, run, argument)

    anyio.run(begin)
    done = holdfast("resume", "--load", SHOP, "--store", store, "--json", SHOP_LOSES_ANSWERS="1")
    assert done.code == 5, done
    assert done.json["by_status"] == {"completed": 4, "failed": 1, "in_doubt": 1, "waiting": 4}
    assert done.json["stranded"] == []
    assert done.err.count("printed by the workflow") == 2
    return store


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may do with as it likes."""
    copy = tmp_path / "shop.db"
    shutil.copy(made, copy)  # the log is empty once all have closed the file
    wal = made.with_name(made.name + "-wal")
    assert not wal.exists() or wal.stat().st_size == 0
    return copy
