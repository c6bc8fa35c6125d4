"""What a report is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from bulksend.model import Limit
from bulksend.observe.history import History

__all__ = ["EndpointFigures", "Facts", "FailedSend", "Figures", "PlanLine", "RunFacts", "read_figures", "read_run"]

SETTLED = ("accepted", "rejected", "unknown")


class EndpointFigures(msgspec.Struct, frozen=True):
    """An endpoint's part of a summary."""

    limit: str
    calls: int
    throttled: int = 0
    max_in_window: int = 0
    utilization: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None

    @property
    def allowed(self) -> int:
        """Return how many calls a window may hold: the first one, whose calls are counted."""
        return Limit.parse(self.limit).windows[0].calls

    @property
    def has_several(self) -> bool:
        """Say whether the limit has more windows than the one whose calls are counted."""
        return len(Limit.parse(self.limit).windows) > 1

    @property
    def is_passed(self) -> bool:
        """Say whether a window held more."""
        return self.max_in_window > self.allowed


class Figures(msgspec.Struct, frozen=True):
    """A run's summary, as `--json` prints it; every part may be missing in one of another version."""

    rows: int = 0
    sends: dict[str, int] = {}
    calls: dict[str, int] = {}
    elapsed_s: float = 0.0
    rate_per_min: float | None = None
    endpoints: dict[str, EndpointFigures] = {}
    campaigns: dict[str, int] = {}
    segment: dict[str, Any] | None = None

    @property
    def busiest(self) -> tuple[str, EndpointFigures] | None:
        """Return the endpoint that used most of its limit; None where none was called twice."""
        used = [(name, one) for name, one in self.endpoints.items() if one.utilization is not None]
        return max(used, key=lambda item: item[1].utilization or 0.0, default=None)


@dataclass(frozen=True, slots=True)
class FailedSend:
    """One send that was not accepted."""

    key: str
    row: int
    state: str
    reason: str | None
    status: int | None


@dataclass(frozen=True, slots=True)
class PlanLine:
    """What was to be expected of an endpoint before the run, beside what came of it; None where nobody can say."""

    endpoint: str
    limit: str
    planned: int | None
    planned_s: float | None
    """How long the limit makes the planned calls take, for the busiest account."""
    made: int
    took_s: float | None
    """From the first call to the last answer."""


@dataclass(frozen=True, slots=True)
class RunFacts:
    """One run as it was kept."""

    history: History
    figures: Figures
    state: str
    """How it ended; `running` or `broke off` for one that has not."""

    @property
    def calls(self) -> int:
        """Return how many calls ended."""
        return sum(sum(one.calls) for one in self.history.endpoints.values())

    @property
    def throttled(self) -> int:
        """Return how often the vendor said to wait."""
        return sum(sum(one.throttled) for one in self.history.endpoints.values())

    def settled(self, outcome: str) -> int:
        """Return how many sends this run settled in that way."""
        return sum(getattr(self.history, outcome))

    @property
    def took_s(self) -> float:
        """Return how long it took, or takes so far."""
        return self.figures.elapsed_s or max(0.0, self.history.until - self.history.began_at)

    @property
    def covered_s(self) -> float:
        """Return how much of the time axis was lived through when the history was kept."""
        slots_s = len(self.history.accepted) * self.history.slot_s
        lived_s = self.history.until - self.history.began_at
        return min(slots_s, lived_s) if lived_s > 0 else slots_s


@dataclass(frozen=True, slots=True)
class Facts:
    """A job, its runs, and where that is written down; times are seconds since the epoch."""

    job: str
    provider: str
    state: str
    holder: str | None
    """The process that runs the job now."""
    rows: int
    total: int
    accepted: int
    rejected: int
    unknown: int
    pending: int
    started_at: float | None
    finished_at: float | None
    runs: Sequence[RunFacts]
    """The oldest first."""
    last: Figures
    """Of the last run, kept also where its history is not."""
    plan: Sequence[PlanLine]
    """Of the run that is drawn."""
    failures: Sequence[FailedSend]
    """The first of them."""
    job_file: str
    job_text: str
    """Without secrets."""
    versions: Mapping[str, str]
    made_at: float

    @property
    def is_running(self) -> bool:
        """Say whether the report can only be of so far."""
        return self.state == "running"

    @property
    def drawn(self) -> RunFacts | None:
        """Return the last run that made calls."""
        return next((run for run in reversed(self.runs) if run.calls), None)

    @property
    def figures(self) -> Figures:
        """Return the numbers of the run that is drawn, else of the last one."""
        drawn = self.drawn
        return drawn.figures if drawn is not None and drawn.figures.endpoints else self.last

    @property
    def counted(self) -> Mapping[str, Sequence[EndpointFigures]]:
        """Return each endpoint's figures in all runs that called it, those of the run that is drawn first."""
        found: dict[str, list[EndpointFigures]] = {name: [one] for name, one in self.figures.endpoints.items()}
        for run in reversed(self.runs):
            for name, one in run.figures.endpoints.items():
                found.setdefault(name, []).append(one)
        return found

    @property
    def passed(self) -> list[str]:
        """Return the endpoints of which a window held more calls than its limit allowed then, in any run."""
        return [name for name, figures in self.counted.items() if any(one.is_passed for one in figures)]


def read_figures(summary: Mapping[str, object]) -> Figures:
    """Read a summary; one that another version wrote otherwise says nothing."""
    try:
        return msgspec.convert(dict(summary), Figures)
    except msgspec.ValidationError:
        return Figures()


def read_run(data: str, *, running_since: float | None) -> RunFacts | None:
    """Read a run's history; None for one that this version cannot read.

    Where a run of the job goes on, `running_since` says since when: what was kept before that is not of it.
    """
    try:
        history = msgspec.json.decode(data, type=History)
    except msgspec.DecodeError:
        return None
    goes_on = running_since is not None and history.until >= running_since
    state = history.state or ("running" if goes_on else "broke off")
    return RunFacts(history, read_figures(history.summary), state)
