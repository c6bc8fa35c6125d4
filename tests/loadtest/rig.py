"""A vendor in simulated time: strict sliding windows, a way to it that varies, and a search or a test against it."""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque

from bulksend.loadtest.open_model import Stop
from bulksend.loadtest.search import Found, LimitSearch
from bulksend.loadtest.shot import Shot
from bulksend.loadtest.trial_runner import TrialRunner
from bulksend.model import Accepted, Limit, Throttled
from tests.simulated_time import run_simulated


class Vendor:
    """Counts as the strictest vendor does. `retry_after` puts whole seconds, rounded up, on its 429s."""

    def __init__(
        self,
        limit: str,
        *,
        latency_s: float = 0.02,
        jitter_s: float = 0.01,
        stall_s: float = 0.0,
        retry_after: bool = False,
        seed: int = 1,
    ) -> None:
        self.windows = Limit.parse(limit).windows
        self.random = random.Random(seed)
        self.latency_s, self.jitter_s, self.stall_s = latency_s, jitter_s, stall_s
        self.retry_after = retry_after
        self.times: list[deque[float]] = [deque() for _ in self.windows]
        self.calls = self.throttled = 0

    def _way_s(self) -> float:
        stall_s = self.stall_s if self.random.random() < 0.02 else 0.0
        return self.latency_s / 2 + self.random.random() * self.jitter_s + stall_s

    async def shoot(self, number: int) -> Shot:
        loop = asyncio.get_running_loop()
        left_s = loop.time()
        await asyncio.sleep(self._way_s())
        now = loop.time()
        self.calls += 1
        wait_s = 0.0
        for window, times in zip(self.windows, self.times, strict=True):
            while times and times[0] <= now - window.period_s:
                times.popleft()
            if len(times) >= window.calls:
                wait_s = max(wait_s, times[0] + window.period_s - now)
        if wait_s:
            self.throttled += 1
            told = str(math.ceil(wait_s)) if self.retry_after else None
        else:
            for times in self.times:
                times.append(now)
        await asyncio.sleep(self._way_s())
        outcome = Throttled(429, told) if wait_s else Accepted()
        return Shot(left_s, loop.time(), outcome, 429 if wait_s else 200)


def search(
    vendor: Vendor, *, top: float, hold_s: float, budget: int = 100, from_per_s: float | None = None
) -> tuple[Found, float]:
    """Search for the vendor's limit; returns what was found, and how long it took."""

    async def main() -> tuple[Found, float]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        one = LimitSearch(top_per_s=top, hold_s=hold_s, budget=budget, from_per_s=from_per_s, now_s=began)
        runner = TrialRunner(vendor.shoot, clock=loop.time, wall=loop.wall, max_in_flight=32, stop=Stop())  # type: ignore[attr-defined]
        return await runner.run(one), loop.time() - began

    return run_simulated(main())
