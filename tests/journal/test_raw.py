"""Raw model traffic as deltas."""

from __future__ import annotations

from pathlib import Path

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from holdfast.journal import Journal, blobs, raw
from holdfast.journal.records import ModelOutcome
from tests.journal.support import Ticks, complete, opened

SECRET = bytes(range(32))


def rebuilt(kept: raw.Kept, stored: dict[bytes, bytes]) -> bytes:
    deltas = {address.hex(): raw.parse(blobs.check(SECRET, address, data)) for address, data in stored.items()}
    return raw.rebuild(deltas, kept.id)


@given(st.lists(st.binary(max_size=40) | st.text("ab", max_size=600).map(str.encode), min_size=1, max_size=6))
def test_rebuilding_is_exact_for_any_bytes(requests: list[bytes]) -> None:
    stored: dict[bytes, bytes] = {}
    base: raw.Kept | None = None
    kept = []
    for request in requests:
        base, blob = raw.keep(SECRET, request, base)
        stored |= dict([blob])
        kept.append(base)
    assert [rebuilt(each, stored) for each in kept] == requests


@given(st.binary(max_size=300), st.binary(max_size=300), st.binary(max_size=30), st.binary(max_size=30))
def test_what_is_shared_at_both_ends_is_not_stored_again(head: bytes, tail: bytes, one: bytes, other: bytes) -> None:
    base, _ = raw.keep(SECRET, head + one + tail)
    kept, (address, data) = raw.keep(SECRET, head + other + tail, base)
    delta = raw.parse(blobs.check(SECRET, address, data))
    if delta.base is None:
        assert len(head) + len(tail) < 256
    else:
        assert delta.base == base.id
        assert len(delta.middle) <= len(other)
        assert delta.apply(base.data) == kept.data


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_common_ends_are_as_long_as_they_can_be(a: bytes, b: bytes) -> None:
    prefix = raw.common_prefix(a, b)
    assert a[:prefix] == b[:prefix]
    assert a[prefix : prefix + 1] != b[prefix : prefix + 1] or prefix == len(a) == len(b)
    shortest = min(len(a), len(b))
    suffix = raw.common_suffix(a, b, at_most=shortest)
    assert a[len(a) - suffix :] == b[len(b) - suffix :]
    assert suffix == shortest or a[-suffix - 1] != b[-suffix - 1]


def test_forty_turns_are_stored_in_linear_space() -> None:
    def stored(turns: int) -> int:
        messages: list[dict[str, str]] = []
        base: raw.Kept | None = None
        size = 0
        for number in range(turns):
            messages.append({"role": "user", "content": f"question {number} " * 60})
            request = {"model": "desk", "messages": messages, "tools": ["stock " * 300], "temperature": 0}
            base, (_, data) = raw.keep(SECRET, msgspec.json.encode(request), base)
            size += len(data)
        return size

    assert stored(40) / stored(10) < 4.5


async def test_stored_traffic_is_read_back_byte_for_byte(tmp_path: Path) -> None:
    async with opened(tmp_path / "holdfast.db") as store:
        journal = Journal(store, Ticks())
        await complete(journal, "a", turns=3)
        outcomes = [event.payload(ModelOutcome) for event in (await journal.events("a"))[2:5]]
        requests = [await raw.read(store, "a", outcome.raw_request or "") for outcome in outcomes]
        assert [request.count(b'{"turn"') for request in requests] == [1, 2, 3]
        assert all(request.endswith(b'],"tools":["stock"]}') for request in requests)
