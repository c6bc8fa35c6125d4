"""The arithmetic of limits: bucket sizes, the margin for jitter, the window proof. No clock, no sleeping."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from bulksend.model import Limit, Window

__all__ = ["Bucket", "WindowCount", "bucket_of", "jitter_margin_s", "spread_s"]

BURST_MOST = 10
TICK_S = 0.002
"""The event loop wakes no more often than this: at a rate of many calls a tick, those of one leave together."""
TIMER_LATENESS_S = 0.02
"""How late a timer of the event loop may be without a token being lost."""
JITTER_STEPS_S = (0.05, 0.075, 0.1, 0.15, 0.2)
"""The margin moves in steps, so that a bucket is not made anew for every reply."""
EXACT_CALLS = 20_000
COARSE_SLOTS = 6_000


@dataclass(frozen=True, slots=True)
class Bucket:
    """A token bucket that keeps every window of a limit.

    Tokens fall due one every `1/rate_per_s` seconds, and may be used up to `lateness_s` after that, so that at most
    `burst` leave at once; later they are lost.
    """

    burst: int
    rate_per_s: float
    lateness_s: float


def bucket_of(limit: Limit, margin_s: float) -> Bucket:
    """Return the fastest bucket that puts at most N calls into any window of T, with jitter up to `margin_s`.

    Tokens used within L seconds fell due within L + lateness: at most r·(L + lateness) + 1 of them. Calls that reach
    the server within T left within less than T + margin, so r·(T + margin + lateness) = N keeps them at N or below;
    with b = r·lateness + 1 that is r = (N - b + 1)/(T + margin). Where b/r is shorter than a timer may be late, the
    difference counts as margin. One bucket with the smallest burst and rate keeps several windows at once.
    """
    burst = min(min(max(one.calls // 100, 1), _burst_most(one)) for one in limit.windows)

    def rate(extra_s: float) -> float:
        return min((window.calls - burst + 1) / (window.period_s + margin_s + extra_s) for window in limit.windows)

    extra_s = max(0.0, TIMER_LATENESS_S - (burst - 1) / rate(0.0))
    return Bucket(burst, rate(extra_s), (burst - 1) / rate(extra_s) + extra_s)


def _burst_most(window: Window) -> int:
    return max(BURST_MOST, math.ceil(window.calls / window.period_s * TICK_S))


def spread_s(durations_s: Sequence[float]) -> float:
    """Return how much the way to the vendor varies: the 98th percentile of recent round trips less the shortest."""
    if not durations_s:
        return 0.0
    ordered = sorted(durations_s)
    return ordered[max(0, math.ceil(len(ordered) * 0.98) - 1)] - ordered[0]


def jitter_margin_s(spread: float, limited: int, period_s: float) -> float:
    """Return the margin j of design §7: the spread, at least 50 ms and at most 200 ms, doubled by each 429 so far.

    `limited` counts the times that the vendor said 429 although our count was within the limit; the margin never
    passes the larger of 200 ms and a twentieth of the window.
    """
    margin = next((step for step in JITTER_STEPS_S if spread <= step), JITTER_STEPS_S[-1])
    return margin if limited == 0 else min(margin * 2 ** min(limited, 10), max(JITTER_STEPS_S[-1], period_s / 20))


class WindowCount:
    """The most calls in any window, from the times at which they left: the proof after the fact.

    Exact for windows of up to 20,000 calls; above, times are rounded to a 6,000th of the window, and never fewer are
    counted than there were.
    """

    __slots__ = ("_in_window", "_slots", "_step_s", "_window", "most")

    def __init__(self, window: Window) -> None:
        self._window = window
        self._step_s = 0.0 if window.calls <= EXACT_CALLS else window.period_s / COARSE_SLOTS
        self._slots: deque[list[float]] = deque()
        self._in_window = 0
        self.most = 0

    def add(self, at_s: float) -> None:
        """Count a call; times must not go back."""
        slot = math.floor(at_s / self._step_s) * self._step_s if self._step_s else at_s
        if self._slots and self._slots[-1][0] == slot:
            self._slots[-1][1] += 1
        else:
            self._slots.append([slot, 1])
        self._in_window += 1
        # A slot counts as long as any time in it may lie in the window.
        oldest = slot - self._window.period_s - self._step_s
        while self._slots[0][0] <= oldest:
            self._in_window -= int(self._slots.popleft()[1])
        self.most = max(self.most, self._in_window)
