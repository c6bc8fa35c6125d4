"""A vendor's published limit, as the strictest server would count it: a sliding window, not a bucket."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

__all__ = ["Limit", "Rate", "Window", "parse_limit"]

_UNIT_S: Final = MappingProxyType({"s": 1.0, "sec": 1.0, "min": 60.0, "h": 3600.0})
_RATE: Final = re.compile(r"(\d{1,12})\s*/\s*(\d{1,9}(?:\.\d{1,9})?)?\s*([a-z]+)")


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `calls` calls in any `seconds` seconds."""

    calls: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Limit:
    """One or more rates that hold together, and the text that they were read from."""

    text: str
    rates: tuple[Rate, ...]


def parse_limit(text: str) -> Limit:
    """Read `6000/min`, `600/6s` or `300/min, 10/s`; the units are s, sec, min and h. Raises ValueError."""
    return Limit(text.strip(), tuple(_parse_rate(part.strip(), text) for part in text.split(",")))


def _parse_rate(part: str, text: str) -> Rate:
    found = _RATE.fullmatch(part)
    if found is None or found[3] not in _UNIT_S:
        raise ValueError(f"{text!r} is not a limit such as 6000/min, 600/6s or 300/min, 10/s")
    rate = Rate(calls=int(found[1]), seconds=float(found[2] or 1) * _UNIT_S[found[3]])
    if not rate.calls or not rate.seconds:
        raise ValueError(f"{text!r} is not a limit: its numbers must be above zero")
    return rate


class Window:
    """Counts calls against one limit, strictly: at most N of them in any (t-T, t].

    Times are seconds of any one clock, are passed in, and must not go back. A refused call is not counted
    into the window: it makes the wait of nobody longer.
    """

    __slots__ = ("_admitted", "_limit", "_most")

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._admitted: tuple[deque[float], ...] = tuple(deque() for _ in limit.rates)
        self._most = [0] * len(limit.rates)

    @property
    def limit(self) -> Limit:
        """The limit that is counted against."""
        return self._limit

    @property
    def max_in_window(self) -> tuple[int, ...]:
        """The most admitted calls that any window ever held, one number for each rate of the limit."""
        return tuple(self._most)

    def admit(self, now_s: float) -> bool:
        """Say whether a call at `now_s` is within every rate, and count it if so."""
        self._forget(now_s)
        for rate, times in zip(self._limit.rates, self._admitted, strict=True):
            if len(times) >= rate.calls:
                return False
        for index, times in enumerate(self._admitted):
            times.append(now_s)
            # The count is at its highest just after an admission, so that looking here sees every maximum.
            self._most[index] = max(self._most[index], len(times))
        return True

    def wait_s(self, now_s: float) -> float:
        """Return the seconds from `now_s` until a call would be admitted; 0 when it would be now."""
        self._forget(now_s)
        return max(
            times[0] + rate.seconds - now_s if len(times) >= rate.calls else 0.0
            for rate, times in zip(self._limit.rates, self._admitted, strict=True)
        )

    def remaining(self, now_s: float) -> int:
        """Return how many calls would still be admitted at `now_s`."""
        self._forget(now_s)
        return min(rate.calls - len(times) for rate, times in zip(self._limit.rates, self._admitted, strict=True))

    def _forget(self, now_s: float) -> None:
        for rate, times in zip(self._limit.rates, self._admitted, strict=True):
            gone_s = now_s - rate.seconds
            while times and times[0] <= gone_s:
                times.popleft()
