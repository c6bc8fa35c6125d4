"""What is measured of a run: one table of instruments, and their values, from events alone."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from bulksend.event import Event, EventName

__all__ = ["INSTRUMENTS", "Distribution", "Instrument", "Kind", "Labels", "Meter", "Value"]

Labels = tuple[str, ...]
"""The values of an instrument's labels, in its order."""


class Kind(StrEnum):
    """What an instrument's values do: only grow, go up and down, or fall into buckets."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True, eq=False)
class Instrument:
    """One thing that is measured. Its labels take few values: never a job, a key, an account or a reason."""

    name: str
    """Without the `_total` that Prometheus puts behind a counter."""
    kind: Kind
    text: str
    labels: tuple[str, ...] = ()
    unit: str = "1"
    """As UCUM writes it; the name says it in a word."""
    bounds: tuple[float, ...] = ()
    """The upper ends of a histogram's buckets, but for the last, which has none."""


@dataclass(slots=True)
class Distribution:
    """A histogram's value: how many fell into each bucket, the one without an end included, and their sum."""

    counts: list[int]
    total: float = 0.0

    def add(self, number: float, bounds: tuple[float, ...]) -> None:
        """Count a number; one that is a bound is within it."""
        self.counts[bisect_left(bounds, number)] += 1
        self.total += number


Value = float | Distribution

_ENDPOINT = ("endpoint",)
_FAST = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_COUNTER, _GAUGE, _HISTOGRAM = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM

BUILD = Instrument("bulksend_build_info", _GAUGE, "Always 1; the version is its label.", ("version",))
CALLS = Instrument(
    "bulksend_calls",
    _COUNTER,
    "Calls by the class of the answer's status, 429 by itself; none: no answer, or no connection.",
    ("endpoint", "status"),
)
RETRIES = Instrument("bulksend_retries", _COUNTER, "Calls that are made once more, 429s included.", _ENDPOINT)
LATENCY = Instrument(
    "bulksend_call_duration_seconds",
    _HISTOGRAM,
    "From a call's leaving to the end of its answer; calls without one are not in it.",
    _ENDPOINT,
    "s",
    _FAST,
)
WAIT = Instrument(
    "bulksend_limiter_wait_seconds",
    _HISTOGRAM,
    "How long a call that was answered had waited for its turn under the limit, a connection included.",
    _ENDPOINT,
    "s",
    (0.001, 0.0025, *_FAST, 60.0),
)
SENDS = Instrument(
    "bulksend_sends",
    _COUNTER,
    "Sends settled in this run; one that was unknown and is settled later counts under both.",
    ("outcome",),
)
USED = Instrument(
    "bulksend_limit_used_ratio",
    _GAUGE,
    "The share of the limit that the busiest account used of late; 1 is all of it.",
    _ENDPOINT,
)
LIMIT = Instrument(
    "bulksend_limit_calls_per_second",
    _GAUGE,
    "Calls a second that the limit lets all accounts in use make together.",
    _ENDPOINT,
    "1/s",
)
IN_FLIGHT = Instrument("bulksend_in_flight_calls", _GAUGE, "Calls that are under way.", _ENDPOINT)
WAITING = Instrument(
    "bulksend_waiting_sends", _GAUGE, "The queue: sends that are rendered and neither settled nor under way."
)
PAUSES = Instrument("bulksend_pauses", _COUNTER, "Times that an account was not to call an endpoint.", _ENDPOINT)
PAUSED = Instrument(
    "bulksend_paused_seconds",
    _COUNTER,
    "Seconds that accounts were not to call an endpoint; a pause counts whole as it begins.",
    _ENDPOINT,
    "s",
)
DOWN = Instrument(
    "bulksend_down_accounts",
    _GAUGE,
    "Accounts for which an endpoint is down: tried with one call at a time.",
    _ENDPOINT,
)
COMMITS = Instrument("bulksend_ledger_commits", _COUNTER, "Commits of the ledger; many sends share one.")
COMMITTING = Instrument("bulksend_ledger_commit_seconds", _COUNTER, "Seconds that these commits took.", (), "s")
PAGES = Instrument("bulksend_segment_pages", _COUNTER, "Pages of a segment that were read, the last look included.")
IDS = Instrument("bulksend_segment_ids", _COUNTER, "Ids of a segment that were read, added and removed.", ("side",))
STARTED = Instrument(
    "bulksend_run_started_timestamp_seconds", _GAUGE, "When the run began, in seconds since the epoch.", (), "s"
)
FINISHED = Instrument(
    "bulksend_run_finished_timestamp_seconds", _GAUGE, "When the run ended, however it did; not there before.", (), "s"
)
SUCCESS = Instrument(
    "bulksend_run_success", _GAUGE, "1 when the run ended with exit code 0, 0 when with another; not there before."
)

INSTRUMENTS = (
    BUILD, CALLS, RETRIES, LATENCY, WAIT, SENDS, USED, LIMIT, IN_FLIGHT, WAITING, PAUSES, PAUSED, DOWN, COMMITS,
    COMMITTING, PAGES, IDS, STARTED, FINISHED, SUCCESS,
)  # fmt: skip

_STATUSES = ("2xx", "3xx", "4xx", "429", "5xx", "none")
_CLASSES = {2: "2xx", 3: "3xx", 4: "4xx", 5: "5xx"}
_OUTCOMES: dict[EventName, Labels] = {
    EventName.SEND_ACCEPTED: ("accepted",),
    EventName.SEND_REJECTED: ("rejected",),
    EventName.SEND_UNKNOWN: ("unknown",),
}
_READ, _ADDED, _REMOVED = ("read",), ("added",), ("removed",)


class Meter:
    """An observer that keeps the instruments' values; read by other threads with `points`.

    `wall` is seconds since the epoch, `clock` any that only goes on. Runs that follow one another add up.
    """

    def __init__(
        self, *, wall: Callable[[], float] = time.time, clock: Callable[[], float] = time.monotonic, version: str = ""
    ) -> None:
        self.began_at = wall()
        """When counting began, in seconds since the epoch."""
        self._wall = wall
        self._clock = clock
        self._numbers: dict[Instrument, dict[Labels, float]] = {
            one: {} for one in INSTRUMENTS if one.kind is not Kind.HISTOGRAM
        }
        self._distributions: dict[Instrument, dict[Labels, Distribution]] = {
            one: {} for one in INSTRUMENTS if one.kind is Kind.HISTOGRAM
        }
        # What every call and send touches is looked up once.
        self._calls, self._sends = self._numbers[CALLS], self._numbers[SENDS]
        self._latency, self._wait = self._distributions[LATENCY], self._distributions[WAIT]
        self._paused_until_s: dict[tuple[str, str], float] = {}
        self._down: dict[str, set[str]] = {}
        self._committed: dict[str, tuple[int, float]] = {}
        """By job, the commits of its ledger that are counted already."""
        self._numbers[BUILD][version,] = 1
        # A counter that is there from the start shows its first step to whoever looks at its rate.
        for instrument, keys in ((SENDS, _OUTCOMES.values()), (IDS, (_READ, _ADDED, _REMOVED))):
            self._numbers[instrument].update(dict.fromkeys(keys, 0))
        for instrument in (PAGES, COMMITS, COMMITTING):
            self._numbers[instrument][()] = 0

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        name = event.name
        if name is EventName.CALL_MADE:
            self._called(event)
        elif (outcome := _OUTCOMES.get(name)) is not None:
            self._sends[outcome] += 1
        elif name is EventName.SEND_RETRIED:
            self._add(RETRIES, event, 1)
        elif name is EventName.LIMIT_PAUSED:
            self._pause(event)
        elif name in (EventName.ENDPOINT_DOWN, EventName.ENDPOINT_UP):
            accounts = self._down.setdefault(event.endpoint or "", set())
            (accounts.add if name is EventName.ENDPOINT_DOWN else accounts.discard)(event.account or "")
            self._set(DOWN, event, len(accounts))
        elif name is EventName.ENDPOINT_SAMPLED:
            self._set(USED, event, event.utilization)
            self._set(LIMIT, event, event.limit_per_s)
            self._set(IN_FLIGHT, event, event.in_flight)
        elif name is EventName.RUN_SAMPLED:
            self._numbers[WAITING][()] = event.waiting or 0
            self._commit(event)
        elif name is EventName.SEGMENT_PAGE:
            self._numbers[PAGES][()] += 1
            self._numbers[IDS][_READ] += event.count or 0
        elif name is EventName.SEGMENT_CHANGED:
            self._numbers[IDS][_ADDED] += event.added or 0
            self._numbers[IDS][_REMOVED] += event.removed or 0
        elif name is EventName.RUN_STARTED:
            self._numbers[STARTED][()] = self._wall()
            self._numbers[FINISHED].clear()
            self._numbers[SUCCESS].clear()
        elif name in (EventName.RUN_FINISHED, EventName.RUN_STOPPED, EventName.RUN_FAILED):
            self._committed.pop(event.job, None)
            self.end(success=event.exit_code == 0)

    @property
    def has_ended(self) -> bool:
        """Say whether a run has come to its end, and none has begun since."""
        return bool(self._numbers[FINISHED])

    def end(self, *, success: bool) -> None:
        """Note that the run is over, and nothing under way any more."""
        self._down.clear()
        for instrument in (USED, IN_FLIGHT, WAITING, DOWN):
            series = self._numbers[instrument]
            series.update(dict.fromkeys(series, 0))
        self._numbers[FINISHED][()] = self._wall()
        self._numbers[SUCCESS][()] = int(success)

    def points(self) -> Iterator[tuple[Instrument, list[tuple[Labels, Value]]]]:
        """Yield each instrument with copies of its values; one without any is not there."""
        for instrument in INSTRUMENTS:
            found: list[tuple[Labels, Value]]
            if instrument.kind is Kind.HISTOGRAM:
                kept = self._distributions[instrument].copy()  # at once: the run goes on meanwhile
                found = [(labels, Distribution(one.counts.copy(), one.total)) for labels, one in kept.items()]
            else:
                found = list(self._numbers[instrument].copy().items())
            if found:
                yield instrument, found

    def _called(self, event: Event) -> None:
        endpoint, status = event.endpoint or "", event.status
        answer = "none" if status is None else "429" if status == 429 else _CLASSES.get(status // 100, "5xx")
        if (endpoint, answer) not in self._calls:
            self._meet(endpoint)
        self._calls[endpoint, answer] += 1
        if event.duration_s is not None:
            self._latency[endpoint,].add(event.duration_s, LATENCY.bounds)
            # Of a call without an answer, nothing tells the wait before it left from that for the answer.
            self._wait[endpoint,].add(event.wait_s or 0.0, WAIT.bounds)

    def _meet(self, endpoint: str) -> None:
        """Make the series of an endpoint that is called for the first time."""
        self._calls.update({(endpoint, status): 0 for status in _STATUSES})
        for instrument in (RETRIES, PAUSES, PAUSED, DOWN):
            self._numbers[instrument].setdefault((endpoint,), 0)
        for instrument, series in self._distributions.items():
            series[endpoint,] = Distribution([0] * (len(instrument.bounds) + 1))

    def _add(self, instrument: Instrument, event: Event, number: float) -> None:
        series, labels = self._numbers[instrument], (event.endpoint or "",)
        series[labels] = series.get(labels, 0) + number

    def _set(self, instrument: Instrument, event: Event, number: float | None) -> None:
        if number is not None:
            self._numbers[instrument][event.endpoint or "",] = number

    def _pause(self, event: Event) -> None:
        """Count a pause; of one that is told while another holds, only by how much it is longer."""
        whose, now = (event.endpoint or "", event.account or ""), self._clock()
        until = now + (event.duration_s or 0.0)
        before = self._paused_until_s.get(whose, now)
        self._add(PAUSES, event, int(before <= now))
        self._add(PAUSED, event, max(0.0, until - max(before, now)))
        self._paused_until_s[whose] = max(before, until)

    def _commit(self, event: Event) -> None:
        """Count what a ledger has committed since it told so last: it tells its own sums."""
        commits, took_s = event.count or 0, event.duration_s or 0.0
        before = self._committed.get(event.job, (0, 0.0))
        if commits < before[0]:
            before = (0, 0.0)  # another ledger, or the same one opened anew
        self._committed[event.job] = commits, took_s
        self._numbers[COMMITS][()] += commits - before[0]
        self._numbers[COMMITTING][()] += max(0.0, took_s - before[1])
