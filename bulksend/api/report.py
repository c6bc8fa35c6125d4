"""What a run, or a look at a job, amounts to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bulksend.errors import SendsFailedError
from bulksend.model import JobState, State

__all__ = ["Failure", "Report"]


@dataclass(frozen=True, slots=True)
class Failure:
    """One send that was not accepted."""

    key: str
    row: int
    state: State
    reason: str | None
    status: int | None


@dataclass(frozen=True, slots=True)
class Report:
    """The numbers of a job. `accepted + rejected + unknown + pending` is `total`, always."""

    job: str
    state: JobState
    rows: int = 0
    total: int = 0
    accepted: int = 0
    rejected: int = 0
    unknown: int = 0
    pending: int = 0
    calls: int = 0
    """Calls of this run that reached the wire; the next three likewise are this run's."""
    retried: int = 0
    throttled: int = 0
    elapsed_s: float = 0.0
    rate_per_min: float | None = None
    endpoints: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    campaigns: Mapping[str, int] = field(default_factory=dict)
    """What the vendor said that the campaigns came to which this run followed to their end, by its own names."""
    changed: int = 0
    """Settled sends whose row asks for another payload now; they were not sent again."""
    failures: Sequence[Failure] = ()
    """The first hundred sends that are rejected or unknown, by key."""
    started_at: float | None = None
    """Seconds since the epoch, as the next one."""
    finished_at: float | None = None
    holder: str | None = None
    """The process that runs the job now."""

    def to_dict(self) -> dict[str, object]:
        """Return the object that `--json` prints."""
        return {
            "job": self.job,
            "state": str(self.state),
            "rows": self.rows,
            "sends": {
                "total": self.total,
                "accepted": self.accepted,
                "rejected": self.rejected,
                "unknown": self.unknown,
                "pending": self.pending,
            },
            "calls": {"made": self.calls, "retried": self.retried, "throttled": self.throttled},
            "elapsed_s": round(self.elapsed_s, 3),
            "rate_per_min": None if self.rate_per_min is None else round(self.rate_per_min, 1),
            "endpoints": {name: dict(stats) for name, stats in self.endpoints.items()},
            **({"campaigns": dict(self.campaigns)} if self.campaigns else {}),
        }

    @property
    def exit_code(self) -> int:
        """Return the shell's exit code for a run that came to its end."""
        if self.pending:
            return 75
        return 3 if self.rejected or self.unknown else 0

    def raise_for_failures(self) -> None:
        """Raise SendsFailedError unless every send was accepted."""
        if self.rejected or self.unknown or self.pending:
            parts = [f"{number:,} {name}" for name, number in self._not_accepted() if number]
            first = f"; first: {self.failures[0].key} ({self.failures[0].reason})" if self.failures else ""
            raise SendsFailedError(f'job "{self.job}": {", ".join(parts)} of {self.total:,} sends{first}')

    def _not_accepted(self) -> list[tuple[str, int]]:
        return [("rejected", self.rejected), ("unknown", self.unknown), ("pending", self.pending)]
