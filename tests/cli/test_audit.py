"""`holdfast audit verify | seal`: exit 1 for whatever is not as it was written, and never a traceback."""

from __future__ import annotations

import random
import shutil
import sqlite3
from pathlib import Path

import anyio
import pytest

from holdfast.journal.signing import new_key
from tests.cli import shop
from tests.cli.support import holdfast, look

pytestmark = pytest.mark.slow


def tamper(store: Path, statement: str) -> None:
    with sqlite3.connect(store) as db:
        db.execute(statement)
    db.close()


def test_a_sound_store_is_ok_and_a_changed_event_is_found(store: Path) -> None:
    sound = holdfast("audit", "verify", "--store", store, "--json")
    assert (sound.code, sound.json["ok"], sound.json["runs"], sound.json["problems"]) == (0, True, 10, [])
    assert sound.json["events"] > 30
    assert "ok" in look("audit", "verify", "--store", store).out
    tamper(
        store,
        "UPDATE events SET payload = CAST(replace(CAST(payload AS TEXT), 'rope', 'soap') AS BLOB) WHERE kind = 'step.completed'",
    )
    damaged = holdfast("audit", "verify", "--store", store, "--json")
    assert (damaged.code, damaged.json["ok"]) == (1, False)
    problem = damaged.json["problems"][0]
    assert (problem["run"], problem["stream"], problem["seq"], problem["damage"]) == ("q-1", "run", 1, "changed")
    assert problem["detail"]
    text = look("audit", "verify", "--store", store)
    assert text.code == 1
    assert "NOT OK" in text.out


def test_a_store_that_can_not_be_read_is_not_ok(made: Path, tmp_path: Path) -> None:
    garbage, cut, headless = (tmp_path / f"{name}.db" for name in ("garbage", "cut", "headless"))
    garbage.write_bytes(b"no store\n" * 1000)
    data = made.read_bytes()
    cut.write_bytes(data[: len(data) // 2])
    headless.write_bytes(b"\0" * 4096 + data[4096:])
    for path in (garbage, cut, headless):
        done = holdfast("audit", "verify", "--store", path, "--json")
        assert (done.code, done.json["ok"]) == (1, False), done
        assert done.json["problems"]
    missing = look("audit", "verify", "--store", tmp_path / "missing.db", "--json")
    assert (missing.code, missing.error["type"]) == (3, "NoStore")


@pytest.mark.parametrize("seed", range(24))
def test_any_damage_of_the_file_is_an_answer_and_never_an_accident(made: Path, tmp_path: Path, seed: int) -> None:
    """In this process, for speed: whole pages, stretches or single bits are overwritten at random."""
    chance = random.Random(seed)
    data = bytearray(made.read_bytes())
    for _ in range(chance.choice((1, 1, 3))):
        at = chance.randrange(100, len(data))
        size = chance.choice((1, 1, 16, 512, 4096))
        data[at : at + size] = chance.choice(
            (bytes(len(data[at : at + size])), chance.randbytes(len(data[at : at + size])))
        )
    store = tmp_path / "damaged.db"
    store.write_bytes(data)
    same = bytes(data) == made.read_bytes()
    done = look("audit", "verify", "--store", store, "--json")
    assert done.code in (0, 1), done
    assert done.json["ok"] is (done.code == 0)
    assert done.code == 0 or not same


def test_a_seal_kept_outside_convicts_a_store_that_was_set_back(store: Path, tmp_path: Path) -> None:
    early, seal = tmp_path / "early.db", tmp_path / "seal.json"
    shutil.copy(store, early)
    assert look("signal", "w-signal", "go", "--value", "1", "--store", store).code == 0
    sealed = look("audit", "seal", "--out", seal, "--store", store, "--json")
    assert (sealed.code, sealed.json["sealed"], sealed.json["out"]) == (0, True, str(seal))
    again = look("audit", "seal", "--store", store, "--json")
    assert (again.json["sealed"], again.json["number"], again.json["hash"]) == (
        False,
        sealed.json["number"],
        sealed.json["hash"],
    )
    good, alone, set_back = (
        look("audit", "verify", "--against", seal, "--store", store, "--json"),
        look("audit", "verify", "--store", early, "--json"),
        look("audit", "verify", "--against", seal, "--store", early, "--json"),
    )
    assert [good.code, alone.code, set_back.code] == [0, 0, 1]
    assert {"truncated", "missing"} & {problem["damage"] for problem in set_back.json["problems"]}
    other = tmp_path / "other.json"
    other.write_text("{}")
    wrong = look("audit", "verify", "--against", other, "--store", store, "--json")
    assert (wrong.code, wrong.error["type"]) == (2, "BadFile")


def test_signed_seals_are_checked_with_the_public_key(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    store = tmp_path / "shop.db"
    anyio.run(shop.start, store, "quote", "q", "rope")
    for name in ("ours", "theirs"):
        private, public = new_key()
        (tmp_path / f"{name}.pem").write_bytes(private)
        (tmp_path / f"{name}.pub").write_bytes(public)
    signed = look("audit", "seal", "--key", tmp_path / "ours.pem", "--store", store, "--json")
    assert signed.code == 0
    assert signed.json["key_id"]
    ours, theirs, no_key, no_pem = (
        look("audit", "verify", "--public-key", tmp_path / "ours.pub", "--store", store, "--json"),
        look("audit", "verify", "--public-key", tmp_path / "theirs.pub", "--store", store, "--json"),
        look("audit", "verify", "--public-key", tmp_path / "nowhere.pub", "--store", store, "--json"),
        look("audit", "seal", "--key", tmp_path / "ours.pub", "--store", store, "--json"),
    )
    assert [ours.code, theirs.code, no_key.code, no_pem.code] == [0, 1, 2, 2]
