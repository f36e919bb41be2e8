"""`Typed`: what a step returns is checked, recorded as JSON, and read back as the same type."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Literal
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from holdfast.tools import Typed, encode_json
from holdfast.trust import LOWEST, Value

text = st.text(st.characters(exclude_categories=["Cs"]))
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)


class Colour(Enum):
    RED = "red"


class Model(BaseModel):
    number: int
    name: str = "x"


@dataclass(frozen=True)
class Plain:
    at: datetime
    colour: Colour
    nested: tuple[Model, ...] = ()


class Struct(msgspec.Struct, frozen=True):
    number: int
    share: float | None = None


EXAMPLES: list[tuple[Any, object]] = [
    (int, 7),
    (float, 2.5),
    (float, 7),
    (str, "ä"),
    (bool, True),
    (None, None),
    (list[int], [1, 2]),
    (dict[str, list[int]], {"a": [1]}),
    (tuple[int, str], (1, "a")),
    (tuple[int, ...], (1, 2)),
    (int | None, None),
    (int | str, "a"),
    (Literal["a", "b"], "a"),
    (Colour, Colour.RED),
    (Model, Model(number=1)),
    (list[Model], [Model(number=1)]),
    (Plain, Plain(datetime(2024, 1, 1, tzinfo=UTC), Colour.RED, (Model(number=1),))),
    (Struct, Struct(1)),
    (date, date(2024, 2, 29)),
    (datetime, datetime(2024, 2, 29, 1, 2, 3, 456789, tzinfo=UTC)),
    (timedelta, timedelta(seconds=1.5)),
    (Decimal, Decimal("1.10")),
    (UUID, UUID(int=7)),
    (set[int], {1, 2}),
    (frozenset[str], frozenset({"a"})),
    (Any, {"a": [1, None, "b"]}),
]


@pytest.mark.parametrize(("annotation", "value"), EXAMPLES, ids=lambda x: str(x)[:30])
def test_a_value_comes_back_equal_and_of_its_type(annotation: Any, value: object) -> None:
    typed: Typed[Any] = Typed(annotation)
    again = typed.decode(typed.encode(typed.check(value)))
    assert again == value
    if annotation is not float:
        assert type(again) is type(value)


WRONG: list[Any] = [
    (int, "1"),
    (int, 1.5),
    (int, True),
    (str, 1),
    (bool, 1),
    (None, 0),
    (list[int], ["a"]),
    (dict[str, int], [1]),
    (tuple[int, str], (1, 2)),
    (int | None, "x"),
    (Colour, "green"),
    (Model, {"number": "one"}),
    (Struct, {"number": "one"}),
    (date, "tomorrow"),
    (int, None),
    pytest.param(int, object(), id="an object"),
]


@pytest.mark.parametrize(("annotation", "value"), WRONG, ids=lambda x: str(x)[:30])
def test_a_value_of_another_type_is_refused(annotation: Any, value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        Typed(annotation).check(value)


@given(json_values)
def test_any_json_comes_back_as_it_was(value: object) -> None:
    typed: Typed[Any] = Typed(Any)
    assert typed.decode(typed.encode(typed.check(value))) == value


@given(st.dictionaries(text, json_values, max_size=5), st.randoms())
def test_the_same_value_has_the_same_bytes_whatever_the_order_it_was_filled_in(
    value: dict[str, object], random: Any
) -> None:
    items = list(value.items())
    random.shuffle(items)
    assert encode_json(dict(items)) == encode_json(value)


def test_labelled_values_and_models_are_recorded_as_what_they_hold() -> None:
    assert encode_json({"a": Value(1, LOWEST), "b": Model(number=2)}) == b'{"a":1,"b":{"name":"x","number":2}}'


@pytest.mark.parametrize("value", [object(), {1, object()}, "\ud800", {"a": lambda: 1}])
def test_what_has_no_json_form_is_refused(value: object) -> None:
    with pytest.raises((TypeError, ValueError, NotImplementedError)):
        encode_json(value)


def test_a_record_that_no_longer_fits_its_type_is_refused() -> None:
    with pytest.raises(ValueError, match="int"):
        Typed(int).decode(b'"text"')
    with pytest.raises(ValueError, match="number"):
        Typed(Model).decode(b"{}")


@pytest.mark.parametrize(("annotation", "value"), EXAMPLES, ids=lambda x: str(x)[:30])
def test_every_type_has_a_schema_that_models_can_be_shown(annotation: Any, value: object) -> None:
    assert isinstance(Typed(annotation).schema(), dict)
