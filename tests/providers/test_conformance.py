"""What every provider owes the engine, whoever the vendor is: one suite over all of them and all their endpoints."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bulksend.fields import Fields
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
    Standing,
    Step,
    Throttled,
    Unknown,
    Untold,
    Waiting,
)
from bulksend.providers import PROVIDERS, Provider, SendName

SECRET = "s3cret-that-is-long-enough-for-any-signature"
TOKEN = "a0082dc6860938a26280bd3ba927303b"
NAME = SendName("spring-sale", "0007")


def account_of(provider: Provider, base_url: str = "http://127.0.0.1:8900") -> Account:
    ids = dict.fromkeys(provider.account_ids, "shop1")
    return Account("shop", provider.name, base_url, ids, dict.fromkeys(provider.account_secrets, Secret(SECRET)))


def endpoint(name: str) -> Endpoint:
    return PROVIDERS[name.partition(".")[0]].endpoints[name]


LIVE_CREATE = PROVIDERS["batch"].flow({"launch": {"send": "direct"}}).steps[0][1]
STEPS = [Step(one) for provider in PROVIDERS.values() for one in provider.endpoints.values()] + [
    Step(LIVE_CREATE),
    Step(endpoint("stream.campaign.get"), every_s=10.0),
]


def named(step: object) -> str:
    assert isinstance(step, Step)
    special = ", watched" if step.every_s else ", live" if step.endpoint is LIVE_CREATE else ""
    return step.endpoint.name + special


def provider_of(step: Step) -> Provider:
    return PROVIDERS[step.endpoint.name.partition(".")[0]]


def read(step: Step, status: int, body: bytes = b"", repeats: int = 0, **headers: str) -> Outcome:
    fields = {name.replace("_", "-"): text for name, text in headers.items()}
    return provider_of(step).read(step, Reply(status, fields, body), repeats=repeats)


every_step = pytest.mark.parametrize("step", STEPS, ids=named)


# The endpoints, as the vendors' pages have them

DOCUMENTED = {
    "insider.create": ("POST", "/v1/single", "30/min", Repeat.SAFE),
    "insider.launch": ("POST", "/v2/single/{ref}", "6000/min", Repeat.NEVER),
    "insider.launch_v1": ("POST", "/v1/single/{ref}", "30/min", Repeat.NEVER),
    "insider.delete": ("DELETE", "/v1/single/{ref}", "30/min", Repeat.SAFE),
    "insider.statistics": ("POST", "/v1/statistics/{ref}", "30/min", Repeat.SAFE),
}
UNPUBLISHED = {
    "usercom.create": ("POST", "/api/public/webpush-campaign/", Repeat.NEVER),
    "usercom.update": ("PATCH", "/api/public/webpush-campaign/{ref}/", Repeat.SAFE),
    "usercom.send": ("POST", "/api/public/webpush-campaign/{ref}/send/", Repeat.NEVER),
    "usercom.list": ("GET", "/api/public/webpush-campaign/", Repeat.SAFE),
    "usercom.get": ("GET", "/api/public/webpush-campaign/{ref}/", Repeat.SAFE),
    "usercom.segments": ("GET", "/api/public/segments/", Repeat.SAFE),
    "usercom.segment_users": ("GET", "/api/public/segments/{ref}/users/", Repeat.SAFE),
    "stream.campaign.create": ("POST", "/campaigns", Repeat.SAFE),
    "stream.campaign.get": ("GET", "/campaigns/{ref}", Repeat.SAFE),
    "stream.campaign.update": ("PUT", "/campaigns/{ref}", Repeat.SAFE),
    "stream.campaign.start": ("POST", "/campaigns/{ref}/start", Repeat.NEVER),
    "stream.campaign.stop": ("POST", "/campaigns/{ref}/stop", Repeat.SAFE),
    "stream.campaign.delete": ("DELETE", "/campaigns/{ref}", Repeat.SAFE),
    "stream.campaign.query": ("POST", "/campaigns/query", Repeat.SAFE),
    "stream.segment.create": ("POST", "/segments", Repeat.SAFE),
    "stream.segment.get": ("GET", "/segments/{ref}", Repeat.SAFE),
    "stream.segment.update": ("PUT", "/segments/{ref}", Repeat.SAFE),
    "stream.segment.delete": ("DELETE", "/segments/{ref}", Repeat.SAFE),
    "stream.segment.query": ("POST", "/segments/query", Repeat.SAFE),
    "stream.targets.add": ("POST", "/segments/{ref}/addtargets", Repeat.SAFE),
    "stream.targets.delete": ("POST", "/segments/{ref}/deletetargets", Repeat.SAFE),
    "stream.targets.query": ("POST", "/segments/{ref}/targets/query", Repeat.SAFE),
    "stream.targets.exists": ("GET", "/segments/{ref}/target/{target}", Repeat.SAFE),
    "batch.create": ("POST", "/1.1/{app}/campaigns/create", Repeat.SAFE),
    "batch.update": ("POST", "/1.1/{app}/campaigns/update/{ref}", Repeat.NEVER),
    "batch.delete": ("POST", "/1.1/{app}/campaigns/delete/{ref}", Repeat.SAFE),
    "batch.list": ("GET", "/1.1/{app}/campaigns/list", Repeat.SAFE),
    "batch.get": ("GET", "/1.1/{app}/campaigns/{ref}", Repeat.SAFE),
    "batch.stats": ("GET", "/1.1/{app}/campaigns/stats/{ref}", Repeat.SAFE),
}


def test_every_documented_route_is_an_endpoint() -> None:
    found = {name: one for provider in PROVIDERS.values() for name, one in provider.endpoints.items()}
    assert {name: one.name for name, one in found.items()} == {name: name for name in found}
    limited = {name: one for name, one in found.items() if one.documented}
    assert {name: (one.method, one.path, str(one.limit), one.repeat) for name, one in limited.items()} == DOCUMENTED
    others = {name: one for name, one in found.items() if not one.documented}
    assert {name: (one.method, one.path, one.repeat) for name, one in others.items()} == UNPUBLISHED
    # Not published: the client's own careful start.
    assert {str(one.limit) for one in others.values()} == {"60/min"}


def test_a_live_create_of_batch_is_the_same_route_and_a_send() -> None:
    draft = endpoint("batch.create")
    same = [(one.name, one.method, one.path, one.limit, one.documented) for one in (draft, LIVE_CREATE)]
    assert same[0] == same[1]
    assert (draft.repeat, LIVE_CREATE.repeat) == (Repeat.SAFE, Repeat.NEVER)


@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=lambda one: one.name)
def test_every_endpoint_has_a_body_and_every_field_says_what_it_is(provider: Provider) -> None:
    assert set(provider.bodies) == set(provider.endpoints)
    assert all(name.startswith(f"{provider.name}.") for name in provider.endpoints)
    for tables in (provider.bodies, provider.tables, {"account": provider.account_ids}):
        for name, fields in tables.items():
            assert not [path for path in without_a_word(fields, name) if path.split(".")[-1] not in PLAIN]
    assert all(field.required and field.about for field in provider.account_secrets.values())


PLAIN = {"enabled", "key", "user_id", "channel_role"}
"""Names within a table that say enough by themselves."""


def without_a_word(fields: Fields, path: str) -> Iterator[str]:
    for name, field in fields.items():
        if not field.about:
            yield f"{path}.{name}"
        yield from without_a_word(field.fields, f"{path}.{name}")


# What the pages promise, and what is not it

CAMPAIGN = {"id": "c-1", "name": "", "status": "in_progress", "stats": {"progress": 0.5}}
SEGMENT = {"id": "s-1", "type": "user", "name": "", "size": 0}
D = {"duration": "0.00ms"}
PAGE = {"previous": None, "next": None, "count": 0, "results": []}
WITH_ID = {"success": True, "campaign_id": 25696}
METRICS = {"page": 1, "per_page": 10, "total": 0, "data": []}
MADE = {"id": 3, "name": "Spring Sale Push", "category": None, "eta": "2026-04-01T12:00:00Z", "ttl": 86400}
READ_BACK = {"campaign_token": TOKEN, "from_api": True, "name": "Spring", "live": True, "messages": []}
PROMISED: Mapping[str, Any] = {
    **dict.fromkeys(("insider.create", "insider.launch", "insider.launch_v1"), WITH_ID),
    "insider.statistics": METRICS,
    **dict.fromkeys(("usercom.create", "usercom.update", "usercom.get"), MADE),
    **dict.fromkeys(("usercom.list", "usercom.segments", "usercom.segment_users"), PAGE),
    **{f"stream.campaign.{name}": {"campaign": CAMPAIGN, **D} for name in ("create", "get", "update", "start", "stop")},
    **{f"stream.segment.{name}": {"segment": SEGMENT, **D} for name in ("create", "get", "update")},
    **dict.fromkeys(
        ("stream.campaign.delete", "stream.segment.delete", "stream.targets.add", "stream.targets.delete"), D
    ),
    "stream.targets.exists": D,
    "stream.campaign.query": {"campaigns": [], **D},
    "stream.segment.query": {"segments": [], **D},
    "stream.targets.query": {"targets": [], **D},
    "batch.create": {"campaign_token": TOKEN},
    "batch.list": [],
    "batch.get": READ_BACK,
    "batch.stats": {"campaign_token": TOKEN, "detail": []},
}
NO_BODY_PROMISED = {"insider.delete", "usercom.send", "batch.update", "batch.delete"}
NEEDED: Mapping[str, tuple[str, ...]] = {
    # Where in the promised body stands what proves it.
    "insider.statistics": (),  # its three routes answer each in its own form
    "batch.list": (),
    **dict.fromkeys(("insider.create", "insider.launch", "insider.launch_v1"), ("campaign_id",)),
    **dict.fromkeys(("usercom.create", "usercom.update", "usercom.get"), ("id",)),
    **dict.fromkeys(("usercom.list", "usercom.segments", "usercom.segment_users"), ("results",)),
    **{name: tuple(body)[:1] for name, body in PROMISED.items() if name.startswith("stream.")},
    **{name: (thing, "id") for name, body in PROMISED.items() for thing in ("campaign", "segment") if thing in body},
    **dict.fromkeys(("batch.create", "batch.get", "batch.stats"), ("campaign_token",)),
}

GARBAGE = [
    b"",
    b" ",
    b"null",
    b"true",
    b"7",
    b'"ok"',
    b"OK",
    b"<!DOCTYPE html><html><body>Welcome</body></html>",
    b"\xff\xfe{",
    b"\x00" * 100,
    b"\x1f\x8b\x08\x00",
    b'{"id": "\xff"}',
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b'{"id": ' + b"9" * 5000,
]
SUCCESSES = [200, 201, 202, 203, 204, 206, 226, 299]


def test_the_promises_cover_every_endpoint() -> None:
    assert set(PROMISED) | NO_BODY_PROMISED == set(DOCUMENTED) | set(UNPUBLISHED)
    assert set(NEEDED) == set(PROMISED)


def promising(steps: list[Step]) -> list[Step]:
    return [step for step in steps if step.endpoint.name in PROMISED]


@pytest.mark.parametrize("step", promising(STEPS), ids=named)
@pytest.mark.parametrize("status", [200, 201])
def test_what_the_page_promises_is_taken(step: Step, status: int) -> None:
    outcome = read(step, status, orjson.dumps(PROMISED[step.endpoint.name]))
    assert isinstance(outcome, Waiting if step.every_s else Accepted)


def put(body: Any, path: tuple[str, ...], value: object) -> Any:
    """Return the body with another value at a place; with the place gone for `...`."""
    if not path:
        return value
    changed = dict(body)
    if value is ... and len(path) == 1:
        del changed[path[0]]
    else:
        changed[path[0]] = put(body[path[0]], path[1:], value)
    return changed


def not_promised(step: Step) -> Iterator[bytes]:
    """Yield bodies that are not what the page promises."""
    yield from GARBAGE
    name = step.endpoint.name
    good, path = PROMISED[name], NEEDED[name]
    whole = orjson.dumps(good)
    yield from (whole[:end] for end in range(len(whole)))
    yield whole + whole
    yield orjson.dumps(whole.decode())
    if name != "batch.list":
        yield from (b"[]", orjson.dumps([good]))
    if name == "batch.list":
        yield from (b"{}", orjson.dumps({"campaigns": []}))
    if not path:
        return
    yield from (b"{}", orjson.dumps({"data": good}))
    kind = type(at(good, path))
    if path == ("duration",):  # it proves nothing by itself, its presence is enough
        yield orjson.dumps(put(good, path, ...))
        return
    wrong: list[object] = [..., None, True, False, 1.5, -1, "", {"x": 1}, {}, {"id": {"id": 1}}]
    wrong += [["x"], 7] if kind is str else ["x", "1/../2"]
    yield from (orjson.dumps(put(good, path, value)) for value in wrong)
    if len(path) > 1:
        yield from (orjson.dumps(put(good, path[:1], value)) for value in (..., None, True, "x", [], [1], {}))
    if kind is str:
        yield orjson.dumps(put(good, path, "x" * 5000))
    if kind is int:
        yield whole.replace(str(at(good, path)).encode(), b"9" * 4000)


def at(body: Any, path: tuple[str, ...]) -> Any:
    return at(body[path[0]], path[1:]) if path else body


@pytest.mark.parametrize("step", promising(STEPS), ids=named)
def test_anything_else_with_a_2xx_proves_nothing(step: Step) -> None:
    for body in not_promised(step):
        for status in SUCCESSES:
            outcome = read(step, status, body)
            assert isinstance(outcome, Unknown), (status, body[:80])
            assert outcome.status == status
            assert f"HTTP {status}" in outcome.reason
            assert len(outcome.reason) < 200


@pytest.mark.parametrize("name", sorted(NO_BODY_PROMISED))
def test_where_no_body_is_promised_none_is_needed(name: str) -> None:
    for status in SUCCESSES:
        assert read(Step(endpoint(name)), status) == Accepted()
        assert read(Step(endpoint(name)), status, b"{}") == Accepted()


# Statuses

ANY_BODY = [b"", b"{}", b"<html>", b"\xff", b'{"id": 3, "success": true, "campaign_id": 3}', b"[" * 100_000]
NOT_YOURS = {"batch.list", "batch.get", "batch.stats"}
SLOW_DOWN = {"insider.statistics"}


@every_step
@pytest.mark.parametrize("repeats", [0, 1])
@pytest.mark.parametrize("body", ANY_BODY, ids=lambda body: repr(body[:12]))
def test_statuses_that_mean_the_same_everywhere(step: Step, repeats: int, body: bytes) -> None:
    name = step.endpoint.name
    denied = read(step, 401, body, repeats)
    assert isinstance(denied, Denied)
    assert denied.status == 401
    forbidden = read(step, 403, body, repeats, retry_after="7")
    if name in SLOW_DOWN:
        assert forbidden == Throttled(403, "7")
    elif name in NOT_YOURS:
        assert isinstance(forbidden, Rejected)
        assert "Live API key" in forbidden.reason
    else:
        assert isinstance(forbidden, Denied)
        assert forbidden.status == 403
    for status in (404, 405, 406, 409, 410, 413, 415, 422, 431, 451, 499):
        rejected = read(step, status, body, repeats)
        assert isinstance(rejected, Rejected)
        assert rejected.status == status
        assert f"HTTP {status}" in rejected.reason
    for status in (100, 300, 301, 302, 303, 304, 307, 308, 408, 500, 501, 502, 503, 504, 520, 599, 600, 999, 0):
        unknown = read(step, status, body, repeats, location=f"https://elsewhere.example.com/{SECRET}")
        assert isinstance(unknown, Unknown)
        assert (unknown.status, unknown.refused) == (status, False)
        assert SECRET not in unknown.reason


@every_step
@pytest.mark.parametrize("body", [b"", b'{"code": 9, "message": "too many requests"}', b"<html>", b"\xff", b"[1"])
def test_429_is_to_wait_whatever_its_body_is(step: Step, body: bytes) -> None:
    least = 5.0 if step.endpoint.name.startswith("batch.") else 0.0
    assert read(step, 429, body) == Throttled(429, None, least)
    date = "Wed, 01 Apr 2026 06:00:07 GMT"
    for text in ("7", "0", date, "soon", "-1", ""):
        outcome = read(step, 429, body, retry_after=text)
        assert isinstance(outcome, Throttled)
        assert (outcome.retry_after, outcome.at_least_s) == (text, least)
    reset = read(step, 429, body, x_ratelimit_reset="1775023200")
    assert isinstance(reset, Throttled)
    assert reset.reset_at == (1775023200.0 if step.endpoint.name.startswith("stream.") else None)


# Whatever comes

KEYS = ["id", "success", "campaign_id", "message", "error", "code", "campaign", "segment", "status", "stats", "name"]
KEYS += ["duration", "results", "next", "campaign_token", "live", "detail", "progress", "campaigns", "targets"]
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.sampled_from(["draft", TOKEN]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=10,
)
bodies = st.binary(max_size=80) | values.map(lambda value: json.dumps(value).encode())
HEADERS = ["retry-after", "location", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"]
numbers = st.integers(-9, 10**20).map(str) | st.sampled_from(["300, 300", "٣", "1e9", "nan", "²", "", "-0"])
headers_of_any_kind = st.dictionaries(st.sampled_from(HEADERS), st.text(max_size=10) | numbers)


@given(
    step=st.sampled_from(STEPS),
    status=st.integers(0, 999) | st.sampled_from([200, 201, 400, 424, 429]),
    body=bodies,
    repeats=st.integers(0, 3),
    headers=headers_of_any_kind,
)
@example(Step(endpoint("batch.create")), 400, b'{"code": ' + b"9" * 4300 + b"}", 0, {})
@example(Step(endpoint("stream.campaign.create")), 201, b'{"campaign": {"id": "\\ud800"}}', 0, {})
def test_reading_never_raises(step: Step, status: int, body: bytes, repeats: int, headers: dict[str, str]) -> None:
    outcome = provider_of(step).read(step, Reply(status, headers, body), repeats=repeats)
    match outcome:
        case Accepted(ref=ref):
            assert 200 <= status < 300
            assert ref is None or (0 < len(ref) <= 255 and ref.encode())
        case Waiting(after_s=after_s, progress=progress):
            assert 200 <= status < 300
            assert after_s == step.every_s > 0
            assert progress is None or 0 <= progress <= 1
        case Throttled():
            assert status == 429 or (status == 403 and step.endpoint.name in SLOW_DOWN)
        case Denied():
            assert status in (401, 403)
        case Rejected():
            assert 400 <= status < 500
        case _:
            assert isinstance(outcome, Unknown)
    if 300 <= status < 400 or 500 <= status < 600 or status == 408:
        assert isinstance(outcome, Unknown)
    if isinstance(outcome, Rejected | Unknown | Denied):
        assert 0 < len(outcome.reason) < 200


@given(provider=st.sampled_from(list(PROVIDERS.values())), headers=headers_of_any_kind, body=bodies)
def test_the_vendors_own_count_is_read_or_left(provider: Provider, headers: dict[str, str], body: bytes) -> None:
    standing = provider.standing(Reply(200, headers, body))
    if standing is None:
        return
    assert isinstance(standing, Standing)
    assert provider.name == "stream"
    assert standing.remaining is None or standing.remaining >= 0
    assert standing.reset_at is None or standing.reset_at >= 0
    if standing.limit is not None:
        assert all(window.calls >= 1 and window.period_s > 0 for window in standing.limit.windows)


PROBES = [
    (provider, probe)
    for provider in PROVIDERS.values()
    for one in (*provider.endpoints.values(), LIVE_CREATE)
    if one.name.startswith(provider.name)
    and (probe := provider.probe(one, account_of(provider), name=NAME, ref="7")) is not None
]


def test_what_can_be_looked_up() -> None:
    asked = {
        one.name: None if probe is None else probe.step.endpoint.name
        for provider in PROVIDERS.values()
        for one in provider.endpoints.values()
        if one.repeat is Repeat.NEVER
        for probe in [provider.probe(one, account_of(provider), name=NAME, ref="7")]
    }
    assert asked == {
        "insider.launch": None,
        "insider.launch_v1": None,
        "usercom.create": "usercom.list",
        "usercom.send": None,
        "stream.campaign.start": "stream.campaign.get",
        "batch.update": "batch.get",
    }
    assert all(probe.step.endpoint.reads for _, probe in PROBES)


@given(
    which=st.sampled_from(PROBES), status=st.sampled_from([200, 404]) | st.integers(0, 999), body=bodies, ref=st.text()
)
def test_reading_a_lookup_never_raises(which: tuple[Provider, Probe], status: int, body: bytes, ref: str) -> None:
    provider, probe = which
    verdict = provider.read_probe(probe, Reply(status, {}, body))
    assert isinstance(verdict, Found | Absent | Untold | Probe)
    if isinstance(verdict, Found | Probe):
        assert status == 200
    if isinstance(verdict, Absent):
        assert status in (200, 404)
    if isinstance(verdict, Found):
        assert verdict.ref is None or 0 < len(verdict.ref) <= 255
    if isinstance(verdict, Probe):
        assert verdict.pages_left < probe.pages_left
        assert verdict.step.endpoint.reads
    if isinstance(verdict, Untold):
        assert 0 < len(verdict.reason) < 200
