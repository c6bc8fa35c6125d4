"""One timer for many waits of the same length: they end in the order in which they began."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Deadlines"]

T = TypeVar("T")


class Deadlines(Generic[T]):
    """Says of each that is waited for when its time is up, with one timer of the event loop over all of them.

    `expired` is called at most once for each, and for none that was dropped before.
    """

    __slots__ = ("_ends", "_expired", "_length_s", "_timer")

    def __init__(self, length_s: float, expired: Callable[[T], None]) -> None:
        self._length_s = length_s
        self._expired = expired
        self._ends: dict[T, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, one: T, now_s: float) -> None:
        """Wait for one from now on; `now_s` is the event loop's time, which does not go back."""
        self._ends[one] = end_s = now_s + self._length_s
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_at(end_s, self._look)

    def drop(self, one: T) -> None:
        """Wait for it no longer; nothing happens when nobody did."""
        self._ends.pop(one, None)

    def close(self) -> None:
        """Wait for none."""
        self._ends.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        """End those whose time is up, and come again for the oldest that is left."""
        loop = asyncio.get_running_loop()
        self._timer = None
        now_s = loop.time()
        over = []
        for one, end_s in self._ends.items():
            if end_s > now_s:
                self._timer = loop.call_at(end_s, self._look)
                break
            over.append(one)
        for one in over:
            if self._ends.pop(one, None) is not None:
                self._expired(one)
