"""TLS over real sockets: who cannot prove to be the vendor gets no call."""

from __future__ import annotations

import asyncio
import datetime as dt
import socket
import ssl
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trustme

from bulksend.engine.tls import tls_context
from bulksend.errors import JobError
from bulksend.model import Call, Lost, NotSent, Reply
from tests.engine.transports.conftest import Run
from tests.engine.transports.implementations import Make, opened
from tests.engine.transports.server import BODY, JSON, LAUNCH, OK, TOKEN, go, running, saying

Result = Reply | Lost | NotSent


def context_of(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


class TlsServer:
    """Answers each TLS connection in a thread of its own, since a loop cannot be told how old its TLS shall be."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context
        self.requests: list[bytes] = []
        self.versions: list[str | None] = []
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listening.getsockname()[1]
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        while True:
            try:
                raw, _ = self.listening.accept()
            except OSError:
                return
            raw.settimeout(5)
            with raw, suppress(OSError), self.context.wrap_socket(raw, server_side=True) as one:
                self.versions.append(one.version())
                if request := one.recv(65536):
                    self.requests.append(request)
                    one.sendall(OK)
                    one.recv(65536)

    def close(self) -> None:
        self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()
        self.thread.join(5)


@pytest.fixture
def serve() -> Iterator[Callable[[ssl.SSLContext], TlsServer]]:
    servers: list[TlsServer] = []

    def start(context: ssl.SSLContext) -> TlsServer:
        servers.append(TlsServer(context))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def call(make: Make, run: Run, port: int, host: str = "localhost") -> tuple[Result, int]:
    """Make a call; return what came of it, and how often it was let go."""
    left = 0

    async def leave() -> None:
        nonlocal left
        left += 1

    async def main() -> Result:
        async with opened(make) as transport:
            headers = {**JSON, "Authorization": f"Bearer {TOKEN}"}
            return await transport.send(Call(LAUNCH, f"https://{host}:{port}/launch", headers, BODY), leave)

    return run(main()), left


def test_a_bundle_of_ones_own_is_believed_and_tls_is_1_2_at_least(
    authority: trustme.CA,
    bundle: Path,
    serve: Callable[[ssl.SSLContext], TlsServer],
    monkeypatch: pytest.MonkeyPatch,
    make: Make,
    run: Run,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    server = serve(context_of(authority.issue_cert("localhost", "127.0.0.1")))
    for host in ("localhost", "127.0.0.1"):
        result, left = call(make, run, server.port, host)
        assert isinstance(result, Reply), result
        assert left == 1
    assert len(server.requests) == 2
    assert {*server.versions} <= {"TLSv1.2", "TLSv1.3"}


def test_a_server_with_1_2_alone_is_spoken_to(
    authority: trustme.CA,
    bundle: Path,
    serve: Callable[[ssl.SSLContext], TlsServer],
    monkeypatch: pytest.MonkeyPatch,
    make: Make,
    run: Run,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    context = context_of(authority.issue_cert("localhost"))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    server = serve(context)
    assert isinstance(call(make, run, server.port)[0], Reply)
    assert server.versions == ["TLSv1.2"]


def old(authority: trustme.CA) -> ssl.SSLContext:
    """Return a server's context that speaks TLS 1.1 and older only."""
    context = context_of(authority.issue_cert("localhost"))
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


LONG_AGO = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda ca: context_of(trustme.CA().issue_cert("localhost")), "SSL_CERT_FILE"),
        (lambda ca: context_of(ca.issue_cert("vendor.example")), "Hostname mismatch"),
        (
            lambda ca: context_of(ca.issue_cert("localhost", not_before=LONG_AGO, not_after=LONG_AGO)),
            "certificate has expired",
        ),
        (old, "TLS 1.2 is the oldest"),
    ],
    ids=["another CA", "wrong name", "expired", "TLS 1.1"],
)
def test_who_is_not_proven_gets_no_call(
    wrong: Callable[[trustme.CA], ssl.SSLContext],
    said: str,
    make: Make,
    run: Run,
    authority: trustme.CA,
    bundle: Path,
    serve: Callable[[ssl.SSLContext], TlsServer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    server = serve(wrong(authority))
    result, left = call(make, run, server.port)
    assert isinstance(result, NotSent), result
    assert said in result.reason
    assert "TLS with localhost" in result.reason
    assert (left, server.requests) == (0, []), "a token was used, or a request was seen"


def test_without_a_bundle_a_companys_own_ca_is_not_believed(
    authority: trustme.CA, serve: Callable[[ssl.SSLContext], TlsServer], make: Make, run: Run
) -> None:
    server = serve(context_of(authority.issue_cert("localhost")))
    result, left = call(make, run, server.port)
    assert isinstance(result, NotSent)
    assert "is named by the environment variable SSL_CERT_FILE" in result.reason
    assert (left, server.requests) == (0, [])


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"not TLS at all\r\n\r\n"])
def test_plain_text_on_a_tls_port_is_said(said: bytes, make: Make, run: Run) -> None:
    async def main() -> Result:
        async with running(saying(OK)) as server, opened(make) as transport:
            pending = asyncio.create_task(
                transport.send(Call(LAUNCH, f"https://localhost:{server.port}/", JSON, BODY), go)
            )
            await server.connected.wait()
            server.writers[0].write(said)
            assert not server.requests
            return await pending

    result = run(main())
    assert isinstance(result, NotSent)
    assert result.reason.startswith("TLS with localhost: the handshake failed (")


def test_a_bundle_that_is_none_is_refused_at_once(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, content, said in (("gone.pem", None, "cannot be read: No such file"), ("text.pem", "x", "PEM")):
        if content is not None:
            (tmp_path / name).write_text(content)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / name))
        with pytest.raises(JobError, match=said) as caught:
            make()
        assert "SSL_CERT_FILE" in str(caught.value)
    monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "gone"))
    with pytest.raises(JobError, match="SSL_CERT_DIR: is no directory"):
        make()


def test_nothing_loosens_the_context(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHTTPSVERIFY", "0")
    context = tls_context()
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
