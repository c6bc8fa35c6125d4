"""A run's history: what it counts, and that it does not grow."""

from __future__ import annotations

from collections import Counter

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from bulksend.event import Event, EventName
from bulksend.observe.chronicle import OTHER, REASONS_MOST, SLOWEST_MOST, Chronicle
from bulksend.observe.history import History
from bulksend.observe.slots import SLOTS_MOST


class Clock:
    def __init__(self) -> None:
        self.at = 1_000_000.0

    def __call__(self) -> float:
        return self.at


def called(endpoint: str = "insider.launch", *, status: int = 200, took_s: float = 0.02, key: str = "k") -> Event:
    return Event(EventName.CALL_MADE, "job", endpoint, "default", key, 1, 1, status, duration_s=took_s, wait_s=0.0)


def accepted(key: str = "k") -> Event:
    return Event(EventName.SEND_ACCEPTED, "job", "insider.launch", "default", key, 1)


def rejected(reason: str) -> Event:
    return Event(EventName.SEND_REJECTED, "job", "insider.launch", "default", "k", 1, reason=reason)


def test_what_happens_stands_in_the_slot_of_its_moment() -> None:
    clock = Clock()
    chronicle = Chronicle(wall=clock)
    for number in (3, 0, 5):
        for _ in range(number):
            chronicle(called())
            chronicle(accepted())
        clock.at += 1
    chronicle(called(status=429))
    history = chronicle.history()
    assert history.slot_s == 1.0
    assert history.accepted == [3, 0, 5, 0]
    assert history.endpoints["insider.launch"].calls == [3, 0, 5, 1]
    assert history.endpoints["insider.launch"].throttled == [0, 0, 0, 1]
    assert history.endpoints["insider.launch"].p50_ms[1] is None
    assert history.statuses == {"200": 8, "429": 1}


def test_a_long_run_has_no_longer_a_history_than_a_short_one() -> None:
    """Every call and every outcome is still counted, in wider slots."""
    clock = Clock()
    chronicle = Chronicle(wall=clock)
    for _ in range(10 * SLOTS_MOST):
        chronicle(called())
        chronicle(accepted())
        clock.at += 3
    history = chronicle.history()
    assert len(history.accepted) <= SLOTS_MOST
    assert history.slot_s * len(history.accepted) >= 30 * SLOTS_MOST
    assert sum(history.accepted) == sum(history.endpoints["insider.launch"].calls) == 10 * SLOTS_MOST
    assert len(msgspec.json.encode(history)) < 30_000


def test_percentiles_of_a_slot_that_became_two_are_of_all_its_calls() -> None:
    clock = Clock()
    chronicle = Chronicle(wall=clock)
    for second in range(SLOTS_MOST + 1):
        chronicle(called(took_s=0.01 if second % 2 else 1.0))
        clock.at += 1
    series = chronicle.history().endpoints["insider.launch"]
    assert all(one is not None and one >= 900 for one in series.p99_ms[:-1])


def test_reasons_and_slowest_calls_are_bounded() -> None:
    chronicle = Chronicle(wall=Clock())
    for number in range(3 * REASONS_MOST):
        chronicle(rejected(f"reason {number}"))
        chronicle(called(took_s=number / 1000, key=str(number)))
    history = chronicle.history()
    assert history.reasons[OTHER] == 2 * REASONS_MOST
    assert sum(history.reasons.values()) == 3 * REASONS_MOST
    assert [one.key for one in history.slowest] == [str(3 * REASONS_MOST - 1 - one) for one in range(SLOWEST_MOST)]


def test_rates_are_of_whole_seconds() -> None:
    """A second that has only begun does not pull the rate down."""
    clock = Clock()
    chronicle = Chronicle(wall=clock)
    for _ in range(8):
        for _ in range(100):
            chronicle(called())
        clock.at += 1
    clock.at += 0.1
    for _ in range(3):
        chronicle(called())
    assert chronicle.recent().rates_per_s == {"insider.launch": 100.0}
    assert chronicle.history().rates_per_s == {"insider.launch": 100.0}


def test_settled_sends_have_a_rate_of_late() -> None:
    clock = Clock()
    chronicle = Chronicle(wall=clock)
    assert chronicle.recent().settled_per_s == 0.0
    for _ in range(20):
        for _ in range(7):
            chronicle(accepted())
        clock.at += 1
    assert chronicle.recent().settled_per_s == 7.0


def test_what_was_kept_is_read_back() -> None:
    chronicle = Chronicle(wall=Clock())
    chronicle(called())
    chronicle(rejected("HTTP 400"))
    chronicle(Event(EventName.LIMIT_PAUSED, "job", "insider.launch", "default", reason="HTTP 429", duration_s=3.0))
    history = chronicle.history()
    assert msgspec.json.decode(msgspec.json.encode(history), type=History) == history
    assert [one.name for one in history.latest] == ["send.rejected", "limit.paused"]
    assert history.paused_until == Clock().at + 3.0


STEPS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.001, 0.3, 0.75, 1.0, 2.5, 60.0, -0.5]),
        st.sampled_from(["x.launch", "x.create"]),
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from([200, 429, None]),
        st.booleans(),
    ),
    max_size=60,
)


@given(steps=STEPS)
def test_every_call_is_counted_once_under_all_it_belongs_to(
    steps: list[tuple[float, str, str, int | None, bool]],
) -> None:
    """Whenever it is asked: what one asks in between changes nothing of what is told at the end."""
    clock = Clock()
    asked, unasked = Chronicle(wall=clock), Chronicle(wall=clock)
    accounts: dict[str, Counter[str]] = {}
    for step_s, endpoint, account, status, asks in steps:
        clock.at += step_s
        accounts.setdefault(endpoint, Counter())[account] += 1
        for chronicle in (asked, unasked):
            answered = {} if status is None else {"duration_s": 0.25}
            chronicle(Event(EventName.CALL_MADE, "job", endpoint, account, "k", 1, status=status, **answered))  # type: ignore[arg-type]
            chronicle(accepted())
        if asks:
            asked.history()
            asked.recent()
    history = asked.history()
    assert history == unasked.history()
    assert asked.recent() == unasked.recent()
    assert sum(history.accepted) == len(steps)
    assert {name: (sum(one.calls), one.accounts, one.busiest) for name, one in history.endpoints.items()} == {
        name: (found.total(), len(found), max(found.values())) for name, found in accounts.items()
    }
    assert sum(sum(one.throttled) for one in history.endpoints.values()) == history.statuses.get("429", 0)
    assert sum(history.statuses.values()) == len(steps)


def test_an_account_that_is_called_in_turn_with_others_has_its_own_rate() -> None:
    clock = Clock()
    chronicle = Chronicle(wall=clock)
    for _ in range(6):
        for number in range(30):
            name = f"account-{number % 3}"  # a text of its own each time, as equal as the one before
            chronicle(Event(EventName.CALL_MADE, "job", "x.launch", name, "k", 1, status=200, duration_s=0.1))
        clock.at += 1
    recent = chronicle.recent()
    assert recent.rates_per_s == {"x.launch": 30.0}
    assert recent.account_rates_per_s == {f"account-{number}": 10.0 for number in range(3)}
