"""From the name of a route to a model, without importing an SDK before the first call."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from anyio import to_thread

from ..errors import ModelError
from ..model import ModelReply, ModelRequest
from ._protocol import Model

if TYPE_CHECKING:
    from .hosted import HostedModel

SDK_OF_PREFIX: Final = {
    "anthropic": "anthropic",
    "openai": "openai",
    "openai-chat": "openai",
    "openai-responses": "openai",
}


def resolve(model: str | Model) -> Model:
    """Return the model that a route names; what is a model already comes back as it is.

    Args:
        model: `"openai:<model>"` (the Responses API), `"openai-chat:<model>"` (Chat Completions, which other
            servers speak too) or `"anthropic:<model>"`. For another address or key make a
            `holdfast.providers.hosted.HostedModel`.

    The key is read from `OPENAI_API_KEY` or `ANTHROPIC_API_KEY` at each call. Nothing heavy is imported
    before the first.

    Raises:
        ModelError: The name is no route that is known, or the packages for it are not installed. Nothing was
            sent.
    """
    if not isinstance(model, str):
        return model
    check_route(model)
    return _NamedModel(model)


def check_route(route: str) -> tuple[str, str]:
    """Split a route into prefix and model name, or raise the `ModelError` that says what is wrong with it."""
    prefix, _, name = route.partition(":")
    sdk = SDK_OF_PREFIX.get(prefix)
    if sdk is None or not name:
        known = ", ".join(f'"{p}:<model>"' for p in SDK_OF_PREFIX)
        raise ModelError(
            route,
            f"no such route. Known are {known}; another server that speaks the OpenAI dialect is "
            'HostedModel("openai-chat:<model>", base_url=...)',
            sent=False,
        )
    missing = [package for package in ("pydantic_ai", sdk) if find_spec(package) is None]
    if missing:
        raise ModelError(
            route,
            f"hosted models need packages that are not installed ({', '.join(missing)}): "
            "pip install 'holdfast[models]'",
            sent=False,
        )
    return prefix, name


class _NamedModel:
    """A hosted model that is made on its first call: importing the SDKs takes about a second."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._hosted: HostedModel | None = None

    @property
    def name(self) -> str:
        return self._name

    async def complete(self, request: ModelRequest) -> ModelReply:
        if self._hosted is None:
            hosted_model = await to_thread.run_sync(_import_hosted, self._name)
            # Between the check and here another call may have made it; two would be two connection pools.
            if self._hosted is None:
                self._hosted = hosted_model(self._name)
        return await self._hosted.complete(request)

    async def aclose(self) -> None:
        """Close the connections of this event loop."""
        if self._hosted is not None:
            await self._hosted.aclose()

    def __repr__(self) -> str:
        return f"<model {self._name}>"


def _import_hosted(route: str) -> type[HostedModel]:
    try:
        from .hosted import HostedModel, import_sdk

        import_sdk(route)
    except ImportError as error:  # installed, but in versions that do not go together
        why = f"the packages for hosted models can't be imported ({error}): pip install 'holdfast[models]'"
        raise ModelError(route, why, sent=False) from error
    return HostedModel
