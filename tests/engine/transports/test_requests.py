"""The bytes of a request: those of this call and of no other, as its provider wrote them."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import pytest

from bulksend.model import Call, Endpoint, Limit, Repeat, Reply
from tests.engine.transports.conftest import ON_EACH_LOOP, WITH_TLS_TOO, Run, Serve
from tests.engine.transports.implementations import Make, opened
from tests.engine.transports.server import BODY, DELETE, JSON, LAUNCH, LIST, TOKEN, Server, echoing, go, running, to


def parts(request: bytes) -> tuple[str, dict[str, str], bytes]:
    head, _, body = request.partition(b"\r\n\r\n")
    line, *lines = head.decode().split("\r\n")
    names = [one.split(": ", 1)[0].lower() for one in lines]
    assert len(names) == len(set(names)), "a header was written twice"
    return line, {name: one.split(": ", 1)[1] for name, one in zip(names, lines, strict=True)}, body


async def heard(make: Make, call: Call, server: Server) -> tuple[str, dict[str, str], bytes]:
    async with opened(make) as transport:
        result = await transport.send(call, go)
        assert isinstance(result, Reply), result
        assert result.body == call.body
    return parts(server.requests[-1])


@pytest.mark.parametrize("endpoint", [LAUNCH, DELETE], ids=["POST", "DELETE"])
def test_a_request_is_what_was_asked_for_and_no_more(endpoint: Endpoint, make: Make, run: Run, serve: Serve) -> None:
    async def main() -> None:
        async with serve(echoing) as server:
            line, headers, body = await heard(make, to(server, endpoint=endpoint), server)
            assert line == f"{endpoint.method} /launch HTTP/1.1"
            assert headers == {
                "host": f"127.0.0.1:{server.port}",
                "user-agent": "bulksend",
                "accept": "*/*",
                "accept-encoding": "gzip, deflate",
                "authorization": f"Bearer {TOKEN}",
                "content-type": "application/json",
                "content-length": str(len(BODY)),
            }
            assert body == BODY

    run(main())


@ON_EACH_LOOP
@WITH_TLS_TOO
@pytest.mark.parametrize("size", [0, 1, 65_536, (1 << 20) + 1])
def test_a_body_of_any_size_arrives(size: int, make: Make, run: Run, serve: Serve) -> None:
    async def main() -> None:
        async with serve(echoing) as server:
            _, headers, body = await heard(make, to(server, bytes(size)), server)
            assert (headers.get("content-length"), len(body)) == (str(size), size)

    run(main())


def test_a_read_has_no_body(make: Make, run: Run) -> None:
    async def main() -> None:
        async with running(echoing) as server:
            line, headers, body = await heard(make, to(server, b"", LIST), server)
            assert line == "GET /launch HTTP/1.1"
            assert (headers.get("content-length", "0"), body) == ("0", b"")
            assert "transfer-encoding" not in headers

    run(main())


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/a%2Fb%20c",
        "/a?x=1&y=%26",
        "/?q=a+b",
        "//a//b/",
        "/a/../b/./c",
        "/%7euser",
        "/a;b=c,d",
        "/%zz",
        "/a?",
    ],
)
def test_a_path_is_sent_as_it_is_written(path: str, make: Make, run: Run) -> None:
    async def main() -> None:
        async with running(echoing) as server:
            line, _, _ = await heard(make, to(server, path=path), server)
            assert line == f"POST {path} HTTP/1.1"

    run(main())


@pytest.mark.usefixtures("may_pass_on")
def test_a_fragment_is_not_sent(make: Make, run: Run) -> None:
    async def main() -> None:
        async with running(echoing) as server:
            for path in ("/a?#x", "/a?b#x?", "/a#x"):
                line, _, _ = await heard(make, to(server, path=path), server)
                assert line == f"POST {path.partition('#')[0]} HTTP/1.1"

    run(main())


@pytest.mark.parametrize("host", ["LOCALHOST", "LocalHost", "127.0.0.1"])
def test_a_host_in_capitals_is_found(host: str, make: Make, run: Run) -> None:
    async def main() -> None:
        async with running(echoing) as server:
            call = Call(LAUNCH, f"http://{host}:{server.port}/launch", {"Content-Type": "text/plain"}, BODY)
            _, headers, _ = await heard(make, call, server)
            assert headers["host"].lower() == f"{host.lower()}:{server.port}"

    run(main())


def test_ipv6(make: Make, run: Run) -> None:
    async def main() -> None:
        async with running(echoing, host="::1") as server:
            call = Call(LAUNCH, f"http://[::1]:{server.port}/launch", {"Content-Type": "text/plain"}, BODY)
            _, headers, _ = await heard(make, call, server)
            assert headers["host"] == f"[::1]:{server.port}"

    run(main())


@pytest.mark.usefixtures("may_pass_on")
def test_headers_of_ones_own_win(make: Make, run: Run) -> None:
    async def main() -> None:
        async with running(echoing) as server:
            given = {"user-agent": "mine", "ACCEPT": "a/b", "X-Own": "caf\u00e9", "content-type": "text/plain"}
            _, headers, _ = await heard(make, Call(LAUNCH, server.url(), given, BODY), server)
            assert headers["user-agent"] == "mine"
            assert headers["accept"] == "a/b"
            assert headers["x-own"] == "caf\u00e9"
            assert headers["content-type"] == "text/plain"

    run(main())


@pytest.mark.usefixtures("may_pass_on")
@pytest.mark.parametrize("given", ["a\r\nX-Injected: 1", "a\nX-Injected: 1", "a\r\n\r\nGET / HTTP/1.1\r\n\r\n", "a\0b"])
def test_nothing_is_smuggled_in_by_a_header_or_a_path(given: str, make: Make, run: Run) -> None:
    async def main() -> None:
        async with running(echoing) as server, opened(make) as transport:
            for call in (
                Call(LAUNCH, server.url(), {**JSON, "Authorization": given}, BODY),
                Call(LAUNCH, server.url(), {**JSON, f"X-{given}": "1"}, BODY),
                Call(LAUNCH, server.url(f"/{given}"), {"Content-Type": "text/plain"}, BODY),
            ):
                await transport.send(call, go)
            for request in server.requests:
                assert b"\r\nX-Injected" not in request
                assert b"\0" not in request
                assert not request.startswith(b"GET")

    run(main())


def test_calls_of_many_accounts_and_endpoints_are_not_mixed_up(make: Make, run: Run) -> None:
    """With the headers of an account kept, copied, and made anew where another's were before."""

    async def main() -> None:
        async with running(echoing) as first, running(echoing) as second, opened(make) as transport:

            async def one(number: int, server: Server, endpoint: Endpoint, headers: dict[str, str]) -> None:
                body = b"%d" % number * (number % 5 + 1)
                result = await transport.send(Call(endpoint, server.url(f"/{number}?n={number}"), headers, body), go)
                assert isinstance(result, Reply)
                assert result.body == body
                line, sent, came = parts(server.requests[-1])
                assert line == f"{endpoint.method} /{number}?n={number} HTTP/1.1"
                assert sent["host"] == f"127.0.0.1:{server.port}"
                assert {name: sent[name] for name in ("authorization", "content-type")} == {
                    name.lower(): text for name, text in headers.items()
                }
                assert came == body

            kept = [{"Authorization": f"kept-{one}", "Content-Type": "application/json"} for one in range(3)]
            other = Endpoint("x.other", "PUT", "/other", Limit.parse("1/s"), Repeat.SAFE)
            for number in range(300):
                server = (first, second)[number % 2]
                endpoint = (LAUNCH, DELETE, other)[number % 3]
                await one(number, server, endpoint, kept[number % 3])
                await one(number, server, endpoint, {"Authorization": f"new-{number}", "Content-Type": "text/plain"})
                if number % 100 == 0:
                    gc.collect()

    run(main())


def test_netrc_is_not_read(make: Make, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login of-netrc password of-netrc\ndefault login x password y\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))

    async def main() -> None:
        async with running(echoing) as server:
            _, headers, _ = await heard(
                make, Call(LAUNCH, server.url(), {**JSON, "X-Authorization": TOKEN}, BODY), server
            )
            assert headers["x-authorization"] == TOKEN
            assert "authorization" not in headers

    run(main())


def test_calls_at_the_same_time_have_their_own_turns(make: Make, run: Run) -> None:
    async def main() -> None:
        async with running(echoing) as server, opened(make) as transport:
            left = 0

            async def leave() -> None:
                nonlocal left
                left += 1
                await asyncio.sleep(0.001 * (left % 3))

            results = await asyncio.gather(*(transport.send(to(server), leave) for _ in range(30)))
            assert all(isinstance(result, Reply) for result in results)
            assert (left, len(server.requests)) == (30, 30)

    run(main())
