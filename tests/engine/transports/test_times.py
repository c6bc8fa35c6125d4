"""What a call may take, phase by phase: no test has a bound on how fast a transport is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from aiohttp.client_proto import ResponseHandler

from bulksend.model import Call, Lost, NotSent, Reply
from tests.engine.transports.conftest import Run, Serve
from tests.engine.transports.implementations import Make, opened
from tests.engine.transports.server import (
    BODY,
    JSON,
    LAUNCH,
    OK,
    TOKEN,
    Answer,
    Heard,
    ask,
    discreet,
    echoing,
    full_backlog,
    go,
    no_turn,
    refused_port,
    running,
    saying,
    silence,
    to,
)


def test_no_connection_in_time_is_not_sent(make: Make, run: Run) -> None:
    async def main() -> None:
        with full_backlog() as port:
            async with opened(make, connect_timeout_s=0.05) as transport:
                result = await transport.send(Call(LAUNCH, f"http://127.0.0.1:{port}/", JSON, BODY), no_turn)
                assert result == NotSent("no connection within 0.05 s")

    run(main())


def test_a_tls_handshake_that_is_not_answered_is_not_sent(make: Make, run: Run) -> None:
    async def main() -> None:
        async with running(silence) as server, opened(make, connect_timeout_s=0.05) as transport:
            result = await transport.send(Call(LAUNCH, f"https://127.0.0.1:{server.port}/", JSON, BODY), no_turn)
            assert result == NotSent("no connection within 0.05 s")

    run(main())


def test_a_refused_port_is_not_sent(make: Make, run: Run) -> None:
    async def main() -> None:
        async with opened(make) as transport:
            call = Call(LAUNCH, f"http://127.0.0.1:{refused_port()}/", {**JSON, "Authorization": TOKEN}, BODY)
            result = discreet(await transport.send(call, no_turn))
        assert isinstance(result, NotSent)
        assert result.reason.startswith("no connection to 127.0.0.1:")

    run(main())


def test_a_name_that_does_not_exist_is_not_sent(make: Make, run: Run) -> None:
    async def main() -> None:
        async with opened(make) as transport:
            result = await transport.send(Call(LAUNCH, "http://nobody.invalid/launch", JSON, BODY), no_turn)
        assert result == NotSent("the name nobody.invalid is not found")

    run(main())


def test_waiting_for_the_turn_is_counted_in_neither_timeout_nor_in_the_duration(make: Make, run: Run) -> None:
    left_s = 0.0

    async def leave() -> None:
        nonlocal left_s
        await asyncio.sleep(1.1)
        left_s = asyncio.get_running_loop().time()

    async def main() -> None:
        async with running(saying(OK)) as server, opened(make, call_timeout_s=1, connect_timeout_s=1) as transport:
            result = await transport.send(to(server), leave)
            assert isinstance(result, Reply)
            assert result.duration_s <= asyncio.get_running_loop().time() - left_s

    run(main())


async def trickle(heard: Heard) -> None:
    """Send a byte now and then, for ever: the clock is for the whole call, not for each byte."""
    heard.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while not heard.writer.is_closing():
        await heard.say(b"x")
        await asyncio.sleep(0.005)


async def trickling_head(heard: Heard) -> None:
    heard.writer.write(b"HTTP/1.1 200 OK\r\n")
    while not heard.writer.is_closing():
        await heard.say(b"X: y\r\n")
        await asyncio.sleep(0.005)


async def continuing(heard: Heard) -> None:
    while not heard.writer.is_closing():
        await heard.say(b"HTTP/1.1 100 Continue\r\n\r\n")
        await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    "answer",
    [
        silence,
        saying(b"HTTP/1.1 200 OK\r\nContent-Le"),
        saying(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{"),
        saying(b"HTTP/1.1 200 OK\r\n\r\n{}"),
        saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"),
        saying(b"HTTP/1.1 100 Continue\r\n\r\n"),
        trickle,
        trickling_head,
        continuing,
    ],
    ids=["silence", "head", "body", "no end", "chunks", "100", "trickle", "a trickle of headers", "100 for ever"],
)
def test_no_whole_reply_in_time_is_lost(answer: Answer, make: Make, run: Run) -> None:
    """And a reply that comes later is not the next call's."""

    async def main() -> None:
        async with running(answer) as server, opened(make, call_timeout_s=0.05) as transport:
            assert await transport.send(to(server), go) == Lost("no whole reply within 0.05 s")
            assert len(server.requests) == 1
            assert await transport.send(to(server), go) == Lost("no whole reply within 0.05 s")
            assert server.came_on == [1, 2]

    run(main())


Told = list[Callable[[], None]]


@pytest.mark.parametrize("phase", ["head", "body"])
def test_a_reply_that_does_not_come_in_time_is_told_and_still_taken(
    phase: str, make: Make, run: Run, serve: Serve
) -> None:
    async def main() -> None:
        told: Told = []
        may_answer = asyncio.Event()

        async def late(heard: Heard) -> None:
            await heard.say(OK[: -2 if phase == "body" else 0])
            await may_answer.wait()
            await heard.say(OK[-2 if phase == "body" else 0 :])

        def overdue(give_up: Callable[[], None]) -> None:
            told.append(give_up)
            may_answer.set()

        async with serve(late) as server, opened(make, call_timeout_s=0.05) as transport:
            result = await transport.send(to(server), go, overdue)
            assert isinstance(result, Reply)
            assert result.body == b"{}"
            assert result.duration_s >= 0.045
            assert len(told) == 1
            told[0]()  # it is too late to give up, and does no harm

    run(main())


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("answer", [silence, trickle], ids=["head", "body"])
def test_the_wait_for_a_late_reply_can_be_given_up(at_once: bool, answer: Answer, make: Make, run: Run) -> None:
    async def main() -> None:
        def overdue(give_up: Callable[[], None]) -> None:
            if at_once:
                give_up()
                give_up()
            else:
                asyncio.get_running_loop().call_later(0.02, give_up)

        async with running(answer) as server, opened(make, call_timeout_s=0.03) as transport:
            assert await transport.send(to(server), go, overdue) == Lost("no whole reply within 0.03 s")
            await asyncio.sleep(0.03)

    run(main())


@pytest.mark.parametrize("answer", [silence, trickle], ids=["head", "body"])
def test_patience_has_an_end(answer: Answer, make: Make, run: Run, constant: Callable[[str, float], None]) -> None:
    constant("PATIENCE_S", 0.05)

    async def main() -> None:
        told: Told = []
        async with running(answer) as server, opened(make, call_timeout_s=0.03) as transport:
            assert await transport.send(to(server), go, told.append) == Lost("no whole reply within 0.03 s")
            assert len(told) == 1
            told[0]()

    run(main())


def test_nobody_is_told_of_a_call_that_is_in_time(make: Make, run: Run) -> None:
    async def main() -> None:
        told: Told = []

        async def lost(heard: Heard) -> None:
            heard.writer.close()

        async with running(echoing) as server, opened(make, call_timeout_s=1) as transport:
            for _ in range(3):
                await ask(transport, server, "x")
                assert isinstance(await transport.send(to(server), go, told.append), Reply)
            server.answer = lost
            assert isinstance(await transport.send(to(server), go, told.append), Lost)
            await asyncio.sleep(1.1)
            assert told == []

    run(main())


def test_a_time_out_of_the_network_proves_nothing_once_the_call_has_left(
    make: Make, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def timed_out(_: ResponseHandler) -> None:
        raise TimeoutError(110, "Connection timed out")

    async def main() -> None:
        async with running(echoing) as server, opened(make) as transport:
            await ask(transport, server, "before")
            monkeypatch.setattr(ResponseHandler, "read", timed_out)
            assert isinstance(discreet(await transport.send(to(server), go)), Lost)

    run(main())
