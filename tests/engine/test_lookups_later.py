"""What an earlier run left: unknowns that the last pass settles, and campaigns that are followed to their end."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest

from bulksend.event import EventName
from bulksend.launch import Source
from bulksend.model import Reply, State
from tests.engine.rig import LOST, UNREACHABLE, Rig, Script, job_of, loop, reply, simulate
from tests.engine.test_lookups import (
    BATCH,
    BROKEN,
    CREATED,
    DIRECT,
    ID,
    INSIDER,
    MADE,
    NO_CAMPAIGN,
    REFUSED,
    STARTED,
    STREAM,
    TOKEN,
    USERCOM,
    USERCOM_MADE,
    WATCHED,
    campaign,
    listed,
    live,
    marked,
    tokens,
)

INSIDER_PER_ROW = job_of("insider", create={"title": "Sale ${key}", "language": "en_GB", "per": "row"})
RESENDING = {**INSIDER, "policy": {"on_unknown": "resend"}}
INSIDER_MADE = reply(200, b'{"success": true, "campaign_id": 7}')

Left = tuple[dict[str, Any], int, tuple[str, ...], dict[str, Any], State, dict[str, int], tuple[str, ...] | None]
"""Job, step and refs of what was left unknown; what the vendor says; how it ends, the calls, the refs."""

LAST_PASS: dict[str, Left] = {
    "found at the last step: accepted": (
        STREAM, 1, (ID,), {"campaign.get": campaign("completed")}, State.ACCEPTED, {"campaign.get": 1}, (ID,),
    ),
    "found at an earlier step: goes on with the next": (
        STREAM, 0, (), {"campaign.get": CREATED, "campaign.start": STARTED}, State.ACCEPTED,
        {"campaign.get": 1, "campaign.start": 1}, (ID, ID),
    ),
    "absent: sent once": (
        STREAM, 1, (ID,), {"campaign.get": CREATED, "campaign.start": STARTED}, State.ACCEPTED,
        {"campaign.get": 1, "campaign.start": 1}, (ID, ID),
    ),
    "absent at the first step: sent once": (
        STREAM, 0, (), {"campaign.get": NO_CAMPAIGN, "campaign.create": CREATED, "campaign.start": STARTED},
        State.ACCEPTED, {"campaign.get": 1, "campaign.create": 1, "campaign.start": 1}, (ID, ID),
    ),
    "absent, refused, and found by a second lookup": (
        STREAM, 1, (ID,), {"campaign.get": [CREATED, STARTED], "campaign.start": REFUSED}, State.ACCEPTED,
        {"campaign.get": 2, "campaign.start": 1}, None,
    ),
    "absent, refused, and absent still": (
        STREAM, 1, (ID,), {"campaign.get": CREATED, "campaign.start": REFUSED}, State.REJECTED,
        {"campaign.get": 2, "campaign.start": 1}, None,
    ),
    "untold: stays unknown": (
        STREAM, 1, (ID,), {"campaign.get": NO_CAMPAIGN}, State.UNKNOWN, {"campaign.get": 1}, (ID,),
    ),
    "batch, live": (BATCH, 1, (TOKEN,), {"get": live(True)}, State.ACCEPTED, {"get": 1}, (TOKEN,)),
    "batch, not live": (
        BATCH, 1, (TOKEN,), {"get": live(False), "update": reply(200)}, State.ACCEPTED, {"get": 1, "update": 1}, None,
    ),
    "batch draft, no lookup and no harm: made again": (
        BATCH, 0, (), {"create": MADE, "update": reply(200)}, State.ACCEPTED, {"create": 1, "update": 1}, (TOKEN,),
    ),
    "batch direct, in the list": (
        DIRECT, 0, (), {"list": tokens(marked("batch"))}, State.ACCEPTED, {"list": 1}, (TOKEN,),
    ),
    "usercom, in the list": (
        USERCOM, 0, (), {"list": listed(marked("usercom"))}, State.ACCEPTED, {"list": 1}, ("100",),
    ),
    "usercom, not in the list": (USERCOM, 0, (), {"list": listed()}, State.UNKNOWN, {"list": 1}, ()),
    "insider launch: stays unknown": (INSIDER, 0, (), {}, State.UNKNOWN, {}, ()),
    "insider launch, resend": (
        RESENDING, 0, (), {"launch": INSIDER_MADE}, State.ACCEPTED, {"launch": 1}, ("7",),
    ),
    "insider create per row, no harm: made again": (
        INSIDER_PER_ROW, 0, (), {"create": INSIDER_MADE, "launch": INSIDER_MADE}, State.ACCEPTED,
        {"create": 1, "launch": 1}, ("7", "7"),
    ),
    "insider launch of a row's campaign: stays unknown": (
        INSIDER_PER_ROW, 1, ("7",), {}, State.UNKNOWN, {}, ("7",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LAST_PASS)
def test_the_last_pass_settles_what_an_earlier_run_left(name: str, tmp_path: Path) -> None:
    job, step, refs, answers, state, made, refs_after = LAST_PASS[name]
    script = Script(answers)

    async def left(rig: Rig) -> None:
        await rig.leave_unknown(step=step, refs=refs)

    async def check(rig: Rig) -> None:
        await rig.run()
        record = await rig.record()
        assert record.state is state
        assert script.made == made
        assert rig.launch.seen == {**dict.fromkeys(State, 0), state: 1}
        assert rig.launch.under_way == 0
        assert rig.sender.failure is None
        if refs_after is not None:
            assert record.refs == refs_after

    simulate(lambda: Rig(tmp_path, script, job), check, before=left)
    db = sqlite3.connect(tmp_path / "a.db")
    assert db.execute("SELECT accepted, rejected, unknown, sending FROM job").fetchone() == tuple(
        int(state is one) for one in (State.ACCEPTED, State.REJECTED, State.UNKNOWN, State.SENDING)
    )
    db.close()


@pytest.mark.parametrize(("job", "readings"), [(INSIDER, 1), (RESENDING, 2), (USERCOM, 2)])
def test_the_audience_is_read_again_only_where_that_can_help(
    job: dict[str, Any], readings: int, tmp_path: Path
) -> None:
    script = Script({"launch": INSIDER_MADE, "list": listed()})

    async def check(rig: Rig) -> None:
        await rig.run()
        assert rig.readings == readings

    simulate(lambda: Rig(tmp_path, script, job), check, before=lambda rig: rig.leave_unknown())


def test_nothing_unknown_nothing_read_again(tmp_path: Path) -> None:
    async def check(rig: Rig) -> None:
        await rig.run()
        assert rig.readings == 1
        await rig.run()
        assert rig.readings == 2

    simulate(lambda: Rig(tmp_path, Script({"create": USERCOM_MADE}), USERCOM), check)


def test_resend_makes_a_call_once_more_and_no_more(tmp_path: Path) -> None:
    script = Script({"launch": LOST})

    async def check(rig: Rig) -> None:
        await rig.run()
        assert (await rig.record()).state is State.UNKNOWN

    for calls in (2, 2, 2):
        simulate(lambda: Rig(tmp_path, script, RESENDING), check)
        assert script.made == {"launch": calls}


def test_the_last_pass_of_the_same_run_asks_again(tmp_path: Path) -> None:
    """A campaign that shows up in the list a little late is found before the run ends."""
    script = Script({"create": LOST, "list": [listed(), listed(marked("usercom"))]})

    async def check(rig: Rig) -> None:
        await rig.run()
        record = await rig.record()
        assert (record.state, script.made) == (State.ACCEPTED, {"create": 1, "list": 2})
        assert [event.name for event in rig.events if event.name.startswith("send.")] == [
            EventName.SEND_UNKNOWN,
            EventName.SEND_ACCEPTED,
        ]
        assert rig.launch.seen[State.UNKNOWN] == 0

    simulate(lambda: Rig(tmp_path, script, USERCOM), check)


@pytest.mark.parametrize("earlier", [False, True], ids=["of this run", "of an earlier run"])
def test_rows_that_can_be_drawn_once_are_looked_up_too(earlier: bool, tmp_path: Path) -> None:
    script = Script({"create": LOST, "list": [*[listed()] * (not earlier), listed(marked("usercom"))]})

    async def left(rig: Rig) -> None:
        if earlier:
            await rig.leave_unknown()

    async def check(rig: Rig) -> None:
        await rig.launch.run(Source(rig._whole, redraw=False), accepted_before=0)
        assert (await rig.record()).state is State.ACCEPTED
        assert rig.readings == 1

    simulate(lambda: Rig(tmp_path, script, USERCOM), check, before=left)


def test_a_last_pass_that_is_stopped_leaves_the_rest_for_the_next(tmp_path: Path) -> None:
    """Reopened and not sent yet: pending, and sent once by the next run."""
    script = Script({"campaign.get": CREATED, "campaign.start": STARTED})

    async def stopped(rig: Rig) -> None:
        await rig.leave_unknown(step=1, refs=(ID,))
        script.on_call = lambda _call: rig.sender.stop()
        await rig.run()
        assert script.made == {"campaign.get": 1}
        assert rig.sender.failure is None

    async def again(rig: Rig) -> None:
        script.on_call = None
        await rig.run()
        assert (await rig.record()).state is State.ACCEPTED
        assert script.made["campaign.start"] == 1

    simulate(lambda: Rig(tmp_path, script, STREAM), again, before=stopped)


# Watching


def test_a_campaign_is_followed_to_its_end(tmp_path: Path) -> None:
    gets = [campaign("scheduled"), campaign("in_progress", progress=0.25), BROKEN, campaign("in_progress", progress=7)]
    end = campaign("completed", stats_users_sent=40, stats_messages_sent=38, stats_users_read=True, progress=1)
    script = Script({"campaign.create": CREATED, "campaign.start": STARTED, "campaign.get": [*gets, end]})
    rows: set[tuple[Any, ...]] = set()

    async def check(rig: Rig) -> None:
        other = sqlite3.connect(tmp_path / "a.db")

        def note(call: Any) -> None:
            if call.endpoint.reads:
                rows.add(other.execute("SELECT state, step, attempts, at FROM send").fetchone())

        script.on_call = note
        await rig.run()
        record = await rig.record()
        assert (record.state, record.step, record.attempts, record.repeats) == (State.ACCEPTED, 2, 2, 0)
        assert [event.progress for event in rig.named(EventName.SEND_WATCHED)] == [0.0, 0.25, 0.0]
        assert rig.sender.tally == Counter(
            completed=1, users_sent=40, messages_sent=38, channels_created=0, users_read=0
        )
        gaps = [after - before for before, after in pairwise(script.at("campaign.get"))]
        assert [gap >= 10 for gap in gaps] == [True, True, False, True], "a lost answer is asked for sooner"
        assert {row[:3] for row in rows} == {("pending", 2, 2)}
        assert len(rows) == 1, "following writes nothing to a send's record"
        other.close()

    simulate(lambda: Rig(tmp_path, script, WATCHED), check)


def test_a_campaign_that_was_stopped_is_accepted_with_its_numbers(tmp_path: Path) -> None:
    end = campaign("stopped", stats_users_sent=3, stats_messages_sent=2)
    script = Script({"campaign.create": CREATED, "campaign.start": STARTED, "campaign.get": end})

    async def check(rig: Rig) -> None:
        await rig.run()
        assert (await rig.record()).state is State.ACCEPTED
        assert rig.sender.tally == Counter(stopped=1, users_sent=3, messages_sent=2, channels_created=0, users_read=0)

    simulate(lambda: Rig(tmp_path, script, WATCHED), check)


@pytest.mark.parametrize("said", [NO_CAMPAIGN, reply(200, b"<html>"), LOST, campaign("draft"), BROKEN])
def test_a_campaign_that_cannot_be_followed_is_accepted_with_a_reason(said: Any, tmp_path: Path) -> None:
    script = Script({"campaign.create": CREATED, "campaign.start": STARTED, "campaign.get": said})

    async def check(rig: Rig) -> None:
        await rig.run()
        record = await rig.record()
        assert record.state is State.ACCEPTED
        assert (record.reason or "").startswith("started; its end is not known: ")
        assert script.made["campaign.start"] == 1
        assert rig.sender.tally == {}
        assert rig.launch.seen[State.ACCEPTED] == 1

    simulate(lambda: Rig(tmp_path, script, WATCHED), check)


def test_following_for_days_uses_up_no_tries(tmp_path: Path) -> None:
    # An answer that is lost after a thousand good ones is as harmless as one that is lost at first.
    gets: list[Reply] = [*[campaign("scheduled")] * 1000, BROKEN, *[campaign("scheduled")] * 1000]
    script = Script(
        {"campaign.create": CREATED, "campaign.start": STARTED, "campaign.get": [*gets, campaign("completed")]}
    )

    async def check(rig: Rig) -> None:
        await rig.run()
        record = await rig.record()
        assert (record.state, record.reason) == (State.ACCEPTED, None)
        assert (rig.sender.retried, rig.sender._spent) == (1, 1)
        assert loop().time() > 20_000

    simulate(lambda: Rig(tmp_path, script, WATCHED), check)


@pytest.mark.parametrize("ending", ["stop", "kill", "away", "denied"])
def test_a_run_that_ends_while_following_goes_on_following_in_the_next(ending: str, tmp_path: Path) -> None:
    gets = {"away": UNREACHABLE, "denied": reply(401, b"{}")}
    script = Script(
        {
            "campaign.create": CREATED,
            "campaign.start": STARTED,
            "campaign.get": [STARTED, STARTED, gets.get(ending, STARTED)],
        }
    )

    async def ended(rig: Rig) -> None:
        task = asyncio.ensure_future(rig.run())
        if ending in ("stop", "kill"):
            loop().call_later(35, rig.sender.stop if ending == "stop" else task.cancel)
        await asyncio.wait([task])
        assert task.cancelled() is (ending == "kill")
        assert loop().time() <= 1000 + (36 if ending in ("stop", "kill") else 60)
        record = await rig.record()
        assert (record.state, record.step, record.refs) == (State.PENDING, 2, (ID, ID))
        assert (rig.sender.failure is None) is (ending == "stop")

    simulate(lambda: Rig(tmp_path, script, WATCHED), ended)
    following = Script({"campaign.get": [campaign("in_progress", progress=0.5), campaign("completed")]})

    async def again(rig: Rig) -> None:
        assert rig.turned == 0
        await rig.run()
        record = await rig.record()
        assert (record.state, record.refs) == (State.ACCEPTED, (ID, ID, ID))
        assert following.made == {"campaign.get": 2}
        assert rig.sender.tally["completed"] == 1

    simulate(lambda: Rig(tmp_path, following, WATCHED), again)


def test_an_unknown_start_that_is_found_is_followed(tmp_path: Path) -> None:
    script = Script({"campaign.get": [STARTED, STARTED, campaign("completed")]})

    async def check(rig: Rig) -> None:
        await rig.run()
        assert (await rig.record()).state is State.ACCEPTED
        assert rig.sender.tally["completed"] == 1

    simulate(lambda: Rig(tmp_path, script, WATCHED), check, before=lambda rig: rig.leave_unknown(step=1, refs=(ID,)))


def test_the_body_of_a_start_is_never_sent_with_a_lookup(tmp_path: Path) -> None:
    bodies: list[tuple[str, bytes]] = []
    script = Script({"campaign.create": CREATED, "campaign.start": LOST, "campaign.get": STARTED})
    script.on_call = lambda call: bodies.append((call.endpoint.name, call.body))

    async def check(rig: Rig) -> None:
        await rig.run()
        assert dict(bodies)["stream.campaign.get"] == b""
        assert orjson.loads(dict(bodies)["stream.campaign.create"])["id"] == ID

    simulate(lambda: Rig(tmp_path, script, STREAM), check)
