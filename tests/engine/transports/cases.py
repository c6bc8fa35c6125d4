"""Replies as bytes: whole ones, and those that are none."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass

from tests.engine.transports.server import OK, chunked, chunks, sized

HEAD = b"HTTP/1.1 200 OK\r\n"
SAID = b'{"success": true}'


@dataclass(frozen=True)
class Case:
    name: str
    reply: bytes
    body: bytes | None = SAID
    """None: the reply is no whole one."""
    status: int = 200
    is_kept: bool | None = None
    """Whether the connection may serve the next call; None where it was closed by the server or need not matter."""
    ends: bool = False
    """The server closes the connection after it."""


def raw(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def coded(reply: bytes, name: bytes) -> bytes:
    return sized(reply, b"Content-Encoding: " + name)


def with_length(text: bytes, body: bytes = SAID) -> bytes:
    return HEAD + b"Content-Length: " + text + b"\r\n\r\n" + body


def in_chunks(text: bytes) -> bytes:
    return HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + text


SEVENTEEN = b"%d" % len(SAID)
WHOLE = [
    Case("sized", sized(SAID), is_kept=True),
    Case("no body", sized(b""), b"", is_kept=True),
    Case("close", sized(SAID, b"Connection: close"), is_kept=False),
    Case("close among others", sized(SAID, b"Connection: keep-alive, close"), is_kept=False),
    Case("HTTP/1.0", b"HTTP/1.0 200 OK\r\n" + sized(SAID)[len(HEAD) :], is_kept=False),
    Case("HTTP/1.0 that stays", b"HTTP/1.0" + sized(SAID, b"Connection: keep-alive")[8:], is_kept=True),
    Case("until the end", HEAD + b"\r\n" + SAID, ends=True),
    Case("until the end, in HTTP/1.0", b"HTTP/1.0 200 OK\r\n\r\n" + SAID, ends=True),
    Case("nothing until the end", HEAD + b"\r\n", b"", ends=True),
    Case("chunked", chunked(SAID[:5], SAID[5:]), is_kept=True),
    Case("chunked, in capitals", HEAD + b"TRANSFER-ENCODING: Chunked\r\n\r\n" + chunks(SAID), is_kept=True),
    Case("many chunks", chunked(*[bytes([one]) for one in SAID]), is_kept=True),
    Case("an empty chunk alone", chunked(), b"", is_kept=True),
    Case("a chunk with words", in_chunks(b"11;a=b\r\n" + SAID + b"\r\n0\r\n\r\n"), is_kept=True),
    Case("a long chunk size", in_chunks(b"0000011\r\n" + SAID + b"\r\n000\r\n\r\n"), is_kept=True),
    Case("trailers", chunked(SAID, trailers=b"X-Sum: 1\r\nX-More: 2\r\n"), is_kept=True),
    Case("gzip", coded(gzip.compress(SAID), b"gzip"), is_kept=True),
    Case("gzip in capitals", coded(gzip.compress(SAID), b"GZIP"), is_kept=True),
    Case("gzip of two members", coded(gzip.compress(SAID[:4]) + gzip.compress(SAID[4:]), b"gzip"), is_kept=True),
    Case("gzip in chunks", chunked(gzip.compress(SAID), headers=b"Content-Encoding: gzip\r\n"), is_kept=True),
    Case("gzip of nothing", coded(b"", b"gzip"), b"", is_kept=True),
    Case("gzip until the end", HEAD + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(SAID), ends=True),
    Case("deflate", coded(zlib.compress(SAID), b"deflate"), is_kept=True),
    Case("deflate without its wrapping", coded(raw(SAID), b"deflate"), is_kept=True),
    Case("identity", coded(SAID, b"identity"), is_kept=True),
    Case("204", b"HTTP/1.1 204 No Content\r\n\r\n", b"", 204, is_kept=True),
    Case("304", b"HTTP/1.1 304 Not Modified\r\n\r\n", b"", 304, is_kept=True),
    Case("304 with a length", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", b"", 304, is_kept=True),
    Case("204 that names gzip", b"HTTP/1.1 204 None\r\nContent-Encoding: gzip\r\n\r\n", b"", 204, is_kept=True),
    Case("100", b"HTTP/1.1 100 Continue\r\n\r\n" + sized(SAID), is_kept=True),
    Case("103", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + sized(SAID), is_kept=True),
    Case("a thousand of 102", b"HTTP/1.1 102 Processing\r\n\r\n" * 1000 + sized(SAID), is_kept=True),
    Case("no reason", b"HTTP/1.1 404\r\nContent-Length: 0\r\n\r\n", b"", 404, is_kept=True),
    Case("no such status", sized(SAID, status=b"799 What"), status=799, is_kept=True),
    Case("an upgrade that nobody asked for", sized(SAID, b"Connection: upgrade", b"Upgrade: h2c")),
    Case("an empty line before it", b"\r\n" + sized(SAID), is_kept=True),
    Case("an empty line after it", sized(SAID) + b"\r\n"),
    Case("more than was asked for", sized(SAID) + sized(b"stale"), is_kept=False),
    Case("more than was asked for, in chunks", chunked(SAID) + sized(b"stale"), is_kept=False),
    Case("more than was asked for, after a 204", b"HTTP/1.1 204 No\r\n\r\n" + sized(b"stale"), b"", 204, is_kept=False),
    Case("a long header", sized(SAID, b"X: " + b"x" * 8000), is_kept=True),
    Case("a hundred headers", sized(SAID, *(b"X-%d: 1" % one for one in range(100))), is_kept=True),
    Case("a length with zeros", with_length(b"00" + SEVENTEEN), is_kept=True),
]
NONE = [
    Case("nothing", b"", None, ends=True),
    Case("a line cut", b"HTTP/1.1 20", None, ends=True),
    Case("a head cut", HEAD + b"Content-Le", None, ends=True),
    Case("a head without its end", HEAD + b"Content-Length: 2\r\n", None, ends=True),
    Case("100 alone", b"HTTP/1.1 100 Continue\r\n\r\n", None, ends=True),
    Case("a body cut", with_length(b"18"), None, ends=True),
    Case("no body where one was announced", with_length(b"18", b""), None, ends=True),
    Case("a chunk cut", in_chunks(b"12\r\n" + SAID), None, ends=True),
    Case("a chunk without its end", in_chunks(b"11\r\n" + SAID), None, ends=True),
    Case("chunks without an end", in_chunks(b"11\r\n" + SAID + b"\r\n"), None, ends=True),
    Case("half an end of chunks", in_chunks(b"11\r\n" + SAID + b"\r\n0\r\n"), None, ends=True),
    Case("trailers cut", chunked(SAID, trailers=b"X-Sum: 1\r\n")[:-2], None, ends=True),
    Case("gzip cut", coded(gzip.compress(SAID)[:-3], b"gzip"), None),
    Case("gzip cut at the end", HEAD + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(SAID)[:-9], None, ends=True),
    Case("not gzip", coded(SAID, b"gzip"), None),
    Case("gzip and more", coded(gzip.compress(SAID) + b"more", b"gzip"), None),
    Case("not deflate", coded(b"\x78\x9c" + SAID, b"deflate"), None),
    Case("br, which nobody asked for", coded(SAID, b"br"), None),
    Case("zstd, which nobody asked for", coded(SAID, b"zstd"), None),
    Case("gzip twice", coded(gzip.compress(gzip.compress(SAID)), b"gzip, gzip"), None),
    Case("gzip in two headers", sized(SAID, b"Content-Encoding: gzip", b"Content-Encoding: gzip"), None),
    Case("a length below nothing", with_length(b"-17"), None, ends=True),
    Case("a length with a sign", with_length(b"+17"), None, ends=True),
    Case("a length in hex", with_length(b"0x11"), None, ends=True),
    Case("a length in words", with_length(b"seventeen"), None, ends=True),
    Case("a length as Python writes it", with_length(b"1_7"), None, ends=True),
    Case("no length in the length", with_length(b""), None, ends=True),
    Case("a length beyond all", with_length(b"9" * 30), None, ends=True),
    Case("two lengths in one", with_length(b"17, 18"), None, ends=True),
    Case("two lengths", sized(SAID, b"Content-Length: 5"), None, ends=True),
    Case("a length and chunks", chunked(SAID, headers=b"Content-Length: 17\r\n"), None, ends=True),
    Case("chunks and a length", sized(SAID, b"Transfer-Encoding: chunked"), None, ends=True),
    Case("a chunk size below nothing", in_chunks(b"-11\r\n" + SAID + b"\r\n0\r\n\r\n"), None, ends=True),
    Case("a chunk size with 0x", in_chunks(b"0x11\r\n" + SAID + b"\r\n0\r\n\r\n"), None, ends=True),
    Case("no chunk size", in_chunks(b"zz\r\n" + SAID + b"\r\n0\r\n\r\n"), None, ends=True),
    Case("a chunk size beyond all", in_chunks(b"f" * 17 + b"\r\n" + SAID + b"\r\n0\r\n\r\n"), None, ends=True),
    Case("a chunk size near the end of all", in_chunks(b"7" + b"f" * 15 + b"\r\n" + SAID), None, ends=True),
    Case("a chunk that is longer", in_chunks(b"10\r\n" + SAID + b"\r\n0\r\n\r\n"), None, ends=True),
    Case("a trailer that is none", chunked(SAID, trailers=b"nonsense\r\n"), None, ends=True),
    Case("a trailer without end", chunked(SAID, trailers=b"X: " + b"x" * 100_000 + b"\r\n"), None, ends=True),
    Case("a flood of trailers", chunked(SAID, trailers=b"X: 1\r\n" * 10_000), None, ends=True),
    Case("status abc", sized(SAID, status=b"abc OK"), None, ends=True),
    Case("status 20", sized(SAID, status=b"20 OK"), None, ends=True),
    Case("status 2000", sized(SAID, status=b"2000 OK"), None, ends=True),
    Case("status -200", sized(SAID, status=b"-200 OK"), None, ends=True),
    Case("no status", b"HTTP/1.1\r\nContent-Length: 0\r\n\r\n", None, ends=True),
    Case("HTTP/1.2", b"HTTP/1.2" + sized(SAID)[8:], None, ends=True),
    Case("HTTP/2", b"HTTP/2" + sized(SAID)[8:], None, ends=True),
    Case("http/1.1", b"http" + sized(SAID)[4:], None, ends=True),
    Case("ICY", b"ICY" + sized(SAID)[8:], None, ends=True),
    Case("a request", b"GET / HTTP/1.1\r\n\r\n", None, ends=True),
    Case("mail", b"220 mail.example.com ESMTP\r\n", None, ends=True),
    Case("TLS", b"\x16\x03\x01\x00\xff" * 50, None, ends=True),
    Case("HTTP/2 frames", b"\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\xff\xff", None, ends=True),
    Case("a blank before it", b" " + sized(SAID), None, ends=True),
    Case("lines that end in CR", sized(SAID).replace(b"\r\n", b"\r"), None, ends=True),
    Case("CR in a header", sized(SAID, b"X: a\rb"), None, ends=True),
    Case("NUL in a header", sized(SAID, b"X: a\0b"), None, ends=True),
    Case("a header without a colon", sized(SAID, b"nonsense"), None, ends=True),
    Case("a header without a name", sized(SAID, b": x"), None, ends=True),
    Case("a blank in a name", sized(SAID, b"a b: x"), None, ends=True),
    Case("a name in UTF-8", sized(SAID, b"\xc3\xa4: x"), None, ends=True),
    Case("a header over its bound", sized(SAID, b"X: " + b"x" * 8200), None, ends=True),
    Case("a name over its bound", sized(SAID, b"x" * 8200 + b": 1"), None, ends=True),
    Case("a reason over its bound", sized(SAID, status=b"200 " + b"x" * 8200), None, ends=True),
    Case("a header without end", sized(SAID, b"X: " + b"x" * 1_000_000), None, ends=True),
    Case("a flood of headers", sized(SAID, *(b"X-%d: 1" % one for one in range(10_000))), None, ends=True),
    Case("a flood of long headers", sized(SAID, *(b"X: " + b"x" * 8000 for _ in range(200))), None, ends=True),
    Case("101", b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", None),
    Case("101 without a word", b"HTTP/1.1 101 Switching\r\nContent-Length: 0\r\n\r\n", None),
    Case("status 000", sized(SAID, status=b"000 OK"), None),
    Case("status 099", sized(SAID, status=b"099 OK"), None),
    Case("100 with a body", b"HTTP/1.1 100 Continue\r\nContent-Length: 4\r\n\r\nabcd" + OK, None, ends=True),
    Case("204 with a body", b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n{}", None, ends=True),
]
