"""Every status that Insider's pages name, and the rules behind it, through a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from tests.emulators.serving import serving

_EXISTING = 4242
_DROP = object()
_BAD = (400, {"message": "Bad Request"})
_UNAUTHORIZED = (401, {"message": "Unauthorized"})
_NOT_FOUND = (424, {"message": "SERVICE:-Campaign not found"})
_CREATE: Mapping[str, Any] = {"title": "Spring", "language": "en_GB"}
_LAUNCH: Mapping[str, Any] = {
    "title": "Hello",
    "description": "x" * 255,
    "image": "https://example.com/icon.png",
    "link": "https://example.com",
    "ttl": "1000",
}
_TARGET = {"attribute": "d_wp_browser", "values": ["Edg"]}


class Client:
    """Calls with the credentials of one account; a field given as `_DROP` is left out."""

    def __init__(self, session: aiohttp.ClientSession, listening: Mapping[str, Any]) -> None:
        self.session = session
        self.listening = listening

    async def call(
        self, method: str, path: str, body: object, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        if headers is None:
            headers = {"Authorization": f"Bearer {self.listening['token']}"}
        if isinstance(body, Mapping):
            whole = {"partner_id": self.listening["partner_id"], **body}
            body = {key: value for key, value in whole.items() if value is not _DROP}
        sent: dict[str, Any] = {"data": body} if isinstance(body, bytes) else {"json": body}
        url = self.listening["url"] + path
        async with self.session.request(method, url, headers=headers, **sent) as response:
            return response.status, (await response.json() if response.content_type == "application/json" else None)

    async def create(self, **fields: object) -> tuple[int, Any]:
        return await self.call("POST", "/v1/single", {**_CREATE, **fields})

    async def created(self, **fields: object) -> int:
        status, body = await self.create(**fields)
        assert (status, body["success"]) == (201, True)
        return int(body["campaign_id"])

    async def launch(self, campaign_id: object, version: str = "v2", **fields: object) -> tuple[int, Any]:
        return await self.call("POST", f"/{version}/single/{campaign_id}", {**_LAUNCH, **fields})

    async def delete(self, campaign_id: object, **fields: object) -> tuple[int, Any]:
        return await self.call("DELETE", f"/v1/single/{campaign_id}", fields)

    async def get(self, path: str) -> Any:
        async with self.session.get(f"{self.listening['url']}/_emulator/{path}") as response:
            return await response.json()


@asynccontextmanager
async def emulator(**flags: Any) -> AsyncIterator[Client]:
    unlimited = [f"insider.{name}=100000/s" for name in ("create", "launch_v1", "delete")]
    async with serving("insider", **{"limits": unlimited, "campaigns": [_EXISTING], **flags}) as (session, listening):
        yield Client(session, listening)


def run(test: Callable[[Client], Awaitable[None]], **flags: Any) -> None:
    async def main() -> None:
        async with emulator(**flags) as client:
            await test(client)

    asyncio.run(main())


def test_create_launch_delete_take_effect_in_order() -> None:
    async def check(client: Client) -> None:
        campaign = await client.created()
        success = {"success": True, "campaign_id": campaign}
        assert await client.launch(campaign, target=_TARGET) == (200, success)
        assert await client.launch(campaign, "v1", target=_TARGET) == (200, success)
        assert await client.delete(campaign) == (200, {"success": True})
        effects = (await client.get("effects"))["effects"]
        assert [each["endpoint"] for each in effects] == [
            "insider.create",
            "insider.launch",
            "insider.launch_v1",
            "insider.delete",
        ]
        assert {each["ref"] for each in effects} == {campaign}
        assert effects[0]["body"] == {"partner_id": client.listening["partner_id"], **_CREATE}

    run(check)


def test_campaign_ids_count_up() -> None:
    async def check(client: Client) -> None:
        first = await client.created(title="a")
        assert first > _EXISTING
        assert [await client.created(title=title) for title in "bc"] == [first + 1, first + 2]

    run(check)


@pytest.mark.parametrize(
    ("fields", "good"),
    [
        ({}, True),
        ({"is_all": True}, True),
        ({"is_all": False}, True),
        ({"title": "x" * 100}, True),
        ({"language": "all_ALL"}, True),
        ({"unknown": 1}, True),
        ({"title": "x" * 101}, False),
        ({"title": ""}, False),
        ({"title": 5}, False),
        ({"title": _DROP}, False),
        ({"language": _DROP}, False),
        ({"language": None}, False),
        ({"is_all": "true"}, False),
        ({"is_all": None}, False),
        ({"partner_id": _DROP}, False),
        ({"partner_id": 100000001}, False),
        ({"partner_id": ""}, False),
    ],
)
def test_create_rules(fields: dict[str, object], good: bool) -> None:
    async def check(client: Client) -> None:
        status, body = await client.create(**fields)
        assert status == 201 if good else (status, body) == _BAD
        stats = (await client.get("stats"))["endpoints"]["insider.create"]
        assert (stats["effects"], stats["rejected"]) == ((1, {}) if good else (0, {"400": 1}))

    run(check)


def test_title_is_unique_per_account_until_deleted() -> None:
    async def check(client: Client) -> None:
        campaign = await client.created()
        assert await client.create() == _BAD
        other = Client(client.session, client.listening["accounts"][1])
        assert (await other.create())[0] == 201
        assert (await client.delete(campaign))[0] == 200
        assert (await client.create())[0] == 201

    run(check, accounts=2)


@pytest.mark.parametrize(
    ("fields", "good"),
    [
        ({}, True),
        ({"title": "x" * 100}, True),
        ({"title": "x" * 101}, False),
        ({"title": _DROP}, False),
        ({"description": "x" * 256}, False),
        ({"description": _DROP}, False),
        ({"description": "x" * 30, "banner": "https://example.com/b.png"}, True),
        ({"description": "x" * 31, "banner": "https://example.com/b.png"}, False),
        ({"description": "x", "banner": "http://example.com/b.png"}, False),
        ({"image": "http://example.com/i.png"}, False),
        ({"image": "https://"}, False),
        ({"image": _DROP}, False),
        ({"link": _DROP}, False),
        ({"link": ""}, False),
        ({"ttl": _DROP}, False),
        ({"ttl": "1"}, True),
        ({"ttl": "864000"}, True),
        ({"ttl": 864000}, True),
        ({"ttl": "864001"}, False),
        ({"ttl": 864001}, False),
        ({"ttl": "0"}, False),
        ({"ttl": "-5"}, False),
        ({"ttl": "1 day"}, False),
        ({"ttl": "²"}, False),
        ({"ttl": "9" * 5000}, False),
        ({"ttl": True}, False),
        ({"ttl": 1.5}, False),
        ({"include_unengaged": True}, True),
        ({"include_unengage": False}, True),
        ({"include_unengaged": True, "include_unengage": True}, True),
        ({"include_unengaged": True, "include_unengage": False}, False),
        ({"include_unengaged": "true"}, False),
        ({"language": "en_US"}, True),
        ({"target": _TARGET}, True),
        ({"target": {"attribute": "c_store", "values": ["1", "2"]}}, True),
        ({"target": {"attribute": "store", "values": ["1"]}}, False),
        ({"target": {"attribute": "c_", "values": ["1"]}}, False),
        ({"target": {"attribute": "c_store", "values": []}}, False),
        ({"target": {"attribute": "c_store", "values": "1"}}, False),
        ({"target": {"values": ["1"]}}, False),
        ({"target": ["c_store"]}, False),
        ({"partner_id": _DROP}, False),
        ({"partner_id": 5}, False),
    ],
)
def test_launch_rules(fields: dict[str, Any], good: bool) -> None:
    async def check(client: Client) -> None:
        expected = (200, {"success": True, "campaign_id": _EXISTING}) if good else _BAD
        assert await client.launch(_EXISTING, **fields) == expected
        assert len((await client.get("effects"))["effects"]) == good

    run(check)


def test_segmented_campaign_needs_a_target_and_may_be_launched_again() -> None:
    async def check(client: Client) -> None:
        for title, fields in (("omitted", {}), ("false", {"is_all": False})):
            campaign = await client.created(title=title, **fields)
            assert await client.launch(campaign) == _BAD
            assert [(await client.launch(campaign, target=_TARGET))[0] for _ in range(3)] == [200] * 3

    run(check)


def test_campaign_to_all_ignores_the_target_and_is_launched_once() -> None:
    async def check(client: Client) -> None:
        for title, target in (("none", _DROP), ("good", _TARGET), ("bad", "ignored")):
            campaign = await client.created(title=title, is_all=True)
            assert (await client.launch(campaign, target=target))[0] == 200
            assert await client.launch(campaign, target=target) == _BAD
        assert (await client.get("stats"))["endpoints"]["insider.launch"]["effects"] == 3

    run(check)


@pytest.mark.parametrize("campaign", [1, "campaign_id", "9" * 5000, "04242"])
def test_unknown_campaign(campaign: object) -> None:
    async def check(client: Client) -> None:
        assert await client.launch(campaign) == _NOT_FOUND
        assert await client.launch(campaign, "v1") == _NOT_FOUND
        assert await client.delete(campaign) == _NOT_FOUND
        assert (await client.get("effects"))["effects"] == []

    run(check)


def test_deleted_campaign_is_gone() -> None:
    async def check(client: Client) -> None:
        assert (await client.delete(_EXISTING, partner_id=_DROP)) == _BAD
        assert (await client.delete(_EXISTING))[0] == 200
        assert await client.launch(_EXISTING) == _NOT_FOUND
        assert await client.delete(_EXISTING) == _NOT_FOUND

    run(check)


def test_campaign_belongs_to_its_account_and_the_given_ones_to_all() -> None:
    async def check(client: Client) -> None:
        campaign = await client.created()
        other = Client(client.session, client.listening["accounts"][1])
        assert await other.launch(campaign, target=_TARGET) == _NOT_FOUND
        assert (await other.launch(_EXISTING))[0] == (await client.launch(_EXISTING))[0] == 200

    run(check, accounts=2)


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer wrong", "Basic {token}", "{token}", "Bearer {token}x"])
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/single"), ("POST", "/v2/single/4242"), ("POST", "/v1/single/4242"), ("DELETE", "/v1/single/4242")],
)
def test_bad_authorization(method: str, path: str, header: str | None) -> None:
    async def check(client: Client) -> None:
        headers = {} if header is None else {"Authorization": header.format(token=client.listening["token"])}
        assert await client.call(method, path, {**_CREATE, **_LAUNCH}, headers) == _UNAUTHORIZED
        stats = (await client.get("stats"))["endpoints"]
        assert sum(each["calls"] for each in stats.values()) == 1
        assert [each["rejected"] for each in stats.values() if each["calls"]] == [{"401": 1}]

    run(check)


def test_partner_of_another_token_is_unauthorized() -> None:
    async def check(client: Client) -> None:
        other = client.listening["accounts"][1]["partner_id"]
        assert await client.create(partner_id=other) == _UNAUTHORIZED
        assert await client.launch(_EXISTING, partner_id="nobody") == _UNAUTHORIZED

    run(check, accounts=2)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"text"', b"null", b'{"partner_id": "1",}', b"\xff"])
def test_body_must_be_a_json_object(body: bytes) -> None:
    async def check(client: Client) -> None:
        assert await client.call("POST", "/v1/single", body) == _BAD
        assert await client.call("POST", f"/v2/single/{_EXISTING}", body) == _BAD
        assert await client.call("DELETE", f"/v1/single/{_EXISTING}", body) == _BAD

    run(check)


@pytest.mark.parametrize(
    ("endpoint", "method", "path"),
    [
        ("insider.create", "POST", "/v1/single"),
        ("insider.launch_v1", "POST", "/v1/single/1"),
        ("insider.delete", "DELETE", "/v1/single/1"),
    ],
)
def test_documented_30_per_minute_counts_bad_calls_and_leaves_out_unauthorized_ones(
    endpoint: str, method: str, path: str
) -> None:
    async def check(client: Client) -> None:
        for _ in range(5):
            assert await client.call(method, path, {}, {}) == _UNAUTHORIZED
        statuses = [(await client.call(method, path, {"title": 1}))[0] for _ in range(31)]
        assert 429 not in statuses[:30]
        assert statuses[30] == 429
        stats = (await client.get("stats"))["endpoints"][endpoint]
        assert (stats["calls"], stats["admitted"], stats["throttled"], stats["limit"]) == (36, 30, 1, "30/min")

    run(check, limits=[])


def test_documented_launch_limit() -> None:
    async def check(client: Client) -> None:
        assert (await client.get("stats"))["endpoints"]["insider.launch"]["limit"] == "6000/min"

    run(check)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/single/4242", 405), ("POST", "/v2/single", 404), ("GET", "/v1/campaigns", 404)],
)
def test_routes_that_the_vendor_does_not_have(method: str, path: str, status: int) -> None:
    async def check(client: Client) -> None:
        assert (await client.call(method, path, {}))[0] == status

    run(check)
