"""Makes the trials that the search asks for: the only part of it that waits and calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from bulksend.engine.retry import retry_after_s
from bulksend.loadtest.open_model import LOOK_S, Stop
from bulksend.loadtest.search import Found, LimitSearch
from bulksend.loadtest.shot import Shoot, Shot
from bulksend.loadtest.trial import Mark, Trial
from bulksend.model import Denied, NotSent, Throttled, Unknown

__all__ = ["TrialRunner"]


class _Slot:
    """A call as the windows see it: when its reply came, once it has."""

    __slots__ = ("done", "done_s")

    def __init__(self) -> None:
        self.done = asyncio.Event()
        self.done_s = 0.0


class TrialRunner:
    """Runs one search to its end. `told` hears each shot, with when it was due."""

    def __init__(
        self,
        shoot: Shoot,
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
        max_in_flight: int,
        stop: Stop,
        told: Callable[[Shot, float], None] = lambda _shot, _due_s: None,
    ) -> None:
        self._shoot = shoot
        self._clock = clock
        self._wall = wall
        self._max_in_flight = max_in_flight
        self._stop = stop
        self._told = told
        self._number = 0
        self._slots: list[_Slot] = []
        """Of the calls that were not refused, in the order of sending."""

    async def run(self, search: LimitSearch) -> Found:
        """Make trials until the search has ended, or is stopped."""
        trials = search.trials()
        trial = next(trials, None)
        while trial is not None:
            marks = await self._make(trial)
            if self._stop.reason is not None:
                break
            try:
                trial = trials.send(marks)
            except StopIteration:
                break
        return search.found()

    async def _make(self, trial: Trial) -> list[Mark]:
        """Make one trial; no call leaves after the first 429 came."""
        marks: dict[int, Mark] = {}
        refused = asyncio.Event()
        room = asyncio.Semaphore(self._max_in_flight)
        tasks: list[asyncio.Task[None]] = []

        async def one(number: int, due_s: float, slot: _Slot) -> None:
            try:
                shot = await self._shoot(number)
                self._told(shot, due_s)
                mark = self._mark(shot)
                if mark is not None:
                    marks[number] = mark
                if mark is None or mark.refused:
                    self._slots.remove(slot)
                if mark is not None and (mark.refused or mark.unclear is not None):
                    refused.set()
            finally:
                slot.done_s = self._clock()
                slot.done.set()
                room.release()

        due_s = max(trial.at_s, self._clock())
        for number in range(trial.calls):
            due_s += trial.gap_s(number)
            for window in trial.within:
                if len(self._slots) >= window.calls:
                    before = self._slots[-window.calls]
                    await before.done.wait()
                    due_s = max(due_s, before.done_s + window.period_s)
            await room.acquire()
            while (left_s := due_s - self._clock()) > 0 and not refused.is_set() and self._stop.reason is None:
                await asyncio.sleep(min(left_s, LOOK_S))
            if refused.is_set() or self._stop.reason is not None:
                room.release()
                break
            slot = _Slot()
            self._slots.append(slot)
            tasks.append(asyncio.create_task(one(self._number, due_s, slot)))
            self._number += 1
            if len(tasks) % 8 == 0:
                await asyncio.sleep(0)
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        return [marks[number] for number in sorted(marks)]

    def _mark(self, shot: Shot) -> Mark | None:
        """Return what a shot says of the limit; None where nothing left, so that nothing was counted."""
        match shot.outcome:
            case Denied() as denied:
                text = denied.reason
            case NotSent() as unsent:
                text = unsent.reason
            case Throttled() as told:
                wait_s = retry_after_s(told.retry_after, self._wall())
                if wait_s is None and told.reset_at is not None:
                    wait_s = max(0.0, told.reset_at - self._wall())
                return Mark(shot.left_s or shot.done_s, shot.done_s, refused=True, retry_after_s=wait_s)
            case Unknown() as unknown if unknown.status is None:
                text = unknown.reason
            case _:
                # Whatever else a vendor answers, a 400 or a 500 too, it has counted the call.
                return Mark(shot.left_s or shot.done_s, shot.done_s)
        return Mark(shot.left_s or shot.done_s, shot.done_s, unclear=text)
