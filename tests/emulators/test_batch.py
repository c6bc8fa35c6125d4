"""Every route, status and code that Batch.com's pages name, and the rules behind them, through a real socket."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from bulksend.emulators import Account, Call, Reply, Setup
from bulksend.emulators.batch import Batch
from tests.emulators.serving import serving

_DROP = object()
_PAST = "2020-02-29T23:59:59"
_FUTURE = "2999-01-01T00:00:00"
_UNKNOWN = "0" * 32
_MESSAGE = {"language": "en", "body": "Hello!"}
_CREATE: Mapping[str, Any] = {"name": "Test Campaign", "live": False, "push_time": "now", "messages": [_MESSAGE]}
_TYPES = {
    0: (500, "SERVER_ERROR"),
    1: (500, "SERVER_ERROR"),
    2: (503, "MAINTENANCE_ERROR"),
    10: (401, "AUTHENTICATION_INVALID"),
    12: (403, "API_MISUSE"),
    20: (404, "ROUTE_NOT_FOUND"),
    30: (400, "MISSING_PARAMETER"),
    31: (400, "MALFORMED_PARAMETER"),
    32: (400, "MALFORMED_JSON_BODY"),
    60: (429, "TOO_MANY_REQUESTS"),
}
_ROUTES = [
    ("POST", "create", "create"),
    ("POST", "update", f"update/{_UNKNOWN}"),
    ("POST", "delete", f"delete/{_UNKNOWN}"),
    ("GET", "list", "list"),
    ("GET", "stats", f"stats/{_UNKNOWN}"),
    ("GET", "get", _UNKNOWN),
]
_WRITES, _READS = _ROUTES[:3], _ROUTES[3:]


class Client:
    """Calls with the credentials of one app; a field given as `_DROP` is left out."""

    def __init__(self, session: aiohttp.ClientSession, listening: Mapping[str, Any]) -> None:
        self.session = session
        self.listening = listening
        self.key = str(listening["api_key"])

    def with_key(self, name: str) -> Client:
        other = Client(self.session, self.listening)
        other.key = self.listening.get(name, name)
        return other

    async def call(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        if headers is None:
            headers = {"X-Authorization": self.listening["rest_key"]}
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        url = f"{self.listening['url']}/1.1/{self.key}/campaigns/{path}"
        async with self.session.request(method, url, headers=headers, data=data) as response:
            return response.status, (await response.json() if response.content_type == "application/json" else None)

    async def create(self, **fields: object) -> tuple[int, Any]:
        whole = {**_CREATE, **fields}
        return await self.call("POST", "create", {key: value for key, value in whole.items() if value is not _DROP})

    async def created(self, **fields: object) -> str:
        status, body = await self.create(**fields)
        assert (status, list(body)) == (201, ["campaign_token"])
        return str(body["campaign_token"])

    async def update(self, token: str, **fields: object) -> tuple[int, Any]:
        return await self.call("POST", f"update/{token}", fields)

    async def delete(self, token: str) -> tuple[int, Any]:
        return await self.call("POST", f"delete/{token}")

    async def listed(self, query: str = "") -> list[dict[str, Any]]:
        status, found = await self.call("GET", f"list{query}")
        assert status == 200
        assert isinstance(found, list)
        return found

    async def read(self, token: str) -> dict[str, Any]:
        status, found = await self.call("GET", token)
        assert status == 200
        return dict(found)

    async def sent(self, token: str) -> int:
        """Say how often it went out, which is what the one device of the app has received."""
        status, found = await self.call("GET", f"stats/{token}")
        assert (status, found["campaign_token"]) == (200, token)
        return sum(each["sent"] for each in found["detail"])

    async def effects(self) -> list[dict[str, Any]]:
        return list((await self.control("effects"))["effects"])

    async def control(self, path: str) -> Any:
        async with self.session.get(f"{self.listening['url']}/_emulator/{path}") as response:
            return await response.json()


@asynccontextmanager
async def emulator(**flags: Any) -> AsyncIterator[Client]:
    async with serving("batch", **flags) as (session, listening):
        yield Client(session, listening)


def run(test: Callable[[Client], Awaitable[None]], **flags: Any) -> None:
    async def main() -> None:
        async with emulator(**flags) as client:
            await test(client)

    asyncio.run(main())


def assert_error(got: tuple[int, Any], code: int, names: str = "") -> None:
    status, body = got
    assert set(body) == {"code", "type", "message"}
    assert (body["code"], (status, body["type"])) == (code, _TYPES[code])
    assert body["message"]
    assert names in body["message"]


def test_create_update_delete_take_effect_in_order_and_reads_do_not() -> None:
    async def check(client: Client) -> None:
        token = await client.created()
        assert re.fullmatch("[0-9a-f]{32}", token)
        assert await client.update(token, live=True) == (200, {})
        assert (await client.call("GET", token))[0] == (await client.call("GET", f"stats/{token}"))[0] == 200
        await client.listed()
        assert await client.delete(token) == (200, {})
        effects = await client.effects()
        assert [each["endpoint"] for each in effects] == ["batch.create", "batch.update", "batch.delete"]
        assert {(each["ref"], each["account"]) for each in effects} == {(token, client.key)}
        assert [each["body"] for each in effects] == [_CREATE, {"live": True}, None]

    run(check)


def test_vendors_own_examples() -> None:
    async def check(client: Client) -> None:
        curl = b'{"name":"Test Campaign","live":true,"push_time":"now","messages":[{"language":"en","body":"Hello!"}]}'
        titled = {"language": "en", "title": "Hello!", "body": "How's it going?"}
        minimal = {"name": "Test Campaign", "push_time": "now", "live": True, "messages": [titled]}
        for body in (curl, minimal):
            status, answer = await client.call("POST", "create", body)
            assert (status, list(answer)) == (201, ["campaign_token"])
            assert await client.sent(answer["campaign_token"]) == 1
        assert len(await client.listed()) == 2  # the same name twice is no fault

    run(check)


@pytest.mark.parametrize("header", [None, "", "wrong", "{rest_key}x", "Bearer {rest_key}", "{api_key}", "{other}"])
@pytest.mark.parametrize(("method", "name", "path"), _ROUTES)
def test_rest_key_must_be_that_of_the_app(method: str, name: str, path: str, header: str | None) -> None:
    async def check(client: Client) -> None:
        other = client.listening["accounts"][1]["rest_key"]
        headers = {} if header is None else {"X-Authorization": header.format(other=other, **client.listening)}
        assert_error(await client.call(method, path, _CREATE, headers), 10, "X-Authorization")
        assert (await client.control("stats"))["endpoints"][f"batch.{name}"]["rejected"] == {"401": 1}

    run(check, accounts=2)


@pytest.mark.parametrize(("method", "name", "path"), _ROUTES)
def test_unknown_api_key(method: str, name: str, path: str) -> None:
    async def check(client: Client) -> None:
        assert_error(await client.with_key("nobody").call(method, path, _CREATE), 10, "API key")

    run(check)


@pytest.mark.parametrize(("kind", "dev_only"), [("api_key", False), ("dev_api_key", True), ("sdk_api_key", False)])
def test_every_kind_of_key_writes(kind: str, dev_only: bool) -> None:
    async def check(client: Client) -> None:
        keyed = client.with_key(kind)
        token = await keyed.created()
        assert (await client.read(token))["dev_only"] is dev_only
        assert [each["dev_only"] for each in await client.listed()] == [dev_only]
        assert await keyed.update(token, name="Other") == (200, {})
        assert await keyed.delete(token) == (200, {})
        assert {each["account"] for each in await client.effects()} == {client.key}

    run(check)


@pytest.mark.parametrize("kind", ["dev_api_key", "sdk_api_key"])
@pytest.mark.parametrize(("method", "name", "path"), _READS)
def test_only_the_live_key_reads(method: str, name: str, path: str, kind: str) -> None:
    async def check(client: Client) -> None:
        assert_error(await client.with_key(kind).call(method, path), 12, "Live API key")

    run(check)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"text"', b"null", b'{"name": "abc",}', b"\xff"])
def test_body_must_be_a_json_object(body: bytes) -> None:
    async def check(client: Client) -> None:
        token = await client.created()
        assert_error(await client.call("POST", "create", body), 32, "JSON")
        assert_error(await client.call("POST", f"update/{token}", body), 32, "JSON")
        assert len(await client.effects()) == 1

    run(check)


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"name": _DROP}, "name"),
        ({"live": _DROP}, "live"),
        ({"messages": _DROP}, "messages"),
        ({"push_time": _DROP}, "push_time"),
        ({"messages": [{"body": "b"}]}, "messages[0].language"),
        ({"messages": [_MESSAGE, {"language": "fr"}]}, "messages[1].body"),
    ],
)
def test_missing_parameter(fields: dict[str, object], names: str) -> None:
    async def check(client: Client) -> None:
        assert_error(await client.create(**fields), 30, names)
        assert await client.effects() == []

    run(check)


_GOOD: list[dict[str, object]] = [
    {"name": "abc"},
    {"live": True},
    {"push_time": _FUTURE},
    {"push_time": _PAST},
    {"push_time": _DROP, "local_push_time": _FUTURE},
    {"messages": [{**_MESSAGE, "title": "t"}, {**_MESSAGE, "language": "fr", "unknown": 1}]},
    {"labels": []},
    {"labels": ["a", "b", "c"]},
    {"priority": "normal"},
    {"priority": "high"},
    {"time_to_live": 0},
    {"time_to_live": 2419200},
    {"gcm_collapse_key": {"enabled": True, "key": "k"}},
    {"gcm_collapse_key": "k"},
    {"targeting": {"segments": ["NEW", "DORMANT"], "languages": ["en"], "regions": ["FR"], "custom_audiences": ["a"]}},
    {"targeting": {"query": {"t.tag": {"$contains": ["v"]}}, "unknown": 1}},
    {"media": {"icon": "i", "picture": "p", "audio": "a", "video": "v"}},
    {"deeplink": "app://x"},
    {"landing": {"theme": "dark"}},
    {"custom_payload": '{"a": 1}'},
    {"push_type": "background", "skip_media_check": True, "anything": [None]},
]


@pytest.mark.parametrize("fields", _GOOD)
def test_good_parameters(fields: dict[str, object]) -> None:
    async def check(client: Client) -> None:
        token = await client.created(**fields)
        found = await client.read(token)
        written = {key: value for key, value in {**_CREATE, **fields}.items() if value is not _DROP}
        if "gcm_collapse_key" in written:
            written["gcm_collapse_key"] = "k"  # written as an object, read as text
        extras = {key: found.pop(key) for key in ("campaign_token", "from_api", "dev_only", "created_date")}
        assert found == written
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", extras.pop("created_date"))
        assert extras == {"campaign_token": token, "from_api": True, "dev_only": False}

    run(check)


_BAD: list[tuple[dict[str, object], str]] = [
    ({"name": "ab"}, "name"),
    ({"name": 123}, "name"),
    ({"name": None}, "name"),
    ({"live": "true"}, "live"),
    ({"live": 1}, "live"),
    ({"push_time": "soon"}, "push_time"),
    ({"push_time": "2999-01-01T00:00:00Z"}, "push_time"),
    ({"push_time": "2999-01-01T00:00:00+01:00"}, "push_time"),
    ({"push_time": "2999-01-01 00:00:00"}, "push_time"),
    ({"push_time": "2999-02-29T00:00:00"}, "push_time"),
    ({"push_time": "2999-01-01"}, "push_time"),
    ({"push_time": "٢٩٩٩-01-01T00:00:00"}, "push_time"),  # digits, but not of ASCII
    ({"push_time": 1}, "push_time"),
    ({"local_push_time": _FUTURE}, "push_time and local_push_time"),
    ({"push_time": _DROP, "local_push_time": "now"}, "local_push_time"),
    ({"messages": []}, "messages"),
    ({"messages": _MESSAGE}, "messages"),
    ({"messages": ["Hello!"]}, "messages[0]"),
    ({"messages": [{**_MESSAGE, "language": ""}]}, "messages[0].language"),
    ({"messages": [_MESSAGE, {**_MESSAGE, "body": 5}]}, "messages[1].body"),
    ({"messages": [{**_MESSAGE, "title": 5}]}, "messages[0].title"),
    ({"labels": ["a", "b", "c", "d"]}, "labels"),
    ({"labels": "a"}, "labels"),
    ({"labels": [1]}, "labels"),
    ({"priority": "low"}, "priority"),
    ({"priority": ["high"]}, "priority"),
    ({"time_to_live": -1}, "time_to_live"),
    ({"time_to_live": 2419201}, "time_to_live"),
    ({"time_to_live": "60"}, "time_to_live"),
    ({"time_to_live": 1.5}, "time_to_live"),
    ({"time_to_live": True}, "time_to_live"),
    ({"gcm_collapse_key": True}, "gcm_collapse_key"),
    ({"gcm_collapse_key": {"enabled": "yes", "key": "k"}}, "gcm_collapse_key"),
    ({"gcm_collapse_key": {"enabled": True, "key": 1}}, "gcm_collapse_key"),
    ({"targeting": ["NEW"]}, "targeting"),
    ({"targeting": {"segments": "NEW"}}, "targeting.segments"),
    ({"targeting": {"segments": [1]}}, "targeting.segments"),
    ({"targeting": {"query": "x"}}, "targeting.query"),
    ({"targeting": {"languages": "en"}}, "targeting.languages"),
    ({"targeting": {"regions": {}}}, "targeting.regions"),
    ({"targeting": {"custom_audiences": "a"}}, "targeting.custom_audiences"),
    ({"media": "x"}, "media"),
    ({"media": {"icon": 1}}, "media.icon"),
    ({"media": {"video": None}}, "media.video"),
    ({"deeplink": {}}, "deeplink"),
    ({"landing": "x"}, "landing"),
    ({"landing": {}, "deeplink": "app://x"}, "deeplink and landing"),
    ({"custom_payload": {"a": 1}}, "custom_payload"),
]


@pytest.mark.parametrize(("fields", "names"), _BAD)
def test_malformed_parameter(fields: dict[str, object], names: str) -> None:
    async def check(client: Client) -> None:
        assert_error(await client.create(**fields), 31, names)
        token = await client.created()
        given = {key: value for key, value in {"push_time": "now", **fields}.items() if value is not _DROP}
        assert_error(await client.update(token, **given), 31, names)
        assert [each["endpoint"] for each in await client.effects()] == ["batch.create"]
        assert {name: (await client.read(token))[name] for name in _CREATE} == _CREATE

    run(check)


def test_list_is_newest_first_and_paged() -> None:
    async def check(client: Client) -> None:
        tokens = [await client.created(name=f"Campaign {number}") for number in range(25)][::-1]
        assert len(set(tokens)) == 25

        async def page(query: str) -> list[str]:
            return [each["campaign_token"] for each in await client.listed(query)]

        assert await page("") == tokens[:10]
        assert await page("?from=10") == tokens[10:20]
        assert await page("?from=20&limit=3") == tokens[20:23]
        assert await page("?from=20&limit=100") == tokens[20:]
        assert await page("?from=25") == []
        assert await page("?limit=100") == tokens

    run(check)


def test_list_items() -> None:
    async def check(client: Client) -> None:
        await client.created(labels=["a"])
        await client.created(push_time=_DROP, local_push_time=_FUTURE, name="Local", live=True)
        local, utc = await client.listed()
        shared = {"campaign_token", "from_api", "dev_only", "created_date", "name", "live"}
        assert (set(local), set(utc)) == (shared | {"local_push_time"}, shared | {"push_time"})
        assert (local["name"], local["live"], local["local_push_time"]) == ("Local", True, _FUTURE)
        assert (utc["name"], utc["live"], utc["push_time"]) == ("Test Campaign", False, "now")

    run(check)


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", ["completed", "running", "draft", "Campaign 7"]),
        ("?live=true", ["completed", "running"]),
        ("?live=false", ["draft", "Campaign 7"]),
        ("?from_api=true", ["completed", "running", "draft"]),
        ("?from_api=false", ["Campaign 7"]),
        ("?live=false&from_api=true", ["draft"]),
        ("?live=true&from=1", ["running"]),
        ("?from_api=true&limit=1", ["completed"]),
    ],
)
def test_list_filters(query: str, names: list[str]) -> None:
    async def check(client: Client) -> None:
        await client.created(name="draft")
        await client.created(name="running", live=True, push_time=_FUTURE)
        await client.created(name="completed", live=True, push_time=_PAST)
        assert [each["name"] for each in await client.listed(query)] == names

    run(check, campaigns=[7])


@pytest.mark.parametrize(
    "query",
    ["limit=101", "limit=x", "limit=-1", "limit=", "from=-1", "from=1.5", "live=yes", "live=True", "from_api=1"],
)
def test_list_refuses(query: str) -> None:
    async def check(client: Client) -> None:
        assert_error(await client.call("GET", f"list?{query}"), 31, query.partition("=")[0])

    run(check)


def test_campaigns_belong_to_their_app() -> None:
    async def check(client: Client) -> None:
        token = await client.created()
        other = Client(client.session, client.listening["accounts"][1])
        assert await other.listed() == []
        assert_error(await other.call("GET", token), 20, token)
        assert_error(await other.update(token, live=True), 20, token)
        assert_error(await other.delete(token), 20, token)

    run(check, accounts=2)


@pytest.mark.parametrize("token", [_UNKNOWN, "create", "A0082DC6860938A26280BD3BA927303B", "x"])
def test_unknown_campaign(token: str) -> None:
    async def check(client: Client) -> None:
        for method, path in (("GET", ""), ("GET", "stats/"), ("POST", "update/"), ("POST", "delete/")):
            assert_error(await client.call(method, path + token, {"live": True}), 20, token)
        assert await client.effects() == []

    run(check)


def test_deleted_campaign_is_gone() -> None:
    async def check(client: Client) -> None:
        kept, gone = await client.created(), await client.created()
        assert await client.delete(gone) == (200, {})
        assert_error(await client.delete(gone), 20, gone)
        assert_error(await client.update(gone, live=True), 20, gone)
        assert [each["campaign_token"] for each in await client.listed()] == [kept]

    run(check)


def test_routes_that_the_vendor_does_not_have() -> None:
    async def check(client: Client) -> None:
        assert_error(await client.call("POST", "enable/x/y", {}), 20, "route")
        assert_error(await client.call("GET", "", headers={}), 20, "route")
        async with client.session.post(f"{client.listening['url']}/2.0/campaigns/create") as response:
            assert_error((response.status, await response.json()), 20, "route")

    run(check)


def test_update_merges() -> None:
    async def check(client: Client) -> None:
        token = await client.created(labels=["a"], deeplink="app://x")
        changes = {"name": "Other", "priority": "high", "gcm_collapse_key": {"enabled": True, "key": "k"}}
        assert await client.update(token, **changes) == (200, {})
        found = await client.read(token)
        assert {name: found[name] for name in (*_CREATE, "labels", "deeplink")} == {
            **_CREATE,
            "name": "Other",
            "labels": ["a"],
            "deeplink": "app://x",
        }
        assert (found["priority"], found["gcm_collapse_key"]) == ("high", "k")

    run(check)


def test_update_with_the_other_of_two_that_exclude_each_other_replaces_the_first() -> None:
    async def check(client: Client) -> None:
        token = await client.created(deeplink="app://x")
        await client.update(token, local_push_time=_FUTURE, landing={})
        found = await client.read(token)
        assert (found["local_push_time"], found["landing"]) == (_FUTURE, {})
        assert not {"push_time", "deeplink"} & set(found)

    run(check)


def test_update_cannot_forge_what_a_get_adds() -> None:
    async def check(client: Client) -> None:
        token = await client.created()
        await client.update(token, campaign_token="x", from_api=False, dev_only=True, created_date="x")
        found = await client.read(token)
        assert (found["campaign_token"], found["from_api"], found["dev_only"]) == (token, True, False)

    run(check)


@pytest.mark.parametrize("fields", [{}, {"live": True}, {"name": "Test Campaign"}, {**_CREATE, "live": True}])
def test_update_that_changes_nothing_succeeds_and_is_no_effect(fields: dict[str, object]) -> None:
    async def check(client: Client) -> None:
        token = await client.created(live=True, push_time=_FUTURE)
        same = {**fields, "push_time": _FUTURE} if "push_time" in fields else fields
        assert [await client.update(token, **same) for _ in range(2)] == [(200, {})] * 2
        assert [each["endpoint"] for each in await client.effects()] == ["batch.create"]

    run(check)


def test_campaign_of_the_dashboard_is_read_and_not_updated() -> None:
    async def check(client: Client) -> None:
        token = f"{7:032}"
        assert (await client.read(token))["from_api"] is False
        assert_error(await client.update(token, live=True), 12, "created by the API")
        assert await client.sent(token) == 0

    run(check, campaigns=[7])


def test_draft_is_not_sent_until_it_is_set_live() -> None:
    async def check(client: Client) -> None:
        token = await client.created()
        assert await client.call("GET", f"stats/{token}") == (200, {"campaign_token": token, "detail": []})
        await client.update(token, live=True)
        status, found = await client.call("GET", f"stats/{token}")
        (day,) = found["detail"]
        assert status == 200
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", day.pop("date"))
        counts = {"sent_optins": 1, "direct_open": 0, "influenced_open": 0, "reengaged": 0, "errors": 0}
        assert day == {"sent": 1, **counts}

    run(check)


def test_planned_campaign_is_stopped_and_set_live_again_and_not_sent() -> None:
    async def check(client: Client) -> None:
        token = await client.created(live=True, push_time=_FUTURE)
        for live in (False, True, False):
            assert await client.update(token, live=live) == (200, {})
            assert (await client.read(token))["live"] is live
        assert await client.sent(token) == 0

    run(check)


def test_completed_campaign_is_never_set_live_again() -> None:
    async def check(client: Client) -> None:
        token = await client.created(live=True, push_time=_PAST)
        assert_error(await client.update(token, live=True), 31, "live")
        assert_error(await client.update(token, live=True, push_time=_FUTURE), 31, "completed")
        assert (await client.read(token))["live"] is True
        assert await client.update(token, live=False, push_time="now") == (200, {})
        assert_error(await client.update(token, live=True), 31, "live")
        assert await client.sent(token) == 1

    run(check)


def test_campaign_of_now_completes_by_itself() -> None:
    async def check(client: Client) -> None:
        token = await client.created(live=True)
        for _ in range(1000):
            status, body = await client.update(token, live=True)
            if status != 200:
                break
            await asyncio.sleep(0.02)
        assert_error((status, body), 31, "completed")
        assert await client.sent(token) == 1

    run(check)


class Clock:
    """Judges calls at times of the test's choosing, in seconds since `starts_at_s`."""

    def __init__(self, starts_at_s: float) -> None:
        self.batch = Batch(Setup(accounts=1, campaigns=(), rng=random.Random(0), started_at_s=starts_at_s))
        self.account: Account = self.batch.accounts[0]

    def call(self, name: str, now_s: float, body: object = None, token: str = "") -> Reply:
        params = {"api_key": self.account.id, "token": token}
        return self.batch.judge(Call(f"batch.{name}", "", params, {}, {}, body, now_s), self.account)

    def create(self, now_s: float, **fields: object) -> str:
        body = {key: value for key, value in {**_CREATE, **fields}.items() if value is not _DROP}
        return str(self.call("create", now_s, body).effect)

    def update(self, token: str, now_s: float, **fields: object) -> int:
        return self.call("update", now_s, fields, token).status

    def sent(self, token: str, now_s: float) -> dict[str, int]:
        body: Any = self.call("stats", now_s, token=token).body
        return {each["date"]: each["sent"] for each in body["detail"]}


def test_now_is_the_moment_of_going_live() -> None:
    clock = Clock(0)
    token = clock.create(0)
    assert clock.sent(token, 86_399) == {}
    assert clock.update(token, 86_400, live=True) == 200
    assert clock.update(token, 86_401.9, live=True) == 200
    assert clock.update(token, 86_402, live=True) == 400
    assert clock.sent(token, 10**6) == {"1970-01-02": 1}


def test_stopping_in_the_middle_and_going_live_again_sends_again() -> None:
    clock = Clock(0)
    token = clock.create(0, live=True)
    assert clock.update(token, 1, live=False) == 200
    assert clock.update(token, 1000, live=True) == 200
    assert clock.update(token, 1001, live=True) == 200
    assert clock.sent(token, 1001) == {"1970-01-01": 2}


def test_fixed_time_is_sent_and_completed_when_it_comes() -> None:
    clock = Clock(86_400)
    token = clock.create(0, live=True, push_time="1970-01-02T00:01:00")
    assert (clock.sent(token, 59.9), clock.update(token, 59.9, live=True)) == ({}, 200)
    assert (clock.update(token, 60, live=True), clock.sent(token, 60)) == (400, {"1970-01-02": 1})


def test_time_may_be_moved_while_live_and_it_is_sent_once() -> None:
    clock = Clock(0)
    token = clock.create(0, live=True, push_time="1970-01-01T01:00:00")
    assert clock.update(token, 10, push_time="1970-01-03T00:00:00") == 200
    assert clock.sent(token, 86_400) == {}
    assert clock.update(token, 86_400, push_time="now") == 200
    assert clock.update(token, 86_401, push_time="1970-01-04T00:00:00") == 200
    assert clock.sent(token, 10**6) == {"1970-01-02": 1}


def test_local_time_is_sent_from_the_first_zone_to_the_last() -> None:
    clock = Clock(0)
    token = clock.create(0, live=True, push_time=_DROP, local_push_time="1970-01-02T00:00:00")
    assert clock.sent(token, 10 * 3600 - 1) == {}
    assert clock.sent(token, 10 * 3600) == {"1970-01-01": 1}
    assert clock.update(token, 36 * 3600 - 1, live=True) == 200
    assert clock.update(token, 36 * 3600, live=True) == 400


@pytest.mark.parametrize(("method", "name", "path"), _ROUTES)
def test_no_limit_is_published_and_a_given_one_is_code_60(method: str, name: str, path: str) -> None:
    async def check(client: Client) -> None:
        answers = [await client.call(method, path, _CREATE) for _ in range(6)]
        assert 429 not in [status for status, _ in answers[:5]]
        assert_error(answers[5], 60, "5 seconds")
        stats = (await client.control("stats"))["endpoints"]
        assert {each: stats[each]["limit"] for each in stats if stats[each]["limit"]} == {f"batch.{name}": "5/1h"}
        assert (stats[f"batch.{name}"]["admitted"], stats[f"batch.{name}"]["throttled"]) == (5, 1)

    run(check, limits=[f"batch.{name}=5/1h"])


def test_limit_of_create_is_counted_per_app_over_all_its_keys() -> None:
    async def check(client: Client) -> None:
        keys = ["api_key", "dev_api_key", "sdk_api_key", "api_key", "dev_api_key"]
        assert [(await client.with_key(key).create())[0] for key in keys] == [201] * 5
        assert_error(await client.with_key("sdk_api_key").create(), 60)
        assert (await Client(client.session, client.listening["accounts"][1]).create())[0] == 201
        assert len(await client.effects()) == 6

    run(check, limits=["batch.create=5/1h"], accounts=2)


@pytest.mark.parametrize(("fault", "effects"), [("500", 0), ("500-after", 1)])
@pytest.mark.parametrize(("method", "name", "path"), _ROUTES)
def test_server_error_is_code_1_on_create_and_update_and_0_elsewhere(
    method: str, name: str, path: str, fault: str, effects: int
) -> None:
    async def check(client: Client) -> None:
        assert_error(await client.call(method, path, _CREATE), 1 if name in ("create", "update") else 0)
        assert len(await client.effects()) == (effects if name == "create" else 0)

    run(check, faults=[f"batch.{name}={fault}:100%"])


@pytest.mark.parametrize(("fault", "code"), [("503", 2), ("429", 60)])
@pytest.mark.parametrize(("method", "name", "path"), _ROUTES)
def test_maintenance_and_too_many_requests(method: str, name: str, path: str, fault: str, code: int) -> None:
    async def check(client: Client) -> None:
        assert_error(await client.call(method, path, _CREATE), code)
        assert await client.effects() == []

    run(check, faults=[f"batch.{name}={fault}:100%"])


def test_lost_reply_is_found_in_the_list() -> None:
    async def check(client: Client) -> None:
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.create(name="marker 1")
        (found,) = await client.listed("?from_api=true&limit=100")
        (effect,) = await client.effects()
        assert (found["name"], found["campaign_token"]) == ("marker 1", effect["ref"])

    run(check, faults=["batch.create=reset-after:100%"])


def test_same_seed_same_keys_and_tokens() -> None:
    async def tokens(seed: int) -> list[object]:
        async with emulator(seed=seed) as client:
            keys = {key: value for key, value in client.listening.items() if key != "url"}
            assert set(keys) == {"api_key", "dev_api_key", "sdk_api_key", "rest_key"}
            assert len(set(keys.values())) == 4
            return [keys, *[await client.created() for _ in range(3)]]

    first, again, other = (asyncio.run(tokens(seed)) for seed in (7, 7, 8))
    assert first == again
    assert not set(first[1:]) & set(other[1:])
