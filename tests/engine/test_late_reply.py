"""A reply that comes after its time: the send is unknown as long as nobody knows, and then what the vendor said."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import pytest

from bulksend.engine.transport import CALL_TIMEOUT_S, PATIENCE_S, Overdue, _Departure
from bulksend.errors import InterruptedRunError
from bulksend.event import EventName
from bulksend.ledger.base import SendRecord
from bulksend.model import Call, Lost, NotSent, Reply, State
from tests.engine.rig import Rig, job_of, loop, reply, simulate
from tests.simulated_time import run_simulated

ACCEPTED = reply(200, b'{"success": true, "campaign_id": 7}')
JOB = job_of("insider", create={"title": "Sale", "language": "en_GB"}, limits={"insider.launch": "100/s"})
BEGUN_S = 1000.0
NEVER_S = 1e6


class Slow:
    """A transport that answers each key after its own time, and keeps time as the real one does."""

    def __init__(self, takes_s: Mapping[str, float], said: Reply = ACCEPTED) -> None:
        self.takes_s = takes_s
        self.said = said
        self.calls: list[tuple[float, str]] = []

    async def send(
        self, call: Call, leave: Callable[[], Awaitable[None]], overdue: Overdue | None = None
    ) -> Reply | Lost | NotSent:
        await leave()
        key = next((one for one in self.takes_s if f'"{one}"' in call.body.decode()), "")
        self.calls.append((loop().time() - BEGUN_S, key))
        over = asyncio.Event()
        reply_s = self.takes_s.get(key, 0.02)
        patience_s = CALL_TIMEOUT_S if overdue is None else CALL_TIMEOUT_S + PATIENCE_S
        timer = None if overdue is None else loop().call_later(CALL_TIMEOUT_S, overdue, over.set)
        try:
            async with asyncio.timeout(min(reply_s, patience_s)):
                await over.wait()
        except TimeoutError:
            pass
        finally:
            if timer is not None:
                timer.cancel()
        return self.said if reply_s <= patience_s and not over.is_set() else Lost("no whole reply within 30 s")

    async def close(self) -> None:
        """Nothing is open."""


async def at(rig: Rig, seconds: float, key: str) -> SendRecord:
    await asyncio.sleep(BEGUN_S + seconds - loop().time())
    return await rig.record(key)


@pytest.mark.parametrize(
    ("said", "state"),
    [
        (ACCEPTED, State.ACCEPTED),
        (reply(400, b'{"message": "Bad Request"}'), State.REJECTED),
        (reply(500), State.UNKNOWN),
        (reply(429), State.UNKNOWN),
    ],
)
def test_a_late_reply_settles_its_own_unknown(tmp_path: Path, said: Reply, state: State) -> None:
    async def check(rig: Rig) -> None:
        run = asyncio.create_task(rig.run())
        assert (await at(rig, 20.0, "k1")).state is State.SENDING
        overdue = await at(rig, 40.0, "k1")
        assert (overdue.state, overdue.reason) == (State.UNKNOWN, "no whole reply in time; it is still waited for")
        await run
        assert 45.0 <= loop().time() - BEGUN_S < 47.0
        record = await rig.record()
        assert record.state is state
        assert record.repeats == 1
        job = await rig.ledger.find_job(rig.job.name)
        assert job is not None
        counted = {State.ACCEPTED: job.counts.accepted, State.REJECTED: job.counts.rejected}
        assert counted.get(state, job.counts.unknown) == 1
        assert job.counts.settled == 1
        assert job.counts.sending == 0
        settled = [one for one in rig.events if one.name.value in (f"send.{each.value}" for each in State)]
        assert [one.name.value for one in settled] == [f"send.{state.value}"]
        assert rig.launch.seen[state] == 1
        assert len(rig.script.calls) == 1  # type: ignore[attr-defined]

    job = job_of("insider", launch={"campaign_id": 7})
    simulate(lambda: Rig(tmp_path, Slow({"k1": 45.0}, said), job), check)


def test_one_that_never_comes_stays_unknown_and_holds_up_nobody(tmp_path: Path) -> None:
    keys = [f"k{one:03}" for one in range(400)]

    async def check(rig: Rig) -> None:
        run = asyncio.create_task(rig.run())
        await at(rig, 50.0, "k000")
        assert await rig.states() == {"accepted": 396, "unknown": 4}
        await run
        assert CALL_TIMEOUT_S + PATIENCE_S <= loop().time() - BEGUN_S < CALL_TIMEOUT_S + PATIENCE_S + 5.0
        assert await rig.states() == {"accepted": 396, "unknown": 4}
        assert (await rig.record("k000")).reason == "no whole reply within 30 s"
        assert not rig.sender._overdue
        assert not rig.named(EventName.ENDPOINT_DOWN)

    simulate(lambda: Rig(tmp_path, Slow(dict.fromkeys(keys[:4], NEVER_S)), JOB, keys), check)


def test_a_stop_does_not_wait_for_what_is_overdue(tmp_path: Path) -> None:
    async def check(rig: Rig) -> None:
        run = asyncio.create_task(rig.run())
        await at(rig, 40.0, "k1")
        rig.sender.stop(InterruptedRunError("enough"))
        await run
        assert loop().time() - BEGUN_S < 41.0
        assert await rig.states() == {"unknown": 1, "accepted": 1}

    simulate(lambda: Rig(tmp_path, Slow({"k1": NEVER_S}), JOB, ["k1", "k2"]), check)


def test_after_a_stop_nothing_is_waited_for_longer_than_its_time(tmp_path: Path) -> None:
    async def check(rig: Rig) -> None:
        run = asyncio.create_task(rig.run())
        await at(rig, 10.0, "k1")
        rig.sender.stop(InterruptedRunError("enough"))
        await run
        assert CALL_TIMEOUT_S <= loop().time() - BEGUN_S < CALL_TIMEOUT_S + 3.0
        assert await rig.states() == {"unknown": 1}

    simulate(lambda: Rig(tmp_path, Slow({"k1": NEVER_S}), JOB), check)


def test_replies_that_do_not_come_in_time_open_the_circuit_then_and_not_when_they_are_given_up(tmp_path: Path) -> None:
    keys = [f"k{one:03}" for one in range(3000)]

    async def check(rig: Rig) -> None:
        run = asyncio.create_task(rig.run())
        await asyncio.sleep(CALL_TIMEOUT_S + 2.0)
        down = rig.named(EventName.ENDPOINT_DOWN)
        assert [one.reason for one in down] == ["no whole reply in time"]
        rig.sender.stop(InterruptedRunError("enough"))
        await run

    simulate(lambda: Rig(tmp_path, Slow(dict.fromkeys(keys, NEVER_S)), JOB, keys), check)


def test_what_may_be_repeated_is_not_waited_for(tmp_path: Path) -> None:
    """The campaign create harms nobody when it is made again, under another title: it is, after its 30 s."""
    job = job_of("insider", create={"title": "Spring", "language": "en_GB"})

    async def check(rig: Rig) -> None:
        await rig.run()
        assert await rig.states() == {"accepted": 1}
        first, second, _ = (at_s for at_s, _ in rig.script.calls)  # type: ignore[attr-defined]
        assert CALL_TIMEOUT_S <= second - first < CALL_TIMEOUT_S + 2.0

    simulate(lambda: Rig(tmp_path, Slow({"Spring": NEVER_S}), job), check)


def test_what_is_overdue_counts_once_in_the_numbers_so_far(tmp_path: Path) -> None:
    async def check(rig: Rig) -> None:
        run = asyncio.create_task(rig.run())
        await at(rig, 50.0, "k1")
        job = await rig.ledger.find_job(rig.job.name)
        assert job is not None
        assert (job.counts.accepted, job.counts.unknown, rig.launch.under_way) == (1, 1, 0)
        run.cancel()  # as the second Ctrl-C does
        await asyncio.gather(run, return_exceptions=True)
        assert rig.launch.under_way == 0

    simulate(lambda: Rig(tmp_path, Slow({"k1": NEVER_S}), JOB, ["k1", "k2"]), check)


def test_a_vendor_that_always_takes_its_time_is_not_down(tmp_path: Path) -> None:
    keys = [f"k{one:03}" for one in range(300)]

    async def check(rig: Rig) -> None:
        await rig.run()
        assert await rig.states() == {"accepted": 300}
        assert loop().time() - BEGUN_S < 600.0

    simulate(lambda: Rig(tmp_path, Slow(dict.fromkeys(keys, 40.0)), JOB, keys), check)


def test_giving_up_a_wait_that_ends_by_itself_harms_nobody() -> None:
    async def main() -> None:
        gave: list[Callable[[], None]] = []

        async def call() -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(10.0) as timeout:
                    departure = _Departure(_nothing, timeout, (10.0, CALL_TIMEOUT_S), gave.append)
                    departure.left()
                    try:
                        await asyncio.sleep(NEVER_S)
                    finally:
                        departure.end_clock()

        task = asyncio.create_task(call())
        await asyncio.sleep(1.0)
        # The end of the patience, and a stop, fall due in one turn of the loop.
        loop().call_at(BEGUN_S + CALL_TIMEOUT_S + PATIENCE_S + 1e-5, lambda: wrong.extend(_raised(gave[0])))
        wrong: list[BaseException] = []
        await asyncio.sleep(CALL_TIMEOUT_S + PATIENCE_S - 1.001)
        loop().now_s += 0.1
        await task
        await asyncio.sleep(1.0)
        assert wrong == []

    run_simulated(main())


async def _nothing() -> None:
    """The turn comes at once."""


def _raised(call: Callable[[], None]) -> list[BaseException]:
    try:
        call()
    except RuntimeError as wrong:
        return [wrong]
    return []
