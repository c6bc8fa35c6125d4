"""What follows an outcome: a table, and the arithmetic of waiting."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bulksend.engine.retry import (
    ATTEMPTS_MOST,
    CAP_S,
    UNREACHABLE_S,
    Abort,
    Again,
    Decision,
    Settle,
    backoff_s,
    decide,
    retry_after_s,
    throttle_pause_s,
)
from bulksend.errors import DeniedError, NetworkError
from bulksend.model import (
    Accepted,
    Denied,
    Endpoint,
    Limit,
    NotSent,
    Outcome,
    Rejected,
    Repeat,
    State,
    Throttled,
    Unknown,
)

NOW = 1_800_000_000.0
NEVER = Endpoint("x.launch", "POST", "/", Limit.parse("6000/min"), Repeat.NEVER)
SAFE = Endpoint("x.create", "POST", "/", Limit.parse("30/min"), Repeat.SAFE)


def decided(
    outcome: Outcome,
    endpoint: Endpoint,
    *,
    attempt: int = 1,
    episode: int = 1,
    down_s: float = 0.0,
    budget_left: int = 100,
    period_s: float = 60.0,
) -> Decision:
    return decide(
        outcome,
        endpoint,
        attempt=attempt,
        episode=episode,
        down_s=down_s,
        budget_left=budget_left,
        period_s=period_s,
        now=NOW,
        random=lambda: 0.5,
    )


TRIES = [(1, 100), (7, 1), (8, 100), (1, 0), (50, -3)]
"""Attempt and budget left: fresh, the last that may be tried again, out of tries, out of budget, out of both."""


@pytest.mark.parametrize("endpoint", [NEVER, SAFE], ids=["never", "safe"])
@pytest.mark.parametrize(("attempt", "budget_left"), TRIES)
class TestEveryOutcome:
    """Every outcome, for both kinds of endpoint, however often it was tried."""

    def test_accepted(self, endpoint: Endpoint, attempt: int, budget_left: int) -> None:
        decision = decided(Accepted("7"), endpoint, attempt=attempt, budget_left=budget_left)
        assert decision == Settle(State.ACCEPTED, ref="7")

    def test_rejected(self, endpoint: Endpoint, attempt: int, budget_left: int) -> None:
        decision = decided(Rejected("no", 400), endpoint, attempt=attempt, budget_left=budget_left)
        assert decision == Settle(State.REJECTED, reason="no", status=400)

    def test_denied_ends_the_run(self, endpoint: Endpoint, attempt: int, budget_left: int) -> None:
        decision = decided(Denied("refused", 401), endpoint, attempt=attempt, budget_left=budget_left)
        assert isinstance(decision, Abort)
        assert isinstance(decision.error, DeniedError)
        assert (decision.reason, decision.status) == ("HTTP 401: refused", 401)
        assert endpoint.name in str(decision.error)

    def test_told_to_wait_is_never_given_up(self, endpoint: Endpoint, attempt: int, budget_left: int) -> None:
        decision = decided(Throttled(429, "7"), endpoint, attempt=attempt, budget_left=budget_left)
        assert decision == Again("HTTP 429: told to wait", pause_s=7.0, status=429)

    def test_not_sent(self, endpoint: Endpoint, attempt: int, budget_left: int) -> None:
        """A vendor that is away holds everybody, for a while; it is no single call's fault."""
        decision = decided(NotSent("refused"), endpoint, attempt=attempt, budget_left=budget_left, episode=4)
        assert decision == Again("refused", pause_s=1.0)
        away = decided(NotSent("refused"), endpoint, attempt=attempt, budget_left=budget_left, down_s=UNREACHABLE_S)
        assert isinstance(away, Abort)
        assert isinstance(away.error, NetworkError)
        assert (away.reason, away.status) == ("refused", None)

    def test_unknown(self, endpoint: Endpoint, attempt: int, budget_left: int) -> None:
        decision = decided(Unknown("lost", 500), endpoint, attempt=attempt, budget_left=budget_left)
        if endpoint is SAFE and attempt < ATTEMPTS_MOST and budget_left > 0:
            after_s = min(CAP_S, 0.25 * 2 ** (attempt - 1)) / 2
            assert decision == Again("lost", after_s=after_s, repeats=1, status=500)
        else:
            assert decision == Settle(State.UNKNOWN, reason="lost", status=500)


outcomes = st.one_of(
    st.builds(Accepted, st.none() | st.text(max_size=5)),
    st.builds(Rejected, st.text(max_size=5), st.none() | st.integers(400, 499)),
    st.builds(Unknown, st.text(max_size=5), st.none() | st.integers(300, 599)),
    st.builds(Throttled, st.just(429), st.none() | st.text(max_size=12), st.floats(0, 100)),
    st.builds(Denied, st.text(max_size=5), st.sampled_from([401, 403])),
    st.builds(NotSent, st.text(max_size=5)),
)


@given(outcome=outcomes, attempt=st.integers(1, 100), episode=st.integers(1, 10_000), budget_left=st.integers(-5, 5))
def test_an_unknown_launch_is_never_made_again(outcome: Outcome, attempt: int, episode: int, budget_left: int) -> None:
    """For an endpoint that may reach people, only proof that nothing took effect leads to another call."""
    decision = decided(outcome, NEVER, attempt=attempt, episode=episode, budget_left=budget_left)
    if isinstance(decision, Again):
        assert isinstance(outcome, Throttled | NotSent)
        assert decision.repeats == 0
        assert decision.after_s >= 0
        assert decision.pause_s is None or 0 <= decision.pause_s <= 86_400
    if isinstance(decision, Settle):
        assert decision.state is not State.ACCEPTED or isinstance(outcome, Accepted)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("-3", 0.0),
        ("86400", 86_400.0),
        ("86401", 86_400.0),
        ("1e300", 86_400.0),
        ("inf", 86_400.0),
        ("-inf", 0.0),
        ("nan", None),
        ("", None),
        ("soon", None),
        ("7 seconds", None),
        ("Wed", None),
        ("2027-01-15T08:00:30Z", None),
        (format_datetime(datetime.fromtimestamp(NOW + 90, UTC), usegmt=True), 90.0),
        (format_datetime(datetime.fromtimestamp(NOW - 90, UTC), usegmt=True), 0.0),
        (format_datetime(datetime.fromtimestamp(NOW + 90_000, UTC), usegmt=True), 86_400.0),
        # -0000 and no zone at all are UTC; another zone is reckoned in.
        ("Fri, 15 Jan 2027 08:00:30 -0000", 30.0),
        ("Fri, 15 Jan 2027 08:00:30", 30.0),
        ("Fri, 15 Jan 2027 09:00:30 +0100", 30.0),
        ("Friday, 15-Jan-27 08:00:30 GMT", 30.0),
    ],
)
def test_retry_after(text: str | None, seconds: float | None) -> None:
    assert retry_after_s(text, NOW) == seconds


@given(
    st.one_of(
        st.text(max_size=40),
        st.from_regex(
            r"[A-Z][a-z]{2}, \d{1,3} [A-Z][a-z]{2} \d{1,6} \d\d:\d\d:\d\d( [+-]\d{1,12}| GMT)?", fullmatch=True
        ),
    )
)
@example("Fri, 31 Dec 9999 23:59:59 -2359")
@example("Mon, 1 Jan 0001 00:00:00 +2359")
def test_retry_after_never_raises_and_stays_within_a_day(text: str) -> None:
    seconds = retry_after_s(text, NOW)
    assert seconds is None or 0 <= seconds <= 86_400


@pytest.mark.parametrize(
    ("episode", "period_s", "least_s"),
    [
        # 30/min: an eighth of the minute, doubled, at most the whole of it.
        (1, 60.0, 7.5),
        (2, 60.0, 15.0),
        (3, 60.0, 30.0),
        (4, 60.0, 60.0),
        (9, 60.0, 60.0),
        (10_000, 60.0, 60.0),
        # 600/6s
        (1, 6.0, 0.75),
        (2, 6.0, 1.5),
        (4, 6.0, 6.0),
        # 10/s: a quarter of a second at least.
        (1, 1.0, 0.25),
        (3, 1.0, 1.0),
        (1, 0.1, 0.1),
    ],
)
def test_a_429_that_does_not_say_waits_by_the_window(episode: int, period_s: float, least_s: float) -> None:
    assert throttle_pause_s(episode, period_s, lambda: 0.0) == pytest.approx(least_s)
    assert throttle_pause_s(episode, period_s, lambda: 1.0) == pytest.approx(1.1 * least_s)


@pytest.mark.parametrize("text", [None, "soon"])
def test_without_a_usable_header_the_window_decides(text: str | None) -> None:
    assert decided(Throttled(429, text), SAFE, period_s=60.0) == Again(
        "HTTP 429: told to wait", pause_s=pytest.approx(7.5 * 1.05), status=429
    )
    assert decided(Throttled(429, text), SAFE, period_s=6.0, episode=2) == Again(
        "HTTP 429: told to wait", pause_s=pytest.approx(1.5 * 1.05), status=429
    )


@pytest.mark.parametrize(
    ("text", "episode", "pause_s"),
    [
        ("0", 1, 0.0),
        ("0", 2, 7.5),
        ("0", 3, 15.0),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 2, 7.5),
        ("0.9", 2, 7.5),
        ("1", 9, 1.0),
        ("120", 9, 120.0),
    ],
)
def test_a_vendor_that_says_at_once_again_and_again_is_not_believed(text: str, episode: int, pause_s: float) -> None:
    decision = decided(Throttled(429, text), SAFE, episode=episode)
    assert isinstance(decision, Again)
    assert decision.pause_s == pytest.approx(pause_s, rel=0.051)


def test_the_vendors_own_minimum_holds_whatever_the_header_says() -> None:
    decision = decided(Throttled(429, "1", at_least_s=5.0), SAFE)
    assert isinstance(decision, Again)
    assert decision.pause_s == 5.0


@given(attempt=st.integers(1, 10_000), share=st.floats(0, 1, exclude_max=True))
def test_backoff_is_full_jitter_under_a_cap(attempt: int, share: float) -> None:
    most = min(10.0, 0.25 * 2.0 ** min(attempt - 1, 50))
    wait = backoff_s(attempt, lambda: share)
    assert 0 <= wait <= most
    assert wait == pytest.approx(share * most)


def test_backoff_doubles() -> None:
    assert [backoff_s(attempt, lambda: 1.0) for attempt in range(1, 9)] == [0.25, 0.5, 1, 2, 4, 8, 10, 10]
