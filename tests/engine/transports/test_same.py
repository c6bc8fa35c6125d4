"""Any bytes at all: never an exception, and every implementation makes the same of them."""

from __future__ import annotations

import asyncio
import gzip
import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulksend.model import Lost, Reply
from tests.engine.transports.implementations import IMPLEMENTATIONS, LOOPS, opened
from tests.engine.transports.server import Result, ask, discreet, echoing, go, in_turn, running, saying, settle, to

LINES = [
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.0 200 OK\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n",
    b"HTTP/1.1 503\r\n",
    b"HTTP/1.1 101 Switching\r\n",
    b"Content-Length: 2\r\n",
    b"Content-Length: 0\r\n",
    b"Content-Length: 9\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Encoding: gzip\r\n",
    b"Connection: close\r\n",
    b"Connection: upgrade\r\nUpgrade: x\r\n",
    b"X: y\r\n",
    b" folded\r\n",
    b"\r\n",
    b"{}",
    b"2\r\n{}\r\n",
    b"0\r\n\r\n",
    b"0\r\nX: y\r\n\r\n",
    b"zz\r\n",
    gzip.compress(b"{}"),
]
REPLIES = st.one_of(
    st.lists(st.sampled_from(LINES), max_size=8).map(b"".join),
    st.lists(st.sampled_from(LINES[6:]), max_size=6).map(lambda lines: LINES[0] + b"".join(lines)),
    st.tuples(
        st.lists(st.sampled_from(LINES), max_size=6).map(b"".join), st.integers(0, 60), st.binary(max_size=3)
    ).map(lambda drawn: drawn[0][: drawn[1]] + drawn[2] + drawn[0][drawn[1] + 1 :]),
    st.binary(max_size=100),
)


async def results(reply: bytes, cuts: Sequence[int]) -> dict[str, Result]:
    points = [0, *sorted({cut % (len(reply) + 1) for cut in cuts}), len(reply)]
    pieces = [reply[one:two] for one, two in itertools.pairwise(points)]
    found = {}
    for name, make in IMPLEMENTATIONS.items():
        async with (
            running(in_turn(saying(*pieces, close=True), echoing)) as server,
            opened(make) as transport,
        ):
            found[name] = discreet(await transport.send(to(server), go))
            assert len(server.requests) == 1
            await asyncio.wait(server.tasks)
            await settle()
            await ask(transport, server, "the next")
    return found


@pytest.mark.parametrize("examples", [60, pytest.param(2000, marks=pytest.mark.long)])
def test_any_bytes_mean_the_same_to_all(examples: int) -> None:
    with asyncio.Runner(loop_factory=LOOPS["uvloop"]) as runner:

        @settings(max_examples=examples, derandomize=True, database=None)
        @given(REPLIES, st.lists(st.integers(0, 500), max_size=3))
        def check(reply: bytes, cuts: list[int]) -> None:
            found = runner.run(results(reply, cuts))
            told = set()
            for result in found.values():
                assert isinstance(result, (Reply, Lost)), result
                if isinstance(result, Reply):
                    told.add(("reply", result.status, result.body, tuple(sorted(result.headers.items()))))
                else:
                    told.add(("lost",))
            assert len(told) == 1, found

        check()
