"""What the runtime asks of a model, whoever serves it."""

from __future__ import annotations

from typing import Protocol

from ..model import ModelReply, ModelRequest


class Model(Protocol):
    """One route to one model.

    Implementations keep no conversation: each request carries all of it. They may be used by many runs at
    once.
    """

    @property
    def name(self) -> str:
        """The route, such as `"openai:gpt-5"`; it is recorded with every call."""
        ...

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Ask once and return what came back.

        One call is at most one request on the wire: retries, fallbacks and waiting for quota belong to the
        caller, who also records them.

        Raises:
            ModelError: There is no reply. `status` is the HTTP status where there was one; `transient` says
                that asking again later may help; `retry_after_s` is how long the provider asks to wait, in
                seconds from now; `sent=False` says that the request certainly never left this machine, so
                that nothing was served or billed. With `sent=True` it may have been.

        A cancellation passes through. The request may have been sent, served and billed by then.
        """
        ...


class Secret(Protocol):
    """A credential that is looked up when it is needed, so that nothing has to hold it."""

    def reveal(self) -> str:
        """The secret itself; called once for each model call."""
        ...
