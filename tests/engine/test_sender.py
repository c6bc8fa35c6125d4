"""The whole engine in simulated time: a scripted vendor for the network, the real ledger, gate and decisions."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulksend.engine.limiter import StoppedError
from bulksend.engine.retry import ATTEMPTS_MOST, Settle
from bulksend.engine.sender import Sender
from bulksend.errors import DeniedError, InterruptedRunError, LedgerError, NetworkError
from bulksend.event import Event, EventName
from bulksend.ledger.base import Change, Counts, Intent, Scope, SendRecord
from bulksend.ledger.sqlite import SqliteLedger
from bulksend.model import (
    Account,
    Call,
    Endpoint,
    JobState,
    Limit,
    Lost,
    NotSent,
    Repeat,
    Reply,
    Secret,
    Send,
    State,
    Step,
)
from bulksend.providers import PROVIDERS
from tests.simulated_time import InlineExecutor, SimulatedLoop, run_simulated

INSIDER = PROVIDERS["insider"]
LAUNCH = INSIDER.endpoints["insider.launch"]
CREATE = INSIDER.endpoints["insider.create"]
ACCOUNT = Account("default", "insider", "http://127.0.0.1", {"partner_id": "1"}, {"token": Secret("t0ken")})

Said = Reply | Lost | NotSent
ACCEPTED = Reply(200, {}, b'{"success": true, "campaign_id": 7}')
REJECTED = Reply(400, {}, b'{"message": "Bad Request"}')
DENIED = Reply(401, {}, b'{"message": "Unauthorized"}')
BROKEN = Reply(500, {}, b"oops")
LIMITED = Reply(429, {}, b"")
LIMITED_FOR_7_S = Reply(429, {"retry-after": "7"}, b"")
LOST = Lost("the connection was closed without a reply")
UNREACHABLE = NotSent("no connection")


def loop() -> SimulatedLoop:
    running = asyncio.get_running_loop()
    assert isinstance(running, SimulatedLoop)
    return running


class Vendor:
    """A `Transport` that answers each key by its script, the last answer again and again; `at` says when calls left."""

    def __init__(self, script: dict[str, Sequence[Said]] | None = None, *, otherwise: Said = ACCEPTED) -> None:
        self.script = {key: list(said) for key, said in (script or {}).items()}
        self.otherwise = otherwise
        self.latency_s = 0.02
        self.at: dict[str, list[float]] = {}
        self.effects: Counter[str] = Counter()
        self.on_send: Callable[[str], Awaitable[None]] | None = None
        self.urls: list[str] = []

    @property
    def made(self) -> dict[str, int]:
        return {key: len(times) for key, times in self.at.items()}

    async def send(self, call: Call, leave: Callable[[], Awaitable[None]], overdue: object = None) -> Said:
        key = call.body.decode().partition(":")[2].strip('"{} ').split('"')[0]
        if self.on_send is not None:
            await self.on_send(key)
        script = self.script.get(key, [])
        said = script.pop(0) if len(script) > 1 else script[0] if script else self.otherwise
        if isinstance(said, NotSent):
            return said
        try:
            await leave()
        except StoppedError:
            return NotSent("the run is stopping")
        self.at.setdefault(key, []).append(loop().time())
        self.urls.append(call.url)
        if said is ACCEPTED:
            self.effects[key] += 1
        await asyncio.sleep(self.latency_s)
        return said if not isinstance(said, Reply) else Reply(said.status, said.headers, said.body, self.latency_s)

    async def close(self) -> None:
        pass


def send_of(number: int, endpoint: Endpoint = LAUNCH, *, steps: int = 1) -> Send:
    body = f'{{"title":"k{number}"}}'.encode()
    made = tuple(Step(endpoint, body, "25696") for _ in range(steps))
    return Send(f"k{number}", number, ACCOUNT, made, number)


class Engine:
    """One run: a ledger file, a vendor, a sender, and what it told."""

    def __init__(self, path: Path, vendor: Vendor, *, limit: str = "6000/min") -> None:
        self.path = path
        self.vendor = vendor
        self.limit = Limit.parse(limit)
        self.events: list[Event] = []
        self.settled: dict[str, Settle] = {}
        self.ledger = SqliteLedger(path, executor=InlineExecutor(), wall=loop().wall)
        self.sender: Sender
        self.job_id = 0

    async def __aenter__(self) -> Self:
        await self.ledger.open(create=True)
        job, _ = await self.ledger.start_job("job", "the test")
        self.job_id = job.id
        self.sender = Sender(
            job="job",
            job_id=job.id,
            provider=INSIDER,
            ledger=self.ledger,
            transport=self.vendor,
            limit_of=lambda _name: self.limit,
            wall=loop().wall,
            random=random.Random(7).random,
            observe=self.events.append,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.sender.close()
        await self.ledger.close()

    async def run(self, sends: Sequence[Send]) -> None:
        records = await self.ledger.look_up(self.job_id, Scope.SEND, [send.key for send in sends])

        async def each() -> AsyncIterator[tuple[Send, SendRecord | None]]:
            for send in sends:
                record = records.get(send.key)
                if record is None or record.state is State.PENDING:
                    yield send, record

        def settled(send: Send, settle: Settle) -> None:
            assert send.key not in self.settled, "a send was settled twice"
            self.settled[send.key] = settle

        async def no_ref(_send: Send) -> str | None:
            return None

        await self.sender.run(each(), settled, no_ref)

    async def records(self, number: int) -> dict[str, SendRecord]:
        return await self.ledger.look_up(self.job_id, Scope.SEND, [f"k{one}" for one in range(number + 1)])

    async def states(self, number: int) -> Counter[str]:
        return Counter(record.state.value for record in (await self.records(number)).values())

    def named(self, name: EventName) -> list[Event]:
        return [event for event in self.events if event.name is name]


def in_engine(
    path: Path, vendor: Vendor, check: Callable[[Engine], Awaitable[None]], *, limit: str = "6000/min"
) -> None:
    async def main() -> None:
        async with Engine(path / "a.db", vendor, limit=limit) as engine:
            await check(engine)

    run_simulated(main())


def counted(path: Path) -> tuple[Counts, Counts]:
    """Return the counts that the job's row keeps, and those of the send table itself."""
    db = sqlite3.connect(path)
    try:
        kept = db.execute("SELECT accepted, rejected, unknown, sending FROM job").fetchone()
        rows = Counter(dict(db.execute("SELECT state, count(*) FROM send WHERE scope = 'send' GROUP BY state")))
        return Counts(*kept), Counts(**{name: rows[name] for name in Counts.__struct_fields__})
    finally:
        db.close()


def test_every_send_is_accepted_once_at_the_limit(tmp_path: Path) -> None:
    vendor = Vendor()

    async def check(engine: Engine) -> None:
        await engine.run([send_of(number) for number in range(1, 501)])
        assert vendor.made == {f"k{number}": 1 for number in range(1, 501)}
        assert await engine.states(500) == {"accepted": 500}
        record = (await engine.records(1))["k1"]
        assert (record.refs, record.attempts, record.repeats, record.row) == (("7",), 1, 0, 1)
        left = sorted(at for times in vendor.at.values() for at in times)
        assert (len(left) - 1) / (left[-1] - left[0]) >= 0.99 * 100
        assert (engine.sender.calls, engine.sender.retried, engine.sender.throttled) == (500, 0, 0)
        stats = engine.sender.stats["insider.launch"].summary()
        assert (stats["calls"], stats["throttled"]) == (500, 0)
        assert len(engine.named(EventName.CALL_MADE)) == len(engine.named(EventName.SEND_ACCEPTED)) == 500

    in_engine(tmp_path, vendor, check)


def test_sends_leave_in_order_of_arrival(tmp_path: Path) -> None:
    vendor = Vendor()

    async def check(engine: Engine) -> None:
        await engine.run([send_of(number) for number in range(1, 200)])
        assert list(vendor.at) == [f"k{number}" for number in range(1, 200)]

    in_engine(tmp_path, vendor, check)


@pytest.mark.parametrize("said", [LOST, BROKEN, Reply(200, {}, b"<html>"), Reply(424, {}, b'{"message":"SERVICE:-"}')])
def test_an_unknown_launch_is_never_repeated(said: Said, tmp_path: Path) -> None:
    vendor = Vendor({"k2": [said]})

    async def check(engine: Engine) -> None:
        await engine.run([send_of(number) for number in range(1, 4)])
        assert vendor.made == {"k1": 1, "k2": 1, "k3": 1}
        assert {key: one.state for key, one in engine.settled.items()} == {
            "k1": State.ACCEPTED,
            "k2": State.UNKNOWN,
            "k3": State.ACCEPTED,
        }
        record = (await engine.records(3))["k2"]
        assert (record.state, record.repeats, record.attempts) == (State.UNKNOWN, 1, 1)
        assert record.reason
        assert engine.sender.failure is None
        # Not in a second run either.
        await engine.run([send_of(number) for number in range(1, 4)])
        assert vendor.made["k2"] == 1

    in_engine(tmp_path, vendor, check)


def test_a_harmless_call_is_repeated_and_every_repeat_is_counted(tmp_path: Path) -> None:
    vendor = Vendor({"k1": [LOST], "k1 (2)": [BROKEN], "k1 (3)": [REJECTED], "k1 (4)": [ACCEPTED]})

    async def check(engine: Engine) -> None:
        settle = await engine.sender.deliver(Scope.SEND, send_of(1, CREATE), None)
        assert settle == Settle(State.ACCEPTED, ref="7")
        assert vendor.made == {"k1": 1, "k1 (2)": 1, "k1 (3)": 1, "k1 (4)": 1}
        record = (await engine.records(1))["k1"]
        assert (record.state, record.repeats, record.attempts) == (State.ACCEPTED, 3, 4)
        assert engine.sender.retried == 3

    in_engine(tmp_path, vendor, check, limit="600/min")


def test_a_harmless_call_that_is_lost_every_time_while_others_get_through_ends_as_unknown(tmp_path: Path) -> None:
    vendor = Vendor({"k1": [LOST]})

    async def check(engine: Engine) -> None:
        harmless = dataclasses.replace(LAUNCH, repeat=Repeat.SAFE)
        lost = asyncio.ensure_future(engine.sender.deliver(Scope.SEND, send_of(1, harmless), None))
        number = 1
        while not lost.done():
            number += 1
            await engine.sender.deliver(Scope.SEND, send_of(number, harmless), None)
            await asyncio.sleep(0.5)
        assert vendor.made["k1"] == ATTEMPTS_MOST
        assert await engine.states(number) == {"accepted": number - 1, "unknown": 1}
        assert (await engine.records(1))["k1"].repeats == ATTEMPTS_MOST

    in_engine(tmp_path, vendor, check, limit="600/min")


def test_a_harmless_call_is_pending_again_where_none_gets_through(tmp_path: Path) -> None:
    vendor = Vendor(otherwise=LOST)

    async def check(engine: Engine) -> None:
        assert await engine.sender.deliver(Scope.SEND, send_of(1, CREATE), None) is None
        assert isinstance(engine.sender.failure, InterruptedRunError)
        assert ATTEMPTS_MOST < sum(vendor.made.values()) < 100
        assert (await engine.records(1))["k1"].state is State.PENDING

    in_engine(tmp_path, vendor, check, limit="600/min")


def test_a_429_with_retry_after_pauses_everybody_and_all_are_accepted(tmp_path: Path) -> None:
    vendor = Vendor({"k50": [LIMITED_FOR_7_S, ACCEPTED]})

    async def check(engine: Engine) -> None:
        began = loop().time()
        await engine.run([send_of(number) for number in range(1, 201)])
        assert await engine.states(200) == {"accepted": 200}
        assert vendor.effects == {f"k{number}": 1 for number in range(1, 201)}
        told_s = vendor.at["k50"][0] + vendor.latency_s
        left = sorted(at for times in vendor.at.values() for at in times)
        assert not [at for at in left if told_s < at < told_s + 7], "a call left during the pause"
        after = [at for at in left if at >= told_s + 7]
        assert after[0] <= told_s + 7.2
        assert max(sum(first <= at < first + 0.1 for at in after) for first in after) <= 11, "a burst after the pause"
        # No budget is charged, and the rate is the same afterwards.
        assert engine.sender._spent == 0
        assert (engine.sender.throttled, engine.sender.retried) == (1, 1)
        assert engine.sender.stats["insider.launch"].throttled == 1
        (paused,) = engine.named(EventName.LIMIT_PAUSED)
        assert (paused.duration_s, paused.status, paused.endpoint) == (7.0, 429, "insider.launch")
        assert loop().time() - began < 10

    in_engine(tmp_path, vendor, check)


def test_waiting_for_a_429_may_go_on_for_as_long_as_the_vendor_says(tmp_path: Path) -> None:
    """More 429s than there are tries, without an end of tries."""
    vendor = Vendor({"k1": [*[LIMITED_FOR_7_S] * 30, ACCEPTED]})

    async def check(engine: Engine) -> None:
        await engine.run([send_of(1)])
        assert await engine.states(1) == {"accepted": 1}
        assert vendor.made["k1"] == 31
        times = vendor.at["k1"]
        assert all(after - before >= 7 for before, after in pairwise(times))

    in_engine(tmp_path, vendor, check)


def test_waiting_for_a_429_uses_up_no_try(tmp_path: Path) -> None:
    lost = {f"k1 ({number})": [LOST] for number in range(2, ATTEMPTS_MOST)}
    vendor = Vendor({"k1": [*[LIMITED_FOR_7_S] * 20, LOST], **lost, f"k1 ({ATTEMPTS_MOST})": [ACCEPTED]})

    async def check(engine: Engine) -> None:
        await engine.run([send_of(1, CREATE)])
        assert engine.sender.failure is None
        assert await engine.states(1) == {"accepted": 1}

    in_engine(tmp_path, vendor, check, limit="600/min")


def test_429s_that_do_not_say_wait_longer_each_time(tmp_path: Path) -> None:
    vendor = Vendor({"k1": [*[LIMITED] * 4, ACCEPTED]})

    async def check(engine: Engine) -> None:
        await engine.run([send_of(1)])
        times = vendor.at["k1"]
        gaps = [after - before for before, after in pairwise(times)]
        for gap, least in zip(gaps, [7.5, 15, 30, 60], strict=True):
            assert least <= gap <= 1.1 * least + 2.5
        assert await engine.states(1) == {"accepted": 1}

    in_engine(tmp_path, vendor, check, limit="30/min")


def test_many_429s_of_one_moment_are_one_pause(tmp_path: Path) -> None:
    vendor = Vendor({f"k{number}": [LIMITED, ACCEPTED] for number in range(1, 21)})
    vendor.latency_s = 0.5

    async def check(engine: Engine) -> None:
        await engine.run([send_of(number) for number in range(1, 21)])
        assert await engine.states(20) == {"accepted": 20}
        assert len(engine.named(EventName.LIMIT_PAUSED)) == 1
        # The margin for jitter grows by it once.
        assert [gate._limited for gate in engine.sender._gates.values()] == [1]
        assert (
            max(at for times in vendor.at.values() for at in times) - min(times[0] for times in vendor.at.values()) < 20
        )

    in_engine(tmp_path, vendor, check)


def test_a_call_that_was_not_sent_is_tried_again(tmp_path: Path) -> None:
    vendor = Vendor({"k1": [*[UNREACHABLE] * 5, ACCEPTED]})

    async def check(engine: Engine) -> None:
        await engine.run([send_of(1)])
        record = (await engine.records(1))["k1"]
        assert (record.state, record.attempts, record.repeats) == (State.ACCEPTED, 6, 0)
        assert vendor.made == {"k1": 1}
        retried = engine.named(EventName.SEND_RETRIED)
        assert [event.reason for event in retried] == ["no connection"] * 5
        assert engine.sender.calls == 1, "what did not leave is no call"

    in_engine(tmp_path, vendor, check)


def test_a_vendor_that_is_away_for_a_moment_costs_nothing(tmp_path: Path) -> None:
    vendor = Vendor(otherwise=UNREACHABLE)

    async def check(engine: Engine) -> None:
        def back() -> None:
            vendor.otherwise = ACCEPTED

        loop().call_later(6.0, back)
        await engine.run([send_of(number) for number in range(1, 101)])
        assert engine.sender.failure is None
        assert await engine.states(100) == {"accepted": 100}
        assert engine.sender._spent == 0

    in_engine(tmp_path, vendor, check)


def test_only_being_away_without_a_break_ends_the_run(tmp_path: Path) -> None:
    """Away for some seconds, twice, with calls that got through between."""
    vendor = Vendor()

    def away(said: Said) -> None:
        vendor.otherwise = said

    async def check(engine: Engine) -> None:
        for after_s, said in ((5, UNREACHABLE), (12, ACCEPTED), (40, UNREACHABLE), (47, ACCEPTED)):
            loop().call_later(after_s, away, said)
        await engine.run([send_of(number) for number in range(1, 51)])
        assert engine.sender.failure is None
        assert await engine.states(50) == {"accepted": 50}
        assert loop().time() > 1040

    in_engine(tmp_path, vendor, check, limit="60/min")


def test_a_vendor_that_cannot_be_reached_ends_the_run_and_everything_stays_pending(tmp_path: Path) -> None:
    vendor = Vendor(otherwise=UNREACHABLE)

    async def check(engine: Engine) -> None:
        await engine.run([send_of(number) for number in range(1, 301)])
        assert isinstance(engine.sender.failure, NetworkError)
        assert "no connection" in str(engine.sender.failure)
        assert set(await engine.states(300)) == {"pending"}
        assert not engine.settled
        # The way is back: the next run goes on.
        vendor.otherwise = ACCEPTED

    in_engine(tmp_path, vendor, check)

    async def again(engine: Engine) -> None:
        await engine.run([send_of(number) for number in range(1, 301)])
        assert await engine.states(300) == {"accepted": 300}

    in_engine(tmp_path, vendor, again)
    assert set(vendor.effects.values()) == {1}


def test_refused_credentials_stop_at_once_and_the_others_stay_pending(tmp_path: Path) -> None:
    vendor = Vendor({"k1": [DENIED]})

    async def check(engine: Engine) -> None:
        await engine.run([send_of(number) for number in range(1, 1001)])
        assert isinstance(engine.sender.failure, DeniedError)
        assert "t0ken" not in str(engine.sender.failure)
        # What was in flight when the answer came has its own outcome; nothing left later.
        told_s = vendor.at["k1"][0] + vendor.latency_s
        assert max(times[-1] for times in vendor.at.values()) <= told_s
        records = await engine.records(1000)
        assert (records["k1"].state, records["k1"].status) == (State.PENDING, 401)
        assert {key for key, one in records.items() if one.state is State.ACCEPTED} == set(vendor.effects)
        assert {one.state for one in records.values()} <= {State.PENDING, State.ACCEPTED}
        assert len(vendor.at) < 20

    in_engine(tmp_path, vendor, check)


def test_the_first_reason_wins(tmp_path: Path) -> None:
    async def check(engine: Engine) -> None:
        first = NetworkError("first")
        engine.sender.stop(first)
        engine.sender.stop(NetworkError("second"))
        engine.sender.stop()
        assert engine.sender.failure is first

    in_engine(tmp_path, Vendor(), check)


@pytest.mark.parametrize("after_s", [0.0, 0.001, 0.5])
def test_stop_finishes_what_is_in_flight_and_leaves_the_rest_pending(after_s: float, tmp_path: Path) -> None:
    vendor = Vendor()
    vendor.latency_s = 0.3

    async def check(engine: Engine) -> None:
        loop().call_later(after_s, engine.sender.stop)
        stop_s = loop().time() + after_s
        await engine.run([send_of(number) for number in range(1, 301)])
        assert engine.sender.failure is None
        assert max((times[-1] for times in vendor.at.values()), default=0.0) <= stop_s + 1e-3
        assert loop().time() <= stop_s + vendor.latency_s + 0.01
        records = await engine.records(300)
        assert {key for key, one in records.items() if one.state is State.ACCEPTED} == set(vendor.at)
        assert {one.state for one in records.values()} <= {State.PENDING, State.ACCEPTED}
        # What had its intent on disk and did not leave is told of as returned.
        returned = {event.key for event in engine.named(EventName.SEND_RETURNED)}
        assert returned == {key for key, one in records.items() if one.state is State.PENDING}

    in_engine(tmp_path, vendor, check)

    async def again(engine: Engine) -> None:
        await engine.run([send_of(number) for number in range(1, 301)])
        assert await engine.states(300) == {"accepted": 300}

    in_engine(tmp_path, vendor, again)
    assert vendor.effects == {f"k{number}": 1 for number in range(1, 301)}


def test_stop_during_a_pause_and_during_a_backoff_ends_at_once(tmp_path: Path) -> None:
    vendor = Vendor({"k1": [Reply(429, {"retry-after": "3600"}, b"")], "k2": [UNREACHABLE]})

    async def check(engine: Engine) -> None:
        loop().call_later(1.0, engine.sender.stop)
        began = loop().time()
        await engine.run([send_of(number) for number in range(1, 4)])
        assert loop().time() - began < 1.5
        assert set(await engine.states(3)) <= {"pending", "accepted"}

    in_engine(tmp_path, vendor, check)


def test_an_intent_is_on_disk_before_the_turn_is_waited_for(tmp_path: Path) -> None:
    """A second connection sees `sending` from before the call may leave until its result is recorded."""
    vendor = Vendor()
    path = tmp_path / "a.db"

    async def check(engine: Engine) -> None:
        other = sqlite3.connect(path)
        seen: Counter[str] = Counter()

        async def on_send(key: str) -> None:
            row = other.execute("SELECT state, attempts FROM send WHERE key = ?", (key,)).fetchone()
            assert row == ("sending", 1)
            seen[key] += 1

        vendor.on_send = on_send
        await engine.run([send_of(number) for number in range(1, 101)])
        assert len(seen) == 100
        other.close()

    in_engine(tmp_path, vendor, check)


def test_few_intents_run_ahead_of_the_gate(tmp_path: Path) -> None:
    """At most some 20 ms of calls have their intent on disk before they leave: few are unknown after a crash."""
    vendor = Vendor()

    async def check(engine: Engine) -> None:
        most = 0

        async def on_send(_key: str) -> None:
            nonlocal most
            sending = sum(one.state is State.SENDING for one in (await engine.records(200)).values())
            in_flight = sum(loop().time() - times[-1] <= vendor.latency_s + 1e-4 for times in vendor.at.values())
            most = max(most, sending - in_flight)

        vendor.on_send = on_send
        await engine.run([send_of(number) for number in range(1, 201)])
        assert 1 <= most <= 4

    in_engine(tmp_path, vendor, check)


def test_a_row_that_is_not_fit_to_be_sent_is_rejected_without_a_call(tmp_path: Path) -> None:
    vendor = Vendor()

    async def check(engine: Engine) -> None:
        await engine.run([Send("k1", 1, ACCOUNT, (), 1, invalid="title is too long"), send_of(2)])
        record = (await engine.records(2))["k1"]
        assert (record.state, record.reason, record.attempts) == (State.REJECTED, "title is too long", 0)
        assert engine.settled["k1"] == Settle(State.REJECTED, reason="title is too long")
        assert vendor.made == {"k2": 1}

    in_engine(tmp_path, vendor, check)


def test_steps_are_made_in_order_and_a_later_run_goes_on_with_the_next(tmp_path: Path) -> None:
    vendor = Vendor({"k1": [ACCEPTED, UNREACHABLE]})

    async def check(engine: Engine) -> None:
        await engine.run([send_of(1, steps=3)])
        record = (await engine.records(1))["k1"]
        assert (record.state, record.step, record.refs) == (State.PENDING, 1, ("7",))

    in_engine(tmp_path, vendor, check)
    vendor.script = {"k1": [ACCEPTED]}

    async def again(engine: Engine) -> None:
        await engine.run([send_of(1, steps=3)])
        record = (await engine.records(1))["k1"]
        assert (record.state, record.step, record.refs) == (State.ACCEPTED, 2, ("7", "7", "7"))
        assert vendor.effects["k1"] == 3

    in_engine(tmp_path, vendor, again)


def test_a_step_is_addressed_by_what_the_one_before_gave(tmp_path: Path) -> None:
    vendor = Vendor({"k1": [ACCEPTED, UNREACHABLE]})
    body = b'{"title":"k1"}'
    send = Send("k1", 1, ACCOUNT, (Step(CREATE, body), Step(LAUNCH, body)), 1)

    async def check(engine: Engine) -> None:
        await engine.run([send])
        assert isinstance(engine.sender.failure, NetworkError)

    in_engine(tmp_path, vendor, check)
    vendor.script = {}
    # In a later run it is the ledger that knows.
    in_engine(tmp_path, vendor, lambda engine: engine.run([send]))
    whole = Vendor()
    in_engine(tmp_path, whole, lambda engine: engine.run([Send("k2", 1, ACCOUNT, send.steps, 1)]))
    assert vendor.urls == whole.urls == ["http://127.0.0.1/v1/single", "http://127.0.0.1/v2/single/7"]


def test_a_step_does_not_answer_for_the_repeats_of_the_one_before(tmp_path: Path) -> None:
    vendor = Vendor({"k1": [LOST], "k1 (2)": [UNREACHABLE]})
    in_engine(tmp_path, vendor, lambda engine: engine.run([send_of(1, CREATE, steps=2)]))
    assert vendor.made == {"k1": 1}
    vendor.script = {}
    in_engine(tmp_path, vendor, lambda engine: engine.run([send_of(1, CREATE, steps=2)]))
    assert vendor.made == {"k1": 2, "k1 (2)": 1}


def test_the_accounts_own_campaign_is_in_the_path(tmp_path: Path) -> None:
    vendor = Vendor()

    async def check(engine: Engine) -> None:
        send = Send("k1", 1, ACCOUNT, (Step(LAUNCH, b'{"title":"k1"}'),), 1)
        await engine.sender.deliver(Scope.SEND, send, None, ref="25696")
        assert vendor.urls == ["http://127.0.0.1/v2/single/25696"]

    in_engine(tmp_path, vendor, check)


def test_a_step_that_is_refused_is_the_end_of_the_send(tmp_path: Path) -> None:
    vendor = Vendor({"k1": [ACCEPTED, REJECTED, ACCEPTED]})

    async def check(engine: Engine) -> None:
        await engine.run([send_of(1, steps=3)])
        record = (await engine.records(1))["k1"]
        assert (record.state, record.step, vendor.made["k1"]) == (State.REJECTED, 1, 2)

    in_engine(tmp_path, vendor, check)


def test_a_ledger_that_fails_ends_the_run(tmp_path: Path) -> None:
    vendor = Vendor()

    async def check(engine: Engine) -> None:
        async def on_send(key: str) -> None:
            if key == "k20":
                other = sqlite3.connect(tmp_path / "a.db")
                other.execute("UPDATE send SET state = 'rejected' WHERE key = 'k20'")
                other.commit()
                other.close()

        vendor.on_send = on_send
        await engine.run([send_of(number) for number in range(1, 1001)])
        assert isinstance(engine.sender.failure, LedgerError)
        assert "k20" in str(engine.sender.failure)
        assert len(vendor.at) < 200
        assert len(engine.settled) >= 1

    in_engine(tmp_path, vendor, check)


def test_what_the_source_raises_ends_the_run_after_what_is_in_flight(tmp_path: Path) -> None:
    vendor = Vendor()

    async def check(engine: Engine) -> None:
        async def broken() -> AsyncIterator[tuple[Send, SendRecord | None]]:
            yield send_of(1), None
            await asyncio.sleep(0.05)
            raise ValueError("row 2 is broken")

        async def no_ref(_send: Send) -> str | None:
            return None

        await engine.sender.run(broken(), lambda _send, _settle: None, no_ref)
        assert isinstance(engine.sender.failure, ValueError)
        assert await engine.states(1) == {"accepted": 1}

    in_engine(tmp_path, vendor, check)


def test_two_accounts_of_one_identity_share_the_limit(tmp_path: Path) -> None:
    vendor = Vendor()
    other = Account("other", ACCOUNT.provider, ACCOUNT.base_url, ACCOUNT.ids, ACCOUNT.secrets)

    async def check(engine: Engine) -> None:
        sends = [send_of(number) for number in range(1, 201)]
        mixed = [Send(one.key, one.row, other if one.row % 2 else ACCOUNT, one.steps, 1) for one in sends]
        await engine.run(mixed)
        left = sorted(at for times in vendor.at.values() for at in times)
        assert left[-1] - left[0] >= 199 / 100.1

    in_engine(tmp_path, vendor, check)


def test_two_identities_have_each_their_own_limit(tmp_path: Path) -> None:
    vendor = Vendor()
    other = Account("other", ACCOUNT.provider, ACCOUNT.base_url, {"partner_id": "2"}, ACCOUNT.secrets)

    async def check(engine: Engine) -> None:
        sends = [send_of(number) for number in range(1, 201)]
        await engine.run([Send(one.key, one.row, other if one.row % 2 else ACCOUNT, one.steps, 1) for one in sends])
        left = sorted(at for times in vendor.at.values() for at in times)
        assert left[-1] - left[0] <= 1.1
        assert await engine.states(200) == {"accepted": 200}

    in_engine(tmp_path, vendor, check)


answers = st.sampled_from([ACCEPTED, REJECTED, LOST, BROKEN, LIMITED_FOR_7_S, LIMITED, UNREACHABLE, DENIED])
ends = st.sampled_from([ACCEPTED, REJECTED, LOST, BROKEN, UNREACHABLE, DENIED])
"""What is said again and again: a vendor that tells to wait for ever is waited for, for ever."""
one_script = st.builds(lambda said, end: [*said, end], st.lists(answers, max_size=4), ends)


@settings(max_examples=50, deadline=None)
@given(
    scripts=st.lists(one_script, min_size=1, max_size=12),
    stop_after_s=st.none() | st.floats(0, 30),
    latency_s=st.sampled_from([0.0, 0.02, 3.0]),
)
def test_whatever_the_vendor_says_the_counts_add_up_and_nothing_is_sent_twice(
    tmp_path_factory: pytest.TempPathFactory,
    scripts: list[list[Said]],
    stop_after_s: float | None,
    latency_s: float,
) -> None:
    path = tmp_path_factory.mktemp("ledger")
    vendor = Vendor({f"k{number}": said for number, said in enumerate(scripts, 1)})
    vendor.latency_s = latency_s
    number = len(scripts)

    async def check(engine: Engine) -> None:
        if stop_after_s is not None:
            loop().call_later(stop_after_s, engine.sender.stop)
        await engine.run([send_of(one) for one in range(1, number + 1)])
        states = await engine.states(number)
        kept, rows = counted(path / "a.db")
        assert kept == rows
        assert kept.sending == 0
        assert kept.settled == len(engine.settled) == sum(states.values()) - states["pending"]
        for key, settle in engine.settled.items():
            record = (await engine.records(number))[key]
            assert (record.state, record.reason, record.status) == (settle.state, settle.reason, settle.status)
        if engine.sender.failure is None and stop_after_s is None:
            assert kept.settled == number
        for event in engine.named(EventName.CALL_MADE):
            assert event.key is not None
        assert len(engine.named(EventName.SEND_ACCEPTED)) == kept.accepted
        assert engine.sender.calls == sum(vendor.made.values())
        stats = engine.sender.stats.get("insider.launch")
        assert (0 if stats is None else stats.calls) == sum(vendor.made.values())
        assert max(vendor.effects.values(), default=0) <= 1
        assert sum(vendor.effects.values()) == kept.accepted
        await engine.ledger.end_job(engine.job_id, JobState.INCOMPLETE, {}, counts_as_finish=False)

    in_engine(path, vendor, check)


@settings(max_examples=20, deadline=None)
@given(scripts=st.lists(one_script, min_size=1, max_size=8), runs=st.integers(2, 4))
def test_run_again_until_all_is_settled_and_each_took_effect_once_at_most(
    tmp_path_factory: pytest.TempPathFactory, scripts: list[list[Said]], runs: int
) -> None:
    path = tmp_path_factory.mktemp("ledger")
    number = len(scripts)
    vendor = Vendor({f"k{one}": said for one, said in enumerate(scripts, 1)})

    async def check(engine: Engine) -> None:
        await engine.run([send_of(one) for one in range(1, number + 1)])

    for _ in range(runs):
        in_engine(path, vendor, check)
    vendor.script = {}
    in_engine(path, vendor, check)
    kept, rows = counted(path / "a.db")
    assert kept == rows
    assert kept.settled == number
    assert sum(vendor.effects.values()) == kept.accepted
    assert set(vendor.effects.values()) <= {1}


def test_a_crash_leaves_unknown_what_was_in_flight_and_it_is_not_made_again(tmp_path: Path) -> None:
    vendor = Vendor()

    async def crash(engine: Engine) -> None:
        intent = Intent(Scope.SEND, "k1", "default", 1, 0, 1)
        await engine.ledger.record(engine.job_id, intent)

    in_engine(tmp_path, vendor, crash)

    async def again(engine: Engine) -> None:
        await engine.run([send_of(1), send_of(2)])
        records: dict[str, Any] = await engine.records(2)
        assert (records["k1"].state, records["k2"].state) == (State.UNKNOWN, State.ACCEPTED)
        assert vendor.made == {"k2": 1}
        change = Change(Scope.SEND, "k1", State.UNKNOWN, State.PENDING, 0)
        await engine.ledger.record(engine.job_id, change)
        await engine.run([send_of(1), send_of(2)])
        assert vendor.made == {"k1": 1, "k2": 1}

    in_engine(tmp_path, vendor, again)


def test_a_limit_whose_pace_changes_is_told(tmp_path: Path) -> None:
    """A 429 without Retry-After makes the margin for jitter grow, and with it the pace of the endpoint slower."""

    async def check(engine: Engine) -> None:
        await engine.run([send_of(1)])
        told = engine.named(EventName.LIMIT_CHANGED)
        assert [(event.endpoint, event.count) for event in told] == [(LAUNCH.name, None)]
        assert (told[0].reason or "").startswith("now ")

    in_engine(tmp_path, Vendor({"k1": [LIMITED, ACCEPTED]}), check)
