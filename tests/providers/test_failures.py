"""What a provider says about waiting, and what an exchange that went wrong comes to: without a network."""

from __future__ import annotations

import json

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import ModelError
from holdfast.providers._failures import SHOWN_CHARS, failure
from holdfast.providers._wire import Exchange, KeepBodies, SecondRequest, current_exchange, retry_after_s

from .loopback import answer, loopback


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "12"}, 12.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "later"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "Fri, 20 Nov 2026 10:00:30 GMT", "date": "Fri, 20 Nov 2026 10:00:00 GMT"}, 30.0),
        ({"retry-after": "Fri, 20 Nov 2026 10:00:00 GMT", "date": "Fri, 20 Nov 2026 10:00:30 GMT"}, 0.0),
        ({"retry-after": "Fri, 20 Nov 2020 10:00:00 GMT", "date": "not a date"}, 0.0),
    ],
)
def test_how_long_to_wait_is_read_from_either_header_in_either_form(
    headers: dict[str, str], expected: float | None
) -> None:
    assert retry_after_s(headers) == expected


@given(st.dictionaries(st.sampled_from(["retry-after", "retry-after-ms", "date"]), st.text()))
def test_no_header_breaks_the_reading_of_an_error(headers: dict[str, str]) -> None:
    wait_s = retry_after_s(headers)
    assert wait_s is None or 0 <= wait_s < float("inf")


@given(st.integers(100, 599), st.binary() | st.text().map(lambda text: json.dumps({"error": text}).encode()))
def test_any_status_and_body_is_one_typed_error(status: int, body: bytes) -> None:
    exchange = Exchange(request=b"{}", status=status, response=body)
    error = failure("openai:x", exchange, ValueError("unreadable"))
    assert isinstance(error, ModelError)
    assert error.status == status
    assert len(error.message) <= SHOWN_CHARS + 100


def test_time_that_ran_out_before_the_request_was_made_is_transient_and_was_not_sent() -> None:
    error = failure("openai:x", Exchange(), None)
    assert (error.transient, error.sent) == (True, False)
    assert "before anything was sent" in error.message


def test_a_body_that_is_no_json_is_shown() -> None:
    exchange = Exchange(request=b"{}", status=502, response=b"<h1>Bad gateway</h1>")
    assert "Bad gateway" in failure("openai:x", exchange, None).message


def test_a_long_text_is_shortened_after_the_secret_is_out() -> None:
    body = json.dumps({"error": {"message": "x" * (SHOWN_CHARS - 5) + "sk-secret-key"}}).encode()
    message = failure("r:x", Exchange(request=b"", status=400, response=body), None, secret="sk-secret-key").message
    assert "sk-" not in message


async def test_a_second_request_within_one_call_is_refused() -> None:
    async with loopback(answer({"n": 1}, 500), answer({"n": 2})) as server:
        outer = httpx2.AsyncClient()
        exchange = Exchange()
        token = current_exchange.set(exchange)
        try:
            async with outer, httpx2.AsyncClient(transport=KeepBodies(outer)) as client:
                assert (await client.post(server.url, json={})).status_code == 500
                with pytest.raises(SecondRequest):
                    await client.post(server.url, json={})
        finally:
            current_exchange.reset(token)
    assert len(server.seen) == 1
    assert failure("r:x", exchange, SecondRequest("again")).status == 500  # the first answer is what counts
