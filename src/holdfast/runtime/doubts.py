"""Effects in doubt: issued, and nobody knows whether they took place. Never silently lost: a person says what became of them.

An intent without an outcome is *open*. Whoever gives up on finding out declares the doubt; a run does not end with an open intent that is
not declared, and does not complete or fail before every doubt is settled. Only a cancelled run ends with one, and says so.
"""

from __future__ import annotations

import anyio
import msgspec

from ..errors import GivenUp
from ..journal.records import Doubt, Note, Outcome, Settled
from ..store import Wait
from .execution import Execution, Pending
from .failures import describe
from .waits import wait_id


async def declare(execution: Execution, path: str, why: str = "") -> Doubt:
    """Record that the open intent at `path` is in doubt, whatever cancellation is under way."""
    intent = execution.open_intents[path]
    number = execution.doubts_declared.get(path, 0)
    doubt = Doubt(
        id=wait_id("do", execution.run, path, intent.key, str(number)),
        tool=intent.tool,
        effect=intent.effect,
        args=intent.args,
        key=intent.key,
        why=why or f"{intent.tool} was issued and no outcome is known",
        how=f"look in the system behind {intent.tool} for the key {intent.key} or these arguments; then settle with "
        "happened (and its result), retry (it did not happen) or give-up",
        intent_ns=intent.at_ns,
        may_retry_from_ns=intent.at_ns + round(intent.timeout_s * 1e9),
    )
    with anyio.CancelScope(shield=True):
        state = execution.announce(Wait(doubt.id, "settlement", intent.tool, path))
        await execution.record("tool.doubt", path, intent.tool, doubt, state=state)
    execution.doubts_declared[path] = number + 1
    execution.open_doubts[path] = doubt
    return doubt


async def verdict(execution: Execution, path: str, doubt: Doubt) -> Settled:
    """Wait for a person's verdict on a doubt, and record it as received."""
    wait = Wait(doubt.id, "settlement", doubt.tool, path)
    note = await execution.wait(Pending(wait, lambda e: e.kind == "note.settle" and e.name == doubt.id))
    assert note is not None  # a settlement has no deadline
    said = msgspec.json.decode(note.payload(Note).value, type=Settled)
    settled = msgspec.structs.replace(said, received=note.seq)
    await execution.record("tool.settled", path, doubt.tool, settled, state=execution.withdraw(path))
    del execution.open_doubts[path]
    return settled


async def declare_all(execution: Execution) -> None:
    """At every end of a run: what is open and not yet declared is declared."""
    for path in list(execution.open_intents):
        if path not in execution.open_doubts:
            await declare(execution, path)


async def settle_all(execution: Execution) -> None:
    """Before a run ends: settle what branches have left behind that nobody waits for any more."""
    await declare_all(execution)
    for path, doubt in list(execution.open_doubts.items()):
        settled = await verdict(execution, path, doubt)
        if settled.verdict == "happened":
            outcome = Outcome(doubt.args, settled.result, key=doubt.key, settled_by=settled.by or "a person")
            await execution.complete("tool", path, doubt.tool, outcome)
            continue
        why = (
            "it did not take place, and nothing asks for it any more"
            if settled.verdict == "retry"
            else given_up(settled)
        )
        error = GivenUp(execution.run, path, doubt.tool, "GivenUp", why, definite=settled.verdict == "retry")
        await execution.fail("tool", path, doubt.tool, bytes(doubt.args), describe(error))


def given_up(settled: Settled) -> str:
    """The sentence for an effect that a person gave up."""
    return f"given up by {settled.by or 'a person'}" + (f": {settled.why}" if settled.why else "")
