"""The guards that watch a run from the outside of a send: pure folds over outcomes."""

from __future__ import annotations

import math
from collections import deque

from bulksend.model import State

__all__ = ["RejectGuard"]

LAST = 200


class RejectGuard:
    """Trips when the share of rejects over the last 200 sends reaches `share`.

    With fewer sends than that it trips as soon as their rejects alone are that share of 200, so that a job that goes
    wrong from its first send is stopped after a few.
    """

    def __init__(self, share: float) -> None:
        self.most = max(1, math.ceil(round(share * LAST, 6)))
        self._last: deque[bool] = deque(maxlen=LAST)
        self.rejected = 0

    def add(self, state: State) -> bool:
        """Count a settled send; True when the job must stop."""
        if len(self._last) == LAST and self._last[0]:
            self.rejected -= 1
        rejected = state is State.REJECTED
        self._last.append(rejected)
        self.rejected += rejected
        return self.rejected >= self.most
