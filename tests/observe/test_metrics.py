"""The instruments: every value follows from the events, and no label takes more values than a few."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Iterable
from itertools import pairwise

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

import bulksend
from bulksend.engine.stats import EndpointStats
from bulksend.event import Event, EventName
from bulksend.model import Limit
from bulksend.observe.metrics import INSTRUMENTS, Distribution, Kind, Meter
from bulksend.observe.prometheus import FromMeter

LAUNCH = "insider.launch"


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self, at: float) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at


def metered(*events: Event, wall: Clock | None = None, clock: Clock | None = None) -> Meter:
    meter = Meter(wall=wall or Clock(1000.0), clock=clock or Clock(5.0), version="1.2.3")
    for event in events:
        meter(event)
    return meter


def values(meter: Meter) -> dict[str, float]:
    """Return the samples as a scraper reads them, by name and labels; those that are 0 left out."""
    found = {}
    for family in text_string_to_metric_families(FromMeter(meter).text().decode()):
        for one in family.samples:
            labels = ",".join(f"{name}={text}" for name, text in sorted(one.labels.items()))
            if one.value:
                found[f"{one.name}{{{labels}}}" if labels else one.name] = one.value
    del found["bulksend_build_info{version=1.2.3}"]
    return found


def event(name: EventName, **fields: object) -> Event:
    return Event(name, "spring-sale-2026-04-01", **fields)  # type: ignore[arg-type]


def called(status: int | None, duration_s: float | None = None, wait_s: float = 0.0, endpoint: str = LAUNCH) -> Event:
    return event(
        EventName.CALL_MADE,
        endpoint=endpoint,
        account="brand-7",
        key="0007",
        status=status,
        duration_s=duration_s,
        wait_s=wait_s,
        reason=None if status else "the connection was reset",
    )


def test_calls_are_counted_by_class_of_status() -> None:
    statuses = [200, 204, 301, 400, 404, 429, 429, 500, 503, 599, None, 999]
    found = values(metered(*(called(status) for status in statuses), called(200, endpoint="insider.create")))
    assert found == {
        "bulksend_calls_total{endpoint=insider.create,status=2xx}": 1,
        "bulksend_calls_total{endpoint=insider.launch,status=2xx}": 2,
        "bulksend_calls_total{endpoint=insider.launch,status=3xx}": 1,
        "bulksend_calls_total{endpoint=insider.launch,status=4xx}": 2,
        "bulksend_calls_total{endpoint=insider.launch,status=429}": 2,
        "bulksend_calls_total{endpoint=insider.launch,status=5xx}": 4,
        "bulksend_calls_total{endpoint=insider.launch,status=none}": 1,
    }


def test_latency_and_waiting_fall_into_buckets_a_bound_within_its_own() -> None:
    meter = metered(
        called(200, 0.004, 0.001), called(200, 0.005, 0.0011), called(429, 0.2, 70.0), called(200, 31.0, 0.0),
        called(None, None, 30.0),
    )  # fmt: skip
    found = values(meter)
    latency = "bulksend_call_duration_seconds"
    assert found[f"{latency}_count{{endpoint={LAUNCH}}}"] == 4
    assert found[f"{latency}_sum{{endpoint={LAUNCH}}}"] == pytest.approx(31.209)
    within = {"0.005": 2, "0.1": 2, "0.25": 3, "30.0": 3, "+Inf": 4}
    assert {le: found[f"{latency}_bucket{{endpoint={LAUNCH},le={le}}}"] for le in within} == within
    # What was not answered waited for nobody knows how much of its time.
    wait = "bulksend_limiter_wait_seconds"
    assert found[f"{wait}_count{{endpoint={LAUNCH}}}"] == 4
    assert found[f"{wait}_sum{{endpoint={LAUNCH}}}"] == pytest.approx(70.0021)
    within = {"0.001": 2, "0.0025": 3, "60.0": 3, "+Inf": 4}
    assert {le: found[f"{wait}_bucket{{endpoint={LAUNCH},le={le}}}"] for le in within} == within


def test_sends_by_outcome_and_retries() -> None:
    names = [EventName.SEND_ACCEPTED] * 3 + [EventName.SEND_REJECTED] * 2 + [EventName.SEND_UNKNOWN]
    retried = event(EventName.SEND_RETRIED, endpoint=LAUNCH, key="1", status=429, attempt=1)
    assert values(metered(*(event(name, key="1", endpoint=LAUNCH) for name in names), retried)) == {
        "bulksend_sends_total{outcome=accepted}": 3,
        "bulksend_sends_total{outcome=rejected}": 2,
        "bulksend_sends_total{outcome=unknown}": 1,
        "bulksend_retries_total{endpoint=insider.launch}": 1,
    }


def test_an_endpoint_is_down_for_so_many_accounts() -> None:
    meter = metered()

    def after(name: EventName, account: str) -> float:
        meter(event(name, endpoint=LAUNCH, account=account))
        return values(meter)[f"bulksend_down_accounts{{endpoint={LAUNCH}}}"]

    assert after(EventName.ENDPOINT_DOWN, "a") == 1
    assert after(EventName.ENDPOINT_DOWN, "a") == 1  # it has failed once more
    assert after(EventName.ENDPOINT_DOWN, "b") == 2
    assert after(EventName.ENDPOINT_UP, "a") == 1
    meter(event(EventName.RUN_STOPPED, exit_code=75))
    assert f"bulksend_down_accounts{{endpoint={LAUNCH}}}" not in values(meter)
    assert after(EventName.ENDPOINT_DOWN, "a") == 1


def test_a_pause_counts_once_and_one_told_within_it_by_what_it_adds() -> None:
    clock = Clock(100.0)
    meter = metered(clock=clock)

    def paused(seconds: float, account: str = "a") -> None:
        meter(event(EventName.LIMIT_PAUSED, endpoint=LAUNCH, account=account, duration_s=seconds))

    def counted() -> tuple[float, float]:
        found = values(meter)
        where = f"{{endpoint={LAUNCH}}}"
        return found[f"bulksend_pauses_total{where}"], found[f"bulksend_paused_seconds_total{where}"]

    paused(10.0)
    assert counted() == (1, 10.0)
    clock.at = 106.0
    paused(3.0)  # over before the first is
    assert counted() == (1, 10.0)
    paused(6.0)
    assert counted() == (1, 12.0)
    paused(6.0, account="b")
    assert counted() == (2, 18.0)
    clock.at = 112.0
    paused(1.5)
    assert counted() == (3, 19.5)


def test_gauges_hold_the_last_sample_and_nothing_is_under_way_after_the_end() -> None:
    meter = Meter(wall=Clock(1000.0), version="1.2.3")
    for share, in_flight, waiting in ((0.5, 7, 40), (0.98, 9, 30)):
        meter(
            event(
                EventName.ENDPOINT_SAMPLED, endpoint=LAUNCH, utilization=share, limit_per_s=100.0, in_flight=in_flight
            )
        )
        meter(event(EventName.RUN_SAMPLED, waiting=waiting, count=0, duration_s=0.0))
    assert values(meter) == {
        "bulksend_limit_used_ratio{endpoint=insider.launch}": 0.98,
        "bulksend_limit_calls_per_second{endpoint=insider.launch}": 100.0,
        "bulksend_in_flight_calls{endpoint=insider.launch}": 9,
        "bulksend_waiting_sends": 30,
    }
    meter(event(EventName.RUN_FINISHED, exit_code=0))
    assert values(meter) == {
        "bulksend_limit_calls_per_second{endpoint=insider.launch}": 100.0,
        "bulksend_run_finished_timestamp_seconds": 1000.0,
        "bulksend_run_success": 1,
    }


def test_the_limit_is_that_of_all_accounts_in_use_by_its_tightest_window() -> None:
    stats = EndpointStats(Limit.parse("300/min, 10/s"))
    assert stats.limit_per_s == 0
    for account, at_s in (("a", 1.0), ("a", 2.0), ("b", 2.0)):
        stats.left(account, at_s)
    assert stats.limit_per_s == 2 * 5.0


def test_commits_add_up_over_samples_and_runs() -> None:
    """A ledger tells its own sums, and the next run's begins at nothing."""

    def sampled(commits: int, took_s: float) -> Event:
        return event(EventName.RUN_SAMPLED, count=commits, duration_s=took_s)

    first = [sampled(10, 0.5), sampled(25, 1.25), event(EventName.RUN_STOPPED, exit_code=75)]
    found = values(metered(*first))
    assert (found["bulksend_ledger_commits_total"], found["bulksend_ledger_commit_seconds_total"]) == (25, 1.25)
    found = values(metered(*first, sampled(30, 2.0)))
    assert (found["bulksend_ledger_commits_total"], found["bulksend_ledger_commit_seconds_total"]) == (55, 3.25)
    found = values(metered(*first[:2], sampled(4, 0.25)))  # an end that was not told
    assert (found["bulksend_ledger_commits_total"], found["bulksend_ledger_commit_seconds_total"]) == (29, 1.5)


def test_a_segment_in_pages_and_ids() -> None:
    events = [
        event(EventName.SEGMENT_READING, count=3, settled=1),
        event(EventName.SEGMENT_PAGE, count=1000),
        event(EventName.SEGMENT_PAGE, count=17),
        event(EventName.SEGMENT_CHANGING, added=400, removed=70),
        event(EventName.SEGMENT_CHANGED, added=400),
        event(EventName.SEGMENT_CHANGED, removed=50),
        event(EventName.SEGMENT_CHANGED, removed=20),
    ]
    assert values(metered(*events)) == {
        "bulksend_segment_pages_total": 2,
        "bulksend_segment_ids_total{side=read}": 1017,
        "bulksend_segment_ids_total{side=added}": 400,
        "bulksend_segment_ids_total{side=removed}": 70,
    }


@pytest.mark.parametrize(
    ("name", "code", "success"),
    [
        (EventName.RUN_FINISHED, 0, 1),
        (EventName.RUN_FINISHED, 3, 0),
        (EventName.RUN_STOPPED, 75, 0),
        (EventName.RUN_FAILED, 1, 0),
    ],
)
def test_when_a_run_began_and_ended_and_how(name: EventName, code: int, success: int) -> None:
    wall = Clock(1000.0)
    meter = metered(event(EventName.RUN_STARTED, count=5), wall=wall)
    assert values(meter) == {"bulksend_run_started_timestamp_seconds": 1000.0}
    assert not meter.has_ended
    wall.at = 1060.5
    meter(event(name, exit_code=code))
    assert meter.has_ended
    text = FromMeter(meter).text().decode()
    assert values(meter)["bulksend_run_finished_timestamp_seconds"] == 1060.5
    assert f"bulksend_run_success {success}.0\n" in text
    # The next run has neither ended nor succeeded.
    meter(event(EventName.RUN_STARTED))
    assert values(meter) == {"bulksend_run_started_timestamp_seconds": 1060.5}
    assert "\nbulksend_run_success" not in FromMeter(meter).text().decode()


def test_the_table_is_in_order() -> None:
    for one in INSTRUMENTS:
        assert re.fullmatch(r"bulksend_[a-z_]+", one.name)
        assert not one.name.endswith("_total")
        assert set(one.labels) <= {"endpoint", "status", "outcome", "side", "version"}
        assert one.text.endswith((".", ";"))
        assert all(low < high for low, high in pairwise(one.bounds))
        assert bool(one.bounds) == (one.kind is Kind.HISTOGRAM)
        assert ("_seconds" in one.name) == (one.unit == "s")
    assert len({one.name for one in INSTRUMENTS}) == len(INSTRUMENTS)


def everything(number: int) -> Iterable[Event]:
    """Every event, with texts that differ each time."""
    for name in EventName:
        yield Event(
            name, f"job-{number}", LAUNCH, f"account-{number}", f"key-{number}", number, 1, 200 + number % 400,
            f"reason {number}", f"ref-{number}", 0.1, 0.1, 1,
        )  # fmt: skip


def test_series_do_not_grow_with_what_is_sent() -> None:
    meter = metered()
    for number in range(100):
        for one in everything(number):
            meter(one)
    few = FromMeter(meter).text()
    for number in range(100, 1000):
        for one in everything(number):
            meter(one)
    many = FromMeter(meter).text()
    assert few.count(b"\n") == many.count(b"\n")
    assert re.search(rb"job-|key-|account-|reason \d|ref-", many) is None


def test_what_is_read_does_not_change_afterwards() -> None:
    meter = metered(called(200, 0.1))
    before = dict(meter.points())
    meter(called(200, 0.1))
    kept = [value for points in before.values() for _, value in points if isinstance(value, Distribution)]
    assert [sum(one.counts) for one in kept] == [1, 1]


def test_another_thread_may_read_at_any_moment() -> None:
    """A scrape comes on a thread of its own, while calls of new endpoints and with new statuses are counted."""
    meter, done, read = metered(), threading.Event(), []

    def scrape() -> None:
        while not done.is_set():
            read.append(values(meter))

    reader = threading.Thread(target=scrape)
    reader.start()
    try:
        for number in range(20_000):
            meter(called(100 + number % 500, 0.02, endpoint=f"x.{number // 400}"))
            meter(event(EventName.SEND_ACCEPTED, key="1"))
    finally:
        done.set()
        reader.join()
    assert read
    totals = [found.get("bulksend_sends_total{outcome=accepted}", 0) for found in [*read, values(meter)]]
    assert totals == sorted(totals)
    assert totals[-1] == 20_000
    calls = {name: number for name, number in values(meter).items() if name.startswith("bulksend_calls_total")}
    assert sum(calls.values()) == 20_000


def test_an_event_costs_little() -> None:
    """A send is a call and an outcome: 0.7 µs on a machine of 2024; loose here, for one that is busy."""
    meter = metered()
    pair = called(200, 0.02, 0.005), event(EventName.SEND_ACCEPTED, key="1", endpoint=LAUNCH)
    best = float("inf")
    for _ in range(20):
        began = time.perf_counter()
        for _ in range(500):
            meter(pair[0])
            meter(pair[1])
        best = min(best, (time.perf_counter() - began) / 500)
    assert best < 10e-6


def test_the_public_class_counts_for_a_registry_of_the_programs_own() -> None:
    registry = CollectorRegistry()
    with bulksend.Metrics(registry=registry) as metrics:
        metrics(event(EventName.SEND_ACCEPTED, key="1"))
        assert registry.get_sample_value("bulksend_sends_total", {"outcome": "accepted"}) == 1
        version = registry.get_sample_value("bulksend_build_info", {"version": bulksend.__version__})
        assert version == 1
        assert 'bulksend_sends_total{outcome="accepted"} 1.0' in metrics.text()
        assert metrics.url is None
        with pytest.raises(bulksend.JobError, match="registry: counts runs already"):
            bulksend.Metrics(registry=registry)  # each series twice is what no reader takes
    assert registry.get_sample_value("bulksend_sends_total", {"outcome": "accepted"}) is None


@pytest.mark.parametrize(
    ("where", "missing", "room"),
    [
        ({"address": ":0"}, "prometheus_client", "prometheus"),
        ({"file": "x.prom"}, "prometheus_client", "prometheus"),
        ({"otlp": "http://localhost:4318"}, "opentelemetry.sdk.metrics.export", "otel"),
    ],
)
def test_a_library_that_is_not_installed_is_named(
    where: dict[str, str], missing: str, room: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(sys.modules, f"bulksend.observe.{room}", raising=False)
    with pytest.raises(bulksend.JobError, match=r'needs the package .*pip install "bulksend\[metrics\]"'):
        bulksend.Metrics(**where)  # type: ignore[arg-type]
