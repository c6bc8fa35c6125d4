"""What a run, or a look at a job, amounts to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from bulksend.errors import SendsFailedError
from bulksend.model import JobState, State
from bulksend.reconcile.guards import is_drift

__all__ = ["Failure", "Report", "SegmentReport", "read_segment"]


@dataclass(frozen=True, slots=True)
class SegmentReport:
    """How a segment stands to its desired list; `added` and `removed` are what had to change when it was read."""

    id: str
    remote: int
    """Targets that it held."""
    desired: int
    added: int
    removed: int
    hash: str
    drift: int | None = None
    """Targets that others changed meanwhile; None where nobody looked."""
    left: int = 0
    """Ids that still differ after they were written."""
    unnamed: int = 0
    """Of `remote`, those that lack the field that is compared."""
    applied: bool = False
    """Whether the changes were made."""
    is_absent: bool = False
    """Whether there was no segment yet."""
    add_samples: Sequence[str] = ()
    remove_samples: Sequence[str] = ()

    @property
    def is_right(self) -> bool:
        """Say whether the segment holds what is desired, but for the few that others may have changed meanwhile."""
        if self.left or not is_drift(self.drift or 0, self.desired):
            return False
        return self.applied or not (self.added or self.removed)

    def verified(self, *, drift: int | None, left: int) -> SegmentReport:
        """Return the same after the last look."""
        return replace(self, drift=drift, left=left)

    def to_dict(self) -> dict[str, object]:
        """Return the object that `--json` prints: no id of a target is in it."""
        return {
            "id": self.id,
            "remote": self.remote,
            "desired": self.desired,
            "added": self.added,
            "removed": self.removed,
            "drift": self.drift,
            "left": self.left,
            "applied": self.applied,
            "hash": self.hash,
        }


@dataclass(frozen=True, slots=True)
class Failure:
    """One send that was not accepted."""

    key: str
    row: int
    state: State
    reason: str | None
    status: int | None


def read_segment(saved: object) -> SegmentReport | None:
    """Read what `to_dict` made; None for anything else."""
    names = ("id", "remote", "desired", "added", "removed", "drift", "left", "hash", "applied")
    if not isinstance(saved, Mapping) or not all(name in saved for name in names):
        return None
    return SegmentReport(**{name: saved[name] for name in names})


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
    segment: SegmentReport | None = None
    """For a job that brings a segment into line, once it was read."""
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
            **({"segment": self.segment.to_dict()} if self.segment is not None else {}),
        }

    @property
    def exit_code(self) -> int:
        """Return the shell's exit code for a run that came to its end."""
        if self.pending:
            return 75
        right = self.segment is None or self.segment.is_right
        return 0 if right and not self.rejected and not self.unknown else 3

    def raise_for_failures(self) -> None:
        """Raise SendsFailedError unless every send was accepted, and the segment is right."""
        if self.segment is not None and not self.segment.is_right:
            wrong = self.segment.left or self.segment.drift or self.segment.added + self.segment.removed
            raise SendsFailedError(f'job "{self.job}": {wrong:,} ids of segment {self.segment.id} differ')
        if self.rejected or self.unknown or self.pending:
            parts = [f"{number:,} {name}" for name, number in self._not_accepted() if number]
            first = f"; first: {self.failures[0].key} ({self.failures[0].reason})" if self.failures else ""
            raise SendsFailedError(f'job "{self.job}": {", ".join(parts)} of {self.total:,} sends{first}')

    def _not_accepted(self) -> list[tuple[str, int]]:
        return [("rejected", self.rejected), ("unknown", self.unknown), ("pending", self.pending)]
