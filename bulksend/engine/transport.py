"""The only door to aiohttp's client: a Call goes out, a Reply comes back, or a value that says how far it got."""

from __future__ import annotations

import asyncio
import io
import os
import ssl
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from types import TracebackType
from typing import Protocol, Self

import aiohttp
from aiohttp import ClientTimeout
from aiohttp.http import HttpProcessingError
from yarl import URL

from bulksend.engine.connections import TURNS_MOST, ClosedError, Connector, Handler, LostTurnsError, is_fresh
from bulksend.engine.echo import Echo
from bulksend.engine.heads import ALWAYS
from bulksend.engine.inflate import Body, TooLargeError, UnreadableError
from bulksend.engine.limiter import StoppedError
from bulksend.engine.proxy import Proxies, ProxyRefusedError
from bulksend.engine.tls import ENVIRONMENT, tls_context, why_refused
from bulksend.model import Call, Lost, NotSent, Reply

__all__ = ["AiohttpTransport", "Overdue", "Transport", "reason_of"]

CONNECT_TIMEOUT_S = 10.0
CALL_TIMEOUT_S = 30.0
PATIENCE_S = 60.0
"""How much longer a reply is waited for whose call must not be made again."""
KEEP_ALIVE_S = 4.0
"""Idle connections are dropped before common servers (5 s) drop them: a reset after the request left is an unknown."""
REPLY_MOST_BYTES = 16 << 20
"""Of a whole body, also unpacked."""
HEADER_MOST_BYTES = 8190
"""Of one header, and of the first line."""
OPEN_FILES = 8192


Overdue = Callable[[Callable[[], None]], None]
"""Told that a reply has not come in time, and by what to end the wait for it."""


class Transport(Protocol):
    """How calls reach the vendor."""

    async def send(
        self, call: Call, leave: Callable[[], Awaitable[None]], overdue: Overdue | None = None
    ) -> Reply | Lost | NotSent:
        """Make one call. `leave` is awaited with a connection at hand, as the last thing before the wire.

        NotSent is proof that no byte of the request left; never raises for what the network or the vendor does. With
        `overdue`, a call whose time is up is not given up, but told, and its reply waited for a while longer.
        """

    async def close(self) -> None:
        """Close every connection."""


class _Departure:
    """One call on its way out: when it left, and its clock for the whole call."""

    __slots__ = ("_call_timeout_s", "_overdue", "_timer", "connect_timeout_s", "left_at_s", "timeout", "wait")

    def __init__(
        self,
        wait: Callable[[], Awaitable[None]],
        timeout: asyncio.Timeout,
        times_s: tuple[float, float],
        overdue: Overdue | None,
    ) -> None:
        self.wait = wait
        self.timeout = timeout
        self.connect_timeout_s, self._call_timeout_s = times_s
        self.left_at_s: float | None = None
        self._overdue = overdue
        self._timer: asyncio.TimerHandle | None = None

    def left(self) -> None:
        """Give the call its time, from now on."""
        loop = asyncio.get_running_loop()
        self.left_at_s = loop.time()
        in_time = self.left_at_s + self._call_timeout_s
        if self._overdue is None:
            self.timeout.reschedule(in_time)
        else:
            self.timeout.reschedule(in_time + PATIENCE_S)
            self._timer = loop.call_at(in_time, self._overdue, self._give_up)

    def end_clock(self) -> None:
        """Tell nobody any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        if self._timer is not None and not self.timeout.expired():
            self._timer = None
            self.timeout.reschedule(asyncio.get_running_loop().time())


_departing: ContextVar[_Departure] = ContextVar("bulksend_departing")


class _SecondConnectError(aiohttp.ClientConnectionError):
    """aiohttp was about to send the request again by itself."""


class _GatedConnector(Connector):
    """Hands a connection to aiohttp only when the call's turn has come, and only while it is still fresh."""

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[aiohttp.tracing.Trace],
        timeout: ClientTimeout,  # noqa: ASYNC109  # aiohttp's own signature
    ) -> aiohttp.connector.Connection:
        departure = _departing.get()
        if departure.left_at_s is not None:
            raise _SecondConnectError("the request had left")
        loop = asyncio.get_running_loop()
        for _ in range(TURNS_MOST):
            connection = await self._unspoilt(req, traces, timeout)
            departure.timeout.reschedule(None)
            try:
                await departure.wait()
            except BaseException:
                connection.release()
                raise
            # The server may have closed the connection while the call waited for its turn. Then the turn is lost: a
            # handshake later, the call would leave beside those whose turn has come by then.
            protocol = connection.protocol
            if isinstance(protocol, Handler) and is_fresh(protocol):
                protocol.was_used = True
                departure.left()
                return connection
            connection.close()
            if self.closed:
                raise ClosedError
            departure.timeout.reschedule(loop.time() + departure.connect_timeout_s)
        raise LostTurnsError

    async def _unspoilt(
        self,
        req: aiohttp.ClientRequest,
        traces: list[aiohttp.tracing.Trace],
        timeout: ClientTimeout,  # noqa: ASYNC109
    ) -> aiohttp.connector.Connection:
        """Return a new connection, or one from the pool on which nothing has come since its last reply."""
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol = connection.protocol
            if not isinstance(protocol, Handler) or not protocol.was_used or is_fresh(protocol):
                return connection
            connection.close()


class AiohttpTransport:
    """A `Transport` over a `ClientSession`: connections are reused, redirects are not followed, no cookies are kept.

    Nothing of the user's files is sent but what a call holds (no ~/.netrc), and no credentials come back in a reply.
    """

    def __init__(self, *, call_timeout_s: float = CALL_TIMEOUT_S, connect_timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        self._call_timeout_s = call_timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._session: aiohttp.ClientSession | None = None
        self.proxies = Proxies()
        self.echo = Echo()
        # A bundle that cannot be used is told at once; otherwise certificates are read when a call first needs them.
        self._tls = tls_context() if any(map(os.environ.get, ENVIRONMENT)) else None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, wrong: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self.allow_connections()
            self._session = aiohttp.ClientSession(
                connector=_GatedConnector(keepalive_timeout=KEEP_ALIVE_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=ClientTimeout(total=None),
                headers=ALWAYS,
                raise_for_status=False,
                trust_env=False,
                auto_decompress=False,
                max_line_size=HEADER_MOST_BYTES,
                max_field_size=HEADER_MOST_BYTES,
            )
        return self._session

    async def close(self) -> None:
        """Close the session and its connections."""
        if self._session is not None:
            session, self._session = self._session, None
            if isinstance(session.connector, Connector):
                session.connector.stop()
            await session.close()

    async def send(
        self, call: Call, leave: Callable[[], Awaitable[None]], overdue: Overdue | None = None
    ) -> Reply | Lost | NotSent:
        """Make one call; the clock for the whole call starts when it leaves."""
        departure: _Departure | None = None
        try:
            async with asyncio.timeout(self._connect_timeout_s) as timeout:
                departure = _Departure(leave, timeout, (self._connect_timeout_s, self._call_timeout_s), overdue)
                token = _departing.set(departure)
                try:
                    return await self._exchange(call, departure)
                finally:
                    departure.end_clock()
                    _departing.reset(token)
        except StoppedError:
            return NotSent("the run is stopping")
        except TimeoutError:
            if departure is None or departure.left_at_s is None:
                return NotSent(f"no connection within {self._connect_timeout_s:g} s")
            return Lost(f"no whole reply within {self._call_timeout_s:g} s")
        except TooLargeError:
            return Lost(f"the reply is larger than {REPLY_MOST_BYTES >> 20} MiB")
        except UnreadableError as wrong:
            return Lost(str(wrong))
        except ProxyRefusedError as wrong:
            return NotSent(str(wrong))
        except (aiohttp.ClientError, HttpProcessingError, OSError, ssl.SSLError, ValueError, EOFError) as wrong:
            reason = reason_of(wrong)
            return NotSent(reason) if departure is None or departure.left_at_s is None else Lost(reason)

    async def _exchange(self, call: Call, departure: _Departure) -> Reply:
        url = _url(call.url)
        proxy = self.proxies.of(url)
        request = self._open().request(
            call.endpoint.method,
            url,
            # aiohttp warns of bytes over 1 MiB.
            data=call.body if len(call.body) <= 1 << 20 else io.BytesIO(call.body),
            headers=call.headers,
            allow_redirects=False,
            proxy=None if proxy is None else proxy.url,
            proxy_headers=None if proxy is None else proxy.headers,
            ssl=self.context() if url.scheme == "https" else True,
        )
        loop = asyncio.get_running_loop()
        async with request as response:
            if response.status < 200:
                response.close()
                raise HttpProcessingError(message="an interim reply is no reply")
            body = await _body(response)
            left_at_s = departure.left_at_s
            assert left_at_s is not None
            headers, body = self.echo.masked(call.headers, response.headers, body)
            lower = {name.lower(): text for name, text in headers.items()}
            return Reply(response.status, lower, body, loop.time() - left_at_s)

    @staticmethod
    def allow_connections() -> None:
        """Raise the soft limit of open files, which is often 1,024: a slow vendor takes a connection for each call."""
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))

    def context(self) -> ssl.SSLContext:
        """Return what TLS connections are made with, read when the first is; raises JobError."""
        if self._tls is None:
            self._tls = tls_context()
        return self._tls


def _url(text: str) -> URL:
    url = URL(text, encoded=True)
    # A question mark with nothing behind it would be left out.
    return url.with_path(f"{url.raw_path}?", encoded=True) if text.partition("#")[0].endswith("?") else url


async def _body(response: aiohttp.ClientResponse) -> bytes:
    try:
        body = Body(", ".join(response.headers.getall("Content-Encoding", ())), REPLY_MOST_BYTES)
        async for part in response.content.iter_any():
            body.add(part)
        return body.whole()
    except (TooLargeError, UnreadableError):
        response.close()
        raise


def reason_of(wrong: BaseException) -> str:
    """Say what happened in words that hold no header, body or address beyond the host."""
    match wrong:
        case ClosedError():
            return "the transport was closed"
        case LostTurnsError():
            return f"the server ended {TURNS_MOST} connections one after the other before the call could leave"
        case aiohttp.ClientConnectorDNSError():
            return f"the name {wrong.host} is not found"
        case aiohttp.ClientConnectorCertificateError():
            return f"TLS with {wrong.host}: {why_refused(wrong.certificate_error)}"
        case aiohttp.ClientConnectorSSLError():
            return f"TLS with {wrong.host}: {why_refused(wrong.os_error)}"
        case aiohttp.ClientProxyConnectionError():
            said = wrong.os_error.strerror or type(wrong.os_error).__name__
            return f"no connection to the proxy of the environment: {said}"
        case aiohttp.ClientHttpProxyError():
            hint = ", which wants user and password in HTTPS_PROXY" if wrong.status == 407 else ""
            return f"the proxy of the environment refuses with HTTP {wrong.status}{hint}"
        case aiohttp.ClientConnectorError():
            said = wrong.os_error.strerror or type(wrong.os_error).__name__
            return f"no connection to {wrong.host}:{wrong.port}: {said}"
        case _SecondConnectError():
            return "the connection was closed before the reply, and the request is not sent a second time"
        case aiohttp.ServerDisconnectedError() | ConnectionResetError() | BrokenPipeError():
            return "the connection was closed without a reply"
        case aiohttp.ClientPayloadError():
            return "the reply broke off"
        case aiohttp.ClientOSError():
            return "the connection was reset" if wrong.errno else "the connection failed"
        case aiohttp.ClientResponseError() | HttpProcessingError():
            return "the reply is not HTTP"
        case _:
            return f"the call failed ({type(wrong).__name__})"
