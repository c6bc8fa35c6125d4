"""aiohttp's connections, made to tell at once whoever waits on one that it has ended."""

from __future__ import annotations

import asyncio
import functools
from typing import cast

import aiohttp
from aiohttp import ClientTimeout
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection

__all__ = ["TURNS_MOST", "ClosedError", "Connector", "Handler", "LostTurnsError", "is_fresh"]

TURNS_MOST = 5
"""How many turns one call may lose to connections that end while it waits: some servers close whatever they accept."""


class ClosedError(aiohttp.ClientConnectionError):
    """The transport was closed before the call left."""


class LostTurnsError(aiohttp.ClientConnectionError):
    """Each connection ended, or brought what nobody asked for, before the call could leave on it."""


class Handler(ResponseHandler):
    """aiohttp's, by which who waits for a body is told that it will not come, and a reset is no end of a body.

    aiohttp 3.14 tells nobody that a later chunk is broken, or that the connection was closed from here.
    """

    was_used = False
    """A call has left on it; written by whoever needs to know."""

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        self._end_body(exc)
        super().set_exception(exc, *cause)

    def connection_lost(self, exc: BaseException | None) -> None:
        if exc is not None:
            self._end_body(aiohttp.ClientPayloadError("the connection was lost"))
        super().connection_lost(exc)

    def close(self) -> None:
        self._end_body(aiohttp.ClientPayloadError("the connection was closed"))
        # What the other side does not read would keep the connection, and a wait for its end, for ever.
        if self.transport is not None and self.transport.get_write_buffer_size():
            super().abort()
        else:
            super().close()

    def abort(self) -> None:
        self._end_body(aiohttp.ClientPayloadError("the connection was closed"))
        super().abort()

    def _end_body(self, wrong: BaseException) -> None:
        body = self._payload
        if body is not None and not body.is_eof() and body.exception() is None:
            body.set_exception(wrong)


class Connector(aiohttp.TCPConnector):
    """aiohttp's, with `Handler`s on its connections; one that is closed says so in one way."""

    def __init__(self, *, keepalive_timeout: float | None = None) -> None:
        """Begin; without a time to keep them in, connections that are released are closed."""
        if keepalive_timeout is None:
            super().__init__(limit=0, force_close=True)
        else:
            super().__init__(limit=0, keepalive_timeout=keepalive_timeout)
        self._under_way: set[asyncio.Timeout] = set()
        self._factory = cast("functools.partial[ResponseHandler]", functools.partial(Handler, loop=self._loop))

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[aiohttp.tracing.Trace],
        timeout: ClientTimeout,  # noqa: ASYNC109  # aiohttp's own signature
    ) -> Connection:
        """Return a connection; raises ClosedError where the connector was closed meanwhile."""
        try:
            async with asyncio.timeout(None) as under_way:
                self._under_way.add(under_way)
                try:
                    return await super().connect(req, traces, timeout)
                finally:
                    self._under_way.discard(under_way)
        except (aiohttp.ClientError, TimeoutError, asyncio.CancelledError):
            # aiohttp cancels the search for a name, of which the task that waits for it knows nothing.
            task = asyncio.current_task()
            if self.closed and (task is None or not task.cancelling()):
                raise ClosedError from None
            raise

    def stop(self) -> None:
        """End what waits for a connection, which closing does not."""
        now_s = self._loop.time()
        for one in self._under_way:
            one.reschedule(now_s)


def is_fresh(protocol: ResponseHandler) -> bool:
    """Say whether a connection is open, and nothing has come on it that nobody asked for."""
    return protocol.is_connected() and not protocol.should_close
