"""User.com campaigns: what may be written, what is read back, and when one is sent, through a real socket."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bulksend.emulators import Call, Setup
from bulksend.emulators.usercom import UserCom
from tests.emulators.usercom_client import CREATE, DROP, EXISTING, FUTURE, MESSAGE, NOT_FOUND, ROUTES, Client, run

_REQUIRED = ["This field is required."]
_BAD_ETA = [
    "Datetime has wrong format. Use one of these formats instead: YYYY-MM-DDThh:mm[:ss[.uuuuuu]][+HH:MM|-HH:MM|Z]."
]
_WHOLE_MESSAGE: Mapping[str, Any] = {
    **MESSAGE,
    "url": "https://example.com/sale",
    "icon": "https://example.com/i.png",
    "badge": "https://example.com/b.png",
    "require_interaction": True,
    "doughnut_title": "Shop",
    "doughnut_url": "https://example.com/shop",
    "coffee_title": "More",
    "coffee_url": "https://example.com/more",
}


def test_create_update_send_take_effect_in_order_and_reads_have_none() -> None:
    async def check(client: Client) -> None:
        status, body = await client.create(ttl=60)
        campaign = body["id"]
        minimal = {"id": campaign, "name": "Spring", "category": None, "eta": FUTURE, "ttl": 60}
        assert (status, body) == (201, minimal)
        assert await client.update(campaign, name="Summer") == (200, {**minimal, "name": "Summer"})
        assert await client.send(campaign) == (200, {**minimal, "name": "Summer"})
        for _, method, path in ROUTES:
            if method == "GET":
                assert (await client.call(method, path))[0] == 200
        names = ["usercom.create", "usercom.update", "usercom.send"]
        assert await client.effects() == [(name, campaign) for name in names]
        endpoints = (await client.get("stats"))["endpoints"]
        assert {name: each["effects"] for name, each in endpoints.items() if each["effects"]} == dict.fromkeys(names, 1)
        assert {each["limit"] for each in endpoints.values()} == {None}

    run(check)


def test_campaign_reads_otherwise_than_it_was_written() -> None:
    async def check(client: Client) -> None:
        plain, whole = (await client.show(await client.created(messages=[MESSAGE, _WHOLE_MESSAGE])))["messages"]
        assert {key: whole[f"message_{key}"] for key in _WHOLE_MESSAGE} == _WHOLE_MESSAGE
        assert [(each["name"], each["message_actions"]) for each in (plain, whole)] == [("A", False), ("B", True)]
        assert (plain["message_title"], plain["message_url"], plain["message_coffee_url"]) == ("Hello", None, None)
        assert plain["id"] != whole["id"]
        campaign = await client.created(segment=2)
        shown = await client.show(campaign)
        assert "segment" not in shown
        assert shown["recipients_count"] == 2  # of three users, one of whom has no subscription
        assert datetime.fromisoformat(shown["created"]).utcoffset() == timedelta(0)
        expected = {
            "id": campaign,
            "name": "Spring",
            "category": None,
            "type": 1,
            "status": 1,
            "eta": FUTURE,
            "ttl": 259200,
        }
        assert {key: shown[key] for key in expected} == expected

    run(check)


@pytest.mark.parametrize(
    "fields",
    [
        {"segment": "1"},
        {"segment": 9},
        {"ttl": 1},
        {"ttl": 10**12},
        {"ttl": None},
        {"category": 5},
        {"category": None},
        {"id": 77, "unknown": [1]},
        {"messages": [_WHOLE_MESSAGE] * 30},
        {"messages": [{**MESSAGE, "action_button1_tittle": 5, "action_button1_url": None, "unknown": {}}]},
        {"messages": [{**MESSAGE, "url": None, "icon": "", "require_interaction": None}]},
        {"messages": [{**MESSAGE, "title": "x" * 5000}]},
    ],
)
def test_bodies_that_are_taken(fields: dict[str, Any]) -> None:
    async def check(client: Client) -> None:
        shown = await client.show(await client.created(**fields))
        assert shown["id"] > EXISTING
        assert shown["category"] is None

    run(check)


@pytest.mark.parametrize(
    ("fields", "errors"),
    [
        ({"name": DROP}, {"name": _REQUIRED}),
        ({"name": None}, {"name": ["This field may not be null."]}),
        ({"name": " "}, {"name": ["This field may not be blank."]}),
        ({"name": 5}, {"name": ["Not a valid string."]}),
        ({"segment": DROP}, {"segment": _REQUIRED}),
        ({"segment": 0}, {"segment": ['Invalid pk "0" - object does not exist.']}),
        ({"segment": -1}, {"segment": ['Invalid pk "-1" - object does not exist.']}),
        ({"segment": True}, {"segment": ["Incorrect type. Expected pk value, received bool."]}),
        ({"segment": 1.0}, {"segment": ["Incorrect type. Expected pk value, received float."]}),
        ({"segment": "one"}, {"segment": ["Incorrect type. Expected pk value, received str."]}),
        ({"segment": "²"}, {"segment": ["Incorrect type. Expected pk value, received str."]}),
        ({"segment": "9" * 5000}, {"segment": ["Incorrect type. Expected pk value, received str."]}),
        ({"ttl": 0}, {"ttl": ["Ensure this value is greater than or equal to 1."]}),
        ({"ttl": "60"}, {"ttl": ["A valid integer is required."]}),
        ({"ttl": True}, {"ttl": ["A valid integer is required."]}),
        ({"ttl": 1.5}, {"ttl": ["A valid integer is required."]}),
        ({"eta": "tomorrow"}, {"eta": _BAD_ETA}),
        ({"eta": "2026-04-01"}, {"eta": _BAD_ETA}),
        ({"eta": "2026-02-30T12:00:00Z"}, {"eta": _BAD_ETA}),
        ({"eta": "0001-01-01T00:00:00+14:00"}, {"eta": _BAD_ETA}),
        ({"eta": 1775044800}, {"eta": _BAD_ETA}),
        ({"messages": DROP}, {"messages": _REQUIRED}),
        ({"messages": []}, {"messages": ["This list may not be empty."]}),
        ({"messages": {}}, {"messages": ['Expected a list of items but got type "dict".']}),
        ({"messages": [MESSAGE, {"title": "x"}]}, {"messages": [{}, {"body": _REQUIRED}]}),
        (
            {"messages": [{**MESSAGE, "require_interaction": "true"}]},
            {"messages": [{"require_interaction": ["Must be a valid boolean."]}]},
        ),
        ({"name": DROP, "ttl": 0, "messages": [{}]}, None),
        *(
            ({"messages": [{**MESSAGE, key: 5}]}, {"messages": [{key: ["Not a valid string."]}]})
            for key in _WHOLE_MESSAGE
            if key != "require_interaction"
        ),
    ],
)
def test_bodies_that_are_refused(fields: dict[str, Any], errors: dict[str, Any] | None) -> None:
    async def check(client: Client) -> None:
        status, body = await client.create(**fields)
        assert status == 400
        assert body == errors if errors else sorted(body) == ["messages", "name", "ttl"]
        assert await client.effects() == []
        assert (await client.call("GET", "webpush-campaign/"))[1]["count"] == 1

    run(check)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"name": "x",}'])
def test_body_must_be_json(body: bytes) -> None:
    async def check(client: Client) -> None:
        for method, path in (("POST", "webpush-campaign/"), ("PATCH", f"webpush-campaign/{EXISTING}/")):
            status, answer = await client.call(method, path, body)
            assert status == 400
            assert answer["detail"].startswith("JSON parse error - ")

    run(check)


def test_body_must_be_an_object() -> None:
    async def check(client: Client) -> None:
        expected = {"non_field_errors": ["Invalid data. Expected a dictionary, but got list."]}
        assert await client.call("POST", "webpush-campaign/", []) == (400, expected)
        wrong = await client.create(messages=["hello"])
        assert wrong == (
            400,
            {"messages": [{"non_field_errors": ["Invalid data. Expected a dictionary, but got str."]}]},
        )

    run(check)


@pytest.mark.parametrize(
    ("given", "echoed"),
    [
        ("2126-04-01T12:00:00Z", "2126-04-01T12:00:00Z"),
        ("2126-04-01T12:00:00+02:00", "2126-04-01T10:00:00Z"),
        ("2126-04-01T12:00:00-0530", "2126-04-01T17:30:00Z"),
        ("2126-04-01T12:00:00", "2126-04-01T12:00:00Z"),
        ("2126-04-01 12:00", "2126-04-01T12:00:00Z"),
        ("2126-04-01T12:00:22.945Z", "2126-04-01T12:00:22.945000Z"),
    ],
)
def test_eta_is_echoed_in_utc(given: str, echoed: str) -> None:
    async def check(client: Client) -> None:
        status, body = await client.create(eta=given)
        assert (status, body["eta"]) == (201, echoed)
        assert (await client.show(body["id"]))["eta"] == echoed

    run(check)


@pytest.mark.parametrize(("eta", "status"), [(DROP, 2), (None, 2), ("2020-01-01T00:00:00Z", 2), (FUTURE, 1)])
def test_campaign_without_eta_is_sent_at_once(eta: object, status: int) -> None:
    async def check(client: Client) -> None:
        campaign = await client.created(eta=eta)
        assert (await client.show(campaign))["status"] == status
        assert await client.effects() == [("usercom.create", campaign)]

    run(check)


def test_draft_is_sent_when_its_eta_passes() -> None:
    async def check(client: Client) -> None:
        eta = datetime.now(UTC) + timedelta(seconds=1)
        campaign = await client.created(eta=eta.isoformat())
        seen = []
        for _ in range(500):
            seen.append((await client.show(campaign))["status"])
            if seen[-1] == 2:
                break
            await asyncio.sleep(0.02)
        assert seen[-1] == 2
        assert len(await client.effects()) == 1  # nothing is called when a campaign falls due

    run(check)


def test_eta_is_judged_by_the_time_of_the_call() -> None:
    provider = UserCom(Setup(1, (), random.Random(1), started_at_s=1_000_000_000.0))
    account = provider.accounts[0]
    eta = datetime.fromtimestamp(1_000_000_060, UTC).isoformat()

    def call(endpoint: str, now_s: float, body: object = None, **params: str) -> Any:
        reply = provider.judge(Call(endpoint, "/", params, {}, {}, body, now_s), account)
        assert reply.status < 300
        return reply.body

    campaign = str(call("usercom.create", 0, {**CREATE, "eta": eta})["id"])

    def status(now_s: float) -> int:
        return int(call("usercom.get", now_s, id=campaign)["status"])

    assert [status(now_s) for now_s in (0, 59.9, 60, 61)] == [1, 1, 2, 2]
    # What was sent by its time stays so, wherever the time is moved.
    call("usercom.update", 61, {"eta": FUTURE}, id=campaign)
    assert status(62) == 2


def test_send_makes_a_draft_sent_and_may_be_repeated() -> None:
    async def check(client: Client) -> None:
        campaign = await client.created()
        for _ in range(2):
            assert (await client.send(campaign))[0] == 200
            assert (await client.show(campaign))["status"] == 2
        assert (await client.effects())[1:] == [("usercom.send", campaign)] * 2
        assert (await client.call("POST", f"webpush-campaign/{campaign}/send/", b"{"))[0] == 200

    run(check)


def test_patch_replaces_all_messages_and_leaves_the_rest() -> None:
    async def check(client: Client) -> None:
        campaign = await client.created(messages=[MESSAGE, _WHOLE_MESSAGE], ttl=60)
        before = await client.show(campaign)
        assert (await client.update(campaign, messages=[{"title": "New", "body": "News"}]))[0] == 200
        (message,) = (await client.show(campaign))["messages"]
        assert (message["name"], message["message_title"], message["message_url"]) == ("A", "New", None)
        rest = await client.show(campaign)
        assert {**rest, "messages": 0} == {**before, "messages": 0}

    run(check)


@pytest.mark.parametrize(
    ("fields", "changed"),
    [
        ({}, {}),
        ({"name": "Summer"}, {"name": "Summer"}),
        ({"segment": 2}, {"recipients_count": 2}),
        ({"ttl": 5}, {"ttl": 5}),
        ({"eta": "2127-01-01T00:00:00Z"}, {"eta": "2127-01-01T00:00:00Z"}),
        ({"eta": "2020-01-01T00:00:00Z"}, {"eta": "2020-01-01T00:00:00Z", "status": 2}),
        ({"eta": None}, {"eta": None, "status": 2}),
        ({"category": 3, "id": 9}, {}),
    ],
)
def test_patch_of_one_field(fields: dict[str, Any], changed: dict[str, Any]) -> None:
    async def check(client: Client) -> None:
        campaign = await client.created()
        before = await client.show(campaign)
        status, body = await client.update(campaign, **fields)
        assert status == 200
        assert await client.show(campaign) == {**before, **changed}
        assert {key: body[key] for key in changed if key in body} == {
            key: value for key, value in changed.items() if key in body
        }

    run(check)


def test_bad_patch_changes_nothing() -> None:
    async def check(client: Client) -> None:
        campaign = await client.created()
        before = await client.show(campaign)
        bad = await client.update(campaign, name="Summer", messages=[{"title": "x"}])
        assert bad == (400, {"messages": [{"body": _REQUIRED}]})
        assert (await client.update(campaign, segment=None))[0] == 400
        assert await client.show(campaign) == before
        assert len(await client.effects()) == 1

    run(check)


def test_existing_campaign_is_a_draft_of_every_account_and_created_ones_are_their_owners() -> None:
    async def check(client: Client) -> None:
        first, second = (Client(client.session, each) for each in client.listening["accounts"])
        assert (await first.show(EXISTING))["status"] == 1
        assert (await first.send(EXISTING))[0] == 200
        assert [(await each.show(EXISTING))["status"] for each in (first, second)] == [2, 1]
        campaign = await first.created()
        assert await second.call("GET", f"webpush-campaign/{campaign}/") == NOT_FOUND
        assert await second.created() == campaign + 1

    run(check, accounts=2)


@pytest.mark.parametrize("campaign", [1, "campaign", "04242", "9" * 5000])
def test_unknown_campaign(campaign: object) -> None:
    async def check(client: Client) -> None:
        assert await client.call("GET", f"webpush-campaign/{campaign}/") == NOT_FOUND
        assert await client.update(campaign, name="x") == NOT_FOUND
        assert await client.send(campaign) == NOT_FOUND
        assert await client.effects() == []

    run(check)
