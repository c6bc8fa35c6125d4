"""A server that is written by hand, byte by byte, and the calls that are made to it."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import cast

from bulksend.engine.transport import Transport
from bulksend.model import Call, Endpoint, Limit, Lost, NotSent, Repeat, Reply

LAUNCH = Endpoint("x.launch", "POST", "/launch", Limit.parse("6000/min"), Repeat.NEVER)
DELETE = Endpoint("x.delete", "DELETE", "/launch", Limit.parse("6000/min"), Repeat.SAFE)
LIST = Endpoint("x.list", "GET", "/launch", Limit.parse("6000/min"), Repeat.SAFE)
TOKEN = "token-that-must-not-show"
JSON = {"Content-Type": "application/json"}
"""Without it, a request is not one that the direct transport makes itself."""
BODY = b'{"secret": "body-that-must-not-show"}'
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_LINGER = b"\1\0\0\0\0\0\0\0"

Result = Reply | Lost | NotSent


@dataclass(frozen=True, slots=True)
class Heard:
    """A request that was read whole, and the connection it came on: `nth` of this server, from 1."""

    request: bytes
    nth: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def target(self) -> str:
        return self.request.split(b" ", 2)[1].decode()

    @property
    def body(self) -> bytes:
        return self.request.partition(b"\r\n\r\n")[2]

    async def say(self, *pieces: bytes) -> None:
        """Write piece by piece, so that the client reads each by itself."""
        with suppress(ConnectionError):
            for piece in pieces:
                self.writer.write(piece)
                await self.writer.drain()
                await turns(3)

    def reset(self) -> None:
        """End the connection with an RST, which takes what was not read with it."""
        # uvloop's own socket object takes no options.
        with socket.socket(fileno=os.dup(self.writer.get_extra_info("socket").fileno())) as copy:
            copy.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
        self.writer.transport.abort()


Answer = Callable[[Heard], Awaitable[None]]


class Server:
    """A real server on a free port; `answer` is called for each request on each connection, after it was read whole."""

    def __init__(self, answer: Answer, *, secure: bool = False) -> None:
        self.answer = answer
        self.secure = secure
        self.connections = 0
        self.requests: list[bytes] = []
        self.came_on: list[int] = []
        """Of each request, which connection."""
        self.writers: list[asyncio.StreamWriter] = []
        self.port = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self.connected = asyncio.Event()
        self.asked = asyncio.Event()

    def url(self, path: str = "/launch") -> str:
        return f"http{'s' if self.secure else ''}://127.0.0.1:{self.port}{path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        nth = self.connections
        self.writers.append(writer)
        self.tasks.add(cast("asyncio.Task[None]", asyncio.current_task()))
        self.connected.set()
        with suppress(OSError, RuntimeError, asyncio.IncompleteReadError):  # RuntimeError: uvloop, of a closed one
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = _LENGTH.search(head)
                request = head + await reader.readexactly(int(length[1]) if length else 0)
                self.requests.append(request)
                self.came_on.append(nth)
                self.asked.set()
                await self.answer(Heard(request, nth, reader, writer))
                if writer.is_closing():
                    break
        writer.close()


@asynccontextmanager
async def running(answer: Answer, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> AsyncIterator[Server]:
    server = Server(answer, secure=tls is not None)
    listening = await asyncio.start_server(server.serve, host, 0, limit=1 << 20, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        await turns(5)  # a connection that was just made has its task by then
        for writer in server.writers:
            writer.transport.abort()
        if server.tasks:
            await asyncio.wait(server.tasks)
        for writer in server.writers:
            with suppress(OSError):
                await writer.wait_closed()


def saying(*pieces: bytes, close: bool = False) -> Answer:
    async def answer(heard: Heard) -> None:
        await heard.say(*pieces)
        if close:
            heard.writer.close()

    return answer


def in_turn(*answers: Answer) -> Answer:
    """Answer the first request with the first, and so on; the last one stays."""
    left = list(answers)

    async def answer(heard: Heard) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(heard)

    return answer


async def silence(heard: Heard) -> None:
    """Answer nothing until the client goes."""
    await heard.reader.read()


async def echoing(heard: Heard) -> None:
    """Send the request's own body back."""
    heard.writer.write(sized(heard.body))


async def reset(heard: Heard) -> None:
    heard.reset()


def sized(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    head = b"HTTP/1.1 %s\r\n" % status + b"".join(one + b"\r\n" for one in headers)
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def chunks(*parts: bytes, trailers: bytes = b"") -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (*parts, b"")).removesuffix(b"\r\n") + (
        trailers + b"\r\n"
    )


def chunked(*parts: bytes, headers: bytes = b"", trailers: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + headers + b"\r\n" + chunks(*parts, trailers=trailers)


def call_to(port: int, endpoint: Endpoint = LAUNCH, path: str = "/launch") -> Call:
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    return Call(endpoint, f"http://127.0.0.1:{port}{path}", headers, BODY)


def to(server: Server, body: bytes = BODY, endpoint: Endpoint = LAUNCH, path: str = "/launch") -> Call:
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    return Call(endpoint, server.url(path), headers, body)


async def go() -> None:
    """Let the call leave at once."""


async def ask(transport: Transport, server: Server, said: str, endpoint: Endpoint = LAUNCH) -> None:
    """Make a call to a server that echoes, and see that its reply is its own."""
    body = f'{{"this": "{said}"}}'.encode()
    result = await transport.send(to(server, body, endpoint), go)
    assert isinstance(result, Reply), result
    assert (result.status, result.body) == (200, body)


def discreet(result: Result) -> Result:
    """See that what is said of a call holds nothing of its headers or body."""
    if not isinstance(result, Reply):
        assert TOKEN not in result.reason
        assert "must-not-show" not in result.reason
    return result


async def turns(many: int) -> None:
    """Let the event loop go round."""
    for _ in range(many):
        await asyncio.sleep(0)


async def settle() -> None:
    """Let what is on its way between two sockets of this process arrive; of what comes unasked, nobody is told."""
    await turns(10)
    await asyncio.sleep(0.003)
    await turns(10)


async def closed(writers: Iterable[asyncio.StreamWriter]) -> None:
    """Close connections from the server's side, and let the client see it."""
    for writer in writers:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    await settle()


def refused_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def full_backlog() -> Iterator[int]:
    """Give a port whose server accepts nobody, and where nobody else can queue."""
    with socket.socket() as listening, ExitStack() as stack:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(listening.getsockname())
        yield int(listening.getsockname()[1])


async def no_turn() -> None:
    raise AssertionError("a turn was used for a call that has no connection")
