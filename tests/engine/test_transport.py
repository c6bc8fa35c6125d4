"""The transport over real sockets: how far a call got is never guessed."""

from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import cast

import pytest

from bulksend.engine.limiter import StoppedError
from bulksend.engine.transport import REPLY_MOST_BYTES, AiohttpTransport
from bulksend.model import Call, Endpoint, Limit, Lost, NotSent, Repeat, Reply

LAUNCH = Endpoint("x.launch", "POST", "/launch", Limit.parse("6000/min"), Repeat.NEVER)
DELETE = Endpoint("x.delete", "DELETE", "/launch", Limit.parse("6000/min"), Repeat.SAFE)
TOKEN = "token-that-must-not-show"
BODY = b'{"secret": "body-that-must-not-show"}'
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """A real server on a free port; `answer` is called for each request on each connection, after it was read whole."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.connections = 0
        self.requests: list[bytes] = []
        self.writers: list[asyncio.StreamWriter] = []
        self.port = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self.connected = asyncio.Event()
        self.asked = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        self.tasks.add(cast("asyncio.Task[None]", asyncio.current_task()))
        self.connected.set()
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
                body = await reader.readexactly(int(fields.get(b"content-length", b"0")))
                self.requests.append(head + body)
                self.asked.set()
                await self.answer(reader, writer)
                if writer.is_closing():
                    break
        writer.close()


@asynccontextmanager
async def running(answer: Answer) -> AsyncIterator[Server]:
    server = Server(answer)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, limit=1 << 20)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        for writer in server.writers:
            writer.transport.abort()
        if server.tasks:
            await asyncio.wait(server.tasks)


def saying(*parts: bytes, close: bool = False) -> Answer:
    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
        if close:
            writer.close()

    return answer


async def silence(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Answer nothing until the client goes."""
    await reader.read()


def call_to(port: int, endpoint: Endpoint = LAUNCH, path: str = "/launch") -> Call:
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    return Call(endpoint, f"http://127.0.0.1:{port}{path}", headers, BODY)


async def go() -> None:
    """Let the call leave at once."""


def refused_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


async def one_call(answer: Answer, *, call_timeout_s: float = 20.0) -> tuple[Reply | Lost | NotSent, Server]:
    async with running(answer) as server, AiohttpTransport(call_timeout_s=call_timeout_s) as transport:
        result = await transport.send(call_to(server.port), go)
    if not isinstance(result, Reply):
        assert TOKEN not in result.reason
        assert "must-not-show" not in result.reason
    return result, server


def test_a_whole_reply_with_header_names_in_lower_case() -> None:
    answer = saying(b"HTTP/1.1 429 Slow\r\nRetry-After: 7\r\nX-UPPER: Yes\r\nContent-Length: 3\r\n\r\nabc")
    result, server = asyncio.run(one_call(answer))
    assert isinstance(result, Reply)
    assert (result.status, result.body) == (429, b"abc")
    assert (result.headers["retry-after"], result.headers["x-upper"]) == ("7", "Yes")
    assert result.duration_s > 0
    (request,) = server.requests
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /launch HTTP/1.1\r\n")
    assert f"Authorization: Bearer {TOKEN}".encode() in head
    assert b"User-Agent: bulksend" in head
    assert body == BODY


def test_a_path_is_sent_as_it_is_written() -> None:
    async def main() -> None:
        async with running(saying(OK)) as server, AiohttpTransport() as transport:
            assert isinstance(await transport.send(call_to(server.port, path="/a%2Fb%20c"), go), Reply)
            assert server.requests[0].startswith(b"POST /a%2Fb%20c HTTP/1.1\r\n")

    asyncio.run(main())


def test_a_refused_port_is_not_sent() -> None:
    left = []

    async def leave() -> None:
        left.append(1)

    async def main() -> None:
        async with AiohttpTransport() as transport:
            result = await transport.send(call_to(refused_port()), leave)
        assert isinstance(result, NotSent)
        assert result.reason.startswith("no connection to 127.0.0.1:")
        assert TOKEN not in result.reason

    asyncio.run(main())
    assert not left, "a token of the limit was used for a call that has no connection"


def test_a_name_that_does_not_exist_is_not_sent() -> None:
    async def main() -> None:
        async with AiohttpTransport() as transport:
            call = Call(LAUNCH, "http://nobody.invalid/launch", {}, BODY)
            result = await transport.send(call, go)
        assert isinstance(result, NotSent)
        assert "nobody.invalid" in result.reason

    asyncio.run(main())


def test_tls_against_a_server_without_it_is_not_sent() -> None:
    async def main() -> None:
        async with running(saying(OK)) as server, AiohttpTransport() as transport:
            call = Call(LAUNCH, f"https://127.0.0.1:{server.port}/launch", {"Authorization": TOKEN}, BODY)
            pending = asyncio.create_task(transport.send(call, go))
            await server.connected.wait()
            server.writers[0].write(b"not TLS at all\r\n\r\n")
            result = await pending
            assert isinstance(result, NotSent)
            assert TOKEN not in result.reason
            assert not server.requests

    asyncio.run(main())


def test_no_connection_in_time_is_not_sent() -> None:
    """A server that accepts and never finishes the TLS handshake."""

    async def main() -> None:
        async with running(silence) as server, AiohttpTransport(connect_timeout_s=0.05) as transport:
            call = Call(LAUNCH, f"https://127.0.0.1:{server.port}/launch", {}, BODY)
            assert await transport.send(call, go) == NotSent("no connection within 0.05 s")

    asyncio.run(main())


def test_a_stop_while_waiting_for_the_turn_is_not_sent_and_the_server_sees_nothing() -> None:
    async def stopped() -> None:
        raise StoppedError

    async def main() -> None:
        async with running(saying(OK)) as server, AiohttpTransport() as transport:
            assert await transport.send(call_to(server.port), stopped) == NotSent("the run is stopping")
            # The connection was not used up: the next call goes over it.
            assert isinstance(await transport.send(call_to(server.port), go), Reply)
            assert (server.connections, len(server.requests)) == (1, 1)

    asyncio.run(main())


def test_nothing_leaves_before_the_turn_has_come() -> None:
    async def main() -> None:
        turn = asyncio.Event()
        waits = asyncio.Event()

        async def leave() -> None:
            waits.set()
            await turn.wait()

        async with (
            running(saying(OK)) as server,
            AiohttpTransport(call_timeout_s=20, connect_timeout_s=20) as transport,
        ):
            pending = asyncio.create_task(transport.send(call_to(server.port), leave))
            await waits.wait()
            await server.connected.wait()
            await asyncio.sleep(0.02)
            assert not server.requests
            turn.set()
            assert isinstance(await pending, Reply)
            assert len(server.requests) == 1

    asyncio.run(main())


def test_waiting_for_the_turn_is_counted_in_neither_timeout_nor_in_the_duration() -> None:
    left_s = 0.0

    async def leave() -> None:
        nonlocal left_s
        await asyncio.sleep(0.7)
        left_s = asyncio.get_running_loop().time()

    async def main() -> None:
        transport = AiohttpTransport(call_timeout_s=0.6, connect_timeout_s=0.6)
        async with running(saying(OK)) as server, transport:
            result = await transport.send(call_to(server.port), leave)
            assert isinstance(result, Reply)
            assert result.duration_s <= asyncio.get_running_loop().time() - left_s

    asyncio.run(main())


@pytest.mark.parametrize("endpoint", [LAUNCH, DELETE], ids=["POST", "DELETE"])
def test_a_connection_closed_while_the_call_waited_is_replaced_and_one_request_is_seen(endpoint: Endpoint) -> None:
    async def main() -> None:
        async with running(saying(OK)) as server, AiohttpTransport() as transport:
            assert isinstance(await transport.send(call_to(server.port, endpoint), go), Reply)
            turns = 0

            async def leave() -> None:
                nonlocal turns
                turns += 1
                server.writers[0].close()
                await server.writers[0].wait_closed()
                await asyncio.sleep(0.05)  # the client's loop sees the end of the connection

            assert isinstance(await transport.send(call_to(server.port, endpoint), leave), Reply)
            # The turn that the closed connection cost is not used a handshake later: the call waits for another.
            assert (server.connections, len(server.requests), turns) == (2, 2, 2)

    asyncio.run(main())


def test_a_server_gone_while_the_call_waited_is_not_sent() -> None:
    async def main() -> None:
        server = Server(saying(OK))
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]

        async def leave() -> None:
            listening.close()
            await server.connected.wait()
            server.writers[0].close()
            await server.writers[0].wait_closed()
            await asyncio.sleep(0.05)

        async with AiohttpTransport() as transport:
            result = await transport.send(call_to(port), leave)
        assert isinstance(result, NotSent)
        assert not server.requests

    asyncio.run(main())


async def reset(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    linger = b"\1\0\0\0\0\0\0\0"
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


@pytest.mark.parametrize("endpoint", [LAUNCH, DELETE], ids=["POST", "DELETE"])
@pytest.mark.parametrize("end", [saying(close=True), reset], ids=["closed", "reset"])
@pytest.mark.parametrize("calls_before", [0, 1])
def test_a_connection_that_ends_after_the_request_left_is_lost_and_never_repeated(
    endpoint: Endpoint, end: Answer, calls_before: int
) -> None:
    async def main() -> None:
        async with running(saying(OK)) as server, AiohttpTransport() as transport:
            for _ in range(calls_before):
                assert isinstance(await transport.send(call_to(server.port, endpoint), go), Reply)
            server.answer = end
            turns = 0

            async def leave() -> None:
                nonlocal turns
                turns += 1

            result = await transport.send(call_to(server.port, endpoint), leave)
            assert isinstance(result, Lost)
            assert TOKEN not in result.reason
            assert (len(server.requests), turns) == (calls_before + 1, 1)

    asyncio.run(main())


BIG = b"x" * (REPLY_MOST_BYTES + 1)
ZIPPED = gzip.compress(b" " * (2 * REPLY_MOST_BYTES))


def sized(body: bytes, *headers: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\n" + b"".join(one + b"\r\n" for one in headers)
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",), "the reply broke off"),
        ((b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n",), "the reply broke off"),
        ((b"HTTP/1.1 200 OK\r\nContent-Le",), ""),
        ((b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",), ""),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\n{}",), ""),
        ((b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",), ""),
        ((b"220 mail.example.com ESMTP\r\n",), "the reply is not HTTP"),
        ((b"\x16\x03\x01\x00\xff" * 50,), "the reply is not HTTP"),
        ((b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",), ""),
        ((sized(b"{}", *(b"X-%d: " % number + b"x" * 1000 for number in range(1000))),), ""),
        ((sized(BIG),), "the reply is larger than 16 MiB"),
        ((b"HTTP/1.1 200 OK\r\n\r\n", BIG), "the reply is larger than 16 MiB"),
        ((sized(ZIPPED, b"Content-Encoding: gzip"),), "the reply is larger than 16 MiB"),
    ],
    ids=[
        "cut short",
        "chunks without an end",
        "cut in the head",
        "no chunk size",
        "no length",
        "not gzip",
        "another protocol",
        "TLS alert",
        "long header",
        "flood of headers",
        "over 16 MiB",
        "over 16 MiB without a length",
        "gzip bomb",
    ],
)
def test_no_whole_and_bounded_reply_is_lost(parts: tuple[bytes, ...], reason: str) -> None:
    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            for part in parts:
                writer.write(part)
                await writer.drain()
        writer.close()

    result, server = asyncio.run(one_call(answer))
    assert isinstance(result, Lost)
    assert reason in result.reason
    assert len(server.requests) == 1
    assert len(ZIPPED) < REPLY_MOST_BYTES // 100


def test_a_reply_of_exactly_1_mib_is_whole() -> None:
    result, _ = asyncio.run(one_call(saying(sized(b"x" * REPLY_MOST_BYTES))))
    assert isinstance(result, Reply)
    assert len(result.body) == REPLY_MOST_BYTES


def test_a_zipped_reply_is_read() -> None:
    result, _ = asyncio.run(one_call(saying(sized(gzip.compress(b'{"success": true}'), b"Content-Encoding: gzip"))))
    assert isinstance(result, Reply)
    assert result.body == b'{"success": true}'


@pytest.mark.parametrize(
    "answer",
    [silence, saying(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{"), saying(b"HTTP/1.1 100 Continue\r\n\r\n")],
    ids=["silent", "stuck in the body", "100 and no more"],
)
def test_no_whole_reply_in_time_is_lost(answer: Answer) -> None:
    result, server = asyncio.run(one_call(answer, call_timeout_s=0.05))
    assert result == Lost("no whole reply within 0.05 s")
    assert len(server.requests) == 1


def test_a_reply_that_trickles_for_ever_is_lost() -> None:
    """The clock is for the whole call, not for each byte."""

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    result, _ = asyncio.run(one_call(answer, call_timeout_s=0.1))
    assert result == Lost("no whole reply within 0.1 s")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    async def main() -> None:
        async with running(saying(OK)) as target, AiohttpTransport() as transport:
            said = f"HTTP/1.1 {status} Moved\r\nLocation: http://127.0.0.1:{target.port}/x\r\nContent-Length: 0\r\n\r\n"
            async with running(saying(said.encode())) as server:
                result = await transport.send(call_to(server.port), go)
                assert isinstance(result, Reply)
                assert result.status == status
                assert len(server.requests) == 1
            assert target.connections == 0

    asyncio.run(main())


def test_connections_are_kept_and_cookies_are_not() -> None:
    async def main() -> None:
        answer = saying(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 2\r\n\r\n{}")
        async with running(answer) as server, AiohttpTransport() as transport:
            for _ in range(3):
                assert isinstance(await transport.send(call_to(server.port), go), Reply)
            assert (server.connections, len(server.requests)) == (1, 3)
            assert not any(b"cookie" in request.lower() for request in server.requests)

    asyncio.run(main())


def test_calls_at_the_same_time_have_their_own_connections_and_turns() -> None:
    async def main() -> None:
        async with running(saying(OK)) as server, AiohttpTransport() as transport:
            left = 0

            async def leave() -> None:
                nonlocal left
                left += 1
                await asyncio.sleep(0.001 * (left % 3))

            results = await asyncio.gather(*(transport.send(call_to(server.port), leave) for _ in range(30)))
            assert all(isinstance(result, Reply) for result in results)
            assert (left, len(server.requests)) == (30, 30)

    asyncio.run(main())


@pytest.mark.parametrize("wrong", [RuntimeError("a bug"), KeyError("x")])
def test_what_the_gate_raises_for_a_reason_of_its_own_is_not_swallowed(wrong: Exception) -> None:
    async def leave() -> None:
        raise wrong

    async def main() -> None:
        async with running(saying(OK)) as server, AiohttpTransport() as transport:
            with pytest.raises(type(wrong)):
                await transport.send(call_to(server.port), leave)
            assert not server.requests

    asyncio.run(main())


def test_a_cancelled_call_is_cancelled() -> None:
    async def main() -> None:
        async with running(silence) as server, AiohttpTransport() as transport:
            pending = asyncio.create_task(transport.send(call_to(server.port), go))
            await server.asked.wait()
            pending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await pending

    asyncio.run(main())


def test_a_closed_transport_opens_again() -> None:
    async def main() -> None:
        async with running(saying(OK)) as server:
            transport = AiohttpTransport()
            await transport.close()
            assert isinstance(await transport.send(call_to(server.port), go), Reply)
            await transport.close()
            await transport.close()
            assert isinstance(await transport.send(call_to(server.port), go), Reply)
            await transport.close()

    asyncio.run(main())


def test_a_reply_that_does_not_come_in_time_is_told_and_still_taken() -> None:
    told: list[Callable[[], None]] = []
    may_answer = asyncio.Event()

    async def late(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await may_answer.wait()
        writer.write(OK)

    def overdue(give_up: Callable[[], None]) -> None:
        told.append(give_up)
        may_answer.set()

    async def main() -> Reply | Lost | NotSent:
        async with running(late) as server, AiohttpTransport(call_timeout_s=0.05) as transport:
            return await transport.send(call_to(server.port), go, overdue)

    result = asyncio.run(main())
    assert isinstance(result, Reply)
    assert result.body == b"{}"
    assert result.duration_s >= 0.05
    assert len(told) == 1
    told[0]()  # it is too late to give up, and does no harm


@pytest.mark.parametrize("at_once", [True, False])
def test_the_wait_for_a_late_reply_can_be_given_up(at_once: bool) -> None:
    def overdue(give_up: Callable[[], None]) -> None:
        if at_once:
            give_up()
        else:
            asyncio.get_running_loop().call_later(0.05, give_up)

    async def main() -> Reply | Lost | NotSent:
        async with running(silence) as server, AiohttpTransport(call_timeout_s=0.05) as transport:
            return await transport.send(call_to(server.port), go, overdue)

    assert asyncio.run(main()) == Lost("no whole reply within 0.05 s")


def test_nobody_is_told_of_a_call_that_is_in_time() -> None:
    told: list[Callable[[], None]] = []

    async def main() -> None:
        async with running(saying(OK)) as server, AiohttpTransport(call_timeout_s=0.2) as transport:
            for _ in range(3):
                assert isinstance(await transport.send(call_to(server.port), go, told.append), Reply)
            await asyncio.sleep(0.3)

    asyncio.run(main())
    assert told == []
