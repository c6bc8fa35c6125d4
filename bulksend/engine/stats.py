"""What the calls of a run amount to, per endpoint: counts, latency, share of the limit, the window proof."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import deque

from bulksend.engine.rate import WindowCount
from bulksend.model import Limit

__all__ = ["EndpointStats", "Latencies"]

STEPS_PER_DOUBLING = 16
WAITING_MOST = 512
_FIRST = round(math.log2(1e-6) * STEPS_PER_DOUBLING)
"""The number of the bucket about 1 µs, which has everything below it too; that about 1 s is number 0."""
_ENDS = (*(2 ** ((number + 0.5) / STEPS_PER_DOUBLING) for number in range(_FIRST, 20 * STEPS_PER_DOUBLING)), math.inf)
"""The longest latency of each bucket."""
SAMPLED_LEAST_S = 0.5
"""A shorter time says nothing about a rate."""
SAMPLED_CALLS = 10
"""A sample looks back over the time of so many calls at the limit: with fewer, a slow one would be all or nothing."""
SAMPLED_MOST_S = 30.0


class Latencies:
    """A histogram whose buckets grow by 4.4 %, from 1 µs to 12 days: percentiles within that, in constant memory.

    What is added waits, and is sorted into the buckets many at a time, which costs a third of one by one.
    """

    __slots__ = ("_buckets", "_waiting")

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self._waiting: list[float] = []

    @property
    def count(self) -> int:
        """Return how many were counted."""
        return sum(self._buckets.values()) + len(self._waiting)

    def add(self, seconds: float) -> None:
        """Count one latency."""
        waiting = self._waiting
        waiting.append(seconds)
        if len(waiting) >= WAITING_MOST:
            self.settle()

    def settle(self) -> None:
        """Sort what waits into the buckets: done where it is asked for, and worth it only to free its memory."""
        waiting, self._waiting = self._waiting, []
        waiting.sort()
        begin = 0
        while begin < len(waiting):
            bucket = bisect_left(_ENDS, waiting[begin])
            end = bisect_right(waiting, _ENDS[bucket], begin)
            self._buckets[bucket] = self._buckets.get(bucket, 0) + end - begin
            begin = end

    def merge(self, other: Latencies) -> None:
        """Count the other's latencies too."""
        other.settle()
        for bucket, number in other._buckets.items():
            self._buckets[bucket] = self._buckets.get(bucket, 0) + number

    def percentile_ms(self, share: float) -> float | None:
        """Return the latency that this share (0 to 1) of the calls did not pass, in ms; None without calls."""
        self.settle()
        wanted = math.ceil(self.count * share)
        seen = 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= wanted:
                return float(round(2 ** ((bucket + _FIRST) / STEPS_PER_DOUBLING) * 1000, 1))
        return None


class EndpointStats:
    """One endpoint's calls in a run, over all accounts; windows are counted per account, the fullest one is told."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.calls = 0
        self.throttled = 0
        self.retried = 0
        self.latencies = Latencies()
        self.first_at_s = math.inf
        self.last_at_s = -math.inf
        self.last_reply_at_s = -math.inf
        self._windows: dict[str, WindowCount] = {}
        self._calls: dict[str, int] = {}
        self._samples: deque[tuple[float, dict[str, int]]] = deque([(0.0, {})])

    def left(self, account: str, at_s: float) -> None:
        """Count a call that passed the gate."""
        self.calls += 1
        self._calls[account] = self._calls.get(account, 0) + 1
        if at_s < self.first_at_s:  # noqa: PLR1730 - a fifth of the time
            self.first_at_s = at_s
        if at_s > self.last_at_s:  # noqa: PLR1730 - a fifth of the time
            self.last_at_s = at_s
        window = self._windows.get(account)
        if window is None:
            window = self._windows[account] = WindowCount(self.limit.windows[0])
        window.add(at_s)

    def answered(self, duration_s: float, at_s: float) -> None:
        """Count a whole reply."""
        self.latencies.add(duration_s)
        if at_s > self.last_reply_at_s:  # noqa: PLR1730 - a fifth of the time
            self.last_reply_at_s = at_s

    @property
    def max_in_window(self) -> int:
        """Return the most calls that any account made in any window (the first, where the limit has several)."""
        return max((window.most for window in self._windows.values()), default=0)

    @property
    def utilization(self) -> float | None:
        """Return the busiest account's rate from first to last call as a share of the limit; None under two calls."""
        calls = max(self._calls.values(), default=0)
        if calls < 2:
            return None
        allowed_per_s = min(window.calls / window.period_s for window in self.limit.windows)
        # A run shorter than a second says nothing about a rate: its burst is set against a whole second.
        took_s = max(self.last_at_s - self.first_at_s, 1.0)
        return min(1.0, (calls - 1) / took_s / allowed_per_s)

    @property
    def limit_per_s(self) -> float:
        """Return how many calls a second the limit lets all accounts make together that were called for so far."""
        return len(self._calls) * min(window.calls / window.period_s for window in self.limit.windows)

    def sample(self, now_s: float) -> float:
        """Return the share of the limit that the busiest account has used of late: since the last sample, or longer."""
        allowed_per_s = min(window.calls / window.period_s for window in self.limit.windows)
        reach_s = min(SAMPLED_MOST_S, max(SAMPLED_LEAST_S, SAMPLED_CALLS / allowed_per_s))
        while len(self._samples) > 1 and self._samples[1][0] <= now_s - reach_s:
            self._samples.popleft()
        then_s, before = self._samples[0]
        self._samples.append((now_s, self._calls.copy()))
        calls = max((number - before.get(account, 0) for account, number in self._calls.items()), default=0)
        since_s = now_s - max(then_s, self.first_at_s)
        if since_s <= 0:
            return 0.0
        return calls / max(since_s, SAMPLED_LEAST_S, 1 / allowed_per_s) / allowed_per_s

    def summary(self) -> dict[str, object]:
        """Return the endpoint's part of the summary."""
        utilization = self.utilization
        return {
            "limit": str(self.limit),
            "calls": self.calls,
            "throttled": self.throttled,
            "max_in_window": self.max_in_window,
            "utilization": None if utilization is None else round(utilization, 4),
            "p50_ms": self.latencies.percentile_ms(0.5),
            "p99_ms": self.latencies.percentile_ms(0.99),
        }
