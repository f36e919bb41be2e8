"""The workflow: mail is EXTERNAL, orders are endorsed values, what waits for a person is left waiting."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import holdfast as hf
from holdfast.demo import brain, desk, inbox, truth
from holdfast.errors import RunFailed
from holdfast.testing import ScriptedModel
from tests.demo.test_order_system import order_system


@pytest.fixture
def seed() -> int:
    return 0


@pytest.fixture
def system(tmp_path: Path, seed: int) -> Iterator[str]:
    with order_system(tmp_path / "orders") as client:
        desk.connect(client.url)
        desk.employ(ScriptedModel(brain.brain(seed=seed), name="scripted:order-desk"))
        yield client.url


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "desk.db"


def first(kind: truth.Kind) -> inbox.Email:
    return inbox.inbox()[next(t.id for t in truth.truths().values() if t.kind == kind)]


@pytest.mark.slow
@pytest.mark.parametrize("level", [hf.Trust.UNVERIFIED, hf.Trust.DEGRADED, hf.Trust.PRIMARY])
async def test_mail_started_as_anything_but_external_is_a_defect(system: str, store: Path, level: hf.Trust) -> None:
    async with hf.open(store) as app:
        run = await app.start(desk.handle, first("order"), id="m", label=level)
        with pytest.raises(RunFailed, match="EXTERNAL") as failed:
            await run.result(timeout_s=10)
    assert failed.value.error_type.endswith("MailNotExternal")


@pytest.mark.slow
async def test_a_clear_order_is_placed_though_the_run_stays_external(system: str, store: Path) -> None:
    async with hf.open(store) as app:
        mail = first("order")
        await app.start(desk.handle, mail, id=mail.id)
        run = app.run(mail.id)
        answer = await run.result(timeout_s=10)
        assert isinstance(answer, hf.Completed)
        assert answer.result.mail == mail.id
        assert (await run.status()).label.level is hf.Trust.EXTERNAL


@pytest.mark.slow
async def test_a_large_order_waits_for_approval_and_is_placed_after_it(system: str, store: Path) -> None:
    async with hf.open(store) as app:
        mail = first("large")
        await app.start(desk.handle, mail, id=mail.id)
        run = app.run(mail.id)
        await app.drain()
        ((_, wait),) = await app.approvals()
        await app.approve(wait.id, by="night manager", why="known customer")
        answer = await run.result(timeout_s=10)
        assert isinstance(answer, hf.Completed)
        assert answer.result.total_cents > desk.ESCALATE_ABOVE_CENTS
