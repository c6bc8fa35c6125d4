"""The page of a load test by itself: its numbers, what it says of how the test ended, its size, what others wrote."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from bulksend.loadtest.tally import SLOTS_MOST, Tally
from bulksend.observe.history import SlowCall
from bulksend.observe.report import page, plots
from bulksend.observe.report.axis import Axis
from bulksend.observe.report.load import LOAD_MARK, LoadFacts, load_page
from bulksend.observe.report.load.headline import verdict
from bulksend.observe.report.words import NONE, esc
from tests.observe.load_facts import SEARCH, load_facts, tally
from tests.observe.report_facts import EVIL, facts, run
from tests.observe.test_report import Reader

pytest.importorskip("hdrh")


def figures_of(text: str) -> dict[str, tuple[str, str]]:
    """Return the tiles: name, value and note."""
    found = re.findall(r'<div class="tile [a-z]*"><b>(.*?)</b><span>(.*?)</span><small>(.*?)</small>', text)
    return {name: (value, note) for value, name, note in found}


def test_the_page_says_every_number() -> None:
    verdicts = [
        {"fail_if": "p99 > 500ms", "failed": False, "was": "50.0 ms"},
        {"fail_if": "429 > 0", "failed": True, "was": "10"},
    ]
    text = load_page(load_facts(figures={"state": "failed", "thresholds": verdicts}))
    read, shown = Reader(text), figures_of(text)
    assert text.startswith(LOAD_MARK)
    assert read.open == []
    assert 'class="state failed">failed: a threshold was not met' in text
    assert "Asked for: 600/min for 10.0 s. 100 of 100 calls were sent." in text
    assert "1 of 2 thresholds failed: <b>429 &gt; 0</b> (10)." in text
    assert shown["sent"] == ("100", "600 a minute")
    assert shown["accepted"] == ("70", "70.0% of the planned")
    assert (shown["told 429"][0], shown["rejected"][0], shown["unknown"][0]) == ("10", "10", "10")
    assert (shown["late"][0], shown["dropped"][0], shown["unsent"][0]) == ("0", "0", "0")
    assert shown["p99"] == ("50 ms", "from the due time")
    assert read.of["thresholds"][1:] == [["p99 > 500ms", "50.0 ms", "met"], ["429 > 0", "10", "failed"]]
    assert ["p99", "50 ms", "50 ms", "1"] in read.of["latency"]
    assert ["bad title", "10"] in read.of["outcomes"]
    assert ["timeout", "10"] in read.of["outcomes"]
    assert ["429", "10"] in read.of["outcomes"]
    assert read.of["proof"][1] == ["6000/min", "6,000", "100", "70"]
    assert read.row("k7") == ["k7", "insider.launch", "8", "500 ms"]
    assert "The measured limit" not in text


@pytest.mark.parametrize(("failed", "said"), [(True, "The threshold failed: <b>x</b> (7)."), (False, "was met.")])
def test_one_threshold_is_not_counted(failed: bool, said: str) -> None:
    verdicts = [{"fail_if": "x", "failed": failed, "was": "7"}]
    assert said in verdict(load_facts(figures={"thresholds": verdicts}))


def test_it_counts_latency_from_the_due_time_and_says_so() -> None:
    """A second behind, and the vendor as quick as ever: only from the due time can that be seen."""
    text = load_page(load_facts(tally(behind_s=1.0)))
    assert figures_of(text)["p50"] == ("1.05 s", "from the due time")
    assert ["p50", "1.05 s", "50 ms", "50"] in Reader(text).of["latency"]
    assert "How long answers took, from the due time" in text
    assert "100 of 100 calls were sent, 100 of them late." in text


def drawn(facts: LoadFacts, monkeypatch: pytest.MonkeyPatch) -> tuple[str, dict[str, Any]]:
    """Return the page, and what its first picture was drawn of."""
    given: dict[str, Any] = {}
    rates = plots.rates

    def drawing(name: str, label: str, axis: Axis, calls: Any, told: Any, limit: Any, **more: Any) -> str:
        given.update(axis=axis, calls=axis.totals(calls), told=axis.totals(told), **more)
        return rates(name, label, axis, calls, told, limit, **more)

    monkeypatch.setattr(plots, "rates", drawing)
    return load_page(facts), given


def test_what_was_sent_stands_beside_what_was_planned_by_when_it_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a test that falls two seconds behind, the calls of the last ones leave after the plan is over."""
    made = load_facts(tally(4.0, 100, behind_s=2.0), figures={"profile": {**PROFILE, "duration_s": 4.0}})
    text, given = drawn(made, monkeypatch)
    rows = Reader(text).of["calls"]
    assert [row[1:3] for row in rows[1:7]] == [
        ["100", "0"], ["100", "0"], ["100", "100"], ["100", "100"], ["0", "100"], ["0", "100"],
    ]  # fmt: skip
    assert sum(int(row[5]) for row in rows[1:7]) == 40, "those told 429"
    assert given["axis"].edges_s == pytest.approx((0, 1, 2, 3, 4, 5, 6.04))
    assert (given["calls"], given["told"]) == ([0, 0, 100, 100, 100, 100], [0, 0, 10, 10, 10, 10])
    axis, planned = given["planned"]
    assert axis.rates_per_min(planned) == [6000.0] * 4
    assert "var(--replies)" in text
    assert text.count("<svg") == 4


PROFILE = {"rate_per_min": 6000.0, "duration_s": 10.0}


def test_what_came_just_after_the_end_thins_out_no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """The replies of the last calls come after the plan is over: no step of a few milliseconds, none that is wider."""
    made = load_facts(tally(4.0, 100), figures={"profile": {**PROFILE, "duration_s": 4.0}})
    text, given = drawn(made, monkeypatch)
    rows = [row for row in Reader(text).of["calls"][1:] if len(row) == 7]
    assert [row[0] for row in rows] == ["0", "1", "2", "3"]
    assert [row[4] for row in rows] == ["95", "100", "100", "105"]
    assert given["axis"].edges_s == (0.0, 1.0, 2.0, 3.0, 4.0)


@pytest.mark.parametrize(
    ("state", "ended", "said"),
    [
        ("done", None, "The limit that was measured is 600/6s."),
        ("unsettled", "the budget is spent", "is 600/6s. It is not certain: the budget is spent."),
    ],
)
def test_the_measured_limit_is_told_with_its_proof(state: str, ended: str | None, said: str) -> None:
    search = {**SEARCH["search"], "ended": ended}
    table = '# Measured.\n[limits]\n"insider.launch" = "600/6s"\n'
    text = load_page(load_facts(figures={**SEARCH, "search": search, "state": state}, limits_table=table))
    assert said in text
    assert "A search for the limit of insider.launch, with at most 24,000/min." in text
    assert figures_of(text)["limit measured"][0] == "600/6s"
    assert f"<pre>{esc(table.strip())}</pre>" in text
    assert Reader(text).of["limit"][1] == ["600", "5.97 s", "6.03 s", "600"]
    assert "2,500 calls, 12 of them told 429. 5,980/min was held for 12.0 s without a 429." in text
    assert ("Unsettled" in text) == (ended is not None)


@pytest.mark.parametrize(
    ("state", "ended", "said"),
    [("done", None, "No limit was met."), ("unsettled", "no call left", "No limit is told: no call left.")],
)
def test_that_there_is_no_limit_is_said(state: str, ended: str | None, said: str) -> None:
    search = {**SEARCH["search"], "windows": [], "ended": ended}
    text = load_page(load_facts(figures={**SEARCH, "limits": {}, "search": search, "state": state}))
    assert said in text
    assert figures_of(text)["limit measured"] == ("none", "see below")
    assert "limit" not in Reader(text).of


def test_a_test_that_was_stopped_says_why_also_before_its_first_call() -> None:
    for of, pictures in ((tally(5.0), 4), (Tally(), 0)):
        text = load_page(load_facts(of, figures={"state": "stopped", "windows": []}, why="stopped by SIGINT"))
        assert "Stopped: stopped by SIGINT." in text
        assert "stopped before its end" in text
        assert text.count("<svg") == pictures
        assert Reader(text).open == []
    assert "Too few calls" in text
    assert figures_of(text)["p50"][0] == NONE


def grown(minutes: int) -> LoadFacts:
    """A test of so many minutes at 10,000/s: its counts are made large, for it would take as long to count them."""
    duration_s = 60.0 * minutes
    one = load_facts(tally(duration_s, 600 // (60 * minutes) or 1))
    more = {name: [10_000 * number for number in value] for name, value in counted(one).items()}
    return load_facts(
        figures={"profile": {"rate_per_min": 600_000.0, "duration_s": duration_s}},
        timeline=msgspec.structs.replace(one.timeline, **more),
        since_due_ms=[(percent, 1000.33) for percent, _ in one.since_due_ms],
    )


def counted(one: LoadFacts) -> dict[str, list[int]]:
    names = ("planned", "sent", "late", "accepted", "rejected", "unknown", "throttled", "left", "replied", "told")
    return {name: getattr(one.timeline, name) for name in names}


def test_an_hour_makes_no_larger_a_page_than_some_minutes() -> None:
    hour, minutes = grown(60), grown(4)
    assert len(hour.timeline.planned) <= SLOTS_MOST
    assert len(load_page(hour)) < 1.1 * len(load_page(minutes)) < 150_000


def test_whatever_others_wrote_is_text_and_nothing_is_loaded() -> None:
    wild = {
        "job": EVIL,
        "state": "unsettled",
        "endpoint": EVIL,
        "statuses": {EVIL: 1},
        "reasons": {EVIL: 1},
        "thresholds": [{"fail_if": EVIL, "failed": True, "was": EVIL}],
        "windows": [{"window": EVIL, "allowed": 1, "sent": 1, "accepted": 1}],
        "limits": {EVIL: EVIL},
        "search": {**SEARCH["search"], "ended": EVIL},
        "profile": SEARCH["profile"],
    }
    text = load_page(
        load_facts(
            figures=wild,
            provider=EVIL,
            hosts=[EVIL],
            why=EVIL,
            slowest=[SlowCall(1.0, EVIL, 1, EVIL)],
            limits_table=f"</pre>{EVIL}",
            job_file=EVIL,
            job_text=f"</pre>{EVIL}",
            versions={EVIL: EVIL},
        )
    )
    read = Reader(text)
    assert not {"img", "script", "iframe", "object"} & set(read.tags)
    assert not any(name.startswith("on") for _, name, _ in read.attributes)
    assert text.count(esc(EVIL)) > 15
    assert read.open == []
    assert not re.search(r"url\((?!#)|@import|https?:|//www", text)


def test_both_pages_have_the_same_head_and_foot() -> None:
    def ends(text: str) -> tuple[str, str]:
        return text[text.index("<meta") : text.index("<title>")], text[text.index("<style>") : text.index("</head>")]

    one, other = page(facts(run())), load_page(load_facts())
    assert ends(one) == ends(other)
    assert one.split("<footer>")[1] == other.split("<footer>")[1]
    assert not one.startswith(LOAD_MARK)
