"""A vendor in simulated time: the emulators' own limiter, a way to it that varies, and a search against it."""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from typing import Any

from bulksend.emulators.window import Window, parse_limit
from bulksend.loadtest.open_model import Stop
from bulksend.loadtest.search import Found, LimitSearch
from bulksend.loadtest.shot import Shot
from bulksend.loadtest.trial_runner import TrialRunner
from bulksend.model import Accepted, Throttled
from tests.simulated_time import run_simulated


class Vendor:
    """Counts with the emulators' own limiter. `retry_after` puts whole seconds, rounded up, on its 429s."""

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
        self.window = Window(parse_limit(limit))
        self.random = random.Random(seed)
        self.latency_s, self.jitter_s, self.stall_s = latency_s, jitter_s, stall_s
        self.retry_after = retry_after
        self.calls = self.throttled = 0

    def _way_s(self) -> float:
        stall_s = self.stall_s if self.random.random() < 0.02 else 0.0
        return self.latency_s / 2 + self.random.random() * self.jitter_s + stall_s

    def admit(self, now_s: float) -> float:
        """Count a call, or return how long it would have to wait."""
        return 0.0 if self.window.admit(now_s) else self.window.wait_s(now_s)

    async def shoot(self, number: int) -> Shot:
        loop = asyncio.get_running_loop()
        left_s = loop.time()
        await asyncio.sleep(self._way_s())
        self.calls += 1
        wait_s = self.admit(loop.time())
        self.throttled += wait_s > 0
        await asyncio.sleep(self._way_s())
        if not wait_s:
            return Shot(left_s, loop.time(), Accepted(), 200)
        told = str(math.ceil(wait_s)) if self.retry_after else None
        return Shot(left_s, loop.time(), Throttled(429, told), 429)


class FixedWindows(Vendor):
    """Counts from nought at each full period of its clock, as many vendors do."""

    def __init__(self, limit: str, **named: Any) -> None:
        super().__init__(limit, **named)
        (self.rate,) = self.window.limit.rates
        self.begins_s = self.random.random() * self.rate.seconds
        self.counted: Counter[int] = Counter()

    def admit(self, now_s: float) -> float:
        number, into_s = divmod(now_s + self.begins_s, self.rate.seconds)
        if self.counted[int(number)] >= self.rate.calls:
            return self.rate.seconds - into_s
        self.counted[int(number)] += 1
        return 0.0


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
