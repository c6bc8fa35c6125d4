"""The pictures of a report, as SVG. matplotlib is known here only; it is asked for when a picture is drawn."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bulksend.observe.report.axis import Axis, unit_of
from bulksend.observe.report.svg import COLOURS, fit_in

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["distribution", "latencies", "rates", "stacked"]

SIZE_INCHES = (4.6, 2.5)
"""Narrow, so that its words can be read on a phone; a wide window shows two side by side."""
WIDTHS = {"p99": 2.2, "max": 0.8}
"""Of lines that are not as wide as the others."""
DASHES = (0, (5, 3))


def rates(
    name: str,
    label: str,
    axis: Axis,
    calls: Sequence[int],
    told: Sequence[int],
    limit_per_min: float | None,
    *,
    replies: Sequence[int] | None = None,
    planned: tuple[Axis, Sequence[int]] | None = None,
) -> str:
    """Draw calls per minute, those that were told to wait, and the limit as a line.

    `replies` and what was planned, which has steps of its own, are lines over them.
    """
    made, waiting = axis.rates_per_min(calls), axis.rates_per_min(told)
    came = [] if replies is None else axis.rates_per_min(replies)
    due = [] if planned is None else planned[0].rates_per_min(planned[1])
    top = max([*made, *waiting, *came, *due, limit_per_min or 0.0])
    with _drawing(name, label, "calls per minute", top, axis.edges_s[-1]) as (axes, said):
        _steps(axes, made, [0.0] * len(made), axis, "calls")
        if any(waiting):
            _steps(axes, waiting, [0.0] * len(made), axis, "told")
        if any(came):
            _outline(axes, came, axis, axis, "replies", 1.2)
        if planned is not None:
            _outline(axes, due, planned[0], axis, "limit", 1.4)
        if limit_per_min is not None:
            axes.axhline(limit_per_min, color=COLOURS["limit"], linewidth=1.4, linestyle=DASHES)
    return said[0]


def stacked(
    name: str,
    label: str,
    axis: Axis,
    counts: Mapping[str, Sequence[int]],
    colours: Sequence[str],
    *,
    unit: str = "sends per minute",
) -> str:
    """Draw what things came to, per minute, one on the other."""
    rows = [axis.rates_per_min(one) for one in counts.values()]
    top = max(map(sum, zip(*rows, strict=True)), default=0.0)
    with _drawing(name, label, unit, top, axis.edges_s[-1]) as (axes, said):
        below = [0.0] * len(axis.slots)
        for row, colour in zip(rows, colours, strict=True):
            above = [low + high for low, high in zip(below, row, strict=True)]
            if any(row):
                _steps(axes, above, below, axis, colour)
            below = above
    return said[0]


def latencies(
    name: str, label: str, slot_s: float, covered_s: float, lines: Mapping[str, Sequence[float | None]]
) -> str:
    """Draw percentiles over time, by the name of their colour; where nothing was answered there is a gap."""
    top = max([one for values in lines.values() for one in values if one is not None], default=0.0)
    slots = max(map(len, lines.values()), default=0)
    unit, scale = _scale(top)
    with _drawing(name, label, unit, top / scale, max(covered_s, slot_s * slots / 2)) as (axes, said):
        per_unit, _ = unit_of(covered_s)
        for colour, values in reversed([*lines.items()]):
            width = WIDTHS.get(colour, 1.2)
            at = [min((index + 0.5) * slot_s, covered_s) / per_unit for index in range(len(values))]
            ys = [float("nan") if one is None else one / scale for one in values]
            axes.plot(at, ys, color=COLOURS[colour], linewidth=width)
            alone = [index for index in range(len(values)) if _is_alone(values, index)]
            axes.plot(
                [at[index] for index in alone],
                [ys[index] for index in alone],
                color=COLOURS[colour],
                linestyle="none",
                marker=".",
                markersize=4 * width,
            )
    return said[0]


def distribution(name: str, label: str, lines: Mapping[str, Sequence[tuple[float, float]]], calls: int) -> str:
    """Draw latencies in milliseconds by percentile; each nine takes as much room as the one before it."""
    top = max([one for points in lines.values() for _, one in points], default=0.0)
    unit, scale = _scale(top)
    most = math.log10(max(calls, 10))
    with _drawing(name, label, unit, top / scale) as (axes, said):
        for colour, points in lines.items():
            # The slowest of all is as far to the right as the number of calls goes.
            at = [min(most, -math.log10(max(1 - percent / 100, 1e-12))) for percent, _ in points]
            ys = [one / scale for _, one in points]
            axes.plot(at, ys, color=COLOURS[colour], linewidth=WIDTHS.get(colour, 1.8), drawstyle="steps-pre")
        nines = range(math.floor(most) + 1)
        axes.set_xticks([float(nine) for nine in nines], [f"{100 - 100 / 10**nine:.10g}%" for nine in nines])
        axes.set_xlim(0, most)
        axes.set_xlabel("of the calls", color=COLOURS["ink"])
        axes.tick_params(axis="x", pad=7)  # the 0 of the other axis is beside it
    return said[0]


def _scale(top_ms: float) -> tuple[str, float]:
    return ("seconds", 1000.0) if top_ms >= 2000 else ("milliseconds", 1.0)


def _is_alone(values: Sequence[float | None], index: int) -> bool:
    """Say whether a point has no neighbour that a line could lead to."""
    around = [*values[max(0, index - 1) : index], *values[index + 1 : index + 2]]
    return values[index] is not None and all(one is None for one in around)


def _steps(axes: Axes, above: Sequence[float], below: Sequence[float], axis: Axis, colour: str) -> None:
    per_unit, _ = unit_of(axis.edges_s[-1])
    edges = [edge / per_unit for edge in axis.edges_s]
    axes.stairs(above, edges, baseline=below, fill=True, facecolor=COLOURS[colour], edgecolor="none", linewidth=0)


def _outline(axes: Axes, rates: Sequence[float], steps: Axis, axis: Axis, colour: str, width: float) -> None:
    """Draw the upper edge of steps, in the unit of the whole axis; what was planned is dashed, as a limit is."""
    per_unit, _ = unit_of(axis.edges_s[-1])
    edges = [edge / per_unit for edge in steps.edges_s]
    style = DASHES if colour == "limit" else "-"
    axes.stairs(rates, edges, baseline=None, color=COLOURS[colour], linewidth=width, linestyle=style)


@contextmanager
def _drawing(
    name: str, label: str, unit: str, top: float, covered_s: float | None = None
) -> Iterator[tuple[Axes, list[str]]]:
    """Give axes that begin at zero; what is drawn on them is in the list afterwards. `name` is unique in a page.

    With `covered_s`, time runs from left to right.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    said: list[str] = []
    with mpl.rc_context():
        mpl.rcdefaults()  # whatever matplotlibrc the machine has
        mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": name, "font.size": 9.0, "path.simplify": True})
        figure = Figure(figsize=SIZE_INCHES)
        figure.patch.set_alpha(0.0)
        axes = figure.subplots()
        figure.subplots_adjust(left=0.145, right=0.975, top=0.96, bottom=0.19)
        yield axes, said
        axes.patch.set_alpha(0.0)
        if covered_s is not None:
            per_unit, time_unit = unit_of(covered_s)
            axes.set_xlim(0, covered_s / per_unit)
            axes.set_xlabel(f"{time_unit} since the beginning", color=COLOURS["ink"])
            axes.locator_params(axis="x", nbins=6)
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
        axes.set_ylim(0, top * 1.08 or 1.0)
        axes.set_ylabel(unit, color=COLOURS["ink"])
        axes.locator_params(axis="y", nbins=5)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
        axes.tick_params(colors=COLOURS["ink"], length=0)
        axes.grid(axis="y", color=COLOURS["grid"], linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(COLOURS["grid"])
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=nothing)
    said.append(fit_in(buffer.getvalue(), label))
