"""How many calls a run makes at each endpoint, and how long its limit makes them take."""

from __future__ import annotations

from dataclasses import dataclass

from bulksend.api.report import SegmentReport
from bulksend.engine.rate import bucket_of
from bulksend.job.spec import Job, Verify
from bulksend.reconcile.sync import SAMPLED

__all__ = ["EndpointPlan", "endpoint_plan", "segment_plan"]

MARGIN_S = 0.05


@dataclass(frozen=True, slots=True)
class EndpointPlan:
    """The calls to one endpoint; `duration_s` is how long its limit makes them take, for the busiest account."""

    calls: int
    limit: str
    documented: bool
    duration_s: float


def endpoint_plan(job: Job, name: str, calls: int, *, busiest: int | None = None) -> EndpointPlan:
    """Return the plan for so many calls, of which the busiest account makes `busiest` (all, unless told)."""
    limit = job.limit(name)
    at_once = calls if busiest is None else busiest
    duration_s = max(0, at_once - 1) / bucket_of(limit, MARGIN_S).rate_per_s
    return EndpointPlan(calls, str(limit), job.provider.endpoints[name].documented or name in job.limits, duration_s)


def segment_plan(job: Job, found: SegmentReport, *, is_read: bool) -> dict[str, EndpointPlan]:
    """Return the pages, the writes and the look at the result; without the first pages where it `is_read` already."""
    targets, guard = job.provider.targets, job.guard
    assert targets is not None
    calls = {targets.page_endpoint.name: 0 if is_read else max(1, -(-found.remote // targets.page_most))}
    differs = bool(found.added or found.removed)
    if differs and guard.verify is Verify.FULL and targets.add is not None:
        calls[targets.page_endpoint.name] += max(1, -(-found.desired // targets.page_most))
    for batch, number in ((targets.add, found.added), (targets.remove, found.removed)):
        if batch is not None:
            calls[batch.endpoint.name] = -(-number // batch.ids_most)
    if differs and guard.verify is Verify.SAMPLE:
        asked = targets.exists("-", "-")
        if asked is not None:
            calls[asked.endpoint.name] = min(SAMPLED, found.added) + min(SAMPLED, found.removed)
    return {name: endpoint_plan(job, name, number) for name, number in calls.items()}
