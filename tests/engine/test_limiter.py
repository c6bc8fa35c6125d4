"""The gate in simulated time: no window over the limit at the server, whatever arrives when, and little is lost."""

from __future__ import annotations

import asyncio
import random
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bulksend.engine.limiter import Gate, StoppedError
from bulksend.engine.rate import bucket_of
from bulksend.ledger.sqlite import SqliteLedger
from bulksend.model import Limit
from tests.simulated_time import InlineExecutor, SimulatedLoop, run_simulated


def most_in_any_window(times: list[float], period_s: float) -> int:
    """Count by brute force over half-open windows (t - T, t]."""
    times = sorted(times)
    most = first = 0
    for last, at in enumerate(times):
        while times[first] <= at - period_s:
            first += 1
        most = max(most, last - first + 1)
    return most


def loop() -> SimulatedLoop:
    running = asyncio.get_running_loop()
    assert isinstance(running, SimulatedLoop)
    return running


async def open_ledger(path: Path, *, clock_s: float = 0.0) -> SqliteLedger:
    """Open a ledger that is closed with the loop; its clock may be set off."""
    simulated = loop()
    ledger = SqliteLedger(path, executor=InlineExecutor(), wall=lambda: simulated.wall() + clock_s)
    await ledger.open(create=True)
    simulated.at_end.append(ledger.close)
    return ledger


def gate_on(ledger: SqliteLedger, limit: str) -> Gate:
    return Gate("acme", "insider.launch", Limit.parse(limit), ledger, wall=loop().wall)


async def departures(gate: Gate, arrivals_s: list[float]) -> list[float]:
    """Let calls arrive at these times, and return when each left."""
    left: list[float] = []
    began = loop().time()

    async def call(after_s: float) -> None:
        await asyncio.sleep(began + after_s - loop().time())
        await gate.turn()
        left.append(loop().time())

    await asyncio.gather(*(call(after_s) for after_s in arrivals_s))
    return left


LIMITS = ["30/min", "6000/min", "600/6s", "1/s", "100/s", "7/2s", "300/min, 10/s", "250/10s"]


@pytest.mark.parametrize("limit", LIMITS)
def test_backlog_uses_the_limit_and_keeps_it(limit: str, tmp_path: Path) -> None:
    async def main() -> None:
        gate = gate_on(await open_ledger(tmp_path / "a.db"), limit)
        bucket = bucket_of(Limit.parse(limit), 0.05)
        number = int(bucket.rate_per_s * 130) + 2
        left = await departures(gate, [0.0] * number)
        for window in Limit.parse(limit).windows:
            assert most_in_any_window(left, window.period_s) <= window.calls
            assert most_in_any_window(left, window.period_s + 0.0499) <= window.calls
        assert (number - 1) / (left[-1] - left[0]) >= 0.999 * bucket.rate_per_s

    run_simulated(main())


gaps = st.lists(st.one_of(st.just(0.0), st.floats(0, 0.05), st.floats(0, 3), st.floats(0, 90)), min_size=1, max_size=60)


@settings(max_examples=60, deadline=None)
@given(
    limit=st.sampled_from(LIMITS),
    gaps=gaps,
    clump=st.integers(1, 40),
    stalls=st.lists(st.tuples(st.floats(0, 100), st.floats(0, 5)), max_size=4),
    pauses=st.lists(st.tuples(st.floats(0, 100), st.floats(0, 20)), max_size=2),
    seed=st.integers(0, 2**32),
)
@example(limit="1/s", gaps=[0.0, 0.0], clump=29, stalls=[(59.95, 1.0)], pauses=[], seed=0)
def test_no_window_over_the_limit_at_the_server(
    tmp_path_factory: pytest.TempPathFactory,
    limit: str,
    gaps: list[float],
    clump: int,
    stalls: list[tuple[float, float]],
    pauses: list[tuple[float, float]],
    seed: int,
) -> None:
    """Clumped arrivals, a loop that stalls, pauses, and any jitter within the margin on the way."""

    async def main() -> None:
        gate = gate_on(await open_ledger(tmp_path_factory.mktemp("gate") / "a.db"), limit)
        arrivals, at = [], 0.0
        for gap in gaps:
            at += gap
            arrivals += [at] * clump
        simulated = loop()
        for after_s, for_s in stalls:
            simulated.call_later(after_s, lambda for_s=for_s: setattr(simulated, "now_s", simulated.now_s + for_s))
        waiting = [asyncio.ensure_future(_pause(gate, *pause)) for pause in pauses]
        left = await departures(gate, arrivals)
        await asyncio.gather(*waiting)
        assert len(left) == len(arrivals)
        jitter = random.Random(seed)
        arrived = [at + jitter.uniform(0, 0.0499) for at in left]
        for window in Limit.parse(limit).windows:
            assert most_in_any_window(arrived, window.period_s) <= window.calls

    async def _pause(gate: Gate, after_s: float, for_s: float) -> None:
        await asyncio.sleep(after_s)
        await gate.pause(for_s)

    run_simulated(main())


@settings(max_examples=25, deadline=None)
@given(
    limit=st.sampled_from(["6000/min", "600/6s", "30/min", "1/s", "300/min, 10/s"]),
    starts=st.lists(st.floats(0, 20), min_size=2, max_size=4),
    seed=st.integers(0, 2**32),
)
def test_processes_on_one_ledger_share_the_limit(
    tmp_path_factory: pytest.TempPathFactory, limit: str, starts: list[float], seed: int
) -> None:
    """Several gates as several processes have them: they start and die at any time, and together keep the window."""

    async def main() -> None:
        path = tmp_path_factory.mktemp("gate") / "a.db"
        left: list[float] = []
        dice = random.Random(seed)

        async def process(start_s: float, end_s: float) -> None:
            await asyncio.sleep(start_s)
            gate = gate_on(await open_ledger(path), limit)
            try:
                while loop().time() < 1000 + end_s:
                    if dice.random() < 0.02:
                        await asyncio.sleep(dice.uniform(0, 5))
                    await gate.turn()
                    left.append(loop().time())
            except StoppedError:
                pass

        await asyncio.gather(*(process(start, start + dice.uniform(1, 60)) for start in starts))
        arrived = [at + dice.uniform(0, 0.0499) for at in left]
        for window in Limit.parse(limit).windows:
            assert most_in_any_window(arrived, window.period_s) <= window.calls

    run_simulated(main())


def test_four_processes_lose_little(tmp_path: Path) -> None:
    async def main() -> None:
        left: list[float] = []
        gates = [gate_on(await open_ledger(tmp_path / "a.db"), "600/6s") for _ in range(4)]

        async def call(gate: Gate) -> None:
            for _ in range(1000):
                await gate.turn()
                left.append(loop().time())

        await asyncio.gather(*(call(gate) for gate in gates))
        assert 3999 / (max(left) - min(left)) >= 0.95 * 100
        assert most_in_any_window(left, 6.0) <= 600

    run_simulated(main())


def test_a_restart_remembers_the_window(tmp_path: Path) -> None:
    async def main() -> None:
        left = []
        for _ in range(40):
            ledger = await open_ledger(tmp_path / "a.db")
            left += await departures(gate_on(ledger, "250/10s"), [0.0] * 10)
            await ledger.close()
        assert most_in_any_window(left, 10.0) <= 250

    run_simulated(main())


def test_a_pause_holds_everybody_and_ends_without_a_burst(tmp_path: Path) -> None:
    async def main() -> None:
        first = gate_on(await open_ledger(tmp_path / "a.db"), "6000/min")
        second = gate_on(await open_ledger(tmp_path / "a.db"), "6000/min")
        await departures(first, [0.0] * 30)
        resumes = loop().time() + 7.0
        await first.pause(7.0)
        left = sorted(chain(*await asyncio.gather(departures(first, [0.0] * 20), departures(second, [0.0] * 20))))
        assert left[0] >= resumes
        assert left[10] - left[0] >= 9 / 100

    run_simulated(main())


def test_a_clock_set_back_does_not_stop_the_gate(tmp_path: Path) -> None:
    async def main() -> None:
        gate = gate_on(await open_ledger(tmp_path / "a.db"), "6000/min")
        await departures(gate, [0.0] * 10)
        back = await open_ledger(tmp_path / "a.db", clock_s=-3600)
        late = Gate("acme", "insider.launch", Limit.parse("6000/min"), back, wall=lambda: loop().wall() - 3600)
        began = loop().time()
        await late.turn()
        assert loop().time() - began <= 11

    run_simulated(main())


def test_a_closed_gate_tells_who_waits(tmp_path: Path) -> None:
    async def main() -> None:
        gate = gate_on(await open_ledger(tmp_path / "a.db"), "1/min")
        await gate.turn()
        waiting = asyncio.ensure_future(gate.turn())
        await asyncio.sleep(0.1)
        gate.close()
        with pytest.raises(StoppedError):
            await waiting
        with pytest.raises(StoppedError):
            await gate.turn()

    run_simulated(main())
