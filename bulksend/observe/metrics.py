"""What is measured of a run: one table of instruments, and their values, from events alone."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from bulksend.event import Event, EventName
from bulksend.observe.by_name import ByName

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
    """A histogram's value: how many fell into each bucket, the one without an end included, and their sum.

    A number that is a bucket's bound is within it.
    """

    counts: list[int]
    total: float = 0.0


Value = float | Distribution

_ENDPOINT = ("endpoint",)
_FAST = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_WAIT = (0.001, 0.0025, *_FAST, 60.0)
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
    _WAIT,
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
_ACCEPTED, _REJECTED, _UNKNOWN = ("accepted",), ("rejected",), ("unknown",)
_READ, _ADDED, _REMOVED = ("read",), ("added",), ("removed",)


class _Calls:
    """The calls of one endpoint, as cheap to count as can be."""

    __slots__ = ("endpoint", "latency", "statuses", "wait")

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.statuses: dict[int | None, int] = {}
        """HTTP knows a few dozen; the classes that they are told by are made of them when they are asked for."""
        self.latency = Distribution([0] * (len(LATENCY.bounds) + 1))
        self.wait = Distribution([0] * (len(WAIT.bounds) + 1))

    def classes(self) -> dict[Labels, float]:
        """Return the calls by endpoint and class of status; those that there were none of, too."""
        found: dict[Labels, float] = {(self.endpoint, name): 0 for name in _STATUSES}
        for status, number in self.statuses.copy().items():  # at once: the run goes on meanwhile
            name = "none" if status is None else "429" if status == 429 else _CLASSES.get(status // 100, "5xx")
            found[self.endpoint, name] += number
        return found


class Meter(ByName):
    """An observer that keeps the instruments' values; read by other threads with `points`.

    `wall` is seconds since the epoch, `clock` any that only goes on. Runs that follow one another add up.
    """

    def __init__(
        self, *, wall: Callable[[], float] = time.time, clock: Callable[[], float] = time.monotonic, version: str = ""
    ) -> None:
        super().__init__(
            {
                EventName.CALL_MADE: self._called,
                EventName.SEND_ACCEPTED: self._accept,
                EventName.SEND_REJECTED: self._refuse,
                EventName.SEND_UNKNOWN: self._refuse,
                EventName.SEND_RETRIED: self._retry,
                EventName.LIMIT_PAUSED: self._pause,
                EventName.ENDPOINT_DOWN: self._down_or_up,
                EventName.ENDPOINT_UP: self._down_or_up,
                EventName.ENDPOINT_SAMPLED: self._sample,
                EventName.RUN_SAMPLED: self._sample_run,
                EventName.SEGMENT_PAGE: self._page,
                EventName.SEGMENT_CHANGED: self._change,
                EventName.RUN_STARTED: self._start,
                EventName.RUN_FINISHED: self._finish,
                EventName.RUN_STOPPED: self._finish,
                EventName.RUN_FAILED: self._finish,
            }
        )
        self.began_at = wall()
        """When counting began, in seconds since the epoch."""
        self._wall = wall
        self._clock = clock
        self._numbers: dict[Instrument, dict[Labels, float]] = {
            one: {} for one in INSTRUMENTS if one.kind is not Kind.HISTOGRAM and one is not CALLS
        }
        self._sends = self._numbers[SENDS]
        self._calls: dict[str, _Calls] = {}
        self._called_last = _Calls("\0")  # no endpoint's name
        self._paused_until_s: dict[tuple[str, str], float] = {}
        self._down: dict[str, set[str]] = {}
        self._committed: dict[str, tuple[int, float]] = {}
        """By job, the commits of its ledger that are counted already."""
        self._numbers[BUILD][version,] = 1
        # A counter that is there from the start shows its first step to whoever looks at its rate.
        for instrument, keys in ((SENDS, (_ACCEPTED, _REJECTED, _UNKNOWN)), (IDS, (_READ, _ADDED, _REMOVED))):
            self._numbers[instrument].update(dict.fromkeys(keys, 0))
        for instrument in (PAGES, COMMITS, COMMITTING):
            self._numbers[instrument][()] = 0

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
        met = list(self._calls.copy().values())  # at once: the run goes on meanwhile
        for instrument in INSTRUMENTS:
            found: list[tuple[Labels, Value]]
            if instrument is CALLS:
                found = [point for one in met for point in one.classes().items()]
            elif instrument.kind is Kind.HISTOGRAM:
                kept = [(one.endpoint, one.latency if instrument is LATENCY else one.wait) for one in met]
                found = [((name,), Distribution(one.counts.copy(), one.total)) for name, one in kept]
            else:
                found = list(self._numbers[instrument].copy().items())
            if found:
                yield instrument, found

    def _called(self, event: Event) -> None:
        endpoint, status, duration_s = event.endpoint, event.status, event.duration_s
        one = self._called_last
        if endpoint is not one.endpoint:
            one = self._find(endpoint or "")
        statuses = one.statuses
        statuses[status] = statuses.get(status, 0) + 1
        if duration_s is not None:
            latency, wait, wait_s = one.latency, one.wait, event.wait_s or 0.0
            latency.counts[bisect_left(_FAST, duration_s)] += 1
            latency.total += duration_s
            # Of a call without an answer, nothing tells the wait before it left from that for the answer.
            wait.counts[bisect_left(_WAIT, wait_s)] += 1
            wait.total += wait_s

    def _find(self, endpoint: str) -> _Calls:
        """Return the calls of an endpoint; that of the first one makes all its series."""
        one = self._calls.get(endpoint)
        if one is None:
            for instrument in (RETRIES, PAUSES, PAUSED, DOWN):
                self._numbers[instrument].setdefault((endpoint,), 0)
            one = self._calls[endpoint] = _Calls(endpoint)
        self._called_last = one
        return one

    def _accept(self, _: Event) -> None:
        self._sends[_ACCEPTED] += 1

    def _refuse(self, event: Event) -> None:
        self._sends[_REJECTED if event.name is EventName.SEND_REJECTED else _UNKNOWN] += 1

    def _retry(self, event: Event) -> None:
        self._add(RETRIES, event, 1)

    def _down_or_up(self, event: Event) -> None:
        accounts = self._down.setdefault(event.endpoint or "", set())
        (accounts.add if event.name is EventName.ENDPOINT_DOWN else accounts.discard)(event.account or "")
        self._set(DOWN, event, len(accounts))

    def _sample(self, event: Event) -> None:
        self._set(USED, event, event.utilization)
        self._set(LIMIT, event, event.limit_per_s)
        self._set(IN_FLIGHT, event, event.in_flight)

    def _sample_run(self, event: Event) -> None:
        self._numbers[WAITING][()] = event.waiting or 0
        self._commit(event)

    def _page(self, event: Event) -> None:
        self._numbers[PAGES][()] += 1
        self._numbers[IDS][_READ] += event.count or 0

    def _change(self, event: Event) -> None:
        self._numbers[IDS][_ADDED] += event.added or 0
        self._numbers[IDS][_REMOVED] += event.removed or 0

    def _start(self, _: Event) -> None:
        self._numbers[STARTED][()] = self._wall()
        self._numbers[FINISHED].clear()
        self._numbers[SUCCESS].clear()

    def _finish(self, event: Event) -> None:
        self._committed.pop(event.job, None)
        self.end(success=event.exit_code == 0)

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
