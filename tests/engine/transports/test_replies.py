"""What is a whole reply and what is none: the same bytes mean the same to every transport."""

from __future__ import annotations

import asyncio
import gzip
import random
from contextlib import suppress

import pytest

from bulksend.engine.transport import REPLY_MOST_BYTES
from bulksend.model import Call, Lost, Reply
from tests.engine.transports.cases import HEAD, NONE, SAID, WHOLE, Case, in_chunks, with_length
from tests.engine.transports.conftest import ON_EACH_LOOP, WITH_TLS_TOO, Run, Serve, runner_on
from tests.engine.transports.implementations import Make, opened
from tests.engine.transports.server import (
    BODY,
    JSON,
    LAUNCH,
    TOKEN,
    Heard,
    ask,
    chunked,
    discreet,
    echoing,
    go,
    in_turn,
    running,
    saying,
    settle,
    sized,
    to,
)


@pytest.mark.parametrize("case", WHOLE + NONE, ids=lambda case: case.name)
def test_a_reply_and_the_call_after_it(case: Case, make: Make, run: Run) -> None:
    async def main() -> None:
        async with (
            running(in_turn(saying(case.reply, close=case.ends), echoing)) as server,
            opened(make) as transport,
        ):
            result = discreet(await transport.send(to(server), go))
            if case.body is None:
                assert isinstance(result, Lost), result
            else:
                assert isinstance(result, Reply), result
                assert (result.status, result.body) == (case.status, case.body)
                assert result.duration_s >= 0  # uvloop tells time in whole milliseconds
            if case.ends:
                await asyncio.wait(server.tasks)
                await settle()
            await ask(transport, server, "the next")
            assert len(server.requests) == 2
            if case.is_kept is not None:
                assert server.connections == (1 if case.is_kept else 2)

    run(main())


@pytest.mark.parametrize("case", [case for case in NONE if case.body is None and not case.ends], ids=lambda c: c.name)
def test_what_cannot_be_read_hurts_nobody_when_it_comes_piece_by_piece(case: Case, make: Make, run: Run) -> None:
    """What is left of it is not taken for the reply of the next call."""

    async def main() -> None:
        async with running(in_turn(saying(*split(case.reply, 5)), echoing)) as server, opened(make) as transport:
            assert isinstance(await transport.send(to(server), go), Lost)
            await ask(transport, server, "the next")

    run(main())


def split(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


SPLIT = [case for case in WHOLE if not case.ends and len(case.reply) < 250 and case.is_kept]


@pytest.mark.parametrize("case", SPLIT, ids=lambda case: case.name)
def test_a_reply_that_is_split_anywhere_is_the_same(case: Case, make: Make) -> None:
    at = 0

    async def answer(heard: Heard) -> None:
        await heard.say(case.reply[:at], case.reply[at:])

    async def main() -> None:
        nonlocal at
        async with running(answer) as server, opened(make) as transport:
            for at in range(1, len(case.reply)):
                result = await transport.send(to(server), go)
                assert isinstance(result, Reply), (at, result)
                assert (result.status, result.body) == (case.status, case.body), at
            assert server.connections == 1

    runner_on("uvloop")(main())


@ON_EACH_LOOP
@WITH_TLS_TOO
def test_replies_in_pieces_of_all_sizes(make: Make, run: Run, serve: Serve) -> None:
    """Every whole reply, cut at points that a dice picks, one byte at a time among them."""
    dice = random.Random(7)
    many = [case for case in WHOLE if not case.ends and len(case.reply) < 1000 and case.is_kept]
    pieces: list[bytes] = []

    async def answer(heard: Heard) -> None:
        await heard.say(*pieces)

    async def main() -> None:
        nonlocal pieces
        async with serve(answer) as server, opened(make) as transport:
            for case in many:
                for size in (1, dice.randint(2, 20), dice.randint(20, 100)):
                    pieces = split(case.reply, size)
                    result = await transport.send(to(server), go)
                    assert isinstance(result, Reply), (case.name, size, result)
                    assert (result.status, result.body) == (case.status, case.body), (case.name, size)

    run(main())


LATE = [case for case in NONE if case.reply.startswith(HEAD + b"Transfer") and case.body is None]


@pytest.mark.parametrize("case", LATE, ids=lambda case: case.name)
def test_a_broken_chunk_that_comes_after_the_head_is_lost(case: Case, make: Make) -> None:
    async def main() -> None:
        answer = in_turn(saying(case.reply[:47], case.reply[47:], close=True), echoing)
        async with running(answer) as server, opened(make) as transport:
            assert isinstance(discreet(await transport.send(to(server), go)), Lost)
            await ask(transport, server, "the next")

    runner_on("uvloop")(main())


SAID_OF = {
    "nothing": "the connection was closed without a reply",
    "a body cut": "the reply broke off",
    "chunks without an end": "the reply broke off",
    "gzip cut": "the reply broke off",
    "mail": "the reply is not HTTP",
    "TLS": "the reply is not HTTP",
    "101 without a word": "the reply is not HTTP",
    "status 099": "the reply is not HTTP",
    "gzip and more": "the reply cannot be unpacked",
    "br, which nobody asked for": "the reply is packed as 'br', which was not asked for",
    "gzip in two headers": "the reply is packed as 'gzip, gzip', which was not asked for",
}


@pytest.mark.parametrize("case", [case for case in NONE if case.name in SAID_OF], ids=lambda case: case.name)
def test_what_is_said_of_a_reply_that_is_none(case: Case, make: Make, run: Run) -> None:
    async def main() -> None:
        async with running(saying(case.reply, close=case.ends)) as server, opened(make) as transport:
            assert await transport.send(to(server), go) == Lost(SAID_OF[case.name])

    run(main())


@ON_EACH_LOOP
@pytest.mark.parametrize("begun", [HEAD + b"\r\n{}", with_length(b"18"), in_chunks(b"11\r\n" + SAID)])
def test_a_reset_is_no_end_of_a_reply(begun: bytes, make: Make, run: Run) -> None:
    async def main() -> None:
        async with opened(make) as transport:

            async def answer(heard: Heard) -> None:
                await heard.say(begun)
                await settle()
                heard.reset()

            async with running(answer) as server:
                assert await transport.send(to(server), go) == Lost("the reply broke off")

    run(main())


BYTEWISE = [case for case in NONE if len(case.reply) < 250 and case.name != "204 with a body"]


@pytest.mark.parametrize("case", BYTEWISE, ids=lambda case: case.name)
def test_no_reply_byte_by_byte_is_none(case: Case, make: Make) -> None:
    async def main() -> None:
        answer = in_turn(saying(*split(case.reply, 1), close=case.ends), echoing)
        async with running(answer) as server, opened(make) as transport:
            assert isinstance(discreet(await transport.send(to(server), go)), Lost)
            await ask(transport, server, "the next")

    runner_on("uvloop")(main())


@pytest.mark.parametrize("packed", [b"", b"gzip"], ids=["plain", "gzip"])
@pytest.mark.parametrize("framed", ["sized", "chunked", "until the end"])
def test_a_reply_past_its_bound_is_lost(packed: bytes, framed: str, make: Make, serve: Serve) -> None:
    body = gzip.compress(bytes(REPLY_MOST_BYTES + 1), 1) if packed else bytes(REPLY_MOST_BYTES + 1)
    headers = b"Content-Encoding: gzip\r\n" if packed else b""

    async def answer(heard: Heard) -> None:
        with suppress(ConnectionError):
            if framed == "sized":
                heard.writer.write(HEAD + headers + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            elif framed == "chunked":
                heard.writer.write(chunked(*split(body, 1 << 20), headers=headers))
            else:
                heard.writer.write(HEAD + headers + b"\r\n" + body)
            await heard.writer.drain()
        heard.writer.close()

    async def main() -> None:
        async with serve(in_turn(answer, echoing)) as server, opened(make) as transport:
            assert await transport.send(to(server), go) == Lost("the reply is larger than 16 MiB")
            await settle()
            await ask(transport, server, "the next")

    runner_on("uvloop")(main())


@pytest.mark.parametrize("framed", [sized, chunked])
def test_a_reply_of_exactly_its_bound_is_whole(framed, make: Make, run: Run) -> None:
    async def main() -> None:
        body = random.Random(1).randbytes(1 << 20) * (REPLY_MOST_BYTES >> 20)
        async with running(in_turn(saying(framed(body)), echoing)) as server, opened(make) as transport:
            result = await transport.send(to(server), go)
            assert isinstance(result, Reply)
            assert result.body == body
            await ask(transport, server, "the next")

    run(main())


@pytest.mark.parametrize(
    ("lines", "headers"),
    [
        ((b"Retry-After: 7", b"X-UPPER: Yes"), {"retry-after": "7", "x-upper": "Yes"}),
        ((b"X: 1", b"x: 2", b"X: 3"), {"x": "3"}),
        ((b"X: \t a b \t ", b"Y:", b"Z:z"), {"x": "a b", "y": "", "z": "z"}),
        ((b"X: caf\xc3\xa9", b"Y: caf\xe9"), {"x": "café", "y": "caf\udce9"}),
        ((b"X: a\r\n b\r\n\tc",), {"x": "a b\tc"}),
        ((b"Set-Cookie: a=1", b"Set-Cookie: b=2"), {"set-cookie": "b=2"}),
    ],
    ids=["case", "the last of several", "blanks", "bytes", "folded", "cookies"],
)
def test_headers_as_they_are_read(lines: tuple[bytes, ...], headers: dict[str, str], make: Make, run: Run) -> None:
    async def main() -> None:
        async with running(saying(sized(b"{}", *lines))) as server, opened(make) as transport:
            result = await transport.send(to(server), go)
            assert isinstance(result, Reply)
            assert dict(result.headers) == {**headers, "content-length": "2"}

    run(main())


SECRET = 's3cr3t/with"quotes-and-more'


@pytest.mark.parametrize("name", ["Authorization", "X-Authorization", "authorization"])
@pytest.mark.parametrize("is_packed", [False, True])
def test_credentials_that_come_back_are_masked(name: str, make: Make, run: Run, *, is_packed: bool) -> None:
    async def main() -> None:
        written = [SECRET, SECRET.replace("/", "\\/"), SECRET.replace('"', '\\"')]
        said = f'{{"message": "bad token {" or ".join(written)}, {TOKEN}"}}'.encode()
        reply = sized(gzip.compress(said), b"Content-Encoding: gzip") if is_packed else sized(said)
        reply = reply.replace(b"\r\n", f"\r\nX-Said: {SECRET}!\r\n".encode(), 1)
        async with running(saying(*split(reply, 7))) as server, opened(make) as transport:
            for secret, kept in ((SECRET, TOKEN), (TOKEN, SECRET)):
                call = Call(LAUNCH, server.url(), {**JSON, name: f"Bearer {secret}"}, BODY)
                result = await transport.send(call, go)
                assert isinstance(result, Reply)
                assert secret not in result.body.decode()
                assert kept in result.body.decode(), "one account's reply was masked by another's credentials"
                assert (result.headers["x-said"] == "***!") is (secret == SECRET)

    run(main())


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int, make: Make, run: Run) -> None:
    async def main() -> None:
        async with running(echoing) as target:
            said = sized(b"", f"Location: {target.url('/x')}".encode(), status=b"%d Moved" % status)
            async with running(saying(said)) as server, opened(make) as transport:
                result = await transport.send(to(server), go)
                assert isinstance(result, Reply)
                assert result.status == status
                assert len(server.requests) == 1
            assert target.connections == 0

    run(main())
