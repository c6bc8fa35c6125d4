"""What happened in a run, over time and in all, in an amount that does not grow with it: for reports and live views."""

from __future__ import annotations

import heapq
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Any

from bulksend.engine.stats import Latencies
from bulksend.event import Event, EventName
from bulksend.observe.by_name import ByName
from bulksend.observe.history import EndpointHistory, Happening, History, Outage, Recent, SlowCall
from bulksend.observe.slots import Slots

__all__ = ["Chronicle"]

REASONS_MOST = 30
SLOWEST_MOST = 10
LATEST_MOST = 8
RECENT_S = 5.0
RECENT_SLOTS = 5
REASONS_SHOWN = 5
OTHER = "other"
_TOLD = (
    EventName.LIMIT_CHANGED,
    EventName.CANARY_PASSED,
    EventName.GUARD_STOPPED,
    EventName.RUN_STOPPING,
    EventName.RUN_FAILED,
    EventName.PREPARE_ACCEPTED,
    EventName.SEGMENT_COMPARED,
    EventName.SEGMENT_VERIFIED,
    EventName.SEGMENT_UNORDERED,
)


class _Lane:
    """The calls of an endpoint for an account; times are seconds from the run's beginning."""

    __slots__ = ("account", "all_calls", "calls", "endpoint", "first_s", "last_s", "latencies")

    def __init__(self, endpoint: str, account: str) -> None:
        self.endpoint = endpoint
        self.account = account
        self.calls = 0
        """Since they were last noted; the next is all before them."""
        self.all_calls = 0
        self.first_s = math.inf
        self.last_s = 0.0
        self.latencies: Latencies | None = None
        """The endpoint's in the slot that is now."""


class Chronicle(ByName):
    """An observer that keeps a run's history; `wall` is the clock, in seconds since the epoch.

    What every send tells is only added up, and noted where it belongs when a slot or a second is over, or as it is
    asked for: what happened since then is of one slot and one second.
    """

    def __init__(self, *, wall: Callable[[], float] = time.time) -> None:
        methods = dict.fromkeys(_TOLD, self._tell) | {
            EventName.CALL_MADE: self._called,
            EventName.SEND_ACCEPTED: self._accept,
            EventName.SEND_REJECTED: self._refuse,
            EventName.SEND_UNKNOWN: self._refuse,
            EventName.LIMIT_PAUSED: self._pause,
            EventName.ENDPOINT_DOWN: self._down_or_up,
            EventName.ENDPOINT_UP: self._down_or_up,
            EventName.SEGMENT_PAGE: self._page,
            EventName.RUN_STARTED: self._start,
            EventName.PREPARE_REUSED: self._reuse,
        }
        super().__init__(methods)
        self._wall = wall
        self._began_at = wall()
        self._slots = Slots(self._began_at)
        self._slot = self._slots.all[0]
        self._begins = self._ends = 0.0
        """Since when the slot and the second are those of now, and until when."""
        self._reasons: dict[str, int] = {}
        self._statuses: dict[str | int | None, int] = {}
        """By status, and without one by why."""
        self._throttled: Counter[str] = Counter()
        self._slowest: list[SlowCall] = []
        self._slow_s = -math.inf
        """What is longer is one of the slowest."""
        self._latest: deque[Happening] = deque(maxlen=LATEST_MOST)
        self._recent: deque[tuple[int, Counter[str], Counter[str]]] = deque()
        self._paused_until = 0.0
        self._outages: dict[tuple[str, str], Outage] = {}
        self._segment_pages = 0
        self._segment_ids = 0
        self._lanes: dict[tuple[str, str], _Lane] = {}
        self._lane = self._find("", "")
        """The one that was called last."""
        self._accepted = 0
        """Since they were last noted."""
        self._sends: int | None = None
        self._settled: int | None = None
        self._reused = 0

    def history(self) -> History:
        """Return what was kept so far."""
        now = self._wall()
        self._note(now)
        slots = self._slots.all
        names = sorted({name for slot in slots for name in slot.calls})
        calls_per_s, by_account = self._rates(now)
        reasons, statuses = Counter(self._reasons), Counter[str]()
        for status, number in self._statuses.items():
            statuses[str(status)] += number
        return History(
            began_at=self._began_at,
            slot_s=self._slots.width_s,
            accepted=[slot.sends["accepted"] for slot in slots],
            rejected=[slot.sends["rejected"] for slot in slots],
            unknown=[slot.sends["unknown"] for slot in slots],
            endpoints={name: self._endpoint(name) for name in names},
            reasons=dict(reasons.most_common()),
            statuses=dict(statuses.most_common()),
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
            until=now,
            outages=list(self._outages.values()),
        )

    def _reasons_over_time(self) -> dict[str, list[int]]:
        slots = self._slots.all
        most = sorted(name for name, _ in Counter(self._reasons).most_common(REASONS_SHOWN) if name != OTHER)
        over_time = {name: [slot.reasons[name] for slot in slots] for name in most}
        rest = [slot.reasons.total() - sum(slot.reasons[name] for name in most) for slot in slots]
        return over_time | ({OTHER: rest} if any(rest) else {})

    def recent(self) -> Recent:
        """Return what was kept of the last seconds: a part of the history that costs little to ask for."""
        now = self._wall()
        self._note(now)
        rates_per_s, by_account = self._rates(now)
        latencies: dict[str, Latencies] = {}
        for slot in self._slots.all[-RECENT_SLOTS:]:
            for name, one in slot.latencies.items():
                latencies.setdefault(name, Latencies()).merge(one)
        return Recent(
            rates_per_s=rates_per_s,
            account_rates_per_s=by_account,
            settled_per_s=self._settled_per_s(),
            p50_ms={name: one.percentile_ms(0.5) for name, one in latencies.items()},
            p99_ms={name: one.percentile_ms(0.99) for name, one in latencies.items()},
            throttled=dict(self._throttled),
            reasons=dict(Counter(self._reasons).most_common(REASONS_SHOWN)),
            latest=list(self._latest),
            paused_until=self._paused_until,
            outages=list(self._outages.values()),
        )

    def _endpoint(self, name: str) -> EndpointHistory:
        slots = self._slots.all
        found = [slot.latencies.get(name) for slot in slots]
        lanes = [lane for (endpoint, _), lane in self._lanes.items() if endpoint == name and lane.all_calls]
        return EndpointHistory(
            calls=[slot.calls[name] for slot in slots],
            throttled=[slot.throttled[name] for slot in slots],
            p50_ms=[None if one is None else one.percentile_ms(0.5) for one in found],
            p99_ms=[None if one is None else one.percentile_ms(0.99) for one in found],
            accounts=len(lanes),
            busiest=max(lane.all_calls for lane in lanes),
            first_s=round(max(0.0, min(lane.first_s for lane in lanes)), 3),
            last_s=round(max(0.0, *(lane.last_s for lane in lanes)), 3),
        )

    def _called(self, event: Event) -> None:
        now = self._wall()
        if not self._begins <= now < self._ends:
            self._note(now)
        lane = self._lane
        if event.endpoint is not lane.endpoint or event.account is not lane.account:
            lane = self._find(event.endpoint or "", event.account or "")
        lane.calls += 1
        status, duration_s = event.status, event.duration_s
        if status in self._statuses:
            self._statuses[status] += 1
        else:
            _count(self._statuses, event.reason or "no answer" if status is None else status)
        if status == 429:
            self._slot.throttled[lane.endpoint] += 1
            self._throttled[lane.endpoint] += 1
        lane.last_s = began_s = now - self._began_at
        if duration_s is not None:
            began_s -= duration_s
            if lane.latencies is None:
                lane.latencies = self._slot.latencies.setdefault(lane.endpoint, Latencies())
            lane.latencies.add(duration_s)
            if duration_s > self._slow_s:
                self._keep_slow(SlowCall(duration_s, event.key or "", event.row or 0, lane.endpoint))
        if began_s < lane.first_s:  # noqa: PLR1730 - a fifth of the time
            lane.first_s = began_s

    def _find(self, endpoint: str, account: str) -> _Lane:
        lane = self._lanes.get((endpoint, account))
        if lane is None:
            lane = self._lanes[endpoint, account] = _Lane(endpoint, account)
        self._lane = lane
        return lane

    def _keep_slow(self, call: SlowCall) -> None:
        (heapq.heappush if len(self._slowest) < SLOWEST_MOST else heapq.heapreplace)(self._slowest, call)
        if len(self._slowest) == SLOWEST_MOST:
            self._slow_s = self._slowest[0].duration_s

    def _accept(self, _: Event) -> None:
        now = self._wall()
        if not self._begins <= now < self._ends:
            self._note(now)
        self._accepted += 1

    def _refuse(self, event: Event) -> None:
        now = self._wall()
        if not self._begins <= now < self._ends:
            self._note(now)
        outcome = "rejected" if event.name is EventName.SEND_REJECTED else "unknown"
        self._slot.sends[outcome] += 1
        self._slot.reasons[_count(self._reasons, f"{outcome}: {event.reason}")] += 1
        self._tell(event)

    def _tell(self, event: Event) -> None:
        self._latest.append(Happening(self._wall(), event.name.value, _words(event)))

    def _pause(self, event: Event) -> None:
        self._paused_until = max(self._paused_until, self._wall() + (event.duration_s or 0.0))
        self._tell(event)

    def _page(self, event: Event) -> None:
        self._segment_pages += 1
        self._segment_ids += event.count or 0

    def _start(self, event: Event) -> None:
        self._sends, self._settled = event.count, event.settled

    def _reuse(self, event: Event) -> None:
        self._reused += 1
        self._tell(event)

    def _note(self, now: float) -> None:
        """Put what was added up where it belongs, and go on with the slot and the second of this moment."""
        if self._accepted:
            self._slot.sends["accepted"] += self._accepted
            self._accepted = 0
        for lane in self._lanes.values():
            if lane.calls:
                _, by_endpoint, by_account = self._recent[-1]
                self._slot.calls[lane.endpoint] += lane.calls
                by_endpoint[lane.endpoint] += lane.calls
                by_account[lane.account] += lane.calls
                lane.all_calls += lane.calls
                lane.calls = 0
        if self._begins <= now < self._ends:
            return
        before = self._slot
        self._slot, begins, ends = self._slots.at(now)
        if self._slot is not before:
            for latencies in before.latencies.values():
                latencies.settle()
        for lane in self._lanes.values():
            lane.latencies = None
        second = math.floor(now)
        self._begins, self._ends = max(begins, second), min(ends, second + 1)
        if not self._recent or self._recent[-1][0] != second:
            self._recent.append((second, Counter(), Counter()))
            while self._recent[0][0] < second - RECENT_S:
                self._recent.popleft()

    def _down_or_up(self, event: Event) -> None:
        """Note an outage; that it goes on is no news, and only its end is another happening."""
        where, now = (event.endpoint or "", event.account or ""), self._wall()
        before = self._outages.pop(where, None)
        if event.name is EventName.ENDPOINT_DOWN:
            since = now if before is None else before.since
            self._outages[where] = Outage(*where, since, now + (event.duration_s or 0.0), event.reason or "")
        if before is None or event.name is EventName.ENDPOINT_UP:
            self._latest.append(Happening(now, event.name.value, _words(event)))

    def _rates(self, now: float) -> tuple[dict[str, float], dict[str, float]]:
        """Return calls a second over the whole seconds of late, by endpoint and by account."""
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
        whole = self._slots.all[-1 - RECENT_SLOTS : -1]
        return sum(slot.sends.total() for slot in whole) / (len(whole) * self._slots.width_s) if whole else 0.0


def _count(counts: dict[Any, int], name: str | int) -> Any:
    """Count a name, or the rest of them where there are too many different ones; return which of the two it was."""
    counted = name if name in counts or len(counts) < REASONS_MOST else OTHER
    counts[counted] = counts.get(counted, 0) + 1
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
