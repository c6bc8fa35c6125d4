"""The open model: each call leaves when it is due, whatever the replies do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from bulksend.loadtest.profile import Profile
from bulksend.loadtest.shot import Shoot, Shot
from bulksend.loadtest.tally import Tally

__all__ = ["Stop", "fire"]

LEAD_S = 0.05
"""Between setting up and the first call."""
LOOK_S = 0.2
"""How often a long wait looks whether the test was stopped."""
TOGETHER = 8
"""Calls that leave in a row, where the generator is behind, before replies are looked at."""


class Stop:
    """Says that no new call is to be made; the first reason stays."""

    def __init__(self) -> None:
        self.reason: BaseException | None = None

    def because(self, reason: BaseException) -> None:
        """Make no new call."""
        if self.reason is None:
            self.reason = reason


async def fire(
    profile: Profile,
    shoot: Shoot,
    tally: Tally,
    *,
    clock: Callable[[], float],
    max_in_flight: int,
    stop: Stop,
    ended: Callable[[Shot, float], None] = lambda _shot, _due_s: None,
) -> float:
    """Make the calls of a profile, count them, and wait for those under way; returns the time that it began.

    A call that comes due with `max_in_flight` calls under way is dropped. `ended` is told each shot and, by the clock,
    when it was due. An exception from `shoot` or `ended` is a bug: it is raised, once the calls under way are over.
    """
    start_s = clock() + LEAD_S
    under_way: set[asyncio.Task[None]] = set()
    broken: list[BaseException] = []

    def over(task: asyncio.Task[None]) -> None:
        under_way.discard(task)
        wrong = None if task.cancelled() else task.exception()
        if wrong is not None:
            broken.append(wrong)
            stop.because(wrong)

    async def one(number: int, due_s: float) -> None:
        shot = await shoot(number)
        tally.ended(shot, due_s, start_s)
        ended(shot, start_s + due_s)

    in_a_row = 0
    try:
        for number, due_s in enumerate(profile.due_times_s()):
            while (left_s := start_s + due_s - clock()) > 0 and stop.reason is None:
                in_a_row = 0
                await asyncio.sleep(min(left_s, LOOK_S))
            if in_a_row >= TOGETHER:
                in_a_row = 0
                await asyncio.sleep(0)
            if stop.reason is not None:
                break
            in_a_row += 1
            tally.planned(due_s, len(under_way))
            if len(under_way) >= max_in_flight:
                tally.dropped(due_s)
                continue
            task = asyncio.create_task(one(number, due_s))
            under_way.add(task)
            task.add_done_callback(over)
        await asyncio.gather(*under_way, return_exceptions=True)
    finally:
        for task in under_way:
            task.cancel()
    if broken:
        raise broken[0]
    return start_s
