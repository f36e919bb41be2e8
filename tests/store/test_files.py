# ruff: noqa: ASYNC240  # the files are small and nothing else runs in the loop
"""What a path may hold: a store of this or another version, something else, something damaged, nothing."""

import asyncio
import contextlib
import os
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from holdfast.errors import SchemaTooNew, StoreCorrupt, StoreError, StoreUnavailable
from holdfast.store import Store, Stream, open_store
from holdfast.store._schema import APPLICATION_ID, MIGRATIONS, prepare
from holdfast.store.memory import MemoryStore
from holdfast.store.sqlite import SqliteStore
from tests.contracts.streams import NOW_NS, VERSIONS, Pen, new_run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "holdfast.db"


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


async def write_some(path: Path) -> Pen:
    store = await open_store(path)
    pen = Pen("r")
    await store.create(new_run("r"), pen.append())
    for _ in range(30):
        await store.append(pen.append(payload=b"x" * 1_000))
    await store.close()
    return pen


# -- addresses ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["{path}", "sqlite:///{path}"])
async def test_a_path_and_a_url_name_the_same_file(path: Path, form: str) -> None:
    await write_some(path)
    address = form.format(path=path)
    store = await open_store(address)
    assert isinstance(store, SqliteStore)
    assert store.address == address
    assert await store.run("r") is not None
    await store.close()


async def test_a_path_may_have_any_characters(tmp_path: Path) -> None:
    path = tmp_path / "a ?&#%20é.db"
    await write_some(path)
    assert path.is_file()
    assert names(tmp_path) == [path.name]


async def test_memory_has_its_own_address() -> None:
    store = await open_store(":memory:")
    assert isinstance(store, MemoryStore)
    await store.close()


@pytest.mark.parametrize("url", ["postgresql://me:secret@host:5432/db", "mysql://h/db", "sqlite://", "sqlite://host/x"])
async def test_a_url_of_something_else_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(StoreUnavailable, match="SQLite files and in memory") as caught:
        await open_store(url)
    assert "secret" not in str(caught.value)


# -- what is not a store ------------------------------------------------------------------------------------------------


def foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE accounts (id)")


def foreign_with_an_id(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA application_id = 7")


def garbage(path: Path) -> None:
    path.write_bytes(os.urandom(10_000))


def text(path: Path) -> None:
    path.write_text("id,name\n")


def half_a_header(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\x00" + b"\x10\x00")


@pytest.mark.parametrize("make", [foreign, foreign_with_an_id, garbage, text, half_a_header])
async def test_another_file_is_refused_and_stays_as_it_is(path: Path, make: Callable[[Path], None]) -> None:
    make(path)
    before = path.read_bytes()
    with pytest.raises(StoreCorrupt) as caught:
        await open_store(path)
    assert caught.value.store == str(path)
    assert path.read_bytes() == before
    assert names(path.parent) == [path.name]


async def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreCorrupt, match="it is a directory"):
        await open_store(tmp_path)


async def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match=r"no directory .*/missing"):
        await open_store(tmp_path / "missing" / "holdfast.db")
    assert names(tmp_path) == []


async def test_an_empty_file_becomes_a_store(path: Path) -> None:
    path.touch()
    await write_some(path)


@pytest.mark.slow
async def test_a_truncated_file_gives_a_typed_error(path: Path) -> None:
    await write_some(path)
    whole = path.read_bytes()
    for size in (1, 15, 16, 99, 100, 512, 8_191, 8_192, 8_193, 16_384, len(whole) // 2, len(whole) - 8_192):
        path.write_bytes(whole[:size])
        with pytest.raises(StoreCorrupt):
            await read_all(path)
        path.unlink()
        for left in path.parent.iterdir():
            left.unlink()


@pytest.mark.slow
async def test_a_damaged_page_gives_a_typed_error_or_is_read(path: Path) -> None:
    await write_some(path)
    whole = path.read_bytes()
    for page in range(1, len(whole) // 8_192):
        for damage in (b"\x00" * 8_192, b"\xff" * 200):
            at = page * 8_192
            path.write_bytes(whole[:at] + damage + whole[at + len(damage) :])
            with contextlib.suppress(StoreError):
                await read_all(path)


async def read_all(path: Path) -> None:
    store = await open_store(path)
    try:
        await store.run("r")
        await store.rows("r", Stream.RUN)
        await store.runs()
        with store.snapshot() as snapshot:
            for row in snapshot.runs():
                list(snapshot.rows(row.run, Stream.RUN))
            list(snapshot.orphans())
        await store.register("w", lease_s=1.0)
        await store.claim("w", VERSIONS, now_ns=NOW_NS, limit=1)
    finally:
        await store.close()


# -- text that is none --------------------------------------------------------------------------------------------------


async def test_invalid_text_in_a_column_is_a_typed_error_and_does_not_stop_a_verification(path: Path) -> None:
    await write_some(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE events SET kind = CAST(x'ff41' AS TEXT) WHERE seq = 3")
        connection.commit()
    store = await open_store(path)
    with pytest.raises(StoreCorrupt, match="UTF-8"):
        await store.rows("r", Stream.RUN)
    with store.snapshot() as snapshot:
        kinds = [row.kind for row in snapshot.rows("r", Stream.RUN)]
    assert kinds[3] == "\\xffA"
    assert len(kinds) == 31
    await store.close()


async def test_a_damaged_run_is_set_aside_when_it_is_claimed(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    await write_some(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE events SET kind = CAST(x'ff41' AS TEXT) WHERE seq = 3")
        connection.commit()
    store = await open_store(path)
    await store.create(new_run("whole"), Pen("whole").append())
    await store.register("w", lease_s=1.0)
    claimed = await store.claim("w", VERSIONS, now_ns=NOW_NS, limit=10)
    assert [each.row.run for each in claimed] == ["whole"]
    assert "run r can't be read and is set aside" in caplog.text
    row = await store.run("r")
    assert row is not None
    assert (row.worker, row.wake_ns, row.status) == (None, None, "pending")
    await store.close()


async def test_rows_without_a_run_are_reported(path: Path) -> None:
    await write_some(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE events SET no = 99 WHERE seq = 3")
        connection.execute("INSERT INTO blobs VALUES (98, x'01', x'02')")
        connection.commit()
    store = await open_store(path)
    with store.snapshot() as snapshot:
        assert sorted(snapshot.orphans()) == [
            ("blobs", "run number 98, blob 01"),
            ("events", "run number 99, stream 0, event 3"),
        ]
    await store.close()


# -- versions -----------------------------------------------------------------------------------------------------------


async def test_a_file_says_what_it_is(path: Path) -> None:
    await write_some(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_a_newer_file_is_refused_and_stays_as_it_is(path: Path) -> None:
    await write_some(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 9")
    before = path.read_bytes()
    with pytest.raises(SchemaTooNew) as caught:
        await open_store(path)
    assert (caught.value.found, caught.value.known) == (9, len(MIGRATIONS))
    assert path.read_bytes() == before


async def test_an_older_file_is_upgraded_and_keeps_its_content(path: Path) -> None:
    pen = await write_some(path)
    prepare(
        path,
        str(path),
        [*MIGRATIONS, "ALTER TABLE runs ADD COLUMN colour TEXT;\nCREATE INDEX by_colour ON runs (colour)"],
    )
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS) + 1,)
        assert connection.execute("SELECT run, colour FROM runs").fetchall() == [("r", None)]
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (len(pen.rows),)


async def test_an_upgrade_that_fails_changes_nothing(path: Path) -> None:
    await write_some(path)
    with pytest.raises(StoreError):
        prepare(path, str(path), [*MIGRATIONS, "ALTER TABLE runs ADD COLUMN colour TEXT;\nDROP TABLE missing"])
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        assert "colour" not in connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'runs'").fetchone()[0]
    await read_all(path)


# -- files that go away or can't be written -----------------------------------------------------------------------------


async def test_nothing_is_acknowledged_once_the_file_is_gone(path: Path) -> None:
    store = await open_store(path)
    pen = Pen("r")
    await store.create(new_run("r"), pen.append())
    path.unlink()
    store._looked_at = 0.0  # type: ignore[attr-defined]  # as if a quarter of a second had passed
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="deleted or replaced"):
            await store.append(pen.append())
    await store.close()


async def test_a_file_that_can_not_be_written_gives_a_typed_error(path: Path) -> None:
    await write_some(path)
    path.chmod(stat.S_IRUSR)
    path.parent.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        if os.access(path, os.W_OK):
            pytest.skip("this user may write every file (root)")
        with pytest.raises(StoreUnavailable):
            await open_store(path)
    finally:
        path.parent.chmod(stat.S_IRWXU)


async def test_opening_many_times_leaves_nothing_behind(path: Path) -> None:
    stores: list[Store] = await asyncio.gather(*(open_store(path) for _ in range(8)))
    for store in stores:
        await store.close()
    assert names(path.parent) == [path.name]
