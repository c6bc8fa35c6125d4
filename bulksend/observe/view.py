"""A run at one moment, as a few lines for a terminal or one line for a log; pure, nothing is drawn here."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bulksend.duration import format_duration
from bulksend.observe.history import Happening, Outage

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

__all__ = ["EndpointView", "SegmentView", "View", "line_of", "panel_of"]

ACCOUNTS_SHOWN = 4
ENDPOINTS_SHOWN = 4
REASONS_SHOWN = 3
LATEST_SHOWN = 3
OUTAGES_SHOWN = 2


@dataclass(frozen=True, slots=True)
class EndpointView:
    """One endpoint of late."""

    name: str
    per_min: float
    share: float | None = None
    """Of its limit, 0 to 1, for the busiest account."""
    limit: str = ""
    p50_ms: float | None = None
    p99_ms: float | None = None
    throttled: int = 0
    in_flight: int | None = None


@dataclass(frozen=True, slots=True)
class SegmentView:
    """How far a segment is that is read, or changed."""

    what: str
    done: int
    total: int | None
    unit: str
    ids_per_s: float


@dataclass(frozen=True, slots=True)
class View:
    """What there is to see of a run."""

    job: str
    state: str
    elapsed_s: float
    total: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    """Sends that are settled, by outcome."""
    per_min: float = 0.0
    """Settled sends of late."""
    eta_s: float | None = None
    paused_s: float = 0.0
    endpoints: Sequence[EndpointView] = ()
    accounts: Mapping[str, float] = field(default_factory=dict)
    """Calls a minute of late, where there are several accounts."""
    reasons: Mapping[str, int] = field(default_factory=dict)
    latest: Sequence[Happening] = ()
    segment: SegmentView | None = None
    outages: Sequence[Outage] = ()
    at: float = 0.0
    """The moment that is shown, where something is down; in seconds since the epoch."""

    @property
    def done(self) -> int:
        """Return how many sends are settled."""
        return sum(self.counts.values())


_COLOURS = {"accepted": "green", "rejected": "red", "unknown": "yellow"}


def _outages(view: View) -> Iterator[str]:
    """Tell what is down, for how long and why, and when it is tried again."""
    for one in view.outages[:OUTAGES_SHOWN]:
        account = "" if one.account in ("", "default") else f" of account {one.account}"
        left_s = one.next_at - view.at
        again = f"tried again in {format_duration(left_s)}" if left_s > 0 else "tried now with one call"
        took = format_duration(max(0.0, view.at - one.since))
        yield f"{one.endpoint}{account} is down for {took} ({one.reason}), {again}"
    if len(view.outages) > OUTAGES_SHOWN:
        yield f"{len(view.outages) - OUTAGES_SHOWN} more are down"


def _rest(view: View) -> str:
    if view.outages:
        return "[red]vendor down[/]"
    if view.paused_s > 0:
        return f"[yellow]told to wait {format_duration(view.paused_s)}[/]"
    return "" if view.eta_s is None else f"{format_duration(view.eta_s)} left"


def _plain(text: str) -> str:
    """Return other people's text so that it can neither move a terminal's cursor nor begin another line."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def _pace(per_min: float) -> str:
    """Write a rate: with a decimal where it is small, so that what is slow does not seem to stand still."""
    return f"{per_min:,.1f}" if 0 < per_min < 10 else f"{per_min:,.0f}"


def _name(text: str) -> Text:
    """Return a name that is cut rather than broken into lines."""
    from rich.text import Text

    return Text(_plain(text), no_wrap=True, overflow="ellipsis")


def panel_of(view: View) -> RenderableType:
    """Return the display: a bar, and beneath it what explains its pace; as few lines as say something."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    rows: list[RenderableType] = []
    bar = Table.grid(expand=True, padding=(0, 2, 0, 0))
    bar.add_column()  # a name is what gives way where it is narrow, and stays in its line all the same
    bar.add_column(ratio=1)
    bar.add_column(no_wrap=True, justify="right")
    if view.segment is not None:
        one = view.segment
        of = "" if one.total is None else f"/{max(one.total, one.done):,}"
        said = f"{one.done:,}{of} {one.unit}  {one.ids_per_s:,.0f} ids/s  {_rest(view)}"
        bar.add_row(_name(one.what), ProgressBar(total=one.total, completed=one.done, pulse=one.total is None), said)
    elif view.total:
        share = max((one.share for one in view.endpoints if one.share is not None), default=None)
        used = "" if share is None else f"{min(1.0, share):.0%} of limit"
        parts = [f"{view.done:,}/{view.total:,}", f"{_pace(view.per_min)}/min", _rest(view), used]
        said = "  ".join(part for part in parts if part)
        bar.add_row(_name(view.job), ProgressBar(total=view.total, completed=view.done), said)
    else:
        bar.add_row(_name(view.job), "", f"{view.state}  {_rest(view)}")
    rows.append(bar)
    if view.done:
        counts = [f"[{_COLOURS[name]}]{number:,} {name}[/]" for name, number in view.counts.items() if number]
        rows.append(Text.from_markup(f"  {'  '.join(counts)}  {format_duration(view.elapsed_s)}", overflow="ellipsis"))
    rows += [Text(f"  {_plain(text)}", style="red", overflow="ellipsis") for text in _outages(view)]
    rows += [Text(f"  {_plain(text)}", style="dim", overflow="ellipsis") for text in _details(view)]
    for text in rows:
        if isinstance(text, Text):
            text.no_wrap = True
    return Group(*rows)


def _details(view: View) -> Iterator[str]:
    for one in view.endpoints[:ENDPOINTS_SHOWN]:
        parts = [f"{_pace(one.per_min)}/min" + (f" of {one.limit}" if one.limit else "")]
        if one.share is not None:
            parts.append(f"{min(1.0, one.share):.0%}")
        if one.p50_ms is not None and one.p99_ms is not None:
            parts.append(f"p50 {one.p50_ms:g} ms, p99 {one.p99_ms:g} ms")
        if one.in_flight is not None:
            parts.append(f"{one.in_flight} in flight")
        if one.throttled:
            parts.append(f"{one.throttled:,} times 429")
        yield f"{one.name}: {', '.join(parts)}"
    if len(view.accounts) > 1:
        busiest = sorted(view.accounts.items(), key=lambda item: -item[1])
        shown = [f"{name} {_pace(per_min)}/min" for name, per_min in busiest[:ACCOUNTS_SHOWN]]
        more = f", {len(busiest) - ACCOUNTS_SHOWN} more" if len(busiest) > ACCOUNTS_SHOWN else ""
        yield f"accounts: {', '.join(shown)}{more}"
    for reason, number in list(view.reasons.items())[:REASONS_SHOWN]:
        yield f"{number:,} times {reason}"
    for event in list(view.latest)[-LATEST_SHOWN:]:
        yield f"{time.strftime('%H:%M:%S', time.localtime(event.at))} {event.name} {event.text}"


def line_of(view: View) -> str:
    """Return the same in a line, for a log."""
    if view.segment is not None:
        one = view.segment
        of = "" if one.total is None else f" of {max(one.total, one.done):,}"
        parts = [f"{_plain(one.what)}: {one.done:,}{of} {one.unit}", f"{one.ids_per_s:,.0f} ids/s"]
    else:
        parts = [f"{view.done:,} of {view.total:,} sends", f"{_pace(view.per_min)}/min"]
        share = max((one.share for one in view.endpoints if one.share is not None), default=None)
        if share is not None:
            parts.append(f"{min(1.0, share):.0%} of the limit")
        parts += [f"{number:,} {name}" for name, number in view.counts.items() if number and name != "accepted"]
    if view.outages:
        parts += map(_plain, _outages(view))
    elif view.paused_s > 0:
        parts.append(f"told to wait {format_duration(view.paused_s)}")
    elif view.eta_s is not None:
        parts.append(f"{format_duration(view.eta_s)} left")
    return ", ".join(parts)
