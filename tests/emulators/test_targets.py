"""What the emulator itself says of a segment's targets, and what its log keeps of the calls that change them."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest

from tests.emulators.serving import serving
from tests.emulators.test_stream import Client, run

_MANY = [f"user-{number:05}" for number in range(10_000)]


async def _ask(client: Client, **query: str) -> tuple[int, Any]:
    url = f"{client.listening['url']}/_emulator/targets"
    async with client.session.get(url, params=query) as response:
        return response.status, (await response.json() if response.ok else await response.text())


async def _log(client: Client) -> list[Any]:
    async with client.session.get(f"{client.listening['url']}/_emulator/effects") as response:
        return [
            each["body"] for each in (await response.json())["effects"] if each["endpoint"] != "stream.segment.create"
        ]


@pytest.mark.parametrize("collation", ["code-point", "no-case"])
def test_targets_are_all_of_a_segment_by_code_point(collation: str) -> None:
    async def check(client: Client) -> None:
        await client.segment("b", "A", "é", "a", "B", id="s")
        await client.segment("other", id="t")
        await client.good("POST", "/segments/s/deletetargets", {"target_ids": ["a"]})
        assert await _ask(client, segment="s") == (200, {"targets": ["A", "B", "b", "é"]})
        before = await client.stats()
        await _ask(client, segment="t")
        assert await client.stats() == before

    run(check, collation=collation)


def test_targets_of_a_full_segment_and_of_one_by_filter() -> None:
    async def check(client: Client) -> None:
        await client.segment(*_MANY[::-1], id="s")
        assert (await _ask(client, segment="s"))[1]["targets"] == _MANY
        await client.segment("x", id="f", filter={"id": {"$lte": "user-0002"}})
        assert (await _ask(client, segment="f"))[1]["targets"] == ["user-0001", "user-0002", "x"]
        await client.segment(id="none")
        assert (await _ask(client, segment="none"))[1]["targets"] == []

    run(check)


def test_targets_are_those_of_the_account_that_is_asked_for() -> None:
    async def check(client: Client) -> None:
        first, second = (Client(client.session, each) for each in client.listening["accounts"])
        await first.segment("a", id="s")
        await second.segment("b", id="s")
        assert (await _ask(client, segment="s"))[1]["targets"] == ["a"]
        assert (await _ask(client, segment="s", account=first.key))[1]["targets"] == ["a"]
        assert (await _ask(client, segment="s", account=second.key))[1]["targets"] == ["b"]
        assert await _ask(client, segment="s", account="x") == (404, "account=x: not one of this emulator's\n")

    run(check, accounts=2)


def test_no_such_segment() -> None:
    async def check(client: Client) -> None:
        missing = (404, "segment=s: no such segment with targets\n")
        assert await _ask(client, segment="s") == missing
        assert (await _ask(client))[0] == 404
        await client.segment("a", id="s")
        assert (await _ask(client, segment="s"))[0] == 200
        await client.good("DELETE", "/segments/s")
        assert await _ask(client, segment="s") == missing

    run(check)


@pytest.mark.parametrize("provider", ["insider", "batch", "usercom"])
def test_other_providers_know_no_targets(provider: str) -> None:
    async def main() -> None:
        async with (
            serving(provider) as (session, listening),
            session.get(f"{listening['url']}/_emulator/targets", params={"segment": "1"}) as response,
        ):
            assert (response.status, await response.text()) == (404, "segment=1: no such segment with targets\n")

    asyncio.run(main())


@pytest.mark.parametrize(("fault", "targets"), [("500", []), ("500-after", ["a"])])
def test_targets_tell_what_took_effect_behind_a_fault(fault: str, targets: list[str]) -> None:
    async def check(client: Client) -> None:
        await client.segment(id="s")
        await client.bad(500, -1, "POST", "/segments/s/addtargets", {"target_ids": ["a"]})
        assert await _ask(client, segment="s") == (200, {"targets": targets})

    run(check, faults=[f"stream.targets.add={fault}:100%"])


@pytest.mark.parametrize("number", [1, 1000])
def test_the_log_keeps_the_ids_of_a_call_of_up_to_a_thousand(number: int) -> None:
    async def check(client: Client) -> None:
        await client.segment(id="s")
        body = {"target_ids": _MANY[:number], "other": 1}
        await client.good("POST", "/segments/s/addtargets", body)
        await client.good("POST", "/segments/s/deletetargets", {"target_ids": _MANY[:1]})
        assert await _log(client) == [body, {"target_ids": _MANY[:1]}]

    run(check)


def test_the_log_keeps_number_and_hash_of_more_whatever_their_order() -> None:
    async def check(client: Client) -> None:
        await client.segment(id="s")
        sent = [*_MANY[1000::-1], "é", "é"]
        await client.good("POST", "/segments/s/addtargets", {"target_ids": sent, "other": 1})
        lines = "".join(f"{each}\n" for each in [*_MANY[:1001], "é"])
        digest = hashlib.sha256(lines.encode()).hexdigest()
        assert await _log(client) == [{"other": 1, "target_ids_count": 1003, "target_ids_sha256": digest}]
        await client.good("POST", "/segments/s/addtargets", {"target_ids": sent})
        assert len(await _log(client)) == 1  # nothing was new

    run(check)


def test_stream_takes_a_segment_with_a_colon_as_it_is() -> None:
    async def check(client: Client) -> None:
        await client.good("POST", "/segments/vip:5000/addtargets", {"target_ids": ["a"]})
        assert (await client.good("GET", "/segments/vip:5000"))["segment"]["size"] == 1
        await client.bad(404, 16, "GET", "/segments/vip")

    run(check, segments=["vip:5000"])
