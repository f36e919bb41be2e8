"""The input schema of a tool: what is shown is what validates, and what is validated is what is sent."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

import holdfast as hf
from holdfast.tools import Arguments
from holdfast.trust import LOWEST


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Line(BaseModel):
    sku: str
    quantity: int = Field(ge=1, le=99)


async def order(
    lines: list[Line],
    colour: Colour,
    day: date,
    price: Decimal = Decimal("1.10"),
    note: str | None = None,
    how: Literal["post", "van"] = "post",
    weight: Annotated[float, Field(gt=0)] = 1.0,
    *,
    key: hf.IdempotencyKey,
) -> str:
    """Place an order.

    Args:
        lines: What is ordered,
            line by line.
        colour: Of the box.
        key: Never shown.

    Returns: The number.
    """
    return ""


ORDER = Arguments("order", order, injected=hf.IdempotencyKey)
LINES = [Line(sku="A", quantity=2)]


def test_the_schema_has_the_parameters_their_types_defaults_and_descriptions() -> None:
    schema = ORDER.schema
    assert list(schema["properties"]) == ["lines", "colour", "day", "price", "note", "how", "weight"]
    assert schema["required"] == ["lines", "colour", "day"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["lines"]["description"] == "What is ordered, line by line."
    assert schema["properties"]["colour"]["description"] == "Of the box."
    assert schema["properties"]["how"]["enum"] == ["post", "van"]
    assert "key" not in json.dumps(schema["properties"])


def test_the_canonical_form_is_the_same_however_the_call_is_written() -> None:
    one, _ = ORDER.from_call((LINES, Colour.RED, date(2024, 2, 29)), {})
    other, _ = ORDER.from_call((), {"day": date(2024, 2, 29), "colour": Colour.RED, "lines": LINES, "how": "post"})
    model = ORDER.from_model({"day": "2024-02-29", "colour": "red", "lines": [{"sku": "A", "quantity": 2}]})
    assert one == other == model


def test_what_is_decoded_is_what_the_function_gets() -> None:
    canonical, _ = ORDER.from_call((LINES, Colour.RED, date(2024, 2, 29)), {"price": Decimal("2.50")})
    decoded = ORDER.decode(canonical)
    assert decoded["lines"] == LINES
    assert decoded["colour"] is Colour.RED
    assert decoded["day"] == date(2024, 2, 29)
    assert decoded["price"] == Decimal("2.50")
    assert "key" not in decoded


def test_labelled_values_are_unwrapped_and_remembered_by_name() -> None:
    value = hf.Value(Colour.RED, LOWEST)
    canonical, labelled = ORDER.from_call((LINES, value, date(2024, 2, 29)), {})
    assert labelled == {"colour": value}
    assert b'"colour":"red"' in canonical


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "lines: Field required"),
        ({"lines": [], "colour": "green", "day": "2024-01-01"}, "colour: Input should be 'red' or 'blue'"),
        ({"lines": [{"sku": "A", "quantity": 0}], "colour": "red", "day": "2024-01-01"}, "lines.0.quantity: "),
        ({"lines": [], "colour": "red", "day": "tomorrow"}, "day: "),
        ({"lines": [], "colour": "red", "day": "2024-01-01", "how": "ship"}, "how: "),
        ({"lines": [], "colour": "red", "day": "2024-01-01", "key": "k"}, "key: Extra inputs"),
        ({"lines": [], "colour": "red", "day": "2024-01-01", "weight": 0}, "weight: "),
        ({"lines": "A", "colour": "red", "day": "2024-01-01"}, "lines: "),
    ],
)
def test_what_does_not_fit_is_said_by_place_with_what_was_given(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match="invalid arguments for order: ") as raised:
        ORDER.from_model(arguments)
    assert said in str(raised.value)
    assert "Expected lines, colour, day, price (optional)" in str(raised.value)


def test_a_very_long_value_is_not_repeated_in_full() -> None:
    with pytest.raises(ValueError, match=r"\.\.\.") as raised:
        ORDER.from_model({"lines": "x" * 100_000, "colour": "red", "day": "2024-01-01"})
    assert len(str(raised.value)) < 1000


def test_text_that_is_no_json_is_said_to_be_none() -> None:
    with pytest.raises(ValueError, match="they are not valid JSON"):
        ORDER.from_model('{"lines": ')


async def plain(
    number: int, share: float, text: str, flags: list[bool], names: dict[str, int], either: int | str | None = None
) -> None: ...


PLAIN = Arguments("plain", plain)
finite = st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.integers(-(2**63), 2**63 - 1),
    finite,
    st.text(st.characters(exclude_categories=["Cs"])),
    st.lists(st.booleans()),
    st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.integers(-(2**63), 2**63 - 1)),
    st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.text(st.characters(exclude_categories=["Cs"]))),
)
def test_arguments_come_back_as_they_were_given(
    number: int, share: float, text: str, flags: list[bool], names: dict[str, int], either: int | str | None
) -> None:
    canonical, _ = PLAIN.from_call((number, share, text, flags), {"names": names, "either": either})
    given = {"number": number, "share": share, "text": text, "flags": flags, "names": names, "either": either}
    assert PLAIN.decode(canonical) == given
    assert PLAIN.from_model(json.loads(canonical)) == canonical


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_can_not_hold_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="share"):
        PLAIN.from_call((1, value, "", [], {}), {})


def test_a_model_gets_no_leave_to_convert_types_and_code_does() -> None:
    with pytest.raises(ValueError, match="number"):
        PLAIN.from_model({"number": "1", "share": 1.0, "text": "", "flags": [], "names": {}})
    with pytest.raises(ValueError, match="flags"):
        PLAIN.from_model({"number": 1, "share": 1.0, "text": "", "flags": [1], "names": {}})
