"""The gate when a clock is set or the machine sleeps: never above the limit, never stuck, no burst. Simulated time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bulksend.engine.limiter import Gate
from bulksend.ledger.sqlite import SqliteLedger
from bulksend.model import Limit
from tests.engine.test_limiter import loop, most_in_any_window
from tests.simulated_time import InlineExecutor, run_simulated

HOUR_S = 3600.0
RUN_S = 30.0


class Machine:
    """Some processes on one machine: each has a gate, and all share the wall clock, which may be set."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.set_by_s = 0.0
        self.left: list[float] = []

    def wall(self) -> float:
        return loop().wall() + self.set_by_s

    async def gate(self, limit: str) -> Gate:
        """Return the gate of another process, with a ledger of its own on the one file."""
        ledger = SqliteLedger(self._path, executor=InlineExecutor(), wall=self.wall)
        await ledger.open(create=True)
        ledger._db._connection.execute("PRAGMA synchronous = OFF")  # nothing here is about power
        loop().at_end.append(ledger.close)
        return Gate("acme", "insider.launch", Limit.parse(limit), ledger, wall=self.wall)

    async def process(self, limit: str, until_s: float) -> None:
        """Make calls as fast as they may leave, until so long after the start."""
        gate = await self.gate(limit)
        while loop().time() < until_s:
            await gate.turn()
            self.left.append(loop().time())


@pytest.mark.parametrize("processes", [1, 4])
@pytest.mark.parametrize("at_s", [12.0, 12.3])
@pytest.mark.parametrize("set_by_s", [HOUR_S, 1.0, 0.2, -1.0, -HOUR_S])
def test_a_clock_that_is_set_costs_seconds_and_no_window(
    tmp_path: Path, set_by_s: float, at_s: float, processes: int
) -> None:
    """Set forward is also what a machine that slept looks like: the loop's clock does not count what it slept."""

    async def main() -> None:
        machine = Machine(tmp_path / "a.db")
        loop().call_later(at_s, lambda: setattr(machine, "set_by_s", set_by_s))
        began_s = loop().time()
        await asyncio.gather(*(machine.process("600/6s", began_s + RUN_S) for _ in range(processes)))
        assert most_in_any_window(machine.left, 6.0499) <= 600
        # Set back, nothing may be leased until the clock is near where the last lease ended, ten seconds at most.
        lost_s = 1 if set_by_s > 0 else min(-set_by_s, 10) + 2
        assert len(machine.left) >= (RUN_S - lost_s - 1) * 595 / 6.05

    run_simulated(main())


@pytest.mark.parametrize("at_s", [3.0, 3.13, 3.26, 3.4])
@pytest.mark.parametrize("every_s", [0.0125, 0.0205])
@pytest.mark.parametrize("set_by_s", [HOUR_S, 0.5])
def test_one_that_never_has_to_wait_notices_too(tmp_path: Path, set_by_s: float, every_s: float, at_s: float) -> None:
    """It calls a little below the limit, so that tokens are there; another process begins as the clock is set."""

    async def main() -> None:
        machine = Machine(tmp_path / "a.db")
        began_s = loop().time()
        loop().call_later(at_s, lambda: setattr(machine, "set_by_s", set_by_s))
        calls: set[asyncio.Task[None]] = set()

        async def call(gate: Gate) -> None:
            await gate.turn()
            machine.left.append(loop().time())

        async def unhurried() -> None:
            gate = await machine.gate("600/6s")
            while loop().time() < began_s + 12:
                task = asyncio.create_task(call(gate))
                calls.add(task)
                task.add_done_callback(calls.discard)
                await asyncio.sleep(every_s)

        async def latecomer() -> None:
            await asyncio.sleep(at_s + 0.001)
            await machine.process("600/6s", began_s + 12)

        await asyncio.gather(unhurried(), latecomer())
        assert most_in_any_window(sorted(machine.left), 6.0) <= 600
        assert len(machine.left) >= 600

    run_simulated(main())


@pytest.mark.parametrize("limit", ["30/min", "600/6s", "6000/min"])
def test_an_hour_in_which_nothing_runs_ends_without_a_burst(tmp_path: Path, limit: str) -> None:
    """As a process that is stopped sees it: both clocks go on, and every timer is an hour late."""

    async def main() -> None:
        machine, window = Machine(tmp_path / "a.db"), Limit.parse(limit).windows[0]
        began_s = loop().time()
        simulated = loop()
        simulated.call_later(20, lambda: setattr(simulated, "now_s", simulated.now_s + HOUR_S))
        await asyncio.gather(*(machine.process(limit, began_s + 60 + HOUR_S) for _ in range(2)))
        awake_s = began_s + 20 + HOUR_S
        after = [at - awake_s for at in machine.left if at >= awake_s]
        burst = min(max(window.calls // 100, 1), 10)
        assert sum(at < 1.0 for at in after) <= 1.0 * window.calls / window.period_s + burst
        assert most_in_any_window(machine.left, window.period_s + 0.0499) <= window.calls
        assert len(after) >= 0.9 * (40 - 3) * window.calls / window.period_s

    run_simulated(main())


@pytest.mark.parametrize("processes", [1, 3])
@pytest.mark.parametrize("set_by_s", [90.0, 0.4, -7.0])
def test_a_small_limit_is_kept_too_whenever_the_clock_is_set(tmp_path: Path, set_by_s: float, processes: int) -> None:
    """Where a window holds three, one call that comes a little early is one too many."""

    async def main(at_s: float, path: Path) -> None:
        machine = Machine(path)
        loop().call_later(at_s, lambda: setattr(machine, "set_by_s", set_by_s))
        began_s = loop().time()
        await asyncio.gather(*(machine.process("3/1s", began_s + 8.0) for _ in range(processes)))
        assert most_in_any_window(machine.left, 1.0) <= 3, f"set after {at_s} s"

    for number in range(25):
        run_simulated(main(3.0 + number * 0.04, tmp_path / f"{number}.db"))
