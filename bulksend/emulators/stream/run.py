"""One run of a campaign, judged by the time alone: when it starts, how far it has come, and where it was stopped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bulksend.emulators.stream.moments import SECOND

__all__ = ["Audience", "Run"]

_PER_SECOND: Final = 1000  # the page: 60,000 users take about a minute
_AT_LEAST: Final = SECOND // 5  # so that a campaign can be stopped after its start


@dataclass(frozen=True, slots=True)
class Audience:
    """How many users and channels are sent to, each once."""

    users: int
    channels: int


@dataclass(slots=True)
class Run:
    """A start, now or scheduled. `audience` is what the segments held when it began, and None until then."""

    starts: int
    is_scheduled: bool = False
    stop_at: int | None = None
    stopped: int | None = None
    audience: Audience | None = None

    @property
    def ends(self) -> int | None:
        """When all is sent unless it is stopped before; None until it has begun."""
        if self.audience is None:
            return None
        work = self.audience.users + self.audience.channels
        return self.starts + max(_AT_LEAST, work * SECOND // _PER_SECOND)

    def has_begun(self, now: int) -> bool:
        """Tell whether sending began, which a stop before the start prevents."""
        halt = self._halt()
        return self.starts <= now and (halt is None or self.starts < halt)

    def status(self, now: int) -> str:
        """Return scheduled, in_progress, completed or stopped."""
        halt, ends = self._halt(), self.ends
        if halt is not None and halt <= now and (ends is None or halt < ends):
            return "stopped"
        if not self.has_begun(now):
            return "scheduled"
        return "completed" if ends is not None and ends <= now else "in_progress"

    def progress(self, now: int) -> float:
        """Return the share that is sent at `now`."""
        ends = self.ends
        if ends is None or not self.has_begun(now):
            return 0.0
        halt = self._halt()
        until = min(now, ends) if halt is None else min(now, ends, halt)
        return (until - self.starts) / (ends - self.starts)

    def _halt(self) -> int | None:
        given = [each for each in (self.stop_at, self.stopped) if each is not None]
        return min(given, default=None)
