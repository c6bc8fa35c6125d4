"""The run as it goes: a display of a few lines on a terminal, a line every few seconds in a log."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import IO, TYPE_CHECKING

from bulksend.event import Event, EventName
from bulksend.observe.by_name import ByName, both
from bulksend.observe.chronicle import Chronicle
from bulksend.observe.view import EndpointView, SegmentView, View, line_of, panel_of

if TYPE_CHECKING:
    from rich.live import Live as RichLive

__all__ = ["Follower", "Live", "Ticker"]

REFRESH_PER_S = 4
_COUNTED = {
    EventName.SEND_ACCEPTED: "accepted",
    EventName.SEND_REJECTED: "rejected",
    EventName.SEND_UNKNOWN: "unknown",
}
_RESTS = frozenset((EventName.RUN_FINISHED, EventName.RUN_STOPPED, EventName.RUN_FAILED, EventName.SEGMENT_COMPARED))
_BEGINS = frozenset((EventName.RUN_STARTED, EventName.SEGMENT_READING, EventName.SEGMENT_CHANGING, *_COUNTED))


class Follower(ByName):
    """An observer that knows at any moment what there is to see of a run."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._wall = wall
        self._began_s = clock()
        self._chronicle = Chronicle(wall=wall)
        self._job = ""
        self._total = 0
        self._before = dict.fromkeys(_COUNTED.values(), 0)
        self._counts = dict.fromkeys(_COUNTED.values(), 0)
        self._shares: dict[str, tuple[float, int]] = {}
        self._segment: str | None = None
        """What happens to the segment now: read or changed."""
        self._segment_total: int | None = None
        self._segment_done = 0
        self._segment_before = 0
        self._segment_ids = 0
        self._segment_since_s = 0.0
        own = dict.fromkeys(_COUNTED, self._settle) | {
            EventName.RUN_STARTED: self._start,
            EventName.ENDPOINT_SAMPLED: self._sample,
            EventName.SEGMENT_READING: self._read,
            EventName.SEGMENT_CHANGING: self._change,
            EventName.SEGMENT_PAGE: self._page,
            EventName.SEGMENT_CHANGED: self._changed,
            EventName.SEGMENT_COMPARED: self._end_segment,
            EventName.SEGMENT_VERIFIED: self._end_segment,
        }
        kept = self._chronicle.methods
        super().__init__({**kept, **{name: both(kept.get(name), method) for name, method in own.items()}})

    def _settle(self, event: Event) -> None:
        self._counts[_COUNTED[event.name]] += 1
        self._segment = None

    def _start(self, event: Event) -> None:
        self._job, self._total = event.job, event.count or 0
        rejected, unknown = event.rejected or 0, event.unknown or 0
        accepted = (event.settled or 0) - rejected - unknown
        self._before = {"accepted": accepted, "rejected": rejected, "unknown": unknown}

    def _sample(self, event: Event) -> None:
        self._shares[event.endpoint or ""] = event.utilization or 0.0, event.in_flight or 0

    def _read(self, event: Event) -> None:
        self._begin_segment(f"{event.ref} read", event.count, event.settled or 0)

    def _change(self, event: Event) -> None:
        self._begin_segment(f"{event.ref} changed", (event.added or 0) + (event.removed or 0), 0)

    def _page(self, event: Event) -> None:
        self._segment_done += 1
        self._segment_ids += event.count or 0

    def _changed(self, event: Event) -> None:
        self._segment_done += (event.added or 0) + (event.removed or 0)
        self._segment_ids = self._segment_done

    def _end_segment(self, _: Event) -> None:
        self._segment = None

    def _begin_segment(self, what: str, total: int | None, done: int) -> None:
        self._segment, self._segment_total = what, total
        self._segment_done = self._segment_before = done
        self._segment_ids, self._segment_since_s = 0, self._clock()

    def view(self) -> View:
        """Return what there is to see now."""
        now_s, at = self._clock(), self._wall()
        recent = self._chronicle.recent()
        per_s = recent.settled_per_s
        counts = {name: number + self._before[name] for name, number in self._counts.items()}
        if self._total:
            # An unknown that is settled later is told once more: what is more than all was unknown once.
            counts["unknown"] -= min(counts["unknown"], max(0, sum(counts.values()) - self._total))
        segment = self._segment_view(now_s)
        if segment is not None:
            eta_s = self._segment_eta_s(now_s)
        else:
            left = self._total - sum(counts.values())
            eta_s = left / per_s if per_s > 0 and left > 0 else None
        return View(
            job=self._job,
            state="running",
            elapsed_s=now_s - self._began_s,
            total=self._total,
            counts=counts,
            per_min=per_s * 60,
            eta_s=eta_s,
            paused_s=max(0.0, recent.paused_until - at),
            endpoints=[
                EndpointView(
                    name,
                    rate * 60,
                    self._shares.get(name, (None, 0))[0],
                    p50_ms=recent.p50_ms.get(name),
                    p99_ms=recent.p99_ms.get(name),
                    throttled=recent.throttled.get(name, 0),
                    in_flight=self._shares[name][1] if name in self._shares else None,
                )
                for name, rate in sorted(recent.rates_per_s.items(), key=lambda item: -item[1])
            ],
            accounts={name: rate * 60 for name, rate in recent.account_rates_per_s.items()},
            reasons=recent.reasons,
            latest=recent.latest,
            segment=segment,
            outages=recent.outages,
            at=at,
        )

    def _segment_view(self, now_s: float) -> SegmentView | None:
        if self._segment is None:
            return None
        took_s = now_s - self._segment_since_s
        ids_per_s = self._segment_ids / took_s if took_s > 0 else 0.0
        unit = "pages" if self._segment.endswith("read") else "ids"
        return SegmentView(self._segment, self._segment_done, self._segment_total, unit, ids_per_s)

    def _segment_eta_s(self, now_s: float) -> float | None:
        made = self._segment_done - self._segment_before
        if self._segment_total is None or not made:
            return None
        return max(0, self._segment_total - self._segment_done) * (now_s - self._segment_since_s) / made


class Live:
    """An observer that draws on a terminal, a few times a second whatever happens; lines of logs stand above it."""

    def __init__(self, stream: IO[str]) -> None:
        from rich.console import Console
        from rich.live import Live as RichLive

        self._follower = Follower()
        console = Console(file=stream, stderr=stream.isatty())
        # Refreshed here, on the thread that the events come on; a run that waits tells samples all the same.
        self._live: RichLive = RichLive(console=console, auto_refresh=False, transient=True)
        self._is_drawn = False
        self._drawn_s = 0.0

    def __call__(self, event: Event) -> None:
        """Take note of an event; the display begins with the run, and rests where a question may be asked."""
        self._follower(event)
        if event.name in _RESTS:
            self.close()
        elif not self._is_drawn and event.name in _BEGINS:
            self._is_drawn = True
            self._live.start()
        if self._is_drawn and time.monotonic() - self._drawn_s >= 1 / REFRESH_PER_S:
            self._live.update(panel_of(self._follower.view()), refresh=True)
            self._drawn_s = time.monotonic()

    def close(self) -> None:
        """Take the display away; the summary stands in its place."""
        if self._is_drawn:
            self._is_drawn = False
            with contextlib.suppress(OSError):  # the terminal has gone: so has the display
                self._live.stop()


class Ticker(ByName):
    """An observer that gives a line of the view to a log every few seconds, where nobody looks at a display."""

    def __init__(
        self,
        log: Callable[[Event], None],
        *,
        every_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._log = log
        self._every_s = every_s
        self._clock = clock
        self._follower = Follower(clock=clock, wall=wall)
        self._told_s = clock()
        known = self._follower.methods
        ticks = (EventName.RUN_SAMPLED, EventName.SEGMENT_PAGE, EventName.SEGMENT_CHANGED)
        super().__init__({**known, **{name: both(known.get(name), self._tick) for name in ticks}})

    def _tick(self, event: Event) -> None:
        """A sample, of which there is one about every second, may be the moment for a line."""
        now_s = self._clock()
        if now_s - self._told_s >= self._every_s:
            self._told_s = now_s
            self._log(Event(EventName.RUN_PROGRESS, event.job, reason=line_of(self._follower.view())))
