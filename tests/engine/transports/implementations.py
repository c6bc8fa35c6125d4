"""The transports that there are: every test of this folder holds for each of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

import uvloop

from bulksend.engine import direct
from bulksend.engine import transport as ordinary
from bulksend.engine.direct import DirectTransport
from bulksend.engine.transport import AiohttpTransport, Transport

__all__ = ["IMPLEMENTATIONS", "LOOPS", "MODULES", "Make", "opened"]


class Make(Protocol):
    """Makes a transport."""

    def __call__(self, *, call_timeout_s: float = ..., connect_timeout_s: float = ...) -> Transport: ...


IMPLEMENTATIONS: dict[str, Make] = {"aiohttp": AiohttpTransport, "direct": DirectTransport}
MODULES = [ordinary, direct]
"""Where the constants are that a test may change: KEEP_ALIVE_S, PATIENCE_S."""

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


@asynccontextmanager
async def opened(
    make: Make, *, call_timeout_s: float = 30.0, connect_timeout_s: float = 30.0
) -> AsyncIterator[Transport]:
    """Make a transport, and close it at the end."""
    transport = make(call_timeout_s=call_timeout_s, connect_timeout_s=connect_timeout_s)
    try:
        yield transport
    finally:
        await transport.close()
