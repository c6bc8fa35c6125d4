"""Permits, and how many calls a lane lets be under way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulksend.engine.lane import IN_FLIGHT_LEAST, IN_FLIGHT_MOST, IN_FLIGHT_UNPROVEN, Lane, Permits
from bulksend.engine.limiter import Gate
from bulksend.ledger.sqlite import SqliteLedger
from bulksend.model import Account, Endpoint, Limit, Repeat


async def turns(number: int = 5) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


def test_a_free_permit_is_taken_at_once() -> None:
    async def main() -> None:
        permits = Permits(2)
        await permits.acquire()
        await permits.acquire()
        assert permits.in_use == 2
        third = asyncio.create_task(permits.acquire())
        await turns()
        assert not third.done()
        permits.release()
        await third
        assert permits.in_use == 2

    asyncio.run(main())


def test_waiters_are_served_in_order_and_nobody_jumps_the_queue() -> None:
    async def main() -> None:
        permits = Permits(1)
        await permits.acquire()
        order: list[int] = []

        async def take(number: int) -> None:
            await permits.acquire()
            order.append(number)

        tasks = [asyncio.create_task(take(number)) for number in range(4)]
        await turns()
        permits.release()
        # The permit is the first waiter's although it has not run yet; a newcomer queues behind the last.
        tasks.append(asyncio.create_task(take(4)))
        for _ in range(4):
            await turns()
            permits.release()
        await asyncio.gather(*tasks)
        assert order == [0, 1, 2, 3, 4]
        assert permits.in_use == 1

    asyncio.run(main())


@pytest.mark.parametrize("served", [False, True], ids=["still waiting", "served but not yet running"])
def test_cancellation_gives_the_permit_back(served: bool) -> None:
    async def main() -> None:
        permits = Permits(1)
        await permits.acquire()
        gone = asyncio.create_task(permits.acquire())
        after = asyncio.create_task(permits.acquire())
        await turns()
        if served:
            permits.release()
            gone.cancel()
        else:
            gone.cancel()
            await turns()
            permits.release()
        await turns()
        assert gone.cancelled()
        assert after.done()
        assert permits.in_use == 1
        permits.release()
        assert permits.in_use == 0

    asyncio.run(main())


def test_growing_serves_waiters_and_shrinking_waits_for_releases() -> None:
    async def main() -> None:
        permits = Permits(1)
        tasks = [asyncio.create_task(permits.acquire()) for _ in range(5)]
        await turns()
        assert permits.in_use == 1
        permits.resize(4)
        assert permits.in_use == 4
        permits.resize(2)
        assert permits.in_use == 4
        for in_use in (3, 2, 2, 1, 0):
            permits.release()
            assert permits.in_use == in_use
        await asyncio.gather(*tasks)

    asyncio.run(main())


actions = st.lists(
    st.one_of(
        st.just(("acquire", 0)),
        st.just(("release", 0)),
        st.tuples(st.just("cancel"), st.integers(0, 10)),
        st.tuples(st.just("resize"), st.integers(0, 6)),
        st.just(("turn", 0)),
    ),
    max_size=60,
)


@given(size=st.integers(1, 5), script=actions)
def test_never_more_than_the_size_and_first_come_first_served(size: int, script: list[tuple[str, int]]) -> None:
    async def main() -> None:
        permits = Permits(size)
        waiting: list[tuple[int, asyncio.Task[None]]] = []
        got: list[int] = []
        held = came = 0

        async def take(number: int) -> None:
            nonlocal held
            await permits.acquire()
            got.append(number)
            held += 1

        for action, argument in script:
            before = permits.in_use
            if action == "acquire":
                waiting.append((came, asyncio.create_task(take(came))))
                came += 1
                await turns()
            elif action == "release" and held:
                held -= 1
                permits.release()
            elif action == "cancel" and waiting:
                waiting.pop(argument % len(waiting))[1].cancel()
            elif action == "resize":
                permits.resize(argument)
            elif action == "turn":
                await turns()
            assert permits.in_use <= max(permits.size, before)
            assert permits.in_use >= held
        permits.resize(max(permits.size, 1))
        while True:
            await turns()
            assert permits.in_use == held
            if not held:
                break
            held -= 1
            permits.release()
        assert permits.in_use == 0
        assert got == sorted(got)
        assert {number for number, _ in waiting} <= set(got)

    asyncio.run(main())


def in_lane(path: Path, limit: str, check: Callable[[Lane], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        gate = Gate("acme", "x.launch", Limit.parse(limit), SqliteLedger(path), wall=lambda: 0.0)
        endpoint = Endpoint("x.launch", "POST", "/", Limit.parse(limit), Repeat.NEVER)
        await check(Lane(Account("acme", "x", "http://127.0.0.1"), endpoint, {}, gate))

    asyncio.run(main())


def test_as_many_under_way_as_latency_times_rate_asks_for(tmp_path: Path) -> None:
    async def check(lane: Lane) -> None:
        rate_per_s = lane.gate.bucket.rate_per_s
        assert lane.in_flight.size >= 2 * rate_per_s  # a second is taken for the latency before the first reply
        lane.heard(5.0, 0.0)
        risen = lane.in_flight.size
        assert risen >= 2 * rate_per_s * 3  # a rise counts at once …
        lane.heard(0.02, 0.0)
        assert lane.in_flight.size >= 0.9 * risen  # … a fall slowly
        for _ in range(1000):
            lane.heard(0.02, 0.0)
        assert 2 * rate_per_s * 0.02 <= lane.in_flight.size <= 30

    in_lane(tmp_path / "a.db", "6000/min", check)


def test_bounds_of_what_is_under_way(tmp_path: Path) -> None:
    async def slow(lane: Lane) -> None:
        for _ in range(1000):
            lane.heard(0.001, 0.0)
        assert lane.in_flight.size == IN_FLIGHT_LEAST

    async def fast(lane: Lane) -> None:
        lane.heard(100.0, 0.0)
        assert lane.in_flight.size == IN_FLIGHT_MOST

    async def beyond_reach(lane: Lane) -> None:
        lane.heard(100.0, 0.0)
        assert lane.in_flight.size == IN_FLIGHT_UNPROVEN

    in_lane(tmp_path / "a.db", "1/s", slow)
    in_lane(tmp_path / "b.db", "100000/min", fast)
    in_lane(tmp_path / "c.db", "100000000/min", beyond_reach)


def test_quick_refusals_take_no_room_from_slow_launches(tmp_path: Path) -> None:
    async def check(lane: Lane) -> None:
        for number in range(1, 3001):
            lane.heard(0.005 if number % 20 == 0 else 20.0, number / 100)
        assert lane.in_flight.size >= 20 * 100

    in_lane(tmp_path / "a.db", "6000/min", check)


def replies(lane: Lane, per_s: int, duration_s: float, *, since_s: float) -> None:
    for number in range(1, per_s + 1):
        lane.heard(duration_s, since_s + number / per_s)


def test_beyond_what_is_unproven_as_many_are_under_way_as_bring_replies(tmp_path: Path) -> None:
    async def check(lane: Lane) -> None:
        replies(lane, 200, 4.0, since_s=0.0)
        assert 2 * 200 * 4 <= lane.in_flight.size <= IN_FLIGHT_MOST  # what the vendor holds does not hold it up
        replies(lane, 20_000, 0.002, since_s=1.0)
        assert lane.in_flight.size <= 4 * 20_000 * (0.002 + 0.02)  # more would only wait for one another

    in_lane(tmp_path / "a.db", "100000000/min", check)


def test_intents_run_ahead_of_the_gate_by_20_ms_and_the_commit_at_most(tmp_path: Path) -> None:
    async def slow(lane: Lane) -> None:
        assert lane.ahead.size == 1
        lane.committed(0.5)
        assert lane.ahead.size == 1

    async def fast(lane: Lane) -> None:
        assert 1 < lane.ahead.size <= 0.02 * 100 + 1
        for _ in range(100):
            lane.committed(0.1)
        assert 10 <= lane.ahead.size <= (0.02 + 2 * 0.1) * 100

    in_lane(tmp_path / "a.db", "30/min", slow)
    in_lane(tmp_path / "b.db", "6000/min", fast)
