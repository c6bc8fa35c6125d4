"""One account's calls to one endpoint: how many may be under way, and how many intents may run ahead of the gate."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Mapping

from bulksend.engine.limiter import Gate
from bulksend.model import Account, Endpoint

__all__ = ["Lane", "Permit", "Permits"]

IN_FLIGHT_LEAST = 4
IN_FLIGHT_MOST = 4096
IN_FLIGHT_UNPROVEN = 512
"""At a limit beyond reach, so many calls are let be under way before it has shown that more of them bring more."""
BEYOND_REACH_PER_S = 5000.0
"""A limit of more calls a second than this is more than one process uses."""
PROVEN_EVERY_S = 0.1
"""How often it is looked at how many replies came."""
FIRST_LATENCY_S = 1.0
"""Taken for the vendor's latency before its first reply."""
HEARD_EVERY = 8
"""A latency that falls is no news with every reply."""
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


class Permit:
    """One permit that was taken; it is given back once, however often that is said."""

    __slots__ = ("_permits",)

    def __init__(self, permits: Permits) -> None:
        self._permits: Permits | None = permits

    def release(self) -> None:
        """Give it back; nothing happens when it was."""
        if self._permits is not None:
            permits, self._permits = self._permits, None
            permits.release()


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
        self._proven = IN_FLIGHT_UNPROVEN
        self._replies = 0
        self._shortest_s = math.inf
        self._counted_since_s: float | None = None
        self._commit_s = 0.005
        self.in_flight = Permits(self._room())
        self.ahead = Permits(self._ahead())
        self.polls = Permits(POLLS_MOST)
        """Those who ask again and again how far something is: they do not stand before who asks once."""

    def _room(self) -> int:
        """Return twice what latency times rate asks for, so that a slower reply does not cost a token.

        Where the limit is beyond reach, it is what brings replies: calls that only wait for one another cost memory and
        bring none. Not below: a vendor whose quick replies are refusals needs room for the slow ones.
        """
        bucket = self.gate.bucket
        wanted = math.ceil(2 * bucket.rate_per_s * self._latency_s) + bucket.burst + self._ahead()
        most = self._proven if bucket.rate_per_s > BEYOND_REACH_PER_S else IN_FLIGHT_MOST
        return min(max(wanted, IN_FLIGHT_LEAST), most)

    def _ahead(self) -> int:
        rate_per_s = self.gate.bucket.rate_per_s
        if rate_per_s < 10:
            return 1
        return min(math.ceil(rate_per_s * (AHEAD_S + 2 * self._commit_s)) + 1, IN_FLIGHT_MOST)

    def heard(self, duration_s: float, now_s: float) -> None:
        """Learn from a reply how long one takes; a rise counts at once, a fall slowly."""
        self.gate.heard(duration_s)
        self._replies += 1
        self._shortest_s = min(self._shortest_s, duration_s)
        if self._counted_since_s is None:
            self._counted_since_s = now_s
        elif now_s - self._counted_since_s >= PROVEN_EVERY_S:
            self._prove(now_s, now_s - self._counted_since_s)
        difference_s = duration_s - self._latency_s
        self._latency_s += difference_s * (0.5 if difference_s > 0 else 0.02)
        if difference_s > 0 or self._replies % HEARD_EVERY == 0:
            self.in_flight.resize(self._room())

    def _prove(self, now_s: float, took_s: float) -> None:
        """Let four times as many be under way as came back in the time that the shortest of them took."""
        per_s = self._replies / took_s
        enough = 4 * per_s * (self._shortest_s + 2 * self._commit_s)
        self._proven = min(max(math.ceil(enough), IN_FLIGHT_UNPROVEN), IN_FLIGHT_MOST)
        self._replies, self._shortest_s, self._counted_since_s = 0, math.inf, now_s
        self.in_flight.resize(self._room())

    def committed(self, duration_s: float) -> None:
        """Learn how long an intent takes to become durable."""
        before_s = self._commit_s
        self._commit_s += 0.1 * (duration_s - before_s)
        if abs(self._commit_s - before_s) > 0.01 * before_s:
            self.ahead.resize(self._ahead())
