"""The input schema of a tool, from its signature: what is shown to the model is what validates its call."""

from __future__ import annotations

import functools
import inspect
import re
import typing
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

import msgspec

from ..errors import ContractError
from ..model import Secret
from ..trust import Value
from .typed import hints

if TYPE_CHECKING:
    from pydantic import BaseModel


class Arguments:
    """Checks arguments and gives their canonical JSON: the bytes that are recorded, hashed, approved and sent."""

    def __init__(self, name: str, fn: Callable[..., Any], *, injected: object = None) -> None:
        self._name = name
        self._fn = fn
        self.signature = inspect.signature(fn)
        annotations = hints(fn)
        self.injected = tuple(
            p for p in self.signature.parameters if injected is not None and annotations.get(p) is injected
        )
        self._injected = frozenset(self.injected)
        self.positional = tuple(
            name
            for name, parameter in self.signature.parameters.items()
            if parameter.kind is not inspect.Parameter.KEYWORD_ONLY and name not in self._injected
        )
        structs = [
            p
            for p, kind in annotations.items()
            if p != "return" and isinstance(kind, type) and issubclass(kind, msgspec.Struct)
        ]
        if structs:
            why = f"argument {structs[0]} is a msgspec struct, which has no schema for models; use a dataclass or a pydantic model"
            raise ContractError(name, why)
        self._fields = {p: annotations.get(p, Any) for p in self.signature.parameters if p not in self.injected}

    @functools.cached_property
    def model(self) -> type[BaseModel]:
        from pydantic import ConfigDict, Field, create_model

        described = _described_arguments(self._fn.__doc__ or "")
        fields: dict[str, Any] = {}
        for name, annotation in self._fields.items():
            default = self.signature.parameters[name].default
            info = Field(
                default=... if default is inspect.Parameter.empty else default, description=described.get(name)
            )
            fields[name] = (annotation, info)
        config = ConfigDict(extra="forbid", allow_inf_nan=False)
        return cast("type[BaseModel]", create_model(f"{self._name}_arguments", __config__=config, **fields))

    @functools.cached_property
    def schema(self) -> dict[str, Any]:
        schema = self.model.model_json_schema()
        schema.pop("title", None)
        return schema

    def from_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[bytes, dict[str, Value[Any]]]:
        """Canonical JSON of a call made in code, and the labelled values among its arguments by name.

        Raises `ValueError` with what does not fit, in words for whoever made the call.
        """
        given = dict(zip(self.positional, args, strict=False))
        if (
            len(args) > len(self.positional)
            or not given.keys().isdisjoint(kwargs)
            or not self._injected.isdisjoint(kwargs)
        ):
            raise ValueError(
                f"{self._name} takes {self._expected()}; the call gives one of them twice, or more than these"
            )
        given |= kwargs
        labelled = {name: value for name, value in given.items() if isinstance(value, Value)}
        for name, value in labelled.items():
            given[name] = value.value
        return self._canonical(lambda: self.model.model_validate(given)), labelled

    def from_model(self, arguments: dict[str, Any] | str) -> bytes:
        """Canonical JSON of what a model wrote. Raises `ValueError` with a message that the model can act on."""
        encoded = b"" if isinstance(arguments, str) else msgspec.json.encode(arguments)
        if b'"$secret"' in encoded:
            raise ValueError(f"{self._name}: a reference to a secret can't come from a model")
        if isinstance(arguments, str):
            raise ValueError(
                f"the arguments of {self._name} must be one JSON object with {self._expected()}; they are not valid JSON"
            )
        return self._canonical(lambda: self.model.model_validate_json(encoded, strict=True))

    def means(self, recorded: bytes, asked: bytes) -> bool:
        """Whether recorded arguments are these: the same after normalisation by the present schema, which may have gained defaults."""
        if recorded == asked:
            return True
        try:
            return self._canonical(lambda: self.model.model_validate_json(recorded)) == asked
        except ValueError:
            return False

    def adopt(self, canonical: bytes) -> bytes:
        """The canonical arguments of another tool as arguments of this one, which stands in for it. Raises `ValueError`."""
        return self._canonical(lambda: self.model.model_validate_json(canonical))

    def decode(self, canonical: bytes, secrets: Mapping[str, Secret] = MappingProxyType({})) -> dict[str, Any]:
        """The arguments as the function gets them; `secrets` by name as the caller gave them, with their resolvers."""
        model = self.model.model_validate_json(canonical)
        return {name: getattr(model, name) for name in self._fields} | dict(secrets)

    @property
    def takes_secrets(self) -> bool:
        """Whether an argument is a secret; such a tool is not for models."""
        return any(kind is Secret or Secret in typing.get_args(kind) for kind in self._fields.values())

    def _canonical(self, validate: Callable[[], BaseModel]) -> bytes:
        from pydantic import ValidationError

        try:
            return validate().model_dump_json().encode()
        except ValidationError as error:
            said = "; ".join(_sentence(e) for e in error.errors(include_url=False, include_input=True))
            raise ValueError(f"invalid arguments for {self._name}: {said}. Expected {self._expected()}") from error

    def _expected(self) -> str:
        required = set(self.schema.get("required", ()))
        names = [n if n in required else f"{n} (optional)" for n in self._fields]
        return ", ".join(names) or "no arguments"


def _sentence(error: Any) -> str:
    where = ".".join(str(p) for p in error["loc"]) or "arguments"
    given = repr(error.get("input"))
    return f"{where}: {error['msg']} (given {given if len(given) <= 80 else given[:77] + '...'})"


def _described_arguments(docstring: str) -> dict[str, str]:
    """Descriptions from the `Args:` section of a docstring, so that they are written once."""
    section = re.search(
        r"^\s*Args:\s*\n(.*?)(?=^\s*(?:Returns|Raises|Yields|See|Example)s?:|\Z)", docstring, re.DOTALL | re.MULTILINE
    )
    if section is None:
        return {}
    found: dict[str, str] = {}
    for match in re.finditer(r"^\s+(\w+):\s*(.+(?:\n(?!\s+\w+:\s).+)*)", section.group(1), re.MULTILINE):
        found[match.group(1)] = " ".join(match.group(2).split())
    return found
