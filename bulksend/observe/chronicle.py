"""What happened in a run, over time and in all, in an amount that does not grow with it: for reports and live views."""

from __future__ import annotations

import heapq
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from bulksend.engine.stats import Latencies
from bulksend.event import Event, EventName

__all__ = ["Chronicle", "EndpointHistory", "Happening", "History", "Outage", "Recent", "SlowCall"]

SLOTS_MOST = 240
"""Points on the time axis: with more, two become one."""
REASONS_MOST = 30
SLOWEST_MOST = 10
LATEST_MOST = 8
RECENT_S = 5.0
RECENT_SLOTS = 5
REASONS_SHOWN = 5
OTHER = "other"
_COUNTED = {
    EventName.SEND_ACCEPTED: "accepted",
    EventName.SEND_REJECTED: "rejected",
    EventName.SEND_UNKNOWN: "unknown",
}
_TOLD = (
    EventName.SEND_REJECTED,
    EventName.SEND_UNKNOWN,
    EventName.LIMIT_PAUSED,
    EventName.LIMIT_CHANGED,
    EventName.ENDPOINT_UP,
    EventName.CANARY_PASSED,
    EventName.GUARD_STOPPED,
    EventName.RUN_STOPPING,
    EventName.RUN_FAILED,
    EventName.PREPARE_ACCEPTED,
    EventName.PREPARE_REUSED,
    EventName.SEGMENT_COMPARED,
    EventName.SEGMENT_VERIFIED,
    EventName.SEGMENT_UNORDERED,
)


class SlowCall(msgspec.Struct, frozen=True, order=True):
    """One of the slowest answers of a run."""

    duration_s: float
    key: str
    row: int
    endpoint: str


class Happening(msgspec.Struct, frozen=True):
    """An event as a line."""

    at: float
    """Seconds since the epoch."""
    name: str
    text: str


class Outage(msgspec.Struct, frozen=True):
    """An endpoint that is down for an account; times are seconds since the epoch."""

    endpoint: str
    account: str
    since: float
    next_at: float
    """When it is tried again, with one call."""
    reason: str


class EndpointHistory(msgspec.Struct, frozen=True):
    """One endpoint over time, a number for each slot; None where nothing was answered."""

    calls: list[int]
    throttled: list[int]
    p50_ms: list[float | None]
    p99_ms: list[float | None]
    accounts: int = 0
    """How many accounts were called."""
    busiest: int = 0
    """Calls of the account that was called most."""
    first_s: float = 0.0
    """When the first call left, in seconds from the run's beginning; the next is when the last one ended."""
    last_s: float = 0.0


class History(msgspec.Struct, frozen=True):
    """A run as it is kept: what a report draws and a live view shows."""

    began_at: float
    """Seconds since the epoch."""
    slot_s: float
    """How much time a slot is."""
    accepted: list[int]
    rejected: list[int]
    unknown: list[int]
    endpoints: dict[str, EndpointHistory]
    reasons: dict[str, int]
    """How often each was given for what was not accepted, and `other` for the rest."""
    statuses: dict[str, int]
    """Answers by HTTP status, and calls without one by why."""
    slowest: list[SlowCall]
    rates_per_s: dict[str, float]
    """Calls a second of late, by endpoint, as the next by account."""
    account_rates_per_s: dict[str, float]
    latest: list[Happening]
    paused_until: float = 0.0
    segment_pages: int = 0
    segment_ids: int = 0
    reasons_over_time: dict[str, list[int]] = {}
    """The most frequent of `reasons`, a number for each slot; the rest of them as `other`."""
    sends: int | None = None
    """What the run had before it, `settled` of it by earlier runs; None where that is not known."""
    settled: int | None = None
    reused: int = 0
    """Accounts whose campaign an earlier run had made."""
    until: float = 0.0
    """When this was kept, in seconds since the epoch."""
    state: str = ""
    """How the run ended; empty as long as it goes on, and for one that died."""
    why: str | None = None
    summary: dict[str, Any] = {}
    """The run's numbers, as `--json` prints them."""
    outages: list[Outage] = []
    """What was down when this was kept."""


@dataclass(frozen=True, slots=True)
class Recent:
    """How a run goes of late; rates are calls a second, latencies of the last few slots, the rest of the whole run."""

    rates_per_s: Mapping[str, float]
    account_rates_per_s: Mapping[str, float]
    settled_per_s: float
    p50_ms: Mapping[str, float | None]
    p99_ms: Mapping[str, float | None]
    throttled: Mapping[str, int]
    reasons: Mapping[str, int]
    latest: Sequence[Happening]
    paused_until: float
    outages: Sequence[Outage]


@dataclass(slots=True)
class _Slot:
    sends: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    throttled: Counter[str] = field(default_factory=Counter)
    latencies: dict[str, Latencies] = field(default_factory=dict)

    def add(self, other: _Slot) -> None:
        """Take over what a later slot has."""
        self.sends += other.sends
        self.reasons += other.reasons
        self.calls += other.calls
        self.throttled += other.throttled
        for name, latencies in other.latencies.items():
            if name in self.latencies:
                self.latencies[name].merge(latencies)
            else:
                self.latencies[name] = latencies


class Chronicle:
    """An observer that keeps a run's history; `wall` is the clock, in seconds since the epoch."""

    def __init__(self, *, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._began_at = wall()
        self._slot_s = 1.0
        self._slots: list[_Slot] = [_Slot()]
        self._reasons: Counter[str] = Counter()
        self._statuses: Counter[str] = Counter()
        self._throttled: Counter[str] = Counter()
        self._slowest: list[SlowCall] = []
        self._latest: deque[Happening] = deque(maxlen=LATEST_MOST)
        self._recent: deque[tuple[float, Counter[str], Counter[str]]] = deque()
        self._paused_until = 0.0
        self._outages: dict[tuple[str, str], Outage] = {}
        self._segment_pages = 0
        self._segment_ids = 0
        self._accounts: dict[str, Counter[str]] = {}
        self._spans: dict[str, tuple[float, float]] = {}
        self._sends: int | None = None
        self._settled: int | None = None
        self._reused = 0

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        if event.name is EventName.CALL_MADE:
            self._called(event)
        elif (outcome := _COUNTED.get(event.name)) is not None:
            slot = self._slot()
            slot.sends[outcome] += 1
            if outcome != "accepted":
                slot.reasons[_count(self._reasons, f"{outcome}: {event.reason}")] += 1
        elif event.name is EventName.LIMIT_PAUSED:
            self._paused_until = max(self._paused_until, self._wall() + (event.duration_s or 0.0))
        elif event.name in (EventName.ENDPOINT_DOWN, EventName.ENDPOINT_UP):
            self._down_or_up(event)
        elif event.name is EventName.SEGMENT_PAGE:
            self._segment_pages += 1
            self._segment_ids += event.count or 0
        elif event.name is EventName.RUN_STARTED:
            self._sends, self._settled = event.count, event.settled
        elif event.name is EventName.PREPARE_REUSED:
            self._reused += 1
        if event.name in _TOLD:
            self._latest.append(Happening(self._wall(), event.name.value, _words(event)))

    def history(self) -> History:
        """Return what was kept so far."""
        self._slot()
        names = sorted({name for slot in self._slots for name in slot.calls})
        calls_per_s, by_account = self._rates()
        return History(
            began_at=self._began_at,
            slot_s=self._slot_s,
            accepted=[slot.sends["accepted"] for slot in self._slots],
            rejected=[slot.sends["rejected"] for slot in self._slots],
            unknown=[slot.sends["unknown"] for slot in self._slots],
            endpoints={name: self._endpoint(name) for name in names},
            reasons=dict(self._reasons.most_common()),
            statuses=dict(self._statuses.most_common()),
            slowest=sorted(self._slowest, reverse=True),
            rates_per_s=calls_per_s,
            account_rates_per_s=by_account,
            latest=list(self._latest),
            paused_until=self._paused_until,
            segment_pages=self._segment_pages,
            segment_ids=self._segment_ids,
            reasons_over_time=self._reasons_over_time(),
            sends=self._sends,
            settled=self._settled,
            reused=self._reused,
            until=self._wall(),
            outages=list(self._outages.values()),
        )

    def _reasons_over_time(self) -> dict[str, list[int]]:
        most = sorted(name for name, _ in self._reasons.most_common(REASONS_SHOWN) if name != OTHER)
        over_time = {name: [slot.reasons[name] for slot in self._slots] for name in most}
        rest = [slot.reasons.total() - sum(slot.reasons[name] for name in most) for slot in self._slots]
        return over_time | ({OTHER: rest} if any(rest) else {})

    def recent(self) -> Recent:
        """Return what was kept of the last seconds: a part of the history that costs little to ask for."""
        self._slot()
        rates_per_s, by_account = self._rates()
        latencies: dict[str, Latencies] = {}
        for slot in self._slots[-RECENT_SLOTS:]:
            for name, one in slot.latencies.items():
                latencies.setdefault(name, Latencies()).merge(one)
        return Recent(
            rates_per_s=rates_per_s,
            account_rates_per_s=by_account,
            settled_per_s=self._settled_per_s(),
            p50_ms={name: one.percentile_ms(0.5) for name, one in latencies.items()},
            p99_ms={name: one.percentile_ms(0.99) for name, one in latencies.items()},
            throttled=dict(self._throttled),
            reasons=dict(self._reasons.most_common(REASONS_SHOWN)),
            latest=list(self._latest),
            paused_until=self._paused_until,
            outages=list(self._outages.values()),
        )

    def _endpoint(self, name: str) -> EndpointHistory:
        found = [slot.latencies.get(name) for slot in self._slots]
        return EndpointHistory(
            calls=[slot.calls[name] for slot in self._slots],
            throttled=[slot.throttled[name] for slot in self._slots],
            p50_ms=[None if one is None else one.percentile_ms(0.5) for one in found],
            p99_ms=[None if one is None else one.percentile_ms(0.99) for one in found],
            accounts=len(self._accounts[name]),
            busiest=max(self._accounts[name].values()),
            first_s=round(self._spans[name][0], 3),
            last_s=round(self._spans[name][1], 3),
        )

    def _called(self, event: Event) -> None:
        slot, endpoint = self._slot(), event.endpoint or ""
        slot.calls[endpoint] += 1
        self._accounts.setdefault(endpoint, Counter())[event.account or ""] += 1
        ended_s = max(0.0, self._wall() - self._began_at)
        first_s, _ = self._spans.get(endpoint, (ended_s, ended_s))
        self._spans[endpoint] = min(first_s, max(0.0, ended_s - (event.duration_s or 0.0))), ended_s
        _count(self._statuses, str(event.status) if event.status is not None else event.reason or "no answer")
        if event.status == 429:
            slot.throttled[endpoint] += 1
            self._throttled[endpoint] += 1
        if event.duration_s is not None:
            slot.latencies.setdefault(endpoint, Latencies()).add(event.duration_s)
            if len(self._slowest) < SLOWEST_MOST or event.duration_s > self._slowest[0].duration_s:
                one = SlowCall(event.duration_s, event.key or "", event.row or 0, endpoint)
                (heapq.heappush if len(self._slowest) < SLOWEST_MOST else heapq.heapreplace)(self._slowest, one)
        second = int(self._wall())
        if not self._recent or self._recent[-1][0] != second:
            self._recent.append((second, Counter(), Counter()))
            while self._recent[0][0] < second - RECENT_S:
                self._recent.popleft()
        self._recent[-1][1][endpoint] += 1
        self._recent[-1][2][event.account or ""] += 1

    def _down_or_up(self, event: Event) -> None:
        """Note an outage; that it goes on is no news, and only its end is another happening."""
        where, now = (event.endpoint or "", event.account or ""), self._wall()
        before = self._outages.pop(where, None)
        if event.name is EventName.ENDPOINT_DOWN:
            since = now if before is None else before.since
            self._outages[where] = Outage(*where, since, now + (event.duration_s or 0.0), event.reason or "")
            if before is None:
                self._latest.append(Happening(now, event.name.value, _words(event)))

    def _rates(self) -> tuple[dict[str, float], dict[str, float]]:
        """Return calls a second over the whole seconds of late, by endpoint and by account."""
        now = self._wall()
        # Whole seconds: the one that runs has not had its calls yet, nor the first one all of them.
        since = max(math.ceil(now - RECENT_S), math.ceil(self._began_at))
        whole = [one for one in self._recent if since <= one[0] < int(now)]
        calls, accounts = Counter[str](), Counter[str]()
        for _, by_endpoint, by_account in whole:
            calls += by_endpoint
            accounts += by_account
        took_s = max(1, int(now) - since)
        return _per_s(calls, took_s), _per_s(accounts, took_s)

    def _settled_per_s(self) -> float:
        whole = self._slots[-1 - RECENT_SLOTS : -1]
        return sum(slot.sends.total() for slot in whole) / (len(whole) * self._slot_s) if whole else 0.0

    def _slot(self) -> _Slot:
        """Return the slot of this moment; the time axis is made coarser where it grows too long."""
        number = max(0, int((self._wall() - self._began_at) / self._slot_s))
        while number >= SLOTS_MOST:
            for index in range(0, len(self._slots) - 1, 2):
                self._slots[index].add(self._slots[index + 1])
            self._slots = self._slots[::2]
            self._slot_s *= 2
            number //= 2
        while len(self._slots) <= number:
            self._slots.append(_Slot())
        return self._slots[number]


def _count(counts: Counter[str], name: str) -> str:
    """Count a text, or the rest of them where there are too many different ones; return which of the two it was."""
    counted = name if name in counts or len(counts) < REASONS_MOST else OTHER
    counts[counted] += 1
    return counted


def _per_s(counts: Mapping[str, int], took_s: float) -> dict[str, float]:
    return {name: round(number / took_s, 2) for name, number in counts.items()}


def _words(event: Event) -> str:
    """Write an event in a line: keys and reasons, as everywhere."""
    where = f"{event.key} (row {event.row})" if event.key and event.row else event.key or event.endpoint or ""
    parts = [where] if where else []
    if event.reason:
        parts.append(event.reason)
    if event.name is EventName.LIMIT_PAUSED and event.duration_s is not None:
        parts.append(f"paused {event.duration_s:.1f} s")
    if event.added is not None or event.removed is not None:
        parts.append(f"+{event.added or 0:,} -{event.removed or 0:,}")
    if event.drift is not None:
        parts.append(f"drift {event.drift:,}")
    return ": ".join(parts)
