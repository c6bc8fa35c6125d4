"""The search for a limit against strict sliding windows, in simulated time."""

from __future__ import annotations

import pytest

from bulksend.loadtest.bracket import Bracket
from bulksend.loadtest.trial import roundest
from bulksend.model import Limit, Window
from tests.loadtest.rig import FixedWindows, Vendor, search


def check(limit: str, found: Limit | None) -> None:
    """Every window within 2 %, calls and period; the longest first."""
    assert found is not None
    wanted = sorted(Limit.parse(limit).windows, key=lambda one: -one.period_s)
    assert len(found.windows) == len(wanted), str(found)
    for one, other in zip(found.windows, wanted, strict=True):
        assert one.calls == pytest.approx(other.calls, rel=0.02)
        assert one.period_s == pytest.approx(other.period_s, rel=0.02)


@pytest.mark.parametrize("retry_after", [False, True])
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("limit", "top_per_s", "hold_s"),
    [
        ("6000/min", 200, 120),
        ("600/6s", 300, 10),
        ("30/min", 10, 120),
        ("30/3s", 40, 6),
        ("1/s", 10, 10),
        ("97/7s", 40, 10),
        ("300/min, 10/s", 40, 120),
        ("100/min, 10/s", 30, 120),
        ("40/4s, 10/0.5s", 60, 8),
    ],
)
def test_the_limit_is_found(limit: str, top_per_s: float, hold_s: float, seed: int, retry_after: bool) -> None:
    vendor = Vendor(limit, latency_s=0.004, jitter_s=0.002, retry_after=retry_after, seed=seed)
    found, _ = search(vendor, top=top_per_s, hold_s=hold_s)
    assert (found.ended, found.is_whole) == (None, True)
    check(limit, found.limit)
    assert found.throttled == vendor.throttled < 40
    assert found.calls == vendor.calls
    slowest = min(one.calls / one.period_s for one in Limit.parse(limit).windows)
    assert found.held_per_s is not None
    assert 0.93 * slowest < found.held_per_s <= slowest


@pytest.mark.parametrize("seed", range(4))
def test_a_way_that_varies_makes_the_bracket_wider_and_never_wrong(seed: int) -> None:
    vendor = Vendor("60/20s", latency_s=0.05, jitter_s=0.1, stall_s=0.4, seed=seed)
    found, _ = search(vendor, top=20, hold_s=30)
    assert found.ended is None
    (bracket,) = found.windows
    assert bracket.calls == 60
    assert bracket.low_s < 20 <= bracket.high_s


def test_a_bracket_that_is_wide_is_told_by_its_longer_end() -> None:
    assert Bracket(600, 4.7, 6.2).window == Window(600, 6.2)  # and not 5 s, the roundest in it
    assert Bracket(600, 5.95, 6.04).window == Window(600, 6.0)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("limit", "top_per_s", "hold_s"),
    [("20/min, 10/s", 30, 120), ("10/1s, 4/0.25s", 40, 5), ("20/10s, 8/s", 100, 20), ("16/60s, 8/6s", 6, 120)],
)
def test_a_short_window_that_never_decides_is_found_too(limit: str, top_per_s: float, hold_s: float, seed: int) -> None:
    """At an even pace the longer one is full first; a burst would meet the shorter one."""
    found, _ = search(Vendor(limit, latency_s=0.004, jitter_s=0.002, seed=seed), top=top_per_s, hold_s=hold_s)
    assert found.ended is None
    check(limit, found.limit)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("limit", "top_per_s", "hold_s"), [("600/6s", 300, 10), ("30/3s", 40, 6), ("97/7s", 40, 10), ("10/s", 40, 5)]
)
def test_a_vendor_with_fixed_windows_gives_no_limit_rather_than_one_that_is_too_high(
    limit: str, top_per_s: float, hold_s: float, seed: int
) -> None:
    found, took_s = search(
        FixedWindows(limit, latency_s=0.004, jitter_s=0.002, seed=seed), top=top_per_s, hold_s=hold_s
    )
    assert found.limit is None
    assert found.ended is not None
    assert "does not seem to count in sliding windows" in found.ended
    assert took_s < 3600


def test_no_limit_up_to_the_highest_rate() -> None:
    vendor = Vendor("1000/s")
    found, took_s = search(vendor, top=20, hold_s=30)
    assert (found.limit, found.ended, found.throttled, found.is_whole) == (None, None, 0, False)
    assert took_s < 60
    assert found.held_per_s == pytest.approx(20, rel=0.02)


def test_a_rate_that_was_not_reached_is_not_said_to_be_allowed() -> None:
    found, _ = search(Vendor("1000/s", latency_s=2.0), top=100, hold_s=30)  # 32 at once, two seconds each
    assert found.limit is None
    assert found.ended is not None
    assert "was reached" in found.ended


def test_the_budget_is_kept_and_what_is_known_is_told() -> None:
    vendor = Vendor("600/6s", latency_s=0.2)
    found, _ = search(vendor, top=300, hold_s=10, budget=5)
    assert found.ended is not None
    assert "budget of 5" in found.ended
    assert vendor.throttled <= 5 + 32  # and those that were under way


def test_a_window_longer_than_it_may_look_is_said_to_be() -> None:
    found, took_s = search(Vendor("1000/24h", latency_s=0.004), top=50, hold_s=20)
    assert found.ended is not None
    assert "longer" in found.ended
    assert found.windows[0].calls == 1000
    assert took_s < 600


def test_the_rate_rises_in_steps() -> None:
    vendor = Vendor("1000/s")
    found, took_s = search(vendor, top=64, hold_s=1, from_per_s=1)
    assert found.limit is None
    assert took_s > 8 * (1 + 1 / 2 + 1 / 4 + 1 / 8)


@pytest.mark.parametrize(
    ("above_s", "most_s", "period_s"),
    [
        (59.6, 60.2, 60.0),
        (3590, 3620, 3600.0),
        (5.97, 6.02, 6.0),
        (6.91, 7.02, 7.0),
        (0.246, 0.255, 0.25),
        (1.49, 1.51, 1.5),
        (0.4869, 0.4874, 0.487),
        (0.48711, 0.48713, 0.48713),
        (60.0, 60.3, 60.3),
    ],
)
def test_periods_are_told_in_round_figures(above_s: float, most_s: float, period_s: float) -> None:
    assert roundest(above_s, most_s) == pytest.approx(period_s)
