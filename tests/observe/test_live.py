"""The display and its line: what they say at a moment, and that they are calm."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from bulksend.event import Event, EventName
from bulksend.observe import live
from bulksend.observe.history import Happening
from bulksend.observe.live import Follower, Live, Ticker
from bulksend.observe.view import EndpointView, SegmentView, View, line_of, panel_of


class Clock:
    def __init__(self) -> None:
        self.at = 5000.0

    def __call__(self) -> float:
        return self.at


def shown(view: View, width: int = 100) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(panel_of(view))
    out = console.file
    assert isinstance(out, io.StringIO)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def event(name: EventName, **fields: Any) -> Event:
    return Event(name, "sale", **fields)


LAUNCH = EndpointView(
    "insider.launch", 5990.0, 0.998, limit="6000/min", p50_ms=20.0, p99_ms=44.5, throttled=2, in_flight=7
)
RUNNING = View(
    job="sale",
    state="running",
    elapsed_s=80.0,
    total=10_000,
    counts={"accepted": 8000, "rejected": 10, "unknown": 2},
    per_min=5991.0,
    eta_s=19.9,
    endpoints=[LAUNCH],
    accounts={"a": 3000.0, "b": 2990.0},
    reasons={"rejected: HTTP 400": 10},
    latest=[Happening(0.0, "limit.paused", "insider.launch: paused 3.0 s")],
)


def test_a_run_in_a_few_lines() -> None:
    lines = shown(RUNNING, 120)
    assert "8,012/10,000" in lines[0]
    assert "5,991/min" in lines[0]
    assert "100% of limit" in lines[0]
    assert "left" in lines[0]
    assert "8,000 accepted" in lines[1]
    assert "10 rejected" in lines[1]
    assert "insider.launch: 5,990/min of 6000/min, 100%, p50 20 ms, p99 44.5 ms, 7 in flight, 2 times 429" in lines[2]
    assert "accounts: a 3,000/min, b 2,990/min" in lines[3]
    assert "10 times rejected: HTTP 400" in lines[4]
    assert "limit.paused insider.launch: paused 3.0 s" in lines[5]


@pytest.mark.parametrize("width", [30, 60, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    lines = shown(RUNNING, width)
    assert max(map(len, lines)) <= width
    assert len(lines) <= 8


def test_a_key_that_looks_like_markup_is_shown_as_it_is() -> None:
    view = View("sale", "running", 1.0, 1, {}, latest=[Happening(0.0, "send.unknown", "[red]x[/red] (row 1)")])
    assert any("[red]x[/red] (row 1)" in line for line in shown(view))


def test_a_segment_has_the_bar_while_it_is_read() -> None:
    segment = SegmentView("vip read", 30, 100, "pages", 99_998.0)
    first = shown(View("sale", "running", 3.0, 10, {}, segment=segment, eta_s=7.0), 120)[0]
    assert "vip read" in first
    assert "30/100 pages" in first
    assert "99,998 ids/s" in first


@pytest.mark.parametrize(
    ("view", "line"),
    [
        (
            RUNNING,
            "8,012 of 10,000 sends, 5,991/min, 100% of the limit, 10 rejected, 2 unknown, 19.9 s left",
        ),
        (
            View("sale", "running", 3.0, segment=SegmentView("vip read", 30, None, "pages", 50.0), paused_s=2.0),
            "vip read: 30 pages, 50 ids/s, told to wait 2.0 s",
        ),
    ],
)
def test_the_same_in_a_line(view: View, line: str) -> None:
    assert line_of(view) == line


@pytest.mark.parametrize("text", ["\x1b[31mred", "one\ntwo", "\x1b]0;title\x07\r", "a\u202eb"])
def test_what_a_vendor_says_cannot_move_the_cursor(text: str) -> None:
    one = Happening(0.0, "send.rejected", text)
    view = View(text, "running", 1.0, 9, {"accepted": 1}, reasons={text: 3}, latest=[one])
    lines = shown(view, 60)
    assert len(lines) == 4
    assert all(line.isprintable() for line in lines)
    segment = replace(view, segment=SegmentView(text, 1, None, "pages", 1.0))
    assert shown(segment, 60)[0].isprintable()
    assert line_of(segment).isprintable()


def test_in_a_narrow_terminal_the_name_gives_way_to_the_numbers() -> None:
    view = replace(RUNNING, job="spring-sale-2026-04-01", endpoints=[])
    first, second = shown(view, 40)[:2]
    assert "8,012/10,000  5,991/min  19.9 s left" in first
    assert second.endswith("…"), "what is cut is seen to be cut"


def test_a_slow_rate_is_not_none() -> None:
    view = View(
        "sale", "running", 1.0, 9, per_min=0.4, endpoints=[EndpointView("a.b", 0.4)], accounts={"a": 0.4, "b": 0}
    )
    text = "\n".join(shown(view))
    assert text.count("0.4/min") == 3
    assert "0.4/min" in line_of(view)


def followed(clock: Clock) -> Follower:
    follower = Follower(clock=clock, wall=clock)
    follower(event(EventName.RUN_STARTED, count=100, settled=20, rejected=4, unknown=3))
    return follower


def test_a_follower_knows_how_long_it_takes_still() -> None:
    clock = Clock()
    follower = followed(clock)
    for _ in range(8):
        for _ in range(5):
            follower(event(EventName.SEND_ACCEPTED, key="k", account="a"))
        clock.at += 1
    follower(event(EventName.SEND_REJECTED, key="k", account="a", reason="HTTP 400"))
    view = follower.view()
    assert view.counts == {"accepted": 53, "rejected": 5, "unknown": 3}
    assert view.per_min == 300.0
    assert view.eta_s == pytest.approx(39 / 5)
    assert view.reasons == {"rejected: HTTP 400": 1}


def test_an_unknown_that_is_settled_later_counts_once() -> None:
    clock = Clock()
    follower = followed(clock)
    for _ in range(79):
        follower(event(EventName.SEND_ACCEPTED, key="k", account="a"))
    follower(event(EventName.SEND_UNKNOWN, key="k", account="a", reason="timeout"))
    assert follower.view().counts == {"accepted": 92, "rejected": 4, "unknown": 4}
    for _ in range(2):
        follower(event(EventName.SEND_ACCEPTED, key="k", account="a"))
    view = follower.view()
    assert view.counts == {"accepted": 94, "rejected": 4, "unknown": 2}
    assert view.done == view.total == 100


def test_a_follower_of_a_segment() -> None:
    clock = Clock()
    follower = followed(clock)
    follower(event(EventName.SEGMENT_READING, ref="vip", count=10, settled=4))
    clock.at += 2
    for _ in range(3):
        follower(event(EventName.SEGMENT_PAGE, count=10_000))
    view = follower.view()
    assert view.segment == SegmentView("vip read", 7, 10, "pages", 15_000.0)
    assert view.eta_s == pytest.approx(2.0)
    follower(event(EventName.SEGMENT_COMPARED, added=3, removed=5))
    assert follower.view().segment is None
    follower(event(EventName.SEGMENT_CHANGING, ref="vip", added=3, removed=5))
    follower(event(EventName.SEGMENT_CHANGED, removed=5))
    segment = follower.view().segment
    assert segment is not None
    assert (segment.what, segment.done, segment.total, segment.unit) == ("vip changed", 5, 8, "ids")


def test_the_display_is_drawn_a_few_times_a_second_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(live.time, "monotonic", clock)
    drawn = []
    monkeypatch.setattr(live, "panel_of", lambda view: drawn.append(view) or "")
    display = Live(io.StringIO())
    display(event(EventName.RUN_STARTED, count=20_000))
    for _ in range(20_000):
        display(event(EventName.SEND_ACCEPTED, key="k", account="a"))
        clock.at += 0.0001
    display(event(EventName.RUN_FINISHED))
    assert 5 <= len(drawn) <= 2 * live.REFRESH_PER_S + 2


def test_the_display_is_gone_where_a_question_is_asked_and_comes_again() -> None:
    out = io.StringIO()
    display = Live(out)
    display(event(EventName.SEGMENT_READING, ref="vip", count=1))
    assert display._is_drawn
    display(event(EventName.SEGMENT_COMPARED))
    assert not display._is_drawn
    display(event(EventName.SEGMENT_CHANGING, ref="vip", added=1, removed=0))
    assert display._is_drawn
    display.close()
    display.close()


def test_a_terminal_that_has_gone_takes_the_display_with_it_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    display = Live(io.StringIO())
    display(event(EventName.RUN_STARTED, count=1))

    def gone() -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(display._live, "stop", gone)
    display.close()


def test_who_watches_sees_an_outage_and_that_it_is_over() -> None:
    clock = Clock()
    follower = Follower(clock=clock, wall=clock)
    follower(event(EventName.RUN_STARTED, count=100))
    where = {"endpoint": "insider.launch", "account": "default"}
    follower(event(EventName.ENDPOINT_DOWN, reason="HTTP 503 \x1b[2J", duration_s=5.2, **where))
    clock.at += 60.0
    follower(event(EventName.ENDPOINT_DOWN, reason="HTTP 503 \x1b[2J", duration_s=40.0, **where))
    clock.at += 10.0
    said = "insider.launch is down for 1 min 10 s (HTTP 503 \\x1b[2J), tried again in 30.0 s"
    assert said in line_of(follower.view())
    lines = shown(follower.view(), 120)
    assert "vendor down" in lines[0]
    assert said in lines[1]
    assert sum("endpoint.down" in line for line in lines) == 1  # the first alone, of however many tries
    clock.at += 31.0
    assert "tried now with one call" in line_of(follower.view())
    for account in ("a", "b"):
        follower(event(EventName.ENDPOINT_DOWN, endpoint="insider.launch", account=account, reason="no", duration_s=5))
    assert "insider.launch of account a is down" in line_of(follower.view())
    assert "1 more are down" in line_of(follower.view())
    for account in ("a", "b", "default"):
        follower(event(EventName.ENDPOINT_UP, endpoint="insider.launch", account=account, reason="it answers again"))
    assert "is down" not in line_of(follower.view())
    assert "endpoint.up insider.launch: it answers again" in "\n".join(shown(follower.view(), 120))


def test_a_log_has_a_line_every_ten_seconds() -> None:
    clock = Clock()
    told: list[Event] = []
    ticker = Ticker(told.append, clock=clock, wall=clock)
    ticker(event(EventName.RUN_STARTED, count=100))
    for _ in range(35):
        ticker(event(EventName.SEND_ACCEPTED, key="k", account="a"))
        clock.at += 1
        ticker(event(EventName.RUN_SAMPLED, count=1, duration_s=0.1, waiting=0))
    assert [one.name for one in told] == [EventName.RUN_PROGRESS] * 3
    assert told[-1].reason is not None
    assert told[-1].reason.startswith("30 of 100 sends, 60/min")
