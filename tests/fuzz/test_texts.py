"""The short texts of the job file and of options: read as what they say, or refused in a sentence."""

from __future__ import annotations

import math
import random
import re
from pathlib import Path

from hypothesis import strategies as st

from bulksend.api.opening import ledger_path
from bulksend.cli.options import variables
from bulksend.duration import MOST_S, format_duration, parse_duration
from bulksend.emulators.faults import parse_fault, parse_latency
from bulksend.emulators.server import EmulatorConfig
from bulksend.emulators.window import Window, parse_limit
from bulksend.engine.rate import bucket_of
from bulksend.errors import JobError
from bulksend.fields import Field, Kind, Zone, read_table
from bulksend.job.accounts import check_base_url
from bulksend.job.secret import check_secret_source
from bulksend.job.spec import Amount, share
from bulksend.job.template import Template, placeholders
from bulksend.loadtest.profile import CALLS_MOST, Profile, parse_rate
from bulksend.loadtest.thresholds import KNOWN, Figures, Threshold
from bulksend.model import CALLS_MOST as LIMIT_CALLS_MOST
from bulksend.model import PERIOD_MOST_S, Limit
from tests.fuzz.budget import fuzz
from tests.fuzz.odd import JSON_VALUES, TEXTS, changed_text, sentence
from tests.shell.conftest import SECRET

DIGITS = st.sampled_from(
    [
        "0",
        "1",
        "7",
        "00",
        "1_000",
        "1,000",
        "0.5",
        "1.",
        ".5",
        "-1",
        "9" * 20,
        "1,000,000,000,000",
        "0" * 14 + "7",
        "9" * 400,
        "9" * 5000,
        "٣",
        "1e3",
    ]
)
UNITS = st.sampled_from(
    ["s", "sec", "ms", "min", "m", "h", "d", "day", "days", "week", "fortnight", "S", "", "%", "µs"]
)


def of(*goods: str, parts: st.SearchStrategy[str] | None = None) -> st.SearchStrategy[str]:
    """Give texts that are nearly one of these, or made of a form's own parts."""
    near = st.sampled_from(goods).flatmap(changed_text) | st.sampled_from(goods) | TEXTS
    return near if parts is None else st.one_of(near, parts, parts)


rates = st.builds("{}{}/{}{}".format, DIGITS, st.sampled_from(["", " "]), DIGITS | st.just(""), UNITS)
limits = of("6000/min", "600/6s", "300/min, 10/s", parts=st.lists(rates, min_size=1, max_size=3).map(", ".join))
durations = of(
    "1 day",
    "1h 30m",
    "90 seconds",
    parts=st.lists(DIGITS.flatmap(lambda n: UNITS.map(lambda u: n + u)), max_size=3).map(" ".join),
)


@fuzz(short=100, long=20_000, text=limits)
def test_limits(text: str) -> None:
    try:
        limit = Limit.parse(text)
    except ValueError as wrong:
        sentence(wrong)
    else:
        told = re.match(r"\s*([\d_,]+)\s*/", text)
        assert told is not None
        assert limit.windows[0].calls == int(re.sub("[_,]", "", told[1])), "another number than was written"
        assert all(1 <= one.calls <= LIMIT_CALLS_MOST and 0 < one.period_s <= PERIOD_MOST_S for one in limit.windows)
        assert 0 < bucket_of(limit, 0.05).rate_per_s < math.inf
        assert str(limit)
    try:
        window = Window(parse_limit(text))
    except ValueError as wrong:
        sentence(wrong)
    else:
        assert window.admit(0.0)
        assert all(math.isfinite(one.seconds) for one in window.limit.rates)


@fuzz(short=100, long=20_000, text=durations)
def test_durations(text: str) -> None:
    try:
        seconds = parse_duration(text)
    except ValueError as wrong:
        sentence(wrong)
    else:
        assert 0 <= seconds <= MOST_S
        assert format_duration(seconds)


@fuzz(short=100, long=10_000, rate=limits, begin=st.none() | limits, duration=durations)
def test_load_profiles(rate: str, begin: str | None, duration: str) -> None:
    try:
        rate_per_s, duration_s = parse_rate(rate), parse_duration(duration)
        profile = Profile(rate_per_s, duration_s, None if begin is None else parse_rate(begin))
    except ValueError as wrong:
        sentence(wrong)
        return
    if not duration_s or profile.calls > CALLS_MOST:
        return  # refused by the load test
    last = profile.due_s(max(0, profile.calls - 1))
    assert 0 <= last <= duration_s * 1.001


COMPARE = st.sampled_from([">", ">=", "<", "==", "!=", "=", "=>", ""])
expressions = st.builds(
    "{}{}{}".format,
    st.sampled_from(KNOWN) | TEXTS,
    COMPARE,
    DIGITS.flatmap(lambda n: UNITS.map(lambda u: n + u)) | limits,
)
FIGURES = Figures(
    dict.fromkeys(
        ["429", "accepted", "rejected", "unknown", "errors", "late", "dropped", "unsent", "sent", "planned"], 3
    ),
    5.0,
    lambda _: 0.1,
)


@fuzz(short=100, long=10_000, text=of("p99 > 500ms", "429 > 0", "late >= 1%", "rate < 5900/min", parts=expressions))
def test_thresholds(text: str) -> None:
    try:
        verdict = Threshold.parse(text).judge(FIGURES)
    except ValueError as wrong:
        sentence(wrong)
    else:
        assert isinstance(verdict.failed, bool)
        assert verdict.said


FAULTS = ("reset-after:1%", "insider.launch=slow=2s:1%", "429-retry-after=3:0.01", "not-json:100%", "424:0")
faults = st.builds(
    "{}={}{}:{}{}".format,
    st.sampled_from(["slow", "429-retry-after", "insider.launch=slow", "500"]),
    DIGITS,
    UNITS,
    DIGITS,
    st.sampled_from(["", "%"]),
)


@fuzz(
    short=100,
    long=10_000,
    fault=of(*FAULTS, parts=faults),
    latency=of("20ms±10ms", "20ms", "0", "2s+-1s", parts=st.builds("{}{}±{}{}".format, DIGITS, UNITS, DIGITS, UNITS)),
    limit=limits.map(lambda text: f"insider.launch={text}") | TEXTS,
    which=st.integers(0, 3),
)
def test_flags_of_the_emulator(fault: str, latency: str, limit: str, which: int) -> None:
    try:
        match which:
            case 0:
                parsed = parse_fault(fault, ["insider.launch"])
                assert 0 <= parsed.share <= 1
                assert math.isfinite(parsed.seconds)
            case 1:
                assert 0 <= parse_latency(latency).draw(random.Random(1)) < math.inf
            case 2:
                EmulatorConfig.from_texts(["insider"], limits=[limit])
            case _:
                EmulatorConfig.from_texts([fault], webhook=limit, collation=latency)
    except ValueError as wrong:
        sentence(wrong)


@fuzz(
    short=100,
    long=10_000,
    text=of("sqlite:///tmp/a.db", "sqlite:a.db", "postgresql://u:canary-5ecret-7d1f@h/d", "sqlite://"),
)
def test_ledger_urls(text: str) -> None:
    try:
        assert isinstance(ledger_path(text, Path("/tmp/jobs")), Path)
    except JobError as wrong:
        sentence(wrong, SECRET)


@fuzz(
    short=100,
    long=10_000,
    text=of(
        *(
            "https://example.com",
            "http://127.0.0.1:8080",
            "http://[::1]:1/a",
            "env:NAME",
            "file:a/b",
            "cmd:pass show x",
        ),
        *("10%", "10%, 500", "1,000", "5%", "${city}", "a ${b} $${c} ${var.x}", "2026-04-01T06:00:00Z"),
    ),
    value=JSON_VALUES,
    kind=st.sampled_from(list(Kind)),
    zone=st.sampled_from(list(Zone)),
    loose=st.booleans(),
)
def test_fields(text: str, value: object, kind: Kind, zone: Zone, loose: bool) -> None:
    for read in (check_base_url, check_secret_source, Amount.parse, share, placeholders):
        try:
            read(text)
        except ValueError as wrong:
            sentence(wrong)
    spec = Field(kind, zone=zone, least=1, most=9, choices=("now",) if kind is Kind.DATETIME else ())
    for one in (value, text):
        _, found = read_table({"x": spec}, {"x": one}, "launch", loose=("x",) if loose else ())
        for fault in found:
            sentence(ValueError(fault.text))
    try:
        Template({"x": text, "y": value}).render([text] * 99)
    except ValueError as wrong:
        sentence(wrong)


@fuzz(short=100, long=5_000, texts=st.lists(of("day=2026-04-01", "a=b=c", "=", "x="), max_size=3))
def test_variables(texts: list[str]) -> None:
    try:
        read = variables(texts)
    except JobError as wrong:
        sentence(wrong, "\n")
    else:
        assert len(read) <= len(texts)
        assert all(read)
