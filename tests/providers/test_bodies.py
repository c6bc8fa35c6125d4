"""What leaves for a vendor, whoever it is: addresses, headers and secrets; what a reply's texts never reach; Insider's
calls beyond the first launch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulksend.fields import read_table
from bulksend.model import Accepted, Account, Call, Endpoint, Found, Probe, Reply, Secret, Step
from bulksend.providers import PROVIDERS, Provider
from tests.providers.test_conformance import (
    KEYS,
    LIVE_CREATE,
    NAME,
    PROBES,
    SECRET,
    STEPS,
    account_of,
    endpoint,
    every_step,
    named,
    provider_of,
    read,
)

INSIDER = PROVIDERS["insider"]
BODIES: Mapping[str, dict[str, object]] = {
    "insider.create": {"title": "t", "language": "en_GB"},
    "insider.launch": {"title": "t", "description": "d", "ttl": 60.0},
    "insider.launch_v1": {"title": "t", "description": "d", "ttl": 60.0},
    "insider.statistics": {"start_date": "2026-04-01", "end_date": "2026-04-02"},
    "usercom.create": {"name": "n", "segment": 1, "messages": [{"title": "t", "body": "b"}], "eta": 0.0, "ttl": 60.0},
    "usercom.update": {"eta": 0.0},
    "usercom.list": {"cursor": "cD0x+/=&#"},
    "stream.campaign.create": {"sender_id": "anna", "message_template": {"text": "Hi {{ receiver.name }}"}},
    "stream.campaign.get": {"limit": 1, "next": "a/b?c=d&e#f"},
    "stream.campaign.start": {"scheduled_for": 0.0},
    "stream.campaign.query": {"filter": {"status": "draft"}, "sort": [{"field": "id", "direction": -1}]},
    "stream.segment.create": {"type": "user", "id": "s", "all_users": True},
    "stream.targets.add": {"target_ids": ["anna"]},
    "stream.targets.exists": {"target_id": "anna/b?c#d {ref}"},
    "batch.create": {"name": "abc", "live": False, "push_time": 0.0, "time_to_live": 60.0},
    "batch.update": {"live": True},
    "batch.list": {"from": 0, "limit": 100, "live": True, "from_api": False},
}
REFS = ["7", "a/b", "a?b=c", "a#b", "{ref}", "{0}", "{app}", "a b+c", "a%2Fb", "café", "春", "😀", "a&b=c", "x" * 255]


def with_id(step: Step, ref: str | None) -> Step:
    """Return the step as the sender has it once the step before gave its id."""
    return step if step.ref is not None else msgspec.structs.replace(step, ref=ref)


def call_of(one: Endpoint, ref: str | None, account: Account, *, given: str | None = None) -> Call:
    """Make a call by itself: its id is known beforehand (`ref`), or is what the step before gave (`given`)."""
    provider = PROVIDERS[one.name.partition(".")[0]]
    body = BODIES.get(one.name, {})
    if one.name == "insider.statistics":
        ref = "overall-metrics"
    step = provider.request(one, body, account, ref=ref)
    return provider.call(with_id(step, given), account, provider.headers(account), repeats=0)


def parts_of(url: str, account: Account) -> tuple[list[str], dict[str, str]]:
    """Return the parts of an address's path and its query, as the vendor reads them."""
    split = urlsplit(url)
    assert url.startswith(f"{account.base_url}/")
    assert f"{split.scheme}://{split.netloc}" == account.base_url
    assert split.fragment == ""
    assert url.isascii()
    assert not set(url) & set(' "<>{}|\\^`')
    return [unquote(part) for part in split.path.split("/")], dict(parse_qsl(split.query, strict_parsing=True))


def expected_path(one: Endpoint, ref: str) -> list[str]:
    values = {"{ref}": ref, "{app}": "shop1", "{target}": "anna/b?c#d {ref}"}
    return [values.get(part, part) for part in one.path.split("/")]


with_ref = [step for step in STEPS if "{ref}" in step.endpoint.path and step.endpoint.name != "insider.statistics"]


@pytest.mark.parametrize("step", with_ref, ids=named)
@pytest.mark.parametrize("ref", REFS, ids=lambda ref: repr(ref[:12]))
def test_an_id_is_one_part_of_the_path_whatever_it_holds(step: Step, ref: str) -> None:
    account = account_of(provider_of(step))
    for call in (call_of(step.endpoint, ref, account), call_of(step.endpoint, None, account, given=ref)):
        assert parts_of(call.url, account)[0] == expected_path(step.endpoint, ref)
    # The id that is known beforehand is the one that counts.
    both = call_of(step.endpoint, "mine", account, given="theirs")
    assert parts_of(both.url, account)[0] == expected_path(step.endpoint, "mine")


@given(step=st.sampled_from(with_ref), ref=st.text(min_size=1, max_size=30))
def test_any_id_at_all_is_one_part_of_the_path(step: Step, ref: str) -> None:
    account = account_of(provider_of(step))
    assert parts_of(call_of(step.endpoint, ref, account).url, account)[0] == expected_path(step.endpoint, ref)


@every_step
def test_every_call_goes_to_the_accounts_own_address(step: Step) -> None:
    provider = provider_of(step)
    for base_url in ("http://127.0.0.1:8900", "https://proxy.example.com"):
        account = account_of(provider, base_url)
        call = call_of(step.endpoint, "7", account)
        query = parts_of(call.url, account)[1]
        assert query.pop("api_key", None) == ("shop1" if provider.name == "stream" else None)
        body = BODIES.get(step.endpoint.name, {})
        asked = {} if step.endpoint.name == "stream.targets.exists" or not step.endpoint.reads else body
        assert query == {name: json.dumps(value).strip('"') for name, value in asked.items()}


@every_step
def test_a_secret_is_in_the_headers_and_nowhere_else(step: Step) -> None:
    provider = provider_of(step)
    account = account_of(provider)
    headers = provider.headers(account)
    sent = provider.request(step.endpoint, BODIES.get(step.endpoint.name, {}), account, ref="top-metrics")
    call = provider.call(sent, account, headers, repeats=1)
    assert call.headers == headers
    token = headers.get("X-Authorization") or headers["Authorization"].rpartition(" ")[2]
    for shown in (call.url, call.body.decode(), repr(call), str(call), repr(sent), repr(account), account.identity):
        assert SECRET not in shown
        assert token not in shown
    assert provider.headers(account) == headers
    other = Account("o", provider.name, account.base_url, account.ids, dict.fromkeys(account.secrets, Secret("o" * 40)))
    assert provider.headers(other) != headers


def test_the_headers_of_each_vendor() -> None:
    sent = {name: dict(provider.headers(account_of(provider))) for name, provider in PROVIDERS.items()}
    json_body = {"Content-Type": "application/json"}
    assert sent["insider"] == {"Authorization": f"Bearer {SECRET}", **json_body}
    assert sent["usercom"] == {"Authorization": f"Token {SECRET}", "Accept": "*/*; version=2", **json_body}
    assert sent["batch"] == {"X-Authorization": SECRET, **json_body}
    # Without "Bearer"; the token itself is checked in test_stream.
    assert {**sent["stream"], "Authorization": ""} == {"Authorization": "", "stream-auth-type": "jwt", **json_body}
    assert sent["stream"]["Authorization"].count(".") == 2


# What a reply says of a row goes no further

CANARY = "anna.berg@example.com"
STATUSES = [200, 201, 204, 300, 302, 400, 401, 403, 404, 408, 409, 413, 422, 424, 429, 500, 502, 503, 504, 520]
ERROR_BODIES: list[object] = [
    {"code": 31, "type": CANARY, "message": CANARY},
    {
        "code": CANARY,
        "message": CANARY,
        "StatusCode": 400,
        "duration": CANARY,
        "more_info": CANARY,
        "details": [CANARY],
    },
    {"code": 4, "message": CANARY, "exception_fields": {CANARY: CANARY}},
    {"detail": CANARY},
    {"name": [CANARY], "segment": [f'Invalid pk "{CANARY}"'], CANARY: [CANARY]},
    {"errors": {CANARY: [CANARY]}, "status_code": 422},
    {"message": CANARY},
    {"message": f"not a SERVICE:-{CANARY}"},
    {"error": {"message": CANARY, "SERVICE:-": CANARY}},
    {"campaign_id": CANARY, "campaign_token": CANARY, "id": [CANARY], "results": CANARY, "next": CANARY},
    {"campaign": {"name": CANARY, "status": CANARY}, "segment": {"name": CANARY}, "duration": CANARY},
    [CANARY],
    CANARY,
]


@every_step
@pytest.mark.parametrize("status", STATUSES)
def test_no_text_of_an_error_is_passed_on(step: Step, status: int) -> None:
    pages = [f"<html><title>{CANARY}</title>{CANARY}</html>".encode(), CANARY.encode()]
    for body in [*(orjson.dumps(one) for one in ERROR_BODIES), *pages]:
        for repeats in (0, 1):
            assert CANARY not in repr(read(step, status, body, repeats, location=CANARY, server=CANARY))


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("which", PROBES, ids=lambda which: which[1].step.endpoint.name)
def test_no_text_of_a_lookup_is_passed_on(which: tuple[Provider, Probe], status: int) -> None:
    provider, probe = which
    for body in ERROR_BODIES:
        shown = repr(provider.read_probe(probe, Reply(status, {"location": CANARY}, orjson.dumps(body))))
        assert CANARY not in shown


said = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 99) | st.just(CANARY),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*KEYS, CANARY]), inner, max_size=4),
    max_leaves=10,
)


@given(step=st.sampled_from(STEPS), status=st.integers(300, 599), body=said, repeats=st.integers(0, 2))
def test_no_text_of_any_error_at_all_is_passed_on(step: Step, status: int, body: object, repeats: int) -> None:
    assert CANARY not in repr(read(step, status, orjson.dumps(body), repeats))


@given(which=st.sampled_from(PROBES), status=st.integers(100, 599), body=said)
def test_no_text_of_any_lookup_but_an_id_is_passed_on(which: tuple[Provider, Probe], status: int, body: object) -> None:
    provider, probe = which
    verdict = provider.read_probe(probe, Reply(status, {}, orjson.dumps(body)))
    assert isinstance(verdict, Found) or CANARY not in repr(verdict)


# Insider's calls beyond the first launch

ACCOUNT = account_of(INSIDER)


def wire(name: str, body: dict[str, object], ref: str | None = None) -> Any:
    return orjson.loads(INSIDER.request(endpoint(name), body, ACCOUNT, ref=ref).body)


def test_a_delete_has_a_body_with_the_partner() -> None:
    call = call_of(endpoint("insider.delete"), "25696", ACCOUNT)
    assert (call.endpoint.method, call.url) == ("DELETE", f"{ACCOUNT.base_url}/v1/single/25696")
    assert orjson.loads(call.body) == {"partner_id": "shop1"}


@pytest.mark.parametrize("route", ["overall-metrics", "campaign-metrics", "top-metrics"])
def test_the_statistics_are_three_routes_of_one_limit(route: str) -> None:
    body: dict[str, object] = {"start_date": "2026-04-01", "end_date": "2026-04-02", "page": 1, "per_page": 20}
    if route == "campaign-metrics":
        body["campaign_id"] = 1025696
    step = INSIDER.request(endpoint("insider.statistics"), body, ACCOUNT, ref=route)
    call = INSIDER.call(step, ACCOUNT, {}, repeats=0)
    assert call.url == f"{ACCOUNT.base_url}/v1/statistics/{route}"
    assert orjson.loads(call.body) == {"partner_id": "shop1", **body}


def test_the_metrics_of_a_campaign_need_its_id() -> None:
    with pytest.raises(ValueError, match="campaign_id is required"):
        INSIDER.request(endpoint("insider.statistics"), {}, ACCOUNT, ref="campaign-metrics")


@pytest.mark.parametrize("ref", [None, "", "25696", "../single/25696", "Overall-metrics"])
def test_the_statistics_have_no_other_route(ref: str | None) -> None:
    with pytest.raises(ValueError, match="overall-metrics, campaign-metrics, top-metrics"):
        INSIDER.request(endpoint("insider.statistics"), {}, ACCOUNT, ref=ref)


@pytest.mark.parametrize(
    ("change", "path", "words"),
    [
        ({"start_date": "01.04.2026"}, "s.start_date", "2026-04-01"),
        ({"end_date": "2026-4-1"}, "s.end_date", "2026-04-01"),
        ({"per_page": 21}, "s.per_page", "at most 20"),
        ({"per_page": 0}, "s.per_page", "at least 1"),
        ({"page": 0}, "s.page", "at least 1"),
        ({"campaign_id": "x"}, "s.campaign_id", "whole number"),
    ],
)
def test_what_the_statistics_may_be_asked_for(change: dict[str, object], path: str, words: str) -> None:
    fields = INSIDER.bodies["insider.statistics"]
    good: dict[str, object] = {"start_date": "2026-04-01", "end_date": "2026-04-02", "page": 1, "per_page": 20}
    assert read_table(fields, good, "s")[1] == []
    (fault,) = read_table(fields, good | change, "s")[1]
    assert (fault.path, words in fault.text) == (path, True)
    assert {one.path for one in read_table(fields, {}, "s")[1]} == {"s.start_date", "s.end_date"}


def test_launch_v1_is_the_same_body_on_another_route() -> None:
    body: dict[str, object] = {"title": "t", "description": "d", "ttl": 60.0}
    assert wire("insider.launch_v1", body) == wire("insider.launch", body)
    assert call_of(endpoint("insider.launch_v1"), "7", ACCOUNT).url.endswith("/v1/single/7")


PER_ROW = {"per": "row", "language": "en_GB"}
LAUNCH = {"target": {"attribute": "c_x", "values": ["y"]}}


def review(create: dict[str, object], launch: dict[str, object] | None = None) -> list[str]:
    tables = {"create": create, "launch": LAUNCH if launch is None else launch}
    return [fault.path for fault in INSIDER.review(tables, has_audience=True, chunk=None)]


@pytest.mark.parametrize(
    ("create", "paths"),
    [
        ({**PER_ROW, "title": "Sale in ${city}"}, []),
        ({**PER_ROW, "title": "${city}"}, []),
        ({**PER_ROW, "title": "Sale"}, ["create.title"]),
        ({**PER_ROW}, ["create.title"]),
        ({"per": "job", "title": "Sale", "language": "en_GB"}, []),
        ({"title": "Sale", "language": "en_GB"}, []),
    ],
)
def test_a_campaign_for_each_row_needs_a_title_of_its_own(create: dict[str, object], paths: list[str]) -> None:
    assert review(create) == paths


def test_a_campaign_for_each_row_is_made_and_launched_row_by_row() -> None:
    tables: dict[str, dict[str, object]] = {"create": {**PER_ROW, "title": "${city}"}, "launch": LAUNCH}
    flow = INSIDER.flow(tables)
    assert (flow.prepare, [one.name for _, one in flow.steps]) == ((), ["insider.create", "insider.launch"])
    # Said before the run: the create's 30/min bind it. Not for one send, nor for one campaign for all.
    assert [note.path for note in INSIDER.notes(tables, sends=500, chunk=None)] == ["create.per"]
    assert "30/min" in INSIDER.notes(tables, sends=500, chunk=None)[0].text
    assert not INSIDER.notes(tables, sends=1, chunk=None)
    assert not INSIDER.notes({**tables, "create": {"title": "t"}}, sends=500, chunk=None)
    # `per` is the client's own word.
    body: dict[str, object] = {**PER_ROW, "title": "Oslo"}
    step = INSIDER.step(endpoint("insider.create"), "create", body, ACCOUNT, name=NAME)
    assert orjson.loads(step.body) == {"partner_id": "shop1", "language": "en_GB", "title": "Oslo"}
    assert step.ref is None


def test_each_row_is_launched_under_the_id_that_its_own_create_gave() -> None:
    made = read(Step(endpoint("insider.create")), 201, b'{"success": true, "campaign_id": 25696}')
    assert made == Accepted("25696")
    step = INSIDER.step(endpoint("insider.launch"), "launch", {"title": "t", "ttl": 1.0}, ACCOUNT, name=NAME)
    assert step.ref is None
    assert INSIDER.call(with_id(step, made.ref), ACCOUNT, {}, repeats=0).url.endswith("/v2/single/25696")


def test_batch_names_the_live_create_itself() -> None:
    """A body that says live is a send, whoever asks for it."""
    batch = PROVIDERS["batch"]
    for live, made in ((True, LIVE_CREATE), (False, endpoint("batch.create"))):
        body: dict[str, object] = {"name": "abc", "live": live}
        assert batch.request(endpoint("batch.create"), body, account_of(batch), ref=None).endpoint is made
