"""Every error Holdfast raises, one tree; a test compares this drawing with the classes.

HoldfastError
├── StoreError
│   ├── StoreUnavailable      unknown whether it is stored: re-read, then decide
│   ├── StoreFull             no space; nothing was written
│   ├── StoreCorrupt          not a Holdfast store, or damaged
│   ├── StoreClosed
│   ├── SchemaTooNew
│   ├── SequenceConflict      another writer was first; nothing was written
│   ├── StaleEpoch            the run has another owner now
│   ├── RunExists
│   └── NoteExists
├── JournalError
│   ├── UnknownRun
│   ├── RunIdConflict         same id, other input
│   ├── PayloadTooLarge
│   ├── NotJson               a value that can't be recorded
│   ├── JournalMismatch       the code asks for another step than the one recorded
│   ├── RedactedStep
│   └── CannotRedact
├── WorkflowError
│   ├── UnknownWorkflow
│   ├── StrandedRun           no loaded code accepts the run's version
│   ├── UnscopedStep          a step from a task that does not own its scope
│   ├── WorkflowDefect        a declaration that can't work
│   ├── StepFailed
│   │   └── TimedOut
│   ├── BudgetExceeded
│   ├── RunFailed
│   ├── RunCancelled
│   ├── RunNeedsAttention
│   ├── ResultTimeout
│   ├── NotWaiting            nothing with this id waits
│   ├── TooEarly              a lost request may still arrive
│   └── AlreadyDecided
├── ToolError
│   ├── ToolFailed            the typed failure that law 8 asks for
│   │   ├── ToolInputInvalid
│   │   ├── ToolOutputInvalid
│   │   ├── EffectRefused     a fork without live effects
│   │   ├── ApprovalDenied
│   │   ├── ApprovalVoid
│   │   ├── StaleRead
│   │   └── GivenUp           a person settled an effect in doubt as given up
│   └── ContractError         a contract that contradicts itself
├── TrustError
│   ├── Rejected              raised by a validator
│   ├── EndorsementRejected
│   └── OpenType              a validator whose output type is not closed
├── ModelError
│   └── RecordingMismatch
└── NoResult                  `.result` of an answer that has none

Errors are dataclasses: the fields are the data, `str` is the sentence with identifiers and the next step, and because the
fields are the arguments every error survives pickling. `retryable` is data that the runtime reads.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar


@dataclass(eq=False)
class HoldfastError(Exception):
    """The root."""

    retryable: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self.args = tuple(getattr(self, f.name) for f in fields(self))  # so that pickle rebuilds the object


# -- store ------------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class StoreError(HoldfastError):
    """The store could not do what was asked."""


@dataclass(eq=False)
class StoreUnavailable(StoreError):
    store: str
    why: str
    retryable: ClassVar[bool] = True

    def __str__(self) -> str:
        return (
            f"store {self.store}: {self.why}. It is unknown whether the last write is stored; "
            "open the store again and read the tail of the run before deciding"
        )


@dataclass(eq=False)
class StoreFull(StoreError):
    store: str
    why: str

    def __str__(self) -> str:
        return (
            f"store {self.store}: no space left ({self.why}). Nothing of this write was stored, what was acknowledged before is; "
            "free space and resume the runs"
        )


@dataclass(eq=False)
class StoreCorrupt(StoreError):
    store: str
    why: str

    def __str__(self) -> str:
        return (
            f"store {self.store}: not a readable Holdfast store ({self.why}). Nothing was changed; "
            "check the path, or restore a copy and run `holdfast audit verify` on it"
        )


@dataclass(eq=False)
class StoreClosed(StoreError):
    store: str

    def __str__(self) -> str:
        return f"store {self.store} is closed; what was acknowledged is stored. Open it again to go on"


@dataclass(eq=False)
class SchemaTooNew(StoreError):
    store: str
    found: int
    known: int

    def __str__(self) -> str:
        return (
            f"store {self.store} has schema {self.found}, this version knows up to {self.known}. "
            "Nothing was changed; use the newer Holdfast"
        )


@dataclass(eq=False)
class SequenceConflict(StoreError):
    run: str
    stream: str
    expected_seq: int
    actual_seq: int
    retryable: ClassVar[bool] = True

    def __str__(self) -> str:
        return (
            f"run {self.run}, stream {self.stream}: expected to write event {self.expected_seq}, the next one is {self.actual_seq}. "
            "Nothing was written; re-read the tail and decide again"
        )


@dataclass(eq=False)
class StaleEpoch(StoreError):
    run: str
    epoch: int
    current: int

    def __str__(self) -> str:
        return (
            f"run {self.run}: epoch {self.epoch} was replaced by {self.current}; another worker owns the run. "
            "Nothing was written; this worker abandons it"
        )


@dataclass(eq=False)
class RunExists(StoreError):
    run: str

    def __str__(self) -> str:
        return f"run {self.run} exists already; nothing was written"


@dataclass(eq=False)
class NoteExists(StoreError):
    run: str
    key: str
    seq: int

    def __str__(self) -> str:
        return f"run {self.run}: note {self.seq} already has the key {self.key!r}; nothing was written"


# -- journal ----------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class JournalError(HoldfastError):
    """The record does not allow what was asked."""


@dataclass(eq=False)
class UnknownRun(JournalError):
    run: str
    store: str

    def __str__(self) -> str:
        return f"no run {self.run!r} in store {self.store}; `holdfast runs --store {self.store}` lists those there are"


@dataclass(eq=False)
class RunIdConflict(JournalError):
    run: str
    why: str

    def __str__(self) -> str:
        return (
            f"run {self.run} exists with another start ({self.why}). Nothing was started; "
            "an id names one decision to run: use a new id, or `app.run(id)` to get the one that is there"
        )


@dataclass(eq=False)
class PayloadTooLarge(JournalError):
    run: str
    step: str
    size_bytes: int
    limit_bytes: int

    def __str__(self) -> str:
        return (
            f"run {self.run}, step {self.step}: {self.size_bytes:,} bytes to record, the limit is {self.limit_bytes:,}. "
            "Nothing was written; keep the content in a file or object store and record its address"
        )


@dataclass(eq=False)
class NotJson(JournalError):
    run: str
    step: str
    why: str

    def __str__(self) -> str:
        return (
            f"run {self.run}, step {self.step}: a value can't be recorded as JSON ({self.why}). "
            "Nothing was written; return JSON, a dataclass, a msgspec struct or a pydantic model"
        )


@dataclass(eq=False)
class JournalMismatch(JournalError):
    run: str
    step: str
    recorded: str
    asked: str
    nearest: str | None = None

    def __str__(self) -> str:
        near = f" The nearest recorded step of that name is {self.nearest}." if self.nearest else ""
        return (
            f"run {self.run}, step {self.step}: the journal has {self.recorded}, the code asks for {self.asked}.{near} "
            "Nothing was done or lost; continue the run on the code that began it, mark the change with hf.patched(...), "
            "or fork the run before this step"
        )


@dataclass(eq=False)
class RedactedStep(JournalError):
    run: str
    step: str

    def __str__(self) -> str:
        return f"run {self.run}, step {self.step}: its content was redacted, so the run can't be replayed past it; the chain still verifies"


@dataclass(eq=False)
class CannotRedact(JournalError):
    run: str
    why: str

    def __str__(self) -> str:
        return f"run {self.run} can't be redacted: {self.why}. Nothing was redacted"


# -- workflows --------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class WorkflowError(HoldfastError):
    """A run, or the code that drives it."""


@dataclass(eq=False)
class UnknownWorkflow(WorkflowError):
    workflow: str
    known: tuple[str, ...] = ()

    def __str__(self) -> str:
        known = ", ".join(self.known) or "none"
        return f"no workflow {self.workflow!r} is loaded (loaded: {known}); import the module that declares it"


@dataclass(eq=False)
class StrandedRun(WorkflowError):
    run: str
    workflow: str
    version: str
    loaded: tuple[str, ...] = ()

    def __str__(self) -> str:
        loaded = ", ".join(self.loaded) or "none"
        return (
            f"run {self.run} was begun by {self.workflow} version {self.version}; loaded code accepts: {loaded}. "
            f'It waits, nothing is lost; declare accepts=["{self.version}"], load the old code, or fork the run'
        )


@dataclass(eq=False)
class UnscopedStep(WorkflowError):
    step: str
    why: str

    def __str__(self) -> str:
        return (
            f"step {self.step}: {self.why}. Steps get their place in the journal from the order of calls in the run's own task; "
            "run branches with hf.parallel(...), race them with hf.first(...), bound them with hf.timeout(...)"
        )


@dataclass(eq=False)
class WorkflowDefect(WorkflowError):
    name: str
    why: str

    def __str__(self) -> str:
        return f"{self.name}: {self.why}"


@dataclass(eq=False)
class StepFailed(WorkflowError):
    """A step ended in an error: the same on the live path and when replayed.

    `error_type` is the qualified name of what was raised, `error_types` those of its bases too, so that `caused_by` works on
    a failure read from the journal.
    """

    run: str
    step: str
    name: str
    error_type: str
    message: str
    attempts: int = 1
    error_types: tuple[str, ...] = ()

    def caused_by(self, *kinds: type[BaseException]) -> bool:
        """Whether the recorded error was one of `kinds` or a subclass."""
        names = {self.error_type, *self.error_types}
        return any(f"{k.__module__}.{k.__qualname__}" in names for k in kinds)

    def __str__(self) -> str:
        tries = f" after {self.attempts} attempts" if self.attempts > 1 else ""
        return f"run {self.run}, step {self.step} ({self.name}) failed{tries}: {self.error_type}: {self.message}"


@dataclass(eq=False)
class TimedOut(StepFailed):
    """A step or an `hf.timeout` passed its time."""


@dataclass(eq=False)
class BudgetExceeded(WorkflowError):
    run: str
    step: str
    what: str
    limit: float
    used: float

    def __str__(self) -> str:
        used = f"{self.used:g} of {self.limit:g}"
        return (
            f"run {self.run}, step {self.step}: the budget of {self.what} is used up ({used}); nothing more was issued"
        )


@dataclass(eq=False)
class RunFailed(WorkflowError):
    run: str
    step: str
    error_type: str
    message: str

    def __str__(self) -> str:
        where = f" at step {self.step}" if self.step else ""
        return f"run {self.run} failed{where}: {self.error_type}: {self.message}. `holdfast show {self.run}` has every step"


@dataclass(eq=False)
class RunCancelled(WorkflowError):
    run: str
    why: str

    def __str__(self) -> str:
        return f"run {self.run} was cancelled: {self.why}"


@dataclass(eq=False)
class RunNeedsAttention(WorkflowError):
    run: str
    why: str

    def __str__(self) -> str:
        return f"run {self.run} needs a person: {self.why}. Nothing is lost; `holdfast show {self.run}` has every step"


@dataclass(eq=False)
class ResultTimeout(WorkflowError, TimeoutError):
    run: str
    timeout_s: float
    status: str

    def __str__(self) -> str:
        return f"run {self.run} has no answer after {self.timeout_s:g} s (it is {self.status}); it goes on, ask again"


@dataclass(eq=False)
class NotWaiting(WorkflowError):
    id: str
    why: str

    def __str__(self) -> str:
        return f"{self.id}: {self.why}. Nothing was recorded; `holdfast approvals` lists what waits"


@dataclass(eq=False)
class TooEarly(WorkflowError):
    id: str
    wait_s: float

    def __str__(self) -> str:
        return f'{self.id}: the lost request may still arrive; say "retry" in {self.wait_s:.0f} s. Nothing was recorded'


@dataclass(eq=False)
class AlreadyDecided(WorkflowError):
    id: str
    decided: str

    def __str__(self) -> str:
        return f"{self.id} was decided already: {self.decided}. Nothing was recorded"


# -- tools ------------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class ToolError(HoldfastError):
    """A tool, or its contract."""


@dataclass(eq=False)
class ToolFailed(ToolError):
    """A failed tool call as a value that can't be taken for a result.

    `definite`: it is known that no effect took place. `message` is what the model reads, after "Error: ".
    """

    run: str
    step: str
    tool: str
    error_type: str
    message: str
    definite: bool = True
    attempts: int = 1

    def __str__(self) -> str:
        tries = f" after {self.attempts} attempts" if self.attempts > 1 else ""
        safe = "no effect took place" if self.definite else "whether an effect took place is unknown"
        return f"run {self.run}, step {self.step}: tool {self.tool} failed{tries}: {self.error_type}: {self.message} ({safe})"


@dataclass(eq=False)
class ToolInputInvalid(ToolFailed):
    """The arguments do not fit the schema; the tool was not called."""


@dataclass(eq=False)
class ToolOutputInvalid(ToolFailed):
    """The tool answered, but not what its contract promises, on every attempt and fallback."""


@dataclass(eq=False)
class EffectRefused(ToolFailed):
    """The run is a fork without `effects="live"`."""


@dataclass(eq=False)
class ApprovalDenied(ToolFailed):
    """A person said no, or the time to say yes passed."""


@dataclass(eq=False)
class ApprovalVoid(ToolFailed):
    """What was approved changed while the approval was awaited."""


@dataclass(eq=False)
class StaleRead(ToolFailed):
    """A read that the effect depends on is missing, or changed when it was repeated."""


@dataclass(eq=False)
class GivenUp(ToolFailed):
    """A person looked at an effect in doubt and gave it up."""


@dataclass(eq=False)
class ContractError(ToolError):
    tool: str
    why: str

    def __str__(self) -> str:
        return f"tool {self.tool}: {self.why}"


# -- trust ------------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class TrustError(HoldfastError):
    """A label or an endorsement."""


@dataclass(eq=False)
class Rejected(TrustError):
    """Raised by a validator: the value does not stand the check."""

    why: str

    def __str__(self) -> str:
        return self.why


@dataclass(eq=False)
class EndorsementRejected(TrustError):
    run: str
    step: str
    validator: str
    why: str

    def __str__(self) -> str:
        return f"run {self.run}, step {self.step}: {self.validator} did not endorse the value: {self.why}"


@dataclass(eq=False)
class OpenType(TrustError):
    validator: str
    where: str

    def __str__(self) -> str:
        return (
            f"validator {self.validator}: {self.where} is not a closed type. An endorsed value may hold booleans, enums, literals, bounded "
            'numbers and ids of a system of record (Annotated[str, hf.record("name")]), never free text'
        )


# -- models -----------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class ModelError(HoldfastError):
    """A model call that gave no reply. `sent`: the request may have been served (and paid for)."""

    route: str
    message: str
    status: int | None = None
    transient: bool = False
    retry_after_s: float | None = None
    sent: bool = True

    def __str__(self) -> str:
        status = f" (status {self.status})" if self.status is not None else ""
        return f"route {self.route}{status}: {self.message}"


@dataclass(eq=False)
class RecordingMismatch(ModelError):
    """A recorded model was asked something that is not in the recording."""


@dataclass(eq=False)
class NoResult(HoldfastError):
    """`.result` was read on an answer without one; uncaught in a workflow, the run ends with that answer."""

    answer: Any  # Any: an Answer, which this module must not know

    def __str__(self) -> str:
        return f"the answer is {type(self.answer).__name__}, it has no result: {self.answer}"
