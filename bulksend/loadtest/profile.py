"""When each call of a load test is due: a constant rate, or one that rises or falls evenly."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from bulksend.model import Limit

__all__ = ["CALLS_MOST", "Profile", "parse_rate"]

CALLS_MOST = 100_000_000


def parse_rate(text: str) -> float:
    """Read `6000/min` or `100/s` as calls a second; raises ValueError with a sentence for the user."""
    try:
        limit = Limit.parse(text)
    except ValueError:
        raise ValueError(f'{text!r} is not a rate such as "6000/min" or "100/s"') from None
    if len(limit.windows) > 1:
        raise ValueError(f'{text!r} names several rates: write one, such as "6000/min"')
    return limit.windows[0].calls / limit.windows[0].period_s


@dataclass(frozen=True, slots=True)
class Profile:
    """A rate over a time. With `from_per_s`, the rate begins there and moves evenly to `rate_per_s`."""

    rate_per_s: float
    duration_s: float
    from_per_s: float | None = None

    @property
    def calls(self) -> int:
        """Return how many calls there are: those due before the end, the first at once."""
        begin = self.rate_per_s if self.from_per_s is None else self.from_per_s
        # A rounding error in the product must not add a call at the very end.
        return math.ceil((begin + self.rate_per_s) / 2 * self.duration_s - 1e-9)

    @property
    def highest_per_s(self) -> float:
        """Return the rate where it is highest."""
        return max(self.rate_per_s, self.from_per_s or 0.0)

    def due_s(self, number: int) -> float:
        """Return when a call is due, in seconds after the start; the first has the number 0."""
        if number == 0:
            return 0.0
        if self.from_per_s is None:
            return number / self.rate_per_s
        # Of from·t + (rate - from)·t²/(2·duration) = number, the first root, in the form that loses no digits.
        gain = (self.rate_per_s - self.from_per_s) / self.duration_s
        root = math.sqrt(max(0.0, self.from_per_s**2 + 2 * gain * number))
        return 2 * number / (self.from_per_s + root)

    def due_times_s(self) -> Iterator[float]:
        """Yield when each call is due, in order."""
        return map(self.due_s, range(self.calls))
