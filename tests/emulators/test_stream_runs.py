"""How a campaign of Stream's runs: through a socket as it comes, and on a clock of the test to the millisecond."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web

from bulksend.emulators import Call, Hook, Setup
from bulksend.emulators.stream import Stream
from bulksend.emulators.stream.auth import sign
from tests.emulators.test_stream import CREATE, FAMILIES, V1, Client, emulator, run

_STARTED = 1_700_000_000.0
_MANY = [f"id-{number}" for number in range(10_000)]


class Clock:
    """A provider without a socket, whose time is the test's own; calls are v2, where moments are numbers."""

    def __init__(self, **setup: Any) -> None:
        self.stream = Stream(Setup(1, (), random.Random(1), started_at_s=_STARTED, **setup))
        self.now_s = 0.0

    def call(self, endpoint: str, body: object = None, *, good: bool = True, **params: str) -> Any:
        call = Call(f"stream.{endpoint}", "/api/v2/chat/x", params, {}, {}, body, self.now_s)
        reply = self.stream.judge(call, self.stream.accounts[0])
        assert (reply.status < 400) is good, reply.body
        return reply.body

    def create(self, **fields: object) -> None:
        self.call("campaign.create", {**CREATE, "id": "c", **fields})

    def start(self, **fields: float) -> Any:
        return self.call("campaign.start", {key: self.at(value) for key, value in fields.items()}, id="c")["campaign"]

    def shown(self) -> Any:
        return self.call("campaign.get", id="c")["campaign"]

    def segment(self, segment_id: str, *targets: str, **fields: object) -> None:
        self.call("segment.create", {"type": "user", "id": segment_id, **fields})
        if targets:
            self.call("targets.add", {"target_ids": list(targets)}, id=segment_id)

    def size(self, segment_id: str) -> int:
        return int(self.call("segment.get", id=segment_id)["segment"]["size"])

    def events(self) -> list[str]:
        return [json.loads(hook.body)["type"].removeprefix("campaign.") for hook in self.hooks()]

    def hooks(self) -> list[Hook]:
        return list(self.stream.hooks(self.now_s))

    @staticmethod
    def at(seconds: float) -> str:
        return (datetime.fromtimestamp(_STARTED, UTC) + timedelta(seconds=seconds)).isoformat()

    @staticmethod
    def ns(seconds: float) -> int:
        return round((_STARTED + seconds) * 1000) * 1_000_000


@FAMILIES
def test_started_it_sends_and_completes(family: str) -> None:
    async def check(client: Client) -> None:
        segment = await client.segment("a", "b", "c")
        other = await client.segment("b", "c", "d")
        campaign = await client.campaign(family, user_ids=None, segment_ids=[segment, other, "unknown"])
        started = (await client.good("POST", f"{family}/campaigns/{campaign}/start", {}))["campaign"]
        assert started["status"] == "in_progress"
        assert [each["id"] for each in started["segments"]] == [segment, other]
        stats = (await client.become(campaign, "completed", family))["stats"]
        assert (stats["progress"], stats["stats_users_sent"], stats["stats_messages_sent"]) == (1.0, 4, 4)
        assert stats["stats_completed_at"] > stats["stats_started_at"]
        await client.bad(400, 4, "POST", f"{family}/campaigns/{campaign}/start", {})
        await client.bad(400, 4, "POST", f"{family}/campaigns/{campaign}/stop", {})
        await client.good("DELETE", f"{family}/campaigns/{campaign}")
        assert [name for name, _ in await client.effects()][-3:] == [
            "campaign.create",
            "campaign.start",
            "campaign.delete",
        ]

    run(check)


@FAMILIES
def test_stopped_after_an_immediate_start(family: str) -> None:
    async def check(client: Client) -> None:
        campaign = await client.campaign(family, user_ids=_MANY)
        await client.good("POST", f"{family}/campaigns/{campaign}/start", {})
        found = (await client.good("POST", f"{family}/campaigns/{campaign}/stop"))["campaign"]
        assert found["status"] == "stopped"
        assert found["stats"]["stats_users_sent"] < len(_MANY)
        assert found["stats"]["stats_completed_at"] is None
        await client.good("POST", f"{family}/campaigns/{campaign}/stop", {})
        await client.bad(400, 4, "POST", f"{family}/campaigns/{campaign}/start", {})
        await client.good("DELETE", f"{family}/campaigns/{campaign}")
        assert len(await client.effects()) == 4

    run(check)


def test_progress_and_stats_move_with_the_time() -> None:
    clock = Clock()
    clock.create(user_ids=_MANY, create_channels=True, channel_template={"type": "messaging"})
    assert clock.start()["stats"]["progress"] == 0
    for second in (1, 4, 9):
        clock.now_s = second
        stats = clock.shown()["stats"]
        assert stats["progress"] == pytest.approx(second / 10)
        assert stats["stats_users_sent"] == stats["stats_messages_sent"] == stats["stats_channels_created"]
        assert stats["stats_users_sent"] == second * 1000
        assert (stats["stats_started_at"], stats["stats_completed_at"]) == (clock.ns(0), None)
    clock.now_s = 9.999
    assert clock.shown()["status"] == "in_progress"
    clock.now_s = 10
    assert clock.shown()["status"] == "completed"
    assert clock.shown()["stats"]["stats_completed_at"] == clock.ns(10)


def test_few_users_take_a_moment_too() -> None:
    clock = Clock()
    clock.create()
    clock.start()
    clock.now_s = 0.199
    assert clock.shown()["status"] == "in_progress"
    clock.now_s = 0.2
    assert clock.shown()["status"] == "completed"


def test_scheduled_counts_its_audience_when_it_begins() -> None:
    clock = Clock()
    clock.segment("s", "a")
    clock.create(user_ids=None, segment_ids=["s"])
    found = clock.start(scheduled_for=60)
    assert (found["status"], found["scheduled_for"]) == ("scheduled", clock.ns(60))
    clock.call("campaign.start", {}, good=False, id="c")
    clock.now_s = 59
    assert clock.shown()["status"] == "scheduled"
    clock.call("targets.add", {"target_ids": ["b"]}, id="s")
    clock.now_s = 61
    clock.call("targets.add", {"target_ids": ["c"]}, id="s")
    found = clock.shown()
    assert (found["status"], found["stats"]["stats_users_sent"]) == ("completed", 2)
    assert found["stats"]["stats_started_at"] == clock.ns(60)


@pytest.mark.parametrize(("stop_at", "sent"), [(64, 4000), (60, 0), (59, 0)])
def test_stop_at(stop_at: int, sent: int) -> None:
    clock = Clock()
    clock.create(user_ids=_MANY)
    clock.start(scheduled_for=60, stop_at=stop_at)
    clock.now_s = 100
    found = clock.shown()
    assert (found["status"], found["stats"]["stats_users_sent"]) == ("stopped", sent)
    assert found["stop_at"] == clock.ns(stop_at)
    assert (found["stats"]["stats_started_at"] is None) is (not sent)


def test_stop_at_after_the_end_changes_nothing() -> None:
    clock = Clock()
    clock.create(user_ids=_MANY)
    clock.start(stop_at=10)
    clock.now_s = 100
    assert clock.shown()["status"] == "completed"


@pytest.mark.parametrize("begin", [False, True])
def test_stopped_and_deleted_in_any_state(begin: bool) -> None:
    clock = Clock()
    clock.create()
    if begin:
        clock.start(scheduled_for=60)
    assert clock.call("campaign.stop", id="c")["status"] == "stopped"
    clock.now_s = 100
    assert clock.shown()["status"] == "stopped"
    assert clock.shown()["stats"]["stats_messages_sent"] == 0
    clock.call("campaign.delete", id="c")
    clock.call("campaign.get", good=False, id="c")


def test_channels_are_sent_to_and_are_no_users() -> None:
    clock = Clock()
    clock.segment("channels", "messaging:1", "messaging:2", type="channel")
    clock.segment("mine", type="channel", all_sender_channels=True)
    clock.segment("filtered", type="channel", filter={"anything": {"$of": "theirs"}})
    clock.create(user_ids=None, segment_ids=["channels", "mine", "filtered"])
    clock.start()
    clock.now_s = 1
    stats = clock.shown()["stats"]
    assert (stats["stats_messages_sent"], stats["stats_users_sent"]) == (2, 0)
    assert [clock.size(each) for each in ("channels", "mine", "filtered")] == [2, 0, 0]


def test_users_of_filters_and_lists_are_counted_once() -> None:
    clock = Clock()
    clock.segment("usa", filter={"country": "USA"})
    clock.segment("all", all_users=True)
    clock.segment("list", "user-0001", "stranger")
    clock.segment("gone", "nobody")
    clock.call("segment.delete", id="gone")
    assert [clock.size(each) for each in ("usa", "all", "list")] == [0, 0, 2]  # not yet, not yet, in place
    clock.create(user_ids=None, segment_ids=["usa", "all", "list", "gone"])
    clock.start()
    clock.now_s = 1
    assert [clock.size(each) for each in ("usa", "all", "list")] == [100, 300, 2]
    assert clock.shown()["stats"]["stats_users_sent"] == 301
    assert [each["id"] for each in clock.shown()["segments"] if "deleted_at" in each] == ["gone"]


def test_each_webhook_comes_once_when_due() -> None:
    clock = Clock()
    clock.create(user_ids=_MANY)
    clock.start(scheduled_for=60)
    assert clock.events() == []
    clock.now_s = 60
    assert clock.events() == ["started"]
    clock.now_s = 69.9
    assert clock.events() == []
    clock.now_s = 75
    (hook,) = clock.hooks()
    event = json.loads(hook.body)
    assert (event["type"], event["custom"]) == ("campaign.completed", {})
    assert event["campaign"]["status"] == "completed"
    assert event["campaign"]["stats"]["stats_users_sent"] == 10_000
    assert event["created_at"] == event["campaign"]["stats"]["stats_completed_at"] == "2023-11-14T22:14:30.000000Z"
    assert clock.events() == []


def test_webhooks_of_both_when_nobody_asked_meanwhile_and_none_for_the_stopped() -> None:
    clock = Clock()
    clock.create()
    clock.start()
    clock.create(id="halted", user_ids=_MANY)
    clock.call("campaign.start", {}, id="halted")
    clock.now_s = 5
    clock.call("campaign.stop", id="halted")
    clock.call("campaign.delete", id="c")
    found = [json.loads(hook.body) for hook in clock.hooks()]
    assert [(each["campaign"]["id"], each["type"], each["campaign"]["status"]) for each in found] == [
        ("c", "campaign.started", "in_progress"),
        ("c", "campaign.completed", "completed"),
        ("halted", "campaign.started", "in_progress"),
    ]


def test_webhooks_are_posted_and_signed() -> None:
    async def main() -> None:
        seen: asyncio.Queue[tuple[bytes, Any]] = asyncio.Queue()

        async def take(request: web.Request) -> web.Response:
            seen.put_nowait((await request.read(), request.headers))
            return web.Response()

        app = web.Application()
        app.router.add_post("/hook", take)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        (port,) = {address[1] for address in runner.addresses}

        async def check(client: Client) -> None:
            campaign = await client.campaign(V1)
            await client.good("POST", f"/campaigns/{campaign}/start", {})
            found = [await seen.get() for _ in range(2)]
            assert {json.loads(body)["type"] for body, _ in found} == {"campaign.started", "campaign.completed"}
            for body, headers in found:
                expected = hmac.new(client.secret.encode(), body, hashlib.sha256).hexdigest()
                assert headers["X-Signature"] == expected
                assert headers["X-Api-Key"] == client.key
                assert (headers["X-Webhook-Attempt"], headers["Content-Type"]) == ("1", "application/json")
                assert json.loads(body)["campaign"]["id"] == campaign
            assert len({headers["X-Webhook-Id"] for _, headers in found}) == 2

        async with emulator(webhook=f"http://127.0.0.1:{port}/hook") as client:
            await check(client)
        await runner.cleanup()

    asyncio.run(main())


def test_signature_against_the_vendors_fixture() -> None:
    secret, body = (
        "test_secret_do_not_use_in_production",
        b'{"type":"channel.created","created_at":1778198400000000000}',
    )
    expected = "2e66916a2ea83e3c1ea981b000f44cff38e3ed7628ad909ee6a78d4bc3fdd714"
    assert hmac.new(secret.encode(), body, hashlib.sha256).hexdigest() == expected
    assert sign(secret, body) == expected
