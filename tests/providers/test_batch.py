"""Batch's translator: a draft is set live by its token; a live create is a send."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import orjson
import pytest

from bulksend.fields import Fault, read_table, unknown_fields
from bulksend.model import (
    Absent,
    Accepted,
    Account,
    Denied,
    Endpoint,
    Found,
    Outcome,
    Probe,
    Rejected,
    Repeat,
    Reply,
    Secret,
    Step,
    Throttled,
    Unknown,
    Untold,
)
from bulksend.providers import PROVIDERS, SendName

BATCH = PROVIDERS["batch"]
NAME = SendName("spring-sale", "0007")
CREATE, UPDATE, DELETE, LIST, GET, STATS = (
    BATCH.endpoints[f"batch.{name}"] for name in ("create", "update", "delete", "list", "get", "stats")
)
DIRECT = BATCH.flow({"launch": {"send": "direct"}}).steps[0][1]
ACCOUNT = Account("default", "batch", "https://api.batch.com", {"api_key": "APP1"}, {"rest_key": Secret("r3st")})
TOKEN = "a0082dc6860938a26280bd3ba927303b"
MESSAGE: dict[str, object] = {"language": "en", "title": "Hello!", "body": "How's it going?"}
BODY: dict[str, object] = {"name": "Test Campaign", "push_time": "now", "messages": [MESSAGE]}
SIX = datetime(2026, 4, 1, 6, tzinfo=UTC).timestamp()


def with_ref(step: Step, ref: str | None) -> Step:
    """Return the step as the sender has it once the step before gave its id."""
    return step if step.ref is not None else msgspec.structs.replace(step, ref=ref)


def typed(change: dict[str, object]) -> tuple[dict[str, object], list[Fault]]:
    fields = BATCH.tables["launch"]
    body = {key: value for key, value in {**BODY, **change}.items() if value is not None}
    values, faults = read_table(fields, body, "launch")
    return values, unknown_fields(fields, body, "launch") + faults


def wire(endpoint: Endpoint, change: dict[str, object], name: SendName = NAME) -> Any:
    body, faults = typed(change)
    assert not faults
    return orjson.loads(BATCH.step(endpoint, "launch", body, ACCOUNT, name=name).body)


# Bodies


def test_a_draft_and_its_setting_live() -> None:
    flow = BATCH.flow({"launch": BODY})
    assert (flow.prepare, flow.steps) == ((), (("launch", CREATE), ("launch", UPDATE)))
    # "At least the same number of parameters as at creation": the whole body again.
    assert wire(CREATE, {}) == {**BODY, "live": False}
    assert wire(UPDATE, {}) == {**BODY, "live": True}
    draft, live = (BATCH.step(one, "launch", typed({})[0], ACCOUNT, name=NAME) for one in (CREATE, UPDATE))
    assert (draft.endpoint.repeat, live.endpoint.repeat) == (Repeat.SAFE, Repeat.NEVER)
    made = BATCH.call(draft, ACCOUNT, {}, repeats=0)
    assert made.url == "https://api.batch.com/1.1/APP1/campaigns/create"
    started = BATCH.call(with_ref(live, TOKEN), ACCOUNT, {}, repeats=0)
    assert started.url == f"https://api.batch.com/1.1/APP1/campaigns/update/{TOKEN}"


def test_one_live_create_where_asked_for() -> None:
    flow = BATCH.flow({"launch": {**BODY, "send": "direct"}})
    assert (flow.prepare, flow.steps) == ((), (("launch", DIRECT),))
    sent = wire(DIRECT, {"send": "direct"})
    assert sent.pop("name").startswith("Test Campaign [")
    # `send` is the client's own word.
    assert sent == {"push_time": "now", "messages": [MESSAGE], "live": True}


def test_drafts_alone_where_asked_for() -> None:
    tables = {"launch": {**BODY, "live": False}}
    flow = BATCH.flow(tables)
    assert (flow.prepare, flow.steps) == ((), (("launch", CREATE),))
    assert wire(CREATE, {"live": False})["live"] is False
    assert [note.path for note in BATCH.notes(tables, sends=3, chunk=None)] == ["launch.live"]
    assert not BATCH.notes({"launch": BODY}, sends=3, chunk=None)


@pytest.mark.parametrize(
    ("push_time", "sent"),
    [
        ("now", "now"),
        ("2026-04-01T06:00:00Z", "2026-04-01T06:00:00"),
        ("2026-04-01T06:00:00", "2026-04-01T06:00:00"),
        ("2026-04-01T08:00:00+02:00", "2026-04-01T06:00:00"),
        ("2026-03-31T22:30:00-05:00", "2026-04-01T03:30:00"),
        (datetime(2026, 4, 1, 6, tzinfo=UTC), "2026-04-01T06:00:00"),
        (datetime(2026, 4, 1, 6), "2026-04-01T06:00:00"),  # noqa: DTZ001  # as TOML has a local time
    ],
)
def test_push_time_is_utc_and_sent_without_a_zone(push_time: object, sent: str) -> None:
    for endpoint in (CREATE, UPDATE, DIRECT):
        assert wire(endpoint, {"push_time": push_time})["push_time"] == sent


def test_local_push_time_is_each_receivers_own() -> None:
    sent = wire(CREATE, {"push_time": None, "local_push_time": "2026-04-01T06:00:00"})
    assert sent["local_push_time"] == "2026-04-01T06:00:00"
    assert "push_time" not in sent


@pytest.mark.parametrize(("ttl", "seconds"), [("1 s", 1), ("90 minutes", 5400), ("28 days", 2_419_200)])
def test_time_to_live_in_words_is_sent_as_whole_seconds(ttl: str, seconds: int) -> None:
    found = wire(CREATE, {"time_to_live": ttl})["time_to_live"]
    assert (found, type(found)) == (seconds, int)


def test_every_field_of_the_pages_goes_out_as_it_is_written() -> None:
    full: dict[str, object] = {
        "messages": [MESSAGE, {"language": "fr", "body": "Salut"}],
        "labels": ["a", "b", "c"],
        "priority": "high",
        "gcm_collapse_key": {"enabled": True, "key": "sale"},
        "push_type": "background",
        "targeting": {
            "segments": ["NEW", "ONE_TIME", "ENGAGED", "DORMANT", "IMPORTED"],
            "query": {"t.tag": {"$contains": ["v"]}, "c.city": "Oslo"},
            "languages": ["en"],
            "regions": ["NO"],
            "custom_audiences": ["vip"],
        },
        "media": {name: f"https://example.com/{name}" for name in ("icon", "picture", "audio", "video")},
        "deeplink": "app://sale",
        "custom_payload": '{"a": 1}',
        "skip_media_check": True,
    }
    assert wire(CREATE, full) == {**BODY, **full, "live": False}
    assert wire(CREATE, {"landing": {"title": "Sale"}})["landing"] == {"title": "Sale"}


def test_a_delete_has_no_body() -> None:
    call = BATCH.call(BATCH.request(DELETE, {}, ACCOUNT, ref=TOKEN), ACCOUNT, {}, repeats=0)
    assert (call.endpoint.method, call.body) == ("POST", b"")
    assert call.url == f"https://api.batch.com/1.1/APP1/campaigns/delete/{TOKEN}"


def test_the_list_is_asked_in_the_query() -> None:
    step = BATCH.request(LIST, {"from": 20, "limit": 100, "live": False, "from_api": True}, ACCOUNT, ref=None)
    url = BATCH.call(step, ACCOUNT, {}, repeats=0).url
    assert url == "https://api.batch.com/1.1/APP1/campaigns/list?from=20&limit=100&live=false&from_api=true"


# What is wrong before the first call


@pytest.mark.parametrize(
    ("change", "path", "words"),
    [
        ({"name": None}, "launch.name", "required"),
        ({"name": "ab"}, "launch.name", "at least 3"),
        ({"messages": None}, "launch.messages", "required"),
        ({"messages": []}, "launch.messages", "empty"),
        ({"messages": [{"language": "en"}]}, "launch.messages[1].body", "required"),
        ({"messages": [MESSAGE, {"body": "b"}]}, "launch.messages[2].language", "required"),
        ({"messages": [{**MESSAGE, "text": "b"}]}, "launch.messages[1].text", "unknown"),
        ({"labels": ["a", "b", "c", "d"]}, "launch.labels", "at most 3"),
        ({"labels": ["a", 7]}, "launch.labels[2]", "text"),
        ({"labels": "a"}, "launch.labels", "list"),
        ({"priority": "urgent"}, "launch.priority", "normal, high"),
        ({"time_to_live": "0 s"}, "launch.time_to_live", "at least 1 s"),
        ({"time_to_live": "29 days"}, "launch.time_to_live", "longer than 28 days"),
        ({"time_to_live": "28 days 1 s"}, "launch.time_to_live", "longer than 28 days"),
        ({"time_to_live": 3600}, "launch.time_to_live", "in words"),
        ({"push_time": "soon"}, "launch.push_time", '"now"'),
        ({"push_time": 1775044800}, "launch.push_time", "date and time"),
        ({"push_time": "9999-12-31T23:59:59-01:00"}, "launch.push_time", "past what a date can be"),
        ({"local_push_time": "2026-04-01T06:00:00Z"}, "launch.local_push_time", "no zone"),
        ({"local_push_time": "2026-04-01T06:00:00+02:00"}, "launch.local_push_time", "no zone"),
        ({"local_push_time": "now"}, "launch.local_push_time", "date and time"),
        ({"targeting": {"segments": ["VIP"]}}, "launch.targeting.segments[1]", "NEW, ONE_TIME"),
        ({"targeting": {"segment": ["NEW"]}}, "launch.targeting.segment", "segments"),
        ({"targeting": {"query": "c.city"}}, "launch.targeting.query", "table"),
        ({"media": {"picture": "http://example.com/p.png"}}, "launch.media.picture", "https://"),
        ({"gcm_collapse_key": {"key": "x"}}, "launch.gcm_collapse_key.enabled", "required"),
        ({"gcm_collapse_key": "x"}, "launch.gcm_collapse_key", "table"),
        ({"send": "later"}, "launch.send", "draft, direct"),
        ({"live": "yes"}, "launch.live", "true or false"),
        ({"state": "RUNNING"}, "launch.state", "unknown"),
    ],
)
def test_what_the_pages_do_not_allow_is_named(change: dict[str, object], path: str, words: str) -> None:
    _, faults = typed(change)
    assert [fault.path for fault in faults] == [path]
    assert words in faults[0].text


@pytest.mark.parametrize(
    ("change", "paths"),
    [
        ({}, []),
        ({"push_time": None, "local_push_time": "2026-04-01T06:00:00"}, []),
        ({"local_push_time": "2026-04-01T06:00:00"}, ["launch.local_push_time"]),
        ({"push_time": None}, ["launch.push_time"]),
        ({"deeplink": "app://x"}, []),
        ({"landing": {"title": "x"}}, []),
        ({"deeplink": "app://x", "landing": {"title": "x"}}, ["launch.landing"]),
        ({"live": False}, []),
        ({"live": True, "send": "direct"}, []),
        ({"live": False, "send": "draft"}, []),
        ({"live": False, "send": "direct"}, ["launch.live"]),
        ({"push_time": None, "deeplink": "a", "landing": {}}, ["launch.push_time", "launch.landing"]),
    ],
)
def test_what_the_table_says_together(change: dict[str, object], paths: list[str]) -> None:
    launch = {key: value for key, value in {**BODY, **change}.items() if value is not None}
    faults = BATCH.review({"launch": launch}, has_audience=True, chunk=None)
    assert [fault.path for fault in faults] == paths


def test_a_job_needs_its_table() -> None:
    assert [fault.path for fault in BATCH.review({}, has_audience=True, chunk=None)] == ["launch"]
    assert BATCH.segment_id({"launch": BODY}, ACCOUNT) is None
    assert BATCH.complete({"launch": BODY}) == {"launch": BODY}


@pytest.mark.parametrize(
    ("change", "now", "paths"),
    [
        ({"push_time": "2026-04-01T06:00:00Z"}, SIX, []),
        ({"push_time": "2026-04-01T06:00:00Z"}, SIX + 1, ["launch.push_time"]),
        ({"push_time": "now"}, SIX + 1, []),
        # A local time has come for everybody twelve hours after it has come in UTC.
        ({"push_time": None, "local_push_time": "2020-04-01T06:00:00"}, SIX, ["launch.local_push_time"]),
        ({"push_time": None, "local_push_time": "2026-03-31T18:00:00"}, SIX, []),
        ({"push_time": None, "local_push_time": "2026-03-31T17:59:59"}, SIX, ["launch.local_push_time"]),
        ({"custom_payload": '{"a": [1]}'}, SIX, []),
        ({"custom_payload": "{'a': 1}"}, SIX, ["launch.custom_payload"]),
        ({"custom_payload": "${payload}"}, SIX, []),
    ],
)
def test_what_only_the_values_tell(change: dict[str, object], now: float, paths: list[str]) -> None:
    faults = BATCH.check("launch", typed(change)[0], now=now)
    assert [fault.path for fault in faults] == paths
    assert [fault.late for fault in faults] == [path.endswith("_time") for path in paths]


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        ({"live": True}, []),
        ({}, []),
        ({"name": "ab"}, ["b.name"]),
        ({"labels": ["a", "b", "c", "d"]}, ["b.labels"]),
        ({"live": "true"}, ["b.live"]),
    ],
)
def test_an_update_by_itself_may_say_a_part(body: dict[str, object], paths: list[str]) -> None:
    assert [fault.path for fault in read_table(BATCH.bodies["batch.update"], body, "b")[1]] == paths


@pytest.mark.parametrize(
    ("body", "paths"),
    [({}, []), ({"limit": 100, "from": 0}, []), ({"limit": 101, "from": -1}, ["b.from", "b.limit"])],
)
def test_a_list_is_at_most_a_hundred(body: dict[str, object], paths: list[str]) -> None:
    assert [fault.path for fault in read_table(BATCH.bodies["batch.list"], body, "b")[1]] == paths


def test_a_create_by_itself_says_whether_it_is_live() -> None:
    faults = read_table(BATCH.bodies["batch.create"], BODY, "b")[1]
    assert [fault.path for fault in faults] == ["b.live"]


@pytest.mark.parametrize(
    ("change", "paths"),
    [
        ({}, []),
        ({"local_push_time": "2026-04-01T06:00:00"}, ["batch.create.local_push_time"]),
        ({"push_time": None}, ["batch.create.push_time"]),
        ({"deeplink": "app://x", "landing": {}}, ["batch.create.landing"]),
    ],
)
def test_a_single_create_is_held_to_the_same_rules(change: dict[str, object], paths: list[str]) -> None:
    body = {key: value for key, value in {**BODY, "live": True, **change}.items() if value is not None}
    assert [fault.path for fault in BATCH.check("batch.create", body, now=SIX)] == paths
    # An update may say a part alone.
    assert BATCH.check("batch.update", {"live": True}, now=SIX) == []


# Replies


def read(endpoint: Endpoint, status: int, body: object, repeats: int = 0) -> Outcome:
    return BATCH.read(Step(endpoint), Reply(status, {}, orjson.dumps(body)), repeats=repeats)


@pytest.mark.parametrize("endpoint", [CREATE, DIRECT])
def test_a_create_is_accepted_by_its_token(endpoint: Endpoint) -> None:
    for status in (200, 201):
        assert read(endpoint, status, {"campaign_token": TOKEN}) == Accepted(TOKEN)
    for token in ("", "abc", f"{TOKEN}/../delete", "x" * 32, TOKEN * 3, f"{TOKEN}\n"):
        assert isinstance(read(endpoint, 201, {"campaign_token": token}), Unknown)


ERRORS = [
    (400, 30, Rejected("HTTP 400, MISSING_PARAMETER", 400)),
    (400, 31, Rejected("HTTP 400, MALFORMED_PARAMETER", 400)),
    (400, 32, Rejected("HTTP 400, MALFORMED_JSON_BODY", 400)),
    (404, 20, Rejected("HTTP 404, ROUTE_NOT_FOUND", 404)),
    (401, 10, Denied("the vendor refuses the credentials, AUTHENTICATION_INVALID", 401)),
    (429, 60, Throttled(429, None, 5.0)),
    (500, 1, Unknown("HTTP 500", 500)),
    (500, 0, Unknown("HTTP 500", 500)),
    (503, 2, Unknown("HTTP 503", 503)),
    (400, 77, Rejected("HTTP 400, code 77", 400)),
    (400, "31", Rejected("HTTP 400", 400)),
    (400, True, Rejected("HTTP 400", 400)),
    (400, 4_915_112_345_678, Rejected("HTTP 400", 400)),
    (400, -31, Rejected("HTTP 400", 400)),
]


@pytest.mark.parametrize(("status", "code", "outcome"), ERRORS)
@pytest.mark.parametrize("endpoint", [CREATE, DIRECT, UPDATE, DELETE, LIST, GET, STATS], ids=lambda one: one.name)
def test_error_codes_become_reasons(endpoint: Endpoint, status: int, code: object, outcome: Outcome) -> None:
    assert read(endpoint, status, {"code": code, "type": "X", "message": "y"}) == outcome


def test_a_403_is_of_the_key_on_a_lookup_and_of_the_credentials_elsewhere() -> None:
    body = {"code": 12, "type": "API_MISUSE", "message": "x"}
    for endpoint in (LIST, GET, STATS):
        needs = "HTTP 403, API_MISUSE: the lookup needs the app's Live API key, and this account's api_key is another"
        assert read(endpoint, 403, body) == Rejected(needs, 403)
    for endpoint in (CREATE, DIRECT, UPDATE, DELETE):
        assert read(endpoint, 403, body) == Denied("the vendor refuses the credentials, API_MISUSE", 403)


def test_a_campaign_that_an_earlier_call_may_have_completed_cannot_be_set_live_again() -> None:
    body = {"code": 31}
    assert read(UPDATE, 400, body) == Rejected("HTTP 400, MALFORMED_PARAMETER", 400)
    assert read(UPDATE, 400, body, repeats=1) == Unknown("HTTP 400, MALFORMED_PARAMETER", 400, refused=True)
    for endpoint in (CREATE, DIRECT, DELETE):
        assert isinstance(read(endpoint, 400, body, repeats=1), Rejected)


@pytest.mark.parametrize("endpoint", [UPDATE, DELETE], ids=lambda one: one.name)
@pytest.mark.parametrize(("body", "kind"), [(b"", Accepted), (b"{}", Accepted), (b"<html>", Unknown), (b"OK", Unknown)])
def test_an_update_is_accepted_unless_something_else_answers(endpoint: Endpoint, body: bytes, kind: type) -> None:
    assert isinstance(BATCH.read(Step(endpoint), Reply(200, {}, body), repeats=0), kind)


# Lookups


def probe(endpoint: Endpoint, ref: str | None = None) -> Probe:
    found = BATCH.probe(endpoint, ACCOUNT, name=NAME, ref=ref)
    assert found is not None
    return found


def test_what_is_looked_up() -> None:
    live = BATCH.call(probe(UPDATE, TOKEN).step, ACCOUNT, {}, repeats=0)
    assert live.url == f"https://api.batch.com/1.1/APP1/campaigns/{TOKEN}"
    assert BATCH.probe(UPDATE, ACCOUNT, name=NAME, ref=None) is None
    named = BATCH.call(probe(DIRECT).step, ACCOUNT, {}, repeats=0)
    assert parse_qs(urlsplit(named.url).query) == {"from": ["0"], "limit": ["100"], "from_api": ["true"]}
    assert f"[{probe(DIRECT).wanted}]" in wire(DIRECT, {})["name"]
    assert probe(DIRECT).wanted not in wire(DIRECT, {}, SendName("another job", "0007"))["name"]
    # A draft that is made twice does no harm.
    for endpoint in (CREATE, DELETE, LIST, GET, STATS):
        assert BATCH.probe(endpoint, ACCOUNT, name=NAME, ref=TOKEN) is None


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        (200, {"campaign_token": TOKEN, "live": True}, Found(TOKEN)),
        (200, {"campaign_token": TOKEN, "live": False}, Absent()),
        (200, {"campaign_token": TOKEN}, Untold),
        (200, {"live": "false"}, Untold),
        (200, {"live": 0}, Untold),
        (200, {"live": None}, Untold),
        (200, [{"live": False}], Untold),
        (200, None, Untold),
        (201, {"live": False}, Untold),
        (404, {"code": 20, "live": False}, Untold),
        (500, {"live": False}, Untold),
        (403, {"code": 12}, Untold),
    ],
)
def test_what_the_campaign_itself_tells(status: int, body: object, verdict: object) -> None:
    found = BATCH.read_probe(probe(UPDATE, TOKEN), Reply(status, {}, orjson.dumps(body)))
    assert found == verdict or (isinstance(verdict, type) and isinstance(found, verdict))
    if status == 403:
        assert isinstance(found, Untold)
        assert "Live API key" in found.reason


MARK = f"[{probe(DIRECT).wanted}]"
OTHERS = [{"name": f"Campaign {number}", "campaign_token": TOKEN} for number in range(100)]


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        (200, [{"name": f"Spring {MARK}", "campaign_token": TOKEN}], Found(TOKEN)),
        (200, [None, 7, {}, *OTHERS, {"name": MARK, "campaign_token": TOKEN}], Found(TOKEN)),
        # Absence is no proof: nothing here may ever be Absent.
        (200, [], Untold),
        (200, OTHERS[:99], Untold),
        (200, [{"name": MARK}], Untold),
        (200, [{"name": MARK, "campaign_token": ""}], Untold),
        (200, [{"name": MARK, "campaign_token": 7}], Untold),
        (200, [{"name": MARK[1:-1], "campaign_token": TOKEN}], Untold),
        (200, {"name": MARK, "campaign_token": TOKEN}, Untold),
        (200, {}, Untold),
        (404, [{"name": MARK, "campaign_token": TOKEN}], Untold),
        (403, {"code": 12}, Untold),
    ],
)
def test_what_the_list_tells(status: int, body: object, verdict: object) -> None:
    found = BATCH.read_probe(probe(DIRECT), Reply(status, {}, orjson.dumps(body)))
    assert found == verdict or (isinstance(verdict, type) and isinstance(found, verdict))


def test_the_list_is_looked_through_in_pages_that_overlap_and_given_up_at_last() -> None:
    reply = Reply(200, {}, orjson.dumps(OTHERS))
    verdict: object = probe(DIRECT)
    firsts = []
    while isinstance(verdict, Probe):
        query = parse_qs(urlsplit(BATCH.call(verdict.step, ACCOUNT, {}, repeats=0).url).query)
        assert (query["limit"], query["from_api"]) == (["100"], ["true"])
        firsts.append(int(query["from"][0]))
        verdict = BATCH.read_probe(verdict, reply)
        assert len(firsts) <= 5
    assert isinstance(verdict, Untold)
    assert firsts == [0, 90, 180, 270, 360]
