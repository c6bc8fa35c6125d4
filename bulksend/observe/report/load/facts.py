"""What the page of a load test is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from bulksend.observe.history import SlowCall
from bulksend.observe.timeline import Timeline

__all__ = [
    "CALLS",
    "OUTCOMES",
    "FullestWindow",
    "LoadFacts",
    "LoadFigures",
    "LoadProfile",
    "Search",
    "SlidingWindow",
    "Verdict",
    "read_load",
]

OUTCOMES = {
    "accepted": ("accepted", "accepted"),
    "throttled": ("told 429", "told"),
    "rejected": ("rejected", "rejected"),
    "unknown": ("unknown", "unknown"),
}
"""What a call that left comes to: its word, and its colour."""
CALLS = OUTCOMES | {"dropped": ("dropped", "dropped"), "unsent": ("unsent", "unsent")}
"""What a planned call comes to."""


class LoadProfile(msgspec.Struct, frozen=True):
    """What was asked for; with `find_limit`, the rate is the highest that may be tried."""

    rate_per_min: float
    duration_s: float
    ramp_from_per_min: float | None = None
    find_limit: bool = False


class Verdict(msgspec.Struct, frozen=True):
    """A threshold, and the figure that it was held against."""

    fail_if: str
    failed: bool
    was: str


class FullestWindow(msgspec.Struct, frozen=True):
    """A window of the limit that the job goes by, and the most calls that were in one."""

    window: str
    allowed: int
    sent: int
    accepted: int


class SlidingWindow(msgspec.Struct, frozen=True):
    """A window that was measured: so many calls, in a period above `above_s` and at most `most_s`."""

    calls: int
    above_s: float
    most_s: float
    accepted: int = 0
    """The most calls that were surely accepted within `above_s`."""


class Search(msgspec.Struct, frozen=True):
    """What the search for the limit came to."""

    calls: int
    throttled: int
    windows: list[SlidingWindow]
    held_per_min: float | None = None
    held_s: float = 0.0
    ended: str | None = None
    """Why it ended before all was known."""


class LoadFigures(msgspec.Struct, frozen=True):
    """A load test's summary, as `--json` prints it."""

    job: str
    state: str
    endpoint: str
    profile: LoadProfile
    calls: dict[str, int]
    outcomes: dict[str, int]
    statuses: dict[str, int]
    reasons: dict[str, int]
    elapsed_s: float
    rate_per_min: float
    latency_ms: dict[str, float | None]
    wire_ms: dict[str, float | None]
    thresholds: list[Verdict] = []
    windows: list[FullestWindow] = []
    limits: dict[str, str] = {}
    search: Search | None = None

    @property
    def failed(self) -> int:
        """Return how many thresholds failed."""
        return sum(one.failed for one in self.thresholds)

    def of_planned(self, name: str) -> int:
        """Return how many of the planned calls came to that."""
        return self.outcomes[name] if name in OUTCOMES else self.calls[name]


@dataclass(frozen=True, slots=True)
class LoadFacts:
    """A load test, and where it is written down; times are seconds since the epoch."""

    figures: LoadFigures
    provider: str
    hosts: Sequence[str]
    """What was called."""
    why: str | None
    """What ended the test before its time."""
    began_at: float
    timeline: Timeline
    since_due_ms: Sequence[tuple[float, float]]
    """Latencies by percentile, from when the calls were due."""
    since_left_ms: Sequence[tuple[float, float]]
    slowest: Sequence[SlowCall]
    """From when they were due."""
    limits_table: str
    """The measured limit as a job file has it; empty where none was looked for."""
    job_file: str
    job_text: str
    """Without secrets."""
    versions: Mapping[str, str]
    made_at: float

    @property
    def planned_s(self) -> float:
        """Return for how long calls were due."""
        profile = self.figures.profile
        is_whole = not profile.find_limit and self.figures.state in ("done", "failed")
        return profile.duration_s if is_whole else self.timeline.due_until_s

    @property
    def covered_s(self) -> float:
        """Return how much there is to draw: all that was planned, and what came after it."""
        return max(self.planned_s, self.timeline.until_s)


def read_load(summary: Mapping[str, object]) -> LoadFigures:
    """Read a load test's summary."""
    return msgspec.convert(dict(summary), LoadFigures)
