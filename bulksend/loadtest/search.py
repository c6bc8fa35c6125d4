"""The search for the limit that a vendor enforces: which trials to make, and what their replies mean. No clock, no I/O.

The vendor is taken to count calls in sliding windows, N calls in any T seconds, perhaps several that hold together; a
refused call is taken not to be counted. When the vendor counted a call is known only to lie between the call's leaving
and its reply, so that each reply bounds T from one side, whatever the network or this machine did meanwhile:

1. **Steps.** The rate doubles every eight calls, up to the highest that may be tried, until the first 429. What was
   accepted until then fills one window: N, if the window is longer than the climb took.
2. **Is it?** One call soon after, later than the longest pause between two accepted calls. Refused: no slot fell free,
   so that even the first call still counts, and N is what was accepted in all. Accepted: the window is shorter than
   all that took, and after so long a rest it is filled once more, at one even rate. At an even rate from rest, the
   first 429 comes when a window is full for the first time: N is what was accepted.
3. **Bracket.** Single calls, each half as long again after the first as the one before (or when Retry-After says),
   until one is accepted: T lies between the last refusal and it.
4. **Bisection, in several parts at once.** The window is filled with exactly N calls, and up to six single calls are
   spread over the bracket: the first that is accepted and the one before it are the new bracket; again until it is
   1.5 % wide. The roundest period in it is told.
5. **The next window.** Calls at the pace of the windows that are known, never above them (each waits for the reply to
   the one N before it, and T more). A 429 now belongs to a longer window: on with 2. None for as long as the search
   may look, and for longer than the longest window: all that decide are found, and the limit has been held.
6. **Shorter windows.** Where a filling of 4 was refused before it was done, and a slower one was not, a shorter window
   stands beside one that is known. It never decides at an even pace, but a burst would meet it: filled from rest at the
   rate that was refused, the first 429 is its own.

At the end, the windows are held against every reply. A vendor that counts otherwise (in fixed windows, with a bucket)
contradicts them, and no limit is told.

A 429 that contradicts a bracket (a call refused where it was proven that one is accepted) comes from another window
that is full: the bracket stays as wide as it was, and 5 finds the other. Every 429 counts against the budget.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from bulksend.loadtest.bracket import ROUGH, Bracket, are_explained, is_passed, most_accepted
from bulksend.loadtest.trial import DOUBLE_EVERY, Mark, Trial, Within
from bulksend.model import Limit

__all__ = ["Found", "LimitSearch"]

LONGER = 1.5
FASTER = 1.5
RUNGS_MOST = 6
ROUNDS_MOST = 20
PROGRESS = 0.8
"""A round that leaves more of a bracket than this has shown nothing; two of them in a row end it."""
STUCK_MOST = 2
STUCK_S = 10.0
"""For so long, a short window is tried again all the same: one round in several may meet a quiet moment."""
FILLS_MOST = 6
WINDOWS_MOST = 4
HINT_S = 1.2
"""Retry-After is in whole seconds, mostly rounded up."""
REACHED = 0.9
HOLD_WINDOWS = 1.25
STEPS = 4
"""Without a word on where to begin: the first step is the highest rate, halved so often, or one call a second."""

NOT_SLIDING = "the vendor does not seem to count in sliding windows, or others call it too"

Trials = Generator[Trial, list[Mark], None]


class _EndError(Exception):
    """The search cannot go on; the text says why."""


class _OddError(_EndError):
    """What the vendor does fits no sliding windows: those that seem to be known are not told."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the search came to. `ended` says why it ended before all was known; None where it did not."""

    windows: tuple[Bracket, ...]
    calls: int
    throttled: int
    held_per_s: float | None = None
    """The rate that was held to the end without a 429."""
    held_s: float = 0.0
    ended: str | None = None
    most: tuple[int, ...] = ()
    """How many calls were surely accepted within the shortest period that each window may have, at most."""

    @property
    def limit(self) -> Limit | None:
        """Return the limit, the longest window first; None where there is none up to the rate that was tried."""
        windows = sorted((one.window for one in self.windows), key=lambda one: -one.period_s)
        return Limit(tuple(windows)) if windows else None

    @property
    def is_whole(self) -> bool:
        """Say whether a limit was found, and held."""
        return self.ended is None and bool(self.windows)


class LimitSearch:
    """One search; `trials()` yields what to do next and is sent what came of it, and `found()` is the result so far."""

    def __init__(
        self, *, top_per_s: float, hold_s: float, budget: int, from_per_s: float | None = None, now_s: float = 0.0
    ) -> None:
        self._top_per_s = top_per_s
        self._from_per_s = min(top_per_s, from_per_s or max(top_per_s / 2**STEPS, 1.0))
        self._hold_s = hold_s
        self._budget = budget
        self._patience_s = max(5 * hold_s, 180.0)
        self._windows: list[Bracket] = []
        self._calls = 0
        self._throttled = 0
        self._admitted: list[Mark] = []
        self._refused: list[Mark] = []
        self._last_s = now_s
        """When the last reply came."""
        self._held: tuple[float, float] | None = None
        self._fill_per_s = top_per_s
        self._settled_s = math.inf
        """When the first window was known: before, calls of others may have been in the way."""
        self._hasty_per_s: float | None = None
        """The highest rate at which a window could not be filled."""
        self._ended: str | None = "stopped before the search was done"

    def found(self) -> Found:
        """Return what is known so far."""
        rate, held_s = self._held or (None, 0.0)
        most = tuple(most_accepted(one, self._admitted) for one in self._windows)
        return Found(tuple(self._windows), self._calls, self._throttled, rate, held_s, self._ended, most)

    def trials(self) -> Trials:
        """Yield trials until the limit is known; each is answered with its marks, in the order of sending."""
        try:
            while len(self._windows) < WINDOWS_MOST:
                refused = yield from self._push()
                if refused is None:
                    for rough in self._windows[:-1]:
                        yield from self._narrow(rough)  # now that what stood in its way is known
                    yield from self._shorter()
                    self._check()
                    self._ended = self._doubt()
                    return
                bracket = yield from self._bracket(refused)
                self._windows.append(bracket)
                self._settled_s = min(self._settled_s, self._last_s)
                yield from self._narrow(bracket)
            raise _OddError(f"more than {WINDOWS_MOST} windows: {NOT_SLIDING}")
        except _EndError as why:
            self._ended = str(why)
            if isinstance(why, _OddError):
                self._windows.clear()

    def _check(self) -> None:
        """Hold the windows against every reply: where the vendor counts otherwise, none is better than a wrong one."""
        if any(is_passed(one, self._admitted) for one in self._windows):
            raise _OddError(f"more calls were accepted than the windows allow: {NOT_SLIDING}")
        late = [mark for mark in self._refused if mark.sent_s > self._settled_s]
        if not are_explained(late, self._windows, self._admitted):
            raise _OddError(f"calls were refused that the windows allow: {NOT_SLIDING}")

    def _doubt(self) -> str | None:
        """Say what keeps the result from being one; None where nothing does."""
        widest = max((one.tolerance for one in self._windows), default=0.0)
        if widest <= 2 * ROUGH:
            return None
        return f"a period could not be told closer than {widest:.0%}: the way to the vendor varies too much"

    def _make(self, trial: Trial) -> Generator[Trial, list[Mark], list[Mark]]:
        """Make one trial and take note of it."""
        marks = yield trial
        self._calls += len(marks)
        self._throttled += sum(mark.refused for mark in marks)
        self._admitted += [mark for mark in marks if not mark.refused]
        self._refused += [mark for mark in marks if mark.refused]
        self._last_s = max([self._last_s, *(mark.done_s for mark in marks)])
        unclear = next((mark.unclear for mark in marks if mark.unclear is not None), None)
        if unclear is not None:
            raise _EndError(f"nobody knows whether a call was counted: {unclear}")
        if self._throttled > self._budget:
            raise _EndError(f"the budget of {self._budget} refused calls is spent")
        return marks

    @property
    def _within(self) -> tuple[Within, ...]:
        return tuple(Within(one.calls, one.high_s) for one in self._windows)

    def _rest_s(self, brackets: list[Bracket] | None = None) -> float:
        """Return from when on nothing is left in the windows that are known."""
        known = self._windows if brackets is None else brackets
        last_s = self._admitted[-1].done_s if self._admitted else self._last_s
        return max(self._last_s, last_s + max((one.high_s for one in known), default=0.0))

    def _pace_per_s(self) -> float:
        """Return the even rate of the windows that are known."""
        return min([self._top_per_s, *(one.calls / one.high_s for one in self._windows)])

    def _push(self) -> Generator[Trial, list[Mark], Mark | None]:
        """Call as fast as is known to be allowed; returns the first 429, None where there was none for long enough."""
        longest_s = max((one.high_s for one in self._windows), default=0.0)
        hold_s = max(self._hold_s, HOLD_WINDOWS * longest_s)
        pace = self._pace_per_s()
        climbs = not self._windows
        extra = DOUBLE_EVERY * (2 + math.ceil(math.log2(pace / self._from_per_s))) if climbs else 1
        calls = math.ceil(pace * hold_s) + extra
        trial = Trial(self._rest_s(), pace, calls, self._within, self._from_per_s if climbs else None)
        marks = yield from self._make(trial)
        refused = next((mark for mark in marks if mark.refused), None)
        steady = marks[-max(2, math.ceil(pace * hold_s)) :]  # after the climb
        if refused is None and len(steady) > 1:
            took_s = steady[-1].sent_s - steady[0].sent_s
            held = (len(steady) - 1) / took_s if took_s else pace
            self._held = held, took_s
            if climbs and held < REACHED * pace:
                raise _EndError(
                    f"no 429 came, but only {held * 60:,.0f}/min was reached: replies are too slow for more"
                )
        return refused

    def _bracket(self, refused: Mark) -> Generator[Trial, list[Mark], Bracket]:
        """Find N, and T roughly, of the window that has just said 429 for the first time."""
        # Which earlier calls are in it is not known yet: all may be.
        if not self._admitted:
            raise _EndError("the very first call was refused: the limit is not free now")
        first, number = self._admitted[0], len(self._admitted)
        gap_s = max((after.done_s - before.sent_s for before, after in pairwise(self._admitted)), default=0.1)
        rest_s = max((one.high_s for one in self._windows), default=0.0)
        if not self._windows:
            # Well above the limit, so that a way that varies does not let it seem larger.
            pace = 1 / max(refused.sent_s - self._before(refused).sent_s, 1e-4)
            self._fill_per_s = rate = min(self._top_per_s, FASTER * pace)
        else:
            rate = self._pace_per_s()
        mark = yield from self._single(self._last_s + max(1.1 * gap_s, rest_s) + 0.01, self._within)
        if mark.refused:
            bracket = Bracket(number, mark.sent_s - first.done_s, math.inf)
            yield from self._bound(bracket, first, mark)
            return bracket
        bracket = shorter = Bracket(number, 0.0, mark.done_s - first.sent_s)
        rest_s = 0.0
        for _ in range(FILLS_MOST):
            calls = math.ceil(1.2 * rate * shorter.high_s) + 10
            at_s = max(self._rest_s([*self._windows, shorter]), self._last_s + rest_s)
            begun = len(self._admitted)
            marks = yield from self._make(Trial(at_s, rate, calls, self._within))
            again = next((one for one in marks if one.refused), None)
            if again is not None:
                bracket = Bracket(len(self._admitted) - begun, 0.0, math.inf)
                if bracket.calls:
                    if not self._windows:
                        self._fill_per_s = rate
                    yield from self._bound(bracket, self._admitted[begun], again)
                    if not is_passed(bracket, self._admitted):
                        return bracket
                if rest_s:
                    raise _OddError(f"more calls were accepted than any window allows: {NOT_SLIDING}")
                # A longer window was nearly full. Its oldest call has left it now, perhaps the first of all: so long a
                # rest empties it.
                rest_s = min(self._last_s - first.sent_s, self._patience_s)
                continue
            if self._windows or rate >= self._top_per_s:
                break
            rate = min(2 * rate, self._top_per_s)
        raise _OddError(f"a 429 came that does not come again at the same rate: give a higher --rate, or {NOT_SLIDING}")

    def _before(self, refused: Mark) -> Mark:
        """Return the last accepted call that left well before this one."""
        return next(
            (mark for mark in reversed(self._admitted) if mark.sent_s < refused.sent_s - 1e-4), self._admitted[0]
        )

    def _single(self, at_s: float, within: Sequence[Within]) -> Generator[Trial, list[Mark], Mark]:
        """Make one call; of these windows it finds room in each."""
        marks = yield from self._make(Trial(at_s, 1.0, 1, within))
        if not marks:
            raise _EndError("no call left")
        return marks[0]

    def _bound(self, bracket: Bracket, first: Mark, mark: Mark) -> Trials:
        """Look when the first call leaves the window, ever later: from below, and then from above."""
        hinted = False
        while mark.refused:
            bracket.low_s = max(bracket.low_s, mark.sent_s - first.done_s)
            at_s = first.sent_s + LONGER * (mark.sent_s - first.sent_s)
            hinted = mark.retry_after_s is not None and not hinted
            if mark.retry_after_s is not None and hinted:
                at_s = max(mark.done_s + mark.retry_after_s, mark.done_s)
            if at_s - first.sent_s > self._patience_s:
                self._windows.append(Bracket(bracket.calls, bracket.low_s, max(at_s - first.sent_s, bracket.low_s)))
                raise _EndError(f"a window is longer than {bracket.low_s:.0f} s: give a longer --duration")
            mark = yield from self._single(at_s, self._within)
        bracket.high_s = max(mark.done_s - first.sent_s, bracket.low_s)
        bracket.hinted = hinted

    def _narrow(self, bracket: Bracket) -> Trials:
        """Fill the window again and again, and see more exactly each time when its first call leaves it."""
        others = tuple(Within(one.calls, one.high_s) for one in self._windows if one is not bracket)
        stuck, begun_s = 0, self._last_s
        for _ in range(ROUNDS_MOST):
            if bracket.is_precise:
                return
            anchor = yield from self._fill(bracket, others)
            if anchor is None:
                # A shorter window is full at this rate, or a longer one at any.
                slowest = 1.2 * bracket.calls / max(bracket.low_s, 1e-3)
                self._hasty_per_s = max(self._hasty_per_s or 0.0, self._fill_per_s)
                if self._fill_per_s <= slowest:
                    return
                self._fill_per_s = max(self._fill_per_s / 2, slowest)
                continue
            before_s, width_s = bracket.low_s, bracket.high_s - bracket.low_s
            for wait_s in self._rungs(bracket, anchor):
                mark = yield from self._single((anchor.sent_s + anchor.done_s) / 2 + wait_s, others)
                if not mark.refused:
                    bracket.high_s = max(bracket.low_s, min(bracket.high_s, mark.done_s - anchor.sent_s))
                    break
                bracket.low_s = min(bracket.high_s, max(bracket.low_s, mark.sent_s - anchor.done_s))
            else:
                mark = yield from self._single(max(self._last_s, anchor.done_s + bracket.high_s), others)
                if mark.refused:  # by a longer window that is full: the rungs may have been, too
                    bracket.low_s = before_s
                    return
            stuck = stuck + 1 if bracket.high_s - bracket.low_s > PROGRESS * width_s else 0
            if stuck >= STUCK_MOST and self._last_s - begun_s > STUCK_S:
                return  # the way to the vendor varies by as much: no more can be seen from here

    def _shorter(self) -> Trials:
        """Look for the windows that stood in the way of filling the longer ones, now that those are known."""
        while self._hasty_per_s is not None and self._windows and len(self._windows) < WINDOWS_MOST:
            calls, begun = min(one.calls for one in self._windows), len(self._admitted)
            marks = yield from self._make(Trial(self._rest_s(), self._hasty_per_s, calls, self._within))
            refused = next((one for one in marks if one.refused), None)
            if refused is None or len(self._admitted) == begun:
                return
            bracket = Bracket(len(self._admitted) - begun, 0.0, math.inf)
            self._fill_per_s = self._hasty_per_s
            yield from self._bound(bracket, self._admitted[begun], refused)
            self._windows.append(bracket)
            yield from self._narrow(bracket)

    def _fill(self, bracket: Bracket, others: Sequence[Within]) -> Generator[Trial, list[Mark], Mark | None]:
        """Fill a window with as many calls as it holds; returns the oldest of them, None where another was full."""
        paces = [one.calls / one.period_s for one in others if one.calls < bracket.calls]
        rate = min([self._fill_per_s, *paces])
        takes_s = bracket.calls / rate
        inside: list[Mark] = []
        at_s = self._rest_s()
        if len(self._admitted) > 1:
            # The last call may stay: all before it have left the window, and it does not until the filling is done.
            last = self._admitted[-1]
            soon_s = max(self._last_s, self._admitted[-2].done_s + bracket.high_s)
            soon_s = max([soon_s, *(last.done_s + one.period_s for one in others)])
            if last.sent_s + bracket.low_s > soon_s + 1.2 * takes_s + 0.1:
                inside, at_s = [last], soon_s
        begun = len(self._admitted)
        calls = bracket.calls - len(inside)
        if calls:
            marks = yield from self._make(Trial(at_s, rate, calls, others))
            if any(mark.refused for mark in marks) or len(marks) < calls:
                return None
        return inside[0] if inside else self._admitted[begun]

    def _rungs(self, bracket: Bracket, anchor: Mark) -> list[float]:
        """Return how long after the oldest call to look, shortest first."""
        low_s = max(bracket.low_s, self._last_s - (anchor.sent_s + anchor.done_s) / 2)
        begins_s = []
        if bracket.hinted and bracket.high_s - HINT_S > low_s:
            low_s = bracket.high_s - HINT_S
            begins_s = [low_s]
            bracket.hinted = False
        width_s = bracket.high_s - low_s
        # Nearer to each other than a call takes, two looks say no more than one.
        parts = max(2, min(RUNGS_MOST + 1, int(width_s / max(2 * (anchor.done_s - anchor.sent_s), 1e-3))))
        return [*begins_s, *(low_s + width_s * part / parts for part in range(1, parts))] if width_s > 0 else []
