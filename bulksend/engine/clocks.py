"""The ledger's clock beside the event loop's: what stands in the ledger by the one is waited for by the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["Clocks"]

PARTED_S = 0.1
"""More than a busy machine puts between two readings in a row, and not much more than a limit's margin for jitter."""


class Clocks:
    """Two clocks that may part: the ledger's is set, or the machine sleeps, which the event loop's does not count."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._ahead_s: float | None = None

    def loop_time(self, at: float) -> float:
        """Return when it will be `at` by the ledger's clock, in the event loop's time."""
        return asyncio.get_running_loop().time() + (at - self._wall())

    def have_parted(self) -> bool:
        """Say whether the clocks moved apart since this was asked last. One that is slewed is followed in silence."""
        ahead_s = self._wall() - asyncio.get_running_loop().time()
        before_s, self._ahead_s = self._ahead_s, ahead_s
        return before_s is not None and abs(ahead_s - before_s) > PARTED_S
