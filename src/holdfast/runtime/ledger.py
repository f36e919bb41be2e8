"""The effect ledger: the one path on which a tool is called, and where laws 2, 4 and 8 are enforced.

An effect:  contract check -> gate -> intent (durable) -> lease still ours -> issue -> outcome (durable)
A read:     contract check -> issue -> outcome

Each arrow is a place where the process may die. What is done next is read from the journal: an outcome is returned; an intent without
one is an unknown outcome, decided by `tools.decide.after_unknown`; neither means that nothing was issued. A result that breaks its
contract is a fault like an error, and a fault that stays is a typed failure, never a result.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Mapping
from types import MappingProxyType
from typing import Any, NoReturn

import anyio
import anyio.lowlevel
import msgspec

from ..errors import GivenUp, JournalMismatch, NotJson, ToolFailed, ToolInputInvalid, ToolOutputInvalid
from ..journal.records import Attempt, Doubt, ErrorInfo, Failure, Intent, Outcome, Settled
from ..model import Secret
from ..tools import Done, Effect, NotDone, Reconciled, Tool, Unknown
from ..tools.decide import after_unknown, args_hash, effect_key, stricter
from ..trust import PRIMARY, Label, Trust, Value, lowered, meet
from . import doubts
from .attempt import OUTPUT_FAULTS, Fault, checked, issue
from .execution import Execution, Read
from .failures import describe, step_failed
from .gate import Gatekeeper
from .history import NOT_ISSUED, Past, never_issued, opened, recorded_input
from .scope import Scope, enter

_FALLS_BACK = "falls back on "
_NOT_ISSUED_AFTER_ALL: tuple[Any] = (None,)
_CRASH = Fault("error", ErrorInfo("holdfast.Crash", "the process ended between the intent and the outcome"))


class RunCaller:
    """How a tool object called in a workflow reaches its run; stands in `tools.CALLER`."""

    async def call_tool(self, tool: Tool[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        scope = enter(tool.name)
        path = scope.next_path()
        try:
            canonical, labelled = tool.arguments.from_call(args, kwargs)
        except (ValueError, TypeError) as error:
            return await refuse_arguments(scope, tool, path, {"args": args, **kwargs}, str(error))
        secrets = {name: value for name, value in kwargs.items() if isinstance(value, Secret)}
        secrets |= {n: v for n, v in zip(tool.arguments.positional, args, strict=False) if isinstance(v, Secret)}
        return await ToolCallStep(scope, tool, path, canonical, labelled, secrets).result()


async def call_for_model(scope: Scope, tool: Tool[..., Any], arguments: dict[str, Any] | str) -> tuple[str, Any]:
    """A call that a model asked for: the step's path and the result. Every argument has the label of the run."""
    path = scope.next_path()
    try:
        canonical = tool.arguments.from_model(arguments)
    except ValueError as error:
        return path, await refuse_arguments(scope, tool, path, arguments, str(error))
    return path, await ToolCallStep(scope, tool, path, canonical, {}).result()


async def refuse_arguments(scope: Scope, tool: Tool[..., Any], path: str, given: object, why: str) -> NoReturn:
    """Arguments that do not fit the schema: a recorded failure with a sentence that the caller, often a model, can act on."""
    execution = scope.execution
    try:
        asked = execution.encoded(given, path)
    except NotJson:
        asked = b"null"
    past = execution.recall(path, "tool", tool.name)
    if past is not None and past.outcome is not None and past.outcome.kind == "tool.failed":
        failure = past.outcome.payload(Failure)
        raise step_failed(execution.run, path, tool.name, failure.error, failure.attempts)
    if past is not None and (past.outcome is not None or past.intents):
        recorded = f"a call of {tool.name} with arguments that its schema does not take any more"
        raise execution.defective(JournalMismatch(execution.run, path, recorded, why))
    error = ToolInputInvalid(execution.run, path, tool.name, "ValueError", why)
    await execution.fail("tool", path, tool.name, asked, describe(error))
    raise error


class ToolCallStep:
    """One call of one tool, from arguments to recorded outcome."""

    def __init__(
        self,
        scope: Scope,
        tool: Tool[..., Any],
        path: str,
        args: bytes,
        labelled: dict[str, Value[Any]],
        secrets: Mapping[str, Secret] = MappingProxyType({}),
    ) -> None:
        self.secrets = secrets
        self.scope = scope
        self.execution: Execution = scope.execution
        self.tool = tool
        self.path = path
        self.args = args
        self.labelled = labelled
        self.attempt = 1
        self.started_ns = self.execution.clock.now_ns()
        self.intended_ns = 0

    async def result(self) -> Any:
        """Return the recorded outcome, or bring one about. Raises `ToolFailed` or one of its kinds, live and replayed alike."""
        execution, tool = self.execution, self.tool
        if self.scope.doomed:
            await anyio.lowlevel.checkpoint()
        past = execution.recall(self.path, "tool", tool.name)
        if past is not None:
            self._take_recorded_arguments(past)
        if past is not None and past.outcome is not None:
            return self._recorded(past)
        begun = past is not None and (past.intents or past.attempts or past.doubts)
        if (
            execution.budget is not None and not begun
        ):  # what is under way is brought to its end, whatever it may cost by now
            await execution.within_budget("tool", self.path, tool.name, self.args)
        tries = [event.payload(Attempt) for event in past.attempts] if past is not None else []
        self.attempt += sum(not attempt.via for attempt in tries)
        fell = next((attempt for attempt in tries if attempt.via.startswith(_FALLS_BACK)), None)
        if fell is not None:  # decided before a crash: it failed for certain, others stand in for it
            return await self._fall_back(Fault(fell.fault, fell.error, definite=True), again=True)
        if tool.effect is Effect.READ and not (past is not None and past.intents):
            return await self._read()
        return await self._effect(past)

    def _take_recorded_arguments(self, past: Past) -> None:
        """Go on with the arguments as they were recorded, if they are these. Otherwise the run stops: `recall` says why."""
        recorded = recorded_input(past) if past.outcome is not None else None
        if recorded is None and past.intents:
            recorded = bytes(past.intents[-1].payload(Intent).args)
        if recorded is None or recorded == self.args:
            return
        if not self.tool.arguments.means(recorded, self.args):
            self.execution.recall(self.path, "tool", self.tool.name, self.args)
            return
        self.args = recorded

    def _recorded(self, past: Past) -> Any:
        event = past.outcome
        assert event is not None
        if event.kind == "tool.failed":
            failure = event.payload(Failure)
            raise step_failed(self.execution.run, self.path, self.tool.name, failure.error, failure.attempts)
        outcome = event.payload(Outcome)
        value = self.execution.read_back(self.tool.output, bytes(outcome.output), self.path, self.tool.name)
        self._remember_read(bytes(outcome.output), outcome.started_ns)
        return value

    # -- reads --------------------------------------------------------------------------------------------------------

    async def _read(self) -> Any:
        while True:
            got = await self._issue(None)
            if not isinstance(got, Fault):
                return got[0]
            if got.definite or not self._may_retry(got):
                return await self._fall_back(got)
            await self._pause(got)

    # -- effects ------------------------------------------------------------------------------------------------------

    async def _effect(self, past: Past | None) -> Any:
        settlement, intent = self._where_it_stands(past)
        settled = await self._settled_before(past)
        if settled is not None:
            if settled[0] != "retry":
                return settled[1]
            settlement, intent = settlement + 1, None
        while True:
            key = effect_key(self.execution.root, f"{self.execution.key_prefix}{self.path}", settlement)
            if intent is None:
                await self._intend(key, settlement)
                outcome = await self._until_known(key, None)
            else:  # found after a crash: issued or not, nobody knows
                outcome = await self._until_known(key, _CRASH)
            if outcome is _NOT_ISSUED_AFTER_ALL:  # so the gate decides anew, on what is true by now
                intent = None
                continue
            if outcome is not None:
                return outcome[0]
            verdict, value = await self._ask_about()
            if verdict != "retry":
                return value
            settlement, intent, self.attempt = settlement + 1, None, 1

    async def _settled_before(self, past: Past | None) -> tuple[str, Any] | None:
        """A doubt that is open from before, or a verdict that was received but not yet carried out."""
        if past is None or not past.doubts:
            return None
        doubt = past.doubts[-1].payload(Doubt)
        if len(past.doubts) > len(past.settled):
            return await self._settle(doubt)
        last = past.settled[-1].payload(Settled)
        if last.verdict == "retry":
            return None
        return await self._carry_out(last, doubt) or await self._settle(await doubts.declare(self.execution, self.path))

    def _where_it_stands(self, past: Past | None) -> tuple[int, Intent | None]:
        """How many settlements there were, and the intent that stands open under the present key."""
        if past is None:
            return 0, None
        settlement = sum(e.payload(Settled).verdict == "retry" for e in past.settled)
        intents = [(e.header.at_ns, e.payload(Intent)) for e in past.intents]
        at_ns, intent = next(((at, i) for at, i in reversed(intents) if i.settlement == settlement), (0, None))
        self.intended_ns = at_ns
        if never_issued(past):
            intent = None
        if intent is not None and bytes(intent.args) != self.args:
            asked = f"{self.tool.name} with other arguments under the same key"
            raise self.execution.defective(
                JournalMismatch(
                    self.execution.run, self.path, f"the intent to call {intent.tool} with its arguments", asked
                )
            )
        return settlement, intent

    async def _intend(self, key: str, settlement: int) -> None:
        """Law 2: gate, then make the intent durable. Only then may anything be issued."""
        keeper = Gatekeeper(
            self.execution, self.tool, self.path, self.args, self.labelled, self._repeat_read, settlement=settlement
        )
        try:
            gate = await keeper.decide()
        except ToolFailed as refused:
            await self._fail(refused)
        intent = Intent(
            self.tool.name, self.tool.effect.value, msgspec.Raw(self.args), args_hash(self.args), key, gate, settlement,
            self.tool.key_ttl_s if self.tool.effect is Effect.KEYED else None, self.tool.timeout_s,
        )  # fmt: skip
        if not self.execution.may_issue():  # `issue` looks again; an intent that will not be issued needs no record
            self.execution.abandon(RuntimeError(f"the lease ended before {self.tool.name} was issued"))
        self.intended_ns = self.execution.clock.now_ns()
        try:
            await self.execution.record("tool.intent", self.path, self.tool.name, intent)
        except anyio.get_cancelled_exc_class():
            # The intent is on its way into the journal and will never be issued: say so, behind it.
            with anyio.CancelScope(shield=True):
                info = ErrorInfo("holdfast.Cancelled", "cancelled before it was issued")
                await self._note_attempt(Fault("cancelled", info, definite=True), via=NOT_ISSUED)
            defect = self.execution.cut(self.scope, self.tool.name, self.path)
            if defect is not None:
                raise defect from None
            raise
        self.execution.open_intents[self.path] = opened(intent, self.intended_ns)

    async def _until_known(self, key: str, fault: Fault | None) -> tuple[Any] | None:
        """Issue, and repeat where that is safe, until the outcome is known. `None`: it stays unknown."""
        issue = fault is None or self._safe_to_repeat()
        while True:
            if issue:
                got = await self._issue(key)
                if not isinstance(got, Fault):
                    return got
                if got.definite:
                    return (await self._fall_back(got),)
                fault = got
                if self._safe_to_repeat() and self._may_retry(fault):
                    await self._pause(fault)
                    continue
                with anyio.CancelScope(shield=True):
                    await self._note_attempt(fault)
            assert fault is not None
            found = await self._reconcile(key)
            if isinstance(found, Done):
                encoded = self.tool.output.encode_checked(found.result)
                return (await self._complete(encoded, key=key, settled_by="reconcile"),)
            if not isinstance(found, NotDone):
                return None
            if fault is _CRASH:
                return _NOT_ISSUED_AFTER_ALL
            if not self._may_retry(fault):
                return (await self._fall_back(Fault(fault.kind, fault.info, fault.error, definite=True)),)
            self.attempt += 1
            issue = True

    def _safe_to_repeat(self) -> bool:
        age_s = (self.execution.clock.now_ns() - self.intended_ns) / 1e9
        effect, ttl_s = self.tool.effect, self.tool.key_ttl_s
        intent = self.execution.open_intents.get(self.path)
        if intent is not None:  # what the code said when the intent was recorded counts too: the stricter of both
            effect = stricter(effect, Effect(intent.effect))
            ttl_s = min(ttl_s, intent.key_ttl_s)
        return after_unknown(effect, key_age_s=age_s, key_ttl_s=ttl_s, can_reconcile=False) == "repeat"

    async def _reconcile(self, key: str) -> Reconciled:
        """Ask the contract's `reconcile` what became of an effect. What it can't say, or says wrongly, is unknown."""
        if self.tool.reconcile is None or self.scope.closing:
            return Unknown()
        self.scope.busy = f"reconcile of {self.tool.name}"
        try:
            with anyio.fail_after(self.tool.timeout_s):
                found = await self.tool.reconcile(key, self.tool.arguments.decode(self.args))
            if isinstance(found, Done):
                self.tool.output.encode_checked(found.result)
        except Exception as error:  # noqa: BLE001  # whatever goes wrong in asking leaves the outcome unknown
            await self._note_attempt(Fault("error", describe(error)), via="reconcile")
            return Unknown()
        finally:
            self.scope.busy = None
        return found

    # -- in doubt -----------------------------------------------------------------------------------------------------

    async def _ask_about(self) -> tuple[str, Any]:
        """Nobody knows: declare the doubt, and wait for a person's verdict."""
        if self.execution.leaving:  # the worker stops; whoever takes the run over finds the open intent and decides
            await anyio.lowlevel.checkpoint()
        doubt = await doubts.declare(self.execution, self.path)
        await (
            anyio.lowlevel.checkpoint()
        )  # a branch or run that was cancelled ends here; the doubt stays open and is said
        return await self._settle(doubt)

    async def _settle(self, doubt: Doubt) -> tuple[str, Any]:
        while True:
            settled = await doubts.verdict(self.execution, self.path, doubt)
            done = await self._carry_out(settled, doubt)
            if done is not None:
                return done
            why = f"the result that was given by {settled.by or 'a person'} is not what {self.tool.name} returns; asked again"
            doubt = await doubts.declare(self.execution, self.path, why)

    async def _carry_out(self, settled: Settled, doubt: Doubt) -> tuple[str, Any] | None:
        """Act on a verdict: the verdict, and the result. `None`: it says that it happened, with a result that can't be."""
        if settled.verdict == "retry":
            return "retry", None
        if settled.verdict == "give-up":
            run, name = self.execution.run, self.tool.name
            await self._fail(GivenUp(run, self.path, name, "GivenUp", doubts.given_up(settled), definite=False))
        try:
            encoded = self.tool.output.encode_checked(self.tool.output.decode(bytes(settled.result)))
        except (ValueError, TypeError):
            return None
        by = settled.by or "a person"
        return "happened", await self._complete(encoded, key=doubt.key, settled_by=by)

    # -- attempts -----------------------------------------------------------------------------------------------------

    def _issue(self, key: str | None) -> Awaitable[tuple[Any] | Fault]:
        self.started_ns = self.execution.clock.now_ns()
        read_key = self._read_key() if self.tool.effect is Effect.READ else None

        def record(encoded: bytes) -> Awaitable[Any]:
            return self._complete(encoded, key=key, read_key=read_key)

        return issue(self.scope, self.tool, self.path, self.args, key, record, self.secrets)

    def _may_retry(self, fault: Fault) -> bool:
        listed = fault.error is None or fault.kind in OUTPUT_FAULTS or isinstance(fault.error, self.tool.retry.on)
        return listed and self.attempt < self.tool.retry.attempts and not self.scope.closing

    async def _pause(self, fault: Fault) -> None:
        delay_s = self.tool.retry.delay_s(self.execution.run, self.path, self.attempt)
        await self._note_attempt(fault, delay_s=delay_s)
        self.attempt += 1
        self.scope.busy = self.tool.name
        try:
            await self.execution.nap(delay_s, self.path, self.tool.name)
        finally:
            self.scope.busy = None

    async def _note_attempt(self, fault: Fault, *, delay_s: float = 0.0, via: str = "") -> None:
        attempt = Attempt(self.attempt, fault.kind, fault.info, via, delay_s, self.started_ns)
        await self.execution.record("tool.attempt", self.path, self.tool.name, attempt)

    # -- outcomes -----------------------------------------------------------------------------------------------------

    async def _complete(
        self,
        encoded: bytes,
        *,
        key: str | None = None,
        read_key: str | None = None,
        settled_by: str | None = None,
        via: str | None = None,
        adds: Label | None = None,
    ) -> Any:
        outcome = Outcome(
            msgspec.Raw(self.args), msgspec.Raw(encoded), self.started_ns, self.attempt,
            via=via, read_key=read_key, key=key, settled_by=settled_by,
        )  # fmt: skip
        added = self._adds() if adds is None else adds
        await self.execution.complete("tool", self.path, self.tool.name, outcome, adds=added)
        if read_key is not None:
            self._remember_read(encoded, self.started_ns)
        return self.tool.output.decode(encoded)

    def _adds(self) -> Label:
        if self.tool.yields is Trust.PRIMARY:
            return PRIMARY
        return lowered(self.tool.yields, f"{self.tool.name} yields {self.tool.yields.name}", self.path)

    async def _fail(self, error: ToolFailed) -> NoReturn:
        await self.execution.fail("tool", self.path, self.tool.name, self.args, describe(error), attempts=self.attempt)
        raise error

    async def _fall_back(self, fault: Fault, *, again: bool = False) -> Any:  # noqa: RET503  # `_fail` never returns
        """The attempts are used up: the declared chain, in order, then the typed failure. A stand-in's result is degraded."""
        if fault.definite and self.tool.effect is Effect.READ and not again:
            # A domain error is an answer, not a breakdown: nobody stands in for it.
            await self._fail(self._failure(fault))
        for number, other in enumerate(self.tool.fallback):
            if not again or f"{self.path}.f{number}" not in self.execution.history:
                await self._note_attempt(fault, via=f"{_FALLS_BACK}{other.name}")
            try:
                canonical = other.arguments.adopt(self.args)
                value = await ToolCallStep(
                    self.scope, other, f"{self.path}.f{number}", canonical, self.labelled, self.secrets
                ).result()
            except (ToolFailed, ValueError) as error:
                fault = Fault("error", describe(error), error, definite=getattr(error, "definite", True))
                if not fault.definite:
                    break
                continue
            got = checked(self.tool, value, limit_bytes=self.execution.log.max_payload_bytes)
            if isinstance(got, Fault):
                fault = got
                continue
            adds = meet(
                self._adds(), lowered(Trust.DEGRADED, f"{other.name} stands in for {self.tool.name}", self.path)
            )
            read_key = self._read_key() if self.tool.effect is Effect.READ else None
            return await self._complete(got, via=other.name, adds=adds, read_key=read_key)
        await self._fail(self._failure(fault))

    def _failure(self, fault: Fault) -> ToolFailed:
        kind = ToolOutputInvalid if fault.kind in OUTPUT_FAULTS else ToolFailed
        definite = fault.definite or self.tool.effect is Effect.READ
        name = fault.info.type.removeprefix("builtins.")
        return kind(self.execution.run, self.path, self.tool.name, name, fault.info.message, definite, self.attempt)

    # -- reads that effects depend on ---------------------------------------------------------------------------------

    async def _repeat_read(self, read: Read, path: str) -> None:
        await ToolCallStep(self.scope, read.tool, path, read.args, {}, read.secrets).result()

    def _read_key(self) -> str:
        if self.tool.read_key is not None:
            return self.tool.read_key(**self.tool.arguments.decode(self.args))
        return self.args.decode()

    def _remember_read(self, encoded: bytes, at_ns: int) -> None:
        if self.tool.effect is not Effect.READ:
            return
        key = self._read_key()
        digest = hashlib.sha256(encoded).hexdigest()
        there = self.execution.reads.get((self.tool.name, key))
        if there is not None and there.at_ns > at_ns:  # branches are replayed in another order than they ran
            return
        self.execution.reads[self.tool.name, key] = Read(
            self.tool, key, self.path, at_ns, self.args, digest, self.secrets
        )
