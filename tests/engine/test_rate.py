"""The arithmetic of limits, as tables and against brute force."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bulksend.engine.rate import COARSE_SLOTS, WindowCount, bucket_of, jitter_margin_s, spread_s
from bulksend.model import Limit, Window


@pytest.mark.parametrize(
    ("limit", "burst", "rate_per_s", "lateness_s"),
    [
        # A burst of ten takes longer than a timer may be late: nothing extra is kept back.
        ("6000/min", 10, 5991 / 60.05, 9 / (5991 / 60.05)),
        ("600/6s", 6, 595 / 6.05, 5 / (595 / 6.05)),
        ("200/min", 2, 199 / 60.05, 1 / (199 / 60.05)),
        # One at a time: the timer's lateness is margin.
        ("30/min", 1, 30 / 60.07, 0.02),
        ("1/s", 1, 1 / 1.07, 0.02),
        ("199/min", 1, 199 / 60.07, 0.02),
        # The smallest burst and the smallest rate of several windows.
        ("300/min, 10/s", 1, 300 / 60.07, 0.02),
        ("6000/min, 600/6s", 6, 595 / 6.05, 5 / (595 / 6.05)),
        # Fast enough that two tokens fall due within a timer's lateness.
        ("200/s", 2, 199 / (1.05 + 0.02 - 1.05 / 199), None),
    ],
)
def test_bucket_of_documented_limits(limit: str, burst: int, rate_per_s: float, lateness_s: float | None) -> None:
    bucket = bucket_of(Limit.parse(limit), 0.05)
    assert bucket.burst == burst
    assert bucket.rate_per_s == pytest.approx(rate_per_s, rel=1e-12)
    if lateness_s is not None:
        assert bucket.lateness_s == pytest.approx(lateness_s, rel=1e-12)


windows = st.builds(Window, st.integers(1, 100_000), st.floats(0.5, 86_400))


@given(limit=st.builds(Limit, st.lists(windows, min_size=1, max_size=3).map(tuple)), margin_s=st.floats(0.05, 0.2))
def test_no_bucket_can_put_more_than_n_into_a_window(limit: Limit, margin_s: float) -> None:
    """Calls that arrive within T left within T + margin, and their tokens fell due within that and the lateness."""
    bucket = bucket_of(limit, margin_s)
    assert bucket.burst >= 1
    assert bucket.rate_per_s > 0
    assert bucket.lateness_s >= 0.02 - 1e-9
    for window in limit.windows:
        span_s = window.period_s + margin_s + bucket.lateness_s
        assert bucket.rate_per_s * span_s <= window.calls * (1 + 1e-9)
        of_a_tick = math.ceil(window.calls / window.period_s * 0.002)
        assert bucket.burst <= max(1, min(window.calls // 100, max(10, of_a_tick)))


def test_close_to_the_limit() -> None:
    """At least 99.5 % of 6000/min is used, and 97 % where the window is only 6 s."""
    assert bucket_of(Limit.parse("6000/min"), 0.05).rate_per_s >= 0.995 * 100
    assert bucket_of(Limit.parse("600/6s"), 0.05).rate_per_s >= 0.97 * 100


@pytest.mark.parametrize(
    ("spread", "limited", "period_s", "margin_s"),
    [
        (0.0, 0, 60, 0.05),
        (0.05, 0, 60, 0.05),
        (0.051, 0, 60, 0.075),
        (0.0751, 0, 60, 0.1),
        (0.12, 0, 60, 0.15),
        (0.151, 0, 60, 0.2),
        (9.0, 0, 60, 0.2),
        # Each 429 within our count doubles it, up to a twentieth of the window …
        (0.0, 1, 60, 0.1),
        (0.0, 3, 60, 0.4),
        (0.0, 6, 60, 3.0),
        (0.0, 1_000_000, 60, 3.0),
        # … and never below 200 ms.
        (0.0, 50, 1, 0.2),
        (9.0, 1, 6, 0.3),
    ],
)
def test_margin_for_jitter(spread: float, limited: int, period_s: float, margin_s: float) -> None:
    assert jitter_margin_s(spread, limited, period_s) == pytest.approx(margin_s)


@pytest.mark.parametrize(
    ("durations_s", "spread"),
    [
        ([], 0.0),
        ([0.3], 0.0),
        ([0.1, 0.3], 0.2),
        # Of 100, the two slowest do not count; of 50, the slowest does not.
        ([*[0.1] * 97, 0.2, 5.0, 9.0], 0.1),
        ([*[0.1] * 48, 0.15, 9.0], 0.05),
        ([9.0, 0.2, 0.1], 8.9),
    ],
)
def test_spread_is_the_98th_percentile_less_the_shortest(durations_s: list[float], spread: float) -> None:
    assert spread_s(durations_s) == pytest.approx(spread)


def most_in_any_window(times: list[float], period_s: float) -> int:
    """Count by brute force over half-open windows (t - T, t]."""
    return max((sum(at - period_s < other <= at for other in times) for at in times), default=0)


# Eighths of a second are exact in binary: a call that comes exactly one window later is told apart.
steps = st.lists(st.one_of(st.integers(0, 4), st.integers(0, 100)), max_size=80)


@given(gaps=steps, period=st.integers(1, 80))
def test_window_count_is_exact(gaps: list[int], period: int) -> None:
    count = WindowCount(Window(5, period / 8))
    times, at = [], 0
    for gap in gaps:
        at += gap
        times.append(at / 8)
        count.add(at / 8)
    assert count.most == most_in_any_window(times, period / 8)


def test_a_call_exactly_one_window_later_is_in_the_next_window() -> None:
    count = WindowCount(Window(20_000, 60.0))
    for at_s in (0.0, 30.0, 60.0):
        count.add(at_s)
    assert count.most == 2
    count.add(89.999)
    assert count.most == 3


@given(gaps=st.lists(st.floats(0, 40), min_size=1, max_size=80), began=st.floats(0, 1e6))
def test_above_20_000_calls_the_count_is_bounded_from_both_sides(gaps: list[float], began: float) -> None:
    """Rounded to a 6,000th of the window: never fewer than there were, never more than in a slightly longer one."""
    window = Window(20_001, 60.0)
    step_s = window.period_s / COARSE_SLOTS
    count = WindowCount(window)
    times, at_s = [], began
    for gap in gaps:
        at_s += gap
        times.append(at_s)
        count.add(at_s)
    assert count.most >= most_in_any_window(times, window.period_s)
    assert count.most <= most_in_any_window(times, window.period_s + 2.01 * step_s)


def test_above_20_000_calls_memory_is_bounded() -> None:
    count = WindowCount(Window(100_000, 60.0))
    for number in range(50_000):
        count.add(number * 0.0015)
    assert len(count._slots) <= COARSE_SLOTS + 2
    assert count.most == pytest.approx(60.0 / 0.0015, rel=0.001)


@given(at_s=st.floats(0, 1e9), period_s=st.floats(0.5, 1e5))
def test_one_call_is_one_call(at_s: float, period_s: float) -> None:
    assume(math.isfinite(at_s))
    count = WindowCount(Window(1_000_000, period_s))
    count.add(at_s)
    assert count.most == 1
