"""A call that is cancelled, at every turn of the event loop from its beginning to its end."""

from __future__ import annotations

import asyncio
import gc

import pytest

from bulksend.model import Call, Reply
from tests.engine.transports.conftest import ON_EACH_LOOP, WITH_TLS_TOO, Run, Serve
from tests.engine.transports.implementations import Make, opened
from tests.engine.transports.server import JSON, LAUNCH, Heard, ask, go, sized, to, turns

TURNS_MOST = 3000


async def slowly(heard: Heard) -> None:
    """Send the request's own body back, in pieces."""
    reply = b"HTTP/1.1 103 Early Hints\r\n\r\n" + sized(heard.body)
    await heard.say(*(reply[at : at + 30] for at in range(0, len(reply), 30)))


async def gate() -> None:
    await turns(3)


@ON_EACH_LOOP
@WITH_TLS_TOO
@pytest.mark.parametrize("is_warm", [False, True])
def test_a_call_is_cancelled_anywhere(make: Make, run: Run, serve: Serve, *, is_warm: bool) -> None:
    async def main() -> None:
        async with serve(slowly) as server:
            ended = 0
            for after in range(TURNS_MOST):
                async with opened(make) as transport:
                    if is_warm:
                        await ask(transport, server, f"before {after}")
                    call = to(server, f"cancelled {after}".encode())
                    pending = asyncio.create_task(transport.send(call, gate))
                    await turns(after)
                    was_done = pending.done()
                    ended += was_done
                    pending.cancel()
                    (result,) = await asyncio.gather(pending, return_exceptions=True)
                    assert isinstance(result, Reply if was_done else asyncio.CancelledError), result
                    # Whatever was under way is nobody else's: the next call gets its own reply, at once and later.
                    await ask(transport, server, f"next {after}")
                    await ask(transport, server, f"last {after}")
                if ended == 2:
                    break
            assert ended == 2, "no call came to its end"
            assert len(server.requests) == len(set(server.requests))
            gc.collect()
            await asyncio.sleep(0)

    run(main())


def test_a_call_is_cancelled_while_a_name_is_looked_up(make: Make, run: Run) -> None:
    async def main() -> None:
        async with opened(make) as transport:
            for after in range(10):
                call = Call(LAUNCH, f"http://nobody-{after}.invalid/", JSON, b"")
                pending = asyncio.create_task(transport.send(call, go))
                await turns(after)
                pending.cancel()
                await asyncio.gather(pending, return_exceptions=True)
        gc.collect()
        await asyncio.sleep(0.05)

    run(main())


def test_many_calls_are_cancelled_among_others(make: Make, run: Run, serve: Serve) -> None:
    async def main() -> None:
        async with serve(slowly) as server, opened(make) as transport:
            for turn in range(8):
                tasks = [asyncio.create_task(ask(transport, server, f"{turn} {one}")) for one in range(20)]
                for after, task in enumerate(tasks[::2]):
                    await turns(after % 7)
                    task.cancel()
                results = await asyncio.gather(*tasks, return_exceptions=True)
                assert all(result is None for result in results[1::2]), results
                assert all(result is None or isinstance(result, asyncio.CancelledError) for result in results)
            assert len(server.requests) == len(set(server.requests))
            gc.collect()

    run(main())
