"""The gate: the last thing before the wire, one per account and endpoint."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from aiolimiter import AsyncLimiter

from bulksend.engine.circuit import Circuit
from bulksend.engine.clocks import Clocks
from bulksend.engine.rate import Bucket, bucket_of, jitter_margin_s, spread_s
from bulksend.errors import LedgerError
from bulksend.ledger.base import Lease, Ledger
from bulksend.model import Limit

__all__ = ["Gate", "StoppedError"]

LEASE_S = 0.5
"""How much of the limit a process takes from the ledger at a time, at least; what a death costs the others."""
FIRST_COMMIT_S = 0.03
"""Taken for how long the ledger needs to give a lease, before the first."""
SAMPLES = 256
JOIN_S = 0.001


class StoppedError(Exception):
    """No call passes the gate any more."""


STEADY = 1.25
"""By so much must the way to the vendor vary less than a step of the margin before that becomes smaller."""


class Gate:
    """Lets calls pass at the limit's rate, over every process that uses the same ledger.

    The pace comes from an `AsyncLimiter`; the right to use the limit comes in leases from the ledger, so that neither a
    restart nor a second process starts a window of its own. A token is used when it falls due or a little later, never
    before. Calls pass in the order in which they came. A pause holds everybody; afterwards the bucket starts empty, so
    that nothing leaves in a burst. While the circuit is open, one call at a time passes. `wall` is the ledger's clock,
    in seconds since the epoch; when it is set, or the machine slept, what was leased before is not used: others may
    lease the same time anew.
    """

    def __init__(
        self,
        identity: str,
        endpoint: str,
        limit: Limit,
        ledger: Ledger,
        *,
        wall: Callable[[], float],
        on_change: Callable[[Bucket], None] = lambda _bucket: None,
    ) -> None:
        self.limit = limit
        self.endpoint = endpoint
        self.identity = identity
        self._ledger = ledger
        self._clocks = Clocks(wall)
        self._on_change = on_change
        self._waiters: deque[tuple[asyncio.Future[bool], str]] = deque()
        self._pump: asyncio.Task[None] | None = None
        self._closed: BaseException | None = None
        self._paused_until = 0.0
        self._durations_s: deque[float] = deque(maxlen=SAMPLES)
        self._replies = 0
        self._limited = 0
        self._margin_s = jitter_margin_s(0.0, 0, self.period_s)
        self.bucket = bucket_of(limit, self._margin_s)
        self._pace: AsyncLimiter | None = None
        self._lease: Lease | None = None
        self._used = 0
        self._starts = self._ends = 0.0
        self._lease_rate = 0.0
        self._bucket_in_use = self.bucket
        self._next: asyncio.Task[tuple[Lease, Bucket]] | None = None
        self._commit_s = FIRST_COMMIT_S
        self._apart_s = 0.0
        """How far the next lease must be from now, at least."""
        self.circuit = Circuit()
        self._probe: asyncio.Future[None] | None = None

    @property
    def period_s(self) -> float:
        """Return the longest window of the limit."""
        return max(window.period_s for window in self.limit.windows)

    @property
    def paused_for_s(self) -> float:
        """Return how much longer nothing passes."""
        return max(0.0, self._paused_until - asyncio.get_running_loop().time())

    async def turn(self, owner: str = "") -> bool:
        """Return when the call may leave, now; true where it goes alone, and `answered` lets the next one go.

        Raises StoppedError once the gate is closed, or the owner dismissed.
        """
        if self._closed is not None:
            raise self._closed
        if self._pump is None and await self._at_once():
            return False
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiters.append((turn, owner))
        if self._pump is None:
            self._pump = asyncio.get_running_loop().create_task(self._serve())
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None and turn.result():
                self.answered()  # granted as whoever waited went away: the next one may go
            raise

    async def _at_once(self) -> bool:
        """Use a token that is there already, where nobody waits for one; this does not let anybody else run."""
        if self._clocks.have_parted():
            self._forget_leases()
            return False
        lease, pace, now = self._lease, self._pace, asyncio.get_running_loop().time()
        if lease is None or pace is None or self.circuit.is_open or now < self._paused_until:
            return False
        if not self._starts <= now < self._ends or not pace.has_capacity():
            return False
        # Tokens that fell due too long ago are lost, as for those who wait.
        expired = math.ceil((now - self._bucket_in_use.lateness_s - self._starts) * self._lease_rate)
        used = max(self._used, expired)
        if used >= lease.tokens or self._starts + used / self._lease_rate > now:
            return False
        await pace.acquire()
        self._used = used + 1
        if self._next is None and self._used * 2 >= lease.tokens:
            self._next = asyncio.get_running_loop().create_task(self._take())
        return True

    def close(self, why: BaseException | None = None) -> None:
        """Let nothing pass any more; whoever waits is told at once."""
        self._closed = why or StoppedError()
        for turn, _ in self._waiters:
            if not turn.done():
                turn.set_exception(self._closed)
        self._waiters.clear()
        for task in (self._pump, self._next):
            if task is not None:
                task.cancel()
        self._next = None

    def dismiss(self, owner: str) -> None:
        """Tell those who wait for this owner that they need not: its account is over, the gate is not."""
        for turn, whose in self._waiters:
            if whose == owner and not turn.done():
                turn.set_exception(StoppedError())

    def answered(self) -> None:
        """The call that went alone is over, or did not use its turn."""
        if self._probe is not None and not self._probe.done():
            self._probe.set_result(None)

    async def give_back(self) -> None:
        """Return what is left of the lease, for the run that comes next; a ledger that has failed does not take it."""
        lease, self._lease = self._lease, None
        if lease is not None and self._used < lease.tokens:
            unused = lease.tokens - self._used
            with suppress(LedgerError):
                await self._ledger.give_back(self.identity, self.endpoint, lease=lease, unused=unused)

    async def pause(self, seconds: float) -> None:
        """Let nothing pass for so long, here and in every process of the ledger."""
        until = asyncio.get_running_loop().time() + seconds
        if until <= self._paused_until:
            return
        self._paused_until = until
        self._lease = self._pace = None
        await self._ledger.pause(self.identity, self.endpoint, seconds)

    def correct(self, limit: Limit) -> None:
        """Keep to another limit from the next lease on: the vendor has told its own."""
        if limit != self.limit:
            self.limit = limit
            self.bucket = bucket_of(limit, self._margin_s)
            self._on_change(self.bucket)

    def told_to_wait(self) -> None:
        """Count a 429: our idea of the way to the vendor was too good, so the margin grows."""
        self._limited += 1
        self._refit()

    def heard(self, duration_s: float) -> None:
        """Count a reply's round trip, from which the jitter of the way is judged."""
        self._durations_s.append(duration_s)
        self._replies += 1
        if self._replies % 64 == 0:
            self._refit()

    def _refit(self) -> None:
        spread = spread_s(self._durations_s)
        margin_s = jitter_margin_s(spread, self._limited, self.period_s)
        if margin_s < self._margin_s:  # a way that varies by about a step does not have the pace go to and fro
            margin_s = min(self._margin_s, jitter_margin_s(spread * STEADY, self._limited, self.period_s))
        if margin_s != self._margin_s:
            self._margin_s = margin_s
            self.bucket = bucket_of(self.limit, margin_s)
            self._on_change(self.bucket)

    async def _serve(self) -> None:
        try:
            while self._waiters:
                await self._token()
                while self._waiters:
                    turn, _ = self._waiters.popleft()
                    if not turn.done():
                        alone = self.circuit.is_open
                        turn.set_result(alone)
                        if alone:
                            self._probe = asyncio.get_running_loop().create_future()
                            await self._probe
                        break
        except asyncio.CancelledError:
            raise
        except BaseException as wrong:
            self._pump = None
            self.close(wrong)
        finally:
            self._pump = None

    async def _token(self) -> None:
        """Wait for one token: not paused, within a lease, in pace, and neither before nor too long after it is due."""
        loop = asyncio.get_running_loop()
        while True:
            if self._clocks.have_parted():
                self._forget_leases()
            now = loop.time()
            if now < self._paused_until:
                self._lease = self._pace = None
                await asyncio.sleep(self._paused_until - now)
                continue
            lease = self._lease
            if lease is not None:
                # Tokens that fell due too long ago are lost, so that what piled up in a stall never leaves at once.
                expired = math.ceil((now - self._bucket_in_use.lateness_s - self._starts) * self._lease_rate)
                self._used = max(self._used, expired)
            if lease is None or self._used >= lease.tokens:
                await self._renew()
                continue
            if now < self._starts:
                await asyncio.sleep(self._starts - now)
                continue
            if self._pace is None:
                self._pace = await self._fresh_pace()
            pace = self._pace
            await pace.acquire()
            due = self._starts + self._used / self._lease_rate
            if loop.time() < due:
                await asyncio.sleep(due - loop.time())
            if self._clocks.have_parted():
                self._forget_leases()
            if lease is not self._lease or loop.time() < self._paused_until:
                continue  # paused in the meantime, or the clock was set: the token belongs to a lease that is gone
            if loop.time() > due + self._bucket_in_use.lateness_s:
                continue  # lost in a stall while it was waited for: the next one may be due at once
            self._used += 1
            if self._next is None and self._waiters and self._used * 2 >= lease.tokens:
                self._next = loop.create_task(self._take())
            return

    def _forget_leases(self) -> None:
        self._lease = self._pace = None
        # The ledger does not know any more when the last token was used: by every process, it may have been just now.
        self._apart_s = 1 / self.bucket.rate_per_s
        if self._next is not None:
            self._next.cancel()
            self._next = None

    async def _fresh_pace(self) -> AsyncLimiter:
        """Make a limiter whose first token is there at once, and whose others come at the bucket's rate.

        It holds one token more than the burst: one that a timer woke too late for is caught up with, not lost.
        """
        size = self._bucket_in_use.burst + 1
        pace = AsyncLimiter(size, size / self._bucket_in_use.rate_per_s)
        await pace.acquire(size - 1)
        return pace

    async def _take(self) -> tuple[Lease, Bucket]:
        """Ask for a lease that lasts well beyond the time that the ledger needs to give one, and starts after it."""
        loop, bucket, began = asyncio.get_running_loop(), self.bucket, asyncio.get_running_loop().time()
        tokens = max(1, int(bucket.rate_per_s * max(LEASE_S, 4 * self._commit_s)))
        delay_s, self._apart_s = max(self._commit_s, self._apart_s), 0.0
        lease = await self._ledger.lease(
            self.identity, self.endpoint, tokens=tokens, rate_per_s=bucket.rate_per_s, delay_s=delay_s
        )
        took_s = loop.time() - began
        self._commit_s += (took_s - self._commit_s) * (1.0 if took_s > self._commit_s else 0.2)
        return lease, bucket

    async def _renew(self) -> None:
        """Enter the next lease; one that does not follow on the one before starts with an empty bucket."""
        loop = asyncio.get_running_loop()
        self._next = self._next or loop.create_task(self._take())
        lease, bucket = await asyncio.shield(self._next)
        self._next = None
        before = self._lease
        follows = before is not None and bucket is self._bucket_in_use and lease.start <= before.end + JOIN_S
        self._starts = self._ends if follows else self._clocks.loop_time(lease.start)
        self._ends = self._starts + (lease.end - lease.start)
        self._lease, self._used, self._bucket_in_use = lease, 0, bucket
        self._lease_rate = lease.tokens / (lease.end - lease.start)
        if not follows:
            self._pace = None
