"""The gate in front of an effect. Law 4: an irreversible action checks before it acts, on the arguments really sent.

It looks at the trust of the run (policy `trajectory`) or of the arguments (policy `values`), at the freshness of the reads the effect
depends on, and at the contract's own condition. It stands at the tool object itself: sub-agents and edited arguments pass it too. What
is not enough for the gate may be enough for a person: then it asks, and a yes permits this call with these arguments, nothing else.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from ..errors import ApprovalDenied, ApprovalVoid, EffectRefused, StaleRead
from ..journal.records import Gate, ReadRef
from ..tools import Fresh, Tool
from ..tools.decide import args_hash, gate_reasons
from ..trust import LOWEST, Label, Value, meet
from .execution import Execution, Read
from .waits import Decision, ask_person


class Gatekeeper:
    """Decides about one call.

    Args:
        args: The canonical arguments, as they will be sent.
        labelled: The arguments that came as `Value`.
        repeat: Makes a read again as a new step under the given path.
        settlement: How often a person has said "it did not happen, try again": each try is asked for anew.
    """

    def __init__(
        self,
        execution: Execution,
        tool: Tool[..., Any],
        path: str,
        args: bytes,
        labelled: dict[str, Value[Any]],
        repeat: Callable[[Read, str], Awaitable[None]],
        *,
        settlement: int = 0,
    ) -> None:
        self._below = f"{path}.s{settlement}" if settlement else f"{path}."
        self._asked_at = f"{self._below}a"
        self.execution = execution
        self.tool = tool
        self.path = path
        self.args = args
        self.labelled = labelled
        self._repeat = repeat

    async def decide(self) -> Gate:
        """The decision with everything it looked at. May wait for a person.

        Raises (not yet recorded): `EffectRefused`, `StaleRead`, `ApprovalDenied`, `ApprovalVoid`.
        """
        execution, tool = self.execution, self.tool
        if execution.started.effects != "live":
            why = "this run is a fork whose effects are refused; fork with effects='live' to have them"
            raise EffectRefused(execution.run, self.path, tool.name, "EffectRefused", why)
        asked_before = self._asked_at in execution.history  # then what is too old is for the check after the wait
        reads = await self._fresh_reads(however_old=asked_before)
        labels = self._argument_labels() if tool.policy == "values" else {}
        run_label = execution.log.label
        reasons = gate_reasons(needs=tool.needs, policy=tool.policy, run_label=run_label, argument_labels=labels)
        reasons += self._escalation()
        if not reasons:
            return Gate("allow", tool.policy, tool.needs.name, run_label, labels, (), _refs(reads))
        decision = await self._ask(reasons, run_label, labels)
        reads = await self._unchanged_reads(reads)
        return Gate(
            "approve",
            tool.policy,
            tool.needs.name,
            run_label,
            labels,
            reasons,
            _refs(reads),
            decision.by,
            decision.note,
        )

    async def _ask(self, reasons: tuple[str, ...], run_label: Label, labels: dict[str, Label]) -> Decision:
        execution, tool = self.execution, self.tool
        shown = {
            "tool": tool.name,
            "effect": tool.effect,
            "arguments": msgspec.Raw(self.args),
            "reasons": reasons,
            "run_label": run_label,
            "argument_labels": labels,
        }
        decision = await ask_person(
            execution,
            self._asked_at,
            tool.name,
            execution.encoded(shown, self.path),
            # Labels and reasons are for the person; when the run comes by again they may be others.
            asked=execution.encoded({"tool": tool.name, "arguments": msgspec.Raw(self.args)}, self.path),
            hash_of_args=args_hash(self.args),
        )
        if decision.expires_ns is not None and execution.clock.now_ns() > decision.expires_ns:
            why = f"the approval by {decision.by or 'somebody'} expired before it was used"
            raise ApprovalDenied(execution.run, self.path, tool.name, "ApprovalDenied", why)
        if not decision.approved:
            why = f"{decision.by or 'nobody'} did not approve it" + (f": {decision.why}" if decision.why else "")
            raise ApprovalDenied(execution.run, self.path, tool.name, "ApprovalDenied", why)
        return decision

    def _escalation(self) -> tuple[str, ...]:
        """The contract's own condition. One that can't be evaluated asks for a person."""
        tool = self.tool
        if tool.escalate is None:
            return ()
        try:
            asks = tool.escalate(**tool.arguments.decode(self.args))
        except Exception as error:  # noqa: BLE001  # the gate fails closed
            return (f"whether a person is needed could not be decided: {type(error).__name__}: {error}",)
        return ("the contract asks for a person for these arguments",) if asks else ()

    # -- labels of arguments ------------------------------------------------------------------------------------------

    def _argument_labels(self) -> dict[str, Label]:
        """The label of every argument; one above the run's is believed only if the journal holds its endorsement."""
        run_label = self.execution.log.label
        labels = {}
        for name, sent in msgspec.json.decode(self.args, type=dict[str, msgspec.Raw]).items():
            value = self.labelled.get(name)
            if value is None:
                labels[name] = run_label
            elif self._is_endorsed(value, bytes(sent)):
                labels[name] = value.label
            else:
                labels[name] = meet(run_label, value.label) if value.label.level <= run_label.level else LOWEST
        return labels

    def _is_endorsed(self, value: Value[Any], sent: bytes) -> bool:
        """Whether the journal holds an endorsement of exactly what is about to be sent, under this label."""
        endorsed = self.execution.endorsed.get(value.origin or "")
        if endorsed is None or endorsed[1] != value.label:
            return False
        return bool(msgspec.json.decode(endorsed[0]) == msgspec.json.decode(sent))

    # -- freshness ----------------------------------------------------------------------------------------------------

    async def _fresh_reads(self, *, however_old: bool) -> list[tuple[Read, Fresh]]:
        """The latest reads of every source the effect depends on; one that is too old is repeated as a new step."""
        found: list[tuple[Read, Fresh]] = []
        for bound in self.tool.fresh:
            reads = [r for (source, _), r in self.execution.reads.items() if source == bound.tool.name]
            if not reads:
                raise self._stale(f"it depends on a read of {bound.tool.name}, and this run has none")
            for read in reads:
                again = read
                if self._age_s(read) > bound.within_s and not however_old:
                    again = await self._read_again(read, bound, f"{self._below}r{len(found)}")
                if again.digest != read.digest:
                    what = f"{read.tool.name}({read.key}) changed since step {read.path}"
                    raise self._stale(f"{what}; decide again on the new value")
                found.append((again, bound))
        return found

    async def _unchanged_reads(self, reads: list[tuple[Read, Fresh]]) -> list[tuple[Read, Fresh]]:
        """After a wait the reads are made again; if one gives something else, what was approved is void."""
        found = []
        for number, (read, bound) in enumerate(reads):
            again = await self._read_again(read, bound, f"{self._below}v{number}")
            if again.digest != read.digest:
                why = f"{read.tool.name}({read.key}) changed since step {read.path}; what was approved is void"
                raise ApprovalVoid(self.execution.run, self.path, self.tool.name, "ApprovalVoid", why)
            found.append((again, bound))
        return found

    async def _read_again(self, read: Read, bound: Fresh, path: str) -> Read:
        """A new read; one that is recorded from before a crash and too old by now is followed by another."""
        for number in itertools.count():
            at = path if number == 0 else f"{path}.{number}"
            made_before = at in self.execution.history
            await self._repeat(read, at)
            again = self.execution.reads[read.tool.name, read.key]
            if not made_before or self._age_s(again) <= bound.within_s:
                return again
        raise AssertionError("unreachable")

    def _age_s(self, read: Read) -> float:
        return (self.execution.clock.now_ns() - read.at_ns) / 1e9

    def _stale(self, why: str) -> StaleRead:
        return StaleRead(self.execution.run, self.path, self.tool.name, "StaleRead", why)


def _refs(reads: list[tuple[Read, Fresh]]) -> tuple[ReadRef, ...]:
    return tuple(ReadRef(r.tool.name, r.key, r.path, r.at_ns, r.digest) for r, _ in reads)
