"""Outages as several accounts, single calls and idle programs meet them: nobody waits for ever, none is cut off."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import orjson

from bulksend.engine.caller import Caller
from bulksend.engine.circuit import OUTAGE_MOST_S, REST_MOST_S, TRIP_AFTER, Circuit
from bulksend.engine.limiter import StoppedError
from bulksend.engine.transport import Transport
from bulksend.errors import InterruptedRunError, RunError
from bulksend.job.file import load_job
from bulksend.ledger.sqlite import SqliteLedger
from bulksend.model import Account, Call, Endpoint, Lost, NotSent, Outcome, Reply, Secret, Send, Step
from tests.engine.rig import URL, Rig, Said, Script, account_of, job_of, loop, reply, simulate
from tests.simulated_time import InlineExecutor, run_simulated

DOWN = reply(503)
CREATED = reply(201, b'{"success": true, "campaign_id": 7}')
ACCEPTED = reply(200, b'{"success": true, "campaign_id": 7}')
JOB = job_of("insider", create={"title": "Sale", "language": "en_GB"})
BEGUN_S = 1000.0
TOKEN = {"token": Secret("t0ken")}


class Calls:
    """Single calls to Insider, by a caller as `Client` has one."""

    def __init__(self, path: Path, transport: Transport, *, gives_up: bool = False) -> None:
        self.job = load_job(JOB)
        self.ledger = SqliteLedger(path / "a.db", executor=InlineExecutor(), wall=loop().wall)
        self.caller = Caller(
            job="-",
            provider=self.job.provider,
            ledger=self.ledger,
            transport=transport,
            limit_of=self.job.limit,
            wall=loop().wall,
            random=random.Random(7).random,
            observe=lambda _event: None,
            gives_up=gives_up,
        )

    def endpoint(self, name: str) -> Endpoint:
        return self.job.provider.endpoints[f"insider.{name}"]

    def step(self, name: str) -> Step:
        body = {"title": "Sale", "language": "en_GB"} if name == "create" else {}
        ref = None if name == "create" else "7"
        return self.job.provider.request(self.endpoint(name), body, account_of("insider"), ref=ref)

    async def make(self, name: str, account: Account | None = None, **how: int) -> Outcome | None:
        step = self.step(name)
        return (await self.caller.request(Send(name, 0, account or account_of("insider"), (step,), 0), step, **how))[1]

    async def close(self) -> None:
        self.caller.stop()
        await self.caller.close()
        await self.ledger.close()


def with_calls(path: Path, transport: Transport, check: Callable[[Calls], Awaitable[None]]) -> None:
    async def main() -> None:
        calls = Calls(path, transport)
        await calls.ledger.open(create=True)
        await check(calls)
        await calls.close()

    run_simulated(main())


def test_a_client_outlives_an_outage_of_more_than_an_hour(tmp_path: Path) -> None:
    back_s = BEGUN_S + 2 * OUTAGE_MOST_S
    script = Script({"create": lambda _call: DOWN if loop().time() < back_s else CREATED, "delete": ACCEPTED})

    async def check(calls: Calls) -> None:
        for _ in range(8):
            assert await calls.make("create") is not None
            await asyncio.sleep(600.0)
        await asyncio.sleep(max(0.0, back_s - loop().time()))
        assert await calls.make("delete") is not None
        assert await calls.make("create") is not None

    with_calls(tmp_path, script, check)


def test_each_of_many_single_calls_takes_one_turn_of_an_outage(tmp_path: Path) -> None:
    async def check(calls: Calls) -> None:
        said = await asyncio.gather(*(calls.make("delete") for _ in range(20)))
        assert None not in said
        assert loop().time() - BEGUN_S < 20 * 1.1 * REST_MOST_S

    with_calls(tmp_path, Script({"delete": DOWN}), check)


def test_an_outage_is_given_up_after_an_hour_whatever_the_number_of_accounts(tmp_path: Path) -> None:
    """Accounts of one identity share the endpoint: the next one does not find out anew that it is down."""
    accounts = {name: Account(name, "insider", URL, {"partner_id": "1"}, TOKEN) for name in "abcd"}

    async def check(rig: Rig) -> None:
        await rig.run()
        assert isinstance(rig.sender.failure, InterruptedRunError)
        assert loop().time() - BEGUN_S < OUTAGE_MOST_S + 10 * 1.1 * REST_MOST_S

    script = Script({"create": DOWN, "launch": ACCEPTED})
    simulate(lambda: Rig(tmp_path, script, JOB, ["a1", "b1", "c1", "d1"], accounts=accounts), check)


class Dropping:
    """A vendor that is down, slowly; the connection of the first probe is gone when its turn comes."""

    def __init__(self) -> None:
        self.out = self.most = 0
        self._drops = True

    async def send(
        self, call: Call, leave: Callable[[], Awaitable[None]], overdue: object = None
    ) -> Reply | Lost | NotSent:
        try:
            await leave()
            if self._drops:
                self._drops = False
                await asyncio.sleep(0)
                await leave()
        except StoppedError:
            return NotSent("the run is stopping")
        self.out += 1
        self.most = max(self.most, self.out)
        await asyncio.sleep(20.0)
        self.out -= 1
        return Reply(503, {}, b"", 20.0)

    async def close(self) -> None:
        """Nothing is open."""


def test_a_turn_that_was_given_back_is_not_given_back_for_another(tmp_path: Path) -> None:
    vendor = Dropping()
    first, second = (Account(name, "insider", URL, {"partner_id": "1"}, TOKEN) for name in "ab")

    async def check(calls: Calls) -> None:
        circuit = calls.caller._lane(first, calls.endpoint("delete")).gate.circuit
        for _ in range(TRIP_AFTER):
            circuit.failed(loop().time(), lambda: 0.5)
        tasks = [asyncio.ensure_future(calls.make("delete", one, tries=1)) for one in (first, second, second)]
        await asyncio.sleep(10.0)
        assert vendor.out == 1
        calls.caller.fail(first, RunError("its token is refused"))
        await asyncio.sleep(5.0)
        assert vendor.most == 1, "two calls at once to an endpoint that is down"
        calls.caller.stop()
        await asyncio.gather(*tasks)

    with_calls(tmp_path, vendor, check)


def test_idle_hours_between_failures_are_no_outage() -> None:
    circuit = Circuit()
    for _ in range(TRIP_AFTER - 1):
        circuit.failed(0.0, lambda: 0.5)
    assert circuit.failed(2 * OUTAGE_MOST_S, lambda: 0.5) is not None
    assert circuit.down_since_s == 2 * OUTAGE_MOST_S


def test_what_can_be_followed_no_more_does_not_end_the_launching(tmp_path: Path) -> None:
    """The endpoint that says how far campaigns are is down; those that make and start them are not."""

    def made(call: Call) -> Said:
        return reply(201, orjson.dumps({"campaign": {"id": orjson.loads(call.body)["id"], "status": "draft"}}))

    def started(call: Call) -> Said:
        ref = call.url.partition("/campaigns/")[2].partition("/")[0]
        return reply(200, orjson.dumps({"campaign": {"id": ref, "status": "in_progress"}}))

    script = Script({"campaign.create": made, "campaign.start": started, "campaign.get": DOWN})
    limits = {"stream.campaign.create": "10/min", "stream.campaign.start": "10/min", "stream.campaign.get": "100/s"}
    job = job_of("stream", limits=limits, watch={"every": "10s"})

    async def check(rig: Rig) -> None:
        await rig.run()
        assert rig.sender.failure is None
        assert await rig.states() == {"accepted": 800}
        assert script.made["campaign.start"] == 800
        assert script.made["campaign.get"] < 200
        reason = (await rig.record("k799")).reason or ""
        assert reason.startswith("started; its end is not known: stream.campaign.get has been failing for ")

    simulate(lambda: Rig(tmp_path, script, job, [f"k{one:03}" for one in range(800)]), check)
