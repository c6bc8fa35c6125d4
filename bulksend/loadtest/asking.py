"""The few calls before a load test, made one at a time and with patience."""

from __future__ import annotations

import asyncio
import time

from bulksend.engine.retry import retry_after_s
from bulksend.engine.transport import Transport
from bulksend.loadtest.rounds import Ask
from bulksend.model import Account, Lost, NotSent, Outcome, Rejected, Repeat, Step, Throttled, Unknown
from bulksend.providers import Provider

__all__ = ["asker"]

TRIES_MOST = 5
WAIT_S = 1.0
STAMP_MOST = 1_000_000


def asker(provider: Provider, transport: Transport) -> Ask:
    """Return what makes them. What is refused as it stands is tried once as a repeat.

    A repeat differs where the vendor wants one to, so that the campaign of an earlier load test is not in the way.
    """

    async def once(step: Step, account: Account, repeats: int) -> Outcome:
        async def leave() -> None:
            pass

        result = await transport.send(provider.call(step, account, provider.headers(account), repeats=repeats), leave)
        if isinstance(result, NotSent):
            return result
        if isinstance(result, Lost):
            return Unknown(result.reason)
        return provider.read(step, result, repeats=repeats)

    async def ask(step: Step, account: Account) -> Outcome:
        repeats = 0
        for tries in range(1, TRIES_MOST + 1):
            outcome = await once(step, account, repeats)
            match outcome:
                case Throttled(retry_after=told):
                    wait_s = retry_after_s(told, time.time()) or WAIT_S * 2**tries
                case Unknown() | NotSent() if step.endpoint.repeat is Repeat.SAFE:
                    wait_s, repeats = WAIT_S, _stamp()
                case Rejected(status=400) if step.endpoint.repeat is Repeat.SAFE and not repeats:
                    wait_s, repeats = 0.0, _stamp()
                case _:
                    return outcome
            if tries < TRIES_MOST:
                await asyncio.sleep(wait_s)
        return outcome

    return ask


def _stamp() -> int:
    return int(time.time()) % STAMP_MOST + 1
