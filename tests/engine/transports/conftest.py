"""Each implementation; on uvloop and without TLS, where a test does not ask for `ON_EACH_LOOP` or `WITH_TLS_TOO`."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Never, TypeVar

import pytest
import trustme

from bulksend.engine.transport import AiohttpTransport
from tests.engine.transports.implementations import IMPLEMENTATIONS, LOOPS, MODULES, Make
from tests.engine.transports.server import Answer, Server, running

T = TypeVar("T")
Run = Callable[[Coroutine[Any, Any, T]], T]
Serve = Callable[[Answer], AbstractAsyncContextManager[Server]]
_ENVIRONMENT = ("SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(params=sorted(IMPLEMENTATIONS))
def make(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Make:
    """What makes a transport; a test that does not ask for `may_pass_on` tests no other one in its place."""
    if request.param == "direct" and "may_pass_on" not in request.fixturenames:
        monkeypatch.setattr(AiohttpTransport, "send", _passed_on)
    return IMPLEMENTATIONS[request.param]


async def _passed_on(*_: object) -> Never:
    raise AssertionError("the call was passed on to the ordinary transport")


@pytest.fixture
def may_pass_on() -> None:
    """Allow the direct transport to leave calls to the ordinary one."""


ON_EACH_LOOP = pytest.mark.parametrize("run", sorted(LOOPS), indirect=True)
WITH_TLS_TOO = pytest.mark.parametrize("serve", ["plain", "tls"], indirect=True)


@pytest.fixture
def run(request: pytest.FixtureRequest) -> Run:
    return runner_on(getattr(request, "param", "uvloop"))


def runner_on(name: str) -> Run:
    def run(main: Coroutine[Any, Any, T]) -> T:
        wrong: list[dict[str, Any]] = []

        async def whole() -> T:
            asyncio.get_running_loop().set_exception_handler(lambda _loop, context: wrong.append(context))
            try:
                return await main
            finally:
                await asyncio.sleep(0)
                left = asyncio.all_tasks() - {asyncio.current_task()}
                assert not left, "tasks were left behind"

        with asyncio.Runner(loop_factory=LOOPS[name]) as runner:
            result = runner.run(whole())
        assert not wrong
        return result

    return run


@pytest.fixture
def constant(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, float], None]:
    """Change a constant wherever an implementation has it."""

    def change(name: str, value: float) -> None:
        for module in MODULES:
            monkeypatch.setattr(module, name, value, raising=False)

    return change


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def _bundle(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ca") / "company-ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


@pytest.fixture
def bundle(_bundle: Path) -> Path:
    return _bundle


@pytest.fixture(scope="session")
def _certificate(authority: trustme.CA) -> trustme.LeafCert:
    return authority.issue_cert("localhost", "127.0.0.1")


@pytest.fixture
def tls(_certificate: trustme.LeafCert, _bundle: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """What a server speaks TLS with that every transport of this test believes."""
    monkeypatch.setenv("SSL_CERT_FILE", str(_bundle))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _certificate.configure_cert(context)
    return context


@pytest.fixture
def serve(request: pytest.FixtureRequest) -> Serve:
    context = request.getfixturevalue("tls") if getattr(request, "param", "plain") == "tls" else None
    return lambda answer: running(answer, context)
