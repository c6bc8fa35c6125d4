"""The open model in simulated time: calls leave when they are due, and waiting is counted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from bulksend.errors import InterruptedRunError
from bulksend.loadtest.open_model import Stop, fire
from bulksend.loadtest.profile import Profile
from bulksend.loadtest.shot import Shot
from bulksend.loadtest.tally import SLOTS_MOST, Tally
from bulksend.model import Accepted, NotSent, Outcome, Rejected, Throttled, Unknown
from tests.simulated_time import run_simulated

Way = Callable[[int, float], Awaitable[Outcome]]
"""What the vendor does with a call, by its number and the time since the start."""


def fired(profile: Profile, way: Way, *, most: int = 1000, stop: Stop | None = None, late_s: float = 0.0) -> Tally:
    """Make the calls; `late_s` is how long a connection takes to come."""

    async def main() -> Tally:
        loop = asyncio.get_running_loop()
        began, tally = loop.time(), Tally()

        async def shoot(number: int) -> Shot:
            await asyncio.sleep(late_s)
            left_s = loop.time()
            outcome = await way(number, loop.time() - began)
            left = None if isinstance(outcome, NotSent) else left_s
            return Shot(left, loop.time(), outcome, 200 if isinstance(outcome, Accepted) else None)

        await fire(profile, shoot, tally, clock=loop.time, max_in_flight=most, stop=stop or Stop())
        return tally

    return run_simulated(main())


def adds_up(tally: Tally) -> None:
    counts, line = tally.counts, tally.timeline()
    assert counts["planned"] == counts["sent"] + counts["dropped"] + counts["unsent"]
    assert counts["sent"] == sum(counts[name] for name in ("accepted", "rejected", "unknown", "throttled"))
    assert counts["late"] <= counts["sent"] == tally.latency.count == tally.wire.count
    for name in ("planned", "sent", "late", "dropped", "unsent", "accepted", "rejected", "unknown", "throttled"):
        assert sum(getattr(line, name)) == counts[name], name


async def at_once(_number: int, _at_s: float) -> Outcome:
    await asyncio.sleep(0.005)
    return Accepted()


def test_calls_leave_when_they_are_due() -> None:
    left: list[float] = []

    async def way(_number: int, at_s: float) -> Outcome:
        left.append(at_s)
        await asyncio.sleep(30)  # whatever the replies do
        return Accepted()

    tally = fired(Profile(100.0, 2.0), way)
    adds_up(tally)
    assert [round(at - left[0], 3) for at in left] == [round(number / 100, 3) for number in range(200)]
    assert tally.counts == {"planned": 200, "sent": 200, "accepted": 200}


def test_a_ramp_leaves_by_its_schedule() -> None:
    left: list[float] = []

    async def way(number: int, at_s: float) -> Outcome:
        left.append(at_s)
        return await at_once(number, at_s)

    profile = Profile(50.0, 4.0, 10.0)
    fired(profile, way)
    assert [round(at - left[0], 3) for at in left] == [round(at, 3) for at in profile.due_times_s()]


def test_latency_counts_from_when_a_call_was_due() -> None:
    """A vendor that serves one call at a time and stalls for a second: every call that waits for it was slow."""

    def stalling() -> Way:
        door = asyncio.Lock()

        async def way(number: int, _at_s: float) -> Outcome:
            async with door:
                await asyncio.sleep(1.0 if number == 100 else 0.001)
            return Accepted()

        return way

    tally = fired(Profile(100.0, 4.0), stalling())
    adds_up(tally)
    assert tally.counts["late"] == 0
    assert tally.latency.percentile_s(50.0) < 0.02  # type: ignore[operator]
    assert tally.latency.percentile_s(99.0) > 0.9  # type: ignore[operator]

    # The naive way: each call is made once the one before has its reply, and timed from when it is made.
    async def naive() -> list[float]:
        way, loop, took = stalling(), asyncio.get_running_loop(), []
        for number in range(400):
            before = loop.time()
            await way(number, 0.0)
            took.append(loop.time() - before)
        return sorted(took)

    assert run_simulated(naive())[int(400 * 0.99)] < 0.02


def test_waiting_for_a_connection_is_late_and_in_the_latency_but_not_on_the_wire() -> None:
    tally = fired(Profile(100.0, 1.0), at_once, late_s=0.3)
    adds_up(tally)
    assert tally.counts["late"] == 100
    assert tally.latency.percentile_s(50.0) == pytest.approx(0.305, rel=0.01)
    assert tally.wire.percentile_s(50.0) == pytest.approx(0.005, rel=0.01)


def test_what_is_past_the_cap_is_dropped() -> None:
    under_way = most = 0

    async def way(_number: int, _at_s: float) -> Outcome:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.5)
        under_way -= 1
        return Accepted()

    tally = fired(Profile(100.0, 2.0), way, most=20)
    adds_up(tally)
    assert most == 20
    assert tally.counts["planned"] == 200
    assert tally.counts["sent"] == 80  # 20 of them every half second
    assert max(tally.timeline().in_flight) == 20


def test_every_outcome_has_its_count() -> None:
    outcomes: list[Outcome] = [Accepted(), Rejected("no", 400), Throttled(429), Unknown("lost"), NotSent("no way")]

    async def way(number: int, _at_s: float) -> Outcome:
        return outcomes[number % 5]

    tally = fired(Profile(10.0, 5.0), way)
    adds_up(tally)
    assert tally.counts["planned"] == 50
    assert {tally.counts[name] for name in ("accepted", "rejected", "throttled", "unknown", "unsent")} == {10}
    assert tally.reasons == {"no": 10, "lost": 10, "no way": 10}


def test_stopped_it_makes_no_new_call_and_keeps_what_is_under_way() -> None:
    stop = Stop()

    async def way(number: int, _at_s: float) -> Outcome:
        if number == 50:
            stop.because(InterruptedRunError("stopped by SIGINT"))
        await asyncio.sleep(5)
        return Accepted()

    tally = fired(Profile(10.0, 3600.0), way, stop=stop)
    adds_up(tally)
    assert tally.counts["accepted"] == tally.counts["planned"] == 51


def test_a_bug_ends_it_and_is_raised() -> None:
    """Not a call that is missing from every count, and a line on stderr."""
    made = 0

    async def way(number: int, at_s: float) -> Outcome:
        nonlocal made
        made += 1
        if number == 5:
            raise ZeroDivisionError
        return await at_once(number, at_s)

    with pytest.raises(ZeroDivisionError):
        fired(Profile(100.0, 60.0), way)
    assert made < 10


def test_a_day_of_it_is_no_more_to_keep() -> None:
    tally = Tally()
    for number in range(2000):
        tally.planned(number * 43.2, 1)
        tally.ended(Shot(number * 43.2, number * 43.2 + 0.1, Accepted(), 200), number * 43.2)
    line = tally.timeline()
    assert len(line.planned) <= SLOTS_MOST
    assert sum(line.planned) == sum(line.accepted) == 2000
    assert {round(one, 1) for one in line.p99_ms if one is not None} == {100.5}  # to two digits, per slot
