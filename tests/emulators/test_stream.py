"""Stream's routes in both families, who may call them, and what every answer has, through a real socket."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from tests.emulators.serving import serving

V1, V2 = "", "/api/v2/chat"
FAMILIES = pytest.mark.parametrize("family", [V1, V2])
MESSAGE = {"text": "Hi {{ receiver.name }}"}
CREATE: Mapping[str, Any] = {"sender_id": "user-0001", "message_template": MESSAGE, "user_ids": ["user-0002"]}
DROP = object()
_ERROR_KEYS = {"code", "message", "StatusCode", "duration", "more_info", "details"}


def jwt(payload: object, secret: str, header: object = None) -> str:
    """Write a token by hand, so that the emulator's own reading is not asked to check itself."""
    parts = [json.dumps(part).encode() for part in (header or {"alg": "HS256", "typ": "JWT"}, payload)]
    signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = hmac.new(secret.encode(), signed, hashlib.sha256).digest()
    return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


class Client:
    """Calls with the credentials of one account; a field given as `DROP` is left out."""

    def __init__(self, session: aiohttp.ClientSession, listening: Mapping[str, Any]) -> None:
        self.session = session
        self.listening = listening
        self.key: str = listening["api_key"]
        self.secret: str = listening["api_secret"]
        self.headers: Mapping[str, str] = {}

    async def call(
        self,
        method: str,
        path: str,
        body: object = DROP,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Any]:
        if headers is None:
            headers = {"stream-auth-type": "jwt", "Authorization": jwt({"server": True}, self.secret)}
        if isinstance(body, Mapping):
            body = {key: value for key, value in body.items() if value is not DROP}
        sent: dict[str, Any] = {"data": body} if isinstance(body, bytes) else {} if body is DROP else {"json": body}
        query = {"api_key": self.key} if query is None else {"api_key": self.key, **query}
        url = self.listening["url"] + path
        async with self.session.request(
            method, url, headers=headers, params={k: v for k, v in query.items() if v}, **sent
        ) as response:
            self.headers = response.headers
            return response.status, await response.json()

    async def good(self, method: str, path: str, body: object = DROP, **more: Any) -> Any:
        """Make a call that succeeds as such calls do: 201 for POST and PUT, 200 for GET and DELETE."""
        status, found = await self.call(method, path, body, **more)
        assert status == (201 if method in ("POST", "PUT") else 200), found
        assert found["duration"].endswith("ms")
        return found

    async def bad(self, status: int, code: int, method: str, path: str, body: object = DROP, **more: Any) -> str:
        """Make a call that is refused with the vendor's whole error body, and return its message."""
        got, found = await self.call(method, path, body, **more)
        assert (got, found.get("code"), found.get("StatusCode")) == (status, code, status), found
        assert set(found) >= _ERROR_KEYS
        assert found["details"] == []
        assert ' failed with error: "' in found["message"]
        return str(found["message"])

    async def campaign(self, family: str = V1, **fields: object) -> str:
        found = await self.good("POST", f"{family}/campaigns", {**CREATE, **fields})
        return str(found["campaign"]["id"])

    async def segment(self, *targets: str, family: str = V1, **fields: object) -> str:
        found = await self.good("POST", f"{family}/segments", {"type": "user", **fields})
        segment_id = str(found["segment"]["id"])
        if targets:
            await self.good("POST", f"{family}/segments/{segment_id}/addtargets", {"target_ids": list(targets)})
        return segment_id

    async def shown(self, campaign_id: str, family: str = V1) -> Any:
        return (await self.good("GET", f"{family}/campaigns/{campaign_id}"))["campaign"]

    async def become(self, campaign_id: str, status: str, family: str = V1) -> Any:
        """Ask until the campaign has the status; the test's own limit ends it where it never comes."""
        for _ in range(3000):
            campaign = await self.shown(campaign_id, family)
            if campaign["status"] == status:
                return campaign
            await asyncio.sleep(0.02)
        raise AssertionError(f"{campaign_id} never was {status}: {campaign}")

    async def effects(self) -> list[tuple[str, str]]:
        async with self.session.get(f"{self.listening['url']}/_emulator/effects") as response:
            found = (await response.json())["effects"]
        return [(each["endpoint"].removeprefix("stream."), each["ref"]) for each in found]

    async def stats(self) -> Any:
        async with self.session.get(f"{self.listening['url']}/_emulator/stats") as response:
            return (await response.json())["endpoints"]


@asynccontextmanager
async def emulator(**flags: Any) -> AsyncIterator[Client]:
    async with serving("stream", **flags) as (session, listening):
        yield Client(session, listening)


def run(test: Callable[[Client], Awaitable[None]], **flags: Any) -> None:
    async def main() -> None:
        async with emulator(**flags) as client:
            await test(client)

    asyncio.run(main())


def _is_moment(value: object, family: str) -> bool:
    if family == V2:
        return isinstance(value, int) and value > 10**18
    return isinstance(value, str) and len(value) == len("2020-03-30T07:54:46.207332Z") and value.endswith("Z")


@FAMILIES
def test_campaign_calls(family: str) -> None:
    async def check(client: Client) -> None:
        path = f"{family}/campaigns"
        created = await client.good("POST", path, {**CREATE, "id": "c1", "name": "Spring", "create_channels": None})
        campaign = created["campaign"]
        assert (campaign["id"], campaign["status"], campaign["name"]) == ("c1", "draft", "Spring")
        assert (campaign["sender_mode"], campaign["segments"], campaign["create_channels"]) == ("", [], False)
        assert [user["id"] for user in campaign["users"]] == ["user-0002"]
        assert campaign["sender"]["id"] == "user-0001"
        assert (campaign["stats"]["progress"], campaign["stats"]["stats_started_at"]) == (0.0, None)
        assert _is_moment(campaign["created_at"], family)
        assert created["users"] == {}
        assert (await client.good("GET", f"{path}/c1"))["campaign"] == campaign
        found = await client.good("POST", f"{path}/query", {"filter": {"id": "c1"}})
        assert found["campaigns"] == [campaign]
        updated = await client.good("PUT", f"{path}/c1", {**CREATE, "name": "Summer"})
        assert updated["campaign"]["name"] == "Summer"
        assert updated.get("name") == ("Summer" if family == V2 else None)
        started = await client.good("POST", f"{path}/c1/start", {"scheduled_for": "2100-01-01T00:00:00Z"})
        assert started["campaign"]["status"] == "scheduled"
        assert _is_moment(started["campaign"]["scheduled_for"], family)
        stopped = await client.good("POST", f"{path}/c1/stop", {})
        assert stopped["campaign"]["status"] == "stopped"
        assert stopped.get("status") == ("stopped" if family == V2 else None)
        assert set(await client.good("DELETE", f"{path}/c1")) == {"duration"}
        assert "DeleteCampaign" in await client.bad(404, 16, "DELETE", f"{path}/c1")
        assert await client.effects() == [
            (f"campaign.{name}", "c1") for name in ("create", "update", "start", "stop", "delete")
        ]

    run(check)


@FAMILIES
def test_segment_calls(family: str) -> None:
    async def check(client: Client) -> None:
        path = f"{family}/segments"
        created = await client.good("POST", path, {"type": "user", "id": "s/1", "name": "Team", "description": None})
        segment = created["segment"]
        assert {key: segment[key] for key in ("id", "type", "name", "description", "filter", "size")} == {
            "id": "s/1",
            "type": "user",
            "name": "Team",
            "description": "",
            "filter": None,
            "size": 0,
        }
        assert _is_moment(segment["created_at"], family)
        one = f"{path}/s%2F1"
        assert (await client.good("GET", one))["segment"] == segment
        updated = await client.good("PUT", one, {"description": "the team"})
        assert (updated["segment"]["name"], updated["segment"]["description"]) == ("Team", "the team")
        assert set(await client.good("POST", f"{one}/addtargets", {"target_ids": ["b", "a", "c"]})) == {"duration"}
        assert (await client.good("GET", one))["segment"]["size"] == 3
        await client.good("GET", f"{one}/target/a")
        await client.good("POST", f"{one}/deletetargets", {"target_ids": ["a", "absent"]})
        assert "SegmentTargetExists" in await client.bad(404, 16, "GET", f"{one}/target/a")
        found = await client.good("POST", f"{one}/targets/query", {})
        assert [each["target_id"] for each in found["targets"]] == ["b", "c"]
        assert set(found["targets"][0]) == {"app_pk", "segment_id", "target_id", "created_at"}
        assert _is_moment(found["targets"][0]["created_at"], family)
        assert len((await client.good("POST", f"{path}/query", {"filter": {"id": {"$eq": "s/1"}}}))["segments"]) == 1
        await client.good("DELETE", one)
        for method, where, body in (
            ("GET", one, DROP),
            ("PUT", one, {}),
            ("DELETE", one, DROP),
            ("GET", f"{one}/target/b", DROP),
            ("POST", f"{one}/addtargets", {"target_ids": ["b"]}),
            ("POST", f"{one}/deletetargets", {"target_ids": ["b"]}),
            ("POST", f"{one}/targets/query", {}),
        ):
            await client.bad(404, 16, method, where, body)
        assert (await client.good("POST", f"{path}/query", {"filter": {}}))["segments"] == []
        assert await client.effects() == [
            (name, "s/1")
            for name in ("segment.create", "segment.update", "targets.add", "targets.delete", "segment.delete")
        ]

    run(check)


@pytest.mark.parametrize("prefix", ["", "/api/v2"])
def test_users_are_added_and_deleted(prefix: str) -> None:
    async def check(client: Client) -> None:
        given = {"u1": {"id": "u1", "name": "Una", "country": "Peru", "custom": {"plan": "gold"}}}
        found = (await client.good("POST", f"{prefix}/users", {"users": given}))["users"]["u1"]
        assert found["custom"] == {"country": "Peru", "plan": "gold"}
        assert found.get("country") == (None if prefix else "Peru")
        segment = await client.segment(filter={"$and": [{"country": "Peru"}, {"plan": {"$in": ["gold"]}}]})
        await client.good("GET", f"/segments/{segment}/target/u1")
        assert (await client.good("POST", f"{prefix}/users/delete", {"user_ids": ["u1", "nobody"]}))["task_id"]
        await client.bad(404, 16, "GET", f"/segments/{segment}/target/u1")
        for body in ({}, {"users": []}, {"users": {}}, {"users": {"u1": {"id": "u2"}}}, {"users": {"u1": 5}}):
            assert "UpdateUsers" in await client.bad(400, 4, "POST", f"{prefix}/users", body)
        assert await client.effects() == [("users", "u1"), ("segment.create", segment), ("users", "u1")]

    run(check)


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"query": {"api_key": ""}}, 401, 2),
        ({"query": {"api_key": "unknown"}}, 401, 2),
        ({"type": None}, 401, 5),
        ({"type": "anonymous"}, 401, 5),
        ({"token": None}, 401, 5),
        ({"token": "Bearer {server}"}, 401, 5),
        ({"token": "a.b"}, 401, 5),
        ({"token": "a.b.c"}, 401, 5),
        ({"token": "é.b.c"}, 401, 5),
        ({"token": "{none}"}, 401, 5),
        ({"token": "{server}x"}, 401, 43),
        ({"token": "{forged}"}, 401, 43),
        ({"token": "{expired}"}, 401, 40),
        ({"token": "{early}"}, 401, 41),
        ({"token": "{future}"}, 401, 42),
        ({"token": "{user}"}, 403, 17),
    ],
)
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/campaigns"), ("GET", "/api/v2/chat/segments/s"), ("POST", "/users/delete")]
)
def test_who_is_refused(method: str, path: str, change: dict[str, Any], status: int, code: int) -> None:
    async def check(client: Client) -> None:
        tokens = {
            "server": jwt({"server": True}, client.secret),
            "forged": jwt({"server": True}, "0" * 64),
            "none": jwt({"server": True}, client.secret, {"alg": "none"}),
            "expired": jwt({"exp": 1}, client.secret),
            "early": jwt({"nbf": 1e11}, client.secret),
            "future": jwt({"iat": 1e11}, client.secret),
            "user": jwt({"user_id": "user-0001"}, client.secret),
        }
        token = change.get("token", "{server}")
        headers = {
            "stream-auth-type": change.get("type", "jwt"),
            "Authorization": token and token.format_map(tokens),
        }
        headers = {key: value for key, value in headers.items() if value is not None}
        await client.bad(status, code, method, path, dict(CREATE), headers=headers, query=change.get("query"))
        assert await client.effects() == []

    run(check)


@pytest.mark.parametrize("payload", [{"server": True}, {}, {"iat": 5, "exp": 1e11}])
def test_a_token_without_user_is_a_servers(payload: object) -> None:
    async def check(client: Client) -> None:
        headers = {"Stream-Auth-Type": "jwt", "Authorization": jwt(payload, client.secret)}
        await client.good("POST", "/segments", {"type": "user"}, headers=headers)

    run(check)


def test_accounts_know_nothing_of_each_other() -> None:
    async def check(client: Client) -> None:
        other = Client(client.session, client.listening["accounts"][1])
        campaign, segment = await client.campaign(id="same"), await client.segment(id="same")
        await other.bad(404, 16, "GET", f"/campaigns/{campaign}")
        await other.bad(404, 16, "GET", f"/segments/{segment}")
        assert (await other.campaign(id="same"), await other.segment(id="same")) == (campaign, segment)
        headers = {"stream-auth-type": "jwt", "Authorization": jwt({}, client.secret)}
        await other.bad(401, 43, "GET", f"/campaigns/{campaign}", headers=headers)

    run(check, accounts=2)


def test_unknown_path_and_unknown_campaign() -> None:
    async def check(client: Client) -> None:
        for path in ("/campaign", "/api/v2/chat/nothing", "/api/v2/campaigns"):
            status, body = await client.call("GET", path)
            assert (status, body["code"]) == (404, 16)
        for method, path in (("GET", ""), ("PUT", ""), ("DELETE", ""), ("POST", "/start"), ("POST", "/stop")):
            await client.bad(404, 16, method, f"/campaigns/unknown{path}", dict(CREATE))
        assert await client.effects() == []

    run(check)


def test_rate_limit_headers_only_where_there_is_a_limit() -> None:
    async def check(client: Client) -> None:
        campaign = await client.campaign()
        assert not [name for name in client.headers if name.lower().startswith("x-ratelimit")]
        for left in (4, 3, 2, 1, 0):
            await client.good("GET", f"/campaigns/{campaign}")
            assert (client.headers["X-RateLimit-Limit"], client.headers["X-RateLimit-Remaining"]) == ("5", str(left))
        message = await client.bad(429, 9, "GET", f"{V2}/campaigns/{campaign}")
        assert message.startswith("GetCampaign failed")
        assert client.headers["X-RateLimit-Remaining"] == "0"
        assert client.headers["X-RateLimit-Reset"].isdecimal()
        assert len(client.headers["X-RateLimit-Reset"]) == 10
        assert (await client.stats())["stream.campaign.get"]["throttled"] == 1

    run(check, limits=["stream.campaign.get=5/10s"])


def test_no_limit_is_published() -> None:
    async def check(client: Client) -> None:
        stats = await client.stats()
        assert {each["limit"] for each in stats.values()} == {None}
        assert len(stats) == 17

    run(check)


def test_faults_have_the_vendors_bodies() -> None:
    async def check(client: Client) -> None:
        message = await client.bad(500, -1, "POST", "/campaigns", dict(CREATE))
        assert message.startswith("CreateCampaign failed")
        await client.bad(429, 9, "POST", "/segments", {"type": "user"})
        assert client.headers["Retry-After"] == "3"
        assert await client.effects() == []
        await client.bad(503, -1, "POST", "/api/v2/users", {"users": {"u": {"id": "u"}}})
        assert await client.effects() == [("users", "u")]

    faults = ["stream.campaign.create=500:100%", "stream.segment.create=429-retry-after=3:100%"]
    run(check, faults=[*faults, "stream.users=503-after:100%"])
