"""The SQLite store keeps the contract, for one process and for many tasks."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from holdfast.store import Store, open_store
from tests.contracts.store_contract import StoreContract


class TestSqliteStore(StoreContract):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[Store]:
        store = await open_store(tmp_path / "holdfast.db")
        yield store
        await store.close()
