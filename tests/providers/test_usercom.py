"""User.com's translator: a create is a send, found again by the mark in its name."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulksend.fields import Fault, read_table, unknown_fields
from bulksend.model import Accepted, Account, Found, Outcome, Probe, Rejected, Reply, Secret, Step, Unknown, Untold
from bulksend.providers import PROVIDERS, Flow, SendName

USERCOM = PROVIDERS["usercom"]
NAME = SendName("spring-sale", "0007")
CREATE, UPDATE, SEND, LIST, GET, SEGMENTS, SEGMENT_USERS = (
    USERCOM.endpoints[f"usercom.{name}"]
    for name in ("create", "update", "send", "list", "get", "segments", "segment_users")
)
ACCOUNT = Account("default", "usercom", "https://shop.user.com", {"app": "shop"}, {"token": Secret("t0k")})
MESSAGE: dict[str, object] = {
    "title": "Spring Sale is Live!",
    "body": "Up to 50% off selected items. Shop now!",
    "url": "https://yoursite.com/sale",
    "require_interaction": True,
    "doughnut_title": "Shop Now",
    "doughnut_url": "https://yoursite.com/sale",
    "coffee_title": "Learn More",
    "coffee_url": "https://yoursite.com/about-sale",
    "icon": "https://yoursite.com/icon-192.png",
    "badge": "https://yoursite.com/badge-512.png",
}
BODY: dict[str, object] = {
    "name": "Spring Sale Push",
    "eta": "2026-04-01T12:00:00Z",
    "ttl": "1 day",
    "messages": [MESSAGE],
    "segment": 1,
}
NOON = datetime(2026, 4, 1, 12, tzinfo=UTC).timestamp()


def typed(change: dict[str, object], name: str = "usercom.create") -> tuple[dict[str, object], list[Fault]]:
    fields = USERCOM.bodies[name]
    body = {key: value for key, value in {**BODY, **change}.items() if value is not None}
    values, faults = read_table(fields, body, "launch")
    return values, unknown_fields(fields, body, "launch") + faults


def wire(change: dict[str, object], name: SendName = NAME) -> Any:
    body, faults = typed(change)
    assert not faults
    return orjson.loads(USERCOM.step(CREATE, "launch", body, ACCOUNT, name=name).body)


# Bodies


def test_a_create_as_the_vendors_page_has_it() -> None:
    sent = wire({})
    assert sent.pop("name").startswith("Spring Sale Push [")
    assert sent == {"eta": "2026-04-01T12:00:00Z", "ttl": 86400, "messages": [MESSAGE], "segment": 1}
    # In the page's own types: an integer of seconds, a number for the segment.
    assert (type(sent["ttl"]), type(sent["segment"])) == (int, int)


def test_what_is_not_said_is_not_sent() -> None:
    sent = wire({"eta": None, "ttl": None, "messages": [{"title": "t", "body": "b"}]})
    assert set(sent) == {"name", "messages", "segment"}
    assert sent["messages"] == [{"title": "t", "body": "b"}]


@pytest.mark.parametrize(
    ("eta", "sent"),
    [
        ("2026-04-01T12:00:00Z", "2026-04-01T12:00:00Z"),
        ("2026-04-01T14:00:00+02:00", "2026-04-01T12:00:00Z"),
        ("2026-03-31T23:30:00-05:00", "2026-04-01T04:30:00Z"),
        ("2026-04-01 12:00:00.945+00:00", "2026-04-01T12:00:00Z"),
        (datetime(2026, 4, 1, 12, tzinfo=UTC), "2026-04-01T12:00:00Z"),
    ],
)
def test_an_eta_is_sent_as_utc(eta: object, sent: str) -> None:
    assert wire({"eta": eta})["eta"] == sent


@pytest.mark.parametrize(
    ("ttl", "seconds"), [("1 s", 1), ("90 minutes", 5400), ("3 days", 259_200), ("28 days", 2_419_200)]
)
def test_a_ttl_in_words_is_sent_as_seconds(ttl: str, seconds: int) -> None:
    assert wire({"ttl": ttl})["ttl"] == seconds


def test_several_messages_are_variants() -> None:
    second = {"title": "Sale", "body": "Now"}
    assert wire({"messages": [MESSAGE, second]})["messages"] == [MESSAGE, second]


names = st.builds(SendName, st.text(max_size=10), st.text(max_size=10))


@given(names, names)
def test_the_mark_is_of_this_send_alone_and_the_same_in_every_run(one: SendName, other: SendName) -> None:
    marked = wire({}, one)["name"]
    assert (marked == wire({}, other)["name"]) == (one == other)
    mark = marked.removeprefix("Spring Sale Push [").removesuffix("]")
    assert len(mark) == 12
    probe = USERCOM.probe(CREATE, ACCOUNT, name=one, ref=None)
    assert probe is not None
    assert probe.wanted == mark


def test_the_mark_differs_between_accounts() -> None:
    other = Account("other", "usercom", "https://other.user.com", {"app": "other"}, {})
    one, two = (USERCOM.probe(CREATE, account, name=NAME, ref=None) for account in (ACCOUNT, other))
    assert one is not None
    assert two is not None
    assert one.wanted != two.wanted
    # Known for good: a ledger of today is looked up by the code of tomorrow.
    assert one.wanted == "cdad6485c841"


def test_an_update_changes_what_it_names_alone() -> None:
    step = USERCOM.request(UPDATE, {"eta": NOON}, ACCOUNT, ref="3")
    call = USERCOM.call(step, ACCOUNT, {}, repeats=0)
    assert (call.endpoint.method, call.url) == ("PATCH", "https://shop.user.com/api/public/webpush-campaign/3/")
    assert orjson.loads(call.body) == {"eta": "2026-04-01T12:00:00Z"}
    assert read_table(USERCOM.bodies["usercom.update"], {}, "b") == ({}, [])


def test_pages_are_asked_for_by_their_cursor() -> None:
    step = USERCOM.request(SEGMENT_USERS, {"cursor": "cD0yMDI2+/="}, ACCOUNT, ref="1033")
    call = USERCOM.call(step, ACCOUNT, {}, repeats=0)
    assert call.url == "https://shop.user.com/api/public/segments/1033/users/?cursor=cD0yMDI2%2B%2F%3D"
    assert call.body == b""
    first = USERCOM.call(USERCOM.request(SEGMENTS, {}, ACCOUNT, ref=None), ACCOUNT, {}, repeats=0)
    assert first.url == "https://shop.user.com/api/public/segments/"


# What is wrong before the first call


@pytest.mark.parametrize(
    ("change", "path", "words"),
    [
        ({"name": None}, "launch.name", "required"),
        ({"name": " "}, "launch.name", "blank"),
        ({"segment": None}, "launch.segment", "required"),
        ({"segment": "Active"}, "launch.segment", "whole number"),
        ({"segment": "1033"}, "launch.segment", "whole number"),
        ({"segment": 1.5}, "launch.segment", "whole number"),
        ({"segment": True}, "launch.segment", "whole number"),
        ({"segment": 0}, "launch.segment", "at least 1"),
        ({"segment": -3}, "launch.segment", "at least 1"),
        ({"messages": None}, "launch.messages", "required"),
        ({"messages": []}, "launch.messages", "empty"),
        ({"messages": MESSAGE}, "launch.messages", "list"),
        ({"messages": ["Hello"]}, "launch.messages[1]", "table"),
        ({"messages": [{"body": "b"}]}, "launch.messages[1].title", "required"),
        ({"messages": [MESSAGE, {"title": "t"}]}, "launch.messages[2].body", "required"),
        ({"messages": [{**MESSAGE, "title": ""}]}, "launch.messages[1].title", "blank"),
        ({"messages": [{**MESSAGE, "body": "\t"}]}, "launch.messages[1].body", "blank"),
        *(
            ({"messages": [{**MESSAGE, name: "http://yoursite.com/x"}]}, f"launch.messages[1].{name}", "https://")
            for name in ("url", "icon", "badge", "doughnut_url", "coffee_url")
        ),
        ({"messages": [{**MESSAGE, "require_interaction": "yes"}]}, "launch.messages[1].require_interaction", "true"),
        ({"messages": [{**MESSAGE, "action_button1_url": "x"}]}, "launch.messages[1].action_button1_url", "unknown"),
        ({"eta": "2026-04-01T12:00:00"}, "launch.eta", "time zone"),
        ({"eta": "tomorrow"}, "launch.eta", "date and time"),
        ({"eta": 1775044800}, "launch.eta", "date and time"),
        ({"eta": "9999-12-31T23:59:59-01:00"}, "launch.eta", "past what a date can be"),
        ({"ttl": "0s"}, "launch.ttl", "at least 1 s"),
        ({"ttl": "29 days"}, "launch.ttl", "longer than 28 days"),
        ({"ttl": 86400}, "launch.ttl", "in words"),
        ({"category": 7}, "launch.category", "unknown"),
        ({"id": 7}, "launch.id", "unknown"),
    ],
)
def test_what_the_page_does_not_allow_is_named(change: dict[str, object], path: str, words: str) -> None:
    _, faults = typed(change)
    assert [fault.path for fault in faults] == [path]
    assert words in faults[0].text


def test_a_column_that_holds_the_segment_as_text_is_converted() -> None:
    fields = USERCOM.tables["launch"]
    assert read_table(fields, {**BODY, "segment": "1033"}, "launch", loose=["segment"])[0]["segment"] == 1033
    faults = read_table(fields, {**BODY, "segment": "Active"}, "launch", loose=["segment"])[1]
    assert [fault.path for fault in faults] == ["launch.segment"]


@pytest.mark.parametrize(("now", "paths"), [(NOON - 1, []), (NOON, []), (NOON + 1, ["launch.eta"])])
def test_a_past_eta_is_refused_and_once_was_right(now: float, paths: list[str]) -> None:
    faults = USERCOM.check("launch", typed({})[0], now=now)
    assert [fault.path for fault in faults] == paths
    assert all(fault.late for fault in faults)
    assert not USERCOM.check("launch", typed({"eta": None})[0], now=now)


@pytest.mark.parametrize(("app", "right"), [("shop", True), ("my-shop1", True), ("", False), ("a.evil.com/", False)])
def test_the_app_is_a_subdomain(app: str, right: bool) -> None:
    assert (not read_table(USERCOM.account_ids, {"app": app}, "account")[1]) == right


def test_one_create_for_each_row() -> None:
    tables = {"launch": BODY}
    assert USERCOM.review(tables, has_audience=True, chunk=None) == []
    assert [fault.path for fault in USERCOM.review({}, has_audience=True, chunk=None)] == ["launch"]
    assert USERCOM.flow(tables) == Flow(prepare=(), steps=(("launch", CREATE),))
    assert USERCOM.segment_id(tables, ACCOUNT) is None
    full = USERCOM.complete(tables)
    assert full == tables
    assert full["launch"] is not BODY


# Replies


def read(step: Step, status: int, body: object, repeats: int = 0) -> Outcome:
    return USERCOM.read(step, Reply(status, {}, orjson.dumps(body)), repeats=repeats)


def test_a_create_is_accepted_by_its_number() -> None:
    made = {"id": 3, "name": "Spring Sale Push", "category": None, "eta": "2026-04-01T12:00:00Z", "ttl": 86400}
    for status in (200, 201):
        assert read(Step(CREATE), status, made) == Accepted("3")
    for wrong in (0, -1, 10**18, "3"):
        assert isinstance(read(Step(CREATE), 201, {**made, "id": wrong}), Unknown)


@pytest.mark.parametrize("repeats", [0, 1])
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"segment": ['Invalid pk "9" - object does not exist.']}, "HTTP 400, the vendor objects to: segment"),
        ({"name": ["x"], "segment": ["y"]}, "HTTP 400, the vendor objects to: name, segment"),
        ({"detail": "JSON parse error - line 1"}, "HTTP 400, the vendor objects to: detail"),
        ({"errors": {"x": "y"}}, "HTTP 400, the vendor objects to: errors"),
        ({"anna@example.com": ["x"]}, "HTTP 400"),
        ([], "HTTP 400"),
    ],
)
def test_a_400_names_the_fields_and_is_a_refusal(repeats: int, body: object, reason: str) -> None:
    assert read(Step(CREATE), 400, body, repeats) == Rejected(reason, 400)


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        (b"", Accepted()),
        (b" \n", Accepted()),
        (b"{}", Accepted()),
        (b'{"id": 3}', Accepted()),
        (b"<html>", Unknown("HTTP 200 without the documented body", 200)),
        (b"[]", Unknown("HTTP 200 without the documented body", 200)),
    ],
)
def test_a_send_is_accepted_by_its_status_unless_something_else_answers(body: bytes, outcome: Outcome) -> None:
    assert USERCOM.read(Step(SEND), Reply(200, {}, body), repeats=0) == outcome


# Lookups


def probe() -> Probe:
    found = USERCOM.probe(CREATE, ACCOUNT, name=NAME, ref=None)
    assert found is not None
    return found


MARK = f"[{probe().wanted}]"
NEXT = "https://shop.user.com/api/public/webpush-campaign/?cursor=cD0x"


def page(*results: object, following: object = None) -> dict[str, object]:
    return {"previous": None, "next": following, "count": 1, "results": list(results)}


def test_a_create_is_looked_for_by_its_mark() -> None:
    assert USERCOM.call(probe().step, ACCOUNT, {}, repeats=0).url.endswith("/api/public/webpush-campaign/")
    for one in (UPDATE, SEND, LIST, GET, SEGMENTS, SEGMENT_USERS):
        assert USERCOM.probe(one, ACCOUNT, name=NAME, ref="3") is None


@pytest.mark.parametrize(
    ("status", "body", "found"),
    [
        (200, page({"id": 3, "name": f"Spring {MARK}"}), Found("3")),
        (200, page({"id": 1, "name": "x"}, None, 7, {"id": 3, "name": f"{MARK} copy"}), Found("3")),
        (200, page({"id": 3, "name": f"Spring {MARK}"}, following=NEXT), Found("3")),
        # Absence is no proof: nothing here may ever be Absent.
        (200, page(), Untold),
        (200, page({"id": 3, "name": "Spring"}), Untold),
        (200, page({"id": 3, "name": MARK[1:-1]}), Untold),
        (200, page({"id": "3", "name": MARK}), Untold),
        (200, page({"id": True, "name": MARK}), Untold),
        (200, page({"id": 0, "name": MARK}), Untold),
        (200, page({"id": 3, "name": None}), Untold),
        (200, page({"name": MARK}), Untold),
        (200, {"results": {"id": 3, "name": MARK}}, Untold),
        (200, [{"id": 3, "name": MARK}], Untold),
        (200, {}, Untold),
        (200, None, Untold),
        (201, page({"id": 3, "name": MARK}), Untold),
        (404, page({"id": 3, "name": MARK}), Untold),
        (404, {"detail": "Not found."}, Untold),
        (403, {"detail": "no"}, Untold),
        (500, page({"id": 3, "name": MARK}), Untold),
    ],
)
def test_what_the_list_tells(status: int, body: object, found: object) -> None:
    verdict = USERCOM.read_probe(probe(), Reply(status, {}, orjson.dumps(body)))
    assert verdict == found or (isinstance(found, type) and isinstance(verdict, found))


@pytest.mark.parametrize(
    "host", ["https://shop.user.com", "https://evil.example.com", "http://127.0.0.1:1", "//evil.example.com", ""]
)
def test_a_cursor_is_followed_at_the_accounts_own_address_alone(host: str) -> None:
    following = f"{host}/api/public/webpush-campaign/?cursor={quote('a/b+=&c', safe='')}&token=x"
    verdict = USERCOM.read_probe(probe(), Reply(200, {}, orjson.dumps(page(following=following))))
    assert isinstance(verdict, Probe)
    url = USERCOM.call(verdict.step, ACCOUNT, {}, repeats=0).url
    assert url.startswith("https://shop.user.com/api/public/webpush-campaign/?")
    assert parse_qs(urlsplit(url).query) == {"cursor": ["a/b+=&c"]}
    assert (verdict.wanted, verdict.step.endpoint) == (probe().wanted, LIST)


@pytest.mark.parametrize(
    "following", [None, "", 7, True, ["x"], "nonsense", "https://[", "https://shop.user.com/?page=2", "?cursor="]
)
def test_a_next_that_leads_nowhere_ends_the_list(following: object) -> None:
    body = orjson.dumps(page(following=following))
    assert isinstance(USERCOM.read_probe(probe(), Reply(200, {}, body)), Untold)


def test_a_list_that_never_ends_is_given_up() -> None:
    reply = Reply(200, {}, orjson.dumps(page(following=NEXT)))
    verdict: object = probe()
    pages = 0
    while isinstance(verdict, Probe):
        verdict = USERCOM.read_probe(verdict, reply)
        pages += 1
        assert pages <= 20
    assert isinstance(verdict, Untold)
    assert pages == 20
