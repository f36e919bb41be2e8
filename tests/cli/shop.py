"""Small workflows for the tests of the command line; loaded by `--load`, and by the worker processes of the tests."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import anyio

import holdfast as hf
from holdfast.testing import ScriptedModel

EVIL = "\x1b]0;owned\x07\x1b[2J[bold red]not markup[/bold red] \u202egnp.exe \x9b31m"
"""Text that would take over a terminal, or be taken for markup."""


@hf.step
async def price(item: str) -> dict[str, object]:
    return {"item": item, "pence": 1250}


@hf.tool(effect="irreversible", timeout_s=0.05, needs=hf.Trust.EXTERNAL)
async def post_letter(to: str) -> str:
    """Sends a letter; now and then the answer is lost."""
    if os.environ.get("SHOP_LOSES_ANSWERS"):
        raise ConnectionError("the line went dead")
    return f"letter to {to}"


@hf.tool(effect="irreversible")
async def delete_account(customer: str) -> str:
    """Delete a customer for good."""
    return f"deleted {customer}"


@hf.workflow(version="1")
async def quote(item: str) -> dict[str, object]:
    sys.stdout.write("printed by the workflow\n")
    return await price(item)


@hf.workflow(version="1")
async def close_account(customer: str) -> str:
    return await delete_account(customer)


@hf.workflow(version="1")
async def letters(to: str) -> str:
    return await post_letter(to)


@hf.workflow(version="1")
async def waits(what: str) -> object:
    if what == "signal":
        return await hf.signal("go", type=int)
    if what == "reply":
        return await hf.reply("Which colour?")
    if what == "approval":
        return (await hf.approval("Really?", {"n": 1})).approved
    await hf.sleep(3600)
    return None


@hf.workflow(version="1")
async def fails(why: str) -> None:
    raise RuntimeError(f"it broke: {why}")


@hf.workflow(version="1")
async def parent(item: str) -> object:
    return (await hf.subrun(quote, item)).result


assistant: hf.Agent[str] = hf.Agent(
    "assistant", model=ScriptedModel(lambda _: f"Hello {EVIL}", name="scripted:shop"), instructions="Be kind."
)


@hf.workflow(version="1")
async def chat(text: str) -> str:
    return str(await assistant.chat().say(text))


async def start(store: Path, workflow: str, run: str, argument: str) -> None:
    """Start a run without driving it."""
    async with hf.open(store, worker=False) as app:
        await app.start(app.registry.named(workflow), argument, id=run)


async def work(store: Path, run: str) -> None:
    """A worker, until a run has ended."""
    async with hf.open(store) as app:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdout.write(f"{await app.run(run).result(timeout_s=30)}\n")


if __name__ == "__main__":
    anyio.run(work, Path(sys.argv[1]), sys.argv[2])
