"""A hundred calls at the same time to a server that a dice rules: no reply ever goes to another call."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from bulksend.model import Lost, NotSent, Reply
from tests.engine.transports.conftest import WITH_TLS_TOO, Run, Serve
from tests.engine.transports.implementations import Make, opened
from tests.engine.transports.server import Heard, chunked, discreet, sized, to, turns

CALLS = 100
KINDS = ("plain", "chunked", "pieces", "extra", "close", "said close", "cut", "reset", "nothing")


@WITH_TLS_TOO
@pytest.mark.parametrize("at_once", [CALLS, 20])
@pytest.mark.parametrize("seed", [1])
def test_each_call_gets_its_own_reply(seed: int, at_once: int, make: Make, run: Run, serve: Serve) -> None:
    dice = random.Random(seed)
    kinds = {b"call-%d" % one: dice.choices(KINDS, [8, 4, 4, 1, 1, 1, 1, 1, 1])[0] for one in range(CALLS)}
    waits = {name: dice.random() * 0.01 for name in kinds}

    async def answer(heard: Heard) -> None:
        await asyncio.sleep(waits[heard.body])
        kind, reply = kinds[heard.body], sized(heard.body)
        match kind:
            case "chunked":
                await heard.say(chunked(heard.body[:3], heard.body[3:]))
            case "pieces":
                await heard.say(*(reply[at : at + 9] for at in range(0, len(reply), 9)))
            case "extra":
                await heard.say(reply + sized(b"stale"))
            case "said close":
                await heard.say(sized(heard.body, b"Connection: close"))
            case "cut":
                await heard.say(reply[:-2])
            case "reset":
                heard.reset()
            case "nothing":
                pass
            case _:
                await heard.say(reply)
        if kind in ("close", "said close", "cut", "nothing"):
            heard.writer.close()

    async def main() -> None:
        free = asyncio.Semaphore(at_once)
        async with serve(answer) as server, opened(make) as transport:

            async def leave() -> None:
                await turns(dice.randrange(4))

            async def one_call(name: bytes) -> Reply | Lost | NotSent:
                async with free:
                    return discreet(await transport.send(to(server, name), leave))

            results = dict(zip(kinds, await asyncio.gather(*map(one_call, kinds)), strict=True))
            seen = Counter(request.partition(b"\r\n\r\n")[2] for request in server.requests)
            assert max(seen.values()) == 1, "a request was sent twice"
            for name, result in results.items():
                match result:
                    case Reply():
                        assert result.body == name, "a reply went to another call"
                        assert kinds[name] not in ("cut", "reset", "nothing")
                        assert seen[name] == 1
                    case NotSent():
                        assert seen[name] == 0
                    case Lost():
                        # A connection may be closed, or bring more, just as the next request leaves on it.
                        assert kinds[name] in ("cut", "reset", "nothing") or seen[name] == 0
            assert sum(isinstance(result, Reply) for result in results.values()) >= CALLS // 2

    run(main())
