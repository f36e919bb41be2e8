"""`Agent`: a small bounded loop of model and tool calls that ends in a strict answer. The loop is `_turns` and fits on a screen.

Bounded by default: at most `max_steps` model turns, then a person. Repairs of invalid answers are turns like others.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Generic, Literal, TypeAlias, TypeVar

import msgspec
from pydantic.errors import PydanticUserError

from ..errors import BudgetExceeded, ModelError, RecordingMismatch, StepFailed, ToolFailed, UnscopedStep, WorkflowDefect
from ..model import Answer, Clarify, Completed, Escalated, Message, ModelSettings, Text, ToolCall, ToolResult
from ..providers import Model, resolve
from ..runtime.ledger import call_for_model
from ..runtime.models import MODEL_RETRY, Asker, Talk, version_of
from ..runtime.scope import Scope, enter, entered, nested
from ..runtime.waits import reply
from ..tools import Retry, Tool, Typed, encode_json
from . import conclusions as _conclusions
from .answers import AnswerTools, InvalidAnswer
from .instructions import ANSWERING, REPAIR, TEXT_ONLY

T = TypeVar("T")

Reads: TypeAlias = dict[str, tuple[str, str] | None]
"""The tool calls that gave a result, by their id: which source and key was read; `None`: it was no read."""


class Agent(Generic[T]):
    """A model with instructions, tools, an output type and bounds. See `run` and `chat`.

    Args:
        name: As recorded with every call.
        model: One route or a chain of them in their order, each a name ("openai:gpt-5") or a `Model`. A later one's answers are `DEGRADED`.
        instructions: The agent's own; how to answer is added (`holdfast.agent.instructions`).
        tools: What it may call.
        output: The type of a completed result; `None` for a conversation in plain text (`chat`).
        max_steps: Model turns before a person takes over.
        sources_above, sources_needed: A confidence above the first needs that many distinct sources among the run's reads. The same
            read made twice is one source; what an effect returned is none.
        contradicts: `(now, earlier) -> reason | None`, for runs with a `subject`: an earlier conclusion that contradicts escalates.
    """

    def __init__(
        self,
        name: str,
        *,
        model: str | Model | Sequence[str | Model],
        instructions: str,
        tools: Sequence[Tool[..., Any]] = (),
        output: type[T] | Any = None,
        max_steps: int = 10,
        settings: ModelSettings | None = None,
        retry: Retry = MODEL_RETRY,
        sources_above: float = 0.9,
        sources_needed: int = 1,
        contradicts: Callable[[T, T], str | None] | None = None,
    ) -> None:
        names = [t.name for t in tools]
        if max_steps < 1 or len(set(names)) != len(names) or any(n.startswith("answer_") for n in names):
            raise WorkflowDefect(
                f"agent {name}",
                "needs max_steps of at least 1 and tools of distinct names, none beginning with answer_",
            )
        secret = next((t.name for t in tools if t.arguments.takes_secrets), None)
        if secret is not None:
            raise WorkflowDefect(
                f"agent {name}", f"tool {secret} takes a secret as an argument; a model must not choose which"
            )
        self.name = name
        self.tools = {t.name: t for t in tools}
        self.output = output
        self.max_steps = max_steps
        self.settings = settings or ModelSettings()
        self.retry = retry
        self.sources_above = sources_above
        self.sources_needed = sources_needed
        self.contradicts = contradicts
        self._instructions = instructions
        self._models = (model,) if isinstance(model, str) or not isinstance(model, Sequence) else tuple(model)
        if not self._models:
            raise WorkflowDefect(f"agent {name}", "needs a model")
        self._answers = None if output is None else AnswerTools(output)
        try:
            self._shown = () if self._answers is None else self._answers.specs
        except (PydanticUserError, NameError) as error:
            raise WorkflowDefect(f"agent {name}", f"its output can't be shown to a model: {error}") from error

    @functools.cached_property
    def _asker(self) -> Asker:
        routes = tuple(resolve(m) if isinstance(m, str) else m for m in self._models)
        instructions = self._instructions if self._answers is None else f"{self._instructions}\n\n{ANSWERING}"
        specs = (*(t.spec for t in self.tools.values()), *self._shown)
        words = () if self._answers is None else (REPAIR, TEXT_ONLY)  # said to the model too
        version = version_of([instructions, words, specs, [r.name for r in routes], self.settings])
        return Asker(
            agent=self.name, agent_version=version, routes=routes, instructions=instructions, tools=specs,
            settings=self.settings, retry=self.retry,
        )  # fmt: skip

    @property
    def version(self) -> str:
        """Hash of instructions, tool schemas, model chain and output schema; recorded with every call."""
        return self._asker.agent_version

    async def run(self, input: object, *, subject: str | None = None) -> Answer[T]:
        """Work on one input until there is an answer. Steps of the run, in a scope of their own.

        A `Clarify` waits for `run.reply` and the loop goes on with what the user said. A budget that is used up, an answer that
        never validates and a model that can't be reached end as `Escalated`, never as half an answer.

        Args:
            input: Text as it is, anything else as JSON: the first user message.
            subject: What the conclusion is about, an opaque id: it is recorded as one, and checked against earlier ones.
        """
        if self._answers is None:
            raise WorkflowDefect(f"agent {self.name}", "has no output type; use .chat()")
        scope = enter(self.name)
        with nested(scope, scope.next_path()) as inner:
            talk = Talk(inner, self._asker)
            talk.say(_user(input))
            reads: Reads = {}
            try:
                answer = await self._turns(inner, talk, self._answers, reads)
            except BudgetExceeded as exceeded:
                return Escalated(reason=f"budget of {exceeded.what}", attached={"error": str(exceeded)})
            except StepFailed as failed:
                if not failed.caused_by(ModelError) or failed.caused_by(RecordingMismatch):
                    raise
                return Escalated(reason="no model could be reached", attached={"error": failed.message})
            return await self._conclude(inner, answer, subject, reads)

    async def _turns(self, scope: Scope, talk: Talk, answers: AnswerTools, reads: Reads) -> Answer[T]:
        """The loop."""
        invalid: str | None = None
        text = ""
        while talk.calls < self.max_steps:
            message = await talk.ask()
            text = message.text or text
            if not message.tool_calls:
                invalid = message.text
                talk.say(Message("user", (Text(TEXT_ONLY),)))
            for call in message.tool_calls:
                if not answers.is_answer(call):
                    talk.say(await self._call(scope, call, reads))
                    continue
                try:
                    answer = answers.read(call, reads=tuple(reads), alone=len(message.tool_calls) == 1)
                except InvalidAnswer as error:
                    invalid = encode_json(call.arguments).decode()
                    talk.say(_result(call, REPAIR.format(error=error), ok=False))
                    continue
                if not isinstance(answer, Clarify):
                    return answer
                question = {"question": answer.question, "framings": answer.framings}
                if talk.calls == self.max_steps:  # nobody would read what the user says
                    return Escalated(reason=f"a question is open after {self.max_steps} model turns", attached=question)
                talk.say(_result(call, f"The user answers: {await reply({'answer': 'clarify', **question})}"))
        reason = "no answer" if invalid is None else "invalid answer"
        return Escalated(
            reason=f"{reason} within {self.max_steps} model turns", attached={"last_text": invalid or text}
        )

    async def _call(self, scope: Scope, call: ToolCall, reads: Reads) -> Message:
        """Run one tool call of the model; a failure is told as a failure (law 8)."""
        tool = self.tools.get(call.name)
        if tool is None:
            known = ", ".join(self.tools) or "none"
            return _result(call, f"Error: there is no tool {call.name!r}; there are: {known}", ok=False)
        try:
            path, result = await call_for_model(scope, tool, call.arguments)
        except ToolFailed as failed:
            return _result(call, f"Error: {failed.message}", ok=False)
        made = scope.execution.reads.items()
        reads[call.id] = next((source for source, read in made if read.path == path), None)
        return _result(call, _told(tool, result))

    async def _conclude(self, scope: Scope, answer: Answer[T], subject: str | None, reads: Reads) -> Answer[T]:
        """What an answer must stand before it leaves: sources for its confidence, no conflict with an earlier conclusion."""
        if not isinstance(answer, Completed):
            return answer
        confidence = answer.confidence or 0.0
        sources = {reads[call] for call in answer.sources} - {None}
        if confidence > self.sources_above and len(sources) < self.sources_needed:
            return Escalated(
                reason=f"confidence {confidence:g} rests on {len(sources)} sources, {self.sources_needed} are needed",
                attached={"answer": _jsonable(self.output, answer)},
            )
        if subject is not None and self.contradicts is not None:
            for earlier in await _conclusions.conclusions(subject, type=self.output):
                reason = self.contradicts(answer.result, earlier.result)
                if reason is not None:
                    both = {
                        "now": _jsonable(self.output, answer),
                        "earlier": _jsonable(self.output, earlier),
                        "earlier_run": earlier.run,
                    }
                    return Escalated(reason=f"conflict with an earlier conclusion: {reason}", attached=both)
        return await _conclusions.record(scope, self.name, self.output, answer, subject)

    def chat(self) -> Chat:
        """A conversation in plain text; `max_steps` bounds the model turns of all of it."""
        if self._answers is not None:
            raise WorkflowDefect(f"agent {self.name}", "has an output type; use .run(...)")
        scope = enter(self.name)
        return Chat(self, scope, scope.next_path())


class Chat:
    """A conversation of a run with a user. Made by `Agent.chat`, and used in the branch in which it was made."""

    def __init__(self, agent: Agent[Any], scope: Scope, path: str) -> None:
        self._agent = agent
        self._outer = scope
        self._path = path
        self._inner: Scope | None = None
        self._talk: Talk | None = None

    def heard(self, text: str, *, role: Literal["user", "assistant"] = "user") -> None:
        """Put a message into the conversation without asking the model: a fixed greeting, what was said before."""
        self._begun().say(Message(role, (Text(text),)))

    async def say(self, text: str) -> str:
        """Give the user's turn to the agent; its reply in text, after whatever tool calls it made.

        Raises:
            BudgetExceeded: `max_steps` model turns were made: a person takes over.
        """
        talk = self._begun()
        assert self._inner is not None
        talk.say(Message("user", (Text(text),)))
        with entered(self._inner):
            while True:
                if talk.calls >= self._agent.max_steps:
                    run = self._inner.execution.run
                    raise BudgetExceeded(run, self._path, "model turns", self._agent.max_steps, talk.calls)
                message = await talk.ask()
                for call in message.tool_calls:
                    talk.say(await self._agent._call(self._inner, call, {}))
                if not message.tool_calls:
                    return message.text

    def _begun(self) -> Talk:
        name = self._agent.name
        if enter(name) is not self._outer:
            why = "its chat was made in another branch, so what it has heard would depend on which branch is faster"
            raise self._outer.execution.defective(UnscopedStep(name, why))
        if self._talk is None:
            self._inner = Scope(self._outer.execution, self._path, parent=self._outer)
            self._talk = Talk(self._inner, self._agent._asker)
        return self._talk


def _user(input: object) -> Message:
    return Message("user", (Text(input if isinstance(input, str) else encode_json(input).decode()),))


def _result(call: ToolCall, content: str, *, ok: bool = True) -> Message:
    return Message("tool", (ToolResult(call.id, call.name, content, ok),))


def _told(tool: Tool[..., Any], result: Any) -> str:
    """A result as the model reads it. A `render` that breaks must not lose it: then the model gets it as JSON."""
    try:
        text: object = tool.rendered(result)
        if isinstance(text, str):
            text.encode()  # what UTF-8 can't hold can't be stored
            return text
    except Exception:  # noqa: BLE001, S110  # whatever a user's function raises
        pass
    return tool.output.encode(result).decode()


def _jsonable(output: Any, answer: Any) -> Any:
    return msgspec.json.decode(Typed[Any](output).encode(answer.result))
