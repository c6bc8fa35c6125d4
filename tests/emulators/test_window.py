"""The limit's text, and the window against a count by brute force."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulksend.emulators.window import Limit, Rate, Window, parse_limit


@pytest.mark.parametrize(
    ("text", "rates"),
    [
        ("6000/min", [(6000, 60)]),
        ("600/6s", [(600, 6)]),
        ("30/min", [(30, 60)]),
        ("12000/min", [(12000, 60)]),
        ("100/s", [(100, 1)]),
        ("5/2s", [(5, 2)]),
        ("5/2sec", [(5, 2)]),
        ("3/0.5s", [(3, 0.5)]),
        ("1000/h", [(1000, 3600)]),
        ("300/min, 10/s", [(300, 60), (10, 1)]),
        (" 300 / min,10/ 2 s ", [(300, 60), (10, 2)]),
    ],
)
def test_limit_text(text: str, rates: list[tuple[int, float]]) -> None:
    assert parse_limit(text) == Limit(text.strip(), tuple(Rate(*rate) for rate in rates))


@pytest.mark.parametrize("text", ["", "6000", "6000/day", "0/min", "5/0s", "-1/min", "5/min,", "5/min 3/s", "1.5/s"])
def test_bad_limit_text_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="limit") as caught:
        parse_limit(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        # The call exactly one window later is admitted: the window is open at its old end.
        ("2/10s", [(0, True), (1, True), (9, False), (9.999, False), (10, True), (10.5, False), (11, True)]),
        # What was refused is not counted.
        ("1/10s", [(0, True), *[(each, False) for each in range(1, 10)], (10, True)]),
        # A call that the second rate refuses uses up nothing of the first.
        ("3/60s, 1/1s", [(0, True), (0.5, False), (1, True), (1.5, False), (2, True), (3, False), (60, True)]),
    ],
)
def test_admission(text: str, calls: list[tuple[float, bool]]) -> None:
    window = Window(parse_limit(text))
    assert [(at_s, window.admit(at_s)) for at_s, _ in calls] == calls


def test_wait_remaining_and_maximum() -> None:
    window = Window(parse_limit("3/60s, 2/1s"))
    assert (window.wait_s(0), window.remaining(0), window.max_in_window) == (0, 2, (0, 0))
    assert window.admit(0)
    assert window.admit(0.25)
    assert (window.wait_s(0.5), window.remaining(0.5)) == (0.5, 0)
    assert window.admit(2)
    assert (window.wait_s(10), window.remaining(10)) == (50, 0)
    assert (window.wait_s(100), window.remaining(100)) == (0, 2)
    assert window.max_in_window == (3, 2)


# Eighths of a second are exact in binary, so that both ways of counting agree on the ends of a window.
_EIGHTHS = st.integers(0, 40)
_RATES = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 80)), min_size=1, max_size=3)


@given(_RATES, st.lists(_EIGHTHS, max_size=60))
def test_window_is_a_brute_force_count(rates: list[tuple[int, int]], gaps: list[int]) -> None:
    limit = Limit("", tuple(Rate(calls, eighths / 8) for calls, eighths in rates))
    window = Window(limit)
    admitted: list[float] = []
    most = [0] * len(rates)
    now_s = 0.0
    for gap in gaps:
        now_s += gap / 8
        held = [sum(now_s - rate.seconds < at_s <= now_s for at_s in admitted) for rate in limit.rates]
        expected = all(count < rate.calls for count, rate in zip(held, limit.rates, strict=True))
        wait_s = window.wait_s(now_s)
        assert (wait_s == 0) == expected
        assert window.remaining(now_s) == min(rate.calls - count for count, rate in zip(held, limit.rates, strict=True))
        assert window.admit(now_s) == expected
        if expected:
            admitted.append(now_s)
            most = [max(old, count + 1) for old, count in zip(most, held, strict=True)]
        else:
            later = now_s + wait_s
            assert all(
                sum(later - rate.seconds < at_s <= later for at_s in admitted) < rate.calls for rate in limit.rates
            )
    assert window.max_in_window == tuple(most)
