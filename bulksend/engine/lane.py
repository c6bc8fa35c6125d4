"""One account's calls to one endpoint: how many may be under way, and how many intents may run ahead of the gate."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Mapping

from bulksend.engine.limiter import Gate
from bulksend.model import Account, Endpoint

__all__ = ["Lane", "Permits"]

IN_FLIGHT_LEAST = 4
IN_FLIGHT_MOST = 4096
FIRST_LATENCY_S = 1.0
"""Taken for the vendor's latency before its first reply."""
POLLS_MOST = 4
AHEAD_S = 0.005
"""How far intents run ahead of the gate, beyond what two commits take: well within the 20 ms of design §7."""


class Permits:
    """A semaphore whose size may change; waiters are served in order."""

    __slots__ = ("_waiters", "in_use", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.in_use = 0
        self._waiters: deque[asyncio.Future[None]] = deque()

    async def acquire(self) -> None:
        """Take a permit, waiting for one if need be."""
        if self.in_use < self.size and not self._waiters:
            self.in_use += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiters.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release()
            raise

    def release(self) -> None:
        """Give a permit back."""
        self.in_use -= 1
        self._serve()

    def resize(self, size: int) -> None:
        """Change how many there are; those in use stay."""
        self.size = size
        self._serve()

    def _serve(self) -> None:
        while self._waiters and self.in_use < self.size:
            turn = self._waiters.popleft()
            if not turn.done():
                self.in_use += 1
                turn.set_result(None)


class Lane:
    """The way of an account's calls to an endpoint; the gate may be shared with other accounts of the same identity."""

    def __init__(self, account: Account, endpoint: Endpoint, headers: Mapping[str, str], gate: Gate) -> None:
        self.account = account
        self.endpoint = endpoint
        self.headers = headers
        self.gate = gate
        self.episode = 0
        """Pauses in a row without a call between them that got through."""
        self.down_since_s: float | None = None
        """Since when no connection could be made."""
        self._latency_s = FIRST_LATENCY_S
        self._commit_s = 0.005
        self.in_flight = Permits(self._room())
        self.ahead = Permits(self._ahead())
        self.polls = Permits(POLLS_MOST)
        """Those who ask again and again how far something is: they do not stand before who asks once."""

    def _room(self) -> int:
        """Return twice what latency times rate asks for, so that a slower reply does not cost a token."""
        bucket = self.gate.bucket
        wanted = math.ceil(2 * bucket.rate_per_s * self._latency_s) + bucket.burst + self._ahead()
        return min(max(wanted, IN_FLIGHT_LEAST), IN_FLIGHT_MOST)

    def _ahead(self) -> int:
        rate_per_s = self.gate.bucket.rate_per_s
        if rate_per_s < 10:
            return 1
        return min(math.ceil(rate_per_s * (AHEAD_S + 2 * self._commit_s)) + 1, IN_FLIGHT_MOST)

    def heard(self, duration_s: float) -> None:
        """Learn from a reply how long one takes; a rise counts at once, a fall slowly."""
        self.gate.heard(duration_s)
        share = 0.5 if duration_s > self._latency_s else 0.02
        self._latency_s += share * (duration_s - self._latency_s)
        self.in_flight.resize(self._room())

    def committed(self, duration_s: float) -> None:
        """Learn how long an intent takes to become durable."""
        self._commit_s += 0.1 * (duration_s - self._commit_s)
        self.ahead.resize(self._ahead())
