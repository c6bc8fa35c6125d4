"""How targets are asked for, and what good and broken answers of both vendors mean."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulksend.model import Accepted, Account, Denied, Described, Listed, Rejected, Reply, Secret, Throttled, Unknown
from bulksend.providers import PROVIDERS
from bulksend.providers.stream.targets import StreamTargets
from bulksend.providers.targets import Span
from bulksend.providers.usercom.targets import UsercomTargets

STREAM, USERCOM = StreamTargets(), UsercomTargets()
BOTH = [STREAM, USERCOM]
ACCOUNTS = {
    "stream": Account(
        "-", "stream", "https://x.test", {"api_key": "K"}, {"api_secret": Secret("long-enough-for-hs256-long-enough")}
    ),
    "usercom": Account("-", "usercom", "https://shop.user.com", {"app": "shop"}, {"token": Secret("t")}),
}


def answer(body: object, status: int = 200, **headers: str) -> Reply:
    return Reply(status, headers, body if isinstance(body, bytes) else orjson.dumps(body))


def url_of(provider: str, step: Any) -> str:
    """Return where a call goes."""
    return PROVIDERS[provider].call(step, ACCOUNTS[provider], {}, repeats=0).url


def described(targets: Any, reply: Reply, segment_id: str = "7") -> Any:
    step = targets.describe(segment_id, following=None)
    return targets.read_description(step, segment_id, reply)


def page_of(targets: Any, reply: Reply, match: str = "") -> Any:
    step = targets.page("7", Span(), following=None)
    return targets.read_page(step, match or (targets.matches or ("",))[0], reply)


def test_which_providers_have_targets():
    assert {name for name, one in PROVIDERS.items() if one.targets is not None} == {"stream", "usercom"}
    assert PROVIDERS["stream"].targets == STREAM
    assert PROVIDERS["usercom"].targets == USERCOM
    for name in ("stream", "usercom"):
        known = PROVIDERS[name].targets
        assert known is not None
        assert known.page_endpoint.name in PROVIDERS[name].endpoints


# What is the same for both

BROKEN = [
    b"",
    b"{",
    b"null",
    b"[]",
    b'"x"',
    b"5",
    b"<html>",
    b"\xff\xfe",
    b'{"targets":null,"results":null,"segment":null}',
    b'{"targets":{},"results":{},"segment":[]}',
    b'{"targets":[1],"results":[1],"segment":"x"}',
    b'{"targets":[{"target_id":5}],"results":["x"]}',
    b'{"targets":[{"target_id":null}],"results":[null]}',
    b'{"targets":[{}],"results":[[]]}',
    b'{"targets":[{"target_id":"\xff"}],"results":[{"custom_id":"\xff"}]}',
    b'{"targets":[{"target_id":"\\ud800"}],"results":5}',
    b'{"targets":[{"target_id":"a"},{"target_id"',
    b"[" * 100_000,
    b'{"targets":' + b"[" * 100_000,
]


@pytest.mark.parametrize("targets", BOTH)
@pytest.mark.parametrize("body", BROKEN)
@pytest.mark.parametrize("status", [200, 201, 299])
def test_a_good_status_with_another_body_settles_nothing(targets, body, status):
    assert isinstance(page_of(targets, answer(body, status)), Unknown)
    assert isinstance(described(targets, answer(body, status)), Unknown)


@pytest.mark.parametrize("targets", BOTH)
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, Denied),
        (403, Denied),
        (429, Throttled),
        (409, Rejected),
        (413, Rejected),
        (408, Unknown),
        (500, Unknown),
        (502, Unknown),
        (503, Unknown),
        (301, Unknown),
        (304, Unknown),
    ],
)
def test_other_statuses(targets, status, kind):
    for body in (b"", b"<html>", b'{"targets":[],"results":[],"segment":{"id":"7"}}'):
        assert type(page_of(targets, answer(body, status))) is kind
        assert type(described(targets, answer(body, status))) is kind


@pytest.mark.parametrize("targets", BOTH)
@given(status=st.sampled_from([200, 201, 400, 404, 500]), body=st.binary(max_size=40))
def test_no_answer_makes_them_raise(targets, status, body):
    page_of(targets, answer(body, status))
    described(targets, answer(body, status))


json = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["targets", "target_id", "next", "results", "segment", "id", "size", "custom_id"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("targets", BOTH)
@given(body=json)
def test_whatever_json_comes_only_texts_are_ids(targets, body):
    found = page_of(targets, answer(body))
    assert isinstance(found, Listed | Unknown)
    if isinstance(found, Listed):
        assert all(isinstance(one, str) for one in found.ids)
        assert found.following is None or isinstance(found.following, str)
    said = described(targets, answer(body))
    assert isinstance(said, Described | Unknown)
    if isinstance(said, Described):
        assert said.size is None or (type(said.size) is int and said.size >= 0)


# Stream


def test_what_stream_can():
    assert (STREAM.matches, STREAM.id_most_chars, STREAM.page_most) == ((), 255, 10_000)
    assert (STREAM.is_ordered, STREAM.has_spans) == (True, True)
    assert STREAM.add is not None
    assert STREAM.remove is not None
    assert (STREAM.add.ids_most, STREAM.remove.ids_most) == (10_000, 100)


@pytest.mark.parametrize(
    ("span", "following", "body"),
    [
        (Span(), None, {"limit": 10_000}),
        (Span(), "c", {"limit": 10_000, "next": "c"}),
        (Span("a", None), None, {"limit": 10_000, "filter": {"target_id": {"$gte": "a"}}}),
        (Span(None, "b"), None, {"limit": 10_000, "filter": {"target_id": {"$lte": "b"}}}),
        (Span("a", "b"), "c", {"limit": 10_000, "filter": {"target_id": {"$gte": "a", "$lte": "b"}}, "next": "c"}),
        (Span("", ""), "", {"limit": 10_000, "filter": {"target_id": {"$gte": "", "$lte": ""}}, "next": ""}),
    ],
)
def test_stream_page_is_asked_for(span, following, body):
    step = STREAM.page("seg", span, following=following)
    assert orjson.loads(step.body) == body
    assert urlsplit(url_of("stream", step)).path == "/segments/seg/targets/query"
    assert step.endpoint.name == "stream.targets.query"


@pytest.mark.parametrize(
    ("body", "ids", "following"),
    [
        ({"targets": []}, [], None),
        ({"targets": [], "next": None}, [], None),
        ({"targets": [], "next": ""}, [], None),
        ({"targets": [], "next": "c"}, [], "c"),
        ({"targets": [{"target_id": "b"}, {"target_id": "a"}], "next": "c"}, ["b", "a"], "c"),
        ({"targets": [{"target_id": "a"}, {"target_id": "a"}]}, ["a", "a"], None),
        ({"targets": [{"target_id": ""}]}, [""], None),
        ({"targets": [{"target_id": "0007", "segment_id": "x", "app_pk": 1}], "duration": "1ms"}, ["0007"], None),
        ({"targets": [{"target_id": "\U0001f600\0\"' "}], "prev": "p"}, ["\U0001f600\0\"' "], None),
    ],
)
def test_stream_page_is_read(body, ids, following):
    assert page_of(STREAM, answer(body, 201)) == Listed(ids=ids, following=following)


@pytest.mark.parametrize("body", [{"targets": [], "next": 5}, {"targets": [], "next": {}}, {"next": "c"}])
def test_stream_page_with_a_broken_cursor_settles_nothing(body):
    assert isinstance(page_of(STREAM, answer(body)), Unknown)


@pytest.mark.parametrize("status", [400, 404])
def test_stream_page_that_is_refused(status):
    found = page_of(STREAM, answer({"code": 4, "message": "secret row"}, status))
    assert found == Rejected(f"HTTP {status}, code 4: input error", status)


@pytest.mark.parametrize(
    ("segment", "size", "rule"),
    [
        ({"id": "7", "size": 5}, 5, None),
        ({"id": "7", "size": 0}, 0, None),
        ({"id": "7"}, None, None),
        ({"id": "7", "size": None}, None, None),
        ({"id": "7", "size": -1}, None, None),
        ({"id": "7", "size": True}, None, None),
        ({"id": "7", "size": "5"}, None, None),
        ({"id": "7", "size": 5.0}, None, None),
        ({"id": "7", "size": 5, "filter": {}, "all_users": False, "all_sender_channels": False}, 5, None),
        ({"id": "7", "size": 5, "filter": None}, 5, None),
        ({"id": "7", "size": 5, "filter": {"a": 1}}, 5, "filter"),
        ({"id": "7", "size": 5, "all_users": True}, 5, "all_users"),
        ({"id": "7", "size": 5, "all_sender_channels": True}, None, "all_sender_channels"),
    ],
)
def test_stream_segment_is_read(segment, size, rule):
    assert described(STREAM, answer({"segment": segment})) == Described(size=size, fills_itself=rule)


def test_stream_says_that_there_is_no_segment_only_in_its_own_words():
    assert described(STREAM, answer({"code": 16}, 404)) == Described(found=False)
    assert isinstance(described(STREAM, answer(b"<html>not found</html>", 404)), Rejected)
    assert isinstance(described(STREAM, answer({"code": 16}, 400)), Rejected)
    assert isinstance(described(STREAM, answer({"segment": {"id": "8", "size": 5}})), Unknown)


def test_stream_segment_is_asked_for():
    step = STREAM.describe("a/b c", following=None)
    path = urlsplit(url_of("stream", step)).path
    assert path.startswith("/segments/")
    assert unquote(path.removeprefix("/segments/")) == "a/b c"
    assert "/" not in path.removeprefix("/segments/")


@pytest.mark.parametrize(("is_add", "path"), [(True, "/segments/s/addtargets"), (False, "/segments/s/deletetargets")])
def test_stream_ids_are_written_as_they_are(is_add, path):
    batch = STREAM.add if is_add else STREAM.remove
    assert batch is not None
    ids = ["0007", "a'b\"", "\U0001f600", "x" * 255, " ", "\n"]
    step = STREAM.write(batch, "s", ids)
    assert orjson.loads(step.body) == {"target_ids": ids}
    assert urlsplit(url_of("stream", step)).path == path
    read = PROVIDERS["stream"].read(step, answer({"duration": "1ms"}, 201), repeats=0)
    assert isinstance(read, Accepted)
    assert isinstance(PROVIDERS["stream"].read(step, answer(b"<html>"), repeats=0), Unknown)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=255))
def test_stream_target_is_asked_for_by_a_path_that_means_it_alone(one):
    step = STREAM.exists("s", one)
    if one in (".", ".."):
        assert step is None
        return
    assert step is not None
    url = urlsplit(url_of("stream", step))
    before, _, last = url.path.rpartition("/")
    assert before == "/segments/s/target"
    assert unquote(last) == one
    assert not url.fragment
    assert set(parse_qs(url.query)) == {"api_key"}


# User.com


def test_what_usercom_can():
    assert USERCOM.matches[0] == "custom_id"
    assert (USERCOM.page_most, USERCOM.add, USERCOM.remove) == (100, None, None)
    assert (USERCOM.is_ordered, USERCOM.has_spans) == (False, False)
    assert USERCOM.exists("7", "x") is None
    with pytest.raises(TypeError):
        USERCOM.write(STREAM.add, "7", ["x"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("following", "query"), [(None, {}), ("c", {"cursor": ["c"]}), ("a&b=c d", {"cursor": ["a&b=c d"]})]
)
def test_usercom_pages_are_asked_for(following, query):
    for step, path in (
        (USERCOM.page("7", Span("ignored", "too"), following=following), "/segments/7/users"),
        (USERCOM.describe("7", following=following), "/segments"),
    ):
        url = urlsplit(url_of("usercom", step))
        assert url.path.removeprefix("/api/public").rstrip("/") == path
        assert parse_qs(url.query) == query


NEXT = "https://shop.user.com/api/public/segments/?cursor="


@pytest.mark.parametrize(
    ("results", "found"),
    [
        ([{"id": 7, "object_count": 5}], Described(size=5)),
        ([{"id": "7", "object_count": 5}], Described(size=5)),
        ([{"id": 6}, {"id": 7, "object_count": 0}], Described(size=0)),
        ([{"id": 7}], Described()),
        ([{"id": 7, "object_count": None}], Described()),
        ([{"id": 7, "object_count": "5"}], Described()),
        ([{"id": 7, "object_count": True}], Described()),
        ([{"id": 7, "object_count": -1}], Described()),
        ([{"id": 70}, {"id": 77}, {"name": "7"}], Described(found=False)),
        ([], Described(found=False)),
    ],
)
def test_usercom_segment_is_looked_for_in_the_list(results, found):
    assert described(USERCOM, answer({"results": results})) == found


def test_usercom_goes_on_in_the_list_until_the_segment_is_found():
    page = {"results": [{"id": 6}], "next": NEXT + "abc%3D"}
    assert described(USERCOM, answer(page)) == Described(found=False, following="abc=")
    page["results"] = [{"id": 7, "object_count": 3}]
    assert described(USERCOM, answer(page)) == Described(size=3)


USERS = [
    {"id": 1, "custom_id": "a", "user_key": "k1", "email": "a@x.test"},
    {"id": 2, "custom_id": None, "user_key": "k2", "email": ""},
    {"id": 3, "user_key": "k3"},
    {"id": 4, "custom_id": "", "user_key": "k4", "email": "  "},
    {"id": 5, "custom_id": "0007", "user_key": "k5", "email": "e@x.test"},
    {"id": 6, "custom_id": 12, "user_key": "k6"},
    {"id": 7, "custom_id": True, "user_key": "k7"},
    {"id": 8, "custom_id": 1.5, "user_key": "k8"},
    {"id": 9, "custom_id": ["x"], "user_key": "k9"},
    {"id": 10, "custom_id": " a ", "user_key": "k10"},
]


@pytest.mark.parametrize(
    ("match", "ids"),
    [
        ("custom_id", ["a", "0007", "12", " a "]),
        ("id", [str(number) for number in range(1, 11)]),
        ("user_key", [f"k{number}" for number in range(1, 11)]),
        ("email", ["a@x.test", "e@x.test"]),
        ("none", []),
    ],
)
def test_usercom_users_without_the_field_are_counted(match, ids):
    found = page_of(USERCOM, answer({"results": USERS}), match)
    assert found == Listed(ids=ids, unnamed=len(USERS) - len(ids))


@pytest.mark.parametrize(
    ("following", "cursor"),
    [
        (NEXT + "c2", "c2"),
        (NEXT + "a%26b%3Dc&limit=5", "a&b=c"),
        ("http://elsewhere.test/?x=1&cursor=c", "c"),
        ("?cursor=c", "c"),
        (None, None),
        ("", None),
    ],
)
def test_usercom_cursor(following, cursor):
    assert page_of(USERCOM, answer({"results": [], "next": following})) == Listed(ids=[], following=cursor)
    if following is None:
        assert page_of(USERCOM, answer({"results": []})) == Listed(ids=[])


@pytest.mark.parametrize(
    "following", [NEXT, "https://shop.user.com/api/public/segments/7/users/?page=2", "http://[", 5, {"a": 1}]
)
def test_usercom_next_that_is_not_understood_is_not_the_end(following):
    assert isinstance(page_of(USERCOM, answer({"results": USERS, "next": following})), Unknown)
