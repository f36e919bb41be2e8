"""The order system counts every effect by key: a real process, duplicated and cut requests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import msgspec
import pytest

from holdfast.demo import records
from holdfast.demo.orderbook import Order, OrderLine
from holdfast.demo.orders import OrderRefused, OrderSystem, OrderSystemUnavailable


@contextmanager
def order_system(log: Path, *, seed: int = 0, faults: float = 0.0) -> Iterator[OrderSystem]:
    command = [sys.executable, "-m", "holdfast.demo.order_system", "--log", str(log)]
    command += ["--seed", str(seed), "--faults", str(faults)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield OrderSystem(url=msgspec.json.decode(process.stdout.readline())["url"])
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=10) == 0


def an_order(n: int = 1, *, sku: str = "SH-D-10", quantity: int = 10) -> Order:
    return Order(
        mail=f"mail-{n:03d}",
        customer="C-1001",
        address="C-1001/1",
        lines=[OrderLine(sku=sku, quantity=quantity)],
        total_cents=records.catalogue()[sku].price_cents * quantity,
    )


async def until_confirmed(system: OrderSystem, order: Order, key: str) -> tuple[str, int]:
    """The number of the confirmation and how many requests it took."""
    for sent in range(1, 50):
        try:
            return (await system.place(order, key)).number, sent
        except OrderSystemUnavailable:
            continue
    raise AssertionError("fifty requests and no answer")


@pytest.mark.slow
async def test_one_key_is_one_effect_however_often_it_is_sent(tmp_path: Path) -> None:
    with order_system(tmp_path / "log") as system:
        numbers: set[str] = set()

        async def send() -> None:
            numbers.add((await system.place(an_order(), "k1")).number)

        async with anyio.create_task_group() as tg:
            for _ in range(20):
                tg.start_soon(send)
        count = (await system.effects())["k1"]
        assert len(numbers) == 1
        assert (count.requests, count.effects, count.duplicates) == (20, 1, 19)
        assert (await system.stock("SH-D-10")).left == records.catalogue()["SH-D-10"].stock - 10


@pytest.mark.slow
async def test_another_order_under_a_used_key_is_refused(tmp_path: Path) -> None:
    with order_system(tmp_path / "log") as system:
        await system.place(an_order(1), "k1")
        with pytest.raises(OrderRefused, match="used for another order"):
            await system.place(an_order(2), "k1")
        counts = await system.counts()
        assert (counts.effects, counts.conflicts) == (1, 1)


@pytest.mark.slow
async def test_every_effect_takes_place_once_under_cut_late_and_refused_requests(tmp_path: Path) -> None:
    keys = [f"k{n}" for n in range(40)]
    with order_system(tmp_path / "log", seed=5, faults=0.5) as system:
        sent: dict[str, int] = {}

        async def one(n: int, key: str) -> None:
            _, sent[key] = await until_confirmed(system, an_order(n), key)

        async with anyio.create_task_group() as tg:
            for n, key in enumerate(keys):
                tg.start_soon(one, n, key)
        effects, counts = await system.effects(), await system.counts()
    assert {key: effects[key].effects for key in keys} == dict.fromkeys(keys, 1)
    assert {key: effects[key].requests for key in keys} == sent
    assert counts.faults.keys() == {"slow", "unavailable", "cut_before", "cut_after"}
    assert counts.duplicates >= counts.faults["cut_after"] > 0


@pytest.mark.slow
async def test_what_was_confirmed_is_known_to_the_next_process(tmp_path: Path) -> None:
    with order_system(tmp_path / "log") as system:
        first = await system.place(an_order(), "k1")
    with order_system(tmp_path / "log") as system:
        assert await system.place(an_order(), "k1") == first
        count = (await system.effects())["k1"]
        assert (count.effects, count.duplicates) == (1, 1)


@pytest.mark.slow
async def test_what_the_catalogue_does_not_support_is_refused_before_any_effect(tmp_path: Path) -> None:
    with order_system(tmp_path / "log") as system:
        too_much = an_order(quantity=5_000)
        await system.place(too_much, "k1")
        with pytest.raises(OrderRefused, match="left"):
            await system.place(an_order(2, quantity=5_000), "k2")
        with pytest.raises(OrderRefused, match="total"):
            await system.place(replace(an_order(3), total_cents=1), "k3")
        with pytest.raises(OrderRefused):
            await system.stock("NO-SUCH-1")
        assert (await system.counts()).effects == 1
