"""How full the windows of a job's own limit were in a load test, which does not keep to them."""

from __future__ import annotations

import math
from typing import Any

from bulksend.engine.rate import WindowCount
from bulksend.loadtest.shot import Shot, outcome_name
from bulksend.model import Limit, Window

__all__ = ["Fullest"]


class Fullest:
    """The most calls in any window, sent and accepted, by account; the fullest account's are told.

    Sent ones count from when they left, accepted ones from when their replies ended: a vendor that lets just its limit
    through may seem to let a few more through, as the way back varies.
    """

    def __init__(self, limit: Limit, rate_per_s: float) -> None:
        self._windows = limit.windows
        # A test may be far above the limit: from so many calls on they are counted a little more coarsely.
        self._sizes = [
            Window(max(one.calls, math.ceil(rate_per_s * one.period_s)), one.period_s) for one in limit.windows
        ]
        self._left: dict[str, list[WindowCount]] = {}
        self._accepted: dict[str, list[WindowCount]] = {}

    def left(self, account: str, at_s: float) -> None:
        """Count a call at the moment it leaves."""
        self._add(self._left, account, at_s)

    def ended(self, shot: Shot) -> None:
        """Count a call whose reply has come."""
        if outcome_name(shot.outcome) == "accepted":
            self._add(self._accepted, shot.account, shot.done_s)

    def _add(self, counts: dict[str, list[WindowCount]], account: str, at_s: float) -> None:
        found = counts.get(account)
        if found is None:
            found = counts[account] = [WindowCount(size) for size in self._sizes]
        for one in found:
            one.add(at_s)

    def told(self) -> list[dict[str, Any]]:
        """Return each window with what it allows and the most that was in one."""
        return [
            {
                "window": str(Limit((window,))),
                "allowed": window.calls,
                "sent": max((counts[at].most for counts in self._left.values()), default=0),
                "accepted": max((counts[at].most for counts in self._accepted.values()), default=0),
            }
            for at, window in enumerate(self._windows)
        ]
