"""The run on a terminal: one bar with rate, share of the limit, outcomes and the time that is left."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import IO, TYPE_CHECKING

from bulksend.duration import format_duration
from bulksend.event import Event, EventName
from bulksend.model import Limit

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

__all__ = ["Progress"]

RATE_OVER_S = 5.0
REFRESH_PER_S = 8
_COUNTED = {
    EventName.SEND_ACCEPTED: "accepted",
    EventName.SEND_REJECTED: "rejected",
    EventName.SEND_UNKNOWN: "unknown",
}


_OF_SEGMENT = (
    EventName.SEGMENT_READING,
    EventName.SEGMENT_PAGE,
    EventName.SEGMENT_COMPARED,
    EventName.SEGMENT_CHANGING,
    EventName.SEGMENT_CHANGED,
    EventName.SEGMENT_VERIFIED,
)


class Progress:
    """An observer that draws. `limit_per_s` is what all accounts of the job may make together; unset until known."""

    def __init__(self, stream: IO[str], *, clock: Callable[[], float] = time.monotonic) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._clock = clock
        self.console = Console(file=stream, stderr=stream.isatty())
        self._bar: Bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[said]}"),
            console=self.console,
            refresh_per_second=REFRESH_PER_S,
            transient=True,
        )
        self._task: TaskID | None = None
        self._counts = dict.fromkeys(_COUNTED.values(), 0)
        self._recent: deque[tuple[float, int]] = deque()
        self._calls = 0
        self._total = 0
        self._settled_before = 0
        self._limit_per_s: float | None = None
        self._drawn_s = 0.0
        self._paused_until_s = 0.0
        self._of_segment: TaskID | None = None
        self._before_sends = False
        """Whether the job's segment is at work, and its sends come later."""
        self._ids = 0
        self._done = 0
        self._before = 0
        self._since_s = 0.0

    def expect(self, limit: Limit, accounts: int) -> None:
        """Say what the limit of one account is, and how many accounts there are."""
        per_account = min(window.calls / window.period_s for window in limit.windows)
        self._limit_per_s = per_account * max(1, accounts)

    def __call__(self, event: Event) -> None:
        """Take note of an event, and draw now and then."""
        if event.name in _OF_SEGMENT:
            self._segment(event)
            return
        if event.name is EventName.RUN_STARTED:
            if not event.count:
                return  # there are no sends: a bar comes with the segment
            self._total, self._settled_before = event.count or 0, event.settled or 0
            self._task = self._bar.add_task(event.job, total=self._total, completed=self._settled_before, said="")
            self._bar.start()
            return
        if event.name in (EventName.RUN_FINISHED, EventName.RUN_STOPPED, EventName.RUN_FAILED):
            self.close()
            return
        if (name := _COUNTED.get(event.name)) is not None:
            self._counts[name] += 1
            self._show_sends()
        elif self._before_sends:
            return  # a call of the segment is none of a send
        elif event.name is EventName.CALL_MADE:
            self._calls += 1
        elif event.name is EventName.LIMIT_PAUSED and event.duration_s is not None:
            self._paused_until_s = self._clock() + event.duration_s
        self._draw()

    def _show_sends(self) -> None:
        """Go on with the bar of the sends once the segment is right."""
        if self._before_sends and self._task is not None:
            self._before_sends = False
            self._end_segment()
            self._bar.update(self._task, visible=True)
            self._bar.start()

    def _segment(self, event: Event) -> None:
        """Draw how far a segment is: pages read, then ids written; each time by a bar of its own."""
        if self._task is not None and not self._before_sends:
            self._before_sends = True
            self._bar.update(self._task, visible=False)
        if event.name is EventName.SEGMENT_PAGE:
            self._ids += event.count or 0
            self._done += 1
        elif event.name is EventName.SEGMENT_CHANGED:
            self._ids += (event.added or 0) + (event.removed or 0)
            self._done = self._ids
        else:
            if event.name is EventName.SEGMENT_READING:
                what, total, done = "read", event.count, event.settled or 0
            elif event.name is EventName.SEGMENT_CHANGING:
                what, total, done = "changed", (event.added or 0) + (event.removed or 0), 0
            else:
                self._end_segment()  # what is said or asked next stands where the bar was
                return
            self._end_segment()
            self._ids, self._done, self._before, self._since_s = 0, done, done, self._clock()
            self._of_segment = self._bar.add_task(f"{event.ref} {what}", total=total, completed=done, said="")
            self._bar.start()
        if self._of_segment is None or self._clock() - self._drawn_s < 1 / REFRESH_PER_S:
            return
        self._drawn_s = self._clock()
        took_s = self._drawn_s - self._since_s
        rate = f"  {self._ids / took_s:,.0f} ids/s" if took_s > 0 else ""
        unit = "pages" if event.name is EventName.SEGMENT_PAGE else "ids"
        whole = self._bar.tasks[-1].total
        of = "" if whole is None else f"/{max(whole, self._done):,.0f}"
        left_s = (
            0.0
            if whole is None or not self._done
            else (whole - self._done) * took_s / max(1, self._done - self._before)
        )
        left = f"  {format_duration(left_s)} left" if left_s > 0 else ""
        self._bar.update(self._of_segment, completed=self._done, said=f"{self._done:,}{of} {unit}{rate}{left}")

    def _end_segment(self) -> None:
        if self._of_segment is not None:
            self._bar.stop()
            self._bar.remove_task(self._of_segment)
            self._of_segment = None

    def _draw(self) -> None:
        now = self._clock()
        if self._task is None or now - self._drawn_s < 1 / REFRESH_PER_S:
            return
        self._drawn_s = now
        self._recent.append((now, self._calls))
        while self._recent[0][0] < now - RATE_OVER_S:
            self._recent.popleft()
        done = sum(self._counts.values())
        self._bar.update(self._task, completed=self._settled_before + done, said=self.said(done, now))

    def said(self, done: int, now: float) -> str:
        """Return the words beside the bar."""
        then, calls_then = self._recent[0]
        rate_per_s = (self._calls - calls_then) / (now - then) if now > then else 0.0
        parts = [f"{self._settled_before + done:,}/{self._total:,}", f"{rate_per_s * 60:,.0f}/min"]
        if self._limit_per_s is not None:
            parts.append(f"{min(1.0, rate_per_s / self._limit_per_s):.0%} of limit")
        parts.append(f"[green]{self._counts['accepted']:,} ok[/]")
        parts += [
            f"[{colour}]{self._counts[name]:,} {name}[/]"
            for name, colour in (("rejected", "red"), ("unknown", "yellow"))
            if self._counts[name]
        ]
        left = self._total - self._settled_before - done
        if now < self._paused_until_s:
            parts.append(f"[yellow]told to wait {format_duration(self._paused_until_s - now)}[/]")
        elif rate_per_s > 0 and left > 0:
            parts.append(f"{format_duration(left / rate_per_s)} left")
        return "  ".join(parts)

    def close(self) -> None:
        """Take the bar away; the summary stands in its place."""
        if self._task is not None or self._of_segment is not None:
            self._bar.stop()
            self._task = self._of_segment = None
