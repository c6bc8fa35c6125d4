"""The token buckets that every process on the SQLite ledger shares."""

from __future__ import annotations

from collections.abc import Callable

from bulksend.ledger.base import Lease
from bulksend.ledger.database import Database

__all__ = ["Buckets"]

CLOCK_SLACK_S = 10.0
"""How far ahead leases reach, where it is not known when they were taken: further shows a clock that was set back."""


class Buckets:
    """The part of a ledger that is about limits; everything blocks. `wall` is the clock."""

    def __init__(self, db: Database, wall: Callable[[], float]) -> None:
        self._db = db
        self._wall = wall

    def lease(self, identity: str, endpoint: str, *, tokens: int, rate_per_s: float, delay_s: float) -> Lease:
        """Take the next tokens; durable, so that a restart remembers them."""
        with self._db.transaction():
            now = self._wall()
            next_at, paused_at, paused_until, leased_at = self._find(identity, endpoint)
            if leased_at > now:  # the clock was set back since: what was leased is as far ahead as it was then
                next_at = now + (next_at - leased_at)
            elif not leased_at:  # written by an older version
                next_at = min(next_at, now + max(CLOCK_SLACK_S, 20 * tokens / rate_per_s))
            if paused_at > now:
                paused_until = now + (paused_until - paused_at)
            start = max(now + delay_s, next_at, paused_until)
            end = start + tokens / rate_per_s
            self._set(identity, endpoint, end, min(paused_at, now), paused_until, now)
        return Lease(start, end, tokens)

    def give_back(self, identity: str, endpoint: str, *, lease: Lease, unused: int) -> None:
        """Shorten the bucket by the lease's unused tail, unless somebody has leased behind it."""
        next_at = lease.end - (lease.end - lease.start) * unused / lease.tokens
        self._db.execute("give_back", identity=identity, endpoint=endpoint, next_at=next_at, end=lease.end)

    def pause(self, identity: str, endpoint: str, seconds: float) -> None:
        """Keep the later of two pauses."""
        with self._db.transaction():
            now = self._wall()
            next_at, paused_at, paused_until, leased_at = self._find(identity, endpoint)
            if paused_at > now:  # the clock was set back since: as in lease()
                paused_until = now + (paused_until - paused_at)
            self._set(identity, endpoint, next_at, now, max(paused_until, now + seconds), leased_at)

    def _find(self, identity: str, endpoint: str) -> tuple[float, float, float, float]:
        row = self._db.execute("find_bucket", identity=identity, endpoint=endpoint).fetchone()
        return (0.0, 0.0, 0.0, 0.0) if row is None else row[:4]

    def _set(
        self, identity: str, endpoint: str, next_at: float, paused_at: float, paused_until: float, leased_at: float
    ) -> None:
        values = {"next_at": next_at, "paused_at": paused_at, "paused_until": paused_until, "leased_at": leased_at}
        self._db.execute("set_bucket", identity=identity, endpoint=endpoint, **values)
