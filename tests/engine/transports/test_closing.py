"""What closing a transport means for the calls that are under way: never a reply's time, and never a guess."""

from __future__ import annotations

import asyncio

import pytest

from bulksend.model import Call, Lost, NotSent
from tests.engine.transports.conftest import ON_EACH_LOOP, WITH_TLS_TOO, Run, Serve
from tests.engine.transports.implementations import Make, opened
from tests.engine.transports.server import (
    JSON,
    LAUNCH,
    TOKEN,
    Heard,
    ask,
    discreet,
    echoing,
    full_backlog,
    go,
    in_turn,
    no_turn,
    running,
    silence,
    to,
    turns,
)

CLOSED = NotSent("the transport was closed")


@WITH_TLS_TOO
def test_a_closed_transport_opens_again(make: Make, run: Run, serve: Serve) -> None:
    async def main() -> None:
        async with serve(echoing) as server:
            transport = make()
            await transport.close()
            for one in range(3):
                await ask(transport, server, str(one))
                await transport.close()
                await transport.close()
            assert server.connections == 3

    run(main())


@ON_EACH_LOOP
@WITH_TLS_TOO
@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n1",
        b"HTTP/1.1 200 OK\r\n\r\n1",
        b"HTTP/1.1 102 Go on\r\n\r\n",
    ],
    ids=["no head", "half a body", "a body without length", "102"],
)
def test_calls_that_had_left_are_lost(begun: bytes, make: Make, run: Run, serve: Serve) -> None:
    async def main() -> None:
        silent = asyncio.Event()

        async def answer(heard: Heard) -> None:
            await heard.say(begun)
            silent.set()
            await heard.reader.read()

        async with serve(answer) as server, opened(make) as transport:
            left = asyncio.create_task(transport.send(to(server), go))
            await silent.wait()
            await turns(10)
            await transport.close()
            assert isinstance(discreet(await asyncio.wait_for(left, 10)), Lost)
            server.answer = echoing
            await ask(transport, server, "the next")

    run(main())


@ON_EACH_LOOP
def test_a_request_that_is_not_read_is_lost(make: Make, run: Run) -> None:
    async def main() -> None:
        taken: list[asyncio.StreamWriter] = []
        tasks: list[asyncio.Task[None] | None] = []
        seen = asyncio.Event()

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            tasks.append(asyncio.current_task())
            taken.append(writer)
            await seen.wait()
            writer.transport.abort()

        listening = await asyncio.start_server(accept, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        transport = make(call_timeout_s=30.0, connect_timeout_s=30.0)
        call = Call(LAUNCH, f"http://127.0.0.1:{port}/", JSON, bytes(32 << 20))
        left = asyncio.create_task(transport.send(call, go))
        while not taken:
            await turns(1)
        await asyncio.sleep(0.05)
        async with asyncio.timeout(10):
            await transport.close()
            assert isinstance(await left, Lost)
        listening.close()
        seen.set()
        await asyncio.wait([task for task in tasks if task is not None])

    run(main())


@ON_EACH_LOOP
@WITH_TLS_TOO
@pytest.mark.parametrize("is_warm", [False, True])
def test_calls_that_wait_for_their_turn_are_not_sent(make: Make, run: Run, serve: Serve, *, is_warm: bool) -> None:
    async def main() -> None:
        turn, waits = asyncio.Event(), asyncio.Event()
        left = 0

        async def leave() -> None:
            nonlocal left
            left += 1
            waits.set()
            await turn.wait()

        async with serve(echoing) as server, opened(make) as transport:
            if is_warm:
                await ask(transport, server, "before")
            pending = asyncio.create_task(transport.send(to(server), leave))
            await waits.wait()
            await transport.close()
            turn.set()
            assert await asyncio.wait_for(pending, 10) == CLOSED
            assert (left, server.connections, len(server.requests)) == (1, 1, int(is_warm))
            server.answer = in_turn(echoing)
            await ask(transport, server, "the next")

    run(main())


@ON_EACH_LOOP
def test_calls_that_wait_for_a_connection_are_not_sent(make: Make, run: Run) -> None:
    async def main() -> None:
        async with running(silence) as server:
            with full_backlog() as port:
                for url in (
                    f"http://127.0.0.1:{port}/",
                    f"https://127.0.0.1:{server.port}/",
                    "http://nobody.invalid/",
                ):
                    async with opened(make) as transport:
                        call = Call(LAUNCH, url, {**JSON, "Authorization": TOKEN}, b"")
                        pending = asyncio.create_task(transport.send(call, no_turn))
                        await turns(3)
                        await asyncio.sleep(0.02 if url.startswith("https") else 0)
                        await transport.close()
                        result = await asyncio.wait_for(pending, 10)
                        assert result in (CLOSED, NotSent("the name nobody.invalid is not found"))

    run(main())
