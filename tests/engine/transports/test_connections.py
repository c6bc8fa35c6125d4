"""When a connection serves the next call, and when it must not: no call ever gets what was meant for another."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from bulksend.engine.connections import TURNS_MOST
from bulksend.engine.limiter import StoppedError
from bulksend.model import Endpoint, Lost, NotSent, Reply
from tests.engine.transports.conftest import ON_EACH_LOOP, WITH_TLS_TOO, Run, Serve
from tests.engine.transports.implementations import Make, opened
from tests.engine.transports.server import (
    DELETE,
    LAUNCH,
    OK,
    Answer,
    Heard,
    Server,
    ask,
    closed,
    discreet,
    echoing,
    go,
    reset,
    running,
    saying,
    settle,
    sized,
    to,
    turns,
)

Constant = Callable[[str, float], None]
BOTH = pytest.mark.parametrize("endpoint", [LAUNCH, DELETE], ids=["POST", "DELETE"])
STALE = sized(b"stale")


@ON_EACH_LOOP
@WITH_TLS_TOO
def test_calls_one_after_the_other_share_a_connection(make: Make, run: Run, serve: Serve) -> None:
    async def main() -> None:
        async with serve(echoing) as server, opened(make) as transport:
            for one in range(20):
                await ask(transport, server, str(one))
            assert (server.connections, len(server.requests)) == (1, 20)

    run(main())


def test_a_connection_that_was_idle_for_too_long_is_not_used(
    make: Make, run: Run, serve: Serve, constant: Constant
) -> None:
    constant("KEEP_ALIVE_S", 0.03)

    async def main() -> None:
        async with serve(echoing) as server, opened(make) as transport:
            for one in range(3):
                await ask(transport, server, str(one))
                await asyncio.sleep(0.05)
            assert server.came_on == [1, 2, 3]

    run(main())


@pytest.mark.parametrize("run", ["asyncio"], indirect=True)  # uvloop's time stands still while nothing else can run
def test_a_connection_is_not_used_late_where_nothing_could_run_to_close_it(
    make: Make, run: Run, constant: Constant
) -> None:
    constant("KEEP_ALIVE_S", 0.03)

    async def main() -> None:
        async with running(echoing) as server, opened(make) as transport:
            await ask(transport, server, "before")
            time.sleep(0.05)  # noqa: ASYNC251  # as a long pause of the process does
            await ask(transport, server, "after")
            assert server.came_on == [1, 2]

    run(main())


@WITH_TLS_TOO
@pytest.mark.parametrize("header", [b"Connection: close", b"X: y"])
def test_a_connection_that_cannot_be_used_again_is_closed_at_once(
    header: bytes, make: Make, run: Run, serve: Serve, constant: Constant
) -> None:
    constant("KEEP_ALIVE_S", 60)

    async def main() -> None:
        more = b"" if b"close" in header else STALE
        async with serve(saying(sized(b"{}", header) + more)) as server, opened(make) as transport:
            assert isinstance(await transport.send(to(server), go), Reply)
            await asyncio.wait_for(asyncio.wait(server.tasks), 10)

    run(main())


def test_idle_connections_are_closed_by_themselves(make: Make, run: Run, constant: Constant) -> None:
    constant("KEEP_ALIVE_S", 0.02)

    async def main() -> None:
        async with running(echoing) as server, opened(make) as transport:
            await asyncio.gather(*(ask(transport, server, str(one)) for one in range(5)))
            await asyncio.wait(server.tasks)  # each ends when the client closes its connection

    run(main())


@BOTH
@ON_EACH_LOOP
@WITH_TLS_TOO
@pytest.mark.parametrize("way", ["close", "half", "reset"])
def test_a_connection_that_was_closed_between_two_calls_is_replaced(
    endpoint: Endpoint, way: str, make: Make, run: Run, serve: Serve
) -> None:
    async def main() -> None:
        heard: list[Heard] = []

        async def answer(one: Heard) -> None:
            heard.append(one)
            await echoing(one)

        async with serve(answer) as server, opened(make) as transport:
            for one in range(3):
                await ask(transport, server, str(one), endpoint)
                if way == "reset":
                    heard[-1].reset()
                elif way == "half" and heard[-1].writer.can_write_eof():
                    heard[-1].writer.write_eof()
                else:
                    heard[-1].writer.close()
                await settle()
            assert server.came_on == [1, 2, 3]

    run(main())


@pytest.mark.parametrize(
    "stale",
    [
        STALE,
        b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\n\r\nwithout end",
        b"HTTP/1.1 4",
        b"junk",
        b"\0" * 100,
    ],
    ids=["a reply", "408", "100", "half a reply", "no end", "half a line", "junk", "zeros"],
)
@pytest.mark.parametrize("moment", ["idle", "at the gate", "at the gate of a new one"])
def test_what_comes_on_a_connection_before_the_request_is_no_reply(
    stale: bytes, moment: str, make: Make, run: Run, serve: Serve
) -> None:
    async def main() -> None:
        async with serve(echoing) as server, opened(make) as transport:
            unasked = 0

            async def leave() -> None:
                nonlocal unasked
                await server.connected.wait()
                unasked += 1
                if unasked == 1:
                    server.writers[-1].write(stale)
                    await settle()

            if moment != "at the gate of a new one":
                await ask(transport, server, "the first")
            if moment == "idle":
                server.writers[-1].write(stale)
                await settle()
                unasked = 1
            body = b"the second"
            result = await transport.send(to(server, body), leave)
            assert moment != "idle" or unasked == 2, "a turn was used for a connection that was known to be of no use"
            if isinstance(result, Reply):
                assert result.body == body
            else:
                # Half a line cannot be seen from outside of the parser, and its rest never makes a reply.
                assert stale == b"HTTP/1.1 4", result
            await ask(transport, server, "the third")
            assert len(server.requests) == len(set(server.requests))

    run(main())


@WITH_TLS_TOO
def test_a_second_reply_that_comes_after_the_first_is_nobodys(make: Make, run: Run, serve: Serve) -> None:
    async def main() -> None:
        async def twice(heard: Heard) -> None:
            await heard.say(sized(heard.body), STALE)

        async with serve(twice) as server, opened(make) as transport:
            for one in range(20):
                await ask(transport, server, str(one))
                await settle()
            assert len(server.requests) == 20

    run(main())


@BOTH
@pytest.mark.parametrize("end", [saying(close=True), reset], ids=["closed", "reset"])
@pytest.mark.parametrize("calls_before", [0, 1])
def test_a_connection_that_ends_after_the_request_left_is_lost_and_never_repeated(
    endpoint: Endpoint, end: Answer, calls_before: int, make: Make, run: Run, serve: Serve
) -> None:
    async def main() -> None:
        async with serve(echoing) as server, opened(make) as transport:
            for _ in range(calls_before):
                await ask(transport, server, "before", endpoint)
            server.answer = end
            left = 0

            async def leave() -> None:
                nonlocal left
                left += 1

            assert isinstance(discreet(await transport.send(to(server, endpoint=endpoint), leave)), Lost)
            assert (len(server.requests), left) == (calls_before + 1, 1)

    run(main())


@BOTH
@ON_EACH_LOOP
@WITH_TLS_TOO
def test_a_connection_that_ends_while_the_call_waits_costs_the_turn_and_not_the_call(
    endpoint: Endpoint, make: Make, run: Run, serve: Serve
) -> None:
    async def main() -> None:
        async with serve(echoing) as server, opened(make) as transport:
            await ask(transport, server, "the first", endpoint)
            left: list[int] = []

            async def leave() -> None:
                await settle()
                left.append(server.connections)
                if len(left) < 3:
                    await closed(server.writers[-1:])

            assert isinstance(await transport.send(to(server, endpoint=endpoint), leave), Reply)
            # A turn that a closed connection cost is not used a handshake later: the call waits for another.
            assert (left, server.came_on) == ([1, 2, 3], [1, 3])

    run(main())


def test_a_server_gone_while_the_call_waits_is_not_sent(make: Make, run: Run) -> None:
    async def main() -> None:
        server = Server(saying(OK))
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        server.port = listening.sockets[0].getsockname()[1]

        async def leave() -> None:
            listening.close()
            await server.connected.wait()
            await closed(server.writers)

        async with opened(make) as transport:
            assert isinstance(await transport.send(to(server), leave), NotSent)
        assert not server.requests
        await asyncio.wait(server.tasks)

    run(main())


@ON_EACH_LOOP
def test_a_server_that_closes_whatever_it_accepts_does_not_take_turns_for_ever(make: Make, run: Run) -> None:
    async def main() -> None:
        async with running(echoing) as server, opened(make) as transport:
            left = 0

            async def leave() -> None:
                nonlocal left
                left += 1
                while server.connections < left:
                    await turns(1)
                await closed(server.writers[-1:])

            result = await transport.send(to(server), leave)
            assert isinstance(result, NotSent)
            assert "before the call could leave" in result.reason
            assert (left, server.requests) == (TURNS_MOST, [])

    run(main())


def test_a_stop_while_waiting_for_the_turn_is_not_sent_and_leaves_the_connection(make: Make, run: Run) -> None:
    async def stopped() -> None:
        raise StoppedError

    async def main() -> None:
        async with running(echoing) as server, opened(make) as transport:
            for one in range(3):
                assert await transport.send(to(server), stopped) == NotSent("the run is stopping")
                await ask(transport, server, str(one))
            assert (server.connections, len(server.requests)) == (1, 3)

    run(main())


@pytest.mark.parametrize("wrong", [RuntimeError("a bug"), KeyError("x")])
def test_what_the_gate_raises_for_a_reason_of_its_own_is_not_swallowed(
    wrong: Exception, make: Make, run: Run, serve: Serve
) -> None:
    async def leave() -> None:
        raise wrong

    async def main() -> None:
        async with serve(echoing) as server, opened(make) as transport:
            for one in range(2):
                with pytest.raises(type(wrong)):
                    await transport.send(to(server), leave)
                assert len(server.requests) == one
                await ask(transport, server, str(one))

    run(main())


def test_nothing_leaves_before_the_turn_has_come(make: Make, run: Run, serve: Serve) -> None:
    async def main() -> None:
        turn = asyncio.Event()
        waits = asyncio.Event()

        async def leave() -> None:
            waits.set()
            await turn.wait()

        async with serve(echoing) as server, opened(make) as transport:
            pending = asyncio.create_task(transport.send(to(server), leave))
            await waits.wait()
            await server.connected.wait()
            await settle()
            assert not server.requests
            turn.set()
            assert isinstance(await pending, Reply)
            assert len(server.requests) == 1

    run(main())


def test_cookies_are_not_kept(make: Make, run: Run) -> None:
    async def main() -> None:
        async with running(saying(sized(b"{}", b"Set-Cookie: a=b; Path=/"))) as server, opened(make) as transport:
            for _ in range(3):
                assert isinstance(await transport.send(to(server), go), Reply)
            assert (server.connections, len(server.requests)) == (1, 3)
            assert not any(b"cookie" in request.lower() for request in server.requests)

    run(main())
