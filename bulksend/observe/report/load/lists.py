"""The parts of a load test's page that are tables: thresholds, the measured limit, windows, percentiles, reasons."""

from __future__ import annotations

from bulksend.observe.report.load.facts import LoadFacts, LoadFigures
from bulksend.observe.report.tables import section, table
from bulksend.observe.report.words import NONE, clipped, esc, ms, number, span, times

__all__ = ["limit", "percentiles", "proof", "reasons", "thresholds"]

LISTED = (0.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99, 100.0)
NAMES = {0.0: "fastest", 100.0: "slowest"}


def thresholds(figures: LoadFigures) -> str:
    """Return each threshold with the figure that it was held against."""
    rows = [
        [clipped(one.fail_if), esc(one.was), _word("failed" if one.failed else "met", good=not one.failed)]
        for one in figures.thresholds
    ]
    listed = table(["the test fails if", "was", ""], rows, texts=3)
    return section("thresholds", "Thresholds", listed) if rows else ""


def _word(text: str, *, good: bool) -> str:
    return f'<span class="{"good" if good else "bad"}">{text}</span>'


def limit(facts: LoadFacts) -> str:
    """Return the limit that was measured, how well it is known, and the table for a job file."""
    search = facts.figures.search
    if search is None:
        return ""
    said = [f"{number(search.calls)} calls, {number(search.throttled)} of them told 429."]
    if search.held_per_min is not None:
        said.append(f"{times(search.held_per_min)}/min was held for {span(search.held_s)} without a 429.")
    if search.ended is not None:
        said.append(f"{_word('Unsettled', good=False)}: {clipped(search.ended)}.")
    rows = [
        [number(one.calls), f"{one.above_s:.4g} s", f"{one.most_s:.4g} s", number(one.accepted)]
        for one in search.windows
    ]
    heads = ["calls in a window", "longer than", "at most", "most accepted in one"]
    note = (
        "<p class=note>The vendor is taken to count in sliding windows; all its replies bear them out where a limit is"
        " told. The last column is the proof: counted over every shortest period that the window may have, wherever it"
        " begins, from a call's leaving to the end of the last reply.</p>"
    )
    windows = table(heads, rows, texts=0, kind="wide") + note if rows else ""
    lines = f"<pre>{esc(facts.limits_table.strip())}</pre>" if facts.limits_table else ""
    return section("limit", "The measured limit", f"<p>{' '.join(said)}</p>", lines, windows)


def proof(figures: LoadFigures) -> str:
    """Return how full the fullest windows of the job's own limit were."""
    rows = [
        [esc(one.window), number(one.allowed), number(one.sent), number(one.accepted)]
        for one in figures.windows
        if one.sent
    ]
    heads = ["limit that the job goes by", "allowed", "most sent in a window", "most accepted in one"]
    note = (
        "<p class=note>Counted over every window of that limit, wherever it begins, per account; a load test does not"
        " keep to it. Sent counts from when calls left, accepted from when their replies ended: the way back varies, so"
        " that a few more than the vendor let through may be in one.</p>"
    )
    return section("proof", "Window proof", note, table(heads, rows, texts=1, kind="wide")) if rows else ""


def percentiles(facts: LoadFacts) -> str:
    """Return the percentiles from the due time, and from when calls left."""
    due, left = dict(facts.since_due_ms), dict(facts.since_left_ms)
    total = facts.figures.calls["sent"]
    rows = [
        [
            NAMES.get(one, f"p{one:g}"),
            ms(due[one]),
            ms(left.get(one)),
            NONE if one in NAMES else number(total * (1 - one / 100)),
        ]
        for one in LISTED
        if one in due
    ]
    means = (facts.figures.latency_ms.get("mean"), facts.figures.wire_ms.get("mean"))
    rows += [["mean", *map(ms, means), NONE]] if rows else []
    return table(["percentile", "from the due time", "from when it left", "calls above"], rows) if rows else ""


def reasons(figures: LoadFigures) -> str:
    """Return why calls were not accepted; those that are not listed as one."""
    failed = figures.outcomes["rejected"] + figures.outcomes["unknown"] + figures.calls["unsent"]
    rest = failed - sum(figures.reasons.values())
    rows = [[clipped(reason), number(count)] for reason, count in figures.reasons.items()]
    rows += [["other reasons", number(rest)]] if rest > 0 and rows else []
    return "<h3>Why calls were not accepted</h3>" + table(["reason", "calls"], rows) if rows else ""
