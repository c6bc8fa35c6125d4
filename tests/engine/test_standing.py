"""What a vendor says of its own count: limits corrected by X-RateLimit headers, and pauses until its window's end."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulksend.engine.retry import Again, decide
from bulksend.event import EventName
from bulksend.model import Accepted, Call, Endpoint, Limit, Repeat, Reply, Standing, State, Step, Throttled
from bulksend.providers import PROVIDERS
from tests.engine.rig import Rig, Said, Script, job_of, loop, reply, simulate
from tests.engine.test_lookups import CREATED, ID, STARTED
from tests.simulated_time import EPOCH_S

NOW = 1_800_000_000.0
STREAM = PROVIDERS["stream"]
JOB = job_of("stream")
SAFE = Endpoint("x.create", "POST", "/", Limit.parse("30/min"), Repeat.SAFE)


class Echo(Script):
    """Answers about the campaign that is called, whichever the script names."""

    def _answer(self, call: Call) -> Said:
        answer = super()._answer(call)
        if not isinstance(answer, Reply):
            return answer
        called = call.url.partition("/campaigns/")[2].partition("/")[0] or str(orjson.loads(call.body)["id"])
        return Reply(answer.status, answer.headers, answer.body.replace(ID.encode(), called.encode()))


def said(of: Reply, **headers: object) -> Reply:
    """Return a reply with `x-ratelimit-…` headers."""
    named = {f"x-ratelimit-{name}": str(text) for name, text in headers.items()}
    return Reply(of.status, {**of.headers, **named}, of.body)


def ran(
    path: Path, create: Any, *, rows: int = 60, job: dict[str, Any] | None = None, **given: Any
) -> tuple[Rig, Script]:
    """Run a job of so many rows; `create` is what its creates are answered, all else is accepted."""
    script = Echo({"campaign.create": create, "campaign.start": STARTED})
    kept: list[Rig] = []

    async def check(rig: Rig) -> None:
        await rig.run()
        kept.append(rig)
        assert rig.sender.failure is None
        assert await rig.states() == {"accepted": rows}

    keys = [f"k{number}" for number in range(rows)]
    simulate(lambda: Rig(path, script, job or JOB, keys, **given), check)
    return kept[0], script


def took_s(script: Script) -> float:
    times = script.at("campaign.create")
    return times[-1] - times[0]


def test_a_higher_limit_is_used(tmp_path: Path) -> None:
    rig, script = ran(tmp_path, said(CREATED, limit=6000, remaining=5999, reset=int(EPOCH_S + 1060)))
    assert took_s(script) < 5  # not the minute that the careful start would take
    assert str(rig.sender.stats["stream.campaign.create"].limit) == "6000/min, 200/s"
    assert {event.endpoint for event in rig.named(EventName.LIMIT_CHANGED)} == {"stream.campaign.create"}
    assert len(script.at("campaign.start")) == 60


def test_a_lower_limit_is_kept(tmp_path: Path) -> None:
    rig, script = ran(tmp_path, said(CREATED, limit=6, remaining=5), rows=20)
    gaps = [after - before for before, after in pairwise(script.at("campaign.create"))]
    assert all(gap >= 10 for gap in gaps[3:])
    assert str(rig.sender.stats["stream.campaign.create"].limit) == "6/min, 1/s"


def test_no_window_holds_more_than_the_corrected_limit(tmp_path: Path) -> None:
    # What was leased before is used up; after that both windows of the vendor's limit hold.
    _, script = ran(tmp_path, said(CREATED, limit=300), rows=700)
    times = script.at("campaign.create")
    for window_s, most in ((60.0, 300), (1.0, 10)):
        assert max(sum(first <= at < first + window_s for at in times) for first in times) <= most


def test_a_limit_of_the_contract_is_not_corrected(tmp_path: Path) -> None:
    limited = {**JOB, "limits": {"stream.campaign.create": "60/min"}}
    answer = said(CREATED, limit=6000, remaining=5999)
    rig, script = ran(tmp_path, answer, rows=30, job=limited, contract=["stream.campaign.create"])
    assert took_s(script) >= 28
    assert str(rig.sender.stats["stream.campaign.create"].limit) == "60/min"
    assert not rig.named(EventName.LIMIT_CHANGED)


def test_nothing_left_pauses_until_the_vendors_window_ends(tmp_path: Path) -> None:
    used = 0
    reset_at = EPOCH_S + 1000 + 40

    def create(_call: object) -> Said:
        nonlocal used
        used += 1
        return said(CREATED, limit=6000, remaining=max(0, 5 - used), reset=int(reset_at)) if used <= 5 else CREATED

    rig, script = ran(tmp_path, create, rows=20)
    times = script.at("campaign.create")
    assert not [at for at in times[8:] if EPOCH_S + at < reset_at]
    assert times[-1] < 1000 + 70
    assert rig.sender.throttled == 0


@pytest.mark.parametrize("reset", [0, 1, int(EPOCH_S), int(EPOCH_S + 1000)])
def test_a_reset_in_the_past_pauses_nothing(reset: int, tmp_path: Path) -> None:
    _, script = ran(tmp_path, said(CREATED, limit=6000, remaining=0, reset=reset))
    assert took_s(script) < 65


@pytest.mark.parametrize("reset", [int(EPOCH_S) * 1000, int(EPOCH_S) * 10**9, int(EPOCH_S) + 10**7, 10**15])
def test_an_absurd_reset_pauses_for_a_window_at_most(reset: int, tmp_path: Path) -> None:
    answers = [said(CREATED, remaining=0, reset=reset), CREATED]
    _, script = ran(tmp_path, answers, rows=4)
    assert took_s(script) <= 60 + 5


@pytest.mark.parametrize(
    ("headers", "standing"),
    [
        ({}, None),
        ({"limit": "300", "remaining": "299", "reset": "1800000060"}, (300, 299, 1_800_000_060.0)),
        ({"limit": "300, 300", "remaining": "0, 0", "reset": "1800000060, 1800000060"}, (300, 0, 1_800_000_060.0)),
        ({"limit": " 300 "}, (300, None, None)),
        ({"remaining": "7"}, (None, 7, None)),
        ({"reset": "1800000060"}, None),
        ({"limit": "0"}, (None, None, None)),
        ({"limit": "10000001"}, (None, None, None)),
        ({"limit": "1"}, (1, None, None)),
        ({"limit": "-300"}, None),
        ({"limit": "300.5"}, None),
        ({"limit": "1e3"}, None),
        ({"limit": "unlimited"}, None),
        ({"limit": ""}, None),
        ({"limit": "٣٠٠"}, None),
        ({"limit": "9" * 400}, None),
        ({"limit": "300", "remaining": "-1", "reset": "soon"}, (300, None, None)),
    ],
)
def test_what_the_headers_say(headers: dict[str, str], standing: tuple[int | None, ...] | None) -> None:
    found = STREAM.standing(said(CREATED, **headers))
    if standing is None:
        assert found is None
        return
    per_min, remaining, reset_at = standing
    assert found is not None
    assert (found.remaining, found.reset_at) == (remaining, reset_at)
    limit = None if per_min is None else Limit.parse(f"{per_min}/min, {max(1, per_min // 30)}/s")
    assert found.limit == limit


@given(st.dictionaries(st.sampled_from(["limit", "remaining", "reset"]), st.text(max_size=20) | st.integers().map(str)))
def test_headers_never_raise_and_never_give_an_impossible_limit(headers: dict[str, str]) -> None:
    found = STREAM.standing(said(CREATED, **headers))
    assert found is None or isinstance(found, Standing)
    if found is not None and found.limit is not None:
        assert Limit.parse(str(found.limit)) == found.limit
    assert isinstance(
        STREAM.read(Step(STREAM.endpoints["stream.campaign.create"]), said(CREATED, **headers), repeats=0), Accepted
    )


@pytest.mark.parametrize("name", ["insider", "usercom", "batch"])
def test_the_others_say_nothing_of_their_count(name: str) -> None:
    assert PROVIDERS[name].standing(said(CREATED, limit=6000, remaining=0, reset=2_000_000_000)) is None


def test_garbage_headers_change_nothing(tmp_path: Path) -> None:
    rig, script = ran(tmp_path, said(CREATED, limit="x", remaining="none", reset="-"), rows=10)
    assert 8.5 < took_s(script) < 11
    assert str(rig.sender.stats["stream.campaign.create"].limit) == "60/min"


# Told to wait


@pytest.mark.parametrize(
    ("retry_after", "reset_at", "episode", "pause_s"),
    [
        (None, NOW + 40, 1, 40.0),
        (None, NOW + 40, 9, 40.0),
        (None, NOW + 1.0, 5, 1.0),
        ("7", NOW + 40, 1, 7.0),
        ("90", NOW + 40, 1, 90.0),
        ("soon", NOW + 40, 1, 40.0),
        (None, NOW - 40, 1, 0.0),
        # A vendor's clock that is behind is not believed twice.
        (None, NOW - 40, 2, 7.5),
        (None, NOW - 40, 3, 15.0),
        # Beyond the endpoint's own window it cannot be meant: milliseconds, or a clock that is wrong.
        (None, NOW + 10**9, 1, 60.0),
        (None, 0.0, 1, 0.0),
        (None, None, 1, 7.5),
    ],
)
@pytest.mark.parametrize("at_least_s", [0.0, 5.0])
def test_a_429_waits_until_the_vendors_window_ends(
    retry_after: str | None, reset_at: float | None, episode: int, pause_s: float, at_least_s: float
) -> None:
    decision = decide(
        Throttled(429, retry_after, at_least_s, reset_at),
        SAFE,
        attempt=1,
        episode=episode,
        down_s=0.0,
        budget_left=100,
        period_s=60.0,
        now=NOW,
        random=lambda: 0.0,
    )
    assert isinstance(decision, Again)
    assert decision.pause_s == max(pause_s, at_least_s)
    assert (decision.repeats, decision.after_s) == (0, 0.0)


def test_a_429_with_a_reset_holds_everybody_until_then(tmp_path: Path) -> None:
    reset_at = int(EPOCH_S + 1000 + 33)
    answers = [said(reply(429, b'{"code": 9}'), reset=reset_at), CREATED]
    rig, script = ran(tmp_path, answers, rows=5)
    first, *others = script.at("campaign.create")
    assert EPOCH_S + first < reset_at <= EPOCH_S + min(others) <= reset_at + 1.5
    (paused,) = rig.named(EventName.LIMIT_PAUSED)
    assert paused.endpoint == "stream.campaign.create"
    assert (rig.sender.throttled, rig.sender._spent) == (1, 0)
    assert [gate._limited for gate in rig.sender._gates.values()] == [0, 0], "who says when is no reason for a margin"


def test_retry_after_has_priority_over_the_reset(tmp_path: Path) -> None:
    answer = said(reply(429, b'{"code": 9}', retry_after="7"), reset=int(EPOCH_S + 1000 + 50))
    _, script = ran(tmp_path, [answer, CREATED], rows=2)
    first, second, *_ = script.at("campaign.create")
    assert 7 <= second - first < 9


def test_a_429_with_all_three_headers_is_told_as_a_pause(tmp_path: Path) -> None:
    """The vendor's ordinary 429: nothing remains of the limit, and when it begins anew."""
    answer = said(reply(429, b'{"code": 9}'), limit=60, remaining=0, reset=int(EPOCH_S + 1000 + 33))
    rig, script = ran(tmp_path, [answer, CREATED], rows=5)
    assert script.at("campaign.create")[1] >= 1033
    assert [event.endpoint for event in rig.named(EventName.LIMIT_PAUSED)] == ["stream.campaign.create"]


@pytest.mark.parametrize("body", [b"", b"<html>Too many requests</html>", b"\xff\xfe", b"[]", b"null"])
def test_a_429_of_the_edge_is_a_429_whatever_its_body(body: bytes, tmp_path: Path) -> None:
    rig, script = ran(tmp_path, [reply(429, body), CREATED], rows=2)
    first, second, *_ = script.at("campaign.create")
    assert second - first >= 7.5
    assert rig.sender.throttled == 1
    assert rig.launch.seen[State.ACCEPTED] == 2


def test_a_vendor_whose_reset_is_always_past_is_not_asked_without_end(tmp_path: Path) -> None:
    answers = [*[said(reply(429), remaining=0, reset=int(EPOCH_S))] * 6, CREATED]
    _, script = ran(tmp_path, answers, rows=1)
    gaps = [after - before for before, after in pairwise(script.at("campaign.create"))]
    assert [gap >= least for gap, least in zip(gaps, [0, 7.5, 15, 30, 60, 60], strict=True)] == [True] * 6


def test_another_process_of_the_ledger_keeps_to_the_pause(tmp_path: Path) -> None:
    answer = said(CREATED, limit=60, remaining=0, reset=int(EPOCH_S + 1000 + 45))

    async def first(rig: Rig) -> None:
        await rig.run()

    simulate(lambda: Rig(tmp_path, Echo({"campaign.create": answer, "campaign.start": STARTED}), JOB), first)
    script = Echo({"campaign.create": CREATED, "campaign.start": STARTED})

    async def second(rig: Rig) -> None:
        assert loop().time() < 1001
        await rig.run()
        # Its clock starts a moment before the other's saved time, and counts the pause from its own.
        assert script.at("campaign.create")[0] >= 1044.9

    simulate(lambda: Rig(tmp_path, script, JOB, ["k1", "k2"]), second)
