"""Insider's translator: what each reply means, and how a body goes out."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bulksend.model import (
    Accepted,
    Account,
    Denied,
    Endpoint,
    Limit,
    Outcome,
    Rejected,
    Repeat,
    Reply,
    Secret,
    Step,
    Throttled,
    Unknown,
)
from bulksend.providers import PROVIDERS, Flow, SendName

INSIDER = PROVIDERS["insider"]
NAME = SendName("spring-sale", "0007")
CREATE, LAUNCH, LAUNCH_V1, DELETE, STATISTICS = (
    INSIDER.endpoints[f"insider.{name}"] for name in ("create", "launch", "launch_v1", "delete", "statistics")
)
WITH_ID = [CREATE, LAUNCH, LAUNCH_V1]
ALL = [*WITH_ID, DELETE, STATISTICS]
ACCOUNT = Account(
    "default", "insider", "https://web-push.api.useinsider.com", {"partner_id": "100000001"}, {"token": Secret("t0k")}
)


def with_ref(step: Step, ref: str | None) -> Step:
    """Return the step as the sender has it once the step before gave its id."""
    return step if step.ref is not None else msgspec.structs.replace(step, ref=ref)


def named(endpoint: Endpoint) -> str:
    return endpoint.name


def read(endpoint: Endpoint, status: int, body: bytes = b"", repeats: int = 0, **headers: str) -> Outcome:
    fields = {name.replace("_", "-"): text for name, text in headers.items()}
    return INSIDER.read(Step(endpoint), Reply(status, fields, body), repeats=repeats)


def test_documented_endpoints() -> None:
    assert {one.name: (one.method, one.path, str(one.limit), one.repeat) for one in ALL} == {
        "insider.create": ("POST", "/v1/single", "30/min", Repeat.SAFE),
        "insider.launch": ("POST", "/v2/single/{ref}", "6000/min", Repeat.NEVER),
        "insider.launch_v1": ("POST", "/v1/single/{ref}", "30/min", Repeat.NEVER),
        "insider.delete": ("DELETE", "/v1/single/{ref}", "30/min", Repeat.SAFE),
        "insider.statistics": ("POST", "/v1/statistics/{ref}", "30/min", Repeat.SAFE),
    }
    assert Limit.parse("6000/min") == LAUNCH.limit


# Replies


@pytest.mark.parametrize("endpoint", WITH_ID, ids=named)
@pytest.mark.parametrize(
    ("status", "body", "ref"),
    [
        (200, b'{"success": true, "campaign_id": 1697300275}', "1697300275"),
        (201, b'{"success": true, "campaign_id": 25696}', "25696"),
        (200, b'\n {"campaign_id": 25696, "success": true, "more": [1]} ', "25696"),
        (200, b'{"success": true, "campaign_id": "25696"}', "25696"),
    ],
)
def test_the_documented_body_is_accepted(endpoint: Endpoint, status: int, body: bytes, ref: str) -> None:
    assert read(endpoint, status, body) == Accepted(ref)


NOT_ACCEPTED = [
    b"",
    b"{}",
    b"[]",
    b"null",
    b"true",
    b"OK",
    b"<html><body>Welcome</body></html>",
    b'{"success": true}',
    b'{"campaign_id": 25696}',
    b'{"success": false, "campaign_id": 25696}',
    b'{"success": 1, "campaign_id": 25696}',
    b'{"success": "true", "campaign_id": 25696}',
    b'{"success": null, "campaign_id": 25696}',
    b'{"success": true, "campaign_id": null}',
    b'{"success": true, "campaign_id": true}',
    b'{"success": true, "campaign_id": -1}',
    b'{"success": true, "campaign_id": 1.5}',
    b'{"success": true, "campaign_id": ""}',
    b'{"success": true, "campaign_id": "12/../13"}',
    b'{"success": true, "campaign_id": [25696]}',
    b'{"success": true, "campaign_id": {"id": 25696}}',
    b'{"success": true, "campaign_id": 25696',
    b'{"success": true, "campaign_id": 25696}{}',
    b'[{"success": true, "campaign_id": 25696}]',
    b'"{\\"success\\": true, \\"campaign_id\\": 25696}"',
    b'{"success": true, "campaign_id": ' + b"9" * 5000 + b"}",
    b'{"data": {"success": true, "campaign_id": 25696}}',
    b"\xff\xfe{",
    b'{"success": true, "campaign_id": "\xff"}',
    b"[" * 100_000,
    b'{"a":' * 100_000,
]


@pytest.mark.parametrize("endpoint", WITH_ID, ids=named)
@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_any_other_body_with_2xx_proves_nothing(endpoint: Endpoint, status: int) -> None:
    for body in NOT_ACCEPTED:
        outcome = read(endpoint, status, body)
        assert isinstance(outcome, Unknown), body[:60]
        assert outcome.status == status
        assert f"HTTP {status}" in outcome.reason


@pytest.mark.parametrize("body", [b"", b"{}", b'{"success": true}'])
def test_a_delete_is_accepted_by_its_status(body: bytes) -> None:
    assert read(DELETE, 200, body) == Accepted()
    assert read(DELETE, 204, body) == Accepted()


@pytest.mark.parametrize("body", [b"gone", b"<html><body>Welcome</body></html>"])
def test_a_delete_that_something_else_answers_is_not_accepted(body: bytes) -> None:
    assert isinstance(read(DELETE, 200, body), Unknown)


BAD_REQUEST = b'{"message": "Bad Request"}'


@pytest.mark.parametrize("endpoint", ALL, ids=named)
def test_400_is_a_refusal(endpoint: Endpoint) -> None:
    assert read(endpoint, 400, BAD_REQUEST) == Rejected("HTTP 400 Bad Request", 400)


def test_400_after_a_create_of_unknown_effect_may_mean_that_the_title_is_taken() -> None:
    for repeats in (1, 5):
        outcome = read(CREATE, 400, BAD_REQUEST, repeats=repeats)
        assert isinstance(outcome, Unknown)
        assert outcome.status == 400
    for endpoint in (LAUNCH, LAUNCH_V1, DELETE):
        assert isinstance(read(endpoint, 400, BAD_REQUEST, repeats=1), Rejected)


@pytest.mark.parametrize("endpoint", ALL, ids=named)
@pytest.mark.parametrize("repeats", [0, 1])
def test_statuses_that_mean_the_same_everywhere(endpoint: Endpoint, repeats: int) -> None:
    ok = b'{"success": true, "campaign_id": 25696}'
    assert isinstance(read(endpoint, 401, b'{"message": "Unauthorized"}', repeats=repeats), Denied)
    assert read(endpoint, 429, b"", repeats=repeats) == Throttled(429)
    assert read(endpoint, 429, ok, repeats=repeats, retry_after="7") == Throttled(429, "7")
    date = "Wed, 01 Apr 2026 06:00:07 GMT"
    assert read(endpoint, 429, b"", repeats=repeats, retry_after=date) == Throttled(429, date)
    for status in (404, 405, 410, 413, 415, 422, 451):
        assert read(endpoint, status, ok, repeats=repeats) == Rejected(f"HTTP {status}", status)
    for status in (300, 301, 302, 303, 304, 307, 308, 408, 500, 501, 502, 503, 504, 520, 599, 100, 600):
        outcome = read(endpoint, status, ok, repeats=repeats)
        assert isinstance(outcome, Unknown)
        assert outcome.status == status
    outcome = read(endpoint, 302, b"", repeats=repeats, location="https://elsewhere.example.com/?token=t0k")
    assert isinstance(outcome, Unknown)
    assert "base_url" in outcome.reason
    assert "t0k" not in outcome.reason


def test_403_is_throttling_on_statistics_only() -> None:
    assert read(STATISTICS, 403, b"", retry_after="7") == Throttled(403, "7")
    for endpoint in (CREATE, LAUNCH, LAUNCH_V1, DELETE):
        outcome = read(endpoint, 403, b"")
        assert isinstance(outcome, Denied)
        assert outcome.status == 403


@pytest.mark.parametrize("endpoint", ALL, ids=named)
@pytest.mark.parametrize(
    "body",
    [
        b'{"message": "SERVICE:-"}',
        b'{"error": "SERVICE:-"}',
        b'{"message": "SERVICE:- "}',
        b'{"message": "Failed Dependency"}',
        b'{"message": "the SERVICE:-Campaign not found"}',
        b'{"message": ""}',
        b'{"message": null}',
        b'{"message": {"text": "SERVICE:-Campaign not found"}}',
        b'{"message": ["SERVICE:-Campaign not found"]}',
        b'"SERVICE:-Campaign not found"',
        b"SERVICE:-Campaign not found",
        b"{}",
        b"",
        b"<html>",
    ],
)
def test_424_without_a_text_is_of_unknown_effect(endpoint: Endpoint, body: bytes) -> None:
    assert read(endpoint, 424, body) == Unknown("HTTP 424 failed dependency", 424)


@pytest.mark.parametrize("endpoint", ALL, ids=named)
@pytest.mark.parametrize("envelope", ["message", "error"])
@pytest.mark.parametrize("text", ["Campaign not found", " Campaign not found "])
def test_424_with_a_text_is_a_refusal(endpoint: Endpoint, envelope: str, text: str) -> None:
    body = orjson.dumps({envelope: f"SERVICE:-{text}"})
    assert read(endpoint, 424, body) == Rejected("HTTP 424 Campaign not found", 424)


def test_a_long_text_of_the_vendor_is_cut() -> None:
    outcome = read(LAUNCH, 424, orjson.dumps({"message": "SERVICE:-" + "x" * 10_000}))
    assert isinstance(outcome, Rejected)
    assert len(outcome.reason) < 150


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.just("SERVICE:-x"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["success", "campaign_id", "message", "error"]), inner, max_size=4)
    ),
    max_leaves=8,
)
bodies = st.one_of(
    st.binary(max_size=80),
    json_values.map(lambda value: json.dumps(value).encode()),
)


@given(
    endpoint=st.sampled_from(ALL),
    status=st.integers(0, 999),
    body=bodies,
    repeats=st.integers(0, 3),
    headers=st.dictionaries(st.sampled_from(["retry-after", "location"]), st.text(max_size=10)),
)
@example(LAUNCH, 200, b'{"success": true, "campaign_id": 1e400}', 0, {})
@example(LAUNCH, 200, b'{"success": true, "campaign_id": "\\ud800"}', 0, {})
def test_reading_never_raises_and_accepts_documented_bodies_only(
    endpoint: Endpoint, status: int, body: bytes, repeats: int, headers: dict[str, str]
) -> None:
    outcome = INSIDER.read(Step(endpoint), Reply(status, headers, body), repeats=repeats)
    if isinstance(outcome, Accepted):
        assert 200 <= status < 300
        if endpoint is STATISTICS:
            assert isinstance(orjson.loads(body), dict)
        elif endpoint is not DELETE:
            said: Any = orjson.loads(body)
            assert said["success"] is True
            assert str(said["campaign_id"]) == outcome.ref
            assert outcome.ref.isdigit()
    if isinstance(outcome, Throttled):
        assert status == 429 or (status == 403 and endpoint is STATISTICS)
    if isinstance(outcome, Denied):
        assert status in (401, 403)
    if isinstance(outcome, Rejected):
        assert 400 <= status < 500
    if 500 <= status < 600 or status == 408:
        assert isinstance(outcome, Unknown)


# Bodies

BODY: dict[str, object] = {
    "title": "Spring Sale is live in Łódź",
    "description": "Up to 50% off selected items",
    "image": "https://example.com/icon-192.png",
    "link": "https://example.com/sale?store=0007",
    "ttl": 86_400.0,
}
TARGET = {"attribute": "c_store_id", "values": ["0007"]}


def wire(endpoint: Endpoint, table: str, body: dict[str, object], account: Account = ACCOUNT) -> Any:
    return orjson.loads(INSIDER.step(endpoint, table, body, account, name=NAME).body)


def test_a_launch_as_the_vendors_page_has_it() -> None:
    body = {**BODY, "include_unengaged": True, "language": "en_US", "target": TARGET}
    assert wire(LAUNCH, "launch", body) == {
        "partner_id": "100000001",
        "title": "Spring Sale is live in Łódź",
        "description": "Up to 50% off selected items",
        "image": "https://example.com/icon-192.png",
        "link": "https://example.com/sale?store=0007",
        "ttl": "86400",
        # Both spellings that the page uses.
        "include_unengaged": True,
        "include_unengage": True,
        "language": "en_US",
        "target": {"attribute": "c_store_id", "values": ["0007"]},
    }


@pytest.mark.parametrize("body", [BODY, {**BODY, "include_unengaged": False}], ids=["absent", "false"])
def test_unengaged_users_are_not_spoken_of_unless_wanted(body: dict[str, object]) -> None:
    assert not {"include_unengaged", "include_unengage"} & set(wire(LAUNCH, "launch", body))


@pytest.mark.parametrize(("ttl_s", "text"), [(1.0, "1"), (90.0, "90"), (864_000.0, "864000"), (90.9, "90")])
def test_ttl_is_a_text_of_whole_seconds(ttl_s: float, text: str) -> None:
    assert wire(LAUNCH, "launch", {**BODY, "ttl": ttl_s})["ttl"] == text


def test_partner_id_is_a_text_whatever_it_looks_like() -> None:
    account = Account("x", "insider", "https://x", {"partner_id": "0012"}, {})
    assert wire(CREATE, "create", {"title": "t", "language": "en_GB"}, account)["partner_id"] == "0012"


@pytest.mark.parametrize("is_all", [True, False])
def test_a_create_as_the_vendors_page_has_it(is_all: bool) -> None:
    body = {"title": "Title of campaign", "language": "en_GB", "is_all": is_all}
    assert wire(CREATE, "create", body) == {"partner_id": "100000001", **body}


def test_an_existing_campaign_is_in_the_path_and_not_in_the_body() -> None:
    step = INSIDER.step(LAUNCH, "launch", {**BODY, "campaign_id": 25696}, ACCOUNT, name=NAME)
    assert "campaign_id" not in orjson.loads(step.body)
    call = INSIDER.call(step, ACCOUNT, {}, repeats=0)
    assert call.url == "https://web-push.api.useinsider.com/v2/single/25696"
    assert call.body == step.body
    # The campaign of the job file, not one that was made before.
    assert INSIDER.call(with_ref(step, "7"), ACCOUNT, {}, repeats=0).url.endswith("/v2/single/25696")


@pytest.mark.parametrize(
    ("endpoint", "path"),
    [
        (CREATE, "/v1/single"),
        (LAUNCH, "/v2/single/7"),
        (LAUNCH_V1, "/v1/single/7"),
        (DELETE, "/v1/single/7"),
    ],
)
def test_the_created_campaign_is_in_the_path(endpoint: Endpoint, path: str) -> None:
    step = INSIDER.step(endpoint, "launch", BODY, ACCOUNT, name=NAME)
    headers = INSIDER.headers(ACCOUNT)
    call = INSIDER.call(with_ref(step, "7"), ACCOUNT, headers, repeats=0)
    assert call.url == ACCOUNT.base_url + path
    assert (call.endpoint, call.headers) == (endpoint, headers)
    assert "t0k" not in repr(call)


def test_headers() -> None:
    assert INSIDER.headers(ACCOUNT) == {"Authorization": "Bearer t0k", "Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("title", "repeats", "sent"),
    [
        ("Spring sale 2026", 0, "Spring sale 2026"),
        ("Spring sale 2026", 1, "Spring sale 2026 (2)"),
        ("Spring sale 2026", 2, "Spring sale 2026 (3)"),
        ("x" * 100, 0, "x" * 100),
        ("x" * 100, 1, "x" * 96 + " (2)"),
        ("x" * 97, 9, "x" * 95 + " (10)"),
        ("春" * 100, 1, "春" * 96 + " (2)"),
    ],
)
def test_a_create_after_one_of_unknown_effect_has_a_title_of_its_own(title: str, repeats: int, sent: str) -> None:
    step = INSIDER.step(CREATE, "create", {"title": title, "language": "en_GB", "is_all": False}, ACCOUNT, name=NAME)
    body = orjson.loads(INSIDER.call(step, ACCOUNT, {}, repeats=repeats).body)
    assert body == {"partner_id": "100000001", "title": sent, "language": "en_GB", "is_all": False}
    assert len(body["title"]) <= 100


@pytest.mark.parametrize("endpoint", [LAUNCH, LAUNCH_V1], ids=named)
def test_a_launch_is_never_changed(endpoint: Endpoint) -> None:
    step = INSIDER.step(endpoint, "launch", BODY, ACCOUNT, name=NAME)
    assert INSIDER.call(with_ref(step, "7"), ACCOUNT, {}, repeats=3).body == step.body


# What the tables say together


def faults(tables: dict[str, dict[str, object]], *, has_audience: bool = True) -> dict[str, str]:
    return {fault.path: fault.text for fault in INSIDER.review(tables, has_audience=has_audience, chunk=None)}


CREATE_TABLE: dict[str, object] = {"title": "t", "language": "en_GB"}
TO_TARGET: dict[str, object] = {**BODY, "target": TARGET}


@pytest.mark.parametrize(
    ("tables", "has_audience"),
    [
        ({"create": CREATE_TABLE, "launch": TO_TARGET}, True),
        ({"create": CREATE_TABLE, "launch": TO_TARGET}, False),
        ({"create": {**CREATE_TABLE, "is_all": False}, "launch": TO_TARGET}, True),
        ({"create": {**CREATE_TABLE, "is_all": True}, "launch": BODY}, False),
        # What is_all an existing campaign has is not known.
        ({"launch": {**BODY, "campaign_id": 25696}}, False),
        ({"launch": {**TO_TARGET, "campaign_id": 25696}}, True),
    ],
)
def test_tables_that_are_right_together(tables: dict[str, dict[str, object]], has_audience: bool) -> None:
    assert faults(tables, has_audience=has_audience) == {}


@pytest.mark.parametrize(
    ("tables", "has_audience", "paths"),
    [
        ({"create": CREATE_TABLE}, True, {"launch"}),
        ({}, True, {"launch"}),
        ({"launch": TO_TARGET}, True, {"launch"}),
        ({"create": CREATE_TABLE, "launch": {**TO_TARGET, "campaign_id": 1}}, True, {"launch.campaign_id"}),
        ({"create": CREATE_TABLE, "launch": BODY}, True, {"launch.target"}),
        ({"create": CREATE_TABLE, "launch": BODY}, False, {"launch.target"}),
        ({"create": {**CREATE_TABLE, "is_all": True}, "launch": TO_TARGET}, False, {"launch.target"}),
        ({"create": {**CREATE_TABLE, "is_all": True}, "launch": BODY}, True, {"create.is_all"}),
        (
            {"create": {**CREATE_TABLE, "is_all": True}, "launch": {**TO_TARGET, "campaign_id": 1}},
            True,
            {"create.is_all", "launch.target", "launch.campaign_id"},
        ),
        (
            {"create": {**CREATE_TABLE, "is_all": "${everybody}"}, "launch": BODY},
            True,
            {"launch.target"},
        ),
    ],
)
def test_everything_that_is_wrong_together_is_told(
    tables: dict[str, dict[str, object]],
    has_audience: bool,
    paths: set[str],
) -> None:
    assert set(faults(tables, has_audience=has_audience)) == paths


def test_a_targeted_launch_repeats_the_campaigns_language() -> None:
    full = INSIDER.complete({"create": CREATE_TABLE, "launch": TO_TARGET})
    assert full["launch"]["language"] == "en_GB"
    assert "language" not in TO_TARGET
    own = INSIDER.complete({"create": CREATE_TABLE, "launch": {**TO_TARGET, "language": "de_DE"}})
    assert own["launch"]["language"] == "de_DE"
    assert "language" not in INSIDER.complete({"create": CREATE_TABLE, "launch": BODY})["launch"]
    assert "language" not in INSIDER.complete({"launch": TO_TARGET})["launch"]


def test_the_calls_of_a_job() -> None:
    launch = (("launch", LAUNCH),)
    both = INSIDER.flow({"create": CREATE_TABLE, "launch": TO_TARGET})
    assert (both.prepare, both.steps) == ((("create", CREATE),), launch)
    assert "campaign_id" in both.hint
    alone = INSIDER.flow({"launch": TO_TARGET})
    assert (alone.prepare, alone.steps) == ((), launch)
    per_row = {"create": {**CREATE_TABLE, "per": "row"}, "launch": TO_TARGET}
    assert INSIDER.flow(per_row) == Flow(prepare=(), steps=(("create", CREATE), *launch), way="a campaign per row")


@pytest.mark.parametrize(
    ("change", "paths"),
    [
        ({}, []),
        ({"description": "x" * 255}, []),
        ({"description": "x" * 30, "banner": "https://example.com/b.png"}, []),
        ({"description": "x" * 31, "banner": "https://example.com/b.png"}, ["launch.description"]),
        ({"target": {"attribute": "c_x", "values": ["a", 1, 1.5, True]}}, []),
        ({"target": {"attribute": "c_x", "values": ["a", ""]}}, ["launch.target.values"]),
        ({"target": {"attribute": "c_x", "values": [" ", " "]}}, ["launch.target.values"]),
        ({"target": {"attribute": "c_x", "values": [["a"]]}}, ["launch.target.values"]),
        ({"target": {"attribute": "c_x", "values": [{"a": 1}]}}, ["launch.target.values"]),
        ({"target": {"attribute": "c_x", "values": [None]}}, ["launch.target.values"]),
        (
            {"description": "x" * 31, "banner": "https://example.com/b.png", "target": {"values": [None]}},
            ["launch.description", "launch.target.values"],
        ),
        # Wrong types are the fields' own faults, told elsewhere.
        ({"description": 7, "banner": "https://example.com/b.png", "target": "x"}, []),
    ],
)
def test_rules_across_the_fields_of_a_launch(change: dict[str, object], paths: list[str]) -> None:
    assert [fault.path for fault in INSIDER.check("launch", {**BODY, **change}, now=0.0)] == paths
    assert INSIDER.check("create", {**BODY, **change}, now=0.0) == []
