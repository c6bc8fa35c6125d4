"""Stream's two official SDKs for Python as ordinary clients of the emulator: every campaign and segment call they have.

The emulator is a process of its own, as it is for a user; what comes back is read with the SDKs' own types.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from getstream import AsyncStream, Stream
from getstream.exceptions import StreamApiException, StreamRateLimitException
from getstream.models import (
    CampaignChannelTemplate,
    CampaignMessageTemplate,
    SortParamRequest,
    UserRequest,
)
from stream_chat import StreamChat, StreamChatAsync
from stream_chat.base.exceptions import StreamAPIException
from stream_chat.types.base import SortOrder
from stream_chat.types.segment import SegmentType

pytestmark = [
    # getstream declares every field of a segment and of the stats as given; the vendor's own page says that some
    # (filter, deleted_at) are not, and dataclasses-json then warns for each.
    pytest.mark.filterwarnings("ignore:.*value of non-optional type:RuntimeWarning"),
]

_MANY = [f"many-{number:05}" for number in range(10_000)]  # ten seconds of sending: long enough to be stopped
_MESSAGE = {"text": "Hi {{ receiver.name }}", "attachments": [{"type": "image"}], "custom": {"sale": True}}
_TEMPLATE = CampaignMessageTemplate(text="Hi {{ receiver.name }}", attachments=[], custom={"sale": True})
_CHANNEL = CampaignChannelTemplate(type="messaging", id="{{receiver.id}}-{{sender.id}}")
_LATER = datetime(2100, 1, 1, tzinfo=UTC)
_TARGETS = ["f", "b", "d", "a", "e", "c"]


@pytest.fixture(scope="module")
def listening() -> Iterator[dict[str, str]]:
    command = [sys.executable, "-m", "bulksend", "emulate", "stream", "--port", "0", "--until-stdin-closes"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["stream"]
        process.communicate(timeout=20)


@pytest.fixture
def chat(listening: dict[str, str]) -> Iterator[StreamChat]:
    client = StreamChat(listening["api_key"], listening["api_secret"], timeout=60, base_url=listening["url"])
    with client.session:
        yield client


@pytest.fixture
def stream(listening: dict[str, str]) -> Iterator[Stream]:
    with Stream(listening["api_key"], listening["api_secret"], timeout=60.0, base_url=listening["url"]) as client:
        yield client


def _campaign(**fields: object) -> Any:
    return {"message_template": _MESSAGE, "sender_id": "user-0001", "user_ids": ["user-0002"], **fields}


def _ids(targets: list[dict[str, Any]]) -> list[str]:
    return [target["target_id"] for target in targets]


def test_stream_chat_campaign_of_the_client(chat: StreamChat) -> None:
    created = chat.create_campaign(data=_campaign(name="one"))
    assert created.status_code() == 201
    campaign_id = created["campaign"]["id"]
    assert chat.get_campaign(campaign_id)["campaign"] == created["campaign"]
    updated = chat.update_campaign(campaign_id, _campaign(name="two"))
    assert (updated.status_code(), updated["campaign"]["name"]) == (201, "two")
    started = chat.start_campaign(campaign_id, scheduled_for=_LATER, stop_at="2100-01-02T00:00:00Z")
    assert started["campaign"]["status"] == "scheduled"
    assert started["campaign"]["scheduled_for"] == "2100-01-01T00:00:00.000000Z"
    assert chat.stop_campaign(campaign_id)["campaign"]["status"] == "stopped"
    found = chat.query_campaigns(
        {"id": {"$eq": campaign_id}}, [{"field": "created_at", "direction": SortOrder.DESC}], {"limit": 10}
    )
    assert [each["id"] for each in found["campaigns"]] == [campaign_id]
    assert chat.delete_campaign(campaign_id, gdpr=True).status_code() == 200
    with pytest.raises(StreamAPIException) as caught:
        chat.get_campaign(campaign_id)
    assert (caught.value.status_code, caught.value.error_code) == (404, 16)


def test_stream_chat_campaign_object(chat: StreamChat) -> None:
    chat.upsert_user({"id": "sender", "name": "Sender"})
    segment = chat.create_segment(SegmentType.USER)["segment"]["id"]
    chat.add_segment_targets(segment, ["sender"])
    campaign = chat.campaign(data=_campaign(user_ids=None, segment_ids=[segment], sender_id="sender"))
    assert campaign.create(data={"name": "created"})["campaign"]["name"] == "created"
    assert campaign.get()["campaign"]["sender"]["name"] == "Sender"
    assert campaign.update(_campaign(name="changed"))["campaign"]["name"] == "changed"
    naive = datetime.now(UTC).replace(tzinfo=None) + timedelta(hours=1)
    assert campaign.start(scheduled_for=naive)["campaign"]["status"] == "scheduled"
    assert campaign.stop()["campaign"]["status"] == "stopped"
    assert campaign.delete().is_ok()
    assert chat.delete_segment(segment).is_ok()
    assert chat.delete_users(["sender"], "hard", conversations="hard", messages="hard")["task_id"]


def test_stream_chat_runs_to_the_end_and_stops_in_between(chat: StreamChat) -> None:
    campaign = chat.campaign(data=_campaign())
    campaign.create()
    assert campaign.start()["campaign"]["status"] == "in_progress"
    for _ in range(3000):
        if (found := campaign.get()["campaign"])["status"] == "completed":
            break
        time.sleep(0.02)
    assert (found["status"], found["stats"]["stats_users_sent"]) == ("completed", 1)
    with pytest.raises(StreamAPIException) as caught:
        campaign.stop()
    assert (caught.value.status_code, caught.value.error_code) == (400, 4)
    long = chat.campaign("long", _campaign(user_ids=_MANY))
    long.create()
    long.start()
    assert long.stop()["campaign"]["status"] == "stopped"


def test_stream_chat_segment_of_the_client(chat: StreamChat) -> None:
    created = chat.create_segment(SegmentType.USER, data={"name": "one", "filter": {"country": "USA"}})
    segment_id = created["segment"]["id"]
    assert chat.get_segment(segment_id)["segment"]["filter"] == {"country": "USA"}
    assert chat.update_segment(segment_id, {"description": "x"})["segment"]["description"] == "x"
    found = chat.query_segments({"id": {"$in": [segment_id]}}, [{"field": "name"}], {"limit": 1})
    assert [each["id"] for each in found["segments"]] == [segment_id]
    assert chat.query_segments().is_ok()
    assert chat.query_segment_targets(segment_id)["targets"][0]["target_id"] == "user-0003"
    assert chat.delete_segment(segment_id).status_code() == 200
    manual = chat.create_segment(SegmentType.CHANNEL, "manual")["segment"]["id"]
    assert chat.add_segment_targets(manual, _TARGETS).is_ok()
    assert chat.get_segment(manual)["segment"]["size"] == 6
    assert chat.segment_target_exists(manual, "a").is_ok()
    assert chat.remove_segment_targets(manual, ["a", "x"]).is_ok()
    with pytest.raises(StreamAPIException) as caught:
        chat.segment_target_exists(manual, "a")
    assert (caught.value.status_code, caught.value.error_code) == (404, 16)


def test_stream_chat_segment_object(chat: StreamChat) -> None:
    segment = chat.segment(SegmentType.USER, data={"name": "name", "description": "description"})
    assert segment.create()["segment"]["name"] == "name"
    assert segment.get()["segment"]["description"] == "description"
    assert segment.update({"name": "changed"})["segment"]["name"] == "changed"
    assert segment.add_targets(_TARGETS).is_ok()
    assert segment.target_exists("c").is_ok()
    page = segment.query_targets(options={"limit": 3})
    assert _ids(page["targets"]) == ["a", "b", "c"]
    # As the SDK's own test does: the cursor goes on with its own filter and sort.
    rest = segment.query_targets(
        {"target_id": {"$lte": "<user_id>"}},
        [{"field": "target_id", "direction": SortOrder.DESC}],
        {"limit": 2, "next": page["next"]},
    )
    assert _ids(rest["targets"]) == ["d", "e"]
    assert "next" in rest
    found = segment.query_targets(
        {"target_id": {"$gte": "c"}}, [{"field": "target_id", "direction": SortOrder.DESC}], {"limit": 10_000}
    )
    assert _ids(found["targets"]) == ["f", "e", "d", "c"]
    assert segment.remove_targets(_TARGETS).is_ok()
    assert segment.get()["segment"]["size"] == 0
    assert segment.delete().is_ok()


def test_stream_chat_of_another_secret(listening: dict[str, str]) -> None:
    client = StreamChat(listening["api_key"], "0" * 64, base_url=listening["url"])
    with client.session, pytest.raises(StreamAPIException) as caught:
        client.get_campaign("c")
    assert (caught.value.status_code, caught.value.error_code) == (401, 43)


def _run_async(listening: dict[str, str], test: Callable[[StreamChatAsync], Awaitable[None]]) -> None:
    async def main() -> None:
        key, secret, url = listening["api_key"], listening["api_secret"], listening["url"]
        async with StreamChatAsync(key, secret, timeout=60, base_url=url) as client:
            await test(client)

    asyncio.run(main())


def test_stream_chat_async_campaigns(listening: dict[str, str]) -> None:
    async def check(chat: StreamChatAsync) -> None:
        created = await chat.create_campaign("async-client", _campaign(name="one"))
        assert created.status_code() == 201
        assert (await chat.get_campaign("async-client"))["campaign"] == created["campaign"]
        assert (await chat.update_campaign("async-client", _campaign(name="2")))["campaign"]["name"] == "2"
        started = await chat.start_campaign("async-client", scheduled_for=_LATER, stop_at=_LATER)
        assert started["campaign"]["status"] == "scheduled"
        assert (await chat.stop_campaign("async-client"))["campaign"]["status"] == "stopped"
        found = await chat.query_campaigns({"sender_id": "user-0001", "name": "2"}, options={"limit": 100})
        assert [each["id"] for each in found["campaigns"]] == ["async-client"]
        assert (await chat.delete_campaign("async-client")).status_code() == 200
        campaign = chat.campaign(data=_campaign(user_ids=_MANY, name="object"))
        assert (await campaign.create())["campaign"]["name"] == "object"
        assert (await campaign.get())["campaign"]["status"] == "draft"
        assert (await campaign.update(_campaign(user_ids=_MANY)))["campaign"]["name"] == "object"
        assert (await campaign.start())["campaign"]["status"] == "in_progress"
        assert (await campaign.stop())["campaign"]["status"] == "stopped"
        with pytest.raises(StreamAPIException) as caught:
            await campaign.start()
        assert (caught.value.status_code, caught.value.error_code) == (400, 4)
        assert (await campaign.delete()).is_ok()

    _run_async(listening, check)


def test_stream_chat_async_segments(listening: dict[str, str]) -> None:
    async def check(chat: StreamChatAsync) -> None:
        created = await chat.create_segment(SegmentType.USER, data={"name": "async"})
        segment_id = created["segment"]["id"]
        assert (await chat.get_segment(segment_id))["segment"] == created["segment"]
        assert (await chat.update_segment(segment_id, {"name": "changed"}))["segment"]["name"] == "changed"
        assert (await chat.query_segments({"name": "changed"}))["segments"][0]["id"] == segment_id
        assert (await chat.add_segment_targets(segment_id, _TARGETS)).is_ok()
        assert (await chat.segment_target_exists(segment_id, "f")).is_ok()
        found = await chat.query_segment_targets(segment_id, {"target_id": {"$in": ["f", "a"]}})
        assert _ids(found["targets"]) == ["a", "f"]
        assert (await chat.remove_segment_targets(segment_id, ["f"])).is_ok()
        assert (await chat.delete_segment(segment_id)).is_ok()
        segment = chat.segment(SegmentType.USER)
        await segment.create()
        assert (await segment.get())["segment"]["size"] == 0
        assert (await segment.update({"description": "d"}))["segment"]["description"] == "d"
        assert (await segment.add_targets(_TARGETS)).is_ok()
        assert (await segment.target_exists("a")).is_ok()
        first = await segment.query_targets(options={"limit": 4})
        rest = await segment.query_targets(options={"limit": 4, "next": first["next"]})
        assert _ids(first["targets"] + rest["targets"]) == sorted(_TARGETS)
        assert (await segment.remove_targets(["a"])).is_ok()
        with pytest.raises(StreamAPIException) as caught:
            await segment.target_exists("a")
        assert (caught.value.status_code, caught.value.error_code) == (404, 16)
        assert (await segment.delete()).is_ok()

    _run_async(listening, check)


def test_getstream_campaigns(stream: Stream) -> None:
    stream.upsert_users(UserRequest(id="tommaso", name="Tommaso", custom={"country": "NL"}))
    created = stream.chat.create_campaign(
        sender_id="tommaso",
        message_template=_TEMPLATE,
        user_ids=["user-0001", "user-0002"],
        name="one",
        create_channels=True,
        channel_template=_CHANNEL,
        sender_mode="include",
    )
    campaign = created.data.campaign
    assert campaign is not None
    assert created.status_code() == 201
    assert campaign.created_at.tzinfo is not None
    assert (campaign.status, campaign.sender.name, campaign.stats.progress) == ("draft", "Tommaso", 0.0)
    got = stream.chat.get_campaign(campaign.id, limit=1).data
    assert [user.id for user in got.campaign.users] == ["user-0001"]
    got = stream.chat.get_campaign(campaign.id, limit=1, next=got.users.next).data
    assert [user.custom["country"] for user in got.campaign.users] == ["Germany"]
    updated = stream.chat.update_campaign(campaign.id, "tommaso", _TEMPLATE, name="two", user_ids=["user-0001"]).data
    assert (updated.name, updated.user_ids, updated.sender_mode) == ("two", ["user-0001"], "include")
    started = stream.chat.start_campaign(campaign.id, scheduled_for=_LATER, stop_at=_LATER).data.campaign
    assert (started.status, started.scheduled_for) == ("scheduled", _LATER)
    stopped = stream.chat.stop_campaign(campaign.id).data
    assert (stopped.id, stopped.status) == (campaign.id, "stopped")
    sort = [SortParamRequest(field="created_at", direction=-1)]
    found = stream.chat.query_campaigns(filter={"id": campaign.id}, sort=sort, limit=5, user_limit=1).data
    assert [each.name for each in found.campaigns] == ["two"]
    assert stream.chat.delete_campaign(campaign.id).data.duration
    with pytest.raises(StreamApiException) as caught:
        stream.chat.get_campaign(campaign.id)
    assert (caught.value.status_code, caught.value.code) == (404, 16)
    assert stream.delete_users(["tommaso"], user="hard").data.task_id


def test_getstream_runs_to_the_end(stream: Stream) -> None:
    stream.chat.create_campaign("user-0001", _TEMPLATE, id="running", user_ids=["user-0002"])
    assert stream.chat.start_campaign("running").data.campaign.status == "in_progress"
    for _ in range(3000):
        campaign = stream.chat.get_campaign("running").data.campaign
        if campaign.status == "completed":
            break
        time.sleep(0.02)
    assert campaign.stats.stats_completed_at >= campaign.stats.stats_started_at + timedelta(seconds=0.1)
    with pytest.raises(StreamApiException) as caught:
        stream.chat.stop_campaign("running")
    assert (caught.value.status_code, caught.value.code) == (400, 4)


def test_getstream_segments(stream: Stream) -> None:
    created = stream.chat.create_segment("user", id="seg/ment", name="one").data.segment
    assert (created.id, created.name, created.size) == ("seg/ment", "one", 0)
    assert stream.chat.get_segment("seg/ment").data.segment.created_at == created.created_at
    updated = stream.chat.update_segment("seg/ment", description="d", name="two").data.segment
    assert (updated.name, updated.description) == ("two", "d")
    assert stream.chat.add_segment_targets("seg/ment", [*_TARGETS, "o/p"]).status_code() == 201
    assert stream.chat.segment_target_exists("seg/ment", "o/p").status_code() == 200
    assert stream.chat.delete_segment_targets("seg/ment", ["o/p", "x"]).status_code() == 201
    with pytest.raises(StreamApiException) as caught:
        stream.chat.segment_target_exists("seg/ment", "o/p")
    assert (caught.value.status_code, caught.value.code) == (404, 16)
    sort, given = [SortParamRequest(field="target_id", direction=-1)], {"target_id": {"$lte": "d"}}
    page = stream.chat.query_segment_targets("seg/ment", limit=3, sort=sort, filter=given).data
    assert [each.target_id for each in page.targets] == ["d", "c", "b"]
    page = stream.chat.query_segment_targets("seg/ment", limit=3, sort=sort, filter=given, next=page.next).data
    assert [each.target_id for each in page.targets] == ["a"]
    assert page.next is None
    assert page.targets[0].created_at > created.created_at
    found = stream.chat.query_segments(filter={"id": "seg/ment"}, limit=1).data
    assert [each.size for each in found.segments] == [6]
    assert stream.chat.delete_segment("seg/ment").status_code() == 200
    stream.chat.create_segment("channel", all_sender_channels=True)
    with pytest.raises(StreamApiException) as caught:
        stream.chat.create_segment("user", all_users=True, filter={"country": "USA"})
    assert (caught.value.status_code, caught.value.code) == (400, 4)


def test_getstream_of_a_user_and_of_another_secret(listening: dict[str, str], stream: Stream) -> None:
    url, key = listening["url"], listening["api_key"]
    with Stream(key, token=stream.create_token("user-0001"), base_url=url) as user:
        with pytest.raises(StreamApiException) as caught:
            user.chat.get_campaign("c")
        assert (caught.value.status_code, caught.value.code) == (403, 17)
    with Stream(key, "0" * 64, base_url=url) as stranger:
        with pytest.raises(StreamApiException) as caught:
            stranger.chat.get_segment("s")
        assert (caught.value.status_code, caught.value.code) == (401, 43)


def test_getstream_async(listening: dict[str, str]) -> None:
    async def check(stream: AsyncStream) -> None:
        chat = stream.chat
        await stream.upsert_users(UserRequest(id="async-user"))
        await chat.create_segment("user", id="async-segment")
        assert (await chat.add_segment_targets("async-segment", [*_MANY[1:], "async-user"])).status_code() == 201
        assert (await chat.segment_target_exists("async-segment", "async-user")).status_code() == 200
        await chat.delete_segment_targets("async-segment", ["async-user"])
        page = (await chat.query_segment_targets("async-segment", limit=10_000)).data
        assert [each.target_id for each in page.targets] == _MANY[1:]
        assert (await chat.get_segment("async-segment")).data.segment.size == 9_999
        assert (await chat.update_segment("async-segment", name="n")).data.segment.name == "n"
        assert len((await chat.query_segments({"id": "async-segment"})).data.segments) == 1
        created = await chat.create_campaign(
            "async-user", _TEMPLATE, id="async-campaign", segment_ids=["async-segment"], skip_push=True
        )
        assert created.data.campaign.segments[0].size == 9_999
        updated = await chat.update_campaign("async-campaign", "async-user", _TEMPLATE, name="changed")
        assert (updated.data.name, updated.data.skip_push) == ("changed", True)
        assert (await chat.start_campaign("async-campaign")).data.campaign.status == "in_progress"
        assert (await chat.get_campaign("async-campaign")).data.campaign.stats.stats_started_at is not None
        assert (await chat.stop_campaign("async-campaign")).data.status == "stopped"
        found = await chat.query_campaigns(filter={"segments": {"$contains": "async-segment"}})
        assert [each.id for each in found.data.campaigns] == ["async-campaign"]
        await chat.delete_campaign("async-campaign")
        await chat.delete_segment("async-segment")
        with pytest.raises(StreamApiException) as caught:
            await chat.start_campaign("async-campaign")
        assert (caught.value.status_code, caught.value.code) == (404, 16)
        await stream.delete_users(["async-user"])

    async def main() -> None:
        key, secret, url = listening["api_key"], listening["api_secret"], listening["url"]
        async with AsyncStream(key, secret, timeout=60.0, base_url=url) as stream:
            await check(stream)

    asyncio.run(main())


def test_getstream_reads_the_rate_limit() -> None:
    command = [sys.executable, "-m", "bulksend", "emulate", "stream", "--port", "0", "--until-stdin-closes"]
    command += ["--limit", "stream.segment.query=1/1h", "--retry-after"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        given = json.loads(process.stdout.readline())["stream"]
        with Stream(given["api_key"], given["api_secret"], base_url=given["url"]) as stream:
            limit = stream.chat.query_segments({}).rate_limit()
            assert (limit.limit, limit.remaining) == (1, 0)
            with pytest.raises(StreamRateLimitException) as caught:
                stream.chat.query_segments({})
            assert (caught.value.status_code, caught.value.code) == (429, 9)
            assert caught.value.retry_after is not None
            assert caught.value.retry_after.total_seconds() > 1
        process.communicate(timeout=20)
