"""What is counted for the page of a load test: the fullest windows, when calls left and ended, latency's curve."""

from __future__ import annotations

import pytest

from bulksend.loadtest.bracket import Bracket, most_accepted
from bulksend.loadtest.fullest import Fullest
from bulksend.loadtest.latency import Histogram
from bulksend.loadtest.shot import Shot
from bulksend.loadtest.tally import SLOTS_MOST, Tally
from bulksend.loadtest.trial import Mark
from bulksend.model import Accepted, Limit, NotSent, Outcome, Throttled


def test_the_fullest_window_is_told_of_what_was_sent_and_of_what_was_accepted() -> None:
    fullest = Fullest(Limit.parse("10/s, 100/min"), 16.0)
    for number in range(32):  # 16 a second, of which the vendor takes every second one
        fullest.left("one", number / 16)
        outcome: Outcome = Throttled(429) if number % 2 else Accepted()
        fullest.ended(Shot(number / 16, number / 16 + 0.25, outcome, account="one"))
    for number in range(15):
        fullest.left("other", 3.0 + number / 15)
    assert fullest.told() == [
        {"window": "10/s", "allowed": 10, "sent": 16, "accepted": 8},
        {"window": "100/min", "allowed": 100, "sent": 32, "accepted": 16},
    ]


def test_far_above_the_limit_a_window_takes_no_more_room() -> None:
    fullest = Fullest(Limit.parse("30/min"), 10_000.0)
    for number in range(30_000):
        fullest.left("one", number / 500)
    (window,) = fullest._left["one"]
    assert 30_000 <= window.most <= 30_010
    assert len(window._slots) <= 6002


def test_what_was_accepted_within_a_window_is_counted_from_leaving_to_reply() -> None:
    marks = [Mark(number / 10, number / 10 + 0.05) for number in range(30)]
    assert most_accepted(Bracket(10, 0.98, 1.02), marks) == 10
    assert most_accepted(Bracket(10, 0.94, 1.02), marks) == 9, "the tenth may have been counted after that"
    assert most_accepted(Bracket(10, 0.98, 1.02), []) == 0


def test_the_timeline_tells_when_calls_left_and_ended() -> None:
    tally = Tally()
    for number in range(4):
        due_s = number / 2
        tally.planned(due_s, 0)
        outcome: Outcome = Throttled(429) if number == 3 else Accepted()
        tally.ended(Shot(100.0 + due_s + 1.0, 100.0 + due_s + 2.2, outcome), due_s, 100.0)
    tally.planned(1.9, 0)
    tally.ended(Shot(None, 105.9, NotSent("no connection")), 1.9, 100.0)
    line = tally.timeline()
    assert line.planned == [2, 3, 0, 0, 0, 0][: len(line.planned)]
    assert line.left == [0, 2, 2, 0][: len(line.left)]
    assert line.replied == [0, 0, 2, 2]
    assert line.told == [0, 0, 0, 1]
    assert (line.due_until_s, line.until_s) == (1.9, pytest.approx(5.9))


def test_when_slots_grow_nothing_is_lost_and_latency_stays_where_it_was_due() -> None:
    """The reply of the last call doubles the width of all slots, while that call is being counted."""
    tally = Tally()
    for number in range(SLOTS_MOST):
        tally.planned(float(number), 0)
        took_s = 3.0 if number == SLOTS_MOST - 1 else 0.5
        tally.ended(Shot(float(number), number + took_s, Accepted()), float(number))
    line = tally.timeline()
    assert line.slot_s == 2.0
    assert sum(line.planned) == sum(line.left) == sum(line.replied) == SLOTS_MOST
    assert line.max_ms[SLOTS_MOST // 2 - 1] == pytest.approx(3000, rel=0.02)


def test_the_curve_of_latencies_goes_as_far_as_there_are_calls() -> None:
    histogram = Histogram()
    assert histogram.curve_ms() == []
    for number in range(1, 1001):
        histogram.add(number / 1000)
    curve = histogram.curve_ms()
    percents = [percent for percent, _ in curve]
    assert percents == sorted(set(percents))
    assert dict(curve)[0.0] == pytest.approx(1.0)
    assert dict(curve)[50.0] == histogram.percentile_ms(50.0) == pytest.approx(500, rel=0.002)
    assert dict(curve)[100.0] == histogram.percentile_ms(100.0)
    assert [ms for _, ms in curve] == sorted(ms for _, ms in curve)
    histogram._counts.record_value(1, 10**8)
    assert len(histogram.curve_ms()) < 150
