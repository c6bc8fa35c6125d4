"""What the calls of a run amount to, per endpoint: counts, latency, share of the limit, the window proof."""

from __future__ import annotations

import math
from collections import Counter, deque

from bulksend.engine.rate import WindowCount
from bulksend.model import Limit

__all__ = ["EndpointStats", "Latencies"]

STEPS_PER_DOUBLING = 16
SAMPLED_LEAST_S = 0.5
"""A shorter time says nothing about a rate."""
SAMPLED_CALLS = 10
"""A sample looks back over the time of so many calls at the limit: with fewer, a slow one would be all or nothing."""
SAMPLED_MOST_S = 30.0


class Latencies:
    """A histogram whose buckets grow by 4.4 %: percentiles within that, in constant memory."""

    __slots__ = ("_buckets", "count")

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self.count = 0

    def add(self, seconds: float) -> None:
        """Count one latency."""
        self._buckets[round(math.log2(max(seconds, 1e-6)) * STEPS_PER_DOUBLING)] += 1
        self.count += 1

    def merge(self, other: Latencies) -> None:
        """Count the other's latencies too."""
        self._buckets.update(other._buckets)
        self.count += other.count

    def percentile_ms(self, share: float) -> float | None:
        """Return the latency that this share (0 to 1) of the calls did not pass, in ms; None without calls."""
        wanted = math.ceil(self.count * share)
        seen = 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= wanted:
                return float(round(2 ** (bucket / STEPS_PER_DOUBLING) * 1000, 1))
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
        self._calls: Counter[str] = Counter()
        self._samples: deque[tuple[float, Counter[str]]] = deque([(0.0, Counter())])

    def left(self, account: str, at_s: float) -> None:
        """Count a call that passed the gate."""
        self.calls += 1
        self._calls[account] += 1
        self.first_at_s = min(self.first_at_s, at_s)
        self.last_at_s = max(self.last_at_s, at_s)
        window = self._windows.get(account)
        if window is None:
            window = self._windows[account] = WindowCount(self.limit.windows[0])
        window.add(at_s)

    def answered(self, duration_s: float, at_s: float) -> None:
        """Count a whole reply."""
        self.latencies.add(duration_s)
        self.last_reply_at_s = max(self.last_reply_at_s, at_s)

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
        calls = max((number - before[account] for account, number in self._calls.items()), default=0)
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
