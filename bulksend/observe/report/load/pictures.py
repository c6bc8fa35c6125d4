"""A load test over time: calls against the plan, latency from the due time, outcomes; and latency by percentile."""

from __future__ import annotations

from bulksend.observe.report import plots
from bulksend.observe.report.axis import Axis, axis_of
from bulksend.observe.report.figures import latency_figure, since_when, stacked_figure, step_rows
from bulksend.observe.report.load.facts import CALLS, LoadFacts
from bulksend.observe.report.tables import figure, grid, legend, numbers, section
from bulksend.observe.report.words import number, span, times

__all__ = ["distribution", "outcomes", "over_time"]

CALLS_LEAST = 20
FROM_DUE = (
    "From when a call was due to the end of its reply: waiting that the vendor, or this machine, has caused is counted,"
    " so that a stall cannot hide. A call that was dropped has none."
)


def over_time(facts: LoadFacts) -> str:
    """Return what was sent against the plan, and how long answers took."""
    if facts.figures.calls["sent"] < CALLS_LEAST:
        return ""
    axis = _axis(facts)
    line = facts.timeline
    planned_slots = min(len(line.planned), 1 + int(facts.planned_s / line.slot_s - 1e-9))
    planned = axis_of(planned_slots, line.slot_s, facts.planned_s, _rate_per_s(facts))
    highest = times(max(axis.rates_per_min(line.left)))
    label = (
        f"Calls per minute over {span(axis.edges_s[-1])}: {number(sum(line.left))} sent, at most {highest} a minute in"
    )
    label += f" {span(axis.step_s)}; {number(sum(line.told))} were told 429."
    drawing = plots.rates(
        "sent", label, axis, line.left, line.told, None, replies=line.replied, planned=(planned, line.planned)
    )
    entries = [
        ("limit", "planned: when calls were due"),
        ("calls", f"sent, when they left, in steps of {span(axis.step_s)}"),
        ("replies", "replies, when they ended"),
    ]
    entries += [("told", f"of them 429: {number(sum(line.told))}")] if any(line.told) else []
    columns = {"due": line.planned, "sent": line.left, "late": line.late, "replies": line.replied, "429": line.told}
    rows = step_rows(axis, *(axis.totals(one) for one in columns.values()))
    heads = [since_when(axis), *columns]
    if any(line.in_flight):  # a search does not count them
        heads.append("most under way")
        flying = [number(max((line.in_flight[at] for at in slots), default=0)) for slots in axis.slots]
        rows = [[*row, most] for row, most in zip(rows, flying, strict=True)]
    data = numbers(heads, rows)
    shown = [figure("Calls against the plan", drawing, legend(entries), data)]
    if any(one is not None for one in line.p50_ms):
        shown.append(_latencies(facts))
    return section("calls", "Calls and answers over time", grid(shown))


def _latencies(facts: LoadFacts) -> str:
    line = facts.timeline
    return latency_figure(
        "How long answers took, from the due time",
        "latency",
        f"Latency from the due time over {span(facts.planned_s)}, by when calls were due: p50, p90, p99, slowest.",
        line.slot_s,
        max(facts.planned_s, line.slot_s / 2),
        {"p50": line.p50_ms, "p90": line.p90_ms, "p99": line.p99_ms, "max": line.max_ms},
        [("p50", "half within (p50)"), ("p90", "p90"), ("p99", "99 of 100 within (p99)"), ("max", "the slowest")],
        note=FROM_DUE,
    )


def outcomes(facts: LoadFacts) -> str:
    """Return what the planned calls came to."""
    if facts.figures.calls["planned"] < CALLS_LEAST:
        return ""
    axis = _axis(facts)
    counts = {word: (colour, getattr(facts.timeline, name)) for name, (word, colour) in CALLS.items()}
    told = ", ".join(f"{number(facts.figures.of_planned(name))} {word}" for name, (word, _) in CALLS.items())
    label = f"What calls came to, per minute, by when they were due: {told}."
    shown = stacked_figure("What calls came to, by when they were due", "outcomes", label, axis, counts, things="calls")
    return grid([shown])


def distribution(facts: LoadFacts) -> str:
    """Return latency by percentile, from the due time and from when calls left."""
    if facts.figures.calls["sent"] < CALLS_LEAST:
        return ""
    lines = {"p99": facts.since_due_ms, "p50": facts.since_left_ms}
    calls = facts.figures.calls["sent"]
    drawing = plots.distribution("percentiles", "Latency by percentile, to the slowest call.", lines, calls)
    entries = [("p99", "from the due time"), ("p50", "from when the call left")]
    note = "Where the two part, calls waited before they left: most tools show the second line only."
    return grid([figure("Latency by percentile", drawing, legend(entries), "", note=note)])


def _rate_per_s(facts: LoadFacts) -> float:
    return facts.figures.calls["planned"] / max(facts.planned_s, facts.timeline.slot_s)


def _axis(facts: LoadFacts) -> Axis:
    """Return the steps; what little came after the last call was due counts to the last step."""
    line, end_s = facts.timeline, facts.planned_s
    rate_per_s = _rate_per_s(facts)
    whole = axis_of(len(line.planned), line.slot_s, facts.covered_s, rate_per_s)
    if facts.covered_s - end_s >= whole.step_s / 2:
        return whole
    return axis_of(len(line.planned), line.slot_s, end_s, rate_per_s)
