"""A window as far as it is known, and whether it fits what the vendor has replied."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from bulksend.loadtest.trial import Mark, roundest
from bulksend.model import Window

__all__ = ["ROUGH", "Bracket", "are_explained", "is_passed", "most_accepted"]

PRECISE = 0.015
"""How wide the bracket of a period may be, as a share of it."""
ROUGH = 0.05
"""With a wider bracket than this, no figure in it is to be trusted: the longest period is told."""


@dataclass(slots=True)
class Bracket:
    """A window: N calls, in a period above `low_s` and at most `high_s`."""

    calls: int
    low_s: float
    high_s: float
    hinted: bool = False

    @property
    def is_precise(self) -> bool:
        """Say whether the period is known well enough."""
        return self.high_s - self.low_s <= PRECISE * self.high_s

    @property
    def tolerance(self) -> float:
        """Return how wide the bracket is, as a share of the period."""
        return (self.high_s - self.low_s) / self.high_s

    @property
    def window(self) -> Window:
        """Return it as a limit tells it."""
        is_rough = self.tolerance > ROUGH
        return Window(self.calls, round(self.high_s, 3) if is_rough else roundest(self.low_s, self.high_s))


def is_passed(bracket: Bracket, admitted: Sequence[Mark]) -> bool:
    """Say whether more calls were accepted in less than its shortest period than it holds: it is not a window."""
    latest_s, done_s = 0.0, []
    for mark in admitted:
        latest_s = max(latest_s, mark.done_s)
        done_s.append(latest_s)
    later = zip(admitted, done_s[bracket.calls :], strict=False)
    return any(done - mark.sent_s < bracket.low_s for mark, done in later)


def most_accepted(bracket: Bracket, admitted: Sequence[Mark]) -> int:
    """Return how many accepted calls were surely counted within its shortest period, at most: the proof of a window."""
    most, first, latest_s = 0, 0, 0.0
    for number, mark in enumerate(admitted):
        latest_s = max(latest_s, mark.done_s)
        while latest_s - admitted[first].sent_s >= bracket.low_s and first < number:
            first += 1
        most = max(most, number + 1 - first)
    return most


def are_explained(refused: Sequence[Mark], windows: Sequence[Bracket], admitted: Sequence[Mark]) -> bool:
    """Say whether at each refused call some window may have been full."""
    sent_s = sorted(mark.sent_s for mark in admitted)
    done_s = sorted(mark.done_s for mark in admitted)

    def most(one: Bracket, mark: Mark) -> int:
        """The most calls that the window can have held then."""
        return bisect_left(sent_s, mark.done_s) - bisect_right(done_s, mark.sent_s - one.high_s)

    return all(any(most(one, mark) >= one.calls for one in windows) for mark in refused)
