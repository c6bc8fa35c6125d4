"""Accounts that end by themselves: the others of the job go on, and nobody waits for one that is over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bulksend.errors import DeniedError, InterruptedRunError, LedgerError, NetworkError, PrepareError
from bulksend.event import EventName
from bulksend.model import Account, Call, Secret, State
from tests.engine.rig import LOST, UNREACHABLE, Rig, Said, Script, account_of, job_of, loop, reply, simulate
from tests.engine.test_lookups import INSIDER

MADE = reply(200, b'{"success": true, "campaign_id": 7}')
DENIED = reply(401, b'{"message": "Unauthorized"}')
REFUSED = reply(400, b'{"message": "Bad Request"}')
HOUR = reply(429, retry_after="3600")
CREATING = job_of("insider", create={"title": "Sale", "language": "en_GB"})
MANY = [f"{name}{number:03}" for number in range(100) for name in "ab"]
THREE = {name: account_of("insider", partner_id=name) for name in "abc"}
TWO = {name: THREE[name] for name in "ab"}
SAME = {name: replace(account_of("insider"), secrets={"token": Secret(f"t0ken-{name}")}) for name in "ab"}
"""Two accounts that the vendor limits together: the same partner, each with a token of its own."""


def partner_of(call: Call) -> str:
    """Return the account that a call is made for: its token names it, or its body."""
    token = str(call.headers["Authorization"])
    return token[-1] if token[-2] == "-" else call.body.decode().partition('"partner_id":"')[2][0]


def key_of(call: Call) -> str:
    return call.body.decode().partition('"values":["')[2].partition('"')[0]


class Vendor(Script):
    """Answers by account; `of` counts the calls of each."""

    def __init__(self, says: Callable[[str, Call], Said], **latencies: float) -> None:
        self.of: Counter[str] = Counter()

        def said(call: Call) -> Said:
            name = partner_of(call)
            self.of[name] += 1
            return says(name, call)

        super().__init__({"launch": said, "create": said}, **latencies)


def only(bad: Said, *, endpoint: str = "launch", name: str = "a") -> Callable[[str, Call], Said]:
    """One account is answered so at one endpoint, everything else is accepted."""
    return lambda who, call: bad if who == name and call.endpoint.name == f"insider.{endpoint}" else MADE


async def states_of(rig: Rig, name: str) -> set[str]:
    """Return the states of an account's sends; one that the ledger does not have is pending."""
    records = await rig.ledger.look_up(rig.job_id, "send", rig.keys)
    return {records[key].state.value if key in records else "pending" for key in rig.keys if key[0] == name}


@pytest.mark.parametrize("apart", [True, False], ids=["a stream for each", "one stream"])
@pytest.mark.parametrize(
    ("bad", "error"), [(DENIED, DeniedError), (UNREACHABLE, NetworkError)], ids=["denied", "unreachable"]
)
def test_an_account_that_cannot_go_on_ends_alone(bad: Said, error: type, apart: bool, tmp_path: Path) -> None:
    vendor = Vendor(only(bad))

    async def check(rig: Rig) -> None:
        began = loop().time()
        await rig.run()
        assert isinstance(rig.sender.failure, error)
        assert "t0ken" not in str(rig.sender.failure)
        assert not rig.sender.stopping
        assert await states_of(rig, "b") == {"accepted"}
        assert await states_of(rig, "a") == {"pending"}
        assert loop().time() - began < 30
        assert rig.launch.seen[State.ACCEPTED] == 100

    simulate(lambda: Rig(tmp_path, vendor, INSIDER, MANY, accounts=TWO, apart=apart), check)


@pytest.mark.parametrize("apart", [True, False], ids=["a stream for each", "one stream"])
def test_after_the_first_refusal_only_what_is_under_way_is_called(apart: bool, tmp_path: Path) -> None:
    vendor = Vendor(only(DENIED), latency_s=0.1)

    async def check(rig: Rig) -> None:
        await rig.run()
        calls = [event for event in rig.named(EventName.CALL_MADE) if event.account == "a" and event.status]
        assert len(calls) == vendor.of["a"]
        # 6000/min, so that some ten left before the first answer came.
        assert 1 <= vendor.of["a"] <= 13
        assert vendor.of["b"] == 100
        assert all(event.status == 401 for event in calls)

    simulate(lambda: Rig(tmp_path, vendor, INSIDER, MANY, accounts=TWO, apart=apart), check)


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (REFUSED, PrepareError),
        (DENIED, DeniedError),
        (UNREACHABLE, NetworkError),
        (reply(404), PrepareError),
        (LOST, InterruptedRunError),
    ],
    ids=["refused", "denied", "unreachable", "not found", "lost"],
)
@pytest.mark.parametrize("apart", [True, False], ids=["a stream for each", "one stream"])
def test_an_account_whose_campaign_is_not_made_ends_alone(bad: Said, error: type, apart: bool, tmp_path: Path) -> None:
    vendor = Vendor(only(bad, endpoint="create"))

    async def check(rig: Rig) -> None:
        await rig.run()
        assert isinstance(rig.sender.failure, error)
        assert not rig.sender.stopping
        assert await states_of(rig, "a") == {"pending"}
        assert await states_of(rig, "b") == {"accepted"}
        assert {event.account for event in rig.named(EventName.PREPARE_ACCEPTED)} == {"b"}
        assert vendor.of["b"] == 101

    simulate(lambda: Rig(tmp_path, vendor, CREATING, MANY, accounts=TWO, apart=apart), check)


def test_the_first_failure_of_several_accounts_is_told(tmp_path: Path) -> None:
    vendor = Vendor(lambda name, _call: {"a": DENIED, "b": UNREACHABLE, "c": MADE}[name])

    async def check(rig: Rig) -> None:
        await rig.run()
        assert isinstance(rig.sender.failure, DeniedError)
        assert [await states_of(rig, name) for name in "abc"] == [{"pending"}, {"pending"}, {"accepted"}]

    keys = [f"{name}{number}" for number in range(20) for name in "abc"]
    simulate(lambda: Rig(tmp_path, vendor, INSIDER, keys, accounts=THREE), check)


def test_the_next_run_sends_what_the_failed_account_left(tmp_path: Path) -> None:
    effects: Counter[str] = Counter()
    denied = True

    def says(name: str, call: Call) -> Said:
        if name == "a" and denied:
            return DENIED
        effects[key_of(call)] += 1
        return MADE

    def rig() -> Rig:
        return Rig(tmp_path, Vendor(says), INSIDER, MANY, accounts=TWO)

    simulate(rig, lambda rig: rig.run())
    denied = False

    async def again(rig: Rig) -> None:
        await rig.run()
        assert rig.sender.failure is None
        assert effects == dict.fromkeys(MANY, 1)

    simulate(rig, again)


@pytest.mark.parametrize("apart", [True, False], ids=["a stream for each", "one stream"])
def test_whoever_sleeps_for_a_failed_account_wakes_at_once(apart: bool, tmp_path: Path) -> None:
    """One call of the account is told to wait for an hour; the next answer is that its credentials are refused."""
    seen: Counter[str] = Counter()

    def says(name: str, call: Call) -> Said:
        seen[name] += 1
        return MADE if name == "b" else HOUR if seen["a"] == 1 else DENIED

    vendor = Vendor(says, latency_s=0.1)

    async def check(rig: Rig) -> None:
        began = loop().time()
        await rig.run()
        assert isinstance(rig.sender.failure, DeniedError)
        assert loop().time() - began < 10
        assert await states_of(rig, "a") == {"pending"}
        assert await states_of(rig, "b") == {"accepted"}

    simulate(lambda: Rig(tmp_path, vendor, INSIDER, MANY, accounts=TWO, apart=apart), check)


def test_a_paused_account_does_not_hold_up_the_others(tmp_path: Path) -> None:
    ended: dict[str, float] = {}
    told = False

    def says(name: str, call: Call) -> Said:
        nonlocal told
        ended[name] = loop().time()
        if name == "a" and not told:
            told = True
            return HOUR
        return MADE

    async def check(rig: Rig) -> None:
        began = loop().time()
        await rig.run()
        assert rig.sender.failure is None
        assert await rig.states() == {"accepted": 5200}
        assert ended["b"] - began < 30
        assert ended["a"] - began >= 3600

    # Many more rows than are held in memory, those of the paused account first.
    keys = [f"a{number}" for number in range(2600)] + [f"b{number}" for number in range(2600)]
    simulate(lambda: Rig(tmp_path, Vendor(says), INSIDER, keys, accounts=TWO), check)


# Accounts of one identity


@pytest.mark.parametrize("apart", [True, False], ids=["a stream for each", "one stream"])
def test_accounts_of_one_identity_share_a_gate_and_one_that_fails_leaves_it_open(apart: bool, tmp_path: Path) -> None:
    vendor = Vendor(only(DENIED))

    async def check(rig: Rig) -> None:
        await rig.run()
        assert isinstance(rig.sender.failure, DeniedError)
        assert len(rig.sender._gates) == 1
        assert len(rig.sender._lanes) == 2
        assert await states_of(rig, "a") == {"pending"}
        assert await states_of(rig, "b") == {"accepted"}

    simulate(lambda: Rig(tmp_path, vendor, INSIDER, MANY, accounts=SAME, apart=apart), check)


def test_accounts_of_one_identity_stay_within_one_limit(tmp_path: Path) -> None:
    vendor = Vendor(lambda _name, _call: MADE)

    async def check(rig: Rig) -> None:
        await rig.run()
        left = sorted(vendor.at("launch"))
        assert left[-1] - left[0] >= 199 / 100.1

    simulate(lambda: Rig(tmp_path, vendor, INSIDER, MANY, accounts=SAME), check)


def test_an_account_that_comes_after_one_of_its_identity_has_failed_is_sent(tmp_path: Path) -> None:
    """The first account's rows are over, refused, before the other's first row comes."""
    keys = [f"a{number}" for number in range(3000)] + ["b1", "b2"]

    async def check(rig: Rig) -> None:
        await rig.run()
        assert isinstance(rig.sender.failure, DeniedError)
        assert await states_of(rig, "b") == {"accepted"}

    simulate(lambda: Rig(tmp_path, Vendor(only(DENIED)), INSIDER, keys, accounts=SAME, apart=False), check)


def test_nobody_waits_at_a_shared_gate_for_an_account_that_is_over(tmp_path: Path) -> None:
    """The other account is done; the failed one's calls do not wait for the end of the pause that was told."""
    seen: Counter[str] = Counter()

    def says(name: str, call: Call) -> Said:
        seen[name] += 1
        return MADE if name == "b" else HOUR if seen["a"] == 1 else DENIED

    vendor = Vendor(says, latency_s=0.1)

    async def check(rig: Rig) -> None:
        began = loop().time()
        await rig.run()
        assert await states_of(rig, "b") == {"accepted"}
        assert loop().time() - began < 10

    keys = ["b1", *(f"a{number}" for number in range(50))]
    accounts: Mapping[str, Account] = {name: SAME[name] for name in "ba"}
    simulate(lambda: Rig(tmp_path, vendor, INSIDER, keys, accounts=accounts), check)


def test_accounts_of_one_identity_make_their_campaign_without_breaking_the_ledger(tmp_path: Path) -> None:
    async def check(rig: Rig) -> None:
        await rig.run()
        assert not isinstance(rig.sender.failure, LedgerError)
        assert await rig.states() == {"accepted": len(MANY)}

    simulate(lambda: Rig(tmp_path, Vendor(lambda _name, _call: MADE), CREATING, MANY, accounts=SAME), check)


def test_a_canary_of_a_failed_account_stops_the_whole_run(tmp_path: Path) -> None:
    job: dict[str, Any] = {**INSIDER, "policy": {"canary": 2}}
    vendor = Vendor(only(DENIED))

    async def check(rig: Rig) -> None:
        await rig.run()
        assert isinstance(rig.sender.failure, DeniedError)
        assert rig.sender.stopping
        assert vendor.of["b"] <= 1
        assert not rig.named(EventName.CANARY_PASSED)

    simulate(lambda: Rig(tmp_path, vendor, job, MANY, accounts=TWO), check)


def test_a_send_that_the_canary_passed_by_is_counted_once(tmp_path: Path) -> None:
    """The first run's canary fails; the second goes on, and its numbers are those of the rows."""
    job: dict[str, Any] = {**INSIDER, "policy": {"canary": 4}}
    keys = ["a000", "b000", "a001", "b001", "a002", "b002"]
    vendor = Vendor(lambda _name, call: REFUSED if key_of(call) == "b000" else MADE)

    async def again(rig: Rig) -> None:
        assert await rig.states() == {"accepted": 3, "rejected": 1}
        await rig.run()
        assert rig.sender.failure is None
        assert await rig.states() == {"accepted": 5, "rejected": 1}
        assert rig.launch.seen == {**dict.fromkeys(State, 0), State.ACCEPTED: 5, State.REJECTED: 1}

    simulate(lambda: Rig(tmp_path, vendor, job, keys, accounts=TWO), again, before=lambda rig: rig.run())
