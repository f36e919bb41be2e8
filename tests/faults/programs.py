"""Workflows that are killed. Their steps say when a body ran; their effects take place in a process of its own."""

from __future__ import annotations

from typing import Any

import anyio

import holdfast as hf
from holdfast.testing.effects import Refused, find, perform
from holdfast.trust import Trust

TIMEOUT_S = 1.0
AGAIN = hf.Retry(attempts=3, base_s=0.01)


def say(what: str, **fields: object) -> None:
    """Replaced by the nursery: tells whoever counts."""


@hf.step
async def prepared(what: str) -> str:
    say("body", run=what, step="prepared")
    return f"prepared {what}"


@hf.step
async def written_down(what: str) -> str:
    say("body", run=what, step="written_down")
    return f"written down {what}"


@hf.step(yields=Trust.UNVERIFIED)
async def looked_up(what: str, number: int) -> int:
    say("body", run=what, step=f"looked_up {number}")
    await anyio.lowlevel.checkpoint()
    return number


@hf.tool(effect="idempotent", retry=AGAIN, timeout_s=TIMEOUT_S)
async def set_it(port: int, what: str) -> str:
    await perform(port, "set", what, dedupe=True)
    return "done"


@hf.tool(effect="keyed", retry=AGAIN, timeout_s=TIMEOUT_S)
async def order_it(port: int, what: str, *, key: hf.IdempotencyKey) -> str:
    await perform(port, "order", key, dedupe=True)
    return "done"


@hf.tool(effect="keyed", key_ttl_s=0.0, needs=Trust.EXTERNAL, timeout_s=TIMEOUT_S)
async def order_forgetfully(port: int, what: str, *, key: hf.IdempotencyKey) -> str:
    await perform(port, "forgetful", what)
    return "done"


@hf.tool(effect="irreversible", needs=Trust.EXTERNAL, timeout_s=TIMEOUT_S)
async def send_it(port: int, what: str) -> str:
    await perform(port, "send", what)
    return "done"


async def was_it_sent(key: str, arguments: dict[str, Any]) -> hf.Done | hf.NotDone | hf.Unknown:
    number = await find(arguments["port"], "transfer", arguments["what"])
    return hf.NotDone() if number is None else hf.Done("done")


@hf.tool(effect="irreversible", needs=Trust.EXTERNAL, timeout_s=TIMEOUT_S, reconcile=was_it_sent, retry=AGAIN)
async def transfer_it(port: int, what: str) -> str:
    await perform(port, "transfer", what)
    return "done"


async def nobody_knows(key: str, arguments: dict[str, Any]) -> hf.Done | hf.NotDone | hf.Unknown:
    return hf.Unknown()


@hf.tool(effect="irreversible", needs=Trust.EXTERNAL, timeout_s=TIMEOUT_S, reconcile=nobody_knows)
async def post_it(port: int, what: str) -> str:
    await perform(port, "post", what)
    return "done"


@hf.tool(effect="keyed", timeout_s=TIMEOUT_S)
async def order_elsewhere(port: int, what: str, *, key: hf.IdempotencyKey) -> str:
    await perform(port, "elsewhere", key, dedupe=True)
    return "done"


@hf.tool(effect="keyed", definite=(Refused,), fallback=[order_elsewhere], timeout_s=TIMEOUT_S)
async def order_here(port: int, what: str, *, key: hf.IdempotencyKey) -> str:
    await perform(port, "here", key, dedupe=True)
    return "done"


EFFECTS: dict[str, hf.runtime.Workflow[Any, Any]] = {}
"""One workflow for every kind of effect, by the name under which the other process counts it."""


def _around(name: str, tool: Any) -> None:
    async def program(port: int, what: str) -> str:
        first = await prepared(what)
        done = await tool(port, what)
        last = await written_down(what)
        return f"{first}, {done}, {last}"

    EFFECTS[name] = hf.workflow(version="1", name=f"one_{name}")(program)


_around("set", set_it)
_around("order", order_it)
_around("forgetful", order_forgetfully)
_around("send", send_it)
_around("transfer", transfer_it)
_around("post", post_it)
_around("here", order_here)


@hf.workflow(version="1")
async def two_at_once(port: int, what: str) -> str:
    async def bought() -> str:
        await looked_up(what, 1)
        return await order_it(port, f"{what} a")

    async def noted() -> int:
        one = await looked_up(what, 2)
        await set_it(port, f"{what} b")
        return one + await looked_up(what, 3)

    done, number = await hf.parallel(bought(), noted())
    winner, _ = await hf.first(looked_up(what, 4), hf.sleep(3600))
    when = await hf.now()
    again = await hf.now()
    return f"{done} {number} {winner} {again >= when}"


@hf.workflow(version="1")
async def bought_by_child(port: int, what: str) -> str:
    return await order_it(port, what)


@hf.workflow(version="1")
async def with_a_child(port: int, what: str) -> str:
    async def delegated() -> str:
        answer: hf.Answer[str] = await hf.subrun(bought_by_child, port, what)
        return str(answer.result)

    done, number = await hf.parallel(delegated(), looked_up(what, 1))
    return f"{done} {number} {await written_down(what)}"


@hf.workflow(version="1")
async def many_steps(what: str) -> int:
    total = 0
    for number in range(10):
        total += await looked_up(what, number)
    return total
