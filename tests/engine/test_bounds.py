"""What a reply may cost, and what of a call's credentials may come back in it."""

from __future__ import annotations

import base64
import gzip
import time
import tracemalloc
import zlib
from urllib.parse import quote

import pytest

from bulksend.engine.echo import Echo
from bulksend.engine.inflate import Body, TooLargeError, UnreadableError
from bulksend.engine.transport import REPLY_MOST_BYTES

SAID = b'{"success": true}'
GIB = 1 << 30


def feed(body: Body, data: bytes, piece: int) -> None:
    for at in range(0, len(data), piece):
        body.add(data[at : at + piece])


def packed(size: int, wbits: int) -> bytes:
    """Return so many zeros, packed, without ever holding them."""
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    parts = [packer.compress(bytes(1 << 20)) for _ in range(size >> 20)]
    return b"".join([*parts, packer.flush()])


def raw(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize("piece", [1, 7, 65536])
@pytest.mark.parametrize(
    ("encoding", "data", "whole"),
    [
        ("", SAID, SAID),
        ("identity", SAID, SAID),
        ("gzip", gzip.compress(SAID), SAID),
        ("X-GZIP", gzip.compress(SAID), SAID),
        ("gzip", gzip.compress(SAID) + gzip.compress(b" "), SAID + b" "),
        ("deflate", zlib.compress(SAID), SAID),
        ("deflate", raw(SAID), SAID),
        ("gzip", b"", b""),
    ],
    ids=["plain", "identity", "gzip", "x-gzip", "two members", "deflate", "deflate without wrapping", "no body"],
)
def test_a_body_is_unpacked_however_it_is_cut(encoding: str, data: bytes, whole: bytes, piece: int) -> None:
    body = Body(encoding, 100)
    feed(body, data, piece)
    assert body.whole() == whole


@pytest.mark.parametrize(
    "encoding", ["br", "zstd", "gzip, gzip", "deflate, gzip", "gzip,identity", "compress", "x" * 999]
)
def test_what_was_not_asked_for_is_not_unpacked(encoding: str) -> None:
    with pytest.raises(UnreadableError, match="not asked for") as caught:
        Body(encoding, 100)
    assert len(str(caught.value)) < 100


def test_the_bound_is_exact() -> None:
    for encoding, pack in (("", bytes), ("gzip", gzip.compress), ("deflate", zlib.compress)):
        body = Body(encoding, 1000)
        body.add(pack(bytes(1000)))
        assert len(body.whole()) == 1000
        with pytest.raises(TooLargeError):
            Body(encoding, 1000).add(pack(bytes(1001)))


@pytest.mark.parametrize(("encoding", "wbits"), [("gzip", 31), ("deflate", 15), ("deflate", -15)])
def test_a_bomb_costs_neither_memory_nor_time(encoding: str, wbits: int) -> None:
    bomb = packed(GIB // 16, wbits)
    assert len(bomb) < REPLY_MOST_BYTES // 128
    body = Body(encoding, REPLY_MOST_BYTES)
    tracemalloc.start()
    try:
        with pytest.raises(TooLargeError):
            feed(body, bomb, 65536)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * REPLY_MOST_BYTES


def test_members_without_end_are_refused() -> None:
    body = Body("gzip", 1 << 24)
    began_s = time.perf_counter()
    with pytest.raises(UnreadableError, match="too many parts"):
        body.add(gzip.compress(b"") * 3000)
    assert time.perf_counter() - began_s < 1


def test_what_unpacks_to_nothing_is_bounded_as_it_comes() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    flushes = b"".join(packer.flush(zlib.Z_FULL_FLUSH) or packer.compress(b"x") for _ in range(1000))
    body = Body("gzip", len(flushes) // 2)
    with pytest.raises(TooLargeError):
        feed(body, flushes, 100)


SECRET = "s3cr3t/with+odd=signs-0123456789"


@pytest.mark.parametrize(
    "written",
    [
        SECRET,
        f"Bearer {SECRET}",
        SECRET.replace("/", "\\/"),
        quote(SECRET),
        quote(SECRET, safe=""),
        quote(SECRET, safe="").lower(),
        base64.b64encode(SECRET.encode()).decode(),
        base64.urlsafe_b64encode(SECRET.encode()).decode(),
        base64.b64encode(f"a:{SECRET}".encode()).decode(),
        base64.b64encode(f"ab:{SECRET}:c".encode()).decode(),
        base64.b64encode(f"Bearer {SECRET}".encode()).decode(),
    ],
)
def test_credentials_that_come_back_are_masked(written: str) -> None:
    sent = {"Authorization": f"Bearer {SECRET}", "Content-Type": "application/json"}
    headers, body = Echo().masked(
        sent, {"x-echo": f"got {written}", "y": "stays"}, f'{{"message": "{written}"}}'.encode()
    )
    for text in (body.decode(), headers["x-echo"]):
        assert "***" in text
        assert not any(part in text for part in (SECRET[:16], SECRET[-10:], written[4:24]))
    assert headers["y"] == "stays"


def test_a_key_with_spaces_is_one_secret() -> None:
    for sent in ({"X-Authorization": "Key of 1 firm"}, {"authorization": "Token Key of 1 firm"}):
        assert Echo().masked(sent, {}, b"bad: Key of 1 firm")[1] == b"bad: ***"


def test_nothing_else_is_masked() -> None:
    headers, body = {"a": "application/json Bearer"}, b"\xff\xfe Bearer Token application/json secret12"
    for value in ("Bearer s3cr3t1", "Token x", "Bearer", ""):
        assert Echo().masked({"Authorization": value, "X": "secret12"}, headers, body) == (headers, body)
