"""Each documented limit of Stream's campaigns and segments: at the limit accepted, above it 400 with code 4."""

from __future__ import annotations

from typing import Any

import pytest

from tests.emulators.test_stream import CREATE, DROP, FAMILIES, V1, V2, Client, run

_LATER = "2100-01-01T00:00:00Z"
_SEGMENTS = {"user_ids": DROP, "segment_ids": ["s"]}


def _ids(count: int) -> list[str]:
    return [f"id-{number}" for number in range(count)]


async def _judged(client: Client, good: bool, method: str, path: str, body: object) -> None:
    """Make the call in both families, and see that only a good one has an effect."""
    for number, family in enumerate((V1, V2), 1):
        if good:
            await client.good(method, family + path, body)
        else:
            await client.bad(400, 4, method, family + path, body)
        assert len(await client.effects()) == (number if good else 0)


@pytest.mark.parametrize(
    ("fields", "good"),
    [
        ({}, True),
        ({"id": "x" * 256}, False),
        ({"id": 5}, False),
        ({"id": None}, True),
        ({"sender_id": DROP}, False),
        ({"sender_id": None}, False),
        ({"sender_id": ""}, False),
        ({"sender_id": 5}, False),
        ({"sender_id": "unknown"}, True),
        ({"message_template": DROP}, False),
        ({"message_template": "text"}, False),
        ({"message_template": {}}, False),
        ({"message_template": {"text": ""}}, False),
        ({"message_template": {"text": 5}}, False),
        ({"message_template": {"text": "x", "attachments": [{}] * 30}}, True),
        ({"message_template": {"text": "x", "attachments": [{}] * 31}}, False),
        ({"message_template": {"text": "x", "attachments": ["a"]}}, False),
        ({"message_template": {"text": "x", "attachments": {}}}, False),
        ({"message_template": {"text": "x", "poll_id": 1}}, False),
        ({"message_template": {"text": "x", "searchable": "yes"}}, False),
        ({"message_template": {"text": "x", "custom": []}}, False),
        ({"message_template": {"text": "x", "custom": {"a": 1}, "poll_id": "p", "searchable": True}}, True),
        ({"user_ids": _ids(10_000)}, True),
        ({"user_ids": _ids(10_001)}, False),
        ({"user_ids": [5]}, False),
        ({"user_ids": [""]}, False),
        ({"user_ids": "user-0001"}, False),
        ({"user_ids": DROP}, False),
        ({"user_ids": []}, False),
        ({"user_ids": DROP, "segment_ids": _ids(25)}, True),
        ({"user_ids": DROP, "segment_ids": _ids(26)}, False),
        ({"user_ids": None, "segment_ids": ["s"]}, True),
        ({"segment_ids": ["s"]}, False),
        ({"segment_ids": None}, True),
        ({"name": 5}, False),
        ({"name": "x" * 300, "description": "y" * 300}, True),
        ({"description": []}, False),
        ({"create_channels": True}, False),
        ({"create_channels": "true"}, False),
        ({"create_channels": True, "channel_template": {"type": "messaging"}}, True),
        ({"channel_template": {}}, False),
        ({"channel_template": {"type": "x" * 64}}, True),
        ({"channel_template": {"type": "x" * 65}}, False),
        ({"channel_template": {"type": "t", "id": 5}}, False),
        ({"channel_template": {"type": "t", "team": "x" * 1001}}, False),
        ({"channel_template": {"type": "t", "custom": "c"}}, False),
        ({"channel_template": {"type": "t", "members": _ids(1000)}}, True),
        ({"channel_template": {"type": "t", "members": _ids(1001)}}, False),
        ({"channel_template": {"type": "t", "members_template": [{"user_id": "u"}] * 1000}}, True),
        ({"channel_template": {"type": "t", "members_template": [{"user_id": "u"}] * 1001}}, False),
        ({"channel_template": {"type": "t", "members_template": [{}]}}, False),
        ({"channel_template": {"type": "t", "members_template": [{"user_id": "u", "channel_role": 1}]}}, False),
        ({"channel_template": {"type": "t", "members": ["u"], "members_template": [{"user_id": "u"}]}}, False),
        ({"sender_mode": "exclude", "sender_visibility": "hidden"}, True),
        ({"sender_mode": "include", "sender_visibility": "archived"}, True),
        ({"sender_mode": "hidden"}, False),
        ({"sender_visibility": "visible"}, False),
        ({"show_channels": 1}, False),
        ({"skip_push": "no"}, False),
        ({"skip_webhook": 0}, False),
        ({"skip_push": True, "skip_webhook": True, "show_channels": True, "unknown": 1}, True),
    ],
)
def test_create_campaign(fields: dict[str, Any], good: bool) -> None:
    async def check(client: Client) -> None:
        await _judged(client, good, "POST", "/campaigns", {**CREATE, **fields})

    run(check)


@pytest.mark.parametrize(
    ("fields", "good"),
    [
        ({}, True),
        ({"type": "channel"}, True),
        ({"type": DROP}, False),
        ({"type": "team"}, False),
        ({"type": 5}, False),
        ({"id": "x" * 256}, False),
        ({"name": "x" * 128, "description": "y" * 256}, True),
        ({"name": "x" * 129}, False),
        ({"description": "x" * 257}, False),
        ({"filter": {}}, True),
        ({"filter": {"country": "USA"}}, True),
        ({"filter": {"created_at": {"$gte": "2020-01-01T00:00:00Z"}}}, True),
        ({"filter": {"created_at": {"$gte": "yesterday"}}}, False),
        ({"filter": {"country": {"$near": "USA"}}}, False),
        ({"filter": []}, False),
        ({"all_users": True}, True),
        ({"all_users": "yes"}, False),
        ({"all_users": True, "filter": {"country": "USA"}}, False),
        ({"all_users": False, "filter": {"country": "USA"}}, True),
        ({"type": "channel", "all_sender_channels": True}, True),
        ({"type": "channel", "all_sender_channels": True, "filter": {"team": "red"}}, False),
        ({"type": "channel", "all_sender_channels": None, "filter": {"team": "red"}}, True),
    ],
)
def test_create_segment(fields: dict[str, Any], good: bool) -> None:
    async def check(client: Client) -> None:
        await _judged(client, good, "POST", "/segments", {"type": "user", **fields})

    run(check)


@pytest.mark.parametrize(
    ("path", "body", "good"),
    [
        ("addtargets", {"target_ids": ["a"]}, True),
        ("addtargets", {"target_ids": _ids(10_000)}, True),
        ("addtargets", {"target_ids": _ids(10_001)}, False),
        ("addtargets", {"target_ids": []}, False),
        ("addtargets", {"target_ids": [5]}, False),
        ("addtargets", {"target_ids": None}, False),
        ("addtargets", {}, False),
        ("addtargets", [], False),
        ("deletetargets", {"target_ids": _ids(100)}, True),
        ("deletetargets", {"target_ids": _ids(101)}, False),
        ("deletetargets", {"target_ids": []}, False),
        ("deletetargets", {}, False),
    ],
)
@FAMILIES
def test_target_ids(family: str, path: str, body: Any, good: bool) -> None:
    async def check(client: Client) -> None:
        segment = await client.segment("id-0", "id-1")
        if good:
            await client.good("POST", f"{family}/segments/{segment}/{path}", body)
        else:
            await client.bad(400, 4, "POST", f"{family}/segments/{segment}/{path}", body)
        assert len(await client.effects()) == (3 if good else 2)

    run(check)


@pytest.mark.parametrize(
    ("path", "most"), [("/campaigns/query", 100), ("/segments/query", 100), ("/segments/s/targets/query", 10_000)]
)
@FAMILIES
def test_query_limits(family: str, path: str, most: int) -> None:
    async def check(client: Client) -> None:
        await client.segment(id="s")
        for limit in (0, 1, most, None):
            await client.good("POST", family + path, {"filter": {}, "limit": limit})
        for body in (
            {"limit": most + 1},
            {"limit": -1},
            {"limit": "5"},
            {"limit": True},
            {"filter": []},
            {"filter": {"nothing": 1}},
            {"filter": {"id" if "targets" not in path else "target_id": {"$regex": "x"}}},
            {"filter": {"$and": []}},
            {"filter": {"$or": [5]}},
            {"sort": {}},
            {"sort": [5]},
            {"sort": [{"field": "nothing"}]},
            {"sort": [{"field": "id", "direction": 2}]},
            {"sort": [{"direction": 1}]},
            {"next": "nonsense"},
            {"next": 5},
            {"prev": "W10"},
        ):
            await client.bad(400, 4, "POST", family + path, body)

    run(check)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"text"', b"null", b"\xff"])
def test_body_must_be_a_json_object(body: bytes) -> None:
    async def check(client: Client) -> None:
        campaign, segment = await client.campaign(), await client.segment()
        for method, path in (
            ("POST", "/campaigns"),
            ("PUT", f"/campaigns/{campaign}"),
            ("POST", f"/campaigns/{campaign}/start"),
            ("POST", "/campaigns/query"),
            ("POST", "/segments"),
            ("PUT", f"/segments/{segment}"),
            ("POST", "/segments/query"),
            ("POST", "/users"),
        ):
            await client.bad(400, 4, method, path, body)
        assert len(await client.effects()) == 2

    run(check)


def test_an_id_is_taken_for_good() -> None:
    async def check(client: Client) -> None:
        campaign, segment = await client.campaign(id="x" * 255), await client.segment(id="y" * 255)
        for _ in range(2):
            message = await client.bad(400, 4, "POST", "/campaigns", {**CREATE, "id": campaign})
            assert "already exists" in message
            await client.bad(400, 4, "POST", "/segments", {"type": "user", "id": segment})
            await client.call("DELETE", f"/campaigns/{campaign}")
            await client.call("DELETE", f"/segments/{segment}")

    run(check)


@pytest.mark.parametrize(
    ("fields", "good"),
    [
        ({"sender_id": DROP}, False),
        ({"message_template": DROP}, False),
        ({"segment_ids": ["s"]}, False),
        ({"create_channels": True}, False),
        (_SEGMENTS, True),
        ({"user_ids": DROP}, True),
    ],
)
def test_update_campaign(fields: dict[str, Any], good: bool) -> None:
    async def check(client: Client) -> None:
        campaign = await client.campaign(name="kept", skip_push=True)
        body = {**CREATE, **fields}
        if not good:
            await client.bad(400, 4, "PUT", f"/campaigns/{campaign}", body)
            return
        found = (await client.good("PUT", f"/campaigns/{campaign}", body))["campaign"]
        assert (found["name"], found["skip_push"]) == ("kept", True)
        assert (found["segment_ids"], found["user_ids"]) == (
            (["s"], []) if fields is _SEGMENTS else ([], ["user-0002"])
        )

    run(check)


def test_update_segment() -> None:
    async def check(client: Client) -> None:
        everyone = await client.segment(all_users=True)
        await client.bad(400, 4, "PUT", f"/segments/{everyone}", {"filter": {"country": "USA"}})
        for body in ({"name": "x" * 129}, {"description": 5}, {"filter": 5}, {"filter": {"name": {"$x": 1}}}):
            await client.bad(400, 4, "PUT", f"/segments/{await client.segment()}", body)
        assert (await client.good("GET", f"/segments/{everyone}"))["segment"]["filter"] is None

    run(check)


@pytest.mark.parametrize(
    ("body", "good"),
    [
        ({}, True),
        ({"scheduled_for": None, "stop_at": None}, True),
        ({"scheduled_for": _LATER}, True),
        ({"scheduled_for": "2100-01-01T00:00:00+02:00"}, True),
        ({"scheduled_for": "2100-01-01T00:00:00.123456"}, True),
        ({"scheduled_for": "2001-01-01T00:00:00Z", "stop_at": _LATER}, True),
        ({"scheduled_for": "tomorrow"}, False),
        ({"scheduled_for": "2100-01-01"}, False),
        ({"scheduled_for": "2100-13-01T00:00:00Z"}, False),
        ({"scheduled_for": "9999-12-31T23:59:59-10:00"}, False),
        ({"scheduled_for": 4102444800}, False),
        ({"stop_at": 4102444800}, False),
    ],
)
@FAMILIES
def test_start_body(family: str, body: dict[str, Any], good: bool) -> None:
    async def check(client: Client) -> None:
        campaign = await client.campaign()
        if good:
            await client.good("POST", f"{family}/campaigns/{campaign}/start", body)
        else:
            await client.bad(400, 4, "POST", f"{family}/campaigns/{campaign}/start", body)
            assert (await client.shown(campaign))["status"] == "draft"

    run(check)


def test_segments_given_at_the_start_are_the_only_ones() -> None:
    async def check(client: Client) -> None:
        body = {**CREATE, "user_ids": None}
        await client.good("POST", "/segments/vip/addtargets", {"target_ids": ["a"]})
        await client.good("POST", "/campaigns", {**body, "segment_ids": ["vip"]})
        await client.bad(400, 4, "POST", "/campaigns", {**body, "segment_ids": ["vip", "unknown"]})
        made = await client.segment()
        await client.good("POST", "/campaigns", {**body, "segment_ids": ["vip", made]})
        await client.good("DELETE", f"/segments/{made}")
        await client.bad(400, 4, "POST", "/campaigns", {**body, "segment_ids": [made]})

    run(check, segments=["vip"])


def test_campaigns_given_at_the_start_are_drafts() -> None:
    async def check(client: Client) -> None:
        assert (await client.shown("77"))["status"] == "draft"
        await client.good("POST", "/campaigns/77/start", {})
        assert (await client.become("77", "completed"))["stats"]["stats_messages_sent"] == 0

    run(check, campaigns=[77])
