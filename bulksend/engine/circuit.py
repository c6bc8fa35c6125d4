"""When an endpoint is taken to be down, and how long it is then left in peace: a circuit breaker without a clock."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["OUTAGE_MOST_S", "TRIP_AFTER", "Circuit"]

TRIP_AFTER = 10
"""Failures in a row: one call in three would have to fail for a chance of this of one in 60,000."""
REST_S = 5.0
REST_MOST_S = 60.0
OUTAGE_MOST_S = 3600.0
"""How long an endpoint is tried that does not come back; then the run ends, to be gone on with."""


class Circuit:
    """Closed while calls get through; open, and ever longer so, while one after another fails.

    A call fails when the reply does not come, or says that the server is in trouble (5xx): what it would have done
    has nothing to do with what it asked for. Any other reply, a refusal too, closes the circuit. Times are seconds of
    any one clock. While it is open, only the calls count that were made to try: not those that were under way before.
    """

    __slots__ = ("_failed_at_s", "_failures", "down_since_s", "rests")

    def __init__(self) -> None:
        self._failures = 0
        self.rests = 0
        """How often in a row it was opened; 0 while it is closed."""
        self.down_since_s: float | None = None
        """When the first of the failures in a row was seen, after which it was tried again and again."""
        self._failed_at_s = 0.0

    @property
    def is_open(self) -> bool:
        """Say whether calls go out one at a time only, each after a rest."""
        return self.rests > 0

    @property
    def has_failed(self) -> bool:
        """Say whether the last call that was counted failed."""
        return self._failures > 0 or self.rests > 0

    def got_through(self) -> None:
        """Count a call that was answered."""
        self._failures = self.rests = 0
        self.down_since_s = None

    def failed(self, now_s: float, random: Callable[[], float]) -> float | None:
        """Count a call that failed; returns how long nothing is to be called, where that begins now."""
        if self.down_since_s is None or now_s - self._failed_at_s > OUTAGE_MOST_S:
            self.down_since_s = now_s  # nobody tried for so long: it may have been up meanwhile
        self._failed_at_s = now_s
        self._failures += 1
        if self._failures < TRIP_AFTER:
            return None
        self.rests += 1
        return min(REST_MOST_S, REST_S * 2.0 ** min(self.rests - 1, 20)) * (1 + 0.1 * random())
