"""The token buckets that every process on the SQLite ledger shares."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Protocol

import msgspec

from bulksend.ledger.base import Lease
from bulksend.ledger.database import Database

__all__ = ["Asked", "Buckets", "GiveBack", "Pause", "Take"]

CLOCK_SLACK_S = 10.0
"""How far ahead leases reach, where it is not known when they were taken: further shows a clock that was set back."""
MICRO = 1_000_000
LATEST_S = 9e9
"""A pause that is longer than the vendor can mean still is a number that SQLite holds."""


class Bucket(msgspec.Struct):
    """One bucket as it stands in the ledger.

    Times are whole microseconds: as JSON they go to SQLite and back exactly, which decimals do not.
    """

    next_at: int = 0
    paused_at: int = 0
    paused_until: int = 0
    leased_at: int = 0

    def paused_until_by(self, now: int) -> int:
        """Return when the pause is over, for a clock that may have been set back since it began."""
        return now + (self.paused_until - self.paused_at) if self.paused_at > now else self.paused_until


class Asked(Protocol):
    """What may be asked of a bucket."""

    @property
    def identity(self) -> str:
        """Whose bucket."""

    @property
    def endpoint(self) -> str:
        """Of what."""

    def of(self, bucket: Bucket, now_s: float) -> Lease | None:
        """Do it to the bucket; a lease is what is returned where one was asked for."""


class Take(msgspec.Struct, frozen=True):
    """The next `tokens`, from `delay_s` from now on."""

    identity: str
    endpoint: str
    tokens: int
    rate_per_s: float
    delay_s: float

    def of(self, bucket: Bucket, now_s: float) -> Lease:
        """Put the lease behind what was leased before, and behind a pause."""
        now, lasts_s = _micros(now_s), self.tokens / self.rate_per_s
        next_at = bucket.next_at
        if bucket.leased_at > now:  # the clock was set back since: what was leased is as far ahead as it was then
            next_at = now + (next_at - bucket.leased_at)
        elif not bucket.leased_at:  # written by an older version
            next_at = min(next_at, _micros(now_s + max(CLOCK_SLACK_S, 20 * lasts_s)))
        start = max(_micros(now_s + self.delay_s), next_at, bucket.paused_until_by(now))
        bucket.paused_until = bucket.paused_until_by(now)
        bucket.paused_at = min(bucket.paused_at, now)
        bucket.next_at, bucket.leased_at = start + _micros(lasts_s), now
        return Lease(start / MICRO, bucket.next_at / MICRO, self.tokens)


class GiveBack(msgspec.Struct, frozen=True):
    """The last `unused` tokens of a lease, unless somebody has leased behind it."""

    identity: str
    endpoint: str
    lease: Lease
    unused: int

    def of(self, bucket: Bucket, _now_s: float) -> None:
        """Shorten what is leased."""
        lease = self.lease
        if bucket.next_at == round(lease.end * MICRO):
            bucket.next_at = _micros(lease.end - (lease.end - lease.start) * self.unused / lease.tokens)


class Pause(msgspec.Struct, frozen=True):
    """No lease for so long; the later of two pauses is kept."""

    identity: str
    endpoint: str
    seconds: float

    def of(self, bucket: Bucket, now_s: float) -> None:
        """Keep the later of two pauses."""
        now = _micros(now_s)
        bucket.paused_until = max(bucket.paused_until_by(now), _micros(now_s + min(self.seconds, LATEST_S)))
        bucket.paused_at = now


class Buckets:
    """The part of a ledger that is about limits; everything blocks, inside the transaction that commits it."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def apply(self, asked: Sequence[Asked], now_s: float) -> list[Lease | None]:
        """Do all that was asked, in its order; durable once committed, so that a restart remembers it.

        Two statements however many buckets there are, each of which gives one row at most: while the event loop is
        busy, Python lets the ledger's thread go on only milliseconds after every row.
        """
        if not asked:
            return []
        before = self._find(list({(one.identity, one.endpoint): None for one in asked}))
        after: dict[tuple[str, str], Bucket] = {}
        made = []
        for one in asked:
            name = (one.identity, one.endpoint)
            if name not in after:
                after[name] = Bucket(*before.get(name, ()))
            made.append(one.of(after[name], now_s))
        changed = {name: values for name, one in after.items() if (values := _values(one)) != before.get(name)}
        if changed:
            self._db.execute("set_buckets", buckets=json.dumps([[*name, *values] for name, values in changed.items()]))
        return made

    def _find(self, names: Sequence[tuple[str, str]]) -> dict[tuple[str, str], tuple[int, ...]]:
        row = self._db.execute("find_buckets", names=json.dumps(names)).fetchone()
        return {(identity, endpoint): tuple(values) for identity, endpoint, *values in json.loads(row[0])}


def _values(bucket: Bucket) -> tuple[int, ...]:
    return msgspec.structs.astuple(bucket)


def _micros(seconds: float) -> int:
    """Return whole microseconds, never before the time that they are given for."""
    micros = math.ceil(seconds * MICRO)
    return micros if micros / MICRO >= seconds else micros + 1
