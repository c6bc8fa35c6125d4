"""Pictures with their legends and numbers, of whatever was counted over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bulksend.observe.report import plots
from bulksend.observe.report.axis import Axis, unit_of
from bulksend.observe.report.tables import figure, legend, numbers
from bulksend.observe.report.words import ms, number, span

__all__ = ["latency_figure", "since_when", "stacked_figure", "step_rows"]


def stacked_figure(
    title: str, name: str, label: str, axis: Axis, counts: Mapping[str, tuple[str, Sequence[int]]], *, things: str
) -> str:
    """Return counts, each by its name with its colour, as rates one on the other; `things` is what they are of."""
    by_colour = dict(counts.values())
    drawing = plots.stacked(name, label, axis, by_colour, tuple(by_colour), unit=f"{things} per minute")
    rows = step_rows(axis, *(axis.totals(one) for _, one in counts.values()))
    data = numbers(
        [since_when(axis), *counts], rows, note=f"{things.capitalize()} in each step of {span(axis.step_s)}."
    )
    entries = [(colour, f"{word} {number(sum(one))}") for word, (colour, one) in counts.items() if any(one)]
    return figure(title, drawing, legend(entries), data)


def latency_figure(
    title: str,
    name: str,
    label: str,
    slot_s: float,
    covered_s: float,
    lines: Mapping[str, Sequence[float | None]],
    entries: Sequence[tuple[str, str]],
    *,
    note: str = "",
) -> str:
    """Return percentiles over time, each named as its colour is; `note` says what they count from."""
    drawing = plots.latencies(name, label, slot_s, covered_s, lines)
    per_unit, unit = unit_of(covered_s)
    rows = [
        [f"{at * slot_s / per_unit:,.4g}", *map(ms, values)]
        for at, values in enumerate(zip(*lines.values(), strict=True))
        if values[0] is not None
    ]
    said = f"In each {span(slot_s)}; a line is missing where nothing was answered."
    return figure(title, drawing, legend(entries), numbers([f"from ({unit})", *lines], rows, note=said), note=note)


def since_when(axis: Axis) -> str:
    """Return the head of a column that says when a step began."""
    return f"from ({unit_of(axis.edges_s[-1])[1]})"


def step_rows(axis: Axis, *columns: list[int]) -> list[list[str]]:
    """Return when each step began, and its numbers."""
    per_unit, _ = unit_of(axis.edges_s[-1])
    starts = [f"{start / per_unit:,.4g}" for start in axis.edges_s[:-1]]
    return [[start, *(number(one) for one in row)] for start, *row in zip(starts, *columns, strict=True)]
