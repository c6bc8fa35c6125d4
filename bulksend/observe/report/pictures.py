"""What happened over time in the run that is drawn: calls and answers of each endpoint, outcomes, reasons."""

from __future__ import annotations

from bulksend.model import Limit
from bulksend.observe.history import EndpointHistory
from bulksend.observe.report import plots
from bulksend.observe.report.axis import Axis, axis_of
from bulksend.observe.report.facts import SETTLED, RunFacts
from bulksend.observe.report.figures import latency_figure, since_when, stacked_figure, step_rows
from bulksend.observe.report.tables import figure, grid, legend, numbers, section
from bulksend.observe.report.words import esc, ms, number, span, times

__all__ = ["outcomes", "over_time"]

ENDPOINTS_MOST = 6
CALLS_LEAST = 20
"""What is needed for a picture: a rate of fewer calls, or sends, would rather show when the run began and ended."""


def over_time(run: RunFacts) -> str:
    """Return two pictures for each endpoint: calls a minute against its limit, and how long answers took."""
    drawn = []
    for name, endpoint in _shown(run):
        drawn.append(_rates(run, name, endpoint))
        if any(ms is not None for ms in endpoint.p50_ms):
            drawn.append(_latencies(run, name, endpoint))
    return section("calls", "Calls and answers over time", *_left_out(run), grid(drawn))


def outcomes(run: RunFacts) -> str:
    """Return pictures of what sends came to, and why some were not accepted."""
    history = run.history
    total = sum(run.settled(name) for name in SETTLED)
    if total < CALLS_LEAST:
        return ""
    axis = axis_of(len(history.accepted), history.slot_s, run.covered_s, total / max(run.covered_s, 1.0))
    counts = {name: getattr(history, name) for name in SETTLED}
    told = ", ".join(f"{number(run.settled(name))} {name}" for name in SETTLED)
    shown = [
        stacked_figure(
            "Settled sends per minute",
            "outcomes",
            f"Settled sends per minute, over {span(run.covered_s)}: {told}.",
            axis,
            {name: (name, one) for name, one in counts.items()},
            things="sends",
        )
    ]
    if history.reasons_over_time:
        shown.append(_reasons(run, axis))
    return grid(shown)


def _reasons(run: RunFacts, axis: Axis) -> str:
    counts = run.history.reasons_over_time
    colours = [f"reason{at}" for at in range(len(counts))]
    totals = {name: sum(one) for name, one in counts.items()}
    told = "; ".join(f"{name}, {total:,} times" for name, total in totals.items())
    label = f"Sends that were not accepted, per minute, by reason: {told[:600]}."
    drawing = plots.stacked("reasons", label, axis, counts, colours)
    entries = [
        (colour, f"{name[:80]}{'…' * (len(name) > 80)}: {total:,}")
        for colour, (name, total) in zip(colours, totals.items(), strict=True)
    ]
    heads = [since_when(axis), *(name[:60] for name in counts)]
    data = numbers(heads, step_rows(axis, *(axis.totals(one) for one in counts.values())))
    return figure("Not accepted, per minute, by reason", drawing, legend(entries), data)


def _rates(run: RunFacts, name: str, endpoint: EndpointHistory) -> str:
    calls = sum(endpoint.calls)
    lasted_s = max(endpoint.last_s - endpoint.first_s, run.history.slot_s)
    axis = axis_of(len(endpoint.calls), run.history.slot_s, run.covered_s, calls / lasted_s)
    limit, words = _limit(run, name, endpoint)
    told = sum(endpoint.throttled)
    label = f"Calls per minute to {name} over {span(run.covered_s)}: {calls:,} calls"
    label += f", at most {times(max(axis.rates_per_min(endpoint.calls)))} a minute in {span(axis.step_s)}; {words}."
    drawing = plots.rates(f"rates-{name}", label, axis, endpoint.calls, endpoint.throttled, limit)
    entries = [("calls", f"calls that ended, in steps of {span(axis.step_s)}")]
    entries += [("told", f"of them told to wait: {told:,}")] if told else []
    entries += [("limit", words)] if limit is not None else []
    per_min = [f"{rate:,.1f}" for rate in axis.rates_per_min(endpoint.calls)]
    counts = (axis.totals(endpoint.calls), axis.totals(endpoint.throttled))
    rows = [[*row, rate] for row, rate in zip(step_rows(axis, *counts), per_min, strict=True)]
    title = f"{name}: calls against the limit"
    return figure(
        title, drawing, legend(entries), numbers([since_when(axis), "calls", "told to wait", "per minute"], rows)
    )


def _latencies(run: RunFacts, name: str, endpoint: EndpointHistory) -> str:
    figures = run.figures.endpoints.get(name)
    whole = "" if figures is None else f"; in all p50 {ms(figures.p50_ms)}, p99 {ms(figures.p99_ms)}"
    return latency_figure(
        f"{name}: how long answers took",
        f"latency-{name}",
        f"Time to answer of {name} over {span(run.covered_s)}, median and 99th percentile{whole}.",
        run.history.slot_s,
        run.covered_s,
        {"p50": endpoint.p50_ms, "p99": endpoint.p99_ms},
        [("p50", "half of the answers came within (p50)"), ("p99", "99 of 100 came within (p99)")],
    )


def _limit(run: RunFacts, name: str, endpoint: EndpointHistory) -> tuple[float | None, str]:
    """Return the limit for all accounts in calls a minute, and in words."""
    figures = run.figures.endpoints.get(name)
    if figures is None:
        return None, "its limit was not kept"
    limit = Limit.parse(figures.limit)
    per_min = 60 * min(window.calls / window.period_s for window in limit.windows)
    if endpoint.accounts > 1:
        return per_min * endpoint.accounts, f"limit: {figures.limit} for each of {endpoint.accounts:,} accounts"
    return per_min, f"limit: {figures.limit}"


def _shown(run: RunFacts) -> list[tuple[str, EndpointHistory]]:
    ordered = sorted(run.history.endpoints.items(), key=lambda item: -sum(item[1].calls))
    return [one for one in ordered[:ENDPOINTS_MOST] if sum(one[1].calls) >= CALLS_LEAST]


def _left_out(run: RunFacts) -> list[str]:
    """Say how to read the pictures, and which endpoints have none."""
    shown = {name for name, _ in _shown(run)}
    others = [f"{esc(name)} ({sum(one.calls):,})" for name, one in run.history.endpoints.items() if name not in shown]
    said = []
    if shown:
        said.append(
            "Steps are wide enough for about 20 calls each. One of them can lie a little above the line: a limit counts"
            " whole windows. Whether one was ever passed stands below, in the window proof."
        )
    if others:
        said.append(f"Without a picture, for their few calls: {', '.join(others)}.")
    return [f"<p class=note>{one}</p>" for one in said]
