"""Proxies of the environment, with a real CONNECT proxy in front of a real TLS server."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trustme

from bulksend.model import Call, Lost, NotSent, Reply
from tests.engine.transports.conftest import ON_EACH_LOOP, Run
from tests.engine.transports.implementations import Make, opened
from tests.engine.transports.server import BODY, JSON, LAUNCH, OK, TOKEN, call_to, go, refused_port, running, saying

pytestmark = pytest.mark.usefixtures("may_pass_on")

HOST = "vendor.test"
PASSWORD = "pa55-of-the-proxy"
Result = Reply | Lost | NotSent


class _Serving:
    """What the servers here have in common: their connections are closed, and waited for, at the end."""

    def __init__(self) -> None:
        self.port = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self.writers: list[asyncio.StreamWriter] = []

    def begin(self, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        self.writers.append(writer)

    async def end(self) -> None:
        for writer in self.writers:
            writer.transport.abort()
        if self.tasks:
            await asyncio.wait(self.tasks)
        for writer in self.writers:
            with suppress(OSError):
                await writer.wait_closed()


class Proxy(_Serving):
    """Opens a tunnel to `target` whatever host is asked for; `heads` is what it was asked."""

    def __init__(self, target: int, answer: bytes) -> None:
        super().__init__()
        self.target, self.answer = target, answer
        self.heads: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.begin(writer)
        with suppress(OSError, asyncio.IncompleteReadError):
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(self.answer)
            if b" 200 " in self.answer:
                there, back = await asyncio.open_connection("127.0.0.1", self.target)
                self.writers.append(back)
                await asyncio.gather(_pump(reader, back), _pump(there, writer))
        writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def proxy_to(target: int, answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n") -> AsyncIterator[Proxy]:
    proxy = Proxy(target, answer)
    listening = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = listening.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        listening.close()
        await proxy.end()


class Tls(_Serving):
    """The vendor: a TLS server for `HOST`; `requests` is what came out of the tunnel."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__()
        self.context = context
        self.requests: list[bytes] = []
        self.handshakes = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.begin(writer)
        self.handshakes += 1
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.requests.append(head + await reader.readexactly(len(BODY)))
                writer.write(OK)
        writer.close()


@pytest.fixture
def vendor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tls:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST, "localhost").configure_cert(context)
    return Tls(context)


@asynccontextmanager
async def up(vendor: Tls) -> AsyncIterator[Tls]:
    listening = await asyncio.start_server(vendor.serve, "127.0.0.1", 0, ssl=vendor.context)
    vendor.port = listening.sockets[0].getsockname()[1]
    try:
        yield vendor
    finally:
        listening.close()
        await vendor.end()


def to_vendor(host: str = HOST) -> Call:
    return Call(LAUNCH, f"https://{host}/launch", {**JSON, "Authorization": f"Bearer {TOKEN}"}, BODY)


@ON_EACH_LOOP
@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("scheme", ["http://", ""])
def test_calls_go_through_a_tunnel_which_stands_before_their_turn(
    name: str, scheme: str, vendor: Tls, monkeypatch: pytest.MonkeyPatch, make: Make, run: Run
) -> None:
    async def main() -> None:
        async with up(vendor), proxy_to(vendor.port) as proxy:
            monkeypatch.setenv(name, f"{scheme}127.0.0.1:{proxy.port}")
            turns: list[tuple[int, int, int]] = []

            async def leave() -> None:
                await asyncio.sleep(0.01)
                turns.append((len(proxy.heads), vendor.handshakes, len(vendor.requests)))

            async with opened(make) as transport:
                for _ in range(2):
                    result = await transport.send(to_vendor(), leave)
                    assert isinstance(result, Reply), result
            assert turns == [(1, 1, 0), (1, 1, 1)], "the tunnel was not there, or the request had left, before the turn"
            (head,) = proxy.heads
            assert head.startswith(f"CONNECT {HOST}:443 HTTP/1.1\r\n".encode())
            assert TOKEN.encode() not in head
            assert b"proxy-authorization" not in head.lower()
            assert all(f"Bearer {TOKEN}".encode() in request for request in vendor.requests)

    run(main())


def test_credentials_of_the_proxy_go_to_the_proxy_alone(
    vendor: Tls, monkeypatch: pytest.MonkeyPatch, make: Make, run: Run
) -> None:
    async def main() -> None:
        async with up(vendor), proxy_to(vendor.port) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", f"http://me%40firm:{PASSWORD}@127.0.0.1:{proxy.port}/")
            async with opened(make) as transport:
                assert isinstance(await transport.send(to_vendor(), go), Reply)
                assert PASSWORD not in repr(vars(transport))
            pair = base64.b64encode(f"me@firm:{PASSWORD}".encode())
            assert b"Proxy-Authorization: Basic " + pair in proxy.heads[0]
            assert pair not in vendor.requests[0]
            assert b"proxy" not in vendor.requests[0].lower()

    run(main())


def test_netrc_is_not_read(vendor: Tls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Make, run: Run) -> None:
    """aiohttp would send its credentials to the proxy, and in place of the vendor's own."""
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine {HOST} login of-netrc password of-netrc\nmachine 127.0.0.1 login x password y\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))

    async def main() -> None:
        async with up(vendor), proxy_to(vendor.port) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
            call = Call(LAUNCH, f"https://{HOST}/launch", {**JSON, "X-Authorization": TOKEN}, BODY)
            async with opened(make) as transport:
                assert isinstance(await transport.send(call, go), Reply)
            assert b"Basic" not in proxy.heads[0] + vendor.requests[0]

    run(main())


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n", "refuses with HTTP 407, which"),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "refuses with HTTP 403"),
        (b"what?\r\n\r\n", "is not HTTP"),
    ],
)
def test_a_proxy_that_refuses_is_not_the_vendor(
    answer: bytes, said: str, vendor: Tls, monkeypatch: pytest.MonkeyPatch, make: Make, run: Run
) -> None:
    """A 403 of the vendor would mean that its credentials are wrong."""
    left = []

    async def leave() -> None:
        left.append(1)

    async def main() -> Result:
        async with up(vendor), proxy_to(vendor.port, answer) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", f"http://me:{PASSWORD}@127.0.0.1:{proxy.port}")
            async with opened(make) as transport:
                return await transport.send(to_vendor(), leave)

    result = run(main())
    assert isinstance(result, NotSent)
    assert said in result.reason
    assert PASSWORD not in result.reason
    assert not left
    assert not vendor.requests


def test_a_proxy_that_is_not_there(vendor: Tls, monkeypatch: pytest.MonkeyPatch, make: Make, run: Run) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:{PASSWORD}@127.0.0.1:{refused_port()}")

    async def main() -> Result:
        async with opened(make) as transport:
            return await transport.send(to_vendor(), go)

    result = run(main())
    assert isinstance(result, NotSent)
    assert result.reason.startswith("no connection to the proxy of the environment: ")
    assert PASSWORD not in result.reason


@pytest.mark.parametrize(
    "text",
    [
        f"https://me:{PASSWORD}@127.0.0.1:1",
        f"socks5://me:{PASSWORD}@127.0.0.1:1",
        f"http://me:{PASSWORD}@:1",
        f"http://me:{PASSWORD}@proxy:port",
    ],
)
def test_a_proxy_that_cannot_be_used_is_never_passed_by(
    text: str, vendor: Tls, monkeypatch: pytest.MonkeyPatch, make: Make, run: Run
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", text)

    async def main() -> Result:
        async with opened(make) as transport:
            return await transport.send(to_vendor(), go)

    result = run(main())
    assert isinstance(result, NotSent)
    assert "such as http://proxy:3128" in result.reason
    assert PASSWORD not in result.reason


@pytest.mark.parametrize("text", ["*", HOST, ".test", "other.example,test", f"{HOST}:443"])
def test_no_proxy_is_kept_to(text: str, vendor: Tls, monkeypatch: pytest.MonkeyPatch, make: Make, run: Run) -> None:
    async def main() -> None:
        async with up(vendor), proxy_to(vendor.port) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
            monkeypatch.setenv("NO_PROXY", text)
            async with opened(make) as transport:
                result = await transport.send(to_vendor(), go)
            assert result == NotSent(f"the name {HOST} is not found")
            assert not proxy.heads

    run(main())


def test_this_machine_is_never_behind_a_proxy(
    vendor: Tls, monkeypatch: pytest.MonkeyPatch, make: Make, run: Run
) -> None:
    async def main() -> None:
        async with up(vendor), proxy_to(vendor.port) as proxy, running(saying(OK)) as plain:
            for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
                monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
            async with opened(make) as transport:
                assert isinstance(await transport.send(call_to(plain.port), go), Reply)
                assert isinstance(await transport.send(to_vendor(f"localhost:{vendor.port}"), go), Reply)
            assert not proxy.heads

    run(main())
