"""What a run keeps for its report: reasons over time, accounts, when calls were made, all on one coarsening axis."""

from __future__ import annotations

from typing import Any

from bulksend.event import Event, EventName
from bulksend.observe.chronicle import REASONS_MOST, REASONS_SHOWN, Chronicle
from bulksend.observe.slots import SLOTS_MOST

JOB = "sale"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def call(account: str = "a", endpoint: str = "x.launch", **more: Any) -> Event:
    said = {"status": 200, "duration_s": 0.25, **more}
    return Event(EventName.CALL_MADE, JOB, endpoint, account, "k", 1, 1, **said)


def rejected(reason: str) -> Event:
    return Event(EventName.SEND_REJECTED, JOB, key="k", row=1, reason=reason)


def test_reasons_are_kept_over_time() -> None:
    clock = Clock()
    chronicle = Chronicle(wall=clock)
    for second in range(4):
        clock.now = 1000.0 + second
        for _ in range(second):
            chronicle(rejected("HTTP 400"))
    chronicle(Event(EventName.SEND_UNKNOWN, JOB, key="k", row=1, reason="timeout"))
    history = chronicle.history()
    assert history.reasons_over_time == {"rejected: HTTP 400": [0, 1, 2, 3], "unknown: timeout": [0, 0, 0, 1]}
    assert history.until == 1003.0


def test_of_many_reasons_the_most_frequent_are_kept_and_the_rest_is_counted() -> None:
    clock = Clock()
    chronicle = Chronicle(wall=clock)
    for number in range(2 * REASONS_MOST):
        for _ in range(number % 7 + 1):
            chronicle(rejected(f"reason {number}"))
    history = chronicle.history()
    assert len(history.reasons_over_time) <= REASONS_SHOWN + 1
    assert sum(map(sum, history.reasons_over_time.values())) == sum(history.rejected) == sum(history.reasons.values())


def test_nothing_is_lost_when_the_axis_grows_coarser() -> None:
    clock = Clock()
    chronicle = Chronicle(wall=clock)
    for second in range(5 * SLOTS_MOST):
        clock.now = 1000.0 + second
        chronicle(rejected("HTTP 400"))
        chronicle(call())
    history = chronicle.history()
    over_time = history.reasons_over_time["rejected: HTTP 400"]
    assert len(over_time) == len(history.accepted) <= SLOTS_MOST
    assert sum(over_time) == 5 * SLOTS_MOST
    assert over_time == history.rejected == history.endpoints["x.launch"].calls


def test_accounts_and_the_time_of_calls_are_kept_by_endpoint() -> None:
    clock = Clock()
    chronicle = Chronicle(wall=clock)
    clock.now = 1002.0
    chronicle(call("a"))
    chronicle(call("b"))
    clock.now = 1007.5
    chronicle(call("b"))
    chronicle(call("b", "x.create", duration_s=None, status=None, reason="timeout"))
    launch, create = (chronicle.history().endpoints[name] for name in ("x.launch", "x.create"))
    assert (launch.accounts, launch.busiest, launch.first_s, launch.last_s) == (2, 2, 1.75, 7.5)
    assert (create.accounts, create.busiest, create.first_s, create.last_s) == (1, 1, 7.5, 7.5)


def test_what_a_run_had_before_it_is_kept() -> None:
    chronicle = Chronicle(wall=Clock())
    assert (chronicle.history().sends, chronicle.history().settled) == (None, None)
    chronicle(Event(EventName.RUN_STARTED, JOB, count=100, settled=40))
    chronicle(Event(EventName.PREPARE_REUSED, JOB, "x.create", "a"))
    history = chronicle.history()
    assert (history.sends, history.settled, history.reused) == (100, 40, 1)
