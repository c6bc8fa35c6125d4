"""What a review found in the engine: times that pass, campaigns that are followed, accounts beside each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from bulksend.event import EventName
from bulksend.job.parting import parted
from bulksend.launch import Source
from bulksend.ledger.base import Change, Intent, Scope
from bulksend.model import Call, Send, State
from tests.engine.rig import LOST, Rig, Script, account_of, job_of, loop, reply, simulate
from tests.engine.test_accounts import CREATING, HOUR, SAME, Vendor, partner_of, states_of
from tests.engine.test_accounts import DENIED as WRONG_TOKEN
from tests.engine.test_accounts import MADE as INSIDER_MADE
from tests.engine.test_lookups import (
    CREATED,
    ID,
    INSIDER,
    MADE,
    NO_CAMPAIGN,
    STARTED,
    STREAM,
    TOKEN,
    USERCOM_MADE,
    WATCHED,
    campaign,
    listed,
    live,
    tokens,
)
from tests.simulated_time import EPOCH_S

AT = datetime.fromtimestamp(EPOCH_S + 1060, UTC).isoformat()
SCHEDULED = {"start": {"scheduled_for": AT}}
OTHER = reply(200, orjson.dumps({"campaign": {"id": "another", "status": "in_progress"}, "duration": "1ms"}))
TWO = {name: account_of("batch", api_key=name) for name in "ab"}


async def two_hours_later(rig: Rig) -> None:
    """Let the run be one that starts when the time of its sends has passed."""
    await asyncio.sleep(7200)
    rig.renderer.now = loop().wall()


async def leave_pending(rig: Rig, step: int, refs: Sequence[str], key: str = "k1", *, fingerprint: int = 0) -> None:
    """Put a send into the ledger whose first steps are made."""
    send = rig.send(key)
    for number in range(step):
        intent = Intent(Scope.SEND, key, send.account.name, send.row, number, fingerprint or send.fingerprint)
        await rig.ledger.record(rig.job_id, intent)
        made = Change(Scope.SEND, key, State.SENDING, State.PENDING, number + 1, ref=refs[number])
        await rig.ledger.record(rig.job_id, made)


def once_only(rig: Rig, *, names: Sequence[str] = ()) -> Source:
    """Rows that can be drawn once, as those from code are."""

    async def whole(_state: State) -> AsyncGenerator[list[Send], None]:
        for key in keys:
            yield [rig.send(key)]

    keys = iter(rig.keys)

    @asynccontextmanager
    async def parts(state: State) -> AsyncIterator[list[AsyncGenerator[list[Send], None]]]:
        async with parted(whole(state), lambda send: send.account.name, names, scratch_dir=rig.path) as some:
            yield some

    return Source(whole, parts if names else None, redraw=False)


def said(status: str, later: str | None = None) -> Any:
    """Answer as Stream does, of the campaign that is called; after a minute, perhaps another status."""

    def answer(call: Call) -> Any:
        found = orjson.loads(call.body)["id"] if status == "draft" else call.url.split("/campaigns/")[1][:36]
        now = later if later is not None and loop().time() > 1060 else status
        return reply(200, orjson.dumps({"campaign": {"id": found, "status": now}, "duration": "1ms"}))

    return answer


# Times that pass

LEFT_UNKNOWN: dict[str, tuple[dict[str, Any], int, tuple[str, ...], dict[str, Any]]] = {
    "usercom, resend": (
        job_of("usercom", launch={"eta": AT}, policy={"on_unknown": "resend"}), 0, (), {"list": listed()},
    ),
    "stream start, absent": (job_of("stream", **SCHEDULED), 1, (ID,), {"campaign.get": CREATED}),
    "stream create, absent": (job_of("stream", **SCHEDULED), 0, (), {"campaign.get": NO_CAMPAIGN}),
    "stream create, found": (job_of("stream", **SCHEDULED), 0, (), {"campaign.get": CREATED}),
    "batch set live, not live": (
        job_of("batch", launch={"push_time": AT}, policy={"on_unknown": "resend"}), 1, (TOKEN,), {"get": live(False)},
    ),
    "batch draft": (job_of("batch", launch={"push_time": AT}), 0, (), {}),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT_UNKNOWN)
def test_an_unknown_send_stays_unknown_once_its_time_has_passed(name: str, tmp_path: Path) -> None:
    job, step, refs, answers = LEFT_UNKNOWN[name]
    script = Script(answers)

    async def left(rig: Rig) -> None:
        await rig.leave_unknown(step=step, refs=refs)

    async def check(rig: Rig) -> None:
        await two_hours_later(rig)
        await rig.run()
        assert (await rig.record()).state is State.UNKNOWN
        assert set(script.made) <= set(answers)
        assert rig.launch.seen[State.UNKNOWN] == 1
        assert rig.launch.under_way == 0

    simulate(lambda: Rig(tmp_path, script, job), check, before=left)


@pytest.mark.parametrize(
    ("job", "step", "refs"),
    [
        (job_of("usercom", launch={"eta": AT}), 0, ()),
        (job_of("stream", **SCHEDULED), 1, (ID,)),
        (job_of("batch", launch={"push_time": AT}), 1, (TOKEN,)),
        (job_of("batch", launch={"push_time": AT, "send": "direct"}), 0, ()),
    ],
    ids=["usercom", "stream", "batch", "batch direct"],
)
def test_a_pending_send_is_rejected_without_a_call_once_its_time_has_passed(
    job: dict[str, Any], step: int, refs: tuple[str, ...], tmp_path: Path
) -> None:
    script = Script({})

    async def check(rig: Rig) -> None:
        await two_hours_later(rig)
        await rig.run()
        record = await rig.record()
        assert record.state is State.REJECTED
        assert "time has passed" in (record.reason or "")
        assert rig.launch.seen[State.REJECTED] == 1

    simulate(lambda: Rig(tmp_path, script, job), check, before=lambda rig: leave_pending(rig, step, refs))
    assert not script.calls


@pytest.mark.parametrize("begun", [True, False], ids=["followed before", "unknown start"])
def test_a_started_campaign_is_followed_after_its_time(begun: bool, tmp_path: Path) -> None:
    job = job_of("stream", watch={"every": "10 s"}, **SCHEDULED)
    script = Script({"campaign.get": [STARTED, STARTED, campaign("completed")]})

    async def left(rig: Rig) -> None:
        await (leave_pending(rig, 2, (ID, ID)) if begun else rig.leave_unknown(step=1, refs=(ID,)))

    async def check(rig: Rig) -> None:
        await two_hours_later(rig)
        await rig.run()
        assert (await rig.record()).state is State.ACCEPTED
        assert rig.sender.tally["completed"] == 1
        assert set(script.made) == {"campaign.get"}

    simulate(lambda: Rig(tmp_path, script, job), check, before=left)


LATE_IN_THE_RUN: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "a pause before the step": (
        job_of("batch", launch={"push_time": AT}), {"create": MADE, "update": [HOUR, reply(200)]}, "update",
    ),
    "a resend at the end": (
        job_of("usercom", launch={"eta": AT}, policy={"on_unknown": "resend"}),
        {"create": LOST, "list": [HOUR, listed()]},
        "create",
    ),
    "a limit that is slower than the time is near": (
        job_of("usercom", launch={"eta": AT}), {"create": USERCOM_MADE}, "create",
    ),
    "a canary that is followed to its end": (
        job_of("stream", **SCHEDULED, watch={"every": "1 min"}, policy={"canary": 1}),
        {
            "campaign.create": said("draft"),
            "campaign.start": said("scheduled"),
            "campaign.get": said("scheduled", "completed"),
        },
        "campaign.start",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LATE_IN_THE_RUN)
def test_a_time_that_passes_during_the_run_is_kept_too(name: str, tmp_path: Path) -> None:
    job, answers, endpoint = LATE_IN_THE_RUN[name]
    script = Script(answers)

    async def check(rig: Rig) -> None:
        await rig.run()
        assert all(at <= 1060 for at in script.at(endpoint))

    keys = [f"k{number}" for number in range(1, 101 if "limit" in name else 4)]
    simulate(lambda: Rig(tmp_path, script, job, keys), check)


@pytest.mark.parametrize("begun", [1, 0])
def test_a_payload_that_changed_between_create_and_start_is_told(begun: int, tmp_path: Path) -> None:
    script = Script({"campaign.create": CREATED, "campaign.start": STARTED})

    async def check(rig: Rig) -> None:
        await rig.run()
        assert (await rig.record()).state is State.ACCEPTED
        assert len(rig.named(EventName.SEND_CHANGED)) == rig.launch.changed == begun
        assert script.made["campaign.start"] == 1

    simulate(
        lambda: Rig(tmp_path, script, STREAM),
        check,
        before=lambda rig: leave_pending(rig, begun, (ID,), fingerprint=1),
    )


@pytest.mark.parametrize("canary", [pytest.param(1), 0])
def test_a_begun_send_that_changed_is_told_in_the_canary_of_several_accounts(canary: int, tmp_path: Path) -> None:
    script = Script({"create": MADE, "update": reply(200)})
    job = job_of("batch", policy={"canary": canary} if canary else {})

    async def check(rig: Rig) -> None:
        await rig.run()
        assert await rig.states() == {"accepted": 3}
        assert rig.launch.changed == 1

    simulate(
        lambda: Rig(tmp_path, script, job, ["a1", "b1", "b2"], accounts=TWO),
        check,
        before=lambda rig: leave_pending(rig, 1, (TOKEN,), "a1", fingerprint=1),
    )


def test_a_segment_of_another_name_is_another_segment(tmp_path: Path) -> None:
    made: list[str] = []

    def make(call: Call) -> Any:
        made.append(orjson.loads(call.body)["id"])
        return reply(201, orjson.dumps({"segment": {"id": made[-1]}, "duration": "1ms"}))

    targets: list[list[str]] = []

    def create(call: Call) -> Any:
        targets.append(orjson.loads(call.body)["segment_ids"])
        return said("draft")(call)

    script = Script({"segment.create": make, "campaign.create": create, "campaign.start": said("in_progress")})

    async def check(rig: Rig) -> None:
        await rig.run()
        assert await rig.states() == dict.fromkeys(["accepted"], len(rig.keys))

    for name, keys in (("one", ["k1"]), ("two", ["k1", "k2"]), ("two", ["k1", "k2", "k3"])):
        segment = {"name": name, "create": True, "all_users": True}
        job = job_of("stream", launch={"segment_ids": ["${segment.id}"]}, segment=segment)
        simulate(lambda job=job, keys=keys: Rig(tmp_path, script, job, keys), check)  # type: ignore[misc]
    assert len(made) == len(set(made)) == 2
    assert targets == [[made[0]], [made[1]], [made[1]]]


@pytest.mark.parametrize(
    "answers",
    [
        {"campaign.create": OTHER, "campaign.get": NO_CAMPAIGN},
        {"campaign.create": CREATED, "campaign.start": OTHER, "campaign.get": NO_CAMPAIGN},
        {"campaign.create": CREATED, "campaign.start": LOST, "campaign.get": OTHER},
        {"campaign.create": LOST, "campaign.get": OTHER},
    ],
    ids=["create", "start", "lookup of a start", "lookup of a create"],
)
def test_what_is_said_of_another_campaign_settles_nothing(answers: dict[str, Any], tmp_path: Path) -> None:
    script = Script(answers)

    async def check(rig: Rig) -> None:
        await rig.run()
        record = await rig.record()
        # A create that is lost every time is as little settled by it; it is an outage, and made again by the next run.
        assert record.state is (State.PENDING if answers["campaign.create"] is LOST else State.UNKNOWN)
        assert "another" not in record.refs

    simulate(lambda: Rig(tmp_path, script, STREAM), check)


# Who is followed holds up nobody


def test_more_campaigns_are_started_than_may_be_held_at_a_time(tmp_path: Path) -> None:
    script = Script(
        {"campaign.create": said("draft"), "campaign.start": said("scheduled"), "campaign.get": said("scheduled")}
    )

    async def check(rig: Rig) -> None:
        async def known() -> AsyncIterator[tuple[Send, None]]:
            for key in rig.keys:
                yield rig.send(key), None

        async def ref_of(_send: Send) -> None:
            return None

        running = asyncio.ensure_future(rig.sender.run(known(), lambda *_: None, ref_of, held_most=3))
        await asyncio.sleep(600)
        assert script.made["campaign.create"] == script.made["campaign.start"] == 12
        assert await rig.states() == {"pending": 12}
        rig.sender.stop()
        await running

    simulate(lambda: Rig(tmp_path, script, WATCHED, [f"k{number}" for number in range(12)]), check)


# Accounts beside each other


def test_rows_from_code_of_an_account_that_waits_hold_up_no_other(tmp_path: Path) -> None:
    keys = [f"a{number}" for number in range(60)] + [f"b{number}" for number in range(20)]
    vendor = Vendor(lambda name, _call: HOUR if name == "a" else INSIDER_MADE)

    async def check(rig: Rig) -> None:
        running = asyncio.ensure_future(rig.launch.run(once_only(rig, names="ab"), accepted_before=0))
        await asyncio.sleep(60)
        assert await states_of(rig, "b") == {"accepted"}
        assert "accepted" not in await states_of(rig, "a")
        rig.sender.stop()
        await running
        assert vendor.of["b"] == 20

    accounts = {name: account_of("insider", partner_id=name) for name in "ab"}
    simulate(lambda: Rig(tmp_path, vendor, INSIDER, keys, accounts=accounts), check)


@pytest.mark.parametrize("redraw", [True, False], ids=["from a file", "from code"])
def test_lookups_at_the_end_of_an_account_that_waits_hold_up_no_other(redraw: bool, tmp_path: Path) -> None:
    script = Script({"list": lambda call: HOUR if "/a/" in call.url else tokens(), "create": MADE})
    job = job_of("batch", launch={"send": "direct"}, policy={"on_unknown": "resend"})

    async def left(rig: Rig) -> None:
        for key in rig.keys:
            await rig.leave_unknown(key)

    async def check(rig: Rig) -> None:
        source = None if redraw else once_only(rig, names="ab")
        work = rig.run() if source is None else rig.launch.run(source, accepted_before=0)
        running = asyncio.ensure_future(work)
        await asyncio.sleep(600)
        of_b = await states_of(rig, "b")
        rig.sender.stop()
        await running
        assert of_b == {"accepted"}

    simulate(lambda: Rig(tmp_path, script, job, ["a1", "b1", "b2"], accounts=TWO), check, before=left)


@pytest.mark.parametrize("wrong", ["", "a", "b"])
def test_accounts_of_one_identity_share_what_is_made_and_end_alone(wrong: str, tmp_path: Path) -> None:
    vendor = Vendor(lambda name, _call: WRONG_TOKEN if name == wrong else INSIDER_MADE)
    keys = [f"{name}{number}" for number in range(10) for name in "ab"]

    async def check(rig: Rig) -> None:
        await rig.run()
        for name in "ab":
            assert await states_of(rig, name) == {"pending" if name == wrong else "accepted"}
        assert (rig.sender.failure is not None) == bool(wrong)
        assert vendor.made["create"] == 1 + (wrong == "a")
        assert not rig.sender.stopping

    simulate(lambda: Rig(tmp_path, vendor, CREATING, keys, accounts=SAME), check)


@pytest.mark.parametrize("redraw", [True, False], ids=["from a file", "from code"])
@pytest.mark.parametrize("number", [0, 3, 6])
def test_a_canary_before_several_accounts_counts_each_send_once(number: int, redraw: bool, tmp_path: Path) -> None:
    keys = [f"{name}{index}" for index in range(5) for name in "ab"]
    accounts = {name: account_of("insider", partner_id=name) for name in "ab"}
    job = {**INSIDER, "policy": {"canary": number} if number else {}}
    vendor = Vendor(lambda _name, _call: INSIDER_MADE)
    seen: list[str] = []
    vendor.on_call = lambda call: seen.append(f"{partner_of(call)}{call.body.decode().partition('values')[2][:6]}")

    async def first(rig: Rig) -> None:
        rig.keys = rig.keys[:2]
        await rig.run()

    async def check(rig: Rig) -> None:
        source = once_only(rig, names="ab")
        await (rig.run() if redraw else rig.launch.run(source, accepted_before=rig.before.counts.accepted))
        assert rig.launch.seen == {**dict.fromkeys(State, 0), State.ACCEPTED: 10}
        assert rig.launch.under_way == rig.launch.changed == 0
        assert vendor.made["launch"] == len(set(seen)) == 10

    simulate(lambda: Rig(tmp_path, vendor, job, keys, accounts=accounts), check, before=first)
