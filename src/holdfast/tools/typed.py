"""`Typed`: one Python type, its JSON form, its schema, its check.

What a step or tool returns is recorded as JSON and *decoded again on the live path too*: otherwise a replayed run would see other
types than the run that was recorded. Plain JSON types and msgspec structs go through msgspec (microseconds), everything else that
users bring (pydantic models, dataclasses, enums, constrained types) through pydantic, which is imported when first needed.
"""

from __future__ import annotations

import contextlib
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

import msgspec

from ..trust import Value

T = TypeVar("T")

_PLAIN = frozenset({Any, None, type(None), bool, int, float, str, dict, list, object, inspect.Parameter.empty})


def to_jsonable(value: object) -> object:
    """The hook for what msgspec does not know: pydantic models, labelled values, secrets."""
    if isinstance(value, Value):
        return value.value
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return dump(mode="json")
    reference = getattr(value, "__holdfast_reference__", None)
    if callable(reference):
        return reference()
    raise NotImplementedError(f"{type(value).__qualname__} has no JSON form")


HAS_NO_JSON = (TypeError, ValueError, RecursionError, NotImplementedError)
"""What encoding raises for a value that has no JSON form, or is not of its declared type."""

# Whatever JSON comes of a value of these types reads back as one of the same type.
_TRIVIAL = (dict, list, str, bool)

_encode = msgspec.json.Encoder(enc_hook=to_jsonable).encode  # keeps the order of a result
_encode_sorted = msgspec.json.Encoder(enc_hook=to_jsonable, order="deterministic").encode


def encode_json(value: object) -> bytes:
    """What a step is asked, as JSON: the same value gives the same bytes, in whatever order a dict or set was filled.

    Raises `TypeError` or `ValueError` for what has no JSON form.
    """
    return _encode_sorted(value)


class Typed(Generic[T]):
    """How values of one annotated type are checked, recorded and read back."""

    def __init__(self, annotation: Any) -> None:
        self.annotation = annotation
        self._decode: Callable[[bytes], Any] | None = None
        self._adapter: Any = None  # Any: pydantic.TypeAdapter, imported when first needed
        if _is_plain(annotation):
            self._plain: Any = Any if annotation in (inspect.Parameter.empty, object) else annotation
            self._trivial = self._plain if self._plain in _TRIVIAL else None
            self._decode = msgspec.json.Decoder(self._plain).decode
        elif "<locals>" in repr(annotation):  # its own annotations name what only the declaring function knows
            self.adapter.rebuild(raise_errors=False, _types_namespace=_local_names())

    @property
    def adapter(self) -> Any:
        """The pydantic adapter of the type, also for schemas of plain types."""
        if self._adapter is None:
            from pydantic import TypeAdapter

            plain = Any if self.annotation is inspect.Parameter.empty else self.annotation
            self._adapter = TypeAdapter(plain)
        return self._adapter

    def schema(self) -> dict[str, Any]:
        """The JSON schema shown to models: made by the same object that validates."""
        if self._decode is not None:  # a msgspec struct, or plain JSON types around one
            return msgspec.json.schema(self._plain)
        return cast("dict[str, Any]", self.adapter.json_schema())

    def check(self, value: object) -> T:
        """The value as its declared type. Raises `ValueError` with what does not fit."""
        try:
            if self._decode is not None:
                return cast(T, value if self._plain is Any else msgspec.convert(value, self._plain, strict=True))
            if isinstance(value, dict | list):  # JSON from somewhere: strict, but in JSON's own types
                return cast(T, self.adapter.validate_json(_encode(value), strict=True))
            return cast(T, self.adapter.validate_python(value, strict=True))
        except msgspec.ValidationError as error:
            raise ValueError(str(error)) from error

    def encode_checked(self, value: object) -> bytes:
        """The JSON form of a value that is of the declared type and reads back as it.

        Raises `ValueError` or `TypeError` when it is not, or has no JSON form.
        """
        if self._decode is None:
            encoded = self.encode(self.check(value))
            self.adapter.validate_json(encoded)
            return encoded
        encoded = _encode(value)
        if type(value) is not self._trivial and self._plain is not Any:
            self.decode(encoded)  # decoding is the check
        return encoded

    def encode(self, value: T) -> bytes:
        """The JSON form. Raises `TypeError` or `ValueError` when there is none."""
        if self._decode is not None:
            return _encode(value)
        return cast(bytes, self.adapter.dump_json(value, warnings="error"))

    def decode(self, data: bytes) -> T:
        """Read back a recorded value. Raises `ValueError` when the type changed so that it no longer fits."""
        if self._decode is not None:
            try:
                return cast(T, self._decode(data))
            except msgspec.DecodeError as error:
                raise ValueError(str(error)) from error
        return cast(T, self.adapter.validate_json(data))


def _is_plain(annotation: Any) -> bool:
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return True
    origin = typing.get_origin(annotation)
    if origin in (list, dict, tuple, typing.Union, types.UnionType):
        return all(arg is Ellipsis or _is_plain(arg) for arg in typing.get_args(annotation))
    try:
        return annotation in _PLAIN
    except TypeError:
        return False


def return_type(fn: Callable[..., object]) -> Any:
    """The resolved return annotation of a function; `Any` when there is none."""
    return hints(fn).get("return", Any)


def hints(fn: Callable[..., object]) -> dict[str, Any]:
    """Resolved annotations. Call it where the function is declared: names local to that place are found there."""
    names = _enclosed(fn)
    try:
        return typing.get_type_hints(fn, localns=names, include_extras=True)
    except NameError:
        return typing.get_type_hints(fn, localns={**_local_names(), **names}, include_extras=True)


def _local_names() -> dict[str, Any]:
    """Names local to the callers, the nearest first: whoever declares a function or type is one of them."""
    names: dict[str, Any] = {}
    frame = inspect.currentframe()
    while frame is not None:
        for name, value in frame.f_locals.items():
            names.setdefault(name, value)
        frame = frame.f_back
    return names


def _enclosed(fn: Callable[..., object]) -> dict[str, Any]:
    """What the function's closure holds so far; a cell may still be empty while things are being declared."""
    names: dict[str, Any] = {}
    code, cells = getattr(fn, "__code__", None), getattr(fn, "__closure__", None)
    for name, cell in zip(code.co_freevars if code else (), cells or (), strict=True):
        with contextlib.suppress(ValueError):
            names[name] = cell.cell_contents
    return names
