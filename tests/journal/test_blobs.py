"""Blobs: the address is over the content, the tag over the stored form."""

from __future__ import annotations

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from holdfast.journal import blobs

SECRET = bytes(range(32))
contents = st.binary(max_size=200) | st.binary(min_size=1, max_size=20).map(lambda part: part * 500)


@given(contents)
def test_a_blob_gives_back_its_content(content: bytes) -> None:
    address, stored = blobs.make(SECRET, content)
    assert blobs.content_of(stored) == blobs.check(SECRET, address, stored) == content
    digest, stored = blobs.make_shared(content)
    assert blobs.content_of(stored) == blobs.check_shared(digest, stored) == content


@given(st.binary(max_size=50))
def test_content_that_looks_like_a_zstd_frame_is_still_content(rest: bytes) -> None:
    content = zstandard.ZstdCompressor().compress(b"x") + rest
    address, stored = blobs.make(SECRET, content)
    assert blobs.content_of(stored) == blobs.check(SECRET, address, stored) == content


def test_the_address_does_not_depend_on_how_the_content_is_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay after an upgrade of zstd finds its own nodes. Patched, since there is one version here."""
    content = b"kelp " * 5_000
    address, stored = blobs.make(SECRET, content)
    monkeypatch.setattr(
        "holdfast.journal.codec.pack",
        lambda data: zstandard.ZstdCompressor(write_checksum=True).compress(data),
    )
    other_address, other_stored = blobs.make(SECRET, content)
    assert other_address == address
    assert other_stored != stored
    assert blobs.check(SECRET, address, other_stored) == content


@pytest.mark.slow
def test_law_9_every_flipped_bit_of_a_compressed_blob_is_found_also_one_that_unpacks_to_the_same() -> None:
    content = b"".join(b"%d crates of kelp, " % number for number in range(400))
    address, stored = blobs.make(SECRET, content)
    assert len(stored) < len(content) // 3
    for bit in range(len(stored) * 8):
        flipped = bytearray(stored)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(blobs.BadBlob):
            blobs.check(SECRET, address, bytes(flipped))


def test_any_zstd_tool_reads_a_compressed_blob() -> None:
    content = b"kelp " * 5_000
    _, stored = blobs.make(SECRET, content)
    assert zstandard.ZstdDecompressor().decompressobj().decompress(stored) == content


def test_a_frame_that_claims_to_be_huge_is_refused_before_it_is_unpacked() -> None:
    _, stored = blobs.make_shared(b"kelp " * 5_000)
    claims = stored[:4] + b"\xe0" + (1 << 60).to_bytes(8, "little") + stored[8:]
    assert zstandard.frame_content_size(claims) == 1 << 60
    with pytest.raises(blobs.BadBlob, match="more than any blob holds"):
        blobs.content_of(claims)


def test_another_secret_gives_another_address() -> None:
    assert blobs.make(SECRET, b"a")[0] != blobs.make(bytes(32), b"a")[0]
