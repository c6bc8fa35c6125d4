"""The parts of a report that are tables: outcomes, the window proof, plan and fact, sends, runs, the segment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bulksend.observe.history import SlowCall
from bulksend.observe.report.facts import EndpointFigures, Facts
from bulksend.observe.report.tables import key, section, table
from bulksend.observe.report.words import NONE, at, clipped, esc, ms, number, share, span, times

__all__ = ["answers", "failed", "made", "plan", "proof", "runs", "segment", "slowest", "why_not"]

KEY_MOST = 120


def why_not(reasons: Mapping[str, int]) -> str:
    """Return the reasons for what was not accepted, which name the outcome first."""
    rows = [
        [esc(outcome), clipped(reason), number(count)]
        for name, count in reasons.items()
        for outcome, _, reason in [name.partition(": ") if ": " in name else ("other", "", "other reasons")]
    ]
    title = "<h3>Why sends were not accepted, in this run</h3>"
    return title + table(["outcome", "reason", "sends"], rows, texts=2) if rows else ""


def answers(statuses: Mapping[str, int]) -> str:
    """Return how often each status was answered."""
    rows = [[clipped(name), number(count)] for name, count in statuses.items()]
    title = "<h3>Calls by answer</h3>"
    return title + table(["HTTP status, or why there was none", "calls"], rows) if rows else ""


def proof(facts: Facts) -> str:
    """Return how full the fullest window was, by endpoint, in the run that is drawn and in all."""
    rows = []
    for name, figures in facts.counted.items():
        called = name in facts.figures.endpoints
        kept = "PASSED" if name in facts.passed else "kept"
        rows.append(
            [
                esc(name),
                esc(figures[0].limit),
                number(figures[0].max_in_window) if called else NONE,
                _fullest(figures),
                number(figures[0].allowed),
                f'<span class="{"good" if kept == "kept" else "bad"}">{kept}</span>',
            ]
        )
    if not rows:
        return ""
    heads = ["endpoint", "limit", "most in a window, this run", "in any run", "allowed", ""]
    note = (
        "<p class=note>Counted over every window of the limit, wherever it begins, from the moments at which the calls"
        " left this machine; per account, the fullest one is shown; of several windows, the first. Each run is counted"
        " by itself: from one run to the next, and among processes, the ledger keeps the limit.</p>"
    )
    return section("proof", "Window proof", note, table(heads, rows, texts=2, kind="wide"))


def _fullest(figures: Sequence[EndpointFigures]) -> str:
    """Return the most in a window of any run, measured by what was allowed then; said where that was another limit."""
    one = max(figures, key=lambda one: one.max_in_window / one.allowed)
    then = "" if one.allowed == figures[0].allowed else f" of {number(one.allowed)} then"
    return f"{number(one.max_in_window)}{then}"


def plan(facts: Facts) -> str:
    """Return what was to be expected beside what happened."""
    rows = [
        [
            esc(one.endpoint),
            esc(one.limit),
            number(one.planned),
            number(one.made),
            NONE if one.planned is None else _difference(one.made - one.planned),
            span(one.planned_s),
            span(one.took_s),
        ]
        for one in facts.plan
    ]
    if not rows:
        return ""
    heads = ["endpoint", "limit", "calls planned", "made", "difference", "time by the limit", "time it took"]
    note = (
        "<p class=note>Planned is what the sends before the run ask for, each once, at the limit. More calls than that"
        " are repeats after a 429 or a lost answer, or questions to the vendor; fewer, sends that did not leave.</p>"
    )
    return section("plan", "The plan and what happened", note, table(heads, rows, texts=2, kind="wide"))


def _difference(calls: int) -> str:
    return f"{calls:+,}" if calls else "0"


def made(facts: Facts) -> str:
    """Return each endpoint's figures."""
    rows = [_endpoint(name, one) for name, one in facts.figures.endpoints.items()]
    heads = ["endpoint", "limit", "calls", "told to wait", "share of the limit", "p50", "p99"]
    return table(heads, rows, texts=2, kind="wide") if rows else ""


def _endpoint(name: str, one: EndpointFigures) -> list[str]:
    figures = [number(one.calls), number(one.throttled), share(one.utilization), ms(one.p50_ms), ms(one.p99_ms)]
    return [esc(name), esc(one.limit), *figures]


def slowest(calls: Sequence[SlowCall], *, note: str = "") -> str:
    """Return the slowest answers."""
    rows = [
        [
            # A call that is made once for an account has no row, and for a key what the ledger knows the account by.
            key(clipped(one.key, KEY_MOST)) if one.row else NONE,
            esc(one.endpoint),
            str(one.row or NONE),
            ms(1000 * one.duration_s),
        ]
        for one in calls
    ]
    listed = table(["key", "endpoint", "row", "took"], rows, texts=2, kind="wide")
    return section("slowest", "Slowest answers", note, listed) if rows else ""


def failed(facts: Facts) -> str:
    """Return the first sends that were not accepted, whichever run they are of."""
    rows = [
        [
            key(clipped(one.key, KEY_MOST)),
            f'<span class="{esc(one.state)}">{esc(one.state)}</span>',
            clipped(one.reason or NONE),
            str(one.row or NONE),
            NONE if one.status is None else str(one.status),
        ]
        for one in facts.failures
    ]
    total = facts.rejected + facts.unknown
    more = total - len(rows)
    note = f"<p class=note>… and {number(more)} more: the first {len(rows)} are shown, unknown before rejected.</p>"
    heads = ["key", "outcome", "reason", "row", "status"]
    title = "Sends that were not accepted"
    return section("failed", title, table(heads, rows, texts=3, kind="wide"), note if more > 0 else "") if rows else ""


def segment(facts: Facts) -> str:
    """Return the numbers of the job's segment."""
    found = facts.figures.segment
    if found is None:
        return ""
    words = {
        "id": "segment",
        "remote": "targets it held",
        "desired": "desired",
        "added": "added" if found.get("applied") else "to add",
        "removed": "removed" if found.get("applied") else "to remove",
        "drift": "changed by others meanwhile",
        "left": "still different at the end",
        "hash": "difference",
    }
    rows = [[esc(word), _value(found.get(name))] for name, word in words.items() if found.get(name) is not None]
    drawn = facts.drawn
    if drawn is not None and drawn.history.segment_pages:
        pages = f"{number(drawn.history.segment_pages)} pages, {number(drawn.history.segment_ids)} ids"
        rows.append(["read", pages])
    return section("segment", "The segment", table(["", "at the last look"], rows))


def _value(value: object) -> str:
    return number(value) if isinstance(value, int | float) else clipped(value, KEY_MOST)


def runs(facts: Facts) -> str:
    """Return a line for each run that was kept, the latest first."""
    drawn = facts.drawn
    rows = []
    for run in reversed(facts.runs):
        settled = [number(run.settled(name)) for name in ("accepted", "rejected", "unknown")]
        busiest = run.figures.busiest
        mark = " ←" if run is drawn else ""
        why = f"<br><small>{clipped(run.history.why, 160)}</small>" if run.history.why else ""
        rows.append(
            [
                esc(at(run.history.began_at)) + mark,
                esc(run.state) + why,
                span(run.took_s),
                number(run.calls),
                number(run.throttled),
                *settled,
                NONE if run.figures.rate_per_min is None else times(run.figures.rate_per_min),
                NONE if busiest is None else share(busiest[1].utilization),
            ]
        )
    if not rows:
        return ""
    heads = [
        "began",
        "ended",
        "took",
        "calls",
        "told to wait",
        "accepted",
        "rejected",
        "unknown",
        "sends/min",
        "of the limit",
    ]
    note = (
        "<p class=note>The last twenty at most; ← is the one that the pictures show."
        " The sends are those that the run settled: of one that broke off, up to the last time that its numbers were"
        " kept, which is every two seconds.</p>"
    )
    return section("runs", "All runs", note, table(heads, rows, texts=2, kind="wide"))
