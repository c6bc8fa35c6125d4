"""What holds for every provider, seen through a socket: limits, faults, effects, stats, accounts, start and stop."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from bulksend.emulators.server import _PROVIDERS, EmulatorConfig, serve
from tests.emulators.serving import serving

_CAMPAIGN = 25696


class Client:
    """One account's calls to a running emulator; `launch` sends a valid body marked with a number."""

    def __init__(self, session: aiohttp.ClientSession, listening: dict[str, Any]) -> None:
        self.session = session
        self.listening = listening
        self.url: str = listening["url"]

    def account(self, index: int) -> Client:
        return Client(self.session, self.listening["accounts"][index])

    async def launch(self, mark: object = 0, version: str = "v2") -> tuple[int, Any, Any]:
        """Return status, body (parsed where it is JSON) and headers."""
        body = {
            "partner_id": self.listening["partner_id"],
            "title": f"{mark}",
            "description": "d",
            "image": "https://example.com/i.png",
            "link": "https://example.com",
            "ttl": "3600",
        }
        headers = {"Authorization": f"Bearer {self.listening['token']}"}
        url = f"{self.url}/{version}/single/{_CAMPAIGN}"
        async with self.session.post(url, json=body, headers=headers) as response:
            is_json = response.content_type == "application/json"
            return response.status, await (response.json() if is_json else response.text()), response.headers

    async def effects(self, since: int = 0) -> list[dict[str, Any]]:
        async with self.session.get(f"{self.url}/_emulator/effects", params={"since": since}) as response:
            return list((await response.json())["effects"])

    async def stats(self, endpoint: str = "insider.launch") -> dict[str, Any]:
        async with self.session.get(f"{self.url}/_emulator/stats") as response:
            return dict((await response.json())["endpoints"][endpoint])

    async def reset(self) -> None:
        async with self.session.post(f"{self.url}/_emulator/reset") as response:
            assert response.status == 200


@asynccontextmanager
async def emulator(**flags: Any) -> AsyncIterator[Client]:
    async with serving("insider", campaigns=[_CAMPAIGN], **flags) as (session, listening):
        yield Client(session, listening)


def run(test: Callable[[Client], Awaitable[None]], **flags: Any) -> None:
    async def main() -> None:
        async with emulator(**flags) as client:
            await test(client)

    asyncio.run(main())


def test_limit_is_strict_and_says_no_retry_after_by_default() -> None:
    async def check(client: Client) -> None:
        replies = [await client.launch(mark, "v1") for mark in range(33)]
        assert [status for status, _, _ in replies] == [200] * 30 + [429] * 3
        assert replies[-1][1] == {"message": "Too Many Requests", "status": 429}
        assert "Retry-After" not in replies[-1][2]
        stats = await client.stats("insider.launch_v1")
        assert (stats["calls"], stats["admitted"], stats["throttled"], stats["effects"]) == (33, 30, 3, 30)
        assert (stats["max_in_window"], stats["limit"]) == ([30], "30/min")
        assert (stats["faults"], stats["rejected"]) == ({}, {})
        assert len(await client.effects()) == 30

    run(check)


def test_limit_override_of_several_windows() -> None:
    async def check(client: Client) -> None:
        assert [(await client.launch())[0] for _ in range(4)] == [200, 200, 200, 429]
        stats = await client.stats()
        assert (stats["max_in_window"], stats["limit"]) == ([3, 3], "300/min, 3/h")

    run(check, limits=["insider.launch=300/min, 3/h"])


def test_retry_after_when_asked_for_tells_when_the_next_is_admitted() -> None:
    async def check(client: Client) -> None:
        await client.launch()
        status, _, headers = await client.launch()
        assert status == 429
        assert 3000 < int(headers["Retry-After"]) <= 3600

    run(check, limits=["insider.launch=1/h"], retry_after=True)


def test_limits_are_per_account_and_stats_are_summed() -> None:
    async def check(client: Client) -> None:
        first, second = client.account(0), client.account(1)
        assert client.listening["token"] == first.listening["token"] != second.listening["token"]
        assert [(await first.launch())[0] for _ in range(3)] == [200, 200, 429]
        assert (await second.launch())[0] == 200
        stats = await client.stats()
        assert (stats["calls"], stats["admitted"], stats["throttled"], stats["max_in_window"]) == (4, 3, 1, [2])
        of = {each: stats["accounts"][each.listening["partner_id"]] for each in (first, second)}
        assert (of[first]["calls"], of[first]["throttled"], of[first]["max_in_window"]) == (3, 1, [2])
        assert (of[second]["calls"], of[second]["throttled"], of[second]["max_in_window"]) == (1, 0, [1])
        assert of[second]["limit"] == stats["limit"] == "2/h"
        assert [each["account"] for each in await client.effects()].count(first.listening["partner_id"]) == 2

    run(check, limits=["insider.launch=2/h"], accounts=2)


def test_effects_hold_the_body_and_can_be_read_on() -> None:
    async def check(client: Client) -> None:
        for mark in range(3):
            await client.launch(mark)
        effects = await client.effects()
        assert [each["seq"] for each in effects] == [1, 2, 3]
        assert [each["body"]["title"] for each in effects] == ["0", "1", "2"]
        assert {(each["endpoint"], each["ref"]) for each in effects} == {("insider.launch", _CAMPAIGN)}
        assert {each["account"] for each in effects} == {client.listening["partner_id"]}
        times = [each["at_s"] for each in effects]
        assert times == sorted(times)
        assert times[0] > 0
        assert await client.effects(since=2) == effects[2:]
        assert await client.effects(since=3) == []
        async with client.session.get(f"{client.url}/_emulator/effects?since=x") as response:
            assert response.status == 400

    run(check)


def test_reset_clears_effects_stats_and_windows() -> None:
    async def check(client: Client) -> None:
        assert [(await client.launch())[0] for _ in range(2)] == [200, 429]
        await client.reset()
        assert await client.effects() == []
        stats = await client.stats()
        assert (stats["calls"], stats["throttled"], stats["max_in_window"]) == (0, 0, [0])
        assert (await client.launch())[0] == 200
        assert [each["seq"] for each in await client.effects()] == [1]

    run(check, limits=["insider.launch=1/h"])


@pytest.mark.parametrize(
    ("kind", "status", "body", "effects"),
    [
        ("429", 429, {"message": "Too Many Requests", "status": 429}, 0),
        ("429-retry-after", 429, {"message": "Too Many Requests", "status": 429}, 0),
        ("424", 424, {"message": "SERVICE:-"}, 0),
        ("500", 500, "", 0),
        ("503", 503, "", 0),
        ("424-after", 424, {"message": "SERVICE:-"}, 1),
        ("500-after", 500, "", 1),
        ("503-after", 503, "", 1),
        ("slow=20ms", 200, {"success": True, "campaign_id": _CAMPAIGN}, 1),
    ],
)
def test_fault_that_answers(kind: str, status: int, body: object, effects: int) -> None:
    async def check(client: Client) -> None:
        got_status, got_body, headers = await client.launch()
        assert (got_status, got_body) == (status, body)
        assert headers.get("Retry-After") == ("1" if kind == "429-retry-after" else None)
        assert len(await client.effects()) == effects
        stats = await client.stats()
        assert stats["faults"] == {kind.partition("=")[0]: 1}
        assert (stats["throttled"], stats["rejected"], stats["admitted"]) == (0, {}, 1)
        assert stats["effects"] == effects

    run(check, faults=[f"{kind}:100%"])


def test_injected_retry_after_in_seconds() -> None:
    async def check(client: Client) -> None:
        assert (await client.launch())[2]["Retry-After"] == "3"

    run(check, faults=["429-retry-after=3:100%"])


@pytest.mark.parametrize(("kind", "effects"), [("reset-before", 0), ("reset-after", 1)])
def test_reset_before_and_after_the_effect(kind: str, effects: int, caplog: pytest.LogCaptureFixture) -> None:
    async def check(client: Client) -> None:
        # A plain socket, since aiohttp's client says "disconnected" for both a FIN and a RST.
        host, port = client.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(_raw_launch(client))
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        assert len(await client.effects()) == effects
        stats = await client.stats()
        assert (stats["faults"], stats["effects"]) == ({kind: 1}, effects)

    run(check, faults=[f"insider.launch={kind}:100%"])
    assert not caplog.records  # the server takes a connection that it reset itself for nothing unusual


def _raw_launch(client: Client) -> bytes:
    body = (
        f'{{"partner_id": "{client.listening["partner_id"]}", "title": "t", "description": "d", '
        '"image": "https://example.com/i.png", "link": "l", "ttl": "60"}'
    )
    head = (
        f"POST /v2/single/{_CAMPAIGN} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
        f"Authorization: Bearer {client.listening['token']}\r\n\r\n"
    )
    return (head + body).encode()


def test_truncated_reply_ends_before_its_content_length() -> None:
    async def check(client: Client) -> None:
        host, port = client.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(_raw_launch(client))
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        assert head.startswith(b"HTTP/1.1 200 ")
        length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length"))
        assert 0 < len(body) < length
        with pytest.raises(aiohttp.ClientPayloadError):
            await client.launch()
        assert len(await client.effects()) == 2

    run(check, faults=["truncated:100%"])


def test_not_json_is_a_page_of_html_with_the_status_of_success() -> None:
    async def check(client: Client) -> None:
        status, body, headers = await client.launch()
        assert (status, body[:9], headers["Content-Type"]) == (200, "<!DOCTYPE", "text/html; charset=utf-8")
        assert len(await client.effects()) == 1

    run(check, faults=["not-json:100%"])


def test_limit_comes_before_faults() -> None:
    async def check(client: Client) -> None:
        assert [(await client.launch())[0] for _ in range(3)] == [500, 500, 429]
        stats = await client.stats()
        assert (stats["faults"], stats["throttled"]) == ({"500": 2}, 1)

    run(check, faults=["500:100%"], limits=["insider.launch=2/h"])


def test_same_seed_same_replies_and_credentials() -> None:
    faults = ["500:20%", "424-after:20%", "reset-after:20%"]

    async def sequence(seed: int) -> tuple[dict[str, Any], list[object]]:
        async with emulator(seed=seed, faults=faults) as client:
            seen: list[object] = []
            for mark in range(40):
                try:
                    seen.append((await client.launch(mark))[0])
                except aiohttp.ClientConnectionError:
                    seen.append("reset")
            marks = [each["body"]["title"] for each in await client.effects()]
            return {**client.listening, "url": ""}, [*seen, *marks]

    first, again, other = (asyncio.run(sequence(seed)) for seed in (7, 7, 8))
    assert first == again
    assert first[0] != other[0]
    assert first[1] != other[1]
    assert {200, 424, 500, "reset"} <= set(first[1])


def test_latency_delays_provider_routes_only() -> None:
    async def check(client: Client) -> None:
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        await client.launch()
        assert loop.time() - begun_s >= 0.019
        (effect,) = await client.effects()
        assert effect["at_s"] >= 0.0095  # the first half was waited before the effect

    run(check, latency="20ms")


def test_connections_are_counted() -> None:
    async def check(client: Client) -> None:
        for _ in range(5):
            await client.launch()
        async with client.session.get(f"{client.url}/_emulator/stats") as response:
            assert (await response.json())["connections"] == 1
        async with (
            aiohttp.ClientSession() as other,
            other.get(f"{client.url}/_emulator/stats") as response,
        ):
            assert (await response.json())["connections"] == 2

    run(check)


def test_stop_waits_neither_for_idle_connections_nor_for_slow_replies() -> None:
    async def main() -> None:
        async with emulator(faults=["slow=1000s:50%"], seed=1) as client:
            calls = [asyncio.create_task(client.launch(mark)) for mark in range(10)]
            await next(asyncio.as_completed(calls))
        assert {type(result) for result in await asyncio.gather(*calls, return_exceptions=True)} > {tuple}

    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_taken_port_is_an_error() -> None:
    async def main() -> None:
        async with emulator() as client:
            port = int(client.url.rpartition(":")[2])
            with pytest.raises(OSError, match="address already in use"):
                await serve(EmulatorConfig.from_texts(port=port), lambda _: None, asyncio.Event())

    asyncio.run(main())


def test_no_provider_means_all() -> None:
    assert [spec.name for spec in EmulatorConfig.from_texts().providers] == list(_PROVIDERS)
    assert {"batch", "insider"} <= set(_PROVIDERS)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"providers": ["insidr"]}, "unknown provider 'insidr'; did you mean 'insider'?"),
        ({"limits": ["insider.lunch=5/s"]}, "unknown endpoint 'insider.lunch'; did you mean 'insider.launch'?"),
        ({"limits": ["5/s"]}, "limit '5/s': write it as ENDPOINT=LIMIT"),
        ({"limits": ["insider.launch=often"]}, "limit 'insider.launch=often': 'often' is not a limit"),
        ({"latency": "soon"}, "latency 'soon'"),
        ({"faults": ["oops:1%"]}, "fault 'oops:1%': unknown kind 'oops'"),
        ({"faults": ["500:60%", "503:60%"]}, "more than all calls"),
        ({"accounts": 0}, "accounts 0"),
        ({"port": 70000}, "port 70000"),
    ],
)
def test_bad_flag_is_named(flags: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError) as caught:
        EmulatorConfig.from_texts(**flags)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_ports_count_up_from_the_given_one() -> None:
    async def main() -> None:
        config = EmulatorConfig.from_texts(["insider"])
        (spec,) = config.providers
        two = replace(config, providers=(spec, replace(spec, name="second")))
        for port in itertools.count(20_000):  # until two neighbours are free
            stop = asyncio.Event()
            listening: list[dict[str, Any]] = []

            def ready(urls: dict[str, Any], seen: list[Any] = listening, end: asyncio.Event = stop) -> None:
                seen.append(urls)
                end.set()

            try:
                await serve(replace(two, port=port), ready, stop)
            except OSError:
                continue
            urls = [listening[0][name]["url"] for name in ("insider", "second")]
            assert urls == [f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port + 1}"]
            assert "accounts" not in listening[0]["insider"]
            return

    asyncio.run(main())
