"""The fast way to the vendor: aiohttp's connections and its parser, without its session between them and the call."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp import ClientTimeout
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError
from yarl import URL

from bulksend.engine.connections import TURNS_MOST, ClosedError, Connector, LostTurnsError, is_fresh
from bulksend.engine.deadlines import Deadlines
from bulksend.engine.heads import Heads, split_url
from bulksend.engine.inflate import Body, TooLargeError, UnreadableError
from bulksend.engine.limiter import StoppedError
from bulksend.engine.proxy import ProxyRefusedError
from bulksend.engine.transport import (
    CALL_TIMEOUT_S,
    CONNECT_TIMEOUT_S,
    HEADER_MOST_BYTES,
    KEEP_ALIVE_S,
    PATIENCE_S,
    REPLY_MOST_BYTES,
    AiohttpTransport,
    Overdue,
    Transport,
    reason_of,
)
from bulksend.model import Call, Lost, NotSent, Reply

__all__ = ["DirectTransport", "open_transport"]

_KNOWN = ("3.14.",)
"""Versions of aiohttp whose parts fit together as is done here."""


def open_transport() -> Transport:
    """Return the fastest transport that this aiohttp is known to allow."""
    return DirectTransport() if aiohttp.__version__.startswith(_KNOWN) else AiohttpTransport()


class _TimeIsUpError(Exception):
    """The reply did not come in time."""


class _Origin:
    """One address that calls go to, and the connections to it that are not in use."""

    __slots__ = ("host", "idle", "is_tls", "url")

    def __init__(self, url: URL, host: str) -> None:
        self.url = url
        self.host = host
        self.is_tls = url.scheme == "https"
        self.idle: list[tuple[Connection, float]] = []
        """The one used last at the end, with the time since when it has been idle."""


class _Wait:
    """A reply that is waited for."""

    __slots__ = ("is_late", "overdue", "protocol")

    def __init__(self, protocol: ResponseHandler, overdue: Overdue | None) -> None:
        self.protocol = protocol
        self.overdue = overdue
        self.is_late = False

    def give_up(self) -> None:
        """End the wait, for the head or for the body; whoever waits is told."""
        self.protocol.set_exception(_TimeIsUpError())


class DirectTransport:
    """A `Transport` that writes a prepared head and reads with aiohttp's parser, on connections of its connector.

    It keeps every promise of `AiohttpTransport`, to which it hands the calls that want more: those through a proxy,
    and those whose address or headers are not plain.
    """

    def __init__(self, *, call_timeout_s: float = CALL_TIMEOUT_S, connect_timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        self._call_timeout_s = call_timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._ordinary = AiohttpTransport(call_timeout_s=call_timeout_s, connect_timeout_s=connect_timeout_s)
        self._connector: Connector | None = None
        self._origins: dict[str, _Origin | None] = {}
        self._heads = Heads()
        self._in_time = Deadlines[_Wait](call_timeout_s, self._late)
        self._in_patience = Deadlines[_Wait](PATIENCE_S, _Wait.give_up)
        self._sweep: asyncio.TimerHandle | None = None
        self._in_use: set[Connection] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, wrong: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection: calls under way end as lost, or as not sent where they wait for their turn."""
        self._in_time.close()
        self._in_patience.close()
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        connections = [*self._in_use]
        self._in_use.clear()
        for origin in self._origins.values():
            if origin is not None:
                connections.extend(connection for connection, _ in origin.idle)
                origin.idle.clear()
        connector, self._connector = self._connector, None
        ends = [_end(connection) for connection in connections]
        if connector is not None:
            connector.stop()
            await connector.close()
        await self._ordinary.close()
        await asyncio.gather(*(end for end in ends if end is not None), return_exceptions=True)

    async def send(
        self, call: Call, leave: Callable[[], Awaitable[None]], overdue: Overdue | None = None
    ) -> Reply | Lost | NotSent:
        """Make one call; the clock for the whole call starts when it leaves."""
        parts = split_url(call.url)
        origin = None if parts is None else self._origin(parts[0])
        request = None
        if origin is not None and parts is not None:
            request = self._heads.request(call.endpoint.method, origin.host, parts[1], call.headers, call.body)
        if origin is None or request is None:
            return await self._ordinary.send(call, leave, overdue)
        connection: Connection | None = None
        wait: _Wait | None = None
        is_reusable = False
        turns = 0
        try:
            while True:
                connection = self._idle(origin) or await self._connect(origin)
                is_reusable = True
                await leave()
                protocol = connection.protocol
                # The server may have closed the connection while the call waited for its turn. Then the turn is lost:
                # a handshake later, the call would leave beside those whose turn has come by then.
                if protocol is None:
                    raise ClosedError
                if protocol.transport is not None and is_fresh(protocol):
                    break
                is_reusable = False
                self._close(connection)
                connection = None
                turns += 1
                if turns == TURNS_MOST:
                    raise LostTurnsError
            is_reusable = False
            loop = asyncio.get_running_loop()
            left_at_s = loop.time()
            wait = _Wait(protocol, overdue)
            self._in_time.add(wait, left_at_s)
            protocol.set_response_params(
                read_until_eof=True,
                auto_decompress=False,
                max_line_size=HEADER_MOST_BYTES,
                max_field_size=HEADER_MOST_BYTES,
            )
            protocol.transport.write(request)
            message, content = await protocol.read()
            while message.code < 200:
                if message.code < 100 or message.code == 101:
                    raise HttpProcessingError(message="an interim reply is no reply")
                message, content = await protocol.read()
            headers = message.headers
            if "Content-Encoding" not in headers and content.is_eof():
                body = content.read_nowait()
                if len(body) > REPLY_MOST_BYTES:
                    raise TooLargeError
            else:
                body = await _gathered(headers.getall("Content-Encoding", ()), content)
            is_reusable = True
            masked, body = self._ordinary.echo.masked(call.headers, headers, body)
            lower = {name.lower(): text for name, text in masked.items()}
            return Reply(message.code, lower, body, loop.time() - left_at_s)
        except StoppedError:
            return NotSent("the run is stopping")
        except _TimeIsUpError:
            return Lost(f"no whole reply within {self._call_timeout_s:g} s")
        except TimeoutError as wrong:
            if wait is not None:
                return Lost(reason_of(wrong))
            return NotSent(f"no connection within {self._connect_timeout_s:g} s")
        except TooLargeError:
            return Lost(f"the reply is larger than {REPLY_MOST_BYTES >> 20} MiB")
        except UnreadableError as wrong:
            return Lost(str(wrong))
        except (aiohttp.ClientError, HttpProcessingError, OSError, ssl.SSLError, ValueError, EOFError) as wrong:
            return NotSent(reason_of(wrong)) if wait is None else Lost(reason_of(wrong))
        finally:
            if wait is not None:
                wait.is_late = False
                self._in_time.drop(wait)
                self._in_patience.drop(wait)
            if connection is not None:
                self._give_back(origin, connection, is_reusable=is_reusable)

    def _origin(self, text: str) -> _Origin | None:
        try:
            return self._origins[text]
        except KeyError:
            origin = self._origins[text] = self._look_at(text)
            return origin

    def _look_at(self, text: str) -> _Origin | None:
        """Return an address to which calls can go straight; None for any other, of which the session says more."""
        try:
            url = URL(f"{text}/", encoded=True)
            host = url.host_port_subcomponent
            plain = url.scheme in ("http", "https") and url.raw_user is None and url.raw_password is None
            if host is None or not plain or self._ordinary.proxies.of(url) is not None:
                return None
        except (ValueError, ProxyRefusedError):
            return None
        return _Origin(url, host)

    def _idle(self, origin: _Origin) -> Connection | None:
        """Return the connection that was used last, where it is one that a call may go out on."""
        while origin.idle:
            connection, since_s = origin.idle.pop()
            protocol = connection.protocol
            is_young = asyncio.get_running_loop().time() - since_s < KEEP_ALIVE_S
            if is_young and protocol is not None and is_fresh(protocol):
                self._in_use.add(connection)
                return connection
            connection.close()
        return None

    async def _connect(self, origin: _Origin) -> Connection:
        """Open a connection; raises TimeoutError, and what aiohttp raises."""
        loop = asyncio.get_running_loop()
        if self._connector is None:
            self._ordinary.allow_connections()
            self._connector = Connector()
        request = aiohttp.ClientRequest(
            "GET", origin.url, loop=loop, ssl=self._ordinary.context() if origin.is_tls else True
        )
        async with asyncio.timeout(self._connect_timeout_s):
            connection = await self._connector.connect(request, [], ClientTimeout(total=None))
        self._in_use.add(connection)
        return connection

    def _give_back(self, origin: _Origin, connection: Connection, *, is_reusable: bool) -> None:
        protocol = connection.protocol
        if not is_reusable or protocol is None or not is_fresh(protocol) or self._connector is None:
            self._close(connection)
            return
        self._in_use.discard(connection)
        loop = asyncio.get_running_loop()
        origin.idle.append((connection, loop.time()))
        if self._sweep is None:
            self._sweep = loop.call_later(KEEP_ALIVE_S, self._close_idle)

    def _close(self, connection: Connection) -> None:
        self._in_use.discard(connection)
        connection.close()

    def _close_idle(self) -> None:
        """Close what was not used for a while; it is at the front, since the last one is always taken first."""
        loop = asyncio.get_running_loop()
        self._sweep = None
        for origin in self._origins.values():
            if origin is None:
                continue
            old = [one for one, since_s in origin.idle if loop.time() - since_s >= KEEP_ALIVE_S]
            del origin.idle[: len(old)]
            for connection in old:
                connection.close()
            if origin.idle and self._sweep is None:
                self._sweep = loop.call_later(KEEP_ALIVE_S / 2, self._close_idle)

    def _late(self, wait: _Wait) -> None:
        """Tell that a reply has not come in time; where nobody wants to be told, it is given up."""
        if wait.overdue is None:
            wait.give_up()
            return
        wait.is_late = True
        self._in_patience.add(wait, asyncio.get_running_loop().time())

        def give_up() -> None:
            if wait.is_late:
                wait.is_late = False
                self._in_patience.drop(wait)
                wait.give_up()

        wait.overdue(give_up)


def _end(connection: Connection) -> asyncio.Future[None] | None:
    """End a connection, whatever is under way on it; return what is done when it has ended."""
    protocol = connection.protocol
    if protocol is None:
        return None
    end = protocol.closed
    protocol.abort()
    connection.close()
    return end


async def _gathered(encodings: list[str] | tuple[str, ...], content: aiohttp.StreamReader) -> bytes:
    body = Body(", ".join(encodings), REPLY_MOST_BYTES)
    async for part in content.iter_any():
        body.add(part)
    return body.whole()
