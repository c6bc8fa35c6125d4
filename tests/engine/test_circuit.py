"""An outage of the vendor: it is left in peace, tried with one call at a time, and gone on with without a burst."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import orjson
import pytest

from bulksend.engine.circuit import OUTAGE_MOST_S, REST_MOST_S, REST_S, TRIP_AFTER, Circuit
from bulksend.engine.limiter import Gate
from bulksend.errors import InterruptedRunError
from bulksend.event import EventName
from bulksend.ledger.sqlite import SqliteLedger
from bulksend.model import Call, Limit, Lost, NotSent
from tests.engine.rig import LOST, Rig, Said, Script, job_of, loop, reply, simulate

ACCEPTED = reply(200, b'{"success": true, "campaign_id": 7}')
DOWN = reply(503)
JOB = job_of("insider", create={"title": "Sale", "language": "en_GB"}, limits={"insider.launch": "6000/min"})
BEGUN_S = 1000.0


def half() -> float:
    return 0.5


def trip(circuit: Circuit, now_s: float = 0.0) -> float | None:
    rest_s = None
    for _ in range(TRIP_AFTER):
        rest_s = circuit.failed(now_s, half)
    return rest_s


def test_it_opens_after_failures_in_a_row_and_rests_longer_each_time() -> None:
    circuit = Circuit()
    for _ in range(TRIP_AFTER - 1):
        assert circuit.failed(1.0, half) is None
    circuit.got_through()
    assert trip(circuit, 2.0) == pytest.approx(REST_S * 1.05)
    assert circuit.is_open
    rests = [circuit.failed(3.0, half) or 0.0 for _ in range(6)]
    assert rests == pytest.approx([one * 1.05 for one in (10, 20, 40, REST_MOST_S, REST_MOST_S, REST_MOST_S)])
    assert circuit.down_since_s == 2.0
    circuit.got_through()
    assert not circuit.is_open
    assert circuit.down_since_s is None


def outage(from_s: float, to_s: float, said: Said = DOWN) -> Callable[[Call], Said]:
    def answer(call: Call) -> Said:
        return said if from_s <= loop().time() - BEGUN_S < to_s else ACCEPTED

    return answer


def launched(rig: Rig, from_s: float = 0.0, to_s: float = 1e9) -> list[float]:
    assert isinstance(rig.script, Script)
    return [at for at in rig.script.at("launch") if from_s <= at - BEGUN_S < to_s]


def rig_of(path: Path, launch: Callable[[Call], Said], *, rows: int = 1000, latency_s: float = 0.05) -> Rig:
    script = Script({"create": reply(201, b'{"success": true, "campaign_id": 7}'), "launch": launch}, latency_s)
    return Rig(path, script, JOB, [f"k{one:04}" for one in range(rows)])


@pytest.mark.parametrize("said", [DOWN, reply(500), LOST], ids=["503", "500", "reset"])
def test_an_outage_is_survived_with_few_calls_and_no_burst(tmp_path: Path, said: Said) -> None:
    async def check(rig: Rig) -> None:
        await rig.run()
        during = launched(rig, 5.0, 605.0)
        states = await rig.states()
        # Ten in a row, those that were under way beside them, and then one at a time: at most one in 5 s, later in 60.
        assert len(during) < TRIP_AFTER + 30 + 16
        probes = [at for at in during if at - BEGUN_S > 6.0]
        assert 8 < len(probes) < 17
        assert min(later - at for at, later in pairwise(probes)) > REST_S
        assert states == {"accepted": 1000 - len(during), "unknown": len(during)}
        after = launched(rig, 605.0)
        assert len(after) > 400
        assert after[0] - BEGUN_S < 605.0 + REST_MOST_S * 1.1 + 1.0
        for start in range(len(after)):
            assert start + 10 >= len(after) or after[start + 10] - after[start] > 0.05, (
                "a burst of ten in half its time"
            )
        down = rig.named(EventName.ENDPOINT_DOWN)
        assert len(down) == len(probes) + 1
        assert down[0].reason in ("HTTP 503", "HTTP 500", "the connection was reset")
        assert down[0].duration_s is not None
        assert len(rig.named(EventName.ENDPOINT_UP)) == 1
        assert rig.sender.outage is None

    simulate(lambda: rig_of(tmp_path, outage(5.0, 605.0, said)), check)


def test_the_first_call_after_a_rest_is_alone_however_long_it_takes(tmp_path: Path) -> None:
    """Each hangs for 25 s and then fails, those too that were under way when the first did: they are not counted."""

    async def check(rig: Rig) -> None:
        task = asyncio.create_task(rig.run())
        await asyncio.sleep(250.0)
        rig.sender.stop(InterruptedRunError("enough"))
        await task
        down = rig.named(EventName.ENDPOINT_DOWN)
        assert [round(one.duration_s or 0.0) for one in down] == pytest.approx([5, 10, 20, 40, 60], rel=0.1)
        probes = [at for at in launched(rig) if at - BEGUN_S > 51.0]  # the create took 25 s too
        assert len(probes) == 4
        assert min(later - at for at, later in pairwise(probes)) > 25.0 + REST_S

    simulate(lambda: rig_of(tmp_path, outage(0.0, 1e9, Lost("no whole reply")), latency_s=25.0), check)


def test_a_probe_that_does_not_leave_lets_another_go(tmp_path: Path) -> None:
    refusals = iter([True] * 3)

    def answer(call: Call) -> Said:
        since_s = loop().time() - BEGUN_S
        if since_s < 5.0:
            return DOWN
        return NotSent("no connection") if next(refusals, False) else ACCEPTED

    async def check(rig: Rig) -> None:
        await rig.run()
        states = await rig.states()
        assert set(states) == {"accepted", "unknown"}
        assert states["unknown"] < 40

    simulate(lambda: rig_of(tmp_path, answer, rows=200), check)


def test_a_turn_alone_that_nobody_takes_any_more_lets_another_go(tmp_path: Path) -> None:
    """Whoever waited for it is cancelled in the moment in which it is granted."""

    async def main() -> None:
        ledger = SqliteLedger(tmp_path / "ledger.db")
        await ledger.open(create=True)
        gate = Gate("vendor", "insider.launch", Limit.parse("1000/s"), ledger, wall=time.time)
        assert trip(gate.circuit) is not None
        waits = asyncio.create_task(gate.turn())
        while gate._probe is None:
            await asyncio.sleep(0)
        waits.cancel()
        with suppress(asyncio.CancelledError):
            await waits
        async with asyncio.timeout(5.0):
            assert await gate.turn()
        gate.close()
        await ledger.close()

    asyncio.run(main())


def test_an_endpoint_that_stays_down_ends_the_run_to_be_gone_on_with(tmp_path: Path) -> None:
    async def check(rig: Rig) -> None:
        await rig.run()
        assert isinstance(rig.sender.failure, InterruptedRunError)
        assert rig.sender.failure.exit_code == 75
        text = "insider.launch has been failing for 1 h (HTTP 503); run again to go on"
        assert str(rig.sender.failure) == text
        assert OUTAGE_MOST_S < loop().time() - BEGUN_S < OUTAGE_MOST_S + 2 * REST_MOST_S
        assert len(launched(rig)) < 130
        # Most are as they were: nothing was risked for them.
        states = await rig.states()
        assert states["unknown"] == len(launched(rig))

    simulate(lambda: rig_of(tmp_path, outage(0.0, 1e9)), check)


def test_other_endpoints_go_on(tmp_path: Path) -> None:
    """An outage of one endpoint is not that of another: lookups still settle what was lost."""

    def status(call: Call) -> Said:
        ref = call.url.partition("/campaigns/")[2].partition("?")[0]
        return reply(200, orjson.dumps({"campaign": {"id": ref, "status": "in_progress"}}))

    def made(call: Call) -> Said:
        return reply(201, orjson.dumps({"campaign": {"id": orjson.loads(call.body)["id"], "status": "draft"}}))

    answers = {"campaign.create": made, "campaign.start": DOWN, "campaign.get": status}

    async def check(rig: Rig) -> None:
        await rig.run()
        assert (await rig.states()) == {"accepted": 60}
        assert len(rig.named(EventName.ENDPOINT_DOWN)) > 1

    tables = {"limits": dict.fromkeys((f"stream.{one}" for one in answers), "100/s")}
    keys = [f"k{one}" for one in range(60)]
    simulate(lambda: Rig(tmp_path, Script(answers), job_of("stream", **tables), keys), check)


def test_a_stop_while_it_rests_ends_at_once(tmp_path: Path) -> None:
    async def check(rig: Rig) -> None:
        task = asyncio.create_task(rig.run())
        await asyncio.sleep(3.0)
        assert rig.sender.outage == "insider.launch has been failing for 2.8 s"
        rig.sender.stop(InterruptedRunError("enough"))
        began_s = loop().time()
        await task
        assert loop().time() - began_s < 1.0

    simulate(lambda: rig_of(tmp_path, outage(0.0, 1e9)), check)


CREATED = reply(201, b'{"success": true, "campaign_id": 7}')


def creating(path: Path, to_s: float) -> Rig:
    def create(call: Call) -> Said:
        return DOWN if loop().time() - BEGUN_S < to_s else CREATED

    script = Script({"create": create, "launch": ACCEPTED})
    return Rig(path, script, JOB, ["k1", "k2"])


def test_a_call_that_all_others_wait_for_outlives_an_outage(tmp_path: Path) -> None:
    async def check(rig: Rig) -> None:
        await rig.run()
        assert rig.sender.failure is None
        assert await rig.states() == {"accepted": 2}
        assert TRIP_AFTER + 4 < len(rig.script.at("create")) < TRIP_AFTER + 20  # type: ignore[attr-defined]
        assert len(rig.named(EventName.ENDPOINT_UP)) == 1

    simulate(lambda: creating(tmp_path, 600.0), check)


def test_and_ends_with_the_run_where_the_outage_does_not(tmp_path: Path) -> None:
    async def check(rig: Rig) -> None:
        await rig.run()
        assert isinstance(rig.sender.failure, InterruptedRunError)
        assert str(rig.sender.failure).startswith("insider.create has been failing for 1 h (HTTP 503)")
        assert await rig.states() == {}

    simulate(lambda: creating(tmp_path, 1e9), check)
