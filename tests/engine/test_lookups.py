"""What becomes of a call whose reply was lost: lookups at the real providers, in the run itself and at its end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import orjson
import pytest

from bulksend.errors import PrepareError
from bulksend.event import EventName
from bulksend.ledger.base import Scope
from bulksend.model import Call, Reply, State
from bulksend.providers import SendName
from bulksend.providers.base import mark_of
from bulksend.providers.stream.provider import _made_id
from tests.engine.rig import LOST, UNREACHABLE, Rig, Said, Script, account_of, job_of, reply, simulate

ID = _made_id(account_of("stream"), "campaign", "sale", "k1")
"""What the one campaign of the Stream jobs is made under."""
STREAM = job_of("stream")
WATCHED = job_of("stream", watch={"every": "10 s"})
BATCH = job_of("batch")
DIRECT = job_of("batch", launch={"send": "direct"})
USERCOM = job_of("usercom")
INSIDER = job_of("insider", launch={"campaign_id": 7})
TOKEN = "0123456789abcdef"
BROKEN = reply(500, b"oops")


def campaign(status: str = "draft", **stats: float) -> Reply:
    return reply(200, orjson.dumps({"campaign": {"id": ID, "status": status, "stats": stats}, "duration": "1ms"}))


NO_CAMPAIGN = reply(404, b'{"code": 16, "message": "no campaign"}')
REFUSED = reply(400, b'{"code": 4, "message": "no"}')
CREATED = campaign()
STARTED = campaign("in_progress")
MADE = reply(201, orjson.dumps({"campaign_token": TOKEN}))
USERCOM_MADE = reply(201, b'{"id": 12}')


def live(value: object) -> Reply:
    return reply(200, orjson.dumps({"campaign_token": TOKEN, "live": value}))


def listed(*names: str, cursor: str | None = None) -> Reply:
    following = f"https://shop.user.com/api/public/webpush-campaign/?cursor={cursor}" if cursor else None
    results = [{"id": number, "name": name} for number, name in enumerate(names, 100)]
    return reply(200, orjson.dumps({"next": following, "previous": None, "results": results}))


def tokens(*names: str) -> Reply:
    return reply(200, orjson.dumps([{"name": name, "campaign_token": TOKEN} for name in names]))


def marked(provider: str) -> str:
    return f"Sale k1 [{mark_of(account_of(provider), SendName('sale', 'k1'))}]"


def ran(path: Path, job: dict[str, Any], answers: dict[str, Said | Sequence[Said]], *, latency_s: float = 0.02) -> Any:
    """Run the one send of a job; returns its record, the script and the rig."""
    script = Script(answers, latency_s=latency_s)
    kept: list[Any] = []

    async def check(rig: Rig) -> None:
        await rig.run()
        kept.extend([await rig.record(), script, rig])

    simulate(lambda: Rig(path, script, job), check)
    return kept


FOUND: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "stream create": (
        STREAM,
        {"campaign.create": LOST, "campaign.get": CREATED, "campaign.start": STARTED},
        "campaign.create",
    ),
    "stream start": (
        STREAM,
        {"campaign.create": CREATED, "campaign.start": LOST, "campaign.get": STARTED},
        "campaign.start",
    ),
    "stream start, HTML": (
        STREAM,
        {"campaign.create": CREATED, "campaign.start": reply(200, b"<html>"), "campaign.get": campaign("scheduled")},
        "campaign.start",
    ),
    "batch set live": (BATCH, {"create": MADE, "update": BROKEN, "get": live(True)}, "update"),
    "batch direct": (DIRECT, {"create": LOST, "list": tokens("other", marked("batch"))}, "create"),
    "usercom": (USERCOM, {"create": LOST, "list": listed("other", marked("usercom"))}, "create"),
}


@pytest.mark.parametrize("name", FOUND)
def test_a_call_that_is_found_is_accepted_and_not_made_again(name: str, tmp_path: Path) -> None:
    job, answers, endpoint = FOUND[name]
    record, script, rig = ran(tmp_path, job, answers)
    assert (record.state, script.made[endpoint]) == (State.ACCEPTED, 1)
    assert record.refs, "the vendor's id is kept"
    assert rig.launch.seen[State.UNKNOWN] == 0
    assert not rig.named(EventName.SEND_RETRIED)


ABSENT: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "stream create": (
        STREAM,
        {"campaign.create": [LOST, CREATED], "campaign.get": NO_CAMPAIGN, "campaign.start": STARTED},
        "campaign.create",
    ),
    "stream start": (
        STREAM,
        {"campaign.create": CREATED, "campaign.start": [LOST, STARTED], "campaign.get": campaign("draft")},
        "campaign.start",
    ),
    "batch set live": (BATCH, {"create": MADE, "update": [LOST, reply(200)], "get": live(False)}, "update"),
}


@pytest.mark.parametrize("name", ABSENT)
def test_a_call_that_had_no_effect_is_made_again_and_counted(name: str, tmp_path: Path) -> None:
    job, answers, endpoint = ABSENT[name]
    record, script, rig = ran(tmp_path, job, answers)
    assert (record.state, script.made[endpoint]) == (State.ACCEPTED, 2)
    (retried,) = rig.named(EventName.SEND_RETRIED)
    assert retried.reason.endswith("it had no effect")
    # The ledger counts the repeats of the step it stands at, which is the last one.
    assert record.repeats == (1 if endpoint.endswith(("start", "update")) else 0)


def test_repeats_are_counted_for_each_step_by_itself(tmp_path: Path) -> None:
    script = Script(
        {"campaign.create": [LOST, LOST, CREATED], "campaign.get": NO_CAMPAIGN, "campaign.start": UNREACHABLE}
    )

    async def check(rig: Rig) -> None:
        before: list[tuple[int, int]] = []

        async def note(call: Call) -> None:
            record = await rig.record()
            before.append((record.step, record.repeats))

        script.on_call = lambda call: tasks.append(asyncio.ensure_future(note(call)))
        tasks: list[asyncio.Future[None]] = []
        await rig.run()
        await asyncio.gather(*tasks)
        assert {(0, 0), (0, 1), (0, 2), (1, 0)} == set(before)
        record = await rig.record()
        assert (record.state, record.step, record.repeats) == (State.PENDING, 1, 0)

    simulate(lambda: Rig(tmp_path, script, STREAM), check)


UNTOLD: dict[str, tuple[dict[str, Any], dict[str, Any], str, str]] = {
    "stream start": (
        STREAM,
        {"campaign.create": CREATED, "campaign.start": LOST, "campaign.get": NO_CAMPAIGN},
        "campaign.start",
        "the campaign is not there any more",
    ),
    "stream start, a lookup that never answers": (
        STREAM,
        {"campaign.create": CREATED, "campaign.start": LOST, "campaign.get": LOST},
        "campaign.start",
        "the lookup failed",
    ),
    "batch, another key than the Live key": (
        BATCH,
        {"create": MADE, "update": LOST, "get": reply(403, b'{"code": 20}')},
        "update",
        "Live API key",
    ),
    "batch, live is no boolean": (BATCH, {"create": MADE, "update": LOST, "get": live("yes")}, "update", "HTTP 200"),
    "batch direct, not in the list": (DIRECT, {"create": LOST, "list": tokens("x")}, "create", "no proof"),
    "usercom, not in the list": (USERCOM, {"create": LOST, "list": listed("x")}, "create", "no proof"),
    "usercom, HTML": (USERCOM, {"create": LOST, "list": reply(200, b"<html>")}, "create", "the lookup failed"),
}


@pytest.mark.parametrize("name", UNTOLD)
def test_a_lookup_that_settles_nothing_leaves_unknown_with_both_reasons(name: str, tmp_path: Path) -> None:
    job, answers, endpoint, reason = UNTOLD[name]
    record, script, rig = ran(tmp_path, job, answers)
    assert (record.state, script.made[endpoint]) == (State.UNKNOWN, 1)
    assert record.reason.startswith("the connection was reset; ")
    assert reason in record.reason
    assert rig.sender.failure is None


@pytest.mark.parametrize(
    ("found", "state"), [(STARTED, State.ACCEPTED), (campaign("draft"), State.REJECTED), (BROKEN, State.UNKNOWN)]
)
def test_a_refusal_after_a_repeat_is_settled_by_a_lookup(found: Said, state: State, tmp_path: Path) -> None:
    answers = {
        "campaign.create": CREATED,
        "campaign.start": [LOST, REFUSED],
        "campaign.get": [campaign("draft"), found],
    }
    record, script, _ = ran(tmp_path, STREAM, answers)
    assert (record.state, script.made["campaign.start"]) == (state, 2)


def test_a_refusal_of_the_first_call_needs_no_lookup(tmp_path: Path) -> None:
    record, script, _ = ran(tmp_path, STREAM, {"campaign.create": CREATED, "campaign.start": REFUSED})
    assert (record.state, record.status) == (State.REJECTED, 400)
    assert script.made == {"campaign.create": 1, "campaign.start": 1}


def test_a_lookup_reads_page_after_page_at_the_accounts_own_address(tmp_path: Path) -> None:
    pages = [listed("x", cursor="b=+"), listed("y", cursor="c"), listed(marked("usercom"))]
    record, script, _ = ran(tmp_path, USERCOM, {"create": LOST, "list": pages})
    assert record.state is State.ACCEPTED
    urls = [url for name, _, url in script.calls if name == "usercom.list"]
    assert [unquote(url).partition("?cursor=")[2] for url in urls] == ["", "b= ", "c"]
    assert all(url.startswith("http://127.0.0.1:1/") for url in urls)


def test_a_lookup_of_endless_pages_ends(tmp_path: Path) -> None:
    record, script, _ = ran(tmp_path, USERCOM, {"create": LOST, "list": listed("x", cursor="again")})
    assert record.state is State.UNKNOWN
    # Twenty pages, in the run and once more at its end.
    assert script.made == {"create": 1, "list": 40}


def test_the_pages_of_a_list_overlap(tmp_path: Path) -> None:
    full = tokens(*(f"x{number}" for number in range(100)))
    record, script, _ = ran(tmp_path, DIRECT, {"create": LOST, "list": [full, full, tokens(marked("batch"))]})
    assert (record.state, record.refs) == (State.ACCEPTED, (TOKEN,))
    starts = [url.partition("from=")[2].partition("&")[0] for name, _, url in script.calls if name == "batch.list"]
    assert starts == ["0", "90", "180"]


def test_a_throttled_lookup_pauses_its_own_endpoint_and_goes_on(tmp_path: Path) -> None:
    answers = {
        "campaign.create": CREATED,
        "campaign.start": LOST,
        "campaign.get": [*[reply(429, retry_after="7")] * 9, STARTED],
    }
    record, script, rig = ran(tmp_path, STREAM, answers)
    assert record.state is State.ACCEPTED
    times = script.at("campaign.get")
    assert len(times) == 10
    assert all(7 <= after - before < 9 for before, after in pairwise(times))
    assert {event.endpoint for event in rig.named(EventName.LIMIT_PAUSED)} == {"stream.campaign.get"}
    assert rig.sender.throttled == 9


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_lookup_does_not_end_the_account(status: int, tmp_path: Path) -> None:
    script = Script({"create": [LOST, USERCOM_MADE], "list": reply(status, b"{}")})

    async def check(rig: Rig) -> None:
        await rig.run()
        assert rig.sender.failure is None
        assert await rig.states() == {"unknown": 1, "accepted": 2}
        reasons = [(await rig.record(key)).reason or "" for key in rig.keys]
        assert sum(f"HTTP {status}" in reason for reason in reasons) == 1

    simulate(lambda: Rig(tmp_path, script, USERCOM, ["k1", "k2", "k3"]), check)


def test_a_lookup_that_is_not_sent_for_long_ends_as_untold(tmp_path: Path) -> None:
    record, _, rig = ran(tmp_path, USERCOM, {"create": LOST, "list": UNREACHABLE})
    assert record.state is State.UNKNOWN
    assert record.reason == "the connection was reset; the lookup failed: no connection"
    assert rig.sender.failure is None


def test_a_run_that_stops_in_a_lookup_leaves_unknown_and_the_next_settles_it(tmp_path: Path) -> None:
    script = Script({"create": LOST, "list": listed(marked("usercom"))})

    def stop(rig: Rig) -> None:
        script.on_call = lambda call: rig.sender.stop() if call.endpoint.name == "usercom.create" else None

    async def stopped(rig: Rig) -> None:
        stop(rig)
        await rig.run()
        record = await rig.record()
        assert (record.state, record.repeats) == (State.UNKNOWN, 1)
        assert record.reason == "the connection was reset; the lookup failed: the run ended before"

    async def again(rig: Rig) -> None:
        script.on_call = None
        await rig.run()
        assert (await rig.record()).state is State.ACCEPTED
        assert script.made == {"create": 1, "list": 1}

    simulate(lambda: Rig(tmp_path, script, USERCOM), again, before=stopped)


def test_a_run_that_is_killed_in_a_lookup_leaves_unknown_and_the_next_settles_it(tmp_path: Path) -> None:
    script = Script({"create": LOST, "list": listed(marked("usercom"))})

    async def killed(rig: Rig) -> None:
        task = asyncio.ensure_future(rig.run())
        script.on_call = lambda call: task.cancel() if call.endpoint.name == "usercom.list" else None
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await rig.record()).state is State.SENDING

    async def again(rig: Rig) -> None:
        script.on_call = None
        assert rig.turned == 1
        await rig.run()
        record = await rig.record()
        assert (record.state, record.refs) == (State.ACCEPTED, ("100",))
        assert script.made["create"] == 1

    simulate(lambda: Rig(tmp_path, script, USERCOM), again, before=killed)


def test_scopes_do_not_mix(tmp_path: Path) -> None:
    """A lookup leaves no record of its own."""

    async def check(rig: Rig) -> None:
        await rig.run()
        assert await rig.ledger.look_up(rig.job_id, Scope.ACCOUNT, ["k1"]) == {}
        assert await rig.states() == {"accepted": 1}

    script = Script({"create": LOST, "list": listed(marked("usercom"))})
    simulate(lambda: Rig(tmp_path, script, USERCOM), check)


SEGMENTED = job_of("stream", segment={"create": True, "name": "VIP", "all_users": True})
del SEGMENTED["launch"]["segment_ids"]
SEGMENT_ID = _made_id(account_of("stream"), "segment", "VIP")
SEGMENT = reply(200, orjson.dumps({"segment": {"id": SEGMENT_ID}, "duration": "1ms"}))
MADE_AND_STARTED = {"campaign.create": CREATED, "campaign.start": STARTED}


@pytest.mark.parametrize(
    ("create", "get", "made"),
    [
        (LOST, SEGMENT, 1),
        ([LOST, SEGMENT], NO_CAMPAIGN, 2),
        # An id of ours that is taken is a segment that an earlier job has made.
        (REFUSED, SEGMENT, 1),
        # A lookup that tells nothing: a repeat does no harm.
        ([LOST, SEGMENT], BROKEN, 2),
    ],
)
def test_an_accounts_own_segment_is_looked_up_too(create: Any, get: Said, made: int, tmp_path: Path) -> None:
    record, script, rig = ran(tmp_path, SEGMENTED, {"segment.create": create, "segment.get": get, **MADE_AND_STARTED})
    assert (record.state, script.made["segment.create"]) == (State.ACCEPTED, made)
    (prepared,) = rig.named(EventName.PREPARE_ACCEPTED)
    assert prepared.endpoint == "stream.segment.create"


def test_a_segment_that_is_refused_and_not_there_ends_the_account(tmp_path: Path) -> None:
    script = Script({"segment.create": REFUSED, "segment.get": NO_CAMPAIGN})

    async def check(rig: Rig) -> None:
        await rig.run()
        assert isinstance(rig.sender.failure, PrepareError)
        assert "was rejected: HTTP 400" in str(rig.sender.failure)
        assert await rig.states() == {}

    simulate(lambda: Rig(tmp_path, script, SEGMENTED), check)
