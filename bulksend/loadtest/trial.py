"""One experiment of the search for a limit, and what its calls showed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Mark", "Trial", "Within", "roundest"]


@dataclass(frozen=True, slots=True)
class Within:
    """A window that is known: the call after `calls` others leaves `period_s` after the reply to the first of them.

    The vendor's count then never passes the window, however the way to it varies.
    """

    calls: int
    period_s: float


@dataclass(frozen=True, slots=True)
class Trial:
    """Calls from `at_s` on, `rate_per_s` of them a second, up to the first 429.

    With `from_per_s`, the rate begins there and doubles every `DOUBLE_EVERY` calls until it is `rate_per_s`.
    """

    at_s: float
    rate_per_s: float
    calls: int
    within: Sequence[Within] = ()
    from_per_s: float | None = None

    def gap_s(self, number: int) -> float:
        """Return the time between a call and the one before it; numbers count from 0."""
        if number == 0:
            return 0.0
        if self.from_per_s is None:
            return 1 / self.rate_per_s
        doubled = self.from_per_s * 2.0 ** min(number // DOUBLE_EVERY, 60)
        return 1 / min(self.rate_per_s, doubled)


DOUBLE_EVERY = 8


@dataclass(frozen=True, slots=True)
class Mark:
    """A call of a trial: the vendor counted it at some moment between `sent_s` and `done_s`.

    `refused` where the vendor said 429; `unclear` where nobody knows whether it was counted.
    """

    sent_s: float
    done_s: float
    refused: bool = False
    retry_after_s: float | None = None
    unclear: str | None = None


STEPS_S = (86400.0, 3600.0, 60.0, 10.0, 5.0, 1.0, 0.5, 0.1, 0.05, 0.01, 0.005, 0.001)


def roundest(above_s: float, most_s: float) -> float:
    """Return the roundest period that is longer than `above_s` and at most `most_s`: vendors think in whole units."""
    for step_s in STEPS_S:
        period_s = round(math.floor(most_s / step_s + 1e-9) * step_s, 6)
        if period_s > above_s and period_s > 0:
            return period_s
    return most_s
