"""Which store a command means, and what it says when there is none."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.support import begin, end, holdfast, look

pytestmark = pytest.mark.slow


def foreign(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE customers (name TEXT)")
    db.close()


def newer(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA application_id = 0x48464A31")
        db.execute("PRAGMA user_version = 99")
        db.execute("CREATE TABLE runs (no INTEGER)")
    db.close()


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "NoStore"),
    "empty": (lambda path: path.write_bytes(b""), "NoStore"),
    "garbage": (lambda path: path.write_bytes(b"not a store at all\n" * 500), "StoreCorrupt"),
    "folder": (lambda path: path.mkdir(), "StoreCorrupt"),
    "foreign": (foreign, "StoreCorrupt"),
    "newer": (newer, "SchemaTooNew"),
}


def test_what_is_no_store_is_named_and_left_as_it_is(tmp_path: Path) -> None:
    paths = {name: tmp_path / f"{name}.db" for name in BAD}
    for name, path in paths.items():
        BAD[name][0](path)
    before = {name: path.read_bytes() if path.is_file() else None for name, path in paths.items()}
    for name, path in paths.items():
        done = look("show", "r-1", "--json", "--store", path)
        assert (done.code, done.err) == (3, ""), (name, done)
        assert done.error["type"] == BAD[name][1]
        assert done.error["store"] == str(paths[name])
        assert str(paths[name]) in done.error["message"]
        assert (paths[name].read_bytes() if paths[name].is_file() else None) == before[name]
    assert not paths["missing"].exists()
    assert not [p for p in tmp_path.iterdir() if p.name not in {f"{name}.db" for name in BAD}], (
        "nothing was left behind"
    )


@pytest.mark.parametrize("store", ["postgres://user:sesame@db.example/x", ":memory:", "", "no/such/folder/x.db"])
def test_an_address_that_can_not_be_a_store_here_is_refused_without_its_password(store: str, tmp_path: Path) -> None:
    done = holdfast("runs", "--store", store, cwd=tmp_path)
    assert (done.code, done.out) == (3, "")
    assert "sesame" not in done.err
    assert list(tmp_path.iterdir()) == []


def test_the_store_is_the_option_else_the_variable_else_the_default(made: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.db"
    option = begin("runs", "--json", "--store", made, cwd=tmp_path, HOLDFAST_STORE=str(elsewhere))
    variable = begin("runs", cwd=tmp_path, HOLDFAST_STORE=str(elsewhere))
    default = begin("runs", cwd=tmp_path)
    url = begin("runs", "--json", "--store", f"sqlite:///{made}", cwd=tmp_path)
    assert len(end(option).json) == 10
    assert len(end(url).json) == 10
    assert f"there is no store {elsewhere} (from HOLDFAST_STORE)" in end(variable).err
    said = end(default).err
    assert "there is no store ./holdfast.db (the default" in said
    assert "--store" in said
    assert "HOLDFAST_STORE" in said
    assert list(tmp_path.iterdir()) == []


def test_errors_name_the_store_and_have_a_code_of_their_own(made: Path) -> None:
    done = look("show", "nobody", "--store", made)
    assert (done.code, done.out) == (4, "")
    assert f"no run 'nobody' in store {made}" in done.err
    decided = look("approve", "ap-nothing", "--yes", "--json", "--store", made)
    assert decided.code == 4
    assert decided.error["type"] == "NotWaiting"
    assert decided.error["store"] == str(made)
    assert decided.error["data"]["id"] == "ap-nothing"
    assert look("runs", "--status", "asleep", "--store", made).code == 2
    refused = look("signal", "w-signal", "go", "--value", "go", "--store", made)
    assert refused.code == 2
    assert "takes JSON" in refused.err
