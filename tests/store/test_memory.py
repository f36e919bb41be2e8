"""The store in memory keeps the contract."""

from collections.abc import AsyncIterator

import pytest

from holdfast.store import Store, open_store
from tests.contracts.store_contract import StoreContract


class TestMemoryStore(StoreContract):
    @pytest.fixture
    async def store(self) -> AsyncIterator[Store]:
        store = await open_store(":memory:")
        yield store
        await store.close()
