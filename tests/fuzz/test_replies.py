"""Replies of every endpoint, changed in any way: read as what they are, or as nothing; the engine's next step is sane.

`tests/providers/test_conformance.py` says what each reply means; this says that nothing breaks, further along too.
"""

from __future__ import annotations

import math

import orjson
from hypothesis import strategies as st

from bulksend.engine.retry import PAUSE_MOST_S, Abort, Again, Settle, decide, retry_after_s
from bulksend.model import Accepted, Account, Described, Found, Listed, Outcome, Probe, Reply, Secret, Untold, Verdict
from bulksend.providers import PROVIDERS, Provider
from bulksend.providers.targets import Span
from tests.fuzz.budget import fuzz
from tests.fuzz.odd import TEXTS, changed_bytes, changed_json, changed_text
from tests.providers.test_conformance import CAMPAIGN, PROBES, PROMISED, SEGMENT, STEPS, TOKEN, provider_of

REF_MOST = 255
STATUSES = st.sampled_from(
    [200, 200, 200, 201, 204, 400, 401, 403, 404, 408, 424, 429, 429, 500, 503, 302, 599, 0, 999]
)
LISTED = {
    "usercom.list": {"next": "https://shop.user.com/api/?cursor=x", "results": [{"id": 3, "name": "sale [0123]"}]},
    "usercom.segments": {"next": None, "results": [{"id": 7, "object_count": 5}, {"id": 8}]},
    "usercom.segment_users": {"next": "https://x/?cursor=x", "results": [{"id": 1, "custom_id": "a", "email": "x@y"}]},
    "stream.targets.query": {"targets": [{"target_id": "a"}, {"target_id": "b"}], "next": "x", "duration": "1ms"},
    "stream.segment.get": {"segment": {**SEGMENT, "filter": {}, "all_users": False}, "duration": "1ms"},
    "stream.campaign.get": {
        "campaign": {**CAMPAIGN, "status": "completed", "stats": {"progress": 1, "stats_users_sent": 9}},
        "users": {"next": "x"},
    },
    "batch.list": [{"campaign_token": TOKEN, "name": "sale [0123]", "live": True}] * 3,
    "insider.statistics": {"page": 1, "per_page": 10, "total": 99, "data": [{}]},
}
ERRORS = [
    {"message": "SERVICE:-Campaign not found", "error": "SERVICE:-"},
    {"code": 9, "message": "too many", "StatusCode": 429, "duration": "0ms"},
    {"code": 31, "message": "malformed"},
    {"detail": "no", "name": ["required"], "errors": []},
]
DATES = [
    "Wed, 01 Apr 2026 06:00:07 GMT",
    "Wed, 01 Apr 0001 00:00:00 +1400",
    "31 Dec 9999 23:59:59 -9999",
    "Fri, 1 Jan 99",
]
NUMBERS = [
    "7",
    "0",
    "-1",
    "1.5",
    "1e9",
    "1e400",
    "nan",
    "inf",
    "-inf",
    "9" * 400,
    "9" * 5000,
    "7, 8",
    "٣",
    "1_0",
    "0x7",
]
VALUES = st.sampled_from([*DATES, *NUMBERS]) | changed_text(DATES[0]) | changed_text("1775023200") | TEXTS
HEADERS = st.dictionaries(
    st.sampled_from(
        ["retry-after", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "location", "content-type"]
    ),
    VALUES | st.binary(max_size=8).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
    max_size=4,
)


def good_of(name: str) -> list[object]:
    """Give what the page promises: with something in its list, where it is one."""
    return [LISTED.get(name) or PROMISED.get(name) or {"duration": "0ms"}]


def bodies_of(goods: list[object]) -> st.SearchStrategy[bytes]:
    """Give changed forms of the promised bodies and the vendors' errors, and now and then an unchanged one."""
    return st.sampled_from([*goods, *goods, *ERRORS]).flatmap(
        lambda good: st.one_of(
            changed_json(good), changed_json(good), changed_bytes(orjson.dumps(good)), st.just(orjson.dumps(good))
        )
    )


def account_of(provider: Provider) -> Account:
    ids, secrets = (
        dict.fromkeys(provider.account_ids, "shop1"),
        dict.fromkeys(provider.account_secrets, Secret("s" * 32)),
    )
    return Account("shop", provider.name, "http://127.0.0.1:1", ids, secrets)


def fit_for_the_ledger(text: str | None) -> bool:
    return text is None or bool(text.encode())


def judge(outcome: Outcome, status: int, endpoint, verdict: Verdict | None = None) -> None:
    """Hold an outcome, and what the engine makes of it, against what the ledger and the limiter can take."""
    if isinstance(outcome, Accepted):
        assert 200 <= status < 300 or (isinstance(outcome, Described) and status == 404)
        assert outcome.ref is None or 0 < len(outcome.ref) <= REF_MOST
        assert fit_for_the_ledger(outcome.ref)
        assert all(type(number) is int and number >= 0 for number in outcome.tally.values())
    for episode in (1, 30):
        decision = decide(
            outcome,
            endpoint,
            verdict=verdict,  # type: ignore[arg-type]
            attempt=episode,
            episode=episode,
            down_s=0.0,
            budget_left=9,
            period_s=60.0,
            now=1.8e9,
            random=lambda: 1.0,
        )
        assert isinstance(decision, Settle | Again | Abort)
        assert fit_for_the_ledger(decision.reason)
        if isinstance(decision, Again):
            assert 0 <= decision.after_s <= PAUSE_MOST_S
            assert decision.pause_s is None or 0 <= decision.pause_s <= PAUSE_MOST_S


@fuzz(
    short=200,
    long=60_000,
    given=st.sampled_from(STEPS).flatmap(lambda step: st.tuples(st.just(step), bodies_of(good_of(step.endpoint.name)))),
    status=STATUSES,
    headers=HEADERS,
    repeats=st.integers(0, 2),
)
def test_replies(given: tuple, status: int, headers: dict[str, str], repeats: int) -> None:
    step, body = given
    reply = Reply(status, headers, body)
    provider = provider_of(step)
    judge(provider.read(step, reply, repeats=repeats), status, step.endpoint)
    standing = provider.standing(reply)
    if standing is not None:
        assert standing.reset_at is None or (math.isfinite(standing.reset_at) and standing.reset_at >= 0)
        assert standing.remaining is None or 0 <= standing.remaining < 10**16
    try:
        answered = orjson.loads(body)
    except orjson.JSONDecodeError:
        return
    following = provider.following(step.endpoint, {"limit": 3}, answered)
    if following is not None:
        made = provider.request(step.endpoint, following, account_of(provider), ref="overall-metrics")
        assert made.body or made.path or made.ref


@fuzz(
    short=100,
    long=30_000,
    given=st.sampled_from(PROBES).flatmap(
        lambda one: st.tuples(st.just(one), bodies_of(good_of(one[1].step.endpoint.name)))
    ),
    status=st.just(200) | STATUSES,
    headers=HEADERS,
)
def test_answers_to_lookups(given: tuple, status: int, headers: dict[str, str]) -> None:
    (provider, probe), body = given
    verdict = provider.read_probe(probe, Reply(status, headers, body))
    if isinstance(verdict, Found):
        assert fit_for_the_ledger(verdict.ref)
    if isinstance(verdict, Untold):
        assert fit_for_the_ledger(verdict.reason)
        assert len(verdict.reason) < 300
    if isinstance(verdict, Probe):
        assert verdict.pages_left < probe.pages_left
        provider.call(verdict.step, account_of(provider), {}, repeats=0).url.encode("ascii")


SYNCED = [one for one in PROVIDERS.values() if one.targets is not None]


@fuzz(
    short=100,
    long=30_000,
    provider=st.sampled_from(SYNCED),
    data=st.data(),
    status=STATUSES,
    headers=HEADERS,
    describes=st.booleans(),
)
def test_pages_of_segments(provider: Provider, data, status: int, headers: dict[str, str], describes: bool) -> None:
    targets = provider.targets
    assert targets is not None
    step = targets.describe("7", following=None) if describes else targets.page("7", Span("a", "b"), following=None)
    reply = Reply(status, headers, data.draw(bodies_of(good_of(step.endpoint.name))))
    if describes:
        outcome = targets.read_description(step, "7", reply)
        again = targets.describe
    else:
        outcome = targets.read_page(step, data.draw(st.sampled_from([*targets.matches, "id"])), reply)
        again = lambda segment, *, following: targets.page(segment, Span(), following=following)  # noqa: E731
    judge(outcome, status, step.endpoint)
    if isinstance(outcome, Described):
        assert outcome.size is None or outcome.size >= 0
    if isinstance(outcome, Listed):
        assert all(one.encode() for one in outcome.ids if one)
    following = outcome.following if isinstance(outcome, Listed | Described) else None
    if following is not None:
        provider.call(again("7", following=following), account_of(provider), {}, repeats=0).url.encode("ascii")


@fuzz(short=100, long=30_000, text=VALUES, now=st.sampled_from([0.0, 1.8e9, 1e11]))
def test_retry_after(text: str, now: float) -> None:
    told = retry_after_s(text, now)
    assert told is None or 0 <= told <= PAUSE_MOST_S
