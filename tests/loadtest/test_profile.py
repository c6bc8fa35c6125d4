"""When calls are due: tables, and the rate that comes of them."""

from __future__ import annotations

from itertools import pairwise

import pytest

from bulksend.loadtest.profile import Profile, parse_rate


@pytest.mark.parametrize(
    ("text", "per_s"), [("6000/min", 100.0), ("100/s", 100.0), ("30 / min", 0.5), ("1,200/h", 1 / 3), ("600/6s", 100.0)]
)
def test_a_rate(text: str, per_s: float) -> None:
    assert parse_rate(text) == pytest.approx(per_s)


@pytest.mark.parametrize("text", ["", "6000", "fast", "0/min", "100/min, 10/s", "10/fortnight"])
def test_not_a_rate(text: str) -> None:
    with pytest.raises(ValueError, match="rate"):
        parse_rate(text)


def test_a_constant_rate_is_even_and_ends_before_its_end() -> None:
    profile = Profile(100.0, 2.0)
    due = list(profile.due_times_s())
    assert (len(due), profile.calls) == (200, 200)
    assert due[0] == 0.0
    assert due[-1] == pytest.approx(1.99)
    assert all(after - before == pytest.approx(0.01) for before, after in pairwise(due))


@pytest.mark.parametrize(
    ("begin", "end", "duration", "calls"), [(0.5, 10.0, 4.0, 21), (10.0, 10.0, 3.0, 30), (20.0, 0.5, 4.0, 41)]
)
def test_a_ramp_keeps_its_rate_at_every_moment(begin: float, end: float, duration: float, calls: int) -> None:
    profile = Profile(end, duration, begin)
    due = list(profile.due_times_s())
    assert len(due) == calls
    assert due == sorted(due)
    assert due[-1] < duration
    for number, at in enumerate(due):  # so many calls as the rate has added up to
        assert begin * at + (end - begin) * at**2 / (2 * duration) == pytest.approx(number, abs=1e-6)


def test_rounding_adds_no_call() -> None:
    assert Profile(100 / 60, 60.0).calls == 100
    assert Profile(0.1, 30.0).calls == 3
