"""The page by itself: numbers, escaping, size, nothing from outside, honest pictures."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import matplotlib as mpl
import msgspec
import pytest

from bulksend.observe.history import SlowCall
from bulksend.observe.report import (
    MARK,
    EndpointFigures,
    FailedSend,
    Figures,
    RunFacts,
    page,
    plots,
    read_figures,
    read_run,
)
from bulksend.observe.report.axis import axis_of
from bulksend.observe.report.words import NONE, clipped, esc, ms, share
from tests.observe.report_facts import BEGAN, EVIL, endpoint, facts, run

VOID = {"meta", "link", "br", "img", "input", "hr"}
IMPLIED = {"td", "th", "tr", "li", "tbody", "thead", "p", "html", "body"}


class Reader(HTMLParser):
    """Collects what a browser makes of a page: tags, attributes, the texts of cells by row, in all and by section."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.rows: list[list[str]] = []
        self.part = ""
        self.of: dict[str, list[list[str]]] = {}
        self.open: list[str] = []
        self.in_cell = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID | IMPLIED:
            self.open.append(tag)
        if tag == "section":
            self.part = dict(attrs).get("id") or ""
        if tag == "tr":
            self.rows.append([])
            self.of.setdefault(self.part, []).append(self.rows[-1])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        self.in_cell = tag in ("td", "th") or (self.in_cell and tag in ("code", "span", "small", "br"))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if tag not in IMPLIED:
            assert self.open.pop() == tag, tag
        if tag in ("table", "tbody", "thead"):
            self.in_cell = False

    def handle_data(self, data: str) -> None:
        if self.in_cell and self.rows and self.rows[-1]:
            self.rows[-1][-1] += data.strip("\n")

    def row(self, *starts: str) -> list[str]:
        """Return the one row that begins so."""
        (found,) = [row for row in self.rows if tuple(row[: len(starts)]) == starts]
        return found


def test_the_page_is_well_formed_and_says_every_number() -> None:
    text = page(facts(run()))
    read = Reader(text)
    assert text.startswith(MARK)
    assert read.open == []
    assert "900 of 1,000 sends accepted; 60 rejected, 40 of unknown fate." in text
    assert read.row("insider.launch", "6000/min", "5,990") == [
        "insider.launch",
        "6000/min",
        "5,990",
        "5,990",
        "6,000",
        "kept",
    ]
    assert read.row("insider.launch", "6000/min", "1,000", "3")[4:] == ["99.0%", "41 ms", "75 ms"]
    assert read.row("insider.launch", "6000/min", "1,000", "1,003")[4:] == ["+3", "10.0 s", "10.4 s"]
    assert read.row("rejected", "HTTP 500") == ["rejected", "HTTP 500", "60"]
    assert read.row("500") == ["500", "100"]
    assert read.row("k7", "rejected") == ["k7", "rejected", "HTTP 400", "7", "400"]
    assert read.row("k7", "insider.launch") == ["k7", "insider.launch", "7", "2.00 s"]
    (listed,) = [row for row in read.of["runs"] if row[0].endswith("←")]
    assert listed[1:] == ["done", "10.0 s", "1,000", "2", "900", "60", "40", "5,900", "99.0%"]


def test_a_passed_limit_is_said_at_the_top_and_in_the_proof() -> None:
    one = run()
    over = EndpointFigures("6000/min", 9000, 0, 6001, 1.0, 1.0, 2.0)
    text = page(facts(replace(one, figures=Figures(elapsed_s=10.0, endpoints={"insider.launch": over}))))
    assert "The limit of insider.launch was passed." in text
    assert Reader(text).row("insider.launch", "6000/min", "6,001")[-1] == "PASSED"
    assert "No window held more calls" not in text


def test_an_earlier_run_that_passed_the_limit_is_told_too() -> None:
    first, last = run(), run()
    over = EndpointFigures("6000/min", 9000, 0, 6001, 1.0, 1.0, 2.0)
    first = replace(first, figures=Figures(elapsed_s=10.0, endpoints={"insider.launch": over}))
    text = page(facts(first, last))
    assert Reader(text).row("insider.launch", "6000/min", "5,990") == [
        "insider.launch", "6000/min", "5,990", "6,001", "6,000", "PASSED",
    ]  # fmt: skip
    assert "No window held more calls" not in text


def replaced(one: RunFacts, **figures: object) -> Figures:
    """Return a run's figures with other ones for its endpoint."""
    endpoints = {name: msgspec.structs.replace(kept, **figures) for name, kept in one.figures.endpoints.items()}
    return msgspec.structs.replace(one.figures, endpoints=endpoints)


def test_with_another_limit_before_the_fullest_window_is_told_with_what_was_allowed_then() -> None:
    now, before = run(), run()
    tight = replace(now, figures=replaced(now, limit="100/6s", max_in_window=100))
    wide = replace(before, figures=replaced(before, limit="600/6s", max_in_window=596))
    read = Reader(page(facts(wide, tight)))
    assert read.of["proof"][1] == ["insider.launch", "100/6s", "100", "100", "100", "kept"]
    wide = replace(before, figures=replaced(before, limit="600/6s", max_in_window=601))
    read = Reader(page(facts(wide, tight)))
    assert read.of["proof"][1] == ["insider.launch", "100/6s", "100", "601 of 600 then", "100", "PASSED"]


def test_of_several_windows_the_sentence_claims_no_more_than_was_counted() -> None:
    one = run()
    assert "the first is the one that is counted" not in page(facts(one))
    assert "the first is the one that is counted" in page(
        facts(replace(one, figures=replaced(one, limit="6000/min, 200/s")))
    )


def test_a_call_that_is_no_sends_has_no_key() -> None:
    """What is made once for an account goes by what the ledger knows that account by: no key of the audience."""
    slowest = [SlowCall(2.0, "insider|https://h|partner_id=7/insider.create", 0, "insider.create")]
    shown = page(facts(run(slowest=slowest)))
    assert "partner_id=7" not in shown
    assert Reader(shown).of["slowest"][1] == [NONE, "insider.create", NONE, "2.00 s"]


def test_whatever_others_wrote_is_text() -> None:
    one = run(text=EVIL, names=("insider.launch",))
    failed = FailedSend(EVIL, 1, "rejected", f"{EVIL} & <script>", 400)
    summary = {"segment": {"id": EVIL, "added": 1, "removed": 2, "hash": EVIL}, "campaigns": {EVIL: 1}}
    text = page(
        facts(
            replace(one, figures=msgspec.convert(msgspec.to_builtins(one.figures) | summary, Figures)),
            job=EVIL,
            provider=EVIL,
            holder=EVIL,
            failures=[failed],
            job_file=EVIL,
            job_text=f"</pre>{EVIL}",
            versions={EVIL: EVIL},
        )
    )
    read = Reader(text)
    assert not {"img", "script"} & set(read.tags)
    assert not any(name.startswith("on") for _, name, _ in read.attributes)
    assert text.count(esc(EVIL)) > 10
    assert read.open == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('a"b', "a&quot;b"),
        ("\x00\x1b[0m", "\\x00\\x1b[0m"),
        ("\ud800", "\\ud800"),
        ("a\u202eb", "a\\u202eb"),
        ("naïve", "naïve"),
    ],
)
def test_what_cannot_be_seen_is_written_out(text: str, said: str) -> None:
    assert esc(text) == said
    said.encode("utf-8")


def test_long_texts_are_cut() -> None:
    assert len(clipped("x" * 10_000)) < 310


def test_nothing_is_loaded_and_no_script_runs() -> None:
    text = page(facts(run()))
    read = Reader(text)
    loading = [
        (tag, name, value)
        for tag, name, value in read.attributes
        if name in ("src", "srcset", "href", "xlink:href", "data", "action", "poster", "background")
    ]
    assert all(value.startswith("#") or (tag, value) == ("link", "data:,") for tag, _, value in loading)
    assert not {"script", "iframe", "object", "embed", "base", "form"} & set(read.tags)
    assert not re.search(r"url\((?!#)|@import|https?:|//www", text)
    assert ("meta", "content", "default-src 'none'; style-src 'unsafe-inline'; img-src data:") in read.attributes


def test_the_size_does_not_grow_with_the_job() -> None:
    names = tuple(f"stream.endpoint{at}" for at in range(9))
    reasons = {f"rejected: {at} {'x' * 2000}": 9 for at in range(31)}
    over_time = {name: [1] * 240 for name in list(reasons)[:6]}
    failures = [FailedSend("&" * 5000, at, "rejected", "<" * 5000, 400) for at in range(100)]
    full = run(240, names=names, reasons=reasons, reasons_over_time=over_time)
    text = page(facts(*[full] * 20, failures=failures, total=10_000_000, rejected=9_000_000, job_text="x" * 30_000))
    assert len(text.encode()) < 700_000
    plain = page(facts(run(240), total=10_000_000, accepted=10_000_000, rejected=0, unknown=0))
    assert len(plain.encode()) < 150_000


def test_the_same_facts_give_the_same_page_whatever_matplotlib_is_set_to() -> None:
    once = page(facts(run(), run(names=("insider.launch", "insider.create"))))
    with mpl.rc_context({"lines.linewidth": 9.0, "font.size": 30.0, "svg.fonttype": "path", "axes.grid": True}):
        again = page(facts(run(), run(names=("insider.launch", "insider.create"))))
        assert mpl.rcParams["lines.linewidth"] == 9.0
    assert once == again
    assert "dc:date" not in once


def test_pictures_take_the_colours_of_the_page() -> None:
    drawings = re.findall(r"<svg.*?</svg>", page(facts(run())), re.DOTALL)
    assert len(drawings) == 4
    for drawing in drawings:
        assert "var(--ink)" in drawing
        assert set(re.findall(r"(?:fill|stroke): (#[0-9a-f]+)", drawing)) == set()
        assert re.search(r'aria-label="[^"]{20,}"', drawing)
    assert "var(--limit)" in drawings[0]
    assert "var(--told)" in drawings[0]


def test_every_picture_has_its_numbers_and_its_text() -> None:
    text = page(facts(run()))
    figures = re.findall(r"<figure>.*?</figure>", text, re.DOTALL)
    assert len(figures) == 4
    assert all("<details><summary>The numbers</summary>" in one and "<title>" in one for one in figures)
    assert "at most 6,000 a minute" in figures[0]


def test_a_line_has_a_gap_where_nothing_was_answered() -> None:
    def pieces(silent: range) -> int:
        one = endpoint(20, silent=silent)
        drawing = plots.latencies("x", "y", 1.0, 20.0, {"p50": one.p50_ms, "p99": one.p99_ms})
        lines = re.findall(r'<path d="([^"]*)"[^>]*stroke: var\(--p50\)', drawing)
        return sum(line.count("M") for line in lines)

    assert pieces(range(0)) == 1
    assert pieces(range(5, 9)) == 2


def test_a_point_alone_is_seen() -> None:
    alone: list[float | None] = [None, 5.0, None, None]
    assert "var(--p99)" in plots.latencies("x", "y", 1.0, 4.0, {"p50": alone, "p99": alone}).partition("<use")[2]


def test_the_axes_of_rates_begin_at_zero() -> None:
    axis = axis_of(10, 1.0, 10.0, 100.0)
    drawing = plots.rates("x", "y", axis, [1000] * 10, [0] * 10, 6000.0)
    assert re.search(r">0</text>", drawing)
    top = plots.rates("x", "y", axis, [10] * 10, [0] * 10, 60_000.0)
    assert "60,000" in top
    assert "told" not in top


# The axis


def test_a_step_is_wide_enough_for_a_slow_limit() -> None:
    axis = axis_of(200, 1.0, 200.0, 0.5)
    assert axis.step_s == 40.0
    assert axis.edges_s == (0.0, 40.0, 80.0, 120.0, 160.0, 200.0)
    counts = [at % 2 for at in range(200)]
    assert axis.rates_per_min(counts) == [30.0] * 5
    assert sum(axis.totals(counts)) == 100


def test_the_last_slot_counts_for_as_long_as_it_lasted() -> None:
    axis = axis_of(4, 1.0, 3.6, 100.0)
    assert axis.rates_per_min([100, 100, 100, 60]) == pytest.approx([6000.0] * 4)
    short = axis_of(4, 1.0, 3.2, 100.0)
    assert short.edges_s == (0.0, 1.0, 2.0, 3.2)
    assert short.rates_per_min([100, 100, 100, 20]) == pytest.approx([6000.0] * 3)


@pytest.mark.parametrize("slots", [1, 2, 3, 119, 120, 121, 239, 240])
@pytest.mark.parametrize("rate", [0.0, 0.01, 3.0, 5000.0])
def test_no_count_is_lost_on_the_way_to_the_axis(slots: int, rate: float) -> None:
    axis = axis_of(slots, 2.0, slots * 2.0 - 1.3, rate)
    assert sum(axis.totals([7] * slots)) == 7 * slots
    assert len(axis.slots) <= 120
    assert all(start < end for start, end in zip(axis.edges_s, axis.edges_s[1:], strict=False))


# What was kept


def test_a_job_whose_runs_made_no_call_has_a_page_without_pictures() -> None:
    text = page(facts(run(endpoints={}, reasons_over_time={})))
    assert "<svg" not in text
    assert "nothing to draw" in text
    assert page(facts()).count("<section") >= 2


def test_few_calls_are_told_without_a_picture_that_would_thin_them_out() -> None:
    few = endpoint(10, calls=1)
    text = page(facts(run(endpoints={"insider.launch": few, "insider.create": endpoint(10, calls=2)})))
    assert "Without a picture, for their few calls: insider.launch (10)." in text
    assert "insider.create: calls against the limit" in text
    settled = {"accepted": [1] * 10, "rejected": [0] * 10, "unknown": [0] * 10}
    assert "<svg" not in page(facts(run(endpoints={"insider.launch": few}, **settled)))


def test_of_several_runs_the_last_one_with_calls_is_drawn() -> None:
    busy, idle = run(), run(endpoints={}, began_at=BEGAN + 500)
    assert facts(busy, busy, idle).drawn is busy
    read = Reader(page(facts(busy, idle)))
    assert len(read.of["runs"]) == 3


def test_a_history_of_an_earlier_version_is_read() -> None:
    names = ("began_at", "slot_s", "accepted", "rejected", "unknown", "endpoints", "reasons", "statuses", "slowest")
    whole = msgspec.to_builtins(run().history)
    old = {name: whole[name] for name in (*names, "rates_per_s", "account_rates_per_s", "latest")}
    old["endpoints"] = {
        "insider.launch": {
            key: whole["endpoints"]["insider.launch"][key] for key in ("calls", "throttled", "p50_ms", "p99_ms")
        }
    }
    read = read_run(json.dumps(old), running_since=None)
    assert read is not None
    assert read.state == "broke off"
    assert "its limit was not kept" in page(facts(read))


@pytest.mark.parametrize(("until", "state"), [(BEGAN + 30.0, "broke off"), (BEGAN + 41.0, "running")])
def test_what_was_kept_before_a_run_began_is_not_of_it(until: float, state: str) -> None:
    """A run that has only begun has kept nothing yet: the last history is that of the one that died before."""
    died = msgspec.structs.replace(run().history, state="", until=until)
    read = read_run(msgspec.json.encode(died).decode(), running_since=BEGAN + 40.0)
    assert read is not None
    assert read.state == state
    assert ("so far</small>" in page(facts(read, state="running"))) == (state == "running")


def test_what_cannot_be_read_says_nothing() -> None:
    assert read_run("{}", running_since=None) is None
    assert read_run("not json", running_since=None) is None
    assert read_figures({"endpoints": 7}) == Figures()


@pytest.mark.parametrize(
    ("value", "said"), [(None, "\N{EN DASH}"), (1.0, "100.0%"), (0.99996, "99.99%"), (0.5, "50.0%"), (0.0, "0.0%")]
)
def test_what_is_not_all_is_not_written_as_all(value: float | None, said: str) -> None:
    assert share(value) == said


def test_latencies_are_written_in_their_unit() -> None:
    assert [ms(one) for one in (0.42, 42.3, 999.0, 1500.0)] == ["0.42 ms", "42.3 ms", "999 ms", "1.50 s"]


def test_with_several_accounts_the_line_is_the_limit_of_all() -> None:
    one = run()
    of_launch = msgspec.structs.replace(one.history.endpoints["insider.launch"], accounts=3)
    text = page(facts(run(endpoints={"insider.launch": of_launch})))
    assert "limit: 6000/min for each of 3 accounts" in text
    assert ">15,000</text>" in text.partition("</figure>")[0]
    assert "15,000" not in page(facts(one)).partition("</figure>")[0]
