"""Stream's translator: campaigns under ids of our own, made, started and followed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulksend.fields import Fault, read_table, unknown_fields
from bulksend.model import (
    Absent,
    Accepted,
    Account,
    Denied,
    Endpoint,
    Found,
    Limit,
    Outcome,
    Probe,
    Rejected,
    Reply,
    Secret,
    Standing,
    Step,
    Throttled,
    Unknown,
    Untold,
    Waiting,
)
from bulksend.providers import PROVIDERS, SendName
from bulksend.providers.base import SEGMENT

STREAM = PROVIDERS["stream"]
NAME = SendName("spring-sale", "0007")
ENDPOINTS = STREAM.endpoints
CREATE, GET, UPDATE, START, STOP = (
    ENDPOINTS[f"stream.campaign.{name}"] for name in ("create", "get", "update", "start", "stop")
)
SEGMENT_CREATE = ENDPOINTS["stream.segment.create"]
KEY = "a-secret-that-is-long-enough-for-hs256"
ACCOUNT = Account(
    "default", "stream", "https://chat.stream-io-api.com", {"api_key": "k&y"}, {"api_secret": Secret(KEY)}
)
LAUNCH: dict[str, object] = {
    "segment_ids": ["s1"],
    "sender_id": "anna",
    "message_template": {"text": "Hi {{ receiver.name }}"},
}


def with_ref(step: Step, ref: str | None) -> Step:
    """Return the step as the sender has it once the step before gave its id."""
    return step if step.ref is not None else msgspec.structs.replace(step, ref=ref)


def typed(table: str, body: dict[str, object]) -> tuple[dict[str, object], list[Fault]]:
    fields = STREAM.tables[table]
    values, faults = read_table(fields, body, table)
    return values, unknown_fields(fields, body, table) + faults


def step_of(
    table: str, body: dict[str, object], account: Account = ACCOUNT, name: SendName = NAME, endpoint: str = ""
) -> Step:
    values, faults = typed(table, body)
    assert not faults
    flow = STREAM.flow({"launch": LAUNCH, "segment": {"create": True}, "watch": {}})
    made = dict(flow.prepare + flow.steps)
    return STREAM.step(made[table], table, values, account, name=name)


def wire(table: str, body: dict[str, object]) -> Any:
    return orjson.loads(step_of(table, body).body)


# The token


def test_the_token_is_a_servers_signed_with_the_secret() -> None:
    head, payload, signature = STREAM.headers(ACCOUNT)["Authorization"].split(".")

    def plain(part: str) -> bytes:
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))

    assert json.loads(plain(head)) == {"alg": "HS256", "typ": "JWT"}
    # No user and no time: a server's, which does not expire.
    assert json.loads(plain(payload)) == {"server": True}
    assert plain(signature) == hmac.digest(KEY.encode(), f"{head}.{payload}".encode(), hashlib.sha256)


# Ids


def campaign_id(account: Account = ACCOUNT, name: SendName = NAME) -> str:
    step = step_of("launch", LAUNCH, account, name)
    assert orjson.loads(step.body)["id"] == step.ref
    assert step.ref is not None
    return step.ref


def test_the_id_of_a_campaign_follows_from_account_job_and_key() -> None:
    assert UUID(campaign_id()).version == 5
    # Known for good: a ledger of today is looked up by the code of tomorrow.
    assert campaign_id() == "21039ad9-1250-559a-9e0f-22654d1ef9ff"
    same = Account("renamed", "stream", ACCOUNT.base_url, dict(ACCOUNT.ids), {"api_secret": Secret("x" * 40)})
    assert campaign_id(same) == campaign_id()
    others = [
        campaign_id(Account("default", "stream", ACCOUNT.base_url, {"api_key": "other"}, ACCOUNT.secrets)),
        campaign_id(Account("default", "stream", "http://127.0.0.1:8900", ACCOUNT.ids, ACCOUNT.secrets)),
        campaign_id(name=SendName("spring-sale", "0008")),
        campaign_id(name=SendName("winter-sale", "0007")),
        campaign_id(name=SendName("spring-sale0", "007")),
    ]
    assert len({campaign_id(), *others}) == 6


def test_the_id_is_the_same_in_another_process() -> None:
    code = (
        "from bulksend.model import Account; from bulksend.providers import PROVIDERS, SendName;"
        "s = PROVIDERS['stream'];"
        "a = Account('default', 'stream', 'https://chat.stream-io-api.com', {'api_key': 'k&y'}, {});"
        "e = s.endpoints['stream.campaign.create'];"
        "print(s.step(e, 'launch', {}, a, name=SendName('spring-sale', '0007')).ref)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env={"PYTHONHASHSEED": "7"}, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == campaign_id()


names = st.builds(SendName, st.text(max_size=8), st.text(max_size=8))


@given(names, names)
def test_two_sends_have_two_ids(one: SendName, other: SendName) -> None:
    if "\0" not in one.job + one.key + other.job + other.key:
        assert (campaign_id(name=one) == campaign_id(name=other)) == (one == other)


def test_the_id_of_a_single_call_is_the_users_own() -> None:
    step = STREAM.request(CREATE, {**LAUNCH, "id": "mine"}, ACCOUNT, ref=None)
    assert orjson.loads(step.body)["id"] == "mine"


# Bodies


def test_a_campaign_goes_out_as_it_is_written() -> None:
    full: dict[str, object] = {
        **LAUNCH,
        "name": "Spring",
        "description": "d",
        "message_template": {
            "text": "{{ sender.name }}",
            "attachments": [{"type": "image"}],
            "poll_id": "p",
            "searchable": True,
            "custom": {"a": 1},
        },
        "create_channels": True,
        "channel_template": {
            "type": "messaging",
            "id": "{{receiver.id}}-{{sender.id}}",
            "members_template": [{"user_id": "anna", "channel_role": "admin", "custom": {}}],
            "team": "red",
            "custom": {"b": 2},
        },
        "show_channels": True,
        "sender_mode": "include",
        "sender_visibility": "archived",
        "skip_push": True,
        "skip_webhook": True,
    }
    step = step_of("launch", full)
    assert orjson.loads(step.body) == {"id": campaign_id(), **full}
    call = STREAM.call(step, ACCOUNT, {}, repeats=0)
    assert call.url == "https://chat.stream-io-api.com/campaigns?api_key=k%26y"


@pytest.mark.parametrize(
    ("at", "sent"),
    [
        ("2026-04-01T06:00:00Z", "2026-04-01T06:00:00Z"),
        ("2026-04-01T08:00:00+02:00", "2026-04-01T06:00:00Z"),
        ("2026-04-01T06:00:00.250Z", "2026-04-01T06:00:00.250000Z"),
        (datetime(2026, 4, 1, 6, tzinfo=UTC), "2026-04-01T06:00:00Z"),
    ],
)
def test_a_start_has_rfc_3339_times_with_a_zone(at: object, sent: str) -> None:
    assert wire("start", {"scheduled_for": at, "stop_at": at}) == {"scheduled_for": sent, "stop_at": sent}
    assert wire("start", {}) == {}
    call = STREAM.call(with_ref(step_of("start", {}), "c-1"), ACCOUNT, {}, repeats=0)
    assert (call.url, call.body) == ("https://chat.stream-io-api.com/campaigns/c-1/start?api_key=k%26y", b"{}")


@pytest.mark.parametrize(
    ("table", "made_of"),
    [
        ({}, {"type": "user"}),
        ({"filter": {"country": "USA"}}, {"type": "user", "filter": {"country": "USA"}}),
        ({"all_users": True}, {"type": "user", "all_users": True}),
        ({"all_sender_channels": True}, {"type": "channel", "all_sender_channels": True}),
        ({"type": "channel", "filter": {"team": "red"}}, {"type": "channel", "filter": {"team": "red"}}),
    ],
)
def test_a_segment_is_made_under_an_id_that_follows_from_its_name(
    table: dict[str, object], made_of: dict[str, object]
) -> None:
    body = {"create": True, "name": "USA", **table}
    step = step_of("segment", body)
    assert orjson.loads(step.body) == {"id": step.ref, "name": "USA", **made_of}
    assert step.ref == STREAM.segment_id({"segment": body}, ACCOUNT)
    assert UUID(step.ref or "").version == 5
    # Made once for all jobs of the account that name it: not the job's own.
    assert step_of("segment", body, name=SendName("another", "1")).ref == step.ref
    assert step_of("segment", {**body, "name": "UK"}).ref != step.ref


def test_an_existing_segment_is_named_by_its_id() -> None:
    assert STREAM.segment_id({"segment": {"id": "vip"}}, ACCOUNT) == "vip"
    assert STREAM.segment_id({"launch": LAUNCH}, ACCOUNT) is None


def test_watch_asks_again_until_the_end() -> None:
    assert step_of("watch", {}) == Step(GET, every_s=10.0)
    step = step_of("watch", {"every": "2 minutes"})
    assert step == Step(GET, every_s=120.0)
    call = STREAM.call(with_ref(step, "c-1"), ACCOUNT, {}, repeats=3)
    assert (call.url, call.body) == ("https://chat.stream-io-api.com/campaigns/c-1?api_key=k%26y", b"")


@pytest.mark.parametrize(
    ("name", "body", "path", "query"),
    [
        ("targets.exists", {"target_id": "a/b c"}, "/segments/s-1/target/a%2Fb%20c", {}),
        ("campaign.get", {"limit": 5, "next": "a&b"}, "/campaigns/s-1", {"limit": ["5"], "next": ["a&b"]}),
        ("segment.get", {}, "/segments/s-1", {}),
        ("campaign.delete", {}, "/campaigns/s-1", {}),
    ],
)
def test_what_a_read_asks_for_is_in_the_address(
    name: str, body: dict[str, object], path: str, query: dict[str, list[str]]
) -> None:
    step = STREAM.request(ENDPOINTS[f"stream.{name}"], body, ACCOUNT, ref="s-1")
    call = STREAM.call(step, ACCOUNT, {}, repeats=0)
    assert (urlsplit(call.url).path, call.body) == (path, b"")
    assert parse_qs(urlsplit(call.url).query) == {**query, "api_key": ["k&y"]}


@pytest.mark.parametrize(
    ("name", "body", "path"),
    [
        ("campaign.query", {"filter": {"status": "draft"}, "sort": [{"field": "id", "direction": -1}]}, "/campaigns/"),
        ("segment.query", {"filter": {}, "limit": 100, "next": "n"}, "/segments/"),
        ("targets.query", {"limit": 10_000, "sort": [{"field": "target_id"}]}, "/segments/s-1/targets/"),
    ],
)
def test_a_query_goes_out_as_it_is_written(name: str, body: dict[str, object], path: str) -> None:
    call = STREAM.call(STREAM.request(ENDPOINTS[f"stream.{name}"], body, ACCOUNT, ref="s-1"), ACCOUNT, {}, repeats=0)
    assert urlsplit(call.url).path == f"{path}query"
    assert orjson.loads(call.body) == body


# What is wrong before the first call


def channel(**fields: object) -> dict[str, object]:
    return {"channel_template": {"type": "messaging", **fields}}


def message(**fields: object) -> dict[str, object]:
    return {"message_template": {"text": "t", **fields}}


MEMBER = {"user_id": "anna"}
MEMBERS = "launch.channel_template.members_template"


@pytest.mark.parametrize(
    ("table", "change", "path", "words"),
    [
        ("launch", {"id": "mine"}, "launch.id", "is not given"),
        ("launch", {"sender_id": ...}, "launch.sender_id", "required"),
        ("launch", {"sender_id": "x" * 256}, "launch.sender_id", "at most 255"),
        ("launch", {"message_template": ...}, "launch.message_template", "required"),
        ("launch", {"message_template": {"custom": {}}}, "launch.message_template.text", "required"),
        ("launch", {"message_template": {"text": " "}}, "launch.message_template.text", "blank"),
        ("launch", message(attachments=[{}] * 31), "launch.message_template.attachments", "at most 30"),
        ("launch", message(attachments=["a.png"]), "launch.message_template.attachments[1]", "table"),
        ("launch", message(colour="red"), "launch.message_template.colour", "unknown"),
        ("launch", {"segment_ids": [f"s{n}" for n in range(26)]}, "launch.segment_ids", "at most 25"),
        ("launch", {"segment_ids": []}, "launch.segment_ids", "empty"),
        ("launch", {"segment_ids": "s1"}, "launch.segment_ids", "list"),
        ("launch", {"segment_ids": ["s1", 7]}, "launch.segment_ids[2]", "text"),
        ("launch", {"segment_ids": ["x" * 256]}, "launch.segment_ids[1]", "at most 255"),
        ("launch", {"user_ids": [str(n) for n in range(10_001)]}, "launch.user_ids", "at most 10,000"),
        ("launch", {"sender_mode": "sender"}, "launch.sender_mode", "exclude, include"),
        ("launch", {"sender_visibility": "visible"}, "launch.sender_visibility", "hidden, archived"),
        ("launch", {"create_channels": "yes"}, "launch.create_channels", "true or false"),
        ("launch", {"channel_template": {"id": "x"}}, "launch.channel_template.type", "required"),
        ("launch", channel(type="x" * 65), "launch.channel_template.type", "at most 64"),
        ("launch", channel(team="x" * 1001), "launch.channel_template.team", "at most 1000"),
        ("launch", channel(members=["x"] * 1001), "launch.channel_template.members", "at most 1,000"),
        ("launch", channel(members_template=[MEMBER] * 1001), f"{MEMBERS}", "at most 1,000"),
        ("launch", channel(members_template=[MEMBER, {}]), f"{MEMBERS}[2].user_id", "required"),
        ("launch", {"schedule_for": "2026-04-01T06:00:00Z"}, "launch.schedule_for", "unknown"),
        ("start", {"schedule_for": "2026-04-01T06:00:00Z"}, "start.schedule_for", "scheduled_for"),
        ("start", {"scheduled_for": "2026-04-01T06:00:00"}, "start.scheduled_for", "time zone"),
        ("start", {"stop_at": "later"}, "start.stop_at", "date and time"),
        ("segment", {"name": "x" * 129}, "segment.name", "at most 128"),
        ("segment", {"description": "x" * 257}, "segment.description", "at most 256"),
        ("segment", {"id": "x" * 256}, "segment.id", "at most 255"),
        ("segment", {"type": "users"}, "segment.type", "user, channel"),
        ("segment", {"filter": "country"}, "segment.filter", "table"),
        ("watch", {"every": "0 s"}, "watch.every", "at least 1 s"),
        ("watch", {"every": 5}, "watch.every", "in words"),
    ],
)  # fmt: skip
def test_what_the_pages_do_not_allow_is_named(table: str, change: dict[str, object], path: str, words: str) -> None:
    body = {**(LAUNCH if table == "launch" else {}), **change}
    _, faults = typed(table, {key: value for key, value in body.items() if value is not ...})
    assert [fault.path for fault in faults] == [path]
    assert words in faults[0].text


@pytest.mark.parametrize(
    ("name", "body", "path"),
    [
        ("targets.add", {"target_ids": ["x"] * 10_000}, None),
        ("targets.add", {"target_ids": ["x"] * 10_001}, "b.target_ids"),
        ("targets.add", {"target_ids": []}, "b.target_ids"),
        ("targets.add", {}, "b.target_ids"),
        ("targets.delete", {"target_ids": ["x"] * 100}, None),
        ("targets.delete", {"target_ids": ["x"] * 101}, "b.target_ids"),
        ("targets.delete", {"target_ids": []}, "b.target_ids"),
        ("targets.query", {"limit": 10_000}, None),
        ("targets.query", {"limit": 10_001}, "b.limit"),
        ("campaign.query", {"limit": 100, "user_limit": 1000}, None),
        ("campaign.query", {"limit": 101}, "b.limit"),
        ("campaign.query", {"user_limit": 1001}, "b.user_limit"),
        ("segment.query", {"limit": 101}, "b.limit"),
        ("campaign.get", {"limit": 1001}, "b.limit"),
        ("segment.create", {"type": "user"}, None),
        ("segment.create", {"name": "x"}, "b.type"),
        ("segment.update", {"type": "user"}, "b.type"),
        ("campaign.update", {"id": "x", "sender_id": "a", "message_template": {"text": "t"}}, "b.id"),
        ("targets.exists", {}, "b.target_id"),
    ],
)
def test_how_much_one_call_may_ask(name: str, body: dict[str, object], path: str | None) -> None:
    fields = STREAM.bodies[f"stream.{name}"]
    faults = unknown_fields(fields, body, "b") + read_table(fields, body, "b")[1]
    assert [fault.path for fault in faults] == ([] if path is None else [path])


SEG: dict[str, object] = {"create": True, "name": "USA"}
NO_SEGMENTS = {key: value for key, value in LAUNCH.items() if key != "segment_ids"}


@pytest.mark.parametrize(
    ("tables", "chunk", "paths"),
    [
        ({"launch": LAUNCH}, None, []),
        ({"launch": {**NO_SEGMENTS, "user_ids": ["a"]}}, None, []),
        ({}, None, ["launch"]),
        ({"launch": NO_SEGMENTS}, None, ["launch.segment_ids"]),
        ({"launch": {**LAUNCH, "user_ids": ["a"]}}, None, ["launch.user_ids"]),
        ({"launch": LAUNCH}, 25, []),
        ({"launch": LAUNCH}, 26, ["audience.chunk"]),
        ({"launch": {**NO_SEGMENTS, "user_ids": "${id[]}"}}, 10_000, []),
        ({"launch": {**NO_SEGMENTS, "user_ids": "${id[]}"}}, 10_001, ["audience.chunk"]),
        ({"launch": {**LAUNCH, "create_channels": True}}, None, ["launch.channel_template"]),
        ({"launch": {**LAUNCH, "create_channels": True, **channel()}}, None, []),
        ({"launch": {**LAUNCH, "create_channels": False}}, None, []),
        (
            {"launch": {**LAUNCH, **channel(members=["a"], members_template=[{"user_id": "a"}])}},
            None,
            ["launch.channel_template.members_template"],
        ),
        ({"launch": NO_SEGMENTS, "segment": {"id": "vip"}}, None, []),
        ({"launch": NO_SEGMENTS, "segment": SEG}, None, []),
        ({"launch": NO_SEGMENTS, "segment": {**SEG, "filter": {"a": 1}}}, None, []),
        ({"launch": NO_SEGMENTS, "segment": {}}, None, ["segment.id"]),
        ({"launch": NO_SEGMENTS, "segment": {"name": "USA"}}, None, ["segment.id"]),
        ({"launch": NO_SEGMENTS, "segment": {"create": True}}, None, ["segment.name"]),
        ({"launch": NO_SEGMENTS, "segment": {**SEG, "id": "vip"}}, None, ["segment.id"]),
        ({"launch": NO_SEGMENTS, "segment": {"id": "vip", "name": "x"}}, None, ["segment.name"]),
        ({"launch": {**LAUNCH, "create_channels": "${make}"}}, None, ["launch.channel_template"]),
    ],
)
def test_what_the_tables_say_together(
    tables: dict[str, dict[str, object]], chunk: int | None, paths: list[str]
) -> None:
    assert [fault.path for fault in STREAM.review(tables, has_audience=True, chunk=chunk)] == paths


FILTER = {"filter": {"a": 1}}


@pytest.mark.parametrize(
    ("way", "wrong"),
    [
        ({}, None),
        (FILTER, None),
        ({**FILTER, "type": "channel"}, None),
        ({**FILTER, "all_users": False, "all_sender_channels": False}, None),
        ({"all_users": True, "type": "user"}, None),
        ({"all_sender_channels": True, "type": "channel"}, None),
        ({**FILTER, "all_users": True}, "all_users"),
        ({**FILTER, "all_sender_channels": True, "type": "channel"}, "all_sender_channels"),
        ({"all_users": True, "all_sender_channels": True}, "all_sender_channels"),
        ({"all_sender_channels": True, "type": "user"}, "all_sender_channels"),
        ({"all_users": True, "type": "channel"}, "all_users"),
    ],
)
def test_a_segment_is_filled_in_one_way(way: dict[str, object], wrong: str | None) -> None:
    tables: dict[str, dict[str, object]] = {"launch": NO_SEGMENTS, "segment": {**SEG, **way}}
    found = [fault.path for fault in STREAM.review(tables, has_audience=False, chunk=None)]
    assert found == ([] if wrong is None else [f"segment.{wrong}"])
    single = [fault.path for fault in STREAM.check(SEGMENT_CREATE.name, {"type": "user", **way}, now=0.0)]
    assert set(single) == (set() if wrong is None else {f"stream.segment.create.{wrong}"})


SIX = datetime(2026, 4, 1, 6, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("start", "paths", "late"),
    [
        ({}, [], False),
        ({"scheduled_for": SIX}, [], False),
        ({"scheduled_for": SIX, "stop_at": SIX + 1}, [], False),
        ({"scheduled_for": SIX, "stop_at": SIX}, ["start.stop_at"], False),
        ({"scheduled_for": SIX + 9, "stop_at": SIX + 1}, ["start.stop_at"], False),
        ({"scheduled_for": SIX - 1}, ["start.scheduled_for"], True),
        ({"stop_at": SIX - 1}, ["start.stop_at"], True),
    ],
)
def test_a_start_is_to_come_and_before_its_end(start: dict[str, object], paths: list[str], late: bool) -> None:
    faults = STREAM.check("start", start, now=SIX)
    assert [(fault.path, fault.late) for fault in faults] == [(path, late) for path in paths]


@pytest.mark.parametrize("endpoint", [CREATE, UPDATE], ids=lambda one: one.name)
@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({}, []),
        ({"create_channels": True}, ["channel_template"]),
        ({"create_channels": True, **channel()}, []),
        ({"user_ids": ["a"]}, ["user_ids"]),
        (channel(members=["a"], members_template=[MEMBER]), ["channel_template.members_template"]),
    ],
)
def test_a_single_call_is_held_to_the_same_rules(
    endpoint: Endpoint, change: dict[str, object], fields: list[str]
) -> None:
    faults = STREAM.check(endpoint.name, {**LAUNCH, **change}, now=SIX)
    assert [fault.path for fault in faults] == [f"{endpoint.name}.{field}" for field in fields]


def test_what_a_person_should_know() -> None:
    assert not STREAM.notes({"launch": LAUNCH}, sends=1, chunk=None)
    (several,) = STREAM.notes({"launch": LAUNCH}, sends=40, chunk=None)
    assert "not between campaigns" in several.text
    for count, paths in ((1000, []), (1001, ["launch.user_ids"])):
        tables = {"launch": {**NO_SEGMENTS, "user_ids": ["a"] * count}}
        assert [note.path for note in STREAM.notes(tables, sends=1, chunk=None)] == paths


def test_the_calls_of_a_job() -> None:
    both = (("launch", CREATE), ("start", START))
    plain = STREAM.flow({"launch": LAUNCH})
    assert (plain.prepare, plain.steps) == ((), both)
    assert STREAM.flow({"launch": LAUNCH, "watch": {}}).steps == (*both, ("watch", GET))
    assert STREAM.flow({"launch": LAUNCH, "segment": SEG}).prepare == (("segment", SEGMENT_CREATE),)
    assert STREAM.flow({"launch": LAUNCH, "segment": {"id": "vip"}}).prepare == ()
    full = STREAM.complete({"launch": NO_SEGMENTS, "segment": SEG})
    assert (full["start"], full["launch"]["segment_ids"]) == ({}, [SEGMENT])
    assert "segment_ids" not in NO_SEGMENTS
    assert STREAM.complete({"launch": LAUNCH, "segment": SEG})["launch"] == LAUNCH
    users = {**NO_SEGMENTS, "user_ids": ["a"]}
    assert STREAM.complete({"launch": users, "segment": SEG})["launch"] == users


# Replies


def read(step: Step, status: int, body: object, repeats: int = 0, **headers: str) -> Outcome:
    fields = {name.replace("_", "-"): text for name, text in headers.items()}
    return STREAM.read(step, Reply(status, fields, orjson.dumps(body)), repeats=repeats)


def campaign(status: object, **fields: object) -> dict[str, object]:
    return {"campaign": {"id": "c-1", "status": status, **fields}, "users": {}, "duration": "0.00ms"}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((word, Accepted) for word in ("scheduled", "in_progress", "completed", "stopped")),
        *((word, Unknown) for word in ("draft", "running", "", None, 7, ["scheduled"], {})),
    ],
)
def test_a_start_is_accepted_by_a_campaign_that_is_started(status: object, kind: type) -> None:
    assert isinstance(read(Step(START), 201, campaign(status)), kind)
    # The other calls say nothing of whether it is started.
    for endpoint in (CREATE, GET, UPDATE, STOP):
        assert read(Step(endpoint), 201, campaign(status)) == Accepted("c-1")


STATS = {
    "progress": 1,
    "stats_users_sent": 60_000,
    "stats_messages_sent": 59_000,
    "stats_channels_created": 7,
    "stats_users_read": True,
}


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        (campaign("scheduled"), Waiting(10.0, None)),
        (campaign("in_progress", stats={"progress": 0.25}), Waiting(10.0, 0.25)),
        *(
            (campaign("in_progress", stats={"progress": wrong}), Waiting(10.0, None))
            for wrong in (-0.1, 1.1, 25, "0.5", True, None, [0.5])
        ),
        (campaign("in_progress", stats=None), Waiting(10.0, None)),
        (campaign("in_progress", stats=[1]), Waiting(10.0, None)),
        (
            campaign("completed", stats=STATS),
            Accepted(
                "c-1",
                {"completed": 1, "users_sent": 60_000, "messages_sent": 59_000, "channels_created": 7, "users_read": 0},
            ),
        ),
        (
            campaign("stopped"),
            Accepted(
                "c-1", {"stopped": 1, "users_sent": 0, "messages_sent": 0, "channels_created": 0, "users_read": 0}
            ),
        ),
        (campaign("draft"), Unknown("HTTP 200, and the campaign is neither running nor at its end", 200)),
        (campaign("running"), Unknown("HTTP 200, and the campaign is neither running nor at its end", 200)),
    ],
)
def test_a_watched_campaign(body: dict[str, object], outcome: Outcome) -> None:
    assert read(Step(GET, every_s=10.0), 200, body) == outcome


def error(code: object, status: int) -> dict[str, object]:
    return {"code": code, "message": 'X failed with error: "anna"', "StatusCode": status, "duration": "0ms"}


@pytest.mark.parametrize(
    ("status", "code", "outcome"),
    [
        (400, 4, Rejected("HTTP 400, code 4: input error", 400)),
        (400, 71, Rejected("HTTP 400, code 71", 400)),
        (400, -1, Rejected("HTTP 400, code -1", 400)),
        (400, "4", Rejected("HTTP 400", 400)),
        (400, 4_915_112_345_678, Rejected("HTTP 400", 400)),
        (404, 16, Rejected("HTTP 404, code 16: does not exist", 404)),
        (413, 22, Rejected("HTTP 413, code 22: payload too big", 413)),
        (401, 43, Denied("the vendor refuses the credentials, code 43: token signature", 401)),
        (403, 17, Denied("the vendor refuses the credentials, code 17: not allowed", 403)),
        (408, 23, Unknown("HTTP 408", 408)),
        (500, -1, Unknown("HTTP 500", 500)),
    ],
)
def test_error_codes_become_reasons(status: int, code: object, outcome: Outcome) -> None:
    for endpoint in (CREATE, START, UPDATE, ENDPOINTS["stream.targets.add"]):
        assert read(Step(endpoint), status, error(code, status)) == outcome


def test_a_refusal_after_a_call_of_unknown_effect_is_asked_after() -> None:
    refused = Unknown("HTTP 400, code 4: input error", 400, refused=True)
    for endpoint in (CREATE, START):
        assert read(Step(endpoint), 400, error(4, 400), repeats=1) == refused
    # A segment of this name may stand from another job.
    for repeats in (0, 1):
        assert read(Step(SEGMENT_CREATE), 400, error(4, 400), repeats) == refused
    assert isinstance(read(Step(UPDATE), 400, error(4, 400), repeats=1), Rejected)


@pytest.mark.parametrize(
    ("headers", "reset_at"),
    [
        ({}, None),
        ({"x-ratelimit-reset": "1775023200"}, 1775023200.0),
        ({"x-ratelimit-reset": "1775023200, 1775023200"}, 1775023200.0),
        ({"x-ratelimit-reset": "soon"}, None),
        ({"x-ratelimit-reset": "-1"}, None),
        ({"x-ratelimit-reset": "²"}, None),
    ],
)
def test_429_says_when_the_window_ends(headers: dict[str, str], reset_at: float | None) -> None:
    for body in (orjson.dumps(error(9, 429)), b"<html>Too Many Requests</html>", b""):
        reply = Reply(429, {**headers, "retry-after": "3"}, body)
        assert STREAM.read(Step(CREATE), reply, repeats=0) == Throttled(429, "3", reset_at=reset_at)


def per_minute(calls: int, per_second: int) -> Limit:
    return Limit.parse(f"{calls}/min, {per_second}/s")


@pytest.mark.parametrize(
    ("limit", "remaining", "reset", "standing"),
    [
        ("300", "299", "1775023200", Standing(per_minute(300, 10), 299, 1775023200.0)),
        ("300, 300", "299, 299", "1775023200, 1", Standing(per_minute(300, 10), 299, 1775023200.0)),
        ("20", "0", "", Standing(per_minute(20, 1), 0, None)),
        ("60", None, None, Standing(per_minute(60, 2), None, None)),
        (None, "5", None, Standing(None, 5, None)),
        ("0", "0", "1775023200", Standing(None, 0, 1775023200.0)),
        ("99999999", "5", None, Standing(None, 5, None)),
        (None, None, "1775023200", None),
        ("many", "-1", "x", None),
        (None, None, None, None),
    ],
)
def test_the_vendors_own_count(
    limit: str | None, remaining: str | None, reset: str | None, standing: Standing | None
) -> None:
    pairs = {"x-ratelimit-limit": limit, "x-ratelimit-remaining": remaining, "x-ratelimit-reset": reset}
    headers = {name: text for name, text in pairs.items() if text is not None}
    assert STREAM.standing(Reply(201, headers, b"")) == standing


# Lookups


def probe(step: Step) -> Probe:
    found = STREAM.probe(step.endpoint, ACCOUNT, name=NAME, ref=step.ref)
    assert found is not None
    return found


def test_what_is_looked_up() -> None:
    for endpoint in (CREATE, START):
        asked = probe(Step(endpoint, ref="c-1"))
        url = STREAM.call(asked.step, ACCOUNT, {}, repeats=0).url
        assert url == "https://chat.stream-io-api.com/campaigns/c-1?limit=1&api_key=k%26y"
        assert STREAM.probe(endpoint, ACCOUNT, name=NAME, ref=None) is None
    assert STREAM.call(probe(Step(SEGMENT_CREATE, ref="s")).step, ACCOUNT, {}, repeats=0).url.endswith(
        "/segments/s?api_key=k%26y"
    )
    for name in ("campaign.update", "campaign.stop", "targets.add", "targets.delete", "campaign.get"):
        assert STREAM.probe(ENDPOINTS[f"stream.{name}"], ACCOUNT, name=NAME, ref="c-1") is None


NOT_THERE = {"code": 16, "message": "x", "StatusCode": 404}


@pytest.mark.parametrize(
    ("endpoint", "status", "body", "verdict"),
    [
        (CREATE, 200, campaign("draft"), Found("c-1")),
        (CREATE, 200, campaign("completed"), Found("c-1")),
        (CREATE, 404, NOT_THERE, Absent()),
        (CREATE, 404, None, Untold),
        (CREATE, 200, {"campaign": {"status": "draft"}}, Untold),
        (CREATE, 200, {"campaign": {"id": 7}}, Untold),
        (CREATE, 200, {"segment": {"id": "c-1"}}, Untold),
        (CREATE, 200, [], Untold),
        (CREATE, 201, campaign("draft"), Untold),
        (CREATE, 400, NOT_THERE, Untold),
        (CREATE, 500, NOT_THERE, Untold),
        (CREATE, 403, NOT_THERE, Untold),
        (START, 200, campaign("draft"), Absent()),
        *((START, 200, campaign(word), Found("c-1")) for word in ("scheduled", "in_progress", "completed", "stopped")),
        *((START, 200, campaign(word), Untold) for word in ("running", "", None, 7, ["draft"])),
        # A campaign that is gone may have been started before.
        (START, 404, NOT_THERE, Untold),
        (START, 500, campaign("draft"), Untold),
        (SEGMENT_CREATE, 200, {"segment": {"id": "s-1"}, "duration": "0ms"}, Found("s-1")),
        (SEGMENT_CREATE, 404, NOT_THERE, Absent()),
        (SEGMENT_CREATE, 200, campaign("draft"), Untold),
        (SEGMENT_CREATE, 200, {"segment": {}}, Untold),
    ],
)
def test_what_the_lookup_tells(endpoint: Any, status: int, body: object, verdict: object) -> None:
    found = STREAM.read_probe(probe(Step(endpoint, ref="c-1")), Reply(status, {}, orjson.dumps(body)))
    assert found == verdict or (isinstance(verdict, type) and isinstance(found, verdict))


@pytest.mark.parametrize("body", [b"", b"<html>404 Not Found</html>", b"404 page not found"])
def test_a_404_of_something_between_is_no_absence(body: bytes) -> None:
    assert isinstance(STREAM.read_probe(probe(Step(CREATE, ref="c-1")), Reply(404, {}, body)), Untold)
