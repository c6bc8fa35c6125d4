"""What a load test amounts to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bulksend.loadtest.record import LoadRecord
from bulksend.loadtest.search import Found
from bulksend.loadtest.thresholds import Verdict

__all__ = ["LoadReport"]

FAILED_EXIT = 99


@dataclass(frozen=True, slots=True)
class LoadReport:
    """The numbers of a load test: `planned = sent + dropped + unsent`, and the outcomes add up to `sent`."""

    job: str
    endpoint: str
    state: str
    """`done`; `failed` where a threshold did; `stopped` before the end; `unsettled` where no limit was found."""
    profile: Mapping[str, object]
    calls: Mapping[str, int]
    outcomes: Mapping[str, int]
    statuses: Mapping[str, int]
    reasons: Mapping[str, int]
    elapsed_s: float
    rate_per_min: float
    latency_ms: Mapping[str, float | None]
    """From when a call was due to the end of its reply: waiting that anybody caused is in it."""
    wire_ms: Mapping[str, float | None]
    """From when a call left."""
    thresholds: Sequence[Verdict] = ()
    windows: Sequence[Mapping[str, Any]] = ()
    """Each window of the limit that the job goes by, and the most calls that were in one: sent, and accepted."""
    found: Found | None = None
    record: LoadRecord | None = None
    page: Path | None = None
    """The page that was written, where one was asked for."""

    @property
    def exit_code(self) -> int:
        """Return the shell's exit code."""
        return {"failed": FAILED_EXIT, "stopped": 75, "unsettled": 3}.get(self.state, 0)

    @property
    def limits(self) -> dict[str, str]:
        """Return the limit that was found, as [limits] of a job file has it; empty where none was."""
        limit = None if self.found is None else self.found.limit
        return {} if limit is None else {self.endpoint: str(limit)}

    @property
    def limits_table(self) -> str:
        """Return the [limits] table that was measured, in TOML."""
        found = self.found
        if found is None:
            return ""
        if not self.limits:
            why = "No limit was met" if found.ended is None else f"Not settled: {found.ended}"
            return f"# {self.endpoint}: {why}.\n[limits]\n"
        lines = [f'"{name}" = "{text}"' for name, text in self.limits.items()]
        widths = ", ".join(f"{one.window.calls} in {one.low_s:.4g} to {one.high_s:.4g} s" for one in found.windows)
        doubt = f"# Not settled: {found.ended}.\n" if found.ended is not None else ""
        return "\n".join([f"{doubt}# Measured with bulksend loadtest: {widths}.", "[limits]", *lines, ""])

    def to_dict(self) -> dict[str, object]:
        """Return the object that `--json` prints."""
        told: dict[str, object] = {
            "job": self.job,
            "state": self.state,
            "endpoint": self.endpoint,
            "profile": dict(self.profile),
            "calls": dict(self.calls),
            "outcomes": dict(self.outcomes),
            "statuses": dict(self.statuses),
            "reasons": dict(self.reasons),
            "elapsed_s": round(self.elapsed_s, 3),
            "rate_per_min": round(self.rate_per_min, 1),
            "latency_ms": dict(self.latency_ms),
            "wire_ms": dict(self.wire_ms),
            "thresholds": [one.to_dict() for one in self.thresholds],
            "windows": [dict(one) for one in self.windows],
        }
        if self.found is not None:
            held = self.found.held_per_s
            told["limits"] = self.limits
            told["search"] = {
                "calls": self.found.calls,
                "throttled": self.found.throttled,
                "windows": [
                    {
                        "calls": one.calls,
                        "above_s": round(one.low_s, 4),
                        "most_s": round(one.high_s, 4),
                        "accepted": most,
                    }
                    for one, most in zip(self.found.windows, self.found.most, strict=True)
                ],
                "held_per_min": None if held is None else round(held * 60, 1),
                "held_s": round(self.found.held_s, 1),
                "ended": self.found.ended,
            }
        if self.page is not None:
            told["report"] = str(self.page)
        return told
