"""Made-up facts of load tests, counted as real ones are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bulksend.loadtest.shot import Shot
from bulksend.loadtest.tally import Tally
from bulksend.model import Accepted, Outcome, Rejected, Throttled, Unknown
from bulksend.observe.history import SlowCall
from bulksend.observe.report.load import LoadFacts, read_load

BEGAN = 1_775_000_000.0
STATUS = {Accepted: 200, Throttled: 429, Rejected: 400}


def tally(duration_s: float = 10.0, per_s: int = 10, *, behind_s: float = 0.0) -> Tally:
    """One call in ten each is told 429, rejected, or of unknown fate; `behind_s` is how late the calls left."""
    made = Tally()
    for number in range(round(duration_s * per_s)):
        due_s = number / per_s
        made.planned(due_s, number % 5)
        outcome: Outcome = {3: Throttled(429), 5: Rejected("bad title", 400), 7: Unknown("timeout")}.get(
            number % 10, Accepted()
        )
        left_s = due_s + behind_s
        made.ended(Shot(left_s, left_s + 0.05, outcome, STATUS.get(type(outcome))), due_s)
    return made


def summary(of: Tally, **more: Any) -> dict[str, Any]:
    """Return the numbers as `--json` prints them."""
    return {
        "job": "sale",
        "state": "done",
        "endpoint": "insider.launch",
        "profile": {"rate_per_min": 600.0, "duration_s": 10.0, "ramp_from_per_min": None, "find_limit": False},
        "calls": {name: of.counts[name] for name in ("planned", "sent", "late", "dropped", "unsent")},
        "outcomes": {name: of.counts[name] for name in ("accepted", "rejected", "unknown", "throttled")},
        "statuses": dict(of.statuses),
        "reasons": dict(of.reasons),
        "elapsed_s": 10.1,
        "rate_per_min": 600.0,
        "latency_ms": of.latency.summary_ms(),
        "wire_ms": of.wire.summary_ms(),
        "thresholds": [],
        "windows": [{"window": "6000/min", "allowed": 6000, "sent": 100, "accepted": 70}],
        **more,
    }


def load_facts(of: Tally | None = None, *, figures: dict[str, Any] | None = None, **more: Any) -> LoadFacts:
    """Return the facts of a test; `figures` are put in place of those of its summary."""
    of = of or tally()
    return replace(
        LoadFacts(
            figures=read_load(summary(of, **(figures or {}))),
            provider="Insider One web push",
            hosts=["127.0.0.1"],
            why=None,
            began_at=BEGAN,
            timeline=of.timeline(),
            since_due_ms=of.latency.curve_ms(),
            since_left_ms=of.wire.curve_ms(),
            slowest=[SlowCall(0.5, f"k{at}", at + 1, "insider.launch") for at in range(10)],
            limits_table="",
            job_file="job.toml",
            job_text='job = "sale"\n',
            versions={"bulksend": "1"},
            made_at=BEGAN + 100,
        ),
        **more,
    )


SEARCH = {
    "profile": {"rate_per_min": 24000.0, "duration_s": 6.0, "ramp_from_per_min": None, "find_limit": True},
    "limits": {"insider.launch": "600/6s"},
    "search": {
        "calls": 2500,
        "throttled": 12,
        "windows": [{"calls": 600, "above_s": 5.97, "most_s": 6.03, "accepted": 600}],
        "held_per_min": 5980.0,
        "held_s": 12.0,
        "ended": None,
    },
}
