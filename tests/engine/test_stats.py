"""What the calls of a run amount to."""

from __future__ import annotations

import math
from statistics import quantiles

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulksend.engine.stats import STEPS_PER_DOUBLING, EndpointStats, Latencies
from bulksend.model import Limit


@given(durations=st.lists(st.floats(1e-5, 1e4), min_size=1, max_size=300), share=st.floats(0.01, 1.0))
def test_percentile_is_within_one_bucket(durations: list[float], share: float) -> None:
    latencies = Latencies()
    for seconds in durations:
        latencies.add(seconds)
    exact_ms = sorted(durations)[math.ceil(len(durations) * share) - 1] * 1000
    found = latencies.percentile_ms(share)
    assert found is not None
    assert found == pytest.approx(exact_ms, rel=0.023, abs=0.06)


@given(seconds=st.floats(1e-6, 1e6))
def test_the_buckets_are_those_of_the_logarithm(seconds: float) -> None:
    latencies = Latencies()
    latencies.add(seconds)
    number = math.log2(seconds) * STEPS_PER_DOUBLING
    if abs(number % 1 - 0.5) > 1e-9:
        assert latencies.percentile_ms(1.0) == round(2 ** (round(number) / STEPS_PER_DOUBLING) * 1000, 1)


@given(durations=st.lists(st.floats(0, 1e3), max_size=1500), cut=st.integers(0, 1500), asked=st.booleans())
def test_what_is_counted_apart_and_merged_is_as_counted_together(durations: list[float], cut: int, asked: bool) -> None:
    whole, one, other = Latencies(), Latencies(), Latencies()
    for number, seconds in enumerate(durations):
        whole.add(seconds)
        (one if number < cut else other).add(seconds)
        if asked and number % 100 == 0:
            one.percentile_ms(0.5)
    one.merge(other)
    assert one.count == whole.count == len(durations)
    assert [one.percentile_ms(share / 10) for share in range(11)] == [
        whole.percentile_ms(share / 10) for share in range(11)
    ]


def test_a_latency_beyond_all_buckets_is_counted() -> None:
    latencies = Latencies()
    latencies.add(1e12)
    assert latencies.percentile_ms(0.99) == pytest.approx(2**20 * 1000)


def test_percentiles_without_calls_are_none() -> None:
    assert Latencies().percentile_ms(0.5) is None


def test_known_percentiles() -> None:
    latencies = Latencies()
    durations = [number / 1000 for number in range(1, 1001)]
    for seconds in durations:
        latencies.add(seconds)
    assert latencies.count == 1000
    cuts = quantiles(durations, n=100)
    assert latencies.percentile_ms(0.5) == pytest.approx(cuts[49] * 1000, rel=0.03)
    assert latencies.percentile_ms(0.99) == pytest.approx(cuts[98] * 1000, rel=0.03)


@pytest.mark.parametrize("seconds", [0.0, -1.0, 1e-9])
def test_a_latency_of_nothing_is_counted(seconds: float) -> None:
    latencies = Latencies()
    latencies.add(seconds)
    assert latencies.percentile_ms(0.99) == 0.0


def test_memory_of_latencies_is_constant() -> None:
    latencies = Latencies()
    for number in range(100_000):
        latencies.add(0.02 + number * 1e-6)
    assert len(latencies._buckets) < 64


def test_before_the_first_call() -> None:
    stats = EndpointStats(Limit.parse("6000/min"))
    assert stats.summary() == {
        "limit": "6000/min",
        "calls": 0,
        "throttled": 0,
        "max_in_window": 0,
        "utilization": None,
        "p50_ms": None,
        "p99_ms": None,
    }


def test_windows_are_counted_per_account_and_the_fullest_is_told() -> None:
    stats = EndpointStats(Limit.parse("30/min"))
    for number in range(10):
        stats.left("acme", number)
    for number in range(10, 14):
        stats.left("blue", number)
    assert (stats.calls, stats.max_in_window) == (14, 10)
    assert (stats.first_at_s, stats.last_at_s) == (0, 13)


def test_of_several_windows_the_first_is_proved() -> None:
    stats = EndpointStats(Limit.parse("300/min, 10/s"))
    for number in range(40):
        stats.left("acme", number * 0.1)
    assert stats.max_in_window == 40


def test_utilization_is_the_rate_between_first_and_last_call() -> None:
    stats = EndpointStats(Limit.parse("6000/min"))
    stats.left("acme", 100.0)
    assert stats.utilization is None
    for number in range(1, 201):
        stats.left("acme", 100.0 + number * 0.02)
    assert stats.utilization == pytest.approx(0.5)


def test_utilization_is_the_busiest_accounts() -> None:
    stats = EndpointStats(Limit.parse("100/s"))
    for number in range(201):
        stats.left("acme", number * 0.02)
        stats.left("blue", number * 0.02)
    assert stats.utilization == pytest.approx(0.5)


def test_utilization_of_several_windows_is_of_the_tightest() -> None:
    stats = EndpointStats(Limit.parse("300/min, 10/s"))
    for number in range(11):
        stats.left("acme", number * 1.0)
    assert stats.utilization == pytest.approx(0.2)


def test_a_run_under_a_second_is_set_against_a_whole_second_and_never_passes_one() -> None:
    stats = EndpointStats(Limit.parse("100/s"))
    for _ in range(11):
        stats.left("acme", 5.0)
    assert stats.utilization == pytest.approx(0.1)
    for _ in range(500):
        stats.left("acme", 5.1)
    assert stats.utilization == 1.0


def test_replies_are_counted_apart_from_departures() -> None:
    stats = EndpointStats(Limit.parse("100/s"))
    stats.left("acme", 1.0)
    stats.answered(0.25, 1.25)
    stats.answered(0.25, 1.1)
    assert (stats.calls, stats.latencies.count, stats.last_reply_at_s) == (1, 2, 1.25)
    assert stats.summary()["p50_ms"] == pytest.approx(250, rel=0.03)


@pytest.mark.parametrize(("limit", "every_s"), [("60/min", 1.0), ("30/min", 2.0), ("10/s", 0.1)])
def test_a_sample_of_an_endpoint_that_runs_at_its_limit_is_about_all_of_it(limit: str, every_s: float) -> None:
    """However few calls fall between two samples, 0.8 s apart."""
    stats = EndpointStats(Limit.parse(limit))
    shares = []
    calls = 0
    for number in range(1, 200):
        now_s = 100.0 + number * 0.8
        while 100.0 + calls * every_s <= now_s:
            stats.left("acme", 100.0 + calls * every_s)
            calls += 1
        shares.append(stats.sample(now_s))
    assert min(shares[20:]) > 0.85
    assert max(shares[20:]) < 1.2
